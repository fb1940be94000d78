-- What clients do to a server on the wire: pieces, floods, silence, lies.
local neap = require "neap"
local http = require "neap.http"
local client = require "spec.support.client"

local function get(target, extra)
  return "GET " .. target .. " HTTP/1.1\r\nHost: x\r\n" .. (extra or "") .. "\r\n"
end

local function post(body, extra)
  return "POST /echo HTTP/1.1\r\nHost: x\r\n" .. (extra or "") .. "Content-Length: " .. #body
    .. "\r\n\r\n" .. body
end

local function without_date(bytes)
  return (bytes:gsub("Date: [^\r]+", "Date: -"))
end

-- eventually waits until fn returns something true.
local function eventually(fn)
  for _ = 1, 1000 do
    local value = fn()
    if value then return value end
    neap.sleep(0.005)
  end
  error("it never came true", 2)
end

describe("an http server", function()
  local app = http.app()
  local server, small, hasty
  local gate, entered, outcome

  app:get("/", function() return { text = "root" } end)
  app:get("/n/:n", function(req) return { text = req.params.n } end)
  app:get("/slow/:n", function(req)
    neap.sleep(0.002)
    return { text = req.params.n }
  end)
  app:post("/echo", function(req) return { body = req.body } end)
  app:get("/big/:size", function(req) return { body = ("x"):rep(tonumber(req.params.size)) } end)
  app:get("/keep", function(req)
    entered:set()
    gate:wait()
    local all = req:header_table()
    return { text = table.concat({ req.method, req.target, req.query.a, req.host, all["x-a"],
      req.headers["x-b"] }, " ") }
  end)
  app:get("/gate", function()
    entered:set()
    local ok, err = pcall(gate.wait, gate)
    outcome = ok and "passed" or err.code
    if not ok then error(err, 0) end
    return { text = "passed" }
  end)

  setup(function()
    server = app:listen(0)
    small = app:listen { port = 0, max_head = 256, max_headers = 5, max_body = 1000 }
    hasty = app:listen { port = 0, header_timeout = 0.05, body_timeout = 0.05 }
  end)
  before_each(function()
    gate, entered, outcome = neap.event(), neap.event(), nil
  end)
  teardown(function()
    server:close()
    small:close()
    hasty:close()
  end)

  it("answers pipelined requests in order", function()
    local bytes, want = {}, {}
    for i = 1, 10 do
      bytes[i] = get((i % 3 == 0 and "/slow/" or "/n/") .. i)
      want[i] = tostring(i)
    end
    local c = client.connect(server.port)
    c:write(table.concat(bytes))
    local have = {}
    for i = 1, 10 do have[i] = c:response().body end
    assert.same(want, have)
    c:close()
  end)

  it("understands an exchange that is split at any byte", function()
    local bytes = get("/n/1") .. post("hello", "Expect: 100-continue\r\n") .. get("/n/2")
      .. "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      .. "3;ext=1\r\nabc\r\n0a\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n"
      .. "HEAD /n/33 HTTP/1.1\r\nHost: x\r\n\r\n" .. get("/n/4", "Connection: close\r\n")
    -- whether 100 Continue is sent depends on where the split is
    local function plain(out)
      return (without_date(out):gsub("HTTP/1.1 100 Continue\r\n\r\n", ""))
    end
    local want = plain(client.exchange(server.port, bytes))
    local bodies = select(2, want:gsub("HTTP/1.1 200 OK", ""))
    assert.equal(6, bodies)
    assert.truthy(want:find("\r\n\r\nabc0123456789HTTP/1.1 200 OK", 1, true))
    neap.map(function(at)
      local c = client.connect(server.port)
      c:send(bytes:sub(1, at))
      neap.sleep(0.01)
      c:send(bytes:sub(at + 1))
      c:is_closed()
      assert.equal(want, plain(c.input), "split at " .. at)
      c:close()
    end, (function()
      local list = {}
      for i = 1, #bytes - 1 do list[i] = i end
      return list
    end)(), { concurrency = 50 })
    -- and byte by byte
    local c = client.connect(server.port)
    for i = 1, #bytes do c:send(bytes:sub(i, i)) end
    c:is_closed()
    assert.equal(want, plain(c.input))
    c:close()
  end)

  it("survives clients that leave at any point", function()
    local bytes = post("hello") .. get("/big/300000") .. get("/slow/2")
    for _, way in ipairs { "close", "reset", "shutdown" } do
      for at = 0, #bytes do
        local c = client.connect(server.port)
        if at > 0 then c:send(bytes:sub(1, at)) end
        if at % 2 == 0 then neap.sleep(0) end
        if way == "shutdown" then
          c:shutdown()
          c:is_closed()
          c:close()
        else
          c[way](c)
        end
      end
    end
    eventually(function() return server:connections() == 0 end)
    assert.truthy(client.exchange(server.port, get("/", "Connection: close\r\n")):find("root$"))
  end)

  it("serves a client that ended its own side only", function()
    local c = client.connect(server.port)
    c:send(get("/slow/1") .. get("/n/2"))
    c:shutdown()
    assert.equal("1", c:response().body)
    assert.equal("2", c:response().body)
    assert.is_true(c:is_closed())
    c:close()
  end)

  it("keeps a request's bytes while others are read", function()
    local c = client.connect(server.port)
    c:send(get("/keep?a=query", "X-A: one\r\nX-B: two\r\n"))
    entered:wait()
    local other = client.connect(server.port)
    other:write(post(("z"):rep(60000)))
    assert.equal(60000, #other:response().body)
    other:close()
    gate:set()
    assert.equal("GET /keep?a=query query x one two", c:response().body)
    c:close()
  end)

  it("keeps a connection, or closes it, as the client wants", function()
    local c = client.connect(server.port)
    c:write("GET /n/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    local res = c:response()
    assert.same({ "1", "keep-alive" }, { res.body, res.headers.connection })
    c:write("GET /n/2 HTTP/1.0\r\n\r\n")
    res = c:response()
    assert.same({ "2", "close" }, { res.body, res.headers.connection })
    assert.is_true(c:is_closed())
    c:close()
    c = client.connect(server.port)
    c:write(get("/n/3", "Connection: close\r\n") .. get("/n/4"))
    res = c:response()
    assert.same({ "3", "close" }, { res.body, res.headers.connection })
    assert.is_true(c:is_closed())
    c:close()
  end)

  it("answers HEAD without a body", function()
    local c = client.connect(server.port)
    c:write("HEAD /n/12345 HTTP/1.1\r\nHost: x\r\n\r\n" .. get("/n/6"))
    assert.equal("5", c:response(true).headers["content-length"])
    assert.equal("6", c:response().body)
    c:close()
  end)

  it("sends the date in the form of RFC 9110", function()
    local c = client.connect(server.port)
    c:write(get("/"))
    local date = c:response().headers.date
    c:close()
    assert.truthy(date:match("^%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT$"), date)
    local now = os.time()
    local candidates = {}
    for i = -5, 1 do candidates[os.date("!%a, %d %b %Y %H:%M:%S GMT", now + i)] = true end
    assert.is_true(candidates[date])
  end)

  it("asks for a body that waits to be asked for", function()
    local c = client.connect(server.port)
    c:write("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert.equal(100, c:head().status)
    c:write("ok")
    assert.equal("ok", c:response().body)
    c:close()
    -- not where it is too large
    c = client.connect(small.port)
    c:write("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
      .. "Content-Length: 1001\r\n\r\n")
    assert.equal(413, c:response().status)
    assert.is_true(c:is_closed())
    c:close()
  end)

  it("holds to its limits", function()
    local function status(bytes)
      local c = client.connect(small.port)
      c:write(bytes)
      local res = c:response()
      assert.equal(res.status < 400 and "keep" or "close", res.headers.connection or "keep")
      if res.status >= 400 then assert.is_true(c:is_closed()) end
      c:close()
      return res.status
    end
    local fixed = #get("/", "X: \r\n")
    assert.equal(200, status(get("/", "X: " .. ("x"):rep(256 - fixed) .. "\r\n")))
    assert.equal(431, status(get("/", "X: " .. ("x"):rep(257 - fixed) .. "\r\n")))
    assert.equal(431, status("GET / HTTP/1.1\r\nHost: x\r\nX: " .. ("x"):rep(5000)))
    assert.equal(200, status(get("/", ("A: 1\r\n"):rep(4))))
    assert.equal(431, status(get("/", ("A: 1\r\n"):rep(5))))
    assert.equal(200, status(post(("x"):rep(1000))))
    assert.equal(413, status(post(("x"):rep(1001))))
    local chunked = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    local chunk = "1f4\r\n" .. ("x"):rep(500) .. "\r\n"
    assert.equal(200, status(chunked .. chunk:rep(2) .. "0\r\n\r\n"))
    assert.equal(413, status(chunked .. ("1f5\r\n" .. ("x"):rep(501) .. "\r\n"):rep(2)))
    assert.equal(431, (function()
      local c = client.connect(server.port)
      c:write("GET / HTTP/1.1\r\nHost: x\r\n" .. ("A: 1\r\n"):rep(100) .. "\r\n")
      local res = c:response()
      c:close()
      return res.status
    end)())
  end)

  it("reads a refused upload to its end, so that no reset costs the client the answer", function()
    local c = client.connect(server.port)
    c:send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n"
      .. ("x"):rep(30000000)) -- more than the kernel would hold
    assert.equal(413, c:response().status)
    assert.is_true(c:is_closed())
    assert.is_nil(c.fault)
    c:close()
  end)

  it("refuses what two parties could read differently, and closes", function()
    local evil = get("/n/smuggled")
    for name, bytes in pairs {
      ["both lengths"] = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        .. "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      ["two lengths"] = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
        .. "Content-Length: 5\r\n\r\n",
      ["a signed length"] = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n",
      ["space before a colon"] = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n",
      ["a folded line"] = "POST /echo HTTP/1.1\r\nHost: x\r\nX: 1\r\n Content-Length: 5\r\n\r\n",
      ["another coding"] = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
      ["a coding list"] = "POST /echo HTTP/1.1\r\nHost: x\r\n"
        .. "Transfer-Encoding: chunked, identity\r\n\r\n",
      ["chunked 1.0"] = "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      ["a bare line feed"] = "GET / HTTP/1.1\nHost: x\n\n",
      ["a bare return"] = "GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
      ["a bad chunk size"] = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        .. "0x1\r\na\r\n0\r\n\r\n",
      ["a chunk too long"] = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        .. "1\r\nab\r\n0\r\n\r\n",
      ["two hosts"] = "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
      ["no host"] = "GET / HTTP/1.1\r\n\r\n",
      ["a NUL"] = "GET / HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n",
    } do
      local c = client.connect(server.port)
      c:write(bytes .. evil)
      local res = c:response()
      assert.is_true(res.status == 400 or res.status == 501, name)
      assert.equal("close", res.headers.connection, name)
      assert.is_true(c:is_closed(), name)
      c:close()
    end
  end)

  it("gives up on heads and bodies that do not come", function()
    local part = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12"
    for _, bytes in ipairs { "GET / HT", part } do
      local c = client.connect(hasty.port)
      -- a drip does not help
      c:write(bytes)
      local drip = neap.spawn(function()
        while true do
          neap.sleep(0.01)
          if c.ended then return end
          pcall(c.write, c, "1")
          if #bytes > 20 then return end
        end
      end)
      local res = c:response()
      assert.equal(408, res.status)
      assert.equal("close", res.headers.connection)
      drip:cancel()
      c:close()
    end
  end)

  it("closes an idle connection after a while, without a word", function()
    local lonely = app:listen { port = 0, idle_timeout = 0.05 }
    local c = client.connect(lonely.port)
    assert.is_true(c:is_closed())
    c:close()
    c = client.connect(lonely.port)
    c:write(get("/"))
    local res = c:response()
    if res then assert.equal("root", res.body) end -- it may be slow to come
    assert.is_true(c:is_closed())
    c:close()
    lonely:close()
  end)

  it("takes 1 MiB up, and sends 20 MB down to a slow reader, its memory bounded", function()
    local body = ("0123456789abcdef"):rep(65536)
    local c = client.connect(server.port)
    c:write(post(body))
    assert.is_true(c:response().body == body)
    local function resident()
      for line in io.lines("/proc/self/status") do
        local kb = line:match("^VmRSS:%s+(%d+)")
        if kb then return tonumber(kb) end
      end
    end
    c:pause()
    collectgarbage()
    local before = resident()
    -- 50 answers of 20 MB are asked for; only one may be made at a time
    c:send(get("/big/20000000"):rep(50))
    neap.sleep(0.2)
    collectgarbage()
    assert.is_true(resident() - before < 150000)
    c:resume()
    local head = c:head()
    assert.equal("20000000", head.headers["content-length"])
    local left = 20000000
    while left > 0 do
      local n = math.min(left, 1000000)
      assert.equal(n, #c:read(n))
      left = left - n
    end
    c:reset()
    eventually(function() return server:connections() == 0 end)
  end)

  it("stops reading from a client that does not read", function()
    local c = client.connect(server.port)
    c:pause()
    -- far more requests than the kernel buffers: the writes have to stall
    local sent = 0
    local writer = neap.spawn(function()
      local many = get("/big/1000"):rep(1000)
      while true do
        c:send(many)
        sent = sent + 1
      end
    end)
    local last = -1
    eventually(function()
      local is_stalled = sent == last
      last = sent
      neap.sleep(0.1)
      return is_stalled
    end)
    writer:cancel()
    assert.is_true(sent < 2000)
    c:reset()
    eventually(function() return server:connections() == 0 end)
  end)

  it("serves 1000 connections at once", function()
    local list = {}
    for i = 1, 1000 do list[i] = i end
    local clients = neap.map(function() return client.connect(server.port) end, list,
      { concurrency = 200 })
    for _, c in ipairs(clients) do c:write(get("/slow/1") .. get("/n/2")) end
    local answered = 0
    for _, c in ipairs(clients) do
      if c:response().body == "1" and c:response().body == "2" then answered = answered + 1 end
    end
    assert.equal(1000, answered)
    for _, c in ipairs(clients) do c:close() end
    eventually(function() return server:connections() == 0 end)
  end)

  it("takes no more connections than it is told, and goes on when one ends", function()
    local few = app:listen { port = 0, max_connections = 2 }
    local a, b = client.connect(few.port), client.connect(few.port)
    a:write(get("/n/1"))
    b:write(get("/n/2"))
    assert.equal("1", a:response().body)
    assert.equal("2", b:response().body)
    local c = client.connect(few.port) -- in the backlog
    c:write(get("/n/3"))
    neap.sleep(0.02)
    assert.equal("", c.input)
    assert.equal(2, few:connections())
    a:close()
    assert.equal("3", c:response().body)
    b:close()
    c:close()
    few:close()
  end)

  it("cancels the handler of a client that is gone", function()
    local c = client.connect(server.port)
    c:send(get("/gate"))
    entered:wait()
    c:reset()
    eventually(function() return outcome end)
    assert.equal("cancelled", outcome)
  end)

  it("cancels on a plain close too, where half-closing is not wanted", function()
    local strict = app:listen { port = 0, half_close = false }
    local c = client.connect(strict.port)
    c:send(get("/gate"))
    entered:wait()
    c:close()
    eventually(function() return outcome end)
    assert.equal("cancelled", outcome)
    strict:close()
  end)

  it("cancels the handler of a client that has ended its side for a second", function()
    local c = client.connect(server.port)
    c:send(get("/gate"))
    entered:wait()
    c:close()
    eventually(function() return outcome end)
    assert.equal("cancelled", outcome)
  end)

  it("answers a client that has only ended its side, if that is wanted for long", function()
    local patient = app:listen { port = 0, half_close = true }
    for _, case in ipairs { { server, 0.05 }, { patient, 1.4 } } do
      local c = client.connect(case[1].port)
      c:send(get("/gate"))
      entered:wait()
      entered:clear()
      c:shutdown()
      neap.sleep(case[2])
      gate:set()
      assert.equal("passed", c:response().body)
      gate:clear()
      c:close()
    end
    patient:close()
  end)

  it("finishes what runs when it is stopped", function()
    local stopping = app:listen(0)
    local idle, busy = client.connect(stopping.port), client.connect(stopping.port)
    idle:write(get("/n/1"))
    assert.equal("1", idle:response().body)
    busy:send(get("/gate"))
    entered:wait()
    stopping:stop()
    assert.is_true(idle:is_closed())
    assert.is_false((pcall(client.connect, stopping.port)))
    assert.is_nil(outcome)
    gate:set()
    local res = busy:response()
    assert.same({ "passed", "close" }, { res.body, res.headers.connection })
    assert.is_true(busy:is_closed())
    assert.equal(0, eventually(function()
      return stopping:connections() == 0 and stopping:connections()
    end))
    stopping:stop()
    stopping:close()
    idle:close()
    busy:close()
  end)

  it("cuts everything when it is closed, from inside a handler too", function()
    local a = http.app()
    local own
    a:get("/", function()
      own:close()
      local ok, err = pcall(neap.sleep, 10)
      outcome = ok or err.code
      return { text = "dropped" }
    end)
    own = a:listen(0)
    assert.equal("", (client.exchange(own.port, get("/"))))
    eventually(function() return outcome end)
    assert.equal("cancelled", outcome)
  end)
end)

describe("a process that serves", function()
  local uv = require "luv"

  -- run starts the host on a script, and returns the process and the port
  -- that the script prints.
  local function run(script)
    local out, text, port = uv.new_pipe(false), "", neap.channel(1)
    local process = { ended = neap.event() }
    process.handle = uv.spawn(uv.exepath(), { args = { "-e", script }, stdio = { nil, out, 2 } },
      function(status, signal)
        process.status, process.signal = status, signal
        process.ended:set()
      end)
    out:read_start(function(_, chunk)
      text = text .. (chunk or "")
      if text:find("\n") or not chunk then
        out:close()
        port:send(tonumber(text))
      end
    end)
    return process, neap.timeout(20, port.receive, port)
  end

  local function script(body)
    return ([[
      local neap, http = require "neap", require "neap.http"
      local app = http.app()
      app:get("/", function() %s return "done" end)
      print(app:listen(0).port)
      io.stdout:flush()]]):format(body)
  end

  local function stop_while_running(body)
    local process, port = run(script(body))
    local c = client.connect(port)
    c:send(get("/"))
    neap.sleep(0.1) -- it runs now, most likely
    process.handle:kill("sigterm")
    local res = c:response()
    assert.is_true(c:is_closed())
    c:close()
    process.ended:wait()
    return res, process
  end

  it("answers what runs before it ends", function()
    local res, process = stop_while_running("neap.sleep(0.4)")
    assert.same({ 200, "done" }, { res.status, res.body })
    assert.same({ 0, 0 }, { process.status, process.signal })
  end)

  it("cancels what does not end within its grace, and answers 503", function()
    local res, process = stop_while_running("neap.sleep(1000)")
    assert.equal(503, res.status)
    assert.same({ 0, 0 }, { process.status, process.signal })
  end)
end)
