"""The JBD codec: frames are found whatever comes between and inside them, and say what the vendor's document says."""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bluetooth import Statistics
from services.bluetooth.dialogue import Dialogue
from services.protocols import jbd
from services.protocols.battery import BatteryError, BatteryRequest, Frame, Pack, Rejection
from services.protocols.jbd import answers, encoder, frames, password
from services.protocols.jbd.frames import ModuleReply

if TYPE_CHECKING:
    from collections.abc import Iterable

PACK = Pack(
    name="XIAOXIANG 4S",
    cell_voltages=(3.3, 3.447, 3.305, 0.0),
    current=-12.5,
    remaining_charge=468.71,
    nominal_charge=560,
    cycles=231,
    probe_temperatures=(-10.0, 24.5),
    balancing_cells=(1, 16, 18),
    alarms=("cell_overvoltage", "mosfet_software_lock"),
    discharge_fet=False,
)
BASIC, CELLS, COUNTERS, NAME = jbd.REQUESTS
ANSWERS = [jbd.answer(request.frame, PACK) or b"" for request in jbd.REQUESTS]


def fed(*fragments: bytes) -> list[Frame | Rejection]:
    assembler = jbd.assembler()
    return [found for fragment in fragments for found in assembler.feed(fragment)]


def encoded(found: Iterable[Frame | Rejection]) -> list[bytes]:
    return [frames.encode_answer(one.command, one.data, one.status) for one in found if isinstance(one, Frame)]


def lines(*fragments: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in jbd.decode_lines(fragment.hex() for fragment in fragments)]


def basic_with(**changes: object) -> bytes:
    """Replace some bytes in the data of a basic info: `at_20=b"..."`."""
    data = bytearray(encoder.encode_basic_info(PACK))
    for place, value in changes.items():
        start = int(place.removeprefix("at_"))
        assert isinstance(value, bytes)
        data[start : start + len(value)] = value
    return bytes(data)


def test_a_battery_that_never_answers_is_told_what_it_may_be() -> None:
    dialogue = Dialogue(jbd, 2, Statistics())
    dialogue.begin_sample()
    assert dialogue.next_frame() == dialogue.next_frame() == BASIC.frame
    with pytest.raises(BatteryError, match=r"No answer to 2 requests for the basic info\. A module behind the app"):
        dialogue.next_frame()


def test_the_read_requests_are_those_of_the_vendor() -> None:
    assert [request.frame.hex() for request in jbd.REQUESTS] == [
        "dda50300fffd77",
        "dda50400fffc77",
        "dda5aa00ff5677",
        "dda50500fffb77",
    ]


def test_a_checksum_over_zeros_is_zero() -> None:
    acknowledgement = bytes.fromhex("dde10000000077")
    assert frames.encode_answer(0xE1, b"") == acknowledgement
    assert encoded(fed(acknowledgement)) == [acknowledgement]


def test_basic_info_gives_every_field() -> None:
    info = answers.basic_info(encoder.encode_basic_info(PACK))
    assert (info.voltage, info.current, info.power) == (10.05, -12.5, -125.625)
    assert (info.remaining_charge, info.nominal_charge, info.soc, info.cycles) == (468.71, 560.0, 84, 231)
    assert info.production_date == dt.date(2024, 2, 29)
    assert info.balancing_cells == (1, 16, 18)
    assert info.alarms == ("cell_overvoltage", "mosfet_software_lock")
    assert (info.charge_fet, info.discharge_fet, info.current_limiter, info.heater) == (True, False, False, False)
    assert (info.cell_count, info.probe_count, info.temperatures) == (4, 2, (-10.0, 24.5))
    assert info.software_version == "2.3"


def test_charges_above_327_ah_are_not_negative() -> None:
    assert answers.basic_info(basic_with(at_4=b"\xff\xff")).remaining_charge == 655.35


def test_bit_seven_of_the_fet_byte_switches_to_coarse_units() -> None:
    info = answers.basic_info(basic_with(at_2=b"\x00\x64\x0d\xa5\x0f\xa0", at_20=b"\x8f"))
    assert (info.current, info.remaining_charge, info.nominal_charge) == (10.0, 349.3, 400.0)
    assert (info.current_limiter, info.heater) == (True, True)
    assert info.power == round(info.voltage * 10, 3)


def test_a_production_date_that_is_none_is_none() -> None:
    assert answers.basic_info(basic_with(at_10=b"\0\0")).production_date is None


@pytest.mark.parametrize("cell", range(1, 33))
def test_each_of_32_balance_bits_is_its_own_cell(cell: int) -> None:
    mask = 1 << cell - 1
    data = basic_with(at_12=(mask & 0xFFFF).to_bytes(2, "big") + (mask >> 16).to_bytes(2, "big"))
    assert answers.basic_info(data).balancing_cells == (cell,)


