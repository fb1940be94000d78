local neap = require "neap"
local uv = require "luv"
local fake = require "support.fake_server"
local process = require "support.process"
local sentinel = require "support.sentinel"
local eventually = require "support.eventually"
local case = require "support.case" (it)
local error_of = require "support.failure" (assert)
local list = sentinel.list

-- started things are stopped after each test.
local started = {}

local function keep(thing)
  table.insert(started, thing)
  return thing
end

local function server(name) return keep(sentinel.server(name)) end
local function watcher(options) return keep(sentinel.fake(options)) end
local function open(url, options) return keep(neap.redis(url .. (options or "?timeout=5"))) end

after_each(function()
  for i = #started, 1, -1 do
    local thing = started[i]
    if thing.close then thing:close() else thing:stop() end
  end
  started = {}
end)

-- closed_port returns a port that nobody listens on.
local function closed_port()
  local s = fake.start(function() end)
  s.stop()
  return s.port
end

local function has(commands, ...)
  for _, command in ipairs(commands) do
    if table.concat(command, " ") == table.concat({ ... }, " ") then return true end
  end
  return false
end

describe("sentinel://", function()
  case("leads to the primary that a sentinel names", function()
    local one = server "one"
    local s = watcher { one }
    local client = open(sentinel.url(s))
    assert.equal("one", client:get "k")
    assert.is_true(has(s.commands, "SENTINEL", "get-master-addr-by-name", "mymaster"))
    assert.is_true(has(one.commands, "ROLE"))
    assert.equal(1, one:live())
  end)

  case("has credentials for the sentinels and others for the servers", function()
    local one = server "one"
    local s = watcher { one }
    local client = open(("sentinel://ann:hush@127.0.0.1:%d/mymaster/3"):format(s.port),
      "?sentinel_user=sam&sentinel_password=still")
    assert.equal("one", client:get "k")
    assert.is_true(has(s.commands, "AUTH", "sam", "still"))
    assert.is_false(has(s.commands, "AUTH", "ann", "hush"))
    assert.is_false(has(s.commands, "SELECT", "3"))
    assert.is_true(has(one.commands, "AUTH", "ann", "hush"))
    assert.is_true(has(one.commands, "SELECT", "3"))
    eventually(function() return has(s.commands, "SUBSCRIBE", "+switch-master") end)
  end)

  case("shows no password in an error", function()
    local s = watcher { server "one", reply = "-NOAUTH Authentication required.\r\n" }
    local err = error_of(function()
      open(("sentinel://ann:hush@127.0.0.1:%d/mymaster"):format(s.port),
        "?sentinel_password=still&timeout=0.2"):get "k"
    end)
    assert.equal("redis.sentinel", err.code)
    assert.is_nil(tostring(err):find "hush")
    assert.is_nil(tostring(err):find "still")
  end)

  case("takes a host name for an address", function()
    local s = watcher { server "one", host = "localhost" }
    assert.equal("one", open(sentinel.url(s)):get "k")
  end)

  case("takes an IPv6 address", function()
    local one = server "one"
    local listener = uv.new_tcp()
    if not listener:bind("::1", 0) then
      listener:close()
      return
    end
    keep { close = function() listener:close() end }
    listener:listen(8, function()
      local a, b = uv.new_tcp(), uv.new_tcp()
      listener:accept(a)
      neap.await(b.connect, b, "127.0.0.1", one.port)
      for from, to in pairs { [a] = b, [b] = a } do
        from:read_start(function(_, data)
          if data then
            to:write(data)
          elseif not to:is_closing() then
            to:close()
            if not from:is_closing() then from:close() end
          end
        end)
      end
    end)
    local s = watcher { one, reply = list("::1", listener:getsockname().port) }
    local client = open(sentinel.url(s))
    assert.equal("one", client:get "k")
    client:close()
  end)
end)

