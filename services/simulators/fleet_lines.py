"""Lines of topics.yaml of the fleet's demo: a house, and the centre."""

from typing import Final

PASSWORD: Final = "fleet-demo"  # noqa: S105 (of a database that lives for a minute, on loopback)
WORD: Final = "fleet-demo-page"
"""Password at the page, on loopback, for a minute."""

TOPICS: Final = (
    "living/room_{1..7}/temperature: {from: rooms}\n  cellar/meter/rounds_count: {from: rooms, kind: counter}"
)
HOUSE: Final = """timezone: Europe/Paris
broker: {broker}
sources:
  rooms: {{service: tally, every: 1s, stale: 1h, heartbeat: 5s}}
subscribers:
  archive: {{commit: 500ms, centre: central, heartbeat: 5s}}
topics:
  {topics}
"""
CENTRE: Final = """broker: {broker}
subscribers:
  central: {{engine: {engine}, nodes: {nodes}, houses: "{roster}", heartbeat: 2s, compare: 30s}}
  alerts: {{houses: "{roster}", heartbeat: 5s}}
  fleet_page: {{engine: {engine}, nodes: {nodes}, houses: "{roster}", port: {port}, heartbeat: 5s, people: {{olga: {{role: operator}}}}}}
alerts:
  cut: {{when: house + is silent, for: 10s}}
"""
