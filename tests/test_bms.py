"""The battery source as its own process against simulated batteries on a private D-Bus, through a real broker."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from harness import PROJECT, Broker, Ear, House, busy, stand_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ImportWarning)  # PyGObject 3.42 has an importer of the old kind
    pytest.importorskip("gi.repository.Gio", reason="the simulated bluetoothd needs Debian's python3-gi")
pytest.importorskip("dbus", reason="the gatt package needs Debian's python3-dbus")
if shutil.which("dbus-daemon") is None:
    pytest.skip("the private bus needs Debian's dbus-daemon", allow_module_level=True)

import msgspec

import services.bms
from bootstrap_lib import state
from bootstrap_lib.quantities import QUANTITIES
from bootstrap_lib.registry import Registry
from services.bluetooth import Deadlines, makes
from services.bluetooth import adapter as bluetooth_adapter
from services.bluetooth.estimates import Energy, Estimates
from services.bluetooth.loop import GLibLoop
from services.protocols import daly, daly_p81, jbd, jk
from services.protocols.battery import BatteryProtocol, Frame, Pack, Value
from services.simulators.bluetooth.bus import ADDRESS_VARIABLE, connect
from services.simulators.bluetooth.faults import FAULTS
from services.simulators.bluetooth.lock import APP_PASSWORD
from services.simulators.bluez import Remote, believable_pack

pytestmark = pytest.mark.long

STOPPED_WITHIN = 2.5
"""Seconds from SIGTERM to the end on a busy machine; on an idle one it is less than one."""
PATIENCE = 90.0
"""Seconds after which a world has stood still."""
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("DBUS_")}
CELLS = (3.3, 3.301, 3.302, 3.303, 3.304, 3.305, 3.306, 3.447, 3.308, 3.309, 3.31, 3.311, 3.312)
"""The eighth cell's bytes are 0D 77, and stand at the end of the first 20-byte notification."""
PACK = Pack(
    name="SHED",
    cell_voltages=CELLS,
    current=-6.04,
    remaining_charge=468.71,
    nominal_charge=560,
    cycles=12,
    probe_temperatures=(21.0, -10.4),
    balancing_cells=(4,),
    alarms=("cell_undervoltage",),
    discharge_fet=False,
)
CHANGED = msgspec.structs.replace(PACK, current=-7.5)
"""What a battery says after a fault: who publishes it has read it then."""
STRONG = msgspec.structs.replace(PACK, current=-320.0)
"""Gives 3.8 watt-hours a second."""
DEADLINES = {
    "scan": 5.0,
    "connect": 6.0,
    "give_way": 2.0,
    "resolve": 5.0,
    "notify": 6.0,
    "answer": 0.9,
    "call": 5.0,
    "tries": 6,
    "retry": 0.2,
    "retry_longest": 0.4,
    "bluez": 0.3,
    "remove_after": 3,
    "power_after": 5,
}
KEYS = [*(f"cell_{cell}_voltage" for cell in range(1, len(CELLS) + 1)), "current", "remaining_charge"]
KEYS += ["probe_1_temperature", "probe_2_temperature"]
ESTIMATES = ["remaining_duration", "charged_energy", "discharged_energy"]


def measured(protocol: BatteryProtocol, pack: Pack = PACK) -> dict[str, Value]:
    """All that a battery says of a pack."""
    named: dict[str, Value] = {}
    for request in protocol.REQUESTS:
        for frame in protocol.assembler().feed(protocol.answer(request.frame, pack) or b""):
            assert isinstance(frame, Frame)
            named |= protocol.measurements(request, frame) or {}
    return named


def published(key: str, value: Value) -> Value:
    """A value as its topic has it."""
    if key.endswith("_state"):
        return "on" if value else "off"
    return round(value, QUANTITIES[key.rpartition("_")[2]].decimals) if isinstance(value, float) else value


EVERYTHING = {
    "plain": measured(jbd),
    "daly": measured(daly),
    "daly_ff00": measured(daly),
    "daly_p81": measured(daly_p81),
    "jk": measured(jk),
}
"""By name of the batteries in the world of links whose every measurement has a topic."""


def address(number: int) -> str:
    return f"A4:C1:38:00:00:{number:02X}"


def device(battery: str) -> str:
    """Path of a battery of the links' world."""
    adapter = next(one["adapter"] for one in LINKED.values() if one["address"] == battery)
    return f"/org/bluez/{adapter}/dev_{battery.replace(':', '_')}"


@dataclass
class Told:
    """What the service said of one battery."""

    samples: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    """What was cleared since the last sample."""
    statistics: dict[str, Any] = field(default_factory=dict)
    reasons: str = ""

    def cells(self) -> list[tuple[float, ...]]:
        """Voltages of each sample; the last one may still be on its way."""
        found = [tuple(sample.get(key, math.nan) for key in KEYS[: len(CELLS)]) for _, sample in self.samples]
        return found[:-1] if found and any(map(math.isnan, found[-1])) else found

    def samples_after(self, moment: float) -> int:
        return sum(when > moment for when, _ in self.samples)

    def changed(self) -> list[float]:
        """Moments of the samples that were read after the battery's state had changed."""
        return [when for when, sample in self.samples if sample.get("current") == CHANGED.current]


