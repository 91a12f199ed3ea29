"""The laboratory in the guest: models behind the kernel's real drivers, a broker, and the services that read them."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.harness import PROJECT, Broker, Ear, House, wait_for

from services.simulators.ads1115 import Chip, Clamp
from tests.lab.i2c_adapter import TinyI2C
from tests.lab.onewire_adapter import DS9490R, Bus, Sensor
from tests.lab.usbip import Port

PATIENCE = 90.0
"""Seconds for what an emulated processor does on a busy machine."""
FLUE, WATER, ROOM = "28-0316a2795f4b", "28-0416c1a2b3c4", "28-0516d5e6f708"
CENTRAL, PERIPHERAL = "hci0", "hci1"
PERIPHERAL_ADDRESS = "00:AA:01:01:00:01"
"""Of btvirt's second controller."""
BIAS = 1.65
ADAPTER = "org.bluez.Adapter1"
TOPICS = f"""
root: home
sources:
  onewire: {{every: 2s, stale: 1h}}
  adc: {{every: 1s, stale: 1h, bus: "i2c:%d"}}
  bms:
    every: 2s
    stale: 1h
    batteries: {{lab: {{address: "{PERIPHERAL_ADDRESS}"}}}}
    deadlines: {{answer: 5, retry_longest: 4}}
topics:
  lab/flue/temperature: {{from: onewire, id: {FLUE}, range: [-55, 125]}}
  lab/water/temperature: {{from: onewire, id: {WATER}, range: [-55, 125]}}
  lab/room/temperature: {{from: onewire, id: {ROOM}, range: [-55, 125]}}
  lab/fan/current: {{from: adc, input: A0-A3, gain: 1, amperes_per_volt: 30}}
  lab/tank/voltage: {{from: adc, input: A1, gain: 1}}
  lab/battery/{{voltage,current,soc,cycles,remaining_charge}}: {{from: bms}}
  lab/battery/cell_{{1..4}}_voltage: {{from: bms}}
  lab/battery/probe_{{1..2}}_temperature: {{from: bms}}
"""


class Bluetooth:
    """BlueZ with two controllers that hear each other, and a battery on the second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start bluetoothd before the controllers: the other way round it loses one now and then."""
        Path("/run/dbus").mkdir()
        subprocess.run(["modprobe", "hci_vhci"], check=True)
        subprocess.run(["dbus-daemon", "--system", "--fork"], check=True)
        self.start_daemon()
        while True:  # seldom a controller is not answered, and then never comes to life
            self.run("btvirt", "btvirt", "-l2", "-L")
            if self.await_adapters(10.0):
                break
            self.kill("btvirt")
        self.run("battery", sys.executable, "-m", "tests.lab.battery", PERIPHERAL)

    def start_daemon(self) -> None:
        self.run("bluetoothd", "/usr/libexec/bluetooth/bluetoothd", "-n")
        wait_for(lambda: dbus.SystemBus().name_has_owner("org.bluez"), PATIENCE, "bluetoothd")

    def await_adapters(self, seconds: float) -> bool:
        """Wait until BlueZ has switched both adapters on."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.powered(CENTRAL) and self.powered(PERIPHERAL):
                return True
            time.sleep(0.2)
        return False

    def run(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.txt").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=PROJECT)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

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
        self.sensors = {name: Sensor(name, celsius) for name, celsius in ((FLUE, 182.5 / 2), (WATER, 63.25), (ROOM, -3.5))}
        self.chip = Chip([Clamp(3.0), lambda _: 1.25, lambda _: 0.0, lambda _: BIAS])
        self.onewire = Port(0, DS9490R(Bus(tuple(self.sensors.values()))))
        self.i2c = Port(1, TinyI2C({0x48: self.chip}))
        self.bluetooth = Bluetooth(folder)
        self.broker = Broker(folder / "broker")
        self.house = House(folder / "house", self.broker.port)
        self.ear: Ear

    def start(self) -> None:
        """Plug everything in and start the services."""
        modules = ("wire timeout=1 slave_ttl=3", "vhci-hcd", "w1_therm", "ds2490", "i2c-tiny-usb", "i2c-dev")
        for module in modules:
            subprocess.run(["modprobe", *module.split()], check=True)
        self.onewire.plug_in()
        self.i2c.plug_in()
        self.broker.start()
        self.ear = Ear(self.broker.port)
        self.house.write(TOPICS % self.i2c_number())
        for name in ("onewire", "adc", "bms"):
            self.house.start(name, wait=False)
        self.bluetooth.start()

    def i2c_number(self) -> int:
        """N of the adapter's /dev/i2c-N."""
        return wait_for(lambda: self._i2c_numbers(), PATIENCE, "/dev/i2c-N")[0]

    def _i2c_numbers(self) -> list[int]:
        names = Path("/sys/class/i2c-dev").glob("i2c-*/name")
        return [int(name.parent.name[4:]) for name in names if "i2c-tiny-usb" in name.read_text()]

    def hear(self, topic: str, value: float, tolerance: float = 1e-9, timeout: float = PATIENCE) -> None:
        """Wait for a reading."""
        self.ear.wait(f"home/data/{topic}", lambda said: abs(said["value"] - value) <= tolerance, timeout)

    def close(self) -> None:
        self.house.close()
        self.ear.close()
        self.broker.stop()
        for process in self.bluetooth.processes.values():
            process.kill()
