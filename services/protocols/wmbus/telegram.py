"""One telegram from bytes to named values: every layer in the order of the air, and the reason where one refuses."""

from typing import Final

import msgspec

from services.protocols.wmbus.compact import Formats
from services.protocols.wmbus.contents import contents_of, unread
from services.protocols.wmbus.errors import TelegramError, TelegramRefusal
from services.protocols.wmbus.layers import authenticated, link_layers
from services.protocols.wmbus.link import Address, Framing
from services.protocols.wmbus.makers import PUBLIC_KEYS, diehl, of_message
from services.protocols.wmbus.meter_types import type_of
from services.protocols.wmbus.records import DataRecord
from services.protocols.wmbus.transport import CONTENTS, opened, transport_layer


class Telegram(msgspec.Struct, frozen=True, gc=False):
    """What a telegram says. Values have the units of their records; dates and times are the meter's own."""

    id: str
    """Number of the meter, as it is printed on it."""
    manufacturer: str
    version: int
    type: str
    security: str
    """`none`, `ELL-CTR`, or `TPL-` and the security mode; what the telegram declares."""
    status: tuple[str, ...]
    """What the status byte says; empty where all is well."""
    records: list[DataRecord]
    note: str | None = None
    """What was not read and why, or why what was read can be anybody's."""
    meter: Address | None = None
    link: Address | None = None
    """Who sent it: the meter itself, or its radio adapter; None on a wire."""
    access: int | None = None
    """Access number; grows by one with each telegram."""
    counter: int | None = None
    """Message counter (mode 7) or session number (ELL); never goes backwards, so that replays can be told."""
    decrypted: bool = False
    """A key was used, and it was the right one."""
    authenticated: bool = False
    """The message authentication code was verified."""
    certain: bool = True
    """False where the contents are a maker's own coding without a check: plausible, and no more."""


def decode(
    frame: bytes, key: bytes | None = None, *, formats: Formats | None = None, framing: Framing = "auto"
) -> Telegram:
    """Decode one frame of the radio, or a long frame of the wire.

    `key` has 16 bytes; telegrams that are not encrypted are read without regard to it (see `decrypted`). `formats`
    expands compact frames and learns from full ones; without it the known formats serve. Bytes after the end that L
    announces are dropped. TelegramError, a sentence with the reason, for a telegram that gives no values.
    """
    layers = link_layers(frame, key, framing)
    layer, message = authenticated(layers.rest)
    link, extended = layers.link, layers.extended
    access = None if extended is None else extended.access
    counter = None
    if extended is not None and extended.session is not None:
        counter = int.from_bytes(extended.session, "little") >> 4 & 0x1FFFFFF
    if layer is not None and layer.counter is not None:
        counter = int.from_bytes(layer.counter, "little")
    security = "none" if extended is None or extended.session is None or extended.session[-1] >> 5 == 0 else "ELL-CTR"
    if not message or message[0] not in CONTENTS:
        if link is None:
            raise TelegramError(TelegramRefusal.UNSUPPORTED, "This wired frame carries no variable data.")
        own = of_message(link, message) if message else None
        meter = diehl.as_printed(link, message)
        return Telegram(
            meter.id,
            meter.manufacturer,
            meter.version,
            type_of(meter),
            security,
            () if own is None else own.status,
            [] if own is None else own.records,
            unread(message) if own is None else own.note,
            meter,
            link,
            access,
            counter,
            layers.decrypted,
            authenticated=False,
            certain=own is None or own.certain,
        )
    transport = transport_layer(message, link)
    if transport.mode:
        security = _MODES[transport.mode]
    meter, status = transport.meter, transport.status
    plain = opened(
        transport, layer, message, key, PUBLIC_KEYS.get(meter.manufacturer) if transport.mode and key is None else None
    )
    whole = plain.decrypted or (extended is not None and extended.session is not None)
    contents = contents_of(transport, plain, formats if formats is not None else _KNOWN, message, whole=whole)
    if contents.meter is not None:
        meter = contents.meter
    elif meter is link and meter.manufacturer in diehl.MAKERS:
        meter = diehl.as_printed(link, message)
    return Telegram(
        meter.id,
        meter.manufacturer,
        meter.version,
        type_of(meter),
        security,
        status + contents.status if contents.status else status,
        contents.records,
        contents.note or (_PUBLIC if plain.public else None),
        meter,
        link,
        access if transport.access is None else transport.access,
        counter,
        layers.decrypted or plain.decrypted,
        plain.authenticated,
        contents.certain,
    )


_MODES: Final = tuple(f"TPL-{mode}" for mode in range(32))
_PUBLIC: Final = "It is encrypted with a key that its maker made public, so that anybody can forge it."
_KNOWN: Final = Formats()
