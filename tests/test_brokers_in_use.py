"""`units --install` and `--remove` beside a mosquitto that is in use: who was its client before is so after, in a real systemd."""

import re
from collections.abc import Iterator

import pytest
from containers import CONSTELLATION, PATIENCE, Lab
from harness import PROJECT, wait_for
from once import tried_once

TOPICS = """\
broker: {ca: /etc/constellation/ca.crt, password: "secret:mqtt.{instance}"}
sources: {host: {every: 1s, heartbeat: 2s}}
topics: {house/pi/memory_usage: {from: host}}
"""

STOCK = {"/etc/mosquitto/conf.d/default.conf": ""}
PASSWORDS = {
    "/etc/mosquitto/conf.d/default.conf": "listener 1883\nallow_anonymous false\npassword_file /etc/mosquitto/passwd\n"
}
ANONYMOUS = {"/etc/mosquitto/conf.d/open.conf": "listener 1883\nallow_anonymous true\nmax_queued_messages 7\n"}
EACH = {
    "/etc/mosquitto/conf.d/00.conf": "per_listener_settings true\nlistener 1883\nallow_anonymous true\n"
    "listener 1884\nallow_anonymous false\npassword_file /etc/mosquitto/passwd\n"
}
pytestmark = [pytest.mark.slow, pytest.mark.whole]

