-- apply_rows: batches of any writes, row by row.

local CREATE, DELETE, INCREMENT, INDEX, SWEEP, UPSERT = 0, 2, 3, 4, 5, 6
local NEW_ORDINAL = 2

-- lay_out makes rows of the columns.
local function lay_out()
  local n, at, width = 0, 0, #names
  for i = 1, count do
    local from = n
    for place, v in ipairs({ new_kind, have_ids and id_of(row_keys[i]) or "", "", new_version,
      0, 0, uniques ~= 0 and uniques[i] or 0, commands ~= 0 and commands[i] or 0,
      new_bytes:sub((i - 1) * id_width + 1, i * id_width), lives ~= 0 and lives[i] or 0 }) do
      rows[from + place] = v
    end
    places[i] = from
    n = from + ROW_ITEMS
    for j = 1, width do
      if values[at + j] ~= 0 then
        rows[n + 1], rows[n + 2] = names[j], values[at + j]
        n = n + 2
      end
    end
    rows[from + 5] = n - from - ROW_ITEMS
    at = at + width
  end
end

if new_kind then lay_out() end

-- gathered by key: bits to set or clear, members to add to an ordered index,
-- and one run of adjacent bytes
local gathered, runs = { BITFIELD = {}, ZADD = {} }, {}
local LIST_MAX = 4000 -- arguments of one command; unpack takes some more

local function flush_list(command, key)
  local list = gathered[command][key]
  if list then
    gathered[command][key] = nil
    run(command, key, unpack(list, 1, list.n))
  end
end

-- list_for returns the list of a command's arguments, to which up to four are added.
local function list_for(command, key)
  local list = gathered[command][key]
  if list and list.n > LIST_MAX then
    flush_list(command, key)
    list = nil
  end
  if not list then
    list = { n = 0 }
    gathered[command][key] = list
  end
  return list
end

local function flush_run(key)
  local r = runs[key]
  if r then
    runs[key] = nil
    run("SETRANGE", key, format("%d", r.from), table.concat(r))
  end
end

local function put_bits(key, width, at, value)
  local list = list_for("BITFIELD", key)
  local n = list.n
  list[n + 1], list[n + 2], list[n + 3], list[n + 4] = "SET", width, at, value
  list.n = n + 4
end

-- ordinals taken one after the other become one write of up to 32 bits
local taken_key, taken_from, taken = nil, 0, 0

local function flush_taken()
  if taken > 0 then
    put_bits(taken_key, "u" .. taken, format("%d", taken_from), format("%.0f", 2 ^ taken - 1))
    taken = 0
  end
end

local function put_taken(key, at)
  if taken == 32 or taken > 0 and (taken_key ~= key or taken_from + taken ~= at) then
    flush_taken()
  end
  if taken == 0 then taken_key, taken_from = key, at end
  taken = taken + 1
end

local function put_member(key, score, member)
  local list = list_for("ZADD", key)
  local n = list.n
  list[n + 1], list[n + 2] = score, member
  list.n = n + 2
end

