"""The first picture of a young house shows a curve, phases are as long as they were, and nothing is ever `nan`."""

import base64
import time
from pathlib import Path

import pytest
import rrdtool
from harness import Ear, House
from test_rrd import GRID, IGNITER, NOW, PHASE, WATER, constellation, fill, has, pixels, registry, say, topics

from services.stores import graph
from services.stores.fresh import Fresh, stored
from services.stores.roundrobin import number


def fresh_of(folder, house, readings):
    fresh = Fresh(folder)
    for name, time_s, value in readings:
        topic = house.topics[name]
        fresh.add(topic, round(time_s * 1000), number(value, topic))
    return fresh


def drawn(tmp_path, house, names, recent):
    span = graph.Span.parse("4h", None, NOW)
    output = tmp_path / "out.png"
    graph.draw(graph.select(house, tmp_path, names, recent), tmp_path, output, span, recent, width=400, height=200)
    return pixels(output.read_bytes())[2]


def sheet_of(tmp_path, house, names, recent, start="4h"):
    (tmp_path / "scratch").mkdir(exist_ok=True)
    topics_ = graph.select(house, tmp_path, names, recent)
    return topics_, graph.prepare(
        topics_, tmp_path, tmp_path / "scratch", graph.Span.parse(start, None, NOW), recent, width=400
    )


def figures(topics_, sheet):
    """What rrdtool prints on the picture."""
    arguments = [text.replace("GPRINT:", "PRINT:", 1) for text in graph.describe(topics_, sheet, 400, 200)]
    _, _, printed = rrdtool.graph("/dev/null", *arguments)
    return [text.replace("\\l", "").strip() for text in printed or []]


def test_half_a_minute_of_readings_is_a_curve_and_spans_what_there_is(tmp_path: Path) -> None:
    house = registry(tmp_path, topics())
    fresh = fresh_of(tmp_path, house, [(WATER, NOW - 30 + 3 * n, 50.0 + n) for n in range(10)])
    recent = fresh.of([WATER])
    assert has(drawn(tmp_path, house, [WATER], recent), graph.LINES[0])
    topics_, sheet = sheet_of(tmp_path, house, [WATER], recent)
    assert sheet.span == graph.Span(NOW - 30, NOW)
    last, low, mean, high = (float(text) for text in figures(topics_, sheet))
    assert (last, low, high) == pytest.approx((59, 50, 59), abs=0.6)
    assert mean == pytest.approx(54.5, abs=0.8)


def test_a_file_that_holds_enough_is_drawn_from(tmp_path: Path) -> None:
    house = registry(tmp_path, topics())
    fill(tmp_path, house)
    fresh = fresh_of(tmp_path, house, [(WATER, NOW - 30 + 3 * n, 50.0 + n) for n in range(10)])
    _, sheet = sheet_of(tmp_path, house, [WATER], fresh.of([WATER]))
    assert sheet.span == graph.Span(NOW - 4 * 3600, NOW)
    assert sheet.paths[WATER] == tmp_path / f"{WATER}.rrd"


