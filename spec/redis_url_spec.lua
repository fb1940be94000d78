local neap = require "neap"
local uv = require "luv"
local servers = require "support.redis"
local process = require "support.process"
local case = require "support.case" (it)
local error_of, code_of = require "support.failure" (assert)

describe("a client by URL", function()
  local server, redis
  setup(function()
    server = servers.start { password = "se:cret/1", args = { "--unixsocket", "redis.sock" } }
    server.url = ("redis://:se%%3Acret%%2F1@127.0.0.1:%d"):format(server.port)
    redis = neap.redis(server.url)
    redis:call("ACL", "SETUSER", "ada", "on", ">pw", "allkeys", "allcommands")
  end)
  teardown(function() server:stop() end)

  local function url(user, rest)
    return ("redis://%s127.0.0.1:%d%s"):format(user, server.port, rest or "")
  end

  case("gives its password, or user and password", function()
    assert.equal("default", redis:call("ACL", "WHOAMI"))
    local ada = neap.redis(url "ada:pw@")
    assert.equal("ada", ada:call("ACL", "WHOAMI"))
    assert.is_nil(ada:blpop("absent", 0.01))
    ada:close()
  end)

  case("with a wrong password fails at each call, at once and without retrying", function()
    for _, user in ipairs { ":wrong@", "ada:wrong@", "nobody:pw@" } do
      local c = neap.redis(url(user))
      for _ = 1, 2 do
        local err = error_of(c.get, c, "k")
        assert.is_true(neap.is_error(err, "redis.auth"), tostring(err))
        assert.matches("WRONGPASS", err.message)
        assert.is_nil(err.message:find "wrong@")
      end
      assert.equal("redis.auth", code_of(c.blpop, c, "k", 1))
      assert.equal(0, c:stats().in_use)
      c:close()
    end
    local c = neap.redis(url "")
    assert.matches("NOAUTH", error_of(c.get, c, "k").message)
    c:close()
  end)

  case("selects its database, for blocking commands too", function()
    local two = neap.redis(url(":se%3Acret%2F1@", "/2"))
    two:set("k", "in two")
    two:rpush("l", "x")
    assert.is_nil(redis:get "k")
    assert.same({ "l", "x" }, two:blpop("l", 1))
    two:close()
    local bad = neap.redis(url(":se%3Acret%2F1@", "/99"))
    assert.equal("redis.auth", code_of(bad.get, bad, "k"))
    bad:close()
  end)

  case("names its connections", function()
    local named = neap.redis(url(":se%3Acret%2F1@", "?name=my-app"))
    assert.equal("my-app", named:client "GETNAME")
    named:close()
  end)

  case("reaches a unix socket", function()
    local c = neap.redis("unix://:se%3Acret%2F1@" .. server.dir .. "/redis.sock?db=3")
    c:set("k", "by unix")
    assert.equal("by unix", c:get "k")
    c:close()
    c = neap.redis("unix://" .. server.dir .. "/absent.sock?timeout=0.05")
    assert.equal("redis.connect", code_of(c.get, c, "k"))
    c:close()
  end)

  case("is the same for the same URL until it is closed", function()
    local a = neap.redis(url("ada:pw@", "?name=x"))
    assert.equal(a, neap.redis(url("ada:pw@", "?name=x")))
    a:close()
    assert.are_not_equal(a, neap.redis(url("ada:pw@", "?name=x")))
    neap.redis(url("ada:pw@", "?name=x")):close()
  end)

  case("that is wrong is refused at once", function()
    for _, bad in ipairs { "", "http://x", "redis://h:99999", "redis://h?what=1", "127.0.0.1" } do
      if bad ~= "" then assert.equal("redis.url", code_of(neap.redis, bad)) end
    end
    assert.has_error(function() neap.redis(1) end)
    assert.has_error(function() neap.redis(true) end)
  end)

  case("closed with calls under way fails them, and all later ones", function()
    local c = neap.redis(url("ada:pw@", "?name=closing"))
    c:ping()
    local tasks = {
      neap.spawn(c.get, c, "k"),
      neap.spawn(c.blpop, c, "absent", 20),
      neap.spawn(c.pipeline, c, function(p) p:ping() p:ping() end),
      neap.spawn(c.multi, c, function(p) p:ping() end),
      neap.spawn(c.get, c, "cancelled too"),
    }
    while c:stats().in_use == 0 do neap.sleep(0) end
    tasks[5]:cancel()
    c:close()
    local _, err = pcall(tasks[2].join, tasks[2])
    assert.is_true(neap.is_error(err, "redis.closed"), tostring(err))
    for _, t in ipairs(tasks) do pcall(t.join, t) end
    for _, fn in ipairs { c.get, c.blpop, c.stats, c.lua, c.scan, c.client } do
      local ok, e = pcall(function() return fn(c, "k", 1) end)
      if fn == c.lua or fn == c.scan then
        e = ok and fn == c.lua and error_of(c:lua "return 1") or e
      end
      assert.is_true(neap.is_error(e, "redis.closed") or fn == c.scan, tostring(e))
    end
    c:close()
  end)

  case("closed in the same turn as its first call", function()
    for _, u in ipairs { url "ada:pw@", "redis://localhost:" .. server.port } do
      local c = neap.redis(u)
      local t = neap.spawn(c.get, c, "k")
      neap.sleep(0)
      c:close()
      assert.equal("redis.closed", code_of(t.join, t))
    end
  end)

  case("counts in its stats what it did", function()
    local c = neap.redis(url("ada:pw@", "?name=stats"))
    local s = c:stats()
    assert.same({ 0, 0, 0, 0, 0, 0, false, 1024 }, { s.created, s.in_use, s.idle, s.pending,
      s.reconnects, s.timeouts, s.connected, s.limit })
    c:ping()
    assert.is_true(c:stats().connected)
    c:blpop("absent", 0.01)
    assert.same({ 1, 1 }, { c:stats().created, c:stats().idle })
    assert.equal(1, redis:client("KILL", "ID", c:client "ID"))
    neap.sleep(0.01)
    assert.equal("PONG", c:ping())
    assert.equal(1, c:stats().reconnects)
    c:close()
  end)

  case("does not keep the process alive", function()
    local r = process.lua([[
      local redis = require("neap").redis()
      redis:ping()
      redis:blpop("absent", 0.01)
      print "end"
    ]], { env = { NEAP_REDIS_URL = server.url } })
    assert.same({ 0, "end\n", "" }, { r.status, r.out, r.err })
  end)

  case("from the environment", function()
    local r = process.lua("print(require('neap').redis():call('ACL', 'WHOAMI'))",
      { env = { NEAP_REDIS_URL = url "ada:pw@" } })
    assert.equal("ada\n", r.out)
    assert.is_truthy(uv.exepath())
  end)
end)
