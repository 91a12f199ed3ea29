"""Requests over MQTT: who is asked answers once, what is wrong gets a sentence, and what was retained is not acted on."""

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from harness import Broker, Ear, House, wait_for
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bootstrap_lib.control import is_for_answers

ASK, ANSWER = "home/service/clerk/request/", "home/service/clerk/response/"
CLERK = '''
"""Understands requests of the test's own."""

import logging
from typing import Any

from msgspec import Struct

from bootstrap_lib import InstanceOptions, Subscriber

log = logging.getLogger(__name__)


class Sum(Struct, forbid_unknown_fields=True):
    """What is added."""

    numbers: list[int]


class Clerk(Subscriber):
    """Adds."""

    options: InstanceOptions
    WANTS_DATA = False

    def begin(self) -> None:
        super().begin()
        self.number, self.kept = 0, []

    def on_tick(self) -> None:
        self.number += 1
        log.debug("tick %d", self.number)
        log.info("tock %d", self.number)

    def on_reloaded(self, changed: bool) -> None:
        log.info("asked to work every %g s", self.options.every)
        if self.options.every > 1:
            raise LookupError("nobody is so slow")

    def request_pace(self, request: Any, arguments: Any) -> float:
        return float(self.options.every)

    def request_add(self, request: Any, arguments: Sum) -> int:
        if sum(arguments.numbers) < 0:
            raise OSError("below zero there is nothing")
        return sum(arguments.numbers)

    def request_divide(self, request: Any, arguments: Sum) -> float:
        return arguments.numbers[0] / arguments.numbers[1]

    def request_count(self, request: Any, arguments: Sum) -> object:
        """Answered later, step by step."""
        for number in arguments.numbers:
            request.progress({"at": number})
        request.reply()

        return request.LATER
'''


@pytest.fixture
def clerk(house: House, ear: Ear, tmp_path: Path) -> House:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "clerk.py").write_text(CLERK)
    house.environment["CONSTELLATION_SERVICES"] = str(folder)
    house.write("subscribers: {clerk: {every: 30ms, heartbeat: 300ms}}\n")
    house.start("clerk")
    ear.wait("home/service/clerk/health")
    return house


def answers(ear: Ear, verb: str) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in ear.all(ANSWER + verb)]


def test_an_answer_has_status_data_and_the_requests_id(clerk: House, ear: Ear) -> None:
    ear.say(ASK + "add", '{"numbers":[1,2,4],"id":"a-1"}', qos=0)
    ear.wait(ANSWER + "add")
    ear.say(ASK + "add", '{"numbers":[1,2]}', qos=0)
    wait_for(lambda: len(answers(ear, "add")) == 2, what="the second answer")
    assert answers(ear, "add") == [{"status": "ok", "data": 7, "id": "a-1"}, {"status": "ok", "data": 3}]


def test_progress_is_told_before_the_answer(clerk: House, ear: Ear) -> None:
    ear.say(ASK + "count", '{"numbers":[1,2],"id":5}', qos=0)
    wait_for(lambda: len(answers(ear, "count")) == 3, what="three messages")
    assert answers(ear, "count") == [
        {"status": "progress", "data": {"at": 1}, "id": 5},
        {"status": "progress", "data": {"at": 2}, "id": 5},
        {"status": "ok", "id": 5},
    ]


@pytest.mark.parametrize(
    ("verb", "payload", "sentence"),
    [
        ("add", "[1", "payload is not JSON"),
        ("add", b"\xff", "payload is not JSON"),
        ("add", "{}", "payload: Object missing required field `numbers`"),
        ("add", '{"numbers":["one"]}', "payload: Expected `int`, got `str` - at `numbers[0]`"),
        ("add", '{"numbers":[1],"more":1}', "payload: Object contains unknown field `more`"),
        (
            "add",
            '{"numbers":[1],"\\u001b]0;pwn\\u0007":1}',
            "payload: Object contains unknown field `\\x1b]0;pwn\\x07`",
        ),
        ("add", '{"numbers":[-1]}', "below zero there is nothing"),
        ("divide", '{"numbers":[1,0]}', "it failed: ZeroDivisionError: division by zero"),
        ("ad", "{}", "'ad' is not known, did you mean 'add'?"),
        ("add", '{"numbers":[1],"id":{"a":1}}', "'id' is a short text or a number"),
        ("add", '{"numbers":[1],"id":"%s"}' % ("x" * 101), "'id' is a short text or a number"),
    ],
)
def test_what_is_wrong_is_answered_with_a_sentence_and_ends_nobody(
    clerk: House, ear: Ear, verb: str, payload: str | bytes, sentence: str
) -> None:
    ear.say(ASK + verb, payload, qos=0)
    answer = ear.wait(ANSWER + verb)
    assert answer["status"] == "error"
    assert sentence in answer["error"]
    assert "\x1b" not in clerk.log("clerk")
    assert ear.ask("clerk", "add", {"numbers": [1, 1]})["data"] == 2


