"""Keeps processes running where there is no systemd to do it: for the demo."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

RESTART_PAUSE: Final = 1.0
"""Seconds between the end of a process and its next start."""

_WITH_US: Final = ("setpriv", "--pdeathsig", "TERM", "--")
"""Ends a process when this one is killed, so that nothing is left running."""


@dataclass
class Child:
    """One process that is to run."""

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str]
    log: Path
    tier: int = 0
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    again_at: float = 0.0


@dataclass
class Supervisor:
    """Starts processes, starts again what ends, and ends all of them, the last one first."""

    children: list[Child] = field(default_factory=list)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
        tier: int = 0,
    ) -> Child:
        """Run a command under a name; its output goes to a file. What stands on others has a higher tier."""
        child = Child(name, command, os.environ | dict(environment or {}), log, tier)
        self.children.append(child)
        self._launch(child)
        return child

    @staticmethod
    def _launch(child: Child) -> None:
        with child.log.open("ab") as output:
            child.process = subprocess.Popen(
                [*_WITH_US, *child.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(child.environment),
                start_new_session=True,
            )
        child.starts += 1

    def look_after(self, is_gone: Callable[[str], bool]) -> list[str]:
        """Start again what has ended, unless nobody wants it any more; returns a sentence for each."""
        said = []
        for child in list(self.children):
            code = child.process.poll() if child.process else None
            if code is None:
                continue
            now = time.monotonic()
            if not child.again_at and is_gone(child.name):
                self.children.remove(child)
                said.append(f"{child.name} has ended: topics.yaml no longer has it")
            elif not child.again_at:
                child.again_at = now + RESTART_PAUSE
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
                said.append(f"{child.name} {how}: it is started again (see {child.log.name})")
            elif now >= child.again_at:
                child.again_at = 0.0
                self._launch(child)
        return said

    def stop(self, patience: float = 10.0) -> None:
        """End all, tier by tier from the highest, so that nothing loses what it stands on. What does not listen is killed."""
        for tier in sorted({child.tier for child in self.children}, reverse=True):
            group = [child for child in self.children if child.tier == tier]
            for child in group:
                if child.process and child.process.poll() is None:
                    child.process.send_signal(signal.SIGCONT)
                    child.process.terminate()
            for child in group:
                _wait(child, patience)


def _wait(child: Child, patience: float) -> None:
    if child.process is None:
        return
    try:
        child.process.wait(patience)
    except subprocess.TimeoutExpired:
        child.process.kill()
        child.process.wait()
