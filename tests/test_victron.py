"""Victron's instant readout: keys, counters and numbers that mean none; and a SmartShunt heard over a simulated BlueZ."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import PROJECT, Ear, House, wait_for
from hypothesis import given
from hypothesis import strategies as st

from bootstrap_lib import quantities
from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.registry import Registry
from services.protocols import victron_ble
from services.protocols.victron_ble import RECORDS, VictronError

KEY = bytes(range(16))
ADDRESS = "D0:00:00:00:00:01"
FILE = PROJECT.parent / "shared" / "vectors" / "victron_ble.json"
CASES: list[dict[str, Any]] = json.loads(FILE.read_text()) if FILE.exists() else []
SAME = {
    "battery_voltage": "voltage", "voltage": "voltage", "voltage_1": "voltage", "battery_current": "current",
    "current": "current", "current_1": "current", "soc": "soc", "solar_power": "solar_power",
    "today_energy_kwh": "generated_today_energy", "load_current": "load_current", "input_voltage": "input_voltage",
    "ac_in_power": "input_power", "ac_out_power": "output_power", "temperature": "battery_temperature",
    "error": "error_number",
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_recorded_advertisement_says_what_is_known_of_it(case: dict[str, Any]) -> None:
    kind, record = case.get("record_type", 0), bytes.fromhex(case.get("plain_hex", ""))
    if "manufacturer_data_hex" in case:
        heard = victron_ble.read(bytes.fromhex(case["manufacturer_data_hex"]))
        if isinstance(case["expected"], str) and case["expected"].startswith("ignored"):
            assert heard is None
            return
        assert heard
        key = victron_ble.key_of(case["key_hex"])
        if isinstance(case["expected"], str):
            with pytest.raises(VictronError, match="another one"):
                victron_ble.decrypt(heard, key)
            return
        assert f"{heard.model:04X}" == case["model_id"]
        assert (heard.kind, heard.counter) == (kind, case["counter"])
        assert victron_ble.decrypt(heard, key) == record
    said, expected = victron_ble.measurements(kind, record), case["expected"]
    for theirs, ours in SAME.items():
        if theirs in expected:
            assert said.get(ours) == expected[theirs], theirs
    if expected.get("consumed_ah") is not None:
        assert said["consumed_charge"] == -expected["consumed_ah"]
    match expected.get("aux"):
        case ["temperature_c", value]:
            assert said.get("battery_temperature") == value
        case ["none", _]:
            assert not {"starter_voltage", "midpoint_voltage", "battery_temperature"} & said.keys()
        case [name, value]:
            assert said[name] == value


@pytest.mark.parametrize("none", [0x3FFFFF, 0x1FFFFF])
def test_both_numbers_that_mean_no_current_are_none(none: int) -> None:
    record = (0xFFFF | 2648 << 16 | 0b11 << 64 | none << 66 | 0xFFFFF << 88 | 0x3FF << 108).to_bytes(15, "little")
    said = victron_ble.measurements(2, record)
    assert said["voltage"] == 26.48
    assert not {"current", "soc", "consumed_charge", "starter_voltage"} & said.keys()
    assert said["remaining_duration"] is None, "endless, which is no fault"


@given(st.sampled_from(sorted(RECORDS)), st.binary(max_size=20), st.integers(0, 0xFFFF))
def test_any_record_survives_the_way_and_is_named(kind: int, record: bytes, counter: int) -> None:
    data = victron_ble.encrypt(0xA389, kind, counter, KEY, record)
    heard = victron_ble.read(data)
    if not record:
        assert heard is None
        return
    assert heard
    assert victron_ble.decrypt(heard, KEY) == record
    victron_ble.measurements(kind, record)


@given(st.binary(max_size=30))
def test_any_bytes_are_a_readout_or_none(data: bytes) -> None:
    victron_ble.read(data)


def test_every_name_has_a_quantity() -> None:
    assert [name for name in victron_ble.NAMES if quantities.quantity_of(name) is None] == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0" * 31, "this one has 31: some apps lose a zero"),
        ("x" * 32, "hexadecimal digits only"),
        ("", "this one has 0"),
    ],
)
def test_a_key_that_is_none_says_so(text: str, sentence: str) -> None:
    with pytest.raises(VictronError, match=sentence):
        victron_ble.key_of(text)


def test_decode_takes_data_and_key() -> None:
    data = victron_ble.encrypt(0xA389, 2, 7, KEY, (0xFFFF | 2648 << 16 | 0b11 << 64).to_bytes(15, "little"))
    right, wrong, nothing = map(
        json.loads, victron_ble.decode_lines([f"{data.hex()} {KEY.hex()}", f"{data.hex()} {'ff' * 16}", "hello"])
    )
    assert right["values"]["voltage"] == 26.48
    assert "another one" in wrong["error"]
    assert "not hexadecimal" in nothing["error"]


@pytest.mark.filterwarnings("ignore::ImportWarning")
def test_a_phone_that_went_by_is_forgotten() -> None:
    """Phones change their address every quarter of an hour."""
    pytest.importorskip("dbus")
    from services.bluetooth.advertisements import Advertisements

    heard: list[str] = []
    ears = Advertisements("hci0", lambda address, *_: heard.append(address), heard.append)
    for number in range(20):
        path, address = f"/org/bluez/hci0/dev_{number:02}", f"4A:00:00:00:00:{number:02}"
        ears.added(path, {"org.bluez.Device1": {"Address": address, "ManufacturerData": {0x2E1: b"\0"}}})
        ears.removed(path, ["org.bluez.Device1"])
    assert len(heard) == 20
    assert ears._addresses == {}


@pytest.mark.filterwarnings("ignore::ImportWarning")
def test_what_bluez_remembers_of_a_product_is_not_heard_now() -> None:
    """It would be published with the time of this start, however old it is."""
    pytest.importorskip("dbus")
    from services.bluetooth.advertisements import Advertisements

    heard: list[str] = []
    ears = Advertisements("hci0", lambda address, *_: heard.append(address), lambda _: None)
    known = {"ManufacturerData": {0x2E1: b"\0"}}
    objects = {
        f"/org/bluez/hci0/dev_4A_00_00_00_00_0{number}": {"org.bluez.Device1": known | signal}
        for number, signal in enumerate(({}, {"RSSI": -70}))
    }
    ears.appeared(objects)
    assert heard == ["4A:00:00:00:00:01"]
    ears.changed("org.bluez.Device1", known, [], next(iter(objects)))
    assert heard[1:] == ["4A:00:00:00:00:00"]


TOPICS = f"""
sources:
  victron: {{every: 500ms, stale: 3s, heartbeat: 300ms, products: {{shed: {{address: "{ADDRESS}", key: "secret:shunt"}}}}}}
