"""Look at the alerts, ask why, try whether messages arrive and rules would have fired, acknowledge or silence.

    constellation alerts list
    constellation alerts why boiler_cold
    constellation alerts try 'boiler/water/temperature > 85' --for 1m --since 30d

`test` sends one message of each priority on every way to people, and waits for each answer. `try` runs a rule over what
the archive holds, with the machine of the service.
"""

import argparse
import heapq
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bootstrap_lib import Client, Duration, Registry, StartError, parse_time

if TYPE_CHECKING:
    from services.alerting import Watch
    from services.alerting.replay import Heard

MINUTE: Final = 60_000
"""Milliseconds: the minute that raw readings begin in is left to them."""
PATIENCE: Final = 75.0
"""Seconds that notifiers have to report on a test."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `alerts` takes."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="show every alert, those that fire first")
    listing.add_argument("--firing", action="store_true", help="only those that fire; exit code 1 if there are any")
    why = actions.add_parser("why", help="show why an alert fires or not, and who was told")
    why.add_argument("rule")
    trial = actions.add_parser("try", help="show when a rule would have fired, by what the archive holds")
    trial.add_argument("when", help="such as 'boiler/water/temperature > 85', or the name of a rule")
    trial.add_argument("--for", dest="lasts", metavar="FOR", help="how long it must be so")
    trial.add_argument("--clear", type=float, metavar="VALUE", help="the value at which it is over")
    trial.add_argument("--since", default="7d", metavar="SPAN", help="how far back to look (default: 7d)")
    trial.add_argument("--archive", metavar="INSTANCE", help="which one, where there are several")
    test = actions.add_parser("test", help="send one message of each priority, and wait for the answers")
    test.add_argument("--notify", default="", metavar="WHO", help="to this notifier, person or group")
    acknowledge = actions.add_parser("acknowledge", help="say that someone takes care")
    acknowledge.add_argument("rule")
    snooze = actions.add_parser("snooze", help="hear nothing of a rule for a time")
    snooze.add_argument("rule")
    snooze.add_argument("span", metavar="FOR", help="such as 2h; 0s ends it")
    maintenance = actions.add_parser("maintenance", help="hear nothing new at all for a time")
    maintenance.add_argument("span", metavar="FOR", help="such as 2h; 0s ends it")


def main(arguments: argparse.Namespace) -> int:
    """Show, or ask the alerts service."""
    registry = Registry(Registry.locate(arguments.config))
    if arguments.action == "try":
        return _try(registry, arguments)
    found = registry.find("alerts")
    if not found:
        raise StartError(f"{registry.path} has no alerts service: write `alerts: {{}}` below subscribers:")
    service = found[0].name
    with Client(registry) as client:
        if arguments.action == "list":
            return _show(client, service, only_firing=arguments.firing)
        if arguments.action == "test":
            return _test(client, service, arguments.notify)
        if arguments.action == "why":
            _explain(client.ask(service, "why", {"rule": arguments.rule}) or {})
            return 0
        given = {"rule": "rule", "span": "for"}
        body = {key: getattr(arguments, name) for name, key in given.items() if getattr(arguments, name, None)}
        for key, value in (client.ask(service, arguments.action, body) or {}).items():
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            print(f"{key}: {_plain(shown) if shown not in ('', None) else '-'}")
    return 0


def _plain(text: object) -> str:
    """Text with control characters shown: anybody may have published it."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(text))


# -- list -------------------------------------------------------------------------------------------------------


def _show(client: Client, service: str, *, only_firing: bool) -> int:
    status, health = f"service/{service}/status", f"service/{service}/health"
    alive = client.retained(status).get(status) == b"online"
    said = Client.json(client.retained(health).get(health, b"")) if alive else None
    if not isinstance(said, dict):
        print(f"{service} does not run: nobody is told anything, and what stands here may be old")
    alerts = {
        topic.rpartition("/")[2]: shown
        for topic, payload in client.retained("alert/+").items()
        if isinstance(shown := Client.json(payload), dict)
    }
    firing = 0
    for name, shown in sorted(alerts.items(), key=lambda item: (item[1].get("state") != "firing", item[0])):
        fires = shown.get("state") == "firing"
        firing += fires
        if fires or not only_firing:
            print(_line(name, shown))
    told = said.get("alerts", {}) if isinstance(said, dict) else {}
    for key, sentence in (
        ("maintenance_until", "maintenance: nothing new is told until {}"),
        ("untold", "nobody could be told so far: {}"),
        ("snoozed", "snoozed: {}"),
        ("never_seen", "never seen: {}"),
    ):
        if isinstance(told, dict) and (value := told.get(key)):
            print(_plain(sentence.format(", ".join(map(str, value)) if isinstance(value, list) else value)))
    return 1 if only_firing and firing else 0


def _line(name: str, shown: dict[str, Any]) -> str:
    marks = " (acknowledged)" if shown.get("acknowledged") else ""
    marks += f" (snoozed until {shown['snoozed_until']})" if "snoozed_until" in shown else ""
    line = f"{name:28} {shown.get('state', '?'):7} {shown.get('since', ''):25} {shown.get('text', '')}{marks}"
    return _plain(line.rstrip())


# -- why --------------------------------------------------------------------------------------------------------


