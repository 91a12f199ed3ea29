"""Victron products by what they advertise over Bluetooth, without a connection (docs/services/victron.md)."""

import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from typing import Annotated, ClassVar, Final

from msgspec import Meta, Struct

from bootstrap_lib import (
    DeviceError,
    Failure,
    InstanceOptions,
    Needs,
    Problem,
    Registry,
    Sample,
    Source,
    Topic,
    nearest,
    secrets,
)
from services.bluetooth import LinkError, Listens, Report, Tell, listen_to_advertisements
from services.protocols import vedirect, victron_ble
from services.protocols.victron_ble import COMPANY, VictronError

log = logging.getLogger(__name__)

SILENT: Final = 30.0
"""Seconds without a new advertisement after which a product is said to be silent."""
SCAN: Final = 10.0
HUNG: Final = 60.0
"""Seconds without a sign of life from Bluetooth's thread after which only a new process helps."""


class Product(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One product."""

    address: Annotated[str, Meta(pattern="^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$", examples=["A4:C1:38:12:34:56"])]
    key: Annotated[str, Meta(pattern="^secret:")]


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The products and who hears them."""

    adapter: Annotated[str, Meta(description="The adapter that hears them: its name, or its own address.")] = "hci0"
    products: Annotated[
        dict[str, Product], Meta(min_length=1, description="By name: `address` and `key: secret:NAME`.")
    ]


class ProductField(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One measurement of one product."""

    of: Annotated[str, Meta(description="The product's name, where there are several.")] = ""
    key: Annotated[str, Meta(description="The measurement, where it is not the topic's last level.")] = ""


Heard = tuple[float, str, bytes]


class Victron(Source):
    """Victron products in reach."""

    NEEDS: ClassVar = Needs(
        extra="victron",
        libraries=("dbus", "gi", "cryptography"),
        packages=("python3-dbus", "python3-gi", "bluez"),
        groups=("bluetooth",),
        decodes={"victron_ble": "Manufacturer's data of a Victron product, in hex, with its key behind it."},
        simulator="services.simulators.staging:victron",
    )

    options: Options
    topics: tuple[Topic[ProductField], ...]

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance."""
        super().__init__(registry, name)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # stays open: a late thread may write to it

    def samples(self) -> Iterator[Sample]:
        """Take each advertisement whose counter has moved; say in each round what is silent."""
        keys = {one.address.upper(): (name, key_of(one)) for name, one in self.options.products.items()}
        only = next(iter(self.options.products))
        heard: deque[Heard] = deque(maxlen=1000)
        wake = self._wake
        last: dict[str, int] = {}
        moved: dict[str, float] = {}
        said = ""

        def tell(address: str, company: int, data: bytes, _signal: int | None) -> None:
            if company == COMPANY and address in keys:
                heard.append((time.monotonic(), address, data))
                os.eventfd_write(wake, 1)

        troubles: deque[str] = deque(maxlen=10)
        listener = listen(self.options.adapter, tell, troubles.append)
        begun = looked = time.monotonic()
        try:
            while self.tick(wake, self.options.every):
                if listener.silence() > HUNG:
                    raise DeviceError("Bluetooth's thread stands still")
                while troubles and (trouble := troubles.popleft()) != said:
                    said = trouble
                    log.warning("%s", said)
                while heard:
                    moment, address, data = heard.popleft()
                    name, key = keys[address]
                    advertisement = victron_ble.read(data)
                    if advertisement is None or last.get(name) == advertisement.counter:
                        continue
                    wanted = [topic for topic in self.topics if (topic.options.of or only) == name]
                    try:
                        record = victron_ble.decrypt(advertisement, key)
                    except VictronError as error:
                        yield from ((topic, Failure(str(error))) for topic in wanted)
                        continue
                    last[name], moved[name] = advertisement.counter, moment
                    measured = victron_ble.measurements(advertisement.kind, record)
                    yield from (
                        (
                            topic,
                            measured.get(topic.key, Failure(f"the product says nothing that is known as {topic.key}")),
                        )
                        for topic in wanted
                    )
                if (now := time.monotonic()) - looked > self.options.every:
                    looked = now
                    for topic in self.topics:
                        if now - moved.get(topic.options.of or only, begun) > SILENT:
                            yield (
                                topic,
                                Failure(said or "it is not heard: is it in reach, and no phone connected to it?"),
                            )
                try:
                    os.eventfd_read(wake)
                except BlockingIOError:
                    continue
        finally:
            listener.stop()

    @classmethod
    def scan(cls, options: Options) -> Iterator[str]:
        """Show the Victron products in reach, those first that are configured, and what they say."""
        named = {one.address.upper(): (name, key_of(one)) for name, one in options.products.items()}
        found: dict[str, str] = {}

        def tell(address: str, company: int, data: bytes, signal: int | None) -> None:
            advertisement = victron_ble.read(data) if company == COMPANY else None
            if advertisement is None:
                return
            shown = f"{address} model {advertisement.model:04X} record {advertisement.kind:02X} {signal or '?'} dBm"
            if address in named:
                name, key = named[address]
                try:
                    values = victron_ble.measurements(advertisement.kind, victron_ble.decrypt(advertisement, key))
                    shown += f" -> {name}: " + ", ".join(
                        f"{key} {value}" for key, value in values.items() if value is not False and value is not None
                    )
                except VictronError as error:
                    shown += f" -> {name}: {error}"
            found[address] = shown

        troubles: list[str] = []
        listener = listen(options.adapter, tell, troubles.append)
        time.sleep(SCAN)
        listener.stop()
        if troubles and not found:
            raise DeviceError(troubles[-1])
        yield from found.values()

    @classmethod
    def unit_of(cls, topic: Topic[ProductField]) -> str | None:
        """What the quantity has."""
        return topic.row.unit

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find an address twice, topics of no product, and measurements that none has."""
        if problems := super().check(registry, name):
            return problems
        note, place = registry.document.problem, (registry.instances[name].section, name, "products")
        products = registry.options_of(name, Options).products
        owners: dict[str, str] = {}
        for product, options in products.items():
            if (other := owners.setdefault(options.address.upper(), product)) != product:
                problems.append(note((*place, product, "address"), f"it is the address of {other} already"))
        for topic in registry.topics_of(name, ProductField):
            here = ("topics", registry.key_of(topic.name))
            if topic.options.of and topic.options.of not in products:
                hint = nearest(topic.options.of, products) or f": there are {', '.join(products)}"
                problems.append(note((*here, "of"), f"no product is named '{topic.options.of}'{hint}"))
            elif not topic.options.of and len(products) > 1:
                problems.append(note(here, f"which product? write of: with one of {', '.join(products)}"))
            elif topic.key not in victron_ble.NAMES:
                hint = nearest(topic.key, victron_ble.NAMES) or ": docs/services/victron.md lists them"
                problems.append(note(here, f"no product says '{topic.key}'{hint}"))
            elif topic.kind == "state" and not set(vedirect.CHARGING.values()) <= set(topic.states):
                problems.append(note(here, f"its states are [{', '.join(vedirect.CHARGING.values())}]"))
        return problems


def key_of(product: Product) -> bytes:
    """Key of a product; DeviceError names one that is not there, or is none."""
    try:
        return victron_ble.key_of(secrets.resolve(product.key))
    except secrets.SecretError as error:
        raise DeviceError(str(error)) from None
    except VictronError as error:
        raise DeviceError(f"{product.key}: {error}") from None


def listen(adapter: str, tell: Tell, report: Report) -> Listens:
    """Begin to listen; DeviceError where Bluetooth's libraries are missing."""
    try:
        return listen_to_advertisements(adapter, tell, report)
    except LinkError as error:
        raise DeviceError(str(error)) from None
