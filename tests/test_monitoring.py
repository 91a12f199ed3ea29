"""What is shipped for Prometheus and Grafana: rules that ring when they should, panels whose every query answers with data."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import PROJECT, Broker, Ear, House, free_port, wait_for
from test_exporter import find, health
from voices import Voice, now

from bootstrap_lib import Reading
from bootstrap_lib.registry import Registry
from services.metrics import dashboards
from services.stores.line_protocol import Writer

MONITORING = PROJECT / "services/metrics/shipped"
SHIPPED = Registry(PROJECT / "topics.yaml")
PHASES = SHIPPED.topics["boiler/burner/phase"].states
RAN = 40


def test_rules_ring_when_they_should_and_not_before(tmp_path: Path) -> None:
    shutil.copy(PROJECT / "tests/test_monitoring.rules.yml", tmp_path)
    rules = (MONITORING / "prometheus/constellation.rules.yml").read_text()
    command = [find("promtool"), "test", "rules", tmp_path / "test_monitoring.rules.yml"]

    def judge(text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "constellation.rules.yml").write_text(text)
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    assert judge(rules).returncode == 0, judge(rules).stdout + judge(rules).stderr
    assert judge(rules.replace("constellation_service_up == 0", "constellation_service_up == 2")).returncode == 1
    alerts = set(re.findall(r"alert: (\w+)", rules))
    assert alerts == set(re.findall(r"alertname: (\w+)", (PROJECT / "tests/test_monitoring.rules.yml").read_text()))


def test_dashboards_are_what_their_table_makes(tmp_path: Path) -> None:
    dashboards.main(tmp_path)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.json")}
    kept = MONITORING / "grafana/dashboards"
    assert made == {path.relative_to(kept): path.read_text() for path in kept.rglob("*.json")}, (
        "run python -m services.metrics.dashboards services/metrics/shipped/grafana/dashboards"
    )
    assert len(made) == 10


# -- each query of each panel -----------------------------------------------------------------------------------------


class Asked:
    """A server that answers queries of Prometheus' kind."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, **query: object) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query, doseq=True)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def at_once(self, expression: str) -> list[Any]:
        found: list[Any] = self.get("query", query=expression)["result"]
        return found

    def over_time(self, expression: str, since: float, step: float) -> list[Any]:
        found: list[Any] = self.get("query_range", query=expression, start=since, end=time.time(), step=step)["result"]
        return found


def unanswered(server: Asked, kind: str, since: float, step: float) -> list[str]:
    """Queries of the dashboards that a server has no data for, with all variables and macros in place."""
    missing = []
    for path in sorted((MONITORING / "grafana/dashboards" / kind).glob("*.json")):
        board = json.loads(path.read_text())
        values = {"__rate_interval": "30s", "__range": "1h"}
        for variable in board["templating"]["list"]:
            if variable["type"] == "textbox":
                values[variable["name"]] = variable["query"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
                places = {
                    one[label] for one in server.get("series", **{"match[]": put(metric, values), "start": since})
                }
                assert places, f"{path.name}: nothing to choose for {variable['name']}"
                values[variable["name"]] = min(places)
        asked = [(target["expr"], target["instant"]) for panel in board["panels"] for target in panel["targets"]]
        asked += [(region["expr"], False) for region in board["annotations"]["list"]]
        for expression, instant in asked:
            text = put(expression, values)
            if not (server.at_once(text) if instant else server.over_time(text, since, step)):
                missing.append(f"{path.name}: {text}")
    return missing


def put(text: str, values: dict[str, str]) -> str:
    """An expression with Grafana's variables in place."""
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value).replace(f"${name}", value)
    assert "$" not in text, text
    return text


