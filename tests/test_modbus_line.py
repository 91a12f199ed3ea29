"""Lines on which answers come late, twice, damaged, or from somebody else: no value is ever another register's."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Mapping
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from harness import Ear, House, busy, wait_for
from hypothesis import given
from hypothesis import strategies as st

from bootstrap_lib import quantities
from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.document import from_text
from bootstrap_lib.registry import Registry
from services.links.modbus import RtuLine, Silence, TcpLine
from services.links.modbus_unit import ModbusUnit
from services.links.port import PortError, SerialPort, TcpPort
from services.modbus import Ended, Modbus, Options, is_there, registers_of, table_of
from services.modbus import UnitOptions as Unit
from services.protocols import modbus
from services.protocols.makes import own, sunspec
from services.protocols.makes.own import OwnError, OwnRegister
from services.protocols.registers import Block, Register, blocks, decode, floating, halves, signed
from services.simulators.modbus import SimulatedGateway, SimulatedLine, SimulatedUnit

MAKES = ("renogy", "sdm120", "sdm230", "sdm630", "em24", "em340", "et112", "deye", "sunspec")
TABLE = [
    *(Register(f"part_{at}_count", at) for at in range(16)),
    *(Register(f"part_{at}_count", at) for at in range(20, 30)),
    Register("part_40_count", 40),
    Register("part_50_count", 50),
]


def unit(address: int) -> SimulatedUnit:
    """A unit in which every register says its own address and unit."""
    found = SimulatedUnit(address, TABLE, {})
    for at in found.words:
        found.words[at] = 1000 * address + at
    return found


def right(values: Mapping[str, Any], address: int) -> bool:
    return all(value == 1000 * address + int(name.split("_")[1]) for name, value in values.items())


@pytest.fixture
def line() -> Iterator[SimulatedLine]:
    with SimulatedLine(unit(1), unit(2), unit(3)) as line:
        yield line


@pytest.fixture
def master(line: SimulatedLine) -> Iterator[RtuLine]:
    port = SerialPort(Path(line.port), 115200)
    yield RtuLine(port, 0.5, 0.0, lambda: None)
    port.close()


def units_on(master: RtuLine | TcpLine) -> list[ModbusUnit]:
    return [ModbusUnit(master, address, TABLE, gap=0, longest=125) for address in (1, 2, 3)]


NAMES = [register.name for register in TABLE]


@pytest.mark.parametrize("fault", ["echo", "stray", "lossy"])
def test_echo_noise_and_lost_bytes_cost_repeats_and_no_round(line: SimulatedLine, master: RtuLine, fault: Any) -> None:
    line.units[1].fault = fault
    asked = units_on(master)
    whole = 0
    for _ in range(20):
        values, _ = asked[0].read(NAMES)
        assert right(values, 1)
        whole += len(values) == len(NAMES)
    assert whole >= 19


def test_a_late_answer_is_never_another_registers(line: SimulatedLine, master: RtuLine) -> None:
    """It comes after its request was given up: the next one must not take it."""
    line.units[1].fault = "late"
    asked = units_on(master)
    heard = 0
    for _ in range(4):
        for one in asked:
            values, _ = one.read(NAMES)
            assert right(values, one.unit), values
            heard += len(values)
    assert heard > 6 * len(NAMES), "the others are read meanwhile"


def test_whoever_is_waited_for_long_enough_is_read_late_or_not(line: SimulatedLine) -> None:
    line.units[1].fault = "late"
    port = SerialPort(Path(line.port), 115200)
    one = ModbusUnit(RtuLine(port, 2.5, 0.0, lambda: None), 1, TABLE, gap=0, longest=125)
    for _ in range(2):
        values, reasons = one.read(NAMES)
        assert (len(values), reasons) == (len(NAMES), {})
        assert right(values, 1)
    port.close()


def test_after_a_silence_something_of_another_length_is_asked_first(line: SimulatedLine) -> None:
    """A device that answers the request before the last one, for ever: the worst of all late ones."""
    behind: list[bytes] = [b""]

    def frame(request: bytes) -> bytes:
        behind.append(SimulatedUnit.frame(line.units[2], request))
        return behind.pop(0)

    line.units[2].frame = frame  # type: ignore[method-assign]
    port = SerialPort(Path(line.port), 115200)
    master = RtuLine(port, 0.15, 0.0, lambda: None)
    got = []
    for address in (0, 1, 2, 3, 4):
        try:
            got.append((address, master.ask(2, 3, address, 1)[0]))
        except OSError:
            continue
    port.close()
    assert all(value == 2000 + address for address, value in got), got
    assert isinstance(Silence(), OSError)


def test_a_register_that_a_model_lacks_is_found_and_named_and_the_rest_is_read(
    line: SimulatedLine, master: RtuLine
) -> None:
    del line.units[1].words[6], line.units[1].words[25]
    one = units_on(master)[0]
    values, reasons = one.read(NAMES)
    assert set(NAMES) - set(values) == {"part_6_count", "part_25_count"} == set(reasons)
    assert "registers 0x0006 to 0x0006: this model does not have them" in reasons["part_6_count"]
    before = line.units[1].requests
    values, reasons = one.read(NAMES)
    assert len(values) == len(NAMES) - 2
    assert set(reasons) == {"part_6_count", "part_25_count"}
    assert line.units[1].requests - before == 6, "it is not narrowed again"


def test_a_device_that_is_silent_about_what_it_lacks_is_read_for_the_rest(line: SimulatedLine, master: RtuLine) -> None:
    real = line.units[1].frame

    def frame(request: bytes) -> bytes:
        return b"" if request[3] == 0 else real(request)

    line.units[1].frame = frame  # type: ignore[method-assign]
    one = units_on(master)[0]
    for _ in range(3):
        values, reasons = one.read(NAMES)
        assert len(values) == len(NAMES) - 16
        assert "no answer from address 1" in reasons["part_3_count"]
    started = time.monotonic()
    one.read(NAMES)
    assert time.monotonic() - started < busy(0.45), "it is not waited for in each round"


def test_a_silent_unit_costs_one_wait_in_a_round_and_is_found_again(line: SimulatedLine, master: RtuLine) -> None:
    line.units[1].fault = "silence"
    one = units_on(master)[0]
    one.read(NAMES)
    assert one.silent
    started = time.monotonic()
    values, reasons = one.read(NAMES)
    assert time.monotonic() - started < busy(0.9)
    assert (values, set(reasons)) == ({}, set(NAMES))
    line.units[1].fault = None
    one.read(NAMES)
    assert len(one.read(NAMES)[0]) == len(NAMES)


def test_a_unit_that_is_off_for_a_hundred_rounds_costs_nobody_else_one(line: SimulatedLine) -> None:
    """An inverter in the night: each of its silences may be a late answer's, and there are more of them than lengths."""
    line.units[2].fault = "silence"
    port = SerialPort(Path(line.port), 115200)
    asked = units_on(RtuLine(port, 0.02, 0.0, lambda: None))[:2]
    for _ in range(100):
        assert len(asked[0].read(NAMES[:2])[0]) == 2
        values, reasons = asked[1].read(NAMES[:2])
        assert (values, len(reasons)) == ({}, 2)
    line.units[2].fault = None
    wait_for(lambda: right(values := asked[1].read(NAMES[:2])[0], 2) and values, what="the morning")
    port.close()


