-- watch: what the watchdog and the figures of neap.stats() cost: SET then GET by 100 tasks, and
-- the JSON hello as wrk counts it, with the watchdog (as neap starts) and without (--slow 0), by
-- turns in the same run; the median of the ratios.
--
--   build/neap spec/bench/watch.lua          (needs wrk)
package.path = "spec/bench/support/?.lua;" .. package.path
local measure = require "measure"
local neap = require "neap"
local redis = neap.redis "memory:"
measure.pin(redis)
local rounds = 9

local function pairs_by_tasks(n)
  return measure.rate(n, function()
    measure.concurrently(100, n, function(i, w)
      local key, v = "bench:" .. w .. ":" .. i % 1000, tostring(i)
      redis:set(key, v)
      if redis:get(key) ~= v then error("the value of " .. key .. " is another") end
    end)
  end)
end

local function median(list)
  table.sort(list)
  return list[math.ceil(#list / 2)]
end

local function report(name, with, without)
  local ratios = {}
  for i = 1, #with do ratios[i] = with[i] / without[i] end
  print(("%-24s %8.0f/s watched, %8.0f/s not: %.3f of it"):format(name, median(with),
    median(without), median(ratios)))
end

local with, without = {}, {}
pairs_by_tasks(100000)
for i = 1, rounds do
  neap.debug { slow = 0.1 }
  pairs_by_tasks(20000)
  with[i] = pairs_by_tasks(200000)
  neap.debug { slow = 0 }
  pairs_by_tasks(20000)
  without[i] = pairs_by_tasks(200000)
end
report("SET and GET, 100 tasks", with, without)

if not measure.run("wrk", { "-v" }) then return print("wrk is not installed") end
local watched, watched_url = measure.http_server()
local plain, plain_url = measure.http_server { "--slow", "0" }

local function hello(url)
  local text = measure.run("wrk", { "-t1", "-c64", "-d1s", url .. "/hello" })
  return tonumber(text:match("Requests/sec:%s+([%d.]+)"))
end

with, without = {}, {}
hello(watched_url)
hello(plain_url)
for i = 1, rounds do
  with[i], without[i] = hello(watched_url), hello(plain_url)
end
report("HTTP hello, 64 clients", with, without)
watched:kill("sigterm")
plain:kill("sigterm")
neap.stop(0)
