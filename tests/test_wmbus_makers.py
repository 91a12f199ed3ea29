"""Makers' own codings: values that are right, and the reason where a check says that they cannot be."""

import random
from datetime import date
from typing import Any

import own_telegrams as own
import pytest
from fuzz import TARGETS, mutate
from hypothesis import given, settings
from hypothesis import strategies as st

from services.protocols.wmbus import TelegramError, TelegramRefusal, decode, encode, link_address, meter_address


def read(frame: bytes, key: bytes | None = None) -> dict[str, Any]:
    return {record.name: record.value for record in decode(frame, key).records}


def refusal(frame: bytes, key: bytes | None = None) -> TelegramError:
    with pytest.raises(TelegramError) as refused:
        decode(frame, key)
    assert str(refused.value).endswith(".")
    return refused.value


# --- Diehl -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [own.FIRST_KEY, own.SECOND_KEY])
@pytest.mark.parametrize("ci", [0xA0, 0xA7])
def test_an_izar_is_read_under_either_public_key(key: bytes, ci: int) -> None:
    telegram = decode(own.prios(own.IZAR, 4366, 4001, date(2020, 12, 31), key=key, ci=ci))
    assert (telegram.id, telegram.version, telegram.type) == ("40302010", 0x85, "water")
    assert {record.name: (record.value, record.unit) for record in telegram.records} == {
        "volume": (4.366, "m³"),
        "target_volume": (4.001, "m³"),
        "target_date": ("2020-12-31", ""),
        "battery_days": (1826.2, "d"),
        "transmission_interval": (8, "s"),
    }
    assert telegram.status == ("underflow",)


def test_a_short_izar_has_its_total_alone_and_its_printed_number() -> None:
    frame = own.prios(own.SAPPEL, 1_248_146, header=b"\x81\x29\x02\x00")
    telegram = decode(frame)
    assert (telegram.id, telegram.version, telegram.type) == ("20E6A1C3", 0, "water")
    values = read(frame)
    assert values["volume"] == 1248.146
    assert "target_volume" not in values
    assert values["printed_number"] == "H15EI114691"
    assert telegram.status == ("general_alarm", "blocked", "mechanical_fraud")


def test_an_izar_whose_months_do_not_add_up_is_refused() -> None:
    assert refusal(own.prios(own.IZAR, 4000, 4001)).kind is TelegramRefusal.RECORD
    assert "public keys" in str(refusal(own.prios(own.IZAR, 4366, 4001, key=bytes(range(8)))))
    assert "too short" in str(refusal(own.prios(own.IZAR, 4366)[:-1].replace(b"\x13", b"\x12", 1)))


@pytest.mark.parametrize("maker", ["HYD", "DME", "EWT", "SPL"])
def test_a_diehl_number_is_the_printed_one_wherever_it_is_told(maker: str) -> None:
    sent = own.diehl_address(maker, "60504030", 0x8B, 0x06)
    frame = own.real_data(sent, bytes.fromhex("0413E0A10100426C5F2C4413AB900100"))
    telegram = decode(frame)
    assert telegram.id == meter_address(frame).id == "60504030"
    told = link_address(frame)
    assert told is not None
    assert (told.id, telegram.type) == ("60504030", "warm water")
    assert read(frame)["volume"] == 106.976
    told = link_address(own.prios(sent, 1, 0))
    assert told is not None
    assert told.id == "60504030"


def test_real_data_whose_check_does_not_fit_give_no_values() -> None:
    frame = bytearray(own.real_data(own.IZAR, bytes.fromhex("0413E0A10100")))
    assert read(bytes(frame)) == {"volume": 106.976}
    frame[17] ^= 1
    telegram = decode(bytes(frame))
    assert not telegram.records
    assert telegram.note


def test_an_ordinary_telegram_of_the_same_makers_keeps_the_standards_order() -> None:
    frame = encode.telegram(own.HYDRUS, bytes.fromhex("7A01000000") + bytes.fromhex("041301000000"))
    assert decode(frame).id == "70605040"


def test_diehls_public_key_is_tried_where_the_owner_has_none_and_said() -> None:
    frame = encode.chained(own.HYDRUS, bytes.fromhex("041301020300"), own.DIEHL_KEY, access=3)
    telegram = decode(frame)
    assert read(frame) == {"volume": 197.121}
    assert "anybody can forge it" in str(telegram.note)
    assert refusal(frame, bytes(16)).kind is TelegramRefusal.KEY
    assert decode(frame, own.DIEHL_KEY).note is None
    stranger = encode.address("SEN", "70605040", 0x7B, 0x07)
    assert (
        refusal(encode.chained(stranger, bytes.fromhex("041301020300"), own.DIEHL_KEY, access=3)).kind
        is TelegramRefusal.KEY
    )


