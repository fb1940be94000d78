local neap = require "neap"
local case = require "support.case" (it)
local code_of, forever, idle, assert_cancelled = require "support.cancel" (assert)

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
