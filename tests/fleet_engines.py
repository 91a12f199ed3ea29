"""Real engines for the tests of a fleet: a MariaDB and a PostgreSQL of their own, on loopback, in folders of their own."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import sqlalchemy as sql
from harness import free_port, wait_for

from services.fleet.cluster import LocalCluster
from services.fleet.dialect import Access
from services.fleet.engine import Engine

PASSWORD = "pa'ss%w\\ord"
ACCESS = Access("fleet", "store", PASSWORD, timeout=3.0)


def free_base(span: int = 40) -> int:
    """A port from which on some are free, below those that the kernel gives away."""
    return 10_000 + (os.getpid() * 97 + time.time_ns() // 1000) % 20_000 // span * span


class MariaServer:
    """One MariaDB."""

    kind = "mariadb"

    def __init__(self, folder: Path) -> None:
        self.cluster = LocalCluster(folder, free_base(), 1)
        self.cluster.init()
        self.start()
        self.cluster.prepare(ACCESS.database, ACCESS.user, PASSWORD)

    @property
    def nodes(self) -> list[str]:
        return self.cluster.nodes

    def start(self) -> None:
        self.cluster.start(1, first=True)

    def kill(self) -> None:
        self.cluster.kill(1)

    def close(self) -> None:
        self.cluster.stop()


class PostgresServer:
    """One PostgreSQL; it never runs as root."""

    kind = "postgresql"

    def __init__(self, folder: Path) -> None:
        self.bin = max(Path("/usr/lib/postgresql").glob("*/bin"))
        self.port, self.folder = free_port(), folder
        self.folder.mkdir(parents=True)
        self._as: list[str] = []
        if os.geteuid() == 0:
            self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
            shutil.chown(folder, "postgres", "postgres")
            for parent in folder.parents:  # pytest's folders are root's alone
                if parent != Path("/tmp") and parent.is_relative_to("/tmp") and not parent.stat().st_mode & 0o001:
                    parent.chmod(parent.stat().st_mode | 0o011)
        self._run("initdb", "-D", f"{folder}/data", "-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "trust", "-N")
        self.start()
        for text in (
            f"CREATE USER store PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'",
            "CREATE DATABASE fleet OWNER store",
        ):
            self.tell(text)

    def tell(self, *statements: str) -> None:
        """Run statements as its owner, each by itself."""
        said = [word for text in statements for word in ("-c", text)]
        self._run("psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-q", *said)

    def _run(self, program: str, *words: str) -> None:
        subprocess.run([*self._as, self.bin / program, *words], check=True, capture_output=True, cwd="/")

    @property
    def nodes(self) -> list[str]:
        return [f"127.0.0.1:{self.port}"]

    def start(self) -> None:
        options = [
            "-c",
            f"port={self.port}",
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            f"unix_socket_directories={self.folder}",
        ]
        options += ["-c", "fsync=off"]  # a kill of processes loses nothing of the kernel's memory
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._as, self.bin / "postgres", "-D", f"{self.folder}/data", *options],
                stdout=log,
                stderr=log,
                cwd="/",
            )
        url = f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"
        engine = sql.create_engine(url, connect_args={"connect_timeout": 2}, poolclass=sql.NullPool)

        def answers() -> bool:
            try:
                with engine.connect():
                    return True
            except sql.exc.SQLAlchemyError:
                return False

        wait_for(answers, 120, what="postgresql")

    def kill(self) -> None:
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        for child in children:  # they notice that their parent is gone, and end by themselves
            wait_for(lambda child=child: not Path(f"/proc/{child}").exists(), what="the end of postgresql")
        for left in (self.folder / "data" / "postmaster.pid", self.folder / f".s.PGSQL.{self.port}.lock"):
            left.unlink(missing_ok=True)  # where nobody reaps orphans, what they name seems to live

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(20)


SERVERS = {"mariadb": MariaServer, "postgresql": PostgresServer}


def open_engine(server: MariaServer | PostgresServer, *first: str) -> Engine:
    """An engine of a server; `first` are nodes that are tried before."""
    return Engine(server.kind, [*first, *server.nodes], ACCESS)
