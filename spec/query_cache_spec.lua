local neap = require "neap"
local case = require "support.case" (it)
local check_model = require "support.model_check"
local model, field = neap.model, neap.field
local between = model.between

local SEGMENT = 65536
local redis = neap.redis()

-- define makes the model once more: with caches of its own, so that each stands for a host.
local function define(more)
  local fields = {
    id = field.integer { primary_key = true, auto = true },
    kind = field.enum { "a", "b", "c", index = true },
    size = field.integer { min = 0, max = 100, index = true },
    name = field.string { index = true },
    note = field.string {},
  }
  for name, f in pairs(more or {}) do fields[name] = f end
  return model.define("cached", fields, { ttl = 3600 })
end

local Reader, Writer

before_each(function()
  Writer = define()
  Writer:drop()
  Writer:sync()
  Reader = define()
end)
teardown(function() define():drop() end)

-- each condition, and what a row has to be like
local questions = {
  { { kind = "a" }, function(r) return r.kind == "a" end },
  { { kind = { "b", "c" } }, function(r) return r.kind == "b" or r.kind == "c" end },
  { { size = between(20, 60) }, function(r) return r.size and r.size >= 20 and r.size <= 60 end },
  { { name = "n3" }, function(r) return r.name == "n3" end },
  { { name = neap.null }, function(r) return r.name == nil end },
  { { kind = "a", size = between(0, 50), name = { "n1", "n2" } },
    function(r) return r.kind == "a" and r.size and r.size <= 50 and (r.name == "n1"
      or r.name == "n2") end },
}

-- ask has the reader answer all questions, some of them from its cache, and compares.
local function ask(rows, what)
  for i, q in ipairs(questions) do
    local n = 0
    for _, r in pairs(rows) do n = n + (q[2](r) and 1 or 0) end
    assert.equal(n, Reader:where(q[1]):count(), ("%s: question %d"):format(what, i))
  end
end

-- costs returns what an answer took: round trips, bytes of columns, bytes from the cache.
local function costs(q)
  local trips, bytes, cached = q:explain { analyze = true }
    :match "(%d+) round trips?, (%d+) bytes? of columns and (%d+) from the cache"
  return { trips = tonumber(trips), bytes = tonumber(bytes), cached = tonumber(cached) }
end

local function fill(n)
  local list = {}
  for i = 1, n do
    list[i] = { kind = ({ "a", "b", "c" })[i % 3 + 1], size = i % 101, name = "n" .. i % 7 }
  end
  return Writer:create_many(list)
end

