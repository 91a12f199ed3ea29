"""Hours of the archive: whatever happens to minutes, hours, days and months are those that other code makes of them."""

import random
import sqlite3
import time
import weakref
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sql

from services.page import buckets
from services.stores import backup, hours, renaming, retention, retiming, schema
from services.stores import days as calendar
from services.stores.database import Database
from services.stores.minutes import compute
from services.stores.schema import MINUTE
from services.stores.upkeep import Upkeep
from services.stores.views import TRIGGERS

HOUR, DAY = 60 * MINUTE, 1440 * MINUTE
T0 = 1_790_000_000_000 - 1_790_000_000_000 % DAY
"""2026-09-21; clocks change in Lord Howe on 3 October, in Paris on 25 October."""
TOPICS = [
    (1, "shed/water/temperature", "°C", "gauge"),
    (2, "shed/pump/active", "", "switch"),
    (3, "shed/meter/energy", "kWh", "counter"),
    (4, "shed/heater/phase", "", "state"),
    (5, "barn/water/temperature", "°C", "gauge"),
]
ZONES = ["Europe/Paris", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "UTC"]
SUMS = ("count", "difference", "seconds_on", "starts")


class Shed:
    """An archive's file, and the acts of those who write into it."""

    def __init__(self, folder: Path, zone: str) -> None:
        folder.mkdir(exist_ok=True)
        self.path = folder / "archive.sqlite"
        self.engine = schema.open_file(self.path)
        weakref.finalize(self, self.engine.dispose)
        sql.event.listen(self.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        schema.migrate(self.engine)
        with self.engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO topics VALUES (?, ?, ?, ?)", TOPICS)
        self.now = T0
        self.move_to(zone)

    def move_to(self, zone: str) -> None:
        self.zone = ZoneInfo(zone)
        with self.engine.begin() as connection:
            calendar.fill(connection, self.zone, self.now)

    def store(self, rows: list[tuple[int, int, Any]]) -> None:
        """Rows are topic, time (ms), value."""
        found = [
            (t, n, None if isinstance(v, str) else float(v), v if isinstance(v, str) else None) for n, t, v in rows
        ]
        with self.engine.begin() as connection:
            schema.insert_rows(connection, schema.READINGS, found)
            schema.insert_rows(connection, schema.PENDING, list({(t - t % MINUTE, n) for n, t, _ in rows}))
            calendar.fill(connection, self.zone, self.now)

    def compute(self, until: int, break_off: bool = False) -> None:
        with self.engine.connect() as connection:
            while compute(connection, until, 0, {2: 20 * MINUTE}) is not None:
                pass
            if break_off:
                connection.rollback()
            connection.commit()

    def advance(self, most: int = 10_000) -> None:
        with self.engine.begin() as connection:
            for _ in range(most):
                if hours.advance(hours.below(connection), self.now) is not None:
                    return

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query, values)]

    @property
    def until(self) -> int:
        found = self.ask("SELECT value FROM settings WHERE name = 'hours'")
        return int(found[0][0]) if found else 0

    def minutes(self) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.exec_driver_sql("SELECT * FROM minutes ORDER BY time").mappings()]

    def check(self) -> None:
        """Hours, days and months against what is made of the minutes here."""
        minutes, reached = self.minutes(), self.until
        of_hours: dict[Any, list[dict[str, Any]]] = {}
        periods: dict[str, dict[Any, list[dict[str, Any]]]] = {"day": {}, "month": {}}
        for row in minutes:
            local = datetime.fromtimestamp(row["time"] / 1000, self.zone)
            name = next((name, unit) for number, name, unit, _ in TOPICS if number == row["topic"])
            for period, length in (("day", 10), ("month", 7)):
                periods[period].setdefault((*name, local.date().isoformat()[:length]), []).append(row)
            if row["time"] < reached:
                begin = round(datetime.combine(local.date(), datetime.min.time(), self.zone).timestamp() * 1000)
                of_hours.setdefault((row["topic"], row["time"] - (row["time"] - begin) % HOUR), []).append(row)
        columns = "topic, time, minutes, count, mean, low, high, last, difference, seconds_on, starts, word"
        found = {row[:2]: row[2:] for row in self.ask(f"SELECT {columns} FROM hours WHERE time < ?", reached)}
        assert found.keys() == of_hours.keys()
        for key, rows in of_hours.items():
            made = together(rows)
            expected: tuple[Any, ...] = (
                len(rows),
                made["count"],
                made["mean"],
                made["low"],
                made["high"],
                made["last"],
            )
            expected += (made["difference"], made["seconds_on"], made["starts"], made["word"])
            assert alike(found[key], expected), (key, found[key], expected)
        for period, groups in periods.items():
            columns = f"name, unit, {period}, count, mean, low, high, difference, seconds_on, starts, word"
            seen = {row[:3]: row[3:] for row in self.ask(f"SELECT {columns} FROM {period}s")}
            assert seen.keys() == groups.keys()
            for key, rows in groups.items():
                made = together(rows)
                expected = tuple(made[name] for name in columns.split(", ")[3:])
                assert alike(seen[key], expected), (key, seen[key], expected)


