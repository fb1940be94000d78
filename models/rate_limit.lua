-- rate_limit: so many of something in so much time, counted by all hosts together.
--
--   local rate_limit = require "models.rate_limit"
--   local ok, left, seconds = rate_limit.allow("login:" .. req.remote, { limit = 5, per = 60 })
--   if not ok then return { status = 429, headers = { ["Retry-After"] = math.ceil(seconds) } } end
--
-- Time is cut into windows of `per` seconds from 1970, by the clock of the host that asks; each
-- window of a key is a row with a counter. So up to twice the limit may pass around the end of a
-- window.
local neap = require "neap"
local model, field = neap.model, neap.field

local RateLimit = model.define("rate_limit", {
  key    = field.string  {},
  per    = field.integer {},
  window = field.integer {},
  count  = field.integer { default = 0 },
}, { primary_key = { "key", "per", "window" }, ttl = true })

-- add counts one more in a window; returns how many there are.
local function add(id)
  return RateLimit:increment(id, { count = 1 }).count
end

-- begin stores a window's row, unless another task or host was faster. A host whose clock is
-- slow may ask for it when it is over, so it lives longer.
local function begin(id)
  local ok, e = pcall(RateLimit.create, RateLimit, id, { ttl = 2 * id.per })
  if not ok and not neap.is_error(e, "model.exists") then error(e, 0) end
end

--- rate_limit.allow(key, { limit = n, per = seconds }): counts one more, and returns whether
-- that is within the limit, how many are left, and the seconds until the window ends. per is a
-- whole number. What is not allowed counts too.
function RateLimit.allow(key, options)
  local limit, per, now = options.limit, options.per, neap.now()
  if type(limit) ~= "number" or type(per) ~= "number" or per < 1 then
    error("bad argument #2 to 'allow' ({ limit = n, per = seconds } expected)", 2)
  end
  local window = math.floor(now / per)
  local id = { key = key, per = per, window = window }
  local ok, count = pcall(add, id)
  if not ok then
    if not neap.is_error(count, "model.gone") then error(count, 0) end
    begin(id) -- the first in this window
    count = add(id)
  end
  return count <= limit, math.max(limit - count, 0), (window + 1) * per - now
end

return RateLimit
