"""One boiler as an entry of `phases:` describes it: inputs by topic, the detector of its profile, and what it last told."""

from typing import Annotated, Final, Literal, Protocol, cast

import msgspec
from msgspec import Meta, Struct

from bootstrap_lib import format_time
from services.boiler.detector import PhaseDetector
from services.boiler.legacy import MINUTE_MS, NUMBERS, Legacy, LegacyPhase, LegacyRules, LegacyState, Minute
from services.boiler.rules import PHASES, Role, Rules
from services.boiler.state import DetectorState, Event
from services.boiler.stock import CHORES
from services.boiler.tellable import missing_for
from services.boiler.units import UNITS

Value = bool | int | float | str
Profile = Literal["modern", "legacy"]

WORDS: Final[dict[Profile, tuple[str, ...]]] = {"modern": PHASES, "legacy": tuple(NUMBERS)}
"""The phases that each profile knows."""
OUTPUTS: Final[dict[Profile, tuple[str, ...]]] = {
    "modern": tuple(UNITS),
    "legacy": ("phase", "since_text", "fire_out_fault"),
}
"""What each profile tells."""


class BoilerInputs(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Topics below `home/data/`, one for each thing that this boiler has."""

    water: Annotated[str, Meta(description="Water in the boiler, °C.")] | None = None
    flue: Annotated[str, Meta(description="Flue gas, or its pipe, °C.")] | None = None
    return_: Annotated[str, Meta(description="Return, °C; stands in for the water.")] | None = msgspec.field(
        name="return", default=None
    )
    igniter: Annotated[str, Meta(description="Current of the igniter, in the clamp's unit.")] | None = None
    fan: Annotated[str, Meta(description="Current of the fan.")] | None = None
    auger: Annotated[str, Meta(description="Current of the auger.")] | None = None
    outdoor: Annotated[str, Meta(description="Outdoor temperature, °C: any topic; for degree days.")] | None = None

    @property
    def topics(self) -> dict[Role, str]:
        """The topic of each role that there is."""
        given = {key: value for key, value in msgspec.to_builtins(self).items() if value is not None}
        return {cast("Role", role): topic for role, topic in given.items()}


class BoilerButtons(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Topics of switches that a person presses when something is done: it counts when one becomes true."""

    ash: Annotated[str, Meta(description="The ash was emptied.")] | None = None
    cleaning: Annotated[str, Meta(description="The boiler was cleaned.")] | None = None
    service: Annotated[str, Meta(description="The boiler was serviced.")] | None = None

    @property
    def topics(self) -> dict[str, str]:
        """What each topic says was done."""
        given = msgspec.structs.asdict(self)
        return {given[chore]: chore for chore in CHORES if given[chore] is not None}


class BoilerEntry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One boiler below `phases:`."""

    inputs: Annotated[
        BoilerInputs, Meta(description="The topic of each role: water, flue, return, igniter, fan, auger.")
    ]
    buttons: Annotated[BoilerButtons, Meta(description="Switches: ash, cleaning, service: it was done.")] = (
        msgspec.field(default_factory=BoilerButtons)
    )
    thing: Annotated[str, Meta(description="Place and thing of its outputs: boiler/burner.")]
    profile: Annotated[Profile, Meta(description="legacy: the first system's rules, minute by minute.")] = "modern"
    rules: Annotated[Rules, Meta(description="What differs from the defaults.")] = msgspec.field(default_factory=Rules)
    legacy: Annotated[LegacyRules, Meta(description="Settings of the legacy profile.")] = msgspec.field(
        default_factory=LegacyRules
    )


class BoilerMemory(Struct):
    """What must survive a restart."""

    modern: DetectorState = msgspec.field(default_factory=DetectorState)
    legacy: LegacyState = msgspec.field(default_factory=LegacyState)
    outputs: dict[str, Value] = {}
    """What each output last was."""
    pressed: dict[str, bool] = {}
    """What each button last was."""


class PhaseEngine(Protocol):
    """What both profiles do with readings; times in ms since 1970."""

    def feed(self, role: Role, value: float, time: int) -> list[Event]:
        """Take one reading."""

    def advance(self, time: int) -> list[Event]:
        """Let time pass."""

    def rebase(self, time: int) -> list[Event]:
        """Accept an earlier time base."""


class FirstSystem:
    """The legacy profile as a source of events: its phase where it changes, and its only alert as a fault."""

    def __init__(self, rules: LegacyRules, state: LegacyState, outputs: dict[str, Value]) -> None:
        """`outputs` is what was told last."""
        self._legacy = Legacy(rules, state)
        self._outputs = outputs

    def feed(self, role: Role, value: float, time: int) -> list[Event]:
        """Take one reading."""
        return self._told(self._legacy.feed(role, value, time))

    def advance(self, time: int) -> list[Event]:
        """Let time pass."""
        return self._told(self._legacy.advance(time))

    def close(self) -> list[Event]:
        """Judge what is still open."""
        return self._told(self._legacy.close())

    def rebase(self, time: int) -> list[Event]:
        """Forget the minutes that a clock far ahead had seen."""
        state, minute = self._legacy.state, time // MINUTE_MS
        state.following, state.newest = None, 0
        for minutes in (state.sums, state.water, state.phases):
            for late in [each for each in minutes if each >= minute]:
                del minutes[late]
        return []

    def _told(self, minutes: list[Minute]) -> list[Event]:
        events: list[Event] = []
        phase, fault = self._outputs.get("phase"), bool(self._outputs.get("fire_out_fault"))
        for minute in minutes:
            if minute.phase != phase:
                phase = minute.phase
                events += (
                    Event("phase", phase, minute.time),
                    Event("since_text", format_time(minute.time), minute.time),
                )
            cold: LegacyPhase = "arret"
            if minute.alert or (fault and phase != cold):
                fault = minute.alert
                events.append(Event("fire_out_fault", fault, minute.time))
        return events


class Boiler:
    """The detector of one boiler with its inputs by topic; keeps in mind what each output last was."""

    def __init__(self, entry: BoilerEntry, timezone: str, memory: BoilerMemory | None = None) -> None:
        """`timezone` (IANA) is the house's; ValueError where the inputs are too few."""
        self.entry, self.memory = entry, memory or BoilerMemory()
        self.roles: dict[str, Role] = {topic: role for role, topic in entry.inputs.topics.items()}
        self.buttons = entry.buttons.topics
        self.inputs = frozenset((*self.roles, *self.buttons))
        """Topics that it wants to hear of."""
        self.rules = entry.rules
        if self.rules.timezone == Rules().timezone:
            self.rules = msgspec.structs.replace(self.rules, timezone=timezone)
        self.engine: PhaseEngine
        if entry.profile == "legacy":
            self.engine = FirstSystem(entry.legacy, self.memory.legacy, self.memory.outputs)
        else:
            self.engine = PhaseDetector(self.rules, frozenset(self.roles.values()), self.memory.modern)

    def feed(self, topic: str, value: float, time: int) -> list[Event]:
        """Take a reading of one of its inputs or buttons; what became certain before it."""
        events: list[Event] = []
        if topic in self.buttons:
            pressed, self.memory.pressed[topic] = self.memory.pressed.get(topic, True), bool(value)
            if value and not pressed and isinstance(self.engine, PhaseDetector):
                events += self.reset(self.buttons[topic], time)
        if topic in self.roles:
            events += self._note(self.engine.feed(self.roles[topic], value, time))
        return events

    def clear(self, topic: str, time: int) -> None:
        """Take note that an input cannot be measured any more, since a time (ms)."""
        if topic in self.roles and isinstance(self.engine, PhaseDetector):
            self.engine.clear(self.roles[topic], time)

    def advance(self, time: int) -> list[Event]:
        """Let time pass (ms since 1970) without a reading."""
        return self._note(self.engine.advance(time))

    def rebase(self, time: int) -> list[Event]:
        """Accept an earlier time base (ms since 1970), from one who knows the clock."""
        return self._note(self.engine.rebase(time))

    def refill(self, *, kg: float | None = None, bags: float | None = None, level: float | None = None) -> list[Event]:
        """Enter what the silo holds now (kg, or a level in %), or bags filled in; ValueError where fuel is not reckoned."""
        if not isinstance(self.engine, PhaseDetector) or not self.reckons_fuel:
            raise ValueError("its fuel is not reckoned: that takes the input auger and the rule auger_rate (kg/h)")
        if [kg, bags, level].count(None) != 2:  # noqa: PLR2004 (one of three)
            raise ValueError(
                "give one of kg (what the silo holds now), bags (what was filled in) and level (% of silo_kg)"
            )
        self._must_be_known()
        if bags is not None:
            return self._note(self.engine.fill_bags(bags, self.known))
        if level is not None:
            if self.rules.silo_kg is None:
                raise ValueError("a level takes the rule silo_kg: what the full silo holds")
            kg = self.rules.silo_kg * level / 100
        return self._note(self.engine.refill(kg or 0.0, self.known))

    def reset(self, chore: str, time: int | None = None) -> list[Event]:
        """Note that ash was emptied, or the boiler cleaned or serviced; ValueError in the legacy profile."""
        if not isinstance(self.engine, PhaseDetector):
            raise ValueError("the legacy profile reminds of nothing")  # noqa: TRY004 (a setting, not a type)
        if time is None:
            self._must_be_known()
        return self._note(self.engine.reset(chore, self.known if time is None else time))

    def _must_be_known(self) -> None:
        if not self.known:  # what is entered counts from a moment on
            raise ValueError("nothing was heard of it yet: enter it again in some minutes")

    @property
    def reckons_fuel(self) -> bool:
        """Whether its inputs and rules tell what it burns."""
        return self.rules.auger_rate is not None and "auger" in self.roles.values()

    @property
    def time(self) -> int:
        """The time it has come to, ms since 1970; 0 before its first reading."""
        if self.entry.profile == "legacy":
            return (self.memory.legacy.following or 0) * MINUTE_MS
        return self.memory.modern.time

    @property
    def known(self) -> int:
        """Up to when nothing that it told will change, ms since 1970."""
        return max(0, self.time - 1)

    @property
    def standing(self) -> dict[str, Value]:
        """What it last told and still knows: nothing of an input that is silent now, or that it has no more."""
        outputs = self.memory.outputs
        if not isinstance(self.engine, PhaseDetector):
            return outputs
        roles, unheard = frozenset(self.roles.values()), self.engine.unheard
        return {
            name: value
            for name, value in outputs.items()
            if name not in unheard and missing_for(name, roles, self.rules) is None
        }

    def _note(self, events: list[Event]) -> list[Event]:
        outputs = self.memory.outputs
        if events and "phase" not in outputs and self.entry.profile == "modern":
            outputs["cycles"] = self.memory.modern.cycles
        elif events and "phase" not in outputs:
            outputs["fire_out_fault"] = False
        for event in events:
            outputs[event.name] = event.value
        if isinstance(self.engine, PhaseDetector):
            for name in self.engine.unreckoned:  # they are told anew once they are known
                outputs.pop(name, None)
        return events
