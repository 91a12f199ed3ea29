"""What version 0.1.0 kept of its alerts, brought up to what is kept today: what people had been told of gets its end.

That version counted an alert as told when the message was decided, and wrote nothing of who delivered it. So the first notifier of
a rule's way is taken for the one that did, unless the message still waits: then it goes on as it is, under its own name,
by which a notifier that had it already knows it again.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec import Struct

from services.alerting.condition import Watch
from services.alerting.hearing import Pace
from services.alerting.outbox import Member, Outgoing
from services.alerting.people import Route
from services.alerting.rule import Moment, Value
from services.alerting.settings import TellerSettings
from services.alerting.told import TellerMemory, Told, Track
from services.alerting.verdict import JudgeMemory, Verdict
from services.alerting.window import Window
from services.alerting.wording import Kind, title_of
from services.notices.notice import Notice


class EarlierStanding(Struct):
    """One alert. `since`, `begun`, `until`, `time` are reading time, others wall time (ms)."""

    met: bool = False
    since: Moment = 0
    firing: bool = False
    until: Moment = 0
    value: Value | None = None
    time: Moment = 0
    told: bool = False
    """It was decided that people hear that it fires, and not yet that they hear that it is over."""
    begun: Moment = 0
    """When that of which they were told began."""
    spoken: Moment = 0
    ended: Moment = 0
    acknowledged: Moment = 0
    snoozed: Moment = 0
    window: Window | None = None


class EarlierMissed(Struct):
    """An alert that came and went in a backlog, of which the summary was not said yet (reading time, ms)."""

    title: str
    since: Moment
    until: Moment


class EarlierMessage(Struct):
    """A message that nobody had delivered; `channels` are the notifiers still to be asked."""

    id: str
    notice: Notice
    channels: list[str]


class EarlierMemory(Struct):
    """All alerts."""

    standings: dict[str, EarlierStanding] = {}
    missed: list[EarlierMissed] = []
    maintenance: Moment = 0


class Taken(NamedTuple):
    """What became of it."""

    judge: JudgeMemory
    teller: TellerMemory


def bring_up(
    memory: EarlierMemory, messages: Iterable[EarlierMessage], watches: Iterable[Watch], settings: TellerSettings
) -> Taken:
    """Make today's memory of that of 0.1.0; `watches` and `settings` say what its names are about, and whom it told."""
    by_name = {watch.name: watch for watch in watches}
    judge, teller = JudgeMemory(), TellerMemory(maintenance=memory.maintenance)
    for name, standing in memory.standings.items():
        watch = by_name.get(name)
        routes = settings.routes(watch.rule) if watch else settings.channels()
        teller.told[name] = _told(name, standing, watch, routes)
        if watch:
            judge.verdicts[name] = _verdict(standing, watch)
            pace = judge.pulses.setdefault(watch.key, Pace())
            pace.time = pace.own = max(pace.time, standing.time)
        judge.alive = max(judge.alive, standing.time, standing.spoken)
    for missed in memory.missed:
        for name, verdict in judge.verdicts.items():
            if title_of(name) == missed.title and not verdict.firing:
                verdict.fired, verdict.fired_for = verdict.fired + 1, verdict.fired_for + missed.until - missed.since
                verdict.began, verdict.until = missed.since, missed.until
    for message in messages:
        _wait(message, memory.standings, teller, settings)
    return Taken(judge, teller)


def _verdict(standing: EarlierStanding, watch: Watch) -> Verdict:
    fired = standing.firing or standing.told or bool(standing.until)
    began = standing.since if standing.firing else standing.begun
    return Verdict(
        watch.key,
        watch.condition.derived,
        armed=standing.met,
        met=standing.met,
        since=standing.since,
        firing=standing.firing,
        began=began,
        until=standing.until,
        value=standing.value,
        time=standing.time,
        fired=int(fired),
        fired_for=max(0, standing.until - began) if fired and began and not standing.firing else 0,
        window=standing.window,
    )


def _told(name: str, standing: EarlierStanding, watch: Watch | None, routes: Iterable[Route]) -> Told:
    untold = standing.firing and not standing.told
    fired = int(bool(standing.told or standing.until) and not untold)
    told = Told(
        title=title_of(name),
        priority=watch.rule.priority if watch else 0,
        ended=standing.ended,
        acknowledged=standing.acknowledged,
        snoozed=standing.snoozed,
    )
    for route in routes:
        known = {route[0]: standing.begun or standing.since} if standing.told else {}
        told.tracks[",".join(route)] = Track(told=known, fired=fired, spoken=standing.spoken)
    return told


def _wait(
    message: EarlierMessage, standings: Mapping[str, EarlierStanding], teller: TellerMemory, settings: TellerSettings
) -> None:
    """Let a message go on; the alerts that it alone tells of are told once it is delivered."""
    names = [name for name in message.notice.rules if name in standings and standings[name].told]
    alone = names if len(names) == message.notice.text.count("\n") + 1 else []
    first = message.channels[0] if message.channels else ""
    ways = [tuple(key.split(",")) for name in alone for key in teller.told[name].tracks]
    route = next((way for way in (*ways, *settings.channels()) if first in way), tuple(message.channels) or ("",))
    members = {}
    for name in alone:
        if track := teller.told[name].tracks.get(",".join(route)):
            members[name] = Member(next(iter(track.told.values()), 0), 1)
            track.told, track.fired = {}, 0
    kind: Kind = "fires" if members else "went"
    teller.waiting.append(
        Outgoing(message.id, message.notice, kind, route, list(message.channels) or [""], members)  # as it was decided
    )
