-- console: how soon the prompt is there, how long an attached client's line takes, and a completion
-- among 10,000 names. Beside them: the start of `true`, and of `neap -e ''`.
--
--   build/neap spec/bench/console.lua
package.path = "./spec/?.lua;" .. package.path
local neap = require "neap"
local process = require "support.process"
local terminal_path = require("luv").exepath()
local console_client = require "support.console_client"
local rounds = 30

local function median_ms(fn)
  local list = {}
  for i = 1, rounds do
    local start = neap.monotonic()
    fn()
    list[i] = (neap.monotonic() - start) * 1000
  end
  table.sort(list)
  return list[math.ceil(rounds / 2)]
end

local function start(path, arguments, options)
  return process.start(path, arguments, options):wait()
end

print(("true                             %6.2f ms"):format(median_ms(function()
  start("/bin/true", {})
end)))
print(("neap -e ''                       %6.2f ms"):format(median_ms(function()
  start(terminal_path, { "-e", "" })
end)))

-- The prompt at a terminal: script(1) lends one; the time is until the prompt is written.
print(("neap, until the prompt is there  %6.2f ms"):format(median_ms(function()
  local child = process.start("/usr/bin/script", { "-qec", terminal_path, "/dev/null" },
    { env = { NEAP_HISTORY = "/dev/null" }, is_open = true })
  child:wait_for "> "
  child:kill "sigkill"
end)))

local path = os.tmpname()
os.remove(path)
local console = neap.console(path, { audit = false })
print(("neap attach -e 1                 %6.2f ms"):format(median_ms(function()
  start(terminal_path, { "attach", path, "-e", "1" })
end)))
local c = console_client.connect(path)
print(("a line on an attached client     %6.2f ms"):format(median_ms(function() c:ask "1" end)))
c:ask "big = {} for i = 1, 1e4 do big['key' .. i] = i end"
for _, text in ipairs { "big.", "big.key77" } do
  print(("completion of %-18s %6.2f ms"):format(text, median_ms(function()
    c:send("T", "1\n" .. text)
    c:receive()
  end)))
end
c:close()
console:close()
neap.stop(0)
