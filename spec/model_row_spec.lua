local neap = require "neap"
local check = require "support.model_check"
local case = require "support.case" (it)
local error_of, code_of = require "support.failure" (assert)
local model, field, null = neap.model, neap.field, neap.null
local redis = neap.redis()

local function has(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q in %q"):format(part, tostring(text)))
end

-- define makes a model anew.
local function define(name, fields, options)
  local m = model.define(name, fields, options)
  m:drop()
  return m
end

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


describe("what a row gives", function()
  case("to_table is a copy, all through", function()
    local Doc = define("doc", { id = field.string { primary_key = true }, j = field.json(),
      l = field.list(field.string), owner = field.ref "self" })
    local row = Doc:create { id = "a", j = { x = { 1 } }, l = { "a" } }
    local plain = row:to_table()
    assert.is_nil(getmetatable(plain))
    plain.j.x[1], plain.l[1] = 2, "b"
    assert.same({ { x = { 1 } }, { "a" } }, { row.j, row.l })
    row.owner = row
    assert.equal("a", row:to_table().owner)
  end)

  case("tojson has times in ISO 8601, and arrays where there are lists", function()
    local Doc = define("doc", { id = field.integer { primary_key = true, auto = true },
      at = field.time(), all = field.list(field.time), tags = field.set(field.string),
      day = field.date(), j = field.json(), n = field.number(), b = field.boolean() })
    local function json(attributes)
      local made = Doc:create(attributes)
      local text = made:tojson()
      assert.same(neap.json.decode(text), neap.json.decode(Doc:load(made.id):tojson()))
      return neap.json.decode(text)
    end
    assert.same({ id = 1, at = "2026-11-21T10:20:30.25Z", all = { "1970-01-01T00:00:00Z" },
      tags = {}, day = "2024-02-29", j = { { a = 1 } }, n = 0.1, b = false },
      json { at = 1795256430.25, all = { 0 }, tags = {}, day = "2024-02-29", j = { { a = 1 } },
        n = 0.1, b = false })
    assert.equal("1969-12-31T23:59:59.5Z", json({ at = -0.5 }).at)
    assert.equal(1e15, json({ at = 1e15 }).at) -- past the year 9999
    assert.equal("2026-11-21T10:20:30Z", json({ at = "2026-11-21T12:20:30+02:00" }).at)
    has(Doc:create({ tags = {}, all = {} }):tojson(), '"all":[]')
    assert.equal('{"id":6}', Doc:create({}):tojson())
  end)

  case("reload is what is stored by then", function()
    local Doc = define("doc", { id = field.string { primary_key = true }, a = field.integer(),
      l = field.list(field.integer) })
    local row = Doc:create { id = "a", a = 1, l = { 1 } }
    Doc:create { id = "b", a = 7 }
    local other = Doc:load "a"
    other.a, other.l = 2, nil
    other:save()
    row.a, row.l[1], row.id = 9, 9, "b"
    assert.equal(row, row:reload())
    assert.same({ id = "a", a = 2 }, row:to_table())
    row.a = 3
    row:save()
    assert.equal(3, Doc:load("a").a)
  end)

  case("primary_key is the text of what it is stored under", function()
    for kind, id in pairs { integer = -5, string = "a:b", bytes = "\0",
      uuid = "01234567-89ab-7def-8123-456789abcdef" } do
      local Doc = define("doc", { id = field[kind] { primary_key = true }, n = field.integer() })
      local row = Doc:create { id = id }
      assert.equal(tostring(id), row:primary_key())
      assert.equal(id, Doc:load(row:primary_key()).id)
      local other = kind == "integer" and 7 or kind == "uuid" and model.uuid() or "z"
      row.id = Doc:create({ id = other }).id
      assert.equal(tostring(id), row:primary_key())
      row:increment "n"
      assert.equal(1, Doc:load(id).n)
      row:delete()
      assert.is_nil(Doc:load(id))
      assert.equal(1, Doc:rows():count())
    end
  end)
end)

describe("misuse", function()
  local Doc
  before_each(function()
    Doc = define("doc", { id = field.string { primary_key = true }, n = field.integer() })
  end)

  -- misused expects an error text at this file's line that has these parts.
  local function misused(fn, ...)
    local ok, err = pcall(fn)
    assert.is_false(ok, "a failure was expected")
    local text = tostring(err)
    for _, part in ipairs { ... } do has(text, part) end
    if not neap.is_error(err) then has(text, "model_row_spec.lua:") end
  end

  case("of a row's methods names the method, at the caller's line", function()
    local row = Doc:create { id = "a" }
    for _, name in ipairs { "save", "delete", "reload", "primary_key", "increment", "expire",
      "touch", "expires_at", "related", "to_table", "tojson" } do
      for _, wrong in ipairs { {}, 5, "x", Doc } do
        misused(function() row[name](wrong) end, name, "row expected")
      end
      misused(function() row[name]() end, name, "row expected")
    end
    misused(function() row:increment() end, "#1", "increment")
    misused(function() row:increment {} end, "#1", "increment")
    misused(function() row:increment("n", "1") end, "n", "integer")
    misused(function() row:increment "nope" end, "nope")
    misused(function() row:related() end, "nil")
    misused(function() row:related "n" end, "'n'")
    misused(function() row:expire() end, "#1", "expire")
    misused(function() row:touch() end, "model doc", "ttl")
    misused(function() row:expire(5) end, "model doc", "ttl")
  end)

  case("of a model's methods names the argument, at the caller's line", function()
    for _, name in ipairs { "create", "create_many", "save_many", "upsert", "increment", "load",
      "load_many", "exists", "where", "rows", "has_many", "sync", "drop", "verify", "stats",
      "sweep" } do
      misused(function() Doc[name] { id = "a" } end, "colon", "User:" .. name)
      misused(function() Doc[name]() end, "colon", "User:" .. name)
    end
    misused(function() Doc:create() end, "attributes", "nil")
    misused(function() Doc:create "a" end, "attributes", "string")
    misused(function() Doc:create({ id = "a" }, 5) end, "options", "number")
    misused(function() Doc:create({ id = "a" }, { tll = 5 }) end, "'tll'")
    misused(function() Doc:create({ id = "a" }, { ttl = 5 }) end, "model doc", "ttl")
    misused(function() Doc:upsert() end, "attributes", "nil")
    misused(function() Doc:create_many() end, "create_many", "list")
    misused(function() Doc:create_many { { id = "a" }, 5 } end, "attributes", "number")
    misused(function() Doc:save_many() end, "save_many", "list")
    misused(function() Doc:load_many() end, "load_many", "list")
    misused(function() Doc:increment("a") end, "#2", "increment")
    misused(function() Doc:increment("a", {}) end, "increment", "nothing")
    assert.equal(0, Doc:rows():count())
    assert.is_nil(Doc:load())
    assert.is_false(Doc:exists())
  end)
end)
