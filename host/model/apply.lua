-- apply: one batch of writes to a model's rows and indexes, atomic and at most
-- once. It runs inside Redis; host/model/batch.c packs what it is given. What
-- the rows of a batch do to the same key is gathered and done in one command,
-- since a script pays more for each call than for what it does.
--
-- It is one script in three files: this one reads the batch and what is stored,
-- apply_new.lua stores batches of new rows that meet nothing in their way,
-- apply_rows.lua applies all others, row by row. A script makes its functions
-- anew each time that it runs, and for each local that one uses Lua looks through
-- all that are in use already: so batches of new rows get by with few.
--
-- KEYS: the model's meta hash, the writing host's journal.
-- ARGV[1], packed, one after the other: generation, batch number, refresh, row prefix,
-- rows prefix, ids prefix, id width, ordinals in a piece of @ids, key of the stamps,
-- { place = key... }, { row... }, expires. Where new rows are all there is, { row... } is
-- empty, and they follow expires by column, as host/model/fresh.h says. ARGV[2], 8 bytes
-- that no other batch has, is the stamp of the segments whose columns it changes. A row is
-- these elements: kind, id, version expected, new version, how many elements come after
-- these ten, { removed name... }, { unique index, value... }, { command... }, id's bytes
-- in @ids, life; after them name, value... of each field that is set. 0 stands for an
-- empty list. Commands and unique indexes name their keys by their places. expires is
-- the key of the expiries, "" if rows of the model do not expire. life, in milliseconds,
-- is what the row has left from now on: 0 leaves it as it is, -1 is for ever. After an
-- INCREMENT's ten come name, by, is integer, least, most, zset's place, column's place,
-- width, least as packed... with "" or 0 for what there is not. In the place of its life
-- an INDEX has 0, or 1 to enter the row in @rows and @ids again, or 2 to do so under a
-- new ordinal.
-- Returns, packed: { verdict... }, one a row: its ordinal (or { 0, ordinal, id }
-- where the id was taken here), or { code, detail... } as below; or one negative
-- number for the whole batch.
local EXISTS, CONFLICT, GONE, UNIQUE, FAILED, ROW, RANGE = 1, 2, 3, 4, 5, 6, 7
local NO_SCHEMA, CHANGED, STALE, DAMAGED = -1, -2, -3, -4
local SEGMENT, SMALL_SET = 65536, 512

-- Numbers become text once: Redis formats each number that it is passed anew,
-- which costs as much as a small command.
local call, try, floor, format, type = redis.call, redis.pcall, math.floor, string.format, type
local pack = struct.pack
local meta, journal = KEYS[1], KEYS[2]
local generation, number, refresh, row_prefix, rows_prefix, ids_prefix, id_width, ids_piece,
  stamps_key, keys, rows, expires, new_kind, new_version, new_bytes, row_keys, names, values,
  is_full, uniques, commands, lives, bulk = cmsgpack.unpack(ARGV[1])
local stamp, has_ttl = ARGV[2], expires ~= ""
local count, ROW_ITEMS = 0, 10
local have_ids = type(row_keys) == "table" -- else the counter gives the ids

-- where each row begins (the elements of one are rows[at + 1] and so on)
local places = {}
if new_kind then
  count = have_ids and #row_keys or row_keys
else
  local at, size = 0, #rows
  while at < size do
    count = count + 1
    places[count] = at
    at = at + ROW_ITEMS + rows[at + 5]
  end
end

local state = call("HMGET", meta, "gen", "hint", "top", "id")
if not state[1] then -- nothing is stored, or the meta hash was lost
  return cmsgpack.pack({ call("EXISTS", rows_prefix .. "0") == 0 and NO_SCHEMA or DAMAGED })
end
if state[1] ~= generation then return cmsgpack.pack({ CHANGED, state[1] }) end

-- the journal holds the last two batches, by parity
local slot = number % 2 == 0 and "a" or "b"
local last = call("HGET", journal, slot)
if last then
  local colon = last:find(":", 1, true)
  local done = tonumber(last:sub(1, colon - 1))
  if done == number then return last:sub(colon + 1) end
  if done > number then return cmsgpack.pack({ STALE }) end
end

local hint, top = tonumber(state[2] or 0), tonumber(state[3] or 0)
if not (hint and top and hint >= 0 and hint == floor(hint) and top == floor(top)
  and top + count < 4294967295) then
  return cmsgpack.pack({ DAMAGED })
end
local hint_before, top_before, deletes = hint, top, 0
local failure -- of a command that should not fail

local function note(err, key)
  local text = type(err) == "table" and err.err or tostring(err)
  failure = failure or ("%s: %s"):format(key or "?", text)
end

local function run(...)
  local reply = try(...)
  if type(reply) == "table" and reply.err then
    note(reply, (select(2, ...)))
    return nil
  end
  return reply
end

-- add_to_set enters a row in the small set of a value, or in the bitmap that it became.
local function add_to_set(prefix, value, offset)
  local bitmap, set = prefix .. "=" .. value, prefix .. "~" .. value
  if call("EXISTS", bitmap) == 1 then
    call("SETBIT", bitmap, offset, "1")
    return
  end
  if call("SADD", set, offset) == 1 and call("SCARD", set) > SMALL_SET then
    for _, member in ipairs(call("SMEMBERS", set)) do
      call("SETBIT", bitmap, member, "1")
    end
    call("DEL", set)
  end
end

-- id_of returns the id in a row's key.
local function id_of(key)
  return key:sub(#row_prefix + 1)
end

-- integer_bytes is an id from the counter as @ids has it: 8 bytes, big-endian.
local function integer_bytes(text)
  local v = tonumber(text)
  local high = floor(v / 4294967296)
  return pack(">I4I4", high, v - high * 4294967296)
end

-- open_piece makes a piece of @ids that begins at its full length: growing doubles it.
local function open_piece(key, at)
  if at == 0 and call("EXISTS", key) == 0 then
    run("SETRANGE", key, format("%d", ids_piece * id_width - 1), "\0")
  end
end

-- the server's clock, in milliseconds
local clock

local function now_ms()
  if not clock then
    local t = call("TIME")
    clock = tonumber(t[1]) * 1000 + floor(tonumber(t[2]) / 1000)
  end
  return clock
end

-- finish notes what the batch did, and returns what its host is told.
local function finish(verdicts)
  if hint ~= hint_before or top ~= top_before then
    local text = format("%d", hint)
    call("HSET", meta, "hint", text, "top", top == hint and text or format("%d", top))
  end
  if deletes > 0 then call("HINCRBY", meta, "deletes", deletes) end
  if failure then
    call("HSET", meta, "broken", failure)
    verdicts[#verdicts + 1] = { FAILED, failure }
  end
  local packed = cmsgpack.pack(verdicts)
  call("HSET", journal, slot, format("%.0f:", number) .. packed)
  if refresh == 1 then call("EXPIRE", journal, 86400) end
  return packed
end
