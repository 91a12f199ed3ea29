"""Show every service of topics.yaml: alive or not, since when, what is stale, what went wrong last.

Exit code 0 if all are well, 1 if one is not alive or has lost something, 2 if only something is stale or paused:
fit for a health check (`constellation status --quiet NAME`). Asked for one instance where no operator's password lies, as in
its container, it asks the broker as that instance, which may read as much.
"""

import argparse
import contextlib
from typing import Any

import msgspec

from bootstrap_lib import secrets
from bootstrap_lib.client import Client, operator
from bootstrap_lib.document import StartError, plain
from bootstrap_lib.location import find_registry
from bootstrap_lib.registry import Registry
from bootstrap_lib.rival import Other


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `status` takes."""
    parser.add_argument("instance", nargs="*", help="only these")
    parser.add_argument("--quiet", action="store_true", help="only the exit code")


def judge(status: bytes | None, health: Any) -> tuple[int, str]:
    """Exit code and words for one instance, from its status and its health."""
    if status != b"online":
        return 1, "offline" if status == b"offline" else "never seen"
    if not isinstance(health, dict):
        return 1, "online, but its heartbeat is missing"
    state, counters = plain(health.get("state"), 20), health.get("counters")
    with contextlib.suppress(msgspec.ValidationError):
        twins = msgspec.convert(health, _Twins)
        if twins.rival is not None:
            places = plain(twins.host, 60), plain(twins.rival.host, 60)
            return (
                1,
                f"{state} at {places[0]}, and another of this name at {places[1]}: stop one of them, or give it another name",
            )
    if isinstance(counters, dict) and counters.get("lost"):
        return 1, f"{state}, has lost {plain(counters['lost'], 20)} readings"
    return (0 if state == "running" else 2), state


def main(arguments: argparse.Namespace) -> int:
    """Ask the broker what stands there, and print it."""
    registry = Registry(find_registry(arguments.config, say=not arguments.quiet))
    if unknown := [name for name in arguments.instance if name not in registry.instances]:
        raise StartError(registry.no_instance(unknown[0]))
    with Client(registry, _itself(registry, arguments.instance)) as client:
        found = client.retained("service/+/status") | client.retained("service/+/health")
    worst = 0
    for name in arguments.instance or registry.instances:
        health = Client.json(found.get(f"service/{name}/health", b""))
        code, words = judge(found.get(f"service/{name}/status"), health)
        worst = 1 if 1 in (worst, code) else max(worst, code)
        if not arguments.quiet:
            print(f"{name:16} {words:12} {_details(health)}")
    return worst


def _itself(registry: Registry, asked: list[str]) -> str | None:
    """The one instance that is asked for, where its password is all that there is; else None."""
    if len(asked) != 1 or secrets.is_there(f"mqtt.{operator(registry)}"):
        return None
    return asked[0] if secrets.is_there(f"mqtt.{asked[0]}") else None


def _details(health: Any) -> str:
    """The rest of a heartbeat on one line; anybody may have published it."""
    try:
        beat = msgspec.convert(health, _Heartbeat)
    except msgspec.ValidationError:
        return ""
    parts = [f"since {_minute(beat.since)}", f"start {beat.start}"]
    parts += [f"{plain(beat.spool['waiting'], 20)} waiting"] if "waiting" in beat.spool else []
    parts += [f"stale: {', '.join(plain(name, 80) for name in beat.stale[:20])}"] if beat.stale else []
    if beat.last_error:
        parts.append(f"last error {_minute(beat.last_error.get('time', ''))}: {plain(beat.last_error.get('text', ''))}")
    return ", ".join(parts)


def _minute(time: str) -> str:
    return plain(time[:16].replace("T", " "))


class _Twins(msgspec.Struct):
    host: str = ""
    rival: Other | None = None


class _Heartbeat(msgspec.Struct):
    since: str = ""
    start: int = 0
    spool: dict[str, Any] = {}
    stale: list[str] = []
    last_error: dict[str, str] | None = None
