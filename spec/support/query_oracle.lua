-- query_oracle: what a query has to answer, by a look at every row. Shares no code with
-- neap.
--
--   local places = { { id = "a", ordinal = 0, row = { age = 5 } }, ... }   -- by ordinal
--   oracle.answer(q, places, related)   -- the places in the answer, in order
--
-- A query is plain data (query_random.lua makes them):
--
--   { wheres = { { expression = e, is_pair = true }, ... }, is_scan = true,
--     orders = { { name = "age", is_descending = true } }, limit = 5, offset = 2 }
--
-- (is_pair: where("age", 5) instead of where { age = 5 }.)
--
-- An expression is a leaf { op = "leaf", name = "age", test = t }, or { op = "all", e, ... },
-- "any", "none", or "table": conditions that all have to hold. A leaf with a ref is about
-- a field of the row that the ref refers to: related[ref][tostring(key)]. A test is
-- { op = "eq", value = v }, "contains", "in" (values), "between" (low, high), "gt", "ge",
-- "lt", "le", "prefix", "null", or "ne" (test).
local M = {}

-- tests ---------------------------------------------------------------------

-- Lua compares strings with < by their bytes, as long as LuaJIT does it.
local scalar = {
  eq = function(t, v) return v == t.value end,
  ["in"] = function(t, v)
    for _, one in ipairs(t.values) do
      if one == v then return true end
    end
    return false
  end,
  between = function(t, v)
    return (t.low == nil or v >= t.low) and (t.high == nil or v <= t.high)
  end,
  gt = function(t, v) return v > t.value end,
  ge = function(t, v) return v >= t.value end,
  lt = function(t, v) return v < t.value end,
  le = function(t, v) return v <= t.value end,
  prefix = function(t, v) return v:sub(1, #t.value) == t.value end,
}
scalar.contains = scalar.eq

-- has_one: whether a value, or an element of one that is a list, passes a test.
local function has_one(test, v)
  if type(v) ~= "table" then return scalar[test.op](test, v) end
  for _, one in ipairs(v) do
    if scalar[test.op](test, one) then return true end
  end
  return false
end

-- holds returns true, false, or nil where that is not known: null is like no value, and
-- unlike none.
local function holds(test, v)
  if test.op == "ne" then
    local inner = holds(test.test, v)
    if inner == nil then return nil end
    return not inner
  end
  if test.op == "null" then return v == nil end
  if v == nil then return nil end
  return has_one(test, v)
end

-- expressions ---------------------------------------------------------------

local evaluate

local function leaf(e, row, related)
  if e.ref then
    local key = row[e.ref]
    row = key ~= nil and related[e.ref][tostring(key)] or nil
    if not row then return nil end
  end
  return holds(e.test, row[e.name])
end

-- fold returns `decisive` if an element is that, else nil if one is unknown, else the
-- opposite: "and" with false, "or" with true.
local function fold(e, row, related, decisive)
  local is_known = true
  for _, one in ipairs(e) do
    local v = evaluate(one, row, related)
    if v == decisive then return decisive end
    if v == nil then is_known = false end
  end
  if is_known then return not decisive end
  return nil
end

--- evaluate(expression, row, related): true, false, or nil for unknown, as in SQL.
function evaluate(e, row, related)
  if e.op == "leaf" then return leaf(e, row, related) end
  if e.op == "all" or e.op == "table" then return fold(e, row, related, false) end
  local v = fold(e, row, related, true)
  if e.op == "any" or v == nil then return v end
  return not v
end
M.evaluate = evaluate

--- matches(q, row, related): whether all that the query's wheres say is true.
function M.matches(q, row, related)
  for _, where in ipairs(q.wheres) do
    if evaluate(where.expression, row, related) ~= true then return false end
  end
  return true
end

-- order ---------------------------------------------------------------------

-- goes_before: whether row a stands before b; false for equal ones, too.
local function goes_before(orders, a, b)
  for _, order in ipairs(orders) do
    local x, y = a[order.name], b[order.name]
    if x ~= y then
      if x == nil or y == nil then return y == nil end
      if order.is_descending then return x > y end
      return x < y
    end
  end
  return false
end

-- sorted returns the list in order; equal ones stay as they are (a merge sort).
local function sorted(list, orders)
  if #list < 2 then return list end
  local half, left, right, all = math.floor(#list / 2), {}, {}, {}
  for i, one in ipairs(list) do
    if i <= half then left[i] = one else right[i - half] = one end
  end
  left, right = sorted(left, orders), sorted(right, orders)
  local i, j = 1, 1
  while left[i] or right[j] do
    if not left[i] or right[j] and goes_before(orders, right[j].row, left[i].row) then
      all[#all + 1], j = right[j], j + 1
    else
      all[#all + 1], i = left[i], i + 1
    end
  end
  return all
end

--- all(q, places, related): the places that match, in order, without limit and offset.
-- Ties of all orders come by ordinal, the other way round where the first one descends.
function M.all(q, places, related)
  local list, first = {}, q.orders[1]
  local from, to, step = 1, #places, 1
  if first and first.is_descending then from, to, step = #places, 1, -1 end
  for i = from, to, step do
    if M.matches(q, places[i].row, related) then list[#list + 1] = places[i] end
  end
  return first and sorted(list, q.orders) or list
end

--- window(list, q): what limit and offset leave of it.
function M.window(list, q)
  local skip, some = q.offset or 0, {}
  for i = skip + 1, math.min(#list, skip + (q.limit or #list)) do some[#some + 1] = list[i] end
  return some
end

--- answer(q, places, related): both.
function M.answer(q, places, related) return M.window(M.all(q, places, related), q) end

-- numbers -------------------------------------------------------------------

--- aggregate(list, name): sum (0 of nothing), min, max, avg of a field (nil of nothing), and
-- size: the sum of the absolute values, by which rounding is judged. Dates have
-- min and max alone.
function M.aggregate(list, name)
  local a = { size = 0 }
  local n = 0
  for _, place in ipairs(list) do
    local v = place.row[name]
    if v ~= nil then
      n = n + 1
      if a.min == nil or v < a.min then a.min = v end
      if a.max == nil or v > a.max then a.max = v end
      if type(v) == "number" then
        a.sum, a.size = (a.sum or 0) + v, a.size + math.abs(v)
      end
    end
  end
  a.avg = a.sum and a.sum / n
  a.sum = a.sum or 0
  return a
end

--- counts(list, name, null): how many rows have each value of a field; null for none.
function M.counts(list, name, null)
  local counts = {}
  for _, place in ipairs(list) do
    local v = place.row[name]
    if v == nil then v = null end
    counts[v] = (counts[v] or 0) + 1
  end
  return counts
end

return M
