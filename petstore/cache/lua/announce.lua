-- Says what a node has to say, and what the other nodes have said lately. See petstore/auth/key_agreement.py.
--
-- KEYS    a text: JSON, by node {what it said, until when that counts (seconds)}
-- ARGV    the node, what it says, for how many seconds that counts
-- Result  what each node says, this one too
--
-- One text and not a hash: it needs no command that the other scripts do not need, which a Redis user may have been denied.

local now, seconds = tonumber(redis.call('TIME')[1]), tonumber(ARGV[3])
local nodes = cjson.decode(redis.call('GET', KEYS[1]) or '{}')
nodes[ARGV[1]] = {ARGV[2], now + seconds}
local said = {}
for node, entry in pairs(nodes) do
    if entry[2] < now then nodes[node] = nil else said[#said + 1] = entry[1] end
end
redis.call('SET', KEYS[1], cjson.encode(nodes), 'EX', seconds)
return said
