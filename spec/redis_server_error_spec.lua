local neap = require "neap"
local fake = require "support.fake_server"
local servers = require "support.redis"
local case = require "support.case" (it)
local error_of, code_of = require "support.failure" (assert)

-- with_fake gives each command the reply that reply(command, n) returns, where n counts
-- the commands of all connections.
local function with_fake(reply, fn, options)
  local n = 0
  fake.with(fake.answering(function(command)
    n = n + 1
    return reply(command, n)
  end), fn, options)
end

-- with_server runs fn(server, client, other): other is a second client of it.
local function with_server(fn, options, server_options)
  local server = servers.start(server_options)
  local client = neap.redis(server.url .. (options or "?timeout=5"))
  local other = neap.redis(server.url .. "?name=other")
  local ok, err = pcall(fn, server, client, other)
  client:close()
  other:close()
  server:stop()
  if not ok then error(err, 0) end
end

local loading = "-LOADING Redis is loading the dataset in memory\r\n"
local readonly = "-READONLY You can't write against a read only replica.\r\n"

describe("an error that passes", function()
  for name, reply in pairs { LOADING = loading, READONLY = readonly } do
    case(name .. " is waited for", function()
      with_fake(function(_, n) return n < 3 and reply or "+done\r\n" end, function(client)
        assert.equal("done", client:set("k", "v"))
        assert.equal(2, client:stats().retries)
      end)
      with_fake(function(_, n) return n < 3 and reply or "*2\r\n+k\r\n+v\r\n" end,
        function(client)
          assert.same({ "k", "v" }, client:blpop("k", 1))
          assert.equal(0, client:stats().in_use)
        end)
    end)

    case(name .. " that does not pass is raised in the end", function()
      local asked = 0
      with_fake(function() asked = asked + 1 return reply end, function(client)
        for _, fn in ipairs { client.set, client.blpop } do
          asked = 0
          local err = error_of(neap.timeout, 10, fn, client, "k", 1)
          assert.equal("redis." .. name:lower(), err.code)
          assert.equal("reply", err.phase)
          assert.is_true(asked > 1 and asked < 30)
        end
        assert.equal(0, client:stats().in_use)
      end, "?timeout=0.4")
    end)
  end

  local greetings = { loading = loading, maxclients = "-ERR max number of clients reached\r\n" }
  for name, text in pairs(greetings) do
    for _, options in ipairs { "", "/1?name=me" } do
      case(name .. " in the greeting is waited for, and raised in the end" .. options, function()
        for _, is_blocking in ipairs { false, true } do
          local connections, refused = 0, 3
          local server = fake.start(function(conn)
            connections = connections + 1
            if connections <= refused then
              if name == "maxclients" then -- as Redis does: said and closed
                conn:read()
                conn:write(text)
                return
              end
              for command in conn.read, conn do conn:write(command and text) end
              return
            end
            conn:greet()
            for _ in conn.read, conn do conn:write "*2\r\n+k\r\n+v\r\n" end
          end)
          local url = server.url .. options .. (options == "" and "?" or "&")
          local function call(seconds)
            local client = neap.redis(url .. "timeout=" .. seconds)
            local fn = is_blocking and client.blpop or client.set
            local ok, v = pcall(neap.timeout, 10, fn, client, "k", 1)
            client:close()
            return ok, v
          end
          local ok, v = call(5)
          assert.is_true(ok, tostring(v))
          assert.same({ "k", "v" }, v)
          assert.equal(4, connections)
          refused = 1e9
          ok, v = call(0.3)
          assert.is_false(ok)
          assert.equal("redis." .. name, v.code)
          assert.is_true(connections < 20)
          server.stop()
        end
      end)
    end
  end

  case("READONLY: the next connection may lead to another server", function()
    local server = fake.start(function(conn, n)
      conn:greet()
      for _ in conn.read, conn do conn:write(n == 1 and readonly or "+OK\r\n") end
    end)
    local client = neap.redis(server.url .. "?timeout=5")
    assert.equal("OK", client:set("k", "v"))
    assert.equal(2, server.connections)
    client:close()
    server.stop()
  end)

  case("READONLY: a primary that is made a replica, and a primary again", function()
    with_server(function(_, client, other)
      other:call("REPLICAOF", "127.0.0.1", servers.free_port())
      local t = neap.spawn(client.set, client, "k", "v")
      neap.sleep(0.06)
      other:call("REPLICAOF", "NO", "ONE")
      assert.equal("OK", t:join())
      assert.is_true(client:stats().retries >= 1)
      other:call("REPLICAOF", "127.0.0.1", servers.free_port())
      assert.equal("redis.readonly", code_of(client.set, client, "k", "w"))
      assert.equal("v", client:get "k")
    end)
  end)

  case("too many clients: waited for, and raised in the end", function()
    with_server(function(server, client, other)
      client:ping()
      other:config("SET", "maxclients", 2)
      local calls = { function(c) return c:blpop("k", 0.01) end,
        function(c) return c:get "k" end }
      for _, fn in ipairs(calls) do
        local late = neap.redis(server.url .. "/1?timeout=0.3&name=late")
        assert.equal("redis.maxclients", code_of(fn, late))
        late:close()
        late = neap.redis(server.url .. "?timeout=5&name=late")
        local t = neap.spawn(fn, late)
        neap.sleep(0.1)
        other:config("SET", "maxclients", 20)
        assert.is_nil(t:join())
        late:close()
        repeat neap.sleep(0.001) until other:info "clients":match "connected_clients:2\r"
        other:config("SET", "maxclients", 2)
      end
    end)
  end)
end)

