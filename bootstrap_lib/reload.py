"""Takes a changed topics.yaml over while the process runs, or refuses it: then the old one goes on, truly."""

import logging
import time
from collections.abc import Callable

from bootstrap_lib.document import DocumentError, Problem
from bootstrap_lib.document import reason as reason_of
from bootstrap_lib.registry import Registry
from bootstrap_lib.work import Work

log = logging.getLogger(__name__)

SETTLE: float = 0.5
"""Seconds after a change of topics.yaml until it is read: an editor may not be done."""

AGAIN: float = 10.0
"""Seconds after which a topics.yaml is tried again that a service could not take over, for a reason of its own."""


class Reload:
    """Reads topics.yaml again for one service; `due` (monotonic) is when it wants to, None while it need not."""

    def __init__(self, work: Work, error: Callable[[str], None]) -> None:
        """`error` counts what was refused."""
        self._work, self._error = work, error
        self._refused = ""
        self.due: float | None = None

    def soon(self) -> None:
        """Read it once its folder is quiet, at the latest a moment after the first change: others may change files there all the time."""
        self.due = self.due or time.monotonic() + SETTLE

    def read(self, *, only_if_changed: bool = False) -> list[Problem]:
        """Read it; returns why it was refused, if it was."""
        self.due = None
        try:
            return self._read(only_if_changed=only_if_changed)
        except DocumentError as error:
            return self._refuse(list(error.problems))
        except Exception as error:  # noqa: BLE001 (whatever is saved there, what runs goes on)
            self.due = time.monotonic() + AGAIN  # what hindered it may pass
            said = f"it cannot be used ({type(error).__name__}: {reason_of(error)})"
            return self._refuse([Problem(str(self._work.registry.path), 1, "", said)])

    def _read(self, *, only_if_changed: bool) -> list[Problem]:
        work, before = self._work, self._work.registry
        registry = Registry(before.path)
        if only_if_changed and registry.digest == before.digest:
            if self._refused:
                log.info("topics.yaml is again what goes on")
            self._refused = ""
            return []
        if work.name not in registry.instances:
            work.stopping = "topics.yaml no longer has it"
            work.registry = registry
            work.on_removed()
            return []
        if registry.broker != before.broker:
            log.warning("the broker's settings changed: restart %s to use them", work.name)
        changed = work.load(registry)
        try:
            work.on_reloaded(changed)
        except Exception:
            self._go_back(before)
            raise
        self._refused = ""
        log.info("topics.yaml is taken over%s", "" if changed else ", nothing changed here")
        return []

    def _go_back(self, registry: Registry) -> None:
        """Take the old options again, after the new ones proved to be of no use half way."""
        try:
            self._work.on_reloaded(self._work.load(registry))
        except Exception as error:  # noqa: BLE001 (the first error is the one that is said; the rest is for a restart)
            log.error("the old topics.yaml cannot be taken up again either (%s): restart it", reason_of(error))  # noqa: TRY400

    def _refuse(self, problems: list[Problem]) -> list[Problem]:
        self._error(str(problems[0]))
        said = "; ".join(map(str, problems))
        if said != self._refused:
            log.error("topics.yaml is refused, the old one goes on: %s", said)
        self._refused = said
        return problems
