"""What Modbus devices say, their registers read as tables name them, over serial lines and TCP (docs/services/modbus.md)."""

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, cast

import msgspec
from msgspec import Meta, Struct

from bootstrap_lib import (
    DeviceError,
    Duration,
    Failure,
    InstanceOptions,
    Needs,
    Problem,
    Registry,
    Sample,
    Source,
    Topic,
    nearest,
)
from services.links.modbus import Damage, Line, RtuLine, Silence, TcpLine, UnitRefusal
from services.links.modbus_unit import MakeTable, ModbusUnit, walked
from services.links.port import Port, SerialPort, TcpPort
from services.protocols.makes import own
from services.protocols.makes.own import OwnRegister
from services.protocols.registers import Register

PORTS: Final = Path("/dev/serial/by-id")
LOOKED_FOR: Final = (*range(1, 33), 126, 247)
"""Units that a scan looks for."""
SCANNING: Final = 0.3
"""Seconds that a unit has to answer a scan."""

Make = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]*$", description="Its table of registers.")]
Address = Annotated[int, Meta(ge=0, le=255, description="Of the unit, where it is not the make's usual one.")]
Registers = Annotated[dict[str, OwnRegister], Meta(description="Fields by name, beside the make's or alone.")]


class UnitOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One unit of a line."""

    make: Make | None = None
    address: Address | None = None
    registers: Registers = msgspec.field(default_factory=dict)


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The line and its units; one unit needs no name and stands here itself."""

    device: Annotated[str, Meta(description="Serial port, best /dev/serial/by-id/…, or HOST:PORT (502 by TCP).")] = (
        "/dev/ttyUSB0"
    )
    framing: Annotated[Literal["rtu", "tcp"], Meta(description="Where HOST:PORT passes RTU on: rtu.")] | None = None
    baud: Annotated[int, Meta(ge=300, le=1_000_000, description="Where it is not the make's usual one.")] | None = None
    parity: Annotated[Literal["N", "E", "O"], Meta(description="None, even or odd.")] = "N"
    stop: Annotated[Literal[1, 2], Meta(description="Stop bits.")] = 1
    timeout: Annotated[Duration, Meta(description="Longest wait for an answer.")] = Duration(2.5)
    pause: Annotated[Duration, Meta(description="Between two requests; some meters need 100 ms.")] = Duration(0)
    gap: Annotated[int, Meta(ge=0, le=124, description="Unwanted registers that may be read over.")] | None = None
    longest: Annotated[int, Meta(ge=1, le=125, description="Registers of one request at most.")] = 125
    make: Make | None = None
    address: Address | None = None
    registers: Registers = msgspec.field(default_factory=dict)
    units: Annotated[
        dict[str, UnitOptions], Meta(description="Several units by name: `make`, `address`, `registers`.")
    ] = msgspec.field(default_factory=dict)


