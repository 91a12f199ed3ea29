"""The time of a machine that may have no clock: monotonic until the wall clock is to be trusted.

A Raspberry Pi starts with the time of its last shutdown. Until it has been synchronised, readings carry the
monotonic time since boot and the boot's id, and are corrected before they are sent.
"""

import os
import secrets
import time
from pathlib import Path
from typing import Final

PATIENCE: Final = 300.0
"""Seconds since boot after which the best estimate is used, synchronised or not."""

AHEAD: Final = 60_000
"""Milliseconds that a reading may be ahead of a clock that is synchronised."""

BORN: Final = 1_767_225_600_000
"""2026-01-01, in ms: a clock that says less has no idea."""

OFF: Final = 365 * 86_400_000
"""Milliseconds that a clock which is a guess may be behind: the machine may have been off for as long."""

_BATTERY_CLOCK: Final = Path("/sys/class/rtc/rtc0/since_epoch")

_UNSYNCHRONISED: Final = 0x0040
"""STA_UNSYNC of adjtimex(2)."""


_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Name of this boot of the machine, as the kernel gives it; a hardened unit, which does not see that, has one of its own.

    Its own lies in $RUNTIME_DIRECTORY, which outlives a restart of the service and no boot (systemd.exec(5), ProcSubset=).
    """
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        own = (
            Path(os.environ["RUNTIME_DIRECTORY"].split(":")[0]) / "boot_id"
            if "RUNTIME_DIRECTORY" in os.environ
            else None
        )
        if own is None:
            raise
    if not (own.exists() and own.read_text()):
        own.write_text(secrets.token_hex(16))
    return own.read_text()


def since_boot() -> int:
    """Milliseconds since boot, suspended time included: never steps, shared by all processes."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def is_synchronised() -> bool:
    """Whether the kernel's clock is disciplined by NTP, or was set from a battery-backed clock."""
    if Path("/run/systemd/timesync/synchronized").exists() or _battery_clock_agrees():
        return True
    import ctypes

    timex = ctypes.create_string_buffer(512)
    if ctypes.CDLL(None).adjtimex(timex) < 0:
        return False
    status = 5 * ctypes.sizeof(ctypes.c_long)  # behind modes (padded), offset, freq, maxerror, esterror
    return not int.from_bytes(timex.raw[status : status + 4], "little") & _UNSYNCHRONISED


def _battery_clock_agrees() -> bool:
    """Whether there is one that runs: each Pi 5 has it, but without its battery it begins at 1970."""
    try:
        moment = int(_BATTERY_CLOCK.read_text()) * 1000
    except (OSError, ValueError):
        return False
    return moment > BORN and abs(time.time_ns() // 1_000_000 - moment) < AHEAD


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
        self.overruled = False
        """Whether a person said that the system's clock is right."""
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

    def trust(self) -> None:
        """Believe the system's clock from now on, and forget what was thought to have passed: a person knows better."""
        self.trusted = self.overruled = True
        self.estimated = False
        self.known, self._began = time.time_ns() // 1_000_000, since_boot()

    @property
    def state(self) -> str:
        """What it believes, in a word: waiting, estimated, overruled or trusted."""
        if not self.trusted:
            return "waiting"
        return "estimated" if self.estimated else "overruled" if self.overruled else "trusted"

    def why(self) -> str:
        """Say why it believes what it believes."""
        match self.state:
            case "waiting":
                return (
                    f"the system's clock is not synchronised; it waits for that, until {self._patience:g} s after boot"
                )
            case "estimated" if self.now() > time.time_ns() // 1_000_000:
                return "the system's clock is not synchronised, and behind what is known to have passed: it goes on from there"
            case "estimated":
                return "the system's clock is not synchronised, there is nothing better"
            case "overruled":
                return "a person said that the system's clock is right"
            case _:
                return "the system's clock is synchronised"

    def now(self) -> int:
        """Milliseconds since 1970 by the wall clock, never earlier than what is known to have passed while it is a guess."""
        wall = time.time_ns() // 1_000_000
        if not self.estimated:
            return wall
        if wall > self._floor():
            self.known, self._began = wall, since_boot()
        return self._floor()

    @property
    def certain(self) -> bool:
        """Whether the wall clock is synchronised, and no guess."""
        return self.trusted and not self.estimated

    def ahead(self, moment: int) -> bool:
        """Whether a time (ms) is further ahead than two clocks differ; one that is a guess may itself be far behind."""
        now = self.now()
        return self.trusted and moment > now + (OFF if self.estimated else AHEAD) and (self.certain or now > BORN)

    def _floor(self) -> int:
        """Time that has passed at least: it goes on, so that no two readings of a topic get one time."""
        return self.known + since_boot() - self._began

    def stamp(self) -> tuple[int, str | None]:
        """Time for a reading: wall time, or time since boot with the boot's id while the wall clock is not trusted."""
        return (self.now(), None) if self.trusted else (since_boot(), boot_id())

    def offset(self) -> int:
        """Milliseconds from time since boot to wall time."""
        return self.now() - since_boot()
