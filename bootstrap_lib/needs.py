"""What a service needs of the world around it, said once on its class: rights, units, checks and the demo follow from it.

    class Co2(Source):
        NEEDS = Needs(extra="co2", libraries=("serial",), devices=("serial",))

It is read from the service's file without importing it, so that the broker's rights, the unit and `check` are the same on a
host that lacks the library; therefore its values are literals.
"""

import ast
import functools
import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from bootstrap_lib.document import StartError


class _Device(NamedTuple):
    """What the kernel calls the devices of a kind (DeviceAllow= of systemd.resource-control(5)), and the group that may use them."""

    nodes: tuple[str, ...]
    group: str


DEVICES: Final = {
    "serial": _Device(("char-ttyUSB", "char-ttyACM", "char-ttyAMA", "char-ttyS"), "dialout"),
    "i2c": _Device(("char-i2c",), "i2c"),
    "gpio": _Device(("char-gpiochip",), "gpio"),
    "firmware": _Device(("/dev/vcio",), "video"),
}
"""Kinds of devices that a service may ask for; nothing else below /dev is visible to it."""

HOUSE_NETWORKS: Final = "link-local 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7"
"""Private networks (RFC 1918, RFC 4193)."""

_NETWORKS: Final = {"house": HOUSE_NETWORKS, "internet": "any"}

_FILLS: Final = ("write {root}/service/+/request/replay", "read {root}/service/+/response/replay")
_NOTIFIES: Final = (
    "readwrite {root}/notify/#",
    "write {root}/service/+/request/graph",
    "read {root}/service/+/response/graph",
)


class Needs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One declaration; what is left out is not needed."""

    extra: str | None = None
    """Extra of the package that brings its libraries: pip install 'constellation[adc]'."""
    libraries: tuple[str, ...] = ()
    """Modules that come with it; they are imported when the device is opened."""
    packages: tuple[str, ...] = ()
    """Packages of Debian that pip cannot bring."""

    path: str | None = None
    """What must be there for it to work, where its own options name nothing; `doctor` looks for it."""
    overlay: str | None = None
    """Line of config.txt that makes the path appear on a Raspberry Pi."""
    mend: str | None = None
    """Command that mends a path that is missing."""

    devices: tuple[Literal["serial", "i2c", "gpio", "firmware"], ...] = ()
    """Devices that its unit may use, with their groups."""
    groups: tuple[str, ...] = ()
    """Other groups of its unit."""
    network: Literal["house", "internet"] | None = None
    """Whom it speaks with beside the broker."""
    listens: tuple[str, int] | None = None
    """Its option that names the TCP port it listens on, and the port where that says none; no other service may bind one."""
    closes: tuple[str, str] | None = None
    """A unit of Debian's that listens to the whole network by itself, and the option that says where it is reached: while
    that is this machine, the unit speaks with this machine alone."""
    unit: tuple[str, ...] = ()
    """Further lines of its unit's [Service] section; a comment before one says why."""

    publishes: bool = False
    """A subscriber that publishes on data topics: what it concludes."""
    records: bool = False
    """Its marks confirm what is on disk: sources keep readings until then, and it may ask for them again."""
    fills: bool = False
    """It fills from the record what it may have missed."""
    notifies: bool = False
    """It brings messages to people."""
    rights: tuple[str, ...] = ()
    """Further rights at the broker (mosquitto.conf(5), acl_file), `{root}` for the first word of every topic."""
    partner: str | None = None
    """A further user of the broker: a program of somebody else's that it speaks with."""
    partner_when: str = ""
    """Option of the service without which there is no such program; empty where there always is."""
    partner_rights: tuple[str, ...] = ()
    """Rights of that user, besides those that a user of that name has in every house."""
    keeps: tuple[str, ...] = ()
    """Retained topics below the root that are its own; `prune` asks it which of them still have an owner."""

    machine: tuple[str, ...] = ()
    """Options that it writes by itself, into topics.machine.yaml beside topics.yaml."""

    sections: tuple[str, ...] = ()
    """Sections of topics.yaml that it reads."""
    decodes: dict[str, str] = {}
    """Protocols (modules of services.protocols) that `decode` can say the meaning of, each with a sentence."""
    simulator: str | None = None
    """Function `module:name` by which the demo puts something in place of its hardware or its other side (services.simulators.staging)."""

    @property
    def all_groups(self) -> tuple[str, ...]:
        """Groups of its unit, those of its devices first."""
        return (*(DEVICES[kind].group for kind in self.devices), *self.groups)

    @property
    def all_rights(self) -> tuple[str, ...]:
        """Rights at the broker beyond those that follow from its section."""
        return (
            *(("write {root}/data/+/+/+",) if self.publishes else ()),
            *(("write {root}/service/+/request/resend",) if self.records else ()),
            *(_FILLS if self.fills else ()),
            *(_NOTIFIES if self.notifies else ()),
            *self.rights,
        )

    def drop_in(self, options: Mapping[str, Any] | None = None) -> str | None:
        """Return the drop-in (systemd.unit(5)) of an instance with such options, or None where it needs no more than all have."""
        lines = []
        if self.devices:
            lines += ["PrivateDevices=no", "DevicePolicy=closed"]
            lines += [f"DeviceAllow={node} rw" for kind in self.devices for node in DEVICES[kind].nodes]
        if self.all_groups:
            lines.append(f"SupplementaryGroups={' '.join(self.all_groups)}")
        if self.network:
            lines.append(f"IPAddressAllow={_NETWORKS[self.network]}")
        if self.listens:
            option, port = self.listens
            lines.append(f"SocketBindAllow=tcp:{(options or {}).get(option, port)}")
        lines += self.unit
        return "\n".join(("[Service]", *lines, "")) if lines else None


_DECLARED: Final = re.compile(
    r"^ {4}NEEDS(?:: [^=\n]+)? = (Needs\((?:[^\n]*\)$|\n.*?^ {4}\)$))", re.MULTILINE | re.DOTALL
)


def service_files() -> dict[str, Path]:
    """File of each service there is, by its name; the user's own included."""
    folders = importlib.import_module("services").__path__
    return {file.stem: file for folder in reversed(list(folders)) for file in sorted(Path(folder).glob("[a-z]*.py"))}


def needs_of(service: str) -> Needs:
    """What a service needs; nothing for one that is not there. StartError with its line where the declaration is none."""
    file = service_files().get(service)
    try:
        return _read(file, file.stat().st_mtime_ns) if file else Needs()
    except OSError:
        return Needs()


@functools.lru_cache(maxsize=64)
def _read(file: Path, _changed: int) -> Needs:
    text = file.read_text("utf-8")
    found = _DECLARED.search(text)
    if found is None:
        if re.search(r"^ {4}NEEDS\b", text, re.MULTILINE):
            raise StartError(
                f"{file}: NEEDS is not read: write `    NEEDS = Needs(…)` in the class, with literal values"
            )
        return Needs()
    line = text.count("\n", 0, found.start()) + 1
    try:
        call = ast.parse(found[1], mode="eval").body
        words = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}  # type: ignore[attr-defined]
        return msgspec.convert(words, Needs)
    except (SyntaxError, ValueError) as error:  # ValidationError is one, too
        raise StartError(
            f"{file}:{line}: NEEDS: {error}; its values are literals of the kinds that Needs says"
        ) from None
