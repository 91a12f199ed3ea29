"""State of an earlier version is taken over with all that it holds; that of a later one is refused with a sentence.

`python -m tests.upgrade` runs the earlier version itself; here its folders, kept by that command, are taken over.
"""

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from harness import PROJECT, Broker, House, wait_for

from bootstrap_lib import Registry, StartError, slots
from bootstrap_lib.spool import Spool, SpoolError
from bootstrap_lib.stamp import FORMAT, refuse_later
from services.alerting.check import compile_lines
from services.alerting.desk import AlertsKept
from services.alerting.earlier import Taken, bring_up
from services.alerting.settings import AlertOptions, TellerSettings
from services.page.diary import Diary
from services.stores import schema
from tests.upgrade.house import PATIENCE, SERVICES, WATER, Upgraded, unpack

KEPT = sorted((PROJECT / "tests/upgrade").glob("*.tar.xz"))


def test_a_state_of_each_released_version_is_kept() -> None:
    released = re.findall(r"(?m)^## \[(\d.*?)\]", (PROJECT / "CHANGELOG.md").read_text("utf-8"))
    assert {path.name.removesuffix(".tar.xz") for path in KEPT} == set(released)


@pytest.fixture
def upgraded(tmp_path: Path) -> Iterator[Upgraded]:
    one = Upgraded(tmp_path)
    yield one
    one.close()


@pytest.mark.long
@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name.removesuffix(".tar.xz"))
def test_nothing_of_an_earlier_version_is_lost_or_double(upgraded: Upgraded, kept: Path) -> None:
    known = unpack(kept, upgraded)
    before, drawn = upgraded.rows(), upgraded.drawing()
    assert len(before) > 100
    owed, archived = set(known["taken"]), set(upgraded.numbers())
    assert len(owed - archived) > 90, "there is a backlog"
    starts = {
        name: json.loads((upgraded.house.state(name) / "instance.json").read_text())["start"] for name in SERVICES
    }
    cycles = json.loads((upgraded.house.state("phase") / "phase.json").read_text())["boilers"]["boiler"]["modern"][
        "since"
    ]
    upgraded.device.given["sequence"] = max(owed) + 100
    upgraded.broker.start()
    upgraded.run(PROJECT)
    wait_for(lambda: owed <= set(upgraded.numbers()), PATIENCE, "the backlog")
    wait_for(lambda: len(upgraded.told()) >= 2, PATIENCE, "the end of what people had been told")
    assert sorted(upgraded.told()) == ["Over: Boiler hot", "Over: Room cold"]
    upgraded.end("sequence", "alerts", "phase")
    assert set(upgraded.numbers().values()) == {1}, "none came twice"
    assert set(before) <= set(upgraded.rows())
    wait_for(lambda: upgraded.drawing()[0] > drawn[0], PATIENCE, "the picture to go on")
    assert upgraded.drawing()[1] == drawn[1], "in the file that was there"
    assert upgraded.complaints() == []
    for name, start in starts.items():
        said = json.loads((upgraded.house.state(name) / "instance.json").read_text())
        assert (said["start"], said["format"]) == (start + 1, FORMAT)
    phases = slots.newest((upgraded.house.state("phase") / "phase.json").read_bytes(), "phase.json")
    assert json.loads(phases)["boilers"]["boiler"]["modern"]["since"] >= cycles
    alerts = json.loads((upgraded.house.state("alerts") / "alerts.json").read_text())
    assert "memory" not in alerts
    assert not any(track.get("told") for one in alerts["teller"]["told"].values() for track in one["tracks"].values())


# -- alerts of 0.1.0 ----------------------------------------------------------------------------------------------------

RULES = f"""\
sources: {{host: {{}}}}
subscribers: {{alerts: {{}}, pushover: {{}}, apprise: {{}}}}
topics: {{{WATER}: {{from: host}}}}
alerts:
  hot: {{when: {WATER} > 88, clear: 82, say: "Water"}}
  warm: {{when: {WATER} > 60, notify: [apprise, pushover], say: "Water"}}
"""
TOLD = {
    "met": True,
    "since": 5000,
    "firing": True,
    "value": 95.0,
    "time": 9000,
    "told": True,
    "begun": 5000,
    "spoken": 6000,
}


@pytest.fixture
def take(tmp_path: Path) -> Callable[..., Taken]:
    def brought(*waiting: dict[str, object], missed: object = (), **standings: dict[str, object]) -> Taken:
        (tmp_path / "topics.yaml").write_text(RULES)
        watches, problems = compile_lines(Registry(tmp_path / "topics.yaml"))
        assert problems == []
        memory = {"standings": standings, "missed": missed, "maintenance": 7}
        kept = msgspec.convert({"memory": memory, "waiting": waiting, "published": ["hot"]}, AlertsKept)
        assert kept.memory is not None
        settings = TellerSettings(AlertOptions(), ("pushover", "apprise"), ZoneInfo("Europe/Paris"))
        return bring_up(kept.memory, kept.waiting, watches, settings)

    return brought


def test_who_was_told_is_owed_the_end(take: Callable[..., Taken]) -> None:
    judge, teller = take(hot=TOLD | {"acknowledged": 6500, "snoozed": 9999}, warm=TOLD)
    told = teller.told["hot"]
    assert told.tracks["pushover,apprise"].told == {"pushover": 5000}
    assert teller.told["warm"].tracks["apprise,pushover"].told == {"apprise": 5000}
    assert (told.acknowledged, told.snoozed, teller.maintenance) == (6500, 9999, 7)
    verdict = judge.verdicts["hot"]
    assert (verdict.firing, verdict.began, verdict.fired, told.tracks["pushover,apprise"].fired) == (True, 5000, 1, 1)
    assert judge.pulses[WATER].time == 9000


