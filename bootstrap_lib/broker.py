"""What the broker needs to know of the house: certificates, passwords and rights, all derived from topics.yaml.

The house and the demo use the same files (systemd/mosquitto/), below different roots and on different ports.
"""

import base64
import hashlib
import hmac
import os
import re
import secrets
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from bootstrap_lib import certificates, machine
from bootstrap_lib.certificates import CA, FOLDER, GROUP
from bootstrap_lib.entries import Broker
from bootstrap_lib.installation import CREDENTIALS, Installation, InstallError, shipped
from bootstrap_lib.machine import LOOPBACK
from bootstrap_lib.needs import needs_of
from bootstrap_lib.registry import Registry

CONFIG: Final = FOLDER / "mosquitto.conf"
ADDED: Final = FOLDER / "conf.d"
"""What the user adds to the broker's configuration: bridges, further listeners."""
OPERATOR: Final = Path("/etc/constellation/operator")
"""XDG_CONFIG_HOME for mosquitto_sub and mosquitto_pub as the operator."""
LOCAL_RIGHTS: Final = FOLDER / "acl.local"
"""Rights that the user adds by hand; taken over into `acl`."""
PORT: Final = 8883
SETTINGS: Final = {"ca": str(CA), "password": "secret:mqtt.{instance}"}
"""What `broker:` in topics.yaml says in a house that was installed."""

OWN: Final = (
    "readwrite {root}/service/%u/+",
    "readwrite {root}/service/%u/+/+",
    "read {root}/service/+/stored/%u",
    "read {root}/service/+/replay/%u",
)
"""Rights of every user to what bears its name; %u is that name. Requests to another are not among them."""

INSTANCE: Final = ("read {root}/service/all/request/#", "read {root}/service/+/status", "read {root}/service/+/health")
SECTIONS: Final = {"sources": (*INSTANCE, "write {root}/data/+/+/+"), "subscribers": (*INSTANCE, "read {root}/data/#")}
"""Rights of an instance that follow from standing below `sources:` or `subscribers:`; what its service needs beyond, it says itself."""

PEOPLE: Final = {
    "operator": (
        "readwrite {root}/data/#",
        "readwrite {root}/alert/#",
        "readwrite {root}/notify/#",
        "readwrite {root}/service/+/status",
        "readwrite {root}/service/+/health",
        "readwrite {root}/service/+/stored/+",
        "read {root}/service/+/log",
        "read {root}/service/+/response/#",
        "write {root}/service/+/request/#",
        "readwrite homeassistant/#",
        "read $SYS/#",
    ),
    "phone": (
        "read {root}/data/#",
        "read {root}/alert/#",
        "read {root}/service/+/status",
        "read {root}/service/+/health",
        "write {root}/service/+/request/acknowledge",
        "write {root}/service/+/request/snooze",
        "read {root}/service/+/response/acknowledge",
        "read {root}/service/+/response/snooze",
    ),
    "homeassistant": (
        "read {root}/data/#",
        "read {root}/alert/#",
        "read {root}/service/+/status",
        "read homeassistant/#",
        "write homeassistant/status",
    ),
    "failure": ("write {root}/notify/#",),
}
"""Users that are no instance: the command line, a phone's app, Home Assistant, and what OnFailure= starts."""

VISITOR: Final = (
    "read {root}/data/#",
    "read {root}/alert/#",
    "read {root}/service/+/status",
    "read {root}/service/+/health",
)
"""Rights of the command line on a machine that is not the broker's; beyond them it may ask the instances there."""


def visitor(host: str) -> str:
    """User that the command line of another machine is."""
    return f"operator_{machine.word(host)}"


