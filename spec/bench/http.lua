-- http: requests a second as wrk counts them, beside redis-benchmark's PING
-- with as many connections, in the same run.
--
--   build/neap spec/bench/http.lua          (needs wrk and redis-benchmark)
package.path = "spec/bench/support/?.lua;" .. package.path
local measure = require "measure"
local neap = require "neap"
local redis = neap.redis "memory:"

local ref = measure.redis_benchmark(redis, "ping_mbulk", "-c", "64", "-n", "400000").PING_MBULK
if not measure.run("wrk", { "-v" }) then
  print("wrk is not installed")
  return
end
local child, url, out = measure.http_server()
print(("redis-benchmark -c 64 -t ping_mbulk: %.0f/s"):format(ref))
for _, path in ipairs { "/hello", "/get", "/fan", "/pipeline" } do
  local text = measure.run("wrk", { "-t1", "-c64", "-d3s", "--latency", url .. path })
  local rate = tonumber(text:match("Requests/sec:%s+([%d.]+)"))
  print(("%-10s %7.0f/s, %.2f of it; p99 %s"):format(path, rate, rate / ref,
    text:match("99%%%s+(%S+)")))
end
child:kill("sigterm")
child:close()
out:close()
