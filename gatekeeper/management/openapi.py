"""The OpenAPI document (3.1): made of the same declarations as the routes."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from gatekeeper import __version__
from gatekeeper.config.annotations import keys_of
from gatekeeper.management.gate import Actor
from gatekeeper.management.operations import Operation
from gatekeeper.management.v1.models import Document

_REF: Final = "#/components/schemas/{model}"

_ABOUT: Final = (
    "Everything that an operator does. What is under `/v1` answers errors with problem documents "
    "(RFC 9457) whose `errors` name the fields; the calls tagged `golem` are those of Golem's "
    'providers, and answer errors with `{"message": "…"}`.'
)

#: What every operation may answer with: 503 is of the store.
_ALWAYS: Final = (400, 401, 403, 414, 431, 503)


class FieldError(Document):
    """What is wrong with one field, or parameter."""

    field: str
    detail: str


class ProblemDocument(Document):
    """Why a request was refused (RFC 9457). `reason` is a short code for programs."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    errors: list[FieldError] = []


class Message(Document):
    """Why a request was refused, in Golem's dialect."""

    message: str


_Key = tuple[str, JsonSchemaMode]


def openapi(operations: Sequence[Operation], actor: Actor) -> dict[str, Any]:
    """The document of these operations; ``actor`` tells how callers show who they are."""
    schemas, components = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, schemas
        )
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "gatekeeper", "version": __version__, "description": _ABOUT},
        "tags": [{"name": tag} for tag in dict.fromkeys(each.tag for each in operations)],
        "paths": paths,
        "components": {"schemas": components},
    }
    if actor == "token":
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _schemas(operations: Iterable[Operation]) -> tuple[dict[_Key, Any], dict[str, Any]]:
    """Each body and answer's schema, and the definitions that they refer to."""
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        ("problem", "serialization", TypeAdapter(ProblemDocument)),
        ("message", "serialization", TypeAdapter(Message)),
    ]
    for operation in operations:
        body = operation.body or operation.documented
        if body is not None:
            inputs.append((operation.id, "validation", TypeAdapter(body)))
        if operation.answer is not None:
            inputs.append((operation.id, "serialization", operation.answer))
        if operation.query is not None:
            inputs.append((f"{operation.id} query", "validation", TypeAdapter(operation.query)))
    schemas, definitions = TypeAdapter.json_schemas(inputs, by_alias=True, ref_template=_REF)
    return dict(schemas), definitions.get("$defs", {})


def _operation(operation: Operation, schemas: dict[_Key, Any]) -> dict[str, Any]:
    summary, _, more = (inspect.getdoc(operation.handler) or "").partition("\n")
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": summary,
        "responses": _responses(operation, schemas),
    }
    if more.strip():
        described["description"] = more.strip()
    parameters = [_part(name) for name in operation.parts]
    parameters += _parameters(operation)
    if parameters:
        described["parameters"] = parameters
    if operation.body or operation.documented:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[operation.id, "validation"]}},
        }
    return described


def _part(name: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    schema = operation.query.model_json_schema(by_alias=True, ref_template=_REF)
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": _plain(schema["properties"][name]),
        }
        for name in keys_of(operation.query)
    ]


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema: there is no `null` in a query, what is not given is left out."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind.get("type") != "null"]
    if len(kinds) != 1:
        return schema
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**rest, **kinds[0]}


def _responses(operation: Operation, schemas: dict[_Key, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.answer is not None:
        schema = schemas[operation.id, "serialization"]
        content["application/json"] = {"schema": schema}
    if operation.media_type:
        content[operation.media_type] = {"schema": {"type": "string"}}
    right: dict[str, Any] = {"description": HTTPStatus(operation.status).phrase}
    if content:
        right["content"] = content
    golem = operation.dialect == "golem"
    name, media_type = (
        ("message", "application/json") if golem else ("problem", "application/problem+json")
    )
    refused = {media_type: {"schema": schemas[name, "serialization"]}}
    return {
        str(operation.status): right,
        **{
            str(status): {"description": HTTPStatus(status).phrase, "content": refused}
            for status in sorted(_errors(operation))
        },
    }


def _errors(operation: Operation) -> set[int]:
    errors = {*_ALWAYS, *operation.errors}
    if operation.parts:
        errors.add(404)
    if operation.body or operation.documented:
        errors |= {413, 415} if operation.dialect == "golem" else {413, 415, 422}
    return errors
