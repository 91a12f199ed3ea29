"""Pages in other languages: what is pasted, shown and linked is what the English page has, so that no translation stays behind unnoticed."""

import re
from collections import Counter
from pathlib import Path

import pytest
from harness import PROJECT
from test_pages import without_code

DOCS = PROJECT / "docs"
TRANSLATED = ("tour", "install")
LANGUAGES = sorted(path.stem for path in (PROJECT / "services/page/static/words").glob("*.json") if path.stem != "en")
"""Those that the page itself speaks."""
BESIDE = r"(?m)^\S*English\S* · .*$"
"""The line that leads to the other languages."""

both = pytest.mark.parametrize(
    ("english", "other"),
    [(DOCS / f"{page}.md", DOCS / f"{page}.{language}.md") for page in TRANSLATED for language in LANGUAGES],
    ids=lambda path: path.name,
)


def read(page: Path) -> str:
    return page.read_text("utf-8")


def blocks(text: str) -> list[str]:
    """Blocks of code, whole, with their comments."""
    fenced = re.findall(r"(?ms)^```.*?^```$", text)
    return fenced + re.findall(r"(?m)(?<=\n\n)(?: {4}.*\n)+", without_code(text))


def words(text: str) -> Counter[str]:
    """What stands between backticks."""
    return Counter(re.sub(r"\s+", " ", one) for one in re.findall(r"`([^`]+)`", without_code(text)))


def headings(text: str) -> list[int]:
    return [len(signs) for signs in re.findall(r"(?m)^(#+) ", without_code(text))]


def links(page: Path, language: str = "") -> list[str]:
    """Where links and pictures lead, in their order; an anchor counts where the page that it is on has one language."""
    found = []
    for link in re.findall(r"\]\(([^)]+)\)", re.sub(BESIDE, "", read(page))):
        target, _, anchor = link.partition("#")
        name = (target or page.name).removesuffix(".md")
        plain = name.removesuffix(f".{language}") if language else name
        if plain in TRANSLATED:
            assert name == plain + (f".{language}" if language else ""), (
                f"{page.name}: {link} is there in this language, too"
            )
            found.append(f"{plain}{'#' if anchor else ''}")
        else:
            found.append(link)
    return found


@both
def test_what_is_pasted_is_the_same_in_each_language(english: Path, other: Path) -> None:
    assert blocks(read(english)) or "tour" in english.name
    assert blocks(read(other)) == blocks(read(english))
    assert words(read(other)) == words(read(english))


@both
def test_headings_tables_and_paragraphs_are_as_many(english: Path, other: Path) -> None:
    assert headings(read(other)) == headings(read(english))
    for sign in (r"(?m)^\|", r"(?m)^[-*] ", r"\*\*", r"\n\n"):
        assert len(re.findall(sign, read(other))) == len(re.findall(sign, read(english))), sign
    said = set(re.findall(r"(?m)^[A-Z][^\n]{40,}$", re.sub(BESIDE, "", without_code(read(english)))))
    assert not [line for line in said if line in read(other)], "this line is English still"


@both
def test_links_and_pictures_lead_to_the_same_places(english: Path, other: Path) -> None:
    assert links(other, other.suffixes[0].lstrip(".")) == links(english)


@pytest.mark.parametrize("page", TRANSLATED)
def test_each_language_leads_to_the_others(page: str) -> None:
    names = {"en": f"{page}.md"} | {language: f"{page}.{language}.md" for language in LANGUAGES}
    for language, name in names.items():
        (line,) = re.findall(BESIDE, read(DOCS / name))
        assert set(re.findall(r"\(([^)]+)\)", line)) == {other for key, other in names.items() if key != language}
    site = (PROJECT / "scripts/site.yml").read_text()
    assert [name for name in names.values() if not re.search(rf": {re.escape(name)}$", site, re.MULTILINE)] == []
