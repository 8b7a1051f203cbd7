-- Marks prefixes as being written.
--
-- KEYS    marks of each prefix
-- ARGV    the mark, seconds after which it expires, time to live of the whole set in seconds

local expires = redis.call('TIME')[1] + ARGV[2]
for _, key in ipairs(KEYS) do
    redis.call('ZADD', key, expires, ARGV[1])
    redis.call('EXPIRE', key, ARGV[3])
end
