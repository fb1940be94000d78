-- model: creates, loads and queries of the seed model, beside redis-benchmark
-- and ZINTER on the same server in the same run.
--
--   build/neap spec/bench/model.lua [rows]
package.path = "spec/bench/support/?.lua;" .. package.path
local measure = require "measure"
local neap = require "neap"
local rows_wanted = tonumber(arg[1]) or 20000
local workers = 100
local model, field = neap.model, neap.field
local redis = neap.redis "memory:"
measure.pin(redis)

local User = model.define("bench_user", {
  id = field.uuid { primary_key = true },
  name = field.string { required = true },
  age = field.integer { required = true, min = 0, max = 150, sort = true },
  gender = field.enum { "male", "female", index = true },
  country_code = field.enum { "USA", "GBR", "DEU", "FRA", "ITA", "ESP", "NLD", "SWE", "POL", "PRT",
    index = true },
}, { redis = redis })
local countries = { "USA", "GBR", "DEU", "FRA", "ITA", "ESP", "NLD", "SWE", "POL", "PRT" }

-- uniform data: the numerical recipes' generator, three draws a row
local seed = 1
local function draw(n)
  seed = (seed * 1664525 + 1013904223) % 4294967296
  return math.floor(seed / 65536) % n
end
local data = {}
for i = 1, rows_wanted do
  data[i] = { name = "user " .. i, age = 18 + draw(50), gender = draw(2) == 0 and "male"
    or "female", country_code = countries[draw(10) + 1] }
end
local function attributes(i) return data[i] end

User:drop()
local ref = measure.redis_benchmark(redis, "set", "-c", "50", "-P", "16", "-n", "1000000").SET
print(("redis-benchmark -c 50 -P 16 -t set: %.0f/s"):format(ref))
local ids = {}
local creates = measure.rate(rows_wanted, function()
  measure.concurrently(workers, rows_wanted, function(i) ids[i] = User:create(attributes(i)).id end)
end)
print(("creates, %d tasks: %.0f/s, %.3f of it"):format(workers, creates, creates / ref))
local loads = measure.rate(rows_wanted, function()
  measure.concurrently(workers, rows_wanted, function(i) assert(User:load(ids[i]).id == ids[i]) end)
end)
print(("loads, %d tasks: %.0f/s, %.3f of it"):format(workers, loads, loads / ref))

-- the same three conditions over plain sorted sets of ids
for i = 1, rows_wanted, 1000 do
  redis:pipeline(function(p)
    for j = i, math.min(i + 999, rows_wanted) do
      local a = attributes(j)
      p:zadd("bench:country:" .. a.country_code, 0, ids[j])
      p:zadd("bench:gender:" .. a.gender, 0, ids[j])
      p:zadd("bench:age", a.age, ids[j])
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
User:drop()
for _, name in ipairs { "bench:age", "bench:young", "bench:gender:male", "bench:gender:female" } do
  redis:del(name)
end
for _, c in ipairs(countries) do redis:del("bench:country:" .. c) end
