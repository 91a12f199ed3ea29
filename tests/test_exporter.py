"""What Prometheus is shown: true names, what is alive and nothing else, at a real Prometheus too."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Broker, Ear, House, free_port, wait_for
from prometheus_client.parser import text_string_to_metric_families
from voices import Voice, now

from bootstrap_lib import Reading
from bootstrap_lib.registry import Registry
from services.exporter import Exporter
from services.metrics.board import Board
from services.metrics.families import Families
from services.metrics.names import metric_of

TOPICS = """
sources:
  onewire: {{stale: 4s}}
  bms: {{batteries: {{}}, stale: 1h}}
  modbus: {{device: /dev/null, make: renogy, stale: 1h}}
subscribers:
  exporter: {{port: {port}, every: 200ms, heartbeat: 1s, compatibility: {{bms: shed/battery, solarshed: modbus}}}}
topics:
  boiler/water/temperature: {{from: onewire}}
  boiler/{{flue,return}}/temperature: {{from: onewire}}
  boiler/pump/active: {{from: onewire, stale: 1h}}
  boiler/burner/phase: {{from: onewire, states: ["off", "full load"], stale: 1h}}
  boiler/burner/note_text: {{from: onewire, stale: 1h}}
  house/heat/energy: {{from: onewire, stale: 1h}}
  house/disk/free_size: {{from: onewire, stale: 1h}}
  shed/battery/{{voltage,power,soc,remaining_charge,nominal_charge,cycles}}: {{from: bms}}
  shed/battery/current: {{from: bms}}
  shed/battery/probe_{{1..2}}_temperature: {{from: bms}}
  shed/battery/cell_{{1..8}}_voltage: {{from: bms}}
  shed/battery/cell_{{1..8}}_balancing_state: {{from: bms, states: ["off", "on"]}}
  shed/battery/{{charge_fet,discharge_fet}}_state: {{from: bms, states: ["off", "on"]}}
  shed/battery/{{cell_overvoltage,cell_undervoltage,pack_overvoltage,pack_undervoltage,charge_overtemperature,charge_undertemperature,discharge_overtemperature,discharge_undertemperature,charge_overcurrent,discharge_overcurrent,short_circuit,frontend_ic_error,mosfet_software_lock}}_alarm: {{from: bms}}
  shed/battery/remaining_duration: {{from: bms}}
  shed/solar/{{voltage,current,power}}: {{from: modbus}}
  shed/rover/{{battery_soc,battery_voltage,battery_temperature,controller_temperature,load_voltage,load_current,load_power,solar_voltage,solar_current,solar_power}}: {{from: modbus}}
  shed/rover/charging_state: {{from: modbus, states: [deactivated, activated, mppt, equalizing, boost, floating, current_limiting]}}
"""
WATER, PUMP, PHASE = "boiler/water/temperature", "boiler/pump/active", "boiler/burner/phase"
HEAT = "house/heat/energy"
HEAT_SERIES = 'constellation_energy_kwh_total{place="house",thing="heat",name="energy"}'
PUMP_SERIES = 'constellation_active{place="boiler",thing="pump",name="active"}'
WATER_SERIES = 'constellation_temperature_celsius{place="boiler",thing="water",name="temperature"}'


class Scraped:
    """An exporter that runs, and what a scrape of it says."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.broker = Broker(folder / "broker").start()
        self.house = House(folder / "house", self.broker.port)
        self.house.write(TOPICS.format(port=self.port))
        self.voice, self.ear = Voice(self.broker.port), Ear(self.broker.port)
        self.house.start("exporter")
        self.ear.wait("home/service/exporter/status", lambda status: status == "online")

    def text(self, accept: str = "text/plain") -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return str(answer.read().decode())

    def series(self) -> dict[str, float]:
        """Each series as it is written, with place, thing and name in this order."""
        found = {}
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                order = ("place", "thing", "name")
                labels = sorted(
                    sample.labels.items(), key=lambda one: (order.index(one[0]) if one[0] in order else 9, one)
                )
                inside = ",".join(f'{key}="{value}"' for key, value in labels)
                found[f"{sample.name}{{{inside}}}" if inside else sample.name] = sample.value
        return found

    def wait(self, series: str, value: float | None = None) -> float:
        """Return the value of a series once it is there, and has a value if one is given."""

        def look() -> tuple[float] | None:
            found = self.series().get(series)
            return None if found is None or (value is not None and found != value) else (found,)

        return float(wait_for(look, what=f"{series} {value}")[0])

    def gone(self, series: str) -> None:
        wait_for(lambda: series not in self.series(), what=f"the end of {series}")

    def close(self) -> None:
        self.voice.close()
        self.ear.close()
        self.house.close()
        self.broker.stop()


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    scraped = Scraped(tmp_path_factory.mktemp("exporter"))
    yield scraped
    scraped.close()


