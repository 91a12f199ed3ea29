"""An iM871A dongle on a serial port: set to its radio mode, pinged, and reset when it falls deaf."""

import errno
import logging
import select
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from services.meters.receiver import ReceivedTelegram, ReceiverError
from services.protocols import im871a
from services.protocols.im871a import DongleMessage, LinkMode

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


class Dongle:
    """An IMST iM871A: set to its radio mode, pinged, and reset when it hears nothing for too long."""

    def __init__(self, port: str, mode: str, silence: float) -> None:
        """`silence` in seconds without a telegram, after which it is reset: such dongles fall deaf now and then."""
        self.counters: Counter[str] = Counter()
        self._name, self._mode, self._longest_silence = port, MODES[mode], silence
        self._assembler = im871a.DongleAssembler()
        self._dropped = 0
        self._port: Any = None
        self._waiting: list[DongleMessage] = []
        self._bytes_at = self._message_at = self._telegram_at = time.monotonic()
        self._pinged_at: float | None = None
        self._deaf = False

    def __enter__(self) -> Self:
        import serial

        try:
            self._port = serial.Serial(self._name, im871a.BAUD, timeout=0, write_timeout=1, exclusive=True)
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

    def receive(self) -> list[ReceivedTelegram]:
        """Read what is there; look after the dongle where nothing is."""
        messages = [*self._waiting, *self._read()]
        self._waiting.clear()
        heard = [
            ReceivedTelegram(telegram, message.signal)
            for message in messages
            if (telegram := message.telegram) is not None
        ]
        if heard:
            self._telegram_at, self._deaf = self._message_at, False
        else:
            self._look_after(time.monotonic())
        return heard

    def _read(self) -> list[DongleMessage]:
        try:
            data: bytes = self._port.read(4096)
        except OSError:
            raise ReceiverError(f"{self._name} is gone: was the dongle unplugged?") from None
        now = time.monotonic()
        messages: list[DongleMessage] = []
        if data:
            messages = self._assembler.feed(data)
            self._bytes_at = now
        elif self._assembler.incomplete and now - self._bytes_at >= PAUSE:
            messages = self._assembler.pause()
        if messages:
            self._message_at, self._pinged_at = now, None
        self.counters["noise_bytes"] += self._assembler.dropped - self._dropped
        self._dropped = self._assembler.dropped
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

    def _ask(self, request: DongleMessage) -> DongleMessage:
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

    def _write(self, message: DongleMessage) -> None:
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
