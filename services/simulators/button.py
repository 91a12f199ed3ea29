"""A finger on a simulated button: a file says whether it presses, so that tests and the demo need no wire.

The pin is gpiozero's own mock pin; `echo pressed > button` pulls it to ground, anything else lets it go.
"""

import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

LOOK = 0.02
"""Seconds between two looks at the file."""
PRESSED = "pressed"


class Finger:
    """Presses a gpiozero MockPin inside `with` as a file says; a file that is not there does not press."""

    def __init__(self, path: Path, pin: Any) -> None:
        self.path, self.pin = path, pin
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="finger", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ended.wait(LOOK):
            try:
                pressed = self.path.read_text().strip() == PRESSED
            except OSError:
                pressed = False
            if pressed:
                self.pin.drive_low()
            else:
                self.pin.drive_high()
