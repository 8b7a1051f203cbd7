-- Takes charges back: an attempt that was none, or that another counter refused.
--
-- KEYS    counters, as in charge.lua
-- ARGV    of each: the `until` that its charge has set; a later one is left alone

for i, key in ipairs(KEYS) do
    local old = redis.call('HMGET', key, 'level', 'until')
    if old[1] then
        redis.call('HSET', key, 'level', math.max(0, old[1] - 1))
        if tonumber(old[2]) == tonumber(ARGV[i]) then redis.call('HSET', key, 'until', 0) end
    end
end
