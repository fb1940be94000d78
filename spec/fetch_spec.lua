-- http.fetch: what is sent, what comes back, redirects, retries, streams.
local neap = require "neap"
local http = require "neap.http"
local fake = require "support.fake_server"
local process = require "support.process"
local case = require "support.case" (it)
local eventually = require "support.eventually"
local error_of, code_of, failure_of = require "support.failure" (assert)
local fetch = http.fetch

local app, server, url = http.app(), nil, nil

app:get("/hello", function() return { text = "hello\n", headers = { ["X-A"] = "1" } } end)
app:any("/echo", function(req)
  return { json = { method = req.method, body = req.body, target = req.target,
    headers = req:header_table() } }
end)
app:get("/cookies", function()
  return { text = "", headers = { ["Set-Cookie"] = "a=1" } }
end)
app:get("/status/:n", function(req) return tonumber(req.params.n) end)
app:any("/to/:status", function(req)
  return { status = tonumber(req.params.status), headers = { Location = req.query.url },
    text = "elsewhere" }
end)
app:get("/loop/:n", function(req) return { redirect = "/loop/" .. req.params.n + 1 } end)
app:get("/big", function(req) return { body = ("x"):rep(tonumber(req.query.n)) } end)
app:get("/slow", function(req)
  neap.sleep(tonumber(req.query.s))
  return "late"
end)

setup(function()
  server = app:listen(0)
  url = server.url
end)
teardown(function() server:stop() end)

-- with_backend runs fn(url, server) beside a server that does what handler(conn, n) says.
local function with_backend(handler, fn)
  local backend = fake.start(handler)
  local ok, err = pcall(fn, backend.http, backend)
  backend.stop()
  if not ok then error(err, 0) end
end

-- answering returns a handler that answers every request on a connection with these bytes, or
-- with what a function returns of its head.
local function answering(answer)
  return function(conn)
    for i = 1, math.huge do
      local head = conn:head()
      if not head then return end
      conn:write(type(answer) == "function" and answer(head, i) or answer)
    end
  end
end

