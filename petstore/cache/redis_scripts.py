"""What Redis does in one step, in Lua: reads and marks of the cache (petstore.cache.redis_cache), counters of the throttle."""

# KEYS: generation, marks, entry. ARGV: a new generation, KEPT_SECONDS. → generation, marks that stand, entry, its milliseconds
READ = """
local marks = redis.call('ZCARD', KEYS[2])
if marks > 0 then
    local overdue = redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', redis.call('TIME')[1])
    if overdue > 0 then redis.call('DEL', KEYS[1]) end
    marks = marks - overdue
end
local generation = redis.call('GET', KEYS[1])
if not generation then
    generation = ARGV[1]
    redis.call('SET', KEYS[1], generation, 'EX', ARGV[2])
end
return {generation, marks, marks == 0 and redis.call('GET', KEYS[3]), redis.call('PTTL', KEYS[3])}
"""
# KEYS: generation and marks of each prefix. ARGV: a new generation, KEPT_SECONDS. → the generation of each, none while marked
GENERATIONS = """
local found = {}
for i = 1, #KEYS, 2 do
    local unmarked = redis.call('EXISTS', KEYS[i + 1]) == 0
    local generation = unmarked and redis.call('GET', KEYS[i])
    if unmarked and not generation then
        generation = ARGV[1]
        redis.call('SET', KEYS[i], generation, 'EX', ARGV[2])
    end
    found[#found + 1] = generation
end
return found
"""
# KEYS: marks. ARGV: the mark, seconds that it stands, KEPT_SECONDS
MARK = """
local overdue = redis.call('TIME')[1] + ARGV[2]
for _, key in ipairs(KEYS) do
    redis.call('ZADD', key, overdue, ARGV[1])
    redis.call('EXPIRE', key, ARGV[3])
end
"""
# KEYS: generations, marks. ARGV: how many generations, the mark
FORGET = """
local generations = tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
    if i <= generations then redis.call('DEL', key) else redis.call('ZREM', key, ARGV[2]) end
end
"""
# KEYS: counters. ARGV: the longest delay; of each counter its free number and sink seconds. → of each: wait, level, until
# Charges one to all of them, or, when one is to wait, to none. See petstore/throttle.py.
CHARGE = """
local time, longest, found, waits = redis.call('TIME'), tonumber(ARGV[1]), {}, false
local now = time[1] + time[2] / 1000000
for i, key in ipairs(KEYS) do
    local old = redis.call('HMGET', key, 'level', 'at', 'until')
    local sunk = math.max(0, now - (old[2] or now)) / ARGV[2 * i + 1]  -- not less than 0: the clock may have been set back
    found[i] = {math.max(0, math.min((old[3] or 0) - now, longest)), math.max(0, (old[1] or 0) - sunk), 0}
    waits = waits or found[i][1] > 0
end
for i, key in ipairs(KEYS) do
    local counter, free = found[i], tonumber(ARGV[2 * i])
    if not waits then
        counter[2] = counter[2] + 1
        local over = math.ceil(counter[2] - 1e-6) - free
        if over >= 0 then counter[3] = now + math.min(2 ^ over, longest) end
        redis.call('HSET', key, 'level', counter[2], 'at', string.format('%.6f', now), 'until', string.format('%.6f', counter[3]))
        redis.call('EXPIRE', key, math.ceil(counter[2] * ARGV[2 * i + 1]) + longest)
    end
    found[i] = {string.format('%.6f', counter[1]), string.format('%.6f', counter[2]), string.format('%.6f', counter[3])}
end
return found
"""
# KEYS: counters. ARGV: of each, the `until` that its charge has set
REFUND = """
for i, key in ipairs(KEYS) do
    local old = redis.call('HMGET', key, 'level', 'until')
    if old[1] then
        redis.call('HSET', key, 'level', math.max(0, old[1] - 1))
        if tonumber(old[2]) == tonumber(ARGV[i]) then redis.call('HSET', key, 'until', 0) end
    end
end
"""
