"""Believable values without wires: a pellet boiler, a battery, meters, and a curve for every quantity.

The demo and the tests run the real services on these. All are seeded and repeatable, and run faster than life where
`speed` says so.
"""