def value_of(topic: Any, turn: int) -> Any:
    """A value that a topic may have; counters grow."""
    if topic.kind == "switch":
        return turn % 2 == 0
    if topic.kind == "state":
        return topic.states[turn % len(topic.states)]
    return 100 + turn if topic.kind == "counter" else 40 + turn % 10


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[str], Asked]]:
    """Starts the real Prometheus of Debian, with the shipped configuration and rules, on an exporter's port."""
    processes = []

    def start(target: str) -> Asked:
        shutil.copytree(MONITORING / "prometheus", tmp_path / "prometheus")
        config = tmp_path / "prometheus/prometheus.yml"
        config.write_text(config.read_text().replace("15s", "250ms").replace("localhost:9646", target))
        rules = tmp_path / "prometheus/constellation.rules.yml"
        rules.write_text(rules.read_text().replace("interval: 1m", "interval: 1s"))
        port = free_port()
        options = [
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (tmp_path / "prometheus.log").open("wb") as log:
            processes.append(subprocess.Popen([find("prometheus"), *options], stdout=log, stderr=log))
        server = Asked(port)

        def answers() -> bool:
            try:
                return bool(server.at_once("vector(1)"))
            except OSError:
                return False

        wait_for(answers, what="prometheus")
        return server

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_a_real_prometheus_answers_each_query_of_each_panel_and_forgets_what_is_gone(
    house: House, broker: Broker, ear: Ear, voice: Voice, prometheus: Callable[[str], Asked]
) -> None:
    port = free_port()
    text = (PROJECT / "topics.yaml").read_text()
    house.write(
        re.sub(r"(?m)^broker:.*$", "", text).replace(
            "exporter: {}", f"exporter: {{port: {port}, heartbeat: 1s, every: 200ms}}"
        )
    )
    house.start("exporter")
    server = prometheus(f"127.0.0.1:{port}")
    began = time.time()
    ear.say("home/alert/hot", '{"state":"firing","rule":"hot"}', retain=True)
    for turn, _ in enumerate(PHASES):
        for name, topic in SHIPPED.topics.items():
            voice.say(name, value_of(topic, turn), now(), unit=topic.unit)
        for name in SHIPPED.instances:
            if name != "exporter":
                ear.say(f"home/service/{name}/status", "online", retain=True)
                counters = {"published": turn, "stored": turn, "errors": turn}
                document = health("degraded" if turn == 3 else "running", beat=30, counters=counters)
                ear.say(f"home/service/{name}/health", document, retain=True)
        phase = f'constellation_phase{{state="{PHASES[turn]}"}} == 1'
        wait_for(lambda phase=phase: server.at_once(phase), what=phase)
    wait_for(lambda: not unanswered(server, "prometheus", began, 0.25), what="an answer to each query")
    wait_for(lambda: server.at_once("constellation:lost_readings:sum"), what="a recorded rule")
    assert {group["name"] for group in server.get("rules")["groups"]} == {
        "constellation_records",
        "constellation_alerts",
    }

    series = 'constellation_temperature_celsius{place="boiler",thing="water"}'
    assert server.at_once(series)
    voice.raw("boiler/water/temperature", b"")
    cleared = time.monotonic()
    wait_for(lambda: not server.at_once(series), what=f"the end of {series}")
    assert time.monotonic() - cleared < 5, "at the next scrape, not after Prometheus' five minutes"
    voice.say("boiler/water/temperature", 40.0, now())
    wait_for(lambda: server.at_once(series), what="its return")


def test_a_real_victoriametrics_answers_each_query_of_each_panel(tmp_path: Path) -> None:
    port = free_port()
    command = [find("victoria-metrics"), f"-storageDataPath={tmp_path}/vm", f"-httpListenAddr=127.0.0.1:{port}"]
    process = subprocess.Popen([*command, "-search.latencyOffset=0s"], stderr=subprocess.DEVNULL)
    try:
        server, writer, end = Asked(port), Writer("home"), now()
        lines = [
            writer.line(Reading(name, value_of(topic, turn), topic.unit, end - (RAN - turn) * 60_000), topic)
            for turn in range(RAN + 1)
            for name, topic in SHIPPED.topics.items()
            if topic.stored_by("influx")
        ]

        def write() -> bool:
            url = f"http://127.0.0.1:{port}/write?precision=ms"
            try:
                with urllib.request.urlopen(url, "\n".join(lines).encode(), timeout=5):
                    return True
            except OSError:
                return False

        wait_for(write, what="victoria-metrics")

        def complete() -> bool:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/internal/force_flush", timeout=5).close()
            return bool(server.at_once('{__name__="home_temperature"}'))

        wait_for(complete, what="what was written")
        assert unanswered(server, "victoriametrics", time.time() - 3600, 60) == []
    finally:
        process.kill()
        process.wait()
