"""Telegrams in makers' own codings, made from their tables by code of its own: what the decoders take apart, put together."""

from datetime import date

from services.protocols.wmbus import encode
from services.protocols.wmbus.crc import crc

FIRST_KEY, SECOND_KEY = bytes.fromhex("39BC8A10E66D83F8"), bytes.fromhex("51728910E66D83F8")
DIEHL_KEY = SECOND_KEY * 2


def type_g(day: date) -> bytes:
    """A date in the standard's 16 bits."""
    year = day.year - 2000
    return bytes(((year & 7) << 5 | day.day, year >> 3 << 4 | day.month))


def diehl_address(maker: str, number: str, version: int, type_: int) -> bytes:
    """An address as Diehl's own codings send it: version and type before the number."""
    sent = encode.address(maker, number, version, type_)
    return sent[:2] + sent[6:] + sent[2:6]


def prios(
    sender: bytes,
    litres: int,
    last: int | None = None,
    day: date = date(2024, 2, 29),
    *,
    header: bytes = b"\x11\x0a\x40\x13",
    key: bytes = FIRST_KEY,
    ci: int = 0xA1,
) -> bytes:
    """An IZAR; without the `last` month's total it is a short telegram."""
    plain = b"\x4b" + litres.to_bytes(4, "little")
    if last is not None:
        plain += last.to_bytes(4, "little") + type_g(day)
    register = int.from_bytes(key[:4], "big") ^ int.from_bytes(key[4:], "big")
    for word in (sender[:4], sender[4:], bytes((ci,)) + header[:3]):
        register ^= int.from_bytes(word, "big")
    hidden = bytearray()
    for byte in plain:
        for _ in range(8):
            new = sum(register >> bit for bit in (1, 2, 11, 31)) & 1
            register = register << 1 & 0xFFFFFFFF | new
        hidden.append(byte ^ register & 0xFF)
    return encode.telegram(sender, bytes((ci,)) + header + hidden)


def real_data(sender: bytes, records: bytes, *, ci: int = 0x7A) -> bytes:
    """Diehl's real data: records behind a header whose last byte repeats their sum."""
    check = sum(records) & 0xEF | 0x10
    return encode.telegram(sender, bytes((ci, 7, 0, 0x10, check)) + records)


def period(day: date) -> bytes:
    """A date of a period at Techem: day, month, year from the lowest bit on."""
    return (day.day | day.month << 5 | (day.year - 2000) << 9).to_bytes(2, "little")


def today(day: date) -> bytes:
    """Today's date at Techem: day and month."""
    return (day.day << 4 | day.month << 9).to_bytes(2, "little")


def techem(version: int, type_: int, contents: bytes, *, ci: int = 0xA2, number: str = "20304050") -> bytes:
    """A message of Techem, filled up to the 34 bytes that a common one has."""
    return encode.telegram(encode.address("TCH", number, version, type_), bytes((ci,)) + contents.ljust(34, b"\0"))


def techem_water(
    previous: int, current: int, ended: date = date(2024, 12, 31), now: date = date(2025, 3, 9), first: int = 6
) -> bytes:
    """A mkradio3; volumes in 0.1 m³."""
    contents = bytes((first,)) + period(ended) + previous.to_bytes(2, "little") + today(now)
    return techem(0x74, 0x72, contents + current.to_bytes(2, "little"))


def walk_by(
    code: int,
    now: int,
    year_end: int,
    month_end: int,
    months: list[int | None],
    *,
    seal: bytes = b"",
    adapter: bytes = b"",
) -> bytes:
    """A Qundis walk-by message, its date and time in the clear behind it; `seal` takes the place of its values."""
    values = (
        b"\xff\xff"
        + encode.decimal(now, 4)
        + type_g(date(2023, 12, 31))
        + encode.decimal(year_end, 4)
        + type_g(date(2024, 8, 31))
        + encode.decimal(month_end, 4)
        + b"".join((0x8000 if one is None else one).to_bytes(2, "little") for one in months)
    )
    block = bytes.fromhex("0082230000510107C1") + (seal or bytes((code,)) + values) + b"\x2f"
    contents = adapter + bytes.fromhex("0DFF5F35") + block + bytes.fromhex("046D1E0F2339")
    sender = encode.address("QDS", "11223344", 0x37 if adapter else 0x17, 0x37 if adapter else 0x06)
    return encode.telegram(sender, b"\x78" + contents)


