"""Look at everything that a working house stands on, and say what is wrong with the line that mends it.

Overlays in config.txt, user and groups, devices, clock, disk, broker, passwords, units. The exit code is 0 if
nothing is wrong, and 1 if something is.
"""

import argparse
import grp
import os
import pwd
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bootstrap_lib import bridges, broker, broker_database, catalog, clock
from bootstrap_lib.certificates import days_left
from bootstrap_lib.client import Client, operator
from bootstrap_lib.commands.units import CONFIG
from bootstrap_lib.credentials import add_line, given_to, missing_secrets, put_line
from bootstrap_lib.document import DocumentError, StartError, plain, reason
from bootstrap_lib.entries import Instance
from bootstrap_lib.installation import CREDENTIALS, Installation
from bootstrap_lib.location import find_registry, shipped_house
from bootstrap_lib.needs import needs_of
from bootstrap_lib.registry import Registry
from bootstrap_lib.secrets import SecretError
from bootstrap_lib.service import option_type
from bootstrap_lib.unit_files import here, is_enabled, unit, user_of


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `mend` is the line that mends it, or None where all is well."""

    subject: str
    text: str
    mend: str | None = None


CONFIG_TXT: Final = ("/boot/firmware/config.txt", "/boot/config.txt")
FREE_BYTES: Final = 500_000_000
FREE_SHARE: Final = 0.05
NEAR: Final = 30
"""Days before the end of a certificate that should have been renewed long before."""
PATIENCE: Final = 5.0
"""Seconds that the broker has to answer."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `doctor` takes."""
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="look at a folder that stands for /"
    )


def main(arguments: argparse.Namespace) -> int:
    """Look at everything; returns 1 if something is wrong."""
    if not arguments.root.is_dir():
        raise StartError(f"{arguments.root} is no folder: --root names one that stands for /")
    wrong = 0
    for finding in examine(arguments.config, Installation(arguments.root)):
        wrong += finding.mend is not None
        print(f"{'ok   ' if finding.mend is None else 'WRONG'} {finding.subject}: {plain(finding.text, 1000)}")
        if finding.mend is not None:
            print(f"      mend it: {finding.mend}")
    print(f"{wrong} wrong" if wrong else "all is well")
    return 1 if wrong else 0


def examine(config: str | None, system: Installation) -> Iterator[Finding]:
    """Yield what is found, subject by subject."""
    installed = system.path(CONFIG)
    given = config or os.environ.get("CONSTELLATION_CONFIG")
    path = find_registry(given or (str(installed) if installed.exists() else None), say=False)
    try:
        registry = Registry(path)
    except DocumentError as error:
        for problem in error.problems:
            mend = f"edit {problem.file}, line {problem.line}; then: constellation check"
            if not path.exists():
                mend = f"sudo install -D -m 644 {shipped_house()} {path}   (the shipped one, to begin with)"
            elif not os.access(path, os.R_OK):
                mend = "sudo constellation doctor"
            yield Finding("topics.yaml", str(problem), mend)
        return
    yield Finding("topics.yaml", f"{path} is readable, {len(registry.topics)} topics")
    instances = here(registry)
    yield from _user(system, registry, instances)
    for instance in instances:
        yield from _hardware(system, registry, instance)
    yield from _clock(system)
    yield from _disk(system)
    yield from _credentials(system, registry, instances)
    yield from _bridges(system)
    yield from _certificates(system)
    yield from _units(system, registry, instances)
    yield from _broker_database(system, registry)
    yield from _broker(registry)


def _user(system: Installation, registry: Registry, instances: list[Instance]) -> Iterator[Finding]:
    if not system.live:
        return
    for user in ("constellation", *(user_of(registry, instance) for instance in instances)):
        try:
            pwd.getpwnam(user)
        except KeyError:
            yield Finding("user", f"there is no user {user}", "sudo constellation units --install")
            return
    yield Finding("user", f"{len(instances) + 1} are there")
    known = {group.gr_name for group in grp.getgrall()}
    for instance in instances:
        for group in set(needs_of(instance.service).all_groups) - known:
            yield Finding("group", f"{instance.name} needs the group {group}", f"sudo groupadd --system {group}")