@contextlib.contextmanager
def simulator(*options: str, module: str = "services.simulators.bluez") -> Iterator[str]:
    """A simulated bluetoothd on a bus of its own; gives the bus's address."""
    command = [sys.executable, "-m", module, "--with-bus", *options]
    with subprocess.Popen(command, cwd=PROJECT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            bus_address = process.stdout.readline().strip().removeprefix(f"{ADDRESS_VARIABLE}=")
            assert process.stdout.readline().strip() == "ready"
            yield bus_address
        finally:
            process.terminate()


class World:
    """A simulator and a service, while they run and after their end."""

    def __init__(self, name: str, house: House, batteries: dict[str, dict[str, Any]]) -> None:
        self.name, self.house, self.options = name, house, batteries
        self.remote: Remote
        self.environment: dict[str, str] = {}
        self.ear = Ear(house.port, f"home/+/{name}/#")
        self.marks: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.batteries = {battery: Told() for battery in batteries}
        self.pids: set[int] = set()
        self.pid = 0
        self.returncode: int | None = None
        self.events: list[str] = []
        self.scanned = self.log = ""
        self.subscriptions: list[str] = []
        self._read = 0

    def mark(self, name: str) -> None:
        """Remember the time, and how much the simulator has seen."""
        self.marks[name] = time.time()
        self.counts[name] = len(self.remote.events())

    def fault(self, battery: str, fault: str) -> None:
        self.remote.set_fault(self.options[battery]["address"], fault)

    def change(self) -> None:
        """Let all batteries say something else from now on."""
        for battery in self.options.values():
            self.remote.set_values(battery["address"], CHANGED)

    def happened(self, event: str) -> bool:
        return any(event in seen for seen in self.remote.events())

    def start(self) -> None:
        self.pid = self.house.start(self.name, **self.environment).pid

    def read(self) -> dict[str, Told]:
        """Sort what was heard since the last time by battery; the first key begins a sample."""
        heard = self.ear.heard[self._read :]
        self._read += len(heard)
        for topic, payload, _ in heard:
            _, what, _, *rest = topic.split("/")
            if what == "data":
                self._take(self.batteries[rest[0]], rest[1], payload)
            elif rest == ["health"]:
                health = json.loads(payload)
                self.pids.add(health["pid"])
                for name, statistics in health.get("links", {}).items():
                    self.batteries[name].statistics = statistics
                    if statistics["last_failure"] not in self.batteries[name].reasons:
                        self.batteries[name].reasons += statistics["last_failure"] + "\n"
        return self.batteries

    def _take(self, told: Told, key: str, payload: bytes) -> None:
        if not payload:
            told.gone.add(key)
            told.cleared.append(key)
            return
        reading = json.loads(payload)
        if key == KEYS[0]:
            told.gone.clear()
            told.samples.append((dt.datetime.fromisoformat(reading["time"]).timestamp(), {}))
        if told.samples:
            told.samples[-1][1][key] = reading["value"]

    def until(self, reached: Callable[[dict[str, Told]], Any]) -> None:
        """Wait until something was told, for long on a busy machine: what is missing then, the tests say."""
        deadline = time.monotonic() + PATIENCE
        while not reached(self.read()) and time.monotonic() < deadline:
            time.sleep(0.1)

    def play(self, faults: dict[str, str], script: Callable[[World], None], pack: Pack = PACK) -> World:
        """Run a simulator and the service as long as a script lasts, which changes faults on the way."""
        values = self.house.folder / f"{self.name}.json"
        values.write_bytes(msgspec.json.encode({battery["address"]: pack for battery in self.options.values()}))
        options = [f"--values={values}"]
        for battery in self.options.values():
            adapter = "hci0" if ":" in battery["adapter"] else battery["adapter"]
            options += ["--battery", f"{battery['address']},{battery['protocol']},{adapter}"]
        for name, several in faults.items():
            for fault in several.split():
                options += ["--fault", f"{self.options[name]['address']}={fault}"]
        with simulator(*options) as bus_address:
            self.environment[ADDRESS_VARIABLE] = bus_address
            self.remote = Remote(bus_address)
            self.start()
            script(self)
            self.returncode = self.house.stop(self.name)
            self.events = self.remote.events()
            self.log = self.house.log(self.name)
            self.remote.close()
        self.read()
        self.ear.close()
        for told in self.batteries.values():
            if told.samples and not told.samples[-1][1].keys() >= set(KEYS):
                told.samples.pop()
        return self


def topics_yaml(worlds: dict[str, dict[str, dict[str, Any]]]) -> str:
    """One instance for each world, with a place of its own."""
    sources: dict[str, dict[str, Any]] = {}
    topics: dict[str, dict[str, Any]] = {}
    for world, batteries in worlds.items():
        every = "1s" if world == "links" else "400ms"
        sources[world] = {"service": "bms", "every": every, "heartbeat": "500ms", "deadlines": DEADLINES}
        sources[world] |= {"batteries": batteries, "may_power_cycle": world == "adapter_stuck"}
        for name in batteries:
            keys = [*KEYS, *ESTIMATES]
            keys += [key for key in EVERYTHING.get(name, ()) if key not in keys and world == "links"]
            for key in keys:
                stale = "3s" if name == "mute" else "10m"
                topics[f"{world}/{name}/{key}"] = {"from": world, "battery": name, "stale": stale}
                if key.endswith("_state"):
                    topics[f"{world}/{name}/{key}"]["states"] = ["off", "on"]
    return f"sources: {json.dumps(sources)}\ntopics: {json.dumps(topics)}\n"


LINK_FAULTS = (
    "plain",
    "mtu_247",
    "single_byte_fragments",
    "first_command_ignored",
    "corrupt_frame",
    "second_fragment_lost",
    "junk_before_frame",
    "link_lost_mid_frame",
    "write_request_refused",
    "notify_in_progress",
    "services_never_resolve",
    "connected_without_link",
    "connection_aborted",
    "mute",
    "connect_never_answers",
    "duplicate_answer",
    "late_answer",
    "request_echoed",
    "notify_acquired",
    "connect_fails_late",
    "write_refused_late",
    "link_unstable",
)
HEALED = ("services_never_resolve", "connected_without_link", "connection_aborted", "notify_acquired")
"""Faults that are there from the start and end when they were noticed."""
STEADY = (
    "plain",
    "mtu_247",
    "single_byte_fragments",
    "first_command_ignored",
    "corrupt_frame",
    "second_fragment_lost",
    "junk_before_frame",
    "link_lost_mid_frame",
    "write_request_refused",
    "notify_in_progress",
    "duplicate_answer",
    "connect_fails_late",
)
"""Faults that a link lives with, or overcomes by itself."""
SLOW = ("late_answer", "write_refused_late", "phone_friendly")
BEGUN = {name: name for name in LINK_FAULTS if name not in ("plain", "mute", "first_channel_refused")} | {
    "daly_ff00": "first_channel_refused",
    "write_refused_late": "write_refused_late late_answer",
}
"""Faults that are there from the start."""


def one_adapter_each(names: tuple[str, ...], protocol: str = "jbd") -> dict[str, dict[str, Any]]:
    return {
        name: {"address": address(number), "protocol": protocol, "adapter": f"hci{number}"}
        for number, name in enumerate(names, 1)
    }


def on_one_adapter(*names: str) -> dict[str, dict[str, Any]]:
    return {name: battery | {"adapter": "hci0"} for name, battery in one_adapter_each(names).items()}


LINKED = one_adapter_each(LINK_FAULTS) | {
    "neighbour": {
        "address": address(98),
        "protocol": "jbd",
        "adapter": f"hci{LINK_FAULTS.index('connect_never_answers') + 1}",
    },
    "daly": {"address": address(99), "protocol": "daly", "adapter": "hci99"},
    "daly_ff00": {"address": address(101), "protocol": "daly", "adapter": "hci101"},
    "daly_p81": {"address": address(102), "protocol": "daly_p81", "adapter": "hci102"},
    "jk": {"address": address(103), "protocol": "jk", "adapter": "hci103"},
    "phone_friendly": {"address": address(100), "protocol": "jbd", "adapter": "hci100", "keep": False},
}


def play_link_faults(world: World) -> None:
    world.until(lambda told: len(told["mute"].samples) >= 2 and all(told[name].reasons for name in HEALED))
    world.mark("mute")
    world.fault("mute", "mute")
    world.remote.set_values(world.options["mute"]["address"], CHANGED)
    for name in HEALED:
        world.fault(name, "plain")
    world.until(lambda told: "No answer" in told["mute"].reasons and set(KEYS) <= told["mute"].gone)
    world.mark("speaks")
    world.fault("mute", "plain")
    world.until(
        lambda told: (
            len(told["mute"].changed()) >= 2
            and all(len(told[name].samples) >= 5 for name in (*STEADY, "neighbour", *OTHER_MAKES))
            and all(len(told[name].samples) >= 3 for name in (*HEALED, *SLOW))
            and told["connect_never_answers"].statistics["failures"] >= 3
            and told["link_unstable"].statistics["sessions"] >= 10
        )
    )
    world.subscriptions = subscriptions(world, device(LINKED["link_unstable"]["address"]))


def subscriptions(world: World, path: str) -> list[str]:
    """What the service has asked the bus to tell it of an object and those below it."""
    bus, name = connect(world.environment[ADDRESS_VARIABLE]), "org.freedesktop.DBus"
    place = "/org/freedesktop/DBus", f"{name}.Debug.Stats", "GetAllMatchRules"
    rules = bus.call_sync(name, *place, None, None, 0, 5000, None).unpack()[0]
    bus.close_sync(None)
    return [rule for of_one in rules.values() for rule in of_one if path in rule]


def play_fault(fault: str, noticed: str) -> Callable[[World], None]:
    """Return a script in which the first of all batteries meets a fault until each of them has said a reason."""

    def script(world: World) -> None:
        world.until(lambda told: all(len(battery.samples) >= 2 for battery in told.values()))
        world.mark("fault")
        world.fault("first", fault)
        world.change()
        world.until(lambda told: all(noticed in battery.reasons for battery in told.values()))
        world.mark("healed")
        world.fault("first", "plain")
        world.until(lambda told: all(len(battery.changed()) >= 2 for battery in told.values()))

    return script


def play_restart_after_a_pause(world: World) -> None:
    """Restart bluetoothd under a service that has ended its links once and made new ones."""
    world.until(lambda told: all(len(battery.samples) >= 2 for battery in told.values()))
    world.ear.ask(world.name, "pause")
    world.mark("resumed")
    world.ear.ask(world.name, "resume")
    world.until(lambda told: all(battery.samples_after(world.marks["resumed"]) >= 2 for battery in told.values()))
    play_fault("bluetoothd_restart", "bluetoothd is not running")(world)


def play_absent_bluetoothd(world: World) -> None:
    """Let bluetoothd start when the service has been running for a while."""
    wait_for(lambda: world.house.log(world.name).count("bluetoothd is not running") >= 2, 20)
    world.mark("healed")
    world.fault("first", "plain")
    world.until(lambda told: all(len(battery.samples) >= 2 for battery in told.values()))


def play_stuck_adapter(world: World) -> None:
    """One battery alone on an adapter that connects nothing until it has been switched off and on."""
    world.until(lambda told: len(told["first"].samples) >= 2 and told["first"].statistics["removals"])


def play_scan(world: World) -> None:
    """One battery of two is out of reach; a pause comes, then the battery."""
    world.until(lambda told: len(told["first"].samples) >= 2)
    wait_for(lambda: scans(world.remote.events())[-1:] == ["StartDiscovery"], PATIENCE, "a scan")
    world.ear.ask(world.name, "pause")
    wait_for(lambda: ups_and_downs(world.remote.events(), address(1))[-1] != "Connect", PATIENCE, "the disconnection")
    world.mark("paused")
    world.fault("second", "plain")
    world.ear.ask(world.name, "resume")
    world.until(lambda told: all(battery.samples_after(world.marks["paused"]) >= 2 for battery in told.values()))


def play_refused_scan(world: World) -> None:
    """BlueZ refuses to scan at first, as it does while it is still ending another scan."""
    wait_for(lambda: len(scans(world.remote.events())) >= 2, PATIENCE, "a second scan")
    world.fault("first", "plain")
    world.until(lambda told: len(told["first"].samples) >= 2)


def scans(events: list[str]) -> list[str]:
    """What was asked of the adapter's scanning."""
    return [event.split()[0] for event in events if "Discovery /" in event]


def ups_and_downs(events: list[str], battery: str) -> list[str]:
    """What became of a battery's link, in order: Connect, Disconnect, and link where it was down."""
    device = battery.replace(":", "_")
    return [
        event.split()[0]
        for event in events
        if event.endswith((f"nect /org/bluez/hci0/dev_{device}", f"down {battery}"))
    ]


def play_energy(world: World) -> None:
    """Kill, stop and start the service, then let the battery charge; scan while nobody is connected."""
    world.until(lambda told: any(sample.get("discharged_energy") for _, sample in told["first"].samples))
    world.house.kill(world.name)
    world.mark("killed")
    world.scanned = subprocess.run(
        [sys.executable, "-m", "bootstrap_lib.cli", "--config", world.house.config, "scan", world.name],
        env=ENVIRONMENT | world.environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout
    world.start()
    world.until(lambda told: told["first"].samples_after(world.marks["killed"]) >= 4)
    world.house.stop(world.name)
    world.mark("stopped")
    world.start()
    world.until(lambda told: told["first"].samples_after(world.marks["stopped"]) >= 2)
    world.remote.set_values(world.options["first"]["address"], msgspec.structs.replace(PACK, current=5.0))
    world.until(lambda told: "remaining_duration" in told["first"].cleared)


def play_password(world: World) -> None:
    world.until(
        lambda told: (
            len(told["right"].samples) > 2
            and len(told["open"].samples) > 1
            and told["wrong"].reasons
            and told["none"].reasons
        )
    )


PASSWORDS = {
    name: battery | ({"password": f"secret:app.{name}"} if name != "none" else {})
    for name, battery in on_one_adapter("right", "wrong", "none", "missing", "open").items()
}


@dataclass(frozen=True)
class Plot:
    """Batteries, their faults from the start, and what happens then."""

    batteries: dict[str, dict[str, Any]]
    script: Callable[[World], None]
    faults: dict[str, str] = field(default_factory=dict)
    pack: Pack = PACK


TWO, ONE = on_one_adapter("first", "second"), on_one_adapter("first")
BY_ADDRESS = {name: battery | {"adapter": "02:00:00:00:00:00"} for name, battery in TWO.items()}
PLOTS = {
    "links": Plot(LINKED, play_link_faults, BEGUN),
    "adapter_off": Plot(TWO, play_fault("adapter_off", "switched off")),
    "adapter_replugged": Plot(BY_ADDRESS, play_fault("adapter_replugged", "unplugged")),
    "bluetoothd_restart": Plot(TWO, play_restart_after_a_pause),
    "bluetoothd_absent": Plot(TWO, play_absent_bluetoothd, {"first": "bluetoothd_absent"}),
    "bluetoothd_hangs": Plot(TWO, play_fault("bluetoothd_hangs", "No answer")),
    "scan": Plot(TWO, play_scan, {"second": "out_of_reach"}),
    "scan_refused": Plot(ONE, play_refused_scan, {"first": "scan_refused out_of_reach"}),
    "adapter_stuck": Plot(ONE, play_stuck_adapter, {"first": "adapter_stuck"}),
    "energy": Plot(ONE, play_energy, pack=STRONG),
    "app_password": Plot(PASSWORDS, play_password, dict.fromkeys(PASSWORDS.keys() - {"open"}, "app_password")),
}
RESTARTED = "energy"
"""The one world whose process is killed and started again on purpose."""


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, World]]:
    """All worlds, played side by side in one house."""
    folder = tmp_path_factory.mktemp("bms")
    broker = Broker(folder / "broker").start()
    house = House(folder / "house", broker.port)
    house.write(topics_yaml({name: plot.batteries for name, plot in PLOTS.items()}))
    secrets = folder / "secrets"
    secrets.mkdir(0o700)
    for name, password in (("right", APP_PASSWORD), ("wrong", "654321"), ("open", APP_PASSWORD)):
        (secrets / f"app.{name}").touch(0o600)
        (secrets / f"app.{name}").write_text(password)
    house.environment["CONSTELLATION_CREDENTIALS"] = str(secrets)
    try:
        with ThreadPoolExecutor(len(PLOTS)) as pool:
            running = {
                name: pool.submit(World(name, house, plot.batteries).play, plot.faults, plot.script, plot.pack)
                for name, plot in PLOTS.items()
            }
        yield {name: future.result() for name, future in running.items()}
    finally:
        house.close()
        broker.stop()


