"""Wireless M-Bus telegrams made by the project's own encoder: every layer read, and every damage refused."""

import json
import random
from typing import Any

import pytest
from fuzz import TARGETS, mutate
from hypothesis import given, settings
from hypothesis import strategies as st

from services.protocols.wmbus import (
    DataRecord,
    Formats,
    Telegram,
    TelegramError,
    TelegramRefusal,
    decode,
    decode_lines,
    encode,
    link,
    link_address,
    meter_address,
)
from services.protocols.wmbus.crc import crc
from services.protocols.wmbus.security import derive, schedule

KEY = bytes.fromhex("000102030405060708090A0B0C0D0E0F")
KAMSTRUP = encode.address("KAM", "12345678", 0x30, 0x02)
UNKNOWN = encode.address("XYZ", "00001234", 0x01, 0x07)
ENTRIES = encode.omnipower(2.06, 0, 0.003, 0)
POWER = {"import_energy": 2.06, "export_energy": 0, "import_power": 0.003, "export_power": 0}


def plain(*entries: encode.EncodedRecord, sender: bytes = UNKNOWN, status: int = 0) -> bytes:
    return encode.telegram(sender, bytes((0x7A, 1, status, 0, 0)) + encode.records(entries))


def values(telegram: Telegram) -> dict[str, Any]:
    return {record.name: record.value for record in telegram.records}


def read(header: str, data: str) -> DataRecord:
    (record,) = decode(plain(encode.record(header, bytes.fromhex(data)))).records
    return record


def refusal(frame: bytes, key: bytes | None = None, **options: Any) -> TelegramError:
    with pytest.raises(TelegramError) as refused:
        decode(frame, key, **options)
    assert str(refused.value).endswith(".")
    return refused.value


# --- link layer --------------------------------------------------------------------------------------------------


def test_the_checksum_has_the_value_of_its_standard() -> None:
    assert crc(b"123456789") == 0xC2B7


TELEGRAMS = [plain(*ENTRIES), plain(*ENTRIES * 3), plain(*ENTRIES * 5), encode.telegram(UNKNOWN, b"")]


@pytest.mark.parametrize("framed", [encode.format_a, encode.format_b])
@pytest.mark.parametrize("telegram", TELEGRAMS)
def test_block_checksums_are_found_and_taken_off(framed: Any, telegram: bytes) -> None:
    assert decode(framed(telegram)) == decode(telegram)


def test_each_block_is_checked_also_of_a_frame_with_more_bytes_behind_it() -> None:
    stripped = bytes((49,)) + bytes(range(1, 50))
    frame = encode.format_a(stripped)
    assert link.strip(frame + b"\x55") == stripped
    for place in (20, 40, len(frame) - 3):  # one in each block but the first
        damaged = bytearray(frame)
        damaged[place] ^= 1
        with pytest.raises(TelegramError, match=r"The CRC of block [2-4] of 4 \(format A\) does not match"):
            link.strip(bytes(damaged) + b"\x55")


@pytest.mark.parametrize("length", [0, 15, 17, 24, 32])
def test_a_key_has_sixteen_bytes(length: int) -> None:
    with pytest.raises(ValueError, match=f"An AES-128 key has 16 bytes; this one has {length}"):
        schedule(bytes(length))


@pytest.mark.parametrize(("framed", "framing"), [(encode.format_a, "A"), (encode.format_b, "B")])
@pytest.mark.parametrize("telegram", TELEGRAMS)
def test_a_flipped_bit_in_a_block_is_refused(framed: Any, framing: Any, telegram: bytes) -> None:
    frame = framed(telegram)
    for bit in range(len(frame) * 8):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        assert refusal(bytes(damaged), framing=framing).kind in (TelegramRefusal.CHECKSUM, TelegramRefusal.FRAME)


def test_a_flipped_bit_in_a_frame_of_format_a_is_refused_without_being_told_the_format() -> None:
    frame = encode.format_a(TELEGRAMS[1])
    for bit in range(8, len(frame) * 8):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        assert refusal(bytes(damaged)).kind is TelegramRefusal.CHECKSUM


def test_bytes_beyond_the_length_are_dropped() -> None:
    telegram = encode.extended(KAMSTRUP, encode.full(ENTRIES), 77, key=KEY)
    for tail in (b"\0", b"\x3b\x03", bytes(20)):
        assert values(decode(telegram + tail, KEY)) == POWER


