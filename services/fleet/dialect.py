"""What differs between the engines, and how an engine's error is judged: again, elsewhere, or never."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Protocol

import sqlalchemy as sql

from services.fleet.tables import Table

Row = Sequence[Any]


class Remedy(Enum):
    """What is to be done after an error. The outcome of the transaction may be unknown: it is repeated, which changes nothing."""

    AGAIN = "the same group again, on the same node"
    NEXT = "the group on the next node"
    PARTITION = "a partition has to be made first"
    REFUSED = "this row can never be stored"


class Access(NamedTuple):
    """How an engine is reached; each node is HOST or HOST:PORT. `ca` is a file of the authority that signed the nodes' certificates."""

    database: str
    user: str
    password: str
    ca: str | None = None
    timeout: float = 5.0
    """Seconds that a statement may take to answer: a node that is stopped or cut off says nothing, for ever."""


class Dialect(Protocol):
    """One kind of engine."""

    PORT: ClassVar[int]

    def url(self, host: str, port: int, access: Access) -> sql.URL:
        """Address of a node for SQLAlchemy."""

    def arguments(self, access: Access) -> dict[str, Any]:
        """Arguments of the driver's connect: time-outs, above all."""

    def bounded(self, connection: sql.Connection, seconds: float) -> AbstractContextManager[None]:
        """Cut a connection whose transaction takes longer, where neither driver nor server would."""

    def judge(self, error: BaseException) -> Remedy:
        """Say what to do after an error of the driver."""

    def create(self, table: Table, first: int, periods: Mapping[str, int]) -> list[str]:
        """Statements that make a table where it is not there; its first partitions by name and end (ms), from `first` on."""

    def on_repeat(self, table: Table) -> str:
        """End of an INSERT that writes a row anew which is there already."""

    def insert(self, connection: sql.Connection, table: Table, rows: Sequence[Row]) -> None:
        """Write rows that differ in what identifies them; repeats are written anew."""

    def partitions(self, connection: sql.Connection, table: Table) -> dict[str, int]:
        """Partitions of a table by name, each with its end (ms)."""

    def add(self, table: Table, name: str, since: int, until: int) -> str:
        """Statement that makes a partition behind the last one."""

    def drop(self, table: Table, name: str) -> str:
        """Statement that drops a partition with all that is in it."""
