local neap = require "neap"
local case = require "support.case" (it)
local model, field = neap.model, neap.field

local pool = { "", "a", "ab", "abc", "b", "\0", "a\0", "a\0b", "a\255", "\255", "\255\255",
  "ab\0\255", "ж", "aб", "A" }

-- compare orders strings by their bytes.
local function compare(a, b)
  for i = 1, math.max(#a, #b) do
    local x, y = a:byte(i) or -1, b:byte(i) or -1
    if x ~= y then return x < y and -1 or 1 end
  end
  return 0
end

local function by_number(a, b) return a < b and -1 or a > b and 1 or 0 end

local operators = {
  gt = function(order) return order > 0 end,
  ge = function(order) return order >= 0 end,
  lt = function(order) return order < 0 end,
  le = function(order) return order <= 0 end,
}

describe("ranges", function()
  local Thing, all
  setup(function()
    Thing = model.define("ranged", {
      id = field.integer { primary_key = true, auto = true },
      name = field.string { sort = true },
      both = field.string { index = true, sort = true },
      plain = field.string { index = true },
      kind = field.enum { "a", "b", index = true },
      n = field.number { sort = true },
      i = field.integer { min = -5, max = 300, index = true },
      d = field.date { index = true },
      at = field.time { required = true, sort = true },
    }, { indexes = { { "kind", "i" }, { "kind", "plain", "n" } } })
    Thing:drop()
    local rows = {}
    for i = 1, 600 do
      rows[i] = { name = i % 9 ~= 0 and pool[i * 7 % #pool + 1] or nil,
        both = pool[i * 11 % #pool + 1], plain = "p" .. i % 3, kind = i % 5 < 2 and "a" or "b",
        n = i % 13 ~= 0 and i * 17 % 20 / 4 or nil, i = i % 7 ~= 0 and i * 31 % 306 - 5 or nil,
        d = ("2000-01-%02d"):format(i % 28 + 1), at = i * 29 % 100 }
    end
    Thing:create_many(rows)
    all = Thing:rows():all()
  end)
  teardown(function() Thing:drop() end)

  -- expected returns the ids of the rows that fn agrees to, in the order of a field.
  local function expected(fn, name, direction)
    local list, ids = {}, {}
    for _, row in ipairs(all) do
      if fn(row) then list[#list + 1] = row end
    end
    table.sort(list, function(a, b)
      local x, y = a[name], b[name]
      if x == nil or y == nil or x == y then
        if (x == nil) ~= (y == nil) then return y == nil end
        if direction == "desc" then return a.id > b.id end
        return a.id < b.id
      end
      local order = type(x) == "string" and compare(x, y) or by_number(x, y)
      return (direction == "desc" and -order or order) < 0
    end)
    for i, row in ipairs(list) do ids[i] = row.id end
    return ids
  end

  -- check_query asks in each way that a condition on a field can be asked.
  local function check_query(condition, name, fn)
    local query = Thing:where(name, condition)
    assert.same(expected(fn, "id"), { unpack(query:ids()) })
    assert.equal(#expected(fn, "id"), query:count())
    local function of_a(row) return fn(row) and row.kind == "a" end
    assert.same(expected(of_a, "id"), { unpack(query:where("kind", "a"):ids()) })
    if not Thing.fields[name].sort then return end
    for _, direction in ipairs { "asc", "desc" } do
      local ordered = query:order_by(name, direction)
      assert.same(expected(fn, name, direction), { unpack(ordered:ids()) })
      assert.same(expected(of_a, name, direction), { unpack(ordered:where("kind", "a"):ids()) })
      assert.equal(math.min(3, query:count()), #ordered:limit(3):all())
    end
  end

  local function check_operators(name, values, order)
    for operator, holds in pairs(operators) do
      for _, v in ipairs(values) do
        check_query(model[operator](v), name, function(row)
          return row[name] ~= nil and holds(order(row[name], v))
        end)
      end
    end
  end

  case("of numbers and dates hold their ends or leave them out", function()
    check_operators("n", { -1, 0, 0.25, 2.5, 4.75, 6 }, by_number)
    check_operators("i", { -6, -5, 0, 1.5, 255, 300, 301 }, by_number)
    check_operators("d", { "1999-12-31", "2000-01-01", "2000-01-15", "2000-01-28" }, compare)
  end)

  case("of strings go by their bytes", function()
    check_operators("name", pool, compare)
    check_operators("both", { "", "a", "a\0", "\255" }, compare)
    check_query(model.between("a", "ab"), "name", function(row)
      return row.name and compare(row.name, "a") >= 0 and compare(row.name, "ab") <= 0
    end)
  end)

  case("a prefix finds the strings that begin so", function()
    for _, prefix in ipairs { "", "a", "a\0", "ab", "\255", "\255\255", "ж", "zz" } do
      for _, name in ipairs { "name", "both" } do
        check_query(model.prefix(prefix), name, function(row)
          return row[name] and row[name]:sub(1, #prefix) == prefix
        end)
      end
    end
  end)

  case("strings are ordered by their bytes, nulls last, ties by creation", function()
    for _, direction in ipairs { "asc", "desc" } do
      local function any() return true end
      assert.same(expected(any, "name", direction),
        { unpack(Thing:rows():order_by("name", direction):ids()) })
    end
  end)

  case("a compound index is walked where it has the order", function()
    for _, direction in ipairs { "asc", "desc" } do
      local function of_a(row) return row.kind == "a" end
      local query = Thing:where("kind", "a"):order_by("i", direction)
      assert.is_truthy(query:limit(5):explain():find("compound index kind,i", 1, true))
      assert.same(expected(of_a, "i", direction), { unpack(query:ids()) })
      local function within(row) return of_a(row) and row.i and row.i >= 20 and row.i <= 90 end
      query = query:where("i", model.between(20, 90))
      assert.is_nil(query:limit(5):explain():find("read", 1, true))
      assert.same(expected(within, "i", direction), { unpack(query:ids()) })
      local function of_three(row) return of_a(row) and row.plain == "p1" end
      query = Thing:where { kind = "a", plain = "p1" }:order_by("n", direction)
      assert.is_truthy(query:limit(5):explain():find("compound index kind,plain,n", 1, true))
      assert.same(expected(of_three, "n", direction), { unpack(query:ids()) })
    end
  end)

  case("a walk within bounds reads no columns", function()
    local query = Thing:where("at", model.ge(50)):order_by "at"
    assert.is_nil(query:explain():find("read", 1, true))
    assert.same(expected(function(row) return row.at >= 50 end, "at"), { unpack(query:ids()) })
  end)

  case("what cannot be a range says why", function()
    local function has(text, fn, ...)
      local ok, e = pcall(fn, ...)
      assert.is_false(ok)
      assert.is_truthy(tostring(e):find(text, 1, true), tostring(e))
    end
    has("prefixes are for strings", Thing.where, Thing, "i", model.prefix "a")
    has("prefixes are for strings", Thing.where, Thing, "kind", model.prefix "a")
    has("has no index for ranges", Thing.where, Thing, "plain", model.gt "a")
    has("a range takes strings, got 5", Thing.where, Thing, "name", model.gt(5))
    has("a range takes numbers, got 'x'", Thing.where, Thing, "i", model.lt "x")
    has("a range takes dates", Thing.where, Thing, "d", model.le "2000-13-01")
    has("gt: a value is expected", model.gt)
    has("prefix: a string is expected, got number", model.prefix, 5)
  end)
end)
