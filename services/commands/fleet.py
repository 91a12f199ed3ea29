"""A fleet of houses: the centre, its houses, its engine, and a demo of all of them.

At the centre:   fleet centre ADDRESS · fleet house NAME · fleet serve · fleet move NAME SHARD · fleet revoke NAME
                 fleet ask NAME INSTANCE VERB [JSON] · fleet engine init|status|bootstrap
On a house:      fleet join URL TOKEN · fleet renew
Anywhere:        fleet demo --houses 5 --for 60
"""

import argparse
import getpass
import grp
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from bootstrap_lib import Client, Registry, StartError, broker
from services.fleet import bridges, joining, nodes, roster
from services.fleet.authority import LIST_DAYS, Authority, lasts
from services.fleet.enrolment import EnrolmentServer, Invitations
from services.fleet.root_tree import below, write

CENTRE: Final = Path("/etc/constellation/fleet")
ROSTER: Final = Path("/etc/constellation/fleet.json")
HOUSES_PORT, ENROL_PORT = 8884, 8885
GROUP: Final = "constellation-broker"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `fleet` takes."""
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="a folder that stands for /")
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    centre = verbs.add_parser("centre", help="make this machine a centre: an authority, and a listener for houses")
    centre.add_argument("address", help="the name (or IP address) under which houses reach it")
    centre.add_argument("--port", type=int, default=HOUSES_PORT)
    house = verbs.add_parser("house", help="add a house, and print its token; again for a new token")
    house.add_argument("name")
    house.add_argument("--shard", help=f"which store keeps it (default: as before; a new one {roster.ALL})")
    serve = verbs.add_parser("serve", help="let houses with a token in, and renew certificates, until it is ended")
    serve.add_argument("--port", type=int, default=ENROL_PORT)
    move = verbs.add_parser("move", help="give a house to another shard, while both run")
    move.add_argument("name")
    move.add_argument("shard")
    ask = verbs.add_parser("ask", help="ask a service of a house, and print what it answers")
    ask.add_argument("name")
    ask.add_argument("instance")
    ask.add_argument("request", metavar="VERB")
    ask.add_argument("arguments", nargs="?", default="{}", metavar="JSON")
    revoke = verbs.add_parser("revoke", help="let a house in no more, and end its connection")
    revoke.add_argument("name")
    join = verbs.add_parser("join", help="on a house: become one of a fleet")
    join.add_argument("url", help="https://CENTRE:8885")
    join.add_argument("token", help="what `fleet house NAME` printed at the centre")
    renew = verbs.add_parser(
        "renew", help="renew what is near its end: a house's certificate, a centre's list of revocations"
    )
    renew.add_argument("--now", action="store_true", help="however new it is")
    engine = verbs.add_parser("engine", help="the nodes of the engine")
    engine.add_argument("do", choices=("init", "status", "bootstrap"))
    engine.add_argument("--nodes", help="addresses of all nodes, with commas: 10.0.0.1,10.0.0.2,10.0.0.3")
    engine.add_argument("--node", type=int, default=0, help="which of them this machine is, from 1 (found by itself)")
    engine.add_argument("--far", action="store_true", help="the nodes are not on one network: patient time-outs")
    engine.add_argument("--alone", action="store_true", help="go on with this node alone: the others are lost for good")
    demo = verbs.add_parser("demo", help="houses, a centre and three nodes on this machine")
    demo.add_argument("--houses", type=int, default=5)
    demo.add_argument("--for", dest="seconds", type=float, default=60.0, metavar="SECONDS")
    demo.add_argument("--folder", type=Path, default=Path("demo-fleet"))
    demo.add_argument("--nodes", type=int, default=3, help="nodes of the engine: 1 or 3")


def main(arguments: argparse.Namespace) -> int:
    """Do one of them; returns its exit code."""
    work = {"centre": _centre, "house": _house, "serve": _serve, "revoke": _revoke, "join": _join, "renew": _renew}
    work |= {"move": _move, "ask": _ask, "engine": _engine, "demo": _demo}
    return work[arguments.what](arguments)


def _below(arguments: argparse.Namespace, path: Path) -> Path:
    return below(arguments.root, path)


def _config(arguments: argparse.Namespace) -> Path:
    """The topics.yaml that is meant; StartError for root where others could write it."""
    installed = Path(arguments.root, "etc/constellation/topics.yaml")
    return Registry.locate(arguments.config or os.environ.get("CONSTELLATION_CONFIG") or str(installed))


def _authority(arguments: argparse.Namespace) -> Authority:
    folder = _below(arguments, CENTRE)
    try:
        address = (folder / "address").read_text().strip()
    except FileNotFoundError:
        raise StartError("this machine is no centre: sudo constellation fleet centre ADDRESS") from None
    return Authority(folder, address)


def _centre(arguments: argparse.Namespace) -> int:
    if arguments.root == Path("/") and not _has_broker():
        raise StartError(
            "this machine has no broker of its own yet: sudo constellation units --install, and then this again"
        )
    folder = _below(arguments, CENTRE)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = _below(arguments, CENTRE)  # once more: somebody may have made it meanwhile
    if (folder / "ca.crt").exists() and (known := _authority(arguments).address) != arguments.address:
        raise StartError(
            f"this authority is for {known}, its certificates say so and houses know it by that name; a new one is made once"
            f" {folder} is moved away, and then each house joins again"
        )
    write(folder / "address", arguments.address + "\n")
    authority = Authority(folder, arguments.address)
    authority.make()
    write(folder / "port", f"{arguments.port}\n")
    _publish(arguments, authority)
    write(_below(arguments, bridges.DROP_IN), bridges.listener(arguments.port, _below(arguments, joining.FOLDER)))
    local = _below(arguments, broker.LOCAL_RIGHTS)
    known = local.read_text() if local.exists() else ""
    if bridges.RIGHTS not in known:
        write(local, known + bridges.RIGHTS, 0o640)
    if not _below(arguments, ROSTER).exists():
        roster.write(_below(arguments, ROSTER), roster.Roster())
    print(f"houses come in at {arguments.address}, port {arguments.port}. Next:")
    print("  sudo constellation units --install && sudo systemctl restart constellation-broker")
    print("  sudo constellation fleet house NAME     and in another terminal: sudo constellation fleet serve")
    return 0


def _has_broker() -> bool:
    """Whether there is somebody to give the centre's key to: a broker that may not read it does not start."""
    try:
        grp.getgrnam(GROUP)
    except KeyError:
        return False
    return True


