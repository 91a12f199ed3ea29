"""The page of a fleet: houses by state and proof, months beside each other, and each role sees and may do what is its own."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from fleet_engines import ACCESS, PASSWORD, MariaServer
from harness import Broker, Ear, House, free_port, wait_for

from services.fleet import partitions, roster, summing, tables
from services.fleet.engine import Engine
from services.fleet.roster import RosterHouse
from services.fleet.store import CentralStore
from services.page import people

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

WATER, METER = "boiler/water/temperature", "house/electricity/import_energy"
FUEL, DEGREEDAYS = "boiler/burner/day_mass", "boiler/burner/day_degreedays"
HOUR, DAY = 3_600_000, 86_400_000
NOW = time.time_ns() // 1_000_000
BEGIN = NOW - 40 * DAY
WORD = "a long enough word"
PEOPLE = {
    "owen": ("owner", ["h1"]),
    "ina": ("installer", ["h1", "h2"]),
    "olga": ("operator", []),
    "nobody": ("owner", []),
}


def fill(engine: Engine) -> None:
    """Three houses: forty days of a meter, of fuel and degree days, and two hours of a temperature; h2 lacks something."""
    ages = {table.name: 100 * DAY for table in tables.ALL if table.period}
    partitions.create(engine, NOW, ages)
    store = CentralStore(engine, "all", "test")
    assert store.hold(NOW)
    for number, name in enumerate(("h1", "h2", "h3"), 1):
        assert store.claim(name, NOW) == "new"
        house = store.load(name, f"{name}/home")
        for day in range(40):
            noon = BEGIN + day * DAY
            store.store(house.topic(METER, "kWh"), noon, 100.0 + 2.0 * number * day)
            store.store(house.topic(FUEL, "kg"), noon, 12.0 * number)
            store.store(house.topic(DEGREEDAYS, "K·d"), noon, 10.0)
        for n in range(240):
            store.store(house.topic(WATER, "°C"), NOW - 2 * HOUR + n * 30_000, 60.0 + n / 10)
        if name == "h2":
            house.lack(NOW - HOUR, NOW)
        assert store.commit([house], NOW) == []
        for hour in summing.due(engine, int(house.number or 0), NOW, 1000):
            summing.sum_up(engine, int(house.number or 0), hour, "UTC")
    store.leave()


class FleetSite:
    """A centre with a page, and people who knock."""

    def __init__(self, folder: Path, server: MariaServer) -> None:
        self.broker = Broker(folder / "broker").start()
        self.house, self.ear = House(folder / "house", self.broker.port), Ear(self.broker.port, "cellar/#")
        server.cluster.prepare("paged", ACCESS.user, PASSWORD)
        self.engine = Engine(server.kind, server.nodes, ACCESS._replace(database="paged"))
        fill(self.engine)
        self.file, self.port = folder / "fleet.json", free_port()
        self.members("h1", "h2", "h3")
        credentials = folder / "credentials"
        credentials.mkdir()
        for name, content in (
            ("fleet.engine", PASSWORD),
            ("fleet_page.people", "".join(f"{name}:{people.hashed(WORD)}\n" for name in (*PEOPLE, "stranger"))),
        ):
            (credentials / name).touch(0o600)
            (credentials / name).write_text(content)
        self.house.environment["CONSTELLATION_CREDENTIALS"] = str(credentials)
        known = {name: {"role": role, "houses": houses} for name, (role, houses) in PEOPLE.items()}
        nodes = json.dumps(self.engine.nodes)
        self.house.write(
            f"root: cellar\nsubscribers:\n  fleet_page: {{nodes: {nodes}, database: paged, houses: {self.file}, port: {self.port},"
            f" people: {json.dumps(known)}}}\n  central: {{nodes: {nodes}}}\n"
        )
        self.house.start("fleet_page")
        self.cookies = {name: self.log_in(name) for name in PEOPLE}

    def members(self, *names: str, revoked: str = "") -> None:
        roster.write(self.file, roster.Roster({name: RosterHouse(revoked=name == revoked) for name in names}))

    def knock(self, who: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        given = {"Cookie": self.cookies[who]} if who else {}
        if body is not None:
            given |= {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{self.port}"}
        given |= headers
        connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), given)
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def log_in(self, name: str) -> str:
        status, headers, body = self.knock("", "/api/1/login", {"name": name, "password": WORD})
        assert status == 200, body
        return headers["set-cookie"].partition(";")[0]

    def get(self, who: str, path: str) -> Any:
        status, _, body = self.knock(who, f"/api/1/{path}")
        assert status == 200, (path, status, body)
        return json.loads(body)

    def status(self, who: str, path: str, body: Any = None, **headers: str) -> int:
        return self.knock(who, f"/api/1/{path}", body, **headers)[0]

    def close(self) -> None:
        self.ear.close()
        self.engine.close()
        self.house.close()
        self.broker.stop()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetSite]:
    server = MariaServer(tmp_path_factory.mktemp("paged") / "mariadb")
    site = FleetSite(tmp_path_factory.mktemp("site"), server)
    yield site
    site.close()
    server.close()


def test_houses_are_shown_by_state_and_proof(site: FleetSite) -> None:
    for name in ("h1", "h2"):
        site.ear.say(f"{name}/link", b"1", retain=True)
    health = {
        "state": "running",
        "version": "0.9.1",
        "counters": {"published": 812},
        "spool": {"waiting": 7, "dropped": 2},
    }
    site.ear.say("h1/home/service/onewire/health", json.dumps(health))
    for poison in (b"\xff", b"[]", b'{"counters":5}', b'{"counters":{"published":"x"}}'):
        site.ear.say("h2/home/service/onewire/health", poison)
    site.ear.say("h2/home/service/onewire/health", json.dumps(health | {"version": "0.9.2"}))
    shown = wait_for(
        lambda: [
            one for one in [{row["name"]: row for row in site.get("olga", "houses")}] if one["h2"]["version"] == "0.9.2"
        ],
        what="what the houses say",
    )[0]
    assert {name: row["state"] for name, row in shown.items()} == {"h1": "whole", "h2": "lacking", "h3": "silent"}
    one = shown["h1"]
    assert (one["taken"], one["waiting"], one["dropped"], one["version"], one["gaps"]) == (812, 7, 2, "0.9.1", 0)
    assert (shown["h2"]["gaps"], shown["h2"]["lacking"], shown["h3"]["linked"]) == (1, HOUR, None)
    assert abs(one["heard"] - time.time_ns() // 1_000_000) < 60_000
    assert one["shard"] == "all"


def test_one_house_is_shown_from_the_engine(site: FleetSite) -> None:
    shown = site.get("owen", "houses/h1")
    topics = {topic["name"]: topic for topic in shown["topics"]}
    assert topics[WATER] | {"number": 0} == {
        "name": WATER, "unit": "°C", "kind": "", "label": "", "number": 0, "time": NOW - 2 * HOUR + 239 * 30_000, "value": 83.9,
    }  # fmt: skip
    assert shown["stored_today"] in (240, 243)
    begin = NOW - 2 * HOUR - 60_000
    curve = site.get("owen", f"houses/h1/curve?topic={WATER}&from={begin}&buckets=20")
    assert curve["unit"] == "°C"
    assert min(point[2] for point in curve["points"]) == 60.0
    assert max(point[3] for point in curve["points"]) == 83.9
    long = site.get("owen", f"houses/h1/curve?topic={METER}&from={BEGIN - DAY}&buckets=60")
    assert (long["points"][0][2], long["points"][-1][3]) == (100.0, 178.0)
    assert site.status("owen", f"houses/h1/curve?topic=no/such/topic&from={begin}") == 404


def test_months_of_houses_stand_beside_each_other(site: FleetSite) -> None:
    found = site.get("ina", f"months?topic={METER}&from={BEGIN - DAY}")
    assert sorted(found) == ["h1", "h2"]
    for number, name in enumerate(("h1", "h2"), 1):
        assert sum(month["counted"] for month in found[name]) == pytest.approx(2.0 * number * 39)
        assert {round(month["intensity"], 6) for month in found[name]} == {1.2 * number}
        assert sum(month["degreedays"] for month in found[name]) == 400.0


def test_each_role_sees_and_may_do_what_is_its_own(site: FleetSite) -> None:
    assert [row["name"] for row in site.get("owen", "houses")] == ["h1"]
    assert [row["name"] for row in site.get("ina", "houses")] == ["h1", "h2"]
    assert [row["name"] for row in site.get("olga", "houses")] == ["h1", "h2", "h3"]
    assert site.get("nobody", "houses") == []
    assert site.get("owen", "me") == {"name": "owen", "role": "owner"}
    span, ask, erase = f"from={NOW - HOUR}", "services/archive/read", {"confirm": "h2"}
    for path in ("houses/h2", f"houses/h2/curve?topic={WATER}&{span}", f"houses/h2/export?{span}", "houses/h9"):
        assert site.status("owen", path) == 404
        assert site.status("", path) == 401
    assert site.status("owen", f"houses/h2/{ask}", {}) == 404
    assert site.status("owen", "houses/h2/erase", erase) == 404
    # of his own house an owner asks nothing, and an installer exports and deletes nothing
    assert site.status("owen", f"houses/h1/{ask}", {}) == 403
    assert site.status("owen", "houses/h1/erase", {"confirm": "h1"}) == 403
    assert site.status("ina", f"houses/h1/export?{span}") == 403
    assert site.status("ina", "houses/h2/erase", erase) == 403
    assert site.status("olga", "houses/h2/erase", erase, Origin="http://elsewhere.example") == 403
    assert site.status("", "houses") == 401  # this machine is not enough
    assert site.knock("", "/api/1/login", {"name": "owen", "password": "not this"})[0] == 401
    assert site.knock("", "/api/1/login", {"name": "stranger", "password": WORD})[0] == 401  # a password, but no role


def test_a_service_of_a_house_is_asked_by_the_store_in_somebodys_name(site: FleetSite) -> None:

    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.append(site.knock("ina", "/api/1/houses/h1/services/onewire/read", {}))
    )
    thread.start()
    asked = site.ear.wait("cellar/service/central/request/ask")
    assert {key: asked[key] for key in ("house", "instance", "verb", "by")} == {
        "house": "h1", "instance": "onewire", "verb": "read", "by": "ina",
    }  # fmt: skip
    site.ear.say(
        "cellar/service/central/response/ask", json.dumps({"status": "ok", "data": {"a": 1}, "id": asked["id"]})
    )
    thread.join(30)
    assert (found[0][0], json.loads(found[0][2])) == (200, {"a": 1})
    assert "ina asks h1/onewire to read" in site.house.log("fleet_page")
    assert site.status("ina", "houses/h1/services/onewire/stop", {}) == 404


def test_the_page_is_files_of_its_own(site: FleetSite) -> None:
    for path, kind in (("/", "text/html"), ("/fleet.js", "text/javascript"), ("/fleet.css", "text/css")):
        status, headers, _ = site.knock("", path)
        assert (status, headers["content-type"].partition(";")[0]) == (200, kind)
        assert "default-src 'self'" in headers["content-security-policy"]


@pytest.mark.whole
def test_a_person_looks_at_the_fleet_in_a_browser(site: FleetSite, chromium: Any) -> None:
    context = chromium.new_context(viewport={"width": 360, "height": 800}, locale="en-GB")
    tab, wrong = context.new_page(), []
    tab.set_default_timeout(20_000)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    axe = (Path(pytest.importorskip("axe_playwright_python").__file__).parent / "axe.min.js").read_text()

    def nothing_wrong() -> None:
        tab.evaluate(axe)
        for scheme in ("dark", "light"):
            tab.emulate_media(color_scheme=scheme)
            found = tab.evaluate("axe.run(document).then(r => r.violations.map(v => v.id + ' ' + v.nodes[0].target))")
            assert (scheme, found, wrong) == (scheme, [], [])
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than a phone"

    tab.goto(f"http://127.0.0.1:{site.port}/")
    tab.fill("#name", "olga")
    tab.fill("#password", "not this")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#told:not(:empty)")
    nothing_wrong()
    tab.fill("#password", WORD)
    tab.keyboard.press("Enter")
    tab.wait_for_selector("text=3 houses")
    nothing_wrong()
    tab.click("a:text-is('h1')")
    tab.click(f"button:text-is('{WATER}')")
    tab.wait_for_selector("figcaption:has-text('boiler/water/temperature, °C')")
    assert "from 60 to 83.9" in tab.get_attribute("svg", "aria-label")
    nothing_wrong()
    tab.click("a:text-is('Months')")
    tab.wait_for_selector("text=Fuel per degree day")
    assert tab.input_value("#topic") == METER
    tab.fill("#topic", FUEL)
    tab.click("button:text-is('Compare')")
    tab.wait_for_selector(f"h2:text-is('{FUEL}')")
    nothing_wrong()
    tab.click("a:text-is('Fleet')")
    tab.wait_for_selector("text=3 houses")
    tab.focus("a:text-is('h2')")
    with tab.expect_response("**/api/1/houses"):
        pass  # it asks again every few seconds
    assert tab.evaluate("document.activeElement.textContent") == "h2", "a reader is left where he is"
    tab.route("**/api/1/houses", lambda route: route.abort())
    tab.wait_for_selector("main.gone")
    assert "does not answer" in tab.text_content("#told")
    tab.unroute("**/api/1/houses")
    tab.wait_for_selector("main:not(.gone)")
    tab.click("text=Log out")
    tab.wait_for_selector("#password")
    context.close()


def test_data_of_a_house_are_exported_and_deleted_once_it_is_out(site: FleetSite) -> None:
    status, headers, body = site.knock("owen", f"/api/1/houses/h1/export?from={NOW - 3 * HOUR}")
    lines = body.decode().splitlines()
    assert (status, headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert lines[0] == "time,topic,value,unit"
    assert len([line for line in lines if WATER in line]) == 240
    assert "owen exports h1" in site.house.log("fleet_page")
    assert site.status("olga", "houses/h3/erase", {"confirm": "h2"}) == 422
    assert site.status("olga", "houses/h3/erase", {"confirm": "h3"}) == 409  # its archive would fill it again
    site.members("h1", "h2", "h3", revoked="h3")
    wait_for(lambda: site.get("olga", "houses/h3")["house"]["state"] == "out", what="the roster")
    status, _, body = site.knock("olga", "/api/1/houses/h3/erase", {"confirm": "h3"})
    assert (status, json.loads(body)) == (200, {"readings": 360})
    assert "olga deletes all of h3" in site.house.log("fleet_page")
    assert site.status("olga", "houses/h3") == 404

    def count(table: str) -> int:
        return site.engine.run(
            lambda connection: int(connection.scalar(sql.text(f"SELECT count(*) FROM {table}")) or 0)
        )

    assert (count("houses"), count("readings"), count("owners")) == (2, 720, 2)
    orphans = "hours WHERE topic NOT IN (SELECT id FROM topics)"
    assert count(orphans) == 0
    assert site.get("olga", "houses/h1")["stored_today"] > 0
