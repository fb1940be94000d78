-- client: a raw socket client for specs: bytes out, bytes in.
--
--   local c = client.connect(port)            -- or a unix socket's path
--   c:write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
--   local res = c:response()                  -- { status, headers, body, head }
--   assert.is_true(c:is_closed())
local errors = require "neap.core.error"
local task = require "neap.task"
local uv = require "luv"
local M = {}
local Client = {}
Client.__index = Client

-- A peer that never answers fails the spec instead of hanging it.
local patience = 20

--- client.connect(port | path): connected, and reading.
function M.connect(where)
  local is_path = type(where) == "string"
  local socket = is_path and uv.new_pipe(false) or uv.new_tcp()
  local c = setmetatable({ socket = socket, input = "", changed = task.event() }, Client)
  local ok, err
  if is_path then
    ok, err = pcall(uv.await, uv.pipe_connect, socket, where)
  else
    ok, err = pcall(uv.await, uv.tcp_connect, socket, "127.0.0.1", where)
  end
  if not ok then
    socket:close()
    error(err, 0)
  end
  c:resume()
  return c
end

--- client:resume(), client:pause(): reading goes on by itself; pause stops it.
function Client:resume()
  self.socket:read_start(function(fault, chunk)
    if chunk then
      self.input = self.input .. chunk
    else
      self.fault, self.ended = fault, true
    end
    self.changed:set()
  end)
end

function Client:pause()
  self.socket:read_stop()
end

--- client:write(bytes): without waiting.
function Client:write(bytes)
  self.socket:write(bytes)
end

--- client:send(bytes): waits until the kernel has them.
function Client:send(bytes)
  uv.await(uv.write, self.socket, bytes)
end

-- wait_for calls look until it returns something, or the connection ends.
local function wait_for(self, look)
  return task.timeout(patience, function()
    while true do
      local value = look()
      if value ~= nil then return value end
      if self.ended then return nil end
      self.changed:clear()
      self.changed:wait()
    end
  end)
end

--- client:read(n): exactly n bytes, or what came before the end.
function Client:read(n)
  wait_for(self, function() return #self.input >= n or nil end)
  local bytes = self.input:sub(1, n)
  self.input = self.input:sub(n + 1)
  return bytes
end

--- client:head(): a response's head: { status, headers, head }; nil at the end.
function Client:head()
  local stop = wait_for(self, function() return self.input:find("\r\n\r\n", 1, true) end)
  if not stop then return nil end
  local head = self:read(stop + 3)
  local res = { status = tonumber(head:match("^HTTP/1%.1 (%d%d%d) ")), headers = {}, head = head }
  for name, value in head:gmatch("\r\n([^:\r]+): ([^\r]*)") do res.headers[name:lower()] = value end
  return res
end

--- client:response(to_head): a whole response, nil at the end; to_head says
-- that it answers a HEAD.
function Client:response(to_head)
  local res = self:head()
  if not res then return nil end
  local len = tonumber(res.headers["content-length"] or "0")
  res.body = to_head and "" or self:read(len)
  if not to_head and #res.body < len then
    error(errors.new { code = "client.short", message = "the body was cut off" }, 0)
  end
  return res
end

--- client:is_closed(): waits for the end; true if nothing came before it.
function Client:is_closed()
  wait_for(self, function() return nil end)
  return self.input == ""
end

--- client:shutdown(): ends the sending side.
function Client:shutdown()
  uv.await(uv.shutdown, self.socket)
end

--- client:close(): closes in order; client:reset(): with a reset.
function Client:close()
  if not self.socket:is_closing() then self.socket:close() end
end

function Client:reset()
  if not self.socket:is_closing() then self.socket:close_reset() end
end

--- client.exchange(port, bytes): everything that comes back until the end.
function M.exchange(where, bytes)
  local c = M.connect(where)
  c:write(bytes)
  c:is_closed()
  c:close()
  return c.input, c.fault
end

return M
