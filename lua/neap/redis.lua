-- redis: the Redis client. Every command is a method; each call waits for its
-- reply, and all that is called in one turn of the loop leaves in one write.
--
--   local redis = neap.redis()          -- NEAP_REDIS_URL, or a private server
--   redis:set("k", "v", "EX", 10)
--   print(redis:get "k")
local core = require "neap.core.redis"
local log = require "neap.log"
local command = require "neap.redis_command"
local call = require "neap.redis_call"
local pipeline = require "neap.redis_pipeline"
local script = require "neap.redis_script"
local pubsub = require "neap.redis_pubsub"
local shapes = require("neap.redis_reply").shapes
local settle = call.settle
local M = {}

local Client = {}

-- with_shape wraps a method so that its reply has a form that is easier to use.
local function with_shape(fn, shape)
  return function(self, ...)
    local v = fn(self, ...)
    if v == nil then return nil end
    return shape(v, ...)
  end
end

-- new_method makes the method for a command when it is first used.
local function new_method(_, key)
  if type(key) ~= "string" then return nil end
  local name = key:upper()
  local method
  if command.refused[name] then
    return function() command.refuse(name, 2) end
  elseif command.blocking[name] then
    method = function(self, ...) return call.blocking(self, name, ...) end
  else
    local send = core.command(name, command.maps[name])
    method = function(self, ...)
      local v, e, took, sent, received = send(self, ...)
      if e ~= nil then return settle(self, name, send, self, v, e, took, sent, received, ...) end
      return v
    end
  end
  if shapes[name] then method = with_shape(method, shapes[name]) end
  Client[key] = method
  return method
end
setmetatable(Client, { __index = new_method })

--- redis:call(name, ...): any command by name; its reply as Redis's own Lua
-- has it (nil inside arrays is false).
function Client:call(name, ...)
  local upper = command.check(name, ...)
  if command.blocking[upper] then return call.blocking(self, upper, ...) end
  return call.plain(self, upper, ...)
end

--- redis:client(...): CLIENT, but for CLIENT REPLY, which would end the replies.
function Client:client(...)
  local v = self:call("CLIENT", ...)
  if v == nil then return nil end
  return shapes.CLIENT(v, ...)
end

--- redis:pipeline(function(p) p:incr "a"; p:get "b" end): the list of replies.
-- A command that fails leaves an error object in its slot; nil is false.
function Client:pipeline(fn)
  return pipeline.pipeline(self, fn)
end

--- redis:multi(function(tx) ... end): as pipeline, within MULTI and EXEC. When
-- Redis refuses a command, none is carried out and an error is raised.
function Client:multi(fn)
  return pipeline.multi(self, fn)
end

--- redis:watch(keys, function(tx) ... end, { retries = 10 }): a transaction that holds
-- only if none of the keys changes meanwhile. Commands of tx are carried out at once;
-- tx:multi(fn) ends it. After a change all is done again; what the function returns is
-- returned. redis.conflict when that did not help.
--
--   redis:watch({ "stock" }, function(tx)
--     local left = tonumber(tx:get "stock") - 1
--     tx:multi(function(m) m:set("stock", left) end)
--     return left
--   end)
function Client:watch(keys, fn, options)
  return pipeline.watch(self, keys, fn, options)
end

--- redis:lua(source): a function f(keys, ...) that runs the script on the
-- server by its hash, and loads it again where the server forgot it. Within pipelines:
-- p:lua(f, keys, ...).
--
--   local take = redis:lua [[return redis.call("DECRBY", KEYS[1], ARGV[1])]]
--   take({ "stock" }, 3)
function Client:lua(source)
  return script.lua(self, source)
end

--- redis:functions(source): a library of Redis functions, loaded when first called
-- (and again where the server lost it): library.name(keys, ...) calls one;
-- library.read.name(keys, ...) one that has the flag no-writes.
function Client:functions(source)
  return script.functions(self, source)
end

--- redis:subscribe(channel, ..., { buffer = 10000 }): a subscription; see
-- neap.redis_pubsub. It keeps so many messages that nobody has asked for; then the
-- oldest make room, and an event says how many.
function Client:subscribe(...)
  return pubsub.open(self, false, ...)
end

--- redis:psubscribe(pattern, ...): a subscription to patterns.
function Client:psubscribe(...)
  return pubsub.open(self, true, ...)
end

--- for entry in redis:consume(stream, { group = "g", consumer = "c" }) do: see
-- neap.redis_stream.
Client.consume = require("neap.redis_stream").consume

-- scanning ------------------------------------------------------------------