describe("a sentinel that does not help", function()
  local odd = {
    garbage = "HTTP/1.1 400 Bad Request\r\n\r\n",
    zeros = "\0\0\0\0\0",
    ["an error"] = "-NOAUTH Authentication required.\r\n",
    ["nil"] = "*-1\r\n",
    ["a nil string"] = "$-1\r\n",
    ["a status"] = "+OK\r\n",
    ["a number"] = ":6379\r\n",
    ["an empty list"] = "*0\r\n",
    ["a host alone"] = list "127.0.0.1",
    ["no port"] = "*2\r\n$9\r\n127.0.0.1\r\n$-1\r\n",
    ["numbers"] = "*2\r\n:127\r\n:6379\r\n",
    ["too much"] = list("127.0.0.1", "6379", "6380"),
    ["a list in a list"] = "*1\r\n" .. list("127.0.0.1", "6379"),
    ["lists in a list"] = "*2\r\n" .. list "127.0.0.1" .. list "6379",
    ["an error in a list"] = "*2\r\n$9\r\n127.0.0.1\r\n-ERR no\r\n",
    ["port 0"] = list("127.0.0.1", "0"),
    ["a port out of range"] = list("127.0.0.1", "65536"),
    ["a large port"] = list("127.0.0.1", "4294973675"),
    ["a negative port"] = list("127.0.0.1", "-1"),
    ["a port with more behind it"] = list("127.0.0.1", "6379x"),
    ["an empty port"] = list("127.0.0.1", ""),
    ["an empty host"] = list("", "6379"),
    ["a long host"] = list(("h"):rep(300), "6379"),
    ["a host with a zero"] = list("127.0.0.1\0.example", "6379"),
    ["too deep a list"] = ("*1\r\n"):rep(12) .. ":1\r\n",
  }
  for name, reply in pairs(odd) do
    case("but answers " .. name .. " is passed over", function()
      local first, second = watcher { reply = reply }, watcher { server "one" }
      assert.equal("one", open(sentinel.url(first, second)):get "k")
      assert.equal(1, first.questions)
    end)

    case("but answers " .. name .. ", alone, is named in the error", function()
      local s = watcher { reply = reply }
      local err = error_of(function() open(sentinel.url(s), "?timeout=0.05"):get "k" end)
      assert.equal("redis.sentinel", err.code)
      assert.is_truthy(tostring(err):find("127.0.0.1:" .. s.port .. ": ", 1, true), tostring(err))
    end)
  end

  case("but closes at once, or is not there, is passed over", function()
    local first = watcher { is_down = true }
    assert.equal("one", open(sentinel.url(first, watcher { server "one" })):get "k")
    assert.equal("one", open(sentinel.url({ port = closed_port() },
      watcher { server "one" })):get "k")
  end)

  case("but accepts and is silent is passed over", function()
    local first, second = watcher { is_silent = true }, watcher { server "one" }
    assert.equal("one", open(sentinel.url(first, second), "?connect_timeout=0.5"):get "k")
  end)

  case("but greets and then is silent is passed over", function()
    local first, second = watcher { reply = "" }, watcher { server "one" }
    assert.equal("one", open(sentinel.url(first, second), "?connect_timeout=0.5"):get "k")
  end)

  case("but cuts its answer off is passed over", function()
    local first = keep(fake.start(function(conn)
      conn:greet()
      conn:read()
      conn:write "*2\r\n$9\r\n127.0"
    end))
    assert.equal("one", open(sentinel.url(first, watcher { server "one" })):get "k")
  end)

  case("does not spoil its good answer by what it says of the others", function()
    for _, others in ipairs { "-ERR no\r\n", "*-1\r\n", "+OK\r\n", "HTTP/1.1 400\r\n\r\n",
      "*1\r\n" .. list("ip"), "*1\r\n" .. list("ip", "h", "port", "99999"),
      "*1\r\n" .. list("port", "6379"), "*1\r\n" .. list("ip", "", "port", "6379"),
      "*2\r\n*-1\r\n:3\r\n", list("ip", "h", "port", "6379"), ("*1\r\n"):rep(12) .. ":1\r\n" } do
      local s = watcher { server "one", others = others }
      local client = open(sentinel.url(s))
      assert.equal("one", client:get "k")
      s.others = "*0\r\n"
      s:die()
      s.primary:stop()
      client:close()
    end
  end)

  case("garbled at random does no harm", function()
    math.randomseed(7)
    local parts = { "*2\r\n", "$9\r\n127.0.0.1\r\n", "$4\r\n6379\r\n", "*-1\r\n", "$-1\r\n",
      ":1\r\n", "-ERR x\r\n", "+OK\r\n", "*1\r\n*2\r\n", "$2\r\nip\r\n", "$4\r\nport\r\n",
      "\r\n", "*",
      "$", "\0", "\255", "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$8\r\nmymaster\r\n" }
    local function garble()
      local out = {}
      for i = 1, math.random(1, 10) do out[i] = parts[math.random(#parts)] end
      return table.concat(out)
    end
    local garbled = 0
    local mad = keep(fake.start(function(conn)
      if math.random(4) > 1 then conn:greet() end
      conn:write(garble())
      garbled = garbled + 1
      if math.random(2) > 1 then conn:read() conn:write(garble()) end
    end))
    local sane = watcher { server "one" }
    for i = 1, 100 do
      local client = neap.redis(sentinel.url(mad, i % 2 == 0 and sane or mad) ..
        "?timeout=0.02&connect_timeout=0.1")
      local ok, v = pcall(client.get, client, "k")
      assert.is_true(ok and v == "one" or neap.is_error(v), tostring(v))
      client:close()
    end
    assert.is_true(garbled >= 100)
  end)
end)

describe("without a sentinel that helps", function()
  case("a call fails with redis.sentinel, which names each that was tried", function()
    local ports = { closed_port(), watcher({ is_silent = true }).port,
      watcher({ reply = "-ERR busy\r\n" }).port }
    local client = open(sentinel.url({ port = ports[1] }, { port = ports[2] }, { port = ports[3] }),
      "?timeout=0.2&connect_timeout=0.6")
    local err = error_of(client.get, client, "k")
    assert.equal("redis.sentinel", err.code)
    for _, port in ipairs(ports) do
      assert.is_truthy(tostring(err):find("127.0.0.1:" .. port .. ": ", 1, true), tostring(err))
    end
    assert.is_truthy(tostring(err):find("ERR busy", 1, true))
  end)

  case("an unknown name is said to be one", function()
    local err = error_of(function()
      open(sentinel.url(watcher { reply = "*-1\r\n" }), "?timeout=0.05"):get "k"
    end)
    assert.equal("redis.sentinel", err.code)
    assert.is_truthy(tostring(err):find("does not know that name", 1, true))
  end)

  case("all kinds of calls fail, and succeed when one comes back", function()
    local s = watcher { server "one", is_down = true }
    local client = open(sentinel.url(s), "?timeout=0.1")
    local calls = {
      function() return client:get "k" end,
      function() return client:blpop("q", 0) end,
      function() return client:subscribe "c" end,
      function() return error(client:pipeline(function(p) p:get "k" end)[1], 0) end,
    }
    for _, call in ipairs(calls) do
      local err = error_of(call)
      assert.is_true(err.code == "redis.sentinel" or err.code == "redis.timeout", tostring(err))
    end
    s.is_down = false
    eventually(function() return select(2, pcall(client.get, client, "k")) == "one" end)
    local sub
    eventually(function()
      local ok, v = pcall(client.subscribe, client, "c")
      sub = ok and v
      return ok
    end)
    sub:close()
  end)
end)

describe("a sentinel that is wrong", function()
  -- both_find runs calls on several connections at once, which all have to
  -- find the primary though the first sentinel leads astray.
  local function both_find(stale, right)
    local client = open(sentinel.url(stale, watcher { right }), "?timeout=10")
    local tasks = {}
    for i = 1, 3 do
      tasks[i] = neap.spawn(function() pcall(client.blpop, client, "q" .. i, 0) end)
    end
    local ok, v = pcall(client.get, client, "k")
    if not ok then error(v, 0) end
    assert.equal("one", v)
    eventually(function() return right:live() == 4 end, "all connections lead to the primary")
    client:close()
    for i = 1, 3 do tasks[i]:join() end
  end

  case("and names a replica is not believed", function()
    local replica = server "replica"
    replica.role = "slave"
    both_find(watcher { replica }, server "one")
    assert.is_false(has(replica.commands, "GET", "k"))
  end)

  case("and names a dead server is not believed", function()
    both_find(watcher { { port = closed_port(), stop = function() end } }, server "one")
  end)

  case("and names a sentinel is not believed", function()
    local other = server "other"
    other.role = "sentinel"
    both_find(watcher { other }, server "one")
  end)

  case("and alone, leads to redis.sentinel until it names a primary", function()
    local replica = server "replica"
    replica.role = "slave"
    local client = open(sentinel.url(watcher { replica }), "?timeout=0.1")
    assert.equal("redis.sentinel", error_of(client.get, client, "k").code)
    replica.role = "master"
    eventually(function() return select(2, pcall(client.get, client, "k")) == "replica" end)
  end)
end)

describe("the other sentinels", function()
  local function entry(s) return list("name", "x", "ip", "127.0.0.1", "port", s.port) end

  case("are learned, and asked when those of the URL are gone", function()
    local one, two = server "one", server "two"
    local second = watcher { two }
    local first = watcher { one, others = "*1\r\n" .. entry(second) }
    local client = open(sentinel.url(first))
    assert.equal("one", client:get "k")
    eventually(function() return first:is_watched() end)
    first:die()
    one.stop()
    eventually(function() return select(2, pcall(client.get, client, "k")) == "two" end)
    assert.is_true(second.questions > 0)
  end)

  case("that were made up do not stand in the way", function()
    local made_up = { "*60\r\n" }
    for i = 1, 60 do made_up[i + 1] = list("ip", "127.0.0.1", "port", 1 + i) end
    local one, two = server "one", server "two"
    local second = watcher { two }
    local first = watcher { one, others = table.concat(made_up) }
    local client = open(sentinel.url(first, second))
    assert.equal("one", client:get "k")
    eventually(function() return first:is_watched() end)
    first:die()
    one.stop()
    eventually(function() return select(2, pcall(client.get, client, "k")) == "two" end)
    second:die() -- the one after it is the first of them again
    two.stop()
    first.is_down, first.primary = false, server "three"
    eventually(function() return select(2, pcall(client.get, client, "k")) == "three" end)
  end)
end)

describe("a switch", function()
  -- ready returns a client with a shared connection, one on loan, an idle one
  -- and a subscription, all to the primary that s names.
  local function ready(s, ...)
    local client = open(sentinel.url(s, ...))
    local blocked = neap.spawn(function() return select(2, pcall(client.blpop, client, "q", 0)) end)
    local sub = client:subscribe "c"
    assert.equal("one", client:get "k")
    eventually(function() return s.primary:live() == 3 and s:is_watched() end, "all is open")
    -- the round that follows a new connection to listen on
    eventually(function() return s.questions >= 2 end, "it is asked again")
    return client, blocked, sub
  end

  local function assert_moved(one, client, blocked, sub)
    eventually(function() return one:live() == 0 end, "the old primary is left")
    assert.equal("redis.unknown_outcome", blocked:join().code)
    assert.equal("reconnect", sub:next().gap)
    assert.equal("two", client:get "k")
    assert.is_true(client:stats().reconnects > 0)
  end

  case("that is published closes all connections to the old primary", function()
    local one, two = server "one", server "two"
    local s = watcher { one }
    local client, blocked, sub = ready(s)
    s:switch(two)
    assert_moved(one, client, blocked, sub)
  end)

  case("that is not true, or not ours, closes none", function()
    local one = server "one"
    local s = watcher { one }
    local client = ready(s)
    local before = one.connections
    for _, text in ipairs { "mymaster2 127.0.0.1 1 127.0.0.1 2", "mymaster", "mymaster ", "",
      "mymaster a 1 b", "mymaster a 1 b 99999", "mymaster a 1 b x", "other a 1 b 2",
      "mymaster a 1 " .. ("b"):rep(400) .. " 2", ("mymaster "):rep(200), "mymaster a 1 b 2",
      "mymaster 127.0.0.1 1 127.0.0.1 " .. one.port } do
      s:publish(text)
      assert.equal("one", client:get "k")
    end
    local asked = s.questions
    s:publish "mymaster a 1 b 2"
    eventually(function() return s.questions > asked end, "it is asked whether that is true")
    neap.sleep(0.05)
    assert.equal("one", client:get "k")
    assert.equal(before, one.connections)
    assert.equal(3, one:live())
    assert.equal(0, client:stats().reconnects)
  end)

  case("that was missed while nobody listened is found by the next to listen to", function()
    local one, two = server "one", server "two"
    local s, other = watcher { one }, watcher { two }
    local client, blocked, sub = ready(s, other)
    s:die()
    assert_moved(one, client, blocked, sub)
    eventually(function() return other:is_watched() end)
  end)

  case("between the answer and the subscription is found", function()
    local one, two = server "one", server "two"
    local s = watcher { one }
    function s.on_watch() s.primary = two end
    local client = open(sentinel.url(s))
    client:get "k"
    eventually(function() return one:live() == 0 end, "the old primary is left")
    assert.equal("two", client:get "k")
  end)

  case("is heard from another sentinel when the first one died", function()
    local one, two = server "one", server "two"
    local s, other = watcher { one }, watcher { one }
    local client, blocked, sub = ready(s, other)
    s:die()
    eventually(function() return other:is_watched() and other.questions >= 2 end)
    assert.equal(3, one:live())
    other:switch(two)
    assert_moved(one, client, blocked, sub)
  end)

  case("is heard from another sentinel when the first one fell silent", function()
    local one, two = server "one", server "two"
    local s, other = watcher { one }, watcher { one }
    local client, blocked, sub = ready(s, other)
    s.is_silent = true
    eventually(function() return other:is_watched() and other.questions >= 2 end)
    other:switch(two)
    assert_moved(one, client, blocked, sub)
  end)

  case("shows in READONLY: the call goes to the new primary", function()
    local one, two = server "one", server "two"
    local s = watcher { one }
    local client = open(sentinel.url(s))
    client:set("k", 1)
    one.is_readonly, one.role, s.primary = true, "slave", two
    neap.all {
      function() client:set("k", 2) end,
      function() client:set("k", 3) end,
    }
    assert.is_true(has(two.commands, "SET", "k", "2"))
    assert.is_true(has(two.commands, "SET", "k", "3"))
    eventually(function() return one:live() == 0 end)
  end)

  case("there and back, again and again, leaves the calls settled", function()
    local one, two = server "one", server "two"
    local s = watcher { one }
    local client = open(sentinel.url(s))
    local is_over, failed, done = false, 0, 0
    local tasks = {}
    for i = 1, 5 do
      tasks[i] = neap.spawn(function()
        while not is_over do
          local ok, v = pcall(client.get, client, "k")
          if ok then done = done + 1 else failed = failed + 1 end
          assert.is_true(ok or neap.is_error(v), tostring(v))
          neap.sleep(0.001)
        end
      end)
    end
    eventually(function() return s:is_watched() end)
    for i = 1, 20 do
      s:switch(i % 2 == 1 and two or one)
      neap.sleep(0.01)
    end
    is_over = true
    for i = 1, 5 do tasks[i]:join() end
    assert.is_true(done > 0)
    eventually(function() return two:live() == 0 end)
    assert.equal("one", client:get "k")
  end)
end)

describe("a client with sentinels", function()
  case("can be closed while they are asked", function()
    local s = watcher { is_silent = true }
    for _, wait in ipairs { 0, 0.01 } do
      local client = neap.redis(sentinel.url(s) .. "?timeout=5")
      local tasks = {
        neap.spawn(function() return error_of(client.get, client, "k").code end),
        neap.spawn(function() return error_of(client.blpop, client, "k", 0).code end),
        neap.spawn(function() return error_of(client.subscribe, client, "k").code end),
      }
      neap.sleep(wait)
      client:close()
      for _, t in ipairs(tasks) do assert.equal("redis.closed", t:join()) end
    end
  end)

  case("can be closed at any moment", function()
    local s, other = watcher { server "one" }, watcher { reply = "*-1\r\n" }
    for i = 1, 60 do
      local client = neap.redis(sentinel.url(other, s) .. "?timeout=5")
      local t = neap.spawn(function() return pcall(client.get, client, "k") end)
      neap.sleep(i * 0.0001)
      client:close()
      t:join()
    end
    eventually(function() return s.primary:live() == 0 end)
    eventually(function()
      for _, conn in ipairs(s.server.open) do
        if not conn.is_gone then return false end
      end
      return true
    end, "nobody listens any more")
  end)

  local function child(url, source)
    local r = process.start(uv.exepath(), { "-e", ([[
      local neap = require "neap"
      local client = neap.redis(%q)
      %s]]):format(url .. "?timeout=2", source) }):wait(15)
    assert.equal("", r.err)
    assert.equal(0, r.status)
    return r.out
  end

  case("does not keep the process alive", function()
    local s = watcher { server "one" }
    assert.equal("", child(sentinel.url(s), ""))
    assert.equal("one\n", child(sentinel.url(s), "print(client:get 'k')"))
    assert.equal("one\n", child(sentinel.url(s), "print(client:get 'k') neap.sleep(0.05)"))
  end)

  case("does not keep the process alive when its sentinels have gone", function()
    local s = watcher { server "one" }
    local t = neap.spawn(child, sentinel.url(s, { port = closed_port() }),
      "print(client:get 'k') neap.sleep(1.3)")
    eventually(function() return s:is_watched() end)
    s.is_silent = true
    s:die()
    assert.equal("one\n", t:join())
  end)
end)