@pytest.mark.parametrize("bit", range(16))
def test_each_protection_bit_has_its_own_name(bit: int) -> None:
    name = answers.PROTECTION[bit] if bit < 15 else "reserved_15"
    assert answers.basic_info(basic_with(at_16=(1 << bit).to_bytes(2, "big"))).alarms == (name,)


def test_the_extension_of_v11_is_read_and_surplus_bytes_are_left() -> None:
    extension = bytes.fromhex("37 0801 7530 4cae 012c 11223344")
    info = answers.basic_info(encoder.encode_basic_info(PACK) + extension)
    assert info.extension == answers.Extension(0x37, 0x0801, 300.0, 196.3, 0.3)
    assert info.extra == extension.hex()
    named = jbd.measurements(BASIC, Frame(frames.BASIC_INFO, 0, encoder.encode_basic_info(PACK) + extension)) or {}
    assert (named["cell_overvoltage_warning"], named["low_capacity_warning"]) == (True, True)
    assert named["cell_difference_warning"] is False
    assert (named["humidity"], named["full_charge"], named["balance_current"]) == (0x37, 300.0, 0.3)


def test_without_an_extension_nothing_is_made_up() -> None:
    assert answers.basic_info(encoder.encode_basic_info(PACK)).extension == answers.Extension()
    named = jbd.measurements(BASIC, Frame(frames.BASIC_INFO, 0, encoder.encode_basic_info(PACK))) or {}
    assert not {"humidity", "full_charge", "balance_current", "low_capacity_warning"} & set(named)


def test_a_board_without_probes_is_read() -> None:
    assert answers.basic_info(basic_with(at_22=b"\0")[:23]).temperatures == ()


@pytest.mark.parametrize(
    ("decode", "data", "reason"),
    [
        (answers.basic_info, encoder.encode_basic_info(PACK)[:22], "fewer than 23"),
        (answers.basic_info, encoder.encode_basic_info(PACK)[:-1], "announces 2 temperature probes"),
        (answers.cell_voltages, b"", "0 bytes"),
        (answers.cell_voltages, b"\x0c", "1 bytes"),
        (answers.cell_voltages, bytes(66), "66 bytes"),
        (answers.error_counters, bytes(23), "neither 22 nor 24"),
    ],
)
def test_data_of_an_impossible_length_are_refused_with_the_reason(decode: object, data: bytes, reason: str) -> None:
    assert callable(decode)
    with pytest.raises(BatteryError, match=reason):
        decode(data)


def test_a_cell_at_zero_volts_keeps_its_place() -> None:
    cells = answers.cell_voltages(encoder.encode_cell_voltages(PACK))
    assert cells == answers.CellVoltages((3.3, 3.447, 3.305, 0.0), 3.447, 4, 2)


def test_error_counters_with_and_without_restarts() -> None:
    counts = b"".join(number.to_bytes(2, "big") for number in range(12))
    assert answers.error_counters(counts).error_counters["restarts"] == 11
    assert "restarts" not in answers.error_counters(counts[:22]).error_counters
    assert answers.error_counters(counts).error_counters["pack_undervoltage"] == 10


def test_a_name_ends_at_its_nul() -> None:
    assert answers.hardware_name(b"SP04S\0\0\0").name == "SP04S"


def test_a_whole_sample_has_names_that_end_in_their_quantity() -> None:
    sample: dict[str, object] = {}
    for request, answer in zip(jbd.REQUESTS, ANSWERS, strict=True):
        [frame] = fed(answer)
        assert isinstance(frame, Frame)
        sample |= jbd.measurements(request, frame) or {}
    assert sample["cell_4_voltage"] == 0.0
    assert sample["cell_difference_voltage"] == 3.447
    assert (sample["lowest_cell_number"], sample["highest_cell_number"]) == (4, 2)
    assert sample["probe_1_temperature"] == -10.0
    assert sample["cell_1_balancing_state"] is True
    assert sample["cell_2_balancing_state"] is False
    assert sample["cell_overvoltage_alarm"] is True
    assert sample["short_circuit_alarm"] is False
    assert sample["short_circuit_count"] == 0
    assert sample["hardware_text"] == "XIAOXIANG 4S"
    endings = {name.rsplit("_", 1)[-1] for name in sample}
    assert endings <= {
        *("voltage", "current", "power", "soc", "charge", "cycles", "temperature"),
        *("state", "alarm", "count", "number", "text"),
    }


