"""`constellation rename`: the text of topics.yaml, and every place in which history waits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import PROJECT, Ear, House, wait_for
from voices import Voice, ask_database, now

from bootstrap_lib.commands.rename import renamed
from bootstrap_lib.document import StartError

MARK = "home/service/archive/stored/onewire"
OLD, MIDDLE, NEW = "cellar/boiler/temperature", "cellar/kettle/temperature", "cellar/furnace/temperature"
TOPICS = f"""
sources:
  onewire: {{}}
subscribers:
  archive: {{commit: 50ms, every: 200ms, group: 1m, heartbeat: 300ms}}
topics:
  {OLD}: {{from: onewire, id: 28-0316a4f1c9ff}}  # below the stairs
"""


def test_rules_and_phases_are_renamed_with_it_and_comments_stay() -> None:
    text = f"""topics:
  # {OLD} is the hot one
  {OLD}: {{from: onewire}}  # {OLD}
  {OLD}_count: {{from: onewire}}
alerts:
  hot: {{when: {OLD} > 90, say: "{{value}}", picture: {OLD}}}  # of {OLD}
  quiet: {{stale: "#"}}
phases: {{boiler: {{inputs: {{water: {OLD}}}}}}}
"""
    assert (
        renamed(text, OLD, NEW)
        == f"""topics:
  # {OLD} is the hot one
  {NEW}: {{was: '{OLD}', from: onewire}}  # {OLD}
  {OLD}_count: {{from: onewire}}
alerts:
  hot: {{when: {NEW} > 90, say: "{{value}}", picture: {NEW}}}  # of {OLD}
  quiet: {{stale: "#"}}
