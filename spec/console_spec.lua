local case = require "support.case" (it)
local neap = require "neap"
local process = require "support.process"
local terminal = require "support.terminal"
local console_client = require "support.console_client"
local eventually = require "support.eventually"
local _, code_of, failure_of = require "support.failure" (assert)
local uv = require "luv"

local path = uv.exepath()

describe("a console", function()
  local dir, socket, service

  setup(function()
    dir = process.temp_dir()
    socket = dir .. "/console"
    process.write(dir .. "/service.lua", [[
      local neap = require "neap"
      count, ended = 0, {}
      neap.every(0.005, function() count = count + 1 end)
      function shop() return { { name = "tea", cents = 300 } } end
      print "ready"
    ]])
  end)
  teardown(function() process.remove(dir) end)

  before_each(function()
    service = process.start(path, { "--console", socket, dir .. "/service.lua" },
      { env = { NEAP_REDIS = "memory" } })
    service:wait_for "ready"
  end)
  after_each(function()
    service:kill "sigterm"
    assert.equal(0, service:wait().status)
  end)

  local function attach(...)
    return process.neap { "attach", socket, ... }
  end

  describe("to neap attach -e", function()
    case("runs code in the service and prints its value", function()
      local r = attach("-e", "count >= 0", "-e", "shop()")
      assert.same({ 0, 'true\n{ { cents = 300, name = "tea" } }\n', "" },
        { r.status, r.out, r.err })
    end)

    case("prints strings as they are, for scripts", function()
      assert.equal('{"a":1}\n', attach("-e", "neap.json.encode { a = 1 }").out)
    end)

    case("shows what the code prints here, not there", function()
      local r = attach("-e", "neap.spawn(print, 'by a task'):join() print 'by the line'")
      assert.same({ 0, "by a task\nby the line\n" }, { r.status, r.out })
      assert.equal("ready\n", service.out)
    end)

    case("ends with 1 after an error, and runs nothing behind it", function()
      local r = attach("-e", "error 'no'", "-e", "ended.second = true")
      assert.same({ 1, "", "console:1: no\n" }, { r.status, r.out, r.err })
      assert.equal("nil\n", attach("-e", "ended.second").out)
      assert.equal(1, attach("-e", "for i = 1, 2 do").status)
    end)

    case("reads lines from a pipe", function()
      local r = process.neap({ "attach", socket }, { input = "local x = 2\nx * 4\n" })
      assert.same({ 0, "8\n", "" }, { r.status, r.out, r.err })
    end)

    case("says what is wrong with its arguments, or with the path", function()
      for arguments, text in pairs {
        [{}] = "a path is missing", [{ "a", "b" }] = "more than one path: b",
        [{ "a", "-x" }] = "unknown option", [{ "a", "-e" }] = "without its argument",
      } do
        local r = process.neap { "attach", unpack(arguments) }
        assert.equal(2, r.status)
        assert.matches(text, r.err, 1, true)
      end
      local r = process.neap { "attach", dir .. "/none", "-e", "1" }
      assert.equal(1, r.status)
      assert.matches("no console at .*none: No such file", r.err)
      r = process.neap { "attach", ("x"):rep(200) }
      assert.same({ 1, true }, { r.status, r.err:find "longer than 107 bytes" ~= nil })
    end)

    case("ends with 0 after :quit", function()
      for _ = 1, 10 do assert.equal(0, attach("-e", ":quit").status) end
    end)

    case("waits for a busy service, and says so", function()
      local c = console_client.connect(socket)
      c:send("L", "local s = os.time() os.execute 'sleep 2'")
      neap.sleep(0.1)
      local r = attach("-e", "40 + 2")
      assert.same({ 0, "42\n" }, { r.status, r.out })
      assert.matches("busy", r.err)
      c:close()
    end)
  end)

  case("logs who says what", function()
    attach("-e", "shop()[1].cents")
    assert.matches("console: uid %d+, process %d+: shop%(%)%[1%]%.cents\n", service.err)
  end)

  case("belongs to its user alone", function()
    assert.equal("600", ("%o"):format(uv.fs_stat(socket).mode % 512))
    if uv.getuid() ~= 0 then return end
    -- another user, to whom the file system lets the socket pass
    uv.fs_chmod(dir, tonumber("755", 8))
    uv.fs_chmod(socket, tonumber("666", 8))
    local r = process.start("/usr/bin/env", { "setpriv", "--reuid=65534", "--clear-groups", path,
      "attach", socket, "-e", "1" }):wait()
    assert.equal(1, r.status)
    assert.equal("", r.out)
    eventually(function() return service.err:find "a connection by uid 65534 was refused" end,
      "the refusal is logged")
  end)

  case("serves several clients at once, each with names of its own", function()
    local a, b = console_client.connect(socket), console_client.connect(socket)
    a:send("L", "neap.sleep(0.2) return 'slow'")
    assert.same({ "R", "" }, { b:ask "local mine = 'b'" })
    assert.same({ "R", '"b"' }, { b:ask "mine" })
    assert.same({ "R", '"slow"' }, { a:receive() })
    assert.same({ "R", "nil" }, { a:ask "mine" })
    a:close()
    b:close()
  end)

  case("takes a thousand clients", function()
    local clients = {}
    for i = 1, 1000 do clients[i] = console_client.connect(socket) end
    for i = 1, 1000 do clients[i]:send("L", "count >= 0 and " .. i) end
    for i = 1, 1000 do assert.same({ "R", tostring(i) }, { clients[i]:receive() }) end
    for i = 1, 1000 do clients[i]:close() end
    assert.equal("true\n", attach("-e", "count >= 0").out)
  end)

  case("drops HTTP, random bytes, and frames that are none", function()
    math.randomseed(11)
    local function random(n)
      local bytes = {}
      for i = 1, n do bytes[i] = string.char(math.random(0, 255)) end
      return table.concat(bytes)
    end
    local frame = console_client.frame
    local hello = frame("N", "neap console 1")
    local wrong = { "GET / HTTP/1.1\r\nHost: a\r\n\r\n", frame("N", "neap console 2"),
      frame("L", "ended.intruder = true"), hello .. hello, hello .. "L\255\255\255\255",
      hello .. frame("Z", ""), hello .. frame("L", "neap.sleep(9)") .. frame("L", "1"),
      "N\0\255\255\255" .. ("x"):rep(70000) }
    for _ = 1, 50 do wrong[#wrong + 1] = "X" .. random(200) end
    for _, bytes in ipairs(wrong) do
      local c = console_client.open(socket)
      c:listen()
      c:write(bytes)
      if bytes:sub(1, 1) == "N" and bytes:byte(3) == 255 then c:close() else
        repeat local letter = c:receive() until letter ~= "N" and letter ~= "R"
        assert.is_true(c.is_ended)
        c:close()
      end
    end
    assert.equal("nil\n", attach("-e", "ended.intruder").out)
  end)

  case("does not run the line of a client that was gone before", function()
    attach("-e", "neap.spawn(function() while not ended.spin do neap.sleep(0) end end)")
    local holder = console_client.connect(socket)
    for _ = 1, 3 do
      local c = console_client.connect(socket)
      holder:send("L", "local t = os.clock() while os.clock() - t < 0.2 do end")
      neap.sleep(0.02)
      c:send("L", "while true do end")
      c:close()
      holder:receive()
    end
    holder:close()
    attach("-e", "ended.spin = true")
  end)

  case("answers for a line that ends in the watchdog's errors", function()
    local c = console_client.connect(socket)
    c:send("L", "local function loop() while true do end end "
      .. "pcall(function() pcall(function() pcall(loop) loop() end) loop() end) loop()")
    neap.sleep(0.2)
    c:send("C", "")
    assert.equal("E", (c:receive()))
    assert.same({ "R", "2" }, { c:ask "1 + 1" })
    c:close()
  end)

  case("runs no line twice while a completion waits", function()
    local c = console_client.connect(socket)
    c:ask "redis:ping()"
    c:ask "redis:client('PAUSE', 500)" -- so that to ask for its commands' names takes a while
    c:write(console_client.frame("L", "n = (n or 0) + 1 return n")
      .. console_client.frame("T", "1\nredis:ge"))
    neap.sleep(0.04)
    c:send("T", "2\nredis:ge")
    local answers = {}
    for i = 1, 3 do answers[i] = (c:receive()) end
    table.sort(answers)
    assert.same({ "R", "T", "T" }, answers)
    assert.same({ "R", "1" }, { c:ask "n" })
    c:close()
  end)

  case("takes frames in pieces of any size", function()
    local c = console_client.open(socket)
    c:listen()
    local bytes = console_client.frame("N", "neap console 1")
      .. console_client.frame("L", "'in pieces'")
    for i = 1, #bytes do
      c:write(bytes:sub(i, i))
      if i % 5 == 0 then neap.sleep(0.001) end
    end
    assert.equal("N", (c:receive()))
    assert.same({ "R", '"in pieces"' }, { c:receive() })
    c:close()
  end)

  for name, line in pairs {
    ["waits"] = "local ok, e = pcall(neap.sleep, 100) ended.line = e.code",
    ["runs in a compiled loop"] =
      "local ok, e = pcall(function() while true do end end) ended.line = e.code",
  } do
    case("ends the line of a client that dies while it " .. name, function()
      local c = console_client.connect(socket)
      c:send("L", line)
      neap.sleep(0.15)
      c:close()
      eventually(function() return attach("-e", "ended.line").out == "cancelled\n" end,
        "the line is cancelled")
    end)

    case("ends a line on demand while it " .. name, function()
      local c = console_client.connect(socket)
      c:send("L", line)
      neap.sleep(0.15)
      c:send("C", "")
      c:receive()
      assert.same({ "R", '"cancelled"' }, { c:ask "ended.line" })
      c:close()
    end)
  end

  case("leaves the service's other work alone when it ends a line", function()
    local before = tonumber(attach("-e", "count").out)
    local c = console_client.connect(socket)
    c:send("L", "while true do end")
    neap.sleep(0.2)
    c:send("C", "")
    assert.equal("E", (c:receive()))
    eventually(function() return tonumber(attach("-e", "count").out) > before + 5 end, "it goes on")
    c:close()
  end)

  case("holds a line up whose client does not read, and drops the prints of others", function()
    local c = console_client.connect(socket)
    c.pipe:read_stop()
    c:send("L", "neap.spawn(function() for i = 1, 1e5 do print(('s'):rep(99)) end "
      .. "ended.side = 1 end) "
      .. "for i = 1, 1e6 do print(('x'):rep(99)) end")
    eventually(function() return attach("-e", "ended.side").out == "1\n" end, "it has ended")
    local resident = attach("-e", "neap.stats().memory.resident").out
    assert.is_true(tonumber(resident) < 200e6, resident)
    assert.matches("event", attach("-e", ":tasks").out)
    c:close()
  end)

  case("completes names within their time", function()
    local c = console_client.connect(socket)
    c:send("T", "1\nneap.seman")
    assert.same({ "T", "1\n5\n" }, { c:receive() })
    c:send("T", "2\nneap.sema")
    assert.same({ "T", "2\n4\nsemaphore" }, { c:receive() })
    c:ask "big = {} for i = 1, 1e4 do big['key' .. i] = i end"
    c:send("T", "3\nbig.key999")
    local _, text = c:receive()
    assert.equal("3\n6\nkey999\nkey9990\nkey9991\nkey9992\nkey9993\nkey9994\nkey9995\nkey9996\n"
      .. "key9997\nkey9998\nkey9999", text)
    c:close()
  end)

  case("ends a line that swallows its cancellation", function()
    for _, line in ipairs { "while true do pcall(neap.sleep, 0.01) end",
      "while true do pcall(neap.all, { function() neap.sleep(10) end }) end" } do
      local c = console_client.connect(socket)
      c:send("L", line)
      neap.sleep(0.1)
      c:send("C", "")
      c:receive()
      assert.same({ "R", "2" }, { c:ask "1 + 1" })
      c:close()
      eventually(function() return tonumber(attach("-e", "neap.stats().tasks.live").out) == 3 end,
        "only the ticker, the line that asks, and who answers for it are left")
    end
  end)

  case("says goodbye on :quit, and the service goes on", function()
    local c = console_client.connect(socket)
    c:send("L", ":quit")
    assert.same({ "R", "" }, { c:receive() })
    assert.same({ "Q", "" }, { c:receive() })
    c:close()
    assert.equal("true\n", attach("-e", "count >= 0").out)
  end)

  case("is a prompt at a terminal", function()
    local t = terminal.start(path .. " attach " .. socket, { env = { NEAP_HISTORY = dir .. "/h" } })
    t:wait_for "; :help tells what there is"
    t:keys("shop()[1].name", "Enter")
    t:wait_for '\n"tea"\n>'
    t:keys("neap.sleep(100)", "Enter")
    neap.sleep(0.2)
    t:keys "C-c"
    t:wait_for "cancelled\n>"
    t:keys "C-d"
    t:wait_for "ENDED 0"
    t:close()
  end)

  case("lets its clients know when the service ends", function()
    local t = terminal.start(path .. " attach " .. socket, { env = { NEAP_HISTORY = dir .. "/h" } })
    t:wait_for "; :help tells what there is"
    t:keys("half a line")
    service:kill "sigterm"
    t:wait_for "neap attach: the process has ended"
    t:wait_for "ENDED 0"
    t:close()
  end)
end)

describe("a console of a process with little memory", function()
  case("answers a line that wants too much, and goes on", function()
    local dir = process.temp_dir()
    local socket = dir .. "/console"
    local service = process.start(path, { "--console", socket, "--max-memory", "30", "-e",
      "print 'ready' require('neap').sleep(1000)" })
    service:wait_for "ready"
    local function attach(code) return process.neap { "attach", socket, "-e", code } end
    for _ = 1, 2 do
      for _, code in ipairs { "local s = {} for i = 1, 1e9 do s[i] = { i } end",
        "do local s = {} for i = 1, 1e9 do s[i] = ('x'):rep(1e5) .. i end end",
        "return ('x'):rep(1e8)", "while true do pcall(string.rep, 'x', 1e8) end" } do
        local c = console_client.connect(socket)
        c:send("L", code)
        if code:find "while" then
          neap.sleep(0.2)
          c:send("C", "")
        end
        local letter, text = c:receive()
        assert.equal("E", letter)
        assert.is_truthy(text:find "not enough memory" or text:find "cancelled", text)
        assert.same({ "R", "2" }, { c:ask "1 + 1" })
        c:close()
        local r = attach "40 + 2"
        assert.same({ 0, "42\n" }, { r.status, r.out })
      end
    end
    service:kill "sigterm"
    service:wait()
    process.remove(dir)
  end)
end)

describe("neap.console", function()
  local dir
  setup(function() dir = process.temp_dir() end)
  teardown(function() process.remove(dir) end)

  case("takes the place of a socket that nobody listens on", function()
    local path_of = dir .. "/stale"
    local child = process.start(path, { "-e", ("require('neap').console(%q) print 'open' "
      .. "require('neap').sleep(100)"):format(path_of) })
    child:wait_for "open"
    child:kill "sigkill"
    child:wait()
    assert.equal("socket", uv.fs_stat(path_of).type)
    local console = neap.console(path_of)
    assert.equal("console.listen", code_of(neap.console, path_of))
    console:close()
    assert.is_nil(uv.fs_stat(path_of))
  end)

  case("leaves the console of a process that runs alone", function()
    local path_of = dir .. "/taken"
    local child = process.start(path, { "--console", path_of, "-e",
      "print 'open' require('neap').sleep(100)" })
    child:wait_for "open"
    local r = process.neap { "--console", path_of, "-e", "print 'ran'" }
    assert.same({ 1, "" }, { r.status, r.out })
    assert.matches("console.listen: .*another process listens there", r.err)
    assert.equal("2\n", process.neap({ "attach", path_of, "-e", "1 + 1" }).out)
    child:kill "sigterm"
    child:wait()
  end)

  case("refuses paths where no socket can be", function()
    process.write(dir .. "/file", "mine")
    for _, wrong in ipairs { dir .. "/file", dir .. "/no/such/folder", ("x"):rep(108), "/" } do
      assert.equal("console.listen", code_of(neap.console, wrong))
    end
    assert.matches("a path expected", failure_of(neap.console))
    assert.matches("unknown option 'x'", failure_of(neap.console, dir .. "/c", { x = 1 }))
    assert.equal("mine", io.open(dir .. "/file"):read "*a")
  end)

  case("does not keep the process alive", function()
    local r = process.lua(("require('neap').console(%q)"):format(dir .. "/short"))
    assert.same({ 0, "" }, { r.status, r.err })
  end)

  case("logs nothing with audit = false", function()
    local quiet = dir .. "/quiet"
    local child = process.start(path, { "-e", ("local neap = require 'neap' neap.console(%q, "
      .. "{ audit = false }) print 'open' neap.sleep(100)"):format(quiet) })
    child:wait_for "open"
    assert.equal("2\n", process.neap({ "attach", quiet, "-e", "1 + 1" }).out)
    child:kill "sigterm"
    assert.equal("", child:wait().err)
  end)
end)
