-- neap: what `require "neap"` returns. Parts are loaded when first touched.
local util = require "neap.core.util"
local task = require "neap.task"
local errors = require "neap.core.error"
local M = {}

for name, value in pairs(task) do M[name] = value end

--- neap.now(): seconds since 1970, with fractions.
M.now = util.now
--- neap.monotonic(): seconds from some start, for measuring.
M.monotonic = util.monotonic
--- neap.random_bytes(n): n bytes from the kernel's generator.
M.random_bytes = util.random_bytes
--- neap.token(n): 2n hexadecimal digits, from n random bytes (16 by default).
M.token = util.token
--- neap.is_error(value, code): whether it is an error object (of that code).
M.is_error = errors.is_error
--- neap.error { code = ..., message = ... }: an error object of your own.
M.error = errors.new
--- neap.stop(status): ends the process in order: servers, tasks, connections.
M.stop = util.stop

local function live(name)
  return function() return require("neap.live")[name] end
end

--- neap.json.encode(value, { sort = true, indent = 2 }): the value as JSON text. Raises json.encode
-- with the path of what has no JSON.
--- neap.json.decode(text): the value of JSON text; raises json.decode with the place. null is
-- neap.null.
--- neap.json.array(list): marks a list, so that it is an array even when it is empty.
--- neap.log.info(format, ...): writes a line to the log, with what string.format makes of it. Its
-- kin: neap.log.debug, neap.log.warn, neap.log.error.
--- neap.log.debug(format, ...): see neap.log.info.
--- neap.log.warn(format, ...): see neap.log.info.
--- neap.log.error(format, ...): see neap.log.info.

local lazy = {
  stats = live "stats", tasks = live "tasks", task = live "task", debug = live "debug",
  profile = live "profile",
  inspect = function() return require("neap.inspect").inspect end,
  console = function() return require("neap.console").open end,
  log = function() return require "neap.log" end,
  json = function() return require "neap.core.json" end,
  null = function() return require("neap.core.json").null end,
  await = function() return require("neap.luv").await end,
  redis = function() return require("neap.redis").open end,
  model = function() return require "neap.model" end,
  field = function() return require("neap.model").field end,
}

return setmetatable(M, {
  __index = function(t, key)
    if key == "lazy_names" then return lazy end -- for completion
    local load_part = lazy[key]
    if not load_part then return nil end
    local value = load_part()
    rawset(t, key, value)
    return value
  end,
})
