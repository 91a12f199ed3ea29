"""What the page shows is true: what if is what was, whoever dies, whatever is sent, and whichever sensor is pulled."""

import contextlib
import json
import random
import time
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from harness import Broker, Ear, busy, wait_for
from served import FLUE, SOC, WATER, Page, wait_on
from voices import ask_database, now

from services.simulators.onewire import Tree as OneWireBus

pytestmark = pytest.mark.long

RULES = {
    "hot": "{when: boiler/water/temperature > 85, clear: 80, hold_off: 0s}",
    "long": "{when: boiler/water/temperature > 85, for: 1s, hold_off: 0s}",
    "never": "{when: boiler/water/temperature > 99}",
    "cold": "{when: boiler/flue/temperature < 40, hold_off: 0s}",
}


def row(tab: Any, topic: str = WATER) -> dict[str, str]:
    """How a topic's row looks."""
    script = """topic => { const r = document.querySelector(`.r[data-k="${topic}"]`); return r ? {state: r.dataset.s, figure: r.querySelector('.v').innerText.replace(/\\s/g, '')} : {state: '', figure: ''}; }"""
    return dict(tab.evaluate(script, topic))


def test_what_if_gives_the_very_alerts_that_the_live_service_gave(page: Page) -> None:
    page.house.write(
        page.house.config.read_text().partition("\n")[2].partition("alerts:\n  hot")[0]
        + "alerts:\n"
        + "".join(f"  {name}: {rule}\n" for name, rule in RULES.items())
    )
    for name in ("archive", "alerts"):
        page.house.start(name)
    wait_for(lambda: page.get("house")["services"]["alerts"].get("status") == "online", what="alerts")
    wait_for(lambda: page.get("house")["alerts"].keys() == RULES.keys(), what="all rules")
    begun, given = now() - 1000, 0
    shape = [60] * 3 + [86] * 4 + [82] * 3 + [90] * 2 + [79] * 3 + [95] * 14 + [60] * 3 + [85, 86, 85, 79] * 2
    for number, degrees in enumerate(shape):
        page.say(WATER, degrees + 0.5)
        page.say(FLUE, 35.0 if 10 <= number < 20 or number > 35 else 120.0)
        given += 2
        time.sleep(0.1)
    archive = page.house.state("archive") / "archive.sqlite"
    wait_for(
        lambda: ask_database(archive, "SELECT count(*) FROM readings") == [(given,)], what="all readings in the archive"
    )
    until = now()

    def truth() -> dict[str, list[tuple[int, int | None]]]:
        fired: dict[str, list[tuple[int, int | None]]] = {name: [] for name in RULES}
        for one in page.get(f"alerts?from={begun}")["fired"]:
            fired[one["name"]].append((one["since"], one["until"]))
        return {name: sorted(spans, key=lambda span: span[0]) for name, spans in fired.items()}

    wait_for(lambda: sum(len(spans) for spans in truth().values()) >= 7, what="what fired, in the diary")
    wait_for(lambda: [one[1] is None for one in truth()["cold"]] == [False, True], what="the last of it")
    wait_for(
        lambda: all(end is not None for name in ("hot", "long") for _, end in truth()[name]), what="the other ends"
    )
    lived = truth()
    assert (len(lived["hot"]), len(lived["never"]), len(lived["cold"])) == (4, 0, 2), lived
    for name in RULES:
        found = page.get(f"what-if?rule={name}&from={begun}&to={until}")
        lasts = 1000 if name == "long" else 0
        assert [(since - lasts, end) for since, end in found["fired"]] == lived[name], (name, found, lived)
        assert found["whole"]
    typed = urllib.parse.quote("boiler/water/temperature > 85 for 1s")
    assert len(page.get(f"what-if?rule={typed}&from={begun}&to={until}")["fired"]) == len(lived["long"]) >= 1


