"""A tree like /sys/bus/w1/devices with DS18B20s in it, so that the real library reads real files and meets every fault.

A DS18B20 is a folder with `w1_slave`: nine bytes of scratchpad with their CRC-8 (data sheet of the DS18B20, "memory")
as Linux' w1_therm prints them. Every change is one rename, so a reader sees the old state or the new one.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

LSB = 1 / 16
"""°C of the lowest bit at 12 bits."""
POWER_ON_CELSIUS = 85.0
POWER_ON_BYTE, CONVERTED_BYTE = 0x0C, 0x10
"""Byte 6 of the scratchpad, which tells 85 °C before the first conversion from a measured 85 °C."""
OVERFLOW_CELSIUS = -109.9375
"""What a sensor says with a right CRC while it is pulled out (w1thermsensor issue 114)."""
MASTER = "w1_bus_master1"
SLOWNESS = 3.0
"""Seconds that a slow sensor holds its bus."""
TRIGGER, IDLE, CONVERTING, CONVERTED = "trigger", "0\n", "-1\n", "1\n"
"""What `therm_bulk_read` takes, and what it says (Documentation/ABI/testing/sysfs-driver-w1_therm)."""
LOOK = 0.02
"""Seconds between two looks at `therm_bulk_read`."""


class Fault(StrEnum):
    """What can be wrong with a sensor that is there; one that is not there is `unplug`."""

    CRC = "crc"
    EMPTY = "empty"
    ONE_LINE = "one_line"
    POWER_ON = "power_on"
    OVERFLOW = "overflow"
    ZERO = "zero"
    EIO = "eio"
    SLOW = "slow"
    """Three seconds a read."""
    HANG = "hang"
    """Holds its bus for ever, as in the kernel; so do the others that wait behind it."""


def crc8(data: bytes) -> int:
    """Return the 1-wire CRC (x⁸+x⁵+x⁴+1, lowest bit first; Maxim application note 27)."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8C if crc & 1 else 0)
    return crc


def scratchpad(celsius: float, byte_6: int = CONVERTED_BYTE) -> bytes:
    """Return the nine bytes of a DS18B20 at 12 bits."""
    data = round(celsius / LSB).to_bytes(2, "little", signed=True) + bytes((0x4B, 0x46, 0x7F, 0xFF, byte_6, 0x10))
    return data + bytes((crc8(data),))


def slave_text(pad: bytes) -> str:
    """Return what `w1_slave` says of a scratchpad."""
    digits = pad.hex(" ")
    verdict = "YES" if crc8(pad[:-1]) == pad[-1] else "NO"
    millicelsius = int.from_bytes(pad[:2], "little", signed=True) * 1000 // 16
    return f"{digits} : crc={pad[-1]:02x} {verdict}\n{digits} t={millicelsius}\n"


def _text(celsius: float, fault: Fault | None) -> str:
    pad = scratchpad(celsius)
    match fault:
        case Fault.CRC:
            return slave_text(pad[:-1] + bytes((pad[-1] ^ 0xFF,)))
        case Fault.EMPTY:
            return ""
        case Fault.ONE_LINE:
            return slave_text(pad).splitlines(keepends=True)[0]
        case Fault.POWER_ON:
            return slave_text(scratchpad(POWER_ON_CELSIUS, POWER_ON_BYTE))
        case Fault.OVERFLOW:
            return slave_text(scratchpad(OVERFLOW_CELSIUS))
        case Fault.ZERO:
            return slave_text(bytes(9))
        case _:
            return slave_text(pad)


class SlowFile:
    """A file whose reader waits: a FIFO that is answered once, after `wait` seconds or when released (None).

    The bus is held meanwhile: one lock for all sensors of a master, as the kernel's mutex.
    """

    def __init__(
        self,
        path: Path,
        wait: Callable[[], float | None],
        answer: Callable[["SlowFile"], str],
        bus: threading.Semaphore,
    ) -> None:
        new = path.with_name(".new")
        os.mkfifo(new)
        self._handle = os.open(new, os.O_PATH)  # reaches the FIFO after it was renamed away
        new.replace(path)
        self._wait, self._answer, self._bus = wait, answer, bus
        self._released = threading.Event()
        self._reader: int | None = None  # stays open until the thread ends: it may not have opened its side yet
        threading.Thread(target=self._serve, name=f"{path.parent.name} conversion", daemon=True).start()

    def release(self) -> None:
        """Answer a reader that waits now, and end; not after the answer was asked for."""
        self._reader = os.open(f"/proc/self/fd/{self._handle}", os.O_RDONLY | os.O_NONBLOCK)
        self._released.set()

    def _serve(self) -> None:
        pipe = os.open(f"/proc/self/fd/{self._handle}", os.O_WRONLY)
        while not (held := self._bus.acquire(timeout=LOOK)) and not self._released.is_set():
            pass
        self._released.wait(self._wait())
        if held:
            self._bus.release()
        text = self._answer(self)
        os.close(self._handle)
        with contextlib.suppress(BrokenPipeError), os.fdopen(pipe, "w") as file:
            file.write(text)
        if self._reader is not None:
            os.close(self._reader)