# --- Techem ------------------------------------------------------------------------------------------------------


def test_a_techem_water_meter_adds_its_periods() -> None:
    telegram = decode(own.techem_water(89, 49))
    assert not telegram.certain
    assert read(own.techem_water(89, 49)) == {
        "volume": 13.8,
        "target_volume": 8.9,
        "period_volume": 4.9,
        "target_date": "2024-12-31",
        "date": "2025-03-09",
    }


@pytest.mark.parametrize(
    ("ended", "now", "expected"),
    [
        (date(2024, 6, 30), date(2024, 7, 1), "2024-07-01"),
        (date(2024, 6, 30), date(2024, 6, 30), "2025-06-30"),
        (date(2024, 6, 30), date(2024, 2, 3), "2025-02-03"),
    ],
)
def test_todays_date_of_techem_has_the_year_in_which_it_lies_behind_the_period(
    ended: date, now: date, expected: str
) -> None:
    assert read(own.techem_water(89, 49, ended, now))["date"] == expected


def test_other_meters_of_techem_are_read_in_their_units() -> None:
    ended, now = own.period(date(2023, 12, 31)), own.today(date(2024, 5, 1))
    vario = read(own.techem(0x27, 0x04, b"\x12" + ended + b"\x24\x0e" + now + b"\x10\x0e"))
    assert (vario["energy"], vario["target_energy"], vario["period_energy"]) == (2005.555556, 1005.555556, 1000)
    assert (vario["target_date"], vario["date"]) == ("2023-12-31", "2024-05-01")
    compact = read(own.techem(0x39, 0x43, b"\x10" + ended + b"\x86\x61\x01\x60\x1c\x01\x00"))
    assert (compact["energy"], compact["period_energy"]) == (0x016186 + 0x011C, 0x011C)
    water = read(own.techem(0x70, 0x62, b"\x06\0\0\x01\0\0\0\x03\0"))
    assert (water["volume"], water["target_volume"]) == (0.4, 0.1)
    cost = read(own.techem(0x94, 0x80, b"\x0f" + ended + b"\x2d\x00" + now + b"\x04\x00\x11\xbd\x08\x38\x09"))
    assert (cost["heat_cost_units"], cost["target_heat_cost_units"]) == (4, 45)
    assert (cost["room_temperature"], cost["radiator_temperature"]) == (22.37, 23.6)
    months = b"".join(b"\0" + bytes((n, 2 * n)) for n in range(1, 13))
    halves = read(own.techem(0x50, 0x72, b"\x0c\0" + own.period(date(2024, 9, 28)) + b"\x10\x27\0" + months, ci=0xA2))
    assert (halves["volume"], halves["month_1_difference_volume"], halves["month_12_difference_volume"]) == (
        1000.0,
        0.3,
        3.6,
    )


@pytest.mark.parametrize(
    ("state", "alarm", "status"), [(0, False, ()), (1, True, ("smoke",)), (0x71, None, ("status_71",))]
)
def test_a_smoke_detector_of_techem_says_what_is_known_of_its_state(
    state: int, alarm: bool | None, status: tuple[str, ...]
) -> None:
    frame = own.techem(0x76, 0xF0, bytes((state,)) + own.period(date(2023, 12, 31)))
    assert read(frame) == {"smoke_alarm": alarm, "service_date": "2023-12-31"}
    assert decode(frame).status == status


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (own.techem_water(1, 1, first=7), "first byte 07"),
        (own.techem(0x74, 0x72, b"\x06\x00\x00"), "date of its period"),
        (own.techem(0x74, 0x72, b"\x06" + own.period(date(2024, 12, 31)) + b"\0\0\xf0\x05\0\0"), "today's date"),
        (encode.telegram(encode.address("TCH", "1" * 8, 0x76, 0xF0), b"\xa0\x00\x9f"), "too short"),
        (
            own.techem(0x69, 0x80, b"\x11" + own.period(date(2023, 12, 31)) + b"\0\0\0\x02\0\0\xff\x7f\0\0"),
            "no temperature",
        ),
        (
            own.techem(0x50, 0x72, b"\x0c\0" + own.period(date(2024, 9, 28)) + b"\x01\0\0\0\xff\xff"),
            "more than their total",
        ),
    ],
)
def test_what_is_not_plausible_for_techem_is_refused_with_the_reason(frame: bytes, why: str) -> None:
    assert why in str(refusal(frame))


