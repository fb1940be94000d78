-- fanout: examples/fanout.lua at so many requests a second, each of which asks 40 backends:
-- latencies from when a request was due, what was late, and who was busy.
--
--   build/neap spec/bench/fanout.lua [requests a second...]      (100 200 500 1000 1500)
package.path = "spec/bench/support/?.lua;" .. package.path
local measure = require "measure"
local neap = require "neap"
local http = require "neap.http"
local uv = require "luv"
local seconds, port, first = 5, 18080, 19001
local ticks = 100 -- of processor time a second (sysconf(_SC_CLK_TCK) of Linux)

local children = {}

-- leave ends what was started: at once, as a backend that hangs would keep its port a while.
local function leave(status)
  for _, child in ipairs(children) do
    child.handle:kill("sigkill")
    child.ended:wait()
  end
  os.exit(status)
end

local function start(script, ...)
  local out, ready, is_up = uv.new_pipe(false), neap.event(), false
  local ended = neap.event()
  local child, pid = uv.spawn(uv.exepath(), { args = { script, ... }, stdio = { nil, out, 2 } },
    function() ended:set() end)
  children[#children + 1] = { handle = child, ended = ended }
  out:read_start(function(_, data)
    is_up = is_up or data ~= nil
    ready:set()
  end)
  ready:wait()
  if not is_up then leave(1) end -- it has said why
  return pid
end

-- look returns seconds of processor time, MiB and open files of a process.
local function look(pid)
  local function read(name)
    local f = assert(io.open(("/proc/%s/%s"):format(pid, name)))
    local text = f:read "*a"
    f:close()
    return text
  end
  local fields, n = {}, 0
  for word in read("stat"):match("%) (.*)"):gmatch "%S+" do fields[#fields + 1] = word end
  local dir = assert(uv.fs_scandir(("/proc/%s/fd"):format(pid)))
  while uv.fs_scandir_next(dir) do n = n + 1 end
  return (fields[12] + fields[13]) / ticks, read("status"):match "VmRSS:%s+(%d+)" / 1024, n
end

local function percentile(list, p)
  return list[math.max(1, math.ceil(#list * p))] or 0
end

local url = ("http://127.0.0.1:%d/search?q=neap"):format(port)
local latencies, sources, failed

local function ask(due, is_counted)
  local ok, res = pcall(http.fetch, url, { timeout = 10 })
  if not is_counted then return end
  latencies[#latencies + 1] = neap.monotonic() - due
  if ok and res.status == 200 then
    sources = sources + res.json.sources
  else
    failed = failed + 1
  end
end

-- run asks at that rate, whether answers come or not; the first second does not count, as
-- connections are being made then.
local function run(rate, duration)
  latencies, sources, failed = {}, 0, 0
  local began, total, tasks = neap.monotonic(), rate * duration, {}
  for i = 1, total do
    local due = began + (i - 1) / rate
    local left = due - neap.monotonic()
    if left > 0 then neap.sleep(left) end
    tasks[i] = neap.spawn(ask, due, i > rate)
  end
  for _, task in ipairs(tasks) do task:join() end
  table.sort(latencies)
  return neap.monotonic() - began
end

local backends = start("examples/fanout_backends.lua", tostring(first))
local service = start("examples/fanout.lua", tostring(port), tostring(first))
local me = uv.os_getpid()
if #uv.cpu_info() > 1 then -- the service has a core, all else another
  measure.run("taskset", { "-apc", "0", tostring(backends) })
  measure.run("taskset", { "-apc", "0", tostring(me) })
  measure.run("taskset", { "-apc", "1", tostring(service) })
end
run(50, 2)
local _, rss, files = look(service)
print(("at rest: %.0f MiB, %d files"):format(rss, files))

-- saturated names the cores that had less than a tenth of their time left.
local function saturated(service_busy, others_busy)
  local list = {}
  if service_busy > 90 then list[1] = "service" end
  if others_busy > 90 then list[#list + 1] = "backends and driver" end
  return table.concat(list, ", ")
end

print("requests/s   calls/s   p50 ms   p99 ms  answers of 40  failed   service  backends    driver"
  .. "  saturated")
for _, rate in ipairs(#arg > 0 and arg or { 100, 200, 500, 1000, 1500 }) do
  rate = tonumber(rate)
  local a, b, c = look(service), look(backends), look(me)
  local took = run(rate, 1 + seconds)
  local function busy(pid, before) return ((look(pid)) - before) / took * 100 end
  local done = rate * (1 + seconds) / took
  local x, y, z = busy(service, a), busy(backends, b), busy(me, c)
  print(("%10d %9d %8.0f %8.0f %14.1f %7d %8.0f%% %8.0f%% %8.0f%%  %s"):format(done, done * 40,
    percentile(latencies, 0.5) * 1000, percentile(latencies, 0.99) * 1000,
    sources / #latencies, failed, x, y, z, saturated(x, y + z)))
end
neap.sleep(62) -- connections that are not used are kept for a minute
_, rss, files = look(service)
print(("a minute later: %.0f MiB, %d files"):format(rss, files))
leave(0)
