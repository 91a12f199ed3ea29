"""Graphs of round-robin files: several measurements of one unit as lines, states behind them as coloured bands.

Drawn by rrdtool (rrdgraph(1), rrdgraph_rpn(1)); this module only says what.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bootstrap_lib import Registry, Topic, nearest, state
from services.stores.canvas import Piece
from services.stores.fresh import Recent, stored
from services.stores.roundrobin import DAY, path_of
from services.stores.sheet import GraphError, Sheet, Span, is_band, prepare

__all__ = ["GraphError", "Sheet", "Span", "describe", "draw", "draw_sheet", "prepare", "select", "unit_of"]

WIDTH, HEIGHT = 960, 400
"""Pixels of a graph, everything included."""

LINES: Final = ("#2563EB", "#DC2626", "#059669", "#D97706", "#7C3AED", "#0891B2", "#DB2777", "#4D7C0F")
BANDS: Final = (
    "#CBD5E1",
    "#FDE68A",
    "#FDBA74",
    "#FCA5A5",
    "#86EFAC",
    "#93C5FD",
    "#C4B5FD",
    "#F9A8D4",
    "#99F6E4",
    "#D9F99D",
)
"""Colours that stay apart in print; the first band is the quiet one: most lists of states begin with `off`."""

SWITCH: Final = 8
"""Which of the bands is a switch's, where it was on."""

STYLE: Final = (
    *("--imgformat", "PNG", "--full-size-mode", "--slope-mode", "--border", "0", "--disable-rrdtool-tag"),
    *("--color", "BACK#FFFFFF", "--color", "CANVAS#FFFFFF", "--color", "FONT#334155", "--color", "AXIS#94A3B8"),
    *(
        "--color",
        "GRID#94A3B820",
        "--color",
        "MGRID#94A3B84A",
        "--color",
        "ARROW#FFFFFF00",
        "--color",
        "FRAME#FFFFFF00",
    ),
    *("--font", "DEFAULT:9:DejaVu Sans", "--font", "TITLE:13:DejaVu Sans Bold", "--font", "LEGEND:9:DejaVu Sans Mono"),
    *("--grid-dash", "1:0", "--units-exponent", "0", "--tabwidth", "20"),
)

RATES: Final = {"kWh": "kW", "Ah": "A", "": "1/h"}
"""What a counter's unit becomes when it is drawn as its growth in an hour; any other gets `/h`."""

LONGEST_LABEL: Final = 28

FIGURES: Final = (
    ("last", "LAST", "mean"),
    ("min", "MINIMUM", "low"),
    ("mean", "AVERAGE", "mean"),
    ("max", "MAXIMUM", "high"),
)
"""What stands beside a line: the column's head, how it is worked out, and from which curve."""


def select(
    registry: Registry, folder: Path, names: Sequence[str], recent: Mapping[str, Recent] | None = None
) -> list[Topic[Any]]:
    """Topics of a graph by their names; GraphError where one is unknown, was never stored, or has another unit."""
    topics: list[Topic[Any]] = []
    for name in dict.fromkeys(name.removeprefix(f"{registry.root}/data/") for name in names):
        topic = registry.topics.get(name)
        if topic is None:
            raise GraphError(f"topics.yaml has no topic '{name}'{nearest(name, registry.topics)}")
        if not path_of(folder, name).exists() and name not in (recent or {}):
            raise GraphError(f"'{name}' has no file in {folder} yet: nothing of it was stored")
        topics.append(topic)
    units = dict.fromkeys(unit_of(topic) for topic in topics if not is_band(topic))
    if len(units) > 1:
        raise GraphError(f"one graph has one unit, these have {', '.join(units)}: ask for a graph of each")
    return topics


def unit_of(topic: Topic[Any]) -> str:
    """Unit on the axis: a counter is drawn as its rate, per hour."""
    return RATES.get(topic.unit, f"{topic.unit}/h") if topic.kind == "counter" else topic.unit


