-- query_random: random schemas, rows and queries from a seed, for what knows the answers
-- to them (query_oracle.lua).
--
--   local g = random.new(7)
--   local world = g:world("fuzz", { writes = 300 })    -- a model with rows
--   local q = g:query(world)               -- a description, as the oracle takes it
--   source.query(q, world.model):all()
--
-- A world has schema, model, other = { schema, model, rows } (what its refs are to), mirror
-- (as model_random.lua keeps it), places (all rows, by ordinal), related (ref -> key -> row),
-- and samples: the rows alone.
local neap = require "neap"
local rows = require "support.model_random"
local source = require "support.query_source"
local Random = rows.Random
local M = {}

--- features: what queries may have; WITHOUT="page scan" in the environment turns some
-- off. mixed: any, all and none inside a table of conditions that is not where's own.
M.features = { ne = true, logic = true, mixed = true, contains = true, scan = true, path = true,
  orders = true, descending = true, page = true, one = true, aggregate = true, with = true,
  change = true }
for name in (os.getenv "WITHOUT" or ""):gmatch "%w+" do
  if M.features[name] == nil then error("WITHOUT: there is no feature " .. name, 0) end
  M.features[name] = false
end
local features = M.features

local Fuzz = setmetatable({}, { __index = Random })
Fuzz.__index = Fuzz

--- new(seed): the same worlds and queries for the same seed.
function M.new(seed)
  local g = setmetatable(rows.new(seed), Fuzz)
  for _ = 1, 5 do g:number(2) end -- seeds that are neighbours begin alike
  g.pools = {}
  return g
end

-- values --------------------------------------------------------------------

-- fresh returns any value that a field takes. References are to rows that exist, mostly.
local function fresh(g, f)
  if type(f.ref) == "table" then return g:number(g.others + 3) end
  if f.ref and f.type == "integer" then return g:number(200) end
  local v = Random.value(g, f)
  if f.kind == "string" and f.max and #v > f.max then return v:sub(1, 1) end
  return v
end

--- value(f): mostly one of the few that a field has, so that rows share them.
function Fuzz:value(f)
  if f.element then return Random.value(self, f) end
  local pool = self.pools[f]
  if not pool then
    pool = {}
    for i = 1, self:one_of { 2, 4, 12, 30 } do pool[i] = fresh(self, f) end
    self.pools[f] = pool
  end
  if self:chance(88) then return self:one_of(pool) end
  return fresh(self, f)
end

-- schemas -------------------------------------------------------------------

local kinds = { "string", "string", "string", "integer", "integer", "integer", "number",
  "boolean", "enum", "enum", "time", "date", "date", "uuid", "bytes", "list", "set", "ref",
  "self", "text" }
local element_kinds = { "string", "string", "integer", "date", "enum" }
local limits = { { 0, 9 }, { -3, 251 }, { -128, 127 }, { 0, 300 }, { 1, 65535 },
  { -100000, 2 ^ 31 }, { 0, 2 ^ 53 }, { -2 ^ 53, 2 ^ 53 } }
local enums = { { "red", "green", "blue" }, { "a:b", "x=y", "~?" }, { "{a}", " ", "ж" } }

local function set_of(names)
  local set = {}
  for name in names:gmatch "%w+" do set[name] = true end
  return set
end
local numeric = set_of "integer number time date"
local in_front = set_of "string enum boolean integer uuid ref bytes date" -- in compounds

local function random_element(g)
  local kind = g:one_of(element_kinds)
  return { kind = kind, values = kind == "enum" and g:one_of(enums) or nil }
end

local function limit_values(g, f)
  local o = f.options
  if f.kind == "integer" and g:chance(65) then
    local pair = g:one_of(limits)
    o.min, o.max = pair[1], pair[2]
  elseif f.kind == "string" and g:chance(20) then
    o.max = 70
  elseif f.kind == "date" and g:chance(20) then
    o.min = "1960-01-01"
  end
end

