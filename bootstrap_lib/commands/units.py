"""List the instances of this host with their units, install what topics.yaml asks of this host, or remove it.

`--install` writes the units, their users, the folders, a broker of the house's own and each instance's password, and
enables exactly the instances that topics.yaml gives to this host. It says each thing that it does; doing it again
changes nothing. After a change of topics.yaml that adds or removes an instance, do it again. A mosquitto that the machine
runs already keeps its configuration, ports and clients. `--remove` undoes all of it, and says what stays.
"""

import argparse
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bootstrap_lib import broker, broker_unit, certificates, machine_file, state
from bootstrap_lib.credentials import add_line, denied, missing_secrets, put_line
from bootstrap_lib.installation import (
    CREDENTIALS,
    Installation,
    InstallError,
    refuse_closed_home,
    shipped,
    systemd_version,
)
from bootstrap_lib.location import INSTALLED, find_registry
from bootstrap_lib.needs import needs_of
from bootstrap_lib.registry import Registry
from bootstrap_lib.removal import SYSUSERS, TMPFILES, UDEV, manager_runs, remove
from bootstrap_lib.unit_files import (
    ENABLED,
    FENCE,
    UNITS,
    enabled,
    here,
    in_homes,
    is_enabled,
    sysusers,
    unit,
    unit_files,
    user_of,
)

CONFIG: Final = INSTALLED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `units` takes."""
    parser.add_argument("--install", action="store_true", help="install and enable what topics.yaml asks of this host")
    parser.add_argument("--remove", action="store_true", help="stop and take away all that --install brought")
    parser.add_argument(
        "--dry-run", action="store_true", help="with --install or --remove: say what would be done, do nothing"
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="install below a folder that stands for /"
    )


def main(arguments: argparse.Namespace) -> int:
    """List or install; returns the exit code."""
    installation = Installation(arguments.root, dry_run=arguments.dry_run)
    if arguments.remove:
        if arguments.install:
            raise InstallError("--install and --remove: one of them")
        return _refused(lambda: remove(installation))
    below = installation.path(CONFIG)
    registry = Registry(
        find_registry(arguments.config or (None if installation.live or not below.exists() else str(below)))
    )
    if not arguments.install:
        return _list(installation, registry)
    return _refused(lambda: _install(installation, registry))


def _refused(work: Callable[[], None]) -> int:
    """Do it; a sentence and its exit code where that cannot be."""
    try:
        work()
    except InstallError as error:
        print(f"constellation units: {error}", file=sys.stderr)
        return os.EX_UNAVAILABLE
    except PermissionError as error:
        print(
            f"constellation units: {error.filename} is not yours to see: run this as root, with sudo", file=sys.stderr
        )
        return os.EX_NOPERM
    return 0


# -- the list ---------------------------------------------------------------------------------------------------------


def _list(installation: Installation, registry: Registry) -> int:
    instances = here(registry)
    states = _states([unit(instance.name) for instance in instances]) if installation.live and manager_runs() else {}
    rows = [("INSTANCE", "SERVICE", "UNIT", "STATE")]
    for instance in instances:
        enabled = "enabled" if is_enabled(installation, instance.name) else "not enabled"
        rows.append((instance.name, instance.service, enabled, states.get(unit(instance.name), "unknown")))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip())
    for other in (instance for instance in registry.instances.values() if not instance.here):
        print(f"{other.name} runs on {other.host}")
    return 0


def _states(units: list[str]) -> dict[str, str]:
    command = ["systemctl", "show", "--property=Id,ActiveState,SubState,StatusText", *units]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    states = {}
    for block in said.split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "Id" in fields:
            text = f": {fields['StatusText']}" if fields["StatusText"] else ""
            states[fields["Id"]] = f"{fields['ActiveState']} ({fields['SubState']}){text}"
    return states


# -- the installation -------------------------------------------------------------------------------------------------


def _install(installation: Installation, registry: Registry) -> None:
    refuse_closed_home(in_homes(), systemd_version())
    manager = installation.live and manager_runs()
    if broker.is_here(registry):
        if manager and shutil.which("mosquitto", path="/usr/sbin:/usr/bin") is None:
            raise InstallError("mosquitto is not installed: apt install mosquitto, and run this again")
        broker_unit.look(installation, registry)
    _system(installation, registry)
    _topics(installation, registry)
    _disable(installation, registry, manager=manager)
    _broker(installation, registry, manager=manager)
    _units(installation, registry)
    waiting = {one.name: missing_secrets(installation, registry, one) for one in here(registry)}
    for link, destination in enabled(registry).items():
        if installation.dry_run or not waiting.get(link.name.partition("@")[2].removesuffix(".service")):
            installation.link(link, destination)
    if manager and any(
        path.is_relative_to(UNITS) or path.is_relative_to("/etc/systemd") for path in installation.changed
    ):
        installation.run("systemctl", "daemon-reload")
        for path in installation.changed:
            if path.name == FENCE:
                installation.run("systemctl", "try-restart", path.parent.name.removesuffix(".d"))
    if manager and broker.is_here(registry):
        broker_unit.activate(installation)
    for name, secret in ((name, secret) for name, secrets in waiting.items() for secret in secrets):
        if not installation.dry_run:
            put = put_line(secret) if broker.is_here(registry) else f"on {registry.broker.host}: {add_line()}"
            print(
                f"missing: {name} needs {CREDENTIALS / secret}: {put}; then sudo constellation units --install, which enables it"
            )
    for one in here(registry):
        for secret in denied(registry, one):
            print(
                f"not handed over: {one.name} names {secret}, another's key to the house: give its secret another name"
            )
    if not installation.changed:
        print("everything is installed as topics.yaml asks; nothing changed")
    elif manager:
        print("start it: sudo systemctl start constellation.target")
    elif installation.live:
        print("no systemd runs here: start each instance with `constellation run INSTANCE --daemon`")


def _system(installation: Installation, registry: Registry) -> None:
    installation.write(SYSUSERS, sysusers(registry))
    installation.write(TMPFILES, shipped("tmpfiles.d/constellation.conf"))
    installation.write(UDEV, shipped("udev/60-constellation.rules"))
    if not installation.live:
        return
    if shutil.which("systemd-sysusers") is None:
        print("no systemd is installed here: adduser --system --group --home /var/lib/constellation constellation")
        return
    if SYSUSERS in installation.changed:
        installation.run("systemd-sysusers", str(SYSUSERS))
    if {SYSUSERS, TMPFILES} & installation.changed:
        installation.run("systemd-tmpfiles", "--create", str(TMPFILES))
    if UDEV in installation.changed and Path("/run/udev/control").exists():
        installation.run("udevadm", "control", "--reload")


def _topics(installation: Installation, registry: Registry) -> None:
    text = registry.path.read_text("utf-8")
    installed = installation.path(CONFIG)
    if not installed.exists():
        installation.write(CONFIG, text)
    elif installed.read_text("utf-8") != text:
        raise InstallError(
            f"the units use {installed}, which says something else than {registry.path}: copy it there, or leave --config out"
        )
    _machine_file(installation, registry)
    if missing := " and no ".join(key for key in broker.SETTINGS if getattr(registry.broker, key) is None):
        settings = ", ".join(f'{name}: "{value}"' for name, value in broker.SETTINGS.items())
        print(f"{registry.path}: `broker:` has no {missing}, the broker asks for both: write broker: {{{settings}}}")


def _machine_file(installation: Installation, registry: Registry) -> None:
    """Give the machine's own file to the user whose instance writes it; before, all instances had one user."""
    file = installation.path(CONFIG.with_name(machine_file.NAME))
    writers = [user_of(registry, instance) for instance in here(registry) if needs_of(instance.service).machine]
    if installation.dry_run or not installation.live or not writers or not file.is_file() or file.is_symlink():
        return
    try:
        user = pwd.getpwnam(writers[0])
    except KeyError:  # no systemd made it
        return
    with open(file, "rb", opener=state.unfollowed) as opened:
        found = os.fstat(opened.fileno())
        if found.st_uid != user.pw_uid and found.st_nlink == 1:
            os.fchown(opened.fileno(), user.pw_uid, user.pw_gid)
            installation.say(f"gave {file} to {user.pw_name}")


