-- Reads the generations of several prefixes.
--
-- KEYS    of each prefix: generation, marks
-- ARGV    a new generation, for every prefix that has none; its time to live in seconds
-- Result  of each prefix: its generation, nil while there is a mark

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
