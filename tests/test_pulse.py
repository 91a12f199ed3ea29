"""Pulses are counted through kill -9 and restarts, lost edges are known by their numbers, and nothing that bounces counts."""

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from harness import PROJECT, Ear, House, busy, wait_for
from hypothesis import given
from hypothesis import strategies as st

from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.registry import Registry
from services.links import gpiochip
from services.protocols.pulses import Count, Counter
from services.simulators.pulses import Pin

ENERGY, POWER = "home/data/cellar/meter/energy", "home/data/cellar/meter/power"
TOPICS = """
sources:
  pulse: {{every: 200ms, heartbeat: 300ms, chip: "sim:{folder}/pins", meters: {{grid: {{pin: 17, per_unit: 1000}}}}}}
topics:
  cellar/meter/energy: {{from: pulse}}
  cellar/meter/power: {{from: pulse}}
"""


def test_none_is_lost_through_kill_and_restart(house: House, ear: Ear, tmp_path: Path) -> None:
    house.write(TOPICS.format(folder=tmp_path))
    ended = threading.Event()
    with Pin(tmp_path / "pins", 17) as pin:

        def turn() -> None:
            while not ended.wait(0.05):
                pin.pulse()

        thread = threading.Thread(target=turn)
        thread.start()
        for way in ("kill", "terminate", "kill"):
            process = house.start("pulse")
            heard = len(ear.all(ENERGY))
            wait_for(lambda heard=heard: len(ear.all(ENERGY)) > heard + 4, what="some readings")
            getattr(process, way)()
            process.wait(10)
        house.start("pulse")
        ended.set()
        thread.join()
        stand = pin.pulses / 1000
        ear.wait(ENERGY, lambda value: value != b"" and value["value"] >= stand)
        assert ear.last(ENERGY)["value"] == pytest.approx(stand)


@pytest.mark.whole
def test_twenty_a_second_for_ten_minutes_through_kills_restarts_and_a_power_cut(
    house: House, ear: Ear, tmp_path: Path
) -> None:
    house.write(TOPICS.format(folder=tmp_path))
    ended, running = threading.Event(), threading.Event()
    running.set()
    chance, kept = random.Random(1), house.folder / "run" / "pulse" / "pulses_grid.json"
    with Pin(tmp_path / "pins", 17) as pin:

        def turn() -> None:
            while not ended.wait(0.05):
                running.wait()
                pin.pulse()

        thread = threading.Thread(target=turn)
        thread.start()
        process, until, lost = house.start("pulse"), time.monotonic() + 600, 0
        cut_at = time.monotonic() + 300
        while time.monotonic() < until:
            time.sleep(chance.uniform(2, 20))
            if not lost and time.monotonic() > cut_at:  # the meter is off too; what the memory held is gone
                running.clear()
                process.kill()
                process.wait()
                kept.unlink()
                taken = json.loads((house.state("pulse") / "pulses_grid.json").read_bytes())["pulses"]
                lost = pin.pulses - taken
                assert 0 < lost <= 2.5 * 20, "two seconds and a look"
                running.set()
            else:
                chance.choice((process.kill, process.terminate))()
                process.wait(10)
                time.sleep(chance.uniform(0, 5))
            process = house.start("pulse")
        ended.set()
        thread.join()
        least = pin.pulses - lost
        ear.wait(ENERGY, lambda value: value != b"" and round(value["value"] * 1000) >= least, 60)
        time.sleep(2)
        assert least <= round(ear.last(ENERGY)["value"] * 1000) <= pin.pulses, "none is made up"


def test_a_power_cut_costs_two_seconds_at_most(house: House, ear: Ear, tmp_path: Path) -> None:
    """What lay in memory is gone; the disk knows the count of two seconds before."""
    house.write(TOPICS.format(folder=tmp_path))
    file = house.state("pulse") / "pulses_grid.json"
    with Pin(tmp_path / "pins", 17) as pin:
        process = house.start("pulse")
        for _ in range(5):
            pin.pulse()
        started = time.monotonic()
        wait_for(lambda: file.exists() and b'"pulses":5' in file.read_bytes(), timeout=10, what="the count on disk")
        assert time.monotonic() - started < busy(2.5)
        process.kill()
        process.wait()
        (house.folder / "run" / "pulse" / "pulses_grid.json").unlink()
        house.start("pulse")
        ear.wait(ENERGY, lambda value: value != b"" and value["value"] == 0.005)


def test_a_stand_is_typed_in_and_goes_on(house: House, ear: Ear, tmp_path: Path) -> None:
    house.write(TOPICS.format(folder=tmp_path))
    with Pin(tmp_path / "pins", 17) as pin:
        house.start("pulse")
        pin.pulse()
        ear.wait(ENERGY, lambda value: value["value"] == 0.001)
        assert ear.ask("pulse", "stand", {"value": 48211.3})["data"] == {"stand": 48211.3}
        pin.pulse()
        ear.wait(ENERGY, lambda value: value["value"] == 48211.301)
        house.stop("pulse")
        house.start("pulse")
        pin.pulse()
        ear.wait(ENERGY, lambda value: value != b"" and value["value"] == 48211.302)
        assert ear.ask("pulse", "stand", {"value": 1, "meter": "gird"})["status"] == "error"


