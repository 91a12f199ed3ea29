"""A PostgreSQL with two standbys on loopback, set up and failed over by the very lines of docs/fleet.md."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sql

from bootstrap_lib import StartError
from services.simulators.demo import free_port, say
from services.simulators.fleet import PASSWORD, DemoFleet

PAGE = (Path(__file__).resolve().parents[2] / "docs/fleet.md").read_text("utf-8")
SETTINGS = "".join(re.findall(r"(?m)^ {4}([a-z_]+ = .*\n)", PAGE))
DATA, ETC, BIN = "/var/lib/postgresql/15/main", "/etc/postgresql/15/main", "/usr/lib/postgresql/15/bin/"
PATIENCE = 60.0


def line(begin: str) -> list[str]:
    """Words of the line of the page that begins so."""
    (found,) = set(re.findall(rf"(?m)^ {{4}}({re.escape(begin)}.*)$", PAGE))
    return shlex.split(found)


class LocalStandbys:
    """Servers beside each other, of which the first begins as the primary; none of them runs as root."""

    def __init__(self, folder: Path, count: int = 3) -> None:
        self.bin = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/nowhere"))
        self.folder, self.places, self.primary = folder, [free_port() for _ in range(count)], 1
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._as = () if os.geteuid() else ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--")

    @property
    def nodes(self) -> list[str]:
        return [f"127.0.0.1:{port}" for port in self.places]

    def engine(self, number: int, user: str = "postgres", database: str = "postgres") -> sql.Engine:
        """A way to one server, whatever it is."""
        url = sql.URL.create(
            "postgresql+psycopg", user, PASSWORD, "127.0.0.1", self.places[number - 1], database
        )  # nobody asks for the password on loopback
        return sql.create_engine(url, connect_args={"connect_timeout": 2}, poolclass=sql.NullPool)

    # -- lines of the page --------------------------------------------------------------------------------------------

    def run(self, number: int, words: list[str]) -> str:
        """Do a line of the page on a server, as postgres."""
        program, *given = (self._here(number, word) for word in words)
        if program == "psql":
            given = ["-h", "127.0.0.1", "-p", str(self.places[number - 1]), "-U", "postgres", "-qAt", *given]
        if program == "pg_basebackup":
            given = ["-p", str(self.places[0]), "-c", "fast", *given]
        place = self.bin / program if (self.bin / program).exists() else program
        done = subprocess.run([*self._as, place, *given], capture_output=True, text=True, cwd="/")
        if done.returncode:
            raise StartError(f"{program} failed: {' '.join(done.stderr.split())[-400:]}")
        return done.stdout.strip()

    def _here(self, number: int, text: str) -> str:
        """What the page says of three machines, for servers that share one."""
        text = text.replace(DATA, str(self._data(number))).replace(ETC, str(self._etc(number))).removeprefix(BIN)
        text = text.replace("host=10.0.0.2 ", f"host=127.0.0.1 port={self.places[self.primary - 1]} ")
        hosts, ports = ",".join("127.0.0.1" for _ in self.places), ",".join(map(str, self.places))
        text = text.replace("host=10.0.0.1,10.0.0.2,10.0.0.3 ", f"host={hosts} port={ports} ")
        return "127.0.0.1" if text == "10.0.0.1" else text

    def _data(self, number: int) -> Path:
        return self.folder / f"n{number}"

    def _etc(self, number: int) -> Path:
        """Where Debian has a server's settings: not among its data."""
        return self.folder / f"etc{number}"

    def _configure(self, number: int) -> None:
        text = self._here(number, SETTINGS).replace("'n1'", f"'n{number}'").replace("'*'", "'127.0.0.1'")
        mine = f"port = {self.places[number - 1]}\nunix_socket_directories = ''\nfsync = off\n"  # only processes are killed
        mine += f"ident_file = '{self.folder}/pg_ident.conf'\n"
        mine += f"data_directory = '{self._data(number)}'\nhba_file = '{self.folder}/pg_hba.conf'\n"
        self._etc(number).mkdir(exist_ok=True)
        (self._etc(number) / "postgresql.conf").write_text(text + mine)

    # -- as the demo asks for it --------------------------------------------------------------------------------------

    def init(self) -> None:
        if not self.bin.exists():
            raise StartError("the engine is not installed: sudo apt install --no-install-recommends postgresql")
        self.folder.mkdir()
        if self._as:
            shutil.chown(self.folder, "postgres", "postgres")
            self.folder.parent.chmod(self.folder.parent.stat().st_mode | 0o011)
        data = str(self._data(1))
        self.run(1, ["initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "trust", "-N"])
        for name in ("pg_hba.conf", "pg_ident.conf"):
            (self.folder / name).write_text((self._data(1) / name).read_text())
        for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
            (self._data(1) / name).unlink()

    def begin(self) -> None:
        self.start(1)

    def prepare(self, database: str, user: str, password: str) -> None:
        """Make roles and database; then the standbys, which copy all of it."""
        words = line('psql -c "SET')
        assert {f"CREATE ROLE {user} LOGIN", f"CREATE DATABASE {database} OWNER {user}"} < set(words)
        assert password == PASSWORD
        self.run(1, words)
        for number in range(2, len(self.places) + 1):
            self.run(number, line("pg_basebackup"))
            self.run(number, line("touch"))
            self.start(number)

    def start(self, number: int, *, wait: bool = True) -> None:
        self._configure(number)
        (self._data(number) / "postmaster.pid").unlink(missing_ok=True)  # who it names was waited for
        with (self.folder / f"n{number}.log").open("ab") as log:
            words = [*self._as, self.bin / "postgres", "-c", f"config_file={self._etc(number)}/postgresql.conf"]
            self.processes[number] = subprocess.Popen(words, stdout=log, stderr=log, cwd="/")
        if wait:
            self._until(lambda: self._answers(number), f"server {number}")

    def _answers(self, number: int) -> bool:
        try:
            with self.engine(number).connect():
                return True
        except sql.exc.SQLAlchemyError:
            return False

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise StartError(f"{what} did not come within {PATIENCE:g} s")
            time.sleep(0.1)

    def send(self, number: int, what: int) -> None:
        """Send a signal to all processes of a server; a kill is waited for."""
        children = self._children(number)
        for one in (self.processes[number].pid, *children):
            if Path(f"/proc/{one}").exists():
                os.kill(one, what)
        if what == signal.SIGKILL:
            self.processes[number].wait(20)
            self._until(lambda: not any(_lives(one) for one in children), f"the end of server {number}")

    def _children(self, number: int) -> list[int]:
        said = subprocess.run(["pgrep", "-P", str(self.processes[number].pid)], capture_output=True, text=True)
        return [int(word) for word in said.stdout.split()]

    def stop(self) -> None:
        for number, process in self.processes.items():
            if process.poll() is None:
                self.send(number, signal.SIGCONT)
                process.send_signal(signal.SIGINT)
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # -- a failover by hand -------------------------------------------------------------------------------------------

    def fail_over(self) -> int:
        """Kill the primary, and promote the standby that heard more; returns the number of the old one, which stays dead."""
        old = self.primary
        self.send(old, signal.SIGKILL)
        del self.processes[old]
        heard = {number: self._heard(number) for number in self.processes}
        self.primary = max(heard, key=lambda number: heard[number])
        self.run(self.primary, line('psql -c "SELECT pg_promote()"'))
        return old

    def _heard(self, number: int) -> int:
        high, _, low = self.run(number, line('psql -c "SELECT pg_last_wal_receive_lsn()"')).partition("/")
        return (int(high, 16) << 32) + int(low, 16)

    def comes_back(self, number: int) -> None:
        """Make a standby of the primary that died."""
        self.run(number, line(f"{BIN}pg_rewind"))
        self.run(number, line("touch"))
        self.start(number)

    def rows(self) -> int:
        """Readings in the primary."""
        with self.engine(self.primary, database="fleet").connect() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM readings").scalar_one())


def _lives(process: int) -> bool:
    """Whether a process is there, and no orphan that nobody reaps."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class StandbyFleet(DemoFleet):
    """A fleet whose engine is a primary with standbys."""

    ENGINE = "postgresql"
    cluster: LocalStandbys

    def make_cluster(self, nodes: int) -> LocalStandbys:
        return LocalStandbys(self.folder / "engine", nodes)

    def readers(self) -> Iterator[sql.Engine]:
        for number in range(1, len(self.cluster.places) + 1):
            yield self.cluster.engine(number, "store", "fleet")

    def fail_over(self) -> None:
        """A failover by hand: how long the store was held up is said."""
        begun = time.monotonic()
        old = self.cluster.fail_over()
        promoted, before = time.monotonic() - begun, self.cluster.rows()
        while self.cluster.rows() == before and time.monotonic() - begun < PATIENCE:
            self.look_after(0.2)
        new, held = self.cluster.primary, time.monotonic() - begun
        say(f"server {old} is dead, {new} is the primary after {promoted:.1f} s, the store goes on after {held:.1f} s")
        self.look_after(5)
        self.cluster.comes_back(old)
        say(f"server {old} is back as a standby")
