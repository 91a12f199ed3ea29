"""How many days a mass of fuel lasts, by season and weather: a flat mean of the last days is wrong in autumn and in spring."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from services.boiler.records import FuelDay

MONTHS: Final = (10.0, 9.0, 7.0, 6.0, 4.0, 2.0, 1.0, 1.0, 2.0, 4.0, 5.0, 6.0)
"""What a heated house takes in each month, beside the others (the weights of PellMon, from years of pellet boilers)."""
DAY_MS: Final = 86_400_000
LONGEST: Final = 1000
"""Days that are looked ahead at most."""
FEWEST: Final = 5
"""Days with degree days from which the weather is taken into account."""
SPREAD: Final = 2.0
"""Their degree days must differ by so much, K·d, or they say nothing of the slope."""
WEATHER: Final = 7
"""Days for which the weather of the last days goes on, before the season rules."""


def weight(time: int) -> float:
    """Return how much a day takes by its season, between the middles of the months."""
    day = datetime.fromtimestamp(time / 1000, UTC)
    place = day.month - 1 + (day.day - 15) / 30
    first = int(place // 1)
    return MONTHS[first % 12] + (place - first) * (MONTHS[(first + 1) % 12] - MONTHS[first % 12])


def days_left(kg: float, days: Sequence[FuelDay], today: int, recent: int) -> float | None:
    """Return for how many days a mass (kg) lasts, as seen from a day's start (ms); None before any day was seen.

    The `recent` last days give the level, the season how it goes on. With degree days, the next week takes what the
    weather of the last three days would take by the fuel per degree day of all days.
    """
    known = [day for day in days if day.start >= today - 2 * recent * DAY_MS][-recent:]
    weights = [weight(day.start) for day in known]
    used = sum(day.kg for day in known)
    if not known or used <= 0.0:
        return None
    level = used / sum(weights)
    weather = _by_weather(days)
    left = kg
    for ahead in range(1, LONGEST):
        takes = level * weight(today + ahead * DAY_MS)
        if weather is not None and ahead <= WEATHER:
            takes = weather + (takes - weather) * (ahead - 1) / WEATHER
        if takes > 0.0 and left <= takes:
            return ahead - 1 + left / takes
        left -= takes
    return float(LONGEST)


def _by_weather(days: Sequence[FuelDay]) -> float | None:
    """Return what a day like the last three takes, kg, by a line through fuel over degree days; None where none shows."""
    pairs = [(day.degreedays, day.kg) for day in days if day.degreedays is not None]
    if len(pairs) < FEWEST:
        return None
    colds = [cold for cold, _ in pairs]
    if max(colds) - min(colds) < SPREAD:
        return None
    mean_cold, mean_kg = sum(colds) / len(pairs), sum(kg for _, kg in pairs) / len(pairs)
    slope = sum((cold - mean_cold) * (kg - mean_kg) for cold, kg in pairs) / sum((c - mean_cold) ** 2 for c in colds)
    now = sum(colds[-3:]) / 3
    return max(0.0, mean_kg + max(0.0, slope) * (now - mean_cold))
