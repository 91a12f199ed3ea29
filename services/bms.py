"""Batteries over Bluetooth: cells, currents, switches, protection, by gatt over BlueZ (docs/services/bms.md)."""

import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from bootstrap_lib import (
    DeviceError,
    Duration,
    Failure,
    InstanceOptions,
    Needs,
    Problem,
    Registry,
    Sample,
    Source,
    Topic,
    nearest,
    reason,
    secrets,
)
from bootstrap_lib import state as stored
from services.bluetooth import Battery, Deadlines, LinkError, battery_links, discover
from services.bluetooth.estimates import Energy, Estimates
from services.bluetooth.makes import AIOBMSBLE, families_that_know, protocol_of, reader_of, unlock_of
from services.protocols.battery import Value

if TYPE_CHECKING:
    from services.bluetooth.battery_links import BatteryLinks

SAVE_AFTER = 60.0
"""Seconds between two writings of the energy; a killed process loses no more of it."""
LONGEST_GAP = 60.0
"""Seconds between two samples over which energy is counted, unless three rounds are longer."""
HUNG = 60.0
"""Seconds without a sign of life from the links' thread after which only a new process helps."""
SCAN = 5.0
"""Seconds in which any battery advertises."""
PROTOCOLS = ("jbd", "jk", "daly", "daly_p81")
"""What a scan knows by its services; any other module is a protocol too."""

log = logging.getLogger(__name__)
News = dict[str, Value] | str
"""A sample, or what went wrong."""


class BatteryOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One battery."""

    address: Annotated[str, Meta(pattern="^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$", examples=["A4:C1:38:12:34:56"])]
    protocol: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]*$")] = "jbd"
    family: Annotated[str, Meta(pattern="^[a-z0-9_]*$")] = ""
    adapter: Annotated[str, Meta(pattern=r"^(hci\d+|([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2})$")] = "hci0"
    keep: bool = True
    positive: Literal["charging", "discharging"] = "charging"
    password: Annotated[str, Meta(pattern="^secret:")] | None = None


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The batteries."""

    every: Annotated[Duration, Meta(description="How often a battery is read; some hang up after nine seconds.")] = (
        Duration(8)
    )
    batteries: Annotated[
        dict[str, BatteryOptions],
        Meta(
            description="By name; each has an `address`, `protocol`, `family`, `adapter`, `keep`, `positive`, `password`."
        ),
    ] = msgspec.field(default_factory=dict)
    may_power_cycle: Annotated[bool, Meta(description="Switch an adapter off and on when nothing else helps.")] = False
    deadlines: Annotated[Deadlines | None, Meta(description="Seconds for each state of a link.")] = None


