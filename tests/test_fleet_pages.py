"""docs/fleet.md, block by block: each command is one that there is, each piece of a topics.yaml is a right one."""

import argparse
import re
import shlex
from pathlib import Path

import pytest
from harness import PROJECT

from bootstrap_lib import Registry, catalog
from services.commands import fleet, password
from services.fleet import roster
from services.fleet.roster import RosterHouse

PAGE = (PROJECT / "docs/fleet.md").read_text("utf-8")
BLOCKS = [re.sub(r"(?m)^ {4}", "", part) for part in re.findall(r"(?m)(?:^ {4}\S.*\n(?:^ {4,}\S.*\n)*)", PAGE)]
COMMANDS = [
    line for block in BLOCKS for line in block.splitlines() if "constellation " in line and ":" not in line[:14]
]
SETTINGS = [block for block in BLOCKS if re.search("^subscribers:", block, re.MULTILINE)]


def test_there_are_commands_and_settings_to_look_at() -> None:
    assert len(COMMANDS) >= 12
    assert len(SETTINGS) >= 3


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_is_one_that_there_is(line: str) -> None:
    line = line.rpartition("&& ")[2]
    words = shlex.split(line)
    if words[0] != "constellation" or words[1] not in ("fleet", "password"):
        assert words[0] in ("apt", "systemctl", "constellation", "house:", "python")
        return
    parser = argparse.ArgumentParser(exit_on_error=False)
    (fleet if words[1] == "fleet" else password).add_arguments(parser)
    parser.parse_args(words[2:])


@pytest.mark.parametrize("block", SETTINGS)
def test_each_piece_of_a_topics_yaml_is_right(block: str, tmp_path: Path) -> None:
    houses = tmp_path / "fleet.json"
    roster.write(houses, roster.Roster({"h0001": RosterHouse(), "h0002": RosterHouse()}))
    text = block.replace("/etc/constellation/fleet.json", str(houses))
    config = tmp_path / "topics.yaml"
    config.write_text(text)
    registry = Registry(config)
    problems = [
        str(problem)
        for instance in registry.instances.values()
        for problem in catalog.find(instance.service).check(registry, instance.name)
    ]
    assert problems == []