def alike(found: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    """Whether values are the same but for the noise of additions."""
    pairs = zip(found, expected, strict=True)
    return all(
        a == b or (isinstance(a, float) and b is not None and abs(a - b) < 1e-9 * max(1, abs(b))) for a, b in pairs
    )


def together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What minutes, in the order of time, are as one row."""

    def known(name: str) -> list[Any]:
        return [row[name] for row in rows if row[name] is not None]

    made: dict[str, Any] = {name: sum(known(name)) if known(name) else None for name in SUMS}
    made["mean"] = sum(known("mean")) / len(known("mean")) if known("mean") else None
    made["low"], made["high"] = min(known("low"), default=None), max(known("high"), default=None)
    made["last"], made["word"] = ([None, *known("last")])[-1], ([None, *known("word")])[-1]
    return made


@pytest.fixture
def shed(tmp_path: Path) -> Iterator[Shed]:
    shed = Shed(tmp_path / "shed", "Europe/Paris")
    yield shed
    shed.engine.dispose()


def some(chance: random.Random, begin: int, end: int, count: int) -> list[tuple[int, int, Any]]:
    """Readings of all topics at random times."""
    rows: list[tuple[int, int, Any]] = []
    for _ in range(count):
        number, moment = chance.randint(1, 5), chance.randrange(begin, end)
        values: dict[int, Any] = {
            2: chance.random() < 0.5,
            3: (moment - T0) / HOUR,
            4: chance.choice(("off", "burning")),
        }
        rows.append((number, moment, values.get(number, round(chance.uniform(-20, 90), 1))))
    return rows


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.whole) for seed in range(2, 8))])
def test_whatever_comes_in_whatever_order_hours_are_what_minutes_say(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    shed, other = (Shed(tmp_path / name, ZONES[(seed + n) % 6]) for n, name in enumerate(("shed", "other")))
    shed.now, seen = T0 + 11 * DAY, set()
    acts = ("live", "live", "live", "late", "again", "restore", "move", "kill", "catch up", "clock", "rename")
    for _ in range(15):
        act = chance.choice(acts)
        seen.add(act)
        rows: list[tuple[int, int, Any]] = []
        match act:
            case "live":
                before, shed.now = shed.now, shed.now + chance.randrange(MINUTE, 9 * HOUR)
                rows = some(chance, before, shed.now, 60)
            case "late":
                rows = some(chance, T0 + 9 * DAY, shed.now, 20)
            case "again":
                rows = [(n, t, w if v is None else v) for t, n, v, w in shed.ask("SELECT * FROM readings LIMIT 30")]
            case "restore":
                other.now = shed.now
                other.store(some(chance, T0 + 8 * DAY, shed.now, 60))
                other.compute(shed.now)
                other.advance()
                backup.take_in(shed.path, other.path, {})
            case "move":
                shed.move_to(chance.choice(ZONES))
            case "kill":
                shed.store(some(chance, T0 + 9 * DAY, shed.now, 10))
                shed.compute(shed.now, break_off=True)
            case "catch up":
                shed.advance(3)
            case "clock":
                shed.now -= chance.randrange(5 * HOUR)
            case "rename":
                for step, _ in enumerate(renaming.move(shed.engine, 5, 1)):
                    if step % 100 == 0:
                        shed.check()
                with shed.engine.begin() as connection:
                    connection.exec_driver_sql("INSERT INTO topics VALUES (?, ?, ?, ?)", TOPICS[4:])
        shed.check()
        if rows:
            shed.store(rows)
        if chance.random() < 0.8:
            shed.compute(shed.now)
            shed.check()
            shed.advance()
            shed.check()
    assert len(seen) > 5
    assert shed.until > T0
    assert shed.ask("SELECT count(*) FROM hours")[0][0] > 50
    for each in (shed, other):
        each.engine.dispose()


@pytest.mark.parametrize(("zone", "minute"), [("Asia/Kolkata", 30), ("Asia/Kathmandu", 45), ("Europe/Paris", 0)])
def test_an_hour_lies_in_one_local_day_in_every_zone(tmp_path: Path, zone: str, minute: int) -> None:
    shed = Shed(tmp_path / "shed", zone)
    shed.store([(1, T0 + n * 5 * MINUTE, float(n)) for n in range(600)])
    shed.now = T0 + 3 * DAY
    shed.compute(shed.now)
    shed.advance()
    begins = {datetime.fromtimestamp(t / 1000, UTC).minute for (t,) in shed.ask("SELECT time FROM hours")}
    assert begins == {(60 - minute) % 60}
    shed.check()
    shed.engine.dispose()


def test_a_day_of_half_an_hour_more_has_an_hour_of_its_own_for_it(tmp_path: Path) -> None:
    shed = Shed(tmp_path / "shed", "Australia/Lord_Howe")
    begin = T0 + 12 * DAY
    shed.store([(1, begin + n * MINUTE, 1.0) for n in range(2 * 1440)])
    shed.now = begin + 3 * DAY
    shed.compute(shed.now)
    shed.advance()
    lengths = [row[0] for row in shed.ask("SELECT minutes FROM hours ORDER BY time")]
    assert lengths.count(60) == 47
    assert 30 in lengths[1:-1], "the day on which clocks change by half an hour has 23.5 hours"
    shed.check()
    shed.engine.dispose()


def test_an_hour_outlives_its_minutes_and_a_late_minute_does_not_take_its_place(shed: Shed) -> None:
    shed.store([(1, T0 + n * MINUTE, 20.0) for n in range(600)])
    shed.now = T0 + 2 * DAY
    shed.compute(shed.now)
    shed.advance()
    before = shed.ask("SELECT day, count, mean FROM days"), shed.ask("SELECT month, count, mean FROM months")
    assert sum(row[1] for row in before[0]) == 600
    for _ in retention.forget_minutes(shed.engine, T0 + 5 * HOUR):
        pass
    with shed.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM readings")
    assert shed.ask("SELECT count(*) FROM minutes") == [(300,)]
    shed.store([(1, T0 + 90 * MINUTE, 99.0)])
    shed.compute(shed.now)
    assert shed.ask("SELECT count(*) FROM minutes") == [(301,)]
    assert (shed.ask("SELECT day, count, mean FROM days"), shed.ask("SELECT month, count, mean FROM months")) == before


def test_an_hour_goes_with_all_of_its_minutes_or_with_none(shed: Shed) -> None:
    shed.store([(1, T0 + n * MINUTE, 20.0) for n in range(300)])
    shed.now = T0 + 2 * DAY
    shed.compute(shed.now)
    shed.advance()
    for _ in retention.forget_minutes(shed.engine, T0 + 2 * HOUR + 37 * MINUTE):
        pass
    assert shed.ask("SELECT min(time), count(*) FROM minutes") == [(T0 + 2 * HOUR, 180)]
    for _ in retention.forget_raw(shed.engine, T0 + 30_500):
        pass
    assert shed.ask("SELECT count(*) FROM readings") == [(300,)], "half a minute does not go"


def test_hours_that_outlived_their_minutes_come_back_with_a_backup_and_a_new_name(shed: Shed, tmp_path: Path) -> None:
    shed.store([(5, T0 + n * MINUTE, 20.0) for n in range(600)])
    shed.now = T0 + 2 * DAY
    shed.compute(shed.now)
    shed.advance()
    days = shed.ask("SELECT day, count, mean FROM days")
    for _ in retention.forget_minutes(shed.engine, T0 + DAY):
        pass
    with shed.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM readings")
    backup.back_up(shed.path, tmp_path / "copy.sqlite")
    new = Shed(tmp_path / "new", "Europe/Paris")
    new.now = shed.now
    new.advance()
    assert backup.take_in(new.path, tmp_path / "copy.sqlite", {"barn/water/temperature": "shed/water/temperature"}) == 0
    new.advance()
    assert new.ask("SELECT day, count, mean FROM days WHERE name = 'shed/water/temperature'") == days
    list(renaming.move(shed.engine, 5, 1))
    assert shed.ask("SELECT day, count, mean FROM days WHERE name = 'shed/water/temperature'") == days
    assert shed.ask("SELECT count(*) FROM days") == [(len(days),)]
    new.engine.dispose()


def test_a_clock_that_was_wrong_leaves_hours_as_they_should_be(shed: Shed) -> None:
    shed.store([(1, T0 + n * MINUTE, 20.0) for n in range(100)])
    shed.now = T0 + 20 * DAY
    shed.compute(shed.now)
    shed.advance()
    assert shed.until > T0 + 19 * DAY
    shed.now = T0 + 100 * MINUTE
    shed.advance()
    assert shed.until <= shed.now
    shed.check()


def test_an_archive_of_the_second_format_learns_its_hours_beside_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.stores.upkeep.SHARE", 0.005)  # a fast machine does it all in the true share
    shed = Shed(tmp_path, "Europe/Paris")
    shed.now = T0 + 15 * DAY
    with shed.engine.begin() as connection:
        rows = [(1, T0 + n * MINUTE, 1, float(n), float(n), float(n)) for n in range(15 * 1440)]
        connection.exec_driver_sql(
            "INSERT INTO minutes (topic, time, count, mean, low, high) VALUES (?,?,?,?,?,?)", rows
        )
        shape = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
        before = connection.exec_driver_sql(shape).fetchall()
        for gone in ("TABLE hours", "TABLE due", "VIEW hours_by_name", "INDEX calendar_months"):
            connection.exec_driver_sql(f"DROP {gone}")
        for name in TRIGGERS:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql("PRAGMA user_version=2")
    shed.engine.dispose()
    shed.path.rename(tmp_path / "copy.sqlite")
    copy = sqlite3.connect(tmp_path / "copy.sqlite")
    copy.execute("PRAGMA journal_mode=DELETE")
    copy.close()
    database = Database("sqlite:///{state}/old.sqlite", tmp_path)
    database.close()
    (tmp_path / "copy.sqlite").rename(tmp_path / "old.sqlite")
    database = Database("sqlite:///{state}/old.sqlite", tmp_path)
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql(shape).fetchall() == before
    shed.engine, upkeep = database.engine, Upkeep(database, tmp_path, ZoneInfo("Europe/Paris"))
    turns = 0
    reached: list[int] = []
    while not reached or reached[-1] < shed.now - HOUR:
        began = time.thread_time()
        upkeep.turn(shed.now, 8 * 86400, 3650 * 86400, 10**12)
        assert time.thread_time() - began < 0.5, "a commit would have waited"
        reached.append(shed.until)
        turns += 1
        if turns < 4:
            shed.check()
        assert turns < 1000
    assert turns > 1, "all of it in one turn"
    shed.check()
    shed.engine.dispose()


def test_a_backup_of_the_second_format_is_taken_in(shed: Shed, tmp_path: Path) -> None:
    old = Shed(tmp_path / "old", "Europe/Paris")
    old.store([(1, T0 + n * MINUTE, 20.0) for n in range(600)])
    old.now = shed.now = T0 + 2 * DAY
    old.compute(old.now)
    with old.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE hours")
        connection.exec_driver_sql("PRAGMA user_version=2")
    old.engine.dispose()
    shed.advance()
    assert backup.take_in(shed.path, old.path, {}) == 600
    shed.check()
    assert sum(row[0] for row in shed.ask("SELECT count FROM days")) == 600
    assert shed.ask("SELECT count(*) FROM hours") == [(10,)], "what came is in hours at once"


def test_the_page_counts_and_draws_the_same_from_hours_as_from_minutes(tmp_path: Path) -> None:
    shed = Shed(tmp_path / "shed", "Asia/Kolkata")
    chance = random.Random(7)
    shed.store(some(chance, T0, T0 + 6 * DAY, 3000))
    shed.now = T0 + 7 * DAY
    shed.compute(shed.now)
    offset = round(5.5 * HOUR)
    spans = [(T0 + chance.randrange(DAY), T0 + chance.randrange(3 * DAY, 6 * DAY)) for _ in range(20)]
    spans += [(T0 - offset + DAY, T0 - offset + 4 * DAY), (T0 + HOUR, T0 + 3 * DAY)]

    def seen() -> list[Any]:
        with closing(sqlite3.connect(shed.path)) as db, db:
            drawn = [
                list(
                    buckets.rows_of(
                        db, [buckets.UnitRows(number)], kind, T0 - offset + DAY, T0 - offset + 5 * DAY, step, offset
                    )
                )
                for number, kind in ((1, "gauge"), (2, "switch"), (3, "counter"))
                for step in (HOUR, 3 * HOUR, DAY)
            ]
            return [*drawn, [buckets.counted(db, [buckets.UnitRows(3)], *span) for span in spans]]

    from_minutes = seen()
    shed.advance()
    for one, two in zip(from_minutes, seen(), strict=True):
        assert len(one) == len(two)
        assert all(
            a == pytest.approx(b) if isinstance(a, float) else alike(a[:2], b[:2])
            for a, b in zip(one, two, strict=True)
        )
    shed.engine.dispose()


@pytest.mark.parametrize(
    "by", [None, 3 * DAY + 7 * MINUTE, *(pytest.param(by, marks=pytest.mark.whole) for by in (-90 * MINUTE, 1234))]
)
def test_readings_of_a_false_time_are_gone_from_hours_too(shed: Shed, by: int | None) -> None:
    chance = random.Random(3)
    shed.now = T0 + 8 * DAY
    shed.store([*some(chance, T0, T0 + 4 * DAY, 2000), (1, T0 + 7 * DAY, 5.0)])
    shed.compute(shed.now)
    shed.advance()
    names = [TOPICS[0][1], TOPICS[2][1], TOPICS[3][1]]
    retiming.change(shed.path, names, T0 + DAY + 17 * MINUTE, T0 + 2 * DAY + 40 * MINUTE, by)
    shed.check()
    shed.compute(shed.now)
    shed.check()
    shed.advance()
    shed.check()


def test_days_of_one_topic_read_no_other_ones_rows(shed: Shed) -> None:
    for period in ("days", "months"):
        plan = shed.ask(f"EXPLAIN QUERY PLAN SELECT * FROM {period} WHERE name = 'shed/water/temperature'")
        text = [str(row[-1]) for row in plan]
        assert sum(line.startswith("SEARCH t USING") for line in text) == 2, "\n".join(text)
        assert not [line for line in text if line.startswith(("SCAN t ", "SCAN m ", "SCAN h ", "USE TEMP"))]


def test_a_moment_before_the_calendar_waits_for_it(shed: Shed) -> None:
    shed.now = T0 + DAY
    shed.advance()
    long_ago = T0 - 400 * DAY
    with shed.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO minutes (topic, time, count, mean) VALUES (1, ?, 1, 5)", (long_ago,))
        hours.correct(hours.below(connection))
    assert shed.ask("SELECT count(*) FROM due") == [(1,)]
    with shed.engine.begin() as connection:
        calendar.fill(connection, shed.zone, shed.now)
    assert shed.ask("SELECT count(*) FROM due") == [(0,)]
    day = (datetime.fromtimestamp(long_ago / 1000, shed.zone) + timedelta()).date().isoformat()
    assert shed.ask("SELECT day, count, mean FROM days") == [(day, 1, 5.0)]
