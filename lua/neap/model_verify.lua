-- model_verify: compares the indexes of a model with its rows. Internal; see
-- Model:verify.
--
-- Rows are looked at first: each entry that a row should have is looked for. Then the
-- keys: each entry that they have is looked up in its row. Others write meanwhile, so
-- whatever looks wrong is looked at once more in one step in Redis, with the row's version,
-- before it counts; with repair it is mended in that step.
local core = require "neap.core.model"
local FAIL = require("neap.core.task").FAIL
local errors = require "neap.core.error"
local check = require("neap.model_error").check
local stats = require "neap.model_stats"
local sync = require "neap.model_sync"
local fail = require("neap.model_error").fail
local random_bytes = require("neap.core.util").random_bytes
local M = {}

local PAGE = 500     -- keys, or members, looked at in one go
local PROBLEMS = 20  -- that are described
local SLICE = 1024   -- bytes of a column
local SEGMENT = 65536

-- check_rows_text: which of their entries do rows lack? KEYS: rows. ARGV: for each its
-- version and its entries, packed (host/model/entry.h). Returns for each a list of the places
-- of those that are missing and, behind it, the key of the first of them; or "moved".
local check_rows_text = [[
local function get(...)
  local r = redis.pcall(...)
  if type(r) == "table" and r.err then return nil end
  return r
end
local function has(kind, a, b, c)
  if kind == 0 then return get("GETBIT", a, b) == 1 end
  if kind == 1 then
    return get("SISMEMBER", a, c) == 1 or get("EXISTS", b) == 1 and get("GETBIT", b, c) == 1
  end
  if kind == 2 then
    return get("GETRANGE", a, b, tostring(tonumber(b) + #c - 1)) == c
  end
  if kind == 3 then
    local score = get("ZSCORE", a, b)
    return score and tonumber(score) == tonumber(c)
  end
  return get("HGET", a, b) == c
end
local out = {}
for i, key in ipairs(KEYS) do
  local version, entries = ARGV[i * 2 - 1], cmsgpack.unpack(ARGV[i * 2])
  if get("HGET", key, "_v") ~= version then
    out[i] = "moved"
  else
    local missing, first = {}, nil
    for j = 1, #entries, 4 do
      if not has(entries[j], entries[j + 1], entries[j + 2], entries[j + 3]) then
        missing[#missing + 1] = (j - 1) / 4 + 1
        first = first or entries[j + 1]
      end
    end
    out[i] = { missing, first }
  end
end
return out
]]

-- find_broken_text: which of the rows have no valid ordinal or version (1), and which are none
-- at all (2)? KEYS: rows; ARGV[1]: 1 if they shall have an ordinal that no other row has, so that
-- they can be numbered anew.
local find_broken_text = [[
local out = {}
for i, key in ipairs(KEYS) do
  local now, wrong = redis.pcall("HMGET", key, "_v", "_n"), 0
  if now.err then
    wrong = 2
  elseif not now[1] and not now[2] then
    wrong = redis.call("EXISTS", key) * 2
  else
    if not now[1] or #now[1] ~= 10 then
      wrong = 1
      if ARGV[1] == "1" then
        local name = redis.sha1hex(key .. redis.call("TIME")[2]):sub(1, 6)
        redis.call("HSET", key, "_v", name .. "\0\0\0\0")
      end
    end
    local n = tonumber(now[2] or "")
    if not n or not now[2]:match("^%d+$") or n >= 4294967295 then
      wrong = 1
      if ARGV[1] == "1" then redis.call("HSET", key, "_n", "4294967294") end
    end
  end
  out[i] = wrong
end
return out
]]

-- settle_text: which suspects are wrong? KEYS: the key they are in, the stamps. ARGV: repair
-- (0 or 1), kind, @ids key, width of @ids (0: a hash), what row keys begin with, the meta hash,
-- the segment if the key is a column (else ""), a new stamp for that; then for each the member,
-- its value, the offset of its ordinal (or ""), the id and the version of the row as judged (""
-- for none), the ordinal. Returns for each 1 if it is wrong, and it is then removed with repair.
local settle_text = [[
local key, out = KEYS[1], {}
local repair, kind, ids, width, prefix, meta = ARGV[1] == "1", ARGV[2], ARGV[3], tonumber(ARGV[4]),
  ARGV[5], ARGV[6]
local stamp_at = ARGV[7] ~= "" and ARGV[7] * 8
local function id_at(offset)
  if width == 0 then return redis.call("HGET", ids, offset) or "" end
  local at = tonumber(offset) * width
  return redis.call("GETRANGE", ids, tostring(at), tostring(at + width - 1))
end
local function still_there(member, value)
  if kind == "bits" or kind == "live" then return redis.call("GETBIT", key, member) == 1 end
  if kind == "members" then return redis.call("SISMEMBER", key, member) == 1 end
  if kind == "packed" then
    return redis.call("GETRANGE", key, member, tostring(tonumber(member) + #value - 1)) == value
  end
  if kind == "scores" or kind == "ordered" then
    local score = redis.call("ZSCORE", key, member)
    return score and tonumber(score) == tonumber(value)
  end
  return redis.call("HGET", key, member) == value
end
local function remove(member, value, ordinal)
  if stamp_at then redis.call("SETRANGE", KEYS[2], stamp_at, ARGV[8]) end
  if kind == "bits" then
    redis.call("SETBIT", key, member, 0)
  elseif kind == "live" then
    redis.call("SETBIT", key, member, 0)
    local hint = tonumber(redis.call("HGET", meta, "hint") or 0)
    if tonumber(ordinal) < hint then redis.call("HSET", meta, "hint", ordinal) end
  elseif kind == "members" then
    redis.call("SREM", key, member)
  elseif kind == "packed" then
    redis.call("SETRANGE", key, member, ("\0"):rep(#value))
  elseif kind == "scores" or kind == "ordered" then
    redis.call("ZREM", key, member)
  else
    redis.call("HDEL", key, member)
  end
end
for i = 9, #ARGV, 6 do
  local member, value, offset, id, version = unpack(ARGV, i, i + 4)
  local row = ARGV[i + 5]:match("^%d*:(.*)$")
  local same = offset == "" or id_at(offset) == id
  if same and row ~= "" then
    local now = redis.pcall("HGET", prefix .. row, "_v")
    same = (type(now) == "string" and now or "") == version
  end
  local wrong = same and still_there(member, value)
  if wrong and repair then remove(member, value, ARGV[i + 5]:match("^%d*")) end
  out[#out + 1] = wrong and 1 or 0
end
return out
]]

local scripts = setmetatable({}, { __mode = "k" }) -- by client

local function script(run, text)
  local own = scripts[run.model.redis] or {}
  scripts[run.model.redis] = own
  own[text] = own[text] or run.model.redis:lua(text)
  return own[text]
end

local function problem(run, fmt, ...)
  if #run.report.problems < PROBLEMS then
    run.report.problems[#run.report.problems + 1] = (fmt:format(...):gsub("[^\32-\126]", "."))
  end
end

local function count(run, what, n)
  run.report[what] = run.report[what] + (n or 1)
end

local function step(run, n, what)
  run.done = run.done + n
  if run.progress then run.progress(math.min(run.done, run.total), run.total, what) end
end

-- load_rows returns shadows by place, false where there is no row. What is damaged is false
-- too, and a problem.
local function load_rows(run, ids)
  local shadows, e = core.load_shadows(run.model.core, ids)
  if shadows ~= FAIL then return shadows end
  if not errors.is_error(e, "model.damaged") then error(e, 0) end
  if #ids == 1 then
    if not run.damaged[ids[1]] then problem(run, "row %s is damaged: %s", ids[1], e.message) end
    run.damaged[ids[1]] = true
    return { false }
  end
  local list = {}
  for i, id in ipairs(ids) do list[i] = load_rows(run, { id })[1] end
  return list
end

-- rows ----------------------------------------------------------------------

-- mend has rows enter what they lack; returns how many could be.
local function mend(run, list, way)
  if #list == 0 then return 0 end
  local shadows = {}
  for i, row in ipairs(list) do shadows[i] = row.shadow end
  local _, failures = check(core.mend(run.model.core, shadows, way))
  local n = 0
  for i, row in ipairs(list) do
    local failure = failures and failures[i]
    if failure and errors.is_error(failure, "model.unique") then
      run.clashes[row.id] = failure
    elseif failure and not errors.is_error(failure, "model.gone") then
      problem(run, "row %s: %s", row.id, failure.message)
    elseif not failure then
      n = n + #row.missing
    end
  end
  return n
end

-- has_other_row: the place of this row is that of another one, which has it by right.
local function has_other_row(run, row)
  local ids = check(core.ids(run.model.core, { row.ordinal }))
  local id = ids[1]
  if not id or id == row.id then return false end
  local other = load_rows(run, { id })[1]
  return other and (core.row_facts(other)) == row.ordinal
end

-- find_broken looks at rows that could not be loaded; with repair they are numbered anew.
local function find_broken(run, ids)
  local keys, broken = {}, {}
  for i, id in ipairs(ids) do keys[i] = core.row_key(run.model.core, id) or run.row_prefix .. id end
  local found = script(run, find_broken_text)(keys, run.repair and 1 or 0)
  for i, id in ipairs(ids) do
    if found[i] == 1 then
      count(run, "missing")
      problem(run, "row %s has no ordinal or no version", id)
      broken[#broken + 1] = id
    elseif found[i] == 2 then
      count(run, "lost")
      problem(run, "%s is no row, though it is called like one", keys[i])
    end
  end
  if not run.repair or #broken == 0 then return end
  local list = {}
  for i, shadow in ipairs(load_rows(run, broken)) do
    if shadow then list[#list + 1] = { id = broken[i], shadow = shadow, missing = { 1 } } end
  end
  count(run, "repaired", mend(run, list, "renumber"))
end

local function take_missing(run, rows)
  local enter, renumber, index = {}, {}, {}
  for _, row in ipairs(rows) do
    count(run, "missing", #row.missing)
    problem(run, "%s lacks row %s%s", row.lacking, row.id, #row.missing > 1
      and (", and %d more keys do"):format(#row.missing - 1) or "")
    local has_place = row.missing[1] ~= 1 and row.missing[1] ~= 2 and row.missing[2] ~= 2
    local is_taken = not has_place and (row.ordinal >= run.top or has_other_row(run, row))
    local list = has_place and index or is_taken and renumber or enter
    list[#list + 1] = row
  end
  if run.repair then
    count(run, "repaired", mend(run, index, "index") + mend(run, enter, "enter")
      + mend(run, renumber, "renumber"))
  end
end

-- check_rows looks for the entries of rows; rows that were written meanwhile are looked at
-- again, a few times.
local function check_rows(run, ids)
  for _ = 1, 5 do
    if #ids == 0 then return end
    local shadows = load_rows(run, ids)
    local keys, args, known, absent = {}, {}, {}, {}
    for i, id in ipairs(ids) do
      local shadow = shadows[i]
      if not shadow then
        absent[#absent + 1] = id
      else
        local ordinal, version = core.row_facts(shadow)
        keys[#keys + 1] = core.row_key(run.model.core, id)
        args[#args + 1] = version
        args[#args + 1] = core.entries(run.model.core, shadow)
        known[#known + 1] = { id = id, shadow = shadow, ordinal = ordinal }
      end
    end
    if #absent > 0 then find_broken(run, absent) end
    if #keys == 0 then return end
    local found = script(run, check_rows_text)(keys, unpack(args))
    local wrong = {}
    ids = {}
    for i, row in ipairs(known) do
      if found[i] == "moved" then
        ids[#ids + 1] = row.id
      elseif #found[i][1] > 0 then
        row.missing, row.lacking = unpack(found[i])
        wrong[#wrong + 1] = row
      end
    end
    take_missing(run, wrong)
  end
end

-- each_page calls fn with lists of the keys that match.
local function each_page(model, pattern, fn)
  local page = {}
  for key in model.redis:scan { match = pattern, count = 1000 } do
    page[#page + 1] = key
    if #page == PAGE then
      fn(page)
      page = {}
    end
  end
  if #page > 0 then fn(page) end
end

local function check_all_rows(run)
  local keys = core.keys(run.model.core)
  each_page(run.model, keys.rows, function(page)
    local ids = {}
    for i, key in ipairs(page) do ids[i] = key:sub(#keys.row + 1) end
    check_rows(run, ids)
    step(run, #page, "rows")
  end)
end

-- keys ----------------------------------------------------------------------

local types = { live = "string", bits = "string", packed = "string", members = "set",
  scores = "zset", ordered = "zset", ids = "hash", holders = "hash", stamps = "string" }

local function ordinal_of(member)
  local a, b, c, d = member:byte(-4, -1)
  return d and ((a * 256 + b) * 256 + c) * 256 + d
end

local function ids_bytes(width, id)
  if width == 0 or id == "" then return id end
  if width == 16 then
    return (id:gsub("-", ""):gsub("..", function(two) return string.char(tonumber(two, 16)) end))
  end
  local v, bytes = tonumber(id), {}
  for i = 8, 1, -1 do
    bytes[i] = string.char(v % 256)
    v = math.floor(v / 256)
  end
  return table.concat(bytes)
end

-- judge returns of the candidates, each { member, value, ordinal or id }, those that look
-- wrong, with the row that they were judged by.
local function judge(run, key, kind, list)
  local ordinals, ids = {}, {}
  for i, c in ipairs(list) do ordinals[i] = c.ordinal end
  if #ordinals > 0 then ids = check(core.ids(run.model.core, ordinals)) end
  local known, place = {}, {}
  for i, c in ipairs(list) do
    c.id = c.id or ids[i] or ""
    if c.id ~= "" then
      known[#known + 1] = c.id
      place[i] = #known
    end
  end
  local shadows = #known > 0 and load_rows(run, known) or {}
  local suspects = {}
  for i, c in ipairs(list) do
    local shadow = place[i] and shadows[place[i]]
    local ordinal, version
    if shadow then ordinal, version = core.row_facts(shadow) end
    local has_place = shadow and (not c.ordinal or ordinal == c.ordinal)
    c.version = version or ""
    if kind == "live" then
      c.is_wrong = not has_place
    else
      c.is_wrong = not has_place
        or not core.is_entry(run.model.core, shadow, key, c.member, c.value)
    end
    if c.is_wrong then suspects[#suspects + 1] = c end
  end
  return suspects
end

-- settle counts the suspects that are wrong, and mends them if that is wanted.
local function settle(run, key, kind, suspects)
  if #suspects == 0 then return end
  local keys, width, piece = core.keys(run.model.core), core.ids_form(run.model.core)
  local at = suspects[1].ordinal and math.floor(suspects[1].ordinal / piece) or 0
  local is_column = kind == "bits" or kind == "live" or kind == "packed" or kind == "members"
  local segment = is_column and math.floor(suspects[1].ordinal / SEGMENT) or ""
  local args = { run.repair and 1 or 0, kind, keys.ids .. at, width, keys.row, keys.meta, segment,
    random_bytes(8) }
  for _, c in ipairs(suspects) do
    local offset = c.ordinal and c.ordinal % piece or ""
    local id = ids_bytes(width, c.id)
    if c.id == "" and width > 0 then id = ("\0"):rep(width) end
    local row = (c.ordinal or "") .. ":" .. c.id
    for _, v in ipairs { c.member, c.value, offset, id, c.version, row } do args[#args + 1] = v end
  end
  local found = script(run, settle_text)({ key, keys.stamps }, unpack(args))
  local n = 0
  for i = 1, #suspects do n = n + found[i] end
  if n == 0 then return end
  local what = kind == "live" and "lost" or "ghosts"
  count(run, what, n)
  problem(run, "%s: %d %s", key, n, what == "lost" and "places are held by no row" or "ghosts")
  if run.repair then count(run, "repaired", n) end
end

-- look settles those members of a key that look wrong, as many at a time as one piece of
-- @ids tells of.
local function look(run, key, kind, list)
  local suspects = judge(run, key, kind, list)
  table.sort(suspects, function(a, b) return (a.ordinal or 0) < (b.ordinal or 0) end)
  local group, piece = {}, nil
  local _, size = core.ids_form(run.model.core)
  for _, c in ipairs(suspects) do
    local p = c.ordinal and math.floor(c.ordinal / size)
    if p ~= piece then
      settle(run, key, kind, group)
      group, piece = {}, p
    end
    group[#group + 1] = c
  end
  settle(run, key, kind, group)
end

local readers = {}

-- in_pages calls fn with lists of at most PAGE elements that it is given one by one.
local function in_pages(fn)
  local page = {}
  return function(c)
    page[#page + 1] = c
    if #page == PAGE then
      fn(page)
      page = {}
    end
  end, function()
    if #page > 0 then fn(page) end
  end
end

function readers.bits(run, key, segment, _, add)
  local length = run.model.redis:call("STRLEN", key)
  for at = 0, length - 1, SLICE do
    local bytes = run.model.redis:call("GETRANGE", key, at, at + SLICE - 1)
    for _, ordinal in ipairs(core.bits(bytes, segment * SEGMENT + at * 8)) do
      add { member = tostring(ordinal % SEGMENT), value = "", ordinal = ordinal }
    end
  end
end
readers.live = readers.bits

function readers.packed(run, key, segment, width, add)
  local length = run.model.redis:call("STRLEN", key)
  local zero = ("\0"):rep(width)
  for at = 0, length - 1, SLICE do
    local bytes = run.model.redis:call("GETRANGE", key, at, at + SLICE - 1)
    for i = 1, #bytes, width do
      local value = bytes:sub(i, i + width - 1)
      if value ~= zero then
        add { member = tostring(at + i - 1), value = value,
          ordinal = segment * SEGMENT + (at + i - 1) / width }
      end
    end
  end
end

function readers.members(run, key, segment, _, add)
  for offset in run.model.redis:sscan(key) do
    add { member = offset, value = "", ordinal = segment * SEGMENT + (tonumber(offset) or 0) }
  end
end

function readers.scores(run, key, _, _, add)
  for member, score in run.model.redis:zscan(key) do
    add { member = member, value = tostring(score), ordinal = ordinal_of(member) or 2 ^ 32 - 1 }
  end
end
readers.ordered = readers.scores

function readers.stamps() end -- nothing in it can be wrong: see host/model/cache.h

function readers.holders(run, key, _, _, add)
  for field, id in run.model.redis:hscan(key) do add { member = field, value = id, id = id } end
end

function readers.ids(run, key, at, _, add)
  local _, piece = core.ids_form(run.model.core)
  for offset, id in run.model.redis:hscan(key) do
    add { member = offset, value = id, ordinal = at * piece + (tonumber(offset) or 0), id = id }
  end
end

-- remove_key takes away a whole key that is none of the model's indexes.
local function remove_key(run, key, fmt, ...)
  count(run, "ghosts")
  problem(run, fmt, ...)
  if run.repair then
    run.model.redis:call("UNLINK", key)
    count(run, "repaired")
  end
end

-- is_dropped: sync is about to remove the key.
local function is_dropped(run, key)
  local model = run.model
  local dropped = model.redis:call("HGET", core.keys(model.core).meta, "dropped") or ""
  for name, build in dropped:gmatch "(%S+) (%d+)\n" do
    if core.is_of_build(model.core, name, tonumber(build), key) then return true end
  end
  return false
end

local function check_key(run, key, kind_in_redis)
  local kind, segment, width = core.classify(run.model.core, key)
  if kind == "other" or kind_in_redis == "none" then return end
  if kind == "unknown" then
    if not is_dropped(run, key) then remove_key(run, key, "%s belongs to no index", key) end
    return
  end
  if kind_in_redis ~= types[kind] then
    run.is_again = true
    remove_key(run, key, "%s is a %s, a %s is expected", key, kind_in_redis, types[kind])
    return
  end
  local add, finish = in_pages(function(page) look(run, key, kind, page) end)
  readers[kind](run, key, segment, width, add)
  finish()
end

local function check_all_keys(run)
  local model = run.model
  each_page(model, core.keys(model.core).rest, function(page)
    local kinds = model.redis:pipeline(function(p)
      for _, key in ipairs(page) do p:call("TYPE", key) end
    end)
    for i, key in ipairs(page) do
      check_key(run, key, kinds[i])
      step(run, 1, "index keys")
    end
  end)
end

-- clashes: rows that have a unique value which another row has too.
local function count_clashes(run)
  local ids = {}
  for id in pairs(run.clashes) do ids[#ids + 1] = id end
  run.clashes = {}
  table.sort(ids)
  for from = 1, #ids, PAGE do
    local page = {}
    for i = from, math.min(from + PAGE - 1, #ids) do page[#page + 1] = ids[i] end
    local shadows = load_rows(run, page)
    for i, id in ipairs(page) do
      if shadows[i] then mend(run, { { id = id, shadow = shadows[i], missing = {} } }, "index") end
    end
  end
  for id, failure in pairs(run.clashes) do
    count(run, "uniques")
    problem(run, "row %s: %s", id, failure.message)
  end
end

-- least_top returns where ordinals end at least, as the bitmaps of rows have it.
local function least_top(run)
  local model, top = run.model, 0
  each_page(model, core.keys(model.core).live .. "*", function(page)
    for _, key in ipairs(page) do
      local kind, segment = core.classify(model.core, key)
      local length = kind == "live" and tonumber(model.redis:call("STRLEN", key)) or 0
      if length > 0 then
        top = math.max(top, segment * SEGMENT + math.min((length - 1) * 8 + 1, SEGMENT))
      end
    end
  end)
  return top
end

local function is_whole(text)
  local n = tonumber(text)
  return n and n >= 0 and n == math.floor(n)
end

-- mend_meta: without the meta hash nobody writes. All places below top are looked at again.
local function mend_meta(run, least)
  local model, keys = run.model, core.keys(run.model.core)
  local text, generation = core.schema(model.core)
  model.redis:multi(function(tx)
    tx:call("SETNX", keys.schema, text)
    tx:call("HSET", keys.meta, "gen", generation, "hint", 0, "top", least + 7)
  end)
  count(run, "repaired")
end

-- check_meta finds out whether the stored definition is the model's, and whether what
-- is known of the places is true.
local function check_meta(run)
  local model, keys = run.model, core.keys(run.model.core)
  local is_stored = model.redis:call("EXISTS", keys.schema) == 1
  if is_stored and not sync.adopt(model) then
    fail("model.schema_changed",
      "model %s is stored with another definition; call its sync()", model.name)
  end
  local meta = model.redis:call("HMGET", keys.meta, "gen", "top", "hint")
  if not meta[1] and not sync.has_rows(model) then return end
  local least = least_top(run)
  local top, hint = meta[2] or "0", meta[3] or "0"
  if not meta[1] or not is_whole(top) or not is_whole(hint) or tonumber(top) < least then
    count(run, "missing")
    problem(run, "%s does not say how the rows are stored", keys.meta)
    if run.repair then mend_meta(run, least) end
  end
  run.top = tonumber(model.redis:call("HGET", keys.meta, "top") or 0) or 0
end

-- again: what was removed may have been some row's, and what stood in a row's way is gone.
local function again(run)
  local missing, repaired = run.report.missing, run.report.repaired
  run.clashes = {}
  check_all_rows(run)
  local more = run.report.missing - missing
  run.report.missing, run.report.repaired = missing, math.max(repaired,
    run.report.repaired - more)
end

--- run(model, options): Model:verify.
function M.run(model, options)
  if options ~= nil and type(options) ~= "table" then
    error("verify: a table of options expected, got " .. type(options), 3)
  end
  options = options or {}
  local report = { rows = 0, ghosts = 0, missing = 0, uniques = 0, lost = 0, repaired = 0,
    problems = {} }
  local run = { model = model, report = report, repair = options.repair,
    progress = options.progress, done = 0, clashes = {}, damaged = {}, top = 0,
    row_prefix = core.keys(model.core).row }
  check_meta(run)
  run.total = stats.count(model) * (options.repair and 2 or 1)
  check_all_rows(run)
  check_all_keys(run)
  if options.repair and (run.is_again or report.lost + report.ghosts > 0 or next(run.clashes)) then
    again(run)
  end
  count_clashes(run)
  report.rows = (stats.count(model))
  return report
end

return M
