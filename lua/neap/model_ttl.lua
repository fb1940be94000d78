-- model_ttl: the sweeper, which removes rows whose time is over. Internal.
--
-- Nothing depends on it but memory: a row whose time is over is not loaded, found,
-- counted, nor does it hold a unique value. It is removed like any row, so a host that
-- dies meanwhile leaves either all of it behind, or nothing.
local core = require "neap.core.model"
local core_task = require "neap.core.task"
local neap_task = require "neap.task"
local log = require "neap.log"
local errors = require "neap.core.error"
local writing = require "neap.model_write"
local M = {}

local PERIOD = 1    -- seconds
local PORTION = 256 -- rows

-- ordinals_of reads members of the index of expiries.
local function ordinals_of(members)
  local list = {}
  for i, member in ipairs(members) do
    local a, b, c, d = member:byte(1, 4)
    list[i] = ((a * 256 + b) * 256 + c) * 256 + d
  end
  return list
end

--- sweep(model): removes the rows whose time is over; returns how many it found. A row
-- that lives again by then stays.
function M.sweep(model)
  local keys, found = core.keys(model.core), 0
  while true do
    local time = model.redis:call "TIME"
    local now = ("%.0f"):format(time[1] * 1000 + math.floor(time[2] / 1000))
    local members = model.redis:call("ZRANGEBYSCORE", keys.expires, "-inf", now, "LIMIT", 0,
      PORTION)
    if #members == 0 then return found end
    found = found + #members
    local ids, e = core.ids(model.core, ordinals_of(members))
    if ids == core_task.FAIL then error(e, 0) end
    local known = {}
    for i = 1, #members do
      if ids[i] then known[#known + 1] = ids[i] end
    end
    if #known > 0 then writing.sweep(model, known) end
    local left = model.redis:call("ZRANGEBYSCORE", keys.expires, "-inf", now, "LIMIT", 0, 1)
    if left[1] == members[1] then return found end -- a damaged entry: verify finds it
  end
end

--- start(model): sweeps from now on, once a second, for as long as the process lives.
function M.start(model)
  if model.is_swept then return end
  model.is_swept = true
  neap_task.spawn(function()
    while not model.is_replaced do -- until the client is closed
      core_task.sleep(PERIOD * (0.75 + 0.5 * math.random()), true)
      local ok, e = pcall(M.sweep, model)
      if not ok and errors.is_error(e, "cancelled") then return end
      if not ok and errors.is_error(e, "redis.closed") then return end
      if not ok then log.warn("model %s: its expired rows are not swept: %s", model.name, e) end
    end
  end)
end

return M
