"""A bluetoothd without Bluetooth: BlueZ's objects on a D-Bus, simulated batteries behind them, and what can go wrong."""
