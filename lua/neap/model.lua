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
local redis = require "neap.redis"
local query = require "neap.query"
require "neap.query_aggregate"
require "neap.query_write"
local condition = require "neap.query_condition"
local fields_of = require "neap.model_field"
local model_error = require "neap.model_error"
local errors = require "neap.core.error"
local json = require "neap.core.json"
local task = require "neap.task"
local writing = require "neap.model_write"
local relation = require "neap.model_relation"
local ttl = require "neap.model_ttl"
local upkeep = require "neap.model_sync"
local verify = require "neap.model_verify"
local stats = require "neap.model_stats"
local Row = require "neap.model_row"
local null, array = json.null, json.array
local now = require("neap.core.util").now
local check, fail, invalid = model_error.check, model_error.fail, model_error.invalid
local read = model_error.read
local shadows, write = writing.shadows, writing.write
local M = { field = fields_of.field, defined = {} }

-- what where takes beside values
for _, name in ipairs { "between", "gt", "ge", "lt", "le", "prefix", "ne", "contains", "any",
  "all", "none" } do
  M[name] = condition[name]
end

local Model = {} -- the methods of every model
Model.__index = Model

-- check_self raises, at the user's line, if a method was not called with a colon.
local function check_self(model, name)
  if getmetatable(model) ~= Model then
    error(("a model expected: a colon calls its methods, User:%s()"):format(name), 3)
  end
end

-- creating ------------------------------------------------------------------

-- become makes an object of a table whose row was stored.
local function become(model, row, shadow, id)
  if not model.parts then row[model.primary] = id end
  shadows[row] = shadow
  writing.normalize(model, row, shadow)
  return setmetatable(row, model.class)
end

--- model.methods: of all models.
M.methods = Model

--- Model:create({ ... }, { ttl = seconds }): stores a new row and returns it. Raises
-- model.invalid (fields: what is wrong, by name), model.exists, model.unique.
function Model:create(attributes, options)
  check_self(self, "create")
  local row, wrong = writing.prepare(self, attributes, 2)
  local shadow, id = write(self, core.create, self.core, row, wrong, writing.life(self, options))
  become(self, row, shadow, id)
  writing.run_hook(self, "after_create", row)
  return row
end

-- report raises one error for all rows of a batch that were refused.
local function report(count, failures, stored)
  local n, first = 0, nil
  for i = 1, count do
    if failures[i] then
      n, first = n + 1, first or failures[i]
    end
  end
  error(errors.new { code = first.code, message = ("%d of %d rows were refused; the first: %s")
    :format(n, count, first.message), errors = failures, rows = stored or array {} }, 0)
end

local function check_list(list, name)
  if type(list) ~= "table" then
    error(("bad argument #1 to '%s' (list expected)"):format(name), 3)
  end
end

-- retry_expired stores once more those that only an expired row stood in the way of.
local function retry_expired(model, rows, life, stored, failures)
  for i = 1, #rows do
    if failures and failures[i] and failures[i].expired then
      local ok, shadow, id = pcall(write, model, core.create, model.core, rows[i], nil, life)
      if ok then
        stored[i], failures[i] = become(model, rows[i], shadow, id), nil
      else
        failures[i] = shadow
      end
    end
  end
  return failures and next(failures) and failures
end

local SLICE = 256 -- rows that are prepared before others have their turn

-- encode_all encodes n rows for the store; prepare(i) returns the row at that place, and
-- what is wrong with it so far. Returns the rows, what is held of them, and what is wrong by
-- place, nil if nothing is.
local function encode_all(model, n, prepare)
  local rows, wrongs, refused, is_right = {}, {}, {}, true
  local held = core.hold_rows(n)
  for from = 1, n, SLICE do
    if from > 1 then task.sleep(0) end
    local to = math.min(from + SLICE - 1, n)
    for i = from, to do rows[i], wrongs[i] = prepare(i) end
    is_right = core.encode_rows(model.core, rows, wrongs, held, refused, from, to) and is_right
  end
  return rows, held, not is_right and refused or nil
end

