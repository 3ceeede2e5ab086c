-- What a node holds of one limit, and a grant on top of it. Runs whole or not at all.
--
-- The node says what it holds, not what changed: said twice it does no harm, and a memory that was lost is made anew of
-- what the nodes say. A word that was overtaken by a later one of the same node (it waited in a socket) is not heard.
--
-- KEYS  state, slot
-- ARGV  incarnation, node, sequence, kind, amount, held, wanted, nodes that share, then
--       quota: start and end of the period, Unix seconds
--       rate: its period in µs; calls given back; µs until the bucket is full as the node knows it, where memory was lost
-- Gives what it says (HEARD, LOST, BEHIND, WITHHELD), the grant, and
--       quota and concurrency: what the other nodes hold
--       rate: calls left, µs until the bucket is full, µs until there is another call
local HEARD, LOST, BEHIND, WITHHELD = 0, 1, 2, 3
local ALIVE_US, SILENCE_US, AHEAD_S = 10000000, 2000000, 300
local state, slot = KEYS[1], KEYS[2]
local node, kind = ARGV[2], ARGV[4]
local sequence, amount = tonumber(ARGV[3]), tonumber(ARGV[5])
local held, wanted, peers = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])

local memory = redis.call('HMGET', state, 'incarnation', 'open', 'heard_at', 'heard_since')
if memory[1] ~= ARGV[1] then
  return {LOST, 0, 0}
end
if sequence <= tonumber(redis.call('HGET', slot, 'said:' .. node) or 0) then
  return {BEHIND, 0, 0}
end
local is_open = memory[2] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- Where nobody was heard, it was this server that was away. Who is gone shows only once the others are back.
local heard_since = tonumber(memory[4] or now)
if now - tonumber(memory[3] or 0) > SILENCE_US then
  heard_since = now
end

-- No node may take all that is left while others ask for it, too.
local function share(available)
  if not is_open or wanted < 1 or available < 1 then
    return 0
  end
  return math.min(wanted, math.max(1, math.floor(available / (2 * peers))))
end

local function quota()
  local start = tonumber(ARGV[9])
  local counted = tonumber(redis.call('HGET', slot, 'start') or 0)
  if start < counted then
    return {BEHIND, 0, 0} -- by the clock of another node the next period has begun
  end
  if start > time[1] + AHEAD_S then
    return {BEHIND, 0, 0} -- a clock that is so wrong must not end the period of the others
  end
  if start > counted then
    redis.call('DEL', slot)
  end
  local before = tonumber(redis.call('HGET', slot, 'held:' .. node) or 0)
  local others = tonumber(redis.call('HGET', slot, 'total') or 0) - before
  local granted = share(amount - others - held)
  redis.call('HSET', slot, 'start', start, 'total', others + held + granted, 'held:' .. node, held + granted)
  redis.call('EXPIREAT', slot, tonumber(ARGV[10]) + 86400)
  return {HEARD, granted, others}
end

-- GCRA, as in a node, by the clock of this server alone.
local function rate()
  local period, given_back, lost = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
  local interval = period / amount
  local full_at = tonumber(redis.call('HGET', slot, 'full_at') or 0) - given_back * interval
  full_at = math.min(math.max(full_at, now, now + lost), now + period)
  local available = math.floor((now + period - full_at) / interval + 0.001)
  local granted = share(available)
  full_at = full_at + granted * interval
  redis.call('HSET', slot, 'full_at', string.format('%.3f', full_at))
  redis.call('PEXPIRE', slot, math.ceil(period / 1000) + 60000)
  local wait = math.max(0, math.ceil(full_at + interval - now - period))
  return {HEARD, granted, available - granted, math.ceil(full_at - now), wait}
end

local function concurrency()
  local others = 0
  local fields = redis.call('HGETALL', slot)
  for at = 1, #fields, 2 do
    local name = string.match(fields[at], '^held:(.*)$')
    if name and name ~= node then
      -- A node renews what it holds each second: the calls of one that is gone are gone with it.
      if now - math.max(heard_since, tonumber(redis.call('HGET', slot, 'at:' .. name) or 0)) <= ALIVE_US then
        others = others + tonumber(fields[at + 1])
      else
        redis.call('HDEL', slot, fields[at], 'at:' .. name)
      end
    end
  end
  local granted = share(amount - others - held)
  redis.call('HSET', slot, 'held:' .. node, held + granted, 'at:' .. node, string.format('%.0f', now))
  redis.call('EXPIRE', slot, 3600)
  return {HEARD, granted, others}
end

local answer = ({quota = quota, rate = rate, concurrency = concurrency})[kind]()
if answer[1] == HEARD then
  redis.call('HSET', slot, 'said:' .. node, sequence)
  if not is_open then
    answer[1] = WITHHELD
  end
end
return answer