def test_a_retained_request_is_not_acted_on_and_a_repeated_one_once(clerk: House, ear: Ear) -> None:
    ear.say(ASK + "add", '{"numbers":[1],"id":1}', retain=True)
    wait_for(lambda: "request add was retained by its sender" in clerk.log("clerk"), what="the warning")
    ear.wait("home/service/clerk/request/add", lambda payload: payload == b"")  # taken off its topic
    for _ in range(3):
        ear.say(ASK + "add", '{"numbers":[2],"id":2}', qos=0)
    ear.say(ASK + "count", '{"numbers":[],"id":2}', qos=0)  # another verb may have the same id
    ear.wait(ANSWER + "count")
    assert answers(ear, "add") == [{"status": "ok", "data": 2, "id": 2}]
    assert clerk.log("clerk").count("request add with id 2 came again, it is done already") == 2


def test_a_request_to_all_is_answered_by_those_who_know_it(clerk: House, ear: Ear) -> None:
    ear.say("home/service/all/request/nonsense", "{}", qos=0)
    ear.say("home/service/all/request/ping", "{}", qos=0)
    assert ear.wait(ANSWER + "ping")["data"]["state"] == "running"
    assert answers(ear, "nonsense") == []
    ear.say(ASK + "nonsense", "{}", qos=0)
    assert "'nonsense' is not known" in ear.wait(ANSWER + "nonsense")["error"]


def test_who_wants_the_answer_elsewhere_gets_it_there_with_the_correlation(clerk: House, broker: Broker) -> None:
    heard: list[mqtt.MQTTMessage] = []
    subscribed: list[bool] = []
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_subscribe = lambda *_: subscribed.append(True)
    client.on_connect = lambda *_: client.subscribe(
        [(topic, mqtt.SubscribeOptions(1)) for topic in ("phone/#", ANSWER + "add")]
    )
    client.on_message = lambda _c, _d, message: heard.append(message)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    wait_for(lambda: subscribed, what="the subscription")
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic, properties.CorrelationData = "phone/reply/7", b"seven"
    client.publish(ASK + "add", '{"numbers":[7]}', properties=properties)
    wait_for(lambda: len(heard) == 2, what="both answers")
    assert {message.topic for message in heard} == {"phone/reply/7", ANSWER + "add"}
    assert {message.properties.CorrelationData for message in heard} == {b"seven"}
    assert {message.payload for message in heard} == {b'{"status":"ok","data":7}'}
    client.disconnect()
    client.loop_stop()


@pytest.mark.parametrize(
    "topic",
    [
        "home/data/boiler/water/temperature",
        "$SYS/broker/reply/x",
        "home/service/clerk/request/stop",
        "reply",
        "reply/" + "/".join("abcdefghijk"),
        "reply/" + "x" * 200,
        "reply/a\u202eb",
    ],
)
def test_an_answer_goes_nowhere_that_is_not_for_answers(topic: str) -> None:
    assert is_for_answers("reply/phone")
    assert is_for_answers("home/service/clerk/response/add")
    assert not is_for_answers(topic)


def test_an_answer_to_a_topic_that_costs_the_connection_is_not_sent_and_the_next_is_answered(
    clerk: House, broker: Broker, ear: Ear
) -> None:
    deep, payload = "/".join(["deep"] * 230), '{"numbers":[1],"id":"deep"}'
    words = [
        "-p",
        broker.port,
        "-V",
        "5",
        "-q",
        1,
        "-t",
        ASK + "add",
        "-m",
        payload,
        "-D",
        "publish",
        "response-topic",
        deep,
    ]
    asked = subprocess.run(["mosquitto_pub", *map(str, words)], capture_output=True, timeout=30)
    if asked.returncode == 0:  # a later broker takes no such request (Mosquitto 2.0.21)
        ear.wait(ANSWER + "add", lambda answer: answer["id"] == "deep")
        assert "the answer to add is not sent to deep/deep/" in clerk.log("clerk")
    assert ear.ask("clerk", "add", {"numbers": [2, 3]}) == {"status": "ok", "data": 5}
    assert clerk.log("clerk").count("connection") == 0