@pytest.mark.parametrize("size", [0, 1, 9, 10, 20])
def test_a_telegram_that_is_cut_short_says_so(size: int) -> None:
    assert refusal(plain(*ENTRIES)[:size]).kind is TelegramRefusal.FRAME


def test_the_last_block_checksum_left_by_a_receiver_is_taken_off() -> None:
    telegram = plain(*ENTRIES)
    left = encode.format_a(telegram)[-2:]
    assert values(decode(bytes((telegram[0] + 2,)) + telegram[1:] + left)) == values(decode(telegram))


def test_two_bytes_that_are_no_record_at_the_end_are_taken_for_a_bad_checksum() -> None:
    telegram = plain(*ENTRIES)
    assert refusal(bytes((telegram[0] + 2,)) + telegram[1:] + b"\x04\x13").kind is TelegramRefusal.CHECKSUM


def test_the_end_of_a_telegram_whose_checksum_was_right_is_no_bad_checksum() -> None:
    answer = decode(encode.extended(KAMSTRUP, encode.full(ENTRIES) + b"\x04\x13", 77, key=KEY), KEY)
    assert len(answer.records) == 4
    assert "2 bytes" in str(answer.note)


def test_what_follows_the_last_record_is_said_not_to_be_read() -> None:
    telegram = plain(*ENTRIES)
    answer = decode(bytes((telegram[0] + 4,)) + telegram[1:] + b"\x04\x13\x01\x02")
    assert len(answer.records) == 4
    assert answer.note is not None
    assert "4 bytes" in answer.note


def test_a_field_that_no_meter_sends_is_refused() -> None:
    assert refusal(encode.telegram(UNKNOWN, encode.full(ENTRIES), control=0x53)).kind is TelegramRefusal.UNSUPPORTED


def test_a_radio_adapter_answers_for_its_meter() -> None:
    meter = encode.address("ABC", "87654321", 2, 7)
    frame = encode.chained(UNKNOWN, encode.records(ENTRIES), KEY, access=9, meter=meter, ci=0x72)
    frame = frame[:1] + b"\x08" + frame[2:]
    telegram = decode(frame, KEY)
    assert (telegram.id, telegram.manufacturer) == ("87654321", "ABC")
    assert telegram.link is not None
    assert telegram.link.id == "00001234"
    assert meter_address(frame).id == "87654321"


def test_an_address_is_told_without_a_key() -> None:
    frame = encode.extended(KAMSTRUP, encode.full(ENTRIES), 77, key=KEY)
    address = link_address(encode.format_a(frame))
    assert address == meter_address(frame)
    assert address is not None
    assert (address.id, address.manufacturer, address.version, address.type) == ("12345678", "KAM", 0x30, 2)


def test_a_sealed_telegram_is_dispatched_whatever_its_secret_bytes_look_like() -> None:
    for session in range(600):
        frame = encode.extended(KAMSTRUP, encode.full(ENTRIES), session, key=KEY)
        assert meter_address(frame, "stripped").id == "12345678"


def test_a_telegram_without_data_gives_its_header() -> None:
    telegram = decode(encode.telegram(KAMSTRUP, b"", control=0x47))
    assert (telegram.id, telegram.type, telegram.records) == ("12345678", "electricity", [])


def test_a_frame_of_the_wire_is_read_and_its_checksum_verified() -> None:
    content = bytes.fromhex("0805") + b"\x72" + KAMSTRUP[2:6] + KAMSTRUP[:2] + KAMSTRUP[6:] + bytes(4)
    content += encode.records(ENTRIES)
    head = bytes((0x68, len(content), len(content), 0x68))
    frame = head + content + bytes((sum(content) & 0xFF, 0x16))
    assert values(decode(frame)) == POWER
    damaged = bytearray(frame)
    damaged[25] ^= 1
    refusal(bytes(damaged))


# --- security ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [encode.full(ENTRIES), encode.compact(ENTRIES)])
def test_counter_mode_of_the_link_is_decrypted(message: bytes) -> None:
    telegram = decode(encode.extended(KAMSTRUP, message, 12345, key=KEY), KEY)
    assert values(telegram) == POWER
    assert (telegram.security, telegram.decrypted, telegram.counter) == ("ELL-CTR", True, 12345 >> 4)


def test_a_repeated_telegram_is_decrypted_as_the_one_that_the_meter_sent() -> None:
    frame = bytearray(encode.extended(KAMSTRUP, encode.full(ENTRIES), 12345, key=KEY))
    frame[11] |= 0x12
    assert values(decode(bytes(frame), KEY)) == POWER


