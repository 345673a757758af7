"""What zones ask of Redis, in their words; see `redis_scripts` for what is kept there.

All methods raise :class:`TokenCacheError` where Redis cannot be reached, is silent for `PATIENCE`,
or refuses. What was to be changed may have been, then.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, ParamSpec, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from gatekeeper.auth.redis_scripts import BEGIN, CLEAR, ENTRY, MERGE, Keys
from gatekeeper.auth.token_cache import TokenCacheError

#: Seconds that Redis may take for anything.
PATIENCE: Final = 2.0

_PAGE: Final = 1000
_WILD: Final = str.maketrans({each: f"\\{each}" for each in "*?[]\\"})

P = ParamSpec("P")
T = TypeVar("T")

#: One entry of a stream: its id, and its fields.
Change: TypeAlias = tuple[str, Mapping[str, str]]


class Found(NamedTuple):
    """An entry as it was: None where there was none, the seconds that it had left; see `ENTRY`."""

    value: str | None
    left: float
    change: int


class Past(NamedTuple):
    """Where a history stands; see `BEGIN`. ``now`` is in milliseconds of Redis's clock."""

    history: str
    change: int
    last: str
    now: int


class RedisCommands:
    """A pool of connections to the Redis that ``url`` names. To be made when the loop runs.

    :param ca_file: PEM file of the authorities that a ``rediss://`` is verified with; the
        system's if ``None``.
    """

    def __init__(self, url: str, ca_file: str | None) -> None:
        parts = urlsplit(url)
        options: dict[str, Any] = {}
        if parts.scheme == "rediss":
            options = {
                "ssl": True,
                "ssl_ca_certs": ca_file,
                "ssl_check_hostname": True,
                "ssl_min_version": ssl.TLSVersion.TLSv1_2,
            }
        self._redis: Any = Redis(  # its annotations are those of all its modes at once
            host=parts.hostname or "",
            port=parts.port or 6379,
            db=int(parts.path.strip("/") or 0),
            username=unquote(parts.username or "") or None,
            password=unquote(parts.password or "") or None,
            protocol=3,
            legacy_responses=False,
            decode_responses=True,
            encoding_errors="backslashreplace",
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),
            client_name="gatekeeper",
            driver_info=None,
            **options,
        )
        self._scripts = {
            script: self._redis.register_script(script) for script in (BEGIN, CLEAR, ENTRY, MERGE)
        }

    async def hang_up(self) -> None:
        """Close the connections that nobody uses now; there will be new ones."""
        await _asked(self._redis.connection_pool.disconnect, inuse_connections=False)

    async def close(self) -> None:
        """Close all connections."""
        await _asked(self._redis.aclose)

    # --- the history ----------------------------------------------------------------------

    async def begin(self, keys: Keys, candidate: str, history: str, change: int) -> Past:
        """Ask where a zone's history stands. The parameters are those of `BEGIN`."""
        said = await self._run(BEGIN, [keys.changes, keys.history], candidate, history, change)
        return Past(str(said[0]), int(said[1]), str(said[2]), int(said[3]))

    async def changes(self, since: Mapping[str, str], wait: float) -> dict[str, list[Change]]:
        """Read what is in streams after these entries; wait so many seconds for the first one."""
        return dict(
            await _asked(
                self._redis.xread, dict(since), count=_PAGE, block=max(1, int(wait * 1000))
            )
        )

    async def histories(self, zones: Sequence[Keys]) -> list[tuple[str, int]]:
        """Where the zones' histories stand: their ids, '' where there is none, and last changes."""
        pipeline = self._redis.pipeline(transaction=False)
        for keys in zones:
            pipeline.hmget(keys.history, "id", "n")
        return [(name or "", int(n or 0)) for name, n in await _asked(pipeline.execute)]

    # --- who is shut out ------------------------------------------------------------------

    async def revoked(self, keys: Keys) -> AsyncIterator[tuple[str, float]]:
        """Keys that are shut out, with their ends in milliseconds of Redis's clock.

        What is changed meanwhile may be among them, and may not; a key may come twice.
        """
        cursor = -1
        while cursor:
            cursor, page = await _asked(
                self._redis.zscan, keys.revoked, max(cursor, 0), count=_PAGE
            )
            for key, end in page:
                yield str(key), float(end)

    async def merge(self, keys: Keys, revoked: Mapping[str, float]) -> None:
        """Add revocations: keys with the seconds that they are to be shut out for."""
        pairs = iter(revoked.items())
        while page := list(islice(pairs, _PAGE)):
            lives = [part for key, seconds in page for part in (key, _milliseconds(seconds))]
            await self._run(MERGE, [keys.revoked, keys.changes, keys.history], *lives)

    # --- entries --------------------------------------------------------------------------

    async def entry(
        self, keys: Keys, what: str, key: str, value: str = "", ttl: float = 0.0, most: int = 0
    ) -> Found:
        """Read or change one entry, as `ENTRY` says."""
        names = [keys.tokens + key, keys.revoked, keys.changes, keys.history, keys.asking + key]
        found, left, change = await self._run(
            ENTRY, names, what, key, value, _milliseconds(ttl), most
        )
        return Found(found, max(0.0, left / 1000), int(change))

    async def tokens(self, keys: Keys) -> AsyncIterator[dict[str, str]]:
        """All tokens, some at a time, by their keys; one may come twice."""
        async for page in self._names(keys):
            values = await _asked(self._redis.mget, page)
            yield {
                name.removeprefix(keys.tokens): value
                for name, value in zip(page, values, strict=True)
                if value is not None
            }

    async def clear(self, keys: Keys) -> int:
        """Remove all entries. Gives the number of the change."""
        async for page in self._names(keys):
            await _asked(self._redis.unlink, *page)
        return int(await self._run(CLEAR, [keys.revoked, keys.changes, keys.history]))

    async def _names(self, keys: Keys) -> AsyncIterator[list[str]]:
        pattern = keys.tokens.translate(_WILD) + "*"
        cursor = -1
        while cursor:
            cursor, page = await _asked(
                self._redis.scan, max(cursor, 0), match=pattern, count=_PAGE
            )
            if page:
                yield page

    async def _run(self, script: str, keys: list[str], *arguments: str | int) -> Any:
        return await _asked(self._scripts[script], keys, arguments)


async def _asked(command: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return await command(*args, **kwargs)
    except ResponseError as error:
        raise TokenCacheError(f"Redis refuses: {error}") from error
    except (RedisError, OSError, ValueError) as error:
        raise TokenCacheError(str(error) or type(error).__name__) from error


def order(number: str) -> tuple[int, int]:
    """What a stream's entries are in order of, from the id of one."""
    time, _, count = number.partition("-")
    return int(time), int(count or 0)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
