-- Reads the generations of several prefixes.
--
-- KEYS    left (a token, renewed when the database is found to have another history now), then of each prefix: generation, marks
-- ARGV    a new generation, for every prefix that has none; its time to live in seconds
-- Result  of each prefix: its generation and left in one, nil while there is a mark

local found, left = {}, redis.call('GET', KEYS[1]) or ''
for i = 2, #KEYS, 2 do
    local unmarked = redis.call('EXISTS', KEYS[i + 1]) == 0
    local generation = unmarked and redis.call('GET', KEYS[i])
    if unmarked and not generation then
        generation = ARGV[1]
        redis.call('SET', KEYS[i], generation, 'EX', ARGV[2])
    end
    found[#found + 1] = generation and generation .. left
end
return found
