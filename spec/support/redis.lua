-- redis: redis-servers of a spec's own, on TCP.
--
--   local server = require("support.redis").start { password = "secret" }
--   neap.redis(server.url)   server:kill()   server:restart()   server:stop()
local uv = require "luv"
local process = require "support.process"
local M = {}

local Server = {}
Server.__index = Server

--- free_port(): a port of 127.0.0.1 that nobody listens on.
function M.free_port()
  local s = uv.new_tcp()
  assert(s:bind("127.0.0.1", 0))
  local port = s:getsockname().port
  s:close()
  return port
end

local function launch(server)
  local args = { "--port", tostring(server.port), "--bind", "127.0.0.1", "--save", "",
    "--appendonly", "no", "--dir", server.dir }
  for _, a in ipairs(server.args) do args[#args + 1] = a end
  server.child = process.start("redis-server", args)
  server.child:wait_for("eady to accept connections")
end

--- start(options): a server; options: password, args (further arguments).
function M.start(options)
  options = options or {}
  local server = setmetatable({ port = M.free_port(), dir = process.temp_dir(),
    args = options.args or {} }, Server)
  local auth = ""
  if options.password then
    server.args = { "--requirepass", options.password, unpack(server.args) }
    auth = ":" .. options.password .. "@"
  end
  server.url = ("redis://%s127.0.0.1:%d"):format(auth, server.port)
  launch(server)
  return server
end

--- server:kill(): as if the machine were gone; its data go too.
function Server:kill()
  self.child:kill("sigkill")
  self.child:wait()
end

function Server:restart()
  launch(self)
end

--- server:signal(name): "sigstop" makes it silent, "sigcont" lets it go on.
function Server:signal(name)
  self.child:kill(name)
end

function Server:stop()
  self.child:kill("sigkill")
  self.child:wait()
  process.remove(self.dir)
end

return M
