-- redis: the Redis client. Every command is a method; each call waits for its
-- reply, and all that is called in one turn of the loop leaves in one write.
--
--   local redis = neap.redis()          -- NEAP_REDIS_URL, or a private server
--   redis:set("k", "v", "EX", 10)
--   print(redis:get "k")
local core = require "neap.core.redis"
local task = require "neap.core.task"
local semaphore = require("neap.task").semaphore
local errors = require "neap.core.error"
local FAIL = task.FAIL
local M = {}

local Client, Pipeline = {}, {}

-- Commands that change the session of a shared connection, and what to use.
local refused = {
  SELECT = "put the database into the URL (redis://host/2)",
  AUTH = "put user and password into the URL",
  HELLO = "the client speaks RESP2; put user and password into the URL",
  RESET = "open another client with neap.redis(url)",
  QUIT = "use redis:close()",
  MULTI = "use redis:multi(function(tx) ... end)",
  EXEC = "use redis:multi(function(tx) ... end)",
  DISCARD = "use redis:multi(function(tx) ... end)",
  WATCH = "use redis:lua for a check and a write in one step",
  UNWATCH = "use redis:lua for a check and a write in one step",
  SUBSCRIBE = "it would take over the shared connection",
  PSUBSCRIBE = "it would take over the shared connection",
  SSUBSCRIBE = "it would take over the shared connection",
  UNSUBSCRIBE = "it would take over the shared connection",
  PUNSUBSCRIBE = "it would take over the shared connection",
  SUNSUBSCRIBE = "it would take over the shared connection",
  MONITOR = "it would take over the shared connection",
  ["CLIENT REPLY"] = "the client relies on every reply",
  WAIT = "it would speak of this connection's writes and hold up everybody's; "
    .. "min-replicas-to-write in the server's configuration guards all writes",
  SYNC = "it is for replicas",
  PSYNC = "it is for replicas",
}

local maps = { HGETALL = true }

-- where a blocking command's timeout in seconds stands: last, or at a place
local function last(...) return (select(select("#", ...), ...)) end
local function first(...) return (...) end
local function block_option(...)
  for i = 1, select("#", ...) - 1 do
    local a, ms = select(i, ...)
    if type(a) == "string" and a:upper() == "BLOCK" then
      return (tonumber(ms) or 0) / 1000
    end
  end
end
local blocking = {
  BLPOP = last, BRPOP = last, BRPOPLPUSH = last, BLMOVE = last, BZPOPMIN = last, BZPOPMAX = last,
  BLMPOP = first, BZMPOP = first, XREAD = block_option, XREADGROUP = block_option,
}

local function check(v, e)
  if v == FAIL then error(e, 0) end
  return v
end

local function refuse(name)
  error(("%s is not available here: %s"):format(name, refused[name]), 3)
end

-- check_command refuses what is refused; returns the name in upper case.
local function check_command(name, sub)
  if type(name) ~= "string" then error("a command's name expected", 3) end
  local upper = name:upper()
  if upper == "CLIENT" then
    while type(sub) == "table" do sub = sub[1] end
    if type(sub) == "string" and sub:upper() == "REPLY" then upper = "CLIENT REPLY" end
  end
  if refused[upper] then
    error(("%s is not available here: %s"):format(upper, refused[upper]), 3)
  end
  return upper
end

local rooms = setmetatable({}, { __mode = "k" }) -- a client's pooled connections

local function leave(room, ok, v, e)
  room:release()
  if not ok then error(v, 0) end
  return check(v, e)
end

local grace = 10 -- seconds on top of a blocking command's own timeout

local function call_blocking(self, name, ...)
  local seconds = blocking[name](...)
  if seconds == nil then -- XREAD without BLOCK
    return check(core.call(self, name, ...))
  end
  seconds = tonumber(seconds)
  if not seconds then error(name .. ": a timeout in seconds is expected", 3) end
  local room = rooms[self]
  if not room then
    room = semaphore(core.limit(self))
    rooms[self] = room
  end
  room:acquire()
  return leave(room, pcall(core.call_blocking, self, seconds > 0 and seconds + grace or 0,
    name, ...))
