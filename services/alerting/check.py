"""The lines of topics.yaml that alerts stand on: rules on things that exist, notifiers that there are.

Nothing here does I/O.
"""

from collections.abc import Collection, Iterator
from typing import Final

from bootstrap_lib import Problem, Registry, nearest
from services.alerting.rule import House, Rule, Watch, compile_rules

NOTIFIERS: Final = ("pushover", "apprise")
"""Services that bring messages to people, in the order in which they are tried."""


def house_of(registry: Registry) -> House:
    """What rules may speak of."""
    subscribers = [instance.name for instance in registry.instances.values() if instance.section == "subscribers"]
    return House(registry.topics, list(registry.instances), subscribers)


def compile_lines(registry: Registry) -> tuple[list[Watch], list[Problem]]:
    """What the engine looks at, and the rules that cannot be used with their lines."""
    watches, problems = compile_rules(registry.entries("alerts", Rule), house_of(registry))
    place = registry.document.problem
    return watches, [
        place(("alerts", rule, error.key) if error.key else ("alerts", rule), str(error)) for rule, error in problems
    ]


def notifiers_of(registry: Registry) -> tuple[str, ...]:
    """Instances that bring messages to people."""
    return tuple(instance.name for service in NOTIFIERS for instance in registry.find(service))


def unknown_notifiers(registry: Registry, name: str, given: Collection[str]) -> Iterator[Problem]:
    """Notifiers `given` to the instance `name` that no subscriber is."""
    subscribers = house_of(registry).notifiers
    for notifier in given:
        if notifier not in subscribers:
            place = registry.instances[name].section, name, "notify"
            yield registry.document.problem(
                place, f"no subscriber is named '{notifier}'{nearest(notifier, subscribers)}"
            )