@pytest.fixture
def links(worlds: dict[str, World]) -> dict[str, Told]:
    return worlds["links"].batteries


def assert_whole_samples(told: Told, at_least: int) -> None:
    assert len(told.samples) >= at_least, told
    assert set(told.cells()) == {CELLS}
    said = {(sample["current"], sample["remaining_charge"]) for _, sample in told.samples}
    assert said <= {(-6.04, 468.71), (CHANGED.current, 468.71)}
    assert {(sample["probe_1_temperature"], sample["probe_2_temperature"]) for _, sample in told.samples} == {
        (21.0, -10.4)
    }


def assert_unbroken(told: Told) -> None:
    """No failure, but one of a machine that held all links up for seconds: their deadlines are short here."""
    late = ("Nothing happened in state", "No answer to", "BlueZ did not answer", "BlueZ could not connect")
    assert [reason for reason in told.reasons.splitlines() if reason and not reason.startswith(late)] == []
    assert told.statistics["failures"] <= 1


@pytest.mark.parametrize("name", sorted(PLOTS.keys() - {RESTARTED}))
def test_the_process_is_the_same_at_the_end(worlds: dict[str, World], name: str) -> None:
    assert worlds[name].pids == {worlds[name].pid}
    assert worlds[name].returncode == 0


def test_what_one_battery_does_never_stops_the_loop_of_all(worlds: dict[str, World]) -> None:
    """While a Connect that lasts for ever waits for its end, others are asked."""
    events = worlds["links"].events
    hung, plain = (LINKED[name]["address"] for name in ("connect_never_answers", "plain"))
    begin, end = f"Connect {device(hung)}", f"Disconnect {device(hung)}"
    while_it_hung = [part.partition(end)[0] for part in "\n".join(events).split(begin)[1:] if end in part]
    assert max(part.count(f"write {plain}") for part in while_it_hung) >= 3


