"""What Debian's packages open or start by themselves is closed, and what a demo installs is neither started nor enabled."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import CONSTELLATION, PATIENCE, Lab
from harness import PROJECT, wait_for
from once import tried_once

pytestmark = pytest.mark.slow

TOPICS = """\
broker: {ca: /etc/constellation/ca.crt, password: "secret:mqtt.{instance}"}
sources: {host: {every: 1s, heartbeat: 2s}}
subscribers: {influx: {}, pushover: {token: secret:pushover.token, user: secret:pushover.user}}
topics: {house/pi/memory_usage: {from: host}}
"""
POSTINST = """\
#!/bin/sh
set -e
deb-systemd-helper enable chatty.service >/dev/null || true
deb-systemd-invoke start chatty.service >/dev/null || true
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with tried_once("the container with systemd"):
        lab = Lab(PROJECT)
        try:
            lab.show_project()
            yield lab
        finally:
            lab.close()


def reached(lab: Lab, address: str) -> bool:
    return lab.run("curl", "-sf", "-m", "2", f"http://{address}:8428/health", check=False) == "OK"


def test_the_time_series_database_speaks_with_this_machine_alone(lab: Lab) -> None:
    lab.run("ip", "address", "replace", "10.9.9.9/32", "dev", "lo")  # as if it were the network's
    lab.run("systemctl", "start", "victoria-metrics")
    wait_for(lambda: reached(lab, "10.9.9.9"), PATIENCE, "Debian's default")
    lab.write("/etc/constellation/topics.yaml", TOPICS)
    said = lab.run(CONSTELLATION, "units", "--install")
    assert "victoria-metrics.service.d/constellation-fence.conf" in said
    wait_for(lambda: reached(lab, "127.0.0.1"), PATIENCE, "the database on loopback")
    assert not reached(lab, "10.9.9.9")
    assert "enabled constellation@influx.service" in said
    # A unit that would go from start to start for want of a secret is not enabled before that is there.
    assert "enabled constellation@pushover.service" not in said
    assert "missing: pushover needs /etc/constellation/credentials/pushover.token" in said
    lab.run(
        "sh",
        "-c",
        "for name in token user; do echo x | install -m 600 /dev/stdin /etc/constellation/credentials/pushover.$name; done",
    )
    assert "enabled constellation@pushover.service" in lab.run(CONSTELLATION, "units", "--install")
    assert lab.run("ss", "-Hltn", "sport = :1883") == ""
    lab.run(CONSTELLATION, "units", "--remove")
    wait_for(lambda: reached(lab, "10.9.9.9"), PATIENCE, "Debian's default again")


def test_what_a_demo_installs_is_neither_running_nor_enabled(lab: Lab, tmp_path: Path) -> None:
    package = tmp_path / "chatty"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN" / "control").write_text(
        "Package: chatty\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: starts by itself\n"
    )
    (package / "DEBIAN" / "postinst").write_text(POSTINST)
    (package / "DEBIAN" / "postinst").chmod(0o755)
    unit = package / "usr/lib/systemd/system/chatty.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n")
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", package], check=True, capture_output=True)
    encoded = subprocess.run(["base64", f"{package}.deb"], capture_output=True, text=True, check=True).stdout
    lab.run("sh", "-c", "base64 -d >/tmp/chatty.deb", text=encoded)
    state = ("systemctl", "is-enabled", "chatty"), ("systemctl", "is-active", "chatty")
    lab.run("rm", "-f", "/usr/sbin/policy-rc.d")  # which a container's image may bring
    lab.run("apt-get", "install", "-y", "-qq", "/tmp/chatty.deb")
    assert [lab.run(*words, check=False).strip() for words in state] == ["enabled", "active"]
    lab.run("dpkg", "--purge", "chatty")
    lab.run("systemctl", "stop", "chatty", check=False)
    said = lab.run(PROJECT / "scripts/apt-quietly", "/tmp/chatty.deb")
    assert "Not enabled, as nothing here needs them at boot: chatty.service" in said
    assert [lab.run(*words, check=False).strip() for words in state] == ["disabled", "inactive"]
    assert lab.run("sh", "-c", "ls /usr/sbin/policy-rc.d 2>/dev/null", check=False) == ""


def test_units_run_no_program_that_a_minimal_debian_lacks() -> None:
    """/bin/kill is of procps: without it no broker took over the rights of a new instance."""
    lines = [line for unit in (PROJECT / "systemd").glob("*.service") for line in unit.read_text().splitlines()]
    run = {line.partition("=")[2].split()[0].lstrip("-+!@:") for line in lines if line.startswith("Exec")}
    assert run == {"/opt/constellation/bin/constellation", "/usr/sbin/mosquitto", "/bin/sh", "/usr/bin/systemd-run"}
