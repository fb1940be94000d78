-- redis: pairs of SET and GET, the value compared, by 1, 100 and 1000 tasks on
-- one connection, beside redis-benchmark -c 1 on the same server.
--
--   build/neap spec/bench/redis.lua
package.path = "spec/bench/support/?.lua;" .. package.path
local measure = require "measure"
local neap = require "neap"
local redis = neap.redis "memory:"
measure.pin(redis)

local function reference(pipeline, n)
  local r = measure.redis_benchmark(redis, "set,get", "-c", "1", "-P", pipeline, "-n", n)
  return 1 / (1 / r.SET + 1 / r.GET)
end

local function pairs_by(workers, n)
  local rate = measure.rate(n, function()
    measure.concurrently(workers, n, function(i, w)
      local key, value = "bench:" .. w .. ":" .. i, tostring(i)
      redis:set(key, value)
      if redis:get(key) ~= value then error("the value of " .. key .. " is another") end
    end)
  end)
  redis:flushdb()
  return rate
end

for round = 1, 3 do
  local one, hundred = reference("1", "20000"), reference("100", "1000000")
  print(("round %d: redis-benchmark -c 1: -P 1 %.0f pairs/s, -P 100 %.0f"):format(round, one,
    hundred))
  local rate = pairs_by(1, 10000)
  print(("     1 task  %7.0f pairs/s, %.2f of -P 1"):format(rate, rate / one))
  for _, workers in ipairs { 100, 1000 } do
    rate = pairs_by(workers, 400000)
    print(("  %4d tasks %7.0f pairs/s, %.2f of -P 100"):format(workers, rate, rate / hundred))
  end
end
