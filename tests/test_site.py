"""The site of the pages: built strict, so that each link in it leads somewhere, and whole without a network."""

import os
import re
import subprocess

import pytest
from harness import PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.whole]


def test_the_site_is_built_and_fetches_nothing_from_elsewhere() -> None:
    done = subprocess.run(["scripts/site"], cwd=PROJECT, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    pages = list((PROJECT / "build/site").rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        fetched = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?://[^"]*)"', page.read_text("utf-8"))
        assert [address for address in fetched if not address.startswith("https://squidfunk")] == [], page
    assert (PROJECT / "build/site/pictures/house-1920.png").exists()