def test_links_that_come_and_go_leave_no_subscription_behind(worlds: dict[str, World]) -> None:
    assert worlds["links"].batteries["link_unstable"].statistics["sessions"] >= 10
    assert len(worlds["links"].subscriptions) <= 3  # of the device and its two characteristics


@pytest.mark.parametrize("name", PLOTS)
def test_every_battery_is_disconnected_at_the_end_so_that_a_phone_finds_it(worlds: dict[str, World], name: str) -> None:
    last: dict[str, str] = {}
    for event in worlds[name].events:
        what, _, where = event.partition(" ")
        if what in ("Connect", "Disconnect", "link") and "char" not in where:
            last[where.removeprefix("down ").replace("_", ":")[-17:]] = what
    assert last
    assert "Connect" not in last.values()


def test_nothing_but_read_requests_and_what_opens_a_module_is_ever_written(worlds: dict[str, World]) -> None:
    written = {event.split()[2] for world in worlds.values() for event in world.events if event[:5] == "write"}
    opening = {frame for frame in written if frame.startswith("ffaa")}
    assert {frame[4:6] for frame in opening} == {"15", "17", "18", "1d"}
    assert written - opening
    reads = ("dda5", "d203", "8103", "aa5590eb96", "aa5590eb97")
    assert all(frame.startswith(reads) for frame in written - opening)


