"""Compact frames: values without their headers, which a frame sent now and then, or a published format, supplies.

Both checksums are verified: the signature names the format, the CRC over the rebuilt full frame proves that it was the
right one, so two formats with one signature cannot be mistaken for each other.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from services.protocols.wmbus.crc import crc
from services.protocols.wmbus.data import variable_size
from services.protocols.wmbus.errors import TelegramError, TelegramRefusal
from services.protocols.wmbus.header import data_size, header_end

KNOWN_FORMATS: Final = (
    "040404843C042B04AB3C",
    "02FF2004134413",
    "02FF200413523B",
    "02FF2004134413615B6167",
    "02FF2004134413615B5167",
    "02FF20041392013BA1015B8101E7FF0F",
    "02FF2004134413A1015B8101E7FF0F",
    "02FF2004134413426C523B615B616751678101E7FF0F06FF1B",
    "04FF234413523B06FF1B426C61675167023B04138101E7FF0F",
    "04FF2304134413426C023B92013BA2013B06FF1BA1015B91015BA10167",
    "0406041404FF0704FF080259025D023B02FF22026C44064414426C",
    "040604FF0704FF080414043B0259025D04FF22026C44064414426C",
    "040F04FF0704FF08041484401484804014043B0259025D142D84100F84200F04FF22026C440F4414C44014C4804014426C",
    "02F9FF15040604EEFF0704EEFF0804148440148480401402FD17026C426C44064414C44014C4804014043B0259025D",
    "030643060314426C022D01FF21",
    "030E430E0313426C022D01FF21",
    "22691269026905FF0905FF0A02FD17",
    "040504FB827504853C04FB82F53C01FD17",
    "426C441301FD17840113C40113840213C40213840313C40313840413C40413840513C40513840613C40613840713C40713840813046D0413",
)
"""Formats in the field: OmniPower, Multical 21 and flowIQ, Multical heat, pressure, EM24, Engelmann."""

MOST_FORMATS: Final = 1024
_ALIKE: Final = 4
"""Formats kept of one signature."""
_PREFIX: Final = 4
"""Signature and full-frame CRC."""
_FILL: Final = b"\x2f"
_SPECIAL: Final = 0x0F
_MANUFACTURER_DATA: Final = (0x0F, 0x1F)


class Formats:
    """Formats of compact frames by signature: the known ones and those learned from full frames, a bounded number."""

    def __init__(self, learned: Mapping[str, Iterable[str]] | None = None) -> None:
        """Start with the known formats and with `learned`, as `to_dict` gave it; what is malformed is left out."""
        self._formats = dict(_KNOWN)
        self.revision = 0
        """Grows with each format learned: when to save."""
        for text in (text for texts in (learned or {}).values() for text in texts):
            try:
                self.learn(bytes.fromhex(text))
            except ValueError:
                continue
        self.revision = 0

    def to_dict(self) -> dict[str, list[str]]:
        """Return all formats for JSON: signature in hex to formats in hex."""
        return {
            f"{signature:04X}": [b"".join(headers).hex().upper() for headers in formats]
            for signature, formats in self._formats.items()
        }

    def learn(self, format_: bytes, signature: int | None = None) -> None:
        """Remember the headers of a full frame; ValueError (a TelegramError) if they are no headers."""
        signature = crc(format_) if signature is None else signature
        known = self._formats.get(signature, ())
        if known and any(b"".join(headers) == format_ for headers in known):
            return
        headers = tuple(_split(format_))
        if not headers:
            return
        if len(self._formats) >= MOST_FORMATS and signature not in self._formats:
            del self._formats[next(islice(self._formats, len(_KNOWN), None))]
        self._formats[signature] = (headers, *known)[:_ALIKE]
        self.revision += 1

    def expand(self, content: bytes) -> bytes:
        """Return the records of the full frame that a compact frame stands for.

        `content` starts with the format signature and the full-frame CRC. TelegramError for a format that is not
        known yet, and where the CRC of the rebuilt frame does not match.
        """
        if len(content) < _PREFIX:
            raise TelegramError(
                TelegramRefusal.FRAME, f"A compact frame has 4 bytes before its data; this one has {len(content)}."
            )
        signature = int.from_bytes(content[:2], "little")
        expected = int.from_bytes(content[2:4], "little")
        formats = self._formats.get(signature)
        if formats is None:
            sentence = (
                f"Format {signature:04X} of this compact frame is not known yet; the meter's next full frame tells it."
            )
            raise TelegramError(TelegramRefusal.FORMAT, sentence)
        for headers in formats:
            records = _rebuilt(headers, content)
            if records is not None and crc(records) == expected:
                return records
        sentence = f"The CRC of the full frame behind this compact frame (format {signature:04X}) does not match."
        raise TelegramError(TelegramRefusal.CHECKSUM, sentence)


def _split(format_: bytes) -> Iterable[bytes]:
    """Cut a format into the headers of its records."""
    at = 0
    while at < len(format_):
        if format_[at] & 0x0F == _SPECIAL:
            end = at + 1
        else:
            try:
                _, end = header_end(format_, at)
            except IndexError:
                raise TelegramError(
                    TelegramRefusal.FORMAT, "A format of compact frames ends inside a header."
                ) from None
        yield format_[at:end]
        at = end


_KNOWN: Final[Mapping[int, tuple[tuple[bytes, ...], ...]]] = {
    crc(format_): (tuple(_split(format_)),) for format_ in map(bytes.fromhex, KNOWN_FORMATS)
}
"""By signature, as `Formats` keeps them."""


def _rebuilt(headers: tuple[bytes, ...], content: bytes) -> bytes | None:
    """Put headers and data together again; None where the data is too short or too long for them."""
    at, end = _PREFIX, len(content)
    pieces: list[bytes] = []
    for header in headers:
        pieces.append(header)
        if header[0] in _MANUFACTURER_DATA:
            size = end - at
        else:
            fixed = data_size(header)
            if fixed is None:
                length = variable_size(content[at]) if at < end else None
                if length is None:
                    return None
                fixed = length + 1
            size = fixed
        pieces.append(content[at : at + size])
        at += size
        if at > end:
            return None
    return None if content[at:].strip(_FILL) else b"".join(pieces)
