"""The state of the lab's battery: what its peripheral says, and what the tests expect on the topics."""

from services.protocols.battery import Pack

PACK = Pack(
    name="LAB-4S",
    cell_voltages=(3.301, 3.312, 3.309, 3.298),
    current=-2.5,
    remaining_charge=80.0,
    nominal_charge=100.0,
    cycles=12,
    probe_temperatures=(21.5, 20.8),
)
