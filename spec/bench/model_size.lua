-- model_size: whether rates and memory stay as they are while the seed model
-- grows, from 10,000 rows to a million or to as many as are asked for.
--
--   build/neap spec/bench/model_size.lua [rows]
package.path = "spec/bench/support/?.lua;" .. package.path
local measure = require "measure"
local seed = require "seed"
local neap = require "neap"
local most = tonumber(arg[1]) or 1000000
local workers, measured = 100, 3000
local redis = neap.redis "memory:"
measure.pin(redis)
local User = seed.define(redis, { sort = true })

local function attributes(n)
  local a = seed.attributes(n)
  a.id = seed.id(n)
  return a
end

local stored = 0
local function fill(n)
  while stored < n do
    local list = {}
    for i = 1, math.min(1000, n - stored) do list[i] = attributes(stored + i) end
    User:create_many(list)
    stored = stored + #list
  end
end

-- best returns the better of three rates: others may use the machine.
local function best(fn)
  return math.max(fn(), fn(), fn())
end

local function creates()
  local list = {}
  for i = 1, measured do list[i] = attributes(stored + i) end
  stored = stored + measured
  return measure.rate(measured, function()
    measure.concurrently(workers, measured, function(i) User:create(list[i]) end)
  end)
end

-- reads gives fn ids from all over the rows.
local function reads(fn)
  local step = stored / (4 * measured)
  return measure.rate(4 * measured, function()
    measure.concurrently(workers, 4 * measured, function(i)
      assert(fn(seed.id(math.ceil(i * step))), "a row is missing")
    end)
  end)
end

local function loads()
  return reads(function(id) return User:load(id) end)
end

-- What Redis itself loses with the size, as its tables outgrow the processor's caches.
local function hashes()
  return reads(function(id) return redis:hgetall("{user}:" .. id).name end)
end

User:create(attributes(0))
local before = measure.used_memory(redis)
print(("%10s %12s %12s %12s %12s"):format("rows", "creates/s", "loads/s", "of HGETALLs",
  "bytes a row"))
local first, last
local size = 10000
repeat
  fill(size - 3 * measured)
  last = { creates = best(creates), loads = best(loads), hashes = best(hashes) }
  fill(size)
  last.memory = (measure.used_memory(redis) - before) / stored
  print(("%10d %12.0f %12.0f %12.2f %12.1f"):format(stored, last.creates, last.loads,
    last.loads / last.hashes, last.memory))
  first = first or last
  size = size * 10
until size > most
print(("the last to the first: creates %.2f, loads %.2f, HGETALLs %.2f, memory %.2f"):format(
  last.creates / first.creates, last.loads / first.loads, last.hashes / first.hashes,
  last.memory / first.memory))