def test_a_recorded_telegram_that_was_decrypted_before_is_read_and_not_called_decrypted() -> None:
    frame = bytearray(encode.extended(KAMSTRUP, encode.full(ENTRIES), 12345, key=None))
    frame[16] |= 0x20
    telegram = decode(bytes(frame), KEY)
    assert values(telegram) == POWER
    assert not telegram.decrypted


CONTENTS = encode.records(ENTRIES)
SEALED = {
    "counter": encode.extended(KAMSTRUP, encode.full(ENTRIES), 12345, key=KEY),
    "chained": encode.chained(KAMSTRUP, CONTENTS, KEY, access=42),
    "derived": encode.derived(KAMSTRUP, CONTENTS, KEY, counter=2739),
}


@pytest.mark.parametrize("name", SEALED)
def test_a_key_is_needed_and_must_be_the_right_one(name: str) -> None:
    assert values(decode(SEALED[name], KEY)) == POWER
    assert refusal(SEALED[name]).kind is TelegramRefusal.KEY
    assert refusal(SEALED[name], bytes(16)).kind in (TelegramRefusal.KEY, TelegramRefusal.MAC)


def test_keys_of_mode_7_are_derived_as_the_standard_has_it() -> None:
    keys = derive(KEY, bytes.fromhex("B30A0000"), bytes.fromhex("78563412"))
    assert keys.encryption.hex() == "eccf39d475d730b8284fdfdc1995d52f"
    assert keys.authentication.hex() == "c9cd19ff5a9aad5a6bbda13bd2c4c7ad"


def test_mode_7_verifies_the_message() -> None:
    frame = SEALED["derived"]
    telegram = decode(frame, KEY)
    assert (telegram.authenticated, telegram.counter, telegram.security) == (True, 2739, "TPL-7")
    for at in range(len(frame) - len(CONTENTS), len(frame)):
        damaged = bytearray(frame)
        damaged[at] ^= 0x40
        assert refusal(bytes(damaged), KEY).kind is TelegramRefusal.MAC


def test_a_sealed_telegram_that_damage_made_a_plain_one_is_not_called_decrypted() -> None:
    frame = SEALED["derived"]
    telegram = decode(frame[:10] + b"\x78\x0f" + frame[12:], KEY)
    assert telegram.records
    assert (telegram.decrypted, telegram.authenticated, telegram.security) == (False, False, "none")


def test_mode_7_without_its_code_is_refused() -> None:
    frame = bytearray(SEALED["derived"])
    assert frame[10] == 0x90
    frame[13] &= ~0x04
    assert refusal(bytes(frame), KEY).kind is TelegramRefusal.MAC


def test_what_follows_the_encrypted_blocks_is_plain_text() -> None:
    frame = encode.chained(UNKNOWN, CONTENTS, KEY, access=1)
    tail = bytes.fromhex("0C7978563412")
    frame = bytes((frame[0] + len(tail),)) + frame[1:] + tail
    assert values(decode(frame, KEY))["enhanced_identification"] == "12345678"


def test_another_derivation_of_keys_is_named() -> None:
    frame = bytearray(SEALED["derived"])
    at = frame.index(b"\x7a") + 5
    assert frame[at] == 0x10
    frame[at] = 0x20
    assert "Key derivation 2" in str(refusal(bytes(frame), KEY))


@pytest.mark.parametrize("mode", [2, 8, 13])
def test_other_modes_are_named(mode: int) -> None:
    frame = encode.telegram(UNKNOWN, bytes((0x7A, 1, 0, 0, mode)) + bytes(16))
    assert f"mode {mode} is not supported" in str(refusal(frame, KEY))


def test_a_fragment_is_refused() -> None:
    frame = encode.telegram(UNKNOWN, bytes.fromhex("90020240") + encode.full(ENTRIES))
    assert refusal(frame).kind is TelegramRefusal.UNSUPPORTED


# --- compact frames ----------------------------------------------------------------------------------------------

OWN = [encode.record("0413", encode.integer(1991, 4)), encode.record("8211FD3A", encode.integer(7, 2))]
OWN_COMPACT = encode.telegram(UNKNOWN, encode.compact(OWN))


def test_a_compact_frame_waits_for_its_format() -> None:
    assert refusal(OWN_COMPACT, formats=Formats()).kind is TelegramRefusal.FORMAT


