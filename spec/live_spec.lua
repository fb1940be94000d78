local case = require "support.case" (it)
local neap = require "neap"
local http = require "neap.http"
local process = require "support.process"
local eventually = require "support.eventually"
local _, code_of, failure_of = require "support.failure" (assert)
local uv = require "luv"

describe("neap.stats", function()
  case("counts tasks by state and by what they wait for", function()
    local before = neap.stats().tasks
    local channel, event = neap.channel(), neap.event()
    local tasks = {
      neap.spawn(function() channel:receive() end), neap.spawn(function() channel:receive() end),
      neap.spawn(function() event:wait() end), neap.spawn(neap.sleep, 1000),
      neap.spawn(function() neap.all { function() neap.sleep(1000) end } end),
    }
    tasks[6] = neap.spawn(function() tasks[4]:join() end)
    neap.sleep(0)
    neap.sleep(0)
    tasks[7] = neap.spawn(function() end)
    local now = neap.stats().tasks
    assert.equal(before.live + 8, now.live)
    assert.equal(before.spawned + 8, now.spawned)
    assert.equal(1, now.ready)
    local function more(what) return (now.waits[what] or 0) - (before.waits[what] or 0) end
    assert.same({ 2, 1, 2, 1, 1 },
      { more "channel", more "event", more "sleep", more "all", more "join" })
    for _, t in ipairs(tasks) do t:cancel() end
  end)

  case("knows how long the loop kept others waiting", function()
    local start = neap.monotonic()
    while neap.monotonic() - start < 0.05 do end -- luacheck: ignore
    neap.sleep(0.001)
    local stats = neap.stats()
    assert.is_true(stats.loop.max >= 0.05)
    assert.is_true(stats.loop.p50 <= stats.loop.p99 and stats.loop.p99 <= stats.loop.max)
    assert.is_true(stats.slices.longest >= 0.04)
    assert.is_true(stats.slices.count > 0 and stats.loop.turns > 0)
    assert.is_true(stats.busy <= stats.uptime)
  end)

  case("does not count the time in which the loop waits", function()
    local before = neap.stats()
    neap.sleep(0.3)
    local after = neap.stats()
    assert.is_true(after.uptime - before.uptime >= 0.3)
    assert.is_true(after.busy - before.busy < 0.2)
  end)

  case("tells of memory, Redis and HTTP", function()
    local app = http.app()
    app:get("/", function() return "x" end)
    local server = app:listen(0)
    http.fetch(server.url)
    http.fetch(server.url)
    collectgarbage()
    collectgarbage()
    local stats = neap.stats()
    assert.equal(2, stats.http[server.url].requests)
    assert.is_true(stats.http[server.url].connections >= 1)
    assert.is_true(stats.memory.lua > 1e5 and stats.memory.resident > stats.memory.lua)
    assert.is_true(stats.memory.collections > 0)
    server:stop()
    assert.is_nil(neap.stats().http[server.url])
    local client = neap.redis "redis://user:secret@127.0.0.1:1/"
    for url in pairs(neap.stats().redis) do assert.is_nil(url:find "secret") end
    client:close()
  end)
end)

