"""The picture of the house: real round-robin files, written by the real service from a real broker."""

import base64
import json
import math
import os
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rrdtool
from harness import PROJECT, Ear, House, wait_for

from bootstrap_lib.reading import Reading, encode, format_time, parse_time
from bootstrap_lib.registry import Registry
from services.stores import graph
from services.stores.roundrobin import Damaged, FileShape, Mean, RoundRobinFile, path_of, rename

pytestmark = pytest.mark.long

WATER, PHASE, IGNITER, GRID = (
    "boiler/water/temperature",
    "boiler/burner/phase",
    "boiler/igniter/active",
    "house/grid/energy",
)
NOW = int(time.time()) // 60 * 60 - 60
"""A whole minute, one to two minutes ago, in seconds."""


def topics(*, archive: bool = False, water: str = "", rrd: str = "") -> str:
    return f"""
sources:
  onewire: {{every: 10s}}
subscribers:
  {"archive: {}" if archive else ""}
  rrd: {{every: 100ms, flush: 100ms, heartbeat: 200ms{rrd}}}
topics:
  {WATER}: {{from: onewire, id: 28-0316a4f1c9ff{water}}}
  boiler/return/temperature: {{from: onewire, id: 28-0316a4f1c9fe, store: [archive]}}
  {PHASE}: {{from: onewire, states: [off, ignition, burning]}}
  {IGNITER}: {{from: onewire}}
  {GRID}: {{from: onewire}}
  boiler/burner/text: {{from: onewire}}
"""


UNITS = {WATER: "°C", GRID: "kWh", "boiler/return/temperature": "°C"}


def say(ear: Ear, topic: str, value: Any, seconds: float) -> None:
    reading = Reading(topic, value, UNITS.get(topic, ""), round(seconds * 1000))
    ear.say(f"home/data/{topic}", encode(reading), retain=True)


def file_of(house: House, topic: str) -> Path:
    return house.state("rrd") / "rrd" / f"{topic}.rrd"


def info(path: Path) -> dict[str, str]:
    lines = subprocess.run(["rrdtool", "info", path], capture_output=True, text=True, check=True).stdout.splitlines()
    return {key: value.strip('"') for key, value in (line.split(" = ", 1) for line in lines)}


def fetch(path: Path, start: int, end: int, function: str = "AVERAGE", resolution: int = 60) -> list[float | None]:
    window = ("--start", str(start), "--end", str(end - 1), "--resolution", str(resolution))
    (_, _, step), _, rows = rrdtool.fetch(str(path), function, *window)
    assert step == resolution
    return [row[0] for row in rows]


def last(path: Path) -> int:
    try:
        return int(rrdtool.last(str(path)))
    except rrdtool.OperationalError:
        return 0


def counter(ear: Ear, name: str, least: int = 1) -> int:
    return ear.wait("home/service/rrd/health", lambda health: health["counters"].get(name, 0) >= least)["counters"][
        name
    ]


@pytest.fixture
def lit(house: House, ear: Ear) -> House:
    house.write(topics())
    house.start("rrd")
    ear.wait("home/service/rrd/status")
    return house


def registry(tmp_path: Path, text: str) -> Registry:
    path = tmp_path / "topics.yaml"
    path.write_text(text)
    return Registry(path)


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_made_as_the_topic_asks(lit: House, ear: Ear) -> None:
    say(ear, WATER, 61.5, NOW)
    say(ear, PHASE, "burning", NOW)
    say(ear, IGNITER, True, NOW)
    say(ear, GRID, 1234.567, NOW)
    say(ear, "boiler/burner/text", "all is well", NOW)
    say(ear, "boiler/return/temperature", 42.0, NOW)
    wanted = {
        WATER: ("GAUGE", -55, 1200),
        PHASE: ("GAUGE", 0, 2),
        IGNITER: ("GAUGE", 0, 1),
        GRID: ("DDERIVE", 0, math.nan),
    }
    wait_for(lambda: all(last(file_of(lit, topic)) == NOW for topic in wanted), what="all files")
    for topic, (kind, low, high) in wanted.items():
        found = info(file_of(lit, topic))
        assert (found["step"], found["ds[value].type"], found["ds[value].minimal_heartbeat"]) == ("60", kind, "30")
        limits = float(found["ds[value].min"]), float(found["ds[value].max"])
        assert limits == pytest.approx((low, high), nan_ok=True)
    assert info(file_of(lit, PHASE))["ds[value].last_ds"] == "2.0"
    assert info(file_of(lit, IGNITER))["ds[value].last_ds"] == "1.0"
    spans = {key: int(info(file_of(lit, WATER))[key]) for key in ("rra[0].rows", "rra[9].rows", "rra[9].pdp_per_row")}
    assert spans["rra[0].rows"] * 60 == 86400
    assert spans["rra[9].rows"] * spans["rra[9].pdp_per_row"] * 60 == 3653 * 86400
    assert sorted(path.name for path in (lit.state("rrd") / "rrd").glob("*/*/*")) == [
        "active.rrd",
        "energy.rrd",
        "phase.rrd",
        "temperature.rrd",
    ]


