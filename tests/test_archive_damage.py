"""The archive believes its file only while it is the file: what can be read out of it is saved, what is missing is said."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from harness import PROJECT, Broker, Ear, House, wait_for
from voices import Voice, ask_database, now

from bootstrap_lib.reading import format_time
from bootstrap_lib.registry import Registry
from services.protocols import sqlite_page
from services.stores import database as database_module
from services.stores import hours, schema, soundness
from services.stores.mending import Mending
from services.stores.open_archive import OpenArchive
from services.stores.rescue import missing, rescue

pytestmark = pytest.mark.long

WATER, PUMP = "boiler/water/temperature", "boiler/pump/active"
MARK = "home/service/archive/stored/onewire"
TOPICS = f"""
sources:
  onewire: {{}}
subscribers:
  archive: {{commit: 50ms, every: 200ms, group: 1m, heartbeat: 300ms}}
  rrd: {{}}
topics:
  {WATER}: {{from: onewire}}
  {PUMP}: {{from: onewire, stale: 30s}}
"""
COUNT = "SELECT count(*) FROM readings"
WAYS = ("deleted", "emptied", "exchanged", "page", "head", "folder", "link")


@pytest.fixture
def archive(house: House, ear: Ear) -> House:
    house.write(TOPICS)
    house.start("archive")
    ear.wait("home/service/archive/status")
    return house


def database(house: House) -> Path:
    return house.state("archive") / "archive.sqlite"


def fold_log_in(path: Path) -> None:
    """Carry the log into the file, so that what is spoiled is spoiled."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def pages(path: Path, table: str, kind: str) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ? ORDER BY path"
        return [page for (page,) in connection.execute(query, (table, kind))]


def break_page(path: Path, number: int) -> None:
    with path.open("r+b") as file:
        file.seek(16)
        size = int.from_bytes(file.read(2), "big")
        file.seek((number - 1) * size)
        file.write(b"\xee" * size)


def spoil(path: Path, how: str) -> None:
    match how:
        case "deleted":
            path.unlink()
        case "emptied":
            os.truncate(path, 0)
        case "exchanged":
            copy = path.with_name("copy")
            with closing(sqlite3.connect(copy)) as other:
                other.execute("CREATE TABLE another (thing)")
            copy.replace(path)
        case "page":
            break_page(path, pages(path, "readings", "leaf")[-1])
        case "head":
            break_page(path, 1)
        case "folder":
            path.unlink()
            path.mkdir()
        case "link":
            path.rename(path.with_name("elsewhere"))
            path.symlink_to(path.with_name("elsewhere"))


def more_than(house: House, moment: int) -> bool:
    try:
        return ask_database(database(house), f"{COUNT} WHERE time > {moment}") not in ([], [(0,)])
    except sqlite3.DatabaseError:  # it is not replaced yet
        return False


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("how", WAYS)
def test_whatever_happens_to_its_file_it_goes_on_saves_and_says(
    archive: House, voice: Voice, ear: Ear, how: str, running: bool
) -> None:
    start, total = now() - 1_600_000, 1500
    for number in range(1, total + 1):
        voice.say(WATER, float(number % 90), start + 1000 * number, number)
    ear.wait(MARK, lambda mark: mark["after"] == total)
    if not running:
        archive.stop("archive")
    fold_log_in(database(archive))
    spoil(database(archive), how)
    if not running:
        archive.start("archive")
    for number in range(total + 1, total + 201):
        if number == total + 100:  # in two commits
            wait_for(lambda: more_than(archive, start + 1000 * total), what="the first of what comes after")
        voice.say(WATER, 20.0, start + 1000 * number, number, 0 if number == total + 1 else None)
    ear.wait(MARK, lambda mark: mark["after"] == total + 200, 60)

    def is_said() -> bool:
        return "is missing" in archive.log("archive") or "are missing" in archive.log("archive")

    def is_healed() -> bool:
        """Whether the archive had the page in memory, and wrote it anew with what came."""
        with suppress(sqlite3.DatabaseError):
            return running and how == "page" and ask_database(database(archive), COUNT) == [(total + 200,)]
        return False

    wait_for(lambda: is_said() or is_healed(), 60, "a sentence")
    if not is_said():
        assert ask_database(database(archive), "PRAGMA integrity_check") == [("ok",)]
        return
    found = ask_database(database(archive), COUNT)[0][0]
    log = archive.log("archive")
    assert "Traceback" not in log
    assert archive.processes["archive"].poll() is None
    assert ask_database(database(archive), f"{COUNT} WHERE time > {start + 1000 * total}") == [(200,)]
    if how == "link" or (running and how in ("deleted", "exchanged", "folder")):
        assert found == total + 200, "what is open, or only elsewhere, is read whole"
        assert "no longer time is missing" in log
    elif how in ("page", "head"):
        assert total + 200 >= found >= total + 200 - 300, "one page of readings is gone"
    else:
        assert found == 200
        assert "readings are missing before" in log
    if how == "exchanged":
        (aside,) = database(archive).parent.glob("archive.sqlite.damaged-*[0-9]")
        tables = "SELECT name FROM sqlite_master"
        assert ask_database(aside, tables) == [("another",)], "a stranger's file is left as it was"
        assert ("another",) not in ask_database(database(archive), tables)
    assert archive.stop("archive") == 0
    archive.start("archive")
    assert "damaged" not in archive.log("archive")[len(log) :], "it is no loop"


