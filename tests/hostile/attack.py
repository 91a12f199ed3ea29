"""Somebody with a user's password, and no good intention."""

import contextlib
import socket
import ssl
import threading
import time
from collections import Counter

from tests.hostile import packets
from tests.hostile.words import HARMFUL, Words


class Attacker(threading.Thread):
    """Sends as one user of the broker, under a client id of its own, until it is told to end."""

    def __init__(self, user: str, password: str, port: int, ca: str, *, words: Words, rate: float) -> None:
        """`rate` is in messages a second."""
        super().__init__(daemon=True, name=user)
        self.done: Counter[str] = Counter()
        self._user, self._password, self._port, self._words, self._pause = user, password, port, words, 1 / rate
        self._context = ssl.create_default_context(cafile=ca)
        self._end = threading.Event()

    def end(self) -> None:
        """Have it end."""
        self._end.set()

    def run(self) -> None:
        """Connect, send, be thrown out, and again."""
        while not self._end.is_set():
            try:
                with contextlib.closing(self._connected()) as line:
                    self._talk(line)
            except OSError:
                self.done["thrown out"] += 1
                self._end.wait(0.2)

    def _connected(self) -> ssl.SSLSocket:
        pick = self._words.random
        line = self._context.wrap_socket(
            socket.create_connection(("localhost", self._port), 5), server_hostname="localhost"
        )
        will = None
        if pick.random() < 0.5:
            topic, verb = self._words.topic(self._user)
            will = (
                topic.encode("utf-8", "replace"),
                self._words.payload(verb)[:60_000],
                pick.randrange(3),
                pick.random() < 0.5,
            )
        line.sendall(packets.connect(self._user, self._password, f"hostile_{self._user}", will))
        line.settimeout(5)
        if line.recv(4)[:1] != b"\x20":
            raise OSError("no CONNACK")
        self.done["connections"] += 1
        line.settimeout(0.0)
        return line

    def _talk(self, line: ssl.SSLSocket) -> None:
        pick = self._words.random
        for _ in range(pick.choice((3, 50, 500))):
            if self._end.wait(self._pause * pick.uniform(0, 2)):
                break
            what = self._packet()
            deadline = time.monotonic() + 5
            while what and time.monotonic() < deadline:
                self._drain(line)
                try:
                    what = what[line.send(what) :]
                except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    time.sleep(0.005)
        if pick.random() < 0.5:  # the will is spoken where no goodbye is said
            line.setblocking(True)
            line.settimeout(1)
            line.sendall(b"\xe0\x00")

    @staticmethod
    def _drain(line: ssl.SSLSocket) -> None:
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while line.recv(65536):
                pass

    def _packet(self) -> bytes:
        pick = self._words.random
        kind = pick.random()
        if kind < 0.04:
            self.done["subscriptions"] += 1
            return packets.subscribe([self._words.pattern() for _ in range(pick.choice((1, 1, 20)))], pick.randrange(3))
        if kind < 0.045:
            self.done["broken packets"] += 1
            return pick.randbytes(pick.randrange(1, 200))
        topic, verb = self._words.topic(self._user)
        self.done["requests" if verb else "messages"] += 1
        retain = pick.random() < 0.3
        payload = self._words.payload(verb)
        if verb in HARMFUL and retain and pick.random() < 0.5:
            payload = b""  # would be granted, were it not retained
        return packets.publish(
            topic.encode("utf-8", "replace"), payload, self._words.properties(), qos=pick.randrange(3), retain=retain
        )
