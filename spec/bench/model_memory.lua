-- model_memory: the server's memory for a row of the seed model, by what it goes
-- to, with age in a sorted set and in a packed column.
--
--   build/neap spec/bench/model_memory.lua [rows]
package.path = "spec/bench/support/?.lua;" .. package.path
local measure = require "measure"
local seed = require "seed"
local neap = require "neap"
local rows_wanted = tonumber(arg[1]) or 20000
local redis = neap.redis "memory:"

-- memory_of returns the bytes of a key, all its elements counted.
local function memory_of(key)
  return redis:call("MEMORY", "USAGE", key, "SAMPLES", "0")
end

-- structures sums up the model's keys but for its rows, by structure: the segment
-- number and the value are left out.
local function structures()
  local sums = {}
  for key in redis:scan { match = "{user}/*" } do
    local name = key:match "^{user}/(@?[^.=~!:]+)"
    sums[name] = (sums[name] or 0) + memory_of(key)
  end
  return sums
end

local function print_line(name, bytes)
  print(("  %-28s %7.1f"):format(name, bytes))
end

local function report(title, age)
  redis:flushall()
  local User = seed.define(redis, age)
  local warm = User:create(seed.attributes(0)) -- the script, buffers
  for _ = 1, 10 do User:create_many(seed.list(1000)) end
  redis:flushall()
  neap.sleep(1.5) -- the server gives buffers back
  local before = measure.used_memory(redis)
  local ids = {}
  for i = 1, rows_wanted, 1000 do
    local rows = User:create_many(seed.list(math.min(1000, rows_wanted - i + 1)))
    for _, row in ipairs(rows) do ids[#ids + 1] = row.id end
  end
  neap.sleep(1.5)
  local total = (measure.used_memory(redis) - before) / rows_wanted
  local sample, row = math.min(500, rows_wanted), 0
  for i = 1, sample do row = row + memory_of("{user}:" .. ids[i]) / sample end
  print(title .. ": bytes a row, of " .. rows_wanted .. " like " .. warm.name)
  print_line("the row's hash", row)
  local rest, names, sums = total - row, {}, structures()
  for name in pairs(sums) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    print_line(name, sums[name] / rows_wanted)
    rest = rest - sums[name] / rows_wanted
  end
  print_line("the rest: the table of keys", rest)
  print_line("in all", total)
end

report("age sorted", { sort = true })
report("age packed", { index = true })
