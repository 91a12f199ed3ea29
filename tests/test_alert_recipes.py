"""Every recipe of docs/alerts.md is good for the shipped house, and none silences another for ever."""

import re
from pathlib import Path

import yaml

from bootstrap_lib.registry import Registry
from services.alerting import Rule, compile_lines

PROJECT = Path(__file__).resolve().parent.parent
PAGE = (PROJECT / "docs" / "alerts.md").read_text()


def recipes() -> str:
    (block,) = re.findall(r"## Recipes\n\n((?:    .*\n|\n)+)", PAGE)
    return "\n".join(line.removeprefix("    ") for line in block.splitlines())


def test_the_recipes_are_good_for_the_shipped_house(tmp_path: Path) -> None:
    names = yaml.safe_load(recipes())["alerts"].keys()
    assert len(names) > 10
    shipped = (PROJECT / "topics.yaml").read_text().partition("\nalerts:\n")[0]
    (tmp_path / "topics.yaml").write_text(f"{shipped}\n{recipes()}\n")
    watches, problems = compile_lines(Registry(tmp_path / "topics.yaml"))
    assert not problems, [str(problem) for problem in problems]
    assert {watch.owner for watch in watches} == names


def test_the_tables_name_every_key_of_a_rule() -> None:
    for key in Rule.__struct_encode_fields__:
        assert f"`{key}`" in PAGE or f"`{key}:" in PAGE or f"{key}:" in PAGE, key