phases: {{boiler: {{inputs: {{water: {NEW}}}}}}}
"""
    )


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("  a/b/c: {from: x}\n", "  d/e/f: {was: 'a/b/c', from: x}\n"),
        ("  a/b/c: {was: 'g/h/i', from: x}\n", "  d/e/f: {was: ['a/b/c', 'g/h/i'], from: x}\n"),
        ('  a/b/c: {from: x, was: [g/h/i, "j/k/l"]}\n', "  d/e/f: {was: ['a/b/c', 'g/h/i', 'j/k/l'], from: x, }\n"),
        ("  a/b/c: {was: d/e/f, from: x}\n", "  d/e/f: {was: 'a/b/c', from: x}\n"),
        ("  a/b/c:\n    from: x\n", "  d/e/f:\n    was: 'a/b/c'\n    from: x\n"),
        ("  a/b/c:\n\n    # hot\n    from: x\n", "  d/e/f:\n    was: 'a/b/c'\n\n    # hot\n    from: x\n"),
        ("  a/b/c:\n    was: 'g/h/i'\n    from: x\n", "  d/e/f:\n    was: ['a/b/c', 'g/h/i']\n    from: x\n"),
        (
            '  a/b/c:  # hot\n    from: x\n    was: [g/h/i, "j/k/l"]  # once\n',
            "  d/e/f:  # hot\n    from: x\n    was: ['a/b/c', 'g/h/i', 'j/k/l']  # once\n",
        ),
        (
            "  a/b/c:\n    was:\n      - g/h/i\n      - 'j/k/l'  # twice\n    from: x\n",
            "  d/e/f:\n    was: ['a/b/c', 'g/h/i', 'j/k/l']\n    from: x\n",
        ),
        ("  a/b/c:\n    'was':\n    - g/h/i\n", "  d/e/f:\n    was: ['a/b/c', 'g/h/i']\n"),
        ("  a/b/c:\n    was: d/e/f # hot\n    from: x", "  d/e/f:\n    was: 'a/b/c'  # hot\n    from: x"),
        (
            "  a/b/c:\n    from: x\n  k/l/m:\n    was: o/p/q\n    from: x\n",
            "  d/e/f:\n    was: 'a/b/c'\n    from: x\n  k/l/m:\n    was: o/p/q\n    from: x\n",
        ),
        ("  a/b/c: {was: ['g/{h,i}/j', k], from: x}\n", "  d/e/f: {was: ['a/b/c', 'g/{h,i}/j', 'k'], from: x}\n"),
        ("  a/b/c: {label: 'Öfen, was: y', from: *x}\n", "  d/e/f: {was: 'a/b/c', label: 'Öfen, was: y', from: *x}\n"),
        ("  a/b/c: {label: 'was: y', \"was\": g/h/i}\n", "  d/e/f: {was: ['a/b/c', 'g/h/i'], label: 'was: y', }\n"),
        ("  'a/b/c':   {from: x}\n", "  d/e/f:   {was: 'a/b/c', from: x}\n"),
    ],
)
def test_a_line_of_any_form_remembers_all_its_names(line: str, result: str) -> None:
    assert renamed(f"topics:\n{line}", "a/b/c", "d/e/f") == f"topics:\n{result}"


def test_a_line_in_block_form_is_renamed_again_and_again() -> None:
    text = "topics:\n  a/b/c:\n    from: x\n"
    for old, new in (("a/b/c", "d/e/f"), ("d/e/f", "g/h/i"), ("g/h/i", "a/b/c"), ("a/b/c", "j/k/l")):
        text = renamed(text, old, new)
    assert text == "topics:\n  j/k/l:\n    was: ['a/b/c', 'g/h/i', 'd/e/f']\n    from: x\n"


def test_a_line_that_is_not_there_or_cannot_be_changed_is_said() -> None:
    for text in (
        "topics: {a/b/c: {from: x}}",
        "topics:\n  a/b/c: &line\n    from: x\n",
        "topics:\n  a/b/c:\n    was: [d/e/f,\n      g/h/i]\n    from: x\n",
        "topics:\n  a/b/c: {from: x,\n    was: g/h/i}\n",
        "topics:\n  a/b/c:\n    was: &names [d/e/f]\n    from: x\n",
        "topics:\n  a/b/c:\n  d/e/g: {from: x}\n",
    ):
        with pytest.raises(StartError, match="by hand"):
            renamed(text, "a/b/c", "d/e/f")


def test_braces_are_renamed_name_by_name_in_rules() -> None:
    text = "topics:\n  a/b/cell_{1..2}_voltage: {from: x}\nalerts:\n  low: {when: a/b/cell_2_voltage < 3}\n"
    assert "when: a/c/cell_2_voltage < 3" in renamed(text, "a/b/cell_{1..2}_voltage", "a/c/cell_{1..2}_voltage")


def rename(house: House, old: str, new: str) -> None:
    command = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(house.config), "rename", old, new]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, env=os.environ, timeout=60)
    assert done.returncode == 0, done.stderr


def test_history_stays_one_over_two_renames_late_readings_and_a_restored_backup(
    house: House, voice: Voice, ear: Ear, tmp_path: Path
) -> None:
    house.write(TOPICS)
    house.start("archive")
    ear.wait("home/service/archive/status")
    start, database = now() - 600_000, house.state("archive") / "archive.sqlite"

    def names() -> list[tuple[str, int]]:
        return ask_database(database, "SELECT name, count(*) FROM readings_by_name GROUP BY name")

    voice.say(OLD, 20.0, start, 1)
    ear.wait(MARK, lambda mark: mark["after"] == 1)
    assert ear.ask("archive", "backup")["status"] == "ok"
    rename(house, OLD, MIDDLE)
    rename(house, MIDDLE, NEW)
    wait_for(lambda: names() == [(NEW, 1)], what="the new name")
    voice.say(OLD, 21.0, start + 1000, 2)  # what waited under a name of before
    voice.say(MIDDLE, 22.0, start + 2000, 3)
    voice.say(NEW, 23.0, start + 3000, 4)
    ear.wait(MARK, lambda mark: mark["after"] == 4)
    assert names() == [(NEW, 4)]
    archive = house.state("archive")
    house.stop("archive")
    for file in archive.glob("archive.sqlite*"):
        file.unlink()
    house.start("archive")
    wait_for(lambda: names() == [(NEW, 1)], what="the backup, under the new name")
    assert not (archive / "dead_letters.jsonl").exists()


def test_rows_under_both_names_become_one_topic(house: House, voice: Voice, ear: Ear) -> None:
    house.write(TOPICS)
    house.start("archive")
    ear.wait("home/service/archive/status")
    database, minute = house.state("archive") / "archive.sqlite", (now() // 60_000 - 5) * 60_000
    for number in (1, 2):
        voice.say(OLD, 20.0, minute + number, number)
    ear.wait(MARK, lambda mark: mark["after"] == 2)
    house.write(TOPICS.replace(OLD, NEW))  # by hand, without `was`
    ear.wait("home/service/archive/health", lambda health: health["state"] == "running")
    wait_for(lambda: ask_database(database, "SELECT count(*) FROM topics") == [(2,)], what="a second topic")
    voice.say(NEW, 40.0, minute + 3, 3)
    ear.wait(MARK, lambda mark: mark["after"] == 3)
    house.write(TOPICS.replace(f"{OLD}: {{", f"{NEW}: {{was: {OLD}, "))
    wait_for(lambda: ask_database(database, "SELECT name FROM topics") == [(NEW,)], what="one topic")
    wait_for(lambda: ask_database(database, "SELECT count FROM minutes") == [(3,)], what="one minute")
