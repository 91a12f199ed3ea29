"""Long fuzzing of the decoders by command: `python -m tests.fuzz NAME COUNT [SEED]`.

Each target is a function on bytes that returns on refused and on good input alike, and raises AssertionError (or lets
any other exception through) when the decoder misbehaves. Inputs are its seeds, cut, joined, damaged and made up.
"""

import math
import random
import re
import resource
import sys
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import msgspec

sys.path.insert(0, str(Path(__file__).parent))  # run as a module, or imported by a test
import own_telegrams

from services.protocols import daly, im871a, jbd, rtlwmbus
from services.protocols.battery import BatteryError, BatteryProtocol, Frame, Pack
from services.protocols.wmbus import (
    DataRecord,
    Formats,
    TelegramError,
    decode,
    decode_lines,
    encode,
    link_address,
    meter_address,
)
from services.protocols.wmbus.link import Framing
from services.protocols.wmbus.security import BLOCK

KEY = bytes(range(16))
_SENDER = encode.address("KAM", "32666857", 0x30, 0x02)
_ENTRIES = encode.omnipower(1234.56, 7.89, 1.234, 0.5)
_MIXED = [
    encode.record("0C13", encode.decimal(12345678, 4)),
    encode.record("426C", bytes.fromhex("BF2C")),
    encode.record("046D", bytes.fromhex("3B375F31")),
    encode.record("0D78", b"\x04abcd"),
    encode.record("8D04931E", b"\x07\x72\xfe\x01\x00\x02\x00\x03"),
    encode.record("055B", bytes.fromhex("0000A841")),
    encode.record("02FD17", b"\x01\x00"),
]
_STRANGE = [
    encode.record("066D", bytes.fromhex("2D130AE12B00")),
    encode.record("036D", bytes.fromhex("2D130A")),
    encode.record("0DED1E", b"\x08\x43\x00" + bytes.fromhex("010000020000")),
    encode.record("0D6D", bytes.fromhex("E43B375F31")),
    encode.record("8D01931F", bytes.fromhex("06B2010100FFFF")),
    encode.record("01FC034955233C", b"\x07"),
    encode.record("0D78", bytes.fromhex("C478563412")),
    encode.record("B48010FDC8FC01", encode.integer(-5, 4)),
    encode.record("03FFA021", b"\x01\x02\x03"),
]
_SESSION = 0x1234567
_FORMATS = Formats()


class _Guarded(NamedTuple):
    """A frame whose every bit from `start` on is under a checksum, in groups that a burst of 16 bits cannot deceive."""

    frame: bytes
    framing: Framing
    start: int


_PLAIN = encode.telegram(_SENDER, b"\x7a\x01\x00\x00\x00" + encode.records(_MIXED))
_LONG = encode.telegram(_SENDER, b"\x7a\x01\x00\x00\x00" + encode.records(_MIXED * 3))
GUARDED = (
    _Guarded(encode.format_a(_PLAIN), "A", 0),
    _Guarded(encode.format_a(_LONG), "A", 0),
    _Guarded(encode.format_b(_PLAIN), "B", 1),
    _Guarded(encode.format_b(_LONG), "B", 1),
    _Guarded(encode.extended(_SENDER, encode.full(_ENTRIES), _SESSION, key=KEY), "stripped", 17),
    _Guarded(encode.extended(_SENDER, encode.compact(_ENTRIES), _SESSION, key=KEY), "stripped", 17),
    _Guarded(encode.derived(_SENDER, encode.records(_MIXED), KEY, counter=77), "stripped", 10),
)
TELEGRAMS = (
    _PLAIN,
    _LONG,
    encode.telegram(_SENDER, encode.full(_STRANGE)),
    *(guarded.frame for guarded in GUARDED),
    encode.extended(_SENDER, encode.full(_ENTRIES), _SESSION, key=None),
    encode.chained(_SENDER, encode.records(_MIXED), KEY, access=5),
    encode.chained(_SENDER, encode.records(_MIXED), KEY, access=5, meter=_SENDER, ci=0x72),
)