def test_modbus_tcp_takes_the_answer_with_its_own_number() -> None:
    with SimulatedGateway(unit(1), unit(2), unit(3)) as gateway:
        host, _, number = gateway.port.partition(":")
        port = TcpPort(host, int(number))
        asked = units_on(TcpLine(port, 0.4, 0.0, lambda: None))
        gateway.units[2].fault = "late"  # a stranger's answer comes first
        gateway.units[3].fault = "silence"
        for _ in range(3):
            for one in asked:
                values, _ = one.read(NAMES)
                assert right(values, one.unit)
                assert len(values) == (0 if one.unit == 3 else len(NAMES))
        port.close()


@pytest.mark.parametrize("code", [10, 11])
def test_a_unit_that_a_gateway_does_not_reach_is_silent_and_not_there(code: int) -> None:
    with SimulatedGateway(unit(1), unit(2)) as gateway:
        port = TcpPort("127.0.0.1", int(gateway.port.partition(":")[2]))
        master = TcpLine(port, 5.0, 0.0, lambda: None)
        here, away = units_on(master)[:2]
        asked: list[bytes] = []

        def reply(question: bytes) -> bytes:
            asked.append(question)
            return bytes((question[0] | modbus.REFUSED, code))

        gateway.units[2].reply = reply  # type: ignore[method-assign]
        values, reasons = away.read(NAMES)
        assert not values
        assert {f"but a gateway answered in its place (code {code})" in one for one in reasons.values()} == {True}
        assert away.silent
        asked.clear()
        away.read(NAMES)
        assert len(asked) == 1  # as of any unit that is silent
        assert not is_there(master, 2)
        assert is_there(master, 1)
        assert right(here.read(NAMES)[0], 1)
        port.close()


