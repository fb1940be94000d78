-- model_relation: references between models. Internal; see row:related,
-- Model:has_many and field.ref.
local writing = require "neap.model_write"
local model_error = require "neap.model_error"
local fail = model_error.fail
local M = {}

local preloaded = setmetatable({}, { __mode = "k" }) -- by row, what it refers to

--- target(model, f): the model that a reference's field refers to.
function M.target(model, f)
  return f.ref == "self" and model or f.ref
end

--- enter(model): makes the models that this one refers to know of it.
function M.enter(model)
  for name, f in pairs(model.refs) do
    local target = M.target(model, f)
    target.referrers[model.name .. "." .. name] = { model = model, name = name,
      on_delete = f.on_delete }
  end
end

--- load(model, row, name): the row that row[name] refers to, or nil.
function M.load(model, row, name)
  local f = model.refs[name]
  if not f then
    fail("model.invalid", "model %s: there is no reference '%s'", model.name, tostring(name))
  end
  local key = row[name]
  if key == nil then return nil end
  key = writing.key_of(key)
  local known = preloaded[row] and preloaded[row][name]
  if known and known.key == key then return known.row end
  return M.target(model, f):load(key)
end

--- preload(model, rows, name): loads what the rows refer to, all together, for load.
function M.preload(model, rows, name)
  local keys, places = {}, {}
  for _, row in ipairs(rows) do
    local key = row[name]
    if key ~= nil and not places[key] then
      keys[#keys + 1] = key
      places[key] = #keys
    end
  end
  if #keys == 0 then return end
  local found = M.target(model, model.refs[name]):load_many(keys)
  for _, row in ipairs(rows) do
    local key = row[name]
    if key ~= nil then
      preloaded[row] = preloaded[row] or {}
      preloaded[row][name] = { key = key, row = found[places[key]] or nil }
    end
  end
end

-- sorted, so that what is restricted is looked at before anything is changed
local order = { restrict = 1, nullify = 2, cascade = 3 }

local function referrers(model)
  local list = {}
  for _, r in pairs(model.referrers) do
    if r.on_delete then list[#list + 1] = r end
  end
  table.sort(list, function(a, b)
    if a.on_delete ~= b.on_delete then return order[a.on_delete] < order[b.on_delete] end
    return a.model.name .. "." .. a.name < b.model.name .. "." .. b.name
  end)
  return list
end

--- is_referred_to(model): whether something happens to other rows when one of this
-- model is deleted.
function M.is_referred_to(model)
  return #referrers(model) > 0
end

-- place names a row among those of all models.
local function place(model, key)
  return model.name .. ":" .. tostring(key)
end

-- each calls fn with the rows that refer to a key, but for those that are being
-- deleted. A row that is gone meanwhile does not matter.
local function each(r, key, deleting, fn)
  for row in r.model:where(r.name, key):each() do
    local row_key = writing.key_of(row)
    if not deleting[place(r.model, row_key)] then
      local ok, e = pcall(fn, row, row_key)
      if not ok and not model_error.is(e, "model.gone") then error(e, 0) end
    end
  end
end

local function check_restricted(r, model, key, deleting)
  each(r, key, deleting, function()
    local n = r.model:where(r.name, key):count()
    fail("model.restricted", "model %s: %s is referred to by %d row%s of %s (%s)", model.name,
      tostring(key), n, n == 1 and "" or "s", r.model.name, r.name)
  end)
end

-- may_restrict tells whether a delete of the model's rows can be forbidden, by what
-- refers to them or to the rows that are deleted with them.
local function may_restrict(model, seen)
  if seen[model] then return false end
  seen[model] = true
  for _, r in ipairs(referrers(model)) do
    if r.on_delete == "restrict" or r.on_delete == "cascade" and may_restrict(r.model, seen) then
      return true
    end
  end
  return false
end

-- check_all raises model.restricted if the row, or one that is deleted with it,
-- cannot be: before anything is changed.
local function check_all(model, key, deleting)
  deleting[place(model, key)] = true
  for _, r in ipairs(referrers(model)) do
    if r.on_delete == "restrict" then
      check_restricted(r, model, key, deleting)
    elseif r.on_delete == "cascade" and may_restrict(r.model, {}) then
      each(r, key, deleting, function(_, row_key) check_all(r.model, row_key, deleting) end)
    end
  end
end

-- nullify takes the reference out of a row, unless it refers to another by now.
local function nullify(row, name, key)
  row[name] = nil
  local ok, e = pcall(row.save, row)
  if ok then return end
  if not model_error.is(e, "model.conflict") then error(e, 0) end
  if e.stored[name] == key then nullify(e.stored, name, key) end
end

--- release(model, key, deleting, delete): before a row is deleted: does to those that
-- refer to it what their on_delete says, with delete(row, deleting) where that is to
-- cascade. deleting has the rows that are being deleted, whose references do not
-- matter; it is empty for the first. What begins to refer to it meanwhile is not seen.
function M.release(model, key, deleting, delete)
  if not next(deleting) then check_all(model, key, {}) end
  deleting[place(model, key)] = true
  for _, r in ipairs(referrers(model)) do
    if r.on_delete == "restrict" then
      check_restricted(r, model, key, deleting)
    elseif r.on_delete == "nullify" then
      each(r, key, deleting, function(row) nullify(row, r.name, key) end)
    else
      each(r, key, deleting, function(row) delete(row, deleting) end)
    end
  end
end

return M
