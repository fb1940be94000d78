local neap = require "neap"
local uv = require "luv"
local fake = require "support.fake_server"
local proxies = require "support.proxy"
local servers = require "support.redis"
local process = require "support.process"
local certificates = require "support.certificates"
local eventually = require "support.eventually"
local case = require "support.case" (it)
local error_of, code_of = require "support.failure" (assert)

local certs

setup(function() certs = certificates.make() end)
teardown(function() process.remove(certs.dir) end)

local function contains(text, part)
  assert.is_true(text:find(part, 1, true) ~= nil, ("%q in %q"):format(part, text))
end

-- start a redis-server that speaks TLS alone, on server.tls_port
local function start(name, clients, more)
  local port = servers.free_port()
  local args = certs:args(port, name or "server", clients)
  for _, a in ipairs(more or {}) do args[#args + 1] = a end
  local server = servers.start { args = args }
  server.tls_port = port
  return server
end

local function url_to(port, options, host)
  return ("rediss://%s:%d?ca=%s%s"):format(host or "127.0.0.1", port, certs:path "ca.pem",
    options or "")
end

-- with a client of that URL, which is closed in the end
local function with(url, fn, options)
  local client = neap.redis(url, options or {})
  local ok, err = pcall(fn, client)
  client:close()
  if not ok then error(err, 0) end
end

-- relay is a fake server that leads to a port. carry(conn, bytes, n) is given what
-- comes from there; it returns "cut" to close connection n.
local function relay(port, carry, carry_up)
  return fake.start(function(conn, n)
    local up, answers = uv.new_tcp(), neap.channel(1000000)
    neap.await(up.connect, up, "127.0.0.1", port)
    up:nodelay(true)
    up:read_start(function(err, data)
      if data and not err then
        answers:send(data)
      elseif not answers.is_closed then
        answers:close()
      end
    end)
    local forth = neap.spawn(function()
      repeat
        conn.news:clear()
        local bytes = conn.buffer
        conn.buffer = ""
        if bytes ~= "" and carry_up then
          carry_up(up, bytes)
        elseif bytes ~= "" then
          up:write(bytes)
        elseif not conn.is_gone then
          conn.news:wait()
        end
      until conn.is_gone and conn.buffer == ""
      if not answers.is_closed then answers:close() end
    end)
    for bytes in answers:each() do
      if carry(conn, bytes, n) == "cut" then break end
    end
    forth:cancel()
    up:close()
  end)
end

describe("over TLS", function()
  local server, client
  before_each(function()
    server = server or start()
    client = neap.redis(url_to(server.tls_port), {})
    client:flushall()
  end)
  after_each(function() client:close() end)
  teardown(function() server:stop() end)

  case("commands, pipelines, transactions and bytes of any kind", function()
    local bytes = {}
    for i = 0, 255 do bytes[i + 1] = string.char(i) end
    bytes = table.concat(bytes)
    client:set("k", bytes)
    assert.equal(bytes, client:get "k")
    local r = client:pipeline(function(p)
      p:incr "n" p:get "absent" p:hset("k", "f", 1) p:incr "n"
    end)
    assert.same({ 1, false, 2 }, { r[1], r[2], r[4] })
    assert.equal("redis.wrongtype", r[3].code)
    assert.same({ 3, "3" }, client:multi(function(tx) tx:incr "n" tx:get "n" end))
    contains(client:client("INFO"), "laddr=127.0.0.1:" .. server.tls_port)
  end)

  case("a value of 10 MB comes back as it went, others around it", function()
    local parts = {}
    for i = 1, 1250000 do parts[i] = ("%08d"):format(i) end
    local big = table.concat(parts)
    local r = neap.all {
      function() return client:echo "before" end,
      function() return client:set("big", big) end,
      function() return client:echo "behind" end,
    }
    assert.same({ "before", "OK", "behind" }, r)
    assert.is_true(client:get "big" == big)
    assert.is_true(client:pipeline(function(p) p:ping() p:get "big" p:ping() end)[2] == big)
  end)

  case("a thousand tasks at once get each its own", function()
    local list = {}
    for i = 1, 1000 do list[i] = i end
    for _ = 1, 5 do
      local r = neap.map(function(i)
        client:set("k" .. i, i)
        return client:get("k" .. i) .. client:echo(i)
      end, list, { limit = 1000 })
      for i = 1, 1000 do assert.equal(i .. "" .. i, r[i]) end
    end
    contains(client:info "clients", "connected_clients:1\r")
  end)

  case("every byte in a packet of its own, both ways", function()
    local function split(to, bytes)
      for i = 1, #bytes do
        to:write(bytes:sub(i, i))
        neap.sleep(0)
      end
    end
    local r = relay(server.tls_port, split, split)
    with(url_to(r.port), function(c)
      assert.equal("OK", c:set("k", ("v"):rep(300)))
      assert.equal(("v"):rep(300), c:get "k")
      assert.same({ "a", "b", "c" }, neap.map(function(v) return c:echo(v) end, { "a", "b", "c" }))
      assert.equal(1, r.connections)
    end)
    r.stop()
  end)

  case("blocking commands, on connections of their own", function()
    local tasks = {}
    for i = 1, 20 do tasks[i] = neap.spawn(client.blpop, client, "l" .. i, 20) end
    eventually(function() return client:info("clients"):match "blocked_clients:20" end)
    for i = 1, 20 do client:rpush("l" .. i, i) end
    for i = 1, 20 do assert.same({ "l" .. i, tostring(i) }, tasks[i]:join()) end
    assert.is_nil(client:blpop("absent", 0.01))
    assert.equal(0, client:stats().in_use)
    local t = neap.spawn(client.blpop, client, "absent", 20)
    eventually(function() return client:info("clients"):match "blocked_clients:1" end)
    t:cancel()
    eventually(function() return client:info("clients"):match "blocked_clients:0" end)
  end)

  case("a loan of several commands", function()
    client:set("stock", 3)
    local left = client:watch({ "stock" }, function(tx)
      local n = tonumber(tx:get "stock") - 1
      tx:multi(function(m) m:set("stock", n) end)
      return n
    end)
    assert.same({ 2, "2" }, { left, client:get "stock" })
  end)

  case("subscriptions, which outlive their connection", function()
    local sub = client:subscribe "news"
    client:publish("news", ("x"):rep(100000))
    assert.equal(100000, #sub:next().payload)
    for i = 1, 500 do neap.spawn(client.publish, client, "news", i) end
    for i = 1, 500 do assert.equal(tostring(i), sub:next().payload) end
    client:client("KILL", "TYPE", "pubsub")
    assert.equal("reconnect", sub:next().gap)
    client:publish("news", "again")
    assert.equal("again", sub:next().payload)
    sub:close()
  end)

  case("a client that is closed at any moment of a connection's life", function()
    for i = 0, 30 do
      local c = neap.redis(url_to(server.tls_port), {})
      local t = neap.spawn(c.get, c, "k")
      local b = neap.spawn(c.blpop, c, "absent", 5)
      neap.sleep(i * 0.0002)
      c:close()
      local ok, err = pcall(t.join, t)
      assert.is_true(ok or err.code == "redis.closed", tostring(err))
      assert.equal("redis.closed", code_of(b.join, b))
    end
  end)
end)

describe("over TLS a connection", function()
  local server
  before_each(function() server = start() end)
  after_each(function() server:stop() end)

  case("is found again after the server was restarted", function()
    with(url_to(server.tls_port), function(c)
      assert.equal("PONG", c:ping())
      server:kill()
      local t = neap.spawn(c.get, c, "k")
      neap.sleep(0.02)
      server:restart()
      local ok, err = pcall(t.join, t)
      assert.is_true(ok or err.code == "redis.connect", tostring(err))
      eventually(function() return pcall(c.set, c, "k", "v") end)
      assert.equal("v", c:get "k")
      assert.equal(1, c:stats().reconnects)
    end)
  end)

  case("whose server stands still for a while loses nothing of what piles up", function()
    with(url_to(server.tls_port, "&timeout=30"), function(c)
      c:ping()
      server:signal "sigstop"
      local value, tasks = ("v"):rep(200000), {}
      for i = 1, 60 do tasks[i] = neap.spawn(c.set, c, "k" .. i, i .. value) end
      neap.sleep(0.05)
      server:signal "sigcont"
      for i = 1, 60 do assert.equal("OK", tasks[i]:join()) end
      for i = 1, 60 do assert.is_true(c:get("k" .. i) == i .. value) end
      assert.equal(0, c:stats().reconnects)
    end)
  end)

  case("cut in the handshake is tried again", function()
    local cuts = { 0, 5, 100, 600 }
    local passed = {}
    local r = relay(server.tls_port, function(conn, bytes, n)
      if not cuts[n] then return conn:write(bytes) end
      passed[n] = passed[n] or 0
      conn:write(bytes:sub(1, cuts[n] - passed[n]))
      passed[n] = passed[n] + #bytes
      if passed[n] >= cuts[n] then
        neap.sleep(0.002)
        return "cut"
      end
    end)
    with(url_to(r.port, "&timeout=20"), function(c)
      assert.equal("OK", c:set("k", "v"))
      assert.equal(#cuts + 1, r.connections)
    end)
    r.stop()
  end)

  case("cut in every handshake fails the call in time, without haste", function()
    local r = fake.start(function(conn)
      while conn.buffer == "" do conn.news:clear() conn.news:wait() end
    end)
    with(url_to(r.port, "&timeout=0.3"), function(c)
      assert.equal("redis.connect", code_of(c.get, c, "k"))
      assert.is_true(r.connections >= 2 and r.connections < 10, tostring(r.connections))
    end)
    r.stop()
  end)

  -- cutting relays, and when told to ends a connection in the middle of an answer
  local function cutting()
    local r
    r = relay(server.tls_port, function(conn, bytes)
      if not r.is_cutting then return conn:write(bytes) end
      r.is_cutting = false
      conn:write(bytes:sub(1, math.floor(#bytes / 2)))
      neap.sleep(0.002)
      return "cut"
    end)
    return r
  end

  case("cut in the middle of a reply: reads are asked again, writes are not", function()
    local r = cutting()
    with(url_to(r.port), function(c)
      local big = ("v"):rep(1000000)
      c:set("big", big)
      r.is_cutting = true
      assert.is_true(c:get "big" == big)
      assert.equal(1, c:stats().retries)
      assert.is_false(r.is_cutting)
      r.is_cutting = true
      local err = error_of(c.incr, c, "n")
      assert.same({ "redis.unknown_outcome", "sent", "INCR" }, { err.code, err.phase, err.command })
      assert.equal("1", c:get "n")
      r.is_cutting = true
      assert.equal("redis.unknown_outcome", c:pipeline(function(p) p:incr "n" end)[1].code)
      assert.equal("2", c:get "n")
      assert.equal(3, c:stats().reconnects)
    end)
    r.stop()
  end)

  case("lost under load: every call settles, none gets another's reply", function()
    local r = cutting()
    with(url_to(r.port, "&timeout=10"), function(c)
      c:ping()
      local is_over, answered = false, 0
      local tasks = {}
      for i = 1, 50 do
        tasks[i] = neap.spawn(function()
          local n = 0
          while not is_over do
            n = n + 1
            local text = i .. ":" .. n
            local ok, v = pcall(c.echo, c, text)
            assert.equal(ok and text or "redis.unknown_outcome", ok and v or v.code)
            if ok then answered = answered + 1 end
          end
        end)
      end
      for _ = 1, 4 do
        local before = answered
        r.is_cutting = true
        eventually(function() return not r.is_cutting and answered > before + 100 end)
      end
      is_over = true
      for i = 1, 50 do tasks[i]:join() end
    end)
    r.stop()
  end)

  case("whose peer never answers the handshake ends by the time to connect", function()
    local silent = fake.start(function() return "keep" end)
    with(url_to(silent.port, "&timeout=0.1&connect_timeout=0.1"), function(c)
      for _, fn in ipairs { c.get, c.incr, c.subscribe } do
        local code = neap.timeout(10, code_of, fn, c, "k")
        assert.is_true(code == "redis.connect" or code == "redis.timeout", code)
      end
      assert.equal("redis.connect", neap.timeout(10, code_of, c.blpop, c, "k", 1))
      assert.equal(0, c:stats().in_use)
      assert.is_true(silent.connections < 30)
    end)
    silent.stop()
  end)

  case("to who speaks something else fails at once, saying so", function()
    for _, text in ipairs { "-ERR unknown command\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n" } do
      local plain = fake.start(function(conn)
        while conn.buffer == "" do conn.news:clear() conn.news:wait() end
        conn:write(text)
        return "keep"
      end)
      with(url_to(plain.port), function(c)
        local err = error_of(c.get, c, "k")
        assert.equal("redis.tls", err.code)
        contains(err.message, "does not speak TLS")
        contains(err.message, "127.0.0.1:" .. plain.port)
        assert.equal("redis.tls", code_of(c.blpop, c, "k", 1))
        assert.equal(2, plain.connections)
      end)
      plain.stop()
    end
  end)

  case("to a plain port, and a plain one to a TLS port, fails in time", function()
    local plain = servers.start()
    local short = "timeout=0.3&connect_timeout=0.3"
    for _, pair in ipairs {
      { plain.port, function(p) return url_to(p.port, "&" .. short) end },
      { server.tls_port, function(p) return p.url .. "?" .. short end },
    } do
      local p = proxies.start(pair[1])
      with(pair[2](p), function(c)
        for _ = 1, 2 do
          local code = neap.timeout(10, code_of, c.get, c, "k")
          assert.is_true(code == "redis.connect" or code == "redis.tls", code)
        end
        assert.is_true(p.connections >= 1 and p.connections < 15, tostring(p.connections))
      end)
      p:stop()
    end
    plain:stop()
  end)
end)

describe("a server's certificate", function()
  local server, named, p
  setup(function()
    server, named = start "server", start "named"
    p = proxies.start(server.tls_port)
  end)
  teardown(function()
    p:stop()
    server:stop()
    named:stop()
  end)

  -- refusal of every kind of call; each makes one attempt, and no more
  local function refusal_of(url, options)
    local message
    with(url, function(c)
      local before = p.connections
      local err = error_of(c.get, c, "k")
      assert.equal("redis.tls", err.code)
      assert.equal("GET", err.command)
      message = err.message
      assert.equal("redis.tls", code_of(c.blpop, c, "k", 1))
      assert.equal("redis.tls", code_of(c.multi, c, function(tx) tx:incr "k" end))
      assert.equal("redis.tls", code_of(c.subscribe, c, "k"))
      neap.sleep(0.2)
      assert.is_true(p.connections <= before + 4, tostring(p.connections - before))
      assert.is_false(c:stats().connected)
      assert.equal(0, c:stats().in_use)
    end, options)
    return message
  end

  case("by an unknown authority is refused at once, without another try", function()
    local before = p.connections
    local message = refusal_of("rediss://127.0.0.1:" .. p.port .. "?timeout=20")
    contains(message, "certificate verify failed: self-signed certificate in certificate chain")
    contains(message, "127.0.0.1:" .. p.port)
    assert.equal(before + 4, p.connections)
    refusal_of("rediss://127.0.0.1:" .. p.port, { ca = certs:path "stranger.pem" })
    assert.equal(before + 8, p.connections)
  end)

  case("for another name is refused; sni says which name it has to be for", function()
    local port = named.tls_port
    contains(refusal_of(url_to(port)), "IP address mismatch")
    contains(refusal_of(url_to(port, nil, "localhost")), "ostname mismatch")
    contains(refusal_of(url_to(port, "&sni=other.example")), "ostname mismatch")
    contains(refusal_of(url_to(p.port, "&sni=redis.example")), "ostname mismatch")
    with(url_to(port, "&sni=redis.example"), function(c) assert.equal("PONG", c:ping()) end)
    with(url_to(port), function(c) assert.equal("PONG", c:ping()) end, { sni = "redis.example" })
    for _, host in ipairs { "127.0.0.1", "localhost" } do
      with(url_to(server.tls_port, nil, host), function(c) assert.equal("PONG", c:ping()) end)
    end
  end)

  case("is not looked at with verify=no", function()
    for _, s in ipairs { server, named } do
      local url = "rediss://127.0.0.1:" .. s.tls_port
      with(url .. "?verify=no", function(c) assert.equal("PONG", c:ping()) end)
      with(url, function(c) assert.equal("PONG", c:ping()) end, { verify = "no" })
      with(url, function(c) assert.equal("PONG", c:ping()) end, { verify = false })
      contains(refusal_of(url, { verify = true }), "certificate verify failed")
      contains(refusal_of(url .. "?verify=no", { verify = "yes" }), "certificate verify failed")
    end
  end)
end)

describe("a client's certificate", function()
  local server, optional
  setup(function() server, optional = start("server", "yes"), start("server", "optional") end)
  teardown(function()
    server:stop()
    optional:stop()
  end)

  local function mine(name)
    return { cert = certs:path(name .. ".pem"), key = certs:path(name .. ".key") }
  end

  case("that is asked for and given", function()
    for _, s in ipairs { server, optional } do
      with(url_to(s.tls_port), function(c)
        assert.equal("PONG", c:ping())
        assert.is_nil(c:blpop("absent", 0.01))
        c:subscribe("news"):close()
      end, mine "client")
      with(url_to(s.tls_port, ("&cert=%s&key=%s"):format(certs:path "client.pem",
        certs:path "client.key")), function(c) assert.equal("PONG", c:ping()) end)
      local o = mine "client"
      o.url, o.ca = "rediss://127.0.0.1:" .. s.tls_port, certs:path "ca.pem"
      local c = neap.redis(o)
      assert.equal("PONG", c:ping())
      c:close()
    end
  end)

  case("that is asked for and missing, or a stranger's, is a clear error", function()
    with(url_to(optional.tls_port), function(c) assert.equal("PONG", c:ping()) end)
    for _, o in ipairs { {}, mine "intruder" } do
      local p = proxies.start(server.tls_port)
      with(url_to(p.port, "&timeout=20"), function(c)
        for _, call in ipairs { { c.get, "k" }, { c.incr, "k" }, { c.blpop, "k", 1 },
          { c.subscribe, "k" } } do
          local err = error_of(call[1], c, unpack(call, 2))
          assert.equal("redis.tls", err.code)
          contains(err.message, next(o) and "unknown ca" or "certificate required")
        end
        assert.equal(0, c:stats().in_use)
        assert.equal(4, p.connections)
      end, o)
      p:stop()
    end
  end)

  case("whose files are no good is refused where the client is made, by name", function()
    local function refused(name, options, why)
      options.url = options.url or "rediss://127.0.0.1"
      local err = error_of(neap.redis, options)
      assert.equal("redis.tls", err.code)
      contains(err.message, certs:path(name))
      contains(err.message, why)
    end
    process.write(certs:path "garbage.pem", "no certificate at all\n")
    process.write(certs:path "empty.pem", "")
    refused("absent.pem", { ca = certs:path "absent.pem" }, "No such file")
    refused("absent.pem", { url = "rediss://h?ca=" .. certs:path "absent.pem" }, "No such file")
    refused("garbage.pem", { ca = certs:path "garbage.pem" }, "ca")
    refused("empty.pem", { ca = certs:path "empty.pem" }, "ca")
    refused("client.key", { cert = certs:path "server.pem", key = certs:path "client.key" },
      "does not fit")
    refused("absent.key", { cert = certs:path "client.pem", key = certs:path "absent.key" },
      "No such file")
    refused("absent.pem", { cert = certs:path "absent.pem", key = certs:path "client.key" },
      "No such file")
    refused("garbage.pem", { cert = certs:path "client.pem", key = certs:path "garbage.pem" },
      "key")
    refused("garbage.pem", { cert = certs:path "garbage.pem", key = certs:path "client.key" },
      "cert")
    for _, o in ipairs { { cert = "x.pem" }, { key = "x.pem" } } do
      assert.equal("redis.url", code_of(neap.redis, "rediss://h", o))
    end
    for _, o in ipairs { { ca = "x.pem" }, { verify = "no" }, { sni = "h" },
      { cert = "x.pem", key = "x.key" } } do
      assert.equal("redis.url", code_of(neap.redis, "redis://h", o))
    end
  end)
end)