def test_a_meter_of_techem_that_nobody_knows_gives_its_header() -> None:
    telegram = decode(own.techem(0x99, 0x62, b"\x06"))
    assert (telegram.id, telegram.records) == ("20304050", [])
    assert "own coding" in str(telegram.note)


# --- Qundis ------------------------------------------------------------------------------------------------------


def test_a_walk_by_record_of_qundis_is_read_beside_what_stands_in_the_clear() -> None:
    values = read(own.walk_by(0x13, 39729, 30358, 39726, [10, None, *range(10)]))
    assert values["volume"] == 39.729
    assert (values["target_year_volume"], values["target_year_date"]) == (30.358, "2023-12-31")
    assert (values["target_volume"], values["target_date"]) == (39.726, "2024-08-31")
    assert (values["month_1_difference_volume"], values["month_2_difference_volume"]) == (0.01, None)
    assert (values["error_date"], values["datetime"]) == (None, "2025-09-03T15:30")


@pytest.mark.parametrize(
    ("code", "name", "value"),
    [
        (0x05, "energy", 12.3),
        (0x06, "energy", 123),
        (0x0D, "energy", 3.416667),
        (0x0E, "energy", 34.166667),
        (0x6E, "heat_cost_units", 123),
    ],
)
def test_the_code_in_a_walk_by_record_says_what_its_values_are(code: int, name: str, value: float) -> None:
    assert read(own.walk_by(code, 123, 0, 0, [0] * 12))[name] == value


def test_an_encrypted_walk_by_record_gives_nothing_but_what_stands_in_the_clear() -> None:
    telegram = decode(own.walk_by(0, 0, 0, 0, [], seal=bytes(range(0xC9, 0xC9 + 43))))
    assert [record.name for record in telegram.records] == ["datetime"]
    assert "encrypted" in str(telegram.note)
    digits = bytes.fromhex("13FFFF0000A0000000") + bytes(34)
    assert "encrypted" in str(decode(own.walk_by(0, 0, 0, 0, [], seal=digits)).note)


def test_the_meter_behind_a_qundis_adapter_is_the_one_that_it_names() -> None:
    telegram = decode(own.walk_by(0x6E, 127, 145, 79, [1] * 12, adapter=bytes.fromhex("0779443322119344 2308")))
    assert (telegram.id, telegram.version, telegram.type) == ("11223344", 0x23, "heat cost allocation")
    values = {record.name: record.value for record in telegram.records}
    assert values["enhanced_identification"] == "0823449311223344"


# --- Apator ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, bytes(16)])
def test_registers_of_an_apator_are_walked_to_the_total(key: bytes | None) -> None:
    registers = own.apator_registers(17579, before=b"\x43\x01\x02\x71" + bytes(9), fill=13)
    assert len(registers) % 16 == 14
    telegram = decode(own.apator(registers, bytes(16)), key)
    assert [record.value for record in telegram.records] == [17.579]
    assert telegram.certain


def test_every_flipped_bit_of_an_apators_registers_is_refused() -> None:
    frame = own.apator(own.apator_registers(17579))
    for bit in range(17 * 8, len(frame) * 8):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        assert read(frame)["volume"] == 17.579
        try:
            values = read(bytes(damaged))
        except TelegramError:
            continue
        assert "volume" not in values, bit


def test_an_apator_says_which_register_it_does_not_know() -> None:
    assert "register 99 has no known length" in str(refusal(own.apator(own.apator_registers(1, before=b"\x99"))))
    assert "no register holds a total" in str(refusal(own.apator(own.apator_registers(1, before=b"\xff"))))


def test_registers_without_a_crc_are_read_where_nothing_about_them_is_strange() -> None:
    frame = own.apator(own.apator_registers(4848, before=b"\x43\x01\x02", first=0x80, fill=7))
    assert read(frame) == {"volume": 4.848}
    assert not decode(frame).certain
    assert "no fill" in str(refusal(frame[:-4] + b"\x00" + frame[-3:]))


@pytest.mark.parametrize(
    ("version", "type_", "volume"), [(4, 0x11, 7177.666667), (0x0F, 0x0F, 7.177667), (3, 3, 7.177667)]
)
def test_older_apators_count_in_thirds(version: int, type_: int, volume: float) -> None:
    sender = encode.address("APT", "0014A808", version, type_)
    message = bytes.fromhex("A01D5400000840030000000005FF05D83D0000")
    assert read(encode.telegram(sender, message)) == {"volume": volume}
    assert "earlier total" in str(refusal(encode.telegram(sender, message[:-1] + b"\x01")))
    assert "instead of 18" in str(refusal(encode.telegram(sender, message[:-1])))


