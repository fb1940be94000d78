-- The classic traps of mappers: keys that collide, values that look like something
-- else, numbers at their edges, and data that others damaged.
local neap = require "neap"
local check = require "support.model_check"
local case = require "support.case" (it)
local model, field, null = neap.model, neap.field, neap.null
local redis = neap.redis()

local function code_of(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok, "a failure was expected")
  assert.is_true(neap.is_error(err), tostring(err))
  return err.code
end

-- define makes a model anew.
local function define(name, fields, options)
  local m = model.define(name, fields, options)
  m:drop()
  return m
end

-- case_with is a case if what it needs exists.
local function case_with(needed, name, fn)
  if needed then case(name, fn) else pending(name) end
end

local has_composite = pcall(model.define, "probe", { x = field.string(), y = field.string() },
  { primary_key = { "x", "y" } })

local texts = { "a", "A", "a ", " a", "a:b", "a::b", ":", "a=b", "=", "a~b", "~", "?", "a?", "!",
  "{a}", "}", "{", "{}", "*", "[a-z]", "\\", "\\*", "/@rows.0", "@meta", "@rows.0", "_v", "_n",
  "null", "nil", "NULL", "\\N", "false", "0", "00", "0.0", "-0", "1e3", "\0", "\0\0", "a\0", "a\0b",
  "\255", "\255\254\0", "\195\40", "\237\160\128", "ж", "日本", "𝄞", "e\204\129", "é", "\r\n",
  "a\r\nb", "\27[0m", "\226\128\174", ("x"):rep(63), ("x"):rep(64), ("x"):rep(65), ("x"):rep(66),
  "#" .. ("x"):rep(64), ("\0"):rep(70), ("{:=}\255"):rep(104858) }

