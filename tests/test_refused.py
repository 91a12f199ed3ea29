"""A broker that refuses: wrong password, untrusted certificate, a topic that the access list forbids. One sentence, no loss."""

import json
import subprocess
from pathlib import Path

from harness import Broker, House, wait_for

from services.simulators.onewire import Tree

SENSOR = "28-0316a4f1c9ff"


def measuring(tmp_path: Path, house: House, broker_line: str) -> Tree:
    tree = Tree(tmp_path / "w1")
    tree.set(SENSOR, 20.0)
    house.config.write_text(
        f"broker: {broker_line}\n"
        f"sources: {{onewire: {{every: 200ms, heartbeat: 1s, bus: {tmp_path}/w1}}}}\n"
        f"topics: {{a/b/temperature: {{from: onewire, id: {SENSOR}}}}}\n"
    )
    return tree


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key, crt = folder / f"{name}.key", folder / f"{name}.crt"
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        key,
        "-out",
        crt,
        *subject,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return key, crt


def test_a_wrong_password_is_said_once_and_measuring_goes_on(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "onewire", "right"], check=True, capture_output=True)
    broker = Broker(tmp_path / "broker", f"password_file {passwords}\n")
    broker.config.write_text(broker.config.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    broker.start()
    house = House(tmp_path / "house", broker.port)
    (tmp_path / "mqtt.onewire").write_text("wrong")
    (tmp_path / "mqtt.onewire").chmod(0o600)
    house.environment["CONSTELLATION_CREDENTIALS"] = str(tmp_path)
    with measuring(tmp_path, house, f'{{port: {broker.port}, password: "secret:mqtt.{{instance}}"}}'):
        house.start("onewire")
        wait_for(lambda: "the broker refuses us" in house.log("onewire"), what="the sentence")
        assert "check user and password of 'onewire'" in house.log("onewire")
        wait_for((house.folder / "run/onewire/spool.sqlite").exists, what="the spool")
        house.close()
    broker.stop()
    assert house.log("onewire").count("the broker refuses us") == 1


def test_an_untrusted_certificate_is_said_once(tmp_path: Path) -> None:
    key, crt = certificate(tmp_path, "server")
    _, other = certificate(tmp_path, "stranger")
    broker = Broker(tmp_path / "broker", f"certfile {crt}\nkeyfile {key}\n").start()
    house = House(tmp_path / "house", broker.port)
    with measuring(tmp_path, house, f"{{port: {broker.port}, ca: {other}}}"):
        house.start("onewire")
        wait_for(lambda: "its certificate is not trusted" in house.log("onewire"), what="the sentence")
        house.close()
    broker.stop()


def test_a_reading_that_the_access_list_forbids_is_put_aside_and_blocks_nobody(tmp_path: Path) -> None:
    rights = tmp_path / "acl"
    rights.write_text("topic readwrite home/service/#\ntopic write home/data/a/b/#\n")
    broker = Broker(tmp_path / "broker", f"acl_file {rights}\n").start()
    house = House(tmp_path / "house", broker.port)
    with measuring(tmp_path, house, f"{{port: {broker.port}}}") as tree:
        other = "28-0316a4f1d2aa"
        tree.set(other, 30.0)
        line = f", x/y/temperature: {{from: onewire, id: {other}}}}}\n"
        house.config.write_text(house.config.read_text()[:-2] + line)
        house.start("onewire")
        letters = house.state("onewire") / "dead_letters.jsonl"
        wait_for(lambda: letters.exists() and len(letters.read_text().splitlines()) > 2, what="dead letters")
        letter = json.loads(letters.read_text().splitlines()[0])
        assert letter["topic"] == "x/y/temperature"
        assert "the broker refuses it: not authorized; check the access list of 'onewire'" in letter["reason"]
        assert house.log("onewire").count("the broker refuses it") == 1
        house.close()
    broker.stop()
