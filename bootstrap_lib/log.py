"""Where messages go: the journal with fields, syslog when daemonised, colour on a terminal, MQTT for warnings.

A message about a topic carries it: `log.warning("…", extra={"topic": name})` is found again by
`journalctl TOPIC=home/data/boiler/water/temperature`.
"""

import logging
import math
import os
import socket
import sys
import time
from typing import Any, Final, Literal

import msgspec

from bootstrap_lib.bus import Bus
from bootstrap_lib.control import Request
from bootstrap_lib.document import escaped
from bootstrap_lib.duration import Duration, describe
from bootstrap_lib.reading import as_json

_PRIORITY: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_COLOUR: Final = {
    logging.DEBUG: "2",
    logging.INFO: "0",
    logging.WARNING: "33",
    logging.ERROR: "31",
    logging.CRITICAL: "1;31",
}
_JOURNAL: Final = "/run/systemd/journal/socket"


class JournalHandler(logging.Handler):
    """Sends records to journald in its native protocol, with TOPIC and INSTANCE as fields (systemd.journal-fields(7))."""

    def __init__(self, instance: str) -> None:
        """Open the journal's socket; OSError where there is none."""
        super().__init__()
        self.instance = instance
        self.setFormatter(_Escaping())
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.connect(_JOURNAL)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one datagram; what the journal cannot take goes to stderr."""
        fields = {
            "MESSAGE": self.format(record),
            "PRIORITY": _PRIORITY.get(record.levelno, 6),
            "SYSLOG_IDENTIFIER": self.instance,
            "INSTANCE": self.instance,
            "CODE_FILE": record.pathname,
            "CODE_LINE": record.lineno,
        }
        if topic := getattr(record, "topic", None):
            fields["TOPIC"] = topic
        try:
            self._socket.send(b"".join(_field(name, str(value)) for name, value in fields.items()))
        except OSError:
            print(self.format(record), file=sys.stderr)  # noqa: T201


def _field(name: str, value: str) -> bytes:
    data = value.encode()
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


class _Escaping(logging.Formatter):
    """Whatever devices and people said that came into a message: no terminal is told by it what to do."""

    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record))


class _Terminal(_Escaping):
    def format(self, record: logging.LogRecord) -> str:
        text = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():7} {super().format(record)}"
        if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
            return f"\x1b[{_COLOUR.get(record.levelno, '0')}m{text}\x1b[0m"
        return text


def _under_journal() -> bool:
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


def set_up(instance: str, *, daemon: bool = False, level: int = logging.INFO) -> list[int]:
    """Send the records of this process where they belong; returns file descriptors that a daemon must keep open."""
    root = logging.getLogger()
    root.setLevel(level)
    handler: logging.Handler
    keep = []
    if daemon and os.path.exists("/dev/log"):  # noqa: PTH110 (a socket)
        from logging.handlers import SysLogHandler  # 0.4 MB that only a daemon needs

        handler = SysLogHandler("/dev/log", facility=SysLogHandler.LOG_DAEMON)
        handler.setFormatter(_Escaping(f"{instance}[%(process)d]: %(message)s"))
        keep.append(handler.socket.fileno())  # type: ignore[attr-defined]
    elif _under_journal() and os.path.exists(_JOURNAL):  # noqa: PTH110 (a socket)
        handler = JournalHandler(instance)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(_Terminal(f"{instance}: %(message)s"))
    root.handlers[:] = [handler]
    return keep


class LogTopic(logging.Handler):
    """Publishes warnings and worse on the instance's log topic."""

    def __init__(self, topic: str, bus: Bus) -> None:
        super().__init__(logging.WARNING)
        self._topic, self._bus = topic, bus

    def emit(self, record: logging.LogRecord) -> None:
        """Publish a record while there is a connection."""
        if self._bus.online:
            entry = {"level": record.levelname.lower(), "text": escaped(record.getMessage())}
            if topic := getattr(record, "topic", None):
                entry["topic"] = topic
            self._bus.publish(self._topic, as_json(entry))


Level = Literal["debug", "info", "warning", "error"]


class LogLevel(msgspec.Struct, forbid_unknown_fields=True):
    """Payload of `request/log_level`: {"value":"debug","for":"10m"}."""

    value: Level
    span: Duration = msgspec.field(name="for", default=Duration(600))


class RaisedLevel:
    """The level of the log while somebody wants to hear more, or less, for a time."""

    def __init__(self) -> None:
        self._until = math.inf

    def due(self, now: float) -> None:
        """Go back to the usual level when the time (monotonic) is over."""
        if now >= self._until:
            self._until = math.inf
            logging.getLogger().setLevel(logging.INFO)

    def request_log_level(self, _request: Request, arguments: LogLevel) -> dict[str, Any]:
        """Say more or less, for a time."""
        logging.getLogger().setLevel(arguments.value.upper())
        self._until = time.monotonic() + arguments.span
        return {"value": arguments.value, "for": describe(arguments.span)}