def test_a_full_frame_teaches_the_format_and_a_restart_does_not_forget_it() -> None:
    formats = Formats()
    full = decode(plain(*OWN), formats=formats)
    assert formats.revision == 1
    decode(plain(*OWN), formats=formats)
    assert formats.revision == 1
    kept = json.loads(json.dumps(formats.to_dict()))
    assert values(decode(OWN_COMPACT, formats=Formats(kept))) == values(full)


def test_a_format_frame_teaches_the_format() -> None:
    formats = Formats()
    headers = b"".join(header for header, _ in OWN)
    decode(encode.telegram(UNKNOWN, b"\x69" + crc(headers).to_bytes(2, "little") + headers), formats=formats)
    assert values(decode(OWN_COMPACT, formats=formats)) == values(decode(plain(*OWN)))


def test_the_checksum_of_the_full_frame_is_verified() -> None:
    for at in range(13, len(OWN_COMPACT)):
        damaged = bytearray(OWN_COMPACT)
        damaged[at] ^= 1
        formats = Formats({"": [b"".join(header for header, _ in OWN).hex()]})
        assert refusal(bytes(damaged), formats=formats, framing="stripped").kind is TelegramRefusal.CHECKSUM


def test_a_damaged_store_of_formats_is_left_out() -> None:
    assert Formats({"1234": ["xyz", "84"]}).to_dict() == Formats().to_dict()


def test_formats_of_strangers_do_not_fill_the_memory() -> None:
    formats = Formats()
    known = len(formats.to_dict())
    for storage in range(5000):
        formats.learn(bytes((0x84, 0x80 | storage & 0x0F, 0x80 | storage >> 4 & 0x0F, storage >> 8, 0x13)))
    assert len(formats.to_dict()) == 1024
    assert list(formats.to_dict())[:known] == list(Formats().to_dict())


# --- records -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "data", "name", "value", "unit"),
    [
        ("0404", "CE000000", "energy", 2.06, "kWh"),
        ("0407", "01000000", "energy", 10, "kWh"),
        ("0C0E", "82931100", "energy", 33161.666667, "kWh"),
        ("04FB01", "02000000", "energy", 2000, "kWh"),
        ("04FB09", "02000000", "energy", 555.555556, "kWh"),
        ("04FB0D", "01000000", "energy", 1.163, "kWh"),
        ("04FB8275", "0A000000", "reactive_energy", 1, "kvarh"),
        ("0C13", "78563412", "volume", 12345.678, "m³"),
        ("0A62", "02F0", "difference_temperature", -0.2, "K"),
        ("023B", "2300", "flow", 0.035, "m³/h"),
        ("0247", "0100", "flow", 60, "m³/h"),
        ("042B", "03000000", "power", 0.003, "kW"),
        ("0265", "A008", "external_temperature", 22.08, "°C"),
        ("02FB1A", "BA01", "humidity", 44.2, "%"),
        ("02FD48", "0309", "voltage", 230.7, "V"),
        ("02FD59", "2101", "current", 0.289, "A"),
        ("02FB2E", "8813", "frequency", 500, "Hz"),
        ("0269", "7B00", "pressure", 1.23, "bar"),
        ("0227", "0902", "operating_hours", 12504, "h"),
        ("01FD08", "F0", "access_count", 240, ""),
        ("02FD74", "EE11", "battery_days", 4590, "d"),
        ("01FD71", "A9", "signal", -87, "dBm"),
        ("055B", "0000AC41", "flow_temperature", 21.5, "°C"),
        ("055B", "0000C07F", "flow_temperature", None, "°C"),
        ("0278", "0100", "fabrication_number", 1, ""),
        ("0C78", "75376800", "fabrication_number", "00683775", ""),
        ("4413", "01000000", "storage_1_volume", 0.001, "m³"),
        ("1259", "E803", "maximum_flow_temperature", 10, "°C"),
        ("2259", "E803", "minimum_flow_temperature", 10, "°C"),
        ("3222", "0500", "error_on_hours", 5, "h"),
        ("8C1005", "01000000", "tariff_1_energy", 0.1, "kWh"),
        ("844014", "01000000", "subunit_1_volume", 0.01, "m³"),
        ("8CC21106", "01000000", "storage_36_tariff_4_subunit_1_energy", 1, "kWh"),
        ("04933C", "01000000", "backward_volume", 0.001, "m³"),
        ("04933B", "01000000", "forward_volume", 0.001, "m³"),
        ("0484FC01", "01000000", "phase_1_energy", 0.01, "kWh"),
        ("04A922", "01000000", "power_per_hour", 0.00001, "kW/h"),
        ("0492FF07", "01000000", "manufacturer_07_volume", 0.0001, "m³"),
        ("04FF07", "01000000", "manufacturer_07", 1, ""),
        ("02BB56", "0200", "last_exceeded_lower_limit_flow_duration", 7200, "s"),
        ("02ED39", "BF2C", "start_datetime", "2021-12-31", ""),
        ("02E579", "0100", "external_temperature", 0.02, "°C"),
        ("02EA16", "0100", "invalid_pressure", None, "bar"),
        ("02FD7F", "0100", "vif_fd7f", 1, ""),
        ("02CB7F", "0100", "vife_7f_flow", 0.0036, "m³/h"),
    ],
)
def test_a_record_is_named_scaled_and_given_its_unit(header: str, data: str, name: str, value: Any, unit: str) -> None:
    record = read(header, data)
    assert (record.name, record.value, record.unit) == (name, value, unit)


