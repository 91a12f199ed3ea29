"""AES as the wireless M-Bus uses it: counter mode, chained blocks, message authentication and derived keys.

All of it stands on single AES blocks, so that one key schedule per key serves every telegram of a meter; building a
cipher object costs more than decrypting a telegram with it.
"""

from functools import cached_property, lru_cache
from typing import Final, NamedTuple, Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

BLOCK: Final = 16
KEYS_KEPT: Final = 4096
"""Key schedules kept: more than the meters of any one house, less than 10 MB."""
_COUNTERS: Final = tuple(bytes((count,)) for count in range(256))


_SINGLE: Final = modes.ECB()  # noqa: S305 - single blocks; the modes are built here


class Blocks(Protocol):
    """Encrypts or decrypts whole blocks, each for itself."""

    def update(self, data: bytes) -> bytes:
        """Return as many bytes as are given."""


def encrypting(key: bytes) -> Blocks:
    """Expand `key`, 16 bytes, to encrypt blocks."""
    return Cipher(algorithms.AES(key), _SINGLE).encryptor()


def decrypting(key: bytes) -> Blocks:
    """Expand `key`, 16 bytes, to decrypt blocks."""
    return Cipher(algorithms.AES(key), _SINGLE).decryptor()


class Schedule:
    """One expanded AES-128 key; each direction is made when it is first needed."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @cached_property
    def forwards(self) -> Blocks:
        """Encrypts blocks."""
        return encrypting(self._key)

    @cached_property
    def backwards(self) -> Blocks:
        """Decrypts blocks."""
        return decrypting(self._key)

    @cached_property
    def subkey(self) -> int:
        """The CMAC subkey for a whole last block (RFC 4493, 2.3)."""
        doubled = int.from_bytes(self.forwards.update(bytes(BLOCK)), "big") << 1
        return (doubled ^ 0x87) & (1 << 128) - 1 if doubled >> 128 else doubled


@lru_cache(maxsize=KEYS_KEPT)
def schedule(key: bytes) -> Schedule:
    """Expand `key`, 16 bytes, once for all telegrams of its meter; ValueError for another length."""
    if len(key) != BLOCK:
        raise ValueError(f"An AES-128 key has 16 bytes; this one has {len(key)}.")
    return Schedule(key)


def counter_mode(key: bytes, start: bytes, data: bytes) -> bytes:
    """Encrypt or decrypt with AES-CTR (EN 13757-4, 12.9): `start` is the 15 bytes before the block counter.

    The counter has one byte, so `data` ends at 4096 bytes; a telegram has 256 at most.
    """
    blocks = -(-len(data) // BLOCK)
    stream = schedule(key).forwards.update(b"".join([start + count for count in _COUNTERS[:blocks]]))
    return _xor(stream[: len(data)], data)


def chained_decrypt(key: Blocks, start: bytes, data: bytes) -> bytes:
    """Decrypt whole blocks of AES-CBC, with a key that decrypts, from the initialisation vector `start`."""
    return _xor(key.update(data), (start + data)[: len(data)])


def chained_encrypt(key: Blocks, start: bytes, data: bytes) -> bytes:
    """Encrypt whole blocks with AES-CBC, with a key that encrypts, from the initialisation vector `start`."""
    blocks = [start]
    for at in range(0, len(data), BLOCK):
        blocks.append(key.update(_xor(data[at : at + BLOCK], blocks[-1])))
    return b"".join(blocks[1:])


def cmac(key: bytes, message: bytes) -> bytes:
    """Return the 16 bytes of AES-CMAC (RFC 4493) of `message`."""
    code = CMAC(algorithms.AES(key))
    code.update(message)
    return code.finalize()


class Derived(NamedTuple):
    """The two keys of one message in mode 7, 16 bytes each: for its contents and for its authentication code."""

    encryption: bytes
    authentication: bytes


def derive(key: bytes, counter: bytes, identification: bytes) -> Derived:
    """Derive the keys of one message from a meter to a gateway (OMS volume 2, 9.4.6, KDF-A).

    `counter` is the message counter and `identification` the meter's number, 4 bytes each as they are sent. Both keys
    are CMACs of one block, which take no more than that block.
    """
    source = schedule(key)
    tail = counter + identification + b"\x07" * 7
    mask = source.subkey.to_bytes(BLOCK, "big") * 2
    keys = source.forwards.update(_xor(b"\x00" + tail + b"\x01" + tail, mask))
    return Derived(keys[:BLOCK], keys[BLOCK:])


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")