local function shown(text) return ("%q (%d bytes)"):format(text:sub(1, 20), #text) end

describe("keys", function()
  case("9, 10 and 100 of a counter come in the order of numbers", function()
    local Thing = define("counted", { id = field.integer { primary_key = true, auto = true },
      n = field.integer { sort = true } })
    for i = 1, 101 do Thing:create { n = i } end
    local ids = Thing:rows():ids()
    for i = 1, 101 do assert.equal(i, ids[i]) end
    assert.same({ 100, 10, 9 }, Thing:where { n = { 9, 10, 100 } }:order_by("n", "desc"):ids())
    assert.same({ 9, 10, 100 }, Thing:where("id", { 100, 9, 10 }):order_by("n"):ids())
    Thing:load(101):delete()
    Thing:load(10):delete()
    assert.equal(102, Thing:create({}).id)
    assert.is_nil(Thing:load(10))
    assert.is_nil(Thing:load(1.5))
    assert.is_nil(Thing:load {})
    assert.is_nil(Thing:load(0 / 0))
    Thing:drop()
  end)

  case("a counter passes over ids that were given, up to 2^53", function()
    local Thing = define("given", { id = field.integer { primary_key = true, auto = true } })
    for _, id in ipairs { 1, 2, 4, 2 ^ 53, -(2 ^ 53), 0 } do Thing:create { id = id } end
    assert.equal(3, Thing:create({}).id)
    assert.equal(5, Thing:create({}).id)
    assert.equal(2 ^ 53, Thing:load(2 ^ 53).id)
    assert.equal(0, Thing:load(-0.0).id)
    assert.equal("model.exists", code_of(Thing.create, Thing, { id = -0.0 }))
    assert.equal("model.invalid", code_of(Thing.create, Thing, { id = 2 ^ 53 + 2 }))
    assert.same({}, check(Thing))
    Thing:drop()
  end)

  case("of any bytes are kept apart and found again", function()
    local Thing = define("bytes", { id = field.string { primary_key = true },
      i = field.string { index = true }, u = field.string { unique = true },
      s = field.string(), b = (field.bytes or field.string)() })
    for _, text in ipairs(texts) do
      Thing:create { id = text, i = text, u = text, s = text, b = text }
    end
    local is_known = {}
    for _, text in ipairs(texts) do
      is_known[text] = true
      local row = Thing:load(text)
      assert.is_truthy(row, shown(text))
      for _, name in ipairs { "id", "i", "u", "s", "b" } do assert.is_true(row[name] == text) end
      for _, name in ipairs { "id", "i", "u" } do
        local ids = Thing:where(name, text):ids()
        assert.equal(1, #ids, name .. " " .. shown(text))
        assert.is_true(ids[1] == text)
      end
      assert.is_true(Thing:exists(text))
      assert.equal("model.exists", code_of(Thing.create, Thing, { id = text }))
      assert.equal("model.unique", code_of(Thing.create, Thing, { id = text .. "+", u = text }))
    end
    for _, id in ipairs(Thing:rows():ids()) do assert.is_true(is_known[id]) end
    assert.equal(#texts, #Thing:where("i", texts):all())
    assert.equal(#texts, Thing:rows():count())
    assert.equal(0, Thing:where("i", null):count())
    assert.same({}, check(Thing))
    for _, row in ipairs(Thing:rows():all()) do row:delete() end
    assert.same({}, check(Thing))
    Thing:drop()
    assert.equal(0, #redis:keys "{bytes}*")
  end)

  case_with(has_composite, "of two fields do not run into each other", function()
    local Pair = define("pair", { x = field.string(), y = field.string(),
      v = field.string { index = true } }, { primary_key = { "x", "y" } })
    local pairs_of = { { "x:y", "z" }, { "x", "y:z" }, { "x:y:z", "" }, { "", "x:y:z" },
      { "1:x", "1:y" }, { "1", "x1:y" }, { "x\0", "y" }, { "x", "\0y" }, { "3:x:y", "z" } }
    local made = {}
    for i, p in ipairs(pairs_of) do
      local ok, row = pcall(Pair.create, Pair, { x = p[1], y = p[2], v = "v" .. i })
      if ok then
        made[#made + 1] = { p, row }
      else -- an empty part may be refused, as an empty key is
        assert.equal("model.invalid", row.code)
        assert.is_true(p[1] == "" or p[2] == "")
      end
    end
    local seen = {}
    for _, m in ipairs(made) do
      local key = m[2]:primary_key()
      assert.is_nil(seen[key])
      seen[key] = true
      local row = Pair:load { x = m[1][1], y = m[1][2] }
      assert.is_truthy(row)
      assert.is_true(row.x == m[1][1] and row.y == m[1][2])
      assert.equal(m[2].v, row.v)
    end
    assert.equal(#made, Pair:rows():count())
    assert.same({}, check(Pair))
    Pair:drop()
  end)
end)

describe("null", function()
  local Thing
  before_each(function()
    Thing = define("null", { id = field.integer { primary_key = true, auto = true },
      i = field.string { index = true }, u = field.string { unique = true, index = true },
      n = field.integer { min = 0, max = 10, index = true }, b = field.boolean { index = true } })
  end)
  after_each(function() Thing:drop() end)

  case("is no value that looks like it, nor an empty string, zero or false", function()
    local row = Thing:create {}
    for _, text in ipairs { "", "?", "null", "nil", "NULL", "\\N", "\0", "false", "0" } do
      Thing:create { i = text, u = text, n = 0, b = false }
    end
    assert.same({ row.id }, Thing:where("i", null):ids())
    assert.same({ row.id }, Thing:where("u", null):ids())
    assert.same({ row.id }, Thing:where("n", null):ids())
    assert.same({ row.id }, Thing:where("b", null):ids())
    assert.same({ 2 }, Thing:where("i", ""):ids())
    assert.same({ 2 }, Thing:where("u", ""):ids())
    assert.equal(9, Thing:where("n", 0):count())
    assert.equal("", Thing:load(2).i)
    assert.is_nil(Thing:load(1).i)
    assert.is_false(Thing:load(2).b)
  end)

  case("is no value to a unique index: any number of rows have none", function()
    local one, two = Thing:create {}, Thing:create { u = null }
    Thing:create {}
    one.u = "taken"
    one:save()
    two.u = "taken"
    assert.equal("model.unique", code_of(two.save, two))
    one.u = nil
    one:save()
    two:save()
    assert.same({ two.id }, Thing:where("u", "taken"):ids())
    two:delete()
    Thing:create { u = "taken" }
    assert.same({}, check(Thing))
  end)
end)

describe("numbers", function()
  case("at the edge of 2^53 are exact, and refused beyond", function()
    local Thing = define("edges", { id = field.integer { primary_key = true, auto = true },
      i = field.integer { index = true, unique = true }, p = field.integer { min = -(2 ^ 53),
        max = 2 ^ 53, index = true }, z = field.integer { sort = true } })
    local edges = { -(2 ^ 53), -(2 ^ 53) + 1, -1, 0, 1, 2 ^ 53 - 1, 2 ^ 53 }
    for _, v in ipairs(edges) do Thing:create { i = v, p = v, z = v } end
    for n, v in ipairs(edges) do
      assert.equal(v, Thing:load(n).i)
      for _, name in ipairs { "i", "p", "z" } do
        assert.same({ n }, Thing:where(name, v):ids(), name .. " " .. n)
        assert.same({ n }, Thing:where { [name] = model.between(v, v) }:ids())
      end
    end
    assert.same({ 7, 6, 5, 4, 3, 2, 1 }, Thing:rows():order_by("p", "desc"):ids())
    assert.same({ 7, 6, 5, 4, 3, 2, 1 }, Thing:rows():order_by("z", "desc"):ids())
    for _, v in ipairs { 2 ^ 53 + 2, -(2 ^ 53) - 2, 1e300, 0 / 0, 1 / 0, -1 / 0, 0.5, 2 ^ 53 + 0.5,
      "5", true } do
      if v ~= 2 ^ 53 then
        assert.equal("model.invalid", code_of(Thing.create, Thing, { i = v }))
        assert.equal("model.invalid", code_of(Thing.create, Thing, { p = v }))
      end
    end
    assert.equal(#edges, Thing:rows():count())
    assert.same({}, check(Thing))
    Thing:drop()
  end)

  case("-0 is 0: to a comparison, to an index and to a unique", function()
    local Thing = define("zero", { id = field.integer { primary_key = true, auto = true },
      i = field.integer { index = true, unique = true },
      n = field.number { index = true, unique = true } })
    local row = Thing:create { i = -0.0, n = -0.0 }
    for _, name in ipairs { "i", "n" } do
      assert.same({ 1 }, Thing:where(name, 0):ids())
      assert.same({ 1 }, Thing:where(name, -0.0):ids())
      assert.equal("model.unique", code_of(Thing.create, Thing, { [name] = 0 }))
    end
    row.n = 0
    row:save()
    row.n = -0.0
    row:save()
    assert.same({ 1 }, Thing:where("n", 0):ids())
    assert.same({}, check(Thing))
    Thing:drop()
  end)

  case("that are none are refused, by a condition too", function()
    local Thing = define("nan", { id = field.integer { primary_key = true, auto = true },
      n = field.number { index = true }, t = field.time { index = true } })
    for _, v in ipairs { 0 / 0, 1 / 0, -1 / 0 } do
      assert.equal("model.invalid", code_of(Thing.create, Thing, { n = v }))
      assert.equal("model.invalid", code_of(Thing.create, Thing, { t = v }))
      assert.equal("model.invalid", code_of(function() return Thing:where("n", v):count() end))
    end
    for _, v in ipairs { 5e-324, -5e-324, 2 ^ -1022, 1.7976931348623157e308, 0.1, 1 / 3 } do
      local row = Thing:create { n = v }
      assert.equal(v, Thing:load(row.id).n)
      assert.same({ row.id }, Thing:where("n", v):ids())
      row:delete()
    end
    Thing:drop()
  end)
end)

describe("times", function()
  case("on the second, by microseconds and before 1970 are exact and in order", function()
    local Thing = define("times", { id = field.integer { primary_key = true, auto = true },
      at = field.time { index = true, sort = true, unique = true } })
    local times = { -62135596800, -86400.5, -1.000001, -1, -0.000001, 0, 0.000001, 1, 1700000000,
      1700000000.000001, 1700000000.5, 1700000001, 253402300799 }
    for i = #times, 1, -1 do Thing:create { at = times[i] } end
    for i, at in ipairs(times) do
      local id = #times + 1 - i
      assert.equal(at, Thing:load(id).at)
      assert.same({ id }, Thing:where("at", at):ids(), tostring(at))
    end
    local ids = Thing:rows():order_by("at"):ids()
    for i = 1, #times do assert.equal(#times + 1 - i, ids[i]) end
    assert.equal(5, Thing:where { at = model.between(nil, -0.0000005) }:count())
    assert.equal(3, Thing:where { at = model.between(1700000000, 1700000000.9) }:count())
    assert.same({}, check(Thing))
    Thing:drop()
  end)

  case_with(field.date, "that are dates go back before 1970, and no such day is refused", function()
    local Thing = define("dates", { id = field.integer { primary_key = true, auto = true },
      on = field.date { index = true, sort = true } })
    local dates = { "0001-01-01", "1582-10-15", "1899-12-31", "1900-02-28", "1900-03-01",
      "1969-12-31", "1970-01-01", "2000-02-29", "2024-02-29", "9999-12-31" }
    for i = #dates, 1, -1 do Thing:create { on = dates[i] } end
    for i, on in ipairs(dates) do
      assert.equal(on, Thing:load(#dates + 1 - i).on)
      assert.same({ #dates + 1 - i }, Thing:where("on", on):ids())
    end
    assert.same(dates, Thing:rows():order_by("on"):pluck "on")
    assert.equal(3, Thing:where { on = model.between("1900-01-01", "1969-12-31") }:count())
    for _, wrong in ipairs { "1900-02-29", "2023-02-29", "2024-13-01", "2024-00-10", "2024-04-31",
      "2024-4-3", "24-04-03", "", "today", "2024-01-01T00:00:00Z" } do
      assert.equal("model.invalid", code_of(Thing.create, Thing, { on = wrong }))
    end
    assert.same({}, check(Thing))
    Thing:drop()
  end)
end)

describe("empty lists", function()
  case("find, load and create nothing", function()
    local Thing = define("empty", { id = field.integer { primary_key = true, auto = true },
      s = field.string { index = true }, u = field.string { unique = true } })
    Thing:create { s = "x", u = "x" }
    Thing:create {}
    for _, name in ipairs { "id", "s", "u" } do
      assert.same({}, Thing:where(name, {}):all())
      assert.same({}, Thing:where(name, {}):ids())
      assert.equal(0, Thing:where(name, {}):count())
      assert.is_false(Thing:where(name, {}):exists())
      assert.is_nil(Thing:where(name, {}):first())
    end
    assert.same({}, Thing:load_many {})
    assert.same({}, Thing:create_many {})
    assert.equal(2, Thing:rows():count())
    Thing:drop()
  end)

  case_with(field.list, "as values differ from null, and elements are kept apart", function()
    local Thing = define("lists", { id = field.integer { primary_key = true, auto = true },
      tags = field.list(field.string) { index = true }, set = field.set(field.string) })
    local lists = { { "" }, { "a", "b" }, { "a,b" }, { "b", "a" }, { "a", "a" }, { "a\0b" },
      { "\0" }, { "[]" }, { "null" }, { "ж", "\255", ("x"):rep(70) } }
    local none, empty = Thing:create {}, Thing:create { tags = {}, set = {} }
    assert.is_nil(Thing:load(none.id).tags)
    assert.same({}, Thing:load(empty.id).tags)
    assert.same({}, Thing:load(empty.id).set)
    for i, list in ipairs(lists) do
      local row = Thing:create { tags = list, set = list }
      assert.same(list, Thing:load(row.id).tags)
      assert.is_true(#Thing:load(row.id).set <= #list)
      lists[i] = { list, row.id }
    end
    assert.equal(3, Thing:where { tags = "a" }:count())
    assert.equal(1, Thing:where { tags = "" }:count())
    assert.equal(1, Thing:where { tags = ("x"):rep(70) }:count())
    assert.same({}, check(Thing))
    local row = Thing:where({ tags = "" }):first()
    row.tags = {}
    row:save()
    assert.equal(0, Thing:where { tags = "" }:count())
    assert.same({}, check(Thing))
    Thing:drop()
  end)
end)

-- damage --------------------------------------------------------------------

-- settles calls fn, which may fail, but only with a coded error of a model or of Redis.
local function settles(fn, ...)
  local ok, v = pcall(fn, ...)
  if ok then return v end
  assert.is_true(neap.is_error(v), tostring(v))
  assert.is_truthy(v.code:find "^model%." or v.code:find "^redis%.", tostring(v))
end

-- All in `fields` is null or the same in every row, but for the unique.
local function damaged_fields()
  return {
    id = field.string { primary_key = true },
    s = field.string { index = true },
    n = field.integer { min = 0, max = 1000, index = true },
    z = field.integer { sort = true },
    b = field.boolean { index = true },
    u = field.string { unique = true },
  }
end

local function fill(Thing)
  for i = 1, 6 do Thing:create { id = "r" .. i, s = "x", n = i, z = i, b = true, u = "u" .. i } end
end

-- each_query calls fn with a query of each kind, which all rows match.
local function each_query(Thing, fn)
  fn(Thing:rows())
  fn(Thing:where { s = "x" })
  fn(Thing:where { s = "x", b = true })
  fn(Thing:where { n = model.between(1, 900) })
  fn(Thing:where { z = model.between(1, 900) })
  fn(Thing:rows():order_by "n")
  fn(Thing:rows():order_by("z", "desc"):limit(5))
  fn(Thing:where("u", { "u1", "u2", "u3", "u4", "u5", "u6" }))
  fn(Thing:where("id", { "r1", "r2", "r3", "r4", "r5", "r6" }))
end

-- check_rows: what a query gave are rows, each once.
local function check_rows(list)
  local seen = {}
  for i = 1, #list do
    local row = list[i]
    assert.equal("table", type(row))
    assert.equal("string", type(row.s))
    assert.is_nil(seen[row.id], "twice: " .. row.id)
    seen[row.id] = true
  end
end

-- use does everything that one can do with a model.
local function use(Thing)
  each_query(Thing, function(query)
    check_rows(settles(query.all, query) or {})
    local first = settles(query.first, query)
    assert.is_true(first == nil or type(first.s) == "string")
    local rows = {}
    settles(function()
      for row in query:each() do rows[#rows + 1] = row end
    end)
    check_rows(rows)
    for _, id in ipairs(settles(query.ids, query) or {}) do assert.equal("string", type(id)) end
    for _, v in ipairs(settles(query.pluck, query, "s") or {}) do
      assert.equal("string", type(v))
    end
    settles(query.count, query)
    settles(query.exists, query)
  end)
  local list = settles(Thing.load_many, Thing, { "r1", "r2", "r3", "none" })
  for i = 1, list and 3 or 0 do assert.is_true(list[i] == false or list[i].id == "r" .. i) end
  settles(Thing.create, Thing, { id = "new", s = "x", n = 7, z = 7, b = false, u = "new" })
  settles(Thing.create, Thing, { id = "r1", s = "x" })
  settles(Thing.create_many, Thing, { { id = "m1", s = "x" }, { id = "m2", s = "x", n = 1 } })
  for _, id in ipairs { "r1", "r2" } do
    local row = settles(Thing.load, Thing, id)
    if row then
      row.n, row.z, row.b, row.u = 500, 500, nil, "saved" .. id
      settles(row.save, row)
      settles(row.reload, row)
      if row.increment then settles(row.increment, row, "n", 1) end
      if row.expire then settles(row.expire, row, 100) end
    end
  end
  if Thing.upsert then settles(Thing.upsert, Thing, { id = "m1", s = "x", z = 3 }) end
  local row = settles(Thing.load, Thing, "r3")
  if row then settles(row.delete, row) end
  settles(Thing.exists, Thing, "r1")
  if Thing.stats then settles(Thing.stats, Thing) end
end

-- check_ordinals: no two rows have the same. Returns how many rows there are.
local function check_ordinals(name)
  local seen, n = {}, 0
  for key in redis:scan { match = "{" .. name .. "}:*" } do
    local ordinal = redis:hget(key, "_n")
    assert.is_nil(seen[ordinal], "held twice: " .. tostring(ordinal))
    seen[ordinal] = true
    n = n + 1
  end
  return n
end

local plants = {
  list = function(key) redis:rpush(key, "planted") end,
  string = function(key) redis:set(key, "planted") end,
  hash = function(key) redis:hset(key, "planted", "planted", "gen", "planted") end,
  set = function(key) redis:sadd(key, "planted") end,
  zset = function(key) redis:zadd(key, 1, "planted") end,
  stream = function(key) redis:xadd(key, "*", "planted", "planted") end,
}

local places = { ["a row"] = ":r1", ["the rows' bitmap"] = "/@rows.0", ["the ids"] = "/@ids.0",
  ["a packed column"] = "/n.0", ["an ordered index"] = "/z", ["a small set"] = "/s.0~x",
  ["a bitmap in its place"] = "/s.0=x", ["a boolean's bitmap"] = "/b.0=1", ["nulls"] = "/b.0?",
  ["a unique index"] = "/u!", ["the meta hash"] = "/@meta", ["the definition"] = "/@schema",
  ["a journal"] = "journal" }

describe("another type in the place of", function()
  for place, rest in pairs(places) do
    case(place .. " is an error with a code, or no matter", function()
      for kind, plant in pairs(plants) do
        local Thing = define("plant", damaged_fields())
        fill(Thing)
        local key = "{plant}" .. rest
        if rest == "journal" then key = redis:keys "{plant}/@journal:*"[1] end
        redis:del(key)
        plant(key)
        use(Thing)
        if Thing.verify then
          settles(Thing.verify, Thing)
          settles(Thing.verify, Thing, { repair = true })
        end
        use(Thing)
        Thing:drop()
        assert.equal(0, #redis:keys "{plant}*", kind)
        fill(Thing)
        assert.same({}, check(Thing))
        Thing:drop()
      end
    end)
  end
end)

describe("behind the mapper", function()
  local Thing
  before_each(function()
    Thing = define("behind", damaged_fields())
    fill(Thing)
  end)
  after_each(function() Thing:drop() end)

  case("a row that was deleted is nowhere, and its key is free", function()
    local gone = Thing:load "r2"
    redis:del "{behind}:r2"
    use(Thing)
    assert.is_nil(Thing:load "r2")
    each_query(Thing, function(query)
      for _, row in ipairs(query:all()) do assert.not_equal("r2", row.id) end
      for row in query:each() do assert.not_equal("r2", row.id) end
      for _, v in ipairs(query:pluck "s") do assert.equal("x", v) end
    end)
    gone.n = 9
    assert.equal("model.gone", code_of(gone.save, gone))
    assert.equal("model.gone", code_of(gone.delete, gone))
    Thing:create { id = "r2", s = "x", n = 2, z = 2, b = true }
    each_query(Thing, function(query) check_rows(query:all()) end)
    assert.equal("r2", Thing:load("r2").id)
    assert.equal(1, #Thing:where { id = "r2" }:all())
  end)

  case("a row that was changed is found by what it says, or not", function()
    redis:hset("{behind}:r1", "s", "y")
    redis:hset("{behind}:r2", "n", "text")
    redis:hset("{behind}:r3", "b", "maybe")
    redis:hset("{behind}:r4", "z", "")
    redis:hset("{behind}:r5", "unknown", "field")
    settles(use, Thing)
    for _, row in ipairs(Thing:where({ s = "x" }):all()) do assert.not_equal("r1", row.id) end
    for _, id in ipairs { "r1", "r2", "r3", "r4", "r5" } do
      local row = settles(Thing.load, Thing, id)
      if row then
        row.s = "saved"
        settles(row.save, row)
        settles(row.delete, row)
      end
    end
  end)

  for name, value in pairs { ["no"] = false, ["a wrong"] = "text", ["a negative"] = "-1",
    ["a huge"] = "99999999999" } do
    case(("a row with %s ordinal leaves the others of its batch whole"):format(name), function()
      local victim, other = Thing:load "r1", Thing:load "r2"
      if value then
        redis:hset("{behind}:r1", "_n", value)
      else
        redis:hdel("{behind}:r1", "_n")
      end
      victim.n, other.n, other.s = 900, 901, "x"
      neap.map(function(fn) settles(fn) end, {
        function() Thing:create { id = "before", s = "x", n = 905, b = true } end,
        function() victim:save() end,
        function() other:save() end,
        function() Thing:create { id = "after", s = "x", n = 906, b = true } end,
        function() victim:delete() end,
      }, { concurrency = 5 })
      redis:del "{behind}:r1"
      for _, id in ipairs { "before", "r2", "after" } do
        local row = Thing:load(id)
        if row then
          assert.same({ id }, Thing:where { n = row.n }:ids())
          assert.equal(1, #Thing:where({ s = "x", b = true, n = row.n }):all())
        end
      end
      each_query(Thing, function(query) check_rows(query:all()) end)
    end)
  end

  for name, damage in pairs {
    ["a counter that is a text"] = { "id", "text" },
    ["a top that is a text"] = { "top", "text" },
    ["a hint that is a text"] = { "hint", "text" },
    ["a hint that is high"] = { "hint", "3" },
  } do
    case(name .. " spoils no row that is stored", function()
      local Auto = define("auto", { id = field.integer { primary_key = true, auto = true },
        s = field.string { index = true }, n = field.integer { min = 0, max = 100, index = true } })
      for i = 1, 4 do Auto:create { s = "x", n = i } end
      local one, two = Auto:load(1), Auto:load(2)
      redis:hset("{auto}/@meta", damage[1], damage[2])
      one.n, two.s = 90, "y"
      neap.map(function(fn) settles(fn) end, {
        function() one:save() end,
        function() Auto:create { s = "x", n = 50 } end,
        function() two:save() end,
        function() Auto:create { s = "y", n = 51 } end,
      }, { concurrency = 4 })
      local n = check_ordinals "auto"
      for id = 1, 8 do
        local row = Auto:load(id)
        if row then
          assert.same({ id }, Auto:where { n = row.n }:ids())
          assert.equal(1, #Auto:where({ s = row.s, n = row.n }):all())
        end
      end
      assert.equal(n, Auto:rows():count())
      Auto:drop()
    end)
  end


  case("the meta hash, deleted, lets no ordinal be taken twice", function()
    redis:del "{behind}/@meta"
    settles(Thing.create, Thing, { id = "new", s = "x" })
    settles(Thing.create_many, Thing, { { id = "m1", s = "x" }, { id = "m2", s = "x" } })
    check_ordinals "behind"
  end)

  for _, key in ipairs { "@rows.0", "@ids.0", "n.0", "z", "s.0~x", "b.0=1", "u!", "@meta" } do
    case(("the key %s, deleted, leaves right results or an error"):format(key), function()
      redis:del("{behind}/" .. key)
      use(Thing)
      each_query(Thing, function(query) check_rows(settles(query.all, query) or {}) end)
      for i = 1, 6 do
        local row = settles(Thing.load, Thing, "r" .. i)
        if row then
          row.s = "saved"
          settles(row.save, row)
        end
      end
    end)
  end

  case_with(model.define("probe", { id = field.uuid { primary_key = true } }).verify,
    "all that was damaged is whole after verify with repair", function()
      local damages = {
        function() redis:del "{behind}:r1" end,
        function() redis:del "{behind}/s.0~x" end,
        function() redis:del "{behind}/n.0" end,
        function() redis:del "{behind}/z" end,
        function() redis:del "{behind}/u!" end,
        function() redis:del "{behind}/@rows.0" end,
        function() redis:del "{behind}/@ids.0" end,
        function() redis:setbit("{behind}/b.0=1", 5000, 1) end,
        function() redis:hset("{behind}/u!", "ghost", "r9") end,
        function() redis:zadd("{behind}/z", 5, "\0\0\0\200") end,
        function() redis:hset("{behind}:r4", "n", "77") end,
        function() redis:hdel("{behind}:r5", "_n") end,
        function() redis:hset("{behind}:r6", "_n", "0") end,
      }
      for i, damage in ipairs(damages) do
        Thing:drop()
        fill(Thing)
        damage()
        Thing:verify { repair = true }
        assert.same({}, check(Thing), "damage " .. i)
        local found = Thing:verify()
        assert.equal(0, found.ghosts + found.missing + found.uniques + found.lost)
        each_query(Thing, function(query) check_rows(query:all()) end)
      end
    end)
end)