def health(state: str = "running", **more: Any) -> str:
    return json.dumps({"state": state, "start": 3, "beat": 1, "version": "1", "host": "pi", "stale": []} | more)


# -- names ------------------------------------------------------------------------------------------------------------


def test_names_say_quantity_and_unit_and_what_counts_ends_in_total(scraped: Scraped) -> None:
    voice = scraped.voice
    voice.say(WATER, 61.4, now())
    voice.say(PUMP, True, now(), unit="")
    voice.say(PHASE, "full load", now(), unit="")
    voice.say("boiler/burner/note_text", "hello", now(), unit="")
    voice.say(HEAT, 1234.5, now(), unit="kWh")
    voice.say("house/disk/free_size", 2.5, now(), unit="MB")
    scraped.wait('constellation_size_bytes{place="house",thing="disk",name="free_size"}', 2_500_000)
    found = scraped.series()
    assert found[WATER_SERIES] == 61.4
    assert found[PUMP_SERIES] == 1
    assert found[HEAT_SERIES] == 1234.5
    phase = 'constellation_phase{place="boiler",thing="burner",name="phase",state="'
    assert {name[len(phase) : -2]: value for name, value in found.items() if name.startswith(phase)} == {
        "off": 0,
        "full load": 1,
    }
    assert not [name for name in found if "text" in name]
    opened = scraped.text("application/openmetrics-text; version=1.0.0")
    assert opened.endswith("# EOF\n")
    assert "# TYPE constellation_energy_kwh counter\n" in opened


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("a/b/stored_energy: {from: s, kind: gauge}", "constellation_energy_level_kwh"),
        ("a/b/power: {from: s, unit: kvar}", "constellation_power_kvar"),
        ("a/b/silo_days: {from: s}", "constellation_duration_seconds"),
        ("a/b/burning_hours: {from: s}", "constellation_runtime_seconds"),
        ("a/b/bikes_count: {from: s}", "constellation_number"),
        ("a/b/count: {from: s, unit: 'l/100 km'}", "constellation_number_l_100_km"),
        ("a/b/intensity: {from: s}", "constellation_intensity_kg_per_degreeday"),
        ("a/b/mode: {from: s, kind: switch}", "constellation_mode_switch"),
    ],
)
def test_one_name_has_one_type_and_one_unit(tmp_path: Path, line: str, name: str) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text(f"sources: {{s: {{service: onewire}}}}\ntopics:\n  {line}\n")
    metric = metric_of(next(iter(Registry(path).topics.values())))
    assert metric is not None
    assert metric.name == name


