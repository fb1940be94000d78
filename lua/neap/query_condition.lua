-- query_condition: what Model:where takes: values, lists, ranges, negations, and
-- alternatives, made into the groups that the planner reads.
local core = require "neap.core.model"
local model_error = require "neap.model_error"
local relation = require "neap.model_relation"
local writing = require "neap.model_write"
local null = require("neap.core.json").null
local fail, invalid = model_error.fail, model_error.invalid
local M = {}

local Range, Not, Group = {}, {}, {}
local through_most = 1000 -- rows of another model that a condition may find

--- model.between(low, high): a range for where, both ends included; nil leaves
-- an end open.
function M.between(low, high)
  if low == nil and high == nil then error("between: at least one end is needed", 2) end
  return setmetatable({ low = low, high = high }, Range)
end

local function range(name, value, bounds)
  if value == nil then error(name .. ": a value is expected, got nil", 3) end
  return setmetatable(bounds, Range)
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
  return setmetatable({ low = text, is_prefix = true }, Range)
end

--- model.ne(v): not v: a value, a list of them, a range, a prefix; model.ne(neap.null) is any
-- value. A row without a value in the field is not found, as in SQL.
function M.ne(v)
  if v == nil then error("ne: a value is expected, got nil", 2) end
  return setmetatable({ value = v }, Not)
end

--- model.contains(v): lists and sets with the element v; where { tags = v } is the same.
function M.contains(v)
  if v == nil then error("contains: a value is expected, got nil", 2) end
  return v
end

local function group(kind)
  return function(conditions)
    if type(conditions) ~= "table" or getmetatable(conditions) == Not or
      getmetatable(conditions) == Range then
      error(("%s: a table of conditions is expected, got %s"):format(kind, type(conditions)), 2)
    end
    return setmetatable({ kind = kind, conditions = conditions }, Group)
  end
end

--- model.any { c, ... }: rows for which one of the conditions holds; each is a table as where
-- takes it, or again any, all or none. Names are alternatives too: model.any { age = 1, size = 2 }.
M.any = group "any"

--- model.all { c, ... }: rows for which each of the conditions holds.
M.all = group "all"

--- model.none { c, ... }: rows for which each of the conditions fails. One that is neither true
-- nor false, as its field has no value, does not fail.
M.none = group "none"

-- through returns the condition on a reference that means one on a field of the model that it
-- refers to: { ["author.country"] = "USA" }.
local function through(model, name, value)
  local ref, field = name:match "^([%w_]+)%.([%w_%.]+)$"
  local f = ref and model.refs[ref]
  if not f then return nil end
  return { through = relation.target(model, f), ref = ref, field = field, value = value }
end

-- key_of returns the key of a row that a reference refers to, and other values as they are.
local function key_of(model, name, value)
  local of = type(value) == "table" and writing.model_of[getmetatable(value)]
  local f = of and model.refs[name]
  if of and f and of ~= relation.target(model, f) then
    invalid(model, name, ("a row of %s is no row of the model that it refers to"):format(of.name))
  end
  return writing.key_of(value)
end

local function list_condition(model, name, value)
  local n = 0
  for k in pairs(value) do
    n = n + 1
    if type(k) ~= "number" then
      invalid(model, name, "a value, a list, or what model.between, gt, ne and the like return "
        .. "is expected in where")
    end
  end
  if n ~= #value then invalid(model, name, "its list in where has holes") end
  local list = {}
  for i, v in ipairs(value) do list[i] = key_of(model, name, v) end
  return { name, "in", list }
end
jit.off(list_condition) -- as add_table

-- condition returns what where's value means for a field.
local function condition(model, name, value)
  if type(name) == "string" and not model.fields[name] then
    local other = through(model, name, value)
    if other then return other end
  end
  if type(name) ~= "string" or not model.fields[name] then
    model_error.unknown(model, name)
  end
  if value == nil then
    invalid(model, name, "its value in where is nil (neap.null finds rows without one)")
  end
  local kind = type(value) == "table" and getmetatable(value)
  if kind == Not then
    local inner = condition(model, name, value.value)
    inner.negated = not inner.negated
    return inner
  end
  value = key_of(model, name, value)
  if value == null then return { name, "null" } end
  if kind == Range then
    return { name, "range", value.low, value.high, value.is_above, value.is_below,
      value.is_prefix }
  end
  if kind == Group then invalid(model, name, "any, all and none stand beside names in where") end
  if type(value) ~= "table" then return { name, "in", { value } } end
  return list_condition(model, name, value)
