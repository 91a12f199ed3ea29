"""A stand-in for api.pushover.net that validates, counts and remembers on its own side, and fails as the real one may.

Source: https://pushover.net/api. Run it by itself with `python -m services.simulators.pushover --port 8081 --log FILE`.
What it took stands in FILE, one JSON object a line, written before the answer goes out.
"""

import argparse
import json
import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from services.simulators.pushover_form import EMERGENCY, QUOTA, SOUNDS, invalid, parse
from services.simulators.server import Handler, LocalServer


@dataclass(slots=True)
class Receipt:
    """What became of an emergency message."""

    user: str
    expires_at: int
    tags: tuple[str, ...]
    last_delivered_at: int = field(default_factory=lambda: int(time.time()))
    acknowledged_at: int = 0
    cancelled: bool = False

    def shown(self) -> dict[str, object]:
        """Return it as the API shows it."""
        return {
            "acknowledged": int(bool(self.acknowledged_at)),
            "acknowledged_at": self.acknowledged_at,
            "acknowledged_by": self.user if self.acknowledged_at else "",
            "acknowledged_by_device": "phone" if self.acknowledged_at else "",
            "last_delivered_at": self.last_delivered_at,
            "expired": int(self.cancelled or time.time() > self.expires_at),
            "expires_at": self.expires_at,
            "called_back": 0,
            "called_back_at": 0,
        }


class PushoverServer(LocalServer):
    """The service. `taken` holds the fields of every message that it accepted, also those whose answer was lost."""

    faults = ("400", "429", "500", "502", "silence", "lost", "slow", "malformed", "gone")
    """`silence` never answers, `gone` hangs up: nothing is taken. `lost` takes and hangs up; `slow`, after `delay`."""

    def __init__(self, port: int = 0, log: Path | None = None, quota: int = QUOTA) -> None:
        super().__init__(PushoverCall, port)
        self.log = log
        self.quota = self.remaining = quota
        self.taken: list[dict[str, str]] = []
        self.receipts: dict[str, Receipt] = {}
        self.requests = self.connections = self.most_connections = 0
        self.times: list[float] = []
        """When each request came (monotonic, s)."""

    @property
    def reset(self) -> int:
        """When the quota starts anew: the first of next month (the real one counts in US Central Time)."""
        first = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return int((first + timedelta(days=32)).replace(day=1).timestamp())

    def acknowledge(self, receipt: str) -> None:
        """Acknowledge an emergency, as on the phone; KeyError if there is no such receipt."""
        self.receipts[receipt].acknowledged_at = int(time.time())

    def control(self, fields: Mapping[str, str]) -> dict[str, Any]:
        """Tell the counts too; `acknowledge` takes a receipt or `all`, `remaining` sets what is left of the quota."""
        with self.lock:
            for receipt in list(self.receipts):
                if fields.get("acknowledge") in {receipt, "all"}:
                    self.acknowledge(receipt)
            self.remaining = int(fields.get("remaining", self.remaining))
            return super().control(fields) | {
                "requests": self.requests,
                "taken": len(self.taken),
                "receipts": {name: receipt.shown() for name, receipt in self.receipts.items()},
                "connections": self.connections,
                "most_connections": self.most_connections,
                "remaining": self.remaining,
            }

    def connected(self, change: int) -> None:
        """Count a connection that opens (1) or closes (-1)."""
        with self.lock:
            self.connections += change
            self.most_connections = max(self.most_connections, self.connections)

    def take(self, fields: dict[str, str], users: list[str]) -> dict[str, object]:
        """Take a valid message: count it, remember it, write it down; return what the answer adds."""
        with self.lock:
            self.taken.append(fields)
            self.remaining -= len(users)
            answer: dict[str, object] = {}
            if fields.get("priority") == str(EMERGENCY):
                answer["receipt"] = name = secrets.token_hex(15)
                tags = tuple(tag for tag in fields.get("tags", "").split(",") if tag)
                self.receipts[name] = Receipt(users[0], int(time.time()) + int(fields["expire"]), tags)
            if self.log:
                line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields, **answer}
                with self.log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
            return answer


