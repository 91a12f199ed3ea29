"""One unit of a Modbus line: what it is asked for, how often again, and what it turns out not to have."""

from collections.abc import Generator, Iterable, Mapping
from typing import Final, Protocol

from bootstrap_lib import DeviceError
from services.links.modbus import Damage, Line, Silence, UnitRefusal
from services.protocols.modbus import NOT_THERE
from services.protocols.registers import INPUTS, LONGEST_READ, Block, Register, Value, blocks, decode, halves

REPEATS: Final = 4
"""Of a request whose answer was damaged, before it is asked for in halves."""
BUDGET: Final = 24
"""Requests of a unit in a round whose answers may be damaged."""
SILENCES: Final = 2
"""Blocks without any answer after which nobody is there."""
AGAIN: Final = 20
"""Rounds after which a block is asked for again that the device is silent about."""

Reasons = dict[tuple[int, int], str]
"""By function and address, why a register could not be read."""


class MakeTable(Protocol):
    """A module of services.protocols.makes."""

    REGISTERS: tuple[Register, ...]
    BAUD_RATE: int
    ADDRESS: int


class ModbusUnit:
    """A unit with its table."""

    def __init__(self, line: Line, unit: int, table: Iterable[Register], *, gap: int, longest: int) -> None:
        """Registers up to `gap` apart are read together, at most `longest` with one request."""
        self.unit = unit
        self.table = {register.name: register for register in table}
        self._line, self._gap, self._longest = line, gap, min(longest, LONGEST_READ)
        self._missing: dict[str, str] = {}
        """Fields that this model refused for good, with the sentence; asked for again when the port is opened anew."""
        self.silent = False
        """Whether it did not answer the last time."""
        self._mute: set[Block] = set()
        """Blocks that got no answer while others did: some devices are silent about what they do not have."""
        self._stranger = ""
        self._rounds = 0
        self._answered = False
        self._damaged = 0

    def read(self, names: Iterable[str]) -> tuple[dict[str, Value], dict[str, str]]:
        """Read fields: their values by name, and by name the sentence why a field could not be read.

        A field that says nothing known is in neither. A unit that was silent is asked once in a round, for something
        else each time. PortError where the port is gone.
        """
        names = set(names)
        wanted = [self.table[name] for name in sorted(names) if name in self.table and name not in self._missing]
        requests = list(blocks(wanted, gap=self._gap, longest=self._longest))
        self._rounds += 1
        if self.silent and requests:
            requests = [requests[self._rounds % len(requests)]]
        words: dict[int, int] = {}
        reasons: dict[tuple[int, int], str] = {}
        self._answered, self._damaged = False, 0
        silences = 0
        for block in requests:
            if block in self._mute and self._rounds % AGAIN:
                _note(reasons, block, self._said_nothing())
                continue
            if self._fetch(block, wanted, words, reasons):
                self._mute.discard(block)
                continue
            silences += 1
            self._mute.add(block)
            if not self._answered and silences == min(SILENCES, len(requests)):
                break
        if not self._answered:
            self._mute.clear()
        self.silent = bool(requests) and not self._answered
        otherwise = self._said_nothing() if self.silent else ""
        failed = self._failed(wanted, words, reasons, otherwise)
        return decode(wanted, words), failed | {name: self._missing[name] for name in names & self._missing.keys()}

    def _failed(
        self,
        wanted: Iterable[Register],
        words: Mapping[int, int],
        reasons: Mapping[tuple[int, int], str],
        otherwise: str,
    ) -> dict[str, str]:
        failed = {}
        for register in wanted:
            found = [reasons.get((register.function, address)) for address in register.addresses]
            sentence = next(filter(None, found), None)
            if sentence:
                failed[register.name] = sentence
            elif otherwise and any(_place(register.function, one) not in words for one in register.addresses):
                failed[register.name] = otherwise
        return failed

    def _fetch(self, block: Block, wanted: list[Register], words: dict[int, int], reasons: Reasons) -> bool:
        """Read a block, again where that helps, then in halves; False where there is no answer at all."""
        sentence, silences = "", 0
        for _ in range(REPEATS):
            try:
                found = self._line.ask(self.unit, block.function, block.address, block.length)
            except Silence as silence:
                silences += 1
                self._stranger = str(silence)
                if silences > 1 or self.silent or block in self._mute:
                    _note(reasons, block, self._said_nothing())
                    return False
                continue
            except UnitRefusal as refused:
                self._answered = True
                return self._refused(block, refused.code, wanted, words, reasons)
            except Damage as damage:
                self._damaged += 1
                sentence = f"{_named(block)}: {damage}; look for a long or disturbed cable, or a second master"
                if self._damaged > BUDGET:
                    break
                continue
            self._answered = True
            words.update({_place(block.function, block.address + at): word for at, word in enumerate(found)})
            return True
        self._answered = True
        parts = halves(block, wanted) if self._damaged <= BUDGET else None  # a short answer has better luck
        if parts:
            return self._fetch(parts[0], wanted, words, reasons) & self._fetch(parts[1], wanted, words, reasons)
        _note(reasons, block, sentence)
        return True

    def _refused(
        self, block: Block, code: int, wanted: list[Register], words: dict[int, int], reasons: Reasons
    ) -> bool:
        """Narrow a block down to the register that is not there; what cannot be said now is asked for again next time."""
        if code not in NOT_THERE:
            sentence = (
                f"{_named(block)}: the device cannot say them now (code {code}); switch it off and on if it stays so"
            )
            _note(reasons, block, sentence)
        elif parts := halves(block, wanted):
            return self._fetch(parts[0], wanted, words, reasons) & self._fetch(parts[1], wanted, words, reasons)
        else:
            sentence = f"{_named(block)}: this model does not have them; leave their topics out"
            _note(reasons, block, sentence)
            addresses = set(range(block.address, block.address + block.length))
            for register in wanted:
                if register.function == block.function and not addresses.isdisjoint(register.addresses):
                    self._missing[register.name] = sentence
        return True

    def _said_nothing(self) -> str:
        if self._stranger:
            return f"no answer from address {self.unit} on {self._line.port.name}, but {self._stranger}"
        return (
            f"no answer from address {self.unit} on {self._line.port.name}: is the device on, is this its address, "
            "are TX and RX (or A and B) swapped?"
        )


