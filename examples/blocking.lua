-- blocking: what a call that blocks costs, and how it is found. Three sleeps of the operating
-- system's hold the whole process up, one after the other; three of neap's wait side by side.
-- A ticker tells how often it came to its turn, and the watchdog names the line that blocks.
--
--   build/neap examples/blocking.lua [seconds]      (5: then it takes 20)
local neap = require "neap"
local seconds = tonumber(arg[1] or 5)

-- The C library's sleep: nobody else runs meanwhile. In a real program this is a driver that
-- knows no loop, a big file read by io.read, a password hash.
local function blocking_call()
  os.execute("sleep " .. seconds)
end

-- neap's own: the task waits, the loop goes on.
local function waiting_call()
  neap.sleep(seconds)
end

-- three runs a function by three tasks at once and tells what that took.
local function three(name, fn)
  local ticks = 0
  local ticker = neap.every(seconds / 50, function() ticks = ticks + 1 end)
  local start = neap.monotonic()
  neap.all { fn, fn, fn }
  local took = neap.monotonic() - start
  ticker:stop()
  print(("%-9s %5.2f s, %.1f times one; a ticker of %g s came %d times"):format(name, took,
    took / seconds, seconds / 50, ticks))
end

three("blocking:", blocking_call)
three("waiting:", waiting_call)
local stats = neap.stats()
print(("the loop's longest turn: %.1f s; slices that the watchdog logged: %d"):format(
  stats.loop.max, stats.slices.slow))
