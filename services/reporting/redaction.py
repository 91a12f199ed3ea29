"""What a report must not tell: secrets, and who and where people are.

Of topics.yaml only that is kept which is known to be harmless: numbers, times, words of the file itself, and words of keys that hold
nothing else. What was taken out there, and what lies in files of secrets, is looked for in all other text, and so is what looks like it.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import yaml

SHORTEST: Final = 4
"""Letters of a text that is looked for elsewhere; shorter ones are in every second word."""
LONGEST: Final = 2000
"""Letters of a line that is shown."""
MOST: Final = 20_000
"""Values of a file that are looked at; more is no topics.yaml."""

_KEPT: Final = frozenset(
    (
        *("from", "service", "quantity", "unit", "kind", "type", "model", "profile", "mode", "parity", "states", "was"),
        *("topic", "topics", "phase", "store", "severity", "priority", "timezone", "root"),
    )
)
"""Keys whose values are words of the field."""
_SENSITIVE: Final = re.compile(
    r"secret|token|key|passw|passphrase|user|account|host|address|url|link|mail|phone|recipient|serial|latitude|longitude|\bid\b|\bto\b"
    r"|chat|ssid|label|text|title|name|people|location|server|number|code|\bpin\b"
)
_PEOPLE: Final = frozenset(("accounts", "users", "people", "persons", "recipients", "devices"))
_NUMBER: Final = re.compile(r"[<>=≤≥]*\s?[-+]?\d{1,6}(?:\.\d{1,9})?\s?[A-Za-z%°µ³²/]{0,3}")
_WORD: Final = re.compile(r"[\w./{}~, -]{1,60}")
_PLAIN_KEY: Final = re.compile(r"[a-z0-9_.{}/, ~-]{1,80}")
_OPAQUE: Final = re.compile(r"(?=.*\d).{12,}|\d{7,}|.{21,}")
"""Part of a name that is no word."""
_HARMLESS: Final = frozenset(
    ("localhost", "127.0.0.1", "::1", "true", "false", "on", "off", "yes", "no", "null", "~", "")
)


def _as_address(found: re.Match[str]) -> str:
    """Hide what is an address of IPv6 (RFC 4291), and no time of day."""
    try:
        return found[0] if ip_address(found[0]).is_loopback else "<address>"
    except ValueError:
        return found[0]


_PATTERNS: Final[tuple[tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = (
    ("address", re.compile(r"\b([a-z][a-z0-9+.-]{1,20}://)[^\s'\"<>]+"), r"\1<address>"),
    ("mail", re.compile(r"(?<![\w.+-])(?!constellation[\w-]*@)[\w.+-]+@[\w-]+\.[\w.-]+"), "<mail>"),
    ("secret", re.compile(r"(?i)\b(bearer|basic)\s+[\w+/=.-]{6,}"), r"\1 <secret>"),
    ("secret", re.compile(r"(?i)\b(digest)\s+username=[^\n]*"), r"\1 <secret>"),
    (  # what follows may have spaces: the rest of the line, unless it is quoted or one of several
        "secret",
        re.compile(
            r"(?i)(?<![\w-])([\w-]*(?:passw(?:or)?d|passphrase|psk)(?:[\"']?\s*[=:]|\s+(?:is|for\s+[^\s:]{1,60}:))\s*)"
            r"(?!<)(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^,;}&\n]+)"
        ),
        r"\1<secret>",
    ),
    (
        "secret",
        re.compile(
            r"(?i)(?<![\w-])((?:[\w-]*(?:token|secret|api[_-]?key|authorization|appid)|-*(?:pass|pwd|key|user(?:name)?))[\"']?\s*[=:]\s*)"
            r"(?!<|basic |bearer |digest )(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s,;}&]+)"
        ),
        r"\1<secret>",
    ),
    ("token", re.compile(r"(?<![\w/.=-])(?=[\w+-]*\d)(?=[\w+-]*[A-Za-z])[A-Za-z0-9+_-]{20,}=*(?![\w/])"), "<token>"),
    ("token", re.compile(r"\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{12,}\b"), "<token>"),
    ("address", re.compile(r"\b(?!127\.0\.0\.1\b)\d{1,3}(?:\.\d{1,3}){3}\b"), "<address>"),
    ("address", re.compile(r"(?i)\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b"), "<address>"),
    ("address", re.compile(r"(?<![\w:.])(?=[0-9a-fA-F:]*:[0-9a-fA-F]*:)[0-9a-fA-F:]{2,39}(?![\w:.])"), _as_address),
    ("place", re.compile(r"(?i)\b((?:lat|lon|lng|latitude|longitude)[\"']?\s*[=:]\s*)-?\d{1,3}\.\d+"), r"\1<place>"),
    ("phone", re.compile(r"\+\d[\d /()-]{7,}|(?<![\w.:/-])0\d{1,4}[ /-]\d{2,4}(?:[ -]?\d{2,4}){1,3}(?![\w.:/-])"), "<phone>"),
    ("person", re.compile(r"(/home/)[^/\s'\"]+"), r"\1<person>"),
)  # fmt: skip


class Redaction:
    """Takes out of texts what must not be told, and counts it."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: dict[str, str] = {}
        self._words: set[str] = set()
        self._left = MOST
        self.closed: list[str] = []
        """Folders of secrets that could not be looked into."""
        self.counts: Counter[str] = Counter()
        """How often what kind was taken out."""

    def hide(self, text: str, what: str) -> None:
        """Look for a text from now on, and for its lines, also as an address or JSON has it."""
        for one in {text.strip(), *(line.strip() for line in text.splitlines())}:
            if len(one) >= SHORTEST and one.lower() not in _HARMLESS:
                for way in (one, quote(one, safe=""), one.replace("\\", "\\\\").replace('"', '\\"')):
                    self._known.setdefault(way, what)

    def hide_files(self, folder: Path) -> None:
        """Look for what is in files of secrets: all of it, its lines, and its words."""
        try:
            paths = sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError:
            self.closed.append(str(folder))
            return
        for path in paths:
            try:
                content = path.read_bytes()[:100_000].decode("utf-8", "replace")
            except IsADirectoryError:
                continue
            except OSError:
                self.closed.append(str(path))
                continue
            self.hide(content, "secret")
            for word in re.findall(r"[^\s\"',:{}\[\]=]{8,}", content):
                self.hide(word, "secret")

    def text(self, said: str, *, patterns: bool = True) -> str:
        """Return it without what must not be told, each line printable and of bounded length."""
        lines = said.replace("\r\n", "\n").split("\n")
        said = "\n".join("".join(c if c.isprintable() else "�" for c in line) for line in lines)
        for known in sorted(self._known, key=len, reverse=True):
            if (number := said.count(known)) > 0:
                self.counts[self._known[known]] += number
                said = said.replace(known, f"<{self._known[known]}>")
        for what, pattern, instead in _PATTERNS if patterns else ():
            said, number = pattern.subn(instead, said)
            self.counts[what] += number
        return "\n".join(line if len(line) <= LONGEST else f"{line[:LONGEST]}…" for line in said.split("\n"))

    # -- topics.yaml ---------------------------------------------------------------------------------------------------

    def topics(self, content: str, words: Iterable[str]) -> str:
        """Return a topics.yaml without comments, in which only what is harmless stays; `words` are harmless as values. yaml.YAMLError."""
        self._words |= set(words)
        self._left = MOST
        try:
            document = yaml.load(content, yaml.BaseLoader)  # noqa: S506 (texts alone: off stays off, and nothing is made of it)
        except yaml.YAMLError:
            for line in content.splitlines():  # whoever says why it is none may say what stands there
                self._hide_value(re.split(r"[:#]\s", line)[-1].strip(" '\"[]{}-,"))
            raise
        kept = self._value(document, ())
        said: str = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=110)
        return self.text(said, patterns=False)

    def _value(self, value: Any, path: tuple[str, ...]) -> Any:
        self._left -= 1
        if self._left < 0:
            return "<more>"
        if isinstance(value, dict):
            people = bool(path) and path[-1] in _PEOPLE
            made = {}
            for number, (key, inner) in enumerate(value.items()):
                made[self._key(str(key), number, people=people)] = self._value(inner, (*path, str(key)))
            return made
        if isinstance(value, list):
            return [self._value(inner, path) for inner in value]
        return self._scalar(str(value), path)

    def _key(self, key: str, number: int, *, people: bool) -> str:
        parts = re.split(r"[/_{}., ~-]+", key)
        if people or not _PLAIN_KEY.fullmatch(key) or any(_OPAQUE.fullmatch(part) for part in parts):
            self.counts["name"] += 1
            self.hide(key, "name")
            return f"<name {number + 1}>"
        self._words.add(key)
        return key

    def _scalar(self, value: str, path: tuple[str, ...]) -> str:
        key = path[-1].lower() if path else ""
        if value.lower() in _HARMLESS:
            return value
        is_sensitive = _SENSITIVE.search(key) is not None
        opaque = any(_OPAQUE.fullmatch(part) for part in re.split(r"[/_{}., ~-]+", value))
        if (
            not is_sensitive
            and not opaque
            and (_NUMBER.fullmatch(value) or value in self._words or (key in _KEPT and _WORD.fullmatch(value)))
        ):
            return value
        if key in ("from", "service", "topic") and value in self._words:
            return value
        self.counts["value of topics.yaml"] += 1
        if opaque or not value.startswith("secret:"):
            self._hide_value(value.removeprefix("secret:"))
        scheme = re.match(r"[a-z][a-z0-9+]{1,15}://|secret:", value)
        return f"{scheme[0] if scheme else ''}<{len(value)} letters>"

    def _hide_value(self, value: str) -> None:
        """Look for it elsewhere, unless it is a word of which names of topics are made."""
        if value not in {part for word in self._words for part in re.split(r"[/_]", word)} | self._words:
            self.hide(value, "value")
