"""The laboratory in the guest: models behind the kernel's real drivers, a broker, and the services that read them."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dbus
import pytest

from services.protocols.battery import Pack
from services.simulators.ads1115 import Clamp, SimulatedChip
from tests.harness import PROJECT, Broker, Ear, House
from tests.lab import pack
from tests.lab.i2c_adapter import TinyI2C
from tests.lab.onewire_adapter import DS9490R, Bus, Sensor
from tests.lab.usbip import Port

PATIENCE = 150.0
"""Seconds for what an emulated processor does on a busy machine."""
LOOK = 0.25
"""Seconds between two looks: the emulated processor has better things to do."""
COMING_TO_LIFE = 30.0
"""Seconds after which controllers that BlueZ has not switched on are plugged in anew."""
SERVICES = ("onewire", "adc", "bms")
FLUE, WATER, ROOM = "28-0316a2795f4b", "28-0416c1a2b3c4", "28-0516d5e6f708"
CENTRAL, PERIPHERAL = "hci0", "hci1"
"""The service's adapter, and the first battery's."""
MAKES = ("jbd", "jk", "daly")
"""Batteries by the names of their protocols. Each has two of btvirt's controllers, which confuses several links of one."""
CENTRALS = {make: f"hci{2 * number}" for number, make in enumerate(MAKES)}
PERIPHERALS = {make: f"hci{2 * number + 1}" for number, make in enumerate(MAKES)}
ADDRESSES = {make: f"00:AA:01:{2 * number + 1:02X}:00:{2 * number + 1:02X}" for number, make in enumerate(MAKES)}
ADAPTERS = (*CENTRALS.values(), *PERIPHERALS.values())
BIAS = 1.65
ADAPTER = "org.bluez.Adapter1"
TOPICS = f"""
root: home
sources:
  onewire: {{every: 2s, stale: 1h}}
  adc: {{every: 3s, stale: 1h, bus: "i2c:%d"}}
  bms:
    every: 2s
    stale: 1h
    heartbeat: 2s
    batteries:
      lab: {{address: "{ADDRESSES["jbd"]}"}}
      jk: {{address: "{ADDRESSES["jk"]}", protocol: jk, adapter: {CENTRALS["jk"]}}}
      daly: {{address: "{ADDRESSES["daly"]}", protocol: daly, adapter: {CENTRALS["daly"]}}}
    deadlines: {{answer: 5, retry_longest: 4}}
topics:
  lab/flue/temperature: {{from: onewire, id: {FLUE}, range: [-55, 125]}}
  lab/water/temperature: {{from: onewire, id: {WATER}, range: [-55, 125]}}
  lab/room/temperature: {{from: onewire, id: {ROOM}, range: [-55, 125]}}
  lab/fan/current: {{from: adc, input: A0-A3, gain: 1, amperes_per_volt: 30}}
  lab/tank/voltage: {{from: adc, input: A1, gain: 1}}
  lab/battery/{{voltage,current,soc,cycles,remaining_charge,hardware_text}}: {{from: bms, battery: lab}}
  lab/battery/cell_{{1..4}}_voltage: {{from: bms, battery: lab}}
  lab/battery/cell_{{1..4}}_balancing_state: {{from: bms, battery: lab, states: [off, on]}}
  lab/battery/probe_{{1..2}}_temperature: {{from: bms, battery: lab}}
  lab/battery/{{charge_fet_state,discharge_fet_state}}: {{from: bms, battery: lab, states: [off, on]}}
  lab/battery/cell_overvoltage_alarm: {{from: bms, battery: lab}}
"""
OTHER_MAKE = """
  lab/{make}/{{voltage,current,soc,cycles,remaining_charge}}: {{from: bms, battery: {make}}}
  lab/{make}/cell_{{1..4}}_voltage: {{from: bms, battery: {make}}}
  lab/{make}/probe_{{1..2}}_temperature: {{from: bms, battery: {make}}}
  lab/{make}/{{charge_fet_state,discharge_fet_state}}: {{from: bms, battery: {make}, states: [off, on]}}
"""


