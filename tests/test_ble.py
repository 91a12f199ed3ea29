"""Battery links against simulated batteries on a private D-Bus: the real gatt package, in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ImportWarning)  # PyGObject 3.42 has an importer of the old kind
    pytest.importorskip("gi.repository.Gio", reason="the simulated bluetoothd needs Debian's python3-gi")
pytest.importorskip("dbus", reason="the gatt package needs Debian's python3-dbus")
if shutil.which("dbus-daemon") is None:
    pytest.skip("the private bus needs Debian's dbus-daemon", allow_module_level=True)

import msgspec

from services.protocols.battery import Pack
from services.simulators.bluez import ADDRESS_VARIABLE, FAULTS, Remote, believable_pack

ROOT = Path(__file__).parent.parent
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
)
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


def address(number: int) -> str:
    return f"A4:C1:38:00:00:{number:02X}"


@dataclass
class Told:
    """What the link process said of one battery."""

    samples: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)
    statistics: dict[str, Any] = field(default_factory=dict)

    def cells(self) -> list[tuple[float, ...]]:
        return [
            tuple(sample[f"cell_{cell}_voltage"] for cell in range(1, len(CELLS) + 1)) for _, sample in self.samples
        ]

    def reasons(self) -> str:
        return "\n".join(reason for _, reason in self.failures)

    def samples_after(self, moment: float) -> int:
        return sum(when > moment for when, _ in self.samples)


def read_told(text: str) -> tuple[dict[str, Told], dict[str, Any]]:
    """Sort the lines of a link process by battery; the last line may still be unfinished."""
    told: dict[str, Told] = defaultdict(Told)
    end: dict[str, Any] = {}
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        moment, what, name, content = json.loads(line)
        match what:
            case "sample":
                told[name].samples.append((moment, content))
            case "failure":
                told[name].failures.append((moment, content))
            case "statistics":
                told[name].statistics = content
            case "end":
                end = content
    return told, end


@dataclass
class World:
    """A simulator and a link process while they run, and after their end."""

    remote: Remote
    output: Path
    marks: dict[str, float] = field(default_factory=dict)
    batteries: dict[str, Told] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)
    returncode: int | None = None
    events: list[str] = field(default_factory=list)
    stderr: str = ""

    def mark(self, name: str) -> None:
        self.marks[name] = time.monotonic()

    def until(self, reached: Callable[[dict[str, Told]], bool]) -> None:
        """Wait until something was told, 40 s at most: what is missing then, the tests say."""
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            if reached(read_told(self.output.read_text())[0]):
                return
            time.sleep(0.1)


def play(
    folder: Path,
    batteries: dict[str, dict[str, Any]],
    faults: dict[str, str],
    script: Callable[[World], None],
    *,
    may_power_cycle: bool = False,
) -> World:
    """Run a simulator and a link process as long as a script lasts, which changes faults on the way."""
    values, output = folder / "values.json", folder / "told"
    values.write_bytes(msgspec.json.encode({battery["address"]: PACK for battery in batteries.values()}))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DBUS_")}
    environment["PYTHONPATH"] = str(ROOT)
    simulator_command = [sys.executable, "-m", "services.simulators.bluez", "--with-bus", f"--values={values}"]
    for battery in batteries.values():
        simulator_command += ["--battery", "{address},{protocol},{adapter}".format(**battery)]
    for name, fault in faults.items():
        simulator_command += ["--fault", f"{batteries[name]['address']}={fault}"]
    options = {
        "batteries": [battery | {"name": name, "interval": INTERVAL} for name, battery in batteries.items()],
        "deadlines": DEADLINES,
        "may_power_cycle": may_power_cycle,
    }
    links_command = [sys.executable, str(ROOT / "tests" / "ble_links.py"), json.dumps(options)]
    with (
        (folder / "stderr").open("w+") as errors,
        output.open("w") as told_by_links,  # a pipe would fill up and stop the loop
        subprocess.Popen(
            simulator_command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as simulator,
    ):
        assert simulator.stdout
        bus_address = simulator.stdout.readline().strip().removeprefix(f"{ADDRESS_VARIABLE}=")
        assert simulator.stdout.readline().strip() == "ready"
        world = World(Remote(bus_address), output)
        environment[ADDRESS_VARIABLE] = bus_address
        with subprocess.Popen(
            links_command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=told_by_links,
            stderr=errors,
            text=True,
        ) as links:
            script(world)
            links.communicate("", timeout=20)
        world.returncode = links.returncode
        world.events = world.remote.events()
        world.remote.close()
        simulator.terminate()
        simulator.wait(10)
        errors.seek(0)
        world.stderr = errors.read()
    world.batteries, world.end = read_told(output.read_text())
    return world


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


def play_link_faults(folder: Path) -> World:
    batteries = one_adapter_each(LINK_FAULTS)
    batteries["neighbour"] = {
        "address": address(98),
        "protocol": "jbd",
        "adapter": batteries["connect_never_answers"]["adapter"],
    }
    batteries["daly"] = {"address": address(99), "protocol": "daly", "adapter": "hci99"}
    batteries["phone_friendly"] = {
        "address": address(100),
        "protocol": "jbd",
        "adapter": "hci100",
        "keep": False,
    }

    def script(world: World) -> None:
        mute = batteries["mute"]["address"]
        world.until(lambda told: len(told["mute"].samples) >= 2 and all(told[name].failures for name in HEALED))
        world.remote.set_fault(mute, "mute")
        world.mark("mute")
        for name in HEALED:
            world.remote.set_fault(batteries[name]["address"], "plain")
        world.mark("healed")
        world.until(lambda told: "No answer" in told["mute"].reasons())
        world.mark("speaks")
        world.remote.set_fault(mute, "plain")
        world.until(
            lambda told: (
                told["mute"].samples_after(world.marks["speaks"]) >= 2
                and all(len(told[name].samples) >= 8 for name in (*STEADY, "neighbour", "daly"))
                and all(len(told[name].samples) >= 3 for name in (*HEALED, "late_answer", "phone_friendly"))
                and len(told["connect_never_answers"].failures) >= 2
            )
        )

    faults = {name: name for name in LINK_FAULTS if name not in ("plain", "mute")}
    return play(folder, batteries, faults, script)


def both(told: dict[str, Told], reached: Callable[[Told], bool]) -> bool:
    return reached(told["first"]) and reached(told["second"])


def play_fault(fault: str, lasts: float) -> Callable[[Path], World]:
    """Return a world of two batteries on one adapter, of which the first meets a fault for some seconds."""

    def run(folder: Path) -> World:
        batteries = on_one_adapter("first", "second")
        first = batteries["first"]["address"]

        def script(world: World) -> None:
            world.until(lambda told: both(told, lambda battery: len(battery.samples) >= 2))
            world.remote.set_fault(first, fault)
            world.mark("fault")
            time.sleep(lasts)
            world.mark("healed")
            world.remote.set_fault(first, "plain")
            world.until(lambda told: both(told, lambda battery: battery.samples_after(world.marks["healed"]) >= 2))

        return play(folder, batteries, {}, script)

    return run


def play_absent_bluetoothd(folder: Path) -> World:
    """Let bluetoothd start when the links have been running for a while."""
    batteries = on_one_adapter("first", "second")

    def script(world: World) -> None:
        world.until(lambda told: both(told, lambda battery: bool(battery.failures)))
        time.sleep(0.5)
        world.mark("healed")
        world.remote.set_fault(batteries["first"]["address"], "plain")
        world.until(lambda told: both(told, lambda battery: len(battery.samples) >= 2))

    return play(folder, batteries, {"first": "bluetoothd_absent"}, script)


def play_stuck_adapter(folder: Path) -> World:
    """One battery alone on an adapter that connects nothing until it has been switched off and on."""

    def script(world: World) -> None:
        world.until(lambda told: len(told["first"].samples) >= 2)

    return play(folder, on_one_adapter("first"), {"first": "adapter_stuck"}, script, may_power_cycle=True)


WORLDS: dict[str, Callable[[Path], World]] = {
    "links": play_link_faults,
    "adapter_off": play_fault("adapter_off", 1.5),
    "bluetoothd_restart": play_fault("bluetoothd_restart", 1.0),
    "bluetoothd_absent": play_absent_bluetoothd,
    "bluetoothd_hangs": play_fault("bluetoothd_hangs", 2.5),
    "adapter_stuck": play_stuck_adapter,
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, World]]:
    """All worlds, run side by side."""
    folders = {name: tmp_path_factory.mktemp(name) for name in WORLDS}
    with ThreadPoolExecutor(len(WORLDS)) as pool:
        running = {name: pool.submit(run, folders[name]) for name, run in WORLDS.items()}
        yield {name: future.result() for name, future in running.items()}


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


@pytest.mark.parametrize("name", WORLDS)
def test_the_link_process_is_the_same_at_the_end_and_its_loop_never_stood_still(
    worlds: dict[str, World], name: str
) -> None:
    world = worlds[name]
    assert world.end["same_process"]
    assert world.returncode == 0
    assert world.end["longest_gap"] < 2.5
    assert "Traceback" not in world.stderr


@pytest.mark.parametrize("name", WORLDS)
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
    assert "link was lost" in links["link_lost_mid_frame"].reasons()
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
    assert reason in told.reasons()


def test_a_mute_battery_behind_a_living_link_is_noticed_and_read_when_it_speaks_again(worlds: dict[str, World]) -> None:
    told, marks = worlds["links"].batteries["mute"], worlds["links"].marks
    assert_whole_samples(told, 4)
    assert "No answer" in told.reasons()
    assert told.samples_after(marks["speaks"]) >= 2
    begun_before = 1  # its optional requests are waited for in vain
    assert sum(marks["mute"] + 0.3 < when < marks["speaks"] for when, _ in told.samples) <= begun_before


def test_one_battery_whose_connect_never_answers_does_not_delay_its_neighbour(links: dict[str, Told]) -> None:
    assert not links["connect_never_answers"].samples
    assert links["connect_never_answers"].statistics["failures"] >= 2
    assert_whole_samples(links["neighbour"], 8)
    assert "gave way" in links["connect_never_answers"].reasons()
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
    assert "paired" in links["request_echoed"].reasons()


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
        assert "switched off" in told.reasons()
        assert told.samples_after(marks["healed"]) >= 2
        assert not [when for when, _ in told.samples if marks["fault"] + 0.3 < when < marks["healed"]]


def test_a_restarted_bluetoothd(worlds: dict[str, World]) -> None:
    for told in worlds["bluetoothd_restart"].batteries.values():
        assert_whole_samples(told, 4)
        assert "bluetoothd is not running" in told.reasons()
        assert told.samples_after(worlds["bluetoothd_restart"].marks["healed"]) >= 2


def test_a_bluetoothd_that_is_not_there_at_the_start(worlds: dict[str, World]) -> None:
    for told in worlds["bluetoothd_absent"].batteries.values():
        assert_whole_samples(told, 2)
        assert told.samples[0][0] > worlds["bluetoothd_absent"].marks["healed"]
        assert "bluetoothd is not running" in told.failures[0][1]


def test_a_bluetoothd_that_hangs_stops_nothing_for_good(worlds: dict[str, World]) -> None:
    for told in worlds["bluetoothd_hangs"].batteries.values():
        assert_whole_samples(told, 4)
        assert told.samples_after(worlds["bluetoothd_hangs"].marks["healed"]) >= 2


def test_what_never_connects_is_removed_then_the_adapter_switched_off_and_on(worlds: dict[str, World]) -> None:
    world = worlds["adapter_stuck"]
    assert world.batteries["first"].statistics["removals"] >= 1
    assert world.end["cycles"] >= 1
    assert_whole_samples(world.batteries["first"], 2)


def test_nineteen_faults_have_a_name_and_each_is_met_above() -> None:
    names = list(FAULTS)[:19]
    assert [name for name in names if name not in LINK_FAULTS and name not in WORLDS] == []


def test_the_simulator_refuses_to_start_on_the_machines_own_bus() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DBUS_")}
    result = subprocess.run(
        [sys.executable, "-m", "services.simulators.bluez"],
        cwd=ROOT,
        env=environment,
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
