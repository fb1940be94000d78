-- redis_pipeline: redis:pipeline, redis:multi and redis:watch.
local core = require "neap.core.redis"
local task = require "neap.task"
local errors = require "neap.core.error"
local json = require "neap.core.json"
local command = require "neap.redis_command"
local call = require "neap.redis_call"
local shapes = require("neap.redis_reply").shapes
local monotonic = require("neap.core.util").monotonic
local M = {}

local Pipeline = {}
local notes = setmetatable({}, { __mode = "k" }) -- what is kept beside a pipeline

-- note keeps what has to be done with the reply of the command just recorded.
local function note(p, name, ...)
  local n, kept = core.pipeline_count(p), notes[p]
  local shape = shapes[name]
  if shape then kept[n] = { shape = shape, n = select("#", ...), ... } end
  if command.maps[name] then -- C makes it, but not within EXEC's reply
    kept.maps = kept.maps or {}
    kept.maps[n] = true
  end
end

local function new_method(_, key)
  if type(key) ~= "string" then return nil end
  local name = key:upper()
  if command.refused[name] then
    return function() command.refuse(name, 2) end
  elseif command.blocking[name] then
    return function(self, ...)
      command.check_blocking(name, ...)
      core.pipeline_call(self, command.reads[name], name, ...)
      note(self, name, ...)
    end
  end
  local method = core.pipeline_command(name, command.maps[name], command.reads[name])
  if shapes[name] or command.maps[name] then
    local record = method
    method = function(self, ...)
      record(self, ...)
      note(self, name, ...)
    end
  end
  Pipeline[key] = method
  return method
end
setmetatable(Pipeline, { __index = new_method })
core.pipeline_class.__index = Pipeline

--- p:call(name, ...): any command, its reply as it came, within redis:pipeline or
-- redis:multi.
function Pipeline:call(name, ...)
  local upper = command.check(name, ...)
  command.check_blocking(upper, ...)
  core.pipeline_call(self, command.reads[upper], upper, ...)
  if upper == "SCRIPT" and notes[self] then notes[self].scripts = nil end
end

--- p:script(...): SCRIPT; scripts are sent in full after it, as it may flush them.
function Pipeline:script(...)
  self:call("SCRIPT", ...)
end

--- p:client(...): as redis:client.
function Pipeline:client(...)
  self:call("CLIENT", ...)
end

