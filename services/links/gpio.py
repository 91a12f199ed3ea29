"""A contact between a GPIO pin and ground, by gpiozero or simulated: who is told when it stays closed."""

import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from bootstrap_lib import DeviceError
from services.protocols.contact import Debounced

TAKEN: Final = {0: "the EEPROM of HATs", 1: "the EEPROM of HATs", 2: "I²C (SDA)", 3: "I²C (SCL)"}
"""Pins with resistors to 3.3 V on the board and another purpose."""


def taken(pin: int) -> str:
    """Say why a pin cannot have a button."""
    return f"GPIO {pin} belongs to {TAKEN[pin]}: take another one, such as 17"


class Contact:
    """One contact, open inside `with`; a thread of its own waits until it rests."""

    def __init__(self, pin: int, pins: str, rest: float, pressed: Callable[[], None]) -> None:
        """`pins` is `gpio` or `sim:FILE`; `pressed` is called in another thread when it is still closed after `rest` s."""
        self._pin, self._pins, self._rest, self._pressed = pin, pins, rest, pressed
        self._opened = ExitStack()
        self._changed = threading.Condition()
        self._contact = Debounced(rest, closed=False)
        self._told_at = 0.0
        self._ended = False

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
        from gpiozero import GPIOZeroError, InputDevice, PinFactoryFallback

        if self._pin in TAKEN:
            raise DeviceError(taken(self._pin))
        factory, kind, where = None, *self._pins.partition(":")[::2]
        if kind == "sim":
            from gpiozero.pins.mock import MockFactory

            factory = MockFactory()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PinFactoryFallback)
                device = self._opened.enter_context(InputDevice(self._pin, pull_up=True, pin_factory=factory))
            self._contact = Debounced(self._rest, closed=device.is_active)
            device.pin.edges = "both"
            device.pin.when_changed = self._edge
        except (GPIOZeroError, OSError) as error:
            raise DeviceError(
                f"GPIO {self._pin} cannot be used ({error}): install python3-lgpio, and see that the service's "
                "user has the group gpio and no other program the pin"
            ) from None
        thread = threading.Thread(target=self._wait, args=(device,), name="contact", daemon=True)
        thread.start()
        self._opened.callback(thread.join, 1.0)
        self._opened.callback(self._end)
        if kind == "sim":
            from services.simulators.button import Finger

            self._opened.enter_context(Finger(Path(where), device.pin))

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _edge(self, moment: float, state: float) -> None:
        """Take an edge with the kernel's time stamp of it; a low level is a closed contact."""
        with self._changed:
            if self._contact.edge(moment, closed=not state) and self._contact.closed:
                self._pressed()
            self._told_at = time.monotonic()
            self._changed.notify()

    def _wait(self, device: Any) -> None:
        """Look again when the contact has had its rest: what is closed then is a press."""
        with self._changed:
            while not self._ended:
                if self._contact.due is None:
                    self._changed.wait()
                elif (left := self._told_at + self._rest - time.monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    edge_at = self._contact.edge_at
                    if device.is_active != self._contact.level:  # its edge is on its way
                        self._contact.edge(edge_at, closed=device.is_active)
                    elif self._contact.settle(edge_at + self._rest) and self._contact.closed:
                        self._pressed()
