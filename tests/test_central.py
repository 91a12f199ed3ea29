"""The store of a fleet as a process, against a real engine: what a house has is here once, whatever was lost on the way."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from fleet_engines import ACCESS, PASSWORD, MariaServer, open_engine
from fleet_house import StandInHouse
from harness import Broker, Ear, House, wait_for
from voices import Voice

from bootstrap_lib.reading import format_time
from services.fleet import bridges, roster, tables
from services.fleet.engine import Engine
from services.fleet.roster import RosterHouse

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

WATER, FLUE = "boiler/water/temperature", "boiler/flue/temperature"
HEALTH = "home/service/central/health"


def now() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaServer]:
    server = MariaServer(tmp_path_factory.mktemp("central") / "mariadb")
    yield server
    server.close()


@pytest.fixture
def engine(server: MariaServer) -> Iterator[Engine]:
    engine = open_engine(server)
    engine.define("DROP TABLE IF EXISTS " + ", ".join(table.name for table in tables.ALL))
    yield engine
    engine.close()


def topics(engine: Engine, more: str = "") -> str:
    return f"""
subscribers:
  central: {{nodes: {json.dumps(list(engine.nodes))}, commit: 50ms, every: 100ms, heartbeat: 300ms{more}}}
"""


def of(engine: Engine, one: StandInHouse, text: str) -> list[tuple[Any, ...]]:
    """Rows that speak of one house."""
    number = rows(engine, f"SELECT id FROM houses WHERE name = '{one.name}'")
    return rows(engine, text.format(house=number[0][0])) if number else []


def begin(house: House, engine: Engine, ear: Ear, more: str = "", root: str = "home") -> House:
    """Start a store, and wait until it has the engine."""
    credentials = house.folder / "credentials"
    credentials.mkdir()
    (credentials / "fleet.engine").touch(0o600)
    (credentials / "fleet.engine").write_text(PASSWORD)
    house.environment["CONSTELLATION_CREDENTIALS"] = str(credentials)
    house.write(f"root: {root}\n{topics(engine, more)}")
    house.start("central")
    ear.wait(f"{root}/service/central/health", lambda health: "fleet" in health)
    return house


@pytest.fixture
def central(house: House, engine: Engine, ear: Ear) -> House:
    """A store of the test's own, which it may kill."""
    return begin(house, engine, ear)


@pytest.fixture
def one(broker: Broker) -> Iterator[StandInHouse]:
    one = StandInHouse(broker.port)
    yield one
    one.close()


class Common:
    """A store that runs for all tests that do it no harm, each with houses of its own."""

    def __init__(self, folder: Path, server: MariaServer) -> None:
        self.broker = Broker(folder / "broker").start()
        self.house, self.ear = House(folder / "house", self.broker.port), Ear(self.broker.port)
        server.cluster.prepare("common", ACCESS.user, PASSWORD)
        self.engine = Engine(server.kind, server.nodes, ACCESS._replace(database="common"))
        begin(self.house, self.engine, self.ear, ", database: common")
        self.houses: list[StandInHouse] = []

    def enter(self) -> StandInHouse:
        self.houses.append(StandInHouse(self.broker.port, f"n{len(self.houses)}"))
        return self.houses[-1]

    def settled(self, one: StandInHouse) -> None:
        """Wait until nothing is lacking of a house that is known of."""

        def done() -> bool:
            said = self.ear.ask("central", "houses", {"house": one.name})["data"]
            return bool(said) and not said[one.name]["busy"]

        wait_for(done, what=f"the filling of {one.name}")

    def close(self) -> None:
        for house in self.houses:
            house.close()
        self.ear.close()
        self.engine.close()
        self.house.close()
        self.broker.stop()


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory, server: MariaServer) -> Iterator[Common]:
    common = Common(tmp_path_factory.mktemp("common"), server)
    yield common
    common.close()


