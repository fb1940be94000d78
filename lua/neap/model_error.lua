-- model_error: how models and queries raise what is wrong. Internal.
local FAIL = require("neap.core.task").FAIL
local errors = require "neap.core.error"
local M = {}

--- check(a, b): passes on what a wait returned, or raises its failure.
M.check = require("neap.wait").check

--- read(fn, ...): what fn returns, which only reads: when the connection was lost
-- before the reply came, it is asked again.
function M.read(fn, ...)
  local v, e = fn(...)
  for _ = 1, 3 do
    if v ~= FAIL or not errors.is_error(e, "redis.unknown_outcome") then break end
    v, e = fn(...)
  end
  if v == FAIL then error(e, 0) end
  return v, e
end

--- fail(code, fmt, ...): raises an error object.
function M.fail(code, fmt, ...)
  error(errors.new { code = code, message = fmt:format(...) }, 0)
end

--- invalid(model, name, wrong): raises model.invalid for one field.
function M.invalid(model, name, wrong)
  local message = ("model %s: %s: %s"):format(model.name, name, wrong)
  error(errors.new { code = "model.invalid", message = message, model = model.name,
    fields = { [name] = wrong } }, 0)
end

--- unknown(model, name): raises model.invalid for a field that there is not.
function M.unknown(model, name)
  name = tostring(name)
  local message = ("model %s: there is no field '%s'"):format(model.name, name)
  error(errors.new { code = "model.invalid", message = message, model = model.name,
    fields = { [name] = "there is no such field" } }, 0)
end

--- is(e, code): whether e is an error of that code.
M.is = errors.is_error

return M
