"""Whatever kind of value stands anywhere in topics.yaml, checking it ends in a sentence."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import PROJECT

from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.document import DocumentError
from bootstrap_lib.registry import Registry

VALUES = ([{"x": ["y"]}], {"a": {"b": 1}}, 5, True, None)
MORE = """
broker: {ca: broker.crt, cert: own.crt}
sources: {onewire: {bus: /sys}, co2: {service: mqtt, broker: {host: other, ca: x.crt}}}
subscribers: {archive: {}, alerts: {houses: /etc/fleet.yaml}, rrd: {folder: /x}}
topics: {boiler/water/temperature: {from: onewire, id: 28-0000072431ab}, boiler/flue/temperature: {from: onewire, id: 28-0000072431ac}}
"""


def places(found: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Each place in a document."""
    for key in found if isinstance(found, dict) else range(len(found)) if isinstance(found, list) else ():
        yield (*above, key)
        yield from places(found[key], (*above, key))


def check(path: Path, document: Any) -> str:
    """What is said of a document, whatever it is."""
    path.write_text(yaml.safe_dump(document))
    try:
        return "\n".join(map(str, problems_of(Registry(path))))
    except DocumentError as error:
        return str(error)


@pytest.mark.parametrize("source", ["shipped", "more"])
def test_a_value_of_another_kind_gets_a_sentence_wherever_it_stands(source: str, tmp_path: Path) -> None:
    text = (PROJECT / "topics.yaml").read_text() if source == "shipped" else MORE
    document, path = yaml.safe_load(text), tmp_path / "topics.yaml"
    for number, place in enumerate(list(places(document))[:: 1 if source == "more" else 4]):
        for value in VALUES if source == "more" else VALUES[number % 5 : number % 5 + 1]:
            changed = copy.deepcopy(document)
            inner = changed
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
            check(path, changed)
    assert "broker.ca: expected text" in check(path, document | {"broker": {"ca": 5}})
