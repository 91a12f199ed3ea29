"""Alert rules: what they say of readings, and that people hear of each cause once and of its end once."""

import csv
import json
import os
import re
import textwrap
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import yaml
from harness import PROJECT
from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap_lib import format_time, parse_time
from bootstrap_lib.cli import main
from bootstrap_lib.document import from_text
from bootstrap_lib.duration import Duration
from services import boiler as phase
from services.alerting import (
    AlertOptions,
    Judge,
    JudgeMemory,
    Rule,
    Scope,
    Teller,
    TellerMemory,
    TellerSettings,
    compile_rules,
    document_of,
    replay,
)
from services.alerting.documents import reasons
from services.alerting.replay import ANYTHING
from services.alerting.trial import try_rule
from services.boiler import replay as replay_boiler
from services.boiler.rules import Rules
from services.notices.notice import Notice, Report

START = 1_795_000_000_000
SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
WATER, FLUE, PHASE, METER = (
    "boiler/water/temperature",
    "boiler/flue/temperature",
    "boiler/burner/phase",
    "house/cold/volume",
)


@dataclass(frozen=True)
class Line:
    kind: str = "gauge"
    unit: str = "°C"
    decimals: int = 1
    states: tuple[str, ...] = ()
    stale: float = 30.0
    source: str = "onewire"
    label: str = "boiler water"
    low: float | None = -55
    high: float | None = 1200


HOUSE = Scope(
    topics={
        WATER: Line(),
        FLUE: Line(label="boiler flue"),
        PHASE: Line(kind="state", unit="", states=("off", "ignition", "combustion"), source="phase", label="phase"),
        METER: Line(kind="counter", unit="m³", decimals=3, source="wmbus", label="cold water", stale=3600),
        "boiler/auger/fault": Line(kind="switch", unit="", label="auger fault"),
    },
    services=("onewire", "phase", "wmbus"),
    notifiers=("pushover", "apprise"),
)


def rule(**given: Any) -> Rule:
    return msgspec.convert({"hold_off": "10m"} | given, Rule, dec_hook=from_text)


def problems(house: Scope = HOUSE, **given: dict[str, Any]) -> list[str]:
    _, found = compile_rules({name: rule(**entry) for name, entry in given.items()}, house)
    return [f"{name}.{error.key}: {error}" for name, error in found]


class Scene:
    """Judge and teller on a time of their own: one step is one second. Notifiers deliver at once, unless they are `down`."""

    def __init__(
        self,
        rules: dict[str, dict[str, Any]],
        settle: float = 0.0,
        gather: float = 0.0,
        notifiers: tuple[str, ...] = ("pushover",),
        **options: Any,
    ) -> None:
        self.rules, self.settle = rules, settle
        self.settings = TellerSettings(
            msgspec.convert({"gather": f"{gather:g}s"} | options, AlertOptions, dec_hook=from_text), notifiers
        )
        self.at, self.skew = 1_000_000, 0
        self.told: list[Notice] = []
        self.down: set[str] = set()
        self.asked: list[tuple[str, Notice]] = []
        self.judge, self.teller = self._machine(JudgeMemory(), TellerMemory())
        self.judge.load(self.compiled(rules))
        self.judge.resume(self.at)
        self.tick()

    def _machine(self, judged: JudgeMemory, told: TellerMemory) -> tuple[Judge, Teller]:
        judge = Judge(judged, self.settle)
        teller = Teller(judge, told)
        teller.take(self.settings)
        return judge, teller

    @staticmethod
    def compiled(rules: dict[str, dict[str, Any]]) -> Any:
        watches, found = compile_rules({name: rule(**entry) for name, entry in rules.items()}, HOUSE)
        assert not found, found
        return watches

    def reload(self, rules: dict[str, dict[str, Any]]) -> list[str]:
        self.rules = rules
        return self.judge.load(self.compiled(rules))

    @property
    def wall(self) -> int:
        return START + self.at + self.skew

    def tick(self) -> None:
        self.teller.tick(self.at, self.wall)
        self.judge.changed.clear()
        self.judge.moved.clear()
        for identity, notice in self.teller.publish(self.at, self.wall):
            self.asked.append((identity, notice))
            self.answer(identity, notice)

    def answer(self, identity: str, notice: Notice) -> None:
        if notice.notify not in self.down:
            if not notice.withdraw:
                self.told.append(notice)
            state = "failed" if notice.withdraw else "delivered"
            self.teller.hear(identity, Report(notice.notify, state), self.wall)

    def wait(self, seconds: float, step: int = 1) -> None:
        for _ in range(round(seconds / step)):
            self.at += step * SECOND
            self.tick()

    def feed(self, topic: str, value: Any, ago: float = 0.0) -> None:
        moment = round(self.wall - ago * SECOND)
        self.judge.feed(topic, value, moment, self.at, round(ago * SECOND))

    def measure(self, topic: str, values: Iterable[Any], every: float = 10.0) -> None:
        for value in values:
            self.feed(topic, value)
            self.tick()
            self.wait(every)

    def restart(self, down: float = 0.0) -> None:
        judged = msgspec.json.decode(msgspec.json.encode(self.judge.memory), type=JudgeMemory)
        told = msgspec.json.decode(msgspec.json.encode(self.teller.memory), type=TellerMemory)
        self.at += round(down * SECOND)
        self.judge, self.teller = self._machine(judged, told)
        self.judge.load(self.compiled(self.rules))
        self.judge.start(self.at, round(down * SECOND))
        self.judge.resume(self.at)

    @property
    def titles(self) -> list[str]:
        return [notice.title for notice in self.told]

    def document(self, name: str = "hot") -> dict[str, Any]:
        return document_of(self.teller, name, self.wall)

    def firing(self, name: str = "hot") -> bool:
        return bool(self.document(name)["state"] == "firing")


HOT = {"hot": {"when": f"{WATER} > 85", "clear": 80, "for": "1m"}}


class TestWhatARuleSays:
    @pytest.mark.parametrize(
        ("entry", "said"),
        [
            ({"when": "boiler/watr/temperature > 85"}, "did you mean 'boiler/water/temperature'"),
            ({"when": f"{WATER} > 85 °C"}, "without its unit"),
            ({"when": f"{WATER} is hot"}, "cannot be read: write TOPIC > NUMBER"),
            ({"when": f"{WATER} > hot"}, "no number"),
            ({"when": f"{PHASE} == combusion"}, "did you mean 'combustion'"),
            ({"when": f"{PHASE} > 3"}, "neither more nor less"),
            ({"when": f"rate of {PHASE} > 3 per 1h"}, "no rate"),
            ({"when": f"rate of {WATER} > 3 per hour"}, "no duration"),
            ({"when": f"growth of {METER} over 0s > 1"}, "longer than nothing"),
            ({"when": "boiler/auger/fault == yes"}, "neither true nor false"),
            ({"when": "service onewir is dead"}, "did you mean 'onewire'"),
            ({"when": "service onewire is ill"}, "never 'ill'"),
            ({"when": "cellar/+/temperature > 5"}, "matches nothing"),
            ({"when": f"{WATER} > 85", "clear": 90}, "other side of the limit"),
            ({"when": f"{WATER} < 5", "clear": 4}, "other side of the limit"),
            ({"when": f"{PHASE} == off", "clear": 4}, "only > and <"),
            ({"when": f"{WATER} > 85", "say": "{valu} is much"}, "did you mean 'value'"),
            ({"when": f"{WATER} > 85", "say": "{value"}, "brace"),
            ({"when": f"{WATER} > 85", "inhibited_by": "silen"}, "'silen' is not known"),
            ({"when": f"{WATER} > 85", "inhibited_by": ["bad"]}, "in a ring"),
            ({"when": f"{WATER} > 85", "notify": "pushove"}, "did you mean 'pushover'"),
            ({"when": f"{WATER} > 85", "picture": "boiler/watr/temperature"}, "did you mean"),
            ({"when": f"{WATER} > 85", "stale": WATER}, "exactly one of"),
            ({}, "exactly one of"),
        ],
    )
    def test_a_wrong_rule_gets_a_sentence_that_says_what_to_write(self, entry: dict[str, Any], said: str) -> None:
        (found,) = problems(bad=entry)
        assert found.startswith("bad.")
        assert said in found

    def test_two_rules_never_share_an_alert(self) -> None:
        found = problems(a={"stale": "boiler/+/temperature"}, a_boiler_water_temperature={"when": f"{WATER} > 1"})
        assert "makes an alert a_boiler_water_temperature too" in found[0]

    def test_a_pattern_makes_an_alert_for_each_topic(self) -> None:
        watches, _ = compile_rules({"silent": rule(stale="boiler/+/temperature")}, HOUSE)
        assert [watch.name for watch in watches] == [
            "silent_boiler_water_temperature",
            "silent_boiler_flue_temperature",
        ]
        watches, _ = compile_rules({"dead": rule(when="service + is dead")}, HOUSE)
        assert [watch.name for watch in watches] == ["dead_onewire", "dead_phase", "dead_wmbus"]

    def test_the_text_is_filled_in(self) -> None:
        say = "{label} ({topic}) has {value} {unit} since {age}, says {rule}"
        scene = Scene({"hot": {"when": f"{WATER}>85", "say": say, "for": "1m"}})
        scene.measure(WATER, [91.26] * 10)
        (told,) = scene.told
        assert told.text == f"boiler water ({WATER}) has 91.3 °C since 1m, says hot (11:24)"
        assert told.title == "Hot"
        assert told.notify == "pushover"


