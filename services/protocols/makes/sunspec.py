"""SunSpec: devices that say themselves where their registers are, in a chain of models (SunSpec Information Model).

The chain begins with "SunS"; each model has its number, its length, and its fields at fixed places. Models move with
the firmware, so it is walked whenever the port is opened. A number is worth nothing without the power of ten that came
with it.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Final

from services.protocols.registers import LAST, Block, Register, floating, signed, text, word

ADDRESS = 1
BAUD_RATE = 9600
BEGINNINGS: Final = (40000, 50000, 0)
MARK: Final = (0x5375, 0x6E53)
END: Final = 0xFFFF
LONGEST_CHAIN: Final = 60
GAP: Final = 60
"""Registers that may be read over: a model is one piece, and some devices answer whole models only."""

OPERATING: Final = {
    1: "off", 2: "sleeping", 3: "starting", 4: "mppt", 5: "throttled", 6: "shutting_down", 7: "fault", 8: "standby",
}  # fmt: skip


def _scaled(
    name: str, at: int, unit: str, power: int, form: Callable[[Sequence[int]], float | str] = signed
) -> Register:
    return Register(name, at, unit, form=form, power=power)


def _counted(name: str, at: int, power: int) -> Register:
    return Register(name, at, "kWh", 0.001, 2, none=(0,), power=power)  # of an accumulator 0 is nothing


_COMMON: Final = (
    Register("manufacturer_text", 2, length=16, form=text),
    Register("model_text", 18, length=16, form=text),
    Register("version_text", 42, length=8, form=text),
    Register("serial_text", 50, length=16, form=text),
)
_INVERTER: Final = (
    _scaled("current", 2, "A", 6, word),
    *(_scaled(f"phase_{phase}_current", 2 + phase, "A", 6, word) for phase in (1, 2, 3)),
    *(_scaled(f"phase_{phase}_voltage", 9 + phase, "V", 13, word) for phase in (1, 2, 3)),
    _scaled("power", 14, "W", 15),
    _scaled("frequency", 16, "Hz", 17, word),
    _counted("energy", 24, 26),
    _scaled("dc_current", 27, "A", 28, word),
    _scaled("dc_voltage", 29, "V", 30, word),
    _scaled("dc_power", 31, "W", 32),
    _scaled("cabinet_temperature", 33, "°C", 37),
    Register("operating_state", 38, states=OPERATING),
)
_INVERTER_FLOATS: Final = (
    Register("current", 2, "A", length=2, form=floating),
    *(Register(f"phase_{phase}_current", 2 + 2 * phase, "A", length=2, form=floating) for phase in (1, 2, 3)),
    *(Register(f"phase_{phase}_voltage", 14 + 2 * phase, "V", length=2, form=floating) for phase in (1, 2, 3)),
    Register("power", 22, "W", length=2, form=floating),
    Register("frequency", 24, "Hz", length=2, form=floating),
    Register("energy", 32, "kWh", 0.001, length=2, form=floating),
    Register("dc_power", 38, "W", length=2, form=floating),
    Register("cabinet_temperature", 40, "°C", length=2, form=floating),
    Register("operating_state", 48, states=OPERATING),
)
_METER: Final = (
    _scaled("meter_current", 2, "A", 6),
    *(_scaled(f"meter_phase_{phase}_voltage", 7 + phase, "V", 15) for phase in (1, 2, 3)),
    _scaled("meter_frequency", 16, "Hz", 17),
    _scaled("meter_power", 18, "W", 22),
    *(_scaled(f"meter_phase_{phase}_power", 18 + phase, "W", 22) for phase in (1, 2, 3)),
    _counted("meter_export_energy", 38, 54),
    _counted("meter_import_energy", 46, 54),
)

MODELS: Final[dict[int, tuple[Register, ...]]] = {
    1: _COMMON,
    **dict.fromkeys((101, 102, 103), _INVERTER),
    **dict.fromkeys((111, 112, 113), _INVERTER_FLOATS),
    **dict.fromkeys((201, 202, 203, 204), _METER),
}
"""Fields of the models that are read, at their places from the model's number on."""

REGISTERS = tuple({register.name: register for table in MODELS.values() for register in table}.values())
"""Every field that a device may have; where it has it is found by `walk`."""


def walk(attempt: int = 0) -> Generator[Block, tuple[int, ...] | None, tuple[Register, ...]]:
    """Ask for what tells where the fields are: takes the registers of each block, and returns the table.

    None stands for a block that is refused, () for silence: in the middle of the chain that leaves no table, not a part of it.
    After the first attempt one beginning is looked at in each, in turn: a device that is off costs a single wait.
    """
    for start in (BEGINNINGS[attempt % len(BEGINNINGS)],) if attempt else BEGINNINGS:
        if (yield Block(start, 2)) != MARK:
            continue
        at, found = start + 2, dict[str, Register]()
        for _ in range(LONGEST_CHAIN):
            head = yield Block(at, 2)
            if head == ():
                return ()
            if head is None or head[0] == END:
                break
            for register in _placed(MODELS.get(head[0], ()), at, min(head[1] + 2, LAST + 1 - at)):
                found.setdefault(register.name, register)
            at += head[1] + 2
            if at >= LAST:  # no device has a model there: its length is none
                break
        return tuple(found.values())
    return ()


def _placed(table: tuple[Register, ...], at: int, length: int) -> Iterator[Register]:
    for register in table:
        if max(register.address + register.length - 1, register.power or 0) < length:
            power = None if register.power is None else register.power + at
            yield replace(register, address=register.address + at, power=power)
