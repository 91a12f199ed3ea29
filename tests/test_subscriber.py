"""What every subscriber promises, shown on a small one of the test's own whose durable step can be watched, refused and held."""

import json
from pathlib import Path
from typing import Any

import pytest
from harness import Broker, Ear, House, wait_for
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from voices import Voice, now

from bootstrap_lib.reading import Reading, Sequence, encode, format_time

WATER, FLUE = "boiler/water/temperature", "boiler/flue/temperature"
YEAR = 365 * 86_400_000
"""Milliseconds that a clock which nobody synchronised, as here, may be behind (tests/test_clock.py has the minute)."""
TOPICS = f"""
sources: {{onewire: {{}}}}
subscribers: {{keeper: {{heartbeat: 300ms, every: 50ms, folder: FOLDER, span: SPAN}}}}
topics:
  {WATER}: {{from: onewire}}
  {FLUE}: {{from: onewire}}
"""
KEEPER = '''
"""Writes what it hears into a file, as `flush` is called, and obeys files of a folder."""

import os
import time
from pathlib import Path
from typing import Any

from bootstrap_lib import Away, Duration, InstanceOptions, Poison, Reading, Sequence, Subscriber, Topic


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where."""

    folder: Path
    span: Duration = Duration(0.05)


class Keeper(Subscriber):
    """A file."""

    options: Options
    BATCH = 20

    def begin(self) -> None:
        super().begin()
        self.waiting: list[str] = []

    @property
    def flush_every(self) -> float:
        return self.options.span

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:
        if reading.value == 13:
            raise Poison("thirteen is poison")
        if reading.value == 14:
            raise ZeroDivisionError("fourteen is worse")
        self.waiting.append(f"{reading.topic} {reading.value:g}")

    def on_cleared(self, name: str, sequence: Sequence | None) -> None:
        self.waiting.append(f"{name} cleared")

    def on_tick(self) -> None:
        (self.options.folder / "in_hand").write_text(str(len(self.waiting)))

    def on_gap(self, since: int) -> None:
        self.waiting.append(f"gap since {since}")
        self.flush()

    def flush(self) -> None:
        folder = self.options.folder
        if (folder / "away").exists():
            raise Away("the store is away")
        (folder / "flushing").touch()
        while (folder / "held").exists():
            time.sleep(0.01)
        with (folder / "kept").open("a") as file:
            file.write("".join(f"{line}\\n" for line in self.waiting))
            file.flush()
            os.fsync(file.fileno())
        self.waiting.clear()
'''


