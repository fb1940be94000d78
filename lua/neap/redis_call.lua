-- redis_call: what lies around a call that C makes: waiting for room, trying again
-- where that helps, reporting what it cost. Internal.
local core = require "neap.core.redis"
local task = require "neap.task"
local core_task = require "neap.core.task"
local errors = require "neap.core.error"
local log = require "neap.log"
local monotonic = require("neap.core.util").monotonic
local reads = require("neap.redis_command").reads
local blocking = require("neap.redis_command").blocking
local FAIL, AGAIN = core_task.FAIL, core.AGAIN
local M = {}

local states = setmetatable({}, { __mode = "k" })

--- redis_call.state(client): what is kept beside a client: its settings, room (a
-- semaphore of the pool), waiting, retries, tracer.
function M.state(client)
  local state = states[client]
  if not state then
    local settings = core.settings(client)
    state = { settings = settings, slow = settings.slow, waiting = 0, retries = 0,
      slow_calls = 0, told = 0, told_since = 0,
      room = task.semaphore(settings.limit), tracing = setmetatable({}, { __mode = "k" }) }
    states[client] = state
  end
  return state
end

-- call_tracer: what it does wrong harms no call, and its own calls are not traced.
local function call_tracer(state, tracer, event)
  local thread = coroutine.running()
  if state.tracing[thread] then return end
  state.tracing[thread] = true
  local ok, err = pcall(tracer, event)
  state.tracing[thread] = nil
  if not ok then log.error("redis: the tracer failed: %s", tostring(err)) end
end

local told_most, told_period = 10, 1 -- slow calls in the log, in so many seconds

-- log_slow logs a slow call, unless there were many just now: when a server stalls all
-- that wait for it are slow.
local function log_slow(state, name, took, sent, received)
  state.slow_calls = state.slow_calls + 1
  if monotonic() - state.told_since >= told_period then
    state.told, state.told_since = 0, monotonic()
  end
  state.told = state.told + 1
  if state.told <= told_most then
    log.warn("redis: %s took %.3f s (%d bytes sent, %d received, task %s)", name, took, sent,
      received, core_task.site())
  elseif state.told == told_most + 1 then
    log.warn("redis: more calls are slow; redis:stats().slow counts them")
  end
end

-- report tells of a call: to the tracer, and in the log if it was slow.
local function report(client, name, failure, took, sent, received, ...)
  local state = M.state(client)
  local tracer = state.tracer
  if tracer then
    local event = { command = name, task = core_task.site(), request = core_task.request_id(),
      duration = took, sent = sent, received = received, error = failure }
    if state.has_values then event.args = { n = select("#", ...), ... } end
    call_tracer(state, tracer, event)
  end
  if state.slow and took and took >= state.slow and not blocking[name] then
    log_slow(state, name, took, sent, received)
  end
end

local first_delay, longest_delay = 0.05, 0.5
local quick_tries = 3
local renew_every = 0.5

-- may_retry says whether to call again, after having waited as long as it should.
local function may_retry(client, name, e, tries)
  local code = e.code
  if code == "redis.unknown_outcome" then
    return reads[name] and tries.count <= quick_tries
  end
  local state = M.state(client)
  if e.phase ~= "reply" then return false end
  local is_readonly = code == "redis.readonly"
  if not is_readonly and code ~= "redis.loading" then return false end
  if is_readonly then
    -- the server was made a replica: its name, or a sentinel, may lead to another
    -- (and one call's word is enough for all that hear the same)
    if not state.renewed or monotonic() - state.renewed > renew_every then
      state.renewed = monotonic()
      core.renew(client, "the server is a replica now")
    end
    if not state.settings.has_sentinel and tries.count > quick_tries then return false end
  end
  tries.since = tries.since or monotonic()
  if monotonic() - tries.since > state.settings.timeout then return false end
  task.sleep(math.min(first_delay * 2 ^ (tries.count - 1), longest_delay))
  return true
end

--- redis_call.settle(client, name, send, target, v, e, took, sent, received, ...): the
-- result of send(target, ...) when it was not just a value: it is called again, or
-- returned, or raised.
function M.settle(client, name, send, target, v, e, took, sent, received, ...)
  local tries = { count = 0 }
  while e ~= nil do
    if e == AGAIN then
      v, e = core.drained(client)
      if v == FAIL then error(e, 0) end
    else
      local failure = v == FAIL and e or nil
      if failure and errors.is_error(e) and e.address then e.command = name end
      if took or failure then report(client, name, failure, took, sent, received, ...) end
      if not failure then return v end
      tries.count = tries.count + 1
      if not errors.is_error(e) or not may_retry(client, name, e, tries) then error(e, 0) end
      M.state(client).retries = M.state(client).retries + 1
    end
    v, e, took, sent, received = send(target, ...)
  end
  return v
end

--- redis_call.finish(client, name, send, target, ...): send(target, ...), settled.
function M.finish(client, name, send, target, ...)
  local v, e, took, sent, received = send(target, ...)
  if e ~= nil then
    return M.settle(client, name, send, target, v, e, took, sent, received, ...)
  end
  return v
end

-- loans ---------------------------------------------------------------------

local function acquire(state)
  state.waiting = state.waiting + 1
  local ok, err = pcall(task.timeout, state.settings.pool_timeout, state.room.acquire, state.room)
  state.waiting = state.waiting - 1
  if ok then return end
  if errors.is_error(err, "timeout") then
    error(errors.new { code = "redis.pool_timeout", address = state.settings.address,
      phase = "queued", message = ("all %d connections were in use for %g s"):format(
        state.settings.limit, state.settings.pool_timeout) }, 0)
  end
  error(err, 0)
end

local function leave(room, ok, ...)
  room:release()
  if not ok then error((...), 0) end
  return ...
end

--- redis_call.with_room(client, fn, ...): fn(...), when the pool has a connection for it.
function M.with_room(client, fn, ...)
  local state = M.state(client)
  if state.room.permits > 0 then state.room:acquire() else acquire(state) end
  return leave(state.room, pcall(fn, ...))
end

local grace = 10 -- seconds on top of a blocking command's own timeout

local function call_on_loan(client, seconds, name, ...)
  return M.finish(client, name, function(_, ...)
    return core.call_blocking(client, seconds > 0 and seconds + grace or 0, name, ...)
  end, client, ...)
end

--- redis_call.blocking(client, name, ...): a command that may block, on a connection of
-- its own.
function M.blocking(client, name, ...)
  local seconds = blocking[name](...)
  if seconds == nil then -- XREAD without BLOCK
    return M.plain(client, name, ...)
  end
  seconds = tonumber(seconds)
  if not seconds then error(name .. ": a timeout in seconds is expected", 2) end
  return M.with_room(client, call_on_loan, client, seconds, name, ...)
end

local senders = {}

-- sender returns the function that sends a command and gives its raw reply.
local function sender(name)
  local send = senders[name]
  if not send then
    send = core.command(name)
    senders[name] = send
  end
  return send
end

--- redis_call.plain(client, name, ...): an ordinary command, its reply as it came.
function M.plain(client, name, ...)
  return M.finish(client, name, sender(name), client, ...)
end

return M
