"""The tables of a fleet's engine, as both engines have them; what is written the same way twice is the same afterwards.

Readings lie by house, in the order of time: what a house sends in an hour is one place of the disk, whether it is written, counted
or summed up. Minutes, hours and days lie by topic, because people ask for years of one topic.
"""

from typing import Final, Literal, NamedTuple

Kind = Literal["serial", "id", "time", "count", "number", "word", "text"]
Period = Literal["day", "month"]

LONGEST: Final = 190
"""Characters of a word that is stored or part of a key: what utf8mb4 leaves room for in an index of every format."""


class Column(NamedTuple):
    """A column; `time` is in milliseconds since 1970 UTC, `number` has 8 bytes."""

    name: str
    kind: Kind
    empty: bool = False
    """Whether it may hold nothing."""


class Table(NamedTuple):
    """A table. `key` is its primary key; one with a `serial` has another key that is unique. `period` is that of its partitions."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    unique: tuple[str, ...] = ()
    period: Period | None = None

    @property
    def written(self) -> tuple[str, ...]:
        """Columns that a row is given; a serial is the engine's to give."""
        return tuple(column.name for column in self.columns if column.kind != "serial")

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells two rows apart that are written."""
        return self.unique or self.key

    @property
    def rest(self) -> tuple[str, ...]:
        """Columns that a repeat writes anew."""
        return tuple(name for name in self.written if name not in self.identity)


def _sums(name: str, period: Period | None = None) -> Table:
    return Table(
        name,
        (
            Column("topic", "id"),
            Column("time", "time"),
            Column("count", "count"),
            Column("mean", "number", empty=True),
            Column("low", "number", empty=True),
            Column("high", "number", empty=True),
            Column("last", "number", empty=True),
            Column("word", "word", empty=True),
        ),
        ("topic", "time"),
        period=period,
    )


HOUSES: Final = Table(
    "houses",
    (Column("id", "serial"), Column("name", "word"), Column("timezone", "word"), Column("compared", "time")),
    ("id",),
    ("name",),
)
TOPICS: Final = Table(
    "topics",
    (
        Column("id", "serial"),
        Column("house", "id"),
        Column("name", "word"),
        Column("unit", "word"),
        Column("kind", "word"),
        Column("label", "text"),
        Column("source", "word"),
    ),
    ("id",),
    ("house", "name", "unit"),
)
HEARD: Final = Table(
    "heard",
    (
        Column("house", "id"),
        Column("stream", "word"),
        Column("source", "word"),
        Column("number", "time"),
        Column("at", "time"),
    ),
    ("house", "stream"),
)
"""How far each run of numbers was heard: written in the transaction of the readings that it speaks of."""
LACKING: Final = Table(
    "lacking", (Column("house", "id"), Column("since", "time"), Column("until", "time")), ("house", "since")
)
"""Ranges of time in which readings of a house may be missing here, until they are filled."""
READINGS: Final = Table(
    "readings",
    (
        Column("house", "id"),
        Column("time", "time"),
        Column("topic", "id"),
        Column("value", "number", empty=True),
        Column("word", "word", empty=True),
    ),
    ("house", "time", "topic"),
    period="day",
)
CLEARINGS: Final = Table(
    "clearings", (Column("topic", "id"), Column("time", "time")), ("topic", "time"), period="month"
)
PENDING: Final = Table("pending", (Column("house", "id"), Column("time", "time")), ("house", "time"))
"""Hours of houses whose sums are to be computed anew."""
MINUTES: Final = _sums("minutes", "month")
HOURS: Final = _sums("hours")
DAYS: Final = _sums("days")
SHARDS: Final = Table(
    "shards", (Column("shard", "word"), Column("holder", "word"), Column("until", "time")), ("shard",)
)
"""Who may write the houses of a shard, and until when; looked at in every transaction."""
OWNERS: Final = Table("owners", (Column("house", "word"), Column("shard", "word")), ("house",))
"""Which shard writes a house: one that is moved is let go by the one before it is taken up by the other."""

ALL: Final = (HOUSES, TOPICS, HEARD, LACKING, READINGS, CLEARINGS, PENDING, MINUTES, HOURS, DAYS, SHARDS, OWNERS)
