"""What a Nevermined marketplace knows of a service: its DDO (the document behind a DID).

``GET {marketplace_url}/api/v1/metadata/assets/ddo/{did}``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred

from gatekeeper.auth.answer_cache import AnswerCache
from gatekeeper.auth.http_client import Answer, Asks, HttpError
from gatekeeper.auth.jose import load_object
from gatekeeper.auth.url_patterns import MAX_PATTERNS, UrlPattern, compile_usable

T = TypeVar("T")

#: Of a document, in bytes.
MAX_DOCUMENT: Final = 1 << 20
#: A document that is not there may be soon: seconds that its absence is believed.
MISSING_TTL: Final = 30.0

_PATH: Final = "/api/v1/metadata/assets/ddo/"
_ABSENT: Final = frozenset({404, 410})

# 256 bits are 50 digits of base 36 at the most. An id is a digest: it does not begin with as many
# zeros as would make it shorter than 32 digits, and so `www` is not taken for one.
_ENCODED_ID: Final = re.compile(r"[1-9a-z][0-9a-z]{31,49}")


def decode_did(label: str) -> str | None:
    """The DID that a host name's label stands for: its id in base 36; None where it is none.

    The id is written with all of its 64 hex digits, zeros at the beginning as well.
    """
    if not _ENCODED_ID.fullmatch(label):
        return None
    number = int(label, 36)
    return f"did:nv:{number:064x}" if number < 1 << 256 else None


@dataclass(frozen=True, slots=True)
class Ddo:
    """A service's document, as far as it matters here.

    ``owner`` is an address, empty where there is none. ``open_urls`` need no token.
    """

    did: str
    owner: str
    open_urls: tuple[UrlPattern, ...]


class Marketplace:
    """A marketplace that is asked for documents.

    :param url: the marketplace's, with or without a ``/`` at the end.
    :param client: what asks.
    """

    def __init__(self, url: str, client: Asks) -> None:
        self._url = url.rstrip("/") + _PATH
        self._client = client

    def __repr__(self) -> str:
        return f"<Marketplace {self._url!r}>"

    def ask(self, did: str, read: Callable[[Answer], T], client: str = "") -> Deferred[T]:
        """What ``read`` makes of the answer about a DID (in lower case): see :func:`read_document`.

        ``client`` is the address of whoever it is for. The Deferred fails with
        :class:`~gatekeeper.auth.http_client.HttpError` where the marketplace does not say.
        """
        fields = {b"accept": b"application/json"}
        return self._client.ask("GET", self._url + did, read, fields=fields, client=client)

    def close(self) -> None:
        """Keep no connection."""
        self._client.close()


class MetadataClient:
    """Asks a marketplace, and remembers what it said.

    :param url: the marketplace's, with or without a ``/`` at the end.
    :param client: what asks.
    :param ttl: seconds that a document is believed.
    :param size: documents kept; what was not asked for the longest goes first.
    :param monotonic: seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        url: str,
        client: Asks,
        ttl: float = 300.0,
        size: int = 1000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        def ttl_of(found: Ddo | None) -> float:
            return min(ttl, MISSING_TTL) if found is None else ttl

        self._marketplace = Marketplace(url, client)
        self._cache: AnswerCache[str, Ddo | None] = AnswerCache(ttl_of, size, monotonic)

    def __repr__(self) -> str:
        return f"<MetadataClient of {self._marketplace!r}: {len(self._cache)} known>"

    def find(self, did: str, client: str = "") -> Deferred[Ddo | None]:
        """The document of a DID (in lower case), None where there is none.

        ``client`` is the address of whoever it is for. The Deferred fails with
        :class:`~gatekeeper.auth.http_client.HttpError` where the marketplace does not say.
        """

        def ask() -> Deferred[Ddo | None]:
            return self._marketplace.ask(did, lambda answer: read_answer(answer, did), client)

        return self._cache.find(did, ask)

    def close(self) -> None:
        """Keep no connection."""
        self._marketplace.close()


def read_document(answer: Answer, did: str) -> dict[str, Any] | None:
    """The document in a marketplace's answer about ``did``; None: it says that there is none.

    :raises HttpError: it is no such answer.
    """
    if answer.status in _ABSENT:
        return None
    if answer.status != 200:
        raise HttpError(f"the answer is {answer.status}")
    try:
        document = load_object(answer.body)
    except ValueError as error:
        raise HttpError(f"the answer is no document: {error}") from None
    if str(document.get("id", did)).lower() != did:
        raise HttpError("the answer is another document")
    return document


def read_answer(answer: Answer, did: str) -> Ddo | None:
    """What matters here of the document in an answer: see :func:`read_document`."""
    document = read_document(answer, did)
    return None if document is None else Ddo(did, _owner(document), _open_urls(document))


def service_of(document: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The first entry under ``service`` of this type; empty where there is none."""
    services = document.get("service")
    for service in services if isinstance(services, list) else ():
        if isinstance(service, dict) and service.get("type") == kind:
            return service
    return {}


def _inside(document: Any, *steps: str) -> Any:
    for step in steps:
        document = document.get(step) if isinstance(document, dict) else None
    return document


def _owner(document: Mapping[str, Any]) -> str:
    """Who made the document, or else whose key is the first in it."""
    keys = document.get("publicKey")
    first = keys[0] if isinstance(keys, list) and keys else None
    for owner in (_inside(document, "proof", "creator"), _inside(first, "owner")):
        if isinstance(owner, str) and re.fullmatch(r"[!-~]{1,128}", owner):
            return owner
    return ""


def _open_urls(document: Mapping[str, Any]) -> tuple[UrlPattern, ...]:
    metadata = service_of(document, "metadata")
    found = _inside(metadata, "attributes", "main", "webService", "openEndpoints")
    urls = found if isinstance(found, list) else []
    return compile_usable(url for url in urls[:MAX_PATTERNS] if isinstance(url, str))
