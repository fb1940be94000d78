local neap = require "neap"
local fake = require "support.fake_server"
local process = require "support.process"
local stream = require "support.stream"
local eventually = require "support.eventually"
local case = require "support.case" (it)
local _, code_of, failure_of = require "support.failure" (assert)

local redis

local function consume(more, client) return stream.consume(client or redis, more) end
local function pending() return stream.pending(redis) end

-- add appends entries with those values of n; their ids.
local function add(...)
  local ids = {}
  for i, n in ipairs { ... } do ids[i] = redis:xadd("s", "*", "n", n) end
  return ids
end

-- take asks for k entries; the last one is not finished. Their n.
local function take(k, iterator)
  local list = {}
  for i = 1, k do list[i] = tonumber(iterator().fields.n) end
  return list
end

-- numbers_of returns n of the pending entries.
local function numbers_of()
  local list = {}
  for i, p in ipairs(redis:call("XPENDING", "s", "g", "-", "+", 1000)) do
    list[i] = tonumber(redis:call("XRANGE", "s", p[1], p[1])[1][2][2])
  end
  return list
end

local function calls_of(command)
  return tonumber(redis:info("commandstats"):match("cmdstat_" .. command .. ":calls=(%d+)")) or 0
end

before_each(function()
  redis = neap.redis "memory:"
  redis:flushall()
  redis:config("RESETSTAT")
end)

teardown(function() redis:close() end)

describe("redis:consume", function()
  case("gives the entries in order", function()
    local ids = add(1, 2, 3)
    redis:xadd("s", "9999999999999-0", "a", "x", "b", "")
    local iterator = consume { count = 2 }
    for i = 1, 3 do
      local entry = iterator()
      assert.equal(ids[i], entry.id)
      assert.equal("s", entry.stream)
      assert.same({ n = tostring(i) }, entry.fields)
      assert.equal(1, entry.deliveries)
    end
    assert.same({ a = "x", b = "" }, iterator().fields)
  end)

  case("waits for those that come later, longer than one read", function()
    local reader = neap.spawn(function() return take(2, consume { block = 0.01 }) end)
    eventually(function() return calls_of "xreadgroup" >= 3 end)
    add(1, 2)
    assert.same({ 1, 2 }, reader:join())
  end)

  case("begins a new group where from says", function()
    local ids = add(1, 2, 3)
    assert.same({ 1 }, take(1, consume()))
    assert.same({ 2 }, take(1, consume { group = "from an id", from = ids[1] }))
    local only_new = consume { group = "new ones", from = "$" }
    add(4)
    assert.same({ 4 }, take(1, only_new))
    assert.same({ 1 }, take(1, redis:consume("s", { group = "0", consumer = "c", from = "0" })))
  end)

  case("leaves a group that exists where it stands", function()
    local ids = add(1, 2, 3)
    redis:xgroup("CREATE", "s", "g", ids[2])
    assert.same({ 3 }, take(1, consume()))
  end)

  case("refuses options by name", function()
    local function text(options, name)
      local err = failure_of(function() redis:consume(name or "s", options) end)
      assert.is_string(err)
      return err
    end
    assert.matches("option 'group'", text { consumer = "c" })
    assert.matches("option 'consumer'", text { group = "g" })
    assert.matches("unknown option 'blok'", text(stream.options { blok = 1 }))
    assert.matches("a table of options", text(nil))
    assert.matches("name of a stream", text(stream.options(), ""))
    for name, values in pairs {
      group = { "", 1 }, consumer = { "", false }, count = { 0, 1.5, "x" },
      block = { 0, -1, 0 / 0 }, from = { "", ">", "x-1", 0 },
      claim_after = { 0, true, "60" }, claim_every = { 0, false },
      max_deliveries = { 0, 2.5 }, dead = { "f" }, manual = { 1 },
    } do
      for _, value in ipairs(values) do
        assert.matches("redis_stream_spec.*option '" .. name .. "'",
          text(stream.options { [name] = value }))
      end
    end
    assert.equal(0, redis:exists "s")
  end)

  case("raises what does not pass", function()
    redis:set("s", "text")
    assert.equal("redis.wrongtype", code_of(consume))
    redis:del "s"
    local iterator = consume()
    redis:del "s"
    redis:set("s", "text")
    assert.equal("redis.wrongtype", code_of(iterator))
  end)
end)

