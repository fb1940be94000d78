-- http.fetch against servers that refuse, hang, lie and flood, and against its own callers.
local neap = require "neap"
local http = require "neap.http"
local uv = require "luv"
local certificates = require "support.certificates"
local fake = require "support.fake_server"
local process = require "support.process"
local case = require "support.case" (it)
local eventually = require "support.eventually"
local error_of, code_of = require "support.failure" (assert)
local fetch = http.fetch

local function with_backend(handler, fn)
  local backend = fake.start(handler)
  local ok, err = pcall(fn, backend.http, backend)
  backend.stop()
  if not ok then error(err, 0) end
end

-- saying returns a handler that reads one request, writes these bytes and closes.
local function saying(bytes, n)
  return function(conn)
    conn:head()
    conn:write_bytes(bytes, n or #bytes)
  end
end

-- hanging is a handler that does not answer.
local function hanging(conn)
  conn:head()
  conn:wait_gone()
end

local function plain(body)
  return ("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body)
end

-- codes_of_60 makes so many fetches at once, and counts what they failed with.
local function codes_of_60(url, options)
  local list, seen = {}, {}
  for i = 1, 60 do list[i] = url end
  neap.map(function(u)
    local code = code_of(fetch, u, options)
    seen[code] = (seen[code] or 0) + 1
  end, list)
  return seen
end

local function all_gone(server)
  eventually(function()
    for _, conn in ipairs(server.open) do if not conn.is_gone then return false end end
    return true
  end, "all connections are closed")
end

local function open_files()
  local n = 0
  local dir = assert(uv.fs_scandir "/proc/self/fd")
  while uv.fs_scandir_next(dir) do n = n + 1 end
  return n
end

describe("fetch from a server that", function()
  case("is not there", function()
    local e = error_of(fetch, "http://127.0.0.1:1/")
    assert.equal("http.connect", e.code)
    assert.equal("connect", e.phase)
    assert.equal("http.resolve", code_of(fetch, "http://nothing.invalid/"))
  end)

  -- A queue that is full takes no more connections: nobody accepts from this one.
  case("does not answer the wish for a connection", function()
    local child = process.start("/usr/bin/perl", { "-e", [[
      use Socket;
      $| = 1;
      socket(S, PF_INET, SOCK_STREAM, 0);
      bind(S, sockaddr_in(0, INADDR_LOOPBACK));
      listen(S, 0);
      print((sockaddr_in(getsockname(S)))[0], "\n");
      sleep 60;
    ]] })
    child:wait_for "\n"
    local port, fillers = tonumber(child.out), {}
    for i = 1, 4 do
      fillers[i] = uv.new_tcp()
      fillers[i]:connect("127.0.0.1", port, function() end)
    end
    neap.sleep(0.02)
    local e = error_of(fetch, "http://127.0.0.1:" .. port, { connect_timeout = 0.1 })
    assert.equal("http.timeout", e.code)
    assert.equal("connect", e.phase)
    assert.is_true(e.seconds < 5)
    local full = "http://127.0.0.1:" .. port .. "/"
    assert.same({ ["http.timeout"] = 60 }, codes_of_60(full, { connect_timeout = 0.1 }))
    assert.same({ ["http.timeout"] = 60 }, codes_of_60(full, { timeout = 0.1 }))
    -- the limit is each call's own, though a connection that was begun for another is taken up
    with_backend(hanging, function(elsewhere)
      local other = neap.spawn(pcall, fetch, elsewhere)
      local function seconds_of(options)
        local failure = error_of(fetch, full, options)
        assert.equal("http.timeout", failure.code)
        return failure.seconds, failure.message:match "the %a+ took too long"
      end
      seconds_of { timeout = 0.2, connect_timeout = 0.25 }
      local seconds, what = seconds_of { timeout = 9, connect_timeout = 0.5 }
      assert.is_true(seconds >= 0.5)
      assert.equal("the connection took too long", what)
      seconds_of { timeout = 0.1, connect_timeout = 60 }
      assert.equal("the connection took too long",
        select(2, seconds_of { timeout = 30, connect_timeout = 0.1 }))
      other:cancel()
      pcall(other.join, other)
    end)
    for _, s in ipairs(fillers) do s:close() end
    child:kill()
    child:wait()
  end)

  case("names that are not found, of calls that gave up or did not", function()
    with_backend(hanging, function(elsewhere)
      local other = neap.spawn(pcall, fetch, elsewhere)
      for i = 1, 20 do
        local code = code_of(neap.timeout, 0.0005, fetch, ("http://nothing%d.invalid/"):format(i))
        assert.is_true(code == "timeout" or code == "http.resolve", code)
      end
      assert.equal("http.resolve", code_of(fetch, "http://nothing.invalid/"))
      other:cancel()
      pcall(other.join, other)
    end)
  end)

  case("a kept connection that ends, and then no other to be had", function()
    local listener, fillers, requests = uv.new_tcp(), {}, 0
    listener:bind("127.0.0.1", 0)
    local port, accepted = listener:getsockname().port, nil
    listener:listen(1, function()
      if accepted then return end -- the others wait for ever
      accepted = uv.new_tcp()
      listener:accept(accepted)
      accepted:read_start(function(_, data)
        if not data then return end
        requests = requests + 1
        if requests == 1 then accepted:write(plain "ok") else accepted:close() end
      end)
    end)
    local full = "http://127.0.0.1:" .. port .. "/"
    assert.equal("ok", fetch(full).body)
    for i = 1, 10 do
      fillers[i] = uv.new_tcp()
      fillers[i]:connect("127.0.0.1", port, function() end)
      neap.sleep(0.01)
    end
    local e = error_of(fetch, full, { timeout = 0.3 })
    assert.same({ "http.timeout", "connect", 2 }, { e.code, e.phase, requests })
    for _, f in ipairs(fillers) do f:close() end
    listener:close()
  end)

  case("hangs before the head, within it, and before the body's end", function()
    for _, bytes in ipairs { "", "HTTP/1.1 200 OK\r\nContent-Le",
      "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf" } do
      with_backend(function(conn)
        conn:head()
        conn:write(bytes)
        conn:wait_gone()
      end, function(backend, server)
        local e = error_of(fetch, backend, { timeout = 0.05 })
        assert.equal("http.timeout", e.code)
        assert.equal(bytes == "" and "wait" or "receive", e.phase)
        assert.is_true(e.seconds < 5)
        all_gone(server)
      end)
    end
  end)

  case("writes byte by byte", function()
    with_backend(saying("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello", 1),
      function(backend)
        local res = fetch(backend)
        assert.equal("hello", res.body)
        assert.equal("y", res.headers.x)
      end)
  end)

  case("ends early, at every byte", function()
    local whole = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    for n = 0, #whole - 1 do
      with_backend(saying(whole:sub(1, n)), function(backend)
        local e = error_of(fetch, backend)
        assert.is_true(e.code == "http.closed" or e.code == "http.protocol", n .. ": " .. e.code)
      end)
    end
    local chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    for n = chunked:find("5\r\nhello", 1, true), #chunked - 5 do
      with_backend(saying(chunked:sub(1, n)), function(backend)
        assert.equal("http.closed", code_of(fetch, backend))
      end)
    end
  end)

  case("sends garbage", function()
    math.randomseed(5)
    local function noise(n)
      local t = {}
      for i = 1, n do t[i] = string.char(math.random(0, 255)) end
      return table.concat(t)
    end
    local lies = { "hello\r\n\r\n", "HTTP/9.9 200 OK\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nx",
      "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nx",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nx",
      "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello" }
    for i = 1, 30 do lies[#lies + 1] = noise(i * 7) end
    for _, bytes in ipairs(lies) do
      with_backend(saying(bytes), function(backend)
        local ok, e = pcall(fetch, backend, { timeout = 5 })
        assert.is_false(ok, bytes)
        assert.matches("^http%.", e.code)
        assert.not_equal("http.timeout", e.code, bytes)
      end)
    end
  end)

  case("sends a head without an end, or too large a body", function()
    with_backend(function(conn)
      conn:head()
      conn:write "HTTP/1.1 200 OK\r\n"
      for i = 1, 100000 do
        if conn.is_gone then return end
        conn:write("X-" .. i .. ": " .. ("y"):rep(1000) .. "\r\n")
        if i % 50 == 0 then neap.sleep(0) end
      end
    end, function(backend, server)
      local e = error_of(fetch, backend)
      assert.equal("http.too_large", e.code)
      assert.matches("the head", e.message)
      all_gone(server)
    end)
    local function endless(head)
      return function(conn)
        conn:head()
        conn:write(head)
        local piece = ("x"):rep(65536)
        while not conn.is_gone do
          conn:write(piece)
          neap.sleep(0.0005)
        end
      end
    end
    -- 1 GiB is announced, and begun
    with_backend(endless "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n",
      function(backend, server)
        local e = error_of(fetch, backend, { max_body = 1000000 })
        assert.equal("http.too_large", e.code)
        assert.matches("larger than 1000000 bytes", e.message)
        all_gone(server)
        local res = fetch(backend, { stream = true, max_body = 300000 })
        assert.equal("http.too_large", code_of(function() while res:read() do end end))
      end)
  end)

  case("sends little that unpacks to much", function()
    local dir = process.temp_dir()
    process.start("/bin/sh", { "-c", "head -c 50000000 /dev/zero | gzip -9 > bomb" }, { cwd = dir })
      :wait()
    local f = assert(io.open(dir .. "/bomb", "rb"))
    local bomb = f:read "*a"
    f:close()
    process.remove(dir)
    assert.is_true(#bomb < 100000)
    local head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    with_backend(saying(head:format(#bomb) .. bomb), function(backend)
      assert.equal("http.too_large", code_of(fetch, backend, { max_body = 1000000 }))
    end)
  end)

  case("announces more than there can be: none of it is allocated", function()
    with_backend(saying "HTTP/1.1 200 OK\r\nContent-Length: 100000000000000\r\n\r\nx",
      function(backend)
        assert.equal("http.closed", code_of(fetch, backend, { max_body = 2 ^ 50 }))
        local e = error_of(fetch, backend)
        assert.equal("http.too_large", e.code)
        assert.matches("^GET http://[%d.:]+: the body is larger than 67108864 bytes", e.message)
      end)
  end)

  case("compresses in several members, or not to the end", function()
    local dir = process.temp_dir()
    process.start("/bin/sh", { "-c", "(printf one | gzip; printf two | gzip) > both" },
      { cwd = dir }):wait()
    local f = assert(io.open(dir .. "/both", "rb"))
    local both = f:read "*a"
    f:close()
    process.remove(dir)
    local head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    with_backend(saying(head:format(#both) .. both), function(backend)
      assert.equal("onetwo", fetch(backend).body)
    end)
    for _, n in ipairs { 4, 10, #both / 2 - 3, #both - 1 } do
      with_backend(saying(head:format(n) .. both:sub(1, n)), function(backend)
        assert.equal("http.protocol", code_of(fetch, backend))
      end)
    end
  end)

  case("speaks before it is asked: that is nobody's answer", function()
    local said = neap.event()
    with_backend(function(conn)
      conn:head()
      conn:write "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"
      neap.sleep(0.01)
      conn:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
      said:set() -- in the same turn: nobody has looked at the socket since
      conn:head()
    end, function(backend, server)
      for i = 1, 3 do
        said:clear()
        assert.equal("first", fetch(backend).body)
        assert.equal(i, server.connections)
        said:wait()
      end
    end)
  end)

  case("lies in the head of what is streamed", function()
    local ok = "HTTP/1.1 200 OK\r\n"
    for _, bytes in ipairs { "HTTP/9.9 200 OK\r\n\r\n", "noise\r\n\r\n", ok .. "A: b\nC: d\r\n\r\n",
      ok .. "A: b\r\n folded\r\n\r\n", ok .. "A: b\rX: y\r\n\r\n",
      ok .. "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
      ok .. "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" } do
      with_backend(saying(bytes), function(backend)
        assert.equal("http.protocol", code_of(fetch, backend, { stream = true }), bytes)
      end)
    end
  end)

  case("answers while a large body is on its way, and closes", function()
    with_backend(function(conn)
      conn:head()
      conn.socket:read_stop()
      conn:write "HTTP/1.1 413 Too much\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
      neap.sleep(0.05)
    end, function(backend)
      for _, stream in ipairs { false, true } do
        local ok, res = pcall(fetch, backend, { method = "PUT", body = ("x"):rep(20000000),
          stream = stream, timeout = 5 })
        -- what the system has discarded nobody can read
        assert.equal(413, ok and res.status or res.code == "http.closed" and 413)
      end
    end)
  end)

  case("hangs when a body was sent piece by piece: the timeout is for all of it", function()
    with_backend(function(conn)
      conn:head()
      conn:write "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
      conn:wait_gone()
    end, function(backend)
      local e = error_of(fetch, backend, { body = function() end, timeout = 0.1 })
      assert.equal("http.timeout", e.code)
      assert.equal(1, select(2, e.message:gsub("POST http", "")))
    end)
  end)

  case("wants to be asked again in years", function()
    with_backend(saying "HTTP/1.1 503 No\r\nRetry-After: 1000000000\r\nContent-Length: 0\r\n\r\n",
      function(backend)
        assert.equal(503, fetch(backend, { retries = 5, timeout = false }).status)
      end)
  end)

  case("says more than it announced: the rest is nobody's answer", function()
    with_backend(function(conn)
      while conn:head() do
        conn:write "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 666 Evil\r\n\r\n"
      end
    end, function(backend, server)
      for _ = 1, 5 do
        local res = fetch(backend)
        assert.equal(200, res.status)
        assert.equal("ok", res.body)
      end
      assert.equal(5, server.connections) -- none of them is trusted again
    end)
  end)

  case("is resolved by a service that hangs: nothing else waits", function()
    local dir = process.temp_dir()
    process.write(dir .. "/slow.c", [[
#include <unistd.h>
int getaddrinfo(const char *n, const char *s, const void *h, void *r) {
    (void)n, (void)s, (void)h, (void)r;
    sleep(8);
    write(2, "late", 4);
    return -2;
}]])
    local cc = process.start("/usr/bin/cc", { "-shared", "-fPIC", "-o", "slow.so", "slow.c" },
      { cwd = dir }):wait()
    assert.equal(0, cc.status, cc.err)
    local child = process.start(uv.exepath(), { "-e", [[
      local neap, http = require "neap", require "neap.http"
      local longest, last = 0, neap.monotonic()
      local ticker = neap.every(0.005, function()
        longest, last = math.max(longest, neap.monotonic() - last), neap.monotonic()
      end)
      neap.sleep(0.05)
      longest = 0
      local e = select(2, pcall(http.fetch, "http://some.where/", { timeout = 0.2 }))
      print(e.code, e.phase)
      print((select(2, pcall(neap.timeout, 0.2, http.fetch, "http://some.where/"))).code)
      e = select(2, pcall(http.fetch, "http://else.where/", { connect_timeout = 0.2 }))
      print(e.code, e.phase)
      neap.sleep(0.02)
      print(longest < 2 and "smooth" or longest)
      ticker:stop() -- and the process ends, without waiting for what nobody waits for
    ]] }, { env = { LD_PRELOAD = dir .. "/slow.so",
      ASAN_OPTIONS = (os.getenv "ASAN_OPTIONS" or "") .. ":verify_asan_link_order=0" } }):wait()
    assert.equal("http.timeout\tresolve\ntimeout\nhttp.timeout\tresolve\nsmooth\n", child.out,
      child.err)
    assert.equal("", child.err)
    process.remove(dir)
  end)
end)

describe("fetch over TLS", function()
  local certs, servers

  -- serve starts a TLS server with that certificate; it answers with pages that say so.
  local function serve(name, ...)
    local child = process.start("/usr/bin/openssl", { "s_server", "-accept", "127.0.0.1:0", "-www",
      "-cert", certs:path(name .. ".pem"), "-key", certs:path(name .. ".key"), ... })
    child:wait_for "ACCEPT"
    servers[#servers + 1] = child
    return "https://127.0.0.1:" .. child.out:match "ACCEPT [%d.]+:(%d+)"
  end

  setup(function()
    certs, servers = certificates.make(), {}
  end)
  teardown(function()
    for _, child in ipairs(servers) do child:kill() end
    process.remove(certs.dir)
  end)

  case("trusts whom it is told to trust", function()
    local res = fetch(serve "server", { ca = certs:path "ca.pem" })
    assert.equal(200, res.status)
    assert.matches("s_server", res.body)
  end)

  case("refuses strangers, other names and what is over, and says which", function()
    local ca = { ca = certs:path "ca.pem" }
    local function refused(text, url, options)
      local e = error_of(fetch, url, options)
      assert.equal("http.tls", e.code)
      assert.equal("tls", e.phase)
      assert.matches(text, e.message)
    end
    local url = serve "server"
    refused("certificate", url)
    refused("certificate", url, { ca = certs:path "stranger.pem" })
    refused("no alternative certificate subject name", serve "named", ca)
    refused("expired", serve "expired", ca)
    refused("none.pem", url, { ca = certs:path "none.pem" })
    assert.equal(200, fetch(url, { verify = false }).status)
    assert.equal(200, fetch(serve "named", { verify = false }).status)
    -- a connection that was made unverified is not used by who verifies
    refused("certificate", url)
  end)

  case("shows a certificate of its own", function()
    local url = serve("server", "-Verify", "1", "-CAfile", certs:path "ca.pem",
      "-verify_return_error")
    local ca = certs:path "ca.pem"
    assert.matches("^http%.", code_of(fetch, url, { ca = ca }))
    assert.equal(200, fetch(url, { ca = ca, cert = certs:path "client.pem",
      key = certs:path "client.key" }).status)
    assert.matches("^http%.", code_of(fetch, url, { ca = ca, cert = certs:path "intruder.pem",
      key = certs:path "intruder.key" }))
  end)

  case("finds out that it is none", function()
    with_backend(saying "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", function(backend)
      assert.matches("^http%.", code_of(fetch, (backend:gsub("^http", "https")), { timeout = 5 }))
    end)
  end)

  case("speaks HTTP/2 where it is offered, many requests on one connection", function()
    process.write(certs.dir .. "/page", ("two "):rep(1000))
    local listener = uv.new_tcp()
    assert(listener:bind("127.0.0.1", 0))
    local port = listener:getsockname().port
    listener:close()
    local child = process.start("/usr/bin/stdbuf", { "-oL", "/usr/sbin/nghttpd", "-d", certs.dir,
      "-v", tostring(port), certs:path "server.key", certs:path "server.pem" })
    servers[#servers + 1] = child
    child:wait_for "listen"
    local url = "https://127.0.0.1:" .. port .. "/page"
    local bodies = neap.map(function()
      local res = fetch(url, { ca = certs:path "ca.pem" })
      assert.matches("^HTTP/2 200", res.head)
      return #res.body
    end, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 })
    for i = 1, 10 do assert.equal(4000, bodies[i]) end
    eventually(function() return child.out:find "The negotiated protocol" end)
    local _, connections = child.out:gsub("The negotiated protocol", "")
    assert.equal(1, connections)
  end)
end)

describe("many fetches at once", function()
  case("are served by as many connections at most, which are kept", function()
    local served = 0
    local function serve(conn)
      while conn:head() do
        served = served + 1
        conn:write(plain(tostring(served)))
      end
    end
    with_backend(serve, function(backend, s)
      for round = 1, 3 do
        local list = {}
        for i = 1, 100 do list[i] = backend end
        local seen = {}
        neap.map(function(u) seen[fetch(u).body] = true end, list)
        for i = 1, 100 do assert.is_true(seen[tostring((round - 1) * 100 + i)]) end
      end
      assert.is_true(s.connections <= 100, s.connections)
    end)
  end)

  case("go well with a server that closes after each answer without a word, POSTs too", function()
    with_backend(function(conn)
      conn:head()
      conn:write(plain "ok")
      conn:close()
    end, function(backend)
      local list, well = {}, 0
      for i = 1, 200 do list[i] = backend end
      neap.map(function(u)
        if fetch(u, { method = "POST", body = "" }).body == "ok" then well = well + 1 end
      end, list)
      assert.equal(200, well)
    end)
  end)

  case("each fail where nobody listens", function()
    assert.same({ ["http.connect"] = 60 }, codes_of_60 "http://127.0.0.1:1/")
  end)
end)

describe("a fetch that is cancelled", function()
  local app, server = http.app(), nil
  app:get("/after/:ms", function(req)
    neap.sleep(tonumber(req.params.ms) / 1000)
    return { text = req.params.ms }
  end)
  app:get("/big", function() return { body = ("x"):rep(300000) } end)
  setup(function() server = app:listen(0) end)
  teardown(function() server:stop() end)

  case("ten thousand times, at any point, leaves nothing behind", function()
    math.randomseed(9)
    local url = server.url
    for _ = 1, 50 do fetch(url .. "/after/0") end
    collectgarbage()
    local files = open_files() -- both ends of each connection are here
    local finished, ended = 0, 0
    local function one(i)
      local wait = math.random() * 0.03
      local target = i % 3 == 0 and "/big" or "/after/" .. i % 3
      local ok, e = pcall(neap.timeout, wait, function()
        local res = fetch(url .. target, { stream = i % 5 == 0 })
        if i % 5 == 0 then
          for _ in res:chunks() do end
        elseif i % 3 > 0 then
          assert(res.body == tostring(i % 3), "another's answer")
        end
        finished = finished + 1
      end)
      if not ok then
        assert(neap.is_error(e, "timeout"), tostring(e))
        ended = ended + 1
      end
    end
    local list = {}
    for i = 1, 10000 do list[i] = i end
    neap.map(one, list, { concurrency = 64 })
    assert.equal(10000, finished + ended)
    assert.is_true(ended > 500 and finished > 500, ended .. " " .. finished)
    collectgarbage()
    collectgarbage()
    eventually(function() return open_files() <= files + 200 end, "files are closed")
    assert.equal("0", fetch(url .. "/after/0").body)
  end)

  case("closes its connection, so that the server stops too", function()
    with_backend(hanging, function(backend, s)
      local task = neap.spawn(fetch, backend)
      eventually(function() return s.connections == 1 end)
      task:cancel()
      assert.is_false((pcall(task.join, task)))
      all_gone(s)
    end)
  end)

  case("leaves the connection that was being made for it to another", function()
    with_backend(hanging, function(elsewhere, other)
      with_backend(saying(plain "x"), function(backend, s)
        local waiting = neap.spawn(fetch, elsewhere)
        eventually(function() return other.connections == 1 end)
        local task = neap.spawn(fetch, backend)
        local next = neap.spawn(function()
          task:cancel() -- it has begun, and the loop has not polled since
          return fetch(backend)
        end)
        assert.equal("x", next:join().body)
        assert.is_false((pcall(task.join, task)))
        assert.equal(1, s.connections)
        waiting:cancel()
        pcall(waiting.join, waiting)
      end)
    end)
  end)

  case("with the handler whose client went away, unless that spawned it", function()
    with_backend(hanging, function(backend, s)
      local outcome, kept
      local front = http.app()
      front:get("/", function()
        local ok, e = pcall(fetch, backend)
        outcome = not ok and e.code
        return 200
      end)
      front:get("/detached", function()
        kept = neap.spawn(fetch, backend)
        neap.sleep(30)
      end)
      local listening = front:listen(0)
      local client = neap.spawn(fetch, listening.url)
      eventually(function() return s.connections == 1 end)
      client:cancel()
      pcall(client.join, client)
      eventually(function() return outcome end)
      assert.equal("cancelled", outcome)
      all_gone(s)
      client = neap.spawn(fetch, listening.url .. "/detached")
      eventually(function() return s.connections == 2 end)
      client:cancel()
      pcall(client.join, client)
      neap.sleep(0.05)
      assert.equal("waiting", kept:status())
      assert.is_nil(s.open[2].is_gone)
      kept:cancel()
      pcall(kept.join, kept)
      listening:stop()
    end)
  end)

  case("at the end of the process", function()
    with_backend(hanging, function(backend)
      local child = process.lua(([[
        local neap, http = require "neap", require "neap.http"
        neap.spawn(http.fetch, "%s")
        neap.spawn(http.fetch, "%s", { stream = true, timeout = false })
        neap.sleep(0.05)
        os.exit(3)
      ]]):format(backend, backend))
      assert.equal(3, child.status)
    end)
  end)

  case("at the end of the process, and tries again in its cleanup", function()
    with_backend(hanging, function(backend)
      local child = process.lua(([[
        local neap, http = require "neap", require "neap.http"
        neap.spawn(neap.shield, function()
          for i = 1, 100 do
            local ok, e = pcall(http.fetch, "%s", { stream = i %% 2 == 0 })
            if e.code == "http.closed" and not e.host then break end
          end
        end)
        neap.sleep(0.05)
        os.exit(3)
      ]]):format(backend))
      assert.equal(3, child.status, child.err)
      assert.is_nil(child.err:find "Sanitizer", child.err)
    end)
  end)

  case("not at all: a process that only waits for an answer goes on", function()
    with_backend(function(conn)
      conn:head()
      neap.sleep(0.2)
      conn:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"
      neap.sleep(0.05)
    end, function(backend)
      local child = process.lua(([[
        print(require("neap.http").fetch("%s", { timeout = false }).body)
      ]]):format(backend))
      assert.equal("done\n", child.out, child.err)
      assert.equal(0, child.status)
    end)
  end)
end)