class BatteryField(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One measurement of one battery."""

    battery: Annotated[str, Meta(description="Its name, where there are several.")] = ""
    key: Annotated[str, Meta(description="The measurement, where it is not the topic's last level.")] = ""


class Bms(Source):
    """Batteries over Bluetooth."""

    NEEDS: ClassVar = Needs(
        extra="bms",
        libraries=("gatt",),
        packages=("python3-dbus", "python3-gi"),
        path="/sys/class/bluetooth",
        mend="sudo apt install bluez && sudo systemctl enable --now bluetooth",
        groups=("bluetooth",),
        unit=(
            "# BlueZ over the system D-Bus knows users by their true numbers; GObject makes its callbacks at run time.",
            "PrivateUsers=no",
            "MemoryDenyWriteExecute=no",
            "# A connection may take its time.",
            "WatchdogSec=180",
        ),
        decodes={"jbd": "Notified fragments of a JBD (Xiaoxiang) battery."},
        simulator="services.simulators.staging:bluez",
    )

    options: Options
    topics: tuple[Topic[BatteryField], ...]

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance."""
        super().__init__(registry, name)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # stays open: a late thread may write to it
        self._links: BatteryLinks | None = None
        self._estimates: dict[str, Estimates] = {}
        self._saved: dict[str, Energy] = {}
        self._saved_at = 0.0
        self._told: dict[str, int] = {}

    def samples(self) -> Iterator[Sample]:
        """Take what the links' thread delivers; a battery that fails costs its own topics only."""
        news: deque[tuple[float, str, News]] = deque(maxlen=1000)

        def tell(name: str, what: News) -> None:
            news.append((time.monotonic(), name, what))
            os.eventfd_write(self._wake, 1)

        batteries, said = self.options.batteries, set[tuple[str, str]]()
        only = next(iter(batteries), "")
        self._recall()
        ready: list[Battery] = []
        for name, one in batteries.items():
            unlock = None
            try:
                unlock = unlock_of(one.address, one.password)
            except secrets.SecretError as error:
                tell(name, str(error))
            try:
                speaks = reader_of(one.protocol, one.family, one.password)
            except (DeviceError, secrets.SecretError) as error:  # the others are read
                tell(name, str(error))
                self.error(f"battery {name}: {error}")
            else:
                ready.append(Battery(name, one.address, speaks, one.adapter, self.options.every, one.keep, unlock))
        try:
            links = battery_links(
                ready,
                tell,
                tell,
                self.options.deadlines or Deadlines(),
                may_power_cycle=self.options.may_power_cycle,
            )
        except LinkError as error:
            raise DeviceError(str(error)) from None
        links.start()
        self._links, self._told = links, {}
        try:
            while self.tick(self._wake):
                os.eventfd_read(self._wake)
                while news:
                    moment, name, what = news.popleft()
                    if isinstance(what, dict):
                        said = {told for told in said if told[0] != name}
                        measured = told_as(what, batteries[name].positive) | self._derive(moment, name, what)
                        for topic in self.topics:
                            if (topic.options.battery or only) == name:
                                yield topic, value_of(topic, measured)
                    elif (name, what) not in said:  # a cause is said once until the battery answers again
                        said.add((name, what))
                        log.warning("battery %s: %s", name, what)
        finally:
            self._links = None
            links.stop()
            self._save()

    def _recall(self) -> None:
        before = stored.load(self.state_folder / "energy.json", dict[str, Energy], {})
        self._saved = dict.fromkeys(self.options.batteries, Energy()) | before
        gap = max(LONGEST_GAP, 3 * self.options.every)
        self._estimates = {name: Estimates(self._saved[name], gap) for name in self.options.batteries}

    def _derive(self, moment: float, name: str, measured: dict[str, Value]) -> dict[str, Value | None]:
        """Add what follows from samples in time; only energy that is saved is told, so that it never goes backwards."""
        if not measured.keys() >= {"voltage", "current", "remaining_charge"}:  # an active balancer
            return {}
        voltage, current, charge = (float(measured[key]) for key in ("voltage", "current", "remaining_charge"))
        remaining = self._estimates[name].take(moment, voltage, current, charge)
        if moment - self._saved_at >= SAVE_AFTER and self._save():
            self._saved_at = moment
        energy = self._saved[name]
        return {
            "remaining_duration": remaining,
            "charged_energy": energy.charged,
            "discharged_energy": energy.discharged,
        }

    def _save(self) -> bool:
        """Write the energy if it has changed; True where that was tried."""
        energy = self._saved | {name: estimates.energy for name, estimates in self._estimates.items()}
        if energy == self._saved:
            return False
        try:
            stored.save(self.state_folder / "energy.json", energy, often=True)
            self._saved = energy
        except OSError as error:
            log.warning("the energy of the batteries stands still, it cannot be saved: %s", reason(error))
        return True

    def on_beat(self) -> None:
        """Tell health how the links are; a thread that is stuck cannot be ended, so the process is."""
        super().on_beat()
        if self._links is None:
            return
        if (silence := self._links.silence()) > HUNG:
            log.critical("the loop of the Bluetooth links has stood still for %.0f s: a new process is needed", silence)
            raise SystemExit(os.EX_SOFTWARE)
        statistics = self._links.statistics()
        for name, link in statistics.items():
            if link.failures != self._told.get(name, 0):
                self.error(f"battery {name}: {link.last_failure}")
                self._told[name] = link.failures
        self.health.extra["links"] = msgspec.to_builtins(statistics)

    @classmethod
    def scan(cls, options: Options) -> Iterator[str]:
        """Show the devices in reach that seem to be batteries, with name and signal, and the configured ones."""
        named = {one.address.upper(): name for name, one in options.batteries.items()}
        channels = {name: {channel.service for channel in protocol_of(name).CHANNELS} for name in PROTOCOLS}
        try:
            for heard in discover(SCAN):
                speaks = [name for name, services in channels.items() if services & heard.services]
                speaks += families_that_know(heard)
                if speaks or heard.address in named:
                    owner = f" -> battery {named[heard.address]}" if heard.address in named else ""
                    yield f"{heard.address} {heard.name} {heard.signal} dBm {heard.adapter} {'|'.join(speaks)}{owner}"
        except LinkError as error:
            raise DeviceError(str(error)) from None

    @classmethod
    def unit_of(cls, topic: Topic[BatteryField]) -> str | None:
        """What the quantity has, whatever the protocol says."""
        return topic.row.unit

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find a protocol that is none, an address twice, a topic of no battery, and a state without two words."""
        if problems := super().check(registry, name):
            return problems
        here, batteries = (registry.instances[name].section, name), registry.options_of(name, Options).batteries
        note = registry.document.problem
        if not batteries:
            problems.append(note(here, 'it has no batteries: write batteries: {NAME: {address: "A4:C1:38:00:00:01"}}'))
        owners: dict[str, str] = {}
        for battery, options in batteries.items():
            try:
                if options.protocol != AIOBMSBLE or registry.instances[name].here:
                    reader_of(options.protocol, options.family, None)
            except DeviceError as error:
                problems.append(note((*here, "batteries", battery, "protocol"), str(error)))
            if options.family and options.protocol != AIOBMSBLE:
                problems.append(
                    note((*here, "batteries", battery, "family"), f"only protocol: {AIOBMSBLE} has families")
                )
            if options.password and options.protocol not in ("jbd", AIOBMSBLE):
                problems.append(
                    note((*here, "batteries", battery, "password"), "only a JBD module knows one: leave it out")
                )
            if (owner := owners.setdefault(options.address.upper(), battery)) != battery:
                problems.append(note((*here, "batteries", battery, "address"), f"it is the address of {owner} already"))
        for topic in registry.topics_of(name, BatteryField):
            line = ("topics", registry.key_of(topic.name))
            if topic.options.battery and topic.options.battery not in batteries:
                hint = nearest(topic.options.battery, batteries) or f": there are {', '.join(batteries)}"
                problems.append(note((*line, "battery"), f"no battery is named '{topic.options.battery}'{hint}"))
            elif not topic.options.battery and len(batteries) > 1:
                problems.append(note(line, f"which battery? write battery: with one of {', '.join(batteries)}"))
            if topic.kind == "state" and len(topic.states) != 2:  # noqa: PLR2004 (no and yes)
                problems.append(note((*line, "states"), "it is no or yes: write two words in this order, as [off, on]"))
        return problems


def told_as(measured: dict[str, Value], positive: str) -> dict[str, Value | None]:
    """Turn current and power round for people who count what a battery gives as positive."""
    if positive == "charging":
        return dict(measured)
    turned: dict[str, Value | None] = {key: -float(measured[key]) for key in ("current", "power") if key in measured}
    return {**measured, **turned}


def value_of(topic: Topic[BatteryField], measured: dict[str, Value | None]) -> Value | Failure | None:
    """Value of a topic in a sample; a yes or no becomes the second or first word of a state."""
    key = topic.key
    if key not in measured:
        return Failure(f"the battery says nothing that is known as {key}")
    value = measured[key]
    return topic.states[value] if topic.kind == "state" and isinstance(value, bool) else value
