"""Knock at every door of a real page with whatever its own description allows, and with what it forbids, by schemathesis.

    python -m tests.api [--examples 100] [--seed 7] [--door /api/1/history]

The house is that of the page's tests: a real broker, the real services `web`, `alerts` and `archive`, and forty days of an archive. No answer
may be a 5xx but those that say what is away (503) or silent (504), each must have a status, a type and a form that the description names, what
the description forbids must be refused, and what takes a login must refuse who has none. Schemathesis is installed into .venv/api the first
time, beside what the project pins.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER.parent / "page")]

from harness import PROJECT, Broker  # noqa: E402 (found by the line above)
from served import serve  # noqa: E402
from voices import now  # noqa: E402

SETTINGS: Final = FOLDER / "schemathesis.toml"
PLACE: Final = PROJECT / ".venv" / "api"
PINNED: Final = "schemathesis==4.32.5"
DAY: Final = 86_400_000


def program() -> Path:
    """Schemathesis' command; SCHEMATHESIS in the environment names another."""
    given = os.environ.get("SCHEMATHESIS")
    found = Path(given) if given else PLACE / "bin" / "schemathesis"
    if not found.exists():
        subprocess.run([sys.executable, "-m", "venv", PLACE], check=True)
        subprocess.run([PLACE / "bin" / "pip", "install", "-q", "--disable-pip-version-check", PINNED], check=True)
    return found


def readable(schema: Any) -> Any:
    """A description whose tuples are lists of what stands in them: schemathesis 4.32 loses itself in `prefixItems`."""
    if isinstance(schema, list):
        return [readable(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: readable(value) for key, value in schema.items()}
    if members := found.pop("prefixItems", None):
        found["items"] = {"anyOf": members}
    return found


def main(words: list[str] | None = None) -> int:
    """Serve, knock; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--examples", type=int, default=100, help="tries at each door, in each phase that makes them up"
    )
    parser.add_argument("--seed", type=int, help="of the run that is to be repeated")
    parser.add_argument("--door", help="one path, as the description writes it")
    given = parser.parse_args(words)
    command = [program(), "--config-file", SETTINGS, "run", "--max-examples", str(given.examples)]
    command += ["--seed", str(given.seed)] if given.seed is not None else []
    command += ["--include-path", given.door] if given.door else []
    with tempfile.TemporaryDirectory() as place:
        broker = Broker(Path(place) / "broker").start()
        end = now() // 60_000 * 60_000 - 3_600_000
        hole = end - 3 * DAY
        past = end - 40 * DAY, end, end - 20 * DAY, (hole, hole + 3_600_000)
        try:
            page = serve(Path(place), broker, past, "archive", "alerts")
            origin = page.url.rstrip("/")
            described = Path(place) / "openapi.json"
            described.write_text(json.dumps(readable(page.get("openapi.json"))))
            command += ["--url", origin, "--header", f"Origin: {origin}", described]
            environment = os.environ | {"COOKIE": page.cookie.partition("=")[2]}
            done = subprocess.run(command, cwd=place, env=environment)
            page.close()
        finally:
            broker.stop()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
