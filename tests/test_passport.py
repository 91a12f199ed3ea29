"""The data passport: all that the archive holds stands in it once, says what it is, and comes into another house as it was."""

import csv
import hashlib
import io
import json
import os
import sqlite3
import zipfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from test_import import DAY, HOUR, METER, PHASE, PUMP, WATER, Past, local, write_csv
from voices import now

from services.stores import passport, schema
from services.stores.minutes import compute
from services.stores.schema import MINUTE


@pytest.fixture
def past(tmp_path: Path) -> Path:
    """A house with hours of years ago, minutes of this one, and raw readings of yesterday with a minute between that has none."""
    past = Past(tmp_path / "past")
    with closing(sqlite3.connect(tmp_path / "ha.db")) as database, database:
        database.executescript("""
            CREATE TABLE statistics_meta (id INTEGER PRIMARY KEY, statistic_id, unit_of_measurement);
            CREATE TABLE statistics (metadata_id, start_ts, mean, min, max, state, sum);
            CREATE TABLE statistics_short_term (metadata_id, start_ts, mean, min, max, state, sum);
            CREATE TABLE states (state_id);
            INSERT INTO statistics_meta VALUES (1, 'w', '°C');
        """)
        first = local("2023-12-31T20:00:00") / 1000
        rows = [(first + n * 3600, 40 + n) for n in range(10) if n != 5]
        database.executemany("INSERT INTO statistics VALUES (1, ?, ?, 30, 90, NULL, NULL)", rows)
    past.take(tmp_path / "ha.db", "--map", f"w={WATER}", "--write")
    early = (now() - 20 * DAY) // 1000
    for name, topic, values in (
        ("a", WATER, [50 + n / 3 for n in range(40)]),
        ("b", METER, range(40)),
        ("c", PUMP, [n % 2 for n in range(40)]),
    ):
        past.take(
            write_csv(tmp_path / f"{name}.csv", [(early + n * 45, v) for n, v in enumerate(values)]),
            "--map",
            f"{name}={topic}",
            "--write",
        )
    raw = (now() - DAY) // HOUR * HOUR
    topics = dict(past.ask("SELECT name, id FROM topics"))
    rows = [(raw + n * 7000, topics[WATER], 60 + n % 9 / 4, None) for n in range(100)]
    rows += [(raw + n * 7000 + 1, topics[METER], 100 + n / 8, None) for n in range(100)]
    with past.engine.begin() as connection:
        schema.insert_rows(connection, schema.READINGS, rows)
        schema.insert_rows(connection, schema.PENDING, list({(t - t % MINUTE, n) for t, n, *_ in rows}))
        while compute(connection, now(), 0, {}) is not None:
            pass
    between = write_csv(tmp_path / "d.csv", [((raw + 3 * HOUR) // 1000, 77.0)])
    past.take(between, "--map", f"d={WATER}", "--write")
    return past


def test_everything_stands_in_it_once_with_its_units_and_sums(past: Past, tmp_path: Path) -> None:
    file = tmp_path / "house.zip"
    done = past.do("export", "--all", file)
    assert done.returncode == 0, done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(file) as packed:
        assert {one.compress_type for one in packed.infolist()} == {zipfile.ZIP_DEFLATED}
        content = {name: packed.read(name) for name in packed.namelist()}
    sums = dict(reversed(line.split("  ")) for line in content.pop(passport.SUMS).decode().splitlines())
    assert sums == {name: hashlib.sha256(one).hexdigest() for name, one in content.items()}
    told = json.loads(content.pop(passport.DESCRIPTION))
    assert {one["file"]: one["rows"] for topic in told["topics"] for one in topic["files"]} == {
        name: one.count(b"\n") - 1 for name, one in content.items()
    }
    water = next(topic for topic in told["topics"] if topic["topic"] == WATER)
    assert (water["units"], water["label"]) == ([{"unit": "°C", "ucum": "Cel"}], "Kesselwasser")
    assert [Path(one["file"]).name for one in water["files"] if one["holds"] == "hours"] == [
        "2023-hours.csv",
        "2024-hours.csv",
    ]
    assert ["2024-01-01T00:00:00.000Z", "2024-01-01T01:00:00.000Z"] in water["missing"]
    assert told["nothing_of"] == [PHASE, "shed/text/text"]
    rows = [row for one in content.values() for row in csv.DictReader(io.StringIO(one.decode()))]
    assert {row["ucum"] for row in rows if row["name"] == METER} == {"kW.h"}
    places = Counter((row["name"], row["time"]) for row in rows)
    assert max(places.values()) == 1
    assert sum(row.get("value") is not None for row in rows) == 200
    assert [row["mean"] for row in rows if row.get("mean") == "77.0"] == ["77.0"], (
        "a minute without raw readings among those that have them"
    )


def test_it_comes_into_another_house_as_it_was(past: Past, tmp_path: Path) -> None:
    past.do("export", "--all", tmp_path / "house.zip")
    other = Past(tmp_path / "other")
    other.take(tmp_path / "house.zip", "--write")
    for table, columns in (
        ("minutes", "count, mean, low, high, last, difference, seconds_on, starts, word"),
        ("hours", "minutes, count, mean"),
    ):
        query = f"SELECT name, ms, {columns} FROM {table}_by_name ORDER BY name, ms"
        there, here = other.ask(query), past.ask(query)
        assert [row[:2] for row in there] == [row[:2] for row in here]
        assert [[*map(_near, row)] for row in there] == [[*map(_near, row)] for row in here]
    cut = tmp_path / "cut.zip"
    cut.write_bytes((tmp_path / "house.zip").read_bytes()[:3000])
    assert "is no whole zip" in other.do("import", cut, "--scratch", tmp_path).stderr


def _near(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value


def test_what_it_cannot_do_it_says(past: Past, tmp_path: Path) -> None:
    assert "leave out --from and --to" in past.do("export", "--all", tmp_path / "x.zip", "--from", "2026-01-01").stderr
    done = past.do("export", "--all", tmp_path / "none/x.zip")
    assert (done.returncode, "none" in done.stderr) == (os.EX_IOERR, True)
    assert not list(tmp_path.glob("*.zip"))
    assert not list(tmp_path.glob(".passport*"))
