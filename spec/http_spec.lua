local neap = require "neap"
local http = require "neap.http"
local client = require "spec.support.client"
local uv = require "luv"

local function get(target, extra)
  return "GET " .. target .. " HTTP/1.1\r\nHost: x\r\n" .. (extra or "") .. "\r\n"
end

-- logged runs fn and returns what was logged meanwhile.
local function logged(fn)
  local log, lines = require "neap.log", {}
  local real = log.error
  log.error = function(fmt, ...) lines[#lines + 1] = fmt:format(...) end
  local ok, err = pcall(fn)
  log.error = real
  if not ok then error(err, 0) end
  return table.concat(lines, "\n")
end

describe("http routing", function()
  local app = http.app()
  local function show(name)
    return function(req)
      return { json = { route = name, params = next(req.params) and req.params or neap.null } }
    end
  end
  app:get("/", show "root")
  app:get("/users/new", show "new")
  app:get("/users/:id", show "user")
  app:post("/users/:id", show "post user")
  app:get("/users/:user/posts/:post", show "post")
  app:get("/files/*", show "files")
  app:get("/tree/*path", show "tree")
  app:get("/tree/root", show "tree root")
  app:get("/a/:x/c", show "a?c")
  app:get("/a/b/*", show "ab*")
  app:any("/any", show "any")
  app:route("PURGE", "/any", show "purge")
  app:get("/grüße", show "umlaut")

  local function route(method, target)
    local res = app:request(method, target)
    if res.status ~= 200 then return res.status end
    local params = {}
    for k, v in pairs(res.json.params ~= neap.null and res.json.params or {}) do
      params[#params + 1] = k .. "=" .. v
    end
    table.sort(params)
    return res.json.route .. (params[1] and " " .. table.concat(params, " ") or "")
  end

  it("finds static segments, parameters and the rest", function()
    assert.equal("root", route("GET", "/"))
    assert.equal("user id=7", route("GET", "/users/7"))
    assert.equal("post post=2 user=1", route("GET", "/users/1/posts/2"))
    assert.equal("files *=a/b.txt", route("GET", "/files/a/b.txt"))
    assert.equal("files *=", route("GET", "/files/"))
    assert.equal("tree path=a", route("GET", "/tree/a"))
    assert.equal("root", route("GET", "/?x=1"))
  end)

  it("prefers static to a parameter, a parameter to the rest, and goes back", function()
    assert.equal("new", route("GET", "/users/new"))
    assert.equal("post user id=new", route("POST", "/users/new"))
    assert.equal("tree root", route("GET", "/tree/root"))
    assert.equal("tree path=root/x", route("GET", "/tree/root/x"))
    assert.equal("ab* *=c", route("GET", "/a/b/c"))
    assert.equal("a?c x=z", route("GET", "/a/z/c"))
    assert.equal("ab* *=d", route("GET", "/a/b/d"))
  end)

  it("decodes each segment, and refuses what is malformed or means another path", function()
    assert.equal("user id=a b", route("GET", "/users/a%20b"))
    assert.equal("user id=ü", route("GET", "/users/%c3%bc"))
    assert.equal("new", route("GET", "/users/%6eew"))
    assert.equal("umlaut", route("GET", "/gr%C3%BC%C3%9Fe"))
    assert.equal("user id=a+b", route("GET", "/users/a+b"))
    for _, bad in ipairs { "%", "%2", "%zz", "%00", "%2f", "..", "%2e%2e", "." } do
      assert.equal(400, route("GET", "/users/" .. bad))
      assert.equal(400, route("GET", "/files/a/" .. bad .. "/b"))
    end
  end)

  it("tells an unknown path from a method that is not allowed", function()
    assert.equal(404, route("GET", "/nope"))
    assert.equal(404, route("GET", "/users"))
    assert.equal(404, route("GET", "/users/"))
    assert.equal(404, route("GET", "/users/1/"))
    local res = app:request("DELETE", "/users/1")
    assert.equal(405, res.status)
    assert.equal("GET, HEAD, OPTIONS, POST", res.headers.allow)
    assert.equal("any", route("DELETE", "/any"))
    assert.equal("purge", route("PURGE", "/any"))
  end)

  it("answers OPTIONS for a path and for the server", function()
    local res = app:request("OPTIONS", "/users/1")
    assert.equal(204, res.status)
    assert.equal("GET, HEAD, OPTIONS, POST", res.headers.allow)
    res = app:request("OPTIONS", "*")
    assert.equal(204, res.status)
    assert.equal("GET, OPTIONS, POST, PURGE", res.headers.allow)
  end)

  it("refuses patterns that are wrong, when they are defined", function()
    local a = http.app()
    local fn = function() return 200 end
    a:get("/x/:id", fn)
    for pattern, reason in pairs {
      ["x"] = "begin with '/'", ["/:"] = "parameter's name", ["/:a-b"] = "parameter's name",
      ["/:a/:a"] = "twice", ["/*a/b"] = "nothing can follow", ["/a*b"] = "cannot be in",
      ["/a%20b"] = "cannot be in", ["/a?b"] = "cannot be in", ["/x/:other"] = "there already",
    } do
      local ok, err = pcall(a.get, a, pattern, fn)
      assert.is_false(ok)
      assert.truthy(err:find(reason, 1, true), err)
    end
    assert.has_error(function() a:get("/y", "fn") end)
    assert.has_error(function() a:route("BAD METHOD", "/y", fn) end)
  end)
end)

describe("http answers", function()
  local app = http.app()
  local result
  app:any("/r", function() return result end)
  local function returns(value, method)
    result = value
    return app:request(method or "GET", "/r")
  end

  it("are made of strings, numbers and tables", function()
    local res = returns("<p>")
    assert.same({ 200, "<p>", "text/html; charset=utf-8" },
      { res.status, res.body, res.headers["content-type"] })
    res = returns(404)
    assert.same({ 404, "Not Found\n", "text/plain; charset=utf-8" },
      { res.status, res.body, res.headers["content-type"] })
    res = returns { status = 201, json = { a = { 1, 2 } } }
    assert.same({ 201, '{"a":[1,2]}', "application/json" },
      { res.status, res.body, res.headers["content-type"] })
    assert.same({ a = { 1, 2 } }, { a = { res.json.a[1], res.json.a[2] } })
    assert.equal("false", returns({ json = false }).body)
    res = returns { text = "t", headers = { ["X-A"] = "b", ["X-N"] = 5 } }
    assert.same({ 200, "t", "text/plain; charset=utf-8", "b", "5" },
      { res.status, res.body, res.headers["content-type"], res.headers["x-a"], res.headers["x-n"] })
    res = returns { body = "\0\1", headers = { ["content-TYPE"] = "image/png" } }
    assert.same({ "\0\1", "image/png" }, { res.body, res.headers["content-type"] })
    assert.equal("application/octet-stream", returns({ body = "x" }).headers["content-type"])
    res = returns { html = "h", headers = { ["Set-Cookie"] = { "a=1", "b=2" } } }
    assert.same({ "a=1", "b=2" }, res:all("set-cookie"))
    assert.equal(200, returns({}).status)
  end)

  it("have no body with 204 and 304, and none for HEAD", function()
    for _, status in ipairs { 204, 304 } do
      local res = returns { status = status, text = "x" }
      assert.same({ status, "" }, { res.status, res.body })
      assert.is_nil(res.headers["content-length"])
    end
    local res = returns("12345", "HEAD")
    assert.same({ "", "5" }, { res.body, res.headers["content-length"] })
  end)

  it("redirect, with 303 after a POST", function()
    local res = returns { redirect = "/x" }
    assert.same({ 302, "/x" }, { res.status, res.headers.location })
    assert.equal(303, returns({ redirect = "/x" }, "POST").status)
    assert.equal(308, returns({ redirect = "/x", status = 308 }, "POST").status)
  end)

  it("that make no sense are 500 and logged with their reason", function()
    local cycle = {}
    cycle[1] = cycle
    for reason, value in pairs {
      ["returned a boolean"] = true,
      ["unknown field 'hello'"] = { hello = 1 },
      ["has several of"] = { html = "a", text = "b" },
      ["html, text or body is a table"] = { html = {} },
      ["status is not a number from 200 to 599"] = { status = 101, text = "x" },
      ["header 'X Y' is not a header name"] = { text = "", headers = { ["X Y"] = "1" } },
      ["is the server's own"] = { text = "", headers = { ["Content-length"] = "1" } },
      ["'Transfer-Encoding' is the server's own"] =
        { text = "", headers = { ["Transfer-Encoding"] = "chunked" } },
      ["'X' is a boolean"] = { text = "", headers = { X = true } },
      ["redirect is not a string"] = { redirect = true },
      ["headers is not a table"] = { text = "", headers = "X: y" },
      ["is not a number from 200 to 599"] = 600,
    } do
      local res
      local text = logged(function() res = returns(value) end)
      assert.equal(500, res.status, reason)
      assert.truthy(res.body:find("^internal error %(request id "), res.body)
      assert.truthy(text:find(reason, 1, true), text)
    end
    assert.truthy(logged(function() returns(nil) end):find("GET /r: the handler returned nothing"))
    local res
    logged(function() res = returns { json = cycle } end)
    assert.equal(500, res.status)
  end)

  it("cannot be split by what a handler puts into them", function()
    for _, evil in ipairs { "a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b", "\r\n\r\n<script>" } do
      for _, value in ipairs { { text = "x", headers = { ["X-A"] = evil } },
        { text = "x", headers = { ["X-" .. evil] = "1" } },
        { text = "x", headers = { ["Set-Cookie"] = { "ok=1", evil } } },
        { text = "x", headers = { ["Content-Type"] = evil } },
        { redirect = evil } } do
        local res
        logged(function() res = returns(value) end)
        assert.equal(500, res.status)
        assert.is_nil(res.headers["x-evil"])
        assert.is_nil(res.head:find("evil", 1, true))
      end
    end
  end)
end)

describe("http errors in a handler", function()
  local app = http.app()
  app:get("/crash", function() error("secret detail") end)
  app:get("/table", function() error({ secret = true }) end)
  app:get("/fail", function() http.fail(422, "no <good>") end)
  app:get("/busy", function() http.fail(503, "busy") end)
  local function raise(e) error(neap.error(e)) end
  app:get("/object", function() raise { code = "x", status = 409, message = "taken" } end)
  app:get("/leak", function() raise { code = "x", status = 502, message = "secret" } end)
  app:get("/split", function() http.fail(400, "a\r\nX-Evil: 1") end)

  it("are 500 with the request's id, and the traceback goes to the log", function()
    local res
    local text = logged(function()
      res = app:request("GET", "/crash", { headers = { ["X-Request-Id"] = "abc-1" } })
    end)
    assert.same({ 500, "internal error (request id abc-1)\n" }, { res.status, res.body })
    assert.truthy(text:find("GET /crash: ", 1, true))
    assert.truthy(text:find("secret detail\n\t", 1, true))
    assert.truthy(text:find("http_spec.lua", 1, true))
    for _, path in ipairs { "/table", "/leak" } do
      logged(function() res = app:request("GET", path) end)
      assert.equal(500, res.status)
      assert.is_nil(res.body:find("secret"))
    end
  end)

  it("with a status of their own are answered with it", function()
    local res = app:request("GET", "/fail")
    assert.same({ 422, "no <good>\n", "text/plain; charset=utf-8" },
      { res.status, res.body, res.headers["content-type"] })
    assert.equal(503, app:request("GET", "/busy").status)
    res = app:request("GET", "/object")
    assert.same({ 409, "taken\n" }, { res.status, res.body })
    assert.is_nil(app:request("GET", "/split").headers["x-evil"])
  end)
end)

describe("an http request", function()
  local app = http.app()
  local seen
  app:any("/see", function(req) return seen(req) end)
  local function see(fn, options, target)
    seen = function(req) return { json = fn(req) } end
    return app:request("POST", target or "/see", options)
  end

  it("has its headers without regard to case, joined where there are several", function()
    local bytes
    local server = app:listen(0)
    seen = function(req)
      local t = req:header_table()
      return { json = { req.headers["x-a"], req.headers["X-A"], t["x-a"], t.host,
        req.headers.nope == nil, req.headers.cookie } }
    end
    bytes = client.exchange(server.port, get("/see", "X-A: 1\r\nCookie: a=1\r\nx-a: 2\r\n"
      .. "Cookie: b=2\r\nConnection: close\r\n"))
    server:close()
    assert.truthy(bytes:find('["1, 2","1, 2","1, 2","x",true,"a=1; b=2"]', 1, true), bytes)
  end)

  it("has its query, the last value winning", function()
    local res = see(function(req)
      return { req.query.a, req.query["b c"], req.query.e, req:query_all("a"), req.target,
        req.path }
    end, nil, "/see?a=1&b+c=%C3%BC&a=2&e&")
    assert.equal('["2","ü","",["1","2"],"/see?a=1&b+c=%C3%BC&a=2&e&","/see"]', res.body)
    assert.equal(400, see(function(req) return req.query end, nil, "/see?a=%zz").status)
    assert.equal(200, see(function(req) return req.query and 1 end, nil,
      "/see?" .. ("a&"):rep(1000)).status)
    assert.equal(400, see(function(req) return req.query end, nil,
      "/see?" .. ("a&"):rep(1001)).status)
  end)

  it("has its body as text, JSON or a form", function()
    assert.equal('"x\\u0000y"', see(function(req) return req.body end, { body = "x\0y" }).body)
    assert.equal("[2]", see(function(req) return { req.json.a } end, { json = { a = 2 } }).body)
    assert.equal('["v &=","2"]', see(function(req) return { req.form.k, req.form.n } end,
      { form = { k = "v &=", n = 2 } }).body)
    local res = see(function(req) return req.json end, { body = "{bad" })
    assert.same({ 400, "the body is not valid JSON\n" }, { res.status, res.body })
    assert.equal(415, see(function(req) return req.form end, { json = {} }).status)
    assert.equal('"1"', see(function(req) return req.cookies.a end,
      { headers = { Cookie = 'b="2"; a=1' } }).body)
  end)

  it("is over once it was answered, and says so", function()
    local kept
    see(function(req) kept = req return 1 end)
    local ok, err = pcall(function() return kept.body end)
    assert.is_false(ok)
    assert.is_true(neap.is_error(err, "http.over"))
    assert.equal("POST", kept.method)
  end)

  it("has an id that its tasks share and that a client may choose", function()
    local ids = see(function(req)
      local inner = neap.all { function() return neap.context.request_id end }
      return { req.id, inner[1] }
    end, { headers = { ["X-Request-Id"] = "me" } })
    assert.equal('["me","me"]', ids.body)
    local server = app:listen(0)
    seen = function(req)
      return { json = { req.id, neap.all { function() return neap.context.request_id end }[1] } }
    end
    local one = client.exchange(server.port, get("/see", "Connection: close\r\n"))
    local two = client.exchange(server.port, get("/see", "Connection: close\r\n"))
    local three = client.exchange(server.port,
      get("/see", "X-Request-Id: bad id\r\nConnection: close\r\n"))
    server:close()
    local a, b = one:match('%["([%x]+%-%d+)","([^"]+)"%]')
    assert.truthy(a, one)
    assert.equal(a, b)
    assert.is_nil(two:find(a .. '"', 1, true))
    assert.is_nil(three:find("bad id", 1, true))
  end)

  it("passes through the middleware in order", function()
    local a, trace = http.app(), {}
    a:use(function(req, next)
      trace[#trace + 1] = "in1 " .. req.path
      local res = next()
      trace[#trace + 1] = "out1 " .. res.status
      res.headers["X-One"] = "1"
      return res
    end)
    a:use(function(req, next)
      if req.path == "/stop" then return 403 end
      return next()
    end)
    local constant = { text = "c" }
    a:get("/x", function() return "html" end)
    a:get("/c", function() return constant end)
    local res = a:request("GET", "/x")
    assert.same({ 200, "html", "1" }, { res.status, res.body, res.headers["x-one"] })
    assert.same({ "in1 /x", "out1 200" }, trace)
    assert.equal(403, a:request("GET", "/stop").status)
    assert.equal("1", a:request("GET", "/none").headers["x-one"])
    assert.equal("1", a:request("GET", "/c").headers["x-one"])
    assert.is_nil(constant.headers)
  end)

  it("lends functions that escape and decode", function()
    assert.equal("&lt;a href=&quot;&#39;&amp;&quot;&gt;\0", http.escape("<a href=\"'&\">\0"))
    assert.equal("plain", http.escape("plain"))
    assert.equal("a%20%2F%C3%BC-._~", http.url_encode("a /ü-._~"))
    assert.equal("a /ü+", http.url_decode("a%20%2F%C3%BC+"))
    assert.equal("a b", http.url_decode("a+b", true))
    assert.is_nil(http.url_decode("%g0"))
    assert.equal(("x"):rep(2000) .. " ", http.url_decode(("x"):rep(2000) .. "%20"))
  end)
end)

describe("http listening", function()
  it("tells why it cannot", function()
    local app = http.app()
    local server = app:listen(0)
    local ok, err = pcall(app.listen, app, server.port)
    assert.is_false(ok)
    assert.is_true(neap.is_error(err, "http.listen"))
    assert.truthy(err.message:find("127.0.0.1 port " .. server.port .. ": EADDRINUSE", 1, true))
    server:close()
    assert.has_error(function() app:listen { prot = 1 } end)
    assert.has_error(function() app:listen { port = 70000 } end)
    assert.has_error(function() app:listen { port = 0, max_body = "x" } end)
    ok, err = pcall(app.listen, app, { path = "/nonexistent/" .. ("x"):rep(200) })
    assert.is_true(not ok and neap.is_error(err, "http.listen"))
  end)

  it("works on IPv6 and on a unix socket, also over a stale one", function()
    local app = http.app()
    app:get("/", function(req) return { text = "[" .. req.remote .. "]" } end)
    local path = os.tmpname()
    os.remove(path)
    for _ = 1, 2 do
      local server = app:listen { path = path }
      assert.equal("unix:" .. path, server.url)
      local c = client.connect(path)
      c:write(get("/"))
      assert.equal("[]", c:response().body)
      assert.is_false((pcall(app.listen, app, { path = path })))
      c:close()
      server:close()
      neap.sleep(0.01)
      -- a socket that is left behind, as by a killed process: its owner
      -- removes the name that it knows
      local stale = uv.new_pipe(false)
      assert(stale:bind(path .. ".old"))
      assert(os.rename(path .. ".old", path))
      stale:close()
      neap.sleep(0.01)
    end
    os.remove(path)
    local ok, server = pcall(app.listen, app, { host = "::1", port = 0 })
    if ok then -- not where the kernel has no IPv6
      assert.equal("http://[::1]:" .. server.port, server.url)
      server:close()
    end
  end)
end)
