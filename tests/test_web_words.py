"""The page's words and what it ships: no word is missing in any language, and what is not ours is what it was."""

import hashlib
import json
import re

import pytest

from services.page.serving import FILES

UPLOT = "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"
"""SHA-256 of dist/uPlot.iife.min.js of uPlot 1.6.32, as npm has it."""

SAID = re.compile(r'\bt\("((?:[^"\\]|\\.)*)"')

SPOKEN_BY_SERVICES = {"running", "degraded", "starting", "stopping", "offline", "source", "subscriber"}


def said() -> set[str]:
    """Every text that a module hands to `t`."""
    found = set(SPOKEN_BY_SERVICES)
    for path in FILES.glob("*.js"):
        text = path.read_text()
        found |= {json.loads(f'"{one}"') for one in SAID.findall(text)}
        if phases := re.search(r"PHASES = \{(.*?)\}", text):
            found |= set(re.findall(r'"([^"]+)"', phases[1]))
    return found


@pytest.mark.parametrize("language", ["en", "fr", "de"])
def test_no_word_is_missing_and_none_is_left_over(language: str) -> None:
    words = json.loads((FILES / f"words/{language}.json").read_text())
    assert set(words) == said()
    for key, text in words.items():
        assert text.strip(), key
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", key)), key
        assert ("|" in text) == ("|" in key), key
        assert re.findall(r"</?b>", text) == re.findall(r"</?b>", key), key
    assert (
        sum(text == key for key, text in words.items()) < (len(words) if language != "en" else len(words) + 1) * 0.1
        or language == "en"
    )


def test_no_sentence_stands_in_a_module_untranslated() -> None:
    for path in FILES.glob("*.js"):
        for text in re.findall(r"<[a-z]\w*(?:\s[^<>]*)?>([A-Za-z][^<>`${}]{2,})</", SAID.sub("", path.read_text())):
            assert text in ("CSV", "API", "JSON", "constellation proof", "sudo constellation password web NAME"), (
                path.name
            )


def test_uplot_is_the_one_that_npm_has_and_its_licence_lies_beside_it() -> None:
    assert hashlib.sha256((FILES / "uPlot.iife.min.js").read_bytes()).hexdigest() == UPLOT
    assert "MIT License" in (FILES / "uPlot.LICENSE.txt").read_text()


def test_the_shell_knows_every_module() -> None:
    text = (FILES / "sw.js").read_text()
    for path in FILES.glob("*.js"):
        if path.name not in ("sw.js", "uPlot.iife.min.js"):
            assert f'"{path.stem}"' in text or f'"{path.name}"' in text, path.name
