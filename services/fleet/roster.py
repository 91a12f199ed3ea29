"""Which houses there are, and which shard each belongs to: one file that stores, centres and commands read."""

import re
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from bootstrap_lib import Registry, StartError, reason, state

WORD: Final = r"^[a-z0-9]+(_[a-z0-9]+)*(?!\n)$"
ALL: Final = "all"
"""The shard of a fleet that has one."""

RESERVED: Final = frozenset({"home", "homeassistant", "all", "operator", "phone", "failure", "store", "central"})
"""Names that a broker's rights mean something else by: no house is called so."""


class RosterHouse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file says of one house."""

    shard: Annotated[str, Meta(pattern=WORD, max_length=60)] = ALL
    revoked: bool = False


class Roster(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file; it is written by `constellation fleet house` and `fleet revoke`."""

    houses: dict[Annotated[str, Meta(pattern=WORD, max_length=60)], RosterHouse] = {}

    def of(self, shard: str) -> set[str]:
        """Names of a shard's houses."""
        return {name for name, house in self.houses.items() if house.shard == shard and not house.revoked}


def store_of(registry: Registry, shard: str) -> str | None:
    """The instance that keeps a shard, as topics.yaml says."""
    return next((one.name for one in registry.find("central") if one.raw.get("shard", ALL) == shard), None)


def unkept(config: Path, shard: str) -> str | None:
    """A sentence where no store of this machine keeps a shard: its houses' readings stay with them until one does."""
    if not config.exists() or store_of(Registry(config), shard) is not None:
        return None
    return (
        f"no store of shard {shard} stands in {config}: the centre keeps nothing of it unless another machine has one"
    )


def read(path: Path) -> Roster:
    """Read the file; an empty roster where there is none. StartError where it is no roster."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Roster)
    except FileNotFoundError:
        return Roster()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StartError(f"{path} is no roster of houses: {reason(error)}") from None


def write(path: Path, roster: Roster) -> None:
    """Write the file, whole at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state.write(path, msgspec.json.format(msgspec.json.encode(roster), indent=1) + b"\n", 0o644)


def refuse_name(name: str, taken: frozenset[str]) -> None:
    """StartError for a name that is no house's: of no word, reserved, or an instance's at the centre's broker."""
    if not re.match(WORD, name) or len(name) > 60:  # noqa: PLR2004 (as the roster says)
        raise StartError(f"'{name}' names no house: use small letters, digits and _, at most 60")
    if name in RESERVED | taken:
        raise StartError(f"no house may be called '{name}': the centre's broker knows somebody else by that name")
