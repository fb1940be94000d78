local neap = require "neap"
local fake = require "support.fake_server"
local proxies = require "support.proxy"
local servers = require "support.redis"
local process = require "support.process"
local case = require "support.case" (it)
local error_of, code_of = require "support.failure" (assert)

describe("a slice longer than the timeout", function()
  local server, client
  before_each(function()
    server = servers.start()
    client = neap.redis(server.url .. "?timeout=0.1")
    client:ping()
  end)
  after_each(function()
    client:close()
    server:stop()
  end)

  local function hold_the_loop()
    local start = neap.monotonic()
    while neap.monotonic() - start < 0.3 do end -- luacheck: ignore
  end

  case("does not shorten the time of a call behind it", function()
    hold_the_loop()
    assert.equal("late", client:eval([[ -- answers after 50 ms
      local function now()
        local t = redis.call("TIME")
        return t[1] * 1000000 + t[2]
      end
      local start = now()
      while now() - start < 50000 do end
      return "late"]], 0))
  end)

  case("does not lose a reply that came meanwhile", function()
    local t = neap.spawn(client.ping, client)
    neap.sleep(0)
    hold_the_loop()
    assert.equal("PONG", t:join())
  end)
end)

describe("a connection", function()
  case("closed at once is tried again until the call's time is up", function()
    fake.with(function() end, function(client, server)
      assert.equal("redis.connect", code_of(client.get, client, "k"))
      assert.is_true(server.connections >= 2)
    end, "?timeout=0.3")
  end)

  -- the first wait is 50 ms and each doubles, so half a second has room for four
  case("that is lost again and again is tried ever more rarely", function()
    local attempts = 0
    fake.with(function(conn)
      attempts = attempts + 1
      conn:close()
    end, function(client)
      assert.equal("redis.connect", code_of(client.get, client, "k"))
      assert.is_true(attempts > 1 and attempts <= 10, attempts .. " attempts")
    end, "?timeout=0.5")
  end)

  case("that is refused fails in time, and pooled ones at once", function()
    local port = servers.free_port()
    local client = neap.redis(("redis://127.0.0.1:%d?timeout=0.2"):format(port))
    local err = error_of(client.get, client, "k")
    assert.equal("redis.connect", err.code)
    assert.matches("127.0.0.1:" .. port, err.message, 1, true)
    assert.equal("redis.connect", code_of(client.blpop, client, "k", 1))
    assert.equal(0, client:stats().in_use)
    client:close()
  end)

  case("that fails before it is begun", function()
    for _, host in ipairs { "[2001:db8::1]", "255.255.255.255", "no.such.host.invalid",
      ("x"):rep(200) .. "." .. ("y"):rep(200) } do
      local ok, client = pcall(neap.redis, "redis://" .. host .. "?timeout=0.1&connect_timeout=0.2")
      if ok then
        assert.equal("redis.connect", neap.timeout(20, code_of, client.blpop, client, "k", 1))
        assert.equal("redis.connect", neap.timeout(20, code_of, client.get, client, "k"))
        client:close()
      end
    end
  end)

  case("to one who never answers ends by the time to connect", function()
    fake.with(function(conn) while conn:read() do neap.sleep(0) end end, function(client)
      assert.equal("redis.connect", code_of(client.get, client, "k"))
    end, "?timeout=0.1&connect_timeout=0.1")
  end)

  case("waits while the server loads its data", function()
    local asked = 0
    fake.with(function(conn)
      for command in conn.read, conn do
        if command[1] == "PING" then
          asked = asked + 1
          conn:write(asked < 3 and "-LOADING Redis is loading the dataset in memory\r\n"
            or "+PONG\r\n")
        else
          conn:write "+loaded\r\n"
        end
      end
    end, function(client)
      assert.equal("loaded", client:get "k")
      assert.equal(3, asked)
    end)
  end)

  case("comes and the waiting calls are sent in order", function()
    local port = servers.free_port()
    local client = neap.redis(("redis://127.0.0.1:%d"):format(port))
    local tasks = {}
    for i = 1, 50 do tasks[i] = neap.spawn(client.rpush, client, "list", i) end
    neap.sleep(0.02)
    local child = process.start("redis-server", { "--port", tostring(port), "--save", "",
      "--bind", "127.0.0.1" })
    for i = 1, 50 do assert.equal(i, tasks[i]:join()) end
    assert.equal(50, #client:lrange("list", 0, -1))
    client:close()
    child:kill()
    child:wait()
  end)

  case("lost in the middle of a write sends the rest on the next, once", function()
    local server = servers.start()
    local p = proxies.start(server.port)
    local client = neap.redis(p.url)
    client:ping()
    local big = ("x"):rep(3000000)
    for _ = 1, 5 do
      client:del "list"
      p.delay = 0.002
      local tasks, lost, done = {}, 0, 0
      for i = 1, 40 do
        tasks[i] = neap.spawn(function()
          local key = "k" .. i
          if i % 4 == 0 then
            client:set(key, big .. i)
            return client:strlen(key) == #big + #tostring(i)
          end
          client:rpush("list", i)
          return client:echo(key) == key
        end)
      end
      neap.sleep(0.004)
      p:cut()
      for i = 1, 40 do
        local ok, v = pcall(tasks[i].join, tasks[i])
        if ok then
          assert.is_true(v)
          done = done + 1
        else
          assert.equal("redis.unknown_outcome", v.code)
          lost = lost + 1
        end
      end
      assert.equal(40, lost + done)
      local seen = {}
      for _, v in ipairs(client:lrange("list", 0, -1)) do
        assert.is_nil(seen[v], "pushed twice")
        seen[v] = true
      end
    end
    client:close()
    p:stop()
    server:stop()
  end)

  case("lost while answered commands still stand in the write buffer", function()
    -- the server reads and answers what is small, and reads no further
    local small, big = 200, ("b"):rep(8000000)
    local seen = {}
    fake.with(function(conn, n)
      conn:greet()
      if n == 1 then
        local answered = 0
        while answered < small do
          local command = conn:read()
          seen[command[2]] = (seen[command[2]] or 0) + 1
          conn:write("+" .. command[2] .. "\r\n")
          answered = answered + 1
        end
        conn.socket:read_stop()
        neap.sleep(0.02)
        return
      end
      for command in conn.read, conn do
        seen[command[2]] = (seen[command[2]] or 0) + 1
        conn:write("+" .. command[2] .. "\r\n")
      end
    end, function(client)
      assert.equal("x", client:get "x")
      local tasks = {}
      for i = 1, small - 1 do tasks[i] = neap.spawn(client.get, client, "k" .. i) end
      local last = neap.spawn(client.set, client, "big", big)
      for i = 1, small - 1 do assert.equal("k" .. i, tasks[i]:join()) end
      local after = neap.spawn(client.get, client, "after")
      assert.equal("big", last:join())
      assert.equal("after", after:join())
      for i = 1, small - 1 do assert.equal(1, seen["k" .. i]) end
      assert.equal("end", client:get "end")
    end, "?timeout=20")
  end)

  case("into a black hole ends each call in time, and heals", function()
    local server = servers.start()
    local p = proxies.start(server.port)
    local client = neap.redis(p.url .. "?timeout=0.1&connect_timeout=0.1")
    client:set("k", "v")
    p.is_hole = true
    local tasks = {}
    for i = 1, 20 do tasks[i] = neap.spawn(client.get, client, "k") end
    for i = 1, 20 do
      local ok, err = pcall(tasks[i].join, tasks[i])
      assert.is_false(ok)
      assert.equal("redis.timeout", err.code)
    end
    assert.is_true(neap.is_error(error_of(client.get, client, "k")))
    p.is_hole = false
    local v
    repeat
      local ok, r = pcall(client.get, client, "k")
      v = ok and r
    until v
    assert.equal("v", v)
    client:close()
    p:stop()
    server:stop()
  end)

  case("into a black hole is found though every call was cancelled before its time", function()
    local server = servers.start()
    local p = proxies.start(server.port)
    local client = neap.redis(p.url .. "?timeout=0.1")
    client:set("k", "v")
    p.is_hole = true
    for _ = 1, 3 do
      assert.equal("timeout", code_of(neap.timeout, 0.01, client.get, client, "k"))
    end
    neap.sleep(0.3)
    p.is_hole = false
    assert.equal("v", neap.timeout(10, client.get, client, "k"))
    client:close()
    p:stop()
    server:stop()
  end)

  case("whose oldest reply is missing still times each later call out", function()
    local gets = 0
    fake.with(fake.answering(function(command, conn)
      if command[1] ~= "GET" then return "+sign of life\r\n" end
      gets = gets + 1
      if gets == 1 then -- the first byte comes late, the rest never
        neap.spawn(function() neap.sleep(0.08) conn:write "$5" end)
      end
    end), function(client)
      assert.equal("redis.timeout", code_of(client.get, client, "k"))
      assert.equal("redis.timeout", neap.timeout(10, code_of, client.get, client, "k"))
    end, "?timeout=0.1")
  end)

  case("to a server that stands still, then goes on", function()
    local server = servers.start()
    local client = neap.redis(server.url .. "?timeout=0.1")
    client:set("k", "v")
    server:signal "sigstop"
    assert.equal("redis.timeout", code_of(client.get, client, "k"))
    server:signal "sigcont"
    local ok, v
    repeat ok, v = pcall(client.get, client, "k") until ok
    assert.equal("v", v)
    client:close()
    server:stop()
  end)

  case("is restored under load: every call settles once, none gets another's reply", function()
    local server = servers.start()
    local client = neap.redis(server.url .. "?timeout=3")
    local wrong, answered, codes = 0, 0, {}
    local is_over = false
    local tasks = {}
    for i = 1, 50 do
      tasks[i] = neap.spawn(function()
        local n = 0
        while not is_over do
          n = n + 1
          local text = i .. ":" .. n
          local settled = 0
          local ok, v = pcall(client.echo, client, text)
          settled = settled + 1
          if ok and v ~= text or settled ~= 1 then wrong = wrong + 1 end
          if ok then answered = answered + 1 else codes[v.code] = (codes[v.code] or 0) + 1 end
          if n % 10 == 0 then neap.sleep(0) end
        end
      end)
    end
    for _ = 1, 3 do
      repeat neap.sleep(0.01) until client:stats().connected
      neap.sleep(0.02)
      server:kill()
      neap.sleep(0.01)
      server:restart()
    end
    neap.sleep(0.2)
    is_over = true
    for i = 1, 50 do tasks[i]:join() end
    assert.equal(0, wrong)
    assert.is_true(answered > 100)
    codes["redis.unknown_outcome"] = nil
    assert.same({}, codes)
    assert.is_true(client:stats().reconnects >= 3)
    client:close()
    server:stop()
  end)

  case("on loan that is lost fails its call, and the pool goes on", function()
    local server = servers.start()
    local client = neap.redis(server.url)
    local t = neap.spawn(client.blpop, client, "l", 20)
    while client:stats().in_use < 1 or client:info("clients"):match "blocked_clients:0" do
      neap.sleep(0.001)
    end
    client:client("KILL", "TYPE", "normal")
    local ok, err = pcall(t.join, t)
    assert.is_false(ok)
    assert.equal("redis.unknown_outcome", err.code)
    assert.equal(0, client:stats().in_use)
    client:rpush("l", "v")
    assert.same({ "l", "v" }, client:blpop("l", 1))
    client:close()
    server:stop()
  end)

  case("delayed each way costs each call that much, not all of them together", function()
    local server = servers.start()
    local p = proxies.start(server.port)
    p.delay = 0.01
    local client = neap.redis(p.url)
    local list = {}
    for i = 1, 500 do list[i] = i end
    local started = neap.monotonic()
    local r = neap.map(function(i) return client:echo(i) end, list)
    for i = 1, 500 do assert.equal(tostring(i), r[i]) end
    assert.is_true(neap.monotonic() - started < 5) -- one by one it would be 10 s
    client:close()
    p:stop()
    server:stop()
  end)

  case("that is closed while it connects, resolves or waits to try again", function()
    for _, u in ipairs { "redis://localhost:1", "redis://127.0.0.1:1", "redis://10.255.255.1:1" } do
      for _, seconds in ipairs { 0, 0.003, 0.08 } do
        local client = neap.redis(u)
        local t = neap.spawn(client.get, client, "k")
        neap.sleep(seconds)
        client:close()
        assert.is_true(code_of(t.join, t):find "^redis%." ~= nil)
      end
    end
  end)
end)

describe("cancelled calls", function()
  -- answers are told apart by what was asked; 10,000 callers go away before, while and
  -- after theirs come
  case("never give one caller the reply of another", function()
    local server = servers.start()
    local client = neap.redis(server.url)
    local seed, cancelled, astray = 12345, 0, 0
    local function draw(n)
      seed = (seed * 16807) % 2147483647
      return seed % n
    end
    local tag = 0
    while cancelled < 10000 do
      local tasks = {}
      for i = 1, 400 do
        tag = tag + 1
        local own = ("tag %d"):format(tag)
        tasks[i] = neap.spawn(function()
          if client:echo(own) ~= own then astray = astray + 1 end
          if client:call("ECHO", own) ~= own then astray = astray + 1 end
        end)
      end
      for i = 1, 400 do
        if draw(16) == 0 then neap.sleep(0) end
        local t = tasks[draw(400) + 1]
        local status = t:status()
        if status == "ready" or status == "waiting" then
          t:cancel()
          cancelled = cancelled + 1
        end
        if i % 100 == 0 then assert.equal("still mine", client:echo "still mine") end
      end
      for _, t in ipairs(tasks) do
        local ok, e = pcall(t.join, t)
        assert.is_true(ok or neap.is_error(e, "cancelled"), tostring(e))
      end
    end
    assert.equal(0, astray)
    assert.equal(0, client:stats().pending)
    client:close()
    server:stop()
  end)
end)