def stored(engine: Engine, name: str = "h1") -> dict[tuple[str, int], Any]:
    text = sql.text(
        "SELECT t.name, r.time, r.value, r.word FROM readings r JOIN topics t ON t.id = r.topic"
        " JOIN houses h ON h.id = r.house WHERE h.name = :name"
    )
    found = engine.run(lambda connection: connection.execute(text, {"name": name}).all())
    assert len(found) == len({(row.name, row.time) for row in found})
    return {(row.name, row.time): row.word if row.value is None else row.value for row in found}


def rows(engine: Engine, text: str) -> list[tuple[Any, ...]]:
    return engine.run(lambda connection: [tuple(row) for row in connection.execute(sql.text(text))])


def whole(engine: Engine, one: StandInHouse, timeout: float = 30.0) -> None:
    wait_for(lambda: stored(engine, one.name) == one.kept, timeout, "all readings of the house")


def settled(ear: Ear) -> None:
    """Wait until nothing is lacking that is known of."""
    ear.wait(
        HEALTH, lambda health: health["fleet"]["houses"] and not health["fleet"]["lacking"] + health["fleet"]["filling"]
    )


def test_a_house_is_filled_from_its_archive_and_each_gap_in_its_numbers_too(common: Common) -> None:
    engine, one = common.engine, common.enter()
    start = now() - 3_000_000
    for n in range(1200):
        one.say(WATER, n / 10, start + n * 1000, lost=True)  # before the centre knew the house
    one.say(WATER, 1.0, start + 1_300_000)
    whole(engine, one)
    common.settled(one)
    asked = len(one.asked)
    for n in range(5):
        one.say(WATER, 2.0 + n, now(), lost=n in (2, 3))
        time.sleep(0.002)
    whole(engine, one)
    assert len(one.asked) > asked
    common.settled(one)
    assert of(engine, one, "SELECT count(*) FROM lacking x WHERE x.house = {house}") == [(0,)]


def test_a_new_run_of_numbers_is_a_gap_since_its_source_was_heard(common: Common) -> None:
    engine, one = common.engine, common.enter()
    one.registry({WATER: {"unit": "°C", "from": "onewire"}})
    one.say(WATER, 1.0, now())
    common.settled(one)
    one.say(WATER, 2.0, now(), lost=True)  # the end of a run that nobody will ever show
    one.stream, one.number = "cd34", 0
    time.sleep(0.01)
    one.say(WATER, 3.0, now())
    whole(engine, one)


def test_a_slice_that_came_short_is_asked_for_again(common: Common) -> None:
    engine, ear, one = common.engine, common.ear, common.enter()
    one.drop_pages = 1
    start = now() - 1_500_000
    for n in range(700):
        one.say(WATER, float(n), start + n * 2000, lost=n < 699)
    whole(engine, one)
    common.settled(one)
    ear.wait(HEALTH, lambda health: health["fleet"]["short"] == 1)
    same = [asked["from"] for asked in one.asked]
    assert len(same) > len(set(same))


def test_a_hole_behind_a_silent_source_is_found_by_counting(common: Common) -> None:
    engine, ear, one = common.engine, common.ear, common.enter()
    start = now() - 7_000_000
    one.say(WATER, 1.0, start)
    common.settled(one)
    whole(engine, one)
    for n in range(3):
        one.say(WATER, 5.0 + n, start + 1000 + n * 3_000_000, lost=True)
    answer = ear.ask("central", "compare", {"house": one.name, "since": format_time(start - 1000)})
    assert answer == {"status": "ok", "data": {"houses": 1}}
    whole(engine, one)
    assert "counts" in {asked["verb"] for asked in one.asked}
    ear.wait(HEALTH, lambda health: health["fleet"].get("holes", 0) >= 1)
    common.settled(one)


