"""Lines of text: CSV as `constellation export` writes it, CSV of columns or of named rows, and InfluxDB's line protocol."""

import csv
import io
import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO
from zoneinfo import ZoneInfo

from bootstrap_lib import StartError
from services.histories.homeassistant import UNKNOWN
from services.histories.moments import Moments, moment_of
from services.histories.scratch import Old, Scratch
from services.histories.tables import NOTHING

MINUTE: Final = 60_000
HOUR: Final = 3_600_000
LONGEST: Final = 1_000_000
"""Characters of the longest line that is looked at."""
COLUMNS: Final = 1000
MOST_COUNTED: Final = 1_000_000
"""Readings or starts within an hour; more are none."""
_TIMES: Final = ("time", "timestamp", "datetime", "dt", "ts", "_time", "last_changed", "last_updated", "date")
_NAMES: Final = ("_field", "_measurement", "entity_id", "topic", "sensor", "metric", "name")
"""Columns that say which series a row is of."""
_VALUES: Final = ("_value", "state", "value")
"""Columns of such rows' values."""
_FLUX: Final = ("", "result", "table", "_start", "_stop", "_time", "_value", "_field", "_measurement")
"""Columns of InfluxDB's annotated CSV that are no tags (docs.influxdata.com, "Annotated CSV")."""


