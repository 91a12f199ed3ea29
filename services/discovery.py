"""The house in Home Assistant, by itself: MQTT device discovery (docs/services/discovery.md)."""

import logging
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from bootstrap_lib import (
    Duration,
    InstanceOptions,
    Message,
    Needs,
    Registry,
    Request,
    RequestError,
    Subscriber,
    as_json,
    nearest,
    state,
)
from services.homeassistant.announced import Announced, Memory, gone, told, unique_ids
from services.homeassistant.devices import PREFIX, Device, HouseDevices

log = logging.getLogger(__name__)


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What Home Assistant may do."""

    every: Annotated[Duration, Meta(description="How often it looks whether there is something to announce.")] = (
        Duration(1)
    )
    control: Annotated[bool, Meta(description="Whether Home Assistant may pause sources and acknowledge alerts.")] = (
        False
    )
    url: (
        Annotated[str, Meta(description="Address of the page, to which devices link.", pattern="^https?://")] | None
    ) = None


class Command(Struct, forbid_unknown_fields=True):
    """What Home Assistant asks: {"do":"pause","name":"onewire"}; `name` is a source, or an alert."""

    do: Literal["pause", "resume", "acknowledge"]
    name: str


class Discovery(Subscriber):
    """The house in Home Assistant."""

    NEEDS: ClassVar = Needs(
        rights=(
            "write homeassistant/device/#",
            "read homeassistant/status",
            "read {root}/alert/#",
            "write {root}/service/+/request/pause",
            "write {root}/service/+/request/resume",
            "write {root}/service/+/request/acknowledge",
        ),
        partner="homeassistant",
        partner_rights=(
            "read {root}/service/+/health",
            "read {root}/notify/+",
            "write {root}/service/+/request/command",
        ),
    )

    options: Options
    SESSION = 0
    WANTS_DATA = False

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; nothing is opened yet."""
        super().__init__(registry, name)
        self._file = self.state_folder / "announced.json"
        self._memory: Memory = {}
        self._alerts: set[str] = set()
        self._settled = False
        """Whether the broker has said which alerts it keeps."""
        self._due = False
        self._sent: dict[str, bytes] = {}
        """What stands at the broker by this connection."""
        self._unconfirmed: dict[int, tuple[str, dict[str, Announced]]] = {}
        """By the message's id: what Home Assistant knows of a device once the broker has it."""
        self._confirmed: dict[str, dict[str, Announced]] = {}
        """What the broker has since it was written down last."""

    def begin(self) -> None:
        """Take up what Home Assistant was told."""
        super().begin()
        self._memory = state.load(self._file, Memory, {})

    # -- what is announced --------------------------------------------------------------------------------------

    def _devices(self) -> list[Device]:
        """All devices, those of services first: things say by which service they are seen."""
        command = f"{self.prefix}/request/command" if self.options.control else None
        house = HouseDevices(self.registry, command, self.options.url)
        alerts = house.alerts(self._alerts) if self._settled else None
        return [*house.services(), *house.things(), *([alerts] if alerts else [])]

    def announce(self) -> None:
        """Send what is not at the broker yet; what is no more goes first, for it may come back as part of another device."""
        if not self.bus.online:
            return
        devices = {device.id: device for device in self._devices()}
        unique = unique_ids(
            self._memory, [one for device in devices.values() for one in device.components], self.registry.root
        )
        waits = set() if self._settled else {HouseDevices(self.registry, None, None).alerts_id}
        on_the_way = dict(self._unconfirmed.values())
        believed = {name: one for name, one in (self._memory | self._confirmed | on_the_way).items() if one}
        configs = dict.fromkeys(believed.keys() - devices.keys() - waits, b"")
        removals = {device.id: gone(believed, device, unique) for device in devices.values()}
        configs |= {
            identity: devices[identity].config(unique, removals[identity])
            for identity in sorted(devices, key=lambda identity: not removals[identity])
        }
        configs = {identity: config for identity, config in configs.items() if self._sent.get(identity) != config}
        now = {identity: told(devices[identity], unique) if configs[identity] else {} for identity in configs}
        known = {identity: self._memory.get(identity, {}) | components for identity, components in now.items()}
        self._remember(self._memory | known)  # before it is said: what a kill leaves there is known at the next start
        for identity, config in configs.items():
            self._sent[identity] = config
            mid = self.bus.publish(f"{PREFIX}/device/{identity}/config", config, qos=1, retain=True)
            self._unconfirmed[mid] = identity, now[identity]
            self.health.counters["announced"] += 1

    def _remember(self, memory: Memory) -> None:
        if memory != self._memory:
            self._memory = memory
            self.keep(self._file, memory)

    def on_published(self, mid: int, refusal: str | None) -> None:
        """Remember what the broker has; what it refused is said."""
        if (sent := self._unconfirmed.pop(mid, None)) is None:
            return
        identity, components = sent
        if refusal:
            self._sent.pop(identity, None)
            sentence = (
                f"the broker refuses {PREFIX}/device/{identity}/config: {refusal}; `units --install` gives the right"
            )
            self.error(sentence)
            log.error("%s", sentence)
            return
        self._confirmed[identity] = components
        if not self._unconfirmed:
            memory = self._memory | self._confirmed
            self._confirmed = {}
            self._remember({identity: components for identity, components in memory.items() if components})

    def subscribe(self, session: bool) -> None:  # noqa: ARG002 (there never is one)
        """Say everything again: the broker may have lost it."""
        self._sent.clear()
        self._unconfirmed.clear()
        self._alerts.clear()
        self._settled = False
        for pattern in (f"{PREFIX}/status", f"{self.registry.root}/alert/+", f"{self.prefix}/echo"):
            self.bus.subscribe(pattern, qos=1)
        self.bus.publish(f"{self.prefix}/echo", b"", qos=1)  # comes back behind the alerts that the broker keeps
        self.announce()

    def on_other(self, message: Message) -> None:
        """Say everything again when Home Assistant starts; learn which alerts there are."""
        if message.topic == f"{PREFIX}/status":
            if message.payload == b"online" and not message.retained:
                log.info("Home Assistant is online: everything is announced again")
                self._sent.clear()
                self.announce()
            return
        if message.topic == f"{self.prefix}/echo":
            self._settled = self._due = True
            return
        before = len(self._alerts)
        change = self._alerts.add if message.payload else self._alerts.discard
        change(message.topic.rpartition("/")[2])
        self._due = self._due or len(self._alerts) != before

    def on_tick(self) -> None:
        """Announce what is new."""
        if self._due:
            self._due = False
            self.announce()

    def on_reloaded(self, changed: bool) -> None:  # noqa: ARG002 (topics are what it is about)
        """Announce the house of another topics.yaml."""
        self.announce()

    def on_removed(self) -> None:
        """Take everything back: nobody would tell Home Assistant any more what changes."""
        for identity in self._memory:
            self.bus.publish(f"{PREFIX}/device/{identity}/config", b"", qos=1, retain=True)
        self.keep(self._file, {})

    # -- what Home Assistant asks -------------------------------------------------------------------------------

    def request_command(self, _request: Request, arguments: Command) -> dict[str, Any]:
        """Pause or resume a source, or acknowledge an alert, for Home Assistant."""
        if not self.options.control:
            raise RequestError("Home Assistant may only look: write control: true in topics.yaml")
        if arguments.do == "acknowledge":
            known = self._alerts
            asked = next((one.name for one in self.registry.find("alerts")), "alerts")
            body: dict[str, Any] = {"rule": arguments.name}
        else:
            known = {one.name for one in self.registry.instances.values() if one.section == "sources"}
            asked, body = arguments.name, {}
        if arguments.name not in known:
            raise RequestError(
                f"nothing to {arguments.do} is named '{arguments.name[:60]}'{nearest(arguments.name[:60], known)}"
            )
        log.info("Home Assistant asks: %s %s", arguments.do, arguments.name)
        self.bus.publish(f"{self.registry.root}/service/{asked}/request/{arguments.do}", as_json(body))
        return {"asked": asked}

    def on_beat(self) -> None:
        """Tell health what Home Assistant knows."""
        components = sum(len(one) for one in self._memory.values())
        self.health.extra["announced"] = {"devices": len(self._memory), "components": components}
