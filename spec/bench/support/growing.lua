-- growing: the model of spec/bench/query_growth.lua: the seed model with a unique field, a
-- time and a compound index. All of row n follows from n.
local seed = require "seed"
local neap = require "neap"
local field = neap.field
local M = {}

local begin = 1700000000

--- growing.define(redis): the model.
function M.define(redis)
  return seed.define(redis, { index = true }, {
    fields = {
      email = field.string { required = true, unique = true },
      created_at = field.time { required = true, sort = true },
    },
    indexes = { { "country_code", "gender", "created_at" } },
  })
end

--- growing.email(n), growing.created_at(n): of row n.
function M.email(n) return "user" .. n .. "@example.com" end
function M.created_at(n) return begin + n end

--- growing.attributes(n): those of row n.
function M.attributes(n)
  local row = seed.attributes(n)
  row.id, row.email, row.created_at = seed.id(n), M.email(n), M.created_at(n)
  return row
end

return M