def read(path: Path, into: Scratch, zone: ZoneInfo) -> None:
    """Read a file of either kind. StartError where it is none."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        _text(file, path, into, zone)


def read_zip(path: Path, into: Scratch, zone: ZoneInfo) -> None:
    """Read all CSV of a zip, such as a data passport. StartError where it is none."""
    try:
        with zipfile.ZipFile(path) as packed:
            for member in packed.infolist():
                if member.filename.endswith(".csv"):
                    with packed.open(member) as file:
                        text = io.TextIOWrapper(file, "utf-8-sig", "replace", newline="")
                        _text(text, Path(member.filename), into, zone)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise StartError(f"{path} is no whole zip: {error}") from None


def _text(file: TextIO, path: Path, into: Scratch, zone: ZoneInfo) -> None:
    first = file.readline(LONGEST)
    while first.startswith(_PREAMBLE) or (first and not first.strip()):
        first = file.readline(LONGEST)
    header = next(csv.reader([first], delimiter=_delimiter(first)), [])
    names = [name.strip() for name in header]
    lowered = [name.lower() for name in names]
    key = next((name for name in _NAMES if name in lowered), None)
    if key == "name" and "time" in names and "date" not in lowered and {"value", "count"} & set(names):
        _exported(file, names, into, zone)
    elif places := _places(lowered):
        if key is None:
            _columns(file, names, places, path.stem, into, zone, _delimiter(first))
        elif value := next((name for name in _VALUES if name in lowered), None):
            _named(file, names, (places, key, value), into, zone, _delimiter(first))
        else:
            raise StartError(
                f"{path} says in its column {key} what a row is of, and has no column {', '.join(_VALUES[1:])}:"
                " export a row a value, or one series alone without that column"
            )
    elif _LINE.fullmatch(first.strip()):
        _line(first, into)
        for line in _lines(file):
            _line(line, into)
    else:
        raise StartError(f"{path} is neither CSV with a column named time nor InfluxDB's line protocol")


def _delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(LONGEST):
        yield line


def _number(text: str | None, *, comma: bool = False) -> float | None:
    """Return a number, also one of a table with decimal commas; float() would take 1_000 as well."""
    try:
        text = text.replace(",", ".") if text and comma else text
        number = float(text) if text and "_" not in text else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def _count(text: str | None) -> int | None:
    number = _number(text)
    return round(number) if number is not None and 0 <= number <= MOST_COUNTED else None


def _exported(file: TextIO, names: list[str], into: Scratch, zone: ZoneInfo) -> None:
    """Read what `constellation export` wrote: raw readings, minutes or hours with all that is known of them."""
    moments = Moments(zone)
    length = (HOUR if "minutes" in names else MINUTE) if "count" in names else 0
    for values in csv.reader(_lines(file)):
        row = dict(zip(names, values, strict=False))
        try:
            moment, name = moments(row["time"]), row["name"]
        except (ValueError, KeyError):
            into.problem("lines without a time or a name")
            continue
        series = into.series(name, row.get("unit"))
        if not length:
            into.add(series, _old(moment, row.get("value", "")))
            continue
        value = _number(row.get("mean")) if row.get("mean") else _number(row.get("last"))
        low, high, difference, seconds_on = (
            _number(row.get(name)) for name in ("low", "high", "difference", "seconds_on")
        )
        into.add(
            series,
            Old(
                moment,
                length,
                value,
                row.get("word") or None,
                low,
                high,
                difference,
                _count(row.get("count")),
                seconds_on,
                _count(row.get("starts")),
            ),
        )


def _places(lowered: list[str]) -> list[int]:
    """Where the time stands: in one column, or in those of date and time together."""
    if {"date", "time"} <= set(lowered):
        return [lowered.index("date"), lowered.index("time")]
    return [lowered.index(name) for name in _TIMES if name in lowered][:1]


def _named(  # noqa: PLR0917
    file: TextIO, names: list[str], places: tuple[list[int], str, str], into: Scratch, zone: ZoneInfo, delimiter: str
) -> None:
    """Read rows that say which series they are of, as Home Assistant's history and InfluxDB's annotated CSV."""
    (times, key, value), moments = places, Moments(zone)
    flux = key.startswith("_")
    for values in csv.reader(_lines(file), delimiter=delimiter):
        if flux and {"_time", "_value"} <= set(values):  # the header of the next table
            names, times = values, [values.index("_time")]
        elif values and not (flux and values[0].startswith("#")):
            row = dict(zip(names if flux else map(str.lower, names), map(str.strip, values), strict=False))
            try:
                name, moment = _tagged(row) if flux else row[key], moments(" ".join(values[index] for index in times))
            except (ValueError, LookupError):
                into.problem("lines without a time or a name")
                continue
            text = row.get(value, "")
            series = into.series(name, row.get("unit"), on_change=key == "entity_id")
            into.add(series, _old(moment, "" if text in UNKNOWN else text, comma=delimiter == ";"))


def _tagged(row: dict[str, str]) -> str:
    """Name of a series as line protocol gives it."""
    tags = "".join(f",{tag}={row[tag]}" for tag in sorted(row) if tag not in _FLUX and row[tag])
    return f"{row.get('_measurement', '')}{tags}:{row.get('_field', '')}"


def _columns(  # noqa: PLR0917
    file: TextIO, names: list[str], places: list[int], stem: str, into: Scratch, zone: ZoneInfo, delimiter: str
) -> None:
    """Read columns of times and others of values: with one of these the series is called as the file."""
    others = [(index, name) for index, name in enumerate(names) if name.lower() not in _TIMES][:COLUMNS]
    labels = {index: stem if len(others) == 1 else name for index, name in others}
    moments = Moments(zone)
    first = {"temp0", "watt0"} <= set(names)  # a recording of the first boiler system
    for values in csv.reader(_lines(file), delimiter=delimiter):
        try:
            moment = moments(" ".join(values[index] for index in places))
        except (ValueError, IndexError):
            if values:
                into.problem("lines without a time")
            continue
        for index, label in labels.items():
            if index < len(values) and (text := values[index].strip()):
                if first and label.startswith("temp") and _number(text) == NOTHING:
                    into.problem(f"{label}: -1, which stood for no value")
                else:
                    into.add(into.series(label), _old(moment, text, comma=delimiter == ";"))


def _old(moment: int, text: str, *, comma: bool = False) -> Old:
    number = _number(text, comma=comma)
    if number is not None:
        return Old(moment, value=number)
    return Old(moment, word=text) if text else Old(moment)


# -- line protocol --------------------------------------------------------------------------------------------------

_PART: Final = r"(?:\\.|[^\\, =])"
_VALUE: Final = r'(?:"(?:\\.|[^"\\])*"|[^", ]+)'
_LINE: Final = re.compile(
    rf"(?P<measurement>(?:\\.|[^\\, ])+)(?P<tags>(?:,{_PART}+={_PART}+)*) +"
    rf"(?P<fields>{_PART}+={_VALUE}(?:,{_PART}+={_VALUE})*)(?: +(?P<time>-?\d+))?"
)
_FIELD: Final = re.compile(rf"({_PART}+)=({_VALUE})")
_ESCAPED: Final = re.compile(r"\\([, =\\\"])")
_UTC: Final = ZoneInfo("UTC")
_PREAMBLE: Final = ("#", "CREATE DATABASE ")
"""How lines begin that are none; the second in what `influx_inspect export` writes before each database."""


def _line(line: str, into: Scratch) -> None:
    """Read one line (docs.influxdata.com, "Line protocol"): each field is the series `measurement,tag=value:field`."""
    line = line.strip()
    if not line or line.startswith(_PREAMBLE):
        return
    match = _LINE.fullmatch(line)
    if match is None or match["time"] is None:
        into.problem("lines that are no line protocol" if match is None else "lines without a time")
        return
    try:
        moment = moment_of(match["time"], _UTC)
    except ValueError:
        into.problem("lines whose time is none")
        return
    for name, value in _FIELD.findall(match["fields"]):
        series = _ESCAPED.sub(r"\1", f"{match['measurement']}{match['tags']}:{name}")
        into.add(into.series(series), _field(moment, value))


def _field(moment: int, value: str) -> Old:
    if value.startswith('"'):
        return Old(moment, word=_ESCAPED.sub(r"\1", value[1:-1]))
    if value in ("t", "T", "true", "True", "TRUE", "f", "F", "false", "False", "FALSE"):
        return Old(moment, value=float(value[0] in "tT"))
    number = _number(value.rstrip("iu"))
    return Old(moment) if number is None else Old(moment, value=number)
