"""Every recipe of docs/alerts.md is good for the shipped house, and none silences another for ever."""

import re
from pathlib import Path

import yaml

from bootstrap_lib.registry import Registry
from services.alerting import compile_lines

PROJECT = Path(__file__).resolve().parent.parent
PAGE = (PROJECT / "docs" / "alerts.md").read_text()


def recipes() -> str:
    (block,) = re.findall(r"## Recipes\n\n((?:    .*\n|\n)+)", PAGE)
    return "\n".join(line.removeprefix("    ") for line in block.splitlines())


def test_the_recipes_are_good_for_the_shipped_house(tmp_path: Path) -> None:
    shipped = yaml.safe_load((PROJECT / "topics.yaml").read_text())
    shipped["alerts"] = yaml.safe_load(recipes())["alerts"]
    assert len(shipped["alerts"]) > 10
    (tmp_path / "topics.yaml").write_text(yaml.safe_dump(shipped))
    watches, problems = compile_lines(Registry(tmp_path / "topics.yaml"))
    assert not problems, [str(problem) for problem in problems]
    assert {watch.owner for watch in watches} == shipped["alerts"].keys()


def test_the_tables_name_every_key_of_a_rule() -> None:
    from services.alerting import Rule

    for key in Rule.__struct_encode_fields__:
        assert f"`{key}`" in PAGE or f"`{key}:" in PAGE or f"{key}:" in PAGE, key
