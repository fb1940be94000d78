-- pool_latency: 1000 rows are created one after the other, as 1000 tasks at once,
-- and through a pool of 100, while Redis moves further and further away.
--
--   build/neap examples/pool_latency.lua [rows] [--full]
--
-- One after the other, each create pays the latency: 1000 times 100 ms are 100
-- seconds, which --full has the patience for. Tasks share it: creates that are
-- under way together leave together, in batches (group commit). The pool pays it
-- ten times, a hundred rows at a time; all at once pay it two or three times.
local neap = require "neap"
local delay_proxy = require "delay_proxy"
local model, field = neap.model, neap.field

local rows, is_full = 1000, false
for _, a in ipairs(arg) do
  if a == "--full" then is_full = true else rows = tonumber(a) end
end

-- a throw-away server, and the way to it that takes longer
local server = neap.redis "memory:"
local dir = server:call("CONFIG", "GET", "dir")[2]
local path = server:call("CONFIG", "GET", "unixsocket")[2]
local proxy = delay_proxy.start(dir .. "/" .. path:match("[^/]+$"))

local User = model.define("user", {
  id           = field.uuid    { primary_key = true },
  name         = field.string  { required = true },
  age          = field.integer { min = 0, max = 150, index = true },
  country_code = field.string  { index = true },
}, { redis = neap.redis(proxy.url) })

local function create(i)
  return User:create { name = "user " .. i, age = i % 90, country_code = "USA" }
end

local numbers = {}
for i = 1, rows do numbers[i] = i end

local function sequential()
  for i = 1, rows do create(i) end
end

local function spawned()
  local tasks = {}
  for i = 1, rows do tasks[i] = neap.spawn(create, i) end
  for i = 1, rows do tasks[i]:join() end
end

local function pooled()
  neap.pool(100):map(create, numbers)
end

-- seconds creates the storage, fills it by fn, counts the rows, drops it all.
local function seconds(fn, delay)
  User:sync()
  proxy.delay = delay
  local start = neap.monotonic()
  fn()
  local taken = neap.monotonic() - start
  proxy.delay = 0
  assert(User:rows():count() == rows)
  User:drop()
  return ("%.3f s"):format(taken)
end

print(("%d creates  %12s %12s %12s"):format(rows, "sequential", "spawned", "pool of 100"))
for _, ms in ipairs { 0, 1, 5, 10, 100 } do
  local is_slow = ms == 100 and not is_full
  print(("%5d ms more  %12s %12s %12s"):format(ms,
    is_slow and "(--full)" or seconds(sequential, ms / 1000),
    seconds(spawned, ms / 1000), seconds(pooled, ms / 1000)))
end
User.redis:close()
proxy:stop()
