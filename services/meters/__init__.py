"""Receivers of wireless M-Bus by what the option `device` names."""

from pathlib import Path

from services.meters.dongle import Dongle
from services.meters.line_receiver import LineReceiver
from services.meters.receiver import Receiver


def open_receiver(device: str, mode: str, silence: float) -> Receiver:
    """Make the receiver that `device` names: a serial port, `lines:PATH`, or `command:COMMAND`; `silence` in seconds."""
    kind, _, rest = device.partition(":")
    match kind:
        case "lines":
            return LineReceiver(None, Path(rest), silence)
        case "command":
            return LineReceiver(rest, None, silence)
        case _:
            return Dongle(device, mode, silence)
