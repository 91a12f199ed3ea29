"""Run the whole house on simulated hardware: real services, a real broker, real databases.

Nothing above the wires is simulated. The broker uses the shipped configuration, with TLS, passwords and access lists.
Everything lies in one folder (default: ./demo), which is emptied at the start and left there at the end.
"""

import argparse
import json
import os
import shlex
import signal
import sys
import time
import webbrowser
from pathlib import Path

from bootstrap_lib import Registry
from services.simulators.demo import DemoHouse, say
from services.simulators.staging import DEMO_PASSWORD


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `demo` takes."""
    parser.add_argument(
        "--for", dest="seconds", type=float, default=float("inf"), metavar="SECONDS", help="end after so long"
    )
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where everything lies (default: ./demo)")


def pages(house: DemoHouse) -> list[str]:
    """Addresses of the house's pages."""
    return [f"http://localhost:{one.raw['port']}" for one in house.registry.find("web")]


def hints(house: DemoHouse) -> str:
    """Where to look."""
    shown = "".join(
        f"  {address}   the page; to change something, log in as demo, {DEMO_PASSWORD}\n" for address in pages(house)
    )
    shown += "".join(
        f"  http://localhost:{one.raw['port']}/metrics   for Prometheus\n" for one in house.registry.find("exporter")
    )
    settings = {
        "CONSTELLATION_CREDENTIALS": house.broker.credentials,
        "CONSTELLATION_CONFIG": house.config,
        "CONSTELLATION_SETTINGS": house.settings,
    }
    exports = " ".join(f"{name}={shlex.quote(str(path))}" for name, path in settings.items())
    command = shlex.quote(str(Path(sys.executable).with_name("constellation")))
    opening = f"Look, in a browser:\n{shown}" if shown else ""
    return f"""{opening}Look, in another terminal:
  {house.broker.subscribe_line()}
  export {exports}
  {command} watch
  {command} status
Files:
  {house.folder}/state/archive/archive.sqlite   every reading (sqlite3)
  {house.folder}/state/rrd/                      round-robin files and graphs
  {house.folder}/pushover.jsonl                 what the phone would have got
  {house.folder}/log/                           what each process says
Within a minute the fuel box is too hot: an alert fires, reaches the stand-in for Pushover, and resolves.
Try: kill -9 any process; it comes back, and nothing is lost. Ctrl-C ends everything.
"""


def look_after(house: DemoHouse, seconds: float) -> None:
    """Look after the processes until the time is over."""
    until = time.monotonic() + seconds
    messages = house.folder / "pushover.jsonl"
    seen = 0
    while time.monotonic() < until:
        for sentence in house.look_after():
            say(sentence)
        lines = messages.read_text().splitlines() if messages.exists() else []
        for line in lines[seen:]:
            say(f"phone: {_shown(line)}")
        seen = len(lines)
        time.sleep(min(0.5, max(0.0, until - time.monotonic())))


def _shown(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line[:200]
    body = entry.get("form", entry.get("message", entry))
    return str(body.get("message", body) if isinstance(body, dict) else body)[:200]


def main(arguments: argparse.Namespace) -> int:
    """Start, look after, and end everything."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # which is what nohup(1) asks for
            signal.signal(number, signal.default_int_handler)
    house = DemoHouse(Registry.locate(arguments.config, shipped=True), arguments.folder)
    try:
        house.start()
        print(hints(house), flush=True)
        if sys.stdout.isatty() and os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
            for address in pages(house):
                webbrowser.open(address)
        look_after(house, arguments.seconds)
    except KeyboardInterrupt:
        print()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        say("ending")
        house.stop()
        say("everything has ended; the folder is left to be looked at")
    return 0
