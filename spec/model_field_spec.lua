local neap = require "neap"
local model_field = require "neap.model_field"
local case = require "support.case" (it)
local field, null, array = model_field.field, neap.null, neap.json.array

local id = field.uuid { primary_key = true }
local scalars = { "string", "integer", "number", "boolean", "enum", "time", "date", "uuid",
  "bytes" }

-- a model as define makes it, as far as a ref needs it
local User = { name = "user", primary = "id", fields = { id = { type = "uuid" } } }
local Member = { name = "member", primary_key = { "team", "user" },
  fields = { team = { type = "integer" }, user = { type = "uuid" } } }

local function define(fields, options)
  return model_field.check_definition("thing", fields, options or {}, { save = true })
end

local function has(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q in %q"):format(part, tostring(text)))
end

-- refused expects a definition to fail with a text that has all these parts.
local function refused(fields, options, ...)
  local ok, err = pcall(define, fields, options)
  assert.is_false(ok, "a failure was expected")
  assert.is_true(neap.is_error(err), tostring(err))
  assert.equal("model.definition", err.code)
  for _, part in ipairs { "model thing", ... } do has(err.message, part) end
end

-- make returns a field of that type with options.
local function make(kind, options)
  if kind == "enum" then
    local with = { "a", "b" }
    for k, v in pairs(options or {}) do with[k] = v end
    return field.enum(with)
  elseif kind == "list" or kind == "set" then
    return field[kind](field.string, options)
  elseif kind == "ref" then
    return field.ref(User, options)
  end
  return field[kind](options)
end

local function checker(fields, options)
  fields.id = fields.id or id
  return model_field.checker((define(fields, options)))
end

local every = { "string", "text", "integer", "number", "boolean", "enum", "time", "date", "uuid",
  "bytes", "json", "list", "set", "ref" }

-- option -> a value that suits it by type, and the types that take it
local function yes() return true end
local options = {
  required = { true, every },
  default = { yes, every },
  validate = { yes, every },
  immutable = { true, every },
  computed = { yes, every },
  min = { 1, { "string", "text", "bytes", "integer", "number", "time", "date", "list", "set" } },
  max = { 1, { "string", "text", "bytes", "integer", "number", "time", "date", "list", "set" } },
  match = { "%l", { "string", "text" } },
  one_of = { { "x" }, { "string", "bytes", "integer", "number", "time", "date", "uuid" } },
  index = { true, { "string", "integer", "number", "boolean", "enum", "time", "date", "uuid",
    "bytes", "list", "set", "ref" } },
  sort = { true, { "string", "integer", "number", "time", "date" } },
  unique = { true, { "string", "integer", "number", "boolean", "enum", "time", "date", "uuid",
    "bytes", "ref" } },
  on_delete = { "cascade", { "ref" } },
}
local own_value = { -- where the value depends on the type
  date = { min = "2000-01-01", max = "2000-01-01", one_of = { "2000-01-01" } },
  integer = { one_of = { 1 } }, number = { one_of = { 0.5 } }, time = { one_of = { 1 } },
  uuid = { one_of = { "01234567-89ab-7def-8123-456789abcdef" } },
}

describe("an option", function()
  for name, option in pairs(options) do
    local takes = {}
    for _, kind in ipairs(option[2]) do takes[kind] = true end
    for _, kind in ipairs(every) do
      local value = own_value[kind] and own_value[kind][name] or option[1]
      if takes[kind] then
        case(("%s is taken by %s"):format(name, kind), function()
          local list = define { id = id, x = make(kind, { [name] = value }) }
          assert.equal(value, list[2][name])
        end)
      else
        case(("%s is refused for %s"):format(name, kind), function()
          refused({ id = id, x = make(kind, { [name] = value }) }, nil, "field x",
            name .. " is for", "not for " .. kind)
        end)
      end
    end
  end

  case("that is a flag and false is as if it were not there", function()
    local list = define { id = id, x = field.json { index = false, unique = false },
      y = field.list(field.string { index = false }, { required = false }) }
    assert.is_nil(list[2].index)
    assert.is_nil(list[3].required)
  end)

  local wrong = {
    { "unknown", field.string { indexed = true }, "unknown option 'indexed'" },
    { "without a name", field.string { "x" }, "unknown option '1'" },
    { "of another type", field.string { index = 1 }, "index must be a boolean, got a number" },
    { "as text", field.string { max = "9" }, "max must be a number, got a string" },
    { "as name only", field.string "name", "table of options" },
    { "in a list as name only", field.list(field.string) "index", "table of options" },
    { "min above max", field.integer { min = 2, max = 1 }, "min is above max" },
    { "min after max", field.date { min = "2001-01-01", max = "2000-12-31" }, "min is above max" },
    { "min that is a fraction", field.integer { min = 0.5 }, "whole" },
    { "max past 2^53", field.integer { max = 2 ^ 54 }, "2^53" },
    { "max without end", field.integer { max = math.huge }, "2^53" },
    { "NaN as min", field.number { min = 0 / 0 }, "NaN" },
    { "a negative length", field.string { min = -1 }, "min of a string is a length" },
    { "half a character", field.text { max = 1.5 }, "max of a text is a length" },
    { "a negative count", field.set(field.string) { min = -1 }, "min of a set is a length" },
    { "a number as a date", field.date { min = 5 }, "min must be a date" },
    { "a day that is not", field.date { max = "2023-02-29" }, "'2023-02-29'" },
    { "a broken pattern", field.string { match = "[a" }, "match" },
    { "a pattern broken further on", field.string { match = "a[" }, "no Lua pattern: a[" },
    { "half an escape", field.string { match = "a%" }, "no Lua pattern: a%" },
    { "half a pair", field.string { match = "a%b(" }, "no Lua pattern" },
    { "a frontier without class", field.string { match = "a%fb" }, "no Lua pattern" },
    { "an open capture", field.string { match = "a(b" }, "no Lua pattern" },
    { "a capture that only ends", field.string { match = "ab)" }, "no Lua pattern" },
    { "a capture that is not", field.string { match = "(a)%2" }, "no Lua pattern" },
    { "a capture of itself", field.string { match = "(a%1)" }, "no Lua pattern" },
    { "33 captures", field.string { match = ("()"):rep(33) }, "no Lua pattern" },
    { "a table as default", field.json { default = {} }, "default" },
    { "no choice", field.string { one_of = {} }, "one_of must be a list" },
    { "named choices", field.string { one_of = { "x", y = "z" } }, "one_of must be a list" },
    { "choices of another type", field.integer { one_of = { 1, "2" } }, "'2'" },
    { "half as a choice", field.integer { one_of = { 0.5 } }, "0.5" },
    { "a choice that is no date", field.date { one_of = { "today" } }, "'today'" },
    { "validate as text", field.string { validate = "x" }, "validate must be a function" },
    { "computed as value", field.string { computed = 5 }, "computed must be a function" },
    { "computed and required", field.string { computed = yes, required = true }, "required" },
    { "computed and default", field.boolean { computed = yes, default = false }, "default" },
    { "computed key", field.string { computed = yes, primary_key = true }, "computed" },
    { "unique key", field.string { unique = true, primary_key = true }, "unique by itself" },
    { "indexed key", field.string { index = true, primary_key = true }, "needs no index" },
    { "sorted key", field.integer { sort = true, primary_key = true }, "needs no index" },
    { "on_delete of a key", field.ref(User) { on_delete = "cascade", primary_key = true },
      "on_delete is not for a primary key" },
    { "auto on no key", field.integer { auto = true }, "auto is for a primary key" },
    { "auto text", field.string { auto = true, primary_key = true }, "auto is for integer" },
    { "an unknown word", field.ref(User) { on_delete = "ignore" }, "'ignore'" },
    { "nullify what is required", field.ref(User) { on_delete = "nullify", required = true },
      "required" },
    { "nullify what is fixed", field.ref(User) { on_delete = "nullify", immutable = true },
      "immutable" },
    { "no values", field.enum(), "an enum needs its values" },
    { "only options of an enum", field.enum { index = true }, "an enum needs its values" },
    { "a number in an enum", field.enum { "a", 1 }, "values of an enum are strings" },
    { "an empty value in an enum", field.enum { "" }, "not empty" },
    { "NUL in an enum", field.enum { "a\0b" }, "NUL" },
    { "a hole in an enum", field.enum { "a", [3] = "b" }, "without holes" },
    { "a value twice in an enum", field.enum { "a", "b", "a" }, "'a' twice" },
  }
  for _, w in ipairs(wrong) do
    case(w[1] .. " is refused, naming model and field", function()
      refused({ id = id, x = w[2] }, nil, "field", "x", w[3])
    end)
  end

  case("match may be any pattern that string.find takes", function()
    for _, pattern in ipairs { "[]]", "[^]]*", "[%]a]", "%b()", "%f[%w]%w+", "(a)(b)%2%1", "()",
      "*", "a-b", "$", "^", "^^", "%%", "[a-]", "[%a_][%w_]*", ("()"):rep(32), "", "((a)%2)" } do
      assert.is_true(pcall(string.find, "abab", pattern), pattern)
      define { id = id, x = field.string { match = pattern } }
    end
  end)

  case("on_delete implies index", function()
    for _, word in ipairs { "restrict", "cascade", "nullify" } do
      assert.is_true(field.ref(User, { on_delete = word }).index)
      assert.is_true(field.ref(User) { on_delete = word, index = false }.index)
    end
    assert.is_nil(field.ref(User).index)
  end)

  case("the values of an enum are sorted", function()
    assert.same({ "a", "b", "c" }, field.enum { "c", "a", "b", index = true }.values)
  end)
end)

describe("a field that can be called", function()
  case("returns a new one and stays as it is", function()
    local list = field.list(field.string)
    for _, plain in ipairs { list, field.set(field.integer), field.ref(User) } do
      local with = plain { index = true }
      assert.is_true(with.index)
      assert.is_nil(plain.index)
      assert.equal(plain.kind, with.kind)
      assert.is_true(with { required = true }.index)
      assert.is_nil(with { index = false }.index)
    end
    assert.same(list { index = true }, field.list(field.string, { index = true }))
  end)

  case("keeps what is wrong with it", function()
    refused({ id = id, x = field.list(field.json) { index = true } }, nil, "field x", "json")
  end)

  case("is a list, a set or a ref only", function()
    for _, kind in ipairs { "string", "integer", "enum", "json" } do
      local ok, err = pcall(function() return make(kind) { index = true } end)
      assert.is_false(ok)
      has(err, "field." .. kind .. " {")
    end
  end)
end)

describe("an element", function()
  case("is a scalar, given as a constructor or as a field", function()
    for _, kind in ipairs(scalars) do
      for _, many in ipairs { "list", "set" } do
        assert.equal(kind, field[many](make(kind)).element.type)
        if kind ~= "enum" then assert.equal(kind, field[many](field[kind]).element.type) end
      end
    end
    assert.same({ "a", "b" }, field.list(field.enum { "b", "a" }).element.values)
  end)

  case("is nothing else", function()
    for _, many in ipairs { "list", "set" } do
      for _, kind in ipairs { "text", "json", "list", "set", "ref" } do
        for _, element in ipairs { make(kind), field[kind] } do
          refused({ id = id, x = field[many](element) }, nil, "field x",
            "an element cannot be of type " .. kind)
        end
      end
      refused({ id = id, x = field[many]() }, nil, "field." .. many .. "(field.string)", "nil")
      refused({ id = id, x = field[many] { index = true } }, nil, "elements", "got a table")
      refused({ id = id, x = field[many] "string" }, nil, "elements", "got a string")
      refused({ id = id, x = field[many](print) }, nil, "elements", "got a function")
    end
  end)

  case("has min, max, match, one_of, validate and no other option", function()
    local element = field.list(field.string { min = 1, max = 9, match = "%l", one_of = { "x" },
      validate = yes }).element
    assert.same({ 1, 9, "%l", "x" }, { element.min, element.max, element.match, element.one_of[1] })
    for _, name in ipairs { "required", "default", "index", "sort", "unique", "immutable",
      "computed", "primary_key" } do
      local value = options[name] and options[name][1] or true
      refused({ id = id, x = field.set(field.string { [name] = value }) }, nil, "field x",
        "an element cannot have the option " .. name)
    end
    refused({ id = id, x = field.list(field.integer { auto = true }) }, nil, "auto")
    refused({ id = id, x = field.list(field.integer { min = 2, max = 1 }) }, nil,
      "element: min is above max")
    refused({ id = id, x = field.list(field.enum) }, nil, "element: an enum needs its values")
  end)
end)

describe("a ref", function()
  case("has the type of the other model's key", function()
    local list = define { id = id, a = field.ref(User), b = field.ref(Member) }
    assert.equal("uuid", list[1].type)
    assert.equal(User, list[1].ref)
    assert.equal("bytes", list[2].type)
  end)

  case("to the model itself has the type of its own key and stays \"self\"", function()
    local list = define { id = field.integer { primary_key = true, auto = true },
      parent = field.ref "self" }
    assert.equal("integer", list[2].type)
    assert.equal("self", list[2].ref)
    list = define({ x = field.string(), y = field.date(), up = field.ref "self" },
      { primary_key = { "x", "y" } })
    assert.equal("bytes", list[1].type)
  end)

  case("can be a primary key, but not of what it refers to", function()
    local list, primary = define { user = field.ref(User) { primary_key = true } }
    assert.equal(list[1], primary)
    list, primary = define { member = field.ref(Member) { primary_key = true } }
    assert.equal(list[1], primary)
    refused({ x = field.ref "self" { primary_key = true } }, nil, "field x", "its own model")
    refused({ x = field.ref "self", y = field.string() }, { primary_key = { "x", "y" } }, "field x",
      "its own model")
  end)

  case("needs a model", function()
    refused({ id = id, x = field.ref() }, nil, "field x", "a model", "got a nil")
    refused({ id = id, x = field.ref "user" }, nil, "field x", "a model", "got 'user'")
    refused({ id = id, x = field.ref { index = true } }, nil, "field x", "a model", "got a table")
  end)
end)

describe("a definition", function()
  case("gives copies sorted by name, and the primary key", function()
    local fields = { b = field.string(), id = id, a = field.integer() }
    local list, primary = define(fields)
    assert.same({ "a", "b", "id" }, { list[1].name, list[2].name, list[3].name })
    assert.equal(list[3], primary)
    assert.is_nil(list.composite)
    assert.is_nil(rawget(fields.a, "name"))
  end)

  case("refuses what is no field, and other names", function()
    refused({ id = id, x = "string" }, nil, "field x", "neap.field")
    refused({ id = id, x = { type = "string" } }, nil, "field x", "neap.field")
    refused({ id = id, x = field.string }, nil, "field x", "neap.field")
    refused({ id = id, field.string() }, nil, "field 1", "neap.field")
    for _, name in ipairs { "", "X", "1a", "a-b", "a b", "a.b", "é", "_v", "a\0b", "a\n" } do
      refused({ id = id, [name] = field.string() }, nil, "[a-z][a-z0-9_]*")
    end
    refused({ id = id, save = field.string() }, nil, "field save", "method")
  end)

  case("has one primary key of a type that can be one", function()
    refused({}, nil, "primary_key")
    refused({ x = field.string() }, nil, "primary_key")
    refused({ id = id, x = field.string { primary_key = true } }, nil, "both id and x")
    for _, kind in ipairs { "text", "number", "boolean", "enum", "time", "date", "json", "list",
      "set" } do
      refused({ x = make(kind, { primary_key = true }) }, nil, "field x", "a primary key is", kind)
    end
    for _, kind in ipairs { "string", "bytes", "integer", "uuid" } do
      local _, primary = define { x = field[kind] { primary_key = true } }
      assert.equal("x", primary.name)
    end
  end)

  case("tells defaults and computed fields", function()
    local list = define { id = id, a = field.boolean { default = false },
      b = field.string { default = yes }, c = field.string { computed = yes } }
    assert.same({ a = false, b = yes }, model_field.defaults(list))
    assert.is_true(model_field.is_computed(list[3]))
    assert.is_false(model_field.is_computed(list[2]))
  end)
end)

describe("a composite key", function()
  case("makes its parts required and immutable", function()
    local list, primary = define({ a = field.ref(User) { on_delete = "cascade" }, b = field.date(),
      c = field.string() }, { primary_key = { "b", "a" } })
    assert.is_nil(primary)
    assert.same({ "b", "a" }, list.composite)
    assert.same({ true, true, true, true }, { list[1].required, list[1].immutable, list[2].required,
      list[2].immutable })
    assert.is_nil(list[3].required)
  end)

  case("is refused where it cannot be", function()
    local fields = { a = field.string(), b = field.integer() }
    local function wrong(key, ...) refused(fields, { primary_key = key }, "primary_key", ...) end
    wrong("a", "list of two names")
    wrong({}, "list of two names")
    wrong({ "a" }, "list of two names")
    wrong({ "a", "b", c = true }, "list of two names")
    wrong({ "a", "x" }, "no field 'x'")
    wrong({ "a", 7 }, "no field '7'")
    wrong({ "a", "b", "a" }, "a stands twice")
    refused({ id = id, a = field.string() }, { primary_key = { "a", "id" } }, "both id and")
    refused({ a = field.string(), b = field.integer { auto = true } },
      { primary_key = { "a", "b" } }, "field b", "auto")
    refused({ a = field.string(), b = field.integer { computed = yes } },
      { primary_key = { "a", "b" } }, "field b", "computed")
    refused({ a = field.string(), b = field.ref(User) { on_delete = "nullify" } },
      { primary_key = { "a", "b" } }, "field b", "nullify")
  end)

  for _, kind in ipairs(every) do
    local is_part = ("string bytes integer uuid date enum ref"):find(kind, 1, true)
    case(("has %s part of type %s"):format(is_part and "a" or "no", kind), function()
      local fields, key = { a = field.string(), b = make(kind) }, { primary_key = { "a", "b" } }
      if is_part then
        assert.same({ "a", "b" }, define(fields, key).composite)
      else
        refused(fields, key, "field b", "a part of the primary key", "type " .. kind)
      end
    end)
  end
end)

describe("a compound index", function()
  local function indexes(a, b, list)
    return { id = id, a = make(a), b = make(b) }, { indexes = list or { { "a", "b" } } }
  end
  local first = "string enum boolean integer uuid ref bytes date"
  local last = "integer number time date"
  for _, kind in ipairs(every) do
    case("has " .. kind .. " only where it can stand", function()
      if (" " .. first .. " "):find(" " .. kind .. " ", 1, true) then
        define(indexes(kind, "integer"))
      else
        local fields, opts = indexes(kind, "integer")
        refused(fields, opts, "indexes[1]", "before the last", "a is of type " .. kind)
      end
      if (" " .. last .. " "):find(" " .. kind .. " ", 1, true) then
        define(indexes("string", kind))
      else
        local fields, opts = indexes("string", kind)
        refused(fields, opts, "indexes[1]", "the last field", "b is of type " .. kind)
      end
    end)
  end

  case("is refused when its names are wrong", function()
    local function wrong(list, ...)
      refused({ id = id, a = field.string(), b = field.integer() }, { indexes = list }, ...)
    end
    wrong("a", "indexes must be a list")
    wrong({ a = { "a", "b" } }, "indexes must be a list")
    wrong({ "a", "b" }, "indexes[1]", "list of two names")
    wrong({ { "a", "b" }, { "b" } }, "indexes[2]", "list of two names")
    wrong({ { "a", "x" } }, "indexes[1]", "no field 'x'")
    wrong({ { "b", "b" } }, "indexes[1]", "b stands twice")
    wrong({ { "a", "b" }, { "a", "b" } }, "{ a,b } stands twice")
    define({ id = id, a = field.string(), b = field.integer(), c = field.enum { "x" } },
      { indexes = { { "a", "b" }, { "c", "a", "b" } } })
  end)
end)

describe("checks of values", function()
  case("are none where no field has any", function()
    assert.is_nil(checker { a = field.integer { min = 1, required = true },
      b = field.list(field.string { max = 5 }) { max = 3 } })
  end)

  case("find nothing wrong with what is right, and leave null alone", function()
    local check = checker { a = field.string { match = "%l+", validate = error },
      b = field.list(field.string { match = "%l+" }) }
    assert.is_nil(check { b = { "x", "y" } })
    assert.is_nil(check { a = null, b = {} })
  end)

  case("match is for the whole string, anchored or not", function()
    for _, kind in ipairs { "string", "text" } do
      for _, pattern in ipairs { "%l+", "^%l+", "%l+$", "^%l+$" } do
        local check = checker { s = field[kind] { match = pattern } }
        assert.is_nil(check { s = "abc" })
        for _, s in ipairs { "", "1abc", "abc1", "abc\n", "abc\0" } do
          assert.equal(("it does not match ^%%l+$, got '%s'"):format(s), check({ s = s }).s)
        end
      end
    end
    local check = checker { s = field.string { match = "%d+%$" } }
    assert.is_nil(check { s = "5$" })
    has(check({ s = "5$5" }).s, "5$5")
  end)

  case("one_of is a list of what is allowed, of any scalar type", function()
    local u = "01234567-89ab-7def-8123-456789abcdef"
    local good = { string = { "a", "" }, bytes = { "\0", "\255" }, integer = { 1, 0 },
      number = { 0.5, -1 }, time = { 0, 1.5 }, date = { "2024-02-29" }, uuid = { u } }
    local bad = { string = "b", bytes = "", integer = 2, number = 0.25, time = 1,
      date = "2024-02-28", uuid = u:gsub("0", "1") }
    for kind, list in pairs(good) do
      local check = checker { x = field[kind] { one_of = list } }
      for _, value in ipairs(list) do assert.is_nil(check { x = value }, kind) end
      has(check({ x = bad[kind] }).x, "it must be one of ")
    end
    local check = checker { x = field.string { one_of = { "a", "b" } } }
    assert.equal("it must be one of 'a', 'b', got 'c'", check({ x = "c" }).x)
  end)

  case("an ISO 8601 time counts as its seconds", function()
    local seen
    local check = checker { at = field.time { validate = function(v) seen = v return true end } }
    local times = {
      ["1970-01-01"] = 0, ["2024-02-29T12:30:15Z"] = 1709209815,
      ["2024-02-29T12:30:15.25Z"] = 1709209815.25, ["2024-02-29 12:30z"] = 1709209800,
      ["2024-02-29T12:30:15+02:00"] = 1709202615, ["2024-02-29T12:30:15-0130"] = 1709215215,
      ["2024-02-29t12:30:15,5+02"] = 1709202615.5,
      ["1969-12-31T23:59:59Z"] = -1, ["2000-03-01T00:00:00Z"] = 951868800,
      ["1900-02-28"] = -2203977600, ["2100-12-31T23:59Z"] = 4133980740,
    }
    for text, seconds in pairs(times) do
      check { at = text }
      assert.equal(seconds, seen, text)
    end
    seen = nil
    for _, text in ipairs { "", "now", "2023-02-29", "2024-13-01", "2024-00-01", "2024-01-00",
      "1900-02-29", "2024-01-01T24:00Z", "2024-01-01T12:60Z", "2024-01-01T12",
      "2024-01-01T12:00:60Z", "2024-01-01T12:00+25:00", "2024-01-01T12:00 x", "2024-01-01T12:00",
      "2024-01-01T12:00:00" } do
      assert.is_nil(check { at = text }, text)
      assert.is_nil(seen, text)
    end
    check = checker { at = field.time { one_of = { "2000-03-01T00:00:00Z" } } }
    assert.is_nil(check { at = 951868800 })
    assert.is_string(check({ at = 951868801 }).at)
  end)

  case("validate gets the value and the row", function()
    local seen
    local check = checker { a = field.integer(), x = field.integer { validate = function(v, row)
      seen = { v, row }
      return v < row.a, ("not below %d"):format(row.a)
    end } }
    local row = { a = 5, x = 4 }
    assert.is_nil(check(row))
    assert.equal(4, seen[1])
    assert.equal(row, seen[2])
    assert.equal("not below 3", check({ a = 3, x = 4 }).x)
  end)

  case("validate says what is wrong, or nothing, or raises", function()
    local result
    local check = checker { x = field.string { validate = function() return unpack(result) end },
      y = field.boolean { validate = function(v) return not v end } }
    for _, r in ipairs { { false }, { nil }, {} } do
      result = r
      assert.equal("it is not valid", check({ x = "" }).x)
    end
    result = { 0 }
    assert.is_nil(check { x = "", y = false })
    assert.equal("it is not valid", check({ x = "", y = true }).y)
    local failure = {}
    check = checker { x = field.string { validate = function() error(failure) end } }
    local ok, err = pcall(check, { x = "" })
    assert.is_false(ok)
    assert.equal(failure, err)
  end)

  case("validate can wait", function()
    local check = checker { x = field.string { validate = function()
      neap.sleep(0)
      return false, "slept"
    end } }
    assert.equal("slept", check({ x = "" }).x)
  end)

  case("validate gets a value as it is stored", function()
    local seen
    local function see(v) seen = v return true end
    local check = checker { s = field.set(field.integer) { validate = see } }
    check { s = { 3, 1, 3, 2 } }
    assert.same({ 1, 2, 3 }, seen)
    check = checker { s = field.set(field.boolean) { validate = see } }
    check { s = { true, false, true } }
    assert.same({ false, true }, seen)
    check = checker { r = field.ref(User) { validate = see } }
    check { r = { id = "u", name = "Ada" } }
    assert.equal("u", seen)
    check { r = "v" }
    assert.equal("v", seen)
    check = checker { r = field.ref(Member) { validate = see } }
    check { r = { primary_key = function() return "1:u" end } }
    assert.equal("1:u", seen)
    check = checker { j = field.json { validate = see } }
    check { j = { a = 1 } }
    assert.same({ a = 1 }, seen)
  end)

  case("values of another type are left to C", function()
    local other = { string = { 1, true, {} }, text = { 1 }, integer = { 0.5, "1", 2 ^ 54, 0 / 0 },
      number = { "1", 0 / 0, math.huge }, boolean = { 0, "true" }, enum = { "c", 1 },
      time = { "x", {}, 0 / 0 }, date = { 5, "x", "2023-02-29", "2024-1-1" },
      uuid = { "x", 1, ("A"):rep(36) }, bytes = { 1 },
      list = { "x", { 1 }, { "a", false } }, set = { 1, { {} } } }
    for kind, values in pairs(other) do
      local check = checker { x = make(kind, { validate = function() return false end }) }
      for _, value in ipairs(values) do
        assert.is_nil(check { x = value }, ("%s: %s"):format(kind, tostring(value)))
      end
    end
    assert.is_nil(checker { x = field.list(field.string { match = "%l" }) } { x = { 1, "a" } })
    assert.is_nil(checker { x = field.string { match = "%l" } } { x = 5 })
  end)

  case("elements are told by their place", function()
    for _, many in ipairs { "list", "set" } do
      local check = checker { x = field[many](field.string { match = "%l+",
        validate = function(v, row) return v ~= row.no, "not " .. v end }), no = field.string(),
        y = field[many](field.integer { one_of = { 1, 2 } }) }
      assert.is_nil(check { x = { "a", "b" }, y = { 1, 2 } })
      local wrong = check { x = { "a", "B" }, y = { 1, 2, 3 } }
      assert.equal("element 2: it does not match ^%l+$, got 'B'", wrong.x)
      assert.equal("element 3: it must be one of 1, 2, got 3", wrong.y)
      assert.equal("element 1: not a", check({ x = { "a" }, no = "a" }).x)
    end
  end)

  case("all that is wrong is told at once, beside what was wrong before", function()
    local check = checker { a = field.string { match = "%d" },
      b = field.string { one_of = { "x" } }, d = field.string { immutable = true },
      c = field.string { validate = function() return false end } }
    local row = { a = "x", b = "y", c = "z", d = "new" }
    local wrong = check(row, function() return "old" end)
    assert.same({ "a", "b", "c", "d" }, (function()
      local names = {}
      for name in pairs(wrong) do names[#names + 1] = name end
      table.sort(names)
      return names
    end)())
    local before = { a = "it is too long", other = "there is no such field" }
    assert.equal(before, check(row, nil, before))
    assert.equal("it is too long", before.a)
    assert.is_string(before.b)
    assert.is_nil(before.d)
    before = {}
    assert.equal(before, check({}, nil, before))
  end)
end)

describe("an immutable field", function()
  -- changed tells whether value is refused where stored is stored.
  local function changed(f, value, stored)
    local wrong = checker { x = f } ({ x = value }, function(name)
      assert.equal("x", name)
      return stored
    end)
    if wrong then assert.same({ x = "it cannot change" }, wrong) end
    return wrong ~= nil
  end

  case("is whatever the row has when it is created", function()
    local check = checker { x = field.string { immutable = true } }
    assert.is_nil(check { x = "a" })
    assert.is_nil(check {})
  end)

  case("is refused when it changes", function()
    local is = { immutable = true }
    assert.is_false(changed(field.string(is), "a", "a"))
    assert.is_true(changed(field.string(is), "b", "a"))
    assert.is_true(changed(field.string(is), 1, "1"))
    assert.is_true(changed(field.string(is), nil, "a"))
    assert.is_true(changed(field.string(is), null, "a"))
    assert.is_true(changed(field.string(is), "a", nil))
    assert.is_false(changed(field.string(is), null, nil))
    assert.is_false(changed(field.boolean(is), false, false))
    assert.is_true(changed(field.boolean(is), false, true))
    assert.is_true(changed(field.boolean(is), nil, false))
    assert.is_false(changed(field.integer(is), -0, 0))
    assert.is_false(changed(field.time(is), "1970-01-01T00:01:00Z", 60))
    assert.is_true(changed(field.time(is), "1970-01-01T00:01:01Z", 60))
    assert.is_true(changed(field.time(is), "x", 60))
    assert.is_false(changed(field.ref(User, is), { id = "u" }, "u"))
    assert.is_true(changed(field.ref(User, is), { id = "v" }, "u"))
    assert.is_true(changed(field.ref(User, is), {}, "u"))
  end)

  case("compares lists, sets and json by content", function()
    local is = { immutable = true }
    assert.is_false(changed(field.list(field.string, is), { "a", "b" }, array { "a", "b" }))
    assert.is_false(changed(field.list(field.string, is), {}, array {}))
    assert.is_true(changed(field.list(field.string, is), { "b", "a" }, { "a", "b" }))
    assert.is_true(changed(field.list(field.string, is), { "a" }, { "a", "b" }))
    assert.is_true(changed(field.list(field.string, is), { "a", "b", "c" }, { "a", "b" }))
    assert.is_true(changed(field.list(field.string, is), "a", { "a" }))
    assert.is_false(changed(field.set(field.integer, is), { 2, 1, 2 }, { 1, 2 }))
    assert.is_true(changed(field.set(field.integer, is), { 2 }, { 1, 2 }))
    local stored = { a = { 1, { b = null } }, c = {} }
    assert.is_false(changed(field.json(is), { a = { 1, { b = null } }, c = {} }, stored))
    assert.is_true(changed(field.json(is), { a = { 1, { b = 1 } }, c = {} }, stored))
    assert.is_true(changed(field.json(is), { a = { 1, { b = null } }, c = array {} }, stored))
    assert.is_true(changed(field.json(is), { a = { 1, { b = null } } }, stored))
    assert.is_true(changed(field.json(is), { a = { 1, { b = null } }, c = {}, d = 1 }, stored))
    local loop = { c = {} }
    loop.a = loop
    assert.is_true(changed(field.json(is), loop, stored))
  end)

  case("to the model itself is compared by its key", function()
    local check = checker { id = id, x = field.ref "self" { immutable = true } }
    assert.is_nil(check({ x = { id = "u" } }, function() return "u" end))
    assert.is_table(check({ x = { id = "v" } }, function() return "u" end))
  end)

  case("is each part of a composite key", function()
    local check = model_field.checker((define({ a = field.string(), b = field.integer() },
      { primary_key = { "a", "b" } })))
    local stored = { a = "x", b = 1 }
    local function old(name) return stored[name] end
    assert.is_nil(check({ a = "x", b = 1 }, old))
    assert.same({ b = "it cannot change" }, check({ a = "x", b = 2 }, old))
  end)
end)

describe("computed fields", function()
  case("are set in the order of their names, and may read others", function()
    local compute = model_field.computer((define { id = id, name = field.string(),
      a = field.string { computed = function(row) return row.name:lower() end },
      b = field.integer { computed = function(row) return #row.a end },
      c = field.string { computed = function() return null end },
      d = field.string { computed = function() end } }))
    local row = setmetatable({ name = "Ada", a = "old", c = "old", d = "old" },
      { __newindex = function() error "not through the class" end })
    compute(row)
    assert.same({ name = "Ada", a = "ada", b = 3 }, row)
  end)

  case("are none where none is defined", function()
    assert.is_nil(model_field.computer((define { id = id })))
  end)
end)
