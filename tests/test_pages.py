"""The pages: their links lead somewhere, and the commands and files that they name exist."""

import os
import re
import tomllib
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import PROJECT

from bootstrap_lib.cli import _verbs

PAGES = sorted(
    path.relative_to(PROJECT)
    for pattern in ("*.md", ".github/**/*.md", "docs/**/*.md", "tests/**/*.md")
    for path in PROJECT.glob(pattern)
)
INVENTED = {"services/co2.py"}
"""Files that a page tells its reader to make."""

COMMAND = re.compile(
    r"(?:^|[;|&] *|sudo |\$ |\w=\S+ |/bin/)constellation ((?:--config \S+ |--version\b)?)([a-z]+)?", re.MULTILINE
)
SCRIPT = re.compile(r"(?:^|[ ;|&])(?:\./)?((?:scripts|tests|\.ci)/[\w./-]*\w)", re.MULTILINE)
FILE = re.compile(r"(?:bootstrap_lib|services|systemd|tests|scripts|docs|requirements)(?:/[\w.@-]+)+/?")


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as the hosts of repositories make them."""
    found: set[str] = set()
    for heading in re.findall(r"(?m)^#+ +(.*?) *#*$", without_code(text)):
        words = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).replace("`", "").strip().lower()
        kept = (c for c in words if c in "-_ " or unicodedata.category(c)[0] in "LN")
        anchor = plain = "".join(kept).replace(" ", "-")
        count = 0
        while anchor in found:
            count += 1
            anchor = f"{plain}-{count}"
        found.add(anchor)
    return found


def without_code(text: str) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", text)


def code(text: str) -> Iterator[str]:
    """Blocks of code of a page, fenced and indented, and the words between backticks."""
    yield from re.findall(r"(?ms)^ *```\w*\n(.*?)^ *```$", text)
    rest = without_code(text)
    for block in re.findall(r"(?m)(?:(?:^|\n)\n)((?: {4}.*(?:\n|$)|\n(?= {4}))+)", rest):
        yield re.sub(r"(?m)^ {4}", "", block)
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"(?m)^ {4}.*$", "", rest))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_each_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    text = (PROJECT / page).read_text("utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", without_code(text)))
    broken = []
    for link in links:
        if re.match(r"https?:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (PROJECT / page).parent / target if target else PROJECT / page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text("utf-8"))):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_each_command_and_each_file_that_is_named_exists(page: Path) -> None:
    verbs, wrong = set(_verbs()), []
    for piece in code((PROJECT / page).read_text("utf-8")):
        plain = re.sub(r"(?m)^\$ |#.*$", "", piece)
        wrong += [f"constellation {verb}" for _, verb in COMMAND.findall(plain) if verb and verb not in verbs]
        for name in SCRIPT.findall(plain):
            path = PROJECT / name
            if not path.exists() or ("scripts/" in name and not os.access(path, os.X_OK)):
                wrong.append(name)
        if FILE.fullmatch(piece) and "NAME" not in piece and piece not in INVENTED and not (PROJECT / piece).exists():
            wrong.append(piece)
    assert not wrong


def test_what_is_looked_for_in_a_page_is_found() -> None:
    page = (
        "# A `word`: here?\n\ntext\n\n    sudo constellation nothing\n    scripts/none x\n\n"
        "```sh\nconstellation --config x nil\n# A comment\n```\n\n`services/no.py`\n\n## Again\n## Again\n"
    )
    pieces = "\n".join(code(page))
    assert {verb for _, verb in COMMAND.findall(pieces)} == {"nothing", "nil"}
    assert SCRIPT.findall(pieces) == ["scripts/none"]
    assert "services/no.py" in pieces
    assert anchors(page) == {"a-word-here", "again", "again-1"}


def test_the_map_of_rooms_names_every_room_and_no_other() -> None:
    contributing = (PROJECT / "CONTRIBUTING.md").read_text("utf-8")
    table = contributing.partition("## The map of rooms")[2].partition("\n## ")[0]
    named = {name.rstrip("/") for name in re.findall(r"(?m)^\| `([\w/]+)", table)}
    rooms = {str(path.parent.relative_to(PROJECT)) for path in PROJECT.glob("services/*/__init__.py")}
    rooms |= {str(path.parent.relative_to(PROJECT)) for path in PROJECT.glob("bootstrap_lib/*/__init__.py")}
    assert {name for name in named if "/" in name} - {"services/"} >= rooms
    assert all((PROJECT / name).exists() for name in named)


def test_the_site_leads_to_each_page_once() -> None:
    listed = re.findall(r"(?m)^ +- (?:[^:\n]+: )?(\S+\.md)$", (PROJECT / "scripts/site.yml").read_text("utf-8"))
    there = {path.name for path in (PROJECT / "docs").glob("*.md")}
    assert sorted(listed) == sorted({*there, "index.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"})


def test_the_readme_installs_what_pyproject_has() -> None:
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for page in PAGES:
        for words in re.findall(r"pip install '\.\[([\w,]+)\]'", (PROJECT / page).read_text("utf-8")):
            assert set(words.split(",")) <= extras.keys()


@pytest.mark.parametrize("service", sorted(path.stem for path in (PROJECT / "services").glob("[a-z]*.py")))
def test_each_service_has_a_page_that_ends_the_search_of_somebody_in_a_cellar(service: str) -> None:
    text = (PROJECT / f"docs/services/{service}.md").read_text()
    assert text.startswith(f"# {service}")
    assert re.search(rf"(?m)^ *(?:{service}|\w+): .*(?:{service}|service:)|^ *{service}:", text), "no block to copy"
    assert "## What goes wrong" in text