def test_the_names_of_the_first_exporters_are_all_there_on_the_same_port(scraped: Scraped) -> None:
    topics = Registry(scraped.house.config).topics
    for name, topic in topics.items():
        if name.startswith(("shed/battery/", "shed/rover/")):
            value: Any = {"state": "on", "switch": True}.get(topic.kind, 7)
            scraped.voice.say(name, "boost" if "charging_state" in name else value, now(), unit=topic.unit)
    scraped.wait("solarshed_controller_charging_state", 4)
    wait_for(lambda: "bms_last_update" in scraped.series(), what="the battery")
    found = {name: value for name, value in scraped.series().items() if name.startswith(("bms_", "solarshed_"))}
    assert {name for name in found if name.startswith("solarshed_")} == {
        f"solarshed_{name}"
        for name in [
            "battery_percentage",
            "battery_volts",
            "battery_temperature_celsius",
            "controller_temperature_celsius",
            "controller_charging_state",
            "load_volts",
            "load_amperes",
            "load_power_watts",
            "solar_volts",
            "solar_amperes",
            "solar_watts",
        ]
    }
    plain = (
        "last_update ah_percent ah_remaining ah_full power voltage current temperature cycles temperature2 "
        + " ".join(f"voltage0{cell}" for cell in range(1, 9))
    ).split()
    states = [
        "Cell_Block_Over_Vol",
        "Cell_Block_Under_Vol",
        "Battery_Over_Vol",
        "Battery_Under_Vol",
        "Charging_Over_Temp",
        "Charging_Under_Temp",
        "Discharging_Over_Temp",
        "Discharging_Under_Temp",
        "Charging_Over_Current",
        "Discharging_Over_Current",
        "Short_Circuit",
        "Fore-end_IC_Error",
        "MOS_Software_Lock-in",
    ]
    assert {name for name in found if name.startswith("bms_")} == {
        *(f"bms_{name}" for name in plain),
        *(f'bms_state{{state="{state}"}}' for state in states),
        *(f'bms_balance_status{{cell="celbals[{cell}]"}}' for cell in range(1, 9)),
        *(f'bms_fetst{{fetst="FET_{which}"}}' for which in ("charging", "discharging")),
        *(f'bms_mode{{bms_mode="{mode}"}}' for mode in ("charging", "discharging")),
        'bms_time_left{mode="discharging"}',
    }
    assert (found['bms_mode{bms_mode="charging"}'], found['bms_mode{bms_mode="discharging"}']) == (1, 0)
    assert abs(found["bms_last_update"] - time.time()) < 60


# -- what is alive ----------------------------------------------------------------------------------------------------


def test_what_is_cleared_is_absent_and_comes_back_with_a_new_reading_only(scraped: Scraped) -> None:
    at = now()
    scraped.voice.say(HEAT, 1250, at, unit="kWh")
    scraped.wait(HEAT_SERIES, 1250)
    scraped.voice.raw(HEAT, b"")
    scraped.gone(HEAT_SERIES)
    scraped.voice.say(HEAT, 1250, at, unit="kWh")  # a repeat, as after a lost connection
    scraped.voice.say(PUMP, False, now(), unit="")
    scraped.wait(PUMP_SERIES, 0)
    assert HEAT_SERIES not in scraped.series()
    scraped.voice.say(HEAT, 1260, now(), unit="kWh")
    scraped.wait(HEAT_SERIES, 1260)


def test_what_stands_on_a_topic_longer_than_stale_is_absent_though_its_source_was_killed(scraped: Scraped) -> None:
    ahead = WATER_SERIES.replace("water", "flue")
    scraped.voice.say(WATER, 53.0, now())
    scraped.voice.say(
        "boiler/flue/temperature", 100.0, now() + 50_000
    )  # its clock is wrong, and it is dead all the same
    said = time.monotonic()
    scraped.wait(WATER_SERIES, 53)
    scraped.wait(ahead, 100)
    wait_for(lambda: not {WATER_SERIES, ahead} & scraped.series().keys(), what="their end")
    assert time.monotonic() - said < 4 + 5, "stale and five seconds"
    assert scraped.ear.last(f"home/data/{WATER}")["value"] == 53, "the topic was not cleared"


def test_what_was_stale_before_it_was_heard_is_never_shown(scraped: Scraped) -> None:
    old = WATER_SERIES.replace("water", "return")
    scraped.voice.say(
        "boiler/return/temperature", 45.0, now() - 60_000
    )  # as it stands at the broker when its source is dead
    scraped.voice.say(HEAT, 1270, now(), unit="kWh")
    scraped.wait(HEAT_SERIES, 1270)
    assert old not in scraped.series()
    scraped.voice.say("boiler/return/temperature", 46.0, now())
    scraped.wait(old, 46)


