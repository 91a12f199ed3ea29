"""What a person queries in the archive, and what its tables do by themselves.

Days that are over are gathered from hours, the open one from minutes. Each row stands in one half of a union, with no group around
it: only so SQLite looks for a name within the halves, where it would gather all topics else.
"""

from typing import Final


def _moment(column: str) -> str:
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000.0, 'unixepoch')"


_VALUE: Final = (
    "CASE kind WHEN 'switch' THEN CASE value WHEN 1 THEN 'true' ELSE 'false' END ELSE coalesce(word, value) END"
)

_REACHED: Final = "coalesce((SELECT CAST(value AS INTEGER) FROM settings WHERE name = 'hours'), 0)"
"""Up to when hours are computed: what is newer, or all of it, is gathered from minutes."""

_HOURS: Final = 'CROSS JOIN hours m ON m.topic = t.id AND m.time >= c."begin" AND m.time < c."end"'
_MINUTES: Final = _HOURS.replace("hours", "minutes")
_EITHER: Final = f"""
    LEFT JOIN hours h ON h.topic = t.id AND h.time >= c."begin" AND h.time < CASE WHEN c."end" <= {_REACHED} THEN c."end" END
    LEFT JOIN minutes m ON m.topic = t.id AND m.time >= c."begin" AND m.time < CASE WHEN c."end" > {_REACHED} THEN c."end" END"""
"""Hours of days that are over, minutes of others: before an end that is NULL lies nothing, and nothing is looked at."""


def _gathered(period: str, source: str, length: str, which: str) -> str:
    """Rows of a half: `length` says of how many minutes a row of the source is, `which` whether those before the open one are meant."""

    def of(column: str) -> str:
        return f"coalesce(h.{column}, m.{column})" if source == _EITHER else f"m.{column}"

    opened = f"""coalesce((SELECT {period} FROM calendar WHERE "end" > {_REACHED} ORDER BY "begin" LIMIT 1), '~')"""
    last_word = f"max(CASE WHEN {of('word')} IS NOT NULL THEN printf('%015d', {of('time')}) || {of('word')} END)"
    return f"""
    SELECT t.name, c.{period}, t.unit, sum({of("count")}) AS count, sum({of("mean")} * {length}) / sum({length}) AS mean,
           min({of("low")}) AS low, max({of("high")}) AS high, sum({of("difference")}) AS difference,
           sum({of("seconds_on")}) AS seconds_on, sum({of("starts")}) AS starts, substr({last_word}, 16) AS word
    FROM topics t CROSS JOIN calendar c {source}
    WHERE c.{period} {which} {opened} AND {of("time")} IS NOT NULL GROUP BY t.name, t.unit, t.kind, c.{period}"""


VIEWS: Final = {
    "readings_by_name": f"""
    SELECT name, {_moment("time")} AS time, {_VALUE} AS value, unit, time AS ms
    FROM readings JOIN topics ON topics.id = readings.topic""",
    "minutes_by_name": f"""
    SELECT name, {_moment("time")} AS time, unit, count, mean, low, high, last, difference, seconds_on, starts, word,
           time AS ms
    FROM topics CROSS JOIN minutes ON minutes.topic = topics.id""",
    "hours_by_name": f"""
    SELECT name, {_moment("time")} AS time, unit, minutes, count, mean, low, high, last, difference, seconds_on, starts,
           word, time AS ms
    FROM topics CROSS JOIN hours ON hours.topic = topics.id AND time < {_REACHED}""",
    "days": f"{_gathered('day', _HOURS, 'm.minutes', '<')} UNION ALL {_gathered('day', _MINUTES, '1', '>=')}",
    "months": f"""{_gathered("month", _HOURS, "m.minutes", "<")}
    UNION ALL {_gathered("month", _EITHER, "coalesce(h.minutes, 1)", ">=")}""",
}
"""What a person queries: names, units and ISO times; days and months are those of the house's time zone."""

QUARTER: Final = 900_000
"""Milliseconds. Local days begin at a quarter of an hour, in every zone."""

TRIGGERS: Final = {
    f"minutes_{event.lower()}": f"""
    AFTER {event} ON minutes WHEN new.time < {_REACHED} BEGIN
        INSERT INTO due (time, topic) SELECT new.time - new.time % {QUARTER}, new.topic
        WHERE NOT EXISTS (SELECT 1 FROM due WHERE time = new.time - new.time % {QUARTER} AND topic = new.topic);
    END"""
    for event in ("INSERT", "UPDATE")
}
"""What whoever changes a minute leaves to do for its hour, in the same transaction (services/stores/hours.py)."""
