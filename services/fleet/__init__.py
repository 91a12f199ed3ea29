"""A fleet of houses at its centre: the engine that keeps their readings, what is lacking of each, and how it is filled (docs/fleet.md)."""
