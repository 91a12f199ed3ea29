"""One process of the constellation: its loop, heartbeat, requests, reload and end, the same for all.

Work, heartbeat and the sign of life for systemd are one act of one loop, in the main thread: what hangs stops all
three, and is restarted.
"""

import contextlib
import fcntl
import logging
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Final, Literal, get_args, get_origin, get_type_hints

import msgspec

from bootstrap_lib import state
from bootstrap_lib.bus import Bus, Connected, Disconnected, Event, Message, Published
from bootstrap_lib.clock import Clock
from bootstrap_lib.control import Control, Nothing, Request, RequestError
from bootstrap_lib.document import DocumentError, Problem, StartError
from bootstrap_lib.document import reason as reason_of
from bootstrap_lib.duration import Duration, describe
from bootstrap_lib.health import BEATS, Health
from bootstrap_lib.needs import Needs
from bootstrap_lib.notify import notify, reloading, watchdog_seconds
from bootstrap_lib.reading import as_json
from bootstrap_lib.registry import InstanceOptions, Registry
from bootstrap_lib.secrets import SecretError
from bootstrap_lib.spool import SpoolError

log = logging.getLogger(__name__)

BREATHS: Final = (4, 64)
"""Milliseconds that a woken loop waits for company, the second only in a rush of more than a thousand messages a second: else
the network thread and the loop wake each other for Python's lock at every message, at twice the cost (tests/bench/stores.py)."""

CROWD: Final = 1000
"""Messages in the inbox at which the network thread rests, so that the loop need not fight for Python's lock; a broker does not
always keep to our receive maximum (mosquitto 2.0.11)."""

PATIENCE: Final = 0.25
"""Seconds for which it rests at most: a loop that is held up by its store must not cost the connection."""

Level = Literal["debug", "info", "warning", "error"]


class LogLevel(msgspec.Struct, forbid_unknown_fields=True):
    """Payload of `request/log_level`: {"value":"debug","for":"10m"}."""

    value: Level
    span: Duration = msgspec.field(name="for", default=Duration(600))


class Remembered(msgspec.Struct):
    """What an instance remembers of itself between its starts; `paused` is a time in ms, or -1 for until resumed."""

    start: int = 0
    known: int = 0
    paused: int = 0


