"""Look what is there, and propose a topics.yaml with comments; it is shown before anything is written, and nothing is installed.

sudo constellation init                 asks what each 1-wire sensor measures, shows the file, asks whether to write it
constellation init --yes --file my.yaml    asks nothing
"""

import argparse
import re
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from bootstrap_lib import Registry, StartError, quantities, reason, state
from services.host import PROCESSORS
from services.onewire import ID

HOUSE: Final = Path("/etc/constellation/topics.yaml")
PORTS: Final = (8883, 1883)
"""Where a broker may answer: with TLS, and without."""

SERIAL: Final = {
    "wmbus": "{{device: {port}}}   # a radio dongle for meters",
    "modbus": "{{device: {port}, make: renogy}}   # a charge controller or a meter",
    "vedirect": "{{device: {port}}}   # a Victron device",
}
"""What may be at a serial port."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `init` takes."""
    parser.add_argument("--file", type=Path, default=HOUSE, help=f"what to write (default: {HOUSE})")
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)


def main(arguments: argparse.Namespace) -> int:
    """Look, show, ask, write."""
    file, ask = arguments.file, (lambda _: "") if arguments.yes else _ask
    if file.exists():
        raise StartError(f"{file} is there already: look at it with `constellation check`, or name another by --file")
    text = "\n".join(propose(arguments.root, ask)) + "\n"
    print(text)
    _check(text)
    if not arguments.yes and not ask(f"Write it to {file}? [y/N] ").strip().lower().startswith("y"):
        print("nothing was written")
        return 1
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        state.write(file, text.encode(), 0o644)
    except OSError as error:
        raise StartError(f"{file} cannot be written: {reason(error)}") from None
    print(f"written: {file}. Next: constellation check; sudo constellation units --install; sudo constellation doctor")
    return 0


def _ask(question: str) -> str:
    try:
        return input(question)
    except EOFError:  # nobody is there
        return ""


def _check(text: str) -> None:
    """Judge the proposal as a topics.yaml is judged; DocumentError with its lines."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "topics.yaml"
        path.write_text(text, "utf-8")
        Registry(path)


def propose(root: Path, ask: Callable[[str], str]) -> Iterator[str]:
    """Lines of a topics.yaml for what is found below a root; what is only likely stands there as a comment."""
    on_bus = sorted((root / "sys/bus/w1/devices").glob("*-*/w1_slave"))
    sensors = [file.parent for file in on_bus if re.fullmatch(ID, file.parent.name)]
    ports = sorted((root / "dev/serial/by-id").glob("*"))
    radios = sorted(path.name for path in (root / "sys/class/bluetooth").glob("hci[0-9]"))
    buses = sorted(path.name.removeprefix("i2c-") for path in (root / "dev").glob("i2c-*"))
    yield "# The house: what is measured, and by whom. docs/topics.md is the reference, `constellation check` says what is wrong."
    yield f"timezone: {_zone(root)}"
    heard = [port for port in PORTS if _answers(port)]
    said = f"a broker answers at port {heard[0]}" if heard else "no broker answers here: sudo apt install mosquitto"
    yield f"# On this machine {said}. `units --install` makes its users, rights and TLS."
    yield 'broker: {host: localhost, ca: /etc/constellation/ca.crt, password: "secret:mqtt.{instance}"}'
    yield "\nsources:                                # they measure"
    yield "  host: {every: 1m}                     # this machine"
    if sensors:
        yield f"  onewire: {{every: 10s}}                # {len(sensors)} sensors are there"
    else:
        yield "  # onewire: {every: 10s}               # no 1-wire sensor is there: dtoverlay=w1-gpio in config.txt, and start again"
    yield from (
        f'  # adc: {{every: 5s, bus: "i2c:{bus}"}}   # clamps on an I²C bus: constellation scan adc' for bus in buses
    )
    for port in ports:
        yield f"  # {port.name}: one of"
        yield from (
            f"  # {name}: {text.format(port=f'/dev/serial/by-id/{port.name}')}" for name, text in SERIAL.items()
        )
    for radio in radios:
        yield f"  # Bluetooth by {radio}: `constellation scan bms` shows the batteries in reach"
        yield '  # bms: {batteries: {shed: {address: "A4:C1:38:00:00:01", protocol: jbd}}}'
    yield "\nsubscribers:                            # they keep, conclude and tell"
    yield "  archive: {}                           # the record, in SQL"
    yield "  alerts: {}                            # what people must know"
    yield "  web: {}                               # a page: http://localhost:8080"
    yield "  # rrd, influx, phase, pushover, exporter, discovery: docs/services has a page for each"
    yield "\ntopics:                                 # place/thing/name; the last word is the quantity"
    yield f"  house/machine/{{{_processor(root)}memory_usage,disk_usage}}: {{from: host}}"
    yield from _sensors(sensors, ask)


def _processor(root: Path) -> str:
    """Name of the processor's temperature, where the kernel shows it: a line that is never measured makes its source degraded."""
    zones = [*(root / "sys/class/thermal").glob("thermal_zone*/type"), *(root / "sys/class/hwmon").glob("hwmon*/name")]
    return "processor_temperature," if any(zone.read_text().strip() in PROCESSORS for zone in zones) else ""


def _sensors(sensors: Iterable[Path], ask: Callable[[str], str]) -> Iterator[str]:
    """A line for each 1-wire sensor, with the name that a person gives it."""
    taken: set[str] = {"house/machine"}
    for number, path in enumerate(sensors, 1):
        value = _celsius(path)
        name = f"house/sensor_{number}"
        answer = ask(f"{path.name} reads {value}: what does it measure? place/thing (empty: {name}) ").strip()
        levels = answer.split("/")
        if len(levels) == 2 and all(map(quantities.WORD.fullmatch, levels)) and answer not in taken:  # noqa: PLR2004
            name = answer
        elif answer:
            print(
                f"'{answer}' can be no name, or is given already: two words of small letters, digits and _, such as boiler/water"
            )
        taken.add(name)
        yield f"  {name}/temperature: {{from: onewire, id: {path.name}}}   # reads {value}"


def _celsius(sensor: Path) -> str:
    try:
        found = re.search(r"YES\n.*t=(-?\d+)", (sensor / "w1_slave").read_text())
    except OSError:
        found = None
    return f"{int(found[1]) / 1000:.1f} °C" if found else "nothing"


def _zone(root: Path) -> str:
    """Time zone of the machine, UTC where it says none."""
    try:
        return str((root / "etc/localtime").readlink()).partition("zoneinfo/")[2] or "UTC"
    except OSError:
        return "UTC"


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
