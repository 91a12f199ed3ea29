"""The signed apt repository that `scripts/repo` makes: apt believes it by its key, and nothing that was changed afterwards."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import PROJECT

CONTROL = """\
Package: constellation
Version: 0.1.0-1~deb{number}
Architecture: all
Maintainer: me <me@example.org>
Description: a stand-in
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of stand-ins for both Debians, signed by a key of its own."""
    clone = tmp_path_factory.mktemp("clone")
    for name in ("scripts", "dist"):
        (clone / name).mkdir()
    shutil.copy(PROJECT / "scripts/repo", clone / "scripts")
    for number in (12, 13):
        tree = clone / f"tree{number}"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(CONTROL.format(number=number))
        file = clone / "dist" / f"constellation_0.1.0-1~deb{number}_all.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, file], check=True, capture_output=True)
    done = subprocess.run([clone / "scripts/repo", clone / "apt", "--new-key"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "bookworm: 1 packages for all\ntrixie: 1 packages for all\n"
    subprocess.run(["gpgconf", "--homedir", clone / "apt.key", "--kill", "all"], check=False)
    return clone / "apt"


def apt(folder: Path, repository: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """An apt of its own, that knows this repository and nothing else."""
    for name in ("etc", "lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    source = f"Types: deb\nURIs: file:{repository}\nSuites: bookworm\nComponents: main\nSigned-By: {repository}/constellation.gpg\n"
    (folder / "etc/constellation.sources").write_text(source)
    (folder / "status").touch()
    places = {
        "Dir::Etc::sourcelist": "/dev/null", "Dir::Etc::sourceparts": folder / "etc", "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status", "Dir::Cache": folder / "cache", "APT::Sandbox::User": "root",
        "Acquire::Languages": "none", "APT::Architecture": "amd64",
    }  # fmt: skip
    options = [word for name, value in places.items() for word in ("-o", f"{name}={value}")]
    return subprocess.run(
        ["apt-get", *options, *words], capture_output=True, text=True, cwd=folder, env=os.environ | {"LC_ALL": "C"}
    )


def test_apt_takes_a_package_from_it(made: Path, tmp_path: Path) -> None:
    updated = apt(tmp_path, made, "update", "-q", "--error-on=any")
    assert updated.returncode == 0, updated.stderr
    done = apt(tmp_path, made, "download", "constellation")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("*.deb")] == ["constellation_0.1.0-1~deb12_all.deb"]


def test_what_was_changed_after_it_was_signed_is_refused(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "apt"
    shutil.copytree(made, other)
    signed = other / "dists/bookworm/InRelease"
    signed.write_text(signed.read_text().replace("Origin: Constellation", "Origin: Somebody"))
    refused = apt(tmp_path, other, "update", "-q", "--error-on=any")
    assert refused.returncode != 0
    assert "signature" in refused.stderr.lower() or "clearsigned" in refused.stderr.lower()


def test_its_key_is_nobody_elses(made: Path) -> None:
    key = made.with_name("apt.key")
    assert key.stat().st_mode & 0o777 == 0o700
    secrets = {path.read_bytes() for path in key.rglob("*") if path.is_file()}
    assert any(b"private-key" in content for content in secrets), "else the test proves nothing"
    given_away = [path for path in made.rglob("*") if path.is_file()]
    assert [path for path in given_away if path.read_bytes() in secrets or b"private-key" in path.read_bytes()] == []
    exported = subprocess.run(
        ["gpg", "--show-keys", "--with-colons", made / "constellation.gpg"], capture_output=True, text=True
    ).stdout
    assert exported.count("pub:") == 1
    assert "sec:" not in exported


def test_a_key_that_an_older_version_put_among_them_is_taken_out_first(made: Path) -> None:
    (made / "key").mkdir()
    done = subprocess.run([made.parent / "scripts/repo", made, "--new-key"], capture_output=True, text=True)
    assert (done.returncode, "lies in what is given away: mv " in done.stderr) == (1, True)
    (made / "key").rmdir()


def test_without_packages_or_a_key_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(PROJECT / "scripts/repo", tmp_path / "scripts")
    done = subprocess.run([tmp_path / "scripts/repo", tmp_path / "apt"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "scripts/repo: there is no package in dist: scripts/packages/build makes them\n",
    )
