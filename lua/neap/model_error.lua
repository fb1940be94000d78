-- model_error: how models and queries raise what is wrong. Internal.
local FAIL = require("neap.core.task").FAIL
local errors = require "neap.core.error"
local M = {}

--- check(...): passes on what a wait returned, or raises its failure.
function M.check(...)
  if (...) == FAIL then error((select(2, ...)), 0) end
  return ...
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

return M