def test_a_host_whose_name_is_none_is_said_as_such() -> None:
    with pytest.raises(PortError, match="that is no host's name"), TcpPort("meter..house", 502).turn(lambda: None):
        pass


class OneAtATime(SimulatedGateway):
    """Knows how many are connected."""

    talking = 0

    def _talk(self, connection: socket.socket) -> None:
        self.talking += 1
        super()._talk(connection)
        self.talking -= 1


def test_a_tcp_connection_is_given_back_between_rounds(tmp_path: Path) -> None:
    """Many devices end one that is idle, which would cost each second round; others have one for all who ask."""
    with OneAtATime(unit(1)) as gateway:
        (tmp_path / "topics.yaml").write_text(f"""
sources: {{modbus: {{device: "{gateway.port}", registers: {{part_3_count: {{address: 3}}}}}}}}
topics: {{shed/a/part_3_count: {{from: modbus}}}}
""")
        registry = Registry(tmp_path / "topics.yaml")
        source = Modbus(registry, "modbus")
        source.load(registry)
        source.tick = lambda *_: wait_for(lambda: not gateway.talking, what="the end of a connection")  # type: ignore[method-assign]
        source.breathe = lambda *_: True  # type: ignore[method-assign]
        rounds = source.samples()
        assert [next(rounds)[1] for _ in range(3)] == [1003] * 3
        rounds.close()


def test_the_loop_turns_while_a_connection_is_made() -> None:
    """To a device that is off, whose address answers nothing: here one that takes nobody else."""
    turns = 0

    def idle() -> None:
        nonlocal turns
        turns += 1
        if turns > 3:
            raise Ended

    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        port = TcpPort(*full.getsockname())
        with pytest.raises(Ended), port.turn(idle):
            pass
    assert turns > 3


def test_two_services_share_a_line_and_one_is_several_units(house: House, ear: Ear, tmp_path: Path) -> None:
    with SimulatedLine(unit(1), unit(2), unit(3)) as line:
        (tmp_path / "port").symlink_to(line.port)
        registers = "registers: {part_3_count: {address: 4, first: 1}, part_20_count: {address: 20}}"
        house.write(f"""
sources:
  one: {{service: modbus, every: 200ms, heartbeat: 300ms, timeout: 400ms, device: {tmp_path}/port, {registers}}}
  two: {{service: modbus, every: 200ms, heartbeat: 300ms, timeout: 400ms, device: {tmp_path}/port,
         units: {{a: {{address: 2, {registers}}}, b: {{address: 3, {registers}}}}}}}
topics:
  shed/one/part_3_count: {{from: one}}
  shed/a/part_3_count: {{from: two, of: a}}
  shed/b/part_count: {{from: two, of: b, key: part_20_count}}
""")
        house.start("one")
        house.start("two")
        for topic, value in (("one/part_3_count", 1003), ("a/part_3_count", 2003), ("b/part_count", 3020)):
            ear.wait(f"home/data/shed/{topic}")
            heard = len(ear.all(f"home/data/shed/{topic}"))
            wait_for(lambda t=topic, h=heard: len(ear.all(f"home/data/shed/{t}")) > h + 5, what=topic)
            assert {json.loads(payload)["value"] for payload in ear.all(f"home/data/shed/{topic}")} == {value}
        assert "damaged" not in house.log("one") + house.log("two")


def test_the_loop_lives_while_a_unit_is_waited_for(house: House, ear: Ear, tmp_path: Path) -> None:
    with SimulatedLine(unit(1)) as line:
        line.units[1].fault = "silence"
        (tmp_path / "port").symlink_to(line.port)
        house.write(f"""
sources:
  modbus: {{every: 1s, heartbeat: 200ms, timeout: 10s, device: {tmp_path}/port, registers: {{part_3_count: {{address: 3}}}}}}
topics:
  shed/one/part_3_count: {{from: modbus}}
""")
        process = house.start("modbus")
        wait_for(lambda: line.units[1].requests, what="a request")
        beats = len(ear.all("home/service/modbus/health"))
        wait_for(lambda: len(ear.all("home/service/modbus/health")) > beats + 4, timeout=5, what="beats")
        started = time.monotonic()
        process.terminate()
        assert process.wait(8) == 0
        assert time.monotonic() - started < busy(3)


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKES)
def test_names_of_a_make_are_unique_and_their_last_word_gives_the_unit(make: str) -> None:
    table = table_of(make).REGISTERS
    assert len({register.name for register in table}) == len(table)
    for register in table:
        quantity = quantities.quantity_of(register.name)
        assert quantity, register.name
        assert register.unit == quantity.unit, register.name