def test_an_older_reading_never_takes_the_place_of_a_newer_one(scraped: Scraped) -> None:
    scraped.voice.say(PUMP, True, now(), unit="")
    scraped.wait(PUMP_SERIES, 1)
    scraped.voice.say(PUMP, False, now() - 20_000, unit="")
    scraped.voice.say(HEAT, 1300, now(), unit="kWh")
    scraped.wait(HEAT_SERIES, 1300)
    assert scraped.series()[PUMP_SERIES] == 1


def test_a_paused_source_has_no_values_and_says_that_it_pauses(scraped: Scraped) -> None:
    scraped.voice.say(HEAT, 1400, now(), unit="kWh")
    scraped.wait(HEAT_SERIES, 1400)
    scraped.ear.say("home/service/onewire/status", "online", retain=True)
    scraped.ear.say("home/service/onewire/health", health("paused"), retain=True)
    scraped.gone(HEAT_SERIES)
    assert scraped.series()['constellation_service_state{service="onewire",state="paused"}'] == 1
    scraped.ear.say("home/service/onewire/health", health("running"), retain=True)
    scraped.wait(HEAT_SERIES, 1400)


# -- services, alerts -------------------------------------------------------------------------------------------------


def test_services_say_state_counters_and_what_was_lost_and_a_dead_one_only_that_it_is_down(scraped: Scraped) -> None:
    up, lost = 'constellation_service_up{service="onewire"}', 'constellation_lost_readings_total{service="onewire"}'
    scraped.ear.say("home/service/onewire/status", "online", retain=True)
    document = health(
        "degraded",
        stale=[WATER],
        counters={"published": 12, "lost": 2, "Strange name": 1, "errors": "x"},
        spool={"waiting": 5, "dropped": 3, "dead": 1},
    )
    scraped.ear.say("home/service/onewire/health", document, retain=True)
    scraped.wait(lost, 5)
    found = scraped.series()
    assert found[up] == 1
    assert found['constellation_service_published_total{service="onewire"}'] == 12
    assert found['constellation_service_spool_waiting{service="onewire"}'] == 5
    assert found['constellation_service_stale_topics{service="onewire"}'] == 1
    assert found['constellation_service_starts_total{service="onewire"}'] == 3
    assert found['constellation_service_state{service="onewire",state="degraded"}'] == 1
    assert found['constellation_service_info{host="pi",runs="onewire",service="onewire",version="1"}'] == 1
    assert not [name for name in found if "trange" in name or ("errors_total" in name and "onewire" in name)]
    scraped.wait(up, 0)  # three beats of a second, with nothing said
    assert lost not in scraped.series()
    assert 'constellation_service_up{service="exporter"}' in scraped.series()


def test_an_alert_is_there_as_long_as_its_topic_is(scraped: Scraped) -> None:
    firing = 'constellation_alert_firing{alert="hot_water",rule="hot"}'
    scraped.ear.say("home/alert/hot_water", '{"state":"firing","rule":"hot","acknowledged":true}', retain=True)
    scraped.wait(firing, 1)
    assert scraped.series()['constellation_alert_acknowledged{alert="hot_water",rule="hot"}'] == 1
    scraped.ear.say("home/alert/hot_water", '{"state":"ok","rule":"hot"}', retain=True)
    scraped.wait(firing, 0)
    scraped.ear.say("home/alert/hot_water", "no JSON", retain=True)
    scraped.gone(firing)
    scraped.ear.say("home/alert/hot_water", "", retain=True)


