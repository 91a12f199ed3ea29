"""The device at the end of the wire: counts for each source, and knows which numbers were taken."""

import contextlib
import socketserver
import threading
import time
from collections import defaultdict
from pathlib import Path


class Device(socketserver.ThreadingUnixStreamServer):
    """Gives each source its own numbers.

    A number is *taken* when the source comes back for the next one, for it has kept it by then; the one that was answered
    last when a source was killed may or may not have been kept, nobody can tell (docs/durability.md).
    """

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        """Listen on a Unix socket."""
        self.given: dict[str, int] = defaultdict(int)
        self.taken: dict[str, dict[int, float]] = defaultdict(dict)
        """Numbers that were taken, and when (monotonic)."""
        self.silent = False
        """Whether it answers no more."""
        self.lock = threading.Lock()
        super().__init__(str(path), _Conversation)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Conversation(socketserver.StreamRequestHandler):
    server: Device

    def handle(self) -> None:
        name = self.rfile.readline().decode().strip()
        number = None
        while self._is_asked():
            if self.server.silent:
                return
            with self.server.lock:
                if number is not None:
                    self.server.taken[name][number] = time.monotonic()
                self.server.given[name] += 1
                number = self.server.given[name]
            with contextlib.suppress(OSError):
                self.wfile.write(f"{number}\n".encode())

    def _is_asked(self) -> bool:
        try:
            return bool(self.rfile.readline())
        except OSError:  # killed in the middle
            return False