def apator_registers(litres: int, *, before: bytes = b"", fill: int = 5, first: int = 0x0F) -> bytes:
    """The registers of an Apator 162, with their CRC where they begin with 0F."""
    body = bytes((first,)) + bytes.fromhex("21436587A90201")[:7] + before
    body += b"\x10" + litres.to_bytes(4, "little") + b"\xa0\x01\x02\x03\x04" + b"\xff" * fill
    return body + (crc(body).to_bytes(2, "big") if first == 0x0F else b"\x12\x34")


APATOR = encode.address("APA", "31415926", 0x05, 0x07)


def apator(registers: bytes, key: bytes | None = None) -> bytes:
    """An Apator 162 in mode 5, with registers that fill its blocks."""
    if key is not None:
        return encode.chained(APATOR, registers, key, access=9)
    plain = b"\x2f\x2f" + registers
    return encode.telegram(APATOR, bytes((0x7A, 9, 0, len(plain) // 16 << 4, 5)) + plain)


def hydrodigit(total: int, block: bytes, *, version: int = 0x13) -> bytes:
    """A BMeters Hydrodigit, its total in litres."""
    sender = encode.address("BMT", "55667788", version, 0x07)
    contents = b"\x0c\x13" + encode.decimal(total, 4) + b"\x0f" + block
    return encode.telegram(sender, bytes((0x7A, 5, 0, 0, 0)) + contents)


def bfw(previous: int, current: int, months: list[int], sent: str = "170324") -> bytes:
    """A BFW 240; eighteen months from the oldest on, the date as DDMMYY."""
    pairs = b"".join(
        bytes((older & 0xFF, older >> 8 << 4 | newer >> 8, newer & 0xFF))
        for older, newer in zip(months[::2], months[1::2], strict=True)
    )
    contents = b"\x2f\x2f\x12\x34" + previous.to_bytes(2, "big") + current.to_bytes(2, "big") + b"\x15\x2a"
    sender = encode.address("BFW", "00515253", 0x02, 0x08)
    return encode.telegram(sender, bytes.fromhex("7A0DC00000") + contents + pairs + bytes.fromhex(sent))


IZAR = diehl_address("HYD", "40302010", 0x85, 0x07)
SAPPEL = encode.address("SAP", "20E6A1C3", 0x15, 0x04)
HYDRUS = encode.address("DME", "70605040", 0x7B, 0x07)
HYDROCLIMA = encode.telegram(
    encode.address("BMP", "31323334", 0x53, 0x08),
    bytes.fromhex("7A03000000 036E0A0000 0F 10 0200 106A 7D2C 4A07 8F12 202C B124 2A06 D306 2100 210000"),
)

SEEDS = (
    prios(IZAR, 123456, 120000),
    prios(SAPPEL, 98765, header=b"\x81\x89\x00\x13", key=SECOND_KEY),
    real_data(diehl_address("HYD", "40302010", 0x8B, 0x06), bytes.fromhex("0413E0A10100426C5F2C4413AB900100")),
    encode.chained(HYDRUS, bytes.fromhex("0413010203000223FD"), DIEHL_KEY, access=3),
    techem_water(123, 45),
    techem(0x95, 0x62, b"\x06\0\0" + bytes.fromhex("7B00000F00")),
    techem(0x27, 0xC3, b"\x12" + period(date(2023, 12, 31)) + b"\x10\x20" + today(date(2024, 5, 1)) + b"\x01\x02"),
    techem(0x45, 0x43, b"\x10" + period(date(2023, 12, 31)) + b"\x01\x02\x00\x60\x05\x00\x00"),
    techem(
        0x69,
        0x80,
        b"\x11" + period(date(2023, 12, 31)) + b"\x10\x02" + today(date(2024, 5, 1)) + bytes.fromhex("0102C408F709"),
    ),
    techem(0x50, 0x72, bytes.fromhex("0C00") + period(date(2024, 9, 28)) + bytes.fromhex("107700002934003730")),
    techem(0x76, 0xF0, b"\x00" + period(date(2023, 12, 31))),
    walk_by(0x13, 39729, 30358, 39726, [10, 101, None] * 4),
    walk_by(0x6E, 127, 145, 79, [1] * 12, adapter=bytes.fromhex("0779443322119344 2308")),
    apator(apator_registers(17579, before=b"\x43\x01\x02", fill=8)),
    apator(apator_registers(4848, first=0x80)),
    encode.telegram(
        encode.address("APT", "0014A808", 4, 0x11), b"\xa0" + bytes.fromhex("1D5400000840030000000005FF05D83D0000")
    ),
    hydrodigit(3866, bytes.fromhex("050B0F000000")),
    hydrodigit(3866, bytes.fromhex("950A 240517 10000000") + b"\x01\x02\x00" * 12),
    bfw(961, 904, list(range(18))),
    HYDROCLIMA,
)
"""One of each coding."""
