"""How alerts become messages: what the operator says in topics.yaml, as the teller uses it."""

import re
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from bootstrap_lib import Duration, InstanceOptions
from services.alerting.people import People, Route
from services.alerting.rule import Rule, listed

QUIET: Final = r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"


class AlertOptions(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How alerts become messages."""

    every: Annotated[Duration, Meta(description="How often it looks at the time.")] = Duration(1)
    notify: Annotated[
        str | list[str], Meta(description="Who is told by rules that name nobody: the next notifier where one fails.")
    ] = msgspec.field(default_factory=list)
    people: Annotated[
        dict[str, str | list[str]], Meta(description="People, with their notifiers: the next where one fails.")
    ] = msgspec.field(default_factory=dict)
    groups: Annotated[dict[str, list[str]], Meta(description="Groups of people: all of them are told.")] = (
        msgspec.field(default_factory=dict)
    )
    settle: Annotated[Duration, Meta(description="After a connection, how long silence proves nothing.")] = Duration(60)
    gather: Annotated[Duration, Meta(description="What falls due within this time is one message.")] = Duration(5)
    fallback: Annotated[Duration, Meta(description="How long a notifier may take until the next is asked.")] = Duration(
        300
    )
    longest_snooze: Annotated[Duration, Meta(description="The longest snooze or maintenance that is granted.")] = (
        Duration(7 * 86400)
    )
    quiet: (
        Annotated[str, Meta(pattern=QUIET, description="Hours in local time in which people sleep: `22:00-07:00`.")]
        | None
    ) = None
    houses: Annotated[Path, Meta(description="Roster of a fleet: at its centre, rules speak of houses too.")] | None = (
        None
    )
    quiet_below: Annotated[int, Meta(ge=-1, le=2, description="Alerts of lesser priority wait for their end.")] = 1


class TellerSettings:
    """What the teller needs of the options and of who there is. Times in ms."""

    def __init__(
        self,
        options: AlertOptions | None = None,
        notifiers: tuple[str, ...] = (),
        timezone: tzinfo = UTC,
        known: tuple[str, ...] = (),
    ) -> None:
        """`notifiers` are tried in this order where nobody is named; `known` are all instances that can be told."""
        options = options or AlertOptions()
        self.gather, self.fallback = round(options.gather * 1000), round(options.fallback * 1000)
        self.notifiers, self.timezone = known or notifiers, timezone
        self._people = People(options.people, options.groups)
        self._default = listed(options.notify) or notifiers
        self._quiet = [int(part) for part in re.findall(r"\d+", options.quiet or "")]
        self._quiet_below = options.quiet_below

    def routes(self, rule: Rule, *, escalated: bool = False) -> tuple[Route, ...]:
        """Ways to those who are told by a rule; a house without notifiers has one to whoever listens."""
        found = self._people.routes(listed(rule.notify) or self._default)
        if escalated and rule.escalate:
            found = tuple(dict.fromkeys((*found, *self._people.routes((rule.escalate,)))))
        return tuple(route or ("",) for route in found)

    def channels(self, names: tuple[str, ...] = ()) -> tuple[Route, ...]:
        """Ways to those who bear these names, or to those who are told where nobody is named."""
        return tuple(route or ("",) for route in self._people.routes(names or self._default))

    def is_known(self, notifier: str) -> bool:
        """Whether there is such a notifier."""
        return not notifier or notifier in self.notifiers

    def is_quiet(self, priority: int, wall: int) -> bool:
        """Whether people sleep, and an alert of this priority waits."""
        if not self._quiet or priority >= self._quiet_below:
            return False
        moment = datetime.fromtimestamp(wall / 1000, self.timezone)
        now = moment.hour * 60 + moment.minute
        begin, end = self._quiet[0] * 60 + self._quiet[1], self._quiet[2] * 60 + self._quiet[3]
        return begin <= now < end if begin < end else now >= begin or now < end
