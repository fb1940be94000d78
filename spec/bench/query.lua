-- query: queries of the seed model beside the same answers by bare Redis commands, on the
-- same server in the same run: sets of ids by value, intersected, then the rows' hashes.
--
--   build/neap spec/bench/query.lua [rows...]      (20000 100000)
package.path = "spec/bench/support/?.lua;" .. package.path
local by_hand = require "by_hand"
local measure = require "measure"
local seed = require "seed"
local neap = require "neap"
local model, field = neap.model, neap.field
local rounds, calls, batch = 4, 100, 1000
local redis = neap.redis "memory:"
measure.pin(redis)

local variants = {
  packed = { { index = true } },
  sorted = { { sort = true } },
  compound = { { index = true }, {
    fields = { email = field.string { unique = true } },
    indexes = { { "country_code", "gender", "age" } },
  } },
}

local function email_of(i) return "user" .. i .. "@example.com" end

-- fill makes a variant of the model with that many rows, by hand as well.
local function fill(variant, size)
  redis:flushall()
  seed.restart()
  local User = seed.define(redis, unpack(variants[variant]))
  for from = 1, size, batch do
    local list = {}
    for i = from, math.min(from + batch - 1, size) do
      local row = seed.attributes(i)
      row.id = seed.id(i)
      if variant == "compound" then row.email = email_of(i) end
      list[#list + 1] = row
    end
    User:create_many(list)
    by_hand.add(redis, list)
  end
  return User
end

-- middle returns the round with the middle of the medians.
local function middle(list)
  table.sort(list, function(a, b) return a.median < b.median end)
  return list[math.ceil(#list / 2)]
end

-- report measures in turns, so that what else the machine does hits both alike. Both have to
-- find as many rows.
local function report(name, ours, theirs)
  local a, b = ours(), theirs()
  local n, other = type(a) == "table" and #a or a, type(b) == "table" and #b or b
  if n ~= other then error(("%s: %s here, %s by hand"):format(name, n, other), 0) end
  measure.median(calls, ours) -- until all is compiled
  measure.median(calls, theirs)
  local mine, yours = {}, {}
  for i = 1, rounds do
    mine[i] = measure.cost(redis, calls, ours)
    yours[i] = measure.cost(redis, calls, theirs)
  end
  local m, y = middle(mine), middle(yours)
  print(("%-34s %6d %8.3f %8.3f %7.0f %7.0f %9.3f %7.0f %7.0f %7.2f"):format(name, n, m.median,
    m.p95, m.own, m.server, y.median, y.own, y.server, y.median / m.median))
end

local ours = { age = { 18, 19, 20, 21, 22 }, country_code = "USA", gender = "male" }
local theirs = { "USA", "male", 18, 22 }

local function bare(name, ...)
  local args = { redis, ... }
  return function() return by_hand[name](unpack(args)) end
end

local function report_packed(User, size)
  local q = User:where(ours)
  local between = User:where { age = model.between(18, 22), country_code = "USA", gender = "male" }
  report("three conditions", function() return q:all() end, bare("three", unpack(theirs)))
  report("count()", function() return q:count() end, bare("count", unpack(theirs)))
  report("count(), a range of ages", function() return between:count() end,
    bare("count", unpack(theirs)))
  report("ordered by age, first 10", function() return q:order_by("age"):limit(10):all() end,
    bare("first", 10, unpack(theirs)))
  report("all rows by age, first 10", function()
    return User:rows():order_by("age"):limit(10):all()
  end, bare("first_of_all", 10))
  local id = seed.id(math.floor(size / 2))
  report("load", function() return { User:load(id) } end, function()
    return { by_hand.load(redis, id) }
  end)
end

local function report_sorted(User)
  local q = User:where { age = model.between(18, 22), country_code = "USA", gender = "male" }
  report("sorted: three conditions", function() return q:all() end,
    bare("three", unpack(theirs)))
  report("sorted: ordered, first 10", function() return q:order_by("age"):limit(10):all() end,
    bare("first", 10, unpack(theirs)))
  report("sorted: all rows by age, first 10", function()
    return User:rows():order_by("age"):limit(10):all()
  end, bare("first_of_all", 10))
end

local function report_compound(User, size)
  local q = User:where { age = model.between(18, 22), country_code = "USA", gender = "male" }
  report("compound: ordered, first 10", function() return q:order_by("age"):limit(10):all() end,
    bare("first_of_pair", 10, unpack(theirs)))
  local email = email_of(math.floor(size / 2))
  report("unique lookup", function() return User:where("email", email):all() end, function()
    return { by_hand.unique(redis, "{user}/email!", email) }
  end)
end

for _, asked in ipairs(#arg > 0 and arg or { 20000, 100000 }) do
  local size = tonumber(asked)
  print(("%d rows: milliseconds; processor time of the host and of the server in "
    .. "microseconds"):format(size))
  print(("%-34s %6s %8s %8s %7s %7s %9s %7s %7s %7s"):format("", "rows", "median", "95th",
    "host", "server", "by hand", "host", "server", "times"))
  report_packed(fill("packed", size), size)
  report_sorted(fill("sorted", size))
  report_compound(fill("compound", size), size)
end
