"""The Daly codec: the second make of battery behind the same shape as the first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.protocols import daly, daly_p81, modbus
from services.protocols.battery import BatteryError, BatteryProtocol, BatteryRequest, Frame, Pack, Rejection, to_words

PACK = Pack(
    name="DL-16S",
    cell_voltages=tuple(round(3.3 + cell / 1000, 3) for cell in range(16)),
    current=-42.5,
    remaining_charge=120.3,
    nominal_charge=230,
    cycles=60,
    probe_temperatures=(-12.0, 23.0),
    balancing_cells=(3,),
    alarms=("low_soc", "short_circuit"),
    discharge_fet=False,
)
STATUS, BALANCE, SETTINGS, VERSIONS = daly.REQUESTS
ANSWERS = [daly.answer(request.frame, PACK) or b"" for request in daly.REQUESTS]


def fed(*fragments: bytes) -> list[Frame | Rejection]:
    assembler = daly.assembler()
    return [found for fragment in fragments for found in assembler.feed(fragment)]


OF_ALL_CELLS = {
    *("lowest_cell_voltage", "lowest_cell_number", "highest_cell_voltage", "highest_cell_number"),
    *("average_cell_voltage", "cell_difference_voltage"),
}


def named_by(dialect: Any, request: BatteryRequest, registers: list[int]) -> dict[str, object]:
    """What a dialect makes of registers."""
    [frame] = dialect.assembler().feed(dialect.encode_answer(registers))
    return dict(dialect.measurements(request, frame) or {})


def sample() -> dict[str, object]:
    named: dict[str, object] = {}
    for request, answer in zip(daly.REQUESTS, ANSWERS, strict=True):
        [frame] = fed(answer)
        assert isinstance(frame, Frame)
        named |= daly.measurements(request, frame) or {}
    return named


def test_the_module_is_a_battery_protocol_like_any_other() -> None:
    protocol: BatteryProtocol = daly
    assert protocol.CHANNELS
    assert protocol.REQUESTS[0].frame.hex() == "d2030000003ed7b9"


def test_a_whole_sample_is_named_as_that_of_any_make() -> None:
    named = sample()
    assert (named["voltage"], named["current"], named["power"]) == (52.9, -42.5, -2248.25)
    assert (named["soc"], named["remaining_charge"], named["nominal_charge"], named["cycles"]) == (52.3, 120.3, 230, 60)
    assert [named[f"cell_{cell}_voltage"] for cell in range(1, 17)] == list(PACK.cell_voltages)
    assert "cell_17_voltage" not in named
    assert (named["probe_1_temperature"], named["probe_2_temperature"]) == (-12, 23)
    assert (named["charge_fet_state"], named["discharge_fet_state"], named["balancer_state"]) == (True, False, True)
    assert {name for name, value in named.items() if value is True and name.endswith("_alarm")} == {
        "low_soc_alarm",
        "short_circuit_alarm",
    }
    assert named["hardware_text"] == "DL-16S"


@pytest.mark.parametrize(
    ("register", "bit", "name"),
    [
        (0x3A, 0, "cell_overvoltage_warning"),
        (0x3A, 3, "cell_undervoltage_alarm"),
        (0x3B, 7, "low_soc_alarm"),
        (0x3B, 10, "temperature_difference_warning"),
        (0x3C, 0, "charge_mosfet_overtemperature_alarm"),
        (0x3C, 8, "frontend_ic_error_alarm"),
        (0x3D, 2, "short_circuit_alarm"),
    ],
)
def test_a_fault_bit_has_its_name(register: int, bit: int, name: str) -> None:
    registers = list(to_words(ANSWERS[0][3:-2]))
    registers[0x3A:0x3E] = [0, 0, 0, 0]
    registers[register] = 1 << bit
    [frame] = fed(daly.encode_answer(registers))
    assert isinstance(frame, Frame)
    named = daly.measurements(STATUS, frame) or {}
    assert [one for one, value in named.items() if value is True and one.endswith(("_alarm", "_warning"))] == [name]


def test_a_probe_that_is_not_there_has_no_value() -> None:
    registers = list(to_words(ANSWERS[0][3:-2]))
    registers[daly.PROBES] = daly.NO_PROBE
    [frame] = fed(daly.encode_answer(registers))
    assert isinstance(frame, Frame)
    named = daly.measurements(STATUS, frame) or {}
    assert "probe_1_temperature" not in named
    assert named["probe_2_temperature"] == 23


@pytest.mark.parametrize(
    ("register", "unsaid"),
    [
        (daly.VOLTAGE, {"voltage", "power"}),
        (daly.CURRENT, {"current", "power"}),
        (daly.SOC, {"soc"}),
        (daly.REMAINING_CHARGE, {"remaining_charge"}),
        (daly.CYCLES, {"cycles"}),
        (daly.CHARGE_FET, {"charge_fet_state"}),
        (daly.CELLS + 2, {"cell_3_voltage", *OF_ALL_CELLS}),
    ],
)
def test_a_register_of_all_ones_has_no_value(register: int, unsaid: set[str]) -> None:
    registers = list(to_words(ANSWERS[0][3:-2]))
    whole = named_by(daly, STATUS, registers)
    registers[register] = 0xFFFF
    named = named_by(daly, STATUS, registers)
    assert whole.keys() - named.keys() == unsaid
    assert {name: whole[name] for name in named} == named


def test_a_register_of_all_ones_has_no_value_in_the_other_dialect() -> None:
    cells, status = daly_p81.REQUESTS
    words = [3300] * 4 + [0] * (daly_p81.CELLS_COUNT - 4)
    words[1], words[daly_p81.CELL_COUNT] = 0xFFFF, 4
    words[daly_p81.VOLTAGE] = words[daly_p81.CURRENT] = words[daly_p81.SOC] = 0xFFFF
    named = named_by(daly_p81, cells, words)
    assert named == {"heartbeat_number": 0, "cell_1_voltage": 3.3, "cell_3_voltage": 3.3, "cell_4_voltage": 3.3}
    words = [0xFFFF] * daly_p81.STATUS_COUNT
    assert named_by(daly_p81, status, words).keys() == {"balancing_cells_count"}


@pytest.mark.parametrize("size", [1, 3, 20, 129, 244])
def test_answers_are_found_however_they_are_cut(size: int) -> None:
    stream = b"\xd2\x00noise\xd2" + b"".join(ANSWERS)
    found = fed(*(stream[start : start + size] for start in range(0, len(stream), size)))
    assert [one.data for one in found if isinstance(one, Frame)] == [answer[3:-2] for answer in ANSWERS]


def test_a_damaged_answer_is_rejected_once_and_the_next_is_read() -> None:
    damaged = ANSWERS[0][:50] + bytes((ANSWERS[0][50] ^ 1,)) + ANSWERS[0][51:]
    found = fed(damaged, ANSWERS[1])
    assert [type(one) for one in found] == [Rejection, Frame]


def test_a_late_answer_to_another_request_is_no_answer() -> None:
    [late] = fed(ANSWERS[0])
    assert isinstance(late, Frame)
    assert daly.measurements(SETTINGS, late) is None


def test_a_refusal_is_an_error() -> None:
    [refused] = fed(modbus.sealed(bytes((0xD2, 0x83, 2))))
    assert isinstance(refused, Frame)
    with pytest.raises(BatteryError, match="Modbus exception 2"):
        daly.measurements(SETTINGS, refused)


def test_an_impossible_number_of_cells_is_an_error() -> None:
    registers = list(to_words(ANSWERS[0][3:-2]))
    registers[daly.CELL_COUNT] = 33
    [frame] = fed(daly.encode_answer(registers))
    assert isinstance(frame, Frame)
    with pytest.raises(BatteryError, match="33 cells"):
        daly.measurements(STATUS, frame)


@given(st.lists(st.binary(max_size=64) | st.sampled_from([*ANSWERS, b"\xd2\x03\xff", b"\xd2\x83"])))
def test_any_bytes_give_only_frames_that_are_in_them_and_the_buffer_stays_small(fragments: list[bytes]) -> None:
    assembler, stream = daly.assembler(), b"".join(fragments)
    for fragment in fragments:
        for found in assembler.feed(fragment):
            if isinstance(found, Frame) and not found.status:
                assert found.data in stream
        assert len(assembler._buffer) < 260


@given(st.binary(max_size=255), st.sampled_from(daly.REQUESTS), st.integers(0, 255))
def test_any_data_under_a_right_crc_are_decoded_ignored_or_refused(
    data: bytes, request: BatteryRequest, status: int
) -> None:
    try:
        named = daly.measurements(request, Frame(daly.READ, status, data))
    except BatteryError as error:
        named = {"refused": str(error)}
    assert named is None or named


@given(
    st.lists(st.integers(0, 0xFFFF), min_size=62, max_size=62), st.integers(0, 40), st.integers(0, 12) | st.just(0xFFFF)
)
def test_any_registers_are_decoded_or_refused(registers: list[int], cells: int, probes: int) -> None:
    registers[daly.CELL_COUNT], registers[daly.PROBE_COUNT] = cells, probes
    [frame] = fed(daly.encode_answer(registers))
    assert isinstance(frame, Frame)
    if 1 <= registers[daly.CELL_COUNT] <= 32 and registers[daly.PROBE_COUNT] <= 8:
        assert daly.measurements(STATUS, frame)
    else:
        with pytest.raises(BatteryError, match="not possible"):
            daly.measurements(STATUS, frame)