@lru_cache(maxsize=1 << 16)
def _is_name(text: str) -> bool:
    return re.fullmatch("[a-z0-9]+(_[a-z0-9]+)*", text) is not None


def wmbus(data: bytes) -> None:
    """Refuse any bytes with a sentence, or read finite values under unique, proper names."""
    try:
        link_address(data)
        meter_address(data)
        telegram = decode(data, KEY if data[-1:] > b"\x7f" else None, formats=_FORMATS)
    except TelegramError as error:
        refused = str(error)
    else:
        return _proper(telegram.records)
    assert refused.endswith("."), refused
    return None


def _proper(records: list[DataRecord]) -> None:
    names = [record.name for record in records]
    assert len(set(names)) == len(names), names
    for record in records:
        assert _is_name(record.name), record
        assert not isinstance(record.value, float) or math.isfinite(record.value), record


def wmbus_guarded(data: bytes) -> None:
    """Refuse what a burst of up to 16 damaged bits under a checksum made, or read the same values.

    Damage to the header of a sealed telegram can make a plain one of it, which nobody with a key believes.
    """
    if len(data) < 5:
        return
    frame, framing, start = GUARDED[data[0] % len(GUARDED)]
    bits = (len(frame) - start) * 8
    pattern = int.from_bytes(data[3:5], "big") | 1
    place = int.from_bytes(data[1:3], "big") % (bits - 15)
    damaged = (int.from_bytes(frame, "big") ^ pattern << place).to_bytes(len(frame), "big")
    try:
        telegram = decode(damaged, KEY, framing=framing)
    except TelegramError:
        return
    if telegram.records and (telegram.decrypted or framing != "stripped"):
        assert telegram.records == decode(frame, KEY, framing=framing).records, (
            f"{damaged.hex()} was taken for {telegram}"
        )


_MOST_CONTENTS = 190


def wmbus_sealed(data: bytes) -> None:
    """Read the same from sealed contents as from open ones, or refuse them for the same reason."""
    contents = data[1:_MOST_CONTENTS]
    padded = b"\x2f\x2f" + contents + b"\x2f" * (-(len(contents) + 2) % BLOCK)
    message = b"\x7a\x05\x00\x00\x00" + padded
    match sum(contents) % 3:
        case 0:
            sealed = encode.chained(_SENDER, contents, KEY, access=5)
        case 1:
            sealed = encode.derived(_SENDER, contents, KEY, counter=77)
        case _:
            sealed = encode.extended(_SENDER, message, _SESSION, key=KEY)
    assert _said(sealed) == _said(encode.extended(_SENDER, message, _SESSION, key=None))


def _said(telegram: bytes) -> tuple[list[DataRecord], str | None]:
    try:
        read = decode(telegram, KEY, formats=_FORMATS, framing="stripped")
    except TelegramError as error:
        return [], str(error)
    _proper(read.records)
    return read.records, read.note


def wmbus_own(data: bytes) -> None:
    """As `wmbus`, for makers' own codings: refuse with a sentence, or read what a meter can show."""
    try:
        telegram = decode(data, framing="stripped")
    except TelegramError as error:
        refused = str(error)
        assert refused.endswith("."), refused
        return
    _proper(telegram.records)
    for record in telegram.records:
        if record.name.endswith(("room_temperature", "radiator_temperature")) and record.value is not None:
            assert -20 <= record.value <= 120, record  # type: ignore[operator]


_APATOR = own_telegrams.apator(own_telegrams.apator_registers(17579, before=b"\x43\x01\x02"))
_APATOR_START = 18
"""Behind the byte that says that these are registers: without it they are records of the standard."""


