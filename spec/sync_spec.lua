local neap = require "neap"
local case = require "support.case" (it)
local code_of, forever, idle, assert_cancelled = require "support.cancel" (assert)

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
