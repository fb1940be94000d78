-- live: what the host does just now: neap.stats, neap.tasks, neap.debug, neap.profile.
local core = require "neap.core.monitor"
local errors = require "neap.core.error"
local M = {}

-- stats ---------------------------------------------------------------------

local collections = 0

-- count_collections leaves something behind that each collection finds.
local function count_collections()
  debug.getmetatable(newproxy(true)).__gc = function()
    collections = collections + 1
    count_collections()
  end
end
count_collections()

local function redis_stats()
  local redis, stats = package.loaded["neap.redis"], {}
  for url, client in pairs(redis and redis.open_clients or {}) do
    stats[url:gsub("//[^@/]*@", "//")] = client:stats()
  end
  return stats
end
jit.off(redis_stats) -- LuaJIT 2.1.0-beta3 compiles pairs() wrong now and then: neap.jit_guard

local function http_stats()
  local http, stats = package.loaded["neap.http"], {}
  for server in pairs(http and http.open_servers or {}) do
    stats[server.url] = { connections = server:connections(), requests = server:requests() }
  end
  return stats
end
jit.off(http_stats)

--- neap.stats(): how the host is. uptime and busy (seconds); loop: turns, and the p50, p99 and
-- max of a turn's length (s) in the last one or two minutes, which is how long others had to
-- wait; slices (what a task runs between two waits): count, slow (logged by the watchdog),
-- longest (s, to 4 ms); tasks: live, ready, waiting, spawned, finished, failed, waits (how many
-- wait for what); memory: lua and resident (bytes), collections; redis: each client's stats by
-- URL; http: connections and requests by URL.
function M.stats()
  local loop = core.loop()
  local resident = require("neap.core.luv").resident_set_memory()
  return {
    uptime = loop.uptime, busy = loop.busy,
    loop = { turns = loop.turns, p50 = loop.p50, p99 = loop.p99, max = loop.max },
    slices = { count = loop.slices, slow = loop.slow, longest = loop.longest_slice },
    tasks = core.counts(),
    memory = { lua = collectgarbage "count" * 1024, resident = resident,
      collections = collections },
    redis = redis_stats(), http = http_stats(),
  }
end

-- tasks ---------------------------------------------------------------------

--- neap.tasks(limit): the tasks that have not ended, the oldest first, 1,000 at most unless
-- limit says otherwise. Of each: id, name, state, spawned_at, at (where it is, "file.lua:12"),
-- calls (what it called there), waits_for and waited (s), is_cancelled, request (a number),
-- task (its handle).
function M.tasks(limit)
  if limit ~= nil and type(limit) ~= "number" then
    error("bad argument #1 to 'tasks' (a number expected, got " .. type(limit) .. ")", 2)
  end
  return core.tasks(math.min(limit or 1000, 1e9))
end

--- neap.task(id): the handle of a live task by its number, of the running one without; or nil.
function M.task(id)
  if id == nil then return core.current() end
  for _, info in ipairs(core.tasks(1e9)) do
    if info.id == id then return info.task end
  end
end

-- debug ---------------------------------------------------------------------

local settings = { slow = 0, max_slice = 0, max_memory = 0, unjoined = false, repeats = false }

local known = { slow = "number", max_slice = "number", max_memory = "number",
  unjoined = "boolean", repeats = "boolean" }

--- neap.debug { slow = 0.1, max_slice = 10, unjoined = true, repeats = true }: what the host looks
-- out for; what is not named stays as it is. slow: a slice of so many seconds is logged with its
-- stack while it runs (0: none); max_slice: one of so many is ended with task.too_long (0: none);
-- max_memory: bytes that Lua may hold, a task that wants more fails (0: no limit);
-- unjoined: tasks that nobody joined are logged, a line each place; repeats: queries and loads
-- that a task makes again and again from one line (N+1) are. Returns what holds now.
function M.debug(options)
  for name, value in pairs(options or {}) do
    if not known[name] then
      error("debug: unknown option '" .. tostring(name) .. "'", 2)
    elseif type(value) ~= known[name] or value ~= value
      or known[name] == "number" and value < 0 then
      error(("debug: %s: %s expected"):format(name,
        name == "max_memory" and "bytes, 0 or more," or known[name] == "number"
        and "seconds, 0 or more," or "true or false"), 2)
    end
  end
  for name, value in pairs(options or {}) do settings[name] = value end
  if options then
    if settings.slow > 0 or settings.max_slice > 0 then
      if not core.watch(settings.slow, settings.max_slice) then
        error(errors.new { code = "debug.watched",
          message = "another instance in this process is watched" }, 2)
      end
    else
      core.unwatch()
    end
    if options.max_memory then core.limit_memory(settings.max_memory) end
    core.log_unjoined(settings.unjoined)
    if settings.repeats or package.loaded["neap.repeats"] then
      require("neap.repeats").watch(settings.repeats)
    end
  end
  local now = {}
  for name in pairs(known) do now[name] = settings[name] end
  return now
end

--- live.watch(): starts the watchdog, if it does not run; false if another instance in this process
-- is watched.
function M.watch()
  return core.watch(settings.slow, settings.max_slice)
end

-- profile -------------------------------------------------------------------

--- neap.profile(seconds, interval): samples for so long where Lua code spends its time, and
-- returns folded stacks (a line each, "main;parse 42", as flame graphs are made of) and how many
-- samples there were. interval is in seconds of processor time, 0.001 by default. While it lasts
-- other tasks run. neap.profile(fn) samples while fn runs. One at a time: else profile.busy.
function M.profile(what, interval)
  if type(what) ~= "number" and type(what) ~= "function" then
    error("bad argument #1 to 'profile' (seconds or a function expected, got " .. type(what)
      .. ")", 2)
  end
  if not M.watch() then
    error(errors.new { code = "debug.watched",
      message = "another instance in this process is watched, and has the profiler" }, 2)
  end
  if not core.profile_start(math.max(1, math.floor((interval or 0.001) * 1000))) then
    error(errors.new { code = "profile.busy", message = "a profile is being taken already" }, 2)
  end
  local ok, err = pcall(function()
    if type(what) == "number" then require("neap.task").sleep(what) else what() end
  end)
  local stacks, samples = core.profile_stop()
  if not ok then error(err, 0) end
  return stacks, samples
end

return M
