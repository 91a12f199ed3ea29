"""topics.yaml: the one place that says what is measured, by whom, and what follows from it.

The key of a line is the topic as `mosquitto_sub` prints it; nearly all else follows from its last word. The
structures below are the only truth about the file: checks, the JSON schema for editors and the reference
page (docs/topics.md) all come from them.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec

from bootstrap_lib import keys, machine_file
from bootstrap_lib.document import Document, DocumentError, KeyPath, Problem, from_text, nearest, plain
from bootstrap_lib.entries import (
    COMMON_KEYS,
    JUDGED,
    Broker,
    Instance,
    InstanceOptions,
    Topic,
    TopicLine,
)
from bootstrap_lib.location import ZONES, find_registry, is_zone
from bootstrap_lib.machine import LOOPBACK
from bootstrap_lib.needs import needs_of, service_files
from bootstrap_lib.quantities import AKIN, CONVERSIONS, QUANTITIES, WORD, conversion

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

T = TypeVar("T")


class Registry:
    """topics.yaml, read and checked. It is never changed: a reload makes a new one."""

    SECTIONS: Final = ("root", "timezone", "broker", "sources", "subscribers", "topics")
    """Sections that every house has; the others belong to services, which name them in NEEDS."""

    def __init__(self, path: Path, lists: bytes | None = None) -> None:
        """Read the file and the machine's own beside it (`lists`: what that is going to say); DocumentError lists all problems found."""
        self.path = path
        self.document = Document()
        digest = hashlib.sha256()
        more = (Path(given) for given in (os.environ.get("CONSTELLATION_SETTINGS"),) if given)
        for file in (path, *more):
            digest.update(self.document.read(file))
        if os.path.lexists(machine := path.with_name(machine_file.NAME)) or lists:
            digest.update(self._add_machine_file(machine, lists))
        self.digest = digest.hexdigest()[:12]
        self._missing, self._strange = set[str](), False
        """Sources that are not there, each noted once, and whether a section has a wrong name: they may stand in it."""
        self._look_for_strangers()
        self.root, self.broker, self.zone = self._root(), self._broker(), self._zone()
        self.instances = dict(self._read_instances())
        self.lines: dict[str, str] = {}
        """Key of the line that made each topic."""
        self.topics = {topic.name: topic for topic in self._read_topics()}
        self.formerly = {old: topic for topic in self.topics.values() for old in topic.was if old not in self.topics}
        """Topics by the names that they had: what was measured under one is the new one's."""
        self.record = next((name for name, one in self.instances.items() if needs_of(one.service).records), None)
        """The instance whose marks confirm what is on disk, or None in a house that keeps no record."""
        self.notifiers = tuple(name for name, one in self.instances.items() if needs_of(one.service).notifies)
        """Instances that bring messages to people, in the order of topics.yaml."""
        self.left_out = [p for p in self.document.problems if p.file == str(machine) and p.path.startswith("topics.")]
        """Lines of topics that the machine wrote and that are wrong: they cost themselves, and stop no service."""
        if len(self.left_out) < len(self.document.problems):
            raise DocumentError(self.document.problems)

    @staticmethod
    def locate(given: str | None = None, *, shipped: bool = False) -> Path:
        """Return the path of topics.yaml: as given, $CONSTELLATION_CONFIG, or the installed one; as `find_registry` does it."""
        return find_registry(given, shipped=shipped)

    def edit_lists(self, edit: Callable[[dict[str, Any]], None]) -> bool:
        """Let `edit` change what the machine's own file beside it says, judged first; True if it changed. OSError, DocumentError."""
        return machine_file.change(self.path, edit, lambda lists: set(Registry(self.path, lists).lines.values()))

    def _add_machine_file(self, file: Path, lists: bytes | None) -> bytes:
        """Add what its writers own: their lists, and the topics of these. What topics.yaml itself says wins. Returns its content."""
        own = Document()
        content = own.read(file, follow=False, content=lists)
        if lists is None:
            self.document.problems += machine_file.left_behind(own, self.document.section("sources"))
        if problems := machine_file.problems_of(own, self.document.section("sources")):
            raise DocumentError(problems)
        self.document.add(own)
        return content

    def _look_for_strangers(self) -> None:
        for section in [section for section in self.document.content if section not in self.SECTIONS]:
            known = (*self.SECTIONS, *(name for service in service_files() for name in needs_of(service).sections))
            if section not in known:
                hint = nearest(section, known) or f": there are {', '.join(known)}"
                self._strange = True
                self._note((section,), f"unknown section '{section}'{hint}")

    def _root(self) -> str:
        root = self.document.content.get("root", "home")
        if isinstance(root, str) and WORD.fullmatch(root):
            return root
        self._note(("root",), f"{root!r} is no topic word: use small letters, digits and _")
        return "home"

    def _broker(self) -> Broker:
        return self.document.convert(self.document.content.get("broker", {}), Broker, ("broker",)) or Broker()

    def _zone(self) -> str:
        zone = self.document.content.get("timezone", "UTC")
        if isinstance(zone, str) and is_zone(zone):
            return zone
        hint = "write one such as Europe/Paris" if (ZONES / "Europe").is_dir() else "sudo apt install tzdata"
        self._note(("timezone",), f"{plain(zone, 60)!r} is no time zone: {hint}")
        return "UTC"

    @property
    def timezone(self) -> "ZoneInfo":
        """Where days and months of the house begin."""
        from zoneinfo import ZoneInfo  # 1 MB that few services need

        return ZoneInfo(self.zone)

    def _read_instances(self) -> Iterator[tuple[str, Instance]]:
        seen: dict[str, str] = {}
        elsewhere = None if self.broker.host in LOOPBACK else self.broker.host
        for section in ("sources", "subscribers"):
            for name, raw in self.document.section(section).items():
                path: KeyPath = (section, name)
                options = {} if raw is None else raw
                if not isinstance(options, dict):
                    self._note(path, "expected its options: {} if it has none")
                elif not WORD.fullmatch(name) or name == "all":
                    self._note(path, "no name for an instance: use small letters, digits and _ (`all` means everyone)")
                elif name in seen:
                    self._note(path, f"stands below {seen[name]} too: an instance is one process, give it one name")
                else:
                    seen[name] = section
                    common = {key: options[key] for key in JUDGED if key in options}
                    if checked := self.document.convert(common, InstanceOptions, path):
                        yield name, Instance(name, checked.service or name, checked.host or elsewhere, section, options)

    def _read_topics(self) -> Iterator["Topic[Mapping[str, Any]]"]:
        section, made, room = self.document.section("topics"), self.lines, keys.MOST_TOPICS
        for key, raw in section.items():
            path: KeyPath = ("topics", key)
            if not isinstance(raw, dict):
                self._note(path, "expected at least {from: SOURCE}")
                continue
            line = self.document.convert({k: v for k, v in raw.items() if k in COMMON_KEYS}, TopicLine, path)
            if line is None:
                continue
            options = {k: v for k, v in raw.items() if k not in COMMON_KEYS}
            earlier = [line.was] if isinstance(line.was, str) else line.was or []
            try:
                room -= keys.check(key, earlier)
                if room < 0:
                    self._note(
                        path, f"more than {keys.MOST_TOPICS} topics with their names of before: a house has fewer"
                    )
                    return
                for name, *was in keys.names_of(key, earlier):
                    if name in made:
                        self._note(path, f"{name} is made by '{made[name]}' already")
                    elif topic := self._topic(name, was, line, options, path):
                        made[name] = key
                        yield topic
            except keys.KeyFault as fault:
                self._note((*path, "was") if fault.of_was else path, str(fault))

    def _topic(
        self, name: str, was: list[str], line: TopicLine, options: Mapping[str, Any], path: KeyPath
    ) -> "Topic[Mapping[str, Any]] | None":
        if not keys.is_topic(name):
            self._note(path, "a topic is place/thing/name, in small letters, digits and _")
            return None
        word = line.quantity or name.rpartition("/")[2].rpartition("_")[2]
        row = QUANTITIES.get(word)
        if row is None:
            hint = nearest(word, QUANTITIES) or f": write quantity: with one of {', '.join(QUANTITIES)}"
            self._note((*path, "quantity") if line.quantity else path, f"'{word}' is no quantity{hint}")
            return None
        source = self.instances.get(line.source)
        if source is None:
            if line.source not in self._missing and not self._strange:  # once: one mistake is one line
                hint = nearest(line.source, self.instances) or f": there are {', '.join(self.instances) or 'none'}"
                self._note((*path, "from"), f"no source is named '{line.source}'{hint}")
            self._missing.add(line.source)
            return None
        kind = line.kind or row.kind
        if kind == "state" and not line.states:
            self._note(path, "a state needs its words: states: [off, on]")
            return None
        given = row.unit if line.unit is None else line.unit
        kept = not row.unit or given in AKIN.get(row.unit, ())
        factors = (1.0, 0.0) if kept else conversion(given, row.unit)
        if factors is None:
            known = ", ".join((row.unit, *CONVERSIONS.get(row.unit, ())))
            self._note((*path, "unit"), f"'{given}' does not convert to {row.unit}: a {word} is in one of {known}")
            return None
        numeric = kind in ("gauge", "counter")
        if not numeric and (line.scale != 1 or line.offset or (line.invert and kind != "switch")):
            self._note(
                path,
                f"a {kind} has no scale, offset or sign"
                if kind != "switch"
                else "true and false have no scale or offset: write invert: true",
            )
            return None
        sign = -1 if line.invert and numeric else 1
        low, high = line.range or (row.low, row.high)
        if low is not None and high is not None and low >= high:
            self._note((*path, "range"), f"the range goes from low to high, not from {low:g} to {high:g}")
            return None
        common = msgspec.convert(
            {key: source.raw[key] for key in ("every", "stale") if key in source.raw},
            InstanceOptions,
            dec_hook=from_text,
        )
        every = line.every or common.every
        return Topic(
            name=name,
            source=line.source,
            kind=kind,
            quantity=word,
            unit=given if kept else row.unit,
            decimals=row.decimals if line.decimals is None else line.decimals,
            low=low,
            high=high,
            states=tuple(line.states or ()),
            every=every,
            stale=line.stale or common.stale or max(3 * every, 30.0),
            deadband=line.deadband,
            store=line.store if isinstance(line.store, bool) else tuple(line.store),
            label=line.label or name.replace("/", " ").replace("_", " "),
            was=tuple(was),
            options=options,
            given=given,
            line=(sign * line.scale * factors[0], sign * line.offset * factors[0] + factors[1]),
            invert=line.invert,
        )

    def _note(self, path: KeyPath, message: str) -> None:
        self.document.problems.append(self.document.problem(path, message))

    def options_of(self, instance: str, kind: type[T]) -> T:
        """Typed options of an instance; DocumentError with the line where they are wrong."""
        entry = self.instances[instance]
        return self._checked(entry.raw, kind, (entry.section, instance))

    def topics_of(self, source: str, kind: type[T]) -> tuple[Topic[T], ...]:
        """Topics of a source with their typed options; DocumentError lists all lines that are wrong."""
        topics: list[Topic[T]] = []
        problems: list[Problem] = []
        for topic in self.topics.values():
            if topic.source != source:
                continue
            try:
                options: Any = self._checked(topic.options, kind, ("topics", self.key_of(topic.name)))
                topics.append(cast("Topic[T]", msgspec.structs.replace(topic, options=options)))
            except DocumentError as error:
                problems += [problem for problem in error.problems if problem not in problems]
        if problems:
            raise DocumentError(problems)
        return tuple(topics)

    def entries(self, section: str, kind: type[T]) -> dict[str, T]:
        """Typed entries of a section that belongs to one service (alerts, phases); DocumentError lists the wrong ones."""
        found: dict[str, T] = {}
        problems: list[Problem] = []
        for name, raw in self.document.section(section).items():
            try:
                found[name] = self._checked(raw, kind, (section, name))
            except DocumentError as error:
                problems += error.problems
        if problems:
            raise DocumentError(problems)
        return found

    def _checked(self, raw: Any, kind: type[T], path: KeyPath) -> T:
        try:
            return msgspec.convert(raw, kind, dec_hook=from_text)
        except msgspec.ValidationError as error:
            raise DocumentError([self.document.explain(error, kind, path)]) from None

    def key_of(self, name: str) -> str:
        """Return the line's key that made a topic: itself, or the one with braces that expands to it."""
        return self.lines.get(name, name)

    def no_instance(self, name: str) -> str:
        """Say that nothing has a name, and what is there."""
        hint = nearest(name, self.instances) or f": there are {', '.join(self.instances) or 'none'}"
        return f"no source or subscriber is named '{name}'{hint}"

    def find(self, service: str) -> list[Instance]:
        """Instances of a service."""
        return [instance for instance in self.instances.values() if instance.service == service]
