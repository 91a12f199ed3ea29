"""The rules of topics.yaml: what is wrong with them, said with their lines, and what the alerts service looks at.

Nothing here does I/O, but for the roster of a fleet.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Final

from bootstrap_lib import DocumentError, Problem, Registry, StartError, nearest
from services.alerting.condition import Scope, Watch, watches_of
from services.alerting.limits import COMPARE, FALLING, RISING, Condition
from services.alerting.people import People
from services.alerting.rule import Rule, RuleError, hint, is_name, listed
from services.alerting.settings import AlertOptions
from services.alerting.wording import rendered_with_made_up_values
from services.fleet import roster

STEEPEST: Final = 5
"""A line through readings over half of a rate's span or more changes within the span by no more than this times their range."""
LEAST_REPEAT: Final = 60.0
"""Seconds between two messages that it still is so, at least."""


def compile_rules(rules: Mapping[str, Rule], scope: Scope) -> tuple[list[Watch], list[tuple[str, RuleError]]]:
    """Turn rules into what is looked at; what is wrong is returned by the name of its rule."""
    watches: dict[str, Watch] = {}
    problems: list[tuple[str, RuleError]] = []
    for name, rule in rules.items():
        try:
            _check(name, rule, rules, scope)
            for watch in watches_of(name, rule, scope):
                other = watches.get(watch.name)
                if other and watch.house:
                    continue  # names that one house made to look alike cost no other
                if other:
                    raise RuleError(
                        "", f"rule '{other.owner}' makes an alert {watch.name} too: give one of them another name"
                    )
                if not _may_fire(watch, scope):
                    continue
                rendered_with_made_up_values(watch)
                watches[watch.name] = watch
        except RuleError as error:
            problems.append((name, error))
    wrong = {name for name, _ in problems}
    for watch in watches.values():
        if watch.owner not in wrong and (explained := _always_explained(watch, watches.values())):
            wrong.add(watch.owner)
            problems.append((watch.owner, RuleError("inhibited_by", explained)))
    return list(watches.values()), problems


def _check(name: str, rule: Rule, rules: Mapping[str, Rule], scope: Scope) -> None:
    if not is_name(name):
        raise RuleError("", "no name for a rule: use small letters, digits and _")
    if (rule.when is None) == (rule.stale is None):
        raise RuleError("", "needs exactly one of when: and stale:")
    if rule.repeat is not None and rule.repeat < LEAST_REPEAT:
        raise RuleError("repeat", "at least 1m; leave it out for never")
    for key, given, known in (
        ("inhibited_by", listed(rule.inhibited_by), rules),
        ("notify", listed(rule.notify), scope.notifiers),
        ("escalate", listed(rule.escalate or []), scope.notifiers),
        ("picture", listed(rule.picture or []), scope.topics),
    ):
        for word in given:
            if word not in known:
                raise RuleError(key, f"'{word}' is not known{hint(word, known)}")
    if name in _inhibitors(name, rules):
        raise RuleError("inhibited_by", "it would inhibit itself, in a ring")


def _inhibitors(name: str, rules: Mapping[str, Rule]) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        rule = rules.get(waiting.pop())
        new = set(listed(rule.inhibited_by)) - found if rule else set()
        found |= new
        waiting += new
    return found


def _may_fire(watch: Watch, scope: Scope) -> bool:
    """Whether it is looked at: RuleError where it can never fire; False where that is so for what one house says of its topic."""
    try:
        _can_fire(watch, scope)
    except RuleError:
        if not watch.house:
            raise
        return False
    return True


def _can_fire(watch: Watch, scope: Scope) -> None:
    """RuleError for a limit that no value of the topic ever passes, or never passes back."""
    sign, limit, topic = watch.condition.operator, watch.condition.operand, scope.topics.get(watch.key)
    derived, growth = watch.condition.derived, watch.condition.derived == "growth"
    if growth and watch.counts and not isinstance(limit, str) and sign in FALLING:
        if limit < 0 or (sign == "<" and limit == 0):
            raise RuleError("when", "it can never fire: a counter does not fall")
        return
    if topic is None or isinstance(limit, (bool, str)) or (derived and watch.counts):
        return
    low, high = topic.low, topic.high
    said = f"readings of {watch.key} are from {_bound(low)} to {_bound(high)}"
    if derived:
        if low is None or high is None:
            return
        widest = (high - low) * (1 if growth else STEEPEST)
        low, high = -widest, widest
    above = high is not None and sign in (">", ">=", "==") and (limit > high or (sign == ">" and limit == high))
    below = low is not None and sign in ("<", "<=", "==") and (limit < low or (sign == "<" and limit == low))
    if above or below:
        raise RuleError("when", f"it can never fire: {said}")
    clear, last = watch.rule.clear, high if sign in FALLING else low
    if clear is not None and last is not None and COMPARE[sign](last, clear):
        raise RuleError("clear", f"it would never be over: {said}")
    wanted = watch.rule.armed_at
    if wanted is not None and (
        (sign in FALLING and high is not None and wanted > high)
        or (sign in RISING and low is not None and wanted < low)
    ):
        raise RuleError("armed_at", f"it can never fire, as nothing ever arms it: {said}")