def test_a_module_behind_the_apps_password_is_opened_or_says_what_it_wants(worlds: dict[str, World]) -> None:
    told = worlds["app_password"].batteries
    assert_whole_samples(told["right"], 2)
    assert_unbroken(told["right"])
    assert not told["wrong"].samples
    assert "the app's password is wrong" in told["wrong"].reasons
    assert not told["none"].samples
    assert "behind the app's password stays mute" in told["none"].reasons
    assert "secret 'app.missing' is not there" in worlds["app_password"].log
    assert_whole_samples(told["open"], 1)  # a module that knows nothing of passwords is asked all the same
    assert "123456" not in worlds["app_password"].log


def test_a_healthy_battery_gives_whole_samples_in_one_session(links: dict[str, Told]) -> None:
    assert_whole_samples(links["plain"], 5)
    assert_unbroken(links["plain"])
    assert links["plain"].statistics["sessions"] == 1


@pytest.mark.parametrize("battery", EVERYTHING)
def test_every_measurement_that_has_a_topic_is_published_there(links: dict[str, Told], battery: str) -> None:
    expected = {key: published(key, value) for key, value in EVERYTHING[battery].items()}
    sample = {key: value for _, said in links[battery].samples for key, value in said.items()}  # texts come once
    assert {key: sample[key] for key in expected} == expected
    assert sample.keys() - expected.keys() == set(ESTIMATES)
    lasts = 3600 * EVERYTHING[battery]["remaining_charge"] / -EVERYTHING[battery]["current"]
    assert sample["remaining_duration"] == pytest.approx(lasts, abs=0.1)


def test_an_mtu_of_247_brings_whole_answers_at_once(links: dict[str, Told]) -> None:
    assert_whole_samples(links["mtu_247"], 5)


def test_answers_in_single_bytes(links: dict[str, Told]) -> None:
    assert_whole_samples(links["single_byte_fragments"], 5)


def test_the_first_command_ignored_is_sent_again(links: dict[str, Told]) -> None:
    assert_whole_samples(links["first_command_ignored"], 5)
    assert links["first_command_ignored"].statistics["retries"] >= 1


def test_a_corrupt_frame_is_asked_for_again(links: dict[str, Told]) -> None:
    assert_whole_samples(links["corrupt_frame"], 5)
    assert links["corrupt_frame"].statistics["rejected_frames"] >= 1
    assert links["corrupt_frame"].statistics["retries"] >= 1


def test_a_lost_second_fragment_is_asked_for_again(links: dict[str, Told]) -> None:
    assert_whole_samples(links["second_fragment_lost"], 5)
    assert links["second_fragment_lost"].statistics["retries"] >= 1


def test_junk_before_each_frame_costs_nothing(links: dict[str, Told]) -> None:
    assert_whole_samples(links["junk_before_frame"], 5)
    assert_unbroken(links["junk_before_frame"])


def test_a_link_lost_in_the_middle_of_a_frame_is_made_again(links: dict[str, Told]) -> None:
    assert_whole_samples(links["link_lost_mid_frame"], 5)
    assert "link was lost" in links["link_lost_mid_frame"].reasons
    assert links["link_lost_mid_frame"].statistics["sessions"] >= 2


@pytest.mark.parametrize("fault", ["write_request_refused", "write_refused_late"])
def test_a_refused_write_request_becomes_a_write_command(links: dict[str, Told], fault: str) -> None:
    assert_whole_samples(links[fault], 3)
    assert links[fault].statistics["write_type"] == "command"
    assert_unbroken(links[fault])


def test_a_start_notify_in_progress_is_repeated(links: dict[str, Told]) -> None:
    assert_whole_samples(links["notify_in_progress"], 5)
    assert_unbroken(links["notify_in_progress"])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("services_never_resolve", "resolve"),
        ("connected_without_link", "resolve"),
        ("connection_aborted", "le-connection-abort-by-local"),
        ("notify_acquired", "Notify acquired"),
    ],
)
def test_a_battery_that_could_not_be_reached_is_read_when_it_can_be(
    worlds: dict[str, World], fault: str, reason: str
) -> None:
    told = worlds["links"].batteries[fault]
    assert_whole_samples(told, 3)
    assert told.samples[0][0] > worlds["links"].marks["mute"]
    assert reason in told.reasons


def test_a_mute_battery_behind_a_living_link_is_cleared_while_others_go_on_and_read_when_it_speaks_again(
    worlds: dict[str, World],
) -> None:
    links, marks = worlds["links"].batteries, worlds["links"].marks
    mute = links["mute"]
    assert_whole_samples(mute, 4)
    assert "No answer" in mute.reasons
    assert min(mute.changed()) > marks["speaks"]
    said = [sample["current"] for _, sample in mute.samples]
    assert said == sorted(said, reverse=True)  # what it said before never comes after what it says then
    assert any(marks["mute"] < when < marks["speaks"] for when, _ in links["plain"].samples)
    assert not links["plain"].cleared


def test_one_battery_whose_connect_never_answers_does_not_delay_its_neighbour(
    worlds: dict[str, World], links: dict[str, Told]
) -> None:
    assert not links["connect_never_answers"].samples
    assert links["connect_never_answers"].statistics["failures"] >= 2
    assert_whole_samples(links["neighbour"], 5)
    assert links["neighbour"].statistics["sessions"] <= 3  # a busy machine may cost it some
    hung, neighbour = (device(LINKED[name]["address"]) for name in ("connect_never_answers", "neighbour"))
    connects = [event for event in worlds["links"].events if event in (f"Connect {hung}", f"Connect {neighbour}")]
    assert connects.index(f"Connect {neighbour}") <= 1
    if connects[0] == f"Connect {hung}":
        assert "battery connect_never_answers: The connection took so long that it gave way" in worlds["links"].log


def test_a_connect_that_fails_when_its_link_is_up_and_used_costs_nothing(links: dict[str, Told]) -> None:
    assert_whole_samples(links["connect_fails_late"], 5)
    assert_unbroken(links["connect_fails_late"])


def test_answers_that_come_twice_are_counted_once(links: dict[str, Told]) -> None:
    assert_whole_samples(links["duplicate_answer"], 5)
    assert_unbroken(links["duplicate_answer"])


def test_late_answers_to_an_earlier_request_are_not_taken_for_others(links: dict[str, Told]) -> None:
    assert_whole_samples(links["late_answer"], 3)
    assert_unbroken(links["late_answer"])


