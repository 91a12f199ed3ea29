"""The files of scripts/containers say what their page promises; the house in containers itself is run by `python -m tests.containers_run`."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from harness import PROJECT, free_port, wait_for
from once import tried_once

from bootstrap_lib.broker import prepare_broker
from bootstrap_lib.needs import needs_of
from bootstrap_lib.registry import Registry
from services.simulators import staging
from tests.containers_run.__main__ import main
from tests.containers_run.image import missing

SHIPPED = PROJECT / "scripts" / "containers"
COMPOSE: dict[str, Any] = yaml.safe_load((SHIPPED / "compose.yaml").read_text())
INSTANCES = {
    name: block
    for name, block in COMPOSE["services"].items()
    if "INSTANCE" in (block.get("environment") or {})
}  # fmt: skip


def test_the_shipped_house_is_good_and_has_a_container_for_each_instance() -> None:
    command = [sys.executable, "-m", "bootstrap_lib.cli", "--config", SHIPPED / "config/topics.yaml", "check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    begun = {name for name, block in INSTANCES.items() if "profiles" not in block}
    assert begun == set(Registry(SHIPPED / "config/topics.yaml").instances)


@pytest.mark.parametrize("name", INSTANCES)
def test_an_instance_has_its_own_secret_and_what_its_promise_stands_on(name: str) -> None:
    block = INSTANCES[name]
    assert block["environment"] == {"INSTANCE": name}
    assert block["secrets"] == [f"mqtt.{name}"]
    assert COMPOSE["secrets"][f"mqtt.{name}"]["file"].endswith(f"/credentials/mqtt.{name}")
    assert {"state:/var/lib/constellation", "run:/run/constellation"} <= set(block["volumes"])
    assert "depends_on" not in block, "each can be started again alone, in any order"
    assert block["restart"] == "unless-stopped"
    needs = needs_of(name)
    if needs.devices and needs.devices != ("firmware",):
        assert block["devices"], "a device comes in by its name"
        assert block["group_add"], "and by its group"


def test_every_container_is_read_only_and_without_rights() -> None:
    demo = yaml.safe_load((SHIPPED / "demo.yaml").read_text())["services"]
    for name, block in (COMPOSE["services"] | demo).items():
        assert block["read_only"] is True, name
        assert block["cap_drop"] == ["ALL"], name
        assert block["security_opt"] == ["no-new-privileges:true"], name
        assert not block.get("privileged"), name
        assert all(port.startswith("127.0.0.1:") for port in block.get("ports", [])), name


def test_the_folder_in_memory_belongs_to_no_single_container() -> None:
    options = COMPOSE["volumes"]["run"]["driver_opts"]
    assert options["type"] == "tmpfs"
    user = re.search(r"useradd .*--uid (\d+)", (SHIPPED / "Containerfile").read_text())
    assert user
    assert f"uid={user[1]}," in options["o"]
    holders = {n for n, block in COMPOSE["services"].items() if any("run:/run/" in v for v in block.get("volumes", []))}
    assert {"broker", *INSTANCES} <= holders, "they hold the folder while an instance is started again"
    assert not any("/run/constellation" in str(block.get("tmpfs")) for block in COMPOSE["services"].values())


def test_the_page_of_the_demo_has_the_port_that_its_container_publishes(tmp_path: Path) -> None:
    script = re.search(r"sed -i '(.*)' /demo/topics.yaml", (SHIPPED / "Containerfile").read_text())
    assert script
    text = subprocess.run(
        ["sed", script[1], PROJECT / "topics.yaml"], capture_output=True, text=True, check=True
    ).stdout
    (tmp_path / "topics.yaml").write_text(text)
    web = Registry(tmp_path / "topics.yaml").instances["web"]
    assert web.raw["listen"] == "0.0.0.0"
    (published,) = yaml.safe_load((SHIPPED / "demo.yaml").read_text())["services"]["demo"]["ports"]
    assert staging.page(SimpleNamespace(secrets={}), web)["port"] == int(published.rpartition(":")[2])


def test_an_instance_that_has_only_its_own_password_can_ask_how_it_is_and_only_it(tmp_path: Path) -> None:
    config = tmp_path / "topics.yaml"
    config.write_text("subscribers: {alerts: {}, web: {}}\n")
    files = prepare_broker(tmp_path / "broker", Registry(config), free_port())
    config.write_text(f"broker: {json.dumps(files.settings)}\nsubscribers: {{alerts: {{heartbeat: 1s}}, web: {{}}}}\n")
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy2(files.credentials / "mqtt.alerts", own)
    environment = os.environ | {
        "CREDENTIALS_DIRECTORY": str(own), "STATE_DIRECTORY": str(tmp_path / "state"), "RUNTIME_DIRECTORY": str(tmp_path / "run"),
    }  # fmt: skip

    def constellation(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(config), *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, env=environment, timeout=60)

    broker = subprocess.Popen(["mosquitto", "-c", files.config], stderr=subprocess.DEVNULL)
    service = None
    try:
        wait_for(lambda: "offline" in (said := constellation("status", "alerts")).stdout or "never seen" in said.stdout)
        assert constellation("status", "--quiet", "alerts").returncode == 1
        command = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(config), "run", "alerts"]
        service = subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.DEVNULL)
        wait_for(lambda: constellation("status", "--quiet", "alerts").returncode == 0, what="its word")
        for words in (("status",), ("status", "web"), ("status", "alerts", "web")):
            assert "secret 'mqtt.operator' is not there" in constellation(*words).stderr, words
    finally:
        for process in filter(None, (service, broker)):
            process.terminate()
            process.wait(30)


@pytest.mark.slow
@pytest.mark.whole
def test_the_house_runs_in_containers_of_which_each_can_be_killed() -> None:
    if lacking := missing():
        pytest.skip(f"not installed: {' '.join(lacking)}")
    with tried_once("the house in containers"):
        assert main([]) == 0
