local neap = require "neap"
local check = require "support.model_check"
local proxies = require "support.proxy"
local servers = require "support.redis"
local case = require "support.case" (it)
local error_of, code_of = require "support.failure" (assert)
local model, field, null = neap.model, neap.field, neap.null

local function has(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q in %q"):format(part, tostring(text)))
end

local server, direct, proxy, redis, Author, Item

local function fields()
  return {
    id = field.integer { primary_key = true, auto = true },
    small = field.integer { min = 0, max = 1000, index = true },
    number = field.number { sort = true },
    kind = field.enum { "a", "b", index = true },
    is_on = field.boolean { index = true },
    name = field.string { index = true },
    path = field.string { sort = true },
    code = field.string { unique = true },
    group = field.string { index = true },
    rank = field.integer {},
    author = field.ref(Author) { index = true },
    note = field.string {},
  }
end

-- define defines the models for a client.
local function define(client)
  Author = model.define("fault_author", { id = field.integer { primary_key = true, auto = true },
    name = field.string { index = true } }, { redis = client })
  return model.define("fault_item", fields(), { indexes = { { "group", "rank" } },
    redis = client })
end

local function fill(n)
  Author:create_many { { name = "Ada" }, { name = "Bob" } }
  local list = {}
  for i = 1, n do
    list[i] = { small = i % 100, number = i, kind = i % 2 == 0 and "a" or "b", is_on = i % 3 == 0,
      name = "n" .. i % 5, path = "p" .. i % 7, code = "c" .. i, group = "g" .. i % 2, rank = i,
      author = i % 3 + 1, note = "x" .. i % 2 }
  end
  Item:create_many(list)
end

setup(function()
  server = servers.start()
  direct = neap.redis(server.url)
end)
teardown(function()
  direct:close()
  server:stop()
end)

-- queries of each way to answer one; what they give is a list or a number
local function ways()
  local rows = Item:rows()
  return {
    all = function() return rows:all() end,
    ["by a condition"] = function()
      return Item:where({ kind = "a", small = { 1, 2, 4 } }):ids()
    end,
    ["along an ordered index"] = function() return rows:order_by("number", "desc"):ids() end,
    ["along an index of strings"] = function() return rows:order_by("path"):ids() end,
    ["along a compound index"] = function()
      return Item:where("group", "g1"):order_by("rank"):limit(300):ids()
    end,
    ["by a packed column"] = function() return rows:order_by("small"):order_by("number"):ids() end,
    ["by a unique field"] = function() return Item:where("code", { "c1", "c5" }):ids() end,
    ["by primary keys"] = function() return Item:where("id", { 1, 5, 7 }):ids() end,
    ["through a reference"] = function() return Item:where { ["author.name"] = "Bob" }:ids() end,
    ["with references"] = function() return rows:with("author"):limit(300):ids() end,
    ["a scan"] = function() return Item:where({ note = "x1" }, { scan = true }):ids() end,
    ["alternatives"] = function()
      return Item:where(model.any { kind = "a", { number = model.lt(100) } }):ids()
    end,
    ["a page"] = function()
      local _, cursor = rows:order_by("number"):page { size = 20 }
      return rows:order_by("number"):page({ size = 20, after = cursor })
    end,
    count = function() return rows:count() end,
    ["count of a range"] = function() return Item:where("number", model.gt(50)):count() end,
    exists = function() return Item:where("name", "n3"):exists() and 1 end,
    sum = function() return rows:sum "small" end,
    ["sum without an index"] = function() return rows:sum "rank" end,
    max = function() return rows:max "number" end,
    ["count by value"] = function() return rows:count_by("kind").a end,
    explain = function() return #Item:where("kind", "a"):explain() end,
    analyze = function()
      return tonumber(Item:where("kind", "a"):explain({ analyze = true }):match "(%d+) handed out")
    end,
  }
end

-- plain makes what a way gave comparable.
local function plain(result)
  if type(result) ~= "table" then return result end
  local list = {}
  for i, v in ipairs(result) do list[i] = type(v) == "table" and v.id or v end
  return list
end

local function expectations()
  local want = {}
  for name, ask in pairs(ways()) do want[name] = plain(ask()) end
  return want
end

describe("a query whose connection is lost in the middle", function()
  local want
  setup(function()
    direct:flushall()
    Item = define(direct)
    fill(700)
    proxy = proxies.start(server.port)
    redis = neap.redis(proxy.url .. "?timeout=0.5")
    Item = define(redis)
    want = expectations()
  end)
  teardown(function()
    redis:close()
    proxy:stop()
  end)

  -- ask_all runs each way, so many times, while disturb(n) is done; n goes from 1 to 16.
  local function ask_all(times, disturb)
    local answered, n = 0, 0
    for name, ask in pairs(ways()) do
      for _ = 1, times do
        n = n % 16 + 1
        local task = neap.spawn(ask)
        disturb(n)
        local ok, result = pcall(task.join, task)
        if ok then
          answered = answered + 1
          assert.same(want[name], plain(result), name)
        else
          assert.is_true(neap.is_error(result) and result.code:find "^redis%." ~= nil,
            name .. ": " .. tostring(result))
        end
      end
    end
    proxy.delay = nil
    assert.same(want, expectations())
    return answered
  end

  case("gives all that it has to, or an error of the client", function()
    local answered = ask_all(2, function(n)
      for _ = 1, n * 2 do neap.sleep(0) end
      proxy:cut()
    end)
    assert.is_true(answered > 10, answered)
  end)

  case("gives no part of a list either when replies come late", function()
    proxy.delay = 0.0005
    ask_all(1, function(n)
      neap.sleep(n * 0.0005)
      proxy:cut()
    end)
  end)

  case("fails in time when nothing comes any more", function()
    local failed = 0
    redis:set("x", 1)
    for _, name in ipairs { "all", "count", "along an ordered index", "through a reference",
      "sum" } do
      local ask = ways()[name]
      ask()
      proxy.is_hole = true
      local ok, err = pcall(neap.timeout, 0.02, ask)
      proxy.is_hole = false
      proxy:cut()
      assert.is_false(ok)
      assert.equal("timeout", err.code)
      failed = failed + 1
      assert.same(want[name], plain(ask()))
    end
    assert.equal(5, failed)
  end)

  case("loses no row of a loop, and repeats none, up to where it fails", function()
    for turn = 1, 8 do
      local ids = {}
      local ok, err = pcall(function()
        for row in Item:rows():order_by("number"):each() do
          ids[#ids + 1] = row.id
          if #ids == turn * 80 then proxy:cut() end
        end
      end)
      assert.is_true(ok and #ids == 700 or not ok and err.code:find "^redis%." ~= nil)
      for i, id in ipairs(ids) do assert.equal(i, id) end
    end
  end)
end)

describe("a query whose server", function()
  local uv = require "luv"

  -- list_of returns fn(1) ... fn(n).
  local function list_of(n, fn)
    local list = {}
    for i = 1, n do list[i] = fn(i) end
    return list
  end

  case("loses it the connection at one of its replies, gives all the same", function()
    Item = define(direct)
    Item:drop()
    fill(700)
    proxy = proxies.start(server.port)
    redis = neap.redis(proxy.url .. "?timeout=5")
    Item = define(redis)
    for name, ask in pairs { condition = ways()["by a condition"],
      walk = ways()["along an ordered index"], packed = ways()["by a packed column"] } do
      local want = ask()
      for reply = 1, 5 do
        proxy.delay = 0.005
        local task = neap.spawn(ask)
        neap.sleep(reply * 0.01 + 0.003)
        proxy:cut()
        proxy.delay = nil
        assert.same(want, task:join(), name .. reply)
      end
    end
    redis:close()
    proxy:stop()
  end)

  case("takes half of a transaction, is not sent its end alone", function()
    proxy = proxies.start(server.port)
    redis = neap.redis(proxy.url .. "?timeout=5")
    local Long = model.define("fault_long", {
      id = field.integer { primary_key = true, auto = true },
      name = field.string { index = true },
    }, { redis = redis })
    Long:drop()
    Long:create_many(list_of(5, function(i) return { name = "n" .. i } end))
    local q = Long:where("name", list_of(60, function(i)
      return "n" .. i .. ("x"):rep(i > 5 and 100 or 0)
    end))
    assert.equal(5, q:count())
    for i = 1, #proxy.sockets, 2 do proxy.sockets[i]:read_stop() end
    local tasks = list_of(1000, function() return neap.spawn(q.count, q) end)
    neap.sleep(0.3) -- until the socket takes no more
    proxy:cut()
    for _, task in ipairs(tasks) do
      local ok, n = pcall(task.join, task)
      assert.is_true(ok and n == 5 or neap.is_error(n, "redis.connect"), tostring(n))
    end
    redis:close()
    proxy:stop()
  end)

  case("has a clock that runs away, is asked a few times, not for ever", function()
    local ahead, rounds = 0, 0
    local listener = uv.new_tcp()
    assert(listener:bind("127.0.0.1", 0))
    assert(listener:listen(16, function()
      local a, b = uv.new_tcp(), uv.new_tcp()
      listener:accept(a)
      neap.await(b.connect, b, "127.0.0.1", server.port)
      a:read_start(function(_, data)
        if data then
          b:write(data)
        else
          a:close()
          b:close()
        end
      end)
      b:read_start(function(_, data) -- each TIME is 2 s further ahead than the one before
        if not data then return end
        a:write((data:gsub("(%*2\r\n%$10\r\n)(1%d%d%d%d%d%d%d%d%d)", function(head, s)
          rounds = rounds + 1
          if rounds < 40 then ahead = ahead + 2 end
          return head .. tonumber(s) + ahead
        end)))
      end)
    end))
    local client = neap.redis("redis://127.0.0.1:" .. listener:getsockname().port .. "?timeout=5")
    local Brief = model.define("fault_brief", { id = field.integer { primary_key = true,
      auto = true }, kind = field.enum { "a", "b", index = true } }, { redis = client, ttl = 3600 })
    Brief:create { kind = "a" }
    rounds = 0
    assert.equal(1, Brief:where("kind", "a"):count())
    assert.is_true(rounds > 1 and rounds < 10, rounds)
    client:close()
    listener:close()
  end)
end)

describe("a query that is cancelled", function()
  local want
  setup(function()
    direct:flushall()
    Item = define(direct)
    fill(700)
    want = expectations()
  end)

  case("at any wait leaves nothing behind, and the next one answers as before", function()
    local cancelled = 0
    for name, ask in pairs(ways()) do
      for turns = 0, 12 do
        local task = neap.spawn(ask)
        for _ = 1, turns do neap.sleep(0) end
        task:cancel()
        local ok, result = pcall(task.join, task)
        if ok then
          assert.same(want[name], plain(result), name)
        else
          assert.equal("cancelled", result.code)
          cancelled = cancelled + 1
        end
        if turns % 6 == 0 then collectgarbage() end
      end
      assert.same(want[name], plain(ask()), name)
    end
    assert.is_true(cancelled > 40)
    assert.same({}, check(Item))
  end)

  case("by a deadline says so", function()
    for name, ask in pairs(ways()) do
      if name ~= "explain" then -- which need not wait
        local ok, err = pcall(neap.timeout, 0.00005, function()
          for _ = 1, 10000 do ask() end
        end)
        assert.is_false(ok)
        assert.equal("timeout", err.code)
      end
    end
    assert.same(want, expectations())
  end)

  case("in one task leaves the query for others", function()
    local query = Item:where("kind", "a"):order_by "number"
    local ids = { unpack(query:ids()) }
    local tasks = {}
    for i = 1, 20 do tasks[i] = neap.spawn(query.ids, query) end
    neap.sleep(0)
    for i = 1, 20, 2 do tasks[i]:cancel() end
    for i = 2, 20, 2 do assert.same(ids, { unpack(tasks[i]:join()) }) end
    for i = 1, 20, 2 do pcall(tasks[i].join, tasks[i]) end
  end)
end)

describe("rows that changed behind the mapper", function()
  before_each(function()
    direct:flushall()
    Item = define(direct)
    fill(60)
  end)

  case("are left out when they do not match any more, whatever the index says", function()
    direct:hset("{fault_item}:2", "kind", "b")
    direct:hset("{fault_item}:4", "kind", "b")
    direct:hset("{fault_item}:3", "small", 999)
    direct:hset("{fault_item}:5", "number", 1e9)
    local function lacks(query, id)
      for _, one in ipairs(query:ids()) do assert.are_not.equal(id, one) end
    end
    for _, id in ipairs { 2, 4 } do
      lacks(Item:where("kind", "a"), id)
      lacks(Item:where("kind", "a"):order_by "number", id)
      lacks(Item:where(model.any { kind = "a", small = 999 }), id)
      lacks(Item:where("kind", model.ne "b"), id)
      lacks(Item:where { id = { 2, 4 }, kind = "a" }, id)
      assert.is_nil(Item:where { code = "c" .. id, kind = "a" }:first())
    end
    lacks(Item:where("small", 3), 3)
    lacks(Item:where("number", model.between(1, 10)):order_by "number", 5)
    assert.equal(28, #Item:where("kind", "a"):all())
    assert.equal(28, #Item:where("kind", "a"):pluck "id")
  end)

  case("or went away are passed over, in lists, pages and loops", function()
    for _, id in ipairs { 1, 2, 20, 21, 60 } do direct:del("{fault_item}:" .. id) end
    for name, query in pairs { all = Item:rows(), walked = Item:rows():order_by "number",
      down = Item:rows():order_by("number", "desc"), strings = Item:rows():order_by "path",
      packed = Item:rows():order_by "small", enum = Item:rows():order_by "kind",
      condition = Item:where("kind", { "a", "b" }),
      named = Item:where("code", { "c1", "c2", "c3" }) } do
      local many = name == "named" and 1 or 55
      assert.equal(many, #query:all(), name)
      assert.equal(many, #query:ids(), name)
      assert.is_truthy(query:first(), name)
      local n, cursor = 0, nil
      repeat
        local rows
        rows, cursor = query:page { size = 7, after = cursor }
        n = n + #rows
        assert.is_true(#rows == 7 or not cursor)
      until not cursor
      assert.equal(many, n, name)
    end
    assert.equal(3, #Item:rows():limit(3):all())
    assert.is_nil(Item:where("id", 1):first())
    assert.is_false(Item:where("id", { 1, 2 }):exists())
    assert.is_nil(Item:where("code", "c1"):one())
  end)

  case("or have another's ordinal are not taken for it", function()
    direct:hset("{fault_item}:2", "_n", "3")
    for _, row in ipairs(Item:rows():all()) do assert.are_not.equal(2, row.id) end
    direct:hset("{fault_item}:4", "_n", "garbage")
    assert.equal(58, #Item:rows():all())
  end)

  case("are what they are now, when they are updated or deleted by query", function()
    direct:hset("{fault_item}:2", "kind", "b")
    direct:del "{fault_item}:4"
    assert.equal(28, Item:where("kind", "a"):update { note = "seen" })
    assert.equal("x0", Item:load(2).note)
    assert.equal(28, Item:where("kind", "a"):delete())
    assert.is_table(Item:load(2))
  end)
end)

describe("a key of a wrong type", function()
  before_each(function()
    direct:flushall()
    Item = define(direct)
    fill(20)
  end)

  local function rows() return Item:rows() end
  local queries = {
    ["@rows.0"] = rows,
    ["@ids.0"] = rows,
    ["small.0"] = function() return Item:where("small", model.between(1, 9)) end,
    ["kind.0=a"] = function() return Item:where("kind", "a") end,
    ["kind.0?"] = function() return Item:where("kind", null) end,
    ["is_on.0=1"] = function() return Item:where("is_on", true) end,
    ["name.0~n1"] = function() return Item:where("name", "n1") end,
    ["author.0~1"] = function() return Item:where("author", 1) end,
    ["number"] = function() return Item:where("number", model.gt(3)) end,
    ["path<"] = function() return Item:where("path", model.prefix "p") end,
    ["code!"] = function() return Item:where("code", { "c1", "c2" }) end,
    ["group,rank=g1"] = function() return Item:where("group", "g1"):order_by("rank"):limit(3) end,
  }
  for key, query in pairs(queries) do
    case(("under %s is an error however the rows are asked for"):format(key), function()
      direct:del("{fault_item}/" .. key)
      direct:lpush("{fault_item}/" .. key, "planted")
      for _, ask in ipairs { "all", "first", "ids", "update", "delete", "one" } do
        local err = error_of(function()
          local q = query()
          return q[ask](q, ask == "update" and { note = "x" } or { all = true }, { all = true })
        end)
        assert.equal("model.damaged", err.code, ask)
        has(err, "WRONGTYPE")
      end
      assert.equal("model.damaged", code_of(function()
        for _ in query():each() do error "a row" end
      end))
      if key:find "^@rows" or not key:find "[@,]" then
        assert.equal("model.damaged", code_of(function() return query():count() end))
        assert.equal("model.damaged", code_of(function() return query():exists() end))
      end
    end)
  end

  case("in the place of a row is an error, not a missing row", function()
    direct:del "{fault_item}:5"
    direct:lpush("{fault_item}:5", "planted")
    for _, query in ipairs { Item:rows(), Item:where("id", { 4, 5 }), Item:where("code", "c5"),
      Item:rows():order_by "number", Item:rows():with "author" } do
      assert.equal("model.damaged", code_of(query.all, query))
    end
    assert.equal(4, Item:where("id", 4):first().id)
  end)
end)

describe("a query of an index under construction", function()
  local function host(is_new)
    return model.define("fault_built", {
      id = field.integer { primary_key = true, auto = true },
      small = field.integer { min = 0, max = 9, index = is_new, sort = is_new },
      name = field.string { index = is_new },
      code = field.string { unique = is_new },
      kind = field.enum { "a", "b", index = true },
    }, { redis = direct })
  end

  case("is refused by name until it is built; others go on", function()
    direct:flushall()
    local Old, list = host(nil), {}
    for i = 1, 30 do
      list[i] = { small = i % 10, name = "n" .. i % 3, code = "c" .. i, kind = i % 2 == 0 and "a"
        or "b" }
    end
    Old:create_many(list)
    local New = host(true)
    assert.is_false(pcall(New.sync, New, { progress = function() error "stop" end }))
    local Other = host(true)
    local Note = model.define("fault_note", { id = field.integer { primary_key = true,
      auto = true }, item = field.ref(Other) { index = true } }, { redis = direct })
    assert.equal(15, Other:where("kind", "a"):count()) -- takes the stored builds over
    local kind_a = Other:where("kind", "a")
    for _, ask in ipairs {
      function() return Other:where("small", 3) end,
      function() return Other:where("small", model.ne(3)) end,
      function() return Other:where("small", null) end,
      function() return Other:where(model.any { kind = "a", small = 3 }) end,
      function() return Other:where(model.none { name = "n1" }) end,
      function() return kind_a:where("name", "n1") end,
      function() return Other:where("code", "c1") end,
      function() return Other:rows():order_by "small" end,
      function() return kind_a:order_by("small", "desc") end,
      function() return Note:where { ["item.name"] = "n1" } end,
    } do
      local err = error_of(ask)
      assert.equal("model.building", err.code)
      has(err, "model fault_built")
      has(err, "under construction")
    end
    assert.equal(15, #kind_a:all())
    assert.equal(30, #Other:rows():all())
    assert.equal(135, Other:rows():sum "small")
    assert.equal(10, Other:rows():count_by("name").n1)
    assert.equal("updated", (New:sync()))
    local Third = host(true)
    assert.equal(3, Third:where("small", 3):count())
    assert.equal(10, #Third:where("name", "n1"):all())
    assert.equal(9, Third:rows():order_by("small", "desc"):first().small)
    assert.same({}, check(Third))
  end)
end)

describe("a query under another definition than the stored one", function()
  case("says so, whatever it is", function()
    direct:flushall()
    Item = define(direct)
    fill(20)
    local all_ways = ways()
    direct:hset("{fault_item}/@meta", "gen", "another")
    for name, ask in pairs(all_ways) do
      if name ~= "by primary keys" and name ~= "explain" then
        assert.equal("model.schema_changed", code_of(ask), name)
      end
    end
  end)
end)