def test_a_battery_that_echoes_requests_is_said_to_want_pairing(links: dict[str, Told]) -> None:
    assert not links["request_echoed"].samples
    assert "paired" in links["request_echoed"].reasons


OTHER_MAKES = ("daly", "daly_ff00", "daly_p81", "jk")


@pytest.mark.parametrize("name", OTHER_MAKES)
def test_other_makes_are_read_over_the_same_link(links: dict[str, Told], name: str) -> None:
    assert len(links[name].samples) >= 5
    whole = [cells for cells in links[name].cells() if not any(map(math.isnan, cells))]
    assert set(whole) == {CELLS}
    assert len(whole) >= len(links[name].samples) - 1, "the end may cut one"
    if name != "daly_p81":
        told = [values["nominal_charge"] for _, values in links[name].samples if "nominal_charge" in values]
        assert set(told) == {560}
    assert links[name].samples[-1][1]["current"] == (-6.04 if name == "jk" else -6.0)


def test_a_battery_whose_link_is_not_kept_is_connected_for_each_sample(links: dict[str, Told]) -> None:
    assert_whole_samples(links["phone_friendly"], 3)
    assert links["phone_friendly"].statistics["sessions"] >= links["phone_friendly"].statistics["samples"]
    assert_unbroken(links["phone_friendly"])


def assert_healed(world: World, reason: str) -> None:
    for told in world.batteries.values():
        assert_whole_samples(told, 4)
        assert reason in told.reasons
        assert len(told.changed()) >= 2
    assert reason in world.log


def test_an_adapter_switched_off_and_on(worlds: dict[str, World]) -> None:
    assert_healed(worlds["adapter_off"], "switched off")
    for told in worlds["adapter_off"].batteries.values():
        assert min(told.changed()) > worlds["adapter_off"].marks["healed"]


def test_an_adapter_that_is_named_by_its_address_is_found_after_a_replug_under_another_name(
    worlds: dict[str, World],
) -> None:
    assert_healed(worlds["adapter_replugged"], "unplugged")
    assert worlds["adapter_replugged"].events.count(f"Connect /org/bluez/hci00/dev_{address(1).replace(':', '_')}") >= 1


def test_a_restarted_bluetoothd(worlds: dict[str, World]) -> None:
    assert_healed(worlds["bluetoothd_restart"], "bluetoothd is not running")


@pytest.mark.parametrize("battery", [address(1), address(2)])
def test_links_that_were_ended_by_a_pause_stay_ended_when_bluetoothd_restarts(
    worlds: dict[str, World], battery: str
) -> None:
    happened = ups_and_downs(worlds["bluetoothd_restart"].events, battery)
    assert happened.count("Connect") >= 3
    assert ("Connect", "Connect") not in pairwise(happened)
    assert "Connect" in ups_and_downs(
        worlds["bluetoothd_restart"].events[: worlds["bluetoothd_restart"].counts["resumed"]], battery
    )


def test_a_scan_that_bluez_refuses_is_begun_again_before_the_battery_is_given_up(worlds: dict[str, World]) -> None:
    assert "was not heard" not in worlds["scan_refused"].log
    assert_whole_samples(worlds["scan_refused"].batteries["first"], 2)


def test_a_pause_ends_the_scan_for_a_battery_that_is_out_of_reach(worlds: dict[str, World]) -> None:
    paused = worlds["scan"].counts["paused"]
    assert scans(worlds["scan"].events[:paused])[-1] == "StopDiscovery"
    assert_whole_samples(worlds["scan"].batteries["second"], 2)


def test_a_bluetoothd_that_is_not_there_at_the_start(worlds: dict[str, World]) -> None:
    for told in worlds["bluetoothd_absent"].batteries.values():
        assert_whole_samples(told, 2)
        assert told.samples[0][0] > worlds["bluetoothd_absent"].marks["healed"]
        assert "bluetoothd is not running" in told.reasons


def test_a_bluetoothd_that_hangs_stops_nothing_for_good(worlds: dict[str, World]) -> None:
    assert_healed(worlds["bluetoothd_hangs"], "No answer")
    for told in worlds["bluetoothd_hangs"].batteries.values():
        assert min(told.changed()) > worlds["bluetoothd_hangs"].marks["healed"]


def test_what_never_connects_is_removed_then_the_adapter_switched_off_and_on(worlds: dict[str, World]) -> None:
    world = worlds["adapter_stuck"]
    assert world.batteries["first"].statistics["removals"] >= 1
    assert "set /org/bluez/hci0 Powered False" in world.events
    assert_whole_samples(world.batteries["first"], 2)


def test_energy_outlives_a_kill_and_a_restart_and_never_goes_backwards(worlds: dict[str, World]) -> None:
    world = worlds[RESTARTED]
    told = [json.loads(payload) for payload in world.ear.all("home/data/energy/first/discharged_energy")]
    moments = [dt.datetime.fromisoformat(reading["time"]).timestamp() for reading in told]
    values = [reading["value"] for reading in told]
    assert values == sorted(values)
    killed = max(value for value, moment in zip(values, moments, strict=True) if moment < world.marks["killed"])
    stopped = min(value for value, moment in zip(values, moments, strict=True) if moment > world.marks["stopped"])
    assert stopped > killed > 0


def test_the_time_that_is_left_has_no_value_while_a_battery_charges_which_is_no_fault(worlds: dict[str, World]) -> None:
    world = worlds[RESTARTED]
    assert world.ear.all("home/data/energy/first/remaining_duration")[-1] == b""
    assert world.ear.last("home/service/energy/health")["stale"] == []


def test_a_scan_shows_which_batteries_are_there_and_which_have_a_name(worlds: dict[str, World]) -> None:
    assert re.fullmatch(
        r"A4:C1:38:00:00:01 jbd -\d\d dBm hci0 jbd(\|[\w:]+)* -> battery first\n", worlds[RESTARTED].scanned
    )


def test_energy_is_written_once_a_minute_and_what_is_published_is_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    bms = services.bms.Bms(Registry(registry(tmp_path)), "bms")
    stand_in(bms)
    bms._recall()
    measured = {"voltage": 60.0, "current": 60.0, "remaining_charge": 50.0}
    written = []
    for second in range(1000, 1300, 10):
        derived = bms._derive(second, "shed", measured)
        energy = state.load(tmp_path / "energy.json", dict[str, dict[str, float]], {"shed": {"charged": 0.0}})
        on_disk = energy["shed"]["charged"]
        assert derived["charged_energy"] == on_disk
        assert on_disk <= (second - 999.9) / 1000
        assert on_disk > (second - 1000 - 60.001) / 1000
        written.append(on_disk)
    assert len(set(written) - {0}) == 4


