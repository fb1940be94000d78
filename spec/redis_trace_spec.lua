local neap = require "neap"
local process = require "support.process"
local proxies = require "support.proxy"
local servers = require "support.redis"
local case = require "support.case" (it)
local error_of, code_of, failure_of = require "support.failure" (assert)
local _, _, idle = require "support.cancel" (assert)

local redis, events

local function trace(options)
  events = {}
  redis:trace(function(event) events[#events + 1] = event end, options)
end

local function commands()
  local list = {}
  for i, event in ipairs(events) do list[i] = event.command end
  return list
end

before_each(function()
  redis = neap.redis "memory:"
  redis:flushall()
end)

after_each(function() redis:close() end)

describe("redis:trace", function()
  case("gives an event with these fields for each call", function()
    trace()
    redis:set("k", "value")
    redis:call("get", "k")
    local t = neap.spawn(function() return redis:strlen "k" end)
    local line = debug.getinfo(1, "l").currentline - 1
    t:join()
    assert.same({ "SET", "GET", "STRLEN" }, commands())
    for _, event in ipairs(events) do
      local names = {}
      for name in pairs(event) do names[name] = true end
      names.request = nil
      assert.same({ command = true, task = true, duration = true, sent = true, received = true },
        names)
      assert.is_true(event.duration >= 0 and event.duration < 60)
    end
    assert.equal(#"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n", events[1].sent)
    assert.equal(#"+OK\r\n", events[1].received)
    assert.equal(#"$5\r\nvalue\r\n", events[2].received)
    assert.matches("redis_trace_spec.lua:" .. line, events[3].task, 1, true)
  end)

  case("tells of calls of every kind", function()
    local f = redis:lua "return 1"
    f()
    trace()
    redis:pipeline(function(p) p:set("a", 1) p:get "a" end)
    redis:multi(function(tx) tx:set("a", 1) end)
    redis:blpop("absent", 0.001)
    redis:hgetall "h"
    f()
    for _ in redis:scan() do end -- luacheck: ignore
    redis:watch("k", function(tx)
      tx:get "k"
      tx:multi(function(m) m:set("k", 1) end)
    end)
    redis:watch("k", function() end)
    assert.same({ "PIPELINE", "MULTI", "BLPOP", "HGETALL", "EVALSHA", "SCAN", "WATCH", "GET",
      "MULTI", "WATCH", "UNWATCH" }, commands())
    local get = #"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"
    assert.equal(get + #"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n", events[1].sent)
    assert.equal(#"+OK\r\n$1\r\n1\r\n", events[1].received)
  end)

  case("has values only if asked", function()
    trace()
    redis:set("k", "secret")
    assert.is_nil(events[1].args)
  end)

  case("with values has the arguments as they were passed", function()
    trace { values = true }
    local list = { "a", "b" }
    redis:set("k", "secret")
    redis:rpush("l", list)
    redis:call("GET", "k")
    redis:blpop("absent", 0.001)
    assert.same({ n = 2, "k", "secret" }, events[1].args)
    assert.same({ n = 2, "l", { "a", "b" } }, events[2].args)
    assert.same({ n = 1, "k" }, events[3].args)
    assert.same({ n = 2, "absent", 0.001 }, events[4].args)
    trace()
    redis:set("k", "secret")
    assert.is_nil(events[1].args)
  end)

  case("tells of failures", function()
    redis:set("k", "v")
    trace()
    local err = error_of(redis.incr, redis, "k")
    assert.equal(1, #events)
    assert.equal(err, events[1].error)
    assert.equal("INCR", events[1].error.command)
    assert.is_number(events[1].duration)
    local client = neap.redis(("redis://127.0.0.1:%d?timeout=0.1"):format(servers.free_port()))
    client:trace(function(event) events[#events + 1] = event end)
    err = error_of(client.get, client, "k")
    assert.equal(err, events[2].error)
    assert.equal("redis.connect", err.code)
    client:close()
  end)

  case("carries the number of the request", function()
    local http = neap.http
    if not http then return end
    trace()
    redis:ping()
    assert.is_true(events[1].request == nil or type(events[1].request) == "number")
  end)

  case("ends with false", function()
    trace()
    redis:ping()
    redis:trace(false)
    redis:ping()
    assert.equal(1, #events)
    redis:trace(nil)
    redis:ping()
    assert.matches("bad argument #1 to 'trace'", failure_of(redis.trace, redis, 7), 1, true)
  end)

  case("survives a tracer that raises, and keeps the reply", function()
    local count = 0
    redis:trace(function()
      count = count + 1
      error(count % 2 == 0 and { code = "mine" } or "mine")
    end)
    assert.equal("OK", redis:set("k", "v"))
    assert.equal("v", redis:get "k")
    assert.equal("redis.err", code_of(redis.incr, redis, "k"))
    assert.same({ "v" }, redis:pipeline(function(p) p:get "k" end))
    assert.equal(4, count)
    redis:trace(function() redis:close() end)
    assert.equal("PONG", redis:ping())
  end)

  case("survives a tracer that calls Redis, waits, or ends the trace", function()
    local count = 0
    redis:trace(function(event)
      count = count + 1
      redis:rpush("log", event.command)
      neap.sleep(0)
    end)
    neap.map(function(i) return redis:set("k" .. i, i) end, { 1, 2, 3 })
    redis:trace(false)
    assert.equal(3, count)
    assert.same({ "SET", "SET", "SET" }, redis:lrange("log", 0, -1))
    count = 0
    redis:trace(function()
      count = count + 1
      redis:trace(false)
    end)
    redis:ping()
    redis:ping()
    assert.equal(1, count)
  end)

  case("of true goes to the log, without values", function()
    local r = process.lua [[
      local redis = require("neap").redis "memory:"
      redis:trace(true)
      redis:set("the key", "the value")
      pcall(redis.lpush, redis, "the key", 1)
    ]]
    assert.equal(0, r.status)
    assert.matches("redis: SET [%d.]+ ms, 41 bytes sent, 5 received", r.err)
    assert.matches("redis: LPUSH [^\n]*WRONGTYPE", r.err)
    assert.is_nil(r.err:find("the value", 1, true))
  end)
end)

describe("slow calls", function()
  local slow = [[local s = redis.call('TIME')
    repeat local t = redis.call('TIME')
    until (t[1] - s[1]) * 1000000 + t[2] - s[2] > 30000 return 'done']]

  local function log_of(options, more)
    return process.lua(([[
      local neap = require "neap"
      local redis = neap.redis("memory:", %s)
      %s
      redis:eval(%q, 0)
      redis:ping()
    ]]):format(options, more or "", slow)).err
  end

  case("are logged from the limit on, with what they cost", function()
    local log = log_of "{ slow = 0.02 }"
    assert.matches("warn  redis: EVAL took 0%.%d+ s %(%d+ bytes sent, 10 received, task ", log)
    assert.is_nil(log:find("PING took", 1, true))
    assert.is_nil(log:find("TIME", 1, true))
  end)

  case("are not logged below it, nor without one, nor when they are meant to block", function()
    assert.equal("", log_of "{}")
    assert.equal("", log_of "{ slow = 0 }")
    assert.is_nil(log_of("{ slow = 0.01 }", "redis:blpop('absent', 0.05)"):find("BLPOP", 1, true))
  end)

  case("are logged ten in a second, and counted", function()
    local r = process.lua(([[
      local neap = require "neap"
      local redis = neap.redis("memory:", { slow = 0.02 })
      local tasks = {}
      for i = 1, 25 do tasks[i] = neap.spawn(redis.eval, redis, %q, 0) end
      for i = 1, 25 do tasks[i]:join() end
      local was = redis:stats().slow
      neap.sleep(1)
      redis:eval(%q, 0)
      print(was, redis:stats().slow)
    ]]):format(slow, slow))
    local _, told = r.err:gsub("EVAL took", "")
    local _, more = r.err:gsub("redis: more calls are slow", "")
    assert.same({ "25\t26\n", 11, 1 }, { r.out, told, more })
  end)

  case("are logged when a trace runs and after it, and each transaction's too", function()
    local log = log_of("{ slow = 0.02 }", "redis:trace(function() end)")
    assert.matches("EVAL took", log)
    assert.is_nil(log:find("PING took", 1, true))
    assert.matches("EVAL took", log_of("{ slow = 0.02 }",
      "redis:trace(function() end) redis:trace(false)"))
    assert.matches("EVAL took.*EVAL took", log_of("{ slow = 0.02 }",
      ("redis:watch('k', function(tx) tx:eval(%q, 0) end) ")
        :format(slow)))
  end)
end)

describe("an error", function()
  local server
  before_each(function() server = servers.start { password = "pass-word" } end)
  after_each(function() server:stop() end)

  local function assert_fields(expected, err)
    assert.is_true(neap.is_error(err), tostring(err))
    for name, value in pairs(expected) do assert.equal(value, err[name], name) end
    for _, value in pairs(err) do
      for _, secret in ipairs { "pass-word", "wrong-word", "the-value" } do
        assert.is_nil(tostring(value):find(secret, 1, true), value)
      end
    end
    assert.is_nil(tostring(err):find("the-value", 1, true))
    assert.matches("^redis://127.0.0.1:", err.address)
  end

  case("says which command failed, where, and how far it had come", function()
    local client = neap.redis(server.url .. "?timeout=3")
    local address = "redis://127.0.0.1:" .. server.port .. "/0"
    client:set("k", "v")
    local function fields(command, code, phase)
      return { command = command, code = code, phase = phase, address = address }
    end
    assert_fields(fields("LPUSH", "redis.wrongtype", "reply"),
      error_of(client.lpush, client, "k", "the-value"))
    assert_fields(fields("LPUSH", "redis.wrongtype", "reply"),
      error_of(client.call, client, "lpush", "k", "the-value"))
    assert_fields(fields("MULTI", "redis.execabort", "reply"),
      error_of(client.multi, client, function(tx) tx:set("k", "the-value") tx:call "NOSUCH" end))
    assert_fields(fields("BLPOP", "redis.wrongtype", "reply"),
      error_of(client.blpop, client, "k", 1))
    assert_fields(fields("LPUSH", "redis.wrongtype", "reply"),
      error_of(client.watch, client, "k", function(tx) tx:lpush("k", "the-value") end))
    assert_fields(fields("MULTI", "redis.execabort", "reply"),
      error_of(client.watch, client, "k", function(tx)
        tx:multi(function(m) m:call "NOSUCH" end)
      end))
    client:close()
  end)

  case("of the password does not repeat it", function()
    local client = neap.redis(("redis://:wrong-word@127.0.0.1:%d?timeout=3"):format(server.port))
    assert_fields({ command = "SET", code = "redis.auth", phase = "queued" },
      error_of(client.set, client, "k", "the-value"))
    assert_fields({ command = "WATCH", code = "redis.auth", phase = "queued" },
      error_of(client.watch, client, "k", function() end))
    client:close()
  end)

  case("of a silent, a lost and a missing server", function()
    local p = proxies.start(server.port)
    local client = neap.redis(("redis://:pass-word@127.0.0.1:%d?timeout=0.2"):format(p.port))
    client:ping()
    p.is_hole = true
    assert_fields({ command = "SET", code = "redis.timeout", phase = "sent" },
      error_of(client.set, client, "k", "the-value"))
    p.is_hole = false
    repeat neap.sleep(0.01) until (pcall(client.ping, client))
    local t = neap.spawn(client.eval, client, "while true do end", 0, "the-value")
    neap.sleep(0.01)
    p:cut()
    assert_fields({ command = "EVAL", code = "redis.unknown_outcome", phase = "sent" },
      error_of(t.join, t))
    p.is_refusing = true
    p:cut()
    assert_fields({ command = "SET", code = "redis.connect", phase = "queued" },
      error_of(client.set, client, "k", "the-value"))
    client:close()
    p:stop()
  end)
end)

describe("redis:stats", function()
  case("counts connections, calls that wait, bytes and what went wrong", function()
    local client = neap.redis("memory:", { pool = 2, timeout = 3 })
    assert.same({ created = 0, in_use = 0, idle = 0, limit = 2, waiting = 0, pending = 0,
      connected = false, sent = 0, received = 0, reconnects = 0, timeouts = 0, retries = 0,
      slow = 0 },
      client:stats())
    client:ping()
    assert.is_true(client:stats().connected)
    local sent, received = client:stats().sent, client:stats().received
    client:ping()
    assert.equal(#"*1\r\n$4\r\nPING\r\n", client:stats().sent - sent)
    assert.equal(#"+PONG\r\n", client:stats().received - received)
    local tasks = {}
    for i = 1, 4 do tasks[i] = neap.spawn(client.blpop, client, "l", 10) end
    local other = neap.spawn(client.get, client, "k")
    neap.sleep(0)
    local stats = client:stats()
    assert.equal(2, stats.in_use)
    assert.equal(2, stats.created)
    assert.equal(2, stats.waiting)
    assert.equal(1, stats.pending)
    other:join()
    client:rpush("l", 1, 2, 3, 4)
    for i = 1, 4 do tasks[i]:join() end
    idle()
    stats = client:stats()
    assert.equal(0, stats.in_use)
    assert.equal(2, stats.idle)
    assert.equal(0, stats.waiting)
    client:client("KILL", "TYPE", "normal", "SKIPME", "no")
    assert.equal("PONG", client:ping())
    assert.is_true(client:stats().reconnects >= 1)
    client:close()
    assert.equal("redis.closed", code_of(client.stats, client))
  end)
end)
