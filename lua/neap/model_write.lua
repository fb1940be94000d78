-- model_write: what is done to rows before and after host/model stores them: defaults,
-- hooks, computed fields, checks, expired rows in the way. Internal.
local core = require "neap.core.model"
local task = require "neap.core.task"
local errors = require "neap.core.error"
local model_error = require "neap.model_error"
local null = require("neap.core.json").null
local FAIL = task.FAIL
local fail = model_error.fail
local M = {}

--- model_write.shadows: row -> what it was loaded as.
M.shadows = setmetatable({}, { __mode = "k" })
--- model_write.model_of: class of rows -> model.
M.model_of = setmetatable({}, { __mode = "k" })

--- key_of(value): the primary key of a row, or the value itself.
function M.key_of(value)
  local model = type(value) == "table" and M.model_of[getmetatable(value)]
  if not model then return value end
  return model.primary and value[model.primary] or M.key_text(model, value)
end

--- key_text(model, row): the canonical text of its key; nil without one.
function M.key_text(model, row)
  local id = row[model.primary]
  if model.parts then
    id = {}
    for _, name in ipairs(model.parts) do id[name] = M.key_of(row[name]) end
  end
  return core.row_id(model.core, id)
end

-- resolve puts keys in the place of rows that references are given as.
local function resolve(model, row)
  for name in pairs(model.refs) do
    local value = row[name]
    if type(value) == "table" then rawset(row, name, M.key_of(value)) end
  end
end

--- run_hook(model, name, row): calls the model's hook of that name, if it has one.
function M.run_hook(model, name, row)
  local hook = model.hooks[name]
  if hook then hook(row) end
end

--- prepare(model, attributes): a new row of them, with defaults where they are nil, and
-- what is wrong with it so far; true if nothing is and all names are known.
function M.prepare(model, attributes, level)
  if type(attributes) ~= "table" then
    error(("model %s: a table of attributes expected, got %s"):format(model.name,
      type(attributes)), level + 1)
  end
  local row, fields, wrong, are_known = {}, model.fields, nil, true
  for k, v in pairs(attributes) do
    if v ~= null then row[k] = v end
    are_known = are_known and fields[k]
  end
  for name in pairs(model.computed) do
    if attributes[name] ~= nil then
      wrong = wrong or {}
      wrong[name] = "it is computed"
    end
  end
  for name, default in pairs(model.defaults) do
    if attributes[name] == nil then
      if type(default) == "function" then
        row[name] = default()
      else
        row[name] = default
      end
    end
  end
  if model.hooks.before_create then
    model.hooks.before_create(row)
    are_known = false
  end
  wrong = M.complete(model, row, nil, wrong)
  return row, wrong or are_known and true or nil
end

-- check_in_lua: apart, as LuaJIT compiles no function that makes closures.
local function check_in_lua(model, row, old, wrong)
  return model.check(row, old and function(name) return core.stored(model.core, old, name) end,
    wrong)
end

--- complete(model, row, old, wrong): computes what is computed and checks the rest; old
-- is the shadow of a row that is stored. Returns what is wrong, or nil.
function M.complete(model, row, old, wrong)
  resolve(model, row)
  if model.compute then model.compute(row) end
  if not model.check then return wrong end
  return check_in_lua(model, row, old, wrong)
end

--- before_save(model, row, old): hooks and checks; what is wrong, or nil.
function M.before_save(model, row, old)
  M.run_hook(model, "before_save", row)
  local wrong = M.complete(model, row, old)
  for name, value in pairs(row) do -- null and absent are the same in a row
    if value == null then rawset(row, name, nil) end
  end
  return wrong
end

--- normalize(model, row, shadow): values that were given in another form than they are
-- loaded in (a time as text, a set unsorted) as they were stored.
function M.normalize(model, row, shadow)
  for name in pairs(model.normalized) do
    if row[name] ~= nil then rawset(row, name, core.stored(model.core, shadow, name)) end
  end
end

