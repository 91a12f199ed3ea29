"""A version is made by one command, what is installed is pinned, and the changelog tells of it."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from harness import PROJECT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bootstrap_lib.version import VERSION

CHANGELOG = (PROJECT / "CHANGELOG.md").read_text("utf-8")
PACKAGE = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
FROM_DEBIAN = {"rrdtool"}
"""Installed by apt: PyPI has it as source only."""


def pinned(name: str) -> dict[str, str]:
    """Version of each package in a lock; each has at least one hash."""
    text = (PROJECT / "requirements" / name).read_text("utf-8")
    entries = re.findall(
        r"(?m)^([\w.-]+)==(\S+)(?: ;[^\n]*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text
    )
    assert len(entries) == len(re.findall(r"(?m)^[\w.-]+==", text))
    return {canonicalize_name(package): version for package, version, _ in entries}


@pytest.mark.parametrize(("lock", "extras"), [("users.txt", "all but test"), ("tests.txt", "all")])
def test_the_lock_has_what_pyproject_asks_for(lock: str, extras: str) -> None:
    versions = pinned(lock)
    asked = list(PACKAGE["dependencies"])
    for extra, packages in PACKAGE["optional-dependencies"].items():
        asked += packages if extra not in ("all", *(("test",) if "but" in extras else ())) else []
    for requirement in map(Requirement, asked):
        name = canonicalize_name(requirement.name)
        if name not in FROM_DEBIAN:
            assert requirement.specifier.contains(versions.get(name, "0")), f"{requirement}: run scripts/lock"


def test_tests_run_on_what_users_install() -> None:
    users, tests = pinned("users.txt"), pinned("tests.txt")
    assert users.items() <= tests.items()


def test_the_changelog_begins_with_what_is_not_released_and_tells_of_this_version() -> None:
    sections = re.findall(r"(?m)^## \[(.*?)\](.*)$", CHANGELOG)
    assert sections[0] == ("Unreleased", "")
    assert sections[1][0] == VERSION
    assert all(re.fullmatch(r" - \d{4}-\d\d-\d\d", date) for _, date in sections[1:])
    kinds = set(re.findall(r"(?m)^### (.*)$", CHANGELOG))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


class Clone:
    """A repository with what a release touches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("scripts/release", "bootstrap_lib/version.py"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)
        self.changelog = folder / "CHANGELOG.md"
        self.changelog.write_text(
            "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- Rain.\n\n## [0.0.1] - 2020-01-01\n\n- It.\n"
        )
        self.git("init", "-q")
        self.git("config", "user.email", "me@example.org")
        self.git("config", "user.name", "me")
        self.git("add", "-A")
        self.git("commit", "-qm", "all")

    def git(self, *words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    def release(self, version: str) -> tuple[int, str]:
        done = subprocess.run([self.folder / "scripts/release", version], capture_output=True, text=True, cwd="/")
        return done.returncode, done.stderr


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_a_release_dates_the_section_sets_the_version_commits_and_tags(clone: Clone) -> None:
    assert clone.release("7.2.0") == (0, "")
    assert re.search(
        r"## \[Unreleased\]\n\n## \[7.2.0\] - 20\d\d-\d\d-\d\d\n\n### Added\n\n- Rain", clone.changelog.read_text()
    )
    assert 'VERSION = "7.2.0"\n' in (clone.folder / "bootstrap_lib/version.py").read_text()
    assert clone.git("status", "--porcelain") == ""
    assert clone.git("describe", "--exact-match") == "v7.2.0"
    assert clone.release("7.3.0")[1] == (
        "scripts/release: CHANGELOG.md says nothing below ## [Unreleased]: tell what users will notice\n"
    )


@pytest.mark.parametrize(
    ("version", "sentence"),
    [("", "three numbers"), ("v1.0.0", "three numbers"), ("1.0", "three numbers"), ("0.0.9", "is older than")],
)
def test_what_is_no_next_version_is_refused(clone: Clone, version: str, sentence: str) -> None:
    code, said = clone.release(version)
    assert (code, sentence in said) == (1, True)
    assert clone.git("tag") == ""


def test_a_tree_with_changes_is_not_released(clone: Clone) -> None:
    (clone.folder / "new.py").touch()
    code, said = clone.release("7.2.0")
    assert (code, "not committed" in said) == (1, True)
    assert clone.git("tag") == ""


def test_the_list_of_what_users_install_is_fresh_and_names_each_package_with_its_hashes() -> None:
    done = subprocess.run([PROJECT / "scripts/sbom", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = json.loads((PROJECT / "requirements/sbom.cdx.json").read_text("utf-8"))
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.5")
    ours = [one for one in listed["components"] if one["purl"].startswith("pkg:pypi/")]
    assert {canonicalize_name(one["name"]): one["version"] for one in ours} == pinned("users.txt")
    assert all(one["externalReferences"][0]["hashes"] for one in ours)
    known = {one["bom-ref"] for one in (*listed["components"], listed["metadata"]["component"])}
    named = {name for one in listed["dependencies"] for name in (one["ref"], *one["dependsOn"])}
    assert named == known
