"""Nothing is lost and nothing doubled, whatever breaks; and code of ours that broke the promise would be caught.

The long runs are `python -m tests.chaos --kills 1000` and `python -m tests.power --cuts 100`.
"""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from harness import Broker, Ear, House, free_port, wait_for
from voices import Voice, ask_database, now

from bootstrap_lib.bus import Bus
from bootstrap_lib.entries import Broker as BrokerOptions
from bootstrap_lib.events import Connected, Message
from tests.chaos.device import Device
from tests.chaos.mutants import MUTANTS

pytestmark = pytest.mark.long

PROJECT = Path(__file__).resolve().parent.parent
WATER = "boiler/water/temperature"
READINGS = "SELECT count(*) FROM readings"
STAND = "chaos/sequence/number_1_count"


class Run:
    """A program of ours that runs when its result is asked for, again where it is asked once more: alone, so that it is not starved."""

    def __init__(self, *arguments: str) -> None:
        self._command = [sys.executable, "-m", *arguments]

    def result(self) -> tuple[int, str]:
        done = subprocess.run(self._command, cwd=PROJECT, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    """The runs that take longest, one by one."""
    return {
        "chaos": Run("tests.chaos", "--kills", "7", "--seed", "3", "--patience", "60"),
        "power": Run("tests.power", "--cuts", "3", "--seed", "1", "--patience", "40"),
        "no_fsync": Run("tests.power", "--cuts", "3", "--seed", "1", "--patience", "1", "--mutant", "no_fsync"),
    }


class Scene:
    """A broker, an archive and a source that counts, each as it is or as a mutant."""

    def __init__(self, house: House, tmp_path: Path, mutant: str, commit: str) -> None:
        own = tmp_path / "services"
        own.mkdir()
        shutil.copy(PROJECT / "tests/chaos/sequence.py", own)
        self.house, self.mutant = house, mutant
        self.device = Device(tmp_path / "device")
        house.environment["CONSTELLATION_SERVICES"] = str(own)
        house.write(
            f"sources:\n  sequence: {{every: 50ms, stale: 1s, device: {tmp_path}/device}}\n  onewire: {{}}\n"
            f"subscribers:\n  archive: {{commit: {commit}, heartbeat: 1s}}\n"
            f"topics:\n  {STAND}: {{from: sequence}}\n  {WATER}: {{from: onewire}}\n"
        )

    def start(self, name: str) -> None:
        house = self.house
        folders = {"STATE_DIRECTORY": str(house.state(name)), "RUNTIME_DIRECTORY": str(house.folder / "run" / name)}
        command = [sys.executable, "-m", "tests.chaos.mutants", self.mutant, "--config", str(house.config), "run", name]
        before = house.log(name).count(": started")
        with (house.folder / f"{name}.log").open("ab") as log:
            environment = house.environment | folders
            house.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=PROJECT)
        wait_for(lambda: house.log(name).count(": started") > before, 40, f"start of {name}")

    def kill(self, name: str) -> None:
        process = self.house.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def count(self) -> int:
        rows = ask_database(self.house.state("archive") / "archive.sqlite", READINGS)
        return rows[0][0] if rows else 0


