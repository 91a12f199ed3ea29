"""What was counted costs: each part of a span at the price of its own time."""

from collections.abc import Callable, Sequence
from itertools import pairwise

Span = tuple[int, int]
"""From a time to before another, ms."""


def costs(
    prices: Sequence[tuple[int, float]],
    spans: Sequence[Span],
    counted: Sequence[float | None],
    count: Callable[[Sequence[Span]], Sequence[float | None]],
) -> list[float | None]:
    """What each span costs, of which so much was counted. None where nothing is known, or what was counted has no price.

    `prices`: from when on (ms) a unit costs what; `count` counts the parts of a span in which the price changes.
    """
    ordered = sorted(prices)

    def price(at: int) -> float | None:
        return next((price for since, price in reversed(ordered) if since <= at), None)

    def cost(span: Span, amount: float | None) -> float | None:
        begin, end = span
        parts = list(pairwise([begin, *(since for since, _ in ordered if begin < since < end), end]))
        if amount is None or all(price(since) is None for since, _ in parts):
            return None
        amounts = [amount] if len(parts) == 1 else count(parts)
        paid = [(some, price(since)) for (since, _), some in zip(parts, amounts, strict=True) if some]
        return (
            None
            if any(each is None for _, each in paid)
            else round(sum(some * (each or 0.0) for some, each in paid), 2)
        )

    return [cost(span, amount) for span, amount in zip(spans, counted, strict=True)]
