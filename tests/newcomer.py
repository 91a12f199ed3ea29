"""A newcomer's first hour on a fresh Debian, typed by a script: install, demo, a house, a sensor of one's own, its alert on the phone.

    python -m tests.newcomer --way deb --debian 12      the package that scripts/packages/build made
    python -m tests.newcomer --way pip --debian 13      the lines of the README, in a clone

Each step is the line as the pages have it (as root, so without sudo; apt asks nothing); said are the seconds that it took and the last words
that it left. The machine is a minimal Debian with a real systemd, thrown away afterwards; it has this machine's network where a line downloads,
and none else. Needs root, mmdebstrap and systemd-nspawn. services/simulators/pushover.py stands in for the phone. It ends with 0 where all was
as promised.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent))

from containers import CONTAINER, Lab
from harness import PROJECT
from pages import blocks, section

from tests.packages.root import SUITES, bare, built

PATIENCE: Final = 240.0
CLONE: Final = "/srv/clone"
BELIEVED: Final = "/root/authorities.crt"
"""What this machine believes, holds inside too."""
NAME, TOPIC = "room_co2", "house/room_co2/room_co2"
RULE: Final = f"alerts:\n  stuffy: {{when: {TOPIC} > 1000}}\n"
PHONE: Final = "/var/log/phone.jsonl"


class Newcomer:
    """Somebody with a root shell on a machine that has nothing yet."""

    def __init__(self, lab: Lab) -> None:
        """`lab` is the machine."""
        self._lab = lab
        self._began = time.monotonic()
        self.steps: list[tuple[str, float, str]] = []
        """What was done, how long it took (s), and its last words."""

    def types(self, what: str, line: str, *, online: bool = False) -> str:
        """Type a line; it must succeed. `online` is a line that downloads."""
        began = time.monotonic()
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        given = {
            "PATH": path,
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            "PIP_CERT": BELIEVED,
        }
        shell = [
            "env",
            "-i",
            *(f"{key}={value}" for key, value in given.items()),
            "sh",
            "-c",
            f"cd {self.folder()}; {line}",
        ]
        environment = os.environ | ({"CONTAINER_ONLINE": "1"} if online else {})
        done = subprocess.run(
            [CONTAINER, "enter", self._lab.init, *shell],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self._note(what, line, time.monotonic() - began, done.stdout)
        if done.returncode:
            raise SystemExit(f"{line}: {done.returncode}\n{done.stdout[-3000:]}")
        return done.stdout

    def waits(self, what: str, line: str) -> str:
        """Type a line again and again, until it succeeds."""
        began = time.monotonic()
        while True:
            said = self._lab.run("sh", "-c", f"{line} 2>&1 || echo '(not yet)'", check=False)
            if "(not yet)" not in said:
                self._note(what, line, time.monotonic() - began, said)
                return said
            if time.monotonic() - began > PATIENCE:
                journal = self._lab.journal("-p", "warning")[-3000:]
                raise SystemExit(f"{what}: it did not come within {PATIENCE:g} s\n{said}\n{journal}")
            time.sleep(0.5)

    def writes(self, path: str, text: str) -> None:
        """Write a file in an editor."""
        self._lab.write(path, text)

    def reads(self, path: str) -> str:
        """Look into a file."""
        return self._lab.run("cat", path)

    def folder(self) -> str:
        """Where the shell is."""
        return f"$([ -d {CLONE} ] && echo {CLONE} || echo /root)"

    def _note(self, what: str, line: str, seconds: float, said: str) -> None:
        words = next((one.strip() for one in reversed(said.splitlines()) if one.strip()), "")
        self.steps.append((what, seconds, words))
        print(
            f"{time.monotonic() - self._began:6.1f} s  {what}: {seconds:.1f} s\n          $ {line}\n          {words[:160]}",
            flush=True,
        )


def install(newcomer: Newcomer, way: str, package: Path | None) -> str:
    """Install as the pages say; returns the Python that the house runs on."""
    newcomer.types("lists of packages", "apt-get update -qq && echo fetched", online=True)
    if package:
        newcomer.types("install", f"apt install -y -q {package} 2>&1", online=True)
        newcomer.types(
            "what the demo needs", "apt install -y -q --no-install-recommends victoria-metrics 2>&1", online=True
        )
        return "/usr/lib/constellation/bin/python"
    for number, line in enumerate(blocks(section("README.md", "Use it"))[0]):
        if "topics.yaml" in line:
            break
        typed = line.replace("sudo ", "").replace("apt install", "apt install -y -q --no-install-recommends")
        newcomer.types(f"install, line {number + 1}", typed, online=True)
    return "/opt/constellation/bin/python"


def see(newcomer: Newcomer) -> None:
    """Run the demo for as long as its alert takes."""
    said = newcomer.types("demo", "constellation demo --folder /root/demo --for 60 2>&1")
    if "phone:" not in said:
        raise SystemExit(f"no alert of the demo reached the phone\n{said}")
    print("          " + "\n          ".join(line for line in said.splitlines() if "phone:" in line))


def begin(newcomer: Newcomer) -> None:
    """Have a house proposed, and start it."""
    newcomer.types("describe the house", "constellation init --yes")
    newcomer.types("check it", "constellation check")
    newcomer.types("install its units", "constellation units --install")
    newcomer.types("start it", "systemctl start constellation.target && echo started")
    newcomer.waits("all is well", "constellation status --quiet && constellation status | tail -1")


def measure(newcomer: Newcomer, python: str) -> None:
    """Write a source of one's own, and see it on the page and on the phone."""
    said = newcomer.types("a source of one's own", f"cd /root && constellation new source {NAME}")
    source, topic = re.findall(rf"(?m)^  (?:{NAME}|{TOPIC}): .*$", said)
    house = newcomer.reads("/etc/constellation/topics.yaml")
    phone = '  pushover: {api_url: "http://127.0.0.1:8081/1/"}'
    for section_, line in (("sources", source), ("subscribers", phone), ("topics", topic)):
        house = re.sub(rf"(?m)^({section_}:.*)$", lambda found, line=line: f"{found[1]}\n{line}", house, count=1)
    newcomer.writes("/etc/constellation/topics.yaml", f"{house.rstrip()}\n{RULE}")
    newcomer.writes("/run/sensor", "612\n")
    newcomer.types("measure once", f"constellation once {NAME}")
    for secret in ("token", "user"):
        keep = f"install -D -m 600 /dev/stdin /etc/constellation/credentials/pushover.{secret}"
        newcomer.types(f"the phone's {secret}", f"printf %s {secret[0] * 30} | {keep} && echo kept")
    newcomer.types(
        "the stand-in phone",
        f"systemd-run -q --unit phone {python} -m services.simulators.pushover --port 8081 --log {PHONE} && echo listens",
    )
    newcomer.types("check it", "constellation check")
    newcomer.types("install its units", "constellation units --install")
    newcomer.types("start it", "systemctl start constellation.target && echo started")
    ask = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/api/1/topics/{TOPIC}').read().decode())"
    newcomer.waits("its value is on the page", f"""{python} -c "{ask}" | grep '"value":612'""")
    newcomer.types(
        "the air becomes stuffy", "echo 1500 >/run/sensor && cat /run/sensor"
    )  # in place: the source has it open
    newcomer.waits("its alert is on the phone", f'grep -o \'"message": *"[^"]*\' {PHONE}')


