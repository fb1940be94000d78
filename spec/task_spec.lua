local neap = require "neap"
local uv = require "luv"
local process = require "support.process"
local case = require "support.case" (it)
local code_of, forever, idle, assert_cancelled = require "support.cancel" (assert)

describe("a task", function()
  case("returns its results to whoever joins", function()
    local t = neap.spawn(function(a, b) neap.sleep(0.001) return a + b end, 1, 2)
    assert.equal(3, t:join())
  end)

  case("gets all arguments and returns all results, nils too", function()
    local function count(...) return select("#", ...), ... end
    local t = neap.spawn(count, nil, 1, nil)
    local function check(...)
      assert.equal(4, select("#", ...))
      assert.same({ 3, nil, 1, nil }, { ... })
    end
    check(t:join())
    assert.equal(0, (count(neap.spawn(function() end):join())))
    assert.equal(1, (count(neap.spawn(function() return nil end):join())))
  end)

  case("passes thousands of values", function()
    local values = {}
    for i = 1, 7000 do values[i] = i end
    local t = neap.spawn(function(...) neap.sleep(0) return ... end, unpack(values))
    local got = { t:join() }
    assert.equal(7000, #got)
    assert.equal(7000, got[7000])
    assert.equal(7000, select("#", t:join()))
  end)

  case("fails cleanly when the values are too many to pass", function()
    local values = {}
    for i = 1, 7990 do values[i] = i end
    local a = "x"
    local ok, t = pcall(neap.spawn, function(...) return select("#", ...) end, a, a, a, a, a, a,
      a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, unpack(values))
    if ok then ok, t = pcall(t.join, t) end
    assert.is_true(ok or tostring(t):find("too many") ~= nil)
    t = neap.spawn(function()
      return a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, unpack(values)
    end)
    local n
    ok, n = pcall(function() return select("#", t:join()) end)
    assert.is_true(n == 8010 or not ok and tostring(n):find("too many") ~= nil)
  end)

  case("raises errors of any type at the join", function()
    local object = neap.error { code = "some.code", message = "text" }
    local plain = { 1 }
    for _, value in ipairs { object, plain, "text", 12, false } do
      local t = neap.spawn(error, value, 0)
      local ok, err = pcall(t.join, t)
      assert.is_false(ok)
      assert.equal(value, err)
      assert.equal("failed", t:status())
    end
    local t = neap.spawn(error)
    local ok, err = pcall(t.join, t)
    assert.is_false(ok)
    assert.is_nil(err)
  end)

  case("can be joined twice, and by many", function()
    local t = neap.spawn(function() neap.sleep(0.001) return 1, 2 end)
    local joiners = {}
    for i = 1, 10 do joiners[i] = neap.spawn(function() return select("#", t:join()) end) end
    for i = 1, 10 do assert.equal(2, joiners[i]:join()) end
    assert.same({ 1, 2 }, { t:join() })
    local failing = neap.spawn(error, "x", 0)
    assert.equal("x", code_of(failing.join, failing))
    assert.equal("x", code_of(failing.join, failing))
  end)

  case("cannot join itself", function()
    local t
    t = neap.spawn(function() t:join() end)
    assert.equal("task.deadlock", code_of(t.join, t))
  end)

  case("tells its status", function()
    local seen
    local t
    t = neap.spawn(function() seen = t:status() neap.sleep(0.001) end)
    assert.equal("ready", t:status())
    neap.sleep(0)
    assert.equal("running", seen)
    assert.equal("waiting", t:status())
    t:join()
    assert.equal("done", t:status())
    t = neap.spawn(forever)
    t:cancel()
    pcall(t.join, t)
    assert.equal("cancelled", t:status())
  end)

  case("is refused what is not a function", function()
    assert.has_error(function() neap.spawn() end)
    assert.has_error(function() neap.spawn "x" end)
    assert.has_error(function() neap.sleep(-1) end)
    assert.has_error(function() neap.sleep(0 / 0) end)
    assert.has_error(function() neap.sleep "x" end)
    assert.has_error(function() neap.timeout(1) end)
  end)

  case("runs in the order of spawning", function()
    local order = {}
    for i = 1, 100 do neap.spawn(function() order[i] = #order + 1 end) end
    neap.sleep(0)
    for i = 1, 100 do assert.equal(i, order[i]) end
  end)

  case("wakes in the order of deadlines", function()
    local order, tasks = {}, {}
    for _, ms in ipairs { 30, 10, 20, 0, 15 } do
      tasks[#tasks + 1] = neap.spawn(function()
        neap.sleep(ms / 1000)
        order[#order + 1] = ms
      end)
    end
    for _, t in ipairs(tasks) do t:join() end
    assert.same({ 0, 10, 15, 20, 30 }, order)
  end)
end)

describe("cancelling", function()
  case("before the start keeps the function from running", function()
    local ran = false
    local t = neap.spawn(function() ran = true end)
    t:cancel()
    assert_cancelled(t.join, t)
    assert.is_false(ran)
  end)

  local redis
  setup(function() redis = neap.redis() end)

  local waits = {
    sleep = forever,
    join = function()
      local t = neap.spawn(forever)
      local _, err = pcall(t.join, t)
      t:cancel()
      error(err, 0)
    end,
    send = function() neap.channel():send(1) end,
    ["send to a full channel"] = function()
      local c = neap.channel(1)
      c:send(1)
      c:send(2)
    end,
    receive = function() neap.channel():receive() end,
    acquire = function() neap.semaphore(0):acquire() end,
    event = function() neap.event():wait() end,
    all = function() neap.all { forever, forever } end,
    race = function() neap.race { forever, forever } end,
    map = function() neap.map(forever, { 1, 2, 3 }, { concurrency = 2 }) end,
    ["pool:spawn"] = function()
      local pool = neap.pool(1)
      local t = pool:spawn(forever)
      local ok, err = pcall(pool.spawn, pool, forever)
      t:cancel()
      if not ok then error(err, 0) end
    end,
    ["pool:join"] = function()
      local pool = neap.pool(1)
      local t = pool:spawn(forever)
      local ok, err = pcall(pool.join, pool)
      t:cancel()
      if not ok then error(err, 0) end
    end,
    scope = function() neap.scope(function(s) s:spawn(forever) end) end,
    ["uv.run"] = function() uv.run() end,
    await = function() neap.await(function() return true end) end,
    timeout = function() neap.timeout(3000, forever) end,
    generator = function() coroutine.wrap(function() forever() end)() end,
    ["redis call"] = function() while true do redis:get "spec:absent" end end,
    ["blocking redis call"] = function() redis:blpop("spec:absent", 20) end,
    ["redis pipeline"] = function()
      while true do redis:pipeline(function(p) p:ping() end) end
    end,
  }
  for name, fn in pairs(waits) do
    case("ends a wait in " .. name, function()
      local t = neap.spawn(fn)
      idle()
      t:cancel()
      t:cancel()
      assert_cancelled(t.join, t)
      assert.equal("cancelled", t:status())
    end)

    case("a deadline ends a wait in " .. name, function()
      assert.equal("timeout", code_of(neap.timeout, 0.005, fn))
      neap.sleep(0) -- and the task is none the worse
    end)
  end

  case("is sticky: each later wait raises", function()
    local seen = {}
    local t = neap.spawn(function()
      seen[1] = code_of(forever)
      seen[2] = code_of(neap.sleep, 0)
      seen[3] = code_of(neap.all, { forever })
      seen[4] = code_of(function() neap.channel():receive() end)
      seen[5] = code_of(redis.get, redis, "x")
      return "its own end"
    end)
    idle()
    t:cancel()
    assert.equal("its own end", t:join())
    assert.same({ "cancelled", "cancelled", "cancelled", "cancelled", "cancelled" }, seen)
    assert.equal("done", t:status())
  end)

  case("is held back by a shield and comes after it", function()
    local log = {}
    local t = neap.spawn(function()
      local v = neap.shield(function(a)
        neap.sleep(0.005)
        log[#log + 1] = "shielded"
        return a
      end, 5)
      log[#log + 1] = v
      neap.sleep(0)
      log[#log + 1] = "not reached"
    end)
    idle()
    t:cancel()
    assert_cancelled(t.join, t)
    assert.same({ "shielded", 5 }, log)
  end)

  case("lets a cancelled task clean up in a shield, an error of which counts", function()
    local t = neap.spawn(function()
      local _, err = pcall(forever)
      neap.shield(function() neap.sleep(0.001) end)
      neap.shield(function() neap.shield(neap.sleep, 0) neap.sleep(0) end)
      assert(err.code == "cancelled")
      error("from the cleanup", 0)
    end)
    idle()
    t:cancel()
    assert.equal("from the cleanup", code_of(t.join, t))
  end)

  case("of a finished task does nothing", function()
    local t = neap.spawn(function() return 1 end)
    t:join()
    t:cancel()
    assert.equal(1, t:join())
    assert.equal("done", t:status())
  end)

  case("of oneself raises at the next wait", function()
    local t
    t = neap.spawn(function()
      t:cancel()
      local before = "ran on"
      local code = code_of(neap.sleep, 0)
      return before, code
    end)
    assert.same({ "ran on", "cancelled" }, { t:join() })
  end)

  case("of a joiner leaves what it joins alone", function()
    local t = neap.spawn(function() neap.sleep(0.005) return "fine" end)
    local joiner = neap.spawn(t.join, t)
    idle()
    joiner:cancel()
    assert_cancelled(joiner.join, joiner)
    assert.equal("fine", t:join())
  end)

  case("after the wake-up came too late for that wait", function()
    local event, log = neap.event(), {}
    local t = neap.spawn(function()
      event:wait()
      log[#log + 1] = "woken"
      neap.sleep(0)
      log[#log + 1] = "not reached"
    end)
    idle()
    event:set()
    t:cancel()
    assert_cancelled(t.join, t)
    assert.same({ "woken" }, log)
  end)
end)

describe("neap.timeout", function()
  case("passes arguments, results and errors", function()
    assert.same({ 1, nil, 3 }, { neap.timeout(5, function(...) return ... end, 1, nil, 3) })
    assert.equal("mine", code_of(neap.timeout, 5, error, "mine", 0))
    local ok, err = pcall(neap.timeout, 5, error)
    assert.is_false(ok)
    assert.is_nil(err)
  end)

  case("raises timeout at its own place", function()
    assert.equal("timeout", code_of(neap.timeout, 0.002, forever))
    assert.equal("timeout", code_of(neap.timeout, 0, forever))
  end)

  case("nests: the inner one expires", function()
    local code
    local outer = neap.timeout(20, function()
      code = code_of(neap.timeout, 0.002, forever)
      neap.sleep(0.002)
      return "outer goes on"
    end)
    assert.same({ "timeout", "outer goes on" }, { code, outer })
  end)

  case("nests: the outer one expires through the inner one", function()
    local inner
    local ok, err = pcall(neap.timeout, 0.003, function()
      inner = { pcall(neap.timeout, 3000, forever) }
      error(inner[2], 0)
    end)
    assert.is_false(ok)
    assert.equal("timeout", inner[2].code)
    assert.matches("0.003", inner[2].message)
    assert.matches("0.003", err.message)
  end)

  case("is not undone by a pcall that swallows it", function()
    local second
    local code = code_of(neap.timeout, 0.002, function()
      pcall(forever)
      second = code_of(neap.sleep, 0)
      return "swallowed"
    end)
    assert.same({ "timeout", "timeout" }, { code, second })
  end)

  case("spares what did not wait, however long it ran", function()
    local v = neap.timeout(0.001, function()
      local ends = neap.monotonic() + 0.01
      while neap.monotonic() < ends do end
      return "done"
    end)
    assert.equal("done", v)
    neap.sleep(0.003)
  end)

  case("that expired while running ends the next wait", function()
    local code = code_of(neap.timeout, 0.001, function()
      local ends = neap.monotonic() + 0.01
      while neap.monotonic() < ends do end
      neap.sleep(0)
      neap.sleep(3600)
    end)
    assert.equal("timeout", code)
  end)

  case("outside a shield waits for its end, inside one it works", function()
    local log = {}
    local code = code_of(neap.timeout, 0.002, function()
      neap.shield(function()
        neap.sleep(0.01)
        log[1] = "slept through"
        log[2] = code_of(neap.timeout, 0.001, forever)
      end)
      neap.sleep(0)
      log[3] = "not reached"
    end)
    assert.equal("timeout", code)
    assert.same({ "slept through", "timeout" }, log)
  end)

  case("gives way to a cancellation", function()
    local t = neap.spawn(neap.timeout, 3600, forever)
    idle()
    t:cancel()
    assert_cancelled(t.join, t)
  end)

  case("does not reach into tasks that were spawned within", function()
    local t
    assert.equal("timeout", code_of(neap.timeout, 0.002, function()
      t = neap.spawn(function() neap.sleep(0.01) return "lives" end)
      forever()
    end))
    assert.equal("lives", t:join())
  end)

  case("ends many at once", function()
    local tasks = {}
    for i = 1, 1000 do tasks[i] = neap.spawn(neap.timeout, 0.001, forever) end
    for i = 1, 1000 do assert.equal("timeout", code_of(tasks[i].join, tasks[i])) end
  end)
end)

describe("a task that swallows its cancellation", function()
  case("is left behind after a thousand waits", function()
    local waits, cleaned = 0, false
    local t = neap.spawn(function()
      while true do
        pcall(neap.sleep, 10)
        waits = waits + 1
      end
    end)
    neap.sleep(0)
    t:cancel()
    local ok, err = pcall(t.join, t)
    assert.same({ false, "cancelled", "cancelled" }, { ok, err.code, t:status() })
    assert.is_true(waits >= 999 and waits <= 1000)
    -- but what is shielded is not counted
    t = neap.spawn(function()
      pcall(neap.sleep, 10)
      neap.shield(function()
        for _ = 1, 3000 do neap.sleep(0) end
        cleaned = true
      end)
    end)
    neap.sleep(0)
    t:cancel()
    t:join()
    assert.is_true(cleaned)
  end)
end)

describe("a failure that nobody joins", function()
  local function count(text, what)
    local n, from = 0, 1
    while true do
      local at = text:find(what, from, true)
      if not at then return n end
      n, from = n + 1, at + 1
    end
  end

  case("is logged once, with traceback and where it was spawned", function()
    local r = process.lua [[
      local neap = require "neap"
      neap.spawn(function()
        neap.sleep(0)
        error "nobody cares"
      end)
      neap.sleep(0.002)
      collectgarbage() collectgarbage()
      neap.sleep(0.002)
    ]]
    assert.equal(0, r.status)
    assert.equal(1, count(r.err, "a task failed: (command line):4: nobody cares"))
    assert.equal(1, count(r.err, "\n\t(command line):4: in function"))
    assert.equal(1, count(r.err, "spawned at (command line):2"))
  end)

  case("is logged at the end when its handle is still held", function()
    local r = process.lua [[
      local neap = require "neap"
      kept = neap.spawn(error, neap.error { code = "a.b", message = "kept" })
    ]]
    assert.equal(1, count(r.err, "a task failed: a.b: kept"))
  end)

  case("is not logged when it was joined, or was a cancellation", function()
    local r = process.lua [[
      local neap = require "neap"
      local t = neap.spawn(error, "joined")
      pcall(t.join, t)
      neap.spawn(neap.sleep, 100):cancel()
      local u = neap.spawn(neap.sleep, 100)
      neap.sleep(0)
      u:cancel()
      t, u = nil, nil
      neap.sleep(0.001)
      collectgarbage() collectgarbage()
      neap.sleep(0.001)
      pcall(neap.all, { function() error "group" end })
    ]]
    assert.equal("", r.err)
  end)

  case("is logged whatever its type", function()
    local r = process.lua [[
      local neap = require "neap"
      neap.spawn(error)
      neap.spawn(error, {})
      neap.spawn(error, setmetatable({}, { __tostring = function() return "own text" end }))
      neap.spawn(error, setmetatable({}, { __tostring = function() error "again" end }))
      neap.spawn(error, setmetatable({}, { __tostring = function() return 5 end }))
      neap.spawn(error, setmetatable({}, { __tostring = function() neap.sleep(1) end }))
      neap.sleep(0.001)
      print "end"
    ]]
    assert.same({ 0, 0, "end\n" }, { r.status, r.signal, r.out })
    assert.equal(6, count(r.err, "a task failed: "))
    assert.equal(1, count(r.err, "own text"))
  end)

  case("in neap.every is logged and the ticks go on", function()
    local r = process.lua [[
      local neap = require "neap"
      local n, ticker = 0, nil
      ticker = neap.every(0.001, function()
        n = n + 1
        if n == 3 then ticker:stop() print "third" return end
        error("tick " .. n)
      end)
    ]]
    assert.same({ 0, "third\n" }, { r.status, r.out })
    assert.equal(1, count(r.err, "tick 1"))
    assert.equal(1, count(r.err, "tick 2"))
  end)
end)

describe("many tasks", function()
  case("a hundred thousand wait at once", function()
    local n, done = 100000, 0
    local gate = neap.event()
    for _ = 1, n do
      neap.spawn(function()
        gate:wait()
        done = done + 1
      end)
    end
    idle()
    gate:set()
    idle()
    assert.equal(n, done)
  end)

  case("a storm of spawns, cancels, deadlines and channels settles", function()
    math.randomseed(20240229)
    local random = math.random
    local c, s = neap.channel(3), neap.semaphore(4)
    local d = neap.channel()
    local sent, received, ended, started = 0, 0, 0, 0
    local actions = {
      function() neap.sleep(random() / 300) end,
      function() c:send(1) sent = sent + 1 end,
      function() if c:receive() then received = received + 1 end end,
      function() d:send(1) sent = sent + 1 end,
      function() if d:receive() then received = received + 1 end end,
      function() s:with(neap.sleep, random() / 1000) end,
      function() neap.timeout(random() / 500, neap.sleep, random() / 500) end,
      function() neap.shield(neap.sleep, random() / 1000) end,
      function()
        neap.race { function() neap.sleep(random() / 500) end,
          function() neap.sleep(random() / 500) end }
      end,
      function() neap.map(function() neap.sleep(random() / 900) end, { 1, 2, 3 },
        { concurrency = 2 }) end,
      function() coroutine.wrap(function() neap.sleep(random() / 900) end)() end,
      function() pcall(table.sort, { 3, 2, 1 }, function() coroutine.wrap(neap.sleep)(0) end) end,
      function() error("some failure", 0) end,
    }
    local tasks = {}
    for i = 1, 5000 do
      started = started + 1
      tasks[i] = neap.spawn(function()
        neap.shield(function() end)
        local ok, err = pcall(function()
          for _ = 1, random(1, 5) do
            neap.timeout(random() / 50, actions[random(#actions)])
          end
        end)
        ended = ended + 1
        if not ok then error(err, 0) end
      end)
      if random(4) == 1 then tasks[random(i)]:cancel() end
      if random(10) == 1 then neap.sleep(0) end
      if random(400) == 1 then collectgarbage() end
    end
    local unstarted = 0
    for i = 1, 5000 do
      local ok, err = pcall(tasks[i].join, tasks[i])
      if not ok then
        assert.is_true(err == "some failure" or neap.is_error(err, "cancelled")
          or neap.is_error(err, "timeout"), tostring(err))
        unstarted = unstarted + (neap.is_error(err, "cancelled") and 1 or 0)
      end
    end
    assert.is_true(ended <= started and ended + unstarted >= started)
    -- what was sent and not received still lies in the channel
    local left = 0
    while pcall(neap.timeout, 0.002, c.receive, c) do left = left + 1 end
    assert.equal(sent, received + left)
    assert.equal("timeout", code_of(neap.timeout, 0.002, d.receive, d))
    neap.timeout(5, function() for _ = 1, 4 do s:acquire() end end)
  end)
end)
