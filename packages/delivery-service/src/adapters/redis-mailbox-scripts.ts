import type { Script } from "./redis-client.ts";

/**
 * The steps of the mailbox store that Redis runs as one. Each touches keys of one hash tag. N is the number of envelopes
 * that a step takes or removes, B their bytes.
 *
 * A mailbox is a hash `box` {last: highest id ever given, bytes, opened: milliseconds since 1970} and a stream of entries
 * `<id>-0` {a: accepted at, c: ciphertext, x: what else belongs to it}. Beside the mailboxes of one tag lie
 * `ages` (sorted set of "<address> <id>" by the time of acceptance), `bytes` (their sum) and `owners` (sorted set of
 * addresses, in the order of their text).
 */

const APPEND = `
local function add_bytes(key, by)
  if redis.call('INCRBY', key, by) == 0 then redis.call('DEL', key) end
end
local function append(box, stream, ages, bytes, accepted, address, ciphertext, extra)
  local id = string.format('%.0f', redis.call('HINCRBY', box, 'last', 1))
  redis.call('XADD', stream, id .. '-0', 'a', accepted, 'c', ciphertext, 'x', extra)
  redis.call('HINCRBY', box, 'bytes', #ciphertext)
  add_bytes(bytes, #ciphertext)
  redis.call('ZADD', ages, accepted, address .. ' ' .. id)
end`;

const DELETE = `
local function delete(box, stream, ages, bytes, address, entries)
  local size = 0
  for _, entry in ipairs(entries) do
    size = size + #entry[2][4]
    redis.call('XDEL', stream, entry[1])
    redis.call('ZREM', ages, address .. ' ' .. string.sub(entry[1], 1, -3))
  end
  -- Not with the minus sign alone: of nothing it makes a minus zero, which Redis takes for no number.
  local by = 0 - size
  if #entries > 0 then
    redis.call('HINCRBY', box, 'bytes', by)
    if redis.call('INCRBY', bytes, by) == 0 then redis.call('DEL', bytes) end
  end
end
local function delete_through(box, stream, ages, bytes, address, through)
  local count = 0
  while true do
    local entries = redis.call('XRANGE', stream, '-', through, 'COUNT', 64)
    if #entries == 0 then return count end
    delete(box, stream, ages, bytes, address, entries)
    count = count + #entries
  end
end`;

const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)`;

const ROOM = `
local function room(box, stream, max_envelopes, max_bytes, size)
  local bytes = redis.call('HGET', box, 'bytes')
  if not bytes then return 'missing' end
  if redis.call('XLEN', stream) + 1 > max_envelopes or bytes + size > max_bytes then return 'full' end
end`;

const HERE = `
local replication = redis.call('INFO', 'replication')
local here = string.match(replication, 'master_replid:(%x+)') or ''`;

const BECOME_ANOTHER = `
local function become_another(key, of, drawn)
  local id = redis.call('GET', key)
  if id and string.sub(id, 1, 16) == of then redis.call('SET', key, drawn .. here) end
end`;

/**
 * KEYS store id; ARGV 16 bytes. Answers the store's id. The key has the id and the replication id of the Redis that it was
 * drawn on. It is drawn where there is none; and anew where this Redis has followed another one since and was promoted in its
 * place, for it may lack what the other one answered as stored. A second replication id says so (INFO replication); where
 * Redis was only restarted there is none. O(1).
 */
export const STORE_ID: Script = {
  name: "store-id",
  lua: `${HERE}
local followed = string.match(replication, 'master_replid2:(%x+)') or ''
local known = redis.call('GET', KEYS[1])
local was_promoted = string.find(followed, '[^0]') and known and string.sub(known, 17) ~= here
if not known or was_promoted then
  known = ARGV[1] .. here
  redis.call('SET', KEYS[1], known)
end
return string.sub(known, 1, 16)`,
};

/**
 * KEYS store id, counts; ARGV run, how far it is known to have counted, the id of the store in which it did, 16 bytes. Where
 * the run has not counted as far here, this Redis has lost something: where it is that store still, it takes the bytes for
 * its id. Answers 1 where it has lost nothing, else 0. O(1).
 */
export const REQUIRE_COUNT: Script = {
  name: "require-count",
  lua: `${HERE}${BECOME_ANOTHER}
if tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0) >= tonumber(ARGV[2]) then return 1 end
become_another(KEYS[1], ARGV[3], ARGV[4])
return 0`,
};

/** As {@link REQUIRE_COUNT}; then the run counts on. Answers how often it has, or 0 where something was lost. O(1). */
export const COUNT: Script = {
  name: "count",
  lua: `${HERE}${BECOME_ANOTHER}
if tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0) >= tonumber(ARGV[2]) then
  return redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
end
become_another(KEYS[1], ARGV[3], ARGV[4])
return 0`,
};

/** KEYS box owners; ARGV address, opened. Creates a mailbox unless it exists. O(log mailboxes of the tag). */
export const OPEN: Script = {
  name: "open",
  lua: `
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'last', 0, 'bytes', 0, 'opened', ARGV[2])
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
end`,
};

/** KEYS box stream ages bytes owners; ARGV address. Deletes a mailbox and what is in it. O(B). */
export const REMOVE: Script = {
  name: "remove",
  lua: `${DELETE}
