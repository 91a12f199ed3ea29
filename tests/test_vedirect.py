"""VE.Direct: blocks are found in any stream, their sum decides, and what is not there is no value."""

import json
import os
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from harness import PROJECT, Ear, House, wait_for
from hypothesis import given
from hypothesis import strategies as st

from bootstrap_lib import quantities
from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.document import from_text
from bootstrap_lib.registry import Registry
from services.protocols import vedirect
from services.protocols.vedirect import BlockParser
from services.simulators.vedirect import FIRST, SECOND, Product
from services.vedirect import Options, VeDirect

BLOCK = vedirect.encode_block(FIRST)
FILE = PROJECT.parent / "shared" / "vectors" / "vedirect.json"
CASES: list[dict[str, Any]] = json.loads(FILE.read_text()) if FILE.exists() else []


def blocks(*pieces: bytes) -> list[dict[str, str]]:
    parser = BlockParser()
    return [block for piece in pieces for block in parser.feed(piece)]


@pytest.mark.parametrize("size", [1, 3, 17, 500])
def test_blocks_are_found_however_they_are_cut(size: int) -> None:
    stream = BLOCK[20:] + BLOCK + vedirect.encode_block(SECOND) + BLOCK
    found = blocks(*(stream[at : at + size] for at in range(0, len(stream), size)))
    assert found == [FIRST, SECOND, FIRST]


@pytest.mark.parametrize("last", range(256))
def test_the_checksum_may_be_any_byte(last: int) -> None:
    fields = {"PID": "0xA060", "V": "12000", "X": ""}
    for filler in ("".join(pair) for pair in zip("0123456789ABCDEFG" * 16, "~}|{zyxwvutsrqpon" * 16, strict=True)):
        fields["X"] += filler[0]
        if vedirect.encode_block(fields)[-1] == last:
            break
    block = vedirect.encode_block(fields)
    assert blocks(block + BLOCK) == [fields, FIRST]


@given(st.integers(2, len(BLOCK) - 2), st.sampled_from([b":A0002000148\n", b":1\xfe", b":7F0ED0071\n:A000\n"]))
def test_hex_messages_may_lie_anywhere(at: int, message: bytes) -> None:
    assert blocks(BLOCK[:at] + message + BLOCK[at:] + BLOCK) == [FIRST, FIRST]


@given(st.integers(0, len(BLOCK) - 1), st.integers(0, 7))
def test_a_flipped_bit_is_no_value(at: int, bit: int) -> None:
    damaged = BLOCK[:at] + bytes((BLOCK[at] ^ 1 << bit,)) + BLOCK[at + 1 :]
    found = blocks(damaged, BLOCK, BLOCK)
    assert all(block == FIRST for block in found)
    assert len(found) >= 1


@given(st.binary(max_size=400))
def test_any_bytes_are_survived(data: bytes) -> None:
    parser = BlockParser()
    for block in parser.feed(data):
        vedirect.measurements(block)
    parser.gap()
    assert parser.feed(BLOCK) == [FIRST]


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ({"T": "---", "VS": "---", "TTG": "-1"}, {"remaining_duration": None}),
        (
            {"SOC": "937", "TTG": "435", "CE": "-6673"},
            {"soc": 93.7, "remaining_duration": 26100, "consumed_charge": 6.673},
        ),
        ({"OR": "0x00000081"}, {"off_reason_text": "no_input, engine"}),
        ({"H19": "1158", "H17": "3"}, {"generated_energy": 11.58, "discharged_energy": 0.03}),
        ({"CS": "255"}, {}),
        ({"CS": "5", "MPPT": "2"}, {"charging_state": "float", "tracker_state": "tracking"}),
        ({"V": "12x", "NEW": "4"}, {}),
    ],
)
def test_labels_become_names_in_their_units(fields: dict[str, str], values: dict[str, object]) -> None:
    assert vedirect.measurements(fields) == values


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_without_end_is_no_value_and_costs_itself(digits: int) -> None:
    assert vedirect.measurements({"V": "9" * digits, "I": "1500", "CS": "9" * digits}) == {"current": 1.5}


def test_each_alarm_is_a_bit() -> None:
    said = vedirect.measurements({"AR": "5", "WARN": "0"})
    assert {name for name, value in said.items() if value} == {"low_voltage_alarm", "low_soc_alarm"}
    assert said["overload_warning"] is False


