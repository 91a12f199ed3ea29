"""Pins as the kernel gives them: pipes in a folder, named by pin, from which edges are read in its own form.

A pipe keeps what nobody has read while this process lives, as an open request to the kernel does. Run it by itself with
`python -m services.simulators.pulses FOLDER --pin 17 --every 2`.
"""

import argparse
import contextlib
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from services.links.gpiochip import event


class Pin:
    """One pin: `with Pin(folder, 17) as pin`, then `pin.pulse()`."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self.pulses = 0
        self._edges = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / str(number)
        self._path.unlink(missing_ok=True)
        os.mkfifo(self._path)
        self._pipe = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._pipe)
        self._path.unlink(missing_ok=True)

    def edge(self, *, closed: bool, moment: float | None = None, lost: bool = False) -> None:
        """Make an edge; one that is `lost` did not fit into the kernel's buffer, and has its number all the same."""
        self._edges += 1
        if not lost:
            with contextlib.suppress(BlockingIOError):
                os.write(
                    self._pipe, event(time.monotonic() if moment is None else moment, closed, self.number, self._edges)
                )

    def pulse(self, moment: float | None = None, *, lost: bool = False) -> None:
        """Close and open."""
        self.pulses += 1
        self.edge(closed=True, moment=moment, lost=lost)
        self.edge(closed=False, moment=None if moment is None else moment + 0.03, lost=lost)


def main(arguments: list[str] | None = None) -> None:
    """Give pulses until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m services.simulators.pulses", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pins are")
    parser.add_argument("--pin", type=int, action="append", default=[], help="GPIO number; may be repeated")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two pulses")
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        pins = [stack.enter_context(Pin(options.folder, number)) for number in options.pin or [17]]
        while True:
            time.sleep(options.every)
            for pin in pins:
                pin.pulse()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