describe("an entry", function()
  case("is acknowledged when the loop asks for the next one", function()
    add(1, 2, 3)
    local iterator = consume()
    iterator()
    assert.same({ 1, 2, 3 }, numbers_of())
    iterator()
    eventually(function() return pending() == 2 end)
    assert.same({ 2, 3 }, numbers_of())
    iterator()
    eventually(function() return pending() == 1 end)
    local last = neap.spawn(iterator)
    eventually(function() return pending() == 0 end)
    last:cancel()
  end)

  case("is acknowledged with its neighbours by one command where nothing waits", function()
    for i = 1, 11 do add(i) end
    take(11, consume { count = 5 })
    assert.equal(2, calls_of "xack")
    assert.same({ 11 }, numbers_of())
  end)

  case("that the loop left comes again, with those it never reached", function()
    add(1, 2, 3, 4)
    for entry in consume() do
      if entry.fields.n == "2" then break end
    end
    local iterator = consume()
    for n = 2, 4 do
      local entry = iterator()
      assert.equal(tostring(n), entry.fields.n)
      assert.equal(2, entry.deliveries)
    end
    add(5)
    assert.equal(1, iterator().deliveries)
  end)

  case("whose handling failed comes again", function()
    add(1, 2)
    local function work()
      for entry in consume() do error("no luck with " .. entry.fields.n, 0) end
    end
    for _ = 1, 3 do assert.equal("no luck with 1", failure_of(work)) end
    local iterator = consume()
    assert.equal(4, iterator().deliveries)
    assert.equal(2, iterator().deliveries) -- never reached so far
  end)

  case("that was acknowledged in the loop does not come again", function()
    add(1, 2)
    for entry in consume() do
      assert.is_true(entry:ack())
      if entry.fields.n == "1" then break end
    end
    assert.same({ 2 }, numbers_of())
    assert.same({ 2 }, take(1, consume()))
    assert.equal(1, calls_of "xack")
  end)

  case("of many that were left comes again, page by page", function()
    local all = {}
    for i = 1, 20 do
      add(i)
      all[i] = i
    end
    take(1, consume { count = 20 })
    assert.same(all, take(20, consume { count = 3 }))
  end)

  case("that was deleted is acknowledged and left out", function()
    local ids = add(1, 2, 3)
    take(1, consume())
    redis:xdel("s", ids[2])
    local iterator = consume()
    assert.same({ 1, 3 }, take(2, iterator))
    add(4)
    assert.same({ 4 }, take(1, iterator))
    assert.same({ 4 }, numbers_of())
  end)

  case("that was deleted is acknowledged and left out before Redis 7, too", function()
    local replies = {
      PING = "+PONG\r\n", XGROUP = "+OK\r\n",
      XPENDING = "*1\r\n*4\r\n$3\r\n1-1\r\n$1\r\nc\r\n:5\r\n:1\r\n",
      XCLAIM = "*1\r\n*-1\r\n", XACK = ":1\r\n",
      XREADGROUP = "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n" ..
        "*2\r\n$3\r\n1-2\r\n*2\r\n$1\r\nn\r\n$1\r\n2\r\n",
    }
    local acknowledged
    local server = fake.start(function(conn)
      for command in conn.read, conn do
        if command[1] == "XACK" then acknowledged = command[4] end
        conn:write(replies[command[1]])
      end
    end)
    local client = neap.redis(server.url)
    assert.same({ 2 }, take(1, consume({ claim_after = false }, client)))
    assert.equal("1-1", acknowledged)
    client:close()
    server:stop()
  end)

  case("is acknowledged by hand only, if so wished", function()
    add(1, 2, 3)
    local iterator = consume { manual = true }
    local list = { iterator(), iterator(), iterator() }
    list[2]:ack()
    add(4)
    take(1, iterator)
    assert.same({ 1, 3, 4 }, numbers_of())
  end)
end)

