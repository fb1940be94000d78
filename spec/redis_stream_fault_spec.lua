local neap = require "neap"
local proxies = require "support.proxy"
local servers = require "support.redis"
local stream = require "support.stream"
local eventually = require "support.eventually"
local case = require "support.case" (it)
local _, code_of = require "support.failure" (assert)
local pending, wait_blocked = stream.pending, stream.wait_blocked

local function consume(more, client) return stream.consume(client, more) end

describe("a reader", function()
  local server, direct, p, client
  before_each(function()
    server = servers.start { args = { "--appendonly", "yes" } }
    direct = neap.redis(server.url)
    p = proxies.start(server.port)
    client = neap.redis(p.url)
  end)
  after_each(function()
    client:close()
    direct:close()
    p:stop()
    server:stop()
  end)

  -- wait_pending waits until the group has so many pending entries
  local function wait_pending(n)
    eventually(function() return pending(direct) == n end)
  end

  -- produce adds entries 1 to n, each once, whatever happens to the server.
  local function produce(n)
    for i = 1, n do
      repeat
        local ok, err = pcall(direct.xadd, direct, "s", i .. "-1", "n", i)
      until ok or err.code == "redis.err" -- was added before
      if i % 10 == 0 then neap.sleep(0.002) end
    end
  end

  -- assert_all_handled runs a loop over n entries while disturb is called again
  -- and again: each has to come once, as nothing that was acknowledged comes again.
  local function assert_all_handled(n, more, disturb)
    local seen, total, is_over = {}, 0, false
    local function handled(entry)
      local number = tonumber(entry.fields.n)
      assert.is_nil(seen[number], "handled twice")
      seen[number], total = true, total + 1
    end
    local reader = neap.spawn(function()
      for entry in consume(more, client) do
        if more.manual then
          neap.spawn(function()
            neap.sleep(0.002)
            handled(entry)
            entry:ack()
          end)
        else
          handled(entry)
          if total % 7 == 0 then neap.sleep(0.001) end
        end
      end
    end)
    local disturber = neap.spawn(function()
      while not is_over do
        neap.sleep(0.05 + math.random() * 0.1)
        disturb()
      end
    end)
    produce(n)
    eventually(function() return total >= n or reader:status() == "failed" end)
    is_over = true
    disturber:join()
    eventually(function() return pending(direct) == 0 or reader:status() == "failed" end)
    reader:cancel()
    assert.equal("cancelled", code_of(reader.join, reader))
    assert.equal(n, total)
    eventually(function() return client:stats().in_use == 0 end)
  end

  case("whose connections are cut gets each of 500 entries", function()
    p.delay = 0.002
    assert_all_handled(500, { count = 8 }, function() p:cut() end)
  end)

  case("whose connections are killed gets each of 500 entries", function()
    assert_all_handled(500, { count = 8 }, function()
      direct:client("KILL", "TYPE", "normal", "SKIPME", "yes")
    end)
  end)

  case("that acknowledges by hand gets each of 500 entries once", function()
    p.delay = 0.002
    assert_all_handled(500, { count = 8, manual = true }, function() p:cut() end)
  end)

  case("whose server dies and comes back gets each of 500 entries", function()
    local deaths = 0
    assert_all_handled(500, { count = 8 }, function()
      if deaths == 3 then return end
      deaths = deaths + 1
      server:kill()
      server:restart()
    end)
    assert.is_true(deaths >= 1)
  end)

  case("gets what a lost reply had made its own", function()
    local iterator = consume({ block = 60 }, client)
    local reader = neap.spawn(iterator)
    wait_blocked(direct)
    p.delay = 3600
    direct:xadd("s", "*", "n", 1)
    wait_pending(1)
    p.delay = nil
    p:cut()
    local entry = reader:join()
    assert.equal("1", entry.fields.n)
    assert.equal(2, entry.deliveries)
  end)

  case("does not give out again what is in hand", function()
    for i = 1, 4 do direct:xadd("s", "*", "n", i) end
    local iterator = consume({ manual = true, count = 2, block = 60 }, client)
    local list = { iterator(), iterator(), iterator(), iterator() }
    local reader = neap.spawn(iterator)
    wait_blocked(direct)
    p:cut()
    direct:xadd("s", "*", "n", 5)
    assert.equal("5", reader:join().fields.n)
    for _, entry in ipairs(list) do assert.is_true(entry:ack()) end
    assert.equal(1, pending(direct))
  end)

  case("repeats an acknowledgement that was lost before it reads on", function()
    for i = 1, 2 do direct:xadd("s", "*", "n", i) end
    local iterator = consume({ manual = true, count = 1 }, client)
    local first = iterator()
    p.is_hole = true
    local done = neap.spawn(first.ack, first)
    eventually(function() return client:stats().pending > 0 end)
    neap.sleep(0.01)
    p:cut()
    p.is_hole = false
    assert.is_false(done:join())
    assert.equal(1, pending(direct))
    assert.equal("2", iterator().fields.n)
    assert.same({ 1, "2" }, { pending(direct), direct:call("XRANGE", "s",
      direct:call("XPENDING", "s", "g", "-", "+", 1)[1][1], "+")[1][2][2] })
  end)

  case("waits while there is no server", function()
    local iterator = consume({}, client)
    local reader = neap.spawn(iterator)
    wait_blocked(direct)
    p.is_refusing = true
    p:cut()
    local before = p.connections
    eventually(function() return p.connections >= before + 4 end)
    assert.equal("waiting", reader:status())
    p.is_refusing = false
    direct:xadd("s", "*", "n", 1)
    assert.equal("1", reader:join().fields.n)
  end)

  case("waits while the server is a replica, and makes the group then", function()
    local reader = neap.spawn(function() return consume({}, client)() end)
    direct:replicaof("127.0.0.1", servers.free_port())
    eventually(function() return direct:info("errorstats"):match "READONLY" end)
    direct:replicaof("NO", "ONE")
    direct:xadd("s", "*", "n", 1)
    assert.equal("1", reader:join().fields.n)
  end)

  case("that may not read raises that", function()
    direct:acl("SETUSER", "weak", "on", ">pw", "~*", "+@all", "-xreadgroup")
    local weak = neap.redis(("redis://weak:pw@127.0.0.1:%d"):format(server.port))
    assert.equal("redis.noperm", code_of(consume({}, weak)))
    weak:close()
  end)

  case("that is cancelled leaves nothing in use", function()
    local reader = neap.spawn(function()
      for _ in consume({ block = 60 }, client) do neap.sleep(0) end
    end)
    direct:xadd("s", "*", "n", 1)
    wait_blocked(direct)
    assert.equal(1, client:stats().in_use)
    reader:cancel()
    assert.equal("cancelled", code_of(reader.join, reader))
    eventually(function() return client:stats().in_use == 0 end)
    eventually(function() return direct:info("clients"):match "blocked_clients:0" end)
    assert.equal(0, pending(direct))
  end)

  case("that is cancelled in its loop has acknowledged what was finished", function()
    for i = 1, 5 do direct:xadd("s", "*", "n", i) end
    local is_there = neap.event()
    local reader = neap.spawn(function()
      for entry in consume({}, client) do
        if entry.fields.n == "3" then
          is_there:set()
          neap.sleep(3600)
        end
      end
    end)
    is_there:wait()
    reader:cancel()
    assert.equal("cancelled", code_of(reader.join, reader))
    wait_pending(3)
    assert.equal("3", consume({}, client)().fields.n)
  end)

  case("whose time is up, or whose client is closed, raises that", function()
    assert.equal("timeout", code_of(neap.timeout, 0.05, consume({}, client)))
    local reader = neap.spawn(consume({}, client))
    wait_blocked(direct)
    client:close()
    assert.equal("redis.closed", code_of(reader.join, reader))
  end)
end)
