-- redis_script: redis:lua and redis:functions: code that runs on the server.
local core = require "neap.core.redis"
local errors = require "neap.core.error"
local call = require "neap.redis_call"
local sources = require("neap.redis_pipeline").sources
local M = {}

local function check_keys(keys)
  keys = keys or {}
  if type(keys) ~= "table" then error("bad argument #1 (a list of keys expected)", 3) end
  return keys
end

-- run calls EVALSHA; where the server does not know the script, EVAL.
local function run(client, source, keys, ...)
  for i = 1, select("#", ...) do
    if select(i, ...) == nil then error(("argument #%d of the script is nil"):format(i), 2) end
  end
  source.sha = source.sha or call.plain(client, "SCRIPT", "LOAD", source.text)
  local ok, v = pcall(call.plain, client, "EVALSHA", source.sha, #keys, keys, ...)
  if ok then return v end
  if not errors.is_error(v, "redis.noscript") then error(v, 0) end
  return call.plain(client, "EVAL", source.text, #keys, keys, ...)
end

--- redis_script.lua(client, text): redis:lua.
function M.lua(client, text)
  if type(text) ~= "string" then
    error("bad argument #1 to 'lua' (a script's source expected)", 2)
  end
  core.settings(client) -- it has to be open
  local source = { text = text }
  local function script(keys, ...)
    return run(client, source, check_keys(keys), ...)
  end
  sources[script] = source
  return script
end

-- functions -----------------------------------------------------------------

local Library = {}

-- load has the library on the server; one of the same name is replaced.
local function load(self)
  call.plain(self.client, "FUNCTION", "LOAD", "REPLACE", self.text)
  self.is_loaded = true
end

local function is_unknown(e)
  return errors.is_error(e, "redis.err") and e.message:find("Function not found", 1, true)
end

local function call_function(self, command, name, keys, ...)
  if not self.is_loaded then load(self) end
  local ok, v = pcall(call.plain, self.client, command, name, #keys, keys, ...)
  if ok then return v end
  if not is_unknown(v) then error(v, 0) end
  load(self) -- FUNCTION FLUSH, or another server
  return call.plain(self.client, command, name, #keys, keys, ...)
end

-- library.name(keys, ...) calls a function; library.read.name(keys, ...) one that
-- is declared with the flag no-writes, and may be sent again if its reply is lost.
local function callables(self, command)
  return setmetatable({}, { __index = function(t, name)
    if type(name) ~= "string" then return nil end
    local fn = function(keys, ...)
      return call_function(self, command, name, check_keys(keys), ...)
    end
    rawset(t, name, fn)
    return fn
  end })
end

--- redis_script.functions(client, text): redis:functions.
function M.functions(client, text)
  local name = type(text) == "string" and text:match "^#!lua%s+name=([%w_]+)"
  if not name then
    error("bad argument #1 to 'functions' (a library's source expected, that begins with "
      .. "#!lua name=...)", 2)
  end
  core.settings(client)
  local self = setmetatable({ client = client, text = text, name = name }, Library)
  local library = callables(self, "FCALL")
  rawset(library, "read", callables(self, "FCALL_RO"))
  return library
end

return M