local function plain(body)
  return ("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body)
end

describe("fetch", function()
  case("returns status, headers and body", function()
    local res = fetch(url .. "/hello")
    assert.equal(200, res.status)
    assert.equal("hello\n", res.body)
    assert.equal("1", res.headers["x-a"])
    assert.equal("text/plain; charset=utf-8", res.headers["content-type"])
    assert.equal(url .. "/hello", res.url)
    assert.equal("HTTP/1.1 200 OK\r\n", res.head:sub(1, 17))
    assert.same({ "a=1" }, fetch(url .. "/cookies"):all "Set-Cookie")
    assert.is_nil(res.headers["x-b"])
  end)

  case("takes any status for an answer", function()
    for _, status in ipairs { 204, 404, 418, 500, 503 } do
      assert.equal(status, fetch(url .. "/status/" .. status).status)
    end
  end)

  case("sends every method, with a body and without", function()
    for _, method in ipairs { "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE" } do
      local seen = fetch(url .. "/echo", { method = method }).json
      assert.equal(method, seen.method)
      assert.equal("", seen.body)
      assert.is_nil(seen.headers["content-type"])
      seen = fetch(url .. "/echo", { method = method, body = "some\0thing" }).json
      assert.equal(method, seen.method)
      assert.equal("some\0thing", seen.body)
      assert.equal("10", seen.headers["content-length"])
      assert.is_nil(seen.headers["content-type"])
    end
    local res = fetch(url .. "/hello", { method = "HEAD" })
    assert.equal(200, res.status)
    assert.equal("", res.body)
    assert.equal("6", res.headers["content-length"])
    assert.equal("POST", fetch(url .. "/echo", { body = "" }).json.method)
  end)

  case("sends headers, JSON, forms and queries", function()
    local seen = fetch(url .. "/echo", { headers = { ["X-One"] = "a b", ["X-Empty"] = "",
      ["X-Two"] = { "1", 2 }, ["User-Agent"] = "mine" } }).json.headers
    assert.equal("a b", seen["x-one"])
    assert.equal("", seen["x-empty"])
    assert.equal("1, 2", seen["x-two"])
    assert.equal("mine", seen["user-agent"])
    assert.matches("^neap/", fetch(url .. "/echo").json.headers["user-agent"])
    seen = fetch(url .. "/echo", { json = { a = { 1, 2 } } }).json
    assert.equal('{"a":[1,2]}', seen.body)
    assert.equal("application/json", seen.headers["content-type"])
    seen = fetch(url .. "/echo", { form = { a = "x&y", b = { 1, 2 } } }).json
    assert.equal("a=x%26y&b=1&b=2", seen.body)
    assert.equal("application/x-www-form-urlencoded", seen.headers["content-type"])
    seen = fetch(url .. "/echo", { json = 1, headers = { ["content-type"] = "text/x" } }).json
    assert.equal("text/x", seen.headers["content-type"])
    assert.equal("/echo?a=1&b=x%20y", fetch(url .. "/echo", { query = { a = 1, b = "x y" } })
      .json.target)
    assert.equal("/echo?z=0&a=1", fetch(url .. "/echo?z=0#there", { query = { a = 1 } })
      .json.target)
    assert.equal("/echo", fetch(url .. "/echo", { query = {} }).json.target)
  end)

  case("keeps connections", function()
    with_backend(answering(plain "ok"), function(backend, s)
      for _ = 1, 20 do assert.equal("ok", fetch(backend).body) end
      assert.equal(1, s.connections)
      neap.all { function() fetch(backend) end, function() fetch(backend) end,
        function() fetch(backend) end }
      assert.is_true(s.connections <= 3)
    end)
  end)

  case("goes on when a kept connection was closed meanwhile", function()
    with_backend(function(conn)
      conn:head()
      conn:write(plain "once")
      neap.sleep(0.01)
    end, function(backend, s)
      for _ = 1, 5 do
        assert.equal("once", fetch(backend).body)
        neap.sleep(0.03)
      end
      assert.equal(5, s.connections)
    end)
  end)

  -- The server has the request, and does not answer: only some may be asked again.
  case("sends again what may be, when a kept connection ends without an answer", function()
    local function once_then_end(conn)
      conn:head()
      conn:write(plain "first")
      conn:head()
    end
    with_backend(once_then_end, function(backend, s)
      for i = 1, 6 do
        assert.equal("first", fetch(backend).body)
        assert.equal(i, s.connections)
      end
    end)
    with_backend(once_then_end, function(backend, s)
      fetch(backend)
      assert.equal("http.closed", code_of(fetch, backend, { method = "POST", body = "x" }))
      assert.equal(1, s.connections)
      assert.equal("first", fetch(backend, { method = "POST", body = "x" }).body)
    end)
  end)

  case("takes the next address of a name when the first is dead", function()
    local port = url:match ":(%d+)$"
    assert.equal("hello\n", fetch("http://localhost:" .. port .. "/hello").body)
  end)

  case("sends and takes large bodies", function()
    local body = ("0123456789"):rep(100000)
    assert.equal(body, fetch(url .. "/echo", { method = "PUT", body = body }).json.body)
    assert.equal(20000000, #fetch(url .. "/big?n=20000000").body)
  end)

  case("takes URLs as people write them", function()
    local bare = url:match "//(.*)"
    for given, seen in pairs { [""] = "/", ["?a=1"] = "/?a=1", ["#x"] = "/", ["/?"] = "/?",
      ["/a/../echo"] = "/echo", ["/./echo?x=../y"] = "/echo?x=../y" } do
      with_backend(answering(function(head) return plain(head:match "^%u+ (%S+)") end),
        function(backend) assert.equal(seen, fetch(backend .. given).body, given) end)
    end
    assert.equal("hello\n", fetch("HTTP://" .. bare .. "/hello").body)
    assert.equal("hello\n", fetch("http://user@" .. bare .. "/hello").body)
    assert.equal("Basic dXNlcjpwdw==", fetch("http://user:pw@" .. bare .. "/echo")
      .json.headers.authorization)
    assert.equal(bare, fetch(url .. "/echo").json.headers.host)
  end)

  case("decodes what is compressed, unless told not to", function()
    local zipped = "\31\139\8\0\0\0\0\0\2\3\203\72\205\201\201\231\2\0\32\48\58\54\6\0\0\0"
    local answer = ("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s")
      :format(#zipped, zipped)
    local asked
    with_backend(answering(function(head)
      asked = head
      return answer
    end), function(backend)
      assert.equal("hello\n", fetch(backend).body)
      assert.matches("Accept%-Encoding: [^\r]*gzip", asked)
      assert.equal(zipped, fetch(backend, { decode = false }).body)
      assert.is_nil(asked:find "Accept%-Encoding")
    end)
  end)

  case("passes over interim answers, takes chunks and what ends with the connection", function()
    with_backend(answering("HTTP/1.1 100 Continue\r\n\r\n"
      .. "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
      .. "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Real: 1\r\n\r\n"
      .. "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nX-Trailer: t\r\n\r\n"), function(backend)
      local res = fetch(backend)
      assert.equal("abcdefg", res.body)
      assert.equal("1", res.headers["x-real"])
      assert.is_nil(res.headers.link)
      assert.is_nil(res.headers["x-trailer"])
    end)
  end)

  case("over a unix socket", function()
    local dir = process.temp_dir()
    local unix = app:listen { path = dir .. "/s" }
    assert.equal("hello\n", fetch("http://anything/hello", { socket = dir .. "/s" }).body)
    unix:stop()
    assert.equal("http.connect", code_of(fetch, "http://x/", { socket = dir .. "/none" }))
    process.remove(dir)
  end)

  case("by a proxy", function()
    with_backend(answering(function(head) return plain(head:match "^[^\r]+") end),
      function(backend)
        assert.equal("GET http://example.invalid/x HTTP/1.1",
          fetch("http://example.invalid/x", { proxy = backend }).body)
      end)
    with_backend(answering "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", function(backend)
      assert.matches("^http%.", code_of(fetch, "https://example.invalid/", { proxy = backend }))
    end)
  end)

  case("of many at once gives each its own", function()
    local list = {}
    for i = 1, 300 do list[i] = i end
    local got = neap.map(function(i)
      return fetch(url .. "/echo?i=" .. i).json.target
    end, list, { concurrency = 50 })
    for i = 1, 300 do assert.equal("/echo?i=" .. i, got[i]) end
  end)

  case("refuses misuse, naming it", function()
    local function says(text, ...)
      assert.matches(text, tostring(failure_of(fetch, ...)), 1, true)
    end
    says("a URL expected, got nil", nil)
    says("is no URL of http or https", "ftp://x/")
    says("is no URL of http or https", "/path")
    for _, bad in ipairs { "http://x/a b", "http://x/\r\nX: y", "http://x/\0", "http://x\127/" } do
      says("a space, a line break or a control character", bad)
    end
    says("table of options expected", url, 5)
    says("unknown option 'tiemout'", url, { tiemout = 1 })
    says("timeout has to be a number of seconds, or false", url, { timeout = 0 })
    says("connect_timeout has to be", url, { connect_timeout = false })
    says("redirects has to be a whole number", url, { redirects = 1.5 })
    says("body has to be a string, or a function", url, { body = {} })
    says("only one of body, json and form", url, { body = "x", json = 1 })
    for _, bad in ipairs { "GE T", "GET\r\n", "G\0", "" } do
      says("method", url, { method = bad })
    end
    says("CONNECT", url, { method = "CONNECT" })
    says("a HEAD has no body", url, { method = "HEAD", body = "x" })
    for _, bad in ipairs { "A B", "A:", "A\r\nB", "", "A\0" } do
      says("is no token", url, { headers = { [bad] = "x" } })
    end
    for _, bad in ipairs { "a\r\nX: y", "a\nb", "a\0b", "a\127", "\1" } do
      says("has a line break or a control character", url, { headers = { A = bad } })
    end
    says("the header A is a boolean", url, { headers = { A = true } })
    for _, name in ipairs { "Content-Length", "transfer-encoding", "Connection" } do
      says("is the client's own", url, { headers = { [name] = "1" } })
    end
    says("may do its work twice", url, { method = "POST", retries = 1 })
    says("proxy has to be without line breaks", url, { proxy = "http://x\r\n" })
    assert.matches("the response was fetched whole", tostring(failure_of(function()
      fetch(url .. "/hello"):read()
    end)))
  end)

  case("refuses URLs that cannot be read", function()
    for _, bad in ipairs { "http://", "http://x:99999/", "http://[::1/", "http://x:a/" } do
      assert.equal("http.url", code_of(fetch, bad))
    end
  end)

  case("tells of failures where, when and how far it came", function()
    local e = error_of(fetch, "http://user:secret@127.0.0.1:1/path")
    assert.equal("http.connect", e.code)
    assert.equal("connect", e.phase)
    assert.equal("127.0.0.1:1", e.host)
    assert.equal("GET", e.method)
    assert.is_true(e.seconds >= 0)
    assert.is_nil(tostring(e):find("secret", 1, true))
    e = error_of(fetch, url .. "/slow?s=1", { timeout = 0.02 })
    assert.equal("http.timeout", e.code)
    assert.equal("wait", e.phase)
  end)
end)

describe("a redirect", function()
  local function to(status, target, options)
    return fetch(url .. "/to/" .. status .. "?url=" .. http.url_encode(target), options)
  end

  case("is followed, to where the answer says", function()
    for _, status in ipairs { 301, 302, 303, 307, 308 } do
      local res = to(status, "/echo?x=1")
      assert.equal("/echo?x=1", res.json.target)
      assert.equal(url .. "/echo?x=1", res.url)
    end
    assert.equal("/hello", fetch(to(302, "../hello").url).url:match "/hello$")
    assert.equal(304, to(304, "/echo").status)
    assert.equal(302, fetch(url .. "/status/302").status)
  end)

  case("changes the method where the standard has it so", function()
    local function method(status, options)
      local seen = to(status, "/echo", options).json
      return seen.method .. " " .. seen.body .. " " .. tostring(seen.headers["content-type"])
    end
    local form = { form = { a = 1 } }
    local kept = "POST a=1 application/x-www-form-urlencoded"
    assert.equal("GET  nil", method(301, form))
    assert.equal("GET  nil", method(302, form))
    assert.equal("GET  nil", method(303, form))
    assert.equal(kept, method(307, form))
    assert.equal(kept, method(308, form))
    assert.equal("PUT x nil", method(302, { method = "PUT", body = "x" }))
    assert.equal("GET  nil", method(303, { method = "PUT", body = "x" }))
    assert.equal("GET  nil", method(303, { method = "POST", body = "x",
      headers = { ["Content-Type"] = "a/b" } }))
  end)

  case("takes no secrets to another server", function()
    local function seen_by(other)
      return to(302, other .. "/echo", { headers = { Authorization = "Bearer x", Cookie = "a=1",
        ["X-Mine"] = "1", Host = "me.example" } }).json.headers
    end
    local here = seen_by(url)
    assert.equal("Bearer x", here.authorization)
    assert.equal("a=1", here.cookie)
    assert.equal("me.example", here.host)
    local elsewhere = app:listen(0)
    local there = seen_by(elsewhere.url)
    assert.is_nil(there.authorization)
    assert.is_nil(there.cookie)
    assert.equal("1", there["x-mine"])
    assert.equal(elsewhere.url:match "//(.*)", there.host)
    local with_user = url:gsub("//", "//user:pw@")
    local res = fetch(with_user .. "/to/302?url=" .. http.url_encode(elsewhere.url .. "/echo"))
    assert.is_nil(res.json.headers.authorization)
    elsewhere:stop()
  end)

  case("is an answer when none are wanted, and an error when there are too many", function()
    local res = to(302, "/echo", { redirects = 0 })
    assert.equal(302, res.status)
    assert.equal("/echo", res.headers.location)
    local e = error_of(fetch, url .. "/loop/1")
    assert.equal("http.redirects", e.code)
    assert.matches("more than 10 redirects", e.message)
    assert.equal("http.redirects", code_of(to, 302, "/loop/1", { redirects = 1 }))
    assert.equal(200, to(302, "/hello", { redirects = 1 }).status)
  end)

  case("is not followed to where nothing is to be fetched", function()
    for _, bad in ipairs { "ftp://x/", "file:///etc/passwd", "javascript:alert(1)", "http://" } do
      assert.equal("http.redirect", code_of(to, 302, bad))
    end
  end)

  case("shares one timeout with what came before", function()
    local e = error_of(to, 302, "/slow?s=5", { timeout = 0.05 })
    assert.equal("http.timeout", e.code)
    assert.is_true(e.seconds < 2)
  end)
end)

describe("retries", function()
  local function failing(times, answer)
    return function(conn, n)
      conn:head()
      if n <= times then
        if answer then conn:write(answer) end
        return
      end
      conn:write(plain "at last")
      neap.sleep(0.02)
    end
  end

  case("try again what failed on the way", function()
    with_backend(failing(2), function(backend, s)
      assert.equal("http.closed", code_of(fetch, backend))
      assert.equal("at last", fetch(backend, { retries = 2 }).body)
      assert.equal(3, s.connections)
    end)
    with_backend(failing(3), function(backend)
      assert.equal("http.closed", code_of(fetch, backend, { retries = 1 }))
      assert.equal("at last", fetch(backend, { method = "POST", body = "x", retries = 2,
        idempotent = true }).body)
    end)
  end)

  case("try again when the server is not ready, as late as it says", function()
    local busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n%s\r\n"
    with_backend(failing(2, busy:format ""), function(backend, s)
      assert.equal(200, fetch(backend, { retries = 3 }).status)
      assert.equal(3, s.connections)
    end)
    with_backend(failing(2, busy:format "Retry-After: 30\r\n"), function(backend, s)
      assert.equal(503, fetch(backend, { retries = 3, timeout = 5 }).status)
      assert.equal(1, s.connections)
    end)
  end)

  case("do not go on behind the deadline", function()
    local e = error_of(fetch, "http://127.0.0.1:1/", { retries = 100, timeout = 0.3 })
    assert.equal("http.connect", e.code)
    assert.is_true(e.seconds < 5)
  end)
end)

describe("a streamed response", function()
  case("comes piece by piece, as it is sent", function()
    local go = neap.event()
    with_backend(function(conn)
      conn:head()
      conn:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
      go:wait()
      conn:write "6\r\nsecond\r\n0\r\n\r\n"
      neap.sleep(0.05)
    end, function(backend)
      local res = fetch(backend, { stream = true })
      assert.equal(200, res.status)
      assert.equal("first", res:read())
      go:set()
      assert.equal("second", res:read())
      assert.is_nil(res:read())
      assert.equal("http.over", code_of(res.read, res))
      res:close()
    end)
  end)

  case("is read by a loop, in constant memory", function()
    local sent, stop = 0, false
    with_backend(function(conn)
      conn:head()
      local piece = ("x"):rep(65536)
      conn:write("HTTP/1.1 200 OK\r\nContent-Length: " .. 400 * #piece .. "\r\n\r\n")
      for _ = 1, 400 do
        conn:write(piece)
        sent = sent + #piece
        while conn.socket:write_queue_size() > 0 and not stop do neap.sleep(0.001) end
      end
      neap.sleep(0.1)
    end, function(backend)
      local res = fetch(backend, { stream = true })
      neap.sleep(0.1) -- what nobody reads is not sent: the window closes
      local early = sent
      assert.is_true(early < 20 * 2 ^ 20, early)
      local n = 0
      for bytes in res:chunks() do n = n + #bytes end
      assert.equal(400 * 65536, n)
      stop = true
    end)
  end)

  case("may be given up, and the next fetch is not harmed", function()
    with_backend(function(conn)
      while conn:head() do
        conn:write("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" .. ("x"):rep(1000))
      end
    end, function(backend, s)
      local res = fetch(backend, { stream = true })
      res:read()
      res:close()
      res:close()
      eventually(function() return s.open[1].is_gone end, "the connection is closed")
      for _ = 1, 5 do fetch(backend, { stream = true }) end -- and those nobody closes
      collectgarbage()
      collectgarbage()
      eventually(function()
        for _, conn in ipairs(s.open) do if not conn.is_gone then return false end end
        return true
      end, "those that were collected are closed too")
    end)
  end)

  case("that is cut short says so after what has come", function()
    with_backend(function(conn)
      conn:head()
      conn:write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    end, function(backend)
      local res = fetch(backend, { stream = true })
      assert.equal("half", res:read())
      local e = error_of(res.read, res)
      assert.equal("http.closed", e.code)
      assert.equal("receive", e.phase)
      assert.matches("^GET http://127%.0%.0%.1", e.message)
    end)
  end)

  case("follows redirects, and says when another task reads it", function()
    local res = fetch(url .. "/to/302?url=/big?n=100000", { stream = true })
    local n = 0
    for bytes in res:chunks() do n = n + #bytes end
    assert.equal(100000, n)
    with_backend(function(conn)
      conn:head()
      conn:write "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
      neap.sleep(0.05)
    end, function(backend)
      local slow = fetch(backend, { stream = true })
      local reader = neap.spawn(function() return pcall(slow.read, slow) end)
      neap.sleep(0.01)
      assert.equal("http.busy", code_of(slow.read, slow))
      assert.equal("http.busy", code_of(slow.close, slow))
      reader:join()
    end)
  end)
end)

describe("a streamed body", function()
  -- pieces returns a body of n pieces.
  local function pieces(n, size)
    local i = 0
    return function()
      i = i + 1
      if i <= n then return ("%d,"):format(i) .. ("x"):rep(size or 0) end
    end
  end

  case("is sent as it is made", function()
    local seen = fetch(url .. "/echo", { body = pieces(5) }).json
    assert.equal("POST", seen.method)
    assert.equal("1,2,3,4,5,", seen.body)
    assert.equal("chunked", seen.headers["transfer-encoding"])
    seen = fetch(url .. "/echo", { method = "PUT", body = pieces(0) }).json
    assert.equal("PUT", seen.method)
    assert.equal("", seen.body)
    local i = 0
    seen = fetch(url .. "/echo", { body = function()
      i = i + 1
      neap.sleep(0.002)
      return ({ "a", "", "b" })[i]
    end }).json
    assert.equal("ab", seen.body)
  end)

  case("waits for the server to take it", function()
    local made, go = 0, neap.event()
    with_backend(function(conn)
      conn:head()
      conn.socket:read_stop()
      go:wait()
      conn.socket:read_start(function(_, data)
        if not data then
          conn.is_gone = true
        elseif data:find("0\r\n\r\n", 1, true) then
          conn:write(plain "thanks")
        end
        conn.news:set()
      end)
      conn:wait_gone()
    end, function(backend)
      local piece = ("x"):rep(65536)
      local task = neap.spawn(fetch, backend, { body = function()
        made = made + 1
        return made <= 400 and piece or nil
      end })
      neap.sleep(0.1)
      assert.is_true(made < 300, made)
      go:set()
      assert.equal("thanks", task:join().body)
      assert.equal(401, made)
    end)
  end)

  case("ends early when the answer is there", function()
    local made = 0
    with_backend(function(conn)
      conn:head()
      conn:write "HTTP/1.1 413 Too much\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
      neap.sleep(0.2)
    end, function(backend)
      local res = fetch(backend, { body = function()
        made = made + 1
        neap.sleep(0.005)
        return made < 1000 and ("x"):rep(1000) or nil
      end })
      assert.equal(413, res.status)
      assert.is_true(made < 1000)
    end)
  end)

  case("that fails ends the request", function()
    with_backend(answering(plain "ok"), function(backend, s)
      assert.matches("no more of it", tostring(failure_of(fetch, backend, { body = function()
        error("no more of it")
      end })))
      assert.matches("returned a number, not a string", tostring(failure_of(fetch, backend,
        { body = function() return 5 end })))
      eventually(function()
        for _, conn in ipairs(s.open) do if not conn.is_gone then return false end end
        return true
      end, "the connections are closed")
    end)
  end)

  case("cannot be sent twice", function()
    assert.equal("http.redirect", code_of(fetch, url .. "/to/307?url=/echo", { body = pieces(2) }))
    assert.equal("GET", fetch(url .. "/to/303?url=/echo", { body = pieces(2) }).json.method)
    assert.matches("cannot be sent again", tostring(failure_of(fetch, url, { method = "PUT",
      body = pieces(1), retries = 1 })))
  end)
end)