class TestAValue:
    def test_it_fires_once_after_its_time_and_is_over_once_below_the_hysteresis(self) -> None:
        scene = Scene(HOT)
        scene.measure(WATER, [84, 86, 86, 86])
        assert not scene.told
        scene.measure(WATER, [86, 84, 86, 84, 81, 84])
        assert scene.titles == ["Hot"]
        assert scene.firing()
        scene.measure(WATER, [79, 84, 79])
        assert scene.titles == ["Hot", "Over: Hot"]
        assert scene.told[1].text == "Hot: over after 1m30s (worst 86 °C at 11:23)"
        assert not scene.firing()

    def test_a_sensor_that_dies_above_its_limit_still_alarms(self) -> None:
        scene = Scene(HOT)
        scene.measure(WATER, [86])
        scene.judge.clear(WATER, scene.at)
        scene.wait(60)
        assert scene.titles == ["Hot"]

    def test_a_short_excess_says_nothing(self) -> None:
        scene = Scene(HOT)
        scene.measure(WATER, [86] * 5 + [79] * 10)
        assert not scene.told

    def test_hold_off_silences_flapping_but_not_what_lasts(self) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 85"}})
        scene.measure(WATER, [90, 80] * 10)
        assert scene.titles == ["Hot", "Over: Hot"]
        scene.measure(WATER, [90] * 70)
        assert scene.titles == ["Hot", "Over: Hot", "Flaps: Hot"]
        assert "10 times, for 8m20s in all" in scene.told[2].text

    @pytest.mark.parametrize(("pause", "told"), [(59, False), (60, True), (61, True)])
    def test_hold_off_counts_from_the_moment_people_were_told_that_it_was_over(self, pause: int, told: bool) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 85", "hold_off": "1m"}})
        scene.measure(WATER, [90, 80], every=1)
        assert scene.titles == ["Hot", "Over: Hot"]
        scene.wait(pause - 1)
        scene.feed(WATER, 90)
        scene.tick()
        assert scene.titles[2:] == ["Hot"] * told
        scene.measure(WATER, [90] * 70, every=1)
        assert scene.titles[2:] == ["Hot"]

    def test_hold_off_outlives_a_restart_and_is_each_alerts_own(self) -> None:
        rules = {"hot": {"when": f"{WATER} > 85", "hold_off": "1m"}, "flue": {"when": f"{FLUE} > 85", "hold_off": "1m"}}
        scene = Scene(rules)
        scene.measure(WATER, [90, 80], every=1)
        scene.restart()
        scene.measure(WATER, [90] * 30, every=1)
        assert scene.titles == ["Hot", "Over: Hot"]
        scene.measure(FLUE, [90], every=1)
        assert scene.titles[2:] == ["Flue"]
        scene.measure(WATER, [90] * 40, every=1)
        assert scene.titles[2:] == ["Flue", "Hot"]

    def test_words_and_switches(self) -> None:
        scene = Scene(
            {"lit": {"when": f"{PHASE} == ignition"}, "fault": {"when": "boiler/auger/fault == true", "group": "g"}}
        )
        scene.measure(PHASE, ["off", "ignition", "combustion"])
        scene.measure("boiler/auger/fault", [False, True])
        assert scene.titles == ["Lit", "Over: Lit", "Fault"]
        assert scene.told[2].text == "auger fault is true (11:24)"

    def test_repeat_until_acknowledged_and_the_end_is_told_all_the_same(self) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 85", "repeat": "1m"}})
        scene.measure(WATER, [90] * 13)
        assert scene.titles == ["Hot", "Still: Hot", "Still: Hot"]
        assert scene.teller.acknowledge(["hot"], scene.wall) == ["hot"]
        assert scene.document()["acknowledged"] is True
        scene.measure(WATER, [90] * 20 + [70])
        assert scene.titles[3:] == ["Over: Hot"]
        assert scene.document()["acknowledged"] is False

    def test_a_snoozed_alert_speaks_again_when_it_still_holds(self) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 85"}})
        scene.measure(WATER, [90])
        scene.teller.snooze(["hot"], scene.wall + 5 * MINUTE)
        scene.measure(WATER, [90] * 29)
        assert scene.titles == ["Hot"]
        scene.measure(WATER, [90] * 10)
        assert scene.titles == ["Hot", "Still: Hot"]

    def test_what_begins_while_it_is_snoozed_is_said_afterwards_and_nothing_is_repeated_meanwhile(self) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 85", "repeat": "1m"}})
        scene.measure(WATER, [70])
        scene.teller.snooze(["hot"], scene.wall + 5 * MINUTE)
        scene.measure(WATER, [90] * 29)
        assert not scene.told
        scene.measure(WATER, [90] * 2)
        assert scene.titles == ["Hot"]
        scene.teller.snooze(["hot"], scene.wall + 5 * MINUTE)
        scene.measure(WATER, [90] * 29)
        assert scene.titles == ["Hot"]
        scene.measure(WATER, [90] * 10)
        assert scene.titles[:2] == ["Hot", "Still: Hot"]

    def test_maintenance_says_nothing_of_what_comes_and_goes_and_afterwards_what_stays(self) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 85"}, "cold": {"when": f"{FLUE} < 5"}})
        scene.teller.memory.maintenance = scene.wall + 10 * MINUTE
        scene.measure(WATER, [90, 70])
        scene.measure(FLUE, [1] * 50)
        assert not scene.told
        scene.wait(200)
        assert scene.titles == ["Cold"]


class TestRates:
    def test_a_fast_fall_fires_and_a_slow_one_does_not(self) -> None:
        rules = {"falls": {"when": f"rate of {WATER} < -10 per 30m"}}
        slow, fast = Scene(rules), Scene(rules)
        slow.measure(WATER, [80 - n * 0.1 for n in range(60)], every=60)
        fast.measure(WATER, [80 - n * 0.5 for n in range(60)], every=60)
        assert not slow.told
        assert fast.titles == ["Falls"]
        assert "-15 °C per 30m" in fast.told[0].text

    def test_a_rate_is_told_once_three_readings_cover_half_of_its_span(self) -> None:
        scene = Scene({"rises": {"when": f"rate of {WATER} > 10 per 10m"}})
        scene.measure(WATER, [20, 60], every=360)  # two readings, six of ten minutes
        assert not scene.told
        scene.measure(WATER, [60], every=1)
        assert scene.titles == ["Rises"]
        quick = Scene({"rises": {"when": f"rate of {WATER} > 10 per 10m"}})
        quick.measure(WATER, [20 + n for n in range(30)], every=10)  # many readings, less than five of ten minutes
        assert not quick.told
        quick.measure(WATER, [50], every=10)
        assert quick.titles == ["Rises"]

    def test_a_leak_and_a_meter_that_stands_still(self) -> None:
        rules = {
            "leak": {"when": f"growth of {METER} over 6h > 0.5"},
            "stands": {"when": f"growth of {METER} over 6h < 0.001"},
        }
        leak, stands, normal = Scene(rules), Scene(rules), Scene(rules)
        leak.measure(METER, [100 + n * 0.02 for n in range(50)], every=600)
        stands.measure(METER, [100.0] * 50, every=600)
        normal.measure(METER, [100 + n * 0.005 for n in range(100)], every=600)
        assert leak.titles == ["Leak"]
        assert stands.titles == ["Stands"]
        assert not normal.told

    def test_an_exchanged_meter_is_no_leak(self) -> None:
        scene = Scene({"leak": {"when": f"growth of {METER} over 6h > 0.5"}})
        scene.measure(METER, [100 + n * 0.005 for n in range(20)] + [n * 0.005 for n in range(20)], every=600)
        assert not scene.told

    def test_a_window_survives_a_restart(self) -> None:
        scene = Scene({"leak": {"when": f"growth of {METER} over 6h > 0.5"}})
        scene.measure(METER, [100 + n * 0.02 for n in range(20)], every=600)
        scene.restart()
        scene.measure(METER, [100.4 + n * 0.02 for n in range(8)], every=600)
        assert scene.titles == ["Leak"]