@pytest.mark.parametrize("size", [1, 2, 3, 7, 19, 20, 244])
def test_answers_are_found_however_they_are_cut(size: int) -> None:
    stream = b"".join(ANSWERS)
    assert encoded(fed(*(stream[start : start + size] for start in range(0, len(stream), size)))) == ANSWERS


def test_a_fragment_that_ends_in_77_is_no_end() -> None:
    answer = frames.encode_answer(frames.CELL_VOLTAGES, bytes.fromhex("0ce4" * 7 + "0d77" + "0cec" * 5))
    assert answer[19] == frames.END
    assert fed(answer[:20]) == []
    assert encoded(fed(answer[:20], answer[20:])) == [answer]


def test_a_frame_cut_short_does_not_cost_the_next_one() -> None:
    found = fed(ANSWERS[0][:20], ANSWERS[1], ANSWERS[0])
    assert encoded(found) == [ANSWERS[1], ANSWERS[0]]
    assert sum(isinstance(one, Rejection) for one in found) == 1


@pytest.mark.parametrize(
    "junk", [b"AT\r\n\xdd\x77", b"\xff\xaa\x17\x01\xdd\xf5", b"\xdd\xdd\xdd", b"\xdd" * 40, b"\x77\xdd\x03\x00\x02"]
)
def test_junk_before_a_frame_does_not_cost_it(junk: bytes) -> None:
    assert encoded(one for one in fed(junk, *ANSWERS) if not isinstance(one, frames.ModuleReply)) == ANSWERS


def test_every_single_flipped_bit_of_an_answer_is_rejected() -> None:
    answer = ANSWERS[1]
    for bit in range(8 * 2, 8 * len(answer)):
        damaged = bytearray(answer)
        damaged[bit // 8] ^= 1 << bit % 8
        assert answer not in encoded(fed(bytes(damaged)))
        assert not [one for one in fed(bytes(damaged)) if isinstance(one, Frame)]


def test_clearing_forgets_a_frame_that_has_begun() -> None:
    assembler = jbd.assembler()
    assembler.feed(ANSWERS[0][:20])
    assembler.clear()
    assert encoded(assembler.feed(ANSWERS[1])) == [ANSWERS[1]]


@given(st.lists(st.binary(max_size=64) | st.sampled_from([*ANSWERS, b"\xdd", b"\xdd\x03\x00\xff", b"\xff\xaa\x15"])))
def test_any_bytes_give_only_frames_that_are_in_them_and_the_buffer_stays_small(fragments: list[bytes]) -> None:
    assembler, stream = jbd.assembler(), b"".join(fragments)
    for fragment in fragments:
        for found in assembler.feed(fragment):
            if isinstance(found, Frame) and not isinstance(found, frames.ModuleReply):
                assert frames.encode_answer(found.command, found.data, found.status) in stream
        assert len(assembler._buffer) < 262
    for line in jbd.decode_lines(fragment.hex() for fragment in fragments):
        assert isinstance(json.loads(line), dict)


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), min_size=1))
def test_frames_do_not_depend_on_the_cuts(noise: bytes, sizes: list[int]) -> None:
    stream = noise.replace(b"\xff\xaa", b"") + b"".join(ANSWERS) + bytes(300)
    cuts: list[bytes] = []
    place = 0
    while place < len(stream):
        size = sizes[len(cuts) % len(sizes)]
        cuts.append(stream[place : place + size])
        place += size
    whole = encoded(fed(stream))
    assert [one for one in encoded(fed(*cuts)) if one in ANSWERS] == [one for one in whole if one in ANSWERS]
    assert set(ANSWERS) <= set(whole)


@given(st.binary(max_size=255), st.sampled_from(jbd.REQUESTS), st.integers(0, 255))
def test_any_data_under_a_right_checksum_are_decoded_or_refused(
    data: bytes, request: BatteryRequest, status: int
) -> None:
    frame = Frame(request.frame[2], status, data)
    try:
        named = jbd.measurements(request, frame)
    except BatteryError as error:
        named = {"refused": str(error)}
    assert named


def test_an_answer_to_another_request_is_no_answer() -> None:
    [late] = fed(ANSWERS[0])
    assert isinstance(late, Frame)
    assert jbd.measurements(CELLS, late) is None


@pytest.mark.parametrize(
    ("status", "meaning"), [(0x80, "does not know"), (0x81, "not allowed"), (0x99, "does not say")]
)
def test_a_refusal_says_what_its_status_means(status: int, meaning: str) -> None:
    with pytest.raises(BatteryError, match=meaning):
        jbd.measurements(BASIC, Frame(frames.BASIC_INFO, status, b""))


def test_an_echoed_request_asks_for_pairing() -> None:
    [echo] = fed(BASIC.frame)
    assert isinstance(echo, Frame)
    with pytest.raises(BatteryError, match="bluetoothctl"):
        jbd.measurements(BASIC, echo)


