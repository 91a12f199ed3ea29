"""A fleet on one machine: houses with a broker, an archive and a source each, a centre, and three nodes of a real engine.

Nothing is simulated but what the sources measure: brokers with TLS and the rights that the commands write, bridges with certificates
that were asked for by token, the real store, real nodes.
"""

import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import sqlalchemy as sql
import yaml

from bootstrap_lib import Client, Registry, StartError, broker
from services.fleet import bridges, joining, roster
from services.fleet.authority import Authority
from services.fleet.cluster import LocalCluster
from services.fleet.dialect import Access
from services.fleet.engine import Engine
from services.fleet.enrolment import EnrolmentServer, Invitations
from services.page import people
from services.simulators.demo import RUN_PREFIX, answers, find_program, free_port, say, wait_for
from services.simulators.fleet_lines import CENTRE, HOUSE, PASSWORD, TOPICS, WORD
from services.simulators.supervisor import Supervisor

MARK: Final = ".constellation-demo-fleet"
SOURCES: Final = Path(__file__).parent / "sources"
PATIENCE: Final = 180.0
"""Seconds at the end in which the nodes must have what the archives have."""


class Comparison(NamedTuple):
    """What the archives have beside one node: readings there, and how many are missing, wrong or too many here."""

    archives: int
    node: int
    missing: int
    wrong: int

    @property
    def equal(self) -> bool:
        """Whether every reading is there once, as it was taken."""
        return self.archives == self.node and not (self.missing or self.wrong)


