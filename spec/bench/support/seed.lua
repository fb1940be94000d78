-- seed: the model that the benchmarks write and read, and its rows.
--
--   local User = seed.define(redis, { sort = true })   -- options of its age
--   User:create(seed.attributes(1))
local neap = require "neap"
local M = {}

M.countries = { "USA", "GBR", "DEU", "FRA", "ITA", "ESP", "NLD", "SWE", "POL", "PRT" }

--- seed.define(redis, age, more): the model; age says how that field is indexed,
-- { sort = true } or { index = true }; more, which may be left out, has further fields
-- and compound indexes.
function M.define(redis, age, more)
  local field = neap.field
  local fields = {
    id = field.uuid { primary_key = true },
    name = field.string { required = true },
    age = field.integer { required = true, min = 0, max = 150, sort = age.sort,
      index = age.index },
    gender = field.enum { "male", "female", index = true },
    country_code = field.enum { M.countries[1], M.countries[2], M.countries[3], M.countries[4],
      M.countries[5], M.countries[6], M.countries[7], M.countries[8], M.countries[9],
      M.countries[10], index = true },
  }
  for name, f in pairs(more and more.fields or {}) do fields[name] = f end
  return neap.model.define("user", fields, { redis = redis, indexes = more and more.indexes })
end

--- seed.id(n): the id of row n, where it is not to be remembered.
function M.id(n)
  return ("%08x-0000-4000-8000-%012x"):format(n, n)
end

-- The generator of Numerical Recipes: uniform, and alike in every run.
local state = 1
local function draw(n)
  state = (state * 1664525 + 1013904223) % 4294967296
  return math.floor(state / 65536) % n
end

--- seed.restart(): the rows that follow are those of the beginning again.
function M.restart()
  state = 1
end

--- seed.attributes(i): those of the next row, which is named after i.
function M.attributes(i)
  return {
    name = "user " .. i,
    age = 18 + draw(50),
    gender = draw(2) == 0 and "male" or "female",
    country_code = M.countries[draw(10) + 1],
  }
end

--- seed.list(n): the attributes of n rows.
function M.list(n)
  local list = {}
  for i = 1, n do list[i] = M.attributes(i) end
  return list
end

--- seed.batches(list, size): the list in lists of that size.
function M.batches(list, size)
  local batches = {}
  for i = 1, #list, size do
    batches[#batches + 1] = { unpack(list, i, math.min(i + size - 1, #list)) }
  end
  return batches
end

return M
