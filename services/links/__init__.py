"""Transports between a service and its hardware, each one real and one simulated end behind the same calls."""
