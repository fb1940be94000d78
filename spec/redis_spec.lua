local neap = require "neap"
local servers = require "support.redis"
local case = require "support.case" (it)
local error_of, code_of, failure_of = require "support.failure" (assert)
local _, _, idle = require "support.cancel" (assert)

describe("the redis client", function()
  local redis
  setup(function() redis = neap.redis() end)
  before_each(function() redis:flushall() end)

  describe("arguments", function()
    case("strings of any bytes come back as they were", function()
      local all = {}
      for i = 0, 255 do all[#all + 1] = string.char(i) end
      all = table.concat(all)
      for _, v in ipairs { "", "\0", "\0\0a\0", "\r\n", "$5\r\n", all, ("x"):rep(100000) } do
        redis:set("k", v)
        assert.equal(v, redis:get "k")
        redis:set(v, "under it")
        assert.equal("under it", redis:get(v))
      end
    end)

    case("ten megabytes make the round trip", function()
      local v = neap.random_bytes(65536):rep(160)
      redis:set("k", v)
      assert.is_true(v == redis:get "k")
      assert.equal(#v, redis:strlen "k")
    end)

    case("numbers are sent so that they read back the same", function()
      for v, text in pairs { [0] = "0", [-1] = "-1", [1e15] = "1000000000000000",
        [2 ^ 53] = "9007199254740992", [0.1] = "0.1", [-2.5] = "-2.5", [99] = "99",
        [100] = "100", [1 / 3] = false, [1e300] = false, [5e-324] = false } do
        redis:set("k", v)
        local got = redis:get "k"
        assert.equal(v, tonumber(got))
        if text then assert.equal(text, got) end
      end
    end)

    case("tables are flattened: lists, maps, and lists in lists", function()
      redis:rpush("l", { "a", "b", { "c", 1 } })
      assert.same({ "a", "b", "c", "1" }, redis:lrange("l", 0, -1))
      redis:hset("h", { name = "ada", age = 36 })
      assert.same({ name = "ada", age = "36" }, redis:hgetall "h")
      assert.same({ "ada", "36" }, redis:hmget("h", { "name", "age" }))
      assert.equal("redis.err", code_of(redis.del, redis, {}))
    end)

    case("what cannot be sent is refused by place, and sends nothing", function()
      local cyclic = {}
      cyclic[1] = cyclic
      for _, args in ipairs {
        { n = 2, "k", nil, says = "SET: argument #2 is nil" },
        { n = 2, "k", true, says = "argument #2 is not a string, number or table" },
        { n = 1, print, says = "argument #1 is not" },
        { n = 2, "k", 0 / 0, says = "argument #2 is not a finite number" },
        { n = 2, "k", -1 / 0, says = "argument #2 is not a finite number" },
        { n = 2, "k", cyclic, says = "nested too deeply" },
        { n = 2, "k", { 1, true }, says = "argument #2 is not" },
        { n = 2, "k", { a = print }, says = "argument #2 is not" },
        { n = 2, "k", { [true] = 1 }, says = "argument #2 is not" },
      } do
        assert.matches(args.says, tostring(failure_of(redis.set, redis, unpack(args, 1, args.n))),
          1, true)
        assert.matches(args.says, tostring(failure_of(redis.call, redis, "SET",
          unpack(args, 1, args.n))), 1, true)
        assert.matches(args.says, tostring(failure_of(redis.pipeline, redis, function(p)
          p:set(unpack(args, 1, args.n))
        end)), 1, true)
      end
      assert.matches("BLPOP: argument #1 is nil", tostring(failure_of(redis.blpop, redis, nil, 1)))
      assert.equal("PONG", redis:ping())
      assert.equal(0, redis:dbsize())
    end)

    case("a thousand of them", function()
      local list = {}
      for i = 1, 1000 do list[i] = "v" .. i end
      redis:rpush("a", unpack(list))
      redis:rpush("b", list)
      assert.same(list, redis:lrange("a", 0, -1))
      assert.same(list, redis:lrange("b", 0, -1))
    end)
  end)

  describe("replies", function()
    local function eval(source, ...) return redis:call("EVAL", source, 0, ...) end

    case("have a Lua value for each type", function()
      assert.equal("OK", redis:set("k", "v"))
      assert.equal("v", redis:get "k")
      assert.is_nil(redis:get "absent")
      assert.equal(1, redis:incr "n")
      assert.equal(-7, eval "return -7")
      assert.same({}, redis:lrange("absent", 0, -1))
      assert.same({ "v", false }, redis:mget("k", "absent"))
      assert.same({}, redis:hgetall "absent")
      assert.is_nil(redis:call("LPOP", "absent", 2))
      assert.equal("string", redis:type "k")
      assert.equal(0, redis:exists "absent")
      assert.equal(9007199254740992, tonumber((redis:incrby("big", "9007199254740992"))))
    end)

    case("nest", function()
      assert.same({ 1, { "a", { false, { 2 } } }, "b", {} },
        eval "return { 1, { 'a', { false, { 2 } } }, 'b', {} }")
      assert.same({ {}, { {} }, { { 1 }, { 2, { 3 } }, 4 } },
        eval "return { {}, { {} }, { { 1 }, { 2, { 3 } }, 4 } }")
      redis:xadd("s", "1-1", "f", "v", "g", "w")
      redis:xadd("s", "1-2", "f", "x")
      assert.same({ { "1-1", { "f", "v", "g", "w" } }, { "1-2", { "f", "x" } } },
        redis:call("XRANGE", "s", "-", "+"))
      assert.same({ { "s", { { "1-2", { "f", "x" } } } } },
        redis:call("XREAD", "STREAMS", "s", "1-1"))
    end)

    case("of hgetall are a table, by call the list that Redis sends", function()
      redis:hset("h", "a", "1", "", "empty")
      assert.same({ a = "1", [""] = "empty" }, redis:hgetall "h")
      assert.equal(4, #redis:call("HGETALL", "h"))
    end)

    case("that are errors are raised with a code", function()
      redis:set("k", "v")
      local err = error_of(redis.lpush, redis, "k", 1)
      assert.is_true(neap.is_error(err, "redis.wrongtype"))
      assert.matches("WRONGTYPE Operation against a key", err.message)
      assert.equal("redis.err", code_of(redis.incr, redis, "k"))
      assert.equal("redis.err", code_of(redis.call, redis, "NOSUCHCOMMAND"))
      assert.equal("redis.noscript", code_of(redis.evalsha, redis, ("0"):rep(40), 0))
      assert.equal("redis.custom", code_of(eval, "return redis.error_reply('CUSTOM text')"))
    end)

    case("with errors inside an array hold an error object there", function()
      local r = eval "return { 1, redis.error_reply('MINE inside'), 2 }"
      assert.equal(1, r[1])
      assert.is_true(neap.is_error(r[2], "redis.mine"))
      assert.equal(2, r[3])
    end)

    case("of a hundred thousand elements", function()
      local r = eval "local t = {} for i = 1, 100000 do t[i] = i end return t"
      assert.equal(100000, #r)
      assert.equal(100000, r[100000])
    end)
  end)

  describe("a pipeline", function()
    case("returns the replies in order, errors and nils in their slots", function()
      local r = redis:pipeline(function(p)
        p:set("k", "v")
        p:get "k"
        p:get "absent"
        p:lpush("k", 1)
        p:hset("h", { a = 1 })
        p:hgetall "h"
        p:call("incr", "n")
      end)
      assert.equal(7, #r)
      assert.same({ "OK", "v", false }, { r[1], r[2], r[3] })
      assert.is_true(neap.is_error(r[4], "redis.wrongtype"))
      assert.same({ 1, { a = "1" }, 1 }, { r[5], r[6], r[7] })
    end)

    case("of nothing sends nothing", function()
      assert.same({}, redis:pipeline(function() end))
      assert.same({}, redis:multi(function() end))
    end)

    case("whose function fails sends nothing", function()
      assert.equal("mine", code_of(redis.pipeline, redis, function(p)
        p:set("k", "v")
        error("mine", 0)
      end))
      assert.is_nil(redis:get "k")
    end)

    case("of ten thousand commands", function()
      local r = redis:pipeline(function(p) for _ = 1, 10000 do p:incr "n" end end)
      for i = 1, 10000 do assert.equal(i, r[i]) end
    end)

    case("takes what a table holds when the command is recorded", function()
      local list, map = { "a", "b" }, { x = 1 }
      redis:pipeline(function(p)
        p:rpush("list", list)
        p:hset("map", map)
        list[1], list[3], map.x, map.y = "c", "d", 2, 3
        p:rpush("list", list)
      end)
      assert.same({ "a", "b", "c", "b", "d" }, redis:lrange("list", 0, -1))
      assert.same({ x = "1" }, redis:hgetall "map")
    end)

    case("goes on behind a command that could not be recorded", function()
      local r = redis:pipeline(function(p)
        p:set("a", 1)
        for _, v in ipairs { 0 / 0, math.huge, -math.huge } do
          assert.matches("argument #2 is not a finite number", failure_of(p.set, p, "a", v))
        end
        assert.matches("argument #2 is nil", failure_of(p.set, p, "a", nil))
        assert.matches("argument #1 is nil", failure_of(p.set, p, nil, "a"))
        assert.matches("argument #10 is nil", failure_of(p.del, p, 1, 2, 3, 4, 5, 6, 7, 8, 9, nil))
        assert.matches("argument #1 is not a string", failure_of(p.get, p, print))
        assert.equal("redis.too_large", code_of(p.set, p, "a", ("x"):rep(70 * 1024 * 1024)))
        p:get "a"
        p:del(1, 2, 3, 4, 5, 6, 7, 8, "a")
        p:del(1, 2, 3, 4, 5, 6, 7, 8, 9, "a")
        p:incr "a"
      end)
      assert.same({ "OK", "1", 1, 0, 1 }, r)
    end)

    case("is told from everything else", function()
      redis:pipeline(function(p)
        for _, other in ipairs { "p", 1, {}, print, redis, io.stdout, neap.event() } do
          assert.matches("bad argument #1", failure_of(p.set, other, "k", "v"))
        end
        assert.matches("bad argument #1", failure_of(p.set))
        assert.matches("bad argument #1", failure_of(p.set, nil, "k", "v"))
      end)
    end)

    case("may be recorded while another task calls", function()
      local t = neap.spawn(function() for i = 1, 20 do redis:set("other", i) end end)
      local r = redis:pipeline(function(p)
        for i = 1, 20 do p:set("k" .. i, i) neap.sleep(0) end
      end)
      t:join()
      assert.equal(20, #r)
    end)

    case("cannot be used after it was executed", function()
      local kept
      redis:pipeline(function(p) kept = p p:set("k", "1") end)
      for _, fn in ipairs { function() kept:set("k", "2") end, function() kept:get "k" end,
        function() kept:call("SET", "k", "2") end, function() kept:hgetall "k" end } do
        assert.matches("the pipeline was sent already", failure_of(fn))
      end
      assert.equal("1", redis:get "k")
    end)
  end)

  describe("multi", function()
    case("returns what EXEC gives", function()
      local r = redis:multi(function(tx)
        tx:set("k", 1)
        tx:incr "k"
        tx:get "absent"
      end)
      assert.same({ "OK", 2, false }, r)
    end)

    case("is atomic", function()
      local tasks = {}
      for i = 1, 20 do
        tasks[i] = neap.spawn(function()
          local r = redis:multi(function(tx) for _ = 1, 10 do tx:incr "n" end end)
          for k = 2, 10 do assert.equal(r[1] + k - 1, r[k]) end
        end)
      end
      for i = 1, 20 do tasks[i]:join() end
      assert.equal("200", redis:get "n")
    end)

    case("carries out nothing when Redis refuses a command, and says which", function()
      local err = error_of(redis.multi, redis, function(tx)
        tx:set("k", 1)
        tx:call("NOSUCHCOMMAND", 1)
      end)
      assert.is_true(neap.is_error(err, "redis.execabort"))
      assert.matches("unknown command", err.message)
      assert.is_nil(redis:get "k")
    end)

    case("keeps a command's own failure in its slot", function()
      redis:set("k", "v")
      local r = redis:multi(function(tx)
        tx:lpush("k", 1)
        tx:set("j", 1)
      end)
      assert.is_true(neap.is_error(r[1], "redis.wrongtype"))
      assert.equal("OK", r[2])
    end)
  end)

  describe("lua", function()
    case("runs a script by its hash with keys and arguments", function()
      local f = redis:lua [[
        redis.call("SET", KEYS[1], ARGV[1])
        return { KEYS[1], ARGV[1], ARGV[2], #KEYS, #ARGV }
      ]]
      assert.same({ "k", "a", "2", 1, 2 }, f({ "k" }, "a", 2))
      assert.equal("a", redis:get "k")
      assert.same({ "k", "a", "b", 1, 2 }, f({ "k" }, { "a", "b" }))
    end)

    case("needs neither keys nor arguments", function()
      local f = redis:lua "return #KEYS + #ARGV"
      assert.equal(0, f())
      assert.equal(0, f {})
      assert.equal(1, f({}, "x"))
    end)

    case("loads the script again when the server forgot it", function()
      local f = redis:lua "return 'still here'"
      assert.equal("still here", f())
      redis:script("FLUSH")
      assert.equal("still here", f())
      assert.equal("still here", f())
    end)

    case("raises what the script raises, and refuses other than a source", function()
      assert.equal("redis.err", code_of(redis:lua "return nosuch.thing"))
      assert.equal("redis.err", code_of(redis:lua "return ("))
      assert.has_error(function() redis:lua() end)
      assert.has_error(function() redis:lua "return 1" "k" end)
    end)
  end)

  describe("scanning", function()
    case("walks the keys, matched", function()
      redis:pipeline(function(p)
        for i = 1, 500 do p:set("user:" .. i, i) p:set("other:" .. i, i) end
      end)
      local seen, n = {}, 0
      for key in redis:scan { match = "user:*", count = 50 } do
        if not seen[key] then n = n + 1 end
        seen[key] = true
        assert.matches("^user:", key)
      end
      assert.equal(500, n)
      n = 0
      for _ in redis:scan() do n = n + 1 end
      assert.is_true(n >= 1000)
      for _ in redis:scan { type = "hash" } do error "there is none" end
    end)

    case("walks hashes, sets and sorted sets", function()
      local sum, members, scores = 0, 0, 0
      redis:pipeline(function(p)
        for i = 1, 300 do
          p:hset("h", "f" .. i, i)
          p:sadd("s", "m" .. i)
          p:zadd("z", i, "m" .. i)
        end
      end)
      for field, value in redis:hscan("h", { count = 20 }) do
        assert.equal("f" .. value, field)
        sum = sum + value
      end
      for _ in redis:sscan "s" do members = members + 1 end
      for member, score in redis:zscan "z" do
        assert.equal("m" .. score, member)
        scores = scores + score
      end
      assert.same({ 45150, 300, 45150 }, { sum, members, scores })
      for _ in redis:sscan "absent" do error "empty" end
    end)

    case("refuses unknown options before it sends anything", function()
      assert.matches("unknown option 'pattern'", failure_of(redis.scan, redis, { pattern = "x" }))
    end)
  end)

  describe("refuses", function()
    for _, name in ipairs { "SELECT", "AUTH", "HELLO", "RESET", "QUIT", "MULTI", "EXEC",
      "DISCARD", "WATCH", "UNWATCH", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE",
      "PUNSUBSCRIBE", "SUNSUBSCRIBE", "MONITOR", "SYNC", "PSYNC" } do
      case(name .. ", however it is called", function()
        local lower = name:lower()
        local methods = { MULTI = true, WATCH = true, SUBSCRIBE = true, PSUBSCRIBE = true }
        local is_method = methods[name]
        for _, fn in ipairs {
          not is_method and function() redis[lower](redis, "x") end
            or function() redis:call(name) end,
          function() redis:call(name, "x") end,
          function() redis:call(lower, "x") end,
          function() redis:pipeline(function(p) p[lower](p, "x") end) end,
          function() redis:multi(function(p) p:call(lower, "x") end) end,
        } do
          assert.matches(name .. " is not available here: %w+", failure_of(fn))
        end
        assert.equal("PONG", redis:ping())
      end)
    end

    case("CLIENT REPLY, which would take replies away from others", function()
      for _, fn in ipairs {
        function() redis:client("REPLY", "OFF") end,
        function() redis:client("reply", "skip") end,
        function() redis:call("client", "Reply", "OFF") end,
        function() redis:pipeline(function(p) p:client("REPLY", "OFF") end) end,
        function() redis:pipeline(function(p) p:call("CLIENT", "REPLY", "OFF") end) end,
      } do
        assert.matches("CLIENT REPLY is not available here", failure_of(fn))
      end
      assert.is_number(redis:client "ID")
      assert.is_number(redis:pipeline(function(p) p:client "ID" end)[1])
    end)

    case("WAIT, which would speak of one connection's writes", function()
      assert.matches("WAIT is not available here", failure_of(redis.wait, redis, 1, 10))
      assert.matches("WAIT is not available here", failure_of(redis.call, redis, "wait", 1, 10))
    end)

    case("arguments at the place where the caller stands", function()
      local here = debug.getinfo(1, "l").currentline
      local _, err = pcall(function() redis:set("k", nil) end)
      assert.matches("redis_spec.lua:" .. here + 1 .. ": SET: argument #2 is nil", err, 1, true)
    end)

    case("to let a pipeline block everybody", function()
      for _, fn in ipairs {
        function(p) p:blpop("l", 1) end,
        function(p) p:call("blpop", "l", 1) end,
        function(p) p:xread("BLOCK", 100, "STREAMS", "s", "$") end,
        function(p) p:call("XREAD", "BLOCK", 100, "STREAMS", "s", "$") end,
      } do
        assert.matches("would block the pipeline", failure_of(redis.pipeline, redis, fn))
      end
      redis:xadd("s", "1-1", "f", "v")
      assert.equal(1, #redis:pipeline(function(p) p:xread("STREAMS", "s", "0") end)[1].s)
    end)
  end)

  describe("blocking commands", function()
    case("wait without holding up others", function()
      local t = neap.spawn(redis.brpop, redis, "list", 20)
      idle()
      assert.equal("PONG", redis:ping())
      redis:lpush("list", "v")
      assert.same({ "list", "v" }, t:join())
    end)

    case("return nil when their time is up", function()
      assert.is_nil(redis:blpop("absent", 0.01))
      assert.is_nil(redis:brpoplpush("absent", "b", 0.01))
      assert.is_nil(redis:xread("BLOCK", 10, "STREAMS", "absent", "$"))
      assert.is_nil(redis:blmpop(0.01, 1, "absent", "LEFT"))
      assert.is_nil(redis:call("bzpopmin", "absent", 0.01))
    end)

    case("want a timeout in seconds", function()
      assert.matches("BLPOP: a timeout in seconds is expected", failure_of(redis.blpop, redis, "l"))
      assert.matches("timeout in seconds", failure_of(redis.blpop, redis, "l", "x"))
    end)

    case("raise what Redis raises, and the connection is used again", function()
      redis:set("k", "v")
      local before = redis:stats().created
      for _ = 1, 5 do assert.equal("redis.wrongtype", code_of(redis.blpop, redis, "k", 1)) end
      assert.is_true(redis:stats().created <= before + 1)
    end)

    case("each have a connection of their own, and give it back", function()
      local before = redis:stats()
      local tasks = {}
      for i = 1, 50 do tasks[i] = neap.spawn(redis.brpop, redis, "l" .. i, 20) end
      while #redis:client("LIST") < 1 or redis:stats().in_use < 50 do neap.sleep(0.001) end
      for i = 1, 50 do redis:lpush("l" .. i, i) end
      for i = 1, 50 do assert.same({ "l" .. i, tostring(i) }, tasks[i]:join()) end
      local after = redis:stats()
      assert.equal(0, after.in_use)
      assert.is_true(after.idle >= 50)
      assert.is_true(after.created <= before.created + 50)
      redis:lpush("x", 1)
      redis:brpop("x", 1)
      assert.equal(after.created, redis:stats().created)
    end)

    case("wait for room in the pool", function()
      local path = redis:call("CONFIG", "GET", "unixsocket")[2]
      assert.is_string(path)
      local server = servers.start()
      local small = neap.redis(server.url .. "?pool=2")
      assert.equal(2, small:stats().limit)
      local tasks = {}
      for i = 1, 6 do tasks[i] = neap.spawn(small.blpop, small, "l" .. i, 20) end
      idle()
      assert.is_true(small:stats().in_use <= 2)
      for i = 1, 6 do small:lpush("l" .. i, i) end
      for i = 1, 6 do assert.same({ "l" .. i, tostring(i) }, tasks[i]:join()) end
      assert.equal(2, small:stats().created)
      -- and cancelled ones give their room back
      for _ = 1, 3 do
        for i = 1, 4 do tasks[i] = neap.spawn(small.blpop, small, "l" .. i, 20) end
        neap.sleep(0.002)
        for i = 1, 4 do tasks[i]:cancel() end
        for i = 1, 4 do assert.equal("cancelled", code_of(tasks[i].join, tasks[i])) end
      end
      assert.equal(0, small:stats().in_use)
      assert.is_nil(small:blpop("absent", 0.01))
      small:close()
      server:stop()
    end)

    case("that are cancelled leave the element to others", function()
      local t = neap.spawn(redis.brpop, redis, "list", 20)
      while redis:stats().in_use < 1 do neap.sleep(0.001) end
      neap.sleep(0.01)
      t:cancel()
      assert.equal("cancelled", code_of(t.join, t))
      assert.equal(0, redis:stats().in_use)
      local blocked
      repeat
        blocked = redis:info("clients"):match "blocked_clients:(%d+)"
        neap.sleep(0.001)
      until blocked == "0"
      redis:lpush("list", "kept")
      assert.same({ "list", "kept" }, redis:brpop("list", 5))
    end)
  end)

  describe("cancelled calls", function()
    case("keep their places: ten thousand at random, and no reply goes astray", function()
      math.randomseed(7)
      redis:pipeline(function(p) for i = 1, 100 do p:set("key" .. i, "value" .. i) end end)
      local wrong, answered, stopped = 0, 0, 0
      local tasks = {}
      for i = 1, 10000 do
        local k = math.random(100)
        tasks[i] = neap.spawn(function()
          local v
          local kind = i % 4
          if kind == 0 then
            v = redis:mget("key" .. k, "key" .. k)[2]
          elseif kind == 1 then
            v = redis:pipeline(function(p) p:ping() p:get("key" .. k) end)[2]
          elseif kind == 2 then
            v = neap.timeout(math.random() / 500, redis.get, redis, "key" .. k)
          else
            v = redis:get("key" .. k)
          end
          if v ~= "value" .. k then wrong = wrong + 1 end
          answered = answered + 1
        end)
        if math.random(3) == 1 then tasks[math.random(i)]:cancel() end
        if math.random(50) == 1 then neap.sleep(0) end
        if math.random(300) == 1 then neap.sleep(0.0005) end
      end
      for i = 1, 10000 do
        local ok, err = pcall(tasks[i].join, tasks[i])
        if not ok then
          assert.is_true(neap.is_error(err, "cancelled") or neap.is_error(err, "timeout"))
          stopped = stopped + 1
        end
      end
      assert.equal(0, wrong)
      assert.equal(10000, answered + stopped)
      assert.is_true(stopped > 0 and answered > 0)
      assert.equal("value1", redis:get "key1")
      assert.equal(0, redis:stats().pending)
    end)

    case("in transactions", function()
      for i = 1, 300 do
        local t = neap.spawn(redis.multi, redis, function(tx) tx:incr "n" tx:incr "n" end)
        for _ = 1, i % 4 do neap.sleep(0) end
        t:cancel()
        assert.equal("PONG", redis:ping())
        pcall(t.join, t)
      end
      assert.equal(0, redis:get "n" % 2)
    end)
  end)
end)
