"""What a centre asks a house's archive for when its answers stay short; on no broker and no engine."""

import json
from typing import Any

import pytest

from bootstrap_lib import Message, as_json, format_time, parse_time
from services.fleet import filling
from services.fleet.filling import FleetFilling
from services.fleet.remote_house import RemoteHouse

NOW = 1_800_000_000_000


class Archive:
    """A house whose archive answers at once: short, where that is `bad`."""

    def __init__(self, *gaps: tuple[int, int]) -> None:
        self.asked: list[int] = []
        self.answers: list[dict[str, Any]] = []
        self.bad: set[int] = set()
        self.house = RemoteHouse("h1", "h1/home", 1)
        self.house.linked = True
        for gap in gaps:
            self.house.lack(*gap)
        self.fills = FleetFilling(self._asked, "central", 4, lambda sentence: None)

    def _asked(self, _topic: str, text: bytes) -> None:
        said = json.loads(text)
        self.asked.append(parse_time(said["from"]))
        following = NOW + 3 * filling.SLICE
        count = 5 if self.asked[-1] in self.bad else 0
        self.answers.append({"end": True, "id": said["id"], "count": count, "next": format_time(following)})

    def goes_on(self, turns: int) -> None:
        for _ in range(turns):
            self.fills.on_tick([self.house])
            while self.answers:
                answer = self.answers.pop(0)
                assert list(self.fills.take(self.house, Message("", as_json(answer), False, 1, 1))) == []


def test_a_slice_that_stays_short_keeps_what_is_lacking_after_it_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "SETTLE", 0.0)
    monkeypatch.setattr(filling, "REST", (0.0,))
    archive = Archive((NOW, NOW + 60_000), (NOW + 120_000, NOW + 180_000))
    archive.bad = {NOW}
    archive.goes_on(20)
    assert NOW + 120_000 in archive.asked, "it is asked for what lies behind"
    assert list(archive.house.lacking) == [(NOW, NOW + 60_000)], "what came short is lacking still"
    archive.bad = set()
    archive.goes_on(20)
    assert not archive.house.lacking, "and is come back to"
