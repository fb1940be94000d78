-- query_aggregate: sums, extremes and counts by value. Fields in packed columns and bitmaps
-- are added up in C, without a look at the rows; of others the rows are read.
local core = require "neap.core.model"
local query = require "neap.query"
local model_error = require "neap.model_error"
local fail = model_error.fail
local null = require("neap.core.json").null
local Query = query.methods

local additive = { integer = true, number = true }
local ordered = { integer = true, number = true, time = true, date = true }
local grouped = { integer = true, enum = true, boolean = true, date = true, string = true,
  uuid = true, number = true, time = true, bytes = true }

local function field_of(q, name, what, types)
  local model = q.model
  local f = type(name) == "string" and model.fields[name]
  if not f then
    model_error.unknown(model, name)
  end
  if not types[f.type] then
    fail("model.invalid", "model %s: %s of field %s, which is of type %s", model.name, what,
      name, f.type)
  end
  if q.most or q.skipped then
    fail("model.invalid", "model %s: %s is of all rows: not of a query with limit or offset",
      model.name, what)
  end
  return f
end

-- tally returns what the columns say of a field, or nil if they do not.
local function tally(q, name)
  return core.query_tally(query.open(q, { counted = true, tally = name }))
end

-- each_value iterates over a field's values, row by row.
local function each_value(q, name)
  local next_row = query.unordered(q):each()
  return function()
    local row = next_row()
    if row then
      local v = row[name]
      return v == nil and null or v
    end
  end
end

-- add_up returns the sum of a field's values, and how many there are.
local function add_up(q, name)
  local t = tally(q, name)
  if t then return t.sum, t.count end
  local sum, n = 0, 0
  for v in each_value(q, name) do
    if v ~= null then sum, n = sum + v, n + 1 end
  end
  return sum, n
end

--- query:sum(field): of integers and numbers; 0 where there is none.
function Query:sum(name)
  field_of(self, name, "sum", additive)
  return (add_up(self, name))
end

--- query:avg(field): the mean of integers or numbers; nil where there is none.
function Query:avg(name)
  field_of(self, name, "avg", additive)
  local sum, n = add_up(self, name)
  if n > 0 then return sum / n end
end

-- extreme returns the least or greatest value.
local function extreme(q, name, what)
  local f = field_of(q, name, what, ordered)
  local t = tally(q, name)
  if t then return t[what] end
  if f.sort or f.index then
    local plain = query.unordered(q)
    local row = plain:order_by(name, what == "max" and "desc" or "asc"):first()
    return row and row[name]
  end
  local best
  for v in each_value(q, name) do
    if v ~= null and (best == nil or what == "max" and v > best or what == "min" and v < best) then
      best = v
    end
  end
  return best
end

--- query:min(field): the least value of integers, numbers, dates or times; nil where there
-- is none.
function Query:min(name) return extreme(self, name, "min") end

--- query:max(field): the greatest value, as min.
function Query:max(name) return extreme(self, name, "max") end

--- query:count_by(field): a table of how many rows have each value; [neap.null] are those
-- without one.
function Query:count_by(name)
  field_of(self, name, "count_by", grouped)
  local counts, t = {}, tally(self, name)
  if t and t.values then
    for _, pair in ipairs(t.values) do counts[pair[1]] = pair[2] end
    if t.nulls > 0 then counts[null] = t.nulls end
    return counts
  end
  for v in each_value(self, name) do counts[v] = (counts[v] or 0) + 1 end
  return counts
end