def draw(
    topics: Sequence[Topic[Any]],
    folder: Path,
    output: Path,
    span: Span,
    recent: Mapping[str, Recent] | None = None,
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> None:
    """Draw topics that `select` returned into a PNG file; GraphError where rrdtool refuses.

    `recent` are readings that the files do not show yet. What begins later than asked for is drawn from where it begins.
    """
    with tempfile.TemporaryDirectory(prefix="graph-") as scratch:
        sheet = prepare(topics, folder, Path(scratch), span, recent or stored(folder), width=width)
        draw_sheet(topics, sheet, output, width=width, height=height)


def draw_sheet(topics: Sequence[Topic[Any]], sheet: Sheet, output: Path, *, width: int, height: int) -> None:
    """Draw what was prepared into a PNG file; GraphError where rrdtool refuses."""
    import rrdtool

    with tempfile.TemporaryDirectory(prefix="graph-") as scratch:
        drawn = Path(scratch, "picture.png")
        try:
            rrdtool.graph(str(drawn), *describe(topics, sheet, width, height))
        except rrdtool.OperationalError as error:
            raise GraphError(f"rrdtool cannot draw it: {error}") from None
        state.write(output, drawn.read_bytes())


def describe(topics: Sequence[Topic[Any]], sheet: Sheet, width: int, height: int) -> list[str]:
    """Return the arguments of rrdtool's `graph`: options, then bands, then lines above them."""
    span, paths = sheet.span, sheet.paths
    bands = [topic for topic in topics if is_band(topic)]
    lines = [topic for topic in topics if not is_band(topic)]
    arguments = [
        *STYLE,
        "--start",
        str(span.start),
        "--end",
        str(span.end),
        "--width",
        str(width),
        "--height",
        str(height),
    ]
    arguments += ["--title", _title(topics)]
    if lines:
        arguments += ["--vertical-label", unit_of(lines[0]), "--alt-autoscale"]
    else:
        arguments += ["--y-grid", "none", "--lower-limit", "0", "--upper-limit", str(len(bands)), "--rigid"]
    for index, topic in enumerate(bands):
        lane = None if lines else len(bands) - 1 - index
        arguments += _band(topic, paths[topic.name], f"s{index}", lane, _shares(sheet.bands[topic.name]))
    if lines:
        columns = [column for column, _, _ in FIGURES] + (["total"] if lines[0].kind == "counter" else [])
        arguments.append(f"COMMENT:  {'':{LONGEST_LABEL}}")
        arguments += [f"COMMENT:{column:>10}" for column in columns]
        arguments[-1] += "\\l"
    wide = span.end - span.start > DAY
    for index, topic in enumerate(lines):
        colour = LINES[index % len(LINES)]
        if topic.name in sheet.empty:
            arguments.append(
                f"COMMENT:  {_escape(f'{_shorten(topic.label):{LONGEST_LABEL}}')}  nothing in this time\\l"
            )
            continue
        arguments += _line(topic, paths[topic.name], f"v{index}", colour, wide=wide)
    if not any(text.startswith(("LINE", "AREA")) for text in arguments):
        arguments.append("LINE0:0#FFFFFF00")  # rrdtool draws no graph of nothing
    return [*arguments, _period(span)]


def _title(topics: Sequence[Topic[Any]]) -> str:
    if len(topics) == 1:
        return topics[0].label
    shared = {tuple(topic.name.split("/")[:depth]) for depth in (2, 1) for topic in topics}
    for depth in (2, 1):
        places = {part for part in shared if len(part) == depth}
        if len(places) == 1:
            return " ".join(places.pop()).replace("_", " ")
    return ", ".join(topic.label for topic in topics)


def _line(topic: Topic[Any], path: Path, name: str, colour: str, *, wide: bool) -> list[str]:
    """Draw a number: the mean as a line, what lay between its minimum and maximum as a shade; the figures beside it."""
    scale = "3600,*" if topic.kind == "counter" else "1,*"
    lowest, highest = ("MIN", "MAX") if wide else ("AVERAGE", "AVERAGE")
    functions = {"mean": "AVERAGE", "low": lowest, "high": highest}
    arguments = []
    for key, function in functions.items():
        arguments.append(f"DEF:{name}{key}r={_escape(str(path))}:value:{function}")
        arguments.append(f"CDEF:{name}{key}={name}{key}r,{scale}")
    if wide:
        arguments.append(f"CDEF:{name}height={name}high,{name}low,-")
        arguments += [f"LINE0:{name}low", f"AREA:{name}height{colour}38::STACK"]
    arguments.append(f"LINE1.4:{name}mean{colour}:{_escape(f'{_shorten(topic.label):{LONGEST_LABEL}}')}")
    digits = min(topic.decimals, 2) if topic.kind != "counter" else 2
    for column, function, of in FIGURES:
        arguments += [f"VDEF:{name}f{column}={name}{of},{function}", f"GPRINT:{name}f{column}:%10.{digits}lf"]
    if topic.kind == "counter":
        arguments += [f"VDEF:{name}total={name}meanr,TOTAL", f"GPRINT:{name}total:%10.2lf {_escape(topic.unit)}"]
    arguments[-1] += "\\l"
    return arguments


def _shares(pieces: Sequence[Piece]) -> dict[float, float]:
    """How long each value was, as a share of the time that is known (0..1); a switch in part of a minute counts in part."""
    known = sum(until - begin for begin, until, _ in pieces)
    shares: dict[float, float] = {}
    for begin, until, value in pieces:
        shares[value] = shares.get(value, 0.0) + (until - begin) / known
    return shares


def _band(topic: Topic[Any], path: Path, name: str, lane: int | None, shares: dict[float, float]) -> list[str]:
    """Draw a state as bands behind the lines, or in a lane of its own where there are none, and how long each was.

    A switch is one band, where it was on at all; its share is exact.
    """
    switch = topic.kind == "switch"
    words = {SWITCH: "on"} if switch else dict(enumerate(topic.states))
    arguments = [f"DEF:{name}r={_escape(str(path))}:value:{'AVERAGE' if switch else 'LAST'}"]
    # A pixel in which the state changed holds a mixture: it is shown as the state that was before.
    whole = f"{name}r,UN,UNKN,{name}r,DUP,FLOOR,EQ,{name}r,PREV,IF,IF"
    arguments.append(f"CDEF:{name}={f'{name}r' if switch else whole}")
    arguments.append(f"COMMENT:   {_escape(f'{_shorten(topic.label):{LONGEST_LABEL}}')}")
    for value, word in words.items():
        part, colour = f"{name}p{value}", f"{BANDS[value % len(BANDS)]}99"
        test = f"{name},0,GT" if switch else f"{name},{value},EQ"
        bottom, height, stack = ("NEGINF", "INF", "") if lane is None else (f"{lane + 0.1}", "0.8", ":STACK")
        arguments += [f"CDEF:{part}b={test},{bottom},UNKN,IF", f"AREA:{part}b{colour if lane is None else ''}"]
        arguments += [f"CDEF:{part}={test},{height},UNKN,IF", f"AREA:{part}{colour}:{_escape(word)}{stack}"]
        share = sum(v * part for v, part in shares.items()) if switch else shares.get(value, 0.0)
        if shares:
            arguments.append(f"COMMENT:{100 * share:3.0f} %  ")
    if shares:
        arguments[-1] += "\\l"
    else:
        arguments.append("COMMENT: nothing in this time\\l")
    return arguments


def _period(span: Span) -> str:
    form = "%a %d %b %Y %H:%M"
    first, last = (time.strftime(form, time.localtime(moment)) for moment in (span.start, span.end))
    zone = time.strftime("%Z", time.localtime(span.end))
    return f"COMMENT:{_escape(f'{first} to {last} {zone}')}\\r"


def _shorten(label: str) -> str:
    return label if len(label) < LONGEST_LABEL else label[: LONGEST_LABEL - 2] + "…"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:")
