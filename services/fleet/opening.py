"""Opening a centre: its engine with all tables, the shard that it holds, and the houses that it knows."""

from collections.abc import Iterable
from typing import Any, Final, Protocol

from bootstrap_lib import Away, Bus, secrets
from services.fleet import partitions
from services.fleet.centre import Centre, Limits
from services.fleet.dialect import Access
from services.fleet.engine import Engine, EngineAway, PartitionMissing, RowsRefused
from services.fleet.engine_options import EngineOptions
from services.fleet.filling import FleetFilling
from services.fleet.store import CentralStore, HousesLost, ShardLost

__all__ = ["TROUBLE", "Centre", "ShardLost", "engine_of", "houses", "open_centre"]

TROUBLE: Final = (EngineAway, RowsRefused, PartitionMissing, ShardLost, HousesLost)
"""What an engine may answer instead of doing what it was asked."""


class Opener(Protocol):
    """The service that opens a centre: through what it speaks, and where it complains."""

    @property
    def bus(self) -> Bus:
        """The connection to the broker."""

    def error(self, sentence: str) -> None:
        """Count an error."""


def engine_of(options: EngineOptions) -> Engine:
    """The engine of a service's options; nothing is opened yet. SecretError."""
    password = str.__str__(secrets.resolve(options.password))
    access = Access(options.database, options.user, password, str(options.ca) if options.ca else None)
    return Engine(options.engine, options.nodes, access)


def open_centre(service: Opener, options: Any, holder: str, now: int) -> Centre:
    """Open the engine of a service's options; Away while another process holds the shard. EngineAway."""
    engine = engine_of(options)
    limits = Limits(*(round(age * 1000) for age in (options.raw, options.minutes, options.compare)))
    store = CentralStore(engine, options.shard if not options.local else options.local, holder)
    filling = FleetFilling(service.bus.publish, options.known_as, options.at_once, service.error)
    centre = Centre(engine, store, filling, limits, lambda topic: service.bus.publish(topic, b"", qos=1, retain=True))
    try:
        partitions.create(engine, now, centre.ages())
        centre.look_after_partitions(now)
        if not store.hold(now):
            raise Away(f"shard {options.shard} is held by another process: waiting for its turn")
    except BaseException:
        engine.close()
        raise
    return centre


def houses(centre: Centre, local: str | None, roster: Iterable[str] | None) -> list[str]:
    """Names of the houses to take up: those of the roster, or all that the engine knows."""
    if local is not None:
        return [local]
    return sorted(centre.store.names() if roster is None else roster)
