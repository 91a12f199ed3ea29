"""Register tables of Modbus devices, one make a file: REGISTERS, BAUD_RATE, ADDRESS, and nothing to register."""