def test_what_nobody_was_told_of_is_said_and_what_is_over_is_not(take: Callable[..., Taken]) -> None:
    judge, teller = take(
        hot=TOLD | {"told": False, "begun": 0}, warm={"since": 1000, "until": 2000, "begun": 1000, "ended": 2500}
    )
    assert judge.verdicts["hot"].fired == 1
    assert teller.told["hot"].tracks["pushover,apprise"].fired == 0
    assert not teller.told["hot"].tracks["pushover,apprise"].told
    assert (judge.verdicts["warm"].fired, teller.told["warm"].tracks["apprise,pushover"].fired) == (1, 1)


def test_an_alert_without_a_rule_gets_its_end_too(take: Callable[..., Taken]) -> None:
    judge, teller = take(gone=TOLD)
    assert judge.verdicts == {}
    assert teller.told["gone"].tracks["pushover,apprise"].told == {"pushover": 5000}


def test_a_message_that_waits_goes_on_under_its_name(take: Callable[..., Taken]) -> None:
    notice = {"text": "Water", "title": "Hot", "rules": ["hot"]}
    _, teller = take({"id": "ab", "notice": notice, "channels": ["apprise"]}, hot=TOLD)
    (message,) = teller.waiting
    assert (message.id, message.kind, message.route, message.targets) == (
        "ab",
        "fires",
        ("pushover", "apprise"),
        ["apprise"],
    )
    assert message.members["hot"].since == 5000
    assert not teller.told["hot"].tracks["pushover,apprise"].told, "told is who has got it"
    both = notice | {"text": "Water\nOther: over after 1m"}
    _, teller = take({"id": "cd", "notice": both, "channels": ["pushover"]}, hot=TOLD)
    assert teller.waiting[0].members == {}, "it says more than this: it goes as it is"
    assert teller.told["hot"].tracks["pushover,apprise"].told


def test_what_came_and_went_unsaid_is_still_said(take: Callable[..., Taken]) -> None:
    judge, teller = take(
        hot={"since": 1000, "until": 0, "time": 3000}, missed=[{"title": "Hot", "since": 1000, "until": 2500}]
    )
    verdict = judge.verdicts["hot"]
    assert (verdict.fired, verdict.fired_for, verdict.began, verdict.until) == (1, 1500, 1000, 2500)
    assert teller.told["hot"].tracks["pushover,apprise"].fired == 0


# -- of a later version -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_a_state_folder_of_a_later_version_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / name / "instance.json"
    file.parent.mkdir()
    written = json.dumps({"format": FORMAT + 1, "version": "9.1.0", "start": "by another count"}).encode()
    file.write_bytes(written)
    with pytest.raises(StartError, match=rf"written by Constellation 9\.1\.0 \(format {FORMAT + 1}, this one knows"):
        refuse_later(file)
    assert [(path.name, path.read_bytes()) for path in file.parent.iterdir()] == [("instance.json", written)]


def test_a_service_leaves_the_folder_of_a_later_version_as_it_is(broker: Broker, house: House) -> None:
    house.write("sources: {host: {}}\ntopics: {house/pi/memory_usage: {from: host}}\n")
    house.start("host")
    house.stop("host")
    file = house.state("host") / "instance.json"
    file.write_text(file.read_text().replace(f'"format":{FORMAT}', '"format":99'))
    before = file.read_bytes()
    assert house.start("host", wait=False).wait(30) == os.EX_UNAVAILABLE
    assert "install that version again" in house.log("host")
    assert file.read_bytes() == before


def later(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version={version}")


@pytest.mark.parametrize("place", ["state", "run"])
def test_a_spool_of_a_later_version_is_refused_and_kept(tmp_path: Path, place: str) -> None:
    spool = Spool(tmp_path / "run", tmp_path / "state")
    spool.append("a/b/temperature", "1", 5)
    spool.close()
    later(tmp_path / place / "spool.sqlite", 2)
    with pytest.raises(SpoolError, match="holds readings in format 2 of a later version"):
        Spool(tmp_path / "run", tmp_path / "state")
    later(tmp_path / place / "spool.sqlite", 1)
    again = Spool(tmp_path / "run", tmp_path / "state")
    assert again.count() == 1
    again.close()


def test_a_diary_of_a_later_version_is_refused_and_an_unmarked_one_taken(tmp_path: Path) -> None:
    file = tmp_path / "diary.sqlite"
    Diary(file, 1000).close()
    later(file, 0)
    Diary(file, 2000).close()
    later(file, 2)
    with pytest.raises(StartError, match="has format 2 of a later version"):
        Diary(file, 3000)
    assert [path.name for path in tmp_path.glob("*damaged*")] == []


def test_an_archive_of_a_later_version_is_refused(tmp_path: Path) -> None:
    engine = schema.open_file(tmp_path / "archive.sqlite")
    schema.migrate(engine)
    later(tmp_path / "archive.sqlite", schema.FORMAT + 1)
    with pytest.raises(schema.FormatError, match="install the version that wrote it"):
        schema.migrate(engine)
    engine.dispose()