end

-- new_method makes the method for a command when it is first used.
local function new_method(_, key)
  if type(key) ~= "string" then return nil end
  local name = key:upper()
  if refused[name] then
    return function() refuse(name) end
  elseif blocking[name] then
    Client[key] = function(self, ...) return call_blocking(self, name, ...) end
  else
    local send = core.command(name, maps[name])
    Client[key] = function(self, ...)
      local v, e = send(self, ...)
      if v == FAIL then error(e, 0) end
      return v
    end
  end
  return Client[key]
end
setmetatable(Client, { __index = new_method })

--- redis:call(name, ...): any command by name; its reply as Redis's own Lua
-- has it (nil inside arrays is false).
function Client:call(name, ...)
  local upper = check_command(name, ...)
  if blocking[upper] then return call_blocking(self, upper, ...) end
  return check(core.call(self, name, ...))
end

--- redis:client(...): CLIENT, but for CLIENT REPLY, which would end the replies.
function Client:client(...)
  return self:call("CLIENT", ...)
end

-- pipelines -----------------------------------------------------------------

local function check_blocking(name, ...)
  local block = blocking[name]
  if block and (block ~= block_option or block(...)) then
    error(name .. " would block the pipeline", 3)
  end
end

local function new_pipeline_method(_, key)
  if type(key) ~= "string" then return nil end
  local name = key:upper()
  if refused[name] then
    return function() refuse(name) end
  elseif blocking[name] then
    return function(self, ...) self:call(name, ...) end
  end
  local record = core.pipeline_command(name, maps[name])
  Pipeline[key] = record
  return record
end
setmetatable(Pipeline, { __index = new_pipeline_method })

--- p:call(name, ...): any command, within redis:pipeline or redis:multi.
function Pipeline:call(name, ...)
  check_blocking(check_command(name, ...), ...)
  return core.pipeline_call(self, name, ...)
end

--- p:client(...): as redis:client.
function Pipeline:client(...)
  return self:call("CLIENT", ...)
end

local function execute(self, fn, is_transaction)
  if type(fn) ~= "function" then
    error(("bad argument #1 to '%s' (function expected, got %s)"):format(
      is_transaction and "multi" or "pipeline", type(fn)), 3)
  end
  local p = core.pipeline()
  fn(p)
  if core.pipeline_count(p) == 0 then return {} end
  return check(core.execute(self, p, is_transaction))
end

--- redis:pipeline(function(p) p:incr "a"; p:get "b" end): the list of replies.
-- A command that fails leaves an error object in its slot; nil is false.
function Client:pipeline(fn)
  return execute(self, fn, false)
end

--- redis:multi(function(tx) ... end): as pipeline, within MULTI and EXEC. When
-- Redis refuses a command, none is carried out and an error is raised.
function Client:multi(fn)
  return execute(self, fn, true)
end

-- scripts -------------------------------------------------------------------

