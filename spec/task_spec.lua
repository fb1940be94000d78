local neap = require "neap"
local uv = require "luv"
local process = require "support.process"
local case = require "support.case" (it)

local function code_of(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok, "a failure was expected")
  return neap.is_error(err) and err.code or err
end

local function forever() neap.sleep(3600) end

-- idle gives way often enough for everything that is ready to run
local function idle()
  for _ = 1, 5 do neap.sleep(0) end
end

local function assert_cancelled(fn, ...)
  assert.equal("cancelled", code_of(fn, ...))
end

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

describe("groups", function()
  case("all returns the first results in order", function()
    local r = neap.all {
      function() neap.sleep(0.003) return "a", "b" end,
      function() return "c" end,
      function() end,
      function() return false end,
    }
    assert.same({ "a", "c", nil, false }, r)
    assert.same({}, neap.all {})
  end)

  case("the first failure of all cancels the others, which have ended when it raises", function()
    local ended = 0
    local function cleanup()
      local _, err = pcall(forever)
      neap.shield(neap.sleep, 0.002)
      ended = ended + 1
      error(err, 0)
    end
    assert.equal("first", code_of(neap.all, { cleanup, function()
      neap.sleep(0.001)
      error("first", 0)
    end, cleanup }))
    assert.equal(2, ended)
  end)

  case("all refuses what it cannot run before it runs anything", function()
    local ran = false
    local function run() ran = true end
    assert.has_error(function() neap.all { run, 1 } end)
    assert.has_error(function() neap.all() end)
    assert.has_error(function() neap.race { run, "x" } end)
    assert.has_error(function() neap.race {} end)
    assert.has_error(function() neap.map(run) end)
    assert.has_error(function() neap.map({}, {}) end)
    assert.has_error(function() neap.map(run, { 1 }, { concurrency = 0 }) end)
    idle()
    assert.is_false(ran)
  end)

  case("race returns all results of the first and cancels the rest", function()
    local cancelled = 0
    local function lose()
      local _, err = pcall(forever)
      neap.shield(neap.sleep, 0.001)
      cancelled = cancelled + 1
      error(err, 0)
    end
    local function check(...)
      assert.equal(3, select("#", ...))
      assert.same({ 1, nil, nil }, { ... })
    end
    check(neap.race { lose, function() neap.sleep(0.001) return 1, nil, nil end, lose })
    assert.equal(2, cancelled)
    assert.equal(0, select("#", neap.race { function() end, forever }))
  end)

  case("a failure can win a race", function()
    assert.equal("lost", code_of(neap.race, { forever, function() error("lost", 0) end }))
  end)

  case("map passes item and index and keeps the order", function()
    local list = {}
    for i = 1, 200 do list[i] = i * 2 end
    local r = neap.map(function(item, index)
      neap.sleep((item % 7) / 5000)
      return item + index
    end, list)
    for i = 1, 200 do assert.equal(i * 3, r[i]) end
    assert.same({}, neap.map(function() end, {}))
    assert.same({}, neap.map(function() end, {}, { concurrency = 3 }))
  end)

  case("map runs no more than its concurrency at once, and that many", function()
    local running, most = 0, 0
    local list = {}
    for i = 1, 50 do list[i] = i end
    neap.map(function()
      running = running + 1
      most = math.max(most, running)
      neap.sleep(0.0005)
      running = running - 1
    end, list, { concurrency = 7 })
    assert.equal(7, most)
    most = 0
    neap.map(function()
      running = running + 1
      most = math.max(most, running)
      neap.sleep(0.0005)
      running = running - 1
    end, list, { concurrency = 1000 })
    assert.equal(50, most)
  end)

  case("map starts nothing more after a failure", function()
    local started = 0
    local list = {}
    for i = 1, 50 do list[i] = i end
    assert.equal("at 5", code_of(neap.map, function(i)
      started = started + 1
      neap.sleep(0)
      if i == 5 then error("at 5", 0) end
      neap.sleep(0.001)
    end, list, { concurrency = 5 }))
    assert.is_true(started < 50)
    local before = started
    idle()
    assert.equal(before, started)
  end)

  case("nest, and a cancelled parent ends all below before it goes on", function()
    local ended = 0
    local function leaf()
      local _, err = pcall(forever)
      neap.shield(neap.sleep, 0.001)
      ended = ended + 1
      error(err, 0)
    end
    local seen_at_end
    local t = neap.spawn(function()
      local _, err = pcall(neap.all, {
        function() neap.all { leaf, leaf } end,
        function() neap.race { leaf, function() neap.map(leaf, { 1, 2, 3 }) end } end,
      })
      seen_at_end = ended
      error(err, 0)
    end)
    idle()
    t:cancel()
    assert_cancelled(t.join, t)
    assert.equal(6, seen_at_end)
  end)

  case("of ten thousand children", function()
    local list = {}
    for i = 1, 10000 do list[i] = i end
    local r = neap.map(function(i) neap.sleep(0) return i end, list)
    assert.equal(10000, #r)
    assert.equal("timeout", code_of(neap.timeout, 0.01, neap.map, forever, list))
  end)
end)

describe("neap.scope", function()
  case("joins its tasks and returns what the function returned", function()
    local ended = 0
    local a, b, c = neap.scope(function(s)
      for _ = 1, 5 do
        s:spawn(function(ms) neap.sleep(ms) ended = ended + 1 end, 0.002)
      end
      return 1, nil, 3
    end)
    assert.equal(5, ended)
    assert.same({ 1, nil, 3 }, { a, b, c })
  end)

  case("cancels its tasks when the function fails", function()
    local cancelled = 0
    assert.equal("fn", code_of(neap.scope, function(s)
      for _ = 1, 3 do
        s:spawn(function()
          local _, err = pcall(forever)
          neap.shield(neap.sleep, 0.001)
          cancelled = cancelled + 1
          error(err, 0)
        end)
      end
      neap.sleep(0)
      error("fn", 0)
    end))
    assert.equal(3, cancelled)
  end)

  case("a failing task ends the function's wait and the other tasks", function()
    local codes = {}
    assert.equal("child", code_of(neap.scope, function(s)
      s:spawn(function() codes[1] = code_of(forever) end)
      s:spawn(function() neap.sleep(0.001) error("child", 0) end)
      forever()
    end))
    assert.same({ "cancelled" }, codes)
    neap.sleep(0) -- no trace of it is left
  end)

  case("takes tasks that its tasks spawn", function()
    local deep = 0
    neap.scope(function(s)
      local function go(n)
        deep = math.max(deep, n)
        if n < 20 then s:spawn(go, n + 1) end
        neap.sleep(0)
      end
      s:spawn(go, 1)
    end)
    assert.equal(20, deep)
  end)

  case("its tasks can be joined within it", function()
    neap.scope(function(s)
      assert.same({ 1, nil, 3 }, { s:spawn(function() neap.sleep(0) return 1, nil, 3 end):join() })
    end)
    local seen
    assert.equal("child", code_of(neap.scope, function(s)
      local t = s:spawn(error, "child", 0)
      seen = code_of(t.join, t)
    end))
    assert.equal("cancelled", seen) -- as every wait of the scope's function
  end)

  case("a task cancelled by its handle is no failure of the scope", function()
    local codes = {}
    local v = neap.scope(function(s)
      local watcher = s:spawn(function() codes[1] = code_of(forever) forever() end)
      local unstarted = s:spawn(forever)
      unstarted:cancel()
      neap.sleep(0)
      watcher:cancel()
      neap.sleep(0.001)
      codes[2] = watcher:status()
      return "fine"
    end)
    assert.equal("fine", v)
    assert.same({ "cancelled", "cancelled" }, codes)
  end)

  case("takes no tasks after its end", function()
    local kept
    neap.scope(function(s) kept = s end)
    assert.matches("the scope has ended", code_of(kept.spawn, kept, forever))
  end)

  case("is cancelled with its parent", function()
    local seen
    local t = neap.spawn(function()
      neap.scope(function(s)
        s:spawn(function() seen = code_of(forever) end)
      end)
    end)
    idle()
    t:cancel()
    assert_cancelled(t.join, t)
    assert.equal("cancelled", seen)
  end)

  case("under a deadline", function()
    local seen
    assert.equal("timeout", code_of(neap.timeout, 0.003, neap.scope, function(s)
      s:spawn(function() seen = code_of(forever) end)
      forever()
    end))
    assert.equal("cancelled", seen)
  end)
end)

describe("a pool", function()
  case("runs as many as it has room for", function()
    local pool, running, most = neap.pool(4), 0, 0
    local tasks = {}
    for i = 1, 40 do
      tasks[i] = pool:spawn(function(v)
        running = running + 1
        most = math.max(most, running)
        neap.sleep(0.0005)
        running = running - 1
        return v
      end, i)
    end
    pool:join()
    assert.equal(4, most)
    assert.equal(0, running)
    for i = 1, 40 do assert.equal(i, tasks[i]:join()) end
  end)

  case("keeps its places when tasks fail or are cancelled", function()
    local pool = neap.pool(2)
    for _ = 1, 5 do
      local t = pool:spawn(error, "x", 0)
      assert.equal("x", code_of(t.join, t))
    end
    for _ = 1, 5 do
      local t = pool:spawn(forever)
      idle()
      t:cancel()
      assert_cancelled(t.join, t)
    end
    assert.equal(1, pool:spawn(function() return 1 end):join())
    pool:join()
  end)

  case("keeps its places when tasks are cancelled before they start", function()
    local pool = neap.pool(2)
    for _ = 1, 5 do
      local t = pool:spawn(forever)
      t:cancel()
      assert_cancelled(t.join, t)
    end
    assert.equal(1, pool:spawn(function() return 1 end):join())
    pool:join()
  end)

  case("keeps its places when those who wait for room are cancelled", function()
    local pool = neap.pool(1)
    local first = pool:spawn(function() neap.sleep(0.003) end)
    local waiting = {}
    for i = 1, 5 do waiting[i] = neap.spawn(pool.spawn, pool, function() end) end
    idle()
    for i = 1, 5 do waiting[i]:cancel() end
    for i = 1, 5 do assert_cancelled(waiting[i].join, waiting[i]) end
    first:join()
    assert.equal(1, pool:spawn(function() return 1 end):join())
    pool:join()
  end)

  case("maps within its size, and join of an empty one returns", function()
    local pool = neap.pool(3)
    pool:join()
    assert.same({ 2, 4, 6 }, pool:map(function(v) return v * 2 end, { 1, 2, 3 }))
    assert.has_error(function() neap.pool(0) end)
    assert.has_error(function() neap.pool "x" end)
  end)
end)

describe("neap.every", function()
  case("ticks until it is stopped", function()
    local n, ticker = 0, nil
    ticker = neap.every(0.001, function()
      n = n + 1
      if n == 3 then ticker:stop() end
    end)
    while n < 3 do neap.sleep(0.001) end
    neap.sleep(0.01)
    assert.equal(3, n)
    ticker:stop()
  end)

  case("never overlaps and leaves out what it missed", function()
    local running, most, n = 0, 0, 0
    local ticker = neap.every(0.001, function()
      running = running + 1
      most = math.max(most, running)
      neap.sleep(0.005)
      running, n = running - 1, n + 1
    end)
    while n < 3 do neap.sleep(0.001) end
    ticker:stop()
    assert.equal(1, most)
  end)

  case("a stop between ticks stops at once, within one lets it finish", function()
    local n = 0
    local ticker = neap.every(3600, function() n = n + 1 end)
    idle()
    ticker:stop()
    assert_cancelled(ticker.task.join, ticker.task)
    local started, finished = neap.event(), neap.event()
    ticker = neap.every(0.001, function()
      started:set()
      neap.sleep(0.003)
      finished:set()
    end)
    started:wait()
    ticker:stop()
    neap.timeout(10, finished.wait, finished)
    ticker.task:join()
    assert.equal(0, n)
  end)

  case("refuses other things than seconds and a function", function()
    assert.has_error(function() neap.every(0, print) end)
    assert.has_error(function() neap.every(1) end)
  end)
end)

describe("a channel", function()
  case("of no capacity hands over directly", function()
    local c, log = neap.channel(), {}
    local t = neap.spawn(function()
      for i = 1, 3 do
        c:send(i)
        log[#log + 1] = "sent " .. i
      end
    end)
    idle()
    assert.same({}, log)
    for i = 1, 3 do assert.equal(i, c:receive()) end
    t:join()
    assert.equal(3, #log)
  end)

  case("of a capacity takes that many without waiting", function()
    local c = neap.channel(3)
    for i = 1, 3 do c:send(i) end
    local t = neap.spawn(c.send, c, 4)
    idle()
    assert.equal("waiting", t:status())
    for i = 1, 4 do assert.equal(i, c:receive()) end
    t:join()
  end)

  for _, capacity in ipairs { 0, 1, 5 } do
    case("of capacity " .. capacity .. " carries nil and false", function()
      local c = neap.channel(capacity)
      neap.spawn(function()
        c:send(nil)
        c:send(false)
        c:send "end"
        c:close()
      end)
      local function check(n, ...) assert.equal(n, select("#", ...)) return ... end
      assert.is_nil(check(1, c:receive()))
      assert.is_false(c:receive())
      assert.equal("end", c:receive())
      assert.same({ nil, "closed" }, { c:receive() })
    end)

    case("of capacity " .. capacity .. " gives out what is left when it is closed", function()
      local c, seen = neap.channel(capacity), {}
      for i = 1, capacity do c:send(i) end
      c:close()
      for v in c:each() do seen[#seen + 1] = v end
      assert.equal(capacity, #seen)
      assert.equal("channel.closed", code_of(c.send, c, 1))
    end)

    case("of capacity " .. capacity .. " tells those who wait that it was closed", function()
      local c = neap.channel(capacity)
      local receivers = {}
      for i = 1, 3 do receivers[i] = neap.spawn(function() return c:receive() end) end
      idle()
      c:close()
      for i = 1, 3 do assert.same({ nil, "closed" }, { receivers[i]:join() }) end
      local d = neap.channel(capacity)
      for i = 1, capacity do d:send(i) end
      local senders = {}
      for i = 1, 3 do senders[i] = neap.spawn(d.send, d, i) end
      idle()
      d:close()
      for i = 1, 3 do assert.equal("channel.closed", code_of(senders[i].join, senders[i])) end
    end)

    case("of capacity " .. capacity .. " loses nothing to cancelled senders", function()
      local c = neap.channel(capacity)
      for i = 1, capacity do c:send("filler" .. i) end
      local tasks = {}
      for i = 1, 10 do tasks[i] = neap.spawn(c.send, c, i) end
      idle()
      for i = 1, 9, 2 do tasks[i]:cancel() end
      local seen = {}
      for _ = 1, capacity do c:receive() end
      for _ = 1, 5 do seen[#seen + 1] = c:receive() end
      assert.same({ 2, 4, 6, 8, 10 }, seen)
      for i = 1, 10 do
        if i % 2 == 1 then assert_cancelled(tasks[i].join, tasks[i]) else tasks[i]:join() end
      end
      idle()
      assert.equal("timeout", code_of(neap.timeout, 0.002, c.receive, c))
    end)

    case("of capacity " .. capacity .. " loses nothing to cancelled receivers", function()
      local c, seen = neap.channel(capacity), {}
      local tasks = {}
      for i = 1, 10 do
        tasks[i] = neap.spawn(function()
          local v = c:receive()
          seen[#seen + 1] = v
          neap.sleep(0)
        end)
      end
      idle()
      for i = 1, 5 do tasks[i]:cancel() end
      for i = 1, 5 do c:send(i) end
      for i = 6, 10 do tasks[i]:cancel() end -- they were woken already
      idle()
      assert.same({ 1, 2, 3, 4, 5 }, seen)
      for i = 1, 10 do pcall(tasks[i].join, tasks[i]) end
    end)
  end

  case("serves many senders and receivers", function()
    for _, capacity in ipairs { 0, 1, 16 } do
      local c, sum, n = neap.channel(capacity), 0, 0
      local senders, receivers = {}, {}
      for s = 1, 20 do
        senders[s] = neap.spawn(function() for i = 1, 50 do c:send(s * 1000 + i) end end)
      end
      for r = 1, 7 do
        receivers[r] = neap.spawn(function()
          for v in c:each() do
            sum, n = sum + v, n + 1
            if n % 3 == 0 then neap.sleep(0) end
          end
        end)
      end
      for s = 1, 20 do senders[s]:join() end
      c:close()
      for r = 1, 7 do receivers[r]:join() end
      assert.equal(1000, n)
      assert.equal(20 * 19 / 2 * 50 * 1000 + 20 * 50 * 1000 + 20 * 50 * 51 / 2, sum)
    end
  end)
end)

describe("a semaphore", function()
  case("is fair and never exceeded", function()
    local s, order, inside, most = neap.semaphore(2), {}, 0, 0
    local tasks = {}
    for i = 1, 20 do
      tasks[i] = neap.spawn(function()
        s:with(function()
          order[#order + 1] = i
          inside = inside + 1
          most = math.max(most, inside)
          neap.sleep(0)
          inside = inside - 1
        end)
      end)
    end
    for i = 1, 20 do tasks[i]:join() end
    for i = 1, 20 do assert.equal(i, order[i]) end
    assert.equal(2, most)
  end)

  case("gets its permits back from failures and cancellations", function()
    local s = neap.semaphore(1)
    assert.equal("x", code_of(s.with, s, error, "x", 0))
    local holder = neap.spawn(s.with, s, forever)
    local waiter = neap.spawn(s.with, s, forever)
    idle()
    waiter:cancel()
    holder:cancel()
    assert_cancelled(holder.join, holder)
    assert_cancelled(waiter.join, waiter)
    assert.equal(1, s:with(function() return 1 end))
  end)

  case("keeps a permit that reached a task about to be cancelled", function()
    local s = neap.semaphore(0)
    local t = neap.spawn(s.with, s, function() neap.sleep(0) end)
    idle()
    s:release()
    t:cancel()
    assert_cancelled(t.join, t)
    neap.timeout(5, s.acquire, s)
  end)
end)

describe("an event", function()
  case("wakes all and stays set until it is cleared", function()
    local e, n = neap.event(), 0
    for _ = 1, 5 do neap.spawn(function() e:wait() n = n + 1 end) end
    idle()
    assert.equal(0, n)
    e:set()
    idle()
    assert.equal(5, n)
    e:wait()
    e:clear()
    assert.equal("timeout", code_of(neap.timeout, 0.001, e.wait, e))
  end)
end)

describe("neap.context", function()
  case("is inherited by spawned tasks and changed for oneself alone", function()
    local t = neap.spawn(function()
      neap.context.user = "ada"
      local child = neap.spawn(function()
        local before = neap.context.user
        neap.context.user = "eve"
        neap.sleep(0)
        return before, neap.context.user
      end)
      local seen = { child:join() }
      return neap.context.user, seen[1], seen[2]
    end)
    assert.same({ "ada", "ada", "eve" }, { t:join() })
    assert.is_nil(neap.context.user)
  end)

  case("reaches groups, pools and timers", function()
    neap.spawn(function()
      neap.context.id = 7
      local function id() neap.sleep(0) return neap.context.id end
      assert.same({ 7, 7 }, neap.all { id, id })
      assert.same({ 7, 7, 7 }, neap.map(id, { 1, 2, 3 }, { concurrency = 1 }))
      assert.equal(7, neap.race { id })
      assert.equal(7, neap.pool(1):spawn(id):join())
      assert.equal(7, neap.scope(function(s) return s:spawn(id) and id() end))
    end):join()
  end)
end)

describe("coroutines of one's own", function()
  case("may wait in generators, three deep", function()
    local function count(n)
      return coroutine.wrap(function()
        for i = 1, n do
          neap.sleep(0)
          coroutine.yield(i)
        end
      end)
    end
    local function twice(n)
      return coroutine.wrap(function()
        for v in count(n) do
          neap.sleep(0.0005)
          coroutine.yield(v)
          coroutine.yield(v)
        end
      end)
    end
    local function pairs_of(n)
      return coroutine.wrap(function()
        local even = false
        for v in twice(n) do
          neap.sleep(0)
          if even then coroutine.yield(v, -v) end
          even = not even
        end
      end)
    end
    local seen = {}
    for a, b in pairs_of(5) do
      seen[#seen + 1] = a + b * 10
      neap.sleep(0)
    end
    assert.same({ -9, -18, -27, -36, -45 }, seen)
  end)

  case("pass values both ways beside waits", function()
    local co = coroutine.create(function(a, ...)
      local sum = a
      while true do
        neap.sleep(0)
        local v = coroutine.yield(sum, nil)
        if not v then return "end", select("#", ...) end
        sum = sum + v
      end
    end)
    assert.same({ true, 1, nil }, { coroutine.resume(co, 1, nil, nil) })
    assert.same({ true, 6, nil }, { coroutine.resume(co, 5) })
    assert.equal("suspended", coroutine.status(co))
    assert.same({ true, "end", 2 }, { coroutine.resume(co) })
    assert.equal("dead", coroutine.status(co))
    assert.is_false(coroutine.resume(co))
  end)

  case("bring errors out, after waits too", function()
    local gen = coroutine.wrap(function()
      coroutine.wrap(function()
        neap.sleep(0)
        error(neap.error { code = "deep", message = "inside" })
      end)()
    end)
    assert.equal("deep", code_of(gen))
    local co = coroutine.create(function() neap.sleep(0) error("plain", 0) end)
    assert.same({ false, "plain" }, { coroutine.resume(co) })
  end)

  case("are ended by the cancellation of their task", function()
    local inner
    local t = neap.spawn(function()
      local gen = coroutine.wrap(function()
        inner = code_of(forever)
        error("cleaned up", 0)
      end)
      gen()
    end)
    idle()
    t:cancel()
    assert.equal("cleaned up", code_of(t.join, t))
    assert.equal("cancelled", inner)
  end)

  case("cannot be resumed by another while they wait", function()
    local co = coroutine.create(function() neap.sleep(0.003) return "mine" end)
    local t = neap.spawn(coroutine.resume, co)
    idle()
    local ok, err = coroutine.resume(co)
    assert.is_false(ok)
    assert.matches("cannot resume", err)
    assert.equal("normal", coroutine.status(co))
    assert.same({ true, "mine" }, { t:join() })
  end)

  case("may be continued by another task between waits", function()
    local gen = coroutine.wrap(function()
      for i = 1, 3 do neap.sleep(0) coroutine.yield(i) end
    end)
    assert.equal(1, neap.spawn(gen):join())
    assert.equal(2, neap.spawn(gen):join())
    assert.equal(3, gen())
  end)

  case("cannot be yielded from where there is none", function()
    local t = neap.spawn(coroutine.yield, 1)
    local _, err = pcall(t.join, t)
    assert.matches("outside a coroutine", err)
  end)

  case("may hold a whole group", function()
    local gen = coroutine.wrap(function()
      coroutine.yield(neap.all { function() neap.sleep(0) return 1 end })
      coroutine.yield(neap.timeout(5, function() neap.sleep(0) return "t" end))
    end)
    assert.same({ 1 }, gen())
    assert.equal("t", gen())
  end)

  case("abandoned while suspended do no harm", function()
    local t = neap.spawn(function()
      for _ = 1, 100 do
        coroutine.wrap(function()
          neap.timeout(0.002, function() coroutine.yield(1) end)
        end)()
      end
      coroutine.wrap(function() end)()
      collectgarbage()
      collectgarbage()
      neap.sleep(0.005) -- their deadlines went with them
      return "fine"
    end)
    assert.equal("fine", t:join())
  end)
end)

describe("waiting", function()
  case("works in metamethods", function()
    local function late(v) return function() neap.sleep(0) return v end end
    local t = setmetatable({}, {
      __index = late "index", __call = late "call", __add = late "add", __concat = late "concat",
      __eq = late(true), __lt = late(true), __le = late(false), __unm = late "unm",
      __newindex = function(self, k, v) neap.sleep(0) rawset(self, k, v) end,
      __tostring = late "text",
    })
    local u = setmetatable({}, getmetatable(t))
    assert.equal("index", t.x)
    assert.equal("call", t())
    assert.equal("add", t + 1)
    assert.equal("concat", t .. "x")
    assert.equal("unm", -t)
    assert.is_true(t == u)
    assert.is_true(t < u)
    assert.is_false(t <= u)
    assert.equal("text", tostring(t))
    t.y = 1
    assert.equal(1, rawget(t, "y"))
  end)

  case("works in iterators and in pcall and xpcall", function()
    local function iterate(_, i)
      neap.sleep(0)
      if i < 3 then return i + 1 end
    end
    local n = 0
    for i in iterate, nil, 0 do n = n + i end
    assert.equal(6, n)
    assert.same({ true, 1, 2 }, { pcall(function() neap.sleep(0) return 1, 2 end) })
    assert.same({ false, "handled x" }, { xpcall(function()
      neap.sleep(0)
      error("x", 0)
    end, function(e) return "handled " .. e end) })
    assert.is_true(pcall(pcall, pcall, neap.sleep, 0))
  end)

  local function refuses(name, fn)
    case("in " .. name .. " raises a clear error, and the task goes on", function()
      local t = neap.spawn(function()
        local ok, err = pcall(fn)
        assert(not ok, "it did not raise")
        neap.sleep(0.001)
        assert(neap.channel(1):send(1) == nil)
        neap.sleep(0)
        return tostring(err)
      end)
      assert.matches("cannot wait here", t:join())
    end)
  end

  local function in_sort(fn)
    table.sort({ 3, 1, 2 }, function(a, b) fn() return a < b end)
  end
  local later = { __tostring = function() neap.sleep(0.001) return "x" end }
  local redis = neap.redis()
  refuses("table.sort", function() in_sort(function() neap.sleep(0.001) end) end)
  refuses("table.sort, giving way", function() in_sort(function() neap.sleep(0) end) end)
  refuses("string.gsub", function()
    local _ = ("abc"):gsub(".", function() neap.sleep(0) end)
  end)
  refuses("string.format", function() return ("%s"):format(setmetatable({}, later)) end)
  refuses("load with a function", function()
    local _, err = load(function() neap.sleep(0) end)
    error(err, 0)
  end)
  local groups = { function() neap.sleep(0) end }
  local primitives = {
    ["a sleep"] = function() neap.sleep(0.001) end,
    ["giving way"] = function() neap.sleep(0) end,
    ["a group"] = function() neap.all(groups) end,
    ["a channel"] = function() neap.channel():receive() end,
    ["a sender"] = function() neap.channel():send(1) end,
    ["a redis call"] = function() redis:get "x" end,
    ["a blocking redis call"] = function() redis:blpop("spec:x", 1) end,
    ["a pipeline"] = function() redis:pipeline(function(p) p:ping() end) end,
    ["a join"] = function() neap.spawn(neap.sleep, 0):join() end,
  }
  for name, fn in pairs(primitives) do
    refuses("table.sort by " .. name, function() in_sort(fn) end)
    refuses("table.sort, in a coroutine, by " .. name, function()
      in_sort(function() coroutine.wrap(fn)() end)
    end)
  end

  case("again at once after a refused wait is not disturbed by it", function()
    for _, fn in pairs(primitives) do
      pcall(in_sort, function() coroutine.wrap(fn)() end)
      local c = neap.channel()
      neap.spawn(function() neap.sleep(0.002) c:send "the right one" end)
      assert.equal("the right one", c:receive())
    end
  end)

  case("a refused wait may be the last thing a task does", function()
    for _ = 1, 20 do
      for _, fn in pairs(primitives) do
        neap.spawn(function() pcall(in_sort, function() coroutine.wrap(fn)() end) end)
      end
      idle()
    end
    collectgarbage()
    neap.sleep(0.005)
  end)

  case("in an error handler does no harm", function()
    local t = neap.spawn(function()
      local ok = xpcall(error, function(e) neap.sleep(0) return e end, "x")
      neap.sleep(0)
      return ok
    end)
    assert.is_false(t:join())
  end)

  case("after a stack overflow works, and the overflow is an error like others", function()
    local function deeper(n) return 1 + deeper(n + 1) end
    local t = neap.spawn(function() neap.sleep(0) deeper(1) end)
    local ok, err = pcall(t.join, t)
    assert.is_false(ok)
    assert.matches("stack overflow", err)
    t = neap.spawn(function()
      local caught = not pcall(deeper, 1)
      neap.sleep(0.001)
      return caught
    end)
    assert.is_true(t:join())
    local r = process.lua [[
      local function deeper(n) return 1 + deeper(n + 1) end
      require("neap").spawn(deeper, 1)
      deeper(1)
    ]]
    assert.equal(1, r.status)
    assert.matches("stack overflow", r.err)
  end)

  case("in __gc does no harm", function()
    local tried, message = 0, nil
    for _ = 1, 10 do
      local p = newproxy(true)
      getmetatable(p).__gc = function()
        tried = tried + 1
        local _, err = pcall(neap.sleep, 0.001)
        message = tostring(err)
      end
    end
    collectgarbage()
    collectgarbage()
    assert.equal(10, tried)
    assert.matches("cannot wait", message)
    neap.sleep(0)
  end)

  case("works in print, through __tostring", function()
    local r = process.lua [[
      local neap = require "neap"
      print(1, nil, setmetatable({}, { __tostring = function() neap.sleep(0) return "x" end }))
      print()
    ]]
    assert.equal("1\tnil\tx\n\n", r.out)
  end)
end)

describe("require and dofile", function()
  local dir, path
  setup(function()
    dir, path = process.temp_dir(), package.path
    package.path = dir .. "/?.lua;" .. path
  end)
  teardown(function()
    package.path = path
    process.remove(dir)
  end)
  local function module(name, text)
    package.loaded[name] = nil
    process.write(dir .. "/" .. name .. ".lua", text)
  end

  case("a module's chunk may wait, and runs once for two tasks", function()
    module("m_wait", [[
      local neap = require "neap"
      LOADS = (LOADS or 0) + 1
      neap.sleep(0.003)
      return { name = ... }
    ]])
    local a = neap.spawn(require, "m_wait")
    local b = neap.spawn(require, "m_wait")
    local m = a:join()
    assert.equal("m_wait", m.name)
    assert.equal(m, b:join())
    assert.equal(m, require "m_wait")
    assert.equal(1, rawget(_G, "LOADS"))
  end)

  case("a module that returns nothing is true, false stays, loaded counts", function()
    module("m_none", "")
    module("m_self", "package.loaded[...] = 'own'")
    assert.is_true(require "m_none")
    assert.equal("own", require "m_self")
  end)

  case("a module that fails can be tried again", function()
    module("m_fail", "require 'neap'.sleep(0) error('no luck', 0)")
    assert.equal("no luck", code_of(require, "m_fail"))
    local a = neap.spawn(require, "m_fail")
    local b = neap.spawn(require, "m_fail")
    assert.equal("no luck", code_of(a.join, a))
    assert.equal("no luck", code_of(b.join, b))
    module("m_fail", "return 5")
    assert.equal(5, require "m_fail")
  end)

  case("a cancelled load leaves the way free for the next", function()
    module("m_slow", "require 'neap'.sleep(SLOW) return 'slow'")
    rawset(_G, "SLOW", 3600)
    local a = neap.spawn(require, "m_slow")
    idle()
    local b = neap.spawn(require, "m_slow")
    idle()
    rawset(_G, "SLOW", 0)
    a:cancel()
    assert_cancelled(a.join, a)
    assert.equal("slow", b:join())
  end)

  case("modules that need each other are refused, in one task or in two", function()
    module("m_a", "require 'neap'.sleep(0.001) return require 'm_b'")
    module("m_b", "require 'neap'.sleep(0.001) return require 'm_a'")
    assert.matches("loop or previous error loading module 'm_a'", code_of(require, "m_a"))
    local a = neap.spawn(require, "m_a")
    local b = neap.spawn(require, "m_b")
    assert.matches("loop", neap.timeout(5, code_of, a.join, a))
    assert.matches("loop", neap.timeout(5, code_of, b.join, b))
  end)

  case("an unknown module is named with where it was sought", function()
    local _, err = pcall(require, "no.such.module")
    assert.matches("module 'no.such.module' not found", err)
    assert.matches("no field package.preload", err)
    assert.has_error(function() require() end)
  end)

  case("dofile may wait and returns all values", function()
    module("m_do", "require 'neap'.sleep(0) return 1, nil, 3")
    assert.same({ 1, nil, 3 }, { dofile(dir .. "/m_do.lua") })
    assert.has_error(function() dofile(dir .. "/absent.lua") end)
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
    assert.equal(1, count(r.err, "spawned at (command line):2"))
    assert.equal(1, count(r.err, "stack traceback:"))
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
