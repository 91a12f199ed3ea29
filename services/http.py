"""Values of any web service that answers with JSON, by their paths in the answer (docs/services/http.md)."""

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar
from urllib.parse import urlencode

from msgspec import Meta, Struct, field

from bootstrap_lib import (
    DeviceError,
    Duration,
    Failure,
    InstanceOptions,
    Needs,
    Problem,
    Registry,
    Sample,
    Source,
    Topic,
    Value,
    secrets,
)
from services.links.web import Page, WebError, WebQuestion
from services.protocols import foreign, path

LONGEST_PAUSE, LONGEST_WAIT = 900.0, 86400.0
"""Seconds after which a service that is in trouble is asked again at the latest: by itself, and at its own wish."""

Header = Annotated[str, Meta(pattern=r"^[^\r\n]*$")]


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The web service; one instance asks one URL."""

    url: Annotated[
        str,
        Meta(
            pattern=r"^https?://[^\s/?#]+[^\s#]*$",
            examples=["https://example.org/now.json"],
            description="Where it answers with JSON.",
        ),
    ]
    parameters: Annotated[dict[str, str], Meta(description="More of its query; `secret:NAME` for a key.")] = field(
        default_factory=dict
    )
    headers: Annotated[dict[str, Header], Meta(description="Sent with it; `secret:NAME` for a token.")] = field(
        default_factory=dict
    )
    timeout: Annotated[Duration, Meta(description="Time for the whole answer, a minute at most.")] = Duration(10)


class DocumentField(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One value of the answer."""

    path: Annotated[str, Meta(description="As in `stands[0].bikes` or `stands[id=31705].bikes`.", min_length=1)]


class Http(Source):
    """Values of a web service."""

    NEEDS: ClassVar = Needs(
        extra="http",
        libraries=("requests",),
        network="internet",
        simulator="services.simulators.staging:web",
    )

    options: Options
    topics: tuple[Topic[DocumentField], ...]

    def samples(self) -> Iterator[Sample]:
        """Ask in each round, less often while it fails; an unchanged answer makes its values alive again."""
        page = page_of(self.options)
        found: dict[str, Value | Failure] = {}
        failures, reason, next_at = 0, "", 0.0
        while self.tick():
            if (now := time.monotonic()) >= next_at:
                with WebQuestion(page) as question:
                    while not question.answered:
                        if not self.breathe(self.options.timeout, question.fileno()):
                            return
                try:
                    if (document := question.answer()) is not None:
                        found = {topic.name: value_of(topic, document.content) for topic in self.topics}
                    failures = 0
                except WebError as error:
                    pause = max(
                        min(LONGEST_WAIT, error.wait), min(LONGEST_PAUSE, self.options.every * 2 ** min(failures, 9))
                    )
                    failures, reason, next_at = failures + 1, str(error), now + pause - self.options.every / 2
            for topic in self.topics:
                yield topic, Failure(reason) if failures else found[topic.name]

    @classmethod
    def scan(cls, options: Options) -> Iterator[str]:
        """Show the paths of all plain values in the answer."""
        try:
            document = page_of(options).fetch()
            yield from (f"{where} {value}" for where, value in path.leaves(document.content if document else None))
        except WebError as error:
            raise DeviceError(str(error)) from None

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find paths that cannot be understood, and a timeout that the watchdog would end."""
        if problems := super().check(registry, name):
            return problems
        if (timeout := registry.options_of(name, Options).timeout) > 60:  # noqa: PLR2004
            at = (registry.instances[name].section, name, "timeout")
            problems.append(registry.document.problem(at, f"{Duration(timeout)} is longer than a minute"))
        for topic in registry.topics_of(name, DocumentField):
            try:
                path.parse(topic.options.path)
            except ValueError as error:
                problems.append(registry.document.problem(("topics", registry.key_of(topic.name), "path"), str(error)))
        return problems


def page_of(options: Options) -> Page:
    """Page of the options with its secrets; DeviceError names one that is not there."""
    try:
        query, headers = revealed(options.parameters), revealed(options.headers)
    except secrets.SecretError as error:
        raise DeviceError(str(error)) from None
    joint = "&" if "?" in options.url else "?"
    return Page(options.url + (joint + urlencode(query) if query else ""), headers, options.timeout)


def revealed(texts: Mapping[str, str]) -> dict[str, str]:
    """Texts with their secrets in place of the references."""
    return {name: secrets.resolve(text) if text.startswith("secret:") else text for name, text in texts.items()}


def value_of(topic: Topic[DocumentField], document: Any) -> Value | Failure:
    """Value that a topic has in a document, as a number where services write numbers as text, or 1 for true."""
    where = topic.options.path
    try:
        value = path.follow(document, path.parse(where))
        if topic.kind in ("gauge", "counter") and isinstance(value, str):
            value = foreign.number(value)
    except path.PathError as error:
        return Failure(str(error))
    except ValueError:
        return Failure(f"{where} is no number")
    if topic.kind == "switch" and value in (0, 1):
        return bool(value)
    if not isinstance(value, (bool, int, float, str)):
        return Failure(f"{where} is {'null: it has no value now' if value is None else 'no plain value'}")
    if topic.quantity == "count" and isinstance(value, float) and not value.is_integer():
        return Failure(f"{where} is {value}: no count")
    return value
