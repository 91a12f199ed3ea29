"""Batteries that aiobmsble reads, over links of ours and by our names: all that is known of its inside stands here.

Its decoders make themselves a BleakClient; `SessionClient` takes its place, so that nothing but a link speaks with BlueZ.
They run in an asyncio loop in a thread of its own, and each session has a new one, which knows nothing of the session
before. Used of its inside, of the version `makes.KNOWN`: `_client`, `_init_connection`, `_start_alive_task`, `_alive_task`,
`_msg_event`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import threading
from collections import Counter
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from services.bluetooth.bluez import DEVICE, nothing, sentence
from services.bluetooth.discovery import heard_device
from services.bluetooth.link import Link
from services.protocols.battery import BatteryError, cell_measurements, probe_measurements

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from services.bluetooth import Battery, BatteryFamily, HeardDevice
    from services.bluetooth.contracts import AdapterOfLink, Links
    from services.bluetooth.session import GattSession, Offered
    from services.protocols.battery import Value

LONGEST: Final = 60.0
"""Seconds for one sample; the library gives up each request after ten by itself, and some families try several heads."""
BUSY: Final = 0.1
"""Seconds after which BlueZ is asked again that has not ended what it was asked before."""
MOST_PROBES: Final = 16
"""What says that more are fitted is a mask of them."""

NUMBERS: Final = {
    "voltage": "voltage", "current": "current", "power": "power", "battery_level": "soc", "battery_health": "health_level",
    "cycle_charge": "remaining_charge", "design_capacity": "nominal_charge", "total_charge": "total_throughput",
    "cycles": "cycles", "balance_current": "balance_current", "heater_current": "heater_current", "pack_count": "packs_count",
}  # fmt: skip
STATES: Final = {
    "problem": "protection_alarm", "chrg_mosfet": "charge_fet_state", "dischrg_mosfet": "discharge_fet_state",
    "balancer": "balancer_state", "heater": "heater_state",
}  # fmt: skip
PLACES: Final = {
    "MOSFET": "mosfet", "PCB": "board", "HEATER": "heater", "BALANCER": "balancer", "AMBIENT": "ambient",
    "CELL_MAX": "highest_cell", "CELL_MIN": "lowest_cell",
}  # fmt: skip
"""Where a temperature is measured; all others are probes with a number."""


def named(sample: Mapping[str, Any]) -> dict[str, Value]:
    """Call by our names what the library says of a battery, or of one pack of it; the units are the same.

    It leaves out cells at 0 V and probes that are not there, and those behind them move up: where fewer came than the
    battery has, none of their numbers can be believed.
    """
    said: dict[str, Value] = {ours: sample[its] for its, ours in NUMBERS.items() if its in sample}
    said |= {ours: bool(sample[its]) for its, ours in STATES.items() if its in sample}
    if "problem_code" in sample:
        said["problem_code_text"] = f"{sample['problem_code']:#x}"
    cells = sample.get("cell_voltages", ())
    if cells and len(cells) == sample.get("cell_count", len(cells)):
        said |= cell_measurements(cells)
    places, probes, celsius = Counter[str](), list[float](), sample.get("temp_values", ())
    for one in celsius:
        if place := PLACES.get(one.type.name):
            places[place] += 1
            said[f"{place}{f'_{places[place]}' if places[place] > 1 else ''}_temperature"] = float(one)
        else:
            probes.append(float(one))
    if not len(celsius) < sample.get("temp_sensors", 0) <= MOST_PROBES:
        said |= probe_measurements(probes)
    packs = enumerate(sample.get("packs", ()), 1)
    return said | {f"pack_{number}_{name}": value for number, one in packs for name, value in named(one).items()}


def families_of(heard: HeardDevice) -> list[str]:
    """Names of the families that know what a device advertises."""
    library, scanner = import_module("aiobmsble.utils"), import_module("bleak.backends.scanner")
    told = (
        heard.name,
        dict(heard.company_data),
        dict(heard.service_data),
        list(heard.services),
        None,
        heard.signal,
        (),
    )
    advertised = scanner.AdvertisementData(*told)
    known = [one for one in library.load_bms_plugins() if library.bms_supported(one.BMS, advertised, heard.address)]
    return sorted(one.__name__.rpartition(".")[2].removesuffix("_bms") for one in known)


@functools.cache
def decoders_loop() -> asyncio.AbstractEventLoop:
    """Return the loop in which all decoders run, for as long as the process does; what they log, a link says once."""
    logging.getLogger("aiobmsble").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="aiobmsble", daemon=True).start()
    return loop


class FamilyLink(Link):
    """The link to a battery that aiobmsble reads."""

    def __init__(self, links: Links, adapter: AdapterOfLink, battery: Battery, family: BatteryFamily) -> None:
        super().__init__(links, adapter, battery)
        self.family = family
        self._client: SessionClient | None = None

    def open(self, offered: list[Offered], objects: Any) -> None:
        """Let a new decoder begin."""
        self.adapter.release(self)
        self._client = SessionClient(self, self.session, offered, heard_device(objects[self.path][DEVICE]))
        self.begin_sample()

    def begin_sample(self) -> None:
        """Let the decoder work on a sample."""
        self.begin_interval()
        self.enter("query", LONGEST)
        if self._client is not None:
            decoders_loop().call_soon_threadsafe(self._client.run, self._client.sample, self.is_complete)

    def receive(self, characteristic: Any, value: bytes) -> None:
        """Give a notification to the decoder, also between samples: some devices want to hear that somebody is there."""
        if self._client is not None:
            decoders_loop().call_soon_threadsafe(self._client.notified, characteristic, value)

    def end_session(self, then: Callable[..., None] = nothing) -> None:
        """Forget the decoder with its session."""
        self._forget()
        super().end_session(then)

    def suspend(self, reason: str) -> None:
        """Forget the decoder with its session."""
        self._forget()
        super().suspend(reason)

    def _forget(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            decoders_loop().call_soon_threadsafe(client.close)


class SessionClient:
    """What a decoder asks of a BleakClient, answered by one session of a link; it lives in the decoders' thread."""

    is_connected: Final = True
    """Who asks is cancelled when the session ends; else he would connect anew, past the link."""

    def __init__(self, link: FamilyLink, session: GattSession, offered: list[Offered], heard: HeardDevice) -> None:
        self._link, self._session, self._offered, self._heard = link, session, offered, heard
        self._listeners: dict[Any, tuple[Any, Callable[[Any, bytearray], Any]]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._decoder: Any = None

    def run(self, work: Callable[[], Coroutine[Any, Any, Any]], then: Callable[..., None] = nothing) -> None:
        """Do some work of the decoder; what it stumbles over ends the link, with a sentence."""
        task = asyncio.get_running_loop().create_task(self._watched(work, then))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _watched(self, work: Callable[[], Coroutine[Any, Any, Any]], then: Callable[..., None]) -> None:
        try:
            self._tell(then, await work())
        except TimeoutError:
            self._tell(self._link.fail, "No answer to what aiobmsble asked.")
        except BatteryError as error:
            self._tell(self._link.fail, str(error))
        except Exception as error:  # noqa: BLE001 - whatever a decoder raises
            self._tell(self._link.fail, f"aiobmsble could not read the battery ({type(error).__name__}: {error}).")

    def _tell(self, action: Callable[..., None], *values: Any) -> None:
        """Let the link's thread do something, unless the session is over."""
        self._link.links.loop.post(functools.partial(self._session.do, action, *values))

    def close(self) -> None:
        """End all that the decoder does."""
        for task in (*self._running, self._decoder and self._decoder._alive_task):  # noqa: SLF001
            if task:
                task.cancel()

    async def sample(self) -> dict[str, Value]:
        """Ask the decoder for a sample; the first time, make one of the family that knows the device."""
        if self._decoder is None:
            heard, family = self._heard, self._link.family
            names = [family.name] if family.name else families_of(heard)
            if len(names) != 1:
                known = f"to {' and '.join(names)}" if names else "to no family"
                raise BatteryError(f"What {heard.name} advertises is known {known} of aiobmsble: name one (family: …).")
            make = import_module(f"aiobmsble.bms.{names[0]}_bms").BMS
            device = import_module("bleak.backends.device").BLEDevice(
                heard.address, heard.name, {"path": self._link.path}
            )
            self._decoder = make(device, import_module("aiobmsble").BMSConfig(secret=family.secret))
            self._decoder._client = self  # noqa: SLF001
            await self._decoder._init_connection()  # noqa: SLF001
            self._decoder._start_alive_task()  # noqa: SLF001
        self._decoder._msg_event.clear()  # noqa: SLF001 - what came before is not what is measured now
        return named(await self._decoder.async_update())

    def notified(self, characteristic: Any, value: bytes) -> None:
        """Give a notification to who listens."""
        sender, callback = self._listeners.get(characteristic, (None, None))
        if callback is not None:
            self.run(functools.partial(_hear, callback, sender, bytearray(value)))

    # -- what a decoder calls -----------------------------------------------------------------------------------

    @functools.cached_property
    def services(self) -> Any:
        """The device's services as bleak shows them."""
        service, characteristic = (
            import_module("bleak.backends.service"),
            import_module("bleak.backends.characteristic"),
        )
        collection = service.BleakGATTServiceCollection()
        for one in self._offered:
            of, handle = one.handles
            if (parent := collection.get_service(of)) is None:
                collection.add_service(parent := service.BleakGATTService(None, of, one.service))
            told = (one.characteristic, handle, one.uuid, sorted(one.flags), lambda: 20, parent)
            collection.add_characteristic(characteristic.BleakGATTCharacteristic(*told))
        return collection

    def _find(self, specifier: Any) -> Any:
        found = self.services.get_characteristic(getattr(specifier, "handle", specifier))
        if found is None:
            raise import_module("bleak.exc").BleakCharacteristicNotFoundError(specifier)
        return found

    async def _call(self, specifier: Any, method: str, signature: str = "", *arguments: Any) -> Any:
        """Let BlueZ do something with a characteristic; again, while it is still busy with what was before."""
        loop, characteristic = asyncio.get_running_loop(), self._find(specifier).obj
        while True:
            answered: asyncio.Future[Any] = loop.create_future()

            def settle(values: tuple[Any, ...], error: Any, answered: asyncio.Future[Any] = answered) -> None:
                loop.call_soon_threadsafe(_settle, answered, (values, error))

            told, failed = (lambda *values, tell=settle: tell(values, None)), functools.partial(settle, ())
            call = functools.partial(self._session.call, told=told, failed=failed)
            self._tell(call, characteristic, method, signature, *arguments)
            values, error = await answered
            if error is None:
                return values[0] if values else None
            if not error.get_dbus_name().endswith(".InProgress"):
                raise import_module("bleak.exc").BleakError(sentence(error))
            await asyncio.sleep(BUSY)

    async def read_gatt_char(self, char: Any) -> bytearray:
        """Read a value."""
        return bytearray(await self._call(char, "ReadValue", "a{sv}", {}))

    async def write_gatt_char(self, char: Any, data: bytes, response: bool) -> None:
        """Write a value, as a request or as a command."""
        await self._call(char, "WriteValue", "aya{sv}", bytes(data), {"type": "request" if response else "command"})

    async def start_notify(self, char: Any, callback: Callable[[Any, bytearray], Any]) -> None:
        """Let a callback hear what the device says."""
        found = self._find(char)
        self._listeners[found.obj] = found, callback
        await self._call(char, "StartNotify")

    async def stop_notify(self, char: Any) -> None:
        """Hear no more."""
        self._listeners.pop(self._find(char).obj, None)
        await self._call(char, "StopNotify")

    async def disconnect(self) -> None:
        """Give the link up: the decoder cannot use it."""
        self._tell(self._link.lost)


def _settle(answered: asyncio.Future[Any], result: tuple[Any, Any]) -> None:
    if not answered.done():  # who waited may have been cancelled
        answered.set_result(result)


async def _hear(callback: Callable[[Any, bytearray], Any], sender: Any, value: bytearray) -> None:
    if inspect.isawaitable(heard := callback(sender, value)):
        await heard
