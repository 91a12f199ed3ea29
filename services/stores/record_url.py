"""Where the archive's database lies: one rule for the service, for what works beside it, and for the page, which loads no SQLAlchemy."""

from pathlib import Path
from typing import Final
from urllib.parse import unquote

DEFAULT: Final = "sqlite:///{state}/archive.sqlite"
"""URL of an archive that names none."""


def path_of(url: str, state_folder: Path) -> Path:
    """File of the database at an URL of SQLAlchemy's, in which `{state}` stands for the state folder."""
    name = url.removeprefix("sqlite:///").partition("?")[0]
    return Path(unquote(name.replace("{state}", str(state_folder).replace("%", "%25"))))
