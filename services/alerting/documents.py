"""What is shown of an alert: on its topic, and to whoever asks why."""

from collections.abc import Collection
from typing import Any, Final

from bootstrap_lib import Duration, format_time
from services.alerting.condition import Watch
from services.alerting.telling import Teller
from services.alerting.told import Told
from services.alerting.verdict import Alert, Verdict
from services.alerting.wording import clean, shown

NAMED: Final = 20
"""Alerts and topics that an answer or health names at most."""


def document_of(teller: Teller, name: str, wall: int) -> dict[str, Any]:
    """What `home/alert/<name>` shows."""
    alert = teller.judge.alerts[name]
    told = teller.memory.told.get(name) or Told()
    verdict, watch, firing = alert.verdict, alert.watch, alert.verdict.firing
    since = verdict.since if firing else verdict.until
    worst = verdict.worst if firing else None
    notifiers = sorted({notifier for track in told.tracks.values() for notifier in track.told if notifier})
    content: dict[str, Any] = {
        "state": "firing" if firing else "ok",
        "since": format_time(since) if since else None,
        "rule": watch.owner,
        "topic": watch.key,
        "value": _rounded(verdict.value, watch.decimals),
        "time": format_time(verdict.time) if verdict.value is not None and verdict.time else None,
        "worst": _rounded(worst, watch.decimals),
        "worst_time": format_time(verdict.worst_time) if worst is not None else None,
        "unit": watch.unit or None,
        "text": teller.composer.text(alert, wall) if firing else None,
        "priority": watch.rule.priority,
        "acknowledged": bool(told.acknowledged),
        "snoozed_until": format_time(told.snoozed) if told.snoozed else None,
        "told": notifiers or None,
        "rang_in_vain": told.unanswered or None,
    }
    return {key: value for key, value in content.items() if value is not None}


def _rounded(value: object, decimals: int) -> object:
    return round(value, decimals) if isinstance(value, float) else value


def names_shown(teller: Teller) -> list[str]:
    """Alerts that have a topic: all of rules on one thing, and of patterns those that ever fired or are snoozed."""
    snoozed = {name for name, told in teller.memory.told.items() if told.snoozed}
    return [
        name
        for name, a in teller.judge.alerts.items()
        if name == a.watch.owner or a.verdict.firing or a.verdict.until or name in snoozed
    ]


def explanation_of(teller: Teller, name: str, at: int, wall: int) -> dict[str, Any]:
    """Everything that bears on whether people hear of an alert: its rule, its readings, what holds it back, who was told."""
    alert = teller.judge.alerts[name]
    watch, signal = alert.watch, alert.signal
    told = teller.memory.told.get(name) or Told()
    said = watch.rule.when or f"{watch.rule.stale} is stale"
    newest = None
    if signal.pulse.time:
        newest = {
            "time": format_time(signal.pulse.time),
            "value": f"{shown(signal.value, watch.decimals)} {watch.unit}".strip(),
            "ago": Duration(max(0, wall - signal.pulse.time) / 1000),
        }
    return {
        "alert": name,
        "rule": clean(said) + f", for {Duration(watch.lasts)}" * bool(watch.lasts),
        "state": "firing" if alert.verdict.firing else "ok",
        "looks_at": watch.key,
        "newest": newest,
        "found": _findings(alert, at, wall),
        "held_back": reasons(teller, name, at, wall),
        "told": [
            {"notifier": notifier, "since": format_time(begun)}
            for track in told.tracks.values()
            for notifier, begun in track.told.items()
        ],
        "delivered": [
            {"time": format_time(time), "notifier": notifier or "whoever listens", "title": title}
            for time, notifier, title in told.history
        ],
        "on_the_way": [
            {"title": message.notice.title, "notifier": message.targets[0], "step": message.step}
            for message in teller.outbox.waiting
            if name in message.members
        ],
    }


