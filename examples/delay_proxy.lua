-- delay_proxy: a TCP proxy that brings a server further away.
--
--   local proxy = delay_proxy.start("/run/redis.sock")   -- a unix socket's path
--   proxy.delay = 0.01          -- seconds, added on the way to the server
--   neap.redis(proxy.url)       -- redis://127.0.0.1:PORT
--   proxy:stop()
--
-- Each piece that arrives is passed on that much later, in order: nothing is
-- lost, nothing overtakes, and any number of pieces may be under way.
local neap = require "neap"
local uv = require "luv"
local M = {}

local Proxy = {}
Proxy.__index = Proxy

local function close(socket)
  if not socket:is_closing() then socket:close() end
end

-- pump carries what one socket reads to the other, until either side ends.
local function pump(proxy, from, to, delay)
  local under_way = neap.channel(math.huge)
  table.insert(proxy.channels, under_way)
  from:read_start(function(_, bytes)
    if under_way.is_closed then return end
    if bytes then
      under_way:send { bytes = bytes, due = neap.monotonic() + delay() }
    else
      under_way:close()
    end
  end)
  neap.spawn(function()
    for piece in under_way:each() do
      local wait = piece.due - neap.monotonic()
      if wait > 0 then neap.sleep(wait) end
      if not to:is_closing() then to:write(piece.bytes) end
    end
    close(from)
    close(to)
  end)
end

--- delay_proxy.start(path): a proxy on a free port of 127.0.0.1.
function M.start(path)
  local proxy = setmetatable({ delay = 0, channels = {}, listener = uv.new_tcp() }, Proxy)
  assert(proxy.listener:bind("127.0.0.1", 0))
  proxy.url = "redis://127.0.0.1:" .. proxy.listener:getsockname().port
  assert(proxy.listener:listen(128, function()
    local client, server = uv.new_tcp(), uv.new_pipe(false)
    proxy.listener:accept(client)
    client:nodelay(true)
    neap.await(uv.pipe_connect, server, path)
    pump(proxy, client, server, function() return proxy.delay end)
    pump(proxy, server, client, function() return 0 end)
  end))
  return proxy
end

--- proxy:stop(): listens no longer, and ends every connection.
function Proxy:stop()
  close(self.listener)
  for _, under_way in ipairs(self.channels) do under_way:close() end
end

return M
