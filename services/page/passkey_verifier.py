"""What a browser says of a passkey is verified in a process of its own, which ends with its answer.

The library (py_webauthn, with OpenSSL, CBOR and ASN.1) takes as much memory as the whole page, and reads what strangers send:
neither belongs into a process that runs for months and sees the house. It is given one question on its standard input, and
gives one answer on its standard output; both are bounded, and so is its time.
"""

import contextlib
import importlib.util
import os
import subprocess
import sys
import threading
from typing import Any, Final, Literal

import msgspec

LARGEST: Final = 65_536
"""Bytes of a question."""
LONGEST: Final = 4096
"""Bytes of an answer."""
PATIENCE: Final = 20.0
"""Seconds that it may take: a small Pi needs a few to load the library. As many are waited for the one before."""
MEMORY: Final = 128 << 20
"""Bytes of addresses that it may use, where that may be bounded: loaded it has 45 MB, and the unit's bound is for the page too."""
HANDED: Final = ("PATH", "PYTHONPATH", "LANG")
"""What it gets of our environment: no place where secrets lie, and no socket of systemd's."""


class PasskeyQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be verified (W3C Web Authentication, 7.1 and 7.2): what a browser made, and what it must have been made for.

    Everything binary is base64url without padding. `key` is the public key (COSE) of one that is kept already.
    """

    act: Literal["register", "log_in"]
    credential: dict[str, Any]
    challenge: str
    host: str
    origin: str
    key: str = ""


class PasskeyAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What came of it: `error` where it is not believed, else the id, the key of a new one, and how often it has signed."""

    error: str = ""
    id: str = ""
    key: str = ""
    count: int = 0


class Unverified(RuntimeError):
    """There was no answer; the message says why."""


_turn = threading.Lock()


def is_installed() -> bool:
    """Whether the library is there; it is not loaded for that."""
    return importlib.util.find_spec("webauthn") is not None


def ask(
    question: PasskeyQuestion, program: tuple[str, ...] = ("-m", "services.page.passkey_verifier")
) -> PasskeyAnswer:
    """Have a question answered; one at a time. Unverified where there is no answer."""
    asked = msgspec.json.encode(question)
    if len(asked) > LARGEST:
        raise Unverified("that is too much to be a passkey")
    if not _turn.acquire(timeout=PATIENCE):
        raise Unverified("others are being verified: try again in a moment")
    try:
        said = _run([sys.executable, "-W", "ignore", *program], asked)
        return msgspec.json.decode(said, type=PasskeyAnswer)
    except OSError as error:
        raise Unverified(f"nothing can be verified: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Unverified("what verifies passkeys gave no answer in its time") from None
    finally:
        _turn.release()


def _run(command: list[str], asked: bytes) -> bytes:
    environment = {name: os.environ[name] for name in HANDED if name in os.environ}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        given, said = process.stdin, process.stdout
        if given is None or said is None:
            raise Unverified("nothing can be verified: it has no pipes")
        end = threading.Timer(PATIENCE, process.kill)
        end.start()
        try:
            with contextlib.suppress(BrokenPipeError), given:
                given.write(asked)
            return said.read(LONGEST + 1)[:LONGEST]  # more than that is no answer, and does not decode
        finally:
            end.cancel()
            process.kill()


def answered(question: PasskeyQuestion) -> PasskeyAnswer:
    """Verify, in the process of its own. That somebody was there is not enough: the device must know who (docs/decisions.md)."""
    import webauthn
    from webauthn.helpers import base64url_to_bytes, bytes_to_base64url

    expected: dict[str, Any] = {
        "expected_rp_id": question.host,
        "expected_origin": question.origin,
        "require_user_verification": True,
    }
    try:
        challenge = base64url_to_bytes(question.challenge)
        if question.act == "register":
            made = webauthn.verify_registration_response(
                credential=question.credential, expected_challenge=challenge, **expected
            )
            key = bytes_to_base64url(made.credential_public_key)
            return PasskeyAnswer(id=bytes_to_base64url(made.credential_id), key=key, count=made.sign_count)
        used = webauthn.verify_authentication_response(
            credential=question.credential,
            expected_challenge=challenge,
            credential_public_key=base64url_to_bytes(question.key),
            credential_current_sign_count=0,  # who keeps it judges it: by then another answer may have come
            **expected,
        )
        return PasskeyAnswer(id=bytes_to_base64url(used.credential_id), count=used.new_sign_count)
    except Exception as error:  # noqa: BLE001 (whatever was sent: it is not believed)
        return PasskeyAnswer(error=f"{type(error).__name__}: {error}"[:500])


def main() -> None:
    """Answer the question on standard input."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # a unit that may not set bounds has one of its own
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    question = msgspec.json.decode(sys.stdin.buffer.read(LARGEST + 1), type=PasskeyQuestion)
    sys.stdout.buffer.write(msgspec.json.encode(answered(question)))


if __name__ == "__main__":
    main()
