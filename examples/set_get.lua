-- set_get: how many pairs of SET and GET a second, the value compared each time:
-- in a plain loop, then with 1 to 1000 tasks on one connection, a command at a
-- time or in pipelines of 10 pairs.
--
--   build/neap examples/set_get.lua [pairs in a run]
--
-- On a throw-away server, beside redis-benchmark where that is installed, or on
-- the server of NEAP_REDIS_URL. No key stays behind.
local neap = require "neap"
local uv = require "luv"
local url = os.getenv "NEAP_REDIS_URL"
local redis = neap.redis(url or "memory:")
local pairs_wanted = tonumber(arg[1]) or 100000
local few = math.ceil(pairs_wanted / 10) -- where nothing runs beside it
local prefix = "set_get:" .. neap.token(8) .. ":"
local most_workers, runs, batch = 1000, 5, 10

local function one_at_a_time(key, count)
  for i = 1, count do
    local value = "value " .. i
    redis:set(key, value)
    assert(redis:get(key) == value)
  end
end

local function pipelined(key, count)
  for first = 1, count, batch do
    local last = math.min(first + batch - 1, count)
    local replies = redis:pipeline(function(p)
      for i = first, last do
        p:set(key, "value " .. i)
        p:get(key)
      end
    end)
    for i = first, last do
      assert(replies[2 * (i - first) + 2] == "value " .. i)
    end
  end
end

-- concurrently divides the pairs among so many tasks, each with its own key.
local function concurrently(workers, loop)
  local keys = {}
  for i = 1, workers do keys[i] = prefix .. i end
  local share = math.ceil((workers == 1 and few or pairs_wanted) / workers)
  neap.map(function(key) loop(key, share) end, keys)
  return share * workers
end

local function sequentially()
  one_at_a_time(prefix .. 1, few)
  return few
end

-- output_of runs a program to its end; "" if there is no such program.
local function output_of(program, args)
  local pipe, parts, ended = uv.new_pipe(false), {}, neap.event()
  local options = { args = args, stdio = { nil, pipe } }
  local process
  process = uv.spawn(program, options, function() process:close() end)
  if process then
    pipe:read_start(function(_, bytes)
      if bytes then parts[#parts + 1] = bytes else ended:set() end
    end)
    ended:wait()
  end
  pipe:close()
  return table.concat(parts)
end

-- benchmark returns redis-benchmark's pairs a second; nil if it is not there.
local function benchmark()
  if url then return nil end -- it would leave a key
  local dir = redis:call("CONFIG", "GET", "dir")[2]
  local path = dir .. "/" .. redis:call("CONFIG", "GET", "unixsocket")[2]:match("[^/]+$")
  local csv = output_of("redis-benchmark", { "-s", path, "-c", "1", "-P", "100", "-t", "set,get",
    "-n", tostring(2 * pairs_wanted), "--csv" })
  local set, get = csv:match('"SET","([%d.]+)"'), csv:match('"GET","([%d.]+)"')
  return set and get and 1 / (1 / set + 1 / get)
end

local function rates_of(fn)
  local rates = {}
  for i = 1, runs do
    local start = neap.monotonic()
    local count = fn()
    rates[i] = count / (neap.monotonic() - start)
  end
  return rates
end

local function print_row(name, rates, reference)
  local sum, squares = 0, 0
  for _, rate in ipairs(rates) do sum = sum + rate end
  local mean = sum / #rates
  for _, rate in ipairs(rates) do squares = squares + (rate - mean) ^ 2 end
  local best = math.max(unpack(rates))
  print(("%-28s %9.0f %9.0f %9.0f %s"):format(name, best, math.min(unpack(rates)),
    math.sqrt(squares / (#rates - 1)), reference and ("%7.2f"):format(best / reference) or ""))
end

local function measure()
  print(("%-28s %9s %9s %9s %7s"):format("pairs a second", "best", "worst", "std.dev.", "ratio"))
  local reference
  if benchmark() then
    local rates = {}
    for _ = 1, runs do rates[#rates + 1] = benchmark() end
    reference = math.max(unpack(rates))
    print_row("redis-benchmark -c 1 -P 100", rates, reference)
  end
  print_row("a plain loop", rates_of(sequentially), reference)
  for _, mode in ipairs { { "", one_at_a_time }, { ", pipelined", pipelined } } do
    for _, workers in ipairs { 1, 10, 100, most_workers } do
      local name = workers .. (workers == 1 and " task" or " tasks") .. mode[1]
      print_row(name, rates_of(function() return concurrently(workers, mode[2]) end), reference)
    end
  end
end

local function clean_up()
  local keys = {}
  for i = 1, most_workers do keys[i] = prefix .. i end
  redis:unlink(keys)
end

local ok, err = pcall(measure)
neap.shield(clean_up) -- when it was interrupted, too
if not ok then error(err, 0) end
