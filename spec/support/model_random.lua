-- model_random: random models, rows and queries from a seed, and what a query
-- must answer, worked out row by row.
--
--   local g = random.new(7)
--   local Thing = g:define("thing", 1)     -- one of a few shapes
--   g:write(Thing, mirror, 500)            -- creates, saves, increments, deletes...
--   assert.same({}, random.compare(Thing, mirror))
--   local q = g:query(Thing, mirror)       -- { conditions, order... }
--   local places = random.places(Thing, mirror)
--   assert.same(random.answer(q, places), random.keys(random.run(Thing, q):all()))
--
-- A mirror has rows, by primary_key(), and objects: rows as somebody got them, which
-- others may have written since.
local neap = require "neap"
local model, field, null = neap.model, neap.field, neap.null
local Random = {}
Random.__index = Random
local M = { Random = Random }

--- new(seed): the same numbers for the same seed, everywhere.
function M.new(seed)
  return setmetatable({ state = seed % 2147483646 + 1, names = {}, indexes = {} }, Random)
end

--- g:number(n): a whole number from 1 to n; g:one_of(list); g:chance(percent). The
-- generator is Park and Miller's: its products are exact in a double.
function Random:number(n)
  self.state = self.state * 16807 % 2147483647
  return math.floor(self.state / 2147483647 * n) + 1
end

function Random:one_of(list) return list[self:number(#list)] end

function Random:chance(percent) return self:number(100) <= percent end

-- values --------------------------------------------------------------------

local long = ("long"):rep(17)
local pools = {
  string = { "", "a", "b", "A", "USA", "a:b", "a=b", "x~y", "{a}", "?", "a\0b", "a\0", "\0",
    "\255\254", "\195\40", "ж", "a b\r\nc", ("x"):rep(64), ("x"):rep(65), long, long .. "\0",
    ("x"):rep(64) .. "y", ("x"):rep(64) .. "\255",
    ("#"):rep(65), "0=a", "*", "[a-z]", "null", "1:a", "1:a1:b", "a#1" },
  bytes = { "", "\0", "\0\255", "\255", "a", ("\1"):rep(64), ("\1"):rep(65), "\r\n" },
  text = { "", "once upon a time", ("tale "):rep(500), "\0" },
  date = { "0001-01-01", "9999-12-31", "1969-12-31", "1970-01-01", "2000-02-29", "2024-02-29",
    "2024-03-01", "1900-03-01", "1582-10-10" },
  number = { 0, 1, -1, 0.5, 0.1, 1 / 3, -2.5, 1e300, -1e300, 5e-324, 2 ^ 53, 1e15, 123456.789 },
  time = { 0, 1, 1700000000, 1700000000.123, 1700000000.124, -5, 4102444800,
    1700000000.123456, 1700000000.123457, -0.000001, -86400.5 },
  boolean = { true, false },
  json = { { 1, 2 }, { a = { b = "c" } }, 5, "text", { x = null } },
}

function Random:integer(f)
  local low, high = f.min or -2 ^ 53, f.max or 2 ^ 53
  local v = self:one_of { low, high, low + 1, high - 1, 0, 1, -1, 7, 127, 128, 255, 256,
    low + self:number(10), low + self:number(32768), 2 ^ 31, 2 ^ 32 - 1, 2 ^ 32 }
  return math.min(math.max(v, low), high)
end

function Random:date(f)
  local v = self:one_of(pools.date)
  if self:chance(50) then
    v = ("20%02d-%02d-%02d"):format(self:number(3), self:number(12), self:number(28))
  end
  if f.min and v < f.min then return f.min end
  return f.max and v > f.max and f.max or v
end

-- value returns a random one that the field accepts.
function Random:value(f)
  if f.element then
    local list = {}
    for i = 1, self:number(f.max or 5) - 1 do list[i] = self:value(f.element) end
    return list
  end
  if f.type == "enum" then return self:one_of(f.values) end
  if f.type == "uuid" then
    return ("%08x-0000-7000-8000-%012x"):format(self:number(6), self:number(6))
  end
  if f.type == "integer" then return self:integer(f) end
  if f.type == "date" then return self:date(f) end
  return self:one_of(pools[f.type])
end

-- plain returns a value as it is compared: the elements of a set in an order of their own.
local function plain(f, v)
  if not f.element or v == nil then return v end
  local list, has = {}, {}
  for _, one in ipairs(v) do
    if f.kind == "list" or not has[one] then list[#list + 1] = one end
    has[one] = true
  end
  if f.kind == "set" then
    table.sort(list, function(a, b)
      if type(a) == "boolean" then return not a and b end
      return a < b
    end)
  end
  return list
end

local function is_same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for k, v in pairs(a) do
    if not is_same(v, b[k]) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

local function copy(m, row)
  local t = {}
  for name, f in pairs(m.fields) do t[name] = plain(f, row[name]) end
  return t
end

-- shapes --------------------------------------------------------------------

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
    }, { indexes = { { "color", "tiny" }, { "name", "is_on", "huge" } } }
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
    }, { indexes = { { "tag", "at" }, { "free", "score" } } }
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
  function(name)
    local Other = model.define(name .. "_other", { n = field.integer { primary_key = true } })
    return {
      id = field.string { primary_key = true },
      tags = field.list(field.string) { index = true },
      numbers = field.list(field.integer) { index = true, max = 5 },
      days = field.set(field.date) { index = true },
      moods = field.set(field.enum { "good", "bad" }, { index = true }),
      words = field.list(field.string),
      born = field.date { index = true, sort = true },
      due = field.date { required = true, min = "1960-01-01", index = true },
      raw = field.bytes { index = true },
      digest = field.bytes { unique = true },
      body = field.text(),
      title = field.string { sort = true },
      name = field.string { index = true, sort = true },
      parent = field.ref "self" { index = true },
      other = field.ref(Other) { index = true },
      is_top = field.boolean { unique = true },
    }, { indexes = { { "name", "born" }, { "parent", "raw", "due" } } }
  end,
  function()
    return {
      x = field.string { index = true },
      day = field.date { sort = true },
      level = field.integer { min = 0, max = 9, index = true },
      count = field.integer { index = true },
      weight = field.number(),
      name = field.string { unique = true },
      tags = field.set(field.string) { index = true },
    }, { primary_key = { "x", "day" }, ttl = 36000, indexes = { { "x", "count" } } }
  end,
  function()
    return {
      id = field.bytes { primary_key = true },
      owner = field.uuid { index = true, unique = true },
      kind = field.enum { "a", "b", index = true },
      size = field.integer { required = true, index = true, sort = true },
      last = field.date { unique = true, sort = true },
    }, { ttl = true, indexes = { { "kind", "size" } } }
  end,
}
M.shapes = #shapes