def wait_for(condition: Callable[[], Any], what: Callable[[], str] | str) -> Any:
    """Return the condition's value as soon as it is true; `what` says what was waited for in vain."""
    until = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > until:
            pytest.fail(f"{what if isinstance(what, str) else what()} did not come within {PATIENCE:g} s")
        time.sleep(LOOK)
    return value


class Bluetooth:
    """BlueZ with controllers that hear each other, and a battery of each make on one of two."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def pack(self, make: str) -> Path:
        """The file that says what the battery of a make measures."""
        return self.folder / f"{make}.json"

    def start(self) -> None:
        """Start bluetoothd before the controllers: the other way round it loses one now and then."""
        Path("/run/dbus").mkdir()
        subprocess.run(["modprobe", "hci_vhci"], check=True)
        subprocess.run(["dbus-daemon", "--system", "--fork"], check=True)
        self.start_daemon()
        self.start_controllers()
        self.start_batteries()

    def start_controllers(self) -> None:
        """Plug in all controllers; seldom one is not answered in its first moments, and then never comes to life."""
        for _ in range(4):
            self.run("btvirt", "btvirt", f"-l{len(ADAPTERS)}", "-L")
            if self.await_adapters(COMING_TO_LIFE):
                return
            self.pull_out_controllers()
        raise TimeoutError("BlueZ did not switch all adapters on: bluetoothd.txt in the results says why")

    def pull_out_controllers(self) -> None:
        """Pull all controllers out, without a word to the kernel, and wait until BlueZ has none left."""
        self.kill("btvirt")
        wait_for(lambda: not self.objects(ADAPTER), "the end of BlueZ's adapters")

    def start_batteries(self) -> None:
        """Start the peripherals."""
        for make, adapter in PERIPHERALS.items():
            self.run(make, sys.executable, "-m", "tests.lab.battery", adapter, make, str(self.pack(make)))

    def start_daemon(self) -> None:
        """Start bluetoothd and wait until it is on the bus."""
        self.run("bluetoothd", "/usr/libexec/bluetooth/bluetoothd", "-n")
        wait_for(lambda: dbus.SystemBus().name_has_owner("org.bluez"), "bluetoothd")

    def mend(self) -> None:
        """Bring to life what is not."""
        self.mute(MAKES[0], on=False)
        if "bluetoothd" not in self.processes:
            self.start_daemon()
        if "btvirt" not in self.processes:
            self.start_controllers()
        for adapter in ADAPTERS:
            if not self.powered(adapter):
                self.power(adapter, on=True)

    def await_adapters(self, seconds: float) -> bool:
        """Wait until BlueZ has switched all adapters on."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if all(map(self.powered, ADAPTERS)):
                return True
            time.sleep(LOOK)
        return False

    def objects(self, interface: str) -> dict[str, Any]:
        """BlueZ's objects with an interface: its properties by path."""
        bluez = dbus.Interface(dbus.SystemBus().get_object("org.bluez", "/"), "org.freedesktop.DBus.ObjectManager")
        found = bluez.GetManagedObjects().items()
        return {str(path): interfaces[interface] for path, interfaces in found if interface in interfaces}

    def run(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.txt").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=PROJECT)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def mute(self, name: str, *, on: bool) -> None:
        """Stop a process, or let it go on."""
        self.processes[name].send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    def powered(self, adapter: str) -> bool:
        try:
            return bool(self._adapter(adapter).Get(ADAPTER, "Powered"))
        except dbus.DBusException:  # it is not there yet
            return False

    def power(self, adapter: str, *, on: bool) -> None:
        self._adapter(adapter).Set(ADAPTER, "Powered", dbus.Boolean(on, variant_level=1))

    def _adapter(self, name: str) -> Any:
        return dbus.Interface(dbus.SystemBus().get_object("org.bluez", f"/org/bluez/{name}"), dbus.PROPERTIES_IFACE)


class Laboratory:
    """The models, to be set and broken, and what the services make of them."""

    def __init__(self, folder: Path) -> None:
        self.sensors = {name: Sensor(name, celsius) for name, celsius in ((FLUE, 91.25), (WATER, 63.25), (ROOM, -3.5))}
        self.chip = SimulatedChip(())
        self.apply(amperes=3.0, volts=1.25)
        self.wire = Bus(tuple(self.sensors.values()))
        self.onewire = Port(0, DS9490R(self.wire))
        self.i2c = Port(1, TinyI2C({0x48: self.chip}))
        self.bluetooth = Bluetooth(folder)
        for make in MAKES:
            self.charge(pack.DISCHARGING, make)
        self.broker = Broker(folder / "broker").start()
        self.ear = Ear(self.broker.port)
        self.house = House(folder / "house", self.broker.port)

    def apply(self, *, amperes: float, volts: float) -> None:
        """Let a current flow through the clamp at A0-A3, and put a voltage on A1."""
        self.chip.inputs = (Clamp(amperes, bias=BIAS), lambda _: volts, lambda _: 0.0, lambda _: BIAS)

    def charge(self, state: Pack, make: str = MAKES[0]) -> None:
        """Bring the battery of a make into a state."""
        pack.write(self.bluetooth.pack(make), state)

    def start(self) -> None:
        """Plug everything in and start the services."""
        modules = ("wire timeout=1 slave_ttl=3", "vhci-hcd", "w1_therm", "ds2490", "i2c-tiny-usb", "i2c-dev")
        for module in modules:
            subprocess.run(["modprobe", *module.split()], check=True)
        self.onewire.plug_in()
        self.i2c.plug_in()
        others = "".join(OTHER_MAKE.format(make=make) for make in MAKES[1:])
        self.house.write(TOPICS % self.i2c_number() + others)
        for name in SERVICES:
            self.house.start(name, wait=False)
        self.bluetooth.start()

    def mend(self) -> None:
        """Make all devices work, also after a test that ended half way."""
        self.chip.fault = None
        for sensor in self.sensors.values():
            sensor.present, sensor.disturbed, sensor.supplied = True, False, True
        for port in (self.onewire, self.i2c):
            if not port.plugged_in:
                port.plug_in()
        self.bluetooth.mend()

    def i2c_number(self) -> int:
        """N of the adapter's /dev/i2c-N."""
        return wait_for(self._i2c_numbers, "/dev/i2c-N")[0]

    def _i2c_numbers(self) -> list[int]:
        names = Path("/sys/class/i2c-dev").glob("i2c-*/name")
        return [int(name.parent.name[4:]) for name in names if "i2c-tiny-usb" in name.read_text()]

    def fresh(self, expected: Mapping[str, Any]) -> None:
        """Wait until each topic has said its value, or one that equals it, in a reading that comes from now on."""
        awaited = {topic: (len(self.ear.all(f"home/data/{topic}")), value) for topic, value in expected.items()}

        def all_heard() -> bool:
            for topic, (before, value) in list(awaited.items()):
                said = [
                    json.loads(payload)["value"] for payload in self.ear.all(f"home/data/{topic}")[before:] if payload
                ]
                if value in said:
                    del awaited[topic]
            return not awaited

        def what() -> str:
            return ", ".join(
                f"{value} on {topic} (last {self.ear.last(f'home/data/{topic}')})"
                for topic, (_, value) in awaited.items()
            )

        wait_for(all_heard, what)

    def says(self, service: str, sentence: str, since: int) -> None:
        """Wait until a service has logged a sentence behind the first `since` characters of its log."""
        wait_for(lambda: sentence in self.house.log(service)[since:], f"'{sentence}' from {service}")

    def health(self, service: str, accept: Callable[[Any], Any], what: str) -> Any:
        """Wait for a health that is accepted."""
        topic = f"home/service/{service}/health"

        def look() -> Any:
            health = self.ear.last(topic)
            return health if health and accept(health) else None

        return wait_for(look, f"{what} in the health of {service}")

    def close(self) -> None:
        """End all that was started, the services first; none of them may have left a traceback."""
        try:
            self.house.close()
        finally:
            self.ear.close()
            self.broker.stop()
            for name in list(self.bluetooth.processes):
                self.bluetooth.kill(name)