local function put_bytes(key, from, bytes)
  local r = runs[key]
  if r and r.next ~= from then
    flush_run(key)
    r = nil
  end
  if not r then
    r = { from = from }
    runs[key] = r
  end
  r[#r + 1] = bytes
  r.next = from + #bytes
end

local function flush()
  flush_taken()
  for command, lists in pairs(gathered) do
    for key in pairs(lists) do flush_list(command, key) end
  end
  for key in pairs(runs) do flush_run(key) end
end

-- take_ordinal returns the lowest free ordinal: below `top` there may be
-- holes, from it on there is nothing.
local function take_ordinal()
  local n
  while hint < top and not n do
    local at = floor(hint / SEGMENT)
    local key = rows_prefix .. format("%d", at)
    flush_taken()
    flush_list("BITFIELD", key) -- the search must see what this batch took
    local free = run("BITPOS", key, "0", format("%d", floor((hint - at * SEGMENT) / 8)))
    if free and free >= 0 and free < SEGMENT then
      n = at * SEGMENT + free
    else
      hint = (at + 1) * SEGMENT
    end
  end
  n = n or top
  hint = n + 1
  if n >= top then top = n + 1 end
  return n
end

local function remove_from_set(prefix, value, offset)
  if call("SREM", prefix .. "~" .. value, offset) == 0 then
    local bitmap = prefix .. "=" .. value
    if call("EXISTS", bitmap) == 1 then call("SETBIT", bitmap, offset, "0") end
  end
end

-- the row in hand: its ordinal, and where it lies in its segment
local id, ordinal, segment, offset, offset_text
local segment_number, rows_key

local function set_place(n)
  local at = floor(n / SEGMENT)
  ordinal, offset = n, n - at * SEGMENT
  offset_text = format("%d", offset)
  if at ~= segment_number then
    segment_number, segment = at, format("%d", at)
    rows_key = rows_prefix .. segment
  end
end

-- stamp_segment gives the segment the batch's stamp: a column of it changes. It goes
-- first, so that not even a batch that was cut short leaves an old one.
local stamped, stamped_number = {}, nil

local function stamp_segment()
  if stamped_number == segment_number then return end
  stamped_number = segment_number
  if not stamped[segment_number] then
    stamped[segment_number] = true
    run("SETRANGE", stamps_key, format("%d", segment_number * #stamp), stamp)
  end
end

local LENGTHS = { 3, 3, 3, 3, 4, 3, 2, 3, 3, 4, 3, 3, 3 } -- of the commands, by their code
local place -- of the command in hand

-- apply_ordered: compound indexes (10 add, 11 remove) and those by bytes.
local function apply_ordered(op, key, value, score, member)
  if op == 10 then
    put_member(key .. value, score, member)
  elseif op == 11 then
    flush_list("ZADD", key .. value)
    call("ZREM", key .. value, member)
  elseif op == 12 then
    put_member(key, "0", value .. member)
  else
    flush_list("ZADD", key)
    call("ZREM", key, value .. member)
  end
end

-- apply_from carries out the index commands from place i on. It raises what a
-- command raises.
local function apply_from(list, i)
  local size, member = #list, nil
  while i <= size do
    place = i
    local op, key = list[i], keys[list[i + 1]]
    if op < 6 then stamp_segment() end
    if op == 1 then
      put_bits(key .. segment .. list[i + 2], "u1", offset_text, "1")
    elseif op == 5 then
      put_bytes(key .. segment, offset * list[i + 2], list[i + 3])
    elseif op == 6 then
      member = member or pack(">I4", ordinal)
      put_member(key, list[i + 2], member)
    elseif op == 3 then
      add_to_set(key .. segment, list[i + 2], offset_text)
    elseif op == 2 then
      put_bits(key .. segment .. list[i + 2], "u1", offset_text, "0")
    elseif op == 4 then
      remove_from_set(key .. segment, list[i + 2], offset_text)
    elseif op == 7 then
      member = member or pack(">I4", ordinal)
      flush_list("ZADD", key)
      call("ZREM", key, member)
    elseif op == 8 then
      call("HSET", key, list[i + 2], id)
    elseif op == 9 then
      if call("HGET", key, list[i + 2]) == id then call("HDEL", key, list[i + 2]) end
    else
      member = member or pack(">I4", ordinal)
      apply_ordered(op, key, list[i + 2], list[i + 3], member)
    end
    i = i + LENGTHS[op]
  end
end

-- apply_commands carries all of them out: one that fails is noted and left
-- behind, so that the others are still applied.
local function apply_commands(list)
  local i, ok, err = 1, list == 0, nil
  while not ok do
    ok, err = pcall(apply_from, list, i)
    if not ok then
      note(err)
      i = place + LENGTHS[list[place]]
    end
  end
end

-- ids_place returns the key of the row's piece of @ids, and its offset there.
local piece_number, piece_key

local function ids_place()
  local piece = floor(ordinal / ids_piece)
  if piece ~= piece_number then
    piece_number, piece_key = piece, ids_prefix .. format("%d", piece)
  end
  return piece_key, ordinal - piece * ids_piece
end

local function enter_row(bytes)
  stamp_segment()
  put_taken(rows_key, offset)
  local key, at = ids_place()
  if id_width == 0 then
    run("HSET", key, format("%d", at), id)
  else
    open_piece(key, at)
    put_bytes(key, at * id_width, bytes)
  end
end

local function leave_row()
  stamp_segment()
  flush_taken()
  put_bits(rows_key, "u1", offset_text, "0")
  if id_width == 0 then
    local key, at = ids_place()
    run("HDEL", key, format("%d", at))
  end
  if ordinal < hint then hint = ordinal end
  deletes = deletes + 1
end

-- after returns what comes after the row's ten elements.
local function after(at)
  return unpack(rows, at + ROW_ITEMS + 1, at + ROW_ITEMS + rows[at + 5])
end

-- Where none of the rows that are created is there, one look for all of them is
-- enough. seen holds the ids that the batch itself has created.
local seen, are_new = {}, false
do
  local list = {}
  for i = 1, count do
    local at = places[i]
    local kind, given = rows[at + 1], rows[at + 2]
    if (kind == CREATE or kind == UPSERT) and given ~= "" then
      list[#list + 1] = row_prefix .. given
    end
  end
  are_new = #list > 0 and call("EXISTS", unpack(list)) == 0
end

local function is_over(expiry)
  return expiry and tonumber(expiry) <= now_ms()
end

-- check_present returns the ordinal of a row that has to be there, or nil and a
-- verdict.
local function check_present(at, key)
  local kind, expected = rows[at + 1], rows[at + 3]
  local now = try("HMGET", key, "_v", "_n", "_e")
  if now.err then return nil, { FAILED, now.err } end
  local version = now[1]
  local is_expired = has_ttl and is_over(now[3]) or false
  if not version or is_expired ~= (kind == SWEEP) then return nil, { GONE } end
  if kind == INCREMENT then
    if version:sub(1, #expected) ~= expected then return nil, { GONE } end
  elseif version ~= expected then
    return nil, { CONFLICT, call("HGETALL", key) }
  end
  local n = tonumber(now[2])
  if not n or n < 0 or n ~= floor(n) or n >= 4294967295 or #version ~= 10 then
    return nil, { FAILED, "row " .. id .. " has no ordinal or no version" }
  end
  return n
end

-- check_uniques returns nil, or a verdict: who holds a value, if his time is over.
local function check_uniques(uniques)
  for i = 1, uniques ~= 0 and #uniques or 0, 2 do
    local holder = try("HGET", keys[uniques[i]], uniques[i + 1])
    if type(holder) == "table" then return { FAILED, holder.err } end
    if holder and holder ~= id then
      local expired = has_ttl and is_over(call("HGET", row_prefix .. holder, "_e"))
      return { UNIQUE, (i - 1) / 2, expired and holder or 0 }
    end
  end
end

-- check returns the row's ordinal (nil for a new one), or nil and a verdict.
local function check(at, key)
  local kind, n, refusal = rows[at + 1], nil, nil
  if kind == CREATE or kind == UPSERT then
    -- that look was for the ids that were given
    local is_known_new = are_new and rows[at + 2] ~= ""
    if seen[id] or not is_known_new and call("EXISTS", key) ~= 0 then
      if has_ttl and is_over(call("HGET", key, "_e")) then return nil, { EXISTS, id } end
      if kind == UPSERT then return nil, { CONFLICT, call("HGETALL", key) } end
      return nil, { EXISTS, 0 }
    end
  else
    n, refusal = check_present(at, key)
  end
  refusal = refusal or check_uniques(rows[at + 7])
  return not refusal and n or nil, refusal
end

-- set_life notes when the row expires.
local function set_life(key, life)
  local member = pack(">I4", ordinal)
  if life < 0 then
    call("HDEL", key, "_e")
    run("ZREM", expires, member)
  else
    local at = format("%.0f", now_ms() + life)
    call("HSET", key, "_e", at)
    run("ZADD", expires, at, member)
  end
end

local increment, has_increments = nil, false
for i = 1, count do has_increments = has_increments or rows[places[i] + 1] == INCREMENT end
if has_increments then
  -- number_text is the shortest text that reads back as the same number.
  local function number_text(v)
    if v == floor(v) and math.abs(v) <= 2 ^ 53 then return format("%.0f", v) end
    for digits = math.abs(v) < 2.2250738585072014e-308 and 1 or 15, 17 do
      local text = format("%." .. digits .. "g", v)
      if tonumber(text) == v then
        return (text:gsub("e([+-]?)0*", function(sign) return sign == "-" and "e-" or "e" end))
      end
    end
  end

  -- packed_bytes is v, a column's least being `least`, as the column stores it.
  local function packed_bytes(v, least, width)
    if width < 8 then return pack(">I" .. width, v - least + 1) end
    local high, low = floor(v / 4294967296), floor(least / 4294967296)
    local rest = v - high * 4294967296 - (least - low * 4294967296) + 1
    local carry = floor(rest / 4294967296)
    return pack(">I4I4", high - low + carry, rest - carry * 4294967296)
  end

  local function next_version(version)
    local writes = struct.unpack(">I4", version, 7)
    return version:sub(1, 6) .. pack(">I4", (writes + 1) % 4294967296)
  end

  -- increment adds to fields: first it looks whether all of them may be.
  function increment(at, key)
    local list, texts = { after(at) }, {}
    for i = 1, #list, 9 do
      local before = tonumber(call("HGET", key, list[i]) or 0)
      local v = before + list[i + 1]
      local least, most, is_integer = list[i + 3], list[i + 4], list[i + 2] == 1
      local is_wrong = v ~= v or v == math.huge or v == -math.huge
        or is_integer and (v > 2 ^ 53 or v < -2 ^ 53 or v - list[i + 1] ~= before)
      if is_wrong or least ~= "" and v < tonumber(least) or most ~= "" and v > tonumber(most) then
        return { RANGE, (i - 1) / 9, is_wrong and tostring(v) or number_text(v) }
      end
      texts[i] = is_integer and format("%.0f", v) or number_text(v)
    end
    local version = next_version(call("HGET", key, "_v"))
    for i = 1, #list, 9 do
      call("HSET", key, list[i], texts[i])
      local v, zset, column, width = tonumber(texts[i]), list[i + 5], list[i + 6], list[i + 7]
      if zset ~= 0 then put_member(keys[zset], texts[i], pack(">I4", ordinal)) end
      if column ~= 0 then
        stamp_segment()
        put_bytes(keys[column] .. segment, offset * width, packed_bytes(v, tonumber(list[i + 8]),
          width))
      end
    end
    call("HSET", key, "_v", version)
    return { ROW, call("HGETALL", key) }
  end
end

local function remove(at, key)
  call("DEL", key)
  seen[id] = nil
  apply_commands(rows[at + 8])
  if has_ttl then run("ZREM", expires, pack(">I4", ordinal)) end
  leave_row()
  return ordinal
end

-- index carries the row's index commands out again: for an index that is built,
-- or mended. A row may be entered anew, with an ordinal of its own if need be.
local function index(at, key)
  if rows[at + 10] == NEW_ORDINAL then
    set_place(take_ordinal())
    call("HSET", key, "_n", format("%d", ordinal))
  end
  if rows[at + 10] ~= 0 then
    if ordinal >= top then top = ordinal + 1 end
    enter_row(rows[at + 9])
  end
  apply_commands(rows[at + 8])
  return ordinal
end

local function store(at, key, is_new, is_given)
  if is_new then
    seen[id] = true
    local text = segment_number == 0 and offset_text or format("%d", ordinal)
    call("HSET", key, "_v", rows[at + 4], "_n", text, after(at))
    enter_row(is_given and rows[at + 9] or integer_bytes(id))
  else
    call("HSET", key, "_v", rows[at + 4], after(at))
    if rows[at + 6] ~= 0 then call("HDEL", key, unpack(rows[at + 6])) end
  end
  apply_commands(rows[at + 8])
  if rows[at + 10] ~= 0 then set_life(key, rows[at + 10]) end
  return is_given and ordinal or { 0, ordinal, id }
end

local function apply(at)
  local kind = rows[at + 1]
  id = rows[at + 2]
  local is_given, is_new = id ~= "", kind == CREATE or kind == UPSERT
  local key, n, refusal
  repeat -- the counter passes over ids that were given
    if not is_given then id = format("%.0f", call("HINCRBY", meta, "id", "1")) end
    key = row_prefix .. id
    n, refusal = check(at, key)
  until is_given or not refusal or refusal[1] ~= EXISTS
  if refusal then return refusal end
  set_place(is_new and take_ordinal() or n)
  if kind == DELETE or kind == SWEEP then return remove(at, key) end
  if kind == INCREMENT then return increment(at, key) end
  if kind == INDEX then return index(at, key) end
  return store(at, key, is_new, is_given)
end

local enter_bulk
if new_kind then
  -- What a batch of new rows enters by key (host/model/bulk.h). Where each row was
  -- stored and has the ordinal after that of the row before, the bits of 32 rows are
  -- one number, and a column's bytes one string; else each row is entered by itself.
  local is_run

  local function is_one_run(ordinals)
    local first = ordinals[1]
    if not first or first % SEGMENT + count > SEGMENT then return false end
    for i = 2, count do
      if ordinals[i] ~= first + i - 1 then return false end
    end
    set_place(first)
    return true
  end

  local function enter_bits(ordinals, column, suffix, word, mask)
    local len = math.min(32, count - word * 32)
    if is_run then
      put_bits(column .. segment .. suffix, "u" .. len, format("%d", offset + word * 32), mask)
      return
    end
    local rest, bit = tonumber(mask), 2 ^ len
    for i = word * 32 + 1, word * 32 + len do
      bit = bit / 2
      if rest >= bit then
        rest = rest - bit
        if ordinals[i] then
          set_place(ordinals[i])
          put_bits(column .. segment .. suffix, "u1", offset_text, "1")
        end
      end
    end
  end

  local function enter_bytes(ordinals, column, width, bytes)
    if is_run then
      put_bytes(column .. segment, offset * width, bytes)
      return
    end
    for i = 1, count do
      if ordinals[i] then
        set_place(ordinals[i])
        put_bytes(column .. segment, offset * width, bytes:sub((i - 1) * width + 1, i * width))
      end
    end
  end

  local function enter_scores(ordinals, key, from, to)
    for i = from, to, 2 do
      local n = ordinals[bulk[i] + 1]
      if n then put_member(key, bulk[i + 1], pack(">I4", n)) end
    end
  end

  function enter_bulk(ordinals)
    is_run = is_one_run(ordinals)
    local at = 1
    while at < #bulk do
      local op, key, argument, first = bulk[at], keys[bulk[at + 1]], bulk[at + 2], at + 4
      local stop = first + bulk[at + 3]
      if op == 1 then
        for i = first, stop - 1, 2 do enter_bits(ordinals, key, argument, bulk[i], bulk[i + 1]) end
      elseif op == 5 then
        enter_bytes(ordinals, key, argument, bulk[first])
      else
        enter_scores(ordinals, key, first, stop - 1)
      end
      at = stop
    end
  end
end

local verdicts, ordinals = {}, {} -- ordinals: of the rows that were written
for i = 1, count do
  local ok, verdict = pcall(apply, places[i])
  if not ok then -- something else lies where the model's keys should
    note(verdict)
    verdict = { FAILED, type(verdict) == "table" and verdict.err or tostring(verdict) }
  elseif type(verdict) == "number" or verdict[1] == 0 then
    ordinals[i] = ordinal
  end
  verdicts[i] = verdict
end
if new_kind then enter_bulk(ordinals) end
flush()

return finish(verdicts)