@pytest.mark.parametrize("data", ["A8550000", "4855EE00", "FFFFFFFF", "0000A0FF"])
def test_decimals_with_other_digits_are_no_value(data: str) -> None:
    assert read("0C13", data).value is None


@pytest.mark.parametrize(("header", "data"), [("0113", "80"), ("0213", "0080"), ("0413", "00000080")])
def test_the_most_negative_integer_is_no_value(header: str, data: str) -> None:
    assert read(header, data).value is None


def test_a_record_that_reports_an_error_has_no_value() -> None:
    assert read("049315", "01000000").value is None
    assert read("049300", "01000000").value == 0.001


@pytest.mark.parametrize(
    ("header", "data", "value"),
    [
        ("026C", "BF2C", "2021-12-31"),
        ("026C", "FFFF", None),
        ("026C", "0000", None),
        ("026C", "5E22", None),
        ("026C", "E1F1", "--01-01"),
        ("026C", "61C1", "1999-01-01"),
        ("026C", "81C1", None),
        ("046D", "3B375F31", "2026-01-31T23:59"),
        ("046D", "BB375F31", None),
        ("046D", "2DAB5934", "2026-04-25T11:45"),
        ("046D", "3B385F31", None),
        ("066D", "2D130AE12B00", "2023-11-01T10:19:45"),
        ("066D", "2D930AE12B00", None),
        ("036D", "2D130A", "10:19:45"),
        ("036D", "FFFFFF", None),
        ("05FD70", "00000000", None),
    ],
)
def test_dates_are_read_with_their_validity(header: str, data: str, value: str | None) -> None:
    assert read(header, data).value == value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("0462613231", "12ab"),
        ("00", None),
        ("02E9E4", "äé"),
        ("0201FF", "01FF"),
        ("C27856", 5.678),
        ("D27856", -5.678),
        ("C2A856", None),
        ("E201FF", -0.255),
        ("E0", None),
        ("E9010203040506070809", "010203040506070809"),
        ("F0" + "11" * 16, "11" * 16),
        ("F5" + "11" * 48, "11" * 48),
        ("F6" + "11" * 64, "11" * 64),
    ],
)
def test_data_of_variable_length_is_read_by_its_kind(data: str, value: Any) -> None:
    assert read("0D13", data).value == value


@pytest.mark.parametrize("length", ["CA", "DF", "F7", "FF"])
def test_a_reserved_length_is_refused(length: str) -> None:
    assert "reserved length" in str(refusal(plain(encode.record("0D13", bytes.fromhex(length + "00" * 90)))))


@pytest.mark.parametrize(
    ("header", "data", "value"),
    [
        ("0D6D", "C411223344", None),
        ("0D6D", "D411223344", None),
        ("0D6D", "E43B375F31", "2026-01-31T23:59"),
        ("0D78", "C478560000", "00005678"),
        ("0D78", "D478560000", None),
        ("0D13", "D278F6", None),
    ],
)
def test_data_of_variable_length_means_what_fixed_data_of_its_kind_mean(header: str, data: str, value: Any) -> None:
    assert read(header, data).value == value


def test_records_after_one_of_variable_length_are_read() -> None:
    entries = (encode.record("0D7F", b"\xeb" + bytes(11)), encode.record("0413", encode.integer(5, 4)))
    assert values(decode(plain(*entries)))["volume"] == 0.005


