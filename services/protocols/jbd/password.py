"""The password of JBD's app, which Bluetooth modules since 2023 may want before they let a request through to the battery.

    request   FF AA command length data sum          answer   FF AA command length data sum
    15 app key (000000)     -> 00 go on, 02 there is no password, 01 refused
    17                      -> a random byte, which hides the password that follows: ((address ^ letter) + random) modulo 256
    18 the app's password   -> 00 right, 01 wrong
    17, 1D the maker's own  -> 00 right, 01 wrong

The sum is that of command, length and data, modulo 256; the address is as people write it, and letters behind its six bytes are hidden
by the random byte alone. Sources: captures in syssi/esphome-jbd-bms, docs/ffaa-auth-flow, and its issues 94 and 148. Nothing here changes a
password.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Final

from services.protocols.battery import BatteryError, Frame
from services.protocols.jbd.frames import ModuleReply

APP_KEY: Final = 0x15
RANDOM: Final = 0x17
PASSWORD: Final = 0x18
MAKERS: Final = 0x1D
STEPS: Final = (APP_KEY, RANDOM, PASSWORD, RANDOM, MAKERS)

KEY_OF_APP: Final = b"000000"
PASSWORD_OF_MAKER: Final = b"JBDbtpwd!@#2023"
GOOD: Final = 0x00
NO_PASSWORD: Final = 0x02

REFUSED: Final = {
    APP_KEY: "The module refuses the app's key: it is of a kind that is not known here.",
    PASSWORD: "The module says that the app's password is wrong: put the right one into the battery's secret.",
    MAKERS: "The module refuses the maker's password: it is of a kind that is not known here.",
}


def module_frame(command: int, data: bytes = b"") -> bytes:
    """A request to the module, or its answer."""
    body = bytes((command, len(data))) + data
    return b"\xff\xaa" + body + bytes((sum(body) & 0xFF,))


def hidden(password: bytes, address: str, random: int) -> bytes:
    """A password as it is sent."""
    known = bytes.fromhex(address.replace(":", ""))[: len(password)]
    return bytes(((one ^ letter) + random) & 0xFF for one, letter in zip_longest(known, password, fillvalue=0))


class Unlocking:
    """What is said to a module with a password, once a link; it sends nothing and knows no time."""

    def __init__(self, address: str, password: str) -> None:
        """`address` is the module's Bluetooth address."""
        self._address, self._password = address, password.encode()
        self._steps = list(STEPS)
        self._random = 0

    def next_frame(self) -> bytes | None:
        """Return what is to be sent now, None when the module is open."""
        if not self._steps:
            return None
        step = self._steps[0]
        secret = {APP_KEY: KEY_OF_APP, RANDOM: b""}.get(step)
        if secret is None:
            own = self._password if step == PASSWORD else PASSWORD_OF_MAKER
            secret = hidden(own, self._address, self._random)
        return module_frame(step, secret)

    def take(self, reply: Frame) -> bool:
        """Take what the module said; True when the open step is done with. BatteryError where it refuses."""
        if not isinstance(reply, ModuleReply) or not self._steps or reply.command != self._steps[0] or not reply.data:
            return False
        step, said = self._steps.pop(0), reply.data[0]
        if step == RANDOM:
            self._random = said
        elif step == APP_KEY and said == NO_PASSWORD:
            self._steps.clear()
        elif said != GOOD:
            raise BatteryError(REFUSED[step])
        return True
