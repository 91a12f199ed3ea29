"""Carlo Gavazzi EM330, EM340, ET330, ET340, and EM24 with Ethernet: as the EM24, but for where the energy stands."""

from services.protocols.makes.em24 import PHASES, measured
from services.protocols.registers import Register

ADDRESS = 1
BAUD_RATE = 9600

REGISTERS = (
    *PHASES,
    Register("frequency", 0x33, "Hz", 0.1, function=4),
    measured("import_energy", 0x34, "kWh", 0.1),
    *(measured(f"phase_{phase}_import_energy", 0x3E + 2 * phase, "kWh", 0.1) for phase in (1, 2, 3)),
    measured("export_energy", 0x4E, "kWh", 0.1),
)
