"""docs/architecture.md is checked against the code: each file and function of its walks is there, and calls the next."""

import ast
import itertools
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from harness import PROJECT

PAGE = (PROJECT / "docs/architecture.md").read_text()
ROW = re.compile(r"^\| \d+ \| `([^`]+)` \| (.+?) \| (.*?) ?\|$", re.MULTILINE)


class Step(NamedTuple):
    """One row of a walk."""

    file: Path
    functions: list[str]
    calls: list[str]


def walk(title: str) -> list[Step]:
    section = PAGE.split(f"## {title}")[1].split("\n## ")[0]
    words = re.compile(r"`(\w+)`")
    return [
        Step(PROJECT / file, words.findall(does), words.findall(calls)) for file, does, calls in ROW.findall(section)
    ]


WALKS = {title: walk(title) for title in ("A reading, from the sensor to its row", "A request, to its answer")}


def bodies(file: Path) -> dict[str, list[ast.AST]]:
    found: dict[str, list[ast.AST]] = {}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, []).append(node)
    return found


def called_in(nodes: list[ast.AST]) -> set[str]:
    names: set[str] = set()
    for node in nodes:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Call):
                names.add(inner.func.attr if isinstance(inner.func, ast.Attribute) else getattr(inner.func, "id", ""))
    return names


def test_a_reading_passes_nine_files_at_most() -> None:
    steps = WALKS["A reading, from the sensor to its row"]
    assert 5 < len({step.file for step in steps}) <= 9


@pytest.mark.parametrize("title", WALKS)
def test_each_step_is_there_and_calls_what_the_page_says(title: str) -> None:
    steps = WALKS[title]
    assert len(steps) > 5
    for step in steps:
        known = bodies(step.file)
        assert step.functions, step.file
        assert not set(step.functions) - known.keys(), f"{step.file} has no {set(step.functions) - known.keys()}"
        nodes = [node for name in step.functions for node in known[name]]
        if step.functions == ["samples"]:  # a generator hands on by yielding, and the source's loop takes
            assert any(isinstance(inner, ast.Yield | ast.YieldFrom) for node in nodes for inner in ast.walk(node))
            nodes = bodies(PROJECT / "bootstrap_lib/source.py")["_take_samples"]
        if step.functions == ["on_reading", "flush"]:
            assert "flush" in called_in(bodies(PROJECT / "bootstrap_lib/subscriber.py")["_flush"])
        missing = set(step.calls) - called_in(nodes) - set(step.functions)
        assert not missing, f"{step.file}: {', '.join(step.functions)} do not call {', '.join(missing)}"


@pytest.mark.parametrize("title", WALKS)
def test_each_step_ends_at_the_next(title: str) -> None:
    steps = WALKS[title]
    for step, following in itertools.pairwise(steps):
        if step.calls and "_post" not in step.calls and following.file.name != "spool.py":
            assert set(step.calls) & set(following.functions) or "method" in step.calls, (step, following)


def test_files_that_the_page_names_are_there_with_their_functions() -> None:
    for file, _, function in re.findall(r"`((?:services|bootstrap_lib)/[\w/]+\.py)`( \(`(\w+)`\))?", PAGE):
        assert (PROJECT / file).exists(), file
        if function:
            assert function in bodies(PROJECT / file), f"{file} has no {function}"
