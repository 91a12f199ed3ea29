"""The life of one process of the constellation: its loop, heartbeat, requests, reload and end, the same for all.

Work, heartbeat and the sign of life for systemd are one act of one loop, in the main thread: what hangs stops all
three, and is restarted. What is done in that loop is the service's (`bootstrap_lib.service`).
"""

import contextlib
import logging
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bootstrap_lib import stamp, state
from bootstrap_lib.bus import Bus
from bootstrap_lib.clock import Clock
from bootstrap_lib.control import ClockOrder, Control, Nothing, Request, RequestError
from bootstrap_lib.document import Problem, StartError
from bootstrap_lib.document import reason as reason_of
from bootstrap_lib.events import Connected, Disconnected, Event, Message, Published
from bootstrap_lib.health import BEATS, Health
from bootstrap_lib.log import LogTopic, RaisedLevel
from bootstrap_lib.loop import Loop, Word
from bootstrap_lib.notify import notify, reloading, watchdog_seconds
from bootstrap_lib.reading import format_time
from bootstrap_lib.reload import Reload
from bootstrap_lib.rival import Rival
from bootstrap_lib.secrets import SecretError
from bootstrap_lib.spool import SpoolError
from bootstrap_lib.version import VERSION
from bootstrap_lib.work import Remembered, Work

log = logging.getLogger(__name__)


