-- measure: what the benchmarks share: running a command without stopping the
-- loop, redis-benchmark as the yardstick, rates.
local neap = require "neap"
local uv = require "luv"
local M = {}

--- measure.run(path, args): the command's standard output, or nil if it is not
-- there.
function M.run(path, args)
  local out, done, ended = uv.new_pipe(false), neap.event(), neap.event()
  local text = {}
  local child = uv.spawn(path, { args = args, stdio = { nil, out, nil } }, function()
    ended:set()
  end)
  if not child then
    out:close()
    return nil
  end
  out:read_start(function(_, data)
    if data then
      text[#text + 1] = data
    else
      done:set()
    end
  end)
  done:wait()
  ended:wait()
  out:close()
  child:close()
  return table.concat(text)
end

--- measure.pin(redis): the server on one core, this process and what it runs on
-- another, so that runs are alike; left out where there is no taskset.
function M.pin(redis)
  local server = redis:info("server"):match("process_id:(%d+)")
  if #uv.cpu_info() > 1 and M.run("taskset", { "-apc", "0", server }) then
    M.run("taskset", { "-apc", "1", tostring(uv.os_getpid()) })
  end
end

--- measure.socket(redis): the path of the private server's socket.
function M.socket(redis)
  local path = redis:call("CONFIG", "GET", "unixsocket")[2]
  local dir = redis:call("CONFIG", "GET", "dir")[2]
  return path:sub(1, 1) == "/" and path or dir .. "/" .. path
end

-- benchmark runs redis-benchmark on the same server: requests a second by test.
local function benchmark(redis, ...)
  local csv = M.run("redis-benchmark", { "-s", M.socket(redis), "--csv", ... })
  if not csv then error("redis-benchmark is not installed (redis-tools)", 0) end
  local rates = {}
  for line in csv:gmatch "[^\n]+" do
    local name, rate = line:match '^"([^"]+)","([%d.]+)"'
    if name then rates[name] = tonumber(rate) end
  end
  return rates
end

--- measure.redis_benchmark(redis, tests, ...): requests a second by test, in
-- upper case, from redis-benchmark on the same server.
function M.redis_benchmark(redis, tests, ...)
  return benchmark(redis, "-t", tests, ...)
end

--- measure.redis_benchmark_of(redis, options, ...): requests a second of one
-- command, given by its words.
function M.redis_benchmark_of(redis, options, ...)
  local args = { unpack(options) }
  for _, word in ipairs { ... } do args[#args + 1] = word end
  local _, rate = next(benchmark(redis, unpack(args)))
  return rate
end

--- measure.used_memory(redis): bytes that the server has allocated.
function M.used_memory(redis)
  redis:call("MEMORY", "PURGE")
  return tonumber(redis:info("memory"):match "used_memory:(%d+)")
end

--- measure.commands(redis, fn): how often fn() had the server run each command
-- (those that a script calls too), by name, and a text of it.
function M.commands(redis, fn)
  redis:call("CONFIG", "RESETSTAT")
  fn()
  local counts, list = {}, {}
  for name, calls in redis:info("commandstats"):gmatch "cmdstat_([^:]+):calls=(%d+)" do
    if name ~= "config|resetstat" and name ~= "info" then
      counts[name] = tonumber(calls)
      list[#list + 1] = name .. " " .. calls
    end
  end
  table.sort(list)
  return counts, table.concat(list, ", ")
end

--- measure.rate(n, fn): how often a second, when fn() does it n times. What others left
-- is collected first.
function M.rate(n, fn)
  collectgarbage()
  local t0 = neap.monotonic()
  fn()
  return n / (neap.monotonic() - t0)
end

--- measure.middle(list): the median of an odd number of figures.
function M.middle(list)
  local sorted = { unpack(list) }
  table.sort(sorted)
  return sorted[math.ceil(#sorted / 2)]
end

--- measure.concurrently(workers, n, fn): fn(1) to fn(n), by so many tasks.
function M.concurrently(workers, n, fn)
  local list = {}
  for w = 1, workers do list[w] = w end
  neap.map(function(w)
    for i = w, n, workers do fn(i, w) end
  end, list)
end

--- measure.median(n, fn): the median time of n calls, and the 95th percentile, in
-- milliseconds.
function M.median(n, fn)
  local times = {}
  for i = 1, n do
    local t0 = neap.monotonic()
    fn()
    times[i] = (neap.monotonic() - t0) * 1000
  end
  table.sort(times)
  return M.middle(times), times[math.ceil(n * 0.95)]
end

--- measure.processor(redis): seconds of processor time that this process has taken, and the
-- server.
function M.processor(redis)
  local used, server = uv.getrusage(), 0
  local own = used.utime.sec + used.stime.sec + (used.utime.usec + used.stime.usec) / 1e6
  for seconds in redis:info("cpu"):gmatch "used_cpu_[us]%a+:([%d.]+)" do
    server = server + tonumber(seconds)
  end
  return own, server
end

--- measure.cost(redis, n, fn): what a call of n takes: { median, p95 (both in milliseconds),
-- own, server (microseconds of processor time) }.
function M.cost(redis, n, fn)
  local own, server = M.processor(redis)
  local median, p95 = M.median(n, fn)
  local own_then, server_then = M.processor(redis)
  return { median = median, p95 = p95, own = (own_then - own) / n * 1e6,
    server = (server_then - server) / n * 1e6 }
end

--- measure.memory(name): VmRSS or VmHWM of this process, in KiB.
function M.memory(name)
  for line in io.lines "/proc/self/status" do
    local kib = line:match("^" .. name .. ":%s+(%d+)")
    if kib then return tonumber(kib) end
  end
end

--- measure.http_server(): a running spec/bench/support/http_server.lua: its handle, its URL, the
-- pipe that it writes to, its process id. Whoever starts it ends it and closes both.
function M.http_server(options)
  local out, url = uv.new_pipe(false), neap.channel(1)
  local args = { unpack(options or {}) }
  args[#args + 1] = "spec/bench/support/http_server.lua"
  local child, pid = uv.spawn(uv.exepath(), {
    args = args, stdio = { nil, out, 2 },
    env = { "PATH=" .. os.getenv "PATH", "NEAP_REDIS=memory" },
  }, function() end)
  out:read_start(function(_, data)
    if data then url:send(data:match("%S+")) end
  end)
  return child, url:receive(), out, pid
end

return M
