"""What a centre's engine shows of its houses: how they stand, what was measured, months beside each other, everything of one house.

Read with an engine of its own, by one thread: who looks never stands in the way of who writes.
"""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import sqlalchemy as sql
from msgspec import Struct

from services.fleet import tables
from services.fleet.engine import Engine
from services.stores.minutes import step

HOUR: Final = 3_600_000
DAY: Final = 24 * HOUR
FRESH: Final = 2 * HOUR
"""Milliseconds of the newest readings that are not summed up yet."""

PAGE: Final = 5000
"""Readings of an export that are read at a time, and rows that are deleted."""

FUEL, DEGREEDAYS = "day_mass", "day_degreedays"
"""Last words of the topics by which a day's fuel (kg) and degree days (K·d) are told."""


class HouseRow(Struct, kw_only=True):
    """A house as the engine has it. Times in ms; `newest` is that of its newest reading, `gaps` what is lacking here."""

    name: str
    number: int
    timezone: str
    shard: str
    compared: int
    newest: int
    gaps: int
    lacking: int

    @property
    def zone(self) -> ZoneInfo:
        """Where its days begin."""
        try:
            return ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # what a house says of itself may be anything
            return ZoneInfo("UTC")


class TopicRow(Struct, kw_only=True):
    """A topic with what was measured last."""

    name: str
    unit: str
    kind: str
    label: str
    number: int
    time: int | None = None
    value: float | str | None = None


class MonthRow(Struct):
    """One month of a house: what a counter counted, fuel (kg), degree days (K·d), and fuel for each of these."""

    month: str
    counted: float | None = None
    fuel: float | None = None
    degreedays: float | None = None
    intensity: float | None = None


