"""Batteries that aiobmsble reads, by the real library over our own links, against simulated ones (Python 3.12 and later).

Our decoder and the library's read the same battery side by side; what the library cannot read has no value, and none is old.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec
import pytest
from harness import PROJECT, Broker, Ear, House, wait_for
from test_bms import CHANGED, DEADLINES, ENVIRONMENT, PACK, address, published, registry, simulator

import services.bms
from bootstrap_lib.registry import Registry
from services.bluetooth import HeardDevice, families, makes
from services.protocols.battery import Pack, cell_measurements
from services.simulators.bluetooth.bus import ADDRESS_VARIABLE
from services.simulators.bluetooth.lock import APP_PASSWORD
from services.simulators.bluez import Remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.long

LIBRARY = {"protocol": "aiobmsble"}
BATTERIES: dict[str, dict[str, Any]] = {
    "ours": {},
    "theirs": LIBRARY,
    "mute": LIBRARY,
    "unstable": LIBRARY,
    "corrupt": LIBRARY | {"family": "jbd"},
    "late": LIBRARY,
    "refused": LIBRARY,
    "busy": LIBRARY,
    "freed": LIBRARY | {"keep": False},
    "only": LIBRARY | {"family": "redodo"},
    "only_corrupt": LIBRARY | {"family": "redodo"},
    "stranger": LIBRARY,
    "locked": LIBRARY | {"password": "secret:app.locked"},
}
REDODO = ("only", "only_corrupt", "stranger")
FAULTS = {
    "late": "late_answer",
    "refused": "write_request_refused",
    "busy": "notify_in_progress",
    "locked": "app_password",
    **dict.fromkeys(REDODO, "mtu_247"),
}
"""From the start."""
READ = [name for name in BATTERIES if name not in ("stranger", "locked")]
KEYS = (
    "voltage",
    "current",
    "power",
    "soc",
    "remaining_charge",
    "nominal_charge",
    "cycles",
    *cell_measurements(PACK.cell_voltages),
)
PROBES, SWITCHES = (
    ("probe_1_temperature", "probe_2_temperature"),
    ("charge_fet_state", "discharge_fet_state", "protection_alarm"),
)
FEW, WHOLE = (
    ("current", "remaining_charge", "cell_8_voltage", "cell_13_voltage", "probe_2_temperature"),
    ("ours", "theirs", "only"),
)
"""What has topics of most batteries, and those of which everything has."""
NOT_OURS = {"cell_voltages", "temp_values", "packs", "cell_count", "temp_sensors", "problem_code"}
"""What becomes something else by our names."""
LEFT_OUT = {"delta_voltage", "cycle_capacity", "battery_charging", "battery_mode", "temperature", "runtime"}
"""What follows from other values, or what we reckon ourselves."""


def told_of(pack: Pack) -> dict[str, Any]:
    power = round(round(pack.voltage, 2) * pack.current, 3)
    rest = {"power": power, "soc": round(pack.soc), "voltage": round(pack.voltage, 2)}
    said = {name: getattr(pack, name) for name in ("current", "remaining_charge", "nominal_charge", "cycles")}
    return {key: published(key, value) for key, value in (said | rest | cell_measurements(pack.cell_voltages)).items()}


DEVICE = import_module("bleak.backends.device").BLEDevice(address(1), "shed", {"path": "/"})


class Families:
    """The service with all batteries, and what it said; `marks` are counts of what was heard."""

    def __init__(self, house: House, remote: Remote) -> None:
        self.house, self.remote = house, remote
        self.ear = Ear(house.port, "home/+/families/#")
        self.data = Ear(house.port, "home/data/#")
        self.marks: dict[str, int] = {}
        self.scanned = ""

    def said(self, battery: str, key: str, since: str = "", until: str = "") -> list[Any]:
        heard = self.data.heard[self.marks.get(since, 0) : self.marks.get(until)]
        topic = f"home/data/shed/{battery}/{key}"
        return [json.loads(payload)["value"] if payload else None for name, payload, _ in heard if name == topic]

    def link(self, battery: str) -> dict[str, Any]:
        return (self.ear.last("home/service/families/health") or {}).get("links", {}).get(battery, {"last_failure": ""})

    def mark(self, name: str) -> None:
        self.marks[name] = len(self.data.heard)

    def fault(self, battery: str, fault: str) -> None:
        self.remote.set_fault(address([*BATTERIES].index(battery) + 1), fault)

    def until(self, reached: Any, what: str) -> None:
        try:
            wait_for(reached, 90, what)
        except BaseException:
            print({name: (self.said(name, "current")[-4:], self.link(name)) for name in BATTERIES})
            raise

    def play(self) -> None:
        self.until(lambda: all(len(self.said(name, "current")) >= 3 for name in READ), "three samples of each")
        self.until(lambda: "name one" in self.link("stranger")["last_failure"], "a word on the stranger")
        self.scanned = subprocess.run(
            [sys.executable, "-m", "bootstrap_lib.cli", "--config", self.house.config, "scan", "families"],
            env=ENVIRONMENT | {ADDRESS_VARIABLE: self.house.environment[ADDRESS_VARIABLE]},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for battery, fault in (
            ("mute", "mute"),
            ("unstable", "link_unstable"),
            ("corrupt", "corrupt_frame"),
            ("only_corrupt", "corrupt_frame"),
        ):
            self.fault(battery, fault)
        self.mark("fault")
        for number in range(1, len(BATTERIES) + 1):
            self.remote.set_values(address(number), CHANGED)
        gone = ("mute", "unstable")
        self.until(lambda: all(self.said(name, "current")[-1] is None for name in gone), "what is silent is cleared")
        self.until(lambda: "No answer to what aiobmsble asked" in self.house.log("families"), "a word on the mute one")
        self.until(lambda: "The link was lost" in self.house.log("families"), "a word on the unstable one")
        self.mark("cleared")
        for battery in gone:
            self.fault(battery, "plain")
        self.until(lambda: all(self.said(name, "current")[-3:] == [CHANGED.current] * 3 for name in READ), "new values")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Families]:
    folder = tmp_path_factory.mktemp("families")
    broker = Broker(folder / "broker").start()
    house = House(folder / "house", broker.port)
    secrets = folder / "secrets"
    secrets.mkdir(0o700)
    (secrets / "app.locked").touch(0o600)
    (secrets / "app.locked").write_text(APP_PASSWORD)
    house.environment["CONSTELLATION_CREDENTIALS"] = str(secrets)
    addresses = {name: address(number) for number, name in enumerate(BATTERIES, 1)}
    batteries = {
        name: options | {"address": addresses[name], "adapter": f"hci{number}"}
        for number, (name, options) in enumerate(BATTERIES.items(), 1)
    }
    topics: dict[str, dict[str, Any]] = {}
    for name in BATTERIES:
        keys = FEW if name not in WHOLE else (*KEYS, *PROBES) if name in REDODO else (*KEYS, *PROBES, *SWITCHES)
        for key in keys:
            topics[f"shed/{name}/{key}"] = {
                "from": "families",
                "battery": name,
                "stale": "3s" if name in ("mute", "unstable") else "10m",
            }
            if key.endswith("_state"):
                topics[f"shed/{name}/{key}"]["states"] = ["off", "on"]
    sources = {
        "families": {
            "service": "bms",
            "every": "1s",
            "heartbeat": "500ms",
            "deadlines": DEADLINES,
            "batteries": batteries,
        }
    }
    house.write(f"sources: {json.dumps(sources)}\ntopics: {json.dumps(topics)}\n")
    values = folder / "values.json"
    values.write_bytes(msgspec.json.encode(dict.fromkeys(addresses.values(), PACK)))
    options = [f"--values={values}"]
    for number, name in enumerate(BATTERIES, 1):
        options += ["--battery", f"{addresses[name]},{'redodo' if name in REDODO else 'jbd'},hci{number}"]
        options += ["--fault", f"{addresses[name]}={FAULTS[name]}"] if name in FAULTS else []
    with simulator(*options, module="tests.redodo") as bus_address:
        house.environment[ADDRESS_VARIABLE] = bus_address
        families = Families(house, Remote(bus_address))
        try:
            house.start("families")
            families.play()
            assert house.stop("families") == 0
            yield families
        finally:
            families.ear.close()
            families.data.close()
            families.remote.close()
            house.close()
            broker.stop()


@pytest.mark.parametrize("key", [*KEYS, *PROBES, *SWITCHES])
def test_a_battery_says_the_same_by_our_names_through_our_decoder_and_through_the_librarys(
    played: Families, key: str
) -> None:
    ours, theirs = played.said("ours", key), played.said("theirs", key)
    assert ours
    assert list(dict.fromkeys(theirs)) == list(dict.fromkeys(ours))


def test_a_battery_that_only_the_library_knows(played: Families) -> None:
    voltage = {"voltage": round(PACK.voltage, 3), "power": published("power", round(PACK.voltage, 3) * PACK.current)}
    said = {key: played.said("only", key)[0] for key in (*KEYS, *PROBES)}
    assert said == told_of(PACK) | voltage | {"probe_1_temperature": 21, "probe_2_temperature": -10}


@pytest.mark.parametrize("battery", READ)
def test_each_value_is_one_that_the_battery_had_and_never_an_old_one_after_a_new_one(
    played: Families, battery: str
) -> None:
    for key in FEW:
        before, after = (told_of(pack).get(key, -10.4) for pack in (PACK, CHANGED))
        if battery in REDODO and key.startswith("probe"):
            before = after = -10
        said = [value for value in played.said(battery, key) if value is not None]
        assert [value for value, other in pairwise(said) if value != other] in ([], [before]), key
        assert set(said) == {before, after}, key


@pytest.mark.parametrize("battery", ["mute", "unstable"])
def test_a_battery_that_cannot_be_read_is_cleared_and_says_what_is_new_when_it_can(
    played: Families, battery: str
) -> None:
    assert played.said(battery, "current", until="cleared")[-1] is None
    assert set(played.said(battery, "current", "cleared")) <= {None, CHANGED.current}
    assert played.link(battery)["failures"] >= 1
    assert played.said("theirs", "current", "fault", "cleared").count(CHANGED.current) >= 2  # the others go on


def test_nobody_but_our_links_connects_and_each_link_is_ended(played: Families) -> None:
    events = played.remote.events()
    device = f"dev_{address([*BATTERIES].index('theirs') + 1).replace(':', '_')}"
    assert [event.split()[0] for event in events if event.endswith(device) and "onnect" in event] == [
        "Connect",
        "Disconnect",
    ]
    assert played.link("theirs")["sessions"] == 1
    assert played.link("freed")["sessions"] >= 3


def test_a_bluez_that_is_still_busy_is_asked_again_over_the_same_link(played: Families) -> None:
    device = f"dev_{address([*BATTERIES].index('busy') + 1).replace(':', '_')}"
    assert sum("StartNotify" in event and device in event for event in played.remote.events()) >= 2
    assert "InProgress" not in played.house.log("families")


def test_what_the_library_stumbles_over_is_no_traceback(played: Families) -> None:
    assert "Traceback" not in played.house.log("families")
    assert "never retrieved" not in played.house.log("families")


def test_a_family_is_given_the_secret_that_its_app_asks_for_and_nobody_else(played: Families) -> None:
    locked = address([*BATTERIES].index("locked") + 1)
    written = [event.split()[2] for event in played.remote.events() if event.startswith(f"write {locked}")]
    assert written[0].startswith(f"ffaa15{len(APP_PASSWORD):02x}{APP_PASSWORD.encode().hex()}")
    told = [payload for topic, payload, _ in played.ear.heard if "/service/" in topic]
    assert APP_PASSWORD not in played.house.log("families")
    assert told
    assert not any(APP_PASSWORD.encode() in payload for payload in told)


def test_a_scan_names_the_family(played: Families) -> None:
    theirs, stranger = (address([*BATTERIES].index(name) + 1) for name in ("theirs", "stranger"))
    assert re.search(rf"{theirs} jbd -\d+ dBm hci2 jbd\|.*aiobmsble:jbd -> battery theirs\n", played.scanned)
    assert re.search(rf"{stranger} redodo -\d+ dBm hci12 jk -> battery stranger\n", played.scanned)


def test_every_advertised_battery_that_the_library_collected_has_one_family() -> None:
    collected = import_module("aiobmsble.test_data").bms_advertisements()
    assert len(collected) > 100
    for told, mac, family, _ in collected:
        said = frozenset(told.service_uuids), told.manufacturer_data, told.service_data
        heard = HeardDevice("hci0", mac or "CC:CC:CC:CC:CC:CC", told.local_name or "", told.rssi, *said)
        assert families.families_of(heard) == [family.removesuffix("_bms")]


def test_what_came_before_a_sample_was_asked_for_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("aiobmsble.bms.topband_bms")  # its batteries speak without being asked
    monkeypatch.setattr(module.BMS, "TIMEOUT", 0.2)

    async def ask() -> None:
        client = families.SessionClient(SimpleNamespace(), SimpleNamespace(), [], SimpleNamespace())
        client._decoder = decoder = module.BMS(DEVICE, import_module("aiobmsble").BMSConfig())
        decoder._client = client
        decoder._msg_event.set()
        await client.sample()

    with (
        ThreadPoolExecutor(1) as aside,
        pytest.raises(TimeoutError),
    ):  # a test of the page's leaves its browser's loop here
        aside.submit(asyncio.run, ask()).result()


def test_what_is_used_of_the_librarys_inside_is_there_in_each_family() -> None:
    modules = import_module("aiobmsble.utils").load_bms_plugins()
    assert len(modules) >= 50
    for module in modules:
        decoder = module.BMS(DEVICE, import_module("aiobmsble").BMSConfig(secret=""))
        assert callable(decoder._init_connection)
        assert callable(decoder._start_alive_task)
        assert decoder._alive_task is None
        assert not decoder._msg_event.is_set()
        assert decoder._client


def test_everything_that_the_library_can_say_has_a_name_or_is_left_out_on_purpose() -> None:
    said = get_type_hints(import_module("aiobmsble").BMSSample).keys()
    assert said == families.NUMBERS.keys() | families.STATES.keys() | NOT_OURS | LEFT_OUT
    assert families.PLACES.keys() | {"GENERIC", "CELL"} == set(import_module("aiobmsble").TempSensor.T.__members__)


def sensor(celsius: float, place: str) -> Any:
    return import_module("aiobmsble").TempSensor(celsius, import_module("aiobmsble").TempSensor.T[place])


def test_cells_and_probes_that_moved_up_have_no_number() -> None:
    two = [sensor(20.5, "CELL"), sensor(31, "MOSFET")]
    sample = {"voltage": 13.2, "cell_count": 4, "cell_voltages": [3.3, 3.3, 3.3], "temp_sensors": 2, "temp_values": two}
    assert families.named(sample) == {"voltage": 13.2, "probe_1_temperature": 20.5, "mosfet_temperature": 31}
    assert families.named(sample | {"temp_sensors": 3}) == {"voltage": 13.2, "mosfet_temperature": 31}
    assert families.named({"temp_sensors": 255, "temp_values": two * 2}).keys() == {
        "probe_1_temperature", "probe_2_temperature", "mosfet_temperature", "mosfet_2_temperature",
    }  # fmt: skip


def test_a_pack_of_several_has_names_of_its_own() -> None:
    said = families.named(
        {"soc": 1, "pack_count": 2, "packs": [{"battery_level": 80}, {"battery_level": 81, "cell_voltages": [3.2]}]}
    )
    assert said.items() >= {"packs_count": 2, "pack_1_soc": 80, "pack_2_soc": 81, "pack_2_cell_1_voltage": 3.2}.items()


def test_the_version_whose_inside_is_known_is_the_one_that_is_pinned() -> None:
    assert f"aiobmsble=={makes.KNOWN};" in (PROJECT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("options", "problems"),
    [
        ("protocol: aiobmsble", []),
        ("protocol: aiobmsble, family: redodo, password: 'secret:app'", []),
        ("protocol: aiobmsble, family: redoda", ["aiobmsble has no family 'redoda', did you mean 'redodo'?"]),
    ],
)
def test_a_check_knows_the_families(tmp_path: Path, options: str, problems: list[str]) -> None:
    boat = f"      boat: {{address: 'A4:C1:38:00:00:02', {options}}}"
    found = services.bms.Bms.check(Registry(registry(tmp_path, boat)), "bms")
    assert [problem.message for problem in found] == problems
