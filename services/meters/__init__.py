"""Receivers of wireless M-Bus by what the option `device` names."""

from pathlib import Path

from services.meters.dongle import Dongle
from services.meters.receiver import Receiver
from services.meters.rtlwmbus import Lines


def open_receiver(device: str, mode: str, silence: float) -> Receiver:
    """Make the receiver that `device` names: a serial port, `lines:PATH`, or `command:COMMAND`; `silence` in seconds."""
    kind, _, rest = device.partition(":")
    match kind:
        case "lines":
            return Lines(None, Path(rest), silence)
        case "command":
            return Lines(rest, None, silence)
        case _:
            return Dongle(device, mode, silence)
