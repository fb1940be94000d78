-- blocking: 500 BRPOPs of 1 s, each on its own connection, and a ticker.
--
--   build/neap spec/bench/blocking.lua
package.path = "spec/bench/support/?.lua;" .. package.path
local measure = require "measure"
local neap = require "neap"
local redis = neap.redis "memory:"
redis:ping()

local worst, last = 0, neap.monotonic()
local ticker = neap.every(0.2, function()
  local now = neap.monotonic()
  worst, last = math.max(worst, now - last - 0.2), now
end)
local started = neap.monotonic()
local list = {}
for i = 1, 500 do list[i] = i end
neap.map(function(i) redis:brpop("bench:blocking:" .. i, 1) end, list)
local total = neap.monotonic() - started
ticker:stop()
print(("500 BRPOPs of 1 s: %.3f s; ticker late by %.1f ms at most; %.1f MiB resident"):format(total,
  worst * 1000, measure.memory "VmHWM" / 1024))
