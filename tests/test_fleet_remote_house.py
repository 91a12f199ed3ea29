"""What a centre knows of a house by what that says: its topics' names, on no broker and no engine."""

from typing import Any

import msgspec
import pytest

from services.fleet import remote_house
from services.fleet.remote_house import RemoteHouse, RemoteTopic
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


@pytest.mark.parametrize("restarted", [False, True])
def test_a_reading_that_comes_before_the_registry_of_its_new_name_waits_for_it(*, restarted: bool) -> None:
    house = RemoteHouse("h1", "h1/home", 1)
    if restarted:
        topic = RemoteTopic(house, A, "°C", 7)
        topic.source = "onewire"  # as the engine has it: a registry told it
        house.know(topic)
    else:
        assert not house.awaits(A, 500, 500), "a house that says nothing of its topics has no name that is to come"
        house.take_registry(said({A: {}, C: {"stored": False}}))
    history = house.topics[A]
    assert house.awaits(B, 1000, 900)
    assert not house.awaits(A, 1000, 1000)
    assert house.awaits(C, 1000, 1000) == restarted
    assert list(house.lacking) == [(1000, 1001)]
    house.filled(0, 2000)  # an archive that was asked too early has nothing of it
    house.take_registry(said({B: {"was": [A]}, C: {"stored": False}}))
    assert house.topics == {B: history}
    assert list(house.lacking) == [(1000, 1001)], "it is asked once more"
    assert not house.awaits(B, 2000, 2000)
    assert not house.awaits(C, 2000, 2000), "what is not kept is no new name"
    house.take_registry(said({B: {}}, left_out=1))
    assert not house.awaits(A, 3000, 3000), "it may be one that had no room"


def test_a_house_that_has_all_topics_that_it_may_is_asked_for_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_house, "MOST_TOPICS", 1)
    house = RemoteHouse("h1", "h1/home", 1)
    house.take_registry(said({A: {}, B: {}}))
    assert not house.awaits(B, 1000, 1000)
    assert not house.lacking


@pytest.mark.parametrize(("stale", "taken"), [(1e308, 90 * 86_400.0), (-5.0, 1.0), (30.0, 30.0)])
def test_no_house_has_a_silence_that_no_clock_can_count(stale: float, taken: float) -> None:
    house = RemoteHouse("h1", "h1/home", 1)
    house.take_registry(said({A: {"stale": stale}}))
    house.topics[A].standing, house.newest = 1000, 1000 + round((taken + 1) * 1000) + remote_house.GRACE
    assert list(house.ghosts()) == [(house.topics[A], 1000 + round(taken * 1000))]
