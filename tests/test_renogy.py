"""The charge controller's register table, decoded from words as the protocol document gives them."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import minimalmodbus
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap_lib.quantities import quantity_of
from services.protocols import modbus, registers
from services.protocols.makes import renogy
from services.protocols.registers import Block, Register, blocks, decode
from services.simulators.modbus import Fault
from services.simulators.renogy import Controller, Rover

DOCUMENT = {
    0x000A: 0x0C28, 0x000B: 0x1400,
    **dict(enumerate((0x2020, 0x4D54, 0x3438, 0x3330, 0x2020, 0x2020, 0x2020, 0x2020), 0x000C)),
    0x0014: 0x0004, 0x0015: 0x0200, 0x0016: 0x0002, 0x0017: 0x0003, 0x0018: 0x1501, 0x0019: 0xFFFF,
    0x0100: 0x0064, 0x0101: 0x0080, 0x0102: 0x01F4, 0x0103: 0x9905,
    0x0118: 0x0001, 0x0119: 0x0000, 0x011C: 0x0006, 0x011D: 0x4AB9,
    0x0120: 0x8002, 0x0121: 0x1009, 0x0122: 0x0000,
    0xE002: 0x00C8, 0xE003: 0xFF0C, 0xE004: 0x0004,
}  # fmt: skip


def test_words_of_the_document_become_named_values() -> None:
    values = decode(renogy.REGISTERS, DOCUMENT)
    assert values.items() >= {
        "system_voltage": 12, "rated_charging_current": 40, "rated_discharging_current": 20,
        "product_text": "controller", "model_text": "MT4830", "software_text": "4.2.0", "hardware_text": "2.0.3",
        "serial_text": "1501FFFF", "battery_soc": 100, "battery_voltage": 12.8, "battery_charging_current": 5.0,
        "controller_temperature": -25, "battery_temperature": 5, "charged_throughput": 65536,
        "generated_energy": 412.345, "load_active": True, "charging_state": "mppt", "solar_reversed_fault": True,
        "battery_nominal_charge": 200,
        "load_short_circuit_fault": True, "battery_over_discharge_fault": True, "battery_over_voltage_fault": False,
        "system_recognised_voltage": 12, "battery_text": "lithium",
    }.items()  # fmt: skip
    assert "load_voltage" not in values, "a register that was not read has no value"
    assert "discharged_throughput" not in values


def test_an_unknown_state_is_no_value() -> None:
    assert "charging_state" not in decode(renogy.LIVE, {0x0120: 0x0009})


def test_the_whole_controller_is_read_with_four_requests() -> None:
    assert list(blocks(renogy.REGISTERS)) == [
        Block(0x000A, 16), Block(0x0100, 10), Block(0x010B, 24), Block(0xE002, 3)
    ]  # fmt: skip


def test_a_long_table_is_read_in_pieces_that_one_answer_can_hold() -> None:
    table = [Register(f"word_{number}_count", number) for number in range(300)]
    assert list(blocks(table)) == [Block(0, 125), Block(125, 125), Block(250, 50)]


def test_every_name_is_unique_and_its_last_word_gives_its_unit() -> None:
    names = [register.name for register in renogy.REGISTERS]
    assert len(set(names)) == len(names)
    for register in renogy.REGISTERS:
        quantity = quantity_of(register.name)
        assert quantity, register.name
        assert (register.unit, bool(register.states) or register.name.endswith("_text")) == (
            quantity.unit, quantity.kind in {"state", "text"}
        ), register.name  # fmt: skip


@given(st.dictionaries(st.sampled_from([*DOCUMENT, 0x0104, 0x0121]), st.integers(0, 0xFFFF)))
def test_any_words_are_decoded_without_an_exception(words: dict[int, int]) -> None:
    for value in decode(renogy.REGISTERS, words).values():
        assert isinstance(value, str | int | float)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "battery_voltage": st.integers(0, 999).map(lambda volts: volts / 10),
            "battery_temperature": st.integers(-126, 127),  # both at -127 are 0xFFFF, which is no value
            "controller_temperature": st.integers(-127, 127),
            "generated_energy": st.integers(0, 2**32 - 2).map(lambda watt_hours: round(watt_hours / 1000, 3)),
            "load_active": st.booleans(),
            "charging_state": st.sampled_from(list(renogy.CHARGING_STATES.values())),
            "charging_mosfet_short_fault": st.booleans(),
            "load_over_current_fault": st.booleans(),
            "serial_text": st.from_regex("[0-9A-F]{8}", fullmatch=True),
        }
    )
)
def test_what_the_simulator_shows_is_what_the_decoder_reads(values: dict[str, registers.Value]) -> None:
    rover = Rover()
    rover.show(values)
    assert decode(renogy.REGISTERS, rover.words).items() >= values.items()


class TestModbus:
    """minimalmodbus itself, over the pseudo-terminal."""

    @pytest.fixture
    def controller(self) -> Iterator[Controller]:
        with Controller() as controller:
            yield controller

    @pytest.fixture
    def master(self, controller: Controller) -> Iterator[minimalmodbus.Instrument]:
        master = minimalmodbus.Instrument(controller.port, renogy.ADDRESS)
        master.serial.baudrate = renogy.BAUD_RATE
        master.serial.timeout = 0.2
        yield master
        master.serial.close()

    def read(self, master: minimalmodbus.Instrument) -> dict[str, registers.Value]:
        words = {}
        for block in blocks(renogy.REGISTERS):
            words |= dict(enumerate(master.read_registers(block.address, block.length), block.address))
        return decode(renogy.REGISTERS, words)

    def test_the_master_reads_every_value(self, controller: Controller, master: minimalmodbus.Instrument) -> None:
        controller.rover.show({"battery_voltage": 13.4, "battery_temperature": -7, "solar_over_voltage_fault": True})
        values = self.read(master)
        assert len(values) == len(renogy.REGISTERS)
        assert values["battery_voltage"] == 13.4
        assert values["battery_temperature"] == -7
        assert values["solar_over_voltage_fault"] is True
        assert values["model_text"] == "RNG-CTRL-RVR40"

    @pytest.mark.parametrize(
        ("fault", "raised"),
        [
            ("silence", minimalmodbus.NoResponseError),
            ("wrong_crc", minimalmodbus.InvalidResponseError),
            ("truncated", minimalmodbus.InvalidResponseError),
            ("other_address", minimalmodbus.InvalidResponseError),
            ("exception", minimalmodbus.SlaveReportedException),
        ],
    )
    def test_each_fault_reaches_the_master_and_heals(
        self, controller: Controller, master: minimalmodbus.Instrument, fault: Fault, raised: type[Exception]
    ) -> None:
        controller.rover.fault = fault
        with pytest.raises(raised):
            self.read(master)
        controller.rover.fault = None
        assert self.read(master)["battery_soc"] == 87

    def test_a_register_that_is_not_there_and_a_write_are_refused(self, master: minimalmodbus.Instrument) -> None:
        with pytest.raises(minimalmodbus.IllegalRequestError, match="illegal data address"):
            master.read_registers(0x0109, 2)
        with pytest.raises(minimalmodbus.IllegalRequestError, match="illegal function"):
            master.write_register(0x010A, 1, functioncode=6)

    def test_noise_on_the_line_costs_one_request(
        self, controller: Controller, master: minimalmodbus.Instrument
    ) -> None:
        master.serial.write(b"\x01\x03\x55")
        time.sleep(0.1)
        assert self.read(master)["battery_soc"] == 87

    def test_a_controller_on_another_address_stays_silent(self, controller: Controller) -> None:
        stranger = b"\x02\x03\x01\x00\x00\x01"
        assert controller.answer(modbus.sealed(stranger)) == b""


def test_the_simulator_runs_by_itself_and_takes_over_its_state_file(tmp_path: Path) -> None:
    link, state = tmp_path / "port", tmp_path / "renogy.json"
    state.write_text('{"values": {"battery_voltage": 12.1}}')
    command = [sys.executable, "-m", "services.simulators.modbus", "--link", link, "--state", state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().strip() == str(link)
        time.sleep(0.3)
        master = minimalmodbus.Instrument(str(link), renogy.ADDRESS)
        assert master.read_register(0x0101, 1) == 12.1
        state.write_text('{"values": {"battery_voltage": 14.4}}')
        time.sleep(0.5)
        assert master.read_register(0x0101, 1) == 14.4
        master.serial.close()
        process.terminate()


def test_the_checksum_is_the_standards() -> None:
    assert modbus.sealed(bytes.fromhex("010300000001"))[-2:] == bytes.fromhex("840A")
