local neap = require "neap"
local uv = require "luv"
local check = require "support.model_check"
local process = require "support.process"
local proxies = require "support.proxy"
local servers = require "support.redis"
local case = require "support.case" (it)
local model, field, null = neap.model, neap.field, neap.null

local function error_of(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok, "a failure was expected")
  assert.is_true(neap.is_error(err), tostring(err))
  return err
end

local function code_of(fn, ...) return error_of(fn, ...).code end

local function has(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q in %q"):format(part, tostring(text)))
end

local function fields()
  return {
    id = field.integer { primary_key = true, auto = true },
    n = field.integer { min = 0, max = 1000, index = true, sort = true },
    s = field.string { index = true },
    u = field.string { unique = true },
    b = field.boolean { index = true },
  }
end

local function wait_until(fn)
  while not fn() do neap.sleep(0.001) end
end

describe("a batch whose reply is lost", function()
  local server, direct, proxy, redis, Thing
  before_each(function()
    server = servers.start()
    direct = neap.redis(server.url)
    proxy = proxies.start(server.port)
    redis = neap.redis(proxy.url)
    Thing = model.define("thing", fields(), { redis = redis })
    Thing:sync()
  end)
  after_each(function()
    redis:close()
    direct:close()
    proxy:stop()
    server:stop()
  end)

  -- lose runs fn while the connection is cut after the server carried out
  -- its batch, before the reply arrives.
  local function lose(fn)
    local journal = direct:keys "{thing}/@journal:*"[1]
    local before = journal and direct:hgetall(journal)
    local function is_applied()
      journal = journal or direct:keys "{thing}/@journal:*"[1]
      if not journal then return false end
      local now = direct:hgetall(journal)
      return not before or now.a ~= before.a or now.b ~= before.b
    end
    proxy.delay = 0.02
    local task = neap.spawn(fn)
    wait_until(is_applied)
    proxy:cut()
    proxy.delay = 0
    return task:join()
  end

  case("is applied once: creates, saves, deletes", function()
    local ids = {}
    for i = 1, 8 do
      local row = lose(function() return Thing:create { n = i, s = "x", u = "u" .. i } end)
      ids[i] = row.id
    end
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8 }, ids)
    local rows = lose(function()
      local list = {}
      for i = 1, 600 do list[i] = { n = i, b = i % 2 == 0 } end
      return Thing:create_many(list)
    end)
    assert.equal(600, #rows)
    assert.equal(608, Thing:rows():count())
    local row = Thing:load(3)
    row.n, row.u = 500, "moved"
    lose(function() row:save() end)
    row.n = 501
    row:save()
    assert.equal(501, Thing:load(3).n)
    lose(function() Thing:load(4):delete() end)
    assert.is_nil(Thing:load(4))
    assert.equal(607, Thing:rows():count())
    assert.same({}, check(Thing))
  end)

  case("gives the verdict it had: a refusal stays one", function()
    Thing:create { u = "taken" }
    assert.equal("model.unique", lose(function()
      return code_of(Thing.create, Thing, { u = "taken" })
    end))
    assert.equal(1, Thing:rows():count())
  end)

  case("is applied once by eight tasks through a connection that keeps breaking", function()
    local is_over = false
    local chaos = neap.spawn(function()
      for _ = 1, 12 do
        neap.sleep(0.01)
        proxy:cut()
      end
      is_over = true
    end)
    local created = 0
    neap.map(function(worker)
      local i = 0
      while not is_over do
        i = i + 1
        local row = Thing:create { u = worker .. ":" .. i, n = i % 1000 }
        row.s = "saved"
        row:save()
        created = created + 1
      end
    end, { 1, 2, 3, 4, 5, 6, 7, 8 }, { concurrency = 8 })
    chaos:join()
    assert.is_true(created >= 8)
    wait_until(function() return pcall(redis.ping, redis) end)
    assert.equal(created, Thing:rows():count())
    assert.equal(created, Thing:where({ s = "saved" }):count())
    assert.same({}, check(Thing))
  end)
end)

