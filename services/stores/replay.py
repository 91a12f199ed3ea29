"""Reads stored readings back in the order of time, in batches, for stores that lost their tail and for people."""

import time
from collections.abc import Callable, Collection, Iterator
from typing import Annotated, Any, Final, NamedTuple

import sqlalchemy as sql
from msgspec import Meta, Struct, field

from bootstrap_lib import Value, as_json, format_time
from services.stores.schema import MINUTE, TOPICS

BATCH: Final = 500
"""Readings in a message: about 45 kB."""

MINUTES: Final = 30_000
"""Minutes that are looked at for a message of means: some ten milliseconds."""


class Replay(Struct, forbid_unknown_fields=True):
    """Payload of `request/replay`: what was stored from one time to before another is sent to a store.

    With a `span` these are means of so many seconds, which the archive has for years, and no raw readings.
    """

    since: str = field(name="from")
    store: str = field(name="for")
    until: str | None = field(name="to", default=None)
    topics: list[str] | None = None
    span: Annotated[int, Meta(ge=60, le=366 * 86_400, multiple_of=60)] | None = None


class Stored(NamedTuple):
    """A reading as it is stored; `time` in milliseconds."""

    time: int
    id: int
    name: str
    value: Value
    unit: str


class Wanted(NamedTuple):
    """A replay from a time to before another (ms). With a `span` (seconds) it is one of means."""

    since: int
    until: int
    topics: list[str] | None
    span: int | None
    id: Any


_QUERY: Final = """
    SELECT r.time, r.topic, t.name, r.value, r.word, t.unit, t.kind FROM readings r JOIN topics t ON t.id = r.topic
    WHERE r.time >= :time AND (r.time, r.topic) > (:time, :topic) AND r.time < :until {only}
    ORDER BY r.time, r.topic LIMIT :count"""


_NEXT: Final = "SELECT min(time) FROM readings WHERE time >= :until"


def read(engine: sql.Engine, since: int, until: int, names: Collection[str] | None = None) -> Iterator[list[Stored]]:
    """Readings from `since` to before `until` (ms), of all topics or some; no transaction is open between two batches."""
    only = "" if names is None else "AND t.name IN :names"
    query = sql.text(_QUERY.format(only=only))
    parameters: dict[str, Any] = {"time": since, "topic": -1, "until": until, "count": BATCH}
    if names is not None:
        query = query.bindparams(sql.bindparam("names", expanding=True))
        parameters["names"] = list(names)
    while True:
        with engine.connect() as connection:
            rows = connection.execute(query, parameters).all()
        if rows:
            yield [Stored(r.time, r.topic, r.name, _value(r.kind, r.value, r.word), r.unit) for r in rows]
        if len(rows) < BATCH:
            return
        parameters |= {"time": rows[-1].time, "topic": rows[-1].topic}


def _value(kind: str, value: float | None, word: str | None) -> Value:
    if value is None:
        return word or ""
    return bool(value) if kind == "switch" else value


_MEANS: Final = sql.text("""
    SELECT time - time % :span AS begin, avg(coalesce(mean, seconds_on / 60)) AS mean,
           min(coalesce(mean, seconds_on / 60)) AS low, max(coalesce(mean, seconds_on / 60)) AS high, last, word, max(time)
    FROM minutes WHERE topic = :topic AND time >= :since AND time < :until GROUP BY begin ORDER BY begin""")
_FIRST: Final = sql.text("SELECT min(time) FROM minutes WHERE topic = :topic AND time >= :since AND time < :until")
_FOLLOWING: Final = """
    SELECT min((SELECT min(time) FROM minutes WHERE topic = t.id AND time >= :until)) FROM topics t WHERE true {only}"""


