-- boot: makes the standard library fit for waiting. It runs once, before any
-- user code: require, dofile and print become Lua (so that what they call may
-- wait), and coroutines pass the host's suspension outward.
local util = ...
local raw_require = require

-- the modules in the binary come first for neap itself, last for all others
local function find_embedded(name)
  return util.module(name) or ("\n\tno module '" .. name .. "' in the binary")
end
table.insert(package.loaders, find_embedded)
for _, name in ipairs { "neap", "luv" } do
  package.preload[name] = function()
    local loader = name == "luv" and function() return raw_require("neap.luv") end
      or util.module(name)
    return loader(name)
  end
end
package.preload.uv = package.preload.luv

util.module("neap.jit_guard")("neap.jit_guard")

local task = raw_require("neap.core.task")
raw_require("neap.core.error") -- its metatable is that of all error objects
local FAIL, SUSPEND = task.FAIL, task.SUSPEND

-- coroutines ----------------------------------------------------------------

local raw_resume, raw_yield = coroutine.resume, coroutine.yield
local create, status, running = coroutine.create, coroutine.status, coroutine.running
local isyieldable = coroutine.isyieldable
local parked = setmetatable({}, { __mode = "k" }) -- coroutines whose task waits

local pass

-- hand_out suspends the task on behalf of a coroutine inside it
local function hand_out(co)
  if not isyieldable() then
    return pass(co, raw_resume(co, FAIL, task.unpark()))
  end
  parked[co] = true
  local function back(...)
    parked[co] = nil
    return pass(co, raw_resume(co, ...))
  end
  return back(raw_yield(SUSPEND))
end

function pass(co, ok, first, ...)
  if first == SUSPEND and ok then
    return hand_out(co)
  end
  return ok, first, ...
end

local function resume(co, ...)
  if parked[co] then
    return false, "cannot resume a coroutine that waits"
  end
  return pass(co, raw_resume(co, ...))
end
coroutine.resume = resume
coroutine.yield = task.yield

local function unwrap(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

function coroutine.wrap(fn)
  local co = create(fn)
  return function(...) return unwrap(resume(co, ...)) end
end

function coroutine.status(co)
  return parked[co] and "normal" or status(co)
end

-- require, dofile, print ----------------------------------------------------

local loaded, loading = package.loaded, {}
local wanted = {} -- what a coroutine waits for, by coroutine

local function load_module(name)
  local tried = {}
  for _, find in ipairs(package.loaders) do
    local ok, loader = pcall(find, name)
    if not ok then error(loader, 3) end
    if type(loader) == "function" then
      return loader
    elseif type(loader) == "string" then
      tried[#tried + 1] = loader
    end
  end
  error("module '" .. name .. "' not found:" .. table.concat(tried), 3)
end

-- is_loop: whether who loads that module waits, in the end, for us.
local function is_loop(name)
  local entry, me = loading[name], running()
  while entry do
    if entry.by == me then return true end
    entry = loading[wanted[entry.by]]
  end
  return false
end

local function wait_for(name)
  if is_loop(name) then
    error("loop or previous error loading module '" .. name .. "'", 3)
  end
  local entry, me = loading[name], running()
  while loading[name] == entry do
    wanted[me] = name
    local v, e = entry.queue:wait()
    wanted[me] = nil
    if v == FAIL then error(e, 0) end
  end
end

--- require(name): as Lua's, but the module's chunk may wait.
function require(name)
  if type(name) == "number" then name = tostring(name) end
  if type(name) ~= "string" then
    error("bad argument #1 to 'require' (string expected, got " .. type(name) .. ")", 2)
  end
  if loading[name] then wait_for(name) end
  local value = loaded[name]
  if value ~= nil then return value end
  local loader = load_module(name)
  local entry = { by = running(), queue = task.waitq "module" }
  loading[name] = entry
  local ok, result = pcall(loader, name)
  loading[name] = nil
  while entry.queue:wake() do end
  if not ok then error(result, 0) end
  if result ~= nil then
    loaded[name] = result
  elseif loaded[name] == nil then
    loaded[name] = true
  end
  return loaded[name]
end

--- dofile(path): as Lua's, but the chunk may wait.
function dofile(path)
  local chunk, err = loadfile(path)
  if not chunk then error(err, 2) end
  return chunk()
end

io.stdout:setvbuf("line") -- whoever reads a service's output sees it at once

--- print(...): as Lua's, but __tostring may wait. What a line of a console prints goes there.
function print(...)
  local out, n = { ... }, select("#", ...)
  for i = 1, n do out[i] = tostring(out[i]) end
  local text = table.concat(out, "\t", 1, n) .. "\n"
  local context = task.context()
  local output = context and context[task.OUTPUT]
  if output and output(text) then return end
  if task.print then task.print(text) else io.stdout:write(text) end
end
