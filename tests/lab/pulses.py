"""Twenty pulses a second on a line of the kernel, through kill -9, restarts and power cuts: whether one is lost that was given.

Run by `guest.sh pulses MINUTES CUTS`, in the guest, once for each life of it: a real systemd, the service as it is installed,
and a disk that outlives the power. The line is of gpio-sim, so that the kernel's own character device stamps, debounces and
numbers its edges. What was given is noted outside of the guest before it is given.

A pulse is a contact that the kernel's debouncing has seen closed, and then open: the meter waits for that, by the request that
systemd keeps. An emulated processor that has just begun to import Python is later with it than a contact of 25 ms lasts.
"""

import ctypes
import fcntl
import itertools
import json
import os
import random
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from bootstrap_lib.installation import CREDENTIALS
from bootstrap_lib.location import INSTALLED
from tests.harness import PROJECT

LAB, CONFIGFS = Path("/lab"), Path("/sys/kernel/config")
STATE = Path("/var/lib/constellation/pulse/pulses_grid.json")
NEWEST = Path("/run/constellation/pulse/pulses_grid.json")
PIN = 17
EVERY = 0.05
"""Seconds from one pulse to the next."""
CLOSED = 0.025
"""Seconds that a contact stays as it is, at least."""
LOOK = 0.001
PIDFD_GETFD = 438  # pidfd_getfd(2)
GET_VALUES = 0xC010B40E  # GPIO_V2_LINE_GET_VALUES_IOCTL
PROMISED = 2.0
"""Seconds before a power cut of which pulses may be lost."""
PATIENCE = 90.0
UNIT = "constellation@pulse"
TOPIC = "home/data/cellar/meter/energy"
TOPICS = f"""
broker: {{ca: /etc/constellation/ca.crt, password: "secret:mqtt.{{instance}}"}}
sources:
  pulse: {{every: 200ms, heartbeat: 2s, chip: gpio, meters: {{grid: {{pin: {PIN}, per_unit: 1000}}}}}}
topics:
  cellar/meter/energy: {{from: pulse}}
"""