def _bound(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"


def _always_explained(watch: Watch, watches: Collection[Watch]) -> str:
    """Why nobody would ever hear of an alert: one that explains it fires whenever it does."""
    if not watch.rule.inhibited_by:  # a fleet has thousands that nothing explains
        return ""
    for other in watches:
        if other.owner not in listed(watch.rule.inhibited_by) or other.key != watch.key or other.lasts > watch.lasts:
            continue
        if other.rule.armed_at not in (None, watch.rule.armed_at):
            continue
        its, mine = other.condition, watch.condition
        if _follows(its, mine) and _follows(replace(its, operand=other.clear), replace(mine, operand=watch.clear)):
            return f"it can never speak: '{other.owner}' fires whenever it does, and explains it; turn it round"
    return ""


def _follows(its: Condition, mine: Condition) -> bool:
    """Whether one condition is true whenever another of the same topic is."""
    if its == mine:
        return True
    if (its.derived, its.span) != (mine.derived, mine.span):
        return False
    if mine.operator == "==":
        return COMPARE[its.operator](mine.operand, its.operand)
    if isinstance(mine.operand, str) or isinstance(its.operand, str):
        return False
    for way in (RISING, FALLING):
        if mine.operator in way and its.operator in way:
            beyond = COMPARE[way[0]](mine.operand, its.operand)
            return beyond or (mine.operand == its.operand and (its.operator == way[1] or mine.operator == way[0]))
    return False


def scope_of(registry: Registry) -> Scope:
    """What rules may speak of; at a centre its houses too, whose topics they say themselves."""
    subscribers = [instance.name for instance in registry.instances.values() if instance.section == "subscribers"]
    people = people_of(registry)
    who = (*subscribers, *people.names())
    phases = {instance.name for instance in registry.find("phase")}
    concluded = {name for name, topic in registry.topics.items() if topic.source in phases}
    return Scope(registry.topics, list(registry.instances), who, houses_of(registry), concluded)


def _options(registry: Registry) -> tuple[tuple[str, ...], AlertOptions]:
    """What the alerts service is told, and where that stands; nothing where it cannot be read."""
    for instance in registry.find("alerts"):
        try:
            return (instance.section, instance.name), registry.options_of(instance.name, AlertOptions)
        except DocumentError:
            break
    return (), AlertOptions()


def people_of(registry: Registry) -> People:
    """People and groups, as the alerts service's options have them; nobody where those cannot be read."""
    _, options = _options(registry)
    return People(options.people, options.groups)


def houses_of(registry: Registry) -> frozenset[str] | None:
    """Houses of the roster at a centre that are not revoked; None in a house. DocumentError for a file that is no roster."""
    place, options = _options(registry)
    if options.houses is None:
        return None
    try:
        found = roster.read(options.houses)
    except StartError as error:
        raise DocumentError([registry.document.problem((*place, "houses"), str(error))]) from None
    return frozenset(name for name, house in found.houses.items() if not house.revoked)


def compile_lines(registry: Registry, scope: Scope | None = None) -> tuple[list[Watch], list[Problem]]:
    """What is looked at, and the rules that cannot be used with their lines; `scope` knows more than topics.yaml."""
    watches, problems = compile_rules(registry.entries("alerts", Rule), scope or scope_of(registry))
    place = registry.document.problem
    return watches, [
        place(("alerts", rule, error.key) if error.key else ("alerts", rule), str(error)) for rule, error in problems
    ]


def unknown_recipients(registry: Registry, name: str, given: Collection[str]) -> Iterator[Problem]:
    """Names `given` as `notify` to the instance `name` that can be told nothing."""
    known = scope_of(registry).notifiers
    place = registry.instances[name].section, name, "notify"
    for word in given:
        if word not in known:
            yield registry.document.problem(place, f"no subscriber is named '{word}'{nearest(word, known)}")
