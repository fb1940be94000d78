-- query: what Model:where and Model:rows return. Queries are immutable; nothing
-- is read before the rows, or their number, are asked for.
local core = require "neap.core.model"
local model_error = require "neap.model_error"
local sync = require "neap.model_sync"
local writing = require "neap.model_write"
local json = require "neap.core.json"
local FAIL = require("neap.core.task").FAIL
local null, array = json.null, json.array
local check, fail, invalid = model_error.check, model_error.fail, model_error.invalid
local read = model_error.read
local M = {}

local Between = {}

--- model.between(low, high): a range for where, both ends included; nil leaves
-- an end open.
function M.between(low, high)
  if low == nil and high == nil then error("between: at least one end is needed", 2) end
  return setmetatable({ low = low, high = high }, Between)
end

local function range(name, value, bounds)
  if value == nil then error(name .. ": a value is expected, got nil", 3) end
  return setmetatable(bounds, Between)
end

--- model.gt(v), model.ge(v), model.lt(v), model.le(v): a range for where: above, from, below,
-- up to v.
function M.gt(v) return range("gt", v, { low = v, is_above = true }) end
function M.ge(v) return range("ge", v, { low = v }) end
function M.lt(v) return range("lt", v, { high = v, is_below = true }) end
function M.le(v) return range("le", v, { high = v }) end

--- model.prefix(text): strings that begin so; the field needs sort = true.
function M.prefix(text)
  if type(text) ~= "string" then
    error("prefix: a string is expected, got " .. type(text), 2)
  end
  return setmetatable({ low = text, is_prefix = true }, Between)
end

local Query = {}
Query.__index = Query
local window = 256 -- rows fetched at a time

local function copy_query(q)
  return setmetatable({ model = q.model, conditions = q.conditions, order = q.order,
    is_descending = q.is_descending, max = q.max, skip = q.skip }, Query)
end

-- condition returns what where's value means for a field.
local function condition(model, name, value)
  if type(name) ~= "string" or not model.fields[name] then
    fail("model.invalid", "model %s: there is no field '%s'", model.name, tostring(name))
  end
  if value == nil then
    invalid(model, name, "its value in where is nil (neap.null finds rows without one)")
  end
  local kind = type(value) == "table" and getmetatable(value)
  value = writing.key_of(value) -- of a row that a reference refers to
  if value == null then return { name, "null" } end
  if kind == Between then
    return { name, "range", value.low, value.high, value.is_above, value.is_below,
      value.is_prefix }
  end
  if type(value) ~= "table" then return { name, "in", { value } } end
  local n = 0
  for k in pairs(value) do
    n = n + 1
    if type(k) ~= "number" then
      invalid(model, name, "a value, a list or model.between is expected in where")
    end
  end
  if n ~= #value then invalid(model, name, "its list in where has holes") end
  return { name, "in", value }
end

local function add_conditions(q, field, ...)
  local model = q.model
  local list = { unpack(q.conditions) }
  if type(field) == "table" then
    if next(field) == nil then
      fail("model.invalid", "model %s: where {} has no condition; rows() means all of them",
        model.name)
    end
    local names = {}
    for name in pairs(field) do names[#names + 1] = tostring(name) end
    table.sort(names)
    for _, name in ipairs(names) do
      list[#list + 1] = condition(model, name, field[name])
    end
  else
    if select("#", ...) == 0 then
      fail("model.invalid", "model %s: where(field, value) has no value", model.name)
    end
    list[#list + 1] = condition(model, field, (...))
  end
  local copy = copy_query(q)
  copy.conditions = list
  core.query(model.core, list) -- says now what is wrong with it
  return copy
end

--- query:where(...): with more conditions. Queries are immutable: each method
-- that narrows one returns another.
function Query:where(field, ...)
  return add_conditions(self, field, ...)
end

--- query:order_by(field, "asc" | "desc"): ordered; rows without a value come
-- last, equal ones in the order in which they were created.
function Query:order_by(field, direction)
  if direction ~= nil and direction ~= "asc" and direction ~= "desc" then
    error("bad argument #2 to 'order_by' ('asc' or 'desc' expected)", 2)
  end
  local copy = copy_query(self)
  copy.order, copy.is_descending = field, direction == "desc"
  if type(field) ~= "string" then
    error("bad argument #1 to 'order_by' (a field's name expected)", 2)
  end
  core.query(self.model.core, copy.conditions, field)
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
  local copy = copy_query(self)
  copy.max = check_number(n, "limit")
  return copy
end

--- query:offset(n): without the first n.
function Query:offset(n)
  local copy = copy_query(self)
  copy.skip = check_number(n, "offset")
  return copy
end

local function compile(q)
  return core.query(q.model.core, q.conditions, q.order, q.is_descending, q.max, q.skip)
end

-- is_adopted: whether a failure only shows that an index was built anew, and the query
-- can be asked again.
local function is_adopted(q, e)
  return model_error.is(e, "model.schema_changed") and sync.adopt(q.model)
end

-- open reads the columns of a compiled query, and returns it, or another if the
-- connection was lost meanwhile or the stored definition has changed.
local function open(q, run)
  local is_first = true
  local function ask()
    if not is_first then run = compile(q) end
    is_first = false
    return core.query_open(run)
  end
  read(function()
    local v, e = ask()
    if v == FAIL and is_adopted(q, e) then return ask() end
    return v, e
  end)
  return run
end

-- each_window returns an iterator over lists of rows.
local function each_window(q)
  local run, is_open = compile(q), false
  local function next_rows()
    local rows, e = core.query_next(run, window)
    if rows == FAIL and not is_open and is_adopted(q, e) then
      run = open(q, compile(q))
      rows, e = core.query_next(run, window)
    end
    return check(rows, e)
  end
  return function()
    if not is_open then run = open(q, run) end
    local rows = next_rows()
    is_open = true
    if #rows > 0 then return rows end
  end
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
  for rows in each_window(self) do
    for i = 1, #rows do list[n + i] = rows[i] end
    n = n + #rows
  end
  return array(list)
end

--- query:first(): the first row, or nil.
function Query:first()
  return self:limit(math.min(self.max or 1, 1)):all()[1]
end

--- query:count(): how many rows match; no row is read for it.
function Query:count()
  local plain = setmetatable({ model = self.model, conditions = self.conditions }, Query)
  local run = open(plain, compile(plain))
  local n = core.query_count(run)
  if not n then
    n = 0
    for rows in each_window(plain) do n = n + #rows end
  end
  n = math.max(n - (self.skip or 0), 0)
  return math.min(n, self.max or n)
end

--- query:exists(): whether any row matches.
function Query:exists()
  return self:count() > 0
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
    fail("model.invalid", "model %s: there is no field '%s'", self.model.name, tostring(name))
  end
  local list = {}
  for row in self:each() do
    local value = row[name]
    list[#list + 1] = value == nil and null or value
  end
  return array(list)
end

--- query:explain(): the plan, as text.
function Query:explain()
  return core.query_explain(compile(self))
end

--- query.new(model): all rows of a model.
function M.new(model)
  return setmetatable({ model = model, conditions = {} }, Query)
end

return M