def test_a_page_that_nobody_reads_is_found_by_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "archive.sqlite"
    engine = schema.open_file(path)
    schema.migrate(engine)
    engine.dispose()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO topics VALUES (7, ?, '°C', 'gauge')", (WATER,))
        rows = [(now() - 60_000_000 + 1000 * n, 7, float(n), None) for n in range(20_000)]
        connection.executemany("INSERT INTO readings VALUES (?, ?, ?, ?)", rows)
        connection.commit()
    fold_log_in(path)
    monkeypatch.setattr(soundness, "FIRST", 0.0)
    look = soundness.Soundness(path)
    assert look.damage() is None
    wait_for(lambda: look.damage() or look._job is None, what="the first look")
    assert look._look_at > time.monotonic() + 80_000, "once a day, for it reads everything"
    break_page(path, pages(path, "readings", "leaf")[20])
    look._look_at = 0.0
    assert wait_for(look.damage, what="the second look")
    look._look_at = 0.0
    look.damage()
    path.rename(tmp_path / "aside")
    schema.open_file(path).dispose()
    wait_for(lambda: look._job is None or look._job.done(), what="the third look")
    assert look.damage() is None, "the file that it looked at is another one by now"
    look.close()


@pytest.mark.parametrize("size", [1024, 4096])
def test_a_broken_page_in_the_middle_costs_its_own_rows_and_their_time_is_said(tmp_path: Path, size: int) -> None:
    old, new = tmp_path / "old.sqlite", tmp_path / "new.sqlite"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(
            f"PRAGMA page_size={size}; PRAGMA auto_vacuum=INCREMENTAL; CREATE TABLE a (b); DROP TABLE a"
        )
    for path in (old, new):
        engine = schema.open_file(path)
        schema.migrate(engine)
        engine.dispose()
    start, total = now() - 60_000_000, 60_000
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("INSERT INTO topics VALUES (7, ?, '°C', 'gauge')", (WATER,))
        rows = [(start + 1000 * n, 7, float(n), None) for n in range(total)]
        connection.executemany("INSERT INTO readings VALUES (?, ?, ?, ?)", rows)
        minutes = [(7, start // 60_000 * 60_000 + 60_000 * n, 60, 1.0, 0.0, 2.0) for n in range(total // 60)]
        connection.executemany(
            "INSERT INTO minutes (topic, time, count, mean, low, high) VALUES (?,?,?,?,?,?)", minutes
        )
        connection.commit()
    fold_log_in(old)
    whole = old.read_bytes()
    leaves, inner = pages(old, "readings", "leaf"), pages(old, "readings", "internal")
    root = min(inner)

    def lost(*broken: int) -> tuple[int, list[tuple[int, int]], int]:
        old.write_bytes(whole)
        for page in broken:
            break_page(old, page)
        with closing(sqlite3.connect(new)) as connection:
            connection.executescript("DELETE FROM readings; DELETE FROM topics; DELETE FROM minutes")
        found = rescue(new, old, {WATER: "boiler/new/temperature"})
        count = ask_database(new, COUNT)[0][0]
        assert count == found.readings
        assert ask_database(new, "SELECT DISTINCT name FROM readings_by_name") == [("boiler/new/temperature",)]
        kept = ask_database(new, "SELECT count(*) FROM minutes")[0][0]
        return total - count, missing(new, found.gaps, start + 1000 * total), kept

    gone, spans, kept = lost(leaves[len(leaves) // 2])
    assert 50 < gone * 4096 / size < 300
    ((since, until),) = spans
    assert abs((until - since) / 1000 - gone) < 3, "its time is said to the second"
    assert kept == len(minutes)
    gone, spans, _ = lost(leaves[10], leaves[200])
    assert len(spans) == 2
    gone, spans, _ = lost(next(page for page in inner if page != root))
    assert gone < 300, "what hangs below a broken page is found without the tree"
    gone, _, _ = lost(root)
    assert gone < 300
    gone, _, kept = lost(pages(old, "minutes", "leaf")[0], leaves[-1])
    assert len(minutes) > kept > len(minutes) - 200
    gone, _, kept = lost(1)
    assert gone == 0
    assert kept == len(minutes)


def test_a_new_archive_that_takes_nothing_now_is_not_taken_for_damage_of_the_old_one(tmp_path: Path) -> None:
    old, new = tmp_path / "old.sqlite", tmp_path / "new.sqlite"
    for path in (old, new):
        engine = schema.open_file(path)
        schema.migrate(engine)
        engine.dispose()
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("INSERT INTO topics VALUES (7, ?, '°C', 'gauge')", (WATER,))
        connection.execute("INSERT INTO readings VALUES (?, 7, 1.0, NULL)", (now(),))
    refuses = "CREATE TRIGGER full BEFORE INSERT ON readings BEGIN SELECT RAISE(ABORT, 'full'); END"
    with closing(sqlite3.connect(new)) as connection, connection:
        connection.execute(refuses)
    with pytest.raises(sqlite3.IntegrityError, match="full"):
        rescue(new, old, {})
    with closing(sqlite3.connect(new)) as connection, connection:
        connection.execute("DROP TRIGGER full")
    found = rescue(new, old, {})
    assert (found.readings, found.gaps, found.unreadable) == (1, [], False)


def test_what_breaks_while_something_else_is_rescued_is_rescued_too(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("archive.sqlite", "one.sqlite", "two.sqlite")]
    for number, path in enumerate(files):
        engine = schema.open_file(path)
        schema.migrate(engine)
        engine.dispose()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO topics VALUES (7, ?, '°C', 'gauge')", (WATER,))
            connection.execute("INSERT INTO readings VALUES (?, 7, 1.0, NULL)", (now() - 1000 * number,))
    mending = Mending(files[0], tmp_path)
    said: list[str] = []
    with closing(sqlite3.connect(files[0])) as connection:
        connection.execute("BEGIN IMMEDIATE")  # the first waits for its turn to write
        mending.begin([files[1]], now(), {})
        time.sleep(0.3)
        mending.begin([files[2]], now(), {})
        connection.rollback()

    def done() -> bool:
        said.extend(mending.news())
        return not mending.working

    wait_for(done, 30, "both")
    mending.close()
    assert [sentence for sentence in said if "came out of" in sentence] == [
        f"1 readings came out of {path.name}" for path in files[1:]
    ]
    assert ask_database(files[0], COUNT) == [(3,)]
    assert json.loads((tmp_path / "mending.json").read_bytes()) == {"sources": [], "noticed": 0, "gap": None}


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("killed", ["path.rename(aside)", "schema.open_file", "set_aside", "resume or begin"])
def test_a_kill_while_it_is_set_aside_leaves_nothing_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str, running: bool
) -> None:
    (tmp_path / "topics.yaml").write_text(TOPICS)
    registry = Registry(tmp_path / "topics.yaml")

    def opened() -> OpenArchive:
        url = "sqlite:///{state}/archive.sqlite"
        return OpenArchive(url, tmp_path, registry, lambda _, page: len(page), now())

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    made, open_file = [], schema.open_file

    def remembered(path: Path) -> Any:
        made.append(open_file(path))
        return made[-1]

    monkeypatch.setattr(schema, "open_file", remembered)
    archive, start, total = opened(), now() - 3_000_000, 2500
    archive.recognise(now(), again=False)
    for number in range(total):
        archive.database.store(WATER, start + 1000 * number, 20.0)
    archive.commit(now())
    path = archive.database.path
    if not running:
        archive.close()
        fold_log_in(path)
        break_page(path, 1)
    with monkeypatch.context() as patch:
        if killed == "path.rename(aside)":
            patch.setattr(Path, "rename", kill)
        elif killed == "set_aside":
            move = database_module.set_aside

            def moved(*arguments: Any) -> None:
                move(*arguments)
                kill()

            patch.setattr(database_module, "set_aside", moved)
        elif killed == "schema.open_file" and running:
            patch.setattr(schema, "open_file", kill)
        elif killed == "schema.open_file":
            patch.setattr(database_module.Database, "_identify", kill)  # it is made by then
        else:
            patch.setattr(Mending, "resume", kill)
            patch.setattr(Mending, "begin", kill)
        with pytest.raises(KeyboardInterrupt):
            archive.begin_anew("its file is damaged", now()) if running else opened()
    for engine in made:  # what a kill leaves open its process closes
        engine.dispose()
    archive = opened()
    archive.recognise(now(), again=True)
    said = archive.news()
    wait_for(lambda: not archive.mending.working or said.extend(archive.news()), what="what it is to read")
    sentences = " ".join(said)
    archive.close()
    assert ask_database(path, COUNT) == [(total,)]
    assert "another archive" not in sentences
    assert "its file is gone" not in sentences
    if running and killed == "path.rename(aside)":
        assert not said, "it lies where it lay"
    else:
        (aside,) = tmp_path.glob("archive.sqlite.damaged-*[0-9]")
        assert f"set aside as {aside.name}" in sentences
        assert f"{total} readings came out of {aside.name}" in sentences
    assert json.loads((tmp_path / "mending.json").read_bytes())["sources"] == []


def test_rows_of_a_page_are_what_sqlite_says(tmp_path: Path) -> None:
    path = tmp_path / "any.sqlite"
    values: list[tuple[Any, ...]] = [
        (n * 10**k * sign, 1.5 * n, f"wörd {n}", None, n % 2)
        for n in range(40)
        for k in range(0, 17, 4)
        for sign in (1, -1)
    ]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE plain (a, b, c, d, e)")
        connection.executemany("INSERT INTO plain VALUES (?, ?, ?, ?, ?)", values)
        connection.commit()
    content = path.read_bytes()
    found = [
        row
        for n in range(len(content) // 4096)
        for _, row in sqlite_page.rows(content[4096 * n : 4096 * n + 4096], n + 1)
    ]
    assert {tuple(row) for row in found} >= set(values)
    for cut in range(0, 4096, 97):  # whatever lies there, nothing is raised
        list(sqlite_page.rows(os.urandom(cut), 2))
    for kind in range(256):  # each serial type, those too that no file has
        cell = bytes((3, 1, 2, kind, 7))
        page = bytes((sqlite_page.LEAF_TABLE, 0, 0, 0, 1, 0, 10, 0, 0, 10)) + cell + bytes(100)
        list(sqlite_page.rows(page, 2))
        list(sqlite_page.rows(content[4096 : 4096 + cut], 2))


@pytest.mark.parametrize("moment", [-62_135_596_800_000, 5, 253_402_300_799_999, 2**62])
def test_a_poison_that_got_in_is_stepped_around_at_the_next_start(
    archive: House, voice: Voice, ear: Ear, moment: int
) -> None:
    voice.say(WATER, 20.0, now(), 1)
    ear.wait(MARK, lambda mark: mark["after"] == 1)
    archive.stop("archive")
    with closing(sqlite3.connect(database(archive))) as connection:
        for table in ("readings (time, topic, value)", "minutes (time, topic, count)", "pending (time, topic)"):
            values = (moment, 1, 1.0)[: table.count(",") + 1]
            connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)
        connection.execute("INSERT INTO calendar VALUES (X'39', '2026-10', 5, 6)")  # a day that is none
        connection.commit()
    archive.start("archive")
    assert "had times that are none" in archive.log("archive")
    wait_for(lambda: "minutes and retention have to wait" in archive.log("archive"), what="the other sentence")
    voice.say(WATER, 20.0, now() + 1, 2)
    ear.wait(MARK, lambda mark: mark["after"] == 2)
    assert ask_database(database(archive), COUNT) == [(2,)]
    before = len(archive.log("archive"))
    assert archive.stop("archive") == 0
    archive.start("archive")
    assert "had times" not in archive.log("archive")[before:]


@pytest.mark.parametrize(
    "value", ["q795821345328", "179%821345328", "1795821345328000", "9" * 5000, b"\xb7953", "-1", "1" + "\0" * 12, ""]
)
def test_a_false_byte_in_its_settings_is_stepped_around_and_said(tmp_path: Path, value: str | bytes) -> None:
    (tmp_path / "topics.yaml").write_text(TOPICS)
    registry, sent = Registry(tmp_path / "topics.yaml"), list[bytes]()

    def opened() -> OpenArchive:
        return OpenArchive("sqlite:///{state}/archive.sqlite", tmp_path, registry, lambda _, page: len(sent), now())

    def works(archive: OpenArchive) -> None:
        archive.database.store(WATER, now() - 3_600_000, 20.0)
        archive.commit(now())
        archive.turn(now(), 1e9, 1e9, 10**9, certain=True, group=60_000)

    def spoil_settings(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            for name in ("reached", "hours"):
                row = "INSERT OR REPLACE INTO settings VALUES (?, CAST(? AS TEXT))"
                connection.execute(row, (name, value))
            assert hours.until(connection) is None

    archive = opened()
    works(archive)
    spoil_settings(archive.database.path)
    works(archive)  # and while it runs
    spoil_settings(archive.database.path)
    archive.close()
    archive = opened()
    said = " ".join(archive.news())
    assert "'reached' was no time" in said
    assert "'hours' was no time" in said
    works(archive)
    kept = ask_database(archive.database.path, "SELECT CAST(value AS INTEGER) FROM settings WHERE name = 'reached'")
    assert abs(kept[0][0] - now()) < 2 * 3_600_000
    archive.close()
    archive = opened()
    assert not archive.news()
    archive.close()


@pytest.mark.whole
def test_topics_that_the_database_does_not_take_now_are_taken_later(archive: House, voice: Voice, ear: Ear) -> None:
    new = "boiler/new/temperature"
    voice.say(WATER, 20.0, now(), 1)
    ear.wait(MARK, lambda mark: mark["after"] == 1)
    with closing(sqlite3.connect(database(archive))) as other:
        other.execute("BEGIN EXCLUSIVE")
        archive.write(TOPICS + f"  {new}: {{from: onewire}}\n")
        wait_for(lambda: "the archive does not take the new topics" in archive.log("archive"), what="the sentence")
        voice.say(new, 20.0, now(), 2)
        other.rollback()
    ear.wait(MARK, lambda mark: mark["after"] == 2)
    wait_for(lambda: dead(archive).count(new), what="what came meanwhile, kept: not marked and forgotten")
    wait_for(lambda: "topics.yaml is taken over" in archive.log("archive"), 60, "another try")
    voice.say(new, 21.0, now(), 3)
    ear.wait(MARK, lambda mark: mark["after"] == 3)
    assert ask_database(database(archive), f"{COUNT} WHERE value = 21") == [(1,)]


def test_a_time_before_there_was_such_a_house_is_a_dead_letter_and_holds_no_mark(
    archive: House, voice: Voice, ear: Ear
) -> None:
    for number, moment in enumerate(("0999-01-01T00:00:00.000Z", "1999-05-01T00:00:00.000Z", format_time(now())), 1):
        voice.raw(WATER, f'{{"value":20.5,"unit":"°C","time":"{moment}"}}'.encode(), number)
    ear.wait(MARK, lambda mark: mark["after"] == 3)
    assert ask_database(database(archive), COUNT) == [(1,)]
    assert len((archive.state("archive") / "dead_letters.jsonl").read_text().splitlines()) == 2


def test_numbers_beyond_what_the_database_holds_stop_nobody(archive: House, voice: Voice, ear: Ear) -> None:
    voice.say(WATER, 20.0, now(), 10**30)
    voice.say(WATER, 20.0, now() + 1, 2**63)
    voice.stream = "cd34"
    voice.say(WATER, 20.0, now() + 2, 1)
    ear.wait(MARK, lambda mark: mark == {"stream": "cd34", "after": 1})
    assert archive.processes["archive"].poll() is None


def test_streams_of_a_source_are_bounded_and_the_oldest_forgotten(
    archive: House, voice: Voice, ear: Ear, broker: Broker
) -> None:
    for number in range(40):
        voice.stream = f"stream{number}"
        voice.say(WATER, 20.0, now() + number, 1)
    ear.wait(MARK, lambda mark: mark["stream"] == "stream39")
    wait_for(lambda: ask_database(database(archive), "SELECT count(*) FROM marks") == [(4,)], what="four marks")
    assert said(broker, MARK)["stream"] == "stream39", "its topic retains the mark that the source waits for"
    voice.stream = "a_new_one".replace("_", "")
    voice.say(WATER, 20.0, now() + 50, 1)
    ear.wait(MARK, lambda mark: mark["stream"] == voice.stream)
    archive.stop("archive")
    ear.say(MARK, b"", retain=True)
    archive.start("archive", wait=True)
    broker.kill()  # its memory is gone: all marks are said again
    broker.start()
    wait_for(
        lambda: (said(broker, MARK) or {}).get("stream") == voice.stream,
        what="the newest stream's mark, kept over a start",
    )


def said(broker: Broker, topic: str) -> Any:
    """What a topic retains: what somebody hears who comes now."""
    late = Ear(broker.port, topic)
    try:
        return late.wait(topic, timeout=5)
    finally:
        late.close()


def test_an_older_copy_in_its_place_is_said_with_the_time_that_it_lacks(archive: House, voice: Voice, ear: Ear) -> None:
    start = now() - 600_000
    for number in range(1, 101):
        voice.say(WATER, 20.0, start + 1000 * number, number)
    ear.wait(MARK, lambda mark: mark["after"] == 100)
    archive.stop("archive")
    fold_log_in(database(archive))
    shutil.copy(database(archive), archive.folder / "older")
    archive.start("archive")
    assert "readings are missing" not in archive.log("archive")
    for number in range(101, 301):
        voice.say(WATER, 20.0, start + 1000 * number, number)
    ear.wait(MARK, lambda mark: mark["after"] == 300)
    archive.stop("archive")
    fold_log_in(database(archive))
    shutil.copy(archive.folder / "older", database(archive))
    archive.start("archive")
    wait_for(lambda: "readings are missing" in archive.log("archive"), what="the sentence")
    said_ = f"from {format_time(start + 100_000)} to {format_time(start + 300_000)}"
    assert f"readings are missing {said_}" in archive.log("archive")
    before = len(archive.log("archive"))
    assert archive.stop("archive") == 0
    archive.start("archive")
    assert "readings are missing" not in archive.log("archive")[before:], "it is said once"


def dead(house: House, *words: str) -> str:
    environment = os.environ | {"STATE_DIRECTORY": str(house.state("archive"))}
    line = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(house.config), "dead", *(words or ("archive",))]
    done = subprocess.run(line, env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_was_mended_is_taken_out_of_the_dead_letters_and_stored(archive: House, voice: Voice, ear: Ear) -> None:
    late = "boiler/late/temperature"
    for number in range(1, 31):
        voice.say(late, 20.0, now() + number, number)
    voice.raw(WATER, b"no reading", 31)
    voice.say(WATER, 20.0, now(), 32)
    wait_for(lambda: dead(archive).count("boiler/late/temperature") == 1, what="the list")
    assert "30 x home/data/boiler/late/temperature" in dead(archive)
    archive.write(TOPICS + f"  {late}: {{from: onewire}}\n")
    wait_for(lambda: "30 of them would be taken now" in dead(archive), what="the advice")
    wait_for(lambda: dead(archive, "archive", "--send") == "30 taken, 1 left\n", what="the answer")
    assert ask_database(database(archive), f"{COUNT} WHERE value = 20") in ([(30,)], [(31,)])
    assert dead(archive).count("\n") == 1
    assert dead(archive, "archive", "--drop") == "1 dropped, 0 left\n"
    assert dead(archive) == "no dead letters\n"


def test_what_is_not_kept_is_not_marked_and_goes_on_when_there_is_room(
    house: House, voice: Voice, ear: Ear, broker: Broker
) -> None:
    house.write(TOPICS.replace("commit: 50ms", "commit: 50ms, budget: 1"))
    house.start("archive")
    voice.say(WATER, 20.0, now(), 1)
    ear.wait(MARK, lambda mark: mark["after"] == 1)
    total = 2000
    for number in range(2, total):
        voice.say(WATER, 20.0, now(), number, unit="°F")
    health = ear.wait("home/service/archive/health", lambda health: health["counters"].get("unkept", 0) > 100, 60)
    assert "the dead letters are full" in str(health["last_error"])
    kept = (house.state("archive") / "dead_letters.jsonl").read_text().splitlines()
    wait_for(lambda: ear.last(MARK)["after"] == 1 + len(kept), what="the mark of all that was kept")
    assert ear.all("home/service/onewire/request/resend") or len(kept) + 1 < total
    listed = dead(house)
    assert f"{len(kept)} x home/data/{WATER}" in listed
    assert "its unit is '°F', topics.yaml says '°C'" in listed
    assert "would be taken now" not in listed
    assert dead(house, "archive", "--send") == f"0 taken, {len(kept)} left\n"
    shutil.move(house.state("archive") / "dead_letters.jsonl", house.folder / "read by a person")
    for number in range(2 + len(kept), 3 + 2 * len(kept)):
        voice.say(WATER, 20.0, now(), number, unit="°F")
    wait_for(lambda: ear.last(MARK)["after"] > 1 + len(kept), what="the mark")
