"""The one exception of the decoder, because a caller counts refusals by kind and shows people the sentence."""

from enum import StrEnum


class TelegramRefusal(StrEnum):
    """Why a telegram was refused, for counters; the sentence is for people."""

    FRAME = "frame"
    """Not hex, too short, or no frame at all."""
    CHECKSUM = "checksum"
    """A block CRC, payload CRC or full-frame CRC does not match."""
    KEY = "key"
    """A key is needed, or the one given is not this meter's."""
    MAC = "mac"
    """The message authentication code does not match."""
    FORMAT = "format"
    """A compact frame whose format has not been heard yet."""
    UNSUPPORTED = "unsupported"
    """A layer, security mode or content that this decoder does not read."""
    RECORD = "record"
    """The data records do not follow EN 13757-3."""


class TelegramError(ValueError):
    """A telegram that gives no values; `kind` for counters, the message a sentence with the reason."""

    def __init__(self, kind: TelegramRefusal, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind
