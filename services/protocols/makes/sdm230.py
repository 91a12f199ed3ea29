"""Eastron SDM230: as the SDM120, but delivered at 9600 baud, by some makers with even parity."""

from services.protocols.makes.sdm120 import REGISTERS

ADDRESS = 1
BAUD_RATE = 9600

__all__ = ["ADDRESS", "BAUD_RATE", "REGISTERS"]
