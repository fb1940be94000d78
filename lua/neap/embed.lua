-- embed: what neap.h needs of Lua. Internal.
local core = require "neap.core.task"
local wait = require "neap.wait"
local M = {}

-- waiting wraps a C function that may wait: a task that is cancelled, or out of time, does not
-- come so far.
local function waiting(fn)
  return function(...)
    wait.check(core.checkpoint())
    return wait.check_all(fn(...))
  end
end

--- embed.register(name, functions): makes the functions of a table callable as name.function.
function M.register(name, functions)
  local t = {}
  for key, fn in pairs(functions) do t[key] = waiting(fn) end
  _G[name], package.loaded[name] = t, t
end

--- embed.set_up(print, redis_url): what the options of an instance say.
function M.set_up(output, redis_url)
  if output then core.print = output end
  if redis_url then require("neap.redis").default = redis_url end
end

--- embed.client(): the client that C's commands go through; and the commands that must not: why, by
-- name.
function M.client()
  local command = require "neap.redis_command"
  local refused = {}
  for name, why in pairs(command.refused) do refused[name] = why end
  for name in pairs(command.blocking) do
    refused[name] = "it would hold up all others; in Lua it has a connection of its own"
  end
  return require("neap.redis").open(), refused
end

return M
