"""What every source promises, shown on a small one of the test's own that measures what a file says."""

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import Broker, Ear, House, wait_for

from bootstrap_lib.registry import Registry
from bootstrap_lib.service import Service
from bootstrap_lib.source import Source

PRECISE, CALM, COARSE, ENDED = "a/b/temperature", "a/c/temperature", "a/d/temperature", "a/e/temperature"
DATA = "home/data/"
TOPICS = f"""
sources: {{scale: {{every: 30ms, heartbeat: 300ms, file: FILE, stale: STALE}}}}
topics:
  {PRECISE}: {{from: scale, range: [-10, 90], decimals: 2}}
  {CALM}: {{from: scale, deadband: 0.5}}
  {COARSE}: {{from: scale, decimals: 0}}
"""
SCALE = '''
"""Measures what a file says: {"a/b/temperature": 20.5, "a/c/temperature": "why it fails", "a/d/temperature": null}."""

import json
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from bootstrap_lib import DeviceError, Failure, InstanceOptions, Sample, Source, Topic


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where."""

    file: Path


class Line(Struct, frozen=True, forbid_unknown_fields=True):
    """No keys of its own."""


class Scale(Source):
    """A file."""

    options: Options
    topics: tuple[Topic[Line], ...]

    def samples(self) -> Iterator[Sample]:
        while self.tick():
            if not self.options.file.exists():
                raise DeviceError("the file is not there")
            said = json.loads(self.options.file.read_text())
            for topic in sorted(self.topics, key=lambda topic: topic.name, reverse=True):
                if topic.name in said:
                    value = said[topic.name]
                    yield topic, Failure(value) if isinstance(value, str) else value
'''


