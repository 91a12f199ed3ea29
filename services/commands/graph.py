"""Draw a graph of one or more topics from the round-robin files, as PNG.

Topics of one unit are lines in one graph; states and switches are coloured bands behind them:

    constellation graph boiler/water/temperature boiler/burner/phase --from 12h --output boiler.png
"""

import argparse
import base64
import contextlib
import os
import sys
import time
from pathlib import Path

import msgspec

from bootstrap_lib import Client, Registry, StartError, catalog, state

PATIENCE = 40.0
"""Seconds for which the service is waited for."""

LEAST, MOST = 10, 10_000
"""Pixels of a graph: what rrdtool can draw."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `graph` takes."""
    parser.add_argument("topic", nargs="+", help="place/thing/name, as in topics.yaml")
    parser.add_argument("--from", dest="start", default="4h", help="so long ago, or a time (default: 4h)")
    parser.add_argument("--to", dest="end", help="so long ago, or a time (default: now)")
    parser.add_argument("--output", type=Path, default=Path("graph.png"), help="file to write (default: graph.png)")
    parser.add_argument("--width", type=_pixels, default=960, help="pixels (default: 960)")
    parser.add_argument("--height", type=_pixels, default=400, help="pixels (default: 400)")
    parser.add_argument("--folder", type=Path, help="where the round-robin files are (default: the service's folder)")
    parser.add_argument("--recent", metavar="-", help="what is newer than the files, as the service hands it on")


def _pixels(text: str) -> int:
    if text.isdecimal() and text.isascii() and LEAST <= int(text) <= MOST:
        return int(text)
    raise argparse.ArgumentTypeError(f"a graph has {LEAST} to {MOST} pixels")


def main(arguments: argparse.Namespace) -> int:
    """Draw it and print where it is."""
    from services.rrd import RoundRobin
    from services.stores import graph
    from services.stores.fresh import Recent

    if arguments.output.is_dir():
        raise StartError(f"{arguments.output} is a folder: name a file with --output")
    registry = Registry(Registry.locate(arguments.config).resolve())
    folder = arguments.folder
    if folder is None:
        names = [instance.name for instance in registry.find("rrd")]
        if not names:
            raise StartError("topics.yaml names no rrd: add `rrd: {}` below subscribers:, or give --folder")
        service = catalog.make(arguments.config, names[0])
        folder = service.folder if isinstance(service, RoundRobin) else Path()
        if not folder.is_dir():  # another state folder than ours: of a demo, or of another host
            with contextlib.suppress(StartError):  # what is wrong with the topics is said below
                return _ask(registry, names[0], arguments)
    os.environ["TZ"] = registry.timezone.key
    time.tzset()
    recent = None
    if arguments.recent:
        recent = msgspec.json.decode(sys.stdin.buffer.read(), type=dict[str, Recent])
    try:
        topics = graph.select(registry, folder, arguments.topic, recent)
        span = graph.Span.parse(arguments.start, arguments.end, time.time())
        size = {"width": arguments.width, "height": arguments.height}
        graph.draw(topics, folder, arguments.output, span, recent, **size)
    except graph.GraphError as error:
        print(f"constellation graph: {error}", file=sys.stderr)
        return os.EX_DATAERR
    print(arguments.output)
    return 0


def _ask(registry: Registry, name: str, arguments: argparse.Namespace) -> int:
    """Have the running service draw it."""
    order = {"topics": arguments.topic, "from": arguments.start, "inline": True}
    order |= {"width": arguments.width, "height": arguments.height} | ({"to": arguments.end} if arguments.end else {})
    with Client(registry) as client:
        drawn = client.ask(name, "graph", order, PATIENCE)
    if "base64" not in drawn:  # a path would be read as root, whatever it names
        raise StartError(f"{name} sent no picture: it is too large for a message; ask for a smaller one")
    state.write(arguments.output, base64.b64decode(drawn["base64"]))
    print(arguments.output)
    return 0
