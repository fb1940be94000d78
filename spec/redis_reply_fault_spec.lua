local neap = require "neap"
local uv = require "luv"
local fake = require "support.fake_server"
local case = require "support.case" (it)
local error_of, code_of = require "support.failure" (assert)

describe("a reply", function()
  local replies = {
    { "+OK\r\n", "OK" },
    { "$5\r\na\r\nbc\r\n", "a\r\nbc" },
    { "$0\r\n\r\n", "" },
    { ":-12345\r\n", -12345 },
    { "*0\r\n", {} },
    { "*3\r\n$1\r\na\r\n$-1\r\n:7\r\n", { "a", false, 7 } },
    { "*2\r\n*2\r\n+x\r\n*-1\r\n*1\r\n*1\r\n$2\r\n\0\n\r\n", { { "x", false }, { { "\0\n" } } } },
  }

  case("split at every byte is the same reply", function()
    local next_reply = 0
    fake.with(function(conn)
      conn:greet()
      while conn:read() do
        next_reply = next_reply + 1
        conn:write_bytes(replies[next_reply][1])
      end
    end, function(client)
      for _, r in ipairs(replies) do assert.same(r[2], client:get "k") end
    end)
  end)

  case("cut in two at every place is the same reply, with others around it", function()
    for _, r in ipairs(replies) do
      local stream = "+before\r\n" .. r[1] .. ":1\r\n"
      local at = 0
      fake.with(function(conn)
        conn:greet()
        while conn:read() and conn:read() and conn:read() do
          at = at + 1
          conn:write(stream:sub(1, at))
          neap.sleep(0.001)
          conn:write(stream:sub(at + 1))
        end
      end, function(client)
        for _ = 1, #stream - 1 do
          assert.same({ "before", r[2], 1 }, neap.all {
            function() return client:get "a" end,
            function() return client:get "b" end,
            function() return client:get "c" end,
          })
        end
      end)
    end
  end)

  case("of a long string comes in pieces of any size", function()
    local list = {}
    for i = 1, 30000 do list[i] = ("%d\r\n$"):format(i) end
    local value = table.concat(list)
    local stream = "+before\r\n$" .. #value .. "\r\n" .. value .. "\r\n:1\r\n"
    for _, size in ipairs { 1000, 4096, 65536, 65537, #stream - 6 } do
      fake.with(function(conn)
        conn:greet()
        while conn:read() and conn:read() and conn:read() do
          for at = 1, #stream, size do
            conn:write(stream:sub(at, at + size - 1))
            neap.sleep(0)
          end
        end
      end, function(client)
        local r = client:pipeline(function(p) p:get "a" p:get "b" p:get "c" end)
        assert.equal("before", r[1])
        assert.is_true(r[2] == value)
        assert.equal(1, r[3])
      end)
    end
  end)

  case("that nobody asked for ends the connection, not the client", function()
    fake.with(fake.answering(function(command, conn, n)
      if n == 1 then
        conn:write "+mine\r\n+one too many\r\n"
      else
        return "+" .. command[2] .. "\r\n"
      end
    end), function(client, server)
      assert.equal("mine", client:get "k")
      neap.sleep(0.01)
      assert.equal("second", client:get "second")
      assert.equal(2, server.connections)
    end)
  end)

  case("that is no reply fails the calls under way and the connection is renewed", function()
    for _, garbage in ipairs { "HTTP/1.1 400 Bad Request\r\n\r\n", "\0\0\0\0", "$abc\r\n",
      "*-5\r\n", "$-7\r\n", ":x\r\n", "!\r\n" } do
      fake.with(fake.answering(function(command, _, n)
        if n == 1 then return garbage end
        return "+" .. command[2] .. "\r\n"
      end), function(client)
        assert.equal("redis.protocol", code_of(client.get, client, "k"))
        assert.equal("well", client:get "well")
      end, "?timeout=1")
    end
  end)

  case("nested as deeply as the reader goes, or deeper", function()
    for depth = 1, 12 do
      fake.with(fake.answering(function(command, _, n)
        if n > 1 then return "+again\r\n" end
        return command[2] == "deep" and ("*1\r\n"):rep(depth) .. ":7\r\n" or "+x\r\n"
      end), function(client)
        local ok, v = pcall(client.get, client, "deep")
        if ok then
          for _ = 1, depth do v = v[1] end
          assert.equal(7, v)
        else
          assert.is_true(depth > 8)
          assert.equal("redis.too_deep", v.code)
        end
        assert.is_string(client:get "k")
      end)
    end
  end)

  case("of the wrong type is given as it is", function()
    fake.with(fake.answering(function() return "*1\r\n:1\r\n" end), function(client)
      assert.same({ 1 }, client:incr "k")
      assert.same({ { 1 } }, client:pipeline(function(p) p:get "k" end))
      assert.has_no_error(function() client:hgetall "h" end)
    end)
    for _, reply in ipairs { "+text\r\n", ":1\r\n", "$-1\r\n", "*1\r\n*1\r\n+a\r\n",
      "*3\r\n+a\r\n+b\r\n+c\r\n", "*2\r\n*0\r\n*0\r\n",
      "*4\r\n$-1\r\n*1\r\n:1\r\n:2\r\n-E x\r\n" } do
      fake.with(fake.answering(function() return reply end), function(client)
        for _ = 1, 3 do
          pcall(client.hgetall, client, "h")
          pcall(client.multi, client, function(tx) tx:get "k" end)
          pcall(client.lua(client, "return 1"))
          pcall(neap.timeout, 0.01, client.scan(client)) -- its cursor may never end
        end
        assert.has_no_error(function() client:get "k" end)
      end)
    end
  end)

  case("garbled at random settles its call, and the client goes on", function()
    math.randomseed(99)
    local parts = { "+OK\r\n", "$3\r\nabc\r\n", ":12\r\n", "*2\r\n", "*1\r\n*1\r\n", "$-1\r\n",
      "-ERR x\r\n", "*0\r\n", "*-1\r\n", "\r\n", "$", "*", "9", "-", "\0", "\255" }
    local function garble()
      local out = {}
      for i = 1, math.random(1, 8) do out[i] = parts[math.random(#parts)] end
      return table.concat(out)
    end
    local settled = 0
    fake.with(fake.answering(function(_, conn, n)
      if n > 200 then return "+end\r\n" end
      conn:write_bytes(garble(), math.random(1, 12))
      return "close"
    end), function(client)
      local calls = {
        function() return client:get "k" end,
        function() return client:hgetall "k" end,
        function() return client:pipeline(function(p) p:get "k" p:hgetall "k" end)[2] end,
        function() return client:multi(function(tx) tx:get "k" end) end,
      }
      local _, v
      repeat
        _, v = pcall(calls[math.random(#calls)])
        settled = settled + 1
      until v == "end"
    end, "?timeout=5")
    assert.is_true(settled >= 100)
  end)

  case("of claimed length that never comes takes no memory and ends by time", function()
    for _, claim in ipairs { "*1000000000\r\n", "$500000000\r\n", "*2147483647\r\n" } do
      fake.with(fake.answering(function(_, _, n) return n == 1 and claim or "+ok\r\n" end),
        function(client)
          local before = uv.resident_set_memory()
          assert.is_true(error_of(client.get, client, "k").code:find "redis" ~= nil)
          assert.is_true(uv.resident_set_memory() - before < 400e6)
          assert.equal("ok", client:get "k")
        end, "?timeout=1")
    end
  end)

  case("cut off in the middle fails its call as of unknown outcome", function()
    for _, part in ipairs { "$100\r\nabc", "*3\r\n$1\r\na\r\n", "+O", "$", "*2\r\n*1\r\n" } do
      fake.with(fake.answering(function(command, conn, n)
        if n == 1 then
          conn:write(part)
          neap.sleep(0.002)
          return "close"
        end
        return "+" .. command[2] .. "\r\n"
      end), function(client)
        assert.equal("redis.unknown_outcome", code_of(client.incr, client, "k"))
        assert.equal("next", client:get "next")
      end)
    end
  end)

  case("cut off in the middle is asked for again by a call that only reads", function()
    for _, part in ipairs { "", "$100\r\nabc", "*3\r\n$1\r\na\r\n", "+O" } do
      local seen = {}
      fake.with(fake.answering(function(command, conn, n)
        seen[#seen + 1] = command[1]
        if n == 1 then
          conn:write(part)
          neap.sleep(0.002)
          return "close"
        end
        return "+" .. command[2] .. "\r\n"
      end), function(client)
        assert.equal("k", client:get "k")
        assert.equal("call", client:call("get", "call"))
        assert.equal(1, client:stats().retries)
      end)
      assert.same({ "GET", "GET", "GET" }, seen)
    end
  end)

  case("that never comes, time and again, is not asked for without end", function()
    local asked = 0
    fake.with(fake.answering(function() asked = asked + 1 return "close" end), function(client)
      local err = error_of(client.get, client, "k")
      assert.equal("redis.unknown_outcome", err.code)
      assert.equal("sent", err.phase)
      assert.equal("GET", err.command)
      assert.matches("redis://127.0.0.1:", err.address, 1, true)
      assert.equal(4, asked)
      asked = 0
      assert.equal("redis.unknown_outcome", client:pipeline(function(p) p:get "k" end)[1].code)
      assert.equal(4, asked)
      asked = 0
      assert.equal("redis.unknown_outcome",
        client:pipeline(function(p) p:get "k" p:incr "k" end)[1].code)
      assert.equal(1, asked)
    end)
  end)

  case("that comes after its call timed out is given to nobody", function()
    fake.with(fake.answering(function(command, conn)
      if command[2] == "slow" then
        neap.spawn(function() -- others are answered late too, in order
          neap.sleep(0.08)
          conn:write "+slow\r\n+fast\r\n"
        end)
      elseif command[2] ~= "fast" then
        return "+" .. command[2] .. "\r\n"
      end
    end), function(client)
      assert.equal("first", client:get "first")
      local slow = neap.spawn(client.get, client, "slow")
      neap.sleep(0.035)
      local fast = neap.spawn(client.get, client, "fast")
      local ok, v = pcall(slow.join, slow)
      assert.is_true(not ok and neap.is_error(v, "redis.timeout"))
      ok, v = pcall(fast.join, fast)
      assert.is_true(ok and v == "fast" or not ok and v.code ~= nil)
      assert.equal("last", client:get "last")
      assert.is_true(client:stats().timeouts >= 1)
    end, "?timeout=0.06")
  end)

  case("to a cancelled call is dropped where it stands, whatever its shape", function()
    local conns = {}
    fake.with(function(conn)
      conn:greet()
      conns[#conns + 1] = conn
      local n = 0
      while conn:read() do
        n = n + 1
        if n == 5 then
          conn:write_bytes("+a\r\n*2\r\n*1\r\n+n\r\n$3\r\nxyz\r\n" ..
            "-ERR no\r\n*2\r\n+k\r\n+v\r\n+e\r\n", 2)
          n = 0
        end
      end
    end, function(client)
      local function calls()
        local t = {}
        t[1] = neap.spawn(client.get, client, "a")
        t[2] = neap.spawn(client.get, client, "b")
        t[3] = neap.spawn(client.get, client, "c")
        t[4] = neap.spawn(client.hgetall, client, "d")
        t[5] = neap.spawn(client.get, client, "e")
        return t
      end
      for round = 1, 30 do
        local t = calls()
        neap.sleep(0.0003 * (round % 12))
        t[2]:cancel()
        t[4]:cancel()
        if round % 2 == 0 then t[3]:cancel() end
        assert.equal("a", t[1]:join())
        assert.equal("e", t[5]:join())
        local ok, v = pcall(t[2].join, t[2])
        if ok then assert.same({ { "n" }, "xyz" }, v) end
        ok, v = pcall(t[4].join, t[4])
        if ok then assert.same({ k = "v" }, v) end
        ok, v = pcall(t[3].join, t[3])
        assert.is_true(not ok and (v.code == "redis.err" or v.code == "cancelled"))
      end
    end)
  end)
end)
