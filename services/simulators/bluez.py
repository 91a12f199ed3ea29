"""A D-Bus service with BlueZ's interfaces and simulated batteries behind it, so that the battery source runs unchanged.

The real `gatt` package, and any other BlueZ client, talks to it as to bluetoothd: adapters, discovery, connection, GATT
services, notifications of 20 bytes. Faults are set for each battery at run time over the simulator's own D-Bus name,
which stays there while its bluetoothd is "not running".

It refuses to start without DBUS_SYSTEM_BUS_ADDRESS, so that it can never stand in for the real bluetoothd of a machine;
`--with-bus` starts a private bus and prints its address.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from gi.repository import GLib

from services.protocols import daly, daly_p81, jbd, jk
from services.protocols.battery import Pack
from services.simulators.bluetooth.bus import (
    ADDRESS_VARIABLE,
    CONTROL,
    CONTROL_PATH,
    BluezError,
    Reply,
    connect,
    own_name,
    private_bus,
    register,
)
from services.simulators.bluetooth.daemon import Bluetoothd
from services.simulators.bluetooth.faults import FAULTS

if TYPE_CHECKING:
    from services.protocols.battery import BatteryProtocol

PROTOCOLS: Final[dict[str, BatteryProtocol]] = {
    "jbd": jbd,
    "jk": jk,
    "daly": daly,
    "daly_p81": daly_p81,
}


class SimulatedBatteryOptions(msgspec.Struct, frozen=True):
    """One simulated battery: Bluetooth address, protocol (a key of PROTOCOLS) and the adapter that hears it."""

    address: str
    protocol: str = "jbd"
    adapter: str = "hci0"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `ADDRESS[,PROTOCOL[,ADAPTER]]`."""
        options = cls(*text.split(","))
        if options.protocol not in PROTOCOLS:
            raise ValueError(f"There is no protocol {options.protocol!r}; choose one of {', '.join(PROTOCOLS)}.")
        return options


def believable_pack(address: str, moment: float) -> Pack:
    """Return the state of a shed's 24 V battery with solar panels at a moment (Unix time).

    It charges from six to eighteen o'clock UTC, discharges at night, and its cells differ a little, each always by the
    same amount.
    """
    character = random.Random(address)
    cells, nominal = 8, 100.0
    angle = 2 * math.pi * (moment / 86400 % 1 - 0.5)
    soc = 65 + 25 * math.sin(angle)
    current = nominal * 0.25 * math.cos(angle) * 2 * math.pi / 24 + random.gauss(0, 0.05)
    open_circuit = 3.2 + 0.0018 * soc + 0.12 * max(0.0, soc / 100 - 0.85)
    voltages = tuple(round(open_circuit + 0.0012 * current + character.uniform(-0.006, 0.006), 3) for _ in range(cells))
    warmest = max(range(cells), key=voltages.__getitem__)
    celsius = 14 - 5 * math.cos(2 * math.pi * (moment / 86400 - 0.125)) + 0.1 * abs(current)
    return Pack(
        name=f"SIM-{address[-5:].replace(':', '')}",
        cell_voltages=voltages,
        current=round(current, 2),
        remaining_charge=round(nominal * soc / 100, 2),
        nominal_charge=nominal,
        cycles=character.randrange(20, 400),
        probe_temperatures=(round(celsius, 1), round(celsius + 0.7, 1)),
        balancing_cells=(warmest + 1,) if current > 0 and soc > 85 else (),  # noqa: PLR2004 - % of charge
    )


class Simulator:
    """Batteries with their values, and the simulator's own name on the bus: faults and values at run time."""

    def __init__(self, bus_address: str, values: Path | None) -> None:
        self.bluetoothd = Bluetoothd(bus_address)
        self._values, self._fixed = values, dict[str, Pack]()
        self._connection = connect(bus_address)
        register(self._connection, CONTROL_PATH, CONTROL, self._call)

    def add(self, options: SimulatedBatteryOptions) -> None:
        """Add a battery."""
        protocol = PROTOCOLS[options.protocol]

        def answer(address: str, request: bytes) -> bytes | None:
            return protocol.answer(request, self._pack(address))

        self.bluetoothd.add_battery(options.address.upper(), options.protocol, protocol, options.adapter, answer)

    def announce(self) -> None:
        """Take the name, when all is ready."""
        own_name(self._connection, CONTROL)

    def _pack(self, address: str) -> Pack:
        from_file = msgspec.json.decode(self._values.read_bytes(), type=dict[str, Pack]) if self._values else {}
        return self._fixed.get(address) or from_file.get(address) or believable_pack(address, time.time())

    def _call(self, _path: str, method: str, arguments: tuple[Any, ...], reply: Reply) -> None:
        match method, *arguments:
            case ["Faults"]:
                reply.succeed(FAULTS)
            case ["Events"]:
                reply.succeed(self.bluetoothd.events)
            case [_, address, _] if address.upper() not in self.bluetoothd.batteries:
                raise BluezError("DoesNotExist", f"There is no simulated battery {address!r}.")
            case ["SetValues", address, pack]:
                self._fixed[address.upper()] = msgspec.json.decode(pack, type=Pack)
                reply.succeed()
            case ["SetFault", address, fault] if fault in FAULTS:
                self.bluetoothd.set_fault(address.upper(), fault)
                reply.succeed()
            case _:
                raise BluezError("InvalidArguments", f"There is no fault {arguments[1]!r}; --list-faults shows all.")


