"""CRC-16/EN-13757, because it guards the radio blocks, the encrypted payload and the compact frames alike."""

from typing import Final

POLYNOMIAL: Final = 0x3D65


def _remainder(register: int) -> int:
    for _ in range(8):
        register = (register << 1) ^ POLYNOMIAL if register & 0x8000 else register << 1
    return register & 0xFFFF


_TABLE: Final = tuple(_remainder(byte << 8) for byte in range(256))


def crc(data: bytes) -> int:
    """Return the CRC of `data` (EN 13757-4, 11.2): polynomial 0x3D65, start 0, most significant bit first, inverted.

    Block CRCs are sent with the high byte first; CRCs inside the M-Bus layers with the low byte first.
    """
    register = 0
    table = _TABLE
    for byte in data:
        register = ((register << 8) & 0xFF00) ^ table[(register >> 8) ^ byte]
    return register ^ 0xFFFF
