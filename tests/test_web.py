"""The page's doors and its bookkeeping, without a browser: what comes in wrong gets an answer, what goes out is true."""

import asyncio
import contextlib
import json
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from bootstrap_lib import Reading, Sequence, StartError, format_time
from bootstrap_lib.registry import Registry
from services.notices import permit
from services.notices.notice import Notice
from services.notices.permit import Permit
from services.page import forms, listeners, past, people, permits, trial
from services.page.answers import Refusal
from services.page.costs import costs
from services.page.diary import Diary
from services.page.entrance import Entrance
from services.page.gate import FREE, IDLE, LONGEST, Caller, Gate, Wait, is_origin_of, same_origin
from services.page.listeners import Listeners
from services.page.live import Live
from services.page.past import Asked, Past
from services.page.permits import Permits
from services.page.proof import Ledger, of
from services.page.server import StreamDoor
from services.page.serving import FILES, Guard
from services.pushover import Pushover
from services.stores import schema
from services.web import Web

T0 = 1_790_000_000_000
KEY = "k" * 40
TOPICS = """
sources: {onewire: {every: 1s, stale: 3s}}
subscribers: {archive: {}}
topics:
  boiler/water/temperature: {from: onewire, id: 28-000000000001}
  boiler/flue/temperature: {from: onewire, id: 28-000000000002}
"""
WATER, FLUE = "boiler/water/temperature", "boiler/flue/temperature"


@pytest.fixture
def live(tmp_path: Path) -> Live:
    path = tmp_path / "topics.yaml"
    path.write_text(TOPICS)
    return Live(Registry(path))


def test_a_value_is_what_came_last_and_a_clearing_keeps_it_as_what_was(live: Live) -> None:
    live.read(Reading(WATER, 61.4, "°C", T0))
    live.read(Reading(WATER, 60.0, "°C", T0 - 5000))  # a repeat of an older one
    assert (live.values[WATER].value, live.values[WATER].cleared) == (61.4, 0)
    live.clear(WATER, T0 + 9000)
    assert live.values[WATER].cleared == T0 + 3000, (
        "it was dead from when it was stale, however late its source says so"
    )
    live.read(Reading(WATER, 62.0, "°C", T0 + 20_000))
    assert live.values[WATER].cleared == 0


def test_after_a_connection_nothing_is_believed_that_the_broker_does_not_say_again(live: Live) -> None:
    live.read(Reading(WATER, 61.4, "°C", T0))
    live.read(Reading(FLUE, 100.0, "°C", T0))
    live.ask()
    live.read(Reading(WATER, 61.4, "°C", T0))
    assert live.values[FLUE].asked
    live.answered({}, T0 + 1000)
    assert live.values[WATER].cleared == 0
    assert live.values[FLUE].cleared == T0 + 1000, "no silence begins in the future"


def test_what_was_never_heard_takes_its_silence_from_the_archive(live: Live) -> None:
    live.answered({WATER: T0}, T0 + 9000)
    assert live.values[WATER].cleared == T0 + 3000
    assert (live.values[FLUE].cleared, live.values[FLUE].time) == (0, 0), "never seen"


def test_only_what_changed_is_told(live: Live) -> None:
    live.read(Reading(WATER, 61.4, "°C", T0))
    assert [name for name, _ in live.changes()] == ["values"]
    assert live.changes() == []


# -- the ledger and the proof ---------------------------------------------------------------------------------------


def test_a_reading_that_is_not_marked_waits_and_a_marked_one_has_a_lag(live: Live) -> None:
    ledger = Ledger(T0)
    live.hear("onewire", "status", b"online", T0)
    live.hear("onewire", "health", json.dumps({"state": "running", "counters": {"published": 2}}).encode(), T0)
    ledger.read("onewire", Sequence("ab", 0, 1), T0, T0)
    ledger.read("onewire", Sequence("ab", 1, 2), T0 + 1000, T0 + 1000)
    ledger.mark("onewire", "ab", 1, T0 + 1500)
    found = of(live, ledger, {}, T0 + 9000, None)
    source = found.sources[0]
    assert (source.lag, source.waiting, source.stored, source.newest) == (1500, 1, 1, 2)
    assert {claim.key: claim.state for claim in found.claims}["on_disk"] == "open"
    ledger.mark("onewire", "ab", 2, T0 + 9000)
    found = of(live, ledger, {}, T0 + 9000, None)
    assert {claim.key: claim.state for claim in found.claims}["on_disk"] == "yes"
    assert {claim.key: claim.state for claim in of(live, ledger, {}, T0, T0).claims}["on_disk"] == "open", "no broker"


def test_a_lost_reading_is_never_green_and_a_mark_of_another_stream_counts_for_nothing(live: Live) -> None:
    ledger = Ledger(T0)
    health = {"state": "running", "counters": {}, "spool": {"dropped": 118}}
    live.hear("onewire", "status", b"online", T0)
    live.hear("onewire", "health", json.dumps(health).encode(), T0)
    ledger.read("onewire", Sequence("ab", 0, 1), T0, T0)
    ledger.mark("onewire", "cd", 9, T0)
    found = of(live, ledger, {}, T0, None)
    states = {claim.key: claim.state for claim in found.claims}
    assert (states["nothing_lost"], states["on_disk"], found.shown) == ("no", "open", False)


