"""The description of the JSON interface, made of its operations and of the answers' own types: OpenAPI 3.1."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

from msgspec import Struct

from modelkin.errors import Failure
from modelkin.made import release
from modelkin.serving.interface import JSON, OPERATIONS, Operation
from modelkin_registry.answers.plain import CONTRACT, Plain

PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
WORDS = (
    "Answers are those that `modelkin ... --json` prints, by contract 1: fields may be added, and none is renamed or dropped. Each "
    "answer to a question has `made` too, which tells how it came to be; its SHA-256 is its address. Weights can be consistent with "
    "descent; they never tell who did what. Nothing found is no proof of independence."
)


def description() -> dict[str, Any]:
    """The whole document."""
    schemas: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "modelkin", "version": release(), "summary": f"Contract {CONTRACT}", "description": WORDS},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(one: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    fields = [
        {
            "name": field.name,
            "in": "query",
            "description": field.words,
            "required": field.required,
            "schema": {"type": "array", "items": {"type": field.kind}} if field.several else {"type": field.kind},
        }
        for field in one.parameters
    ]
    in_path = [name.strip("{}") for name in one.path.split("/") if name.startswith("{")]
    fields += [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in in_path]
    found: dict[str, Any] = {
        "operationId": f"{one.method.lower()}_{one.handler.__name__}",
        "summary": one.summary,
        "responses": {
            "200": {"description": "The answer.", "content": {JSON: {"schema": _answer(one.answer, schemas)}}},
            "default": {"description": "An error.", "content": {JSON: {"schema": schema_of(Failure, schemas)}}},
        },
    }
    if fields:
        found["parameters"] = fields
    if one.body:
        found["requestBody"] = {"content": {one.body: {"schema": {"type": "string", "format": "binary"}}}}
    if one.writes:
        found["security"] = [{"token": []}]
    return found


def _answer(answer: type[Plain], schemas: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object"} if answer is Plain else schema_of(answer, schemas)


def schema_of(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type; that of a record is put under its name into `schemas`, and referred to."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        if kind.__name__ not in schemas:
            schemas[kind.__name__] = {}  # so that one that holds others of its kind refers to itself
            hints = get_type_hints(kind)
            fields = {name.rstrip("_"): schema_of(hints[name], schemas) for name in kind.__struct_fields__}
            schemas[kind.__name__] = {"type": "object", "properties": fields, "required": list(fields)}
            if kind.__doc__:
                schemas[kind.__name__]["description"] = kind.__doc__.strip()
        return {"$ref": f"#/components/schemas/{kind.__name__}"}
    if get_origin(kind) in (Union, types.UnionType):
        return {"anyOf": [schema_of(one, schemas) for one in get_args(kind)]}
    if get_origin(kind) in (tuple, list):
        items = get_args(kind)
        if get_origin(kind) is list or items[1:] == (...,):
            return {"type": "array", "items": schema_of(items[0], schemas)}
        return {"type": "array", "prefixItems": [schema_of(item, schemas) for item in items], "items": False}
    if get_origin(kind) in (dict, Mapping):
        return {"type": "object", "additionalProperties": schema_of(get_args(kind)[1], schemas)}
    if kind is float:
        return {"type": ["number", "null"]}  # what could not be computed is null
    return {"type": PLAIN[kind]} if kind in PLAIN else {}