@pytest.mark.slow
def test_a_batch_goes_in_whole_and_late_and_repeated_readings_neither_fail_nor_block(lit: House, ear: Ear) -> None:
    start = NOW - 3600
    for number in range(0, 3601, 10):
        say(ear, WATER, 20.0 + number % 60 / 10, start + number)
    wait_for(lambda: last(file_of(lit, WATER)) == NOW, what="the batch")
    assert fetch(file_of(lit, WATER), start + 60, NOW) == pytest.approx([22.5] * 59)
    before = fetch(file_of(lit, WATER), start, NOW)
    say(ear, WATER, 99.0, NOW)
    say(ear, WATER, 98.0, NOW - 30)
    say(ear, WATER, 21.0, NOW + 20)
    wait_for(lambda: last(file_of(lit, WATER)) == NOW + 20, what="the reading behind them")
    assert counter(ear, "late", 2) == 2
    assert fetch(file_of(lit, WATER), start, NOW) == pytest.approx(before, nan_ok=True)
    assert "WARNING" not in lit.log("rrd")


def test_a_time_of_the_future_does_not_block_the_file(lit: House, ear: Ear) -> None:
    say(ear, WATER, 20.0, time.time() + 2 * 365 * 86400)
    say(ear, WATER, 21.0, NOW)
    wait_for(lambda: last(file_of(lit, WATER)) == NOW, what="the reading of now")
    assert counter(ear, "dead") == 1


def test_a_file_from_a_time_of_the_future_is_begun_anew_and_takes_what_is_said_now(house: House, ear: Ear) -> None:
    house.write(topics())
    shape = FileShape.of(Registry(house.config).topics[WATER], 60)
    RoundRobinFile(file_of(house, WATER), shape).write([((NOW + 2 * 365 * 86400) * 1000, 20.0)])
    house.start("rrd")
    say(ear, WATER, 21.0, NOW)
    wait_for(lambda: last(file_of(house, WATER)) == NOW, what="the reading of now")
    assert "has an update of the future" in house.log("rrd")


def test_a_state_holds_until_it_changes(tmp_path: Path) -> None:
    topic = registry(tmp_path, topics()).topics[IGNITER]
    file = RoundRobinFile(tmp_path / "a/b/c.rrd", replace(FileShape.of(topic, 60), heartbeat=600))
    file.write(
        [(NOW * 1000 - 600_000, 0.0), (NOW * 1000 - 310_000, 1.0), (NOW * 1000 - 250_000, 0.0), (NOW * 1000, 0.0)]
    )
    seconds = [60 * share for share in fetch(file.path, NOW - 540, NOW) if share is not None]
    assert sum(seconds) == pytest.approx(60, abs=0.01)
    again = RoundRobinFile(tmp_path / "a/b/c.rrd", replace(FileShape.of(topic, 60), heartbeat=600))
    again.write([(NOW * 1000 + 60_000, 1.0)])
    assert fetch(file.path, NOW, NOW + 60)[0] == pytest.approx(0, abs=0.001)


