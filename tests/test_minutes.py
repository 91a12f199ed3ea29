"""Minutes, days and months of the archive: what they say, and that nothing that comes late makes them wrong."""

import random
import sqlite3
import weakref
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sql
from hypothesis import given, settings
from hypothesis import strategies as st

from services.stores import days as calendar
from services.stores import retention, schema
from services.stores.minutes import Point, compute, difference, step, switch_minutes
from services.stores.schema import MINUTE

PARIS = ZoneInfo("Europe/Paris")
T0 = 1_795_132_800_000  # 2026-11-20T00:00:00Z
DAY = 86_400_000
WATER, PUMP, METER, PHASE = 1, 2, 3, 4
TOPICS = [
    (WATER, "boiler/water/temperature", "°C", "gauge"),
    (PUMP, "boiler/pump/active", "", "switch"),
    (METER, "house/meter/energy", "kWh", "counter"),
    (PHASE, "boiler/burner/phase", "", "state"),
]


class Record:
    """A database of our own and what the archive does with it."""

    def __init__(self, folder: Path, zone: ZoneInfo = PARIS) -> None:
        self.engine = schema.open_database("sqlite:///{state}/archive.sqlite", folder)
        weakref.finalize(self, self.engine.dispose)
        sql.event.listen(self.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        schema.migrate(self.engine)
        with self.engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO topics VALUES (?, ?, ?, ?)", TOPICS)
        self.zone = zone
        self.hold = 30_000

    def store(self, topic: int, *readings: tuple[float, Any]) -> None:
        """Readings at seconds after T0."""
        rows = []
        for seconds, value in readings:
            word = value if isinstance(value, str) else None
            rows.append((T0 + round(seconds * 1000), topic, None if word else float(value), word))
        with self.engine.begin() as connection:
            schema.insert_rows(connection, schema.READINGS, rows)
            touched = list({(time - time % MINUTE, topic) for time, *_ in rows})
            schema.insert_rows(connection, schema.PENDING, touched)

    def clear(self, topic: int, seconds: float) -> None:
        time = T0 + round(seconds * 1000)
        with self.engine.begin() as connection:
            schema.insert_rows(connection, schema.CLEARINGS, [(topic, time)])
            schema.insert_rows(connection, schema.PENDING, [(time - time % MINUTE, topic)])

    def compute(self, horizon: int = 0) -> None:
        last: int | None = 0
        while last is not None:
            with self.engine.begin() as connection:
                last = compute(connection, T0 + 1000 * DAY, horizon, {PUMP: self.hold})

    def minutes(self, topic: int, *columns: str) -> list[tuple[Any, ...]]:
        names = ", ".join(f'"{column}"' for column in columns)
        query = f"SELECT (time - {T0}) / {MINUTE}, {names} FROM minutes WHERE topic = {topic} ORDER BY time"
        return self.query(query)

    def query(self, query: str) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def fill_calendar(self, now: int) -> None:
        with self.engine.begin() as connection:
            calendar.fill(connection, self.zone, now)


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = Record(tmp_path)
    yield record
    record.engine.dispose()


def test_a_gauge_has_mean_low_high_and_count_of_each_minute(record: Record) -> None:
    record.store(WATER, (0, 60.0), (20, 62.0), (59.999, 67.0), (60, 50.0))
    record.compute()
    assert record.minutes(WATER, "count", "mean", "low", "high") == [(0, 3, 63.0, 60.0, 67.0), (1, 1, 50.0, 50.0, 50.0)]


def test_late_and_repeated_readings_correct_the_minute_they_belong_to(record: Record) -> None:
    record.store(WATER, (0, 60.0), (40, 62.0), (70, 80.0))
    record.compute()
    record.store(WATER, (0, 60.0), (20, 70.0), (40, 62.0))
    record.compute()
    assert record.minutes(WATER, "count", "mean", "high") == [(0, 3, 64.0, 70.0), (1, 1, 80.0, 80.0)]


def test_a_state_keeps_its_last_word_of_the_minute(record: Record) -> None:
    record.store(PHASE, (50, "ignition"), (5, "off"), (61, "combustion"))
    record.compute()
    assert record.minutes(PHASE, "count", "word") == [(0, 2, "ignition"), (1, 1, "combustion")]


def test_a_switch_has_seconds_on_and_starts_across_minutes(record: Record) -> None:
    record.hold = 1_000_000
    record.store(PUMP, (0, False), (50, True), (190, False), (200, True), (210, False))
    record.compute()
    assert record.minutes(PUMP, "count", "high", "seconds_on", "starts") == [
        (0, 2, 1.0, 10.0, 1),
        (1, 0, 1.0, 60.0, 0),
        (2, 0, 1.0, 60.0, 0),
        (3, 3, 1.0, 20.0, 1),
    ]


def test_a_switch_that_falls_silent_is_on_no_longer_than_its_state_lasts(record: Record) -> None:
    record.store(PUMP, (0, True), (150, False))
    record.compute()
    assert record.minutes(PUMP, "seconds_on", "starts") == [(0, 30.0, 0), (2, 0.0, 0)]


def test_a_cleared_switch_is_neither_on_nor_off(record: Record) -> None:
    record.hold = 1_000_000
    record.store(PUMP, (0, True), (300, True))
    record.clear(PUMP, 70)
    record.compute()
    assert record.minutes(PUMP, "seconds_on") == [(0, 60.0), (1, 10.0), (5, 60.0)]


def test_a_late_off_of_a_switch_shortens_what_was_counted_as_on(record: Record) -> None:
    record.hold = 1_000_000
    record.store(PUMP, (0, True), (240, True), (250, False))
    record.compute()
    assert sum(seconds for _, seconds in record.minutes(PUMP, "seconds_on")) == 250.0
    record.store(PUMP, (30, False))
    record.compute()
    assert [seconds for _, seconds in record.minutes(PUMP, "seconds_on")] == [30.0, 0.0, 0.0, 0.0, 10.0]
    assert sum(starts for _, starts in record.minutes(PUMP, "starts")) == 1


@pytest.mark.parametrize(
    ("stands", "counted"),
    [
        ([100.0, 101.5, 103.0], 3.0),
        ([100.0, 101.0, 0.0, 0.5], 1.5),  # a reset
        ([100.0, 101.0, 2.0], 3.0),  # a reset, seen late
        ([100.0, 10.0], 10.0),  # at a tenth of its stand it is a reset still
        ([100.0, 10.1], 0.0),  # above that it is another meter
        ([100.0, 99.0], 0.0),
        ([8734.2, 8734.5, 5120.0, 5120.4], 0.7),  # an exchanged meter
        ([100.0, 99.9, 100.0], 0.1),  # a meter that rounds: no hundred is invented
        ([7.0], None),
        ([], None),
    ],
)
def test_the_difference_of_a_counter_survives_resets_and_an_exchanged_meter(
    stands: list[float], counted: float | None
) -> None:
    before, *rest = stands or [None]
    assert difference(before, rest) == counted


def test_a_counter_counts_from_minute_to_minute_and_over_a_silence(record: Record) -> None:
    record.store(METER, (0, 100.0), (30, 100.2), (70, 100.5), (7200, 103.5))
    record.compute()
    assert record.minutes(METER, "difference", "last") == [(0, 0.2, 100.2), (1, 0.3, 100.5), (120, 3.0, 103.5)]


def test_a_late_stand_of_a_counter_moves_what_was_counted_and_adds_nothing(record: Record) -> None:
    record.store(METER, (0, 100.0), (300, 110.0))
    record.compute()
    assert record.minutes(METER, "difference") == [(0, None), (5, 10.0)]
    record.store(METER, (130, 104.0))
    record.compute()
    assert record.minutes(METER, "difference") == [(0, None), (2, 4.0), (5, 6.0)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_in_whatever_order_and_groups_readings_come_the_minutes_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    dice = random.Random(seed)
    readings: list[tuple[int, float, Any]] = []
    for topic, value in (
        (WATER, lambda i: dice.randint(0, 9)),
        (PUMP, lambda i: dice.random() < 0.5),
        (METER, lambda i: i * 0.25),
        (PHASE, lambda i: dice.choice(["off", "on"])),
    ):
        moments = sorted(dice.sample(range(900), dice.randint(1, 12)))
        readings += [(topic, moment, value(index)) for index, moment in enumerate(moments)]
    found = []
    for _ in range(2):
        record = Record(tmp_path_factory.mktemp("record"))
        record.hold = 100_000
        for topic, moment, value in readings:
            record.store(topic, (moment, value))
            if dice.random() < 0.4:
                record.compute()
        record.compute()
        found.append(record.query("SELECT * FROM minutes ORDER BY topic, time"))
        record.engine.dispose()
        dice.shuffle(readings)
    assert found[0] == found[1]


def test_what_is_known_of_a_minute_is_not_replaced_by_a_late_part_of_it(record: Record) -> None:
    record.store(WATER, (0, 60.0), (30, 62.0))
    record.compute()
    for _ in retention.forget_raw(record.engine, T0 + DAY):
        pass
    assert record.query("SELECT count(*) FROM readings") == [(0,)]
    record.store(WATER, (0, 60.0))
    record.compute(horizon=T0 + DAY)
    assert record.minutes(WATER, "count", "mean") == [(0, 2, 61.0)]


def test_a_counter_is_followed_over_the_end_of_the_raw_readings(record: Record) -> None:
    record.store(METER, (0, 100.0))
    record.compute()
    for _ in retention.forget_raw(record.engine, T0 + DAY):
        pass
    record.store(METER, (9 * 86400, 140.0))
    record.compute(horizon=T0 + DAY)
    assert record.minutes(METER, "difference") == [(0, None), (9 * 1440, 40.0)]


def test_raw_readings_stay_until_their_minute_is_computed(record: Record) -> None:
    record.store(WATER, (0, 60.0), (100, 61.0))
    for _ in retention.forget_raw(record.engine, T0 + DAY):
        pass
    record.compute()
    assert [row[:2] for row in record.minutes(WATER, "count")] == [(0, 1), (1, 1)]


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-28", 24), ("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-26", 24)]
)
def test_local_days_are_as_long_as_the_clocks_make_them(day: str, hours: int) -> None:
    moment = date.fromisoformat(day)
    (found,) = calendar.local_days(moment, moment, PARIS)
    assert found.end - found.begin == hours * 3_600_000
    assert datetime.fromtimestamp(found.begin / 1000, PARIS).isoformat()[:16] == f"{day}T00:00"


def test_a_day_begins_where_its_midnight_is_skipped() -> None:
    (found,) = calendar.local_days(date(2026, 9, 6), date(2026, 9, 6), ZoneInfo("America/Santiago"))
    assert datetime.fromtimestamp(found.begin / 1000, UTC).isoformat()[:16] == "2026-09-06T04:00"
    assert found.end - found.begin == 23 * 3_600_000


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-07-01", 24)])
def test_days_and_months_follow_the_time_zone_and_its_clock_changes(record: Record, day: str, hours: int) -> None:
    begin = calendar.midnight(date.fromisoformat(day), PARIS)
    start = (begin - T0) // 1000
    every = [start + 1800 * i for i in range(-2, hours * 2 + 2)]  # an hour more on both sides
    record.store(METER, *((second, 100.0 + index) for index, second in enumerate(every)))
    record.store(WATER, *((second, 60.0) for second in every))
    record.compute()
    record.fill_calendar(begin + 3 * DAY)
    found = record.query(f"SELECT name, count, difference FROM days WHERE day = '{day}' ORDER BY name")
    assert found == [("boiler/water/temperature", hours * 2, None), ("house/meter/energy", hours * 2, hours * 2.0)]
    ((total,),) = record.query("SELECT sum(difference) FROM months WHERE name = 'house/meter/energy'")
    assert total == len(every) - 1


def test_days_show_states_and_switches_and_use_the_index(record: Record) -> None:
    record.store(PHASE, (3600, "off"), (7200, "combustion"))
    record.store(PUMP, (3600, False), (3610, True), (3630, False))
    record.compute()
    record.fill_calendar(T0 + DAY)
    assert record.query("SELECT word FROM days WHERE name = 'boiler/burner/phase' AND day = '2026-11-20'") == [
        ("combustion",)
    ]
    assert record.query("SELECT seconds_on, starts FROM months WHERE name = 'boiler/pump/active'") == [(20.0, 1)]
    plan = record.query(
        "EXPLAIN QUERY PLAN SELECT mean FROM days WHERE name = 'boiler/water/temperature' AND day >= '2026-11-01'"
    )
    text = "\n".join(str(row[-1]) for row in plan)
    assert "SEARCH m USING PRIMARY KEY (topic=? AND time>? AND time<?)" in text, text
    assert "SEARCH t" in text, text
    assert "SEARCH c" in text, text


def test_another_time_zone_makes_a_new_calendar(record: Record) -> None:
    record.fill_calendar(T0)
    first = record.query("SELECT begin FROM calendar WHERE day = '2026-11-20'")
    record.zone = ZoneInfo("Asia/Tokyo")
    record.fill_calendar(T0)
    assert first == [(T0 - 3_600_000,)]
    assert record.query("SELECT begin FROM calendar WHERE day = '2026-11-20'") == [(T0 - 9 * 3_600_000,)]


def test_a_person_reads_names_units_and_iso_times(record: Record) -> None:
    record.store(WATER, (0.12, 61.4))
    record.store(PUMP, (1, True))
    record.store(PHASE, (2, "off"))
    assert record.query("SELECT name, time, value, unit FROM readings_by_name ORDER BY ms") == [
        ("boiler/water/temperature", "2026-11-20T00:00:00.120Z", 61.4, "°C"),
        ("boiler/pump/active", "2026-11-20T00:00:01.000Z", "true", ""),
        ("boiler/burner/phase", "2026-11-20T00:00:02.000Z", "off", ""),
    ]


FIRST_FORMAT = """
CREATE TABLE topics (id INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, unit TEXT NOT NULL, kind TEXT NOT NULL);
CREATE TABLE readings (topic INTEGER NOT NULL REFERENCES topics (id), time BIGINT NOT NULL, value FLOAT, word TEXT,
                       PRIMARY KEY (topic, time)) WITHOUT ROWID;
CREATE TABLE clearings (topic INTEGER NOT NULL, time BIGINT NOT NULL, PRIMARY KEY (topic, time)) WITHOUT ROWID;
CREATE TABLE marks (source TEXT NOT NULL, stream TEXT NOT NULL, number BIGINT NOT NULL, PRIMARY KEY (source, stream)) WITHOUT ROWID;
"""


def test_an_archive_of_the_first_format_is_brought_to_this_one_with_all_its_readings(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "archive.sqlite")
    old.executescript(f"PRAGMA journal_mode=WAL;{FIRST_FORMAT}")
    old.execute("INSERT INTO topics VALUES (7, 'boiler/water/temperature', '°C', 'gauge')")
    old.executemany("INSERT INTO readings VALUES (7, ?, ?, NULL)", [(T0 + 1000 * i, float(i)) for i in range(120)])
    old.execute("INSERT INTO marks VALUES ('onewire', 'ab', 120)")
    old.commit()
    old.close()
    engine = schema.open_database("sqlite:///{state}/archive.sqlite", tmp_path)
    schema.migrate(engine)
    schema.migrate(engine)
    with engine.begin() as connection:
        assert compute(connection, T0 + DAY, 0, {}) == T0 + MINUTE
    with engine.connect() as connection:
        counts = connection.exec_driver_sql("SELECT count, mean FROM minutes WHERE topic = 7").fetchall()
        assert [tuple(row) for row in counts] == [(60, 29.5), (60, 89.5)]
        assert connection.exec_driver_sql("SELECT number FROM marks").scalar_one() == 120
        assert connection.exec_driver_sql("PRAGMA auto_vacuum").scalar_one() == 2
        migrated = shape(connection)
    engine.dispose()
    engine.dispose()
    (tmp_path / "new").mkdir()
    fresh = Record(tmp_path / "new")
    with fresh.engine.connect() as connection:
        assert shape(connection) == migrated
    fresh.engine.dispose()


def shape(connection: sql.Connection) -> list[Any]:
    rows = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master ORDER BY type, name")
    return [tuple(row) for row in rows]


def test_an_archive_of_a_later_version_is_left_alone(record: Record) -> None:
    with record.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA user_version=99")
        connection.commit()
    with pytest.raises(schema.FormatError, match="format 99"):
        schema.migrate(record.engine)


def test_the_budget_takes_old_raw_readings_first_then_old_minutes_and_never_the_last_eight_days(record: Record) -> None:
    record.store(WATER, *((3600 * i, 20.0) for i in range(30 * 24)))
    record.compute()
    now = T0 + 30 * DAY
    kinds = []
    while (work := retention.shorten(record.engine, now)) is not None:
        before = record.query("SELECT count(*) FROM minutes")
        for _ in work:
            pass
        kinds.append("raw" if record.query("SELECT count(*) FROM minutes") == before else "minutes")
    assert kinds == sorted(kinds, reverse=True)
    assert set(kinds) == {"raw", "minutes"}
    assert record.query("SELECT count(*) FROM readings") == [(8 * 24,)]
    assert record.query("SELECT count(*) FROM minutes") == [(8 * 24,)]


def test_room_is_given_back_to_the_file_system_in_slices(record: Record, tmp_path: Path) -> None:
    record.store(WATER, *((i / 10, 20.0) for i in range(200_000)))
    with record.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM pending")
    record.query("PRAGMA wal_checkpoint(TRUNCATE)")
    large = (tmp_path / "archive.sqlite").stat().st_size
    assert sum(1 for _ in retention.forget_raw(record.engine, T0 + DAY)) > 50
    assert sum(1 for _ in retention.give_back(record.engine)) > 2
    record.query("PRAGMA wal_checkpoint(TRUNCATE)")
    assert (tmp_path / "archive.sqlite").stat().st_size < large / 3


def test_a_step_back_is_never_negative() -> None:
    assert step(10.0, 9.5) == 0.0
    assert step(10.0, 0.5) == 0.5


def test_switch_minutes_need_no_state_before_the_first() -> None:
    (only,) = switch_minutes(None, [Point(5000, True)], MINUTE, 0, MINUTE)
    assert (only.seconds_on, only.starts, only.count) == (55.0, 0, 1)