@dataclass(frozen=True, slots=True)
class PreparedBroker:
    """A broker that `prepare_broker` made ready; all paths are real ones."""

    config: Path
    """For `mosquitto -c`."""
    settings: dict[str, Any]
    """The section `broker:` of a topics.yaml that uses it."""
    credentials: Path
    """For $CONSTELLATION_CREDENTIALS of each process."""
    operator: Path
    """For $XDG_CONFIG_HOME of mosquitto_sub."""
    log: Path

    def subscribe_line(self, pattern: str = "home/#") -> str:
        """Return a line that shows what the broker carries, to be pasted into a shell."""
        return f"XDG_CONFIG_HOME={shlex.quote(str(self.operator))} mosquitto_sub -v -t {shlex.quote(pattern)}"


def _people(registry: Registry) -> dict[str, tuple[str, ...]]:
    """Rights of all users that are no instance: those whom every house has, and those whom an instance speaks with."""
    found = dict(PEOPLE)
    for instance in registry.instances.values():
        needs = needs_of(instance.service)
        if needs.partner and (not needs.partner_when or instance.raw.get(needs.partner_when)):
            found[needs.partner] = (*found.get(needs.partner, ()), *needs.partner_rights)
        if instance.host is not None and not machine.is_same(instance.host, registry.broker.host):
            service = f"{{root}}/service/{instance.name}"
            asks = (f"write {service}/request/+", f"read {service}/response/+")
            found[visitor(instance.host)] = found.get(visitor(instance.host), VISITOR) + asks
    return found


def users(registry: Registry) -> Iterator[str]:
    """Names of all users of the broker: the instances of every host, and the people; InstallError if one is both."""
    people = _people(registry)
    if clash := ", ".join(people.keys() & registry.instances.keys()):
        raise InstallError(
            f"{registry.path}: no instance may be called {clash}: the broker has a user of that name already"
        )
    yield from (*registry.instances, *people)


def rights(registry: Registry, local: str = "") -> str:
    """Return the broker's access control list (mosquitto.conf(5), acl_file); `local` is added as it is."""
    lines = ["# Written by `constellation units --install` from topics.yaml; your own rights go into acl.local.", ""]
    lines += [f"pattern {right.format(root=registry.root)}" for right in OWN]
    people = _people(registry)
    for name in users(registry):
        if instance := registry.instances.get(name):
            granted = SECTIONS[instance.section] + needs_of(instance.service).all_rights
        else:
            granted = people[name]
        if name != "operator":
            granted = tuple(one for right in granted for one in _to_those_there(right, registry.instances))
        lines += ["", f"user {name}", *(f"topic {right.format(root=registry.root)}" for right in granted)]
    return "\n".join(lines) + "\n" + (f"\n# acl.local\n{local}" if local else "")


def _to_those_there(right: str, instances: Iterable[str]) -> Iterator[str]:
    """A right to write to every service, as rights to those that exist: what is kept on others nobody would ever take away.

    Services of the houses of a fleet (`+/…`) stand in no topics.yaml of ours.
    """
    if right.startswith("read ") or "/service/+/" not in right or " +/" in right:
        yield right
    else:
        yield from (right.replace("/service/+/", f"/service/{name}/") for name in instances)


def hashed(password: str, salt: bytes | None = None) -> str:
    """Return a password as mosquitto keeps it: `$7$`, PBKDF2 with SHA-512, as mosquitto_passwd(1) writes it."""
    salt = salt or secrets.token_bytes(12)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101, 64)
    return f"$7$101${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def _matches(password: str, kept: str) -> bool:
    try:
        salt = base64.b64decode(kept.split("$")[3])
    except (IndexError, ValueError):
        return False
    return bool(salt) and hmac.compare_digest(hashed(password, salt), kept)


def is_here(registry: Registry) -> bool:
    """Whether this machine runs the broker of the registry."""
    return machine.is_this(registry.broker.host)


