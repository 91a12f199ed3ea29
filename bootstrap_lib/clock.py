"""The time of a machine that may have no clock: monotonic until the wall clock is to be trusted.

A Raspberry Pi starts with the time of its last shutdown. Until it has been synchronised, readings carry the
monotonic time since boot and the boot's id, and are corrected before they are sent.
"""

import os
import time
from pathlib import Path
from typing import Final

PATIENCE: Final = 300.0
"""Seconds since boot after which the best estimate is used, synchronised or not."""

_UNSYNCHRONISED: Final = 0x0040
"""STA_UNSYNC of adjtimex(2)."""


def boot_id() -> str:
    """Name of this boot of the machine, as the kernel gives it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def since_boot() -> int:
    """Milliseconds since boot, suspended time included: never steps, shared by all processes."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def is_synchronised() -> bool:
    """Whether the kernel's clock is disciplined by NTP, or was set from a battery-backed clock."""
    if Path("/run/systemd/timesync/synchronized").exists() or Path("/sys/class/rtc/rtc0").exists():
        return True
    import ctypes  # noqa: PLC0415 (only a machine without either pays for it)

    timex = ctypes.create_string_buffer(512)
    if ctypes.CDLL(None).adjtimex(timex) < 0:
        return False
    status = 5 * ctypes.sizeof(ctypes.c_long)  # behind modes (padded), offset, freq, maxerror, esterror
    return not int.from_bytes(timex.raw[status : status + 4], "little") & _UNSYNCHRONISED


class Clock:
    """Wall time in milliseconds, once it is to be trusted; monotonic time until then."""

    def __init__(self, patience: float | None = None, known: int = 0, unknown: int = 0) -> None:
        """`known` is a time (ms) that certainly has passed, `unknown` ms may have since; `patience` in seconds since boot."""
        given = os.environ.get("CONSTELLATION_CLOCK_PATIENCE")
        self._patience = float(given) if given else PATIENCE if patience is None else patience
        self.known = known + unknown if time.time_ns() // 1_000_000 < known else known
        self._began = since_boot()
        self.trusted = False
        self.estimated = False
        self.check()

    def check(self) -> bool:
        """Look whether the wall clock may be trusted by now; once it may, it stays so."""
        if not self.trusted:
            synchronised = is_synchronised()
            late = since_boot() / 1000 >= self._patience
            self.trusted = synchronised or late
            self.estimated = late and not synchronised
        elif self.estimated and is_synchronised():
            self.estimated = False
        return self.trusted

    def now(self) -> int:
        """Milliseconds since 1970 by the wall clock, never earlier than what is known to have passed while it is a guess."""
        wall = time.time_ns() // 1_000_000
        if not self.estimated:
            return wall
        if wall > self._floor():
            self.known, self._began = wall, since_boot()
        return self._floor()

    def _floor(self) -> int:
        """Time that has passed at least: it goes on, so that no two readings of a topic get one time."""
        return self.known + since_boot() - self._began

    def stamp(self) -> tuple[int, str | None]:
        """Time for a reading: wall time, or time since boot with the boot's id while the wall clock is not trusted."""
        return (self.now(), None) if self.trusted else (since_boot(), boot_id())

    def offset(self) -> int:
        """Milliseconds from time since boot to wall time."""
        return self.now() - since_boot()
