"""What a zone is in Redis, and the scripts that change it, each one whole or not at all.

The keys of the zone ``tokens`` are

``gatekeeper:tokens:token:KEY``
    the token of one key, a string that lives as long as the entry;
``gatekeeper:tokens:revoked``
    the keys that are shut out, a sorted set; scores are their ends, in milliseconds of Redis's
    clock;
``gatekeeper:tokens:changes``
    what was changed in the last minute, a stream, which every process follows: ``revoked`` with
    ``for`` (milliseconds), ``forgotten`` (another value, or none), ``cleared``, ``merged``; and the
    number ``n`` of the change, which goes up by one, so that nobody misses one unnoticed;
``gatekeeper:tokens:asking:KEY``
    the process that is asking for a token which there is none of, a string that lives as long as
    that may take;
``gatekeeper:tokens:history``
    a hash with the last ``n``, and a random ``id`` that is another one when Redis has lost what it
    knew.

A token that is added where there was none is no change: nobody holds anything that is wrong then.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_COMMON: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function tell(changes, history, ...)
  local n = redis.call('HINCRBY', history, 'n', 1)
  redis.call('XADD', changes, 'MAXLEN', '~', 1000, '*', 'n', n, ...)
  redis.call('PEXPIRE', changes, 60000)
  return n
end
local function keep_until_the_last_has_ended(revoked)
  local last = redis.call('ZRANGE', revoked, -1, -1, 'WITHSCORES')
  if last[2] then redis.call('PEXPIREAT', revoked, last[2]) end
end
"""

#: KEYS token revoked changes history asking; ARGV what key value life most. Gives what was found
#: (nil: nothing), the milliseconds that it had left, and the number of the change (0: nothing was
#: changed that others must know; -1: nothing was changed, for there are too many revocations; -2:
#: another process is asking). Of those who ask, value is the process.
ENTRY: Final = (
    _COMMON
    + """
local token, revoked, changes, history, asking = unpack(KEYS)
local what, key, value, life, most = unpack(ARGV)
if what == 'release' then
  if redis.call('GET', asking) == value then redis.call('DEL', asking) end
  return {false, 0, 0}
end
local ends = tonumber(redis.call('ZSCORE', revoked, key) or 0)
local found, left
if ends > now then
  found, left = '0', ends - now
else
  found = redis.call('GET', token)
  left = found and redis.call('PTTL', token) or 0
end
if what == 'get' or ((what == 'add' or what == 'claim') and found) then
  return {found, left, 0}
end
if what == 'claim' then
  local other = redis.call('GET', asking)
  if other and other ~= value then return {false, 0, -2} end
  redis.call('SET', asking, value, 'PX', life)
  return {false, 0, 0}
end
if (what == 'replace' or what == 'delete') and not found then return {found, 0, 0} end

local n = 0
if what == 'delete' then
  redis.call('DEL', token)
  redis.call('ZREM', revoked, key)
  n = tell(changes, history, 'forgotten', key)
elseif value == '0' then
  -- Comes first: a Redis that is out of memory lets the rest of a script pass that has freed some.
  redis.call('ZREMRANGEBYSCORE', revoked, '-inf', now)
  if ends <= now and redis.call('ZCARD', revoked) >= tonumber(most) then
    return {found, left, -1}
  end
  redis.call('ZADD', revoked, now + life, key)
  keep_until_the_last_has_ended(revoked)
  redis.call('DEL', token)
  n = tell(changes, history, 'revoked', key, 'for', life)
else
  redis.call('SET', token, value, 'PX', life)
  redis.call('ZREM', revoked, key)
  redis.call('DEL', asking)
  if found then n = tell(changes, history, 'forgotten', key) end
end
return {found, left, n}
"""
)

#: KEYS changes history; ARGV a new id, and the id and ``n`` that the caller knows. Gives the id,
#: the last ``n``, the stream's last entry and the time. An ``n`` that has been higher is a past
#: that was restored: it is another history.
BEGIN: Final = (
    _COMMON
    + """
local changes, history = unpack(KEYS)
local id = redis.call('HGET', history, 'id')
local n = tonumber(redis.call('HGET', history, 'n') or 0)
if not id or (id == ARGV[2] and n < tonumber(ARGV[3])) then
  id = ARGV[1]
  redis.call('HSET', history, 'id', id, 'n', n)
end
local last = redis.call('XREVRANGE', changes, '+', '-', 'COUNT', 1)[1]
return {id, n, last and last[1] or '0-0', now}
"""
)

#: KEYS revoked changes history; ARGV keys, each with the milliseconds that it is shut out for.
MERGE: Final = (
    _COMMON
    + """
local revoked, changes, history = unpack(KEYS)
for i = 1, #ARGV, 2 do redis.call('ZADD', revoked, 'GT', now + ARGV[i + 1], ARGV[i]) end
keep_until_the_last_has_ended(revoked)
return tell(changes, history, 'merged', '')
"""
)

#: KEYS revoked changes history. Tokens are deleted before. Gives the number of the change.
CLEAR: Final = (
    _COMMON
    + """
local revoked, changes, history = unpack(KEYS)
redis.call('DEL', revoked)
return tell(changes, history, 'cleared', '')
"""
)


class Keys(NamedTuple):
    """The names of one zone's keys."""

    tokens: str
    revoked: str
    changes: str
    history: str
    asking: str

    @classmethod
    def of(cls, zone: str) -> Keys:
        """Those of a zone: its name has no ``:`` in it."""
        root = f"gatekeeper:{zone}"
        return cls(
            f"{root}:token:",
            f"{root}:revoked",
            f"{root}:changes",
            f"{root}:history",
            f"{root}:asking:",
        )
