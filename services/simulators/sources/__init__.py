"""Sources of the demo of a fleet; a folder of services of its own ($CONSTELLATION_SERVICES)."""