def _publish(arguments: argparse.Namespace, authority: Authority) -> None:
    """Give the broker what it may read of the authority."""
    target = _below(arguments, joining.FOLDER)
    for name, mode in (("ca.crt", 0o644), ("centre.crt", 0o644), ("centre.key", 0o640), ("crl.pem", 0o644)):
        write(target / name, (authority.folder / name).read_text(), mode)
        if os.geteuid() == 0 and mode == 0o640 and _has_broker():  # noqa: PLR2004
            shutil.chown(target / name, group=GROUP)


def _house(arguments: argparse.Namespace) -> int:
    authority, file = _authority(arguments), _below(arguments, ROSTER)
    config = _config(arguments)
    registry = Registry(config) if config.exists() else None
    taken = frozenset((*broker.PEOPLE, *((registry.root, *registry.instances) if registry else ())))
    roster.refuse_name(arguments.name, taken)
    houses = dict(roster.read(file).houses)
    shard = arguments.shard or houses.get(arguments.name, roster.RosterHouse()).shard
    houses[arguments.name] = roster.RosterHouse(shard=shard)
    roster.write(file, roster.Roster(houses))
    secret = Invitations(authority.folder / "tokens.json").invite(arguments.name)
    if told := roster.unkept(config, shard):
        print(told)
    print(f"{arguments.name} belongs to shard {shard}. On the house, within a day, once:")
    print(f"  sudo constellation fleet join https://{authority.address}:{ENROL_PORT} {secret}.{authority.fingerprint}")
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    authority, file = _authority(arguments), _below(arguments, ROSTER)
    port = int((authority.folder / "port").read_text())

    def revoked(name: str) -> bool:
        house = roster.read(file).houses.get(name)
        return house is None or house.revoked

    with EnrolmentServer(("", arguments.port), authority, authority.folder, port, revoked) as server:
        print(f"houses with a token are let in at https://{authority.address}:{arguments.port}", flush=True)
        try:
            server.serve_forever(0.2)
        except KeyboardInterrupt:
            print()
    return 0


def _houses(arguments: argparse.Namespace) -> dict[str, roster.RosterHouse]:
    """Houses of the roster, the one that is spoken of among them; StartError where it is not."""
    houses = dict(roster.read(_below(arguments, ROSTER)).houses)
    if arguments.name not in houses:
        raise StartError(f"no house is called '{arguments.name}': there are {', '.join(houses) or 'none'}")
    return houses


