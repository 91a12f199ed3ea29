"""A booted container with a real systemd, in which a house is installed, and an ear on its broker."""

import json
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import PROJECT, wait_for

CONTAINER = PROJECT / "tests" / "lab" / "container.sh"
CONSTELLATION = Path(sys.executable).with_name("constellation")
NOT_HERE = 77
"""Exit code of container.sh on a host that cannot boot it."""
PATIENCE = 90.0
"""Seconds for what happens at once, but on a busy machine."""


class Lab:
    """A booted container with an installed house in it, and an ear on its broker."""

    def __init__(self, project: Path) -> None:
        self._boot = subprocess.Popen(
            [CONTAINER, "boot", project],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        words = self._boot.stdout.readline().split()
        if not words:
            code, said = self._boot.wait(PATIENCE), self._boot.stderr.read().strip()
            self._boot.stdin.close()
            self._boot.stdout.close()
            self._boot.stderr.close()
            if code == NOT_HERE:
                pytest.skip(f"no container with systemd on this host: {said}")
            pytest.fail(f"container.sh ended with {code}: {said}")
        self.init = words[1]
        """Process id of its systemd, seen from here."""
        self._enter = [CONTAINER, "enter", self.init]
        self.installed = ""
        """What `units --install` said."""
        self.heard: list[tuple[float, str, str]] = []
        self._ear: subprocess.Popen[str] | None = None
        self._install_this_tree()

    def _install_this_tree(self) -> None:
        """Have programs inside run this tree's code where the environment is another checkout's, as for a mutant."""
        place = Path(sysconfig.get_path("purelib"), "_editable_impl_constellation.pth")
        if place.exists() and str(PROJECT) not in place.read_text().split():
            self.write(str(place), f"{PROJECT}\n")

    def close(self) -> None:
        for end in (self._boot.stdin, self._boot.stdout, self._boot.stderr):
            end.close()
        self._boot.wait(PATIENCE)
        if self._ear:
            self._ear.wait(PATIENCE)
            self._ear.stdout.close()

    def run(self, *command: str | Path, text: str | None = None, check: bool = True) -> str:
        done = subprocess.run([*self._enter, *command], capture_output=True, text=True, input=text, timeout=600.0)
        assert done.returncode == 0 or not check, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Write a file inside, at once as a whole."""
        self.run("sh", "-c", f"mkdir -p $(dirname {path}) && cat >{path}.new && mv {path}.new {path}", text=text)

    def show_project(self) -> None:
        """Let units see the project: a clone below /tmp or /home is hidden from hardened ones."""
        for unit in ("constellation@", "constellation-failure@"):
            self.write(
                f"/etc/systemd/system/{unit}.service.d/project.conf", f"[Service]\nBindReadOnlyPaths={PROJECT}\n"
            )

    def plug(self, *sensors: tuple[str, float]) -> None:
        """Plug simulated sensors in, with their temperatures."""
        lines = "".join(f"Tree(Path('/srv/w1')).set({sensor!r}, {celsius})\n" for sensor, celsius in sensors)
        program = f"from pathlib import Path\nfrom services.simulators.onewire import Tree\n{lines}"
        self.run(CONSTELLATION.with_name("python"), "-c", program)

    def listen(self) -> None:
        """Hear all messages from now on, as a person with the operator's mosquitto_sub does."""
        command = ["env", "XDG_CONFIG_HOME=/etc/constellation/operator", "mosquitto_sub", "-v", "-t", "home/#"]
        self._ear = subprocess.Popen([*self._enter, *command], stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._hear, args=(self._ear.stdout,), daemon=True).start()

    def _hear(self, lines: Any) -> None:
        try:
            for line in lines:
                topic, _, payload = line.rstrip("\n").partition(" ")
                self.heard.append((time.monotonic(), topic, payload))
        except ValueError:  # closed
            return

    def last(self, topic: str) -> Any:
        found = [payload for _, heard, payload in list(self.heard) if heard == topic]
        if not found:
            return None
        return json.loads(found[-1]) if found[-1][:1] == "{" else found[-1]

    def wait(self, topic: str, accept: Callable[[Any], bool]) -> Any:
        def look() -> Any:
            value = self.last(topic)
            return (value,) if value is not None and accept(value) else None

        return wait_for(look, PATIENCE, topic)[0]

    def show(self, instance: str, name: str) -> str:
        return self.run("systemctl", "show", "-P", name, f"constellation@{instance}").strip()

    def pid(self, instance: str) -> int:
        return int(self.show(instance, "MainPID"))

    def journal(self, *matches: str) -> str:
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--no-pager", "-o", "cat", *matches, check=False)

    def says(self, sentence: str, *matches: str) -> None:
        """Wait until the journal has a sentence: systemd writes behind what it does."""
        wait_for(lambda: sentence in self.journal(*matches), PATIENCE, f"'{sentence}' in the journal")

    def shows(self, instance: str, name: str, accept: Callable[[str], bool]) -> None:
        """Wait until a property of a unit is accepted."""
        wait_for(lambda: accept(self.show(instance, name)), PATIENCE, f"{name} of {instance}")

    def start_counter(self, instance: str) -> int:
        return (self.last(f"home/service/{instance}/health") or {}).get("start", 0)

    def fresh(self, topic: str) -> Any:
        """Wait for a reading that comes after this moment."""
        now = time.monotonic()
        wait_for(
            lambda: any(at > now and heard == topic for at, heard, _ in list(self.heard)), PATIENCE, f"a new {topic}"
        )
        return self.last(topic)
