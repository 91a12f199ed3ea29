"""The simulators are met by the real libraries: what these see is what the real hardware would show them."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from harness import busy
from pushover_complete import BadAPIRequestError, PushoverAPI, pushover_api

from services.simulators import onewire
from services.simulators.onewire import Fault, Tree
from services.simulators.pushover import PushoverServer
from services.simulators.web import HALF_A_GIGABYTE, Web

os.environ["W1THERMSENSOR_NO_KERNEL_MODULE"] = "1"
from w1thermsensor import (
    NoSensorFoundError,
    ResetValueError,
    Sensor,
    SensorNotReadyError,
    W1ThermSensor,
)

WATER, FLUE = "28-0316a2795f4b", "28-0316a2795f4c"


class TestOneWire:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Iterator[Tree]:
        with Tree(tmp_path) as tree:
            tree.set(WATER, 62.875)
            tree.set(FLUE, -10.125)
            yield tree

    def library(self, tree: Tree) -> type[W1ThermSensor]:
        return type("Library", (W1ThermSensor,), {"BASE_DIRECTORY": tree.root})

    def read(self, tree: Tree, sensor: str) -> float:
        return float(self.library(tree)(Sensor.DS18B20, sensor.removeprefix("28-")).get_temperature())

    def test_the_crc_is_the_data_sheets(self) -> None:
        assert onewire.crc8(bytes.fromhex("021cb801000000")) == 0xA2  # Maxim application note 27
        assert onewire.scratchpad(25.0625)[:2] == bytes.fromhex("9101")
        assert onewire.scratchpad(-25.0625)[:2] == bytes.fromhex("6ffe")

    def test_the_library_finds_and_reads_the_sensors(self, tree: Tree) -> None:
        found = {f"28-{sensor.id}" for sensor in self.library(tree).get_available_sensors()}
        assert found == {WATER, FLUE}
        assert self.read(tree, WATER) == 62.875
        assert self.read(tree, FLUE) == -10.125
        tree.set(WATER, 63.0)
        assert self.read(tree, WATER) == 63.0

    @pytest.mark.parametrize(
        ("fault", "raised"),
        [
            (Fault.CRC, SensorNotReadyError),
            (Fault.EMPTY, SensorNotReadyError),
            (Fault.ZERO, SensorNotReadyError),
            (Fault.ONE_LINE, IndexError),
            (Fault.POWER_ON, ResetValueError),
            (Fault.EIO, NoSensorFoundError),
        ],
    )
    def test_each_fault_raises_what_the_library_raises_and_heals(
        self, tree: Tree, fault: Fault, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(W1ThermSensor, "RETRY_DELAY_SECONDS", 0.001)
        tree.fail(WATER, fault)
        with pytest.raises(raised):
            self.read(tree, WATER)
        assert self.read(tree, FLUE) == -10.125
        tree.fail(WATER, None)
        assert self.read(tree, WATER) == 62.875

    def test_a_read_error_is_a_genuine_eio(self, tree: Tree) -> None:
        tree.fail(WATER, Fault.EIO)
        with pytest.raises(OSError, match=r"\[Errno 5\]"):
            (tree.root / WATER / "w1_slave").read_bytes()

    def test_power_on_and_genuine_85_differ_in_byte_six_only(self, tree: Tree) -> None:
        file = tree.root / WATER / "w1_slave"
        tree.set(WATER, 85.0)
        genuine = file.read_text().split()
        tree.fail(WATER, Fault.POWER_ON)
        power_on = file.read_text().split()
        assert (genuine[6], power_on[6]) == ("10", "0c")
        assert genuine[:6] == power_on[:6]
        assert "YES" in genuine
        assert "YES" in power_on

    def test_a_sensor_that_is_pulled_out_says_nonsense_with_a_right_crc(self, tree: Tree) -> None:
        tree.fail(WATER, Fault.OVERFLOW)
        assert self.read(tree, WATER) == pytest.approx(-109.938, abs=0.001)

    def test_an_unplugged_sensor_is_gone_and_comes_back(self, tree: Tree) -> None:
        tree.unplug(WATER)
        assert [f"28-{sensor.id}" for sensor in self.library(tree).get_available_sensors()] == [FLUE]
        with pytest.raises(NoSensorFoundError):
            self.read(tree, WATER)
        tree.set(WATER, 20.0)
        assert self.read(tree, WATER) == 20.0

    def test_a_hanging_sensor_blocks_its_reader_until_it_heals(self, tree: Tree) -> None:
        tree.fail(WATER, Fault.HANG)
        got: list[float] = []
        reader = threading.Thread(target=lambda: got.append(self.read(tree, WATER)))
        reader.start()
        assert self.read(tree, FLUE) == -10.125
        reader.join(0.3)
        assert reader.is_alive()
        tree.fail(WATER, None)
        reader.join(2)
        assert got == [62.875]

    def test_a_conversion_blocks_each_reader_for_its_time(self, tmp_path: Path) -> None:
        with Tree(tmp_path, conversion=0.2) as tree:
            tree.set(WATER, 62.875)
            tree.set(FLUE, 40.0)
            for _ in range(2):
                started = time.monotonic()
                assert (self.read(tree, WATER), self.read(tree, FLUE)) == (62.875, 40.0)
                assert 0.4 <= time.monotonic() - started < busy(0.8)

    def test_one_bulk_conversion_serves_the_next_reader_of_every_sensor(self, tmp_path: Path) -> None:
        with Tree(tmp_path, conversion=0.3, bulk=True) as tree:
            tree.set(WATER, 62.875)
            tree.set(FLUE, 40.0)
            bulk = tmp_path / onewire.MASTER / "therm_bulk_read"
            assert bulk.read_text() == "0\n"
            bulk.write_text("trigger\n")
            time.sleep(0.1)
            assert bulk.read_text() == "-1\n"
            time.sleep(0.35)
            assert bulk.read_text() == "1\n"
            started = time.monotonic()
            assert (self.read(tree, WATER), self.read(tree, FLUE)) == (62.875, 40.0)
            assert time.monotonic() - started < busy(0.2)
            assert bulk.read_text() == "0\n"
            assert self.read(tree, WATER) == 62.875
            assert time.monotonic() - started > 0.3, "the second reader waits for a conversion of its own"

    def test_readers_that_follow_the_trigger_at_once_share_one_conversion(self, tmp_path: Path) -> None:
        with Tree(tmp_path, conversion=0.3, bulk=True) as tree:
            sensors = [f"28-00000000000{number}" for number in range(5)]
            for number, sensor in enumerate(sensors):
                tree.set(sensor, 20.0 + number)
            started = time.monotonic()
            (tmp_path / onewire.MASTER / "therm_bulk_read").write_text("trigger\n")
            assert [self.read(tree, sensor) for sensor in sensors] == [20, 21, 22, 23, 24]
            assert 0.3 <= time.monotonic() - started < busy(0.6)

    def test_leaving_the_tree_releases_every_reader(self, tmp_path: Path) -> None:
        with Tree(tmp_path, conversion=60, bulk=True) as tree:
            tree.set(WATER, 20.0)
            reader = threading.Thread(target=(tmp_path / WATER / "w1_slave").read_text)
            reader.start()
            time.sleep(0.1)
        for thread in threading.enumerate():
            if thread is reader or thread.name in {f"{WATER} conversion", "therm_bulk_read"}:
                thread.join(2)
                assert not thread.is_alive(), thread.name
        assert not (tmp_path / WATER).exists()


class TestWeb:
    @pytest.fixture
    def web(self) -> Iterator[Web]:
        with Web() as web:
            yield web

    def test_an_unchanged_document_is_not_sent_again(self, web: Web) -> None:
        url = f"{web.url}/stands.json"
        first = requests.get(url, timeout=2)
        assert first.json()["stands"][0]["bikes"] == 7
        for condition, header in (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified")):
            again = requests.get(url, headers={condition: first.headers[header]}, timeout=2)
            assert (again.status_code, again.content) == (304, b"")
        web.document = {"stands": []}
        changed = requests.get(url, headers={"If-None-Match": first.headers["ETag"]}, timeout=2)
        assert changed.json() == {"stands": []}

    @pytest.mark.parametrize(("fault", "pieces"), [("endless", 200), ("drip", 3)])
    def test_a_body_without_an_end_goes_on_until_the_client_leaves(self, web: Web, fault: str, pieces: int) -> None:
        web.fail(fault)
        with requests.get(web.url, stream=True, timeout=2) as answer:
            sizes = [len(piece) for _, piece in zip(range(pieces), answer.iter_content(1), strict=False)]
        assert len(sizes) == pieces

    def test_half_a_gigabyte_is_announced_and_comes(self, web: Web) -> None:
        web.fail("huge")
        with requests.get(web.url, stream=True, timeout=2) as answer:
            assert int(answer.headers["Content-Length"]) == HALF_A_GIGABYTE
            assert len(answer.raw.read(1_000_000)) == 1_000_000

    def test_a_hang_a_hang_up_and_a_redirect_to_a_file_are_what_they_say(self, web: Web) -> None:
        web.fail("hang")
        with pytest.raises(requests.Timeout):
            requests.get(web.url, timeout=0.2)
        web.fail("gone")
        with pytest.raises(requests.ConnectionError):
            requests.get(web.url, timeout=2)
        web.fail("redirect_to_file")
        with pytest.raises(requests.exceptions.InvalidSchema):
            requests.get(web.url, timeout=2)

    def test_wrong_answers_are_wrong(self, web: Web) -> None:
        web.fail("malformed")
        with pytest.raises(requests.JSONDecodeError):
            requests.get(web.url, timeout=2).json()
        for fault, status in (("list", 200), ("error", 503), ("missing", 404)):
            web.fail(fault)
            assert requests.get(web.url, timeout=2).status_code == status

    def test_a_fault_by_the_control_url_breaks_as_many_requests_as_asked(self, web: Web) -> None:
        requests.post(f"{web.url}/control", {"fault": "missing", "count": "2"}, timeout=2).raise_for_status()
        assert [requests.get(web.url, timeout=2).status_code for _ in range(3)] == [404, 404, 200]
        refused = requests.post(f"{web.url}/control", {"fault": "fire"}, timeout=2)
        assert (refused.status_code, "endless" in refused.json()["error"]) == (400, True)


class TestPushover:
    TOKEN, USER = "T" * 30, "U" * 30

    @pytest.fixture
    def server(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PushoverServer]:
        with PushoverServer(log=tmp_path / "taken.jsonl") as server:
            monkeypatch.setattr(pushover_api, "PUSHOVER_API_URL", f"{server.url}/1/")
            yield server

    @pytest.fixture
    def session(self) -> Iterator[requests.Session]:
        with requests.Session() as session:
            yield session

    def send(self, server: PushoverServer, **fields: Any) -> requests.Response:
        form = {"token": self.TOKEN, "user": self.USER, "message": "The boiler is out."} | fields
        return requests.post(f"{server.url}/1/messages.json", form, timeout=1)

    def test_the_library_sends_is_counted_and_logged(self, server: PushoverServer, session: requests.Session) -> None:
        answer = PushoverAPI(self.TOKEN)._send_message(
            self.USER, "Chaudière éteinte", title="Boiler", priority=1, session=session
        )
        assert answer["status"] == 1
        assert server.log
        line = json.loads(server.log.read_text())
        assert (line["message"], line["title"], line["priority"]) == ("Chaudière éteinte", "Boiler", "1")
        assert len(server.taken) == 1

    def test_the_library_sends_a_picture(
        self, server: PushoverServer, session: requests.Session, tmp_path: Path
    ) -> None:
        picture = tmp_path / "graph.png"
        picture.write_bytes(b"\x89PNG" * 100)
        with picture.open("rb") as file:
            PushoverAPI(self.TOKEN)._send_message(self.USER, "graph", image=file, session=session)
        assert (server.taken[0]["message"], server.taken[0]["attachment_bytes"]) == ("graph", "400")

    def test_an_emergency_is_acknowledged_by_its_receipt(
        self, server: PushoverServer, session: requests.Session
    ) -> None:
        api = PushoverAPI(self.TOKEN)
        receipt = api._send_message(self.USER, "fire", priority=2, retry=30, expire=300, session=session)["receipt"]
        assert len(receipt) == 30
        assert api.check_receipt(receipt)["acknowledged"] == 0
        requests.post(f"{server.url}/control", {"acknowledge": receipt}, timeout=1).raise_for_status()
        seen = api.check_receipt(receipt)
        assert (seen["acknowledged"], seen["acknowledged_by"], seen["expired"]) == (1, self.USER, 0)
        api.cancel_receipt(receipt)
        assert api.check_receipt(receipt)["expired"] == 1

    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({"token": "short"}, "token"),
            ({"user": "U" * 29}, "user"),
            ({"user": ",".join(["U" * 30] * 51)}, "user"),
            ({"message": " "}, "message"),
            ({"message": "é" * 1025}, "message"),
            ({"title": "t" * 251}, "title"),
            ({"priority": "3"}, "priority"),
            ({"priority": "high"}, "priority"),
            ({"priority": "2", "retry": "29", "expire": "60"}, "retry"),
            ({"priority": "2", "retry": "30"}, "expire"),
            ({"priority": "2", "retry": "30", "expire": "10801"}, "expire"),
            ({"html": "1", "monospace": "1"}, "html"),
            ({"ttl": "0"}, "ttl"),
            ({"attachment_base64": "A" * 7_000_000}, "attachment"),
        ],
    )
    def test_an_invalid_message_is_refused_with_the_reason(
        self, server: PushoverServer, fields: dict[str, str], wrong: str
    ) -> None:
        answer = self.send(server, **fields)
        assert answer.status_code == 400
        assert (answer.json()["status"], answer.json()[wrong]) == (0, "invalid")
        assert answer.json()["errors"]
        assert server.taken == []

    def test_the_quota_is_counted_by_user_and_ends_in_429(self, server: PushoverServer) -> None:
        server.quota = server.remaining = 3
        answer = self.send(server, user=",".join([self.USER] * 2))
        assert (answer.headers["X-Limit-App-Limit"], answer.headers["X-Limit-App-Remaining"]) == ("3", "1")
        assert int(answer.headers["X-Limit-App-Reset"]) > time.time()
        assert self.send(server).status_code == 200
        assert self.send(server).status_code == 429
        limits = requests.get(f"{server.url}/1/apps/limits.json", {"token": self.TOKEN}, timeout=1).json()
        assert (limits["limit"], limits["remaining"], len(server.taken)) == (3, 0, 2)

    @pytest.mark.parametrize(("fault", "status"), [("400", 400), ("429", 429), ("500", 500), ("502", 502)])
    def test_a_refusing_server_takes_nothing(self, server: PushoverServer, fault: str, status: int) -> None:
        server.fail(fault, count=1)
        assert self.send(server).status_code == status
        assert server.taken == []
        assert self.send(server).status_code == 200

    @pytest.mark.parametrize(
        ("fault", "raised", "taken"),
        [
            ("silence", requests.Timeout, 0),
            ("gone", requests.ConnectionError, 0),
            ("lost", requests.ConnectionError, 1),
            ("slow", requests.Timeout, 1),
        ],
    )
    def test_a_lost_answer_tells_nothing_about_what_was_taken(
        self, server: PushoverServer, fault: str, raised: type[Exception], taken: int
    ) -> None:
        server.fail(fault, count=1)
        with pytest.raises(raised):
            self.send(server)
        assert len(server.taken) == taken

    def test_a_malformed_answer_is_no_json_although_the_message_was_taken(self, server: PushoverServer) -> None:
        server.fail("malformed")
        with pytest.raises(requests.JSONDecodeError):
            self.send(server).json()
        assert len(server.taken) == 1

    def test_the_library_raises_on_a_refusal(self, server: PushoverServer, session: requests.Session) -> None:
        server.fail("429")
        with pytest.raises(BadAPIRequestError, match="429"):
            PushoverAPI(self.TOKEN)._send_message(self.USER, "x", session=session)

    def test_connections_are_counted_and_kept_alive(self, server: PushoverServer, session: requests.Session) -> None:
        for _ in range(3):
            session.get(f"{server.url}/1/sounds.json", timeout=1).raise_for_status()
        assert server.most_connections == 1
        assert server.requests == 3
        assert session.get(f"{server.url}/1/receipts/none.json", timeout=1).status_code == 404


@pytest.mark.parametrize("name", ["web", "pushover"])
def test_a_server_runs_by_itself_and_says_where(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"services.simulators.{name}", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        state = requests.get(f"{process.stdout.readline().strip()}/control", timeout=2).json()
        process.terminate()
    assert state["fault"] == ""


@pytest.mark.parametrize("name", ["web", "pushover", "modbus"])
def test_every_simulator_that_runs_by_itself_explains_itself(name: str) -> None:
    command = [sys.executable, "-m", f"services.simulators.{name}", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"python -m services.simulators.{name}" in text
