"""Finds the archive's database for commands that work beside the service, which may run meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sql

from bootstrap_lib import Instance, Registry, StartError, state
from services.archive import Options
from services.stores import record_url, schema


def archive_of(registry: Registry, name: str | None = None) -> Instance:
    """Instance of the archive; StartError where topics.yaml has none, or none of that name."""
    found = [one for one in registry.find("archive") if name in (None, one.name)]
    if not found:
        raise StartError(f"topics.yaml has no archive{f' named {name!r}' if name else ''} below subscribers:")
    return found[0]


def path_of_archive(registry: Registry, name: str | None = None) -> Path:
    """File of the archive's database; StartError where it is not there."""
    instance = archive_of(registry, name)
    path = record_url.path_of(registry.options_of(instance.name, Options).url, state.folder_of(instance.name))
    if not path.exists():
        raise StartError(f"{path} is not there: start the archive once, or set STATE_DIRECTORY to its folder")
    return path


@contextmanager
def open_archive(registry: Registry, name: str | None = None) -> Iterator[sql.Engine]:
    """Database of the archive while it is used; StartError where it cannot be read."""
    path = path_of_archive(registry, name)
    engine = schema.open_database(f"sqlite:///{path}", Path())
    try:
        try:
            with engine.connect() as connection:
                version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        except sql.exc.DatabaseError as error:
            raise StartError(f"{path} cannot be read: {error.orig}") from None
        if version != schema.FORMAT:
            raise StartError("the archive has the format of another version: start the archive of this version once")
        yield engine
    finally:
        engine.dispose()
