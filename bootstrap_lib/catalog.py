"""Finds services: a service is a file `services/<name>.py` or `/etc/constellation/services/<name>.py`, nothing else.

There is no list to add it to: the file's one public class that derives from Source or Subscriber is the service.
"""

import importlib

from bootstrap_lib.document import DocumentError, Problem, nearest, reason
from bootstrap_lib.location import find_registry
from bootstrap_lib.needs import Needs, needs_of, service_files
from bootstrap_lib.registry import Registry
from bootstrap_lib.service import Service

__all__ = ["NoService", "find", "make", "missing", "names", "needs_of"]


class NoService(LookupError):
    """A name under which there is no service, or a file that holds none; the message says what to do."""


def names() -> list[str]:
    """Names of all services there are, the user's own included."""
    return sorted(service_files())


def find(name: str) -> type[Service]:
    """Class of a service by its name; NoService says what is wrong."""
    known = names()
    if name not in known:
        hint = nearest(name, known) or f": there are {', '.join(known)}"
        raise NoService(f"no service is named '{name}'{hint} (a service is a file services/{name}.py)")
    try:
        module = importlib.import_module(f"services.{name}")
    except ImportError as error:
        raise NoService(f"services/{name}.py cannot be imported: {missing(error, name)}") from error
    except Exception as error:
        raise NoService(f"services/{name}.py cannot be imported: {type(error).__name__}: {reason(error)}") from error
    for candidate in vars(module).values():
        if isinstance(candidate, type) and issubclass(candidate, Service) and candidate.__module__ == module.__name__:
            return candidate
    raise NoService(f"services/{name}.py holds no service: write a class that derives from Source or Subscriber")


def missing(error: ImportError, service: str | None = None) -> str:
    """Say which library is missing and what to install; of an import within our own code, what it says."""
    library = (error.name or "").partition(".")[0]
    wanted = [needs_of(name) for name in ([service] if service else names())]
    needs = next((one for one in wanted if library in one.libraries), Needs())
    if not isinstance(error, ModuleNotFoundError) or not (needs.extra or service):
        return reason(error)
    install = [f"pip install 'constellation[{needs.extra}]'"] if needs.extra else [f"pip install {library}"]
    install += [f"apt install {' '.join(needs.packages)}"] if needs.packages else []
    return f"the library {library} is not installed: {' or '.join(install)}"


def make(config: str | None, instance: str, *, say: bool = True) -> Service:
    """Build the service of an instance; DocumentError or NoService where it cannot be. `say` as `find_registry`."""
    path = find_registry(config, say=say).resolve()
    registry = Registry(path)
    if instance not in registry.instances:
        raise DocumentError([Problem(str(path), 1, "", registry.no_instance(instance))])
    service = find(registry.instances[instance].service)(registry, instance)
    service.load(registry)
    return service