end

local add_table

-- expression returns the group of a Group, or of a table of conditions.
local function expression(model, value, depth)
  if type(value) ~= "table" or getmetatable(value) == Range or getmetatable(value) == Not then
    fail("model.invalid", "model %s: a table of conditions is expected in where, got %s",
      model.name, type(value))
  end
  if depth > 16 then
    fail("model.invalid", "model %s: the conditions are nested too deeply", model.name)
  end
  local is_group = getmetatable(value) == Group
  local list = { group = is_group and value.kind or "all" }
  add_table(model, is_group and value.conditions or value, list, depth)
  return list
end

-- add_table adds what a table of conditions says: by name, in alphabetical order, and by place.
function add_table(model, conditions, list, depth)
  local names, n = {}, #conditions
  for name in pairs(conditions) do
    if type(name) ~= "number" then
      names[#names + 1] = tostring(name)
    elseif name < 1 or name > n or name ~= math.floor(name) then
      model_error.unknown(model, name)
    end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    list[#list + 1] = condition(model, name, conditions[name])
  end
  for i = 1, n do list[#list + 1] = expression(model, conditions[i], depth + 1) end
end
jit.off(add_table) -- LuaJIT 2.1.0-beta3 compiles pairs() wrong now and then: see neap.jit_guard

--- query_condition.of(model, where): the group of what where was given: a table or an
-- expression.
function M.of(model, where)
  return expression(model, where, 0)
end

--- query_condition.one(model, name, value): the condition of one field.
function M.one(model, name, value)
  return condition(model, name, value)
end

--- query_condition.waits(list): whether the group has conditions on other models, which have
-- to be asked for.
function M.waits(list)
  for _, c in ipairs(list) do
    if c.through or c.group and M.waits(c) then return true end
  end
  return false
end

-- query_through returns the query of the other model that a condition stands for. What
-- negates it is meant for the other model's field: a row that refers to none has no value
-- there. So it is asked negated.
local function query_through(c, is_negated, scan)
  local other, value = c.through, c.value
  if (c.negated or false) ~= is_negated then value = M.ne(value) end
  -- its key is in no index that could leave some out, but they must be few anyway
  return other:where({ [c.field] = value }, { scan = scan or c.field == other.primary })
end

-- keys_through asks the other model for the rows that a condition finds; it is not to be
-- negated again by the group that it stands in.
local function keys_through(model, c, is_negated, scan)
  local found = query_through(c, is_negated, scan):limit(through_most + 1):ids()
  if #found > through_most then
    fail("model.too_many", "model %s: the condition on %s.%s finds more than %d rows of %s; "
      .. "look for these first", model.name, c.ref, c.field, through_most, c.through.name)
  end
  return { c.ref, "in", found, negated = is_negated }
end

local function resolve(model, list, is_negated, scan)
  local copy = { group = list.group }
  if list.group == "none" then is_negated = not is_negated end
  for i, c in ipairs(list) do
    copy[i] = c.through and keys_through(model, c, is_negated, scan)
      or c.group and resolve(model, c, is_negated, scan) or c
  end
  return copy
end

--- query_condition.resolve(model, list, scan): the group with each condition on another model
-- replaced by the keys of the rows that it finds; this waits.
function M.resolve(model, list, scan)
  return M.waits(list) and resolve(model, list, false, scan) or list
end

-- plain is the group as far as it can be checked without asking for other models.
local function plain(list, is_negated, scan)
  local copy = { group = list.group }
  if list.group == "none" then is_negated = not is_negated end
  for i, c in ipairs(list) do
    if c.through then
      query_through(c, is_negated, scan) -- says what is wrong with it
      copy[i] = { c.ref, "in", {}, negated = c.negated }
    else
      copy[i] = c.group and plain(c, is_negated, scan) or c
    end
  end
  return copy
end

--- query_condition.check(model, list, may_scan, orders): raises what is wrong with a query.
function M.check(model, list, may_scan, orders)
  core.query(model.core, { conditions = M.waits(list) and plain(list, false, may_scan) or list,
    scan = may_scan, orders = orders })
end

return M
