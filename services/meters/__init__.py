"""Receivers of wireless M-Bus by what the option `device` names."""

from pathlib import Path

from services.meters.dongle import Dongle
from services.meters.line_receiver import LineReceiver
from services.meters.receiver import Receiver


def open_receiver(device: str, mode: str, silence: float, *, whole: bool = False) -> Receiver:
    """Make the receiver that `device` names: a serial port, `lines:PATH`, or `command:COMMAND`; `silence` in seconds.

    `whole`: what a file holds already is read too, for who looks once; whoever listens would take it for what is heard now.
    """
    kind, _, rest = device.partition(":")
    match kind:
        case "lines":
            return LineReceiver(None, Path(rest), silence, whole=whole)
        case "command":
            return LineReceiver(rest, None, silence)
        case _:
            return Dongle(device, mode, silence)