def test_a_unit_in_plain_text_is_read_backwards() -> None:
    record = read("017C03495523", "07")
    assert (record.name, record.value, record.unit) == ("custom_ui", 7, "#UI")


def test_a_unit_that_does_not_print_is_none() -> None:
    record = read("017C03004955", "07")
    assert (record.name, record.unit) == ("custom_ui", "")


@pytest.mark.parametrize(("vife", "value"), [("10", -0.002), ("11", 65.534), ("12", 65534)])
def test_integers_are_presented_as_their_header_says(vife: str, value: float) -> None:
    record = read(f"0293FC{vife}", "FEFF")
    assert (record.name, record.value) == ("absolute_volume" if vife == "10" else "volume", value)


def test_names_do_not_depend_on_the_order_of_records() -> None:
    headers = ("0413", "4413", "841013", "844013", "1413", "04933C", "0484FC01", "0484FC02", "0414")
    entries = [encode.record(header, encode.integer(n, 4)) for n, header in enumerate(headers, start=1)]
    expected = values(decode(plain(*entries)))
    assert len(expected) == len(headers)
    for seed in range(20):
        random.Random(seed).shuffle(entries)
        assert values(decode(plain(*entries))) == expected


def test_the_same_record_twice_keeps_both_values() -> None:
    entries = [encode.record("0413", encode.integer(n, 4)) for n in (1, 2)]
    assert values(decode(plain(*entries))) == {"volume": 0.001, "repeated_1_volume": 0.002}


@pytest.mark.parametrize(
    ("vife", "control", "elements", "history"),
    [
        ("1E", "31", "0102FF80", [1, 2, -1, None]),
        ("1E", "71", "0102FF01", [101, 103, None, None]),
        ("1E", "B1", "0102", [99, 97]),
        ("1E", "F1", "01FE", [101, 99]),
        ("13", "71", "0102", [99, 97]),
        ("13", "39", "1234AA", [12, 34, None]),
        ("13", "7A", "01000200", [99, 97]),
    ],
)
def test_a_compact_profile_gives_the_storages_after_its_own(
    vife: str, control: str, elements: str, history: list[float | None]
) -> None:
    profile = bytes.fromhex(control + "FE" + elements)
    entries = (
        encode.record("840406", encode.integer(100, 4)),
        encode.record("8D0486" + vife, bytes((len(profile),)) + profile),
    )
    telegram = decode(plain(*entries))
    assert [values(telegram)[f"storage_{9 + n}_energy"] for n in range(len(history))] == history
    assert [record.storage for record in telegram.records[2:]] == [9 + n for n in range(len(history))]


def test_what_two_profiles_add_does_not_depend_on_their_order() -> None:
    first = encode.record("8D04861E", bytes.fromhex("0331FE01"))
    second = encode.record("8D04861F", bytes.fromhex("0431FE0203"))
    expected = values(decode(plain(first, second)))
    assert (expected["storage_9_energy"], expected["repeated_1_storage_9_energy"]) == (1, 2)
    assert values(decode(plain(second, first))) == expected


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 6, 7])
@pytest.mark.parametrize("mode", [0x40, 0x80, 0xC0])
def test_changes_of_dates_are_no_dates(mode: int, kind: int) -> None:
    profile = bytes((mode | kind, 0)) + bytes(3 * 8)
    size = (0, 1, 2, 3, 4, 4, 6, 8)[kind]
    entries = (
        encode.record(f"0{kind}6D", bytes.fromhex("3B375F31".ljust(16, "0"))[:size]),
        encode.record("0DED1E", bytes((len(profile),)) + profile),
    )
    records = decode(plain(*entries)).records
    assert len(records) == 2 + 24 // size
    assert [record.value for record in records[2:]] == [None] * (24 // size)


def test_data_of_the_manufacturer_at_the_end_is_kept_as_it_is() -> None:
    entries = (encode.record("0413", encode.integer(5, 4)), encode.record("0F", b"\x12\x34"))
    assert values(decode(plain(*entries))) == {"volume": 0.005, "manufacturer_data": "1234"}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0x00, ()),
        (0x01, ("busy",)),
        (0x06, ("application_error", "power_low")),
        (0x0B, ("alarm", "permanent_error")),
        (0x10, ("temporary_error",)),
        (0x80, ("manufacturer_status_7",)),
    ],
)
def test_the_status_byte_is_put_into_words(status: int, words: tuple[str, ...]) -> None:
    assert decode(plain(*ENTRIES, status=status)).status == words


