"""The clamps' service: values on topics, faults in health within seconds, zeros that survive, chips that come back."""

import functools
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from harness import Ear, House, busy, wait_for

from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.registry import Registry
from services.adc import Adc, Options
from services.simulators.ads1115 import Description, Fault, Input, describe

FAN, AUGER, OIL = "home/data/boiler/fan/current", "home/data/boiler/auger/current", "home/data/cellar/oil/level"
HEALTH = "home/service/adc/health"
TOPICS = """
sources:
  adc: {{every: 200ms, stale: 1500ms, heartbeat: 200ms, bus: "sim:{file}"{options}}}
topics:
  boiler/fan/current:   {{from: adc, address: 0x48, input: A1-A3, gain: 16, amperes_per_volt: 30}}
  boiler/auger/current: {{from: adc, address: 0x49, input: A2-A3, gain: 2, amperes_per_volt: 30}}
  cellar/oil/level:     {{from: adc, address: 0x49, input: A0, points: {{0.48: 0, 2.10: 100}}}}
"""


class Bench:
    """The file that describes two chips, changed by words."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fan, self.auger, self.oil, self.noise = 0.13, 3.0, 1.29, 1.0
        self.faults: dict[int, Fault] = {}
        self.bias: dict[str, Input] = {}
        self.write()

    def write(self) -> None:
        clamps = {"A1": Input(amperes=self.fan)}, {"A0": Input(volts=self.oil), "A2": Input(amperes=self.auger)}
        describe(
            self.path,
            {
                address: Description(inputs=inputs | self.bias, noise=self.noise, fault=self.faults.get(address))  # type: ignore[operator]
                for address, inputs in zip((0x48, 0x49), clamps, strict=True)
            },
        )


def says(sentence: str) -> Callable[[Any], bool]:
    """Whether a health's last error says something."""
    return lambda health: bool(health["last_error"] and re.search(sentence, health["last_error"]["text"]))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "adc.json")


@pytest.fixture
def adc(house: House, bench: Bench) -> House:
    house.write(TOPICS.format(file=bench.path, options=""))
    return house


def test_clamps_and_a_tank_gauge_on_two_chips_reach_their_topics(adc: House, ear: Ear) -> None:
    adc.start("adc")
    ear.wait(FAN, lambda reading: reading and reading["value"] == pytest.approx(0.13, abs=0.005))
    reading = ear.wait(AUGER, bool)
    assert (reading["value"], reading["unit"]) == (pytest.approx(3, rel=0.02), "A")
    assert ear.wait(OIL, bool)["value"] == pytest.approx(50, abs=0.2)
    ear.wait(HEALTH, lambda health: health["state"] == "running")


@pytest.mark.parametrize(
    ("fault", "sentence"), [("absent", "0x48 (does not answer|is not on)"), ("stuck", "0x48 does not finish")]
)
def test_a_broken_chip_is_said_within_seconds_and_the_other_goes_on_until_it_is_mended(
    adc: House, ear: Ear, bench: Bench, fault: Fault, sentence: str
) -> None:
    adc.start("adc")
    ear.wait(FAN)
    bench.faults = {0x48: fault}
    bench.write()
    broken_at = time.monotonic()
    health = ear.wait(HEALTH, says(sentence), timeout=5)
    assert time.monotonic() - broken_at < busy(5)
    assert health["last_error"]["topic"] == "boiler/fan/current"
    heard = len(ear.all(AUGER))
    wait_for(lambda: len(ear.all(AUGER)) > heard + 2, what="the other chip")
    ear.wait(FAN, lambda value: value == b"")
    bench.faults = {}
    bench.write()
    assert ear.wait(FAN, bool)["value"] == pytest.approx(0.13, abs=0.01)
    ear.wait(HEALTH, lambda health: health["state"] == "running")
    assert adc.log("adc").count("fan/current: The ADS1115") <= 2, "the change is logged, not each round"


def test_a_motor_beyond_the_range_is_a_sentence_and_no_value(adc: House, ear: Ear, bench: Bench) -> None:
    bench.fan = 9.0
    bench.write()
    adc.start("adc")
    ear.wait(HEALTH, says("beyond the ±0.256 V of gain 16"))
    ear.wait(AUGER)
    assert not ear.values(FAN)


