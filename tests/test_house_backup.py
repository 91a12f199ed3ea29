"""A whole house in one file: made while it runs, looked at, put back on an empty machine, and refused where it is not what it says."""

import fcntl
import hashlib
import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from unittest.mock import patch

import pytest
from harness import PROJECT, Broker, Ear, House, wait_for
from voices import ask_database

from bootstrap_lib import Registry, StartError, cli
from services.stores import backup, house_backup, house_file, last_backup
from tests.chaos.device import Device

TOPICS = """
sources: {sequence: {every: 20ms, stale: 1h, heartbeat: 1s, device: DEVICE}}
subscribers:
  archive: {commit: 100ms, every: 100ms, heartbeat: 1s}
  rrd: {flush: 200ms, finest: 1s, heartbeat: 1s}
topics: {"chaos/sequence/number_{1..2}_count": {from: sequence}}
"""
NUMBERS = "SELECT value FROM readings"


class Machine(House):
    """A machine below a folder that stands for /."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        self.config = folder / "etc/constellation/topics.yaml"
        self.environment |= {"CONSTELLATION_SERVICES": str(folder / "etc/constellation/services")}

    def state(self, name: str) -> Path:
        return self.folder / "var/lib/constellation" / name

    def start(self, name: str, **more: object) -> subprocess.Popen[bytes]:
        return super().start(name, **more, RUNTIME_DIRECTORY=str(self.folder / "run/constellation" / name))

    def do(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the command, in this process: a new one for each would cost a second."""
        out, errors = StringIO(), StringIO()
        command = [*map(str, words), "--root", str(self.folder)]
        with patch.dict(os.environ, self.environment), redirect_stdout(out), redirect_stderr(errors):
            code = cli.main(command)
        return subprocess.CompletedProcess(command, code, out.getvalue(), errors.getvalue())


@pytest.fixture
def first(tmp_path: Path, broker: Broker) -> Iterator[Machine]:
    machine = Machine(tmp_path / "first", broker.port)
    own = machine.config.parent / "services"
    own.mkdir(parents=True)
    shutil.copy(PROJECT / "tests/chaos/sequence.py", own)
    machine.write(TOPICS.replace("DEVICE", str(tmp_path / "device")))
    keys = machine.config.parent / "credentials"
    keys.mkdir(mode=0o700)
    (keys / "pushover.token").write_text("a-token-of-somebody")
    (keys / "backup.passphrase").write_text("correct horse")
    for key in keys.iterdir():
        key.chmod(0o600)
    yield machine
    machine.close()


