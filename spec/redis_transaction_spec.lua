local neap = require "neap"
local fake = require "support.fake_server"
local proxies = require "support.proxy"
local servers = require "support.redis"
local case = require "support.case" (it)
local error_of, code_of, failure_of = require "support.failure" (assert)
local _, forever, idle, assert_cancelled = require "support.cancel" (assert)

local redis

-- assert_unused says that no connection was kept, nor given back while it watches.
local function assert_unused(client)
  client = client or redis
  assert.equal(0, client:stats().in_use)
  for line in client:client("LIST"):gmatch "[^\n]+" do
    assert.matches("multi=%-1", line)
    assert.matches("watch=0", line .. " watch=0") -- before Redis 7.4 it is not told
  end
end

before_each(function()
  redis = neap.redis "memory:"
  redis:flushall()
  redis:script "FLUSH"
  redis:call("FUNCTION", "FLUSH")
end)

after_each(function() redis:close() end)

describe("watch", function()
  case("returns what the function returns, nils too", function()
    local function count(...) return select("#", ...), { ... } end
    local n, r = count(redis:watch("k", function() return 1, nil, "c", nil end))
    assert.equal(4, n)
    assert.same({ 1, nil, "c" }, r)
    assert.equal(0, (count(redis:watch("k", function(tx)
      tx:multi(function(m) m:incr "k" end)
    end))))
    assert.same({ 2 }, redis:watch({ "k" }, function(tx)
      return tx:multi(function(m) m:incr "k" end)
    end))
    assert_unused()
  end)

  case("gives commands at once, in the form of their methods", function()
    redis:hset("h", "a", 1)
    redis:zadd("z", 7, "m")
    redis:watch({ "k", { "h", "z" } }, function(tx)
      assert.same({ a = "1" }, tx:hgetall "h")
      assert.same({ { member = "m", score = 7 } }, tx:zrange("z", 0, -1, "WITHSCORES"))
      assert.is_nil(tx:get "absent")
      assert.same({ "a", "1" }, tx:call("hgetall", "h"))
      assert.same({ { a = "1" }, { { member = "m", score = 7 } }, false, { "x", "y" } },
        tx:multi(function(m)
          m:hgetall "h"
          m:zrange("z", 0, -1, "WITHSCORES")
          m:get "absent"
          m:call("EVAL", "return { 'x', 'y' }", 0)
        end))
    end)
    assert.same({}, redis:watch("k", function(tx) return tx:multi(function() end) end))
    assert_unused()
  end)

  case("is done again after a conflict", function()
    redis:set("n", 1)
    local tries = 0
    local before = redis:stats().retries
    local r = redis:watch("n", function(tx)
      tries = tries + 1
      local n = tonumber(tx:get "n")
      if tries < 3 then redis:incr "n" end
      tx:multi(function(m) m:set("n", n * 10) end)
      return n
    end)
    assert.equal(3, r)
    assert.equal("30", redis:get "n")
    assert.equal(2, redis:stats().retries - before)
    assert_unused()
  end)

  case("is done again so many times, then raises redis.conflict", function()
    for _, retries in ipairs { 0, 3, false } do
      local tries = 0
      local err = error_of(redis.watch, redis, "n", function(tx)
        tries = tries + 1
        redis:incr "n"
        pcall(tx.multi, tx, function(m) m:set("n", 0) end)
      end, retries and { retries = retries } or nil)
      assert.equal("redis.conflict", err.code)
      assert.equal((retries or 10) + 1, tries)
    end
    assert.equal(tostring(1 + 4 + 11), redis:get "n")
    assert_unused()
  end)

  case("keeps a counter right that two tasks increment", function()
    neap.all((function()
      local list = {}
      for i = 1, 2 do
        list[i] = function()
          for _ = 1, 100 do
            redis:watch("n", function(tx)
              local n = tonumber(tx:get "n") or 0
              tx:multi(function(m) m:set("n", n + 1) end)
            end, { retries = 1000 })
          end
        end
      end
      return list
    end)())
    assert.equal("200", redis:get "n")
    assert_unused()
  end)

  case("that decides against it leaves nothing watched", function()
    for _ = 1, 3 do assert.equal("no", redis:watch("k", function() return "no" end)) end
    assert.equal(1, redis:stats().created)
    local tries = 0
    redis:watch("other", function(tx)
      tries = tries + 1
      redis:set("k", tries) -- watched before, on this connection
      tx:multi(function(m) m:set("other", 1) end)
    end)
    assert.equal(1, tries)
    assert_unused()
  end)

  case("that raises, or whose function to record does, carries out nothing", function()
    assert.equal("mine", code_of(redis.watch, redis, "k", function() error("mine", 0) end))
    assert.equal("mine", (code_of(redis.watch, redis, "k", function(tx)
      tx:multi(function(m)
        m:set("k", 1)
        error("mine", 0)
      end)
    end)))
    assert.equal("redis.err", code_of(redis.watch, redis, "k", function(tx) tx:incr() end))
    assert.equal("redis.execabort", code_of(redis.watch, redis, "k", function(tx)
      tx:multi(function(m) m:set("k", 1) m:call "NOSUCH" end)
    end))
    assert.is_nil(redis:get "k")
    assert_unused()
  end)

  case("that is cancelled at any wait gives its connection up", function()
    local waits = {
      function() forever() end,
      function(tx) tx:get "k" forever() end,
      function(tx) tx:multi(function(m) m:set("k", 1) forever() end) end,
      function(tx) tx:multi(function(m) m:set("done", 1) end) forever() end,
    }
    for _, fn in ipairs(waits) do
      for rounds = 0, 12 do
        local t = neap.spawn(redis.watch, redis, "k", fn)
        for _ = 1, rounds do neap.sleep(0) end
        t:cancel()
        assert_cancelled(t.join, t)
        assert.equal(0, redis:stats().in_use)
        assert.equal("timeout", code_of(neap.timeout, 0.0005 * rounds, redis.watch, redis, "k", fn))
        assert.equal(0, redis:stats().in_use)
      end
    end
    assert.is_nil(redis:get "k")
    assert.equal(1, (redis:watch("k", function(tx)
      return tx:multi(function(m) m:incr "k" end)[1]
    end)))
    assert_unused()
  end)

  case("whose connection is killed in between is done again", function()
    local tries = 0
    local r = redis:watch("k", function(tx)
      tries = tries + 1
      if tries == 1 then
        redis:client("KILL", "ID", tx:client "ID")
        neap.sleep(0.01)
      end
      return tx:multi(function(m) m:incr "k" end)[1]
    end)
    assert.equal(1, r)
    assert.equal(2, tries)
    assert_unused()
  end)

  case("raises in time when there is no server", function()
    local client = neap.redis(("redis://127.0.0.1:%d?timeout=0.2"):format(servers.free_port()))
    local err = error_of(client.watch, client, "k", function() end)
    assert.equal("redis.connect", err.code)
    assert.equal("WATCH", err.command)
    assert.equal(0, client:stats().in_use)
    assert.is_true(client:stats().retries <= 2)
    client:close()
  end)

  case("does not take another client's lost connection for its own", function()
    local other = neap.redis(("redis://127.0.0.1:%d?timeout=0.1"):format(servers.free_port()))
    local tries = 0
    assert.equal("redis.connect", code_of(redis.watch, redis, "k", function()
      tries = tries + 1
      other:get "k"
    end))
    assert.equal(1, tries)
    other:close()
    assert_unused()
  end)

  case("is over after multi, and with its client", function()
    local kept
    redis:watch("k", function(tx)
      kept = tx
      tx:multi(function(m) m:set("k", 1) end)
      assert.matches("the transaction is over", failure_of(tx.get, tx, "k"))
      assert.matches("the transaction is over", failure_of(tx.multi, tx, function() end))
    end)
    assert.matches("the transaction is over", failure_of(kept.get, kept, "k"))
    local client = neap.redis "memory:"
    assert.equal("redis.closed", code_of(client.watch, client, "k", function(tx)
      client:close()
      tx:get "k"
    end))
    assert.equal("redis.closed", code_of(client.watch, client, "k", function() end))
  end)

  case("refuses what would block or change the connection, and bad arguments", function()
    local function assert_says(text, fn, ...)
      assert.matches(text, tostring(failure_of(fn, ...)), 1, true)
    end
    redis:watch("k", function(tx)
      assert_says("would block", tx.blpop, tx, "l", 0)
      assert_says("would block", tx.call, tx, "XREAD", "BLOCK", 0, "STREAMS", "s", "$")
      assert_says("EXEC is not available", tx.exec, tx)
      assert_says("SUBSCRIBE is not available", tx.call, tx, "subscribe", "a")
      assert_says("CLIENT REPLY is not available", tx.client, tx, "REPLY", "OFF")
      assert_says("would block", tx.multi, tx, function(m) m:blpop("l", 0) end)
    end)
    assert_says("#1 to 'watch' (a list of keys expected)", redis.watch, redis, {}, print)
    assert_says("#1 to 'watch' (a list of keys expected)", redis.watch, redis, nil, print)
    assert_says("#2 to 'watch' (function expected, got nil)", redis.watch, redis, "k")
    assert_says("#3 to 'watch' (table expected, got number)", redis.watch, redis, "k", print, 3)
    assert_says("unknown option 'retry'", redis.watch, redis, "k", print, { retry = 1 })
    for _, n in ipairs { "3", -1, 0 / 0 } do
      assert_says("option retries", redis.watch, redis, "k", print, { retries = n })
    end
    assert_says("WATCH: argument #1", redis.watch, redis, { true }, print)
    assert_unused()
  end)
end)

