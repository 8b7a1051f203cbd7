-- Removes generations, so that no entry stored under them is served again, and the mark of the writer.
--
-- KEYS    generation of each prefix, then marks of each prefix
-- ARGV    how many of the keys are generations, the mark

local generations = tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
    if i <= generations then redis.call('DEL', key) else redis.call('ZREM', key, ARGV[2]) end
end
