-- redis_pubsub: subscriptions. All of a client share one connection; see
-- host/redis/pubsub.h.
--
--   local sub = redis:subscribe("news", "weather")
--   for msg in sub:messages() do print(msg.channel, msg.payload) end
--   sub:close()
--
-- After a reconnect all is subscribed to again, and an event { gap = "reconnect" } says
-- that messages may have been missed. A channel that Redis refuses, then or when it is
-- asked for, ends the whole subscription with that error.
local core = require "neap.core.redis"
local task = require "neap.task"
local errors = require "neap.core.error"
local call = require "neap.redis_call"
local check = require("neap.wait").check
local FAIL = require("neap.core.task").FAIL
local M = {}

local Subscription = {}
local settings = setmetatable({}, { __mode = "k" }) -- by subscription, of its client
local buffer_default, buffer_most = 10000, 100000000

local function wait_all(sub)
  while not check(core.subscribed(sub)) do end
end

local function wait_subscribed(sub)
  local s = settings[sub]
  local ok, err = pcall(task.timeout, s.timeout, wait_all, sub)
  if ok then return end
  if errors.is_error(err, "timeout") then
    err = errors.new { code = "redis.timeout", phase = "queued",
      message = ("%s did not confirm it within %g s"):format(s.address, s.timeout) }
  end
  if errors.is_error(err) and err.code:find("^redis%.") then
    err.command, err.address = "SUBSCRIBE", s.address
  end
  error(err, 0)
end

-- each calls fn for every name among the arguments, in lists too.
local function each(fn, level, ...)
  for i = 1, select("#", ...) do
    local name = select(i, ...)
    if type(name) == "table" then
      for key in pairs(name) do
        if type(key) ~= "number" then
          error(("bad argument #%d (a list of channels expected; options stand in a table of "
            .. "their own, the last argument)"):format(i), level + 1)
        end
      end
      each(fn, level + 1, unpack(name))
    elseif type(name) == "string" then
      fn(name)
    else
      error(("bad argument #%d (a channel expected, got %s)"):format(i, type(name)), level + 1)
    end
  end
end

local function names_of(level, ...)
  local names = {}
  each(function(name) names[#names + 1] = name end, level, ...)
  if #names == 0 then error("bad argument #1 (a channel expected, got no value)", level) end
  return names
end

-- listen waits for Redis; when that fails, it is as if nobody had asked.
local function listen(sub, is_pattern, names)
  local added = {}
  for _, name in ipairs(names) do
    if core.listen(sub, is_pattern, name) then added[#added + 1] = name end
  end
  local ok, err = pcall(wait_subscribed, sub)
  if ok then return end
  for _, name in ipairs(added) do pcall(core.unlisten, sub, is_pattern, name) end
  error(err, 0)
end

local function unlisten(sub, is_pattern, names)
  for _, name in ipairs(names) do core.unlisten(sub, is_pattern, name) end
end

--- sub:subscribe(channel, ...): listens to more channels; returns when Redis has
-- confirmed them. Lists of channels will do too, here and below.
function Subscription:subscribe(...) listen(self, false, names_of(3, ...)) end

--- sub:psubscribe(pattern, ...): the same for patterns.
function Subscription:psubscribe(...) listen(self, true, names_of(3, ...)) end

--- sub:unsubscribe(channel, ...): listens to them no longer.
function Subscription:unsubscribe(...) unlisten(self, false, names_of(3, ...)) end

--- sub:punsubscribe(pattern, ...): the same for patterns.
function Subscription:punsubscribe(...) unlisten(self, true, names_of(3, ...)) end

--- sub:next(): waits for the next event: a message { channel, payload, pattern } or a
-- gap { gap = "reconnect" } or { gap = "overflow", lost = n }; nil once it is closed.
-- When the client is closed, redis.closed is raised after the last message.
function Subscription:next()
  local event, e
  repeat event, e = core.next_message(self) until event ~= nil
  if event == FAIL then error(e, 0) end
  if event == true then return { gap = "reconnect" } end
  return event or nil
end

--- for event in sub:events() do: messages and gaps.
function Subscription:events()
  return function() return self:next() end
end

--- for msg in sub:messages() do: messages only.
function Subscription:messages()
  return function()
    local event
    repeat event = self:next() until not event or not event.gap
    return event
  end
end

--- sub:close(): ends it, and loops over it; what nobody has asked for yet is dropped.
function Subscription:close()
  core.end_subscription(self)
end

-- with_check says so when the colon was forgotten.
local function with_check(name, method)
  return function(self, ...)
    if type(self) ~= "userdata" then
      error(("a subscription expected, got %s (a colon calls a method: sub:%s(...))"):format(
        type(self), name), 2)
    end
    return method(self, ...)
  end
end
for name, method in pairs(Subscription) do Subscription[name] = with_check(name, method) end

core.subscription_class.__index = Subscription
core.subscription_class.__name = "redis subscription"

--- redis_pubsub.open(client, is_pattern, ...): redis:subscribe and redis:psubscribe; the
-- last argument may be a table of options { buffer = n }.
function M.open(client, is_pattern, ...)
  local names, n, buffer = { ... }, select("#", ...), buffer_default
  local last = names[n]
  if type(last) == "table" and #last == 0 then
    n = n - 1
    for name in pairs(last) do
      if name ~= "buffer" then
        error("unknown option '" .. tostring(name) .. "' (buffer is known)", 2)
      end
    end
    buffer = last.buffer or buffer
    if type(buffer) ~= "number" or not (buffer >= 1 and buffer <= buffer_most) then
      error("option buffer: a number of messages from 1 expected", 2)
    end
  end
  names = names_of(3, unpack(names, 1, n))
  local sub = core.subscription(client, buffer)
  settings[sub] = call.state(client).settings
  local ok, err = pcall(listen, sub, is_pattern, names)
  if not ok then
    sub:close()
    error(err, 0)
  end
  return sub
end

return M
