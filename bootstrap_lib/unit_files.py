"""What systemd is told of the instances of a host: their users, units and drop-ins, all derived from topics.yaml."""

import hashlib
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import bootstrap_lib
from bootstrap_lib import broker
from bootstrap_lib.broker_unit import UNIT as BROKER
from bootstrap_lib.credentials import given_to
from bootstrap_lib.entries import Instance
from bootstrap_lib.installation import CREDENTIALS, Installation, InstallError, shipped
from bootstrap_lib.machine import LOOPBACK
from bootstrap_lib.needs import HOUSE_NETWORKS, needs_of
from bootstrap_lib.registry import Registry

UNITS: Final = Path("/usr/local/lib/systemd/system")
"""Below /etc, where `systemctl edit` puts what the user changes."""
ENABLED: Final = Path("/etc/systemd/system/constellation.target.wants")
HOMES: Final = (Path("/home"), Path("/root"), Path("/run/user"))
"""What ProtectHome= hides."""

RENEWS: Final = "constellation-certificates"
RENEWAL: Final = f"{RENEWS}.timer"
FLEET: Final = ("constellation-fleet", "constellation-enrolment")
"""What renews certificates of a fleet, and what lets houses in at its centre: neither does anything elsewhere."""
BACKS_UP: Final = "constellation-backup"
SHIPPED_PROGRAM: Final = "/opt/constellation/bin/constellation"

FENCE: Final = "constellation-fence.conf"
"""Drop-in of a unit of Debian's."""

LONGEST: Final = 31
"""Letters of the longest name of a user (useradd(8))."""
MACHINE: Final = "constellation-machine"
"""User of instances that share topics.machine.yaml: in a sticky folder only one user can replace a file."""


def here(registry: Registry) -> list[Instance]:
    """Return the instances that topics.yaml gives to this host."""
    return [instance for instance in registry.instances.values() if instance.here]


def unit(instance: str) -> str:
    """Return the name of an instance's unit."""
    return f"constellation@{instance}.service"


def user_of(registry: Registry, instance: Instance) -> str:
    """User that an instance runs as: nobody else's, so that its state, keys and processes are nobody else's."""
    writers = [one.name for one in here(registry) if needs_of(one.service).machine]
    if instance.name in writers and len(writers) > 1:
        return MACHINE
    name = f"constellation-{instance.name}"
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 7]}-{hashlib.sha256(instance.name.encode()).hexdigest()[:6]}"
    return name


def sysusers(registry: Registry) -> str:
    """Users of this host (sysusers.d(5)): the broker's, where it is here, and one for each instance, all in one group."""
    lines = [shipped("sysusers.d/constellation.conf")]
    for instance in here(registry):
        user, name = user_of(registry, instance), instance.name
        if user != MACHINE:
            lines += [f'u {user} -:constellation "Constellation {name}" /var/lib/constellation/{name}\n']
    return "".join(lines)


def unit_files(installation: Installation, registry: Registry) -> dict[str, str]:
    """Text of each file below UNITS, by its name there."""
    program, homes = _program(), in_homes()
    wanted = {"constellation.target": shipped("constellation.target")}
    for name in ("constellation@.service", "constellation-failure@.service"):
        wanted[name] = shipped(name).replace(SHIPPED_PROGRAM, str(program))
        if homes:
            wanted[f"{name}.d/home.conf"] = f"[Service]\nBindReadOnlyPaths={' '.join(map(str, homes))}\n"
        if address := _network(registry):
            wanted[f"{name}.d/broker.conf"] = f"[Service]\nIPAddressAllow={address}\n"
    for name in (f"{BACKS_UP}.service", f"{BACKS_UP}.timer"):
        wanted[name] = shipped(name).replace(SHIPPED_PROGRAM, str(program))
    if homes:
        wanted[f"{BACKS_UP}.service.d/home.conf"] = f"[Service]\nBindReadOnlyPaths={' '.join(map(str, homes))}\n"
    if broker.is_here(registry):
        for name in (BROKER, RENEWAL, f"{RENEWS}.service", *(f"{one}.service" for one in FLEET)):
            wanted[name] = shipped(name).replace(SHIPPED_PROGRAM, str(program))
        for name in (RENEWS, *FLEET) if homes else ():
            wanted[f"{name}.service.d/home.conf"] = f"[Service]\nBindReadOnlyPaths={' '.join(map(str, homes))}\n"
        if any(installation.files(f"{broker.ADDED}/*.conf")):  # bridges and listeners of the user's own go anywhere
            wanted[f"{BROKER}.d/network.conf"] = "[Service]\nIPAddressAllow=any\n"
        elif registry.broker.host not in LOOPBACK:
            wanted[f"{BROKER}.d/network.conf"] = f"[Service]\nIPAddressAllow={HOUSE_NETWORKS}\n"
    for instance in here(registry):
        folder = f"{unit(instance.name)}.d"
        if rights := needs_of(instance.service).drop_in(instance.raw):
            wanted[f"{folder}/rights.conf"] = rights
        if (closed := needs_of(instance.service).closes) and _is_loopback(instance.raw.get(closed[1])):
            wanted[f"{closed[0]}.d/{FENCE}"] = "[Service]\nIPAddressDeny=any\nIPAddressAllow=localhost\n"
        user = user_of(registry, instance)
        lines = f"User={user}\n" if user != f"constellation-{instance.name}" else ""
        lines += f"SupplementaryGroups={MACHINE}\n" if needs_of(instance.service).machine else ""
        if lines:
            wanted[f"{folder}/user.conf"] = f"[Service]\n{lines}"
        if more := given_to(installation, registry, instance):
            wanted[f"{folder}/secrets.conf"] = "[Service]\n" + "".join(
                f"LoadCredential={name}:{CREDENTIALS / name}\n" for name in more
            )
    return wanted


def _is_loopback(url: object) -> bool:
    """Whether an address in topics.yaml is this machine's own; that is also what a service takes that is told none."""
    return url is None or urlsplit(str(url)).hostname in LOOPBACK


def enabled(registry: Registry) -> dict[Path, Path]:
    """Links that enable what this host runs, each with what it points to."""
    links = {Path("/etc/systemd/system/multi-user.target.wants/constellation.target"): UNITS / "constellation.target"}
    if broker.is_here(registry):
        links |= {ENABLED / name: UNITS / name for name in (BROKER, RENEWAL)}
    for instance in here(registry):
        links[ENABLED / unit(instance.name)] = UNITS / "constellation@.service"
    return links


def is_enabled(installation: Installation, instance: str) -> bool:
    """Whether the target wants an instance's unit."""
    return installation.path(ENABLED / unit(instance)).is_symlink()


def in_homes() -> list[Path]:
    """Folders of this very installation that lie where units do not see them."""
    folders = (Path(sys.prefix), Path(sys.base_prefix), Path(bootstrap_lib.__file__).parents[1])
    return [folder for folder in dict.fromkeys(folders) if any(folder.is_relative_to(home) for home in HOMES)]


def _program() -> Path:
    program = Path(sys.executable).parent / "constellation"
    if not program.exists():
        raise InstallError(
            f"{program} is not there: install the project into this Python, in its folder: {sys.executable} -m pip install '.[all]'"
        )
    return program


def _network(registry: Registry) -> str | None:
    """Return what IPAddressAllow= must let through to reach the broker; None where it is on this machine's loopback."""
    if registry.broker.host in LOOPBACK:
        return None
    try:
        return str(ip_address(registry.broker.host))
    except ValueError:
        return f"{HOUSE_NETWORKS} multicast"  # a name that ends in .local is asked for by multicast
