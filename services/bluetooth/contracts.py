"""What the parts of a Bluetooth link ask of one another, so that each stands on what it uses and none in a circle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.bluetooth import Battery, Deadlines, Statistics
    from services.bluetooth.bluez import Bluez
    from services.bluetooth.loop import GLibLoop
    from services.protocols.battery import Value


class Links(Protocol):
    """All links, as one of them and its adapter see them."""

    loop: GLibLoop
    bluez: Bluez
    deadlines: Deadlines
    may_power_cycle: bool
    deliver: Callable[[str, dict[str, Value]], None]
    report: Callable[[str, str], None]


class LinkOfSession(Protocol):
    """A link, as its adapter and its session see it: whom they tell what has happened."""

    battery: Battery
    deadlines: Deadlines
    statistics: Statistics
    session: Any
    known: bool

    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def healthy(self) -> bool: ...  # noqa: D102
    @property
    def path(self) -> str: ...  # noqa: D102
    def guard(self, action: Callable[..., None], *values: Any) -> None: ...  # noqa: D102
    def suspend(self, reason: str) -> None: ...  # noqa: D102
    def resume(self) -> None: ...  # noqa: D102
    def connect(self) -> None: ...  # noqa: D102
    def fail(self, reason: str) -> None: ...  # noqa: D102
    def connect_returned(self) -> None: ...  # noqa: D102
    def connect_failed(self, error: Any) -> None: ...  # noqa: D102
    def properties_told(self, properties: Any) -> None: ...  # noqa: D102
    def call_failed(self, error: Any) -> None: ...  # noqa: D102
    def services_resolved(self) -> None: ...  # noqa: D102
    def objects_told(self, objects: Any) -> None: ...  # noqa: D102
    def lost(self) -> None: ...  # noqa: D102
    def receive(self, characteristic: Any, value: bytes) -> None: ...  # noqa: D102


class AdapterOfLink(Protocol):
    """An adapter, as a link sees it: it gives turns to connect."""

    path: str

    def session(self, link: LinkOfSession) -> Any: ...  # noqa: D102
    def take_turn(self, link: LinkOfSession) -> None: ...  # noqa: D102
    def release(self, link: LinkOfSession) -> None: ...  # noqa: D102
    def arrange_scan(self) -> None: ...  # noqa: D102
    def escalate(self, link: LinkOfSession) -> None: ...  # noqa: D102