class DemoFleet:
    """One run. Processes are looked after: what is killed comes back."""

    ENGINE: ClassVar = "mariadb"

    def __init__(self, folder: Path, houses: int, nodes: int = 3) -> None:
        """Lay everything out below a folder, which is emptied."""
        self.folder = folder.resolve()
        os.environ["PATH"] += os.pathsep + "/usr/sbin"
        for program in ("mosquitto", "openssl", "setpriv"):
            find_program(program)
        self._empty()
        self.names = [f"h{n:04d}" for n in range(1, houses + 1)]
        self.supervisor = Supervisor()
        self.cluster = self.make_cluster(nodes)
        self._ports = {name: free_port() for name in ("centre", "houses", "page", *self.names)}
        self._away: set[str] = set()
        self._enrolment: EnrolmentServer | None = None

    def make_cluster(self, nodes: int) -> LocalCluster:
        """Nodes of the engine, of which none runs yet."""
        return LocalCluster(self.folder / "engine", free_port() // 64 * 64 % 20_000 + 10_000, nodes)

    def _empty(self) -> None:
        mark = self.folder / MARK
        if self.folder.exists() and any(self.folder.iterdir()) and not mark.exists():
            raise StartError(f"{self.folder} is not empty and no demo's folder: name another with --folder")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        mark.touch()
        (self.folder / "log").mkdir()

    def log(self, name: str) -> Path:
        """File that a process writes its words to."""
        return self.folder / "log" / f"{name}.log"

    # -- the run ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the engine, the centre, and house after house, each of which joins by a token."""
        nodes = len(self.cluster.places)
        say(f"engine: {nodes} nodes of {self.ENGINE}")
        self.cluster.init()
        self.cluster.begin()
        self.cluster.prepare("fleet", "store", PASSWORD)
        say("centre: an authority, a broker with a listener for houses, a store")
        authority = self._start_centre()
        for name in self.names:
            self._start_house(name, authority)
        say(f"{len(self.names)} houses: each a broker with a bridge, an archive, and a source of eight topics a second")

    def _start_centre(self) -> Authority:
        root, config = self.folder / "centre", self.folder / "centre" / "topics.yaml"
        root.mkdir()
        authority = Authority(root / "authority", "127.0.0.1")
        authority.make()
        fleet = root / "etc/mosquitto/fleet"
        shutil.copytree(authority.folder, fleet, ignore=shutil.ignore_patterns("ca.key", "issued"))
        houses = root / "fleet.json"
        roster.write(houses, roster.Roster({name: roster.RosterHouse() for name in self.names}))
        local = root / str(broker.LOCAL_RIGHTS).lstrip("/")
        local.parent.mkdir(parents=True)
        local.write_text(bridges.RIGHTS)
        text = CENTRE.format(
            broker="{}", engine=self.ENGINE, nodes=self.cluster.nodes, roster=houses, port=self._ports["page"]
        )
        prepared = self._prepare(
            root, config, text, "centre", bridges.listener(self._ports["houses"], fleet, "127.0.0.1")
        )
        for name, secret in (
            ("fleet.engine", PASSWORD),
            (people.secret_of("fleet_page"), people.write({"olga": people.hashed(WORD)})),
        ):
            (prepared.credentials / name).touch(0o600)
            (prepared.credentials / name).write_text(secret)
        for service in ("central", "alerts", "fleet_page"):
            self._service("centre", service, config, prepared)
        say(f"the fleet's page: http://127.0.0.1:{self._ports['page']}, as olga with the password {WORD}")
        self._enrolment = EnrolmentServer(
            ("127.0.0.1", 0), authority, root, self._ports["houses"], lambda name: name not in self.names
        )
        threading.Thread(target=self._enrolment.serve_forever, args=(0.1,), daemon=True).start()
        return authority

    def _start_house(self, name: str, authority: Authority) -> None:
        root = self.folder / name
        config = root / "topics.yaml"
        root.mkdir()
        assert self._enrolment is not None  # noqa: S101 (the centre was started)
        secret = Invitations(self.folder / "centre" / "tokens.json").invite(name)
        url = f"https://127.0.0.1:{self._enrolment.server_port}"
        given = joining.enrol(url, f"{secret}.{authority.fingerprint}", root / "etc/mosquitto/fleet")
        text = bridges.bridge(given.name, given.address, given.port, root / "etc/mosquitto/fleet")
        prepared = self._prepare(root, config, HOUSE.format(broker="{}", topics=TOPICS), name, text)
        for service in ("archive", "rooms"):
            self._service(name, service, config, prepared)

    def _prepare(self, root: Path, config: Path, text: str, name: str, drop_in: str) -> broker.PreparedBroker:
        """Start a broker as the commands make it, with the fleet's own part beside it."""
        config.write_text(text)
        prepared = broker.prepare_broker(root, Registry(config), self._ports[name])
        (root / str(bridges.DROP_IN).lstrip("/")).write_text(drop_in)
        given = {key: value for key, value in prepared.settings.items() if value is not None}
        line = yaml.safe_dump(given, default_flow_style=True, width=10_000).strip()
        config.write_text(text.replace("broker: {}", f"broker: {line}"))
        self.supervisor.start(f"{name} broker", ["mosquitto", "-c", prepared.config], self.log(f"{name}_broker"))
        wait_for(lambda: answers(self._ports[name]), f"the broker of {name}")
        return prepared

    def _service(self, place: str, service: str, config: Path, prepared: broker.PreparedBroker) -> None:
        run = Path("/dev/shm") if Path("/dev/shm").is_dir() else self.folder  # noqa: S108 (what /run is to the real services)
        environment = {
            "STATE_DIRECTORY": str(config.parent / "state" / service),
            "RUNTIME_DIRECTORY": str(run / f"{RUN_PREFIX}fleet-{os.getpid()}" / place / service),
            "CONSTELLATION_CREDENTIALS": str(prepared.credentials),
            "CONSTELLATION_SERVICES": str(SOURCES),
            "CONSTELLATION_CLOCK_PATIENCE": "0",
        }
        command: list[str | Path] = [sys.executable, "-m", "bootstrap_lib.cli", "--config", config, "run", service]
        self.supervisor.start(f"{place} {service}", command, self.log(f"{place}_{service}"), environment, tier=2)

    def look_after(self, seconds: float) -> None:
        """Let it run; what has ended is started again."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for sentence in self.supervisor.look_after(lambda _: False):
                say(sentence)
            for number, process in list(self.cluster.processes.items()):
                if process.poll() is not None:
                    say(f"node {number} is started again")
                    self.cluster.start(number, wait=False)
            time.sleep(min(0.2, max(0.0, until - time.monotonic())))

    def send(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process by its name: `h0001 broker`, `centre central`."""
        for child in self.supervisor.children:
            if child.name == name and child.process is not None and child.process.poll() is None:
                child.process.send_signal(number)

    # -- the proof ----------------------------------------------------------------------------------------------------

    def archives(self) -> Iterator[tuple[str, str, int, float]]:
        """House, topic, time and value of all that the houses' archives have."""
        for name in self.names:
            with closing(sqlite3.connect(self.folder / name / "state/archive/archive.sqlite", timeout=10)) as database:
                text = "SELECT t.name, r.time, r.value FROM readings r JOIN topics t ON t.id = r.topic"
                yield from ((name, *row) for row in database.execute(text))

    def taken(self) -> int:
        """Rounds that the sources counted in all houses, and whether each of them is in its archive: -1 where one is not."""
        total = 0
        for name in self.names:
            rounds = sorted(
                int(v) for house, topic, _, v in self.archives() if house == name and topic.endswith("_count")
            )
            if rounds != list(range(1, len(rounds) + 1)):
                return -1
            total += len(rounds)
        return total

    def readers(self) -> Iterator[sql.Engine]:
        """Every node by itself."""
        engine = Engine(self.ENGINE, self.cluster.nodes, Access("fleet", "store", PASSWORD))
        yield from (node for _, node in engine.each())
        engine.close()

    def compare(self) -> list[Comparison]:
        """What each node has beside the archives, number by number."""
        record = {(house, topic, moment): value for house, topic, moment, value in self.archives()}
        text = sql.text(
            "SELECT h.name, t.name, r.time, r.value FROM readings r JOIN topics t ON t.id = r.topic JOIN houses h ON h.id = r.house"
        )
        found = []
        for node in self.readers():
            try:
                with node.connect() as connection:
                    rows = [tuple(row) for row in connection.execute(text)]
            except sql.exc.SQLAlchemyError:
                found.append(Comparison(len(record), 0, len(record), 0))
                continue
            here = {row[:3]: row[3] for row in rows}
            missing = sum(key not in here for key in record)
            wrong = sum(here[key] != value for key, value in record.items() if key in here)
            found.append(Comparison(len(record), len(rows), missing, wrong))
        return found

    def ask(self, verb: str) -> Any:
        """Ask the store of the centre."""
        config = self.folder / "centre" / "topics.yaml"
        os.environ["CONSTELLATION_CREDENTIALS"] = str(self.folder / "centre" / "etc/constellation/credentials")
        with Client(Registry(config)) as client:
            return client.ask("central", verb, {})

    def settle(self, patience: float = PATIENCE) -> list[Comparison]:
        """End the sources, and wait until every node has what the archives have, or for so many seconds."""
        for name in self.names:
            self.send(f"{name} rooms", signal.SIGTERM)
        self.supervisor.children = [child for child in self.supervisor.children if not child.name.endswith(" rooms")]
        deadline, found, ask_at = time.monotonic() + patience, self.compare(), 0.0
        while time.monotonic() < deadline:
            before, found = found, self.compare()
            if found == before and all(one.equal for one in found) and self.taken() > 0:
                break
            if time.monotonic() >= ask_at:
                ask_at = time.monotonic() + 20.0
                with suppress(StartError):
                    self.ask("compare")
            self.look_after(1.0)
        return found

    def stop(self) -> None:
        """End everything."""
        if self._enrolment is not None:
            self._enrolment.shutdown()
            self._enrolment.server_close()
        self.supervisor.stop()
        self.cluster.stop()
        shutil.rmtree(Path("/dev/shm") / f"{RUN_PREFIX}fleet-{os.getpid()}", ignore_errors=True)  # noqa: S108


def verdict(fleet: DemoFleet, found: list[Comparison]) -> tuple[bool, str]:
    """Whether every reading that was taken is in every node once, and the figures in one line."""
    rounds = fleet.taken()
    good = rounds > 0 and bool(found) and all(one.equal for one in found)
    record = found[0].archives if found else 0
    nodes = ", ".join(
        f"node {n} {one.node} (missing {one.missing}, wrong {one.wrong})" for n, one in enumerate(found, 1)
    )
    told = f"{len(fleet.names)} houses, {record} readings in their archives, {rounds} rounds counted without a hole"
    return good, f"{told if rounds > 0 else 'archives have holes'}; {nodes}"


def run(folder: Path, houses: int, seconds: float, nodes: int) -> int:
    """Run the demo; 0 only if every reading that was taken is in every node once. Its last line says the figures."""
    fleet = DemoFleet(folder, houses, nodes)
    good, line = False, "it did not start"
    try:
        fleet.start()
        fleet.look_after(seconds)
        say("sources end; every node is compared with every archive, number by number")
        good, line = verdict(fleet, fleet.settle())
    except KeyboardInterrupt:
        line = "ended before its time"
    finally:
        fleet.stop()
        say(line)
    return 0 if good else 1
