"""Measure once and print what was measured.

When the service runs it holds the device: then it is asked to measure. When it does not, its device is opened here,
and nothing is published.
"""

import argparse
import contextlib
import logging
import traceback
from collections.abc import Iterator
from typing import Any

import msgspec

from bootstrap_lib import catalog, log, state
from bootstrap_lib.client import Client
from bootstrap_lib.document import DocumentError, StartError, plain, reason
from bootstrap_lib.location import find_registry
from bootstrap_lib.registry import Registry
from bootstrap_lib.secrets import SecretError
from bootstrap_lib.service import Service
from bootstrap_lib.source import Failure, Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `once` takes."""
    parser.add_argument("instance", help="a source of topics.yaml")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="how long to wait (default 30)")


def main(arguments: argparse.Namespace) -> int:
    """Measure, or have it measured."""
    path = find_registry(arguments.config)
    service = catalog.make(str(path), arguments.instance)
    if not isinstance(service, Source):
        raise StartError(f"'{arguments.instance}' is no source: it measures nothing")
    if _runs(service):
        with Client(Registry(path)) as client:
            found = client.ask(arguments.instance, "read", timeout=arguments.timeout)
        try:
            read = msgspec.convert(found or {}, dict[str, dict[str, Any]])
        except msgspec.ValidationError:
            raise StartError(f"{arguments.instance} answers nothing that can be read: {plain(found)}") from None
        for name, body in read.items():
            shown, unit = plain(body.get("value", body.get("error"))), plain(body.get("unit", ""), 20)
            print(f"{plain(name, 80):44} {shown} {unit}".rstrip())
        return 0 if read and all("value" in body for body in read.values()) else 1
    log.set_up(arguments.instance, level=logging.ERROR)
    if not any(topic.source == arguments.instance for topic in service.registry.topics.values()):
        raise StartError(f"topics.yaml has no line with `from: {arguments.instance}`: there is nothing to measure")
    good = True
    with failures_as_sentences():
        for topic, value in service.measure_once(arguments.timeout):
            shown = "has no value now" if value is None else f"{value} {topic.unit}".rstrip()
            if isinstance(value, Failure):
                shown = value.reason
            good = good and not isinstance(value, Failure)
            print(f"{topic.name:44} {plain(shown)}")
    return 0 if good else 1


@contextlib.contextmanager
def failures_as_sentences() -> Iterator[None]:
    """Turn whatever a device's library raises into a StartError that says where, as a source's loop does into its log."""
    try:
        yield
    except (StartError, DocumentError, SecretError, OSError):
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{place.filename}, line {place.lineno}"
        raise StartError(f"{type(error).__name__}: {reason(error)} ({at})") from error


def _runs(service: Service) -> bool:
    try:
        state.hold(service.state_folder, service.name).close()
    except StartError:
        return True
    except OSError:  # no folder, so it never ran
        return False
    return False
