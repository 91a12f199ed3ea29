"""Receivers of wireless M-Bus: an iM871A dongle on a serial port, and programs that print lines as rtl_wmbus does."""

import errno
import logging
import os
import select
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

from services.protocols import im871a, rtlwmbus
from services.protocols.im871a import LinkMode, Message

log = logging.getLogger(__name__)

MODES: Final = {"c1": LinkMode.C1_B, "t1": LinkMode.T1, "s1": LinkMode.S1, "c1+t1": LinkMode.C1_T1}
"""Radio modes by their names; C1_B hears both formats of C1."""
BOTH_FROM_FIRMWARE: Final = 0x14
"""First firmware of the iM871A that hears C1 and T1 at once."""

PAUSE: Final = 0.1
"""Seconds of silence after which a frame will not be completed: six bytes take a millisecond."""
ANSWER: Final = 0.5
"""Seconds for an answer of the dongle."""
ATTEMPTS: Final = 5
"""Requests without an answer after which it is deaf; it needs a second after a reset."""
PING_EVERY: Final = 15.0
"""Seconds without a message after which the dongle is asked whether it lives."""
LONGEST_LINE: Final = 4096


class ReceiverError(OSError):
    """The receiver cannot be used; the text says what to look at."""


class Received(NamedTuple):
    """A telegram without block CRCs; `signal` in dBm where the receiver measures it."""

    telegram: bytes
    signal: float | None


class Receiver(Protocol):
    """What hears telegrams, open inside `with`; it raises ReceiverError when it has to be opened again."""

    counters: Counter[str]
    """Bytes and lines that were no telegrams, pings and resets since it was made."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def silence(self) -> float:
        """Seconds after which `receive` wants to be called although nothing can be read."""
        ...

    def fileno(self) -> int:
        """File that can be read when there may be telegrams."""
        ...

    def receive(self) -> list[Received]:
        """Return what was heard, without waiting."""
        ...


def open_receiver(device: str, mode: str, silence: float) -> Receiver:
    """Make the receiver that `device` names: a serial port, `lines:PATH`, or `command:COMMAND`; `silence` in seconds."""
    kind, separator, rest = device.partition(":")
    if separator and kind == "lines":
        return Lines(None, Path(rest), silence)
    if separator and kind == "command":
        return Lines(rest, None, silence)
    return Dongle(device, mode, silence)


class Dongle:
    """An IMST iM871A: set to its radio mode, pinged, and reset when it hears nothing for too long."""

    def __init__(self, port: str, mode: str, silence: float) -> None:
        """`silence` in seconds without a telegram, after which it is reset: such dongles fall deaf now and then."""
        self.counters: Counter[str] = Counter()
        self._name, self._mode, self._longest_silence = port, MODES[mode], silence
        self._assembler = im871a.Assembler()
        self._waiting: list[Message] = []
        self._bytes_at = self._message_at = self._telegram_at = time.monotonic()
        self._pinged_at: float | None = None
        self._deaf = False

    def __enter__(self) -> Self:
        import serial  # noqa: PLC0415 (hardware)

        try:
            self._port: Any = serial.Serial(self._name, im871a.BAUD, timeout=0, write_timeout=1, exclusive=True)
        except OSError as error:
            raise ReceiverError(_unusable(self._name, error)) from None
        try:
            self._port.reset_input_buffer()
            self._set_up()
        except BaseException:
            self._port.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._port.close()

    def fileno(self) -> int:
        """File descriptor of the port."""
        number: int = self._port.fileno()
        return number

    @property
    def silence(self) -> float:
        """Seconds until an incomplete frame, a ping or a reset is due."""
        if self._waiting:
            return 0.0
        due = min(self._telegram_at + self._longest_silence, self._message_at + PING_EVERY)
        if self._pinged_at is not None:
            due = self._pinged_at + ANSWER
        if self._assembler.incomplete:
            due = min(due, self._bytes_at + PAUSE)
        return max(0.01, due - time.monotonic())

    def receive(self) -> list[Received]:
        """Read what is there; look after the dongle where nothing is."""
        messages = [*self._waiting, *self._read()]
        self._waiting.clear()
        heard = [
            Received(telegram, message.signal) for message in messages if (telegram := message.telegram) is not None
        ]
        if heard:
            self._telegram_at, self._deaf = self._message_at, False
        else:
            self._look_after(time.monotonic())
        return heard

    def _read(self) -> list[Message]:
        try:
            data: bytes = self._port.read(4096)
        except OSError:
            raise ReceiverError(f"{self._name} is gone: was the dongle unplugged?") from None
        now = time.monotonic()
        messages: list[Message] = []
        if data:
            messages = self._assembler.feed(data)
            self._bytes_at = now
        elif self._assembler.incomplete and now - self._bytes_at >= PAUSE:
            messages = self._assembler.pause()
        if messages:
            self._message_at, self._pinged_at = now, None
        self.counters["noise_bytes"] = self._assembler.dropped
        return messages

    def _look_after(self, now: float) -> None:
        if self._pinged_at is not None and now - self._pinged_at >= ANSWER:
            self._ask(im871a.PING)
        elif self._pinged_at is None and now - self._message_at >= PING_EVERY:
            self.counters["pings"] += 1
            self._pinged_at = now
            self._write(im871a.PING)
        if now - self._telegram_at >= self._longest_silence:
            if not self._deaf:
                log.info(
                    "no telegram for %.0f s: the dongle is reset, and again until it hears one", now - self._telegram_at
                )
            self.counters["resets"] += 1
            self._telegram_at, self._deaf = now, True
            self._ask(im871a.RESET)
            self._set_up()

    def _set_up(self) -> None:
        self._ask(im871a.PING)
        about = im871a.device(self._ask(im871a.DEVICE_INFORMATION))
        if self._mode is LinkMode.C1_T1 and about is not None and about.firmware < BOTH_FROM_FIRMWARE:
            raise ReceiverError(
                f"the dongle's firmware {about.firmware:#x} hears C1 and T1 at once only from "
                f"{BOTH_FROM_FIRMWARE:#x} on: choose mode c1 or t1"
            )
        self._ask(im871a.configuration(self._mode))

    def _ask(self, request: Message) -> Message:
        """Return the dongle's answer; telegrams that come before it are kept."""
        wanted = (request.endpoint, request.id + 1)
        for _ in range(ATTEMPTS):
            self._write(request)
            until = time.monotonic() + ANSWER
            while (left := until - time.monotonic()) > 0:
                select.select([self._port], [], [], min(left, PAUSE))
                messages = self._read()
                answers = [message for message in messages if (message.endpoint, message.id) == wanted]
                self._waiting += [message for message in messages if message not in answers]
                if answers:
                    return answers[0]
        raise ReceiverError(
            f"no iM871A answers on {self._name}: plug it in anew, and see whether it is another device's port"
        )

    def _write(self, message: Message) -> None:
        try:
            self._port.write(im871a.encode(message))
        except OSError:
            raise ReceiverError(f"{self._name} is gone: was the dongle unplugged?") from None