@pytest.fixture
def image(first: Machine, tmp_path: Path) -> Path:
    """The file of a house that keeps an archive, a picture, small state and a spool, and does not run."""
    with closing(sqlite3.connect(_made(first.state("archive") / "archive.sqlite"))) as database, database:
        database.execute("CREATE TABLE readings (time, topic, value)")
        database.executemany("INSERT INTO readings VALUES (?, 1, 20.5)", [(n,) for n in range(500)])
    _made(first.state("rrd") / "rrd/boiler/water/temperature.rrd").write_bytes(bytes(range(256)) * 300)
    _made(first.state("sequence") / "published.json").write_text('["a/b/temperature"]')
    _made(first.state("sequence") / "secrets/heat").write_text("a-key-of-a-meter")
    (first.state("sequence") / "lock").touch()
    (first.state("sequence") / "old.sqlite.damaged-17").write_bytes(b"debris")
    target = tmp_path / "house.tar"
    done = first.do("backup", target)
    assert done.returncode == 0, done.stderr
    assert "old.sqlite.damaged-17: it was set aside as damaged" in done.stdout
    return target


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _rows(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return list(database.iterdump())


def _files(folder: Path) -> dict[str, object]:
    return {
        str(path.relative_to(folder)): _rows(path) if path.suffix == ".sqlite" else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("lock", "old.sqlite.damaged-17", "last_backup.json")
    }


def test_a_house_goes_on_on_an_empty_machine_with_nothing_lost_and_nothing_double(
    first: Machine, tmp_path: Path, broker: Broker, ear: Ear
) -> None:
    device = Device(tmp_path / "device")
    for name in ("archive", "rrd", "sequence"):
        first.start(name)
    archive = first.state("archive") / "archive.sqlite"
    wait_for(lambda: len(ask_database(archive, NUMBERS)) > 50, what="readings")
    first.kill("archive")  # what comes now lies in the spool alone, in memory first
    wait_for(
        lambda: ask_database(first.state("sequence") / "spool.sqlite", "SELECT 1 FROM tail"), what="a tail on disk"
    )
    with device.lock:
        before = set(device.taken["sequence"])
    image = tmp_path / "house.tar"
    done = first.do("backup", image)
    assert done.returncode == 0, done.stderr
    assert image.stat().st_mode & 0o777 == 0o600
    checked = first.do("backup", "--check", image, "--scratch", tmp_path)
    assert (checked.returncode, "is whole" in checked.stdout) == (0, True), checked.stderr
    for name in ("rrd", "sequence"):
        first.kill(name)  # the machine is gone, and its broker
    with tarfile.open(image) as tar:
        (spool := tmp_path / "spool.sqlite").write_bytes(tar.extractfile("state/sequence/spool.sqlite").read())
    assert ask_database(spool, "SELECT * FROM meta") == [], "it says no stream: a new one begins"
    stored = {int(value) for (value,) in ask_database(archive, NUMBERS)}
    assert before - stored, "nothing waited: the test proves nothing"
    broker.kill()
    broker.start()
    second = Machine(tmp_path / "second", broker.port)
    try:
        done = second.do("restore", image)
        assert done.returncode == 0, done.stderr
        for name in ("sequence", "rrd", "archive"):
            second.start(name)
        with device.lock:
            reached = device.given["sequence"] + 100
        wait_for(
            lambda: len(device.taken["sequence"]) and device.given["sequence"] > reached, what="a house that goes on"
        )
        second.stop("sequence")
        with device.lock:
            device.silent = True
            after = {number for number in device.taken["sequence"] if number > reached - 50}
        archive = second.state("archive") / "archive.sqlite"

        def lost() -> set[int]:
            return (before | after) - {int(value) for (value,) in ask_database(archive, NUMBERS)}

        second.start("sequence", wait=False)  # what still waits is sent
        wait_for(lambda: not lost(), what=f"all numbers ({len(before)} before, {len(after)} after)")
        counted = Counter(value for (value,) in ask_database(archive, NUMBERS))
        assert [value for value, count in counted.items() if count > 1] == []
        assert "damaged" not in "".join(second.log(name) for name in ("sequence", "rrd", "archive"))
    finally:
        second.close()
        device.shutdown()
        device.server_close()


def test_everything_is_back_as_it_was_and_credentials_were_never_readable(
    first: Machine, image: Path, tmp_path: Path
) -> None:
    assert b"a-token-of-somebody" not in image.read_bytes()
    assert b"a-key-of-a-meter" not in image.read_bytes(), "what a service was given over MQTT is a credential too"
    with tarfile.open(image) as tar:
        assert all(member.isfile() for member in tar)
        manifest = json.load(tar.extractfile("manifest.json"))
    assert [one["rows"] for one in manifest["files"] if one["name"].endswith("archive.sqlite")] == [{"readings": 500}]
    second = Machine(tmp_path / "second", 1)
    phrase = tmp_path / "phrase"
    phrase.write_text("correct horse\n")
    phrase.chmod(0o600)
    done = second.do("restore", image, "--passphrase-file", phrase)
    assert done.returncode == 0, done.stderr
    assert _files(second.folder) == _files(first.folder)
    token = second.folder / "etc/constellation/credentials/pushover.token"
    assert token.stat().st_mode & 0o777 == 0o600
    phrase.write_text("wrong horse")
    done = Machine(tmp_path / "third", 1).do("restore", image, "--passphrase-file", phrase)
    assert "the passphrase is not the one" in done.stderr
    assert not (tmp_path / "third/var").exists(), "nothing is begun that cannot be ended"


def test_when_it_was_made_and_put_back_on_trial_is_noted_for_the_page(first: Machine, image: Path) -> None:
    folder, began = first.folder / "var/lib/constellation", time.time() * 1000
    made = last_backup.read(folder)
    assert began - 60_000 < made.taken <= began
    assert (made.bytes, made.tried) == (image.stat().st_size, 0)
    done = first.do("backup", "--check", image, "--scratch", first.folder.parent)
    assert done.returncode == 0, done.stderr
    tried = last_backup.read(folder)
    assert (tried.taken, tried.bytes) == (made.taken, made.bytes)
    assert tried.tried >= made.taken
    assert (folder / last_backup.FILE).stat().st_mode & 0o777 == 0o644, "the page's user reads it"
    damaged = bytearray(image.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (broken := first.folder / "broken.tar").write_bytes(damaged)
    broken.chmod(0o600)
    assert first.do("backup", "--check", broken, "--scratch", first.folder.parent).returncode == os.EX_UNAVAILABLE
    assert last_backup.read(folder).tried == 0, "a trial that failed shows nothing"
    (folder / last_backup.FILE).write_text("{")
    assert last_backup.read(folder) == last_backup.LastBackup()


def test_what_waits_in_memory_is_copied_before_the_disk_to_which_it_moves(
    first: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (first.state("sequence"), first.folder / "run/constellation/sequence"):
        with closing(sqlite3.connect(_made(folder / "spool.sqlite"))) as database, database:
            database.execute("CREATE TABLE tail (number INTEGER PRIMARY KEY)")
            database.execute("CREATE TABLE meta (name, value)")
    order: list[Path] = []
    true = backup.back_up
    monkeypatch.setattr(backup, "back_up", lambda source, target: order.append(source) or true(source, target))
    places = house_file.Places(first.config, first.folder)
    house_backup.make(places, Registry(first.config), tmp_path / "house.tar", None, lambda *_: None)
    spools = [path for path in order if path.name == "spool.sqlite"]
    assert spools == [
        first.folder / "run/constellation/sequence/spool.sqlite",
        first.state("sequence") / "spool.sqlite",
    ]


def test_a_centre_or_a_house_of_a_fleet_takes_its_authority_and_its_key_along(first: Machine, tmp_path: Path) -> None:
    etc = first.config.parent.parent
    _made(etc / "constellation/fleet/ca.key").write_text("the authority's key")
    (etc / "constellation/credentials/ca.key").write_text("the house's authority's key")
    _made(etc / "mosquitto/fleet/h1.key").write_text("the house's key")
    (etc / "constellation/fleet.json").write_text('{"houses":{}}')
    assert first.do("backup", tmp_path / "house.tar").returncode == 0
    second = Machine(tmp_path / "second", 1)
    phrase = tmp_path / "phrase"
    phrase.write_text("correct horse\n")
    phrase.chmod(0o600)
    done = second.do("restore", tmp_path / "house.tar", "--passphrase-file", phrase)
    assert done.returncode == 0, done.stderr
    for name in ("constellation/fleet/ca.key", "mosquitto/fleet/h1.key", "constellation/fleet.json"):
        assert (second.config.parent.parent / name).read_bytes() == (etc / name).read_bytes()

    keys = {f"etc/constellation/{folder}/ca.key": f"another key of {folder}" for folder in ("credentials", "fleet")}
    for name, text in keys.items():
        (second.folder / name).write_text(text)
    done = second.do("restore", tmp_path / "house.tar", "--passphrase-file", phrase, "--replace")
    assert done.returncode == 0, done.stderr
    aside = next(second.folder.glob("var/lib/constellation/before-*"))
    assert {str(path.relative_to(aside)): path.read_text() for path in aside.rglob("ca.key")} == keys, "of one name"
    assert {path.stat().st_mode & 0o777 for path in aside.rglob("*") if path.is_dir()} == {0o700}


def test_nothing_of_ours_is_written_on_the_way_into_a_folder_of_somebody_else(tmp_path: Path) -> None:
    assert backup.scratch_for(tmp_path / "house.tar") == tmp_path
    tmp_path.chmod(0o777)
    assert backup.scratch_for(tmp_path / "house.tar") == Path("/var/tmp")
    tmp_path.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, 65534)
        assert backup.scratch_for(tmp_path / "house.tar") == Path("/var/tmp")
        os.chown(tmp_path, 0, 0)


def test_without_a_passphrase_credentials_are_left_out_by_name(first: Machine, tmp_path: Path) -> None:
    (first.config.parent / "credentials/backup.passphrase").unlink()
    done = first.do("backup", tmp_path / "house.tar")
    assert "left out: /etc/constellation/credentials/pushover.token: no passphrase was given" in done.stdout
    assert b"a-token" not in (tmp_path / "house.tar").read_bytes()


def test_a_house_that_lives_is_not_overwritten_but_set_aside_when_asked(
    first: Machine, image: Path, tmp_path: Path
) -> None:
    before = _files(first.folder)
    done = first.do("restore", image)
    assert (done.returncode, "a house lives here already" in done.stderr) == (os.EX_UNAVAILABLE, True)
    assert _files(first.folder) == before
    (first.state("sequence") / "published.json").write_text('["newer"]')
    first.config.write_text("topics: {}\n")
    done = first.do("restore", image, "--replace")
    assert done.returncode == 0, done.stderr
    assert {name: content for name, content in _files(first.folder).items() if "/before-" not in name} == before
    aside = next(first.folder.glob("var/lib/constellation/before-*"))
    assert (aside / "sequence/published.json").read_text() == '["newer"]'
    assert (aside / "etc/constellation/topics.yaml").read_text() == "topics: {}\n"


def test_a_service_that_runs_keeps_its_state(first: Machine, image: Path, tmp_path: Path) -> None:
    with (first.state("sequence") / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = first.do("restore", image, "--replace")
    assert "'sequence' runs already" in done.stderr
    assert not list(first.folder.glob("var/lib/constellation/before-*"))


def _rebuilt(image: Path, target: Path, **members: bytes | tarfile.TarInfo) -> Path:
    """The same file, with members added or changed; a TarInfo is added as it is."""
    with tarfile.open(image) as old, tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as new:
        for member in old:
            content = members.pop(member.name, None)
            content = old.extractfile(member).read() if content is None else content
            member.size = len(content)
            new.addfile(member, BytesIO(content))
        for name, content in members.items():
            entry = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            entry.size = len(content) if isinstance(content, bytes) else entry.size
            new.addfile(entry, BytesIO(content) if isinstance(content, bytes) else None)
    target.chmod(0o600)
    return target


def _special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


def _longer(image: Path, target: Path) -> Path:
    """A header that promises a petabyte."""
    content = bytearray(image.read_bytes())
    content[124:136] = b"\x80" + (10**15).to_bytes(11)
    content[148:156] = b"        "
    content[148:156] = b"%06o\0 " % sum(content[:512])
    target.write_bytes(content)
    return target


HOSTILE = {
    "a way out": (lambda i, t: _rebuilt(i, t, **{"state/x/../../etc/passwd": b"x"}), "it holds 'state/x/../../etc/passwd'"),
    "an absolute path": (lambda i, t: _rebuilt(i, t, **{"/etc/shadow": b"x"}), "it holds '"),
    "a link": (lambda i, t: _rebuilt(i, t, a=_special("state/x/y", tarfile.SYMTYPE, "/etc/shadow")), "it holds 'state/x/y'"),
    "a device": (lambda i, t: _rebuilt(i, t, a=_special("state/x/y", tarfile.CHRTYPE)), "it holds 'state/x/y'"),
    "a stranger": (lambda i, t: _rebuilt(i, t, **{"state/x/y": b"x"}), "does not hold what its manifest says: state/x/y"),
    "other content": (lambda i, t: _rebuilt(i, t, **{"state/sequence/published.json": b'["a/b/temperaturf"]'}), "is damaged in"),
    "a petabyte": (_longer, "is cut short in config/topics.yaml"),
    "a cut": (lambda i, t: t.write_bytes(i.read_bytes()[: i.stat().st_size // 2]) and t, "is cut short"),
    "another archive": (lambda i, t: t.write_bytes(b"PK\3\4" + bytes(2000)) and t, "a header in it is damaged, or of another kind"),
    "nothing": (lambda i, t: (t.touch(), t)[1], "is cut short, or no tar file"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_not_what_it_says_gets_a_sentence_and_nothing_is_written(
    first: Machine, image: Path, tmp_path: Path, name: str
) -> None:
    make, sentence = HOSTILE[name]
    bad = make(image, tmp_path / "bad.tar")
    bad.chmod(0o600)
    second = Machine(tmp_path / "second", 1)
    for words in (("backup", "--check", bad, "--scratch", tmp_path), ("restore", bad)):
        done = second.do(*words)
        assert done.returncode == os.EX_UNAVAILABLE
        assert sentence in done.stderr, done.stderr
    assert [path for path in second.folder.rglob("*") if path.is_file()] == []


def test_a_newer_format_is_refused_and_a_file_of_others_is_not_trusted(
    first: Machine, image: Path, tmp_path: Path
) -> None:
    with tarfile.open(image) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))
    newer = json.dumps({"format": house_file.FORMAT + 1, "what": "we do not know"}).encode()
    bad = _rebuilt(image, tmp_path / "newer.tar", **{"manifest.json": newer})
    assert "install the version that wrote it, or a newer one" in first.do("restore", bad).stderr
    manifest["files"][0]["rows"] = {"readings": 7}
    bad = _rebuilt(image, tmp_path / "rows.tar", **{"manifest.json": json.dumps(manifest).encode()})
    assert "is damaged in config/topics.yaml" in first.do("backup", "--check", bad, "--scratch", tmp_path).stderr
    image.chmod(0o622)
    assert "can be written by others" in first.do("restore", image).stderr
    assert not list(first.folder.glob("var/lib/constellation/before-*"))


@pytest.fixture
def moved(first: Machine) -> Path:
    """The archive of a house that has it on a disk of its own, 500 rows long; an older one lies where it was before."""
    topics = TOPICS.replace("archive: {", "archive: {url: 'sqlite:////mnt/ssd/record.db', ").replace("DEVICE", "x")
    first.write(topics.replace("rrd: {", "rrd: {folder: /mnt/ssd/pictures, "))
    for path, rows in ((first.state("archive") / "archive.sqlite", 3), (first.folder / "mnt/ssd/record.db", 500)):
        with closing(sqlite3.connect(_made(path))) as database, database:
            database.execute("CREATE TABLE readings (time, topic, value)")
            database.executemany("INSERT INTO readings VALUES (?, 1, 20.5)", [(n,) for n in range(rows)])
    return first.folder / "mnt/ssd/record.db"


def test_an_archive_on_a_disk_of_its_own_is_taken_along_and_comes_back_there(
    first: Machine, moved: Path, tmp_path: Path
) -> None:
    image = tmp_path / "house.tar"
    done = first.do("backup", image)
    assert done.returncode == 0, done.stderr
    assert f"left out: {first.state('archive') / 'archive.sqlite'}: the archive is {moved}" in done.stdout
    assert "left out: /mnt/ssd/pictures: rrd fills its files from the archive again" in done.stdout
    assert "500 rows in databases" in first.do("backup", "--check", image, "--scratch", tmp_path).stdout
    second = Machine(tmp_path / "second", 1)
    done = second.do("restore", image)
    assert (done.returncode, "mount its disk or make the folder" in done.stderr) == (os.EX_UNAVAILABLE, True)
    assert [path for path in second.folder.rglob("*") if path.is_file()] == []
    ssd = second.folder / "mnt/ssd"
    ssd.mkdir(parents=True)
    done = second.do("restore", image)
    assert done.returncode == 0, done.stderr
    assert f"{ssd / 'record.db'} is the archive, as topics.yaml says" in done.stdout
    assert _rows(ssd / "record.db") == _rows(moved)
    assert (ssd / "record.db").stat().st_mode & 0o777 == moved.stat().st_mode & 0o777
    assert not (second.state("archive") / "archive.sqlite").exists()
    (ssd / "record.db-wal").write_text("newer")
    assert f"a house lives here already ({ssd / 'record.db'})" in second.do("restore", image).stderr
    done = second.do("restore", image, "--replace")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name.partition(".before-")[0] for path in ssd.iterdir()) == [
        "record.db",
        "record.db",
        "record.db-wal",
    ]
    assert _rows(ssd / "record.db") == _rows(moved)


def test_an_archive_that_is_not_where_topics_yaml_says_is_no_backup(
    first: Machine, moved: Path, tmp_path: Path
) -> None:
    moved.rename(moved.with_name("elsewhere"))
    done = first.do("backup", tmp_path / "house.tar")
    assert (done.returncode, "mount its disk" in done.stderr) == (os.EX_UNAVAILABLE, True)
    moved.write_text("something else")
    assert "is no plain SQLite database" in first.do("backup", tmp_path / "house.tar").stderr
    moved.unlink()
    moved.symlink_to("elsewhere")
    assert "is no plain SQLite database" in first.do("backup", tmp_path / "house.tar").stderr
    first.config.write_text(first.config.read_text().replace("sqlite:////mnt/ssd/", "sqlite:///"))
    assert "name a full path in its url:" in first.do("backup", tmp_path / "house.tar").stderr
    assert not (tmp_path / "house.tar").exists()


@pytest.mark.parametrize("gone", ["its disk", "its file"])
def test_an_archive_that_ran_and_is_not_there_is_no_backup_and_pushes_no_good_one_out(
    first: Machine, tmp_path: Path, gone: str
) -> None:
    first.write(TOPICS.replace("DEVICE", "x"))
    folder, stick = first.state("archive"), tmp_path / "stick"
    stick.mkdir()
    done = first.do("backup", "--into", stick)
    assert f"left out: {folder / 'archive.sqlite'}: the archive archive has not run yet" in done.stdout, done.stderr
    (good,) = stick.glob("house-*")
    if gone == "its disk":
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to("/mnt/ssd/archive")
    else:
        _made(folder / "instance.json").write_text("{}")
    noted = last_backup.read(first.folder / "var/lib/constellation")
    for _ in range(2):
        done = first.do("backup", "--into", stick, "--keep", "1")
        assert (done.returncode, "is not there: mount its disk" in done.stderr) == (os.EX_UNAVAILABLE, True)
    assert list(stick.glob("house-*")) == [good]
    assert last_backup.read(first.folder / "var/lib/constellation") == noted


@pytest.mark.parametrize("url", ["sqlite:////etc/cron.d/x", "sqlite:///{state}/archive.sqlite", ""])
def test_a_file_puts_an_archive_only_where_its_topics_yaml_says(
    first: Machine, moved: Path, tmp_path: Path, url: str
) -> None:
    """What the manifest calls elsewhere is no database, or topics.yaml has it in its state folder, or says nothing."""
    image = tmp_path / "house.tar"
    assert first.do("backup", image).returncode == 0
    with tarfile.open(image) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))
        topics = tar.extractfile("config/topics.yaml").read().decode()
    topics = topics.replace("url: 'sqlite:////mnt/ssd/record.db',", f"url: '{url}'," if url else "")
    told = {held["name"]: held for held in manifest["files"]}
    assert told["state/archive/archive.sqlite"]["elsewhere"]
    assert manifest["format"] == house_file.FORMAT
    told["config/topics.yaml"] |= {"size": len(topics), "sha256": hashlib.sha256(topics.encode()).hexdigest()}
    changed = {"config/topics.yaml": topics.encode()}
    if "cron" in url:
        changed["state/archive/archive.sqlite"] = (line := b"* * * * * root reboot\n")
        told["state/archive/archive.sqlite"] |= {"size": len(line), "sha256": hashlib.sha256(line).hexdigest()}
    bad = _rebuilt(image, tmp_path / "bad.tar", **changed, **{"manifest.json": json.dumps(manifest).encode()})
    second = Machine(tmp_path / "second", 1)
    (second.folder / "etc/cron.d").mkdir(parents=True)
    done = second.do("restore", bad)
    assert done.returncode == os.EX_UNAVAILABLE, done.stdout
    assert [path for path in second.folder.rglob("*") if path.is_file()] == []


def test_an_archive_of_another_name_and_a_link_in_a_state_folder_are_not_left_out_without_a_word(
    first: Machine, tmp_path: Path
) -> None:
    first.write(
        TOPICS.replace("archive: {", "archive: {url: 'sqlite:///{state}/backup.sqlite', ").replace("DEVICE", "x")
    )
    with closing(sqlite3.connect(_made(first.state("archive") / "backup.sqlite"))) as database, database:
        database.execute("CREATE TABLE readings (time)")
    (first.state("sequence")).mkdir(parents=True)
    (first.state("sequence") / "published.json").symlink_to("/etc/hostname")
    (first.state("sequence") / "more").symlink_to("/etc")
    done = first.do("backup", tmp_path / "house.tar")
    assert f"left out: {first.state('sequence') / 'more'}: it is a link" in done.stdout
    assert f"left out: {first.state('sequence') / 'published.json'}: it is a link" in done.stdout
    with tarfile.open(tmp_path / "house.tar") as tar:
        assert "state/archive/backup.sqlite" in tar.getnames()
        assert json.load(tar.extractfile("manifest.json"))["format"] == 1, "an older version takes it too"


def test_what_may_not_be_looked_into_is_not_left_out_without_a_word() -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o777)
        (folder / "topics.yaml").write_text("subscribers: {archive: {}}\n")
        (folder / "var/lib/constellation/archive").mkdir(parents=True)
        (folder / "var/lib/constellation/archive").chmod(0o700)
        places = house_file.Places(folder / "topics.yaml", folder)
        registry = Registry(folder / "topics.yaml")
        house_backup.make(places, registry, folder / "house.tar", None, lambda *_: None)
        os.seteuid(nobody)
        try:
            with pytest.raises(StartError, match="Permission denied"):
                house_backup.make(places, registry, folder / "theirs.tar", None, lambda *_: None)
        finally:
            os.seteuid(0)
        assert not (folder / "theirs.tar").exists()


def test_a_disk_that_is_not_mounted_below_a_state_folder_pushes_no_good_backup_out(
    first: Machine, image: Path, tmp_path: Path
) -> None:
    """What a mount leaves is an empty folder, which looks like a service that never ran."""
    stick = tmp_path / "stick"
    stick.mkdir()
    assert first.do("backup", "--into", stick).returncode == 0
    (good,) = stick.glob("house-*")
    states = first.folder / "var/lib/constellation"
    states.rename(tmp_path / "unmounted")
    states.mkdir()
    for _ in range(2):
        done = first.do("backup", "--into", stick, "--keep", "1")
        assert (done.returncode, f"{good} has the state of archive" in done.stderr) == (os.EX_UNAVAILABLE, True)
    assert [path.name for path in stick.iterdir() if path.name != ".lock"] == [good.name]
    states.rmdir()
    (tmp_path / "unmounted").rename(states)
    assert first.do("backup", "--into", stick, "--keep", "1").returncode == 0


def test_a_folder_of_backups_keeps_the_newest_and_touches_nothing_else(first: Machine, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    assert "make it, or put the stick in" in first.do("backup", "--into", stick).stderr
    stick.mkdir()
    (stick / "house.tar").write_text("mine")
    for day in range(1, 4):
        (stick / f"house-2026010{day}T000000Z.tar").write_text("old")
    done = first.do("backup", "--into", stick, "--keep", "2")
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in stick.glob("house*"))
    assert names[:2] == ["house-20260103T000000Z.tar", f"house-{time.strftime('%Y%m%d', time.gmtime())}{names[1][14:]}"]
    assert names[2:] == ["house.tar"]
    assert not list(stick.glob(".house*")), "no half file stays"
