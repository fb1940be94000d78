-- query_shrink: makes a query that neap answers wrongly, and its rows, as small as it
-- can.
--
--   print(shrink.report(world, q))    -- a program to be pasted, and what is wrong
local neap = require "neap"
local check = require "support.query_check"
local random = require "support.query_random"
local source = require "support.query_source"
local M = {}
local most_seconds = 60 -- that shrinking may take

local function copy(v)
  if type(v) ~= "table" or v == neap.null then return v end
  local t = {}
  for k, one in pairs(v) do t[k] = copy(one) end
  return t
end

-- queries -------------------------------------------------------------------

-- without returns a copy of a list that lacks places i to j.
local function without(list, i, j)
  local t = {}
  for k, one in pairs(list) do
    if type(k) ~= "number" then t[k] = one end
  end
  for k, one in ipairs(list) do
    if k < i or k > (j or i) then t[#t + 1] = one end
  end
  return t
end

local function smaller_tests(test)
  local list = {}
  if test.op == "ne" then
    list[1] = test.test
    for _, inner in ipairs(smaller_tests(test.test)) do
      list[#list + 1] = { op = "ne", test = inner }
    end
  elseif test.op == "in" then
    local n, half = #test.values, math.ceil(#test.values / 2)
    if n > 1 then
      list = { { op = "in", values = without(test.values, 1, half) },
        { op = "in", values = without(test.values, half + 1, n) } }
    end
    for i = 1, n > 1 and n < 8 and n or 0 do
      list[#list + 1] = { op = "in", values = without(test.values, i) }
    end
    if n == 1 then list[1] = { op = "eq", value = test.values[1] } end
  elseif test.op == "between" then
    if test.low ~= nil then list[1] = { op = "ge", value = test.low } end
    if test.high ~= nil then list[#list + 1] = { op = "le", value = test.high } end
  end
  return list
end

-- smaller_expressions returns what an expression may become in one step.
local function smaller_expressions(e)
  local list = {}
  if e.op == "leaf" then
    for i, test in ipairs(smaller_tests(e.test)) do
      list[i] = copy(e)
      list[i].test = test
    end
    return list
  end
  for _, one in ipairs(e) do list[#list + 1] = one end
  for i in ipairs(e) do
    if e.op ~= "table" or #e > 1 then list[#list + 1] = without(e, i) end
  end
  for i, one in ipairs(e) do
    for _, small in ipairs(smaller_expressions(one)) do
      local changed = without(e, #e + 1)
      changed[i] = small
      list[#list + 1] = changed
    end
  end
  return list
end

local function smaller_queries(q)
  local list = {}
  local function add(name, value)
    local changed = without(q, 1)
    changed[name] = value
    list[#list + 1] = changed
  end
  for i in ipairs(q.wheres) do add("wheres", without(q.wheres, i)) end
  for i in ipairs(q.orders) do add("orders", without(q.orders, i)) end
  for _, name in ipairs { "offset", "limit", "is_scan" } do
    if q[name] then add(name, nil) end
  end
  for i, where in ipairs(q.wheres) do
    for _, small in ipairs(smaller_expressions(where.expression)) do
      local wheres = without(q.wheres, #q.wheres + 1)
      wheres[i] = { expression = small }
      add("wheres", wheres)
    end
  end
  for i, order in ipairs(q.orders) do
    if order.is_descending then
      local orders = without(q.orders, #q.orders + 1)
      orders[i] = { name = order.name }
      add("orders", orders)
    end
  end
  return list
end

-- fails asks a query, as a copy: a refusal changes it.
local function fails(w, q) return check.difference(w, copy(q)) ~= nil end

--- query(world, q, stop_at): a smaller query that is answered wrongly, too.
function M.query(w, q, stop_at)
  local is_smaller = true
  while is_smaller and neap.monotonic() < stop_at do
    is_smaller = false
    for _, small in ipairs(smaller_queries(q)) do
      if #small.wheres == 0 then small.is_scan = nil end
      if fails(w, small) then
        q, is_smaller = small, true
        break
      end
    end
  end
  return q
end

-- rows ----------------------------------------------------------------------

-- redefine returns a world whose model lacks some fields.
local function redefine(w, schema)
  local fresh = setmetatable({ schema = schema }, { __index = w })
  fresh.model = source.define(schema, { Other = w.other.model })
  return fresh
end

--- rebuild(world, places): the same model with these rows alone, created in this order.
function M.rebuild(w, places)
  local m, list = w.model, {}
  m:drop()
  m:sync()
  for i, place in ipairs(places) do
    list[i] = {}
    for name in pairs(m.fields) do list[i][name] = place.row[name] end
  end
  local fresh = setmetatable({ mirror = { rows = {} } }, { __index = w })
  for i, row in ipairs(#list > 0 and m:create_many(list) or {}) do
    fresh.mirror.rows[row:primary_key()] = list[i]
  end
  random.note(fresh)
  return fresh
end

--- rows(world, q, stop_at): a world with as few rows as still make the query fail; nil if it
-- does not with rows that were only created.
function M.rows(w, q, stop_at)
  local places, fewer = w.places, M.rebuild(w, w.places)
  if not fails(fewer, q) then return nil end
  local n = math.ceil(#places / 2)
  while n > 0 and neap.monotonic() < stop_at do
    local i = 1
    while i <= #places do
      local some = without(places, i, i + n - 1)
      if fails(M.rebuild(w, some), q) then places = some else i = i + n end
    end
    n = n > 1 and math.ceil(n / 2) or 0
  end
  return M.rebuild(w, places)
end

-- lacking returns a schema without one field, and without the compound indexes that it is
-- in.
local function lacking(schema, i)
  local fewer, name = copy(schema), schema.fields[i].name
  fewer.fields = without(schema.fields, i)
  local indexes = {}
  for _, list in ipairs(schema.options.indexes or {}) do
    if not table.concat(list, ","):find(name, 1, true) then indexes[#indexes + 1] = list end
  end
  fewer.options.indexes = #indexes > 0 and indexes or nil
  return fewer
end

--- others(world, q): a world with as few rows that refs are to.
function M.others(w, q)
  local fresh, list = setmetatable({}, { __index = w }), w.other.rows
  fresh.other = setmetatable({}, { __index = w.other })
  for i = #list, 1, -1 do
    list[i]:delete()
    fresh.other.rows = without(list, i)
    random.note(fresh)
    if fails(fresh, q) then
      list = fresh.other.rows
    else
      list[i] = w.other.model:create(list[i]:to_table())
    end
  end
  fresh.other.rows = list
  random.note(fresh)
  return fresh
end

--- fields(world, q): a world whose model has as few fields as still make the query fail, and
-- the query.
function M.fields(w, q)
  local keys = w.schema.options.primary_key and 2 or 1
  for i = #w.schema.fields, keys + 1, -1 do
    local name, changed = w.schema.fields[i].name, copy(q)
    if q.field == name then changed.field = w.schema.fields[1].name end
    local ok, fewer = pcall(function()
      return M.rebuild(redefine(w, lacking(w.schema, i)), w.places)
    end)
    if ok and not source.query_text(q):find(name, 1, true) and fails(fewer, changed) then
      w, q = fewer, changed
    end
  end
  return M.rebuild(w, w.places), q
end

-- reports ---------------------------------------------------------------------

-- commented puts "-- " in front of each line.
local function commented(text) return "-- " .. text:gsub("\n", "\n-- ") end

local function plain_rows(w)
  local list, others = {}, {}
  for i, place in ipairs(w.places) do list[i] = place.row end
  for i, row in ipairs(w.other.rows) do others[i] = row:to_table() end
  return list, others
end

-- plan_of returns the plan as text. It depends on sizes that the host remembers, which the
-- printed program does not have.
local function plan_of(w, q)
  local ok, plan = pcall(function() return source.query(q, w.model):explain() end)
  return ok and "\nwith the plan\n" .. plan or ""
end

--- report(world, q, text): shrinks, and returns a program that shows what is wrong. The text
-- is what it was at first.
function M.report(w, q, text)
  local case = { schema = w.schema, q = q, other = { schema = w.other.schema } }
  if not fails(w, q) then
    return source.program(case, commented(text .. "\nonce; asked again it was right"))
  end
  local stop_at = neap.monotonic() + most_seconds
  q = M.query(w, copy(q), stop_at)
  local fewer = M.rows(w, q, stop_at)
  if fewer then
    w, q = M.fields(fewer, M.query(fewer, q, stop_at))
    w = M.others(w, q)
  end
  local wrong, how = check.difference(w, copy(q))
  text = ("%s: %s%s"):format(how, wrong, plan_of(w, q))
  case = { schema = w.schema, q = q, other = { schema = w.other.schema } }
  if fewer then
    case.rows, case.other.rows = plain_rows(w)
  else
    text = text .. "\nonly with the writes that the seed makes"
  end
  return source.program(case, commented(text))
end

return M