def test_what_a_house_cleared_while_its_link_was_cut_is_cleared_here(common: Common) -> None:
    engine, one = common.engine, common.enter()
    facts = {"unit": "°C", "from": "onewire", "stale": 20.0}
    one.registry({WATER: facts, FLUE: facts, "boiler/box/temperature": facts})
    standing = Ear(common.broker.port, f"{one.name}/home/data/#")
    try:
        for topic in (WATER, FLUE, "boiler/box/temperature"):
            one.say(topic, 1.0, now() - 100_000)
        one.clear(FLUE)  # heard
        one.registry({WATER: facts, FLUE: facts})  # the box is no more
        one.clear("boiler/box/temperature", lost=True)
        one.clear(WATER, lost=True)
        one.say(FLUE, 2.0, now())
        for gone in (WATER, "boiler/box/temperature"):
            standing.wait(f"{one.name}/home/data/{gone}", lambda value: value == b"")
        assert standing.last(f"{one.name}/home/data/{FLUE}")["value"] == 2.0
        wait_for(
            lambda: (
                of(
                    engine,
                    one,
                    "SELECT count(*) FROM clearings c JOIN topics t ON t.id = c.topic WHERE t.house = {house}",
                )
                == [(3,)]
            ),
            what="when they were cleared",
        )
    finally:
        standing.close()


def test_what_a_house_says_wrong_costs_that_house_only(common: Common) -> None:
    engine, one = common.engine, common.enter()
    other = common.enter()
    for topic in (
        "home/service/registry",
        f"home/data/{WATER}",
        "home/service/archive/replay/central",
        "link",
        "home/service/archive/response/counts",
    ):
        for payload in (b"\xff\xfe", b"[" * 5000, b'{"topics": 5}', b'[{"topic":"x","value":1,"time":"y"}]', b"{}"):
            one.raw(topic, payload)
    one.raw(f"home/data/{WATER}", json.dumps({"value": "x" * 500, "time": format_time(now())}), number=1)
    one.raw(f"home/data/{WATER}", '{"value":' + "9" * 400 + f',"time":"{format_time(now())}"' + "}", number=2)
    one.raw(f"home/data/{WATER}", json.dumps({"value": 1, "time": format_time(now() + 86_400_000)}), number=3)
    one.raw("home/data/a/b", json.dumps({"value": 1, "time": format_time(now())}), number=4)
    one.stream = "x" * 30
    one.raw(f"home/data/{WATER}", json.dumps({"value": 1, "time": format_time(now())}), number=2**62)
    one.raw("home/data/c/d/temperature", json.dumps({"value": 1, "unit": "W\0", "time": format_time(now())}), number=5)
    one.registry({"c/d/power": {"unit": "W", "label": "x\0" * 2000, "from": "\0"}}, timezone="Europe/\0" + "z" * 500)
    wait_for(lambda: of(engine, one, "SELECT label FROM topics WHERE house = {house} AND name = 'c/d/power'"), 30, "it")
    one.registry({f"{n}/x/temperature": {"unit": f"u{n}", "was": [WATER]} for n in range(4000)}, timezone="../x")
    begin = now()
    for n in range(200):
        other.say(WATER, float(n), begin + n)
    whole(engine, other)
    assert of(engine, one, "SELECT count(*) FROM topics WHERE house = {house}")[0][0] <= 3000
    assert common.house.processes["central"].poll() is None


def test_a_topic_that_was_renamed_keeps_its_history_and_unit_and_label_are_told(common: Common) -> None:
    engine, one = common.engine, common.enter()
    one.registry({WATER: {"unit": "°C", "label": "Boiler", "from": "onewire"}})
    one.say(WATER, 1.0, now())
    whole(engine, one)
    one.kept = {(FLUE, moment): value for (_, moment), value in one.kept.items()}
    one.say(FLUE, 2.0, now())  # its source was reloaded before its archive was
    one.registry({FLUE: {"unit": "°C", "label": "Flue", "from": "onewire", "was": [WATER]}})
    one.say(FLUE, 3.0, now())
    whole(engine, one)
    wait_for(
        lambda: (
            of(engine, one, "SELECT name, unit, kind, label, source FROM topics WHERE house = {house}")
            == [(FLUE, "°C", "gauge", "Flue", "onewire")]
        )
    )