def test_whatever_is_sent_leaves_no_error_on_the_page(page: Page, look: Any, ear: Ear) -> None:
    """`look` fails at its end where the page said an error."""
    tab = look("view=now")
    dice = random.Random(13)
    strange: list[Any] = [None, True, -1e308, "", "x" * 3000, "<b>&\u202e", [], {}, [[[]]], {"value": {}}, 1e18]
    keys = ("value", "unit", "time", "state", "since", "text", "rule", "topic", "health", "last_error", "counters")
    topics = [f"home/data/{WATER}", f"home/data/{SOC}", "home/alert/hot", "home/alert/other"]
    topics += [f"home/service/{name}/{what}" for name in ("alerts", "onewire") for what in ("health", "status", "log")]
    views = ["view=now", "view=alerts", "view=services", "view=proof", "kiosk"]
    for number in range(300):
        made = {key: dice.choice(strange) for key in dice.sample(keys, 4)}
        payload = json.dumps(dice.choice([made, dice.choice(strange)])).encode()
        ear.say(
            dice.choice(topics), dice.choice([payload, payload[: len(payload) // 2], dice.randbytes(40), b""]), qos=0
        )
        if number % 60 == 59:
            tab.evaluate(
                f"history.replaceState(null, '', '?{views[number // 60]}'); dispatchEvent(new PopStateEvent('popstate'))"
            )
            tab.wait_for_timeout(300)
    tab.evaluate("history.replaceState(null, '', '?view=now'); dispatchEvent(new PopStateEvent('popstate'))")
    wait_for(lambda: page.say(WATER, 61.5) or row(tab) == {"state": "live", "figure": "61.5"}, what="a true value")


@pytest.mark.whole
@pytest.mark.slow
def test_three_browsers_survive_the_death_of_page_broker_and_archive(page: Page, broker: Broker, look: Any) -> None:
    page.house.start("archive")
    tabs = [look(view) for view in ("view=now", "view=now&lang=de", "view=now&lang=fr")]
    for tab in tabs:
        tab.evaluate("window.born = 1")  # a page that is loaded anew forgets it
    value = 40.0
    shown: set[str] = set()

    def all_show(figure: str) -> bool:
        page.say(WATER, float(figure))
        rows = [row(tab) for tab in tabs]
        shown.update(one["figure"].replace(",", ".") for one in rows if one["state"] == "live")
        return all(one == {"state": "live", "figure": figure.replace(".", one["figure"][-2:-1])} for one in rows)

    for victim in ("web", "broker", "archive", "broker", "web"):
        value += 1
        figure, before = f"{value:.1f}", f"{value - 1:.1f}"
        wait_for(lambda figure=figure: all_show(figure), 40, f"{figure} in all three browsers")
        assert shown <= {before, figure}, f"what is shown as alive is what was measured last, not {shown}"
        if victim == "broker":
            broker.kill()
        else:
            page.house.kill(victim)
        if victim != "archive":
            for tab in tabs:
                wait_on(tab, "document.body.classList.contains('nobroker')", 15)
                assert row(tab)["state"] not in ("live", "guess"), victim
        if victim == "broker":
            broker.start()
        else:
            page.house.start(victim)
        for tab in tabs:
            wait_on(tab, "!document.body.classList.contains('nobroker')", 60)
        shown.clear()
    figure = f"{value + 1:.1f}"
    wait_for(lambda: all_show(figure), 40, "the last value in all three browsers")
    assert [tab.evaluate("window.born") for tab in tabs] == [1, 1, 1], "nothing was loaded anew"


SENSORS = {WATER: "28-0316a4f1c9ff", FLUE: "28-0316a4f1d2aa"}


@pytest.mark.whole
@pytest.mark.slow
def test_a_pulled_sensor_is_not_shown_after_stale_and_five_seconds(page: Page, look: Any, tmp_path: Path) -> None:
    stale = 2.0
    text = page.house.config.read_text().partition("\n")[2]
    text = text.replace(
        "onewire: {every: 2s, stale: 5s}", f"onewire: {{every: 200ms, stale: {stale:g}s, bus: {tmp_path}/w1}}"
    )
    for topic, (number, sensor) in zip(SENSORS, enumerate(SENSORS.values(), 1), strict=True):
        assert topic in text
        text = text.replace(f"28-00000000000{number}", sensor)
    page.house.write(text)
    with OneWireBus(tmp_path / "w1") as bus, contextlib.ExitStack() as stack:
        for sensor in SENSORS.values():
            bus.set(sensor, 61.5)
        page.house.start("onewire")
        stack.callback(page.house.stop, "onewire")
        tab = look("view=now")

        def lives(topic: str, figure: str) -> bool:
            found = row(tab, topic)
            return found["state"] in ("live", "guess") and found["figure"] == figure

        for topic, sensor in SENSORS.items():
            wait_for(lambda topic=topic: lives(topic, "61.5"), what=topic)
            bus.unplug(sensor)
            began = time.monotonic()
            wait_for(lambda topic=topic: row(tab, topic) == {"state": "silent", "figure": "—"}, what=f"{topic} gone")
            assert time.monotonic() - began < busy(stale + 5)
            tab.reload()
            wait_for(lambda topic=topic: row(tab, topic)["state"] == "silent", what="the same after a reload")
            bus.set(sensor, 62.5)
            wait_for(lambda topic=topic: lives(topic, "62.5"), what=f"{topic} back")
            bus.set(sensor, 61.5)