def test_a_profile_names_what_only_its_meter_means() -> None:
    water = encode.address("KAM", "11223344", 0x1B, 0x16)
    alarms = encode.record("02FF20", bytes.fromhex("7100"))
    stored = encode.record("4413", encode.integer(6408, 4))
    expected = {"alarm_text": "dry on 22-31 days", "month_volume": 6.408}
    assert values(decode(plain(alarms, stored, sender=water))) == expected
    assert values(decode(plain(alarms, stored))) == {"manufacturer_20": 113, "storage_1_volume": 6.408}


def said(maker: str, type_: int, *entries: encode.EncodedRecord) -> dict[str, tuple[Any, str]]:
    frame = plain(*entries, sender=encode.address(maker, "00001234", 1, type_))
    return {record.name: (record.value, record.unit) for record in decode(frame).records}


@pytest.mark.parametrize(
    ("type_", "header", "data", "value"),
    [
        (0x16, "015B", "7F", None),
        (0x16, "015B", "7E", 126),
        (0x04, "015B", "7F", 127),
        (0x04, "025A", "0807", None),
        (0x04, "025E", "18FC", None),
        (0x1B, "02FD46", "FFFF", None),
        (0x02, "015B", "7F", 127),
    ],
)
def test_a_number_that_stands_for_no_probe_is_no_value(type_: int, header: str, data: str, value: float | None) -> None:
    ((found, _),) = said("XYZ", type_, encode.record(header, bytes.fromhex(data))).values()
    assert found == value


def test_a_record_that_reports_an_error_leaves_the_plain_name_to_the_one_with_a_value() -> None:
    for entries in (["0AA618", "0A26"], ["0A26", "0AA618"]):
        values = said("XYZ", 4, *(encode.record(header, encode.decimal(2103, 2)) for header in entries))
        assert values == {"operating_hours": (2103, "h"), "invalid_operating_hours": (None, "h")}


def test_what_a_person_would_call_it() -> None:
    assert said("XYZ", 0x1B, encode.record("027C03324F43", b"\x90\x01")) == {"co2": (400, "ppm")}
    assert said("AXI", 0x07, encode.record("01FD74", b"\x62")) == {"battery_level": (98, "%")}
    assert said("XYZ", 0x07, encode.record("01FD74", b"\x62")) == {"battery_days": (98, "d")}
    for state, word in ((b"\x11\x00", "closed"), (b"\x55\x00", "open"), (b"\x22\x00", None)):
        assert said("LAS", 0x1D, encode.record("02FD1B", state)) == {"contact_text": (word, "")}
    address = bytes.fromhex("7989956793443E04")
    assert said("QDS", 0x37, encode.record("0779", address)) == {"enhanced_identification": ("043E449367958979", "")}
    assert said("XYZ", 0x07, encode.record("046D", bytes.fromhex("3B575F31"))) == {"datetime": (None, "")}


def test_fill_behind_the_mark_of_the_manufacturer_is_no_data() -> None:
    assert said("XYZ", 0x07, encode.record("0113", b"\x05"), encode.record("0F", b"\x2f" * 4)) == {
        "volume": (0.005, "m³")
    }


