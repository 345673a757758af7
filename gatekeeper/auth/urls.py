"""URLs that stand for a checker: ``scheme://VALUE?name=value``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from gatekeeper.errors import ConfigurationError, Problem


class CheckerUrl(NamedTuple):
    """What stands between ``://`` and ``?``, and the parameters; percent-decoded."""

    value: str
    parameters: Mapping[str, str]


def parse_checker_url(
    url: str, parameters: Collection[str], value: str | None = None
) -> CheckerUrl:
    """Read a URL that may have ``parameters``, each once.

    ``value`` says what the value is for (``the secret``); it must be there then, and must not be
    otherwise.

    :raises ConfigurationError: without the URL's text, which may hold a secret.
    """
    scheme, _, rest = url.partition("://")
    raw_value, _, query = rest.partition("?")
    scheme = scheme.lower()
    if value is None and raw_value:
        raise _problem(f"nothing may stand between `{scheme}://` and `?`")
    if value is not None and not raw_value:
        raise _problem(f"{value} is missing behind `{scheme}://`")
    if any(character in "/#@" for character in raw_value) or "#" in query:
        # Other programs end the value at these: refused, rather than read in two ways.
        raise _problem("write `/` as `%2F`, `#` as `%23` and `@` as `%40`")
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), errors="strict"
        )
        decoded = unquote(raw_value, errors="strict")
    except ValueError:
        raise _problem("the URL is malformed") from None
    known = ", ".join(parameters) or "none"
    found: dict[str, str] = {}
    for name, text in pairs:
        if name not in parameters:
            raise _problem(f"`{scheme}://` has an unknown parameter; it knows: {known}")
        if name in found:
            raise _problem(f"`{name}` is given twice")
        found[name] = text
    for text in (decoded, *found.values()):
        if not text.isprintable() or text != text.strip():
            raise _problem("a value has a control character, or a blank at its beginning or end")
    return CheckerUrl(decoded, found)


def _problem(message: str) -> ConfigurationError:
    return ConfigurationError([Problem("", message)])
