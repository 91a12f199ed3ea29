"""Which topics of the centre's broker are of which house, and what is done with a message on each of them."""

from collections.abc import Callable, Collection, Iterator

from bootstrap_lib import Bus, Message
from services.fleet.centre import Centre
from services.fleet.remote_house import RemoteHouse
from services.fleet.wire import FLEET_ROOT


class Routing:
    """Topics of one shard. A house's own lie below its name, as its bridge puts them there; those of `local` below its root."""

    def __init__(self, root: str, local: str | None, known_as: str) -> None:
        """`root` is the one of the house that this is, `known_as` the store for whom archives replay."""
        self._root, self._local, self._known_as = root, local, known_as

    def prefix_of(self, name: str) -> str:
        """What stands before `data/` and `service/` in the topics of a house."""
        return self._root if name == self._local else f"{name}/{FLEET_ROOT}"

    def _patterns(self, name: str) -> Iterator[str]:
        prefix = self.prefix_of(name)
        archive = f"{prefix}/service/archive"
        yield f"{prefix}/service/registry"
        yield f"{archive}/replay/{self._known_as}"
        yield f"{archive}/response/replay"
        yield f"{archive}/response/counts"
        yield f"{prefix}/service/+/answer/+"
        yield f"{prefix}/data/#"
        if name != self._local:
            yield f"{name}/link"

    def subscribe(self, bus: Bus, names: frozenset[str] | None) -> None:
        """Hear houses, their registries first; None for all there are."""
        for name in [self._local] if self._local else ["+"] if names is None else sorted(names):
            for pattern in self._patterns(name):
                bus.subscribe(pattern, qos=1)

    def concerns(self, topic: str, names: Collection[str]) -> bool:
        """Whether a topic is of one of these houses, or of the house that this is."""
        return topic.partition("/")[0] in names or bool(self._local)

    def leave(self, bus: Bus, name: str) -> None:
        """Hear a house no more."""
        for pattern in self._patterns(name):
            bus.unsubscribe(pattern)

    def deal(
        self,
        centre: Centre,
        message: Message,
        now: int,
        compare: Callable[[RemoteHouse, Message], None],
        answered: Callable[[Message], None],
    ) -> None:
        """Take a message of a house; `compare` takes an archive's counts, `answered` what its services answer to people here.

        Poison and ReadingError say what is wrong with it.
        """
        name, _, rest = message.topic.partition("/")
        if self._local and name == self._root:
            house = centre.house(self._local, self._root, now)
        else:
            house = centre.house(name, self.prefix_of(name), now)
            if rest == "link":
                _linked(centre, house, message, now)
                return
            rest = rest.removeprefix(f"{FLEET_ROOT}/")
        kind, _, name = rest.partition("/")
        if kind == "data":
            centre.take(house, name, message, now)
        elif "/answer/" in name:
            answered(message)
        elif name == "registry":
            centre.take_registry(house, message)
        elif name == "archive/response/counts":
            compare(house, message)
        elif name == "archive/response/replay":
            centre.filling.take_answer(house, message)
        else:
            centre.take_page(house, message, now)


def _linked(centre: Centre, house: RemoteHouse, message: Message, now: int) -> None:
    """Hear that a house's bridge came or went: what it queued may be gone, so its last hours are compared."""
    house.linked = message.payload == b"1"
    if house.linked and not message.retained:
        centre.filling.wake(house.name)
        centre.compare(house, now)
