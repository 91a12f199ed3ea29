"""What a house does to become one of a fleet, and to stay one: a key of its own, a certificate for it, and a bridge."""

import http.client
import logging
import ssl
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from bootstrap_lib import StartError, as_json, reason, state
from services.fleet import authority
from services.fleet.enrolment import Enrolment

log = logging.getLogger(__name__)

FOLDER: Final = Path("/etc/mosquitto/fleet")
"""Where a broker's own files of the fleet lie: keys, certificates, the list of revocations."""

DUE: Final = 2 / 3
"""Share of its life after which a certificate is renewed."""

PATIENCE: Final = 60.0
"""Seconds that a centre may take to answer: it signs with openssl, perhaps on a Pi that has much to do."""

NOT_LET_IN: Final = "the centre does not take this token: it is good once, for a day; ask for a new one (constellation fleet house NAME)"
NOT_RENEWED: Final = "the centre does not renew this certificate: the house is revoked there, or was let in anew"


class FleetTokenError(StartError):
    """A token or a certificate that is none, or the centre's no more."""


def _open(url: str, context: ssl.SSLContext, body: bytes | None = None) -> bytes:
    """What the centre answers; FleetTokenError where it refuses, StartError for a wrong address and for anybody else who answers."""
    try:
        if urlsplit(url).scheme != "https":
            raise StartError(f"{url} is no address of a centre: https://NAME:8885")
        request = urllib.request.Request(url, data=body)  # noqa: S310 (https, as looked at above)
        with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:  # noqa: S310
            content: bytes = answer.read(1_000_000)
            return content
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.HTTPStatus.FORBIDDEN:
            raise StartError(f"{url} does not answer as the centre does: {error.code} {error.reason}") from None
        raise FleetTokenError(NOT_LET_IN if url.endswith("/enrol") else NOT_RENEWED) from None
    except (OSError, http.client.HTTPException, ValueError, OverflowError) as error:
        raise StartError(f"{url} does not answer as the centre does: {reason(error)}") from None


def fetch_authority(url: str, wanted: str) -> str:
    """The centre's authority, known by the fingerprint in the token; StartError where another one answers."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # what comes is judged by its fingerprint
    found = _open(f"{url}/ca", context).decode("ascii", "replace")
    try:
        same = authority.fingerprint(found) == wanted
    except ValueError:
        same = False
    if not same:
        raise FleetTokenError(f"{url} is not the centre that made this token")
    return found


def enrol(url: str, token: str, folder: Path) -> Enrolment:
    """Join a fleet: make a key in `folder`, send a request for it, and put the answer beside it.

    The request stays until an answer is kept: who asks again with the same one gets what was lost on the way.
    """
    secret, _, wanted = token.partition(".")
    if not secret or len(wanted) != 64:  # noqa: PLR2004 (SHA-256)
        raise FleetTokenError("that is no token: it is one word, with a dot in it")
    trusted = fetch_authority(url.rstrip("/"), wanted)
    key, asked = folder / "house.key", folder / "house.csr"
    if not (key.exists() and asked.exists()):
        state.write(asked, authority.new_request(folder, "house").encode(), 0o644)
    body = as_json({"token": secret, "request": asked.read_text()})
    given = _given(_open(f"{url.rstrip('/')}/enrol", _trusting(trusted), body))
    _keep(folder, given)
    key.replace(folder / f"{given.name}.key")
    asked.unlink()
    state.write(folder / "centre.json", as_json({"url": url.rstrip("/"), "name": given.name}), 0o644)
    return given


def renew(folder: Path, *, now: bool = False) -> str | None:
    """Renew the certificate at two thirds of its life; returns the house's name where it was done.

    FleetTokenError or StartError where the centre does not renew it, and it ends within `NEAR` days or is asked for `now`.
    """
    known = state.load(folder / "centre.json", dict[str, str], {})
    name = known.get("name", "")
    certificate = folder / f"{name}.crt"
    if not name or not (now or authority.spent(certificate) >= DUE):
        return None
    try:
        _renew(folder, name, known["url"])
    except StartError as error:
        left = authority.lasts(certificate)
        if now or left < authority.NEAR:
            raise type(error)(
                f"{error} (the certificate of {name} lasts {left:.0f} days; at the centre: constellation fleet serve)"
            ) from None
        log.warning("%s; tried again tomorrow, its certificate lasts %.0f days", error, left)
        return None
    return name


def _renew(folder: Path, name: str, url: str) -> None:
    certificate = folder / f"{name}.crt"
    context = _trusting((folder / "ca.crt").read_text())
    context.load_cert_chain(certificate, folder / f"{name}.key")
    body = as_json({"request": authority.new_request(folder, name)})
    given = _given(_open(f"{url}/renew", context, body))
    if given.name != name:
        raise StartError(f"the centre answers {name} with the certificate of another house: nothing of it is kept")
    _keep(folder, given)


def _given(answer: bytes) -> Enrolment:
    """What a centre answered; StartError for what is none: root writes it, and a centre may have been broken into."""
    try:
        given = msgspec.json.decode(answer, type=Enrolment)
        for text in (given.certificate, given.authority):
            ssl.PEM_cert_to_DER_cert(text)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise StartError(
            f"what the centre answers is no certificate of a house, nothing of it is kept: {error}"
        ) from None
    return given


def _trusting(certificate: str) -> ssl.SSLContext:
    with tempfile.NamedTemporaryFile("w", suffix=".crt") as file:
        file.write(certificate)
        file.flush()
        return ssl.create_default_context(cafile=file.name)


def _keep(folder: Path, given: Enrolment) -> None:
    files: dict[str, Any] = {f"{given.name}.crt": given.certificate, "ca.crt": given.authority}
    for name, text in files.items():
        state.write(folder / name, text.encode(), 0o644)