def test_a_clamp_without_its_bias_is_a_sentence_and_no_value(adc: House, ear: Ear, bench: Bench) -> None:
    bench.bias = {"A3": Input(volts=1.45)}
    bench.write()
    adc.start("adc")
    ear.wait(HEALTH, says("0.20 V lie between clamp and bias"))
    assert not ear.values(FAN)


def test_a_zero_is_learned_refused_while_something_runs_and_kept_over_a_restart(
    adc: House, ear: Ear, bench: Bench
) -> None:
    bench.auger = 0.0
    bench.noise = 3.0
    bench.write()
    adc.start("adc")
    ear.wait("home/service/adc/status", lambda status: status == "online")
    ask = functools.partial(ear.ask, "adc", "learn_zero", {"topic": "boiler/fan/current"})
    wait_for(lambda: "boiler/fan/current shows 0.1" in ask()["error"], what="the refusal")
    assert ear.ask("adc", "learn_zero", {"topic": "boiler/pump/current"})["error"] == "it has no such clamp"
    taught = wait_for(
        lambda: ear.ask("adc", "learn_zero", {"topic": "boiler/auger/current"}).get("data"), what="enough quiet windows"
    )
    (zero,) = taught.values()
    assert 0.004 < zero < 0.008
    adc.stop("adc")
    kept = json.loads((adc.state("adc") / "zeros.json").read_text())
    assert kept["0x49 A2-A3 2"]["square"] ** 0.5 * 30 == pytest.approx(zero, rel=0.2)
    heard = len(ear.all(AUGER))
    adc.start("adc")
    wait_for(lambda: len(ear.all(AUGER)) > heard + 3, what="readings after the restart")
    shown = [json.loads(payload)["value"] for payload in ear.all(AUGER)[heard:] if payload]
    assert max(shown) < 0.004, "the noise alone would read 0.006"


def test_a_disk_that_takes_nothing_stops_no_measuring_and_loses_no_reading(adc: House, ear: Ear, bench: Bench) -> None:
    bench.auger = 0.0
    bench.noise = 3.0
    bench.write()
    (adc.state("adc") / ".zeros.json.new").mkdir(parents=True)
    adc.start("adc")
    ear.wait(OIL)
    wait_for(
        lambda: ear.ask("adc", "learn_zero", {"topic": "boiler/auger/current"}).get("data"), what="enough quiet windows"
    )
    heard = len(ear.all(OIL))
    wait_for(lambda: len(ear.all(OIL)) > heard + 2, what="readings")
    ear.wait(HEALTH, says("zeros.json cannot be written"))
    assert adc.stop("adc") == 0
    assert adc.log("adc").count("zeros.json cannot be written") == 1


def test_a_bus_that_is_not_there_is_a_sentence_and_is_used_when_it_comes(adc: House, ear: Ear, bench: Bench) -> None:
    bench.path.unlink()
    adc.start("adc")
    wait_for(lambda: "No such file" in adc.log("adc"), what="the sentence")
    bench.write()
    ear.wait(FAN)


def test_a_scan_shows_the_chips_and_what_their_inputs_say(bench: Bench) -> None:
    lines = list(Adc.scan(msgspec.convert({"bus": f"sim:{bench.path}"}, Options)))
    assert [line.partition("  ")[0] for line in lines] == [
        f"{chip} {pin}" for chip in ("0x48", "0x49") for pin in ("A0-A3", "A1-A3", "A2-A3", "A3")
    ]
    assert re.match(r"0x49 A2-A3  0\.(09|10)\d\d V RMS", lines[6])


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("address: 0x48", "address: 0x20", ">= 72"),
        ("gain: 16", "gain: 3", "gain"),
        ("input: A1-A3", "input: A3-A1", "A3-A1"),
        ("{0.48: 0, 2.10: 100}", "{0.48: 0}", "length >= 2"),
        ("{0.48: 0, 2.10: 100}", "{0.5: 0, 0.50: 100}", "two points have the same voltage"),
        ("gain: 2, amperes_per_volt: 30", "amperes_per_volt: 30, points: {0: 0, 1: 1}", "keep one"),
        ('bus: "sim:', 'bus: "spi:', "bus"),
    ],
)
def test_a_wrong_option_is_found_by_check(tmp_path: Path, before: str, after: str, sentence: str) -> None:
    (tmp_path / "topics.yaml").write_text(TOPICS.format(file="adc.json", options="").replace(before, after, 1))
    problems = [str(problem) for problem in problems_of(Registry(tmp_path / "topics.yaml"))]
    assert any(sentence in problem for problem in problems), problems
