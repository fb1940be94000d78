local neap = require "neap"
local uv = require "luv"
local process = require "support.process"
local case = require "support.case" (it)

describe("luv on the host's loop", function()
  case("calls back in tasks, which may wait", function()
    local timer, done = uv.new_timer(), neap.event()
    local order = {}
    timer:start(1, 0, function()
      order[#order + 1] = "before"
      neap.sleep(0.001)
      order[#order + 1] = neap.redis():echo "redis"
      timer:close()
      done:set()
    end)
    done:wait()
    assert.same({ "before", "redis" }, order)
  end)

  case("keeps repeating callbacks apart", function()
    local timer, done, n, running, most = uv.new_timer(), neap.event(), 0, 0, 0
    timer:start(1, 1, function()
      running = running + 1
      most = math.max(most, running)
      neap.sleep(0.005)
      running, n = running - 1, n + 1
      if n == 5 then timer:close() done:set() end
    end)
    done:wait()
    assert.is_true(most > 1)
  end)

  case("is the same module under both names", function()
    assert.equal(uv, require "uv")
  end)

  case("logs a callback's failure and goes on", function()
    local r = process.lua [[
      local uv, neap = require "luv", require "neap"
      local timer = uv.new_timer()
      timer:start(1, 0, function() timer:close() error "in a callback" end)
      neap.sleep(0.01)
      print "alive"
    ]]
    assert.same({ 0, "alive\n" }, { r.status, r.out })
    assert.matches("a task failed: .*in a callback", r.err)
  end)

  case("calls back from its threads", function()
    local done, results = neap.event(), {}
    local work = uv.new_work(function(n) return n * 2 end, function(n)
      results[#results + 1] = n
      if #results == 4 then done:set() end
    end)
    for i = 1, 4 do work:queue(i) end
    done:wait()
    table.sort(results)
    assert.same({ 2, 4, 6, 8 }, results)
    local async
    done:clear()
    async = uv.new_async(function(v)
      neap.sleep(0)
      results = v
      async:close()
      done:set()
    end)
    async:send "from elsewhere"
    done:wait()
    assert.equal("from elsewhere", results)
  end)

  case("refuses what would end the loop, naming the alternative", function()
    for _, name in ipairs { "stop", "loop_close", "walk" } do
      local ok, err = pcall(uv[name], print)
      assert.is_false(ok)
      assert.matches("uv." .. name .. " would stop the host's loop", err)
    end
  end)

  case("lets a script written for luv end with uv.run", function()
    local r = process.lua [[
      local uv = require "luv"
      local timer = uv.new_timer()
      timer:start(5, 0, function() print "due" timer:close() end)
      uv.run()
      print "after"
    ]]
    assert.same({ 0, "due\nafter\n", "" }, { r.status, r.out, r.err })
  end)

  case("uv.run waits on while there is something alive, until it is told to end", function()
    local child = process.start(uv.exepath(), { "-e", [[
      local uv = require "luv"
      local server = uv.new_tcp()
      server:bind("127.0.0.1", 0)
      server:listen(1, function() end)
      print "ready"
      io.stdout:flush()
      uv.run()
    ]] })
    child:wait_for "ready"
    neap.sleep(0.02)
    assert.is_nil(child.status)
    child:kill "sigterm"
    assert.equal("", child:wait().err)
  end)
end)

describe("neap.await", function()
  case("returns what the callback got behind its error", function()
    local stat = neap.await(uv.fs_stat, "/")
    assert.equal("directory", stat.type)
    local fd = neap.await(uv.fs_open, "/dev/zero", "r", 0)
    assert.equal(("\0"):rep(10), neap.await(uv.fs_read, fd, 10, 0))
    neap.await(uv.fs_close, fd)
  end)

  case("raises its error with a code", function()
    local ok, err = pcall(neap.await, uv.fs_stat, "/no/such/file")
    assert.is_false(ok)
    assert.is_true(neap.is_error(err, "uv.ENOENT"))
    assert.matches("ENOENT", err.message)
  end)

  case("raises what the call itself refuses", function()
    local socket = uv.new_tcp()
    local ok, err = pcall(neap.await, socket.connect, socket, "not an address", 1)
    assert.is_false(ok)
    assert.is_string(tostring(err))
    socket:close()
  end)

  case("can be cancelled, and the callback that comes later does no harm", function()
    for _ = 1, 20 do
      local t = neap.spawn(neap.await, uv.getaddrinfo, "localhost", nil, nil)
      neap.sleep(0)
      t:cancel()
      pcall(t.join, t)
      assert.is_true(t:status() == "cancelled" or t:status() == "done")
    end
    neap.sleep(0.01)
  end)

  case("works with many at once", function()
    local list = {}
    for i = 1, 200 do list[i] = "/proc/self/stat" end
    local r = neap.map(function(path) return neap.await(uv.fs_stat, path) end, list,
      { concurrency = 50 })
    assert.equal(200, #r)
  end)

  case("in a coroutine of one's own", function()
    local gen = coroutine.wrap(function()
      coroutine.yield(neap.await(uv.fs_stat, "/").type)
    end)
    assert.equal("directory", gen())
  end)
end)

describe("processes and sockets", function()
  case("carry text through a child", function()
    local r = process.start("/bin/cat", {}, { input = "through cat" }):wait()
    assert.same({ 0, "through cat" }, { r.status, r.out })
  end)

  case("an echo server and its client share the loop", function()
    local server = uv.new_tcp()
    server:bind("127.0.0.1", 0)
    server:listen(10, function()
      local s = uv.new_tcp()
      server:accept(s)
      s:read_start(function(_, data)
        if data then
          neap.sleep(0.001)
          s:write(data)
        else
          s:close()
        end
      end)
    end)
    local client, got = uv.new_tcp(), neap.channel(10)
    neap.await(client.connect, client, "127.0.0.1", server:getsockname().port)
    client:read_start(function(_, data) if data then got:send(data) end end)
    for i = 1, 5 do
      neap.await(client.write, client, "line " .. i)
      assert.equal("line " .. i, got:receive())
    end
    client:close()
    server:close()
  end)
end)