def test_the_simulated_battery_answers_only_whole_reads() -> None:
    assert jbd.answer(BASIC.frame[:-1], PACK) is None
    assert jbd.answer(BASIC.frame.replace(b"\xff", b"\xfe"), PACK) is None
    assert jbd.answer(b"\xdd\x5a\xe1\x02\x00\x03\xff\x1a\x77", PACK) is None
    assert jbd.answer(frames.encode_request(0x42), PACK) == frames.encode_answer(0x42, b"", status=0x80)


def test_decoded_lines_say_frames_and_rejections_in_order() -> None:
    damaged = ANSWERS[1][:-3] + b"\0\0\x77"
    said = lines(ANSWERS[0][:20], ANSWERS[0][20:], damaged, ANSWERS[1], frames.encode_answer(3, b"", 0x80))
    assert said[0]["remaining_ah"] == 468.71
    assert "The checksum is 0000" in str(said[1]["error"])
    assert said[2]["cell_voltages"] == [3.3, 3.447, 3.305, 0.0]
    assert (said[3]["cmd"], said[3]["status"]) == (3, 128)
    assert len(said) == 4


def test_decoded_lines_report_what_is_incomplete_at_the_end() -> None:
    [said] = lines(ANSWERS[0][:20])
    assert "incomplete: 20 of at least" in str(said["error"])


def test_a_frame_behind_a_false_beginning_is_found_at_the_end_of_the_lines() -> None:
    said = lines(b"\xdd\x03\x00\xff", ANSWERS[1])
    assert [next(iter(one)) for one in said] == ["error", "cell_voltages"]


def test_decoded_lines_say_which_line_is_not_hexadecimal() -> None:
    said = [json.loads(line) for line in jbd.decode_lines(["", "dd 03\n", "hello"])]
    assert "Line 3" in said[0]["error"]


def test_replies_of_the_bluetooth_module_are_told_apart() -> None:
    assert lines(bytes.fromhex("ffaa1701627a")) == [{"auth": True, "cmd": 23, "data": "62"}]
    assert lines(bytes.fromhex("ffaa1701627b")) == []


def test_unknown_commands_are_shown_with_their_data() -> None:
    assert lines(frames.encode_answer(0x10, b"\x01\x02")) == [{"cmd": 16, "status": 0, "data": "0102"}]


def test_a_hundred_thousand_lines_take_seconds() -> None:
    fragments = [part.hex() for answer in ANSWERS for part in (answer[:20], answer[20:])]
    began = time.process_time()
    count = sum(1 for _ in jbd.decode_lines(fragments * (100_000 // len(fragments))))
    assert count == 50_000
    assert time.process_time() - began < 9  # 1.5 s on a quiet machine


def test_a_password_is_hidden_by_the_address_and_the_random_byte() -> None:
    assert password.module_frame(password.APP_KEY, password.KEY_OF_APP).hex() == "ffaa15063030303030303b"
    assert password.module_frame(password.RANDOM).hex() == "ffaa170017"
    hidden = password.hidden(b"90", "00:FF:01:02:03:04", 0x10)
    assert hidden == bytes(((0x39 ^ 0x00) + 0x10, ((0x30 ^ 0xFF) + 0x10) & 0xFF))
    assert password.hidden(b"0" * 8, "00:00:00:00:00:00", 0x20) == bytes([0x50] * 8), (
        "behind the address, the byte alone"
    )


def test_a_module_without_a_password_is_open_at_once_and_a_foreign_answer_is_none() -> None:
    opening = password.Unlocking("A4:C1:38:00:00:01", "123456")
    assert opening.next_frame() == password.module_frame(password.APP_KEY, password.KEY_OF_APP)
    assert not opening.take(Frame(0x15, 0, b"\x02")), "what the battery says is no answer of the module"
    assert not opening.take(ModuleReply(password.PASSWORD, 0, b"\x00")), "it was not asked yet"
    assert opening.take(ModuleReply(password.APP_KEY, 0, b"\x02"))
    assert opening.next_frame() is None


def test_each_connection_opens_the_module_before_the_battery_is_asked() -> None:
    dialogue = Dialogue(jbd, 3, Statistics(), lambda: password.Unlocking("A4:C1:38:00:00:01", "123456"))
    for _ in range(2):
        dialogue.begin_link()
        dialogue.begin_sample()
        assert (dialogue.next_frame() or b"")[:3] == b"\xff\xaa\x15"
        assert dialogue.take(password.module_frame(password.APP_KEY, b"\x02"))
        assert dialogue.next_frame() == BASIC.frame
