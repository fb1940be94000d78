-- redis: the client beside redis-benchmark -c 1 on the same server: pairs of SET and
-- GET by 1, 100 and 1000 tasks, pipelines, large values, processor time, TLS, and
-- messages to a thousand subscribers.
--
--   build/neap spec/bench/redis.lua
package.path = "spec/bench/support/?.lua;" .. package.path
local measure = require "measure"
local neap = require "neap"
local uv = require "luv"
local redis = neap.redis "memory:"
measure.pin(redis)

local function reference(pipeline, n, ...)
  local r = measure.redis_benchmark(redis, "set,get", "-c", "1", "-P", pipeline, "-n", n, ...)
  return 1 / (1 / r.SET + 1 / r.GET)
end

-- pairs_by: pairs a second of so many tasks, each with a thousand keys of its own, or as many as
-- are given
local function pairs_by(client, workers, n, value, keys)
  local rate = measure.rate(n, function()
    measure.concurrently(workers, n, function(i, w)
      local key, v = "bench:" .. w .. ":" .. i % (keys or 1000), value or tostring(i)
      client:set(key, v)
      if client:get(key) ~= v then error("the value of " .. key .. " is another") end
    end)
  end)
  client:flushdb()
  return rate
end

-- pipelines_of: records a second, so many in each pipeline
local function pipelines_of(workers, size, n, record)
  return measure.rate(n, function()
    measure.concurrently(workers, n / size, function()
      redis:pipeline(function(p)
        for _ = 1, size do record(p) end
      end)
    end)
  end)
end

local function set_key(p) p:set("bench:key", "xxx") end
local function get_key(p) p:get "bench:key" end
local function set_and_get_key(p)
  set_key(p)
  get_key(p)
end

-- cpu returns the seconds of processor time used by this process and the server.
local function cpu()
  local own, info = uv.getrusage(), redis:info "cpu"
  local function seconds(t) return t.sec + t.usec / 1e6 end
  return seconds(own.utime) + seconds(own.stime),
    tonumber(info:match "used_cpu_user:([%d.]+)") + tonumber(info:match "used_cpu_sys:([%d.]+)")
end

-- cpu_share: this process's time over the server's, with one key and value, which
-- cost nothing to make.
local function cpu_share(workers, n)
  local own0, server0 = cpu()
  measure.concurrently(workers, n, function()
    redis:set("bench:key", "xxx")
    redis:get "bench:key"
  end)
  local own, server = cpu()
  return (own - own0) / (server - server0)
end

local function deliveries(subscribers, n)
  local got, all = 0, neap.event()
  local subs = {}
  for i = 1, subscribers do
    local sub = redis:subscribe "bench"
    subs[i] = sub
    neap.spawn(function()
      for _ in sub:messages() do
        got = got + 1
        if got == subscribers * n then all:set() end
      end
    end)
  end
  local rate = measure.rate(subscribers * n, function()
    for _ = 1, n do redis:publish("bench", "a message") end
    all:wait()
  end)
  for _, sub in ipairs(subs) do sub:close() end
  return rate
end

for round = 1, 3 do
  local one, hundred = reference("1", "20000"), reference("100", "1000000")
  print(("round %d: redis-benchmark -c 1: -P 1 %.0f pairs/s, -P 100 %.0f"):format(round, one,
    hundred))
  local rate = pairs_by(redis, 1, 10000)
  print(("     1 task  %7.0f pairs/s, %.2f of -P 1"):format(rate, rate / one))
  for _, workers in ipairs { 100, 1000 } do
    rate = pairs_by(redis, workers, 400000)
    print(("  %4d tasks %7.0f pairs/s, %.2f of -P 100, processor time %.2f of the server's"):format(
      workers, rate, rate / hundred, cpu_share(workers, 400000)))
  end
  for _, workers in ipairs { 1, 10 } do
    local set = pipelines_of(workers, 100, 500000, set_key)
    local get = pipelines_of(workers, 100, 500000, get_key)
    local both = pipelines_of(workers, 100, 500000, set_and_get_key)
    rate = 1 / (1 / set + 1 / get)
    print(("  pipelines, %2d tasks: of 100 commands %.0f pairs/s, %.2f of -P 100; of 100 pairs"
      .. " %.0f, %.2f"):format(workers, rate, rate / hundred, both, both / hundred))
  end
  -- redis-benchmark has one key, each task here one
  local big = reference("1", "20000", "-d", "65536")
  rate = pairs_by(redis, 1, 10000, ("x"):rep(65536), 1)
  print(("  64 KiB values:  1 task  %.0f pairs/s, %.2f of -c 1 -d 65536 (%.0f)"):format(rate,
    rate / big, big))
  local r = measure.redis_benchmark(redis, "set,get", "-c", "50", "-n", "20000", "-d", "65536")
  big = 1 / (1 / r.SET + 1 / r.GET)
  rate = pairs_by(redis, 50, 10000, ("x"):rep(65536), 1)
  print(("                50 tasks %.0f pairs/s, %.2f of -c 50 -d 65536 (%.0f)"):format(rate,
    rate / big, big))
  print(("  to 1,000 subscribers: %.0f messages/s"):format(deliveries(1000, 500)))
end