def test_a_house_is_asked_through_its_bridge_and_both_journals_say_who_asked(common: Common, tmp_path: Path) -> None:
    text = bridges.bridge("far", "127.0.0.1", common.broker.port, tmp_path)
    plain = [
        line
        for line in text.splitlines()
        if not line.startswith(("bridge_cafile", "bridge_cert", "bridge_key", "bridge_ins"))
    ]
    broker = Broker(tmp_path / "far", "\n".join(plain) + "\n").start()
    house, ear = House(tmp_path / "house", broker.port), Ear(broker.port)
    asked = {"house": "far", "instance": "archive", "verb": "log_level", "by": "anna"}
    remote, answer = "home/service/archive/remote/log_level", "home/service/archive/answer/log_level"

    def order(identity: str, at: int, **more: Any) -> str:
        return json.dumps(
            {"by": "eve", "at": format_time(at), "id": identity, "arguments": {"value": "info", "for": "1m"}} | more
        )

    try:
        house.write("subscribers:\n  archive: {centre: central, heartbeat: 300ms}\n")
        house.start("archive")
        ear.wait("home/service/archive/health")
        common.ear.wait(
            "home/service/central/health", lambda health: health["fleet"]["linked"] >= len(common.houses) + 1
        )
        said = common.ear.ask("central", "ask", asked | {"arguments": {"value": "info", "for": "1m"}})
        assert said["status"] == "ok", said
        wait_for(
            lambda: "anna asks far/archive to log_level" in common.house.log("central"), what="the centre's journal"
        )
        assert "request log_level of anna, from afar" in house.log("archive")
        assert "is not known" in common.ear.ask("central", "ask", asked | {"verb": "log_leven"})["error"]
        assert "no house is called" in common.ear.ask("central", "ask", asked | {"house": "home"})["error"]
        assert "payload: " in common.ear.ask("central", "ask", asked | {"arguments": {"value": 5}})["error"]
        # what is retained, late, from the future, nameless or a repeat is not acted on, and what came before it was
        ear.say(remote, order("r", now()), retain=True)
        wait_for(lambda: "was retained by its sender" in house.log("archive"), what="its word")
        ear.say(remote, order("l", now() - 40_000), qos=0)
        ear.wait(answer, lambda told: told["id"] == "l" and "late request" in told["error"])
        ear.say(remote, order("f", now() + 40_000), qos=0)
        ear.wait(answer, lambda told: told["id"] == "f" and "late request" in told["error"])
        ear.say(remote, order("n", now(), by=""), qos=0)
        wait_for(lambda: "does not say who asks" in house.log("archive"), what="its word")
        assert "of eve" not in house.log("archive")
        for _ in range(2):
            ear.say(remote, order("x", now()), qos=0)
        wait_for(lambda: "came again" in house.log("archive"), what="its word")
        assert house.log("archive").count("request log_level of eve") == 1
        broker.stop()
        said = wait_for(lambda: _no_link(common, asked), what="its end")
        assert said == "far has no link"
    finally:
        ear.close()
        house.close()
        broker.stop()


def _no_link(common: Common, asked: dict[str, Any]) -> str:
    said = str(common.ear.ask("central", "ask", asked, timeout=40).get("error", ""))
    return said if "link" in said else ""


def test_kill_9_of_the_store_while_it_fills_leaves_a_gap_that_is_still_known(
    central: House, engine: Engine, one: StandInHouse, ear: Ear
) -> None:
    one.say(WATER, 1.0, now())
    settled(ear)
    one.silent = True
    one.say(WATER, 2.0, now(), lost=True)
    time.sleep(0.01)
    one.say(WATER, 3.0, now())
    wait_for(lambda: rows(engine, "SELECT count(*) FROM lacking") == [(1,)], what="the gap on disk")
    central.kill("central")
    one.silent = False
    central.start("central")
    whole(engine, one)
    settled(ear)


@pytest.mark.whole
def test_readings_wait_at_the_broker_while_the_engine_is_away_and_while_the_store_is(
    central: House, server: MariaServer, engine: Engine, one: StandInHouse, ear: Ear
) -> None:
    one.say(WATER, 1.0, now())
    settled(ear)
    server.kill()
    try:
        begin = now()
        for n in range(300):
            one.say(WATER, float(n), begin + n)
        ear.wait(HEALTH, lambda health: health["state"] == "degraded", 90)  # each of its questions has twelve seconds
        central.kill("central")
        for n in range(300, 400):
            one.say(WATER, float(n), begin + n)
        central.start("central")  # without an engine it starts all the same, and waits
        wait_for(lambda: "nothing is lost, trying on" in central.log("central"), 90, "its word")
    finally:
        server.start()
    whole(engine, one)


