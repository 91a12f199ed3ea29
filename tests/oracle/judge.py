"""Random histories, and what must be true of them at the phone's end. One rule of DESIGN section 8 after the other."""

import random
import re
from typing import TYPE_CHECKING

from services.alerting.told import OFTEN
from services.notices.emergencies import POLL
from services.notices.notice import Notice
from tests.oracle.world import ESCALATE, FALLBACK, GATHER, HOLD_OFF, PAUSE, SECOND, SETTLE, World

if TYPE_CHECKING:
    from collections.abc import Callable

MARGIN = 6
QUICK = SETTLE + GATHER + HOLD_OFF + MARGIN
"""Seconds after which something must have been told where nothing was in the way for long."""
PATIENCE = SETTLE + GATHER + HOLD_OFF + 4 * FALLBACK + 2 * PAUSE + MARGIN
"""Seconds after which something that could be told must have been."""
FOR = {"cause": 3, "burn": 0, "slow": 2}


class Broken(AssertionError):
    """A rule that does not hold."""


def kind_of(notice: Notice) -> str:
    """What a message tells, by what people read."""
    title = notice.title
    if title.startswith(("Came and went: ", "Flapped: ")) or title.endswith(("came and went", "all over")):
        return "went"
    if title.startswith("Over: ") or title.endswith(" over"):
        return "over"
    return "still" if title.startswith("Still: ") else "fires"


def names_of(notice: Notice) -> list[str]:
    """Which alerts it speaks of."""
    if kind_of(notice) == "over":
        return [line.split(":")[0].lower() for line in notice.text.splitlines()]
    return list(notice.rules)


