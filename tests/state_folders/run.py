"""A house whose state is spoiled, file by file."""

import os
import re
import shutil
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from harness import PROJECT, Broker, Ear, House, wait_for

from tests.chaos.device import Device
from tests.state_folders.ways import spoil

SERVICES = ("sequence", "archive", "rrd", "phase", "alerts")
NOBODY = 65534
NUMBER = "chaos/sequence/number_{1..2}_count"
PATIENCE = 300.0
"""Seconds that a busy machine may take: what does not come at all is bad, what comes late is not."""

KINDS = {
    r"set aside": "set aside, begun anew",
    r"is gone|deleted, exchanged|deleted or exchanged|file is damaged": "begun anew with what could be read",
    r"is missing|are missing": "what is missing is said",
    r"dead letter": "a letter cannot be kept",
    r"cannot be written|cannot be used|may not be used": "it cannot be used",
}


class Result(NamedTuple):
    """What came of one case."""

    service: str
    file: str
    way: str
    running: bool
    wrong: str
    """What is not as it should be, nothing where all is."""
    kind: str
    said: str
    lost: int

    @property
    def good(self) -> bool:
        """Whether all is as it should be."""
        return not self.wrong

    def __str__(self) -> str:
        """Return it as a line."""
        when = "running" if self.running else "stopped"
        judged = f"BAD ({self.wrong})" if self.wrong else "good"
        return f"{judged} {self.service}/{self.file} {self.way}, {when}: {self.kind}; {self.lost} missing; {self.said[:150]}"


