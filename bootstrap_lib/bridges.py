"""What is wrong with bridges of this machine's broker that bring readings to another one.

A store there follows the number that each reading bears as a user property, which a bridge of MQTT 3.1.1 drops without a word.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

FILES: Final = (
    *("etc/mosquitto/mosquitto.conf", "etc/mosquitto/conf.d/*.conf"),
    "etc/mosquitto/constellation/conf.d/*.conf",  # of the house's own broker
)


_CERTIFICATES: Final = ("certfile", "cafile", "bridge_certfile", "bridge_cafile")
_REVOCATIONS: Final = "crlfile"


class BridgeFault(NamedTuple):
    """Something about a bridge that costs readings, with the line that mends it."""

    file: Path
    line: int
    connection: str
    text: str
    mend: str


class _Setting(NamedTuple):
    line: int
    words: list[str]


def files(root: Path = Path("/")) -> list[Path]:
    """Files of the broker's configuration below a root."""
    return [file for pattern in FILES for file in sorted(root.glob(pattern))]


def certificates(read: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Certificates that a broker's files name, and lists of revocations, for which True stands beside."""
    for file in read:
        try:
            lines = file.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        for line in lines:
            word, _, named = line.strip().partition(" ")
            if word in (*_CERTIFICATES, _REVOCATIONS):
                yield Path(named.strip()), word == _REVOCATIONS


def faults(read: Iterable[Path]) -> Iterator[BridgeFault]:
    """What is wrong with the bridges in a broker's files, as far as they bring readings elsewhere."""
    for file in read:
        try:
            lines = file.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        found: dict[str, list[_Setting]] = {}
        name = ""
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if words[0] == "connection":
                name = " ".join(words[1:])
            elif words[0] == "listener":
                name = ""
            if name:
                found.setdefault(name, []).append(_Setting(number, words))
        for connection, settings in found.items():
            yield from _faults_of(file, connection, settings)


def _faults_of(file: Path, connection: str, settings: list[_Setting]) -> Iterator[BridgeFault]:
    brings = [
        one for one in settings if one.words[0] == "topic" and one.words[2:3] in (["out"], ["both"]) and _data(one)
    ]
    if not brings:
        return
    said = {one.words[0]: one for one in settings}
    first = settings[0].line
    protocol = said.get("bridge_protocol_version", _Setting(first, ["", "mqttv311"]))
    if protocol.words[1:] != ["mqttv50"]:
        text = (
            f"it speaks {' '.join(protocol.words[1:])}, which drops the user properties of readings:"
            " a store behind it cannot see what it misses"
        )
        yield BridgeFault(file, protocol.line, connection, text, "bridge_protocol_version mqttv50")
    clean = said.get("cleansession", _Setting(first, ["", "false"]))
    if clean.words[1:] == ["true"]:
        text = "it begins anew with each connection, and what waited is dropped"
        yield BridgeFault(file, clean.line, connection, text, "cleansession false")
    for one in brings:
        if one.words[3:4] not in (["1"], ["2"]):
            mend = " ".join([*one.words[:3], "1", *one.words[4:]])
            yield BridgeFault(
                file, one.line, connection, "it brings readings without waiting for an acknowledgement", mend
            )


def _data(setting: _Setting) -> bool:
    """Whether a topic of a bridge is one of readings: its local name, with its local prefix before it."""
    words = setting.words
    prefix = words[4].strip('"') if len(words) > 4 else ""  # noqa: PLR2004 (topic NAME out QOS PREFIX)
    levels = f"{prefix}{words[1]}".split("/")
    return "#" in levels[:2] or (len(levels) > 1 and levels[1] in ("data", "+"))