USER = ("-u", "shutters", "-P", "by hand")
BROKERS = {
    "stock": (STOCK, [("-p", "1883")], "port 1883 (its own, for this machine alone)"),
    "passwords": (PASSWORDS, [("-p", "1883", *USER)], "password_file /etc/mosquitto/passwd"),
    "anonymous": (ANONYMOUS, [("-p", "1883")], "allow_anonymous (/etc/mosquitto/conf.d/open.conf:2)"),
    "each listener": (EACH, [("-p", "1883"), ("-p", "1884", *USER)], "1884 (/etc/mosquitto/conf.d/00.conf:4)"),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with tried_once("the container with systemd"):
        lab = Lab(PROJECT)
        try:
            lab.show_project()
            lab.run(
                "sh",
                "-c",
                "mosquitto_passwd -b -c /etc/mosquitto/passwd shutters 'by hand'; chmod 644 /etc/mosquitto/passwd",
            )
            yield lab
        finally:
            lab.close()


def use(lab: Lab, files: dict[str, str]) -> None:
    """Have the machine's mosquitto run with these files, and no house."""
    lab.run("sh", "-c", "rm -f /etc/mosquitto/conf.d/*.conf /var/lib/mosquitto/*")
    for path, text in files.items():
        lab.write(path, text)
    lab.run("systemctl", "restart", "mosquitto")
    lab.write("/etc/constellation/topics.yaml", TOPICS)


def tell(lab: Lab, client: tuple[str, ...], text: str) -> None:
    lab.run("mosquitto_pub", "-h", "127.0.0.1", *client, "-t", f"shutters/{client[1]}", "-m", text, "-r", "-q", "1")


def hear(lab: Lab, client: tuple[str, ...]) -> str:
    words = ("mosquitto_sub", "-h", "127.0.0.1", *client, "-t", f"shutters/{client[1]}", "-C", "1", "-W", "10")
    return lab.run(*words, check=False).strip()


@pytest.mark.parametrize("name", BROKERS)
def test_a_client_that_worked_before_works_after(lab: Lab, name: str) -> None:
    files, clients, said = BROKERS[name]
    use(lab, files)
    for client in clients:
        tell(lab, client, f"before {name}")
    pid = lab.run("systemctl", "show", "-P", "MainPID", "mosquitto")
    installed = lab.run(CONSTELLATION, "units", "--install")
    assert "left mosquitto.service and its clients as they are" in installed
    assert said in installed
    lab.run("systemctl", "start", "constellation.target")
    operator = ("env", "XDG_CONFIG_HOME=/etc/constellation/operator", "mosquitto_sub", "-C", "1", "-W", "60", "-t")
    assert '"unit":"%"' in lab.run(*operator, "home/data/house/pi/memory_usage")
    for client in clients:
        assert hear(lab, client) == f"before {name}"
        tell(lab, client, f"after {name}")
        assert hear(lab, client) == f"after {name}"
    removed = lab.run(CONSTELLATION, "units", "--remove")
    assert "left /var/lib/constellation: what was measured" in removed
    for client in clients:
        assert hear(lab, client) == f"after {name}"
    assert lab.run("systemctl", "show", "-P", "MainPID", "mosquitto") == pid
    left = lab.run("systemctl", "list-unit-files", "--no-legend", "constellation*", check=False)
    left += lab.run("systemctl", "list-units", "--no-legend", "constellation*", check=False)
    assert left == ""
    found = lab.run(
        "sh", "-c", "find /etc/systemd /etc/udev /usr/local/lib -name '*constellation*' 2>/dev/null || true"
    )
    assert {path.rpartition("/")[2] for path in found.split()} == {
        "constellation@.service.d",
        "constellation-failure@.service.d",
    }


def test_a_port_that_the_machines_broker_has_is_not_taken(lab: Lab) -> None:
    use(lab, {"/etc/mosquitto/conf.d/tls.conf": "listener 8883\nallow_anonymous true\n"})
    said = lab.run("sh", "-c", f"{CONSTELLATION} units --install 2>&1", check=False)
    assert "port 8883 is the machine's own mosquitto's (/etc/mosquitto/conf.d/tls.conf:1)" in said
    assert "broker: {port: 8884, …}" in said
    assert lab.run("sh", "-c", "ls /usr/local/lib/systemd/system 2>/dev/null", check=False) == ""


def test_a_broker_that_would_not_start_is_not_restarted_and_its_files_are_as_before(lab: Lab) -> None:
    use(lab, STOCK)
    lab.run(CONSTELLATION, "units", "--install")
    lab.run("systemctl", "start", "constellation-broker")
    pid = lab.run("systemctl", "show", "-P", "MainPID", "constellation-broker")
    before = lab.run(
        "sh", "-c", "cd /etc/mosquitto/constellation; stat -c '%n %a %U %G' *; cat acl mosquitto.conf passwords"
    )
    lab.write("/etc/mosquitto/constellation/acl.local", "topic readwrit #\n")
    said = lab.run("sh", "-c", f"{CONSTELLATION} units --install 2>&1", check=False)
    assert "the broker does not start with what was to be installed, so all is as before: Error" in said
    lab.run("rm", "/etc/mosquitto/constellation/acl.local")
    after = lab.run(
        "sh", "-c", "cd /etc/mosquitto/constellation; stat -c '%n %a %U %G' *; cat acl mosquitto.conf passwords"
    )
    assert after == before
    assert lab.run("systemctl", "show", "-P", "MainPID", "constellation-broker") == pid
    # What no trial sees, a setting of the user's own: the broker is started with it, and comes back without what was new.
    lab.write("/etc/mosquitto/constellation/conf.d/mine.conf", "nonsense 1\n")
    lab.write("/etc/constellation/topics.yaml", TOPICS.replace("{ca:", "{port: 8885, ca:"))
    said = lab.run("sh", "-c", f"{CONSTELLATION} units --install 2>&1", check=False)
    assert "does not start" in said or "failed" in said
    lab.run("rm", "/etc/mosquitto/constellation/conf.d/mine.conf")
    assert "listener 8883 127.0.0.1" in lab.run("cat", "/etc/mosquitto/constellation/mosquitto.conf")
    lab.write("/etc/constellation/topics.yaml", TOPICS)
    lab.run("systemctl", "reset-failed", "constellation-broker")
    lab.run("systemctl", "start", "constellation-broker")


def test_what_an_earlier_version_added_to_the_machines_broker_is_taken_away(lab: Lab) -> None:
    lab.run(CONSTELLATION, "units", "--remove")
    former = "/etc/mosquitto/conf.d/constellation.conf"
    use(lab, {former: "listener 18883 127.0.0.1\nallow_anonymous true\n"})
    said = lab.run(CONSTELLATION, "units", "--install")
    assert f"removed {former}" in said
    wait_for(lambda: re.search(r":1883\b", lab.run("ss", "-ltn")), PATIENCE, "Debian's own port")
    assert ":18883" not in lab.run("ss", "-ltn")
