"""Eastron SDM120 and SDM220, electricity meters for one phase (Eastron, "SDM120-Modbus protocol"; SDM220 the same)."""

from services.protocols.registers import Register, floating

BAUD_RATE = 2400
ADDRESS = 1


def measured(name: str, address: int, unit: str, scale: float = 1) -> Register:
    """Return a field as all Eastron meters have it: an input register with a floating number, the high word first."""
    return Register(name, address, unit, scale, 2, floating, function=4)


REGISTERS = (
    measured("voltage", 0x00, "V"),
    measured("current", 0x06, "A"),
    measured("power", 0x0C, "W"),
    measured("frequency", 0x46, "Hz"),
    measured("import_energy", 0x48, "kWh"),
    measured("export_energy", 0x4A, "kWh"),
    measured("total_energy", 0x156, "kWh"),
)
