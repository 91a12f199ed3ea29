"""A JBD module's lock: nothing passes to the battery before the app's password was right (services/protocols/jbd/password.py)."""

from __future__ import annotations

import random
from typing import Final

from services.protocols.jbd import password

APP_PASSWORD: Final = "123456"  # noqa: S105 (of a simulated battery)


class Lock:
    """Speaks for the module until it is open; it is closed again with the link."""

    def __init__(self, address: str) -> None:
        self.open = False
        self._address = address
        self._known: set[int] = set()
        self._random = 0

    def answer(self, request: bytes) -> bytes | None:
        """Answer a request to the module; None for everything else, which stays unheard."""
        if request[:2] != b"\xff\xaa" or request != password.module_frame(request[2], request[4:-1]):
            return None
        command, data = request[2], request[4:-1]
        if command == password.RANDOM:
            self._random = random.randrange(256)
            return password.module_frame(command, bytes((self._random,)))
        wanted = {
            password.APP_KEY: password.KEY_OF_APP,
            password.PASSWORD: password.hidden(APP_PASSWORD.encode(), self._address, self._random),
            password.MAKERS: password.hidden(password.PASSWORD_OF_MAKER, self._address, self._random),
        }.get(command)
        right = data == wanted and (command != password.MAKERS or password.PASSWORD in self._known)
        if right:
            self._known.add(command)
        self.open = right and command == password.MAKERS
        return password.module_frame(command, bytes((not right,)))
