"""Root's commands in folders of somebody else's: no link is followed, and nothing is done that the folder's owner could not do."""

import os
import pwd
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from harness import PROJECT

from bootstrap_lib import broker_database, state
from bootstrap_lib.installation import Installation, InstallError
from services.stores import backup

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be led astray")

NOBODY = pwd.getpwnam("nobody")
PRECIOUS = "what only root may read and write"


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """A file of root's; it says the same at the end."""
    file = tmp_path / "precious"
    file.write_text(PRECIOUS)
    file.chmod(0o600)
    yield file
    assert file.read_text() == PRECIOUS
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (0, 0o600)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder of somebody else's, to which the way is open."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)  # workers of a suite have one folder more above theirs
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
    return folder


def constellation(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bootstrap_lib.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=60)


def test_what_is_written_there_is_its_owners_and_replaces_a_link(theirs: Path, precious: Path) -> None:
    for name in ("state.json", ".state.json.new"):
        (theirs / name).symlink_to(precious)
    state.save(theirs / "state.json", {"a": 1})
    assert not (theirs / "state.json").is_symlink()
    assert (theirs / "state.json").stat().st_uid == NOBODY.pw_uid


def test_a_folder_that_its_owner_may_not_write_to_is_not_written_to(theirs: Path, precious: Path) -> None:
    (theirs / "way").symlink_to(precious.parent)  # which is root's
    with pytest.raises(PermissionError):
        state.save(theirs / "way" / "deeper" / "state.json", 1)
    theirs.chmod(0o555)
    with pytest.raises(PermissionError):
        state.save(theirs / "state.json", 1)
    assert not (precious.parent / "deeper").exists()


def test_a_lock_is_no_link(theirs: Path, precious: Path) -> None:
    (theirs / "lock").symlink_to(precious)
    with state.hold(theirs, "onewire"):
        assert (theirs / "lock").stat().st_uid == NOBODY.pw_uid


def test_a_backup_is_written_with_the_rights_of_the_folders_owner_and_for_him_alone(
    tmp_path: Path, theirs: Path, precious: Path
) -> None:
    database = tmp_path / "secret" / "archive.sqlite"
    database.parent.mkdir(mode=0o700)
    with closing(sqlite3.connect(database)) as archive:
        archive.execute("PRAGMA journal_mode=WAL")
        archive.execute("CREATE TABLE readings (value)")
        archive.execute("INSERT INTO readings VALUES (7)")
        archive.commit()
        for name in ("copy", ".copy.new", ".copy.new-journal"):
            (theirs / name).symlink_to(precious)
        assert backup.back_up(database, theirs / "copy") > 0
    copy = theirs / "copy"
    assert (copy.is_symlink(), copy.stat().st_uid, copy.stat().st_mode & 0o777) == (False, NOBODY.pw_uid, 0o600)
    with closing(sqlite3.connect(copy)) as found:
        assert found.execute("SELECT value FROM readings").fetchall() == [(7,)]


def test_a_renamed_line_is_written_past_a_link(theirs: Path, precious: Path) -> None:
    topics = theirs / "topics.yaml"
    topics.write_text("sources: {onewire: {}}\ntopics:\n  a/b/temperature: {from: onewire, id: 28-0316a4f1c9ff}\n")
    for name in (".topics.yaml.new", "topics.yaml.renamed", ".topics.yaml.renamed.new"):
        (theirs / name).symlink_to(precious)
    done = constellation("--config", topics, "rename", "a/b/temperature", "a/c/temperature")
    assert done.returncode == 0, done.stderr
    assert "a/c/temperature" in topics.read_text()


@pytest.mark.parametrize("owner", ["the broker's", "root's"])
def test_a_brokers_database_is_tried_with_its_owners_rights_and_never_with_roots(
    tmp_path: Path, theirs: Path, precious: Path, owner: str
) -> None:
    program = tmp_path / "mosquitto"
    program.write_text(
        '#!/bin/sh\necho "1: Error: database, read by $(id -u) $(id -G): $(wc -c <${2%conf}db)" >&2\nexit 1\n'
    )
    program.chmod(0o755)
    place = theirs / "mosquitto.db"
    place.write_bytes(broker_database.MAGIC)
    for path in (place, theirs):
        os.chown(path, *((NOBODY.pw_uid, NOBODY.pw_gid) if owner == "the broker's" else (0, 0)))
    said = f"the broker does not read it: database, read by {NOBODY.pw_uid} {NOBODY.pw_gid}: 15"
    assert broker_database.trouble(place, str(program)) == said