def _unusable(port: str, error: OSError) -> str:
    if not Path(port).exists():
        return f"{port} is not there: plug the dongle in, or look in /dev/serial/by-id for its name"
    if error.errno == errno.EACCES:
        return f"{port} may not be opened: the user must be in the group dialout"
    if error.errno in (errno.EAGAIN, errno.EBUSY):
        return f"{port} is used by another program: stop that one first"
    return f"{port} cannot be opened: {error.strerror or error}"


class Lines:
    """Lines of rtl_wmbus from a command, from a FIFO that others write into, or from a file that grows."""

    def __init__(self, command: str | None, path: Path | None, silence: float) -> None:
        """A `command` that prints no line for `silence` seconds is started anew."""
        self.counters: Counter[str] = Counter()
        self._command, self._path, self._longest_silence = command, path, silence
        self._rest = b""
        self._process: subprocess.Popen[bytes] | None = None
        self._line_at = time.monotonic()

    def __enter__(self) -> Self:
        if self._path is not None and self._path.is_fifo():
            self._file = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)  # as a writer too: no end when others leave
            return self
        if self._path is not None and not self._path.exists():
            raise ReceiverError(f"{self._path} is not there: mkfifo {self._path}, and let rtl_wmbus write into it")
        command = ["tail", "-n", "+1", "-f", str(self._path)] if self._command is None else ["sh", "-c", self._command]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        self._file = self._process.stdout.fileno() if self._process.stdout else -1
        os.set_blocking(self._file, False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            os.close(self._file)
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(2)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        if self._process.stdout:
            self._process.stdout.close()
        self._process.wait()

    def fileno(self) -> int:
        """File descriptor that the lines come from."""
        return self._file

    @property
    def silence(self) -> float:
        """Seconds until the command has been silent for too long."""
        return max(0.01, self._line_at + self._longest_silence - time.monotonic())

    def receive(self) -> list[Received]:
        """Read the lines that are there."""
        now = time.monotonic()
        try:
            data = os.read(self._file, 65536)
        except BlockingIOError:
            if now - self._line_at >= self._longest_silence:
                self._line_at = now
                if self._command is not None:
                    raise ReceiverError(
                        f"'{self._command}' has been silent for {self._longest_silence:.0f} s: it is started anew"
                    ) from None
            return []
        if not data:
            raise ReceiverError(f"'{self._command or self._path}' has ended: it is started anew")
        self._line_at = now
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            self._rest = b""
            self.counters["other_lines"] += 1
        return [Received(telegram, None) for line in lines if (telegram := self._telegram(line)) is not None]

    def _telegram(self, line: bytes) -> bytes | None:
        try:
            received = rtlwmbus.parse(line.decode("ascii", "replace"))
        except ValueError as error:
            if line.strip():
                self.counters["other_lines"] += 1
                log.debug("%s", error)
            return None
        if not received.intact:
            self.counters["damaged"] += 1
            return None
        return received.telegram
