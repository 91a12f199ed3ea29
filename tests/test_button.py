"""The button's service on gpiozero's mock pin: one press stops real sources, the next starts them, and the topic says so."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Ear, House, wait_for

from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.registry import Registry
from services.protocols.contact import Debounced
from services.simulators.onewire import Tree

ACTIVE, WATER = "home/data/hall/button/measuring_active", "home/data/boiler/water/temperature"
HEALTH = "home/service/button/health"
TOPICS = """
sources:
  onewire: {{every: 200ms, stale: 1s, heartbeat: 200ms, bus: {folder}/w1}}
  button: {{every: 500ms, stale: 2s, heartbeat: 200ms, pins: "sim:{folder}/button", stops: [onewire]}}
topics:
  boiler/water/temperature: {{from: onewire, id: 28-0316a4f1c9ff}}
  hall/button/measuring_active: {{from: button}}
"""


class Finger:
    def __init__(self, path: Path) -> None:
        self.path = path

    def press(self, *, bounces: int = 0) -> None:
        """Press for a while; a worn contact bounces a few times on each side."""
        for _ in range(bounces):
            self.spike()
        self.path.write_text("pressed")
        time.sleep(0.3)
        self.path.write_text("released")
        for _ in range(bounces):
            time.sleep(0.03)
            self.spike()

    def spike(self) -> None:
        """Touch it for less than its rest."""
        self.path.write_text("pressed")
        time.sleep(0.03)
        self.path.write_text("released")
        time.sleep(0.03)


@pytest.fixture
def finger(tmp_path: Path) -> Finger:
    return Finger(tmp_path / "button")


@pytest.fixture
def hall(house: House, tmp_path: Path) -> Iterator[House]:
    with Tree(tmp_path / "w1") as bus:
        bus.set("28-0316a4f1c9ff", 61.5)
        house.write(TOPICS.format(folder=tmp_path))
        yield house


def test_one_press_stops_measuring_and_the_next_starts_it_again(hall: House, ear: Ear, finger: Finger) -> None:
    hall.start("onewire")
    hall.start("button")
    assert ear.wait(ACTIVE)["value"] is True
    finger.press()
    ear.wait("home/service/onewire/health", lambda health: health["state"] == "paused")
    ear.wait(ACTIVE, lambda value: value["value"] is False)
    ear.wait(WATER, lambda value: value == b"")
    finger.press()
    ear.wait(ACTIVE, lambda value: value["value"] is True)
    ear.wait(WATER, lambda value: value != b"")
    heard = len(ear.all(ACTIVE))
    wait_for(lambda: len(ear.all(ACTIVE)) > heard + 1, what="the state again, before it goes stale")
    assert "is silent" not in hall.log("button")


def test_a_bouncing_contact_is_one_press(hall: House, ear: Ear, finger: Finger) -> None:
    hall.config.write_text(hall.config.read_text().replace('pins: "sim', 'debounce: 700ms, pins: "sim'))
    hall.start("onewire")
    hall.start("button")
    ear.wait(ACTIVE)
    for said in (False, True):
        for _ in range(3):
            finger.spike()
        finger.path.write_text("pressed")
        ear.wait(ACTIVE, lambda value, said=said: value["value"] is said)
        for _ in range(4):
            finger.spike()
        time.sleep(1.5)  # the contact rests
    assert hall.log("button").count("pressed: ") == 2, "neither spikes nor bounces were a press"


REST = 0.05


@pytest.mark.parametrize(
    ("pattern", "presses"),
    [
        ([(0.3, True), (0.3, False)], 1),
        ([(0.0001, True), (0.3, False)] * 5, 0),  # a relay beside the cable
        ([(0.005, True), (0.005, False)] * 100 + [(0.3, False)], 0),  # a bad contact
        ([(0.001, True), (0.001, False)] * 9 + [(0.2, True), (0.2, False)], 1),
        ([(0.2, True)] + [(0.001, False), (0.001, True)] * 9 + [(0.2, False)], 1),
        ([(0.1, True), (0.1, False)] * 2, 2),
        ([(0.2, True), (0.02, False), (0.2, True), (0.2, False)], 1),  # opened for less than its rest
    ],
)
@pytest.mark.parametrize("told", ["at once", "all at the end"])
def test_a_press_is_a_contact_that_stays_closed(pattern: list[tuple[float, bool]], presses: int, told: str) -> None:
    contact, moment, counted = Debounced(REST, closed=False), 0.0, 0
    for seconds, closed in pattern:
        counted += contact.edge(moment, closed=closed) and contact.closed
        moment += seconds
        if told == "at once" and contact.due is not None and contact.due <= moment:
            counted += contact.settle(contact.due) and contact.closed
    counted += contact.settle(moment + 1) and contact.closed
    assert counted == presses


def test_what_others_pause_is_known_too(hall: House, ear: Ear, finger: Finger) -> None:
    hall.start("onewire")
    hall.start("button")
    ear.wait(ACTIVE)
    ear.ask("onewire", "pause")
    ear.wait(ACTIVE, lambda value: value["value"] is False)
    finger.press()
    ear.wait(ACTIVE, lambda value: value["value"] is True)


def test_a_press_that_reaches_nobody_is_said_and_the_topic_is_cleared(hall: House, ear: Ear, finger: Finger) -> None:
    hall.start("onewire")
    hall.start("button")
    ear.wait(ACTIVE)
    hall.stop("onewire")
    ear.wait(ACTIVE, lambda value: value == b"")
    finger.press()
    health = ear.wait(HEALTH, lambda health: health["last_error"])
    wait_for(lambda: "pressed, but nobody runs" in hall.log("button"), what="the sentence")
    assert health["stale"] == ["hall/button/measuring_active"]
    hall.start("onewire")
    ear.wait(ACTIVE, lambda value: value != b"")


def test_no_health_that_anybody_publishes_ends_it(hall: House, ear: Ear) -> None:
    for payload in (b'{"state":"\xff"}', b"\xff", b"[]", b'{"state":5}', b"[" * 100_000):
        ear.say("home/service/onewire/health", payload, retain=True)
    hall.start("button")
    ear.wait(HEALTH)
    ear.say("home/service/onewire/health", b'{"state":"\xff"}')
    ear.say("home/service/onewire/health", b'{"state":"paused"}')
    ear.wait(ACTIVE, lambda value: value["value"] is False)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ('pins: "sim', 'pin: 3, pins: "sim', "GPIO 3 belongs to I²C (SCL): take another one, such as 17"),
        ('pins: "sim', 'pin: 40, pins: "sim', "<= 27"),
        ("stops: [onewire]", "stops: [onwire]", "no other source is named 'onwire', did you mean 'onewire'?"),
        ("stops: [onewire]", "stops: [button]", "no other source is named 'button'"),
        ("stops: [onewire]", "stops: []", "length >= 1"),
        ("measuring_active", "measuring_count", "end the name in _active"),
    ],
)
def test_a_wrong_option_is_found_by_check(tmp_path: Path, before: str, after: str, sentence: str) -> None:
    (tmp_path / "topics.yaml").write_text(TOPICS.format(folder="/tmp").replace(before, after, 1))
    problems = [str(problem) for problem in problems_of(Registry(tmp_path / "topics.yaml"))]
    assert any(sentence in problem for problem in problems), problems


def test_a_pin_of_the_bus_is_refused_where_nobody_checked(hall: House) -> None:
    hall.config.write_text(hall.config.read_text().replace('pins: "sim', 'pin: 2, pins: "sim'))
    hall.start("button")
    wait_for(lambda: "GPIO 2 belongs to I²C (SDA)" in hall.log("button"), what="the sentence")


def test_a_machine_without_pins_is_a_sentence(hall: House, ear: Ear) -> None:
    text = hall.config.read_text()
    hall.config.write_text(text.replace(text[text.index("pins:") : text.index("stops:")], ""))
    hall.start("button", GPIOZERO_PIN_FACTORY="native")
    wait_for(lambda: "GPIO 17 cannot be used" in hall.log("button"), what="the sentence")
    hall.stop("button")
    hall.start("button", GPIOZERO_PIN_FACTORY="mock")
    ear.wait("home/service/button/health", lambda health: "none of onewire" in str(health["last_error"]))  # it is open
    assert hall.log("button").count("cannot be used") == 1
