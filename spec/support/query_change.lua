-- query_change: updates and deletes rows by a random query, and tells the world's mirror.
--
--   local wrong, text = change(g, world)     -- nil, or what is wrong and the query's text
--
-- What has become of the indexes, the next queries show.
local neap = require "neap"
local rows = require "support.model_random"
local oracle = require "support.query_oracle"
local random = require "support.query_random"
local source = require "support.query_source"

-- random_values returns what an update sets: one or two fields that any row may share.
local function random_values(g, w)
  local values = {}
  for _ = 1, 10 do
    local name = g:one_of(g.names[w.model])
    local f = w.model.fields[name]
    local is_key = f.primary_key or name == "left" or name == "right"
    if not is_key and not f.unique and not f.element then
      values[name] = g:value(f)
      if not f.required and g:chance(25) then values[name] = neap.null end
      if g:chance(60) then break end
    end
  end
  return next(values) and values
end

local all = { all = true } -- conditions that leave no row out need it

-- tell notes in the mirror what was done to the places.
local function tell(w, places, values)
  for _, place in ipairs(places) do
    if not values then w.mirror.rows[place.id] = nil end
    for name, v in pairs(values or {}) do
      if v == neap.null then v = nil end
      place.row[name] = v
    end
  end
  random.note(w)
end

return function(g, w)
  if not random.features.change then return nil end
  local q = g:query(w)
  q.orders, q.limit, q.offset = {}, nil, nil
  local places = oracle.all(q, w.places, w.related)
  local values = random_values(g, w)
  if #places * 10 < #w.places and g:chance(40) then values = nil end
  if not values and #places * 10 >= #w.places then return nil end
  local text = source.query_text(q) ..
    (values and ":update " .. source.literal(values) or ":delete()")
  local ok, query = pcall(source.query, q, w.model)
  if not ok then
    if neap.is_error(query, "model.unindexed") then return nil end
    return tostring(query), text
  end
  local n
  if values then
    ok, n = pcall(query.update, query, values, all)
  else
    ok, n = pcall(query.delete, query, all)
  end
  if not ok then return "raised: " .. tostring(n), text end
  if n ~= #places then return ("%s rows, want %d"):format(tostring(n), #places), text end
  tell(w, places, values)
  local wrong = rows.compare(w.model, w.mirror)
  if #wrong > 0 then return wrong[1], text end
end
