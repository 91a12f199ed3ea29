"""The page of a fleet at its centre: houses by state and proof, one of them, months beside each other (docs/services/fleet_page.md)."""

import logging
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from bootstrap_lib import (
    Duration,
    Message,
    Needs,
    Registry,
    StartError,
    Subscriber,
    as_json,
    secrets,
)
from services.fleet import roster
from services.fleet.engine_options import EngineOptions
from services.fleet.shown import FleetPerson, LiveHouse
from services.fleet.wire import FLEET_ROOT

if TYPE_CHECKING:
    from services.page.awaited import Awaited
    from services.page.serving import WebServer

log = logging.getLogger(__name__)

LOOK: Final = 5.0
"""Seconds between two looks at the roster."""

PATIENCE: Final = 25.0
"""Seconds that a house has to answer: the store of its shard gives up before."""


class Options(EngineOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the page listens, who may look, and the engine that it reads."""

    every: Annotated[Duration, Meta(description="How often it looks what is due.")] = Duration(1)
    listen: Annotated[str, Meta(description="Address that it listens on; 0.0.0.0 or :: for all.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535, description="Port that it listens on.")] = 8090
    names: Annotated[list[str], Meta(description="Names by which browsers reach it, besides this machine's.")] = (
        msgspec.field(default_factory=list)
    )
    trust: Annotated[
        list[str], Meta(description="Addresses of proxies whose Remote-User and X-Forwarded-… are believed.")
    ] = msgspec.field(default_factory=list)
    people: Annotated[dict[str, FleetPerson], Meta(description="Who logs in, with role and houses.")] = msgspec.field(
        default_factory=dict
    )
    houses: Annotated[Path, Meta(description="Roster of houses.")] = Path("/etc/constellation/fleet.json")


class FleetPage(Subscriber):
    """The page of those who look after houses, or own one."""

    NEEDS: ClassVar = Needs(
        extra="central,web",
        libraries=("sqlalchemy", "pymysql", "psycopg", "starlette", "uvicorn"),
        network="house",
        listens=("port", 8090),
        rights=(
            "read +/home/service/+/health",
            "read +/link",
            "write {root}/service/+/request/ask",
            "read {root}/service/+/response/ask",
        ),
    )

    options: Options
    SESSION = 0
    WANTS_DATA = False

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; nothing is opened yet."""
        super().__init__(registry, name)
        self.live: dict[str, LiveHouse] = {}
        self._roster = roster.Roster()
        self._roster_at = 0.0
        self._awaited: Awaited | None = None
        self._server: WebServer | None = None

    def begin(self) -> None:
        """Listen; the engine may come later."""
        super().begin()
        from services.fleet.opening import engine_of
        from services.fleet.view import FleetView
        from services.page import people
        from services.page.awaited import Awaited
        from services.page.entrance import Entrance
        from services.page.fleet_doors import FLEET_DOORS, FleetDoors
        from services.page.gate import Gate
        from services.page.routing import routes
        from services.page.serving import FLEET_FILES, WebServer, listen_on

        options = self.options
        self._look_at_roster()
        try:
            known = people.read(secrets.resolve(f"secret:{people.secret_of('fleet_page')}", lines=True))
        except secrets.MissingSecretError:
            known = {}
        except secrets.SecretError as error:
            raise StartError(str(error)) from None
        engine = engine_of(options)
        self.opened.callback(engine.close)
        gate = Gate(
            self.state_folder,
            {n: h for n, h in known.items() if n in options.people},
            anyone=False,
            trust=options.trust,
        )
        entrance = Entrance(gate, self.clock.now)
        readers = ThreadPoolExecutor(1, "reader")
        self.opened.callback(readers.shutdown, wait=False, cancel_futures=True)
        self._awaited = Awaited(self.name)
        doors = FleetDoors(self, FleetView(engine), entrance, readers)
        server = self._server = WebServer(routes(doors, entrance, FLEET_DOORS), options.names, FLEET_FILES)
        server.start(listen_on(options.listen, options.port))
        self.opened.callback(server.stop)
        log.info("the fleet's page is at http://%s:%d", options.listen, options.port)

    # -- what is heard ------------------------------------------------------------------------------------------------

    def subscribe(self, session: bool) -> None:  # noqa: ARG002 (there never is one)
        """Hear how houses and their services are."""
        self.live.clear()
        for pattern in (
            f"+/{FLEET_ROOT}/service/+/health",
            "+/link",
            f"{self.registry.root}/service/+/response/ask",
        ):
            self.bus.subscribe(pattern, qos=1)

    def on_other(self, message: Message) -> None:
        """Take what a house's services say of themselves."""
        name, _, rest = message.topic.partition("/")
        if name == self.registry.root:
            if self._awaited is not None:
                self._awaited.take(message.payload)
            return
        if name not in self._roster.houses:
            return
        live = self.live.setdefault(name, LiveHouse())
        if rest == "link":
            live.linked = message.payload == b"1"
            return
        if not message.retained:
            live.heard = self.clock.now()
        live.take_health(rest.split("/")[2], message.payload)

    def on_tick(self) -> None:
        """Follow the roster."""
        if time.monotonic() >= self._roster_at:
            self._look_at_roster()
        if self._server is not None and not self._server.alive:
            raise RuntimeError("the web server ended, which it never should")

    def _look_at_roster(self) -> None:
        self._roster_at = time.monotonic() + LOOK
        try:
            self._roster = roster.read(self.options.houses)
        except StartError as error:
            self.error(str(error))

    @property
    def people(self) -> dict[str, FleetPerson]:
        """Who may log in."""
        return self.options.people

    # -- what the page asks for ---------------------------------------------------------------------------------------

    def members(self) -> Collection[str]:
        """Houses of the roster that are not revoked."""
        return {name for name, house in self._roster.houses.items() if not house.revoked}

    def gone(self) -> Collection[str]:
        """Houses that the roster names as revoked; nobody while it cannot be read."""
        return {name for name, house in self._roster.houses.items() if house.revoked}

    async def ask(self, house: str, instance: str, verb: str, by: str) -> Any:
        """Ask a service of a house, by the store of its shard."""
        from services.page.answers import Refusal

        store = roster.store_of(self.registry, self._roster.houses[house].shard) if house in self.members() else None
        if store is None or self._awaited is None:
            raise Refusal(503, f"no store keeps {house}", "house")
        if not self.bus.online:
            raise Refusal(503, "there is no word from the broker", "broker")
        log.info("%s asks %s/%s to %s", by, house, instance, verb)
        asked = {"house": house, "instance": instance, "verb": verb, "by": by}
        topic = f"{self.registry.root}/service/{store}/request/ask"

        def send(identity: str) -> None:
            self.bus.publish(topic, as_json(asked | {"id": identity}))  # at QoS 0: none waits for a broker that is away

        return await self._awaited.ask(send, instance, verb, PATIENCE)

    def note(self, sentence: str) -> None:
        """Say in the journal what somebody did."""
        log.info("%s", sentence)
