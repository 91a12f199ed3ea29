"""The rooms of the house: what may know what, one name for one thing, and files that can be read in one go.

The base knows no service, services stand on its face alone, and no import runs in a circle, late ones included.
"""

import ast
import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Final

import pytest
from harness import PROJECT

import bootstrap_lib

TREES: Final = {
    str(path.relative_to(PROJECT)): ast.parse(path.read_text())
    for room in ("bootstrap_lib", "services")
    for path in sorted((PROJECT / room).rglob("*.py"))
}
BASE: Final = {name: tree for name, tree in TREES.items() if name.startswith("bootstrap_lib/")}
ABOVE: Final = {name: tree for name, tree in TREES.items() if name.startswith("services/")}
SERVICES: Final = {name[9:-3] for name in ABOVE if name.count("/") == 1 and not name.startswith("services/_")}

WORDS: Final = {
    ("bootstrap_lib/quantities.py", "phase"),
    ("bootstrap_lib/commands/status.py", "host"),
    ("bootstrap_lib/rival.py", "host"),
}
"""Names of services that are words of something else: a phase is a quantity, and health says its host."""

UPWARD: Final = {
    ("services/links/gpio.py", "services/simulators/button.py"): "`gpio: sim:…` is a contact of the demo",
    ("services/links/i2c.py", "services/simulators/ads1115.py"): "`i2c: sim:…` is a bus of the demo",
    ("services/stores/archive_file.py", "services/archive.py"): "the options say where the file lies",
}
"""Imports from a lower room into a higher one, with the reason; it may only become shorter."""

PAST_THE_FACE: Final = {"bootstrap_lib.version": "a page shows it"}
"""Modules of the base that services may import beside its face, with the reason."""

PRIVATE: Final = {
    ("Notifier", "_away"): "a disk that takes nothing must not keep people from being told",
    ("Notifier", "_flush_at"): "a message of its own is written down at once, as one that came is",
    ("Phase", "_flush_at"): "what it concludes lasts before it is published, between two groups of readings",
    ("WMBus", "_changed"): "the receiver stays open when only its meters changed",
}
"""Private names of the base's classes that services use all the same, with the reason; it may only become shorter."""

MOST_TWICE: Final = 8
"""Names of classes that stand in two files. It may only fall; the aim is fewer than 10."""
MOST_LONG: Final = 7
"""Files of more lines than LONG: fewer than 8. It may only fall."""
LONG: Final = 300


