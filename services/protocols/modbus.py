"""Frames of Modbus RTU, as masters send and devices answer them (MODBUS over Serial Line V1.02)."""

from __future__ import annotations

from typing import Final


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0xA001 * (value & 1)  # noqa: PLW2901 - the register of a CRC
        table.append(value)
    return tuple(table)


_CRC: Final = _table()


def crc(data: bytes) -> int:
    """Return the CRC-16/MODBUS of the data."""
    register = 0xFFFF
    for byte in data:
        register = register >> 8 ^ _CRC[(register ^ byte) & 0xFF]
    return register


def sealed(body: bytes) -> bytes:
    """Return a frame: the body and its CRC, low byte first."""
    return body + crc(body).to_bytes(2, "little")
