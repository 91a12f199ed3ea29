"""What a centre knows of a house by what that says: its topics' names, on no broker and no engine."""

from typing import Any

import msgspec
import pytest

from services.fleet.remote_house import RemoteHouse
from services.stores.house_registry import PublishedRegistry

A, B, C = "boiler/a/temperature", "boiler/b/temperature", "boiler/c/temperature"


def said(topics: dict[str, Any], **more: Any) -> PublishedRegistry:
    topics = {name: {"unit": "°C"} | facts for name, facts in topics.items()}
    return msgspec.convert({"digest": "1", "topics": topics} | more, PublishedRegistry)


def names(house: RemoteHouse, first: dict[str, Any]) -> dict[str, str]:
    return {name: first[id(topic)] for name, topic in house.topics.items() if id(topic) in first}


@pytest.mark.parametrize(
    ("known", "topics", "expected"),
    [
        ((A, B), {B: {"was": [A]}, C: {"was": [B]}}, {B: A, C: B}),  # b became c, then a became b
        ((A, B), {C: {"was": [B]}, B: {"was": [A]}}, {B: A, C: B}),
        ((A,), {B: {"was": [A]}, C: {"was": [B]}}, {B: A}),  # nothing was heard of the first b
        ((A,), {C: {"was": [B]}, B: {"was": [A]}}, {B: A}),
        ((A,), {C: {"was": [B, A]}}, {C: A}),
        ((A,), {B: {"was": [A]}, A: {}}, {B: A}),  # its name is another's now
        (
            (A,),
            {B: {"was": [A], "stored": False}, A: {}},
            {A: A},
        ),  # which is not known to have moved: b is not kept here
        ((A, B), {A: {"was": [B]}, B: {"was": [A]}}, {A: A, B: B}),  # nobody can say who was who
        ((A,), {A: {"was": [B]}, B: {"was": [A]}}, {B: A}),
    ],
)
def test_renames_that_come_as_one_registry_mix_no_topics(
    known: tuple[str, ...], topics: dict[str, Any], expected: dict[str, str]
) -> None:
    house = RemoteHouse("h1", "h1/home", 1)
    first = {id(house.topic(name, "°C")): name for name in known}
    for _ in range(2):  # a second time moves nothing
        house.take_registry(said(topics))
        assert names(house, first) == expected
        stored = {name for name, facts in topics.items() if facts.get("stored", True)}
        assert house.topics.keys() == expected.keys() | stored
    rows = {name: name for name in known}
    for old, name in house.renamed:  # what the engine does, in this order
        assert name not in rows, "an engine takes no two topics of a name"
        rows[name] = rows.pop(old)
    assert rows == expected
