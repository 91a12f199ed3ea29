"""What the demo puts in place of each service's hardware or other side: `NEEDS.simulator` names a function of this form.

It has processes started (`house.stage`, `house.simulate`) and returns the options that lead the service to them.
"""

import os
import secrets
from typing import Any, Final

from bootstrap_lib import Instance
from services.notices import permit
from services.simulators.demo import DemoHouse, find_program, free_port

Options = dict[str, Any]


def onewire(house: DemoHouse, _instance: Instance) -> Options:
    """The tree of the simulated 1-wire bus."""
    return {"every": "2s", "stale": "6s", "bus": str(house.hardware / "w1")}


def adc(house: DemoHouse, _instance: Instance) -> Options:
    """Registers of simulated converters."""
    return {"bus": f"sim:{house.hardware}/adc.json"}


def host(house: DemoHouse, _instance: Instance) -> Options:
    """What the kernel says of a Pi."""
    return {"sys": str(house.hardware / "sys")}


def button(_house: DemoHouse, _instance: Instance) -> Options:
    """Mock pins, as gpiozero brings them."""
    os.environ["GPIOZERO_PIN_FACTORY"] = "mock"
    return {}


def renogy(house: DemoHouse, _instance: Instance) -> Options:
    """A charge controller on a pseudo-terminal."""
    port = house.hardware / "renogy"
    house.simulate("modbus", "--unit", "1,renogy", "--link", port, "--state", house.hardware / "renogy.json")
    return {"device": str(port)}


def vedirect(house: DemoHouse, _instance: Instance) -> Options:
    """A solar charger on a pseudo-terminal."""
    port = house.hardware / "vedirect"
    house.simulate("vedirect", "--link", port)
    return {"device": str(port)}


def pulse(house: DemoHouse, instance: Instance) -> Options:
    """Pins that give a pulse every two seconds."""
    folder = house.hardware / "pins"
    pins = [word for meter in instance.raw["meters"].values() for word in ("--pin", str(meter["pin"]))]
    house.simulate("pulses", str(folder), *pins, ready=folder.exists)
    return {"chip": f"sim:{folder}"}


def victron(house: DemoHouse, instance: Instance) -> Options:
    """SmartShunts that advertise, on a system bus of the demo's own."""
    bus = house.run_folder / "system_bus"
    os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = address = f"unix:path={bus}"
    program = find_program("dbus-daemon")
    house.stage("bus", program, "--session", f"--address={address}", "--nofork", "--nopidfile", ready=bus.exists)
    options = []
    for product in instance.raw["products"].values():
        house.secrets[product["key"].removeprefix("secret:")] = DEMO_KEY
        options += ["--victron", f"{product['address']},{DEMO_KEY}"]
    log = house.log("simulated bluez")
    house.simulate("bluez", *options, ready=lambda: "ready" in log.read_text())
    return {}


def dongle(house: DemoHouse, _instance: Instance) -> Options:
    """A radio dongle on a pseudo-terminal, with the meters that topics.yaml names around it."""
    port = house.hardware / "im871a"
    meters = {str(topic.options["meter"]) for topic in house.registry.topics.values() if "meter" in topic.options}
    house.secrets |= {f"wmbus.{meter}": DEMO_KEY for meter in meters}
    house.simulate("im871a", "--config", house.config, "--link", port, house.hardware / "meters.json")
    return {"device": str(port)}


def web(house: DemoHouse, _instance: Instance) -> Options:
    """A server of bike stands."""
    port = free_port()
    house.simulate("web", "--port", str(port))
    return {"url": f"http://127.0.0.1:{port}/stands.json"}


def pushover(house: DemoHouse, _instance: Instance) -> Options:
    """A stand-in for Pushover; what the phone would have got lies in pushover.jsonl."""
    port = free_port()
    house.secrets |= PUSHOVER_SECRETS
    house.simulate("pushover", "--port", str(port), "--log", house.folder / "pushover.jsonl")
    linked = {"links": f"secret:{permit.SECRET}"} if house.registry.find("web") else {}
    return {"api_url": f"http://127.0.0.1:{port}/1/"} | linked


