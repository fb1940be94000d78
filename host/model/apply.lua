-- apply: one batch of writes to a model's rows and indexes, atomic and at most
-- once. It runs inside Redis; host/model/commit.c packs what it is given.
--
-- KEYS: the model's meta hash, the writing host's journal.
-- ARGV[1], packed: { generation, batch number, refresh, row prefix, rows prefix,
-- ids prefix, id width, { row... } }, a row being { kind, id, version expected,
-- new version, { name, value... }, { removed name... }, { unique key, value... },
-- { command... } }.
-- Returns, packed: { verdict... }, one a row: its ordinal (or { 0, ordinal, id }
-- where the id was taken here), or { code, detail... } as below; or one negative
-- number for the whole batch.
local EXISTS, CONFLICT, GONE, UNIQUE, FAILED = 1, 2, 3, 4, 5
local NO_SCHEMA, CHANGED, STALE = -1, -2, -3
local CREATE, SAVE, DELETE = 0, 1, 2
local SEGMENT, SMALL_SET = 65536, 512

local call, try = redis.call, redis.pcall
local meta, journal = KEYS[1], KEYS[2]
local batch = cmsgpack.unpack(ARGV[1])
local generation, number = batch[1], batch[2]
local row_prefix, rows_prefix, ids_prefix, id_width = batch[4], batch[5], batch[6], batch[7]

local state = call("HMGET", meta, "gen", "hint", "top")
if not state[1] then return cmsgpack.pack({ NO_SCHEMA }) end
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
local hint_before, top_before, deletes = hint, top, 0
local failure -- of a command that should not fail

local function run(...)
  local reply = try(...)
  if type(reply) == "table" and reply.err then
    failure = failure or (select(1, ...) .. " " .. select(2, ...) .. ": " .. reply.err)
    return nil
  end
  return reply
end

-- take_ordinal returns the lowest free ordinal: below `top` there may be
-- holes, from it on there is nothing.
local function take_ordinal()
  local n
  while hint < top and not n do
    local segment = math.floor(hint / SEGMENT)
    local at = run("BITPOS", rows_prefix .. segment, 0, math.floor((hint - segment * SEGMENT) / 8))
    if at and at >= 0 and at < SEGMENT then
      n = segment * SEGMENT + at
    else
      hint = (segment + 1) * SEGMENT
    end
  end
  n = n or top
  hint = n + 1
  if n >= top then top = n + 1 end
  return n
end

local function add_to_set(prefix, value, offset)
  local bitmap, set = prefix .. "=" .. value, prefix .. "~" .. value
  if call("EXISTS", bitmap) == 1 then
    run("SETBIT", bitmap, offset, 1)
    return
  end
  run("SADD", set, offset)
  if (run("SCARD", set) or 0) > SMALL_SET then
    for _, member in ipairs(call("SMEMBERS", set)) do
      run("SETBIT", bitmap, member, 1)
    end
    call("DEL", set)
  end
end

local function remove_from_set(prefix, value, offset)
  if run("SREM", prefix .. "~" .. value, offset) == 0 then
    local bitmap = prefix .. "=" .. value
    if call("EXISTS", bitmap) == 1 then run("SETBIT", bitmap, offset, 0) end
  end
end

-- apply_commands carries out the index commands of one row.
local function apply_commands(list, id, n)
  local segment = math.floor(n / SEGMENT)
  local offset = n - segment * SEGMENT
  local member
  local i, count = 1, #list
  while i <= count do
    local op, key = list[i], list[i + 1]
    if op == 1 then
      run("SETBIT", key .. segment .. list[i + 2], offset, 1)
      i = i + 3
    elseif op == 5 then
      run("SETRANGE", key .. segment, offset * list[i + 2], list[i + 3])
      i = i + 4
    elseif op == 6 then
      member = member or struct.pack(">I4", n)
      run("ZADD", key, list[i + 2], member)
      i = i + 3
    elseif op == 3 then
      add_to_set(key .. segment, list[i + 2], offset)
      i = i + 3
    elseif op == 2 then
      run("SETBIT", key .. segment .. list[i + 2], offset, 0)
      i = i + 3
    elseif op == 4 then
      remove_from_set(key .. segment, list[i + 2], offset)
      i = i + 3
    elseif op == 7 then
      member = member or struct.pack(">I4", n)
      run("ZREM", key, member)
      i = i + 2
    elseif op == 8 then
      run("HSET", key, list[i + 2], id)
      i = i + 3
    else
      if run("HGET", key, list[i + 2]) == id then run("HDEL", key, list[i + 2]) end
      i = i + 3
    end
  end
