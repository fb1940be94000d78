-- redis_stream: a Redis stream's consumer group as a loop.
--
--   for entry in redis:consume("orders", { group = "billing", consumer = "worker-1" }) do
--     handle(entry.fields)    -- acknowledged when the loop asks for the next one
--   end
local task = require "neap.task"
local errors = require "neap.core.error"
local log = require "neap.log"
local monotonic = require("neap.core.util").monotonic
local M = {}

-- failures that pass: the reader waits and tries again
local passing = {}
for _, name in ipairs { "unknown_outcome", "connect", "timeout", "loading", "readonly", "sentinel",
  "queue_full", "unblocked", "masterdown", "noreplicas", "busy" } do
  passing["redis." .. name] = true
end
local shortest_delay, longest_delay = 0.05, 2

-- options -------------------------------------------------------------------

local function is_name(v) return type(v) == "string" and v ~= "" end
local function is_seconds(v) return type(v) == "number" and v > 0 and v < 1e9 end
local function is_count(v) return is_seconds(v) and v % 1 == 0 end
local function is_seconds_or_false(v) return v == false or is_seconds(v) end
local function is_of(kind) return function(v) return type(v) == kind end end
local function is_start(v)
  return v == "$" or type(v) == "string" and (v:match "^%d+$" or v:match "^%d+%-%d+$")
end

local known = {
  group = { is_name, "a name" },
  consumer = { is_name, "a name, of which there is one at a time" },
  count = { is_count, "a whole number from 1" },
  block = { is_seconds, "seconds above 0" },
  from = { is_start, '"0", "$" or the id of an entry' },
  claim_after = { is_seconds_or_false, "seconds above 0, or false" },
  claim_every = { is_seconds, "seconds above 0" },
  max_deliveries = { is_count, "a whole number from 1" },
  dead = { is_of "function", "a function" },
  manual = { is_of "boolean", "true or false" },
}

local function check_options(stream, options)
  if not is_name(stream) then error("consume: the name of a stream is expected", 3) end
  if type(options) ~= "table" then
    error("consume: a table of options is expected, with group and consumer", 3)
  end
  for name in pairs(options) do
    if not known[name] then error("consume: unknown option '" .. tostring(name) .. "'", 3) end
  end
  for name, rule in pairs(known) do
    local value = options[name]
    if (value ~= nil or name == "group" or name == "consumer") and not rule[1](value) then
      error(("consume: option '%s' has to be %s (it is %s)"):format(name, rule[2],
        type(value) == "number" and rule[1] == is_name and "the number " .. value
        or tostring(value)), 3)
    end
  end
end

-- acknowledging -------------------------------------------------------------

