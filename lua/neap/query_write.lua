-- query_write: update and delete by query, a batch of rows after the other.
local core = require "neap.core.model"
local query = require "neap.query"
local writing = require "neap.model_write"
local task = require "neap.task"
local model_error = require "neap.model_error"
local fail, invalid = model_error.fail, model_error.invalid
local null = require("neap.core.json").null
local Query = query.methods

local function has_condition(list)
  for _, c in ipairs(list) do
    if not c.group or has_condition(c) then return true end
  end
  return false
end

-- is_narrowed tells whether conditions can leave rows out: a program may have put groups
-- together that say nothing. Of alternatives each has to.
local function is_narrowed(list)
  if list.group == "none" then return has_condition(list) end
  local is_any = list.group == "any"
  for _, c in ipairs(list) do
    local one = not c.group or is_narrowed(c)
    if one ~= is_any then return one end
  end
  return is_any
end

-- check_all refuses what would be meant for every row, unless that is said.
local function check_all(q, options, what)
  if options ~= nil and type(options) ~= "table" then
    error(("bad argument to '%s' (a table of options expected, got %s)"):format(what,
      type(options)), 3)
  end
  for k in pairs(options or {}) do
    if k ~= "all" then error(("%s has no option '%s' (all)"):format(what, tostring(k)), 3) end
  end
  local is_narrow = is_narrowed(q.conditions) or q.most and q.most < math.huge
  if not is_narrow and not (options and options.all) then
    fail("model.invalid", "model %s: %s without a condition takes { all = true }", q.model.name,
      what)
  end
end

-- count_saved saves the rows of a batch; those that are gone do not matter.
local function count_saved(model, rows)
  local ok, e = pcall(model.save_many, model, rows)
  if ok then return #rows end
  if not (model_error.is(e) and e.errors) then error(e, 0) end
  local n = #rows
  for _, failure in pairs(e.errors) do
    if not model_error.is(failure, "model.gone") then error(e, 0) end
    n = n - 1
  end
  return n
end

-- check_value raises what is wrong with a value whatever row it is for.
local function check_value(model, name, value)
  local f = type(name) == "string" and model.fields[name]
  if not f then
    model_error.unknown(model, name)
  end
  local wrong
  if f.primary_key or f.immutable then
    wrong = "it cannot be changed"
  elseif f.computed then
    wrong = "it is computed"
  elseif value == null then
    wrong = f.required and "a value is required" or nil
  else
    wrong = core.wrong_value(model.core, name, writing.key_of(value))
  end
  if wrong then invalid(model, name, wrong) end
end

-- own is what a row gets: tables of its own.
local function own(value)
  if value == null then return nil end
  local class = type(value) == "table" and getmetatable(value)
  if type(value) ~= "table" or writing.model_of[class] then return value end
  local copy = {}
  for k, v in pairs(value) do copy[k] = v == null and v or own(v) end
  return setmetatable(copy, class)
end

--- query:update({ field = value, ... }[, { all = true }]): sets fields of the rows that
-- match, in batches; returns how many. neap.null takes a value away. It is no transaction: if
-- a row is refused, the batches before stay, and so do the others of its batch.
function Query:update(values, options)
  if type(values) ~= "table" or next(values) == nil then
    error("bad argument #1 to 'update' (a table of fields expected)", 2)
  end
  check_all(self, options, "update")
  local model, n = self.model, 0
  for name, value in pairs(values) do check_value(model, name, value) end
  for rows in query.windows(self) do
    for _, row in ipairs(rows) do
      for name, value in pairs(values) do row[name] = own(value) end
    end
    n = n + count_saved(model, rows)
  end
  return n
end

local function delete(row)
  local ok, e = pcall(row.delete, row)
  if ok then return 1 end
  local model = writing.model_of[getmetatable(row)]
  if not model_error.is(e, "model.gone") or model:exists(row:primary_key()) then error(e, 0) end
  return 0
end

--- query:delete([{ all = true }]): deletes the rows that match, in batches, as row:delete does;
-- returns how many.
function Query:delete(options)
  check_all(self, options, "delete")
  local n = 0
  for rows in query.windows(self) do
    for _, count in ipairs(task.map(delete, rows)) do n = n + count end
  end
  return n
end
