"""Carlo Gavazzi EM24 (RS-485), an electricity meter for three phases; numbers of 32 bits have the low word first."""

from services.protocols.registers import Register, signed

ADDRESS = 1
BAUD_RATE = 9600


def measured(name: str, address: int, unit: str, scale: float) -> Register:
    """Return a field as Carlo Gavazzi's meters have it: an input register of 32 bits with a sign, the low word first."""
    return Register(name, address, unit, scale, 2, signed, function=4, low_first=True)


PHASES = (
    *(measured(f"phase_{phase}_voltage", 2 * phase - 2, "V", 0.1) for phase in (1, 2, 3)),
    *(measured(f"phase_{phase}_current", 2 * phase + 10, "A", 0.001) for phase in (1, 2, 3)),
    *(measured(f"phase_{phase}_power", 2 * phase + 16, "W", 0.1) for phase in (1, 2, 3)),
    measured("power", 0x28, "W", 0.1),
)

REGISTERS = (
    *PHASES,
    Register("frequency", 0x37, "Hz", 0.1, function=4),
    measured("import_energy", 0x42, "kWh", 0.1),
    *(measured(f"phase_{phase}_import_energy", 0x44 + 2 * phase, "kWh", 0.1) for phase in (1, 2, 3)),
    measured("export_energy", 0x5C, "kWh", 0.1),
)
