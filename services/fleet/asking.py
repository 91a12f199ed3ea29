"""What people may ask of a centre's store: what is lacking of each house, and to compare counts now."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from bootstrap_lib import ReadingError, Request, RequestError, format_time, parse_time
from services.fleet.centre import Centre
from services.fleet.remote_house import RemoteHouse

SHOWN = 20
"""Ranges of a house that are listed."""


class Comparing(Struct, forbid_unknown_fields=True):
    """Payload of `request/compare` and `request/houses`: one house or all; since a time, or the last comparison."""

    house: str | None = None
    since: str | None = None


class FleetRequests:
    """The requests of a store of a fleet."""

    def __init__(self, centre: Callable[[], Centre | None], now: Callable[[], int]) -> None:
        """`centre` gives the centre that is open, or None."""
        self._centre, self._now = centre, now

    def _asked(self, arguments: Comparing) -> tuple[Centre, list[RemoteHouse]]:
        centre = self._centre()
        if centre is None:
            raise RequestError("the engine is not there, or another process holds the shard")
        return centre, [house for house in centre.houses.values() if arguments.house in (None, house.name)]

    def request_compare(self, _request: Request, arguments: Comparing) -> dict[str, int]:
        """Have counts compared now."""
        centre, houses = self._asked(arguments)
        try:
            since = parse_time(arguments.since) if arguments.since else None
        except ReadingError as error:
            raise RequestError(str(error)) from None
        for house in houses:
            centre.compare(house, self._now(), since)
        return {"houses": len(houses)}

    def request_houses(self, _request: Request, arguments: Comparing) -> dict[str, Any]:
        """Say of each house what is lacking here, when it was heard last, and whether anything is under way."""
        centre, houses = self._asked(arguments)
        return {
            house.name: {
                "linked": house.linked,
                "newest": format_time(house.newest) if house.newest else None,
                "compared": format_time(house.compared) if house.compared else None,
                "lacking": [[format_time(since), format_time(until)] for since, until in house.lacking][:SHOWN],
                "busy": centre.filling.busy(house),
            }
            for house in houses
        }
