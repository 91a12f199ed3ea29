"""YAML with places: what a file says, and on which line it says it, so that an error can point there.

YAML 1.1 turns `off`, `012`, `12:30` and the Bluetooth address `10:20:30:40:50:56` into something else. Here
only true/false are booleans, numbers are decimal or 0x…, and everything else stays the text it looks like.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, get_args

import msgspec
import yaml

from bootstrap_lib.duration import Duration
from bootstrap_lib.examples import example
from bootstrap_lib.plain_file import content_of

KeyPath = tuple[str | int, ...]
T = TypeVar("T")


class Problem(NamedTuple):
    """One thing that is wrong in a file of the user: where, what, and what to do about it."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        """Return one line, as compilers print it, so that editors can jump there; whatever keys are called, a terminal can show it."""
        said = plain(self.message, 2000)
        return (
            f"{self.file}:{self.line}: {plain(self.path)}: {said}" if self.path else f"{self.file}:{self.line}: {said}"
        )


class DocumentError(ValueError):
    """A file of the user that cannot be used as it is; `problems` lists everything found, in order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(map(str, self.problems)))


class StartError(RuntimeError):
    """What was asked for cannot begin, or not go on; the message says why and what to do."""


_TYPES: Final = {
    "tag:yaml.org,2002:bool": (re.compile(r"true|false"), "tf"),
    "tag:yaml.org,2002:null": (re.compile(r"~|null|"), ["~", "n", ""]),
    "tag:yaml.org,2002:int": (re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+"), "-+0123456789"),
    "tag:yaml.org,2002:float": (
        re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)"),
        "-+0123456789",
    ),
}
_CONSTRUCT: Final[dict[str, Callable[[str], Any]]] = {
    "tag:yaml.org,2002:bool": lambda text: text == "true",
    "tag:yaml.org,2002:null": lambda _: None,
    "tag:yaml.org,2002:int": lambda text: int(text, 0),
    "tag:yaml.org,2002:float": float,
}


LIBYAML: Final = bool(yaml.__with_libyaml__)
"""Whether PyYAML has libyaml beneath it: its own parser is ten times slower and ends in a RecursionError."""


class _Loader(yaml.CSafeLoader if LIBYAML else yaml.SafeLoader):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's way)


for _tag, (_pattern, _first) in _TYPES.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern.pattern})$"), list(_first))


DEEPEST: Final = 32
"""Levels of a file: an anchor that holds itself has no end."""
TOO_DEEP: Final = f"more than {DEEPEST} levels deep: make it flat"


MOST_NODES: Final = 200_000
"""Values of a file, those that anchors repeat counted each time; the largest of houses has a tenth."""
MOST_BYTES: Final = 4_000_000
TOO_MUCH: Final = f"more than {MOST_NODES} values, those that anchors repeat included: write a smaller file"


