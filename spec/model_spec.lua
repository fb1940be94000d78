local neap = require "neap"
local check = require "support.model_check"
local case = require "support.case" (it)
local model, field = neap.model, neap.field
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
    { "sort of a boolean", { x = field.boolean { sort = true } }, "sort" },
    { "an index on text", { x = field.text { index = true } }, "text" },
    { "an index on json", { x = field.json { index = true } }, "json" },
    { "unique json", { x = field.json { unique = true } }, "json" },
    { "auto on another field", { x = field.integer { auto = true } }, "auto" },
    { "a pattern that is none", { x = field.string { match = "[a" } }, "match" },
    { "a pattern broken further on", { x = field.string { match = "a[" } }, "match" },
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
    for _, name in ipairs { "save", "delete", "reload", "to_table", "tojson", "increment",
      "primary_key", "expire", "touch", "expires_at", "related" } do
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

describe("a composite primary key", function()
  local Seat, Pair, Day
  before_each(function()
    Seat = define("seat", { hall = field.string(), line = field.integer(), name = field.string {
      index = true } }, { primary_key = { "hall", "line" } })
    Pair = define("pair", { a = field.string(), b = field.string(), v = field.string() },
      { primary_key = { "a", "b" } })
    Day = define("entry", { day = field.date(), user = field.ref(Seat), kind = field.enum { "x",
      "y" }, n = field.integer() }, { primary_key = { "day", "user", "kind" } })
  end)

  case("is loaded by its parts, by its text, by a row", function()
    local row = Seat:create { hall = "main", line = 7, name = "x" }
    for _, id in ipairs { { hall = "main", line = 7 }, row:primary_key(), row } do
      assert.same({ hall = "main", line = 7, name = "x" }, Seat:load(id):to_table())
      assert.is_true(Seat:exists(id))
      assert.equal("x", Seat:load_many({ id })[1].name)
    end
    local entry = Day:create { day = "2024-02-29", user = row, kind = "y" }
    assert.equal(row:primary_key(), entry.user)
    assert.same(entry:to_table(), Day:load(entry:primary_key()):to_table())
    assert.same(entry:to_table(), Day:load({ day = "2024-02-29", user = row:primary_key(),
      kind = "y" }):to_table())
    local parts = { day = "2024-02-29", user = row, kind = "y" }
    assert.same(entry:to_table(), Day:load(parts):to_table())
    assert.equal(2, Day:increment(parts, { n = 2 }).n)
    parts.n = 5
    assert.equal(5, Day:upsert(parts).n)
    assert.equal(1, Day:rows():count())
    assert.equal("model.exists", code_of(Seat.create, Seat, { hall = "main", line = 7 }))
  end)

  case("keeps its parts apart, whatever is in them", function()
    local parts = { "", "x", "x:", ":x", "x:y", "y", "y:z", "z", "1:", "1:x", "3:x:y", "\0", "é",
      "a=b", "{pair}" }
    local n = 0
    for _, a in ipairs(parts) do
      for _, b in ipairs(parts) do
        Pair:create { a = a, b = b, v = a .. "|" .. b }
        n = n + 1
      end
    end
    assert.equal(n, Pair:rows():count())
    for _, a in ipairs(parts) do
      for _, b in ipairs(parts) do
        local row = Pair:load { a = a, b = b }
        assert.equal(a .. "|" .. b, row.v)
        assert.equal(a .. "|" .. b, Pair:load(row:primary_key()).v)
      end
    end
    Pair:load({ a = "x:y", b = "z" }):delete()
    assert.is_nil(Pair:load { a = "x:y", b = "z" })
    assert.is_table(Pair:load { a = "x", b = "y:z" })
  end)

  case("what cannot be one is nil", function()
    Seat:create { hall = "main", line = 7 }
    local key = Seat:load({ hall = "main", line = 7 }):primary_key()
    for _, id in ipairs { {}, { hall = "main" }, { line = 7 }, { hall = "main", line = "x" },
      { hall = "main", line = 0.5 }, { hall = 5, line = 7 }, "", "main:7", key .. " ",
      key .. "0:", key:sub(2), "4:main", 7, true, print } do
      assert.is_nil(Seat:load(id), tostring(id))
      assert.is_false(Seat:exists(id))
      assert.same({ false }, Seat:load_many { id })
    end
    assert.equal("model.gone", code_of(Seat.increment, Seat, "main", { line = 1 }))
  end)

  case("of other names is refused, naming them", function()
    for _, id in ipairs { { hall = "main", line = 7, name = "x" }, { hall = "main", nine = 7 },
      { "main", 7 } } do
      local err = error_of(Seat.load, Seat, id)
      assert.equal("model.invalid", err.code)
      has(err, "it is no part of the primary key")
      assert.equal("model.invalid", code_of(Seat.exists, Seat, id))
      assert.equal("model.invalid", code_of(Seat.load_many, Seat, { id }))
    end
  end)

  case("is required, each part, and cannot change", function()
    for _, attributes in ipairs { { hall = "a" }, { line = 1 }, {} } do
      assert.equal("model.invalid", code_of(Seat.create, Seat, attributes))
      assert.equal("model.invalid", code_of(Seat.upsert, Seat, attributes))
    end
    local row = Seat:create { hall = "main", line = 7, name = "x" }
    local key = row:primary_key()
    row.line = 8
    local err = error_of(row.save, row)
    assert.equal("model.invalid", err.code)
    assert.is_string(err.fields.line)
    assert.equal(key, row:primary_key())
    row:reload()
    assert.equal(7, row.line)
    row.line = 9
    row:delete()
    assert.equal(0, Seat:rows():count())
    assert.equal(0, #redis:keys "{seat}:*")
  end)

  case("is upserted, incremented, saved and listed as any other", function()
    Day:create { day = "2024-01-01", user = Seat:create { hall = "h", line = 1 }, kind = "x" }
    local id = { day = "2024-01-01", user = Seat:load({ hall = "h", line = 1 }):primary_key(),
      kind = "x" }
    assert.equal(5, Day:increment(id, { n = 5 }).n)
    assert.equal(6, Day:load(id):increment "n")
    local row = Day:upsert { day = id.day, user = id.user, kind = "x", n = 9 }
    assert.equal(9, Day:load(id).n)
    row.n = 10
    Day:save_many { row }
    assert.equal(10, Day:load(id).n)
    assert.equal(1, Day:rows():count())
    assert.same({ "2024-01-01" }, Day:rows():pluck "day")
    row = Seat:upsert { hall = "h", line = 2, name = "new" }
    assert.same({ hall = "h", line = 2, name = "new" }, Seat:load(row:primary_key()):to_table())
    assert.same({ "new" }, Seat:where({ name = "new" }):pluck "name")
    local rows = Seat:create_many { { hall = "h", line = 3 }, { hall = "h", line = 4 } }
    assert.same({ 3, 4 }, { rows[1].line, rows[2].line })
  end)
end)
