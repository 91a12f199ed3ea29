"""The engine that keeps a fleet's readings: a list of nodes, and a transaction that is repeated until one of them has taken it.

What is written is idempotent, so a transaction whose outcome nobody knows (the node died at COMMIT) is simply done again, on another
node where it has to be. A node that does not answer costs some seconds; the caller gets `EngineAway` before its watchdog would bark.
"""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import sqlalchemy as sql

from bootstrap_lib import reason
from services.fleet.dialect import Access, Dialect, Remedy, Row
from services.fleet.mariadb import MariaDB
from services.fleet.postgresql import PostgreSQL
from services.fleet.tables import Table

T = TypeVar("T")
log = logging.getLogger(__name__)

DIALECTS: Final[dict[str, type[Dialect]]] = {"mariadb": MariaDB, "postgresql": PostgreSQL}

PATIENCE: Final = 12.0
"""Seconds for which a transaction is tried: a cluster that expels a dead node lets everyone wait for two to five."""

LONGEST: Final = 4.0
"""How many times as long as one statement a transaction may take, with its commit."""

PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 0.5


class EngineAway(RuntimeError):
    """No node takes anything now; the sentence names the last one that was tried, and what it said."""


class RowsRefused(ValueError):
    """The engine will never take one of these rows."""


class PartitionMissing(ValueError):
    """A row lies outside of all partitions."""


class Engine:
    """Nodes of one engine. `errors` counts what they said, by code, for health and tests."""

    def __init__(self, kind: str, nodes: Sequence[str], access: Access) -> None:
        """`kind` is mariadb or postgresql, a node is HOST or HOST:PORT; nothing is opened yet."""
        self.dialect = DIALECTS[kind]()
        self.nodes = tuple(nodes)
        logging.getLogger("sqlalchemy.pool").setLevel(
            logging.CRITICAL
        )  # a traceback for each connection that a kill ended
        arguments = self.dialect.arguments(access)
        self._engines = [
            sql.create_engine(
                self.dialect.url(*place(node, self.dialect.PORT), access),
                connect_args=arguments,
                pool_size=1,
                max_overflow=0,
            )
            for node in self.nodes
        ]
        self._at = 0
        self._longest = LONGEST * access.timeout
        self.errors: Counter[str] = Counter()

    @property
    def node(self) -> str:
        """The node that is spoken with."""
        return self.nodes[self._at]

    def run(self, act: Callable[[sql.Connection], T], patience: float = PATIENCE) -> T:
        """Run `act` in a transaction and commit it, as often as it takes; it must be idempotent.

        EngineAway when no node took it, RowsRefused and PartitionMissing when none ever will as it is.
        """
        deadline, tries = time.monotonic() + patience, 0
        while True:
            try:
                with (
                    self._engines[self._at].connect() as connection,
                    self.dialect.bounded(connection, self._longest),
                    connection.begin(),
                ):
                    return act(connection)
            except sql.exc.DBAPIError as error:
                self._judge(error.orig or error)
                last = f"{self.node}: {reason(error.orig or error)}"
            except sql.exc.ResourceClosedError as error:  # the connection ended between two statements
                self._move()
                last = f"{self.node}: {reason(error)}"
            tries += 1
            if time.monotonic() > deadline:
                raise EngineAway(f"the engine takes nothing ({last})")
            time.sleep(min(LONGEST_PAUSE, PAUSE * tries))

    def write(self, table: Table, rows: Sequence[Row]) -> dict[int, str]:
        """Write rows by themselves; returns those that the engine never takes, found by halves: their places, and what it said."""
        refused: dict[int, str] = {}
        parts = [range(len(rows))] if rows else []
        while parts:
            part = parts.pop()
            given = rows[part.start : part.stop]
            try:
                self.run(lambda connection, given=given: self.dialect.insert(connection, table, given))  # type: ignore[misc]
            except RowsRefused as error:
                half = len(part) // 2
                if half:
                    parts += [part[:half], part[half:]]
                else:
                    refused[part.start] = str(error)
        return refused

    def _judge(self, error: BaseException) -> None:
        """Stay or move; RowsRefused and PartitionMissing where trying again is of no use."""
        remedy = self.dialect.judge(error)
        code = getattr(error, "sqlstate", None) or (error.args[0] if error.args else type(error).__name__)
        self.errors[str(code)[:40]] += 1
        log.debug("%s says %s: %s", self.node, code, remedy.value)
        if remedy is Remedy.REFUSED:
            raise RowsRefused(reason(error)) from None
        if remedy is Remedy.PARTITION:
            raise PartitionMissing(reason(error)) from None
        if remedy is Remedy.NEXT:
            self._move()

    def _move(self) -> None:
        with contextlib.suppress(Exception):  # what it says at its end changes nothing
            self._engines[self._at].dispose()
        self._at = (self._at + 1) % len(self.nodes)

    def each(self) -> Iterator[tuple[str, sql.Engine]]:
        """Each node by itself, for who compares them."""
        yield from zip(self.nodes, self._engines, strict=True)

    def define(self, statement: str) -> None:
        """Run a statement that defines something; on Galera all nodes wait for it."""
        self.run(lambda connection: _nothing(connection.exec_driver_sql(statement)))

    def close(self) -> None:
        """Close all connections."""
        for engine in self._engines:
            with contextlib.suppress(Exception):
                engine.dispose()


def _nothing(_result: Any) -> None:
    """A statement that is done answers nothing."""


def place(node: str, port: int) -> tuple[str, int]:
    """Host and port of a node that is written HOST, HOST:PORT or [ADDRESS]:PORT."""
    host, colon, given = node.rpartition(":")
    if colon and given.isdigit() and (not host.count(":") or host.startswith("[")):
        return host.strip("[]"), int(given)
    return node.strip("[]"), port
