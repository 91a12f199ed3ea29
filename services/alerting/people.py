"""Who is told: notifiers, people who have several, and groups of people. Nothing here does I/O."""

from collections.abc import Iterable, Iterator, Mapping

from services.alerting.rule import listed

Route = tuple[str, ...]
"""Notifiers that are asked one after the other until one has delivered; each route is told by itself."""


class People:
    """Names that stand for ways to people."""

    def __init__(
        self, people: Mapping[str, str | list[str]] | None = None, groups: Mapping[str, list[str]] | None = None
    ) -> None:
        """`people` have notifiers, the next where one fails; of `groups` everybody is told."""
        self._people = {name: listed(notifiers) for name, notifiers in (people or {}).items()}
        self._groups = {name: tuple(members) for name, members in (groups or {}).items()}

    def names(self) -> tuple[str, ...]:
        """Everybody, and every group."""
        return (*self._people, *self._groups)

    def routes(self, names: Iterable[str]) -> tuple[Route, ...]:
        """The routes of what stands in `notify`: the names are one, unless one of them is a group."""
        given = tuple(names)
        if any(name in self._groups for name in given):
            members = [member for name in given for member in self._groups.get(name, (name,))]
            return tuple(dict.fromkeys(self._chain(member) for member in members))
        return (tuple(dict.fromkeys(notifier for name in given for notifier in self._chain(name))),)

    def _chain(self, name: str) -> Route:
        return self._people.get(name, (name,))

    def problems(self, notifiers: Iterable[str]) -> Iterator[tuple[tuple[str, str], str]]:
        """Place and sentence of each name that stands for nobody, or for two things."""
        known = set(notifiers)
        for name, chain in self._people.items():
            if name in known or name in self._groups:
                yield ("people", name), f"'{name}' is a subscriber or a group too: give one another name"
            for notifier in chain:
                if notifier not in known:
                    yield ("people", name), f"no subscriber is named '{notifier}'"
        for name, members in self._groups.items():
            if name in known:
                yield ("groups", name), f"'{name}' is a subscriber too: give one another name"
            for member in members:
                if member not in known and member not in self._people:
                    yield ("groups", name), f"neither a person nor a subscriber is named '{member}'"
