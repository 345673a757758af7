"""What callers send, read strictly: what two parsers could read differently is refused.

A JSON document in UTF-8 with no key twice, not nested deeply; a query with known parameters.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

from pydantic import BaseModel, ValidationError
from twisted.web.iweb import IRequest

from gatekeeper.config.annotations import item_of, keys_of
from gatekeeper.config.messages import problems_of
from gatekeeper.errors import Problem, Refusal
from gatekeeper.management.answers import Invalid

M = TypeVar("M", bound=BaseModel)

_DEEPEST: Final = 20
_MOST_PARAMETERS: Final = 32
_EXACT: Final = 2.0**53  # below it a float tells every whole number

#: Errors of what has the right shape and cannot be used: the schema does not tell them.
_SEMANTIC: Final = frozenset({"value_error"})


def read_body(request: IRequest, model: type[M], *, untyped: bool) -> M:
    """The request's body as ``model``.

    ``untyped``: a body without a Content-Type is taken for JSON.

    :raises Refusal: 415, 400, or 422 where it fits the schema and is of no use.
    """
    document = json.dumps(read_document(request, untyped=untyped))
    try:
        return model.model_validate_json(document, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise invalid(error, model) from None


def read_document(request: IRequest, *, untyped: bool) -> Any:
    """The request's body as whatever JSON it is.

    :raises Refusal: 415 or 400.
    """
    return parse_json(read_content(request, untyped=untyped))


def read_content(request: IRequest, *, untyped: bool) -> bytes:
    """The request's body, which says of itself that it is JSON.

    :raises Refusal: 415, it does not.
    """
    types = request.requestHeaders.getRawHeaders(b"content-type", [])
    media_types = [each.partition(b";")[0].strip().lower() for each in types]
    if media_types != [b"application/json"] and not (untyped and not types):
        detail = "Send JSON, with `Content-Type: application/json`."
        raise Refusal("unsupported_media_type", detail, status=415)
    content: bytes = request.content.read()
    return content


def parse_json(content: bytes) -> Any:
    """Any JSON value (RFC 8259).

    :raises Refusal: 400.
    """
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_number,
        )
        _check(value, _DEEPEST)
    except RecursionError:
        raise _not_json("it is nested too deeply") from None
    except UnicodeError:
        raise _not_json("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _not_json(f"{error.msg} (line {error.lineno}, column {error.colno})") from None
    except ValueError as error:
        raise _not_json(str(error)) from None
    return value


def read_query(request: IRequest, model: type[M]) -> M:
    """The parameters of the request's target; those that ``model`` does not know are refused.

    :raises Refusal: 400.
    """
    known = {name: item_of(field.annotation) for name, field in keys_of(model).items()}
    values: dict[str, Any] = {}
    for name, value in _parameters(request.uri.partition(b"?")[2]):
        if known.get(name) is not None:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise _malformed(name, "stands there twice")
        else:
            values[name] = value
    try:
        return model.model_validate(values, by_alias=True, by_name=False)
    except ValidationError as error:
        raise invalid(error, model) from None


def no_parameters(request: IRequest) -> None:
    """See that there are none.

    :raises Refusal: 400.
    """
    for name, _ in _parameters(request.uri.partition(b"?")[2]):
        raise _malformed(name, "unknown parameter")


def read_segments(raw: Mapping[str, str]) -> dict[str, str]:
    """Parts of the path, percent-decoded once.

    :raises Refusal: 404, for what can be no name.
    """
    decoded: dict[str, str] = {}
    for name, value in raw.items():
        text = unquote_to_bytes(value).decode("utf-8", "replace")
        if not text.isprintable() or "\N{REPLACEMENT CHARACTER}" in text:
            raise Refusal("not_found", f"There is no such {name}.", status=404)
        decoded[name] = text
    return decoded


def invalid(error: ValidationError, model: type[BaseModel]) -> Invalid:
    """What is wrong with a body or a query: 400, or 422 where only the values are."""
    problems = tuple(problems_of(error, model))
    kinds = {detail["type"] for detail in error.errors(include_input=False, include_url=False)}
    if kinds <= _SEMANTIC:
        return unusable(problems)
    return Invalid("invalid_request", _sentence(problems), problems)


def unusable(problems: tuple[Problem, ...]) -> Invalid:
    """422: what has the right shape, and cannot be used."""
    return Invalid("unusable", _sentence(problems), problems, status=422)


def _sentence(problems: tuple[Problem, ...]) -> str:
    return "; ".join(map(str, problems[:5])) + ("; and more" if len(problems) > 5 else "")


def _parameters(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError:
        raise Refusal("malformed_query", "The query cannot be read, or is too long.") from None


def _malformed(name: str, message: str) -> Invalid:
    shown = name if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) else json.dumps(name[:64])
    problem = Problem(shown, message)
    return Invalid("invalid_request", str(problem), [problem])


def _not_json(why: str) -> Refusal:
    return Refusal("malformed_body", f"The body must be a JSON document: {why}.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _number(text: str) -> int | float:
    """A number with a point or an exponent: 5.0 is a whole number, as JSON Schema has it."""
    number = float(text)
    if abs(number) > sys.float_info.max:
        raise ValueError("a number is too large")
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


def _no_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")


def _check(value: Any, depth: int) -> None:
    """Half a character, as escapes can make it, has no place in a file or a database."""
    if depth < 0:
        raise ValueError("it is nested too deeply")
    if isinstance(value, str):
        value.encode("utf-8")
    elif isinstance(value, dict):
        for key, item in value.items():
            key.encode("utf-8")
            _check(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth - 1)