def comes_true(condition: Any, seconds: float) -> bool:
    """Whether it does within so many seconds; a scenario's promise is kept, or it is not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


# -- each promise as a scenario; True if it was kept ---------------------------------------------------------------


def keeps_what_is_marked(scene: Scene, broker: Broker, ear: Ear) -> bool:
    """Kill the archive in the very moment in which it says that a reading is safe."""
    scene.start("archive")
    ear.wait("home/service/archive/status")
    voice = Voice(broker.port)
    voice.say(WATER, 60.0, now(), 1)
    ear.wait("home/service/archive/stored/onewire")
    scene.kill("archive")
    voice.close()
    return scene.count() == 1


def keeps_what_is_acknowledged(scene: Scene, broker: Broker, ear: Ear) -> bool:
    """Kill the archive when it has a reading in memory: the broker must bring it again."""
    scene.start("archive")
    ear.wait("home/service/archive/status")
    voice = Voice(broker.port)
    voice.raw(WATER, b'{"value":1.0,"unit":"\xc2\xb0C","time":"2026-11-20T15:01:53.120Z"}').wait_for_publish(5)
    time.sleep(0.5)
    scene.kill("archive")
    assert scene.count() == 0
    scene.start("archive")
    voice.close()
    return comes_true(lambda: scene.count() == 1, 5)


def stops_at_a_gap(scene: Scene, broker: Broker, ear: Ear) -> bool:
    """A reading is missing in the middle: no mark may pass it."""
    scene.start("archive")
    ear.wait("home/service/archive/status")
    voice = Voice(broker.port)
    for number in (1, 2, 4):
        voice.say(WATER, 60.0, now() + number, number)
    wait_for(lambda: scene.count() == 3, what="three readings")
    mark = ear.wait("home/service/archive/stored/onewire")
    voice.close()
    return not comes_true(lambda: (ear.last("home/service/archive/stored/onewire") or mark)["after"] > 2, 1.5)


def keeps_what_the_broker_forgot(scene: Scene, broker: Broker, ear: Ear) -> bool:
    """The broker takes readings for an archive that is away, and is killed."""
    scene.start("sequence")
    wait_for(lambda: len(scene.device.taken["sequence"]) >= 10, what="ten readings")
    time.sleep(0.3)
    broker.kill()
    broker.start()
    scene.start("archive")
    return comes_true(lambda: scene.count() >= len(scene.device.taken["sequence"]) - 10, 8)


def clears_behind_its_readings(scene: Scene, broker: Broker, ear: Ear) -> bool:
    """A sensor dies while the broker is away: its topic must end empty, not with its last value."""
    broker.stop()
    scene.start("sequence")
    wait_for(lambda: len(scene.device.taken["sequence"]) >= 60, 20, "sixty readings, so that the order shows")
    scene.device.silent = True
    wait_for(lambda: "silent for" in scene.house.log("sequence"), 10, "staleness")
    broker.start()
    wait_for(lambda: ear.last("home/service/sequence/status") == "online", 15, "the source")
    time.sleep(3)  # all that waited has been sent
    newcomer = Ear(broker.port, f"home/data/{STAND}")
    time.sleep(1)
    newcomer.close()
    return not newcomer.heard


SCENARIOS: dict[str, tuple[Any, str]] = {
    "mark_before_commit": (keeps_what_is_marked, "100ms"),
    "acknowledge_before_commit": (keeps_what_is_acknowledged, "2s"),
    "mark_past_a_gap": (stops_at_a_gap, "100ms"),
    "forget_what_was_sent": (keeps_what_the_broker_forgot, "100ms"),
    "clear_outside_the_queue": (clears_behind_its_readings, "100ms"),
}
"""Mutant, the scenario that must catch it, and the archive's `commit` in it."""


def test_every_mutant_has_a_test() -> None:
    assert set(MUTANTS) == set(SCENARIOS) | {"no_fsync", "acknowledge_on_a_later_connection"}


@pytest.mark.parametrize("mutated", [False, True], ids=["as it is", "mutant"])
@pytest.mark.parametrize("mutant", SCENARIOS)
def test_a_promise_is_kept_and_a_mutant_that_breaks_it_is_caught(  # noqa: PLR0917 (fixtures)
    runs: dict[str, Run], mutant: str, mutated: bool, house: House, broker: Broker, ear: Ear, tmp_path: Path
) -> None:
    scenario, commit = SCENARIOS[mutant]
    scene = Scene(house, tmp_path, mutant if mutated else "none", commit)
    assert scenario(scene, broker, ear) is not mutated


def _redelivered_after_a_late_acknowledgement(folder: Path) -> bool:
    """The broker comes back with a memory from before a message, and gives that message's number to another."""
    broker = Broker(folder, extra=f"persistence true\npersistence_location {folder}/\n").start()
    events: list[Any] = []
    bus = Bus(BrokerOptions(port=broker.port), "late", events.append)

    def messages() -> list[Message]:
        return [event for event in events if isinstance(event, Message)]

    def connections() -> int:
        return sum(isinstance(event, Connected) for event in events)

    try:
        bus.start()
        wait_for(lambda: connections() == 1, what="a connection")
        bus.subscribe("x", qos=1)
        time.sleep(0.3)
        broker.process.send_signal(signal.SIGUSR1)  # it writes its memory to disk
        time.sleep(0.3)
        voice = Voice(broker.port)
        voice._client.publish("x", b"first", 1)
        wait_for(messages, what="the first message")
        broker.kill()
        broker.start()
        wait_for(lambda: connections() == 2, 15, "the second connection")
        voice.close()
        voice = Voice(broker.port)
        voice._client.publish("x", b"second", 1)
        wait_for(lambda: any(message.payload == b"second" for message in messages()), what="the second message")
        first, second = (next(m for m in messages() if m.payload == payload) for payload in (b"first", b"second"))
        assert first.mid == second.mid
        bus.acknowledge([first])
        time.sleep(0.5)
        bus._client.socket().shutdown(2)
        wait_for(lambda: connections() == 3, 15, "the third connection")
        voice.close()
        return comes_true(lambda: sum(message.payload == b"second" for message in messages()) == 2, 2)
    finally:
        bus.stop()
        broker.kill()