def imports(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Each import of a file, late ones too: its line, the module, and the name that is taken of it (empty: the module)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: an import says where from"
            yield from ((node.lineno, node.module or "", alias.name) for alias in node.names)


def classes(trees: Mapping[str, ast.AST]) -> Iterator[tuple[str, ast.ClassDef]]:
    """Each class with its file."""
    for name, tree in trees.items():
        yield from ((name, node) for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


# -- what may know what -------------------------------------------------------------------------------------------


def test_the_base_imports_nothing_of_the_services() -> None:
    found = [
        f"{name}:{line}: {module}"
        for name, tree in BASE.items()
        for line, module, _ in imports(tree)
        if module.partition(".")[0] == "services"
    ]
    assert not found


def test_the_base_knows_no_service_by_name() -> None:
    found = [
        f"{name}:{node.lineno}: '{node.value}'"
        for name, tree in BASE.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in SERVICES and (name, node.value) not in WORDS
    ]
    assert not found


def test_services_stand_on_the_face_of_the_base_alone() -> None:
    found = [
        f"{name}:{line}: {module}.{taken}"
        for name, tree in ABOVE.items()
        for line, module, taken in imports(tree)
        if module.partition(".")[0] == "bootstrap_lib"
        and module not in PAST_THE_FACE
        and not (module == "bootstrap_lib" and taken in bootstrap_lib.__all__)
    ]
    assert not found


def test_what_the_face_keeps_to_itself_is_used_by_no_service() -> None:
    modules = {name for name in bootstrap_lib.__all__ if isinstance(getattr(bootstrap_lib, name), ModuleType)}
    found = [
        f"{name}:{node.lineno}: {ast.unparse(node)}"
        for name, tree in ABOVE.items()
        if (ours := modules & {taken for _, module, taken in imports(tree) if module == "bootstrap_lib"})
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ours
        and node.attr.startswith("_")
    ]
    assert not found


def private_names() -> dict[str, set[str]]:
    """Private attributes and methods of each class in the base that services may derive from or hold."""
    return {
        node.name: {
            found
            for part in ast.walk(node)
            for found in (
                part.name
                if isinstance(part, ast.FunctionDef)
                else part.attr
                if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "self"
                else "",
            )
            if found.startswith("_") and not found.startswith("__")
        }
        for _, node in classes(BASE)
        if node.name in ("Service", "Source", "Subscriber", "Publisher")
    }


def test_services_use_no_private_name_of_their_base_but_those_with_a_reason() -> None:
    kept = private_names()
    ancestors = {node.name: {ast.unparse(base) for base in node.bases} for _, node in classes({**BASE, **ABOVE})}

    def line_of(name: str) -> set[str]:
        return {name}.union(*(line_of(base) for base in ancestors.get(name, ()) if base != name))

    found: dict[tuple[str, str], str] = {}
    for file, node in classes(ABOVE):
        theirs = set[str]().union(*(kept[name] for name in line_of(node.name) & kept.keys()))
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "self" and part.attr in theirs:
                found[node.name, part.attr] = f"{file}:{part.lineno}: self.{part.attr}"
    assert [place for key, place in found.items() if key not in PRIVATE] == []
    assert PRIVATE.keys() <= found.keys(), "what is used no more needs no reason"


# -- circles ------------------------------------------------------------------------------------------------------


def only_for_types(tree: ast.AST) -> set[int]:
    """Lines of a file that never run: what stands below `if TYPE_CHECKING`."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {line for block in blocks for line in range(block.lineno, (block.body[-1].end_lineno or 0) + 1)}


def uses() -> dict[str, set[str]]:
    """By file, the files that it imports, at its beginning or later."""
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in TREES}
    return {
        name: {
            target
            for line, module, taken in imports(tree)
            if line not in skipped
            and (target := modules.get(f"{module}.{taken}") or modules.get(module))
            and target != name
        }
        for name, tree in TREES.items()
        for skipped in [only_for_types(tree)]
    }


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of files of which each leads to each other (Tarjan, 1972), without recursion's bounds."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []
    for root in edges:
        walk = [(root, iter(sorted(edges[root])))] if root not in order else []
        while walk:
            node, following = walk[-1]
            if node not in order:
                order[node] = low[node] = len(order)
                path.append(node)
            for other in following:
                if other not in order:
                    walk.append((other, iter(sorted(edges.get(other, ())))))
                    break
                if other in path:
                    low[node] = min(low[node], order[other])
            else:
                walk.pop()
                if walk:
                    low[walk[-1][0]] = min(low[walk[-1][0]], low[node])
                if low[node] == order[node]:
                    place = path.index(node)
                    group, path[place:] = path[place:], []
                    if len(group) > 1:
                        found.append(sorted(group))
    return found


def test_a_circle_is_found_however_long_it_is_and_a_branch_is_none() -> None:
    assert circles({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}}) == [["d", "e"], ["a", "b", "c"]]


def test_no_import_runs_in_a_circle() -> None:
    assert circles(uses()) == []


def test_a_room_stands_above_what_it_uses() -> None:
    def room(name: str) -> str:
        levels = name.split("/")
        return "/".join(levels[:2]) if levels[0] == "services" else levels[0]

    everything = uses()
    assert [edge for edge in UPWARD if edge[1] not in everything[edge[0]]] == [], "what is mended needs no reason"
    between: dict[str, set[str]] = defaultdict(set)
    for name, used in everything.items():
        between[room(name)] |= {room(other) for other in used if (name, other) not in UPWARD} - {room(name)}
    assert circles(between) == []


@pytest.mark.parametrize("name", [name for name in ABOVE if name.startswith("services/protocols/")])
def test_a_protocol_is_bytes_in_and_values_out(name: str) -> None:
    kept_out = {"os", "socket", "serial", "subprocess", "threading", "paho", "sqlite3", "logging", "time"}
    imported = [(line, module) for line, module, _ in imports(TREES[name])]
    assert [f"{name}:{line}: {module}" for line, module in imported if module.partition(".")[0] in kept_out] == []
    others = [place for place in imported if place[1].startswith("services") and "protocols" not in place[1]]
    assert others == []


# -- what a name means, what a file holds -------------------------------------------------------------------------


def test_every_name_of_the_face_says_what_it_is() -> None:
    said = {
        target.id
        for tree in BASE.values()
        for statement, following in zip(ast.iter_child_nodes(tree), list(ast.iter_child_nodes(tree))[1:], strict=False)
        if isinstance(statement, (ast.Assign, ast.AnnAssign))
        and isinstance(following, ast.Expr)
        and isinstance(following.value, ast.Constant)
        for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
        if isinstance(target, ast.Name)
    }
    silent = []
    for name in bootstrap_lib.__all__:
        thing = getattr(bootstrap_lib, name)
        documented = inspect.isclass(thing) or inspect.isroutine(thing) or inspect.ismodule(thing)
        if not (
            vars(thing).get("__doc__")
            if documented and inspect.isclass(thing)
            else thing.__doc__
            if documented
            else name in said
        ):
            silent.append(name)
    assert silent == []
    assert 30 <= len(bootstrap_lib.__all__) <= 40


def test_one_name_means_one_thing() -> None:
    where: dict[str, set[str]] = defaultdict(set)
    for file, node in classes(TREES):
        if node.name != "Options":  # each service has its own
            where[node.name].add(file)
    twice = {name: sorted(files) for name, files in where.items() if len(files) > 1}
    assert len(twice) <= MOST_TWICE, twice


def test_a_file_can_be_read_in_one_go() -> None:
    lengths = {name: (PROJECT / name).read_text().count("\n") for name in TREES}
    long = {name: length for name, length in lengths.items() if length > LONG}
    assert len(long) <= MOST_LONG, long
