-- log: neap.log.info("paste %s", id) and its kin: debug, info, warn, error.
-- A line carries the request's id when a request is being served.
local util = require "neap.core.util"
local core = require "neap.core.task"
local M = {}

local function writer(level)
  return function(fmt, ...)
    if not util.log_enabled(level) then return end
    local text = fmt
    if select("#", ...) > 0 then
      local args, n = { ... }, select("#", ...)
      for i = 1, n do
        if type(args[i]) ~= "number" then args[i] = tostring(args[i]) end
      end
      text = fmt:format(unpack(args, 1, n))
    end
    local id = core.request_id()
    if id then text = "[" .. tostring(id) .. "] " .. tostring(text) end
    util.log(level, tostring(text))
  end
end

for _, level in ipairs { "debug", "info", "warn", "error" } do
  M[level] = writer(level)
end

--- neap.log.level(name): lines below that level are dropped ("info" at first).
M.level = util.log_level

return M