--- redis:lua(source): a function f(keys, ...) that runs the script on the
-- server by its hash, and loads it again where the server forgot it.
--
--   local take = redis:lua [[return redis.call("DECRBY", KEYS[1], ARGV[1])]]
--   take({ "stock" }, 3)
function Client:lua(source)
  if type(source) ~= "string" then
    error("bad argument #1 to 'lua' (a script's source expected)", 2)
  end
  local sha
  return function(keys, ...)
    keys = keys or {}
    if type(keys) ~= "table" then error("bad argument #1 (a list of keys expected)", 2) end
    sha = sha or check(core.call(self, "SCRIPT", "LOAD", source))
    local v, e = core.call(self, "EVALSHA", sha, #keys, keys, ...)
    if v == FAIL and errors.is_error(e, "redis.noscript") then
      v, e = core.call(self, "EVAL", source, #keys, keys, ...)
    end
    return check(v, e)
  end
end

-- scanning ------------------------------------------------------------------

-- scan_with returns an iterator over a SCAN-like command's elements, `step`
-- of them at a time (2: field and value).
local function scan_with(self, step, options, ...)
  local command, n = { ... }, select("#", ...)
  local rest = {}
  for name, value in pairs(options or {}) do
    if name ~= "match" and name ~= "count" and name ~= "type" then
      error("unknown option '" .. tostring(name) .. "' (match, count and type are known)", 3)
    end
    rest[#rest + 1] = name:upper()
    rest[#rest + 1] = tostring(value)
  end
  local cursor, page, at = "0", {}, 1
  local is_last = false
  return function()
    while not page[at] do
      if is_last then return nil end
      command[n + 1] = cursor
      local args = {}
      for i = 1, n + 1 do args[i] = command[i] end
      for i = 1, #rest do args[n + 1 + i] = rest[i] end
      local reply = check(core.call(self, unpack(args)))
      cursor, page, at = reply[1], reply[2], 1
      is_last = cursor == "0"
    end
    local a, b = page[at], page[at + 1]
    at = at + step
    if step == 2 then return a, b end
    return a
  end
end

--- for key in redis:scan { match = "user:*", count = 100, type = "hash" } do
-- A key may come twice while the keyspace is being resized.
function Client:scan(options)
  return scan_with(self, 1, options, "SCAN")
end

--- for field, value in redis:hscan(key, { match = ... }) do
function Client:hscan(key, options)
  return scan_with(self, 2, options, "HSCAN", key)
end

--- for member in redis:sscan(key) do
function Client:sscan(key, options)
  return scan_with(self, 1, options, "SSCAN", key)
end

--- for member, score in redis:zscan(key) do
function Client:zscan(key, options)
  return scan_with(self, 2, options, "ZSCAN", key)
end

-- clients -------------------------------------------------------------------

--- redis:close(): closes the connections; calls that wait raise redis.closed.
function Client:close()
  for url, client in pairs(M.open_clients) do
    if client == self then M.open_clients[url] = nil end
  end
  core.close(self)
end

--- redis:stats(): created, in_use, idle, limit (pooled connections), pending
-- (replies awaited on the shared one), reconnects, timeouts, connected.
function Client:stats()
  return core.stats(self)
end

core.client_class.__index = Client
core.client_class.__name = "redis client"
core.pipeline_class.__index = Pipeline

--- redis.open_clients: the clients that neap.redis has given out, by URL.
M.open_clients = {}

-- where the embedded server keeps its data: NEAP_DATA, or .neap beside the
-- script, or in the current folder
local function data_dir()
  local dir = os.getenv "NEAP_DATA"
  if dir and dir ~= "" then return dir end
  local script = arg and arg[0] or ""
  local beside = script:match("%.lua$") and script:match("^(.*/)") or ""
  return beside .. ".neap"
end

--- neap.redis(url): a client; the same URL gives the same client. Without a
-- URL that of NEAP_REDIS_URL, or else a private redis-server whose data live
-- in .neap/ beside the script (NEAP_REDIS=memory: a throw-away server, which is
-- also what neap.redis("memory:") asks for). It connects at the first command.
function M.open(url)
  if url ~= nil and type(url) ~= "string" then
    error("bad argument #1 to 'redis' (a URL expected, got " .. type(url) .. ")", 2)
  end
  local key = url or os.getenv "NEAP_REDIS_URL"
  if not key or key == "" then
    key = os.getenv "NEAP_REDIS" == "memory" and "memory:" or "embedded:"
  end
  local client = M.open_clients[key]
  if not client then
    if key == "memory:" then
      client = core.open()
    elseif key == "embedded:" then
      client = core.open(nil, data_dir())
    else
      client = core.open(key)
    end
    M.open_clients[key] = client
  end
  return client
end

return M
