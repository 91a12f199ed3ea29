"""A Victron MPPT charger behind a pseudo-terminal, which speaks VE.Direct once a second, well and badly.

Run it by itself with `python -m services.simulators.vedirect --link /tmp/mppt --state mppt.json`; the state is
`{"fields": {"V": "13210", "CS": "5"}, "fault": "hex"}` and may change at any time.
"""

import argparse
import contextlib
import os
import sys
import threading
import tty
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import msgspec

from services.protocols import vedirect
from services.simulators.modbus import linked

VeFault = Literal["silence", "bit_error", "hex", "cut"]
"""`hex` has hex messages everywhere, inside labels too; `cut` loses the end of each second block."""

FIRST: Final = {
    "PID": "0xA060", "FW": "164", "SER#": "HQ0000SIMUL", "V": "26480", "I": "5200", "VPV": "61300", "PPV": "141", "CS": "3",
    "MPPT": "2", "OR": "0x00000000", "ERR": "0", "LOAD": "ON", "IL": "300",
}  # fmt: skip
SECOND: Final = {"H19": "41234", "H20": "112", "H21": "310", "H22": "140", "H23": "295", "HSDS": "17"}
"""Large products split a second into two blocks."""
MESSAGE: Final = b":A0002000148\n"


class Product:
    """A charger on a pseudo-terminal: `with Product() as product`, then open `product.port`."""

    def __init__(self, period: float = 1.0) -> None:
        """`period` is the time between two blocks in s, 1 in life."""
        self.fields = dict(FIRST)
        self.fault: VeFault | None = None
        self._period = period
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._speak, name="vedirect", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def _speak(self) -> None:
        while not self._ended.wait(self._period):
            with contextlib.suppress(BlockingIOError):  # nobody listens, and the line is full
                for block in (vedirect.encode_block(self.fields), vedirect.encode_block(SECOND)):
                    os.write(self._master, self._spoilt(block))

    def _spoilt(self, block: bytes) -> bytes:
        match self.fault:
            case "silence":
                return b""
            case "bit_error":
                return block[:-9] + bytes((block[-9] ^ 1,)) + block[-8:]
            case "hex":
                return block[:5] + MESSAGE + block[5:] + MESSAGE
            case "cut" if b"PID" not in block:
                return block[:-4]
            case _:
                return block


class ProductState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The describing file: fields by label, and what goes wrong."""

    fields: dict[str, str] = {}
    fault: VeFault | None = None


def main(arguments: list[str] | None = None) -> None:
    """Speak until the process is ended; print the port first."""
    parser = argparse.ArgumentParser(prog="python -m services.simulators.vedirect", description=__doc__)
    parser.add_argument("--link", type=Path, help="make this name point to the port")
    parser.add_argument("--state", type=Path, help="JSON file with fields and a fault, read again and again")
    options = parser.parse_args(arguments)
    with Product() as product, linked(product.port, options.link) as name:
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        while not threading.Event().wait(0.2):
            if options.state and options.state.exists():
                with contextlib.suppress(msgspec.DecodeError):
                    state = msgspec.json.decode(options.state.read_bytes(), type=ProductState)
                    product.fields, product.fault = FIRST | state.fields, state.fault


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