def call(*command: str | Path) -> str:
    """Run a command; what it says, where it succeeds."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def kept_line() -> int:
    """Get the open request of the line from systemd: it is asked what the kernel holds for true, and its edges are not read."""
    (number,) = [int(one.name) for one in Path("/proc/1/fd").iterdir() if str(one.readlink()).endswith(":gpio-line")]
    library = ctypes.CDLL(None, use_errno=True)
    handle = int(library.syscall(PIDFD_GETFD, os.pidfd_open(1), number, 0))
    if handle < 0:
        raise SystemExit(f"systemd's open request: {os.strerror(ctypes.get_errno())}")
    return handle


class Meter:
    """A meter that closes its contact twenty times a second, at a line of gpio-sim; it notes what it gives outside."""

    def __init__(self, life: int) -> None:
        call("modprobe", "gpio-sim")
        if not os.path.ismount(CONFIGFS):
            call("mount", "-t", "configfs", "config", CONFIGFS)
        device = CONFIGFS / "gpio-sim" / "lab"
        (device / "bank").mkdir(parents=True)
        (device / "bank" / "num_lines").write_text("32")
        (device / "live").write_text("1")
        chip, name = (device / "bank" / "chip_name").read_text().strip(), (device / "dev_name").read_text().strip()
        self._pull = os.open(f"/sys/devices/platform/{name}/{chip}/sim_gpio{PIN}/pull", os.O_WRONLY)
        self._note = os.open(notes(life), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.given = self.held = 0
        """Pulses, and those that took longer, until the kernel had seen them."""
        self._line = -1
        self._turns = threading.Event()
        self._rests = threading.Event()
        self.pull(closed=False)
        threading.Thread(target=self._turn, daemon=True).start()

    def pull(self, *, closed: bool) -> None:
        """Bring the contact, which goes to ground, into a position."""
        os.write(self._pull, b"pull-down" if closed else b"pull-up")

    def seen(self, *, closed: bool) -> bool:
        """Whether the kernel holds the contact for closed, or open, after its debouncing."""
        values = bytearray(struct.pack("=QQ", 0, 1))
        fcntl.ioctl(self._line, GET_VALUES, values)
        return bool(values[0]) == closed

    def go(self) -> None:
        """Turn; the service has its line."""
        if self._line < 0:
            self._line = kept_line()
        self._turns.set()

    def rest(self) -> int:
        """Stand still; how many pulses were given in this life."""
        self._rests.clear()
        self._turns.clear()
        self._rests.wait()
        return self.given

    def _turn(self) -> None:
        due = 0.0
        while True:
            if not self._turns.is_set():
                self._rests.set()
                self._turns.wait()
                due = time.monotonic()
            self.given += 1
            os.write(self._note, f"{self.given} {time.monotonic():.3f}\n".encode())
            late = self._stay(closed=True, until=time.monotonic() + CLOSED)
            due += EVERY
            late |= self._stay(
                closed=False, until=max(time.monotonic() + CLOSED, due)
            )  # a late pulse is as long as any other
            self.held += late

    def _stay(self, *, closed: bool, until: float) -> bool:
        """Bring the contact into a position and leave it there, until the kernel has seen it; whether that was later."""
        self.pull(closed=closed)
        time.sleep(max(0.0, until - time.monotonic()))
        late = not self.seen(closed=closed)
        while not self.seen(closed=closed):
            time.sleep(LOOK)
        return late


def notes(life: int) -> Path:
    """What was given in a life of the guest: number and monotonic time of each pulse."""
    return LAB / f"given.{life}"


def kept() -> int:
    """Pulses that the disk knows."""
    return int(json.loads(STATE.read_bytes())["pulses"]) if STATE.exists() else 0


def install() -> None:
    """Install the house as its page says; a checkout is not hidden from its units."""
    INSTALLED.parent.mkdir(exist_ok=True)
    INSTALLED.write_text(TOPICS)
    drop_in = Path("/run/systemd/system/constellation@.service.d/project.conf")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text(  # and the guest's clock is set by nobody
        f"[Service]\nBindReadOnlyPaths={PROJECT}\nEnvironment=PYTHONPATH={PROJECT} CONSTELLATION_CLOCK_PATIENCE=0\n"
    )
    call(sys.executable, "-m", "bootstrap_lib.cli", "units", "--install")
    call("systemctl", "start", "constellation-broker")


class Published:
    """The newest stand that the broker was told, in pulses."""

    def __init__(self) -> None:
        environment = os.environ | {"XDG_CONFIG_HOME": str(CREDENTIALS.with_name("operator"))}
        command = ["mosquitto_sub", "-t", TOPIC]
        self._ear = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self.pulses = -1
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        assert self._ear.stdout
        for line in self._ear.stdout:
            if line.strip():
                self.pulses = round(1000 * json.loads(line)["value"])

    def comes(self, pulses: int) -> bool:
        """Wait until it is so many; False where it is another for as long as anybody waits."""
        until = time.monotonic() + PATIENCE
        while self.pulses != pulses and time.monotonic() < until:
            time.sleep(0.1)
        return self.pulses == pulses


def process() -> str:
    """Process id of the service; 0 where there is none that is ready."""
    said = dict(line.split("=") for line in call("systemctl", "show", "-p", "MainPID,ActiveState", UNIT).split())
    return said["MainPID"] if said["ActiveState"] == "active" else "0"


def replaced(before: str) -> None:
    """Wait for another process of the service."""
    until = time.monotonic() + PATIENCE
    while process() in ("0", before):
        if time.monotonic() > until:
            raise SystemExit(f"{UNIT} did not come back:\n{call('journalctl', '--no-pager', '-n', '30')}")
        time.sleep(0.2)


def say(text: str) -> None:
    """Tell the person who waits."""
    print(text, flush=True)


def looked_back(life: int, disk: int, before: int) -> int:
    """Compare what the disk has with what was given before the cut; return how many were lost."""
    given = [line.split() for line in notes(life - 1).read_text().splitlines() if line.count(" ") == 1]
    number, ended = int(given[-1][0]), float(given[-1][1])
    owed = sum(float(moment) < ended - PROMISED for _, moment in given)
    lost = before + number - disk
    say(f"power cut: {number} given in that life, {disk - before} on the disk, {lost} lost of the last two seconds")
    if not owed <= disk - before <= number:
        raise SystemExit(f"MORE THAN TWO SECONDS ARE LOST, OR PULSES MADE UP: {owed} of them had to be on the disk")
    return lost


def main() -> None:
    """Live one life of the guest, to its power cut or to the end."""
    seconds, cuts = 60 * float(sys.argv[1]), int(sys.argv[2])
    life = next(number for number in itertools.count(1) if not notes(number).exists())
    chance = random.Random(life)
    ledger = LAB / "ledger.json"
    book = json.loads(ledger.read_text()) if ledger.exists() else {"disk": 0, "lost": 0, "ends": 0, "held": 0}
    disk = kept()
    if life > 1:
        book["lost"] += looked_back(life, disk, book["disk"])
    book["disk"] = disk
    install()
    meter = Meter(life)
    call("udevadm", "settle")  # the chip belongs to its group
    call("systemctl", "start", UNIT)
    ear = Published()
    if not ear.comes(disk):
        raise SystemExit(f"{ear.pulses} pulses are published, and {disk} were on the disk")
    held = 0
    until, ways = time.monotonic() + seconds / (cuts + 1), itertools.cycle(("kill -9", "restart"))
    while time.monotonic() < until:
        meter.go()
        time.sleep(chance.uniform(4, 24))
        before, way = process(), next(ways)
        call("systemctl", *(("kill", "-s", "KILL") if way == "kill -9" else ("restart",)), UNIT)
        replaced(before)
        given = meter.rest()
        if not ear.comes(disk + given):
            raise SystemExit(
                f"AFTER {way} {ear.pulses} PULSES ARE PUBLISHED, AND {disk + given} WERE GIVEN AND NOT CUT\n"
                f"{NEWEST.read_text()} {call('journalctl', '--no-pager', '-n', '30', '-u', UNIT)}"
            )
        book["ends"] += 1
        book["held"] += meter.held - held
        held = meter.held
        say(f"{way}: {given} given, {ear.pulses - disk} counted")
    ledger.write_text(json.dumps(book))
    if life <= cuts:
        meter.go()
        time.sleep(chance.uniform(3, 8))
        (LAB / "cut").touch()  # guest.sh kills the emulated machine
        time.sleep(PATIENCE)
        raise SystemExit("nobody cut the power")
    total = disk + meter.given + book["lost"]
    say(
        f"{total} pulses given, {ear.pulses} counted through {book['ends']} kills and restarts, "
        f"{book['lost']} lost in {cuts} power cuts, each within {PROMISED:g} s of it; "
        f"{book['held']} contacts stayed longer than they had to, because the kernel was late to see them"
    )


if __name__ == "__main__":
    main()
