"""What somebody hostile says: topics, payloads, properties and patterns, random and crafted."""

import json
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

from tests.hostile.packets import Property, text

HARMFUL = frozenset({"stop", "pause", "acknowledge", "snooze", "maintenance"})
"""Verbs that a user with the right to them may well ask for; so they are asked for in ways that must not be granted."""

STRANGE = (
    "", " ", "#", "+", "a/#", "\x1b[2J\x1b[31mred", "\r\nroot:x:0:0", "ü" * 90, "\u202eevil", "..", "../../etc/passwd", "a" * 300,
    "${jndi:ldap://x}", "%s%n%d", "'; DROP TABLE readings; --", "<script>alert(1)</script>", "nul", "-1", "null", "0" * 40, "🔥" * 40,
)  # fmt: skip
NUMBERS = (0, -1, 1, 0.1, -0.0, 1e308, -1e308, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, -(10**30), 5e-324)
TIMES = (
    "", "2026-11-20T15:01:53.120Z", "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z", "1970-01-01T00:00:00.000Z",
    "2026-02-30T00:00:00.000Z", "2026-11-20", "now", "-2026-11-20T15:01:53.120Z", "12026-11-20T15:01:53.120Z",
)  # fmt: skip
UNITS = ("°C", "", "K", "°F", "V", "\x00", "€/kWh", "m" * 500)
KEYS = ("id", "topic", "value", "unit", "time", "from", "to", "do", "store", "since", "until", "topics", "span", "rule", "alert", "minutes",
        "level", "for", "meter", "meters", "inline", "boiler", "stream", "after", "name", "text", "priority", "picture", "notify", "until")  # fmt: skip


