"""Begin a source of one's own: its file, a test, a page, and the lines for topics.yaml.

    constellation new source co2                  in a clone: services/co2.py, tests/test_co2.py, docs/services/co2.md
    sudo constellation new source co2             elsewhere: the same three below /etc/constellation
    constellation new source co2 --folder here    or below another folder

What is written runs as it is, with a file in place of a sensor; its comments say what to change (docs/add-a-source.md). Nothing that
exists is written over, and topics.yaml is left to you.
"""

import argparse
import keyword
from pathlib import Path
from typing import Final

import services
from bootstrap_lib import StartError, catalog, quantities, reason

HOUSE: Final = Path("/etc/constellation")

TEST: Final = '''"""The source {name}: what it makes of what its sensor says, without the sensor."""

from services.{name} import decode


def test_a_number_is_scaled() -> None:
    assert decode("1.5\\n", 2.0) == 3.0


def test_what_is_no_number_is_a_reason_and_never_a_value() -> None:
    assert "is no number" in decode("rubbish", 1.0).reason
'''

PAGE: Final = """# {name}: what it measures, in a few words

Reads the last value that a sensor wrote into a file.

    home/data/{topic} {{"value":612,"time":"2026-11-20T15:01:53.120Z"}}

## Wiring

What must be plugged in where, and what must be there.

## Options

    sources:
      {name}: {{every: 30s, device: /run/sensor}}
    topics:
      {topic}: {{from: {name}}}

| option | default | what it says |
|---|---|---|
| `device` | `/run/sensor` | the file in which the sensor writes its last value |

| key of a line | default | what it says |
|---|---|---|
| `factor` | 1 | what the raw value is multiplied with |

## What goes wrong

| what is said | what to do |
|---|---|
| /run/sensor is not there: … | plug the sensor in |
| the sensor says '…', which is no number | is it the right file? |
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `new` takes."""
    parser.add_argument("kind", choices=["source"], help="what to begin")
    parser.add_argument("name", help="its name: small letters, digits and _")
    parser.add_argument("--folder", type=Path, help="where to write (default: a clone, or /etc/constellation)")


def main(arguments: argparse.Namespace) -> int:
    """Write the files, and show the lines."""
    name, clone = arguments.name, (Path("services/_template.py").is_file() and Path("pyproject.toml").is_file())
    if not quantities.WORD.fullmatch(name) or name[0].isdigit() or keyword.iskeyword(name) or name == "all":
        raise StartError(f"'{name}' can be no source: use small letters, digits and _, a letter first")
    if name in catalog.names():
        raise StartError(f"there is a service '{name}' already: choose another name")
    folder = arguments.folder or (Path() if clone else HOUSE)
    topic = f"house/{name}/{_quantity(name)}"
    files = {
        folder / f"services/{name}.py": _source(name),
        folder / f"tests/test_{name}.py": TEST.format(name=name),
        folder / f"docs/services/{name}.md": PAGE.format(name=name, topic=topic),
    }
    if there := [path for path in files if path.exists()]:
        raise StartError(f"{there[0]} is there already: nothing was written")
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise StartError(f"{path} cannot be written: {reason(error)}") from None
        print(f"written: {path}")
    print(f"""
Lines for topics.yaml; the last word of the topic is its quantity (docs/topics.md):

sources:
  {name}: {{every: 30s, device: /run/sensor}}
topics:
  {topic}: {{from: {name}}}

Then: constellation check; constellation once {name}; sudo constellation units --install""")
    if folder not in (Path(), HOUSE):
        print(f"It is found there with CONSTELLATION_SERVICES={(folder / 'services').resolve()}")
    return 0


def _quantity(name: str) -> str:
    """Last level of a first topic: the name itself where its last word is a quantity of numbers."""
    row = quantities.quantity_of(name)
    return name if row and row.kind in ("gauge", "counter") else "number"


def _source(name: str) -> str:
    """The template as a source of that name."""
    text = (Path(next(iter(services.__path__))) / "_template.py").read_text("utf-8")
    _, _, rest = text.partition('"""\n')
    title = f'"""Values of {name.replace("_", " ")} (docs/services/{name}.md): change what the comments speak of."""\n'
    return title + rest.replace("class Template(", f"class {''.join(map(str.capitalize, name.split('_')))}(")
