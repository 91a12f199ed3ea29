"""What the archive knows of its file apart from its file, so that another in its place is noticed at the next start."""

import secrets
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sql

from bootstrap_lib import state
from services.stores import schema
from services.stores.schema import READINGS, SETTINGS

_NAME: Final = "archive"


class Seen(msgspec.Struct):
    """What was seen of the file last, in the state folder."""

    archive: str = ""
    """The name that a database has from its birth on."""
    newest: int = 0
    """Time (ms) of its newest reading."""


class Witness:
    """Knows the file again. `look` and `write` may raise RecordError."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the state folder."""
        self._file = folder / "witness.json"
        self.before = state.load(self._file, Seen, Seen())

    def look(self, engine: sql.Engine) -> tuple[str, int] | None:
        """Say what is wrong with a file that is there, and since when (ms) it may lack readings; None where it is the one of before."""
        now = self._seen(engine)
        if self.before.archive and now.archive != self.before.archive:
            return "its file is another archive than the one before", 0
        if now.newest < self.before.newest:
            return "its file is an older copy of the archive", now.newest
        return None

    def write(self, engine: sql.Engine) -> None:
        """Write down what the file is now; a full disk is left to others to say."""
        self.before = self._seen(engine)
        state.save(self._file, self.before)

    @staticmethod
    def _seen(engine: sql.Engine) -> Seen:
        with engine.begin() as connection:
            name = connection.scalar(sql.select(SETTINGS.c.value).where(SETTINGS.c.name == _NAME))
            if name is None:
                name = secrets.token_hex(8)
                schema.note(connection, _NAME, name)
            return Seen(name, connection.scalar(sql.select(sql.func.max(READINGS.c.time))) or 0)
