"""Data of a record: its bytes by data type to a number, a text, a date, or to no value where the meter has none."""

import math
import struct
from collections.abc import Callable
from datetime import date
from fractions import Fraction
from typing import Final

from services.protocols.wmbus.vif import Content

Value = float | int | str | bool | None
Convert = Callable[[bytes], Value]

VARIABLE: Final = 0xD
INTEGERS: Final = frozenset((1, 2, 3, 4, 6, 7))
SIZES: Final = (0, 1, 2, 3, 4, 4, 6, 8, 0, 1, 2, 3, 4, None, 6, None)
"""Bytes of data for each data type; None: variable length, and the special functions."""
_INTEGER: Final = 0x4
_BCD: Final = 0xC
_FLOAT: Final = 0x5
_DECIMAL: Final = frozenset((0x9, 0xA, 0xB, 0xC, 0xE))
_DECIMALS: Final = 6
"""To which converted values are rounded, where they have no end."""
_LARGEST_COUNTED: Final = 8
"""Bytes up to which variable binary data is a number rather than a pattern."""


def _scaled(factor: Fraction, offset: Fraction) -> Callable[[int], float]:
    """Return the exact scaling by `factor`; where its values have no end as decimals, they are rounded."""
    numerator, denominator = factor.numerator, factor.denominator
    if offset:
        return lambda raw: _number(Fraction(raw) * factor + offset)
    if denominator == 1:
        return lambda raw: raw * numerator
    if 10 ** denominator.bit_length() % denominator == 0:
        return lambda raw: raw * numerator / denominator
    return lambda raw: round(raw * numerator / denominator, _DECIMALS)


def _number(value: Fraction) -> float:
    return value.numerator if value.denominator == 1 else round(float(value), 9)


def _signed(scale: Callable[[int], float], size: int) -> Convert:
    """Type B: the most negative integer says that there is no value (EN 13757-3, annex A)."""
    invalid = b"\0" * (size - 1) + b"\x80"

    def convert(data: bytes) -> Value:
        return None if data == invalid else scale(int.from_bytes(data, "little", signed=True))

    return convert


def _unsigned(scale: Callable[[int], float]) -> Convert:
    return lambda data: scale(int.from_bytes(data, "little"))


def decimal(data: bytes) -> int | None:
    """Type A: binary coded decimals; a leading F is a minus, any other digit above 9 means that there is no value."""
    digits = data[::-1].hex()
    if digits.isdigit():
        return int(digits)
    if digits[0] == "f" and digits[1:].isdigit():
        return -int(digits[1:])
    return None


def _decimal_scaled(scale: Callable[[int], float]) -> Convert:
    def convert(data: bytes) -> Value:
        number = decimal(data)
        return None if number is None else scale(number)

    return convert


def _digits(data: bytes) -> Value:
    """Decimals that identify something: all of them, with their leading zeros."""
    digits = data[::-1].hex()
    return digits if digits.isdigit() else None


_ADDRESS: Final = 8
"""Bytes of an enhanced identification that is a whole address: as a number it would say nothing."""


def _address(data: bytes) -> Value:
    return data[::-1].hex().upper()


def _real(factor: Fraction, offset: Fraction) -> Convert:
    """Type H: IEEE 754 single, of which seven digits mean something."""

    def convert(data: bytes) -> Value:
        value: float = struct.unpack("<f", data)[0]
        if not math.isfinite(value):
            return None
        return float(f"{value * float(factor) + float(offset):.7g}")

    return convert


def nothing(_data: bytes) -> Value:
    """No value, whatever the data."""
    return None


def pattern(data: bytes) -> Value:
    """Bits or bytes whose meaning only the manufacturer knows, as they are sent."""
    return data.hex().upper() or None


def _text(data: bytes) -> Value:
    """Text is sent last character first, in Latin-1 (EN 13757-3, annex A); what does not print is no text."""
    text = data[::-1].decode("latin-1").strip("\0 ")
    return (text if text.isprintable() else data.hex().upper()) or None


_EVERY_YEAR: Final = 127
_LAST_YEAR: Final = 99
_LATEST_OF_2000S: Final = 80
_THIS_CENTURY: Final = 1


def calendar_date(low: int, high: int, century: int = 0) -> str | None:
    """Type G: day, month and year in 16 bits; a date of every year is `--MM-DD`; an impossible one is none.

    `century` counts hundreds of years after 1900; without one, years up to 80 belong to the 2000s. No meter knows a date
    after 2099: one that says so has set its bits to something else.
    """
    day, month, year = low & 0x1F, high & 0x0F, low >> 5 | (high & 0xF0) >> 1
    every_year = year == _EVERY_YEAR
    if every_year:
        full_year = 2000
    elif year > _LAST_YEAR or century > _THIS_CENTURY:
        return None
    elif century:
        full_year = 1900 + 100 * century + year
    else:
        full_year = (2000 if year <= _LATEST_OF_2000S else 1900) + year
    try:
        text = date(full_year, month, day).isoformat()
    except ValueError:
        return None
    return f"-{text[4:]}" if every_year else text