def test_what_flows_follows_from_the_distance_and_fades(house: House, ear: Ear, tmp_path: Path) -> None:
    house.write(TOPICS.format(folder=tmp_path))
    with Pin(tmp_path / "pins", 17) as pin:
        house.start("pulse")
        ear.wait(ENERGY)
        now = time.monotonic()
        pin.pulse(now - 3.6)
        pin.pulse(now)
        first = ear.wait(POWER, lambda value: value != b"" and value["value"] > 0)
        assert 500 < first["value"] <= 1000
        ear.wait(POWER, lambda value: value["value"] < 600, timeout=20)


def counted(*edges: tuple[float, bool, int], shortest: float = 0.0, count: Count | None = None) -> Counter:
    counter = Counter(count or Count(), 1000, shortest)
    for moment, closed, number in edges:
        counter.edge(moment, closed, number)
    return counter


def test_edges_that_the_kernel_dropped_are_counted_by_their_numbers() -> None:
    assert counted((0, True, 1), (0.1, False, 2), (1, True, 7)).count.pulses == 4  # 3 4 5 6: two pulses
    assert counted((0, True, 1), (1, True, 5)).count.pulses == 3  # 2 3 4: one of them closes
    assert counted((0, True, 1), (1, False, 6)).count.pulses == 3
    assert counted((0, True, 1), (1, True, 5)).missed == 1


@given(st.lists(st.booleans(), max_size=60))
def test_whatever_is_dropped_is_counted_once_something_comes(lost: list[bool]) -> None:
    counter, number = Counter(Count(), 1000, 0.0), 0
    counter.edge(0.0, True, 1)
    for number, gone in enumerate([*lost, False], 2):
        if not gone:
            counter.edge(float(number), number % 2 == 1, number)
    assert counter.count.pulses == (number + 1) // 2


def test_a_new_request_begins_its_numbers_anew() -> None:
    kept = counted((0, True, 1), (1, False, 2)).count
    assert counted((5, True, 1), (6, False, 2), count=kept).count.pulses == 2


def test_what_a_killed_process_had_read_and_not_written_down_is_counted_from_the_first_edge_on() -> None:
    assert counted((5, True, 3)).count.pulses == 2  # 1 closed, 2 opened
    assert counted((5, False, 4)).count.pulses == 2
    kept = counted((0, True, 1), (1, False, 2), (2, True, 3)).count
    assert counted((9, False, 2), count=kept).count.pulses == 3, "and of a new request"


def test_a_line_of_which_nothing_is_known_begins_with_its_first_edge() -> None:
    assert counted((5, True, 5001), (6, False, 5002), (7, True, 5005), count=Count(number=None)).count.pulses == 3


def test_pulses_that_the_meter_cannot_make_are_refused() -> None:
    bouncing = counted((0, True, 1), (0.01, False, 2), (0.02, True, 3), (5, False, 4), (7, True, 5), shortest=6.0)
    assert (bouncing.count.pulses, bouncing.refused) == (2, 1)


def test_a_meter_that_rests_on_its_magnet_does_not_count() -> None:
    assert counted((0, True, 1)).count.pulses == 1
    assert counted((0, False, 1)).count.pulses == 0


def test_the_requests_to_the_kernel_have_the_sizes_of_its_header() -> None:
    assert gpiochip._REQUEST.size == gpiochip._GET_LINE >> 16 & 0x3FFF == 592
    assert gpiochip._INFO.size == gpiochip._CHIP_INFO >> 16 & 0x3FFF == 68
    assert len(gpiochip.event(1.5, True, 17, 3)) == 48


def test_an_open_request_is_found_again_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpiochip.stored("pulse_17_up_10") is None
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDNAMES", "pulse_4_up_10:pulse_17_up_10")
    assert gpiochip.stored("pulse_17_up_10") == 4
    monkeypatch.setenv("LISTEN_PID", "1")
    assert gpiochip.stored("pulse_17_up_10") is None


def test_a_meter_that_is_changed_counts_on(house: House, ear: Ear, tmp_path: Path) -> None:
    """The kernel gives a line to one at a time: the old request has to be given back before the new one is made."""
    topics = TOPICS.format(folder=tmp_path)
    house.write(topics)
    with Pin(tmp_path / "pins", 17) as pin:
        house.start("pulse")
        pin.pulse()
        ear.wait(ENERGY, lambda value: value["value"] == 0.001)
        for number, change in enumerate(
            ("per_unit: 1000, debounce: 20ms", "per_unit: 1000, bias: down", "per_unit: 500"), 2
        ):
            house.write(topics.replace("per_unit: 1000", change))
            assert ear.ask("pulse", "reload")["status"] == "ok"
            pin.pulse()
            stand = number / 500 if number == 4 else number / 1000
            ear.wait(ENERGY, lambda value, stand=stand: value["value"] == stand)
        assert "in use" not in house.log("pulse")


