"""The moves of answers in Redis, as scripts: each is one atomic step on the keys of one slot."""

from __future__ import annotations

_EXPIRE = "for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[1]) end "

# KEYS answer, job, events; ARGV ttl, job, kind, data, then fields of the hash. Returns the record that is there.
CREATE = (
    "local known = redis.call('HGET', KEYS[1], 'record') "
    "if known then return known end "
    "redis.call('DEL', KEYS[3]) "
    "redis.call('HSET', KEYS[1], unpack(ARGV, 5)) "
    "redis.call('SET', KEYS[2], ARGV[2]) "
    "redis.call('XADD', KEYS[3], '*', 'kind', ARGV[3], 'data', ARGV[4]) " + _EXPIRE + "return false"
)
# KEYS as above; ARGV ttl, expected rev, kind, data, then fields. Returns 0 when the entry has moved meanwhile.
MOVE = (
    "if redis.call('HGET', KEYS[1], 'rev') ~= ARGV[2] then return 0 end "
    "redis.call('HSET', KEYS[1], unpack(ARGV, 5)) "
    "if ARGV[3] ~= '' then redis.call('XADD', KEYS[3], '*', 'kind', ARGV[3], 'data', ARGV[4]) end "
    + _EXPIRE
    + "return 1"
)
_FENCE = (
    "local now = redis.call('HMGET', KEYS[1], 'state', 'attempt') "
    "if now[1] ~= 'running' or now[2] ~= ARGV[2] then return 0 end "
)
# KEYS as above; ARGV ttl, attempt, time at which the lease ends.
RENEW = (
    _FENCE + "redis.call('HSET', KEYS[1], 'lease_until', ARGV[3]) "
    "redis.call('HINCRBY', KEYS[1], 'rev', 1) " + _EXPIRE + "return 1"
)
# KEYS as above; ARGV ttl, attempt, data.
EMIT = _FENCE + "redis.call('XADD', KEYS[3], '*', 'kind', 'delta', 'data', ARGV[3]) " + _EXPIRE + "return 1"
# KEYS the pace of one generator; ARGV ttl, seconds of one more answer. The mean of the first few, later a sliding one.
PACE = (
    "local seen = redis.call('HINCRBY', KEYS[1], 'answers', 1) "
    "local old = tonumber(redis.call('HGET', KEYS[1], 'seconds') or '0') "
    "local weight = math.max(1 / seen, 0.1) "
    "redis.call('HSET', KEYS[1], 'seconds', tostring(old + weight * (tonumber(ARGV[2]) - old))) " + _EXPIRE + "return 1"
)
# KEYS one sorted set; ARGV ttl, now, next time to look, then ids. Returns the ids that nobody else claimed first.
CLAIM = (
    "local mine = {} "
    "for i = 4, #ARGV do "
    "  local at = redis.call('ZSCORE', KEYS[1], ARGV[i]) "
    "  if at and tonumber(at) <= tonumber(ARGV[2]) then "
    "    redis.call('ZADD', KEYS[1], ARGV[3], ARGV[i]) mine[#mine + 1] = ARGV[i] "
    "  end "
    "end " + _EXPIRE + "return mine"
)