@pytest.mark.parametrize("mutated", [False, True], ids=["as it is", "mutant"])
def test_an_acknowledgement_of_an_earlier_connection_is_dropped(
    runs: dict[str, Run], tmp_path: Path, mutated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mutated:
        monkeypatch.setattr(Bus, "acknowledge", Bus.acknowledge)  # put back at the end
        MUTANTS["acknowledge_on_a_later_connection"]()
    assert _redelivered_after_a_late_acknowledgement(tmp_path) is not mutated


# -- what the runs found -------------------------------------------------------------------------------------------


def test_a_mark_is_never_of_what_is_not_committed_also_when_the_broker_forgets(
    house: House, broker: Broker, ear: Ear, tmp_path: Path
) -> None:
    scene = Scene(house, tmp_path, "none", "30s")
    scene.start("archive")
    ear.wait("home/service/archive/status")
    voice = Voice(broker.port)
    voice.say(WATER, 60.0, now(), 1).wait_for_publish(5)
    time.sleep(0.3)
    broker.kill()
    ear.heard.clear()
    broker.start()
    ear.wait("home/service/archive/health", timeout=15)
    time.sleep(0.5)
    assert all(b'"after":1' not in mark for mark in ear.all("home/service/archive/stored/onewire"))
    voice.close()


@pytest.mark.whole
def test_a_broker_that_comes_back_with_an_old_memory_costs_the_other_stores_nothing(
    house: House, tmp_path: Path
) -> None:
    if not shutil.which("victoria-metrics"):
        pytest.skip("victoria-metrics is missing")
    folder = tmp_path / "old"
    broker = Broker(folder, extra=f"persistence true\npersistence_location {folder}/\n").start()
    house.port = broker.port
    scene = Scene(house, tmp_path, "none", "100ms")
    port = free_port()
    store = [f"-storageDataPath={tmp_path}/vm", f"-httpListenAddr=127.0.0.1:{port}", "-dedup.minScrapeInterval=1ms"]
    server = subprocess.Popen(["victoria-metrics", *store], stderr=subprocess.DEVNULL)
    text = house.config.read_text()
    house.config.write_text(
        text.replace("topics:\n", f"  influx: {{url: 'http://127.0.0.1:{port}', flush: 100ms}}\ntopics:\n")
    )
    try:
        for name in ("archive", "influx"):
            scene.start(name)
        voice = Voice(broker.port)
        start = now() - 60_000
        voice.say(WATER, 1.0, start, 1)
        wait_for(lambda: scene.count() == 1, what="the first reading")
        time.sleep(3)
        house.stop("influx")  # cleanly: it owes nothing
        broker.process.send_signal(signal.SIGUSR1)
        time.sleep(0.3)
        for number in range(2, 12):
            voice.say(WATER, float(number), start + number, number)
        wait_for(lambda: scene.count() == 11, what="what the archive has")
        broker.kill()  # and with it what it kept for influx
        broker.start()
        scene.start("influx")
        time.sleep(1)
        voice.say(WATER, 12.0, start + 12, 12, previous=0)  # the archive has confirmed those before
        assert comes_true(lambda: _exported(port) == set(range(1, 13)), 45), _exported(port)
        voice.close()
    finally:
        broker.stop()
        server.terminate()
        server.wait()


def _exported(port: int) -> set[int]:
    import json
    import urllib.request

    query = f"http://127.0.0.1:{port}/api/v1/export?match[]=home_temperature"
    with urllib.request.urlopen(query, timeout=10) as answer:
        return {int(value) for line in answer for value in json.loads(line)["values"]}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho forgets its own pair of sockets
def test_a_network_thread_that_died_is_noticed_with_the_next_beat_and_begun_anew(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Any] = []
    bus = Bus(BrokerOptions(port=broker.port), "reviving", events.append)
    bus.start()
    wait_for(lambda: any(isinstance(event, Connected) for event in events), what="a connection")
    bus.revive()
    assert not caplog.messages
    bus._client.loop_stop()  # as an error in it would end it
    events.clear()
    bus.revive()
    wait_for(lambda: any(isinstance(event, Connected) for event in events), what="a new connection")
    assert "network thread ended" in caplog.text
    bus.stop()


# -- the runs ------------------------------------------------------------------------------------------------------


def _judge(run: Run, good: bool) -> None:
    code, output = run.result()
    if "not tested:" in output:
        pytest.skip(output.strip())
    assert (code == 0) is good, output
    print(output)


@pytest.mark.slow
def test_a_short_chaos_run_loses_nothing_and_doubles_nothing(runs: dict[str, Run]) -> None:
    _judge(runs["chaos"], good=True)


@pytest.mark.slow
@pytest.mark.whole
def test_power_cuts_cost_at_most_the_last_two_seconds(runs: dict[str, Run]) -> None:
    _judge(runs["power"], good=True)


@pytest.mark.slow
@pytest.mark.whole
def test_without_fsync_power_cuts_cost_more_and_that_is_caught(runs: dict[str, Run]) -> None:
    _judge(runs["no_fsync"], good=False)