describe("a server", function()
  case("that forgets its scripts is told them again", function()
    local redis = neap.redis()
    local Thing = model.define("forget", fields())
    local n = 0
    neap.map(function(worker)
      for i = 1, 60 do
        if worker == 1 and i % 20 == 0 then redis:script "FLUSH" end
        Thing:create { n = i }
        n = n + 1
      end
    end, { 1, 2, 3, 4 }, { concurrency = 4 })
    assert.equal(n, Thing:rows():count())
    assert.same({}, check(Thing))
    Thing:drop()
  end)

  case("that is emptied in the middle goes on from nothing, with true indexes", function()
    local server = servers.start()
    local redis = neap.redis(server.url)
    local Thing = model.define("empty", fields(), { redis = redis })
    local old = Thing:create { u = "u", s = "x" }
    neap.map(function(worker)
      for i = 1, 50 do
        if worker == 1 and i == 25 then redis:flushall() end
        Thing:create { s = "y", n = i }
      end
    end, { 1, 2, 3, 4 }, { concurrency = 4 })
    assert.same({}, check(Thing))
    old.s = "z"
    local err = error_of(old.save, old)
    assert.equal("model.gone", err.code)
    redis:flushall()
    assert.equal("model.gone", code_of(old.delete, old))
    assert.equal(0, Thing:rows():count())
    assert.equal(1, Thing:create({ u = "u" }).id)
    assert.equal("unchanged", Thing:sync())
    assert.same({}, check(Thing))
    redis:close()
    server:stop()
  end)

  case("that restarts with its append-only file has all that was answered", function()
    local server = servers.start { args = { "--appendonly", "yes", "--appendfsync", "always" } }
    local redis = neap.redis(server.url)
    local Thing = model.define("again", fields(), { redis = redis })
    local answered, is_over = 0, false
    local writer = neap.spawn(function()
      while not is_over do
        Thing:create { u = tostring(answered), s = "x", b = true }
        answered = answered + 1
      end
    end)
    wait_until(function() return answered > 50 end)
    server:kill()
    server:restart()
    local before = answered
    wait_until(function() return answered > before + 50 end)
    is_over = true
    writer:join()
    assert.equal(answered, Thing:rows():count())
    assert.same({}, check(Thing))
    redis:close()
    server:stop()
  end)
end)

describe("two processes on one server", function()
  case("leave rows, uniques and indexes true", function()
    local server = servers.start()
    local redis = neap.redis(server.url)
    local source = [[
      local neap = require "neap"
      local model, field = neap.model, neap.field
      local Both = model.define("both", {
        id = field.string { primary_key = true },
        n = field.integer { min = 0, max = 1000, index = true, sort = true },
        s = field.string { index = true },
        u = field.string { unique = true },
      })
      local seed, done = tonumber(arg[1]), 0
      local function random(n)
        seed = (seed * 1103515245 + 12345) % 2147483648
        return math.floor(seed / 65536) % n
      end
      neap.map(function()
        for _ = 1, 150 do
          local id = "k" .. random(12)
          local ok, err = pcall(function()
            local row = Both:load(id)
            if not row then
              Both:create { id = id, n = random(1000), s = "s" .. random(4), u = "u" .. random(9) }
            elseif random(4) == 0 then
              row:delete()
            else
              if random(2) == 0 then row.n = random(1000) end
              if random(2) == 0 then row.s = "s" .. random(4) else row.u = "u" .. random(9) end
              row:save()
            end
          end)
          if ok then
            done = done + 1
          elseif not neap.is_error(err) or not err.code:find "^model%.[egu][xon]" then
            error(err, 0)
          end
        end
      end, { 1, 2, 3, 4 }, { concurrency = 4 })
      print("done " .. done)]]
    local children = {}
    for i = 1, 2 do
      local dir = process.temp_dir()
      process.write(dir .. "/both.lua", source)
      children[i] = process.start(uv.exepath(), { dir .. "/both.lua", tostring(i * 7) },
        { env = { NEAP_REDIS_URL = server.url, NEAP_REDIS = false } })
      children[i].dir = dir
    end
    for _, child in ipairs(children) do
      child:wait()
      assert.equal(0, child.status, child.err)
      assert.is_true(tonumber(child.out:match "done (%d+)") > 100, child.out)
      process.remove(child.dir)
    end
    local Both = model.define("both", { id = field.string { primary_key = true },
      n = field.integer { min = 0, max = 1000, index = true, sort = true },
      s = field.string { index = true }, u = field.string { unique = true } }, { redis = redis })
    assert.same({}, check(Both))
    redis:close()
    server:stop()
  end)
end)

