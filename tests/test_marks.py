"""The mark: everything up to it is on disk, it never passes a gap, and what is missing is asked for."""

import random
import time
from collections import Counter
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from harness import Broker, Ear, House
from voices import Voice, ask_database, now

from bootstrap_lib.events import Message
from bootstrap_lib.publisher import RESEND_AFTER, Publisher
from bootstrap_lib.reading import Sequence
from bootstrap_lib.registry import Registry
from services.stores import marks
from services.stores.marks import Ledger, SourceMark

WATER = "boiler/water/temperature"
MARK = "home/service/archive/stored/onewire"
TOPICS = f"""
sources:
  onewire: {{}}
subscribers:
  archive: {{commit: 50ms, heartbeat: 1s}}
topics:
  {WATER}: {{from: onewire}}
"""


def test_in_whatever_order_readings_come_the_mark_ends_at_the_last_and_never_passes_a_gap() -> None:
    dice = random.Random(1)
    for _ in range(200):
        numbers = sorted(dice.sample(range(1, 60), 20))
        links = list(zip([0, *numbers], numbers, strict=False))
        dice.shuffle(links)
        mark, taken = SourceMark(), set()
        for previous, number in links:
            assert mark.take(previous, number)
            taken.add(number)
            complete = next((i for i, n in enumerate(numbers) if n not in taken), len(numbers))
            assert mark.number == ([0, *numbers][complete])
        assert not mark.gap
        assert not any(mark.take(previous, number) for previous, number in links)


def test_what_is_remembered_beyond_gaps_is_bounded_for_all_streams_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "MOST_EARLY", 1000)
    ledger = Ledger({})
    honest = ("onewire", "ab12")
    for number in range(3, 23):
        assert ledger.account("onewire", Sequence("ab12", number - 1, number))

    def remembered() -> int:
        return sum(mark.early for mark in ledger._marks.values())

    most = 0
    for number in range(3, 1203):
        for source in range(6):
            for stream in range(4):
                ledger.account(f"bad_{source}", Sequence(f"s{(stream + number // 400) % 7}", number - 1, number))
                most = max(most, remembered())
    assert 900 < most <= 1000
    assert ledger._early == remembered(), "it is counted right"
    assert ledger._marks[honest].early == 20, "who sends most is forgotten, not others"
    for number in (1, 2):
        ledger.account("onewire", Sequence("ab12", number - 1, number))
    assert ledger.due()[honest] == 22


def test_a_reading_after_a_long_rest_is_sent_once_and_again_only_when_no_mark_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "topics.yaml").write_text(TOPICS)
    registry, sent = Registry(tmp_path / "topics.yaml"), MagicMock(side_effect=range(1, 100))
    service = MagicMock(registry=registry, state_folder=tmp_path / "state", runtime_folder=tmp_path / "run")
    service.name, service.bus.publish, service.health.counters = "onewire", sent, Counter()
    service.clock.stamp = lambda: (now(), None)
    service.remembered.known = 0
    clock = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    publisher = Publisher(service, MagicMock())
    publisher.on_message(Message("home/service/archive/status", b"online", True, 1, 1))
    for rounds in (1, 2, 3):
        publisher.publish(registry.topics[WATER], 60.0 + rounds)
        publisher.on_published(sent.call_count, None)
        clock += 0.5
        publisher.housekeep(clock)
        assert sent.call_count == rounds
        mark = b'{"stream":"%s","after":%d}' % (publisher.spool.stream.encode(), publisher.spool.last)
        publisher.on_message(Message(MARK, mark, False, 1, 1))
        clock += 4 * RESEND_AFTER
    publisher.publish(registry.topics[WATER], 64.0)
    publisher.on_published(sent.call_count, None)
    clock += RESEND_AFTER + 0.5
    publisher.housekeep(clock)
    assert (sent.call_count, service.health.counters["resent"]) == (5, 1)
    for pause in (2, 4, 8):  # less and less often, while nobody answers
        publisher.on_published(sent.call_count, None)
        before = sent.call_count
        clock += pause * RESEND_AFTER - 0.5
        publisher.housekeep(clock)
        assert sent.call_count == before
        clock += 1.0
        publisher.housekeep(clock)
        assert sent.call_count == before + 1
    publisher.close()


@pytest.fixture
def archive(house: House, ear: Ear) -> House:
    house.write(TOPICS)
    house.start("archive")
    ear.wait("home/service/archive/status")
    return house


def count(house: House) -> int:
    return ask_database(house.state("archive") / "archive.sqlite", "SELECT count(*) FROM readings")[0][0]


def test_a_gap_is_asked_for_and_the_mark_moves_when_it_is_filled(archive: House, voice: Voice, ear: Ear) -> None:
    start = now() - 10_000
    for number in (1, 2, 5, 6):
        voice.say(WATER, 60.0, start + number, number)
    asked = ear.wait("home/service/onewire/request/resend")
    assert asked == {"stream": "ab12", "after": 2}
    assert ear.last(MARK) == {"stream": "ab12", "after": 2}
    assert count(archive) == 4
    for number in (3, 4, 5, 6):
        voice.say(WATER, 60.0, start + number, number)
    ear.wait(MARK, lambda mark: mark["after"] == 6)
    assert count(archive) == 6
    health = ear.wait("home/service/archive/health", lambda health: health["counters"].get("repeats") == 2)
    assert health["counters"]["gaps"] == 1


def test_what_a_source_had_to_drop_is_no_gap(archive: House, voice: Voice, ear: Ear) -> None:
    voice.say(WATER, 60.0, now(), 1)
    voice.say(WATER, 61.0, now() + 1, 10, previous=1)
    ear.wait(MARK, lambda mark: mark["after"] == 10)
    assert ear.all("home/service/onewire/request/resend") == []


def test_a_refused_reading_lies_in_the_dead_letters_and_does_not_hold_the_mark(
    archive: House, voice: Voice, ear: Ear
) -> None:
    voice.say(WATER, 60.0, now(), 1)
    voice.raw(WATER, b'{"value":null}', 2)
    voice.say(WATER, 61.0, now() + 2 * 365 * 86_400_000, 3)
    voice.say(WATER, 62.0, now() + 1, 4)
    ear.wait(MARK, lambda mark: mark["after"] == 4)
    assert count(archive) == 2
    letters = (archive.state("archive") / "dead_letters.jsonl").read_text()
    assert "more than a minute ahead" in letters
    assert len(letters.splitlines()) == 2


def test_marks_outlive_a_kill_and_are_said_again_to_a_broker_that_forgot_them(
    archive: House, voice: Voice, ear: Ear, broker: Broker
) -> None:
    voice.say(WATER, 60.0, now(), 7, previous=0)
    ear.wait(MARK, lambda mark: mark["after"] == 7)
    archive.kill("archive")
    broker.kill()
    ear.heard.clear()
    broker.start()
    archive.start("archive")
    assert ear.wait(MARK) == {"stream": "ab12", "after": 7}


def test_streams_of_a_source_have_marks_of_their_own(archive: House, voice: Voice, ear: Ear) -> None:
    voice.say(WATER, 60.0, now(), 9, previous=0)
    ear.wait(MARK, lambda mark: mark["after"] == 9)
    voice.stream = "cd34"
    voice.say(WATER, 60.0, now() + 1, 1)
    ear.wait(MARK, lambda mark: mark == {"stream": "cd34", "after": 1})
