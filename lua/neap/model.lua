-- model: rows in Redis, with indexes that are kept true and queries over them.
--
--   local User = model.define("user", {
--     id    = field.uuid { primary_key = true },
--     name  = field.string { required = true, max = 80 },
--     age   = field.integer { min = 0, max = 150, index = true, sort = true },
--     email = field.string { unique = true },
--   })
--   local ada = User:create { name = "Ada", age = 36 }
--   for user in User:where { age = model.between(30, 40) }:each() do print(user.name) end
local core = require "neap.core.model"
local task = require "neap.core.task"
local redis = require "neap.redis"
local query = require "neap.query"
local model_error = require "neap.model_error"
local errors = require "neap.core.error"
local json = require "neap.core.json"
local null, array = json.null, json.array
local now = require("neap.core.util").now
local FAIL = task.FAIL
local check, fail, invalid = model_error.check, model_error.fail, model_error.invalid
local read = model_error.read
local M = { field = {}, defined = {} }

-- fields --------------------------------------------------------------------

local known = {
  required = "boolean", default = true, min = "number", max = "number", match = "string",
  index = "boolean", sort = "boolean", unique = "boolean", primary_key = "boolean",
  auto = "boolean",
}

-- wrong_option says what is wrong with one option of a field, or nil.
local function wrong_option(kind, name, value)
  if type(name) == "number" and kind == "enum" then
    if type(value) ~= "string" or value == "" or value:find("%z") then
      return "the values of an enum are strings, not empty and without NUL"
    end
  elseif not known[name] then
    return ("unknown option '%s'"):format(tostring(name))
  elseif known[name] ~= true and type(value) ~= known[name] then
    return ("%s must be a %s, got a %s"):format(name, known[name], type(value))
  elseif name == "match" then
    if kind ~= "string" then return "match is for strings" end
    if not pcall(string.find, "", value) then return "match is no Lua pattern: " .. value end
  elseif name == "default" and type(value) == "table" then
    return "a default that is a table would be shared; give a function that returns one"
  end
end

-- new_field notes what is wrong for define, which knows the names.
local function new_field(kind, options)
  local f = { type = kind }
  if options ~= nil and type(options) ~= "table" then
    f.wrong = ("a table of options is expected, got a %s"):format(type(options))
    return f
  end
  for name, value in pairs(options or {}) do
    f.wrong = f.wrong or wrong_option(kind, name, value)
    if type(name) == "string" then f[name] = value end
  end
  if kind == "enum" and not f.wrong then
    f.values = { unpack(options or {}) }
    table.sort(f.values)
  end
  return f
end

--- field.string { ... }, field.integer, field.number, field.boolean,
-- field.enum { "a", "b", ... }, field.time (seconds since 1970), field.uuid,
-- field.json: a field's type and options: required, default (a value, or a
-- function called at create), min and max (of a number, or of a string's
-- length in characters), match (a Lua pattern for the whole string), index,
-- sort, unique, primary_key, auto (an integer primary key from a counter).
for _, kind in ipairs { "string", "integer", "number", "boolean", "enum",
  "time", "uuid", "json" } do
  M.field[kind] = function(options) return new_field(kind, options) end
end

--- model.between(low, high): a range for where, both ends included; nil leaves
-- an end open.
M.between = query.between

-- rows ----------------------------------------------------------------------

local Row = {}        -- the methods of every row
local Model = {}      -- the methods of every model
Model.__index = Model
local shadows = setmetatable({}, { __mode = "k" }) -- row -> as it was loaded
local model_of = setmetatable({}, { __mode = "k" }) -- row class -> model

local function model_of_row(row, name)
  local model = model_of[getmetatable(row)]
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

local function check_matches(model, row)
  for name, pattern in pairs(model.patterns) do
    local value = row[name]
    if type(value) == "string" and not value:find(pattern) then
      invalid(model, name, ("it does not match %s, got '%s'"):format(pattern, value:sub(1, 40)))
    end
  end
end

--- row:save(): stores the fields that changed since the row was loaded; what
-- others changed meanwhile is kept (and shown in the row). Returns the row.
function Row:save()
  local model = model_of_row(self, "save")
  local old = shadow_of(model, self, "save")
  check_matches(model, self)
  for name, value in pairs(self) do
    if value == null then rawset(self, name, nil) end
  end
  local shadow, _, is_merged = check(core.save(model.core, self, old))
  if shadow then
    shadows[self] = shadow
    if is_merged then core.fill(model.core, self, shadow) end
  end
  return self
end

--- row:delete(): removes the row and its index entries.
function Row:delete()
  local model = model_of_row(self, "delete")
  check(core.delete(model.core, shadow_of(model, self, "delete")))
  shadows[self] = nil
end

--- row:reload(): the fields as they are stored now; raises model.gone.
function Row:reload()
  local model = model_of_row(self, "reload")
  local fresh = model:load(self[model.primary])
  if not fresh then
    fail("model.gone", "model %s: %s does not exist any more", model.name,
      tostring(self[model.primary]))
  end
  shadows[self], shadows[fresh] = shadows[fresh], nil
  core.fill(model.core, self, shadows[self])
  return self
