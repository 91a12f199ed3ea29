"""The engine of a fleet on real servers: what is committed is there once, whatever dies, and one row costs no other."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from fleet_engines import ACCESS, SERVERS, open_engine
from harness import free_port, wait_for

from bootstrap_lib import Message, Poison, Sequence, as_json, format_time, parse_time
from services.fleet import filling, partitions, quorum, remote_house, summing, tables
from services.fleet.centre import LARGEST, Centre, Limits
from services.fleet.dialect import Remedy
from services.fleet.engine import Engine, EngineAway, PartitionMissing, place
from services.fleet.mariadb import MariaDB
from services.fleet.postgresql import PostgreSQL
from services.fleet.remote_house import RemoteHouse
from services.fleet.store import CentralStore, ShardLost
from services.fleet.view import FleetView

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # PyMySQL leaves sockets of killed servers

DAY, HOUR = 86_400_000, 3_600_000
NOW = time.time_ns() // 1_000_000
AGES = {table.name: 8 * DAY if table is tables.READINGS else 90 * DAY for table in tables.ALL if table.period}
WATER, PHASE = "boiler/water/temperature", "boiler/burner/phase"
NOBODY = filling.FleetFilling(lambda topic, payload: None, "central", 4, lambda sentence: None)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server = SERVERS[request.param](tmp_path_factory.mktemp("engine") / request.param)
    engine = open_engine(server)
    partitions.create(engine, NOW, AGES)
    engine.close()
    yield server
    server.close()


@pytest.fixture
def engine(server: Any) -> Iterator[Engine]:
    engine = open_engine(server)
    for table in tables.ALL:
        engine.define(f"DELETE FROM {table.name}")
    yield engine
    engine.close()


def held(engine: Engine, holder: str = "a") -> CentralStore:
    store = CentralStore(engine, "all", holder)
    assert store.hold(NOW)
    return store


def rows(engine: Engine, text: str) -> list[tuple[Any, ...]]:
    return engine.run(lambda connection: [tuple(row) for row in connection.execute(sql.text(text))])


def test_readings_and_marks_are_one_transaction_and_twice_is_once(engine: Engine) -> None:
    store = held(engine)
    house = store.load("h1", "h1/home")
    water, phase = house.topic(WATER, "°C"), house.topic(PHASE, "")
    for number in range(1, 1201):
        house.follow(water, Sequence("ab12", number - 1, number), NOW + number, NOW)
        store.store(water, NOW + number, 123456789.4 + number)
    store.store(phase, NOW, "full load ü")
    house.lack(NOW - 100, NOW)
    for _ in range(2):  # a commit of which nobody knows how it ended is done again
        keep = dict(store._rows), set(house.numbers.moved)
        assert store.commit([house], NOW) == []
        store._rows, house.numbers.moved, house.changed = keep[0], keep[1], True
    found = rows(engine, "SELECT count(*), count(DISTINCT time), max(value) FROM readings WHERE word IS NULL")
    assert found == [(1200, 1200, 123456789.4 + 1200)]
    assert rows(engine, "SELECT word FROM readings WHERE word IS NOT NULL") == [("full load ü",)]
    again = CentralStore(engine, "all", "a").load("h1", "h1/home")
    assert list(again.numbers._runs) == ["ab12"]
    assert again.numbers.row("ab12") == ("ab12", "", 1200, NOW + 1200)
    assert list(again.lacking) == [(NOW - 100, NOW)]
    assert again.topic(WATER, "°C").number == water.number


def test_a_mark_is_never_there_without_its_readings(engine: Engine) -> None:
    store = held(engine)
    house = store.load("h1", "h1/home")
    water = house.topic(WATER, "°C")
    house.follow(water, Sequence("ab12", 0, 1), NOW, NOW)
    store.store(water, NOW, 1.0)

    def broken(connection: sql.Connection, table: tables.Table, given: Any, whole: Any = engine.dialect.insert) -> None:
        whole(connection, table, given)
        if table is tables.HEARD:
            raise ConnectionAbortedError("the process is killed here")

    engine.dialect.insert = broken  # type: ignore[method-assign]
    with pytest.raises(ConnectionAbortedError):
        store.commit([house], NOW)
    del engine.dialect.insert
    assert rows(engine, "SELECT count(*) FROM readings") == rows(engine, "SELECT count(*) FROM heard") == [(0,)]
    store.commit([house], NOW)
    assert rows(engine, "SELECT count(*) FROM readings") == rows(engine, "SELECT count(*) FROM heard") == [(1,)]


def test_names_that_differ_in_a_letters_case_or_accent_are_two_topics(engine: Engine) -> None:
    store = held(engine)
    house = store.load("h1", "h1/home")
    for unit in ("a", "A", "ä", "a "):
        store.store(house.topic(WATER, unit), NOW, 1.0)
    store.commit([house], NOW)
    assert rows(engine, "SELECT count(*) FROM topics") == rows(engine, "SELECT count(*) FROM readings") == [(4,)]


def test_one_row_that_the_engine_refuses_costs_no_other(engine: Engine) -> None:
    store = held(engine)
    house = store.load("h1", "h1/home")
    phase = house.topic(PHASE, "")
    bad = "a\0b" if engine.dialect.PORT == PostgreSQL.PORT else "x" * 300
    for n in range(50):
        store.store(phase, NOW + n, bad if n == 31 else "off")
    refused = store.commit([house], NOW)
    assert [(one.time, one.value) for one in refused] == [(NOW + 31, bad)]
    assert rows(engine, "SELECT count(*) FROM readings") == [(49,)]


def test_what_one_house_says_of_itself_stops_no_commit_of_the_others(engine: Engine) -> None:
    centre = Centre(engine, held(engine), NOBODY, Limits(8 * DAY, 90 * DAY, DAY), lambda topic: None)
    good, bad = centre.house("h1", "h1/home", NOW), centre.house("h2", "h2/home", NOW)

    def said(name: str, **more: Any) -> Message:
        topics = {name: {"unit": "°C", "was": [WATER]} | more}
        return Message("", as_json({"digest": "1", "topics": topics}), False, 1, 1)

    def goes_on(number: int) -> None:
        for house in good, bad:
            centre.store.store(house.topic("a/b/temperature", "°C"), NOW + number, 1.0)
        assert centre.commit(NOW) == []
        found = rows(engine, f"SELECT house, time FROM readings WHERE time = {NOW + number} ORDER BY house")
        assert found == [(good.number, NOW + number), (bad.number, NOW + number)]

    centre.store.store(bad.topic(WATER, "°C"), NOW, 1.0)
    goes_on(1)
    for number, name in enumerate(
        ("boiler/water/" + "x" * 300, "boiler/water/a\0b", "a/b", "boiler/water/#", "boiler//x")
    ):
        centre.take_registry(bad, said(name))
        centre.take_registry(bad, said(name, **{"from": "b"}))  # its row would be told
        goes_on(number + 2)
        assert (WATER,) in rows(engine, f"SELECT name FROM topics WHERE house = {bad.number}")
    centre.take_registry(bad, said("boiler/tank/temperature"))
    goes_on(7)
    assert (WATER,) not in rows(engine, f"SELECT name FROM topics WHERE house = {bad.number}")
    assert (bad.topics["boiler/tank/temperature"].number,) in rows(engine, "SELECT id FROM topics")

    good.compared, good.changed = NOW + 5, True
    bad.timezone, bad.changed = "x" * 300 if engine.dialect.PORT == MariaDB.PORT else "\0", True
    goes_on(8)
    assert rows(engine, f"SELECT compared FROM houses WHERE id = {good.number}") == [(NOW + 5,)]
    unfit = bad.topic("boiler/flue/temperature", "")
    unfit.label = "x" * 1100 if engine.dialect.PORT == MariaDB.PORT else "\0"
    bad.timezone = "UTC"
    centre.store.store(unfit, NOW + 9, 2.0)
    centre.store.clear(unfit, NOW)
    assert [(one.topic.name, one.time) for one in centre.commit(NOW)] == [("boiler/flue/temperature", NOW + 9)]
    assert "boiler/flue/temperature" not in bad.topics
    goes_on(10)


def test_what_is_older_than_all_that_is_kept_is_counted_and_stops_no_commit(engine: Engine) -> None:
    cleared: list[str] = []
    centre = Centre(engine, held(engine), NOBODY, Limits(8 * DAY, 90 * DAY, DAY), cleared.append)
    house = centre.house("h1", "h1/home", NOW)
    good = centre.house("h2", "h2/home", NOW)

    def message(moment: int, number: int, *, retained: bool = False) -> Message:
        payload = f'{{"value":1.0,"unit":"°C","time":"{format_time(moment)}"}}'.encode() if moment else b""
        return Message("", payload, retained, 1, 1, f"ab12:{number - 1}:{number}")

    centre.take(house, WATER, message(NOW - 200 * DAY, 1, retained=True), NOW)
    house.topics[WATER].stale = 30.0
    centre.take(house, "boiler/flue/temperature", message(NOW, 2), NOW)  # after a summer: the other is a ghost
    centre.take(good, WATER, message(NOW, 1), NOW)
    centre._clear_ghosts(NOW)
    assert cleared == ["h1/home/data/boiler/water/temperature"]
    centre.commit(NOW)
    assert rows(engine, "SELECT count(*) FROM readings") == [(2,)]
    assert rows(engine, "SELECT count(*) FROM clearings") == [(0,)]
    assert centre.counters["too_old"] == 2, "the reading of long ago, and when its topic was cleared"
    with pytest.raises(Poison, match="before 2026"):
        centre.take(house, WATER, Message("", b'{"value":1,"time":"0001-01-01T12:00:00Z"}', False, 1, 1), NOW)

    water = good.topics[WATER]  # taken while there was a partition for it, which went before the commit
    centre.store.store(water, NOW - 300 * DAY, 1.0)
    centre.store.clear(water, NOW - 300 * DAY)
    centre.take(good, WATER, message(NOW + 1, 2), NOW)
    centre.commit(NOW)
    assert (NOW + 1,) in rows(engine, "SELECT time FROM readings")
    if engine.dialect.PORT == PostgreSQL.PORT:  # MariaDB's first partition has no beginning
        assert centre.counters["too_old"] == 4


def test_a_house_that_sends_more_than_is_remembered_is_asked_for_less_and_filled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filling, "MOST_SEEN", 100)
    asked: list[tuple[str, dict[str, Any]]] = []
    told: list[str] = []
    centre = filling.FleetFilling(
        lambda topic, text: asked.append((topic, json.loads(text))), "central", 4, told.append
    )
    house = RemoteHouse("h1", "h1/home")
    house.linked = True
    start = NOW // HOUR * HOUR - HOUR
    house.lack(start, start + HOUR)

    def due() -> dict[str, Any]:
        """What the house is asked for now."""
        centre.wake("h1")
        for _ in range(2):
            for errand in centre._errands.values():
                errand.due = 0.0
            centre.on_tick([house])
        return asked[-1][1]

    def page(moments: Iterator[int] | range) -> Message:
        return Message(
            "", as_json([{"topic": WATER, "value": 1.0, "time": format_time(at)} for at in moments]), False, 1, 1
        )

    request = due()
    for n in range(1000):  # and no end of it
        assert len(list(centre.take(house, page(range(start + n * 100, start + n * 100 + 100))))) == 100
        assert sum(len(errand.seen) for errand in centre._errands.values()) <= 101
    assert told == ["h1 is not filled: it sends more than 100 readings of 30 minutes"]
    assert centre.running == 0
    for _ in range(30):  # an honest house with a reading every ten seconds is filled all the same
        request = due()
        since, until = parse_time(request["from"]), parse_time(request["to"])
        mine = range(-(-since // 10_000) * 10_000, until, 10_000)
        list(centre.take(house, page(mine)))
        end = {"end": True, "id": request["id"], "count": len(mine), "next": None}
        list(centre.take(house, Message("", as_json(end), False, 1, 1)))
        if not house.lacking:
            break
    assert not house.lacking
    assert until - since < filling.SLICE


def test_a_reading_of_a_page_that_is_none_costs_no_other_and_its_house_is_filled(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_house, "MOST_TOPICS", 2)
    asked: list[dict[str, Any]] = []
    fills = filling.FleetFilling(
        lambda topic, text: asked.append(json.loads(text)), "central", 4, lambda sentence: None
    )
    centre = Centre(engine, held(engine), fills, Limits(8 * DAY, 90 * DAY, DAY), lambda topic: None)
    house = centre.house("h1", "h1/home", NOW)
    for name in WATER, PHASE:
        house.topic(name, "")
    house.filled(0, NOW)
    house.lack(NOW - HOUR // 2, NOW)
    for _ in range(2):  # it begins, and asks
        fills.on_tick([house])
        fills.wake("h1")
        fills._errands["h1"].due = 0.0
    fills.on_tick([house])
    entries = [
        {"topic": name, "value": value, "time": format_time(NOW - 1000 + n)}
        for n, (name, value) in enumerate(
            (
                ("boiler/third/temperature", 1.0),
                (WATER, 1.0),
                (WATER, 1e200),
                ("a/#", 1.0),
                (PHASE, "x" * 300),
                (PHASE, "off"),
            )
        )
    ]
    entries[:0] = [{"topic": WATER, "value": 1.0, "time": "nonsense"}, entries[1] | {"value": None}, {}]
    with pytest.raises(Poison):
        centre.take_page(house, Message("", as_json(entries), False, 1, 1), NOW)
    end = {"end": True, "id": asked[-1]["id"], "count": len(entries), "next": None}
    centre.take_page(house, Message("", as_json(end), False, 1, 1), NOW)
    assert not house.lacking
    centre.commit(NOW)
    assert rows(engine, "SELECT time FROM readings ORDER BY time") == [(NOW - 999,), (NOW - 995,)]
    assert (centre.counters["filled"], centre.counters["refused"]) == (2, 7)
    house.compared, house.number = NOW - HOUR, None
    fills.count(house, NOW - HOUR, NOW - 1)
    fills.on_tick([house])
    fills.wake("h1")
    fills._errands["h1"].due = 0.0
    fills.on_tick([house])
    hour = parse_time(asked[-1]["from"]) // HOUR * HOUR
    counts = {"hours": [format_time(hour)], "topics": {"boiler/third/temperature": [5], WATER: [0]}}
    answer = {"status": "ok", "data": counts, "id": asked[-1]["id"]}
    centre.take_counts(house, Message("", as_json(answer), False, 1, 1), NOW)
    assert not house.lacking, "what may not be kept is not asked for each day anew"


def test_only_who_holds_the_shard_writes_and_another_takes_it_over_when_he_is_silent(engine: Engine) -> None:
    first = held(engine, "a")
    second = CentralStore(engine, "all", "b")
    assert not second.hold(NOW)
    house = first.load("h1", "h1/home")
    first.store(house.topic(WATER, "°C"), NOW, 1.0)
    first.commit([house], NOW + 20_000)
    assert not second.hold(NOW + 40_000)  # a commit renews
    assert second.hold(NOW + 60_000)
    first.store(house.topic(WATER, "°C"), NOW + 1, 2.0)
    with pytest.raises(ShardLost):
        first.commit([house], NOW + 60_001)
    assert rows(engine, "SELECT count(*) FROM readings") == [(1,)]


def test_partitions_are_made_ahead_and_dropped_by_age_one_at_a_time(engine: Engine) -> None:
    store = held(engine)
    house = store.load("h1", "h1/home")
    store.store(house.topic(WATER, "°C"), NOW + 30 * DAY, 1.0)
    with pytest.raises(PartitionMissing):
        store.commit([house], NOW)
    store._rows.clear()
    store.store(house.topic(WATER, "°C"), NOW, 1.0)
    store.commit([house], NOW)

    def there() -> dict[str, int]:
        return engine.run(lambda connection: engine.dialect.partitions(connection, tables.READINGS))

    before, later = there(), NOW + 12 * DAY
    assert len(before) == 8 + 1 + partitions.AHEAD["day"]
    changes = []
    while change := partitions.next_change(engine, tables.READINGS, later, 8 * DAY):
        engine.define(change)
        changes.append(change)
    assert len(changes) == 24
    assert min(there().values()) > later - 8 * DAY
    assert max(there().values()) == max(before.values()) + 12 * DAY
    assert rows(engine, "SELECT count(*) FROM readings") == [(0,)]
    partitions.create(engine, NOW, AGES)
    store.store(house.topic(WATER, "°C"), later, 1.0)
    store.commit([house], NOW)


def test_minutes_hours_and_local_days_are_sums_of_what_is_stored(engine: Engine) -> None:
    store = held(engine)
    house = store.load("h1", "h1/home")
    house.timezone = "Europe/Vienna"
    water, phase = house.topic(WATER, "°C"), house.topic(PHASE, "")
    hour = NOW // 3_600_000 * 3_600_000  # kept, whichever partitions the test before left
    hour = rows(engine, "SELECT 0") and hour + 13 * DAY
    for n in range(120):
        store.store(water, hour + n * 30_000, float(n))
        store.store(phase, hour + n * 30_000, "on" if n % 2 else "off")
    store.commit([house], NOW)
    assert house.number is not None
    assert summing.due(engine, house.number, hour + 3_600_000, 9) == []
    assert summing.due(engine, house.number, hour + 3_600_000 + summing.GRACE, 9) == [hour]
    engine.define(engine.dialect.create(tables.MINUTES, 0, {})[0].split(" PARTITION")[0])
    while change := partitions.next_change(engine, tables.MINUTES, hour, 90 * DAY):
        engine.define(change)
    for _ in range(2):
        summing.sum_up(engine, house.number, hour, house.timezone)
    assert summing.due(engine, house.number, hour + 2 * 3_600_000, 9) == []
    first = f"SELECT count, mean, low, high, last, word FROM minutes WHERE topic = %d AND time = {hour}"
    assert rows(engine, first % water.number) == [(2, 0.5, 0.0, 1.0, 1.0, None)]
    assert rows(engine, first % phase.number) == [(2, None, None, None, None, "on")]
    whole = [(120, 59.5, 0.0, 119.0, 119.0)]
    assert rows(engine, f"SELECT count, mean, low, high, last FROM hours WHERE topic = {water.number}") == whole
    day = f"SELECT count, mean, low, high, last FROM days WHERE topic = {water.number}"
    assert rows(engine, day) == whole
    begin, end = summing.local_day(hour, "Europe/Vienna")
    assert rows(engine, "SELECT DISTINCT time FROM days") == [(begin,)]
    assert end - begin == DAY
    assert summing.local_day(1_793_000_000_000, "../../etc/passwd")[0] % DAY == 0  # UTC for what is no zone


def test_numbers_that_have_no_mean_cost_their_hour_its_sums_and_nobody_anything_else(engine: Engine) -> None:
    store = held(engine)
    house = store.load("h1", "h1/home")
    hour = NOW // HOUR * HOUR - 4 * HOUR
    for number, (minute, value) in enumerate(
        ((0, 1.5e308), (0, 1.6e308), (60, 1.5e308), (61, 1.6e308), (120, LARGEST), (120, -LARGEST), (121, LARGEST))
    ):
        store.store(house.topic(WATER, "°C"), hour + minute * 60_000 + number, value)
    assert store.commit([house], NOW) == []
    due = summing.due(engine, int(house.number or 0), NOW, 9)
    assert due == [hour, hour + HOUR, hour + 2 * HOUR]
    assert [summing.sum_up(engine, int(house.number or 0), one, "UTC") for one in due] == [False, False, True]
    assert summing.due(engine, int(house.number or 0), NOW, 9) == []
    assert rows(engine, "SELECT count, low, high FROM hours") == [(3, -LARGEST, LARGEST)]
    centre = Centre(engine, store, NOBODY, Limits(8 * DAY, 90 * DAY, DAY), lambda topic: None)
    centre.keep(house.topic(WATER, "°C"), NOW, 2**64, NOW)
    for value in (1.5e308, -1.5e308, 10**400):
        with pytest.raises(Poison, match="larger than any"):
            centre.keep(house.topic(WATER, "°C"), NOW, value, NOW)


def test_kill_9_of_the_server_while_groups_are_written_loses_none_that_was_acknowledged(
    server: Any, engine: Engine
) -> None:
    store, acknowledged, done = held(engine), [], threading.Event()
    house = store.load("h1", "h1/home")
    water = house.topic(WATER, "°C")
    base = rows(engine, "SELECT 0") and min(
        engine.run(lambda connection: engine.dialect.partitions(connection, tables.READINGS)).values()
    )

    def write() -> None:
        group = 0
        while not done.is_set():
            for n in range(200):
                store.store(water, base + group * 1000 + n, float(n))
            try:
                store.commit([house], NOW)
            except EngineAway:
                continue  # what waits goes on waiting
            acknowledged.append(group)
            group += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2):
            known = len(acknowledged)
            wait_for(lambda known=known: len(acknowledged) > known + 3, what="groups")
            server.kill()
            server.start()
        known = len(acknowledged)
        wait_for(lambda: len(acknowledged) > known + 3, what="groups after the kills")
    finally:
        done.set()
        writer.join(60)
    found = rows(engine, "SELECT count(*), sum(value) FROM readings")
    assert found == [(len(acknowledged) * 200, len(acknowledged) * 19900.0)]
    assert engine.errors


def test_a_node_that_is_not_there_costs_a_moment_and_all_of_them_a_sentence(server: Any) -> None:
    engine = open_engine(server, f"127.0.0.1:{free_port()}")
    assert rows(engine, "SELECT 1") == [(1,)]
    assert engine.node == server.nodes[0]
    nobody = Engine(server.kind, [f"127.0.0.1:{free_port()}"], ACCESS)
    with pytest.raises(EngineAway, match="takes nothing"):
        nobody.run(lambda connection: connection.execute(sql.text("SELECT 1")).scalar(), patience=0.3)
    engine.close()


def test_a_node_with_another_password_is_no_node_that_is_gone(server: Any) -> None:
    if server.kind == "postgresql":  # which has no quorum to ask
        return
    (node,) = server.nodes
    assert quorum.ask(node, ACCESS).answers
    wrong = quorum.ask(node, ACCESS._replace(password="of another machine"))
    assert (wrong.answers, wrong.denied) == (False, True)
    gone = quorum.ask(f"127.0.0.1:{free_port()}", ACCESS)
    assert (gone.answers, gone.denied) == (False, False)


def test_a_commit_that_no_standby_hears_of_ends_with_a_sentence_and_is_done_once_one_does(server: Any) -> None:
    if server.kind == "mariadb":  # whose driver waits for no answer for ever
        return
    engine = Engine(server.kind, server.nodes, ACCESS._replace(timeout=0.4))
    engine.define("CREATE TABLE said (word text PRIMARY KEY)")

    def say(connection: sql.Connection) -> None:
        connection.execute(
            sql.text("INSERT INTO said VALUES ('once') ON CONFLICT (word) DO UPDATE SET word = excluded.word")
        )

    try:
        server.tell("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (nobody)'")
        server.close()
        server.start()
        with pytest.raises(EngineAway, match="takes nothing"):
            engine.run(say, patience=0.3)
        server.tell("ALTER SYSTEM RESET synchronous_standby_names")
        server.close()
        server.start()
        engine.run(say)
        assert rows(engine, "SELECT word FROM said") == [("once",)]
        engine.define("DROP TABLE said")
    finally:
        engine.close()


class Said(Exception):
    """An error of a driver."""

    sqlstate: str | None = None


@pytest.mark.parametrize(
    ("codes", "verdict"),
    [
        ((1213, 1205, 1020), Remedy.AGAIN),
        ((1047, 1180, 2013, 2003, 2006, 1053, 1290, 1040, 1927, 0, 1114), Remedy.NEXT),
        ((1406, 1264, 1366, 1690), Remedy.REFUSED),
        ((1526,), Remedy.PARTITION),
    ],
)
def test_each_code_of_mariadb_is_dealt_with(codes: tuple[int, ...], verdict: Remedy) -> None:
    assert {MariaDB().judge(Said(code, "…")) for code in codes} == {verdict}


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        (("40001", "40P01", "55P03", "57014"), Remedy.AGAIN),
        (("57P01", "57P03", "08006", "25006", "53300", None), Remedy.NEXT),
        (("22003", "22021", "22P02", "54000"), Remedy.REFUSED),
        (("23514",), Remedy.PARTITION),
    ],
)
def test_each_state_of_postgresql_is_dealt_with(states: tuple[str | None, ...], verdict: Remedy) -> None:
    def said(state: str | None) -> Said:
        error = Said("…")
        error.sqlstate = state
        return error

    assert {PostgreSQL().judge(said(state)) for state in states} == {verdict}


def test_a_node_is_written_as_people_write_it() -> None:
    assert place("10.0.0.1", 3306) == ("10.0.0.1", 3306)
    assert place("db.example:4000", 3306) == ("db.example", 4000)
    assert place("[fd00::1]:4000", 3306) == ("fd00::1", 4000)
    assert place("fd00::1", 3306) == ("fd00::1", 3306)


def test_partitions_end_where_the_next_begins(tmp_path: Path) -> None:
    december = 1_796_000_000_000  # 2026-11-30
    found = partitions.wanted("month", december, 90 * DAY)
    assert list(found)[-3:] == ["p202611", "p202612", "p202701"]
    assert all(partitions.begin("month", end) == end for end in found.values())


def test_the_questions_of_the_page_are_answered_by_both_engines(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, view = held(engine), FleetView(engine)
    assert store.claim("h1", NOW) == "new"
    house = store.load("h1", "h1/home")
    begin = NOW - 3 * DAY
    for n in range(40):
        store.store(house.topic(WATER, "°C"), begin + n * HOUR, float(n))
    store.store(house.topic("boiler/burner/phase", ""), begin, "off")
    house.lack(NOW - 1000, NOW)
    house.follow(house.topic(WATER, "°C"), Sequence("ab", 0, 1), begin + 39 * HOUR, NOW)
    store.commit([house], NOW)
    for hour in summing.due(engine, int(house.number or 0), NOW, 100):
        summing.sum_up(engine, int(house.number or 0), hour, "UTC")
    (shown,) = view.houses()
    assert (shown.name, shown.shard, shown.newest, shown.gaps) == ("h1", "all", begin + 39 * HOUR, 1)
    assert view.stored(shown.number, begin, NOW) == 41
    topics = {topic.name: topic.value for topic in view.topics(shown.number, shown.newest)}
    assert topics == {WATER: 39.0, "boiler/burner/phase": None}
    number = next(topic.number for topic in view.topics(shown.number, shown.newest) if topic.name == WATER)
    curve = view.series(shown.number, number, begin - HOUR, NOW, 40)
    assert (min(low for _, _, low, _ in curve), max(high for *_, high in curve)) == (0.0, 39.0)
    assert len(view.series(shown.number, number, begin, begin + 4 * HOUR, 100)) == 4
    months = view.months([shown], WATER, begin - DAY)["h1"]
    assert sum(month.counted or 0.0 for month in months) > 0
    assert len(list(view.readings(shown.number, begin, NOW))) == 41
    run, spans = view._run, dict[str, int]()

    def noted(text: str, **asked: Any) -> int:
        if "until" in asked:
            spans[text.split()[2]] = asked["until"] - asked["since"]
        return run(text, **asked)

    monkeypatch.setattr(view, "_run", noted)
    assert view.erase(shown.number, "h1") == 41
    most = {"readings": HOUR, "minutes": DAY}  # of 60 topics each second, or each minute: below 200,000 rows
    assert {table: spans[table] for table in most} == most, "no DELETE takes longer than an engine may"
    assert view.houses() == []
    for table in tables.ALL:
        if table is not tables.SHARDS:
            assert rows(engine, f"SELECT count(*) FROM {table.name}") == [(0,)], table.name
