"""The 1-wire service on masters that are as slow as the kernel's: one sensor after the other holds the bus."""

import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from harness import Ear, House, busy, wait_for

from bootstrap_lib.registry import Registry
from bootstrap_lib.source import Failure
from services import onewire
from services.onewire import open_bus
from services.protocols.ds18b20 import SensorError, decode
from services.simulators.onewire import Fault, Tree, slave_text

HEALTH = "home/service/onewire/health"


def sensor(number: int) -> str:
    return f"28-{number:012x}"


def house_of(house: House, tmp_path: Path, count: int, options: str) -> None:
    lines = "\n".join(f"  hall/s{n}/temperature: {{from: onewire, id: {sensor(n)}}}" for n in range(1, count + 1))
    house.write(f"sources:\n  onewire: {{{options}, bus: {tmp_path}/w1}}\ntopics:\n{lines}\n")


def topic(number: int) -> str:
    return f"home/data/hall/s{number}/temperature"


def test_a_bus_slower_than_its_rhythm_beats_stays_alive_and_stops_in_a_second(
    house: House, ear: Ear, tmp_path: Path
) -> None:
    with Tree(tmp_path / "w1", conversion=0.2) as tree:
        for number in range(1, 21):
            tree.set(sensor(number), 20.0 + number)
        house_of(house, tmp_path, 20, "every: 500ms, stale: 1500ms, heartbeat: 300ms")
        process = house.start("onewire")
        for number in range(1, 21):
            ear.wait(topic(number))
        beats = len(ear.all(HEALTH))
        first = len(ear.all(topic(1)))
        wait_for(lambda: len(ear.all(topic(1))) >= first + 2, what="two more rounds")
        assert len(ear.all(HEALTH)) > beats + 8, "it beats within a round"
        assert b"" not in [payload for number in range(1, 21) for payload in ear.all(topic(number))]
        assert "silent" not in house.log("onewire")
        started = time.monotonic()
        process.terminate()
        process.wait(10)
        assert time.monotonic() - started < busy(1.5)


def test_a_slow_sensor_costs_its_own_time_and_other_masters_nothing(house: House, ear: Ear, tmp_path: Path) -> None:
    with Tree(tmp_path / "w1", conversion=0.02) as tree:
        for number in range(1, 9):
            tree.set(sensor(number), 20.0 + number, master=number)
        tree.fail(sensor(1), Fault.SLOW)
        house_of(house, tmp_path, 8, "every: 300ms, stale: 1s, heartbeat: 500ms")
        house.start("onewire")
        ear.wait(topic(1), timeout=30)
        second = len(ear.all(topic(1)))
        before = len(ear.all(topic(8)))
        wait_for(lambda: len(ear.all(topic(1))) > second, what="the slow one again")
        assert len(ear.all(topic(8))) - before >= 4, "the others have their own rhythm"
        assert "hall/s8/temperature is silent" not in house.log("onewire")


@pytest.mark.whole
def test_sixty_sensors_of_a_conversion_each_on_one_bus(house: House, ear: Ear, tmp_path: Path) -> None:
    with Tree(tmp_path / "w1", conversion=0.75) as tree:
        for number in range(1, 61):
            tree.set(sensor(number), 20.0 + number / 10)
        house_of(house, tmp_path, 60, "every: 1s, stale: 3s, heartbeat: 1s")
        process = house.start("onewire")

        def round_of(number: int) -> float:
            """Seconds from a value of this sensor to its next one."""
            begun = len(ear.all(topic(number)))
            wait_for(lambda: len(ear.all(topic(number))) > begun, 120, "a value")
            since, beats = time.monotonic(), len(ear.all(HEALTH))
            wait_for(lambda: len(ear.all(topic(number))) > begun + 1, 120, "the next")
            assert len(ear.all(HEALTH)) - beats >= 30, "it beats within a round"
            return time.monotonic() - since

        usual = round_of(60)
        assert 45 <= usual < busy(49), "sixty conversions, one after the other"
        tree.fail(sensor(30), Fault.SLOW)
        slow = round_of(60)
        assert slow - usual < busy(4), "the slow one costs its own time, no more"
        assert b"" not in [payload for number in range(1, 61) for payload in ear.all(topic(number))]
        assert "silent" not in house.log("onewire")
        started = time.monotonic()
        process.terminate()
        process.wait(10)
        assert time.monotonic() - started < busy(1.5)


