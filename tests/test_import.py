"""Histories of other programs: what comes in is right in minutes, hours and days, comes in once, and never over what is there."""

import hashlib
import itertools
import math
import os
import random
import sqlite3
import subprocess
import sys
import time
import weakref
from contextlib import closing, redirect_stderr, redirect_stdout
from datetime import date, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest
import rrdtool
import sqlalchemy as sql
from harness import PROJECT, Ear, House, wait_for
from voices import Voice, ask_database, now

from bootstrap_lib import Registry, cli
from services.histories.conversion import Kept
from services.histories.taking import Taking
from services.stores import days as calendar
from services.stores import hours, schema
from services.stores.schema import MINUTE

HOUR, DAY = 60 * MINUTE, 1440 * MINUTE
WATER, METER, PUMP, PHASE = (
    "boiler/water/temperature",
    "house/meter/energy",
    "boiler/pump/active",
    "boiler/burner/phase",
)
TOPICS = f"""
timezone: ZONE
sources: {{onewire: {{}}}}
subscribers: {{archive: {{commit: 50ms, every: 100ms, heartbeat: 300ms}}}}
topics:
  {WATER}: {{from: onewire, label: Kesselwasser}}
  {METER}: {{from: onewire}}
  {PUMP}: {{from: onewire}}
  {PHASE}: {{from: onewire, states: [off, combustion, arret, maintien]}}
  shed/text/text: {{from: onewire}}
"""
PARIS = ZoneInfo("Europe/Paris")


def local(text: str, zone: ZoneInfo = PARIS) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