class FleetView:
    """Questions to the engine. Each may raise EngineAway."""

    def __init__(self, engine: Engine) -> None:
        """The engine is this view's own."""
        self._engine = engine

    def _select(self, text: str, **asked: Any) -> list[Any]:
        return self._engine.run(lambda connection: list(connection.execute(sql.text(text), asked).all()), patience=4.0)

    def houses(self) -> list[HouseRow]:
        """All houses that ever were stored."""
        newest = {
            row.house: int(row.at or 0) for row in self._select("SELECT house, max(at) AS at FROM heard GROUP BY house")
        }
        gaps = {
            row.house: (row.gaps, int(row.lacking))
            for row in self._select(
                "SELECT house, count(*) AS gaps, sum(until - since) AS lacking FROM lacking GROUP BY house"
            )
        }
        shards = {row.house: row.shard for row in self._select("SELECT house, shard FROM owners")}
        return [
            HouseRow(
                name=row.name,
                number=row.id,
                timezone=row.timezone,
                shard=shards.get(row.name, ""),
                compared=row.compared,
                newest=newest.get(row.id, 0),
                gaps=gaps.get(row.id, (0, 0))[0],
                lacking=gaps.get(row.id, (0, 0))[1],
            )
            for row in self._select("SELECT id, name, timezone, compared FROM houses ORDER BY name")
        ]

    def stored(self, house: int, since: int, until: int) -> int:
        """How many readings of a house are stored of a span (ms)."""
        text = "SELECT count(*) AS n FROM readings WHERE house = :house AND time >= :since AND time < :until"
        return int(self._select(text, house=house, since=since, until=until)[0].n)

    def topics(self, house: int, newest: int) -> list[TopicRow]:
        """Topics of a house with what was measured last within the hour before its newest reading."""
        found = {
            row.id: TopicRow(name=row.name, unit=row.unit, kind=row.kind, label=row.label, number=row.id)
            for row in self._select("SELECT id, name, unit, kind, label FROM topics WHERE house = :house", house=house)
        }
        text = (
            "SELECT r.topic, r.time, r.value, r.word FROM readings r JOIN"
            " (SELECT topic, max(time) AS time FROM readings WHERE house = :house AND time >= :since GROUP BY topic) n"
            " ON r.topic = n.topic AND r.time = n.time WHERE r.house = :house AND r.time >= :since"
        )
        for row in self._select(text, house=house, since=newest - HOUR):
            if (topic := found.get(row.topic)) is not None:
                topic.time, topic.value = row.time, row.word if row.value is None else row.value
        return sorted(found.values(), key=lambda one: (one.name, one.unit))

    # -- curves -------------------------------------------------------------------------------------------------------

    def series(
        self, house: int, topic: int, since: int, until: int, buckets: int
    ) -> list[tuple[int, float, float, float]]:
        """Beginning (ms), mean, lowest and highest of each bucket of a span in which something was measured."""
        step = max(1, (until - since) // buckets)
        span = {"house": house, "topic": topic, "since": since, "until": until, "step": step}
        if until - since <= 3 * FRESH:
            return self._buckets("readings", span)
        table = "minutes" if step < HOUR else "hours" if step < DAY else "days"
        found = self._buckets(table, span)
        fresh = max(since, until - FRESH, found[-1][0] + step if found else since)
        if fresh < until and step < DAY:
            found += self._buckets("readings", span | {"since": fresh})
        return found

    def _buckets(self, table: str, span: dict[str, int]) -> list[tuple[int, float, float, float]]:
        raw = table == "readings"
        mean, low, high = ("value", "value", "value") if raw else ("mean", "low", "high")
        text = (
            f"SELECT time - time % :step AS begun, avg({mean}) AS m, min({low}) AS l, max({high}) AS h FROM {table}"
            f" WHERE {'house = :house AND ' if raw else ''}topic = :topic AND time >= :since AND time < :until"
            f" AND {mean} IS NOT NULL GROUP BY begun ORDER BY begun"
        )
        asked = span if raw else {name: number for name, number in span.items() if name != "house"}
        return [(int(row.begun), float(row.m), float(row.l), float(row.h)) for row in self._select(text, **asked)]

    # -- houses beside each other -------------------------------------------------------------------------------------

    def months(self, houses: Collection[HouseRow], topic: str, since: int) -> dict[str, list[MonthRow]]:
        """By house, the months since a time (ms): what a counter counted, and fuel per degree day where that is told."""
        return {house.name: self._months(house, topic, since) for house in houses}

    def _months(self, house: HouseRow, topic: str, since: int) -> list[MonthRow]:
        zone, rows = house.zone, dict[str, MonthRow]()

        def month(moment: int) -> MonthRow:
            name = f"{datetime.fromtimestamp(moment / 1000, zone):%Y-%m}"
            return rows.setdefault(name, MonthRow(name))

        stands: dict[int, float] = {}
        for row in self._days(house.number, "= :topic", topic, since - 40 * DAY):
            if row.topic in stands and row.time >= since:
                one = month(row.time)
                one.counted = (one.counted or 0.0) + step(stands[row.topic], row.last)
            stands[row.topic] = row.last
        days: dict[str, dict[int, float]] = {FUEL: {}, DEGREEDAYS: {}}
        for what, found in days.items():
            for row in self._days(house.number, "LIKE :topic", f"%/{what}", since):
                found[row.time] = row.last
        for day in sorted(days[FUEL].keys() & days[DEGREEDAYS].keys()):
            one = month(day)
            one.fuel = (one.fuel or 0.0) + days[FUEL][day]
            one.degreedays = (one.degreedays or 0.0) + days[DEGREEDAYS][day]
        for one in rows.values():
            if one.fuel is not None and one.degreedays:
                one.intensity = one.fuel / one.degreedays
        return sorted(rows.values(), key=lambda one: one.month)

    def _days(self, house: int, which: str, topic: str, since: int) -> list[Any]:
        text = (
            "SELECT d.time, d.topic, d.last FROM days d JOIN topics t ON t.id = d.topic WHERE t.house = :house"
            f" AND t.name {which} AND d.time >= :since AND d.last IS NOT NULL ORDER BY d.time"
        )
        return self._select(text, house=house, topic=topic, since=since)

    # -- all of one house ---------------------------------------------------------------------------------------------

    def readings(self, house: int, since: int, until: int) -> Iterator[tuple[int, str, float | str, str]]:
        """Time (ms), topic, value and unit of all readings of a span, in the order of time."""
        names = self._topics(house)
        after = (since, -1)
        while True:
            text = (
                "SELECT time, topic, value, word FROM readings WHERE house = :house AND time >= :at AND time < :until"
                " AND (time > :at OR topic > :topic) ORDER BY time, topic LIMIT :page"
            )
            page = self._select(text, house=house, at=after[0], topic=after[1], until=until, page=PAGE)
            if not names.keys() >= {row.topic for row in page}:  # some came to be meanwhile
                names = self._topics(house)
            for row in page:
                yield (
                    row.time,
                    names[row.topic].name,
                    row.word if row.value is None else row.value,
                    names[row.topic].unit,
                )
            if len(page) < PAGE:
                return
            after = (page[-1].time, page[-1].topic)

    def _topics(self, house: int) -> dict[int, Any]:
        return {
            row.id: row for row in self._select("SELECT id, name, unit FROM topics WHERE house = :house", house=house)
        }

    def erase(self, house: int, name: str) -> int:
        """Delete everything of a house; returns how many readings that were."""
        deleted = self._erase("readings", "house = :house", house)
        topics = "topic IN (SELECT id FROM topics WHERE house = :house)"
        for table in (tables.MINUTES, tables.HOURS, tables.DAYS, tables.CLEARINGS):
            self._erase(table.name, topics, house)
        for table in (tables.HEARD, tables.LACKING, tables.PENDING, tables.TOPICS):
            self._erase(table.name, "house = :house", house)
        self._run("DELETE FROM owners WHERE house = :name", name=name)
        self._run("DELETE FROM houses WHERE id = :house", house=house)
        return deleted

    def _erase(self, table: str, where: str, house: int) -> int:
        """Delete rows hour by hour, minutes day by day, sums by thirty days: no transaction is longer than an engine takes at once."""
        timed = table in ("readings", "minutes", "hours", "days", "clearings")
        if not timed:
            return self._run(f"DELETE FROM {table} WHERE {where}", house=house)
        deleted = 0
        while True:
            first = self._select(f"SELECT min(time) AS first FROM {table} WHERE {where}", house=house)[0].first
            if first is None:
                return deleted
            span = HOUR if table == "readings" else DAY if table == "minutes" else 30 * DAY
            text = f"DELETE FROM {table} WHERE {where} AND time >= :since AND time < :until"
            deleted += self._run(text, house=house, since=first, until=first + span)

    def _run(self, text: str, **asked: Any) -> int:
        return self._engine.run(lambda connection: int(connection.execute(sql.text(text), asked).rowcount))
