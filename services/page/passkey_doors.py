"""The doors of passkeys: to make one known takes a login by password, to come in by one gives the same session as that."""

import logging
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from bootstrap_lib import Nothing
from services.page import forms, passkey_forms
from services.page.answers import Refusal, as_answer, body_of
from services.page.door import Door
from services.page.gate import COOKIE, Login, Wait
from services.page.passkey_verifier import PasskeyAnswer, PasskeyQuestion, Unverified, ask, is_installed
from services.page.passkeys import LASTS, MOST, CountedBack, Passkey, Passkeys, UnknownPasskey, hindrance

if TYPE_CHECKING:
    from services.page.house import PageHouse

log = logging.getLogger(__name__)

TICKET: Final = "constellation-passkey"
"""Cookie of who is about to log in by one."""
STRANGE: Final = "this passkey is not known here: log in by password, and register it"


class OfHouse(Protocol):
    """Doors, as far as passkeys look behind them."""

    @property
    def house(self) -> "PageHouse":
        """The house."""


def passkeys_of(doors: OfHouse) -> Passkeys:
    """Those of the house; Refusal 404 where it can verify none."""
    found = doors.house.passkeys
    if found is None or not is_installed():
        raise Refusal(404, "passkeys are not offered here: pip install 'constellation[passkeys]'", "passkeys")
    return found


def place_of(request: HttpRequest) -> tuple[str, str]:
    """Origin and host of the page that asks; the door has seen that it is ours. Refusal 403 where it can have no passkeys."""
    origin = request.headers.get("origin", "")
    parts = urlsplit(origin)
    host = parts.hostname or ""
    if (why := hindrance(parts.scheme, host)) is not None:
        raise Refusal(403, why, "origin")
    return origin, host


def session_of(doors: OfHouse, request: HttpRequest) -> tuple[str, Login]:
    """Cookie and session of somebody who logged in by password; Refusal 401."""
    cookie = request.cookies.get(COOKIE, "")
    found = doors.house.gate.session(cookie, doors.house.now()) if cookie else None
    if found is None or found.passkey:
        raise Refusal(401, "log in by password to register a passkey", "password")
    return cookie, found


async def verified(question: PasskeyQuestion) -> PasskeyAnswer:
    """What came of it; Refusal 503 where nothing did."""
    from starlette.concurrency import run_in_threadpool

    try:
        return await run_in_threadpool(ask, question)
    except Unverified as error:
        raise Refusal(503, str(error), "passkeys", Retry_After="5") from None


def _credential(given: passkey_forms.MadeCredential | passkey_forms.UsedCredential) -> dict[str, Any]:
    response = {key: value for key, value in msgspec.to_builtins(given.response).items() if value}
    return {"id": given.id, "rawId": given.id, "type": "public-key", "response": response}


# -- registering --------------------------------------------------------------------------------------------------


async def see_passkeys(doors: OfHouse, request: HttpRequest) -> Response:
    """One's own."""
    return _shown(request, passkeys_of(doors), _person(doors, request))


async def begin_registration(doors: OfHouse, request: HttpRequest) -> Response:
    """What a browser needs to make one."""
    await body_of(request, Nothing)
    kept = passkeys_of(doors)
    _, host = place_of(request)
    cookie, session = session_of(doors, request)
    own = kept.of(session.name)
    if len(own) >= MOST:
        raise Refusal(409, f"{MOST} passkeys are all that a person may have: remove one", "passkeys")
    handle = next((one.handle for one in own.values()), "") or kept.handle()
    caller = doors.house.caller(request)
    challenge = kept.registering.ask(cookie, caller.address, doors.house.now(), handle)
    creation = passkey_forms.PasskeyCreation(
        challenge=challenge.text,
        rp={"id": host, "name": "Constellation"},
        user=passkey_forms.PasskeyOwner(handle, session.name, session.name),
        exclude_credentials=[passkey_forms.PublicKeyOf(identity) for identity in own],
    )
    return as_answer(request, creation)


async def register(doors: OfHouse, request: HttpRequest) -> Response:
    """Keep one that was made."""
    given = await body_of(request, passkey_forms.PasskeyGiven)
    kept = passkeys_of(doors)
    origin, host = place_of(request)
    cookie, session = session_of(doors, request)
    challenge = kept.registering.take(cookie, doors.house.now())
    if challenge is None:
        raise Refusal(410, "this was answered already, or took too long: begin again", "challenge")
    question = PasskeyQuestion(
        act="register", credential=_credential(given.credential), challenge=challenge.text, host=host, origin=origin
    )
    answer = await verified(question)
    if answer.error:
        raise Refusal(422, f"this passkey is not believed: {answer.error}", "credential")
    name = given.name.strip()
    passkey = Passkey(
        person=session.name,
        name=name,
        host=host,
        key=answer.key,
        count=answer.count,
        made=doors.house.now(),
        handle=challenge.handle,
        password=session.password,
    )
    try:
        if not kept.add(answer.id, passkey):
            raise Refusal(409, "this passkey is registered already", "credential")
    except OSError as error:
        raise Refusal(503, f"the passkey cannot be kept: {error}", "disk") from None
    log.info("%s registers the passkey %r", session.name, name)
    return _shown(request, kept, session.name)