def says(live: Live, ledger: Ledger, name: str, now: int, **health: Any) -> None:
    live.hear(name, "status", b"online", now)
    live.hear(name, "health", json.dumps({"state": "running", "start": 1} | health).encode(), now)
    ledger.hear(name, live.services[name].health or {}, now)


def test_the_proof_says_since_when_something_is_lost_where_it_heard_it_begin(live: Live) -> None:
    for first, since in ((0, T0 + 1000), (5, None)):
        ledger = Ledger(T0)
        says(live, ledger, "onewire", T0, spool={"dropped": first})
        for number in (1, 2):
            says(live, ledger, "onewire", T0 + number * 1000, spool={"dropped": first + number})
        found = of(live, ledger, {}, T0 + 9000, None)
        assert (found.sources[0].lost, found.sources[0].lost_since, found.heard) == (first + 2, since, T0)
        assert {claim.key: claim for claim in found.claims}["nothing_lost"].facts["since"] == {"onewire": since}


def test_what_the_archive_misses_for_good_is_lost(live: Live) -> None:
    ledger = Ledger(T0)
    says(live, ledger, "onewire", T0)
    says(live, ledger, "archive", T0, lost=[["2026-09-21T14:13:20.000Z", "2026-09-21T14:13:21.000Z"], "nonsense"])
    claim = {claim.key: claim for claim in of(live, ledger, {}, T0, None).claims}["nothing_lost"]
    assert (claim.state, claim.facts["missing"]) == ("no", [(T0, T0 + 1000)])


def test_what_stands_at_the_broker_of_a_service_that_says_nothing_more_shows_nothing(live: Live) -> None:
    ledger, heard = Ledger(T0), {"backup": T0, "backup_bytes": 5, "backup_tried": T0}

    def claims(now: int) -> dict[str, str]:
        return {claim.key: claim.state for claim in of(live, ledger, heard, now, None).claims}

    for name in live.services:
        says(live, ledger, name, T0, beat=30)
    alive = claims(T0 + 100_000)
    assert (alive["nothing_lost"], alive["whole"]) == ("yes", "yes")
    says(live, ledger, "onewire", T0 + 60_000, beat=30)
    assert claims(T0 + 110_000)["nothing_lost"] == "open", "an archive that is silent may miss something"
    assert of(live, ledger, heard, T0 + 110_000, None).sources[0].state == "running"
    assert of(live, ledger, heard, T0 + 170_000, None).sources[0].state == "offline"
    says(live, ledger, "archive", T0 + 110_000, beat=30)
    assert claims(T0 + 120_000)["nothing_lost"] == "yes"
    live.ask()
    live.hear("onewire", "status", b"online", T0 + 121_000)
    assert claims(T0 + 121_000)["nothing_lost"] == "open", "a retained word of a dead one has no health beside it"


def test_an_end_is_unclean_where_a_service_began_anew_and_had_not_said_that_it_stops(live: Live) -> None:
    ledger = Ledger(T0)

    def unclean() -> int | None:
        return of(live, ledger, {}, T0, None).sources[0].unclean

    says(live, ledger, "onewire", T0)
    says(live, ledger, "onewire", T0 + 1000, state="stopping")
    says(live, ledger, "onewire", T0 + 2000, start=2)
    assert unclean() is None
    ledger.ask()
    says(live, ledger, "onewire", T0 + 3000, start=3)
    assert unclean() is None, "how it ended while the page was not connected, nobody heard"
    says(live, ledger, "onewire", T0 + 4000, start=4)
    assert unclean() == T0 + 3000


def test_a_gap_is_filled_when_the_mark_has_passed_what_had_come_when_it_was_found(live: Live) -> None:
    ledger = Ledger(T0)

    def gaps() -> tuple[int, int]:
        one = of(live, ledger, {}, T0, None).sources[0]
        return one.gaps, one.filled

    says(live, ledger, "onewire", T0)
    for number in range(1, 5):
        ledger.read("onewire", Sequence("ab", number - 1, number), T0, T0)
    ledger.resent("onewire")
    ledger.resent("onewire")  # asked again: it is the same gap
    ledger.mark("onewire", "ab", 3, T0)
    assert gaps() == (1, 0)
    ledger.mark("onewire", "ab", 4, T0)
    assert gaps() == (1, 1)
    ledger.resent("onewire")
    assert gaps() == (2, 1)


@pytest.mark.parametrize(
    ("size", "tried", "state"),
    [(5, T0, "yes"), (0, T0, "open"), (5, 0, "open"), (None, None, "open"), (5, T0 - 40 * 86_400_000, "open")],
)
def test_a_backup_is_shown_when_it_holds_something_and_was_put_back_on_trial(
    live: Live, size: int | None, tried: int | None, state: str
) -> None:
    found = of(live, Ledger(T0), {"backup": T0, "backup_bytes": size, "backup_tried": tried}, T0 + 1000, None)
    assert {claim.key: claim.state for claim in found.claims}["backup"] == state


