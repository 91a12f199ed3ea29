"""Who is told what: the difference between what is so and what people know, on each way to them.

Nothing counts as told before a notifier has delivered it. So nothing that comes twice (a retained value, a repeated
delivery, a restart) can speak twice, what nobody delivered is tried again, and the end goes to exactly those who got
the begin, whatever became of the rule.
"""

import secrets
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from bootstrap_lib import format_time
from services.alerting.composing import Composer
from services.alerting.judging import Judge
from services.alerting.outbox import Member, Outbox, Outgoing, Settled
from services.alerting.people import Route
from services.alerting.rule import HOLD_OFF
from services.alerting.settings import TellerSettings
from services.alerting.told import Delivery, TellerMemory, Told, Track
from services.alerting.verdict import Alert
from services.alerting.wording import Kind, title_of
from services.notices.notice import EMERGENCY, Notice, Report

PAUSE: Final = 60_000
"""Milliseconds until a message that nobody could deliver is tried again; it doubles each time."""
LONGEST_PAUSE: Final = 900_000
GIVEN_UP: Final = 20
"""Rounds after which the end of an alert is not tried any more: some hours."""
HISTORY: Final = 5


class Due(NamedTuple):
    """An alert of which something is to be said, and what the people know of it."""

    name: str
    track: Track


class Bundle(NamedTuple):
    """What can be one message: `target` is the notifier that must be it, or nothing where any of the route will do."""

    route: Route
    target: str
    kind: Kind
    group: str
    meanwhile: bool


def _ways(told: Told) -> list[Route]:
    return [tuple(key.split(",")) for key in told.tracks]


