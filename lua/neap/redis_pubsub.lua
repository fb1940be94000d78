-- redis_pubsub: subscriptions. All of a client share one connection; see
-- host/redis/pubsub.h.
--
--   local sub = redis:subscribe("news", "weather")
--   for msg in sub:messages() do print(msg.channel, msg.payload) end
--   sub:close()
local core = require "neap.core.redis"
local task = require "neap.task"
local errors = require "neap.core.error"
local call = require "neap.redis_call"
local FAIL = require("neap.core.task").FAIL
local M = {}

local Subscription = {}
local timeouts = setmetatable({}, { __mode = "k" }) -- by subscription, of its client
local buffer_default, buffer_most = 10000, 100000000

local function check(v, e)
  if v == FAIL then error(e, 0) end
  return v
end

local function wait_subscribed(sub)
  local ok, err = pcall(task.timeout, timeouts[sub], function() check(core.subscribed(sub)) end)
  if ok then return end
  if errors.is_error(err, "timeout") then
    error(errors.new { code = "redis.timeout", phase = "queued",
      message = ("not subscribed within %g s"):format(timeouts[sub]) }, 0)
  end
  error(err, 0)
end

-- each calls fn for every name among the arguments, in lists too.
local function each(fn, level, ...)
  for i = 1, select("#", ...) do
    local name = select(i, ...)
    if type(name) == "table" then
      each(fn, level + 1, unpack(name))
    elseif type(name) == "string" then
      fn(name)
    else
      error(("bad argument #%d (a channel expected, got %s)"):format(i, type(name)), level + 1)
    end
  end
end

local function listen(sub, is_pattern, ...)
  local names = {}
  each(function(name) names[#names + 1] = name end, 3, ...)
  for _, name in ipairs(names) do core.listen(sub, is_pattern, name) end
  wait_subscribed(sub)
end

local function unlisten(sub, is_pattern, ...)
  each(function(name) core.unlisten(sub, is_pattern, name) end, 3, ...)
end

--- sub:subscribe(channel, ...): listens to more channels; returns when Redis has
-- confirmed them.
function Subscription:subscribe(...) listen(self, false, ...) end

--- sub:psubscribe(pattern, ...): the same for patterns.
function Subscription:psubscribe(...) listen(self, true, ...) end

--- sub:unsubscribe(channel, ...): listens to them no longer.
function Subscription:unsubscribe(...) unlisten(self, false, ...) end

--- sub:punsubscribe(pattern, ...): the same for patterns.
function Subscription:punsubscribe(...) unlisten(self, true, ...) end

--- sub:next(): waits for the next event: a message { channel, payload, pattern } or a
-- gap { gap = "reconnect" } or { gap = "overflow", lost = n }; nil once it is closed.
function Subscription:next()
  local v, e = core.next_message(self)
  if v == FAIL then error(e, 0) end
  return v
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

--- sub:close(): ends it; loops over it end.
function Subscription:close()
  core.end_subscription(self)
end

core.subscription_class.__index = Subscription
core.subscription_class.__name = "redis subscription"

--- redis_pubsub.open(client, is_pattern, ...): redis:subscribe and redis:psubscribe; the
-- last argument may be a table of options { buffer = n }.
function M.open(client, is_pattern, ...)
  local names, buffer = { ... }, buffer_default
  local last = names[#names]
  if type(last) == "table" and #last == 0 then
    names[#names] = nil
    for name in pairs(last) do
      if name ~= "buffer" then
        error("unknown option '" .. tostring(name) .. "' (buffer is known)", 3)
      end
    end
    buffer = last.buffer or buffer
    if type(buffer) ~= "number" or buffer < 1 or buffer > buffer_most then
      error("option buffer: a number of messages from 1 expected", 3)
    end
  end
  if #names == 0 then error("bad argument #1 (a channel expected, got no value)", 3) end
  each(function() end, 3, names)
  local sub = core.subscription(client, buffer)
  timeouts[sub] = call.state(client).settings.timeout
  local ok, err = pcall(listen, sub, is_pattern, names)
  if not ok then
    sub:close()
    error(err, 0)
  end
  return sub
end

return M
