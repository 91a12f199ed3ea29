"""The meters' service as a process: a real serial port, a real broker, and all that happens to dongles and telegrams."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import own_telegrams
import pytest
from harness import PROJECT, Broker, Ear, House, wait_for
from test_broker import Shipped

from bootstrap_lib import Failure, RequestError, certificates
from bootstrap_lib import broker as brokers
from bootstrap_lib.document import DocumentError, Problem
from bootstrap_lib.machine_file import NAME as MACHINE_FILE
from bootstrap_lib.registry import Registry
from services.host import Host
from services.meters import listed as listing
from services.meters import meter_list
from services.meters import topics as meter_topics
from services.meters.dispatch import NEW_BEGINNING, KnownMeters, Place
from services.meters.dongle import Dongle
from services.meters.line_receiver import LineReceiver
from services.meters.receiver import ReceiverError
from services.meters.wanted import MeterField, settle
from services.protocols import rtlwmbus
from services.protocols.wmbus import DataRecord, Formats, decode, encode, vif, vife
from services.protocols.wmbus.header import define
from services.simulators.im871a import SimulatedDongle
from services.simulators.meters import Electricity, Heat, Shown, Water
from services.wmbus import WMBus

NUMBER, OTHER = "32666857", "12345678"
KEY, OTHER_KEY = bytes(range(16)), bytes(range(1, 17))
ENERGY = "home/data/house/meter/import_energy"
TOPICS = """
sources:
  wmbus: {{device: {device}, every: 1s, stale: {stale}, heartbeat: 1s{more}}}
topics:
  house/meter/import_energy: {{from: wmbus, meter: 32666857}}
  house/meter/import_power: {{from: wmbus, meter: 32666857}}
  house/meter/signal: {{from: wmbus, meter: 32666857}}
"""


def omnipower(
    energy: float,
    minutes: int,
    *,
    key: bytes | None = KEY,
    number: str = NUMBER,
    maker: str = "KAM",
    access: int | None = None,
) -> bytes:
    """A telegram of an OmniPower; `minutes` is how far it has counted."""
    sender = encode.address(maker, number, 0x30, 2)
    message = encode.full(encode.omnipower(energy, 0, 0.25, 0))
    return encode.extended(sender, message, minutes << 4, key=key, access=minutes & 0xFF if access is None else access)


def secrets(folder: Path, **keys: bytes) -> str:
    folder.mkdir(exist_ok=True)
    for name, key in keys.items():
        path = folder / f"wmbus.{name.lstrip('_')}"
        path.touch(0o600)
        path.write_text(key.hex())
    return str(folder)


@pytest.fixture
def dongle(tmp_path: Path) -> Iterator[SimulatedDongle]:
    with SimulatedDongle(tmp_path / "tty") as dongle:
        yield dongle


Begin = Callable[..., None]


@pytest.fixture
def begin(house: House, ear: Ear, dongle: SimulatedDongle, tmp_path: Path) -> Begin:
    """Start the service on the dongle, and wait until the dongle hears."""

    def start(more: str = "", topics: str = TOPICS, stale: str = "60s", key: bytes = KEY) -> None:
        house.write(topics.format(device=dongle.link, stale=stale, more=more))
        house.start("wmbus", CONSTELLATION_CREDENTIALS=secrets(tmp_path / "credentials", **{f"_{NUMBER}": key}))
        ear.wait("home/service/wmbus/status")
        wait_for(lambda: dongle.settings["mode"] != 2, what="the dongle's radio mode")

    return start


def counters(ear: Ear, name: str, least: int) -> int:
    """Wait until a counter of health has reached a value."""
    health = ear.wait("home/service/wmbus/health", lambda said: said and said["counters"].get(name, 0) >= least)
    return health["counters"][name]


class TestTelegrams:
    def test_values_arrive_in_the_units_of_their_topics_with_the_signal(
        self, begin: Begin, dongle: SimulatedDongle, ear: Ear
    ) -> None:
        begin()
        assert dongle.hear(omnipower(2.06, 1))
        assert ear.wait(ENERGY)["value"] == 2.06
        power = ear.wait("home/data/house/meter/import_power")
        assert (power["value"], power["unit"]) == (250.0, "W")
        assert ear.wait("home/data/house/meter/signal")["value"] == -84.5

    def test_noise_between_the_telegrams_loses_none(self, begin: Begin, dongle: SimulatedDongle, ear: Ear) -> None:
        begin()
        dongle.fault = "noise"
        for minute in range(1, 31):
            assert dongle.hear(omnipower(float(minute), minute))
            time.sleep(0.02)
        ear.wait(ENERGY, lambda reading: reading["value"] == 30.0)
        assert [json.loads(payload)["value"] for payload in ear.all(ENERGY)] == [float(n) for n in range(1, 31)]
        assert counters(ear, "noise_bytes", 100)

    def test_a_wrong_checksum_gives_no_value(self, begin: Begin, dongle: SimulatedDongle, ear: Ear) -> None:
        begin()
        dongle.fault = "wrong_crc"
        dongle.hear(omnipower(99.0, 1))
        dongle.fault = None
        dongle.hear(omnipower(3.0, 2))
        assert ear.wait(ENERGY)["value"] == 3.0
        assert len(ear.all(ENERGY)) == 1

    def test_duplicates_replays_and_foreign_meters_are_counted_and_quiet(
        self, begin: Begin, dongle: SimulatedDongle, ear: Ear, house: House
    ) -> None:
        begin()
        old = omnipower(1.0, 5)
        for telegram in (old, old, omnipower(2.0, 6), old, old, *[omnipower(7.0, 1, number=OTHER)] * 3):
            dongle.hear(telegram)
        assert counters(ear, "foreign", 3) == 3
        assert counters(ear, "duplicates", 1) == 1
        assert counters(ear, "replays", 2) == 2
        assert [json.loads(payload)["value"] for payload in ear.all(ENERGY)] == [1.0, 2.0]
        assert house.log("wmbus").count(OTHER) == 1

    def test_a_wrong_key_is_said_once_for_a_topic_and_gives_no_value(
        self, begin: Begin, dongle: SimulatedDongle, ear: Ear, house: House
    ) -> None:
        begin(key=OTHER_KEY)
        for minute in range(1, 21):
            dongle.hear(omnipower(1.0, minute))
        assert counters(ear, "refused_key", 20) == 20
        assert house.log("wmbus").count("The key is not this meter's") <= 4  # the meter's line, and its topics'
        assert not ear.values(ENERGY)
        assert KEY.hex() not in house.log("wmbus")
        assert OTHER_KEY.hex() not in house.log("wmbus")

    def test_a_plain_telegram_with_the_number_of_a_meter_with_a_key_is_not_believed(
        self, begin: Begin, dongle: SimulatedDongle, ear: Ear
    ) -> None:
        begin()
        dongle.hear(omnipower(66.0, 1, key=None))
        assert counters(ear, "plain", 1) == 1
        dongle.hear(omnipower(4.0, 2))
        assert ear.wait(ENERGY)["value"] == 4.0
        assert len(ear.all(ENERGY)) == 1

    def test_after_a_restart_the_first_compact_telegram_is_read_and_a_replay_is_not(
        self, begin: Begin, dongle: SimulatedDongle, ear: Ear, house: House, tmp_path: Path
    ) -> None:
        topics = """