def test_every_name_has_the_unit_of_its_last_word() -> None:
    for name, (unit, words) in vedirect.NAMES.items():
        quantity = quantities.quantity_of(name)
        assert quantity, name
        assert (quantity.unit, bool(words)) == (unit, quantity.kind == "state"), name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_recorded_streams_give_the_blocks_that_are_known(case: dict[str, Any]) -> None:
    found = blocks(bytes.fromhex(case["stream_hex"]))
    expected = case["expected"]["blocks"]
    if isinstance(expected, str):
        assert len(found) >= 2
        return
    good = [block for block in expected if block["checksum_ok"]]
    assert found == [block["fields"] for block in good]
    for block, known in zip(found, good, strict=True):
        said = vedirect.measurements(block)
        for name in ("voltage", "current", "power", "solar_voltage", "solar_power", "starter_voltage", "soc"):
            if name in known["values"]:
                assert said.get(name) == known["values"][name], name


TOPICS = """
sources:
  vedirect: {{every: 200ms, stale: 1s, heartbeat: 200ms, device: {port}}}
topics:
  shed/solar/voltage: {{from: vedirect}}
  shed/solar/today_energy: {{from: vedirect, key: generated_today_energy}}
  shed/solar/load_active: {{from: vedirect}}
  shed/solar/charging_state: {{from: vedirect, states: [{states}]}}
  shed/battery/remaining_duration: {{from: vedirect}}
"""
STATES = ", ".join(f'"{word}"' for word in vedirect.CHARGING.values())


@pytest.fixture
def product() -> Iterator[Product]:
    with Product(0.1) as product:
        yield product


def test_what_stands_in_the_second_block_is_waited_for(house: House, ear: Ear) -> None:
    product, line = os.openpty()
    tty.setraw(line)
    try:
        house.write(TOPICS.format(port=os.ttyname(line), states=STATES))
        house.start("vedirect")
        os.write(product, vedirect.encode_block(FIRST))
        ear.wait("home/data/shed/solar/voltage")
        assert "says nothing" not in house.log("vedirect")
        os.write(product, vedirect.encode_block(FIRST) + vedirect.encode_block(SECOND))
        ear.wait("home/data/shed/solar/today_energy")
    finally:
        house.stop("vedirect")
        os.close(line)
        os.close(product)


def test_a_charger_is_read_through_hex_messages_and_falls_silent(
    house: House, ear: Ear, product: Product, tmp_path: Path
) -> None:
    house.write(TOPICS.format(port=product.port, states=STATES))
    product.fields["TTG"] = "435"
    house.start("vedirect")
    assert ear.wait("home/data/shed/battery/remaining_duration")["value"] == 26100
    product.fields["TTG"] = "-1"
    ear.wait("home/data/shed/battery/remaining_duration", lambda value: value == b"")
    rounds = len(ear.all("home/data/shed/solar/voltage"))
    wait_for(lambda: len(ear.all("home/data/shed/solar/voltage")) > rounds + 8, what="longer than stale")
    assert ear.last("home/service/vedirect/health")["state"] == "running"
    assert "says nothing" not in house.log("vedirect"), "nor at the start, when nothing was said yet"
    assert ear.wait("home/data/shed/solar/voltage")["value"] == 26.48
    assert ear.wait("home/data/shed/solar/today_energy")["value"] == 1.12
    assert ear.wait("home/data/shed/solar/load_active")["value"] is True
    assert ear.wait("home/data/shed/solar/charging_state")["value"] == "bulk"
    product.fault = "hex"
    product.fields["V"] = "27010"
    ear.wait("home/data/shed/solar/voltage", lambda value: value["value"] == 27.01)
    product.fault = "silence"
    ear.wait("home/data/shed/solar/voltage", lambda value: value == b"")
    wait_for(lambda: "is silent: is the product on" in house.log("vedirect"), what="the sentence")
    product.fault = None
    ear.wait("home/data/shed/solar/voltage", lambda value: value != b"")


def test_a_scan_shows_what_it_says(product: Product) -> None:
    lines = list(VeDirect.scan(msgspec.convert({"device": product.port}, Options, dec_hook=from_text)))
    assert "voltage 26.48 V" in lines
    assert "charging_state bulk" in lines


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("solar/voltage", "solar/panel_voltage", "no product says 'panel_voltage'"),
        ("solar/voltage: {from: vedirect", "solar/voltage: {from: vedirect, unit: mV", "voltage is in V, not in mV"),
        ('"off", ', "", "its states are [off, low_power"),
    ],
)
def test_a_wrong_line_is_found_by_check(tmp_path: Path, before: str, after: str, sentence: str) -> None:
    text = TOPICS.format(port="/dev/ttyUSB0", states=STATES)
    assert before in text
    (tmp_path / "topics.yaml").write_text(text.replace(before, after, 1))
    assert sentence in str(problems_of(Registry(tmp_path / "topics.yaml")))