topics:
  shed/battery/voltage: {{from: victron}}
  shed/battery/current: {{from: victron}}
  shed/battery/soc: {{from: victron}}
  shed/battery/low_voltage_alarm: {{from: victron}}
"""


@pytest.fixture
def shunt() -> Iterator[str]:
    command = [sys.executable, "-m", "services.simulators.bluez", "--with-bus", "--victron", f"{ADDRESS},{KEY.hex()}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as simulator:
        assert simulator.stdout
        address = simulator.stdout.readline().strip().partition("=")[2]
        assert simulator.stdout.readline().strip() == "ready"
        yield address
        simulator.terminate()


def credentials(tmp_path: Path, text: str) -> str:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "shunt").write_text(text)
    (folder / "shunt").chmod(0o600)
    return str(folder)


def test_a_shunt_is_heard_without_a_connection(house: House, ear: Ear, shunt: str, tmp_path: Path) -> None:
    house.write(TOPICS)
    folder = credentials(tmp_path, KEY.hex())
    house.start("victron", DBUS_SYSTEM_BUS_ADDRESS=shunt, CONSTELLATION_CREDENTIALS=folder)
    assert ear.wait("home/data/shed/battery/voltage", timeout=60)["value"] == 26.48
    assert ear.wait("home/data/shed/battery/current")["value"] == -5.2
    assert ear.wait("home/data/shed/battery/soc")["value"] == 81.4
    assert ear.wait("home/data/shed/battery/low_voltage_alarm")["value"] is False
    heard = len(ear.all("home/data/shed/battery/voltage"))
    wait_for(
        lambda: len(ear.all("home/data/shed/battery/voltage")) > heard + 2, 60, "more of it, past the counter's end"
    )


def test_a_wrong_key_is_a_sentence_and_no_value(house: House, ear: Ear, shunt: str, tmp_path: Path) -> None:
    house.write(TOPICS)
    folder = credentials(tmp_path, "ff" * 16)
    house.start("victron", DBUS_SYSTEM_BUS_ADDRESS=shunt, CONSTELLATION_CREDENTIALS=folder)
    wait_for(lambda: "its key is another one" in house.log("victron"), 60, "the sentence")
    assert not [payload for payload in ear.all("home/data/shed/battery/voltage") if payload]


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("battery/soc:", "battery/so_soc:", "no product says 'so_soc'"),
        (
            "battery/soc: {from: victron",
            "battery/soc: {from: victron, of: shad",
            "no product is named 'shad', did you mean 'shed'?",
        ),
        ('key: "secret:shunt"', 'key: "00112233"', "key"),
        (
            "products: {",
            f'products: {{other: {{address: "{ADDRESS}", key: "secret:x"}}, ',
            "is the address of other already",
        ),
    ],
)
def test_a_wrong_line_is_found_by_check(tmp_path: Path, before: str, after: str, sentence: str) -> None:
    assert before in TOPICS
    (tmp_path / "topics.yaml").write_text(TOPICS.replace(before, after, 1))
    assert sentence in str(problems_of(Registry(tmp_path / "topics.yaml")))