describe("an error that stays", function()
  case("is raised at once, and nothing is asked for again", function()
    for _, name in ipairs { "MASTERDOWN", "NOREPLICAS", "BUSY", "OOM", "NOPERM", "NOAUTH",
      "WRONGTYPE", "CLUSTERDOWN", "MISCONF", "NOGOODSLAVE", "UNKILLABLE" } do
      local asked = 0
      with_fake(function() asked = asked + 1 return "-" .. name .. " said so\r\n" end,
        function(client)
          for i, fn in ipairs { client.set, client.get, client.blpop } do
            local err = error_of(fn, client, "k", 1)
            assert.equal("redis." .. name:lower(), err.code)
            assert.equal(name .. " said so", err.message)
            assert.equal(i, asked)
          end
          assert.equal("redis." .. name:lower(),
            client:pipeline(function(p) p:get "k" end)[1].code)
          assert.equal(4, asked)
          assert.equal(0, client:stats().retries)
        end)
    end
  end)

  case("MASTERDOWN: a replica that has lost its primary", function()
    with_server(function(_, client, other)
      client:ping()
      other:config("SET", "replica-serve-stale-data", "no")
      other:call("REPLICAOF", "127.0.0.1", servers.free_port())
      assert.equal("redis.masterdown", code_of(client.get, client, "k"))
      other:call("REPLICAOF", "NO", "ONE")
      assert.is_nil(client:get "k")
    end)
  end)

  case("NOREPLICAS: too few replicas to write", function()
    with_server(function(_, client, other)
      other:config("SET", "min-replicas-to-write", 1)
      assert.equal("redis.noreplicas", code_of(client.set, client, "k", "v"))
      assert.is_nil(client:get "k")
      other:config("SET", "min-replicas-to-write", 0)
      assert.equal("OK", client:set("k", "v"))
    end)
  end)

  case("BUSY: a script that does not end", function()
    with_server(function(server, client, other)
      client:ping()
      other:config("SET", "busy-reply-threshold", 10)
      local looping = neap.redis(server.url)
      local t = neap.spawn(looping.eval, looping, "while true do end", 0)
      neap.sleep(0.05)
      assert.equal("redis.busy", code_of(client.get, client, "k"))
      other:script "KILL"
      assert.equal("redis.err", code_of(t.join, t))
      assert.is_nil(client:get "k")
      looping:close()
    end)
  end)

  case("OOM: no memory left for what is written", function()
    with_server(function(_, client, other)
      client:set("k", "v")
      other:config("SET", "maxmemory", 1)
      assert.equal("redis.oom", code_of(client.set, client, "k", "w"))
      assert.equal("redis.oom", client:pipeline(function(p) p:set("k", "w") end)[1].code)
      assert.equal("v", client:get "k")
      other:config("SET", "maxmemory", 0)
      assert.equal("OK", client:set("k", "w"))
    end)
  end)

  case("NOPERM and NOAUTH: what the user may not do", function()
    with_server(function(server, client)
      client:call("ACL", "SETUSER", "reader", "on", ">pass", "~a*", "+get", "+blpop")
      local url = ("redis://reader:pass@127.0.0.1:%d?name=r"):format(server.port)
      local reader = neap.redis(url)
      assert.is_nil(reader:get "a")
      assert.is_nil(reader:blpop("a", 0.01))
      assert.equal("redis.noperm", code_of(reader.set, reader, "a", 1))
      assert.equal("redis.noperm", code_of(reader.get, reader, "b"))
      assert.equal("redis.noperm", code_of(reader.blpop, reader, "b", 1))
      reader:close()
      client:config("SET", "requirepass", "secret")
      local nobody = neap.redis(server.url .. "?name=nobody")
      assert.equal("redis.auth", code_of(nobody.get, nobody, "k"))
      assert.equal("redis.auth", code_of(nobody.blpop, nobody, "k", 1))
      nobody:close()
    end)
  end)
end)

