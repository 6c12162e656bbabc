"""What Redis does in one go: Lua scripts, with Redis' own clock in milliseconds.

    presence:person:<user>  hash, forgotten some weeks after its person was last heard of:
        l<3 digits: bytes of process><process><device>   when that lease runs out
        a<device>               away; until then remembered without a lease
        seen                    when they were last active
        shown, told             what everybody was told last and when (?: nobody knows; empty: tell anew)
        claim, turn             until when somebody is telling a change, and its number
    presence:due            sorted set: who is to be looked at, and when
    presence:set:<caller>:<request_id>   hash: the answer to one SetPresence

Whoever is there is due at the time when their next lease runs out; a renewal need not move that, since who is
looked at too early is put off. Whatever may have changed somebody makes them due at once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

PERSON = "presence:person:"
DUE = "presence:due"
SET = "presence:set:"

_CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local person = 'presence:person:'
local function due_at(when, user) redis.call('ZADD', KEYS[1], 'LT', when, user) end
"""

_DOUBT = """
-- After a change of preferences even the invisible are told of, so that is not forgotten.
local function doubt(key, shown) if shown ~= '' then redis.call('HSET', key, 'shown', '?') end end
"""

_LOOK = """
-- How somebody is, what else is known of them, when that changes by itself, and what of it has run out.
local function look(user)
  local found = redis.call('HGETALL', person .. user)
  local known, leases, away = {}, {}, {}
  for i = 1, #found, 2 do
    local name, value = found[i], found[i + 1]
    local kind = string.sub(name, 1, 1)
    if kind == 'l' then
      local device = string.sub(name, 5 + tonumber(string.sub(name, 2, 4)))
      leases[#leases + 1] = {name, device, tonumber(value)}
    elseif kind == 'a' then
      away[string.sub(name, 2)] = tonumber(value)
    else
      known[name] = value
    end
  end
  local status, soonest, gone, live = 'offline', nil, {}, {}
  local function counts_until(field, when)
    if when <= now then gone[#gone + 1] = field
    elseif not soonest or when < soonest then soonest = when end
    return when > now
  end
  for _, lease in ipairs(leases) do
    if counts_until(lease[1], lease[3]) then
      live[lease[2]] = true
      if not away[lease[2]] then status = 'online' elseif status == 'offline' then status = 'away' end
    end
  end
  for device, when in pairs(away) do
    if not live[device] then counts_until('a' .. device, when) end
  end
  known.exists, known.status, known.soonest, known.gone, known.live = #found > 0, status, soonest, gone, live
  return known
end
"""

# KEYS: due. ARGV: how long it holds, how long people are remembered, process, then user and device of each.
# Answers how many are new.
_RENEW = """
local ends, new = now + ARGV[1], 0
local stem = 'l' .. string.format('%03d', #ARGV[3]) .. ARGV[3]
for i = 4, #ARGV, 2 do
  local key, field = person .. ARGV[i], stem .. ARGV[i + 1]
  local had = redis.call('HMGET', key, field, 'a' .. ARGV[i + 1])
  redis.call('HSET', key, field, ends)
  if not had[2] then redis.call('HSET', key, 'seen', now) end
  redis.call('PEXPIRE', key, ARGV[2])
  if had[1] then
    redis.call('ZADD', KEYS[1], 'NX', ends, ARGV[i])
  else
    new = new + 1
    due_at(now, ARGV[i])
  end
end
return new
"""

# KEYS: due. ARGV: how long it lingers, how long people are remembered, process, then user and device of each.
_END = """
local ends = now + ARGV[1]
local stem = 'l' .. string.format('%03d', #ARGV[3]) .. ARGV[3]
for i = 4, #ARGV, 2 do
  local key, field = person .. ARGV[i], stem .. ARGV[i + 1]
  local had = redis.call('HMGET', key, field, 'a' .. ARGV[i + 1])
  if had[1] and tonumber(had[1]) > now then
    redis.call('HSET', key, field, math.min(ends, tonumber(had[1])))
    if not had[2] then redis.call('HSET', key, 'seen', now) end
    due_at(ends, ARGV[i])
  elseif redis.call('EXISTS', key) == 0 then
    -- Forgotten meanwhile: others have not been told that they are gone.
    redis.call('HSET', key, 'seen', now, 'shown', 'online')
    redis.call('PEXPIRE', key, ARGV[2])
    due_at(ends, ARGV[i])
  end
end
return 0
"""

