"""MariaDB, alone or as a Galera cluster, by PyMySQL."""

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Final

import sqlalchemy as sql

from services.fleet.dialect import Access, Remedy, Row
from services.fleet.tables import LONGEST, Column, Table

TYPES: Final = {
    "serial": "INT AUTO_INCREMENT",
    "id": "INT",
    "time": "BIGINT",
    "count": "INT",
    "number": "DOUBLE",  # FLOAT has 4 bytes here, and says nothing of what it loses
    "word": f"VARCHAR({LONGEST})",
    "text": "VARCHAR(1000)",
}

ROWS: Final = 500
"""Rows of a statement."""

AGAIN: Final = frozenset({1020, 1205, 1213, 4166})
"""Deadlock, certification conflict, lock wait: also at COMMIT."""
PARTITION: Final = 1526
REFUSED: Final = frozenset({1048, 1264, 1292, 1366, 1367, 1406, 1690, 3988})
"""What a column does not take, or no double; all others mean that the node cannot, and the next one may."""


class MariaDB:
    """The dialect. Keys compare byte by byte: names that differ in case, accent or a space at the end are two topics."""

    PORT: ClassVar[int] = 3306

    def url(self, host: str, port: int, access: Access) -> sql.URL:
        """Address of a node for SQLAlchemy."""
        query = {"charset": "utf8mb4"}
        return sql.URL.create("mysql+pymysql", access.user, access.password, host, port, access.database, query)

    def arguments(self, access: Access) -> dict[str, Any]:
        """Time-outs: without them PyMySQL waits for ever for a node that is stopped or cut off."""
        limits = {"connect_timeout": 2, "read_timeout": access.timeout, "write_timeout": access.timeout}
        return limits | ({"ssl": {"ca": access.ca}} if access.ca else {})

    def bounded(self, connection: sql.Connection, seconds: float) -> AbstractContextManager[None]:  # noqa: ARG002
        """Do nothing: the driver waits for no answer longer than `read_timeout`."""
        return contextlib.nullcontext()

    def judge(self, error: BaseException) -> Remedy:
        """Say what to do after an error of the driver."""
        first = error.args[0] if error.args else 0
        if first in AGAIN:
            return Remedy.AGAIN
        if first == PARTITION:
            return Remedy.PARTITION
        return Remedy.REFUSED if first in REFUSED else Remedy.NEXT

    def create(self, table: Table, first: int, periods: Mapping[str, int]) -> list[str]:  # noqa: ARG002 (from the beginning of time)
        """Statements that make a table where it is not there; what is older than its first partition lies in that."""
        columns = [self._column(column) for column in table.columns]
        columns.append(f"PRIMARY KEY ({_names(table.key)})")
        if table.unique:
            columns.append(f"UNIQUE KEY ({_names(table.unique)})")
        parts = ", ".join(f"PARTITION {name} VALUES LESS THAN ({until})" for name, until in periods.items())
        by = f" PARTITION BY RANGE (`time`) ({parts})" if table.period else ""
        made = f"CREATE TABLE IF NOT EXISTS `{table.name}` ({', '.join(columns)})"
        return [f"{made} ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin{by}"]

    def _column(self, column: Column) -> str:
        return f"`{column.name}` {TYPES[column.kind]}{'' if column.empty else ' NOT NULL'}"

    def on_repeat(self, table: Table) -> str:
        """End of an INSERT that writes a row anew which is there already."""
        anew = [f"`{name}` = VALUES(`{name}`)" for name in table.rest or table.identity[:1]]
        return f"ON DUPLICATE KEY UPDATE {', '.join(anew)}"

    def insert(self, connection: sql.Connection, table: Table, rows: Sequence[Row]) -> None:
        """Write rows in statements of some hundred."""
        head = f"INSERT INTO `{table.name}` ({_names(table.written)}) VALUES "
        place = f"({', '.join(['%s'] * len(table.written))})"
        tail = f" {self.on_repeat(table)}"
        for begin in range(0, len(rows), ROWS):
            part = rows[begin : begin + ROWS]
            values = tuple(value for row in part for value in row)
            connection.exec_driver_sql(head + ", ".join([place] * len(part)) + tail, values)

    def partitions(self, connection: sql.Connection, table: Table) -> dict[str, int]:
        """Partitions of a table by name, each with its end (ms)."""
        asked = sql.text(
            "SELECT partition_name, partition_description FROM information_schema.partitions"
            " WHERE table_schema = database() AND table_name = :name AND partition_name IS NOT NULL"
        )
        return {name: int(until) for name, until in connection.execute(asked, {"name": table.name})}

    def add(self, table: Table, name: str, since: int, until: int) -> str:  # noqa: ARG002 (where the last one ends)
        """Statement that makes a partition behind the last one."""
        return f"ALTER TABLE `{table.name}` ADD PARTITION IF NOT EXISTS (PARTITION {name} VALUES LESS THAN ({until}))"

    def drop(self, table: Table, name: str) -> str:
        """Statement that drops a partition with all that is in it."""
        return f"ALTER TABLE `{table.name}` DROP PARTITION IF EXISTS {name}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
