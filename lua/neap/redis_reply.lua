-- redis_reply: what a Redis command called as a method returns, made from the
-- raw reply. A command that is not in the table returns its reply as it is.
--
--   reply.shapes.ZRANGE({ "ada", "7" }, "scores", 0, -1, "WITHSCORES")
--   --> { { member = "ada", score = 7 } }
--
-- A shape is a function of the reply that returns the new form, or nil when the
-- reply is none of its kind: then the reply stands as it is, and so does an
-- element or a field within one (an error object, say). Lists are edited in
-- place. Redis's nil is false inside lists and absent from maps and records.
local json = require "neap.core.json"
local M = {}

-- arguments -----------------------------------------------------------------

-- flatten appends the arguments in the order in which they are sent.
local function flatten(args, ...)
  for i = 1, select("#", ...) do
    local v = select(i, ...)
    if type(v) ~= "table" then
      args[#args + 1] = v
    elseif #v > 0 then
      for j = 1, #v do flatten(args, v[j]) end
    else
      for key, value in next, v do flatten(args, key, value) end
    end
  end
  return args
end

local function upper(v) return type(v) == "string" and v:upper() or nil end

-- option(name, from, shape): the shape where the option is given at place `from`
-- or later; `from` nil: behind the keys, whose number is the first argument.
local function option(name, from, shape)
  return function(v, ...)
    local args = flatten({}, ...)
    for i = from or math.max(2, 2 + (tonumber(args[1]) or 0)), #args do
      if upper(args[i]) == name then return shape(v) end
    end
  end
end

-- subcommand { GET = shape }: the shape for the first argument.
local function subcommand(shapes)
  return function(v, ...)
    local shape = shapes[upper(flatten({}, (...))[1]) or ""]
    return shape and shape(v)
  end
end

-- shapes --------------------------------------------------------------------

-- is_list is false for an error object, and for what has a shape already.
local function is_list(v)
  return type(v) == "table" and (#v > 0 or next(v) == nil)
end

local function apply(shape, v)
  return shape and shape(v) or v
end

-- number: "inf", "-inf" and "nan" too.
local function number(v)
  return type(v) == "string" and tonumber(v) or nil
end

-- list(shape): a list whose elements have that shape.
local function list(shape)
  return function(v)
    if not is_list(v) then return nil end
    for i = 1, #v do v[i] = apply(shape, v[i]) end
    return v
  end
end

-- record { "id", "score", score = number }: a list of fixed places as a table
-- with those names. The last places may be missing where `least` says so.
local function record(fields, least)
  return function(v)
    if not is_list(v) or #v < (least or #fields) then return nil end
    local t = {}
    for i, name in ipairs(fields) do
      t[name] = v[i] and apply(fields[name], v[i]) or nil
    end
    return t
  end
end

-- flat_pairs: { k, v, k, v } from that, or from { { k, v }, { k, v } }.
local function flat_pairs(v)
  if not is_list(v) then return nil end
  local flat = v
  if is_list(v[1]) then
    flat = {}
    for i, pair in ipairs(v) do
      if not is_list(pair) or #pair ~= 2 then return nil end
      flat[2 * i - 1], flat[2 * i] = pair[1], pair[2]
    end
  end
  if #flat % 2 == 1 then return nil end
  for i = 1, #flat, 2 do
    local is_key = type(flat[i]) == "string" or type(flat[i]) == "number"
    if not is_key then return nil end
  end
  return flat
end

-- map(shape): pairs as a table; the values have that shape.
-- map { name = shape }: only the values of those names.
local function map(shape)
  local fields = type(shape) == "table" and shape
  return function(v)
    local flat = flat_pairs(v)
    if not flat then return nil end
    local t = {}
    for i = 1, #flat, 2 do
      local key, value = flat[i], flat[i + 1]
      if key == key then -- not nan, which no table takes
        local of = shape
        if fields then of = fields[key] end
        t[key] = value and apply(of, value) or nil
      end
    end
    return t
  end
end

-- couples(first, second): pairs as a list of tables with those two names, the
-- second a number.
local function couples(first, second)
  return function(v)
    local flat = flat_pairs(v)
    if not flat or #flat == 0 then return flat and v end
    local t = {}
    for i = 1, #flat, 2 do
      t[#t + 1] = { [first] = flat[i], [second] = apply(number, flat[i + 1]) }
    end
    return t
  end
end

local dict = map()
local dicts = list(dict)

-- sorted sets ---------------------------------------------------------------

local scored = couples("member", "score")
local popped = record { "key", "member", "score", score = number }
local popped_many = record { "key", "members", members = scored }
local popped_values = record { "key", "values" }
local rank = record { "rank", "score", score = number }

-- streams -------------------------------------------------------------------

-- An entry that was deleted meanwhile has no fields.
local entry = record { "id", "fields", fields = dict }
local entries = list(entry)
local streams = map(entries)

local claimed = record({ "cursor", "entries", "deleted", entries = entries }, 2)
local claimed_ids = option("JUSTID", 6, record({ "cursor", "ids", "deleted" }, 2))
local function claim(v, ...)
  local t = claimed_ids(v, ...) or claimed(v)
  if t and not t.deleted then t.deleted = json.array() end -- before Redis 7
  return t
end

local waiting = list(record { "id", "consumer", "idle_ms", "deliveries" })
local waiting_summary = record { "count", "min", "max", "consumers", consumers = map(number) }
local function pending(v)
  if not is_list(v) or type(v[1]) ~= "number" then return waiting(v) end
  local t = waiting_summary(v)
  if t and not t.consumers then t.consumers = {} end
  return t
end

local stream = map {
  ["first-entry"] = entry, ["last-entry"] = entry, entries = entries,
  groups = list(map {
    pending = list(record { "id", "consumer", "delivered_ms", "deliveries" }),
    consumers = list(map { pending = list(record { "id", "delivered_ms", "deliveries" }) }),
  }),
}

-- places --------------------------------------------------------------------

local position = record { "longitude", "latitude", longitude = number, latitude = number }

-- found: what WITHDIST, WITHHASH and WITHCOORD add differs in type.
local function found(v)
  if not is_list(v) or type(v[1]) ~= "string" then return nil end
  local t = { member = v[1] }
  for i = 2, #v do
    local at = position(v[i])
    if at then
      t.longitude, t.latitude = at.longitude, at.latitude
    elseif type(v[i]) == "number" then
      t.hash = v[i]
    else
      t.distance = apply(number, v[i])
    end
  end
  return t
end

-- the server ----------------------------------------------------------------

local roles = {
  master = record { "role", "offset", "replicas", replicas = list(record {
    "host", "port", "offset", port = number, offset = number }) },
  slave = record { "role", "host", "port", "state", "offset" },
  sentinel = record { "role", "masters" },
}
local function role(v)
  local shape = is_list(v) and roles[v[1] or ""]
  return shape and shape(v)
end

local function statistic(v)
  return number(v) or map(number)(v)
end

local arguments -- of a command may have arguments
local argument = map { arguments = function(v) return arguments(v) end }
arguments = list(argument)
local commands
local command = map {
  arguments = arguments, subcommands = function(v) return commands(v) end,
}
commands = map(command)

local slow = record({ "id", "time", "duration_us", "command", "client", "name" }, 4)

--- reply.shapes[NAME](reply, ...): what the method returns, from the raw reply
-- (as redis:call gives it) and the arguments as they were passed. A reply of an
-- unexpected form comes back as it is; none raises.
M.shapes = {
  ZRANGE = option("WITHSCORES", 4, scored),
  ZREVRANGE = option("WITHSCORES", 4, scored),
  ZRANGEBYSCORE = option("WITHSCORES", 4, scored),
  ZREVRANGEBYSCORE = option("WITHSCORES", 4, scored),
  ZUNION = option("WITHSCORES", nil, scored),
  ZINTER = option("WITHSCORES", nil, scored),
  ZDIFF = option("WITHSCORES", nil, scored),
  ZRANDMEMBER = option("WITHSCORES", 3, scored),
  ZPOPMIN = scored, ZPOPMAX = scored,
  BZPOPMIN = popped, BZPOPMAX = popped,
  ZMPOP = popped_many, BZMPOP = popped_many,
  ZSCORE = number, ZINCRBY = number, ZADD = number, ZMSCORE = list(number),
  ZRANK = rank, ZREVRANK = rank,
  LMPOP = popped_values, BLMPOP = popped_values,
  HRANDFIELD = option("WITHVALUES", 3, dict),
  LCS = dict,

  XRANGE = entries, XREVRANGE = entries, XCLAIM = entries,
  XREAD = streams, XREADGROUP = streams,
  XAUTOCLAIM = claim,
  XPENDING = pending,
  XINFO = subcommand { STREAM = stream, GROUPS = dicts, CONSUMERS = dicts },

  GEODIST = number, GEOPOS = list(position),
  GEOSEARCH = list(found),
  GEORADIUS = list(found), GEORADIUS_RO = list(found),
  GEORADIUSBYMEMBER = list(found), GEORADIUSBYMEMBER_RO = list(found),

  ACL = subcommand { GETUSER = map { selectors = dicts } },
  CLIENT = subcommand { TRACKINGINFO = dict },
  COMMAND = subcommand { DOCS = commands },
  CONFIG = subcommand { GET = dict },
  FUNCTION = subcommand {
    LIST = list(map { functions = dicts }),
    STATS = map { running_script = dict, engines = map(dict) },
  },
  LATENCY = subcommand {
    HISTOGRAM = map(map { histogram_usec = couples("usec", "count") }),
  },
  MEMORY = subcommand { STATS = map(statistic) },
  MODULE = subcommand { LIST = dicts },
  PUBSUB = subcommand { NUMSUB = dict, SHARDNUMSUB = dict },
  ROLE = role,
  SENTINEL = subcommand {
    MASTER = dict, MASTERS = dicts, REPLICAS = dicts, SLAVES = dicts, SENTINELS = dicts,
  },
  SLOWLOG = subcommand { GET = list(slow) },
}

for name, shape in pairs(M.shapes) do
  M.shapes[name] = function(v, ...)
    return shape(v, ...) or v
  end
end

return M
