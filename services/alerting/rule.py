"""Alert rules as people write them in topics.yaml. What they mean is read in `condition`, checked in `check`."""

import re
import string
from collections.abc import Collection, Iterator
from typing import Annotated, Final

from msgspec import Meta, Struct, field

from bootstrap_lib import Duration, nearest

Value = bool | int | float | str

Moment = Annotated[int, Meta(ge=0, le=4_102_444_800_000)]
"""Milliseconds since 1970, or 0 for never; what lies beyond 2100 is no time, and a file that says so is damaged."""
Count = Annotated[int, Meta(ge=0, le=1 << 53)]

HOLD_OFF: Final = 600.0
"""Seconds, where a rule says nothing."""
FIELDS: Final = ("value", "unit", "topic", "label", "age", "rule")
"""What `say` may hold in braces."""


class Rule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One entry below `alerts:`. Exactly one of `when` and `stale` says what is wrong when it is true."""

    when: (
        Annotated[str, Meta(description="What is wrong, such as `boiler/water/temperature > 85` (docs/alerts.md).")]
        | None
    ) = None
    stale: Annotated[str, Meta(description="A topic, or a pattern with + and #, that must not fall silent.")] | None = (
        None
    )
    lasts: Annotated[Duration, Meta(description="How long it must be so; 1m for silence, else at once.")] | None = (
        field(name="for", default=None)
    )
    clear: (
        Annotated[float, Meta(description="The value at which it is over, where that is not the limit itself.")] | None
    ) = None
    armed_at: (
        Annotated[float, Meta(description="It counts only once the value has been there: a boiler once warm.")] | None
    ) = None
    hold_off: (
        Annotated[
            Duration,
            Meta(
                description="After it is over, how long it may not speak again; 10m, an emergency only once it flaps."
            ),
        ]
        | None
    ) = None
    repeat: (
        Annotated[Duration, Meta(description="How often it says that it still is so, until acknowledged; 1m or more.")]
        | None
    ) = None
    say: (
        Annotated[str, Meta(description="The text; {value} {unit} {topic} {label} {age} {rule} are filled in.")] | None
    ) = None
    priority: Annotated[int, Meta(ge=-2, le=2, description="-2 silent, -1 quiet, 0, 1 loud, 2 until acknowledged.")] = 0
    sound: Annotated[str, Meta(description="The notifier's name of a sound.")] | None = None
    inhibited_by: Annotated[
        str | list[str], Meta(description="Rules that explain this one: while one fires, it says nothing.")
    ] = field(default_factory=list)
    group: Annotated[str, Meta(description="What falls due together within a group is one message.")] | None = None
    notify: Annotated[
        str | list[str],
        Meta(description="A notifier, person or group; of a list, the next where one fails or does not answer."),
    ] = field(default_factory=list)
    escalate: Annotated[str, Meta(description="Who is told too while nobody has acknowledged.")] | None = None
    escalate_after: Annotated[Duration, Meta(description="After how long they are.")] = Duration(1800)
    url: Annotated[str, Meta(description="A page that the message links to.")] | None = None
    picture: Annotated[str, Meta(description="The topic whose last hours are attached as a graph.")] | None = None


class RuleError(ValueError):
    """A rule that cannot be used; `key` is the entry that is wrong, the message says what to write instead."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def listed(names: str | list[str]) -> tuple[str, ...]:
    """Names that were written as one or as a list."""
    return (names,) if isinstance(names, str) else tuple(names)


def hint(word: str, known: Collection[str]) -> str:
    """What may have been meant: the nearest of the known words, else all of them."""
    return nearest(word, known) or (f": there are {', '.join(list(known)[:12])}" if known else ": there are none")


def parts(say: str) -> Iterator[tuple[str, str]]:
    """Text and the name to be filled in after it ("" at the end); RuleError where it could not be filled in as it is.

    Only bare names are taken: what formats, converts or looks into a value may fail when the alert fires, and must not.
    """
    try:
        for text, name, form, conversion in string.Formatter().parse(say):
            if form or conversion:
                raise RuleError("say", f"write {{{name}}}: a number is shown with the digits of its topic")
            if name is not None and name not in FIELDS:
                raise RuleError("say", f"{{{name}}} is not known{hint(name, FIELDS)}")
            yield text, name or ""
    except ValueError as error:
        if isinstance(error, RuleError):
            raise
        raise RuleError("say", f"{error}: a brace of the text itself is written twice") from None


def is_name(name: str) -> bool:
    """Whether it can name a rule."""
    return re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name) is not None