def install(installation: Installation, registry: Registry, *, port: int | None = None, log: str = "stderr") -> None:
    """Write everything that mosquitto needs; what exists and is right stays as it is. `log` is its log_dest."""
    certificates.make(installation, registry.broker.host)
    _credentials(installation, registry)
    local = installation.path(LOCAL_RIGHTS)
    text = rights(registry, local.read_text("utf-8") if local.exists() else "")
    installation.write(FOLDER / "acl", text, mode=0o640, group=GROUP)
    address = " 127.0.0.1" if registry.broker.host in LOOPBACK else ""
    port = port or port_of(registry)
    settings = shipped("mosquitto/constellation.conf").replace("listener 8883 127.0.0.1", f"listener {port}{address}")
    installation.folder(ADDED)
    settings = _relocated(settings, installation).replace("log_dest stderr", f"log_dest {log}")
    if not installation.live and os.geteuid() == 0:
        settings += "\n# In a folder of root's own, where no other user could go.\nuser root\n"
    installation.write(CONFIG, settings)
    _operator(installation, registry, port)


def port_of(registry: Registry) -> int:
    """Port of the house's own broker."""
    return registry.broker.port or PORT


def prepare_broker(folder: Path, registry: Registry, port: int) -> PreparedBroker:
    """Make a broker of its own ready in a folder: the shipped configuration, on a port of loopback, with a log of its own."""
    installation = Installation(folder, quiet=True)
    log = folder / "var" / "log" / "mosquitto.log"
    for place in (folder / "var/lib/constellation-broker", log.parent):
        place.mkdir(parents=True, exist_ok=True)
    install(installation, registry, port=port, log=f"file {log}")
    return PreparedBroker(
        config=installation.path(CONFIG),
        settings=msgspec.to_builtins(
            Broker(host="localhost", port=port, ca=installation.path(CA), password=SETTINGS["password"]),
            enc_hook=str,
        ),
        credentials=installation.path(CREDENTIALS),
        operator=installation.path(OPERATOR),
        log=log,
    )


def _relocated(settings: str, installation: Installation) -> str:
    """Move the paths of a broker's configuration below another root."""
    if installation.live:
        return settings
    return re.sub(r"(?m)^(\w+) (/(?:etc|var)/)", rf"\1 {installation.root}\2", settings)


def _credentials(installation: Installation, registry: Registry) -> None:
    """Give every user a password of its own, and the broker their hashes; what exists is never overwritten."""
    passwords = installation.path(FOLDER / "passwords")
    lines = passwords.read_text("utf-8").splitlines() if passwords.exists() else []
    kept = dict(line.split(":", 1) for line in lines if ":" in line)
    ours = {path.name.removeprefix("mqtt.") for path in installation.files(f"{CREDENTIALS}/mqtt.*")}
    wanted = list(users(registry))
    for name in ours.difference(wanted):
        if kept.pop(name, None):
            installation.say(f"taken the broker's password from '{name}', which topics.yaml no longer has")
    for name in wanted:
        path = CREDENTIALS / f"mqtt.{name}"
        file = installation.path(path)
        if file.exists():
            password = file.read_text("utf-8").strip()
        else:
            password = secrets.token_urlsafe(24)
            installation.write(path, password + "\n", mode=0o600)
        if not _matches(password, kept.get(name, "")):
            kept[name] = hashed(password)
    text = "".join(f"{name}:{value}\n" for name, value in kept.items())
    installation.write(FOLDER / "passwords", text, mode=0o640, group=GROUP)


def _operator(installation: Installation, registry: Registry, port: int) -> None:
    """Write option files with which mosquitto_sub and mosquitto_pub are the operator, no password on their command line."""
    file = installation.path(CREDENTIALS / "mqtt.operator")
    if not file.exists():  # only a dry run comes here before it was made
        return
    host = "localhost" if registry.broker.host in LOOPBACK else registry.broker.host
    options = (
        f"-h {host}\n-p {port}\n--cafile {installation.path(CA)}\n-u operator\n-P {file.read_text().strip()}\n-V 5\n"
    )
    for program in ("mosquitto_sub", "mosquitto_pub"):
        installation.write(OPERATOR / program, options, mode=0o600)
