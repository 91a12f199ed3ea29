"""What is given away as wheel and sdist: the two packages and what they need, nothing of this machine, whole without any extra."""

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from harness import PROJECT

LIBRARIES = {
    "w1thermsensor", "adafruit_ads1x15", "adafruit_bus_device", "Adafruit_PureIO", "board", "busio", "gatt", "dbus", "gi", "serial",
    "cryptography", "requests", "psutil", "gpiozero", "sqlalchemy", "rrdtool", "influxdb_client", "pushover_complete", "apprise",
    "pymysql", "psycopg", "prometheus_client", "starlette", "uvicorn", "webauthn",
}  # fmt: skip
"""What the extras bring."""

IMPORT_ALL = """\
import importlib, json, pkgutil, sys
hidden = set(json.loads(sys.argv[1]))
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
import bootstrap_lib, services
from bootstrap_lib import catalog
said, count = {}, 0
for package in (bootstrap_lib, services):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        count += 1
        try:
            importlib.import_module(found.name)
        except ImportError as error:
            said[found.name] = catalog.missing(error)
print(json.dumps([count, said, bootstrap_lib.__file__]))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Wheel and sdist of this tree."""
    folder = tmp_path_factory.mktemp("dist")
    build(PROJECT, folder, "wheel", "sdist")
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def build(tree: Path, folder: Path, *targets: str) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", folder, *(f"-t{target}" for target in targets)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)


def of_wheel(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_what_runs_and_nothing_else(made: tuple[Path, Path]) -> None:
    files = of_wheel(made[0])
    tops = {name.partition("/")[0] for name in files}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"bootstrap_lib", "services"}
    for name in (
        "bootstrap_lib/share/topics.yaml",
        "bootstrap_lib/share/systemd/constellation@.service",
        "bootstrap_lib/py.typed",
    ):
        assert name in files
    tracked = subprocess.run(
        ["git", "ls-files", "bootstrap_lib", "services"], cwd=PROJECT, capture_output=True, text=True
    )
    assert [name for name in tracked.stdout.split() if name not in files and (PROJECT / name).exists()] == []
    assert [name for name in files if "__pycache__" in name or "/test_" in name] == []
    assert [name for name, content in files.items() if str(PROJECT).encode() in content] == [], "paths of this machine"


def test_the_sdist_makes_the_same_wheel_and_has_no_tests(made: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, sdist = made
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2].partition("/")[0] for name in archive.getnames()}
    assert not names & {"tests", "scripts", ".ci", ".github", ".venv", "demo"}, names
    subprocess.run(["tar", "-xzf", sdist, "-C", tmp_path], check=True)
    (tree,) = tmp_path.iterdir()
    build(tree, tmp_path / "again", "wheel")
    ours, theirs = of_wheel(wheel), of_wheel(next((tmp_path / "again").glob("*.whl")))
    assert {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)} == set()


def imports(wheel: Path, tmp_path: Path, hidden: set[str]) -> dict[str, str]:
    """What is said of modules that cannot be imported from the wheel where libraries are hidden."""
    place = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps(sorted(hidden))],
        cwd=place, env={"PYTHONPATH": str(place), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    count, said, where = json.loads(done.stdout)
    assert count > 250
    assert where.startswith(str(place))
    return dict(said)


def test_every_module_is_imported_with_all_extras(made: tuple[Path, Path], tmp_path: Path) -> None:
    assert imports(made[0], tmp_path, set()) == {}


def test_without_any_extra_each_module_is_imported_or_says_which_extra_it_wants(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    said = imports(made[0], tmp_path, LIBRARIES)
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = {name: re.findall(r"'constellation\[([\w,]+)\]'", sentence) for name, sentence in said.items()}
    wordless = {
        name: said[name] for name, words in named.items() if not words or not set(words[0].split(",")) <= extras.keys()
    }
    assert wordless == {}
    assert "services.archive" in said
