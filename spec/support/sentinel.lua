-- sentinel: sentinels for specs, real ones and such as say what they are told.
--
--   local set = sentinel.start()          -- a primary, a replica, 3 sentinels
--   neap.redis(set.url)   set.primary:kill()   set:failover()   set:stop()
--
--   local server = sentinel.server "one"      -- GET answers "one"
--   local s = sentinel.fake { server }        -- names that server
--   neap.redis(sentinel.url(s, ...))   s:publish(...)   s:stop()   server:stop()
local neap = require "neap"
local fake = require "support.fake_server"
local process = require "support.process"
local servers = require "support.redis"
local M = {}

--- eventually(fn): as support.eventually.
M.eventually = require "support.eventually"

--- url(s, ...): the URL of these sentinels.
function M.url(...)
  local hosts = {}
  for i, s in ipairs { ... } do hosts[i] = "127.0.0.1:" .. s.port end
  return "sentinel://" .. table.concat(hosts, ",") .. "/mymaster"
end

-- fakes ---------------------------------------------------------------------

local function bulk(s) return ("$%d\r\n%s\r\n"):format(#s, s) end

--- list(...): a reply that is a list of strings.
function M.list(...)
  local out = { ("*%d\r\n"):format(select("#", ...)) }
  for i, s in ipairs { ... } do out[i + 1] = bulk(tostring(s)) end
  return table.concat(out)
end

local function live(self)
  local n = 0
  for _, conn in ipairs(self.open) do
    if not conn.is_gone then n = n + 1 end
  end
  return n
end

local function serve(server, conn)
  while true do
    local command = conn:read()
    if not command then return end
    table.insert(server.commands, command)
    local name = command[1]
    if name == "PING" then
      conn:write "+PONG\r\n"
    elseif name == "ROLE" then
      conn:write("*1\r\n" .. bulk(server.role))
    elseif name == "GET" then
      conn:write(bulk(server.name))
    elseif name == "SET" and server.is_readonly then
      conn:write "-READONLY You can't write against a read only replica.\r\n"
    elseif name == "SUBSCRIBE" then
      conn:write("*3\r\n$9\r\nsubscribe\r\n" .. bulk(command[2]) .. ":1\r\n")
    elseif name ~= "BLPOP" then
      conn:write "+OK\r\n"
    end
  end
end

--- server(name): a server whose GET answers its name. server.role,
-- server.is_readonly may be set; server:live() counts its connections.
function M.server(name)
  local server
  server = fake.start(function(conn) return serve(server, conn) end)
  server.name, server.role, server.commands, server.live = name, "master", {}, live
  return server
end

local Fake = {}
Fake.__index = Fake

-- answer returns what the sentinel says to a command.
local function answer(self, command)
  local name, what = command[1], command[2]
  if name == "PING" then return "+PONG\r\n" end
  if name == "SENTINEL" and what == "get-master-addr-by-name" then
    self.questions = self.questions + 1
    if self.reply then return self.reply end
    return M.list(self.host, self.primary.port)
  elseif name == "SENTINEL" then
    return self.others
  end
  return "+OK\r\n"
end

local function be_sentinel(self, conn)
  if self.is_down then return end
  for command in conn.read, conn do
    table.insert(self.commands, command)
    if self.is_silent then -- luacheck: ignore
    elseif command[1] == "SUBSCRIBE" then
      if self.on_watch then self.on_watch() end
      conn:write("*3\r\n$9\r\nsubscribe\r\n" .. bulk(command[2]) .. ":1\r\n")
      table.insert(self.watchers, conn)
    else
      conn:write(answer(self, command))
    end
  end
end

--- fake(options): a sentinel that names options[1], a server. Its fields may be
-- changed: primary, host, reply (raw, instead of an address), others (raw),
-- is_silent, is_down (closes at once), on_watch (called when one listens).
function M.fake(options)
  local self = setmetatable({ primary = options[1], host = "127.0.0.1", others = "*0\r\n",
    questions = 0, watchers = {}, commands = {} }, Fake)
  for name, value in pairs(options) do
    if name ~= 1 then self[name] = value end
  end
  self.server = fake.start(function(conn) return be_sentinel(self, conn) end)
  self.port = self.server.port
  return self
end

--- s:publish(text): tells those who listen of a switch.
function Fake:publish(text)
  for _, conn in ipairs(self.watchers) do
    conn:write(M.list("message", "+switch-master", text))
  end
end

--- s:switch(server): that one is the primary now, and those who listen are told.
function Fake:switch(server)
  local old = self.primary
  self.primary = server
  self:publish(("mymaster 127.0.0.1 %d 127.0.0.1 %d"):format(old.port, server.port))
end

--- s:is_watched(): somebody listens to it.
function Fake:is_watched()
  for _, conn in ipairs(self.watchers) do
    if not conn.is_gone then return true end
  end
  return false
end

--- s:die(): closes all and takes nothing any more.
function Fake:die()
  self.is_down = true
  for _, conn in ipairs(self.server.open) do conn:close() end
end

function Fake:stop() self.server.stop() end

-- real ones -----------------------------------------------------------------

local Set = {}
Set.__index = Set

local conf = [[
port %d
bind 127.0.0.1
sentinel monitor mymaster 127.0.0.1 %d 2
sentinel down-after-milliseconds mymaster 500
sentinel failover-timeout mymaster 3000
]]

local function launch(s)
  s.child = process.start("redis-server", { s.dir .. "/sentinel.conf", "--sentinel" },
    { cwd = s.dir })
  s.child:wait_for "Sentinel ID is"
end

local function start_sentinel(primary)
  local s = { port = servers.free_port(), dir = process.temp_dir() }
  process.write(s.dir .. "/sentinel.conf", conf:format(s.port, primary.port))
  launch(s)
  return s
end

-- fields_of asks a sentinel about the primary.
local function fields_of(s)
  local client = neap.redis { url = "redis://127.0.0.1:" .. s.port, timeout = 5 }
  local reply = client:call("SENTINEL", "MASTER", "mymaster")
  client:close()
  local fields = {}
  for i = 1, #reply, 2 do fields[reply[i]] = reply[i + 1] end
  return fields
end

--- start(): a primary, a replica and three sentinels that know each other.
function M.start()
  local set = setmetatable({ sentinels = {} }, Set)
  local quick = { "--repl-diskless-sync-delay", "0" }
  set.primary = servers.start { args = quick }
  set.replica = servers.start { args = { "--replicaof", "127.0.0.1",
    tostring(set.primary.port), unpack(quick) } }
  set.replica.child:wait_for "sync: Finished with success"
  for i = 1, 3 do set.sentinels[i] = start_sentinel(set.primary) end
  set.url = M.url(unpack(set.sentinels))
  for _, s in ipairs(set.sentinels) do
    M.eventually(function()
      local f = fields_of(s)
      return f["num-slaves"] == "1" and f["num-other-sentinels"] == "2" and f.flags == "master"
    end, "the sentinels find each other")
  end
  return set
end

--- set:failover(): asks for one; returns once it is decided.
function Set:failover()
  local client = neap.redis { url = "redis://127.0.0.1:" .. self.sentinels[2].port }
  client:call("SENTINEL", "FAILOVER", "mymaster")
  client:close()
end

--- set:has_switched(): all sentinels name the former replica.
function Set:has_switched()
  for _, s in ipairs(self.sentinels) do
    if fields_of(s).port ~= tostring(self.replica.port) then return false end
  end
  return true
end

function Set:kill_sentinels()
  for _, s in ipairs(self.sentinels) do
    s.child:kill("sigkill")
    s.child:wait()
  end
end

--- set:start_sentinel(i): starts one again.
function Set:start_sentinel(i) launch(self.sentinels[i]) end

function Set:stop()
  self:kill_sentinels()
  for _, s in ipairs(self.sentinels) do process.remove(s.dir) end
  self.primary:stop()
  self.replica:stop()
end

return M