def test_bytes_behind_the_announced_blocks_are_noted_and_no_reason_to_refuse() -> None:
    contents = b"\x2f\x2f" + encode.records(ENTRIES)
    contents += b"\x2f" * (-len(contents) % 16)
    header = bytes((0x7A, 1, 0, len(contents) // 16 << 4, 5))
    for tail in (b"\x04\x13", b"\xde\x47"):
        telegram = decode(encode.telegram(KAMSTRUP, header + contents + tail))
        assert values(telegram) == POWER
        assert "2 bytes" in str(telegram.note)


def test_a_key_of_des_is_answered_with_what_is_not_supported() -> None:
    sealed = encode.telegram(UNKNOWN, bytes((0x7A, 1, 0, 0x10, 2)) + bytes(16)).hex()
    answers = [
        json.loads(answer) for answer in decode_lines([f"{sealed} 0102030405060708", f"{plain(*ENTRIES).hex()} 0102"])
    ]
    assert "mode 2 is not supported" in answers[0]["error"]
    assert "not a key of 32" in answers[1]["error"]


# --- contents that are not the standard's ------------------------------------------------------------------------


def test_contents_of_the_manufacturer_give_the_header_and_the_reason() -> None:
    telegram = decode(encode.telegram(UNKNOWN, b"\xa2" + bytes(20)))
    assert (telegram.id, telegram.records) == ("00001234", [])
    assert "CI A2" in str(telegram.note)


def test_a_diehl_meter_in_its_own_coding_is_named_by_its_number() -> None:
    sent = encode.address("HYD", "12345678", 0x20, 0x04)
    turned = sent[:2] + sent[6:] + sent[2:6]
    telegram = decode(encode.telegram(turned, b"\xa8" + bytes(20)))
    assert (telegram.id, telegram.version, telegram.type) == ("12345678", 0x20, "heat")


@pytest.mark.parametrize(("contents", "known"), [(CONTENTS, True), (bytes.fromhex("22354D85EE59"), False)])
def test_a_mode_of_the_manufacturer_is_read_where_its_contents_are_records(contents: bytes, known: bool) -> None:
    telegram = decode(encode.telegram(UNKNOWN, b"\x7a\x01\x00\x45\x75" + contents))
    assert bool(telegram.records) is known
    assert (telegram.note is None) is known


def test_errors_and_alarms_of_the_meter_are_told() -> None:
    assert "busy" in str(decode(encode.telegram(UNKNOWN, b"\x70\x08")).note)
    assert values(decode(encode.telegram(UNKNOWN, b"\x71\x05"))) == {"alarm_flags": 5}


@pytest.mark.parametrize("ci", [0x7C, 0x81, 0x86, 0x51])
def test_other_contents_are_named_and_refused(ci: int) -> None:
    assert f"CI {ci:02X}" in str(refusal(encode.telegram(UNKNOWN, bytes((ci,)) + bytes(20))))


# --- lines -------------------------------------------------------------------------------------------------------


def test_lines_are_answered_in_order_with_the_fields_that_are_promised() -> None:
    sealed = SEALED["chained"].hex()
    answers = [
        json.loads(answer)
        for answer in decode_lines(
            [f"{sealed} {KEY.hex()}\n", "\n", "zz", "123", f"{sealed} 00", f"{sealed} a b", sealed]
        )
    ]
    first, *refused = answers
    assert list(first) == ["id", "manufacturer", "version", "type", "security", "records"]
    assert first["id"] == "12345678"
    assert first["records"][0] == {
        "name": "import_energy",
        "quantity": "energy",
        "unit": "kWh",
        "value": 2.06,
        "function": "instantaneous",
        "storage": 0,
        "tariff": 0,
        "subunit": 0,
    }
    assert [list(answer) for answer in refused] == [["error"]] * 5


def test_a_compact_frame_after_the_full_one_is_read_from_lines() -> None:
    lines = [OWN_COMPACT.hex(), plain(*OWN).hex(), OWN_COMPACT.hex()]
    before, full, after = map(json.loads, decode_lines(lines))
    assert "error" in before
    assert after["records"] == full["records"]


# --- anything ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wmbus", "wmbus_guarded", "wmbus_sealed", "wmbus_lines"])
def test_damaged_telegrams_do_no_harm(name: str) -> None:
    check, seeds = TARGETS[name]
    chance = random.Random(11)
    for _ in range(3000):
        check(mutate(seeds, chance))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=260))
def test_any_bytes_do_no_harm(data: bytes) -> None:
    TARGETS["wmbus"].check(data)
    TARGETS["wmbus"].check(encode.telegram(UNKNOWN, b"\x78" + data[:240]))
    TARGETS["wmbus_guarded"].check(data)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(2**31) + 1, 2**31 - 1), min_size=4, max_size=4), st.binary(min_size=16, max_size=16))
def test_every_value_survives_every_security(numbers: list[int], key: bytes) -> None:
    entries = [
        encode.EncodedRecord(entry.header, encode.integer(n, 4)) for entry, n in zip(ENTRIES, numbers, strict=True)
    ]
    expected = [number / scale for number, scale in zip(numbers, (100, 100, 1000, 1000), strict=True)]
    for frame in (
        encode.extended(KAMSTRUP, encode.full(entries), 5, key=key),
        encode.extended(KAMSTRUP, encode.compact(entries), 5, key=key),
        encode.chained(KAMSTRUP, encode.records(entries), key, access=1),
        encode.derived(KAMSTRUP, encode.records(entries), key, counter=5),
    ):
        assert [record.value for record in decode(frame, key).records] == expected
