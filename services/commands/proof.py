"""Show what can be shown of the promise that nothing is lost; ends with 1 while one line of it is not shown.

It asks the page's own service what it knows: the same as the view Proof and as /api/1/proof.
"""

import argparse
import http.client
import json
from typing import Any

from bootstrap_lib import Registry, StartError, format_time

LOOPBACK = "127.0.0.1"
MARKS = {"yes": "✓", "open": " ", "no": "✗"}
SENTENCES = {
    "on_disk": "What was taken is on disk",
    "nothing_lost": "Nothing was lost",
    "whole": "The archive can be read",
    "filled": "The other stores have caught up",
    "backup": "There is a fresh backup",
    "nothing_refused": "No reading was put aside",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `proof` takes."""
    parser.add_argument("--json", action="store_true", help="as JSON")


def main(arguments: argparse.Namespace) -> int:
    """Print it; returns 0 where everything is shown."""
    registry = Registry(Registry.locate(arguments.config))
    pages = [one for one in registry.find("web") if one.here]
    if not pages:
        raise StartError(
            "topics.yaml has no page on this machine, which keeps the proof: write `web: {}` below subscribers:"
        )
    proof = _ask(str(pages[0].raw.get("listen", LOOPBACK)), int(pages[0].raw.get("port", 8080)))
    if arguments.json:
        print(json.dumps(proof, indent=1))
    else:
        for claim in proof["claims"]:
            facts = ", ".join(
                f"{name} {value}" for name, value in claim["facts"].items() if value not in (None, [], {})
            )
            print(f"{MARKS[claim['state']]} {SENTENCES[claim['key']]}: {facts}")
        for one in proof["sources"]:
            lag = "?" if one["lag"] is None else f"{one['lag'] / 1000:.1f} s"
            print(
                f"  {one['source']}: {one['state']}, {one['taken']} taken, {one['waiting']} waiting, lag {lag},"
                f" {one['refused']} refused, {one['lost']} lost{_since(one)}, {one['gaps']} gaps, {one['filled']} filled,"
                f" last unclean end {_time(one['unclean'])}"
            )
        print(f"Gaps, when a loss began and unclean ends: heard since {_time(proof['heard'])}, before that not kept.")
    return 0 if proof["shown"] else 1


def _since(one: dict[str, Any]) -> str:
    return f" (since {_time(one['lost_since'])})" if one["lost"] else ""


def _time(moment: int | None) -> str:
    return "not kept" if moment is None else format_time(moment)


def _ask(listen: str, port: int) -> Any:
    """Ask the page where it listens, as somebody on this machine: from its loopback address, whatever it listens on."""
    wide = listen in ("", "0.0.0.0", "::")  # noqa: S104 (what others wrote is read here)
    own = "::1" if ":" in listen and not wide else LOOPBACK
    try:
        connection = http.client.HTTPConnection(own if wide else listen, port, timeout=20, source_address=(own, 0))
        connection.request("GET", "/api/1/proof", headers={"Host": "localhost"})
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK:
            raise StartError(f"the page answers {answer.status}: see `constellation status`")
        return json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StartError(
            f"the page does not answer on {listen}:{port} ({error}): start web, or see `constellation status`"
        ) from None