local function random_field(g, i)
  local kind = g:one_of(kinds)
  local f = { name = kind .. i, kind = kind, options = {} }
  local o = f.options
  if kind == "list" or kind == "set" then f.element = random_element(g) end
  if kind == "enum" then f.values = g:one_of(enums) end
  if kind == "ref" then f.ref = "Other" end
  if kind == "self" then f.kind, f.ref = "ref", '"self"' end
  limit_values(g, f)
  if kind == "text" then return f end
  o.index = g:chance(75) or nil
  if numeric[kind] or kind == "string" then o.sort = g:chance(50) or nil end
  if not f.element and g:chance(8) then
    o.unique = true
  elseif kind ~= "self" and g:chance(25) then
    o.required = true
  end
  return f
end

-- add_key gives a schema its primary key. With is_made the host makes it.
local function add_key(g, schema, is_made)
  local kind = g:one_of { "uuid", "integer", "uuid", "integer", "string", "bytes", "parts" }
  if is_made and kind ~= "uuid" then kind = "integer" end
  local options = { primary_key = true, auto = kind == "integer" or nil }
  if kind ~= "parts" then
    schema.fields[1] = { name = "id", kind = kind, options = options }
  else
    schema.fields[1] = { name = "left", kind = "string", options = { index = true } }
    schema.fields[2] = { name = "right", kind = "date", options = { sort = true } }
    schema.options.primary_key = { "left", "right" }
  end
end

