-- The log in Redis: the one script, which Redis runs as one step.
--
-- KEYS[1]  a hash: format, genesis, run, epoch, head, epochs, trimmed
-- KEYS[2]  the stream: entries of a frame (t time, n records, d bytes), whose id is its last record's offset, and of an epoch
-- ARGV[1]  the verb, and then what it needs
--
-- Each run of a master that serves this log is an epoch, whether something was lost or not: a run that isn't the stored one
-- begins a new epoch. Its name and the jump of its offsets come from the run, the parent and the fork, so that two masters
-- that go on from one place never use the same offsets under one name.

local log, stream = KEYS[1], KEYS[2]
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local FORMAT = '1'
-- The number of epochs that are remembered, and the least jump of offsets.
local EPOCHS, JUMP = 128, 1048576

local function whole(number)
  return string.format('%.0f', number)
end

-- Begins an epoch after this parent, which ended at this fork.
local function begin(parent, fork)
  local digest = redis.sha1hex(run .. ':' .. parent .. ':' .. fork)
  local epoch = whole(math.max(tonumber(string.sub(digest, 1, 8), 16), 1))
  local first = whole(tonumber(fork) + 1)
  if parent ~= '' then
    first = whole(tonumber(fork) + JUMP * (1 + tonumber(string.sub(digest, 9, 12), 16)))
  end
  redis.call('XADD', stream, first .. '-0', 'e', epoch, 'p', parent, 'f', fork, 'r', run)
  local line = table.concat({epoch, run, fork, first, parent}, ' ')
  local lines = {}
  for earlier in string.gmatch(redis.call('HGET', log, 'epochs') or '', '[^\n]+') do
    lines[#lines + 1] = earlier
  end
  lines[#lines + 1] = line
  while #lines > EPOCHS do
    table.remove(lines, 1)
  end
  redis.call('HSET', log, 'run', run, 'epoch', epoch, 'head', first, 'epochs', table.concat(lines, '\n'))
  return epoch, first
end

local function make(genesis)
  if redis.call('EXISTS', log) == 0 then
    if redis.call('EXISTS', stream) == 1 then
      return redis.error_reply('NOLOG the stream is there without its log')
    end
    -- A replica that was promoted before it had the log isn't an empty Redis.
    local before = string.match(redis.call('INFO', 'replication'), 'master_replid2:(%x+)')
    if before and string.find(before, '[^0]') and ARGV[3] ~= 'anew' then
      return redis.error_reply('NOLOG this Redis was a replica before, which may not have had it')
    end
    redis.call('HSET', log, 'format', FORMAT, 'genesis', genesis, 'trimmed', '0')
    begin('', '0')
  end
end

local function append(known, known_run, count, frame)
  local state = redis.call('HMGET', log, 'format', 'run', 'epoch', 'head')
  if not state[1] then
    return redis.error_reply('NOLOG there is no log')
  end
  if state[1] ~= FORMAT then
    return redis.error_reply('FORMAT ' .. state[1])
  end
  local epoch, head = state[3], state[4]
  if state[2] ~= run then
    epoch, head = begin(epoch, head)
  end
  if known ~= '' and (known ~= epoch or known_run ~= run) then
    -- A master that doesn't know the life that its writer has read doesn't have the writer's log.
    local lines = '\n' .. redis.call('HGET', log, 'epochs')
    if not string.find(lines, '\n' .. known .. ' ' .. known_run .. ' ', 1, true) then
      begin(epoch, head)
    end
    return redis.error_reply('MOVEDON to another epoch')
  end
  if count > 0 then
    local time = redis.call('TIME')
    head = whole(tonumber(head) + count)
    local millis = whole(tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
    redis.call('XADD', stream, head .. '-0', 't', millis, 'n', count, 'd', frame)
    redis.call('HSET', log, 'head', head)
  end
  return head
end

-- Removes entries at or below this offset, in whole parts of the stream, and notes the offset up to which all are gone.
local function trim(below)
  local state = redis.call('HMGET', log, 'head', 'trimmed')
  if not state[1] then
    return redis.error_reply('NOLOG there is no log')
  end
  if redis.call('XTRIM', stream, 'MINID', '~', whole(tonumber(below) + 1) .. '-0') == 0 then
    return state[2]
  end
  local floor, first = state[1], redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if first then
    local fields = first[2]
    -- A frame's second field is its number of records; an epoch's third is its fork.
    if fields[1] == 't' then
      floor = whole(tonumber(string.match(first[1], '%d+')) - tonumber(fields[4]))
    else
      floor = fields[6]
    end
  end
  redis.call('HSET', log, 'trimmed', floor)
  return floor
end

local verb = ARGV[1]
if verb == 'make' then
  return make(ARGV[2]) or append('', '', 0)
elseif verb == 'append' then
  return append(ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5])
elseif verb == 'trim' then
  return trim(ARGV[2])
end
return redis.error_reply('ERR no such verb')