def wmbus_own_guarded(data: bytes) -> None:
    """Read no total past the CRC of Apator's registers, whatever burst of up to 16 bits damaged them."""
    if len(data) < 4:
        return
    bits = (len(_APATOR) - _APATOR_START) * 8
    place = int.from_bytes(data[:2], "big") % (bits - 15)
    pattern = int.from_bytes(data[2:4], "big") | 1
    damaged = (int.from_bytes(_APATOR, "big") ^ pattern << place).to_bytes(len(_APATOR), "big")
    try:
        telegram = decode(damaged, framing="stripped")
    except TelegramError:
        return
    assert not any(record.name == "volume" for record in telegram.records), damaged.hex()


def wmbus_lines(data: bytes) -> None:
    """Answer any text with one JSON line for each line that is not blank."""
    lines = data.decode("latin-1").splitlines()
    answers = [msgspec.json.decode(answer) for answer in decode_lines(lines, KEY)]
    assert len(answers) == sum(bool(line.split()) for line in lines)
    assert all(("error" in answer) != ("records" in answer) for answer in answers)


_GOOD = im871a.DongleMessage(im871a.Endpoint.RADIO, im871a.TELEGRAM, _PLAIN[1:], rssi=0x4C)
_FRAME = im871a.encode(_GOOD)
_KNOWN = (_GOOD, im871a.PING, im871a.RESET)


def dongle(data: bytes) -> None:
    """Find a good frame after any bytes and before any, and keep no more than one frame.

    By chance (1 in 65536) noise and the start of a frame make a frame of their own, told by its strange message.
    """
    assembler = im871a.DongleAssembler()
    messages = assembler.feed(data)
    assert len(assembler._buffer) < im871a.LONGEST
    messages += assembler.feed(_FRAME + data)
    messages += assembler.pause()
    assert any(message not in _KNOWN for message in messages) or _GOOD in messages
    assert not assembler._buffer


def rtl_line(data: bytes) -> None:
    """Read any line, or refuse it with a sentence."""
    refused = "."
    try:
        rtlwmbus.parse(data.decode("latin-1"))
    except ValueError as error:
        refused = str(error)
    assert refused.endswith("."), refused


_PACK = Pack(
    name="SHED 13S",
    cell_voltages=(3.3, 3.447, 3.305, 0.0),
    current=-12.5,
    remaining_charge=468.71,
    nominal_charge=560,
    cycles=231,
    probe_temperatures=(-10.0, 24.5),
    balancing_cells=(1, 16, 18),
    alarms=("cell_overvoltage",),
)
_LONGEST_FRAME = 262


def _answers(protocol: BatteryProtocol) -> list[bytes]:
    return [protocol.answer(request.frame, _PACK) or b"" for request in protocol.REQUESTS]


_JBD = _answers(jbd)
_DALY = _answers(daly)


def battery(protocol: BatteryProtocol, data: bytes) -> None:
    """Find only frames that are in any fragments; name finite values of any data, or refuse them with a sentence."""
    assembler = protocol.assembler()
    size = 1 + data[-1] % 40 if data else 1
    found = [one for at in range(0, len(data), size) for one in assembler.feed(data[at : at + size])]
    assert len(assembler._buffer) <= _LONGEST_FRAME
    frames = [one for one in found if isinstance(one, Frame)]
    for frame in frames:
        assert frame.data in data
    for request in protocol.REQUESTS:
        announced = 2 * request.frame[5] if protocol is daly else len(data)
        answer = Frame(request.frame[2], 0, data.ljust(announced, b"\0")[:announced])
        for frame in (*frames, answer):
            refused = "."
            try:
                named = protocol.measurements(request, frame) or {}
            except BatteryError as error:
                refused, named = str(error), {}
            assert refused.endswith("."), refused
            assert all(map(_is_name, named)), named
            assert all(math.isfinite(value) for value in named.values() if isinstance(value, float)), named


