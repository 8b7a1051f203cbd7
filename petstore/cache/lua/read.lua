-- Reads one entry, with the generation and the marks of its prefix.
--
-- KEYS    left (see generations.lua), generation, marks (a sorted set: mark -> the second at which it expires), entry
-- ARGV    a new generation, for a prefix that has none; its time to live in seconds
-- Result  generation and left in one, number of marks, entry (nil if there is none, or while there is a mark), milliseconds that
--         the entry has left
--
-- A mark that has expired is that of a writer that died. It may have committed: the generation goes with the mark.

local marks = redis.call('ZCARD', KEYS[3])
if marks > 0 then
    local expired = redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', redis.call('TIME')[1])
    if expired > 0 then redis.call('DEL', KEYS[2]) end
    marks = marks - expired
end
local generation = redis.call('GET', KEYS[2])
if not generation then
    generation = ARGV[1]
    redis.call('SET', KEYS[2], generation, 'EX', ARGV[2])
end
generation = generation .. (redis.call('GET', KEYS[1]) or '')
return {generation, marks, marks == 0 and redis.call('GET', KEYS[4]), redis.call('PTTL', KEYS[4])}