describe("two consumers", function()
  case("share the entries", function()
    local seen, total, by = {}, 0, { a = 0, b = 0 }
    local tasks = {}
    for name in pairs(by) do
      tasks[name] = neap.spawn(function()
        for entry in consume { consumer = name, count = 1 } do
          seen[entry.fields.n] = (seen[entry.fields.n] or 0) + 1
          total, by[name] = total + 1, by[name] + 1
          neap.sleep(0)
        end
      end)
    end
    for i = 1, 100 do
      add(i)
    end
    eventually(function() return total >= 100 and pending() == 0 end)
    for _, t in pairs(tasks) do t:cancel() end
    for i = 1, 100 do assert.equal(1, seen[tostring(i)]) end
    assert.is_true(by.a > 0 and by.b > 0)
  end)

  case("take over what the other left lying", function()
    add(1, 2, 3, 4, 5)
    take(2, consume { consumer = "gone" })
    eventually(function() return pending() == 4 end)
    local iterator = consume { claim_after = 0.02 }
    for n = 2, 5 do
      local entry = iterator()
      assert.equal(tostring(n), entry.fields.n)
      assert.equal(2, entry.deliveries)
    end
    add(6)
    assert.same({ 6 }, take(1, iterator))
    assert.same({ 6 }, numbers_of())
  end)

  case("take over more than one look finds, and nothing else", function()
    local ids, idle = {}, {}
    for i = 1, 100 do ids[i] = add(i)[1] end
    take(1, consume { consumer = "gone", count = 100 })
    for i = 1, 100, 3 do
      redis:xclaim("s", "g", "gone", 0, ids[i], "IDLE", 3600000)
      idle[#idle + 1] = i
    end
    local iterator = consume { claim_every = 3600, count = 2 }
    assert.same(idle, take(#idle, iterator))
    add(101)
    assert.same({ 101 }, take(1, iterator))
  end)

  case("leave it, if so wished", function()
    add(1, 2)
    take(2, consume { consumer = "gone", claim_after = false })
    eventually(function() return pending() == 1 end)
    local iterator = consume { claim_after = false, block = 0.01 }
    local reader = neap.spawn(take, 1, iterator)
    eventually(function() return calls_of "xreadgroup" >= 5 end)
    add(3)
    assert.same({ 3 }, reader:join())
    assert.equal(0, calls_of "xautoclaim")
  end)

  case("do not both handle what was taken over from a page", function()
    add(1, 2, 3)
    local slow = consume { consumer = "slow", claim_after = 0.05 }
    take(1, slow)
    local quick = consume { consumer = "quick", claim_after = 0.05, manual = true }
    assert.same({ 1, 2, 3 }, take(3, quick))
    add(4)
    assert.same({ 4 }, take(1, slow))
  end)

  case("keep what waited long in a page and nobody took", function()
    add(1, 2, 3)
    local slow = consume { claim_after = 0.01 }
    for n = 1, 3 do
      local entry = slow()
      assert.equal(tostring(n), entry.fields.n)
      assert.equal(1, entry.deliveries)
      neap.sleep(0.02)
    end
    assert.equal(2, calls_of "xclaim")
  end)

  case("get what was given out and forgotten", function()
    add(1, 2)
    local iterator = consume { manual = true, claim_after = 0.02 }
    local first, second = iterator(), iterator()
    second:ack()
    local again = iterator()
    assert.equal(first.id, again.id)
    assert.equal(2, again.deliveries)
    again:ack()
    assert.equal(0, pending())
  end)
end)

describe("an entry delivered too often", function()
  local function fail_times(k, more)
    for _ = 1, k do take(1, consume(more)) end
  end

  case("is handed to dead, its neighbours are not", function()
    add(1, 2, 3)
    fail_times(3, { max_deliveries = 3 })
    local dead = {}
    local iterator = consume { max_deliveries = 3, dead = function(e) dead[#dead + 1] = e end }
    assert.same({ 2, 3 }, take(2, iterator))
    assert.equal(1, #dead)
    assert.equal("1", dead[1].fields.n)
    assert.equal(4, dead[1].deliveries)
    eventually(function() return pending() == 1 end)
    assert.same({ 3 }, numbers_of())
  end)

  case("is kept when dead fails", function()
    add(1, 2)
    fail_times(1)
    local function dead() error("cannot bury", 0) end
    assert.equal("cannot bury", failure_of(consume { max_deliveries = 1, dead = dead }))
    assert.same({ 1, 2 }, numbers_of())
  end)

  case("is logged without dead, and acknowledged", function()
    local r = process.lua([[
      local redis = require("neap").redis()
      redis:xadd("s", "1-1", "n", 1)
      redis:consume("s", { group = "g", consumer = "c" })()
      local reader = redis:consume("s", { group = "g", consumer = "c", max_deliveries = 1 })
      redis:xadd("s", "1-2", "n", 2)
      print(reader().id, redis:call("XPENDING", "s", "g")[1])]],
      { env = { NEAP_REDIS = "memory" } })
    assert.equal("1-2\t1\n", r.out)
    assert.matches("entry 1%-1 of s is given up by group g, delivery 2", r.err)
  end)
end)

describe("a group that is lost", function()
  for _, lose in ipairs { "DEL s", "FLUSHALL", "XGROUP DESTROY s g" } do
    local words = {}
    for word in lose:gmatch "%S+" do words[#words + 1] = word end

    case("is made again after " .. lose .. " between two reads", function()
      add(1)
      local iterator = consume()
      iterator():ack()
      redis:call(unpack(words))
      redis:del "s"
      add(2, 3)
      assert.same({ 2, 3 }, take(2, iterator))
      assert.equal(2, pending())
    end)

    case("is made again after " .. lose .. " while it waits", function()
      for _, from in ipairs { "0", "$" } do
        for _, execute in ipairs { "multi", "pipeline" } do
          redis:flushall()
          local reader = neap.spawn(take, 1, consume { from = from, block = 60 })
          stream.wait_blocked(redis)
          redis[execute](redis, function(p)
            p:call(unpack(words))
            p:xadd("s", "*", "n", 7)
          end)
          assert.same({ 7 }, reader:join())
        end
      end
    end)
  end
end)
