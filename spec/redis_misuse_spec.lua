-- what goes wrong at the first try: the error names the culprit, at the user's place
local neap = require "neap"
local case = require "support.case" (it)

describe("misuse", function()
  local redis
  setup(function() redis = neap.redis "memory:" end)
  before_each(function() redis:flushall() end)

  local function refused(text, fn)
    local ok, err = pcall(fn)
    assert.is_false(ok, "a failure was expected")
    assert.matches(text, tostring(err), 1, true)
    if type(err) == "string" then assert.matches("^[%w_./]*redis_misuse_spec.lua:", err) end
  end

  case("of a method without its colon names the method", function()
    for _, name in ipairs { "pipeline", "multi", "watch", "subscribe", "consume", "lua", "scan",
      "close", "client", "functions", "trace", "stats" } do
      refused("a colon calls a method: redis:" .. name, function() redis[name]("x") end)
    end
    local sub = redis:subscribe "channel"
    refused("sub:next", function() sub.next() end)
    sub:close()
    refused("a colon calls a command", function()
      redis:watch({ "k" }, function(tx) tx.get "k" end)
    end)
    assert.equal(0, redis:stats().in_use)
  end)

  case("of tables that cannot be sent whole is refused", function()
    local hole = { "a" }
    hole[3] = "c"
    refused("argument #1 is a list with a hole", function() redis:mget(hole) end)
    refused("argument #1 is a list with a hole or with named", function()
      redis:mget { "a", x = "b" }
    end)
    refused("argument #2 has an empty table", function() redis:hset("h", { a = {}, b = {} }) end)
    local list = {}
    for i = 1, 1000 do list[i] = i end
    assert.equal(1000, redis:rpush("l", list))
    assert.same({}, redis:keys "h")
  end)

  case("of BLOCK within a table does not hold up the others", function()
    local waiting = neap.spawn(redis.xread, redis, { BLOCK = 5000 }, "STREAMS", "s", "$")
    local other = neap.spawn(redis.call, redis, "XREAD", { "BLOCK", 5000 }, "STREAMS", "s", "$")
    neap.sleep(0.02)
    assert.equal("PONG", neap.timeout(2, redis.ping, redis))
    assert.equal(2, redis:stats().in_use)
    redis:xadd("s", "1-1", "f", "v")
    assert.equal("1-1", waiting:join().s[1].id)
    assert.equal("s", other:join()[1][1])
    refused("would block the pipeline", function()
      redis:pipeline(function(p) p:xread({ BLOCK = 10 }, "STREAMS", "s", "$") end)
    end)
  end)

  case("of scans is refused at once", function()
    refused("a table of options expected, got string", function() redis:scan "user:*" end)
    refused("a key expected, got nil", function() redis:hscan() end)
    refused("unknown option 'mtch'", function() redis:scan { mtch = "x" } end)
  end)

  case("of options is refused by name", function()
    refused("unknown option 'value'", function() redis:trace(print, { value = true }) end)
    refused("options stand in a table of their own", function()
      redis:subscribe { "a", buffer = 10 }
    end)
    refused("unknown option 'bufer'", function() redis:subscribe("a", { bufer = 10 }) end)
  end)

  case("within watch names what to use there", function()
    for name, text in pairs { multi = false, exec = "use tx:multi", watch = "all keys at once",
      pipeline = "one command after the other" } do
      if text then
        refused(text, function() redis:watch({ "k" }, function(tx) tx[name](tx, "x") end) end)
      end
    end
    assert.equal(0, redis:stats().in_use)
  end)

  case("of a script's arguments counts them as the user does", function()
    local f = redis:lua "return ARGV[2]"
    refused("argument #2 of the script is nil", function() f({}, 1, nil) end)
    assert.equal("b", f({}, "a", "b"))
  end)

  case("of a client's text gives no address away", function()
    assert.equal("redis client", tostring(redis))
  end)
end)