def _date(data: bytes) -> Value:
    return calendar_date(data[0], data[1])


_LAST_HOUR: Final = 23
_LAST_SIXTIETH: Final = 59


def _clock(hour: int, minute: int, second: int | None = None) -> str | None:
    if hour > _LAST_HOUR or minute > _LAST_SIXTIETH or (second or 0) > _LAST_SIXTIETH:
        return None
    return f"{hour:02}:{minute:02}" if second is None else f"{hour:02}:{minute:02}:{second:02}"


def _moment_f(data: bytes) -> Value:
    """Type F: date and minute in 32 bits, local to the meter; the top bit of the minute says that it is invalid."""
    minute, hour, low, high = data
    if minute & 0x80:
        return None
    return _joined(calendar_date(low, high, hour >> 5 & 3), _clock(hour & 0x1F, minute & 0x3F))


def _moment_i(data: bytes) -> Value:
    """Type I: date and second in 48 bits, local to the meter; the top bit of the minute says that it is invalid."""
    second, minute, hour, low, high, _week = data
    if minute & 0x80:
        return None
    return _joined(calendar_date(low, high), _clock(hour & 0x1F, minute & 0x3F, second & 0x3F))


def _time_j(data: bytes) -> Value:
    """Type J: time of day in 24 bits."""
    second, minute, hour = data
    return _clock(hour, minute, second)


def _joined(day: str | None, clock: str | None) -> str | None:
    return None if day is None or clock is None else f"{day}T{clock}"


_MOMENTS: Final[dict[int, Convert]] = {2: _date, 3: _time_j, 4: _moment_f, 6: _moment_i}


def _flags(data: bytes) -> Value:
    return int.from_bytes(data, "little")


def converter(kind: int, size: int, content: Content, factor: Fraction, offset: Fraction) -> Convert:
    """Choose how `size` bytes of data type `kind` become a value of the given content."""
    if not size:
        return nothing
    if content in ("date", "moment"):
        return nothing if kind in _DECIMAL or kind == _FLOAT else _MOMENTS.get(size, nothing)
    if kind in _DECIMAL:
        return _digits if content == "digits" else _decimal_scaled(_scaled(factor, offset))
    if kind == _FLOAT:
        return _real(factor, offset)
    if content == "flags":
        return _flags
    if content == "digits" and size == _ADDRESS:
        return _address
    if content in ("unsigned", "digits"):
        return _unsigned(_scaled(factor, offset))
    return _signed(_scaled(factor, offset), size)


_TEXT_LENGTHS: Final = range(0xC0)
_POSITIVE_DECIMAL: Final = range(0xC0, 0xCA)
_NEGATIVE_DECIMAL: Final = range(0xD0, 0xDA)
_MINUS: Final = b"\xf0"
"""In front of decimals, which are sent last byte first."""
_BINARY: Final = range(0xE0, 0xF0)
_LONG_BINARY: Final = {**{code: 4 * (code - 0xEC) for code in range(0xF0, 0xF5)}, 0xF5: 48, 0xF6: 64}


def variable_size(length: int) -> int | None:
    """Bytes of data after an LVAR byte (EN 13757-3:2018, table 5); None for the reserved ones."""
    if length in _TEXT_LENGTHS:
        return length
    for lengths in (_POSITIVE_DECIMAL, _NEGATIVE_DECIMAL, _BINARY):
        if length in lengths:
            return length - lengths.start
    return _LONG_BINARY.get(length)


def variable(content: Content, factor: Fraction, offset: Fraction) -> Convert:
    """Choose how data whose first byte is the LVAR becomes a value of the given content."""

    def convert(data: bytes) -> Value:
        length, body = data[0], data[1:]
        if length in _TEXT_LENGTHS:
            return _text(body)
        if not body:
            return None
        if length in _BINARY and len(body) <= _LARGEST_COUNTED:
            return converter(_INTEGER, len(body), content, factor, offset)(body)
        if length in _BINARY or length in _LONG_BINARY:
            return pattern(body)
        digits = body if length in _POSITIVE_DECIMAL else body + _MINUS
        return converter(_BCD, len(digits), content, factor, offset)(digits)

    return convert


def variable_pattern(data: bytes) -> Value:
    """Bytes after their LVAR, as they are sent."""
    return pattern(data[1:])
