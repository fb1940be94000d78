-- fetch: requests a second by http.fetch, beside wrk with as many connections on the same
-- server in the same run.
--
--   build/neap spec/bench/fetch.lua [tasks]       (64; needs wrk)
package.path = "spec/bench/support/?.lua;" .. package.path
local measure = require "measure"
local http = require "neap.http"
local uv = require "luv"
local tasks = tonumber(arg[1]) or 64
local rounds, total = 3, 100000

local child, url, out, pid = measure.http_server()
if #uv.cpu_info() > 1 then
  measure.run("taskset", { "-apc", "0", tostring(pid) })
  measure.run("taskset", { "-apc", "1", tostring(uv.os_getpid()) })
end
local function own() -- seconds of processor time
  local t = uv.getrusage()
  return t.utime.sec + t.stime.sec + (t.utime.usec + t.stime.usec) / 1e6
end

local function fetches(n)
  return measure.rate(n, function()
    measure.concurrently(tasks, n, function()
      assert(http.fetch(url .. "/hello").status == 200)
    end)
  end)
end

fetches(5000) -- until all is compiled, and all connections are there
for _ = 1, rounds do
  local text = measure.run("wrk", { "-t1", "-c" .. tasks, "-d3s", url .. "/hello" })
  if not text then
    print("wrk is not installed")
    break
  end
  local wrk = tonumber(text:match("Requests/sec:%s+([%d.]+)"))
  local before = own()
  local rate = fetches(total)
  print(("%d tasks: %.0f fetches/s, %.2f of wrk -t1 -c%d (%.0f/s); %.1f us of processor time each")
    :format(tasks, rate, rate / wrk, tasks, wrk, (own() - before) / total * 1e6))
end
child:kill("sigterm")
child:close()
out:close()