def _move(arguments: argparse.Namespace) -> int:
    houses = _houses(arguments)
    if not re.match(roster.WORD, arguments.shard):
        raise StartError(f"'{arguments.shard}' names no shard: use small letters, digits and _")
    before = houses[arguments.name]
    houses[arguments.name] = roster.RosterHouse(shard=arguments.shard, revoked=before.revoked)
    roster.write(_below(arguments, ROSTER), roster.Roster(houses))
    print(
        f"{arguments.name} goes from shard {before.shard} to {arguments.shard}: its store lets it go, the other fills"
    )
    if told := roster.unkept(_config(arguments), arguments.shard):
        print(told)
    return 0


def _ask(arguments: argparse.Namespace) -> int:
    registry = Registry(Registry.locate(arguments.config))
    shard = _houses(arguments)[arguments.name].shard
    store = roster.store_of(registry, shard)
    if store is None:
        raise StartError(f"no store of shard {shard} stands in {registry.path}")
    try:
        given = json.loads(arguments.arguments)
    except ValueError as error:
        raise StartError(f"what is asked is no JSON: {error}") from None
    asked = {"house": arguments.name, "instance": arguments.instance, "verb": arguments.request, "arguments": given}
    who = os.environ.get("SUDO_USER") or getpass.getuser()
    with Client(registry) as client:
        print(client.shown(client.ask(store, "ask", asked | {"by": who})))
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    authority, houses = _authority(arguments), _houses(arguments)
    houses[arguments.name] = roster.RosterHouse(shard=houses[arguments.name].shard, revoked=True)
    roster.write(_below(arguments, ROSTER), roster.Roster(houses))
    Invitations(authority.folder / "tokens.json").withdraw(arguments.name)
    count = authority.revoke(arguments.name)
    _publish(arguments, authority)
    print(f"{arguments.name} is revoked ({count} certificates)")
    if arguments.root == Path("/"):
        _have_broker(arguments, "reload")
        bridges.end_session(Registry(Registry.locate(arguments.config)), arguments.name)
        print("its connection is ended; what it sent is kept")
    return 0


def _join(arguments: argparse.Namespace) -> int:
    folder = _below(arguments, joining.FOLDER)
    config = _config(arguments)
    registry = Registry(config)
    given = joining.enrol(arguments.url, arguments.token, folder)
    if os.geteuid() == 0:
        try:
            shutil.chown(folder / f"{given.name}.key", user=GROUP)
        except LookupError:
            print("the house's broker is not on this machine: the bridge belongs there")
    record = registry.record or "archive"
    text = bridges.bridge(given.name, given.address, given.port, folder, root=registry.root, record=record)
    write(_below(arguments, bridges.DROP_IN), text)
    print(f"this house is {given.name} now; its key is {folder / given.name}.key and never leaves it")
    if registry.record is None or registry.instances[record].raw.get("centre") != "central":
        print(
            f"let its archive answer the centre, by one line in {config}:\n  subscribers:\n    {record}: {{centre: central}}"
        )
    print("then: sudo constellation units --install && sudo systemctl restart constellation-broker")
    return 0


def _renew(arguments: argparse.Namespace) -> int:
    folder = _below(arguments, joining.FOLDER)
    if _below(arguments, CENTRE).exists() and (arguments.now or _list_is_old(folder / "crl.pem")):
        authority = _authority(arguments)
        authority.renew_list()
        _publish(arguments, authority)
        print("the list of revocations is renewed")
        _have_broker(arguments, "reload")
    if (name := joining.renew(folder, now=arguments.now)) is not None:
        print(f"the certificate of {name} is renewed")
        _have_broker(arguments, "try-restart")  # a bridge reads its certificate once
    return 0


def _list_is_old(published: Path) -> bool:
    """Whether the list that the broker reads is a week old: one that was made and never got there is, too."""
    return not published.exists() or lasts(published, revocations=True) < LIST_DAYS - 7


def _have_broker(arguments: argparse.Namespace, verb: str) -> None:
    if arguments.root == Path("/"):
        subprocess.run(["systemctl", verb, "constellation-broker"], check=False)


def _engine(arguments: argparse.Namespace) -> int:
    return nodes.engine(arguments, print)


def _demo(arguments: argparse.Namespace) -> int:
    from services.simulators.fleet import run

    return run(arguments.folder, arguments.houses, arguments.seconds, arguments.nodes)
