"""The mutants: each breaks one promise by one change of text that stands exactly once in the product."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parent.parent.parent
HERE: Final = Path(__file__).resolve().parent
PRODUCT: Final = ("bootstrap_lib", "services")
SURVIVORS: Final = HERE / "survivors.toml"


class MutantError(ValueError):
    """A mutant that cannot be applied; the message says which and why."""


@dataclass(frozen=True)
class Mutant:
    """One broken promise. `page` is where it is made: a page of docs, or a section of the design."""

    name: str
    promise: str
    page: str
    text: str
    broken: str
    tests: tuple[str, ...]
    chosen: str = ""
    """A pytest expression (-k) where a file of tests is slow and few of them speak of this."""

    @property
    def pattern(self) -> re.Pattern[str]:
        """The text, however its lines are broken and indented."""
        return re.compile(r"\s+".join(map(re.escape, self.text.split())))

    def find(self, root: Path, product: Mapping[Path, str] | None = None) -> tuple[Path, str]:
        """Return the file that holds the text, and its content when it is broken; MutantError where not just one does.

        `product` is what `sources` returned for `root`, read already.
        """
        found = [
            (path, content, place)
            for path, content in (product or sources(root)).items()
            for place in self.pattern.finditer(content)
        ]
        if len(found) != 1:
            where = ", ".join(str(path.relative_to(root)) for path, *_ in found) or "no file"
            raise MutantError(f"{self.name}: its text must stand once, and stands in {where}: {self.text!r}")
        path, content, place = found[0]
        return path, content[: place.start()] + self.broken + content[place.end() :]


def sources(root: Path) -> dict[Path, str]:
    """All files of the product below a folder, with their content."""
    return {path: path.read_text() for name in PRODUCT for path in sorted((root / name).rglob("*.py"))}


def mutants() -> dict[str, Mutant]:
    """All mutants by name, in the order of their files."""
    made: dict[str, Mutant] = {}
    for file in sorted(HERE.glob("*.toml")):
        if file == SURVIVORS:
            continue
        for name, entry in tomllib.loads(file.read_text()).items():
            if name in made:
                raise MutantError(f"{file.name}: '{name}' stands in another file too")
            made[name] = Mutant(name, **entry | {"tests": tuple(entry["tests"])})
    return made


@dataclass(frozen=True)
class Survivors:
    """Mutants that no test notices, each with the reason why that is borne; `most` may only be lowered."""

    most: int
    reasons: dict[str, str]


def survivors() -> Survivors:
    """The committed list."""
    content = tomllib.loads(SURVIVORS.read_text())
    return Survivors(content["most"], content.get("reasons", {}))
