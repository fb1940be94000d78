-- model_random: random models, rows and queries from a seed, and what a query
-- must answer, worked out row by row.
--
--   local g = random.new(7)
--   local Thing = g:define("thing")        -- one of a few shapes
--   g:write(Thing, mirror, 500)            -- creates, saves, deletes
--   local q = g:query(Thing, mirror)       -- { conditions, order... }
--   local places = random.places(Thing, mirror)
--   assert.same(random.answer(q, places), random.run(Thing, q):ids())
local neap = require "neap"
local model, field, null = neap.model, neap.field, neap.null
local M = {}
local Random = {}
Random.__index = Random

--- new(seed): the same numbers for the same seed, everywhere.
function M.new(seed)
  return setmetatable({ state = seed }, Random)
end

--- g:number(n): a whole number from 1 to n; g:one_of(list); g:chance(percent).
function Random:number(n)
  self.state = (self.state * 1103515245 + 12345) % 2147483648
  return math.floor(self.state / 65536) % n + 1
end

function Random:one_of(list) return list[self:number(#list)] end

function Random:chance(percent) return self:number(100) <= percent end

local long = ("long"):rep(17)
local pools = {
  string = { "", "a", "b", "A", "USA", "a:b", "a=b", "x~y", "{a}", "?", "a\0b", "a\0", "\0",
    "\255\254", "\195\40", "ж", "a b\r\nc", ("x"):rep(64), ("x"):rep(65), long, long .. "\0",
    ("#"):rep(65), "0=a", "*", "[a-z]", "null" },
  number = { 0, 1, -1, 0.5, 0.1, 1 / 3, -2.5, 1e300, -1e300, 5e-324, 2 ^ 53, 1e15, 123456.789 },
  time = { 0, 1, 1700000000, 1700000000.123, 1700000000.124, -5, 4102444800 },
  boolean = { true, false },
  json = { { 1, 2 }, { a = { b = "c" } }, 5, "text", { x = null } },
}

-- value returns a random one that the field accepts.
function Random:value(f)
  if f.type == "enum" then return self:one_of(f.values) end
  if f.type == "uuid" then
    return ("%08x-0000-7000-8000-%012x"):format(self:number(6), self:number(6))
  end
  if f.type ~= "integer" then return self:one_of(pools[f.type]) end
  local low, high = f.min or -2 ^ 53, f.max or 2 ^ 53
  local v = self:one_of { low, high, low + 1, high - 1, 0, 1, -1, 7, 127, 128, 255, 256,
    low + self:number(10), low + self:number(32768), 2 ^ 31, 2 ^ 32 - 1, 2 ^ 32 }
  return math.min(math.max(v, low), high)
end

local shapes = {
  function()
    return {
      id = field.uuid { primary_key = true },
      name = field.string { required = true, index = true },
      tiny = field.integer { min = -3, max = 251, index = true },
      small = field.integer { min = 0, max = 255, index = true, sort = true },
      wide = field.integer { min = -100000, max = 2 ^ 31, index = true },
      huge = field.integer { min = -2 ^ 53, max = 2 ^ 53, index = true, sort = true },
      color = field.enum { "red", "green", "blue", index = true },
      is_on = field.boolean { index = true },
      email = field.string { unique = true },
      note = field.string(),
      extra = field.json(),
    }
  end,
  function()
    return {
      key = field.string { primary_key = true },
      tag = field.string { index = true },
      other = field.string { index = true, unique = true },
      score = field.number { index = true },
      at = field.time { required = true, sort = true },
      free = field.integer { index = true },
      rank = field.integer { sort = true, unique = true },
      ref = field.uuid { index = true },
      kind = field.enum { "a:b", "x=y", "~?", index = true, unique = true },
    }
  end,
  function()
    return {
      n = field.integer { primary_key = true, auto = true },
      level = field.integer { required = true, min = 1, max = 65535, index = true, sort = true },
      most = field.integer { min = 0, max = 2 ^ 53, index = true },
      seen = field.time { index = true },
      code = field.string { index = true, max = 70 },
      is_new = field.boolean { required = true, index = true },
      owner = field.uuid { unique = true },
    }
  end,
}
M.shapes = #shapes

--- g:define(name, shape): a model of one of the shapes, dropped and stored anew.
function Random:define(name, shape)
  local m = model.define(name, shapes[shape]())
  m:drop()
  m:sync()
  self.names = self.names or {}
  self.names[m] = {}
  for n in pairs(m.fields) do table.insert(self.names[m], n) end
  table.sort(self.names[m])
  return m
end

local function new_id(g, m)
  local f = m.fields[m.primary]
  if f.auto or f.type == "uuid" then return nil end
  return g:one_of(pools.string) .. g:number(60)
end

-- attributes returns what a create or a save of everything would set.
function Random:attributes(m)
  local row = {}
  for _, name in ipairs(self.names[m]) do
    local f = m.fields[name]
    if name ~= m.primary and (f.required or self:chance(75)) then
      -- a unique of few values is mostly left out
      if not f.unique or self:chance(25) then row[name] = self:value(f) end
    end
  end
  row[m.primary] = new_id(self, m)
  return row
end

local function copy(m, row)
  local t = {}
  for name in pairs(m.fields) do t[name] = row[name] end
  return t
end

-- allowed: what a random write may run into.
local allowed = { ["model.exists"] = true, ["model.unique"] = true, ["model.gone"] = true }

local function try(fn, ...)
  local ok, result = pcall(fn, ...)
  if not ok and not (neap.is_error(result) and allowed[result.code]) then error(result, 0) end
  return ok, result
end

function Random:create(m, mirror)
  local ok, row = try(m.create, m, self:attributes(m))
  if ok then
    mirror.objects[#mirror.objects + 1] = row
    mirror.rows[row[m.primary]] = copy(m, row)
  end
end

function Random:save(m, mirror)
  local row = self:one_of(mirror.objects)
  if not row then return end
  local before = copy(m, row)
  for _ = 1, self:number(3) do
    local name = self:one_of(self.names[m])
    local f = m.fields[name]
    if name ~= m.primary then
      row[name] = nil
      if f.required or self:chance(80) then row[name] = self:value(f) end
    end
  end
  local ok = try(row.save, row)
  if ok then
    mirror.rows[row[m.primary]] = copy(m, row)
  else
    for name in pairs(m.fields) do row[name] = before[name] end
  end
end

function Random:delete(m, mirror)
  if #mirror.objects == 0 then return end
  local row = table.remove(mirror.objects, self:number(#mirror.objects))
  if try(row.delete, row) then mirror.rows[row[m.primary]] = nil end
end

--- g:write(model, mirror, n): n random writes; the mirror is told of those
-- that were done.
function Random:write(m, mirror, n)
  mirror.rows, mirror.objects = mirror.rows or {}, mirror.objects or {}
  for _ = 1, n do
    local dice = self:number(100)
    if dice <= 55 then
      self:create(m, mirror)
    elseif dice <= 85 then
      self:save(m, mirror)
    else
      self:delete(m, mirror)
    end
  end
end

-- queries -------------------------------------------------------------------

local numeric = { integer = true, number = true, time = true }

local function has_index(f) return f.index or f.sort end

local function finds_null(f)
  return f.index and (not numeric[f.type] or (f.type == "integer" and f.min and f.max))
end

local function can_order(f)
  return numeric[f.type] and has_index(f)
end

function Random:list(f, mirror, name)
  if self:chance(4) then return {} end
  local list = {}
  for i = 1, self:chance(2) and 1000 or self:number(4) do
    local v
    if self:chance(40) then v = self:one_of(mirror.objects)[name] end
    if v == nil then v = self:value(f) end
    list[i] = v
  end
  return list
end

function Random:bound(f)
  local v = self:one_of { self:value(f), self:value(f), self:value(f) + 0.5,
    self:value(f) - 0.25, math.huge, -math.huge, -1e308, 1.79e308, 2 ^ 53 + 2, -2 ^ 60 }
  return v
end

function Random:condition(m, mirror, name)
  local f = m.fields[name]
  if finds_null(f) and self:chance(12) then return { name = name, op = "null" } end
  if numeric[f.type] and has_index(f) and self:chance(50) then
    local low, high = self:bound(f), self:bound(f)
    if self:chance(15) then low = nil elseif self:chance(15) then high = nil end
    if low and high and low > high and self:chance(80) then low, high = high, low end
    return { name = name, op = "between", low = low, high = high }
  end
  if f.type ~= "uuid" and self:chance(50) or name == m.primary and self:chance(50) then
    local row = self:one_of(mirror.objects)
    local v = row[name]
    if v == nil then v = self:value(f) end
    return { name = name, op = "in", values = { v }, is_single = true }
  end
  if name == m.primary then
    local list = {}
    for i = 1, self:number(6) do list[i] = self:one_of(mirror.objects)[name] end
    return { name = name, op = "in", values = list }
  end
  return { name = name, op = "in", values = self:list(f, mirror, name) }
end

--- g:query(model, mirror): conditions, order, limit and offset.
function Random:query(m, mirror)
  local q, indexed, orders = { conditions = {} }, {}, {}
  for _, name in ipairs(self.names[m]) do
    local f = m.fields[name]
    if has_index(f) then indexed[#indexed + 1] = name end
    if can_order(f) then orders[#orders + 1] = name end
    if (f.unique or name == m.primary) and self:chance(5) then q.driver = name end
  end
  if q.driver then
    local c = self:condition(m, mirror, q.driver)
    if c.op ~= "in" then
      c = { name = q.driver, op = "in", values = { self:value(m.fields[q.driver]) } }
    end
    q.conditions[1] = c
    -- beside it, a condition needs no index
    for _, name in ipairs(self.names[m]) do
      if m.fields[name].type ~= "json" and self:chance(10) then
        table.insert(q.conditions, self:condition(m, mirror, name))
      end
    end
  else
    for _ = 1, self:number(4) - 1 do
      table.insert(q.conditions, self:condition(m, mirror, self:one_of(indexed)))
    end
  end
  if self:chance(60) then q.order, q.is_descending = self:one_of(orders), self:chance(50) end
  if self:chance(40) then q.limit = self:one_of { 0, 1, 2, 5, 20, 300, 100000 } end
  if self:chance(30) then q.offset = self:one_of { 0, 1, 3, 10, 100, 100000 } end
  return q
end

local function matches(c, v)
  if c.op == "null" then return v == nil end
  if v == nil then return false end
  if c.op == "between" then return v >= (c.low or -math.huge) and v <= (c.high or math.huge) end
  for _, want in ipairs(c.values) do
    if want == v then return true end
  end
  return false
end

--- places(model, mirror): the rows in the order in which Redis has them, as a
-- list of { id, values }.
function M.places(m, mirror)
  local list = {}
  for id, row in pairs(mirror.rows) do list[#list + 1] = { id = id, row = row } end
  local ordinals = m.redis:pipeline(function(p)
    for _, place in ipairs(list) do
      p:call("HGET", ("{%s}:%s"):format(m.name, place.id), "_n")
    end
  end)
  for i, place in ipairs(list) do place.ordinal = tonumber(ordinals[i]) end
  table.sort(list, function(a, b) return a.ordinal < b.ordinal end)
  return list
end

local function all_match(conditions, row)
  for i = 1, #conditions do
    if not matches(conditions[i], row[conditions[i].name]) then return false end
  end
  return true
end

--- answer(q, places): the ids that the query has to return.
function M.answer(q, places)
  local list = {}
  for i = 1, #places do
    if all_match(q.conditions, places[i].row) then list[#list + 1] = places[i] end
  end
  table.sort(list, function(a, b)
    local x, y = a.row[q.order], b.row[q.order]
    if q.order and x ~= y then
      if x == nil or y == nil then return y == nil end
      if q.is_descending then return x > y end
      return x < y
    end
    return a.ordinal < b.ordinal
  end)
  local ids, skip = {}, q.offset or 0
  for i = skip + 1, math.min(#list, skip + (q.limit or #list)) do ids[#ids + 1] = list[i].id end
  return ids
end

--- run(model, q): the query as a program would write it.
function M.run(m, q)
  local query = m:rows()
  for _, c in ipairs(q.conditions) do
    if c.op == "null" then
      query = query:where(c.name, null)
    elseif c.op == "between" then
      query = query:where { [c.name] = model.between(c.low, c.high) }
    else
      query = query:where(c.name, c.is_single and c.values[1] or c.values)
    end
  end
  if q.order then query = query:order_by(q.order, q.is_descending and "desc" or nil) end
  if q.limit then query = query:limit(q.limit) end
  if q.offset then query = query:offset(q.offset) end
  return query
end

--- describe(q): its text, for a failure's message.
function M.describe(q)
  local list = {}
  for i, c in ipairs(q.conditions) do
    local values = {}
    for j, v in ipairs(c.values or {}) do
      if j <= 8 then values[j] = ("%q"):format(tostring(v)) end
    end
    list[i] = ("%s %s %s %s %s (%d)"):format(c.name, c.op, table.concat(values, ","),
      tostring(c.low), tostring(c.high), #(c.values or {}))
  end
  return ("[%s] order %s %s limit %s offset %s"):format(table.concat(list, " and "),
    tostring(q.order), tostring(q.is_descending), tostring(q.limit), tostring(q.offset))
end

return M
