-- What a node holds of some limits, and grants on top of it. Runs whole or not at all.
--
-- The node says what it holds, not what changed: said twice it does no harm, and a memory that was lost is made anew of
-- what the nodes say. A word that was overtaken by a later one of the same node (it waited in a socket) is not heard.
--
-- KEYS  state, nodes, then the slot of each word
-- ARGV  incarnation, node, sequence, nodes that share, then each word: kind, amount, held, wanted, and
--       quota: start and end of the period, Unix seconds
--       rate: its period in µs; calls given back; µs until the bucket is full as the node knows it, where memory was lost
-- Gives a line for each word: what it says (HEARD, LOST, BEHIND, WITHHELD), the grant, and
--       quota and concurrency: what the other nodes hold
--       rate: calls left, µs until the bucket is full, µs until there is another call
local HEARD, LOST, BEHIND, WITHHELD = 0, 1, 2, 3
local ALIVE_US, SILENCE_US, AHEAD_S = 10000000, 2000000, 300
local SWEEP_US, FORGET_US, MOST_LOOKED_AT = 3600000000, 86400000000, 2000
local looked_at = 0 -- fields, in sweeping
local node, sequence, peers = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local memory = redis.call('HMGET', KEYS[1], 'incarnation', 'open', 'heard_at', 'heard_since')
local is_lost = memory[1] ~= ARGV[1]
local is_open = memory[2] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- Where nobody was heard, it was this server that was away. Who is gone shows only once the others are back.
local heard_since = tonumber(memory[4] or now)
if now - tonumber(memory[3] or 0) > SILENCE_US then
  heard_since = now
end

-- No node may take all that is left while others ask for it, too.
local function share(available, wanted)
  if not is_open or wanted < 1 or available < 1 then
    return 0
  end
  return math.min(wanted, math.max(1, math.floor(available / (2 * peers))))
end

-- A slot that is in use for years must not keep a field for each node that there ever was. Of one that is gone only the
-- number of its last word is left, which an earlier word of it must not follow: that would have to wait in a socket for
-- as long as others were heard all the time and the node was not (join.lua forgets it after as long). A quota keeps
-- these numbers with what was held, until its period ends. Gives when the slot was swept, once an hour at the most. All
-- hosts wait meanwhile, so where many are due some are left for later calls.
local function swept(slot, before)
  if before and (math.abs(now - tonumber(before)) < SWEEP_US or looked_at >= MOST_LOOKED_AT) then
    return before
  end
  if before and now - heard_since > FORGET_US then
    local fields = redis.call('HKEYS', slot)
    looked_at = looked_at + #fields
    for _, field in ipairs(fields) do
      local name = string.match(field, '^said:(.*)$')
      if name and redis.call('HEXISTS', KEYS[2], name) == 0 then
        redis.call('HDEL', slot, field)
      end
    end
  end
  return string.format('%.0f', now)
end

local say = {}

function say.quota(slot, amount, held, wanted, start, ends)
  local known = redis.call('HMGET', slot, 'start', 'held:' .. node, 'total')
  local counted, before, total = tonumber(known[1] or 0), tonumber(known[2] or 0), tonumber(known[3] or 0)
  if start < counted then
    return {BEHIND, 0, 0} -- by the clock of another node the next period has begun
  end
  if start > time[1] + AHEAD_S then
    return {BEHIND, 0, 0} -- a clock that is so wrong must not end the period of the others
  end
  if start > counted then
    redis.call('DEL', slot)
    before, total = 0, 0
  end
  local others = total - before
  local granted = share(amount - others - held, wanted)
  redis.call('HSET', slot, 'start', start, 'total', others + held + granted, 'held:' .. node, held + granted,
    'said:' .. node, sequence)
  redis.call('EXPIREAT', slot, ends + 86400)
  return {HEARD, granted, others}
end

-- GCRA, as in a node, by the clock of this server alone.
function say.rate(slot, amount, held, wanted, period, given_back, lost)
  local interval = period / amount
  local known = redis.call('HMGET', slot, 'full_at', 'swept_at')
  local full_at = tonumber(known[1] or 0) - given_back * interval
  full_at = math.min(math.max(full_at, now, now + lost), now + period)
  local available = math.floor((now + period - full_at) / interval + 0.001)
  local granted = share(available, wanted)
  full_at = full_at + granted * interval
  redis.call('HSET', slot, 'full_at', string.format('%.3f', full_at), 'swept_at', swept(slot, known[2]),
    'said:' .. node, sequence)
  redis.call('PEXPIRE', slot, math.ceil(period / 1000) + 60000)
  local wait = math.max(0, math.ceil(full_at + interval - now - period))
  return {HEARD, granted, available - granted, math.ceil(full_at - now), wait}
end

function say.concurrency(slot, amount, held, wanted)
  local others, swept_at = 0, nil
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
    elseif fields[at] == 'swept_at' then
      swept_at = fields[at + 1]
    end
  end
  local granted = share(amount - others - held, wanted)
  redis.call('HSET', slot, 'held:' .. node, held + granted, 'at:' .. node, string.format('%.0f', now),
    'swept_at', swept(slot, swept_at), 'said:' .. node, sequence)
  redis.call('EXPIRE', slot, 3600)
  return {HEARD, granted, others}
end

local function hear(slot, word)
  if is_lost then
    return {LOST, 0, 0}
  end
  if sequence <= tonumber(redis.call('HGET', slot, 'said:' .. node) or 0) then
    return {BEHIND, 0, 0}
  end
  local kind, numbers = string.match(word, '^(%a+) (.*)$')
  local given = {}
  for number in string.gmatch(numbers, '%S+') do
    given[#given + 1] = tonumber(number)
  end
  local answer = say[kind](slot, unpack(given))
  if answer[1] == HEARD and not is_open then
    answer[1] = WITHHELD
  end
  return answer
end

local lines = {}
for at = 3, #KEYS do
  local answer = hear(KEYS[at], ARGV[at + 2])
  for each = 1, #answer do
    answer[each] = string.format('%.0f', answer[each])
  end
  lines[at - 2] = table.concat(answer, ' ')
end
return table.concat(lines, '\n')
