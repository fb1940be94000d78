-- tasks: how many start and finish a second, what one asleep takes, how long
-- the process takes to start.
--
--   build/neap spec/bench/tasks.lua
package.path = "spec/bench/support/?.lua;" .. package.path
local measure = require "measure"
local neap = require "neap"

local count = 0
local function work() count = count + 1 end

local spawned = measure.rate(1000000, function()
  for _ = 1, 1000 do
    for _ = 1, 1000 do neap.spawn(work) end
    neap.sleep(0)
  end
end)
print(("spawned and finished: %.2f million/s"):format(spawned / 1e6))

local list = {}
for i = 1, 40 do list[i] = i end
local mapped = measure.rate(1000000, function()
  for _ = 1, 25000 do neap.map(work, list) end
end)
print(("by neap.map over 40: %.2f million/s"):format(mapped / 1e6))

collectgarbage()
collectgarbage()
local before = measure.memory "VmRSS"
local sleepers = {}
for i = 1, 100000 do sleepers[i] = neap.spawn(neap.sleep, 60) end
neap.sleep(0.1)
print(("100,000 asleep: %.2f KiB each, handle included"):format(
  (measure.memory "VmRSS" - before) / 100000))
for _, t in ipairs(sleepers) do t:cancel() end

local exe = require("luv").exepath()
print(("neap -e '': %.1f ms; true: %.1f ms (medians of 21)"):format(
  measure.median(21, function() measure.run(exe, { "-e", "" }) end),
  measure.median(21, function() measure.run("true", {}) end)))