def victoria(house: DemoHouse, _instance: Instance) -> Options:
    """The real database, on a port of loopback, with de-duplication on and ten years of room."""
    port = free_port()
    house.stage(
        "victoria-metrics",
        find_program("victoria-metrics"),
        f"-storageDataPath={house.folder}/state/victoria",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-dedup.minScrapeInterval=1ms",
        "-retentionPeriod=10y",
        tier=1,
    )
    return {"url": f"http://127.0.0.1:{port}"}


def bluez(house: DemoHouse, instance: Instance) -> Options:
    """A bluetoothd on a system bus of the demo's own, with the batteries that topics.yaml names."""
    bus = house.run_folder / "system_bus"
    os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = address = f"unix:path={bus}"
    program = find_program("dbus-daemon")
    house.stage("bus", program, "--session", f"--address={address}", "--nofork", "--nopidfile", ready=bus.exists)
    options = ["--values", str(house.hardware / "battery.json")]
    for battery in instance.raw["batteries"].values():
        described = (battery["address"], battery.get("protocol", "jbd"), battery.get("adapter", "hci0"))
        options += ["--battery", ",".join(described)]
    log = house.log("simulated bluez")
    house.simulate("bluez", *options, ready=lambda: "ready" in log.read_text())
    return {}


def page(house: DemoHouse, instance: Instance) -> Options:
    """The port that topics.yaml names or a free one of loopback, a person who may change things, and a key for links in messages."""
    from services.page import people

    port = instance.raw.get("port") or free_port()
    house.secrets[permit.SECRET] = secrets.token_hex(32)
    house.secrets[people.SECRET] = people.write({"demo": people.hashed(DEMO_PASSWORD)}).strip()
    return {"port": port, "address": f"http://127.0.0.1:{port}"}


def metrics(_house: DemoHouse, _instance: Instance) -> Options:
    """A port of loopback that is free."""
    return {"port": free_port()}


DEMO_PASSWORD: Final = "simulated"  # noqa: S105 (it opens nothing but the demo's own page)
"""Of the person `demo`."""


def boiler(house: DemoHouse, _instance: Instance) -> Options:
    """Rules for a boiler that lives thirty times faster than life."""
    house.machine["phases"] = {name: {"rules": QUICK_RULES} for name in house.registry.document.section("phases")}
    return {}


DEMO_KEY: Final = "000102030405060708090A0B0C0D0E0F"
"""Of all simulated meters."""

PUSHOVER_SECRETS: Final = {
    "pushover.token": "azGDORePK8gMaC0QOYAMyEEuzJnyUi",
    "pushover.user": "uQiRzpo4DXghDmr9QzzfQu27cmVRsG",
}
"""Tokens of the right shape for the local stand-in; they open nothing."""

QUICK_RULES: Final[dict[str, Any]] = {
    "dwell": {"unknown": 2, "off": 4, "prepurge": 1, "ignition": 4, "combustion": 10, "burnout": 4, "keep_fire": 4},
    "water": {"rate": 3, "settle_s": 4, "window_s": 30},
    "flue": {"high": 500, "rate": 15, "settle_s": 4, "window_s": 12},
    "return": {"rate": 3, "settle_s": 4},
    "igniter": {"on": 1.0, "off": 0.5, "tau_s": 1, "duty_on": 0.5, "duty_off": 0.3},
    "fan": {"on": 0.06, "off": 0.03, "tau_s": 2, "duty_on": 0.6, "duty_off": 0.3},
    "auger": {"on": 0.2, "off": 0.1, "tau_s": 6, "duty_on": 0.1, "duty_off": 0.03, "duty_max": 0.97},
    "stale_s": 20,
    "ignition_slope": 30,
    "cooling_slope": 12,
    "water_slope": 4.5,
    "ignition_max_s": 60,
    "prepurge_max_s": 10,
    "burst_s": 6,
    "burnout_max_s": 80,
    "keep_fire_s": 360,
    "cycle_gap_s": 120,
    "fire_out_s": 10,
    "jam_s": 10,
    "auger_rate": 360,
}
"""Rules of the boiler's phases for a house that lives thirty times faster than life."""
