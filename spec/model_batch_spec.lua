-- What the writes of one batch do to the same keys, which they enter together.
local neap = require "neap"
local check = require "support.model_check"
local case = require "support.case" (it)
local model, field = neap.model, neap.field
local redis = neap.redis "memory:"

local function define(name, key)
  local Thing = model.define(name, {
    id = key,
    n = field.integer { min = 0, max = 1000, index = true, sort = true },
    s = field.string { index = true },
    u = field.string { unique = true },
    b = field.boolean { index = true },
    e = field.enum { "x", "y", "z", index = true },
  }, { redis = redis })
  Thing:drop()
  return Thing
end

-- attributes of row i: some of them null
local function attributes(i, id)
  local choices = { "x", "y", "z" }
  return { id = id, n = i % 5 > 0 and i % 1000 or nil, s = "s" .. i % 3,
    b = i % 7 > 0 and i % 2 == 0 or nil, e = choices[i % 4] }
end

local function list_of(n, from)
  local list = {}
  for i = 1, n do list[i] = attributes(i + (from or 0)) end
  return list
end

-- at_once runs functions whose writes go out in one batch.
local function at_once(...)
  local tasks = {}
  for i, fn in ipairs { ... } do tasks[i] = neap.spawn(fn) end
  for _, task in ipairs(tasks) do task:join() end
end

describe("a batch of creates", function()
  for _, key in ipairs { field.integer { primary_key = true, auto = true },
    field.uuid { primary_key = true }, field.string { primary_key = true } } do
    local Thing
    before_each(function() Thing = define("batch", key) end)
    after_each(function() Thing:drop() end)

    case("of any size enters the indexes, whatever came before, by " .. key.type, function()
      local total = 0
      for _, size in ipairs { 1, 2, 31, 32, 33, 63, 64, 65, 255, 257, 600 } do
        local list = list_of(size, total)
        for i, row in ipairs(list) do row.id = key.type == "string" and "k" .. total + i or nil end
        Thing:create_many(list)
        total = total + size
        assert.same({}, check(Thing))
      end
      assert.equal(total, Thing:rows():count())
      assert.equal(math.ceil(total / 4), Thing:where({ e = "x" }):count())
    end)
  end
end)

