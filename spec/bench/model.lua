-- model: creates, loads and queries of the seed model, beside redis-benchmark
-- and ZINTER on the same server in the same run.
--
--   NEAP_REDIS=memory build/neap spec/bench/model.lua [rows]
local neap = require "neap"
local rows_wanted = tonumber(arg[1]) or 20000
local workers = 100
local model, field = neap.model, neap.field
local redis = neap.redis()

local User = model.define("bench_user", {
  id = field.uuid { primary_key = true },
  name = field.string { required = true },
  age = field.integer { required = true, min = 0, max = 150, sort = true },
  gender = field.enum { "male", "female", index = true },
  country_code = field.enum { "USA", "GBR", "DEU", "FRA", "ITA", "ESP", "NLD", "SWE", "POL", "PRT",
    index = true },
})
local countries = { "USA", "GBR", "DEU", "FRA", "ITA", "ESP", "NLD", "SWE", "POL", "PRT" }

local function socket()
  local path = redis:call("CONFIG", "GET", "unixsocket")[2]
  local dir = redis:call("CONFIG", "GET", "dir")[2]
  return path:sub(1, 1) == "/" and path or dir .. "/" .. path
end

-- redis-benchmark's requests a second for SET, 50 clients, 16 in a pipeline
local function reference()
  local out = io.popen("redis-benchmark -s " .. socket() ..
    " -c 50 -P 16 -n 1000000 -t set --csv 2>/dev/null"):read("*a")
  return tonumber(out:match('"SET","([%d.]+)"'))
end

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

local function rate(n, fn)
  local t0 = neap.monotonic()
  fn()
  return n / (neap.monotonic() - t0)
end

local function concurrently(n, fn)
  local list = {}
  for w = 1, workers do list[w] = w end
  neap.map(function(w)
    for i = w, n, workers do fn(i) end
  end, list)
end

local function median(n, fn)
  local times = {}
  for i = 1, n do
    local t0 = neap.monotonic()
    fn()
    times[i] = (neap.monotonic() - t0) * 1000
  end
  table.sort(times)
  return times[math.ceil(n / 2)]
end

User:drop()
local ref = reference()
print(("redis-benchmark -c 50 -P 16 -t set: %.0f/s"):format(ref))
local ids = {}
local creates = rate(rows_wanted, function()
  concurrently(rows_wanted, function(i) ids[i] = User:create(attributes(i)).id end)
end)
print(("creates, %d tasks: %.0f/s, %.3f of it"):format(workers, creates, creates / ref))
local loads = rate(rows_wanted, function()
  concurrently(rows_wanted, function(i) assert(User:load(ids[i]).id == ids[i]) end)
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
local zinter = median(51, function()
  redis:zrangestore("bench:young", "bench:age", 18, 22, "BYSCORE")
  redis:zinter(3, "bench:country:USA", "bench:gender:male", "bench:young")
end)
local count, all = median(51, function() query:count() end), median(51, function() query:all() end)
local first10 = median(51, function() query:order_by("age"):limit(10):all() end)
local walk10 = median(51, function() User:rows():order_by("age"):limit(10):all() end)
print(("three conditions, %d of %d rows: ids by ZINTER %.2f ms; count %.2f ms (%.1f times as fast), "
  .. "rows %.2f ms (%.1f times)"):format(found, rows_wanted, zinter, count, zinter / count, all,
  zinter / all))
print(("ordered by age, first 10: of those %.2f ms, of all %.2f ms"):format(first10, walk10))
User:drop()
for _, name in ipairs { "bench:age", "bench:young", "bench:gender:male", "bench:gender:female" } do
  redis:del(name)
end
for _, c in ipairs(countries) do redis:del("bench:country:" .. c) end
