"""What a Galera cluster's nodes say of themselves, which state of the table in docs/fleet.md that is, and what is to be done."""

import subprocess
from pathlib import Path
from typing import Final, NamedTuple

import sqlalchemy as sql

from bootstrap_lib import StartError
from services.fleet.cluster import BACKUP, PACKAGES, accounts
from services.fleet.dialect import Access
from services.fleet.engine import place
from services.fleet.mariadb import MariaDB

ASKED: Final = (
    "wsrep_cluster_status",
    "wsrep_cluster_size",
    "wsrep_local_state_comment",
    "wsrep_ready",
    "wsrep_last_committed",
)
DENIED: Final = frozenset({1045, 1698})
"""Codes of a node that does not take the stores' password."""


class NodeState(NamedTuple):
    """One node. `answers` is False for one that does not speak, or not with us: `denied` is one that has another password."""

    node: str
    answers: bool
    primary: bool = False
    state: str = "gone"
    size: int = 0
    ready: bool = False
    committed: int = -1
    denied: bool = False

    def __str__(self) -> str:
        """One line for people."""
        if self.denied:
            return f"{self.node}: does not take the stores' password of this machine"
        if not self.answers:
            return f"{self.node}: does not answer"
        part = "primary" if self.primary else "NOT PRIMARY"
        return f"{self.node}: {self.state}, {part}, sees {self.size}, committed {self.committed}"


def ask(node: str, access: Access) -> NodeState:
    """Ask one node, whatever state it is in."""
    dialect = MariaDB()
    url = dialect.url(*place(node, dialect.PORT), access._replace(database=""))
    engine = sql.create_engine(
        url, connect_args=dialect.arguments(access._replace(timeout=2.0)), poolclass=sql.NullPool
    )
    try:
        with engine.connect() as connection:
            said = {row[0]: row[1] for row in connection.exec_driver_sql("SHOW STATUS LIKE 'wsrep_%%'")}
    except sql.exc.SQLAlchemyError as error:
        code = next(iter(getattr(getattr(error, "orig", None), "args", ())), None)
        return NodeState(node, answers=False, denied=code in DENIED)
    finally:
        engine.dispose()
    status, size, state, ready, committed = (said.get(name, "") for name in ASKED)
    return NodeState(
        node,
        answers=True,
        primary=status == "Primary",
        state=state or "no cluster",
        size=int(size or 0),
        ready=ready == "ON",
        committed=int(committed or -1),
    )


def advice(states: list[NodeState]) -> str | None:
    """What is to be done, or None where all is well."""
    if told := _password(states):
        return told
    whole = [one for one in states if one.ready and one.primary]
    if len(whole) == len(states) and len({one.size for one in states}) == 1:
        return None
    if whole:
        missing = ", ".join(one.node for one in states if one not in whole)
        return f"{missing}: sudo systemctl restart mariadb there; it fetches what it missed by itself. The others go on"
    silent = [one for one in states if not one.answers]
    if len(silent) == len(states):
        return (
            "none answers. Were they stopped cleanly: on the one whose grastate.dat says safe_to_bootstrap: 1,"
            " sudo constellation fleet engine bootstrap; then sudo systemctl start mariadb on the others."
            " Did all die: sudo systemctl start mariadb on all of them within a minute; they find each other by themselves"
        )
    first = max((one for one in states if one.answers), key=lambda one: one.committed)
    return (
        f"no majority: nobody may write. Start the others (sudo systemctl start mariadb): with a second one back from two that died it"
        f" may still wait for the third. If they are lost for good, and on one side only: on {first.node},"
        " sudo constellation fleet engine bootstrap --alone"
    )


def _password(states: list[NodeState]) -> str | None:
    """What is to be done where a node runs and has another password than this machine: nothing else can be said of it."""
    denied = ", ".join(one.node for one in states if one.denied)
    if not denied:
        return None
    return (
        f"{denied} has another password for the stores than this machine: carry /etc/constellation/credentials/fleet.engine here from"
        " the machine on which the cluster began (docs/fleet.md)"
    )


def bootstrap(states: list[NodeState], access: Access, grastate: Path, *, alone: bool) -> None:
    """Begin a cluster on this machine, or go on with its node `alone`; refused while another part of it takes writes. StartError."""
    if told := _password(states):
        raise StartError(told)
    if living := [one.node for one in states if one.primary and one.ready]:
        raise StartError(
            f"{', '.join(living)} takes writes: sudo systemctl restart mariadb here joins it; two would part for ever"
        )
    if not alone and grastate.exists() and "safe_to_bootstrap: 0" in grastate.read_text():
        raise StartError(
            "this node was not the last to leave (safe_to_bootstrap: 0): begin on the one that was, or, if all died, start all of"
            " them within a minute (sudo systemctl start mariadb): they find each other by themselves"
        )
    words = (
        ["mariadb", "-e", "SET GLOBAL wsrep_provider_options='pc.bootstrap=yes'"] if alone else ["galera_new_cluster"]
    )
    _run(words)
    for statement in () if alone else (*accounts(access.database, access.user, access.password), *BACKUP):
        _run(["mariadb"], statement)


def _run(words: list[str], text: str = "") -> None:
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise StartError(f"{words[0]} is not there: sudo apt install --no-install-recommends {PACKAGES}") from None
    if done.returncode:
        raise StartError(f"{words[0]} failed: {' '.join((done.stderr or done.stdout).split())[-300:]}")
