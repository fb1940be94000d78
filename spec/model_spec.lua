local neap = require "neap"
local check = require "support.model_check"
local case = require "support.case" (it)
local model, field, null = neap.model, neap.field, neap.null
local redis = neap.redis()

local function error_of(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok, "a failure was expected")
  assert.is_true(neap.is_error(err), tostring(err))
  return err
end

local function code_of(fn, ...) return error_of(fn, ...).code end

local function has(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q in %q"):format(part, tostring(text)))
end

-- define makes a model anew.
local function define(name, fields)
  local m = model.define(name, fields)
  m:drop()
  return m
end

local bytes = {}
for i = 0, 255 do bytes[i + 1] = string.char(i) end
local odd = { "a\0b", "\0", "a:b", "a=b", "a~b", "{}", "{m}:x", "?", "*", "a\r\nb", "\255",
  "\195\40", "\237\160\128", "%s%n", " ", table.concat(bytes), ("x"):rep(64), ("x"):rep(65),
  ("y"):rep(65), ("#"):rep(65), "\195\169" }

describe("a definition", function()
  local id = field.uuid { primary_key = true }

  local bad = {
    { "an unknown option", { x = field.string { indexed = true } }, "indexed" },
    { "an option of another type", { x = field.string { max = "9" } }, "max" },
    { "a flag that is no boolean", { x = field.string { index = 1 } }, "index" },
    { "options that are no table", { x = field.string "name" }, "options" },
    { "an enum without values", { x = field.enum {} }, "values" },
    { "an enum with a number", { x = field.enum { "a", 1 } }, "enum" },
    { "an enum with an empty value", { x = field.enum { "" } }, "enum" },
    { "an enum with a NUL in a value", { x = field.enum { "a\0b" } }, "enum" },
    { "a second primary key", { x = field.string { primary_key = true } }, "primary" },
    { "min above max", { x = field.integer { min = 2, max = 1 } }, "min" },
    { "a fraction as an integer's min", { x = field.integer { min = 0.5 } }, "whole" },
    { "an integer's max past 2^53", { x = field.integer { min = 0, max = 1e300 } }, "2^53" },
    { "an endless max", { x = field.integer { min = 0, max = math.huge } }, "2^53" },
    { "NaN as min", { x = field.number { min = 0 / 0 } }, "NaN" },
    { "min of a boolean", { x = field.boolean { min = 1 } }, "min" },
    { "sort of a string", { x = field.string { sort = true } }, "sort" },
    { "an index on json", { x = field.json { index = true } }, "json" },
    { "unique json", { x = field.json { unique = true } }, "json" },
    { "auto on another field", { x = field.integer { auto = true } }, "auto" },
    { "a pattern that is none", { x = field.string { match = "[a" } }, "match" },
    { "a pattern for an integer", { x = field.integer { match = "%d" } }, "match" },
    { "a table as default", { x = field.json { default = {} } }, "default" },
    { "something else than a field", { x = "string" }, "neap.field" },
  }
  for _, b in ipairs(bad) do
    case("with " .. b[1] .. " is refused, naming model and field", function()
      b[2].id = id
      local err = error_of(model.define, "thing", b[2])
      assert.equal("model.definition", err.code)
      has(err, "model thing")
      has(err, "x")
      has(err, b[3])
    end)
  end

  case("names are lower case, begin with a letter and are no method's", function()
    for _, name in ipairs { "", "X", "1a", "a-b", "a b", "a.b", "é", "_v", "a\0b" } do
      assert.equal("model.definition", code_of(model.define, name, { id = id }), name)
      local err = error_of(model.define, "thing", { id = id, [name] = field.string() })
      assert.equal("model.definition", err.code)
      has(err, "model thing")
    end
    for _, name in ipairs { "save", "delete", "reload", "to_table" } do
      has(error_of(model.define, "thing", { id = id, [name] = field.string() }), name)
    end
    local Thing = model.define("thing", { id = id, size = field.integer() })
    local ok, err = pcall(function() Thing.methods.size = print end)
    assert.is_false(ok)
    has(err, "size")
  end)

  case("needs one primary key, which is a string, an integer or a uuid", function()
    has(error_of(model.define, "thing", { x = field.string() }), "primary_key")
    for _, kind in ipairs { "number", "boolean", "time", "json" } do
      has(error_of(model.define, "thing", { x = field[kind] { primary_key = true } }), "x")
    end
    has(error_of(model.define, "thing", { x = field.string { primary_key = true, auto = true } }),
      "auto")
  end)

  case("has 64 fields at most", function()
    local fields = { id = id }
    for i = 1, 63 do fields["f" .. i] = field.string() end
    local Wide = define("wide", fields)
    local row = Wide:create { f1 = "a", f63 = "z" }
    assert.equal("z", Wide:load(row.id).f63)
    Wide:drop()
    fields.f64 = field.string()
    assert.equal("model.definition", code_of(model.define, "wide", fields))
  end)

  case("an unknown option of the model is refused", function()
    has(error_of(model.define, "thing", { id = id }, { tll = 5 }), "tll")
  end)

  case("packs integers into 1, 2, 4 or 8 bytes", function()
    local widths = { { 0, 254, 1 }, { 0, 255, 2 }, { -5, 249, 1 }, { 0, 65534, 2 }, { 0, 65535, 4 },
      { 0, 2 ^ 32 - 2, 4 }, { 0, 2 ^ 32 - 1, 8 }, { -2 ^ 53, 2 ^ 53, 8 }, { 7, 7, 1 } }
    for _, w in ipairs(widths) do
      local low, high, width = unpack(w)
      local Packed = define("packed", { id = field.integer { primary_key = true },
        v = field.integer { min = low, max = high, index = true } })
      Packed:create { id = 1, v = high }
      Packed:create { id = 2, v = low }
      assert.equal(2 * width, redis:strlen "{packed}/v.0")
      assert.same({}, check(Packed))
      assert.same({ 1 }, low < high and Packed:where { v = high }:ids() or { 1 })
      assert.equal(low < high and 1 or 2, Packed:where { v = low }:count())
    end
  end)
end)

describe("a field", function()
  local nan, inf = 0 / 0, math.huge
  local u = "01234567-89ab-7def-8123-456789abcdef"
  local kinds = {
    string = { good = { "", "x", "\0", "é" }, bad = { 1, true, {}, print } },
    integer = { good = { 0, -1, 2 ^ 53, -2 ^ 53, 1e15 },
      bad = { 0.5, 2 ^ 53 + 2, -2 ^ 54, nan, inf, -inf, "1", true, {} } },
    number = { good = { 0, 0.1, -1e308, 5e-324, 1 / 3 }, bad = { nan, inf, -inf, "1", false, {} } },
    time = { good = { 0, 1700000000.25, -1 }, bad = { nan, inf, "2020-01-01", {} } },
    boolean = { good = { true, false }, bad = { 0, 1, "true", {} } },
    uuid = { good = { u }, bad = { u:upper(), u:sub(1, 35), u .. "0", "{" .. u:sub(3) .. "}",
      (u:gsub("-", "")), u:gsub("-", "_"), 7, ("g"):rep(36) } },
    json = { good = { "x", 1, true, { 1, 2 }, { a = { b = "c" } } }, bad = { nan, print } },
  }
  for kind, values in pairs(kinds) do
    case(kind .. " takes what it is for and refuses the rest before anything is sent", function()
      local Thing = define("thing", { id = field.integer { primary_key = true, auto = true },
        v = field[kind]() })
      for _, v in ipairs(values.good) do
        local row = Thing:create { v = v }
        assert.same(v, row.v)
        assert.same(v, Thing:load(row.id).v)
      end
      local count = Thing:rows():count()
      local row = Thing:rows():first()
      for _, v in ipairs(values.bad) do
        local err = error_of(Thing.create, Thing, { v = v })
        assert.equal("model.invalid", err.code)
        assert.is_string(err.fields.v)
        has(err, "model thing")
        has(err, "v:")
        row.v = v
        assert.equal("model.invalid", code_of(row.save, row))
      end
      assert.equal(count, Thing:rows():count())
    end)
  end

  case("-0 is 0", function()
    local Thing = define("thing", { id = field.string { primary_key = true },
      i = field.integer { index = true }, n = field.number { sort = true } })
    Thing:create { id = "a", i = -0, n = -0.0 }
    assert.equal("0", redis:hget("{thing}:a", "i"))
    assert.equal("0", redis:hget("{thing}:a", "n"))
    assert.equal(1, Thing:where { i = 0, n = -0 }:count())
    assert.equal(1, Thing:where { n = model.between(-0, 0) }:count())
  end)

  case("enum takes its values and no others", function()
    local Thing = define("thing", { id = field.uuid { primary_key = true },
      v = field.enum { "a", "b c", index = true } })
    assert.equal("b c", Thing:load(Thing:create { v = "b c" }.id).v)
    for _, v in ipairs { "", "A", "a\0", "ab", 1, true } do
      assert.equal("model.invalid", code_of(Thing.create, Thing, { v = v }))
    end
    assert.equal("model.invalid", code_of(Thing.where, Thing, "v", "c"))
  end)

  case("min and max are of the number, or of the characters of a string", function()
    local Thing = define("thing", { id = field.uuid { primary_key = true },
      s = field.string { min = 2, max = 3 }, i = field.integer { min = -1, max = 1 },
      n = field.number { min = 0.5 } })
    for _, s in ipairs { "ab", "абв", "日本語", "\240\159\152\128\240\159\152\128" } do
      assert.equal(s, Thing:create { s = s }.s)
    end
    for _, s in ipairs { "", "a", "é", "abcd", "абвг" } do
      assert.is_string(error_of(Thing.create, Thing, { s = s }).fields.s)
    end
    for _, i in ipairs { -2, 2 } do
      assert.is_string(error_of(Thing.create, Thing, { i = i }).fields.i)
    end
    assert.is_string(error_of(Thing.create, Thing, { n = 0.49 }).fields.n)
  end)

  case("match is for the whole string, anchored or not", function()
    for _, pattern in ipairs { "%l+", "^%l+", "%l+$", "^%l+$" } do
      local Thing = define("thing", { id = field.uuid { primary_key = true },
        s = field.string { match = pattern } })
      assert.equal("abc", Thing:create { s = "abc" }.s, pattern)
      for _, s in ipairs { "", "1abc", "abc1", "abc\n", "abc\0" } do
        assert.equal("model.invalid", code_of(Thing.create, Thing, { s = s }), pattern)
      end
    end
    local Price = define("price", { id = field.uuid { primary_key = true },
      s = field.string { match = "%d+%$" } })
    assert.equal("5$", Price:create { s = "5$" }.s)
    assert.equal("model.invalid", code_of(Price.create, Price, { s = "5$5" }))
    local row = Price:create { s = "1$" }
    row.s = "x"
    assert.equal("model.invalid", code_of(row.save, row))
    Price:drop()
  end)

  case("defaults are values, functions and false; null leaves them out", function()
    local n = 0
    local Thing = define("thing", { id = field.uuid { primary_key = true },
      s = field.string { default = "x" }, b = field.boolean { default = false },
      i = field.integer { default = function() n = n + 1 return n end } })
    local row = Thing:load(Thing:create {}.id)
    assert.same({ "x", false, 1 }, { row.s, row.b, row.i })
    row = Thing:load(Thing:create { s = "", b = true, i = 9 }.id)
    assert.same({ "", true, 9 }, { row.s, row.b, row.i })
    row = Thing:load(Thing:create { s = null, b = null, i = null }.id)
    assert.is_nil(row.s)
    assert.is_nil(row.b)
    assert.is_nil(row.i)
    assert.equal(1, n)
  end)

  case("all that is wrong is told at once", function()
    local Thing = define("thing", { id = field.uuid { primary_key = true },
      a = field.integer { required = true }, b = field.string(), c = field.boolean() })
    local err = error_of(Thing.create, Thing, { b = 1, c = "x", other = 5 })
    assert.is_string(err.fields.a)
    assert.is_string(err.fields.b)
    assert.is_string(err.fields.c)
    has(err, "other")
    assert.is_nil(redis:hget("{thing}/@meta", "top"))
  end)
end)

describe("bytes of any kind", function()
  case("come back from values, ids, uniques and indexes, and are found", function()
    local Odd = define("odd", { key = field.string { primary_key = true },
      v = field.string { index = true }, u = field.string { unique = true }, w = field.string() })
    local big = neap.random_bytes(4096):rep(128) -- 512 KiB
    local values = { unpack(odd) }
    values[#values + 1] = big
    values[#values + 1] = big:sub(1, -2) .. "\0"
    for _, v in ipairs(values) do Odd:create { key = v, v = v, u = v, w = v } end
    assert.same({}, check(Odd))
    for i, v in ipairs(values) do
      local row = Odd:load(v)
      assert.is_true(row.v == v and row.u == v and row.w == v and row.key == v, "value " .. i)
      assert.is_true(Odd:exists(v))
      for _, name in ipairs { "key", "v", "u" } do
        local found = Odd:where(name, v):ids()
        assert.is_true(#found == 1 and found[1] == v, name .. " of value " .. i)
      end
      assert.equal(1, Odd:where("v", v):count())
      assert.equal("model.unique", code_of(Odd.create, Odd, { key = "k" .. i, u = v }))
      assert.equal("model.exists", code_of(Odd.create, Odd, { key = v }))
    end
    assert.equal(#values, #Odd:where { v = values }:all())
    Odd:create { key = "empty", v = "", u = "" }
    Odd:create { key = "null" }
    assert.same({ "empty" }, Odd:where { v = "" }:ids())
    assert.same({ "empty" }, Odd:where { u = "" }:ids())
    assert.same({ "null" }, Odd:where { v = null }:ids())
    assert.is_nil(Odd:load("null").v)
    assert.equal("", Odd:load("empty").v)
    for row in Odd:rows():each() do row:delete() end
    assert.same({}, check(Odd))
    Odd:drop()
    assert.equal(0, #redis:keys "{odd}*")
  end)
end)

describe("a row", function()
  local User, key
  before_each(function()
    User = define("user", { id = field.string { primary_key = true },
      name = field.string { index = true }, age = field.integer { min = 0, max = 99, index = true },
      email = field.string { unique = true }, nick = field.string { unique = true },
      at = field.time { sort = true }, extra = field.json() })
    key = "{user}:a"
  end)

  case("that is created is loaded as it was, and is a plain table", function()
    local row = User:create { id = "a", name = "Ada", age = 36, extra = { tags = { "x" } } }
    local same = User:load "a"
    assert.same({ id = "a", name = "Ada", age = 36, extra = { tags = { "x" } } }, same:to_table())
    assert.same(row:to_table(), same:to_table())
    assert.is_nil(User:load "b")
    assert.is_true(User:exists "a")
    assert.is_false(User:exists "b")
    for _, id in ipairs { "", 5, true, {} } do
      assert.is_nil(User:load(id))
      assert.is_false(User:exists(id))
    end
    assert.equal("model.invalid", code_of(User.create, User, { id = "" }))
    assert.equal("model.invalid", code_of(User.create, User, { name = "no id" }))
    assert.equal("model.exists", code_of(User.create, User, { id = "a" }))
  end)

  case("unknown fields are refused on create, set and where", function()
    has(error_of(User.create, User, { id = "a", nmae = "x" }), "nmae")
    local row = User:create { id = "a" }
    has(error_of(function() row.nmae = "x" end), "nmae")
    has(error_of(User.where, User, { nmae = "x" }), "nmae")
    has(error_of(User.where, User, "nmae", "x"), "nmae")
    has(error_of(function() return User:rows():order_by "nmae" end), "nmae")
    has(error_of(function() return User:rows():pluck "nmae" end), "nmae")
  end)

  case("save sends only what changed", function()
    local row = User:create { id = "a", name = "Ada", age = 36, email = "x" }
    redis:hset(key, "email", "planted")
    redis:hset(key, "stray", "1")
    local before = redis:hgetall(key)
    row.age, row.name = 37, nil
    assert.equal(row, row:save())
    local after = redis:hgetall(key)
    assert.is_true(after._v ~= before._v)
    before._v, before.age, before.name = after._v, "37", nil
    assert.same(before, after)
    row:save()
    assert.same(after, redis:hgetall(key))
  end)

  case("what was changed inside a json value is saved", function()
    local row = User:create { id = "a", extra = { n = { 1 } } }
    row.extra.n[2] = 5
    row:save()
    assert.same({ n = { 1, 5 } }, User:load("a").extra)
  end)

  case("a field set to null is absent then", function()
    local row = User:create { id = "a", name = "Ada", age = 1 }
    row.name = null
    row:save()
    assert.is_nil(User:load("a").name)
    assert.is_nil(row.name)
    assert.same({ "a" }, User:where { name = null }:ids())
    assert.same({}, check(User))
  end)

  case("that is stale keeps what others changed, and shows it", function()
    local mine = User:create { id = "a", name = "Ada", age = 1, at = 5 }
    local other = User:load "a"
    other.name, other.at = "Eve", nil
    other:save()
    mine.age = 2
    mine:save()
    local want = { id = "a", name = "Eve", age = 2 }
    assert.same(want, User:load("a"):to_table())
    assert.same(want, mine:to_table())
    assert.same({}, check(User))
    other.age = 3
    other:save()
    mine:delete()
    assert.same({}, check(User))
    assert.equal(0, User:rows():count())
  end)

  case("that is gone, or another by now, is model.gone and never merged", function()
    local row = User:create { id = "a", name = "Ada" }
    User:load("a"):delete()
    row.name = "x"
    assert.equal("model.gone", code_of(row.save, row))
    assert.equal("model.gone", code_of(row.reload, row))
    assert.equal("model.gone", code_of(row.delete, row))
    User:create { id = "a", name = "new" }
    assert.equal("model.gone", code_of(row.save, row))
    assert.equal("model.gone", code_of(row.delete, row))
    assert.equal("new", User:load("a").name)
    row:reload()
    row.age = 5
    row:save()
    assert.same({ id = "a", name = "new", age = 5 }, User:load("a"):to_table())
    row:delete()
    assert.equal("model.gone", code_of(row.save, row))
    assert.same({}, check(User))
  end)

  case("its primary key cannot change", function()
    local row = User:create { id = "a" }
    row.id = "b"
    assert.equal("model.invalid", code_of(row.save, row))
    assert.is_false(User:exists "b")
  end)

  case("uniques clash, move and become free; null never clashes", function()
    local a = User:create { id = "a", email = "x", nick = "n" }
    local err = error_of(User.create, User, { id = "b", email = "y", nick = "n" })
    assert.same({ "model.unique", "nick" }, { err.code, err.field })
    has(err, "'n'")
    User:create { id = "b", email = "y" }
    User:create { id = "c" }
    a.email = "y"
    assert.equal("model.unique", code_of(a.save, a))
    assert.equal("x", User:load("a").email)
    a.email = "z"
    a:save()
    User:create { id = "d", email = "x" }
    a.email = nil
    a:save()
    User:create { id = "e", email = "z" }
    User:load("b"):delete()
    User:create { id = "f", email = "y" }
    assert.same({}, check(User))
    assert.equal("f", User:where("email", "y"):first().id)
  end)

  case("load_many gives false where there is none, and keeps the places", function()
    for _, id in ipairs { "a", "b", "c" } do User:create { id = id } end
    local rows = User:load_many { "c", "x", "a", "c", 5, "" }
    local ids = {}
    for i = 1, 6 do ids[i] = rows[i] and rows[i].id end
    assert.same({ "c", false, "a", "c", false, false }, ids)
    assert.same({}, User:load_many {})
  end)

  case("create_many sends nothing if one is invalid, and tells which were refused", function()
    assert.equal("model.invalid", code_of(User.create_many, User,
      { { id = "a" }, { id = "b", age = "x" } }))
    assert.equal(0, User:rows():count())
    User:create { id = "b", email = "x" }
    local err = error_of(User.create_many, User,
      { { id = "a" }, { id = "b" }, { id = "c", email = "x" }, { id = "d" } })
    assert.equal("model.exists", err.code)
    assert.same({ "model.exists", "model.unique" }, { err.errors[2].code, err.errors[3].code })
    assert.same({ "a", "d" }, { err.rows[1].id, err.rows[4].id })
    assert.same({}, User:create_many {})
    assert.equal(3, User:rows():count())
    assert.same({}, check(User))
  end)

  case("a method of the model is there, and self is the row", function()
    function User.methods:hello() return "hello " .. self.name end
    assert.equal("hello Ada", User:create({ id = "a", name = "Ada" }):hello())
    assert.equal("hello Ada", User:load("a"):hello())
  end)
end)

describe("a primary key", function()
  case("of a uuid is made, in order of time, or given", function()
    local Thing = define("thing", { id = field.uuid { primary_key = true } })
    local a = Thing:create {}
    assert.is_truthy(a.id:match("^%x+%-%x+%-7%x+%-[89ab]%x+%-%x+$"))
    local given = "00000000-0000-0000-0000-00000000000a"
    assert.equal(given, Thing:create({ id = given }).id)
    assert.same({ a.id, given }, Thing:rows():ids())
    assert.equal("model.invalid", code_of(Thing.create, Thing, { id = given:upper() }))
  end)

  case("of a counter goes on, past ids that were given", function()
    local Thing = define("thing", { id = field.integer { primary_key = true, auto = true } })
    assert.equal(1, Thing:create({}).id)
    Thing:create { id = 3 }
    assert.equal(2, Thing:create({}).id)
    assert.equal(4, Thing:create({}).id)
    local rows = Thing:create_many { {}, {}, { id = 7 }, {} }
    assert.same({ 5, 6, 7, 8 }, { rows[1].id, rows[2].id, rows[3].id, rows[4].id })
    assert.equal("model.exists", code_of(Thing.create, Thing, { id = 3 }))
    assert.same({}, check(Thing))
  end)

  case("of an integer may be any within 2^53, and is found as text too", function()
    local Thing = define("thing", { id = field.integer { primary_key = true } })
    local ids = { 0, -1, 2 ^ 53, -2 ^ 53, 2 ^ 32, -2 ^ 32, 2 ^ 31 - 1, 1e15 }
    for _, id in ipairs(ids) do Thing:create { id = id } end
    assert.same(ids, Thing:rows():ids())
    assert.same({}, check(Thing))
    assert.equal(-1, Thing:load("-1").id)
    for _, id in ipairs { "01", "1.0", " 1", "1e0", "-0", "+1", "", "x", 0.5 } do
      assert.is_nil(Thing:load(id))
    end
  end)
end)