class PushoverCall(Handler):
    """A request of the API, version 1."""

    server: PushoverServer

    def setup(self) -> None:
        """Count the connection."""
        super().setup()
        self.server.connected(1)

    def finish(self) -> None:
        """Count it off."""
        self.server.connected(-1)
        super().finish()

    def respond(self, path: str, query: Mapping[str, str], body: bytes) -> None:
        """Answer one call, or fail it."""
        server = self.server
        with server.lock:
            server.requests += 1
            server.times.append(time.monotonic())
        fault = server.next_fault()
        match fault:
            case "400":
                return self._refuse(400, {"user": "user identifier is invalid"})
            case "429":
                return self._over_quota()
            case "500":
                return self.answer(500, {"status": 0})
            case "502":
                return self.answer(502, b"<html>bad gateway</html>", {"Content-Type": "text/html"})
            case "silence":
                server.ended.wait()
                return self.hang_up()
            case "gone":
                return self.hang_up()
        return self._call(path, dict(query) | parse(self.headers.get("Content-Type", ""), body), fault)

    def _call(self, path: str, fields: dict[str, str], fault: str) -> None:
        server = self.server
        match path.removeprefix("/1/").removesuffix(".json").split("/"):
            case ["messages"]:
                self._message(fields, fault)
            case ["apps", "limits"]:
                limits = {"limit": server.quota, "remaining": server.remaining, "reset": server.reset}
                self._accept(limits)
            case ["users", "validate"]:
                wrong = {name: text for name, text in invalid(fields).items() if name in {"token", "user"}}
                if wrong:
                    self._refuse(400, wrong)
                else:
                    self._accept({"group": 0, "devices": ["phone"], "licenses": ["Android"]})
            case ["sounds"]:
                self._accept({"sounds": SOUNDS})
            case ["receipts", name] if name in server.receipts:
                self._accept(server.receipts[name].shown())
            case ["receipts", name, "cancel"] if name in server.receipts:
                server.receipts[name].cancelled = True
                self._accept({})
            case ["receipts", "cancel_by_tag", tag]:
                found = [receipt for receipt in server.receipts.values() if tag in receipt.tags]
                for receipt in found:
                    receipt.cancelled = True
                self._accept({"canceled": len(found)})
            case ["receipts", *_]:
                self._refuse(404, {"receipt": "receipt not found; may be invalid or expired"})
            case _:
                self._refuse(404, {"path": f"there is no {path}"})

    def _message(self, fields: dict[str, str], fault: str) -> None:
        server = self.server
        if wrong := invalid(fields):
            self._refuse(400, wrong)
            return
        users = fields["user"].split(",")
        if server.remaining < len(users):
            self._over_quota()
            return
        answer = server.take(fields, users)
        match fault:
            case "lost":
                self.hang_up()
            case "malformed":
                self.answer(200, b'{"status":1,"requ')
            case _:
                if fault == "slow":
                    server.ended.wait(server.delay)
                self._accept(answer, self._limits())

    def _limits(self) -> dict[str, str]:
        server = self.server
        limits = {"Limit": server.quota, "Remaining": server.remaining, "Reset": server.reset}
        return {f"X-Limit-App-{name}": str(value) for name, value in limits.items()}

    def _accept(self, more: Mapping[str, object], headers: Mapping[str, str] | None = None) -> None:
        self.answer(200, {"status": 1, "request": str(uuid.uuid4()), **more}, headers)

    def _refuse(self, status: int, wrong: Mapping[str, str], headers: Mapping[str, str] | None = None) -> None:
        marks = dict.fromkeys(wrong, "invalid")
        answer = {**marks, "errors": list(wrong.values()), "status": 0, "request": str(uuid.uuid4())}
        self.answer(status, answer, headers)

    def _over_quota(self) -> None:
        self._refuse(429, {"token": "application has exceeded its monthly message limit"}, self._limits())


def main(arguments: list[str] | None = None) -> None:
    """Serve until the process is ended; print the URL first."""
    parser = argparse.ArgumentParser(
        prog="python -m services.simulators.pushover",
        description=__doc__,
        epilog=f"Faults: {', '.join(PushoverServer.faults)},\n"
        "switched on by curl -d fault=NAME [-d count=N] [-d delay=SECONDS] URL/control.\n"
        "Acknowledge as on the phone by curl -d acknowledge=all URL/control.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--log", type=Path, help="append what was taken to this file, as JSON lines")
    options = parser.parse_args(arguments)
    PushoverServer(options.port, options.log).run()


if __name__ == "__main__":
    main()
