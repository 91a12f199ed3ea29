"""What people ask of the alerts service, answered: acknowledge, snooze, maintenance, why, test."""

import logging
from typing import Any, Protocol

from bootstrap_lib import Duration, Registry, Request, RequestError, clock, format_time, nearest
from services.alerting.check import scope_of
from services.alerting.condition import Watch
from services.alerting.desk import Desk
from services.alerting.documents import NAMED, explanation_of
from services.alerting.outbox import Outgoing
from services.alerting.requests import Acknowledge, Maintenance, SnoozeSpan, Test
from services.alerting.settings import AlertOptions
from services.notices.notice import trials

log = logging.getLogger(__name__)


class Asked(Protocol):
    """The service that is asked."""

    options: AlertOptions
    registry: Registry
    watches: list[Watch]

    @property
    def desk(self) -> Desk:
        """What it knows and says."""

    @property
    def clock(self) -> clock.Clock:
        """The time."""

    def moment(self) -> tuple[int, int]:
        """Monotonic and wall time (ms)."""


class AlertRequests:
    """The requests of the alerts service."""

    def __init__(self, service: Asked) -> None:
        """Answer for a service."""
        self._service = service

    def _named(self, name: str) -> list[str]:
        if found := self._service.desk.teller.named(name):
            return found
        known = list(
            dict.fromkeys([*self._service.desk.judge.alerts, *(watch.owner for watch in self._service.watches)])
        )
        raise RequestError(f"no rule is named '{name}'{nearest(name, known)}")

    def _until(self, span: Duration) -> int:
        if span > self._service.options.longest_snooze:
            longest = Duration(self._service.options.longest_snooze)
            raise RequestError(f"{Duration(span)} is too long: at most {longest} (longest_snooze in topics.yaml)")
        return round(self._service.clock.now() + span * 1000) if span else 0

    def request_acknowledge(self, _request: Request, arguments: Acknowledge) -> dict[str, Any]:
        """Someone takes care: it says no more until it is over."""
        found = self._service.desk.teller.acknowledge(self._named(arguments.rule), self._service.clock.now())
        self._service.desk.save_or_fail(self._service.clock.now())
        log.info("acknowledged: %s", ", ".join(found) or f"{arguments.rule}, which does not fire")
        return {"acknowledged": found}

    def request_snooze(self, _request: Request, arguments: SnoozeSpan) -> dict[str, Any]:
        """Say nothing of a rule for a time; it is on disk before it is answered."""
        names, until = self._named(arguments.rule), self._until(arguments.span)
        self._service.desk.teller.snooze(names, until or self._service.clock.now())
        self._service.desk.save_or_fail(self._service.clock.now())
        log.info("%s is snoozed until %s", arguments.rule, format_time(until) if until else "now")
        return {"until": format_time(until) if until else None}

    def request_maintenance(self, _request: Request, arguments: Maintenance) -> dict[str, Any]:
        """Say nothing new at all for a time; what still fires afterwards is said then."""
        until = self._until(arguments.span)
        self._service.desk.teller.memory.maintenance = until
        self._service.desk.save_or_fail(self._service.clock.now())
        log.info("maintenance %s", f"until {format_time(until)}" if until else "is over")
        return {"until": format_time(until) if until else None}

    def request_why(self, _request: Request, arguments: Acknowledge) -> dict[str, Any]:
        """Tell all that bears on whether people hear of an alert."""
        at, wall = self._service.moment()
        names = self._named(arguments.rule)
        firing = set(self._service.desk.judge.firing())
        names.sort(key=lambda name: (name not in firing, name))
        return {
            "alerts": [explanation_of(self._service.desk.teller, name, at, wall) for name in names[:NAMED]],
            "more": max(0, len(names) - NAMED),
        }

    def request_test(self, _request: Request, arguments: Test) -> dict[str, Any]:
        """Send one message of each priority on every way to people; the answer names them, for whoever waits."""
        known = scope_of(self._service.registry).notifiers
        if arguments.notify and arguments.notify not in known:
            raise RequestError(f"no subscriber is named '{arguments.notify}'{nearest(arguments.notify, known)}")
        teller = self._service.desk.teller
        sent = []
        for route in teller.settings.channels((arguments.notify,) if arguments.notify else ()):
            if route == ("",):
                continue  # nobody reports on what is for whoever listens
            for notice in trials(format_time(self._service.clock.now())):
                identity = teller.identity()
                teller.outbox.add(Outgoing(identity, notice, "went", route, list(route)))
                sent.append({"id": identity, "title": notice.title, "notify": " then ".join(route)})
        self._service.desk.save(self._service.clock.now())
        return {"messages": sent}
