"""docs/security.md says what is true, with the test beside each line: each test that it names is there."""

import re

from harness import PROJECT

PAGE = (PROJECT / "docs/security.md").read_text("utf-8")
TESTS = {
    name
    for file in (PROJECT / "tests").glob("test_*.py")
    for name in re.findall(r"(?m)^def (test_\w+)", file.read_text("utf-8"))
}


def test_each_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(test_\w+)`", PAGE)
    assert len(named) > 30
    assert sorted(set(named) - TESTS) == []


def test_each_line_of_what_holds_has_its_test() -> None:
    tables = re.findall(r"\| what holds \| proven by \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE)
    lines = [line for table in tables for line in table.splitlines()]
    assert len(lines) > 25
    assert [line for line in lines if not re.search(r"\| `test_\w+`[^|]*\|$", line)] == []
