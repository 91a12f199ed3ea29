"""Connections that can be cut: a server that sends its answer a byte at a time never runs into a timeout."""

import socket
import weakref
from contextlib import suppress
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.poolmanager import PoolManager


class Wire(HTTPAdapter):
    """What a session of requests sends over; whoever has waited long enough cuts it from another thread."""

    def __init__(self) -> None:
        """Mount it for both schemes."""
        self._connections: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()
        super().__init__()

    def init_poolmanager(self, *given: Any, **options: Any) -> None:
        """Have connections that are known here."""
        super().init_poolmanager(*given, **options)
        self._follow(self.poolmanager)

    def proxy_manager_for(self, *given: Any, **options: Any) -> PoolManager:
        """Have them also where there is a proxy."""
        manager: PoolManager = super().proxy_manager_for(*given, **options)
        self._follow(manager)
        return manager

    def _follow(self, manager: PoolManager) -> None:
        known = self._connections

        class Plain(HTTPConnection):
            def __init__(self, *given: Any, **options: Any) -> None:
                super().__init__(*given, **options)
                known.add(self)

        class Secure(HTTPSConnection):
            def __init__(self, *given: Any, **options: Any) -> None:
                super().__init__(*given, **options)
                known.add(self)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    def cut(self) -> None:
        """End what is being sent and read: whoever waits for it gets an error."""
        for connection in list(self._connections):
            with suppress(OSError):
                if isinstance(line := connection.sock, socket.socket):
                    line.shutdown(socket.SHUT_RDWR)
