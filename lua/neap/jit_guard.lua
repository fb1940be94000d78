-- jit_guard: drops machine code that LuaJIT has got wrong. Internal; loaded at the start.
--
-- LuaJIT 2.1.0-beta3, which Debian 12 has, cuts a pointer to 32 bits where a trace calls next()
-- or pairs() and their two results have to change registers
-- (https://github.com/LuaJIT/LuaJIT/issues/829, mended in April 2022): behind the call stands
-- an XCHG without REX.W. Such a trace is one of thousands, and kills the process.
local M = {}
local call_and_xchg = "\232....\146"
local flushes_most = 100

--- is_wrong(code): whether machine code has the fault, or happens to look so.
function M.is_wrong(code)
  return code:find(call_and_xchg) ~= nil
end

--- watch(): looks at each trace when it is made, before it runs. Flushing all of them is the
-- only way to drop one that others lead to; should that happen too often, nothing is
-- compiled any more.
function M.watch()
  local util = require "jit.util"
  local flushes = 0
  jit.attach(function(what, trace)
    if what ~= "stop" then return end
    local code = util.tracemc(trace)
    if code and M.is_wrong(code) then
      flushes = flushes + 1
      jit.flush()
      if flushes == flushes_most then jit.off() end
    end
  end, "trace")
end

-- note lets the host know whether the program wants the JIT, which it turns off for a while to end
-- a slice (host/core/probe.c). The last calls keep their caller's place.
local function note(switch, is_on)
  return function(fn, ...)
    if fn == nil then require("neap.core.monitor").set_jit(is_on) end
    return switch(fn, ...)
  end
end
jit.on, jit.off = note(jit.on, true), note(jit.off, false)

if jit.version:find "beta" then M.watch() end

return M
