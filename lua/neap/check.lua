-- check: `neap check FILE.lua...`: what can be found wrong without running a program. Internal.
--
-- Each file is compiled; its bytecode is searched for globals that nobody sets; then its top level
-- is gone through, so that models and routes are defined and so checked, but nothing waits,
-- listens, or touches files: where it would, the check of that file ends.
local jutil = require "jit.util"
local bit = require "bit"
local util = require "neap.core.util"
local core_task = require "neap.core.task"
local errors = require "neap.core.error"
local layout = require "neap.layout"

local usage = [=[
usage: neap check FILE.lua...

Compiles each file, looks for globals that are read and never set, and defines
its models and routes without Redis, servers, files or processes: the check of
a file ends where its top level first needs one of these. What else it does at
its top level it does. The status is 0, 1 if something is wrong, 2 if the
command line is.]=]

-- globals -------------------------------------------------------------------

local function opcode(source, pc)
  return bit.band(jutil.funcbc(loadstring(source), pc), 0xff)
end

local GGET, GSET = opcode("return x", 1), opcode("x = 1", 2)

-- walk calls fn(name, line, is_set) for each use of a global in a function and those in it.
local function walk(fn, visit)
  local pc = 1
  while true do
    local ins = jutil.funcbc(fn, pc)
    if not ins then break end
    local op = bit.band(ins, 0xff)
    if op == GGET or op == GSET then
      local name = jutil.funck(fn, -bit.rshift(ins, 16) - 1)
      visit(name, jutil.funcinfo(fn, pc).currentline, op == GSET)
    end
    pc = pc + 1
  end
  for i = -1, -1e6, -1 do
    local constant = jutil.funck(fn, i)
    if constant == nil then break end
    if type(constant) == "proto" then walk(constant, visit) end
  end
end
jit.off(walk)

local function undefined_globals(chunk, path)
  local set, uses, faults = {}, {}, {}
  walk(chunk, function(name, line, is_set)
    if is_set then set[name] = true else uses[#uses + 1] = { name, line } end
  end)
  for _, use in ipairs(uses) do
    local name, line = use[1], use[2]
    if not set[name] and rawget(_G, name) == nil then
      set[name] = true -- said once
      faults[#faults + 1] = ("%s:%d: global '%s' is read, but nothing sets it"):format(path, line,
        name)
    end
  end
  return faults
end

-- definitions ---------------------------------------------------------------

local Stop = {} -- the metatable of what ends a check

local function refuse(what)
  return function()
    error(setmetatable({ what = what }, Stop), 2)
  end
end

local servers_met = 0

local function stand_in()
  for _, name in ipairs { "open", "popen", "lines", "read", "tmpfile" } do
    rawset(io, name, refuse("io." .. name))
  end
  for _, name in ipairs { "execute", "exit", "remove", "rename", "tmpname" } do
    rawset(os, name, refuse("os." .. name))
  end
  rawset(io, "write", function() return io.stdout end)
  print = function() end
  local http, neap = require "neap.http", require "neap"
  getmetatable(http.app()).__index.listen = function()
    servers_met = servers_met + 1
    local server = setmetatable({}, { __index = function() return function() return 0 end end })
    server.url, server.port, server.host = "http://127.0.0.1:0", 0, "127.0.0.1"
    return server
  end
  rawset(neap, "console", function() return { close = function() end } end)
  rawset(neap, "stop", refuse "neap.stop")
end

local function count_routes()
  local router, count = getmetatable(require("neap.router").new()).__index, 0
  local add = router.add
  router.add = function(...)
    count = count + 1
    return add(...)
  end
  return function() return count end
end

-- define runs a chunk where nothing can wait: within a call that C made. Returns nil, or what
-- is wrong.
local function define(chunk, path)
  local problem
  local function on_error(e)
    if getmetatable(e) == Stop or errors.is_error(e, "task.cannot_wait") then return { e } end
    return { e, core_task.trace(e, 2) }
  end
  string.gsub("x", "x", function()
    local ok, found = xpcall(chunk, on_error)
    if not ok and found[2] then
      local text = tostring(found[1])
      if not text:find "^[^\n]-:%d+:" then
        local place = found[2]:match "\t([^\n]-:%d+)"
        text = (place or path) .. ": " .. text
      end
      problem = text
    end
  end)
  return problem
end

-- the command ---------------------------------------------------------------

local function check_file(path)
  local dir = path:match("^(.*/)") or "./"
  package.path = dir .. "?.lua;" .. dir .. "?/init.lua;" .. package.path
  local chunk, err = loadfile(path)
  if not chunk then return { err } end
  _G.arg = { [0] = path }
  local faults = undefined_globals(chunk, path)
  local problem = define(chunk, path)
  if problem then faults[#faults + 1] = problem end
  return faults
end

local function count_models()
  local model, count = package.loaded["neap.model"], 0
  for _ in pairs(model and model.defined or {}) do count = count + 1 end
  return count
end

return function(argv)
  if argv[2] == "--help" or argv[2] == "-h" then return print(usage) end
  if not argv[2] or argv[2]:sub(1, 1) == "-" then
    io.stderr:write("neap: check: ", argv[2] and "unknown option " .. argv[2]
      or "a file is missing", " (neap check --help)\n")
    return util.stop(2)
  end
  local say, routes, status = print, count_routes(), 0
  stand_in()
  for i = 2, #argv do
    local faults = check_file(argv[i])
    for _, fault in ipairs(faults) do io.stderr:write(fault, "\n") end
    if #faults > 0 then status = 1 end
  end
  for _, info in ipairs(require("neap.live").tasks(1e9)) do
    if info.state ~= "running" then info.task:cancel() end -- nothing that was spawned runs
  end
  if status == 0 then
    say(("%s: nothing wrong; %s, %s"):format(layout.plural(#argv - 1, "file"),
      layout.plural(count_models(), "model"), layout.plural(routes(), "route")))
  end
  util.stop(status)
end
