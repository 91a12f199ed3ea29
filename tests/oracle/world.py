"""A house of four topics, two phones and a neighbour's, a broker and the alerts service, on a time of its own; everything may fail.

The service is the real one from the desk on; its files lie in a dict. One step is one second.
"""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from bootstrap_lib import Duration, Sequence, format_time
from bootstrap_lib.document import from_text
from services.alerting import AlertOptions, Rule, Scope, TellerSettings, compile_rules
from services.alerting.desk import Desk
from services.notices.emergencies import Emergencies, Emergency
from services.notices.notice import Notice, Report

START = 1_795_000_000_000
SECOND = 1000
SETTLE, GATHER, FALLBACK, HOLD_OFF, PAUSE = 2, 1, 5, 4, 4
EXPIRE = 15
"""Seconds for which an emergency rings."""
REPEAT = 20
"""Seconds after which it is said that something still is so."""
ESCALATE = 12
"""Seconds after which the next people are told too."""


class Line:
    """A topic as rules see it."""

    kind, unit, decimals, states, stale, source, label = "gauge", "°C", 3, (), 3.0, "onewire", "water"
    low, high = None, None


class Phone:
    """A notifier and its phone, by the protocol alone: it may be down, without network, or refuse."""

    def __init__(self, name: str) -> None:
        self.name, self.up, self.network = name, True, "good"
        self.inbox: list[tuple[str, Notice]] = []
        self.queue: dict[str, Notice] = {}
        self.answers: dict[str, str] = {}
        self.screen: list[tuple[int, str, Notice]] = []
        self.emergencies = Emergencies({})
        self.in_vain: list[int] = []

    def step(self, at: int) -> list[tuple[str, Report]]:
        """One second; what it reports."""
        reports: list[tuple[str, str]] = []
        if not self.up:
            return []
        for identity, notice in self.inbox:
            if notice.notify != self.name:
                continue
            if identity in self.answers:
                reports.append((identity, self.answers[identity]))
            elif notice.withdraw:
                self.queue.pop(identity, None)
                self.answers[identity] = "failed"
                reports.append((identity, "failed"))
            else:
                self.queue[identity] = notice
        self.inbox = []
        for identity, notice in list(self.queue.items()):
            late = notice.until and notice.until < format_wall(at)
            if self.network != "none" or late:
                del self.queue[identity]
                self.answers[identity] = "failed" if late or self.network == "refuses" else "delivered"
                reports.append((identity, self.answers[identity]))
                if self.answers[identity] == "delivered":
                    self.screen.append((at, identity, notice))
                    if notice.priority == 2:
                        until = START + at + EXPIRE * SECOND
                        self.emergencies.ringing[identity] = Emergency(list(notice.rules), until, message=identity)
        while found := self.emergencies.due(at / SECOND, online=True):
            task, identity = found
            if self.network != "good":
                continue
            if task == "look" and START + at > self.emergencies.ringing[identity].until:
                self.emergencies.learn(identity, {"expired": 1}, START + at)
            elif task == "rang_in_vain":
                self.in_vain.append(at)
                reports.append((identity, "expired"))
            if task != "look":
                self.emergencies.forget(identity)
        return [(identity, Report(self.name, what)) for identity, what in reports]  # type: ignore[arg-type]


def format_wall(at: int) -> str:
    """A moment as it travels."""
    return format_time(START + at)


