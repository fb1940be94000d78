-- by_hand: what one writes without a mapper: sets of ids by value, a sorted set of ids by
-- age, and the queries of the benchmarks on these.
--
--   by_hand.add(redis, list)             -- rows as they were created, with their ids
--   by_hand.three(redis, "USA", "male", 18, 22)   -- the replies to HGETALL
local M = {}

local function country(code) return "bench:country:" .. code end
local function gender(name) return "bench:gender:" .. name end
local function age(n) return "bench:age:" .. n end
local function pair(code, name) return "bench:" .. code .. ":" .. name end
local young = "bench:young"

--- by_hand.add(redis, list): adds rows to the keys.
function M.add(redis, list)
  redis:pipeline(function(p)
    for _, row in ipairs(list) do
      p:sadd(country(row.country_code), row.id)
      p:sadd(gender(row.gender), row.id)
      p:sadd(age(row.age), row.id)
      p:zadd("bench:age", row.age, row.id)
      p:zadd(pair(row.country_code, row.gender), row.age, row.id)
    end
  end)
end

--- by_hand.rows(redis, ids): the rows' hashes, in one pipeline.
function M.rows(redis, ids)
  return redis:pipeline(function(p)
    for _, id in ipairs(ids) do p:hgetall("{user}:" .. id) end
  end)
end

-- of_ages returns the sets of the ages from low to high.
local function of_ages(low, high)
  local keys = {}
  for n = low, high do keys[#keys + 1] = age(n) end
  return keys
end

--- by_hand.three(redis, country, gender, low, high): the rows of three conditions.
function M.three(redis, code, name, low, high)
  local replies = redis:pipeline(function(p)
    p:sunionstore(young, unpack(of_ages(low, high)))
    p:sinter(young, country(code), gender(name))
  end)
  return M.rows(redis, replies[2])
end

--- by_hand.count(redis, country, gender, low, high): how many, by SINTERCARD.
function M.count(redis, code, name, low, high)
  return redis:pipeline(function(p)
    p:sunionstore(young, unpack(of_ages(low, high)))
    p:sintercard(3, young, country(code), gender(name))
  end)[2]
end

--- by_hand.ids(redis, country, gender, low, high): their ids ordered by age, by ZINTER.
function M.ids(redis, code, name, low, high)
  return redis:pipeline(function(p)
    p:zrangestore(young, "bench:age", low, high, "BYSCORE")
    p:zinter(3, young, country(code), gender(name), "WEIGHTS", 1, 0, 0)
  end)[2]
end

--- by_hand.first(redis, n, country, gender, low, high): the first n rows by age.
function M.first(redis, n, code, name, low, high)
  local replies = redis:pipeline(function(p)
    p:zrangestore(young, "bench:age", low, high, "BYSCORE")
    p:zinterstore("bench:found", 3, young, country(code), gender(name), "WEIGHTS", 1, 0, 0)
    p:zrange("bench:found", 0, n - 1)
  end)
  return M.rows(redis, replies[3])
end

--- by_hand.first_of_pair(redis, n, country, gender, low, high): the same by a sorted set of
-- the two.
function M.first_of_pair(redis, n, code, name, low, high)
  return M.rows(redis, redis:zrange(pair(code, name), low, high, "BYSCORE", "LIMIT", 0, n))
end

--- by_hand.first_of_all(redis, n): the first n rows by age.
function M.first_of_all(redis, n)
  return M.rows(redis, redis:zrange("bench:age", 0, n - 1))
end

--- by_hand.load(redis, id): one row.
function M.load(redis, id)
  return redis:hgetall("{user}:" .. id)
end

--- by_hand.unique(redis, key, value): the row that a hash of values names.
function M.unique(redis, key, value)
  return M.load(redis, redis:hget(key, value))
end

return M