describe("the cache of columns", function()
  case("answers without reading columns that did not change", function()
    fill(500)
    local q = Reader:where { kind = "a", size = between(3, 70) }:limit(5)
    local first = costs(q)
    assert.is_true(first.bytes > 0)
    assert.equal(0, first.cached)
    costs(q)
    local third = costs(q)
    assert.equal(0, third.bytes)
    assert.equal(first.bytes, third.cached)
    assert.is_true(third.trips <= first.trips)
  end)

  case("reads a column that it lacks beside those that it has", function()
    fill(500)
    for _ = 1, 3 do Reader:where { kind = "a", size = between(3, 70) }:count() end
    local mixed = costs(Reader:where { kind = "b", size = between(3, 70) }:limit(5))
    assert.is_true(mixed.bytes > 0)
    assert.is_true(mixed.cached > 0)
  end)

  case("sees what others write, whatever they do", function()
    local rows, objects = {}, {}
    for _, r in ipairs(fill(300)) do
      objects[#objects + 1] = r
      rows[r.id] = { kind = r.kind, size = r.size, name = r.name }
    end
    local kinds = { "a", "b", "c" }
    math.randomseed(11)
    local random = math.random
    local changes = {
      create = function()
        local r = Writer:create { kind = kinds[random(3)], size = random(0, 100),
          name = random(3) > 1 and "n" .. random(7) or nil }
        objects[#objects + 1] = r
        rows[r.id] = { kind = r.kind, size = r.size, name = r.name }
      end,
      save = function(r)
        local change = random(4)
        if change == 1 then r.kind = kinds[random(3)] end
        if change == 2 then r.size = random(3) > 1 and random(0, 100) or nil end
        if change == 3 then r.name = random(3) > 1 and "n" .. random(7) or nil end
        if change == 4 then r.note = "x" .. random(100) end
        r:save()
        rows[r.id] = { kind = r.kind, size = r.size, name = r.name }
      end,
      increment = function(r)
        if not r.size or r.size >= 99 then return end
        r:increment("size", 1)
        rows[r.id].size = r.size
      end,
      delete = function(r, at)
        r:delete()
        rows[r.id] = nil
        table.remove(objects, at)
      end,
      many = function()
        Writer:where { kind = "a", size = between(10, 12) }:update { name = "n3" }
        for _, r in ipairs(objects) do
          if r.kind == "a" and r.size and r.size >= 10 and r.size <= 12 then
            r:reload()
            rows[r.id].name = "n3"
          end
        end
      end,
    }
    local names = { "create", "save", "save", "increment", "delete", "many" }
    for round = 1, 300 do
      local name = names[random(#names)]
      local at = random(#objects)
      if name ~= "many" or round % 5 == 0 then changes[name](objects[at], at) end
      ask(rows, ("round %d, %s"):format(round, name))
      if round % 3 == 0 then ask(rows, "again") end
      if round % 6 == 0 then ask(rows, "once more") end
    end
    assert.same({}, check_model(Writer))
  end)

  case("sees increments, and rows that no index but that of all rows has", function()
    local rows = fill(5)
    local q = Reader:where { size = 50 }
    for _ = 1, 3 do assert.equal(0, q:count()) end
    rows[1]:increment("size", 50 - rows[1].size)
    for _ = 1, 3 do assert.equal(1, q:count()) end
    local function plain()
      return model.define("cached_plain", { id = field.integer { primary_key = true, auto = true },
        note = field.string {} })
    end
    local One, Two = plain(), plain()
    One:drop()
    local row = One:create_many({ {}, {}, {} })[2]
    for _ = 1, 3 do assert.equal(3, Two:rows():count()) end
    row:delete()
    for _ = 1, 3 do assert.equal(2, Two:rows():count()) end
    One:drop()
  end)

  case("sees what expires and is swept", function()
    local r = Writer:create { kind = "a", size = 1 }
    Writer:create { kind = "a", size = 2 }
    for _ = 1, 3 do assert.equal(2, Reader:where { kind = "a" }:count()) end
    r:expire(0.02)
    neap.sleep(0.05)
    for _ = 1, 3 do assert.equal(1, Reader:where { kind = "a" }:count()) end
    Writer:sweep()
    for _ = 1, 3 do assert.equal(1, Reader:where { kind = "a" }:count()) end
  end)

  case("sees what verify repairs", function()
    fill(10)
    redis:setbit("{cached}/kind.0=a", 100, 1)  -- ghosts
    redis:setbit("{cached}/@rows.0", 101, 1)
    redis:setrange("{cached}/size.0", 102, "\5")
    redis:call("SADD", "{cached}/name.0~n1", 103)
    local q = Reader:where { kind = "a" }
    local ghost = Reader:where { size = between(4, 4) }
    local rows, sized = 0, 0
    for _ = 1, 3 do rows, sized = q:count(), ghost:count() end
    assert.is_true(Writer:verify { repair = true }.repaired > 0)
    local fresh = define()
    for _ = 1, 3 do
      assert.equal(fresh:where { kind = "a" }:count(), q:count())
      assert.equal(fresh:where { size = between(4, 4) }:count(), ghost:count())
      assert.equal(10, Reader:rows():count())
    end
    assert.is_true(rows >= q:count() and sized >= ghost:count())
    assert.same({}, check_model(Writer))
  end)

  case("does not outlive the data", function()
    fill(100)
    for _ = 1, 3 do assert.equal(100, Reader:rows():count()) end
    Writer:drop()
    assert.equal(0, Reader:rows():count())
    fill(40)
    for _ = 1, 3 do assert.equal(40, Reader:rows():count()) end
    redis:del("{cached}/@stamps")
    for _ = 1, 3 do assert.equal(40, Reader:rows():count()) end
    Writer:create { kind = "a" }
    for _ = 1, 3 do assert.equal(41, Reader:rows():count()) end
  end)

  case("leaves other segments in peace when one changes", function()
    redis:call("HSET", "{cached}/@meta", "top", SEGMENT + 7, "hint", SEGMENT + 7)
    local there = Writer:create { kind = "a", size = 5 }
    redis:call("HSET", "{cached}/@meta", "hint", 0)
    local here = Writer:create { kind = "a", size = 5 }
    local q = Reader:where { kind = "a", size = between(3, 70) }
    for _ = 1, 3 do assert.equal(2, q:count()) end
    local stamps = redis:get "{cached}/@stamps"
    assert.equal(16, #stamps)
    here.size = 80
    here:save()
    assert.equal(1, q:count())
    local now = redis:get "{cached}/@stamps"
    assert.not_equal(stamps:sub(1, 8), now:sub(1, 8))
    assert.equal(stamps:sub(9), now:sub(9))
    there.note = "no column has this"
    there:save()
    assert.equal(now, redis:get "{cached}/@stamps")
  end)

  case("goes without when the stamps are no string", function()
    fill(10)
    redis:del("{cached}/@stamps")
    redis:call("RPUSH", "{cached}/@stamps", "x")
    for _ = 1, 3 do assert.equal(10, Reader:rows():count()) end
    assert.is_true(Writer:verify { repair = true }.repaired > 0)
    Writer:create { kind = "a" }
    for _ = 1, 3 do assert.equal(11, Reader:rows():count()) end
  end)
end)

describe("remembered ids", function()
  case("save a round trip", function()
    fill(50)
    local q = Reader:where { kind = "a" }:limit(5)
    Reader:where({ kind = "b" }):limit(5):all() -- it knows how many segments there are
    assert.equal(3, costs(q).trips)
    assert.equal(2, costs(q).trips)
  end)

  case("are asked for again when another row has the ordinal", function()
    local rows = fill(6)
    local q = Reader:rows()
    for _ = 1, 2 do assert.equal(6, #q:all()) end
    rows[3]:delete()
    local new = Writer:create { kind = "c", size = 77 } -- takes its ordinal
    assert.equal("2", redis:call("HGET", "{cached}:" .. new.id, "_n"))
    local found = q:all()
    assert.equal(6, #found)
    assert.equal(new.id, found[3].id)
    assert.equal(77, found[3].size)
    rows[4]:delete()
    assert.equal(5, #q:all())
  end)
end)
