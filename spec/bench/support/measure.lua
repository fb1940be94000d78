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

--- measure.redis_benchmark(redis, tests, ...): requests a second by test, in
-- upper case, from redis-benchmark on the same server.
function M.redis_benchmark(redis, tests, ...)
  local csv = M.run("redis-benchmark", { "-s", M.socket(redis), "--csv", "-t", tests, ... })
  if not csv then error("redis-benchmark is not installed (redis-tools)", 0) end
  local rates = {}
  for name, rate in csv:gmatch('"([%u_]+)","([%d.]+)"') do rates[name] = tonumber(rate) end
  return rates
end

--- measure.rate(n, fn): how often a second, when fn() does it n times.
function M.rate(n, fn)
  local t0 = neap.monotonic()
  fn()
  return n / (neap.monotonic() - t0)
end

--- measure.concurrently(workers, n, fn): fn(1) to fn(n), by so many tasks.
function M.concurrently(workers, n, fn)
  local list = {}
  for w = 1, workers do list[w] = w end
  neap.map(function(w)
    for i = w, n, workers do fn(i, w) end
  end, list)
end

--- measure.median(n, fn): the median time of n calls, in milliseconds.
function M.median(n, fn)
  local times = {}
  for i = 1, n do
    local t0 = neap.monotonic()
    fn()
    times[i] = (neap.monotonic() - t0) * 1000
  end
  table.sort(times)
  return times[math.ceil(n / 2)]
end

--- measure.memory(name): VmRSS or VmHWM of this process, in KiB.
function M.memory(name)
  for line in io.lines "/proc/self/status" do
    local kib = line:match("^" .. name .. ":%s+(%d+)")
    if kib then return tonumber(kib) end
  end
end

return M