class Words:
    """One speaker's words; all randomness is of its seed."""

    def __init__(self, seed: object, names: list[str], topics: list[str], free: list[str], verbs: list[str]) -> None:
        """`names` are instances, `topics` what they measure, `free` those of them that anybody may spoil, `verbs` what they understand."""
        self.random = random.Random(str(seed))
        self._names, self._topics, self._free, self._verbs = names, topics, free, verbs

    # -- topics -----------------------------------------------------------------------------------------------------

    def topic(self, user: str) -> tuple[str, str]:
        """A topic, and the verb that it asks for, if it is a request."""
        pick = self.random
        name = pick.choice((user, user, *self._names, "all", self.strange()))
        verb = pick.choice((*self._verbs, *self._verbs, self.strange()))
        shape = pick.randrange(10)
        if shape < 5:
            return f"home/service/{name}/request/{verb}", verb
        free = pick.choice(self._free)
        return (
            f"home/data/{free}"
            if shape < 7
            else pick.choice(
                (
                    f"home/service/{user}/{pick.choice(('status', 'health', 'log', 'replay/' + name, 'response/' + verb, self.strange()))}",
                    f"home/service/{name}/stored/{pick.choice((user, *self._names))}",
                    f"home/service/{name}/replay/{pick.choice((user, *self._names))}",
                    f"home/service/{name}/{pick.choice(('status', 'health', 'log', 'response/' + verb))}",
                    f"home/alert/{self.strange()}",
                    f"home/notify/{pick.randrange(1000)}{pick.choice(('', '', '/answer', '/a/b'))}",
                    f"home/data/{'/'.join(self.strange() for _ in range(pick.randrange(1, 5)))}",
                    f"homeassistant/{self.strange()}",
                    "home/data/" + "/".join("a" * pick.randrange(1, 250)),
                    pick.choice(
                        ("$SYS/broker/uptime", "home", "/", "home//", "home/data", "$share/x/home/#", self.strange())
                    ),
                )
            )
        ), ""

    def strange(self) -> str:
        """A word that nobody expects, without what MQTT forbids in a topic."""
        return self.random.choice(STRANGE).replace("#", "hash").replace("+", "plus").replace("\x00", "nul")

    def pattern(self) -> bytes:
        """Something to subscribe to."""
        pick = self.random
        return pick.choice(
            ("#", "home/#", "$SYS/#", "+/+/+/request/+", "home/service/+/request/#", "home/data/#", "$share/g/home/data/#", "home/+/#/x",
             "/".join("+" * pick.randrange(1, 220)), self.strange(), "home/service/archive/replay/rrd", "$share//x")
        ).encode()  # fmt: skip

    # -- payloads ---------------------------------------------------------------------------------------------------

    def payload(self, verb: str) -> bytes:
        """A payload; nothing that a harmful verb would be right to grant."""
        if verb in HARMFUL:
            return self.random.choice((b"[]", b"7", b'{"nobody":1}', b"\xff", b"{", b"\xf0\x9f", b'{"rule":7}'))
        makers: tuple[Callable[[], bytes], ...] = (
            self.reading, self.reading, self.document, self.document, self.document, self.junk, self.nested, self.digits, self.notice,
            lambda: b"", lambda: b"online", lambda: b"offline", self.mark,
        )  # fmt: skip
        return self.random.choice(makers)()

    def junk(self) -> bytes:
        """Bytes."""
        pick = self.random
        size = pick.choice((1, 10, 100, 5000)) if pick.random() < 0.97 else 900_000
        return (
            pick.randbytes(size)
            if pick.random() < 0.5
            else pick.choice((b"[", b"\x00", b'"', b"\xf0\x9f", b"a")) * size
        )

    def nested(self) -> bytes:
        """JSON within JSON."""
        depth = self.random.choice((50, 2000, 100_000))
        one = self.random.choice((b"[", b'{"a":', b'{"value":['))
        return one * depth

    def digits(self) -> bytes:
        """A number without end."""
        count = self.random.choice((30, 400, 5000, 100_000))
        where = self.random.choice(
            (
                b'{"id":%s}',
                b'{"value":%s,"unit":"","time":"2026-11-20T15:01:53.120Z"}',
                b"%s",
                b'{"after":%s,"stream":"a"}',
            )
        )
        return where % (b"9" * count)

    def mark(self) -> bytes:
        """A mark of numbers that nobody sent."""
        return json.dumps(
            {"stream": self.random.choice(("a", "ab12", "0" * 32)), "after": self.random.choice(NUMBERS)}
        ).encode()

    def reading(self) -> bytes:
        """What looks like a reading."""
        pick = self.random
        value = pick.choice((*NUMBERS, True, False, None, "NaN", self.strange(), [], {}))
        return json.dumps(
            {"value": value, "unit": pick.choice(UNITS), "time": pick.choice(TIMES)}, ensure_ascii=False
        ).encode("utf-8", "replace")

    def notice(self) -> bytes:
        """What looks like a message for people; those that are one are quiet."""
        pick = self.random
        body: dict[str, Any] = {
            "text": self.strange() * pick.choice((1, 50)),
            "priority": pick.choice((-2, -2, 99, "high")),
        }
        if pick.random() < 0.5:
            body["picture"] = pick.choice((*self._topics, self.strange()))
        if pick.random() < 0.5:
            body["notify"] = pick.choice(("nobody", "pushover", 7))
        return json.dumps(body).encode()

    def document(self) -> bytes:
        """JSON with keys that mean something to somebody."""
        pick = self.random
        keys = pick.sample(KEYS, pick.randrange(0, 5))
        return json.dumps({key: self._value() for key in keys}, ensure_ascii=False).encode("utf-8", "replace")

    def _value(self) -> Any:
        pick = self.random
        topics = [pick.choice(self._topics) for _ in range(pick.randrange(4))]
        return pick.choice(
            (*NUMBERS, None, True, self.strange(), pick.choice(TIMES), pick.choice(self._topics), pick.choice(self._names), topics, "1h", "-5m",
             "1000000d", "send", [[1]], {"a": 1}, "rrd", "archive", [self.strange()] * pick.choice((1, 1000)))
        )  # fmt: skip

    # -- properties -------------------------------------------------------------------------------------------------

    def properties(self) -> Iterator[Property]:
        """Properties of a message."""
        pick = self.random
        if pick.random() < 0.3:
            answer = pick.choice(
                ("home/service/archive/request/stop", "home/data/a/b/temperature", "reply/x", "home/#", "a/" * 240, "\x1b[2J", "$SYS/x",
                 "home/service/archive/stored/sequence", "home/service/x/response/" + "y" * 300, self.strange())
            )  # fmt: skip
            yield 0x08, text(answer.encode("utf-8", "replace"))
            yield 0x09, text(pick.randbytes(pick.choice((0, 8, 60_000))))
        for _ in range(pick.choice((0, 0, 1, 1, 40))):
            name = pick.choice(("seq", "seq", "x", ""))
            value = pick.choice(
                (
                    "ab12:0:1",
                    "ab12:-1:-1",
                    f"a:{2**63}:{2**64}",
                    "::",
                    "a:b",
                    f"s{pick.randrange(10**6)}:0:{pick.randrange(1, 9)}",
                    "x" * 2000,
                )
            )
            yield 0x26, text(name.encode()) + text(value.encode())
        if pick.random() < 0.2:
            yield 0x02, struct.pack("!I", pick.choice((0, 1, 2**32 - 1)))
        if pick.random() < 0.1:
            yield 0x03, text(b"application/x-evil")
        if pick.random() < 0.05:
            yield 0x23, struct.pack("!H", pick.choice((0, 1, 65535)))