class RegisterField(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One field of one unit."""

    of: Annotated[str, Meta(description="The unit's name, where there are several.")] = ""
    key: Annotated[str, Meta(description="Its name in the table, where that is not the topic's last level.")] = ""


class Ended(Exception):
    """The port is to be closed while an answer is waited for."""


class Modbus(Source):
    """Fields of Modbus devices."""

    NEEDS: ClassVar = Needs(
        extra="modbus",
        libraries=("serial",),
        devices=("serial",),
        network="house",
        decodes={
            "modbus": "Answers of Modbus RTU; each pair of registers is shown in the four orders that devices have."
        },
        simulator="services.simulators.staging:renogy",
    )

    options: Options
    topics: tuple[Topic[RegisterField], ...]

    def samples(self) -> Iterator[Sample]:
        """Read what the topics want in each round; what is refused or damaged costs its own topics only."""
        units = units_of(self.options)
        only = next(iter(units))
        wanted: dict[str, list[Topic[RegisterField]]] = {}
        for topic in self.topics:
            wanted.setdefault(topic.options.of or only, []).append(topic)
        with closing(port_of(self.options)) as port:
            line = line_of(port, self.options, self._idle)
            asked: dict[str, ModbusUnit] = {}
            attempts = Counter[str]()
            while self.tick():
                try:
                    for name, topics in wanted.items():
                        try:
                            if name not in asked:
                                asked[name] = unit_of(line, units[name], self.options, attempts[name])
                        except DeviceError as error:  # who is off in the night costs nobody else a round
                            attempts[name] += 1
                            yield from ((topic, Failure(str(error))) for topic in topics)
                            continue
                        yield from self._read(asked[name], topics)
                    port.rest()
                except Ended:
                    return

    def _read(self, unit: ModbusUnit, topics: list[Topic[RegisterField]]) -> Iterator[Sample]:
        values, reasons = unit.read(topic.key for topic in topics)
        for topic in topics:
            sentence = reasons.get(topic.key, f"the device says nothing that is known as {topic.key}")
            yield topic, values[topic.key] if topic.key in values else Failure(sentence)

    def _idle(self) -> None:
        """Let the loop turn while an answer is waited for."""
        if not self.breathe(0.0):
            raise Ended

    @classmethod
    def scan(cls, options: Options) -> Iterator[str]:
        """Show the serial ports, the units that answer on the configured one, and what those that have a table say."""
        yield from (f"port {port} ({port.resolve()})" for port in sorted(PORTS.glob("*")))
        if ":" not in options.device and not Path(options.device).exists():
            return
        units = units_of(options)
        with closing(port_of(options)) as port:
            line = line_of(port, msgspec.structs.replace(options, timeout=Duration(SCANNING)), lambda: None)
            known = {address_of(unit) for unit in units.values()}
            yield from (f"unit {unit}" for unit in LOOKED_FOR if unit not in known and is_there(line, unit))
            line = line_of(port, options, lambda: None)
            for name, described in units.items():
                prefix = f"{name} " if options.units else ""
                try:
                    unit = unit_of(line, described, options)
                except DeviceError as error:
                    yield f"{prefix}{error}"
                    continue
                values, _ = unit.read(unit.table)
                yield from (f"{prefix}{key} {value} {unit.table[key].unit}".rstrip() for key, value in values.items())

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find a make without a table, units and fields that are not there, and units and states that are not the table's."""
        if problems := super().check(registry, name):
            return problems
        note, options = registry.document.problem, registry.options_of(name, Options)
        place = (registry.instances[name].section, name)
        tables: dict[str, dict[str, Register]] = {}
        taken: dict[int, str] = {}
        for unit, described in units_of(options).items():
            here = (*place, "units", unit) if options.units else place
            try:
                tables[unit] = {register.name: register for register in registers_of(described)}
            except DeviceError as error:
                problems.append(note((*here, "make"), str(error)))
                continue
            except own.OwnError as error:
                problems.append(note((*here, "registers", error.name), str(error)))
                continue
            if (other := taken.setdefault(address_of(described), unit)) != unit:
                problems.append(note((*here, "address"), f"it is the address of {other} already"))
        if problems:
            return problems
        for topic in registry.topics_of(name, RegisterField):
            problems += [
                note(("topics", registry.key_of(topic.name), *path), sentence)
                for path, sentence in _wrong(topic, tables)
            ]
        return problems


def _wrong(
    topic: Topic[RegisterField], tables: dict[str, dict[str, Register]]
) -> Iterator[tuple[tuple[str, ...], str]]:
    if topic.options.of and topic.options.of not in tables:
        yield ("of",), f"no unit is named '{topic.options.of}'{nearest(topic.options.of, tables) or ''}"
        return
    if not topic.options.of and len(tables) > 1:
        yield (), f"which unit? write of: with one of {', '.join(tables)}"
        return
    table = tables[topic.options.of or next(iter(tables))]
    field = table.get(topic.key)
    if field is None:
        hint = nearest(topic.key, table) or ": docs/services/modbus.md lists them"
        yield (), f"the table has no field '{topic.key}'{hint}"
    elif field.unit and field.unit != topic.given:
        yield (), f"{topic.key} is in {field.unit}, not in {topic.given or 'nothing'}: leave the unit out"
    elif topic.kind == "state" and not set(field.states.values()) <= set(topic.states):
        yield (), f"its states are [{', '.join(field.states.values())}]"


def units_of(options: Options) -> dict[str, UnitOptions]:
    """Units of a line by name; the one that stands in the instance itself has none."""
    if options.units:
        return options.units
    make = options.make or ("renogy" if not options.registers else None)
    return {"": UnitOptions(make=make, address=options.address, registers=options.registers)}


def table_of(make: str) -> MakeTable:
    """Table of a make; DeviceError where there is none."""
    path = f"services/protocols/makes/{make}.py"
    try:
        table = importlib.import_module(f"services.protocols.makes.{make}")
    except ModuleNotFoundError:
        raise DeviceError(f"there is no make '{make}': a make is a file {path}") from None
    if not hasattr(table, "REGISTERS"):
        raise DeviceError(f"'{make}' is no make: {path} has no REGISTERS")
    return cast("MakeTable", table)


def registers_of(unit: UnitOptions) -> tuple[Register, ...]:
    """Table of a unit: its make's, and its own; DeviceError or OwnError where there is none."""
    mine = own.registers(unit.registers)
    return (*(table_of(unit.make).REGISTERS if unit.make else ()), *mine)


def address_of(unit: UnitOptions) -> int:
    """Address of a unit."""
    return unit.address if unit.address is not None else table_of(unit.make).ADDRESS if unit.make else 1


def port_of(options: Options) -> Port:
    """Open the port; PortError where it cannot be."""
    host, _, port = options.device.rpartition(":")
    if not options.device.startswith("/") and host and port.isdecimal():
        return TcpPort(host.strip("[]"), int(port))
    makes = [unit.make for unit in units_of(options).values() if unit.make]
    baud = options.baud or (table_of(makes[0]).BAUD_RATE if makes else 9600)
    return SerialPort(Path(options.device), baud, options.parity, options.stop)


def line_of(port: Port, options: Options, idle: Callable[[], None]) -> Line:
    """Make the line of a port."""
    framing = options.framing or ("tcp" if isinstance(port, TcpPort) else "rtu")
    return (TcpLine if framing == "tcp" else RtuLine)(port, options.timeout, options.pause, idle)


def unit_of(line: Line, unit: UnitOptions, options: Options, attempt: int = 0) -> ModbusUnit:
    """Make a unit; one that says itself where its registers are is asked for that. DeviceError where it does not."""
    address, gap, registers = address_of(unit), options.gap or 0, registers_of(unit)
    module: Any = table_of(unit.make) if unit.make else None
    if hasattr(module, "walk"):
        walk = module.walk(attempt)
        registers, gap = (*walked(line, address, walk), *own.registers(unit.registers)), options.gap or module.GAP
    return ModbusUnit(line, address, registers, gap=gap, longest=options.longest)


def is_there(line: Line, unit: int) -> bool:
    """Whether a unit answers, be it by a refusal."""
    for function in (3, 4):
        try:
            line.ask(unit, function, 0, 1)
        except (UnitRefusal, Damage):
            return True
        except Silence:
            continue
        return True
    return False
