local neap = require "neap"
local reply = require "neap.redis_reply"
local servers = require "support.redis"
local case = require "support.case" (it)

describe("friendly replies", function()
  local redis
  setup(function() redis = neap.redis "memory:" end)
  before_each(function() redis:call "FLUSHALL" end)

  -- the shape of a real reply; nil stays nil, as the caller of shapes has it
  local function friendly(name, ...)
    local raw = redis:call(name, ...)
    if raw == nil then return nil end
    return reply.shapes[name:upper()](raw, ...)
  end

  local function shape(name, raw, ...) return reply.shapes[name](raw, ...) end

  local function error_object()
    return redis:call("EVAL", "return { redis.error_reply('MINE inside') }", 0)[1]
  end

  local ada, bob = { member = "ada", score = 7 }, { member = "bob", score = 9.5 }

  describe("of sorted sets", function()
    before_each(function() redis:call("ZADD", "z", 7, "ada", 9.5, "bob") end)

    case("pair members and scores where scores were asked for", function()
      assert.same({ ada, bob }, friendly("ZRANGE", "z", 0, -1, "WITHSCORES"))
      assert.same({ bob, ada }, friendly("ZREVRANGE", "z", 0, -1, "withscores"))
      assert.same({ ada, bob }, friendly("ZRANGEBYSCORE", "z", "-inf", "+inf", "WITHSCORES"))
      assert.same({ ada }, friendly("ZRANGEBYSCORE", "z", 0, 99, "WithScores", "LIMIT", 0, 1))
      assert.same({ bob, ada }, friendly("ZREVRANGEBYSCORE", "z", 99, 0, "WITHSCORES"))
      assert.same({ ada, bob }, friendly("ZUNION", 1, "z", "WITHSCORES"))
      assert.same({ ada, bob }, friendly("ZINTER", "1", "z", "WITHSCORES"))
      assert.same({ ada, bob }, friendly("ZDIFF", 2, "z", "none", "WITHSCORES"))
      local random = friendly("ZRANDMEMBER", "z", 2, "WITHSCORES")
      table.sort(random, function(a, b) return a.score < b.score end)
      assert.same({ ada, bob }, random)
    end)

    case("stay lists where none were", function()
      assert.same({ "ada", "bob" }, friendly("ZRANGE", "z", 0, -1))
      assert.same({ "ada", "bob" }, friendly("ZUNION", 1, "z"))
      assert.equal("string", type(friendly("ZRANDMEMBER", { "z" })))
      assert.equal(2, #friendly("ZRANDMEMBER", "z", 2))
    end)

    case("find the option in flattened arguments", function()
      assert.same({ ada, bob }, friendly("ZRANGE", "z", { 0, -1, "WITHSCORES" }))
      assert.same({ ada, bob }, friendly("ZRANGE", { "z", { 0, { -1 } } }, { "withscores" }))
      assert.same({ ada, bob }, friendly("ZUNION", 2, { "z", "none" }, { "WITHSCORES" }))
      assert.same({ ada }, friendly("ZRANGEBYSCORE", "z", { 0, 99 }, { LIMIT = { 0, 1 } },
        "WITHSCORES"))
    end)

    case("are not misled by what is named like the option", function()
      redis:call("ZADD", "WITHSCORES", 1, "WITHSCORES", 2, "x")
      assert.same({ "WITHSCORES", "x" }, friendly("ZRANGE", "WITHSCORES", 0, -1))
      assert.same({ "WITHSCORES", "x" }, friendly("ZUNION", 2, "z2", "WITHSCORES"))
      assert.same({ "WITHSCORES", "x" }, friendly("ZINTER", { 1, "WITHSCORES" }))
      assert.same({ { member = "WITHSCORES", score = 1 }, { member = "x", score = 2 } },
        friendly("ZDIFF", 1, "WITHSCORES", "WITHSCORES"))
      assert.equal(2, #friendly("ZRANDMEMBER", "WITHSCORES", 2))
    end)

    case("of nothing are the raw list", function()
      local raw = redis:call("ZRANGE", "none", 0, -1, "WITHSCORES")
      assert.equal(raw, shape("ZRANGE", raw, "none", 0, -1, "WITHSCORES"))
      assert.same({}, friendly("ZPOPMIN", "none"))
      raw = neap.json.array {}
      assert.equal("[]", neap.json.encode(shape("ZRANGE", raw, "k", 0, -1, "WITHSCORES")))
    end)

    case("of pops", function()
      redis:call("ZADD", "z", 1, "a", 2, "b", 3, "c")
      assert.same({ { member = "a", score = 1 } }, friendly("ZPOPMIN", "z"))
      assert.same({ bob, ada }, friendly("ZPOPMAX", "z", 2))
      assert.same({ key = "z", member = "b", score = 2 }, friendly("BZPOPMIN", "z", 1))
      assert.same({ key = "z", member = "c", score = 3 }, friendly("BZPOPMAX", "none", "z", 1))
      assert.is_nil(friendly("BZPOPMIN", "z", 0.01))
      redis:call("ZADD", "z", 7, "ada", 9.5, "bob")
      assert.same({ key = "z", members = { ada } }, friendly("ZMPOP", 1, "z", "MIN"))
      redis:call("ZADD", "z", 7, "ada")
      assert.same({ key = "z", members = { bob, ada } },
        friendly("BZMPOP", 1, 2, "none", "z", "MAX", "COUNT", 5))
      assert.is_nil(friendly("ZMPOP", 1, "z", "MIN"))
    end)

    case("have numbers for scores", function()
      redis:call("ZADD", "z", "inf", "most", "-inf", "least")
      assert.equal(9.5, friendly("ZSCORE", "z", "bob"))
      assert.equal(math.huge, friendly("ZSCORE", "z", "most"))
      assert.equal(-math.huge, friendly("ZSCORE", "z", "least"))
      assert.is_nil(friendly("ZSCORE", "z", "none"))
      assert.equal(7.5, friendly("ZINCRBY", "z", 0.5, "ada"))
      assert.equal(8, friendly("ZADD", "z", "INCR", 0.5, "ada"))
      assert.equal(1, friendly("ZADD", "z", 1, "new"))
      assert.is_nil(friendly("ZADD", "z", "NX", "INCR", 1, "ada"))
      assert.same({ 8, false, math.huge }, friendly("ZMSCORE", "z", "ada", "none", "most"))
      local nan = shape("ZSCORE", "nan")
      assert.is_true(type(nan) == "number" and nan ~= nan)
      assert.equal(0.1, shape("ZSCORE", "0.10000000000000001"))
    end)

    case("of ranks", function()
      assert.equal(1, friendly("ZRANK", "z", "bob"))
      assert.equal(0, friendly("ZREVRANK", "z", "bob"))
      assert.is_nil(friendly("ZRANK", "z", "none"))
      -- Redis 7.2
      assert.same({ rank = 1, score = 9.5 }, shape("ZRANK", { 1, "9.5" }, "z", "b", "WITHSCORE"))
      assert.same({ rank = 0, score = 9.5 }, shape("ZREVRANK", { 0, "9.5" }, "z", "b", "WITHSCORE"))
    end)
  end)

  case("of lists popped together", function()
    redis:call("RPUSH", "l", "a", "b", "c")
    assert.same({ key = "l", values = { "a" } }, friendly("LMPOP", 2, "none", "l", "LEFT"))
    assert.same({ key = "l", values = { "c", "b" } },
      friendly("BLMPOP", 1, 1, "l", "RIGHT", "COUNT", 9))
    assert.is_nil(friendly("LMPOP", 1, "l", "LEFT"))
  end)

  case("of random fields of a hash", function()
    redis:call("HSET", "h", "a", 1, "WITHVALUES", "")
    assert.same({ a = "1", WITHVALUES = "" }, friendly("HRANDFIELD", "h", 2, "WithValues"))
    assert.equal(2, #friendly("HRANDFIELD", "h", 2))
    assert.equal("string", type(friendly("HRANDFIELD", "h")))
    assert.same({}, friendly("HRANDFIELD", "none", 2, "WITHVALUES"))
    redis:call("HSET", "WITHVALUES", "a", 1, "b", 2)
    assert.equal(2, #friendly("HRANDFIELD", "WITHVALUES", 2))
  end)

  case("of the longest common substring", function()
    redis:call("MSET", "a", "ohmytext", "b", "mynewtext")
    assert.equal("mytext", friendly("LCS", "a", "b"))
    assert.equal(6, friendly("LCS", "a", "b", "LEN"))
    assert.same({ len = 6, matches = { { { 4, 7 }, { 5, 8 } }, { { 2, 3 }, { 0, 1 } } } },
      friendly("LCS", "a", "b", "IDX"))
  end)

  describe("of streams", function()
    local one = { id = "1-1", fields = { a = "1", b = "2" } }
    local two = { id = "1-2", fields = { c = "3" } }
    before_each(function()
      redis:call("XADD", "s", "1-1", "a", 1, "b", 2)
      redis:call("XADD", "s", "1-2", "c", 3)
      redis:call("XGROUP", "CREATE", "s", "g", 0)
    end)

    case("of ranges", function()
      assert.same({ one, two }, friendly("XRANGE", "s", "-", "+"))
      assert.same({ two }, friendly("XREVRANGE", "s", "+", "-", "COUNT", 1))
      local raw = redis:call("XRANGE", "none", "-", "+")
      assert.equal(raw, shape("XRANGE", raw))
      assert.same({}, raw)
    end)

    case("read from several", function()
      redis:call("XADD", "t", "2-1", "x", "y")
      assert.same({ s = { one, two }, t = { { id = "2-1", fields = { x = "y" } } } },
        friendly("XREAD", "STREAMS", "s", "t", 0, 0))
      assert.is_nil(friendly("XREAD", "STREAMS", "s", "1-2"))
      assert.same({ s = { one, two } },
        friendly("XREADGROUP", "GROUP", "g", "bob", "STREAMS", "s", ">"))
      redis:call("XDEL", "s", "1-1")
      assert.same({ s = { { id = "1-1" }, two } },
        friendly("XREADGROUP", "GROUP", "g", "bob", "STREAMS", "s", 0))
      assert.same({ s = {} },
        friendly("XREADGROUP", "GROUP", "g", "eve", "STREAMS", "s", 0))
    end)

    case("claimed", function()
      redis:call("XREADGROUP", "GROUP", "g", "bob", "STREAMS", "s", ">")
      assert.same({ one, two }, friendly("XCLAIM", "s", "g", "eve", 0, "1-1", "1-2"))
      assert.same({ "1-1" }, friendly("XCLAIM", "s", "g", "eve", 0, "1-1", "JUSTID"))
      assert.same({}, friendly("XCLAIM", "s", "g", "eve", 99999, "1-1"))
      assert.same({ false, one }, shape("XCLAIM", { false, { "1-1", { "a", "1", "b", "2" } } }))

      assert.same({ cursor = "1-2", entries = { one }, deleted = {} },
        friendly("XAUTOCLAIM", "s", "g", "al", 0, 0, "COUNT", 1))
      assert.same({ cursor = "0-0", ids = { "1-1", "1-2" }, deleted = {} },
        friendly("XAUTOCLAIM", "s", "g", "al", 0, { 0, "justid" }))
      assert.same({ cursor = "0-0", entries = {}, deleted = {} },
        friendly("XAUTOCLAIM", "s", "g", "JUSTID", 99999, 0))
      redis:call("XDEL", "s", "1-1")
      assert.same({ cursor = "0-0", entries = { two }, deleted = { "1-1" } },
        friendly("XAUTOCLAIM", "s", "g", "al", 0, 0))
      -- Redis 6.2
      local old = shape("XAUTOCLAIM", { "0-0", { { "1-2", { "c", "3" } } } }, "s", "g", "a", 0, 0)
      assert.same({ cursor = "0-0", entries = { two }, deleted = {} }, old)
      assert.equal("[]", neap.json.encode(old.deleted))
    end)

    case("pending", function()
      assert.same({ count = 0, consumers = {} }, friendly("XPENDING", "s", "g"))
      assert.same({}, friendly("XPENDING", "s", "g", "-", "+", 10))
      redis:call("XREADGROUP", "GROUP", "g", "bob", "COUNT", 1, "STREAMS", "s", ">")
      redis:call("XREADGROUP", "GROUP", "g", "eve", "STREAMS", "s", ">")
      assert.same({ count = 2, min = "1-1", max = "1-2", consumers = { bob = 1, eve = 1 } },
        friendly("XPENDING", "s", "g"))
      local list = friendly("XPENDING", "s", "g", "-", "+", 10)
      assert.equal(2, #list)
      assert.equal("number", type(list[1].idle_ms))
      list[1].idle_ms = nil
      assert.same({ id = "1-1", consumer = "bob", deliveries = 1 }, list[1])
    end)

    case("described", function()
      redis:call("XREADGROUP", "GROUP", "g", "bob", "STREAMS", "s", ">")
      local info = friendly("XINFO", "STREAM", "s")
      assert.equal(2, info.length)
      assert.equal(1, info.groups)
      assert.same({ one, two }, { info["first-entry"], info["last-entry"] })

      info = friendly("xinfo", "stream", "s", "full")
      assert.same({ one, two }, info.entries)
      local group = info.groups[1]
      assert.equal("g", group.name)
      local first = group.pending[1]
      assert.same({ "1-1", "bob", 1 }, { first.id, first.consumer, first.deliveries })
      assert.equal("number", type(first.delivered_ms))
      local consumer = group.consumers[1]
      assert.equal("bob", consumer.name)
      assert.same({ id = "1-1", delivered_ms = first.delivered_ms, deliveries = 1 },
        consumer.pending[1])

      local groups = friendly("XINFO", "GROUPS", "s")
      assert.same({ "g", 2 }, { groups[1].name, groups[1].pending })
      local consumers = friendly("XINFO", { "CONSUMERS", "s", "g" })
      assert.same({ "bob", 2 }, { consumers[1].name, consumers[1].pending })

      redis:call("XTRIM", "s", "MAXLEN", 0)
      assert.is_nil(friendly("XINFO", "STREAM", "s")["first-entry"])
      assert.equal("string", type(friendly("XINFO", "HELP")[1]))
    end)
  end)

  describe("of places", function()
    before_each(function()
      redis:call("GEOADD", "g", 13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "WITHDIST")
    end)

    case("have numbers", function()
      local km = friendly("GEODIST", "g", "Palermo", "WITHDIST", "km")
      assert.is_true(km > 166 and km < 167)
      assert.is_nil(friendly("GEODIST", "g", "Palermo", "none"))
      local at = friendly("GEOPOS", "g", "Palermo", "none")
      assert.equal(2, #at)
      assert.equal(13361, math.floor(at[1].longitude * 1000))
      assert.equal(38115, math.floor(at[1].latitude * 1000))
      assert.is_false(at[2])
    end)

    local searches = {
      { "GEOSEARCH", "g", "FROMMEMBER", "WITHDIST", "BYRADIUS", 500, "km", "DESC" },
      { "GEORADIUS", "g", 15.087269, 37.502669, 500, "km", "DESC" },
      { "GEORADIUS_RO", "g", 15.087269, 37.502669, 500, "km", "DESC" },
      { "GEORADIUSBYMEMBER", "g", "WITHDIST", 500, "km", "DESC" },
      { "GEORADIUSBYMEMBER_RO", "g", { "WITHDIST", 500 }, "km", "DESC" },
    }
    local function search(args, ...)
      local all = { unpack(args) }
      for i = 1, select("#", ...) do all[#all + 1] = select(i, ...) end
      return friendly(unpack(all))
    end

    case("found are members, or what was asked for", function()
      for _, args in ipairs(searches) do
        assert.same({ "Palermo", "WITHDIST" }, search(args))
        local all = search(args, "WITHCOORD", "WITHDIST", "WITHHASH")
        assert.equal(2, #all)
        local first = all[1]
        assert.equal("Palermo", first.member)
        assert.is_true(first.distance > 166 and first.distance < 167)
        assert.equal(3479099956230698, first.hash)
        assert.equal(13361, math.floor(first.longitude * 1000))
        assert.equal(38115, math.floor(first.latitude * 1000))
        assert.same({ { member = "Palermo", hash = first.hash },
          { member = "WITHDIST", hash = all[2].hash } }, search(args, "WITHHASH"))
        assert.same({ member = "Palermo", distance = first.distance },
          search(args, "WITHDIST")[1])
        assert.same({ member = "Palermo", longitude = first.longitude,
          latitude = first.latitude }, search(args, "withcoord")[1])
      end
      assert.same({}, friendly("GEOSEARCH", "none", "FROMLONLAT", 0, 0, "BYRADIUS", 1, "m",
        "WITHDIST"))
    end)
  end)

  describe("of the server", function()
    case("its configuration", function()
      local config = friendly("CONFIG", "GET", "maxmemory*")
      assert.equal("noeviction", config["maxmemory-policy"])
      assert.same(config, friendly("config", { "get" }, "maxmemory*"))
      local none = friendly("CONFIG", "GET", "nosuch")
      assert.same({}, none)
      assert.equal("{}", neap.json.encode(none))
      assert.equal("string", type(friendly("CONFIG", "HELP")[1]))
      assert.equal("OK", friendly("CONFIG", "RESETSTAT"))
    end)

    case("subscribers", function()
      assert.same({ a = 0, b = 0 }, friendly("PUBSUB", "NUMSUB", "a", "b"))
      assert.same({ a = 0 }, friendly("PUBSUB", "SHARDNUMSUB", "a"))
      assert.same({}, friendly("PUBSUB", "NUMSUB"))
      assert.same({}, friendly("PUBSUB", "CHANNELS"))
      assert.equal(0, friendly("PUBSUB", "NUMPAT"))
    end)

    case("memory", function()
      redis:call("SET", "k", "v")
      local stats = friendly("MEMORY", "STATS")
      assert.equal("number", type(stats["total.allocated"]))
      assert.equal("number", type(stats["dataset.percentage"]))
      assert.equal("number", type(stats["db.0"]["overhead.hashtable.main"]))
      assert.equal("number", type(friendly("MEMORY", "USAGE", "k")))
    end)

    case("users", function()
      redis:call("ACL", "SETUSER", "reply", "on", "+get", "~a", "(+set ~b)")
      local user = friendly("ACL", "GETUSER", "reply")
      assert.equal("on", user.flags[1])
      assert.equal("~a", user.keys)
      assert.equal("~b", user.selectors[1].keys)
      redis:call("ACL", "DELUSER", "reply")
      assert.is_nil(friendly("ACL", "GETUSER", "reply"))
      assert.equal("default", friendly("ACL", "USERS")[1])
    end)

    case("commands", function()
      local docs = friendly("COMMAND", "DOCS", "set", "object")
      assert.equal("1.0.0", docs.set.since)
      assert.equal("key", docs.set.arguments[1].name)
      local condition = docs.set.arguments[3]
      assert.equal("oneof", condition.type)
      assert.equal("NX", condition.arguments[1].token)
      assert.equal("string", type(docs.object.subcommands["object|freq"].summary))
      assert.same({}, friendly("COMMAND", "DOCS", "nosuch"))
      assert.equal("number", type(friendly("COMMAND", "COUNT")))
      assert.same({ "k" }, friendly("COMMAND", "GETKEYS", "get", "k"))
    end)

    case("functions", function()
      local source = "#!lua name=mylib\nredis.register_function { function_name = 'f',"
        .. " callback = function() return 1 end, flags = { 'no-writes' } }"
      redis:call("FUNCTION", "LOAD", source)
      assert.same({ { library_name = "mylib", engine = "LUA",
        functions = { { name = "f", flags = { "no-writes" } } } } }, friendly("FUNCTION", "LIST"))
      assert.equal(source, friendly("FUNCTION", "LIST", "WITHCODE")[1].library_code)
      assert.same({ engines = { LUA = { libraries_count = 1, functions_count = 1 } } },
        friendly("FUNCTION", "STATS"))
      redis:call("FUNCTION", "FLUSH")
      assert.same({}, friendly("FUNCTION", "LIST"))
      assert.same({ name = "f", command = { "FCALL", "f", "0" }, duration_ms = 12 },
        shape("FUNCTION", { "running_script", { "name", "f", "command", { "FCALL", "f", "0" },
          "duration_ms", 12 }, "engines", {} }, "STATS").running_script)
    end)

    case("modules", function()
      assert.equal("table", type(friendly("MODULE", "LIST")))
      assert.same({ { name = "m", ver = 1, path = "/m.so", args = {} } }, shape("MODULE",
        { { "name", "m", "ver", 1, "path", "/m.so", "args", {} } }, "LIST"))
    end)

    case("tracking", function()
      assert.same({ flags = { "off" }, redirect = -1, prefixes = {} },
        friendly("CLIENT", "TRACKINGINFO"))
      assert.equal("number", type(friendly("CLIENT", "ID")))
    end)

    case("latency", function()
      redis:call("SET", "k", "v")
      local set = friendly("LATENCY", "HISTOGRAM", "set").set
      assert.is_true(set.calls >= 1)
      assert.equal("number", type(set.histogram_usec[1].usec))
      assert.equal("number", type(set.histogram_usec[1].count))
      assert.same({}, friendly("LATENCY", "LATEST"))
    end)

    case("slow commands", function()
      local was = redis:call("CONFIG", "GET", "slowlog-log-slower-than")[2]
      redis:call("CONFIG", "SET", "slowlog-log-slower-than", 0)
      redis:call("SLOWLOG", "RESET")
      redis:call("GET", "slow")
      redis:call("CONFIG", "SET", "slowlog-log-slower-than", was)
      local log = friendly("SLOWLOG", "GET", 10)
      local found
      for _, slow in ipairs(log) do
        if slow.command[1] == "GET" then found = slow end
      end
      assert.same({ "GET", "slow" }, found.command)
      for _, name in ipairs { "id", "time", "duration_us" } do
        assert.equal("number", type(found[name]))
      end
      assert.equal("string", type(found.client))
      assert.equal("string", type(found.name))
      assert.equal(#log, friendly("SLOWLOG", "LEN"))
      -- Redis 3
      assert.same({ { id = 1, time = 2, duration_us = 3, command = { "GET" } } },
        shape("SLOWLOG", { { 1, 2, 3, { "GET" } } }, "GET"))
    end)

    case("the role of a master and of its replica", function()
      assert.same({ role = "master", offset = 0, replicas = {} }, friendly "ROLE")
      local master = servers.start { args = { "--repl-diskless-sync-delay", "0" } }
      local replica = servers.start { args = { "--replicaof", "127.0.0.1 " .. master.port } }
      local m, r = neap.redis(master.url), neap.redis(replica.url)
      local function role(client)
        return shape("ROLE", client:call "ROLE")
      end
      while role(r).state ~= "connected" or #role(m).replicas == 0 do neap.sleep(0.02) end
      local of_r, of_m = role(r), role(m)
      assert.same({ "slave", "127.0.0.1", master.port, "number" },
        { of_r.role, of_r.host, of_r.port, type(of_r.offset) })
      assert.equal("master", of_m.role)
      assert.same({ "127.0.0.1", replica.port, "number" }, { of_m.replicas[1].host,
        of_m.replicas[1].port, type(of_m.replicas[1].offset) })
      m:close()
      r:close()
      replica:stop()
      master:stop()
    end)

    case("sentinels", function()
      assert.same({ role = "sentinel", masters = { "one", "two" } },
        shape("ROLE", { "sentinel", { "one", "two" } }))
      local function fields() return { "name", "one", "port", "6379" } end
      local one = { name = "one", port = "6379" }
      assert.same(one, shape("SENTINEL", fields(), "MASTER", "one"))
      for _, sub in ipairs { "MASTERS", "replicas", "Slaves", "SENTINELS" } do
        assert.same({ one, one }, shape("SENTINEL", { fields(), fields() }, sub, "one"))
      end
      local address = { "127.0.0.1", "6379" }
      assert.equal(address, shape("SENTINEL", address, "GET-MASTER-ADDR-BY-NAME", "one"))
    end)
  end)

  describe("of an unexpected form", function()
    case("come back as they are", function()
      for _, raw in ipairs { "OK", "", 7, true, { "a" }, { 1, 2, 3 }, { false }, { {}, {} } } do
        for _, name in ipairs { "ZPOPMIN", "LCS" } do
          assert.equal(raw, shape(name, raw))
        end
        assert.equal(raw, shape("CONFIG", raw, "GET", "*"))
        assert.equal(raw, shape("ZRANGE", raw, "z", 0, -1, "WITHSCORES"))
        assert.equal(raw, shape("ROLE", raw))
      end
      assert.equal("QUEUED", shape("ZSCORE", "QUEUED"))
      local raw = { "0-0" }
      assert.equal(raw, shape("XAUTOCLAIM", raw))
      raw = { 1, "a" }
      assert.equal(raw, shape("XPENDING", raw))
    end)

    case("keep error objects and false where they are", function()
      local err = error_object()
      assert.is_true(neap.is_error(err, "redis.mine"))
      for name in pairs(reply.shapes) do
        assert.equal(err, shape(name, err, "GET", "LIST"))
      end
      assert.same({ { id = "1-1", fields = { a = "b" } }, err, false, "x", 5 },
        shape("XRANGE", { { "1-1", { "a", "b" } }, err, false, "x", 5 }))
      assert.equal(err, shape("XRANGE", { err })[1])
      assert.equal(err, shape("XRANGE", { { "1-1", err } })[1].fields)
      assert.equal(err, shape("ZMSCORE", { "1", err })[2])
      assert.equal(err, shape("GEOPOS", { err })[1])
      assert.equal(err, shape("GEOSEARCH", { { "a", "1" }, err })[2])
      assert.equal(err, shape("CONFIG", { "a", err }, "GET", "a").a)
      assert.equal(err, shape("ZPOPMIN", { "a", err })[1].score)
      local raw = { err, "1" }
      assert.equal(raw, shape("ZPOPMIN", raw))
      assert.equal(err, shape("XREAD", { { "s", err } }).s)
      assert.equal(err, shape("SLOWLOG", { err }, "GET")[1])
    end)

    case("are the same when they have their shape already", function()
      redis:call("XADD", "s", "1-1", "a", 1)
      local once = friendly("XRANGE", "s", "-", "+")
      assert.same({ { id = "1-1", fields = { a = "1" } } }, shape("XRANGE", once))
    end)

    case("raise nothing, whatever they are", function()
      local err = error_object()
      local seed = tonumber(os.getenv "NEAP_SEED") or os.time()
      math.randomseed(seed)
      local words = { "", "a", "7", "inf", "nan", "master", "slave", "sentinel", "GET", "FULL",
        "arguments", "groups", "pending", "entries", "subcommands", "1-1", "WITHSCORES",
        "JUSTID", "\0", "functions", "engines", "histogram_usec", "selectors" }
      local subs = { "GET", "STREAM", "GROUPS", "STATS", "GETUSER", "DOCS", "LIST", "MASTERS",
        "MASTER", "HISTOGRAM", "NUMSUB", "TRACKINGINFO", "z", 1 }
      local numbers = { 0, 1, 2, -1, 2.5, 2 ^ 53, -1e300, 1 / 0, 0 / 0 }
      local function pick(list) return list[math.random(#list)] end
      local function value(depth)
        local kind = math.random(depth > 4 and 5 or 12)
        if kind == 1 then return false end
        if kind == 2 then return pick(numbers) end
        if kind == 3 then return err end
        if kind <= 5 then return pick(words) end
        local t = {}
        for i = 1, math.random(0, 6) do t[i] = value(depth + 1) end
        if kind == 12 then t[pick(words)] = value(depth + 1) end
        return t
      end
      local function argument() return math.random(3) == 1 and value(3) or pick(words) end
      for name, fn in pairs(reply.shapes) do
        for _ = 1, 500 do
          local raw = value(0)
          local ok, e = pcall(fn, raw, pick(subs), argument(), argument(), value(3), pick(words))
          assert.is_true(ok, ("%s (NEAP_SEED=%d): %s"):format(name, seed, tostring(e)))
          assert.equal(raw == nil, e == nil)
        end
      end
    end)
  end)
end)
