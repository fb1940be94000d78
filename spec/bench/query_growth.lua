-- query_growth: whether queries take as long as before while the model grows, and what a
-- filter's time follows.
--
--   build/neap spec/bench/query_growth.lua [rows...]      (10000 100000 1000000)
package.path = "spec/bench/support/?.lua;" .. package.path
local by_hand = require "by_hand"
local growing = require "growing"
local measure = require "measure"
local neap = require "neap"
local uv = require "luv"
local open = require("neap.query").open
local costs_of = require("neap.core.model").query_costs
local model = neap.model
local writers, batch, calls = 4, 1000, 200
local by_hand_most = 1000000 -- rows, of which there are sets of ids
local redis = neap.redis "memory:"
measure.pin(redis)
local User = growing.define(redis)

local stored = 0
-- grow returns the rate at which rows were created.
local function grow(size)
  local first = stored
  stored = size
  return measure.rate(size - first, function()
    measure.concurrently(writers, math.ceil((size - first) / batch), function(i)
      local list = {}
      for n = first + (i - 1) * batch + 1, math.min(first + i * batch, size) do
        list[#list + 1] = growing.attributes(n)
      end
      User:create_many(list)
    end)
  end)
end

-- add_by_hand adds the rows behind `first` to the sets of ids.
local function add_by_hand(first)
  local list = {}
  for row in User:where { created_at = model.gt(growing.created_at(first)) }:each() do
    list[#list + 1] = row
    if #list == batch then
      by_hand.add(redis, list)
      list = {}
    end
  end
  by_hand.add(redis, list)
end

-- draws returns a function that draws rows from all over.
local function draws()
  local i = 0
  return function()
    i = i + 1
    return i * 7919 % stored + 1
  end
end

local function compound()
  local q = User:where { country_code = "USA", gender = "male" }:order_by("created_at", "desc")
  return measure.cost(redis, calls, function() assert(#q:limit(10):all() == 10) end)
end

local function unique()
  local draw = draws()
  return measure.cost(redis, calls, function()
    assert(User:where("email", growing.email(draw())):one(), "a row is missing")
  end)
end

-- pages measures those that follow the middle, from there again after the last.
local function pages()
  local middle = growing.created_at(math.floor(stored / 2))
  local _, first = User:where { created_at = model.ge(middle) }:order_by("created_at")
    :page { size = 20 }
  local cursor = first
  local q = User:rows():order_by("created_at")
  return measure.cost(redis, calls, function()
    local rows, following = q:page { size = 20, after = cursor }
    assert(#rows > 0 and rows[1].created_at > middle, "another page")
    cursor = following or first
  end)
end

local conditions = { country_code = "USA", gender = "male", age = model.between(18, 22) }
local filter = User:where(conditions)

-- first_counts returns the time of a count by a host that has kept no columns yet, and the
-- bytes of columns that it reads.
local function first_counts()
  local costs = costs_of(open(growing.define(redis):where(conditions), { counted = true }))
  local fresh = {}
  for i = 1, 11 do fresh[i] = growing.define(redis):where(conditions) end
  return measure.cost(redis, #fresh, function() table.remove(fresh):count() end),
    costs.column_bytes
end

local function counts()
  for _ = 1, 3 do filter:count() end
  return measure.cost(redis, calls, function() filter:count() end)
end

local function counts_by_hand()
  local n = #by_hand.ids(redis, "USA", "male", 18, 22)
  assert(n == filter:count() and n == by_hand.count(redis, "USA", "male", 18, 22), "another count")
  return measure.median(11, function() by_hand.ids(redis, "USA", "male", 18, 22) end),
    measure.median(11, function() by_hand.count(redis, "USA", "male", 18, 22) end)
end

-- iteration has a process of its own, whose memory is that of the iteration.
local function iteration()
  local answer = measure.run(uv.exepath(), { "spec/bench/support/each.lua",
    "unix://" .. measure.socket(redis) })
  local rate, peak, before = answer:match "(%S+)%s+(%S+)%s+(%S+)"
  return tonumber(rate), tonumber(peak), tonumber(before)
end

local function measured(size)
  local first = stored
  local m = { creates = grow(size) }
  m.compound, m.unique, m.page = compound(), unique(), pages()
  m.count, m.first_count, m.bytes = counts(), first_counts()
  m.each, m.peak, m.before = iteration()
  if size <= by_hand_most then
    add_by_hand(first)
    m.zinter, m.sintercard = counts_by_hand()
    redis:del "bench:young"
  end
  return m
end

local function in_ms(key)
  return function(m) return m[key].median end
end

-- in_processor: the host's time and the server's.
local function in_processor(key)
  return function(m) return m[key].own + m[key].server end
end

local function plain(key)
  return function(m) return m[key] end
end

local lines = {
  { "creates/s", plain "creates", "%.0f" },
  { "compound index, limit 10: ms", in_ms "compound", "%.3f" },
  { "  processor time: us", in_processor "compound", "%.0f" },
  { "unique lookup: ms", in_ms "unique", "%.3f" },
  { "  processor time: us", in_processor "unique", "%.0f" },
  { "page of 20 behind the middle: ms", in_ms "page", "%.3f" },
  { "  processor time: us", in_processor "page", "%.0f" },
  { "count of three conditions: ms", in_ms "count", "%.3f" },
  { "  processor time: us", in_processor "count", "%.0f" },
  { "  the first time: ms", in_ms "first_count", "%.3f" },
  { "  bytes of columns read then", plain "bytes", "%.0f" },
  { "  ids by ZINTER: ms", plain "zinter", "%.3f" },
  { "  SINTERCARD: ms", plain "sintercard", "%.3f" },
  { "each(): rows/s", plain "each", "%.0f" },
  { "  peak of memory: MiB", plain "peak", "%.1f" },
  { "  before the rows: MiB", plain "before", "%.1f" },
}

local sizes, results = {}, {}
for i, size in ipairs(#arg > 0 and arg or { 10000, 100000, 1000000 }) do
  sizes[i] = tonumber(size)
  results[i] = measured(sizes[i])
  io.stderr:write(("%d rows are done\n"):format(sizes[i]))
end

local function print_line(name, text_of)
  local line = { ("%-34s"):format(name) }
  for i = 1, #sizes do line[#line + 1] = ("%22s"):format(text_of(i)) end
  print(table.concat(line))
end

print_line("rows (beside: to the first size)", function(i) return ("%d"):format(sizes[i]) end)
for _, line in ipairs(lines) do
  local name, value_of, form = unpack(line)
  print_line(name, function(i)
    local v = value_of(results[i])
    return v and (form .. " (%.2f)"):format(v, v / value_of(results[1])) or "-"
  end)
end
