"""The house's own broker as a unit beside whatever mosquitto the machine runs already.

What is there is read and left as it is. A new configuration is tried on a port of its own before the running broker is told of it,
and taken back if the broker does not start with it.
"""

import os
import pwd
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bootstrap_lib import broker
from bootstrap_lib.certificates import FOLDER, GROUP
from bootstrap_lib.installation import Installation, InstallError
from bootstrap_lib.registry import Registry

UNIT: Final = "constellation-broker.service"
OTHERS: Final = Path("/etc/mosquitto/mosquitto.conf")
"""Configuration of the machine's own mosquitto, which is not ours."""
FORMER: Final = Path("/etc/mosquitto/conf.d/constellation.conf")
"""What versions before 0.2 added to it; it closed the port that others use."""
PATIENCE: Final = 20.0
"""Seconds that a broker may take to answer."""


class TakenPort(NamedTuple):
    """A port that the machine's own mosquitto listens on, and where that is said."""

    port: int
    place: str


class Neighbour(NamedTuple):
    """A mosquitto that is here already, as its configuration says; its clients keep what they have."""

    ports: list[TakenPort]
    words: list[str]
    """What else its clients may rely on: anonymous clients, password files, settings for each listener."""

    def __str__(self) -> str:
        """One sentence for whoever installs."""
        ports = ", ".join(f"{taken.port} ({taken.place})" for taken in self.ports)
        return "; ".join((f"port {ports}" if ports else "no port", *self.words))


def neighbour(installation: Installation) -> Neighbour | None:
    """Read the configuration of the machine's own mosquitto, if there is one."""
    if not installation.path(OTHERS).exists():
        return None
    found = Neighbour([], [])
    for place, key, value in _settings(installation, OTHERS):
        if key in ("listener", "port") and value.split()[0].isdigit():
            found.ports.append(TakenPort(int(value.split()[0]), place))
        elif (key, value) in (("allow_anonymous", "true"), ("per_listener_settings", "true")):
            found.words.append(f"{key} ({place})")
        elif key in ("password_file", "acl_file", "plugin", "auth_plugin", "bridge_address", "connection"):
            found.words.append(f"{key} {value} ({place})")
    if not found.ports:
        found.ports.append(TakenPort(1883, "its own, for this machine alone"))
    return found


def _settings(installation: Installation, path: Path) -> Iterator[tuple[str, str, str]]:
    """Place, name and value of each setting, included files in their order; ours of before are not its own."""
    try:
        lines = installation.path(path).read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        key, _, value = line.strip().partition(" ")
        if not value.strip() or key.startswith("#"):
            continue
        if key == "include_dir":
            for file in installation.files(f"{value.strip()}/*.conf"):
                if file not in (FORMER, path):
                    yield from _settings(installation, file)
        else:
            yield f"{path}:{number}", key, value.strip()


def look(installation: Installation, registry: Registry) -> None:
    """Say what is here and stays; InstallError where it has the port that the house's broker is to have."""
    port, found = broker.port_of(registry), neighbour(installation)
    for taken in found.ports if found else ():
        if taken.port == port:
            raise InstallError(
                f"port {port} is the machine's own mosquitto's ({taken.place}): give the house's broker another one in"
                f" {registry.path}, for example broker: {{port: {port + 1 if port == broker.PORT else broker.PORT}, …}}"
            )
    if found and not installation.path(broker.CONFIG).exists():
        installation.say(
            f"left mosquitto.service and its clients as they are: {found}; the house's broker has port {port}"
        )
    if installation.live and not _is_active() and _answers(port):
        raise InstallError(f"port {port} is another program's (ss -ltnp): end it, or give broker: another port")


def install(installation: Installation, registry: Registry, *, manager: bool) -> None:
    """Write the broker's files and try them; InstallError with its reason, all as before, where it would not start."""
    broker.install(installation, registry)
    if not manager or installation.dry_run or not _changed(installation):
        return
    if trouble := _try(installation):
        installation.take_back(FOLDER)
        raise InstallError(f"the broker does not start with what was to be installed, so all is as before: {trouble}")


def activate(installation: Installation) -> None:
    """Have the running broker take over what was installed; what was before comes back if it does not start."""
    former = installation.path(FORMER)
    if former.exists():
        installation.remove(FORMER, f"removed {former}: the machine's own mosquitto is as Debian ships it again")
        installation.run("systemctl", "try-restart", "mosquitto.service")
    if not _changed(installation) or not _is_active():
        return
    try:
        installation.run("systemctl", "restart" if broker.CONFIG in installation.changed else "reload", UNIT)
    except InstallError as error:
        installation.take_back(FOLDER)
        installation.run("systemctl", "restart", UNIT)
        raise InstallError(
            f"the broker did not start again, so its files are as before, and it runs: {error}"
        ) from None


def _changed(installation: Installation) -> bool:
    return any(path.is_relative_to(FOLDER) for path in installation.changed)


def _is_active() -> bool:
    return subprocess.run(["systemctl", "is-active", "--quiet", UNIT], check=False).returncode == 0


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _try(installation: Installation) -> str | None:
    """Start a broker with the new files, as its own user, on a port that nobody uses; why it ended, or None."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = installation.path(broker.CONFIG).read_text("utf-8")
    text = re.sub(r"(?m)^listener .*$", f"listener {port} 127.0.0.1", text)
    text = re.sub(r"(?m)^(include_dir|persistence_location) .*$", "", text).replace("persistence true", "")
    with tempfile.TemporaryDirectory(prefix="constellation-") as folder:
        os.chown(folder, pwd.getpwnam(GROUP).pw_uid, -1)
        config = Path(folder, "mosquitto.conf")
        config.write_text(text, "utf-8")
        config.chmod(0o644)
        trial = subprocess.Popen(
            ["/usr/sbin/mosquitto", "-c", config],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            user=GROUP,
            group=GROUP,
            extra_groups=[],
        )
        try:
            deadline = time.monotonic() + PATIENCE
            while trial.poll() is None and not _answers(port) and time.monotonic() < deadline:
                time.sleep(0.02)
            ended = trial.poll() is not None
        finally:
            trial.kill()
            said = trial.communicate()[1].decode("utf-8", "replace")
    errors = [line for line in said.splitlines() if line.startswith(("Error", "Warning"))] or said.splitlines()
    return " ".join(errors)[-500:] or "it ended without a word" if ended else None