@pytest.mark.parametrize("make", [make for make in MAKES if make not in ("renogy", "sunspec")])
def test_a_make_reads_what_its_simulator_shows(make: str) -> None:
    table = table_of(make).REGISTERS
    shown = SimulatedUnit(1, table)
    words = shown.words | {at + 0x10000: word for at, word in shown.inputs.items()}
    values = decode(table, words)
    for register in table:
        if register.unit == "kWh":
            assert values[register.name] == pytest.approx(1234.5), register.name
        if register.unit == "V" and register.length == 2:
            assert values[register.name] == pytest.approx(230.0)


def test_a_number_in_two_pieces_is_one() -> None:
    table = registers_of(Unit(make="deye"))
    words = dict.fromkeys(range(60, 200), 0) | {78: 0x1234, 80: 0x0001, 79: 5000, 182: 1255}
    values = decode(table, words)
    assert values["grid_import_energy"] == 7019.6  # 0x11234 tenths
    assert values["grid_frequency"] == 50.0
    assert values["battery_temperature"] == 25.5


@pytest.mark.parametrize(
    ("register", "words", "value"),
    [
        ({"type": "u16"}, [0xFFFF], None),
        ({"type": "i16"}, [0x8000], None),
        ({"type": "i16"}, [0xFFFF], -1),
        ({"type": "u32"}, [0xFFFF, 0xFFFF], None),
        ({"type": "i32"}, [0x8000, 0], None),
        ({"type": "i32"}, [0xFFFF, 0xFFFE], -2),
        ({"type": "f32"}, [0x7FC0, 0], None),
        ({"type": "f32"}, [0x4366, 0x8000], 230.5),
        ({"type": "f32", "order": "low"}, [0x8000, 0x4366], 230.5),
        ({"type": "u32", "order": "low", "bytes": "low"}, [0x3412, 0x0100], 0x00011234),
        ({"type": "sign16"}, [0x8005], -5),
        ({"type": "bcd16"}, [0x1234], 1234),
        ({"type": "bcd16"}, [0x12A4], None),
        ({"type": "u16", "scale": 0.1, "offset": -100.0}, [1255], 25.5),
        ({"type": "u16", "none": [32767]}, [32767], None),
        ({"type": "u16", "states": {0: "off", 3: "bulk"}}, [3], "bulk"),
        ({"type": "u16", "states": {0: "off", 3: "bulk"}}, [4], None),
        ({"type": "u16", "bit": 4}, [0x10], True),
        ({"type": "string", "length": 2}, [0x4142, 0x4300], "ABC"),
        ({"type": "hex", "length": 2}, [0x1501, 0x00FF], "150100FF"),
        ({"type": "u64"}, [0, 0, 1, 2], 65538),
        ({"type": "u16", "power": 40017}, [231], None),  # its power of ten was not read
        ({"type": "string", "length": 3}, [0xFFFF, 0xFFFF, 0xFFFF], None),
        ({"type": "string", "length": 3}, [0x4142, 0x43FF, 0xFFFF], "ABC"),
        ({"type": "u32", "bit": 31}, [0x8000, 0], True),
    ],
)
def test_a_table_of_ones_own_reads_every_kind_of_number(
    register: dict[str, Any], words: list[int], value: object
) -> None:
    described = msgspec.convert({"address": 40001 + 7, "first": 40001} | register, OwnRegister)
    table = own.registers({"x_count": described})
    assert decode(table, {7 + at: word for at, word in enumerate(words)}) == (
        {} if value is None else {"x_count": value}
    )