def test_a_changed_range_interval_and_heartbeat_keep_the_history(lit: House, ear: Ear) -> None:
    path = file_of(lit, WATER)
    start = NOW - 7200
    for number in range(0, 7201, 20):
        say(ear, WATER, 20.0 + number / 1000, start + number)
    wait_for(lambda: last(path) == NOW, what="the batch")
    minutes, hour = fetch(path, start + 60, NOW), fetch(path, start // 300 * 300 + 300, NOW // 300 * 300, "MAX", 300)
    assert None not in minutes
    lit.write(topics(water=", range: [-20, 110], stale: 5m"))
    wait_for(lambda: info(path)["ds[value].minimal_heartbeat"] == "300", what="the new heartbeat")
    assert (float(info(path)["ds[value].min"]), float(info(path)["ds[value].max"])) == (-20, 110)
    assert fetch(path, start + 60, NOW) == minutes
    lit.write(topics(water=", every: 2s", rrd=", finest: 10s"))
    wait_for(lambda: info(path)["step"] == "10", what="the finer grid")
    assert fetch(path, start // 300 * 300 + 300, NOW // 300 * 300, "MAX", 300) == pytest.approx(hour, nan_ok=True)
    fine = fetch(path, start + 60, NOW - 60, resolution=10)
    assert fine[5::6] == pytest.approx(minutes[: len(fine[5::6])], nan_ok=True)
    say(ear, WATER, 30.0, NOW + 10)
    wait_for(lambda: last(path) == NOW + 10, what="a reading on the new grid")
    assert "Traceback" not in lit.log("rrd")


def test_a_renamed_topic_keeps_its_file(tmp_path: Path) -> None:
    definition = FileShape.of(registry(tmp_path, topics()).topics[WATER], 60)
    RoundRobinFile(path_of(tmp_path, WATER), definition).write([(NOW * 1000, 61.0)])
    assert rename(tmp_path, WATER, "cellar/boiler/water_temperature")
    assert last(path_of(tmp_path, "cellar/boiler/water_temperature")) == NOW
    assert not rename(tmp_path, WATER, "a/b/temperature")
    RoundRobinFile(path_of(tmp_path, WATER), definition).write([(NOW * 1000, 61.0)])
    assert not rename(tmp_path, WATER, "cellar/boiler/water_temperature"), "that one has a history of its own"
    assert path_of(tmp_path, WATER).exists()


@pytest.mark.parametrize(
    "spoil",
    [lambda whole: b"", lambda whole: whole[:5000], lambda whole: b"\0" * len(whole), lambda whole: b"XRD" + whole[3:]],
    ids=["empty", "cut", "zeros", "another"],
)
def test_a_damaged_file_is_told_from_one_that_is_not(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    definition = FileShape.of(registry(tmp_path, topics()).topics[WATER], 60)
    path = path_of(tmp_path, WATER)
    RoundRobinFile(path, definition).write([(NOW * 1000, 61.0)])
    assert RoundRobinFile(path, definition).last == NOW * 1000
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(Damaged, match="is damaged"):
        RoundRobinFile(path, definition)


def test_a_disk_that_refuses_is_waited_for_and_nothing_is_lost(house: House, ear: Ear, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    house.write(topics(rrd=f", folder: {blocked}"))
    house.start("rrd")
    say(ear, WATER, 61.0, NOW)
    ear.wait("home/service/rrd/health", lambda health: health["state"] == "degraded")
    blocked.unlink()
    wait_for(lambda: last(path_of(blocked, WATER)) == NOW, what="the reading")
    ear.wait("home/service/rrd/health", lambda health: health["state"] == "running")


# -- filling from the archive ----------------------------------------------------------------------------------------


class StubArchive:
    """Answers replays as the archive does, from a list of readings, over the real broker."""

    def __init__(self, ear: Ear, readings: list[tuple[str, Any, float]]) -> None:
        self.ear, self.readings, self.asked = ear, readings, []

    def answer(self) -> None:
        """Answer the requests that came since the last call."""
        requests = self.ear.all("home/service/archive/request/replay")
        for payload in requests[len(self.asked) :]:
            request = json.loads(payload)
            self.asked.append(request)
            since, until = parse_time(request["from"]), parse_time(request["to"])
            times = [time * 1000 for _, _, time in self.readings]
            page = [
                {"topic": topic, "value": value, "unit": UNITS.get(topic, ""), "time": format_time(round(time * 1000))}
                for topic, value, time in self.readings
                if topic in request["topics"] and since <= time * 1000 < until
            ]
            replay = f"home/service/archive/replay/{request['for']}"
            for first in range(0, len(page), 500):
                self.ear.say(replay, json.dumps(page[first : first + 500]))
            following = min((time for time in times if time >= until), default=None)
            end = {"end": True, "count": len(page), "id": request["id"]}
            end["next"] = format_time(round(following)) if following is not None else None
            self.ear.say(replay, json.dumps(end))


@pytest.mark.slow
def test_what_the_service_missed_is_filled_from_the_archive(house: House, ear: Ear) -> None:
    path, start = file_of(house, WATER), NOW - 8 * 3600
    history = [(WATER, 20.0 + number % 600 / 100, start + number) for number in range(0, 8 * 3600 - 60, 10)]
    archive = StubArchive(ear, history)
    house.write(topics(archive=True))
    house.start("rrd")

    def answered(condition: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: archive.answer() or condition()

    # A broker that knew nothing of us: all that the archive has, in slices; what comes meanwhile waits its turn.
    say(ear, WATER, 25.0, NOW)
    wait_for(answered(lambda: last(path) == NOW), what="the filled file")
    assert len(archive.asked) >= 3
    assert archive.asked[0]["from"] == "1970-01-01T00:00:00.000Z"
    assert set(archive.asked[0]["topics"]) == {WATER, PHASE, IGNITER, GRID}
    whole = fetch(path, start + 60, NOW - 60)
    assert None not in whole
    assert sum(v for v in whole if v) / len(whole) == pytest.approx(22.95, abs=0.02)

    # A file that is damaged while the service runs is set aside and filled anew.
    path.write_bytes(b"no longer what it was")
    say(ear, WATER, 25.5, NOW + 10)
    wait_for(answered(lambda: last(path) == NOW + 10), what="the rebuilt file")
    assert fetch(path, start + 60, NOW - 60) == pytest.approx(whole)
    assert path.with_name("temperature.rrd.damaged").read_bytes() == b"no longer what it was"
    assert house.log("rrd").count("is set aside as") == 1
    assert counter(ear, "damaged") == 1

    # An end that was not clean: only what came after the file's last update is asked for.
    house.kill("rrd")
    archive.readings += [(WATER, 26.0, NOW + 15)]
    house.start("rrd")
    asked = len(archive.asked)
    wait_for(answered(lambda: last(path) == NOW + 15), what="what was missed")
    assert [request["from"] for request in archive.asked[asked:] if WATER in request["topics"]] == [
        format_time((NOW + 10) * 1000)
    ]

    # A clean end: nothing is asked for.
    ear.wait("home/service/rrd/health", lambda health: health["filling"] == 0)
    assert house.stop("rrd") == 0
    assert not (house.state("rrd") / "unclean").exists()
    house.start("rrd")
    asked = len(archive.asked)
    say(ear, WATER, 26.5, NOW + 20)
    wait_for(answered(lambda: last(path) == NOW + 20), what="the next reading")
    assert len(archive.asked) == asked


def test_answers_to_what_people_ask_the_archive_are_not_put_aside(house: House, ear: Ear) -> None:
    house.write(topics(archive=True))
    house.start("rrd")
    ear.wait("home/service/rrd/status")
    ear.say("home/service/archive/response/replay", json.dumps({"status": "ok", "data": {}, "id": 7}))
    end = {"end": True, "from": "x", "to": "y", "count": 0, "next": None, "id": 7}
    ear.say("home/service/archive/replay/rrd", json.dumps(end))
    ear.say("home/service/archive/replay/rrd", "no page")
    wait_for(lambda: "put aside" in house.log("rrd"), what="what is put aside")
    assert house.log("rrd").count("put aside") == 1


def test_an_archive_that_refuses_is_not_waited_for(house: House, ear: Ear) -> None:
    house.write(topics(archive=True))
    house.start("rrd")
    say(ear, WATER, 25.0, NOW)
    request = ear.wait("home/service/archive/request/replay")
    assert last(file_of(house, WATER)) == 0
    refusal = {"status": "error", "error": "'replay' is not known", "id": request["id"]}
    ear.say("home/service/archive/response/replay", json.dumps(refusal))
    wait_for(lambda: last(file_of(house, WATER)) == NOW, what="the reading")
    assert house.log("rrd").count("the archive refuses: 'replay' is not known") == 1


# -- graphs ----------------------------------------------------------------------------------------------------------


def pixels(png: bytes) -> tuple[int, int, set[tuple[int, ...]]]:
    """Width, height and colours of a PNG with eight bits a channel (w3.org/TR/png)."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    position, data, width, height, depth = 8, b"", 0, 0, 0
    while position < len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        body = png[position + 8 : position + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack_from(">I", png, position + 8 + length)[0]
        if kind == b"IHDR":
            width, height, bits, colour = struct.unpack_from(">IIBB", body)
            assert bits == 8
            depth = {2: 3, 6: 4}[colour]
        data += body if kind == b"IDAT" else b""
        position += 12 + length
    raw, line = zlib.decompress(data), width * depth
    colours, before = set(), bytearray(line)
    for row in range(height):
        filter_type, now = raw[row * (line + 1)], bytearray(raw[row * (line + 1) + 1 : (row + 1) * (line + 1)])
        for n in range(line):
            a, b, c = now[n - depth] if n >= depth else 0, before[n], before[n - depth] if n >= depth else 0
            p = a + b - c
            paeth = min((a, b, c), key=lambda x: abs(p - x))
            now[n] = (now[n] + (0, a, b, (a + b) // 2, paeth)[filter_type]) % 256
        colours.update(tuple(now[n : n + 3]) for n in range(0, line, depth))
        before = now
    return width, height, colours


def has(colours: set[tuple[int, ...]], wanted: str, opacity: float = 1.0) -> bool:
    """Whether a colour, laid on white, is in a picture, or one that nobody tells from it."""
    target = [255 + (int(wanted[n : n + 2], 16) - 255) * opacity for n in (1, 3, 5)]
    return any(max(abs(a - b) for a, b in zip(colour, target, strict=True)) < 12 for colour in colours)


def fill(folder: Path, house: Registry) -> None:
    for name, values in {
        WATER: lambda n: 50 + 10 * math.sin(n / 100),
        PHASE: lambda n: float(n // 120 % 3),
        IGNITER: lambda n: float(n % 360 < 60),
        GRID: lambda n: 1000 + n / 300,
    }.items():
        file = RoundRobinFile(path_of(folder, name), FileShape.of(house.topics[name], 60))
        file.write([((NOW - 4 * 3600 + n * 10) * 1000, values(n)) for n in range(4 * 360)])


def test_a_graph_shows_lines_bands_and_shades(tmp_path: Path) -> None:
    house = registry(tmp_path, topics())
    fill(tmp_path, house)

    def draw(
        names: list[str], start: str, width: int = 400, height: int = 200
    ) -> tuple[int, int, set[tuple[int, ...]]]:
        output = tmp_path / "out.png"
        span = graph.Span.parse(start, None, NOW)
        graph.draw(graph.select(house, tmp_path, names), tmp_path, output, span, width=width, height=height)
        return pixels(output.read_bytes())

    width, height, colours = draw([WATER, f"home/data/{PHASE}"], "4h")
    assert (width, height) == (400, 200)
    assert has(colours, graph.LINES[0])
    assert all(has(colours, band, 0.6) for band in graph.BANDS[:3])
    *_, colours = draw([WATER], "25h")
    assert has(colours, graph.LINES[0], 0.22)
    assert not has(colours, graph.BANDS[2], 0.6)
    *_, colours = draw([IGNITER, PHASE], "4h")
    assert has(colours, graph.BANDS[graph.SWITCH], 0.6)


@pytest.mark.parametrize(
    ("names", "span", "sentence"),
    [
        ([WATER, GRID], "4h", "one graph has one unit, these have °C, kW"),
        (["boiler/watr/temperature"], "4h", "topics.yaml has no topic 'boiler/watr/temperature'"),
        (["boiler/return/temperature"], "4h", "has no file in"),
        ([WATER], "yesterday", "'yesterday' is neither a duration such as 4h nor a time"),
        ([WATER], "2999-01-01T00:00:00Z", "from earlier to later"),
    ],
)
def test_a_graph_that_cannot_be_drawn_gets_a_sentence(
    tmp_path: Path, names: list[str], span: str, sentence: str
) -> None:
    house = registry(tmp_path, topics())
    fill(tmp_path, house)
    with pytest.raises(graph.GraphError, match=sentence):
        graph.select(house, tmp_path, names) and graph.Span.parse(span, None, NOW)


def test_a_graph_by_request_is_a_file_and_in_the_answer_when_asked_for(lit: House, ear: Ear) -> None:
    for number in range(0, 1200, 10):
        say(ear, WATER, 40 + number / 60, NOW - 1200 + number)
    wait_for(lambda: last(file_of(lit, WATER)) == NOW - 10, what="the batch")
    order = {"id": 1, "topics": [WATER], "from": "30m", "width": 300, "height": 200, "inline": True}
    answer = ear.ask("rrd", "graph", order)
    assert answer["status"] == "ok", answer
    picture = Path(answer["data"]["path"]).read_bytes()
    assert lit.state("rrd") in Path(answer["data"]["path"]).parents
    assert base64.b64decode(answer["data"]["base64"]) == picture
    width, height, colours = pixels(picture)
    assert (width, height) == (300, 200)
    assert has(colours, graph.LINES[0])
    assert "no topic 'a/b/c'" in ear.ask("rrd", "graph", {"id": 2, "topics": ["a/b/c"]})["error"]
    assert "`$.width`" in ear.ask("rrd", "graph", {"id": 3, "topics": [WATER], "width": 10**6})["error"].replace(
        "`width`", "`$.width`"
    )


# -- commands --------------------------------------------------------------------------------------------------------


def constellation(config: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bootstrap_lib.cli", "--config", config, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, cwd=PROJECT, timeout=30
    )


def test_a_dump_loads_into_files_with_the_same_content(tmp_path: Path) -> None:
    house = registry(tmp_path, topics())
    before, after = tmp_path / "before", tmp_path / "after"
    fill(before / "rrd", house)
    done = constellation(house.path, "dump", "rrd", tmp_path / "house.tar", STATE_DIRECTORY=str(before))
    assert (done.returncode, done.stdout) == (0, "dump: 4 files\n"), done.stderr
    done = constellation(house.path, "load", "rrd", tmp_path / "house.tar", STATE_DIRECTORY=str(after))
    assert (done.returncode, done.stdout) == (0, "load: 4 files\n"), done.stderr
    for name in (WATER, PHASE, IGNITER, GRID):
        texts = [
            subprocess.run(["rrdtool", "dump", path_of(f / "rrd", name)], capture_output=True).stdout
            for f in (before, after)
        ]
        assert texts[0] == texts[1]
        assert len(texts[0]) > 100_000
    (tmp_path / "no.tar").write_text("nothing of the kind")
    done = constellation(house.path, "load", "rrd", tmp_path / "no.tar", STATE_DIRECTORY=str(after))
    assert done.returncode == os.EX_IOERR
    assert "no.tar cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_load_beside_the_running_service_is_refused_and_after_one_the_files_are_filled(lit: House, ear: Ear) -> None:
    say(ear, WATER, 25.0, NOW)
    wait_for(lambda: last(file_of(lit, WATER)) == NOW, what="the reading")
    state, tar = lit.state("rrd"), lit.folder / "house.tar"
    constellation(lit.config, "dump", "rrd", tar, STATE_DIRECTORY=str(state))
    done = constellation(lit.config, "load", "rrd", tar, STATE_DIRECTORY=str(state))
    assert done.returncode != 0
    assert "'rrd' runs already" in done.stderr
    assert lit.stop("rrd") == 0
    assert not (state / "unclean").exists()
    done = constellation(lit.config, "load", "rrd", tar, STATE_DIRECTORY=str(state))
    assert done.returncode == 0, done.stderr
    assert (state / "unclean").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave files to another user")
def test_a_load_by_root_leaves_the_files_to_the_service(tmp_path: Path) -> None:
    house = registry(tmp_path, topics())
    before = tmp_path / "before"
    fill(before / "rrd", house)
    with tempfile.TemporaryDirectory() as open_to_all:  # pytest's own folders are root's alone
        Path(open_to_all).chmod(0o755)
        after = Path(open_to_all) / "after"
        after.mkdir()
        os.chown(after, 65534, 65534)
        _load_by_root(house, before, after, tmp_path / "house.tar")


def _load_by_root(house: Registry, before: Path, after: Path, tar: Path) -> None:
    dumped = constellation(house.path, "dump", "rrd", tar, STATE_DIRECTORY=str(before))
    assert dumped.returncode == 0, dumped.stderr
    done = constellation(house.path, "load", "rrd", tar, STATE_DIRECTORY=str(after))
    assert done.returncode == 0, done.stderr
    owners = {path.stat().st_uid for path in after.rglob("*")}
    assert owners == {65534}


def test_the_graph_command_draws_from_the_files(tmp_path: Path) -> None:
    house = registry(tmp_path, topics())
    fill(tmp_path / "rrd", house)
    output = tmp_path / "boiler.png"
    done = constellation(house.path, "graph", WATER, PHASE, "--output", output, STATE_DIRECTORY=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, f"{output}\n"), done.stderr
    assert output.stat().st_size > 10_000
    done = constellation(house.path, "graph", WATER, GRID, STATE_DIRECTORY=str(tmp_path))
    assert (done.returncode, done.stdout) == (os.EX_DATAERR, "")
    assert done.stderr.splitlines()[-1].startswith("constellation graph: one graph has one unit")


def test_a_new_store_gets_its_history_from_the_real_archive(house: House, ear: Ear) -> None:
    house.write(topics(archive=True).replace("archive: {}", "archive: {every: 100ms, commit: 50ms, heartbeat: 200ms}"))
    house.start("archive")
    ear.wait("home/service/archive/status")
    for number in range(10, 1201, 10):
        say(ear, WATER, 20.0 + number % 60 / 10, NOW - 1200 + number)
        say(ear, PHASE, "burning" if number >= 600 else "off", NOW - 1200 + number)
    ear.wait("home/service/archive/health", lambda health: health["counters"].get("stored", 0) >= 240)
    house.start("rrd")
    wait_for(lambda: last(file_of(house, WATER)) == last(file_of(house, PHASE)) == NOW, what="both files")
    assert fetch(file_of(house, WATER), NOW - 1080, NOW) == pytest.approx([22.5] * 18)
    assert fetch(file_of(house, PHASE), NOW - 1080, NOW, "LAST") == pytest.approx([0.0] * 8 + [2.0] * 10, abs=0.001)
    assert counter(ear, "filled", 240) == 240


DAY = 86400


def store_a_year(path: Path) -> None:
    """Minutes of four hundred days, and raw readings of the last, as an archive has them."""
    archive = sqlite3.connect(path)
    ids = dict(archive.execute("SELECT name, id FROM topics"))
    end = NOW - 120
    begin = end - 400 * DAY

    def water(second: int) -> float:
        return 20.0 + second // DAY % 10 + 6.0 * (second % 3600 == 1800)

    gauges = ((ids[WATER], s * 1000, 6, water(s), water(s), water(s)) for s in range(begin, end, 60))
    archive.executemany("INSERT INTO minutes (topic, time, count, mean, low, high) VALUES (?, ?, ?, ?, ?, ?)", gauges)
    recent = range(end - 40 * DAY, end, 60)
    rows = ((ids[GRID], s * 1000, 1, (s - begin) / 3600, 1 / 60) for s in recent)
    archive.executemany("INSERT INTO minutes (topic, time, count, last, difference) VALUES (?, ?, ?, ?, ?)", rows)
    switched = ((ids[IGNITER], s * 1000, 0, 15.0, 0) for s in recent)
    archive.executemany("INSERT INTO minutes (topic, time, count, seconds_on, starts) VALUES (?, ?, ?, ?, ?)", switched)
    words = ((ids[PHASE], s * 1000, 1, "burning" if s // DAY % 2 else "off") for s in recent)
    archive.executemany("INSERT INTO minutes (topic, time, count, word) VALUES (?, ?, ?, ?)", words)
    raw = ((s * 1000, ids[WATER], water(s - s % 60)) for s in range(end - DAY, end, 20))
    archive.executemany("INSERT INTO readings (time, topic, value) VALUES (?, ?, ?)", raw)
    archive.commit()
    archive.close()


def test_a_damaged_file_gets_its_whole_history_again(house: House, ear: Ear) -> None:
    """Raw readings reach back eight days, minutes for years."""
    text = topics(archive=True).replace("archive: {}", "archive: {commit: 50ms, heartbeat: 200ms}")
    house.write(text)
    house.start("archive")
    house.stop("archive")
    store_a_year(house.state("archive") / "archive.sqlite")
    house.start("archive")
    file_of(house, WATER).parent.mkdir(parents=True)
    file_of(house, WATER).write_bytes(b"no longer what it was")
    house.start("rrd")
    for topic, value in ((WATER, 30.0), (GRID, 20_000.0), (IGNITER, True), (PHASE, "off")):
        say(ear, topic, value, NOW)
    wait_for(lambda: {last(file_of(house, topic)) for topic in UNITS} == {0, NOW}, 40, "the rebuilt files")
    ear.wait("home/service/rrd/health", lambda health: health["filling"] == 0, 40)

    def day(topic: str, days: int, resolution: int, function: str = "AVERAGE") -> list[float | None]:
        start = (NOW - days * DAY) // DAY * DAY
        return fetch(file_of(house, topic), start, start + DAY, function, resolution)

    for days, resolution in ((10, 300), (100, 3600), (380, 21600)):
        base = 20.0 + (NOW // DAY - days) % 10
        assert day(WATER, days, resolution, "MIN") == pytest.approx([base] * (DAY // resolution))
        highest = [base + 6.0 * (resolution > 300 or n % 12 == 6) for n in range(DAY // resolution)]
        assert day(WATER, days, resolution, "MAX") == pytest.approx(highest)
        means = day(WATER, days, resolution)
        assert None not in means
        assert sum(means) / len(means) == pytest.approx(base + 0.1, abs=0.001)
    assert day(GRID, 30, 3600) == pytest.approx([1 / 3600] * 24)
    assert day(IGNITER, 30, 3600) == pytest.approx([0.25] * 24)
    states = {tuple(day(PHASE, days, 3600, "LAST")) for days in (30, 31)}
    assert states == {(0.0,) * 24, (2.0,) * 24}
    gone = fetch(file_of(house, GRID), NOW - 60 * DAY, NOW - 50 * DAY, resolution=3600)
    assert set(gone) == {None}, "nothing is invented"


def test_means_keep_their_gaps_and_what_lasts_until_it_changes(tmp_path: Path) -> None:
    house = registry(tmp_path, topics())
    start = NOW // 3600 * 3600 - 48 * 3600
    file = RoundRobinFile(tmp_path / "water.rrd", FileShape.of(house.topics[WATER], 60))
    hours = [Mean((start + hour * 3600) * 1000, 3_600_000, 20.0 + hour, 20.0 + hour, 20.0 + hour) for hour in (0, 1, 4)]
    assert file.write_means(hours) == 0
    assert file.write_means(hours[:1]) == 1
    file.write([((start + 5 * 3600 + n * 10) * 1000, 30.0) for n in range(1, 361)])
    assert fetch(file.path, start, start + 6 * 3600, resolution=3600) == [20.0, 21.0, None, None, 24.0, 30.0]
    assert info(file.path)["ds[value].minimal_heartbeat"] == "30"
    seldom = FileShape.of(house.topics[IGNITER], 60)
    switch = RoundRobinFile(tmp_path / "switch.rrd", replace(seldom, heartbeat=4 * 3600))
    switch.write_means([Mean((start + hour * 3600) * 1000, 3_600_000, on, on, on) for hour, on in ((0, 1.0), (3, 0.0))])
    assert fetch(switch.path, start, start + 4 * 3600, resolution=3600) == [1.0, 1.0, 1.0, 0.0]
