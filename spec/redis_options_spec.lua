local neap = require "neap"
local fake = require "support.fake_server"
local proxies = require "support.proxy"
local servers = require "support.redis"
local process = require "support.process"
local certificates = require "support.certificates"
local eventually = require "support.eventually"
local case = require "support.case" (it)
local error_of, code_of = require "support.failure" (assert)

local function contains(text, part)
  assert.is_true(text:find(part, 1, true) ~= nil, ("%q in %q"):format(part, text))
end

-- with a client that is closed in the end
local function with(options, fn)
  local client = neap.redis(options)
  local ok, err = pcall(fn, client)
  client:close()
  if not ok then error(err, 0) end
end

describe("a client's options", function()
  local server
  setup(function()
    server = servers.start()
    with({ url = server.url }, function(c)
      c:call("ACL", "SETUSER", "ada", "on", ">pw/@:%", "~*", "&*", "+@all")
    end)
  end)
  teardown(function() server:stop() end)

  case("name user, password, db and the connections, for each kind of them", function()
    with({ host = "127.0.0.1", port = server.port, user = "ada", password = "pw/@:%", db = 3,
      name = "by-table" }, function(c)
      local function who()
        local line = c:client "INFO"
        return { line:match "user=(%S+)", line:match " db=(%S+)", line:match " name=(%S+)" }
      end
      assert.same({ "ada", "3", "by-table" }, who())
      c:rpush("l", "in three")
      assert.same({ "l", "in three" }, c:blpop("l", 1))
      local sub = c:subscribe "news"
      contains(c:client("LIST", "TYPE", "pubsub"), "name=by-table")
      contains(c:client("LIST", "TYPE", "pubsub"), "user=ada")
      sub:close()
      c:set("k", "in three")
    end)
    with({ url = server.url .. "/3" }, function(c) assert.equal("in three", c:get "k") end)
    with({ url = server.url }, function(c) assert.is_nil(c:get "k") end)
    with({ url = server.url .. "/3", db = 0 }, function(c) assert.is_nil(c:get "k") end)
    local wrong = { host = "127.0.0.1", port = server.port, user = "ada", password = "pw" }
    with(wrong, function(c) assert.equal("redis.auth", code_of(c.get, c, "k")) end)
  end)

  case("stand above the URL's, given beside it or with it", function()
    local c = neap.redis(server.url .. "/2?name=by-url&timeout=1", { name = "mine", db = "5" })
    assert.equal("mine", c:client "GETNAME")
    contains(c:client "INFO", " db=5 ")
    c:close()
    with({ url = "redis://absent.invalid:1", host = "127.0.0.1", port = server.port },
      function(c2) assert.equal("PONG", c2:ping()) end)
  end)

  case("make a client of their own; without them a URL's is the same", function()
    local a, b = neap.redis(server.url), neap.redis(server.url)
    assert.equal(a, b)
    local list = { neap.redis(server.url, {}), neap.redis(server.url, {}),
      neap.redis { url = server.url } }
    for i, c in ipairs(list) do
      assert.are_not_equal(a, c)
      for j = 1, i - 1 do assert.are_not_equal(list[j], c) end
      assert.equal("PONG", c:ping())
    end
    for _, c in ipairs(list) do c:close() end
    assert.equal(a, neap.redis(server.url))
    assert.equal("PONG", a:ping())
    a:close()
  end)

  case("leave the caller's table as it was", function()
    local options = { url = server.url, pool = 7, timeout = 2.5 }
    with(options, function(c) assert.equal(7, c:stats().limit) end)
    assert.same({ url = server.url, pool = 7, timeout = 2.5 }, options)
  end)

  case("are all taken, in the table as in the URL's query", function()
    local plain = { timeout = 2, connect_timeout = 2, pool_timeout = 2, idle_timeout = 2,
      slow = 0.5, pool = 3, queue = 100, queue_bytes = 100000, db = 1, name = "n" }
    with((function()
      local o = { url = server.url }
      for k, v in pairs(plain) do o[k] = v end
      return o
    end)(), function(c) assert.equal("PONG", c:ping()) end)
    local query = {}
    for k, v in pairs(plain) do query[#query + 1] = k .. "=" .. v end
    with({ url = server.url .. "?" .. table.concat(query, "&") }, function(c)
      assert.same({ "PONG", 3 }, { c:ping(), c:stats().limit })
    end)
    with({ url = "sentinel://h:1/main", tls = true, sentinel_tls = "yes", sentinel_user = "u",
      sentinel_password = "p", user = "u", password = "p", verify = false, sni = "h" },
      function(c) assert.is_false(c:stats().connected) end)
  end)

  case("that are unknown, or no good, are refused by name", function()
    for _, bad in ipairs {
      { "what", 1 }, { "Timeout", 1 }, { "path", "/x" }, { "slow", "-1" }, { "timeout", "soon" },
      { "timeout", -1 }, { "timeout", 0 / 0 }, { "timeout", {} }, { "timeout", print },
      { "timeout", true }, { "connect_timeout", "1s" }, { "pool", 0 }, { "pool", 1.5 },
      { "pool", "many" }, { "queue", -1 }, { "queue_bytes", 0 }, { "queue_bytes", 1e15 },
      { "db", -1 }, { "db", 0.5 }, { "db", "x" }, { "db", {} }, { "name", "a b" }, { "name", "" },
      { "name", "a\0b" }, { "password", {} }, { "password", "a\0b" }, { "user", "a\0b" },
      { "port", 0 }, { "port", 65536 }, { "port", "x" }, { "host", "" }, { "host", "a b" },
      { "host", {} }, { "verify", "perhaps" }, { "verify", 1 }, { "verify", "no" }, { "ca", "" },
      { "ca", "x" }, { "sni", "a b" }, { "tls", true }, { "tls", "yes" }, { "sentinel_user", "u" },
      { "sentinel_password", "p" }, { "sentinel_tls", "yes" },
    } do
      local err = error_of(neap.redis, server.url, { [bad[1]] = bad[2] })
      assert.equal("redis.url", err.code)
      contains(err.message, bad[1])
    end
    contains(error_of(neap.redis, server.url, { what = 1 }).message, "idle_timeout")
    assert.equal("redis.url", code_of(neap.redis, server.url, { "timeout" }))
    assert.equal("redis.url", code_of(neap.redis, server.url, { [true] = 1 }))
    assert.equal("redis.url", code_of(neap.redis, { url = "http://x" }))
    assert.equal("redis.url", code_of(neap.redis, { url = "unix:///x", host = "h" }))
  end)

  case("of the wrong kind altogether are misuse", function()
    for _, call in ipairs { { server.url, 1 }, { server.url, "timeout=1" }, { { url = 1 } },
      { { url = server.url }, {} }, { 1, {} } } do
      local ok, err = pcall(neap.redis, unpack(call))
      assert.is_false(ok)
      contains(tostring(err), "bad argument")
    end
  end)
end)

describe("the option", function()
  local server
  setup(function() server = servers.start() end)
  teardown(function() server:stop() end)

  case("pool_timeout ends the wait for a connection", function()
    with({ url = server.url, pool = 2, pool_timeout = 0.05 }, function(c)
      local held = { neap.spawn(c.blpop, c, "l", 20), neap.spawn(c.blpop, c, "l", 20) }
      eventually(function() return c:info("clients"):match "blocked_clients:2" end)
      local third = neap.spawn(c.blpop, c, "l", 20)
      neap.sleep(0.01)
      assert.equal(1, c:stats().waiting)
      local err = error_of(third.join, third)
      assert.same({ "redis.pool_timeout", "queued" }, { err.code, err.phase })
      contains(err.message, "2 connections")
      assert.equal(0, c:stats().waiting)
      c:rpush("l", "a", "b")
      for i = 1, 2 do assert.equal("l", held[i]:join()[1]) end
      assert.is_nil(c:blpop("l", 0.01))
    end)
  end)

  case("idle_timeout closes connections that nobody used for so long", function()
    with({ url = server.url, idle_timeout = 0.05 }, function(c)
      local list = {}
      for i = 1, 20 do list[i] = i end
      neap.map(function() return c:blpop("absent", 0.01) end, list)
      assert.equal(20, c:stats().created)
      eventually(function() return c:stats().idle == 0 end)
      eventually(function() return c:info("clients"):match "connected_clients:1\r" end)
      assert.is_nil(c:blpop("absent", 0.01))
      assert.equal(21, c:stats().created)
    end)
  end)

  case("slow reports calls that take as long, in the log; 0 none", function()
    local source = [[
      local c = require("neap").redis { url = os.getenv "URL", slow = tonumber(os.getenv "SLOW") }
      c:call("DEBUG", "SLEEP", "0.05")
      c:close()
      print "end"
    ]]
    local mine = servers.start { args = { "--enable-debug-command", "yes" } }
    for slow, is_told in pairs { ["0.02"] = true, ["5"] = false, ["0"] = false } do
      local r = process.lua(source, { env = { URL = mine.url, SLOW = slow } })
      assert.same({ 0, "end\n" }, { r.status, r.out })
      assert.equal(is_told, r.err:find("DEBUG took", 1, true) ~= nil)
    end
    mine:stop()
  end)

  case("connect_timeout bounds each attempt, timeout the call", function()
    local silent = fake.start(function() return "keep" end)
    with({ url = silent.url, connect_timeout = 0.03, timeout = 0.2 }, function(c)
      assert.equal("redis.connect", neap.timeout(10, code_of, c.get, c, "k"))
      assert.is_true(silent.connections >= 2, tostring(silent.connections))
    end)
    silent.stop()
  end)

  case("queue bounds what waits for a connection", function()
    for _, o in ipairs { { queue = 10 }, { queue_bytes = 330 } } do
      o.url, o.timeout = "redis://127.0.0.1:" .. servers.free_port(), 0.1
      with(o, function(c)
        local codes = {}
        local tasks = {}
        for i = 1, 30 do tasks[i] = neap.spawn(c.echo, c, "0123456789") end
        for i = 1, 30 do
          local code = code_of(tasks[i].join, tasks[i])
          codes[code] = (codes[code] or 0) + 1
        end
        assert.equal(30, codes["redis.connect"] + codes["redis.queue_full"])
        assert.is_true(codes["redis.connect"] >= 8 and codes["redis.connect"] <= 12)
      end)
    end
  end)
end)

describe("a secret", function()
  local certs, server, tls_port, sentinel
  setup(function()
    certs = certificates.make()
    tls_port = servers.free_port()
    server = servers.start { args = certs:args(tls_port, "server") }
    with({ url = "rediss://127.0.0.1:" .. tls_port, ca = certs:path "ca.pem" }, function(c)
      c:call("ACL", "SETUSER", "ada", "on", ">hush", "~*", "&*", "+@all")
    end)
    sentinel = fake.start(function(conn)
      while conn:read() do conn:write "-WRONGPASS no such user\r\n" end
    end)
  end)
  teardown(function()
    sentinel.stop()
    server:stop()
    process.remove(certs.dir)
  end)

  -- tells prints all that a program can learn of a client, as its log does
  local tells = [[
    local neap = require "neap"
    local function dump(v, depth)
      if type(v) ~= "table" or depth > 4 then return tostring(v) end
      local list = { tostring(v) }
      for k, x in pairs(v) do list[#list + 1] = tostring(k) .. "=" .. dump(x, depth + 1) end
      return "{" .. table.concat(list, ", ") .. "}"
    end
    function tell(...)
      for i = 1, select("#", ...) do print(dump((select(i, ...)), 0)) end
    end
    function use(...)
      local ok, c = pcall(neap.redis, ...)
      if not ok then return tell("no client", c) end
      tell(c, c:stats())
      c:trace(function(event) tell(event) end, { values = true })
      tell(pcall(c.set, c, "k", "v"))
      c:trace(true)
      tell(pcall(c.get, c, "k"))
      tell(pcall(c.blpop, c, "absent", 0.01))
      tell(pcall(c.subscribe, c, "news"))
      if c:stats().connected then -- else each takes its time
        tell(pcall(c.hget, c, "k", "wrong type"))
        tell(pcall(c.multi, c, function(tx) tx:get "k" end))
        tell(pcall(c.pipeline, c, function(p) p:get "k" end))
      end
      tell(c:stats(), getmetatable(c))
      c:close()
      tell(c, pcall(c.get, c, "k"))
      local co = coroutine.create(function() c:get "k" end)
      coroutine.resume(co)
      tell(debug.traceback(co))
    end
    neap.log.level "debug"
  ]]

  local function told_by(source, ...)
    local r = process.lua(tells .. source:format(...))
    assert.equal(0, r.status, r.err)
    local text = r.out .. r.err
    assert.is_nil(text:find("hush", 1, true), text)
    return text
  end

  case("that is right is shown nowhere", function()
    local text = told_by([[
      local port, ca = %d, %q
      use(("rediss://ada:hush@127.0.0.1:%%d/1?slow=0.0001&ca=%%s"):format(port, ca))
      use { host = "127.0.0.1", url = "rediss://127.0.0.1", port = port, ca = ca, user = "ada",
        password = "hush" }
    ]], tls_port, certs:path "ca.pem")
    contains(text, "redis.wrongtype")
    contains(text, "redis: GET")
    contains(text, "address=rediss://ada@127.0.0.1:" .. tls_port)
  end)

  case("that is wrong, or for a server that is not there, is shown nowhere", function()
    local text = told_by([[
      local port, ca, absent, sentinel = %d, %q, %d, %d
      use(("rediss://ada:hush1@127.0.0.1:%%d?ca=%%s"):format(port, ca))
      use(("rediss://nobody:hush@127.0.0.1:%%d?ca=%%s"):format(port, ca))
      use(("rediss://:hush@127.0.0.1:%%d"):format(port))
      use(("rediss://:hush@127.0.0.1:%%d?ca=/absent.pem"):format(port))
      use(("redis://ada:hush@127.0.0.1:%%d?timeout=0.05"):format(absent))
      use({ url = "redis://127.0.0.1:" .. absent, timeout = 0.05, password = "hush" })
      use({ url = "unix:///absent.sock", timeout = 0.05, password = "hush" })
      use(("sentinel://ada:hush@127.0.0.1:%%d/main?timeout=0.05&sentinel_password=hush"):format(
        sentinel))
      use({ url = "sentinel://127.0.0.1:" .. sentinel .. "/main", timeout = 0.05, password = "hush",
        sentinel_user = "ada", sentinel_password = "hush" })
    ]], tls_port, certs:path "ca.pem", servers.free_port(), sentinel.port)
    for _, code in ipairs { "auth", "tls", "connect", "sentinel" } do
      contains(text, "redis." .. code)
    end
    contains(text, "/absent.pem")
  end)

  case("in a URL or table that is wrong is shown nowhere", function()
    local text = told_by [[
      for _, url in ipairs { "rediss://:hush@", "rediss://ada:hush@h:x",
        "rediss://ada:hush@h:99999", "redis:/:hush@h", "redis//:hush@h", ":hush@h",
        "ada:hush@h:6379", "http://ada:hush@h",
        "redis://ada:hu/hush@h", "redis://ada:hush/x@h", "redis://ada:hush?x@h",
        "redis://ada:hush#x@h", "redis://ada:hush%%zz@h", "redis://ada:hush@h/x",
        "redis://:hush@h?x=1",
        "redis://h?password=hush&timeout=x", "redis://h?password=hush%%zz", "redis://h?pass=hush",
        "redis://h?sentinel_password=hush", "redis://h?password&=hush", "redis://h?=hush@",
        "sentinel://:hush@h", "sentinel://:hush@h,:1/main",
        "sentinel://h/main?sentinel_password=hush%%",
        "unix://:hush@", "redis://ada:hush@h,h2", "redis://ada:hush@h@h" } do
        tell("no client", url:match "^%%a*", select(2, pcall(neap.redis, url)))
      end
      for _, o in ipairs { { password = "hush\0" }, { password = { "hush" } }, { what = "hush" },
        { sentinel_password = "hush" }, { host = "ada:hush@h" }, { url = "redis://ada:hush@h" },
        { ["password=hush"] = 1 }, { ["hush@h"] = "x" }, { user = "a\0", password = "hush" },
        { timeout = "x", password = "hush" }, { db = "0?password=hush" },
        { sni = "ada:hush@h" } } do
        tell("no client", select(2, pcall(neap.redis, "redis://h", o)))
      end
    ]]
    contains(text, "redis.url")
  end)

  case("does not cross an unverified peer's wire", function()
    local p = proxies.start(tls_port)
    local seen = {}
    local fake_peer = fake.start(function(conn)
      while not conn.is_gone do
        seen[#seen + 1] = conn.buffer
        conn.news:clear()
        conn.news:wait()
      end
    end)
    with({ url = "rediss://ada:hush@127.0.0.1:" .. p.port }, function(c)
      assert.equal("redis.tls", code_of(c.get, c, "k"))
    end)
    with({ url = "rediss://ada:hush@127.0.0.1:" .. fake_peer.port, timeout = 0.1,
      connect_timeout = 0.1 }, function(c) assert.is_true(code_of(c.get, c, "k") ~= nil) end)
    assert.is_true(#seen > 1)
    assert.is_nil(table.concat(seen):find("hush", 1, true))
    fake_peer.stop()
    p:stop()
  end)
end)
