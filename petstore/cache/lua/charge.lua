-- Charges one failed attempt to every counter, or to none of them while one has to wait. See petstore/limits/failed_attempts.py.
--
-- KEYS    counters (hashes: level, at = when it had that level, until = when the next attempt may be made; in seconds)
-- ARGV    the longest delay in seconds; of each counter: attempts without a delay, seconds in which its level sinks by one
-- Result  of each counter: seconds to wait (0 if it was charged), level, until

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
