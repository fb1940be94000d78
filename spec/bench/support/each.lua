-- each: what spec/bench/query_growth.lua has a process of its own do: iterate over all rows.
-- Prints rows a second, the peak of its memory in MiB, and that before the rows.
--
--   build/neap spec/bench/support/each.lua URL
package.path = "spec/bench/support/?.lua;" .. package.path
local growing = require "growing"
local measure = require "measure"
local neap = require "neap"
local User = growing.define(neap.redis(arg[1]))
local total, n = User:rows():count(), 0
local before = measure.memory "VmHWM"
local rate = measure.rate(total, function()
  for row in User:rows():each() do n = n + (row.age > 0 and 1 or 0) end
end)
assert(n == total, n .. " rows of " .. total)
print(rate, measure.memory "VmHWM" / 1024, before / 1024)