class Service:
    """What sources and subscribers have in common. Subclasses say what they do in `work` and the `on_…` methods."""

    options: InstanceOptions
    NEEDS: ClassVar[Needs] = Needs()

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance `name` of a registry; nothing is opened, sent or started yet."""
        self.registry, self.name = registry, name
        self.state_folder = state.folder_of(name)
        self.runtime_folder = state.runtime_folder_of(name)
        self.prefix = f"{registry.root}/service/{name}"
        self.stopping: str | None = None
        self._inbox: deque[Event | Literal["reload", "file", "stop", "round"]] = deque()
        self._asleep = False
        self._turn_of_network = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        self._next_beat = 0.0
        self._reload_at: float | None = None
        self._level_until: float | None = None
        self._full = False
        self._listening = False
        self.load(registry)

    # -- what subclasses offer ---------------------------------------------------------------------------------

    def load(self, registry: Registry) -> bool:
        """Take the options of a registry; DocumentError if they are wrong. True if something changed for us."""
        if self.name not in registry.instances:
            problem = Problem(str(registry.path), 1, "", f"no source or subscriber is named '{self.name}'")
            raise DocumentError([problem])
        options = registry.options_of(self.name, option_type(type(self)))
        changed = getattr(self, "options", None) != options
        self.options, self.registry = options, registry
        return changed

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Return what is wrong with an instance of this service in a registry, without opening anything."""
        try:
            registry.options_of(name, option_type(cls))
        except DocumentError as error:
            return list(error.problems)
        return []

    @classmethod
    def cost(cls, registry: Registry, name: str) -> Iterable[str]:  # noqa: ARG003 (for subclasses)
        """Say what the settings of an instance cost the SD card in a day, a line for each thing."""
        return ()

    @classmethod
    def owns(cls, registry: Registry, topic: str) -> bool:  # noqa: ARG003 (for subclasses)
        """Whether a retained topic (below the root) that NEEDS.keeps speaks of still has an owner."""
        return True

    def make_bus(self) -> Bus:
        """Build the connection to the broker."""
        return Bus(self.registry.broker, self.name, self.post, will=f"{self.prefix}/status")

    def begin(self) -> None:
        """Open what belongs to the process for all its life (spool, database)."""

    def work(self) -> None:
        """Do the service's work until `stopping`."""
        while not self.stopping:
            self.turn(self.options.every)

    def end(self) -> None:
        """Close what `begin` opened; called once, also after an error."""

    def on_connected(self, session: bool) -> None:
        """Subscribe and publish again what a broker without memory has lost (`session` is False then)."""

    def on_message(self, message: Message) -> bool:  # noqa: ARG002 (for subclasses)
        """Deal with a message that is no request; True if the loop should come back at once."""
        return False

    def on_published(self, published: Published) -> None:
        """Learn what became of a QoS 1 message."""

    def on_reloaded(self, changed: bool) -> None:
        """Take over a new topics.yaml; `changed` tells whether it changed anything for this instance."""

    def on_removed(self) -> None:
        """Take back what stands at the broker by our doing: topics.yaml no longer has this instance, the process ends."""

    def on_beat(self) -> None:
        """Complete `self.health` before it is sent; do what is done once a beat."""

    def status(self) -> str:
        """One line for `systemctl status`."""
        return self.health.state

    # -- the process --------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run to the end; returns the exit code. StartError if it cannot begin."""
        try:
            self._start()
            self.work()
        except SpoolError as error:
            raise StartError(str(error)) from None
        finally:
            self._finish()
        return 0

    def _start(self) -> None:
        for folder in (self.state_folder, self.runtime_folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StartError(
                    f"{folder} cannot be made ({reason_of(error)}): create it for this user, or set STATE_DIRECTORY and RUNTIME_DIRECTORY"
                ) from None
        self._hold_lock()
        self._state_file = self.state_folder / "instance.json"
        self.remembered = state.load(self._state_file, Remembered, Remembered())
        self.remembered.start += 1
        self._known_file = self.runtime_folder / "known.json"
        known = max(self.remembered.known, state.load(self._known_file, int, 0))
        self.clock = Clock(known=known, unknown=round(self.options.heartbeat * 1000))
        self.remember()
        self.health = Health(self.clock.now(), self.remembered.start, self.options.heartbeat)
        self._listen_to_signals()
        self.bus = self.make_bus()
        self.control = Control(self, self.bus, self.prefix)
        logging.getLogger().addHandler(_LogTopic(self))
        self.begin()
        try:
            self.bus.start()
        except (SecretError, OSError) as error:
            raise StartError(str(error)) from None
        self.health.enter("running", self.clock.now())
        self.beat()
        notify(READY=1, STATUS=self.status())
        log.info("started")

    def _hold_lock(self) -> None:
        self._lock = (self.state_folder / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(f"'{self.name}' runs already (it holds {self.state_folder}/lock): stop it first") from None

    def remember(self) -> None:
        """Write down what the next start must know; a full disk is no reason to stop."""
        if self.clock.trusted:  # also back, when a clock that was ahead has been set
            self.remembered.known = self.clock.now()
        try:
            state.save(self._state_file, self.remembered)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._state_file, reason_of(error))

    def _finish(self) -> None:
        notify(STOPPING=1, STATUS="stopping")
        if not hasattr(self, "bus"):
            return
        if self.bus.online:
            self.health.enter("stopping", self.clock.now())
            self.publish_health()
            self.bus.publish(f"{self.prefix}/status", b"offline", qos=1, retain=True)
        try:
            self.end()
        finally:
            self.bus.stop()
            self.remember()
            log.info("stopped: %s", self.stopping or "an error")

    # -- the loop -----------------------------------------------------------------------------------------------

    def post(self, event: Event | Literal["reload", "file", "stop", "round"]) -> None:
        """Hand an event to the loop, from any thread."""
        self._inbox.append(event)
        if self._asleep:
            self._asleep = False
            os.write(self._wake_write, b"\0")
        if len(self._inbox) == CROWD and isinstance(event, Message):
            os.write(self._wake_write, b"\0")
            self._turn_of_network.clear()
            self._turn_of_network.wait(PATIENCE)

    def turn(self, seconds: float, file: int | None = None) -> bool:
        """Let the loop turn for at most `seconds`; True as soon as the file descriptor can be read.

        Events are dealt with, beats are sent. Returns early when the process stops or there was news for the service.
        """
        deadline = time.monotonic() + seconds
        while not self.stopping:
            news = self._deal()
            now = time.monotonic()
            if now >= self._next_beat:
                self.beat()
            self._due(now)
            if news or now >= deadline:
                return False
            if self._sleep(min(deadline, self._next_beat, self._reload_at or deadline) - now, file):
                return True
        return False

    def _sleep(self, seconds: float, file: int | None) -> bool:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if file is not None:
            poll.register(file, select.POLLIN)
        self._turn_of_network.set()
        self._asleep = True
        ready = {} if self._inbox else dict(poll.poll(max(0.0, seconds) * 1000 + 0.5))
        self._asleep = False
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        if self._inbox:
            self._gather()
        return file in ready

    def _gather(self) -> None:
        """Let messages come in company, for longer while they rush in."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        for breath in BREATHS:
            before = len(self._inbox)
            if poll.poll(breath):
                os.read(self._wake_read, 4096)
                return
            if len(self._inbox) - before < breath:
                return

    def _deal(self) -> bool:
        news = False
        while self._inbox and not (news or self.stopping):
            event = self._inbox.popleft()
            match event:
                case Message():
                    try:
                        news = self._receive(event) or news
                    except RecursionError:  # JSON within JSON, thousands deep: no decoder's own error
                        self.error(f"{event.topic}: its content is nested too deeply to be read", event.topic)
                        log.warning("%s: its content is nested too deeply to be read", event.topic)
                case Published():
                    self.on_published(event)
                case Connected(session=session):
                    self._greet(session)
                case Disconnected():
                    self._listening, news = False, True
                case "stop" | "round":
                    news = True
                case "reload":
                    self.reload()
                    news = True
                case "file":
                    self._reload_at = time.monotonic() + 0.5
        return news

    def _receive(self, message: Message) -> bool:
        if "/request/" in message.topic and message.topic.startswith(
            (f"{self.prefix}/", f"{self.registry.root}/service/all/")
        ):
            self.health.counters["requests"] += 1
            self.control.handle(message)
            return True
        return self.on_message(message)

    def _greet(self, session: bool) -> None:
        for name in (self.name, "all"):
            self.bus.subscribe(f"{self.registry.root}/service/{name}/request/+", as_published=True)
        self.on_connected(session)
        self._listening = True
        self.bus.publish(f"{self.prefix}/status", b"online", qos=1, retain=True)
        self.publish_health()

    def _due(self, now: float) -> None:
        if self._reload_at is not None and now >= self._reload_at:
            self._reload_at = None
            self.reload(only_if_changed=True)
        if self._level_until is not None and now >= self._level_until:
            self._level_until = None
            logging.getLogger().setLevel(logging.INFO)

    def beat(self) -> None:
        """Say that the loop turns: to systemd, and on the health topic."""
        watchdog = watchdog_seconds()
        self._next_beat = time.monotonic() + min(
            self.options.heartbeat, watchdog / 2 if watchdog else self.options.heartbeat
        )
        self.clock.check()
        if self.clock.estimated:  # after a kill no time is used again, whatever the wall clock says then
            with contextlib.suppress(OSError):  # a full tmpfs ends nobody
                state.save(self._known_file, self.clock.now())
        self.bus.revive()
        self.on_beat()
        self.publish_health()
        notify(WATCHDOG=1, STATUS=self.status())

    def publish_health(self) -> None:
        """Publish the heartbeat, not before it listens: whoever sees it may ask. It expires when three beats fail to come."""
        if self.bus.online and self._listening:
            self.health.extra["clock"] = (
                "estimated" if self.clock.estimated else "trusted" if self.clock.trusted else "waiting"
            )
            expiry = max(1, round(BEATS * self.options.heartbeat))
            self.bus.publish(
                f"{self.prefix}/health", self.health.document(self.registry.digest), retain=True, expiry=expiry
            )

    def error(self, sentence: str, topic: str | None = None) -> None:
        """Count an error for health; whether it is worth a log line is the caller's to say."""
        self.health.error(sentence, self.clock.now(), topic)

    def keep(self, file: Path, value: object) -> None:
        """Write state down; a disk that takes nothing is counted, said once, and stops nobody."""
        try:
            state.save(file, value)
        except OSError as error:
            sentence = f"{file} cannot be written: {reason_of(error)}"
            self.error(sentence)
            if not self._full:
                log.error("%s; a restart will not know what it says", sentence)  # noqa: TRY400
            self._full = True
        else:
            self._full = False

    # -- signals and reload -------------------------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number, event in (
            (signal.SIGTERM, "stop"),
            (signal.SIGINT, "stop"),
            (signal.SIGHUP, "reload"),
            (signal.SIGIO, "file"),
        ):
            signal.signal(number, self._on_signal)
            self._signals[number] = event
        try:
            self._folder_watch = os.open(self.registry.path.parent or ".", os.O_RDONLY)
            fcntl.fcntl(
                self._folder_watch,
                fcntl.F_NOTIFY,
                fcntl.DN_MODIFY | fcntl.DN_CREATE | fcntl.DN_DELETE | fcntl.DN_RENAME | fcntl.DN_MULTISHOT,
            )
        except OSError as error:
            log.warning("changes of topics.yaml are not noticed (%s): reload with SIGHUP", reason_of(error))

    _signals: ClassVar[dict[int, str]] = {}

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        event = self._signals[number]
        if event == "stop":
            self.stopping = self.stopping or f"signal {signal.Signals(number).name}"
        self._inbox.append(event)  # type: ignore[arg-type]

    def reload(self, *, only_if_changed: bool = False) -> list[Problem]:
        """Read topics.yaml again; a wrong one is refused with its lines and the old one goes on."""
        reloading()
        problems: list[Problem] = []
        try:
            registry = Registry(self.registry.path)
            if only_if_changed and registry.digest == self.registry.digest:
                return []
            if self.name not in registry.instances:
                self.stopping = "topics.yaml no longer has it"
                self.registry = registry
                self.on_removed()
                return []
            if registry.broker != self.registry.broker:
                log.warning("the broker's settings changed: restart %s to use them", self.name)
            changed = self.load(registry)
        except DocumentError as error:
            problems = list(error.problems)
            self.error(str(problems[0]))
            log.error("topics.yaml is refused, the old one goes on: %s", "; ".join(map(str, problems)))  # noqa: TRY400
        else:
            log.info("topics.yaml is taken over%s", "" if changed else ", nothing changed here")
            self.on_reloaded(changed)
        finally:
            notify(READY=1, STATUS=self.status())
            self._next_beat = 0.0
        return problems

    # -- requests that everyone understands ---------------------------------------------------------------------

    def request_ping(self, _request: Request, _arguments: Nothing) -> dict[str, Any]:
        """Answer with the state, to show that the loop turns."""
        return {"state": self.health.state, "start": self.health.start}

    def request_reload(self, _request: Request, _arguments: Nothing) -> dict[str, Any]:
        """Read topics.yaml again."""
        if problems := self.reload():
            raise RequestError("; ".join(map(str, problems)))
        return {"registry": self.registry.digest}

    def request_stop(self, request: Request, _arguments: Nothing) -> None:
        """End the process."""
        self.stopping = "request"
        log.info("stopping by request %s", request.id or "")

    def request_log_level(self, _request: Request, arguments: LogLevel) -> dict[str, Any]:
        """Say more or less, for a time."""
        logging.getLogger().setLevel(arguments.value.upper())
        self._level_until = time.monotonic() + arguments.span
        return {"value": arguments.value, "for": describe(arguments.span)}


class _LogTopic(logging.Handler):
    """Publishes warnings and worse on the instance's log topic."""

    def __init__(self, service: Service) -> None:
        super().__init__(logging.WARNING)
        self._service = service

    def emit(self, record: logging.LogRecord) -> None:
        if self._service.bus.online:
            entry = {"level": record.levelname.lower(), "text": record.getMessage()}
            if topic := getattr(record, "topic", None):
                entry["topic"] = topic
            self._service.bus.publish(f"{self._service.prefix}/log", as_json(entry))


def option_type(service: type[Service]) -> type[InstanceOptions]:
    """Type of the options that a service declares: the annotation of `options`."""
    kind: type[InstanceOptions] = get_type_hints(service)["options"]
    return kind


def topic_option_type(service: type[Service]) -> type:
    """Type of the keys that a source declares for its topics: the argument of `topics: tuple[Topic[…], ...]`."""
    topics = get_type_hints(service).get("topics")
    for argument in get_args(topics):
        if get_origin(argument) is not None and get_args(argument):
            kind: type = get_args(argument)[0]
            return kind
    return Nothing
