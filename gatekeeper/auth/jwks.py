"""Public keys as a JSON Web Key Set (RFC 7517), from a file or a URL, kept up to date."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gatekeeper.auth.flight import SingleFlight
from gatekeeper.auth.http_client import Answer, Asks, HttpError
from gatekeeper.auth.jose import load_object
from gatekeeper.errors import ConfigurationError, Problem

PublicKey: TypeAlias = RSAKey | ECKey | OKPKey

#: Bytes of a key set, and keys in it.
MAX_SIZE: Final = 262144
_MAX_KEYS: Final = 100
#: Keys that may be tried for one token.
_TRIED: Final = 4
_RSA_BITS: Final = range(2048, 8193)

#: What each sort of key can verify (RFC 7518, 3.1; RFC 8037; RFC 9864). HMAC is not among it.
_ALGORITHMS: Final = {
    ("RSA", None): frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA", "Ed25519"}),
}
#: The members of a public key. A private key's others are not even looked at.
_MEMBERS: Final = ("kty", "n", "e", "crv", "x", "y")

#: Seconds between two refreshes, and before the first tries where there are no keys yet.
_BETWEEN: Final = 30.0
_FIRST: Final = 1.0


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One key of a set, and the algorithms that it is for."""

    kid: str | None
    algorithms: frozenset[str]
    key: PublicKey


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of a set. ``source`` tells whether another one is the same."""

    keys: tuple[VerificationKey, ...]
    source: bytes

    def find(self, kid: str | None, algorithm: str) -> tuple[PublicKey, ...]:
        """The keys that a token with this header may have been signed with; few."""
        found = [
            each.key
            for each in self.keys
            if algorithm in each.algorithms and (kid is None or each.kid == kid)
        ]
        # A token that does not say which of many is not worth the trouble.
        return tuple(found) if len(found) <= _TRIED else ()


def parse_key_set(data: bytes) -> KeySet:
    """The keys that can verify signatures; others are left out (RFC 7517, section 5).

    :raises ValueError: it is no key set, is too large, or holds no such key.
    """
    if len(data) > MAX_SIZE:
        raise ValueError(f"is larger than {MAX_SIZE} bytes")
    try:
        members = load_object(data).get("keys")
    except ValueError:
        raise ValueError("is no JSON object") from None
    if not isinstance(members, list):
        raise ValueError("has no list `keys`")
    if len(members) > _MAX_KEYS:
        raise ValueError(f"has more than {_MAX_KEYS} keys")
    keys = tuple(key for member in members if (key := _read_key(member)) is not None)
    if not keys:
        raise ValueError("holds no key that can verify signatures")
    return KeySet(keys, data)


def _read_key(member: Any) -> VerificationKey | None:
    if not isinstance(member, dict) or member.get("use", "sig") != "sig":
        return None
    operations = member.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return None
    kty, kid, algorithm = member.get("kty"), member.get("kid"), member.get("alg")
    curve = None if kty == "RSA" else member.get("crv")
    if not isinstance(kty, str) or not isinstance(curve, str | None):
        return None
    algorithms = _ALGORITHMS.get((kty, curve), frozenset())
    if algorithm is not None:
        algorithms &= {algorithm} if isinstance(algorithm, str) else frozenset()
    if not algorithms or not isinstance(kid, str | None):
        return None
    try:
        key = _import(kty, {name: member[name] for name in _MEMBERS if name in member})
    except (JoseError, ValueError, TypeError):
        return None
    return None if key is None else VerificationKey(kid, algorithms, key)


def _import(kty: str, members: Mapping[str, Any]) -> PublicKey | None:
    if kty == "EC":
        return ECKey.import_key(dict(members))
    if kty == "OKP":
        return OKPKey.import_key(dict(members))
    key = RSAKey.import_key(dict(members))
    return key if key.raw_value.key_size in _RSA_BITS else None


class Keys(Protocol):
    """Where a checker finds keys."""

    def find(
        self, kid: str | None, algorithm: str
    ) -> tuple[PublicKey, ...] | Deferred[tuple[PublicKey, ...]]:
        """See :meth:`KeySet.find`; fails with :class:`HttpError` where it cannot be told now."""

    def reload(self) -> bool:
        """Look whether there are others; True where they have changed since the last call."""

    def close(self) -> None:
        """Give back what is held."""


class FileKeys:
    """The keys in a file, read again when it changes; a file that cannot be used changes nothing.

    :raises ConfigurationError: the file cannot be used, as it is now; the path is ``jwks``.
    """

    _log = Logger()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: object = None
        self._complaint = ""
        try:
            self._keys = self._read()
        except (OSError, ValueError) as error:
            raise ConfigurationError([Problem("jwks", self._problem(error))]) from None

    def find(self, kid: str | None, algorithm: str) -> tuple[PublicKey, ...]:
        """See :class:`Keys`."""
        return self._keys.find(kid, algorithm)

    def reload(self) -> bool:
        """See :class:`Keys`."""
        try:
            keys = self._keys if self._signature() == self._seen else self._read()
        except (OSError, ValueError) as error:
            complaint = self._problem(error)
            if complaint != self._complaint:
                self._complaint = complaint
                self._log.error("The keys stay as they are: {problem}", problem=complaint)
            return False
        self._complaint = ""
        changed, self._keys = keys.source != self._keys.source, keys
        return changed

    def close(self) -> None:
        """See :class:`Keys`."""

    def _read(self) -> KeySet:
        # Looked at before it is read: a later change is seen next time.
        seen = self._signature()
        with self._path.open("rb") as file:
            keys = parse_key_set(file.read(MAX_SIZE + 1))
        self._seen = seen
        return keys

    def _signature(self) -> object:
        status = self._path.stat()
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def _problem(self, error: OSError | ValueError) -> str:
        if isinstance(error, OSError):
            return f"{self._path} cannot be read: {error.strerror}"
        return f"{self._path} {error}"


class UrlKeys:
    """The keys at a URL, fetched in the background.

    They are fetched every ``refresh`` seconds, and once more where a token names an unknown key,
    but not more often than every 30 s. While the URL does not answer the old keys stay in force,
    up to ``stale`` seconds.

    :param refresh: seconds between two looks.
    :param stale: seconds that keys are believed which cannot be looked at again.
    :param monotonic: seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        url: str,
        http: Asks,
        refresh: float,
        stale: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._http = http
        self._refresh_after = refresh
        self._stale_after = stale
        self._monotonic = monotonic
        self._keys: KeySet | None = None
        self._fetched = -inf
        self._not_before = -inf
        self._failures = 0
        self._changed = False
        self._flights: SingleFlight[None, None] = SingleFlight()

    def find(
        self, kid: str | None, algorithm: str
    ) -> tuple[PublicKey, ...] | Deferred[tuple[PublicKey, ...]]:
        """See :class:`Keys`."""
        keys = self._believed()
        found = keys.find(kid, algorithm) if keys is not None else ()
        if found:
            return found
        refreshed = self._refresh()
        if refreshed is None:
            return self._find_now(None, kid, algorithm)
        return refreshed.addCallback(self._find_now, kid, algorithm)

    def reload(self) -> bool:
        """See :class:`Keys`; begins to fetch them where it is time."""
        if self._monotonic() >= self._fetched + self._refresh_after:
            self._refresh()
        changed, self._changed = self._changed, False
        return changed

    def close(self) -> None:
        """See :class:`Keys`."""
        self._http.close()

    def _find_now(self, _: None, kid: str | None, algorithm: str) -> tuple[PublicKey, ...]:
        keys = self._believed()
        found = keys.find(kid, algorithm) if keys is not None else ()
        # Without an answer nobody knows whether it is an unknown key or a new one.
        if not found and (keys is None or self._failures):
            raise HttpError("the keys could not be fetched")
        return found

    def _believed(self) -> KeySet | None:
        if self._monotonic() >= self._fetched + self._stale_after:
            self._changed = self._changed or self._keys is not None
            self._keys = None
        return self._keys

    def _refresh(self) -> Deferred[None] | None:
        """Fetch the keys, or wait until they are fetched; None where it is too soon.

        The Deferred does not fail.
        """
        running = self._flights.join(None)
        if running is not None:
            return running
        if self._monotonic() < self._not_before:
            return None
        asked = self._http.ask(
            "GET", self._url, _read, fields={b"Accept": b"application/json"}
        ).addCallbacks(self._took, self._missed)
        return self._flights.lead(None, asked)

    def _took(self, keys: KeySet) -> None:
        self._changed = self._changed or self._keys is None or keys.source != self._keys.source
        self._keys = keys
        self._failures = 0
        self._fetched = self._monotonic()
        self._not_before = self._fetched + _BETWEEN

    def _missed(self, failure: Failure) -> None:
        failure.trap(HttpError)
        patience = _BETWEEN if self._keys else min(_BETWEEN, _FIRST * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        self._not_before = self._monotonic() + patience


def _read(answer: Answer) -> KeySet:
    if answer.status != 200:
        raise HttpError(f"the server answered with {answer.status}")
    try:
        return parse_key_set(answer.body)
    except ValueError as error:
        raise HttpError(f"the key set {error}") from None