describe("neap.tasks", function()
  local function of(task)
    for _, info in ipairs(neap.tasks()) do
      if info.id == task:info().id then return info end
    end
  end

  case("says of each task what it is, where it is, and what it waits for", function()
    local here = debug.getinfo(1, "l").currentline
    local t = neap.spawn(function()
      neap.sleep(1000)
    end):name "the sleeper"
    assert.equal("ready", of(t).state)
    neap.sleep(0.02)
    local info = of(t)
    assert.same({ "the sleeper", "waiting", "sleep", "sleep", false },
      { info.name, info.state, info.waits_for, info.calls, info.is_cancelled })
    assert.equal("spec/live_spec.lua:" .. here + 1, info.spawned_at)
    assert.equal("spec/live_spec.lua:" .. here + 2, info.at)
    assert.is_true(info.waited >= 0.015)
    assert.matches("live_spec.lua:" .. here + 2, t:traceback())
    info.task:cancel()
    eventually(function() return t:status() == "cancelled" end, "the handle is the task's")
    assert.is_nil(of(t))
    assert.equal("", t:traceback())
    assert.equal("failed", t:info().state)
  end)

  case("gives a task by its number, and the running one", function()
    local me = neap.task()
    assert.equal("running", me:info().state)
    assert.equal(me:info().id, neap.task(me:info().id):info().id)
    assert.is_nil(neap.task(1e15))
  end)

  case("knows what a wait for Redis, a group, and a request wait for", function()
    local redis = neap.redis "memory:"
    redis:ping()
    local t = neap.spawn(function() redis:blpop("none", 0) end)
    eventually(function() return of(t).waits_for == "redis, blocking" end, "it blocks")
    t:cancel()
    redis:close()
  end)

  case("names the user's line for tasks that the host spawns on its behalf", function()
    local line = debug.getinfo(1, "l").currentline + 1
    local ticker = neap.every(1000, function() end)
    local all = neap.spawn(function() neap.all { function() neap.sleep(1000) end } end)
    neap.sleep(0)
    neap.sleep(0)
    local sites = {}
    for _, info in ipairs(neap.tasks()) do sites[info.spawned_at] = true end
    assert.is_true(sites["spec/live_spec.lua:" .. line])
    assert.is_true(sites["spec/live_spec.lua:" .. line + 1])
    ticker:stop()
    all:cancel()
  end)

  case("takes a limit, and refuses what is none", function()
    local list = {}
    for i = 1, 20 do list[i] = neap.spawn(neap.sleep, 1000) end
    assert.equal(5, #neap.tasks(5))
    assert.is_true(#neap.tasks() >= 20)
    assert.matches("number expected", failure_of(neap.tasks, "x"))
    for _, t in ipairs(list) do t:cancel() end
  end)
end)

describe("the watchdog", function()
  local dir
  setup(function() dir = process.temp_dir() end)
  teardown(function() process.remove(dir) end)

  -- run writes a script with line numbers of its own, and runs it
  local function run(text, ...)
    process.write(dir .. "/slow.lua", text)
    local arguments = { ... }
    arguments[#arguments + 1] = dir .. "/slow.lua"
    return process.neap(arguments, { env = { NEAP_REDIS = "memory" } })
  end

  for name, code in pairs {
    ["a compiled loop"] = "local x = 0 while not done() do x = x + 1 end",
    ["the interpreter"] = "jit.off() local x = 0 while not done() do x = x + 1 end",
    ["a coroutine of the script's own"] =
      "coroutine.wrap(function() local x = 0 while not done() do x = x + 1 end end)()",
  } do
    case("names the line of a slice that takes long, in " .. name .. ", while it runs", function()
      local r = run(([[
        local neap = require "neap"
        local start = neap.monotonic()
        local function done() return neap.monotonic() - start > 0.4 end
        neap.spawn(function()
          %s
          io.stderr:write "over\n"
        end):join()
        neap.sleep(0.2)
      ]]):format(code), "--slow", "60")
      assert.equal(0, r.status)
      local report = r.err:find "held the loop up for 0%.%d+ s, at[^\n]*\n[^\n]*slow.lua:%d"
      local over = r.err:find "over\n"
      assert.is_truthy(report and over and report < over, r.err)
      assert.matches("slow%.lua:5", r.err)
      assert.matches("spawned at [^\n]*slow.lua:4", r.err)
      assert.matches("the loop goes on, after 0%.%d", r.err)
    end)
  end

  case("names the line that called a C function, while it is in it", function()
    local r = run("local x = 1\nos.execute('sleep 0.4')\nio.stderr:write 'over'\n", "--slow", "60")
    local report = r.err:find "in a C function, which cannot be interrupted, at"
    local over = r.err:find "over"
    assert.is_truthy(report and over and report < over, r.err)
    assert.matches("slow%.lua:2\n", r.err)
  end)

  case("looks for 100 ms unless it is told otherwise", function()
    local busy = "local t = os.clock() while os.clock() - t < 0.3 do end"
    for value, is_told in pairs { [false] = true, ["50"] = true, ["2000"] = false,
      ["0"] = false } do
      local r = process.neap({ "-e", busy }, { env = { NEAP_SLOW = value } })
      assert.equal(is_told, r.err:find "held the loop up" ~= nil)
    end
  end)

  case("says nothing of slices that are short, or when it is told not to look", function()
    local busy = "local t = os.clock() while os.clock() - t < 0.2 do end"
    assert.equal("", run("for i = 1, 20 do require('neap').sleep(0.01) end", "--slow", "150").err)
    assert.equal("", run(busy, "--slow", "0").err)
    assert.equal("", run("require('neap').debug { slow = 0 } " .. busy).err)
    assert.matches("held the loop up", run("require('neap').debug { slow = 0.05 } " .. busy).err)
  end)

  case("looks sooner at a slice that it watches already, when it is told to", function()
    local busy = "t = os.clock() while os.clock() - t < 0.4 do end "
    assert.matches("held the loop up",
      run(busy .. "require('neap').debug { slow = 0.05 } " .. busy, "--slow", "3000").err)
  end)

  for name, code in pairs {
    ["a compiled loop"] = "while true do end",
    ["one that catches errors"] = "while true do pcall(function() while true do end end) end",
    ["three pcalls deep"] = "local function f(n) if n == 0 then while true do end end "
      .. "while true do pcall(f, n - 1) end end f(3)",
    ["a coroutine"] = "coroutine.wrap(function() while true do end end)()",
    ["string work"] = "local s = '' while true do s = (s .. 'x'):sub(-100) end",
    ["table work"] = "local t = {} while true do t[#t % 100 + 1] = { 1 } end",
    ["an iterator"] = "for _ in function() return 1 end do end",
  } do
    case("ends what runs for too long with an error: " .. name, function()
      local r = run(([[
        local neap = require "neap"
        local ticks = 0
        neap.spawn(function()
          for i = 1, 5 do neap.sleep(0.01) ticks = ticks + 1 end
          print(ticks)
        end)
        local t = neap.spawn(function() %s end)
        local ok, err = pcall(t.join, t)
        print(ok, err.code)
        local sum = 0
        for i = 1, 1e7 do sum = sum + i end -- compiled again
        print(sum, jit.status())
      ]]):format(code), "--max-slice", "100", "--slow", "0")
      assert.same({ 0, "" }, { r.status, r.err })
      assert.matches("false\ttask.too_long\n50000005000000\ttrue\t", r.out, 1, true)
      assert.matches("5\n", r.out)
    end)
  end

  case("can be switched off within a slice that it is ending", function()
    local r = run([[
      local neap = require "neap"
      print(pcall(function() while true do end end))
      neap.debug { max_slice = 0, slow = 0 }
      local sum = 0
      for i = 1, 1e8 do sum = sum + 1 end
      neap.debug { max_slice = 0.1 }
      print(select(2, pcall(function() while true do end end)).code)
    ]], "--max-slice", "100", "--slow", "0")
    assert.same({ 0, "" }, { r.status, r.err })
    assert.matches("^false\ttask.too_long.*\ntask.too_long\n$", r.out)
  end)

  case("leaves the JIT off where the program has switched it off", function()
    local r = run([[
      jit.off()
      local neap = require "neap"
      local t = neap.spawn(function() while true do end end)
      pcall(t.join, t)
      print(jit.status())
    ]], "--max-slice", "100", "--slow", "0")
    assert.equal("false", r.out:match "^%a+")
  end)

  case("lets what is ended clean up", function()
    local r = run([[
      local neap = require "neap"
      local permits, cleaned = neap.semaphore(1), false
      local t = neap.spawn(function()
        permits:with(function()
          local ok, e = pcall(function() while true do end end)
          for i = 1, 1000 do cleaned = i end
          error(e, 0)
        end)
      end)
      pcall(t.join, t)
      print(cleaned, permits:with(function() return "free again" end))
    ]], "--max-slice", "100", "--slow", "0")
    assert.same({ 0, "1000\tfree again\n", "" }, { r.status, r.out, r.err })
  end)

  case("never ends another slice than the one that is too long", function()
    local r = run([[
      local neap = require "neap"
      local failed = 0
      for round = 1, 30 do
        local long = neap.spawn(function()
          local start = neap.monotonic()
          while neap.monotonic() - start < 0.0099 + round * 1e-5 do end
        end)
        local short = {}
        for i = 1, 20 do
          short[i] = neap.spawn(function() for j = 1, 100 do local _ = {j} end end)
        end
        pcall(long.join, long)
        for i = 1, 20 do if not pcall(short[i].join, short[i]) then failed = failed + 1 end end
      end
      print(failed)
    ]], "--max-slice", "10", "--slow", "0")
    assert.same({ 0, "0\n" }, { r.status, r.out })
  end)

  case("lets the process sleep when it does", function()
    local child = process.start(uv.exepath(), { "-e",
      "print 'idle' require('neap').sleep(1000)" })
    child:wait_for "idle"
    neap.sleep(0.3)
    local function wakes()
      local n = 0
      for task in io.popen("ls /proc/" .. child.pid .. "/task"):lines() do
        local status = io.open("/proc/" .. child.pid .. "/task/" .. task .. "/status"):read "*a"
        n = n + tonumber(status:match "\nvoluntary_ctxt_switches:%s+(%d+)")
      end
      return n
    end
    local before = wakes()
    neap.sleep(3)
    local woken = wakes() - before
    child:kill "sigterm"
    child:wait()
    assert.is_true(woken <= 4, woken .. " wake-ups in 3 s")
  end)

  case("refuses what is no number of milliseconds", function()
    for _, option in ipairs { "--slow", "--max-slice" } do
      for _, value in ipairs { "x", "-1", "nan", "1e99" } do
        local r = process.neap { option, value, "-e", "print 'ran'" }
        assert.same({ 2, "" }, { r.status, r.out })
        assert.matches(option .. ": milliseconds expected, got " .. value, r.err, 1, true)
      end
      assert.equal(2, process.neap({ option }).status)
    end
    local r = process.neap({ "-e", "print 'ran'" }, { env = { NEAP_SLOW = "soon" } })
    assert.same({ 2, "" }, { r.status, r.out })
    assert.matches("NEAP_SLOW: milliseconds expected, got soon", r.err, 1, true)
    assert.matches("unknown option 'x'", failure_of(neap.debug, { x = 1 }))
    assert.matches("slow: seconds, 0 or more, expected", failure_of(neap.debug, { slow = -1 }))
    assert.matches("unjoined: true or false", failure_of(neap.debug, { unjoined = 1 }))
  end)

  case("outlives a task that eats all the memory there may be", function()
    local r = run([[
      local neap = require "neap"
      local t = neap.spawn(function()
        local kept = {}
        while #kept < 5e5 do kept[#kept + 1] = ("x"):rep(1e6) .. #kept end
      end)
      local ok, err = pcall(t.join, t)
      t = nil
      collectgarbage()
      print(ok, err, #("y"):rep(1e6))
      for i = 1, 1e3 do local garbage = ("z"):rep(1e6) .. i end
      local ok, err = pcall(function() return ("x"):rep(1e9) end)
      print(ok, err, neap.stats().memory.lua < 100e6)
    ]], "--slow", "0", "--max-memory", "100")
    assert.same({ 0, "false\tnot enough memory\t1000000\nfalse\tnot enough memory\ttrue\n", "" },
      { r.status, r.out, r.err })
  end)
end)

describe("a limit of memory", function()
  local dir
  setup(function() dir = process.temp_dir() end)
  teardown(function() process.remove(dir) end)

  local function run(text)
    process.write(dir .. "/app.lua", text)
    local r = process.neap({ "--slow", "0", "--max-memory", "24", dir .. "/app.lua" },
      { env = { NEAP_REDIS = "memory" } })
    assert.equal(0, r.status, r.err)
    return r.out
  end

  -- stores a list of 50 MB, and shows what fails with which code
  local prelude = [[
    local neap = require "neap"
    local redis = neap.redis()
    for i = 1, 500 do redis:rpush("list", ("y"):rep(100000) .. i) end
    redis:set("small", 7)
    local function code(fn, ...)
      local ok, err = pcall(fn, ...)
      return ok and "ok" or err.code or err
    end
  ]]

  case("holds for replies, whose connection is given up", function()
    assert.equal("memory\tmemory\tmemory\nmemory\tredis.unknown_outcome\tmemory\n"
      .. "7\tmemory\t7\ntrue\n", run(prelude .. [[
      local waiting = {}
      for i = 1, 3 do waiting[i] = neap.spawn(redis.lrange, redis, "list", 0, -1) end
      local codes = {}
      for i, t in ipairs(waiting) do codes[i] = code(t.join, t) end
      print(unpack(codes))
      local function twice(p) p:get "small" p:lrange("list", 0, -1) p:get "small" end
      local replies
      local pipelined = code(function() replies = redis:pipeline(twice) end)
      print(replies[2].code, replies[3].code, code(redis.multi, redis, twice))
      print(redis:get "small", code(redis.lrange, redis, "list", 0, -1), redis:get "small")
      for i = 1, 20 do assert(#redis:lrange("list", 0, 99) == 100) end
      collectgarbage()
      print(collectgarbage "count" < 2000)
    ]]))
  end)

  case("costs who wait behind such a reply no more than a lost connection does", function()
    assert.equal("10\t10\n10\t10\n", run(prelude .. [[
      local model = neap.model
      local Item = model.define("item", { id = neap.field.integer { primary_key = true,
        auto = true } })
      local created, read = 0, 0
      for i = 1, 10 do
        local t = {}
        t[1] = neap.spawn(code, redis.lrange, redis, "list", 0, -1)
        t[2] = neap.spawn(function() Item:create {} created = created + 1 end)
        t[3] = neap.spawn(function() if redis:get "small" == "7" then read = read + 1 end end)
        assert(t[1]:join() == "memory")
        t[2]:join()
        t[3]:join()
      end
      print(created, Item:rows():count())
      print(read, 10)
    ]]))
  end)

  case("holds for a string that comes in pieces", function()
    assert.equal("memory\t7\n", run(prelude .. [[
      redis:setrange("long", 40e6, "x")
      collectgarbage()
      print(code(redis.get, redis, "long"), redis:get "small")
    ]]))
  end)

  case("costs a handler its own request, not the next ones", function()
    assert.equal(("500\t7\n"):rep(5) .. "true\n", run(prelude .. [[
      local http = require "neap.http"
      local app = http.app()
      app:get("/eat", function()
        local kept = {}
        while true do kept[#kept + 1] = ("x"):rep(1e6) .. #kept end
      end)
      app:get("/read", function() return { text = #redis:lrange("list", 0, -1) .. "" } end)
      app:get("/small", function() return { text = redis:get "small" } end)
      local server = app:listen { path = arg[0] .. ".sock" }
      local function get(path)
        return http.fetch("http://localhost" .. path, { socket = arg[0] .. ".sock" })
      end
      for i = 1, 5 do
        local res = get(i % 2 == 0 and "/read" or "/eat")
        print(res.status, get("/small").body)
      end
      server:close()
      print(collectgarbage "count" < 24000)
    ]]))
  end)
end)

describe("--debug", function()
  local dir
  setup(function() dir = process.temp_dir() end)
  teardown(function() process.remove(dir) end)

  local function run(text)
    process.write(dir .. "/app.lua", text)
    return process.neap({ "--debug", "--slow", "5000", dir .. "/app.lua" },
      { env = { NEAP_REDIS = "memory" } })
  end

  local function count(text, what)
    return select(2, text:gsub(what, ""))
  end

  case("tells of tasks that nobody joined, each place once", function()
    local r = run([[
      local neap = require "neap"
      for i = 1, 50 do neap.spawn(function() return i end) end
      neap.spawn(function() end):join()
      neap.all { function() end, function() end }
      neap.map(function() end, { 1, 2 })
      local kept = neap.spawn(function() end)
      neap.sleep(0.01)
      kept:join()
    ]])
    assert.equal(0, r.status)
    assert.equal(1, count(r.err, "nobody joined a task"))
    assert.matches("nobody joined a task spawned at [^\n]*app.lua:2", r.err)
  end)

  case("tells of loads and queries that one line makes again and again", function()
    local r = run([[
      local neap = require "neap"
      local model, field = neap.model, neap.field
      local Shop = model.define("shop", { id = field.integer { primary_key = true } })
      local Item = model.define("item", { id = field.integer { primary_key = true },
        shop = field.ref(Shop) { index = true } })
      for i = 1, 30 do Shop:create { id = i } Item:create { id = i, shop = i } end
      for i = 1, 30 do
        Item:load(i)
      end
      for _, item in ipairs(Item:rows():all()) do
        item:related "shop"
      end
      for i = 1, 30 do
        Item:where { shop = i }:count()
      end
      for _, item in ipairs(Item:rows():with("shop"):all()) do
        item:related "shop"
      end
      for i = 1, 10 do Item:load(i) end
      for i = 1, 30 do neap.spawn(function() Item:load(i) end):join() end
    ]])
    assert.equal(0, r.status)
    assert.equal(3, count(r.err, "a round trip each"))
    assert.matches("app.lua:8: a task has called load of model item 20 times", r.err)
    assert.matches("app.lua:11: a task has called load of model shop 20 times", r.err)
    assert.matches("app.lua:14: a task has called count of model item 20 times", r.err)
  end)

  case("is off otherwise, and can be ended", function()
    local r = process.lua [[
      local neap = require "neap"
      neap.spawn(function() end)
      neap.debug { unjoined = true }
      neap.debug { unjoined = false }
      neap.spawn(function() end)
      neap.sleep(0.01)
      assert(neap.debug().unjoined == false)
    ]]
    assert.same({ 0, "" }, { r.status, r.err })
  end)
end)

describe("a profile", function()
  case("shows by folded stacks where the time went", function()
    local r = process.lua [[
      local neap = require "neap"
      local function hot(n) local x = 0 for i = 1, n do x = x + i % 7 end return x end
      local function cold(n) local t = {} for i = 1, n do t[i % 10] = i end return t end
      local stacks, samples = neap.profile(function()
        for i = 1, 20 do hot(2e7) neap.sleep(0) end
        cold(1e5)
      end)
      local total, of_hot = 0, 0
      for stack, count in stacks:gmatch "([^\n]+) (%d+)\n" do
        total = total + count
        if stack:find "hot" then of_hot = of_hot + count end
        assert(not stack:find("hot;", 1, true), stack)
      end
      print(total == samples, samples > 20, of_hot > total / 2)
      print(pcall(neap.profile, "x"))
    ]]
    assert.equal("true\ttrue\ttrue\nfalse\tbad argument #1 to 'profile' (seconds or a function "
      .. "expected, got string)\n", r.out:gsub("%(command line%):%d+: ", ""), nil)
    assert.equal(0, r.status)
  end)

  case("is written to a file with --profile", function()
    local dir = process.temp_dir()
    local r = process.neap { "--profile", dir .. "/out", "-e",
      "local function hot() local x = 0 for i = 1, 3e8 do x = x + i % 7 end end hot()" }
    assert.equal(0, r.status)
    local text = io.open(dir .. "/out"):read "*a"
    assert.matches("hot %d+\n", text)
    r = process.neap { "--profile", dir .. "/exit", "-e",
      "local x = 0 for i = 1, 3e8 do x = x + i % 7 end os.exit(3)" }
    assert.equal(3, r.status)
    assert.matches("%d+\n", io.open(dir .. "/exit"):read "*a")
    r = process.neap { "--profile", dir .. "/no/folder", "-e", "1" }
    assert.equal(2, r.status)
    assert.matches("--profile: .*No such file", r.err)
    process.remove(dir)
  end)

  case("is taken one at a time, and ends when its task is cancelled", function()
    local t = neap.spawn(neap.profile, 1000)
    neap.sleep(0.01)
    assert.equal("profile.busy", code_of(neap.profile, 0.01))
    t:cancel()
    neap.sleep(0.01)
    assert.equal("number", type(select(2, neap.profile(0.01))))
    assert.equal("boom", failure_of(neap.profile, function() error("boom", 0) end))
    neap.debug { slow = 0 }
  end)
end)