def two(engine: Engine, more: str = "", spare: str = "") -> str:
    """Two stores on one broker and one engine."""
    line = f"service: central, nodes: {json.dumps(list(engine.nodes))}, commit: 50ms, every: 100ms, heartbeat: 300ms"
    return topics(engine, more) + f"  spare: {{{line}{spare}}}\n"


@pytest.mark.slow
@pytest.mark.whole
def test_a_second_store_of_a_shard_waits_for_its_turn_and_goes_on_where_the_first_was_killed(
    central: House, engine: Engine, one: StandInHouse, ear: Ear
) -> None:
    central.write(two(engine))
    central.start("spare")
    wait_for(lambda: "held by another process" in central.log("spare"), what="its word")
    one.registry({WATER: {"unit": "°C", "from": "onewire"}})
    one.say(WATER, 1.0, now())
    whole(engine, one)
    central.kill("central")
    began = time.monotonic()
    one.say(WATER, 2.0, now())
    one.clear(WATER)  # nothing that stands shows the one before
    ear.wait("home/service/spare/health", lambda health: "fleet" in health, 60)
    whole(engine, one)
    assert time.monotonic() - began < 60
    central.start("central")
    wait_for(lambda: "held by another process" in central.log("central"), what="its word")
    one.say(WATER, 3.0, now())
    whole(engine, one)


def test_a_house_is_moved_to_another_shard_while_it_speaks_and_nothing_is_lost_or_twice(
    house: House, engine: Engine, ear: Ear, one: StandInHouse, tmp_path: Path
) -> None:
    file = tmp_path / "fleet.json"

    def belongs(shard: str) -> None:
        roster.write(file, roster.Roster({one.name: RosterHouse(shard), "h9": RosterHouse("west")}))

    belongs("east")
    begin(house, engine, ear, f", houses: {file}, shard: east")
    house.write(two(engine, f", houses: {file}, shard: east", f", houses: {file}, shard: west"))
    house.start("spare")
    ear.wait("home/service/spare/health", lambda health: health.get("fleet", {}).get("houses") == 1)
    for shard, mine in (("west", "spare"), ("east", "central")):
        known = house.log(mine).count(f"{one.name} is kept here now")
        belongs(shard)
        while house.log(mine).count(f"{one.name} is kept here now") == known:
            one.say(WATER, float(one.number), now())
            time.sleep(0.02)
        assert rows(engine, f"SELECT shard FROM owners WHERE house = '{one.name}'") == [(shard,)]
        whole(engine, one)
    settled(ear)


def test_a_house_is_taken_up_by_one_shard_only_while_the_other_has_not_let_it_go(
    house: House, engine: Engine, ear: Ear, one: StandInHouse, tmp_path: Path
) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"  # as on two machines
    roster.write(old, roster.Roster({one.name: RosterHouse("east")}))
    roster.write(new, roster.Roster({one.name: RosterHouse("west")}))
    begin(house, engine, ear, f", houses: {old}, shard: east")
    house.write(two(engine, f", houses: {old}, shard: east", f", houses: {new}, shard: west"))
    house.start("spare")
    wait_for(lambda: f"{one.name} is kept by another shard" in house.log("spare"), what="its word")
    one.registry({WATER: {"unit": "°C", "from": "onewire"}})
    one.say(WATER, 1.0, now())
    whole(engine, one)
    house.stop("central")  # which leaves its shard at once
    one.say(WATER, 2.0, now())
    one.clear(WATER)
    wait_for(lambda: f"{one.name} is kept here now" in house.log("spare"), what="its turn")
    whole(engine, one)
    house.start("central")  # the broker kept for it what came meanwhile
    wait_for(lambda: f"{one.name} is kept by another shard" in house.log("central"), what="its word")
    ear.wait("home/service/central/health", lambda health: health["counters"].get("stored", 0) >= 1)
    assert "another shard keeps them now" not in house.log("central")
    one.say(WATER, 3.0, now())
    whole(engine, one)
    assert rows(engine, "SELECT house, shard FROM owners") == [(one.name, "west")]


