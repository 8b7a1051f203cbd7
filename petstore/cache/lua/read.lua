-- Reads one entry, with the generation and the marks of its prefix.
--
-- KEYS    generation, marks (a sorted set: mark -> the second at which it expires), entry
-- ARGV    a new generation, for a prefix that has none; its time to live in seconds
-- Result  generation, number of marks, entry (nil if there is none, or while there is a mark), milliseconds that the entry has left
--
-- A mark that has expired is that of a writer that died. It may have committed: the generation goes with the mark.

local marks = redis.call('ZCARD', KEYS[2])
if marks > 0 then
    local expired = redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', redis.call('TIME')[1])
    if expired > 0 then redis.call('DEL', KEYS[1]) end
    marks = marks - expired
end
local generation = redis.call('GET', KEYS[1])
if not generation then
    generation = ARGV[1]
    redis.call('SET', KEYS[1], generation, 'EX', ARGV[2])
end
return {generation, marks, marks == 0 and redis.call('GET', KEYS[3]), redis.call('PTTL', KEYS[3])}
