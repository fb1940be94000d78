-- model_stats: how many rows a model has, and what its keys weigh.
--
--   local stats = require "neap.model_stats"
--   print(stats.count(User))                          --> rows, segments
--   for _, m in ipairs(stats.read(User).memory) do print(m.name, m.bytes, m.keys) end
local core = require "neap.core.model"
local errors = require "neap.core.error"
local M = {}

local SEGMENT = 65536 -- ordinals
local SLICE = 512     -- segments that are counted in one pipeline
local PAGE = 1000     -- keys that one SCAN looks at
local SAMPLE = 1000   -- keys of a kind that are measured

-- run_all pipelines one command over a list of words, raising what fails.
local function run_all(redis, list, ...)
  local command, n = { ... }, select("#", ...)
  local replies = redis:pipeline(function(p)
    for _, word in ipairs(list) do
      command[n + 1] = word
      p:call(unpack(command))
    end
  end)
  for _, reply in ipairs(replies) do
    if errors.is_error(reply) then error(reply, 0) end
  end
  return replies
end

-- prefix is what the names of all keys but the rows' begin with.
local function prefix(model)
  return (core.keys(model.core).rest:gsub("%*$", ""))
end

--- count(model, progress): how many rows are stored and how many segments they are in,
-- under whatever definition. progress(done, total, what) is called meanwhile.
function M.count(model, progress)
  local top = tonumber(model.redis:call("HGET", core.keys(model.core).meta, "top")) or 0
  local column = core.keys(model.core).live
  local rows, segments = 0, math.ceil(top / SEGMENT)
  for first = 0, segments - 1, SLICE do
    local last = math.min(first + SLICE, segments) - 1
    local keys = {}
    for s = first, last do keys[#keys + 1] = column .. s end
    for _, n in ipairs(run_all(model.redis, keys, "BITCOUNT")) do rows = rows + n end
    if progress then progress(last + 1, segments, "segments") end
  end
  return rows, segments
end

-- pages iterates over the lists of keys that SCAN finds, perhaps empty ones.
local function pages(redis, pattern, progress)
  local cursor, done, total = nil, 0, redis:call("DBSIZE")
  return function()
    if cursor == "0" then return nil end
    local reply = redis:call("SCAN", cursor or "0", "MATCH", pattern, "COUNT", PAGE)
    cursor, done = reply[1], math.min(done + PAGE, total)
    if progress then progress(done, total, "keys") end
    return reply[2]
  end
end

-- weigh adds a page's keys to kinds, and the bytes of those that are measured. name_of
-- tells a key's kind.
local function weigh(redis, page, name_of, kinds)
  local sample, kind_at = {}, {}
  for _, key in ipairs(page) do
    local name = name_of(key)
    local kind = kinds[name] or { name = name, keys = 0, measured = 0, sum = 0 }
    kinds[name], kind.keys = kind, kind.keys + 1
    if kind.measured < SAMPLE then
      kind.measured = kind.measured + 1
      sample[#sample + 1], kind_at[#sample + 1] = key, kind
    end
  end
  if #sample == 0 then return end
  for i, bytes in ipairs(run_all(redis, sample, "MEMORY", "USAGE")) do
    kind_at[i].sum = kind_at[i].sum + (bytes or 0) -- false: it was deleted meanwhile
  end
end

-- weigh_rest measures what is not a row, a sample of each kind. SCAN's order is by
-- hash, so the first that come are a fair one.
local function weigh_rest(model, kinds, progress)
  local start = prefix(model)
  local function name_of(key)
    local name, mark = key:match("^([^.:=!<]*)([.:=!<]?)", #start + 1)
    return start .. name .. (mark == "." and ".S" or mark == ":" and ":HOST" or mark)
  end
  for page in pages(model.redis, core.keys(model.core).rest, progress) do
    weigh(model.redis, page, name_of, kinds)
  end
end

-- weigh_rows measures some of the rows: their number is known.
local function weigh_rows(model, kinds, rows, progress)
  local pattern = core.keys(model.core).rows
  local name = pattern:gsub("%*$", "ID")
  for page in pages(model.redis, pattern, progress) do
    weigh(model.redis, page, function() return name end, kinds)
    if kinds[name] and kinds[name].measured == SAMPLE then break end
  end
  if kinds[name] then kinds[name].keys = rows end
end

--- read(model, { progress = fn(done, total, what) }): { rows, segments, memory }. memory
-- is a list of { name, bytes, keys } by kind of key, the largest first. Kinds are named
-- as in models/README.md: "{user}:ID", "{user}/age.S", "{user}/email!". The bytes are an
-- estimate from samples. It takes scans of the server's keys, and constant memory.
function M.read(model, options)
  local progress = options and options.progress
  local rows, segments = M.count(model, progress)
  local kinds, list = {}, {}
  weigh_rest(model, kinds, progress)
  if rows > 0 then weigh_rows(model, kinds, rows, progress) end
  for _, kind in pairs(kinds) do
    local bytes = math.floor(kind.sum / kind.measured * kind.keys + 0.5)
    list[#list + 1] = { name = kind.name, bytes = bytes, keys = kind.keys }
  end
  table.sort(list, function(a, b)
    if a.bytes ~= b.bytes then return a.bytes > b.bytes end
    return a.name < b.name
  end)
  return { rows = rows, segments = segments, memory = list }
end

return M
