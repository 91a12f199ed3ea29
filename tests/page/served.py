"""A small house whose page is served: its topics, its archive, and doors to knock at."""

import contextlib
import http.client
import json
import sqlite3
import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from harness import Broker, House, free_port, wait_for
from voices import Voice, now

from services.page import people
from services.stores import days, hours, schema

WATER, FLUE, BOX, PUMP = (
    "boiler/water/temperature",
    "boiler/flue/temperature",
    "boiler/box/temperature",
    "boiler/pump/active",
)
PHASE, SOC, METER, BIKES = (
    "boiler/burner/phase",
    "shed/battery/soc",
    "house/electricity/import_energy",
    "street/stand/bikes_count",
)
CELLS = [f"shed/battery/cell_{n}_voltage" for n in range(1, 5)]

TOPICS = """
timezone: Europe/Paris
sources:
  onewire: {{every: 2s, stale: 5s}}
  bms: {{every: 2s, stale: 5s, batteries: {{}}}}
  wmbus: {{device: /dev/null, every: 16s, stale: 5m}}
subscribers:
  web: {{port: {port}, heartbeat: 500ms, tariffs: {{house/electricity/import_energy: [{{from: "2026-01-01", price: 0.25}}]}}{web}}}
  archive: {{commit: 50ms, every: 200ms, group: 1m, heartbeat: 500ms}}
  alerts: {{every: 100ms, settle: 0s, gather: 0s, heartbeat: 500ms}}
  phase: {{stale: 15m}}
topics:
  boiler/water/temperature: {{from: onewire, id: 28-000000000001, label: Boiler water}}
  boiler/flue/temperature: {{from: onewire, id: 28-000000000002}}
  boiler/box/temperature: {{from: onewire, id: 28-000000000003, label: '<script>window.broken=1</script>"&\\u202Ebox'}}
  boiler/pump/active: {{from: onewire, id: 28-000000000004}}
  boiler/burner/phase: {{from: phase, states: [unknown, off, ignition, combustion, burnout, keep_fire]}}
  shed/battery/soc: {{from: bms}}
  shed/battery/cell_{{1..4}}_voltage: {{from: bms}}
  house/electricity/import_energy: {{from: wmbus, meter: 12345678}}
  street/stand/bikes_count: {{from: bms, store: false}}
phases:
  boiler: {{thing: boiler/burner, inputs: {{water: boiler/water/temperature, flue: boiler/flue/temperature}}}}
alerts:
  hot: {{when: boiler/water/temperature > 85, clear: 80, say: "Boiler at {{value}} {{unit}} <b>"}}
"""