-- scan_with returns an iterator over a SCAN-like command's elements, `step`
-- of them at a time (2: field and value).
local function scan_with(self, step, options, ...)
  local words, n = { ... }, select("#", ...)
  local rest = {}
  if options ~= nil and type(options) ~= "table" then
    error(("bad argument #%d (a table of options expected, got %s)"):format(n, type(options)), 2)
  end
  if n == 2 and type(words[2]) ~= "string" and type(words[2]) ~= "number" then
    error("bad argument #1 (a key expected, got " .. type(words[2]) .. ")", 2)
  end
  for name, value in pairs(options or {}) do
    if name ~= "match" and name ~= "count" and name ~= "type" then
      error("unknown option '" .. tostring(name) .. "' (match, count and type are known)", 2)
    end
    rest[#rest + 1] = name:upper()
    rest[#rest + 1] = tostring(value)
  end
  local cursor, page, at = "0", {}, 1
  local is_last = false
  return function()
    while not page[at] do
      if is_last then return nil end
      words[n + 1] = cursor
      local args = {}
      for i = 1, n + 1 do args[i] = words[i] end
      for i = 1, #rest do args[n + 1 + i] = rest[i] end
      local reply = call.plain(self, unpack(args))
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

--- redis:stats(): of the pool: created, in_use, idle, limit, waiting (calls that wait for a
-- connection); of the shared connection: pending (replies awaited), connected; of all:
-- sent, received (bytes), reconnects, timeouts, retries, slow (calls).
function Client:stats()
  local stats, state = core.stats(self), call.state(self)
  stats.waiting, stats.retries, stats.slow = state.waiting, state.retries, state.slow_calls
  return stats
end

local function log_event(event)
  log.info("redis: %s %s%s (task %s)", event.command,
    event.duration and ("%.3f ms, %d bytes sent, %d received"):format(event.duration * 1000,
      event.sent, event.received) or "failed",
    event.error and ": " .. tostring(event.error) or "", event.task)
end

--- redis:trace(fn, { values = true }): fn gets a table for each call that ends: command,
-- task (where it was spawned), request, duration (s), sent, received (bytes), error; with
-- values its args too. redis:trace(true) writes them to the log; false ends it.
function Client:trace(fn, options)
  local state = call.state(self)
  if fn == true then fn = log_event end
  if fn and type(fn) ~= "function" then
    error("bad argument #1 to 'trace' (function expected, got " .. type(fn) .. ")", 2)
  end
  if options ~= nil and type(options) ~= "table" then
    error("bad argument #2 to 'trace' (table expected, got " .. type(options) .. ")", 2)
  end
  for name in pairs(options or {}) do
    if name ~= "values" then
      error("unknown option '" .. tostring(name) .. "' (values is known)", 2)
    end
  end
  state.tracer = fn or nil
  state.has_values = options and options.values or false
  core.report_from(self, fn and 0 or state.slow)
end

-- with_check says so when the colon was forgotten.
local function with_check(name, method)
  return function(self, ...)
    if type(self) ~= "userdata" then
      error(("a Redis client expected, got %s (a colon calls a method: redis:%s(...))"):format(
        type(self), name), 2)
    end
    return method(self, ...)
  end
end
for name, method in pairs(Client) do Client[name] = with_check(name, method) end

core.client_class.__index = Client
core.client_class.__name = "redis client"
core.client_class.__tostring = function() return "redis client" end

--- redis.default: the URL that an embedding program gave, if it gave one.
M.default = nil
--- redis.open_clients: the clients that neap.redis has given out, by URL.
M.open_clients = {}

-- where the embedded server keeps its data: NEAP_DATA, or .neap beside the
-- script, or in the current folder
local function data_dir()
  local dir = os.getenv "NEAP_DATA"
  if dir and dir ~= "" then return dir end
  local script_name = arg and arg[0] or ""
  local beside = script_name:match("%.lua$") and script_name:match("^(.*/)") or ""
  return beside .. ".neap"
end

local function open(url, options)
  if url == "memory:" then return core.open(nil, options) end
  if url == "embedded:" then return core.open(nil, options, data_dir()) end
  return core.open(url, options)
end

local function default_url()
  if M.default then return M.default end
  local url = os.getenv "NEAP_REDIS_URL"
  if url and url ~= "" then return url end
  return os.getenv "NEAP_REDIS" == "memory" and "memory:" or "embedded:"
end

-- split_options takes the URL out of neap.redis { url = ..., timeout = 2 }
local function split_options(options)
  local rest, url = {}, nil
  for name, value in pairs(options) do
    if name == "url" then url = value else rest[name] = value end
  end
  if url == nil and rest.host then url = "redis://" end
  return url, rest
end

--- neap.redis(url, options): a client; the same URL gives the same client, options (by
-- the names that the URL's query has, and host, port) one of their own. Without a
-- URL that of NEAP_REDIS_URL, or else a private redis-server whose data live
-- in .neap/ beside the script (NEAP_REDIS=memory: a throw-away server, which is
-- also what neap.redis("memory:") asks for). It connects at the first command.
--
--   neap.redis "rediss://user:secret@db.example/2?timeout=2"
--   neap.redis { url = "rediss://db.example", password = secret, ca = "ca.pem" }
function M.open(url, options)
  if type(url) == "table" and options == nil then url, options = split_options(url) end
  if url ~= nil and type(url) ~= "string" then
    error("bad argument #1 to 'redis' (a URL expected, got " .. type(url) .. ")", 2)
  end
  if options ~= nil and type(options) ~= "table" then
    error("bad argument #2 to 'redis' (a table expected, got " .. type(options) .. ")", 2)
  end
  url = url or default_url()
  if options then return open(url, options) end
  local client = M.open_clients[url]
  if not client then
    client = open(url)
    M.open_clients[url] = client
  end
  return client
end

return M