class History:
    """One life of the house, and what an observer holds against it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = World(self.chance)
        self.standing: dict[str, set[str]] = {"pushover": set(), "mail": set(), "bob": set()}
        self.seen = {"pushover": 0, "mail": 0, "bob": 0}
        self.published = 0
        self.ids: set[str] = set()
        self.since: dict[str, int | None] = {}
        """Since when each rule's topic is bad without a break, with a reading each second."""
        self.slept = 0
        """When people went to bed."""
        self.free = self.world.at
        """Since when nothing keeps people from being told but a kill of the service."""
        self.trouble = False
        """Whether a notifier or the broker died: then a phone may have what nobody knows of."""
        self.down = 0
        self.away = self.night = self.world.at
        """When the service or the broker was away last, and when people slept last."""
        self.snoozed: dict[str, int] = {}
        self.rests: dict[str, int] = {}
        """Until when a name may be snoozed: the service keeps that also when the rule looks at another topic or is renamed and back."""
        self.snoozed_at: dict[str, int] = {}
        self.acknowledged: set[str] = set()
        self.mentioned: dict[str, int] = {}
        self.heard: dict[str, int] = {}
        """Since when each alert stands on a phone."""
        self.ends: list[int] = []
        """When phones showed that the emergency is over."""
        self.first_asked = 0
        """When somebody was first asked to tell of what escalates."""
        self.owed: dict[str, int] = {}
        self.explained = 0
        """When the explaining rule may have fired last."""

    # -- what happens -------------------------------------------------------------------------------------------

    def live(self, acts: int = 30) -> None:
        """Live, calm down, and settle all accounts; Broken names the rule that did not hold."""
        for _ in range(acts):
            self._act()
            for _ in range(self.chance.choice((1, 1, 2, 3, 5, 9))):
                self._second()
        self._calm()
        for _ in range(PATIENCE + 30):
            self._second()
        for phone, names in self.standing.items():
            if names:
                raise Broken(f"2: {phone} was never told that {names} is over")
        for name, since in self.owed.items():
            if self.mentioned.get(name, 0) < since:
                raise Broken(f"4: {name} fired at {since} and nobody was ever told")
        if self.world.desk.teller.outbox.waiting:
            raise Broken("2: a message is still on its way")

    def _calm(self) -> None:
        world = self.world
        world.start()
        world.bad = dict.fromkeys(world.bad, False)
        world.silent = dict.fromkeys(world.silent, False)
        world.clock, world.quiet = "good", False
        world.take_rules()
        for phone in world.phones:
            phone.up, phone.network = True, "good"
        world.desk.teller.snooze([world.hot, "cause", "burn", "slow"], world.wall)
        self.snoozed.clear()
        self.rests.clear()

    def _act(self) -> None:
        acts: list[tuple[int, Callable[[], None]]] = [
            (12, self._bad), (10, self._good), (3, self._flap), (2, self._silent), (6, self._kill), (3, self._reload),
            (2, self._rename), (2, self._move), (3, self._clock), (3, self._network), (1, self._notifier), (1, self._broker),
            (3, self._snooze), (2, self._hours), (2, self._acknowledge), (3, self._brief), (1, self._quiet_but_flapping), (1, self._quiet_but_killed),
        ]  # fmt: skip
        self.chance.choices([act for _, act in acts], [weight for weight, _ in acts])[0]()

    def _topic(self) -> str:
        return self.chance.choice((self.world.topic, self.world.topic, "a/b/flue", "a/b/box"))

    def _bad(self) -> None:
        self.world.bad[self._topic()] = True

    def _good(self) -> None:
        self.world.bad[self._topic()] = False

    def _brief(self) -> None:
        topic = self._topic()
        self.world.bad[topic] = True
        for _ in range(self.chance.choice((1, 2, 8, 10))):
            self._second()
        self.world.bad[topic] = False

    def _flap(self) -> None:
        """The explaining rule begins again and again and never fires, or the emergency comes and goes."""
        topic = self.chance.choice(("a/b/flue", "a/b/box"))
        for n in range(self.chance.choice((4, 30))):
            self.world.bad[topic] = n % 3 == 0
            self._second()
        self.world.bad[topic] = False

    def _quiet(self) -> None:
        world = self.world
        world.start()
        world.bad, world.silent = dict.fromkeys(world.bad, False), dict.fromkeys(world.silent, False)
        for phone in world.phones:
            phone.up, phone.network = True, "good"
        for _ in range(PATIENCE + 2):
            self._second()

    def _quiet_but_flapping(self) -> None:
        """All is well but that it is hot and burns, and that the explaining rule only ever begins."""
        self._quiet()
        for n in range(50):
            self.world.bad |= {self.world.topic: True, "a/b/box": True, "a/b/flue": n % 3 > 0}
            self._second()
        self.world.bad["a/b/flue"] = False

    def _quiet_but_killed(self) -> None:
        """All is well but that it is hot, and that the service is killed every few seconds."""
        self._quiet()
        self.world.bad[self.world.topic] = True
        for _ in range(9):
            self.world.kill()
            self.world.start()
            for _ in range(4):
                self._second()

    def _silent(self) -> None:
        topic = self._topic()
        self.world.silent[topic] = not self.world.silent[topic]

    def _kill(self) -> None:
        for _ in range(self.chance.choice((1, 1, 4))):
            self.world.kill()
            for _ in range(self.chance.choice((0, 1, 2))):
                self._second()
            self.world.start()
            for _ in range(3):
                self._second()

    def _reload(self) -> None:
        if self.world.alive:
            self.world.take_rules()

    def _rename(self) -> None:
        if self.world.alive:
            self._forget()
            self.world.hot = "warm" if self.world.hot == "hot" else "hot"
            self.world.take_rules()

    def _move(self) -> None:
        if self.world.alive:
            self._forget()
            self.world.topic = "a/b/other" if self.world.topic == "a/b/water" else "a/b/water"
            self.world.take_rules()

    def _forget(self) -> None:
        for name in ("hot", "warm"):
            for record in (self.since, self.owed, self.snoozed):
                record.pop(name, None)
            self.acknowledged.discard(name)
        self.free = self.world.at

    def _clock(self) -> None:
        self.world.clock, self.world.stood = self.chance.choice(("good", "stands", "back")), self.world.wall

    def _network(self) -> None:
        self.chance.choice(self.world.phones).network = self.chance.choice(("good", "none", "refuses"))

    def _notifier(self) -> None:
        phone = self.chance.choice(self.world.phones)
        phone.up, self.trouble = not phone.up, True

    def _hours(self) -> None:
        """People go to bed, or get up."""
        if self.world.alive:
            self.world.quiet, self.slept = not self.world.quiet, self.world.at
            self.world.take_rules()

    def _broker(self) -> None:
        self.trouble, self.free, self.away = True, self.world.at, self.world.at
        self.since.clear()
        self.world.lose_broker()

    def _snooze(self) -> None:
        world, name = self.world, self.chance.choice((self.world.hot, "cause", "burn", "slow"))
        span = self.chance.choice((15, 40)) * SECOND
        if world.alive:
            self.snoozed[name], self.snoozed_at[name] = world.at + span, world.at
            self.rests[name] = world.at + span
            world.desk.teller.snooze([name], world.wall + span)
            world.desk.save(world.wall)
            self.owed.pop(name, None)

    def _acknowledge(self) -> None:
        world, name = self.world, self.chance.choice((self.world.hot, "burn"))
        if world.alive:
            self.acknowledged |= set(world.desk.teller.acknowledge([name], world.wall))
            world.desk.save(world.wall)

    # -- what is held against it --------------------------------------------------------------------------------

    def _second(self) -> None:
        world = self.world
        world.step()
        if not world.alive:
            self.down, self.away = self.down + 1, world.at
        if world.quiet:
            self.night = world.at
        self._know()
        self._judge_what_was_asked()
        for phone in (*world.phones, world.bob):
            for at, _, notice in phone.screen[self.seen[phone.name] :]:
                self._judge_what_was_shown(phone.name, at, notice)
            self.seen[phone.name] = len(phone.screen)
        self._judge_what_is_missing()
        self._judge_what_rings()

    def _know(self) -> None:
        """Follow the truth: since when each rule's topic is bad."""
        world = self.world
        if any(not phone.up or phone.network != "good" for phone in world.phones):
            self.free = world.at
        for name, topic in (
            (world.hot, world.topic),
            ("cause", "a/b/flue"),
            ("burn", "a/b/box"),
            ("slow", "a/b/box"),
        ):
            if world.silent[topic]:
                self.since[name] = None
            elif not world.bad[topic]:
                self.since[name] = None
                self.acknowledged.discard(name)
            elif self.since.get(name) is None:
                self.since[name] = world.at
                self.down = 0 if name == world.hot else self.down

    def _lasted(self, name: str) -> int:
        since = self.since.get(name)
        return -1 if since is None else (self.world.at - since) // SECOND

    def _judge_what_was_asked(self) -> None:
        """New messages: nothing that is snoozed, acknowledged or explained, and each emergency by itself."""
        world = self.world
        for at, identity, notice in world.asked[self.published :]:
            if identity in self.ids or notice.withdraw:
                continue
            self.ids.add(identity)
            kind = kind_of(notice)
            if "cause" in names_of(notice) and world.quiet and self.slept < at:
                raise Broken("9: people sleep, and cause can wait")
            if "slow" in names_of(notice) and notice.notify == "pushover" and kind == "fires":
                self.first_asked = self.first_asked or at
            for name in names_of(notice) if kind != "over" else ():
                if at < self.snoozed.get(name, 0):
                    raise Broken(f"6: {name} is snoozed, and speaks")
                if kind == "still" and name in self.acknowledged:
                    raise Broken(f"5: {name} is acknowledged, and repeated")
                if (
                    name == world.hot
                    and kind == "fires"
                    and self._lasted("cause") > FOR["cause"] + 2 + self.down
                    and at >= self.snoozed.get("cause", 0)
                    and at - self.heard.get("cause", at) > 2 * SECOND
                    and not self.trouble
                ):
                    raise Broken("1: what fires explains it, and it speaks")
            if notice.priority == 2 and len(names_of(notice)) != 1:
                raise Broken("5: an emergency is one of several in a message")
            if "burn" in names_of(notice) and kind == "fires" and notice.priority != 2:
                raise Broken("5: an emergency does not ring")
            flaps = "burn" in names_of(notice) and kind == "fires" and len(self.ends) >= OFTEN * len(world.phones)
            if flaps and at - self.ends[-1] < HOLD_OFF * SECOND and not self.trouble:
                raise Broken("4: an emergency that flaps has no hold-off")
        self.published = len(world.asked)

    def _judge_what_rings(self) -> None:
        world = self.world
        since = max(self.snoozed_at.get("burn", world.at), self.free, self.away)
        long = world.at < self.snoozed.get("burn", 0) and world.at - since > (POLL + 3) * SECOND
        if long and any(phone.emergencies.ringing for phone in world.phones):
            raise Broken("5: burn is snoozed, and rings")

    def _judge_what_was_shown(self, phone: str, at: int, notice: Notice) -> None:
        kind, other = kind_of(notice), "mail" if phone == "pushover" else "pushover"
        for name in names_of(notice):
            here, there = name in self.standing[phone], name in self.standing[other]
            self.mentioned[name] = at
            if kind == "fires":
                if here:
                    raise Broken(f"2: {phone} shows twice that {name} fires")
                if there and not self.trouble and phone != "bob":
                    raise Broken(f"2: both phones show that {name} fires")
                known = max(self.first_asked, self.snoozed.get(name, 0))
                told = (
                    "slow" in self.standing["pushover"]
                )  # else its phone is known not to be heard, and it counts from the fire
                if phone == "bob" and told and at - known < (ESCALATE - GATHER - 1) * SECOND:
                    raise Broken(f"9: bob is told of {name} {(at - known) // SECOND} s after others could know")
                self.standing[phone].add(name)
            elif kind == "still":
                if not here and name != "burn":
                    raise Broken(f"2: {phone} shows that {name} still fires, and never that it does")
                self.standing[phone].add(name)
            elif kind == "over":
                if not here:
                    raise Broken(f"2: {phone} shows the end of {name} without its begin")
                self.standing[phone].discard(name)
                self.first_asked = 0 if name == "slow" and phone == "pushover" else self.first_asked
            elif here:
                raise Broken(f"2: {phone} shows that {name} came and went, and that it fires")
            if name == "burn" and kind in ("over", "went"):
                self.ends.append(at)
            stands = any(name in names for names in self.standing.values())
            self.heard = {other: since for other, since in self.heard.items() if other != name or stands}
            if stands:
                self.heard.setdefault(name, at)
        if kind in ("fires", "still"):
            self._judge_values(at, notice)

    def _judge_values(self, at: int, notice: Notice) -> None:
        """Values are the newest that the service could know when it last could say so."""
        world = self.world
        if self.free == world.at or self.down:
            return
        for value in re.findall(r"(?:at\}|is) (\d+\.?\d*) ", notice.text):
            topic = next((topic for _, topic, said in world.heard if said == value), None)
            newer = [moment for moment, other, _ in world.heard if other == topic]
            own = next((moment for moment, _, said in world.heard if said == value), 0)
            bound = at - (FALLBACK + GATHER + MARGIN) * SECOND
            if any(own < moment < bound for moment in newer):
                raise Broken(f"3: {value} came {(at - own) // SECOND} s ago, and others since")

    def _judge_what_is_missing(self) -> None:
        world = self.world
        for name in (world.hot, "cause", "burn", "slow"):
            lasted, wanted = self._lasted(name), FOR.get(name, 6)
            quiet = world.at < self.rests.get(name, 0) + PATIENCE * SECOND
            quiet = quiet or (name == "cause" and world.at < self.night + PATIENCE * SECOND)
            explained = name == world.hot and self._explained_lately()
            if lasted > wanted + 2 and world.alive and not quiet and not explained and not self.down:
                self.owed.setdefault(name, self.since.get(name) or 0)
            told = any(name in names for names in self.standing.values())
            rang = max((at for phone in world.phones for at in phone.in_vain), default=0) if name == "burn" else 0
            waited = (world.at - max(rang, self.free, self.mentioned.get(name, 0))) // SECOND
            if (
                rang > max(self.since.get(name) or world.at, self.mentioned.get(name, 0))
                and told
                and waited > PATIENCE - FALLBACK
                and name not in self.acknowledged
                and not (quiet or self.trouble)
            ):
                raise Broken("5: an emergency rang in vain, and nobody rings again")
            calm = (world.at - self.free) // SECOND > PATIENCE
            if lasted > wanted + QUICK + 3 * self.down and calm and not told and not quiet and not explained:
                raise Broken(f"{1 if name == world.hot else 2}/6: {name} is so for {lasted} s, and nobody was told")

    def _explained_lately(self) -> bool:
        """Whether people may have heard of the explaining rule within the time that they may be left without word."""
        lasted, heard = self._lasted("cause"), "cause" in self.heard
        soon = FOR["cause"] - 1 <= lasted <= FOR["cause"] + GATHER + MARGIN
        if self.world.silent["a/b/flue"] or soon or (heard and lasted > 0):
            self.explained = self.world.at
        return self.world.at - self.explained <= (GATHER + MARGIN) * SECOND