def _explain(answer: dict[str, Any]) -> None:
    for one in answer.get("alerts", []):
        print(_plain(f"{one['alert']}: {one['state']}"))
        print(_plain(f"  rule       {one['rule']}"))
        if newest := one.get("newest"):
            value = f"{newest['value']} " if newest.get("value") else ""
            print(_plain(f"  newest     {value}at {newest['time']}, {newest['ago']} ago"))
        for title, lines in (
            ("found", one["found"]),
            ("held back", one["held_back"] or ["by nothing"]),
            (
                "told",
                [f"{told['notifier'] or 'whoever listens'}, of what began {told['since']}" for told in one["told"]],
            ),
            ("on the way", [f"'{way['title']}' at {way['notifier']} ({way['step']})" for way in one["on_the_way"]]),
            ("delivered", [f"{d['time']} '{d['title']}' by {d['notifier']}" for d in one["delivered"]]),
        ):
            for n, line in enumerate(lines or ["nothing" if title != "told" else "nobody"]):
                print(_plain(f"  {title if not n else '':10} {line}"))
    if answer.get("more"):
        print(f"and {answer['more']} more")


# -- test -------------------------------------------------------------------------------------------------------


def _test(client: Client, service: str, notify: str) -> int:
    client.subscribe("notify/+/answer")
    answer = client.ask(service, "test", {"notify": notify} if notify else {}) or {}
    waiting = {message["id"]: message for message in answer.get("messages", [])}
    failed: dict[str, str] = {}
    for message in client.messages(PATIENCE) if waiting else ():
        identity = message.topic.split("/")[-2]
        report = Client.json(message.payload)
        if identity not in waiting or not isinstance(report, dict):
            continue
        title, notifier, state = waiting[identity]["title"], report.get("notifier"), report.get("state")
        print(_plain(f"{title}: {state} by {notifier} {report.get('text', '')}".rstrip()), flush=True)
        chain = waiting[identity]["notify"].split(" then ")
        if state == "delivered" or chain[-1] == notifier:
            del waiting[identity]
            failed |= {} if state == "delivered" else {identity: title}
        if not waiting:
            break
    for message in waiting.values():
        print(_plain(f"{message['title']}: no answer from {message['notify']} within {Duration(PATIENCE)}"))
    if not answer.get("messages"):
        print("there is nobody to tell")
    return 1 if failed or waiting or not answer.get("messages") else 0


# -- try --------------------------------------------------------------------------------------------------------


def _try(registry: Registry, arguments: argparse.Namespace) -> int:
    from services.alerting import Rule, scope_of
    from services.alerting.check import compile_rules
    from services.alerting.trial import try_rule

    rules = registry.entries("alerts", Rule)
    try:
        span, lasts = Duration.parse(arguments.since), Duration.parse(arguments.lasts) if arguments.lasts else None
    except ValueError as error:
        raise StartError(str(error)) from None
    rule = rules.get(arguments.when) or Rule(when=arguments.when)
    rule = msgspec.structs.replace(
        rule,
        lasts=rule.lasts if lasts is None else lasts,
        clear=rule.clear if arguments.clear is None else arguments.clear,
        inhibited_by=[],
    )
    watches, problems = compile_rules({"tried": rule}, scope_of(registry))
    if problems:
        raise StartError(str(problems[0][1]))
    if any(watch.of_service for watch in watches):
        raise StartError("the archive holds what was measured, and nothing of services: try a rule on a topic")
    until = time.time_ns() // 1_000_000
    since = until - round(span * 1000)
    readings = _readings(registry, arguments.archive, watches, since, until)
    for line in try_rule(watches, readings, scope_of(registry)).lines(registry.timezone):
        print(_plain(line))
    return 0


def _readings(
    registry: Registry, archive: str | None, watches: Sequence["Watch"], since: int, until: int
) -> Iterator["Heard"]:
    """What the archive holds of topics, in the order of time: raw readings where it has them, minutes before.

    Of a minute of a gauge or a switch the value counts that the rule is afraid of. Beside them stands each minute in
    which anything at all was stored: a topic that is silent while others speak is told from a time in which nobody listened.
    """
    from services.alerting.replay import ANYTHING
    from services.alerting.trial import fears_low
    from services.stores import export
    from services.stores.archive_file import open_archive
    from services.stores.heard import clearings, heard

    zone = registry.timezone
    with open_archive(registry, archive) as engine:
        names = sorted({watch.key for watch in watches} & set(export.topics(engine)))
        if not names:
            return
        raw = (
            (name, _value(registry, name, value), parse_time(time))
            for _, rows in export.rows(engine, "raw", names, since, until, zone)
            for name, time, value, _ in rows
        )
        first = next(raw, None)
        begin = first[2] - MINUTE if first else until
        low = fears_low(watches)
        by_topic = [
            _minutes(registry, export.rows(engine, "minutes", [name], since, begin, zone), name in low)
            for name in names
        ]
        ask = partial(export.ask, engine)
        cleared = ((name, None, time) for name, time in clearings(ask, names, since, until))
        signs = ((ANYTHING, None, time) for time in heard(ask, since, until))
        late = (first, *raw) if first else ()
        yield from heapq.merge(signs, *by_topic, late, cleared, key=lambda reading: reading[2])


def _minutes(registry: Registry, slices: Iterable[Any], low: bool) -> Iterator[tuple[str, Any, int]]:
    from services.alerting.trial import KeptMinute

    for _, rows in slices:
        for name, moment, _, _, mean, lowest, highest, _, *of_switch in rows:
            value = KeptMinute(mean, lowest, highest, *of_switch).feared(registry.topics[name].kind, low=low)
            if value is not None:
                yield name, value, parse_time(moment)


def _value(registry: Registry, name: str, stored: Any) -> Any:
    if registry.topics[name].kind == "switch":
        return stored in (1, 1.0, "true", True)
    return stored if registry.topics[name].kind == "state" else float(stored)