describe("a key that is of another type", function()
  local redis, Thing = neap.redis()
  before_each(function()
    Thing = model.define("planted", fields())
    Thing:drop()
    Thing:create { n = 1, s = "x", u = "u", b = true }
  end)
  after_each(function() Thing:drop() end)

  local plants = {
    ["n.0"] = function() return Thing:where({ n = 1 }):count() end,
    n = function() return Thing:where({ n = model.ge(0) }):order_by("n"):ids() end,
    ["s.0~x"] = function() return Thing:where({ s = "x" }):ids() end,
    ["b.0=1"] = function() return Thing:where({ b = true }):ids() end,
    ["b.0?"] = function() return Thing:where({ b = null }):count() end,
    ["u!"] = function() return Thing:where({ u = "u" }):ids() end,
    ["@rows.0"] = function() return Thing:rows():count() end,
    ["@ids.0"] = function() return Thing:rows():ids() end,
  }
  for key, ask in pairs(plants) do
    case(("under %s is an error to a query, never an empty answer"):format(key), function()
      redis:del("{planted}/" .. key)
      redis:lpush("{planted}/" .. key, "planted")
      local err = error_of(ask)
      assert.equal("model.damaged", err.code)
      has(err, "WRONGTYPE")
    end)
  end

  case("is noted in the meta hash when a write meets it", function()
    redis:del "{planted}/b.0=1"
    redis:lpush("{planted}/b.0=1", "planted")
    Thing:create { b = true, u = "v" }
    has(redis:hget("{planted}/@meta", "broken"), "{planted}/b.0=1")
  end)

  case("in the place of a row, of a unique index, refuses the write whole", function()
    redis:del "{planted}/u!"
    redis:lpush("{planted}/u!", "planted")
    assert.equal("model.damaged", code_of(Thing.create, Thing, { u = "w", n = 7 }))
    assert.equal(0, Thing:where({ n = 7 }):count())
    redis:del "{planted}:1"
    redis:lpush("{planted}:1", "planted")
    assert.equal("model.damaged", code_of(Thing.load, Thing, 1))
  end)

  case("a definition that another host changed is told, and nothing is written", function()
    local row = Thing:load(1)
    redis:hset("{planted}/@meta", "gen", "another")
    for _, fn in ipairs {
      function() Thing:create { n = 5 } end,
      function() row.n = 5 row:save() end,
      function() row:delete() end,
      function() Thing:where({ n = 1 }):all() end,
      function() Thing:rows():count() end,
    } do
      local err = error_of(fn)
      assert.equal("model.schema_changed", err.code)
      has(err, "model planted")
    end
    assert.equal("1", redis:hget("{planted}:1", "n"))
  end)
end)

describe("the end of the process", function()
  case("comes in order with many writes under way and queued", function()
    local r = require("support.process").neap({ "-e", [[
      local neap = require "neap"
      local field = neap.field
      local Thing = neap.model.define("thing", { id = field.integer { primary_key = true } })
      for i = 1, 3000 do neap.spawn(Thing.create, Thing, { id = i }) end
      neap.sleep(0)
      neap.stop(3)]] }, { env = { NEAP_REDIS = "memory" } })
    assert.equal(3, r.status, r.err)
  end)

  case("comes in order with a long list under way", function()
    local r = require("support.process").neap({ "-e", [[
      local neap = require "neap"
      local field = neap.field
      local Thing = neap.model.define("thing", { id = field.integer { primary_key = true } })
      local list = {}
      for i = 1, 3000 do list[i] = { id = i } end
      neap.spawn(Thing.create_many, Thing, list)
      while Thing:rows():count() == 0 do end
      neap.stop(3)]] }, { env = { NEAP_REDIS = "memory" } })
    assert.equal(3, r.status, r.err)
  end)
end)

describe("a client that is closed", function()
  case("fails what was queued, each write once", function()
    local server = servers.start()
    local redis = neap.redis(server.url)
    local Thing = model.define("closed", fields(), { redis = redis })
    Thing:sync()
    server:signal "sigstop"
    local failed = 0
    local tasks = {}
    for i = 1, 1200 do
      tasks[i] = neap.spawn(function()
        local ok, err = pcall(Thing.create, Thing, { n = 1 })
        if not ok and neap.is_error(err) then failed = failed + 1 end
      end)
    end
    neap.sleep(0.02)
    redis:close()
    neap.timeout(5, function() for _, t in ipairs(tasks) do t:join() end end)
    assert.equal(1200, failed)
    assert.is_false(pcall(Thing.create, Thing, { n = 1 }))
    server:signal "sigcont"
    server:stop()
  end)

  case("fails what a long list has left, and tells which rows were stored", function()
    local server = servers.start()
    local redis, direct = neap.redis(server.url), neap.redis(server.url .. "?name=direct")
    local Thing = model.define("closed", fields(), { redis = redis })
    Thing:sync()
    local list = {}
    for i = 1, 3000 do list[i] = { id = i, n = 1 } end
    local task = neap.spawn(function() return error_of(Thing.create_many, Thing, list) end)
    wait_until(function() return direct:exists "{closed}:1" == 1 end)
    redis:close()
    local err = neap.timeout(5, function() return task:join() end)
    assert.equal("redis.closed", err.code)
    local stored = 0
    for i = 1, 3000 do
      assert.equal(not err.rows[i], err.errors[i] ~= nil, i)
      stored = stored + (err.rows[i] and direct:exists("{closed}:" .. i) or 0)
    end
    assert.is_true(stored < 3000 and #direct:keys "{closed}:*" >= stored)
    direct:close()
    server:stop()
  end)
end)
