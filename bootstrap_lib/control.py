"""Requests over MQTT: `home/service/<instance>/request/<verb>` is answered on `…/response/<verb>`.

People at the centre of a fleet ask on `…/remote/<verb>`, where a request says who asks, and when; it is answered on `…/answer/<verb>`.

A service understands the verbs for which it has a method `request_<verb>`; the method's parameter is the typed
form of the payload. A request is never acted on when it was retained or seen before, one from afar not when it comes late either.
"""

import logging
import re
from collections import deque
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Final, Literal, get_type_hints

import msgspec

from bootstrap_lib.bus import Bus
from bootstrap_lib.document import escaped, from_text, nearest, plain
from bootstrap_lib.events import Message
from bootstrap_lib.reading import ReadingError, as_json, parse_time

log = logging.getLogger(__name__)


_ANSWERS: Final = "answers go below `…/response/…` or `reply/…`, at most ten levels and 200 bytes"
_ANSWER: Final = re.compile(r"(?:reply|[\w.-]+(?:/[\w.-]+){0,6}/(?:reply|response))(?:/[\w.@:-]+){1,6}")


def is_for_answers(topic: str) -> bool:
    """Whether an asker may have its answer on a topic; some topics of MQTT would cost us our connection."""
    few = topic.count("/") < 10 and len(topic.encode("utf-8", "replace")) <= 200  # noqa: PLR2004 (as _ANSWERS says)
    return few and _ANSWER.fullmatch(topic) is not None


class RequestError(ValueError):
    """A request that cannot be granted; the message is the answer."""


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """What a verb without parameters takes: an empty payload or {}."""


class ClockOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Payload of `request/clock`: nothing asks what time is believed, {"do":"trust"} has the system's clock believed."""

    do: Literal["show", "trust"] = "show"


class RemoteRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Payload of a request from afar: who asks, at what time, and what a request has otherwise."""

    by: Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
    at: str
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    arguments: dict[str, Any] = {}


LATE: Final = 30_000
"""Milliseconds that a request from afar may be on its way: what waited behind a cut link nobody wants any more."""


class Request:
    """A request that is being worked on; `reply` may also come later, when the work is done."""

    LATER: ClassVar = object()
    """Returned by a `request_…` method that keeps the request and answers when the work is done."""

    LONGEST: ClassVar = 1 << 20
    """Bytes of the longest request that is read: what the broker takes at most (systemd/mosquitto); a thousand meters are an eighth."""

    LONGEST_SENTENCE: ClassVar = 4000
    """Letters of a refusal."""

    def __init__(self, bus: Bus, response: str, message: Message, verb: str, identity: Any) -> None:
        """Keep what the answer needs."""
        self.verb, self.id = verb, identity
        self._bus, self._response, self._message = bus, response, message

    def reply(self, data: Any = None) -> None:
        """Answer that it is done, with data if there are any."""
        self._send({"status": "ok"} | ({"data": data} if data is not None else {}))

    def progress(self, data: Any) -> None:
        """Tell how far it has come; the answer follows."""
        self._send({"status": "progress", "data": data})

    def refuse(self, sentence: str) -> None:
        """Answer that it is not, and why, in no more words than anybody reads."""
        sentence = "; ".join(sentence.splitlines())
        if len(sentence) > Request.LONGEST_SENTENCE:
            sentence = f"{sentence[: Request.LONGEST_SENTENCE]} … ({len(sentence)} letters in all)"
        sentence = escaped(sentence)
        log.warning("request %s refused: %s", plain(self.verb, 60), sentence)
        self._send({"status": "error", "error": sentence})

    def _send(self, answer: dict[str, Any]) -> None:
        payload = as_json(answer | ({"id": self.id} if self.id is not None else {}))
        self._bus.publish(self._response, payload, qos=1, correlation=self._message.correlation)
        asked = self._message.response_topic
        if asked and asked != self._response:
            if is_for_answers(asked):
                self._bus.publish(asked, payload, correlation=self._message.correlation)
            else:
                log.warning("the answer to %s is not sent to %s: %s", self.verb, plain(asked, 60), _ANSWERS)


class Control:
    """Finds the method for each request, checks the payload against its type, and answers."""

    REMEMBERED: ClassVar[int] = 100

    def __init__(self, owners: Iterable[object], bus: Bus, prefix: str, now: Callable[[], int]) -> None:
        """`owners` have the methods `request_…`, the later ones first; `prefix` is `home/service/<instance>`, `now` in ms."""
        self._bus, self._prefix, self._now = bus, prefix, now
        self._seen: deque[Any] = deque(maxlen=self.REMEMBERED)
        self.verbs = {
            name.removeprefix("request_"): getattr(owner, name)
            for owner in owners
            for name in dir(owner)
            if name.startswith("request_")
        }

    def is_request(self, topic: str, root: str) -> bool:
        """Whether a topic is that of a request to this instance, or to everyone."""
        if topic.startswith(f"{self._prefix}/remote/"):
            return True
        return "/request/" in topic and topic.startswith((f"{self._prefix}/", f"{root}/service/all/"))

    def handle(self, message: Message) -> None:
        """Act on a request message, or answer why not. Never raises what the asker got wrong."""
        verb = message.topic.rpartition("/")[2]
        for_all = "/all/request/" in message.topic
        if message.retained:
            self._clear(message, verb, for_all=for_all)
            return
        if message.topic.startswith(f"{self._prefix}/remote/"):
            self._handle_remote(message, verb)
            return
        identity, body, problem = self._read(message.payload)
        request = Request(self._bus, f"{self._prefix}/response/{verb[:60]}", message, verb, identity)
        if verb not in self.verbs:
            if not for_all:
                hint = nearest(verb[:60], self.verbs) or f": it knows {', '.join(sorted(self.verbs))}"
                request.refuse(f"'{plain(verb, 60)}' is not known{hint}")
            return
        if identity is not None and (verb, identity) in self._seen:
            log.info("request %s with id %r came again, it is done already", verb, identity)
            return
        self._seen.append((verb, identity))
        if problem:
            request.refuse(problem)
            return
        self._call(verb, request, body)

    def _handle_remote(self, message: Message, verb: str) -> None:
        try:
            asked = msgspec.json.decode(message.payload[: Request.LONGEST], type=RemoteRequest)
            late = self._now() - parse_time(asked.at)
        except (msgspec.DecodeError, UnicodeDecodeError, ReadingError) as error:
            log.warning("a request from afar is not acted on, it does not say who asks and when: %s", plain(error))
            return
        by, shown = plain(asked.by, 60), plain(verb, 60)
        request = Request(self._bus, f"{self._prefix}/answer/{verb[:60]}", message, verb, asked.id)
        if (verb, asked.id) in self._seen:
            log.info("request %s with id %r came again, it is done already", shown, asked.id)
            return
        self._seen.append((verb, asked.id))
        if abs(late) > LATE:
            request.refuse(f"{by} asked {late / 1000:.0f} s ago by our clock: nobody acts on a late request")
        elif verb not in self.verbs:
            request.refuse(f"'{shown}' is not known{nearest(verb[:60], self.verbs)}")
        else:
            log.info("request %s of %s, from afar", shown, by)
            self._call(verb, request, asked.arguments)

    def _clear(self, message: Message, verb: str, *, for_all: bool) -> None:
        """Take a request that was retained off its topic: nobody acts on it, and the broker would keep it for ever."""
        if not message.payload:  # our own clearing of it, or somebody else's
            return
        text = "request %s was retained by its sender, it is not acted on: publish it without retain"
        log.warning(text, plain(verb, 60))
        if not for_all:
            self._bus.publish(message.topic, b"", qos=1, retain=True)

    def _call(self, verb: str, request: Request, body: Any) -> None:
        method = self.verbs[verb]
        kind = [kind for name, kind in get_type_hints(method).items() if name != "return"][-1]
        try:
            arguments = msgspec.convert(body, kind, dec_hook=from_text)
            answer = method(request, arguments)
            if answer is not Request.LATER:
                request.reply(answer)
        except msgspec.ValidationError as error:
            request.refuse(f"payload: {error}".replace("$.", ""))
        except (RequestError, OSError) as error:
            request.refuse(str(error))
        except Exception as error:  # noqa: BLE001 (a request never stops the service)
            request.refuse(f"it failed: {type(error).__name__}: {error}")

    @staticmethod
    def _read(payload: bytes) -> tuple[Any, Any, str | None]:
        if len(payload) > Request.LONGEST:
            return None, {}, f"{len(payload)} bytes are too long for a request (at most {Request.LONGEST})"
        if not payload.strip():
            return None, {}, None
        try:
            body = msgspec.json.decode(payload)
            identity = body.pop("id", None) if isinstance(body, dict) else None
            short = isinstance(identity, str | int | float | None) and len(str(identity)) <= 100  # noqa: PLR2004
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return None, {}, f"payload is not JSON: {error}"
        except ValueError:  # Python writes no number of thousands of digits
            short = False
        return (identity, body, None) if short else (None, {}, "'id' is a short text or a number")