@pytest.mark.parametrize(
    ("register", "sentence"),
    [
        ({"address": 5, "first": 40001}, "there is no register 5 where the first one is 40001"),
        ({"address": [78, 80, 81], "type": "u32"}, "a u32 has 2 registers, and 3 are named"),
        ({"address": 1, "type": "u32", "length": 4}, "a u32 has 2 registers: leave length out"),
        ({"address": 0xFFFF, "type": "u32"}, "there is no register"),
        ({"address": 40083, "first": 40001, "power": 84}, "there is no register 84 where the first one is 40001"),
        ({"address": 0, "power": 0x10000}, "there is no register 65536"),
        ({"address": 72, "power": 300}, "its power of ten is too far away"),
        ({"address": 72, "type": "u32", "power": 197}, "its power of ten is too far away"),
        ({"address": 199, "power": 74}, "its power of ten is too far away"),
        ({"address": 5, "bit": 16}, "a u16 has no bit 16: the last one is 15"),
        ({"address": 5, "scale": 0}, "times 0 everything is 0"),
    ],
)
def test_a_field_that_cannot_be_meant_so_is_found_by_check(
    tmp_path: Path, register: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(OwnError, match=sentence):
        own.registers({"x_count": msgspec.convert(register, OwnRegister)})
    (tmp_path / "topics.yaml").write_text(
        f"sources:\n  modbus: {{registers: {{x_count: {json.dumps(register)}}}}}\n"
        "topics:\n  a/b/x_count: {from: modbus}\n"
    )
    assert sentence in str(problems_of(Registry(tmp_path / "topics.yaml")))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{from: modbus}", "which unit? write of: with one of grid, sun"),
        ("{from: modbus, of: gird}", "no unit is named 'gird', did you mean 'grid'?"),
        ("{from: modbus, of: grid, key: powr}", "the table has no field 'powr', did you mean 'power'?"),
    ],
)
def test_a_line_of_no_unit_is_found_by_check(tmp_path: Path, line: str, sentence: str) -> None:
    (tmp_path / "topics.yaml").write_text(
        "sources:\n  modbus: {units: {grid: {make: sdm630}, sun: {make: sunspec, address: 126}}}\n"
        f"topics:\n  a/b/power: {line}\n"
    )
    assert sentence in str(problems_of(Registry(tmp_path / "topics.yaml")))


# -- SunSpec -----------------------------------------------------------------------------------------------------------


def solar(start: int) -> SimulatedUnit:
    """An inverter with a model that nobody knows before its own."""
    found = SimulatedUnit(126, (), {})
    words = [*sunspec.MARK, 1, 66, *[0] * 66, 63001, 3, 7, 7, 7, 103, 50, *[0xFFFF] * 50, 0xFFFF, 0]
    common, inverter = 2, 2 + 68 + 5
    words[common + 2] = 0x4142
    for at, word in {2: 123, 6: 0xFFFF, 14: 512, 15: 1, 16: 5000, 17: 0xFFFE, 24: 1, 25: 0xE240, 26: 1, 38: 4}.items():
        words[inverter + at] = word
    found.words.update({start + at: word for at, word in enumerate(words)})
    return found