class Tree:
    """The folder of 1-wire masters and their sensors, named by their ids (`28-0316a2795f4b`).

    `conversion` is the time in seconds that one sensor holds its bus, 0.75 on a real one; 0 answers at once. With
    `bulk` the first master has `therm_bulk_read`, as Linux from 5.9 on: after `trigger` was written all its sensors
    convert together, and the next reader of each waits for that conversion only. (Linux makes the writer wait, which a
    plain file cannot.) Leaving the context unplugs every sensor and releases every reader.
    """

    def __init__(self, root: Path, *, conversion: float = 0.0, bulk: bool = False) -> None:
        self.root = root
        self.conversion = conversion
        self._bulk = root / MASTER / "therm_bulk_read" if bulk else None
        self._buses: dict[int, threading.Semaphore] = {}
        self._master_of: dict[str, int] = {}
        self._celsius: dict[str, float] = {}
        self._faults: dict[str, Fault] = {}
        self._slow: dict[str, SlowFile] = {}
        self._converted: set[str] = set()  # those whose next reader gets the value of the bulk conversion
        self._converted_at = 0.0
        self._lock = threading.RLock()
        self._ended = threading.Event()
        (root / MASTER).mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        if self._bulk:
            _replace(self._bulk, IDLE)
            threading.Thread(target=self._convert, args=(self._bulk,), name="therm_bulk_read", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for sensor in list(self._celsius):
            self.unplug(sensor)

    def set(self, sensor: str, celsius: float, master: int = 1) -> None:
        """Give a sensor a temperature in °C; one that is not plugged in is plugged in, at a master."""
        with self._lock:
            if sensor not in self._celsius:
                (self.root / _master(master) / sensor).mkdir(parents=True, exist_ok=True)
                _point(self.root / sensor, Path(_master(master), sensor))
                self._master_of[sensor] = master
            self._celsius[sensor] = celsius
            self._show(sensor)

    def fail(self, sensor: str, fault: Fault | None) -> None:
        """Break a plugged-in sensor, or mend it with None."""
        with self._lock:
            if fault is None:
                self._faults.pop(sensor, None)
            else:
                self._faults[sensor] = fault
            self._show(sensor)

    def unplug(self, sensor: str) -> None:
        """Take a sensor away: its folder goes, and a reader that waits gets nothing."""
        with self._lock:
            del self._celsius[sensor]
            self._faults.pop(sensor, None)
            self._converted.discard(sensor)
            (self.root / sensor / "w1_slave").unlink()
            (self.root / sensor).resolve().rmdir()
            (self.root / sensor).unlink()
            if slow := self._slow.pop(sensor, None):
                slow.release()

    def _show(self, sensor: str) -> None:
        """Make the sensor's file say what it says now."""
        file = self.root / sensor / "w1_slave"
        fault = self._faults.get(sensor)
        before = self._slow.pop(sensor, None)
        if fault is Fault.EIO:
            _point(file, Path("/proc/self/mem"))  # its first byte cannot be read by anyone: a genuine EIO
        elif fault in (Fault.HANG, Fault.SLOW) or self.conversion:
            bus = self._buses.setdefault(self._master_of[sensor], threading.Semaphore())
            self._slow[sensor] = SlowFile(
                file, lambda: self._wait(sensor), lambda slow: self._answer(sensor, slow), bus
            )
        else:
            _replace(file, _text(self._celsius[sensor], fault))
        if before:
            before.release()

    def _wait(self, sensor: str) -> float | None:
        with self._lock:
            if self._faults.get(sensor) is Fault.HANG:
                return None
            if self._faults.get(sensor) is Fault.SLOW:
                return SLOWNESS
            if self._bulk:
                self._look(self._bulk)
            if sensor in self._converted:
                return max(0.0, self._converted_at - time.monotonic())
            return self.conversion

    def _answer(self, sensor: str, slow: SlowFile) -> str:
        """Give a reader its text, and a new file to the next one."""
        with self._lock:
            if self._slow.get(sensor) is slow:
                del self._slow[sensor]
                self._show(sensor)
            if self._bulk and sensor in self._converted:
                self._converted.remove(sensor)
                _replace(self._bulk, CONVERTED if self._converted else IDLE)
            return _text(self._celsius[sensor], self._faults.get(sensor)) if sensor in self._celsius else ""

    def _convert(self, bulk: Path) -> None:
        while not self._ended.wait(LOOK):
            with self._lock:
                self._look(bulk)

    def _look(self, bulk: Path) -> None:
        """Take a written `trigger`, and say when the conversion is done."""
        text = bulk.read_text()
        if text.startswith(TRIGGER):
            self._converted = {sensor for sensor, master in self._master_of.items() if master == 1}
            self._converted_at = time.monotonic() + self.conversion
            _replace(bulk, CONVERTING)
        elif text == CONVERTING and time.monotonic() >= self._converted_at:
            _replace(bulk, CONVERTED)


def _master(number: int) -> str:
    return f"w1_bus_master{number}"


def _replace(file: Path, text: str) -> None:
    new = file.with_name(".new")
    new.write_text(text)
    new.replace(file)


def _point(file: Path, target: Path) -> None:
    new = file.with_name(".new")
    new.symlink_to(target)
    new.replace(file)
