"""What other people's messages on a broker mean: values by paths, words for yes and no, times, and how old they are."""

from __future__ import annotations

import math
import re
from codecs import BOM_UTF8
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.protocols import path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

NOTHING: Final = frozenset(("", "nan", "null", "none", "unavailable", "unknown", "---", "-", "n/a", "inf", "-inf"))
"""Texts by which devices say that they have no value."""
YES: Final = frozenset(("on", "true", "1", "yes", "open", "online", "up", "detected", "home", "running"))
NO: Final = frozenset(("off", "false", "0", "no", "closed", "close", "offline", "down", "clear", "not_home", "stopped"))
THERE: Final = YES | {"ready", "connected", "alive", "init", "sleeping", "alert", "available", "2"}
AWAY: Final = NO | {"disconnected", "lost", "dead", "unavailable"}
"""What devices say of themselves: Homie's `$state`, and 2 of mqtt-smarthome, too."""
NUMBER: Final = re.compile(
    r"([-+]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][-+]?[0-9]+)?)"
    r"(?:\s*(?=[^\W\d_]|[%°/])(?![xX])(?:[^0-9]|m[23]|s2)*)?"
)
"""A number in text, with or without its unit; in `1 234`, `1_000` and `10 h 30` what stands first would be an invented one."""
SINCE_1970: Final = re.compile(r"[0-9]{9,}(?:\.[0-9]+)?")
"""A time since 1970 in text; with eight digits it is a date."""
LARGEST: Final = 2**63
"""What an integer is below: 64 bits."""
MILLISECONDS: Final = 1e11
"""A time since 1970 beyond which it is in milliseconds."""


class NoValue(ValueError):
    """A message that holds no value for a line; `said` is why, where people should know."""

    def __init__(self, said: str = "") -> None:
        super().__init__(said)
        self.said = said


def document(payload: bytes, has_path: bool) -> Any:
    """Return what a payload says: JSON where a path leads into it, else text; NoValue where it is none."""
    payload = payload.removeprefix(BOM_UTF8)
    try:
        return msgspec.json.decode(payload) if has_path else payload.decode().strip()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NoValue("its message is no JSON" if has_path else "its message is no text") from None


def find(content: Any, steps: Sequence[path.Step]) -> Any:
    """Follow a path; NoValue where a message does not have it, as partial ones do, or has null there."""
    try:
        found = path.follow(content, tuple(steps)) if steps else content
    except path.PathError:
        raise NoValue from None
    if found is None or (isinstance(found, str) and found.strip().casefold() in NOTHING):
        raise NoValue
    return found


def number(found: Any) -> float | int:
    """Return a number, also from text with one; NoValue where it is none, or one of more than 64 bits."""
    if isinstance(found, bool):
        return int(found)
    if isinstance(found, str):
        if (written := NUMBER.fullmatch(found.strip())) is None:
            raise NoValue(f"{found[:40]!r} is no number")
        found = float(written[1].replace(",", "."))
        found = int(found) if found.is_integer() else found
    if isinstance(found, int) and not -LARGEST <= found < LARGEST:
        raise NoValue("it is a number of more than 64 bits")
    if not isinstance(found, (int, float)) or not math.isfinite(found):
        raise NoValue("it is no number")
    return found


def switch(found: Any) -> bool:
    """Return yes or no in the words that devices have for them; NoValue for others."""
    if isinstance(found, (bool, int, float)) and found in (0, 1):
        return bool(found)
    word = str(found).strip().casefold()
    if word in YES or word in NO:
        return word in YES
    raise NoValue(f"{word[:40]!r} is neither yes nor no: say it with words")


def is_up(payload: bytes, where: str) -> bool:
    """Whether a device says that it is there; older bridges say in plain text what newer ones say in JSON."""
    if not payload:
        raise NoValue
    content = document(payload, payload.removeprefix(BOM_UTF8)[:1] in (b"{", b"[", b'"'))
    try:  # what `find` takes for no value, as "unavailable", is an answer here
        found = path.follow(content, path.parse(where or "state")) if isinstance(content, dict) else content
    except path.PathError:
        raise NoValue from None
    if found is None:
        raise NoValue
    words = {text.strip().casefold() for text in path.texts_of(found)}
    if not words & (THERE | AWAY):
        raise NoValue(f"{str(found)[:40]!r} says neither that it is there nor that it is away")
    return not words.isdisjoint(THERE)


def moment(found: Any, zone: tzinfo, now: float) -> float:
    """Return a time as seconds since 1970: a number, or text with or without a zone; NoValue where it is none.

    Of the hour that a zone has twice in autumn it is the one that is nearer to `now`.
    """
    is_digits = isinstance(found, str) and SINCE_1970.fullmatch(found.strip())
    if is_digits or (isinstance(found, (int, float)) and not isinstance(found, bool)):
        seconds = number(found)
        return seconds / 1000 if seconds > MILLISECONDS else float(seconds)
    try:
        then = datetime.fromisoformat(str(found))
        both = [then] if then.tzinfo else [then.replace(tzinfo=zone, fold=fold) for fold in (0, 1)]
        return min((one.astimezone(UTC).timestamp() for one in both), key=lambda seconds: abs(seconds - now))
    except (ValueError, OverflowError):  # of the first and the last day that a calendar has, in another zone
        raise NoValue(f"{str(found)[:40]!r} is no time") from None


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic is one of a pattern's (MQTT 5, 4.7)."""
    wanted, levels = pattern.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for place, level in enumerate(wanted):
        if level == "#":
            return True
        if place >= len(levels) or level not in ("+", levels[place]):
            return False
    return len(wanted) == len(levels)


