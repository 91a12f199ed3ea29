"""What the lab's battery measures: in a file that its peripheral reads with each request, so that it can change."""

from pathlib import Path

import msgspec

from services.protocols.battery import Pack

DISCHARGING = Pack(
    name="LAB-4S",
    cell_voltages=(3.301, 3.312, 3.309, 3.298),
    current=-2.57,
    remaining_charge=81.9,
    nominal_charge=105.0,
    cycles=27,
    probe_temperatures=(21.6, 20.7),
)
CHARGING = Pack(
    name="LAB-4S",
    cell_voltages=(3.655, 3.401, 3.462, 3.432),
    current=17.36,
    remaining_charge=94.5,
    nominal_charge=105.0,
    cycles=341,
    probe_temperatures=(-4.3, 38.9),
    balancing_cells=(1, 3),
    alarms=("cell_overvoltage",),
    charge_fet=False,
)
"""In everything but its name, which is asked for once, and its nominal charge another one."""
JK = Pack(
    name="LAB-JK",
    cell_voltages=(3.327, 3.331, 3.319, 3.342),
    current=11.875,
    remaining_charge=231.7,
    nominal_charge=280.0,
    cycles=512,
    probe_temperatures=(17.4, -1.8),
    discharge_fet=False,
)
DALY = Pack(
    name="LAB-DALY",
    cell_voltages=(3.251, 3.262, 3.248, 3.239),
    current=-38.4,
    remaining_charge=61.3,
    nominal_charge=230.0,
    cycles=88,
    probe_temperatures=(29.0, 31.0),
    charge_fet=False,
)
"""For batteries of other makes: no value of one is the other's."""


def write(path: Path, pack: Pack) -> None:
    """Change the battery, at once as a whole."""
    beside = path.with_suffix(".new")
    beside.write_bytes(msgspec.json.encode(pack))
    beside.replace(path)


def read(path: Path) -> Pack:
    """Give the battery as it is now."""
    return msgspec.json.decode(path.read_bytes(), type=Pack)
