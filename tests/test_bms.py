"""The battery source as its own process against simulated batteries on a private D-Bus, through a real broker."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from harness import PROJECT, Broker, Ear, House, wait_for

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
from bootstrap_lib.quantities import QUANTITIES
from bootstrap_lib.registry import Registry
from services.protocols import daly, jbd
from services.protocols.battery import BatteryProtocol, Frame, Pack, Value
from services.protocols.battery_estimates import Energy, Estimates
from services.simulators.bluez import ADDRESS_VARIABLE, FAULTS, Remote, believable_pack

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
STRONG = msgspec.structs.replace(PACK, current=-320.0)
"""Gives 3.8 watt-hours a second."""
DEADLINES = {
    "scan": 2.0,
    "connect": 4.0,
    "give_way": 0.6,
    "resolve": 1.5,
    "notify": 2.0,
    "answer": 0.6,
    "call": 1.0,
    "retry": 0.2,
    "retry_longest": 0.4,
    "bluez": 0.3,
    "remove_after": 3,
    "power_after": 5,
}
INTERVAL = 0.4
KEYS = [*(f"cell_{cell}_voltage" for cell in range(1, len(CELLS) + 1)), "current", "remaining_charge"]
KEYS += ["probe_1_temperature", "probe_2_temperature"]
ESTIMATES = ["remaining_duration", "charged_energy", "discharged_energy"]


def measured(protocol: BatteryProtocol, pack: Pack = PACK) -> dict[str, Value]:
    """All that a battery says of a pack."""
    named: dict[str, Value] = {}
    for request in protocol.REQUESTS:
        (frame,) = protocol.assembler().feed(protocol.answer(request.frame, pack) or b"")
        assert isinstance(frame, Frame)
        named |= protocol.measurements(request, frame) or {}
    return named


def published(key: str, value: Value) -> Value:
    """A value as its topic has it."""
    if key.endswith("_state"):
        return "on" if value else "off"
    return round(value, QUANTITIES[key.rpartition("_")[2]].decimals) if isinstance(value, float) else value


EVERYTHING = {"plain": measured(jbd), "daly": measured(daly)}
"""By name of the batteries in the world of links whose every measurement has a topic."""


def address(number: int) -> str:
    return f"A4:C1:38:00:00:{number:02X}"


@dataclass
class Told:
    """What the service said of one battery."""

    samples: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    statistics: dict[str, Any] = field(default_factory=dict)
    reasons: str = ""

    def cells(self) -> list[tuple[float, ...]]:
        return [tuple(sample[key] for key in KEYS[: len(CELLS)]) for _, sample in self.samples]

    def samples_after(self, moment: float) -> int:
        return sum(when > moment for when, _ in self.samples)


class World:
    """A simulator and a service, while they run and after their end."""

    def __init__(self, name: str, house: House, batteries: dict[str, dict[str, Any]]) -> None:
        self.name, self.house, self.options = name, house, batteries
        self.remote: Remote
        self.environment: dict[str, str] = {}
        self.ear = Ear(house.port, f"home/+/{name}/#")
        self.marks: dict[str, float] = {}
        self.batteries = {battery: Told() for battery in batteries}
        self.pids: set[int] = set()
        self.pid = 0
        self.returncode: int | None = None
        self.events: list[str] = []
        self.scanned = ""
        self._read = 0

    def mark(self, name: str) -> None:
        self.marks[name] = time.time()

    def fault(self, battery: str, fault: str) -> None:
        self.remote.set_fault(self.options[battery]["address"], fault)

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
            told.cleared.append(key)
            return
        reading = json.loads(payload)
        if key == KEYS[0]:
            told.samples.append((dt.datetime.fromisoformat(reading["time"]).timestamp(), {}))
        if told.samples:
            told.samples[-1][1][key] = reading["value"]

    def until(self, reached: Callable[[dict[str, Told]], Any]) -> None:
        """Wait until something was told, 40 s at most: what is missing then, the tests say."""
        deadline = time.monotonic() + 40
        while not reached(self.read()) and time.monotonic() < deadline:
            time.sleep(0.1)

    def play(self, faults: dict[str, str], script: Callable[[World], None], pack: Pack = PACK) -> World:
        """Run a simulator and the service as long as a script lasts, which changes faults on the way."""
        values = self.house.folder / f"{self.name}.json"
        values.write_bytes(msgspec.json.encode({battery["address"]: pack for battery in self.options.values()}))
        command = [sys.executable, "-m", "services.simulators.bluez", "--with-bus", f"--values={values}"]
        for battery in self.options.values():
            command += ["--battery", "{address},{protocol},{adapter}".format(**battery)]
        for name, fault in faults.items():
            command += ["--fault", f"{self.options[name]['address']}={fault}"]
        with subprocess.Popen(command, cwd=PROJECT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as simulator:
            try:
                assert simulator.stdout
                bus_address = simulator.stdout.readline().strip().removeprefix(f"{ADDRESS_VARIABLE}=")
                assert simulator.stdout.readline().strip() == "ready"
                self.environment[ADDRESS_VARIABLE] = bus_address
                self.remote = Remote(bus_address)
                self.start()
                script(self)
                self.returncode = self.house.stop(self.name)
                self.events = self.remote.events()
                self.remote.close()
            finally:
                simulator.terminate()
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
        sources[world] = {"service": "bms", "every": "400ms", "heartbeat": "500ms", "deadlines": DEADLINES}
        sources[world] |= {"batteries": batteries, "may_power_cycle": world == "adapter_stuck"}
        for name in batteries:
            keys = [*KEYS, *ESTIMATES]
            keys += [key for key in EVERYTHING.get(name, ()) if key not in keys and world == "links"]
            for key in keys:
                topics[f"{world}/{name}/{key}"] = {"from": world, "battery": name}
                if key.endswith("_state"):
                    topics[f"{world}/{name}/{key}"]["states"] = ["off", "on"]
                if name == "mute":
                    topics[f"{world}/{name}/{key}"]["stale"] = "1500ms"
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
)
"""Faults that a link lives with, or overcomes by itself."""


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
    "phone_friendly": {"address": address(100), "protocol": "jbd", "adapter": "hci100", "keep": False},
}


def play_link_faults(world: World) -> None:
    world.until(lambda told: len(told["mute"].samples) >= 2 and all(told[name].reasons for name in HEALED))
    world.mark("mute")
    world.fault("mute", "mute")
    for name in HEALED:
        world.fault(name, "plain")
    world.until(lambda told: "No answer" in told["mute"].reasons and set(KEYS) <= set(told["mute"].cleared))
    world.mark("speaks")
    world.fault("mute", "plain")
    world.until(
        lambda told: (
            told["mute"].samples_after(world.marks["speaks"]) >= 2
            and all(len(told[name].samples) >= 8 for name in (*STEADY, "neighbour", "daly"))
            and all(len(told[name].samples) >= 3 for name in (*HEALED, "late_answer", "phone_friendly"))
            and told["connect_never_answers"].statistics["failures"] >= 2
        )
    )


def play_fault(fault: str, lasts: float) -> Callable[[World], None]:
    """Return a script in which the first of two batteries meets a fault for some seconds."""

    def script(world: World) -> None:
        world.until(lambda told: all(len(battery.samples) >= 2 for battery in told.values()))
        world.mark("fault")
        world.fault("first", fault)
        time.sleep(lasts)
        world.mark("healed")
        world.fault("first", "plain")
        world.until(lambda told: all(battery.samples_after(world.marks["healed"]) >= 2 for battery in told.values()))

    return script


def play_restart_after_a_pause(world: World) -> None:
    """Restart bluetoothd under a service that has ended its links once and made new ones."""
    world.until(lambda told: all(len(battery.samples) >= 2 for battery in told.values()))
    world.ear.ask(world.name, "pause")
    world.mark("resumed")
    world.ear.ask(world.name, "resume")
    world.until(lambda told: all(battery.samples_after(world.marks["resumed"]) >= 2 for battery in told.values()))
    play_fault("bluetoothd_restart", 1.0)(world)


def play_absent_bluetoothd(world: World) -> None:
    """Let bluetoothd start when the service has been running for a while."""
    wait_for(lambda: world.house.log(world.name).count("bluetoothd is not running") >= 2, 20)
    time.sleep(0.5)
    world.mark("healed")
    world.fault("first", "plain")
    world.until(lambda told: all(len(battery.samples) >= 2 for battery in told.values()))


def play_stuck_adapter(world: World) -> None:
    """One battery alone on an adapter that connects nothing until it has been switched off and on."""
    world.until(lambda told: len(told["first"].samples) >= 2 and told["first"].statistics["removals"])


def play_energy(world: World) -> None:
    """Kill, stop and start the service, then let the battery charge; scan while nobody is connected."""
    world.until(lambda told: any(sample.get("discharged_energy") for _, sample in told["first"].samples))
    time.sleep(1)
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


@dataclass(frozen=True)
class Plot:
    """Batteries, their faults from the start, and what happens then."""

    batteries: dict[str, dict[str, Any]]
    script: Callable[[World], None]
    faults: dict[str, str] = field(default_factory=dict)
    pack: Pack = PACK


TWO, ONE = on_one_adapter("first", "second"), on_one_adapter("first")
PLOTS = {
    "links": Plot(LINKED, play_link_faults, {name: name for name in LINK_FAULTS if name not in ("plain", "mute")}),
    "adapter_off": Plot(TWO, play_fault("adapter_off", 1.5)),
    "bluetoothd_restart": Plot(TWO, play_restart_after_a_pause),
    "bluetoothd_absent": Plot(TWO, play_absent_bluetoothd, {"first": "bluetoothd_absent"}),
    "bluetoothd_hangs": Plot(TWO, play_fault("bluetoothd_hangs", 2.5)),
    "adapter_stuck": Plot(ONE, play_stuck_adapter, {"first": "adapter_stuck"}),
    "energy": Plot(ONE, play_energy, pack=STRONG),
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
    assert {(sample["current"], sample["remaining_charge"]) for _, sample in told.samples} == {(-6.04, 468.71)}
    assert {(sample["probe_1_temperature"], sample["probe_2_temperature"]) for _, sample in told.samples} == {
        (21.0, -10.4)
    }


@pytest.mark.parametrize("name", sorted(PLOTS.keys() - {RESTARTED}))
def test_the_process_is_the_same_at_the_end(worlds: dict[str, World], name: str) -> None:
    assert worlds[name].pids == {worlds[name].pid}
    assert worlds[name].returncode == 0


def test_what_one_battery_does_never_stops_the_loop_of_all(links: dict[str, Told]) -> None:
    moments = [when for when, _ in links["plain"].samples]
    assert max(after - before for before, after in pairwise(moments)) < 2.5


@pytest.mark.parametrize("name", PLOTS)
def test_every_battery_is_disconnected_at_the_end_so_that_a_phone_finds_it(worlds: dict[str, World], name: str) -> None:
    last: dict[str, str] = {}
    for event in worlds[name].events:
        what, _, where = event.partition(" ")
        if what in ("Connect", "Disconnect", "link"):
            last[where.removeprefix("down ").replace("_", ":")[-17:]] = what
    assert last
    assert "Connect" not in last.values()


def test_nothing_but_read_requests_is_ever_written(worlds: dict[str, World]) -> None:
    written = {event.split()[2] for world in worlds.values() for event in world.events if event[:5] == "write"}
    assert written
    assert all(frame.startswith(("dda5", "d203")) for frame in written)


def test_plain(links: dict[str, Told]) -> None:
    assert_whole_samples(links["plain"], 8)
    assert links["plain"].statistics["failures"] == 0
    assert links["plain"].statistics["sessions"] == 1


@pytest.mark.parametrize("battery", EVERYTHING)
def test_every_measurement_that_has_a_topic_is_published_there(links: dict[str, Told], battery: str) -> None:
    expected = {key: published(key, value) for key, value in EVERYTHING[battery].items()}
    (_, before), (_, last) = links[battery].samples[-2:]
    sample = before | last  # texts are not in the order of the others
    assert {key: sample[key] for key in expected} == expected
    assert sample.keys() - expected.keys() == set(ESTIMATES)
    lasts = 3600 * EVERYTHING[battery]["remaining_charge"] / -EVERYTHING[battery]["current"]
    assert sample["remaining_duration"] == pytest.approx(lasts, abs=0.1)


def test_an_mtu_of_247_brings_whole_answers_at_once(links: dict[str, Told]) -> None:
    assert_whole_samples(links["mtu_247"], 8)


def test_answers_in_single_bytes(links: dict[str, Told]) -> None:
    assert_whole_samples(links["single_byte_fragments"], 8)


def test_the_first_command_ignored_is_sent_again(links: dict[str, Told]) -> None:
    assert_whole_samples(links["first_command_ignored"], 8)
    assert links["first_command_ignored"].statistics["retries"] >= 1


def test_a_corrupt_frame_is_asked_for_again(links: dict[str, Told]) -> None:
    assert_whole_samples(links["corrupt_frame"], 8)
    assert links["corrupt_frame"].statistics["rejected_frames"] >= 1
    assert links["corrupt_frame"].statistics["retries"] >= 1


def test_a_lost_second_fragment_is_asked_for_again(links: dict[str, Told]) -> None:
    assert_whole_samples(links["second_fragment_lost"], 8)
    assert links["second_fragment_lost"].statistics["retries"] >= 1


def test_junk_before_each_frame_costs_nothing(links: dict[str, Told]) -> None:
    assert_whole_samples(links["junk_before_frame"], 8)
    assert links["junk_before_frame"].statistics["failures"] == 0


def test_a_link_lost_in_the_middle_of_a_frame_is_made_again(links: dict[str, Told]) -> None:
    assert_whole_samples(links["link_lost_mid_frame"], 8)
    assert "link was lost" in links["link_lost_mid_frame"].reasons
    assert links["link_lost_mid_frame"].statistics["sessions"] >= 2


def test_a_refused_write_request_becomes_a_write_command(links: dict[str, Told]) -> None:
    assert_whole_samples(links["write_request_refused"], 8)
    assert links["write_request_refused"].statistics["write_type"] == "command"
    assert links["write_request_refused"].statistics["failures"] == 0


def test_a_start_notify_in_progress_is_repeated(links: dict[str, Told]) -> None:
    assert_whole_samples(links["notify_in_progress"], 8)
    assert links["notify_in_progress"].statistics["failures"] == 0


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
    assert_whole_samples(links["mute"], 4)
    assert "No answer" in links["mute"].reasons
    assert set(KEYS) <= set(links["mute"].cleared)
    assert links["mute"].samples_after(marks["speaks"]) >= 2
    begun_before = 1  # its optional requests are waited for in vain
    assert sum(marks["mute"] + 0.3 < when < marks["speaks"] for when, _ in links["mute"].samples) <= begun_before
    assert sum(marks["mute"] < when < marks["speaks"] for when, _ in links["plain"].samples) >= 3
    assert not links["plain"].cleared


def test_one_battery_whose_connect_never_answers_does_not_delay_its_neighbour(links: dict[str, Told]) -> None:
    assert not links["connect_never_answers"].samples
    assert links["connect_never_answers"].statistics["failures"] >= 2
    assert_whole_samples(links["neighbour"], 8)
    assert "gave way" in links["connect_never_answers"].reasons
    moments = [when for when, _ in links["neighbour"].samples]
    assert moments[0] - links["plain"].samples[0][0] < DEADLINES["give_way"] + 2
    assert max(after - before for before, after in pairwise(moments)) < 5 * INTERVAL


def test_answers_that_come_twice_are_counted_once(links: dict[str, Told]) -> None:
    assert_whole_samples(links["duplicate_answer"], 8)
    assert links["duplicate_answer"].statistics["failures"] == 0


def test_late_answers_to_an_earlier_request_are_not_taken_for_others(links: dict[str, Told]) -> None:
    assert_whole_samples(links["late_answer"], 3)
    assert links["late_answer"].statistics["failures"] == 0


def test_a_battery_that_echoes_requests_is_said_to_want_pairing(links: dict[str, Told]) -> None:
    assert not links["request_echoed"].samples
    assert "paired" in links["request_echoed"].reasons


def test_a_daly_battery_is_read_over_the_same_link(links: dict[str, Told]) -> None:
    assert len(links["daly"].samples) >= 8
    assert set(links["daly"].cells()) == {CELLS}
    assert links["daly"].samples[-1][1]["nominal_charge"] == 560
    assert links["daly"].samples[-1][1]["current"] == -6.0


def test_a_battery_whose_link_is_not_kept_is_connected_for_each_sample(links: dict[str, Told]) -> None:
    assert_whole_samples(links["phone_friendly"], 3)
    assert links["phone_friendly"].statistics["sessions"] >= links["phone_friendly"].statistics["samples"]
    assert links["phone_friendly"].statistics["failures"] == 0


def test_an_adapter_switched_off_and_on(worlds: dict[str, World]) -> None:
    marks = worlds["adapter_off"].marks
    for told in worlds["adapter_off"].batteries.values():
        assert_whole_samples(told, 4)
        assert "switched off" in told.reasons
        assert told.samples_after(marks["healed"]) >= 2
        assert not [when for when, _ in told.samples if marks["fault"] + 0.3 < when < marks["healed"]]


def test_a_restarted_bluetoothd(worlds: dict[str, World]) -> None:
    for told in worlds["bluetoothd_restart"].batteries.values():
        assert_whole_samples(told, 4)
        assert "bluetoothd is not running" in told.reasons
        assert told.samples_after(worlds["bluetoothd_restart"].marks["healed"]) >= 2


def test_links_that_were_ended_by_a_pause_stay_ended_when_bluetoothd_restarts(worlds: dict[str, World]) -> None:
    for battery in (address(1), address(2)):
        device = battery.replace(":", "_")
        ups_and_downs = [
            event.split()[0]
            for event in worlds["bluetoothd_restart"].events
            if event in (f"Connect /org/bluez/hci0/dev_{device}", f"link down {battery}")
        ]
        assert ups_and_downs == ["Connect", "link"] * 3


def test_a_bluetoothd_that_is_not_there_at_the_start(worlds: dict[str, World]) -> None:
    for told in worlds["bluetoothd_absent"].batteries.values():
        assert_whole_samples(told, 2)
        assert told.samples[0][0] > worlds["bluetoothd_absent"].marks["healed"]
        assert "bluetoothd is not running" in told.reasons


def test_a_bluetoothd_that_hangs_stops_nothing_for_good(worlds: dict[str, World]) -> None:
    for told in worlds["bluetoothd_hangs"].batteries.values():
        assert_whole_samples(told, 4)
        assert told.samples_after(worlds["bluetoothd_hangs"].marks["healed"]) >= 2


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
        r"A4:C1:38:00:00:01 jbd -\d\d dBm hci0 jbd(\|\w+)* -> battery first\n", worlds[RESTARTED].scanned
    )


def test_energy_is_written_once_a_minute_and_what_is_published_is_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    bms = services.bms.Bms(Registry(registry(tmp_path)), "bms")
    bms._recall()
    measured = {"power": 3600.0, "current": 60.0, "remaining_charge": 50.0}
    written = []
    for second in range(1000, 1300, 10):
        derived = bms._derive(second, "shed", measured)
        on_disk = json.loads((tmp_path / "energy.json").read_text())["shed"]["charged"] if second > 1000 else 0
        assert derived["charged_energy"] == on_disk
        assert on_disk <= (second - 999.9) / 1000
        assert on_disk > (second - 1000 - 60.001) / 1000
        written.append(on_disk)
    assert len(set(written) - {0}) == 5


def test_energy_is_counted_by_trapezoids_for_each_direction_and_not_over_a_gap() -> None:
    estimates = Estimates(Energy(1.0, 2.0), gap=60)
    for moment, power in ((0, -1800), (10, 1800), (20, 1800), (100, 3600), (110, 3600)):
        estimates.take(moment, power, power / 24, 100)
    charged = (1800 * 10 / 4 + 1800 * 10 + 3600 * 10) / 3.6e6
    assert estimates.energy.charged == pytest.approx(1 + charged)
    assert estimates.energy.discharged == pytest.approx(2 + 1800 * 10 / 4 / 3.6e6)


def test_the_time_that_is_left_follows_the_average_discharge_until_it_charges() -> None:
    estimates = Estimates(Energy(), gap=60)
    assert estimates.take(0, -240, -10, 50) == 5 * 3600
    eased = estimates.take(30, -120, -5, 50)
    assert eased is not None
    assert 5 * 3600 < eased < 6 * 3600
    assert estimates.take(60, 24, 1, 50) is None
    assert estimates.take(70, -120, -5, 50) == 10 * 3600
    assert estimates.take(1000, -240, -10, 50) == 5 * 3600
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
        ("      boat: {address: 'a4:c1:38:00:00:01'}", "", "it is the address of shed already"),
        ("      boat: {address: 'A4:C1:38:00:00'}", "", "address"),
        ("", "  shed/pack/soc: {from: bms, battery: shet}", "did you mean 'shed'?"),
        ("      boat: {address: 'A4:C1:38:00:00:02'}", "  shed/pack/soc: {from: bms}", "which battery?"),
        ("", "  shed/pack/heater_state: {from: bms, states: [off, on, hot]}", "write two words"),
    ],
)
def test_a_check_says_what_is_wrong(tmp_path: Path, batteries: str, topics: str, problem: str) -> None:
    (found,) = services.bms.Bms.check(Registry(registry(tmp_path, batteries, topics)), "bms")
    assert problem in str(found)


def test_the_lines_of_the_page_are_good_and_a_battery_says_all_that_they_ask_for(tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "services" / "bms.md").read_text()
    lines = page[page.index("    sources:\n") : page.index("    home/data/")]
    (tmp_path / "topics.yaml").write_text(textwrap.dedent(lines))
    house = Registry(tmp_path / "topics.yaml")
    assert services.bms.Bms.check(house, "bms") == []
    sixteen = msgspec.structs.replace(PACK, cell_voltages=(3.3,) * 16)
    known = measured(jbd, sixteen) | dict.fromkeys(ESTIMATES, 0.0)
    for topic in house.topics_of("bms", services.bms.Field):
        assert topic.improper(services.bms.value_of(topic, known)) is None, topic.name


def test_a_loop_that_stands_still_ends_the_process_with_a_sentence(
    tmp_path: Path, broker: Broker, house: House
) -> None:
    house.write("sources:\n  bms: {heartbeat: 200ms, batteries: {shed: {address: 'A4:C1:38:00:00:01'}}}\n")
    program = (
        "import sys; from services import bms; from services.links import ble; from bootstrap_lib import cli;"
        "bms.HUNG = 1.0; ble.BatteryLinks._beat_once = lambda self: False; sys.exit(cli.main(sys.argv[1:]))"
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
