-- wait: what functions in C that waited have returned: their values, or the sentinel FAIL and what
-- they failed with, which is raised at the caller. Internal.
local FAIL = require("neap.core.task").FAIL
local M = {}

--- wait.check(a, b): passes two values on, or raises.
function M.check(a, b)
  if a == FAIL then error(b, 0) end
  return a, b
end

--- wait.check_all(...): any number of values. It is not compiled: LuaJIT 2.1.0-beta3 mixes up the
-- places of (...) and select(2, ...).
function M.check_all(...)
  if (...) == FAIL then error((select(2, ...)), 0) end
  return ...
end
jit.off(M.check_all)

return M
