-- fake_server: a Redis server that does what a spec tells it.
--
--   local server = fake.start(function(conn, n)   -- n: which connection
--     conn:greet()                     -- answers what the client says first
--     local cmd = conn:read()          -- { "GET", "k" }, nil when it is gone
--     conn:write "$1\r\nv\r\n"   conn:write_bytes(...)   conn:close()
--     local head = conn:head()         -- or of an HTTP request, up to the empty line
--     conn:wait_gone()                 -- says nothing until the client has gone
--   end)
--   neap.redis(server.url)   server:stop()
--
--   fake.with(fake.answering(function(command, conn, n) return "+OK\r\n" end),
--     function(client, server) ... end)
local neap = require "neap"
local uv = require "luv"
local M = {}

local Conn = {}
Conn.__index = Conn

-- parse takes one command off the buffer, if it is all there.
local function parse(text)
  local count, at = text:match("^%*(%d+)\r\n()")
  if not count then return nil end
  local command = {}
  for i = 1, tonumber(count) do
    local len, from = text:match("^%$(%d+)\r\n()", at)
    if not len or #text < from + len + 1 then return nil end
    command[i] = text:sub(from, from + len - 1)
    at = from + len + 2
  end
  return command, text:sub(at)
end

-- take waits until fn(bytes) returns what they begin with, and what is left of them.
local function take(conn, fn)
  while true do
    local taken, rest = fn(conn.buffer)
    if taken then
      conn.buffer = rest
      return taken
    end
    if conn.is_gone then return nil end
    conn.news:clear()
    conn.news:wait()
  end
end

--- conn:read(): the next command as a list; nil when the client has gone.
function Conn:read()
  return take(self, parse)
end

--- conn:head(): the next HTTP request's head; nil when the client has gone.
function Conn:head()
  return take(self, function(bytes)
    local stop = select(2, bytes:find("\r\n\r\n", 1, true))
    if stop then return bytes:sub(1, stop), bytes:sub(stop + 1) end
  end)
end

--- conn:wait_gone(): until the client has gone; what it says is passed over.
function Conn:wait_gone()
  take(self, function() end)
end

--- conn:greet(): answers PING (and AUTH, SELECT, CLIENT) up to the PING.
function Conn:greet()
  while true do
    local command = self:read()
    if not command then return end
    if command[1] == "PING" then return self:write "+PONG\r\n" end
    self:write "+OK\r\n"
  end
end

function Conn:write(bytes)
  if not self.socket:is_closing() then self.socket:write(bytes) end
end

--- conn:write_bytes(bytes, n): n at a time (1), each in a packet of its own.
function Conn:write_bytes(bytes, n)
  n = n or 1
  for i = 1, #bytes, n do
    self:write(bytes:sub(i, i + n - 1))
    neap.sleep(0.0002)
  end
end

function Conn:close()
  if not self.socket:is_closing() then self.socket:close() end
  self.is_gone = true
  self.news:set()
end

--- start(handler): handler(conn, n) runs as a task for each connection; the
-- connection is closed when it returns, unless it returns "keep".
function M.start(handler)
  local server = { connections = 0, open = {} }
  local listener = uv.new_tcp()
  assert(listener:bind("127.0.0.1", 0))
  server.port = listener:getsockname().port
  server.url = "redis://127.0.0.1:" .. server.port
  server.http = "http://127.0.0.1:" .. server.port
  assert(listener:listen(128, function(err)
    assert(not err, err)
    local socket = uv.new_tcp()
    listener:accept(socket)
    socket:nodelay(true)
    server.connections = server.connections + 1
    local n = server.connections
    local conn = setmetatable({ socket = socket, buffer = "", news = neap.event() }, Conn)
    server.open[#server.open + 1] = conn
    socket:read_start(function(read_err, data)
      if data and not read_err then
        conn.buffer = conn.buffer .. data
      else
        conn.is_gone = true
      end
      conn.news:set()
    end)
    if handler(conn, n) ~= "keep" then conn:close() end
  end))
  function server.stop()
    if not listener:is_closing() then listener:close() end
    for _, conn in ipairs(server.open) do conn:close() end
  end
  return server
end

--- with(handler, fn, options): runs fn(client, server) with such a server and a client
-- of it; options are those of the URL.
function M.with(handler, fn, options)
  local server = M.start(handler)
  local client = neap.redis(server.url .. (options or "?timeout=5"))
  local ok, err = pcall(fn, client, server)
  client:close()
  server.stop()
  if not ok then error(err, 0) end
end

--- answering(reply): a handler that greets, and writes what reply(command, conn, n)
-- returns to each command; nil is no answer, "close" closes the connection.
function M.answering(reply)
  return function(conn, n)
    conn:greet()
    for command in conn.read, conn do
      local r = reply(command, conn, n)
      if r == "close" then return end
      if r then conn:write(r) end
    end
  end
end

return M
