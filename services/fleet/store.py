"""What the centre writes: groups of readings together with the marks that they moved, in one transaction.

A mark in another transaction would either confirm what a kill then takes, or leave what is there unconfirmed for ever.
"""

import logging
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple

import sqlalchemy as sql

from bootstrap_lib import Value
from services.fleet import tables
from services.fleet.engine import Engine, RowsRefused
from services.fleet.gaps import Gaps
from services.fleet.numbers import Numbers
from services.fleet.remote_house import RemoteHouse, RemoteTopic

log = logging.getLogger(__name__)

HOUR: Final = 3_600_000
ROWS: Final = 500
"""Houses that are asked for in one statement."""

_RENAMED: Final = sql.text("UPDATE topics SET name = :name WHERE house = :house AND name = :old")

Claim = Literal["ours", "new", "another's"]
LEASE: Final = 30_000
"""Milliseconds for which a shard is held since its holder wrote last: another machine takes it over within a minute."""


class ShardLost(RuntimeError):
    """Another process holds the shard: whoever wrote on would write what the other one has moved past."""


class HousesLost(RuntimeError):
    """Houses, by name, that belong to another shard now: what waits of them is that one's to fill."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(f"{', '.join(sorted(names))}: another shard keeps them now")
        self.names = frozenset(names)


class RefusedReading(NamedTuple):
    """A reading that the engine does not take."""

    topic: RemoteTopic
    time: int
    value: Value
    sentence: str


class CentralStore:
    """Readings that wait, and the transaction that makes them last. Methods that speak with the engine may raise EngineAway."""

    def __init__(self, engine: Engine, shard: str, holder: str) -> None:
        """`holder` names this process among all that might hold the shard."""
        self._engine, self._shard, self._holder = engine, shard, holder
        self._rows: dict[tuple[RemoteTopic, int], tuple[float | None, str | None]] = {}
        self._clearings: set[tuple[RemoteTopic, int]] = set()
        self._refused: dict[tuple[RemoteTopic, int], RefusedReading] = {}  # until a commit tells
        self.held = False
        self.taken_over = False
        """Whether another process held the shard before: what came between the two is to be filled."""

    @property
    def waiting(self) -> int:
        """Readings that wait for a commit."""
        return len(self._rows)

    # -- what waits ---------------------------------------------------------------------------------------------------

    def store(self, topic: RemoteTopic, moment: int, value: Value) -> None:
        """Keep a reading for the next commit; `moment` in ms."""
        self._rows[topic, moment] = (None, value) if isinstance(value, str) else (float(value), None)

    def clear(self, topic: RemoteTopic, moment: int) -> None:
        """Keep when a topic fell silent."""
        self._clearings.add((topic, moment))

    # -- the shard ----------------------------------------------------------------------------------------------------

    def hold(self, now: int) -> bool:
        """Take the shard, or go on holding it; False while another process does."""
        shard, holder = self._shard, self._holder

        def take(connection: sql.Connection) -> bool:
            asked = sql.text("SELECT holder, until FROM shards WHERE shard = :shard FOR UPDATE")
            found = connection.execute(asked, {"shard": shard}).first()
            if found is not None and found.holder != holder and found.until > now:
                return False
            self._engine.dialect.insert(connection, tables.SHARDS, [(shard, holder, now + LEASE)])
            self.taken_over = found is not None and found.holder != holder
            return True

        self.held = self._engine.run(take)
        return self.held

    def _renew(self, connection: sql.Connection, now: int) -> None:
        renewed = sql.text("UPDATE shards SET until = :until WHERE shard = :shard AND holder = :holder")
        asked = {"until": now + LEASE, "shard": self._shard, "holder": self._holder}
        if connection.execute(renewed, asked).rowcount != 1:
            raise ShardLost(f"shard {self._shard} is held by another process")

    def leave(self) -> None:
        """Let another process have the shard at once."""
        left = sql.text("UPDATE shards SET until = 0 WHERE shard = :shard AND holder = :holder")
        asked = {"shard": self._shard, "holder": self._holder}
        self._engine.run(lambda connection: connection.execute(left, asked).rowcount, patience=0.5)

    def claim(self, name: str, now: int) -> Claim:
        """Take a house for this shard, unless another one keeps it whose holder lives."""

        def take(connection: sql.Connection) -> Claim:
            asked = sql.text("SELECT shard FROM owners WHERE house = :house FOR UPDATE")
            owner = connection.scalar(asked, {"house": name})
            if owner == self._shard:
                return "ours"
            if owner is not None:
                asked = sql.text("SELECT until FROM shards WHERE shard = :shard FOR UPDATE")
                if (connection.scalar(asked, {"shard": owner}) or 0) > now:
                    return "another's"
                # Galera parts two transactions only where both write: a commit of that holder writes this row too.
                touched = sql.text("UPDATE shards SET until = until - 1 WHERE shard = :shard")
                connection.execute(touched, {"shard": owner})
            self._engine.dialect.insert(connection, tables.OWNERS, [(name, self._shard)])
            return "new"

        return self._engine.run(take)

    def let_go(self, name: str) -> None:
        """Leave a house to whoever claims it next."""
        self.drop({name})
        left = sql.text("DELETE FROM owners WHERE house = :house AND shard = :shard")
        self._engine.run(lambda connection: connection.execute(left, {"house": name, "shard": self._shard}).rowcount)

    def drop(self, names: Collection[str] = (), rows: int = 0, clearings: int = 0) -> int:
        """Forget what waits of some houses, readings before `rows` and clearings before `clearings` (ms); returns how many."""
        before = len(self._rows) + len(self._clearings)
        self._rows = {key: row for key, row in self._rows.items() if key[0].house.name not in names and key[1] >= rows}
        self._clearings = {(t, at) for t, at in self._clearings if t.house.name not in names and at >= clearings}
        return before - len(self._rows) - len(self._clearings)

    def _own(self, connection: sql.Connection, houses: Iterable[RemoteHouse]) -> None:
        """HousesLost where another shard took a house."""
        names = [house.name for house in houses]
        for begin in range(0, len(names), ROWS):
            asked = sql.text("SELECT house FROM owners WHERE house IN :names AND shard <> :shard")
            asked = asked.bindparams(sql.bindparam("names", expanding=True))
            if lost := list(connection.scalars(asked, {"names": names[begin : begin + ROWS], "shard": self._shard})):
                raise HousesLost(lost)

    # -- the commit ---------------------------------------------------------------------------------------------------

    def commit(self, houses: Iterable[RemoteHouse], now: int) -> list[RefusedReading]:
        """Write what waits and what moved, in one transaction; returns the readings that the engine will never take.

        ShardLost, HousesLost, EngineAway, and then everything goes on waiting.
        """
        news = [h for h in houses if h.changed or h.told or h.numbers.moved or h.numbers.gone]
        moved = list(dict.fromkeys([*news, *(topic.house for topic, _ in (*self._rows, *self._clearings))]))
        if moved:
            self._name(moved, now)
            self._write(moved, now)
        for house in moved:
            house.changed = False
            house.numbers.written()
        self._rows.clear()
        self._clearings.clear()
        refused, self._refused = list(self._refused.values()), {}
        return refused

    def _write(self, moved: list[RemoteHouse], now: int) -> None:
        """Write the group. What one house says, of itself or in a reading, and the engine refuses, costs no other house anything."""
        keys = list(self._rows)
        if self._takes(moved, keys, now) is None:
            return
        for place, said in self._engine.write(tables.READINGS, [self._row(key) for key in keys]).items():
            self._refuse(keys[place], said)
        keys = [key for key in keys if key not in self._refused]
        if self._takes(moved, keys, now) is None:
            return
        for house in moved:
            if why := self._takes([house], [key for key in keys if key[0].house is house], now):
                log.error("%s says of itself what the engine refuses, which is left out: %s", house.name, why)

    def _takes(self, moved: list[RemoteHouse], keys: list[tuple[RemoteTopic, int]], now: int) -> str | None:
        """Write a group; returns why the engine refuses something in it, None where it took all."""
        try:
            self._engine.run(lambda connection: self._group(connection, moved, keys, now))
        except RowsRefused as error:
            return str(error)
        return None

    def _refuse(self, key: tuple[RemoteTopic, int], said: str) -> None:
        self._refused[key] = RefusedReading(*key, _value(self._rows[key]), said)

    def _row(self, key: tuple[RemoteTopic, int]) -> tuple[Any, ...]:
        return key[0].house.number, key[1], key[0].number, *self._rows[key]

    def _group(
        self, connection: sql.Connection, moved: list[RemoteHouse], keys: list[tuple[RemoteTopic, int]], now: int
    ) -> None:
        insert = self._engine.dialect.insert
        self._renew(connection, now)
        self._own(connection, moved)
        rows = sorted(map(self._row, keys))
        if rows:
            insert(connection, tables.READINGS, rows)
            insert(connection, tables.PENDING, sorted({(row[0], row[1] // HOUR * HOUR) for row in rows}))
        if cleared := sorted((t.number, at) for t, at in self._clearings if t.house in moved):
            insert(connection, tables.CLEARINGS, cleared)
        heard = [(h.number, *h.numbers.row(stream)) for h in moved for stream in sorted(h.numbers.moved)]
        if heard:
            insert(connection, tables.HEARD, heard)
        for house in moved:
            for stream in house.numbers.gone:
                over = sql.text("DELETE FROM heard WHERE house = :house AND stream = :stream")
                connection.execute(over, {"house": house.number, "stream": stream})
            if house.changed:
                self._write_house(connection, house)

    def _write_house(self, connection: sql.Connection, house: RemoteHouse) -> None:
        insert = self._engine.dialect.insert
        said = sql.text("UPDATE houses SET timezone = :timezone, compared = :compared WHERE id = :house")
        connection.execute(said, {"timezone": house.timezone, "compared": house.compared, "house": house.number})
        connection.execute(sql.text("DELETE FROM lacking WHERE house = :house"), {"house": house.number})
        if house.lacking:
            insert(connection, tables.LACKING, [(house.number, since, until) for since, until in house.lacking])

    # -- numbers of houses and topics ---------------------------------------------------------------------------------

    def _name(self, houses: list[RemoteHouse], now: int) -> None:
        """Give houses and topics that are new their numbers: the engine's, the same for all who write. HousesLost."""
        insert = self._engine.dialect.insert
        if new := [house for house in houses if house.number is None]:
            rows = sorted((house.name, house.timezone, house.compared) for house in new)
            if lost := [house.name for house in new if self.claim(house.name, now) == "another's"]:
                raise HousesLost(lost)
            self._engine.run(lambda connection: insert(connection, tables.HOUSES, rows))
            known = {row.name: row.id for row in self._select("SELECT id, name FROM houses")}
            for house in new:
                house.number = known[house.name]
        for house in houses:
            while house.renamed:  # before its new name is told, which is no new topic
                old, name = house.renamed[0]
                asked = {"name": name, "house": house.number, "old": old}
                self._engine.run(lambda connection, asked=asked: connection.execute(_RENAMED, asked).rowcount)  # type: ignore[misc]
                del house.renamed[0]
        told = [topic for house in houses for topic in house.told]
        topics = [(t.house.number, t.name, t.unit, t.kind, t.label, t.source) for t in told]
        for place, said in self._engine.write(tables.TOPICS, topics).items():
            self._forget(told[place], said)
        for house in houses:
            if any(topic.number is None for topic in house.told):
                found = self._select("SELECT id, name, unit FROM topics WHERE house = :house", house=house.number)
                known = {(row.name, row.unit): row.id for row in found}
                for topic in house.told:
                    topic.number = known[topic.name, topic.unit]
            house.told.clear()

    def _forget(self, topic: RemoteTopic, said: str) -> None:
        """Have a topic no more that the engine does not take, nor what waits of it."""
        topic.house.told.discard(topic)
        if topic.number is None:
            topic.house.forget(topic)
            for key in [key for key in self._rows if key[0] is topic]:
                self._refuse(key, said)
                del self._rows[key]
            self._clearings = {one for one in self._clearings if one[0] is not topic}

    def _select(self, text: str, **asked: Any) -> list[Any]:
        return self._engine.run(lambda connection: list(connection.execute(sql.text(text), asked).all()))

    # -- what is known ------------------------------------------------------------------------------------------------

    def load(self, name: str, prefix: str) -> RemoteHouse:
        """A house as the engine knows it, or a new one."""
        found = self._select("SELECT id, timezone, compared FROM houses WHERE name = :name", name=name)
        if not found:
            return RemoteHouse(name, prefix)
        house = RemoteHouse(name, prefix, found[0].id, found[0].compared)
        house.timezone = found[0].timezone
        for row in self._select("SELECT * FROM topics WHERE house = :house ORDER BY id", house=house.number):
            topic = RemoteTopic(house, row.name, row.unit, row.id)
            topic.kind, topic.label, topic.source = row.kind, row.label, row.source
            house.know(topic)
        rows = self._select("SELECT stream, source, number, at FROM heard WHERE house = :house", house=house.number)
        house.numbers = Numbers(sorted((tuple(row) for row in rows), key=lambda row: int(row[3])))
        lacking = self._select("SELECT since, until FROM lacking WHERE house = :house", house=house.number)
        house.lacking = Gaps((row.since, row.until) for row in lacking)
        return house

    def names(self) -> Iterator[str]:
        """Names of all houses that the engine knows."""
        yield from (row.name for row in self._select("SELECT name FROM houses"))


def _value(row: tuple[float | None, str | None]) -> Value:
    return row[1] or "" if row[0] is None else row[0]