class TestSilence:
    RULES: ClassVar = {
        "silent": {"stale": "boiler/+/temperature"},
        "dead": {"when": "service + is dead", "group": "services"},
    }

    def test_a_topic_that_falls_silent_alarms_once_and_heals(self) -> None:
        scene = Scene({"silent": {"stale": WATER}})
        scene.measure(WATER, [60] * 5)
        scene.wait(600)
        assert scene.titles == ["Silent"]
        assert scene.told[0].text == "boiler water has been silent for 1m30s"
        scene.measure(WATER, [60])
        assert scene.titles == ["Silent", "Over: Silent"]

    def test_what_was_never_heard_is_never_seen_and_alarms_nobody(self) -> None:
        scene = Scene({"silent": {"stale": WATER}, "other": {"stale": FLUE}})
        scene.measure(FLUE, [60] * 5)
        scene.judge.clear(WATER, scene.at)
        scene.wait(3600)
        assert scene.titles == ["Other"]
        assert [key for key, one in scene.judge.signals.items() if not one.pulse.time] == [WATER]

    def test_a_topic_that_comes_once_a_day_is_silent_after_three(self) -> None:
        scene = Scene({"silent": {"stale": METER}})
        day = 86_400
        for n in range(3):
            scene.feed(METER, 1.0 + n)
            scene.wait(day if n < 2 else 3 * day - 60, step=20)
        assert not scene.told
        scene.wait(200)
        assert scene.titles == ["Silent"]

    def test_a_new_rule_knows_how_long_it_has_been_silent(self) -> None:
        scene = Scene(HOT | {"slow": {"when": f"{METER} > 900"}})
        scene.measure(METER, [1.0] * 5)
        scene.wait(3000)
        scene.reload(HOT | {"silent": {"stale": METER}})
        scene.wait(500)
        assert not scene.told
        scene.wait(200)
        assert scene.titles == ["Silent"]

    def test_a_service_is_dead_without_its_beats_and_at_once_with_its_will(self) -> None:
        scene = Scene(self.RULES | {"silent": {"stale": PHASE}})
        for _ in range(20):
            for name in ("onewire", "phase", "wmbus"):
                scene.judge.beat(f"service {name}", 30)
                scene.feed(f"service {name}", "running")
            scene.feed(PHASE, "off")
            scene.wait(10)
        assert not scene.told
        scene.judge.clear("service onewire", scene.at)
        for _ in range(7):
            for name in ("phase", "wmbus"):
                scene.feed(f"service {name}", "running")
            scene.feed(PHASE, "off")
            scene.wait(10)
        assert scene.titles == ["Dead onewire"]
        scene.feed("service onewire", "running")
        scene.wait(1)
        assert scene.titles == ["Dead onewire", "Over: Dead onewire"]

    def test_a_paused_source_alarms_nobody(self) -> None:
        scene = Scene({"silent": {"stale": WATER}, "hot": {"when": f"{WATER} > 85", "for": "1m"}})
        scene.measure(WATER, [90])
        scene.judge.pause("onewire", True, scene.at)
        scene.judge.clear(WATER, scene.at)
        scene.wait(3600)
        assert not scene.told
        scene.judge.pause("onewire", False, scene.at)
        scene.wait(20)
        scene.measure(WATER, [70] * 10)
        assert not scene.told

    def test_a_broker_that_restarts_alarms_nobody(self) -> None:
        scene = Scene(self.RULES, settle=60)
        scene.measure(WATER, [60] * 5)
        scene.feed(FLUE, 60)
        scene.judge.suspend(scene.at)
        scene.wait(3600)
        scene.judge.resume(scene.at)
        for _ in range(30):
            for name in ("onewire", "phase", "wmbus"):
                scene.feed(f"service {name}", "running")
            scene.feed(WATER, 60)
            scene.feed(FLUE, 60)
            scene.wait(10)
        assert not scene.told

    def test_after_a_connection_silence_proves_nothing_for_a_while(self) -> None:
        scene = Scene({"silent": {"stale": WATER, "for": "0s"}}, settle=60)
        scene.wait(58)
        scene.measure(WATER, [60] * 5)
        scene.judge.suspend(scene.at)
        scene.wait(1)
        scene.judge.resume(scene.at)
        scene.wait(58)
        scene.feed(WATER, 60)
        scene.wait(20)
        assert not scene.told
        scene.wait(20)
        assert scene.titles == ["Silent"]

    def test_what_depends_on_something_has_time_to_recover_after_it(self) -> None:
        rules = {
            "dead": {"when": "service onewire is dead", "for": "0s"},
            "silent": {"stale": WATER, "inhibited_by": "dead"},
        }
        scene = Scene(rules, settle=30)
        scene.wait(30)
        scene.feed("service onewire", "running")
        scene.measure(WATER, [60] * 5)
        scene.judge.clear("service onewire", scene.at)
        scene.wait(300)
        assert scene.firing("silent")
        scene.feed("service onewire", "running")
        scene.wait(20)
        scene.feed(WATER, 60)
        scene.wait(20)
        assert scene.titles == ["Dead", "Over: Dead"]
        scene.judge.clear("service onewire", scene.at)
        scene.wait(300)
        scene.feed("service onewire", "running")
        scene.wait(31)
        assert scene.titles[-1] == "Silent"

    def test_what_explains_an_alert_silences_it(self) -> None:
        rules = {
            "dead": {"when": "service + is dead", "for": "30s"},
            "silent": {"stale": "#", "for": "1m", "inhibited_by": "dead", "group": "sensors"},
            "cold": {"when": f"{WATER} < 50", "for": "3m", "inhibited_by": "silent", "group": "values"},
        }
        scene = Scene(rules, settle=30)
        for _ in range(10):
            for name in ("onewire", "phase", "wmbus"):
                scene.feed(f"service {name}", "running")
            scene.feed(METER, 1.0)
            scene.feed(PHASE, "off")
            for topic in (WATER, FLUE):
                scene.feed(topic, 60)
            scene.feed("boiler/auger/fault", False)
            scene.wait(5)
        scene.feed(WATER, 40)
        scene.judge.clear("service onewire", scene.at)
        for _ in range(60):
            for name in ("phase", "wmbus"):
                scene.feed(f"service {name}", "running")
            scene.feed(PHASE, "off")
            scene.wait(10)
        assert scene.titles == ["Dead onewire"]

    def test_a_storm_is_one_message(self) -> None:
        topics = {f"room_{n}/wall/temperature": Line(label=f"room {n}") for n in range(50)}
        house = Scope(topics=topics, services=(), notifiers=())
        watches, _ = compile_rules({"silent": rule(stale="#", priority=1)}, house)
        judge = Judge()
        teller = Teller(judge)
        teller.take(TellerSettings(AlertOptions(gather=Duration(5))))
        judge.load(watches)
        judge.resume(0)
        for beat in range(4):
            for n, topic in enumerate(topics):  # the first speaks last 4.9 s before the last does
                judge.feed(topic, 20.0, START + beat * 10_000 + n * 100, beat * 10_000 + n * 100)
        said: list[Notice] = []
        for at in range(35_000, 600_000, SECOND):
            teller.tick(at, START + at)
            said += [notice for _, notice in teller.publish(at, START + at)]
        assert [notice.title for notice in said] == ["50 alerts"]
        assert said[0].text.endswith("and 38 more")
        assert len(said[0].rules) == 50
        assert said[0].priority == 1


