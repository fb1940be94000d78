-- console: a service to look into while it runs. A ticker measures, requests are counted, and a
-- console listens on a socket in this folder.
--
--   build/neap examples/console.lua [port] [socket] &      (8080, console.sock)
--   build/neap attach console.sock
--   > readings                     the table of this file; service.pause() stops the ticker
--   > :tasks                       what is there and what it waits for
--   > slow()                       then :stats, and the log
local neap = require "neap"
local http = require "neap.http"
local socket = arg[2] or "console.sock"

-- What is global can be seen, and changed, from the console.
readings = {} -- luacheck: ignore
service = { every = 0.5, requests = 0 } -- luacheck: ignore
local readings, service = readings, service -- luacheck: ignore

local ticker

local function measure()
  readings[#readings + 1] = { at = neap.now(), value = math.random(100) }
  if #readings > 100 then table.remove(readings, 1) end
end

--- service.resume(): measures again, each service.every seconds.
function service.resume()
  service.pause()
  ticker = neap.every(service.every, measure)
end

--- service.pause(): no reading comes until resume.
function service.pause()
  if ticker then ticker:stop() end
  ticker = nil
end

-- slow holds the loop up for a while, for the watchdog to find.
function slow() -- luacheck: ignore
  local sum = 0
  for i = 1, 3e8 do sum = sum + i % 7 end
  return sum
end

local app = http.app()
app:get("/", function()
  service.requests = service.requests + 1
  return { json = { readings = #readings, last = readings[#readings],
    requests = service.requests } }
end)

service.resume()
neap.console(socket)
print(app:listen(tonumber(arg[1] or 8080)).url .. "/")