class Remote:
    """A program's handle on a simulator that runs on the bus at an address."""

    def __init__(self, bus_address: str) -> None:
        self._connection = connect(bus_address)

    def _call(self, method: str, *texts: str) -> Any:
        body = GLib.Variant(f"({'s' * len(texts)})", texts)
        return self._connection.call_sync(CONTROL, CONTROL_PATH, CONTROL, method, body, None, 0, 5000, None).unpack()

    def set_fault(self, address: str, fault: str) -> None:
        """Set a fault of FAULTS for a battery."""
        self._call("SetFault", address, fault)

    def set_values(self, address: str, pack: Pack) -> None:
        """Let a battery answer with these values from now on."""
        self._call("SetValues", address, msgspec.json.encode(pack).decode())

    def events(self) -> list[str]:
        """Return what clients called and what happened, in order."""
        return list(self._call("Events")[0])

    def close(self) -> None:
        """Leave the bus."""
        self._connection.close_sync(None)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m services.simulators.bluez", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--battery",
        action="append",
        type=SimulatedBatteryOptions.parse,
        metavar="ADDRESS[,PROTOCOL[,ADAPTER]]",
        help="a battery, for example A4:C1:38:00:00:01,jbd,hci0 (which is the default); may be repeated; "
        f"protocols: {', '.join(PROTOCOLS)}",
    )
    parser.add_argument(
        "--victron",
        action="append",
        default=[],
        metavar="ADDRESS,KEY[,ADAPTER]",
        help="a SmartShunt that advertises, with its key of 32 hexadecimal digits; may be repeated",
    )
    parser.add_argument("--with-bus", action="store_true", help="start a private bus and print its address")
    parser.add_argument(
        "--values", type=Path, help="JSON file with values by address instead of a sunny day's; read at each answer"
    )
    parser.add_argument(
        "--fault", action="append", default=[], metavar="ADDRESS=FAULT", help="a fault from the start; may be repeated"
    )
    parser.add_argument("--list-faults", action="store_true", help="print the names of all faults and end")
    return parser.parse_args()


def _serve(bus_address: str, options: argparse.Namespace) -> None:
    simulator = Simulator(bus_address, options.values)
    bluetoothd = simulator.bluetoothd
    for battery in options.battery or ([] if options.victron else [SimulatedBatteryOptions("A4:C1:38:00:00:01")]):
        simulator.add(battery)
    for text in options.victron:
        address, key, *adapter = text.split(",")
        bluetoothd.add_shunt(address.upper(), bytes.fromhex(key), *adapter or ["hci0"])
    absent = False
    for setting in options.fault:
        address, _, fault = setting.upper().partition("=")
        if fault.lower() not in FAULTS or address not in bluetoothd.batteries:
            sys.exit(f"--fault {setting}: write ADDRESS=FAULT with a simulated battery and a name of --list-faults.")
        bluetoothd.set_fault(address, fault.lower())
        absent = absent or fault == "BLUETOOTHD_ABSENT"
    if not absent:
        bluetoothd.start()
    simulator.announce()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    loop = GLib.MainLoop()
    for number in (signal.SIGTERM, signal.SIGINT):
        GLib.unix_signal_add(GLib.PRIORITY_HIGH, number, loop.quit)
    loop.run()


def main() -> None:
    """Run the simulator until SIGTERM."""
    options = _arguments()
    if options.list_faults:
        sys.stdout.writelines(f"{name:24} {what}\n" for name, what in FAULTS.items())
        return
    if options.with_bus:
        with private_bus() as address:
            sys.stdout.write(f"{ADDRESS_VARIABLE}={address}\n")
            _serve(address, options)
        return
    bus_address = os.environ.get(ADDRESS_VARIABLE)
    if not bus_address:
        sys.exit(
            f"{ADDRESS_VARIABLE} is not set, and the simulator never goes onto the machine's own system bus. "
            "Set it to the address of a private bus, or use --with-bus."
        )
    _serve(bus_address, options)


if __name__ == "__main__":
    main()