def test_energy_is_counted_by_trapezoids_for_each_direction_and_not_over_a_gap() -> None:
    estimates = Estimates(Energy(1.0, 2.0), gap=60)
    for moment, power in ((0, -1800), (10, 1800), (20, 1800), (100, 3600), (110, 3600)):
        estimates.take(moment, 24, power / 24, 100)
    charged = (1800 * 10 / 4 + 1800 * 10 + 3600 * 10) / 3.6e6
    assert estimates.energy.charged == pytest.approx(1 + charged)
    assert estimates.energy.discharged == pytest.approx(2 + 1800 * 10 / 4 / 3.6e6)


def test_energy_over_a_gap_is_what_the_batterys_own_charge_says() -> None:
    estimates = Estimates(Energy(1.0, 2.0), gap=60)
    estimates.take(0, 25, 0, 100)
    estimates.take(3600, 26, 0, 90)
    assert estimates.energy == Energy(1.0, 2.26, 90)
    later = Estimates(estimates.energy, gap=60)  # another process, hours later
    later.take(0, 26, 0, 110)
    assert later.energy == Energy(1.52, 2.26, 110)


def test_people_may_count_what_a_battery_gives_as_positive() -> None:
    said = {"current": -6.0, "power": -150.0, "voltage": 25.0}
    assert services.bms.told_as(said, "discharging") == {"current": 6.0, "power": 150.0, "voltage": 25.0}
    assert services.bms.told_as(said, "charging") == said


def test_the_time_that_is_left_follows_the_average_discharge_until_it_charges() -> None:
    estimates = Estimates(Energy(), gap=60)
    assert estimates.take(0, 24, -10, 50) == 5 * 3600
    eased = estimates.take(30, 24, -5, 50)
    assert eased is not None
    assert 5 * 3600 < eased < 6 * 3600
    assert estimates.take(60, 24, 1, 50) is None
    assert estimates.take(70, 24, -5, 50) == 10 * 3600
    assert estimates.take(1000, 24, -10, 50) == 5 * 3600
    assert Estimates(Energy(), gap=60).take(0, 0.0, 0.0, 50) is None


def registry(folder: Path, batteries: str = "", topics: str = "") -> Path:
    path = folder / "topics.yaml"
    path.write_text(
        f"sources:\n  bms:\n    batteries:\n      shed: {{address: 'A4:C1:38:00:00:01'}}\n{batteries}\ntopics:\n{topics}\n"
    )
    return path


@pytest.mark.parametrize(
    ("batteries", "topics", "problem"),
    [
        ("      boat: {address: 'A4:C1:38:00:00:02', protocol: jdb}", "", "there is no protocol 'jdb'"),
        ("      boat: {address: 'A4:C1:38:00:00:02', protocol: rms}", "", "'rms' is no battery's protocol"),
        ("      boat: {address: 'A4:C1:38:00:00:02', family: jbd}", "", "only protocol: aiobmsble has families"),
        ("      boat: {address: 'a4:c1:38:00:00:01'}", "", "it is the address of shed already"),
        ("      boat: {address: 'A4:C1:38:00:00'}", "", "address"),
        ("      boat: {address: 'A4:C1:38:00:00:02', adapter: usb0}", "", "adapter"),
        ("    deadlines: {remove_after: 0}", "", "remove_after"),
        ("    deadlines: {answer: 0}", "", "answer"),
        ("", "  shed/pack/soc: {from: bms, battery: shet}", "did you mean 'shed'?"),
        ("      boat: {address: 'A4:C1:38:00:00:02'}", "  shed/pack/soc: {from: bms}", "which battery?"),
        ("", "  shed/pack/heater_state: {from: bms, states: [off, on, hot]}", "write two words"),
    ],
)
def test_a_check_says_what_is_wrong(tmp_path: Path, batteries: str, topics: str, problem: str) -> None:
    (found,) = services.bms.Bms.check(Registry(registry(tmp_path, batteries, topics)), "bms")
    assert problem in str(found)


@pytest.mark.parametrize(("version", "problem"), [(None, "aiobmsble is not there"), ("0.30.1", "known of 0.31.0 only")])
def test_a_check_says_where_the_library_of_many_families_is_not_there_or_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, problem: str
) -> None:
    def version_of(name: str) -> str:
        if version is None:
            raise makes.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(makes.metadata, "version", version_of)
    boat = "      boat: {address: 'A4:C1:38:00:00:02', protocol: aiobmsble}"
    (found,) = services.bms.Bms.check(Registry(registry(tmp_path, boat)), "bms")
    assert problem in str(found)
    assert "pip install 'constellation[aiobmsble]'" in str(found)
    path = registry(tmp_path, boat)
    path.write_text(path.read_text().replace("  bms:\n", "  bms:\n    host: elsewhere\n"))
    assert services.bms.Bms.check(Registry(path), "bms") == []  # that machine's check says it


def test_the_lines_of_the_page_are_good_and_a_battery_says_all_that_they_ask_for(tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "services" / "bms.md").read_text()
    lines = page[page.index("    sources:\n") : page.index("    home/data/")]
    (tmp_path / "topics.yaml").write_text(textwrap.dedent(lines))
    house = Registry(tmp_path / "topics.yaml")
    assert services.bms.Bms.check(house, "bms") == []
    sixteen = msgspec.structs.replace(PACK, cell_voltages=(3.3,) * 16)
    known = measured(jbd, sixteen) | dict.fromkeys(ESTIMATES, 0.0)
    for topic in house.topics_of("bms", services.bms.BatteryField):
        assert topic.improper(services.bms.value_of(topic, known)) is None, topic.name


