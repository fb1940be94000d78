-- model: writes, loads and queries of the seed model, beside the write script
-- alone, redis-benchmark and ZINTER, on the same server in the same run.
--
--   build/neap spec/bench/model.lua [rows]
package.path = "spec/bench/support/?.lua;" .. package.path
local measure = require "measure"
local recorder = require "recorder"
local seed = require "seed"
local neap = require "neap"
local model = neap.model
local rows_wanted = tonumber(arg[1]) or 20000
local workers, rounds = 100, 9
local redis = neap.redis "memory:"
measure.pin(redis)

local User = seed.define(redis, { sort = true })
local data = seed.list(rows_wanted)

-- script_alone returns rows a second when redis-cli feeds the server the very
-- commands that neap sends, in batches of 32 rows: what no client can surpass.
local function script_alone()
  local batch = 32
  local relay = recorder.start(measure.socket(redis))
  local client = neap.redis(relay.url)
  local Recorded = seed.define(client, { sort = true })
  Recorded:create(data[1]) -- the script is loaded
  relay:clear()
  -- a list with nothing under way is sent as two batches
  for _, list in ipairs(seed.batches(data, 2 * batch)) do Recorded:create_many(list) end
  local bytes = relay:bytes()
  client:close()
  relay:stop()
  local _, calls = bytes:gsub("\r\n$7\r\nEVALSHA\r\n", "")
  assert(calls == 2 * math.ceil(rows_wanted / 2 / batch), calls .. " batches of another size")
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write(bytes)
  file:close()
  redis:flushall()
  User:sync()
  local answer
  local rate = measure.rate(rows_wanted, function()
    answer = measure.run("sh", { "-c", "exec redis-cli -s \"$0\" --pipe <\"$1\"",
      measure.socket(redis), path })
  end)
  os.remove(path)
  assert(answer:find "errors: 0", answer)
  assert(User:rows():count() == rows_wanted, "rows are missing")
  return rate
end

-- creating, each time from an empty database --------------------------------

local ids = {}
local function creates_by(tasks, n)
  redis:flushall()
  return measure.rate(n, function()
    measure.concurrently(tasks, n, function(i) ids[i] = User:create(data[i]).id end)
  end)
end

local function creates_by_lists(tasks, size)
  redis:flushall()
  local lists = seed.batches(data, size)
  return measure.rate(rows_wanted, function()
    measure.concurrently(tasks, #lists, function(i) User:create_many(lists[i]) end)
  end)
end

creates_by(workers, math.min(rows_wanted, 5000)) -- until all is compiled
local script, creates, lists, lists_by_two = {}, {}, {}, {}
for i = 1, rounds do
  script[i], creates[i] = script_alone(), creates_by(workers, rows_wanted)
  lists[i], lists_by_two[i] = creates_by_lists(1, 1000), creates_by_lists(2, 1000)
end
script, creates = measure.middle(script), measure.middle(creates)
lists, lists_by_two = measure.middle(lists), measure.middle(lists_by_two)
print(("medians of %d rounds in turns:"):format(rounds))
print(("the write script alone, 32 rows a call: %.0f rows/s"):format(script))
print(("creates, %d tasks: %.0f/s, %.2f of it"):format(workers, creates, creates / script))
print(("create_many, lists of 1000: %.0f rows/s, %.2f of the creates; by 2 tasks %.0f, %.2f")
  :format(lists, lists / creates, lists_by_two, lists_by_two / creates))

local sets, set_and_get, single = {}, {}, {}
for i = 1, rounds do
  local both = measure.redis_benchmark(redis, "set,get", "-c", "1", "-P", "1", "-n", "10000")
  sets[i], set_and_get[i] = both.SET, 1 / (1 / both.SET + 1 / both.GET)
  single[i] = creates_by(1, math.min(rows_wanted, 5000))
end
sets, set_and_get = measure.middle(sets), measure.middle(set_and_get)
single = measure.middle(single)
print(("creates, one after the other: %.0f/s, of redis-benchmark -c 1 -P 1 %.2f of the pairs of "
  .. "SET and GET (%.0f), %.2f of the SETs (%.0f)"):format(single, single / set_and_get,
  set_and_get, single / sets, sets))

-- loading -------------------------------------------------------------------

creates_by(workers, rows_wanted)
local function hgetall(...)
  return measure.redis_benchmark_of(redis, { ... }, "HGETALL", "{user}:" .. ids[1])
end
local by_one = hgetall("-c", "1", "-P", "100", "-n", "400000")
local by_hundred = hgetall("-c", "100", "-P", "1", "-n", "100000")
local loads = measure.rate(rows_wanted, function()
  measure.concurrently(workers, rows_wanted, function(i) assert(User:load(ids[i]).id == ids[i]) end)
end)
print(("loads, %d tasks: %.0f/s, of redis-benchmark's HGETALL of a row %.2f of -c 100 (%.0f), "
  .. "%.2f of -c 1 -P 100 (%.0f)"):format(workers, loads, loads / by_hundred, by_hundred,
  loads / by_one, by_one))

-- saving --------------------------------------------------------------------

local saved = User:load(ids[1])
saved.name = "another"
saved:save()
local _, commands = measure.commands(redis, function()
  saved.name = "a third"
  saved:save()
end)
print("a save of one field without an index, as the server counts: " .. commands)
local list = User:load_many({ unpack(ids, 1, math.min(rows_wanted, 5000)) })
local saves = measure.rate(#list, function()
  measure.concurrently(workers, #list, function(i)
    list[i].name = "saved"
    list[i]:save()
  end)
end)
print(("saves, %d tasks: %.0f/s, %.2f of the creates"):format(workers, saves, saves / creates))

-- querying: the same three conditions over plain sorted sets of ids ---------

for i = 1, rows_wanted, 1000 do
  redis:pipeline(function(p)
    for j = i, math.min(i + 999, rows_wanted) do
      p:zadd("bench:country:" .. data[j].country_code, 0, ids[j])
      p:zadd("bench:gender:" .. data[j].gender, 0, ids[j])
      p:zadd("bench:age", data[j].age, ids[j])
    end
  end)
end
redis:zrangestore("bench:young", "bench:age", 18, 22, "BYSCORE")
local query = User:where { country_code = "USA", gender = "male", age = model.between(18, 22) }
local found, expected = #query:all(), #redis:zinter(3, "bench:country:USA", "bench:gender:male",
  "bench:young")
assert(found == expected, found .. " rows, " .. expected .. " expected")
local zinter = measure.median(51, function()
  redis:zrangestore("bench:young", "bench:age", 18, 22, "BYSCORE")
  redis:zinter(3, "bench:country:USA", "bench:gender:male", "bench:young")
end)
local count = measure.median(51, function() query:count() end)
local all = measure.median(51, function() query:all() end)
local first10 = measure.median(51, function() query:order_by("age"):limit(10):all() end)
local walk10 = measure.median(51, function() User:rows():order_by("age"):limit(10):all() end)
print(("three conditions, %d of %d rows: ids by ZINTER %.2f ms; count %.2f ms (%.1f times as "
  .. "fast), rows %.2f ms (%.1f times)"):format(found, rows_wanted, zinter, count,
  zinter / count, all, zinter / all))
print(("ordered by age, first 10: of those %.2f ms, of all %.2f ms"):format(first10, walk10))
