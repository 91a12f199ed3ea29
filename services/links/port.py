"""A serial port, or a TCP connection to what has one: bytes out, bytes in, never longer than a moment, one at a time."""

import contextlib
import errno
import fcntl
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, Self

MOMENT: Final = 0.2
"""Seconds after which whoever waits for bytes lets the loop turn."""
TURN: Final = 20.0
"""Seconds that another service may have the port."""
CONNECTING: Final = 3.0

Parity = Literal["N", "E", "O"]


class PortError(OSError):
    """The port cannot be used, or nobody answers on it; the text says what to look at."""


class SerialPort:
    """A serial port that several services may use: each takes it for a moment, the others wait (flock of the device)."""

    def __init__(self, path: Path, baud: int, parity: Parity = "N", stop: int = 1) -> None:
        """Open the port; PortError says why it cannot be."""
        import serial

        self.name = str(path)
        self.baud = baud
        try:
            self._serial: Any = serial.Serial(self.name, baud, parity=parity, stopbits=stop, timeout=0, write_timeout=2)
        except serial.SerialException as error:
            raise PortError(f"{path} {_trouble(error)}") from None
        except ValueError as error:
            raise PortError(f"{path} cannot be set up: {error}") from None

    def close(self) -> None:
        """Give the port back."""
        self._serial.close()

    def rest(self) -> None:
        """Keep the port between rounds: others take their turn on it."""

    @contextlib.contextmanager
    def turn(self, idle: Callable[[], None]) -> Iterator[Self]:
        """Have the port alone; PortError where another program does not give it away."""
        until = time.monotonic() + TURN
        handle = self._serial.fileno()
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise PortError(f"{self.name} is in use by another program") from None
                idle()
                time.sleep(0.01)
        try:
            yield self
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)

    def send(self, data: bytes) -> None:
        """Write bytes."""
        self._serial.write(data)

    def receive(self, seconds: float) -> bytes:
        """Return what has come, as soon as something has; nothing after `seconds`."""
        ready, _, _ = select.select([self._serial.fileno()], [], [], max(0.0, seconds))
        if not ready:
            return b""
        data: bytes = self._serial.read(4096)
        if not data:
            raise PortError(f"{self.name} is gone: plug the adapter in again")
        return data

    def fileno(self) -> int:
        """File descriptor, for a loop that waits for bytes."""
        return int(self._serial.fileno())


class TcpPort:
    """A TCP connection, made when it is needed; a device may have one only, so it is given back between rounds."""

    def __init__(self, host: str, port: int) -> None:
        self.name = f"{host}:{port}"
        self.baud = 115200
        self._address = (host, port)
        self._socket: socket.socket | None = None

    def close(self) -> None:
        """End the connection, and with it what is still under way."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def rest(self) -> None:
        """Give the connection back between rounds: many devices drop one that is idle, or have no other for anybody else."""
        self.close()

    @contextlib.contextmanager
    def turn(self, idle: Callable[[], None]) -> Iterator[Self]:
        """Have a connection; the loop turns while it is made."""
        idle()
        if self._socket is None:
            try:
                self._socket = self._connect(idle)
            except OSError as error:
                raise PortError(f"{self.name} cannot be reached: {error.strerror or error}") from None
            except UnicodeError:  # a name with a label that is empty or too long
                raise PortError(f"{self.name} cannot be reached: that is no host's name") from None
        try:
            yield self
        except BaseException:
            self.close()
            raise

    def _connect(self, idle: Callable[[], None]) -> socket.socket:
        until, trouble = time.monotonic() + CONNECTING, OSError("it has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(*self._address, type=socket.SOCK_STREAM):
            made = socket.socket(family, kind, protocol)
            try:
                made.setblocking(False)
                code = made.connect_ex(address)
                while code == errno.EINPROGRESS and not select.select([], [made], [], MOMENT)[1]:
                    idle()
                    if time.monotonic() > until:
                        raise TimeoutError(errno.ETIMEDOUT, "it does not answer")
                if code := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if code == errno.EINPROGRESS else code:
                    raise OSError(code, os.strerror(code))
                made.settimeout(CONNECTING)
            except OSError as error:
                made.close()
                trouble = error
            except BaseException:
                made.close()
                raise
            else:
                return made
        raise trouble

    def send(self, data: bytes) -> None:
        """Write bytes."""
        if self._socket:
            self._socket.sendall(data)

    def receive(self, seconds: float) -> bytes:
        """Return what has come, as soon as something has; nothing after `seconds`."""
        if self._socket is None or not select.select([self._socket], [], [], max(0.0, seconds))[0]:
            return b""
        data = self._socket.recv(4096)
        if not data:
            self.close()
            raise PortError(f"{self.name} ended the connection")
        return data


Port = SerialPort | TcpPort


def _trouble(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return "is not there: plug the adapter in, or choose another one with `constellation scan modbus`"
        case errno.EACCES:
            return "may not be opened: the service's user needs the group dialout"
        case errno.EAGAIN | errno.EBUSY:
            return "is in use by another program"
        case _:
            return f"cannot be used: {error}"
