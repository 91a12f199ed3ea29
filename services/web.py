"""One page for the household: live values, charts, alerts and proof, on loopback unless told otherwise (docs/services/web.md)."""

import contextlib
import logging
import os
import time
from collections.abc import Mapping
from datetime import date
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from bootstrap_lib import Duration as Seconds
from bootstrap_lib import (
    InstanceOptions,
    Message,
    Needs,
    Problem,
    Reading,
    Registry,
    Sequence,
    StartError,
    Subscriber,
    Topic,
    as_json,
    secrets,
    state,
)
from services.notices import permit
from services.stores import last_backup, record_url

if TYPE_CHECKING:
    from services.page.house import PageHouse
    from services.page.server import PageServer

log = logging.getLogger(__name__)

SETTLE: Final = 2.0
"""Seconds after a connection in which the broker says what it keeps."""
QUIET: Final = 1.4
"""Seconds without a message after which the broker is asked whether it is still there."""
SILENT: Final = 3.5
"""Seconds without a message after which it is not: with the second between two looks the page is grey within five."""

SQLITE: Final = b"SQLite format 3\0"
"""How a database begins (sqlite.org/fileformat2.html, 1.3)."""


class Tariff(Struct, frozen=True, forbid_unknown_fields=True):
    """A price of one unit from a day on."""

    since: Annotated[str, Meta(description="First day, as 2026-01-01.", pattern=r"^\d{4}-\d\d-\d\d$")] = msgspec.field(
        name="from"
    )
    price: Annotated[float, Meta(description="What one unit costs.")]


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the page listens, and who may look."""

    every: Annotated[Seconds, Meta(description="How often it says that it lives; browsers turn grey without.")] = (
        Seconds(1)
    )
    listen: Annotated[str, Meta(description="Address that it listens on; 0.0.0.0 or :: for all.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535, description="Port that it listens on.")] = 8080
    names: Annotated[list[str], Meta(description="Names by which browsers reach it, besides this machine's.")] = (
        msgspec.field(default_factory=list)
    )
    look: Annotated[
        Literal["local", "anyone"], Meta(description="Who may look without a login: this machine only, or anyone.")
    ] = "local"
    trust: Annotated[
        list[str], Meta(description="Addresses of proxies whose Remote-User and X-Forwarded-… are believed.")
    ] = msgspec.field(default_factory=list)
    address: (
        Annotated[
            str,
            Meta(
                pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$",
                max_length=200,
                description="URL under which people reach it: messages link to it.",
            ),
        ]
        | None
    ) = None
    kiosk: Annotated[list[str], Meta(description="Topics that a kiosk shows large, six at most.", max_length=6)] = (
        msgspec.field(default_factory=list)
    )
    currency: Annotated[str, Meta(description="What prices are in.", max_length=5)] = "€"
    tariffs: Annotated[dict[str, list[Tariff]], Meta(description="What a unit of a meter's topic costs, by day.")] = (
        msgspec.field(default_factory=dict)
    )


class Web(Subscriber):
    """The page that a household leaves open."""

    NEEDS: ClassVar = Needs(
        extra="web",
        libraries=("starlette", "uvicorn"),
        network="house",
        listens=("port", 8080),
        rights=(
            "read {root}/alert/#",
            "read {root}/notify/#",
            "read {root}/service/+/log",
            "read {root}/service/+/stored/+",
            "read {root}/service/+/response/#",
            "write {root}/service/+/request/acknowledge",
            "write {root}/service/+/request/snooze",
            "write {root}/service/+/request/why",
            "write {root}/service/+/request/pause",
            "write {root}/service/+/request/resume",
            "write {root}/service/+/request/read",
            "write {root}/service/+/request/reload",
            "write {root}/service/+/request/meters",
        ),
        simulator="services.simulators.staging:page",
    )

    options: Options
    BATCH, SESSION = 2000, 0

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Return what is wrong with the options, and the topics that they name."""
        problems = super().check(registry, name)
        if problems:
            return problems
        options = registry.options_of(name, Options)
        place = registry.instances[name].section, name
        for key, topics in (("kiosk", options.kiosk), ("tariffs", list(options.tariffs))):
            problems += [
                registry.document.problem((*place, key), f"topics.yaml has no topic '{topic}'")
                for topic in topics
                if topic not in registry.topics
            ]
        for topic, tariffs in options.tariffs.items():
            if topic in registry.topics and (kind := registry.topics[topic].kind) != "counter":
                sentence = f"a {kind} counts nothing that costs: a tariff is for a counter"
                problems.append(registry.document.problem((*place, "tariffs", topic), sentence))
            for tariff in tariffs:
                try:
                    date.fromisoformat(tariff.since)
                except ValueError:
                    problems.append(
                        registry.document.problem((*place, "tariffs", topic), f"there is no day {tariff.since}")
                    )
        try:
            reached = options.address is None or ((found := urlsplit(options.address)).hostname and found.port != 0)
        except ValueError:
            reached = None
        if not reached:
            problems.append(
                registry.document.problem((*place, "address"), f"'{options.address}' is no address of a page")
            )
        for address in options.trust:
            try:
                ip_network(address, strict=False)
            except ValueError:
                problems.append(registry.document.problem((*place, "trust"), f"'{address}' is no address"))
        return problems

    @classmethod
    def cost(cls, registry: Registry, name: str) -> list[str]:
        """Say where people can log in by passkey, and what hinders them elsewhere."""
        from services.page.passkey_verifier import is_installed
        from services.page.passkeys import hindrance

        if not is_installed():
            said = "none, for their library is not installed: pip install 'constellation[passkeys]'"
        else:
            address = urlsplit(registry.options_of(name, Options).address or "")
            offered = hindrance(address.scheme, address.hostname or "") is None
            elsewhere = f"at https://{address.hostname}" if offered else "by TLS and a name (`address: https://NAME`)"
            said = f"at http://localhost, elsewhere {elsewhere}"
        return [*super().cost(registry, name), f"passkeys: {said}"]

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; nothing is opened yet."""
        super().__init__(registry, name)
        self._heard_at = self._settled_at = self._answered_at = 0.0
        self._gone_since: int | None = None
        self._told: dict[str, tuple[str, ...]] = {}

    def begin(self) -> None:
        """Open what is kept, and listen."""
        super().begin()
        self._gone_since = self.clock.now()
        from services.page.awaited import Awaited

        self.awaited = Awaited(self.name)
        self.page = self._open()
        self.opened.callback(self.page.diary.close)
        self.server = self._listen(self.page)
        self.opened.callback(self.server.stop)

    def _open(self) -> "PageHouse":
        from services.page.diary import Diary
        from services.page.gate import Gate
        from services.page.house import PageHouse
        from services.page.live import Live
        from services.page.passkeys import Passkeys
        from services.page.past import Past
        from services.page.permits import Permits

        options = self.options
        gate = Gate(self.state_folder, self._people(), anyone=options.look == "anyone", trust=options.trust)
        diary = Diary(self.state_folder / "diary.sqlite", self.clock.now())
        past = Past(self._archive())
        permits = Permits(self.state_folder, self._key())
        page = PageHouse(Live(self.registry), past, diary, gate, permits, options, self.clock.now, self._ask)
        page.gone = self._gone_since
        page.backup = self._backup
        page.passkeys = Passkeys(self.state_folder, gate)
        return page

    def _people(self) -> dict[str, str]:
        from services.page import people

        try:
            return people.read(secrets.resolve(f"secret:{people.SECRET}", lines=True))
        except secrets.MissingSecretError:
            return {}
        except secrets.SecretError as error:
            raise StartError(str(error)) from None

    @staticmethod
    def _key() -> str:
        """The key of links in messages; without one none is believed."""
        try:
            return permit.checked(secrets.resolve(f"secret:{permit.SECRET}"))
        except secrets.MissingSecretError:
            return ""
        except secrets.SecretError as error:
            raise StartError(str(error)) from None

    def _archive(self) -> Path | None:
        """File of the archive on this machine: beside our own folder, unless its options say another."""
        found = [one for one in self.registry.find("archive") if one.here]
        if not found:
            return None
        name = found[0].name
        beside = self.state_folder.parent / name
        folder = beside if self.state_folder.name == self.name else state.folder_of(name)
        return record_url.path_of(str(found[0].raw.get("url", record_url.DEFAULT)), folder)

    def _backup(self) -> Mapping[str, Any]:
        last, path = last_backup.read(self.state_folder.parent), self.page.past.path
        if last.taken:
            return {"backup": last.taken, "backup_bytes": last.bytes, "backup_tried": last.tried}
        with contextlib.suppress(OSError):
            if path is not None:
                with path.with_name("backup.sqlite").open(
                    "rb"
                ) as copy:  # the archive's own copy of itself, which nobody tried
                    stat = os.fstat(copy.fileno())
                    if copy.read(len(SQLITE)) == SQLITE:
                        return {"backup": round(stat.st_mtime * 1000), "backup_bytes": stat.st_size}
        return {}

    def _listen(self, page: "PageHouse") -> "PageServer":
        from services.page.server import PageServer
        from services.page.serving import listen_on

        options = self.options
        listener = listen_on(options.listen, options.port)
        known = urlsplit(options.address).hostname if options.address else None
        server = PageServer(page, [*options.names, *([known] if known else [])])
        server.start(listener)
        log.info("the page is at http://%s:%d", options.listen, options.port)
        return server

    def on_reloaded(self, changed: bool) -> None:
        """Take over topics and what the page shows of them; where it listens takes a restart."""
        with self.page.lock:
            new = self.page.live.take(self.registry)
            self.page.settings = self.options
        if (
            new and self.bus.online
        ):  # what was published of them before stands at the broker, and was nothing to us then
            self.bus.subscribe(f"{self.registry.root}/data/#", qos=1)
            self._answered_at = time.monotonic() + SETTLE
        if changed:
            log.warning("the options of %s changed: restart it if it shall listen elsewhere or to others", self.name)
        self._send("house", self.page.encoded())

    # -- what is heard ------------------------------------------------------------------------------------------

    @property
    def flush_every(self) -> float:
        """Seconds for which what changed is gathered for the browsers."""
        return 0.25

    def subscribe(self, session: bool) -> None:  # noqa: ARG002 (there never is one)
        """Ask for everything that stands at the broker."""
        root = self.registry.root
        with self.page.lock:
            self.page.live.ask()
            self.page.ledger.ask()
        self._heard_at = time.monotonic()
        self._settled_at = self._answered_at = time.monotonic() + SETTLE
        for pattern in (
            *(f"{root}/service/+/{what}" for what in ("status", "health", "log", "response/+", "stored/+")),
            f"{root}/alert/+",
            f"{root}/notify/+",
            f"{root}/notify/+/answer",
            f"{self.prefix}/echo",
        ):
            self.bus.subscribe(pattern, qos=1 if "/status" in pattern or "/alert/" in pattern else 0)

    def on_message(self, message: Message) -> bool:
        """Come back to the loop with each message, for what it changes is told soon, not when the next second begins."""
        super().on_message(message)
        return True

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:
        """Show a reading."""
        self._heard_at = time.monotonic()
        page = self.page
        with page.lock:
            page.live.read(reading)
            page.ledger.read(topic.source, reading.sequence, reading.time, self.clock.now())

    def on_cleared(self, name: str, sequence: Sequence | None) -> None:  # noqa: ARG002 (for stores)
        """Show that nobody can measure it any more."""
        self._heard_at = time.monotonic()
        with self.page.lock:
            self.page.live.clear(name, self.clock.now())

    def on_other(self, message: Message) -> None:
        """Take what services, alerts and notifiers say."""
        self._heard_at = time.monotonic()
        _, kind, name, *what = message.topic.removeprefix(self.registry.root).split("/")
        now, page = self.clock.now(), self.page
        with page.lock:
            match kind, what:
                case "service", ["status" | "health" as part]:
                    page.live.hear(name, part, message.payload, now)
                    if part == "health" and (facts := page.live.services.get(name)) and facts.health:
                        page.ledger.hear(name, facts.health, now)
                case "service", ["response", "resend"]:
                    page.ledger.resent(name)
                case "service", ["log"]:
                    page.live.tell(name, message.payload, now)
                    self._send("log", as_json(page.live.log[0]) if page.live.log else b"null")
                case "service", ["stored", source] if self._is_archive(name) and source in page.live.services:
                    with contextlib.suppress(ValueError):
                        mark = msgspec.json.decode(message.payload, type=dict[str, Any])
                        page.ledger.mark(source, str(mark.get("stream")), int(mark.get("after", 0)), now)
                case "alert", []:
                    page.live.alarm(name, message.payload)
                    page.diary.note(name, page.live.alerts.get(name, {}), now)  # nothing: its rule is no more
                case "notify", []:
                    self._note_notice(name, message.payload)
                case "notify", ["answer"]:
                    self._note_answer(name, message.payload)
        if kind == "service" and what[:1] == ["response"]:
            self.awaited.take(message.payload)

    def _note_notice(self, identity: str, payload: bytes) -> None:
        with contextlib.suppress(ValueError):
            notice = msgspec.json.decode(payload, type=dict[str, Any])
            names = tuple(str(name) for name in notice.get("rules", ()))[:50]
            self._told[identity] = names
            while len(self._told) > 200:  # noqa: PLR2004 (messages of which an answer is awaited)
                del self._told[next(iter(self._told))]
            self.page.diary.step(list(names), self.clock.now(), "told", str(notice.get("notify", "")))

    def _note_answer(self, identity: str, payload: bytes) -> None:
        with contextlib.suppress(ValueError):
            answer = msgspec.json.decode(payload, type=dict[str, Any])
            kind = "delivered" if answer.get("state") == "delivered" else "failed"
            text = f"{answer.get('notifier', '')} {answer.get('text', '')}".strip()
            self.page.diary.step(list(self._told.get(identity, ())), self.clock.now(), kind, text)

    # -- what is told -------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Tell the browsers what changed."""
        with self.page.lock:
            changes = self.page.live.changes()
        for name, content in changes:
            self._send(name, as_json({"now": self.clock.now(), name: content}))

    def on_tick(self) -> None:
        """Tell the browsers that this loop turns, and whether the broker does."""
        now = time.monotonic()
        if self.bus.online and now - self._heard_at > QUIET:
            self.bus.publish(f"{self.prefix}/echo", b"")
        if self._answered_at and now >= self._answered_at:
            self._settle()
        self._look_at_broker(now)
        with self.page.lock:
            count = self.page.live.take_count()
        self._send("tick", as_json({"now": self.clock.now(), "gone": self._gone_since, "count": count}))
        self.flush()
        if not self.server.alive:
            raise RuntimeError("the web server ended, which it never should")

    def _settle(self) -> None:
        self._settled_at = self._answered_at = 0.0
        known: dict[str, int] = {}
        with self.page.lock:
            unheard = [name for name, stand in self.page.live.values.items() if stand.asked and not stand.time]
        if unheard:
            from services.page.past import PastAway

            with contextlib.suppress(PastAway):
                known = self.page.last_times(unheard)
        with self.page.lock:
            live = self.page.live
            live.answered(known, self.clock.now())
            if all(one.status == "online" for one in live.services.values() if one.service == "alerts"):
                self.page.diary.settle(live.alerts.keys(), self.clock.now())  # else nobody has said what fires
        self._send("house", self.page.encoded())

    def _look_at_broker(self, now: float) -> None:
        gone = not self.bus.online or self._settled_at > 0.0 or now - self._heard_at > SILENT
        if gone == (self._gone_since is not None):
            return
        self._gone_since = self.clock.now() - round((now - self._heard_at) * 1000) if gone else None
        self.page.gone = self._gone_since
        if not gone:
            self._send("house", self.page.encoded())

    def _send(self, name: str, content: bytes) -> None:
        from services.page.listeners import event

        self.server.listeners.send_from(event(name, content))

    # -- requests of people -------------------------------------------------------------------------------------

    async def _ask(self, instance: str, verb: str, arguments: dict[str, Any]) -> Any:
        """Ask a service in somebody's name, from the server's thread; Refusal where it does not answer, or refuses."""
        from services.page.answers import Refusal

        who = arguments.pop("by")
        facts = self.page.live.services.get(instance)
        if self._gone_since is not None:
            raise Refusal(503, "there is no word from the broker", "broker")
        if facts is None or facts.status != "online":
            raise Refusal(503, f"{instance} does not run", "instance")
        if verb != "why":
            log.info("%s asks %s to %s %s", who, instance, verb, _without_keys(arguments) or "")
        topic = f"{self.registry.root}/service/{instance}/request/{verb}"

        def send(identity: str) -> None:
            self.bus.publish(
                topic, as_json(arguments | {"id": identity})
            )  # at QoS 0: none waits for a broker that is away

        return await self.awaited.ask(send, instance, verb)

    def _is_archive(self, name: str) -> bool:
        return any(one.name == name for one in self.registry.find("archive"))

    def on_beat(self) -> None:
        """Tell health who looks."""
        listeners = self.server.listeners
        self.health.extra["viewers"] = {"now": len(listeners), "dropped": listeners.dropped}
        diary, told = self.page.diary.file, self.health.extra.pop("diary", None)
        diary.heal()
        if (trouble := diary.trouble) is not None:
            self.health.extra["diary"] = trouble
            if told is None:
                self.error(trouble)


def _without_keys(arguments: dict[str, Any]) -> dict[str, Any]:
    """What a log may show of a request: of meters their numbers."""
    meters = arguments.get("meters")
    return arguments | ({"meters": [meter.get("deviceId") for meter in meters]} if meters else {})
