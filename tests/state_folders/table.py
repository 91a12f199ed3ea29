"""The table of docs/durability.md, from what a run found."""

from collections.abc import Iterable
from pathlib import Path

from tests.state_folders.run import Result

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "durability.md"
BEGIN, END = "<!-- state folders: written by python -m tests.state_folders --write -->", "<!-- end of state folders -->"


def rows(results: Iterable[Result]) -> list[str]:
    """Lines of the table: a file each, with the ways that went alike put together."""
    lines = ["| service | file | cases | what it says | missing afterwards |", "|---|---|---|---|---|"]
    kinds: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        kinds.setdefault((result.service, result.file), []).append(result)
    for (service, file), found in kinds.items():
        said: dict[str, set[str]] = {}
        for result in found:
            said.setdefault(result.kind, set()).add(result.way)
        words = "; ".join(f"{kind} ({', '.join(sorted(ways))})" for kind, ways in said.items())
        lost = {result.way: result.lost for result in found if result.lost}
        missing = ", ".join(f"{count} ({way})" for way, count in lost.items()) or "nothing"
        good = sum(result.good for result in found)
        lines.append(f"| {service} | `{file}` | {good} of {len(found)} good | {words} | {missing} |")
    return lines


def put_in(results: Iterable[Result]) -> None:
    """Write the table into the page."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("\n".join([before + BEGIN, "", *rows(results), "", END + after]))