def walked(
    line: Line, address: int, walk: Generator[Block, tuple[int, ...] | None, tuple[Register, ...]]
) -> tuple[Register, ...]:
    """Follow what a device says of itself, to the end or not at all; DeviceError says why not, PortError ends them all."""
    found: tuple[int, ...] | None = None
    try:
        block = next(walk)
        while True:
            found = _told(line, address, block)
            block = walk.send(found)
    except StopIteration as end:
        registers: tuple[Register, ...] = end.value
    if registers:
        return registers
    if found == ():
        raise DeviceError(
            f"no answer from address {address} on {line.port.name}: is the device on, is this its address?"
        )
    raise DeviceError(
        f"unit {address} says nothing of SunSpec: is it switched on in its menu, and is this its address?"
    )


def _told(line: Line, address: int, block: Block) -> tuple[int, ...] | None:
    """Ask for a block until it is heard undamaged: None where it is refused, nothing where nobody answers."""
    for _ in range(REPEATS):
        try:
            return line.ask(address, block.function, block.address, block.length)
        except UnitRefusal:
            return None
        except Silence:
            return ()
        except Damage as damage:
            sentence = str(damage)
    raise DeviceError(f"unit {address} does not say where its registers are: {sentence}")


def _note(reasons: Reasons, block: Block, sentence: str) -> None:
    reasons.update({(block.function, block.address + at): sentence for at in range(block.length)})


def _place(function: int, address: int) -> int:
    return address + (INPUTS if function == 4 else 0)  # noqa: PLR2004


def _named(block: Block) -> str:
    return f"registers {block.address:#06x} to {block.address + block.length - 1:#06x}"
