-- task: the sugar over the host's tasks. Everything here is reached as
-- neap.spawn, neap.sleep and so on.
local core = require "neap.core.task"
local monitor = require "neap.core.monitor"
local errors = require "neap.core.error"
local monotonic = require("neap.core.util").monotonic
local check = require("neap.wait").check_all
local array = require("neap.core.json").array -- an empty list stays one in JSON
local FAIL = core.FAIL
local M = {}

local function check_function(fn, arg, name)
  if type(fn) ~= "function" then
    error(("bad argument #%d to '%s' (function expected, got %s)"):format(arg, name, type(fn)), 3)
  end
end

local function check_list(list, arg, name)
  if type(list) ~= "table" then
    error(("bad argument #%d to '%s' (list expected, got %s)"):format(arg, name, type(list)), 3)
  end
end

-- tasks ---------------------------------------------------------------------

local Task = core.methods
local join = core.join -- returns FAIL and the error instead of raising it

--- neap.spawn(fn, ...): starts a task that calls fn(...); returns its handle.
-- A failure that nobody joins is logged when the handle is collected.
M.spawn = core.spawn

--- task:cancel(): makes the wait that the task is in, and each later one, raise "cancelled".
-- Returns at once.
--- task:status(): "ready", "running" or "waiting"; then "done", "failed" or "cancelled".

--- task:join(): waits for the task's end; its results, or its error raised.
function Task:join()
  return check(join(self))
end

--- task:name(text): gives it a name for those who look at neap.tasks(), and returns the task;
-- without text, its name or nil.
function Task:name(text)
  if text == nil then return monitor.name(self) end
  monitor.name(self, text)
  return self
end

--- task:info(): what neap.tasks() says of it.
function Task:info()
  return monitor.info(self)
end

--- task:traceback(): where it is, as text; "" if it has not begun or has ended.
function Task:traceback()
  return monitor.traceback(self)
end

--- neap.sleep(seconds): lets others run for that long; 0 gives way once.
function M.sleep(seconds)
  local v, e = core.sleep(seconds)
  if v == FAIL then error(e, 0) end
end

local function end_timeout(scope, ok, ...)
  local expired, err = core.close_scope(scope)
  if expired then error(err, 0) end
  if not ok then error((...), 0) end
  return ...
end

--- neap.timeout(seconds, fn, ...): fn(...), but every wait in it ends with an
-- error of code "timeout" when the time is up.
function M.timeout(seconds, fn, ...)
  check_function(fn, 2, "timeout")
  local scope = core.scope(seconds)
  return end_timeout(scope, pcall(fn, ...))
end

local function end_shield(ok, ...)
  core.shield(-1)
  if not ok then error((...), 0) end
  return ...
end

--- neap.shield(fn, ...): fn(...), with cancellation and outer deadlines held
-- back until it returns: for cleanup that has to wait.
function M.shield(fn, ...)
  check_function(fn, 1, "shield")
  core.shield(1)
  return end_shield(pcall(fn, ...))
end

-- groups --------------------------------------------------------------------

--- neap.all { fn, ... }: runs them at once; the list of their first results.
-- The first failure cancels the others and is raised.
function M.all(list)
  check_list(list, 1, "all")
  local n = #list
  for i = 1, n do check_function(list[i], 1, "all") end
  if n == 0 then return array {} end
  return check(core.group(false, list, nil, n, n))
end

--- neap.race { fn, ... }: the results of whoever ends first; the others are
-- cancelled, and have ended when it returns.
function M.race(list)
  check_list(list, 1, "race")
  local n = #list
  if n == 0 then error("bad argument #1 to 'race' (an empty list never ends)", 2) end
  for i = 1, n do check_function(list[i], 1, "race") end
  return check(core.group(true, list, nil, n, n))
end

--- neap.map(fn, list, { concurrency = n }): the list of fn(item, index), all
-- at once or n at a time. The first failure cancels the others.
function M.map(fn, list, options)
  check_function(fn, 1, "map")
  check_list(list, 2, "map")
  local n = #list
  local limit = options and options.concurrency or n
  if type(limit) ~= "number" or limit < 1 and n > 0 then
    error("bad argument #3 to 'map' (concurrency: a number from 1 expected)", 2)
  end
  if n == 0 then return array {} end
  return check(core.group(false, fn, list, n, math.min(limit, n)))
end

local over = { done = true, failed = true, cancelled = true }

-- join_each waits for the end of tasks, however they end; more may be added
-- meanwhile. It raises only what ended its own wait.
local function join_each(tasks)
  local i = 1
  while tasks[i] do
    local v, e = join(tasks[i])
    if v == FAIL and not over[tasks[i]:status()] then error(e, 0) end
    i = i + 1
  end
end