def _findings(alert: Alert, at: int, wall: int) -> list[str]:
    """What its readings say, in sentences."""
    verdict, watch, signal = alert.verdict, alert.watch, alert.signal
    found = []
    if not signal.pulse.time:
        return [f"{watch.key} has never been seen: it cannot fire before it is"]
    if signal.by_arrival:
        found.append("the clock of its source stands or goes back: its readings count from when they arrive")
    if watch.is_silence and signal.patience is None:
        found.append("it comes too seldom to be called silent: nobody knows its pace yet")
    if verdict.firing:
        found.append(f"it fires since {format_time(verdict.since)}")
    elif verdict.met:
        so_far = (wall if watch.is_silence else signal.now(at)) - verdict.since
        found.append(
            f"it is so since {format_time(verdict.since)}: for {Duration(so_far / 1000)} of {Duration(watch.lasts)}"
        )
    elif verdict.until:
        found.append(f"it is not so, since {format_time(verdict.until)}")
    else:
        found.append("it is not so, and never was")
    if verdict.value is not None:
        found.append(
            f"judged last: {shown(verdict.value, watch.decimals)} {watch.unit} at {format_time(verdict.time)}".strip()
        )
    if verdict.fired:
        times = "once" if verdict.fired == 1 else f"{verdict.fired} times"
        found.append(f"it has fired {times}, for {Duration(verdict.fired_for / 1000)} before now")
        found.append(_last_firing(verdict, watch))
    return [clean(sentence) for sentence in found if sentence]


def _last_firing(verdict: Verdict, watch: Watch) -> str:
    """The readings that made it fire."""
    worst = ""
    if verdict.worst is not None:
        worst = (
            f"worst {shown(verdict.worst, watch.decimals)} {watch.unit}".rstrip()
            + f" at {format_time(verdict.worst_time)}"
        )
    if verdict.firing:
        return worst
    began = f"the last time began {format_time(verdict.began)}" if verdict.began else ""
    return ", ".join(part for part in (began, worst) if part)


def reasons(teller: Teller, name: str, at: int, wall: int) -> list[str]:
    """What keeps people from hearing of it now, in sentences."""
    alert, judge = teller.judge.alerts[name], teller.judge
    told, rule = teller.memory.told.get(name) or Told(), alert.watch.rule
    found = []
    if told.snoozed > wall:
        found.append(f"snoozed until {format_time(told.snoozed)}")
    if teller.memory.maintenance > wall:
        found.append(f"maintenance until {format_time(teller.memory.maintenance)}")
    if judge.is_paused(alert):
        cut = alert.watch.house
        found.append(f"{cut} has no link, or is paused" if cut else f"{alert.watch.source} is paused")
    found += [
        f"explained by {other.watch.name}, which fires" for other in alert.inhibitors if teller.explains(other, wall)
    ]
    if alert.signal.behind > at:
        found.append("a backlog of readings is being read")
    if left := teller.rests(alert, told, wall):
        found.append(f"hold-off for another {Duration(left / 1000)}: it was over a moment ago")
    if teller.settings.is_quiet(rule.priority, wall):
        found.append("quiet hours")
    if told.acknowledged:
        found.append(f"acknowledged at {format_time(told.acknowledged)}: no repeats")
    for route, track in told.tracks.items():
        if track.not_before > wall:
            found.append(
                f"{route or 'nobody'} could not deliver: tried again in {Duration((track.not_before - wall) / 1000)}"
            )
    return found


def health_of(teller: Teller, rules: int, untold: Collection[str], wall: int) -> dict[str, Any]:
    """What the service's health says of alerts; `untold` are those of which nobody could be told."""
    judge, memory = teller.judge, teller.memory
    shown: dict[str, Any] = {
        "rules": rules,
        "firing": len(judge.firing()),
        "undelivered": len(teller.outbox.waiting),
        "untold": sorted(untold)[:NAMED],
        "snoozed": sorted(name for name, told in memory.told.items() if told.snoozed > wall)[:NAMED],
        "never_seen": sorted(key for key, signal in judge.signals.items() if not signal.pulse.time)[:NAMED],
        "by_arrival": sorted(key for key, signal in judge.signals.items() if signal.by_arrival)[:NAMED],
    }
    if memory.maintenance > wall:
        shown["maintenance_until"] = format_time(memory.maintenance)
    return shown
