"""The units: clean by systemd's own judgement, and at work under a real systemd in a container that is thrown away."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import CONSTELLATION, PATIENCE, Lab
from harness import PROJECT, wait_for
from once import tried_once

from bootstrap_lib.installation import CLOSED_SINCE, InstallError, refuse_closed_home, systemd_version
from bootstrap_lib.needs import needs_of, service_files
from bootstrap_lib.unit_files import UNITS

pytestmark = pytest.mark.long

DROP_INS = [name for name in service_files() if needs_of(name).drop_in()]
THRESHOLD = 20
"""systemd-analyze security counts in tenths: 2.0."""


# -- what systemd says of the files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Units as `constellation units --install` writes them, for a house with every service that has rights."""
    root = tmp_path_factory.mktemp("root")
    topics = root / "topics.yaml"
    here = socket.gethostname()
    instances = "".join(f"  {name}_shed: {{service: {name}, host: {here}}}\n" for name in DROP_INS)
    topics.write_text(f"broker: {{host: {here}.local}}\nsources:\n  plain: {{host: {here}.local}}\n{instances}")
    done = constellation("--config", topics, "units", "--install", "--root", root)
    assert done.returncode == 0, done.stderr
    folder = root / str(UNITS).lstrip("/")
    for name in ("plain", *(f"{name}_shed" for name in DROP_INS)):
        (folder / f"constellation@{name}.service").symlink_to("constellation@.service")
    return folder


