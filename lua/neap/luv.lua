-- luv: libuv's functions on the host's loop. Callbacks run as tasks; what
-- would run or end the loop itself is replaced.
local uv = require "neap.core.luv"
local task = require "neap.core.task"
local errors = require "neap.core.error"

local function refuse(name, instead)
  uv[name] = function()
    error("uv." .. name .. " would stop the host's loop: " .. instead, 2)
  end
end

--- uv.run(): the loop runs already; the task waits until nothing else is left.
function uv.run()
  local v, e = task.linger()
  if v == task.FAIL then error(e, 0) end
end

refuse("stop", "use neap.stop()")
refuse("loop_close", "it closes by itself at the end")
refuse("walk", "it would hand out the host's own handles")

--- neap.await(fn, ...): calls a luv function that takes a callback last, and
-- waits for it. Returns what the callback got behind its error; raises the
-- error (code "uv.ENOENT" and so on).
--
--   local stat = neap.await(uv.fs_stat, "/etc/hosts")
function uv.await(fn, ...)
  local queue = task.waitq "luv"
  local count, results
  local args, n = { ... }, select("#", ...)
  args[n + 1] = function(...)
    count, results = select("#", ...), { ... }
    queue:wake()
  end
  local request, err = fn(unpack(args, 1, n + 1))
  if not request and err then
    error(errors.new { code = "uv." .. (tostring(err):match("^[A-Z0-9_]+") or "error"),
      message = tostring(err) }, 2)
  end
  if not results then
    local v, e = queue:wait()
    if v == task.FAIL then
      pcall(uv.cancel, request)
      error(e, 0)
    end
  end
  if results[1] then
    local text = tostring(results[1])
    error(errors.new { code = "uv." .. (text:match("^[A-Z0-9_]+") or "error"), message = text }, 2)
  end
  return unpack(results, 2, count)
end

return uv
