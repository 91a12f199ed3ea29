"""Readings of several sources must be judged in the order of their times, however they come, and none be lost."""

import random

from services.boiler.backlog import HELD, PATIENCE, QUIET, SETTLE, Backlog, Waiting

INPUTS = {"water", "flue"}
WALL = 1_795_000_000_000


def test_readings_come_out_once_and_in_order_as_far_as_their_moment_is_over() -> None:
    waiting: list[Waiting] = []
    backlog = Backlog(waiting, 0.0)
    times = random.Random(1).sample(range(1000), 200)
    for time in times:
        backlog.take("water", 60.0, time, WALL, 0.0)
    backlog.take("water", "a word", 5, WALL, 0.0)
    first = backlog.due(499, behind=False)
    assert [time for time, _, _ in first] == sorted(time for time in times if time <= 499)
    assert [time for time, _, _ in backlog.due(1000, behind=False)] == sorted(time for time in times if time > 499)
    assert waiting == []


def test_a_backlog_is_held_back_but_not_beyond_its_bound() -> None:
    backlog = Backlog([], 0.0)
    for time in range(HELD):
        backlog.hold("water", 1.0, -time)
    assert backlog.due(SETTLE, behind=True) == []
    backlog.hold("water", 1.0, 1)
    assert [time for time, _, _ in backlog.due(SETTLE, behind=True)] == list(range(1 - HELD, 1 - HELD + HELD // 2))


def test_it_has_caught_up_when_all_inputs_speak_of_the_present_or_have_had_their_time() -> None:
    backlog = Backlog([], 100.0)

    def behind(now: float, *, online: bool = True, filling: bool = False) -> bool:
        return backlog.is_behind(now, 60.0, INPUTS, online=online, filling=filling)

    backlog.take("water", 60.0, WALL - 1000, WALL, 100.0)
    assert behind(100.0 + 59), "the flue has not spoken yet"
    assert not behind(100.0 + 60), "it has had its time"
    backlog.connect(200.0)
    for topic in INPUTS:
        backlog.take(topic, 60.0, WALL - 1000, WALL, 200.0)
    assert behind(200.0 + QUIET / 2)
    assert behind(200.0 + QUIET, filling=True), "the archive has more"
    assert not behind(200.0 + QUIET)
    assert behind(300.0, online=False)
    backlog.connect(400.0)
    for second in range(int(60 + PATIENCE)):
        backlog.take("water", 60.0, WALL - 86_400_000, WALL, 400.0 + second)
        assert behind(400.0 + second)
    assert not behind(400.0 + 60 + PATIENCE), "a backlog without end is not waited for"
