-- process: child processes for specs, on the loop.
--
--   local process = require "support.process"
--   local r = process.neap { "-e", "print(1)" }   -- r.status, r.signal, r.out, r.err
--   local child = process.start(path, args, { env = { A = "1" }, cwd = dir })
--   child:wait_for("ready")   child:kill("sigterm")   child:wait()
local neap = require "neap"
local uv = require "luv"
local M = {}

local Child = {}
Child.__index = Child

local function environment(extra)
  local env, list = uv.os_environ(), {}
  env.NEAP_SLOW = "20000" -- a busy machine is no news; specs of the watchdog say --slow
  for name, value in pairs(extra or {}) do env[name] = value end
  for name, value in pairs(env) do
    if value ~= false then list[#list + 1] = name .. "=" .. value end
  end
  return list
end

-- collect reads a pipe to its end into child[name].
local function collect(child, name, pipe)
  local parts = {}
  child[name] = ""
  pipe:read_start(function(err, data)
    if data and not err then
      parts[#parts + 1] = data
      child[name] = table.concat(parts)
      child.news:set()
    else
      pipe:close()
      child.open = child.open - 1
      child.news:set()
    end
  end)
end

--- start(path, args, options): a running child. Options: env (false unsets a
-- variable), cwd, input (what it reads), is_open (its input does not end: child.stdin).
function M.start(path, args, options)
  options = options or {}
  local child = setmetatable({ open = 2, news = neap.event() }, Child)
  local stdin, stdout, stderr = uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false)
  child.handle, child.pid = uv.spawn(path, {
    args = args, stdio = { stdin, stdout, stderr }, cwd = options.cwd,
    env = environment(options.env),
  }, function(status, signal)
    child.status, child.signal = status, signal
    child.handle:close()
    child.news:set()
  end)
  assert(child.handle, child.pid)
  collect(child, "out", stdout)
  collect(child, "err", stderr)
  if options.input then stdin:write(options.input) end
  if options.is_open then
    child.stdin = stdin -- the caller closes it
  else
    stdin:shutdown(function() stdin:close() end)
  end
  return child
end

function Child:kill(signal)
  if not self.status then self.handle:kill(signal or "sigkill") end
end

-- wait_until waits for news until fn() is true.
local function wait_until(child, fn)
  while not fn() do
    child.news:clear()
    child.news:wait()
  end
end

--- child:wait_for(text): until it stands in what the child wrote.
function Child:wait_for(text)
  wait_until(self, function()
    return self.out:find(text, 1, true) or self.err:find(text, 1, true) or self.status
  end)
  if not (self.out:find(text, 1, true) or self.err:find(text, 1, true)) then
    error(("the child ended with %s before it wrote %q: %s%s"):format(tostring(self.status),
      text, self.out, self.err), 2)
  end
end

--- child:wait(): until it has ended and its output was read; returns itself.
function Child:wait(seconds)
  local ok, err = pcall(neap.timeout, seconds or 30, wait_until, self, function()
    return self.status and self.open == 0
  end)
  if not ok then
    self:kill()
    error(("%s; so far it wrote: %s%s"):format(tostring(err), self.out, self.err), 2)
  end
  return self
end

--- neap(args, options): runs this very binary to its end.
function M.neap(args, options)
  return M.start(uv.exepath(), args, options):wait()
end

--- lua(source, options): the same with -e.
function M.lua(source, options)
  return M.neap({ "-e", source }, options)
end

--- temp_dir(): a new folder; remove(dir) deletes it with all in it.
function M.temp_dir()
  local tmp = os.getenv "TMPDIR" or "/tmp"
  return assert(uv.fs_mkdtemp(tmp .. "/neap-spec-XXXXXX"))
end

function M.remove(dir)
  assert(dir:find("neap%-spec%-"))
  M.start("/bin/rm", { "-rf", dir }):wait()
end

function M.write(path, text)
  local f = assert(io.open(path, "w"))
  f:write(text)
  f:close()
end

return M