@contextmanager
def machine(number: int, package: Path | None) -> Iterator[tuple[Lab, Path]]:
    """A machine with a fresh Debian, and what is given away laid down on it: a clone, or the package, whose folder it is."""
    with tempfile.TemporaryDirectory(prefix="newcomer-") as scratch:
        Path(scratch).chmod(0o755)
        os.environ["CONTAINER_ROOT"] = str(bare(number))
        try:
            lab = Lab(Path(scratch))
        finally:
            del os.environ["CONTAINER_ROOT"]
        try:
            lab.run("apt-get", "clean")
            lab.write(BELIEVED, Path("/etc/ssl/certs/ca-certificates.crt").read_text())
            if package:
                Path(scratch, package.name).write_bytes(package.read_bytes())
            else:
                listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True)
                archive = Path(scratch, "clone.tar")
                subprocess.run(
                    ["tar", "-c", "-f", archive, "-T", "-"], cwd=PROJECT, input=listed.stdout, text=True, check=True
                )
                lab.run("sh", "-c", f"mkdir -p {CLONE} && tar -x -C {CLONE} --no-same-owner -f {archive}")
            yield lab, Path(scratch)
        finally:
            lab.close()


def main() -> int:
    """Walk the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=["deb", "pip"], required=True)
    parser.add_argument("--debian", type=int, choices=list(SUITES), required=True)
    arguments = parser.parse_args()
    package = built(arguments.debian) if arguments.way == "deb" else None
    with machine(arguments.debian, package) as (lab, folder):
        newcomer = Newcomer(lab)
        there = folder / package.name if package else None
        python = install(newcomer, arguments.way, there)
        see(newcomer)
        begin(newcomer)
        measure(newcomer, python)
        print("\n".join(f"| {what} | {seconds:.0f} s |" for what, seconds, _ in newcomer.steps))
    return 0


if __name__ == "__main__":
    sys.exit(main())
