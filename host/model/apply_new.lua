-- apply_new: batches of new rows, none of which is there yet, that take ordinals behind
-- all others, in one segment, and unique values that nobody has. Most are such; to
-- others apply_rows does the same row by row.

local is_plain = new_kind and hint >= top and top % SEGMENT + count <= SEGMENT
if is_plain and not have_ids then
  local last = tonumber(state[4] or 0)
  row_keys = {}
  for i = 1, last and count or 0 do row_keys[i] = row_prefix .. format("%.0f", last + i) end
  is_plain = last ~= nil and last >= -2 ^ 53 and last + count <= 2 ^ 53 -- or they are rounded
end
is_plain = is_plain and call("EXISTS", unpack(row_keys)) == 0

if is_plain and uniques ~= 0 then
  local lists, taken = {}, {} -- by index
  for i = 1, count do
    local list = uniques[i]
    for j = 1, list ~= 0 and #list or 0, 2 do
      local place, value = list[j], list[j + 1]
      if not lists[place] then lists[place], taken[place] = {}, {} end
      is_plain = is_plain and not taken[place][value]
      taken[place][value] = true
      lists[place][#lists[place] + 1] = value
    end
  end
  for place, list in pairs(lists) do
    local holders = try("HMGET", keys[place], unpack(list))
    is_plain = is_plain and not holders.err
    for i = 1, #list do is_plain = is_plain and not holders[i] end
  end
end

if is_plain and not have_ids then
  is_plain = type(try("HINCRBY", meta, "id", count)) == "number"
end

if is_plain then
  local first, offset, verdicts = top, top % SEGMENT, {}
  local segment_number = (first - offset) / SEGMENT
  local segment = format("%d", segment_number)
  local members = {} -- of ordered indexes
  for i = 1, count do
    verdicts[i] = first + i - 1
    members[i] = pack(">I4", first + i - 1)
  end

  local expiring

  -- the rows: most of what a batch costs are the steps in here
  local row, last, at = { "HSET", "", "_v", new_version, "_n", "" }, 6 + 2 * #names, 0
  for j = 1, #names do -- in order: Lua keeps what lies behind a gap elsewhere
    row[5 + 2 * j] = names[j]
    row[6 + 2 * j] = ""
  end
  for i = 1, count do
    local stop = last
    row[2], row[6] = row_keys[i], format("%d", verdicts[i])
    if is_full == 1 then
      for j = 8, last, 2 do
        at = at + 1
        row[j] = values[at]
      end
    else
      stop = 6
      for j = 1, #names do
        at = at + 1
        if values[at] ~= 0 then
          row[stop + 1], row[stop + 2] = names[j], values[at]
          stop = stop + 2
        end
      end
    end
    if lives ~= 0 and lives[i] > 0 then
      local over = format("%.0f", now_ms() + lives[i])
      row[stop + 1], row[stop + 2] = "_e", over
      stop = stop + 2
      expiring = expiring or { "ZADD", expires }
      expiring[#expiring + 1] = over
      expiring[#expiring + 1] = members[i]
    end
    local reply = try(unpack(row, 1, stop))
    if type(reply) == "table" then -- the server is full: nothing is stored
      for j = 1, i - 1 do call("DEL", row_keys[j]) end
      return reply
    end
  end
  hint, top = first + count, first + count

  -- which rows there are: 32 are one number
  local rows_key, places_text, widths = rows_prefix .. segment, {}, {}
  local taken = { "BITFIELD", rows_key }
  for word = 0, floor((count - 1) / 32) do
    local n = math.min(32, count - word * 32)
    places_text[word], widths[word] = format("%d", offset + word * 32), "u" .. n
    taken[#taken + 1] = "SET"
    taken[#taken + 1] = widths[word]
    taken[#taken + 1] = places_text[word]
    taken[#taken + 1] = format("%.0f", 2 ^ n - 1)
  end
  run("SETRANGE", stamps_key, format("%d", segment_number * #stamp), stamp)
  run(unpack(taken))

  -- their ids, by pieces
  if id_width == 8 and not have_ids then
    local list = {}
    for i = 1, count do list[i] = integer_bytes(id_of(row_keys[i])) end
    new_bytes = table.concat(list)
  end
  local i = 0
  while i < count do
    local piece = floor((first + i) / ids_piece)
    local key, from = ids_prefix .. format("%d", piece), first + i - piece * ids_piece
    local n = math.min(count - i, ids_piece - from)
    if id_width == 0 then
      local list = { "HSET", key }
      for j = 0, n - 1 do
        list[#list + 1] = format("%d", from + j)
        list[#list + 1] = id_of(row_keys[i + j + 1])
      end
      run(unpack(list))
    else
      open_piece(key, from)
      run("SETRANGE", key, format("%d", from * id_width),
        new_bytes:sub(i * id_width + 1, (i + n) * id_width))
    end
    i = i + n
  end

  -- what they enter by key, as host/model/bulk.h says
  at = 1
  while at < #bulk do
    local op, key, argument, from = bulk[at], keys[bulk[at + 1]], bulk[at + 2], at + 4
    local stop = from + bulk[at + 3]
    if stop - from == 2 and op == 1 then -- what is but one needs no list
      local word = bulk[from]
      run("BITFIELD", key .. segment .. argument, "SET", widths[word], places_text[word],
        bulk[from + 1])
    elseif op == 1 then
      local list, n = { "BITFIELD", key .. segment .. argument }, 2
      for j = from, stop - 1, 2 do
        local word = bulk[j]
        list[n + 1], list[n + 2], list[n + 3], list[n + 4] = "SET", widths[word],
          places_text[word], bulk[j + 1]
        n = n + 4
      end
      run(unpack(list))
    elseif op == 5 then
      run("SETRANGE", key .. segment, format("%d", offset * argument), bulk[from])
    elseif stop - from == 2 then
      run("ZADD", key, bulk[from + 1], members[bulk[from] + 1])
    else
      local list, n = { "ZADD", key }, 2
      for j = from, stop - 1, 2 do
        list[n + 1], list[n + 2] = bulk[j + 1], members[bulk[j] + 1]
        n = n + 2
      end
      run(unpack(list))
    end
    at = stop
  end

  -- and the rest by row, as host/model/index.h says; what is for one key is gathered
  local gathered = {}
  for row_number = 1, commands ~= 0 and count or 0 do
    local list = commands[row_number]
    at = 1
    while list ~= 0 and at < #list do
      local op, key, value, a, b = list[at], keys[list[at + 1]], list[at + 2], "0", nil
      at = at + 3
      if op == 3 then
        local place = format("%d", offset + row_number - 1)
        local ok, err = pcall(add_to_set, key .. segment, value, place)
        if not ok then note(err, key .. segment) end
        key = nil
      elseif op == 8 then
        a, b = value, id_of(row_keys[row_number])
      elseif op == 10 then
        key, a, b = key .. value, list[at], members[row_number]
        at = at + 1
      else
        b = value .. members[row_number]
      end
      if key then
        local into = gathered[key] or { op == 8 and "HSET" or "ZADD", key }
        gathered[key] = into
        into[#into + 1] = a
        into[#into + 1] = b
      end
    end
  end
  for _, list in pairs(gathered) do run(unpack(list)) end
  if expiring then run(unpack(expiring)) end

  if not have_ids then
    for j = 1, count do verdicts[j] = { 0, verdicts[j], id_of(row_keys[j]) } end
  end
  return finish(verdicts)
end