def test_a_loop_that_stands_still_ends_the_process_with_a_sentence(
    tmp_path: Path, broker: Broker, house: House
) -> None:
    house.write("sources:\n  bms: {heartbeat: 200ms, batteries: {shed: {address: 'A4:C1:38:00:00:01'}}}\n")
    program = (
        "import sys; from services import bms; from services.bluetooth import loop; from bootstrap_lib import cli;"
        "bms.HUNG = 1.0; loop.GLibLoop._answer = lambda self: None; sys.exit(cli.main(sys.argv[1:]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "--config", house.config, "run", "bms"],
        env=house.environment
        | {name: str(tmp_path / name) for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY")}
        | {ADDRESS_VARIABLE: f"unix:path={tmp_path}/nobody"},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert result.returncode == os.EX_SOFTWARE
    assert "has stood still for 1 s: a new process is needed" in result.stderr
    assert "Traceback" not in result.stderr


def one_battery(house: House, bus_address: str, wait: str) -> None:
    """Start the service with one battery, and wait for what its log says."""
    house.write(
        "sources:\n  bms: {every: 400ms, batteries: {shed: {address: 'A4:C1:38:00:00:01'}}}\n"
        "topics:\n  shed/pack/voltage: {from: bms}\n"
    )
    house.start("bms", **{ADDRESS_VARIABLE: bus_address})
    wait_for(lambda: wait in house.log("bms"), 30, wait)


def stop_soon(house: House) -> None:
    begun = time.monotonic()
    assert house.stop("bms") == 0
    assert time.monotonic() - begun < busy(STOPPED_WITHIN)


def test_it_stops_at_once_without_a_system_bus(house: House, tmp_path: Path) -> None:
    one_battery(house, f"unix:path={tmp_path}/nobody", "The system bus is not there")
    stop_soon(house)


def test_it_stops_soon_while_the_system_bus_does_not_answer(house: House, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute"))
        mute.listen()
        one_battery(house, f"unix:path={tmp_path}/mute", "started")
        asked, _ = mute.accept()
        with asked:
            stop_soon(house)


@pytest.mark.parametrize(
    ("fault", "happened"),
    [
        ("bluetoothd_absent", ""),
        ("connect_never_answers", "Connect"),
        ("bluetoothd_hangs_early", "GetManagedObjects"),
        ("mute", "write"),
    ],
)
def test_it_stops_soon_whatever_bluetooth_does(house: House, fault: str, happened: str) -> None:
    with simulator("--fault", f"{address(1)}={fault}") as bus_address:
        remote = Remote(bus_address)
        one_battery(house, bus_address, "started")
        wait_for(lambda: any(happened in event for event in ["", *remote.events()]), 30, happened)
        stop_soon(house)
        remote.close()


def test_it_stops_soon_when_bluetoothd_has_hung_up_on_it(house: House, ear: Ear) -> None:
    with simulator() as bus_address:
        remote = Remote(bus_address)
        one_battery(house, bus_address, "started")
        ear.wait("home/data/shed/pack/voltage", timeout=30)
        remote.set_fault(address(1), "bluetoothd_hangs")
        stop_soon(house)
        remote.close()


class Turns:
    """An adapter with links that connect never, in a time of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, give_way: float) -> None:
        self.now = 0.0
        self.timers: dict[int, tuple[float, Callable[[], None]]] = {}
        self.connected: list[tuple[float, str]] = []
        self.loop = self.bluez = self
        self.deadlines = Deadlines(give_way=give_way)
        monkeypatch.setattr(bluetooth_adapter, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.adapter = bluetooth_adapter.Adapter(self, "hci0")

    def call(self, *_: Any, **__: Any) -> None:
        pass

    def later(self, seconds: float, action: Callable[[], None]) -> int:
        self.timers[number := len(self.timers) + 1] = self.now + seconds, action
        return number

    def cancel(self, timer: int) -> None:
        self.timers[timer] = float("inf"), lambda: None

    def link(self, name: str) -> SimpleNamespace:
        link = SimpleNamespace(state="turn", guard=lambda action: action())
        link.connect = lambda: self.connected.append((self.now, name))
        link.fail = lambda _reason: self.adapter.release(link)
        self.adapter.links_here.append(link)
        return link

    def until(self, moment: float) -> None:
        while (first := min(self.timers, key=lambda timer: self.timers[timer][0], default=0)) and (
            self.timers[first][0] <= moment
        ):
            self.now, action = self.timers[first]
            self.cancel(first)
            action()
        self.now = moment


def test_batteries_on_one_adapter_connect_in_turn_and_who_takes_long_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(monkeypatch, give_way=8)
    first, second, third, fourth = (turns.link(name) for name in ("first", "second", "third", "fourth"))
    turns.adapter.take_turn(first)
    turns.until(5)
    turns.adapter.take_turn(second)
    turns.adapter.take_turn(third)
    turns.until(10)
    turns.adapter.release(second)  # it is connected
    turns.until(30)
    turns.adapter.take_turn(fourth)
    assert turns.connected == [(0, "first"), (8, "second"), (10, "third"), (30, "fourth")]


def test_a_timer_ends_with_its_loop_and_never_runs_in_the_next() -> None:
    fired: list[str] = []
    first, second, over = GLibLoop(), GLibLoop(), threading.Event()
    first.start(lambda: (first.later(0.2, lambda: fired.append("leaked")), first.quit()))
    first.join(5)
    second.start(lambda: second.later(0.4, lambda: (over.set(), second.quit())))
    assert over.wait(5)
    second.join(5)
    assert not fired


def test_a_loop_that_has_nothing_to_do_sleeps() -> None:
    loop = GLibLoop()
    loop.start(lambda: None)
    begun = time.process_time()
    time.sleep(0.5)
    used = time.process_time() - begun
    assert loop.silence() == pytest.approx(0, abs=0.1)
    wait_for(lambda: loop._asked is None, 5, "a sign of life")
    loop.post(loop.quit)
    loop.join(5)
    assert used < 0.1


def test_nineteen_faults_have_a_name_and_each_is_met_above() -> None:
    names = list(FAULTS)[:19]
    assert [name for name in names if name not in LINK_FAULTS and name not in PLOTS] == []


def test_the_simulator_refuses_to_start_on_the_machines_own_bus() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "services.simulators.bluez"],
        cwd=PROJECT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert result.returncode == 1
    assert "never goes onto the machine's own system bus" in result.stderr


def test_a_sunny_day_is_believable() -> None:
    day = [believable_pack(address(1), 1_800_000_000 // 86400 * 86400 + 600 * step) for step in range(144)]
    assert all(40 <= pack.soc <= 90 for pack in day)
    assert all(3.1 < cell < 3.5 for pack in day for cell in pack.cell_voltages)
    assert day[72].current > 5
    assert day[0].current < -5
