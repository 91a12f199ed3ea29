"""Three units on one line, one late by up to two seconds, one with an echo, one that loses a byte in a hundred."""

import time
from pathlib import Path

import pytest

from services.links.modbus import RtuLine
from services.links.modbus_unit import ModbusUnit
from services.links.port import SerialPort
from services.protocols.makes import renogy
from services.protocols.registers import Register
from services.simulators.modbus import SimulatedLine, SimulatedUnit

pytestmark = pytest.mark.long


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [7, pytest.param(20, marks=pytest.mark.whole)])
def test_no_value_is_wrong_and_each_unit_has_its_rounds(rounds: int) -> None:
    table = [
        Register(f"{register.name}_{at}_count", register.address + at)
        for register in renogy.LIVE
        for at in range(register.length)
    ]
    addresses = {register.name: register.address for register in table}
    units = {address: SimulatedUnit(address, table, {}) for address in (16, 17, 18)}
    for address, unit in units.items():
        for register in unit.words:
            unit.words[register] = (register * 7 + address) & 0x7FFF
    units[16].fault, units[17].fault, units[18].fault = "late", "echo", "lossy"
    whole = dict.fromkeys(units, 0)
    values = 0
    with SimulatedLine(*units.values()) as line:
        port = SerialPort(Path(line.port), 9600)
        shared = RtuLine(port, 2.5, 0.0, lambda: None)
        asked = [ModbusUnit(shared, address, table, gap=0, longest=125) for address in units]
        started = time.monotonic()
        for _ in range(rounds):
            for one in asked:
                said, reasons = one.read(addresses)
                for name, value in said.items():
                    values += 1
                    assert value == (addresses[name] * 7 + one.unit) & 0x7FFF, (one.unit, name)
                whole[one.unit] += not reasons
        port.close()
    print(f"{values} values, whole rounds {whole} of {rounds} in {time.monotonic() - started:.0f} s")
    assert min(whole.values()) >= 0.95 * rounds
