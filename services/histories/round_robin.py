"""Round-robin files: means of each resolution, with their extremes; of counters, whose files know rates alone, what was counted."""

import io
import math
import re
from pathlib import Path
from typing import Final, NamedTuple
from xml.etree import ElementTree as ET

from bootstrap_lib import StartError, reason
from services.histories.scratch import Old, Scratch
from services.stores.rrd_dump import LARGEST, to_xml

RATES: Final = ("COUNTER", "DERIVE", "DCOUNTER", "DDERIVE", "ABSOLUTE")
_DOCTYPE: Final = re.compile(rb"<!ENTITY", re.IGNORECASE)


class Way(NamedTuple):
    """A data source of a file: whether it is a rate, and its series."""

    rate: bool
    series: int


def read(path: Path, into: Scratch) -> None:
    """Read a file, XML of `rrdtool dump`, or all files below a folder. StartError says what is wrong."""
    if path.is_dir():
        found = sorted(path.rglob("*.rrd"))
        if not found:
            raise StartError(f"{path} holds no round-robin files (.rrd)")
        for file in found:
            _read(file, str(file.relative_to(path).with_suffix("")), into)
    else:
        _read(path, path.stem, into)


def _read(path: Path, name: str, into: Scratch) -> None:
    try:
        if path.stat().st_size > LARGEST:
            raise StartError(f"{path} is larger than any round-robin file")
        xml = path.read_bytes() if path.suffix == ".xml" else to_xml(path)
        if _DOCTYPE.search(xml):
            raise StartError(f"{path} declares entities: that is no dump of rrdtool")
        _series(ET.parse(io.BytesIO(xml)).getroot(), name, into)  # noqa: S314 (without entities; bounded)
    except OSError as error:
        raise StartError(f"{path} cannot be read: {reason(error)}") from None
    except (ET.ParseError, AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise StartError(f"{path} is no round-robin file that can be read: {error}") from None


def _text(node: ET.Element, name: str) -> str:
    found = node.findtext(name)
    if found is None:
        raise ValueError(f"it has no {name}")
    return found.strip()


def _series(root: ET.Element, name: str, into: Scratch) -> None:
    step, last = int(_text(root, "step")), int(_text(root, "lastupdate"))
    sources = [(_text(node, "name"), _text(node, "type")) for node in root.iter("ds") if node.find("type") is not None]
    ways = [
        Way(kind in RATES, into.series(name if len(sources) == 1 else f"{name}:{label}")) for label, kind in sources
    ]
    arrays = root.findall("rra")
    alone = all(
        _text(rra, "cf") != "AVERAGE" for rra in arrays
    )  # else the highest of an hour would be told as its mean
    for rra in arrays:
        function, length = _text(rra, "cf"), int(_text(rra, "pdp_per_row")) * step
        rows = rra.findall("database/row")
        end = last - last % length - (len(rows) - 1) * length
        for number, row in enumerate(rows):
            begin = (end + number * length - length) * 1000
            for way, node in zip(ways, row.findall("v"), strict=True):
                value = float(node.text or "nan")
                if math.isfinite(value):
                    into.add(way.series, _old(begin, length, value, function, way, alone=alone))


def _old(begin: int, length: int, value: float, function: str, way: Way, *, alone: bool) -> Old:
    if way.rate:
        return Old(begin, length * 1000, difference=value * length if function == "AVERAGE" else None)
    match function:
        case "MIN":
            return Old(begin, length * 1000, low=value)
        case "MAX":
            return Old(begin, length * 1000, value=value if alone else None, high=value)
        case _:
            return Old(begin, length * 1000, value=value)
