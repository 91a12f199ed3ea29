"""Detaches from the terminal on hosts without systemd, by python-daemon (PEP 3143).

It happens before any thread or socket exists: a fork takes neither along.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bootstrap_lib.document import StartError


def refuse_under_systemd() -> None:
    """StartError where systemd started this very process: it wants its child in the foreground."""
    if os.environ.get("NOTIFY_SOCKET") or (os.environ.get("INVOCATION_ID") and os.getppid() == 1):
        raise StartError(
            "--daemon is for hosts without systemd: systemd started this process and watches it in the foreground; leave --daemon out"
        )


class Daemon:
    """Context in which the process is a daemon: umask 027, its own session, a pidfile that heals when stale."""

    def __init__(self, pidfile: Path, working_folder: Path, keep: list[int]) -> None:
        """`keep` are file descriptors that stay open (the log's)."""
        self.pidfile, self._working_folder, self._keep = pidfile, working_folder, keep
        self._context: Any = None

    def __enter__(self) -> Self:
        """Detach; StartError if the pidfile belongs to a process that lives."""
        import daemon
        import daemon.pidfile

        for folder in (self._working_folder, self.pidfile.parent):
            folder.mkdir(parents=True, exist_ok=True)
        lock = daemon.pidfile.TimeoutPIDLockFile(str(self.pidfile), 0)
        pid = lock.read_pid()
        if pid is not None and _lives(pid):
            raise StartError(f"it runs already as process {pid} ({self.pidfile})")
        if lock.is_locked():
            lock.break_lock()
        self._context = daemon.DaemonContext(
            working_directory=str(self._working_folder),
            umask=0o027,
            pidfile=lock,
            files_preserve=self._keep,
            signal_map={},
            detach_process=True,
        )
        self._context.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the pidfile."""
        self._context.close()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return b"constellation" in Path(f"/proc/{pid}/cmdline").read_bytes()