end

local function id_bytes(id)
  if id_width == 16 then
    local hex = id:gsub("-", "")
    return (hex:gsub("..", function(two) return string.char(tonumber(two, 16)) end))
  end
  -- two's complement; a double holds every id exactly
  local v = tonumber(id)
  local high = math.floor(v / 4294967296)
  return struct.pack(">I4I4", high % 4294967296, v - high * 4294967296)
end

local function enter_row(id, n)
  local segment = math.floor(n / SEGMENT)
  local offset = n - segment * SEGMENT
  run("SETBIT", rows_prefix .. segment, offset, 1)
  if id_width == 0 then
    run("HSET", ids_prefix .. segment, offset, id)
  else
    run("SETRANGE", ids_prefix .. segment, offset * id_width, id_bytes(id))
  end
end

local function leave_row(n)
  local segment = math.floor(n / SEGMENT)
  local offset = n - segment * SEGMENT
  run("SETBIT", rows_prefix .. segment, offset, 0)
  if id_width == 0 then run("HDEL", ids_prefix .. segment, offset) end
  if n < hint then hint = n end
  deletes = deletes + 1
end

-- check returns the row's ordinal (nil for a new one), or nil and a verdict.
local function check(row, id, key)
  local n
  if row[1] == CREATE then
    local exists = try("EXISTS", key)
    if exists ~= 0 then return nil, { EXISTS } end
  else
    local now = try("HMGET", key, "_v", "_n")
    if now.err then return nil, { FAILED, now.err } end
    if not now[1] then return nil, { GONE } end
    if now[1] ~= row[3] then return nil, { CONFLICT, call("HGETALL", key) } end
    n = tonumber(now[2])
  end
  local uniques = row[7]
  for i = 1, #uniques, 2 do
    local holder = try("HGET", uniques[i], uniques[i + 1])
    if type(holder) == "table" then return nil, { FAILED, holder.err } end
    if holder and holder ~= id then return nil, { UNIQUE, (i - 1) / 2 } end
  end
  return n
end

local function apply(row)
  local kind, id = row[1], row[2]
  local is_given = id ~= ""
  if not is_given then id = string.format("%.0f", call("HINCRBY", meta, "id", 1)) end
  local key = row_prefix .. id
  local n, refusal = check(row, id, key)
  if refusal then return refusal end
  if kind == DELETE then
    call("DEL", key)
    apply_commands(row[8], id, n)
    leave_row(n)
    return n
  end
  if kind == CREATE then
    n = take_ordinal()
    call("HSET", key, "_v", row[4], "_n", n, unpack(row[5]))
    enter_row(id, n)
  else
    call("HSET", key, "_v", row[4], unpack(row[5]))
    if #row[6] > 0 then call("HDEL", key, unpack(row[6])) end
  end
  apply_commands(row[8], id, n)
  return is_given and n or { 0, n, id }
end

local verdicts = {}
for i, row in ipairs(batch[8]) do verdicts[i] = apply(row) end

if hint ~= hint_before or top ~= top_before then
  call("HSET", meta, "hint", hint, "top", top)
end
if deletes > 0 then call("HINCRBY", meta, "deletes", deletes) end
if failure then
  call("HSET", meta, "broken", failure)
  verdicts[#verdicts + 1] = { FAILED, failure }
end
local packed = cmsgpack.pack(verdicts)
call("HSET", journal, slot, string.format("%.0f:", number) .. packed)
if batch[3] == 1 then call("EXPIRE", journal, 86400) end
return packed
