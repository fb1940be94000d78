local neap = require "neap"
local proxies = require "support.proxy"
local servers = require "support.redis"
local eventually = require "support.eventually"
local case = require "support.case" (it)
local _, code_of = require "support.failure" (assert)

local redis

local function listeners(channel) return redis:pubsub("NUMSUB", channel)[channel] end

-- kill_subscriptions cuts them on the server.
local function kill_subscriptions() redis:client("KILL", "TYPE", "pubsub") end

before_each(function() redis = neap.redis "memory:" end)
after_each(function() redis:close() end)

describe("a reconnect", function()
  case("after a kill tells each once, whether he waits or not", function()
    local waiting, idling = redis:subscribe "a", redis:subscribe("a", "b")
    local events = {}
    local t = neap.spawn(function()
      for event in waiting:events() do events[#events + 1] = event end
    end)
    redis:publish("b", "before")
    neap.sleep(0.01)
    kill_subscriptions()
    eventually(function() return listeners "b" == 1 and #events == 1 end)
    redis:publish("a", "after")
    eventually(function() return #events == 2 end)
    assert.same({ { gap = "reconnect" }, { channel = "a", payload = "after" } }, events)
    assert.equal("before", idling:next().payload)
    assert.same({ gap = "reconnect" }, idling:next())
    assert.equal("after", idling:next().payload)
    waiting:close()
    t:join()
    idling:close()
  end)

  case("time and again, with nobody there, is one gap", function()
    local sub = redis:subscribe("a", { buffer = 2 })
    for _ = 1, 3 do
      kill_subscriptions()
      eventually(function() return listeners "a" == 1 end)
      neap.sleep(0.005)
    end
    redis:publish("a", 1)
    assert.same({ gap = "reconnect" }, sub:next())
    assert.equal("1", sub:next().payload)
    kill_subscriptions()
    eventually(function() return listeners "a" == 1 end)
    for i = 1, 3 do redis:publish("a", i) end
    neap.sleep(0.01)
    assert.same({ gap = "overflow", lost = 1 }, sub:next())
    assert.same({ gap = "reconnect" }, sub:next())
    assert.same({ "2", "3" }, { sub:next().payload, sub:next().payload })
    sub:close()
  end)

  case("is not hidden by a channel that is just being added", function()
    local server = servers.start()
    local p = proxies.start(server.port)
    local client = neap.redis(p.url .. "?timeout=3")
    local sub = client:subscribe "a"
    p.is_hole = true
    local t = neap.spawn(sub.subscribe, sub, "b")
    neap.sleep(0.01)
    p.is_hole = false
    p:cut()
    t:join()
    client:publish("b", 1)
    assert.same({ gap = "reconnect" }, sub:next())
    assert.equal("b", sub:next().channel)
    client:close()
    p:stop()
    server:stop()
  end)

  case("after a cut, with patterns, and what was left meanwhile", function()
    local server = servers.start()
    local p = proxies.start(server.port)
    local client = neap.redis(p.url .. "?timeout=3")
    local sub = client:subscribe("a", "b")
    sub:psubscribe "p*"
    p.is_refusing = true
    p:cut()
    neap.sleep(0.02)
    sub:unsubscribe "b"
    local t = neap.spawn(sub.subscribe, sub, "c")
    neap.sleep(0.02)
    p.is_refusing = false
    t:join()
    assert.same({ a = 1, b = 0, c = 1 }, client:pubsub("NUMSUB", "a", "b", "c"))
    assert.equal(1, client:pubsub "NUMPAT")
    client:publish("p1", 1)
    assert.same({ gap = "reconnect" }, sub:next())
    assert.equal("p*", sub:next().pattern)
    client:close()
    p:stop()
    server:stop()
  end)

  case("after the server was restarted", function()
    local server = servers.start()
    local client = neap.redis(server.url .. "?timeout=5")
    local sub = client:subscribe "a"
    local t = neap.spawn(sub.next, sub)
    server:kill()
    neap.sleep(0.05)
    server:restart()
    assert.same({ gap = "reconnect" }, t:join())
    client:publish("a", "alive")
    assert.equal("alive", sub:next().payload)
    client:close()
    server:stop()
  end)

  case("comes when the server has fallen silent", function()
    local server = servers.start()
    local p = proxies.start(server.port)
    local client = neap.redis(p.url .. "?timeout=0.1&connect_timeout=0.2")
    local sub = client:subscribe "a"
    neap.sleep(0.5) -- pings are answered
    assert.equal(0, client:stats().reconnects)
    p.is_hole = true
    local t = neap.spawn(sub.next, sub)
    neap.sleep(0.5)
    p.is_hole = false
    assert.same({ gap = "reconnect" }, t:join())
    eventually(function() return (pcall(client.publish, client, "a", "healed")) end)
    assert.equal("healed", sub:next().payload)
    server:signal "sigstop"
    neap.sleep(0.5)
    server:signal "sigcont"
    assert.same({ gap = "reconnect" }, sub:next())
    client:close()
    p:stop()
    server:stop()
  end)
end)

describe("subscribing", function()
  local server
  before_each(function() server = servers.start() end)
  after_each(function() server:stop() end)

  local function open(more) return neap.redis(server.url .. (more or "?timeout=3")) end

  case("to what the ACL forbids raises NOPERM, and the others go on", function()
    local admin = open()
    admin:acl("SETUSER", "eve", "on", ">pw", "+@all", "~*", "resetchannels", "&ok*")
    local client = neap.redis(("redis://eve:pw@127.0.0.1:%d?timeout=3"):format(server.port))
    local fine = client:subscribe "ok1"
    local function try() return client:subscribe("ok1", "secret") end
    local ok, err = pcall(try)
    assert.is_false(ok)
    assert.equal("redis.noperm", err.code)
    assert.equal("SUBSCRIBE", err.command)
    assert.matches("127.0.0.1:" .. server.port, err.address, 1, true)
    assert.is_nil(tostring(err):find("pw", 1, true))
    assert.equal("redis.noperm", code_of(try))
    assert.equal("redis.noperm", code_of(client.psubscribe, client, "secret*"))
    assert.equal(1, client:publish("ok1", "x"))
    assert.equal("x", fine:next().payload)
    local lost = client:subscribe("ok1", "ok2")
    admin:acl("SETUSER", "eve", "resetchannels", "&ok1")
    assert.equal("redis.noperm", code_of(function() while lost:next() do end end)) -- luacheck: ignore
    assert.same({ gap = "reconnect" }, fine:next())
    lost:close()
    assert.is_nil(lost:next())
    client:close()
    admin:close()
  end)

  case("with a wrong password raises that", function()
    local client = neap.redis(("redis://:wrong@127.0.0.1:%d?timeout=3"):format(server.port))
    for _ = 1, 2 do
      local ok, err = pcall(client.subscribe, client, "a")
      assert.is_false(ok)
      assert.equal("redis.auth", err.code)
      assert.is_nil(tostring(err):find("wrong@", 1, true))
    end
    client:close()
  end)

  case("raises in time when there is no server, and leaves nothing behind", function()
    local port = servers.free_port()
    local client = neap.redis(("redis://127.0.0.1:%d?timeout=0.2"):format(port))
    local ok, err = pcall(client.subscribe, client, "a")
    assert.is_false(ok)
    assert.equal("redis.timeout", err.code)
    assert.equal("queued", err.phase)
    assert.matches("127.0.0.1:" .. port, err.address, 1, true)
    client:close()
  end)

  case("more in vain leaves the rest as it was", function()
    local client = open "?timeout=0.3"
    local sub = client:subscribe "a"
    server:signal "sigstop"
    assert.equal("redis.timeout", code_of(sub.subscribe, sub, "a", "b"))
    server:signal "sigcont"
    eventually(function() return (pcall(client.ping, client)) end)
    eventually(function() return client:pubsub("NUMSUB", "b").b == 0 end)
    eventually(function() return client:publish("a", "x") == 1 end)
    local event
    repeat event = sub:next() until event.payload
    assert.equal("x", event.payload)
    client:close()
  end)
end)
