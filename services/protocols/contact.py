"""When a contact that bounces is closed or open: as soon as it has been so without an edge for its time of rest."""


class Debounced:
    """A contact by the edges of its level; moments are those of the edges themselves (s), whenever they are told.

    Both sides are debounced, since a contact bounces when it opens too. A spike shorter than the rest never counts,
    nor does one that is told late.
    """

    def __init__(self, rest: float, *, closed: bool) -> None:
        """`closed` is what it is now; `rest` in seconds."""
        self.closed = closed
        """What it settled to."""
        self.level = closed
        """What it was after the last edge."""
        self.edge_at = float("-inf")
        self._rest = rest

    @property
    def due(self) -> float | None:
        """When `settle` is to be asked, unless an edge comes first; None while nothing is in doubt."""
        return self.edge_at + self._rest if self.level != self.closed else None

    def edge(self, moment: float, *, closed: bool) -> bool:
        """Take an edge to a level; True if the level that it ended had rested and was another one than before."""
        changed = self.settle(moment)
        self.level, self.edge_at = closed, moment
        return changed

    def settle(self, moment: float) -> bool:
        """Judge the level at a moment; True if it has settled to another one now."""
        if self.level == self.closed or moment < self.edge_at + self._rest:
            return False
        self.closed = self.level
        return True
