-- recorder: a relay in front of a Redis server that keeps what clients send.
--
--   local r = recorder.start(measure.socket(redis))
--   local client = neap.redis(r.url)
--   r:clear()   ...   local bytes = r:bytes()   r:stop()
local uv = require "luv"
local M = {}

local Recorder = {}
Recorder.__index = Recorder

local function close(socket)
  if not socket:is_closing() then socket:close() end
end

-- carry writes what comes from one socket to the other, and shows it to keep.
local function carry(from, to, keep)
  from:read_start(function(err, data)
    if err or not data then
      close(from)
      close(to)
    elseif not to:is_closing() then
      keep(data)
      to:write(data)
    end
  end)
end

--- recorder.start(path): a relay to the server's unix socket.
function M.start(path)
  local recorder = setmetatable({ parts = {}, sockets = {} }, Recorder)
  local listener = uv.new_tcp()
  assert(listener:bind("127.0.0.1", 0))
  recorder.listener = listener
  recorder.url = "redis://127.0.0.1:" .. listener:getsockname().port
  assert(listener:listen(128, function()
    local client, server = uv.new_tcp(), uv.new_pipe(false)
    listener:accept(client)
    table.insert(recorder.sockets, client)
    table.insert(recorder.sockets, server)
    server:connect(path, function(err)
      assert(not err, err)
      carry(client, server, function(data) table.insert(recorder.parts, data) end)
      carry(server, client, function() end)
    end)
  end))
  return recorder
end

--- recorder:clear(): forgets what was kept.
function Recorder:clear()
  self.parts = {}
end

--- recorder:bytes(): what clients have sent.
function Recorder:bytes()
  return table.concat(self.parts)
end

--- recorder:stop(): closes the relay and its connections.
function Recorder:stop()
  close(self.listener)
  for _, socket in ipairs(self.sockets) do close(socket) end
end

return M