# -- the past -------------------------------------------------------------------------------------------------------


MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
MIDNIGHT = T0 // DAY * DAY


class Kept(Past):
    """An archive that a test fills; it counts what its database works (in steps of a hundred instructions)."""

    def __init__(self, folder: Path) -> None:
        path = folder / "archive.sqlite"
        engine = schema.open_database(f"sqlite:///{path}", folder)
        schema.migrate(engine)
        engine.dispose()
        super().__init__(path)
        self.worked = 0

    def fill(self, table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * (columns.count(",") + 1))
        with contextlib.closing(sqlite3.connect(self.path or "")) as db, db:
            db.executemany(f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})", rows)

    @contextlib.contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        def work() -> None:
            self.worked += 1

        with super().open() as db:
            db.set_progress_handler(work, 100)
            yield db


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    kept = Kept(tmp_path)
    kept.fill("topics", "id, name, unit, kind", [(1, WATER, "°C", "gauge"), (2, METER, "kWh", "counter")])
    return kept


METER = "house/electricity/import_energy"
GAUGE, COUNTER = Asked(WATER, "°C", "gauge", 30_000), Asked(METER, "kWh", "counter", 300_000, every=16_000)


def test_where_hours_meet_minutes_each_counts_for_as_long_as_it_lasts(kept: Kept) -> None:
    hours = ((1, MIDNIGHT + n * HOUR, 60, 360, 10.0, 9.0, 11.0) for n in range(20))
    kept.fill("hours", "topic, time, minutes, count, mean, low, high", hours)
    kept.fill("settings", "name, value", [("hours", str(MIDNIGHT + 20 * HOUR))])
    minutes = ((1, MIDNIGHT + 20 * HOUR + n * MINUTE, 6, 70.0, 69.0, 71.0) for n in range(10))
    kept.fill("minutes", "topic, time, count, mean, low, high", minutes)
    series = kept.series(GAUGE, MIDNIGHT - 364 * DAY, MIDNIGHT + 20 * HOUR + 10 * MINUTE, 365)
    assert series.step == DAY
    assert (series.t[-1], series.mean[-1]) == (MIDNIGHT, round((20 * 60 * 10.0 + 10 * 70.0) / 1210, 3))
    assert (series.low[-1], series.high[-1]) == (9.0, 71.0)


@pytest.mark.parametrize("every", [1, 15])
def test_a_steady_counter_is_steady_up_to_both_edges(kept: Kept, every: int) -> None:
    begin, end = MIDNIGHT, MIDNIGHT + 7 * DAY + 25 * MINUTE
    times = range(begin, end, every * MINUTE)
    kept.fill("minutes", "topic, time, count, last, difference", ((2, t, 1, 5.0, every / 60) for t in times))
    topic = COUNTER._replace(every=every * MINUTE, stale=3 * every * MINUTE)
    series = kept.series(topic, begin + 45 * MINUTE, end, 340)
    assert series.step == 30 * MINUTE
    means = [mean for mean in series.mean if mean is not None]
    assert all(0.9 < mean < 1.1 for mean in (means[0], means[-1]))
    assert every > 1 or {round(mean, 6) for mean in means} == {1.0}


def test_a_slow_topic_is_known_at_a_moment_for_as_long_as_it_is_not_stale(kept: Kept) -> None:
    kept.fill("readings", "time, topic, value", ((MIDNIGHT + n * HOUR, 2, 1.0 * n) for n in range(24)))
    kept.fill("readings", "time, topic, value", [(MIDNIGHT + 9 * HOUR, 1, 21.5)])
    kept.fill("minutes", "topic, time, count, mean, low, high", [(1, MIDNIGHT + 9 * HOUR, 1, 21.5, 21.5, 21.5)])
    slow = GAUGE._replace(stale=6 * HOUR)
    assert kept.moment([slow], MIDNIGHT + 12 * HOUR) == {WATER: (21.5, MIDNIGHT + 9 * HOUR, 0)}
    assert kept.moment([slow], MIDNIGHT + 16 * HOUR) == {}


