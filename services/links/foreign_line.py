"""One value of other people's messages as topics.yaml describes it: where it is published, and what it means."""

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from bootstrap_lib import Topic, Value
from services.protocols import foreign, path


class Availability(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a device, or the bridge before it, says that it is there."""

    topic: str
    path: str = ""


Words = Annotated[dict[str, str], Meta(description="Words of the device for words of the topic, true and false.")]


class ForeignLine(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One value of other people's messages."""

    topic: Annotated[str, Meta(description="Where it is published; + and # as in MQTT.", min_length=1)]
    path: Annotated[
        str, Meta(description="Where it stands in JSON, as in `ENERGY.Power`; without it the bare text.")
    ] = ""
    words: Words = field(default_factory=dict)
    when: Annotated[dict[str, str], Meta(description="Only messages in which these paths have these texts.")] = field(
        default_factory=dict
    )
    available: Annotated[str | Availability, Meta(description="The topic that says whether it is there.")] | None = None
    time: Annotated[str, Meta(description="Path of the message's own time.")] = ""
    changes: Annotated[bool, Meta(description="Only a changed value is news: the bridge repeats old ones.")] = False


def availability_of(line: ForeignLine) -> Availability | None:
    """Where a line's device says whether it is there."""
    return Availability(topic=line.available) if isinstance(line.available, str) else line.available


def value_of(topic: Topic[ForeignLine], found: Any) -> Value:
    """Value of a topic from what a message says; NoValue where it is none."""
    words = topic.options.words
    word = next((words[text] for text in path.texts_of(found) if text in words), None)
    if topic.kind in ("gauge", "counter"):
        return foreign.number(found if word is None else word)
    if topic.kind == "switch":
        return foreign.switch(found if word is None else word)
    text = str(found) if word is None else word
    return text.strip().casefold().replace(" ", "_") if topic.kind == "state" and word is None else text