--- take_over(model, row, old, shadow, is_merged): the row is stored as the shadow has it, if
-- there is one: else nothing had changed. What others changed is shown in the row, what was
-- assigned meanwhile stays.
function M.take_over(model, row, old, shadow, is_merged)
  M.shadows[row] = shadow or old
  if shadow and is_merged then core.refill(model.core, row, old, shadow) end
  M.normalize(model, row, M.shadows[row])
end

--- sweep(model, ids): removes rows whose time is over.
function M.sweep(model, ids)
  local shadows, e = core.load_shadows(model.core, ids)
  if shadows == FAIL then error(e, 0) end
  local list = {}
  for i = 1, #ids do
    if shadows[i] then list[#list + 1] = shadows[i] end
  end
  if #list == 0 then return end
  local ok, err = core.mend(model.core, list, "sweep")
  if ok == FAIL then error(err, 0) end
end

--- write(model, fn, ...): what fn returns, or raises its failure; a row whose time is
-- over and that stands in the way is swept first.
function M.write(model, fn, ...)
  local a, b, c = fn(...)
  for _ = 1, 65 do -- the row itself and each of its unique values may be in the way
    if a ~= FAIL or not errors.is_error(b) or not b.expired then break end
    M.sweep(model, { b.expired })
    a, b, c = fn(...)
  end
  if a == FAIL then error(b, 0) end
  return a, b, c
end

--- life(model, options): the milliseconds that a new row has, 0 for no end.
function M.life(model, options)
  if options ~= nil and type(options) ~= "table" then
    error("options: a table expected, got " .. type(options), 3)
  end
  local seconds = options and options.ttl
  for name in pairs(options or {}) do
    if name ~= "ttl" then error("unknown option '" .. tostring(name) .. "' (ttl is known)", 3) end
  end
  if seconds == nil then
    seconds = type(model.ttl) == "number" and model.ttl or false
  end
  return M.milliseconds(model, seconds, 4)
end

--- milliseconds(model, seconds, level): of a life; 0 for false.
function M.milliseconds(model, seconds, level)
  if not seconds then return 0 end
  if not model.ttl then
    fail("model.definition", "model %s: its rows do not expire; define it with ttl = true",
      model.name)
  end
  if type(seconds) ~= "number" or not (seconds > 0 and seconds < 1e10) then
    error("ttl: seconds above 0 expected, got " .. tostring(seconds), level)
  end
  return math.max(1, math.floor(seconds * 1000))
end

-- increment_in_steps: where Lua computes fields it has to see the row.
local function increment_in_steps(model, key, old, deltas)
  for _ = 1, 100 do
    local row = model:load(key)
    local shadow = row and M.shadows[row]
    if not row or old and not core.is_same_life(old, shadow) then
      fail("model.gone", "model %s: %s does not exist (any more)", model.name, key)
    end
    for name, by in pairs(deltas) do row[name] = (row[name] or 0) + by end
    local wrong = M.complete(model, row, shadow)
    local ok, v = pcall(M.write, model, core.save, model.core, row, shadow, wrong, 0, true)
    if ok then return v or shadow end
    if not errors.is_error(v, "model.conflict") then error(v, 0) end
  end
  fail("model.conflict", "model %s: %s changes all the time", model.name, key)
end

local function is_number(f)
  return f and (f.type == "integer" or f.type == "number")
end

--- increment(model, key, old, deltas): adds to the row with that key, of the life that
-- old has (or any); returns its shadow.
function M.increment(model, key, old, deltas)
  local is_right = true
  for name, by in pairs(deltas) do
    local f = model.fields[name]
    is_right = is_right and is_number(f) and type(by) == "number"
    if f and (f.immutable or f.computed or f.validate or f.one_of) then
      fail("model.invalid", "model %s: %s cannot be incremented, as it is %s", model.name, name,
        f.immutable and "immutable" or f.computed and "computed" or "checked in Lua")
    end
  end
  if next(deltas) == nil then error("bad argument to 'increment' (nothing to add)", 3) end
  if model.compute and is_right then return increment_in_steps(model, key, old, deltas) end
  return (M.write(model, core.increment, model.core, key, old, deltas))
end

return M