def _hardware(system: Installation, registry: Registry, instance: Instance) -> Iterator[Finding]:
    """Look for what the instance's options name, or for what its service needs where they name nothing."""
    needs = needs_of(instance.service)
    options = list(_options(registry, instance))
    named = [
        str(value)
        for value in options
        if str(value).startswith(("/dev/", "/sys/")) or (needs.path and isinstance(value, Path))
    ]
    for path in named or ([needs.path] if needs.path else []):
        if system.path(path).exists():
            yield Finding("device", f"{instance.name} finds {path}")
            continue
        boot = next((file for file in map(system.path, CONFIG_TXT) if file.exists()), None)
        if needs.overlay and boot and not _has_line(boot, needs.overlay):
            line = f"echo {needs.overlay} | sudo tee -a {boot} && sudo reboot"
            yield Finding("overlay", f"{path} is missing and {boot} has no line {needs.overlay}", line)
        elif needs.mend and path == needs.path:
            yield Finding("device", f"{instance.name} needs {path}, which is missing", needs.mend)
        else:
            mend = f"plug it in, look at ls -l {Path(path).parent}, and set it in {registry.path} (constellation scan {instance.service})"
            yield Finding("device", f"{instance.name} needs {path}, which is missing", mend)


def _options(registry: Registry, instance: Instance) -> Iterator[str | Path]:
    """Yield the texts and paths among an instance's options, its service's defaults included where that can be loaded."""
    options: Any = dict(instance.raw)
    try:
        typed = registry.options_of(instance.name, option_type(catalog.find(instance.service)))
        options = {name: getattr(typed, name) for name in typed.__struct_fields__}
    except (catalog.NoService, DocumentError):
        pass  # found by `constellation check`; what its lines name is looked at all the same
    for value in options.values():
        if isinstance(value, (str, Path)):
            yield value


def _has_line(file: Path, wanted: str) -> bool:
    lines = (line.split("#")[0].strip() for line in file.read_text("utf-8", "replace").splitlines())
    return any(line == wanted or line.startswith((f"{wanted},", f"{wanted}-")) for line in lines)


def _clock(system: Installation) -> Iterator[Finding]:
    if not system.live:
        return
    if clock.is_synchronised():
        yield Finding("clock", "synchronised")
    else:
        served = any(map(os.path.exists, ("/usr/lib/systemd/systemd-timesyncd", "/usr/sbin/chronyd", "/usr/sbin/ntpd")))
        line = "sudo timedatectl set-ntp true   (and open UDP port 123 to the internet)"
        line = line if served else "sudo apt install systemd-timesyncd   (and open UDP port 123 to the internet)"
        yield Finding(
            "clock", "not synchronised: readings wait five minutes after boot, then get an estimated time", line
        )


def _disk(system: Installation) -> Iterator[Finding]:
    folder = next(
        place for place in (*map(system.path, ("/var/lib/constellation", "/var/lib")), system.root) if place.exists()
    )
    space = shutil.disk_usage(folder)
    text = f"{space.free / 1e9:.1f} GB of {space.total / 1e9:.1f} GB free below {folder}"
    small = space.free < FREE_BYTES or space.free < FREE_SHARE * space.total
    yield Finding("disk", text, "sudo apt clean && sudo journalctl --vacuum-size=100M" if small else None)
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        yield Finding(
            "disk",
            f"{folder} is read-only: the file system was hurt, or the card wears out",
            "sudo fsck the card in another machine",
        )