@pytest.mark.parametrize("way", ["reload", "restart"])
def test_a_meter_that_is_renamed_and_pins_that_are_exchanged_make_no_pulse_up(
    house: House, ear: Ear, tmp_path: Path, way: str
) -> None:
    """The numbers are a line's: of what another meter has on it they say nothing, and what waits on it was the old one's."""
    topics = """
sources:
  pulse: {{every: 200ms, heartbeat: 300ms, chip: "sim:{folder}/pins", meters: {{{grid}: {{pin: {one}, per_unit: 1000}},
          gas: {{pin: {other}, per_unit: 1000}}}}}}
topics:
  cellar/meter/energy: {{from: pulse, of: {grid}}}
  cellar/gas/energy: {{from: pulse, of: gas}}
"""
    gas = "home/data/cellar/gas/energy"

    def become(grid: str, one: int, other: int, *, pulses: int = 0) -> None:
        """Take another configuration; the pulses come while the service is down, where it is restarted."""
        house.write(topics.format(folder=tmp_path, grid=grid, one=one, other=other))
        if way == "reload":
            assert ear.ask("pulse", "reload")["status"] == "ok"
        else:
            house.kill("pulse")
            for _ in range(pulses):
                first.pulse()
            house.start("pulse")

        kept, has = house.folder / "run" / "pulse" / f"pulses_{grid}.json", f'"line":"pulse_{one}_'.encode()
        wait_for(lambda: kept.exists() and has in kept.read_bytes(), what="the meter's line")

    def stands(name: str, stand: int) -> None:
        ear.wait(name, lambda value: value != b"" and round(1000 * value["value"]) == stand)

    with Pin(tmp_path / "pins", 17) as first, Pin(tmp_path / "pins", 27) as second:
        house.write(topics.format(folder=tmp_path, grid="grid", one=17, other=27))
        house.start("pulse")
        for pin, pulses in ((first, 30), (second, 4)):
            for _ in range(pulses):
                pin.pulse()
        stands(ENERGY, 30)
        stands(gas, 4)
        become("grid", 27, 17, pulses=3)  # the three are of grid: it was grid that had the pin
        first.pulse()
        second.pulse()
        late = 3 if way == "restart" else 0
        stands(ENERGY, 31 + late)
        stands(gas, 5)
        become("mains", 27, 17)
        second.pulse()
        stands(ENERGY, 1)
        first.pulse()
        stands(gas, 6)
        become("grid", 27, 17)
        second.pulse()
        stands(ENERGY, 32 + late)
        assert "too fast" not in house.log("pulse")


def test_what_systemd_keeps_of_an_earlier_configuration_is_read_out_and_given_back(tmp_path: Path) -> None:
    kept, notices = tmp_path / "kept", socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(tmp_path / "notify"))
    notices.settimeout(5)
    kept.write_bytes(gpiochip.event(1.5, True, 17, 1))
    code = (
        "from services.links import gpiochip as g\n"
        "assert [label for _, label, _ in g.strays('pulse', {'pulse_17_up_10', 'pulse_4_up_10'})] == []\n"
        "for pin, label, line in g.strays('pulse', {'pulse_4_up_10', 'pulse_17_up_20'}):\n"
        "    print(pin, label, [edge.number for edge in line.edges()], line.handle)\n"
        "    g.give_up(line, label)\n"
        "print(g.stored('pulse_17_up_10'), g.stored('pulse_4_up_10'), list(g.strays('pulse', {'pulse_4_up_10'})))\n"
    )
    shell = 'LISTEN_PID=$$ LISTEN_FDNAMES=pulse_4_up_10:pulse_17_up_10 exec "$0" -c "$1" 3</dev/null 4<"$2"'
    done = subprocess.run(
        ["sh", "-c", shell, sys.executable, code, str(kept)],
        env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    assert done.stdout == "17 pulse_17_up_10 [1] 4\nNone 3 []\n", done.stderr
    assert notices.recv(1000) == b"FDSTOREREMOVE=1\nFDNAME=pulse_17_up_10"
    notices.close()


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("{pin: 17, per_unit: 1000}}", "{pin: 2, per_unit: 1000}}", "GPIO 2 belongs to I²C"),
        ("{pin: 17, per_unit: 1000}}", "{pin: 17, per_unit: 0}}", "per_unit"),
        ("grid: {", "gas: {pin: 17, per_unit: 100}, grid: {", "it is the pin of gas already"),
        ("grid: {", "gas: {pin: 27, per_unit: 100}, grid: {", "which meter? write of: with one of gas, grid"),
        (
            "meter/power: {from: pulse",
            "meter/power: {from: pulse, of: gird",
            "no meter is named 'gird', did you mean 'grid'?",
        ),
        ("meter/power: {", "meter/x_text: {", "a meter gives its stand"),
    ],
)
def test_a_wrong_line_is_found_by_check(tmp_path: Path, before: str, after: str, sentence: str) -> None:
    text = TOPICS.format(folder=tmp_path)
    assert before in text
    (tmp_path / "topics.yaml").write_text(text.replace(before, after, 1))
    assert sentence in str(problems_of(Registry(tmp_path / "topics.yaml")))
