"""Which engine a service speaks with, as topics.yaml says it: alike for the store and for the page."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from bootstrap_lib import InstanceOptions


class EngineOptions(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The engine."""

    engine: Annotated[Literal["mariadb", "postgresql"], Meta(description="Kind of the engine.")] = "mariadb"
    nodes: Annotated[list[str], Meta(description="Nodes of the engine, HOST or HOST:PORT.", min_length=1)]
    database: Annotated[str, Meta(description="Database in the engine.")] = "fleet"
    user: Annotated[str, Meta(description="User at the engine.")] = "store"
    password: Annotated[str, Meta(description="Reference to the password.", pattern="^secret:")] = "secret:fleet.engine"  # noqa: S105 (where it lies)
    ca: Annotated[Path, Meta(description="Authority of the engine's certificates; switches TLS on.")] | None = None