def test_the_last_answer_of_a_round_is_of_that_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may come between the look for answers and the look whether the bus rests; a round later it would be dated then."""

    class Timed(onewire.OneWireBus):
        """Is read to the end while somebody looks whether it rests."""

        rounds = 0

        def measure(self, sensors: Any) -> None:
            self.rounds += 1
            self.open = [topic for topic, _ in sensors]

        @property
        def rests(self) -> bool:
            rested = not self.open
            if self.open and self.rounds:
                self._answers.put((self.open.pop(), 20.0 + self.rounds))
                return not self.open
            return rested

    monkeypatch.setattr(onewire, "OneWireBus", Timed)
    monkeypatch.setattr(onewire, "open_bus", lambda _: lambda *_: 0.0)
    (tmp_path / "topics.yaml").write_text(
        f"sources: {{onewire: {{bus: {tmp_path}}}}}\ntopics: {{hall/s/temperature: {{from: onewire, id: {sensor(1)}}}}}\n"
    )
    registry = Registry(tmp_path / "topics.yaml")
    source = onewire.OneWire(registry, "onewire")
    source.load(registry)
    rounds = 0

    def tick(*_: object) -> bool:
        nonlocal rounds
        rounds += 1
        return rounds <= 3

    source.tick = tick  # type: ignore[method-assign]
    source.breathe = lambda *_: True  # type: ignore[method-assign]
    assert [(rounds, value) for _, value in source.samples()] == [(1, 21.0), (2, 22.0), (3, 23.0)]


def test_what_nobody_foresaw_costs_a_sensor_its_reading_and_the_bus_nothing(tmp_path: Path) -> None:
    line = "topics: {hall/s/temperature: {from: onewire, id: " + sensor(1) + "}}\n"
    (tmp_path / "topics.yaml").write_text("sources: {onewire: {}}\n" + line)
    (one,) = Registry(tmp_path / "topics.yaml").topics_of("onewire", onewire.OneWireSensor)

    def read(_id: str, last: float | None) -> float:
        if last is None:
            raise RuntimeError("out of the blue")
        return last

    answers: SimpleQueue[Any] = SimpleQueue()
    bus = onewire.OneWireBus(tmp_path, read, answers)
    bus.measure([(one, None), (one, 21.0)])
    assert [answers.get(timeout=10)[1] for _ in range(2)] == [Failure("RuntimeError: out of the blue"), 21.0]
    wait_for(lambda: bus.rests, what="the end of the round")
    bus.end()


def test_an_answer_that_is_no_text_is_a_disturbed_one(tmp_path: Path) -> None:
    (tmp_path / sensor(1)).mkdir()
    (tmp_path / sensor(1) / "w1_slave").write_bytes(b"\xff\xfe 4b 46 : crc=00 YES\n")
    found = open_bus(tmp_path)(sensor(1), None)
    assert isinstance(found, Failure)
    assert "a long or disturbed cable" in found.reason


def test_a_bus_that_hangs_is_said_and_ends_nobody(
    house: House, ear: Ear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Tree(tmp_path / "w1", conversion=0.02) as tree:
        tree.set(sensor(1), 21.0)
        tree.set(sensor(2), 22.0, master=2)
        house_of(house, tmp_path, 2, "every: 300ms, stale: 1s, heartbeat: 300ms")
        process = house.start("onewire")
        ear.wait(topic(1))
        tree.fail(sensor(1), Fault.HANG)
        ear.wait(topic(1), lambda value: value == b"")
        wait_for(lambda: "its bus hangs in the kernel" in house.log("onewire"), what="the sentence")
        alive = len(ear.all(topic(2)))
        wait_for(lambda: len(ear.all(topic(2))) > alive + 3, what="the other bus")
        process.terminate()
        assert process.wait(5) == 0, "a thread that hangs in the kernel does not keep the process"


def pad(raw: int, *rest: int) -> list[str]:
    from services.simulators.onewire import crc8

    data = raw.to_bytes(2, "little", signed=True) + bytes(rest)
    return slave_text(data + bytes((crc8(data),))).splitlines()


REST = (0x4B, 0x46, 0x7F, 0xFF)
COUPLE = (0x70, 0x01, 0xF1, 0xFF)


@pytest.mark.parametrize(
    ("family", "lines", "last", "value"),
    [
        ("28", pad(85 * 16, *REST, 0x10, 0x10), 20.0, 85.0),  # byte 6 says that it was measured
        ("28", pad(85 * 16, *REST, 0x0C, 0x10), 85.0, "power-on"),
        ("28", pad(85 * 16, *REST, 0xFF, 0x10), 20.0, "power-on"),  # a clone: its byte 6 says nothing
        ("28", pad(85 * 16, *REST, 0xFF, 0x10), 84.5, 85.0),
        ("10", pad(85 * 16, *REST, 0x0C, 0x10), 84.6, 85.0),  # a DS18S20 counts with byte 6
        ("10", pad(85 * 16, *REST, 0x0C, 0x10), 20.0, "power-on"),
        ("42", pad(85 * 16, *REST, 0x0C, 0x10), 84.6, 85.0),
        ("3b", pad(85 * 16, *REST, 0x0C, 0x10), 20.0, "power-on"),  # a DS1825
        ("3b", pad(85 * 16, *COUPLE, 0xFF, 0x10), 20.0, 85.0),  # a thermocouple may jump
        ("3b", pad(640 * 16 + 4, *COUPLE, 0xFF, 0x10), None, 640.25),
        ("3b", pad(-40 * 16, *COUPLE, 0xFF, 0x10), None, -40.0),
        ("3b", pad(1, 0x71, 0x01, 0xF1, 0xFF, 0xFF, 0x10), None, "thermocouple is open"),
        ("3b", pad(1, 0x72, 0x01, 0xF1, 0xFF, 0xFF, 0x10), None, "touches ground"),
        ("3b", pad(1, 0x74, 0x01, 0xF1, 0xFF, 0xFF, 0x10), None, "touches the supply"),
        ("3b", pad(1900 * 16, *COUPLE, 0xFF, 0x10), None, "beyond what a thermocouple"),
        ("3b", pad(140 * 16, *REST, 0x0C, 0x10), None, "beyond what it can measure"),
        ("28", pad(140 * 16, *REST, 0x0C, 0x10), None, "beyond what it can measure"),
    ],
)
def test_range_and_the_85_degrees_follow_from_the_family(
    family: str, lines: list[str], last: float | None, value: float | str
) -> None:
    if isinstance(value, float):
        assert decode(lines, last, family) == value
    else:
        with pytest.raises(SensorError, match=value):
            decode(lines, last, family)


def test_the_family_of_an_id_reaches_the_decoder(tmp_path: Path) -> None:
    folder = tmp_path / "3b-0316a2795f4b"
    folder.mkdir()
    (folder / "w1_slave").write_text("\n".join(pad(412 * 16, *COUPLE, 0xFF, 0x10)) + "\n")
    read = open_bus(tmp_path)
    assert read("3b-0316a2795f4b", None) == 412.0
    (folder / "w1_slave").write_text("\n".join(pad(1, 0x71, 0x01, 0xF1, 0xFF, 0xFF, 0x10)) + "\n")
    assert isinstance(read("3b-0316a2795f4b", None), Failure)
