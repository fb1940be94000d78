local neap = require "neap"
local case = require "support.case" (it)
local error_of, code_of, failure_of = require "support.failure" (assert)
local model, field, null = neap.model, neap.field, neap.null
local ne, any, all, none = model.ne, model.any, model.all, model.none

local function has(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q in %q"):format(part, tostring(text)))
end

local Country, User, rows

-- one field for each kind of index
local indexed = { "small", "number", "time", "date", "kind", "is_on", "name", "path", "uuid", "raw",
  "tags", "codes", "country" }

local function uuid_of(i) return ("00000000-0000-0000-0000-%012d"):format(i) end

-- attributes_of row i: each field has no value in some rows, others in each.
local function attributes_of(i)
  local function every(n, value) if i % n ~= 0 then return value end end
  return { small = every(5, i % 7), number = every(6, i % 9 / 2), time = every(7, i % 11),
    date = every(8, ("2024-01-%02d"):format(i % 5 + 1)), kind = every(4, i % 3 == 0 and "a" or "b"),
    is_on = every(3, i % 2 == 0), name = every(9, "n" .. i % 4), path = every(5, "p" .. i % 6),
    uuid = every(7, uuid_of(i % 5)), raw = every(11, "\0" .. string.char(250 + i % 5)),
    tags = every(4, i % 3 == 0 and {} or { "t" .. i % 3, "t" .. i % 5 }),
    codes = every(5, { i % 4, 10 }), country = every(6, i % 4 + 1), code = every(2, "c" .. i),
    note = every(3, "x" .. i % 2), chief = every(5, i > 10 and i - 10 or nil) }
end

setup(function()
  Country = model.define("condition_country", {
    id = field.integer { primary_key = true, auto = true },
    name = field.string { index = true },
    area = field.integer { min = 0, max = 100, index = true },
    code = field.string { unique = true },
    plain = field.string(),
  })
  User = model.define("condition_user", {
    id = field.integer { primary_key = true, auto = true },
    small = field.integer { min = -1, max = 200, index = true },
    number = field.number { index = true, sort = true },
    time = field.time { sort = true },
    date = field.date { index = true },
    kind = field.enum { "a", "b", "c", index = true },
    is_on = field.boolean { index = true },
    name = field.string { index = true },
    path = field.string { sort = true },
    uuid = field.uuid { index = true },
    raw = field.bytes { index = true },
    tags = field.list(field.string) { index = true },
    codes = field.set(field.integer) { index = true },
    country = field.ref(Country) { index = true },
    loose = field.ref(Country),
    chief = field.ref "self" { index = true },
    code = field.string { unique = true },
    note = field.string(),
    text = field.text(),
    data = field.json(),
  })
  User:drop()
  Country:drop()
  Country:create_many { { name = "USA", area = 90, code = "us" }, { name = "GBR", area = 20 },
    { name = "USA", code = "um" }, { area = 5, code = "x" } }
  local list = {}
  for i = 1, 60 do list[i] = attributes_of(i) end
  User:create_many(list)
  User:load(60):delete()
  rows = User:rows():all()
  assert.equal(59, #rows)
end)

teardown(function()
  User:drop()
  Country:drop()
end)

-- ids_where returns the ids of the rows that fn agrees to.
local function ids_where(fn)
  local ids = {}
  for _, row in ipairs(rows) do
    if fn(row) then ids[#ids + 1] = row.id end
  end
  return ids
end

-- check_where: the rows of a condition are those that fn agrees to, however it is asked for.
local function check_where(fn, condition, options)
  local want = ids_where(fn)
  local query = User:where(condition, options)
  assert.same(want, { unpack(query:ids()) })
  assert.equal(#want, query:count())
  assert.equal(#want > 0, query:exists())
  local ordered = query:order_by("number", "desc"):ids()
  table.sort(ordered)
  assert.same(want, { unpack(ordered) })
  return want
end

local function contains(list, value)
  for _, v in ipairs(list or {}) do
    if v == value then return true end
  end
  return false
end

describe("a condition on a field with an index of any kind", function()
  for _, name in ipairs(indexed) do
    case(("finds the rows without a value, and those with one: %s"):format(name), function()
      local without = check_where(function(r) return r[name] == nil end, { [name] = null })
      local with = check_where(function(r) return r[name] ~= nil end, { [name] = ne(null) })
      assert.is_true(#without > 0 and #with > 0)
      check_where(function(r) return r[name] == nil end, none { [name] = ne(null) })
      check_where(function(r) return r[name] ~= nil end, none { [name] = null })
      check_where(function() return false end, { [name] = null, { [name] = ne(null) } })
      check_where(function() return true end, any { { [name] = null }, { [name] = ne(null) } })
    end)

    case(("is never true of no value when it is negated: %s"):format(name), function()
      local is_list = User.fields[name].element ~= nil
      for _, row in ipairs(rows) do
        local v = row[name]
        if is_list and v then v = v[1] end
        if v ~= nil and row.id <= 4 then
          local function is(r)
            if is_list then return contains(r[name], v) end
            return r[name] == v
          end
          local function is_not(r) return r[name] ~= nil and not is(r) end
          check_where(is, { [name] = v })
          check_where(is, { [name] = ne(ne(v)) })
          check_where(is_not, { [name] = ne(v) })
          check_where(is_not, { [name] = ne { v, v } })
          check_where(is_not, none { [name] = v })
          check_where(is, none { { [name] = ne(v) } })
          check_where(function(r) return r[name] == nil or is(r) end,
            any { { [name] = null }, { [name] = v } })
        end
      end
      check_where(function() return false end, { [name] = {} })
      check_where(function(r) return r[name] ~= nil end, { [name] = ne {} })
      check_where(function(r) return r[name] ~= nil end, none { [name] = {} })
    end)
  end

  case("is negated as a range, too", function()
    for name, values in pairs { small = { 2, 4 }, number = { 1, 2.5 }, time = { 3, 8 },
      date = { "2024-01-02", "2024-01-03" }, path = { "p1", "p3" } } do
      local low, high = values[1], values[2]
      local function is_in(r) return r[name] and r[name] >= low and r[name] <= high end
      local function is_out(r) return r[name] ~= nil and not is_in(r) end
      check_where(is_out, { [name] = ne(model.between(low, high)) })
      check_where(is_out, none { [name] = model.between(low, high) })
      check_where(is_out, any { { [name] = model.lt(low) }, { [name] = model.gt(high) } })
      check_where(is_in, { [name] = model.ge(low), { [name] = model.le(high) } })
      check_where(is_in, none { { [name] = model.lt(low) }, { [name] = model.gt(high) } })
      check_where(function() return false end, { [name] = model.between(high, low) })
      check_where(function(r) return r[name] ~= nil end, { [name] = ne(model.between(high, low)) })
    end
    check_where(function(r) return r.path and r.path:sub(1, 1) ~= "q" end,
      { path = ne(model.prefix "q") })
    check_where(function(r) return r.path and r.path ~= "p1" end, { path = ne(model.prefix "p1") })
  end)

  case("takes values outside of what can be stored: they match nothing", function()
    check_where(function() return false end, { small = 1e15 })
    check_where(function() return false end, { small = -500 })
    check_where(function(r) return r.small ~= nil end, { small = ne(1e15) })
    check_where(function(r) return r.small ~= nil end, { small = model.between(-1e300, 1e300) })
    check_where(function(r) return r.small ~= nil end, { small = model.lt(math.huge) })
    check_where(function() return false end, { small = model.gt(math.huge) })
    check_where(function() return false end, { name = ("x"):rep(100000) })
    check_where(function() return false end, { name = "" })
  end)
end)

describe("a list or a set", function()
  case("is found by an element, by any of several, and by none", function()
    for _, value in ipairs { "t1", "t2", "t4", "absent", "" } do
      local function is(r) return contains(r.tags, value) end
      check_where(is, { tags = value })
      check_where(is, { tags = model.contains(value) })
      check_where(function(r) return r.tags ~= nil and not is(r) end, { tags = ne(value) })
      check_where(function(r) return r.tags and not is(r) end, { tags = ne(model.contains(value)) })
    end
    local function is_either(r) return contains(r.tags, "t1") or contains(r.tags, "t4") end
    check_where(is_either, { tags = { "t1", "t4" } })
    check_where(is_either, { tags = model.contains { "t1", "t4" } })
    check_where(function(r) return r.tags and not is_either(r) end, { tags = ne { "t1", "t4" } })
    check_where(function(r) return contains(r.tags, "t1") and contains(r.tags, "t4") end,
      all { { tags = "t1" }, { tags = "t4" } })
    check_where(function(r) return contains(r.codes, 3) end, { codes = 3 })
    check_where(function(r) return r.codes and not contains(r.codes, 3) end, { codes = ne(3) })
    check_where(function() return false end, { codes = ne(10) })
  end)

  case("that is empty has a value, but no element", function()
    local empty = check_where(function(r) return r.tags and #r.tags == 0 end,
      { tags = ne { "t0", "t1", "t2", "t3", "t4" } })
    assert.is_true(#empty > 5)
  end)

  case("contains nothing is refused", function()
    has(failure_of(model.contains), "contains: a value is expected, got nil")
  end)
end)

describe("any, all and none", function()
  local function is_small(r) return r.small == 3 end
  local function is_b(r) return r.kind == "b" end

  case("join tables, names and each other", function()
    check_where(function(r) return is_small(r) or is_b(r) end, any { small = 3, kind = "b" })
    check_where(function(r) return is_small(r) or is_b(r) end,
      any { { small = 3 }, { kind = "b" } })
    check_where(function(r) return is_small(r) or is_b(r) end, any { small = 3, { kind = "b" } })
    check_where(function(r) return is_small(r) and is_b(r) end, any { { small = 3, kind = "b" } })
    check_where(function(r) return is_small(r) and is_b(r) end, all { small = 3, { kind = "b" } })
    check_where(function(r) return r.is_on and (is_small(r) or is_b(r)) end,
      { is_on = true, any { small = 3, kind = "b" } })
    check_where(function(r) return r.is_on and (is_small(r) or is_b(r)) end,
      all { any { small = 3, kind = "b" }, any { is_on = true } })
    local query = User:where(any { small = 3, kind = "b" }):where(any { is_on = true, name = "n1" })
    assert.same(ids_where(function(r)
      return (is_small(r) or is_b(r)) and (r.is_on or r.name == "n1")
    end), { unpack(query:ids()) })
  end)

  case("of one alternative are what that is, however it is put", function()
    for _, group in ipairs { any, all } do
      check_where(function(r) return r.code == "c7" end, group { code = "c7" })
      check_where(function(r) return r.code == "c7" end, group { { code = "c7" } })
      check_where(function(r) return r.id == 7 end, { { group { { { id = 7 } } } } })
      check_where(is_small, group { { group { { small = 3 } } } })
    end
  end)

  case("negate by three values: what is unknown is not found either way", function()
    check_where(function(r)
      return r.small ~= nil and r.small ~= 3 and r.kind ~= nil and r.kind ~= "b"
    end, none { small = 3, kind = "b" })
    check_where(function(r) -- NOT (a AND b): one of them is known to be false
      return r.small ~= nil and r.small ~= 3 or r.kind ~= nil and r.kind ~= "b"
    end, none { all { small = 3, kind = "b" } })
    check_where(function(r) return is_small(r) or is_b(r) end,
      none { none { small = 3, kind = "b" } })
    check_where(function(r) return is_small(r) or is_b(r) end,
      none { all { { small = ne(3) }, { kind = ne "b" } } })
    check_where(function(r) return is_small(r) and r.kind == nil end,
      { small = 3, none { kind = ne(null) } })
    check_where(function() return false end, { small = 3, none { kind = { "a", "b", "c" } } })
  end)

  case("of nothing are what is usual: any nothing, all and none everything", function()
    local function yes() return true end
    local function no() return false end
    check_where(no, any {})
    check_where(yes, all {})
    check_where(yes, none {})
    check_where(no, none { none {} })
    check_where(yes, none { any {} })
    check_where(no, { any {}, small = 3 })
    check_where(is_small, { none {}, small = 3 })
    check_where(is_small, any { small = 3, any {} })
    check_where(yes, any { small = 3, all {} })
    check_where(yes, any { small = 3, {} })
    check_where(is_small, any { small = 3, { kind = {} } })
    check_where(no, all { small = 3, { kind = {} } })
    check_where(is_small, all { { small = 3 }, none { any {} } })
    check_where(function(r) return r.kind ~= nil end, none { kind = {} })
  end)

  case("may be nested up to sixteen levels", function()
    local function nested(levels, inner)
      for i = 1, levels do inner = (i % 2 == 0 and any or all) { inner } end
      return inner
    end
    check_where(is_small, nested(14, { small = 3 }))
    for _, levels in ipairs { 15, 16, 17, 100, 10000 } do
      local err = error_of(User.where, User, nested(levels, { small = 3 }))
      assert.equal("model.invalid", err.code)
      assert.is_truthy(err.message:find "levels" or err.message:find "deeply", err.message)
    end
    local inner = { small = 3 }
    for _ = 1, 13 do inner = none { inner } end
    check_where(function(r) return r.small ~= nil and r.small ~= 3 end, inner)
    check_where(is_small, none { inner })
  end)

  case("that contain themselves are refused", function()
    local plain, alternatives, value = {}, {}, {}
    plain[1] = plain
    alternatives[1] = any(alternatives)
    value[1] = value
    assert.equal("model.invalid", code_of(User.where, User, plain))
    assert.equal("model.invalid", code_of(User.where, User, any(alternatives)))
    assert.equal("model.invalid", code_of(User.where, User, { small = value }))
    value.small = value
    assert.equal("model.invalid", code_of(User.where, User, value))
  end)

  case("take a thousand alternatives, and refuse many more", function()
    local alternatives = {}
    for i = 1, 500 do alternatives[i] = { small = i % 200, name = "n" .. i % 4 } end
    check_where(function(r) return r.small and r.name == "n" .. r.small % 4 end, any(alternatives))
    for i = 1, 1000 do alternatives[i] = { small = i } end
    check_where(function(r) return r.small and r.small > 0 end, any(alternatives))
    for i = 1, 2000 do alternatives[i] = { small = i } end
    local err = error_of(User.where, User, any(alternatives))
    assert.equal("model.invalid", err.code)
    has(err, "more than 1024 conditions")
    local query = User:where("small", 3)
    assert.equal("model.invalid", code_of(function()
      for _ = 1, 1100 do query = query:where("small", 3) end
    end))
    check_where(is_small, { small = 3 })
  end)

  case("say what they expect when they are given something else", function()
    for _, name in ipairs { "any", "all", "none" } do
      for _, value in ipairs { 5, "small", true, print, ne(5), model.gt(5) } do
        has(failure_of(model[name], value), name .. ": a table of conditions is expected, got")
      end
      has(failure_of(model[name]), "got nil")
      for _, wrong in ipairs { { 5 }, { "small" }, { model.gt(5) }, { ne(5) },
        { [3] = { small = 1 } }, { [0] = { small = 1 } }, { [1.5] = { small = 1 } },
        { absent = 1 }, { { absent = 1 } },
        { [true] = 1 }, { print } } do
        local err = error_of(User.where, User, model[name](wrong))
        assert.equal("model.invalid", err.code)
        has(err, "model condition_user")
      end
    end
    assert.equal("model.invalid", code_of(User.where, User, { small = any { small = 3 } }))
    assert.equal("model.invalid", code_of(User.where, User, { small = ne(any { small = 3 }) }))
    assert.equal("model.invalid", code_of(User.where, User, "small", none {}))
    has(failure_of(model.ne), "ne: a value is expected, got nil")
  end)
end)

describe("a condition through a reference", function()
  local function in_usa(r) return r.country == 1 or r.country == 3 end

  case("finds the rows whose other row matches", function()
    check_where(in_usa, { ["country.name"] = "USA" })
    check_where(function(r) return r.country == 1 end, { ["country.area"] = model.gt(50) })
    check_where(function(r) return in_usa(r) or r.country == 2 end,
      { ["country.name"] = { "USA", "GBR" } })
    check_where(function(r) return r.country == 4 end, { ["country.code"] = "x" })
    check_where(function(r) return r.country == 2 end, { ["country.id"] = 2 })
    check_where(function() return false end, { ["country.name"] = "nowhere" })
    check_where(function() return false end, { ["country.name"] = {} })
    check_where(function(r) return in_usa(r) and r.kind == "b" end,
      { ["country.name"] = "USA", kind = "b" })
    check_where(function(r) return in_usa(r) or r.kind == "a" end,
      any { ["country.name"] = "USA", kind = "a" })
  end)

  case("is negated on the other side: rows that refer to none have no value there", function()
    check_where(function(r) return r.country == 2 end, { ["country.name"] = ne "USA" })
    check_where(function(r) return r.country == 2 end, none { ["country.name"] = "USA" })
    check_where(function(r) return r.country == 4 end, { ["country.name"] = null })
    check_where(function(r) return r.country and r.country ~= 4 end,
      { ["country.name"] = ne(null) })
    check_where(in_usa, none { none { ["country.name"] = "USA" } })
    check_where(in_usa, none { ["country.name"] = ne "USA" })
    check_where(function(r) return r.country ~= nil and r.country ~= 4 end,
      { ["country.name"] = ne {} })
  end)

  case("goes to rows of the same model, and on through these", function()
    local by_id = {}
    for _, row in ipairs(rows) do by_id[row.id] = row end
    local function chief_of(r) return by_id[r.chief] end
    check_where(function(r) return chief_of(r) and chief_of(r).kind == "a" end,
      { ["chief.kind"] = "a" })
    check_where(function(r)
      local second = chief_of(r) and chief_of(chief_of(r))
      return second and second.small == 3
    end, { ["chief.chief.small"] = 3 })
    check_where(function(r) return chief_of(r) and in_usa(chief_of(r)) end,
      { ["chief.country.name"] = "USA" })
  end)

  case("does not find rows whose other row is gone", function()
    local other = Country:create { name = "FRA" }
    local user = User:create { country = other }
    assert.same({ user.id }, { unpack(User:where({ ["country.name"] = "FRA" }):ids()) })
    other:delete()
    assert.same({}, { unpack(User:where({ ["country.name"] = "FRA" }):ids()) })
    for _, condition in ipairs { { ["country.name"] = ne "USA" }, { ["country.name"] = null },
      none { ["country.name"] = "USA" } } do
      assert.is_false(contains(User:where(condition):ids(), user.id))
    end
    user:delete()
  end)

  case("is asked anew each time that the query runs", function()
    local query = User:where { ["country.name"] = "ITA" }
    assert.equal(0, query:count())
    local other = Country:create { name = "ITA" }
    local user = User:create { country = other }
    assert.equal(user.id, query:first().id)
    assert.equal(1, query:order_by("small"):count())
    user:delete()
    other:delete()
    assert.equal(0, query:count())
  end)

  case("finds at most a thousand rows over there", function()
    local list = {}
    for i = 1, 1001 do list[i] = { name = "crowd" } end
    local crowd = Country:create_many(list)
    local user = User:create { country = crowd[1000] }
    local query = User:where { ["country.name"] = "crowd" }
    local err = error_of(query.all, query)
    assert.equal("model.too_many", err.code)
    has(err, "condition_user")
    has(err, "country.name")
    has(err, "1000")
    assert.equal("model.too_many", code_of(query.count, query))
    crowd[1]:delete()
    assert.same({ user.id }, { unpack(query:ids()) })
    user:delete()
    Country:where({ name = "crowd" }):delete()
    assert.equal(0, query:count())
  end)

  case("is refused where it is built when it could not be answered", function()
    for condition, try in pairs {
      ["condition_country: field plain has no index"] = { ["country.plain"] = "x" },
      ["condition_country: there is no field 'absent'"] = { ["country.absent"] = "x" },
      ["condition_country: there is no field 'name.x'"] = { ["country.name.x"] = "x" },
      ["condition_user: there is no field 'country.'"] = { ["country."] = "x" },
      ["condition_user: there is no field '.name'"] = { [".name"] = "x" },
      ["condition_user: there is no field 'absent.name'"] = { ["absent.name"] = "x" },
      ["condition_user: there is no field 'kind.name'"] = { ["kind.name"] = "x" },
      ["condition_country: field name: a string is expected, got 5"] = { ["country.name"] = 5 },
      ["condition_country: field area: an integer is expected"] = any { ["country.area"] = "x" },
      ["condition_user: field loose has no index"] = { ["loose.name"] = "USA" },
    } do
      local err = error_of(User.where, User, try)
      assert.equal(condition:find "has no index" and "model.unindexed" or "model.invalid", err.code)
      has(err, condition)
    end
  end)

  case("needs no index of the reference itself where scan is allowed", function()
    local user = User:create { loose = 2 }
    assert.same({ user.id },
      { unpack(User:where({ ["loose.name"] = "GBR" }, { scan = true }):ids()) })
    user:delete()
  end)
end)

describe("scan = true", function()
  local scan = { scan = true }

  case("allows conditions without an index: the rows are read and tested", function()
    check_where(function(r) return r.note == "x1" end, { note = "x1" }, scan)
    check_where(function(r) return r.note ~= nil and r.note ~= "x1" end, { note = ne "x1" }, scan)
    check_where(function(r) return r.note == nil end, { note = null }, scan)
    check_where(function(r) return r.code == nil end, { code = null }, scan)
    check_where(function(r) return r.code and r.code ~= "c1" end, { code = ne "c1" }, scan)
    check_where(function(r) return r.code and r.code >= "c3" end, { code = model.ge "c3" }, scan)
    check_where(function(r) return r.id > 20 end, { id = model.gt(20) }, scan)
    check_where(function(r) return r.id ~= 20 end, { id = ne(20) }, scan)
    check_where(function(r) return r.name and r.name >= "n2" end, { name = model.ge "n2" }, scan)
    check_where(function(r) return r.note == "x1" and r.kind == "a" end,
      { note = "x1", kind = "a" }, scan)
    check_where(function(r) return r.note == "x1" or r.kind == "a" end,
      any { note = "x1", kind = "a" }, scan)
    check_where(function() return true end, { text = null }, scan)
    check_where(function() return true end, { data = null }, scan)
    assert.same(ids_where(function(r) return r.note == "x1" end),
      { unpack(User:where("note", "x1", scan):ids()) })
  end)

  case("of a query holds for what is added, and for no other", function()
    local query = User:where({ note = "x1" }, scan)
    assert.equal(query:count(), query:where({ text = null }):count())
    assert.equal("model.unindexed", code_of(User.where, User, { note = "x1" }))
    assert.equal("model.unindexed", code_of(function()
      return User:where("kind", "a"):where("note", "x1")
    end))
  end)

  case("still answers by an index what it can", function()
    local text = User:where({ note = "x1", kind = "a" }, scan):explain()
    has(text, "bitmap: kind = a")
    assert.is_nil(text:find("note", 1, true))
    has(User:where({ kind = "a" }, scan):explain(), "bitmap: kind = a")
  end)

  case("does not allow what cannot be meant", function()
    assert.equal("model.invalid", code_of(User.where, User, { note = 5 }, scan))
    assert.equal("model.invalid", code_of(User.where, User, { absent = 5 }, scan))
    assert.equal("model.invalid", code_of(User.where, User, { note = model.gt(5) }, scan))
  end)

  case("is the only option there is", function()
    has(failure_of(User.where, User, { note = "x" }, { scann = true }), "no option 'scann'")
    has(failure_of(User.where, User, { note = "x" }, true), "options expected, got boolean")
    has(failure_of(User.where, User, "note", "x", "scan"), "options expected, got string")
    assert.equal("model.unindexed", code_of(User.where, User, { note = "x" }, { scan = false }))
    assert.equal("model.unindexed", code_of(User.where, User, { note = "x" }, {}))
  end)
end)

describe("a condition that has no index", function()
  case("is refused where it is built, with the field and a cure", function()
    for name, cure in pairs { note = "add index = true (or sort = true)",
      loose = "add index = true", text = "scan = true", data = "scan = true",
      code = "scan = true" } do
      local value = null
      local err = error_of(User.where, User, { [name] = value })
      assert.equal("model.unindexed", err.code)
      has(err, "model condition_user: field " .. name)
      has(err, cure)
      has(err, "{ scan = true }")
      for _, wrapped in ipairs { any { [name] = value }, none { { small = 3 }, { [name] = value } },
        { small = 3, all { any { [name] = value } } } } do
        assert.equal("model.unindexed", code_of(User.where, User, wrapped))
      end
    end
    local err = error_of(User.where, User, { name = model.prefix "n" })
    assert.equal("model.unindexed", err.code)
    has(err, "field name has no index for ranges and prefixes; add sort = true")
    assert.is_nil(tostring(error_of(User.where, User, { text = "x" })):find "index = true")
  end)

  case("may stand beside one that names the rows outright", function()
    check_where(function(r) return r.id == 7 and r.note == "x1" end, { id = 7, note = "x1" })
    check_where(function(r) return r.code == "c7" and r.note == "x0" end,
      { code = "c7", note = "x0" })
    assert.equal("model.unindexed", code_of(User.where, User, any { id = 7, note = "x1" }))
    assert.equal("model.unindexed", code_of(User.where, User, { id = ne(7), note = "x1" }))
  end)
end)

describe("a value of a wrong type", function()
  case("is an error that names the field, by itself, in a list, negated or nested", function()
    local wrong = {
      small = { "5", true, 1.5, 0 / 0, math.huge, print, { x = 1 }, coroutine.create(print),
        io.stdout, { 1, "x" }, { { 1 } }, { null }, { model.gt(1) }, { ne(1) } },
      number = { "5", 0 / 0, false },
      time = { "tomorrow", true, "2024-01-32" },
      date = { 5, "2024-02-30", "2024-1-1", true, "" },
      kind = { "d", 1, true, "" },
      is_on = { "true", 1, 0 },
      name = { 5, true, print },
      uuid = { "x", 5, uuid_of(1) .. "0" },
      raw = { 5, true },
      tags = { 5, { { "t1" } } },
      codes = { "5", 1.5 },
      country = { "x", 1.5, true },
    }
    for name, values in pairs(wrong) do
      for i, value in ipairs(values) do
        for _, condition in ipairs { { [name] = value }, { [name] = ne(value) },
          any { { small = 1 }, { [name] = value } }, none { [name] = value } } do
          local ok, err = pcall(User.where, User, condition)
          assert.is_false(ok, name .. i)
          assert.equal("model.invalid", err.code, name .. i)
          assert.equal("string", type(err.fields and err.fields[name]), name .. i)
          has(err, "model condition_user")
          has(err, name)
        end
      end
    end
  end)

  case("is one in a range, too", function()
    for name, values in pairs { small = { "x", true, {}, 0 / 0 }, date = { 5, "x" },
      time = { "x" }, kind = { "a" }, is_on = { true }, path = { 5, true }, tags = { "t1" },
      uuid = { uuid_of(1) } } do
      for _, value in ipairs(values) do
        for _, bound in ipairs { "gt", "ge", "lt", "le" } do
          local err = error_of(User.where, User, { [name] = model[bound](value) })
          assert.equal("model.invalid", err.code)
          has(err, "field " .. name)
        end
        assert.equal("model.invalid", code_of(User.where, User, { [name] = ne(model.gt(value)) }))
      end
    end
    for _, name in ipairs { "between", "gt", "ge", "lt", "le", "prefix" } do
      assert.is_false(pcall(model[name]))
    end
  end)

  case("that is a list with holes, or a table by name, is refused", function()
    for _, value in ipairs { { 1, nil, 3 }, { [0] = 1 }, { [2] = 1 }, { x = 1 }, { 1, x = 1 } } do
      local err = error_of(User.where, User, { small = value })
      assert.equal("model.invalid", err.code)
      assert.is_string(err.fields.small)
    end
  end)
end)

describe("where", function()
  case("refuses what is no condition", function()
    for _, try in ipairs {
      function() return User:where() end,
      function() return User:where(nil) end,
      function() return User:where(nil, 5) end,
      function() return User:where {} end,
      function() return User:where "small" end,
      function() return User:where("small", nil) end,
      function() return User:where(print) end,
      function() return User:where(print, 5) end,
      function() return User:where(5, 5) end,
      function() return User:where(model.gt(5)) end,
      function() return User:where(ne(5)) end,
      function() return User:where { 5 } end,
      function() return User:where { { 5 } } end,
      function() return User:where { "small" } end,
      function() return User:where { [{}] = 5 } end,
      function() return User:where { [true] = 5 } end,
      function() return User:where { [print] = 5 } end,
      function() return User:where { absent = 5 } end,
      function() return User:where { Small = 5 } end,
      function() return User:where { [""] = 5 } end,
      function() return User:where { ["small\0"] = 5 } end,
      function() return User:where { ["small "] = 5 } end,
      function() return User:where { [("x"):rep(100000)] = 5 } end,
    } do
      assert.equal("model.invalid", code_of(try))
    end
  end)

  case("looks at what a table holds itself, not at its metatable", function()
    local touched = false
    local spy = { __index = function() touched = true end, __call = function() touched = true end,
      __newindex = function() touched = true end, __tostring = function() touched = true end }
    check_where(function(r) return r.small == 3 end, setmetatable({ small = 3 }, spy))
    check_where(function(r) return r.small == 3 end, { small = setmetatable({ 3 }, spy) })
    assert.equal("model.invalid", code_of(User.where, User,
      setmetatable({}, { __index = { small = 3 } })))
    assert.is_false(touched)
  end)

  case("takes over what it was given: later changes of the table mean nothing", function()
    local values, inner, conditions = { 3 }, { kind = "b" }, {}
    conditions.small, conditions[1] = values, any { inner }
    local query = User:where(conditions)
    local want = ids_where(function(r) return r.small == 3 and r.kind == "b" end)
    values[2], inner.kind, conditions.name = 4, "a", "n1"
    assert.same(want, { unpack(query:ids()) })
    assert.same(want, { unpack(query:ids()) })
  end)

  case("takes a row for its key, in a list and negated", function()
    local usa = Country:load(1)
    check_where(function(r) return r.country == 1 end, { country = usa })
    check_where(function(r) return r.country == 1 or r.country == 2 end,
      { country = { usa, 2 } })
    check_where(function(r) return r.country and r.country ~= 1 end, { country = ne(usa) })
  end)
end)
