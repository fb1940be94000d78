-- blocking_pop: 500 tasks wait a second each in BRPOP, each on a connection of
-- its own from the pool, all in one thread. A ticker shows that nobody is held up.
--
--   build/neap examples/blocking_pop.lua [tasks]
--
-- On a throw-away server, or on that of NEAP_REDIS_URL.
local neap = require "neap"
local uv = require "luv"
local redis = neap.redis(os.getenv "NEAP_REDIS_URL" or "memory:")
local count = tonumber(arg[1]) or 500
local interval = 0.2
local prefix = "blocking_pop:" .. neap.token(8) .. ":"

redis:ping() -- the server has started before the clock does

local start, tick = neap.monotonic(), 0
local ticker = neap.every(interval, function()
  tick = tick + 1
  local late = neap.monotonic() - start - tick * interval
  print(("tick %d, %.1f ms late"):format(tick, late * 1000))
end)

local lists = {}
for i = 1, count do lists[i] = prefix .. i end -- lists that nobody fills
neap.map(function(list)
  assert(redis:brpop(list, 1) == nil)
end, lists)
local total = neap.monotonic() - start
ticker:stop()

print(("%d pops of 1 s took %.2f s"):format(count, total))
local stats = redis:stats()
print(("pool: %d created, %d in use, %d idle, at most %d"):format(stats.created, stats.in_use,
  stats.idle, stats.limit))
print(("resident memory: %.1f MiB"):format(uv.resident_set_memory() / 1024 ^ 2))