def constellation(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([CONSTELLATION, *arguments], capture_output=True, text=True, timeout=PATIENCE, cwd="/")


ALL_UNITS = [
    "constellation@plain.service",
    "constellation-broker.service",
    "constellation-certificates.service",
    "constellation-fleet.service",
    "constellation-enrolment.service",
    "constellation-backup.service",
    *(f"constellation@{name}_shed.service" for name in DROP_INS),
]


@pytest.mark.parametrize("unit", [*ALL_UNITS, "constellation.target", "constellation-failure@.service"])
def test_systemd_finds_nothing_wrong_with_the_unit(folder: Path, unit: str) -> None:
    command = ["systemd-analyze", "verify", "--man=no", folder / unit]
    said = subprocess.run(
        command, capture_output=True, text=True, env={"SYSTEMD_UNIT_PATH": f"{folder}:", "PATH": "/usr/bin:/bin"}
    )
    assert (said.returncode, said.stderr) == (0, "")


@pytest.mark.parametrize("unit", [*ALL_UNITS, "constellation-failure@.service"])
def test_the_unit_exposes_at_most_two_of_ten(folder: Path, unit: str) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={THRESHOLD}", "--no-pager", folder / unit]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout
    exposure = re.search(r"exposure level for .*: ([\d.]+)", said.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= THRESHOLD / 10


def test_an_instance_gets_the_rights_of_its_service_and_its_secrets(tmp_path: Path) -> None:
    topics = tmp_path / "topics.yaml"
    topics.write_text(
        "broker: {host: hub.local}\n"
        "sources:\n  adc_boiler: {service: adc, host: HERE}\n  meters: {service: wmbus, host: HERE}\n  mqtt: {host: HERE}\n"
        "  far: {service: adc, host: elsewhere}\n  hubs: {service: adc}\n"
        "topics:\n"
        "  cellar/water/volume: {from: meters, meter: 12345678, secret: secret:water}\n"
        "  cellar/heat/energy: {from: meters, meter: 87654321, secret: secret:heat}\n"
        "  cellar/gas/energy: {from: meters, meter: 11111111, secret: secret:gas}\n".replace(
            "HERE", socket.gethostname()
        )
    )
    credentials = tmp_path / "etc" / "constellation" / "credentials"
    credentials.mkdir(parents=True)
    for name in ("water", "wmbus.12345678", "meters.other", "pushover.token", "mqtt.far", "mqtt.meters"):
        (credentials / name).write_text("x\n")
    kept = tmp_path / "var/lib/constellation/meters/secrets/heat"  # by the service itself, given over MQTT
    kept.parent.mkdir(parents=True)
    kept.touch()
    done = constellation("--config", topics, "units", "--install", "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / str(UNITS).lstrip("/")
    assert "char-i2c" in (folder / "constellation@adc_boiler.service.d" / "rights.conf").read_text()
    secrets = (folder / "constellation@meters.service.d" / "secrets.conf").read_text()
    assert secrets.splitlines()[1:] == [
        f"LoadCredential={name}:/etc/constellation/credentials/{name}"
        for name in ("meters.other", "water", "wmbus.12345678")
    ]
    for name in ("adc_boiler", "mqtt"):  # the passwords of all bear the name of a service
        assert not (folder / f"constellation@{name}.service.d" / "secrets.conf").exists()
    assert "192.168.0.0/16" in (folder / "constellation@.service.d" / "broker.conf").read_text()
    assert not [*folder.glob("constellation@far*"), *folder.glob("constellation@hubs*")]
    missing = [line for line in done.stdout.splitlines() if line.startswith("missing: meters")]
    assert [line.split()[3] for line in missing if "mqtt" not in line] == ["/etc/constellation/credentials/gas:"]


def test_a_dry_run_says_all_and_does_nothing(tmp_path: Path) -> None:
    topics = tmp_path / "topics.yaml"
    topics.write_text("sources:\n  onewire: {}\n")
    done = constellation("--config", topics, "units", "--install", "--dry-run", "--root", tmp_path / "root")
    assert done.returncode == 0, done.stderr
    assert "would have enabled constellation@onewire.service" in done.stdout
    assert not (tmp_path / "root").exists()


def test_another_topics_yaml_than_the_installed_one_is_refused(tmp_path: Path) -> None:
    topics = tmp_path / "topics.yaml"
    topics.write_text("sources:\n  onewire: {}\n")
    assert constellation("--config", topics, "units", "--install", "--root", tmp_path / "root").returncode == 0
    topics.write_text("sources:\n  onewire: {every: 5s}\n")
    done = constellation("--config", topics, "units", "--install", "--root", tmp_path / "root")
    assert done.returncode != 0
    assert "says something else" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("folder", "version", "refused"),
    [
        ("/root/venv", 257, True),
        ("/root", 260, True),
        ("/root/venv", 256, False),
        ("/root/venv", 0, False),
        ("/home/me/venv", 257, False),
        ("/rootless/venv", 257, False),
    ],
)
def test_an_installation_that_no_unit_could_see_is_refused(folder: str, version: int, refused: bool) -> None:
    folders = [Path("/usr"), Path(folder)]
    if not refused:
        refuse_closed_home(folders, version)
        return
    with pytest.raises(InstallError, match=f"^{folder} lies below /root.*Install into /opt/constellation"):
        refuse_closed_home(folders, version)


# -- under a real systemd ---------------------------------------------------------------------------------------------

TOPICS = """\
broker: {ca: /etc/constellation/ca.crt, password: "secret:mqtt.{instance}"}
sources:
  onewire: {every: 500ms, stale: 5s, heartbeat: 2s, bus: /srv/w1}
  host: {every: 1s, heartbeat: 2s}
  far: {service: onewire, host: elsewhere}
subscribers:
  archive: {}
topics:
  boiler/water/temperature: {from: onewire, id: 28-0316a4f1c9ff}
  boiler/flue/temperature: {from: onewire, id: 28-0316a4f1d2aa}
  house/pi/memory_usage: {from: host}
"""
WATER, FLUE = "28-0316a4f1c9ff", "28-0316a4f1d2aa"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with tried_once("the container with systemd"):
        yield from _installed_lab()


def _installed_lab() -> Iterator[Lab]:
    lab = Lab(PROJECT)
    try:
        lab.plug((WATER, 61.5), (FLUE, 120.25))
        lab.write("/etc/constellation/topics.yaml", TOPICS)
        lab.show_project()
        lab.installed = lab.run(CONSTELLATION, "units", "--install")
        lab.run("systemctl", "start", "constellation-broker")
        lab.listen()
        lab.run("systemctl", "start", "constellation.target")
        for instance in ("onewire", "host", "archive"):
            lab.wait(f"home/service/{instance}/status", lambda status: status == "online")
        yield lab
    finally:
        lab.close()


def test_the_target_starts_exactly_what_topics_yaml_gives_to_this_host(lab: Lab) -> None:
    listed = lab.run("systemctl", "list-units", "--plain", "--no-legend", "--all", "constellation@*")
    found = {line.split()[0]: line.split()[2] for line in listed.splitlines()}
    assert found == {f"constellation@{name}.service": "active" for name in ("onewire", "host", "archive")}
    said = lab.run(CONSTELLATION, "units")
    assert re.search(r"(?m)^onewire +onewire +enabled +active \(running\): running", said)
    assert "far runs on elsewhere" in said
    assert lab.run("systemctl", "is-enabled", "constellation.target").strip() == "enabled"


def test_a_hardened_unit_still_does_its_work(lab: Lab) -> None:
    assert lab.wait("home/data/boiler/water/temperature", bool)["value"] == 61.5
    assert lab.wait("home/data/boiler/flue/temperature", bool)["value"] == 120.25
    assert 0 < lab.wait("home/data/house/pi/memory_usage", bool)["value"] < 100
    status = dict(line.split(":", 1) for line in lab.run("cat", f"/proc/{lab.pid('onewire')}/status").splitlines())
    assert int(status["CapEff"], 16) == 0
    assert (status["Seccomp"].strip(), status["NoNewPrivs"].strip()) == ("2", "1")
    assert status["Uid"].split()[0] != "0"
    database = "/var/lib/constellation/archive/archive.sqlite"
    count = f"import sqlite3; print(*sqlite3.connect({database!r}).execute('select count(*) from readings').fetchone())"
    wait_for(lambda: int(lab.run("python3", "-c", count)) > 2, PATIENCE, "readings in the archive")
    lab.wait("home/service/archive/stored/onewire", bool)


def test_an_installation_below_root_is_refused_where_its_units_could_not_start(lab: Lab) -> None:
    closed = systemd_version() >= CLOSED_SINCE
    lab.run("python3", "-m", "venv", "--system-site-packages", "--without-pip", "/root/venv")
    site = lab.run("/root/venv/bin/python", "-c", "import site; print(site.getsitepackages()[0])").strip()
    packages = next(Path(folder) for folder in sys.path if folder.endswith("site-packages"))
    lab.write(f"{site}/constellation.pth", f"{PROJECT}\n{packages}\n")
    lab.write("/root/venv/bin/constellation", "")
    # What our sentence says of systemd is true: such a unit sees the file, or does not.
    unit = ["-p", "User=nobody", "-p", "ProtectHome=tmpfs", "-p", "BindReadOnlyPaths=/root/venv"]
    done = lab.run("sh", "-c", f"systemd-run --wait --quiet {' '.join(unit)} cat /root/venv/pyvenv.cfg; echo $?")
    assert (done.strip() != "0") == closed
    command = "/root/venv/bin/python -m bootstrap_lib.cli units --install --dry-run 2>&1; echo $?"
    said = lab.run("sh", "-c", command)
    assert ("/root/venv lies below /root, which systemd" in said) == closed
    assert said.endswith("69\n" if closed else "0\n")
    assert "Traceback" not in said


CLOCK = """\
import ctypes, time
assert ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) >= 0
try:
    time.clock_settime(time.CLOCK_REALTIME, time.time())
except PermissionError:
    print("read, not set")
"""


def test_a_unit_may_ask_whether_the_clock_is_synchronised_and_not_set_it(lab: Lab) -> None:
    lab.write("/srv/clock.py", CLOCK)
    lab.write(
        "/etc/systemd/system/constellation@host.service.d/test.conf", "[Service]\nExecStartPre=python3 /srv/clock.py\n"
    )
    lab.run("systemctl", "daemon-reload")
    lab.run("systemctl", "restart", "constellation@host")
    lab.says("read, not set", "-u", "constellation@host")
    lab.run("rm", "/etc/systemd/system/constellation@host.service.d/test.conf")
    lab.run("systemctl", "daemon-reload")


def test_nobody_but_root_reads_passwords_and_a_unit_sees_its_own_alone(lab: Lab) -> None:
    inside = f"/proc/{lab.pid('onewire')}/root"
    assert lab.run("ls", f"{inside}/run/credentials/constellation@onewire.service").split() == ["mqtt.onewire"]
    look = ["setpriv", "--reuid=constellation-host", "--regid=constellation", "--clear-groups", "cat"]
    assert lab.run(*look, "/etc/constellation/credentials/mqtt.archive", check=False) == ""
    assert lab.run(*look, "/etc/constellation/operator/mosquitto_sub", check=False) == ""
    assert lab.run("cat", "/etc/constellation/credentials/mqtt.archive")
    said = lab.run(*look[:-1], "sh", "-c", f"{CONSTELLATION} units --install 2>&1", check=False)
    assert said.splitlines()[-1].endswith("run this as root, with sudo")
    assert "Traceback" not in said


def test_state_of_an_instance_is_nobody_elses_but_the_record_which_the_page_reads(lab: Lab) -> None:
    owners = {}
    for name in ("onewire", "archive", "host"):
        folder = f"/var/lib/constellation/{name}"
        owners[name] = lab.run("stat", "-c", "%U:%G %a", folder).strip()
        assert lab.run("ps", "-o", "user:40=", "-p", str(lab.pid(name))).strip() == f"constellation-{name}"
        assert lab.run("grep", "Max core", f"/proc/{lab.pid(name)}/limits").split()[4:6] == ["0", "0"]
    assert owners == {
        "onewire": "constellation-onewire:constellation 700",
        "archive": "constellation-archive:constellation 750",
        "host": "constellation-host:constellation 700",
    }
    onewire = ("setpriv", "--reuid=constellation-onewire", "--regid=constellation", "--clear-groups")
    read = "ls /var/lib/constellation/host; kill -0 $0; cat /proc/$0/environ"
    said = lab.run(*onewire, "sh", "-c", f"{{ {read}; }} 2>&1", str(lab.pid("host")), check=False)
    assert said.count("ermission denied") + said.count("not permitted") == 3, said
    assert lab.run(*onewire, "stat", "-c", "%s", "/var/lib/constellation/archive/archive.sqlite")


def test_a_service_may_bind_no_port(lab: Lab) -> None:
    if "+BPF_FRAMEWORK" not in lab.run("systemctl", "--version"):
        assert "SocketBindDeny=any" in lab.run("systemctl", "cat", "constellation@host")
        return  # this systemd is built without what that needs (Debian 12), and leaves it out
    bind = "import socket\ntry: socket.create_server(('127.0.0.1', 0))\nexcept PermissionError as error: print(repr(error))\n"
    lab.write("/opt/bind.py", bind + "print('after it')\n")
    lab.write(
        "/etc/systemd/system/constellation@host.service.d/test.conf", "[Service]\nExecStartPre=python3 /opt/bind.py\n"
    )
    lab.run("systemctl", "daemon-reload")
    lab.run("systemctl", "restart", "constellation@host")
    lab.says("after it", "-u", "constellation@host")
    lab.says("PermissionError", "-u", "constellation@host")
    lab.run("rm", "/etc/systemd/system/constellation@host.service.d/test.conf")
    lab.run("systemctl", "daemon-reload")
    lab.run("systemctl", "reset-failed", "constellation@host", check=False)


def test_a_certificate_is_renewed_without_a_restart_of_the_broker(lab: Lab) -> None:
    pid = lab.run("systemctl", "show", "-P", "MainPID", "constellation-broker")
    folder, ca = "/etc/mosquitto/constellation", "/etc/constellation/ca.crt"
    served = (
        f"openssl s_client -connect localhost:8883 -CAfile {ca} </dev/null 2>/dev/null | openssl x509 -noout -serial"
    )
    before = lab.run("sh", "-c", served)
    assert before.startswith("serial=")
    lab.run("sh", "-c", f"cp {ca} {folder}/server.crt")  # not the broker's: it must be made anew
    lab.run("systemctl", "start", "constellation-certificates")
    wait_for(lambda: lab.run("sh", "-c", served) not in ("", before), PATIENCE, "the new certificate")
    assert lab.run("systemctl", "show", "-P", "MainPID", "constellation-broker") == pid
    assert "constellation-certificates.timer" in lab.run("systemctl", "list-timers", "--all")
    lab.fresh("home/data/boiler/water/temperature")


def test_a_fleet_is_served_and_renewed_by_its_units_where_the_machine_is_of_one(lab: Lab) -> None:
    assert "no" in lab.run("systemctl", "show", "-P", "ConditionResult", "constellation-fleet")
    lab.run(CONSTELLATION, "fleet", "centre", "localhost")
    lab.run("rm", "/etc/mosquitto/fleet/crl.pem")  # what the broker would read
    lab.run("systemctl", "start", "constellation-certificates")  # as its timer does
    lab.run("systemctl", "start", "constellation-fleet")
    assert lab.run("stat", "-c", "%a", "/etc/mosquitto/fleet/crl.pem").strip() == "644"
    assert lab.run("systemctl", "show", "-P", "Result", "constellation-fleet").strip() == "success"
    lab.says("the list of revocations is renewed", "-u", "constellation-fleet")
    given = lab.run(CONSTELLATION, "fleet", "house", "h1").split("fleet join ")[1].split()
    lab.run("systemctl", "start", "constellation-enrolment")
    lab.says("are let in at", "-u", "constellation-enrolment")
    assert "this house is h1 now" in lab.run(CONSTELLATION, "fleet", "join", *given)
    lab.run("systemctl", "stop", "constellation-enrolment")
    lab.run("rm", "-r", "/etc/mosquitto/fleet", "/etc/constellation/fleet", "/etc/constellation/fleet.json")
    lab.run("rm", "/etc/mosquitto/constellation/conf.d/fleet.conf", "/etc/mosquitto/constellation/acl.local")


def test_a_house_is_backed_up_by_its_unit_while_it_runs_and_the_copy_is_whole(lab: Lab) -> None:
    lab.run("install", "-d", "-m", "700", "/var/backups/constellation")
    lab.run("sh", "-c", "umask 077; echo horse > /etc/constellation/credentials/backup.passphrase")
    lab.run("systemctl", "start", "constellation-backup")
    file = lab.run("sh", "-c", "ls /var/backups/constellation/house-*.tar")
    said = lab.run(CONSTELLATION, "backup", "--check", file.strip())
    assert "for onewire, host, archive" in said
    assert "credentials open" in said
    lab.run("systemctl", "enable", "--now", "constellation-backup.timer")
    assert "constellation-backup.timer" in lab.run("systemctl", "list-timers", "--all")
    lab.run("systemctl", "disable", "--now", "constellation-backup.timer")
    lab.run("rm", "/etc/constellation/credentials/backup.passphrase")
    lab.fresh("home/data/boiler/water/temperature")


def test_installing_again_changes_nothing(lab: Lab) -> None:
    assert "enabled constellation@onewire.service" in lab.installed
    pid = lab.pid("onewire")
    assert (
        lab.run(CONSTELLATION, "units", "--install") == "everything is installed as topics.yaml asks; nothing changed\n"
    )
    assert lab.pid("onewire") == pid


def test_restarting_one_leaves_the_others_alone_and_nobody_is_called_offline_for_long(lab: Lab) -> None:
    others = {name: lab.pid(name) for name in ("archive", "host")}
    start = lab.start_counter("onewire")
    lab.run("systemctl", "restart", "constellation@onewire")
    lab.wait("home/service/onewire/health", lambda health: health["start"] == start + 1)
    lab.wait("home/service/onewire/status", lambda status: status == "online")
    lab.fresh("home/data/boiler/water/temperature")
    assert {name: lab.pid(name) for name in others} == others
    lab.says("stopped: signal SIGTERM", "-u", "constellation@onewire")


def test_a_killed_service_is_back_before_anyone_calls_it_offline(lab: Lab) -> None:
    before, start, restarts = lab.pid("onewire"), lab.start_counter("onewire"), int(lab.show("onewire", "NRestarts"))
    heard = len(lab.heard)
    lab.run("kill", "-9", str(before))
    lab.wait("home/service/onewire/health", lambda health: health["start"] == start + 1)
    lab.fresh("home/data/boiler/water/temperature")
    assert lab.pid("onewire") != before
    assert int(lab.show("onewire", "NRestarts")) == restarts + 1
    assert "offline" not in [
        payload for _, topic, payload in lab.heard[heard:] if topic == "home/service/onewire/status"
    ]
    lab.says("Main process exited, code=killed, status=9/KILL", "-u", "constellation@onewire")


def test_a_service_that_stands_still_is_ended_by_its_watchdog_and_started_again(lab: Lab) -> None:
    lab.write(
        "/etc/systemd/system/constellation@onewire.service.d/test.conf", "[Service]\nWatchdogSec=5\nTimeoutAbortSec=2\n"
    )
    lab.run("systemctl", "daemon-reload")
    lab.run("systemctl", "restart", "constellation@onewire")
    lab.fresh("home/data/boiler/water/temperature")
    before, start = lab.pid("onewire"), lab.start_counter("onewire")
    lab.run("kill", "-STOP", str(before))
    lab.wait("home/service/onewire/health", lambda health: health["start"] == start + 1)
    assert lab.pid("onewire") != before
    lab.says("Watchdog timeout", "-u", "constellation@onewire")
    lab.fresh("home/data/boiler/water/temperature")
    lab.run("rm", "/etc/systemd/system/constellation@onewire.service.d/test.conf")
    lab.run("systemctl", "daemon-reload")
    lab.run("systemctl", "restart", "constellation@onewire")
    lab.fresh("home/data/boiler/water/temperature")


def test_systemd_journal_and_topics_agree_on_a_sensor_that_falls_silent(lab: Lab) -> None:
    flue = "home/data/boiler/flue/temperature"
    lab.fresh(flue)
    lab.run("rm", "-r", f"/srv/w1/{FLUE}")
    lab.wait("home/service/onewire/health", lambda health: health["stale"] == ["boiler/flue/temperature"])
    lab.wait(flue, lambda payload: payload in ("", "(null)"))
    assert lab.show("onewire", "ActiveState") == "active"
    lab.shows("onewire", "StatusText", lambda text: text.startswith("degraded"))
    lab.says("is silent for", f"TOPIC={flue}")
    assert lab.journal(f"TOPIC={flue}").count("is silent for") == 1
    assert lab.journal("TOPIC=home/data/boiler/water/temperature") == ""
    lab.plug((FLUE, 99.5))
    assert lab.fresh(flue)["value"] == 99.5
    lab.wait("home/service/onewire/health", lambda health: not health["stale"])
    lab.says("is back: 99.5", f"TOPIC={flue}")


def test_reload_takes_a_changed_file_over_and_refuses_a_broken_one(lab: Lab) -> None:
    pid = lab.pid("onewire")
    lab.plug(("28-0000000000aa", 8.5))
    lab.write(
        "/etc/constellation/topics.yaml", TOPICS + "  shed/room/temperature: {from: onewire, id: 28-0000000000aa}\n"
    )
    lab.run("systemctl", "reload", "constellation@onewire")
    assert lab.wait("home/data/shed/room/temperature", bool)["value"] == 8.5
    lab.write("/etc/constellation/topics.yaml", TOPICS.replace("from: onewire", "from: onewier", 1))
    lab.run("systemctl", "reload", "constellation@onewire")
    place = "/etc/constellation/topics.yaml:9: topics.boiler/water/temperature.from: no source is named 'onewier'"
    lab.says(place, "-u", "constellation@onewire")
    assert lab.fresh("home/data/shed/room/temperature")["value"] == 8.5
    assert lab.show("onewire", "ActiveState") == "active"
    lab.write("/etc/constellation/topics.yaml", TOPICS)
    lab.run("systemctl", "reload", "constellation@onewire")
    lab.wait("home/data/shed/room/temperature", lambda payload: payload in ("", "(null)"))
    assert lab.pid("onewire") == pid


SOURCE = '''"""Counts, as an example of a source of the user's own."""

from collections.abc import Iterator

from bootstrap_lib import InstanceOptions, Needs, Nothing, Sample, Source, Topic


class Counting(Source):
    """One, two, three, as if from a serial port."""

    NEEDS = Needs(devices=("serial",), groups=("video",))

    options: InstanceOptions
    topics: tuple[Topic[Nothing], ...]

    def samples(self) -> Iterator[Sample]:
        """Count."""
        number = 0.0
        while self.tick():
            number += 1
            yield self.topics[0], number
'''


SUBSCRIBER = '''"""Tells how many readings came, as an example of a subscriber of the user's own."""

from typing import Any

from bootstrap_lib import InstanceOptions, Needs, Reading, Subscriber, Topic


class Tally(Subscriber):
    """Counts readings."""

    NEEDS = Needs(rights=("write {root}/alert/tally",))

    options: InstanceOptions

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:
        """Tell it at once."""
        self.bus.publish(f"{self.registry.root}/alert/tally", reading.topic.encode(), qos=1)
'''


def test_a_subscriber_is_added_as_one_file_with_rights_of_its_own_at_the_broker(lab: Lab) -> None:
    lab.write("/etc/constellation/services/tally.py", SUBSCRIBER)
    lab.write(
        "/etc/constellation/topics.yaml", TOPICS.replace("subscribers:\n", "subscribers:\n  tally: {heartbeat: 2s}\n")
    )
    lab.run(CONSTELLATION, "units", "--install")
    lab.run("systemctl", "start", "constellation@tally")
    lab.wait("home/alert/tally", lambda said: str(said).startswith("boiler/"))
    lab.write("/etc/constellation/services/tally.py", SUBSCRIBER.replace("alert/tally", "alert/other", 1))
    lab.run(CONSTELLATION, "units", "--install")
    heard = len(lab.heard)
    lab.run("systemctl", "restart", "constellation@tally")
    lab.fresh("home/data/boiler/water/temperature")
    lab.wait("home/service/tally/health", lambda health: health["counters"].get("stored", 0) > 3)
    assert "home/alert/tally" not in [topic for _, topic, _ in lab.heard[heard:]]
    lab.write("/etc/constellation/topics.yaml", TOPICS)
    lab.run(CONSTELLATION, "units", "--install")


def test_a_source_is_added_as_one_file_and_its_lines(lab: Lab) -> None:
    pids = {name: lab.pid(name) for name in ("onewire", "archive", "host")}
    lab.write("/etc/constellation/services/counting.py", SOURCE)
    text = TOPICS.replace("  far:", "  counting: {every: 500ms, heartbeat: 2s}\n  far:")
    lab.write("/etc/constellation/topics.yaml", text + "  shed/test/temperature: {from: counting}\n")
    said = lab.run(CONSTELLATION, "units", "--install")
    assert "enabled constellation@counting.service" in said
    lab.run("systemctl", "start", "constellation@counting")
    lab.wait("home/service/counting/status", lambda status: status == "online")
    assert lab.fresh("home/data/shed/test/temperature")["unit"] == "°C"
    assert "char-ttyUSB rw" in lab.show("counting", "DeviceAllow")
    assert lab.show("counting", "SupplementaryGroups") == "dialout video"
    assert {name: lab.pid(name) for name in pids} == pids
    touched = lab.run("sh", "-c", f"touch {PROJECT}/services/x 2>&1", check=False)
    assert "Read-only file system" in touched  # so the project itself has not changed


def test_an_instance_that_topics_yaml_no_longer_has_is_disabled_and_stopped(lab: Lab) -> None:
    lab.write("/etc/constellation/topics.yaml", TOPICS)
    said = lab.run(CONSTELLATION, "units", "--install")
    assert "disabled constellation@counting.service: topics.yaml no longer gives it to this host" in said
    lab.shows("counting", "ActiveState", lambda state: state == "inactive")
    lab.wait("home/service/counting/status", lambda status: status == "offline")


def test_a_unit_that_fails_again_and_again_is_told_to_people(lab: Lab) -> None:
    lab.write(
        "/etc/systemd/system/constellation@onewire.service.d/test.conf",
        "[Unit]\nStartLimitBurst=2\n[Service]\nRestartSec=100ms\nExecStartPre=/bin/false\n",
    )
    lab.run("systemctl", "daemon-reload")
    lab.run("systemctl", "restart", "constellation@onewire", check=False)
    told = wait_for(
        lambda: [line for line in list(lab.heard) if line[1].startswith("home/notify/")], PATIENCE, "a message"
    )
    assert json.loads(told[0][2])["text"].startswith("onewire on ")
    lab.says("fails again and again", "-u", "constellation-failure@onewire")
    timers = ("systemctl", "list-timers", "--all", "--plain")
    wait_for(lambda: "run-" in lab.run(*timers), PATIENCE, "the timer of the next try")
    lab.run("rm", "/etc/systemd/system/constellation@onewire.service.d/test.conf")
    lab.run("systemctl", "daemon-reload")
    lab.run("systemctl", "reset-failed", "constellation@onewire")
    lab.run("systemctl", "start", "constellation@onewire")
    lab.fresh("home/data/boiler/water/temperature")


def test_the_doctor_finds_a_broken_house_and_says_what_mends_it(lab: Lab) -> None:
    well = lab.run(CONSTELLATION, "doctor", check=False)
    assert "ok    broker: localhost:8883 takes the operator" in well
    lab.run("chmod", "644", "/etc/constellation/credentials/mqtt.host")
    lab.run("systemctl", "stop", "constellation-broker")
    ill = lab.run(CONSTELLATION, "doctor", check=False)
    assert "mend it: sudo chmod 600 /etc/constellation/credentials/mqtt.host" in ill
    assert "WRONG broker: no connection to the broker at localhost:8883: Connection refused" in ill
    lab.run("chmod", "600", "/etc/constellation/credentials/mqtt.host")
    lab.run("systemctl", "start", "constellation-broker")


def test_the_target_stops_all(lab: Lab) -> None:
    lab.run("systemctl", "stop", "constellation.target")
    for name in ("onewire", "archive", "host"):
        lab.shows(name, "ActiveState", lambda state: state == "inactive")
    assert "Traceback" not in lab.journal("-u", "constellation@*")