def test_what_was_stored_in_another_unit_is_shown_in_that_of_now(kept: Kept) -> None:
    kept.fill("topics", "id, name, unit, kind", [(3, METER, "Wh", "counter"), (4, METER, "m³", "counter")])
    kept.fill("topics", "id, name, unit, kind", [(5, WATER, "°F", "gauge")])
    began, changed, end = MIDNIGHT, MIDNIGHT + 95 * MINUTE, MIDNIGHT + 110 * MINUTE
    for number, scale, since, until in ((3, 1000.0, began, changed), (2, 1.0, changed, end), (4, 7.0, began, end)):
        rows = [(number, t, 1, (t - began) / MINUTE * scale, scale) for t in range(since, until, MINUTE)]
        kept.fill("minutes", "topic, time, count, last, difference", rows)
        kept.fill("readings", "time, topic, value", ((time, number, last) for _, time, _, last, _ in rows))
    for number, value, since, until in ((5, 68.0, began, changed), (1, 22.0, changed, end)):
        rows = [(number, t, 1, value, value, value) for t in range(since, until, MINUTE)]
        kept.fill("minutes", "topic, time, count, mean, low, high", rows)
    assert kept.counted(COUNTER, [(began, end), (began, changed), (end, end + DAY)]) == [110.0, 95.0, None]
    assert kept.stand(COUNTER) == (109.0, end)
    assert kept.last_times([GAUGE, COUNTER]) == {WATER: end, METER: end}
    assert kept.moment([GAUGE, COUNTER], changed - 1) == {
        METER: (94.0, changed - MINUTE, 0),
        WATER: (pytest.approx(20.0), changed - MINUTE, changed - 30_000),
    }
    shown = kept.series(COUNTER._replace(every=MINUTE), began, end, 11)
    assert (shown.mean, shown.holes) == ([60.0] * 11, [])
    assert set(kept.series(COUNTER, began, end, 1000).mean) == {60.0}
    shown = kept.series(GAUGE, began, end, 11)
    assert (shown.mean, shown.holes) == ([20.0] * 9 + [21.0, 22.0], [])
    assert (shown.low[9], shown.high[9]) == (20.0, 22.0)
    assert [value for _, value, _ in kept.readings([COUNTER], began, end, ())[0]] == [float(n) for n in range(110)]
    kept.fill("topics", "id, name, unit, kind", [(6, "x/y/number", "", "gauge"), (7, "x/y/number", "l", "gauge")])
    kept.fill("readings", "time, topic, value", [(began, 6, 3.0)])
    assert kept.readings([GAUGE._replace(name="x/y/number", unit="l")], began, end, ())[0] == [
        ("x/y/number", 3.0, began)
    ]


def test_the_census_reads_no_row_but_the_first_and_the_last(kept: Kept) -> None:
    kept.fill("readings", "time, topic, value", ((MIDNIGHT + n * 1000, 1, 1.0) for n in range(5000)))
    census = kept.census()
    assert (census["first"], census["last"]) == (MIDNIGHT, MIDNIGHT + 4_999_000)
    assert kept.worked < 10