def battery_guarded(protocol: BatteryProtocol, answers: Sequence[bytes], data: bytes) -> None:
    """Reject an answer in which a byte is wrong, and read the whole one that comes when the request is repeated.

    A frame whose length is wrong has its checksum elsewhere, and is left out: one in 65536 of them is right.
    """
    if len(data) < 3:
        return
    good = answers[data[0] % len(answers)]
    first = 4 if protocol is jbd else 3
    at = first + data[1] % (len(good) - first)
    assembler = protocol.assembler()
    (whole,) = assembler.feed(good)
    assembler.clear()
    if data[2]:
        damaged = good[:at] + bytes((good[at] ^ data[2],)) + good[at + 1 :]
        assert not [one for one in assembler.feed(damaged) if isinstance(one, Frame) and one != whole], damaged.hex()
    assembler.clear()
    assert assembler.feed(good) == [whole]


def jbd_lines(data: bytes) -> None:
    """Answer any text with JSON lines."""
    for answer in jbd.decode_lines(data.decode("latin-1").splitlines()):
        msgspec.json.decode(answer)


class Target(NamedTuple):
    """What is fuzzed, and the good inputs that its inputs are made from."""

    check: Callable[[bytes], None]
    seeds: Sequence[bytes]


TARGETS: dict[str, Target] = {
    "wmbus": Target(wmbus, TELEGRAMS),
    "wmbus_guarded": Target(wmbus_guarded, (bytes(8),)),
    "wmbus_sealed": Target(wmbus_sealed, [b"\0" + encode.records(_MIXED), b"\0" + encode.records(_STRANGE)]),
    "wmbus_own": Target(wmbus_own, own_telegrams.SEEDS),
    "wmbus_own_guarded": Target(wmbus_own_guarded, (bytes(8),)),
    "wmbus_lines": Target(wmbus_lines, [telegram.hex().encode() + b"\n" for telegram in TELEGRAMS]),
    "im871a": Target(dongle, [im871a.encode(message) for message in _KNOWN]),
    **{
        f"{name}{suffix}": Target(check, [*answers, b"".join(answers)])
        for name, protocol, answers in (("jbd", jbd, _JBD), ("daly", daly, _DALY))
        for suffix, check in (
            ("", partial(battery, protocol)),
            ("_guarded", partial(battery_guarded, protocol, answers)),
        )
    },
    "jbd_lines": Target(jbd_lines, [answer.hex().encode() + b"\n" for answer in _JBD]),
    "rtlwmbus": Target(rtl_line, (rtlwmbus.encode(rtlwmbus.ReceivedLine("C1", True, "", 90, _PLAIN)).encode(),)),
}


def mutate(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """Return one input: noise, or a seed with a few bytes changed, cut out, repeated, or joined with another."""

    def below(limit: int) -> int:
        return int(chance.random() * limit)

    if below(10) == 0:
        return chance.randbytes(below(300))
    data = bytearray(seeds[below(len(seeds))])
    for _ in range(below(5)):
        at = below(len(data) + 1)
        match below(5):
            case 0:
                data[at : at + 1] = chance.randbytes(1)
            case 1 if at < len(data):
                data[at] ^= 1 << below(8)
            case 2:
                del data[at : at + below(4)]
            case 3:
                data[at:at] = chance.randbytes(below(4))
            case _:
                data[at:] = seeds[below(len(seeds))][at:]
    if data and below(2):
        data[0] = (len(data) - 1) & 0xFF
    return bytes(data)


def main(name: str, count: int, seed: int = 0) -> None:
    """Run one target on `count` inputs and print what it took."""
    check, seeds = TARGETS[name]
    chance = random.Random(seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    for n in range(count):
        data = mutate(seeds, chance)
        try:
            check(data)
        except BaseException:
            print(f"{name}: input {n} of seed {seed}: {data.hex()}", file=sys.stderr)
            raise
    took = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{name}: {count} inputs in {took:.1f} s ({count / took:,.0f}/s), "
        f"memory grew by {(peak - before) / 1024:.1f} MB to {peak / 1024:.1f} MB at most, nothing amiss"
    )


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
