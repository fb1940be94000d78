local neap = require "neap"
local uv = require "luv"
local ffi = require "ffi"
local fake = require "support.fake_server"
local servers = require "support.redis"
local case = require "support.case" (it)
local error_of, code_of = require "support.failure" (assert)

-- with_server runs fn(server, open) with a server of its own; open(options) gives
-- clients of it, which are closed at the end.
local function with_server(fn, options)
  local server = servers.start(options)
  local clients = {}
  local ok, err = pcall(fn, server, function(query)
    clients[#clients + 1] = neap.redis(server.url .. (query or ""))
    return clients[#clients]
  end)
  for _, client in ipairs(clients) do client:close() end
  server:stop()
  if not ok then error(err, 0) end
end

-- settle joins all; how many went well, and how many failed by code.
local function settle(tasks)
  local well, codes = 0, {}
  for _, t in ipairs(tasks) do
    local ok, v = pcall(t.join, t)
    if ok then
      well = well + 1
    else
      local code = neap.is_error(v) and v.code or tostring(v)
      codes[code] = (codes[code] or 0) + 1
    end
  end
  return well, codes
end

describe("while the server is away", function()
  case("so many commands wait, further ones are refused at once", function()
    with_server(function(server, open)
      local client = open "?queue=10&timeout=10"
      client:ping()
      server:kill()
      repeat neap.sleep(0.001) until not client:stats().connected
      local tasks = {}
      for i = 1, 10 do tasks[i] = neap.spawn(client.rpush, client, "list", i) end
      neap.sleep(0.01)
      for _ = 1, 3 do
        assert.equal("redis.queue_full", code_of(client.rpush, client, "list", "x"))
        assert.equal("redis.queue_full", code_of(client.pipeline, client, function(p)
          p:rpush("list", "x")
        end))
      end
      server:restart()
      for i = 1, 10 do assert.equal(i, tasks[i]:join()) end
      assert.equal(11, client:rpush("list", "after"))
      assert.same({ "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "after" },
        client:lrange("list", 0, -1))
    end)
  end)

  case("so many bytes wait, further ones are refused at once", function()
    with_server(function(server, open)
      local client = open "?queue_bytes=10000&timeout=10"
      client:ping()
      server:kill()
      repeat neap.sleep(0.001) until not client:stats().connected
      local tasks = {}
      for i = 1, 12 do
        tasks[i] = neap.spawn(client.rpush, client, "list", ("x"):rep(1000) .. i)
      end
      neap.sleep(0.01)
      assert.equal("redis.queue_full", code_of(client.rpush, client, "list", "x"))
      server:restart()
      local well, codes = settle(tasks)
      assert.is_true(well >= 9 and well < 12)
      assert.same({ ["redis.queue_full"] = 12 - well }, codes)
      local list = client:lrange("list", 0, -1)
      for i = 1, well do assert.equal(tostring(i), list[i]:match "x(%d+)$") end
      assert.equal(well, #list)
    end)
  end)
end)

describe("a server that stops reading", function()
  local value = ("v"):rep(10000)

  -- writers are 2000 tasks with 20 MB between them, none of which was answered yet.
  local function writers(client)
    local tasks = {}
    for i = 1, 2000 do tasks[i] = neap.spawn(client.set, client, "k" .. i, value) end
    neap.sleep(0.1)
    return tasks
  end

  case("takes no memory, and those who write wait until it goes on", function()
    with_server(function(server, open)
      local client = open "?timeout=15&slow=0"
      client:ping()
      server:signal "sigstop"
      local before = uv.resident_set_memory()
      local tasks = writers(client)
      assert.is_true(client:stats().pending < 1900)
      assert.is_true(uv.resident_set_memory() - before < 24e6)
      server:signal "sigcont"
      local well, codes = settle(tasks)
      assert.same({}, codes)
      assert.equal(2000, well)
      assert.equal(2000, client:dbsize())
      assert.equal(value, client:get "k2000")
    end)
  end)

  case("lets those go who are cancelled", function()
    with_server(function(server, open)
      local client = open "?timeout=15&slow=0"
      client:ping()
      server:signal "sigstop"
      local tasks = writers(client)
      for i = 1, 2000, 2 do tasks[i]:cancel() end
      neap.sleep(0.01)
      server:signal "sigcont"
      local well, codes = settle(tasks)
      assert.same({ cancelled = 1000 }, codes)
      assert.equal(1000, well)
      for i = 2, 2000, 2 do assert.equal(1, client:exists("k" .. i)) end
    end)
  end)

  case("holds up nobody when the client is closed", function()
    with_server(function(server, open)
      local client = open "?timeout=15&slow=0"
      client:ping()
      server:signal "sigstop"
      local tasks = writers(client)
      client:close()
      local well, codes = settle(tasks)
      server:signal "sigcont"
      assert.equal(0, well)
      assert.same({ ["redis.closed"] = 2000 }, codes)
    end)
  end)

  case("fails all who wait when it closes the connection, and goes on with the next", function()
    local stored = 0
    local server = fake.start(function(conn, n)
      conn:greet()
      if n == 1 then
        conn.socket:read_stop()
        neap.sleep(0.3)
        return
      end
      while conn:read() do
        stored = stored + 1
        conn:write "+OK\r\n"
      end
    end)
    local client = neap.redis(server.url .. "?timeout=15")
    local well, codes = settle(writers(client))
    local lost = codes["redis.unknown_outcome"] or 0
    codes["redis.unknown_outcome"] = nil
    assert.same({}, codes)
    assert.equal(2000, well + lost)
    assert.equal(well, stored)
    assert.is_true(well > 0)
    client:close()
    server.stop()
  end)
end)

describe("a process without a descriptor to spare", function()
  ffi.cdef [[
    struct spec_limit { unsigned long soft, hard; };
    int getrlimit(int, struct spec_limit *);
    int setrlimit(int, const struct spec_limit *);
  ]]
  local of_files = 7
  local limit = ffi.new "struct spec_limit"
  local function limit_files(soft)
    assert.equal(0, ffi.C.setrlimit(of_files, ffi.new("struct spec_limit", soft, limit.hard)))
  end

  case("sends and gets large values on the connection that it has", function()
    ffi.C.getrlimit(of_files, limit)
    with_server(function(_, open)
      local client = open "?timeout=15"
      client:ping()
      limit_files(3)
      local tasks = {}
      for i = 1, 40 do
        tasks[i] = neap.spawn(function()
          local value = tostring(i):rep(200000)
          client:set("k" .. i, value)
          return assert.is_true(client:get("k" .. i) == value)
        end)
      end
      local well, codes = settle(tasks)
      limit_files(limit.soft)
      assert.same({}, codes)
      assert.equal(40, well)
      assert.equal(0, client:stats().reconnects)
    end)
  end)
end)

describe("an argument", function()
  case("larger than may be queued is refused, wherever it stands, and takes no memory", function()
    with_server(function(_, open)
      local client = open()
      client:ping()
      local huge = ("x"):rep(2 ^ 26 + 1)
      local half = ("y"):rep(2 ^ 25 + 1)
      local calls = {
        function() client:set("k", huge) end,
        function() client:call("SET", "k", huge) end,
        function() client:mset("a", half, "b", half) end,
        function() client:mset { a = half, b = half } end,
        function() client:rpush("k", { "small", huge }) end,
        function() client:hset("k", { [huge] = 1 }) end,
        function() client:blpop(huge, 1) end,
        function() client:pipeline(function(p) p:set("k", huge) end) end,
        function() client:pipeline(function(p) p:rpush("k", { { huge } }) end) end,
        function() client:pipeline(function(p) p:call("SET", "k", huge) end) end,
        function() client:multi(function(p) p:set("k", huge) end) end,
        function() client:watch("k", function(tx) tx:set("k", huge) end) end,
      }
      pcall(calls[3]) -- the collector's own doings come first
      collectgarbage()
      local before = uv.resident_set_memory()
      for i, fn in ipairs(calls) do
        assert.equal("redis.too_large", code_of(fn), "call " .. i)
      end
      assert.is_true(uv.resident_set_memory() - before < 16e6)
      assert.equal(0, client:exists("k", "a", "b"))
      assert.equal("OK", client:set("k", half))
      assert.equal(#half, client:strlen "k")
    end)
  end)

  case("that is an integer beyond 2^53 goes and comes back exact", function()
    with_server(function(_, open)
      local client = open()
      for _, digits in ipairs { "9007199254740993", "-9007199254740993", "9223372036854775807",
        "-9223372036854775808" } do
        client:set("n", digits)
        assert.equal(digits, client:incrby("n", 0))

        client:set("n", 0)
        assert.equal(digits, client:incrby("n", digits))
        assert.equal(digits, client:get "n")
      end
      client:set("n", 0)
      assert.equal(2 ^ 53, client:incrby("n", 2 ^ 53))
      assert.equal("9007199254740993", client:incrby("n", 1LL))
      client:set("n", 9223372036854775807LL)
      assert.equal("9223372036854775807", client:get "n")
      client:set("n", 18446744073709551615ULL)
      assert.equal("18446744073709551615", client:get "n")
      client:set("n", -9223372036854775807LL - 1)
      assert.equal("-9223372036854775808", client:get "n")
      assert.equal(2, client:rpush("l", { 1LL, -2LL }))
      assert.same({ "1", "-2" }, client:lrange("l", 0, -1))
    end)
  end)

  case("that cannot be sent is refused by its position, and nothing is sent", function()
    with_server(function(_, open)
      local client = open()
      client:ping()
      local sent = client:stats().sent
      local wrong = { 0 / 0, 1 / 0, -1 / 0, true, false, print, coroutine.create(print),
        ffi.new "int[2]", ffi.new("double", 1.5), { 1, 1 / 0 }, { { true } }, { a = false } }
      for i, v in ipairs(wrong) do
        local ok, err = pcall(client.set, client, "k", v)
        assert.is_false(ok, "value " .. i)
        assert.matches("argument #2", tostring(err), 1, true)
        ok, err = pcall(client.set, client, v, "v")
        assert.is_false(ok)
        assert.matches("argument #1", tostring(err), 1, true)
        ok, err = pcall(client.pipeline, client, function(p) p:rpush("k", "a", "b", v) end)
        assert.is_false(ok)
        assert.matches("argument #4", tostring(err), 1, true)
      end
      local ok, err = pcall(client.set, client, "k", nil)
      assert.is_false(ok)
      assert.matches("argument #2 is nil", tostring(err), 1, true)
      assert.equal(sent, client:stats().sent)
    end)
  end)
end)

describe("the pool", function()
  case("lends no more than its maximum, to those who wait longest, or says so in time", function()
    with_server(function(_, open)
      local client, other = open "?pool=2&pool_timeout=5", open()
      local order, tasks = {}, {}
      for i = 1, 6 do
        tasks[i] = neap.spawn(function()
          local v = client:blpop("list" .. math.min(i, 3), 10)
          order[#order + 1] = i
          return v
        end)
        neap.sleep(0)
      end
      repeat neap.sleep(0.001) until other:info "clients":match "blocked_clients:2"
      assert.equal(2, client:stats().in_use)
      assert.equal(4, client:stats().waiting)
      other:rpush("list3", 3, 4, 5, 6)
      other:rpush("list2", 2)
      for i = 2, 6 do tasks[i]:join() end
      assert.same({ 2, 3, 4, 5, 6 }, order)
      assert.same({ "list3", "5" }, tasks[5]:join())
      assert.equal(0, client:stats().waiting)
      assert.equal(2, client:stats().created)
      other:rpush("list1", 1)
      tasks[1]:join()
      assert.equal(0, client:stats().in_use)
    end)
  end)

  case("fails who waits too long or is cancelled, and serves those behind", function()
    with_server(function(_, open)
      local client, other = open "?pool=2&pool_timeout=0.2", open()
      local held = { neap.spawn(client.blpop, client, "a", 10),
        neap.spawn(client.blpop, client, "b", 10) }
      neap.sleep(0)
      local late = {}
      for i = 1, 5 do late[i] = neap.spawn(client.blpop, client, "c", 10) end
      neap.sleep(0)
      assert.equal(5, client:stats().waiting)
      late[1]:cancel()
      local well, codes = settle(late)
      assert.equal(0, well)
      assert.same({ cancelled = 1, ["redis.pool_timeout"] = 4 }, codes)
      assert.equal(0, client:stats().waiting)
      local err = error_of(client.blpop, client, "c", 1)
      assert.equal("redis.pool_timeout", err.code)
      assert.equal("queued", err.phase)
      other:rpush("a", 1)
      held[1]:join()
      other:rpush("c", 2)
      assert.same({ "c", "2" }, client:blpop("c", 1))
      held[2]:cancel()
      settle(held)
      assert.equal(0, client:stats().in_use)
    end)
  end)

  case("closes what is idle for long", function()
    with_server(function(_, open)
      local client = open "?idle_timeout=0.1"
      neap.all { function() client:blpop("a", 0.05) end, function() client:blpop("b", 0.05) end,
        function() client:blpop("c", 0.05) end }
      assert.equal(3, client:stats().created)
      assert.is_true(client:stats().idle > 0)
      repeat neap.sleep(0.01) until client:stats().idle == 0
      repeat neap.sleep(0.01) until client:info "clients":match "connected_clients:1\r"
      client:rpush("a", "v")
      assert.same({ "a", "v" }, client:blpop("a", 1))
    end)
  end)

  case("does not lend what broke while it was idle", function()
    with_server(function(server, open)
      local client = open()
      neap.all { function() client:blpop("a", 0.05) end, function() client:blpop("b", 0.05) end }
      assert.equal(2, client:stats().idle)
      server:kill()
      server:restart()
      repeat neap.sleep(0.001) until client:stats().idle == 0
      client:rpush("a", "v")
      assert.same({ "a", "v" }, client:blpop("a", 1))
      assert.equal(0, client:stats().in_use)
    end)
  end)
end)

describe("a blocking call", function()
  for name, is_warm in pairs { ["that the client talks to"] = true,
    ["that was asked for nothing else"] = false } do
    case("without end on a server " .. name .. " is failed when it falls silent", function()
      with_server(function(server, open)
        local client, other = open "?timeout=0.2&connect_timeout=0.2", open()
        if is_warm then client:ping() end
        local t = neap.spawn(client.brpop, client, "k", 0)
        repeat neap.sleep(0.001) until other:info "clients":match "blocked_clients:1"
        server:signal "sigstop"
        local ok, err = pcall(neap.timeout, 10, t.join, t)
        server:signal "sigcont"
        t:cancel()
        assert.is_false(ok)
        assert.equal("redis.unknown_outcome", err.code)
        assert.equal(0, client:stats().in_use)
      end)
    end)
  end

  case("without end is left alone while the server answers", function()
    with_server(function(_, open)
      local client, other = open "?timeout=0.05", open()
      local t = neap.spawn(client.brpop, client, "k", 0)
      neap.sleep(0.5)
      other:lpush("k", "v")
      assert.same({ "k", "v" }, t:join())
    end)
  end)

  case("may wait longer or less long than the client's timeout", function()
    with_server(function(_, open)
      local client = open "?timeout=0.1"
      assert.is_nil(client:brpop("k", 0.4))
      client = open "?timeout=20"
      assert.is_nil(neap.timeout(10, client.brpop, client, "k", 0.05))
      assert.equal(0, client:stats().timeouts)
    end)
  end)
end)

describe("a client closed", function()
  case("with a thousand calls under way settles them all, and is of no use any more", function()
    local server = fake.start(function(conn)
      conn:greet()
      while conn:read() do neap.sleep(0) end -- never answered
    end)
    for _, is_cut in ipairs { false, true } do
      local client = neap.redis(server.url)
      local tasks = {}
      for i = 1, 1000 do
        tasks[i] = neap.spawn(i % 4 == 0 and function()
          return client:multi(function(p) p:incr "n" p:incr "m" end)
        end or i % 100 == 1 and function() return client:blpop("k", 0) end or function()
          return client:incr(i)
        end)
      end
      neap.sleep(0.05)
      if is_cut then
        for _, conn in ipairs(server.open) do conn:close() end
        neap.sleep(0)
      end
      client:close()
      local well, codes = settle(tasks)
      assert.equal(0, well)
      assert.equal(1000, (codes["redis.closed"] or 0) + (codes["redis.unknown_outcome"] or 0))
      for _, fn in ipairs { client.get, client.blpop, client.stats } do
        assert.equal("redis.closed", code_of(fn, client, "k", 1))
      end
      assert.equal("redis.closed", code_of(client.pipeline, client, function(p) p:get "k" end))
      client:close()
    end
    server.stop()
  end)

  case("after a reply that is none", function()
    local server = fake.start(function(conn)
      conn:greet()
      conn:read()
      conn:write "garbage\r\n"
    end)
    for _ = 1, 20 do
      local client = neap.redis(server.url)
      assert.equal("redis.protocol", code_of(client.incr, client, "k"))
      client:close()
    end
    server.stop()
  end)
end)

describe("a loop that is late", function()
  case("takes an answer that came in time for one", function()
    with_server(function(_, open)
      local client = open "?timeout=0.2"
      client:set("key", "value")
      local calls = { neap.spawn(client.get, client, "key"),
        neap.spawn(neap.timeout, 0.2, client.get, client, "key") }
      neap.sleep(0) -- they begin
      neap.sleep(0) -- and are sent
      local start = neap.monotonic()
      repeat until neap.monotonic() - start > 2
      for _, call in ipairs(calls) do assert.equal("value", call:join()) end
    end)
  end)
end)
