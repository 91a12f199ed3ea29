"""What every service must be: found by its file, documented, checked without hardware, small, and on the public face only."""

import ast
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from harness import PROJECT

from bootstrap_lib import catalog
from bootstrap_lib.schema import _description
from bootstrap_lib.service import option_type, topic_option_type
from bootstrap_lib.source import Source

NAMES = [name for name in catalog.names() if (PROJECT / f"services/{name}.py").exists()]
HARDWARE = {
    "w1thermsensor",
    "adafruit_ads1x15",
    "gatt",
    "dbus",
    "gi",
    "serial",
    "minimalmodbus",
    "gpiozero",
    "rrdtool",
    "influxdb_client",
}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_documented(name: str) -> None:
    page = PROJECT / f"docs/services/{name}.md"
    assert page.exists(), f"write {page.relative_to(PROJECT)}"
    service = catalog.find(name)
    assert service.__doc__
    kinds = [option_type(service), *([topic_option_type(service)] if issubclass(service, Source) else [])]
    for kind in kinds:
        for field in msgspec.structs.fields(kind):
            if field.encode_name != "port":
                assert _description(field.type), f"{name}: '{field.encode_name}' has no description"


@pytest.mark.parametrize("name", NAMES)
def test_it_is_imported_without_its_hardware_library(name: str) -> None:
    code = f"import sys, services.{name}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert not HARDWARE & set(result.stdout.split())


@pytest.mark.parametrize("path", sorted((PROJECT / "services/protocols").rglob("*.py")), ids=lambda path: path.name)
def test_a_decoder_does_no_input_or_output(path: Path) -> None:
    imported = {
        alias.name.partition(".")[0] if isinstance(node, ast.Import) else (node.module or "").partition(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert not imported & {"os", "socket", "serial", "subprocess", "threading", "paho", "sqlite3", "logging", "time"}
