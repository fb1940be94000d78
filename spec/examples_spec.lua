local case = require "support.case" (it)
local client = require "support.client"
local http = require "neap.http"
local neap = require "neap"
local process = require "support.process"

-- without a NEAP_REDIS_URL the examples start throw-away servers
local environment = { NEAP_REDIS = "memory", NEAP_REDIS_URL = false }

-- run runs an example to its end and returns what it printed.
local function run(name, ...)
  local child = process.neap({ "examples/" .. name .. ".lua", ... }, { env = environment })
  assert.equal("", child.err)
  assert.equal(0, child.status)
  return child.out
end

-- serve starts an example that listens, and returns it and its port.
local function serve(name, env)
  local child = process.start(require("luv").exepath(), { "examples/" .. name .. ".lua", "0" },
    { env = env or environment })
  child:wait_for("/\n")
  return child, tonumber(child.out:match("^http://127%.0%.0%.1:(%d+)/\n$"))
end

local function stop(child)
  child:kill("sigterm")
  child:wait()
end

-- numbers returns all numbers of a line.
local function numbers(line)
  local list = {}
  for number in line:gmatch("[%d.]+") do list[#list + 1] = tonumber(number) end
  return list
end

describe("the pastebin", function()
  local server, port

  setup(function() server, port = serve("pastebin") end)
  teardown(function() stop(server) end)

  local function request(method, path, form)
    local fields = {}
    for name, value in pairs(form or {}) do
      fields[#fields + 1] = name .. "=" .. http.url_encode(value)
    end
    local body = table.concat(fields, "&")
    local c = client.connect(port)
    c:write(("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
      .. "Content-Type: application/x-www-form-urlencoded\r\n\r\n%s"):format(method, path, #body,
      body))
    local res = c:response()
    c:close()
    return res
  end

  -- post returns a new paste's id and its token.
  local function post(form)
    local res = request("POST", "/pastes", form)
    assert.equal(303, res.status)
    return res.headers.location:match("^/p/([%w_-]+)$"),
      res.headers["set-cookie"]:match("^token=(%x+);")
  end

  case("has a form for a new paste", function()
    local res = request("GET", "/")
    assert.equal(200, res.status)
    assert.matches('<textarea name="body"', res.body)
    assert.matches('<input name="title"', res.body)
    assert.matches('<select name="language"', res.body)
    assert.matches("<option selected>text</option>", res.body)
    assert.matches('<select name="expiry"', res.body)
    assert.matches("<option selected>never</option><option>10 minutes</option>", res.body)
  end)

  case("shows a paste, escaped", function()
    local id = post { title = "<i>T</i>", body = '<script>alert(1)</script> & "x"',
      language = "html" }
    local res = request("GET", "/p/" .. id)
    assert.equal(200, res.status)
    assert.matches("<h1>&lt;i&gt;T&lt;/i&gt;</h1>", res.body)
    assert.matches("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;x&quot;</pre>", res.body, 1,
      true)
    assert.is_nil(res.body:find("<script", 1, true))
    assert.matches('href="/raw/' .. id .. '"', res.body, 1, true)
    assert.matches('href="/language/html"', res.body, 1, true)
  end)

  case("does not fill in what looks like a template in a paste", function()
    local id = post { title = "{{id}}", body = "{{{style}}} %1 {{token}}" }
    local res = request("GET", "/p/" .. id)
    assert.matches("<h1>{{id}}</h1>", res.body, 1, true)
    assert.matches("<pre>\n{{{style}}} %1 {{token}}</pre>", res.body, 1, true)
  end)

  case("gives the text back raw, with the line breaks of the author", function()
    local id = post { body = "\r\n a\tb\r\nc <&> é\r\n" }
    local res = request("GET", "/raw/" .. id)
    assert.equal(200, res.status)
    assert.equal("\n a\tb\nc <&> é\n", res.body)
    assert.equal("text/plain; charset=utf-8", res.headers["content-type"])
    assert.equal("nosniff", res.headers["x-content-type-options"])
  end)

  case("forbids scripts on every page", function()
    for _, path in ipairs { "/", "/recent", "/p/none", "/elsewhere" } do
      local policy = request("GET", path).headers["content-security-policy"]
      assert.matches("default-src 'none'", policy, 1, true)
      assert.is_nil(policy:find("script", 1, true))
    end
  end)

  case("lists the newest first, in pages of 50", function()
    local last
    for i = 1, 51 do last = post { title = "number " .. i, body = "x" } end
    local page = request("GET", "/recent").body
    assert.equal(last, page:match('<li class="row"><a href="/p/([^"]+)">number 51</a>'))
    local _, count = page:gsub("<li", "")
    assert.equal(50, count)
    assert.is_nil(page:find("number 1<", 1, true))
    post { title = "number 52", body = "x" } -- shifts nothing
    local older = page:match('<a rel="next" href="(/recent%?after=[%w_-]+)">Older pastes</a>')
    page = request("GET", older).body
    assert.matches("number 1</a>", page, 1, true)
    assert.is_nil(page:find("number 2<", 1, true))
    assert.is_nil(page:find("Older pastes", 1, true))
    assert.equal(404, request("GET", "/recent?after=none").status)
  end)

  case("lists by language", function()
    local id = post { title = "a module", body = "return {}", language = "lua" }
    local other = post { title = "a table", body = "SELECT 1", language = "sql" }
    local page = request("GET", "/language/lua").body
    assert.matches("/p/" .. id, page, 1, true)
    assert.is_nil(page:find("/p/" .. other, 1, true))
    assert.matches("Nothing yet", request("GET", "/language/rust").body)
    assert.equal(404, request("GET", "/language/klingon").status)
  end)

  case("refuses an empty paste and keeps what was typed", function()
    local res = request("POST", "/pastes", { body = " \r\n\t", title = "<Kept>", language = "go" })
    assert.equal(422, res.status)
    assert.matches('role="alert">There is no text', res.body, 1, true)
    assert.matches('value="&lt;Kept&gt;"', res.body, 1, true)
    assert.matches("<option selected>go</option>", res.body, 1, true)
    assert.equal(422, request("POST", "/pastes").status)
  end)

  case("refuses what the model refuses, and says what", function()
    local res = request("POST", "/pastes", { body = ("x"):rep(256 * 1024 + 1) })
    assert.equal(422, res.status)
    assert.matches("The body was not accepted: it is too long", res.body, 1, true)
    res = request("POST", "/pastes", { body = "kept <text>", language = "klingon" })
    assert.equal(422, res.status)
    assert.matches("The language was not accepted", res.body, 1, true)
    assert.matches("kept &lt;text&gt;</textarea>", res.body, 1, true)
  end)

  case("shows when a paste ends, if it does", function()
    local hour = os.date("!%Y-%m-%d %H", os.time() + 3600)
    local page = request("GET", "/p/" .. post { body = "x", expiry = "1 hour" }).body
    local ends = page:match("expires <time>(%d+%-%d+%-%d+ %d+):%d+ UTC</time>")
    assert.is_true(ends >= hour, ends)
    for _, expiry in ipairs { "never", false } do
      page = request("GET", "/p/" .. post { body = "x", expiry = expiry or nil }).body
      assert.is_nil(page:find("expires", 1, true))
    end
  end)

  case("refuses an expiry that it does not offer", function()
    for _, expiry in ipairs { "2 hours", "600", "1", "", "-1" } do
      local res = request("POST", "/pastes", { body = "kept", expiry = expiry })
      assert.equal(422, res.status)
      assert.matches("The expiry was not accepted", res.body, 1, true)
      assert.matches("kept</textarea>", res.body, 1, true)
    end
    local res = request("POST", "/pastes", { body = " ", expiry = "1 week" })
    assert.matches("<option selected>1 week</option>", res.body, 1, true)
  end)

  case("takes a paste as long as the model allows", function()
    local id = post { body = ("é"):rep(256 * 1024) }
    assert.equal(512 * 1024, #request("GET", "/raw/" .. id).body)
  end)

  case("deletes with the token, and only with it", function()
    local id, token = post { body = "short-lived" }
    local res = request("POST", "/p/" .. id .. "/delete", { token = "0" .. token:sub(2) .. "x" })
    assert.equal(403, res.status)
    assert.matches("That is not its token", res.body)
    assert.equal(403, request("POST", "/p/" .. id .. "/delete").status)
    assert.equal(200, request("GET", "/p/" .. id).status)
    res = request("POST", "/p/" .. id .. "/delete", { token = token })
    assert.equal(303, res.status)
    assert.equal(404, request("GET", "/p/" .. id).status)
    assert.equal(404, request("GET", "/raw/" .. id).status)
    assert.equal(404, request("POST", "/p/" .. id .. "/delete", { token = token }).status)
    assert.is_nil(request("GET", "/recent").body:find(id, 1, true))
  end)

  case("offers its author, and nobody else, the token", function()
    local id, token = post { body = "mine" }
    local c = client.connect(port)
    c:write(("GET /p/%s HTTP/1.1\r\nHost: localhost\r\nCookie: token=%s\r\n\r\n"):format(id, token))
    assert.matches('value="' .. token .. '"', c:response().body, 1, true)
    c:close()
    assert.is_nil(request("GET", "/p/" .. id).body:find(token, 1, true))
  end)

  case("has a page for what is missing", function()
    for _, path in ipairs { "/p/none", "/raw/none", "/elsewhere" } do
      local res = request("GET", path)
      assert.equal(404, res.status)
      assert.matches("<h1>Not found</h1>", res.body, 1, true)
    end
  end)

  case("is read by load", function()
    local line = run("load", "http://127.0.0.1:" .. port .. "/", "200", "3")
    assert.matches("^200 pages over 3 connections in", line)
    local list = numbers(line:match("in .*"):gsub("p%d+", ""))
    assert.is_true(list[2] <= list[3] and list[3] <= list[4])
  end)
end)

describe("fanout", function()
  local backends, service, port

  setup(function()
    local uv = require "luv"
    local probe = uv.new_tcp() -- forty ports behind one that is free are, as a rule
    assert(probe:bind("127.0.0.1", 0))
    local first = 10000 + probe:getsockname().port % 20000
    probe:close()
    backends = process.start(uv.exepath(), { "examples/fanout_backends.lua", tostring(first) })
    backends:wait_for "/ to :"
    service = process.start(uv.exepath(), { "examples/fanout.lua", "0", tostring(first) })
    service:wait_for "/\n"
    port = service.out:match "^http://127%.0%.0%.1:(%d+)/\n$"
  end)
  teardown(function()
    stop(service)
    stop(backends)
  end)

  case("puts together what came in time, and tells what did not", function()
    local url = "http://127.0.0.1:" .. port .. "/search"
    for _, found in ipairs(neap.map(function(q)
      return http.fetch(url, { query = { q = q } }).json
    end, { "neap", "x" })) do
      assert.is_true(found.sources >= 30 and found.sources <= 38, found.sources)
      assert.equal("status 500", found.failed["13"])
      local is_late = {}
      for _, i in ipairs(found.late) do is_late[i] = true end
      assert.is_true(is_late[27])
    end
    assert.equal(400, http.fetch(url).status)
  end)

  case("lets its backends go when the client leaves", function()
    local task = neap.spawn(http.fetch, "http://127.0.0.1:" .. port .. "/search?q=x")
    neap.sleep(0.03)
    task:cancel()
    pcall(task.join, task)
    assert.equal(200, http.fetch("http://127.0.0.1:" .. port .. "/search?q=x").status)
    assert.equal("", service.err)
  end)
end)

describe("load", function()
  case("posts pastes first where there are none", function()
    local server, port = serve("pastebin")
    local line = run("load", "http://127.0.0.1:" .. port .. "/", "50")
    stop(server)
    assert.matches("^50 pages", line)
  end)
end)

describe("hello", function()
  case("answers with HTML and with JSON", function()
    local server, port = serve("hello")
    local c = client.connect(port)
    c:write("GET /?name=%3Cb%3E HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert.equal("<h1>Hello &lt;b&gt;</h1>", c:response().body)
    c:write("GET /hello/Ada HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert.equal('{"hello":"Ada"}', c:response().body)
    c:close()
    stop(server)
  end)
end)

describe("jobs", function()
  local server, port, dir, environment_of_dir

  setup(function() -- with data that outlive a process
    dir = process.temp_dir()
    environment_of_dir = { NEAP_REDIS = false, NEAP_REDIS_URL = false, NEAP_DATA = dir }
    server, port = serve("jobs", environment_of_dir)
  end)
  teardown(function()
    stop(server)
    process.remove(dir)
  end)

  local function request(method, path, value)
    local body = value and neap.json.encode(value) or ""
    local c = client.connect(port)
    c:write(("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"):format(method,
      path, #body, body))
    local res = c:response()
    c:close()
    local ok, decoded = pcall(neap.json.decode, res.body)
    return res.status, ok and decoded or res.body
  end

  -- post returns the path of a new job.
  local function post(kind, args)
    local status, answer = request("POST", "/jobs", { kind = kind, args = args })
    assert.equal(202, status)
    return "/jobs/" .. answer.id
  end

  local function get(path)
    local status, job = request("GET", path)
    assert.equal(200, status)
    return job
  end

  -- start_one posts a job of two seconds, and returns its path once it has begun.
  local function start_one()
    local path = post("count", { to = 20 })
    while not get(path).progress do neap.sleep(0.01) end
    return path
  end

  case("does a job and tells how far it is", function()
    local path = post("count", { to = 5 })
    assert.is_nil(get(path).result)
    local job = get(path .. "?wait=30")
    assert.equal("done", job.status)
    assert.equal(1, job.attempts)
    assert.equal(1, job.progress)
    assert.same({ counted = 5 }, job.result)
    assert.same({ to = 5 }, job.args)
  end)

  case("does several at once", function()
    local paths = {}
    for i = 1, 4 do paths[i] = start_one() end
    for _, path in ipairs(paths) do assert.equal("running", get(path).status) end
    for _, path in ipairs(paths) do assert.equal("done", get(path .. "?wait=30").status) end
  end)

  case("tries a job that fails again, and puts it on the dead list", function()
    local path = post("fail")
    local job = get(path .. "?wait=30")
    assert.equal("dead", job.status)
    assert.equal(3, job.attempts)
    assert.equal("this one always fails", job.error)
    assert.same({ path:match("[^/]+$") }, get("/dead"))
    assert.equal("done", get(post("count", { to = 1 }) .. "?wait=30").status) -- the workers live
  end)

  case("refuses what is no job", function()
    for _, value in ipairs { {}, { kind = "none" }, { kind = "count", args = 3 }, 3 } do
      assert.equal(422, (request("POST", "/jobs", value)))
    end
    assert.equal(400, (request("POST", "/jobs")))
    assert.equal(404, (request("GET", "/jobs/none?wait=9")))
  end)

  case("does a job again that a kill -9 cut off", function()
    local path = start_one()
    server:kill("sigkill")
    server:wait()
    server, port = serve("jobs", environment_of_dir)
    local job = get(path .. "?wait=30")
    assert.equal("done", job.status)
    assert.equal(2, job.attempts)
  end)

  case("hands a job back on SIGTERM, which does not count as an attempt", function()
    local path = start_one()
    stop(server)
    assert.equal(0, server.status)
    server, port = serve("jobs", environment_of_dir)
    local job = get(path .. "?wait=30")
    assert.equal("done", job.status)
    assert.equal(1, job.attempts)
  end)

  case("leaves nothing on the stream", function()
    local redis = neap.redis("unix://" .. dir .. "/redis.sock")
    while redis:xpending("jobs", "workers").count > 0 do neap.sleep(0.01) end
    assert.equal(0, redis:xlen("jobs"))
    redis:close()
  end)
end)

describe("set_get", function()
  case("prints best, worst and deviation of each way", function()
    local rows = {}
    for line in run("set_get", "1000"):gmatch("[^\n]+") do rows[#rows + 1] = line end
    assert.matches("best +worst +std", table.remove(rows, 1))
    if rows[1]:match("^redis%-benchmark") then table.remove(rows, 1) end
    local names = { "a plain loop", "1 task", "10 tasks", "100 tasks", "1000 tasks",
      "1 task, pipelined", "10 tasks, pipelined", "100 tasks, pipelined", "1000 tasks, pipelined" }
    assert.equal(#names, #rows)
    for i, row in ipairs(rows) do
      assert.equal(names[i], row:sub(1, 28):match("^(.-) *$"))
      local list = numbers(row:sub(29))
      assert.is_true(list[1] >= list[2] and list[2] > 0 and list[3] >= 0)
    end
  end)

  case("leaves no key behind", function()
    local server = require("support.redis").start()
    local child = process.neap({ "examples/set_get.lua", "1000" },
      { env = { NEAP_REDIS_URL = server.url } })
    assert.equal(0, child.status)
    local redis = neap.redis(server.url)
    assert.equal(0, redis:dbsize())
    redis:close()
    server:stop()
  end)
end)

describe("blocking_pop", function()
  case("waits for all lists at once while the ticker ticks", function()
    local out = run("blocking_pop", "50")
    local _, ticks = out:gsub("tick %d, %-?[%d.]+ ms late\n", "")
    assert.is_true(ticks >= 4)
    assert.is_true(tonumber(out:match("50 pops of 1 s took ([%d.]+) s")) >= 1)
    assert.matches("pool: 50 created, 0 in use, 50 idle", out)
    assert.is_true(tonumber(out:match("resident memory: ([%d.]+) MiB")) > 1)
  end)
end)

describe("pool_latency", function()
  case("pays the latency for each create, or shares it", function()
    local rows = {}
    for line in run("pool_latency", "20"):gmatch("[^\n]+") do rows[#rows + 1] = line end
    assert.matches("^20 creates +sequential +spawned +pool of 100$", rows[1])
    local latencies = { 0, 1, 5, 10, 100 }
    for i, ms in ipairs(latencies) do
      local row = rows[i + 1]
      local list = numbers((row:gsub("--full", "")))
      assert.equal(ms, list[1])
      assert.equal(ms == 100, row:find("(--full)", 1, true) ~= nil)
      assert.equal(ms == 100 and 3 or 4, #list)
      -- no faster than the latency allows, but for a timer's grain
      for _, seconds in ipairs { list[#list - 1], list[#list] } do
        assert.is_true(seconds >= 0.9 * ms / 1000)
      end
      assert.is_true(ms == 100 or list[2] >= 0.9 * 20 * ms / 1000)
    end
  end)
end)

describe("the blocking example", function()
  it("shows what blocks, what waits, and the line of the one that blocks", function()
    local child = process.neap({ "--slow", "50", "examples/blocking.lua", "0.3" },
      { env = environment })
    assert.equal(0, child.status)
    local blocking, waiting = child.out:match "blocking: +([%d.]+) s.-waiting: +([%d.]+) s"
    assert.is_true(tonumber(blocking) >= 0.9)
    assert.is_true(tonumber(waiting) >= 0.3)
    assert.matches("came 0 times\nwaiting", child.out)
    assert.matches("slices that the watchdog logged: 3\n", child.out)
    assert.matches("in a C function, [^\n]*\n\texamples/blocking.lua:12\n", child.err)
  end)
end)

describe("the console example", function()
  it("can be attached to, looked at and changed", function()
    local dir = process.temp_dir()
    local socket = dir .. "/socket"
    local child = process.start(require("luv").exepath(), { "examples/console.lua", "0", socket },
      { env = environment })
    child:wait_for "/\n"
    local function attach(...)
      local r = process.neap { "attach", socket, ... }
      assert.same({ 0, "" }, { r.status, r.err })
      return r.out
    end
    attach("-e", "service.every = 0.01", "-e", "service.resume()", "-e", "neap.sleep(0.1)")
    assert.is_true(tonumber(attach("-e", "#readings")) > 2)
    attach("-e", "service.pause()")
    local url = child.out:match "http://%S+"
    local res = http.fetch(url).json
    assert.equal(tostring(res.readings) .. "\n", attach("-e", "#readings"))
    assert.equal("1\n", attach("-e", "service.requests"))
    child:kill "sigterm"
    assert.equal(0, child:wait().status)
    process.remove(dir)
  end)
end)
