-- query_check: asks a query in each way there is, and compares with the oracle.
--
--   local wrong = check.difference(world, q)     -- nil, or a text
--
-- A query that the generator is not sure of (q.is_sure) may be refused for want of an
-- index: it is asked again with scan = true, if there is that feature; check.refused counts them.
local neap = require "neap"
local oracle = require "support.query_oracle"
local random = require "support.query_random"
local source = require "support.query_source"
local features, null = random.features, neap.null
local M = { refused = 0, asked = 0 }

local function keys_of_places(list)
  local keys = {}
  for i, place in ipairs(list) do keys[i] = place.id end
  return keys
end

local function keys_of_rows(list)
  local keys = {}
  for i, row in ipairs(list) do keys[i] = row:primary_key() end
  return keys
end

local function some_of(list)
  local texts = {}
  for i = 1, math.min(#list, 12) do texts[i] = source.literal(list[i]) end
  return ("%d: %s%s"):format(#list, table.concat(texts, " "), #list > 12 and " ..." or "")
end

-- wrong raises what was found; no other error is a table without a code.
local function wrong(fmt, ...) error({ difference = fmt:format(...) }, 0) end

-- same_list compares two lists of scalars.
local function same_list(how, have, want)
  for i = 1, math.max(#have, #want) do
    if have[i] ~= want[i] then
      wrong("%s differs at %d\n  got  %s\n  want %s", how, i, some_of(have), some_of(want))
    end
  end
end

local function same(how, have, want)
  if have ~= want then wrong("%s: got %s, want %s", how, tostring(have), tostring(want)) end
end

-- same_values: whether the rows have what the oracle's have. Lists were compared when the
-- world was made.
local function same_values(w, list, want)
  for i = 1, math.min(#want, 20) do
    for name, f in pairs(w.model.fields) do
      if not f.element and list[i][name] ~= want[i].row[name] then
        wrong("all: row %d: %s is %s, not %s", i, name, tostring(list[i][name]),
          tostring(want[i].row[name]))
      end
    end
  end
end

-- fails_with calls fn, which has to raise an error of that code.
local function fails_with(how, code, fn, ...)
  local ok, err = pcall(fn, ...)
  if ok then wrong("%s: no error, want %s", how, code) end
  if not neap.is_error(err, code) then wrong("%s: %s, want %s", how, tostring(err), code) end
end

-- ways ----------------------------------------------------------------------

local ways = {}

function ways.all(a)
  local list = a.query:all()
  same_list("all", keys_of_rows(list), a.keys)
  same_values(a.world, list, a.want)
end

function ways.count(a) same("count", a.query:count(), #a.want) end

function ways.exists(a) same("exists", a.query:exists(), #a.want > 0) end

function ways.first(a)
  local row = a.query:first()
  same("first", row and row:primary_key(), a.keys[1])
end

function ways.ids(a)
  local ids, texts = a.query:ids(), {}
  for i, id in ipairs(ids) do texts[i] = tostring(id) end
  same_list("ids", texts, a.keys)
end

function ways.each(a)
  local keys, n = {}, 0
  for row in a.query:each() do
    n = n + 1
    keys[n] = row:primary_key()
    if n == a.q.stop then break end
  end
  local want = {}
  for i = 1, math.min(a.q.stop, #a.keys) do want[i] = a.keys[i] end
  same_list("each", keys, want)
end

function ways.pluck(a)
  if not a.q.is_thorough or a.world.model.fields[a.q.field].element then return end
  local want = {}
  for i, place in ipairs(a.want) do
    local v = place.row[a.q.field]
    want[i] = v == nil and null or v
  end
  same_list("pluck " .. a.q.field, a.query:pluck(a.q.field), want)
end

function ways.explain(a)
  if a.q.is_thorough then same("explain", type(a.query:explain()), "string") end
end

function ways.one(a)
  if not features.one or not a.q.is_thorough and #a.want > 1 then return end
  if #a.want > 1 then return fails_with("one", "model.many", a.query.one, a.query) end
  local row = a.query:one()
  same("one", row and row:primary_key(), a.keys[1])
end

-- pages -----------------------------------------------------------------------

-- damaged returns the cursor with another character in the middle.
local function damaged(cursor)
  local half = math.floor(#cursor / 2)
  local c = cursor:sub(half + 1, half + 1) == "A" and "B" or "A"
  return cursor:sub(1, half) .. c .. cursor:sub(half + 2)
end

-- another returns a query to which a cursor of the case's does not belong.
local function another(a)
  local q = { wheres = a.q.wheres, is_scan = a.q.is_scan, orders = {} }
  for _, order in ipairs(a.q.orders) do
    local is_descending = not order.is_descending or nil
    q.orders[#q.orders + 1] = { name = order.name, is_descending = is_descending }
  end
  return #q.orders > 0 and source.query(q, a.world.model)
end

local function check_cursor(a, cursor)
  local query, size = a.whole, a.page_size
  local function page(after, of) return (of or query):page { size = size, after = after } end
  fails_with("page after a damaged cursor", "model.cursor", page, damaged(cursor))
  fails_with("page after half a cursor", "model.cursor", page, cursor:sub(1, #cursor / 2))
  fails_with("page after a text", "model.cursor", page, "x")
  local other = another(a)
  if other then
    fails_with("page after another query's cursor", "model.cursor", page, cursor, other)
  end
end

function ways.page(a)
  if not features.page then return end
  local want = keys_of_places(a.all)
  a.page_size = math.max(a.q.page_size, math.ceil(#want / 5))
  local keys, cursor, is_first = {}, nil, true
  repeat
    local list, next_cursor = a.whole:page { size = a.page_size, after = cursor }
    for _, row in ipairs(list) do keys[#keys + 1] = row:primary_key() end
    local expected = math.min(#want, #keys)
    if next_cursor and expected == #want then
      wrong("page of %d: a cursor after the last of %d rows", a.page_size, #want)
    elseif next_cursor and #list ~= a.page_size then
      wrong("page of %d: %d rows, and a cursor", a.page_size, #list)
    end
    if next_cursor and is_first and a.q.is_thorough then check_cursor(a, next_cursor) end
    cursor, is_first = next_cursor, false
  until not cursor
  same_list(("page of %d"):format(a.page_size), keys, want)
end

-- numbers and groups ------------------------------------------------------------

-- is_near: equal but for what the order of additions changes, which it does not for
-- integers up to 2^53.
local function is_near(v, want, size, kind)
  if v == nil or want == nil then return v == want end
  local is_exact = kind == "integer" and size <= 2 ^ 53
  return math.abs(v - want) <= (is_exact and 0 or 1e-12 * size)
end

local has_numbers = { integer = true, number = true }
local has_order = { integer = true, number = true, date = true, time = true }

-- with_index calls a method that may lack an index for its field.
local function with_index(a, method, ...)
  local ok, v = pcall(a.whole[method], a.whole, ...)
  if ok then return true, v end
  if a.q.is_scan or not neap.is_error(v, "model.unindexed") then error(v, 0) end
  M.refused = M.refused + 1
  return false
end

function ways.aggregate(a)
  local f = a.world.model.fields[a.q.field]
  if not features.aggregate or not has_order[f.kind] then return end
  local want = oracle.aggregate(a.all, a.q.field)
  for _, method in ipairs { "min", "max", "sum", "avg" } do
    local is_sum = method == "sum" or method == "avg"
    if has_numbers[f.kind] or not is_sum then
      local ok, v = with_index(a, method, a.q.field)
      local is_same = v == want[method] or is_sum and is_near(v, want[method], want.size, f.kind)
      if ok and not is_same then
        wrong("%s of %s: got %s, want %s", method, a.q.field, source.literal(v),
          source.literal(want[method]))
      end
    end
  end
end

function ways.count_by(a)
  local f = a.world.model.fields[a.q.field]
  if not features.aggregate or f.element or f.kind == "text" then return end
  local ok, have = with_index(a, "count_by", a.q.field)
  if not ok then return end
  local want = oracle.counts(a.all, a.q.field, null)
  for v, n in pairs(want) do
    same(("count_by %s: %s"):format(a.q.field, source.literal(v)), have[v], n)
  end
  for v, n in pairs(have) do
    same(("count_by %s: %s"):format(a.q.field, source.literal(v)), n, want[v])
  end
end

-- with: rows come with what they refer to.
function ways.with(a)
  local f = a.world.model.fields[a.q.field]
  if not features.with or not f.ref then return end
  local list = a.query:with(a.q.field):all()
  same_list("with", keys_of_rows(list), a.keys)
  for i, row in ipairs(list) do
    local key = row[a.q.field]
    local want = key ~= nil and a.world.related[a.q.field][tostring(key)]
    local related = row:related(a.q.field)
    if (related ~= nil) ~= (want and true or false) then
      wrong("with %s: row %d has %s", a.q.field, i, tostring(related))
    end
    same("with " .. a.q.field, related and related:primary_key(), want and tostring(key) or nil)
  end
end

-- queries -----------------------------------------------------------------------

local names = {}
for name in pairs(ways) do names[#names + 1] = name end
table.sort(names)

-- build returns the query; nil if it was refused for want of an index, as it may be.
local function build(w, q)
  local ok, query = pcall(source.query, q, w.model)
  if ok then return query end
  if q.is_sure or not neap.is_error(query, "model.unindexed") then error(query, 0) end
  M.refused = M.refused + 1
  if q.is_scan or #q.wheres == 0 or not features.scan then return nil end
  q.is_scan = true
  return build(w, q)
end

local function text_of(err)
  if type(err) == "table" and err.difference then return err.difference end
  return "raised: " .. tostring(err)
end

--- difference(world, q): in what neap's answer to q differs from the oracle's, a text, and
-- the way in which it was asked; nil if it does not.
function M.difference(w, q)
  local how = "where"
  local ok, err = pcall(function()
    local a = { world = w, q = q, query = build(w, q) }
    if not a.query then return end
    M.asked = M.asked + 1
    a.whole = source.query({ wheres = q.wheres, orders = q.orders, is_scan = q.is_scan }, w.model)
    a.all = oracle.all(q, w.places, w.related)
    a.want = oracle.window(a.all, q)
    a.keys = keys_of_places(a.want)
    for _, name in ipairs(names) do
      how = name
      ways[name](a)
    end
  end)
  if not ok then return text_of(err), how end
end

return M