def _broker(installation: Installation, registry: Registry, *, manager: bool) -> None:
    if broker.is_here(registry):
        broker_unit.install(installation, registry, manager=manager)
        return
    host = registry.broker.host
    installation.say(f"left the broker alone: it is on {host}")
    if not installation.path(certificates.CA).exists():
        print(f"missing: on {host}: {add_line()}")


def _units(installation: Installation, registry: Registry) -> None:
    """Write the units with their drop-ins, take away those of instances that are gone."""
    wanted = unit_files(installation, registry)
    for name, text in wanted.items():
        installation.write(UNITS / name, text)
    patterns = (f"*.d/{FENCE}", "constellation*.d/*.conf", "constellation*.service", "constellation*.timer")
    for path in [path for pattern in patterns for path in installation.files(f"{UNITS}/{pattern}")]:
        if str(path.relative_to(UNITS)) not in wanted:
            installation.remove(path, f"removed {installation.path(path)}")


def _disable(installation: Installation, registry: Registry, *, manager: bool) -> None:
    """Disable and stop what is no longer wanted, while the broker still knows it and hears its `offline`."""
    wanted = {path.name for path in enabled(registry)}
    for path in [*installation.files(f"{ENABLED}/constellation*")]:
        if path.name not in wanted:
            installation.remove(path, f"disabled {path.name}: topics.yaml no longer gives it to this host")
            if manager:
                installation.run("systemctl", "stop", path.name)