sources:
  wmbus: {{device: {device}, every: 1s, stale: {stale}, heartbeat: 1s{more}}}
topics:
  house/meter/energy: {{from: wmbus, meter: 32666857}}
  house/meter/temperature: {{from: wmbus, meter: 32666857, key: external_temperature}}
"""
        sender = encode.address("KAM", NUMBER, 0x30, 4)

        def telegram(minutes: int, message: Callable[[Any], bytes]) -> bytes:
            entries = [
                encode.record("0406", encode.integer(minutes, 4)),
                encode.record("0265", encode.integer(2150, 2)),
            ]
            return encode.extended(sender, message(entries), minutes << 4, key=KEY, access=minutes)

        begin(topics=topics)
        compact = telegram(1, encode.compact)
        dongle.hear(compact)
        assert counters(ear, "refused_format", 1) == 1
        dongle.hear(telegram(2, encode.full))
        ear.wait("home/data/house/meter/energy", lambda reading: reading["value"] == 2)
        assert house.stop("wmbus", signal.SIGTERM) == 0
        dongle.unplug()
        dongle.plug()
        begin(topics=topics)
        dongle.hear(compact)
        dongle.hear(telegram(3, encode.compact))
        ear.wait("home/data/house/meter/energy", lambda reading: reading["value"] == 3)
        assert ear.last("home/data/house/meter/temperature")["value"] == 21.5
        assert counters(ear, "replays", 1) == 1

    def test_what_cannot_be_a_value_is_said_and_not_published(
        self, begin: Begin, dongle: SimulatedDongle, ear: Ear, house: House
    ) -> None:
        topics = """
sources:
  wmbus: {{device: {device}, every: 1s, stale: {stale}, heartbeat: 1s, mode: t1{more}}}
topics:
  house/water/volume: {{from: wmbus, meter: "00000042"}}
  house/water/flow: {{from: wmbus, meter: "00000042", key: maximum_flow, unit: l/min}}
  house/water/status_text: {{from: wmbus, meter: "00000042", key: status}}
