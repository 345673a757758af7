"""From ``[cache]`` to token caches."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from gatekeeper.auth.revocation_file import RevocationFile
from gatekeeper.auth.token_cache import ITokenCache, MemoryTokenCache
from gatekeeper.auth.token_entries import Entries
from gatekeeper.config.model import Cache
from gatekeeper.errors import ConfigurationError, Problem


def token_cache_maker(settings: Cache, state_dir: Path) -> Callable[[str, float], ITokenCache]:
    """Give what makes a zone from its name and ``ttl``. All those of one maker share one link.

    :raises ConfigurationError: packages are missing, or ``ca_file`` cannot be used.
    """

    def file(zone: str) -> RevocationFile:
        return RevocationFile(state_dir / f"revoked-{zone}.jsonl")

    if settings.url.startswith("memory:"):
        return lambda zone, ttl: MemoryTokenCache(ttl, file=file(zone))
    try:
        from gatekeeper.auth.redis_cache import RedisTokenCache
        from gatekeeper.auth.redis_copy import RedisCopy
        from gatekeeper.auth.redis_link import RedisLink
        from gatekeeper.auth.redis_mark import Mark
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "redis":
            raise
        message = "Redis needs another package: pip install gatekeeper[redis]"
        raise ConfigurationError([Problem("cache.url", message)]) from None
    if settings.ca_file is not None:
        try:
            ssl.create_default_context(cafile=settings.ca_file)
        except ssl.SSLError:
            problem = Problem("cache.ca_file", "has no certificates in it")
            raise ConfigurationError([problem]) from None
        except OSError as error:
            message = f"cannot be read: {error.strerror}"
            raise ConfigurationError([Problem("cache.ca_file", message)]) from None
    link = RedisLink(settings.url, None if settings.ca_file is None else str(settings.ca_file))

    def make(zone: str, ttl: float) -> ITokenCache:
        entries, mark = Entries(ttl, file=file(zone)), Mark(state_dir / f"revoked-{zone}.mark")
        copy = RedisCopy(zone, link, entries, mark)
        return RedisTokenCache(copy, serve=settings.on_outage == "serve")

    return make