delete_through(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], '+')
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[5], ARGV[1])`,
};

/** KEYS box stream ages bytes; ARGV address, through. Answers how many envelopes it deleted. O(B). */
export const ACKNOWLEDGE: Script = {
  name: "acknowledge",
  lua: `${DELETE}
return delete_through(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[2])`,
};

/** KEYS box stream ages bytes; ARGV address, id... Answers how many envelopes it deleted. O(B + N log N). */
export const DISCARD: Script = {
  name: "discard",
  lua: `${DELETE}
local count = 0
for i = 2, #ARGV do
  local entries = redis.call('XRANGE', KEYS[2], ARGV[i], ARGV[i])
  delete(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], entries)
  count = count + #entries
end
return count`,
};

/**
 * KEYS once ages bytes, then box stream of each recipient; ARGV submit hash, accepted, most envelopes, most bytes, then
 * address ciphertext extra of each. Stores all envelopes or none and remembers the hash in `once`. Answers
 * ['stored'], ['repeated'], or ['missing' | 'full', indexes from 0...]. O(B + N log N).
 */
export const STORE: Script = {
  name: "store",
  lua: `${APPEND}${ROOM}
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {'repeated'} end
local missing, full = {'missing'}, {'full'}
local n = (#KEYS - 3) / 2
for i = 0, n - 1 do
  local found = room(KEYS[4 + 2 * i], KEYS[5 + 2 * i], tonumber(ARGV[3]), tonumber(ARGV[4]), #ARGV[6 + 3 * i])
  if found == 'missing' then table.insert(missing, i) end
  if found == 'full' then table.insert(full, i) end
end
if #missing > 1 then return missing end
if #full > 1 then return full end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
for i = 0, n - 1 do
  append(KEYS[4 + 2 * i], KEYS[5 + 2 * i], KEYS[2], KEYS[3], ARGV[2], ARGV[5 + 3 * i], ARGV[6 + 3 * i], ARGV[7 + 3 * i])
end
return {'stored'}`,
};

/**
 * KEYS box stream of each recipient; ARGV most envelopes, most bytes, then the size of each envelope. Changes nothing.
 * Answers 'room', 'missing' or 'full' for each. O(N).
 */
export const CHECK: Script = {
  name: "check",
  lua: `${ROOM}
local found = {}
for i = 1, #KEYS / 2 do
  found[i] = room(KEYS[2 * i - 1], KEYS[2 * i], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[2 + i]) or 'room'
end
return found`,
};

/**
 * KEYS submits intent tried; ARGV submit hash. Changes nothing. Answers [Redis's time in milliseconds, 'stored'], or
 * 'intended', or 'tried' and the score of where, or 'unknown'. O(log submits of the tag).
 */
export const LOOK: Script = {
  name: "look",
  lua: `${NOW}
local time = string.format('%.0f', now)
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {time, 'stored'} end
if redis.call('EXISTS', KEYS[2]) == 1 then return {time, 'intended'} end
local tried = redis.call('ZSCORE', KEYS[3], ARGV[1])
if tried then return {time, 'tried', tried} end
return {time, 'unknown'}`,
};

/**
 * KEYS submits intents intent; ARGV submit hash, accepted, then address ciphertext extra of each envelope. Writes down
 * what will be stored, unless that was done before. Answers 'stored' or 'intended' when it was, 'new' when not. O(B).
 */
export const INTEND: Script = {
  name: "intend",
  lua: `${NOW}
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 'stored' end
if redis.call('EXISTS', KEYS[3]) == 1 then return 'intended' end
for i = 2, #ARGV do redis.call('RPUSH', KEYS[3], ARGV[i]) end
redis.call('ZADD', KEYS[2], now, ARGV[1])
return 'new'`,
};

/**
 * KEYS done ages bytes, then box stream of each recipient; ARGV submit hash, deadline in Redis's time, accepted, then
 * address ciphertext extra of each. Stores what was intended for the mailboxes of this tag, once, whatever their room; a
 * mailbox that is gone is passed over. Answers 1, or 0 after the deadline: then it did nothing. O(B + N log N).
 */
export const CARRY_OUT: Script = {
  name: "carry-out",
  lua: `${NOW}${APPEND}
if now > tonumber(ARGV[2]) then return 0 end
-- The time is set anew also where all is done: what is remembered is counted from the last one who worked on it.
if redis.call('ZADD', KEYS[1], now, ARGV[1]) == 0 then return 1 end
for i = 0, (#KEYS - 3) / 2 - 1 do
  if redis.call('EXISTS', KEYS[4 + 2 * i]) == 1 then
    append(KEYS[4 + 2 * i], KEYS[5 + 2 * i], KEYS[2], KEYS[3], ARGV[3], ARGV[4 + 3 * i], ARGV[5 + 3 * i], ARGV[6 + 3 * i])
  end
end
return 1`,
};

/**
 * KEYS submits intents intent; ARGV submit hash, deadline in Redis's time, accepted. What was intended is stored.
 * Answers 1, or 0 after the deadline and where Redis knows nothing of it: then it did nothing. O(log submits).
 */
export const FINISH: Script = {
  name: "finish",
  lua: `${NOW}
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 1 end
if now > tonumber(ARGV[2]) or redis.call('DEL', KEYS[3]) == 0 then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1`,
};

/** KEYS a sorted set; ARGV score, limit. Deletes the members below the score. Answers how many. O(limit). */
export const TRIM: Script = {
  name: "trim",
  lua: `
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
if #old > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, #old - 1) end
return #old`,
};