--- neap.scope(fn): fn(scope); scope:spawn(f, ...) starts tasks that never
-- outlive it: they are joined at its end. When fn or one of them fails, all
-- the others are cancelled; a task that was cancelled by its handle is no
-- failure. Returns what fn returned.
function M.scope(fn)
  check_function(fn, 1, "scope")
  local tasks, failure, is_over = {}, nil, false
  local deadline = core.scope() -- none; it is how a child ends fn's waits
  local function fail(err)
    if failure then return end
    failure = { err }
    core.expire(deadline)
    for i = 1, #tasks do tasks[i]:cancel() end
  end
  local function end_child(ok, ...)
    if ok then return ... end
    local err = ...
    if not errors.is_error(err, "cancelled") or pcall(core.check) then fail(err) end
    error(err, 0)
  end
  local function run(f, ...)
    return end_child(pcall(f, ...))
  end
  local scope = {}
  function scope.spawn(_, f, ...)
    check_function(f, 1, "spawn")
    if is_over then error("the scope has ended", 2) end
    local t = M.spawn(run, f, ...)
    tasks[#tasks + 1] = t
    if failure then t:cancel() end
    return t
  end
  local results = { n = 0 }
  local function keep(ok, ...)
    if ok then results = { n = select("#", ...), ... } else fail((...)) end
  end
  keep(pcall(fn, scope))
  core.close_scope(deadline)
  if not failure then
    local ok, err = pcall(join_each, tasks)
    if not ok then fail(err) end
  end
  if failure then M.shield(join_each, tasks) end
  is_over = true
  if failure then error(failure[1], 0) end
  return unpack(results, 1, results.n)
end

-- pool ----------------------------------------------------------------------

local Pool = {}
Pool.__index = Pool

--- neap.pool(size): at most `size` tasks at once. pool:spawn waits for room.
function M.pool(size)
  if type(size) ~= "number" or size < 1 then
    error("bad argument #1 to 'pool' (a size from 1 expected)", 2)
  end
  return setmetatable({ size = size, running = 0, room = core.waitq "pool",
    empty = core.waitq "pool" }, Pool)
end

local function leave(pool, ok, ...)
  if not pool.room:wake() then -- the place passes on, or is free
    pool.running = pool.running - 1
    if pool.running == 0 then
      while pool.empty:wake() do end
    end
  end
  if not ok then error((...), 0) end
  return ...
end

local function start(fn, ...)
  core.check() -- it may have been cancelled before
  return fn(...)
end

local function run_in(pool, fn, ...)
  return leave(pool, pcall(start, fn, ...))
end

--- pool:spawn(fn, ...): a task, started when there is room.
function Pool:spawn(fn, ...)
  check_function(fn, 1, "spawn")
  if self.running < self.size then
    self.running = self.running + 1
  else
    check(self.room:wait())
  end
  return core.spawn_always(run_in, self, fn, ...)
end

--- pool:map(fn, list): as neap.map, within the pool's size.
function Pool:map(fn, list)
  return M.map(fn, list, { concurrency = self.size })
end

--- pool:join(): waits until no task of the pool is left.
function Pool:join()
  while self.running > 0 do check(self.empty:wait()) end
end

-- every ---------------------------------------------------------------------

local Ticker = {}
Ticker.__index = Ticker

--- neap.every(seconds, fn): calls fn each so often until ticker:stop(). Ticks
-- never overlap, missed ones are left out, an error is logged.
function M.every(seconds, fn)
  check_function(fn, 2, "every")
  if type(seconds) ~= "number" or seconds <= 0 then
    error("bad argument #1 to 'every' (seconds above 0 expected)", 2)
  end
  local ticker = setmetatable({}, Ticker)
  local log = require "neap.log"
  ticker.task = M.spawn(function()
    local due = monotonic()
    while not ticker.is_stopped do
      due = due + seconds
      local now = monotonic()
      if due < now then due = now + seconds - (now - due) % seconds end
      ticker.is_between = true
      M.sleep(due - now)
      ticker.is_between = false
      if ticker.is_stopped then break end
      local ok, err = xpcall(fn, function(e)
        if errors.is_error(e, "cancelled") then return e end
        return tostring(e) .. "\n" .. core.trace(e, 2)
      end)
      if not ok then
        if errors.is_error(err, "cancelled") then error(err, 0) end
        log.error("a tick failed: %s", err)
      end
    end
  end)
  return ticker
end

--- ticker:stop(): no tick starts any more; one that runs is not disturbed.
function Ticker:stop()
  self.is_stopped = true
  if self.is_between then self.task:cancel() end
end

-- channel, semaphore, event -------------------------------------------------

local Channel = {}
Channel.__index = Channel
local NIL = {} -- stands for a nil in transit

--- neap.channel(capacity): values from task to task, in order; 0 (the
-- default) hands over directly.
function M.channel(capacity)
  capacity = capacity or 0
  if type(capacity) ~= "number" or capacity < 0 then
    error("bad argument #1 to 'channel' (a capacity from 0 expected)", 2)
  end
  return setmetatable({
    capacity = capacity, first = 1, count = 0, items = {},
    offers = {}, first_offer = 1, last_offer = 0, -- capacity 0: who sends what
    receivers = core.waitq "channel", senders = core.waitq "channel",
  }, Channel)
end

local function closed_error()
  return errors.new { code = "channel.closed", message = "the channel is closed" }
end

-- offer leaves the value where a receiver finds it, and waits for that; false
-- if the channel was closed. Each has a queue of its own, as one that is
-- cancelled must not answer for another.
local function offer(self, value)
  local queue = core.waitq "channel"
  self.last_offer = self.last_offer + 1
  self.offers[self.last_offer] = { value = value, queue = queue }
  return check(queue:wait())
end

-- next_offer settles the oldest offer whose task still waits.
local function next_offer(self, is_taken)
  while self.first_offer <= self.last_offer do
    local o = self.offers[self.first_offer]
    self.offers[self.first_offer] = nil
    self.first_offer = self.first_offer + 1
    if o.queue:wake(is_taken) then return o.value end
  end
end

--- channel:send(value): waits while the channel is full; an error of code
-- "channel.closed" if it is closed.
function Channel:send(value)
  if self.is_closed then error(closed_error(), 2) end
  if value == nil then value = NIL end
  if self.receivers:wake(value) then return end
  if self.capacity == 0 then
    if not offer(self, value) then error(closed_error(), 2) end
    return
  end
  while self.count >= self.capacity do
    check(self.senders:wait())
    if self.is_closed then error(closed_error(), 2) end
    if self.receivers:wake(value) then return end
  end
  self.items[self.first + self.count] = value
  self.count = self.count + 1
end

--- channel:receive(): the next value, waiting for it; nil, "closed" when the
-- channel is closed and empty.
function Channel:receive()
  local value
  if self.count > 0 then
    value = self.items[self.first]
    self.items[self.first] = nil
    self.first, self.count = self.first + 1, self.count - 1
    self.senders:wake()
  else
    value = next_offer(self, true)
    if value == nil then
      if self.is_closed then return nil, "closed" end
      self.senders:wake() -- one that found the buffer full finds us instead
      value = check(self.receivers:wait())
      if value == nil then return nil, "closed" end
    end
  end
  if value == NIL then return nil end
  return value
end

--- channel:close(): receivers get what is left, then nil, "closed".
function Channel:close()
  self.is_closed = true
  while self.receivers:wake() do end
  while self.senders:wake() do end
  while next_offer(self, false) do end
end

--- for value in channel:each() do ... end, until it is closed.
function Channel:each()
  return function() return (self:receive()) end
end

local Semaphore = {}
Semaphore.__index = Semaphore

--- neap.semaphore(n): n permits; acquire waits for one, in order.
function M.semaphore(permits)
  if type(permits) ~= "number" or permits < 0 then
    error("bad argument #1 to 'semaphore' (a number of permits expected)", 2)
  end
  return setmetatable({ permits = permits, queue = core.waitq "semaphore" }, Semaphore)
end

--- semaphore:acquire(): takes a permit, waiting for it.
function Semaphore:acquire()
  if self.permits > 0 then
    self.permits = self.permits - 1
  else
    check(self.queue:wait())
  end
end

--- semaphore:release(): gives a permit to who waited longest, or back.
function Semaphore:release()
  if not self.queue:wake() then
    self.permits = self.permits + 1
  end
end

local function end_with(self, ok, ...)
  self:release()
  if not ok then error((...), 0) end
  return ...
end

--- semaphore:with(fn, ...): fn(...) while holding a permit.
function Semaphore:with(fn, ...)
  self:acquire()
  return end_with(self, pcall(fn, ...))
end

local Event = {}
Event.__index = Event

--- neap.event(): a flag to wait for; set wakes all, and stays set.
function M.event()
  return setmetatable({ is_set = false, queue = core.waitq "event" }, Event)
end

--- event:set(): wakes all who wait; who comes later does not wait.
function Event:set()
  self.is_set = true
  while self.queue:wake() do end
end

--- event:clear(): from now on wait waits again.
function Event:clear()
  self.is_set = false
end

--- event:wait(): returns at once when the event is set.
function Event:wait()
  if not self.is_set then check(self.queue:wait()) end
end

-- context -------------------------------------------------------------------

--- neap.context: a table local to the task; tasks it spawns start with what
-- it held.
M.context = setmetatable({}, {
  __index = function(_, key)
    if key == "request_id" then return core.request_id() end
    local t = core.context()
    return t and t[key]
  end,
  __newindex = function(_, key, value)
    local copy = {} -- children may share the old one
    for k, v in pairs(core.context() or {}) do copy[k] = v end
    copy[key] = value
    core.set_context(copy)
  end,
})

return M