class Process:
    """One process, from its lock to its goodbye. It opens what every process has; the service's own is opened by `begin`."""

    def __init__(self, work: Work) -> None:
        """Take the instance's lock, and up what it remembers; StartError where it runs already or has no folders."""
        self._work = work
        self.opened = ExitStack()
        """What is closed when the process ends, the last first, however far it came."""
        for folder in (work.state_folder, work.runtime_folder):
            state.make(folder)
        self.opened.enter_context(state.hold(work.state_folder, work.name))
        self._file, self._known_file = work.state_folder / "instance.json", work.runtime_folder / "known.json"
        stamp.refuse_later(self._file)
        self.remembered = state.load(self._file, Remembered, Remembered())
        self.remembered.start += 1
        self.remembered.format, self.remembered.version = stamp.FORMAT, VERSION
        known = max(self.remembered.known, state.load(self._known_file, int, 0))
        self.clock = Clock(known=known, unknown=round(work.options.heartbeat * 1000))
        self.remember()
        self.health = Health(self.clock.now(), self.remembered.start, work.options.heartbeat)
        self.loop = Loop()
        will, session = f"{work.prefix}/status", work.SESSION
        self.bus = Bus(
            work.registry.broker,
            work.name,
            self.loop.post,
            will=will,
            session_expiry=session,
            receive_maximum=work.BATCH,
        )
        self._next_beat = 0.0
        self._reload = Reload(work, self.error)
        self._rival = Rival(work.name, work.prefix, self.bus, self.health)
        self._level = RaisedLevel()
        self._full = False
        self._listening = False
        self._control: Control | None = None

    # -- from start to end --------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run to the end; returns the exit code. StartError if it cannot begin."""
        work = self._work
        try:
            self.loop.listen_to_signals(self._stop)
            self.loop.watch(work.registry.path.parent)
            handler = LogTopic(f"{work.prefix}/log", self.bus)
            logging.getLogger().addHandler(handler)
            self.opened.callback(logging.getLogger().removeHandler, handler)
            work.begin()
            self.opened.callback(work.end)
            self._control = Control((self, self._level, *work.request_owners()), self.bus, work.prefix, self.clock.now)
            self._open_for_business()
            work.work()
        except (SpoolError, SecretError) as error:
            raise StartError(str(error)) from None
        finally:
            self._finish()
        return 0

    def _open_for_business(self) -> None:
        try:
            self.bus.start()
        except OSError as error:
            raise StartError(str(error)) from None
        self.health.enter("running", self.clock.now())
        self.beat()
        notify(READY=1, STATUS=self._work.status())
        log.info("started")

    def _stop(self, why: str) -> None:
        self._work.stopping = self._work.stopping or why

    def _finish(self) -> None:
        notify(STOPPING=1, STATUS="stopping")
        if self.bus.online:
            self.health.enter("stopping", self.clock.now())
            self.publish_health()
            self.bus.publish(f"{self._work.prefix}/status", b"offline", qos=1, retain=True)
        try:
            self.opened.close()
        finally:
            self.bus.stop()
            self.remember()
            log.info("stopped: %s", self._work.stopping or "an error")

    # -- the loop -----------------------------------------------------------------------------------------------

    def turn(self, seconds: float, file: int | None = None) -> bool:
        """Let the loop turn for at most `seconds`; True as soon as the file descriptor can be read.

        Events are dealt with, beats are sent. Returns early when the process stops or there was news for the service.
        """
        deadline = time.monotonic() + seconds
        while not self._work.stopping:
            news = self._deal()
            now = time.monotonic()
            if now >= self._next_beat:
                self.beat()
            self._due(now)
            if news or now >= deadline:
                return False
            if self.loop.sleep(min(deadline, self._next_beat, self._reload.due or deadline) - now, file):
                return True
        return False

    def _deal(self) -> bool:
        news = False
        while not (news or self._work.stopping) and (event := self.loop.next()) is not None:
            news = self._take(event)
        return news

    def _take(self, event: Event | Word) -> bool:
        """Deal with one event; True if the service should have a look."""
        match event:
            case Message():
                return self._receive(event)
            case Published(mid=mid, refusal=refusal):
                self._work.on_published(mid, refusal)
            case Connected(session=session):
                self._greet(session)
            case Disconnected():
                self._listening = False
                self._rival.on_disconnected()
                return True
            case "stop" | "round":
                return True
            case "reload":
                self.reload()
                return True
            case "file":
                self._reload.soon()
        return False

    def _receive(self, message: Message) -> bool:
        try:
            if self._control is not None and self._control.is_request(message.topic, self._work.registry.root):
                self.health.counters["requests"] += 1
                self._control.handle(message)
                return True
            self._rival.on_message(message, self.clock.now())
            return self._work.on_message(message)
        except RecursionError:  # JSON within JSON, thousands deep: no decoder's own error
            self.error(f"{message.topic}: its content is nested too deeply to be read", message.topic)
            log.warning("%s: its content is nested too deeply to be read", message.topic)
            return False

    def _greet(self, session: bool) -> None:
        root = self._work.registry.root
        for asked in (f"{self._work.name}/request", "all/request", f"{self._work.name}/remote"):
            self.bus.subscribe(f"{root}/service/{asked}/+", as_published=True)
        self._rival.on_connected()
        self._work.on_connected(session)
        self._listening = True
        self.bus.publish(f"{self._work.prefix}/status", b"online", qos=1, retain=True)
        self.publish_health()

    def _due(self, now: float) -> None:
        if self._reload.due is not None and now >= self._reload.due:
            self.reload(only_if_changed=True)
        self._level.due(now)

    # -- signs of life ------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Say that the loop turns: to systemd, and on the health topic."""
        heartbeat, watchdog = self._work.options.heartbeat, watchdog_seconds()
        self._next_beat = time.monotonic() + min(heartbeat, watchdog / 2 if watchdog else heartbeat)
        self.clock.check()
        if self.clock.estimated:  # after a kill no time is used again, whatever the wall clock says then
            with contextlib.suppress(OSError):  # a full tmpfs ends nobody
                state.save(self._known_file, self.clock.now())
        self.bus.revive()
        self._work.on_beat()
        self._rival.on_beat()
        self.publish_health()
        notify(WATCHDOG=1, STATUS=self._work.status())

    def beat_soon(self) -> None:
        """Beat with the next turn of the loop: something changed that others should see."""
        self._next_beat = 0.0

    def publish_health(self) -> None:
        """Publish the heartbeat, not before it listens: whoever sees it may ask. It expires when three beats fail to come."""
        if self.bus.online and self._listening:
            self.health.extra["clock"] = self.clock.state
            expiry = max(1, round(BEATS * self._work.options.heartbeat))
            document = self.health.document(self._work.registry.digest)
            self.bus.publish(f"{self._work.prefix}/health", document, retain=True, expiry=expiry)

    def error(self, sentence: str, topic: str | None = None) -> None:
        """Count an error for health; whether it is worth a log line is the caller's to say."""
        self.health.error(sentence, self.clock.now(), topic)

    # -- what is written down -----------------------------------------------------------------------------------

    def remember(self) -> None:
        """Write down what the next start must know; a full disk is no reason to stop."""
        if self.clock.trusted:  # also back, when a clock that was ahead has been set
            self.remembered.known = self.clock.now()
        try:
            state.save(self._file, self.remembered)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._file, reason_of(error))

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

    # -- reload -------------------------------------------------------------------------------------------------

    def reload(self, *, only_if_changed: bool = False) -> list[Problem]:
        """Read topics.yaml again; a wrong one is refused with its lines and the old one goes on."""
        reloading()
        try:
            return self._reload.read(only_if_changed=only_if_changed)
        finally:
            notify(READY=1, STATUS=self._work.status())
            self.beat_soon()

    # -- requests that everyone understands ---------------------------------------------------------------------

    def request_ping(self, _request: Request, _arguments: Nothing) -> dict[str, Any]:
        """Answer with the state, to show that the loop turns."""
        return {"state": self.health.state, "start": self.health.start}

    def request_clock(self, _request: Request, arguments: ClockOrder) -> dict[str, Any]:
        """Say what time it believes and why; trust the system's clock if a person says so."""
        if arguments.do == "trust":
            self.clock.trust()
            with contextlib.suppress(OSError):
                state.save(self._known_file, 0)
            self.remember()
            self._work.on_clock_set()
            log.warning("the system's clock is trusted by request: it is %s", format_time(self.clock.now()))
            self.beat_soon()
        now, wall = self.clock.now(), time.time_ns() // 1_000_000
        return {
            "state": self.clock.state,
            "why": self.clock.why(),
            "time": format_time(now),
            "ahead": (now - wall) / 1000,
        }

    def request_reload(self, _request: Request, _arguments: Nothing) -> dict[str, Any]:
        """Read topics.yaml again."""
        if problems := self.reload():
            raise RequestError("; ".join(map(str, problems)))
        return {"registry": self._work.registry.digest}

    def request_stop(self, request: Request, _arguments: Nothing) -> None:
        """End the process."""
        self._work.stopping = "request"
        log.info("stopping by request %s", request.id or "")
