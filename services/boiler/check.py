"""The lines of topics.yaml that phases stand on, checked against each other: inputs that exist, outputs that there are.

Like the registry this uses its "did you mean"; nothing here does I/O.
"""

from collections.abc import Iterator
from typing import Any, Final

from bootstrap_lib import Duration, Nothing, Problem, Registry, Topic, nearest
from services.boiler.boiler import OUTPUTS, WORDS, BoilerEntry
from services.boiler.tellable import missing_for, tells
from services.boiler.units import UNITS

SLOW: Final = 25.0
"""Seconds: of an auger that is read less often the pauses are not seen, and its feeding is taken for an offset of its clamp."""


def compile_entries(
    registry: Registry, name: str
) -> tuple[dict[str, BoilerEntry], dict[str, Topic[Any]], list[Problem]]:
    """Boilers whose outputs come from an instance, the topics of these, and what is wrong with them."""
    entries = registry.entries("phases", BoilerEntry)
    topics: dict[str, Topic[Any]] = {topic.name: topic for topic in registry.topics_of(name, Nothing)}
    problems = [
        registry.document.problem(path, sentence)
        for path, sentence in (*_inputs(registry, entries), *_outputs(registry, entries, topics))
    ]
    things = {topic.rpartition("/")[0] for topic in topics}
    return {key: entry for key, entry in entries.items() if entry.thing in things}, topics, problems


def _inputs(registry: Registry, entries: dict[str, BoilerEntry]) -> Iterator[tuple[tuple[str, ...], str]]:
    things: dict[str, str] = {}
    for name, entry in entries.items():
        given = entry.inputs.topics
        path = ("phases", name)
        for role, topic in given.items():
            if topic not in registry.topics:
                yield (*path, "inputs", role), f"topics.yaml has no topic '{topic}'{nearest(topic, registry.topics)}"
            elif registry.topics[topic].kind != "gauge":
                yield (
                    (*path, "inputs", role),
                    f"'{topic}' is no temperature or current, but a {registry.topics[topic].kind}",
                )
        if len(set(given.values())) < len(given):
            yield (*path, "inputs"), "a topic stands here twice: each role has a topic of its own"
        for button, chore in entry.buttons.topics.items():
            if entry.profile == "legacy":
                yield (*path, "buttons", chore), "the legacy profile reminds of nothing: take the button out"
            if button not in registry.topics:
                hint = nearest(button, registry.topics)
                yield (*path, "buttons", chore), f"topics.yaml has no topic '{button}'{hint}"
            elif registry.topics[button].kind != "switch":
                yield (*path, "buttons", chore), f"'{button}' is no switch, but a {registry.topics[button].kind}"
        if "water" not in given and (entry.profile == "legacy" or "flue" not in given):
            yield (
                (*path, "inputs"),
                f"give the topic of the water{'' if entry.profile == 'legacy' else ', or of the flue'}",
            )
        if entry.thing in things:
            yield (*path, "thing"), f"'{entry.thing}' is that of '{things[entry.thing]}' too: each has its own"
        things[entry.thing] = name
        if not any(topic.rpartition("/")[0] == entry.thing for topic in registry.topics):
            line = f"{entry.thing}/phase: {{from: phase, states: [{', '.join(WORDS[entry.profile])}]}}"
            yield (*path, "thing"), f"nothing below topics: is its output: add at least `{line}`"


def _outputs(
    registry: Registry, entries: dict[str, BoilerEntry], topics: dict[str, Topic[Any]]
) -> Iterator[tuple[tuple[str, ...], str]]:
    profiles = {entry.thing: entry.profile for entry in entries.values()}
    for topic in topics.values():
        thing, _, output = topic.name.rpartition("/")
        path = ("topics", registry.key_of(topic.name))
        if thing not in profiles:
            hint = nearest(thing, profiles) or f": it may be one of {', '.join(profiles) or 'none'}"
            yield path, f"no entry of phases: has the thing '{thing}'{hint}"
            continue
        outputs, words = OUTPUTS[profiles[thing]], WORDS[profiles[thing]]
        if output not in outputs:
            hint = nearest(output, outputs) or f": there are {', '.join(outputs)}"
            yield path, f"'{output}' is no output of a phase{hint}"
        elif topic.unit != UNITS[output]:
            yield (*path, "unit"), f"its unit is '{UNITS[output]}', not '{topic.unit}'"
        elif output == "phase" and (missing := [word for word in words if word not in topic.states]):
            yield (*path, "states"), f"{', '.join(missing)} is missing: write states: [{', '.join(words)}]"


def tells_of(registry: Registry) -> Iterator[str]:
    """Lines that say what the inputs of each boiler can tell, and which lines of topics.yaml nothing will come of."""
    for name, entry in registry.entries("phases", BoilerEntry).items():
        if entry.profile == "legacy":
            continue
        roles = frozenset(entry.inputs.topics)
        yield from (f"{name}: {line}" for line in tells(roles, entry.rules))
        auger = registry.topics.get(entry.inputs.topics.get("auger", ""))
        if auger and "flue" not in roles and auger.every > SLOW and entry.rules.auger.duty_max < 1.0:
            yield (
                f"{name}: combustion is hardly told: without the input flue the pauses of {auger.name} show it, and its"
                f" source reads it every {Duration(auger.every)}: read it every 20s or more often, or what burns is said to rest"
            )
        for topic in registry.topics:
            thing, _, output = topic.rpartition("/")
            if thing == entry.thing and (why := missing_for(output, roles, entry.rules)):
                yield f"{name}: nothing is published on {topic}: it wants {why}"