--- g:learn(model, indexes): notes the names of a model's fields, sorted, and its compound
-- indexes. Returns the model.
function Random:learn(m, indexes)
  local names = {}
  for name in pairs(m.fields) do names[#names + 1] = name end
  table.sort(names)
  self.names[m], self.indexes[m] = names, indexes or {}
  return m
end

--- g:define(name, shape): a model of one of the shapes, dropped and stored anew.
function Random:define(name, shape)
  local fields, options = shapes[shape](name)
  local m = model.define(name, fields, options)
  m:drop()
  m:sync()
  return self:learn(m, options and options.indexes)
end

-- writes --------------------------------------------------------------------

local function is_key(m, name)
  if name == m.primary then return true end
  for _, part in ipairs(m.parts or {}) do
    if part == name then return true end
  end
  return false
end

-- new_key sets a primary key in attributes, if it is to be given.
local function new_key(g, m, row)
  for _, name in ipairs(m.parts or { m.primary }) do
    local f = m.fields[name]
    if m.parts then
      row[name] = g:value(f)
    elseif f.auto or f.type == "uuid" then
      row[name] = nil
    else
      row[name] = g:one_of(pools[f.type]) .. g:number(60)
    end
  end
  return row
end

-- attributes returns what a create or a save of everything would set.
function Random:attributes(m)
  local row = {}
  for _, name in ipairs(self.names[m]) do
    local f = m.fields[name]
    if not is_key(m, name) and (f.required or self:chance(75)) then
      -- a unique of few values is mostly left out
      if not f.unique or self:chance(25) then row[name] = self:value(f) end
    end
  end
  return new_key(self, m, row)
end

-- allowed: what a random write may run into.
local allowed = { ["model.exists"] = true, ["model.unique"] = true }

local function check_failure(err)
  if not (neap.is_error(err) and allowed[err.code]) then error(err, 0) end
end

local function try(fn, ...)
  local ok, result = pcall(fn, ...)
  if not ok then check_failure(result) end
  return ok, result
end

-- adopt makes a row the object of its key.
local function adopt(mirror, row)
  local key = row:primary_key()
  for i, object in ipairs(mirror.objects) do
    if object:primary_key() == key then
      mirror.objects[i] = row
      return key
    end
  end
  mirror.objects[#mirror.objects + 1] = row
  return key
end

function Random:create(m, mirror)
  local options = m.ttl and self:chance(30) and { ttl = 50000 } or nil
  local ok, row = try(m.create, m, self:attributes(m), options)
  if ok then mirror.rows[adopt(mirror, row)] = copy(m, row) end
end

-- change sets a few fields; of references sometimes to a row.
function Random:change(m, mirror, row)
  for _ = 1, self:number(3) do
    local name = self:one_of(self.names[m])
    local f = m.fields[name]
    if not is_key(m, name) then
      row[name] = nil
      if f.required or self:chance(80) then row[name] = self:value(f) end
      if f.ref == "self" and self:chance(30) then row[name] = self:one_of(mirror.objects) end
    end
  end
end

-- settle tells the mirror what a save has stored, or takes the changes back.
local function settle(m, mirror, row, before, is_stored)
  local stored, now = mirror.rows[row:primary_key()], copy(m, row)
  for name in pairs(m.fields) do
    if not is_stored then
      row[name] = before[name]
    elseif not is_same(before[name], now[name]) then
      stored[name] = now[name]
    end
  end
end

function Random:save(m, mirror)
  local row = self:one_of(mirror.objects)
  local before = copy(m, row)
  self:change(m, mirror, row)
  settle(m, mirror, row, before, (try(row.save, row)))
end

function Random:save_many(m, mirror)
  local rows, befores, has = {}, {}, {}
  for _ = 1, self:number(8) do
    local row = self:one_of(mirror.objects)
    if not has[row] then
      has[row] = true
      rows[#rows + 1], befores[#befores + 1] = row, copy(m, row)
      self:change(m, mirror, row)
    end
  end
  local ok, err = try(m.save_many, m, rows)
  for i, row in ipairs(rows) do
    local failure = not ok and err.errors[i]
    if failure then check_failure(failure) end
    settle(m, mirror, row, befores[i], not failure)
  end
end

-- upsert of a row that is there, or is not.
function Random:upsert(m, mirror)
  local given = self:attributes(m)
  if self:chance(60) or m.primary and not given[m.primary] then
    local row = self:one_of(mirror.objects)
    for _, name in ipairs(m.parts or { m.primary }) do given[name] = row[name] end
    for _, name in ipairs(self.names[m]) do
      if given[name] == nil and self:chance(20) then given[name] = null end
    end
  end
  local ok, row = try(m.upsert, m, given)
  if not ok then return end
  local key = adopt(mirror, row)
  mirror.rows[key] = mirror.rows[key] or {}
  for name, v in pairs(given) do
    if v == null then v = nil end
    mirror.rows[key][name] = plain(m.fields[name], v)
  end
  if not is_same(copy(m, row), mirror.rows[key]) then
    error("upsert returned another row than it stored")
  end
end

-- fits tells whether a field can hold the sum v = before + by; one of integers has to
-- be exact.
local function fits(f, v, before, by)
  if v < (f.min or -math.huge) or v > (f.max or math.huge) then return false end
  if f.type == "number" then return math.abs(v) < math.huge end
  return math.abs(v) <= 2 ^ 53 and v - by == before
end

function Random:increment(m, mirror)
  local row = self:one_of(mirror.objects)
  local key, by, one, is_good = row:primary_key(), {}, nil, true
  local stored, sums = mirror.rows[key], {}
  for _ = 1, self:number(3) do
    local name = self:one_of(self.names[m])
    local f = m.fields[name]
    if not is_key(m, name) and not by[name] and (f.kind == "integer" or f.kind == "number") then
      by[name] = self:one_of { 1, -1, 3, 0, 250, 2 ^ 40, f.kind == "number" and 0.1 or 2 }
      sums[name] = (stored[name] or 0) + by[name]
      one, is_good = name, is_good and fits(f, sums[name], stored[name] or 0, by[name])
    end
  end
  if not one then return end
  local ok, result
  if next(by, next(by)) == nil and self:chance(50) then
    ok, result = pcall(row.increment, row, one, by[one])
    if ok and result ~= sums[one] then error("increment returned another number") end
  else
    ok, result = pcall(m.increment, m, key, by)
    if ok and self:chance(50) then adopt(mirror, result) end
  end
  local is_invalid = not ok and neap.is_error(result, "model.invalid")
  if ok and not is_good then
    error(("increment of %s: %s went past its limits"):format(key, one))
  elseif not ok and not (is_invalid and not is_good) then
    check_failure(result)
  end
  for name, v in pairs(ok and sums or {}) do stored[name] = v end
end

-- take takes a random object out of the mirror.
local function take(g, mirror)
  local row = table.remove(mirror.objects, g:number(#mirror.objects))
  mirror.rows[row:primary_key()] = nil
  return row
end

function Random:delete(_, mirror)
  take(self, mirror):delete()
end

-- live changes how long a row lives; one in three is over at once.
function Random:live(m, mirror)
  local dice = self:number(3)
  if not m.ttl then return end
  if dice == 1 then
    self:one_of(mirror.objects):expire(self:one_of { 40000, false })
  elseif dice == 2 and m.ttl ~= true then
    self:one_of(mirror.objects):touch()
  else
    local row = take(self, mirror)
    row:expire(0.001)
    while m:load(row:primary_key()) do neap.sleep(0.001) end
    local ok, err = pcall(row.delete, row)
    if ok or not neap.is_error(err, "model.gone") then error("a row was there after its time") end
  end
end

-- what is written, and how often in a hundred times
local writes = { { "create", 44 }, { "save", 62 }, { "save_many", 68 }, { "upsert", 76 },
  { "increment", 84 }, { "live", 88 }, { "delete", 100 } }

--- g:write(model, mirror, n): n random writes; the mirror is told of those
-- that were done.
function Random:write(m, mirror, n)
  mirror.rows, mirror.objects = mirror.rows or {}, mirror.objects or {}
  for _ = 1, n do
    local dice, i = self:number(100), 1
    while dice > writes[i][2] do i = i + 1 end
    local name = #mirror.objects == 0 and "create" or writes[i][1]
    self[name](self, m, mirror)
  end
end

--- compare(model, mirror): in what the stored rows differ from the mirror, a list.
function M.compare(m, mirror)
  local keys, wrong = {}, {}
  for key in pairs(mirror.rows) do keys[#keys + 1] = key end
  for i, row in ipairs(m:load_many(keys)) do
    for name, f in pairs(m.fields) do
      if not row or not is_same(plain(f, row[name]), mirror.rows[keys[i]][name]) then
        wrong[#wrong + 1] = ("%s: %s is not as stored"):format(keys[i], name)
      end
    end
  end
  local n = m:rows():count()
  if n ~= #keys then wrong[#wrong + 1] = ("%d rows, %d expected"):format(n, #keys) end
  return wrong
end

-- queries -------------------------------------------------------------------

local numeric = { integer = true, number = true, time = true, date = true }

-- An index by bytes, of a string with sort alone, is for no condition yet.
local function has_index(f) return f.index or f.sort and numeric[f.kind] end

local function finds_null(f)
  return f.index and (not numeric[f.kind] or f.kind == "date"
    or (f.kind == "integer" and f.min and f.max))
end

local function can_order(f)
  return numeric[f.kind] and has_index(f)
end

-- one_value returns what some row has (of a list: an element), or another value.
function Random:one_value(f, v)
  if f.element then
    f, v = f.element, v and self:one_of(v)
  end
  if v == nil then return self:value(f) end
  return v
end

function Random:list(f, mirror, name)
  if self:chance(4) then return {} end
  local list = {}
  for i = 1, self:chance(2) and 1000 or self:number(4) do
    list[i] = self:one_value(f, self:chance(40) and self:one_of(mirror.objects)[name] or nil)
  end
  return list
end

function Random:bound(f)
  if f.kind == "date" then return self:value { type = "date" } end
  return self:one_of { self:value(f), self:value(f), self:value(f) + 0.5,
    self:value(f) - 0.25, math.huge, -math.huge, -1e308, 1.79e308, 2 ^ 53 + 2, -2 ^ 60 }
end

function Random:condition(m, mirror, name)
  local f = m.fields[name]
  if finds_null(f) and self:chance(12) then return { name = name, op = "null" } end
  if numeric[f.kind] and has_index(f) and self:chance(50) then
    local low, high = self:bound(f), self:bound(f)
    if self:chance(15) then low = nil elseif self:chance(15) then high = nil end
    if low and high and low > high and self:chance(80) then low, high = high, low end
    return { name = name, op = "between", low = low, high = high }
  end
  if f.type ~= "uuid" and self:chance(50) or name == m.primary and self:chance(50) then
    local v = self:one_value(f, self:one_of(mirror.objects)[name])
    return { name = name, op = "in", values = { v }, is_single = true }
  end
  if name == m.primary then
    local list = {}
    for i = 1, self:number(6) do list[i] = self:one_of(mirror.objects)[name] end
    return { name = name, op = "in", values = list }
  end
  return { name = name, op = "in", values = self:list(f, mirror, name) }
end

-- driven adds conditions to a query of which one names rows outright: beside it,
-- they need no index.
function Random:driven(m, mirror, q)
  local c = self:condition(m, mirror, q.driver)
  if c.op ~= "in" then
    c = { name = q.driver, op = "in", values = { self:value(m.fields[q.driver]) } }
  end
  q.conditions[1] = c
  for _, name in ipairs(self.names[m]) do
    if m.fields[name].type ~= "json" and self:chance(10) then
      table.insert(q.conditions, self:condition(m, mirror, name))
    end
  end
end

-- along adds the conditions and the order that a compound index is for.
function Random:along(m, mirror, q)
  local names, row = self:one_of(self.indexes[m]), self:one_of(mirror.objects)
  for i, name in ipairs(names) do
    local f, v = m.fields[name], row[name]
    if i < #names then
      if v == nil then v = self:value(f) end
      q.conditions[i] = { name = name, op = "in", values = { v }, is_single = true }
    elseif self:chance(60) then
      q.conditions[i] = { name = name, op = "between", low = self:bound(f) }
    end
  end
  if self:chance(60) then q.order, q.is_descending = names[#names], self:chance(50) end
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
    self:driven(m, mirror, q)
  elseif #self.indexes[m] > 0 and self:chance(15) then
    self:along(m, mirror, q)
  else
    for _ = 1, self:number(4) - 1 do
      table.insert(q.conditions, self:condition(m, mirror, self:one_of(indexed)))
    end
  end
  if not q.order and self:chance(50) then
    q.order, q.is_descending = self:one_of(orders), self:chance(50)
  end
  if self:chance(40) then q.limit = self:one_of { 0, 1, 2, 5, 20, 300, 100000 } end
  if self:chance(30) then q.offset = self:one_of { 0, 1, 3, 10, 100, 100000 } end
  return q
end

local function is_among(list, v)
  for _, want in ipairs(list) do
    if want == v then return true end
  end
  return false
end

local function matches(c, v)
  if c.op == "null" then return v == nil end
  if v == nil then return false end
  if c.op == "between" then return (not c.low or v >= c.low) and (not c.high or v <= c.high) end
  if type(v) ~= "table" then return is_among(c.values, v) end
  for _, one in ipairs(v) do
    if is_among(c.values, one) then return true end
  end
  return false
end

--- places(model, mirror): the rows in the order in which Redis has them, as a
-- list of { id, row }.
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

--- answer(q, places): the keys of the rows that the query has to return.
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
    if q.order and q.is_descending then return a.ordinal > b.ordinal end
    return a.ordinal < b.ordinal
  end)
  local ids, skip = {}, q.offset or 0
  for i = skip + 1, math.min(#list, skip + (q.limit or #list)) do ids[#ids + 1] = list[i].id end
  return ids
end

--- run(model, q): the query as a program would write it; keys(query): those of its rows.
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

--- keys(rows): the keys of a list of rows.
function M.keys(rows)
  local list = {}
  for i, row in ipairs(rows) do list[i] = row:primary_key() end
  return list
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
