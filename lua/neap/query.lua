-- query: what Model:where and Model:rows return. Queries are immutable; nothing
-- is read before the rows, or their number, are asked for.
local core = require "neap.core.model"
local model_error = require "neap.model_error"
local sync = require "neap.model_sync"
local condition = require "neap.query_condition"
local relation = require "neap.model_relation"
local json = require "neap.core.json"
local log = require "neap.log"
local FAIL = require("neap.core.task").FAIL
local monotonic = require("neap.core.util").monotonic
local null, array = json.null, json.array
local check, fail = model_error.check, model_error.fail
local read = model_error.read
local M = {}

local Query = {}
Query.__index = Query
local window = 256 -- rows fetched at a time,
local window_of_all = 1024 -- where all of them are wanted anyway

-- changed returns a copy of a query with other settings.
local function changed(q, settings)
  local copy = {}
  for k, v in pairs(q) do copy[k] = v end
  for k, v in pairs(settings) do copy[k] = v end
  return setmetatable(copy, Query)
end
jit.off(changed) -- LuaJIT 2.1.0-beta3 compiles pairs() wrong now and then: see neap.jit_guard

local function check_options(options)
  if options == nil then return nil end
  if type(options) ~= "table" then
    error("bad argument to 'where' (a table of options expected, got " .. type(options) .. ")", 3)
  end
  for k in pairs(options) do
    if k ~= "scan" then error(("where has no option '%s' (scan)"):format(tostring(k)), 3) end
  end
  return options.scan and true or nil
end

