"""Messages on their way to people: published for one notifier after the other, until one has answered that it delivered them."""

import logging
import secrets
from collections.abc import Iterable

import msgspec

from bootstrap_lib import Service, as_json
from services.alerting import Announcement, Lost, Outbox, Outgoing
from services.notices.notice import Answer

log = logging.getLogger(__name__)


class Messages:
    """What alerts have to say, on the service's connection. Times are monotonic, in ms; patience is in seconds."""

    def __init__(self, service: Service, waiting: list[Outgoing]) -> None:
        """`service` speaks; `waiting` is what an earlier start has not brought to people."""
        self._service = service
        self._outbox = Outbox(waiting)

    @property
    def waiting(self) -> list[Outgoing]:
        """What a restart must not lose."""
        return self._outbox.waiting

    def subscribe(self) -> None:
        """Hear what becomes of them; ask again what the broker may have forgotten."""
        self._service.bus.subscribe(f"{self._service.registry.root}/notify/+/answer", qos=1)
        self._outbox.again()

    def add(self, announcements: Iterable[Announcement]) -> None:
        """Take messages; `send` publishes them, once they are on disk."""
        for announcement in announcements:
            self._outbox.add(secrets.token_hex(8), announcement)

    def send(self, at: int, patience: float) -> None:
        """Publish what has not been asked of anybody yet, or not been answered in time."""
        for identity, notice in self._outbox.due(at, patience):
            self._service.bus.publish(f"{self._service.registry.root}/notify/{identity}", as_json(notice), qos=1)
            self._service.health.counters["messages"] += 1

    def hear(self, identity: str, payload: bytes) -> bool:
        """Take a notifier's answer; True if it changes what waits. ValueError if it is none."""
        answer = msgspec.json.decode(payload, type=Answer)
        if not self._outbox.holds(identity):
            return False
        if answer.state == "failed":
            log.warning("message %s: %s: %s", identity, answer.notifier, answer.text)
        if lost := self._outbox.answer(identity, answer):
            self._lose(lost)
        return True

    def give_up(self, at: int, patience: float) -> bool:
        """Take out what the last notifier has not answered either; True if there was any."""
        lost = self._outbox.lost(at, patience)
        for entry in lost:
            self._lose(entry)
        return bool(lost)

    def _lose(self, lost: Lost) -> None:
        sentence = f"nobody was told '{lost.notice.title}': {lost.reason}"
        self._service.health.counters["undelivered"] += 1
        self._service.error(sentence)
        log.error("%s", sentence)
