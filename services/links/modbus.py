"""A line with Modbus devices: a request and its answer belong together, whatever comes late, twice, or damaged.

Nothing is asked while an answer may still be under way: who is silent is waited for as long as `timeout` says, and an
answer that is later still is told by its unit, function and length. After a silence the unit is asked for something of
another length first, so that a late answer cannot be the next one's.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from services.links.port import MOMENT, Port, PortError
from services.protocols import modbus
from services.protocols.modbus import Answer

END: Final = 0.1
"""Seconds of silence after which a damaged answer has ended; USB adapters hold bytes back for 16 ms, gateways longer."""
BITS: Final = 11
"""Of a byte on the line."""
SHORT: Final = 3
"""Bytes that an answer may have lost and still be known as one."""
CHARACTERS: Final = 3.5
"""Of silence between two frames (MODBUS over Serial Line, 2.5.1.1)."""


class Silence(OSError):
    """Nobody answered, or only those who were not asked, as the text says."""


class Damage(OSError):
    """What came is no answer to what was asked; the text says what it is."""


class UnitRefusal(OSError):
    """The unit answered with a code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


def _refusal(code: int) -> Silence | UnitRefusal:
    """What a code means: a gateway says by two of them that the unit itself said nothing."""
    if code in modbus.NOT_REACHED:
        return Silence(f"a gateway answered in its place (code {code})")
    return UnitRefusal(code)


class RtuLine:
    """Modbus RTU on a port: a serial one, or a TCP connection to an adapter that passes bytes on."""

    def __init__(self, port: Port, timeout: float, pause: float, idle: Callable[[], None]) -> None:
        """`timeout` and `pause` (between two requests) in seconds; `idle` is called while it waits, and may raise."""
        self.port = port
        self._timeout, self._idle = timeout, idle
        self._pause = max(pause, CHARACTERS * BITS / port.baud)
        self._free_at = 0.0
        self._owing: dict[int, list[int]] = {}
        """Numbers of registers that a unit was asked for and may still say, the latest last."""

    def ask(self, unit: int, function: int, address: int, count: int) -> tuple[int, ...]:
        """Return registers of a unit. Silence, Damage or UnitRefusal says why there are none; PortError ends them all."""
        with self.port.turn(self._idle):
            if owed := self._owing.get(unit):
                self._exchange(unit, function, address, _other_length(count, owed))
                owed.clear()
            answer = self._exchange(unit, function, address, count)
        if answer.refused:
            raise _refusal(answer.refused)
        return answer.words

    def _exchange(self, unit: int, function: int, address: int, count: int) -> Answer:
        self._drain()
        request = modbus.sealed(bytes((unit,)) + modbus.question(function, address, count))
        self.port.send(request)
        until = time.monotonic() + self._timeout + (len(request) + 5 + 2 * count) * BITS / self.port.baud
        buffer, echoed, strangers = bytearray(), False, ""
        last = 0.0
        try:
            while (now := time.monotonic()) < until:
                self._idle()
                got = self.port.receive(min(MOMENT, until - now, END if buffer else MOMENT))
                if got:
                    buffer += got
                    last = time.monotonic()
                if not echoed and buffer.startswith(request):
                    del buffer[: len(request)]
                    echoed = True
                while answer := modbus.find_answer(buffer):
                    if answer[:2] == (unit, function) and (answer.refused or len(answer.words) == count):
                        return answer
                    strangers = f"unit {answer.unit} answered, with {len(answer.words)} registers"
                if not got and len(buffer) >= modbus.SHORTEST and time.monotonic() - last >= END:
                    break
            if len(buffer) < modbus.SHORTEST + 2 * count - SHORT:  # else it was the answer, but for a byte
                owed = self._owing.setdefault(unit, [])
                owed[:] = [*(length for length in owed if length != count), count]
            raise Damage("the answer is damaged") if buffer else Silence(strangers)
        finally:
            self._free_at = time.monotonic() + self._pause

    def _drain(self) -> None:
        """Wait until the line is quiet; what comes meanwhile was asked for by nobody who still waits."""
        until = time.monotonic() + self._timeout
        while (now := time.monotonic()) < self._free_at or self.port.receive(0.0):
            self._idle()
            if now > until:
                raise Damage("the line is never quiet: is there a second master?")
            if self.port.receive(max(0.0, min(self._free_at - now, MOMENT))):
                self._free_at = max(self._free_at, time.monotonic() + self._pause)


def _other_length(count: int, owed: Sequence[int]) -> int:
    """Few registers, not as many as will be asked for then: such as are not owed, else those owed for longest."""
    lengths = (length for length in range(1, 10) if length != count)
    return min(lengths, key=lambda length: owed.index(length) if length in owed else -1)


class TcpLine:
    """Modbus TCP: each request has a number, and its answer the same."""

    def __init__(self, port: Port, timeout: float, pause: float, idle: Callable[[], None]) -> None:
        """`timeout` and `pause` (between two requests) in seconds; `idle` is called while it waits, and may raise."""
        self.port = port
        self._timeout, self._pause, self._idle = timeout, pause, idle
        self._free_at = 0.0
        self._number = 0

    def ask(self, unit: int, function: int, address: int, count: int) -> tuple[int, ...]:
        """Return registers of a unit. Silence, Damage or UnitRefusal says why there are none; PortError ends them all."""
        answer = None
        with self.port.turn(self._idle):
            while (left := self._free_at - time.monotonic()) > 0:
                self._idle()
                time.sleep(min(left, MOMENT))
            self._number = self._number % 0xFFFF + 1
            body = modbus.question(function, address, count)
            self.port.send(modbus.HEADER.pack(self._number, 0, len(body) + 1, unit) + body)
            until, buffer = time.monotonic() + self._timeout, bytearray()
            while answer is None and (now := time.monotonic()) < until:
                self._idle()
                buffer += self.port.receive(min(MOMENT, until - now))
                while answer is None and (answer := self._take(buffer, unit, function)):
                    break
                if len(buffer) >= modbus.HEADER.size and buffer[2:4] != b"\0\0":
                    raise PortError(f"{self.port.name} does not speak Modbus TCP: try `framing: rtu`")
        self._free_at = time.monotonic() + self._pause
        if answer is None:
            self.port.close()  # and with it an answer that is late
            raise Silence
        if answer.refused:
            raise _refusal(answer.refused)
        if len(answer.words) != count:
            raise Damage(f"it answered with {len(answer.words)} registers instead of {count}")
        return answer.words

    def _take(self, buffer: bytearray, unit: int, function: int) -> Answer | None:
        """Take whole answers out of what came; those to other requests mean nothing."""
        while len(buffer) > modbus.HEADER.size:
            number, protocol, length, whose = modbus.HEADER.unpack_from(buffer)
            if protocol or len(buffer) < modbus.HEADER.size - 1 + length:
                return None
            body = bytes(buffer[modbus.HEADER.size : modbus.HEADER.size - 1 + length])
            del buffer[: modbus.HEADER.size - 1 + length]
            answer = modbus.answer_of(whose, body) if len(body) > 1 else None
            if answer and number == self._number and answer[:2] == (unit, function):
                return answer
        return None


Line = RtuLine | TcpLine
