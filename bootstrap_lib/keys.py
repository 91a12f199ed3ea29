"""Keys of lines below `topics:`, whose braces stand for many names: bounded before anything is made of them."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from bootstrap_lib.document import plain
from bootstrap_lib.quantities import WORD

MOST_NAMES: Final = 1000
"""Topics that one line may make."""
MOST_TOPICS: Final = 50_000
"""Topics of a house, their names of before included: a thousand meters have half as many."""
LONGEST_KEY: Final = 1000
"""Characters of a line's key, braces included."""

_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_NUMBERS: Final = re.compile(r"([0-9]{1,9})\.\.([0-9]{1,9})")


class KeyFault(ValueError):
    """A key, or with `of_was` a name of before, that cannot be used; the message says why."""

    def __init__(self, sentence: str, *, of_was: bool = False) -> None:
        super().__init__(sentence)
        self.of_was = of_was


def is_topic(name: str) -> bool:
    """Whether a text is the name of a topic: place/thing/name, in small letters, digits and _."""
    levels = name.split("/")
    return len(levels) == 3 and all(map(WORD.fullmatch, levels))  # noqa: PLR2004 (place/thing/name)


def expand(key: str) -> list[str]:
    """Names that a key with braces stands for: `cell_{1..8}_voltage`, `{north,south}/…`. Ask `how_many` before."""
    return ["".join(map(str, parts)) for parts in itertools.product(*_parts(key))]


def how_many(key: str) -> int:
    """How many names a key with braces stands for, without making them."""
    return math.prod(map(len, _parts(key)))


def _parts(key: str) -> Iterator[Sequence[object]]:
    """Parts of a key in their order, each as all that may stand there: braces within braces are none."""
    done = 0
    for match in _BRACES.finditer(key):
        numbers = _NUMBERS.fullmatch(match[1])
        if not numbers and "," not in match[1]:
            continue
        yield (key[done : match.start()],)
        yield range(int(numbers[1]), int(numbers[2]) + 1) if numbers else [w.strip() for w in match[1].split(",")]
        done = match.end()
    yield (key[done:],)


def check(key: str, earlier: Iterable[str] = ()) -> int:
    """How many names a key stands for, with those that it had; KeyFault where they are too many, or none."""
    keys = (key, *earlier)
    if max(map(len, keys)) > LONGEST_KEY:
        raise KeyFault(f"a key has {LONGEST_KEY} characters at most")
    size, *others = map(how_many, keys)
    if not 0 < size <= MOST_NAMES:
        raise KeyFault(f"its braces stand for {size} names: a line makes 1 to {MOST_NAMES}")
    if other := next((other for other in others if other != size), None):
        raise KeyFault(f"it stands for {other} names, the line for {size}", of_was=True)
    return size * len(keys)


def names_of(key: str, earlier: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield each name that a key stands for, with the names that it had. Ask `check` before; KeyFault for what was no topic."""
    before = [expand(one) for one in earlier]
    if strange := next((old for old in itertools.chain(*before) if not is_topic(old)), None):
        raise KeyFault(f"{plain(strange, 60)!r} is no topic: it was place/thing/name", of_was=True)
    yield from zip(expand(key), *before, strict=True)
