"""Nodes of a MariaDB Galera cluster: their configuration, and how one is started again after whatever ended it.

On machines of their own Debian's unit starts them; here they are also run side by side on loopback, by the demo and the tests.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sql

from bootstrap_lib import StartError

PROVIDER: Final = Path("/usr/lib/galera/libgalera_smm.so")
PACKAGES: Final = "mariadb-server galera-4 mariadb-backup socat rsync lsof"

QUICK: Final = (
    "evs.keepalive_period=PT0.3S;evs.inactive_check_period=PT0.3S;evs.suspect_timeout=PT1.5S;"
    "evs.inactive_timeout=PT4S;evs.install_timeout=PT4S"
)
"""How soon a dead node is expelled, for whom everybody waits: short times want nodes on one network."""

PATIENCE: Final = 120.0
"""Seconds until a node takes statements: a whole state transfer of a small database takes a quarter of that."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node is reached: its own ports where several share an address."""

    host: str
    sql: int = 3306
    group: int = 4567
    changes: int = 4568
    state: int = 4444


def configuration(number: int, places: Sequence[Place], name: str, *, near: bool = True, flush: int = 1) -> str:
    """Text of a node's file in /etc/mysql/mariadb.conf.d. `near`: nodes are on one network; `flush`: innodb_flush_log_at_trx_commit."""
    here = places[number - 1]
    group = ",".join(f"{place.host}:{place.group}" for place in places)
    provider = (
        f"gmcast.listen_addr=tcp://{here.host}:{here.group};ist.recv_addr={here.host}:{here.changes};"
        f"gcache.size=128M;gcache.recover=yes;pc.recovery=yes;socket.checksum=2{';' + QUICK if near else ''}"
    )
    return f"""# Written by `constellation fleet engine init`: node {number} of {len(places)} of the fleet's engine (docs/fleet.md).
[mariadbd]
bind-address={here.host}
port={here.sql}
skip-name-resolve
default_time_zone=+00:00
character-set-server=utf8mb4
collation-server=utf8mb4_bin
binlog_format=ROW
default_storage_engine=InnoDB
innodb_autoinc_lock_mode=2
innodb_flush_log_at_trx_commit={flush}
innodb_lock_wait_timeout=10
wsrep_on=ON
wsrep_provider={PROVIDER}
wsrep_cluster_name={name}
wsrep_cluster_address=gcomm://{group}
wsrep_node_name=n{number}
wsrep_node_address={here.host}:{here.group}
wsrep_node_incoming_address={here.host}:{here.sql}
wsrep_sst_method=mariabackup
wsrep_sst_auth=mysql:
wsrep_sst_receive_address={here.host}:{here.state}
wsrep_slave_threads=2
wsrep_provider_options="{provider}"
"""


def loopback(base: int, count: int = 3) -> list[Place]:
    """Places of nodes that share this machine, from a port on."""
    return [Place("127.0.0.1", base + n, base + 10 + n, base + 20 + n, base + 30 + n) for n in range(1, count + 1)]


