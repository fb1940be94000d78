local neap = require "neap"
local check = require "support.model_check"
local case = require "support.case" (it)
local model, field, null = neap.model, neap.field, neap.null
local redis = neap.redis()

local error_of, code_of = require "support.failure" (assert)

local function has(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q in %q"):format(part, tostring(text)))
end

-- define makes a model anew.
local function define(name, fields, options)
  local m = model.define(name, fields, options)
  m:drop()
  return m
end

local bytes = {}
for i = 0, 255 do bytes[i + 1] = string.char(i) end
local odd = { "a\0b", "\0", "a:b", "a=b", "a~b", "{}", "{m}:x", "?", "*", "a\r\nb", "\255",
  "\195\40", "\237\160\128", "%s%n", " ", table.concat(bytes), ("x"):rep(64), ("x"):rep(65),
  ("y"):rep(65), ("#"):rep(65), "\195\169" }

describe("a field", function()
  local nan, inf = 0 / 0, math.huge
  local u = "01234567-89ab-7def-8123-456789abcdef"
  local kinds = {
    string = { good = { "", "x", "\0", "é" }, bad = { 1, true, {}, print } },
    integer = { good = { 0, -1, 2 ^ 53, -2 ^ 53, 1e15 },
      bad = { 0.5, 2 ^ 53 + 2, -2 ^ 54, nan, inf, -inf, "1", true, {} } },
    number = { good = { 0, 0.1, -1e308, 5e-324, 1 / 3 }, bad = { nan, inf, -inf, "1", false, {} } },
    time = { good = { 0, 1700000000.25, -1 }, bad = { nan, inf, "2020-01-32", "now", "", {},
      "2020-01-01T00:00:00", true } },
    date = { good = { "0001-01-01", "1969-12-31", "2024-02-29", "9999-12-31" },
      bad = { "2023-02-29", "0000-01-01", "2024-1-1", "2024-01-01T00:00Z", "", 0, {} } },
    text = { good = { "", ("é"):rep(9999), "\0" }, bad = { 1, true, {} } },
    bytes = { good = { "", "\0\255" }, bad = { 1, true, {} } },
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

describe("a time", function()
  local Event
  before_each(function()
    Event = define("event", { id = field.integer { primary_key = true, auto = true },
      at = field.time { sort = true }, all = field.list(field.time) })
  end)

  local times = {
    ["2026-11-21"] = 1795219200, ["2026-11-21T10:20Z"] = 1795256400,
    ["2026-11-21T10:20:30Z"] = 1795256430, ["2026-11-21 10:20:30z"] = 1795256430,
    ["2026-11-21T10:20:30.000001Z"] = 1795256430.000001,
    ["2026-11-21T10:20:30.000000Z"] = 1795256430,
    ["2026-11-21T10:20:30,5+02:00"] = 1795249230.5, ["2026-11-21T10:20:30-0330"] = 1795269030,
    ["2026-11-21T10:20:30+05"] = 1795238430, ["1969-12-31T23:59:59.75Z"] = -0.25,
    ["1969-12-31"] = -86400, ["1970-01-01T00:00:00Z"] = 0, ["1970-01-01T02:00+02:00"] = 0,
    ["0001-01-01T00:00:00Z"] = -62135596800, ["9999-12-31T23:59:59Z"] = 253402300799,
  }
  case("is given in ISO 8601 or in seconds, and comes back in seconds", function()
    for text, seconds in pairs(times) do
      for _, given in ipairs { text, seconds } do
        local row = Event:create { at = given, all = { given, 0 } }
        assert.same({ seconds, { seconds, 0 } }, { row.at, row.all }, text)
        row = Event:load(row.id)
        assert.same({ seconds, { seconds, 0 } }, { row.at, row.all }, text)
        assert.is_true(Event:where { at = text }:count() > 0, text)
        assert.equal(Event:where { at = seconds }:count(), Event:where { at = text }:count())
        row.at, row.all = 5, nil
        row:save()
        row.at, row.all = given, { given }
        row:save()
        assert.same({ seconds, { seconds } }, { row.at, row.all }, text)
        assert.same({ seconds, { seconds } }, { Event:load(row.id).at, Event:load(row.id).all })
        row.at = given
        row:save()
        assert.equal(seconds, row.at)
      end
    end
    assert.same({}, check(Event))
  end)

  case("without a zone, or of no such day, is refused", function()
    for _, text in ipairs { "2026-11-21T10:20", "2026-11-21T10:20:30", "2026-02-29", "2026-13-01",
      "2026-11-21T24:00Z", "2026-11-21T10:60Z", "2026-11-21T10:20:60Z", "2026-11-21T10:20:30.Z",
      "2026-11-21T10:20Z ", " 2026-11-21", "26-11-21", "2026-11-21T10:20+24:00",
      "0001-01-01T00:00+01:00", "9999-12-31T23:59-01:00", "today", "", "1795219200" } do
      assert.is_string(error_of(Event.create, Event, { at = text }).fields.at, text)
      assert.is_string(error_of(Event.create, Event, { all = { 0, text } }).fields.all, text)
    end
    assert.equal(0, Event:rows():count())
  end)
end)

describe("a list", function()
  local Post
  before_each(function()
    Post = define("post", { id = field.integer { primary_key = true, auto = true },
      tags = field.list(field.string { max = 3 }, { index = true, max = 4 }),
      words = field.set(field.string) { index = true }, numbers = field.set(field.integer),
      flags = field.list(field.boolean), days = field.list(field.date),
      raw = field.list(field.bytes), part = field.list(field.number { min = 0 }) })
  end)

  case("keeps order and doubles; a set has each once, sorted", function()
    local given = { tags = { "b", "a", "b" }, words = { "b", "a", "b", "" }, numbers = { 3, 1, 3 },
      flags = { true, false }, days = { "2024-02-29" }, raw = { "\0", "", "1:x" }, part = { 0.1 } }
    local row = Post:create(given)
    local want = { id = row.id, tags = { "b", "a", "b" }, words = { "", "a", "b" },
      numbers = { 1, 3 }, flags = { true, false }, days = { "2024-02-29" },
      raw = { "\0", "", "1:x" }, part = { 0.1 } }
    assert.same(want, Post:load(row.id):to_table())
    assert.same(want, row:to_table())
    row.words = { "z", "a", "z" }
    row:save()
    assert.same({ "a", "z" }, row.words)
    assert.same({ row.id }, Post:where { words = "z" }:ids())
    assert.same({ row.id }, Post:where { tags = "b" }:ids())
    assert.same({}, Post:where { words = "b" }:ids())
  end)

  case("that is empty is not null", function()
    local row = Post:create { tags = {}, words = {} }
    assert.same({ {}, {} }, { row.tags, row.words })
    row = Post:load(row.id)
    assert.same({ {}, {} }, { row.tags, row.words })
    assert.is_nil(row.flags)
    has(row:tojson(), '"tags":[]')
    row.tags = nil
    row:save()
    assert.is_nil(Post:load(row.id).tags)
  end)

  case("what was changed inside is saved", function()
    local row = Post:create { tags = { "a" }, words = { "a" } }
    row.tags[2], row.words[2] = "b", "b"
    row:save()
    assert.same({ row.id }, Post:where { tags = "b", words = "b" }:ids())
    row.tags[1] = nil
    row.tags[2] = nil
    row:save()
    assert.same({}, Post:load(row.id).tags)
  end)

  case("of something else is refused, telling what", function()
    local hole = { "a", nil, "c" }
    local bad = { { tags = "a" }, { tags = { 1 } }, { tags = { "long" } }, { tags = { a = "b" } },
      { tags = hole }, { tags = { null } }, { tags = { "a", "b", "c", "d", "e" } },
      { words = { false } }, { numbers = { 0.5 } }, { numbers = { "1" } }, { flags = { 0 } },
      { days = { "2023-02-29" } }, { part = { -1 } }, { part = { 0 / 0 } }, { raw = { {} } } }
    for _, attributes in ipairs(bad) do
      local name = next(attributes)
      local err = error_of(Post.create, Post, attributes)
      assert.equal("model.invalid", err.code)
      assert.is_string(err.fields[name], name)
      has(err, name .. ": ")
    end
  end)
end)

describe("a reference", function()
  case("is given as key or as row, and comes back as key", function()
    local User = define("user", { id = field.uuid { primary_key = true }, name = field.string() })
    local Seat = define("seat", { hall = field.string(), row = field.integer() },
      { primary_key = { "hall", "row" } })
    local Ticket = define("ticket", { id = field.integer { primary_key = true, auto = true },
      owner = field.ref(User) { index = true }, seat = field.ref(Seat) { index = true },
      next = field.ref "self" })
    local ada, seat = User:create { name = "Ada" }, Seat:create { hall = "a:b", row = 7 }
    local first = Ticket:create { owner = ada, seat = seat }
    local second = Ticket:create { owner = ada.id, seat = seat:primary_key(), next = first }
    for _, ticket in ipairs { first, second, Ticket:load(1), Ticket:load(2) } do
      assert.equal(ada.id, ticket.owner)
      assert.equal(seat:primary_key(), ticket.seat)
    end
    assert.equal(1, Ticket:load(2).next)
    assert.same({ 1, 2 }, Ticket:where { owner = ada.id }:ids())
    assert.same({ 1, 2 }, Ticket:where { seat = seat:primary_key() }:ids())
    second.owner, second.next = nil, second
    second:save()
    assert.equal(2, Ticket:load(2).next)
    for _, wrong in ipairs { { owner = "ada" }, { owner = {} }, { owner = seat }, { next = ada },
      { next = "1" }, { owner = 7 } } do
      local name = next(wrong)
      assert.is_string(error_of(Ticket.create, Ticket, wrong).fields[name], name)
    end
    Ticket:drop()
    Seat:drop()
    User:drop()
  end)
end)

describe("absent, null and empty", function()
  case("differ where they do: absent is null, empty is a value", function()
    local Thing = define("thing", { id = field.integer { primary_key = true, auto = true },
      s = field.string { index = true }, t = field.text(), b = field.bytes { index = true },
      j = field.json(), l = field.list(field.string), u = field.string { unique = true } })
    local row = Thing:create { s = "", t = "", b = "", j = "", l = {}, u = "" }
    local same = Thing:load(row.id)
    assert.same({ "", "", "", "", {}, "" }, { same.s, same.t, same.b, same.j, same.l, same.u })
    row = Thing:create { s = null, t = null, b = null, j = null, l = null, u = null }
    assert.same({ id = row.id }, row:to_table())
    assert.same({ id = row.id }, Thing:load(row.id):to_table())
    assert.same({ "_n", "_v" }, (function()
      local names = redis:hkeys("{thing}:" .. row.id)
      table.sort(names)
      return names
    end)())
    Thing:create {}
    assert.same({ 1 }, Thing:where { s = "" }:ids())
    assert.same({ 2, 3 }, Thing:where { s = null }:ids())
    assert.same({ 1 }, Thing:where { b = "" }:ids())
    assert.same({ 2, 3 }, Thing:where { b = null }:ids())
    same.s, same.t, same.u, same.l = nil, null, nil, nil
    same:save()
    assert.same({ id = 1, b = "", j = "" }, Thing:load(1):to_table())
    assert.equal("", Thing:create({ u = "" }).u)
    assert.same({}, check(Thing))
  end)

  case("null inside json stays", function()
    local Thing = define("thing", { id = field.integer { primary_key = true, auto = true },
      j = field.json() })
    local row = Thing:load(Thing:create({ j = { a = null, b = { 1, null } } }).id)
    assert.equal(null, row.j.a)
    assert.equal(null, row.j.b[2])
  end)
end)

-- what is refused, however a row gets there
describe("an option", function()
  local Item, good, bad
  before_each(function()
    Item = define("item", { id = field.string { primary_key = true },
      code = field.string { match = "%u%d" }, kind = field.string { one_of = { "a", "b" } },
      even = field.integer { validate = function(v) return v % 2 == 0, "it is odd" end },
      made = field.string { immutable = true },
      size = field.integer { min = 1, max = 3 }, name = field.string { min = 2, max = 3 },
      day = field.date { min = "2024-01-01", max = "2024-12-31" },
      at = field.time { min = 0, max = 100 }, blob = field.bytes { max = 2 },
      some = field.list(field.string { match = "%l" }, { min = 1, max = 2 }),
      twice = field.integer { computed = function(row) return row.size and row.size * 2 end } })
    good = { code = "A1", kind = "b", even = 2, size = 3, name = "é日本", day = "2024-12-31",
      at = "1970-01-01T00:01:40Z", blob = "é", some = { "x", "y" } }
    bad = { code = "A1x", kind = "c", even = 3, size = 4, name = "a", day = "2023-12-31", at = 101,
      blob = "é\0", some = { "x", "Y" }, twice = 5 }
  end)

  local function with(attributes, name, value)
    local copy = { [name] = value }
    for k, v in pairs(attributes) do copy[k] = copy[k] or v end
    return copy
  end

  -- refused expects that field to be named, and nothing to be stored.
  local function refused(name, fn, ...)
    local err = error_of(fn, ...)
    err = err.errors and err.errors[2] or err
    assert.equal("model.invalid", err.code)
    assert.is_string(err.fields[name], name)
    has(err, "model item: ")
    has(err, name .. ": ")
  end

  case("holds for create and create_many", function()
    assert.equal(6, Item:create(with(good, "id", "good")).twice)
    for name, value in pairs(bad) do
      local attributes = with(good, "id", "x")
      attributes[name] = value
      refused(name, Item.create, Item, attributes)
      refused(name, Item.create_many, Item, { with(good, "id", "y"), attributes })
    end
    assert.equal(1, Item:rows():count())
    local rows = Item:create_many { with(good, "id", "y"), with(good, "id", "z") }
    assert.equal(6, rows[2].twice)
  end)

  case("holds for save and save_many", function()
    for name, value in pairs(bad) do
      if name ~= "twice" then
        Item:drop()
        local a, b = Item:create { id = "a" }, Item:create { id = "b" }
        a.size, b[name] = 1, value
        refused(name, b.save, b)
        refused(name, Item.save_many, Item, { a, b })
        assert.same({ id = "a" }, Item:load("a"):to_table())
        assert.same({ id = "b" }, Item:load("b"):to_table())
      end
    end
    local a = Item:create { id = "c", size = 1, made = "x" }
    a.made = "y"
    refused("made", a.save, a)
    a.made = nil
    refused("made", a.save, a)
    a.made, a.size, a.twice = "x", 2, 99 -- computed is what it is, whatever was assigned
    a:save()
    assert.equal(4, Item:load("c").twice)
    assert.equal(4, a.twice)
  end)

  case("holds for upsert, of a new row and of one that exists", function()
    for name, value in pairs(bad) do
      local attributes = with(good, "id", "x")
      attributes[name] = value
      refused(name, Item.upsert, Item, attributes)
    end
    Item:upsert(with(good, "id", "x"))
    for name, value in pairs(bad) do
      if name ~= "twice" then refused(name, Item.upsert, Item, { id = "x", [name] = value }) end
    end
    assert.equal(2, Item:upsert({ id = "x", size = 1 }).twice)
    local want = with(good, "id", "x")
    want.size, want.twice, want.at = 1, 2, 100
    assert.same(want, Item:load("x"):to_table())
    Item:upsert { id = "m", made = "x" }
    refused("made", Item.upsert, Item, { id = "m", made = "y" })
  end)

  case("all that is wrong with a row is one error, by field", function()
    local err = error_of(Item.create, Item, (with(bad, "other", 1)))
    local names = {}
    for name in pairs(err.fields) do names[#names + 1] = name end
    table.sort(names)
    assert.same({ "_", "at", "blob", "code", "day", "even", "id", "kind", "name", "size", "some",
      "twice" }, names)
    assert.equal("item", err.model)
    for _, name in ipairs(names) do
      if name ~= "_" then has(err, name .. ": " .. err.fields[name]) end
    end
    has(err, "there is no field 'other'")
  end)

  case("the text of a limit names it and what it got", function()
    local err = error_of(Item.create, Item, { id = "x", size = 9, name = "a", day = "2023-12-31" })
    assert.equal("it is above the maximum (at most 3), got 9", err.fields.size)
    assert.equal("it is too short (at least 2), got 'a'", err.fields.name)
    assert.equal("it is below the minimum (at least 2024-01-01), got '2023-12-31'",
      err.fields.day)
  end)
end)

describe("bytes of any kind", function()
  case("come back from values, ids, uniques and indexes, and are found", function()
    local Odd = define("odd", { key = field.string { primary_key = true },
      v = field.string { index = true }, u = field.string { unique = true }, w = field.string() })
    local big = (neap.random_bytes(4095) .. "x"):rep(128) -- 512 KiB, its end not that of the next
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
