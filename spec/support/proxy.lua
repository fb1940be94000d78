-- proxy: a TCP proxy that delays, cuts and black-holes.
--
--   local p = proxy.start(server.port)     -- p.port, p.url
--   p.delay = 0.01         -- seconds, each way
--   p.is_hole = true       -- what comes is swallowed
--   p:cut()                -- closes every connection
--   p.is_refusing = true   -- closes new ones at once
--   p:stop()
local neap = require "neap"
local uv = require "luv"
local M = {}

local Proxy = {}
Proxy.__index = Proxy

local function close(socket)
  if not socket:is_closing() then socket:close() end
end

-- pump carries what it reads from one socket to the other, in order.
local function pump(proxy, from, to)
  local queue = neap.channel(1000000)
  proxy.queues[queue] = true
  neap.spawn(function()
    for item in queue:each() do
      local wait = item.due - neap.monotonic()
      if wait > 0 then neap.sleep(wait) end
      if not to:is_closing() then to:write(item.data) end
    end
    close(to)
    proxy.queues[queue] = nil
  end)
  from:read_start(function(err, data)
    if err or not data then
      close(from)
      if not queue.is_closed then queue:close() end
    elseif not proxy.is_hole and not queue.is_closed then
      queue:send { data = data, due = neap.monotonic() + (proxy.delay or 0) }
    end
  end)
end

--- start(port): a proxy to that port of 127.0.0.1.
function M.start(port)
  local proxy = setmetatable({ sockets = {}, queues = {}, connections = 0 }, Proxy)
  local listener = uv.new_tcp()
  assert(listener:bind("127.0.0.1", 0))
  proxy.listener = listener
  proxy.port = listener:getsockname().port
  proxy.url = "redis://127.0.0.1:" .. proxy.port
  assert(listener:listen(1024, function()
    local client, server = uv.new_tcp(), uv.new_tcp()
    listener:accept(client)
    proxy.connections = proxy.connections + 1
    if proxy.is_refusing or not pcall(neap.await, server.connect, server, "127.0.0.1", port) then
      close(client)
      close(server)
      return
    end
    table.insert(proxy.sockets, client)
    table.insert(proxy.sockets, server)
    pump(proxy, client, server)
    pump(proxy, server, client)
  end))
  return proxy
end

function Proxy:cut()
  for _, socket in ipairs(self.sockets) do close(socket) end
  self.sockets = {}
  for queue in pairs(self.queues) do queue:close() end -- a closed socket tells nobody
end

function Proxy:stop()
  close(self.listener)
  self:cut()
end

return M