local function add_compound(g, fields, compounds)
  local list, has = {}, {}
  local function add(is_wanted)
    local f = g:one_of(fields)
    if is_wanted[f.kind] and not has[f.name] and not f.options.primary_key then
      list[#list + 1] = f.name
      has[f.name] = true
      return true
    end
  end
  local count = g:number(2)
  for _ = 1, 20 do
    if #list == count then break end
    add(in_front)
  end
  for _ = 1, 20 do
    if #list == count and add(numeric) then
      compounds[table.concat(list, ",")] = list
      return
    end
  end
end

--- schema(name, is_made): a description, see query_source.lua. With is_made keys are made by
-- the host.
function Fuzz:schema(name, is_made)
  local schema, compounds = { name = name, fields = {}, options = {} }, {}
  add_key(self, schema, is_made)
  local first = #schema.fields
  for i = 1, 4 + self:number(5) do schema.fields[first + i] = random_field(self, i) end
  for _ = 1, self:number(3) - 1 do add_compound(self, schema.fields, compounds) end
  local names = {}
  for text in pairs(compounds) do names[#names + 1] = text end
  table.sort(names)
  for i, text in ipairs(names) do names[i] = compounds[text] end
  if #names > 0 then schema.options.indexes = names end
  if self:chance(15) then schema.options.ttl = self:one_of { 36000, true } end
  return schema
end

-- worlds --------------------------------------------------------------------

local other_fields = {
  { name = "id", kind = "integer", options = { primary_key = true, auto = true } },
  { name = "name", kind = "string", options = { index = true, sort = true } },
  { name = "level", kind = "integer", options = { min = 0, max = 5, index = true } },
  { name = "score", kind = "number", options = { sort = true } },
  { name = "tags", kind = "set", element = { kind = "string" }, options = { index = true } },
  { name = "note", kind = "string", options = {} },
}

-- make_others creates the rows that refs are to. Some are gone again.
local function make_others(g, name, redis)
  local other = { schema = { name = name .. "_other", fields = other_fields, options = {} },
    rows = {} }
  local m = g:learn(source.define(other.schema, { redis = redis }))
  m:drop()
  m:sync()
  for i = 1, g.others do
    local row = g:attributes(m)
    row.id = i
    other.rows[i] = row
  end
  other.model, other.rows = m, m:create_many(other.rows)
  for i = #other.rows, 1, -1 do
    if g:chance(10) then table.remove(other.rows, i):delete() end
  end
  return other
end

-- fill_segment creates so many rows that those that follow stand on both sides of the border
-- between two segments, and returns them.
local function fill_segment(g, m)
  local list = {}
  for i = 1, 65536 - 200 do
    list[i] = {}
    for _, name in ipairs(g.names[m]) do
      local f = m.fields[name]
      if f.required and not f.primary_key then list[i][name] = g:value(f) end
    end
  end
  return m:create_many(list)
end

--- end_some(model): rows whose time is over, if the model's rows can expire.
function Fuzz:end_some(m)
  local keys = {}
  for _ = 1, m.ttl and not m.parts and 20 or 0 do
    local ok, row = pcall(m.create, m, self:attributes(m), { ttl = 0.001 })
    if ok then keys[#keys + 1] = row:primary_key() end
  end
  for _, key in ipairs(keys) do
    while m:load(key) do neap.sleep(0.001) end
  end
end

--- note(world): places, related and samples, anew.
function M.note(world)
  world.places, world.related = rows.places(world.model, world.mirror), {}
  world.samples = {}
  for i, place in ipairs(world.places) do world.samples[i] = place.row end
  local others = {}
  for _, row in ipairs(world.other.rows) do others[tostring(row.id)] = row end
  for name, f in pairs(world.model.fields) do
    if f.ref then
      world.related[name] = f.ref == "self" and world.mirror.rows or others
    end
  end
end

--- world(name, options): a model with rows. options: writes; is_large: across two segments;
-- is_made: keys are made by the host; redis, schema.
function Fuzz:world(name, options)
  local w = { mirror = { rows = {}, objects = {} } }
  self.others = 30
  w.other = make_others(self, name, options.redis)
  w.schema = options.schema or self:schema(name, options.is_made or options.is_large)
  w.model = source.define(w.schema, { Other = w.other.model, redis = options.redis })
  w.model:drop()
  w.model:sync()
  self:learn(w.model, w.schema.options.indexes)
  local fillers = options.is_large and fill_segment(self, w.model) or {}
  for _ = 1, options.writes / 2 do self:create(w.model, w.mirror) end
  self:write(w.model, w.mirror, options.writes / 2)
  self:end_some(w.model)
  neap.map(function(row) row:delete() end, fillers, { concurrency = 500 })
  local wrong = rows.compare(w.model, w.mirror)
  if #wrong > 0 then error("what is stored differs: " .. wrong[1]) end
  M.note(w)
  return w
end

-- conditions ----------------------------------------------------------------

local has_bounds = { integer = true, date = true }

local function is_packed(f)
  return f.index and has_bounds[f.kind] and (f.kind == "date" or f.min ~= nil and f.max ~= nil)
end

local function has_values(f) return f.index and not numeric[f.kind] end

local function has_numbers(f) return numeric[f.kind] and (f.index or f.sort) end

local function is_lexical(f) return f.kind == "string" and f.sort end

local function can_order(f) return is_packed(f) or has_numbers(f) or is_lexical(f) end

--- is_sure(f, test): whether there is an index for it, beyond doubt.
function M.is_sure(f, test)
  local op = test.op
  if op == "ne" then return M.is_sure(f, test.test) and (has_values(f) or is_packed(f)) end
  if op == "null" then return has_values(f) or is_packed(f) end
  if op == "eq" or op == "in" or op == "contains" then
    return has_values(f) or has_numbers(f)
  end
  return has_numbers(f) or is_lexical(f)
end

-- one_value returns what one of the samples (rows) has, of a list an element, or another
-- value.
local function one_value(g, samples, f)
  local v
  if #samples > 0 and g:chance(75) then v = g:one_of(samples)[f.name] end
  if f.element then
    v = type(v) == "table" and #v > 0 and g:one_of(v) or nil
    f = f.element
  end
  if v == nil then v = g:value(f) end
  if (f.kind == "integer" or f.kind == "date") and g:chance(8) then -- outside of its limits
    return Random.value(g, { type = f.kind })
  end
  return v
end

local function some_values(g, samples, f)
  local list = {}
  if g:chance(5) then return list end
  for i = 1, g:chance(2) and 600 or g:number(5) do list[i] = one_value(g, samples, f) end
  return list
end

-- a_bound returns what a range may end at.
local function a_bound(g, samples, f)
  if f.kind == "string" or f.kind == "date" or g:chance(50) then return one_value(g, samples, f) end
  return g:bound(f)
end

local ranges = { "between", "between", "gt", "ge", "lt", "le" }

local function random_range(g, samples, f)
  local op = g:one_of(ranges)
  if op ~= "between" then return { op = op, value = a_bound(g, samples, f) } end
  local low, high = a_bound(g, samples, f), a_bound(g, samples, f)
  if low > high and g:chance(85) then low, high = high, low end
  if g:chance(10) then low = nil elseif g:chance(10) then high = nil end
  return { op = "between", low = low, high = high }
end

-- random_test returns a test of a field.
local function random_test(g, samples, f)
  if g:chance(10) then return { op = "null" } end
  if f.kind == "string" and g:chance(15) then
    local v = one_value(g, samples, f)
    return { op = "prefix", value = v:sub(1, g:number(g:chance(20) and 70 or 3) - 1) }
  end
  if (numeric[f.kind] or f.kind == "string") and g:chance(45) then
    return random_range(g, samples, f)
  end
  if g:chance(35) then return { op = "in", values = some_values(g, samples, f) } end
  if f.element and features.contains and g:chance(50) then
    return { op = "contains", value = one_value(g, samples, f) }
  end
  return { op = "eq", value = one_value(g, samples, f) }
end

local function maybe_ne(g, samples, f)
  local test = random_test(g, samples, f)
  if test.op ~= "contains" and features.ne and g:chance(18) then
    return { op = "ne", test = test }
  end
  return test
end

-- random_leaf returns a condition of a field of the model, or of one that a ref is to.
local function random_leaf(g, w)
  local name, samples = g:one_of(g.names[w.model]), w.samples
  local f, leaf, is_sure = w.model.fields[name], { op = "leaf" }, true
  if f.ref and features.path and g:chance(40) and not (f.ref == "self" and w.is_changing) then
    local m = f.ref == "self" and w.model or w.other.model
    samples = f.ref == "self" and samples or w.other.rows
    is_sure, leaf.ref = f.index, name
    name = g:one_of(g.names[m])
    f = m.fields[name]
  end
  leaf.name, leaf.test = name, maybe_ne(g, samples, f)
  leaf.is_sure = is_sure and M.is_sure(f, leaf.test) and true or false
  leaf.is_alone = g:chance(15) or nil
  return leaf
end

local is_range = set_of "between gt ge lt le prefix"

-- wanted_leaf: one that has an index, or sometimes may have one, unless all may be read.
local function wanted_leaf(g, w, q)
  for _ = 1, 200 do
    local leaf = random_leaf(g, w)
    local test = leaf.test.op == "ne" and leaf.test.test or leaf.test
    if leaf.is_sure or q.is_scan or not is_range[test.op] and g:chance(4) then return leaf end
  end
end

local wanted_expression

-- add_elements gives an expression up to n elements. A table holds leaves, of different
-- names, and others with `mixed`.
local function add_elements(g, w, q, e, n, depth)
  local has = {}
  for _ = 1, n do
    local one
    if e.op == "table" and not (e.is_top or features.mixed) or g:chance(60) then
      one = wanted_leaf(g, w, q)
    else
      one = wanted_expression(g, w, q, depth + 1)
    end
    local name = one and one.op == "leaf" and (one.ref or "") .. "." .. one.name
    if one and not (e.op == "table" and name and has[name]) then
      e[#e + 1] = one
      if name then has[name] = true end
    end
    if one and e.op == "table" then one.is_alone = nil end
  end
  return e
end

-- wanted_expression: any, all or none, or a table of conditions inside of one; at most
-- three deep.
function wanted_expression(g, w, q, depth)
  if depth > 3 or not features.logic then return wanted_leaf(g, w, q) end
  local op = g:one_of { "any", "any", "any", "all", "none", "none", "table" }
  if op == "table" and depth > 1 then
    local e = add_elements(g, w, q, { op = "table" }, g:number(3), depth)
    return #e > 0 and e or nil
  end
  if op == "table" then op = "any" end
  return add_elements(g, w, q, { op = op }, g:chance(5) and 0 or g:number(4), depth)
end

local function is_all_sure(e)
  if e.op == "leaf" then return e.is_sure end
  for _, one in ipairs(e) do
    if not is_all_sure(one) then return false end
  end
  return true
end

local function add_where(g, w, q)
  local e
  if features.logic and g:chance(25) then
    e = wanted_expression(g, w, q, 1)
  else
    e = add_elements(g, w, q, { op = "table", is_top = true }, g:number(3), 0)
  end
  if e and (e.op ~= "table" or #e > 0) then
    local is_pair = #e == 1 and not e[1].ref and e[1].op == "leaf" and e.op == "table"
    q.wheres[#q.wheres + 1] = { expression = e, is_pair = is_pair and g:chance(30) or nil }
    q.is_sure = q.is_sure and is_all_sure(e)
  end
end

-- add_compound_where: what a compound index is for.
local function add_compound_where(g, w, q)
  local names = g:one_of(g.indexes[w.model])
  local e = { op = "table" }
  for i, name in ipairs(names) do
    local f = w.model.fields[name]
    local test = { op = "eq", value = one_value(g, w.samples, f) }
    if i == #names then test = random_range(g, w.samples, f) end
    if i < #names or g:chance(60) then
      e[#e + 1] = { op = "leaf", name = name, test = test, is_sure = M.is_sure(f, test) }
    end
  end
  q.wheres[1] = { expression = e }
  q.is_sure = is_all_sure(e)
  if g:chance(70) then
    local name = names[#names]
    q.orders[1] = { name = name, is_descending = features.descending and g:chance(50) or nil }
    q.is_sure = q.is_sure and can_order(w.model.fields[name]) and true or false
  end
end

-- shape -----------------------------------------------------------------------

local function add_orders(g, w, q)
  local names, has = {}, {}
  for _, name in ipairs(g.names[w.model]) do
    if can_order(w.model.fields[name]) then names[#names + 1] = name end
  end
  for _, order in ipairs(q.orders) do has[order.name] = true end
  local most = features.orders and g:one_of { 0, 0, 0, 1, 1, 1, 2, 2, 3 } or g:number(2) - 1
  for _ = 1, #names > 0 and most - #q.orders or 0 do
    local name = g:one_of(names)
    if not has[name] then
      has[name] = true
      q.orders[#q.orders + 1] = { name = name,
        is_descending = features.descending and g:chance(50) or nil }
    end
  end
end

--- query(world): a description of a query, with how else it is to be asked: stop (rows after
-- which each() is left), page_size, field (to pluck, to count by and to compute of).
-- is_thorough: in what is less often asked, too. is_sure: it has indexes for all.
function Fuzz:query(w)
  local q = { wheres = {}, orders = {}, is_sure = true }
  q.is_scan = features.scan and self:chance(12) or nil
  if #self.indexes[w.model] > 0 and self:chance(12) then
    add_compound_where(self, w, q)
  else
    for _ = 1, self:one_of { 0, 1, 1, 1, 1, 2, 2, 3 } do add_where(self, w, q) end
  end
  if #q.wheres == 0 then q.is_scan = nil end
  add_orders(self, w, q)
  if self:chance(35) then q.limit = self:one_of { 0, 1, 2, 5, 20, 300, 100000 } end
  if self:chance(25) then q.offset = self:one_of { 0, 1, 3, 10, 100, 100000 } end
  q.stop = self:one_of { 1, 2, 5, 50, 257 }
  q.page_size = self:one_of { 1, 2, 3, 7, 20, 100, 1000 }
  q.field = self:one_of(self.names[w.model])
  q.is_thorough = self:chance(25) or nil
  return q
end

return M