--- Model:create_many({ {...}, ... }, { ttl = seconds }): as create, in batches. Nothing
-- is sent if a row is invalid. When Redis refuses some, the others are stored, and an
-- error is raised: err.errors by place, err.rows those that were stored.
function Model:create_many(list, options)
  check_self(self, "create_many")
  check_list(list, "create_many")
  local life, n = writing.life(self, options), #list
  if n == 0 then return array {} end
  local rows, held, failures = encode_all(self, n, function(i)
    return writing.prepare(self, list[i], 3)
  end)
  local stored
  if not failures then stored, failures = check(core.create_many(self.core, held, life)) end
  for i = 1, stored and #rows or 0 do
    local shadow = stored[i]
    if shadow then
      local id = self.fills_key and core.stored(self.core, shadow, self.primary)
      stored[i] = become(self, rows[i], shadow, id or rows[i][self.primary])
    end
  end
  if stored then failures = retry_expired(self, rows, life, stored, failures) end
  for i = 1, stored and #rows or 0 do
    if stored[i] then writing.run_hook(self, "after_create", stored[i]) end
  end
  if failures then report(#rows, failures, stored) end
  return array(stored)
end

--- Model:save_many(rows): saves each, in batches. Nothing is sent if a row is invalid;
-- those that Redis refuses are reported in one error, err.errors by place.
function Model:save_many(list)
  check_self(self, "save_many")
  check_list(list, "save_many")
  local n, olds = #list, {}
  if n == 0 then return list end
  local rows, held, refused = encode_all(self, n, function(i)
    local row = list[i]
    if writing.model_of[getmetatable(row)] ~= self or not shadows[row] then
      fail("model.gone", "model %s: save_many: element %d is no stored row of it", self.name, i)
    end
    olds[i] = shadows[row]
    return row, writing.before_save(self, row, olds[i])
  end)
  local stored, failures = check(core.save_many(self.core, held, olds, refused or {}))
  for i = 1, stored and #rows or 0 do
    local failure = failures and failures[i]
    if failure and failure.expired then
      local ok, shadow = pcall(write, self, core.save, self.core, rows[i], olds[i], nil, 0)
      failures[i] = not ok and shadow or nil
      if ok then writing.take_over(self, rows[i], olds[i], shadow, true) end
    elseif failure and failure.code == "model.conflict" then
      failure.row = rows[i]
    elseif not failure then
      writing.take_over(self, rows[i], olds[i], stored[i], true)
    end
  end
  for i = 1, stored and #rows or 0 do
    if not (failures and failures[i]) then writing.run_hook(self, "after_save", rows[i]) end
  end
  if failures and next(failures) then report(#rows, failures, rows) end
  return list
end

-- set_attributes is the part of upsert that changes a row that exists.
local function set_attributes(row, attributes)
  for name, value in pairs(attributes) do
    if value == null then value = nil end
    row[name] = value
  end
  return row:save()
end

-- upsert_in_steps: where Lua has a say in what is stored, it has to see the row.
local function upsert_in_steps(model, attributes)
  local id = attributes[model.primary]
  if model.parts then id = writing.key_text(model, attributes) end
  for _ = 1, 10 do
    local row = model:load(id)
    local ok, v
    if row then
      ok, v = pcall(set_attributes, row, attributes)
    else
      ok, v = pcall(model.create, model, attributes)
    end
    if ok then return v end
    if not errors.is_error(v, row and "model.gone" or "model.exists") then error(v, 0) end
  end
  fail("model.conflict", "model %s: %s comes and goes", model.name, tostring(id))
end

--- Model:upsert { ... }: creates the row, or, if there is one with its primary key, sets
-- the fields that are given. Returns the row.
function Model:upsert(attributes)
  check_self(self, "upsert")
  if type(attributes) ~= "table" then
    error(("model %s: a table of attributes expected, got %s"):format(self.name, type(attributes)),
      2)
  end
  local is_whole = true -- or it can only be a row that exists
  for name in pairs(self.required) do is_whole = is_whole and attributes[name] ~= nil end
  if not is_whole or next(self.hooks) or self.compute or self.check then
    return upsert_in_steps(self, attributes)
  end
  local row, wrong = writing.prepare(self, attributes, 2)
  local ok, shadow, id, is_merged
  for _ = 1, 10 do -- a row that is deleted between two steps is created
    ok, shadow, id, is_merged = pcall(write, self, core.create, self.core, row, wrong,
      writing.life(self), attributes)
    if ok or not model_error.is(shadow, "model.gone") then break end
  end
  if not ok then error(shadow, 0) end
  become(self, row, shadow, id)
  if is_merged then core.fill(self.core, row, shadow) end
  return row
end

-- id_of returns what stands for a primary key where load takes one: of a row, its own;
-- a part too may be a row, which is referred to.
local function id_of(model, id)
  if type(id) ~= "table" then return id end
  local key = writing.key_of(id)
  if key ~= id or not model.parts then return key end
  local parts = {}
  for name, value in pairs(id) do
    if not model.is_part[name] then
      invalid(model, tostring(name), "it is no part of the primary key")
    end
    parts[name] = writing.key_of(value)
  end
  return parts
end

--- Model:increment(id, { field = by, ... }): adds to numbers of a row, atomically; a null
-- counts as 0. Returns the row as it is then. Raises model.invalid if a field would pass its
-- limits (then none is changed), model.gone.
function Model:increment(id, deltas)
  check_self(self, "increment")
  if type(deltas) ~= "table" then
    error("bad argument #2 to 'increment' ({ field = by } expected)", 2)
  end
  local key = core.row_id(self.core, id_of(self, id))
  if not key then
    fail("model.gone", "model %s: %s does not exist", self.name, tostring(id))
  end
  return core.row(self.core, writing.increment(self, key, nil, deltas))
end

-- loading -------------------------------------------------------------------

--- Model:load(id): the row, or nil. A composite key is given as its parts, { x = 1, y = 2 },
-- or as the text that row:primary_key() gives.
function Model:load(id)
  check_self(self, "load")
  return (read(core.load, self.core, id_of(self, id)))
end

--- Model:load_many { id, ... }: the rows by place, false where there is none.
function Model:load_many(ids)
  check_self(self, "load_many")
  check_list(ids, "load_many")
  if #ids == 0 then return array {} end
  local keys = {}
  for i = 1, #ids do keys[i] = id_of(self, ids[i]) end
  return (read(core.load_many, self.core, keys))
end

--- Model:exists(id): whether there is such a row.
function Model:exists(id)
  check_self(self, "exists")
  if self.ttl then return self:load(id) ~= nil end
  local key = core.row_key(self.core, id_of(self, id))
  return key ~= nil and self.redis:call("EXISTS", key) == 1
end

-- queries -------------------------------------------------------------------

--- Model:where({ field = value, ... }[, { scan = true }]) or Model:where(field, value[,
-- options]): a query. A value is compared, a list means any of its values, neap.null rows
-- without one; model.between, gt, prefix, ne and so on make other conditions, model.any, all
-- and none join them. Several conditions must all hold. See query:where.
function Model:where(field, value, options)
  check_self(self, "where")
  return query.new(self):where(field, value, options)
end

--- Model:rows(): a query for all rows.
function Model:rows()
  check_self(self, "rows")
  return query.new(self)
end

-- relations -----------------------------------------------------------------

--- Model:has_many(name, other, field): gives rows a method of that name: the query for
-- the rows of another model whose reference, an indexed field, is to this one.
function Model:has_many(name, other, field)
  check_self(self, "has_many")
  local f = type(other) == "table" and other.refs and other.refs[field]
  if not f or relation.target(other, f) ~= self then
    fail("model.definition", "model %s: has_many(%s): '%s' is no reference to it", self.name,
      tostring(name), tostring(field))
  end
  if not f.index then
    fail("model.definition", "model %s: has_many(%s): %s of %s needs index = true", self.name,
      tostring(name), field, other.name)
  end
  if type(name) ~= "string" or Row[name] then
    fail("model.definition", "model %s: has_many(%s): a name that no row's method has is expected",
      self.name, tostring(name))
  end
  self.methods[name] = function(row) return other:where(field, writing.key_of(row)) end
end

-- storage -------------------------------------------------------------------

--- Model:sync { progress = fn }: makes the stored definition this one, and builds, builds
-- anew or drops the indexes that differ, while others read and write. Returns "created",
-- "updated" or "unchanged", and the list of the indexes that were built. progress(done,
-- total, index) is called meanwhile. If it is interrupted, the next call goes on from there.
-- Raises model.schema_changed if the rows cannot be kept.
function Model:sync(options)
  check_self(self, "sync")
  return upkeep.sync(self, options)
end

--- Model:has_stored_rows(): whether any row is stored, under whatever definition.
function Model:has_stored_rows()
  check_self(self, "has_stored_rows")
  return upkeep.has_rows(self)
end

--- Model:drop { progress = fn }: deletes all rows and indexes, and the stored definition.
function Model:drop(options)
  check_self(self, "drop")
  upkeep.drop(self, options)
end

--- Model:verify { repair = true, progress = fn }: compares every index with every row, in
-- slices, while others read and write. Returns counts: rows, ghosts (index entries that
-- no row stands for), missing (rows that an index lacks), uniques (values that two rows
-- have), lost (places that no row holds), repaired; problems describes the first 20.
function Model:verify(options)
  check_self(self, "verify")
  return verify.run(self, options)
end

--- Model:stats { progress = fn }: rows, segments, memory: a list of { name, bytes, keys }
-- for each kind of key, the bytes estimated.
function Model:stats(options)
  check_self(self, "stats")
  return stats.read(self, options)
end

--- Model:sweep(): removes the rows whose time is over now, rather than within a second.
-- Returns how many there were.
function Model:sweep()
  check_self(self, "sweep")
  return ttl.sweep(self)
end

-- defining ------------------------------------------------------------------

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

local known_options = { redis = true, primary_key = true, indexes = true, ttl = true,
  optimistic = true, hooks = true }
local hooks = { before_create = true, after_create = true, before_save = true,
  after_save = true, before_delete = true, after_delete = true }

local function check_options(name, options)
  for key in pairs(options) do
    if not known_options[key] then
      fail("model.definition", "model %s: unknown option '%s'", name, tostring(key))
    end
  end
  local life = options.ttl
  if life ~= nil and life ~= true and not (type(life) == "number" and life > 0 and life < 1e10) then
    fail("model.definition", "model %s: ttl: seconds above 0, or true, expected", name)
  end
  if options.hooks ~= nil and type(options.hooks) ~= "table" then
    fail("model.definition", "model %s: hooks: a table expected", name)
  end
  for key, fn in pairs(options.hooks or {}) do
    if not hooks[key] then
      fail("model.definition", "model %s: unknown hook '%s'", name, tostring(key))
    elseif type(fn) ~= "function" then
      fail("model.definition", "model %s: hook %s: a function expected", name, key)
    end
  end
end

-- add_fields fills in what the model's methods need to know of its fields.
local function add_fields(model, list)
  model.defaults = fields_of.defaults(list)
  model.check = fields_of.checker(list)
  model.compute = fields_of.computer(list)
  for _, f in ipairs(list) do
    model.fields[f.name] = f
    if f.ref then model.refs[f.name] = f end
    if f.required and f.default == nil then model.required[f.name] = true end
    if f.type == "time" or f.element then model.normalized[f.name] = true end
    if fields_of.is_computed(f) then model.computed[f.name] = true end
  end
end

--- model.define(name, fields, options): a model. Options: primary_key = { "x", "y" } (a
-- composite one), indexes = { { "country_code", "age" } } (compound ones), ttl (seconds that
-- rows live, or true: each row may have its own), optimistic (a stale save raises
-- model.conflict), hooks (before_ and after_ create, save and delete: functions of the row),
-- redis (the client, neap.redis() by default).
function M.define(name, fields, options)
  if type(name) ~= "string" then error("bad argument #1 to 'define' (a name expected)", 2) end
  if type(fields) ~= "table" then error("bad argument #2 to 'define' (fields expected)", 2) end
  options = options or {}
  if type(options) ~= "table" then
    error("bad argument #3 to 'define' (a table of options expected)", 2)
  end
  if name:find("%z") then
    fail("model.definition", "model '%s': a name is [a-z][a-z0-9_]*", name)
  end
  check_options(name, options)
  local list, primary = fields_of.check_definition(name, fields, options, Row)
  local model = setmetatable({ name = name, fields = {}, refs = {}, computed = {}, referrers = {},
    normalized = {}, required = {}, fills_key = primary and primary.auto,
    hooks = options.hooks or {}, ttl = options.ttl, parts = list.composite,
    primary = primary and primary.name, redis = options.redis or redis.open() }, Model)
  model.is_part = {}
  for _, part in ipairs(list.composite or {}) do model.is_part[part] = true end
  add_fields(model, list)
  if primary and primary.type == "uuid" and primary.default == nil then
    model.defaults[primary.name] = core.uuid
  end
  model.class, model.methods = new_class(name, model.fields)
  writing.model_of[model.class] = model
  model.core = core.define(name, list, model.redis, model.class, shadows, options)
  relation.enter(model)
  if model.ttl then ttl.start(model) end
  if M.defined[name] then M.defined[name].is_replaced = true end
  M.defined[name] = model
  return model
end

--- model.uuid(): a new uuid, version 7: ordered by time of creation.
M.uuid = core.uuid
--- model.now(): seconds since 1970, for defaults; the same as neap.now.
M.now = now
--- model.iso(seconds): a time as ISO 8601 text, in UTC; nil outside the years 1 to 9999.
M.iso = core.format_time
--- model.seconds(text): ISO 8601 text as seconds since 1970; nil if it is none.
M.seconds = core.parse_time

return M