end

--- row:to_table(): a plain copy of the fields.
function Row:to_table()
  local copy = {}
  for k, v in pairs(self) do copy[k] = v end
  return copy
end

-- creating ------------------------------------------------------------------

-- prepare copies the attributes, with defaults where they are nil.
local function prepare(model, attributes)
  if not model.core then error("a model expected: a colon calls its methods, User:create {}", 3) end
  if type(attributes) ~= "table" then
    error(("model %s: a table of attributes expected, got %s"):format(model.name,
      type(attributes)), 3)
  end
  local row = {}
  for k, v in pairs(attributes) do
    if v ~= null then row[k] = v end
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
  if next(model.patterns) then check_matches(model, row) end
  return row
end

--- Model:create { ... }: stores a new row and returns it. Raises model.invalid
-- (fields: what is wrong, by name), model.exists, model.unique.
function Model:create(attributes)
  local row = prepare(self, attributes)
  local shadow, id = core.create(self.core, row)
  if shadow == FAIL then error(id, 0) end
  row[self.primary] = id
  shadows[row] = shadow
  return setmetatable(row, self.class)
end

--- Model:create_many { {...}, ... }: as create, in batches. Nothing is sent if
-- a row is invalid. When Redis refuses some, the others are stored, and an
-- error is raised: err.errors by place, err.rows those that were stored.
function Model:create_many(list)
  if type(list) ~= "table" then error("bad argument #1 to 'create_many' (list expected)", 2) end
  local rows = {}
  for i = 1, #list do rows[i] = prepare(self, list[i]) end
  if #rows == 0 then return array {} end
  local stored, failures = check(core.create_many(self.core, rows))
  if failures then
    local n, first = 0, nil
    for i = 1, #rows do
      if failures[i] then
        n, first = n + 1, first or failures[i]
      end
    end
    error(errors.new { code = first.code, message = ("%d of %d rows were refused; the first: %s")
      :format(n, #rows, first.message), errors = failures, rows = stored }, 0)
  end
  return stored
end

-- loading -------------------------------------------------------------------

--- Model:load(id): the row, or nil.
function Model:load(id)
  if not self.core then error("a model expected: a colon calls its methods, User:load(id)", 2) end
  return (read(core.load, self.core, id))
end

--- Model:load_many { id, ... }: the rows by place, false where there is none.
function Model:load_many(ids)
  if type(ids) ~= "table" then error("bad argument #1 to 'load_many' (list expected)", 2) end
  if #ids == 0 then return array {} end
  return (read(core.load_many, self.core, ids))
end

--- Model:exists(id): whether there is such a row.
function Model:exists(id)
  local key = core.row_key(self.core, id)
  return key ~= nil and self.redis:call("EXISTS", key) == 1
end

-- queries -------------------------------------------------------------------

--- Model:where { field = value, ... } or Model:where(field, value): a query. A
-- value is compared, a list means any of its values, model.between a range,
-- neap.null rows without a value. Several conditions must all hold.
function Model:where(field, ...)
  return query.new(self):where(field, ...)
end

--- Model:rows(): a query for all rows.
function Model:rows()
  return query.new(self)
end

-- storage -------------------------------------------------------------------

local function lines(text)
  local set, list = {}, {}
  for line in text:gmatch("[^\n]+") do
    set[line] = true
    list[#list + 1] = line
  end
  return set, list
end

-- structure leaves only what the stored structures depend on. What is ordered
-- counts on its required fields: the rows have to have them.
local function structure(text, other)
  local list, theirs = {}, other and lines(other) or {}
  for line in text:gmatch("[^\n]+") do
    local plain = line:gsub(" required", "")
    if not (line:match(" zset") and theirs[plain]) then line = plain end
    if line:match(" primary") or line:match(" unique") or line:match(" bitmap")
      or line:match(" set") or line:match(" packed") or line:match(" zset") then
      list[#list + 1] = line
    end
  end
  return table.concat(list, "\n")
end

--- Model:sync(): stores the definition where it is missing; where another one
-- is stored, replaces it if no index depends on the difference or if there are
-- no rows; else raises model.schema_changed. Returns "created", "updated" or
-- "unchanged". The first write does the first of these by itself.
function Model:sync()
  local keys = core.keys(self.core)
  local text, generation = core.schema(self.core)
  local stored = self.redis:call("GET", keys.schema)
  local known_generation = self.redis:call("HGET", keys.meta, "gen")
  if known_generation == generation and stored == text then return "unchanged" end
  local is_other = known_generation and stored and structure(stored) ~= structure(text, stored)
  if is_other and self:has_stored_rows() then
    local have = lines(structure(stored))
    local _, want = lines(structure(text, stored))
    local culprit = "a field of it was taken out"
    for _, line in ipairs(want) do
      if not have[line] then culprit = "it now has '" .. line .. "'" break end
    end
    fail("model.schema_changed", "model %s: its rows are stored under another definition: %s. "
      .. "Take the change back, or drop() the model and store its rows again", self.name, culprit)
  end
  if is_other then self:drop() end -- what is left of the columns may be of another kind
  self.redis:multi(function(tx)
    tx:call("SET", keys.schema, text)
    tx:call("HSET", keys.meta, "gen", generation)
  end)
  return known_generation and "updated" or "created"
end

--- Model:has_stored_rows(): whether any row is stored, under whatever definition.
function Model:has_stored_rows()
  return self.redis:scan({ match = core.keys(self.core).rows, count = 1000 })() ~= nil
end

--- Model:drop(): deletes all rows and indexes, and the stored definition.
function Model:drop()
  local keys = core.keys(self.core)
  for _, pattern in ipairs { keys.rest, keys.rows } do
    local batch = {}
    local function flush()
      if #batch > 0 then self.redis:call("UNLINK", batch) end
      batch = {}
    end
    for key in self.redis:scan { match = pattern, count = 1000 } do
      batch[#batch + 1] = key
      if #batch == 500 then flush() end
    end
    flush()
  end
end

-- defining ------------------------------------------------------------------

local function sorted_fields(name, fields)
  local list = {}
  for field_name, f in pairs(fields) do
    if type(field_name) ~= "string" or type(f) ~= "table" or not f.type then
      fail("model.definition", "model %s: field %s is not made by neap.field", name,
        tostring(field_name))
    end
    if field_name:find("%z") then
      fail("model.definition", "model %s: field %s: a name is [a-z][a-z0-9_]*", name, field_name)
    end
    if f.wrong then
      fail("model.definition", "model %s: field %s: %s", name, field_name, f.wrong)
    end
    if Row[field_name] then
      fail("model.definition", "model %s: field %s has the name of a method", name, field_name)
    end
    local copy = { name = field_name }
    for k, v in pairs(f) do copy[k] = v end
    list[#list + 1] = copy
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

local function find_primary(name, list)
  local primary
  for _, f in ipairs(list) do
    if f.primary_key then
      if primary then
        fail("model.definition", "model %s: both %s and %s are primary keys", name, primary.name,
          f.name)
      end
      primary = f
    elseif f.auto then
      fail("model.definition", "model %s: field %s: auto is for a primary key", name, f.name)
    end
  end
  if not primary then
    fail("model.definition", "model %s: one field needs primary_key = true", name)
  end
  if primary.auto and primary.type ~= "integer" then
    fail("model.definition", "model %s: field %s: auto is for integers", name, primary.name)
  end
  return primary
end

local function new_class(name, fields)
  local methods = setmetatable({}, {
    __index = Row,
    __newindex = function(t, key, fn)
      if fields[key] then
        error(("model %s: %s is a field, it cannot be a method"):format(name, tostring(key)), 2)
      end
      rawset(t, key, fn)
    end,
  })
  local class = {
    __index = methods,
    __newindex = function(row, key, value)
      if not fields[key] then
        error(errors.new { code = "model.invalid",
          message = ("model %s: there is no field '%s'"):format(name, tostring(key)) }, 2)
      end
      if value ~= null then rawset(row, key, value) end
    end,
    __name = name,
  }
  return class, methods
end

-- anchored makes a pattern one for the whole string, as it may be already.
local function anchored(pattern)
  if pattern:sub(1, 1) ~= "^" then pattern = "^" .. pattern end
  local escapes = pattern:match("(%%*)%$$")
  if not escapes or #escapes % 2 == 1 then pattern = pattern .. "$" end
  return pattern
end

--- model.define(name, fields, options): a model. options.redis is the client
-- to use (neap.redis() by default).
function M.define(name, fields, options)
  if type(name) ~= "string" then error("bad argument #1 to 'define' (a name expected)", 2) end
  if type(fields) ~= "table" then error("bad argument #2 to 'define' (fields expected)", 2) end
  if name:find("%z") then
    fail("model.definition", "model '%s': a name is [a-z][a-z0-9_]*", name)
  end
  options = options or {}
  for key in pairs(options) do
    if key ~= "redis" then
      fail("model.definition", "model %s: unknown option '%s'", name, tostring(key))
    end
  end
  local list = sorted_fields(name, fields)
  local primary = find_primary(name, list)
  local model = setmetatable({ name = name, fields = {}, defaults = {}, patterns = {},
    primary = primary.name, redis = options.redis or redis.open() }, Model)
  for _, f in ipairs(list) do
    model.fields[f.name] = f
    model.defaults[f.name] = f.default
    model.patterns[f.name] = f.match and anchored(f.match)
  end
  if primary.type == "uuid" and primary.default == nil then
    model.defaults[primary.name] = core.uuid
  end
  model.class, model.methods = new_class(name, model.fields)
  model_of[model.class] = model
  model.core = core.define(name, list, model.redis, model.class, shadows)
  M.defined[name] = model
  return model
end

--- model.uuid(): a new uuid, version 7: ordered by time of creation.
M.uuid = core.uuid
--- model.now(): seconds since 1970, for defaults; the same as neap.now.
M.now = now

return M
