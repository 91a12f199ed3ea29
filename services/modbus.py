"""What a Modbus device says, its registers read as a table names them, by minimalmodbus (docs/services/modbus.md)."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, cast

from msgspec import Meta, Struct

from bootstrap_lib import (
    DeviceError,
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
from services.links.modbus import ModbusDevice, Table

PORTS = Path("/dev/serial/by-id")


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The device."""

    device: Annotated[Path, Meta(description="Serial port, best by its id: /dev/serial/by-id/….")] = Path(
        "/dev/ttyUSB0"
    )
    make: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]*$", description="The table of registers.")] = "renogy"
    address: Annotated[int, Meta(ge=1, le=255, description="Where it is not the make's usual one.")] | None = None


class RegisterField(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One field of the table."""

    key: Annotated[str, Meta(description="Its name in the table, where that is not the topic's last level.")] = ""


class Modbus(Source):
    """Fields of a Modbus device."""

    NEEDS: ClassVar = Needs(
        extra="modbus",
        libraries=("minimalmodbus", "serial"),
        devices=("serial",),
        simulator="services.simulators.staging:renogy",
    )

    options: Options
    topics: tuple[Topic[RegisterField], ...]

    def samples(self) -> Iterator[Sample]:
        """Read what the topics want in each round; a part that is refused or damaged costs its own topics only."""
        keys = {topic.name: topic.key for topic in self.topics}
        with ModbusDevice(self.options.device, table_of(self.options.make), self.options.address) as device:
            while self.tick():
                values, reasons = device.read(keys.values())
                for topic in self.topics:
                    key = keys[topic.name]
                    reason = reasons.get(key, f"the device says nothing that is known as {key}")
                    yield topic, values[key] if key in values else Failure(reason)

    @classmethod
    def scan(cls, options: Options) -> Iterator[str]:
        """Show the serial ports, then what the device behind the configured one says."""
        yield from (f"port {port} ({port.resolve()})" for port in sorted(PORTS.glob("*")))
        if options.device.exists():
            table = table_of(options.make)
            with ModbusDevice(options.device, table, options.address) as device:
                values, _ = device.read(register.name for register in table.REGISTERS)
            units = {register.name: register.unit for register in table.REGISTERS}
            yield from (f"{key} {value} {units[key]}".rstrip() for key, value in values.items())

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find a make without a table, fields that it does not have, and units and states that are not the table's."""
        if problems := super().check(registry, name):
            return problems
        make = registry.options_of(name, Options).make
        try:
            table = {register.name: register for register in table_of(make).REGISTERS}
        except DeviceError as error:
            return [registry.document.problem((registry.instances[name].section, name, "make"), str(error))]
        for topic in registry.topics_of(name, RegisterField):
            field, sentence = table.get(key := topic.key), ""
            if field is None:
                sentence = f"{make} has no field '{key}'{nearest(key, table) or ': docs/services/modbus.md lists them'}"
            elif field.unit and field.unit != topic.unit:
                sentence = f"{key} is in {field.unit}, not in {topic.unit or 'nothing'}: leave the unit out"
            elif topic.kind == "state" and not set(field.states.values()) <= set(topic.states):
                sentence = f"its states are [{', '.join(field.states.values())}]"
            if sentence:
                problems.append(registry.document.problem(("topics", registry.key_of(topic.name)), sentence))
        return problems


def table_of(make: str) -> Table:
    """Table of a make; DeviceError where there is none."""
    path = f"services/protocols/{make}.py"
    try:
        table = importlib.import_module(f"services.protocols.{make}")
    except ModuleNotFoundError:
        raise DeviceError(f"there is no make '{make}': a make is a file {path}") from None
    if not hasattr(table, "REGISTERS"):
        raise DeviceError(f"'{make}' is no make: {path} has no REGISTERS")
    return cast("Table", table)
