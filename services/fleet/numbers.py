"""How far each run of numbers of a house was heard, so that what never came is noticed: a bridge that is killed loses what it queued."""

from collections.abc import Iterable
from typing import Final

from bootstrap_lib import Sequence

RUNS: Final = 4
"""Runs of numbers of one source that are followed: each boot of its machine begins a new one."""

MOST: Final = 400
"""Runs of numbers of a house: what one of them invents costs nobody else."""


class Run:
    """One run of numbers: the newest heard, the time (ms) of its reading, and its source ('' while nobody said)."""

    __slots__ = ("at", "number", "source")

    def __init__(self, source: str, number: int, at: int) -> None:
        """Begin with what is known."""
        self.source, self.number, self.at = source, number, at


class Numbers:
    """All runs of a house. `moved` and `gone` are what the next commit writes down."""

    def __init__(self, known: Iterable[tuple[str, str, int, int]] = ()) -> None:
        """Begin with rows of `heard`: stream, source, number, time (ms)."""
        self._runs = {stream: Run(source, number, at) for stream, source, number, at in known}
        self.moved: set[str] = set()
        self.gone: set[str] = set()

    def follow(self, source: str, sequence: Sequence, moment: int | None) -> int | None:
        """Take a reading's place (`moment` in ms, None for a clearing); returns since when (ms) something may be missing, or None.

        Between a reading and the predecessor that it names nothing is missing. A run that is new may have begun before we hear of
        it, and the end of the one before have been missed: since 0 where nothing of its source was ever heard.
        """
        run = self._runs.get(sequence.stream)
        if run is None:
            since = self._begin(source, sequence, moment)
            self.moved.add(sequence.stream)
            return since
        if source:
            run.source = source
        if sequence.number <= run.number:
            return None
        missed = run.at if run.number not in (sequence.previous, sequence.number - 1) else None
        run.number = sequence.number
        if moment is not None:
            run.at = max(run.at, moment)
        self.moved.add(sequence.stream)
        return missed

    def _begin(self, source: str, sequence: Sequence, moment: int | None) -> int | None:
        older = [stream for stream, run in self._runs.items() if run.source == source]
        newest = max((self._runs[stream].at for stream in older), default=0)
        for stream in older[: max(0, len(older) - RUNS + 1)]:
            self._forget(stream)
        if len(self._runs) >= MOST:
            self._forget(next(iter(self._runs)))
        self.gone.discard(sequence.stream)
        self._runs[sequence.stream] = Run(source, sequence.number, newest if moment is None else moment)
        return newest if older or sequence.previous else None

    def _forget(self, stream: str) -> None:
        del self._runs[stream]
        self.moved.discard(stream)
        self.gone.add(stream)

    def row(self, stream: str) -> tuple[str, str, int, int]:
        """Stream, source, number and time (ms), as they are written down."""
        run = self._runs[stream]
        return stream, run.source, run.number, run.at

    def heard_at(self, stream: str) -> int:
        """Time (ms) of the newest reading of a run, 0 for one never heard."""
        run = self._runs.get(stream)
        return run.at if run else 0

    @property
    def newest(self) -> int:
        """Time (ms) of the newest reading heard of any run, 0 where none was."""
        return max((run.at for run in self._runs.values()), default=0)

    def written(self) -> None:
        """Learn that what moved is committed."""
        self.moved.clear()
        self.gone.clear()
