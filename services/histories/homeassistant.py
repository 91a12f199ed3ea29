"""Home Assistant's recorder: long-term statistics, those of five minutes, and states.

Schema as since release 2023.3 (developers.home-assistant.io, "Statistics"; homeassistant/components/recorder/db_schema.py): times are
seconds since 1970; `sum` grows over resets of the meter, `state` is its stand. The first row after an outage has all that was counted
meanwhile. The database may be in use.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from bootstrap_lib import StartError
from services.histories.scratch import TIMES, Old, Scratch

HOUR: Final = 3_600_000
FIVE_MINUTES: Final = 300_000
UNKNOWN: Final = ("unavailable", "unknown", "")


def is_one(database: sqlite3.Connection) -> bool:
    """Whether a database is a recorder's."""
    return bool(database.execute("SELECT 1 FROM sqlite_master WHERE name = 'statistics_meta'").fetchone())


def read(path: Path, into: Scratch) -> None:
    """Read all of it. StartError for a schema of before 2023.3."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        columns = {row[1] for row in database.execute("PRAGMA table_info(statistics)")}
        if "start_ts" not in columns:
            raise StartError(
                f"{path} has the schema of a Home Assistant of before 2023.3: start a newer one on it once"
            )
        told = _statistics(database, into)
        if {row[1] for row in database.execute("PRAGMA table_info(states)")} >= {"metadata_id", "last_updated_ts"}:
            _states(database, into, told)


def _statistics(database: sqlite3.Connection, into: Scratch) -> set[str]:
    """Read both tables of statistics; returns the names of what they tell."""
    names: dict[int, int] = {}
    told = set()
    query = "SELECT id, statistic_id, unit_of_measurement FROM statistics_meta ORDER BY statistic_id"
    for meta, name, unit in database.execute(query).fetchall():
        names[meta] = into.series(name, unit)
        told.add(name)
    for table, length in (("statistics_short_term", FIVE_MINUTES), ("statistics", HOUR)):
        query = f"""
            SELECT metadata_id, start_ts, mean, min, max, state,
                   sum - lag(sum) OVER line, lag(start_ts) OVER line
            FROM {table} WHERE metadata_id IS NOT NULL AND start_ts IS NOT NULL
            WINDOW line AS (PARTITION BY metadata_id ORDER BY start_ts) ORDER BY metadata_id, start_ts"""
        for meta, start, mean, low, high, stand, difference, before in database.execute(query):
            if meta in names and (mean is not None or stand is not None):
                value = mean if mean is not None else stand
                time, since = _moment(start), None if difference is None else _moment(before) + length
                row = Old(time, length, value, None, low, high, difference)
                into.add(names[meta], row if since is None or since >= time else row._replace(since=since))
    return told


def _states(database: sqlite3.Connection, into: Scratch, told: set[str]) -> None:
    """Read states; numbers of which there are statistics are left to these."""
    units: dict[int, str | None] = {}
    known: tuple[int, int | None] | None = None
    query = """
        SELECT m.metadata_id, m.entity_id, s.state, s.last_updated_ts, s.attributes_id
        FROM states s JOIN states_meta m ON m.metadata_id = s.metadata_id
        WHERE s.last_updated_ts IS NOT NULL ORDER BY m.metadata_id, s.last_updated_ts"""
    for meta, name, state, moment, attributes in database.execute(query):
        if name in told:
            continue
        if known != (known := (meta, attributes)):
            units[meta] = _unit_of(database, attributes) or units.get(meta)
        series = into.series(name, units[meta], on_change=True)
        into.add(series, _old(_moment(moment), state))


def _moment(seconds: object) -> int:
    """Milliseconds; what is no time lies outside of all times, and the scratch file counts it."""
    if isinstance(seconds, (int, float)) and abs(seconds) < TIMES / 1000:
        return round(seconds * 1000)
    return TIMES


def _old(moment: int, state: str | None) -> Old:
    if state is None or state in UNKNOWN:
        return Old(moment)
    try:
        return Old(moment, value=float(state))
    except ValueError:
        return Old(moment, word=state)


def _unit_of(database: sqlite3.Connection, attributes: int | None) -> str | None:
    query = "SELECT shared_attrs FROM state_attributes WHERE attributes_id = ?"
    row = database.execute(query, (attributes,)).fetchone() if attributes is not None else None
    try:
        unit = json.loads(row[0]).get("unit_of_measurement") if row and row[0] else None
    except (ValueError, AttributeError):
        return None
    return unit if isinstance(unit, str) else None