describe("a batch", function()
  local Thing
  before_each(function() Thing = define("batch", field.string { primary_key = true }) end)
  after_each(function() Thing:drop() end)

  local function create(from, to)
    local list = {}
    for i = from, to do list[#list + 1] = attributes(i, "k" .. i) end
    return Thing:create_many(list)
  end

  case("of creates fills holes, and goes on behind the last row", function()
    local rows = create(1, 200)
    for i = 3, 190, 3 do rows[i]:delete() end
    create(301, 500)
    assert.same({}, check(Thing))
    assert.equal(200 - 63 + 200, Thing:rows():count())
  end)

  for _, place in ipairs { 1, 2, 33, 40, 41, 75 } do
    case("of creates in which row " .. place .. " alone has values, or alone has none", function()
      local values = { n = 7, s = "s", b = true, e = "z" }
      for i, has in ipairs { true, false } do
        local list = {}
        for j = 1, 80 do -- two batches, each of two words of bits
          local attrs = { id = i .. "." .. j }
          for name, v in pairs((j == place) == has and values or {}) do attrs[name] = v end
          list[j] = attrs
        end
        Thing:create_many(list)
        assert.same({}, check(Thing))
      end
      assert.same({ "1." .. place }, Thing:where({ e = "z", id = "1." .. place }):ids())
      assert.equal(80, Thing:where({ n = 7 }):count())
    end)
  end

  case("follows the other until a long list is stored, though its task is cancelled", function()
    local list = {}
    for i = 1, 2500 do list[i] = attributes(i, "k" .. i) end
    local task = neap.spawn(Thing.create_many, Thing, list)
    while redis:exists "{batch}:k1" == 0 do neap.sleep(0) end
    task:cancel()
    assert.is_false(pcall(task.join, task))
    while redis:exists "{batch}:k2500" == 0 do neap.sleep(0.001) end
    assert.same({}, check(Thing))
    assert.equal(2500, Thing:rows():count())
  end)

  case("of creates leaves out those that are refused", function()
    create(1, 40)
    Thing:create { id = "taken", u = "u7" }
    local list = {}
    for i = 1, 100 do
      list[i] = attributes(i, i % 10 == 0 and "k" .. i or "new" .. i)
      list[i].u = "u" .. i
    end
    list[50].u, list[51].u = "twice", "twice"
    local ok, err = pcall(Thing.create_many, Thing, list)
    assert.is_false(ok)
    for i = 1, 100 do
      local code = (i == 10 or i == 20 or i == 30 or i == 40) and "model.exists"
        or (i == 7 or i == 51) and "model.unique" or nil
      assert.equal(code, err.errors[i] and err.errors[i].code, i)
    end
    assert.same({}, check(Thing))
    assert.equal(41 + 94, Thing:rows():count())
  end)

  case("may free an ordinal and take it again", function()
    local rows = create(1, 3)
    for i = 1, 3 do
      at_once(function() rows[i]:delete() end,
        function() rows[i] = Thing:create(attributes(i + 4, "again" .. i)) end,
        function() Thing:create(attributes(i + 9, "more" .. i)) end)
      assert.same({}, check(Thing))
    end
    assert.equal(6, Thing:rows():count())
    assert.same({ "0", "1", "2" }, { redis:hget("{batch}:again1", "_n"),
      redis:hget("{batch}:again2", "_n"), redis:hget("{batch}:again3", "_n") })
  end)

  case("may set a bit and clear it again", function()
    local row = Thing:create { id = "a", b = true, e = "x", n = 1 }
    at_once(function() row:delete() end, -- clears true of the first ordinal
      function() Thing:create { id = "b", b = true, e = "y", n = 2 } end, -- sets it
      function() Thing:create { id = "c", b = false, e = "x" } end)
    assert.same({ "b" }, Thing:where({ b = true }):ids())
    assert.same({ "c" }, Thing:where({ e = "x" }):ids())
    assert.same({}, check(Thing))
    local b = Thing:load "b"
    at_once(function() Thing:increment("b", { n = 5 }) end, function() b:delete() end,
      function() Thing:create { id = "d", b = false, n = 9 } end)
    assert.same({}, check(Thing))
    assert.same({}, Thing:where({ b = true }):ids())
    assert.same({ "d" }, Thing:where({ n = 9 }):ids())
  end)

  case("with a create and an increment of its row ends with the increment", function()
    at_once(function() Thing:create { id = "a", n = 1 } end,
      function() Thing:create { id = "b", n = 1 } end,
      function() Thing:increment("a", { n = 5 }) end)
    assert.same({ "a" }, Thing:where({ n = 6 }):ids())
    assert.same({}, check(Thing))
  end)

  for _, key in ipairs { "b.0=1", "e.0=x", "n.0", "n", "s.0~s1", "s.0=s1", "@rows.0" } do
    case("that meets a list under " .. key .. " enters all else, and says so", function()
      create(1, 20)
      local name = "{batch}/" .. key
      redis:del(name)
      redis:lpush(name, "planted")
      create(21, 120)
      assert.equal(120, #redis:keys "{batch}:*")
      assert.is_truthy(redis:hget("{batch}/@meta", "broken"):find("WRONGTYPE", 1, true))
      assert.same({ "planted" }, redis:lrange(name, 0, -1))
      redis:del(name)
      Thing:verify { repair = true }
      redis:hdel("{batch}/@meta", "broken")
      assert.same({}, check(Thing))
      assert.equal(120, Thing:rows():count())
    end)
  end
end)

-- The rows of a model that has an index of each kind: full says whether all fields
-- have values.
local function wide_attributes(i, full)
  local function maybe(k, value)
    if full or i % k > 0 then return value end
  end
  return { n = maybe(3, i % 50), u = maybe(2, "u" .. i), lex = maybe(5, "l" .. i % 9),
    tags = maybe(7, { "t" .. i % 4, "t" .. i % 3 }), flags = maybe(4, { i % 2 == 0 }),
    at = maybe(6, i + 0.5), day = maybe(5, ("2026-11-%02d"):format(i % 28 + 1)),
    e = maybe(3, i % 2 == 0 and "x" or "y"), note = maybe(2, "note " .. i) }
end

local function define_wide(key)
  local Wide = model.define("wide", {
    id = key,
    n = field.integer { min = 0, max = 100, index = true, sort = true },
    u = field.string { unique = true },
    lex = field.string { sort = true },
    tags = field.set(field.string, { index = true }),
    flags = field.list(field.boolean, { index = true }),
    at = field.time { sort = true },
    day = field.date { index = true, sort = true, min = "2026-01-01", max = "2026-12-31" },
    e = field.enum { "x", "y", index = true },
    note = field.text(),
  }, { redis = redis, ttl = true, indexes = { { "e", "n" } } })
  Wide:drop()
  return Wide
end

for _, key in ipairs { field.integer { primary_key = true, auto = true },
  field.uuid { primary_key = true }, field.string { primary_key = true } } do
  describe("a batch of new rows with " .. key.type .. " keys", function()
    local Wide
    before_each(function() Wide = define_wide(key) end)
    after_each(function() Wide:drop() end)

    local function list_from(from, n, full)
      local list = {}
      for i = 1, n do
        list[i] = wide_attributes(from + i, full)
        list[i].id = key.type == "string" and "k" .. from + i or nil
      end
      return list
    end

    for _, full in ipairs { true, false } do
      case("enters each kind of index, all values " .. (full and "there" or "or not"), function()
        local total = 0
        for _, size in ipairs { 1, 40, 600 } do
          Wide:create_many(list_from(total, size, full))
          total = total + size
          assert.same({}, check(Wide))
        end
        assert.equal("note 9", Wide:where({ u = "u9" }):one().note)
        assert.equal(total, Wide:rows():count())
        for _, row in ipairs(Wide:where({ e = "x" }):all()) do
          assert.is_true(row.e == "x" and (row.u == nil or row.u:match "%d+" % 2 == 0))
        end
      end)
    end

    case("enters the same behind holes as without", function()
      local rows = Wide:create_many(list_from(0, 30, false))
      rows[11]:delete()
      rows[29]:delete()
      Wide:create_many(list_from(100, 300, false))
      assert.same({}, check(Wide))
      assert.equal(328, Wide:rows():count())
    end)

    case("crosses from a segment into the next", function()
      Wide:create(list_from(0, 1, true)[1])
      redis:hset("{wide}/@meta", "hint", 65533, "top", 65533)
      Wide:create_many(list_from(1, 20, true))
      assert.equal(21, Wide:rows():count())
      assert.equal(1, redis:exists "{wide}/@rows.1")
      redis:hset("{wide}/@meta", "hint", 1)
      assert.same({}, check(Wide))
    end)

    case("is stored with its lives", function()
      Wide:create_many(list_from(0, 50, false), { ttl = 0.05 })
      Wide:create_many(list_from(50, 50, false), { ttl = 100 })
      assert.same({}, check(Wide))
      assert.equal(100, redis:zcard "{wide}/@expires")
      neap.sleep(0.06)
      assert.equal(50, Wide:rows():count())
      Wide:create_many(list_from(0, 50, true)) -- names and keys of rows whose time is over
      assert.equal(100, Wide:rows():count())
      assert.same({}, check(Wide))
    end)

    case("is refused row by row if unique values are taken, or of two rows", function()
      Wide:create_many(list_from(0, 10, true))
      local list = list_from(10, 40, true)
      list[7].u, list[21].u = "u3", list[20].u
      local ok, err = pcall(Wide.create_many, Wide, list)
      assert.is_false(ok)
      assert.same({ "model.unique", "model.unique" }, { err.errors[7].code, err.errors[21].code })
      assert.equal(10 + 38, Wide:rows():count())
      assert.same({}, check(Wide))
    end)

    case("has the first of two rows that want one unique value", function()
      local list = list_from(0, 40, true)
      list[3].u = list[2].u -- of the first batch: lists are shared out between two
      local ok, err = pcall(Wide.create_many, Wide, list)
      assert.is_false(ok)
      assert.equal("model.unique", err.errors[3].code)
      assert.equal(39, Wide:rows():count())
      assert.same({}, check(Wide))
    end)

    case("is refused whole by a server that is full", function()
      local own = require("support.redis").start()
      local client = neap.redis(own.url)
      local Full = model.define("full", { id = key, n = field.integer { sort = true } },
        { redis = client })
      Full:create { id = key.type == "string" and "first" or nil }
      client:config("SET", "maxmemory", 1)
      local list = {}
      for i = 1, 40 do list[i] = { n = i, id = key.type == "string" and "k" .. i or nil } end
      local ok, err = pcall(Full.create_many, Full, list)
      client:config("SET", "maxmemory", 0)
      assert.is_false(ok)
      assert.equal("redis.oom", err.code)
      assert.equal(1, Full:rows():count())
      assert.same({}, check(Full))
      client:close()
      own:stop()
    end)
  end)
end

describe("rows that the counter numbers", function()
  local Wide
  before_each(function() Wide = define_wide(field.integer { primary_key = true, auto = true }) end)
  after_each(function() Wide:drop() end)

  case("pass over ids that were given", function()
    Wide:create { id = 4 }
    Wide:create { id = 6 }
    local rows = Wide:create_many { {}, {}, {}, {}, {} }
    local ids = {}
    for i, row in ipairs(rows) do ids[i] = row.id end
    assert.same({ 1, 2, 3, 5, 7 }, ids)
    assert.same({}, check(Wide))
    assert.equal("7", redis:hget("{wide}/@meta", "id"))
  end)

  case("are kept apart where the counter leaves what is exact", function()
    Wide:create_many { {}, {} }
    for _, counter in ipairs { "9007199254740988", "9007199254740990", "-9007199254740996" } do
      redis:hset("{wide}/@meta", "id", counter)
      Wide:create_many { {}, {}, {}, {}, {}, {} }
    end
    assert.equal(20, #redis:keys "{wide}:*")
    assert.equal("20", redis:hget("{wide}/@meta", "top"))
  end)

  case("are refused if the counter is no number", function()
    for _, counter in ipairs { "seven", "7.5", "1e3", "" } do
      redis:hset("{wide}/@meta", "id", counter) -- the definition comes with the first row
      assert.is_false(pcall(Wide.create_many, Wide, { {}, {} }))
      assert.same({}, redis:keys "{wide}:*")
    end
    redis:hdel("{wide}/@meta", "id", "broken")
    Wide:create_many { {}, {} }
    assert.same({}, check(Wide))
  end)
end)
