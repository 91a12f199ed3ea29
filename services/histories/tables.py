"""Tables of measurements in SQLite, a row a moment: the first boiler system's, and any of that form.

The first system (2018) wrote `Chaudiere` each few seconds and `ChaudiereMinute` each minute: temp0 to temp2 in °C, where -1 stood for a
sensor that gave nothing, watt0 to watt3, which are no watts, and a phase as a number, by the naive clock of its house.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from bootstrap_lib import StartError
from services.boiler.legacy import NUMBERS
from services.histories.moments import Moments
from services.histories.scratch import Old, Scratch

MINUTE: Final = 60_000
TIMES: Final = ("dt", "timestamp", "datetime", "time", "date", "ts")
"""Names that a column of times may have."""

PHASES: Final = {number: word for word, number in NUMBERS.items()}
"""Words of the first system's numbers, as the profile `legacy` says them."""
NOTHING: Final = -1
"""What the first system stored of a temperature sensor that did not answer."""


def read(path: Path, into: Scratch, zone: ZoneInfo) -> None:
    """Read each table that has a column of times; a column of numbers is the series `Table.column`. StartError where none has."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        taken = sum([_table(database, table, into, zone) for table in sorted(tables)])
    if not taken:
        raise StartError(f"{path} has no table with a column of times ({', '.join(TIMES)}): export it as CSV")


def _table(database: sqlite3.Connection, table: str, into: Scratch, zone: ZoneInfo) -> bool:
    name = table.replace('"', '""')
    columns = [row[1] for row in database.execute(f'PRAGMA table_info("{name}")')]
    times = next((column for wanted in TIMES for column in columns if column.lower() == wanted), None)
    if times is None:
        return False
    first = "temp0" in columns and "watt0" in columns
    length = MINUTE if first and "minute" in table.lower() else 0
    others = [column for column in columns if column not in (times, "id") and not column.endswith("_id")]
    numbers = {
        column: into.series(f"{table}.{column}", "°C" if first and column.startswith("temp") else None)
        for column in others
    }
    moment_of = Moments(zone)
    quoted = ", ".join('"{}"'.format(column.replace('"', '""')) for column in (times, *others))
    for moment, *values in database.execute(f'SELECT {quoted} FROM "{name}"'):
        try:
            time = moment_of(str(moment))
        except ValueError:
            into.problem(f"{table}: times that are none")
            continue
        for column, value in zip(others, values, strict=True):
            if first and column.startswith("temp") and value == NOTHING:
                into.problem(f"{table}.{column}: -1, which stood for no value")
            elif first and column == "phase" and value in PHASES:
                into.add(numbers[column], Old(time, word=PHASES[value]))
            elif isinstance(value, (int, float)):
                into.add(numbers[column], Old(time - time % (length or 1), length, float(value)))
            elif isinstance(value, str) and value:
                into.add(numbers[column], Old(time, word=value))
    return True
