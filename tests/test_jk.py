"""The JK codec: layouts by content, cut and glued notifications, and no value where no probe is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.protocols import jk
from services.protocols.battery import BatteryError, Frame, Pack, Rejection

PACK = Pack(
    name="PB-8S",
    cell_voltages=(3.301, 3.302, 3.303, 3.304, 3.305, 3.306, 3.307, 3.309),
    current=-12.345,
    remaining_charge=201.5,
    nominal_charge=314.0,
    cycles=77,
    probe_temperatures=(21.5, -3.0),
    alarms=("cell_undervoltage", "discharge_undertemperature"),
)
INFORMATION, SETTINGS, CELLS = jk.REQUESTS
BOTH = jk.answer(CELLS.frame, PACK) or b""
SETTING, CELL = BOTH[:300], BOTH[300:]


def frames(*fragments: bytes) -> list[Frame | Rejection]:
    assembler = jk.assembler()
    return [found for fragment in fragments for found in assembler.feed(fragment)]


def sealed(frame: bytearray) -> bytes:
    frame[-1] = jk.sum8(frame[:-1])
    return bytes(frame)


def named(frame: bytes) -> dict[str, object]:
    return jk.measurements(CELLS, Frame(2, 0, frame)) or {}


def test_the_requests_are_the_apps() -> None:
    assert INFORMATION.frame.hex() == "aa5590eb97000000000000000000000000000011"
    assert CELLS.frame.hex() == "aa5590eb96000000000000000000000000000010"


def test_a_pack_is_read_as_it_was_written() -> None:
    said = named(CELL)
    assert said["voltage"] == 26.437
    assert said["current"] == -12.345
    assert said["power"] == pytest.approx(26.437 * -12.345, abs=0.001)
    assert [said[f"cell_{cell}_voltage"] for cell in range(1, 9)] == list(PACK.cell_voltages)
    assert (said["remaining_charge"], said["full_charge"], said["cycles"], said["soc"]) == (201.5, 314.0, 77, 64)
    assert (said["probe_1_temperature"], said["probe_2_temperature"]) == (21.5, -3.0)
    assert "probe_3_temperature" not in said
    assert {name for name, value in said.items() if name.endswith("_alarm") and value} == {
        "cell_undervoltage_alarm", "discharge_undertemperature_alarm", "protection_alarm",
    }  # fmt: skip
    assert jk.measurements(SETTINGS, Frame(1, 0, SETTING)) == {"nominal_charge": 314.0}
    assert jk.measurements(CELLS, Frame(1, 0, SETTING)) is None, "the settings come first, and are no cells"


def test_passcodes_are_never_named() -> None:
    frame = bytearray(jk.answer(INFORMATION.frame, PACK) or b"")[:300]
    frame[62:66] = frame[118:122] = b"4711"
    said = jk.measurements(INFORMATION, Frame(3, 0, sealed(frame))) or {}
    assert "4711" not in str(said)
    assert said["software_version_text"] == "15.38"


@pytest.mark.parametrize("size", [1, 7, 20, 128, 900])
def test_frames_are_found_in_any_notifications(size: int) -> None:
    stream = b"AT\r\n" + BOTH + b"AT\r\n\x55\xaa" + CELL[:40] + BOTH
    found = frames(*(stream[at : at + size] for at in range(0, len(stream), size)))
    good = [one.command for one in found if isinstance(one, Frame)]
    assert good == [1, 2, 1, 2]


def test_a_damaged_frame_costs_itself_only() -> None:
    damaged = CELL[:80] + bytes((CELL[80] ^ 4,)) + CELL[81:]
    found = frames(damaged + CELL)
    assert [type(one) for one in found] == [Rejection, Frame]


def test_the_layout_follows_from_what_the_frame_says() -> None:
    assert jk.layout_of(CELL) is jk.LONG
    short = bytearray(300)
    short[:6] = CELL[:6]
    short[6:22] = CELL[6:22]
    short[54:58] = (0xFF).to_bytes(4, "little")
    short[118:122] = (26437).to_bytes(4, "little")
    short[141] = 55
    short[136:138] = (1 << 11 | 1 << 4).to_bytes(2, "little")
    short[130:134] = bytes((0x30, 0xF8)) * 2
    said = named(sealed(short))
    assert said["soc"] == 55
    assert said["full_state"] is True
    assert said["cell_undervoltage_alarm"] is True
    assert not any(name.startswith("probe_") for name in said), "-200 °C are no probe"
    short[118] ^= 0x40
    short[119] ^= 0x40
    with pytest.raises(BatteryError, match="do not add up"):
        named(sealed(short))


def test_a_board_that_has_not_measured_yet_says_nothing() -> None:
    early = bytearray(jk.SIZE)
    early[jk.LONG.enabled : jk.LONG.enabled + 4] = (0xFF).to_bytes(4, "little")
    with pytest.raises(BatteryError, match="do not add up"):
        named(sealed(early))


def test_an_active_balancer_says_cells_and_no_current_of_the_pack() -> None:
    import struct

    frame = bytearray(300)
    frame[:6] = CELL[:6]
    struct.pack_into("<4f", frame, 6, 3.31, 3.32, 3.33, 3.30)
    struct.pack_into("<I", frame, 214, 0b1111)
    frame[220] = 2
    struct.pack_into("<f", frame, 222, -1.5)
    said = named(sealed(frame))
    assert (said["voltage"], said["balance_current"], said["balancer_state"]) == (13.26, -1.5, True)
    assert said["lowest_cell_number"] == 4
    assert not {"current", "soc", "probe_1_temperature"} & said.keys()


@given(st.binary(min_size=300, max_size=300))
def test_any_frame_is_named_or_refused(data: bytes) -> None:
    for request in jk.REQUESTS:
        for kind in (1, 2, 3, 5):
            try:
                jk.measurements(request, Frame(kind, 0, data))
            except BatteryError:
                continue


@given(st.lists(st.binary(max_size=400), max_size=6))
def test_any_fragments_are_survived(fragments: list[bytes]) -> None:
    assert all(isinstance(one, (Frame, Rejection)) for one in frames(*fragments))