class LocalCluster:
    """Nodes on loopback, each a process in a folder of its own; one node is a plain server."""

    def __init__(self, folder: Path, base: int, count: int = 3) -> None:
        """`base` is a port below those that it uses."""
        self.folder, self.places = folder, loopback(base, count)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._name = f"fleet{base}"

    @property
    def nodes(self) -> list[str]:
        """Nodes as an engine wants them."""
        return [f"{place.host}:{place.sql}" for place in self.places]

    def _node(self, number: int) -> Path:
        return self.folder / f"n{number}"

    def _socket(self, number: int) -> str:
        return str(self._node(number) / "s")

    def init(self) -> None:
        """Lay out all nodes; StartError where MariaDB is not installed."""
        os.environ["PATH"] += os.pathsep + "/usr/sbin"
        if shutil.which("mariadbd") is None or (len(self.places) > 1 and not PROVIDER.exists()):
            raise StartError(f"the engine is not installed: sudo apt install --no-install-recommends {PACKAGES}")
        for number, place in enumerate(self.places, 1):
            node = self._node(number)
            node.mkdir(parents=True, exist_ok=True)
            alone = f"[mariadbd]\nbind-address={place.host}\nport={place.sql}\nskip-name-resolve\ninnodb_flush_log_at_trx_commit=2\n"
            shared = (
                configuration(number, self.places, self._name, near=False, flush=2) if len(self.places) > 1 else alone
            )
            mine = (
                f"datadir={node}/data\nsocket={self._socket(number)}\npid-file={node}/pid\nlog-error={node}/log.err\n"
                "max_connections=100\ninnodb_buffer_pool_size=64M\ninnodb_log_file_size=48M\nperformance_schema=OFF\n"
                "character-set-server=utf8mb4\ncollation-server=utf8mb4_bin\n"
            )
            small = shared.replace("wsrep_sst_auth=mysql:", "wsrep_sst_auth=root:").replace("=128M", "=32M")
            (node / "my.cnf").write_text(small + mine)
        first = self._node(1)
        made = [
            *("mariadb-install-db", f"--defaults-file={first}/my.cnf", f"--user={_user()}", "--skip-test-db"),
            *("--auth-root-authentication-method=normal", "--wsrep-on=OFF"),
        ]
        done = subprocess.run(made, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StartError(f"mariadb-install-db failed: {' '.join((done.stderr or done.stdout).split())[-300:]}")
        if len(self.places) > 1:
            self._share_first_state()

    def _share_first_state(self) -> None:
        """Give every node the same first state, so that none has to fetch it whole."""
        self.start(1, first=True)
        self.processes[1].terminate()
        self.processes.pop(1).wait(PATIENCE)
        for number in range(2, len(self.places) + 1):
            data = self._node(number) / "data"
            shutil.copytree(self._node(1) / "data", data, ignore=shutil.ignore_patterns("galera.cache", "gvwstate.dat"))
            state = (data / "grastate.dat").read_text()
            (data / "grastate.dat").write_text(state.replace("safe_to_bootstrap: 1", "safe_to_bootstrap: 0"))

    def begin(self) -> None:
        """Start all nodes: the first begins the cluster."""
        for number in range(1, len(self.places) + 1):
            self.start(number, first=number == 1, wait=number == 1)
        for number in range(2, len(self.places) + 1):
            self.wait(number)

    def start(self, number: int, *, first: bool = False, wait: bool = True) -> None:
        """Start a node from where it stopped; the `first` of a cluster begins it."""
        options = ["--wsrep-new-cluster"] if first and len(self.places) > 1 else []
        if not first and len(self.places) > 1 and (position := self._position(number)):
            options.append(f"--wsrep_start_position={position}")
        with (self._node(number) / "out").open("ab") as output:
            self.processes[number] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self._command(number), *options],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        if wait:
            self.wait(number)

    def _command(self, number: int) -> list[str]:
        return ["mariadbd", f"--defaults-file={self._node(number)}/my.cnf", f"--user={_user()}"]

    def _position(self, number: int) -> str:
        """Where InnoDB stands after a kill: without it the whole state would be fetched again."""
        log = self._node(number) / "recover.log"
        log.unlink(missing_ok=True)
        words = [*self._command(number), "--wsrep-recover", f"--log-error={log}"]
        subprocess.run(words, capture_output=True, check=False)
        found = re.findall(r"WSREP: Recovered position: *([-0-9a-f]+:-?\d+)", log.read_text() if log.exists() else "")
        return found[-1] if found else ""

    def wait(self, number: int, patience: float = PATIENCE) -> None:
        """Wait until a node takes statements; StartError with the end of its log where it does not."""
        deadline = time.monotonic() + patience
        while not self.ready(number):
            if time.monotonic() > deadline or self.processes[number].poll() is not None:
                log = self._node(number) / "log.err"
                said = log.read_text()[-500:] if log.exists() else "nothing"
                raise StartError(f"node {number} of the engine does not start: {said}")
            time.sleep(0.1)

    def ask(self, number: int, text: str) -> list[tuple[object, ...]]:
        """Rows that a node answers as root; none while it does not."""
        url = sql.URL.create("mysql+pymysql", "root", query={"unix_socket": self._socket(number)})
        engine = sql.create_engine(url, connect_args={"connect_timeout": 2, "read_timeout": 5}, poolclass=sql.NullPool)
        try:
            with engine.begin() as connection:
                result = connection.exec_driver_sql(text.replace("%", "%%"))
                return [tuple(row) for row in result] if result.returns_rows else []
        except sql.exc.SQLAlchemyError:
            return []
        finally:
            engine.dispose()

    def ready(self, number: int) -> bool:
        """Whether a node takes statements."""
        if len(self.places) == 1:
            return bool(self.ask(number, "SELECT 1"))
        return self.ask(number, "SHOW STATUS LIKE 'wsrep_ready'") == [("wsrep_ready", "ON")]

    def prepare(self, database: str, user: str, password: str) -> None:
        """Make the database and its user, by the first node that runs."""
        number = next(iter(self.processes))
        for statement in accounts(database, user, password):
            self.ask(number, statement)

    def kill(self, number: int) -> None:
        """End a node as a power cut does."""
        self.send(number, signal.SIGKILL)
        self.processes[number].wait(20)

    def send(self, number: int, what: int) -> None:
        """Send a signal to a node."""
        self.processes[number].send_signal(what)

    def stop(self) -> None:
        """End all nodes."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def own_number(nodes: Sequence[str]) -> int:
    """Which of the nodes this machine is: the one whose address it can listen at."""
    for number, node in enumerate(nodes, 1):
        try:
            with socket.create_server((node, 0)):
                return number
        except OSError:
            continue
    raise StartError(f"none of {', '.join(nodes)} is an address of this machine: say which with --node")


def accounts(database: str, user: str, password: str) -> list[str]:
    """Statements that make the database and the user who may write into it."""
    quoted = password.replace("\\", "\\\\").replace("'", "''")
    return [
        f"CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        f"CREATE USER IF NOT EXISTS `{user}`@`%` IDENTIFIED BY '{quoted}'",
        f"GRANT ALL ON `{database}`.* TO `{user}`@`%`",
    ]


BACKUP: Final = (
    "CREATE USER IF NOT EXISTS `mysql`@`localhost` IDENTIFIED VIA unix_socket",
    "GRANT RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR ON *.* TO `mysql`@`localhost`",
)
"""The account by which a node gives its whole state to another one (mariabackup): the server's own user, by its socket."""


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name