describe("multi", function()
  -- cut off behind `answered` commands that were answered, with more unsent
  local function cut_behind(answered)
    local second = {}
    local server = fake.start(function(conn, n)
      conn:greet()
      if n == 1 then
        for i = 1, answered do
          conn:read()
          conn:write(i == 1 and "+OK\r\n" or "+QUEUED\r\n")
        end
        conn.socket:read_stop()
        neap.sleep(0.05)
        return
      end
      for command in conn.read, conn do
        second[#second + 1] = command[1]
        if command[1] == "MULTI" then
          conn:write "+OK\r\n"
        elseif command[1] == "EXEC" then
          conn:write "*3\r\n+OK\r\n+OK\r\n+OK\r\n"
        else
          conn:write "+QUEUED\r\n"
        end
      end
    end)
    local client = neap.redis(server.url .. "?timeout=5")
    local settled = 0
    local big = ("x"):rep(5000000)
    local ok, r = pcall(client.multi, client, function(tx)
      tx:set("a", 1)
      tx:set("b", 2)
      tx:set("c", big)
    end)
    settled = settled + 1
    client:close()
    server.stop()
    return ok, r, second, settled
  end

  for answered = 0, 3 do
    case("cut off behind " .. answered .. " answered commands is sent again whole", function()
      local ok, r, second = cut_behind(answered)
      assert.is_true(ok, tostring(r))
      assert.same({ "OK", "OK", "OK" }, r)
      assert.same({ "MULTI", "SET", "SET", "SET", "EXEC" }, second)
    end)
  end

  case("cut at random is carried out as a whole or not at all", function()
    local server = servers.start()
    local p = proxies.start(server.port)
    local client = neap.redis(p.url .. "?timeout=5")
    local admin = neap.redis(server.url)
    local filler = ("x"):rep(200000)
    for round = 1, 25 do
      p.delay = round % 3 * 0.001
      local settled, tasks = 0, {}
      for i = 1, 4 do
        tasks[i] = neap.spawn(function()
          local ok, v = pcall(client.multi, client, function(tx)
            for k = 1, 10 do
              tx:incr("n" .. k)
              tx:set("filler", filler)
            end
          end)
          settled = settled + 1
          if not ok then assert.is_string(v.code, v) else assert.equal(20, #v) end
        end)
      end
      neap.sleep(0.0005 * round)
      p:cut()
      for i = 1, 4 do tasks[i]:join() end
      assert.equal(4, settled)
    end
    local values = {}
    for k = 1, 10 do values[k] = admin:get("n" .. k) end
    for k = 2, 10 do assert.equal(values[1], values[k]) end
    client:close()
    admin:close()
    p:stop()
    server:stop()
  end)

  case("raises once its time is up when there is no server", function()
    local client = neap.redis(("redis://127.0.0.1:%d?timeout=0.2"):format(servers.free_port()))
    local err = error_of(client.multi, client, function(tx) tx:incr "n" end)
    assert.equal("redis.connect", err.code)
    assert.equal("MULTI", err.command)
    assert.equal("queued", err.phase)
    client:close()
  end)

  case("takes nested values and gives replies their form", function()
    redis:multi(function(tx)
      tx:rpush("l", { "a", { "b", { 1 } } })
      tx:hset("h", { f = { "v" } })
    end)
    assert.same({ { "a", "b", "1" }, { f = "v" }, {} }, redis:multi(function(tx)
      tx:lrange("l", 0, -1)
      tx:hgetall "h"
      tx:hgetall "absent"
    end))
  end)
end)

describe("a script in a pipeline", function()
  local script
  before_each(function()
    script = redis:lua "return { KEYS[1] or false, ARGV[1] or false, ARGV[2] or false }"
  end)

  local function record(p)
    p:lua(script, { "k" }, 1)
    p:lua(script)
    p:lua(script, { "k" }, { 2, 3 })
  end
  local expected = { { "k", "1", false }, { false, false, false }, { "k", "2", "3" } }

  case("works before and after its first call", function()
    for _ = 1, 2 do
      assert.same(expected, redis:pipeline(record))
      assert.same(expected, redis:multi(record))
      assert.same(expected, redis:watch("k", function(tx) return tx:multi(record) end))
      script()
    end
  end)

  case("is sent by its hash once that is known", function()
    script()
    redis:config "RESETSTAT"
    redis:pipeline(record)
    local stats = redis:info "commandstats"
    assert.matches("cmdstat_evalsha:calls=2", stats)
    assert.matches("cmdstat_eval:calls=1", stats)
  end)

  case("survives SCRIPT FLUSH within, before and between", function()
    local null = redis:lua "return redis.call('GET', KEYS[1])"
    null { "k" }
    script()
    redis:script "FLUSH"
    assert.same(expected, redis:pipeline(record))
    for _, send in ipairs { "pipeline", "multi" } do
      for _, flush in ipairs { function(p) p:script "FLUSH" end,
        function(p) p:call("script", { "flush" }) end } do
        local r = redis[send](redis, function(p)
          p:lua(script, { "a" })
          flush(p)
          p:lua(script, { "b" })
          p:lua(null, { "absent" })
          flush(p)
          p:lua(null, { "absent" })
        end)
        assert.same({ { "a", false, false }, "OK", { "b", false, false }, false, "OK", false }, r)
      end
    end
    -- another client flushes in the middle
    local server = fake.start(function(conn)
      conn:greet()
      for command in conn.read, conn do
        if command[1] == "SCRIPT" then
          conn:write("$40\r\n" .. ("a"):rep(40) .. "\r\n")
        elseif command[1] == "EVALSHA" then
          conn:write "-NOSCRIPT No matching script.\r\n"
        else
          conn:write(command[5] == "nil" and "$-1\r\n" or "+" .. (command[5] or "") .. "\r\n")
        end
      end
    end)
    local client = neap.redis(server.url)
    local f = client:lua "return ARGV[1]"
    f({ "k" }, 0)
    assert.same({ "1", false, "3" }, client:pipeline(function(p)
      p:lua(f, { "k" }, 1)
      p:lua(f, { "k" }, "nil")
      p:lua(f, { "k" }, 3)
    end))
    client:close()
    server.stop()
  end)

  case("under others' SCRIPT FLUSH all the time", function()
    script()
    local is_over = false
    local flusher = neap.spawn(function()
      while not is_over do redis:script "FLUSH" neap.sleep(0) end
    end)
    for _ = 1, 100 do
      assert.same(expected, redis:pipeline(record))
      assert.same(expected, redis:multi(record))
      assert.same({ "k", "1", false }, script({ "k" }, 1))
    end
    is_over = true
    flusher:join()
  end)

  case("that fails leaves its error in the slot; others than scripts are refused", function()
    local bad = redis:lua "return nosuch.thing"
    local r = redis:pipeline(function(p) p:lua(bad) p:lua(bad) p:ping() end)
    assert.equal("redis.err", r[1].code)
    assert.equal("redis.err", r[2].code)
    assert.equal("PONG", r[3])
    assert.matches("what redis:lua returned", tostring(failure_of(redis.pipeline, redis, function(p)
      p:lua "return 1"
    end)))
    assert.matches("a list of keys", tostring(failure_of(redis.pipeline, redis, function(p)
      p:lua(script, "k")
    end)))
  end)
end)

describe("functions", function()
  local source = [[#!lua name=shop
    redis.register_function("take", function(keys, args)
      return redis.call("DECRBY", keys[1], args[1])
    end)
    redis.register_function{ function_name = "left", flags = { "no-writes" },
      callback = function(keys) return redis.call("GET", keys[1]) end }
  ]]
  local shop
  before_each(function() shop = redis:functions(source) end)

  case("are loaded when first called", function()
    assert.same({}, redis:call("FUNCTION", "LIST"))
    assert.equal(-3, shop.take({ "k" }, 3))
    assert.equal("-3", shop.left { "k" })
    assert.equal("-3", shop.read.left { "k" })
  end)

  case("are loaded again after FUNCTION FLUSH", function()
    for i = 1, 3 do
      assert.equal(-i, shop.take({ "k" }, 1))
      redis:call("FUNCTION", "FLUSH")
      assert.equal(tostring(-i), shop.read.left { "k" })
      redis:call("FUNCTION", "FLUSH")
    end
    local is_over = false
    local flusher = neap.spawn(function()
      while not is_over do redis:call("FUNCTION", "FLUSH") neap.sleep(0.001) end
    end)
    neap.map(function() return shop.take({ "n" }, 1) end, { 1, 2, 3, 4, 5, 6, 7, 8 })
    is_over = true
    flusher:join()
    assert.equal("-8", redis:get "n")
  end)

  case("replace an older library of that name", function()
    redis:call("FUNCTION", "LOAD", (source:gsub("DECRBY", "INCRBY")))
    assert.equal(-1, shop.take({ "k" }, 1))
  end)

  case("that write are not called by read, and unknown ones raise", function()
    assert.equal("redis.err", code_of(shop.read.take, { "k" }, 1))
    assert.matches("Function not found", error_of(shop.nosuch).message)
    assert.is_nil(redis:get "k")
  end)

  case("of a bad library raise what Redis says; other text is refused at once", function()
    local bad = redis:functions "#!lua name=bad\nthis is no Lua"
    for _ = 1, 2 do
      local err = error_of(bad.f)
      assert.equal("redis.err", err.code)
      assert.equal("FUNCTION", err.command)
    end
    for _, text in ipairs { "return 1", "#!lua", "", 7, true } do
      assert.matches("#!lua name=", tostring(failure_of(redis.functions, redis, text)), 1, true)
    end
    assert.matches("a list of keys expected", tostring(failure_of(shop.take, "k")))
    assert.equal(1, #redis:call("FUNCTION", "LIST") + 1)
  end)

  case("of a closed client raise that", function()
    redis:close()
    assert.equal("redis.closed", code_of(shop.take, { "k" }, 1))
    assert.equal("redis.closed", code_of(redis.functions, redis, source))
    idle()
  end)
end)