def test_what_if_looks_until_its_readings_end_and_takes_no_cut_for_a_silence(
    kept: Kept, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(rule: str, most: int) -> tuple[int, int, bool]:
        monkeypatch.setattr(past, "MOST_RAW", most)
        answer = trial.run(
            live.registry,
            kept,
            lambda names: [GAUGE._replace(name=name) for name in names],
            rule,
            MIDNIGHT,
            MIDNIGHT + 4 * HOUR,
        )
        return len(answer.fired), answer.until, answer.whole

    kept.fill("topics", "id, name, unit, kind", [(3, FLUE, "°C", "gauge")])
    for topic in (1, 3):
        spoken = ((topic, MIDNIGHT + n * MINUTE, 6, 84.0, 80.0, 88.0, 84.0) for n in range(120))
        kept.fill("minutes", "topic, time, count, mean, low, high, last", spoken)
        kept.fill("readings", "time, topic, value", ((MIDNIGHT + n * MINUTE, topic, 84.0) for n in range(120, 240)))
    assert found(f"{WATER} is stale", 1000) == (0, MIDNIGHT + 4 * HOUR, True)
    assert found("boiler/+/temperature is stale", 100) == (0, MIDNIGHT + 49 * MINUTE, False), "cut among the minutes"
    assert found(f"{WATER} is stale", 119) == (0, MIDNIGHT + 118 * MINUTE, False)
    kept.fill("readings", "time, topic, value", [(MIDNIGHT + 200 * MINUTE + n, 1, 84.0) for n in range(300)])
    assert found(f"{WATER} is stale", 300) == (0, MIDNIGHT + 200 * MINUTE + 219, False), "cut among the readings"
    for rule in (f"{WATER} > 85", f"{WATER} < 82"):
        assert found(rule, 1000)[0] == 1, "of a minute the extreme that the rule is afraid of"


YEAR = 366


def test_money_is_counted_at_the_price_of_its_own_time() -> None:
    def count(spans: Iterable[tuple[int, int]]) -> list[float | None]:
        known = [(max(begin, 100 * DAY), end) for begin, end in spans]
        return [(end - begin) / DAY if end > begin else None for begin, end in known]

    def cost(*prices: tuple[int, float], span: tuple[int, int] = (0, YEAR)) -> float | None:
        whole = span[0] * DAY, span[1] * DAY
        amount = float(span[1] - max(100, span[0]))
        return costs([(day * DAY, price) for day, price in prices], [whole], [amount], count)[0]

    assert cost((200, 1.0), (100, 0.1)) == 0.1 * 100 + 166
    assert cost((100, 0.5), (300, 1.0), span=(0, 200)) == 50.0, "what counted nothing needs no price"
    assert cost((150, 0.5)) is None, "what counted had none"
    assert cost((400, 0.5)) is None
    assert cost() is None
    assert costs([(0, 0.5)], [(0, DAY), (0, DAY)], [None, 0.0], count) == [None, 0.0]


def test_a_day_of_a_tariff_is_one(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    tariffs = f'{{{METER}: [{{from: "2026-02-30", price: 1}}]}}'
    path.write_text(
        f"sources: {{wmbus: {{device: /dev/null}}}}\nsubscribers: {{web: {{tariffs: {tariffs}}}}}\n"
        f"topics: {{{METER}: {{from: wmbus, meter: 12345678}}}}\n"
    )
    assert "there is no day 2026-02-30" in str(Web.check(Registry(path), "web")[0])


def test_a_tariff_is_for_what_counts(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    tariffs = ", ".join(f'{topic}: [{{from: "2026-02-20", price: 1}}]' for topic in (METER, "house/electricity/power"))
    path.write_text(
        f"sources: {{wmbus: {{device: /dev/null}}}}\nsubscribers: {{web: {{tariffs: {{{tariffs}}}}}}}\n"
        f"topics:\n  house/electricity/{{import_energy,power}}: {{from: wmbus, meter: 12345678}}\n"
    )
    assert [problem.message for problem in Web.check(Registry(path), "web")] == [
        "a gauge counts nothing that costs: a tariff is for a counter"
    ]


@pytest.mark.parametrize(
    "address", ["https://[::1", "https://a]b", "https://haus.example:x", "https://haus.example:99999"]
)
def test_an_address_that_is_none_is_told_as_that(tmp_path: Path, address: str) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text(f"subscribers: {{web: {{address: '{address}'}}}}\n")
    (problem,) = Web.check(Registry(path), "web")
    assert (problem.path, problem.message) == ("subscribers.web.address", f"'{address}' is no address of a page")


# -- who may --------------------------------------------------------------------------------------------------------


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path, {"ada": people.hashed("a long enough word")}, anyone=False, trust=["10.0.0.2"])


def test_a_password_is_kept_as_a_hash_that_only_it_matches() -> None:
    kept = people.hashed("a long enough word")
    assert "long" not in kept
    assert people.matches("a long enough word", kept)
    assert not people.matches("a long enough Word", kept)
    assert not people.matches("x", "no hash at all")
    assert people.read(people.write({"ada": kept})) == {"ada": kept}


def test_a_session_ends_when_it_is_idle_and_when_it_is_old(gate: Gate, tmp_path: Path) -> None:
    cookie = gate.log_in("ada", "a long enough word", "1.2.3.4", T0)
    assert cookie

    def who(now: int) -> str | None:
        return gate.caller("1.2.3.4", {}, cookie, now, tls=False).name

    assert who(T0 + 1000) == "ada"
    again = Gate(tmp_path, gate.people, anyone=False, trust=[])
    assert again.caller("1.2.3.4", {}, cookie, T0 + 2000, tls=False).name == "ada", "a restart logs nobody out"
    assert cookie not in (tmp_path / "sessions.json").read_text()
    for days in range(1, 29):
        assert who(T0 + days * 86_400_000) == "ada"
    assert who(T0 + 28 * 86_400_000 + IDLE + 1) is None
    cookie = gate.log_in("ada", "a long enough word", "1.2.3.4", T0)
    for days in range(1, 30):
        who(T0 + days * 86_400_000)
    assert who(T0 + LONGEST + 1) is None


@pytest.mark.parametrize("peer", ["10.0.0.2", "::ffff:10.0.0.2"])
def test_a_socket_that_hears_both_protocols_knows_the_proxy_and_this_machine(gate: Gate, peer: str) -> None:
    headers = {"remote-user": "ada", "x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.7"}
    assert gate.caller(peer, headers, None, T0, tls=False) == Caller("192.0.2.7", "ada", False, True)
    here = peer.replace("10.0.0.2", "127.0.0.1")
    assert gate.may_look(gate.caller(here, {}, None, T0, tls=False))
    assert not gate.may_look(gate.caller(peer.replace("10.0.0.2", "10.0.0.3"), headers, None, T0, tls=False))


def test_a_disk_that_is_full_ends_nobodys_look_and_a_log_out_says_so(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie = gate.log_in("ada", "a long enough word", "1.2.3.4", T0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("services.page.gate.state.save", full)
    assert gate.caller("1.2.3.4", {}, cookie, T0 + 2 * 3_600_000, tls=False).name == "ada"
    scope = {"type": "http", "headers": [(b"cookie", f"constellation={cookie}".encode())], "server": ("house", 80)}
    request: Any = Request(scope | {"method": "POST", "path": "/", "scheme": "http", "query_string": b""})
    with pytest.raises(Refusal, match="after a restart") as refusal:
        Entrance(gate, lambda: T0).log_out(request)
    assert (refusal.value.status, refusal.value.response().headers["set-cookie"][:15]) == (503, "constellation=;")
    assert gate.caller("1.2.3.4", {}, cookie, T0 + 2 * 3_600_000, tls=False).name is None


def test_who_guesses_waits_longer_and_longer(gate: Gate) -> None:
    for _ in range(FREE):
        assert gate.log_in("ada", "wrong", "1.2.3.4", T0) is None
    with pytest.raises(Wait):
        gate.log_in("ada", "a long enough word", "1.2.3.4", T0)
    with pytest.raises(Wait):
        gate.log_in("ada", "a long enough word", "5.6.7.8", T0)
    assert gate.log_in("ada", "a long enough word", "5.6.7.8", T0 + 1001)


def test_many_addresses_and_names_push_out_nobody_who_has_to_wait(gate: Gate) -> None:
    for _ in range(FREE + 3):
        gate.fail("2001:db8:1:2::1", "ada", T0)
    for number in range(3000):
        gate.fail(f"2001:db8:{number:x}::7", f"nobody {number}", T0)
    for address, name in (("1.2.3.4", "ada"), ("2001:db8:1:2:aaaa::5", None)):
        with pytest.raises(Wait):
            gate.refuse_early(address, name, T0 + 5000)
    gate.refuse_early("2001:db8:1:3::1", "heidi", T0 + 5000)


def test_a_burst_of_guesses_is_no_more_than_so_many_tries(gate: Gate) -> None:
    begin = Barrier(40)

    def guess(number: int) -> str:
        begin.wait()
        try:
            return "tried" if gate.log_in("ada", f"guess {number}", "1.2.3.4", T0) is None else "in"
        except Wait:
            return "waits"

    with ThreadPoolExecutor(40) as guessers:
        assert Counter(guessers.map(guess, range(40))) == {"tried": FREE, "waits": 40 - FREE}


def test_another_password_ends_the_sessions_of_the_one_before(gate: Gate, tmp_path: Path) -> None:
    cookie = gate.log_in("ada", "a long enough word", "1.2.3.4", T0)
    known = {"ada": people.hashed("quite another word")}
    changed = Gate(tmp_path, known, anyone=False, trust=[])
    assert changed.caller("1.2.3.4", {}, cookie, T0 + 1000, tls=False).name is None
    cookie = changed.log_in("ada", "quite another word", "1.2.3.4", T0)
    again = Gate(tmp_path, known, anyone=False, trust=[])
    assert again.caller("1.2.3.4", {}, cookie, T0 + 1000, tls=False).name == "ada"
    assert known["ada"].rpartition("$")[2] not in (tmp_path / "sessions.json").read_text()


class Door(Entrance):
    """What a stream stands behind."""

    def encoded(self) -> bytes:
        return b"{}"


@pytest.mark.parametrize("end", ["logged out", "idle"])
def test_a_stream_ends_with_the_session_that_opened_it(gate: Gate, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(listeners, "ASKED", 0.0)
    cookie = gate.log_in("ada", "a long enough word", "1.2.3.4", T0)
    clock = [T0]
    server: Any = SimpleNamespace(listeners=Listeners(), house=Door(gate, lambda: clock[0]))
    headers = [(b"host", b"house"), (b"cookie", f"constellation={cookie}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/api/1/stream", "scheme": "http", "query_string": b""}
    scope |= {"headers": headers, "client": ("1.2.3.4", 1), "server": ("house", 80)}
    sent: list[Any] = []

    async def listen() -> None:
        server.listeners.begin()
        arrived: asyncio.Queue[Any] = asyncio.Queue()

        async def send(message: Any) -> None:
            sent.append(message)
            arrived.put_nowait(message)

        stream = asyncio.ensure_future(StreamDoor(server)(scope, asyncio.Event().wait, send))

        async def heard(word: bytes) -> None:
            while word not in (await arrived.get()).get("body", b""):
                pass

        await asyncio.wait_for(heard(b"event: house"), 10)
        clock[0] += IDLE - 1000
        server.listeners.send_from(b"one")
        await asyncio.wait_for(heard(b"one"), 10)
        if end == "idle":
            clock[0] += 2000
        else:
            gate.log_out(cookie)
        server.listeners.send_from(b"two")
        await asyncio.wait_for(stream, 10)

    with ThreadPoolExecutor(1) as aside:  # in this one a browser's loop may run
        aside.submit(asyncio.run, listen()).result()
    assert sent[-1] == {"type": "http.response.body", "body": b""}
    assert not any(b"two" in message.get("body", b"") for message in sent)


def test_a_question_that_the_end_of_the_service_breaks_off_is_answered() -> None:
    async def broken_off(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"127.0.0.1")]}
    with ThreadPoolExecutor(1) as aside:
        aside.submit(asyncio.run, Guard(broken_off, ())(scope, asyncio.Event().wait, send)).result()
    assert sent[0]["status"] == 503


def test_looking_is_free_on_the_machine_itself_but_not_through_a_proxy(gate: Gate) -> None:
    def may(peer: str, **headers: str) -> bool:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return gate.may_look(gate.caller(peer, named, None, T0, tls=False))

    assert may("127.0.0.1")
    assert may("::1")
    assert not may("192.168.1.7")
    assert not may("127.0.0.1", x_forwarded_for="203.0.113.9")
    assert not may("192.168.1.7", remote_user="ada"), "a header that anybody may send"
    assert may("10.0.0.2", remote_user="ada")


def test_a_change_comes_from_the_page_itself() -> None:
    assert same_origin("http://house:8080", "house:8080", secure=False)
    for origin in (None, "null", "http://house", "https://house:8080", "http://evil:8080", "http://house:8080.evil"):
        assert not same_origin(origin, "house:8080", secure=False)


def test_the_page_s_user_at_the_broker_may_send_the_requests_of_the_page_and_no_other() -> None:
    written = {right.rpartition("/")[2] for right in Web.NEEDS.rights if right.startswith("write ")}
    assert written == {"acknowledge", "snooze", "why", "meters", *forms.VERBS}
    assert all("/request/" in right for right in Web.NEEDS.rights if right.startswith("write "))


# -- the diary ------------------------------------------------------------------------------------------------------


def test_the_diary_keeps_an_alert_from_its_begin_to_its_end_and_nothing_twice(tmp_path: Path) -> None:
    diary = Diary(tmp_path / "diary.sqlite", T0)
    firing = {"state": "firing", "since": "2026-09-21T14:13:20.000Z", "text": "Boiler at 90", "rule": "hot"}
    for _ in range(3):
        diary.note("hot", firing, T0 + 1000)
    diary.step(["hot"], T0 + 2000, "told", "pushover")
    diary.note("hot", firing | {"acknowledged": True}, T0 + 3000)
    diary.note("hot", {"state": "ok", "since": "2026-09-21T14:14:20.000Z"}, T0 + 61_000)
    diary.note("hot", {"state": "ok", "since": "2026-09-21T14:14:20.000Z"}, T0 + 62_000)
    diary.close()
    (one,) = Diary(tmp_path / "diary.sqlite", T0).between(T0 - 1, T0 + 100_000)
    assert (one.since, one.until, one.acknowledged) == (T0, T0 + 60_000, T0 + 3000)
    assert [step.kind for step in one.steps] == ["fires", "told", "acknowledged", "over"]
    assert Diary(tmp_path / "diary.sqlite", T0).between(T0 + 60_001, T0 + 100_000) == []


def test_a_damaged_diary_is_set_aside_and_none_before_it_is_lost_for_it(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "diary.sqlite").write_bytes(b"no database at all" * 300)
        with contextlib.closing(Diary(tmp_path / "diary.sqlite", T0)) as diary:
            assert diary.between(0, T0) == []
        assert (tmp_path / f"diary.sqlite.damaged-{number}").read_bytes().startswith(b"no database")


FIRING = {"state": "firing", "since": "2026-09-21T14:13:20.000Z", "text": "Boiler at 90", "rule": "hot"}


def test_a_diary_that_cannot_be_opened_is_left_as_it_is_and_takes_later_what_happened_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "diary.sqlite"
    kept = Diary(path, T0)
    kept.note("cold", FIRING, T0)
    kept.close()
    before = path.read_bytes()
    (hindrance := tmp_path / "diary.sqlite-wal").mkdir()
    diary = Diary(path, T0 + 1000)
    assert "takes nothing: unable to open" in str(diary.file.trouble)
    diary.note("hot", FIRING, T0 + 2000)
    diary.file.heal()
    assert diary.file.trouble
    assert [one.name for one in diary.between(0, T0 + 9000)] == ["hot"], "it lives, in memory"
    assert (path.read_bytes(), diary.begun) == (before, T0 + 1000)
    hindrance.rmdir()
    diary.file.heal()
    assert diary.file.trouble is None
    assert {one.name for one in diary.between(0, T0 + 9000)} == {"cold", "hot"}
    diary.close()
    again = Diary(path, T0 + 5000)
    assert ({one.name for one in again.between(0, T0 + 9000)}, again.begun) == ({"cold", "hot"}, T0)
    assert not list(tmp_path.glob("*damaged*"))


def test_what_the_diary_s_file_does_not_take_stops_nobody_and_is_written_down_later(tmp_path: Path) -> None:
    diary = Diary(tmp_path / "diary.sqlite", T0)
    with contextlib.closing(sqlite3.connect(tmp_path / "diary.sqlite")) as other:
        other.execute("ALTER TABLE steps RENAME TO hidden")
        diary.note("hot", FIRING | {"rule": [], "priority": 10**30}, T0 + 1000)
        diary.step(["hot"], T0 + 2000, "told", "pushover")
        assert diary.file.trouble
        other.execute("ALTER TABLE hidden RENAME TO steps")
    diary.file.heal()
    assert diary.file.trouble is None
    (one,) = diary.between(0, T0 + 9000)
    assert [(step.kind, step.time) for step in one.steps] == [("fires", T0 + 1000), ("told", T0 + 2000)]


def test_what_the_diary_can_never_hold_keeps_nothing_else_out(tmp_path: Path) -> None:
    diary = Diary(path := tmp_path / "diary.sqlite", T0)
    diary.note("\ud800", FIRING, T0)
    diary.note("hot", FIRING, T0)
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("ALTER TABLE alerts RENAME TO hidden")
        other.commit()
        for name in ("cold", "\ud800", "wet"):
            diary.note(name, FIRING, T0 + 1000)
        assert diary.file.trouble
        other.execute("ALTER TABLE hidden RENAME TO alerts")
    diary.file.heal()
    assert diary.file.trouble is None
    assert {one.name for one in diary.between(0, T0 + 9000)} == {"hot", "cold", "wet"}


def test_what_no_topic_says_any_more_is_over_in_the_diary_and_what_is_said_again_never_was(tmp_path: Path) -> None:
    diary = Diary(tmp_path / "diary.sqlite", T0)
    for name in ("gone", "forgotten", "hot"):
        diary.note(name, FIRING, T0)
    diary.note("gone", {}, T0 + 5000)
    diary.settle({"hot"}, T0 + 9000)
    assert {one.name: one.until for one in diary.between(0, T0 + 9999)} == {
        "gone": T0 + 5000,
        "forgotten": T0 + 9000,
        "hot": None,
    }
    diary.note("forgotten", FIRING, T0 + 9500)  # the broker had lost its memory
    (one,) = [one for one in diary.between(0, T0 + 9999) if one.name == "forgotten"]
    assert (one.until, [step.kind for step in one.steps]) == (None, ["fires"])


# -- a past moment --------------------------------------------------------------------------------------------------


def test_what_stood_at_one_moment_is_never_shown_under_the_time_of_another() -> None:
    node = shutil.which("node")
    if node is None:  # Playwright brings one
        driver = pytest.importorskip("playwright._impl._driver", reason="pip install playwright")
        node = driver.compute_driver_executable()[0]
    script = Path(__file__).parent / "page" / "moments.mjs"
    done = subprocess.run([node, script, FILES], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# -- links in messages ----------------------------------------------------------------------------------------------


def _permit(number: int, until: int) -> Permit:
    return Permit("pushover", str(number), until, (("hot", T0),))


def test_a_used_link_is_known_over_restarts_and_never_good_again_however_many_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permits, "MOST", 3)
    made = [_permit(number, T0 + 10_000 + number) for number in range(6)]
    tokens = [permit.signed(one, KEY) for one in made]
    for one, token in zip(made, tokens, strict=True):
        kept = Permits(tmp_path, KEY)
        assert kept.read(token, T0) == one
        kept.claim(one, T0)
        with pytest.raises(Refusal, match="used already"):
            kept.claim(one, T0)
    again = Permits(tmp_path, KEY)
    for token in tokens:
        with pytest.raises(Refusal) as refusal:
            again.read(token, T0)
        assert refusal.value.status == 410
    assert len(json.loads((tmp_path / "links.json").read_text())["until"]) == 3


def test_without_a_key_no_link_is_believed_not_even_one_that_bears_none(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="not made by this house"):
        Permits(tmp_path, "").read(permit.signed(_permit(1, T0 + 1000), ""), T0)


def test_a_link_has_room_for_some_alerts_and_counts_the_others() -> None:
    time = format_time(T0)
    names = tuple(f"cell_of_the_battery_in_the_shed_number_{number}" for number in range(12))
    link = permit.link_of(Notice(text="", time=time, rules=names, begun=(T0,) * 12), "1", "mail", "https://h/x/", KEY)
    assert link.startswith("https://h/x/link.html#")
    assert len(link) <= permit.LONGEST
    found = permit.read(link.partition("#")[2], KEY)
    assert 1 <= len(found.alerts) == 12 - found.more
    assert (found.notifier, found.until) == ("mail", T0 + permit.LASTS)
    assert not permit.link_of(Notice(text="", time=time, rules=names), "1", "mail", "https://h", KEY), "it is over"
    assert not permit.link_of(Notice(text="", time="", rules=("a",), begun=(T0,)), "1", "mail", "https://h", KEY)


def test_links_need_the_address_of_the_page_and_a_key_that_nobody_guesses(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text("subscribers: {web: {}, pushover: {links: secret:web.links}}\n")
    registry = Registry(path)
    assert "its `address:` below web:" in str(Pushover.check(registry, "pushover")[0])
    path.write_text("subscribers: {web: {address: 'https://house.example'}, pushover: {links: secret:web.links}}\n")
    assert Pushover.check(Registry(path), "pushover") == []
    with pytest.raises(StartError, match="32 at least"):
        permit.checked("short")


def test_a_change_may_come_by_the_address_that_topics_yaml_says() -> None:
    assert is_origin_of("https://house.example", "https://house.example/page/")
    assert is_origin_of("http://house.example:81", "http://House.example:81")
    for origin in (None, "", "null", "http://house.example", "https://house.example:1", "https://house.example.evil"):
        assert not is_origin_of(origin, "https://house.example/page/"), origin
    assert not is_origin_of("https://house.example", None)
