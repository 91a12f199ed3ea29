"""What a process asks of the service that it runs, and what it remembers for it between its starts."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Protocol

import msgspec

from bootstrap_lib.entries import InstanceOptions
from bootstrap_lib.events import Message
from bootstrap_lib.registry import Registry


class Remembered(msgspec.Struct):
    """What an instance remembers of itself between its starts; `paused` is a time in ms, or -1 for until resumed.

    `format` is that of its state folder (`stamp.FORMAT`), `version` the version that wrote there last.
    """

    format: int = 1
    version: str = ""
    start: int = 0
    known: int = 0
    paused: int = 0


class Work(Protocol):
    """What a process asks of the service that it runs; `bootstrap_lib.service.Service` says what each is for."""

    name: str
    prefix: str
    registry: Registry
    options: InstanceOptions
    state_folder: Path
    runtime_folder: Path
    stopping: str | None
    SESSION: ClassVar[int]
    BATCH: ClassVar[int]

    def load(self, registry: Registry) -> bool: ...
    def begin(self) -> None: ...
    def work(self) -> None: ...
    def end(self) -> None: ...
    def on_connected(self, session: bool) -> None: ...
    def on_message(self, message: Message) -> bool: ...
    def on_published(self, mid: int, refusal: str | None) -> None: ...
    def on_reloaded(self, changed: bool) -> None: ...
    def on_removed(self) -> None: ...
    def on_clock_set(self) -> None: ...
    def on_beat(self) -> None: ...
    def request_owners(self) -> Iterable[object]: ...
    def status(self) -> str: ...