def read_means(
    engine: sql.Engine, since: int, until: int, names: Collection[str] | None, span: int
) -> Iterator[list[dict[str, Any]]]:
    """Means of `span` ms from `since` to before `until` (ms), topic by topic, each in the order of time.

    `value` is the mean of a gauge, the share of time that a switch was on, the last stand of a counter, the last word of
    a state; `low` and `high` are those of its minutes.
    """
    query = sql.select(TOPICS) if names is None else sql.select(TOPICS).where(TOPICS.c.name.in_(names))
    with engine.connect() as connection:
        topics = connection.execute(query).all()
    length = span * max(1, min(BATCH, MINUTES * MINUTE // span))
    for topic in topics:
        begin = since
        while True:
            with engine.connect() as connection:
                first = connection.scalar(_FIRST, {"topic": topic.id, "since": begin, "until": until})
                if first is None:
                    break
                begin = min(until, first - first % span + length)
                limits = {"topic": topic.id, "since": first, "until": begin, "span": span}
                rows = connection.execute(_MEANS, limits).all()
            yield [_mean(topic, row, span) for row in rows]


def _mean(topic: Any, row: Any, span: int) -> dict[str, Any]:
    value = {"counter": row.last, "state": row.word}.get(topic.kind, row.mean)
    wire = {
        "topic": topic.name,
        "value": value,
        "unit": topic.unit,
        "time": format_time(row.begin),
        "span": span // 1000,
    }
    return wire if row.low == row.high else wire | {"low": row.low, "high": row.high}


def messages(engine: sql.Engine, wanted: Wanted) -> Iterator[bytes]:
    """Payloads of a replay: lists of readings as they stand on their topics, and at the end an object that counts them.

    The end says with `next` where the archive goes on behind `until`, or null.
    """
    count, (since, until, names, span, identity) = 0, wanted
    pages = (
        read_means(engine, since, until, names, span * 1000)
        if span
        else ([_wire(stored) for stored in batch] for batch in read(engine, since, until, names))
    )
    for page in pages:
        count += len(page)
        yield as_json(page)
    query = sql.text(_FOLLOWING.format(only="" if names is None else "AND t.name IN :names") if span else _NEXT)
    if span and names is not None:
        query = query.bindparams(sql.bindparam("names", list(names), expanding=True))
    with engine.connect() as connection:
        following = connection.scalar(query, {"until": until})
    end = {"end": True, "from": format_time(since), "to": format_time(until), "count": count}
    end |= {"next": format_time(following) if following is not None else None}
    yield as_json(end | ({"id": identity} if identity is not None else {}))


def _wire(stored: Stored) -> dict[str, Any]:
    wire = {"topic": stored.name, "value": stored.value, "unit": stored.unit, "time": format_time(stored.time)}
    if not stored.unit:
        del wire["unit"]
    return wire


class Replays:
    """The replays that are under way, one for each store; a store that asks again begins anew."""

    OWED: Final = 20.0
    """Seconds for which a replay waits until sources have sent what the archive misses itself, from the last of it on."""

    IN_FLIGHT: Final = 4
    """Messages on their way to the broker for each store: the loop never works for longer than that takes."""

    def __init__(self, engine: sql.Engine, send: Callable[[str, bytes], int]) -> None:
        """`send` publishes a payload for a store with QoS 1 and returns the message's id."""
        self._engine, self._send = engine, send
        self._running: dict[str, tuple[Iterator[bytes], set[int]]] = {}
        self._wanted: dict[str, tuple[Wanted, float]] = {}

    def want(self, store: str, wanted: Wanted) -> None:
        """Note what a store wants, to begin as soon as the archive is whole."""
        self._wanted[store] = wanted, time.monotonic()

    def begin(self, *, whole: bool, filled_at: float) -> None:
        """Begin what is wanted once the archive is whole: a store that draws in order could never add later what is missing now.

        What does not come is not waited for for ever: `filled_at` is when (monotonic) something missing came last.
        """
        for store, (wanted, since) in list(self._wanted.items()):
            if whole or time.monotonic() >= max(since, filled_at) + self.OWED:
                del self._wanted[store]
                self._running[store] = messages(self._engine, wanted), set()
                self._go_on(store)

    def on_published(self, mid: int) -> None:
        """Go on when the broker has taken a message."""
        for store, (_, flying) in list(self._running.items()):
            if mid in flying:
                flying.discard(mid)
                self._go_on(store)

    def _go_on(self, store: str) -> None:
        payloads, flying = self._running[store]
        while len(flying) < self.IN_FLIGHT:
            try:
                payload = next(payloads, None)
            except BaseException:  # it is the end of this store's replay, and of nobody else's
                del self._running[store]
                raise
            if payload is None:
                del self._running[store]
                return
            flying.add(self._send(store, payload))
