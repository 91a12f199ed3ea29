"""The dongle's serial protocol: documented commands byte for byte, and frames found through any noise."""

import random

import pytest
from fuzz import TARGETS, mutate
from hypothesis import given, settings
from hypothesis import strategies as st

from services.protocols import im871a, rtlwmbus
from services.protocols.im871a import DongleAssembler, DongleMessage, LinkMode

TELEGRAM = bytes.fromhex("0944112233445566778899")[:10]
INDICATION = DongleMessage(im871a.Endpoint.RADIO, im871a.TELEGRAM, TELEGRAM[1:], rssi=0x4C)
FRAME = im871a.encode(INDICATION)
ANSWER = im871a.encode(DongleMessage(im871a.Endpoint.MANAGEMENT, im871a.Management.PING_RESPONSE))


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (im871a.PING, "A581010024 89"),
        (im871a.RESET, "A5810700F4DD"),
        (im871a.GET_CONFIGURATION, "A581050044EE"),
        (im871a.DEVICE_INFORMATION, "A5810F003413"),
        (im871a.configuration(LinkMode.C1_A), "A581030600020630 0100B428"),
        (im871a.configuration(LinkMode.C1_B), "A5810306000207300100 0F34"),
        (im871a.configuration(LinkMode.T1), "A58103060002033001 00E346"),
        (im871a.configuration(LinkMode.S1), "A58103060002003001002E63"),
        (im871a.configuration(LinkMode.C1_T1), "A581030600020A30010080BF"),
        (im871a.configuration(LinkMode.T1, time=True), "A58103060002033001016A57"),
    ],
)
def test_commands_are_the_documented_bytes(message: DongleMessage, frame: str) -> None:
    assert im871a.encode(message) == bytes.fromhex(frame)


def test_a_telegram_gets_its_length_back_and_the_signal_its_unit() -> None:
    (message,) = DongleAssembler().feed(FRAME)
    assert message == INDICATION
    assert message.telegram == TELEGRAM
    assert message.signal == -84.5


@pytest.mark.parametrize("time", [None, 123456])
@pytest.mark.parametrize("rssi", [None, 0x4C])
@pytest.mark.parametrize("payload", [b"", b"\xa5" * 255])
def test_every_combination_of_attachments_and_length_is_read(
    time: int | None, rssi: int | None, payload: bytes
) -> None:
    message = DongleMessage(2, 3, payload, time, rssi)
    assert DongleAssembler().feed(im871a.encode(message)) == [message]


def test_a_frame_split_into_single_bytes_is_still_read() -> None:
    assembler = DongleAssembler()
    assert [message for byte in FRAME for message in assembler.feed(bytes((byte,)))] == [INDICATION]


def test_two_frames_in_one_delivery_are_both_read() -> None:
    assert DongleAssembler().feed(FRAME + ANSWER) == [INDICATION, DongleMessage(1, 2)]


def test_a_false_start_before_a_frame_does_not_cost_it() -> None:
    assembler = DongleAssembler()
    assert assembler.feed(bytes.fromhex("0013A599") + FRAME) == [INDICATION]
    assert assembler.dropped == 4


def test_a_false_header_that_announces_a_long_frame_gives_it_back_after_a_pause() -> None:
    assembler = DongleAssembler()
    assert assembler.feed(bytes.fromhex("A58203FF") + FRAME) == []
    assert assembler.pause() == [INDICATION]


def test_a_damaged_frame_is_dropped_and_the_next_one_read() -> None:
    for bit in range(8, len(FRAME) * 8):
        damaged = bytearray(FRAME)
        damaged[bit // 8] ^= 1 << bit % 8
        assembler = DongleAssembler()
        messages = assembler.feed(bytes(damaged) + FRAME)
        messages += assembler.pause()
        assert messages == [INDICATION], bit


def test_a_frame_inside_a_payload_is_no_message() -> None:
    outer = im871a.encode(DongleMessage(2, 3, b"\x44" + ANSWER))
    assembler = DongleAssembler()
    assert assembler.feed(outer[:-1]) == []
    assert [message.id for message in assembler.feed(outer[-1:])] == [3]


def test_noise_is_not_kept() -> None:
    assembler = DongleAssembler()
    chance = random.Random(1)
    for _ in range(50):
        assembler.feed(chance.randbytes(1000))
        assert len(assembler._buffer) < im871a.LONGEST


def test_the_device_tells_its_kind_and_firmware() -> None:
    message = DongleMessage(1, im871a.Management.DEVICE_INFORMATION_RESPONSE, bytes.fromhex("33001301F13A0000"))
    assert im871a.device(message) == im871a.DongleInformation(0x33, 0, 0x13, 1, 0x3AF1)
    assert im871a.device(im871a.PING) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600))
def test_a_good_frame_is_found_in_any_noise(noise: bytes) -> None:
    TARGETS["im871a"].check(noise)


@pytest.mark.parametrize("name", ["im871a", "rtlwmbus"])
def test_damaged_input_does_no_harm(name: str) -> None:
    check, seeds = TARGETS[name]
    chance = random.Random(7)
    for _ in range(2000):
        check(mutate(seeds, chance))


def test_a_line_of_rtl_wmbus_is_read() -> None:
    line = "T1;1;1;2026-01-02 10:00:00.000;97;148;66554433;0x" + TELEGRAM.hex()
    received = rtlwmbus.parse(line + "\n")
    assert received == rtlwmbus.ReceivedLine("T1", True, "2026-01-02 10:00:00.000", 97, TELEGRAM)
    assert rtlwmbus.parse(rtlwmbus.encode(received)) == received


def test_a_line_whose_checks_failed_says_so() -> None:
    assert not rtlwmbus.parse("C1;0;1;now;97;148;66554433;0x00").intact


@pytest.mark.parametrize("line", ["", "rtl_wmbus: started", "T1;1;1;now;97;148;1;44", "T1;1;1;now;x;148;1;0x4"])
def test_a_line_that_is_none_is_refused_with_a_sentence(line: str) -> None:
    with pytest.raises(ValueError, match=r"rtl_wmbus.*\.$"):
        rtlwmbus.parse(line)