def test_phases_are_bands_from_their_own_times(tmp_path: Path) -> None:
    house = registry(tmp_path, topics())
    times = [(NOW - 3600, "off"), (NOW - 1787, "ignition"), (NOW - 1500, "burning"), (NOW - 13, "off")]
    said = []
    for (begin, word), until in zip(times, [*(time_s for time_s, _ in times[1:]), NOW], strict=True):
        said += [(PHASE, moment, word) for moment in range(begin, until, 10)]
    fresh = fresh_of(tmp_path, house, said)
    assert [value for _, value in fresh.states[PHASE].points] == [0, 1, 2, 0]
    fresh.save()
    for recent in (fresh.of([PHASE]), stored(tmp_path), Fresh(tmp_path).states):
        _, sheet = sheet_of(tmp_path, house, [PHASE], recent)
        pieces = sheet.bands[PHASE]
        assert [(begin // 1000, value) for begin, _, value in pieces] == [
            (NOW - 3600, 0), (NOW - 1787, 1), (NOW - 1500, 2), (NOW - 13, 0)
        ]  # fmt: skip
    colours = drawn(tmp_path, house, [PHASE], fresh.of([PHASE]))
    assert all(has(colours, band, 0.6) for band in graph.BANDS[:3])


def test_before_its_own_times_a_state_is_as_the_file_says_and_in_silence_nothing(tmp_path: Path) -> None:
    house = registry(tmp_path, topics())
    fill(tmp_path, house)
    silent = 2 * house.topics[PHASE].stale
    fresh = fresh_of(tmp_path, house, [(PHASE, NOW - 1800, "burning"), (PHASE, NOW - 60, "off")])
    _, sheet = sheet_of(tmp_path, house, [PHASE], fresh.of([PHASE]))
    pieces = sheet.bands[PHASE]
    assert pieces[0][0] // 1000 <= NOW - 4 * 3600 + 120
    later = [
        (begin // 1000 - NOW, until // 1000 - NOW, value)
        for begin, until, value in pieces
        if begin // 1000 >= NOW - 1800
    ]
    assert later[0][0] == -1800
    assert later[0][2] == 2.0
    assert -1800 < later[0][1] <= -1800 + silent
    assert later[-1][0] == -60


@pytest.mark.parametrize("names", [[WATER], [WATER, PHASE], [PHASE, IGNITER], [GRID]])
def test_what_is_not_known_is_said_and_never_nan(tmp_path: Path, names: list[str]) -> None:
    house = registry(tmp_path, topics())
    fill(tmp_path, house)
    topics_, sheet = sheet_of(tmp_path, house, names, {}, start="2015-01-01T00:00:00Z")
    assert not any("nan" in text for text in figures(topics_, sheet))
    past = graph.Span(NOW - 10 * 86400, NOW - 9 * 86400)
    empty = graph.prepare(topics_, tmp_path, tmp_path / "scratch", past, {}, width=400)
    assert not any("nan" in text for text in figures(topics_, empty))
    assert any("nothing in this time" in text for text in graph.describe(topics_, empty, 400, 200))


def test_a_graph_that_is_asked_for_at_once_shows_what_came_a_moment_ago(house: House, ear: Ear) -> None:
    house.write(topics().replace("flush: 100ms", "flush: 1h"))
    house.start("rrd")
    ear.wait("home/service/rrd/health")
    now = time.time()
    for n in range(8):
        say(ear, WATER, 50 + n, now - 20 + 2 * n)
    order = {"id": 7, "topics": [WATER], "from": "10m", "width": 300, "height": 200, "inline": True}
    deadline = time.monotonic() + 60
    while (answer := ear.ask("rrd", "graph", order))["status"] != "ok":
        assert "no file" in answer["error"] or "another graph" in answer["error"], answer
        assert time.monotonic() < deadline, answer
    assert has(pixels(base64.b64decode(answer["data"]["base64"]))[2], graph.LINES[0])


def test_the_command_asks_the_service_where_the_files_are_not_at_hand(house: House, ear: Ear, tmp_path: Path) -> None:
    house.write(topics())
    house.start("rrd")
    ear.wait("home/service/rrd/health")
    now = time.time()
    for n in range(8):
        say(ear, WATER, 50 + n, now - 20 + 2 * n)
    output = tmp_path / "asked.png"
    deadline = time.monotonic() + 60
    while True:
        done = constellation(
            house.config, "graph", WATER, "--from", "10m", "--output", output, STATE_DIRECTORY=str(tmp_path / "nowhere")
        )
        if done.returncode == 0:
            break
        assert "no file" in done.stderr, done.stderr
        assert time.monotonic() < deadline
    assert has(pixels(output.read_bytes())[2], graph.LINES[0])