class Run:
    """A house of real services, as nobody where root runs it."""

    def __init__(self, folder: Path) -> None:
        """Lay it out."""
        folder.chmod(0o755)
        self.folder = folder
        self.prefix: tuple[str, ...] = ()
        if os.geteuid() == 0 and shutil.which("setpriv"):
            # Coverage is not measured there: its file beside the project is not nobody's, which it says in a traceback.
            without = [f"--unset={name}" for name in os.environ if name.startswith("COVERAGE")]
            person = "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"
            self.prefix = ("env", *without, *person)
        (folder / "services").mkdir()
        shutil.copy(PROJECT / "tests/chaos/sequence.py", folder / "services")
        self.device = Device(folder / "device")
        (folder / "device").chmod(0o777)
        self.taken = self.device.taken["sequence"]
        self.broker = Broker(folder / "broker").start()
        self.ear = Ear(self.broker.port)
        self.house = House(folder / "house", self.broker.port)
        self.house.environment |= {"CONSTELLATION_SERVICES": str(folder / "services"), "HOME": "/nonexistent"}
        self.house.write(
            f"sources:\n  sequence: {{every: 50ms, stale: 1h, heartbeat: 500ms, device: {folder}/device}}\n"
            "  onewire: {every: 1h, heartbeat: 1h}\nsubscribers:\n"
            "  archive: {commit: 200ms, every: 200ms, heartbeat: 500ms}\n  rrd: {flush: 500ms, finest: 1s, heartbeat: 500ms}\n"
            "  phase: {stale: 15m, heartbeat: 500ms, save: 1s}\n  alerts: {heartbeat: 500ms}\n"
            f"topics:\n  {NUMBER}: {{from: sequence}}\n  boiler/water/temperature: {{from: onewire, id: 28-0316a4f1c9ff}}\n"
            "  boiler/burner/phase: {from: phase, states: [unknown, off, prepurge, ignition, combustion, burnout, keep_fire]}\n"
            "phases: {boiler: {thing: boiler/burner, inputs: {water: boiler/water/temperature}}}\n"
            "alerts: {many: {when: chaos/sequence/number_1_count > 1e9}}\n"
        )
        for name in SERVICES:
            for below in ("state", "run"):
                (self.house.folder / below / name).mkdir(parents=True)
        if self.prefix:
            for path in (self.house.folder, *self.house.folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        self.older = folder / "older"

    def begin(self) -> None:
        """Start all services, and keep a copy of their first minute."""
        for name in SERVICES:
            self.start(name)
        self.works("sequence")
        for name in SERVICES:
            self.house.stop(name, timeout=PATIENCE)
        for below in ("state", "run"):
            shutil.copytree(self.house.folder / below, self.older / below)
        for name in SERVICES:
            self.start(name)
        self.works("sequence")

    def start(self, name: str) -> None:
        """Start a service, and see that it says so."""
        before = self.house.log(name).count(": started")
        process = self.house.start(name, wait=False, prefix=self.prefix)
        wait_for(
            lambda: self.house.log(name).count(": started") > before or process.poll() is not None,
            PATIENCE,
            f"start of {name}",
        )
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended at its start with {process.returncode}: {self.house.log(name)[-300:]}")

    def files(self, service: str) -> list[Path]:
        """Files of a service, below the house's folder."""
        found = []
        for below in ("state", "run"):
            for path in sorted((self.house.folder / below / service).rglob("*")):
                plain = stat.S_ISREG(path.lstat().st_mode)
                if plain and ".damaged" not in path.name and not path.name.endswith((".new", "-shm")):
                    found.append(path.relative_to(self.house.folder))
        return found

    def cases(self, services: Sequence[str], ways: Sequence[str], names: Sequence[str] = ()) -> Iterator[Result]:
        """All of them, one after the other, each on the house that the one before left; `names` chooses files."""
        for way in ways:
            for service in services:
                for file in self.files(service):
                    if names and not str(file).endswith(tuple(f"/{name}" for name in names)):
                        continue
                    for running in (True, False):
                        yield self._case(service, file, way, running)

    def _case(self, service: str, file: Path, way: str, running: bool) -> Result:
        path = self.house.folder / file
        before = len(self.house.log(service))
        problem = ""
        try:
            if not running:
                self.house.stop(service, timeout=PATIENCE)
            if not path.exists():  # only while it runs, or only while it does not
                if not running:
                    self.start(service)
                return self._result(service, file, way, running, before, "")
            self._spoil(path, file, way)
            if not running:
                self.start(service)
            process = self.house.processes[service]
            self.works(service)
            if process.poll() is not None:
                problem = f"it ended with {process.returncode}"
            self.house.stop(service, timeout=PATIENCE)
            self.start(service)
            self.works(service)
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
                raise
            problem = str(error) or repr(error)
            self._heal(service)
        return self._result(service, file, way, running, before, problem)

    def _spoil(self, path: Path, file: Path, way: str) -> None:
        older = self.older / file
        spoil(path, way, older if older.exists() else path)

    def _heal(self, service: str) -> None:
        """After a bad case, give the next one a house that works."""
        with suppress(Exception):
            self.house.kill(service)
        for below in ("state", "run"):
            folder = self.house.folder / below / service
            shutil.rmtree(folder)
            shutil.copytree(self.older / below / service, folder)
            if self.prefix:
                for path in (folder, *folder.rglob("*")):
                    os.chown(path, NOBODY, NOBODY)
        self.start(service)

    def works(self, service: str) -> None:
        """Wait until a service does what it is there for: readings are taken and stored, or its heart beats."""
        self.ear.wait(f"home/service/{service}/status", lambda status: status == "online", PATIENCE)
        beats = len(self.ear.all(f"home/service/{service}/health"))
        wait_for(
            lambda: len(self.ear.all(f"home/service/{service}/health")) >= beats + 2, PATIENCE, f"{service}'s heart"
        )
        if service in ("sequence", "archive"):
            newest = max(list(self.taken), default=0)
            wait_for(lambda: self._stored(newest + 1), PATIENCE, "a new reading in the archive")

    def _stored(self, least: int) -> bool:
        return self._ask("SELECT max(value) FROM (SELECT value FROM readings ORDER BY time DESC LIMIT 20)", 0) >= least

    def _ask(self, query: str, default: int) -> int:
        path = self.house.folder / "state/archive/archive.sqlite"
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
                return int(database.execute(query).fetchone()[0] or 0)
        except sqlite3.Error:
            return default

    def _result(self, service: str, file: Path, way: str, running: bool, before: int, problem: str) -> Result:  # noqa: PLR0917
        log = self.house.log(service)[before:]
        lines = [line for line in log.splitlines() if re.search(r" (warning|error|critical) ", line)]
        said = next((line for line in lines if any(re.search(kind, line) for kind in KINDS)), lines[0] if lines else "")
        kind = next(
            (kind for word, kind in KINDS.items() if re.search(word, said)),
            "nothing" if not said else "says so",
        )
        lost = self._lost() if service in ("sequence", "archive") and not problem else 0
        wrong = problem
        if not wrong and "Traceback" in log:
            wrong = f"a traceback: {log[log.index('Traceback') :][-600:]}"
        if not wrong and (starts := log.count(": started")) > 2 + (service == "archive"):
            wrong = f"{starts} starts"
        said = re.sub(r"^\S+ +\S+ +\S+ ", "", said).replace(str(self.house.folder), "…")
        shown = re.sub(r"^(state|run)/[^/]*/", lambda found: "" if found[1] == "state" else "run: ", str(file))
        return Result(service, shown, way, running, wrong, kind, said, lost)

    def _lost(self) -> int:
        """Numbers that were taken and are not in the archive; those are not counted again."""
        newest = max(list(self.taken), default=0)
        with suppress(BaseException):
            wait_for(lambda: self._stored(newest), PATIENCE, "all that was taken")
        found = wait_for(self._found, PATIENCE, "an archive that can be read")  # a damaged page is found after a minute
        lost = [number for number in list(self.taken) if number <= newest and number not in found]
        for number in lost:
            del self.taken[number]
        return len(lost)

    def _found(self) -> set[int]:
        path = self.house.folder / "state/archive/archive.sqlite"
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            return {int(value) for (value,) in database.execute("SELECT value FROM readings WHERE value IS NOT NULL")}
        return set()

    def close(self) -> None:
        """End everything."""
        for process in self.house.processes.values():
            process.kill()
            process.wait()
        self.device.shutdown()
        self.device.server_close()
        self.ear.close()
        self.broker.stop()
