"""Every answer that we make ourselves: status, challenge, problem document (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from gatekeeper.auth.interfaces import Deny
from gatekeeper.errors import Refusal
from gatekeeper.http.fields import Fields, list_members

_PHRASES: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


class Reply(NamedTuple):
    """An answer of ours: what the codec writes. ``detail`` is the sentence in it."""

    status: int
    phrase: bytes
    fields: Fields
    body: bytes
    detail: str = ""


def phrase(status: int) -> bytes:
    """The reason phrase of a status (RFC 9110, 15)."""
    return _PHRASES.get(status, b"")


def unauthorized(deny: Deny, challenges: Sequence[bytes], *, proxy: bool) -> Refusal:
    """What a Deny becomes: 401 (407 on the forward proxy) with challenges, or 403.

    A 401 needs a challenge (RFC 9110, 15.5.2): without one it is a 403, too.
    A token that is no good is named as such in the Bearer challenge (RFC 6750, 3); so are scopes
    that do not suffice, the one challenge that goes with a 403.
    """
    denied = 403 if deny.status == 401 and not challenges else deny.status
    status = 407 if proxy and denied == 401 else denied
    name = b"proxy-authenticate" if proxy else b"www-authenticate"
    fields = tuple(
        (name, _with_error(challenge, deny.error))
        for challenge in challenges
        if denied == 401 or (deny.error and _is_bearer(challenge))
    )
    return Refusal(deny.reason, deny.detail, status=status, fields=fields, told=deny.told)


def _is_bearer(challenge: bytes) -> bool:
    return challenge[:6].lower() == b"bearer"


def _with_error(challenge: bytes, error: str) -> bytes:
    if not error or not _is_bearer(challenge):
        return challenge
    separator = b", " if b"=" in challenge else b" "
    return b'%b%berror="%b"' % (challenge, separator, error.encode("ascii"))


def make_reply(refusal: Refusal, accept: Sequence[bytes], request_id: bytes = b"") -> Reply:
    """The answer to a refused request, as plain text where the client asks for text.

    ``accept`` are the values of the request's Accept fields.
    """
    status = refusal.status
    title = phrase(status)
    if _wants_text(accept):
        content_type = b"text/plain; charset=utf-8"
        body = b"%d %b: %b\n" % (status, title, refusal.detail.encode("utf-8"))
    else:
        content_type = b"application/problem+json"
        document = {
            "type": "about:blank",
            "title": title.decode("ascii"),
            "status": status,
            "detail": refusal.detail,
            "reason": refusal.told,
            **refusal.members,
        }
        if request_id:
            document["request_id"] = request_id.decode("ascii")
        body = json.dumps(document).encode("utf-8") + b"\n"
    fields = [
        (b"content-type", content_type),
        (b"cache-control", b"no-store"),
        *refusal.fields,
    ]
    return Reply(status, title, fields, body, refusal.detail)


def _wants_text(accept: Sequence[bytes]) -> bool:
    for member in list_members(accept):
        media_type = member.partition(b";")[0].strip()
        if media_type in (b"application/problem+json", b"application/json"):
            return False
        if media_type.startswith(b"text/"):
            return True
    return False
