"""OpenAPI 3.1 of the doors, made from the types that check what comes in."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bootstrap_lib import Duration

if TYPE_CHECKING:
    from services.page.door import Door

REFUSALS: Final = {
    "400": "the request came only in part",
    "401": "log in first",
    "403": "a change comes from the page itself",
    "404": "there is no such thing",
    "405": "this path takes another method",
    "409": "the service refuses, or nothing is left to do",
    "410": "the link was used, or has ended",
    "413": "the body is too large",
    "415": "send JSON",
    "421": "the page has another name",
    "422": "what is wrong, and where",
    "429": "too many wrong passwords",
    "503": "the archive or the service cannot be asked now",
    "504": "the service does not answer",
}


def description(doors: Sequence["Door"]) -> dict[str, Any]:
    """The whole document."""
    from importlib.metadata import version

    kinds = [kind for door in doors for kind in (door.query, door.body, door.answer) if kind is not None]
    schemas, components = msgspec.json.schema_components(
        kinds, schema_hook=_hook, ref_template="#/components/schemas/{name}"
    )
    found = {id(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for door in doors:
        path = "/api/1" + re.sub(r":path", "", door.path)
        paths.setdefault(path, {})[door.method.lower()] = _operation(door, found, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Constellation", "version": version("constellation"), "summary": "A house, alive and past."},
        "paths": paths,
        "components": {
            "schemas": components
            | {"Refusal": {"type": "object", "properties": {"error": {"type": "string"}, "where": {"type": "string"}}}},
            "securitySchemes": {"session": {"type": "apiKey", "in": "cookie", "name": "constellation"}},
        },
    }


def _operation(door: "Door", found: dict[int, Any], components: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)", door.path)
    ]
    if door.query is not None:
        schema = components[door.query.__name__]
        parameters += [
            {"name": name, "in": "query", "required": name in schema.get("required", []), **_stated(content)}
            for name, content in schema["properties"].items()
        ]
    content = {"application/json": {"schema": found[id(door.answer)]}}
    if door.path == "/history":
        content["text/csv"] = {"schema": {"type": "string"}}
    operation: dict[str, Any] = {
        "summary": door.summary,
        "parameters": parameters,
        "responses": {"200": {"description": door.summary, "content": content}}
        | (
            {"304": {"description": "it is what you have: If-None-Match names its ETag"}}
            if door.method == "GET"
            else {}
        )
        | {
            status: {
                "description": sentence,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}},
            }
            for status, sentence in REFUSALS.items()
        },
    }
    if door.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": found[id(door.body)]}},
        }
    if door.changes:
        operation["security"] = [{"session": []}]
    return operation


def _stated(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema, with what is said of it beside it: left out it is None, but no text stands for that."""
    found = dict(schema)
    for choice in found.pop("anyOf", []):
        found |= choice if choice != {"type": "null"} else {}
    if found.get("default", "") is None:
        del found["default"]
    said = found.pop("description", None)
    return ({"description": said} if said else {}) | {"schema": found}


def _hook(kind: type) -> dict[str, Any]:
    if kind is Duration:
        return {"type": "string", "pattern": r"^(\d{1,4}(ms|s|m|h|d))+$"}
    raise NotImplementedError(kind)
