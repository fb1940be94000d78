local neap = require "neap"
local process = require "support.process"
local eventually = require "support.eventually"
local case = require "support.case" (it)
local code_of, _, idle, assert_cancelled = require "support.cancel" (assert)

local redis

local function count_clients()
  return select(2, redis:client("LIST", "TYPE", "pubsub"):gsub("\n", "\n"))
end

local function calls_of(command)
  return tonumber(redis:info("commandstats"):match("cmdstat_" .. command .. ":calls=(%d+)")) or 0
end

local function listeners(channel) return redis:pubsub("NUMSUB", channel)[channel] end

-- payloads returns the next n messages' payloads.
local function payloads(sub, n)
  local list = {}
  for i = 1, n do list[i] = sub:next().payload end
  return list
end

-- drain returns what is there: all up to a message that is published now.
local function drain(sub, channel)
  redis:publish(channel, "the last")
  local list = {}
  for event in sub:events() do
    if event.payload == "the last" then return list end
    list[#list + 1] = event
  end
end

-- garbage is collected, and what its finalizers asked for is done.
local function collect()
  collectgarbage()
  collectgarbage()
  idle()
end

before_each(function()
  redis = neap.redis "memory:"
  redis:config("RESETSTAT")
end)

after_each(function()
  redis:close()
end)

describe("a subscription", function()
  case("gets the messages of its channels in order", function()
    local sub = redis:subscribe("a", { "b", { "c" } })
    for i = 1, 300 do redis:publish(({ "a", "b", "c", "d" })[i % 4 + 1], i) end
    for i = 1, 300 do
      local channel = ({ "a", "b", "c", "d" })[i % 4 + 1]
      if channel ~= "d" then
        assert.same({ channel = channel, payload = tostring(i) }, sub:next())
      end
    end
    sub:close()
  end)

  case("to patterns says which one matched", function()
    local sub = redis:psubscribe("news.*", { "w?ather" })
    redis:publish("news.it", "1")
    redis:publish("weather", "2")
    redis:publish("other", "3")
    assert.same({ pattern = "news.*", channel = "news.it", payload = "1" }, sub:next())
    assert.same({ pattern = "w?ather", channel = "weather", payload = "2" }, sub:next())
    assert.same({}, (drain(sub, "weather")))
    sub:close()
  end)

  case("to a channel and a pattern that matches gets both", function()
    local sub = redis:subscribe("news.it")
    sub:psubscribe "news.*"
    assert.equal(2, redis:publish("news.it", "x"))
    local first, second = sub:next(), sub:next()
    assert.same({ channel = "news.it", payload = "x" }, first)
    assert.same({ channel = "news.it", payload = "x", pattern = "news.*" }, second)
    sub:punsubscribe "news.*"
    assert.same({}, drain(sub, "news.it"))
    sub:close()
  end)

  case("takes names and payloads of any bytes", function()
    for _, name in ipairs { "", "\0", "a\0b", "\r\n", "*1\r\n$4\r\nPING\r\n", ("n"):rep(100000) } do
      local sub = redis:subscribe(name)
      for _, payload in ipairs { "", "\0\0", "\r\n", "+OK\r\n", ("x"):rep(1000000), name } do
        redis:publish(name, payload)
        local msg = sub:next()
        assert.is_true(msg.channel == name and msg.payload == payload)
      end
      sub:close()
    end
    local sub = redis:psubscribe "\r\n*"
    redis:publish("\r\n\0", "")
    assert.same({ channel = "\r\n\0", pattern = "\r\n*", payload = "" }, sub:next())
    sub:close()
  end)

  case("adds and leaves channels while it runs", function()
    local sub = redis:subscribe "a"
    sub:subscribe("b", { "c" })
    sub:unsubscribe("a", { "b" })
    sub:unsubscribe "never"
    eventually(function() return listeners "a" == 0 and listeners "b" == 0 end)
    redis:publish("a", 1)
    redis:publish("b", 2)
    assert.same({}, drain(sub, "c"))
    sub:subscribe("c", "a")
    assert.equal(1, listeners "a")
    assert.equal(1, redis:publish("c", "once"))
    assert.same({ "once" }, payloads(sub, 1))
    sub:close()
  end)

  case("asks for a channel again that it has just left", function()
    local sub = redis:subscribe "a"
    for i = 1, 50 do
      sub:unsubscribe "a"
      sub:subscribe "a"
      assert.equal(1, redis:publish("a", i))
      assert.equal(tostring(i), sub:next().payload)
    end
    sub:close()
  end)

  case("waits no longer for a channel that it leaves meanwhile", function()
    local sub = redis:subscribe "a"
    local t = neap.spawn(sub.subscribe, sub, "b")
    neap.sleep(0)
    sub:unsubscribe "b"
    neap.timeout(2, t.join, t)
    assert.same({}, drain(sub, "a"))
    sub:close()
  end)

  case("shares one connection with a hundred others, and each channel", function()
    local subs = {}
    neap.map(function(i) subs[i] = redis:subscribe("common", "own" .. i % 10) end,
      neap.map(function(i) return i end, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }))
    for i = 11, 100 do subs[i] = redis:subscribe("common", "own" .. i % 10) end
    assert.equal(1, count_clients())
    assert.equal(1, listeners "common")
    assert.equal(11, calls_of "subscribe")
    redis:publish("common", "all")
    redis:publish("own3", "some")
    for i = 1, 100 do
      assert.equal("all", subs[i]:next().payload)
      if i % 10 == 3 then assert.equal("some", subs[i]:next().payload) end
    end
    for i = 1, 99 do subs[i]:close() end
    idle()
    assert.equal(1, listeners "common")
    assert.equal(10, (calls_of "unsubscribe") + 1)
    subs[100]:close()
    eventually(function() return listeners "common" == 0 end)
    assert.equal(11, calls_of "unsubscribe")
  end)

  case("that overflows drops the oldest and says how many", function()
    local sub = redis:subscribe("a", { buffer = 3 })
    for i = 1, 10 do redis:publish("a", i) end
    eventually(function() return redis:publish("a", "end") == 1 end)
    redis:publish("a", "end2")
    neap.sleep(0.02)
    assert.same({ gap = "overflow", lost = 9 }, sub:next())
    assert.same({ "10", "end", "end2" }, payloads(sub, 3))
    redis:publish("a", "more")
    assert.same({ channel = "a", payload = "more" }, sub:next())
    local tiny = redis:subscribe("b", { buffer = 1 })
    for i = 1, 3 do redis:publish("b", i) end
    neap.sleep(0.02)
    assert.same({ gap = "overflow", lost = 2 }, tiny:next())
    assert.same({ "3" }, payloads(tiny, 1))
    sub:close()
    tiny:close()
  end)

  case("keeps no more memory than its buffer", function()
    local sub = redis:subscribe("a", { buffer = 10 })
    local text = ("x"):rep(10000)
    local function publish()
      redis:pipeline(function(p) for i = 1, 1000 do p:publish("a", i .. text) end end)
      collect()
      return collectgarbage "count"
    end
    publish()
    local before = publish()
    for _ = 1, 5 do publish() end
    assert.is_true(publish() < before + 1000) -- KB; 60 MB went by
    assert.equal("overflow", sub:next().gap)
    sub:close()
  end)

  case("is shared by the tasks that wait for it", function()
    local sub = redis:subscribe "a"
    local seen, count = {}, {}
    local tasks = {}
    for n = 1, 2 do
      tasks[n] = neap.spawn(function()
        for msg in sub:messages() do
          assert.is_nil(seen[msg.payload])
          seen[msg.payload] = true
          count[n] = (count[n] or 0) + 1
          neap.sleep(0)
        end
      end)
    end
    idle()
    for i = 1, 100 do redis:publish("a", i) end
    eventually(function() return (count[1] or 0) + (count[2] or 0) == 100 end)
    assert.is_true(count[1] > 0 and count[2] > 0)
    sub:close()
    for n = 1, 2 do tasks[n]:join() end
  end)

  case("that is closed ends the loops of all tasks, and gives nothing more", function()
    local sub = redis:subscribe "a"
    local ended = 0
    local tasks = {}
    for i = 1, 3 do
      tasks[i] = neap.spawn(function()
        for _ in sub:messages() do end -- luacheck: ignore
        for _ in sub:events() do end -- luacheck: ignore
        ended = ended + 1
      end)
    end
    idle()
    sub:close()
    for i = 1, 3 do tasks[i]:join() end
    assert.equal(3, ended)
    assert.is_nil(sub:next())
    sub:close()
    local full = redis:subscribe("b", { buffer = 2 })
    for i = 1, 5 do redis:publish("b", i) end
    neap.sleep(0.01)
    full:close()
    assert.is_nil(full:next())
    for _, name in ipairs { "subscribe", "psubscribe", "unsubscribe", "punsubscribe" } do
      assert.equal("redis.closed", code_of(full[name], full, "x"))
    end
  end)

  case("that is closed while it subscribes raises that", function()
    local sub = redis:subscribe "a"
    local t = neap.spawn(sub.subscribe, sub, "b")
    neap.sleep(0)
    sub:close()
    assert.equal("redis.closed", code_of(t.join, t))
  end)

  case("may be closed by one message's receiver while others get it", function()
    local subs, tasks, got = {}, {}, 0
    for i = 1, 10 do subs[i] = redis:subscribe "a" end
    for i = 1, 10 do
      tasks[i] = neap.spawn(function()
        for _ in subs[i]:messages() do
          got = got + 1
          for k = 1, 10 do subs[k]:close() end
        end
      end)
    end
    idle()
    redis:publish("a", 1)
    for i = 1, 10 do tasks[i]:join() end
    assert.is_true(got >= 1)
  end)

  case("whose wait is cancelled or timed out loses no message", function()
    local sub = redis:subscribe "a"
    local t = neap.spawn(sub.next, sub)
    idle()
    t:cancel()
    assert_cancelled(t.join, t)
    assert.equal("timeout", code_of(neap.timeout, 0.01, sub.next, sub))
    redis:publish("a", 1)
    assert.equal("1", sub:next().payload)
    t = neap.spawn(sub.subscribe, sub, "b")
    neap.sleep(0)
    t:cancel()
    assert_cancelled(t.join, t)
    t = neap.spawn(redis.subscribe, redis, "never")
    neap.sleep(0)
    t:cancel()
    assert_cancelled(t.join, t)
    eventually(function() return listeners "never" == 0 and listeners "b" == 0 end)
    sub:close()
  end)

  case("that nobody holds is given up", function()
    do
      redis:subscribe("forgotten", "too")
    end
    assert.equal(1, listeners "forgotten")
    collect()
    eventually(function() return listeners "forgotten" == 0 and listeners "too" == 0 end)
  end)

  case("that a task waits for is not collected", function()
    local got
    local t = neap.spawn(function()
      got = redis:subscribe("kept"):next()
    end)
    eventually(function() return listeners "kept" == 1 end)
    idle()
    collect()
    redis:publish("kept", "x")
    t:join()
    assert.same({ channel = "kept", payload = "x" }, got)
  end)

  case("may be forgotten while messages are given out", function()
    for round = 1, 30 do
      local kept = redis:subscribe "a"
      for i = 1, 30 do redis:subscribe("a", "b" .. i) end
      redis:pipeline(function(p)
        for i = 1, 60 do p:publish("a", i .. ("x"):rep(round * 50)) end
      end)
      for _ = 1, 60 do assert.is_string(kept:next().payload) end
      kept:close()
    end
    collect()
    eventually(function() return listeners "a" == 0 end)
  end)

  case("may be closed, or its client, by a finalizer while messages are given out", function()
    for _ = 1, 20 do
      local client = neap.redis "memory:"
      local subs = {}
      for i = 1, 20 do subs[i] = client:subscribe "a" end
      for i = 1, 200 do
        local p = newproxy(true)
        getmetatable(p).__gc = function()
          if i == 200 then client:close() elseif subs[i] then subs[i]:close() end
        end
      end
      pcall(client.pipeline, client, function(p)
        for i = 1, 500 do p:publish("a", i) end
      end)
      collect()
      pcall(client.close, client)
    end
  end)

  case("names a bad argument", function()
    local sub = redis:subscribe "a"
    local function assert_says(text, fn, ...)
      local ok, err = pcall(fn, ...)
      assert.is_false(ok)
      assert.matches(text, tostring(err), 1, true)
    end
    assert_says("#1 (a channel expected, got number)", redis.subscribe, redis, 1)
    assert_says("#2 (a channel expected, got boolean)", redis.subscribe, redis, "a", true)
    assert_says("#2 (a channel expected, got nil)", redis.subscribe, redis, "a", nil)
    assert_says("a channel expected, got number", redis.psubscribe, redis, { "a", { 3 } })
    assert_says("a channel expected, got no value", redis.subscribe, redis)
    assert_says("a channel expected, got no value", redis.subscribe, redis, {})
    assert_says("a channel expected, got no value", sub.subscribe, sub)
    assert_says("a channel expected, got no value", sub.unsubscribe, sub)
    assert_says("a channel expected, got function", sub.psubscribe, sub, print)
    assert_says("unknown option 'bufer'", redis.subscribe, redis, "a", { bufer = 1 })
    for _, n in ipairs { 0, -1, 0 / 0, 1 / 0, 1e9, "ten", true } do
      assert_says("option buffer", redis.subscribe, redis, "a", { buffer = n })
    end
    assert.equal(1, listeners "a")
    sub:close()
  end)

  case("does not keep the process alive, but who waits for it does", function()
    assert.equal(0, process.lua([[
      sub = require("neap").redis("memory:"):subscribe "a"
    ]]).status)
    local r = process.lua [[
      local neap = require "neap"
      local redis = neap.redis "memory:"
      local sub = redis:subscribe "a"
      neap.spawn(function()
        local t = neap.spawn(function() for msg in sub:messages() do print(msg.payload) end end)
        neap.sleep(0.05)
        redis:publish("a", "came")
        neap.sleep(0.05)
        t:cancel()
      end)
    ]]
    assert.equal(0, r.status)
    assert.equal("came\n", r.out)
    local child = process.start(require("luv").exepath(), { "-e", [[
      local redis = require("neap").redis "memory:"
      local sub = redis:subscribe "a"
      print "waiting"
      print(sub:next())
    ]] })
    child:wait_for "waiting"
    neap.sleep(0.1)
    assert.is_nil(child.status)
    child:kill "sigkill"
    child:wait()
  end)

  case("ends with its client: what came is given, then redis.closed raised", function()
    local client = neap.redis "memory:"
    local waiting, full = client:subscribe "a", client:subscribe "b"
    client:publish("b", 1)
    neap.sleep(0.01)
    local t = neap.spawn(waiting.next, waiting)
    local t2 = neap.spawn(full.subscribe, full, "c")
    neap.sleep(0)
    client:close()
    assert.equal("redis.closed", code_of(t.join, t))
    assert.equal("redis.closed", code_of(t2.join, t2))
    assert.equal("1", full:next().payload)
    assert.equal("redis.closed", code_of(full.next, full))
    assert.equal("redis.closed", code_of(full.subscribe, full, "x"))
    assert.equal("redis.closed", code_of(client.subscribe, client, "x"))
    full:close()
    assert.is_nil(full:next())
    waiting = nil -- luacheck: ignore
    collect()
  end)
end)