def test_promtool_finds_nothing_to_say_about_our_names(scraped: Scraped) -> None:
    scraped.ear.say("home/service/onewire/health", health(counters={"published": 1}), retain=True)
    scraped.voice.say(HEAT, 1500, now(), unit="kWh")
    scraped.wait('constellation_service_published_total{service="onewire"}', 1)
    ours = "".join(
        f"{line}\n" for line in scraped.text().splitlines() if "bms_" not in line and "solarshed_" not in line
    )
    promtool = find("promtool")
    checked = subprocess.run([promtool, "check", "metrics"], input=ours, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    wrong = subprocess.run(
        [promtool, "check", "metrics"], input=ours.replace("_total", "_sum"), capture_output=True, text=True
    )
    assert wrong.returncode == 3, "it does look"


def test_no_name_of_the_table_of_quantities_is_one_that_promtool_minds(tmp_path: Path) -> None:
    from prometheus_client import CollectorRegistry, generate_latest

    from bootstrap_lib.quantities import AKIN, QUANTITIES

    lines = [
        f"  a/b{number}/x_{word}: {{from: s{f', unit: {unit}' if unit else ''}{', states: [x]' if row.kind == 'state' else ''}}}"
        for word, row in QUANTITIES.items()
        for number, unit in enumerate(("", *AKIN.get(row.unit, ())))
    ]
    path = tmp_path / "topics.yaml"
    path.write_text("sources: {s: {service: onewire, stale: 1h}}\ntopics:\n" + "\n".join(lines))
    registry = Registry(path)
    board = Board(registry, {}, now, time.monotonic)
    for name, topic in registry.topics.items():
        value: Any = {"switch": True, "state": "x", "text": "x"}.get(topic.kind, 1.0)
        board.read(Reading(name, value, topic.unit, now()))
    metrics = CollectorRegistry()
    metrics.register(board)
    text = generate_latest(metrics)
    assert text.count(b"\nconstellation_") > len(QUANTITIES) - 3
    checked = subprocess.run([find("promtool"), "check", "metrics"], input=text, capture_output=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


@pytest.mark.parametrize("where", ['"beat"', '"start"', '"counters":{"read"', '"spool":{"waiting"'])
def test_a_number_that_no_float_is_as_large_as_ends_no_scrape(tmp_path: Path, where: str) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text("sources: {onewire: {}}\n")
    board = Board(Registry(path), {}, now, time.monotonic)
    board.hear("onewire", "status", b"online")
    health = f'{{"beat":30,{where}:{"9" * 400}{"}" * where.count("{")}}}'
    board.hear("onewire", "health", health.replace('"beat":30,"beat"', '"beat"').encode())
    assert "constellation_service_up" in [family.name for family in board.collect()]


def test_a_reload_in_the_middle_of_a_scrape_ends_it_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text("sources: {onewire: {}}\ntopics: {a/b/temperature: {from: onewire}, a/c/active: {from: onewire}}\n")
    board = Board(Registry(path), {}, now, time.monotonic)
    board.read(Reading("a/b/temperature", 1.0, "°C", now()))
    board.read(Reading("a/c/active", True, "", now()))
    path.write_text("sources: {other: {service: onewire}}\n")
    other, add = Registry(path), Families.add

    def reloaded(*given: Any) -> None:
        board.take(other, {})
        add(*given)

    monkeypatch.setattr(Families, "add", reloaded)
    found = {family.name for family in board.collect()}
    assert {"constellation_temperature_celsius", "constellation_active", "constellation_service_up"} <= found


def find(program: str) -> str:
    path = shutil.which(program)
    assert path, f"{program} is missing: run scripts/test, which installs it"
    return path


def test_check_says_whom_a_setting_names_wrongly(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text(TOPICS.format(port=9646).replace("bms: shed/battery", "bms: shed/batery"))
    assert "did you mean" in str(Exporter.check(Registry(path), "exporter")[0])


def test_an_address_that_is_taken_is_a_sentence(scraped: Scraped, tmp_path: Path) -> None:
    house = House(tmp_path / "other", scraped.broker.port)
    house.write(TOPICS.format(port=scraped.port))
    process = house.start("exporter", wait=False)
    assert process.wait(30) != 0
    assert f"it cannot listen on 127.0.0.1:{scraped.port}" in house.log("exporter")