@pytest.mark.parametrize("wrong", ["folder", "link", "file"])
def test_nothing_is_installed_into_what_belongs_to_somebody_else(
    tmp_path: Path, precious: Path, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Live(Installation):
        """A folder that is taken for /."""

        live = True  # type: ignore[assignment]

    folder = tmp_path / "etc"
    folder.mkdir()
    installation = Live(tmp_path, quiet=True)
    monkeypatch.setattr(Path, "parents", property(lambda self: [folder] if self != folder else []))
    installation.write("/etc/password", "x", mode=0o600)
    if wrong == "folder":
        os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
    elif wrong == "link":
        (folder / "password").unlink()
        folder.rmdir()
        folder.symlink_to(precious.parent)
    else:
        os.chown(folder / "password", NOBODY.pw_uid, NOBODY.pw_gid)
        with pytest.raises(InstallError, match="belongs to another user"):
            installation.refuse_foreign(folder / "password")
        return
    with pytest.raises(InstallError, match=r"belongs to another user|is a link"):
        installation.write("/etc/other", "x", mode=0o600)
    assert not (folder / "other").exists()


def test_a_topics_yaml_of_somebody_elses_is_not_installed(theirs: Path) -> None:
    topics = theirs / "topics.yaml"
    topics.write_text("sources: {onewire: {}}\n")
    os.chown(topics, NOBODY.pw_uid, NOBODY.pw_gid)
    done = constellation("--config", topics, "units", "--install", "--root", theirs.parent / "root")
    assert "belongs to another user" in done.stderr
    assert not (theirs.parent / "root").exists()


@pytest.mark.parametrize("way", ["theirs", "a link"])
def test_no_centre_of_a_fleet_is_made_in_a_folder_that_somebody_made_before(
    tmp_path: Path, theirs: Path, precious: Path, way: str
) -> None:
    root = tmp_path / "root"
    folder = root / "etc/constellation/fleet"
    folder.parent.mkdir(parents=True)
    if way == "theirs":
        theirs.rename(folder)
        (folder / "index.txt").symlink_to(precious)
    else:
        folder.symlink_to(theirs)
    for words in (("centre", "centre.example"), ("house", "h1")):
        done = constellation("fleet", "--root", root, *words)
        assert (done.returncode, done.stdout) == (os.EX_UNAVAILABLE, "")
        assert f"constellation fleet: {folder} " in done.stderr
    assert [path.name for path in folder.iterdir() if not path.is_symlink()] == []
    folder.rename(tmp_path / "looked_at")
    assert constellation("fleet", "--root", root, "centre", "centre.example").returncode == 0
    assert (folder / "ca.key").stat().st_uid == 0


@pytest.mark.parametrize("folder", ["etc/constellation/credentials", "etc/mysql/mariadb.conf.d"])
def test_no_node_of_a_fleet_is_prepared_in_a_folder_of_somebody_elses(tmp_path: Path, folder: str) -> None:
    root, place = tmp_path / "root", tmp_path / "root" / folder
    place.mkdir(parents=True)
    os.chown(place, NOBODY.pw_uid, NOBODY.pw_gid)
    words = ("fleet", "--root", root, "engine", "init", "--nodes", "10.0.0.1,10.0.0.2,10.0.0.3", "--node", "1")
    done = constellation(*words)
    assert (done.returncode, done.stdout) == (os.EX_UNAVAILABLE, "")
    assert f"constellation fleet: {place} belongs to another user" in done.stderr
    assert [path for path in root.rglob("*") if path.is_file()] == []
    os.chown(place, 0, 0)
    assert constellation(*words).returncode == 0
    assert (root / "etc/constellation/credentials/fleet.engine").stat().st_mode & 0o777 == 0o600


def test_no_verb_does_as_a_topics_yaml_of_somebody_elses_says(theirs: Path) -> None:
    topics = theirs / "topics.yaml"
    topics.write_text("broker: {port: 1}\nsources: {onewire: {}}\n")
    os.chown(topics, NOBODY.pw_uid, NOBODY.pw_gid)
    root = theirs.parent / "root"
    assert constellation("fleet", "--root", root, "centre", "centre.example").returncode == 0
    verbs = (
        ("doctor",),
        ("status",),
        ("fleet", "--root", root, "house", "h1"),
        ("fleet", "--root", root, "join", "x", "y"),
    )
    for words in verbs:
        done = constellation("--config", topics, *words)
        assert (done.returncode, done.stdout) == (os.EX_UNAVAILABLE, ""), words
        assert f"{topics} belongs to another user" in done.stderr
    os.chown(topics, 0, 0)
    assert f"ok    topics.yaml: {topics} is readable" in constellation("--config", topics, "doctor").stdout