@pytest.mark.parametrize("payload", ['{"id":' + "9" * 5000 + "}", '{"id":[1]}', '{"numbers":[' + "9" * 5000 + "]}"])
def test_a_number_of_thousands_of_digits_is_answered_with_a_sentence(clerk: House, ear: Ear, payload: str) -> None:
    ear.say(ASK + "add", payload, qos=0)
    assert ear.wait(ANSWER + "add")["status"] == "error"
    assert ear.ask("clerk", "ping")["status"] == "ok"


def test_a_level_that_was_raised_for_a_time_is_taken_back(clerk: House, ear: Ear) -> None:
    wait_for(lambda: "tock 3\n" in clerk.log("clerk"), what="ticks")
    assert "tick" not in clerk.log("clerk")
    answer = ear.ask("clerk", "log_level", {"value": "debug", "for": "1s"})
    assert answer == {"status": "ok", "data": {"value": "debug", "for": "1s"}}
    wait_for(lambda: "tick" in clerk.log("clerk"), what="what is said at debug only")

    def reverted() -> bool:
        said = [line.split()[-2:] for line in clerk.log("clerk").splitlines() if "tick" in line or "tock" in line]
        raised = [number for word, number in said if word == "tick"]
        return said[-1][0] == "tock" and int(said[-1][1]) > int(raised[-1]) + 3

    wait_for(reverted, 10, "the level of before")
    assert ear.ask("clerk", "log_level", {"value": "warning", "for": "1s"})["status"] == "ok"
    silent = clerk.log("clerk").count("tock")
    ear.say(ASK + "nonsense", "{}", qos=0)
    wait_for(lambda: "request nonsense refused" in clerk.log("clerk"), what="a warning")
    known = clerk.log("clerk").count("tock")
    assert known - silent <= 1
    wait_for(lambda: clerk.log("clerk").count("tock") > known, 10, "the level of before, again")


def test_a_level_is_raised_for_ten_minutes_where_nobody_says_for_how_long(clerk: House, ear: Ear) -> None:
    assert ear.ask("clerk", "log_level", {"value": "debug"})["data"] == {"value": "debug", "for": "10m"}


def test_stop_ends_the_process_and_says_why(clerk: House, ear: Ear) -> None:
    process = clerk.processes["clerk"]
    ear.say(ASK + "stop", '{"id":"enough"}', qos=0)
    assert process.wait(10) == 0
    ear.wait("home/service/clerk/status", lambda status: status == "offline")
    assert "stopping by request enough" in clerk.log("clerk")


def test_a_reload_that_fails_in_whatever_way_is_said_and_ends_nobody(clerk: House, ear: Ear) -> None:
    clerk.write("subscribers: {clerk: {every: 2s, heartbeat: 300ms}}\n")
    wait_for(
        lambda: "it cannot be used (LookupError: nobody is so slow)" in clerk.log("clerk"), what="the failed reload"
    )
    assert ear.ask("clerk", "add", {"numbers": [2, 3]})["data"] == 5
    assert ear.ask("clerk", "pace")["data"] < 1, "the old options go on, truly"
    asked = [line.rpartition("asked ")[2] for line in clerk.log("clerk").splitlines() if "asked to work" in line]
    assert asked[-2:] == ["to work every 2 s", f"to work every {ear.ask('clerk', 'pace')['data']:g} s"], (
        "and are taken up"
    )
    assert clerk.log("clerk").count("the old one goes on") == 1
    clerk.write("subscribers: {clerk: {every: 40ms, heartbeat: 300ms}}\n")
    wait_for(lambda: "topics.yaml is taken over" in clerk.log("clerk"), what="the next reload")


def test_a_change_is_taken_over_while_others_change_files_in_the_folder_all_the_time(clerk: House) -> None:
    ended = threading.Event()

    def scribble() -> None:
        while not ended.wait(0.02):  # far more often than a reload waits for quiet
            (clerk.config.parent / "notes.txt").write_text("not of this house\n")

    scribbler = threading.Thread(target=scribble)
    scribbler.start()
    try:
        clerk.write("subscribers: {clerk: {every: 40ms, heartbeat: 300ms}}\n")
        wait_for(lambda: "topics.yaml is taken over" in clerk.log("clerk"), what="the reload")
    finally:
        ended.set()
        scribbler.join()
