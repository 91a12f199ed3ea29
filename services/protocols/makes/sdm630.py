"""Eastron SDM630 and SDM72 (version 2), electricity meters for three phases."""

from services.protocols.makes.sdm120 import measured

ADDRESS = 1
BAUD_RATE = 9600

REGISTERS = (
    *(measured(f"phase_{phase}_voltage", 2 * phase - 2, "V") for phase in (1, 2, 3)),
    *(measured(f"phase_{phase}_current", 2 * phase + 4, "A") for phase in (1, 2, 3)),
    *(measured(f"phase_{phase}_power", 2 * phase + 10, "W") for phase in (1, 2, 3)),
    measured("power", 0x34, "W"),
    measured("frequency", 0x46, "Hz"),
    measured("import_energy", 0x48, "kWh"),
    measured("export_energy", 0x4A, "kWh"),
    measured("total_energy", 0x156, "kWh"),
    *(measured(f"phase_{phase}_import_energy", 0x158 + 2 * phase, "kWh") for phase in (1, 2, 3)),
    *(measured(f"phase_{phase}_export_energy", 0x15E + 2 * phase, "kWh") for phase in (1, 2, 3)),
)
