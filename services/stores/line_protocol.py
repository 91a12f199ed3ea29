"""Readings as InfluxDB line protocol, written directly: the client's Point costs ten times as much as the rest.

    home,place=boiler,thing=water temperature=61.4 1795186913120

The measurement is the root of the topics, place and thing are tags, the last level is the field, always a float, so
that no field ever changes its type; times are in milliseconds. A state is the number of its word, and beside it a
line for each word that it may be, 1 for the one that it is.
"""

from typing import Any

from bootstrap_lib import Reading, Topic


class RefusedLines(ValueError):
    """A request that the server will never take as it is; the message is the server's."""


class Writer:
    """Turns readings into lines; what is the same for all readings of a topic is made once."""

    def __init__(self, measurement: str) -> None:
        """`measurement` stands in front of all lines."""
        self._measurement = measurement
        self._heads: dict[str, str] = {}

    def line(self, reading: Reading, topic: Topic[Any]) -> str:
        """Return the line of a reading, or the lines of a state."""
        if isinstance(reading.value, str):
            return "\n".join(self._state(reading.value, topic, reading.time))
        head = self._heads.get(reading.topic)
        if head is None:
            place, thing, name = reading.topic.split("/")
            head = self._heads[reading.topic] = f"{self._measurement},place={place},thing={thing} {name}="
        return f"{head}{float(reading.value)} {reading.time}"

    def _state(self, word: str, topic: Topic[Any], time: int) -> list[str]:
        place, thing, name = topic.name.split("/")
        series = f"{self._measurement},place={place},thing={thing}"
        index = f"{series} {name}={float(topic.states.index(word))} {time}"
        words = [f"{series},state={escape(each)} {name}_is={float(each == word)} {time}" for each in topic.states]
        return [index, *words]


def escape(text: str) -> str:
    """A tag's value in line protocol; it cannot hold a line's end, nor a backslash as its last character."""
    plain = " ".join(text.split()).rstrip("\\") or "_"
    return plain.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")
