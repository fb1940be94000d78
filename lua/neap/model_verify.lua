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

-- settle_text: which suspects are wrong? KEYS: the key they are in. ARGV: repair (0 or 1),
-- kind, @ids key, width of @ids (0: a hash), what row keys begin with, the meta hash; then for each
-- the member, its value, the offset of its ordinal (or ""), the id and the version of the row
-- as judged ("" for none), the ordinal. Returns for each 1 if it is wrong, and it is then removed
-- with repair.
local settle_text = [[
local key, out = KEYS[1], {}
local repair, kind, ids, width, prefix, meta = ARGV[1] == "1", ARGV[2], ARGV[3], tonumber(ARGV[4]),
  ARGV[5], ARGV[6]
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
for i = 7, #ARGV, 6 do
  local member, value, offset, id, version = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
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

local Run = {} -- one verify
Run.__index = Run

function Run:script(text)
  local own = scripts[self.model.redis] or {}
  scripts[self.model.redis] = own
  own[text] = own[text] or self.model.redis:lua(text)
  return own[text]
end

function Run:problem(fmt, ...)
  if #self.report.problems < PROBLEMS then
    self.report.problems[#self.report.problems + 1] = (fmt:format(...):gsub("[^\32-\126]", "."))
  end
end

function Run:count(what, n)
  self.report[what] = self.report[what] + (n or 1)
end

function Run:step(n, what)
  self.done = self.done + n
  if self.progress then self.progress(math.min(self.done, self.total), self.total, what) end
end

-- load returns shadows by place, false where there is no row. What is damaged is false
-- too, and a problem.
function Run:load(ids)
  local shadows, e = core.load_shadows(self.model.core, ids)
  if shadows ~= FAIL then return shadows end
  if not errors.is_error(e, "model.damaged") then error(e, 0) end
  if #ids == 1 then
    if not self.damaged[ids[1]] then self:problem("row %s is damaged: %s", ids[1], e.message) end
    self.damaged[ids[1]] = true
    return { false }
  end
  local list = {}
  for i, id in ipairs(ids) do list[i] = self:load { id }[1] end
  return list
end

-- rows ----------------------------------------------------------------------

-- mend has rows enter what they lack; returns how many could be.
function Run:mend(list, way)
  if #list == 0 then return 0 end
  local shadows = {}
  for i, row in ipairs(list) do shadows[i] = row.shadow end
  local _, failures = check(core.mend(self.model.core, shadows, way))
  local n = 0
  for i, row in ipairs(list) do
    local failure = failures and failures[i]
    if failure and errors.is_error(failure, "model.unique") then
      self.clashes[row.id] = failure
    elseif failure and not errors.is_error(failure, "model.gone") then
      self:problem("row %s: %s", row.id, failure.message)
    elseif not failure then
      n = n + #row.missing
    end
  end
  return n
end

-- has_other_row: the place of this row is that of another one, which has it by right.
function Run:has_other_row(row)
  local ids = check(core.ids(self.model.core, { row.ordinal }))
  local id = ids[1]
  if not id or id == row.id then return false end
  local other = self:load({ id })[1]
  return other and (core.row_facts(other)) == row.ordinal
end

function Run:take_missing(rows)
  local enter, renumber, index = {}, {}, {}
  for _, row in ipairs(rows) do
    self:count("missing", #row.missing)
    self:problem("%s lacks row %s%s", row.lacking, row.id, #row.missing > 1
      and (", and %d more keys do"):format(#row.missing - 1) or "")
    local has_place = row.missing[1] ~= 1 and row.missing[1] ~= 2 and row.missing[2] ~= 2
    local list = has_place and index or self:has_other_row(row) and renumber or enter
    list[#list + 1] = row
  end
  if self.repair then
    self:count("repaired", self:mend(index, "index") + self:mend(enter, "enter")
      + self:mend(renumber, "renumber"))
  end
end

-- check_rows looks for the entries of rows; rows that were written meanwhile are looked at
-- again, a few times.
function Run:check_rows(ids)
  for _ = 1, 5 do
    if #ids == 0 then return end
    local shadows = self:load(ids)
    local keys, args, known = {}, {}, {}
    for i, id in ipairs(ids) do
      local shadow = shadows[i]
      if shadow then
        local ordinal, version = core.row_facts(shadow)
        keys[#keys + 1] = core.row_key(self.model.core, id)
        args[#args + 1] = version
        args[#args + 1] = core.entries(self.model.core, shadow)
        known[#known + 1] = { id = id, shadow = shadow, ordinal = ordinal }
      end
    end
    if #keys == 0 then return end
    local found = self:script(check_rows_text)(keys, unpack(args))
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
    self:take_missing(wrong)
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

function Run:check_all_rows()
  local keys = core.keys(self.model.core)
  each_page(self.model, keys.rows, function(page)
    local ids = {}
    for i, key in ipairs(page) do ids[i] = key:sub(#keys.row + 1) end
    self:check_rows(ids)
    self:step(#page, "rows")
  end)
end

-- keys ----------------------------------------------------------------------

local types = { live = "string", bits = "string", packed = "string", members = "set",
  scores = "zset", ordered = "zset", ids = "hash", holders = "hash" }

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
function Run:judge(key, kind, list)
  local ordinals, ids = {}, {}
  for i, c in ipairs(list) do ordinals[i] = c.ordinal end
  if #ordinals > 0 then ids = check(core.ids(self.model.core, ordinals)) end
  local known, place = {}, {}
  for i, c in ipairs(list) do
    c.id = c.id or ids[i] or ""
    if c.id ~= "" then
      known[#known + 1] = c.id
      place[i] = #known
    end
  end
  local shadows = #known > 0 and self:load(known) or {}
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
        or not core.is_entry(self.model.core, shadow, key, c.member, c.value)
    end
    if c.is_wrong then suspects[#suspects + 1] = c end
  end
  return suspects
end

-- settle counts the suspects that are wrong, and mends them if that is wanted.
function Run:settle(key, kind, suspects)
  if #suspects == 0 then return end
  local keys, width = core.keys(self.model.core), core.id_width(self.model.core)
  local segment = suspects[1].ordinal and math.floor(suspects[1].ordinal / SEGMENT) or 0
  local args = { self.repair and 1 or 0, kind, keys.ids .. segment, width, keys.row, keys.meta }
  for _, c in ipairs(suspects) do
    local offset = c.ordinal and c.ordinal % SEGMENT or ""
    local id = ids_bytes(width, c.id)
    if c.id == "" and width > 0 then id = ("\0"):rep(width) end
    for _, v in ipairs { c.member, c.value, offset, id, c.version, (c.ordinal or "") .. ":" .. c.id } do
      args[#args + 1] = v
    end
  end
  local found = self:script(settle_text)({ key }, unpack(args))
  local n = 0
  for i = 1, #suspects do n = n + found[i] end
  if n == 0 then return end
  local what = kind == "live" and "lost" or "ghosts"
  self:count(what, n)
  self:problem("%s: %d %s", key, n, what == "lost" and "places are held by no row" or "ghosts")
  if self.repair then self:count("repaired", n) end
end

-- by_segment: members of an ordered index are settled a segment at a time.
function Run:look(key, kind, list)
  local suspects = self:judge(key, kind, list)
  table.sort(suspects, function(a, b) return (a.ordinal or 0) < (b.ordinal or 0) end)
  local group, segment = {}, nil
  for _, c in ipairs(suspects) do
    local s = c.ordinal and math.floor(c.ordinal / SEGMENT)
    if s ~= segment then
      self:settle(key, kind, group)
      group, segment = {}, s
    end
    group[#group + 1] = c
  end
  self:settle(key, kind, group)
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

function readers.holders(run, key, _, _, add)
  for field, id in run.model.redis:hscan(key) do add { member = field, value = id, id = id } end
end

function readers.ids(run, key, segment, _, add)
  for offset, id in run.model.redis:hscan(key) do
    add { member = offset, value = id, ordinal = segment * SEGMENT + (tonumber(offset) or 0),
      id = id }
  end
end

-- remove_key takes away a whole key that is none of the model's indexes.
function Run:remove_key(key, fmt, ...)
  self:count "ghosts"
  self:problem(fmt, ...)
  if self.repair then
    self.model.redis:call("UNLINK", key)
    self:count "repaired"
  end
end

function Run:check_key(key, kind_in_redis)
  local kind, segment, width = core.classify(self.model.core, key)
  if kind == "other" or kind_in_redis == "none" then return end
  if kind == "unknown" then
    if not self:is_dropped(key) then self:remove_key(key, "%s belongs to no index", key) end
    return
  end
  if kind_in_redis ~= types[kind] then
    self.is_again = true
    self:remove_key(key, "%s is a %s, a %s is expected", key, kind_in_redis, types[kind])
    return
  end
  local add, finish = in_pages(function(page) self:look(key, kind, page) end)
  readers[kind](self, key, segment, width, add)
  finish()
end

-- is_dropped: sync is about to remove the key.
function Run:is_dropped(key)
  local model = self.model
  local dropped = model.redis:call("HGET", core.keys(model.core).meta, "dropped") or ""
  for name, build in dropped:gmatch "(%S+) (%d+)\n" do
    if core.is_of_build(model.core, name, tonumber(build), key) then return true end
  end
  return false
end

function Run:check_all_keys()
  local model = self.model
  each_page(model, core.keys(model.core).rest, function(page)
    local kinds = model.redis:pipeline(function(p)
      for _, key in ipairs(page) do p:call("TYPE", key) end
    end)
    for i, key in ipairs(page) do
      self:check_key(key, kinds[i])
      self:step(1, "index keys")
    end
  end)
end

-- clashes: rows that have a unique value which another row has too.
function Run:count_clashes()
  local ids = {}
  for id in pairs(self.clashes) do ids[#ids + 1] = id end
  self.clashes = {}
  table.sort(ids)
  for from = 1, #ids, PAGE do
    local page = {}
    for i = from, math.min(from + PAGE - 1, #ids) do page[#page + 1] = ids[i] end
    local shadows = self:load(page)
    for i, id in ipairs(page) do
      if shadows[i] then self:mend({ { id = id, shadow = shadows[i], missing = {} } }, "index") end
    end
  end
  for id, failure in pairs(self.clashes) do
    self:count "uniques"
    self:problem("row %s: %s", id, failure.message)
  end
end

--- run(model, options): Model:verify.
function M.run(model, options)
  if options ~= nil and type(options) ~= "table" then
    error("verify: a table of options expected, got " .. type(options), 3)
  end
  options = options or {}
  local adopted = require("neap.model_sync").adopt(model)
  local report = { rows = 0, ghosts = 0, missing = 0, uniques = 0, lost = 0, repaired = 0,
    problems = {} }
  local run = setmetatable({ model = model, report = report, repair = options.repair,
    progress = options.progress, done = 0, clashes = {}, damaged = {} }, Run)
  if not adopted and model.redis:call("EXISTS", core.keys(model.core).schema) == 1 then
    require("neap.model_error").fail("model.schema_changed",
      "model %s is stored with another definition; call its sync()", model.name)
  end
  run.total = stats.count(model) * (options.repair and 2 or 1)
  run:check_all_rows()
  run:check_all_keys()
  if options.repair and (run.is_again or report.lost + report.ghosts > 0 or next(run.clashes)) then
    run:again()
  end
  run:count_clashes()
  report.rows = (stats.count(model))
  return report
end

-- again: what was removed may have been some row's, and what stood in a row's way is gone.
function Run:again()
  local missing, repaired = self.report.missing, self.report.repaired
  self.clashes = {}
  self:check_all_rows()
  local more = self.report.missing - missing
  self.report.missing, self.report.repaired = missing, math.max(repaired,
    self.report.repaired - more)
end

return M
