"""The URL in ``[cache]``."""

from __future__ import annotations

import re
from typing import Final

from gatekeeper.config.values import parse_host, parse_port, split_authority

# RFC 3986, 3.2.1. Two parsers may read anything else differently.
_USER: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})+")
_DATABASE: Final = re.compile(r"/?|/[0-9]{1,5}")


def check_cache_url(text: str) -> str:
    """``memory://`` or ``redis://[user:password@]host[:port][/database]``, as it is.

    :raises ValueError: without the text, which may hold a password.
    """
    if text == "memory://":
        return text
    scheme, _, rest = text.partition("://")
    if scheme not in ("redis", "rediss"):
        raise ValueError("must be `memory://`, or begin with `redis://` or `rediss://`")
    if "?" in rest or "#" in rest:  # among the parameters are such that let certificates go
        raise ValueError("must not have parameters; write `?` as `%3F` and `#` as `%23`")
    user, at, place = rest.rpartition("@")
    authority, slash, path = place.partition("/")
    if at and not _USER.fullmatch(user):
        raise ValueError("write `/` in user and password as `%2F`, and the like")
    host, port = split_authority(authority)
    if not host:
        raise ValueError("must be `redis://user:password@host:port/database`")
    parse_host(host)
    if port is not None:
        parse_port(port)
    if not _DATABASE.fullmatch(slash + path):
        raise ValueError("the database must be a number: `redis://host:port/0`")
    return text