def _credentials(system: Installation, registry: Registry, instances: list[Instance]) -> Iterator[Finding]:
    folder = system.path(CREDENTIALS)
    if folder.exists() and not os.access(folder, os.R_OK | os.X_OK):
        yield Finding("credentials", f"{folder} is root's alone, it was not looked into", "sudo constellation doctor")
        return
    right = 0
    for instance in instances:
        for name in missing_secrets(system, registry, instance):
            mend = "sudo constellation units --install"
            mend = mend if name.startswith("mqtt.") else f"{put_line(name)} && {mend}"
            mend = mend if broker.is_here(registry) else f"on {registry.broker.host}: {add_line()}"
            yield Finding("credentials", f"{instance.name} needs {folder / name}, which is missing", mend)
        for file in (folder / name for name in (f"mqtt.{instance.name}", *given_to(system, registry, instance))):
            if not file.exists():
                continue
            if file.stat().st_mode & 0o077:
                yield Finding("credentials", f"{file} can be read by others", f"sudo chmod 600 {file}")
            elif not file.read_text("utf-8").strip():
                yield Finding("credentials", f"{file} is empty", put_line(file.name))
            else:
                right += 1
    yield Finding("credentials", f"{right} in place")


def _waits(system: Installation, registry: Registry, instance: Instance) -> bool:
    """Whether an instance is not enabled because a secret is missing that a person must write; that was said above."""
    return any(not name.startswith("mqtt.") for name in missing_secrets(system, registry, instance))


def _units(system: Installation, registry: Registry, instances: list[Instance]) -> Iterator[Finding]:
    off = [instance for instance in instances if not is_enabled(system, instance.name)]
    missing = [unit(instance.name) for instance in off if not _waits(system, registry, instance)]
    if missing:
        yield Finding(
            "units",
            f"{', '.join(missing)} not enabled, though topics.yaml gives them to this host",
            "sudo constellation units --install",
        )
    else:
        yield Finding("units", f"{len(instances) - len(off)} enabled")


def _bridges(system: Installation) -> Iterator[Finding]:
    """Look at bridges that bring readings to another broker."""
    for fault in bridges.faults(bridges.files(system.root)):
        text = f"{fault.file}, line {fault.line}: connection {fault.connection}: {fault.text}"
        unit = "constellation-broker" if "constellation" in Path(fault.file).parts else "mosquitto"
        yield Finding("bridge", text, f"write there: {fault.mend}; then: sudo systemctl restart {unit}")


def _certificates(system: Installation) -> Iterator[Finding]:
    """Look how long that lasts by which other brokers know this one, and it knows them: past its end nobody comes in."""
    for named, revocations in sorted(set(bridges.certificates(bridges.files(system.root)))):
        file = system.path(named)
        if os.access(file, os.R_OK) and (left := days_left(file, revocations=revocations)) < NEAR:
            mend = "sudo constellation fleet renew" if file.parent.name == "fleet" else f"renew {named}"
            yield Finding("certificate", f"{named} ends in {left} days, and nobody comes in by it then", mend)


def _broker_database(system: Installation, registry: Registry) -> Iterator[Finding]:
    """Look whether the broker of this machine can use its database."""
    if not broker.is_here(registry) or (system.live and os.geteuid() != 0):
        return  # it is the broker's alone; `sudo constellation doctor` looks at it
    path = system.path(broker_database.DATABASE)
    if not os.path.lexists(path):
        return
    if why := broker_database.trouble(path):
        yield Finding("broker", f"its database {path} is of no use: {why}", "sudo constellation broker --start")
    else:
        yield Finding("broker", f"its database {path} can be used")


def _broker(registry: Registry) -> Iterator[Finding]:
    """Log in to the broker as the operator, as the command line does."""
    host, port = registry.broker.host, registry.broker.port or (broker.PORT if registry.broker.ca else 1883)
    try:
        socket.create_connection((host, port), PATIENCE).close()
    except OSError as error:
        mend = "sudo constellation units --install && sudo systemctl restart constellation-broker"
        mend = mend if broker.is_here(registry) else f"on {host}: {mend}"
        yield Finding("broker", f"no connection to the broker at {host}:{port}: {reason(error)}", mend)
        return
    try:
        with Client(registry):
            yield Finding("broker", f"{host}:{port} takes the {operator(registry)}")
    except SecretError as error:
        yield Finding("broker", str(error), "sudo constellation units --install; and run this as root")
    except StartError as error:
        mend = "sudo constellation units --install; sudo systemctl status constellation-broker"
        mend = mend if broker.is_here(registry) else f"on {host}: {add_line()}"
        yield Finding("broker", str(error).removesuffix(Client.ADVICE), mend)