# --- BMeters, BFW, Hydroclima ------------------------------------------------------------------------------------


def test_what_a_hydrodigit_says_behind_its_records_is_read() -> None:
    months = b"".join(n.to_bytes(3, "little") for n in (*range(193, 204), 10_000_000))
    values = read(own.hydrodigit(43964, bytes.fromhex("150A0F000000") + months))
    assert (values["volume"], values["voltage"], values["backward_volume"]) == (43.964, 3.05, 0.015)
    assert (values["january_volume"], values["november_volume"], values["december_volume"]) == (1.93, 2.03, None)
    assert "manufacturer_data" not in values


def test_fraud_and_leak_of_a_hydrodigit_are_told_with_their_dates() -> None:
    telegram = decode(own.hydrodigit(1, bytes.fromhex("8240230417 240531")))
    values = {record.name: record.value for record in telegram.records}
    assert (values["fraud_date"], values["leak_date"], telegram.status) == (
        "2023-04-17",
        "2024-05-31",
        ("sensor_fraud", "leak"),
    )


def test_a_hydrodigit_that_ran_backwards_from_zero_is_below_it() -> None:
    assert read(own.hydrodigit(99_999_999, bytes.fromhex("050B01000000")))["volume"] == -0.001
    assert read(own.hydrodigit(99_999_999, bytes.fromhex("050B00000000")))["volume"] == 99999.999


@pytest.mark.parametrize(
    ("block", "why"), [("050B0000", "shorter"), ("050B00000000112233", "longer"), ("080B", "what nobody knows")]
)
def test_a_block_of_a_hydrodigit_that_does_not_add_up_is_refused(block: str, why: str) -> None:
    assert why in str(refusal(own.hydrodigit(1, bytes.fromhex(block))))


def test_a_bfw_says_units_and_not_energy() -> None:
    values = read(own.bfw(961, 904, [*range(16), 0xABC, 0x321]))
    assert (values["heat_cost_units"], values["target_heat_cost_units"], values["date"]) == (904, 961, "2024-03-17")
    assert [values[f"month_{n}_heat_cost_units"] for n in (1, 2, 3, 18)] == [0x321, 0xABC, 15, 0]
    assert not any("energy" in name for name in values)
    assert "date" in str(refusal(own.bfw(1, 1, [0] * 18, sent="320124")))


def test_temperatures_of_a_hydroclima_are_read_and_its_doubtful_units_are_not() -> None:
    assert read(own.HYDROCLIMA) == {
        "heat_cost_units": 10,
        "date": "2019-12-29",
        "error_flags": 2,
        "average_room_temperature": 18.66,
        "maximum_room_temperature": 47.51,
        "month_average_room_temperature": 15.78,
        "month_average_heater_temperature": 17.47,
    }
    assert "first byte 12" in str(refusal(own.HYDROCLIMA.replace(b"\x0f\x10", b"\x0f\x12")))


# --- own codings that nobody knows -------------------------------------------------------------------------------

COST, WATER = encode.address("XYZ", "01020304", 1, 8), encode.address("XYZ", "01020304", 1, 7)


@pytest.mark.parametrize("contents", ["0403E80300000113 05", "0C1312345678", "053E00000000"])
def test_what_a_meter_of_its_type_cannot_measure_is_no_record(contents: str) -> None:
    frame = encode.telegram(COST, bytes.fromhex("7A01000000" + contents))
    telegram = decode(frame)
    assert not telegram.records
    assert "own coding" in str(telegram.note)
    frame = encode.telegram(COST, bytes.fromhex("7A01000000" + "036E010203"))
    assert read(frame) == {"heat_cost_units": 0x030201}


def test_records_that_end_in_trouble_with_empty_ones_among_them_are_none() -> None:
    telegram = decode(encode.telegram(WATER, bytes.fromhex("7A01000000" + "0013" + "011305" + "04130102")))
    assert not telegram.records
    assert "own coding" in str(telegram.note)


@pytest.mark.parametrize("name", ["wmbus_own", "wmbus_own_guarded"])
def test_damaged_telegrams_of_makers_do_no_harm(name: str) -> None:
    check, seeds = TARGETS[name]
    chance = random.Random(14)
    for _ in range(3000):
        check(mutate(seeds, chance))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 10**6), st.sampled_from((own.FIRST_KEY, own.SECOND_KEY)))
def test_every_total_of_an_izar_comes_back(litres: int, used: int, key: bytes) -> None:
    values = read(own.prios(own.IZAR, litres, max(0, litres - used), key=key))
    assert (values["volume"], values["target_volume"]) == (litres / 1000, max(0, litres - used) / 1000)
