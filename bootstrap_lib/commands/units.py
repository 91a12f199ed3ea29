"""List the instances of this host with their units, or install what topics.yaml asks of this host.

`--install` writes the units, the user, the folders, the broker's configuration and each instance's password, and
enables exactly the instances that topics.yaml gives to this host. It says each thing that it does; doing it again
changes nothing. After a change of topics.yaml that adds or removes an instance, do it again.
"""

import argparse
import os
import shutil
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import bootstrap_lib
from bootstrap_lib import broker, certificates
from bootstrap_lib.credentials import given_to, missing_secrets, put_line
from bootstrap_lib.entries import Instance
from bootstrap_lib.installation import (
    CREDENTIALS,
    Installation,
    InstallError,
    refuse_closed_home,
    shipped,
    systemd_version,
)
from bootstrap_lib.location import find_registry
from bootstrap_lib.needs import HOUSE_NETWORKS, needs_of
from bootstrap_lib.registry import Registry

CONFIG: Final = Path("/etc/constellation/topics.yaml")
UNITS: Final = Path("/usr/local/lib/systemd/system")
"""Below /etc, where `systemctl edit` puts what the user changes."""
ENABLED: Final = Path("/etc/systemd/system/constellation.target.wants")
SYSUSERS: Final = Path("/usr/local/lib/sysusers.d/constellation.conf")
TMPFILES: Final = Path("/usr/local/lib/tmpfiles.d/constellation.conf")
UDEV: Final = Path("/etc/udev/rules.d/60-constellation.rules")
HOMES: Final = (Path("/home"), Path("/root"), Path("/run/user"))
"""What ProtectHome= hides."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `units` takes."""
    parser.add_argument("--install", action="store_true", help="install and enable what topics.yaml asks of this host")
    parser.add_argument("--dry-run", action="store_true", help="with --install: say what would be done, do nothing")
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="install below a folder that stands for /"
    )


def main(arguments: argparse.Namespace) -> int:
    """List or install; returns the exit code."""
    installation = Installation(arguments.root, dry_run=arguments.dry_run)
    given = arguments.config or os.environ.get("CONSTELLATION_CONFIG")
    path = Path(given) if given else installation.path(CONFIG)
    registry = Registry(path if given or path.exists() else find_registry())
    if not arguments.install:
        return _list(installation, registry)
    try:
        _install(installation, registry)
    except InstallError as error:
        print(f"constellation units: {error}", file=sys.stderr)
        return os.EX_UNAVAILABLE
    except PermissionError as error:
        print(
            f"constellation units: {error.filename} is not yours to see: run this as root, with sudo", file=sys.stderr
        )
        return os.EX_NOPERM
    return 0


def here(registry: Registry) -> list[Instance]:
    """Return the instances that topics.yaml gives to this host."""
    return [instance for instance in registry.instances.values() if instance.here]


def unit(instance: str) -> str:
    """Return the name of an instance's unit."""
    return f"constellation@{instance}.service"


# -- the list ---------------------------------------------------------------------------------------------------------


def is_enabled(installation: Installation, instance: str) -> bool:
    """Whether the target wants an instance's unit."""
    return installation.path(ENABLED / unit(instance)).is_symlink()


