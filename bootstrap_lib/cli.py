"""The command `constellation`: one verb for each thing a person does with the house."""

import argparse
import importlib
import os
import pkgutil
import sys

from bootstrap_lib.version import VERSION

_ORDER = ("demo", "run", "check", "scan", "doctor", "watch", "status", "once")


_ROOMS = ("bootstrap_lib.commands", "services.commands")
"""Packages whose modules are the verbs: those that know no service, and those that do."""


def _verbs() -> dict[str, str]:
    """Module of each verb by its name, in the order of the help."""
    found = {
        module.name: f"{room}.{module.name}"
        for room in _ROOMS
        for module in pkgutil.iter_modules(importlib.import_module(room).__path__)
    }
    return {verb: found[verb] for verb in (*(verb for verb in _ORDER if verb in found), *sorted(found.keys() - _ORDER))}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code. Nothing a user gets wrong ends in a traceback."""
    given = sys.argv[1:] if arguments is None else arguments
    verbs = _verbs()
    parser = argparse.ArgumentParser(
        prog="constellation",
        description="Home monitoring as a constellation of small processes around one MQTT broker.",
        epilog="`constellation VERB --help` says more. Start with `constellation demo`.",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="topics.yaml to use (default: $CONSTELLATION_CONFIG, /etc/constellation/topics.yaml)",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    chosen = next((word for word in given if word in verbs), None)
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in verbs:
        if chosen is None or verb == chosen:
            module = importlib.import_module(verbs[verb])
            summary = (module.__doc__ or "").strip().splitlines()[0]
            sub = subparsers.add_parser(
                verb, help=summary, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
            )
            module.add_arguments(sub)
            sub.set_defaults(run=module.main, logs=getattr(module, "LOGS", None))
    if not given:
        parser.print_help()
        return 0
    parsed = parser.parse_args(given)
    return _run(parsed)


def _run(parsed: argparse.Namespace) -> int:
    from bootstrap_lib.catalog import NoService
    from bootstrap_lib.document import DocumentError, StartError, escaped, reason
    from bootstrap_lib.secrets import SecretError

    if parsed.logs:
        from bootstrap_lib import log

        log.set_up(parsed.logs)
    try:
        return int(parsed.run(parsed) or 0)
    except DocumentError as error:
        print(escaped(str(error)), file=sys.stderr)
        return os.EX_CONFIG
    except (StartError, NoService, SecretError) as error:
        print(f"constellation {parsed.verb}: {escaped(str(error))}", file=sys.stderr)
        return os.EX_UNAVAILABLE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        advice = ": run this with sudo" if isinstance(error, PermissionError) and os.geteuid() else ""
        print(f"constellation {parsed.verb}: {escaped(reason(error))}{advice}", file=sys.stderr)
        return os.EX_IOERR
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