class World:
    """Everything; `told` is what phones showed, `asked` what was published for them."""

    TOPICS = ("a/b/water", "a/b/other", "a/b/flue", "a/b/box")

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.at = chance, 1_000_000
        self.files: dict[Path, bytes] = {}
        self.phones = [Phone("pushover"), Phone("mail")]
        self.bob = Phone("bob")
        """He is told what nobody acknowledges; his phone never fails."""
        self.quiet = False
        """Whether people sleep, and hear of nothing below 0."""
        self.alive = self.online = True
        self.readings: list[tuple[str, float, int]] = []
        self.session: list[tuple[str, float, int, int]] = []
        self.unacknowledged: list[tuple[str, float, int, int]] = []
        self.reports: list[tuple[str, Report]] = []
        self.bad = dict.fromkeys(self.TOPICS, False)
        self.silent = dict.fromkeys(self.TOPICS, False)
        self.clock = "good"
        self.stood = 0
        self.number = 0
        self.hot, self.topic = "hot", "a/b/water"
        self.asked: list[tuple[int, str, Notice]] = []
        self.heard: list[tuple[int, str, str]] = []
        """When, which topic, which value came to the service."""
        self.desk = self._start()

    # -- the service --------------------------------------------------------------------------------------------

    def rules(self) -> dict[str, dict[str, Any]]:
        """Rules of the house: one that is explained by another, one that explains, an emergency, one that escalates."""
        common = {"clear": 75, "hold_off": f"{HOLD_OFF}s"}
        say = "{label} {{at}} {value} {unit}"
        return {
            self.hot: common
            | {"when": f"{self.topic} > 80", "for": "6s", "inhibited_by": "cause", "repeat": "1m", "say": say},
            "cause": common | {"when": "a/b/flue > 80", "for": "3s", "priority": -1},
            "burn": {"clear": 75, "when": "a/b/box > 80", "priority": 2},
            "slow": common
            | {"when": "a/b/box > 80", "for": "2s", "notify": "pushover", "escalate": "bob"}
            | {"escalate_after": f"{ESCALATE}s"},
        }

    def take_rules(self) -> None:
        """Load the rules, as after a reload."""
        rules = {name: msgspec.convert(rule, Rule, dec_hook=from_text) for name, rule in self.rules().items()}
        people = ("pushover", "mail", "bob")
        watches, problems = compile_rules(rules, Scope({topic: Line() for topic in self.TOPICS}, (), people))
        assert not problems, problems
        for watch in watches:
            if watch.rule.repeat:  # the least that people may write, of this house's short minutes
                hurried = msgspec.structs.replace(watch.rule, repeat=Duration(REPEAT))
                watches[watches.index(watch)] = replace(watch, rule=hurried)
        hours = "00:00-23:59" if self.quiet else None
        options = AlertOptions(gather=Duration(GATHER), fallback=Duration(FALLBACK), quiet=hours, quiet_below=0)
        settings = TellerSettings(options, ("pushover", "mail"), known=people)
        self.desk.take(watches, SETTLE, settings, "home", self.at)

    def _start(self) -> Desk:
        self.desk = Desk((Path("kept"), Path("run")), self._publish, self.save, self.wall, self)
        teller = self.desk.teller
        teller.pause, teller.longest_pause, teller.hold_off = PAUSE * SECOND, 2 * PAUSE * SECOND, HOLD_OFF
        teller.most_rounds = 10_000  # twenty of these short ones would be over while a phone only refuses for a while
        self.desk.judge.suspend(self.at)
        self.take_rules()
        self.connect(session=True)
        return self.desk

    def load(self, path: Path, kind: Any, default: Any) -> Any:
        """Be the service's disk."""
        return msgspec.json.decode(self.files[path], type=kind) if path in self.files else default

    def save(self, path: Path, value: object) -> None:
        """Be the service's disk."""
        self.files[path] = msgspec.json.encode(value)

    def connect(self, *, session: bool) -> None:
        """Connect to the broker."""
        self.desk.teller.outbox.again()
        self.desk.judge.resume(self.at, session)

    @property
    def wall(self) -> int:
        return START + self.at

    def _publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        if topic.startswith("home/notify/"):
            notice, identity = msgspec.json.decode(payload, type=Notice), topic.rpartition("/")[2]
            self.asked.append((self.at, identity, notice))
            for phone in (*self.phones, self.bob):
                phone.inbox.append((identity, notice))
        elif topic.startswith("home/alert/"):
            for phone in self.phones:
                phone.emergencies.follow(topic.rpartition("/")[2], payload)

    def kill(self) -> None:
        """End the service as by kill -9: what it has not acknowledged comes again."""
        if self.alive:
            self.alive = False
            self.session = self.unacknowledged + self.session

    def start(self) -> None:
        """Start it again."""
        if not self.alive:
            self.alive = True
            self._start()
            if not self.online:
                self.desk.judge.suspend(self.at)

    def lose_broker(self) -> None:
        """Kill the broker: what it held for others is gone, and it is back at once."""
        for phone in (*self.phones, self.bob):
            phone.inbox = []
        self.reports, self.session, self.unacknowledged = [], [], []
        if self.alive:
            self.desk.judge.suspend(self.at)
            self.connect(session=False)

    # -- one second ---------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Let a second pass."""
        self.at += SECOND
        for topic in self.TOPICS:
            if not self.silent[topic]:
                self.number += 1
                value = (90 if self.bad[topic] else 60) + self.number / 1000
                self.readings.append((topic, value, self.at))
                self.session.append((topic, value, self._stamp(), self.number))
        if self.alive:
            self._work()
        for phone in (*self.phones, self.bob):
            self.reports += phone.step(self.at)

    def _stamp(self) -> int:
        if self.clock == "stands":
            return self.stood
        return self.wall - (3_600_000 if self.clock == "back" else 0)

    def _work(self) -> None:
        for topic, value, moment, number in self.session:
            fresh = self.desk.is_fresh(Sequence("s", number - 1, number))
            self.desk.judge.feed(topic, value, moment, self.at, self.wall - moment, fresh)
            self.heard.append((self.at, topic, f"{value:.3f}".rstrip("0")))
        self.unacknowledged, self.session = self.session, []
        for identity, report in self.reports:
            if self.desk.teller.hear(identity, report, self.wall):
                self.desk.save(self.wall)
        self.reports = []
        if self.chance.random() < 0.9:
            self.desk.flush(self.wall)
            self.unacknowledged = []
        self.desk.turn(self.at, self.wall)