def test_a_house_that_was_put_back_from_a_backup_loses_nothing_here_and_goes_on(common: Common) -> None:
    engine, one = common.engine, common.enter()
    one.registry({WATER: {"unit": "°C", "from": "onewire"}})
    start = now() - 600_000
    for n in range(20):
        one.say(WATER, float(n), start + n * 1000)
    whole(engine, one)
    common.settled(one)
    before = dict(one.kept)
    one.kept = {key: value for key, value in one.kept.items() if key[1] < start + 8000}  # what the backup had
    one.stream, one.number = "ef56", 0  # a run of numbers of its own: that of before is no more
    for n in range(100, 106):
        one.say(WATER, float(n), start + n * 1000, lost=n in (100, 103, 104))
    after = before | one.kept
    wait_for(lambda: stored(engine, one.name) == after, what="what was here, and all that is new")
    common.settled(one)


def test_a_centre_begun_anew_on_an_empty_engine_is_filled_from_the_archives(
    central: House, engine: Engine, one: StandInHouse, ear: Ear
) -> None:
    one.registry({WATER: {"unit": "°C", "from": "onewire"}})
    start = now() - 3 * 86_400_000
    for n in range(30):
        one.say(WATER, float(n), start + n * 8_600_000)
    whole(engine, one)
    settled(ear)
    central.stop("central")
    engine.define("DROP TABLE " + ", ".join(table.name for table in tables.ALL))
    one.say(WATER, 99.0, now())
    one.say(FLUE, 5.0, now(), lost=True)
    central.start("central")
    whole(engine, one)
    settled(ear)


def test_a_house_that_is_revoked_is_kept_no_more_and_what_it_sent_stays(
    house: House, engine: Engine, one: StandInHouse, broker: Broker
) -> None:
    other, file = StandInHouse(broker.port, "h2"), house.folder / "fleet.json"
    ear = Ear(broker.port, "cellar/#")
    try:
        roster.write(file, roster.Roster({"h1": RosterHouse(), "h2": RosterHouse()}))
        begin(
            house, engine, ear, f", houses: {file}", root="cellar"
        )  # houses are heard whatever the centre's own root is
        one.say(WATER, 1.0, now())
        whole(engine, one)
        roster.write(file, roster.Roster({"h1": RosterHouse(revoked=True), "h2": RosterHouse()}))
        wait_for(lambda: "h1 goes to another shard, or out" in house.log("central"), what="its leave")
        one.raw(f"home/data/{WATER}", json.dumps({"value": 2, "time": format_time(now())}), number=2)
        other.say(WATER, 3.0, now())
        whole(engine, other)
        assert stored(engine, "h1") == one.kept
        assert rows(engine, "SELECT house FROM owners") == [("h2",)]
    finally:
        ear.close()
        other.close()


def test_a_house_keeps_its_own_record_in_an_engine_beside_its_archive(
    central: House, engine: Engine, voice: Voice, ear: Ear, tmp_path: Path
) -> None:
    central.stop("central")
    central.write(
        topics(engine, ", local: mine")
        + f"  archive: {{commit: 50ms}}\nsources:\n  onewire: {{}}\ntopics:\n  {WATER}: {{from: onewire, label: Boiler}}\n"
    )
    central.start("archive")
    ear.wait("home/service/archive/status", lambda status: status == "online")
    start = now() - 100_000
    for n in range(1, 6):
        voice.say(WATER, float(n), start + n, n)
    ear.wait("home/service/archive/stored/onewire", lambda mark: mark["after"] == 5)
    central.start("central")
    wait_for(lambda: len(stored(engine, "mine")) == 5, what="what the archive has")
    voice.say(WATER, 9.0, start + 90, 6)
    wait_for(lambda: stored(engine, "mine").get((WATER, start + 90)) == 9.0, what="a reading")