class Kept:
    """The subscriber's store, and what it is told to do."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house, self.folder = house, folder
        folder.mkdir()
        (folder / "keeper.py").write_text(KEEPER)
        house.environment["CONSTELLATION_SERVICES"] = str(folder)
        self.configure()

    def configure(self, span: str = "50ms") -> None:
        self.house.write(TOPICS.replace("FOLDER", str(self.folder)).replace("SPAN", span))

    def order(self, name: str) -> None:
        (self.folder / name).touch()

    def lift(self, name: str) -> None:
        (self.folder / name).unlink()

    def lines(self) -> list[str]:
        kept = self.folder / "kept"
        return kept.read_text().splitlines() if kept.exists() else []

    def dead(self) -> list[str]:
        return (self.house.state("keeper") / "dead_letters.jsonl").read_text().splitlines()

    def wait(self, lines: list[str]) -> None:
        wait_for(lambda: self.lines() == lines, 15, f"{lines} in the store, not {self.lines()}")


@pytest.fixture
def kept(house: House, ear: Ear, tmp_path: Path) -> Kept:
    kept = Kept(house, tmp_path / "kept")
    house.start("keeper")
    ear.wait("home/service/keeper/health")
    return kept


def many(voice: Voice, count: int, first: int = 100) -> list[str]:
    """Say so many readings; returns the lines that the store must have of them."""
    start = now() - 60_000
    for number in range(first, first + count):
        voice.say(WATER, float(number), start + number)
    return [f"{WATER} {number}" for number in range(first, first + count)]


def test_what_a_store_that_is_away_was_handed_is_still_the_brokers(kept: Kept, voice: Voice) -> None:
    kept.order("away")
    lines = many(voice, 50)
    wait_for(lambda: "the store is away; nothing is lost, trying on" in kept.house.log("keeper"), what="the complaint")
    kept.house.kill("keeper")
    kept.lift("away")
    kept.house.start("keeper")
    kept.wait(lines)


def test_a_kill_within_the_flush_loses_nothing(kept: Kept, voice: Voice) -> None:
    kept.order("held")
    lines = many(voice, 15)
    wait_for((kept.folder / "flushing").exists, what="the flush")
    kept.house.kill("keeper")
    assert not kept.lines()
    kept.lift("held")
    kept.house.start("keeper")
    kept.wait(lines)


def test_what_was_flushed_is_acknowledged_and_never_brought_again(kept: Kept, voice: Voice, ear: Ear) -> None:
    lines = many(voice, 30)
    ear.wait("home/service/keeper/health", lambda health: health["counters"].get("stored") == 30)
    kept.wait(lines)
    kept.house.kill("keeper")
    kept.house.start("keeper")
    kept.wait(lines + many(voice, 1, first=500))


def test_what_has_no_promise_is_not_gathered_while_the_store_is_away(kept: Kept, voice: Voice, ear: Ear) -> None:
    kept.order("away")
    many(voice, 1)
    ear.wait("home/service/keeper/health", lambda health: health["state"] == "degraded")
    for number in range(60):
        payload = encode(Reading(WATER, float(number + 200), "°C", now() + number))
        voice._client.publish(f"home/data/{WATER}", payload, 0)
    ear.wait("home/service/keeper/health", lambda health: health["counters"].get("unheld") == 40)
    kept.lift("away")
    kept.wait([f"{WATER} 100", *(f"{WATER} {number}" for number in range(200, 220))])
    lines = many(voice, 1, first=900)
    wait_for(lambda: kept.lines()[-1:] == lines, what="the next one")


def test_a_store_that_comes_back_says_so_and_takes_all_in_order(kept: Kept, voice: Voice, ear: Ear) -> None:
    kept.order("away")
    lines = many(voice, 10)
    health = ear.wait("home/service/keeper/health", lambda health: health["state"] == "degraded")
    assert health["last_error"]["text"] == "the store is away"
    assert not kept.lines()
    kept.lift("away")
    kept.wait(lines)
    ear.wait("home/service/keeper/health", lambda health: health["state"] == "running")
    log = kept.house.log("keeper")
    assert log.count("nothing is lost, trying on") == log.count("the store takes readings again") == 1


def test_a_full_group_is_flushed_at_once(kept: Kept, voice: Voice) -> None:
    kept.configure(span="1h")
    wait_for(lambda: "topics.yaml is taken over" in kept.house.log("keeper"), what="the new span")
    lines = many(voice, 40)  # the broker brings no more than a group that is not acknowledged
    kept.wait(lines)


def test_long_messages_that_wait_to_be_acknowledged_weigh_nothing(kept: Kept, voice: Voice, ear: Ear) -> None:
    kept.configure(span="1h")
    wait_for(lambda: "topics.yaml is taken over" in kept.house.log("keeper"), what="the new span")
    for number in range(19):  # one less than a group: they wait for the hour to end
        voice.raw(f"boiler/unknown/long_{number}_count", b"9" * 1_900_000)
    ear.wait("home/service/keeper/health", lambda health: health["counters"].get("dead") == 19)
    process = Path(f"/proc/{kept.house.processes['keeper'].pid}")
    private = sum(
        int(line.split()[1]) for line in (process / "smaps_rollup").read_text().splitlines() if "Anonymous:" in line
    )
    assert private < 36_000, "kB, of which 36,000 would be what waits"


def test_a_clean_end_flushes_and_acknowledges_what_is_in_hand(kept: Kept, voice: Voice) -> None:
    kept.configure(span="1h")
    wait_for(lambda: "topics.yaml is taken over" in kept.house.log("keeper"), what="the new span")
    lines = many(voice, 7)
    wait_for(lambda: (kept.folder / "in_hand").read_text() == "7", what="all in hand")
    assert not kept.lines()
    assert kept.house.stop("keeper") == 0
    assert kept.lines() == lines
    kept.configure()
    kept.house.start("keeper")
    kept.wait(lines + many(voice, 1, first=500))


@pytest.mark.parametrize(
    ("value", "unit", "ahead", "sentence"),
    [
        (13.0, "°C", 0, "thirteen is poison"),
        (14.0, "°C", 0, "ZeroDivisionError: fourteen is worse"),
        (15.0, "°F", 0, "its unit is '°F', topics.yaml says '°C'"),
        (16.0, "°C", 2 * YEAR, "its time is more than a minute ahead"),
        ("warm", "°C", 0, "'warm' is no number"),
    ],
)
def test_one_poisonous_reading_lies_in_the_dead_letters_and_stops_nobody(  # noqa: PLR0917 (fixtures)
    kept: Kept, voice: Voice, ear: Ear, value: Any, unit: str, ahead: int, sentence: str
) -> None:
    voice.say(WATER, 20.0, now())
    for _ in range(2):
        voice.say(WATER, value, now() + ahead, unit=unit)
    voice.say(WATER, 21.0, now())
    kept.wait([f"{WATER} 20", f"{WATER} 21"])
    letters = (kept.house.state("keeper") / "dead_letters.jsonl").read_text().splitlines()
    assert [sentence in json.loads(letter)["reason"] for letter in letters] == [True, True]
    ear.wait("home/service/keeper/health", lambda health: health["counters"].get("dead") == 2)
    assert kept.house.log("keeper").count("is put aside") == 1  # said once


@pytest.mark.parametrize(
    ("moment", "sentence"),
    [
        ("0900-03-01T00:00:00.000Z", "its time lies before 2026"),
        ("2025-12-31T23:59:59.999Z", "its time lies before 2026"),
        ("0001-01-01T00:00:00.000+23:59", "beyond what a computer can name"),
        ("9999-12-31T23:59:59.999Z", "ahead"),
    ],
)
def test_a_time_that_cannot_be_is_a_dead_letter_and_ends_nobody(
    kept: Kept, voice: Voice, moment: str, sentence: str
) -> None:
    voice.raw(WATER, f'{{"value":1,"unit":"°C","time":"{moment}"}}'.encode(), 1)
    voice.say(WATER, 20.0, now(), 2)
    kept.wait([f"{WATER} 20"])
    assert sentence in kept.dead()[0]


@pytest.mark.parametrize(
    "sequence",
    [
        "ab12:1:9223372036854775808",
        "ab12:-1:2",
        "ab12:5:5",
        "a b:1:2",
        "x" * 33 + ":1:2",
        "ab12:1:" + "9" * 5000,
        ":1:2",
        "1:2",
    ],
)
def test_a_place_that_no_sequence_has_is_as_none(kept: Kept, voice: Voice, sequence: str) -> None:
    with pytest.raises(ValueError, match=r"sequence|number"):
        Sequence.parse(sequence)
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = ("seq", sequence)
    payload = encode(Reading(WATER, 20.0, "°C", now()))
    voice._client.publish(f"home/data/{WATER}", payload, 1, properties=properties)
    kept.wait([f"{WATER} 20"])


def test_a_topic_that_nobody_named_is_put_aside_and_a_cleared_one_is_heard_of(kept: Kept, voice: Voice) -> None:
    voice.say("boiler/attic/temperature", 20.0, now())
    voice.raw(WATER, b"")
    kept.wait([f"{WATER} cleared"])
    assert "topics.yaml does not know this topic" in kept.house.log("keeper")


def test_a_number_that_nobody_vouches_for_is_a_gap_and_one_that_was_dropped_is_none(kept: Kept, voice: Voice) -> None:
    start = now() - 200_000
    voice.say(WATER, 1.0, start, 1)
    voice.say(WATER, 2.0, start + 1000, 2)
    voice.say(WATER, 5.0, start + 2000, 5, previous=2)  # 3 and 4 were dropped on purpose
    voice.say(WATER, 6.0, start + 3000, 6)
    voice.say(WATER, 9.0, start + 4000, 9)
    wait_for(lambda: any("gap" in line for line in kept.lines()), 15, "the gap")
    assert [line for line in kept.lines() if "gap" in line] == [f"gap since {start + 3000 - 60_000}"]
    kept.wait([f"{WATER} {number}" for number in (1, 2, 5, 6, 9)] + kept.lines()[5:])


def test_a_gap_while_it_was_stopped_is_noticed_too(kept: Kept, voice: Voice, ear: Ear) -> None:
    start = now() - 200_000
    voice.say(WATER, 1.0, start, 1)
    kept.wait([f"{WATER} 1"])
    assert kept.house.stop("keeper") == 0
    kept.house.start("keeper")
    voice.say(WATER, 4.0, start + 1000, 4)
    wait_for(lambda: f"gap since {start - 60_000}" in kept.lines(), 15, "the gap")


def test_what_came_while_it_was_stopped_waits_at_the_broker(kept: Kept, voice: Voice) -> None:
    assert kept.house.stop("keeper") == 0
    lines = many(voice, 30)
    kept.house.start("keeper")
    kept.wait(lines)


def test_after_a_broker_without_memory_it_listens_again(kept: Kept, broker: Broker) -> None:
    broker.kill()
    broker.start()
    voice = Voice(broker.port)
    other = Ear(broker.port)
    other.wait("home/service/keeper/health")
    payload = b'{"value":77,"unit":"\xc2\xb0C","time":"%s"}' % format_time(now()).encode()
    voice.raw(WATER, payload)
    kept.wait([f"{WATER} 77"])
    voice.close()
    other.close()