def manager_runs() -> bool:
    """Whether systemd manages this machine (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None


def _list(installation: Installation, registry: Registry) -> int:
    instances = here(registry)
    states = _states([unit(instance.name) for instance in instances]) if installation.live and manager_runs() else {}
    rows = [("INSTANCE", "SERVICE", "UNIT", "STATE")]
    for instance in instances:
        enabled = "enabled" if is_enabled(installation, instance.name) else "not installed"
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
    refuse_closed_home(_in_homes(), systemd_version())
    live = installation.live and manager_runs()
    if live and broker.is_here(registry) and shutil.which("mosquitto") is None:
        raise InstallError("mosquitto is not installed: apt install mosquitto, and run this again")
    _system(installation)
    _topics(installation, registry)
    _disable(installation, registry, live=live)
    _broker(installation, registry)
    _units(installation, registry)
    _enable(installation, registry)
    for instance in here(registry) if not installation.dry_run else ():
        for name in missing_secrets(installation, registry, instance):
            print(f"missing: {instance.name} needs {CREDENTIALS / name}: {put_line(name)}; then do this again")
    if not installation.changed:
        print("everything is installed as topics.yaml asks; nothing changed")
    elif live:
        _tell_systemd(installation)
        print("start it: systemctl start constellation.target")
    elif installation.live:
        print("no systemd runs here: start each instance with `constellation run INSTANCE --daemon`")


def _system(installation: Installation) -> None:
    for path, name in ((SYSUSERS, "sysusers.d/constellation.conf"), (TMPFILES, "tmpfiles.d/constellation.conf")):
        installation.write(path, shipped(name))
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
    if missing := " and no ".join(key for key in broker.SETTINGS if getattr(registry.broker, key) is None):
        settings = ", ".join(f'{name}: "{value}"' for name, value in broker.SETTINGS.items())
        print(f"{registry.path}: `broker:` has no {missing}, the broker asks for both: write broker: {{{settings}}}")


def _broker(installation: Installation, registry: Registry) -> None:
    if not broker.is_here(registry):
        files = f"{certificates.CA} and {CREDENTIALS}/mqtt.* of the instances here"
        installation.say(f"left the broker alone: it is on {registry.broker.host}; copy {files} from there")
        return
    broker.install(installation, registry)
    if not (installation.live and manager_runs()):
        return
    if broker.DROP_IN in installation.changed:
        installation.run("systemctl", "try-restart", "mosquitto.service")
    elif any(path.is_relative_to(certificates.FOLDER) for path in installation.changed):
        installation.run("systemctl", "try-reload-or-restart", "mosquitto.service")


def _units(installation: Installation, registry: Registry) -> None:
    """Write the units with their drop-ins, take away those of instances that are gone."""
    program = _program()
    wanted = {"constellation.target": shipped("constellation.target")}
    for name in ("constellation@.service", "constellation-failure@.service"):
        wanted[name] = shipped(name).replace("/opt/constellation/bin/constellation", str(program))
        if folders := _in_homes():
            wanted[f"{name}.d/home.conf"] = f"[Service]\nBindReadOnlyPaths={' '.join(map(str, folders))}\n"
        if address := _network(registry):
            wanted[f"{name}.d/broker.conf"] = f"[Service]\nIPAddressAllow={address}\n"
    for instance in here(registry):
        if rights := needs_of(instance.service).drop_in():
            wanted[f"{unit(instance.name)}.d/rights.conf"] = rights
        if more := given_to(installation, registry, instance):
            lines = "".join(f"LoadCredential={name}:{CREDENTIALS / name}\n" for name in more)
            wanted[f"{unit(instance.name)}.d/secrets.conf"] = f"[Service]\n{lines}"
    for name, text in wanted.items():
        installation.write(UNITS / name, text)
    for path in [*installation.files(f"{UNITS}/constellation*.d/*.conf")]:
        if str(path.relative_to(UNITS)) not in wanted:
            installation.remove(path, f"removed {installation.path(path)}")


def _program() -> Path:
    program = Path(sys.executable).parent / "constellation"
    if not program.exists():
        raise InstallError(
            f"{program} is not there: install the project into this Python, in its folder: {sys.executable} -m pip install '.[all]'"
        )
    return program


def _in_homes() -> list[Path]:
    """Folders of this very installation that lie where units do not see them."""
    folders = (Path(sys.prefix), Path(sys.base_prefix), Path(bootstrap_lib.__file__).parents[1])
    return [folder for folder in dict.fromkeys(folders) if any(folder.is_relative_to(home) for home in HOMES)]


def _network(registry: Registry) -> str | None:
    """Return what IPAddressAllow= must let through to reach the broker; None where it is on this machine's loopback."""
    if registry.broker.host in broker.LOOPBACK:
        return None
    try:
        return str(ip_address(registry.broker.host))
    except ValueError:
        return f"{HOUSE_NETWORKS} multicast"  # a name that ends in .local is asked for by multicast


def _enable(installation: Installation, registry: Registry) -> None:
    installation.link(
        "/etc/systemd/system/multi-user.target.wants/constellation.target", UNITS / "constellation.target"
    )
    for instance in here(registry):
        installation.link(ENABLED / unit(instance.name), UNITS / "constellation@.service")


def _disable(installation: Installation, registry: Registry, *, live: bool) -> None:
    """Disable and stop what is no longer wanted, while the broker still knows it and hears its `offline`."""
    wanted = {unit(instance.name) for instance in here(registry)}
    for path in [*installation.files(f"{ENABLED}/constellation@*.service")]:
        if path.name not in wanted:
            installation.remove(path, f"disabled {path.name}: topics.yaml no longer gives it to this host")
            if live:
                installation.run("systemctl", "stop", path.name)


def _tell_systemd(installation: Installation) -> None:
    if any(path.is_relative_to(UNITS) or path.is_relative_to("/etc/systemd/system") for path in installation.changed):
        installation.run("systemctl", "daemon-reload")