--- p:lua(script, keys, ...): a script of redis:lua. It is sent in full where it is
-- first used, and by its hash after that, if that is known from an earlier call.
function Pipeline:lua(script, keys, ...)
  local source = M.sources[script]
  if not source then error("bad argument #1 to 'lua' (what redis:lua returned expected)", 2) end
  keys = keys or {}
  if type(keys) ~= "table" then error("bad argument #2 to 'lua' (a list of keys expected)", 2) end
  local kept = notes[self] or {}
  kept.scripts = kept.scripts or {}
  if kept.scripts[source.text] and source.sha then
    core.pipeline_call(self, false, "EVALSHA", source.sha, #keys, keys, ...)
    kept.by_hash = kept.by_hash or {}
    local n = core.pipeline_count(self)
    kept.by_hash[n] = { source.text, #keys, keys, n = select("#", ...), ... }
  else
    core.pipeline_call(self, false, "EVAL", source.text, #keys, keys, ...)
    kept.scripts[source.text] = true
  end
end

--- redis_pipeline.sources: by script (a function of redis:lua), its text and, once known,
-- its hash.
M.sources = setmetatable({}, { __mode = "k" })

-- shape_all gives the replies the form that their commands' methods give.
local function shape_all(kept, replies)
  for i, s in pairs(kept) do
    if type(i) == "number" then
      local v = replies[i]
      if v and not errors.is_error(v) then replies[i] = s.shape(v, unpack(s, 1, s.n)) end
    end
  end
  return replies
end

local function to_map(list)
  if type(list) ~= "table" then return list end
  local map = {}
  for i = 1, #list, 2 do map[list[i]] = list[i + 1] end
  return map
end

local function record(client, fn, what, ...)
  if type(fn) ~= "function" then
    error(("bad argument to '%s' (function expected, got %s)"):format(what, type(fn)), 3)
  end
  local p = core.pipeline(call.state(client).settings.queue_bytes)
  local kept = {}
  notes[p] = kept
  fn(p, ...)
  kept.count, kept.is_read = core.pipeline_close(p)
  return p, kept
end

local function send_pipeline(target, p)
  return core.execute(target, p, false)
end

local function send_transaction(target, p)
  return core.execute(target, p, true)
end

-- is_lost says whether replies are missing as the connection was lost, but not because of one
-- of them.
local function is_lost(replies)
  local is = false
  for i = 1, #replies do
    local v = replies[i]
    if type(v) == "table" then
      if errors.is_error(v, "memory") then return false end
      is = is or errors.is_error(v, "redis.unknown_outcome")
    end
  end
  return is
end

-- send_scripts_again: somebody made the server forget its scripts in between.
local function send_scripts_again(client, kept, replies)
  for i, s in pairs(kept.by_hash or {}) do
    if errors.is_error(replies[i], "redis.noscript") then
      local ok, v = pcall(call.plain, client, "EVAL", s[1], s[2], s[3], unpack(s, 4, 3 + s.n))
      if not ok and not v.phase then error(v, 0) end -- no reply: cancelled, say
      if v == nil then v = false end
      replies[i] = v
    end
  end
end

--- redis_pipeline.pipeline(client, fn): redis:pipeline.
function M.pipeline(client, fn)
  local p, kept = record(client, fn, "pipeline")
  if kept.count == 0 then return json.array() end
  local replies = call.finish(client, "PIPELINE", send_pipeline, client, p)
  local tries = 0
  while kept.is_read and tries < 3 and is_lost(replies) do
    tries = tries + 1
    replies = call.finish(client, "PIPELINE", send_pipeline, client, p)
  end
  send_scripts_again(client, kept, replies)
  return shape_all(kept, replies)
end

local function shape_transaction(kept, replies)
  if type(replies) == "table" then
    for i, v in ipairs(replies) do
      if kept.maps and kept.maps[i] then replies[i] = to_map(v) end
    end
    shape_all(kept, replies)
  end
  return replies
end

--- redis_pipeline.multi(client, fn): redis:multi.
function M.multi(client, fn)
  local p, kept = record(client, fn, "multi")
  if kept.count == 0 then return json.array() end
  local tries, since = 0, monotonic()
  while true do
    local ok, v = pcall(call.finish, client, "MULTI", send_transaction, client, p)
    if ok then return shape_transaction(kept, v) end
    -- EXEC was not sent: nothing was carried out
    tries = tries + 1
    local is_again = tries <= 3 and errors.is_error(v, "redis.connect") and v.phase == "queued"
    if not is_again or monotonic() - since > call.state(client).settings.timeout then
      error(v, 0)
    end
  end
end

-- watch ---------------------------------------------------------------------

local Transaction = {}

local loan_senders = {}

local function loan_sender(name)
  local send = loan_senders[name]
  if not send then
    send = function(loan, ...) return core.loan_call(loan, name, ...) end
    loan_senders[name] = send
  end
  return send
end

-- on_loan makes a call on the transaction's connection. Where that was lost
-- before the call could take effect, all may be done again.
local function on_loan(tx, name, send, ...)
  local function keep(ok, ...)
    if ok then return ... end
    local e = ...
    tx.is_lost = errors.is_error(e, "redis.connect") and e.phase == "queued"
    error(e, 0)
  end
  return keep(pcall(call.finish, tx.owner, name, send, tx.loan, ...))
end

local function transaction_method(_, key)
  if type(key) ~= "string" then return nil end
  local name = key:upper()
  if command.is_refused_in_watch(name) then
    return function() command.refuse_in_watch(name, 2) end
  end
  local shape = command.maps[name] and to_map or shapes[name]
  Transaction[key] = function(self, ...)
    if type(self) ~= "table" then
      error("a transaction expected, got " .. type(self)
        .. " (a colon calls a command: tx:get \"key\")", 2)
    end
    if self.is_over then error("the transaction is over", 2) end
    command.check_blocking(name, ...)
    local v = self:call(name, ...)
    if shape and v ~= nil then return shape(v, ...) end
    return v
  end
  return Transaction[key]
end
setmetatable(Transaction, { __index = transaction_method })
Transaction.__index = Transaction

--- tx:call(name, ...): any command, within redis:watch, at once.
function Transaction:call(name, ...)
  local upper = command.check(name, ...)
  command.check_blocking(upper, ...)
  if self.is_over then error("the transaction is over", 2) end
  return on_loan(self, upper, loan_sender(upper), ...)
end

--- tx:multi(fn): within redis:watch, as redis:multi; if a watched key has changed, all
-- is done again from the start.
function Transaction:multi(fn)
  if self.is_over then error("the transaction is over", 2) end
  local p, kept = record(self.owner, fn, "multi")
  self.is_over = true
  if kept.count == 0 then
    on_loan(self, "UNWATCH", loan_sender "UNWATCH")
    return json.array()
  end
  local replies = on_loan(self, "MULTI", core.loan_execute, p)
  if not replies then
    self.has_conflict = true
    error(errors.new { code = "redis.conflict", message = "a watched key was changed" }, 0)
  end
  return shape_transaction(kept, replies)
end

-- attempt runs fn once; whether to do so again, then what pcall gives, and how many.
local function attempt(client, keys, fn)
  local tx = setmetatable({ owner = client, loan = core.loan(client), is_over = false,
    has_conflict = false, is_lost = false }, Transaction)
  local function count(...) return select("#", ...), { ... } end
  local n, results = count(pcall(function()
    on_loan(tx, "WATCH", loan_sender "WATCH", keys)
    return fn(tx)
  end))
  local is_clean = tx.is_over and (results[1] or tx.has_conflict)
  if results[1] and not tx.is_over then -- fn decided against it
    is_clean = pcall(on_loan, tx, "UNWATCH", loan_sender "UNWATCH")
    tx.is_lost = false
  end
  tx.is_over = true
  core.give(tx.loan, is_clean)
  return tx.has_conflict or tx.is_lost and not results[1], results, n
end

local retries_default = 10

local function check_watch(keys, fn, options)
  if type(keys) ~= "table" or #keys == 0 then
    error("bad argument #1 to 'watch' (a list of keys expected)", 3)
  end
  if type(fn) ~= "function" then
    error("bad argument #2 to 'watch' (function expected, got " .. type(fn) .. ")", 3)
  end
  if options ~= nil and type(options) ~= "table" then
    error("bad argument #3 to 'watch' (table expected, got " .. type(options) .. ")", 3)
  end
  for name in pairs(options or {}) do
    if name ~= "retries" then
      error("unknown option '" .. tostring(name) .. "' (retries is known)", 3)
    end
  end
  local retries = options and options.retries or retries_default
  if type(retries) ~= "number" or retries ~= retries or retries < 0 then
    error("option retries: a number from 0 expected", 3)
  end
  return retries
end

--- redis_pipeline.watch(client, keys, fn, options): redis:watch.
function M.watch(client, keys, fn, options)
  if type(keys) == "string" then keys = { keys } end
  local retries = check_watch(keys, fn, options)
  local state, try, since = call.state(client), 0, monotonic()
  while true do
    local again, results, n = call.with_room(client, attempt, client, keys, fn)
    local was_lost = errors.is_error(results[2], "redis.connect")
    if not again or was_lost and monotonic() - since > state.settings.timeout then
      if not results[1] then error(results[2], 0) end
      return unpack(results, 2, n)
    end
    if try >= retries then
      if was_lost then error(results[2], 0) end
      error(errors.new { code = "redis.conflict",
        message = ("a watched key was changed each time, %d times"):format(try + 1) }, 0)
    end
    state.retries = state.retries + 1
    task.sleep(math.random() * 0.001 * try)
    try = try + 1
  end
end

return M
