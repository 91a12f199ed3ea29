"""A contact between a GPIO pin and ground, by gpiozero or simulated: who is told of each press after a rest."""

import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bootstrap_lib import DeviceError

TAKEN: Final = {0: "the EEPROM of HATs", 1: "the EEPROM of HATs", 2: "I²C (SDA)", 3: "I²C (SCL)"}
"""Pins with resistors to 3.3 V on the board and another purpose."""


def taken(pin: int) -> str:
    """Say why a pin cannot have a button."""
    return f"GPIO {pin} belongs to {TAKEN[pin]}: take another one, such as 17"


class Contact:
    """One contact, open inside `with`."""

    def __init__(self, pin: int, pins: str, rest: float, pressed: Callable[[], None]) -> None:
        """`pins` is `gpio` or `sim:FILE`; `pressed` is called in gpiozero's thread after `rest` seconds without an edge."""
        self._pin, self._pins, self._rest, self._pressed = pin, pins, rest, pressed
        self._opened = ExitStack()
        self._edge_at = 0.0

    def __enter__(self) -> Self:
        with self._opened:
            self._open()
            self._opened = self._opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def _open(self) -> None:
        from gpiozero import Button, GPIOZeroError, PinFactoryFallback  # noqa: PLC0415 (hardware)

        if self._pin in TAKEN:
            raise DeviceError(taken(self._pin))
        factory, kind, where = None, *self._pins.partition(":")[::2]
        if kind == "sim":
            from gpiozero.pins.mock import MockFactory  # noqa: PLC0415

            factory = MockFactory()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PinFactoryFallback)
                button = self._opened.enter_context(Button(self._pin, pin_factory=factory))
        except (GPIOZeroError, OSError) as error:
            raise DeviceError(
                f"GPIO {self._pin} cannot be used ({error}): install python3-lgpio, and see that the service's "
                "user has the group gpio and no other program the pin"
            ) from None
        button.when_pressed = lambda: self._edge(pressed=True)
        button.when_released = lambda: self._edge(pressed=False)
        if kind == "sim":
            from services.simulators.button import Finger  # noqa: PLC0415

            self._opened.enter_context(Finger(Path(where), button.pin))

    def _edge(self, *, pressed: bool) -> None:
        now = time.monotonic()
        rested, self._edge_at = now - self._edge_at > self._rest, now
        if pressed and rested:
            self._pressed()
