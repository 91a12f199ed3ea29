"""What meters are in the air, named or not: each with what it says, for `constellation scan wmbus`."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from bootstrap_lib import secrets
from services.meters.receiver import Receiver
from services.protocols.wmbus import Formats, TelegramError, TelegramRefusal, decode, link_address

SECONDS: Final = 130.0
"""A Kamstrup sends its full frame every two minutes."""
LOOK: Final = 0.05


def heard(receiver: Receiver) -> Iterator[str]:
    """Listen for two minutes; a line for each meter that is heard, with its values where they can be read."""
    until, formats, shown = time.monotonic() + SECONDS, Formats(), set[str]()
    while time.monotonic() < until:
        time.sleep(LOOK)
        for frame, signal in receiver.receive():
            sender, key = link_address(frame), None
            if sender is None or sender.id in shown:
                continue
            with suppress(secrets.SecretError, ValueError):
                key = bytes.fromhex(secrets.resolve(f"secret:wmbus.{sender.id}"))
            if line := describe(frame, key, formats):
                shown.add(sender.id)
                yield line if signal is None else f"{line}  ({signal:g} dBm)"


def describe(frame: bytes, key: bytes | None, formats: Formats) -> str | None:
    """Return a line about the meter that sent a telegram, with its values where they can be read; None for a later one."""
    try:
        telegram = decode(frame, key, formats=formats, framing="stripped")
    except TelegramError as error:
        sender = link_address(frame)
        return (
            None
            if error.kind is TelegramRefusal.FORMAT or sender is None
            else f"{sender.id} {sender.manufacturer}  {error}"
        )
    values = ", ".join(f"{record.name} {record.value} {record.unit}".rstrip() for record in telegram.records)
    return f"{telegram.id} {telegram.manufacturer} {telegram.type}  {values or telegram.note}"
