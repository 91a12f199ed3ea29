"""Which secrets an instance needs, which of them are there, and how one is put in place."""

import socket
from pathlib import Path
from typing import Any, Final

import msgspec

from bootstrap_lib import catalog
from bootstrap_lib.document import DocumentError
from bootstrap_lib.entries import Instance
from bootstrap_lib.installation import CREDENTIALS, Installation
from bootstrap_lib.registry import Registry
from bootstrap_lib.secrets import REFERENCE, texts_of
from bootstrap_lib.service import option_type

NOBODYS: Final = ("mqtt.", "ca.")
"""What credentials of the broker's users and of the authority begin with: no service gets one by its name, or by its lines."""


def secrets_of(registry: Registry, instance: Instance) -> list[str]:
    """Names of all secrets that an instance's options and topics refer to, its password at the broker first."""
    found = [f"mqtt.{instance.name}"]
    options: Any = instance.raw
    try:
        kind = option_type(catalog.find(instance.service))
        options = msgspec.to_builtins(registry.options_of(instance.name, kind), enc_hook=str)
    except (catalog.NoService, DocumentError):
        pass  # `constellation check` says what is wrong with it; what its lines name is found all the same
    topics = [topic.options for topic in registry.topics.values() if topic.source == instance.name]
    found += (text.removeprefix(REFERENCE) for text in texts_of([options, topics]) if text.startswith(REFERENCE))
    return list(dict.fromkeys(found))


def given_to(installation: Installation, registry: Registry, instance: Instance) -> list[str]:
    """Names of the files among the credentials that an instance's unit hands to it.

    They are what its lines refer to, and those that bear its name or its service's (`wmbus.12345678`). What is missing is
    left out: the unit could not start, and the service itself says better what it lacks. So is what is `denied`.
    """
    names = {path.name for path in installation.files(f"{CREDENTIALS}/*")}
    own = {name for name in names if name.startswith((f"{instance.name}.", f"{instance.service}."))}
    named = names & set(secrets_of(registry, instance)[1:])
    return sorted(name for name in own | named if not name.startswith(NOBODYS))


def denied(registry: Registry, instance: Instance) -> list[str]:
    """Names that an instance's lines refer to and that it never gets: a broker's user is one instance, the authority none."""
    return [name for name in secrets_of(registry, instance)[1:] if name.startswith(NOBODYS)]


def missing_secrets(installation: Installation, registry: Registry, instance: Instance) -> list[str]:
    """Names of the secrets that an instance's lines refer to and that neither the credentials nor its own folder hold."""
    folders = (CREDENTIALS, Path("/var/lib/constellation", instance.name, "secrets"))
    never = denied(registry, instance)
    wanted = [name for name in secrets_of(registry, instance) if name not in never]
    return [name for name in wanted if not any(installation.path(folder / name).exists() for folder in folders)]


def put_line(name: str) -> str:
    """Return a line that writes a secret without showing it."""
    return f"sudo install -D -m 600 /dev/stdin {CREDENTIALS / name}"


def add_line() -> str:
    """Return a line that makes, on the broker's machine, the file that this one needs."""
    return (
        f"sudo constellation host add {socket.gethostname()}   (carry the file here: sudo constellation host join FILE)"
    )
