"""What every service must be: found by its file, documented in one form, checked without hardware, true about its needs."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from harness import PROJECT

from bootstrap_lib import InstanceOptions, catalog
from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.registry import Registry
from bootstrap_lib.schema import _description
from bootstrap_lib.service import Service, option_type, topic_option_type
from bootstrap_lib.source import Source

NAMES = [name for name in catalog.names() if (PROJECT / f"services/{name}.py").exists()]
HARDWARE = {
    "w1thermsensor",
    "adafruit_ads1x15",
    "gatt",
    "dbus",
    "gi",
    "serial",
    "minimalmodbus",
    "gpiozero",
    "rrdtool",
    "influxdb_client",
}


def options(service: type[Service]) -> dict[str, msgspec.structs.FieldInfo]:
    """What an instance may be told, and what a line of its topics may, by key."""
    kinds = [option_type(service), *([topic_option_type(service)] if issubclass(service, Source) else [])]
    return {field.encode_name: field for kind in kinds for field in msgspec.structs.fields(kind)}


@pytest.mark.parametrize("name", NAMES)
def test_its_class_and_each_option_have_a_sentence(name: str) -> None:
    service = catalog.find(name)
    assert vars(service).get("__doc__")
    silent = [key for key, field in options(service).items() if key != "port" and not _description(field.type)]
    assert silent == []


@pytest.mark.parametrize("name", NAMES)
def test_its_page_has_the_form_of_all(name: str) -> None:
    page = PROJECT / f"docs/services/{name}.md"
    assert page.exists(), f"write {page.relative_to(PROJECT)}"
    text = page.read_text()
    title, blank, first, *_ = text.splitlines()
    assert re.fullmatch(rf"# {name}: [^.]+", title), "# NAME: what it is"
    assert (blank, first[:1].isupper()) == ("", True), "then a sentence that says what it does"
    assert re.search(rf"^(?: {{4}}.*|  |```yaml\nsubscribers:\n  )\b{name}\b", text, re.MULTILINE), (
        "lines of topics.yaml as a block to copy"
    )
    assert re.search(r"^\|(?:---\|)+$", text, re.MULTILINE), "a table with one line for each thing"
    of_all = {field.encode_name for field in msgspec.structs.fields(InstanceOptions)}
    unsaid = [key for key in options(catalog.find(name)).keys() - of_all if not re.search(rf"`{key}\b", text)]
    assert unsaid == [], "each option of its own"


@pytest.mark.parametrize("name", NAMES)
def test_its_needs_are_read_from_its_file_as_its_class_has_them(name: str) -> None:
    service = catalog.find(name)
    assert catalog.needs_of(name) == service.NEEDS
    assert set(getattr(service, "SECTIONS", {})) == set(service.NEEDS.sections)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_imported_without_its_hardware_library(name: str) -> None:
    code = f"import sys, services.{name}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert not HARDWARE & set(result.stdout.split())


UNITS_OF_LINES = {"http", "mqtt", "modbus", "vedirect", "wmbus", "button"}
"""Sources whose lines say what a device gives, or that compare with their own tables; all others know it themselves."""
FALSE_UNITS = """
sources:
  onewire: {}
  host: {}
  adc: {}
  pulse: {meters: {grid: {pin: 17, per_unit: 1000}}}
  bms: {batteries: {b: {address: "A4:C1:38:12:34:56"}}}
  victron: {products: {m: {address: "A4:C1:38:12:34:57", key: "secret:x"}}}
topics:
  a/air/temperature: {from: onewire, id: 28-0316a4f1c9ff, unit: °F}
  a/pi/memory_available_size: {from: host, unit: GB}
  a/x/voltage: {from: adc, input: A0, unit: mV}
  a/grid/power: {from: pulse, unit: kW}
  a/bat/cell_1_voltage: {from: bms, unit: mV}
  a/mppt/solar_power: {from: victron, unit: kW}
  a/tank/pressure: {from: adc, input: A1, points: {"0": 0, "3": 100}, unit: mbar}
  a/grid/energy: {from: pulse, unit: Wh}
"""


@pytest.mark.parametrize("name", [name for name in NAMES if issubclass(catalog.find(name), Source)])
def test_a_source_says_whether_it_knows_its_units(name: str) -> None:
    assert ("unit_of" in vars(catalog.find(name))) is (name not in UNITS_OF_LINES)


def test_a_unit_that_the_source_does_not_give_is_refused_with_the_right_one(tmp_path: Path) -> None:
    """Who writes `unit: °F` to see Fahrenheit would get 21 °C as -6."""
    (tmp_path / "topics.yaml").write_text(FALSE_UNITS)
    said = [str(problem).partition(": topics.")[2] for problem in problems_of(Registry(tmp_path / "topics.yaml"))]
    assert said == [
        "a/air/temperature.unit: it gives °C, not °F: leave the unit out",
        "a/pi/memory_available_size.unit: it gives MB, not GB: leave the unit out",
        "a/x/voltage.unit: it gives V, not mV: leave the unit out",
        "a/grid/power.unit: it gives W, not kW: leave the unit out",
        "a/bat/cell_1_voltage.unit: it gives V, not mV: leave the unit out",
        "a/mppt/solar_power.unit: it gives W, not kW: leave the unit out",
    ], "points and stands are in what their line says"
