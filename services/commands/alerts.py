"""Look at the alerts, try whether messages arrive, acknowledge or silence.

`list` shows every alert, those that fire first. `test` sends one message of each priority to the notifiers.
"""

import argparse

from bootstrap_lib import Client, Registry, StartError, find_registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `alerts` takes."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="show every alert, those that fire first")
    listing.add_argument("--firing", action="store_true", help="only those that fire; exit code 1 if there are any")
    test = actions.add_parser("test", help="send one message of each priority")
    test.add_argument("--notify", default="", metavar="NOTIFIER", help="to this one (default: as rules that name none)")
    acknowledge = actions.add_parser("acknowledge", help="say that someone takes care")
    acknowledge.add_argument("rule")
    snooze = actions.add_parser("snooze", help="hear nothing of a rule for a time")
    snooze.add_argument("rule")
    snooze.add_argument("span", metavar="FOR", help="such as 2h; 0s ends it")
    maintenance = actions.add_parser("maintenance", help="hear nothing new at all for a time")
    maintenance.add_argument("span", metavar="FOR", help="such as 2h; 0s ends it")


def main(arguments: argparse.Namespace) -> int:
    """Show, or ask the alerts service."""
    registry = Registry(find_registry(arguments.config))
    with Client(registry) as client:
        if arguments.action == "list":
            return _show(client, only_firing=arguments.firing)
        found = registry.find("alerts")
        if not found:
            raise StartError(f"{registry.path} has no alerts service: write `alerts: {{}}` below subscribers:")
        given = {"rule": "rule", "span": "for", "notify": "notify"}
        body = {key: getattr(arguments, name) for name, key in given.items() if getattr(arguments, name, None)}
        answer = client.ask(found[0].name, arguments.action, body) or {}
        for key, value in answer.items():
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            print(f"{key}: {shown if shown not in ('', None) else '-'}")
    return 0


def _show(client: Client, *, only_firing: bool) -> int:
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
            marks = " (acknowledged)" if shown.get("acknowledged") else ""
            marks += f" (snoozed until {shown['snoozed_until']})" if "snoozed_until" in shown else ""
            line = f"{name:40} {shown.get('state', '?'):7} {shown.get('since', ''):25} {shown.get('text', '')}{marks}"
            print(line.rstrip())
    return 1 if only_firing and firing else 0
