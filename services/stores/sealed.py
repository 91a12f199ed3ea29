"""Secrets under a passphrase: scrypt (RFC 7914) makes the key, AES-256-GCM seals, both of the package `cryptography`."""

import secrets
from typing import TYPE_CHECKING, Final

from bootstrap_lib import StartError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC: Final = b"constellation sealed 1\n"
"""First bytes of what is sealed; the number stands for the costs below."""

COST: Final = 2**15
"""scrypt's N, with r = 8: 32 MB of memory, a second of a small Pi."""

_SALT: Final = 16
_NONCE: Final = 12


class SealError(ValueError):
    """What cannot be opened; the message says why."""


def seal(content: bytes, passphrase: str) -> bytes:
    """Encrypt and authenticate. StartError where the package is missing."""
    salt, nonce = secrets.token_bytes(_SALT), secrets.token_bytes(_NONCE)
    return MAGIC + salt + nonce + _cipher(passphrase, salt).encrypt(nonce, content, MAGIC)


def unseal(sealed: bytes, passphrase: str) -> bytes:
    """Return what was sealed; SealError for another passphrase, and for what was changed or cut."""
    from cryptography.exceptions import InvalidTag

    begin = len(MAGIC) + _SALT + _NONCE
    if not sealed.startswith(MAGIC) or len(sealed) < begin:
        raise SealError("the sealed credentials are none of this version's")
    salt, nonce = sealed[len(MAGIC) : len(MAGIC) + _SALT], sealed[len(MAGIC) + _SALT : begin]
    try:
        return _cipher(passphrase, salt).decrypt(nonce, sealed[begin:], MAGIC)
    except InvalidTag:
        raise SealError("the passphrase is not the one that sealed the credentials, or they were changed") from None


def _cipher(passphrase: str, salt: bytes) -> "AESGCM":
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
    except ImportError:
        raise StartError(
            "credentials are sealed by the package cryptography, which is missing: /opt/constellation/bin/pip install cryptography"
        ) from None
    return AESGCM(Scrypt(salt, length=32, n=COST, r=8, p=1).derive(passphrase.encode()))