"""
        begin(topics=topics)
        sender = encode.address("SEN", "00000042", 0x68, 7)
        contents = encode.records(
            [encode.record("0C13", bytes.fromhex("00AA0000")), encode.record("0A3B", encode.decimal(12, 2))]
        )
        dongle.hear(encode.telegram(sender, bytes((0x7A, 1, 4, 0, 0)) + contents), "T1")
        wait_for(lambda: "has no value for volume" in house.log("wmbus"), what="the reason")
        wait_for(lambda: "write unit: 'm³/h'" in house.log("wmbus"), what="the hint")
        assert ear.wait("home/data/house/water/status_text")["value"] == "power_low"
        assert not ear.values("home/data/house/water/volume")

    def test_a_killed_service_believes_no_replay_either(
        self, begin: Begin, dongle: SimulatedDongle, ear: Ear, house: House, tmp_path: Path
    ) -> None:
        begin()
        telegrams = [omnipower(float(minute), minute) for minute in (1, 2, 3)]
        for telegram in telegrams:
            dongle.hear(telegram)
        ear.wait(ENERGY, lambda reading: reading["value"] == 3.0)
        kept = house.folder / "run" / "wmbus" / "counted.json"
        wait_for(lambda: kept.exists() and '"counter":3' in kept.read_text(), what="how far it has counted")
        house.kill("wmbus")
        dongle.settings["mode"] = 2
        begin()
        for telegram in (*telegrams, omnipower(4.0, 4)):
            dongle.hear(telegram)
        ear.wait(ENERGY, lambda reading: reading["value"] == 4.0)
        assert counters(ear, "replays", 2) == 2
        values = [json.loads(payload)["value"] for payload in ear.all(ENERGY) if payload]
        assert values.count(1.0) == values.count(2.0) == 1


class TestDongles:
    def test_an_unplugged_dongle_is_opened_and_set_up_again_by_the_same_process(
        self, begin: Begin, dongle: SimulatedDongle, ear: Ear, house: House
    ) -> None:
        begin()
        process = house.processes["wmbus"]
        dongle.unplug()
        wait_for(lambda: "is gone: was the dongle unplugged?" in house.log("wmbus"), what="the reason")
        dongle.plug()
        wait_for(lambda: dongle.settings["mode"] != 2, what="the dongle's radio mode")
        dongle.hear(omnipower(5.0, 1))
        assert ear.wait(ENERGY)["value"] == 5.0
        assert process.poll() is None
        ear.wait("home/service/wmbus/health", lambda said: said["state"] == "running")

    def test_a_deaf_dongle_is_reset_and_hears_again(self, begin: Begin, dongle: SimulatedDongle, ear: Ear) -> None:
        begin(more=", silence: 2s")
        dongle.fault = "deaf"
        wait_for(lambda: dongle.resets and dongle.settings["mode"] != 2, what="the reset")
        dongle.hear(omnipower(6.0, 1))
        assert ear.wait(ENERGY)["value"] == 6.0
        assert counters(ear, "resets", 1) >= 1

    def test_a_dongle_that_answers_no_ping_is_an_error_with_a_reason(self, dongle: SimulatedDongle) -> None:
        dongle.fault = "silence"
        with pytest.raises(ReceiverError, match="no iM871A answers on"), Dongle(str(dongle.link), "c1", 60):
            pass

    def test_a_silent_dongle_is_pinged_and_stays(
        self, dongle: SimulatedDongle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.meters.dongle.PING_EVERY", 0.05)
        monkeypatch.setattr("services.meters.dongle.ANSWER", 0.2)

        def listen(seconds: float) -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                select.select([receiver], [], [], receiver.silence)
                assert receiver.receive() == []

        with Dongle(str(dongle.link), "c1", 60) as receiver:
            listen(0.5)
            assert receiver.counters["pings"] >= 3
            dongle.fault = "silence"
            with pytest.raises(ReceiverError, match="no iM871A answers"):
                listen(5.0)

    def test_bytes_that_were_noise_are_counted_once(self, dongle: SimulatedDongle) -> None:
        dongle.fault = "noise"
        total: Counter[str] = Counter()
        with Dongle(str(dongle.link), "c1", 60) as receiver:
            for minute in range(1, 11):
                dongle.hear(omnipower(1.0, minute))
                wait_for(receiver.receive, what="the telegram")
                total.update(receiver.counters)
                receiver.counters.clear()
            assert total["noise_bytes"] == receiver._assembler.dropped > 0

    def test_old_firmware_that_cannot_hear_both_modes_is_said(
        self, dongle: SimulatedDongle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.simulators.im871a.DEVICE", bytes.fromhex("33001301F13A0000"))
        with (
            pytest.raises(ReceiverError, match="0x13 hears C1 and T1 at once only"),
            Dongle(str(dongle.link), "c1+t1", 60),
        ):
            pass

    def test_a_port_that_is_not_there_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(ReceiverError, match="plug the dongle in"), Dongle(str(tmp_path / "no"), "c1", 60):
            pass


class TestLines:
    def line(self, telegram: bytes, *, intact: bool = True) -> bytes:
        return (rtlwmbus.encode(rtlwmbus.ReceivedLine("C1", intact, "2026-11-20", 90, telegram)) + "\n").encode()

    def test_values_of_rtl_wmbus_lines_arrive_once_though_two_decoders_print_them(
        self, house: House, ear: Ear, tmp_path: Path
    ) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        house.write(TOPICS.format(device=f"'lines:{fifo}'", stale="60s", more=""))
        house.start("wmbus", CONSTELLATION_CREDENTIALS=secrets(tmp_path / "credentials", **{f"_{NUMBER}": KEY}))
        first, second = self.line(omnipower(1.0, 1)), self.line(omnipower(2.0, 2))
        fifo.write_bytes(first * 2 + b"rtl_sdr: found 1 device\n" + self.line(omnipower(9.0, 3), intact=False))
        fifo.write_bytes(second[:50])  # a writer may end and begin anew, in the middle of a line too
        fifo.write_bytes(second[50:])
        ear.wait(ENERGY, lambda reading: reading["value"] == 2.0)
        assert [json.loads(payload)["value"] for payload in ear.all(ENERGY)] == [1.0, 2.0]
        assert counters(ear, "duplicates", 1) == counters(ear, "other_lines", 1) == counters(ear, "damaged", 1) == 1

    def test_a_command_that_ends_or_falls_silent_is_an_error_and_no_busy_loop(self) -> None:
        telegram = omnipower(1.0, 1)
        with LineReceiver(f"echo '{self.line(telegram).decode().strip()}'", None, 60) as lines:
            assert [heard.telegram for heard in wait_for(lines.receive, what="the line")] == [telegram]
            with pytest.raises(ReceiverError, match="has ended"):
                wait_for(lines.receive, what="the end")
        with LineReceiver("sleep 60", None, 0.2) as lines, pytest.raises(ReceiverError, match="has been silent"):
            wait_for(lines.receive, what="the end of patience")

    def test_a_file_of_lines_is_read_by_who_looks_once(self, tmp_path: Path) -> None:
        file = tmp_path / "lines"
        file.write_bytes(self.line(omnipower(1.0, 1)) * 3)
        with LineReceiver(None, file, 60, whole=True) as lines:
            wait_for(lambda: len(lines.receive()) == 3, what="three lines")

    def test_a_file_that_grows_is_heard_from_now_on_and_through_its_rotation(self, tmp_path: Path) -> None:
        """Telegrams of yesterday would be of now at each start and after each pause."""
        file, old, new, later = tmp_path / "lines", *(omnipower(float(at), at) for at in (1, 2, 3))
        file.write_bytes(self.line(old) * 3)
        heard: list[bytes] = []

        def hears(telegram: bytes) -> bool:
            with file.open("ab") as end:
                end.write(self.line(telegram))
            heard.extend(one.telegram for one in lines.receive())
            return telegram in heard

        with LineReceiver(None, file, 60) as lines:
            wait_for(lambda: hears(new), what="a new line")
            file.rename(tmp_path / "lines.1")
            wait_for(lambda: hears(later), what="a line of the new file")
        assert old not in heard


class TestList:
    LISTED = "home/data/meters/kam_12345678/import_energy"
    EMPTY = "sources:\n  wmbus: {{device: {device}, every: 1s, stale: {stale}, heartbeat: 1s{more}}}\ntopics: {{}}\n"

    def entry(self, number: str, key: bytes, **more: Any) -> dict[str, Any]:
        return {"deviceId": number, "manufacturerKey": "KAM", "encryptionKey": key.hex(), **more}

    def ask(self, ear: Ear, payload: Any) -> Any:
        return ear.ask("wmbus", "meters", payload)

    def test_a_thousand_meters_with_their_keys_fit_into_one_request(self, begin: Begin, ear: Ear, house: House) -> None:
        begin(topics=self.EMPTY)
        entries = [self.entry(f"{number:08d}", KEY) for number in range(1000)]
        answer = ear.ask("wmbus", "meters", {"meters": entries}, timeout=30)
        assert answer["status"] == "ok", answer
        assert len(answer["data"]) == 1000
        assert all("topics" in entry for entry in answer["data"])
        assert len(list((house.state("wmbus") / "secrets").iterdir())) == 1000

    def test_listed_meters_get_topics_by_their_first_telegram_and_keys_stay_secret(
        self, begin: Begin, dongle: SimulatedDongle, ear: Ear, house: House
    ) -> None:
        begin(topics=self.EMPTY)
        answer = self.ask(ear, [self.entry(OTHER, OTHER_KEY), self.entry("1234567", KEY), {"DeviceID": 1, "x": 2}])
        assert answer["status"] == "ok"
        assert [entry.get("topics") for entry in answer["data"]] == ["home/data/meters/kam_12345678/+", None, None]
        assert "eight digits" in answer["data"][1]["error"]
        assert "'x' is no key" in answer["data"][2]["error"]
        dongle.hear(omnipower(7.0, 1, key=OTHER_KEY, number=OTHER))
        assert ear.wait(self.LISTED)["value"] == 7.0
        power = ear.wait("home/data/meters/kam_12345678/import_power")
        assert (power["value"], power["unit"]) == (250.0, "W")
        machine = house.config.with_name(MACHINE_FILE)
        assert OTHER_KEY.hex().upper() not in machine.read_text().upper()
        (kept,) = (house.state("wmbus") / "secrets").iterdir()
        assert kept.stat().st_mode & 0o777 == 0o600
        assert OTHER_KEY.hex().upper() not in house.log("wmbus").upper()
        check = [sys.executable, "-m", "bootstrap_lib.cli", "--config", house.config, "check", "--quiet"]
        assert subprocess.run(check, cwd=PROJECT).returncode == 0

        # Adding leaves what is there; the port stays open, so that no telegram is lost meanwhile.
        answer = self.ask(ear, {"mode": "add", "meters": [self.entry(NUMBER, KEY)]})
        assert answer["status"] == "ok"
        dongle.hear(omnipower(8.0, 2, key=OTHER_KEY, number=OTHER))
        assert ear.wait(self.LISTED, lambda reading: reading["value"] == 8.0)

        # Removing one leaves the others and their keys; what was never listed is said.
        assert self.ask(ear, {"mode": "remove", "meters": [{"deviceId": NUMBER}]})["data"][0]["meter"] == NUMBER
        assert [path.name for path in (house.state("wmbus") / "secrets").iterdir()] == [f"wmbus.{OTHER}"]
        dongle.hear(omnipower(9.0, 3, key=OTHER_KEY, number=OTHER))
        assert ear.wait(self.LISTED, lambda reading: reading["value"] == 9.0)
        answer = self.ask(ear, {"mode": "remove", "meters": [{"deviceId": NUMBER}]})
        assert f"cannot be removed: {NUMBER}" in answer["error"]

        # Replacing clears the topics of those that are gone, and forgets their keys.
        answer = self.ask(ear, [self.entry(NUMBER, KEY)])
        assert answer["status"] == "ok"
        ear.wait(self.LISTED, lambda reading: reading == b"")
        assert [path.name for path in (house.state("wmbus") / "secrets").iterdir()] == [f"wmbus.{NUMBER}"]
        assert OTHER not in machine.read_text()

    def test_a_list_without_a_usable_meter_changes_nothing(self, begin: Begin, ear: Ear, house: House) -> None:
        begin(topics=self.EMPTY)
        assert self.ask(ear, [self.entry(OTHER, OTHER_KEY)])["status"] == "ok"
        before = house.config.with_name(MACHINE_FILE).read_text()
        answer = self.ask(ear, [self.entry(NUMBER, b"short")])
        assert answer["status"] == "error"
        assert "32 hexadecimal digits" in answer["error"]
        assert house.config.with_name(MACHINE_FILE).read_text() == before
        assert "no meter" not in self.ask(ear, {"mode": "other", "meters": []})["error"]

    def test_a_list_longer_than_any_house_is_refused_in_few_words(self, begin: Begin, ear: Ear, house: House) -> None:
        begin(topics=self.EMPTY)
        answer = self.ask(ear, [{}] * (meter_list.MOST + 1))
        assert answer == {"status": "error", "error": "5001 meters are too many: a list has 5000 at most"}
        answer = self.ask(ear, [{}] * meter_list.MOST)
        assert answer["status"] == "error"
        assert len(answer["error"]) < 5000, "not one sentence for each"
        assert answer["error"].startswith("entry 1: deviceId is not")

    def test_both_spellings_are_read_and_what_is_wrong_is_said(self) -> None:
        good = {"DeviceId": NUMBER, "ManufacturerKey": "KAM", "EncryptionKey": KEY.hex(), "ManufacturerDeviceKey": "x"}
        entries = [good, self.entry(OTHER, KEY), self.entry(OTHER, KEY), good | {"deviceId": OTHER}, 5, {"deviceId": 7}]
        found = list(meter_list.read(entries))
        assert found[0] == meter_list.ListedMeter(NUMBER, "KAM", KEY.hex().upper())
        assert found[1] == meter_list.ListedMeter(OTHER, "KAM", KEY.hex().upper())
        assert found[5] == meter_list.ListedMeter("00000007", "", None)
        for no_key in (0, False, [], {}):
            (wrong,) = meter_list.read([good | {"EncryptionKey": no_key}])
            assert isinstance(wrong, meter_list.RejectedMeter), "what is no key must not make a meter that has none"
        reasons = [entry.reason for entry in found[2:5]]
        assert ["twice" in reasons[0], "two spellings" in reasons[1], "form" in reasons[2]] == [True] * 3

    def test_topics_that_stand_there_already_are_not_taken_over_again_and_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where topics.yaml is wrong in another place, it is refused: once, not with every telegram."""
        monkeypatch.setattr("services.meters.listed.LEARN_EVERY", 0.0)
        monkeypatch.setattr("services.meters.listed.REST", 0.0)
        (tmp_path / "topics.yaml").write_text("sources: {wmbus: {}}\ntopics: {}\n")
        reloads: list[Problem] = []
        registry = Registry(tmp_path / "topics.yaml")
        listed = listing.MeterList(tmp_path / "secrets", lambda: reloads.append(Problem("", 1, "", "")) or reloads)
        telegram = decode(omnipower(1.0, 1), KEY)
        for _ in range(3):
            listed.learn(registry, registry.instances["wmbus"], NUMBER, "KAM", telegram)
            listed.write_new(registry)
        assert len(reloads) == 1
        assert "import_energy" in registry.path.with_name(MACHINE_FILE).read_text()

    def test_a_stranger_with_the_number_of_a_meter_without_key_makes_no_topics_without_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.meters.listed.LEARN_EVERY", 0.0)
        monkeypatch.setattr("services.meters.listed.REST", 0.0)
        path = tmp_path / "topics.yaml"
        path.write_text("sources: {wmbus: {}}\ntopics: {}\n")
        listed = listing.MeterList(tmp_path / "secrets", list)
        sender = encode.address("KAM", NUMBER, 0x30, 7)
        for first in ("81", "C1"):
            records = [encode.record(f"{first}{place:02X}13", b"\x01") for place in range(50)]
            telegram = decode(encode.telegram(sender, bytes((0x7A, 1, 0, 0, 0)) + encode.records(records)))
            assert len({record.name for record in telegram.records}) == 50
            registry = Registry(path)
            listed.learn(registry, registry.instances["wmbus"], NUMBER, "KAM", telegram)
            listed.write_new(registry)
        assert len(Registry(path).topics) == meter_topics.MOST_RECORDS

    def test_no_telegram_makes_a_line_that_the_house_refuses(self, tmp_path: Path) -> None:
        """Every code of the tables, alone and with each unit behind it: months, °C/h and m³/pulse convert to nothing of ours."""
        path = tmp_path / "topics.yaml"
        path.write_text("sources: {wmbus: {}}\ntopics: {}\n")
        seen: dict[tuple[str, str], DataRecord] = {}
        words = [code for code, word in vife.QUALIFIERS.items() if word.unit or code == vife.NON_METRIC]
        for prefix, table in (("", vif.PRIMARY), ("FB", vif.EXTENSION_FB), ("FD", vif.EXTENSION_FD)):
            for code in table:
                for header in (f"04{prefix}{code:02X}", *(f"04{prefix}{code | 0x80:02X}{q:02X}" for q in words)):
                    said = define(bytes.fromhex(header), None)
                    record = DataRecord(said.name, said.quantity, said.unit, 1.0, "instantaneous", 0, 0, 0)
                    seen.setdefault((record.quantity, record.unit), record)
        assert {("duration", "month"), ("temperature", "°C/h"), ("temperature", "")} < seen.keys()
        assert len(seen) > 200
        instance = Registry(path).instances["wmbus"]
        made = meter_topics.lines(seen.values(), instance, NUMBER, "KAM")
        assert len(made) > 20
        path.with_name(MACHINE_FILE).write_text(json.dumps({"topics": made}))
        registry = Registry(path)
        assert (registry.left_out, registry.topics.keys()) == ([], made.keys())

    def test_what_the_house_could_not_read_is_not_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.meters.listed.LEARN_EVERY", 0.0)
        path, machine = tmp_path / "topics.yaml", tmp_path / MACHINE_FILE
        path.write_text("sources: {wmbus: {}}\ntopics: {}\n")
        registry = Registry(path)
        instance, reloads = registry.instances["wmbus"], list[int]()
        listed = listing.MeterList(tmp_path / "secrets", lambda: reloads.append(1) or [])
        listed.take_over(registry, instance, list(meter_list.read([self.entry(NUMBER, KEY)])), "replace")
        before = machine.read_text()
        monkeypatch.setattr("bootstrap_lib.machine_file.MOST_BYTES", len(before))
        with pytest.raises(RequestError, match=rf"{MACHINE_FILE}:1: it would be longer than {len(before)} bytes"):
            listed.take_over(registry, instance, list(meter_list.read([{"deviceId": NUMBER}, {"deviceId": 7}])), "add")
        assert (tmp_path / "secrets" / f"wmbus.{NUMBER}").exists(), "a list that is refused takes no key away"
        listed.learn(registry, instance, NUMBER, "KAM", decode(omnipower(1.0, 1), KEY))
        with pytest.raises(DocumentError, match="longer than"):
            listed.write_new(registry)
        assert (machine.read_text(), reloads) == (before, [1])
        listed.learn(registry, instance, NUMBER, "KAM", decode(omnipower(1.0, 1), KEY))
        assert 50 < listed.silence <= listing.REFUSED, "nor is it tried with each telegram"

    @pytest.mark.parametrize(("line", "value"), [("", 2.0), (", unit: K", None), (", quantity: number, unit: K", 2.0)])
    def test_a_difference_of_temperatures_is_no_temperature_in_kelvin(
        self, tmp_path: Path, line: str, value: float | None
    ) -> None:
        path = tmp_path / "topics.yaml"
        path.write_text(
            "sources: {wmbus: {}}\ntopics:\n  heat/meter/difference_temperature: "
            f"{{from: wmbus, meter: {NUMBER}{line}}}\n"
        )
        (topic,) = Registry(path).topics_of("wmbus", MeterField)
        sender, block = encode.address("KAM", NUMBER, 0x30, 4), encode.records([encode.record("0261", b"\xc8\0")])
        telegram = decode(encode.telegram(sender, bytes((0x7A, 1, 0, 0, 0)) + block))
        ((_, found),) = meter_topics.values_of({topic.key: [topic]}, telegram, None)
        if value is None:
            assert isinstance(found, Failure)
            assert "leave the unit out" in found.reason
        else:
            assert not isinstance(found, Failure)
            assert topic.measured(found) == value
        made = meter_topics.lines(telegram.records, Registry(path).instances["wmbus"], NUMBER, "KAM")
        assert "unit" not in made[f"meters/kam_{NUMBER}/difference_temperature"]

    def test_a_line_that_is_left_out_is_said_once_by_who_writes_it(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "topics.yaml"
        path.write_text("sources: {wmbus: {}, host: {}}\ntopics: {}\n")
        path.with_name(MACHINE_FILE).write_text(
            f"topics: {{a/b/duration: {{from: wmbus, meter: {NUMBER}, unit: month}}}}\n"
        )
        for service in (WMBus(Registry(path), "wmbus"), Host(Registry(path), "host")):
            service.load(service.registry)
            service.load(Registry(path))
        (said,) = caplog.messages
        assert "left out: " in said
        assert "'month' does not convert to s" in said

    def test_a_topics_yaml_that_is_refused_leaves_all_of_the_old_one(self, tmp_path: Path) -> None:
        path = tmp_path / "topics.yaml"
        path.write_text(TOPICS.format(device="/dev/a", stale="1m", more=""))
        service = WMBus(Registry(path), "wmbus")
        service.load(service.registry)
        before = service.registry, service.options, service.topics
        path.write_text(
            TOPICS.format(device="/dev/b", stale="1m", more="").replace("meter: 32666857", "meter: 3266685x")
        )
        with pytest.raises(DocumentError):
            service.load(Registry(path))
        assert (service.registry, service.options, service.topics) == before

    def test_a_retained_list_of_the_master_is_taken_once_for_a_connection(
        self, begin: Begin, ear: Ear, house: House, broker: Broker
    ) -> None:
        master = Ear(broker.port, "v2/#")
        try:
            master.say("v2/706462169/sensors/set", json.dumps([self.entry(NUMBER, KEY)]), retain=True)
            begin(more=', compatibility: {gateway: "706462169"}', topics=self.EMPTY)
            master.wait(f"v2/706462169/KAM-{NUMBER}/config")
            for _ in range(3):
                assert ear.ask("wmbus", "reload")["status"] == "ok"
            assert ear.ask("wmbus", "ping")["status"] == "ok"
            assert len(master.all(f"v2/706462169/KAM-{NUMBER}/config")) == 1
            assert house.log("wmbus").count("is taken over") <= 6
        finally:
            master.close()

    def test_a_list_that_is_none_is_said_and_changes_nothing(self, begin: Begin, ear: Ear, house: House) -> None:
        begin(more=', compatibility: {gateway: "706462169"}', topics=self.EMPTY)
        assert self.ask(ear, [self.entry(NUMBER, KEY)])["status"] == "ok"
        before = house.config.with_name(MACHINE_FILE).read_text()
        for payload in (
            b"",
            b"{",
            b"{}",
            b'["\xff"]',
            b"[" * 100_000,
            b"[" + b" " * (1 << 20) + b"]",
            b'[{"deviceId":1e999}]',
        ):
            ear.say("v2/706462169/sensors/set", payload)
        for payload in ({}, {"meters": 5}, {"meters": [], "mode": "all"}, {"meters": [None, [], 1.5]}):
            assert self.ask(ear, payload)["status"] == "error"
        assert ear.ask("wmbus", "ping")["status"] == "ok"
        assert house.config.with_name(MACHINE_FILE).read_text() == before
        assert house.log("wmbus").count("the list is refused") >= 5

    def test_no_mark_that_anybody_publishes_ends_it(self, begin: Begin, ear: Ear) -> None:
        begin(topics=self.EMPTY + "subscribers: {{archive: {{}}}}\n")
        for payload in (b'{"stream":"\xff","after":1}', b"\xff", b"[]", b'{"stream":1}'):
            ear.say("home/service/archive/stored/wmbus", payload)
        assert ear.ask("wmbus", "ping")["status"] == "ok"

    def test_the_first_gateways_master_is_answered_in_its_own_form(
        self, begin: Begin, dongle: SimulatedDongle, ear: Ear, broker: Broker
    ) -> None:
        master = Ear(broker.port, "v2/#")
        try:
            begin(more=', compatibility: {gateway: "706462169"}', topics=self.EMPTY)
            listed = [self.entry(NUMBER, KEY, manufacturerDeviceKey="OmniPower"), {"deviceId": "nonsense"}]
            wait_for(lambda: master.heard or master.say("v2/706462169/sensors/set", json.dumps(listed)), what="config")
            config = master.wait(f"v2/706462169/KAM-{NUMBER}/config")
            assert [list(channel.values()) for channel in config["Channels"]] == [
                [1, "accumulated-power", "A+ / Active positive energy"],
                [2, "accumulated-power", "A- / Active negative energy"],
                [3, "power", "P+ / Active positive power"],
                [4, "power", "P- / Active negative power"],
            ]
            dongle.hear(omnipower(2.15, 1))
            topic = f"v2/706462169/KAM-{NUMBER}/data"
            wait_for(lambda: len(master.all(topic)) == 4, what="four messages")
            said = [json.loads(payload) for payload in master.all(topic)]
            assert list(said[0]) == ["channelNumber", "aggregateType", "dataType", "value", "timestamp"]
            assert [(m["channelNumber"], m["dataType"], m["value"]) for m in said] == [
                (1, "accumulated-power", 2.15),
                (2, "accumulated-power", 0),
                (3, "power", 250),
                (4, "power", 0),
            ]
            assert {m["aggregateType"] for m in said} == {"Raw"}
            time.strptime(said[0]["timestamp"], "%Y-%m-%dT%H:%M:%SZ")
            assert not any(retained for _, _, retained in master.heard)
            assert ear.wait(f"home/data/meters/kam_{NUMBER}/import_energy")["value"] == 2.15
        finally:
            master.close()

    def test_a_meter_of_another_kind_has_the_channels_that_it_has(
        self, begin: Begin, dongle: SimulatedDongle, ear: Ear, broker: Broker
    ) -> None:
        master = Ear(broker.port, "v2/#")
        try:
            begin(more=', mode: c1+t1, compatibility: {gateway: "706462169"}', topics=self.EMPTY)
            listed = [{"deviceId": OTHER, "manufacturerKey": "SEN", "encryptionKey": KEY.hex()}]
            ear.wait("home/service/wmbus/health")
            master.say("v2/706462169/sensors/set", json.dumps(listed))
            wait_for(lambda: master.all(f"v2/706462169/SEN-{OTHER}/config"), what="config: the list is taken")
            meter = Water(OTHER, KEY)
            for total in (912.5, 913.0):
                dongle.hear(meter.telegram(Shown(total, 0.25)), "T1")
            topic = f"v2/706462169/SEN-{OTHER}"
            wait_for(lambda: len(master.all(f"{topic}/data")) == 4, what="two messages for each telegram")
            configs = [json.loads(payload)["Channels"] for payload in master.all(f"{topic}/config")]
            assert [list(channel.values()) for channel in configs[-1]] == [
                [1, "accumulated-volume", "Volume"],
                [2, "flow", "Maximum flow"],
            ]
            assert len(configs) == 2, "what was said once is not said with each telegram"
            said = [json.loads(payload) for payload in master.all(f"{topic}/data")]
            assert [(m["channelNumber"], m["value"]) for m in said] == [(1, 912.5), (2, 0.25), (1, 913.0), (2, 0.25)]
        finally:
            master.close()

    @pytest.mark.parametrize("obeys", [False, True])
    def test_stop_is_answered_and_obeyed_as_the_setting_says(
        self, begin: Begin, ear: Ear, house: House, broker: Broker, obeys: bool
    ) -> None:
        master = Ear(broker.port, "v2/#")
        try:
            master.say("STOP", "", retain=True)
            setting = ", stop: obey" if obeys else ""
            begin(more=f', compatibility: {{gateway: "706462169"{setting}}}', topics=self.EMPTY)
            assert ear.ask("wmbus", "ping")["status"] == "ok"
            assert not master.all("v2/706462169/status"), "a STOP that the broker kept is an old one"
            master.say("STOP", "now")
            assert master.wait("v2/706462169/status")["status"].startswith("stopping" if obeys else "running")
            if obeys:
                assert house.processes["wmbus"].wait(20) == 0
            else:
                assert ear.ask("wmbus", "ping")["status"] == "ok"
        finally:
            master.say("STOP", b"", retain=True)
            master.close()

    def test_the_master_has_a_user_of_its_own_where_compatibility_is_on(self, tmp_path: Path) -> None:
        shipped = Shipped(tmp_path, 'sources: {wmbus: {compatibility: {gateway: "7"}}}\ntopics: {}\n')
        shipped.start()
        try:
            ca = tmp_path / str(certificates.CA).lstrip("/")
            password = (shipped.files.credentials / "mqtt.gateway").read_text().strip()

            def say(topic: str) -> str:
                command = ["mosquitto_pub", "-h", "localhost", "-p", str(shipped.port), "--cafile", ca, "-V", "5"]
                done = subprocess.run(
                    [*command, "-u", "gateway", "-P", password, "-q", "1", "-t", topic, "-m", "[]"],
                    capture_output=True,
                    text=True,
                )
                return done.stderr

            assert "authori" not in say("v2/7/sensors/set") + say("STOP")
            assert "authori" in say("v2/7/KAM-1/data")
            assert "authori" in say("home/service/wmbus/request/meters")
        finally:
            shipped.stop()
        shipped.write("sources: {wmbus: {}}\ntopics: {}\n")
        assert "gateway" not in brokers.rights(Registry(shipped.topics))

    def test_a_key_of_the_owner_comes_before_one_over_mqtt_and_the_conflict_is_answered(
        self, begin: Begin, dongle: SimulatedDongle, ear: Ear
    ) -> None:
        begin(topics=self.EMPTY)
        (answer,) = self.ask(ear, [self.entry(NUMBER, OTHER_KEY)])["data"]
        assert "another key" in answer["conflict"]
        dongle.hear(omnipower(2.5, 1))
        assert ear.wait(f"home/data/meters/kam_{NUMBER}/import_energy")["value"] == 2.5
        (answer,) = self.ask(ear, [self.entry(NUMBER, KEY)])["data"]
        assert "conflict" not in answer

    def test_what_a_listed_meter_says_at_first_is_published_with_dates_and_status(
        self, begin: Begin, dongle: SimulatedDongle, ear: Ear
    ) -> None:
        begin(more=", mode: t1", topics=self.EMPTY)
        assert self.ask(ear, [{"deviceId": OTHER, "manufacturerKey": "SEN"}])["status"] == "ok"
        sender = encode.address("SEN", OTHER, 0x68, 7)
        contents = encode.records([encode.record("0C13", encode.decimal(5, 4)), encode.record("426C", b"\xbf\x2c")])
        began = time.monotonic()
        dongle.hear(encode.telegram(sender, bytes((0x7A, 1, 4, 0, 0)) + contents), "T1")
        place = f"home/data/meters/sen_{OTHER}"
        assert ear.wait(f"{place}/volume")["value"] == 0.005
        assert ear.wait(f"{place}/storage_1_date")["value"] == "2021-12-31"
        assert ear.wait(f"{place}/status_text")["value"] == "power_low"
        assert time.monotonic() - began < 30

    def test_one_bit_of_flags_is_a_switch_and_an_error_is_said(
        self, begin: Begin, dongle: SimulatedDongle, ear: Ear, house: House
    ) -> None:
        topics = """
sources:
  wmbus: {{device: {device}, every: 1s, stale: {stale}, heartbeat: 1s, mode: t1{more}}}
topics:
  house/water/leak_alarm: {{from: wmbus, meter: "00000042", key: error_flags, bit: 3}}
  house/water/dry_alarm: {{from: wmbus, meter: "00000042", key: error_flags, bit: 2}}
  house/water/volume: {{from: wmbus, meter: "00000042"}}
"""
        begin(topics=topics)
        sender = encode.address("SEN", "00000042", 0x68, 7)
        contents = encode.records([encode.record("02FD17", b"\x08\x00"), encode.record("049318", b"\x01\x00\x00\x00")])
        dongle.hear(encode.telegram(sender, bytes((0x7A, 1, 0, 0, 0)) + contents), "T1")
        assert ear.wait("home/data/house/water/leak_alarm")["value"] is True
        assert ear.wait("home/data/house/water/dry_alarm")["value"] is False
        wait_for(lambda: "reports an error instead of volume" in house.log("wmbus"), what="the reason")


class TestMeters:
    def test_what_cannot_follow_from_what_a_meter_showed_is_not_believed(self) -> None:
        meters = KnownMeters(Formats())
        meters.want({("20304050", ""): None})

        def heard(previous: int, current: int, now: float, today: str | None = None) -> bool:
            return meters.hear(own_telegrams.techem_water(previous, current), now, today) is not None

        assert heard(100, 20, 0.0)
        assert not heard(100, 10, 60.0)
        assert not heard(60_000, 20, 90.0)
        assert heard(100, 21, 120.0)
        assert not heard(100, 22, 150.0, "2025-03-07"), "its date is still to come"
        assert heard(100, 22, 180.0, "2025-03-08"), "half past midnight in Berlin is yesterday by UTC"
        assert meters.counts["implausible"] == 3
        assert heard(0, 1, 180.0 + NEW_BEGINNING), "a meter that was exchanged"

    def test_a_diehl_meter_is_found_by_the_number_that_is_printed_on_it(self) -> None:
        meters = KnownMeters(Formats())
        meters.want({("40302010", ""): None})
        heard = meters.hear(own_telegrams.prios(own_telegrams.IZAR, 4366, 4001), 0.0)
        assert heard is not None
        assert heard.telegram is not None
        assert heard.telegram.records[0].value == 4.366

    def test_a_counter_that_goes_back_is_a_new_beginning_after_a_long_silence(self) -> None:
        meters = KnownMeters(Formats())
        meters.want({(NUMBER, ""): KEY})
        assert meters.hear(omnipower(9.0, 500), 0.0)
        assert meters.hear(omnipower(1.0, 1), 60.0) is None
        heard = meters.hear(omnipower(1.0, 1), 60.0 + NEW_BEGINNING)
        assert heard is not None
        assert heard.telegram is not None

    def test_a_repeat_among_newer_telegrams_of_the_same_minute_is_no_news(self) -> None:
        meters = KnownMeters(Formats())
        meters.want({(NUMBER, ""): KEY})
        first, second = (omnipower(energy, 500, access=access) for energy, access in ((1.0, 7), (1.1, 8)))
        assert meters.hear(first, 0.0)
        assert meters.hear(second, 16.0)
        assert meters.hear(first, 32.0) is None
        assert meters.counts["duplicates"] == 1

    def test_a_stranger_with_a_meters_number_does_not_make_it_fail_while_it_is_read(self) -> None:
        meters = KnownMeters(Formats())
        meters.want({(NUMBER, ""): KEY})
        strangers = [omnipower(9.0, 1, key=None), omnipower(9.0, 1, key=OTHER_KEY)]
        for minute in range(1, 5):
            heard = meters.hear(omnipower(float(minute), minute), minute * 60.0)
            assert heard is not None
            assert heard.telegram is not None
            assert [meters.hear(telegram, minute * 60.0 + 1) for telegram in strangers] == [None, None]
        assert (meters.counts["plain"], meters.counts["refused_key"]) == (4, 4)
        failing = meters.hear(strangers[0], 240.0 + NEW_BEGINNING)
        assert failing is not None
        assert "anybody's" in failing.reason

    def test_meters_of_one_number_count_for_themselves_also_over_a_restart(self) -> None:
        places: dict[Place, bytes | str | None] = {(NUMBER, "KAM"): KEY, (NUMBER, "SEN"): KEY}
        before = KnownMeters(Formats())
        before.want(places)
        assert before.hear(omnipower(1.0, 500), 0.0)
        assert before.hear(omnipower(2.0, 9, maker="SEN"), 0.0)
        after = KnownMeters(Formats())
        after.want(places)
        after.recall(before.counted, 0.0)
        for replayed in (omnipower(1.0, 500), omnipower(2.0, 9, maker="SEN"), omnipower(1.0, 499)):
            assert after.hear(replayed, 20.0) is None
        assert after.hear(omnipower(1.0, 501), 60.0)
        assert after.hear(omnipower(2.0, 10, maker="SEN"), 60.0)

    def test_a_line_without_manufacturer_means_the_one_that_another_line_of_its_number_names(self) -> None:
        places = [
            (NUMBER, ""),
            (NUMBER, "KAM"),
            (OTHER, ""),
            ("00000001", ""),
            ("00000001", "KAM"),
            ("00000001", "SEN"),
        ]
        settled = settle(places)
        assert settled[NUMBER, ""] == (NUMBER, "KAM")
        assert settled[OTHER, ""] == (OTHER, "")
        assert settled["00000001", ""] == ("00000001", "")

    def test_two_meters_of_one_number_are_told_apart_by_their_manufacturer(self) -> None:
        meters = KnownMeters(Formats())
        meters.want({(NUMBER, "KAM"): KEY, (NUMBER, "SEN"): OTHER_KEY})
        heard = meters.hear(omnipower(9.0, 5), 0.0)
        assert heard is not None
        assert heard.meter.place == (NUMBER, "KAM")
        heard = meters.hear(Water(NUMBER, OTHER_KEY).telegram(Shown(1.0, 0.0)), 0.0)
        assert heard is not None
        assert heard.telegram is not None

    def test_a_meter_behind_a_radio_adapter_is_found_by_its_own_number(self) -> None:
        meters = KnownMeters(Formats())
        meters.want({(OTHER, ""): KEY})
        adapter, meter = encode.address("KAM", "99999999", 1, 0x37), encode.address("SEN", OTHER, 0x68, 7)
        contents = encode.records([encode.record("0413", encode.integer(5, 4))])
        heard = meters.hear(encode.chained(adapter, contents, KEY, access=1, meter=meter, ci=0x72), 0.0)
        assert heard is not None
        assert heard.telegram is not None
        assert heard.telegram.records[0].value == 0.005


def test_the_simulated_house_is_read_by_the_real_service(house: House, ear: Ear, tmp_path: Path) -> None:
    values = tmp_path / "meters.json"
    values.write_text(
        json.dumps({kind: {"total": 912.5, "rate": 0.5} for kind in (Electricity.kind, Water.kind, Heat.kind)})
    )
    credentials = secrets(tmp_path / "credentials", _32666857=KEY, _12345678=OTHER_KEY, _63221544=KEY)
    link, faults = tmp_path / "im871a", tmp_path / "faults.json"
    house.write(
        f"""
sources:
  wmbus: {{device: {link}, mode: c1+t1, every: 2s, stale: 60s}}
topics:
  house/meter/import_energy: {{from: wmbus, meter: 32666857, secret: "secret:wmbus.32666857"}}
  house/water/volume: {{from: wmbus, meter: 12345678, secret: "secret:wmbus.12345678"}}
  house/heat/energy: {{from: wmbus, meter: 63221544}}
  house/heat/flow_temperature: {{from: wmbus, meter: 63221544}}
"""
    )
    command = [sys.executable, "-m", "services.simulators.im871a", "--config", house.config, "--link", link]
    environment = os.environ | {"CONSTELLATION_CREDENTIALS": credentials}
    simulator = subprocess.Popen(
        [*command, "--every", "0.3", "--faults", faults, values],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(link.is_symlink, what="the port")
        house.start("wmbus", CONSTELLATION_CREDENTIALS=credentials)
        for name, value in (("meter/import_energy", 912.5), ("water/volume", 912.5), ("heat/flow_temperature", 43.0)):
            assert ear.wait(f"home/data/house/{name}")["value"] == value
        assert ear.wait("home/data/house/heat/energy")["value"] == 912
        faults.write_text('{"fault": "unplug"}')
        wait_for(lambda: not link.is_symlink(), what="the port to go")
        faults.write_text("{}")
        before = len(ear.all("home/data/house/water/volume"))
        wait_for(lambda: len(ear.all("home/data/house/water/volume")) > before, 15, "values after the dongle's return")
    finally:
        simulator.terminate()
        simulator.wait(10)