class TestNothingTwice:
    def test_a_repeated_delivery_changes_nothing(self) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 85"}})
        moment = scene.wall
        scene.feed(WATER, 90)
        scene.wait(5)
        scene.feed(WATER, 70)
        scene.wait(700)
        for _ in range(3):
            scene.judge.feed(WATER, 90, moment, scene.at, scene.wall - moment)
            scene.wait(20)
        assert scene.titles == ["Hot", "Over: Hot"]

    def test_a_restart_with_a_retained_value_says_nothing_new(self) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 85"}})
        scene.measure(WATER, [90])
        for _ in range(3):
            scene.restart()
            scene.feed(WATER, 90, ago=5)
            scene.wait(30)
        assert scene.titles == ["Hot"]
        scene.measure(WATER, [70])
        scene.restart()
        scene.feed(WATER, 70, ago=5)
        scene.wait(30)
        assert scene.titles == ["Hot", "Over: Hot"]

    def test_of_a_backlog_only_its_end_is_announced_and_one_summary(self) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 85", "for": "2m"}, "cold": {"when": f"{WATER} < 10"}})
        values = [60] * 60 + [90] * 60 + [60] * 60 + [90] * 60 + [5] * 120
        for n, value in enumerate(values):
            scene.feed(WATER, value, ago=10 * (len(values) - n))
            if n % 50 == 0:
                scene.tick()
        scene.wait(30)
        assert scene.titles == ["Cold", "1 alert meanwhile, all over"]
        assert "2 times, for 20m in all" in scene.told[1].text
        assert scene.told[1].priority == -1

    def test_a_source_whose_clock_is_slow_still_alarms(self) -> None:
        scene = Scene(HOT)
        for _ in range(50):
            scene.feed(WATER, 90, ago=300)
            scene.wait(2)
        assert scene.titles == ["Hot"]

    @pytest.mark.parametrize("step", [HOUR, -HOUR, 40 * 86_400_000])
    def test_a_clock_that_jumps_alarms_nobody_and_forgets_nothing(self, step: int) -> None:
        scene = Scene(HOT | {"silent": {"stale": WATER}})
        scene.measure(WATER, [86, 86])
        scene.skew += step
        scene.teller.shift(step)
        scene.measure(WATER, [86, 86])
        assert not scene.told
        scene.measure(WATER, [86] * 5)
        assert scene.titles == ["Hot"]
        scene.skew -= step
        scene.teller.shift(-step)
        scene.measure(WATER, [86] * 5 + [70] * 10)
        assert scene.titles == ["Hot", "Over: Hot"]
        assert scene.told[1].text == "Hot: over after 2m20s (worst 86 °C at 11:23)"

    def test_a_source_whose_clock_went_back_is_heard_again(self) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 85"}})
        scene.measure(WATER, [60] * 3)
        for _ in range(70):
            scene.feed(WATER, 90, ago=3 * 3600)
            scene.wait(10)
        assert scene.titles == ["Hot"]

    def test_a_tail_sent_again_and_again_is_no_clock_that_went_back(self) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 85"}})
        sent = [(value, scene.wall + n * 10 * SECOND) for n, value in enumerate([60, 90, 90, 60, 60])]
        for value, _ in sent:
            scene.feed(WATER, value)
            scene.wait(10)
        for _ in range(20):
            scene.wait(120)
            for value, moment in sent:
                scene.judge.feed(WATER, value, moment, scene.at, scene.wall - moment)
        assert scene.titles == ["Hot", "Over: Hot"]

    def test_a_rule_that_is_taken_away_is_forgotten_and_the_others_stay(self) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 85"}, "cold": {"when": f"{FLUE} < 5"}})
        scene.measure(WATER, [90])
        scene.measure(FLUE, [1])
        assert scene.reload({"hot": {"when": f"{WATER} > 85"}}) == ["cold"]
        scene.measure(WATER, [90] * 100)
        assert scene.titles == ["Hot", "Cold", "Over: Cold"]
        assert "no longer watched" in scene.told[2].text

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("feed"), st.sampled_from([60.0, 82.0, 90.0])),
                st.tuples(st.just("wait"), st.integers(1, 900)),
                st.tuples(st.just("restart"), st.just(0)),
                st.tuples(st.just("repeat"), st.integers(1, 20)),
                st.tuples(st.just("jump"), st.integers(-7200, 7200)),
                st.tuples(st.just("broker"), st.integers(1, 600)),
                st.tuples(st.just("acknowledge"), st.just(0)),
            ),
            max_size=40,
        )
    )
    def test_whatever_happens_each_alarm_is_taken_back_once_before_the_next(self, acts: list[tuple[str, Any]]) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 85", "clear": 80, "for": "1m", "hold_off": "5m"}})
        sent: list[tuple[float, int]] = []
        for act, much in acts:
            match act:
                case "feed":
                    sent.append((much, scene.wall))
                    scene.feed(WATER, much)
                case "wait":
                    scene.wait(much)
                case "restart":
                    scene.restart()
                case "repeat":
                    for value, moment in sent[-much:]:
                        scene.judge.feed(WATER, value, moment, scene.at, scene.wall - moment)
                case "jump":
                    scene.skew += much * SECOND
                    scene.teller.shift(much * SECOND)
                    sent = [(value, moment + much * SECOND) for value, moment in sent]
                case "broker":
                    scene.judge.suspend(scene.at)
                    scene.wait(much)
                    scene.judge.resume(scene.at)
                case "acknowledge":
                    scene.teller.acknowledge(["hot"], scene.wall)
            scene.tick()
        said = [title for title in scene.titles if "meanwhile" not in title]
        assert said == ["Hot", "Over: Hot"] * (len(said) // 2) + ["Hot"] * (len(said) % 2)
        scene.wait(1)
        scene.feed(WATER, 60.0)
        scene.wait(700)
        assert [t for t in scene.titles if "meanwhile" not in t].count("Hot") == scene.titles.count("Over: Hot")
        assert not scene.firing()


class TestOnlyWhatFiresExplains:
    RULES: ClassVar = {
        "silent": {"stale": WATER, "for": "1m", "priority": -1},
        "cold": {"when": f"{WATER} < 54", "clear": 56, "for": "5m", "priority": 1, "inhibited_by": "silent"},
    }

    @pytest.mark.parametrize("every", [10, 50, 85, 100])
    def test_an_inhibitor_that_only_begins_silences_nobody(self, every: int) -> None:
        scene = Scene(self.RULES, settle=60, gather=5)
        scene.measure(WATER, [60] * 30)
        scene.measure(WATER, [40] * (3600 // every), every=every)
        assert "Cold" in scene.titles

    def test_what_still_fires_when_its_explanation_ends_or_is_snoozed_is_told_at_once(self) -> None:
        rules = {"cause": {"when": f"{FLUE} > 80"}, "hot": {"when": f"{WATER} > 85", "inhibited_by": "cause"}}
        scene = Scene(rules)
        scene.measure(FLUE, [90])
        scene.measure(WATER, [90] * 10)
        assert scene.titles == ["Cause"]
        scene.teller.snooze(["cause"], scene.wall + HOUR)
        scene.wait(2)
        assert scene.titles == ["Cause", "Hot"]
        scene = Scene(rules)
        scene.measure(FLUE, [90])
        scene.measure(WATER, [90] * 10)
        scene.feed(FLUE, 70)
        scene.wait(2)
        assert sorted(scene.titles) == ["Cause", "Hot", "Over: Cause"]

    CAUSE: ClassVar = {
        "cause": {"when": f"{FLUE} > 80", "priority": -1, "hold_off": "1h"},
        "hot": {"when": f"{WATER} > 85", "priority": 1, "inhibited_by": "cause"},
    }

    def test_what_people_sleep_through_explains_nothing(self) -> None:
        scene = Scene(self.CAUSE, quiet="11:00-12:00")  # it is 11:23
        scene.measure(FLUE, [90])
        scene.measure(WATER, [90] * 3)
        assert scene.titles == ["Hot"]
        scene.wait(37 * 60)
        assert scene.titles == ["Hot", "Cause"]

    def test_what_they_heard_before_they_slept_explains_all_night(self) -> None:
        scene = Scene(self.CAUSE, quiet="11:25-12:00")
        scene.measure(FLUE, [90])
        scene.wait(300)
        scene.measure(WATER, [90] * 3)
        assert scene.titles == ["Cause"]

    def test_what_is_explained_by_what_they_heard_explains_too(self) -> None:
        middle = {"middle": {"when": f"{WATER} > 80", "priority": -1, "inhibited_by": "cause"}}
        rules = self.CAUSE | middle | {"hot": {"when": f"{PHASE} == off", "priority": 1, "inhibited_by": "middle"}}
        scene = Scene(rules, quiet="11:25-12:00")
        scene.measure(FLUE, [90])
        scene.wait(300)
        scene.measure(WATER, [90])
        scene.measure(PHASE, ["off"] * 3)
        assert (scene.firing("middle"), scene.firing("hot")) == (True, True)
        assert scene.titles == ["Cause"]

    def test_what_its_service_does_not_know_any_more_is_not_silent_and_a_dead_service_is(self) -> None:
        fault, phase = "boiler/auger/fault", "boiler/burner/phase"
        house = replace(HOUSE, concluded={fault, phase})
        watches, _ = compile_rules({"silent": rule(stale="boiler/+/+")}, house)
        scene = Scene({}, settle=60)
        scene.compiled = lambda _: watches  # type: ignore[method-assign]
        scene.judge.load(watches)
        for second in range(6000):
            if not 1000 < second < 3000:
                scene.feed(FLUE, 50.0)
            if not 1300 < second < 3004 and second < 4000 and second % 10 == 0:
                scene.feed(fault, False)
            if second == 1350:
                scene.judge.clear(fault, scene.at)
            if second == 2000:
                scene.restart(1)  # what is not known stays so
            if second < 4000 and second % 10 == 0:
                scene.feed(phase, "off")
            scene.feed(WATER, 50.0)
            scene.wait(1)
        assert scene.titles[:2] == ["Silent boiler flue temperature", "Over: Silent boiler flue temperature"]
        assert scene.titles[2:] == ["2 alerts"], "the fault and the phase, when nobody concludes them any more"

    def test_what_is_in_its_hold_off_explains_nothing(self) -> None:
        scene = Scene(self.CAUSE)
        scene.measure(FLUE, [90, 70, 90])
        scene.measure(WATER, [90] * 3)
        assert scene.titles == ["Cause", "Over: Cause", "Hot"]

    @pytest.mark.parametrize("how", ["refused", "unanswered", "taken back"])
    def test_what_nobody_delivers_explains_nothing(self, how: str) -> None:
        house = Scope(HOUSE.topics, HOUSE.services, ("ann", "bob"))
        rules = {"cause": self.CAUSE["cause"] | {"notify": "ann"}, "hot": self.CAUSE["hot"] | {"notify": "bob"}}
        scene = Scene({}, notifiers=("ann", "bob"), fallback="30s")
        scene.judge.load(compile_rules({name: rule(**entry) for name, entry in rules.items()}, house)[0])
        scene.down.add("ann")
        scene.measure(FLUE, [90, 70, 90] if how == "taken back" else [90], every=2 if how == "taken back" else 10)
        scene.measure(WATER, [90])
        assert not scene.told
        if how == "refused":
            scene.teller.hear(scene.asked[0][0], Report("ann", "failed", "no"), scene.wall)
        scene.wait(5 if how == "refused" else 35)
        assert [(n.title, n.notify) for n in scene.told] == [("Hot", "bob")]

    def test_what_nobody_could_be_told_of_is_told_afterwards_though_something_explained_it_later(self) -> None:
        scene = Scene(self.CAUSE)
        scene.down.add("pushover")
        scene.measure(WATER, [90])
        scene.teller.hear(scene.asked[0][0], Report("pushover", "failed", "no"), scene.wall)
        scene.down.clear()
        scene.measure(FLUE, [90])
        scene.measure(WATER, [90, 70])
        assert scene.titles == ["Cause"]
        scene.wait(60)
        assert scene.titles == ["Cause", "Came and went: Hot"]

    def test_a_rule_that_is_always_explained_or_never_true_is_refused(self) -> None:
        assert "can never fire: readings of" in problems(bad={"when": f"{WATER} > 1300"})[0]
        assert "a counter does not fall" in problems(bad={"when": f"growth of {METER} over 1h < 0"})[0]
        found = problems(warm={"when": f"{WATER} > 60"}, hot={"when": f"{WATER} > 80", "inhibited_by": "warm"})
        assert "hot.inhibited_by: it can never speak: 'warm' fires whenever it does" in found[0]

    @pytest.mark.parametrize(
        ("entry", "said"),
        [
            ({"when": f"{WATER} < 56", "armed_at": 1300}, "armed_at: it can never fire, as nothing ever arms it"),
            ({"when": f"{WATER} > 56", "armed_at": -60}, "armed_at: it can never fire, as nothing ever arms it"),
            ({"when": f"growth of {WATER} over 1h > 1255"}, "when: it can never fire: readings of"),
            ({"when": f"growth of {WATER} over 1h < -1300"}, "when: it can never fire: readings of"),
            ({"when": f"{WATER} < 56", "armed_at": 60}, ""),
            ({"when": f"growth of {WATER} over 1h > 1254"}, ""),
            ({"when": f"rate of {WATER} > 100000 per 1h"}, "when: it can never fire: readings of"),
            ({"when": f"rate of {WATER} < -6276 per 1h"}, "when: it can never fire: readings of"),
            ({"when": f"rate of {WATER} > 5000 per 1h"}, ""),
            ({"when": f"{WATER} < 20", "clear": 1201}, "clear: it would never be over: readings of"),
            ({"when": f"{WATER} > 20", "clear": -56}, "clear: it would never be over: readings of"),
            ({"when": f"{WATER} >= 20", "clear": -55}, "clear: it would never be over: readings of"),
            ({"when": f"{WATER} < 20", "clear": 1200}, ""),
            ({"when": f"{WATER} > 20", "clear": -55}, ""),
            ({"when": f"{WATER} > 20", "repeat": "0s"}, "repeat: at least 1m"),
            ({"when": f"{WATER} > 20", "repeat": "1m"}, ""),
        ],
    )
    def test_what_arms_a_rule_what_grows_and_what_ends_it_must_be_possible_too(
        self, entry: dict[str, Any], said: str
    ) -> None:
        found = problems(bad=entry)
        assert [said in one for one in found] == [True] * bool(said)

    @pytest.mark.parametrize(
        ("mine", "its", "refused"),
        [
            ({"when": f"{WATER} > 85"}, {"when": f"{WATER} > 85"}, True),
            ({"when": f"{WATER} >= 85"}, {"when": f"{WATER} > 85"}, False),
            ({"when": f"{WATER} > 85", "clear": 80}, {"when": f"{WATER} > 85"}, False),
            ({"when": f"{WATER} > 85"}, {"when": f"{WATER} > 85", "for": "1m"}, False),
            ({"when": f"{WATER} > 85"}, {"when": f"{WATER} > 80", "armed_at": 20}, False),
            ({"when": "boiler/auger/fault == true"}, {"when": "boiler/auger/fault == true"}, True),
            ({"when": "boiler/auger/fault == true"}, {"when": "boiler/auger/fault == false"}, False),
            ({"when": f"{PHASE} == off", "for": "1m"}, {"when": f"{PHASE} == off"}, True),
            ({"when": f"{PHASE} == off"}, {"when": f"{PHASE} != ignition"}, True),
            ({"stale": WATER}, {"stale": "#"}, True),
            ({"stale": WATER}, {"stale": "#", "for": "5m"}, False),
            ({"when": "service + is dead"}, {"when": "service onewire is dead"}, True),
            ({"when": f"rate of {WATER} > 9 per 1h"}, {"when": f"rate of {WATER} > 5 per 1h"}, True),
            ({"when": f"rate of {WATER} > 9 per 1h"}, {"when": f"rate of {WATER} > 5 per 2h"}, False),
        ],
    )
    def test_what_is_true_whenever_a_rule_is_may_not_explain_it(
        self, mine: dict[str, Any], its: dict[str, Any], refused: bool
    ) -> None:
        found = problems(mine=mine | {"inhibited_by": "its"}, its=its)
        assert ["can never speak" in one for one in found] == [True] * refused


class TestToldMeansDelivered:
    HOT: ClassVar = {"hot": {"when": f"{WATER} > 85", "hold_off": "0s"}}

    def test_after_an_outage_the_phone_gets_the_newest_state_once(self) -> None:
        scene = Scene(self.HOT)
        scene.down.add("pushover")
        scene.measure(WATER, ([90] * 40 + [70] * 40) * 5)
        assert not scene.told
        assert scene.teller.untold() == {"hot": "pushover does not answer"}
        for identity, notice in scene.asked[-1:]:
            scene.down.clear()
            scene.answer(identity, notice)
        scene.wait(400)
        assert scene.titles == ["Flapped: Hot"]
        assert "5 times" in scene.told[0].text
        assert not scene.teller.untold()

    def test_a_refusal_asks_the_next_and_goes_round_with_growing_pauses(self) -> None:
        scene = Scene(self.HOT, notifiers=("pushover", "mail"))
        scene.down |= {"pushover", "mail"}
        seen: dict[str, int] = {}
        scene.feed(WATER, 90)
        for _ in range(1500):
            scene.at += SECOND
            scene.tick()
            for identity, notice in scene.asked:
                if not notice.withdraw and (key := identity + notice.notify) not in seen:
                    seen[key] = scene.at
                    scene.teller.hear(identity, Report(notice.notify, "failed", "no"), scene.wall)
        asked = [notice.notify for _, notice in scene.asked]
        assert asked[:6] == ["pushover", "mail"] * 3
        begins = list(seen.values())[::2]
        pauses = [round((b - a) / SECOND) for a, b in pairwise(begins)]
        assert pauses[:4] == sorted(pauses[:4])
        assert pauses[0] >= 60
        assert pauses[3] > 2 * pauses[1]

    def test_the_end_goes_to_who_got_the_begin_whatever_became_of_the_rule(self) -> None:
        for change in ({}, {"warm": self.HOT["hot"]}, {"hot": {"when": f"{FLUE} > 85"}}):
            scene = Scene(self.HOT, notifiers=("pushover", "mail"))
            scene.down.add("pushover")
            scene.measure(WATER, [90] * 80)
            assert [(n.title, n.notify) for n in scene.told] == [("Hot", "mail")]
            scene.down.clear()
            scene.reload(change)
            scene.restart()
            scene.wait(5)
            assert ("Over: Hot", "mail") in [(n.title, n.notify) for n in scene.told]
            assert [n.title for n in scene.told].count("Over: Hot") == 1

    def test_another_order_of_notifiers_tells_nobody_twice(self) -> None:
        scene = Scene(self.HOT)
        scene.measure(WATER, [90])
        scene.teller.take(TellerSettings(AlertOptions(), ("pushover", "mail")))
        scene.measure(WATER, [90] * 10 + [70] * 3)
        assert scene.titles == ["Hot", "Over: Hot"]


class TestWhatIsSaid:
    def test_values_are_the_newest_with_their_time_and_the_worst_beside_them(self) -> None:
        scene = Scene({"cold": {"when": f"{WATER} < 54", "repeat": "30m", "say": "Water at {value} {unit}"}})
        scene.measure(WATER, [60] + [round(53.9 - n / 10, 1) for n in range(300)] + [30.0] * 60)
        assert scene.titles == ["Cold", "Still: Cold", "Still: Cold"]
        assert scene.told[0].text == "Water at 53.9 °C (11:23)"
        begun = parse_time(scene.document("cold")["since"])
        assert [notice.begun for notice in scene.told] == [(begun,)] * 3, "by which a link knows what it speaks of"
        assert scene.told[1].text == "Water at 36 °C (11:53; since 11:23)"
        shown = scene.document("cold")
        assert (shown["value"], shown["worst"]) == (30.0, 24.0)
        assert shown["time"] > shown["worst_time"]

    def test_what_is_over_within_the_gathering_is_told_in_one_message(self) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 80"}}, gather=5)
        scene.measure(WATER, [70, 91.3, 70], every=1)
        scene.wait(20)
        assert scene.titles == ["Came and went: Hot"]
        assert not scene.told[0].begun, "nothing is left to acknowledge"
        assert scene.told[0].text == "boiler water is 70 °C (11:23; worst 91.3 °C at 11:23; over after 1s)"

    def test_what_flaps_is_told_as_flapping(self) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 80", "hold_off": "10m"}})
        scene.measure(WATER, [80.1, 79.9] * 90)
        assert (
            scene.titles
            == ["Hot", "Over: Hot", "Flaps: Hot", "Over: Hot", "Flaps: Hot", "Over: Hot"][: len(scene.titles)]
        )
        assert "times, for" in scene.told[2].text

    @pytest.mark.parametrize(
        "say", ["{value:.1f}", "{value!r}", "{value.__class__}", "{value[0]}", "{0}", "{}", "{value:{unit}}", "{value"]
    )
    def test_a_text_that_could_not_be_filled_in_is_refused(self, say: str) -> None:
        (found,) = problems(bad={"when": f"{WATER} > 85", "say": say})
        assert found.startswith("bad.say: ")

    def test_texts_are_plain_lines_whatever_they_hold(self) -> None:
        scene = Scene({"hot": {"when": f"{WATER} > 85", "say": "{{x}} \x1b[31m\nred\x00 " + "long " * 400}})
        scene.measure(WATER, [90])
        assert scene.told[0].text.startswith("{x} \\x1b[31m red\\x00 long long")
        assert len(scene.told[0].text) < 1000


class TestEmergencies:
    RULES: ClassVar = {
        "fire": {"when": f"{WATER} > 85", "priority": 2},
        "hot": {"when": f"{WATER} > 80", "group": "g"},
        "smoke": {"when": f"{FLUE} > 85", "priority": 2},
    }

    def test_each_stands_alone(self) -> None:
        scene = Scene(self.RULES, gather=5)
        scene.feed(FLUE, 90)
        scene.measure(WATER, [90] * 2)
        assert sorted(n.rules for n in scene.told) == [("fire",), ("hot",), ("smoke",)]

    @pytest.mark.parametrize(("hold_off", "told"), [(None, 3), ("10m", 2)])
    def test_one_that_is_over_for_a_moment_is_told_again_at_once(self, hold_off: str | None, told: int) -> None:
        scene = Scene({"fire": {"when": f"{WATER} > 85", "priority": 2, "hold_off": hold_off}})
        scene.measure(WATER, [90, 70, 90])
        assert scene.titles == ["Fire", "Over: Fire", "Fire"][:told]

    def test_one_that_swings_about_its_limit_is_told_as_flapping_after_the_third_time(self) -> None:
        people = {"people": {"ann": "a", "bob": "b"}, "groups": {"all": ["ann", "bob"]}, "notify": "all"}
        rules = {"fire": {"when": f"{WATER} > 85", "priority": 2, "hold_off": None}}
        scene = Scene(rules, notifiers=("a", "b"), **people)
        for _ in range(3):
            scene.measure(WATER, [90, 70] * 15, every=19)
            scene.restart()
        titles = [notice.title for notice in scene.told if notice.notify == "b"]
        assert titles[:7] == ["Fire", "Over: Fire"] * 3 + ["Flaps: Fire"]
        assert "Fire" not in titles[6:]
        assert len(titles) < 20
        assert any("hold-off" in reason for reason in reasons(scene.teller, "fire", scene.at, scene.wall))

    def test_one_that_rang_in_vain_asks_the_next_and_rings_again_unless_acknowledged(self) -> None:
        scene = Scene({"fire": self.RULES["fire"]}, notifiers=("pushover", "mail"))
        scene.measure(WATER, [90] * 3)
        (identity, _), *_ = scene.asked
        scene.teller.hear(identity, Report("pushover", "expired"), scene.wall)
        assert "rang in vain" in scene.teller.news[-1]
        scene.wait(2)
        assert [(n.title, n.notify, n.priority) for n in scene.told[1:]] == [
            ("Still: Fire", "mail", 2),
            ("Still: Fire", "pushover", 2),
        ]
        assert scene.document("fire")["rang_in_vain"] == 1
        scene.teller.acknowledge(["fire"], scene.wall)
        scene.teller.hear(identity, Report("pushover", "expired"), scene.wall)
        scene.wait(5)
        assert len(scene.told) == 3
        scene.measure(WATER, [70] * 2)
        assert sorted((n.title, n.notify) for n in scene.told[3:]) == [
            ("Over: Fire", "mail"),
            ("Over: Fire", "pushover"),
        ]


class TestPeople:
    def test_of_a_group_everybody_is_told_and_of_a_person_the_first_who_delivers(self) -> None:
        people = {"people": {"ann": ["a1", "a2"], "bob": "b"}, "groups": {"all": ["ann", "bob"]}, "notify": "all"}
        scene = Scene({"hot": {"when": f"{WATER} > 85"}}, notifiers=("a1", "a2", "b"), **people)
        scene.down.add("a1")
        scene.measure(WATER, [90] * 60 + [70])
        assert [(n.title, n.notify) for n in scene.told] == [
            ("Hot", "b"),
            ("Hot", "a2"),
            ("Over: Hot", "b"),
            ("Over: Hot", "a2"),
        ] or sorted((n.title, n.notify) for n in scene.told) == [
            ("Hot", "a2"),
            ("Hot", "b"),
            ("Over: Hot", "a2"),
            ("Over: Hot", "b"),
        ]

    def test_an_alert_that_nobody_acknowledges_is_told_to_more_people(self) -> None:
        rules = {"hot": {"when": f"{WATER} > 85", "notify": "a", "escalate": "b", "escalate_after": "10m"}}
        house = Scope(HOUSE.topics, HOUSE.services, ("a", "b"))
        scene = Scene({}, notifiers=("a", "b"))
        scene.judge.load(compile_rules({name: rule(**entry) for name, entry in rules.items()}, house)[0])
        scene.measure(WATER, [90] * 59)
        assert [n.notify for n in scene.told] == ["a"]
        scene.measure(WATER, [90] * 5)
        assert [n.notify for n in scene.told] == ["a", "b"]
        scene.measure(WATER, [70])
        assert sorted(n.notify for n in scene.told[2:]) == ["a", "b"]

    @pytest.mark.parametrize("kept", ["snoozed", "maintenance", "quiet", "explained"])
    def test_escalation_counts_from_when_people_could_know(self, kept: str) -> None:
        hot = {
            "when": f"{WATER} > 85",
            "notify": "a",
            "escalate": "b",
            "escalate_after": "10m",
            "inhibited_by": "cause",
        }
        rules = {"cause": {"when": f"{FLUE} > 85", "notify": "a"}, "hot": hot}
        house = Scope(HOUSE.topics, HOUSE.services, ("a", "b"))
        scene = Scene({}, notifiers=("a", "b"), **({"quiet": "11:00-11:53"} if kept == "quiet" else {}))  # it is 11:23
        scene.judge.load(compile_rules({name: rule(**entry) for name, entry in rules.items()}, house)[0])
        if kept == "explained":
            scene.feed(FLUE, 90)
            scene.wait(1)
        scene.measure(WATER, [90] * 2)
        if kept == "maintenance":
            scene.teller.memory.maintenance = scene.wall + 30 * MINUTE
        if kept == "snoozed":
            scene.teller.snooze(["hot"], scene.wall + 30 * MINUTE)
        scene.measure(WATER, [90] * 178)
        scene.feed(FLUE, 70)
        scene.measure(WATER, [90] * 50)
        assert not [n for n in scene.told if n.notify == "b"], "it was told less than ten minutes ago"
        scene.measure(WATER, [90] * 20)
        assert [n.notify for n in scene.told if "Hot" in n.title][-2:] == ["a", "b"]

    def test_who_was_told_by_escalation_is_left_alone_after_a_snooze_until_nobody_acknowledges_again(self) -> None:
        rules = {"hot": {"when": f"{WATER} > 85", "notify": "a", "escalate": "b", "escalate_after": "10m"}}
        house = Scope(HOUSE.topics, HOUSE.services, ("a", "b"))
        scene = Scene({}, notifiers=("a", "b"))
        scene.judge.load(compile_rules({name: rule(**entry) for name, entry in rules.items()}, house)[0])
        scene.measure(WATER, [90] * 65)
        scene.teller.snooze(["hot"], scene.wall + 30 * MINUTE)
        scene.measure(WATER, [90] * 230)
        assert [(n.title, n.notify) for n in scene.told] == [("Hot", "a"), ("Hot", "b"), ("Still: Hot", "a")]
        scene.measure(WATER, [90] * 20)
        assert [(n.title, n.notify) for n in scene.told[3:]] == [("Still: Hot", "b")]
        scene.measure(WATER, [70])
        assert sorted((n.title, n.notify) for n in scene.told[4:]) == [("Over: Hot", "a"), ("Over: Hot", "b")]

    @pytest.mark.parametrize("refused", [True, False])
    def test_it_escalates_too_where_the_first_cannot_be_told(self, refused: bool) -> None:
        rules = {"hot": {"when": f"{WATER} > 85", "notify": "a", "escalate": "b", "escalate_after": "10m"}}
        house = Scope(HOUSE.topics, HOUSE.services, ("a", "b"))
        scene = Scene({}, notifiers=("a", "b"))
        scene.judge.load(compile_rules({name: rule(**entry) for name, entry in rules.items()}, house)[0])
        scene.down.add("a")
        scene.measure(WATER, [90])
        if refused:
            scene.teller.hear(scene.asked[0][0], Report("a", "failed", "no"), scene.wall)
        scene.measure(WATER, [90] * 65)
        assert [n.notify for n in scene.told] == ["b"]

    def test_quiet_hours_hold_back_what_can_wait(self) -> None:
        rules = {"hot": {"when": f"{WATER} > 85"}, "fire": {"when": f"{FLUE} > 85", "priority": 1}}
        scene = Scene(rules, quiet="11:00-12:00")  # it is 11:23
        scene.measure(WATER, [90, 90])
        scene.measure(FLUE, [90])
        assert scene.titles == ["Fire"]
        scene.wait(37 * 60)
        assert scene.titles == ["Fire", "Hot"]


class TestForSurvivesEverything:
    RULES: ClassVar = {"hot": {"when": f"{WATER} > 85", "for": "5m"}}

    @pytest.mark.parametrize("every", [30, 100])
    def test_kills_and_reloads(self, every: int) -> None:
        scene = Scene(self.RULES, settle=60)
        scene.measure(WATER, [60] * 5)
        for n in range(300 // 10 + 1):
            scene.measure(WATER, [90])
            if n % (every // 10) == 0:
                scene.restart(down=1)
                scene.reload(self.RULES)
        scene.wait(20)
        assert scene.titles == ["Hot"]

    @pytest.mark.parametrize("fresh", [True, None])
    @pytest.mark.parametrize("clock", ["stands", "back"])
    def test_a_clock_that_stands_or_goes_back(self, clock: str, fresh: bool | None) -> None:
        scene = Scene(self.RULES | {"silent": {"stale": WATER}}, settle=60)
        scene.measure(WATER, [60] * 30)
        stood = scene.wall
        for n in range(36):
            moment = stood if clock == "stands" else scene.wall - HOUR
            scene.judge.feed(WATER, 90 + n / 10, moment, scene.at, scene.wall - moment, fresh)
            scene.tick()
            scene.wait(10)
        assert scene.titles == ["Hot"]
        assert [key for key, one in scene.judge.signals.items() if one.by_arrival] == [WATER]

    def test_a_rule_waits_until_its_value_was_once_on_the_good_side(self) -> None:
        scene = Scene({"cold": {"when": f"{WATER} < 56", "clear": 58, "armed_at": 60}})
        scene.measure(WATER, [20] * 100 + [58] * 10)
        assert not scene.told
        scene.measure(WATER, [61, 40])
        assert scene.titles == ["Cold"]
        assert "other side of the limit" in problems(bad={"when": f"{WATER} < 56", "armed_at": 50})[0]


def lines(values: Iterable[tuple[float, Any]], topic: str = WATER) -> list[str]:
    return [
        json.dumps(
            {
                "topic": topic,
                "value": value,
                "unit": "°C",
                "time": datetime.fromtimestamp(START / 1000 + s, UTC).isoformat(),
            }
        )
        for s, value in values
    ]


class TestReplay:
    def test_it_prints_what_would_have_been_published(self) -> None:
        rules = {"hot": rule(when=f"{WATER} > 85", clear=80, **{"for": "1m"})}
        values = [(n * 10, 90 if 20 <= n < 60 else 60) for n in range(100)]
        printed = list(replay(lines(values), rules, HOUSE, messages=True))
        topics = [line.partition(" ")[0] for line in printed]
        assert topics == ["home/alert/hot", "home/notify/1", "home/alert/hot", "home/notify/2"]
        firing, over = (json.loads(printed[n].partition(" ")[2]) for n in (0, 2))
        assert (firing["state"], firing["value"], over["state"]) == ("firing", 90, "ok")
        assert firing["since"] == datetime.fromtimestamp(START / 1000 + 200, UTC).isoformat(
            timespec="milliseconds"
        ).replace("+00:00", "Z")
        assert "over after 6m40s" in printed[3]

    def test_a_gap_in_a_recording_is_nobodys_time(self) -> None:
        rules = {"hot": rule(when=f"{WATER} > 85", **{"for": "1h"}), "silent": rule(stale=WATER)}
        values = [(n * 10, 90) for n in range(10)] + [(9 * 3600 + n * 10, 90) for n in range(10)]
        assert list(replay(lines(values), rules, HOUSE)) == []

    def test_a_sensor_that_is_silent_while_others_speak_is_found(self) -> None:
        both = sorted(
            lines([(n * 10, 60) for n in range(100) if n < 20 or n > 80])
            + lines([(n * 10, 60) for n in range(100)], FLUE),
            key=lambda line: json.loads(line)["time"],
        )
        printed = list(replay(both, {"silent": rule(stale=WATER)}, HOUSE))
        assert [json.loads(line.partition(" ")[2])["state"] for line in printed] == ["firing", "ok"]

    @pytest.mark.parametrize("before", [0, 1, 31, 59])
    @pytest.mark.parametrize(
        ("when", "lasts", "since"), [(f"{WATER} is stale", "1m", 631), (f"{WATER} > 85", "10m", 550)]
    )
    def test_a_sensor_that_dies_is_found_by_signs_that_others_were_heard(
        self, when: str, lasts: str, since: int, before: int
    ) -> None:
        watches, _ = compile_rules({"tried": rule(when=when, **{"for": lasts})}, HOUSE)
        alive = [(WATER, 90.0 if n > 54 else 60.0, START + n * 10_000) for n in range(61)]
        signs = [(ANYTHING, None, START + (n * 60 - before) * SECOND) for n in range(300)]
        given = sorted([*alive, *signs], key=lambda one: one[2])
        (firing,) = try_rule(watches, given, HOUSE).firings
        assert firing.since - START == pytest.approx(since * SECOND, abs=61 * SECOND)
        assert firing.until is None
        assert try_rule(watches, alive, HOUSE).firings == []

    def test_a_topic_that_was_cleared_is_silent_at_once_and_a_night_without_any_sign_is_nobodys_time(self) -> None:
        watches, _ = compile_rules({"tried": rule(stale=METER, **{"for": "5m"})}, HOUSE)
        alive = [(METER, n / 10, START + n * MINUTE) for n in range(61)]
        signs = [(ANYTHING, None, START + n * MINUTE) for n in range(71)]
        back = [(METER, 9.0, START + 9 * HOUR), (ANYTHING, None, START + 9 * HOUR)]
        assert try_rule(watches, sorted([*alive, *signs, *back], key=lambda one: one[2]), HOUSE).firings == []
        cleared = (METER, None, START + 61 * MINUTE)
        (firing,) = try_rule(watches, sorted([*alive, *signs, cleared], key=lambda one: one[2]), HOUSE).firings
        assert (firing.since - START) // MINUTE in (61, 62)

    def test_a_source_an_hour_late_gives_the_same_alerts(self) -> None:
        rules = {"hot": rule(when=f"{WATER} > 85", **{"for": "5m"})}
        water = [(n * 10, 90 if 300 <= n < 400 else 60) for n in range(1000)]
        flue = lines([(n * 10, 60) for n in range(1000)], FLUE)
        in_time = [line for pair in zip(lines(water), flue, strict=True) for line in pair]
        late = flue[:360] + [
            line for pair in zip(lines(water), flue[360:] + flue[-1:] * 360, strict=True) for line in pair
        ]
        assert list(replay(late, rules, HOUSE)) == list(replay(in_time, rules, HOUSE))

    def test_a_clock_that_goes_back_some_minutes_alarms_nobody(self) -> None:
        values = [(n * 10, 90 if n % 7 == 0 else 60) for n in range(100)]
        back = [(s - 400, value) for s, value in values]
        assert list(replay(lines(values + back), {"hot": rule(when=f"{WATER} > 85", **{"for": "1m"})}, HOUSE)) == []

    def test_what_is_no_value_of_the_topic_is_passed_over(self) -> None:
        house = Scope({WATER: Line(low=1, high=120)}, ())
        rules = {"cold": rule(when=f"{WATER} < 50", **{"for": "1m"})}
        values: list[tuple[float, Any]] = [
            (n * 10, 60 if n % 5 == 0 else (-1, 17_632, "x", True)[n % 4]) for n in range(100)
        ]
        assert list(replay(lines(values), rules, house)) == []
        assert list(replay(lines([(n * 10, 40) for n in range(10)], f"home/data/{WATER}"), rules, house)) != []

    def test_a_line_that_is_no_reading_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"line 2: .*one JSON object a line"):
            list(replay([*lines([(0, 1)]), "{"], {"hot": rule(when=f"{WATER} > 85")}, HOUSE))


def test_a_thousand_rules_cost_next_to_nothing_per_reading() -> None:
    topics = {f"room_{n}/wall/temperature": Line(label=f"room {n}") for n in range(1000)}
    house = Scope(topics=topics, services=())

    def cost(count: int) -> float:
        rules = {f"cold_{n}": rule(when=f"room_{n}/wall/temperature < 5") for n in range(count)}
        judge = Judge()
        judge.load(compile_rules(rules, house)[0])
        judge.resume(1)
        best = 1e9
        moment = START
        for _ in range(5):
            began = time.process_time()
            for n in range(2000):
                moment += 10
                judge.feed("room_0/wall/temperature", 20.0, moment, n, 0)
            judge.tick(moment - START, moment)
            best = min(best, time.process_time() - began)
        return best / 2000

    assert cost(1000) < 3 * cost(1) + 2e-6


RECORDING = Path(__file__).resolve().parents[2] / "shared" / "vectors" / "boiler_open.csv"


@pytest.mark.skipif(not RECORDING.exists(), reason="the recording is not part of the project")
def test_on_the_recording_the_outage_and_the_silence_are_announced_once_and_taken_back_once() -> None:
    names = {"temp0": WATER, "temp1": FLUE, "watt1": "boiler/auger/current"}
    with RECORDING.open() as file:
        recorded = [
            json.dumps({"topic": topic, "value": float(row[column]), "time": row["timestamp"].replace(" ", "T") + "Z"})
            for row in csv.DictReader(file)
            for column, topic in names.items()
        ]
    found = [
        line.removeprefix("home/data/")
        for line in phase.replay(recorded, {WATER: "water", FLUE: "flue"}, phase.Rules())
    ]
    for line in found:
        topic, _, payload = line.partition(" ")
        recorded.append(json.dumps(json.loads(payload) | {"topic": topic}))
    recorded.sort(key=lambda line: json.loads(line)["time"])
    faults = {f"{fault}_fault": f"boiler/burner/{fault}_fault" for fault in phase.FAULTS}
    topics = {WATER: Line(low=1, high=120), FLUE: Line(low=1, high=120), "boiler/auger/current": Line()}
    house = Scope(topics | {topic: Line(kind="switch") for topic in faults.values()}, ())
    rules = {name: rule(when=f"{topic} == true") for name, topic in faults.items()}
    rules |= {
        "cold": rule(when=f"{WATER} < 54", clear=56, **{"for": "5m"}),
        "silent": rule(stale=WATER, **{"for": "5m"}),
    }
    told = [
        (name.removeprefix("home/alert/"), json.loads(shown)["state"], json.loads(shown)["since"][5:15])
        for name, _, shown in (line.partition(" ") for line in replay(recorded, rules, house))
    ]
    assert told == [
        ("ignition_failed_fault", "firing", "04-24T20:5"),
        ("cold", "firing", "04-24T23:5"),
        ("ignition_failed_fault", "ok", "04-25T07:4"),
        ("cold", "ok", "04-25T09:0"),
        ("silent", "firing", "04-25T13:4"),
        ("silent", "ok", "04-25T21:1"),
    ]


def test_the_recipes_of_the_documentation_can_be_used() -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "alerts.md").read_text()
    block = re.search(r"## Recipes\n\n((?:    .*\n|\n)+)", text)
    assert block is not None
    entries = yaml.safe_load(textwrap.dedent(block[1]))["alerts"]
    assert len(entries) > 10
    words = {"phase": ("off",)}
    names = {name for entry in entries.values() for name in re.findall(r"[a-z_]+/[a-z_]+/[a-z_0-9]+", str(entry))}
    kinds = {"fault": "switch", "volume": "counter"}
    topics = {
        name: Line(kind=kinds.get(name.rpartition("_")[2].rpartition("/")[2], "gauge"), states=words.get(name, ()))
        for name in names
    }
    house = Scope(topics, ("onewire", "archive"), ("pushover", "mail"))
    assert problems(house, **entries) == []


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("9999-12-31T23:59:59.999Z", "line 2: .*lies ahead of now"),
        ("2090-01-01T00:00:00.000Z", "line 2: .*lies ahead of now"),
        ("1970-01-01T00:00:07.000Z", "line 2: .*is before 2000"),
        ("0001-01-01T00:00:00.000+14:00", "line 2: .*is before 2000"),
    ],
)
def test_a_recording_begins_as_editors_write_it_and_a_time_that_cannot_be_is_named(time: str, said: str) -> None:
    lines = [f'\ufeff{{"topic":"{WATER}","value":90,"time":"2001-01-01T00:00:00.000Z"}}'.encode()]
    assert len(list(replay(lines, {"hot": rule(when=f"{WATER} > 85")}, HOUSE))) == 1
    assert len(list(replay_boiler(lines, {WATER: "water"}, Rules()))) > 1
    lines.append(f'{{"topic":"{WATER}","value":90,"time":"{time}"}}'.encode())
    with pytest.raises(ValueError, match=said):
        list(replay(lines, {"hot": rule(when=f"{WATER} > 85")}, HOUSE))
    with pytest.raises(ValueError, match=said):
        list(replay_boiler(lines, {WATER: "water"}, Rules()))


def test_a_wrong_line_is_named_by_its_own_number_although_phase_is_put_between(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoken = [(f"boiler/{role}/temperature", START + n * MINUTE) for n in range(30) for role in ("water", "flue")]
    spoken.append(("boiler/box/temperature", 3_786_912_000_000))
    file = tmp_path / "stray.jsonl"
    file.write_text("".join(f'{{"topic":"{topic}","value":60,"time":"{format_time(at)}"}}\n' for topic, at in spoken))
    assert main(["--config", str(PROJECT / "topics.yaml"), "replay", "alerts", str(file)]) == os.EX_UNAVAILABLE
    assert "line 61: 2090-01-01" in capsys.readouterr().err


def test_a_recording_of_one_topic_after_the_other_is_put_in_order_or_refused() -> None:
    def each(hours: float) -> list[bytes]:
        spoken = [(topic, START + n * MINUTE) for topic in (WATER, FLUE) for n in range(int(hours * 60))]
        return [f'{{"topic":"{name}","value":60,"time":"{format_time(at)}"}}'.encode() for name, at in spoken]

    silent, inputs = {"silent": rule(stale=WATER)}, {WATER: "water", FLUE: "flue"}
    assert list(replay(each(2), silent, HOUSE)) == []
    assert list(replay(each(2)[:40] + each(2)[120:], silent, HOUSE)) != [], "what is silent is found all the same"
    for hours in (3, 6):
        refused = rf"line {hours * 60 + 1}: {FLUE} begins more than two hours before .*in the order of time"
        with pytest.raises(ValueError, match=refused):
            list(replay(each(hours), silent, HOUSE))
        with pytest.raises(ValueError, match=refused):
            list(replay_boiler(each(hours), inputs, Rules()))
