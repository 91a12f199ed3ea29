"""Takes away what `units --install` brought, and says what stays: what was measured, and what was written by hand."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bootstrap_lib import broker
from bootstrap_lib.broker_unit import FORMER
from bootstrap_lib.certificates import FOLDER
from bootstrap_lib.installation import Installation
from bootstrap_lib.unit_files import ENABLED, FENCE, UNITS

SYSUSERS: Final = Path("/usr/local/lib/sysusers.d/constellation.conf")
TMPFILES: Final = Path("/usr/local/lib/tmpfiles.d/constellation.conf")
UDEV: Final = Path("/etc/udev/rules.d/60-constellation.rules")

_BROUGHT: Final = (
    f"{ENABLED}/constellation*",
    "/etc/systemd/system/multi-user.target.wants/constellation.target",
    "/etc/systemd/system/multi-user.target.wants/constellation-enrolment.service",
    "/etc/systemd/system/timers.target.wants/constellation-backup.timer",
    f"{UNITS}/*.service.d/{FENCE}",
    f"{UNITS}/constellation*.d/*.conf",
    f"{UNITS}/constellation*",
    f"{SYSUSERS}",
    f"{TMPFILES}",
    f"{UDEV}",
    f"{FOLDER}/mosquitto.conf",
    f"{FOLDER}/acl",
    f"{FOLDER}/server.*",
    f"{broker.OPERATOR}/mosquitto_*",
)
_STAYS: Final = {
    "/etc/constellation": "topics.yaml, passwords, keys and the house's authority",
    "/var/lib/constellation": "what was measured",
    "/var/lib/constellation-broker": "what the broker kept",
    f"{FOLDER}/passwords": "hashes of the broker's passwords, also of users that you added",
    str(broker.LOCAL_RIGHTS): "rights that you wrote",
    f"{broker.ADDED}/*.conf": "settings of the broker that you wrote",
    "/etc/systemd/system/constellation*.d": "what `systemctl edit` wrote",
}


def manager_runs() -> bool:
    """Whether systemd manages this machine (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None


def remove(installation: Installation) -> None:
    """Stop all, the broker last, and remove each file that was installed; what is not there is no fault."""
    manager = installation.live and manager_runs()
    paths = list(_found(installation))
    if manager and installation.path(UNITS / "constellation.target").exists():
        installation.run("systemctl", "stop", "constellation.target", "constellation@*.service")
        installation.run("systemctl", "stop", "constellation-*.service", "constellation-*.timer")
    for path in paths:
        installation.remove(path, f"removed {installation.path(path)}")
    for folder in (ENABLED, broker.OPERATOR, broker.ADDED, FOLDER):
        if (
            not installation.dry_run
            and installation.path(folder).is_dir()
            and not any(installation.path(folder).iterdir())
        ):
            installation.path(folder).rmdir()
    if manager and paths:
        installation.run("systemctl", "daemon-reload")
        for path in paths:
            if path.name == FENCE:
                installation.run("systemctl", "try-restart", path.parent.name.removesuffix(".d"))
        if FORMER in paths:
            installation.run("systemctl", "try-restart", "mosquitto.service")
    if not paths:
        installation.say("nothing of Constellation's units is installed here")
    for pattern, what in _STAYS.items():
        for path in installation.files(pattern):
            installation.say(f"left {installation.path(path)}: {what}")
    installation.say(
        "left the users constellation and constellation-*: files of theirs would belong to whoever gets their numbers next"
    )


def _found(installation: Installation) -> Iterator[Path]:
    seen = set[Path]()
    for pattern in (*_BROUGHT, str(FORMER)):
        for path in installation.files(pattern):
            if path not in seen and not (installation.path(path).is_dir() and not installation.path(path).is_symlink()):
                seen.add(path)
                yield path