class Past:
    """An archive's file of a house that stands still, and the command."""

    def __init__(self, folder: Path, zone: str = "Europe/Paris") -> None:
        self.folder, self.zone = folder, ZoneInfo(zone)
        folder.mkdir(exist_ok=True)
        self.config = folder / "topics.yaml"
        self.config.write_text(TOPICS.replace("ZONE", zone))
        self.path = folder / "archive.sqlite"
        self.engine = schema.open_file(self.path)
        weakref.finalize(self, self.engine.dispose)
        sql.event.listen(self.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        schema.migrate(self.engine)
        with self.engine.begin() as connection:
            calendar.fill(connection, self.zone, now())
        self.advance()

    def advance(self) -> None:
        with self.engine.begin() as connection:
            while hours.advance(hours.below(connection), now()) is None:
                pass

    def do(self, verb: str, *words: object) -> subprocess.CompletedProcess[str]:
        out, errors = StringIO(), StringIO()
        command = ["--config", str(self.config), verb, *map(str, words)]
        with (
            patch.dict(os.environ, {"STATE_DIRECTORY": str(self.folder)}),
            redirect_stdout(out),
            redirect_stderr(errors),
        ):
            code = cli.main(command)
        return subprocess.CompletedProcess(command, code, out.getvalue(), errors.getvalue())

    def take(self, *words: object) -> str:
        done = self.do("import", *words, "--scratch", self.folder)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def all(self) -> list[Any]:
        return [self.ask(f"SELECT * FROM {table} ORDER BY topic, time") for table in ("minutes", "hours", "readings")]


@pytest.fixture
def past(tmp_path: Path) -> Path:
    return Past(tmp_path / "past")


def write_csv(path: Path, rows: list[tuple[str, object]]) -> Path:
    path.write_text("time,value\n" + "".join(f"{moment},{value}\n" for moment, value in rows))
    return path


@pytest.mark.parametrize("zone", ["Europe/Paris", "Asia/Kolkata"])
def test_minutes_hours_days_and_months_are_those_of_the_values_and_twice_is_once(tmp_path: Path, zone: str) -> None:
    past = Past(tmp_path / "past", zone)
    first, chance = local("2024-10-20T03:07:11", past.zone), random.Random(4)
    values = [(first + n * 17 * MINUTE + chance.randrange(MINUTE), 20 + 10 * math.sin(n / 50)) for n in range(3000)]
    shuffled = values.copy()
    chance.shuffle(shuffled)
    file = write_csv(tmp_path / "old.csv", [(f"{t / 1000:.3f}", round(v, 3)) for t, v in shuffled])
    shown = past.take(file, "--map", f"old={WATER}")
    assert "3000 rows: 3000 minutes and 0 hours" in shown
    assert "▇" in shown
    assert "nothing was written" in shown
    assert past.ask("SELECT count(*) FROM minutes") == [(0,)]
    assert "written: 3000 minutes and 0 hours; 0 were there already" in past.take(
        file, "--map", f"old={WATER}", "--write"
    )
    expected: dict[str, list[float]] = {}
    for moment, value in values:
        expected.setdefault(datetime.fromtimestamp(moment / 1000, past.zone).date().isoformat(), []).append(
            round(value, 3)
        )
    found = past.ask(f"SELECT day, count, low, high, mean FROM days WHERE name = '{WATER}' ORDER BY day")
    assert [row[0] for row in found] == sorted(expected)
    for day, count, low, high, mean in found:
        those = expected[day]
        assert (count, low, high) == (len(those), min(those), max(those))
        assert mean == pytest.approx(sum(those) / len(those))
    assert past.ask("SELECT count(*) FROM due") == [(0,)], "no hour waits"
    of_hours = "SELECT count(*), sum(minutes) FROM hours"
    assert past.ask(of_hours)[0][1] == 3000
    before = past.all()
    assert "written: 0 minutes and 0 hours; 3000 were there already" in past.take(
        file, "--map", f"old={WATER}", "--write"
    )
    assert past.all() == before


def test_what_the_archive_has_already_stays_as_it_is(past: Past, tmp_path: Path) -> None:
    moment = local("2025-05-05T12:00:00")
    one = write_csv(tmp_path / "one.csv", [(moment // 1000, 20.0)])
    past.take(one, "--map", f"one={WATER}", "--write")
    more = write_csv(tmp_path / "more.csv", [(moment // 1000 + n, 50.0) for n in range(120)])
    assert "written: 1 minutes and 0 hours; 1 were there" in past.take(more, "--map", f"more={WATER}", "--write")
    assert past.ask("SELECT time, count, mean FROM minutes ORDER BY time") == [
        (moment, 1, 20.0),
        (moment + MINUTE, 60, 50.0),
    ]


def test_a_counter_counts_once_however_its_files_are_cut_and_ordered(past: Past, tmp_path: Path) -> None:
    first, chance = local("2025-03-29T22:00:00"), random.Random(7)
    stands, stand = [], 100.0
    for n in range(600):
        stand = 0.0 if n == 400 else round(stand + chance.choice((0, 0.25, 1.5)), 2)  # a reset
        stands.append((first + n * 5 * MINUTE, stand))
    whole = sum(b - a if b >= a else b for (_, a), (_, b) in itertools.pairwise(stands))
    parts = [stands[n::3] for n in range(3)]  # each lies between the others
    for number, part in enumerate((parts[1], parts[2], parts[0])):
        file = write_csv(tmp_path / f"part{number}.csv", [(t // 1000, v) for t, v in part])
        for _ in range(2):
            past.take(file, "--map", f"part{number}={METER}", "--write")
    assert past.ask("SELECT sum(difference), count(difference) FROM minutes")[0] == (pytest.approx(whole), 599)
    assert past.ask(f"SELECT sum(difference) FROM days WHERE name = '{METER}'")[0][0] == pytest.approx(whole)


def test_a_recorder_of_home_assistant_comes_with_statistics_of_years_and_states_of_days(
    past: Past, tmp_path: Path
) -> None:
    file, first = tmp_path / "home-assistant_v2.db", local("2023-06-01T00:00:00")
    recent = now() // HOUR * HOUR - 48 * HOUR
    with closing(sqlite3.connect(file)) as database, database:
        database.executescript("""
            CREATE TABLE statistics_meta (id INTEGER PRIMARY KEY, statistic_id, source, unit_of_measurement, has_mean, has_sum);
            CREATE TABLE statistics (id INTEGER PRIMARY KEY, metadata_id, start_ts, mean, min, max, state, sum);
            CREATE TABLE statistics_short_term (id INTEGER PRIMARY KEY, metadata_id, start_ts, mean, min, max, state, sum);
            CREATE TABLE states_meta (metadata_id INTEGER PRIMARY KEY, entity_id);
            CREATE TABLE state_attributes (attributes_id INTEGER PRIMARY KEY, shared_attrs);
            CREATE TABLE states (state_id INTEGER PRIMARY KEY, metadata_id, state, last_updated_ts, attributes_id);
            INSERT INTO statistics_meta VALUES (1, 'sensor.boiler_water_temperature', 'recorder', '°F', 1, 0);
            INSERT INTO statistics_meta VALUES (2, 'sensor.meter_energy', 'recorder', 'Wh', 0, 1);
            INSERT INTO states_meta VALUES (1, 'binary_sensor.pump'), (2, 'sensor.burner'), (3, 'sensor.boiler_water_temperature');
            INSERT INTO state_attributes VALUES (1, '{"unit_of_measurement":"W"}');
        """)  # fmt: skip
        row = "INSERT INTO {} (metadata_id, start_ts, mean, min, max, state, sum) VALUES (?, ?, ?, ?, ?, ?, ?)"
        for n in range(48):
            start = first / 1000 + n * 3600
            database.execute(row.format("statistics"), (1, start, 50 + n, 41, 212, None, None))
            database.execute(row.format("statistics"), (2, start, None, None, None, 1000 * (n % 24), 1000 * n))
        for n in range(24):
            start = recent / 1000 + n * 300
            database.execute(row.format("statistics_short_term"), (1, start, 50, 41, 59, None, None))
        database.execute(
            row.format("statistics"), (1, recent / 1000, 999, 999, 999, None, None)
        )  # coarser: not over it
        say = "INSERT INTO states (metadata_id, state, last_updated_ts, attributes_id) VALUES (?, ?, ?, 1)"
        base = recent / 1000
        for minute, state in ((0, "off"), (10, "on"), (40, "unavailable"), (50, "on"), (65, "off")):
            database.execute(say, (1, state, base + minute * 60))
        for minute, state in ((0, "off"), (5, "combustion"), (9, "dancing")):
            database.execute(say, (2, state, base + minute * 60))
        database.execute(say, (3, "61.5", base))
    shown = past.do("import", file, "--scratch", tmp_path)
    assert "no series is taken" in shown.stderr
    assert f"--map 'sensor.boiler_water_temperature={WATER}' ?" in shown.stdout
    maps = [
        f"sensor.boiler_water_temperature={WATER}",
        f"sensor.meter_energy={METER}",
        f"binary_sensor.pump={PUMP}",
        f"sensor.burner={PHASE}",
    ]
    words = [word for one in maps for word in ("--map", one)]
    shown = past.take(file, *words, "--write")
    assert "Home Assistant's recorder, 4 series" in shown
    assert "refused 1: none of its states off, combustion, arret, maintien (the first: dancing)" in shown
    before = past.all()
    past.take(file, *words, "--write")
    assert past.all() == before
    day = f"SELECT low, high, mean FROM days WHERE name = '{WATER}' AND day = '2023-06-01'"
    assert past.ask(day)[0] == pytest.approx((5.0, 100.0, (50 + 11.5 - 32) * 5 / 9), abs=0.002)
    energy = f"SELECT day, difference FROM days WHERE name = '{METER}' ORDER BY day"
    assert past.ask(energy) == [("2023-06-01", pytest.approx(23.0)), ("2023-06-02", pytest.approx(24.0))]
    pump = f"SELECT sum(seconds_on), sum(starts) FROM minutes_by_name WHERE name = '{PUMP}'"
    assert past.ask(pump) == [(45 * 60.0, 1)], "nobody knows whether it was switched on while it was unavailable"
    newest = f"SELECT count(*), max(high) FROM minutes_by_name WHERE name = '{WATER}' AND ms >= {recent}"
    assert past.ask(newest) == [(24, 15.0)]
    assert past.ask(f"SELECT count(*) FROM hours_by_name WHERE name = '{WATER}' AND high > 100") == [(0,)]


def test_hours_of_utc_become_quarters_where_a_zones_hours_begin_elsewhere(tmp_path: Path) -> None:
    past, file = Past(tmp_path / "past", "Asia/Kolkata"), tmp_path / "ha.db"
    with closing(sqlite3.connect(file)) as database, database:
        database.executescript("""
            CREATE TABLE statistics_meta (id INTEGER PRIMARY KEY, statistic_id, unit_of_measurement);
            CREATE TABLE statistics (metadata_id, start_ts, mean, min, max, state, sum);
            CREATE TABLE statistics_short_term (metadata_id, start_ts, mean, min, max, state, sum);
            CREATE TABLE states (state_id);
            INSERT INTO statistics_meta VALUES (1, 'sensor.w', '°C');
        """)
        for n in range(24):
            start = 1_700_000_000 // 86400 * 86400 + n * 3600
            database.execute("INSERT INTO statistics VALUES (1, ?, ?, 1, 99, NULL, NULL)", (start, 40.0))
    assert "96 minutes and 0 hours" in past.take(file, "--map", f"sensor.w={WATER}", "--write")
    assert past.ask("SELECT DISTINCT mean, low, high FROM hours") == [(40.0, 1.0, 99.0)]


def test_round_robin_files_give_each_time_in_its_finest_resolution(past: Past, tmp_path: Path) -> None:
    folder, first = tmp_path / "rrd", (now() // DAY - 40) * DAY // 1000
    (folder / "cellar").mkdir(parents=True)
    arrays = ["RRA:AVERAGE:0.5:1:1440", "RRA:MIN:0.5:60:2000", "RRA:AVERAGE:0.5:60:2000", "RRA:MAX:0.5:60:2000"]
    water, meter = folder / "cellar/water.rrd", folder / "cellar/meter.rrd"
    rrdtool.create(str(water), "--start", str(first), "--step", "60", "DS:v:GAUGE:120:U:U", *arrays)
    rrdtool.create(str(meter), "--start", str(first), "--step", "60", "DS:v:DDERIVE:120:0:U", *arrays)
    for begin in range(first + 60, first + 3 * 86400 + 60, 86400):
        moments = range(begin, begin + 86400, 60)
        rrdtool.update(str(water), *(f"{t}:{30 + (t // 60) % 60 / 10}" for t in moments))
        rrdtool.update(str(meter), *(f"{t}:{(t - first) / 3600:.6f}" for t in moments))
    words = [folder, "--map", f"cellar/water={WATER}", "--map", f"cellar/meter={METER}", "--write"]
    shown = past.take(*words)
    assert "1440 minutes and 72 hours" in shown
    before = past.all()
    past.take(*words)
    assert past.all() == before
    found = past.ask(f"SELECT low, high, mean, count FROM hours_by_name WHERE name = '{WATER}' ORDER BY ms")
    assert len(found) in (71, 72)
    assert found[5][:3] == pytest.approx((30.0, 35.9, 32.95), abs=0.11)
    counted = past.ask(f"SELECT sum(difference) FROM months WHERE name = '{METER}'")[0][0]
    assert counted == pytest.approx(72.0, abs=0.05)
    (tmp_path / "broken.rrd").write_bytes(water.read_bytes()[:3000])
    assert "cannot be read" in past.do("import", tmp_path / "broken.rrd", "--scratch", tmp_path).stderr


def test_the_highest_of_an_hour_is_not_its_mean_where_the_means_reach_back_less_far(past: Past, tmp_path: Path) -> None:
    file, first = tmp_path / "station.rrd", (now() // DAY - 10) * DAY // 1000
    arrays = ["RRA:AVERAGE:0.5:1:600", "RRA:MAX:0.5:60:1000", "RRA:MIN:0.5:60:1000"]
    rrdtool.create(str(file), "--start", str(first - 60), "--step", "60", "DS:t:GAUGE:120:-50:100", *arrays)
    rrdtool.update(str(file), *(f"{first + 60 * n}:{80 if n % 60 == 30 else 20}" for n in range(3 * 1440)))
    past.take(file, "--map", f"station={WATER}", "--write")
    means = [mean for (mean,) in past.ask("SELECT mean FROM hours") if mean is not None]
    assert means
    assert max(means) < 30


def test_the_first_systems_tables_come_without_its_sentinels_and_with_its_words(past: Past, tmp_path: Path) -> None:
    file = tmp_path / "chaudiere.sqlite"
    with closing(sqlite3.connect(file)) as database, database:
        columns = "(id INTEGER PRIMARY KEY, dt, temp0, temp1, temp2, watt0, watt1, watt2, watt3, phase)"
        database.executescript(f"CREATE TABLE chaudiere {columns}; CREATE TABLE chaudiere_minute {columns};")
        for n, water in enumerate((61.0, -1, 63.0)):
            database.execute(
                "INSERT INTO chaudiere (dt, temp0) VALUES (?, ?)", (f"2018-04-24 19:21:0{n * 3}.521394", water)
            )
        for n, phase in enumerate((6, 9, 9)):
            database.execute(
                "INSERT INTO chaudiere_minute (dt, temp0, phase) VALUES (?, 50.5, ?)",
                (f"2018-04-2{3 + n} 08:00:00", phase),
            )
    shown = past.take(file, "--map", f"chaudiere.temp0={WATER}", "--map", f"chaudiere_minute.phase={PHASE}", "--write")
    assert "not read: 1 chaudiere.temp0: -1, which stood for no value" in shown
    moment = local("2018-04-24T19:21:00")
    assert past.ask(f"SELECT ms, count, mean FROM minutes_by_name WHERE name = '{WATER}'") == [(moment, 2, 62.0)]
    assert past.ask(f"SELECT day, word FROM days WHERE name = '{PHASE}' ORDER BY day") == [
        ("2018-04-23", "combustion"),
        ("2018-04-24", "arret"),
        ("2018-04-25", "arret"),
    ]


def test_a_recording_of_the_first_system_comes_without_its_sentinels_too(past: Past, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text(
        "timestamp,temp0,watt0\n2018-05-24 19:21:08.521394,62.875,9\n2018-05-24 19:21:11,-1,5\n"
    )
    shown = past.take(tmp_path / "old.csv", "--map", f"temp0={WATER}", "--write")
    assert "not read: 1 temp0: -1, which stood for no value" in shown
    moment = local("2018-05-24T19:21:00")
    assert past.ask("SELECT time, count, mean FROM minutes") == [(moment, 1, 62.875)]


def test_line_protocol_comes_with_tags_escapes_and_every_kind_of_value(past: Past, tmp_path: Path) -> None:
    file, first = tmp_path / "influx.lp", 1_700_000_000
    file.write_text(
        "# a comment\n"
        + "".join(
            f"boiler,place=cellar\\ 1 water={40 + n},pump={'tf'[n % 2]},ash=3i {(first + 60 * n) * 10**9}\n"
            for n in range(4)
        )
        + f'burner phase="off" {"9" * 25}\nburner phase="off" {"9" * 24}\n'
        + 'burner phase="arret" 1700000000000000000\nno line at all\nburner phase="off"\n'
    )
    words = [
        "--map",
        f"boiler,place=cellar 1:water={WATER}",
        "--map",
        f"boiler,place=cellar 1:pump={PUMP}",
        "--map",
        f"burner:phase={PHASE}",
    ]
    shown = past.take(file, *words, "--write")
    assert "not read: 1 lines that are no line protocol" in shown
    assert "not read: 1 lines without a time" in shown
    assert "not read: 1 lines whose time is none" in shown
    assert "not read: 1 times that are none" in shown
    assert past.ask(f"SELECT mean FROM minutes_by_name WHERE name = '{WATER}' ORDER BY ms") == [
        (40.0,),
        (41.0,),
        (42.0,),
        (43.0,),
    ]
    assert past.ask(f"SELECT sum(starts) FROM minutes_by_name WHERE name = '{PUMP}'") == [(1,)]
    assert past.ask(f"SELECT word FROM minutes_by_name WHERE name = '{PHASE}'") == [("arret",)]


def test_an_export_of_influxdb_comes_with_its_preamble(past: Past, tmp_path: Path) -> None:
    (file := tmp_path / "export.txt").write_text(
        "# DDL\nCREATE DATABASE home WITH NAME autogen\n# DML\n# CONTEXT-DATABASE: home\n"
        "boiler water=40 1700000000000000000\nCREATE DATABASE other WITH NAME autogen\n"
        "boiler water=4_1 1700000060000000000\n"
    )
    shown = past.take(file, "--map", f"boiler:water={WATER}", "--write")
    assert "no line protocol" not in shown
    assert past.ask("SELECT mean FROM minutes") == [(40.0,)], "4_1 is no number"


@pytest.mark.parametrize(("separator", "said"), [(";", "21,5"), (";", "21.5"), ("\t", "21.5"), (",", "21.5")])
def test_a_table_may_have_semicolons_with_decimal_commas_or_tabs(
    past: Past, tmp_path: Path, separator: str, said: str
) -> None:
    (file := tmp_path / "table.csv").write_text(f"time{separator}value\n2026-01-02T10:00:00Z{separator}{said}\n")
    past.take(file, "--map", f"table={WATER}", "--write")
    assert past.ask("SELECT mean FROM minutes") == [(21.5,)]


def test_a_houses_own_export_comes_in_as_it_was(past: Past, tmp_path: Path) -> None:
    first = local("2025-10-26T00:00:00")
    gauge = write_csv(tmp_path / "a.csv", [((first + n * 20_000) / 1000, 20 + n % 7) for n in range(900)])
    meter = write_csv(tmp_path / "b.csv", [((first + n * MINUTE) / 1000, 5 + n / 4) for n in range(300)])
    pump = write_csv(tmp_path / "c.csv", [((first + n * 90_000) / 1000, n % 2) for n in range(200)])
    for name, file, topic in (("a", gauge, WATER), ("b", meter, METER), ("c", pump, PUMP)):
        past.take(file, "--map", f"{name}={topic}", "--write")
    exported = tmp_path / "house.csv"
    done = past.do("export", "--minutes")
    exported.write_text(done.stdout)
    other = Past(tmp_path / "other")
    other.take(exported, "--write")
    assert other.do("export", "--minutes").stdout == done.stdout
    assert other.do("export", "--days").stdout == past.do("export", "--days").stdout


def test_a_date_and_a_time_may_stand_in_two_columns(past: Past, tmp_path: Path) -> None:
    (file := tmp_path / "x.csv").write_text(
        "Date;Time;Water;Timestamp\n2025-05-05;10:00;20,5;1\n2025-05-05;10:01:30;21;2\n"
    )
    past.take(file, "--map", f"x={WATER}", "--write")
    first = local("2025-05-05T10:00:00")
    assert past.ask("SELECT time, mean FROM minutes ORDER BY time") == [(first, 20.5), (first + MINUTE, 21.0)]


FLUX = ",result,table,_start,_stop,_time,_value,_field,_measurement,room"
TAGGED = f"""#group,false,false,true,true,false,false,true,true,true
#datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,dateTime:RFC3339,double,string,string,string
#default,_result,,,,,,,,
{FLUX}
,,0,2025-05-01T00:00:00Z,2025-06-01T00:00:00Z,2025-05-05T08:00:00Z,61.5,water,boiler,cellar
,,1,2025-05-01T00:00:00Z,2025-06-01T00:00:00Z,2025-05-05T08:00:00Z,181,flue,boiler,

#group,false,false,true,true,false,false,true,true,true
#datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,dateTime:RFC3339,boolean,string,string,string
#default,_result,,,,,,,,
{FLUX.replace("_value,_field", "_field,_value")}
,,2,2025-05-01T00:00:00Z,2025-06-01T00:00:00Z,2025-05-05T08:00:00Z,pump,true,boiler,cellar
,,2,2025-05-01T00:00:00Z,2025-06-01T00:00:00Z,2025-05-05T08:01:00Z,pump,false,boiler,cellar
"""
STATES = """entity_id,state,last_changed
sensor.water,61.5,2025-05-05T08:00:03.120Z
sensor.flue,181.0,2025-05-05T08:00:04.120Z
sensor.water,unavailable,2025-05-05T08:00:30.120Z
binary_sensor.pump,on,2025-05-05T08:00:00.000Z
binary_sensor.pump,off,2025-05-05T08:01:00.000Z
"""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (TAGGED, ("boiler,room=cellar:water", "boiler,room=cellar:pump", "boiler:flue")),
        (STATES, ("sensor.water", "binary_sensor.pump", "sensor.flue")),
        (STATES.replace("entity_id,state,last_changed", "Sensor,Value,Time"), ("sensor.water", "binary_sensor.pump", "sensor.flue")),
    ],
    ids=["InfluxDB", "Home Assistant", "others"],
)  # fmt: skip
def test_rows_may_say_which_series_they_are_of(past: Past, tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    (file := tmp_path / "history.csv").write_text(text)
    shown = past.take(file, "--map", f"{names[0]}={WATER}", "--map", f"{names[1]}={PUMP}", "--write")
    assert "3 series" in shown
    assert f"{names[2]}: not taken, 1 rows" in shown
    assert "not read" not in shown
    assert "refused" not in shown
    first = local("2025-05-05T10:00:00")
    assert past.ask(f"SELECT ms, mean FROM minutes_by_name WHERE name = '{WATER}'") == [(first, 61.5)]
    assert past.ask(f"SELECT sum(seconds_on) FROM minutes_by_name WHERE name = '{PUMP}'") == [
        (60.0 if "entity_id" in text else 30.0,)
    ], "of Home Assistant's it is believed until it changes"


def test_a_series_whose_unit_changed_comes_in_by_the_unit_of_each_row(past: Past, tmp_path: Path) -> None:
    rows = [("2025-05-05T10:00:00Z", 140, "°F"), ("2025-05-05T10:01:00Z", 60, "°C"), ("2025-05-05T10:02:00Z", 5, "W")]
    (file := tmp_path / "x.csv").write_text(
        "time,name,value,unit\n" + "".join(f"{when},x,{value},{unit}\n" for when, value, unit in rows)
    )
    shown = past.take(file, "--map", f"x={WATER}", "--write")
    assert "x (W): not taken, 1 rows" in shown
    assert past.ask("SELECT mean FROM minutes ORDER BY time") == [(60.0,), (60.0,)]


def test_an_entity_whose_unit_changed_comes_in_by_the_unit_of_each_state(past: Past, tmp_path: Path) -> None:
    first = local("2025-05-05T10:00:00") // 1000
    with closing(sqlite3.connect(tmp_path / "ha.db")) as database, database:
        database.executescript("""
            CREATE TABLE statistics_meta (id, statistic_id, unit_of_measurement); CREATE TABLE states_meta (metadata_id, entity_id);
            CREATE TABLE statistics (metadata_id, start_ts, mean, min, max, state, sum);
            CREATE TABLE statistics_short_term (metadata_id, start_ts, mean, min, max, state, sum);
            CREATE TABLE state_attributes (attributes_id, shared_attrs); INSERT INTO states_meta VALUES (1, 'sensor.x');
            CREATE TABLE states (metadata_id, state, last_updated_ts, attributes_id);
            INSERT INTO state_attributes VALUES (1, '{"unit_of_measurement":"°F"}'), (2, '{}'), (3, '{"unit_of_measurement":"°C"}');
        """)
        for n, (state, attributes) in enumerate((("140", 1), ("unavailable", 2), ("140", 2), ("60", 3))):
            database.execute("INSERT INTO states VALUES (1, ?, ?, ?)", (state, first + 60 * n, attributes))
    past.take(tmp_path / "ha.db", "--map", f"sensor.x={WATER}", "--write")
    assert past.ask("SELECT mean FROM minutes ORDER BY time") == [(60.0,)] * 3


@pytest.mark.parametrize(
    ("rows", "words", "sentence"),
    [
        ("time,value\n1700000000,20\n", ["--map", "x=boiler/water/temperatur"], "has no topic 'boiler/water/temperatur', did you mean"),
        ("time,value\n1700000000,20\n", ["--map", f"y={WATER}"], "there is no series 'y'"),
        ("time,value\n1700000000,20\n", ["--map", f"x={WATER}", "--unit", "x=W"], "its unit W does not convert to °C"),
        ("time,value\n1700000000,20\n", ["--map", "x"], "is not of the form NAME=TOPIC"),
        ("time,value\n1700000000,20\n", ["--map", "x=shed/text/text"], "the archive does not store shed/text/text"),
        ("what,ever\n1,2\n", [], "is neither CSV with a column named time nor InfluxDB's line protocol"),
        ("name,time,room,degrees\nclimate,1700000000,hall,20\n", [], "says in its column name what a row is of, and has no column"),
        ("_time,_measurement,water\n1700000000,boiler,20\n", [], "says in its column _measurement what a row is of"),
        ("SQLite format 3\0" + "x" * 5000, [], "cannot be read"),
        ("time,value\n1700000000," + "x" * 200_000 + "\n", [], "cannot be read as CSV"),
        ("<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><rrd/>", [], "declares entities"),
    ],
)  # fmt: skip
def test_what_cannot_come_in_gets_a_sentence(
    past: Past, tmp_path: Path, rows: str, words: list[str], sentence: str
) -> None:
    file = tmp_path / ("x.xml" if rows.startswith("<") else "x")
    file.write_text(rows)
    done = past.do("import", file, *words, "--write", "--scratch", tmp_path)
    assert done.returncode == os.EX_UNAVAILABLE
    assert sentence in done.stderr
    assert past.ask("SELECT count(*) FROM minutes") == [(0,)]


def test_what_cannot_be_true_is_refused_and_counted(past: Past, tmp_path: Path) -> None:
    rows = [
        (1_700_000_000, 5000),
        (1_700_000_060, -200),
        (900_000_000, 20),
        (time.time() + 9000, 20),
        (1_700_000_120, "warm"),
        ("9" * 400, 20),
        ("9" * 400 + ".5", 20),
        (1_700_000_180, 21),
    ]
    shown = past.take(write_csv(tmp_path / "x.csv", rows), "--map", f"x={WATER}", "--write")
    for why in (
        "1: above its range, which ends at 1200",
        "1: below its range",
        "1: before 2000",
        "1: of the future",
        "1: no number (the first: warm)",
    ):
        assert f"refused {why}" in shown
    assert past.ask("SELECT time, mean FROM minutes") == [(1_700_000_180_000 // MINUTE * MINUTE, 21.0)]


def test_a_history_comes_into_an_archive_that_goes_on_storing(
    house: House, voice: Voice, ear: Ear, tmp_path: Path
) -> None:
    house.write(TOPICS.replace("ZONE", "Europe/Paris"))
    house.start("archive")
    ear.wait("home/service/archive/status", lambda status: status == "online")
    voice.say(WATER, 60.0, now(), 1)
    database = house.state("archive") / "archive.sqlite"
    wait_for(lambda: ask_database(database, "SELECT 1 FROM readings"), what="a reading")
    wait_for(lambda: ask_database(database, "SELECT 1 FROM calendar"), what="days")
    first = local("2025-01-01T00:00:00")
    file = write_csv(tmp_path / "x.csv", [((first + n * 5 * MINUTE) // 1000, 20 + n % 30) for n in range(20_000)])
    command = [
        sys.executable,
        "-m",
        "bootstrap_lib.cli",
        "--config",
        house.config,
        "import",
        file,
        "--map",
        f"x={WATER}",
    ]
    running = subprocess.Popen(
        [*command, "--write"], env=house.environment | {"STATE_DIRECTORY": str(house.state("archive"))}, cwd=PROJECT
    )
    number = 1
    while running.poll() is None:
        number += 1
        voice.say(WATER, 60.0 + number % 5, now(), number)
        time.sleep(0.01)
    assert running.returncode == 0
    ear.wait("home/service/archive/stored/onewire", lambda mark: mark["after"] == number)
    days = dict(ask_database(database, f"SELECT day, count FROM days WHERE name = '{WATER}'"))
    assert [days[(date(2025, 1, 1) + timedelta(n)).isoformat()] for n in range(60)] == [288] * 60
    assert ask_database(database, "SELECT count(*) FROM readings") == [(number,)]
    assert "degraded" not in str(ear.all("home/service/archive/health"))


def stands(past: Past, rows: list[Kept]) -> None:
    """Put minutes and hours of the meter in, as a foreign history gives them."""
    with closing(sqlite3.connect(past.path, isolation_level=None)) as database:
        taking = Taking(database)
        taking.reach_back(min(row.time for row in rows))
        for _ in taking.take(Registry(past.config).topics[METER], rows):
            pass


def test_a_counter_whose_history_has_two_resolutions_counts_once(past: Past) -> None:
    first = local("2025-03-01T00:00:00")
    line = [Kept(first + n * MINUTE, MINUTE, last=1000.0 + n) for n in range(5000)]
    counted = "SELECT sum(difference) FROM minutes"
    stands(past, line[2500:] + line[:2500])  # raw readings come first, and what is left of older times behind them
    assert past.ask(counted) == [(4999.0,)]
    stands(past, line[2500:] + line[:2500])
    assert past.ask(counted) == [(4999.0,)], "twice is once"


def test_what_a_program_counted_over_a_reset_is_believed(past: Past) -> None:
    first = local("2025-03-01T00:00:00")
    stands(past, [Kept(first, MINUTE, last=100.0)])
    span = first + 5 * MINUTE, first + 10 * MINUTE
    stands(past, [Kept(span[0], MINUTE, last=0.5, difference=1.25, span=span)])
    assert past.ask("SELECT sum(difference) FROM minutes") == [(1.25,)]


def test_what_lies_between_stands_of_ours_is_not_counted_twice(past: Past) -> None:
    first = local("2025-03-01T00:00:00")
    stands(past, [Kept(first + n * 5 * MINUTE, MINUTE, last=100.0 + 5 * n) for n in range(21)])
    assert past.ask("SELECT sum(difference) FROM minutes") == [(100.0,)]
    stands(past, [Kept(first + n * MINUTE, MINUTE, difference=1.0) for n in range(1, 100) if n % 5])
    assert past.ask("SELECT sum(difference) FROM minutes") == [(pytest.approx(100.0),)]
    stands(past, [Kept(first + 20 * HOUR, MINUTE, last=300.0)])
    past.advance()
    stands(past, [Kept(first + n * HOUR, HOUR, difference=5.0, last=200.0 + n) for n in range(5, 10)])
    assert past.ask("SELECT sum(difference) FROM minutes") == [(pytest.approx(175.0),)]
    hours_ = "SELECT count(*), sum(difference) FROM hours WHERE time NOT IN (SELECT time - time % 3600000 FROM minutes)"
    assert past.ask(hours_) == [(5, 25.0)], "they have their part, and the next minute of ours the rest"


def test_where_the_archive_counts_from_its_own_readings_rates_between_them_bring_nothing(past: Past) -> None:
    first = local("2025-03-01T00:00:00")
    stands(past, [Kept(first + n * 10 * MINUTE, MINUTE, last=100.0 + n) for n in range(3)])
    with past.engine.begin() as connection:
        topic = connection.exec_driver_sql("SELECT id FROM topics").scalar_one()
        raw = f"INSERT INTO readings (time, topic, value) VALUES ({first + 20 * MINUTE}, {topic}, 102.0)"
        connection.exec_driver_sql(raw)
    stands(past, [Kept(first + n * MINUTE, MINUTE, difference=0.1) for n in range(20) if n % 10])
    assert past.ask("SELECT sum(difference), count(*) FROM minutes") == [(pytest.approx(2.0), 12)], "nine of eighteen"
    assert past.ask("SELECT time FROM pending") == [(first + 20 * MINUTE,)]


class Meter:
    """A meter whose rates lie in a round-robin file of two or more resolutions, one of each `unknown` minutes being lost."""

    def __init__(self, path: Path, *arrays: str, unknown: int | None = None) -> None:
        self.path, self.unknown, self.begin = path, unknown, (now() // DAY - 40) * DAY // 1000
        self.stand, self.minute = 0.0, 0
        averages = [f"RRA:AVERAGE:0.9:{array}" for array in arrays]
        rrdtool.create(str(path), "--start", str(self.begin), "--step", "60", "DS:v:DDERIVE:120:0:U", *averages)

    def run(self, minutes: int) -> "Meter":
        updates = [f"{self.begin}:0"] if not self.minute else []
        for _ in range(minutes):
            self.minute += 1
            self.stand += 1 + self.minute % 3
            lost = self.unknown is not None and self.minute % self.unknown == 0
            updates.append(f"{self.begin + self.minute * 60}:{'U' if lost else self.stand}")
        rrdtool.update(str(self.path), *(updates if self.minute > minutes else updates[1:]))
        return self


COUNTED = f"SELECT sum(difference) FROM minutes_by_name WHERE name = '{METER}'"
BY_DAYS = f"SELECT sum(difference) FROM months WHERE name = '{METER}'"


@pytest.mark.parametrize(
    ("arrays", "minutes", "unknown"),
    [
        (("1:700", "30:500"), 2177, None),
        (("1:1500", "30:500"), 1200, 30),  # minute 0 of each half hour is lost: the row's own place is free
        (("1:700", "120:500", "1440:60"), 5 * 1440, None),
        (("5:288", "30:500"), 2190, None),
    ],
    ids=["half hours", "lost minutes", "hours and days", "five minutes"],
)
def test_a_seam_of_two_resolutions_counts_once_also_from_the_same_file_some_days_later(
    past: Past, tmp_path: Path, arrays: tuple[str, ...], minutes: int, unknown: int | None
) -> None:
    meter = Meter(tmp_path / "meter.rrd", *arrays, unknown=unknown).run(minutes)
    words = [meter.path, "--map", f"meter={METER}", "--write"]
    near = 1e-9 if unknown is None else 0.02  # a file takes lost minutes for the mean of the others
    for more in (0, 0, 1000, 1440):  # as it is, twice, and longer
        if more:
            meter.run(more)
        past.take(*words)
        assert past.ask(BY_DAYS)[0][0] == pytest.approx(meter.stand, near, abs=5), more
    before = past.all()
    past.take(*words)
    assert past.all() == before


def test_of_a_gauge_the_finest_alone_is_taken(past: Past, tmp_path: Path) -> None:
    first = local("2025-03-01T10:00:00")
    with closing(sqlite3.connect(past.path, isolation_level=None)) as database:
        taking = Taking(database)
        taking.reach_back(first)
        fine = [Kept(first + n * MINUTE, MINUTE, mean=20.0, low=20.0, high=20.0) for n in range(10, 40)]
        half = [(first + n * 30 * MINUTE, first + (n + 1) * 30 * MINUTE) for n in range(3)]
        coarse = [Kept(begin, MINUTE, mean=90.0, low=90.0, high=90.0, span=(begin, end)) for begin, end in half]
        for _ in taking.take(Registry(past.config).topics[WATER], fine + coarse):
            pass
    assert past.ask("SELECT count(*), min(time) FROM minutes WHERE mean = 90") == [(1, first + HOUR)]


@pytest.mark.parametrize("form", ["columns", "hourly", "newest first", "out of order", "own form", "table"])
def test_the_hour_that_autumn_has_twice_is_read_twice(past: Past, tmp_path: Path, form: str) -> None:
    first, every = local("2025-10-26T00:30:00"), HOUR if form == "hourly" else 7 * MINUTE
    moments = [first + n * every for n in range(6 * HOUR // every)]
    rows = [
        (datetime.fromtimestamp(moment / 1000, PARIS).strftime("%F %T"), 5000.0 + n) for n, moment in enumerate(moments)
    ]
    if form == "newest first":
        rows.reverse()
    if form == "out of order":
        ahead = [
            (datetime.fromtimestamp(m / 1000 - 1, PARIS).strftime("%F %T"), n) for n, m in enumerate(moments, 5000)
        ]
        rows = [row for pair in zip(rows, ahead, strict=True) for row in pair]
    file = write_csv(tmp_path / "old.csv", rows)
    if form == "own form":
        file.write_text("time,name,value,unit\n" + "".join(f"{when},old,{stand},kWh\n" for when, stand in rows))
    if form == "table":
        with closing(sqlite3.connect(file := tmp_path / "old.db")) as database, database:
            database.execute("CREATE TABLE old (time, meter)")
            database.executemany("INSERT INTO old VALUES (?, ?)", rows)
    past.take(file, "--map", f"{'old.meter' if form == 'table' else 'old'}={METER}", "--write")
    counted = past.ask("SELECT sum(difference) FROM minutes")[0][0]
    assert counted == len(moments) - 1
    assert {row[0] for row in past.ask("SELECT time FROM minutes")} >= set(moments)


def recorder(file: Path, begin: int, hours_: int, fine_from: int, off: range = range(0)) -> None:
    """A recorder of Home Assistant whose meter counts 1 kWh in five minutes, also in the hours that it is off; times in ms."""
    with closing(sqlite3.connect(file)) as database, database:
        columns = "(id INTEGER PRIMARY KEY, metadata_id, start_ts, mean, min, max, state, sum)"
        database.executescript(f"""
            CREATE TABLE statistics_meta (id INTEGER PRIMARY KEY, statistic_id, unit_of_measurement);
            INSERT INTO statistics_meta VALUES (1, 'sensor.meter', 'kWh');
            CREATE TABLE statistics {columns}; CREATE TABLE statistics_short_term {columns}; CREATE TABLE states (state_id);
        """)
        for table, width in (("statistics", 12), ("statistics_short_term", 1)):
            for n in range(width, hours_ * 12 + 1, width):
                start = begin + (n - width) * 5 * MINUTE
                if (table == "statistics" or start >= fine_from) and (start - begin) // HOUR not in off:
                    row = f"INSERT INTO {table} (metadata_id, start_ts, state, sum) VALUES (1, ?, ?, ?)"
                    database.execute(row, (start / 1000, 5000 + n, n))


def test_the_hour_in_which_five_minute_statistics_begin_has_all_its_energy(past: Past, tmp_path: Path) -> None:
    begin = local("2025-03-01T00:00:00")
    for number, (hours_, fine) in enumerate(((48, 30), (48, 30), (72, 60), (120, 100))):
        file = tmp_path / f"ha{number}.db"
        recorder(file, begin, hours_, begin + fine * HOUR + 40 * MINUTE)
        past.take(file, "--map", f"sensor.meter={METER}", "--write")
        days = past.ask(f"SELECT day, difference FROM days WHERE name = '{METER}' ORDER BY day")
        assert [counted for _, counted in days] == [276.0, *[288.0] * (hours_ // 24 - 1)], (
            "hours, the rest of one, minutes"
        )
    seam = f"SELECT difference FROM minutes_by_name WHERE name = '{METER}' AND ms = {begin + 30 * HOUR}"
    assert past.ask(seam) == [(9.0,)]


def test_the_hour_in_which_a_houses_own_readings_begin_has_all_its_energy(past: Past, tmp_path: Path) -> None:
    begin = local("2025-03-01T00:00:00")
    own = begin + 10 * HOUR + 20 * MINUTE
    stands(past, [Kept(own + n * MINUTE, MINUTE, last=5124 + (n + 1) / 5) for n in range(100)])
    recorder(tmp_path / "ha.db", begin, 14, begin + 10 * HOUR)
    for _ in range(2):
        past.take(tmp_path / "ha.db", "--map", f"sensor.meter={METER}", "--write")
        hour = f"SELECT sum(difference) FROM minutes_by_name WHERE name = '{METER}' AND ms >= {begin + 10 * HOUR} AND ms < {begin + 11 * HOUR}"
        assert past.ask(hour)[0][0] == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("own", "fine"),
    [
        (range(10), 40),
        (range(3, 18), 40),
        (range(3, 18), 0),
        (range(15, 30), 40),
        (range(15, 30), 0),
        (range(3, 30), 40),
    ],
)
def test_an_outage_of_home_assistant_that_own_readings_cover_counts_once(
    past: Past, tmp_path: Path, own: range, fine: int
) -> None:
    begin = local("2025-03-01T00:00:00")
    stands(
        past, [Kept(begin + n * MINUTE, MINUTE, last=5000 + (n + 1) / 5) for n in range(own[0] * 60, own[-1] * 60 + 60)]
    )
    recorder(tmp_path / "ha.db", begin, 48, begin + fine * HOUR, off=range(14, 18))
    counted = 576 - (0.2 if own[0] == 0 else 12 if fine else 1)  # what the first minute or row counted nobody knows
    for _ in range(2):
        past.take(tmp_path / "ha.db", "--map", f"sensor.meter={METER}", "--write")
        assert past.ask(BY_DAYS)[0][0] == pytest.approx(counted)
        before = past.all()
    past.take(tmp_path / "ha.db", "--map", f"sensor.meter={METER}", "--write")
    assert past.all() == before


def test_an_outage_that_begins_within_an_hour_of_home_assistant_counts_once(past: Past, tmp_path: Path) -> None:
    begin = local("2025-03-01T00:00:00")
    stands(past, [Kept(begin + n * MINUTE, MINUTE, last=5000 + (n + 1) / 5) for n in range(180, 1080)])
    recorder(tmp_path / "ha.db", begin, 24, begin + 20 * HOUR, off=range(14, 18))
    with closing(sqlite3.connect(tmp_path / "ha.db")) as database, database:
        last = f"UPDATE statistics SET state = state - 7, sum = sum - 7 WHERE start_ts = {(begin + 13 * HOUR) / 1000}"
        database.execute(last)  # its last five minutes ended at 13:25
    past.take(tmp_path / "ha.db", "--map", f"sensor.meter={METER}", "--write")
    assert past.ask(BY_DAYS)[0][0] == pytest.approx(276)


@pytest.mark.parametrize("seed", range(1, 8))
def test_what_a_meter_counted_counts_once_whoever_read_it_when(past: Past, tmp_path: Path, seed: int) -> None:
    """Own readings at times, Home Assistant with outages, its hours and its five minutes: the yardstick is the meter."""
    chance, begin, whole = random.Random(seed), local("2025-03-01T00:00:00"), 30 * 60
    rate, meter = 1.0, [5000.0]  # kWh at the begin of each minute
    for _ in range(whole):
        rate = chance.choice([0, 0.1, 1, 3]) if chance.random() < 0.02 else rate
        meter.append(round(meter[-1] + rate * chance.random() / 5, 3))
    off: set[int] = set()  # five minutes of which Home Assistant has nothing
    for _ in range(chance.randrange(3)):
        off.update(range(start := chance.randrange(4, whole // 5 - 60), start + chance.choice([1, 3, 12, 20, 50])))
    on = [n for n in range(whole // 5) if n not in off]
    fine = chance.choice([1, 10, 20, 29]) * 12 + chance.choice([0, 8])
    begins = chance.choices(range(whole - 100), k=1 + seed % 3)
    own = sorted({n for one in begins for n in range(one, one + chance.choice([3, 30, 100]))})
    stands(past, [Kept(begin + n * MINUTE, MINUTE, last=meter[n + 1]) for n in own])
    recorder(tmp_path / "ha.db", begin, 0, 0)
    hourly = {n // 12 * 12: n for n in on}
    with closing(sqlite3.connect(tmp_path / "ha.db")) as database, database:
        for table, rows in (("statistics", hourly), ("statistics_short_term", {n: n for n in on if n >= fine})):
            row = f"INSERT INTO {table} (metadata_id, start_ts, state, sum) VALUES (1, ?, ?, ?)"
            database.executemany(
                row, [((begin + a * 5 * MINUTE) / 1000, meter[5 * z + 5], meter[5 * z + 5]) for a, z in rows.items()]
            )
    known = [n + 1 for n in own] + [5 * n + 5 for n in (hourly[0], on[-1])]
    past.take(tmp_path / "ha.db", "--map", f"sensor.meter={METER}", "--write")
    assert past.ask(BY_DAYS)[0][0] == pytest.approx(meter[max(known)] - meter[min(known)], abs=0.01)
    before = past.all()
    past.take(tmp_path / "ha.db", "--map", f"sensor.meter={METER}", "--write")
    assert past.all() == before


@pytest.mark.parametrize("rows", [10_000, pytest.param(1_000_000, marks=pytest.mark.whole)])
def test_a_long_history_imported_twice_is_the_same_in_little_memory(past: Past, tmp_path: Path, rows: int) -> None:
    first = local("2024-01-01T00:00:00")
    file = tmp_path / "long.csv"
    with file.open("w") as into:
        into.write("time,water,meter\n")
        into.writelines(f"{first // 1000 + n * 60},{20 + n % 500 / 10},{n / 100:.2f}\n" for n in range(rows // 2))
    measured = "import sys; from bootstrap_lib.cli import main; code = main(); print(open('/proc/self/status').read()); sys.exit(code)"
    command = [
        sys.executable,
        "-c",
        measured,
        "--config",
        past.config,
        "import",
        file,
        "--write",
        "--scratch",
        tmp_path,
    ]
    command += ["--map", f"water={WATER}", "--map", f"meter={METER}"]
    seen = []
    for turn in range(2):
        began = time.monotonic()
        environment = os.environ | {"STATE_DIRECTORY": str(past.folder)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=PROJECT)
        assert done.returncode == 0, done.stderr
        peak = int(done.stdout.partition("VmHWM:")[2].split()[0]) / 1024
        print(f"turn {turn + 1}: {rows} rows in {time.monotonic() - began:.1f} s, {peak:.0f} MB at most")
        seen.append(hashlib.sha256(repr(past.all()).encode()).hexdigest())
        assert peak < 100
    assert seen[0] == seen[1]
    assert past.ask("SELECT count(*) FROM minutes") == [(rows,)]
    assert past.ask(f"SELECT sum(difference) FROM months WHERE name = '{METER}'")[0][0] == pytest.approx(
        (rows // 2 - 1) / 100
    )
