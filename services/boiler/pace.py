"""How often an input speaks, learned from its readings: its last level counts for two of these intervals."""

FIRST_MS = 30_000
"""An input that has spoken but once is taken to speak this often."""
GROWTH = 4
"""A learned interval grows by no more than this at once, so that one gap is not taken for the pace."""
SHRINK = 0.9
"""... and shrinks by this with each reading that comes sooner."""


def paced(interval: int, gap: int) -> int:
    """Return the interval (ms) at which an input speaks, once it has spoken again after a gap (ms)."""
    if not interval:
        return gap
    return max(min(gap, GROWTH * interval), int(SHRINK * interval))
