"""LineReceiver as rtl_wmbus prints them, from a command, from a FIFO that others write into, or from a file that grows."""

import logging
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from services.meters.receiver import ReceivedTelegram, ReceiverError
from services.protocols import rtlwmbus

log = logging.getLogger(__name__)

LONGEST_LINE: Final = 4096


class LineReceiver:
    """LineReceiver of rtl_wmbus from a command, from a FIFO that others write into, or from a file that grows."""

    def __init__(self, command: str | None, path: Path | None, silence: float, *, whole: bool = False) -> None:
        """A `command` that prints no line for `silence` seconds is started anew; `whole` reads a file from its begin."""
        self.counters: Counter[str] = Counter()
        self._command, self._path, self._longest_silence = command, path, silence
        self._first = "+1" if whole else "0"
        self._file = -1
        self._rest = b""
        self._process: subprocess.Popen[bytes] | None = None
        self._line_at = time.monotonic()

    def __enter__(self) -> Self:
        if self._path is not None and self._path.is_fifo():
            self._file = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)  # as a writer too: no end when others leave
            return self
        if self._path is not None and not self._path.exists():
            raise ReceiverError(f"{self._path} is not there: mkfifo {self._path}, and let rtl_wmbus write into it")
        follow = [
            "tail",
            "-q",
            "-n",
            self._first,
            "-F",
            "--",
            str(self._path),
        ]  # also what stands there after a rotation
        command = follow if self._command is None else ["sh", "-c", self._command]
        said = subprocess.DEVNULL if self._command is None else None
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, start_new_session=True)
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

    def receive(self) -> list[ReceivedTelegram]:
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
        return [ReceivedTelegram(telegram, None) for line in lines if (telegram := self._telegram(line)) is not None]

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