class Device:
    """What the source will read next."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house, self.folder = house, folder
        folder.mkdir()
        (folder / "scale.py").write_text(SCALE)
        house.environment["CONSTELLATION_SERVICES"] = str(folder)
        self.configure()

    def configure(self, stale: str = "30s") -> None:
        self.house.write(TOPICS.replace("FILE", str(self.folder / "said")).replace("STALE", stale))

    def says(self, **values: Any) -> None:
        """Values by the second level of their topics: b, c, d."""
        beside = self.folder / "said.new"
        beside.write_text(json.dumps({f"a/{name}/temperature": value for name, value in values.items()}))
        beside.replace(self.folder / "said")


@pytest.fixture
def device(house: House, ear: Ear, tmp_path: Path) -> Device:
    return Device(house, tmp_path / "device")


def values(ear: Ear, name: str) -> list[float | None]:
    return [json.loads(payload)["value"] if payload else None for payload in ear.all(DATA + name)]


def test_a_value_out_of_range_is_never_published_and_said_once(device: Device, ear: Ear) -> None:
    device.says(b=90.01, c=20.0)
    device.house.start("scale")
    health = ear.wait("home/service/scale/health", lambda health: health["counters"].get("errors", 0) > 2)
    assert health["last_error"]["text"] == "90.01 °C is above its range, which ends at 90"
    assert health["last_error"]["topic"] == PRECISE
    device.says(b=-10.1, c=20.0)
    sentence = "-10.1 °C is below its range, which begins at -10"
    ear.wait("home/service/scale/health", lambda health: health["last_error"]["text"] == sentence)
    device.says(b=90.0, c=20.0)  # the limit itself belongs to it
    ear.wait(DATA + PRECISE)
    device.says(b=-10.0, c=20.0)
    ear.wait(DATA + PRECISE, lambda reading: reading["value"] == -10)
    assert set(values(ear, PRECISE)) == {90.0, -10.0}
    ear.wait("home/service/scale/health", lambda health: health["state"] == "running")
    log = device.house.log("scale")
    assert log.count("is above its range") == 1
    assert log.count(f"{PRECISE} is back: 90.0 °C") == 1


def test_a_line_that_never_gave_a_value_takes_its_trouble_along(device: Device, ear: Ear) -> None:
    device.says(b=20.0, c="its cable is broken", d=20.0)
    device.configure(stale="300ms")
    device.house.start("scale")
    ear.wait("home/service/scale/health", lambda health: health["state"] == "degraded" and health["stale"] == [CALM])
    lines = device.house.config.read_text().splitlines(keepends=True)
    device.house.config.write_text("".join(line for line in lines if CALM not in line))
    ear.wait("home/service/scale/health", lambda health: health["state"] == "running" and health["stale"] == [])


def test_the_range_of_the_quantity_holds_where_the_line_names_none(device: Device, ear: Ear) -> None:
    device.says(c=1200.1, d=20.0)
    device.house.start("scale")
    health = ear.wait("home/service/scale/health", lambda health: health["counters"].get("errors", 0) > 2)
    assert health["last_error"]["text"] == "1200.1 °C is above its range, which ends at 1200"
    assert health["state"] == "degraded"
    device.says(c=1200.0, d=20.0)
    assert ear.wait(DATA + CALM)["value"] == 1200
    assert set(values(ear, CALM)) == {1200.0}


def test_within_its_deadband_a_value_is_not_published_and_beyond_it_is(device: Device, ear: Ear) -> None:
    device.says(d=20.0)
    device.house.start("scale")
    ear.wait("home/service/scale/health", lambda health: health["counters"].get("published", 0) > 3)  # it is connected
    device.says(c=20.0, b=20.0)
    ear.wait(DATA + PRECISE)
    for value, published in ((20.49, False), (20.5, True), (20.1, False), (20.0, True), (19.51, False), (19.4, True)):
        known = len(values(ear, CALM))
        device.says(c=value, b=value)  # c comes before b in each round
        ear.wait(DATA + PRECISE, lambda reading, value=value: reading["value"] == value)
        assert values(ear, CALM)[known:] == [value] * published
    assert values(ear, CALM) == [20.0, 20.5, 20.0, 19.4]


def test_within_its_deadband_a_value_is_repeated_before_it_goes_stale(device: Device, ear: Ear) -> None:
    device.configure(stale="600ms")
    device.says(c=20.0, b=20.0)
    device.house.start("scale")
    wait_for(lambda: len(values(ear, CALM)) >= 4, what="three repeats")
    assert set(values(ear, CALM)) == {20.0}  # not one clearing
    assert len(values(ear, PRECISE)) > 2 * len(values(ear, CALM))


def test_a_value_is_rounded_to_what_is_worth_keeping(device: Device, ear: Ear) -> None:
    device.says(b=20.12678, d=20.6)
    device.house.start("scale")
    assert ear.wait(DATA + COARSE)["value"] == 21
    assert ear.wait(DATA + PRECISE)["value"] == 20.13


@pytest.mark.parametrize("said", ["the wire is loose", True])
def test_a_failure_and_a_value_of_the_wrong_kind_are_no_readings(device: Device, ear: Ear, said: Any) -> None:
    device.says(b=said, c=20.0)
    device.house.start("scale")
    health = ear.wait("home/service/scale/health", lambda health: health["counters"].get("errors", 0) > 2)
    assert health["last_error"]["text"] == (said if isinstance(said, str) else "True is no number")
    ear.wait(DATA + CALM)
    device.says(b=20.0, c=20.0)
    ear.wait(DATA + PRECISE)
    assert set(values(ear, PRECISE)) == {20.0}


def test_silence_clears_a_topic_once_however_long_it_lasts_and_nothing_stands_there_until_it_is_back(
    device: Device, ear: Ear
) -> None:
    device.configure(stale="400ms")
    device.says(b=20.0, d=20.0)
    device.house.start("scale")
    ear.wait(DATA + PRECISE)
    device.says(b="the wire is loose", d=20.0)
    ear.wait(DATA + PRECISE, lambda value: value == b"", timeout=10)
    ear.wait("home/service/scale/health", lambda health: PRECISE in health["stale"] and health["state"] == "degraded")
    heard = len(ear.all("home/service/scale/health"))
    wait_for(lambda: len(ear.all("home/service/scale/health")) > heard + 5, what="four times `stale`")
    assert values(ear, PRECISE).count(None) == 1
    log = device.house.log("scale")
    assert log.count(f"{PRECISE} is silent for 400ms, it is cleared: the wire is loose") == 1
    device.says(b=21.0, d=20.0)
    ear.wait(DATA + PRECISE, lambda value: value != b"")
    ear.wait("home/service/scale/health", lambda health: PRECISE not in health["stale"])


def test_where_there_can_be_no_value_now_the_topic_is_cleared_and_nobody_is_degraded(device: Device, ear: Ear) -> None:
    device.says(b=20.0, c=20.0, d=20.0)
    device.house.start("scale")
    ear.wait(DATA + PRECISE)
    device.says(b=None, c=20.0, d=20.0)
    ear.wait(DATA + PRECISE, lambda value: value == b"")
    heard = len(values(ear, COARSE))
    wait_for(lambda: len(values(ear, COARSE)) > heard + 5, what="more rounds")
    assert values(ear, PRECISE).count(None) == 1
    assert ear.last("home/service/scale/health")["state"] == "running"
    assert ear.last("home/service/scale/health")["stale"] == []


def test_a_device_that_is_away_is_said_once_and_tried_again(device: Device, ear: Ear) -> None:
    device.house.start("scale")
    ear.wait("home/service/scale/health", lambda health: health["counters"].get("errors", 0) > 1)
    assert ear.last("home/service/scale/health")["state"] == "degraded"
    device.says(b=20.0, c=20.0, d=20.0)
    ear.wait(DATA + PRECISE)
    ear.wait("home/service/scale/health", lambda health: health["state"] == "running")
    log = device.house.log("scale")
    assert log.count("the file is not there; trying on") == log.count("the device answers again") == 1


def test_a_pause_for_a_time_ends_by_itself_and_outlives_a_restart(device: Device, ear: Ear) -> None:
    device.says(b=20.0, c=20.0, d=20.0)
    device.house.start("scale")
    ear.wait(DATA + PRECISE)
    ear.ask("scale", "pause", {"for": "4s"})
    ear.wait("home/service/scale/health", lambda health: health["state"] == "paused")
    device.house.kill("scale")
    device.house.start("scale")
    ear.wait("home/service/scale/health", lambda health: health["start"] == 2 and health["state"] == "paused")
    answer = ear.ask("scale", "read")
    assert answer["error"] == "it is paused: resume it first"
    heard = len(values(ear, PRECISE))
    wait_for(lambda: "measuring again: its time is over" in device.house.log("scale"), what="the end of the pause")
    wait_for(lambda: len(values(ear, PRECISE)) > heard, what="readings again")


def test_what_no_archive_has_marked_is_sent_again_to_a_broker_that_forgot_it(
    device: Device, ear: Ear, broker: Broker
) -> None:
    device.house.write(device.house.config.read_text().partition("\n")[2] + "subscribers: {archive: {}}\n")
    process = device.house.start("scale")
    for value in (20.0, 21.0, 22.0):
        device.says(b=value)
        ear.wait(DATA + PRECISE, lambda reading, value=value: reading["value"] == value)
    device.says()
    process.send_signal(signal.SIGSTOP)  # it comes back once somebody listens
    broker.kill()
    broker.start()
    late = Ear(broker.port, DATA + "#")
    late.say(DATA + "x/y/text", "listening")
    wait_for(lambda: late.say(DATA + "x/y/text", "listening") or late.heard, what="somebody who listens")
    process.send_signal(signal.SIGCONT)
    wait_for(lambda: {20.0, 21.0, 22.0} <= set(values(late, PRECISE)), 12, "all that waits, well before it is stuck")
    late.close()


def test_of_what_no_store_keeps_only_the_last_waits_for_a_broker(device: Device, ear: Ear, broker: Broker) -> None:
    """The client would keep every one of a long night in memory, and send the oldest first; and no end of before comes behind it."""
    text = device.house.config.read_text().partition("\n")[2].replace("decimals: 0", "decimals: 0, store: false")
    device.house.write(text.replace("deadband: 0.5", "store: false") + f"  {ENDED}: {{from: scale, store: false}}\n")
    device.says(b=20.0, c=20.0, d=20.0, e=20.0)
    process = device.house.start("scale")
    ear.wait(DATA + COARSE)
    ear.wait(DATA + CALM)
    ear.wait(DATA + ENDED)
    broker.kill()
    wait_for(lambda: "is gone" in device.house.log("scale"), what="the end of the connection")
    for value in (21.0, 22.0, 23.0):
        known = device.house.log("scale").count("the wire is loose")
        device.says(b="the wire is loose", c=None, d=value, e=None)
        wait_for(lambda n=known: device.house.log("scale").count("the wire is loose") > n, what="a round with it")
        device.says(b=value, c=value, d=value)  # c and d come before b in each round
        wait_for(lambda v=value: f"{PRECISE} is back: {v}" in device.house.log("scale"), what="the next one")
    process.send_signal(signal.SIGSTOP)  # it comes back once somebody listens
    broker.start()
    late = Ear(broker.port, DATA + "#")
    late.say(DATA + "x/y/text", "listening")
    wait_for(lambda: late.say(DATA + "x/y/text", "listening") or late.heard, what="somebody who listens")
    process.send_signal(signal.SIGCONT)
    late.wait(DATA + COARSE, lambda reading: reading["value"] == 23)
    device.says(c=None, d=30.0)
    late.wait(DATA + COARSE, lambda reading: reading["value"] == 30)
    assert not {21, 22} & set(values(late, COARSE))
    late.wait(DATA + CALM, lambda reading: reading == b"")
    heard = values(late, CALM)
    assert heard.index(None, heard.index(23.0)) == len(heard) - 1, "no end of before comes behind it"
    late.wait(DATA + ENDED, lambda reading: reading == b"", 5)
    late.close()


class Recorder:
    """In a publisher's place: what is one step, and what is taken in it."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        self.events.append("(")
        yield
        self.events.append(")")