class Document:
    """The merged content of one or more YAML files, with the place of every key."""

    def __init__(self) -> None:
        self.content: dict[str, Any] = {}
        self.problems: list[Problem] = []
        self._places: dict[KeyPath, tuple[str, int]] = {}
        self._first = ("?", 1)
        self._nodes = 0

    def read(self, path: Path, *, follow: bool = True, content: bytes | None = None) -> bytes:
        """Merge a file over what is there already: a later file overrides key by key; returns its content. DocumentError if unreadable.

        `follow`: it may be a link; not where others than its owner write in the folder. `content`: what it is going to say.
        """
        if self._first[0] == "?":
            self._first = (str(path), 1)
        if not LIBYAML:
            said = "PyYAML was built without libyaml: pip install --force-reinstall --only-binary :all: PyYAML"
            raise DocumentError([Problem(str(path), 1, "", f"cannot be read, {said}")])
        try:
            content = content_of(path, MOST_BYTES, follow=follow) if content is None else content
            node = yaml.compose(content.decode("utf-8"), Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            if error.problem == "exceeded maximum nesting depth":  # libyaml's own limit, where it has one
                raise DocumentError([Problem(str(path), line, "", TOO_DEEP)]) from None
            said = " ".join(part for part in (error.context, error.problem) if part)
            raise DocumentError([Problem(str(path), line, "", f"not valid YAML: {said}")]) from None
        except FileNotFoundError:
            raise DocumentError(
                [Problem(str(path), 1, "", "there is no such file: put it there, or name another with --config")]
            ) from None
        except UnicodeDecodeError as error:
            raise DocumentError([Problem(str(path), 1, "", f"no text in UTF-8 (byte {error.start + 1})")]) from None
        except (OSError, yaml.YAMLError) as error:
            said = (isinstance(error, OSError) and error.strerror) or reason(error)
            raise DocumentError([Problem(str(path), 1, "", f"cannot be read: {said}")]) from None
        if node is None:
            return content
        if not isinstance(node, yaml.MappingNode):
            raise DocumentError([Problem(str(path), 1, "", "expected sections (root:, sources:, topics:, …)")])
        self._merge(self.content, self._construct(node, (), str(path)))
        return content

    def _construct(self, node: yaml.Node, path: KeyPath, file: str) -> Any:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise DocumentError([Problem(file, node.start_mark.line + 1, dotted(path[:2]), TOO_MUCH)])
        if len(path) > DEEPEST:
            line = node.start_mark.line + 1
            raise DocumentError([Problem(file, line, dotted(path[:2]), TOO_DEEP)])
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, Any] = {}
            for key_node, value_node in node.value:
                if not isinstance(key_node, yaml.ScalarNode):
                    line = key_node.start_mark.line + 1
                    raise DocumentError([Problem(file, line, dotted(path), "a key is a word, no list and no mapping")])
                key = str(key_node.value)
                here = (*path, key)
                line = key_node.start_mark.line + 1
                if key in mapping:
                    message = f"stands here again; the first is on line {self._places[here][1]}: keep one"
                    self.problems.append(Problem(file, line, dotted(here), message))
                    continue
                self._places[here] = (file, line)
                mapping[key] = self._construct(value_node, here, file)
            return mapping
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                self._places[*path, index] = (file, item.start_mark.line + 1)
                items.append(self._construct(item, (*path, index), file))
            return items
        try:
            return _CONSTRUCT.get(node.tag, str)(node.value)
        except ValueError:
            kind = node.tag.rpartition(":")[2]
            message = f"{plain(node.value, 40)!r} is no {kind}: write a value of that kind, of a usual size"
            raise DocumentError([Problem(file, node.start_mark.line + 1, dotted(path), message)]) from None

    def add(self, other: "Document") -> None:
        """Add what another document says and this one does not, behind what stands here."""
        self._merge(self.content, other.content, over=False)
        self._places = {**other._places, **self._places}  # noqa: SLF001 (of its own kind)

    def _merge(self, into: dict[str, Any], new: Mapping[str, Any], *, over: bool = True) -> None:
        for key, value in new.items():
            if isinstance(value, dict) and isinstance(into.get(key), dict):
                self._merge(into[key], value, over=over)
            elif over or into.get(key) is None:
                into[key] = value

    def problem(self, path: KeyPath, message: str) -> Problem:
        """Build a problem at the nearest place that is known for a path."""
        for length in range(len(path), 0, -1):
            if place := self._places.get(path[:length]):
                return Problem(*place, dotted(path), message)
        return Problem(*self._first, dotted(path), message)

    def section(self, name: str) -> dict[str, Any]:
        """Return a section of named entries; a section that is no mapping is a problem and reads as empty."""
        content = self.content.get(name)
        if content is None:
            return {}
        if not isinstance(content, dict):
            self.problems.append(self.problem((name,), "expected entries of the form `name: {…}`"))
            return {}
        return content

    def convert(self, value: Any, kind: type[T], path: KeyPath) -> T | None:
        """Convert an entry to its typed form; where that fails, note the problem and return None."""
        try:
            return msgspec.convert(value, kind, dec_hook=from_text)
        except msgspec.ValidationError as error:
            self.problems.append(self.explain(error, kind, path))
            return None

    def explain(self, error: msgspec.ValidationError, kind: type, path: KeyPath) -> Problem:
        """Turn a validation error into a problem with its place and what to do."""
        message, _, at = str(error).partition(" - at `$")
        inner = [int(index) if index else key for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", at)]
        where = (*path, *inner)
        if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", message):
            key = unknown[1]
            known = sorted(field.encode_name for field in _fields(kind, inner))
            hint = nearest(key, known) or f": it may be one of {', '.join(known)}"
            return self.problem((*where, key), f"unknown key '{key}'{hint}")
        if missing := re.fullmatch(r"Object missing required field `(.*)`", message):
            return self.problem(where, f"'{missing[1]}' is missing")
        pattern = re.search(r"matching regex '(.*)'$", message)
        if pattern and (right := example(kind, pattern[1].replace("\\\\", "\\"))):
            message += f", such as {right}"
        for said, meant in _PLAIN.items():
            message = message.replace(said, meant)
        return self.problem(where, message[0].lower() + message[1:])


_PLAIN: Final = {
    "`str`": "text",
    "`int`": "a whole number",
    "`float`": "a number",
    "`bool`": "true or false",
    "`array`": "a list [...]",
    "`object`": "entries {...}",
    "`null`": "nothing",
}


def _fields(kind: type, inner: Iterable[str | int]) -> tuple[msgspec.structs.FieldInfo, ...]:
    for key in inner:
        if not isinstance(key, str):
            return ()
        kinds = [field.type for field in msgspec.structs.fields(kind) if field.encode_name == key]
        structs = [part for part in (*kinds, *(a for k in kinds for a in get_args(k))) if _is_struct(part)]
        if not structs:
            return ()
        kind = structs[0]
    return msgspec.structs.fields(kind) if _is_struct(kind) else ()


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def from_text(kind: type, value: Any) -> Any:
    """Read our own types from what YAML and JSON hold; for msgspec's `dec_hook`."""
    if kind is Duration:
        return Duration.parse(value)
    if kind is Path:
        if not isinstance(value, str):
            raise ValueError("expected text")
        return Path(value)
    raise NotImplementedError(f"{kind} cannot be written in YAML")


def dotted(path: KeyPath) -> str:
    """Path of keys as people write it."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def reason(error: BaseException) -> str:
    """What an exception says, on one line, without the noise around it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def plain(text: object, length: int = 200) -> str:
    """Return what people or devices said so that a terminal and a log can show it: control characters escaped, on one line."""
    said = str(text)
    return escaped(said[:length], but="") + ("…" if len(said) > length else "")


def escaped(text: str, but: str = "\n\t") -> str:
    """Return a text with its control characters, and those that turn its direction, escaped; line breaks stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in but else c.encode("unicode_escape").decode() for c in text)


def nearest(word: str, words: Iterable[str]) -> str:
    """Return `, did you mean …?` when one of the words is close, else an empty text."""
    import difflib

    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f", did you mean '{close[0]}'?" if close else ""
