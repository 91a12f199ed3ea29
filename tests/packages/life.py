"""A package from its installation to its purge, on a machine without a network and with a real systemd."""

import itertools
import json
import time
from pathlib import Path

from containers import Lab
from harness import wait_for

PATIENCE = 240.0
HOUSE = """\
timezone: Europe/Paris
broker: {ca: /etc/constellation/ca.crt, password: "secret:mqtt.{instance}"}
sources: {host: {every: 1s, stale: 1m, heartbeat: 2s}}
subscribers: {archive: {commit: 200ms, heartbeat: 2s}}
topics: {house/pi/memory_usage: {from: host}}
"""
LIBRARIES = (
    "sqlalchemy w1thermsensor gatt serial cryptography requests psutil gpiozero influxdb_client pushover_complete apprise"
    " prometheus_client starlette uvicorn pymysql psycopg paho.mqtt.client msgspec yaml daemon"
)
TIMES = """\
import sqlite3
database = sqlite3.connect("file:/var/lib/constellation/archive/archive.sqlite?mode=ro", uri=True)
print(*(time for (time,) in database.execute("SELECT time FROM readings ORDER BY time")))
"""


class Life:
    """What happens to one machine; each step says what it saw, or fails by an assertion."""

    def __init__(self, lab: Lab) -> None:
        """A booted container."""
        self.lab = lab
        self.steps: list[str] = []
        self._began = time.monotonic()

    def say(self, sentence: str) -> None:
        """Note a step."""
        self.steps.append(f"{time.monotonic() - self._began:6.1f} s  {sentence}")
        print(self.steps[-1], flush=True)

    def shell(self, command: str, *, check: bool = True) -> str:
        """Run a line; nothing can be asked, as nothing can be answered."""
        return self.lab.run("sh", "-c", f"{{ {command}; }} </dev/null 2>&1", check=check)

    def apt(self, words: str) -> str:
        """Run apt-get without a terminal."""
        return self.shell(f"DEBIAN_FRONTEND=noninteractive apt-get -y -q {words}")

    def times(self) -> list[int]:
        """Times of all readings that are stored (ms)."""
        self.lab.write("/root/times.py", TIMES)
        return [int(word) for word in self.shell("python3 /root/times.py").split()]

    def is_well(self) -> bool:
        """Whether all services are."""
        return self.shell("constellation status --quiet; echo $?").strip() == "0"

    def health(self, name: str) -> dict[str, object]:
        """The heartbeat of an instance."""
        command = f"XDG_CONFIG_HOME=/etc/constellation/operator mosquitto_sub -C 1 -W 20 -t home/service/{name}/health"
        return dict(json.loads(self.shell(command)))

    # -- the steps ----------------------------------------------------------------------------------------------

    def install(self, package: Path) -> None:
        """Install it by apt, and look at what is there."""
        said = self.apt(f"install {package}")
        assert "constellation init" in said, said
        assert self.shell("cat /usr/share/zoneinfo/Europe/Paris | head -c 4").startswith("TZif")
        version = self.shell("constellation --version").strip()
        self.shell(
            f"W1THERMSENSOR_NO_KERNEL_MODULE=1 /usr/lib/constellation/bin/python -c 'import {LIBRARIES.replace(' ', ', ')}'"
        )
        self.shell("/usr/lib/constellation/bin/python -c 'import rrdtool, dbus, gi'")
        size = self.shell("du -sm /usr/lib/constellation | cut -f1").strip()
        self.say(f"installed: {version}, {size} MB, every extra's library is there")

    def begin(self) -> None:
        """Describe a house and start it."""
        self.lab.write("/etc/constellation/topics.yaml", HOUSE)
        self.shell("constellation check")
        installed = self.shell("constellation units --install")
        assert "enabled constellation@archive.service" in installed
        started = time.monotonic()
        self.shell("systemctl start constellation.target")
        wait_for(self.is_well, PATIENCE, "the whole house")
        self.say(f"the house is ready {time.monotonic() - started:.1f} s after its start")
        assert "path=/usr/lib/constellation/bin/constellation " in self.shell(
            "systemctl show -P ExecStart constellation@host"
        )

    def upgrade(self, package: Path) -> None:
        """Install another version while the house runs: nothing is lost, nothing double, the new one runs."""
        wait_for(lambda: len(self.times()) > 5, PATIENCE, "readings")
        before, pid = self.times(), self.lab.pid("host")
        said = self.shell(f"DEBIAN_FRONTEND=noninteractive dpkg -i {package}")
        wait_for(lambda: self.lab.pid("host") not in (0, pid), PATIENCE, "the new version")
        wait_for(self.is_well, PATIENCE, "the whole house")
        wait_for(lambda: len(self.times()) > len(before) + 5, PATIENCE, "readings of the new version")
        health, after = self.health("host"), self.times()
        assert str(health["version"]).startswith("1."), health
        counters = health["counters"]
        assert isinstance(counters, dict)
        assert not counters.get("lost"), health
        assert set(before) <= set(after), "what was stored is stored"
        assert len(set(after)) == len(after)
        assert self.shell("systemctl list-units --failed --plain --no-legend 'constellation*'") == ""
        gap = max(b - a for a, b in itertools.pairwise(after))
        self.say(
            f"upgraded while it ran: {len(before)} readings before, {len(after)} after, none lost, measured again after {gap / 1000:.1f} s"
        )
        assert "Traceback" not in said + self.lab.journal("-p", "warning")

    def remove(self) -> None:
        """Remove it: settings and readings stay; installed again, the house goes on."""
        before = self.times()
        self.apt("remove constellation")
        assert self.shell("ls /usr/lib/constellation /usr/bin/constellation 2>/dev/null; true") == ""
        assert self.shell("systemctl list-unit-files --no-legend 'constellation*'; true").strip() == ""
        self.shell(
            "ls /etc/constellation/topics.yaml /etc/constellation/credentials/mqtt.host /var/lib/constellation/archive/archive.sqlite"
        )
        self.say("removed: no unit and no program is left, settings and readings are")
        self._before = before

    def come_back(self, package: Path) -> None:
        """Install it again: the house goes on."""
        self.apt(f"install {package}")
        wait_for(self.is_well, PATIENCE, "the whole house")
        wait_for(lambda: len(self.times()) > len(self._before), PATIENCE, "readings of the house that came back")
        assert set(self._before) <= set(self.times())
        self.say("installed again: the house goes on with its history, without a word")

    def purge(self) -> None:
        """Purge it: nothing is left but the users."""
        self.apt("purge constellation")
        left = self.shell(
            "find / -xdev -name '*constellation*' -not -path '/proc/*' -not -path '/sys/*' -not -path '/root/*' -not -path '/var/log/*'"
            " -not -path '/run/*' -not -path '/var/cache/apt/*' -not -path '/var/lib/systemd/*' -not -path '/tmp/*' -not -path '/dev/*'"
        )
        assert left.strip() == "", left
        self.say("purged: nothing is left but the users")