# KEYS: due. ARGV: how many, the shortest time between two changes of a person, how long a claim holds.
# Answers how many were looked at, in how many milliseconds the next is due (-1: nobody is), then for each
# change that is now the caller's to tell: user, status, seen, what stands in `shown`, turn.
_SWEEP = """
local answer = {0, -1}
for _, user in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  answer[1] = answer[1] + 1
  local key, one = person .. user, look(user)
  local function again_at(when) redis.call('ZADD', KEYS[1], when, user) end
  for _, field in ipairs(one.gone) do redis.call('HDEL', key, field) end
  local shown = one.shown or 'offline'
  local quiet_until = (tonumber(one.told) or 0) + ARGV[2]
  if tonumber(one.claim or 0) > now then
    again_at(one.claim)
  elseif one.exists and one.status ~= shown and quiet_until > now then
    again_at(quiet_until)
  elseif one.exists and one.status ~= shown then
    -- Until the caller says that it is told, nobody knows what others have heard: it is told anew then.
    doubt(key, shown)
    redis.call('HSET', key, 'claim', now + ARGV[3])
    local turn = redis.call('HINCRBY', key, 'turn', 1)
    again_at(now + ARGV[3])
    for _, part in ipairs({user, one.status, one.seen or '', shown, turn}) do answer[#answer + 1] = part end
  elseif one.soonest then
    again_at(one.soonest)
  else
    redis.call('ZREM', KEYS[1], user)
  end
end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if next[2] then answer[2] = math.max(0, tonumber(next[2]) - now) end
return answer
"""

# KEYS: due. ARGV: user, status and turn of each change that was told. Who tells one that is not the last was
# slow: others may have heard it after the last one, so whoever tells that is not the last either.
_TOLD = """
for i = 1, #ARGV, 3 do
  local key = person .. ARGV[i]
  local turn = redis.call('HGET', key, 'turn')
  if turn == ARGV[i + 2] then
    redis.call('HSET', key, 'shown', ARGV[i + 1], 'told', now)
    redis.call('HDEL', key, 'claim')
    due_at(now, ARGV[i])
  elseif turn then
    redis.call('HINCRBY', key, 'turn', 1)
    doubt(key, redis.call('HGET', key, 'shown'))
    redis.call('HSET', key, 'told', now)
    due_at(now, ARGV[i])
  end
end
return 0
"""

# KEYS: due. ARGV: user, and in how many milliseconds all is to be told anew.
_RETELL = """
local key = person .. ARGV[1]
if redis.call('EXISTS', key) == 1 then
  redis.call('HINCRBY', key, 'turn', 1)
  redis.call('HSET', key, 'shown', '', 'claim', now + ARGV[2])
  redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
end
return 0
"""

# KEYS: due. ARGV: users. Answers status and seen of each.
_STATES = """
local answer = {}
for _, user in ipairs(ARGV) do
  local one = look(user)
  answer[#answer + 1] = one.status
  answer[#answer + 1] = one.seen or ''
end
return answer
"""

# KEYS: due, and the request's answer. ARGV: user, status, device or nothing for all, how long it is
# remembered without a lease, how long people are, the request's hash or nothing, how long its answer is kept.
# Answers status and seen, or nothing when the request's id was used with other input.
_SET = """
local user, wanted, device, hash = ARGV[1], ARGV[2], ARGV[3], ARGV[6]
local key = person .. user
if hash ~= '' then
  local kept = redis.call('HMGET', KEYS[2], 'hash', 'status', 'seen')
  if kept[1] and kept[1] ~= hash then return {} end
  if kept[1] then return {kept[2], kept[3]} end
end
local devices = {[device] = true}
if device == '' then devices = look(user).live end
for name in pairs(devices) do
  if wanted == 'away' then redis.call('HSET', key, 'a' .. name, now + ARGV[4])
  else redis.call('HDEL', key, 'a' .. name) end
end
redis.call('HSET', key, 'seen', now)
redis.call('PEXPIRE', key, ARGV[5])
due_at(now, user)
local status = look(user).status
if hash ~= '' then
  redis.call('HSET', KEYS[2], 'hash', hash, 'status', status, 'seen', now)
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
end
return {status, tostring(now)}
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script as Redis gets it, and the name under which it remembers it."""

    text: str
    id: str


def _script(*parts: str) -> Script:
    text = "".join((_CLOCK, *parts))
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


RENEW = _script(_RENEW)
END = _script(_END)
SWEEP = _script(_LOOK, _DOUBT, _SWEEP)
TOLD = _script(_DOUBT, _TOLD)
RETELL = _script(_RETELL)
STATES = _script(_LOOK, _STATES)
SET_STATUS = _script(_LOOK, _SET)
