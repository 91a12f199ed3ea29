"""Blocks of commands in the pages, as a reader would paste them."""

import re

from harness import PROJECT


def section(page: str, title: str) -> str:
    """Text below a heading, up to the next one of its level or above."""
    text = (PROJECT / page).read_text("utf-8")
    found = re.search(rf"(?ms)^(#+) {re.escape(title)}$\n(.*?)(?=^\1 |^#{{1,2}} |\Z)", text)
    assert found is not None, f"{page} has no section '{title}'"
    return found[2]


def blocks(text: str) -> list[list[str]]:
    """Commands of each indented block; continued lines are one, what stands behind ` # ` is a comment."""
    found: list[list[str]] = []
    for part in re.findall(r"(?m)(?:^(?: {4}| {8})\S.*\n(?:^ {4,}\S.*\n)*)", text):
        joined = re.sub(r"\\\n\s*", "", part)
        lines = [re.split(r"\s+#\s", line)[0].strip() for line in joined.splitlines()]
        found.append([line for line in lines if line])
    return found
