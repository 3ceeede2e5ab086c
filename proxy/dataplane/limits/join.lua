-- A node's heartbeat. Finds out whether this memory is the one that the nodes know, and whether it may grant.
--
-- A server that was restarted or emptied has a new incarnation. Until the nodes have said what they hold it grants
-- nothing: who is awaited is what each of them remembers of the others. A node that does not come is awaited for a while
-- only; what it holds is then counted when it comes.
--
-- KEYS  state, nodes, awaited
-- ARGV  id of the server's run, node, incarnation to which it has said all that it holds, nodes that it knows of …
-- Gives the incarnation, 1 if grants are given, the nodes that are alive, and the time in Unix seconds.
local ALIVE_US, SETTLE_US, PATIENCE_US, SILENCE_US = 10000000, 1000000, 10000000, 2000000
local state, nodes, awaited = KEYS[1], KEYS[2], KEYS[3]
local run, node, told = ARGV[1], ARGV[2], ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local incarnation = redis.call('HGET', state, 'incarnation')
if not incarnation or string.sub(incarnation, 1, #run + 1) ~= run .. ':' then
  incarnation = run .. ':' .. string.format('%.0f', now)
  redis.call('DEL', state, awaited)
  redis.call('HSET', state, 'incarnation', incarnation, 'born_at', string.format('%.0f', now))
end
redis.call('HSET', nodes, node, string.format('%.0f', now))
-- Since when somebody was heard all the time: in a silence it was this server that was away.
if now - tonumber(redis.call('HGET', state, 'heard_at') or 0) > SILENCE_US then
  redis.call('HSET', state, 'heard_since', string.format('%.0f', now))
end
redis.call('HSET', state, 'heard_at', string.format('%.0f', now))

local is_open = redis.call('HGET', state, 'open') == '1'
if not is_open then
  if told == incarnation then
    redis.call('SREM', awaited, node)
  else
    for at = 4, #ARGV do
      redis.call('SADD', awaited, ARGV[at])
    end
    redis.call('SADD', awaited, node)
  end
end

local alive, anybody_tells = {}, false
local seen = redis.call('HGETALL', nodes)
for at = 1, #seen, 2 do
  local age = now - tonumber(seen[at + 1])
  if age <= ALIVE_US then
    alive[#alive + 1] = seen[at]
    anybody_tells = anybody_tells or redis.call('SISMEMBER', awaited, seen[at]) == 1
  elseif age > 86400000000 then
    redis.call('HDEL', nodes, seen[at])
  end
end

if not is_open then
  local age = now - tonumber(redis.call('HGET', state, 'born_at'))
  local all_came = redis.call('SCARD', awaited) == 0
  if age >= SETTLE_US and (all_came or (age >= PATIENCE_US and not anybody_tells)) then
    redis.call('HSET', state, 'open', 1)
    is_open = true
  end
end
return {incarnation, is_open and 1 or 0, alive, time[1]}