async def remove(doors: OfHouse, request: HttpRequest) -> Response:
    """Forget one, and end what began by it."""
    given = await body_of(request, passkey_forms.PasskeyGone)
    kept, person = passkeys_of(doors), _person(doors, request)
    try:
        found = kept.remove(given.id, person)
    except UnknownPasskey:
        raise Refusal(404, "there is no such passkey", "id") from None
    except OSError as error:
        raise Refusal(503, f"it cannot be forgotten: {error}", "disk") from None
    log.info("%s removes the passkey %r", person, found.name)
    return _shown(request, kept, person)


def _person(doors: OfHouse, request: HttpRequest) -> str:
    name = doors.house.caller(request).name
    if name is None:
        raise Refusal(401, "log in to see your passkeys")
    return name


def _shown(request: HttpRequest, kept: Passkeys, person: str) -> Response:
    shown = passkey_forms.PasskeyShown
    own = kept.of(person).items()
    return as_answer(request, [shown(key, one.name, one.host, one.made, one.used) for key, one in own])


# -- logging in ---------------------------------------------------------------------------------------------------


async def begin_login(doors: OfHouse, request: HttpRequest) -> Response:
    """What a browser needs to answer by one, whosever it is."""
    await body_of(request, Nothing)
    kept = passkeys_of(doors)
    _, host = place_of(request)
    caller = doors.house.caller(request)
    _wait(doors, caller.address)
    ticket = kept.handle()
    challenge = kept.logging_in.ask(ticket, caller.address, doors.house.now())
    answer = as_answer(request, passkey_forms.PasskeyRequest(challenge=challenge.text, rp_id=host))
    answer.headers["set-cookie"] = _ticket(ticket, secure=caller.secure)
    return answer


async def log_in(doors: OfHouse, request: HttpRequest) -> Response:
    """Begin a session."""
    given = await body_of(request, passkey_forms.UsedCredential)
    kept, house = passkeys_of(doors), doors.house
    origin, host = place_of(request)
    caller = house.caller(request)
    _wait(doors, caller.address)
    challenge = kept.logging_in.take(request.cookies.get(TICKET, ""), house.now())
    if challenge is None:
        raise Refusal(410, "this was answered already, or took too long: begin again", "challenge")
    try:
        passkey = kept.find(given.id, host)
    except UnknownPasskey:
        raise _wrong(doors, caller.address, None, STRANGE, "passkey") from None
    _wait(doors, caller.address, passkey.person)
    if given.response.handle != passkey.handle:
        raise _wrong(doors, caller.address, passkey.person, STRANGE, "passkey")
    question = PasskeyQuestion(
        act="log_in",
        credential=_credential(given),
        challenge=challenge.text,
        host=host,
        origin=origin,
        key=passkey.key,
    )
    answer = await verified(question)
    if answer.error:
        told = f"this passkey is not believed: {answer.error}"
        raise _wrong(doors, caller.address, passkey.person, told, "credential")
    try:
        cookie = kept.log_in(given.id, answer.count, caller.address, house.now())
    except UnknownPasskey:  # removed meanwhile
        raise _wrong(doors, caller.address, passkey.person, STRANGE, "passkey") from None
    except CountedBack:
        log.warning(
            "the passkey %r of %s has signed less often than before: it was copied", passkey.name, passkey.person
        )
        told = (
            "this passkey has signed less often than before, so there are two of it: remove it, and register a new one"
        )
        raise _wrong(doors, caller.address, passkey.person, told, "count") from None
    except OSError as error:
        raise Refusal(503, f"the session cannot be kept: {error}", "disk") from None
    log.info("%s logs in by the passkey %r", passkey.person, passkey.name)
    response = as_answer(request, forms.Me(passkey.person, True, True, True))
    response.headers["set-cookie"] = house.gate.cookie(cookie, secure=caller.secure)
    response.headers.append("set-cookie", _ticket("", secure=caller.secure))
    return response


def _wait(doors: OfHouse, address: str, name: str | None = None) -> None:
    try:
        doors.house.gate.refuse_early(address, name, doors.house.now())
    except Wait as wait:
        raise Refusal(429, str(wait), Retry_After=str(wait.seconds)) from None


def _wrong(doors: OfHouse, address: str, name: str | None, sentence: str, where: str) -> Refusal:
    """Count what was wrong as a wrong password is counted, and say it."""
    doors.house.gate.fail(address, name, doors.house.now())
    return Refusal(401, sentence, where)


def _ticket(value: str, *, secure: bool) -> str:
    age = LASTS // 1000 if value else 0
    return f"{TICKET}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"


SHOWN: Final = list[passkey_forms.PasskeyShown]
PASSKEY_DOORS: Final = (
    Door("GET", "/passkeys", "One's own passkeys", see_passkeys, SHOWN, open=True),
    Door(
        "POST",
        "/passkeys/begin",
        "What a browser needs to make one",
        begin_registration,
        passkey_forms.PasskeyCreation,
        body=Nothing,
        changes=True,
    ),
    Door("POST", "/passkeys", "Keep it", register, SHOWN, body=passkey_forms.PasskeyGiven, changes=True),
    Door("POST", "/passkeys/remove", "Forget one", remove, SHOWN, body=passkey_forms.PasskeyGone, changes=True),
    Door(
        "POST",
        "/passkeys/login/begin",
        "What a browser needs to answer by one",
        begin_login,
        passkey_forms.PasskeyRequest,
        body=Nothing,
        open=True,
    ),
    Door(
        "POST",
        "/passkeys/login",
        "Begin a session by one",
        log_in,
        forms.Me,
        body=passkey_forms.UsedCredential,
        open=True,
    ),
)