--- query:where(conditions[, { scan = true }]), query:where(field, value[, options]): with more
-- conditions. Queries are immutable: each method that narrows one returns another.
-- scan allows conditions without an index: rows are read and tested.
function Query:where(field, value, options)
  local model = self.model
  local list = { group = "all", unpack(self.conditions) }
  if type(field) == "table" then
    options = value
    if next(field) == nil then
      fail("model.invalid", "model %s: where {} has no condition; rows() means all of them",
        model.name)
    end
    list[#list + 1] = condition.of(model, field)
  else
    list[#list + 1] = condition.one(model, field, value)
  end
  local scan = check_options(options)
  local copy = changed(self, { conditions = list, scan = scan or self.scan })
  condition.check(model, list, copy.scan) -- says now what is wrong with it
  return copy
end

--- query:order_by(field, "asc" | "desc"): ordered; called again, by a further field among
-- equal rows. Rows without a value come last, in either direction. Rows that are equal in all
-- of it come in the order in which they were created, the other way round if the first field
-- is descending.
function Query:order_by(field, direction)
  if direction ~= nil and direction ~= "asc" and direction ~= "desc" then
    error("bad argument #2 to 'order_by' ('asc' or 'desc' expected)", 2)
  end
  if type(field) ~= "string" then
    error("bad argument #1 to 'order_by' (a field's name expected)", 2)
  end
  local orders = { unpack(self.orders or {}) }
  orders[#orders + 1] = { field, direction == "desc" }
  local copy = changed(self, { orders = orders })
  condition.check(self.model, self.conditions, self.scan, orders)
  return copy
end

local function check_number(n, name)
  if type(n) ~= "number" or n < 0 or n ~= math.floor(n) then
    error(("bad argument #1 to '%s' (a whole number from 0 expected)"):format(name), 3)
  end
  return n
end

--- query:limit(n): at most n rows; 0 is none.
function Query:limit(n)
  return changed(self, { most = check_number(n, "limit") })
end

--- query:offset(n): without the first n.
function Query:offset(n)
  return changed(self, { skipped = check_number(n, "offset") })
end

--- query:with(reference, ...): rows come with the rows that they refer to, which are loaded
-- together: row:related(reference) does not wait any more.
function Query:with(...)
  local refs = { unpack(self.refs or {}) }
  for i = 1, select("#", ...) do
    local name = (select(i, ...))
    if type(name) ~= "string" or not self.model.refs[name] then
      fail("model.invalid", "model %s: there is no reference '%s'", self.model.name,
        tostring(name))
    end
    refs[#refs + 1] = name
  end
  return changed(self, { refs = refs })
end

-- compile plans a query; it waits if there are conditions on other models.
local function compile(q)
  return core.query(q.model.core, { conditions = condition.resolve(q.model, q.conditions, q.scan),
    orders = q.orders, limit = q.most, offset = q.skipped, after = q.after, scan = q.scan,
    counted = q.counted, tally = q.tally })
end

-- is_adopted: whether a failure only shows that an index was built anew, and the query
-- can be asked again.
local function is_adopted(q, e)
  return model_error.is(e, "model.schema_changed") and sync.adopt(q.model)
end

-- open reads what has to be known first for a query, or for what it was compiled to, and
-- returns that: another one if the connection was lost meanwhile or the stored definition
-- has changed.
local function open(q, run)
  local function ask()
    local opened = run or compile(q)
    run = nil -- the next time it is compiled anew
    local v, e = core.query_open(opened)
    if v == FAIL then return v, e end
    return opened
  end
  return (read(function()
    local v, e = ask()
    if v == FAIL and is_adopted(q, e) then return ask() end
    return v, e
  end))
end

local told = setmetatable({}, { __mode = "k" }) -- by model, when rows were last said to be gone

-- find_gone returns the key of a row whose bit is set and whose hash is not there, and that
-- has its ordinal before and after both were looked at: others may take over one that is free.
local function find_gone(model, ordinals)
  local live = core.keys(model.core).live
  local ids = check(core.ids(model.core, ordinals))
  local found = model.redis:multi(function(tx)
    for i, n in ipairs(ordinals) do
      tx:getbit(live .. math.floor(n / 65536), n % 65536)
      tx:exists(ids[i] and core.row_key(model.core, ids[i]) or live)
    end
  end)
  local again = check(core.ids(model.core, ordinals))
  for i = 1, #ordinals do
    local is_gone = found[2 * i - 1] == 1 and found[2 * i] == 0
    if is_gone and ids[i] and ids[i] == again[i] then return ids[i] end
  end
end

-- tell_gone logs that a row was deleted behind the mapper's back; the query itself is not
-- concerned.
local function tell_gone(model, ordinals)
  if told[model] and monotonic() - told[model] < 60 then return end
  told[model] = monotonic()
  local ok, id = pcall(find_gone, model, ordinals)
  if ok and id then
    log.warn("model %s: the row %s is gone, but its index entries are not: it was not deleted "
      .. "by neap; verify { repair = true } takes them out", model.name, id)
  end
end

-- each_window returns an iterator over lists of at most so many rows (256 unless said), and
-- what it runs; the iterator gives that in the end, too. The query may be open already.
local function each_window(q, opened)
  local run = opened or not condition.waits(q.conditions) and compile(q) or nil
  local is_open, is_begun = opened ~= nil, false
  return function(most)
    most = math.max(math.min(most or window, window_of_all), 1)
    if not is_open then run = open(q, run) end
    is_open = true
    local rows, e = core.query_next(run, most)
    if rows == FAIL and not is_begun and is_adopted(q, e) then
      run = open(q)
      rows, e = core.query_next(run, most)
    end
    check(rows, e)
    is_begun = true
    local gone = core.query_gone(run)
    if gone then tell_gone(q.model, gone) end
    if #rows == 0 then return nil, run end
    for _, name in ipairs(q.refs or {}) do relation.preload(q.model, rows, name) end
    return rows, run
  end
end

-- windows is each_window for a loop, over lists of so many rows.
local function windows(q, size, opened)
  local next_window = each_window(q, opened)
  return function() return next_window(size) end
end

--- for row in query:each() do ... end: streams the rows, in constant memory.
function Query:each()
  local next_window = each_window(self)
  local rows, i = {}, 0
  return function()
    i = i + 1
    if not rows then return nil end
    if rows[i] == nil then
      rows, i = next_window(), 1
      if not rows then return nil end
    end
    return rows[i]
  end
end

--- query:all(): the list of rows.
function Query:all()
  local list, n = {}, 0
  for rows in windows(self, window_of_all) do
    for i = 1, #rows do list[n + i] = rows[i] end
    n = n + #rows
  end
  return array(list)
end

--- query:first(): the first row, or nil.
function Query:first()
  return self:limit(math.min(self.most or 1, 1)):all()[1]
end

--- query:one(): the only row, or nil; model.many if there are more.
function Query:one()
  local rows = self:limit(math.min(self.most or 2, 2)):all()
  if #rows > 1 then
    fail("model.many", "model %s: one() found more than one row", self.model.name)
  end
  return rows[1]
end

local page_options = { size = true, after = true }

--- query:page { size = 50, after = cursor }: the next rows of the query's order, and the
-- cursor of the page that follows, or nil. A cursor is text that stands for a position in
-- that order: rows that are created before it shift nothing.
function Query:page(options)
  options = options or {}
  if type(options) ~= "table" then
    error("bad argument to 'page' (a table of size and after expected, got " .. type(options)
      .. ")", 2)
  end
  for k in pairs(options) do
    if not page_options[k] then
      error(("page has no option '%s' (size, after)"):format(tostring(k)), 2)
    end
  end
  local size = options.size or 50
  if type(size) ~= "number" or size < 1 or size ~= math.floor(size) or size > 10000 then
    error("page: size is a whole number from 1 to 10,000", 2)
  end
  if options.after ~= nil and type(options.after) ~= "string" then
    error("page: after is a cursor, got " .. type(options.after), 2)
  end
  if self.most or self.skipped then error("page: a query with limit or offset has no pages", 2) end
  local rows, next_window = array {}, each_window(changed(self, { most = size + 1,
    after = options.after }))
  local cursor
  while #rows <= size do
    local more, run = next_window(size - #rows)
    if not more then break end
    if #rows == size then return rows, cursor end
    for _, row in ipairs(more) do rows[#rows + 1] = row end
    cursor = core.query_cursor(run)
  end
  return rows
end

--- query:count(): how many rows match.
function Query:count()
  local plain = M.unordered(self)
  plain.counted, plain.most, plain.skipped = true, nil, nil
  local run = open(plain)
  local n = core.query_count(run)
  if not n then
    n = 0
    for rows in windows(plain, window_of_all, run) do n = n + #rows end
  end
  n = math.max(n - (self.skipped or 0), 0)
  return math.min(n, self.most or n)
end

--- query:exists(): whether any row matches.
function Query:exists()
  if self.most == 0 then return false end
  local plain = M.unordered(self)
  plain.most = 1
  return #plain:all() > 0
end

--- query:ids(): the primary keys of the rows, in order; composite ones as text, which load
-- takes.
function Query:ids()
  if self.model.primary then return self:pluck(self.model.primary) end
  local list = {}
  for row in self:each() do list[#list + 1] = row:primary_key() end
  return array(list)
end

--- query:pluck(field): the list of that field's values, null where there is
-- none.
function Query:pluck(name)
  if not self.model.fields[name] then
    model_error.unknown(self.model, name)
  end
  local list = {}
  for row in self:each() do
    local value = row[name]
    list[#list + 1] = value == nil and null or value
  end
  return array(list)
end

--- query:explain(): the plan, as text; query:explain { analyze = true } also runs it, and says
-- what that took.
function Query:explain(options)
  if options ~= nil and (type(options) ~= "table" or next(options) ~= nil and
    next(options) ~= "analyze") then
    error("explain takes { analyze = true }", 2)
  end
  if options and options.analyze then return M.analyze(self) end
  local run = compile(self)
  check(core.query_plan(run))
  return core.query_explain(run)
end

local function plural(n, what)
  return ("%d %s%s"):format(n, what, n == 1 and "" or "s")
end

--- query.analyze(q): see query:explain.
function M.analyze(q)
  local from, n = monotonic(), 0
  local next_window = each_window(q)
  local rows, run
  repeat
    rows, run = next_window()
    n = n + (rows and #rows or 0)
  until not rows
  local costs = core.query_costs(run)
  local entries = plural(costs.entries, "entry"):gsub("entrys", "entries")
  return core.query_explain(run) .. ("took %.2f ms: %s, %s of columns and %d from the cache, "
    .. "%s walked, %s fetched, %d of them matched, %d handed out\n"):format(
    (monotonic() - from) * 1000, plural(costs.round_trips, "round trip"),
    plural(costs.column_bytes, "byte"), costs.cached, entries, plural(costs.fetched, "row"),
    costs.matched, n)
end

--- query.windows(q): an iterator over lists of rows.
M.windows = windows

--- query.open(q, settings): runs a query with other settings, up to its first row.
function M.open(q, settings)
  return open(changed(M.unordered(q), settings))
end

--- query.unordered(q): the query without an order, and without what comes with its rows.
function M.unordered(q)
  local copy = changed(q, {})
  copy.orders, copy.refs = nil, nil
  return copy
end

--- query.methods: of all queries; further files add to them.
M.methods = Query

--- query.new(model): all rows of a model.
function M.new(model)
  return setmetatable({ model = model, conditions = { group = "all" } }, Query)
end

return M