def pattern_problem(pattern: str) -> str | None:
    """Say why a text is no pattern of MQTT, or None."""
    levels = pattern.split("/")
    if (
        not pattern
        or "\0" in pattern
        or any(len(level) > 1 and set(level) & set("+#") for level in levels)
        or "#" in levels[:-1]
    ):
        return f"'{pattern}' is no pattern of MQTT: + stands for a level, # for the rest of them"
    return None


OURS: Final = {"data": 5, "service": None, "alert": 3, "notify": 3}
"""Branches of our own tree, with the number of levels that a topic has there, where it has always the same."""


def touches(pattern: str, root: str) -> bool:
    """Whether a pattern may match a topic of our own tree."""
    first, _, rest = pattern.partition("/")
    if first == "#":
        return True
    if first not in ("+", root):
        return False
    second, _, rest = rest.partition("/")
    return any(
        second == "#" or (second in ("+", branch) and _fits(rest.split("/"), depth)) for branch, depth in OURS.items()
    )


def _fits(rest: list[str], depth: int | None) -> bool:
    if depth is None:
        return True
    levels = [level for level in rest if level != "#"]
    if any(level != "+" and level != level.lower() for level in levels):
        return False  # our own words are small
    return len(levels) <= depth - 2 if rest[-1] == "#" else len(levels) == depth - 2


def leaves_of(payload: bytes) -> list[tuple[str, Any]]:
    """Paths and values that a payload has; a bare text has none, and is its own."""
    try:
        content = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        content = None
    if isinstance(content, (dict, list)):
        return list(path.leaves(content))[:200]
    text = payload[:60].decode("utf-8", "replace")
    return [("", text)] if text else []


GUESSES: Final = {
    "temperature": ("temperature", "temp", "tempc", "tc"),
    "humidity": ("humidity", "hum"),
    "pressure": ("pressure",),
    "power": ("power", "apower"),
    "energy": ("total", "energy"),
    "voltage": ("voltage",),
    "current": ("current",),
    "soc": ("batt", "battery", "battsoc", "soc"),
}
"""Last words of names, by the quantity that they mean."""
OTHERWISE: Final = frozenset(("apparent", "color", "limit", "max", "min", "reactive", "set", "target"))
"""Words that make another thing of it: a colour's temperature, a setting."""
SUFFIXES: Final = {
    "C": ("temperature", ""), "F": ("temperature", "°F"), "W": ("power", ""), "kW": ("power", "kW"), "Wh": ("energy", "Wh"),
    "kWh": ("energy", ""), "V": ("voltage", ""), "mV": ("voltage", "mV"), "A": ("current", ""), "mA": ("current", "mA"),
    "hPa": ("pressure", "hPa"), "kPa": ("pressure", "kPa"), "PSI": ("pressure", "psi"),
}  # fmt: skip
"""Units at the end of names (rtl_433), as topics.yaml has them; nothing where it is the quantity's own."""
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def proposal(topic: str, where: str, found: Any) -> str:
    """Propose a line of topics.yaml for a value, where its name tells what it is, and its form in which unit."""
    levels = topic.split("/")
    is_sensor = levels[-3:-2] == ["sensor"] and levels[-1] == "state"  # ESPHome
    name = where.rpartition(".")[2] or levels[-2 if is_sensor else -1]
    stem, _, suffix = name.rpartition("_")
    of, unit = SUFFIXES.get(suffix, ("", None)) if stem else ("", None)
    name = stem if of else name
    words = [word.casefold() for word in _WORD.findall(name)]
    meant = {name.casefold(), *words[-1:]}
    quantity = next((quantity for quantity, known in GUESSES.items() if not meant.isdisjoint(known)), "")
    if not quantity or of not in ("", quantity) or not OTHERWISE.isdisjoint(words) or isinstance(found, bool):
        return ""
    try:
        unit = _unit(quantity, topic, where, number(found)) if unit is None else unit
    except NoValue:
        return ""
    if unit is None:
        return ""
    at = (f", path: '{where}'" if where else "") + (f", unit: {unit}" if unit else "")
    return f"PLACE/THING/{quantity}: {{from: mqtt, topic: '{topic}'{at}}}"


def _unit(quantity: str, topic: str, where: str, value: float) -> str | None:
    """Unit of a name that does not say it, as SUFFIXES have it; None where it may be this or that, as an energy."""
    if quantity == "pressure":
        return "hPa" if 800 <= value <= 1100 else None  # noqa: PLR2004 (of the air)
    if quantity == "voltage":
        return "mV" if value > 1000 else ""  # noqa: PLR2004 (batteries in zigbee2mqtt)
    if quantity != "energy":
        return ""
    if topic.startswith("shellies/"):
        return "Wh" if topic.endswith("/total") else "Wmin"
    if where.endswith("aenergy.total"):
        return "Wh"
    return "" if where == "ENERGY.Total" or topic.startswith("zigbee2mqtt/") else None
