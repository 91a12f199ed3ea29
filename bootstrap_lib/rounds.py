"""When a source measures next, who asked for it, what it cannot do just now, and which topics have fallen silent."""

import heapq
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

from bootstrap_lib.control import Request


class Rounds:
    """The rounds of a source, and the requests to read that the next one answers."""

    def __init__(self) -> None:
        """The first round is due at once."""
        self.due_at = 0.0
        """Monotonic time of the next round, in seconds."""
        self.answered = False
        """Whether the device gave a value in this round."""
        self._readers: list[Request] = []
        self._found: dict[str, Any] = {}
        self._for_readers = False

    def hasten(self) -> None:
        """Let the next round begin at once."""
        self.due_at = 0.0

    def ask(self, request: Request) -> None:
        """Answer a request with what the next round finds."""
        self._readers.append(request)

    @property
    def asked(self) -> bool:
        """Whether somebody waits for a round."""
        return bool(self._readers)

    def begin(self, now: float, every: float) -> bool:
        """Begin a round if one is due or asked for; the next is due in the rhythm of `every` seconds."""
        if not self._readers and now < self.due_at:
            return False
        self._for_readers = self.asked
        self.due_at = max(self.due_at + every, now) if self.due_at else now + every
        return True

    def note(self, name: str, entry: dict[str, Any]) -> None:
        """Keep what was found of a topic for those who asked."""
        if self._readers:
            self._found[name] = entry

    def end(self) -> None:
        """Answer those who asked before the round began."""
        if self._for_readers:
            self.answer(self._found)
            self._found, self._for_readers = {}, False

    def answer(self, found: dict[str, Any]) -> None:
        """Answer all who asked."""
        for request in self._readers:
            request.reply(found)
        self._readers.clear()

    def refuse(self, sentence: str) -> None:
        """Tell all who asked that there is no round, and why."""
        for request in self._readers:
            request.refuse(sentence)
        self._readers.clear()


class Trouble:
    """What a source cannot do just now: the device as a whole, or single topics. Each is news once."""

    PATIENT = 4
    """Failures in a row from which the pause grows beyond the rhythm of the rounds."""

    def __init__(self) -> None:
        """All is well."""
        self.device: str | None = None
        """Why the device cannot be used, while it cannot."""
        self.topics: dict[str, str] = {}
        """Why there is no value, by topic."""
        self._failures = 0

    def device_fails(self, sentence: str) -> bool:
        """Note that the device cannot be used; True if that is news."""
        news, self.device = sentence != self.device, sentence
        self._failures += 1
        return news

    def device_answers(self) -> bool:
        """Note that it can; True if that is news."""
        news, self.device, self._failures = self.device is not None, None, 0
        return news

    def pause(self, every: float) -> float:
        """Seconds until the device is tried again: they double up to a minute, with jitter."""
        pause = min(60.0, 2.0 ** min(self._failures, 6)) * random.uniform(0.8, 1.2)  # noqa: S311 (jitter)
        return min(pause, max(1.0, every)) if self._failures < self.PATIENT else pause

    def topic_fails(self, name: str, sentence: str) -> bool:
        """Note why a topic has no value; True if it had one before."""
        news = name not in self.topics
        self.topics[name] = sentence
        return news


class Silence:
    """Which topics have been silent for too long: each is looked at when it may be, and no sooner."""

    def __init__(self) -> None:
        """Nothing is watched yet."""
        self._heard: dict[str, float] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._look_at: dict[str, float] = {}
        """The one deadline of each that counts: a value of some time ago may bring it forward."""

    def watch(self, name: str, stale: float, now: float) -> None:
        """Begin its time anew: it was heard, or is looked for from now on; `now` may be a while ago."""
        if name not in self._heard or now + stale < self._look_at.get(name, math.inf):
            self._look(name, now + stale)
        self._heard[name] = now

    def _look(self, name: str, when: float) -> None:
        self._look_at[name] = when
        heapq.heappush(self._deadlines, (when, name))

    def forget(self, name: str) -> None:
        """Watch a topic no more."""
        self._heard.pop(name, None)

    @property
    def due(self) -> float:
        """Monotonic time at which the next topic may have been silent for too long."""
        return self._deadlines[0][0] if self._deadlines else math.inf

    def fallen(self, now: float, stale_of: Callable[[str], float | None]) -> Iterator[str]:
        """Topics that have been silent for `stale_of` seconds, each once; None for one that is watched no more."""
        while self.due <= now:
            when, name = heapq.heappop(self._deadlines)
            heard, stale = self._heard.get(name), stale_of(name)
            if heard is None or stale is None or when != self._look_at.get(name):
                continue
            if now < heard + stale:
                self._look(name, heard + stale)
            else:
                del self._heard[name]
                yield name
