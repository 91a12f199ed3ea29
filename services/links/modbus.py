"""A Modbus RTU device on a serial port through minimalmodbus: each block of registers is asked for by itself."""

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, Self

from services.protocols.registers import Block, Register, Value, blocks, decode

PATIENCE = 0.3
"""Seconds for an answer beside the time of its bytes on the line."""
BITS = 10
"""Of a byte on the line (8N1)."""
FRAME = 5
"""Bytes of an answer around its registers: address, function, length, checksum."""
SILENCES = 3
"""Requests without any answer after which nobody is there; a single one may be for registers that are passed over."""


class Table(Protocol):
    """A module of services/protocols that describes a make."""

    REGISTERS: tuple[Register, ...]
    BAUD_RATE: int
    ADDRESS: int


class PortError(OSError):
    """The port cannot be used, or nobody answers on it; the text says what to look at."""


class ModbusDevice:
    """A device at an address of a serial port (8N1), open inside `with`; nobody else may have the port meanwhile."""

    def __init__(self, port: Path, table: Table, address: int | None = None) -> None:
        self.port, self.table, self.address = port, table, address or table.ADDRESS

    def __enter__(self) -> Self:
        import minimalmodbus  # noqa: PLC0415 - checks and documents run without the driver
        import serial  # noqa: PLC0415

        self._library: Any = minimalmodbus
        try:
            self._serial = serial.Serial(
                str(self.port), self.table.BAUD_RATE, timeout=PATIENCE, write_timeout=PATIENCE, exclusive=True
            )
        except serial.SerialException as error:
            raise PortError(f"{self.port} {_trouble(error)}") from None
        self._instrument = minimalmodbus.Instrument(self._serial, self.address)
        return self

    def __exit__(self, *_: object) -> None:
        self._serial.close()

    def read(self, names: Iterable[str]) -> tuple[dict[str, Value], dict[str, str]]:
        """Read fields of the table: their values by name, and by name the sentence why a field could not be read.

        A field that says nothing known is in neither. PortError where nobody answers; OSError where the port is gone.
        """
        names = set(names)
        wanted = [register for register in self.table.REGISTERS if register.name in names]
        words: dict[int, int] = {}
        reasons: dict[int, str] = {}
        silences = 0
        requests = list(blocks(wanted))
        for block in requests:
            addresses = range(block.address, block.address + block.length)
            self._serial.timeout = PATIENCE + (FRAME + 2 * block.length) * BITS / self.table.BAUD_RATE
            try:
                words.update(zip(addresses, self._instrument.read_registers(block.address, block.length), strict=True))
            except self._library.ModbusException as error:
                reasons.update(dict.fromkeys(addresses, self._reason(block, error)))
                silences += isinstance(error, self._library.NoResponseError)
                if silences == min(SILENCES, len(requests)):
                    raise PortError(reasons[block.address]) from None
        failed = {register.name: reasons[register.address] for register in wanted if register.address in reasons}
        return decode(wanted, words), failed

    def _reason(self, block: Block, error: Exception) -> str:
        where = f"registers {block.address:#06x} to {block.address + block.length - 1:#06x}"
        match error:
            case self._library.NoResponseError():
                return (
                    f"no answer from address {self.address} on {self.port}: is the device on, is this its address, "
                    "are TX and RX (or A and B) swapped?"
                )
            case self._library.IllegalRequestError():
                return f"{where}: this model does not have them; leave their topics out"
            case self._library.SlaveReportedException():
                return f"{where}: the device cannot say them now; switch it off and on if it stays so"
            case _:
                return f"{where}: the answer is damaged; look for a long or disturbed cable, or a second master"


def _trouble(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return "is not there: plug the adapter in, or choose another one with `constellation scan modbus`"
        case errno.EACCES:
            return "may not be opened: the service's user needs the group dialout"
        case errno.EAGAIN:
            return "is in use by another program: one service has a port for itself"
        case _:
            return f"cannot be used: {error}"