def test_what_follows_without_a_pause_is_one_step_and_nothing_waits_for_a_slow_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, now = Recorder(), [1.0]
    says = recorder.events.append

    class Rounds(Source):
        """Three quick rounds, and one in which the device takes its time."""

        def samples(self) -> Iterator[Any]:
            for _ in range(3):
                yield from "abc"
                self.turn(0.0)
            yield "a"
            now[0] += 0.05
            says("slow")
            yield from "bc"
            self.turn(0.0)
            yield ["x", "y"]
            yield from "d" * 100
            self.stopping = "done"

    monkeypatch.setattr("bootstrap_lib.source.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(Service, "turn", lambda *_: says("turn"))
    monkeypatch.setattr(Source, "take", lambda _, *sample: says("".join(sample)))
    (tmp_path / "topics.yaml").write_text("sources: {host: {}}\n")
    source = Rounds(Registry(tmp_path / "topics.yaml"), "host")
    source._publisher = recorder  # type: ignore[assignment]
    source._pausing = False  # type: ignore[assignment]
    source._take_samples()
    said = " ".join(recorder.events)
    assert said.startswith("a ( b c ) turn ( a b c ) turn ( a b c ) turn ( a slow ) b c turn ( x y ) d d d")
    assert said.endswith("d d ( d d )"), "after a hundred"
