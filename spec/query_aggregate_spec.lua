local neap = require "neap"
local case = require "support.case" (it)
local error_of, code_of = require "support.failure" (assert)
local model, field, null = neap.model, neap.field, neap.null

local function has(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q in %q"):format(part, tostring(text)))
end

local Item, rows

-- fields with each kind of index, and the like of them without one
local numbers = { "packed", "byte", "wide", "zset", "plain_zset", "valued", "plain", "real",
  "unique", "id" }
local moments = { "day", "sorted_day", "plain_day", "at", "plain_at" }
local others = { "kind", "plain_kind", "is_on", "plain_on", "name", "plain_name", "uuid", "raw" }

local function uuid_of(i) return ("00000000-0000-0000-0000-%012d"):format(i) end

local function attributes_of(i)
  local function most(n, value) if i % n ~= 0 then return value end end
  return { packed = most(5, i * 7 % 300 - 150), byte = most(7, i % 5 - 2),
    wide = most(3, i - 2 ^ 44), -- so that Lua adds them up exactly
    zset = most(4, i % 9 - 4), plain_zset = most(5, i / 4), valued = most(6, i % 4),
    plain = most(3, i % 6), real = most(8, i % 7 / 2 - 1), unique = most(2, i),
    day = most(5, ("2024-01-%02d"):format(i % 28 + 1)),
    sorted_day = most(5, ("1969-12-%02d"):format(i % 30 + 1)), plain_day = most(4, "0001-01-01"),
    at = most(6, i * 3 % 11 - 5), plain_at = most(6, i % 5 + 0.5),
    kind = most(5, i % 3 == 0 and "a" or "z"), plain_kind = most(5, "z"),
    is_on = most(4, i % 2 == 0), plain_on = most(4, i % 3 == 0), name = most(3, "n" .. i % 4),
    plain_name = most(3, "n" .. i % 5), uuid = most(4, uuid_of(i % 3)),
    raw = most(4, string.char(i % 3)), tags = { "t" } }
end

setup(function()
  Item = model.define("aggregate_item", {
    id = field.integer { primary_key = true, auto = true },
    packed = field.integer { min = -200, max = 200, index = true },
    byte = field.integer { min = -5, max = 5, index = true },
    wide = field.integer { min = -2 ^ 53, max = 2 ^ 53, index = true },
    zset = field.integer { sort = true },
    plain_zset = field.number { sort = true },
    valued = field.integer { index = true },
    plain = field.integer {},
    real = field.number {},
    unique = field.integer { unique = true },
    day = field.date { index = true },
    sorted_day = field.date { sort = true },
    plain_day = field.date {},
    at = field.time { sort = true },
    plain_at = field.time {},
    kind = field.enum { "z", "a", "m", index = true },
    plain_kind = field.enum { "z", "a" },
    is_on = field.boolean { index = true },
    plain_on = field.boolean {},
    name = field.string { index = true },
    plain_name = field.string {},
    uuid = field.uuid { index = true },
    raw = field.bytes {},
    tags = field.list(field.string) { index = true },
    data = field.json {},
    text = field.text {},
  })
  Item:drop()
  local list = {}
  for i = 1, 120 do list[i] = attributes_of(i) end
  Item:create_many(list)
  Item:where("id", { 1, 60, 120 }):delete()
  rows = Item:rows():all()
end)
teardown(function() Item:drop() end)

-- the queries of which aggregates are taken, and which rows they are of
local queries = {
  { "all rows", function() return Item:rows() end, function() return true end },
  { "a condition", function() return Item:where("kind", "a") end,
    function(r) return r.kind == "a" end },
  { "a range", function() return Item:where("packed", model.between(-50, 50)) end,
    function(r) return r.packed and r.packed >= -50 and r.packed <= 50 end },
  { "an ordered range", function() return Item:where("at", model.gt(0)) end,
    function(r) return r.at and r.at > 0 end },
  { "alternatives", function() return Item:where(model.any { kind = "z", is_on = true }) end,
    function(r) return r.kind == "z" or r.is_on == true end },
  { "a condition without an index",
    function() return Item:where({ plain_name = "n1" }, { scan = true }) end,
    function(r) return r.plain_name == "n1" end },
  { "rows named by keys", function() return Item:where("id", { 2, 3, 4, 5, 7, 119, 500 }) end,
    function(r) return r.id <= 7 and r.id ~= 6 or r.id == 119 end },
  { "an order, which means nothing here", function()
    return Item:where("kind", "a"):order_by("zset", "desc")
  end, function(r) return r.kind == "a" end },
  { "no rows", function() return Item:where("kind", "m") end, function() return false end },
  { "nothing that can match", function() return Item:where("kind", {}) end,
    function() return false end },
}

-- values_of returns the values of a field in the rows that fn agrees to, and how many of
-- these rows have none.
local function values_of(name, fn)
  local values, nulls = {}, 0
  for _, row in ipairs(rows) do
    if fn(row) and row[name] ~= nil then
      values[#values + 1] = row[name]
    elseif fn(row) then
      nulls = nulls + 1
    end
  end
  return values, nulls
end

local function extremes(values)
  local least, most
  for _, v in ipairs(values) do
    if least == nil or v < least then least = v end
    if most == nil or v > most then most = v end
  end
  return least, most
end

describe("the aggregates of", function()
  for _, one in ipairs(queries) do
    local name, query, fn = one[1], one[2], one[3]

    case(name .. ": sum, avg, min and max of numbers", function()
      for _, f in ipairs(numbers) do
        local values, sum = values_of(f, fn), 0
        for _, v in ipairs(values) do sum = sum + v end
        local least, most = extremes(values)
        assert.equal(sum, query():sum(f), f)
        assert.equal(#values > 0 and sum / #values or nil, query():avg(f), f)
        assert.equal(least, query():min(f), f)
        assert.equal(most, query():max(f), f)
      end
    end)

    case(name .. ": min and max of dates and times", function()
      for _, f in ipairs(moments) do
        local least, most = extremes((values_of(f, fn)))
        assert.equal(least, query():min(f), f)
        assert.equal(most, query():max(f), f)
      end
    end)

    case(name .. ": how many rows have each value", function()
      for _, list in ipairs { numbers, moments, others } do
        for _, f in ipairs(list) do
          local values, nulls = values_of(f, fn)
          local want = {}
          for _, v in ipairs(values) do want[v] = (want[v] or 0) + 1 end
          if nulls > 0 then want[null] = nulls end
          assert.same(want, query():count_by(f), f)
        end
      end
    end)
  end
end)

describe("a sum", function()
  local Big
  before_each(function()
    Big = model.define("aggregate_big", { id = field.integer { primary_key = true, auto = true },
      packed = field.integer { min = -2 ^ 53, max = 2 ^ 53 - 2, index = true },
      zset = field.integer { sort = true }, plain = field.integer {},
      byte = field.integer { min = -128, max = 126, index = true } })
    Big:drop()
  end)
  after_each(function() Big:drop() end)

  case("of whole numbers is exact up to 2^53, in any order", function()
    local values = { 2 ^ 53 - 2, -2 ^ 53, 2 ^ 53 - 2, -2 ^ 53, 1, 3 }
    for _, v in ipairs(values) do Big:create { packed = v, plain = v, zset = v } end
    for _, name in ipairs { "packed", "plain", "zset" } do
      assert.equal(0, Big:rows():sum(name), name)
      assert.equal(0, Big:rows():avg(name), name)
      assert.equal(-2 ^ 53, Big:rows():min(name), name)
      assert.equal(2 ^ 53 - 2, Big:rows():max(name), name)
      assert.same({ [2 ^ 53 - 2] = 2, [-2 ^ 53] = 2, [1] = 1, [3] = 1 },
        Big:rows():count_by(name))
    end
  end)

  case("does not overflow", function()
    local list = {}
    for i = 1, 3000 do list[i] = { packed = 2 ^ 53 - 2, byte = i % 2 == 0 and -128 or 126 } end
    Big:create_many(list)
    local want = 3000 * (2 ^ 53 - 2)
    assert.is_true(math.abs(Big:rows():sum "packed" - want) <= want * 1e-15)
    assert.is_true(math.abs(Big:rows():avg "packed" - (2 ^ 53 - 2)) <= 2)
    assert.equal(-3000, Big:rows():sum "byte")
    assert.equal(-1, Big:rows():avg "byte")
    assert.same({ [-128] = 1500, [126] = 1500 }, Big:rows():count_by "byte")
  end)

  case("of nothing is 0; the mean and the extremes of nothing are nil", function()
    for _ = 1, 2 do
      for _, name in ipairs { "packed", "plain", "zset" } do
        assert.equal(0, Big:rows():sum(name))
        assert.is_nil(Big:rows():avg(name))
        assert.is_nil(Big:rows():min(name))
        assert.is_nil(Big:rows():max(name))
      end
      Big:create {} -- a row without values is nothing, too
    end
    assert.same({ [null] = 2 }, Big:rows():count_by "packed")
  end)

  case("follows what is written", function()
    local row = Big:create { packed = 5, plain = 5, zset = 5 }
    Big:create { packed = 7, plain = 7, zset = 7 }
    for _, name in ipairs { "packed", "plain", "zset" } do
      local query = Big:rows()
      assert.equal(12, query:sum(name))
      row:increment(name, 10)
      assert.equal(22, query:sum(name))
      assert.equal(15, query:max(name))
      row[name] = nil
      row:save()
      assert.equal(7, query:sum(name))
      assert.equal(7, query:max(name))
      assert.same({ [7] = 1, [null] = 1 }, query:count_by(name))
    end
    Big:rows():delete { all = true }
    assert.equal(0, Big:rows():sum "packed")
    assert.same({}, Big:rows():count_by "packed")
  end)
end)

describe("aggregates of a model with a ttl", function()
  case("leave out rows whose time is over", function()
    local Brief = model.define("aggregate_brief", { id = field.integer { primary_key = true,
      auto = true }, packed = field.integer { min = 0, max = 100, index = true },
      zset = field.integer { sort = true }, plain = field.integer {},
      kind = field.enum { "a", "b", index = true } }, { ttl = true })
    Brief:drop()
    for i = 1, 10 do
      Brief:create { packed = i, zset = i, plain = i, kind = i > 5 and "a" or "b" }
    end
    for _, id in ipairs { 1, 10 } do Brief:load(id):expire(0.001) end
    while Brief:load(1) or Brief:load(10) do neap.sleep(0.001) end
    for _, name in ipairs { "packed", "zset", "plain" } do
      assert.equal(44, Brief:rows():sum(name), name)
      assert.equal(5.5, Brief:rows():avg(name), name)
      assert.equal(2, Brief:rows():min(name), name)
      assert.equal(9, Brief:rows():max(name), name)
      assert.is_nil(Brief:rows():count_by(name)[10])
    end
    assert.same({ a = 4, b = 4 }, Brief:rows():count_by "kind")
    assert.equal(30, Brief:where("kind", "a"):sum "packed")
    Brief:drop()
  end)
end)

describe("an aggregate", function()
  case("of rows that are gone from Redis by other hands, read row by row, leaves them out",
    function()
      local row = Item:create { plain = 1e6, kind = "m" }
      assert.equal(1e6, Item:where("kind", "m"):sum "plain")
      neap.redis():del("{aggregate_item}:" .. row.id)
      assert.equal(0, Item:where("kind", "m"):sum "plain")
      assert.is_nil(Item:where("kind", "m"):max "plain")
      assert.same({}, Item:where("kind", "m"):count_by "plain")
      Item:verify { repair = true }
    end)

  case("is refused for fields that have no such thing, with the field and its type", function()
    local not_additive = { "day", "plain_day", "at", "plain_at", "kind", "is_on", "name", "uuid",
      "raw", "tags", "data", "text" }
    for _, name in ipairs(not_additive) do
      for _, what in ipairs { "sum", "avg" } do
        local query = Item:rows()
        local err = error_of(query[what], query, name)
        assert.equal("model.invalid", err.code)
        has(err, ("model aggregate_item: %s of field %s, which is of type %s"):format(what, name,
          Item.fields[name].type))
      end
    end
    for _, name in ipairs { "kind", "is_on", "name", "uuid", "raw", "tags", "data", "text" } do
      for _, what in ipairs { "min", "max" } do
        local query = Item:rows()
        assert.equal("model.invalid", code_of(query[what], query, name))
      end
    end
    for _, name in ipairs { "tags", "data", "text" } do
      assert.equal("model.invalid", code_of(Item.rows(Item).count_by, Item:rows(), name))
    end
  end)

  case("is refused for what is no field, and for a part of the rows", function()
    for _, what in ipairs { "sum", "avg", "min", "max", "count_by" } do
      local query = Item:rows()
      for _, name in ipairs { "absent", "", "Packed", "packed.x", 5, true, {}, print, null } do
        local err = error_of(query[what], query, name)
        assert.equal("model.invalid", err.code)
        has(err, "model aggregate_item: there is no field '")
      end
      assert.equal("model.invalid", code_of(query[what], query))
      for _, part in ipairs { query:limit(5), query:offset(0), query:limit(0) } do
        local err = error_of(part[what], part, "packed")
        assert.equal("model.invalid", err.code)
        has(err, what .. " is of all rows: not of a query with limit or offset")
      end
    end
  end)

  case("is an error, not a wrong number, when its column is damaged", function()
    local Bad = model.define("aggregate_bad", { id = field.integer { primary_key = true,
      auto = true }, n = field.integer { min = 0, max = 9, index = true },
      z = field.integer { sort = true }, kind = field.enum { "a", "b", index = true } })
    for key, name in pairs { ["n.0"] = "n", z = "z", ["@rows.0"] = "n", ["kind.0=a"] = "kind" } do
      Bad:drop()
      Bad:create { n = 5, z = 5, kind = "a" }
      neap.redis():del("{aggregate_bad}/" .. key)
      neap.redis():lpush("{aggregate_bad}/" .. key, "planted")
      for _, what in ipairs(name == "kind" and { "count_by" } or name == "z" and { "min", "max" }
        or { "sum", "avg", "min", "max", "count_by" }) do
        local query = Bad:rows()
        assert.equal("model.damaged", code_of(query[what], query, name), key .. what)
      end
    end
    Bad:drop()
  end)
end)