@pytest.mark.parametrize("start", [40000, pytest.param(50000, marks=pytest.mark.whole)])
def test_sunspec_is_walked_and_scaled_by_what_came_with_the_number(
    start: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.modbus.LOOKED_FOR", (1, 126))  # each that is silent costs 0.3 s
    device = solar(start)
    with SimulatedLine(device) as line:
        options = msgspec.convert(
            {"device": line.port, "make": "sunspec", "address": 126, "timeout": "300ms"}, Options, dec_hook=from_text
        )
        lines = list(Modbus.scan(options))
        assert "manufacturer_text AB" in lines
        assert "current 12.3 A" in lines
        assert "power 5120 W" in lines or "power 5120.0 W" in lines
        assert "frequency 50.0 Hz" in lines
        assert "energy 1234.56 kWh" in lines
        assert "operating_state mppt" in lines
        assert not any(line.startswith(("dc_voltage", "phase_1_voltage")) for line in lines), "not implemented is none"


def test_a_sunspec_unit_that_is_silent_costs_only_its_own_topics_and_is_found_when_it_wakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.modbus.LOOKED_FOR", (1, 2, 3, 126))  # each that is silent costs 0.3 s
    roof = solar(50000)
    roof.fault = "silence"
    with SimulatedLine(unit(1), roof, unit(3)) as line:
        registers = "registers: {part_3_count: {address: 3}}"
        (tmp_path / "topics.yaml").write_text(f"""
sources:
  modbus: {{device: {line.port}, baud: 115200, timeout: 300ms,
           units: {{a: {{address: 1, {registers}}}, roof: {{make: sunspec, address: 126}}, c: {{address: 3, {registers}}}}}}}
topics:
  shed/a/part_3_count: {{from: modbus, of: a}}
  shed/roof/power: {{from: modbus, of: roof}}
  shed/c/part_3_count: {{from: modbus, of: c}}
""")
        registry = Registry(tmp_path / "topics.yaml")
        source = Modbus(registry, "modbus")
        source.load(registry)
        rounds = source.samples()
        source.tick = lambda *_: True  # type: ignore[method-assign]
        source.breathe = lambda *_: True  # type: ignore[method-assign]
        for asked in (3, 1, 1):
            before = roof.requests
            assert next(rounds)[1] == 1003
            assert "no answer from address 126" in str(next(rounds)[1])
            assert next(rounds)[1] == 3003
            assert roof.requests - before == asked, "waits"
        assert any("no answer from address 126" in said for said in Modbus.scan(source.options))
        roof.fault = None
        heard = [sample for _ in range(3 * 6) for sample in (next(rounds),)]
        assert 5120 in [value for topic, value in heard if topic.name == "shed/roof/power"]
        rounds.close()


def test_a_chain_that_breaks_off_is_no_table() -> None:
    """A part of a table would be kept until the port is opened anew, and the rest would not be there."""
    walk = sunspec.walk()
    assert next(walk) == Block(40000, 2)
    assert walk.send(sunspec.MARK) == Block(40002, 2)
    assert walk.send((1, 66)) == Block(40070, 2)
    with pytest.raises(StopIteration) as end:
        walk.send(())
    assert end.value.value == ()


@pytest.mark.parametrize("length", [0xFF00, 65500 - 40072, 0xFFFF - 40072, 0xFFFF - 40071, 0xFFFF])
def test_a_chain_that_leads_beyond_the_last_register_ends_there(length: int) -> None:
    """Nothing is asked for that has no address: it would be an error of the line, and end the rounds of its other units."""
    walk, asked, table = sunspec.walk(), [], ()
    try:
        for told in chain((None, sunspec.MARK, (1, 66), (63001, length)), repeat((103, 50))):
            asked += (walk.send(told),)
    except StopIteration as end:
        table = end.value
    assert "manufacturer_text" in {register.name for register in table}
    asked += blocks(table, gap=sunspec.GAP)
    assert max(block.address + block.length for block in asked) <= 0x10000


def test_a_model_that_is_too_short_for_a_power_of_ten_has_not_its_number() -> None:
    """The next model's register would be taken for it."""
    placed = {register.name for register in sunspec._placed(sunspec.MODELS[103], 40070, 30)}
    assert "dc_current" in placed
    assert "dc_voltage" not in placed
    assert "current" in placed


def test_a_power_of_ten_is_read_with_its_number() -> None:
    fields = [Register("a_power", 14, "W", power=15, form=signed), Register("b_power", 40, "W", power=60, form=signed)]
    assert list(blocks(fields)) == [Block(14, 2), Block(40, 21)]
    assert decode(fields[:1], {14: 512, 15: 0x8000}) == {}
    assert decode(fields[:1], {14: 512, 15: 0xFFFF}) == {"a_power": 51.2}


# -- frames ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 20), min_size=2, max_size=30))
def test_no_block_tears_a_field_apart(lengths: list[int]) -> None:
    table, at = [], 0
    for number, length in enumerate(lengths):
        table.append(Register(f"f{number}_count", at, length=length))
        at += length
    parts = list(blocks(table, longest=40))
    while parts:
        block = parts.pop()
        inside = range(block.address, block.address + block.length)
        for register in table:
            overlap = set(register.addresses) & set(inside)
            assert not overlap or overlap == set(register.addresses)
        if cut := halves(block, table):
            assert cut[0].length + cut[1].length == block.length
            parts += cut


@given(st.binary(max_size=300))
def test_any_bytes_are_no_answer_or_one_with_a_right_checksum(data: bytes) -> None:
    buffer = bytearray(data)
    answer = modbus.find_answer(buffer)
    assert answer is None or len(buffer) < len(data)
    list(modbus.decode_lines([data.hex(), "xyz"]))


def test_decode_shows_the_four_orders() -> None:
    raw = modbus.sealed(bytes((1, 4, 4)) + bytes.fromhex("43668000"))
    [said] = [json.loads(line) for line in modbus.decode_lines([raw.hex()])]
    assert said["pairs"][0]["ABCD"][2] == 230.5
    raw = modbus.sealed(bytes((1, 0x84, 2)))
    assert json.loads(next(modbus.decode_lines([raw.hex()]))) == {"unit": 1, "function": 4, "refused": 2}
    assert floating([0x4366, 0x8000]) == 230.5
