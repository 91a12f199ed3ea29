"""What is said to a battery for one sample, apart from how it gets there; it sends nothing and knows no time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.protocols.battery import BatteryError, Rejection

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.bluetooth import Statistics
    from services.protocols.battery import BatteryProtocol, BatteryRequest, Unlocks, Value


class Dialogue:
    """The requests of a protocol in order, each sent until it is answered; only the open request takes an answer."""

    def __init__(
        self,
        protocol: BatteryProtocol,
        tries: int,
        statistics: Statistics,
        unlock: Callable[[], Unlocks] | None = None,
    ) -> None:
        self.sample: dict[str, Value] = {}
        self._protocol, self._tries, self._statistics = protocol, tries, statistics
        self._assembler = protocol.assembler()
        self._unlock, self._unlocking = unlock, unlock() if unlock else None
        self._pending: list[BatteryRequest] = []
        self._tried = 0
        self._answered = False
        """Whether the battery has ever answered."""
        self._lasting: dict[str, dict[str, Value]] = {}
        """Answers that do not change, by the name of their request; each sample begins with them."""
        self._unknown: set[str] = set()
        """Optional requests that this link's battery has not answered."""

    def begin_link(self) -> None:
        """Ask a battery that is newly connected everything again."""
        self._unknown.clear()
        self._unlocking = self._unlock() if self._unlock else None

    def begin_sample(self) -> None:
        """Begin with the first request."""
        done = self._unknown | self._lasting.keys()
        self._pending = [request for request in self._protocol.REQUESTS if request.name not in done]
        self._tried = 0
        self.sample = {name: value for answer in self._lasting.values() for name, value in answer.items()}

    def next_frame(self) -> bytes | None:
        """Return what is to be sent now, None when the sample is complete; BatteryError when no try was answered."""
        if self._unlocking is not None:
            frame = self._unlocking.next_frame()
            if frame is not None and self._tried < self._tries:
                return self._try(frame)
            self._unlocking, self._tried = None, 0  # it is open, or knows nothing of passwords
        while self._pending and self._tried == self._tries:
            hint = "" if self._answered else getattr(self._protocol, "MUTE", "")
            self._do_without(f"No answer to {self._tries} requests for the {self._pending[0].name}. {hint}".strip())
        if not self._pending:
            return None
        return self._try(self._pending[0].frame)

    def _try(self, frame: bytes) -> bytes:
        self._statistics.retries += bool(self._tried)
        self._tried += 1
        self._assembler.clear()
        return frame

    def take(self, fragment: bytes) -> bool:
        """Take a notification; True when the open request is done with. BatteryError when a battery refuses it."""
        for found in self._assembler.feed(fragment):
            if isinstance(found, Rejection):
                self._statistics.rejected_frames += 1
                continue
            if self._unlocking is not None:
                if self._unlocking.take(found):
                    self._tried = 0
                    return True
                continue
            request = self._pending[0]
            try:
                answer = self._protocol.measurements(request, found)
            except BatteryError as error:
                self._do_without(str(error))
                return True
            if answer is not None:
                self._answered = True
                self.sample |= answer
                if request.once:
                    self._lasting[request.name] = answer
                self._end_request()
                return True
        return False

    def _do_without(self, reason: str) -> None:
        request = self._pending[0]
        if not request.optional:
            raise BatteryError(reason)
        self._unknown.add(request.name)
        self._end_request()

    def _end_request(self) -> None:
        self._pending.pop(0)
        self._tried = 0
