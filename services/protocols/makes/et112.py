"""Carlo Gavazzi ET112, EM111 and EM112, electricity meters for one phase."""

from services.protocols.makes.em24 import measured

ADDRESS = 1
BAUD_RATE = 9600

REGISTERS = (
    measured("voltage", 0x00, "V", 0.1),
    measured("current", 0x02, "A", 0.001),
    measured("power", 0x04, "W", 0.1),
    measured("import_energy", 0x10, "kWh", 0.1),
    measured("export_energy", 0x20, "kWh", 0.1),
)