class Page:
    """A house whose page is served, with doors to knock at."""

    def __init__(self, house: House, port: int, voice: Voice) -> None:
        self.house, self.port, self.voice = house, port, voice
        self.url = f"http://127.0.0.1:{port}/"
        self.cookie = ""

    def knock(
        self, path: str, body: Any = None, method: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            given["Cookie"] = self.cookie
        if body is not None:
            given = {"Content-Type": "application/json", "Origin": self.url.rstrip("/")} | given
        content = body if isinstance(body, (bytes, str)) or body is None else json.dumps(body)
        connection.request(method or ("GET" if body is None else "POST"), path, content, given)
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def get(self, path: str) -> Any:
        """JSON of a door."""
        status, _, body = self.knock(f"/api/1/{path}")
        assert status == 200, (path, status, body)
        return json.loads(body)

    def say(self, topic: str, value: Any, unit: str = "°C", moment: int | None = None) -> None:
        """Publish a reading, now."""
        self.voice.say(topic, value, moment or now(), unit=unit)

    def log_in(self) -> None:
        """Be somebody."""
        status, headers, body = self.knock("/api/1/login", {"name": "ada", "password": PASSWORD})
        assert status == 200, body
        self.cookie = headers["set-cookie"].partition(";")[0]

    def restart(self) -> None:
        """Kill the page's service and start it again."""
        self.house.kill("web")
        self.house.start("web")

    def close(self) -> None:
        """End it all; a traceback in any log fails the test."""
        self.voice.close()
        self.house.close()


PASSWORD = "a long enough word"
PEOPLE = f"ada:{people.hashed(PASSWORD)}\n"


def fill_archive(path: Path, since: int, until: int, spike: int, hole: tuple[int, int]) -> None:
    """An archive of minutes: a wave with one reading that stands out, an hour's hole, a counter, a fire a day, two minutes' readings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = schema.open_database(f"sqlite:///{path}", path.parent)
    schema.migrate(engine)
    engine.dispose()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for number, (name, unit, kind) in enumerate(
            ((WATER, "°C", "gauge"), (FLUE, "°C", "gauge"), (METER, "kWh", "counter"), (PHASE, "", "state")), 1
        ):
            db.execute("INSERT INTO topics VALUES (?, ?, ?, ?)", (number, name, unit, kind))
        minutes = [t for t in range(since, until, 60_000) if not hole[0] <= t < hole[1]]

        def wave(t: int) -> float:
            return 60 + 10 * (t // 60_000 % 720) / 720

        high = {t: 121.9 if t == spike else wave(t) + 0.4 for t in minutes}
        db.executemany(
            "INSERT INTO minutes (topic, time, count, mean, low, high) VALUES (1, ?, 6, ?, ?, ?)",
            ((t, wave(t), wave(t) - 0.4, high[t]) for t in minutes),
        )
        db.executemany(
            "INSERT INTO minutes (topic, time, count, last, difference) VALUES (3, ?, 1, ?, 0.01)",
            ((t, 100 + 0.01 * i) for i, t in enumerate(minutes)),
        )
        db.executemany(
            "INSERT INTO minutes (topic, time, count, word) VALUES (4, ?, 1, ?)",
            ((t, "combustion" if t // 60_000 % 720 < 180 else "off") for t in minutes),
        )


def serve(
    folder: Path, broker: Broker, past: tuple[int, int, int, tuple[int, int]], *more: str, **credentials: str
) -> Page:
    """A house whose page is served beside `more` services: with a past (see `fill_archive`), a reading and somebody logged in."""
    house = House(folder / "house", broker.port)
    page = Page(house, free_port(), Voice(broker.port))
    try:
        house.write(TOPICS.format(port=page.port, web=""))
        kept = house.folder / "credentials"
        kept.mkdir(parents=True)
        for name, text in {people.SECRET: PEOPLE, **credentials}.items():
            (kept / name).touch(mode=0o600)
            (kept / name).write_text(text)
        house.environment = {**house.environment, "CONSTELLATION_CREDENTIALS": str(kept)}
        fill_archive(house.state("archive") / "archive.sqlite", *past)
        for service in (*more, "web"):
            house.start(service, wait=False)
        for service in (*more, "web"):
            wait_for(lambda service=service: ": started" in house.log(service), what=f"start of {service}")
        wait_for(lambda: not page.get("house").get("gone"), what="the broker, on the page")
        for service in more:
            said = lambda service=service: page.get("house")["services"][service].get("status") == "online"  # noqa: E731
            wait_for(said, what=f"{service}, on the page")
        page.say(WATER, 61.4)
        wait_for(lambda: page.get(f"topics/{WATER}").get("value") == 61.4, what="the value")
        page.log_in()
    except BaseException:
        page.close()
        raise
    return page


def compute_hours(path: Path, now: int, zone: str = "Europe/Paris") -> None:
    """Give an archive its hours, as its own service does beside its work."""
    engine = schema.open_database(f"sqlite:///{path}", path.parent)
    with engine.begin() as connection:
        days.fill(connection, ZoneInfo(zone), now)
        while hours.advance(hours.below(connection), now) is None:
            pass
    engine.dispose()


def wait_on(tab: Any, script: str, timeout: float = 20.0) -> Any:
    """What a script returns, as soon as it is true; Playwright's own waiting is forbidden by the page's policy.

    A page that is loading has not yet what the script asks for: that it raises then is no answer, either.
    """
    from playwright.sync_api import Error as NotYet

    deadline = time.monotonic() + timeout
    while True:
        value: Any = None
        try:
            value = tab.evaluate(script)
        except NotYet as error:
            if time.monotonic() > deadline:
                pytest.fail(f"not within {timeout:g} s: {script}\n{error}")
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout:g} s: {script}\n{tab.inner_text('main')[:2000]}")
        tab.wait_for_timeout(50)
