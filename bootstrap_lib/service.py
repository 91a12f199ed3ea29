"""What a service of the constellation does: what sources and subscribers have in common, apart from the process that runs it.

A service is prepared from topics.yaml and opens nothing; `run` makes a process of it (`bootstrap_lib.process`), which
calls `begin`, `work` and `end`, and everything named `on_…`.
"""

import logging
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, get_args, get_origin, get_type_hints

from bootstrap_lib import state
from bootstrap_lib.bus import Bus
from bootstrap_lib.clock import Clock
from bootstrap_lib.control import Nothing
from bootstrap_lib.document import DocumentError, Problem
from bootstrap_lib.entries import InstanceOptions
from bootstrap_lib.events import Message
from bootstrap_lib.health import BEATS, Health
from bootstrap_lib.loop import Word
from bootstrap_lib.needs import Needs
from bootstrap_lib.process import Process
from bootstrap_lib.registry import Registry
from bootstrap_lib.work import Remembered

log = logging.getLogger(__name__)


class Service:
    """What sources and subscribers have in common. Subclasses say what they do in `work` and the `on_…` methods."""

    options: InstanceOptions
    NEEDS: ClassVar[Needs] = Needs()
    BEATS: ClassVar = BEATS
    """Heartbeats that may fail to come until a service is taken for dead."""
    SESSION: ClassVar[int] = 3600
    """Seconds for which the broker keeps our session while we are away; 0 for none: what stands there is what counts, not what waited."""
    BATCH: ClassVar[int] = 1000
    """Messages that the broker may send before we acknowledge one."""

    def __init__(self, registry: Registry, name: str) -> None:
        """Name the instance; `load` takes its options, and nothing is opened, sent or started yet."""
        self.registry, self.name = registry, name
        self.state_folder = state.folder_of(name)
        self.runtime_folder = state.runtime_folder_of(name)
        self.prefix = f"{registry.root}/service/{name}"
        self.stopping: str | None = None
        """Why the process ends, once it does."""
        self._loaded: InstanceOptions | None = None
        self._process: Process | None = None

    # -- what topics.yaml says ----------------------------------------------------------------------------------

    def load(self, registry: Registry) -> bool:
        """Take the options of a registry; DocumentError if they are wrong. True if something changed for us."""
        if self.name not in registry.instances:
            problem = Problem(str(registry.path), 1, "", f"no source or subscriber is named '{self.name}'")
            raise DocumentError([problem])
        if self.NEEDS.machine and (self._loaded is None or registry.left_out != self.registry.left_out):
            for problem in registry.left_out:
                log.warning("left out: %s", problem)
        options = registry.options_of(self.name, option_type(type(self)))
        changed = options != self._loaded
        self._loaded = self.options = options
        self.registry = registry
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

    # -- what subclasses offer ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Open what belongs to the process for all its life (spool, database)."""

    def work(self) -> None:
        """Do the service's work until `stopping`."""
        while not self.stopping:
            self.turn(self.options.every)

    def end(self) -> None:
        """Close what `begin` opened; called once if that came to its end, also after an error."""

    def on_connected(self, session: bool) -> None:
        """Subscribe and publish again what a broker without memory has lost (`session` is False then)."""

    def on_message(self, message: Message) -> bool:  # noqa: ARG002 (for subclasses)
        """Deal with a message that is no request; True if the loop should come back at once."""
        return False

    def on_published(self, mid: int, refusal: str | None) -> None:
        """Learn what became of a QoS 1 message: `refusal` says why the broker did not take it."""

    def on_reloaded(self, changed: bool) -> None:
        """Take over a new topics.yaml; `changed` tells whether it changed anything for this instance."""

    def on_removed(self) -> None:
        """Take back what stands at the broker by our doing: topics.yaml no longer has this instance, the process ends."""

    def on_clock_set(self) -> None:
        """Forget times that were believed before a person said that the system's clock is right."""

    def on_beat(self) -> None:
        """Complete `self.health` before it is sent; do what is done once a beat."""

    def request_owners(self) -> Iterable[object]:
        """Return what has methods `request_…` for this instance; asked once after `begin`."""
        return (self,)

    def status(self) -> str:
        """One line for `systemctl status`."""
        return self.health.state

    # -- the process that runs it -------------------------------------------------------------------------------

    def run(self) -> int:
        """Run to the end; returns the exit code. StartError if it cannot begin."""
        self._process = Process(self)
        return self._process.run()

    @property
    def process(self) -> Process:
        """The process that runs it; RuntimeError while none does."""
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process

    @property
    def opened(self) -> ExitStack:
        """What is closed when the process ends, the last first, however far it came."""
        return self.process.opened

    @property
    def bus(self) -> Bus:
        """The connection to the broker."""
        return self.process.bus

    @property
    def clock(self) -> Clock:
        """The time."""
        return self.process.clock

    @property
    def health(self) -> Health:
        """Counters and state, as the heartbeat shows them."""
        return self.process.health

    @property
    def remembered(self) -> Remembered:
        """What the instance remembers of itself between its starts."""
        return self.process.remembered

    def reload(self) -> list[Problem]:
        """Read topics.yaml again; returns why it was refused, if it was."""
        return self.process.reload()

    def post(self, word: Word) -> None:
        """Wake the loop, from any thread."""
        self.process.loop.post(word)

    def turn(self, seconds: float, file: int | None = None) -> bool:
        """Let the loop turn for at most `seconds`; True as soon as the file descriptor can be read."""
        return self.process.turn(seconds, file)

    def error(self, sentence: str, topic: str | None = None) -> None:
        """Count an error for health; whether it is worth a log line is the caller's to say."""
        self.process.error(sentence, topic)

    def keep(self, file: Path, value: object) -> None:
        """Write state down; a disk that takes nothing is counted, said once, and stops nobody."""
        self.process.keep(file, value)


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
