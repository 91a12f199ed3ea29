"""Where messages go: fields in the journal, lines on a terminal, warnings on the instance's log topic."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness import Ear, House, wait_for

from bootstrap_lib import log as module
from bootstrap_lib.log import JournalHandler, set_up


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket where journald's is."""
    path = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(5)
        monkeypatch.setattr(module, "_JOURNAL", str(path))
        yield listening


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, as it was before."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    for handler in logger.handlers:
        if handler not in handlers:
            handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)


def record(text: str, level: int = logging.WARNING, **extra: str) -> logging.LogRecord:
    return logging.getLogger("a.b").makeRecord("a.b", level, "/a/b.py", 7, text, (), None, extra=extra)


def test_the_journal_gets_fields_by_which_a_topic_is_found_again(journal: socket.socket) -> None:
    handler = JournalHandler("onewire")
    handler.emit(record("it is silent", topic="home/data/a/b/temperature"))
    fields = dict(line.split("=", 1) for line in journal.recv(65536).decode().splitlines())
    assert fields == {
        "MESSAGE": "it is silent",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "onewire",
        "INSTANCE": "onewire",
        "CODE_FILE": "/a/b.py",
        "CODE_LINE": "7",
        "TOPIC": "home/data/a/b/temperature",
    }
    handler._socket.close()


@pytest.mark.parametrize(
    ("level", "priority"), [(logging.DEBUG, 7), (logging.INFO, 6), (logging.ERROR, 3), (logging.CRITICAL, 2)]
)
def test_the_journals_priorities_are_syslogs(journal: socket.socket, level: int, priority: int) -> None:
    handler = JournalHandler("onewire")
    handler.emit(record("so", level))
    assert f"\nPRIORITY={priority}\n" in journal.recv(65536).decode()
    handler._socket.close()


def test_a_text_of_several_lines_stays_one_message_and_no_field_can_be_smuggled_in(journal: socket.socket) -> None:
    handler = JournalHandler("onewire")
    text = "first\nTOPIC=home/data/of/somebody/else"
    handler.emit(record(text))
    data = journal.recv(65536)
    assert data.startswith(b"MESSAGE\n" + len(text).to_bytes(8, "little") + text.encode() + b"\n")
    assert data.count(b"TOPIC") == 1
    handler._socket.close()


def test_whatever_devices_said_tells_no_terminal_what_to_do(
    journal: socket.socket, root: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = JournalHandler("onewire")
    handler.emit(record("\x1b]0;pwn\x07 \u202e°C\n\tline"))
    assert "\\x1b]0;pwn\\x07 \\u202e°C\n\tline".encode() in journal.recv(65536)
    handler._socket.close()
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    set_up("onewire")
    logging.getLogger("x").warning("%s", "\x9b2J")
    assert capsys.readouterr().err.endswith("onewire: \\x9b2J\n")
    bus = SimpleNamespace(online=True, sent=[])
    bus.publish = lambda topic, payload: bus.sent.append((topic, payload))
    module.LogTopic("log", bus).emit(record("\x9b2J"))
    assert bus.sent == [("log", rb'{"level":"warning","text":"\\x9b2J"}')]


def test_what_the_journal_cannot_take_is_said_on_stderr(
    journal: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = JournalHandler("onewire")
    journal.close()
    handler.emit(record("nobody hears it"))
    assert "nobody hears it" in capsys.readouterr().err
    handler._socket.close()


def test_under_systemd_records_go_to_the_journal_and_else_to_the_terminal(
    journal: socket.socket, root: logging.Logger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "stderr").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        status = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert set_up("onewire") == []
        assert [type(handler) for handler in root.handlers] == [JournalHandler]
        logging.getLogger("x").info("measured")
        assert b"MESSAGE=measured" in journal.recv(65536)
        root.handlers[0]._socket.close()
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")  # stderr was redirected since
        set_up("onewire")
        logging.getLogger("x").warning("shown")
        logging.getLogger("x").debug("not shown")
    line = (tmp_path / "stderr").read_text()
    assert line.endswith("warning onewire: shown\n")
    assert "\x1b" not in line  # no colours in a file
    assert "not shown" not in line


def test_warnings_and_worse_stand_on_the_log_topic_with_their_topic_and_the_rest_does_not(
    house: House, ear: Ear
) -> None:
    house.write("subscribers: {archive: {heartbeat: 300ms}}\ntopics: {a/b/temperature: {from: archive}}\n")
    house.start("archive")
    ear.wait("home/service/archive/health")
    ear.say("home/data/a/b/temperature", "rubbish")
    entry = ear.wait("home/service/archive/log")
    assert entry["level"] == "warning"
    assert entry["topic"] == "home/data/a/b/temperature"
    assert entry["text"].startswith("home/data/a/b/temperature is put aside: not a reading")
    ear.ask("archive", "log_level", {"value": "debug"})
    ear.say("home/service/archive/request/reload", "{}", qos=0)
    wait_for(lambda: "topics.yaml is taken over" in house.log("archive"), what="a line of level info")
    ear.say("home/data/a/b/temperature", "rubbish too")
    ear.wait("home/service/archive/log", lambda entry: "rubbish too" in entry["text"])
    assert len(ear.all("home/service/archive/log")) == 2
