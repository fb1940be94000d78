-- model_row: the methods of every row.
local core = require "neap.core.model"
local errors = require "neap.core.error"
local json = require "neap.core.json"
local model_error = require "neap.model_error"
local writing = require "neap.model_write"
local relation = require "neap.model_relation"
local fail, check = model_error.fail, model_error.check
local FAIL = require("neap.core.task").FAIL
local shadows = writing.shadows
local Row = {}

local function model_of_row(row, name)
  local model = writing.model_of[getmetatable(row)]
  if not model then error(("bad self for '%s' (a model's row expected)"):format(name), 3) end
  return model
end

local function shadow_of(model, row, name)
  local shadow = shadows[row]
  if not shadow then
    fail("model.gone", "model %s: %s of a row that is not stored", model.name, name)
  end
  return shadow
end

-- stored_key returns the primary key that the row is stored under, whatever its
-- table has by now; a composite one as text.
local function stored_key(model, row)
  local shadow = shadows[row]
  if not shadow then return writing.key_of(row) end
  if model.primary then return core.stored(model.core, shadow, model.primary) end
  local stored = {}
  core.fill(model.core, stored, shadow)
  return writing.key_text(model, stored)
end

-- with_row puts the row into a conflict's error.
local function with_row(row, ok, ...)
  if ok then return ... end
  local e = ...
  if errors.is_error(e, "model.conflict") then e.row = row end
  error(e, 0)
end

--- row:save(): stores the fields that changed since the row was loaded; what
-- others changed meanwhile is kept (and shown in the row). Returns the row. Raises
-- model.invalid, model.unique, model.gone; and model.conflict where the model is
-- optimistic and others changed the row (err.row is this one, err.stored theirs).
function Row:save()
  local model = model_of_row(self, "save")
  local old = shadow_of(model, self, "save")
  local wrong = writing.before_save(model, self, old)
  local shadow, _, is_merged = with_row(self, pcall(writing.write, model, core.save, model.core,
    self, old, wrong, 0))
  writing.take_over(model, self, old, shadow, is_merged)
  writing.run_hook(model, "after_save", self)
  return self
end

-- check_present raises model.gone unless the row is there still: else what refers
-- to another that has its key by now would be deleted.
local function check_present(model, shadow, key)
  local fresh = model:load(key)
  if not fresh or not core.is_same_life(shadows[fresh], shadow) then
    fail("model.gone", "model %s: %s does not exist (any more)", model.name, tostring(key))
  end
end

-- delete removes a row; deleting has the rows that are being deleted because of
-- which it is.
local function delete(row, deleting)
  local model = model_of_row(row, "delete")
  local shadow = shadow_of(model, row, "delete")
  writing.run_hook(model, "before_delete", row)
  if relation.is_referred_to(model) then
    local key = stored_key(model, row)
    check_present(model, shadow, key)
    relation.release(model, key, deleting, delete)
  end
  check(core.delete(model.core, shadow))
  shadows[row] = nil
  writing.run_hook(model, "after_delete", row)
end

--- row:delete(): removes the row and its index entries; what refers to it is dealt with
-- as the references' on_delete says (model.restricted if one forbids it).
function Row:delete()
  model_of_row(self, "delete")
  delete(self, {})
end

--- row:reload(): the fields as they are stored now; raises model.gone.
function Row:reload()
  local model = model_of_row(self, "reload")
  local key = stored_key(model, self)
  local fresh = model:load(key)
  if not fresh then
    fail("model.gone", "model %s: %s does not exist any more", model.name, tostring(key))
  end
  shadows[self], shadows[fresh] = shadows[fresh], nil
  core.fill(model.core, self, shadows[self])
  return self
end

--- row:primary_key(): the canonical text of the primary key that it is stored under,
-- which load takes.
function Row:primary_key()
  local model = model_of_row(self, "primary_key")
  return core.row_id(model.core, stored_key(model, self))
