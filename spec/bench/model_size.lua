-- model_size: whether rates and memory stay as they are while the seed model grows, from
-- 10,000 rows to a million or to as many as are asked for. Beside each size a server with
-- 10,000 rows is measured in turns with it, as others may use the machine.
--
--   build/neap spec/bench/model_size.lua [rows]
package.path = "spec/bench/support/?.lua;" .. package.path
local measure = require "measure"
local seed = require "seed"
local neap = require "neap"
local most = tonumber(arg[1]) or 1000000
local workers, measured, rounds, least = 100, 5000, 9, 10000

local Store = {}
Store.__index = Store

-- Store.open starts a server with a model that has no rows yet.
function Store.open()
  local store = setmetatable({ redis = neap.redis("memory:", {}), count = 0 }, Store)
  measure.pin(store.redis)
  store.model = seed.define(store.redis, { sort = true })
  store:empty()
  return store
end

function Store:next_row()
  local a = seed.attributes(self.count)
  a.id = seed.id(self.count)
  self.count = self.count + 1
  return a
end

function Store:fill(n)
  while self.count < n do
    local list = {}
    for i = 1, math.min(1000, n - self.count) do list[i] = self:next_row() end
    self.model:create_many(list)
  end
end

-- A model's first row makes what all share.
function Store:empty()
  self.redis:flushall()
  self.model:sync()
  self.count = 0
  self:fill(1)
  self.bytes = measure.used_memory(self.redis)
end

function Store:bytes_a_row()
  return (measure.used_memory(self.redis) - self.bytes) / (self.count - 1)
end

function Store:creates()
  local list = {}
  for i = 1, measured do list[i] = self:next_row() end
  return measure.rate(measured, function()
    measure.concurrently(workers, measured, function(i) self.model:create(list[i]) end)
  end)
end

-- reads gives fn ids from all over the rows.
function Store:reads(fn)
  local step = (self.count - 1) / (4 * measured)
  return measure.rate(4 * measured, function()
    measure.concurrently(workers, 4 * measured, function(i)
      assert(fn(seed.id(math.floor(i * step))), "a row is missing")
    end)
  end)
end

function Store:loads()
  return self:reads(function(id) return self.model:load(id) end)
end

-- What Redis itself loses with the size, as its tables outgrow the processor's caches.
function Store:hashes()
  return self:reads(function(id) return self.redis:hgetall("{user}:" .. id).name end)
end

local kinds = { "creates", "loads", "hashes" }

-- compare returns the medians of both stores' rates by kind, measured in turns.
local function compare(small, large)
  local rates = {}
  for _, kind in ipairs(kinds) do rates[kind] = { small = {}, large = {} } end
  for round = 1, rounds do
    small:empty()
    small:fill(least - measured)
    for _, kind in ipairs(kinds) do
      rates[kind].small[round] = small[kind](small)
      rates[kind].large[round] = large[kind](large)
    end
  end
  for _, kind in ipairs(kinds) do
    rates[kind] = { small = measure.middle(rates[kind].small),
      large = measure.middle(rates[kind].large) }
  end
  return rates
end

local function show(store, rates, of)
  local words = {}
  for i, kind in ipairs(kinds) do
    local r = rates[kind]
    words[i] = ("%12.0f %8.2f"):format(r[of], r[of] / r.small)
  end
  print(("%10d %s %12.1f"):format(store.count, table.concat(words, " "), store:bytes_a_row()))
end

local small, large = Store.open(), Store.open()
print(("%10s %12s %8s %12s %8s %12s %8s %12s"):format("rows", "creates/s", "of 10k", "loads/s",
  "of 10k", "HGETALLs/s", "of 10k", "bytes a row"))
local size = 10 * least
repeat
  large:fill(size - rounds * measured)
  local rates = compare(small, large)
  if size == 10 * least then show(small, rates, "small") end
  show(large, rates, "large")
  size = size * 10
until size > most