-- send_acks acknowledges what is finished; if that fails, it is kept.
local function send_acks(r)
  local ids, batch = {}, r.acks
  for id in pairs(batch) do ids[#ids + 1] = id end
  r.acks = {}
  local ok, err = pcall(r.client.call, r.client, "XACK", r.stream, r.group, ids)
  for id in pairs(batch) do
    if ok then r.in_hand[id] = nil else r.acks[id] = true end
  end
  if not ok then error(err, 0) end
end

-- finish notes that an entry is done. A task of its own sends the note as soon
-- as the loop's task waits for something: all that were done until then at
-- once. It ends when nothing is left, or leaves the rest to the next read.
local function finish(r, id)
  r.acks[id] = true
  r.sender = r.sender or task.spawn(function()
    local ok
    repeat ok = pcall(send_acks, r) until not ok or not next(r.acks)
    r.sender = nil
  end)
end

local function ack(r, id)
  r.acks[id] = true
  local ok, err = pcall(send_acks, r)
  if not ok and not (errors.is_error(err) and passing[err.code]) then error(err, 0) end
  return ok
end

-- reading -------------------------------------------------------------------

local function call(r, name, ...)
  return r.client:call(name, r.stream, r.group, ...)
end

local function make_group(r)
  if r.from == "$" then -- where that was counts too when the group is lost later
    local last = r.client:call("XREVRANGE", r.stream, "+", "-", "COUNT", 1)[1]
    r.from = last and last[1] or "0"
  end
  local ok, err = pcall(r.client.call, r.client, "XGROUP", "CREATE", r.stream, r.group, r.from,
    "MKSTREAM")
  if not ok and not errors.is_error(err, "redis.busygroup") then error(err, 0) end
  r.has_group = true
end

local function add(r, id, fields, idle_ms, deliveries)
  r.page[#r.page + 1] = { id = id, fields = fields, deliveries = deliveries,
    since = monotonic() - idle_ms / 1000 }
end

-- list_pending lists what is ours and not in hand, a page from r.pending_from.
-- Other than reading it again with XREADGROUP, that counts as no delivery.
local function list_pending(r)
  local list = call(r, "XPENDING", r.pending_from, "+", r.count, r.consumer)
  for _, p in ipairs(list) do
    if not r.in_hand[p[1]] then add(r, p[1], nil, p[3], p[4] + 1) end
  end
  r.pending_from = #list == r.count and "(" .. list[#list][1] or nil
end

-- claim makes a page of what has been idle too long ours, which is no delivery
-- either. That may be an entry of our own that was given out and forgotten.
local function claim(r)
  local reply = call(r, "XAUTOCLAIM", r.consumer, math.ceil(r.claim_after * 1000), r.claim_from,
    "COUNT", r.count, "JUSTID")
  r.claim_from = reply[1]
  if reply[1] == "0-0" then r.claim_due = monotonic() + r.claim_every end
  for _, id in ipairs(reply[2]) do r.in_hand[id] = nil end
  r.pending_from = reply[2][1]
end

local function read_new(r)
  local wait = math.min(r.block, r.claim_due - monotonic())
  local reply = r.client:call("XREADGROUP", "GROUP", r.group, r.consumer, "COUNT", r.count,
    "BLOCK", math.max(1, math.ceil(wait * 1000)), "STREAMS", r.stream, ">")
  for _, entry in ipairs(reply and reply[1][2] or {}) do add(r, entry[1], entry[2], 0, 1) end
  r.delay = shortest_delay
end

-- fill gets the next page; it may be empty.
local function fill(r)
  r.page, r.at = {}, 1
  if not r.has_group then make_group(r) end
  if r.sender then r.sender:join() end
  while next(r.acks) do send_acks(r) end
  if not r.pending_from and monotonic() >= r.claim_due then claim(r) end
  if r.pending_from then list_pending(r) else read_new(r) end
end

-- take returns the page's next entry; nil if it was deleted, acknowledged or
-- taken over meanwhile. That is asked where we have no more than its id, and
-- where it has lain here for long: who took it over, which nobody does before
-- claim_after, has left it idle for less than we ask for.
local function take(r)
  local item = r.page[r.at]
  local fields, age = item.fields, monotonic() - item.since
  if not fields or age > r.stale_after then
    local found = call(r, "XCLAIM", r.consumer, math.floor(math.max(0, age - r.stale_after) * 1000),
      item.id, fields and { "JUSTID" } or {})[1]
    if found == false then finish(r, item.id) end -- deleted, before Redis 7
    fields = found and (fields or found[2])
  end
  r.at = r.at + 1
  if not fields then return nil end
  local entry = setmetatable({ id = item.id, stream = r.stream, deliveries = item.deliveries,
    fields = {} }, r.entry_class)
  for i = 1, #fields, 2 do entry.fields[fields[i]] = fields[i + 1] end
  r.in_hand[item.id] = true
  return entry
end

-- attempt calls fn(r). After a failure that passes it has waited, and all that
-- is ours is looked through again: a lost reply may have made something ours.
local function attempt(r, fn)
  local ok, result = pcall(fn, r)
  if ok then return result end
  r.page, r.at, r.pending_from = {}, 1, "-"
  local code = errors.is_error(result) and result.code
  if code == "redis.nogroup" then
    r.has_group = false
  elseif passing[code] then
    task.sleep(r.delay)
    r.delay = math.min(r.delay * 2, longest_delay)
  else
    error(result, 0)
  end
end

local function bury(r, entry)
  if r.dead then
    r.dead(entry)
  else
    log.warn("consume: entry %s of %s is given up by group %s, delivery %d", entry.id, r.stream,
      r.group, entry.deliveries)
  end
  finish(r, entry.id)
end

local function advance(r)
  if r.current and r.in_hand[r.current] then finish(r, r.current) end
  r.current = nil
  while true do
    local entry = attempt(r, r.page[r.at] and take or fill)
    if entry and entry.deliveries > r.max_deliveries then
      bury(r, entry)
    elseif entry then
      if not r.manual then r.current = entry.id end
      return entry
    end
  end
end

--- for entry in redis:consume(stream, { group = g, consumer = c }) do: the
-- entries of a stream that fall to this consumer, without end: id, stream,
-- fields, deliveries (1 the first time) and entry:ack(). First those that
-- it was given in an earlier life and did not acknowledge.
--
-- count (16) entries are read at a time, a read waits for block (5) seconds. A
-- group that is not there is made, from = "0" (all there is), "$" (what comes
-- from now on) or an id. What lay with a consumer for claim_after (60; false:
-- never) seconds is taken over; that is looked for each claim_every
-- (claim_after / 2). Beyond max_deliveries an entry goes to dead(entry), or
-- into the log, and is acknowledged. With manual = true only entry:ack() does so:
-- true when Redis said so, false if that will be tried again before the next read.
--
-- Each entry is handled at least once; lost connections are waited out. A break
-- or an error leaves the entry it was at pending: call entry:ack() before a
-- break. Handling has to take less than claim_after / 2, or another may take the
-- entry over; a consumer's name is for one loop at a time. Needs Redis 6.2.
function M.consume(client, stream, options)
  check_options(stream, options)
  local claim_after = options.claim_after == nil and 60 or options.claim_after
  local r = {
    client = client, stream = stream, group = options.group, consumer = options.consumer,
    count = options.count or 16, block = options.block or 5, from = options.from or "0",
    claim_after = claim_after, claim_every = options.claim_every or (claim_after or 0) / 2,
    claim_from = "0-0", claim_due = claim_after and 0 or math.huge,
    stale_after = (claim_after or 60) / 2, delay = shortest_delay,
    max_deliveries = options.max_deliveries or math.huge, dead = options.dead,
    manual = options.manual,
    page = {}, at = 1,    -- what was read and not yet given out
    pending_from = "-",   -- where our own pending entries are looked for; nil: no more
    in_hand = {},         -- ids that were given out and are not acknowledged
    acks = {},            -- those of them that are finished
  }
  r.entry_class = { __index = { ack = function(entry)
    if type(entry) ~= "table" then error("an entry expected (a colon: entry:ack())", 2) end
    return ack(r, entry.id)
  end } }
  while not r.has_group do attempt(r, make_group) end
  return function() return advance(r) end
end

return M