describe("under load of fifty tasks", function()
  -- under_load runs disturb() while tasks call; what they saw: no reply of another's, and
  -- nothing but the codes that are allowed.
  local function under_load(client, allowed, disturb)
    local is_over, answered, wrong, codes, tasks = false, 0, 0, {}, {}
    local script = client:lua "return ARGV[1]"
    for i = 1, 50 do
      tasks[i] = neap.spawn(function()
        local n = 0
        while not is_over do
          n = n + 1
          local text = i .. ":" .. n
          local ok, v
          if i % 5 == 0 then
            ok, v = pcall(script, {}, text)
          elseif i % 5 == 1 then
            ok, v = pcall(client.pipeline, client, function(p) p:echo(text) end)
            if ok then
              v = v[1]
              ok = not neap.is_error(v)
            end
          elseif i % 10 == 2 then
            ok, v = pcall(client.blpop, client, "none" .. i, 0.01)
            if ok and v == nil then v = text end
          else
            ok, v = pcall(client.echo, client, text)
          end
          if not ok then
            local code = neap.is_error(v) and v.code or tostring(v)
            codes[code] = (codes[code] or 0) + 1
            neap.sleep(0.001)
          elseif v == text then
            answered = answered + 1
          else
            wrong = wrong + 1
          end
        end
      end)
    end
    neap.sleep(0.05)
    disturb()
    neap.sleep(0.05)
    is_over = true
    for i = 1, 50 do tasks[i]:join() end
    assert.equal(0, wrong)
    assert.is_true(answered > 100)
    for _, code in ipairs(allowed) do codes[code] = nil end
    assert.same({}, codes)
    assert.equal("works", client:echo "works")
    assert.equal("still", script({}, "still"))
    local stats = client:stats()
    assert.equal(0, stats.in_use)
    assert.equal(0, stats.waiting)
    assert.equal(0, stats.pending)
    return stats
  end

  case("the server forgets its scripts", function()
    with_server(function(_, client, other)
      local stats = under_load(client, {}, function()
        for _ = 1, 10 do
          other:script "FLUSH"
          neap.sleep(0.005)
        end
      end)
      assert.equal(0, stats.reconnects)
    end)
  end)

  case("the connections are killed", function()
    with_server(function(_, client, other)
      local stats = under_load(client, { "redis.unknown_outcome" }, function()
        for _ = 1, 5 do
          other:call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
          neap.sleep(0.02)
        end
      end)
      assert.is_true(stats.reconnects >= 5)
    end)
  end)

  case("there may be no further clients", function()
    with_server(function(_, client, other)
      local stats = under_load(client, { "redis.unknown_outcome" }, function()
        other:config("SET", "maxclients", 2)
        other:call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        neap.sleep(0.1)
        other:config("SET", "maxclients", 100)
        neap.sleep(0.1)
      end)
      assert.is_true(stats.reconnects >= 1)
    end)
  end)

  case("the server ends and is started again", function()
    with_server(function(server, client, other)
      local stats = under_load(client, { "redis.unknown_outcome" }, function()
        pcall(other.call, other, "SHUTDOWN", "NOSAVE")
        server.child:wait()
        neap.sleep(0.05)
        server:restart()
        repeat neap.sleep(0.005) until client:stats().connected
      end)
      assert.is_true(stats.reconnects >= 1)
    end)
  end)

  case("the server is made a replica for a while", function()
    with_server(function(_, client, other)
      local is_over, tasks, codes, well = false, {}, {}, 0
      for i = 1, 50 do
        tasks[i] = neap.spawn(function()
          while not is_over do
            local ok, err = pcall(client.set, client, "k" .. i, i)
            if ok then
              well = well + 1
            else
              codes[err.code] = (codes[err.code] or 0) + 1
            end
          end
        end)
      end
      neap.sleep(0.05)
      other:call("REPLICAOF", "127.0.0.1", servers.free_port())
      neap.sleep(0.1)
      other:call("REPLICAOF", "NO", "ONE")
      neap.sleep(0.3)
      is_over = true
      for i = 1, 50 do tasks[i]:join() end
      assert.is_true(well > 100)
      codes["redis.unknown_outcome"], codes["redis.readonly"] = nil, nil
      assert.same({}, codes)
      assert.equal("OK", client:set("k", "v"))
    end)
  end)
end)