class Teller:
    """Tells people what the judge found. It never looks at a clock or a file: it is told."""

    def __init__(
        self, judge: Judge, memory: TellerMemory | None = None, identity: Callable[[], str] | None = None
    ) -> None:
        """`identity` makes the name of a message, by which a repeat of it is recognised."""
        self.judge, self.memory = judge, memory or TellerMemory()
        self.outbox = Outbox(self.memory.waiting, self.memory.settled)
        self.settings = TellerSettings()
        self.composer = Composer(judge, self.memory, self.settings)
        self.news: list[str] = []
        """Sentences for the log, until the caller empties this."""
        self.identity = identity or (lambda: secrets.token_hex(8))
        self.pause, self.longest_pause, self.most_rounds, self.hold_off = PAUSE, LONGEST_PAUSE, GIVEN_UP, HOLD_OFF
        self._gathering: dict[Bundle, int] = {}
        self._failed: dict[str, str] = {}

    def take(self, settings: TellerSettings) -> None:
        """Take other settings; who is no more is waited for no longer."""
        self.settings = settings
        self.composer = Composer(self.judge, self.memory, settings)
        self._settle(self.outbox.forget(("", *settings.notifiers)), 0)

    # -- what is due --------------------------------------------------------------------------------------------

    def tick(self, at: int, wall: int) -> bool:
        """Decide what is to be said now; True if that changed anything that must be kept before `outbox.due` is published."""
        before = len(self.outbox.waiting)
        settled = self.outbox.overdue(at, self.settings.fallback)
        self._settle(settled, wall)
        if not self.judge.tick(at, wall):
            return bool(settled)
        self._wake(wall)
        due: dict[Bundle, list[Due]] = {}
        for name in list(dict.fromkeys([*self.memory.told, *self.judge.changed, *self.judge.firing()])):
            self._look(name, at, wall, due)
        self._gathering = {bundle: self._gathering.get(bundle, at) for bundle in due}
        for bundle, members in sorted(due.items(), key=lambda item: item[0].meanwhile):
            alone = bundle.group.startswith("!")
            if alone or at - self._gathering[bundle] >= self.settings.gather:
                self.outbox.add(self._message(bundle, members, wall))
                del self._gathering[bundle]
        return bool(settled) or len(self.outbox.waiting) != before

    def _wake(self, wall: int) -> None:
        for name, told in self.memory.told.items():
            if 0 < told.snoozed <= wall:
                told.snoozed = 0
                self.judge.changed.add(name)
                for track in told.tracks.values():
                    track.woken = bool(track.told)

    def _look(self, name: str, at: int, wall: int, due: dict[Bundle, list[Due]]) -> None:
        alert = self.judge.alerts.get(name)
        told = self.memory.told.get(name)
        if told is None:
            if alert is None or not alert.verdict.fired:
                return
            told = self.memory.told[name] = Told()
        if alert is not None:
            told.title, told.priority = title_of(name), alert.watch.rule.priority
        if alert is None or not alert.verdict.firing:
            told.acknowledged = told.noticed = told.unanswered = 0
            told.escalated = False
        elif self._is_silenced(alert, told, wall):
            told.noticed, told.escalated = 0, False
        elif not told.noticed and self._is_asked(name, told):
            told.noticed = wall
        routes = self._routes(alert, told, wall)
        for route in _ways(told):
            if route not in routes and self._is_busy(name, alert, route, wanted=False):
                return  # who has it lets go of it first
        for route in routes:
            self._track(told, alert, route, routes)
        for key, track in list(told.tracks.items()):
            route = tuple(key.split(","))
            if self._is_busy(name, alert, route, wanted=True):
                continue
            kind = self._kind(alert, told, track, at, wall, wanted=route in routes)
            if kind is None:
                if route not in routes and not track.told:
                    del told.tracks[key]
                continue
            self._bundle(name, alert, told, track, route, kind, due)
        if alert is None and not told.tracks:
            del self.memory.told[name]

    def _routes(self, alert: Alert | None, told: Told, wall: int) -> tuple[Route, ...]:
        if alert is None:
            return ()
        rule = alert.watch.rule
        if rule.escalate and told.noticed and not told.acknowledged and not told.escalated:
            told.escalated = wall - told.noticed >= rule.escalate_after * 1000
            if told.escalated:
                self.news.append(f"'{told.title}' is told to {rule.escalate} too: nobody has acknowledged it")
        return self.settings.routes(rule, escalated=told.escalated)

    @staticmethod
    def _track(told: Told, alert: Alert | None, route: Route, routes: tuple[Route, ...]) -> None:
        """Begin to tell on a route; who was told on one that is no more is told on this one from now on."""
        key = ",".join(route)
        if key in told.tracks or alert is None:
            return
        verdict, first = alert.verdict, not told.tracks
        new = Track(fired=0 if first else verdict.fired - verdict.firing, fired_for=0 if first else verdict.fired_for)
        for other in _ways(told):
            track = told.tracks[",".join(other)]
            for notifier in [notifier for notifier in track.told if notifier in route and other not in routes]:
                new.told[notifier] = track.told.pop(notifier)
                new.fired, new.spoken = max(new.fired, track.fired), track.spoken
        told.tracks[key] = new

    def _is_busy(self, name: str, alert: Alert | None, route: Route, *, wanted: bool) -> bool:
        """Whether a message is on its way; one that is no longer true, or not wanted there, is taken back."""
        messages = self.outbox.concerning(name, route)
        for message in messages:
            firing = alert is not None and alert.verdict.firing
            fired = alert.verdict.fired if alert is not None else 0
            true = firing == (message.kind in ("fires", "still")) and message.members[name].fired == fired
            if message.kind == "resolved" and alert is None:
                continue
            if not true or (not wanted and message.kind != "resolved"):
                self.outbox.withdraw(message)
        return bool(messages)

    def _kind(self, alert: Alert | None, told: Told, track: Track, at: int, wall: int, *, wanted: bool) -> Kind | None:
        waits = wall < track.not_before
        if alert is None:
            return "resolved" if track.told and not waits else None
        verdict, rule = alert.verdict, alert.watch.rule
        if alert.signal.behind > at:
            track.meanwhile = True
            return None
        waits = waits or self.settings.is_quiet(rule.priority, wall)
        if track.told and not verdict.firing:
            return None if waits else "resolved"
        silenced = self._is_silenced(alert, told, wall)
        if verdict.firing:
            explained = any(self.explains(other, wall) for other in alert.inhibitors)
            track.meanwhile = False
            if track.told:
                if silenced or explained or waits or told.acknowledged or not wanted:
                    return None
                again = rule.repeat is not None and wall - track.spoken >= rule.repeat * 1000
                return "still" if again or track.woken or track.ring else None
            if silenced or explained or not wanted:
                if silenced or not wanted or track.asked != verdict.fired:
                    track.explained = verdict.fired
                return None
            if alert.settles > at:
                return None  # its source has only just come back: what explained it may still do
            if track.explained == verdict.fired:
                track.explained = 0  # what explained it is over, and it still fires
            return None if waits or self.rests(alert, told, wall) else "fires"
        untold = verdict.fired - track.fired - (track.explained == verdict.fired)
        if untold <= 0 or not wanted:
            track.fired, track.fired_for, track.meanwhile = verdict.fired, verdict.fired_for, False
            return None
        return None if silenced or waits or self.rests(alert, told, wall) else "went"

    def _is_silenced(self, alert: Alert, told: Told, wall: int) -> bool:
        silenced = max(told.snoozed, self.memory.maintenance) > wall
        return silenced or self.judge.is_paused(alert)

    def _is_asked(self, name: str, told: Told) -> bool:
        """Whether people know of it, or a notifier was asked to tell them."""
        known = any(track.told or track.rounds for track in told.tracks.values())
        return known or any(name in message.members for message in self.outbox.waiting)

    def rests(self, alert: Alert, told: Told, wall: int) -> int:
        """Milliseconds until it may speak again after it was over."""
        return told.rests(alert.watch.rule, wall, self.hold_off)

    def explains(self, alert: Alert, wall: int) -> bool:
        """Only what fires explains, and only where people heard of it or do so at once, or of what explains it in turn."""
        told = self.memory.told.get(alert.watch.name) or Told()
        if not alert.verdict.firing or told.snoozed > wall or self.judge.is_paused(alert):
            return False
        heard = any(track.told for track in told.tracks.values())
        return heard or not self._waits(alert, told, wall) or any(self.explains(one, wall) for one in alert.inhibitors)

    def _waits(self, alert: Alert, told: Told, wall: int) -> bool:
        """Whether something keeps people from hearing of it: the hour, its hold-off, or that nobody delivers it."""
        if self.settings.is_quiet(alert.watch.rule.priority, wall) or self.rests(alert, told, wall):
            return True
        late = any(alert.watch.name in message.members for message in self.outbox.late())
        return late or any(track.rounds for track in told.tracks.values())

    def _bundle(  # noqa: PLR0917 (what `_look` knows)
        self,
        name: str,
        alert: Alert | None,
        told: Told,
        track: Track,
        route: Route,
        kind: Kind,
        due: dict[Bundle, list[Due]],
    ) -> None:
        over = kind == "resolved"
        group = (alert.watch.rule.group or "") if alert is not None else ""
        if told.priority == EMERGENCY:
            group = f"!{name}"
        targets: Iterable[str] = [""]
        if kind in ("resolved", "still"):
            targets = track.ring if track.ring and not over else track.told
        for target in targets:
            bundle = Bundle(route, target, kind, group, track.meanwhile and kind == "went")
            due.setdefault(bundle, []).append(Due(name, track))

    # -- messages -----------------------------------------------------------------------------------------------

    def _message(self, bundle: Bundle, members: list[Due], wall: int) -> Outgoing:
        members.sort(key=lambda due: -self.memory.told[due.name].priority)
        kind, over = bundle.kind, bundle.kind == "resolved"
        said = {}
        for name, track in members:
            alert = self.judge.alerts.get(name)
            verdict = alert.verdict if alert else None
            begun = track.told.get(bundle.target, 0) if over else verdict.since if verdict else 0
            said[name] = Member(begun, verdict.fired if verdict else 0, verdict.fired_for if verdict else 0)
            if kind == "still":
                track.woken, track.ring, track.spoken = False, [], wall
            elif kind == "fires":
                track.asked = said[name].fired
        message = Outgoing(
            self.identity(),
            Notice(text="", time=format_time(wall), rules=() if over else tuple(said)),
            kind,
            bundle.route,
            [bundle.target] if bundle.target or bundle.route == ("",) else list(bundle.route),
            said,
            meanwhile=bundle.meanwhile,
        )
        message.notice = self.composer.renewed(message, wall)
        self.news.append(message.notice.title)
        return message

    def publish(self, at: int, wall: int) -> list[tuple[str, Notice]]:
        """Messages to be published now; what is decided must be on disk before."""
        said = list(self.outbox.due(at, self.settings.fallback, lambda message: self.composer.renewed(message, wall)))
        for identity, notice in said:
            if not notice.notify:  # nobody reports: it is for whoever listens
                self.hear(identity, Report("", "delivered"), wall)
        return said

    # -- what became of them ------------------------------------------------------------------------------------

    def hear(self, identity: str, report: Report, wall: int) -> bool:
        """Take a notifier's report; True if it changes what must be kept."""
        settled = self.outbox.answer(identity, report)
        self._settle(settled, wall)
        return bool(settled)

    def _settle(self, settled: Iterable[Settled], wall: int) -> None:
        for one in settled:
            for name, member in one.message.members.items():
                if told := self.memory.told.get(name):
                    self._learn(one, name, member, told, wall)
            if not one.message.members and one.state == "failed":
                self.news.append(f"'{one.message.notice.title}' is not delivered: {one.reason}")

    def _learn(self, one: Settled, name: str, member: Member, told: Told, wall: int) -> None:
        message, notifier = one.message, one.notifier
        track = told.tracks.setdefault(",".join(message.route), Track(fired=member.fired, fired_for=member.fired_for))
        self.judge.changed.update({name} & self.judge.alerts.keys())
        if one.state == "expired":
            self._rang_in_vain(one, name, told, track)
        elif one.state == "failed":
            track.rounds += 1
            track.not_before = wall + min(self.longest_pause, self.pause * 2 ** min(track.rounds - 1, 10))
            self._failed[name] = one.reason
            if message.kind == "resolved" and (track.rounds > self.most_rounds or not self.settings.is_known(notifier)):
                track.told.pop(notifier, None)
                self.news.append(f"nobody can be told that '{told.title}' is over: {one.reason}")
        elif one.state == "delivered":
            track.rounds = track.not_before = 0
            self._failed.pop(name, None)
            told.history = [*told.history, Delivery(wall, notifier, message.notice.title)][-HISTORY:]
            if message.kind in ("fires", "still"):
                track.told[notifier] = member.since
            elif message.kind == "resolved":
                track.told.pop(notifier, None)
            if message.kind in ("resolved", "went"):
                told.end(wall, member.fired)
            track.spoken, track.meanwhile = wall, False
            if message.kind != "still":
                track.fired = max(track.fired, member.fired)
                track.fired_for = max(track.fired_for, member.fired_for)

    def _rang_in_vain(self, one: Settled, name: str, told: Told, track: Track) -> None:
        """Ask the next notifier, and ring again."""
        alert = self.judge.alerts.get(name)
        if alert is None or not alert.verdict.firing or told.acknowledged:
            return
        told.unanswered += 1
        chain = [*one.message.route, *one.message.route]
        following = chain[chain.index(one.notifier) + 1] if one.notifier in chain else one.notifier
        track.ring = list(dict.fromkeys((following, one.notifier)))
        self.news.append(f"'{told.title}' rang in vain: nobody has acknowledged it; {' and '.join(track.ring)} again")

    def untold(self) -> dict[str, str]:
        """Alerts of which nobody could be told so far, with the reason."""
        found = {}
        for message in self.outbox.late():
            for name in message.members:
                found[name] = f"{message.targets[0]} does not answer"
        found |= self._failed
        return {name: reason for name, reason in found.items() if self._is_untold(name)}

    def _is_untold(self, name: str) -> bool:
        told, alert = self.memory.told.get(name), self.judge.alerts.get(name)
        if told is None or alert is None or any(track.told for track in told.tracks.values()):
            return False
        return alert.verdict.firing or any(track.fired < alert.verdict.fired for track in told.tracks.values())

    # -- what people want ---------------------------------------------------------------------------------------

    def named(self, name: str) -> list[str]:
        """Alerts of a name or of a rule."""
        if name in self.judge.alerts:
            return [name]
        return [alert.watch.name for alert in self.judge.alerts.values() if alert.watch.owner == name]

    def acknowledge(self, names: Iterable[str], wall: int) -> list[str]:
        """Someone takes care: no more repeats until it is over. Returns those that were firing."""
        found = [name for name in names if name in self.judge.alerts and self.judge.alerts[name].verdict.firing]
        for name in found:
            self.memory.told.setdefault(name, Told(title=title_of(name))).acknowledged = wall
        self.judge.changed.update(found)
        return found

    def snooze(self, names: Iterable[str], until: int) -> None:
        """Say nothing of these until then (wall, ms); what still fires then is said again."""
        for name in names:
            self.memory.told.setdefault(name, Told(title=title_of(name))).snoozed = until
            self.judge.changed.add(name)

    def shift(self, step: int) -> None:
        """The clock was set by `step` ms: the past moves with it."""
        self.judge.shift(step)
        for told in self.memory.told.values():
            told.shift(step)
        for message in (*self.outbox.waiting, *self.outbox.settled):
            for member in message.members.values():
                member.since = max(1, member.since + step) if member.since else 0
        if self.memory.maintenance:
            self.memory.maintenance = max(1, self.memory.maintenance + step)