end

--- row:increment(field, by): adds to a number, atomically, whatever others do meanwhile;
-- by is 1 if absent, a null counts as 0. Returns the new value. Raises model.invalid if
-- it would pass the field's limits, model.gone.
function Row:increment(name, by)
  local model = model_of_row(self, "increment")
  if type(name) ~= "string" then
    error("bad argument #1 to 'increment' (a field's name expected)", 2)
  end
  if by == nil then by = 1 end
  local old = shadow_of(model, self, "increment")
  local fresh = writing.increment(model, self:primary_key(), old, { [name] = by })
  core.refill(model.core, self, old, fresh)
  shadows[self] = fresh
  return core.stored(model.core, fresh, name)
end

-- save_life stores nothing but a row's life; of an optimistic model too it does not
-- matter what others changed. Returns the row's shadow by then.
local function save_life(model, shadow, life)
  local new, e = core.live(model.core, shadow, life)
  if new == FAIL and errors.is_error(e, "model.conflict") then
    return save_life(model, shadows[e.stored], life)
  end
  return check(new, e)
end

-- live gives the row a life of so many milliseconds; -1 is for ever.
local function live(row, model, name, life)
  local old = shadow_of(model, row, name)
  local shadow = save_life(model, old, life)
  core.refill(model.core, row, old, shadow)
  shadows[row] = shadow
  return row
end

--- row:expire(seconds): the row is gone after so many seconds from now; false: never.
-- Nothing else that changed in it is stored. Returns the row.
function Row:expire(seconds)
  local model = model_of_row(self, "expire")
  if seconds == nil then error("bad argument #1 to 'expire' (seconds or false expected)", 2) end
  local life = writing.milliseconds(model, seconds or 1, 3)
  return live(self, model, "expire", seconds and life or -1)
end

--- row:touch(): gives the row the model's ttl again, from now on. Returns the row.
function Row:touch()
  local model = model_of_row(self, "touch")
  if type(model.ttl) ~= "number" then
    fail("model.definition", "model %s: it has no ttl in seconds", model.name)
  end
  return live(self, model, "touch", writing.milliseconds(model, model.ttl, 3))
end

--- row:expires_at(): seconds since 1970, by the server's clock; nil if it does not
-- expire, or does not exist any more.
function Row:expires_at()
  local model = model_of_row(self, "expires_at")
  local key = core.row_key(model.core, stored_key(model, self))
  local replies = model.redis:pipeline(function(p)
    p:call("HGET", key, "_e")
    p:call("TIME")
  end)
  local at, time = tonumber(replies[1] or nil), replies[2]
  if not at or at / 1000 <= time[1] + time[2] / 1e6 then return nil end
  return at / 1000
end

--- row:related(field): the row that a reference refers to, or nil.
function Row:related(name)
  return relation.load(model_of_row(self, "related"), self, name)
end

--- row:to_table(): a plain copy of the fields; lists are copied too.
function Row:to_table()
  local model = model_of_row(self, "to_table")
  local function copy(value)
    if type(value) ~= "table" then return value end
    local t = setmetatable({}, getmetatable(value)) -- arrays stay marked
    for k, v in pairs(value) do t[k] = copy(v) end
    return t
  end
  local plain = {}
  for k, v in pairs(self) do plain[k] = copy(model.refs[k] and writing.key_of(v) or v) end
  return plain
end

--- row:tojson(): the row as JSON, with times in ISO 8601.
function Row:tojson()
  local model, plain = model_of_row(self, "tojson"), self:to_table()
  for name, value in pairs(plain) do
    local f = model.fields[name]
    if f and f.type == "time" and type(value) == "number" then
      plain[name] = core.format_time(value) or value
    elseif f and f.element and f.element.type == "time" then
      for i, t in ipairs(value) do value[i] = core.format_time(t) or t end
    end
  end
  return json.encode(plain)
end

return Row
