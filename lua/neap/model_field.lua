-- model_field: the fields of a definition.
--
--   local list, primary = model_field.check_definition("user", fields, options, reserved)
local model_error = require "neap.model_error"
local model_value = require "neap.model_value"
local fail = model_error.fail
local forms, quoted = model_value.forms, model_value.quoted
local M = { field = {} }

--- model_field.checker, model_field.computer: see model_value.
M.checker, M.computer = model_value.checker, model_value.computer

-- set_of makes { a = true, b = true } of "a b".
local function set_of(text)
  local set = {}
  for word in text:gmatch("%S+") do set[word] = true end
  return set
end

-- options -------------------------------------------------------------------

local all = "string text integer number boolean enum time date uuid bytes json list set ref"
local limited = "string text bytes integer number time date list set"
local element_kinds = set_of "string integer number boolean enum time date uuid bytes"
local element_options = set_of "min max match one_of validate"
local callable = set_of "list set ref"

-- the options: the type of their value, and the fields that they are for
local rules = {
  required = { "boolean", all },
  default = { nil, all },
  min = { nil, limited },
  max = { nil, limited },
  match = { "string", "string text" },
  one_of = { "table", "string integer number time date uuid bytes" },
  validate = { "function", all },
  index = { "boolean", "string integer number boolean enum time date uuid bytes list set ref" },
  sort = { "boolean", "string integer number time date" },
  unique = { "boolean", "string integer number boolean enum time date uuid bytes ref" },
  immutable = { "boolean", all },
  computed = { "function", all },
  primary_key = { "boolean", all },
  auto = { "boolean", "integer" },
  on_delete = { "string", "ref" },
}
local on_delete_words = set_of "restrict cascade nullify"

-- is_list tells whether the keys are just 1..n.
local function is_list(t)
  local count = 0
  for _ in pairs(t) do count = count + 1 end
  return count == #t
end

local captures_max = 32 -- of a Lua pattern

local checks = {} -- option -> what is wrong with its value, or nil

-- class_end returns where a pattern goes on after the class that begins at `at`,
-- behind its bracket; nil if it does not end.
local function class_end(pattern, at)
  at = pattern:match("^%^?()", at)
  repeat at = pattern:match("^%%?.()", at) until not at or pattern:sub(at, at) == "]"
  return at and at + 1
end

-- escape_end returns the same for what begins with a % at `at`; closed has the
-- captures that are complete.
local function escape_end(pattern, at, closed)
  local letter = pattern:sub(at + 1, at + 1)
  if letter == "b" then return pattern:match("^..()", at + 2) end
  if letter == "f" then
    return pattern:sub(at + 2, at + 2) == "[" and class_end(pattern, at + 3) or nil
  end
  if letter:find("%d") and not closed[tonumber(letter)] then return nil end
  return letter ~= "" and at + 2 or nil
end

-- is_pattern tells whether string.find takes a Lua pattern, whatever string it is
-- tried on: on most it stops before it sees what is wrong.
local function is_pattern(pattern)
  local at, open, closed, count = pattern:match("^%^?()"), {}, {}, 0
  while at and at <= #pattern do
    local letter = pattern:sub(at, at)
    if letter == "(" then
      count = count + 1
      open[#open + 1] = count
      at = count <= captures_max and at + 1 or nil
    elseif letter == ")" then
      local capture = table.remove(open)
      if capture then closed[capture] = true end
      at = capture and at + 1
    elseif letter == "[" then
      at = class_end(pattern, at + 1)
    elseif letter == "%" then
      at = escape_end(pattern, at, closed)
    else
      at = at + 1
    end
  end
  return at ~= nil and #open == 0
end

function checks.match(f)
  if not is_pattern(f.match) then return "match is no Lua pattern: " .. f.match end
end

function checks.one_of(f)
  if #f.one_of == 0 or not is_list(f.one_of) then return "one_of must be a list of values" end
  for _, value in ipairs(f.one_of) do
    if forms[f.kind](value, f) == nil then
      return ("one_of: %s cannot be a value of type %s"):format(quoted(value), f.kind)
    end
  end
end

function checks.default(f)
  if type(f.default) == "table" then
    return "a default that is a table would be shared; give a function that returns one"
  end
end

function checks.on_delete(f)
  if not on_delete_words[f.on_delete] then
    return ('on_delete must be "restrict", "cascade" or "nullify", got %s')
      :format(quoted(f.on_delete))
  end
end

local function wrong_limit(f, name)
  local value = f[name]
  if f.kind == "date" then
    if not forms.date(value) then
      return ("%s must be a date such as '2024-02-29', got %s"):format(name, quoted(value))
    end
  elseif type(value) ~= "number" then
    return ("%s must be a number, got a %s"):format(name, type(value))
  elseif value ~= value then
    return "min and max are numbers, not NaN"
  elseif f.kind == "integer" and not forms.integer(value) then
    return "min and max of an integer are whole numbers, within 2^53"
  elseif f.kind ~= "integer" and f.kind ~= "number" and f.kind ~= "time"
    and (value < 0 or not forms.integer(value)) then
    return ("%s of a %s is a length: a whole number from 0, got %s"):format(name, f.kind,
      tostring(value))
  end
end
function checks.min(f) return wrong_limit(f, "min") end
function checks.max(f) return wrong_limit(f, "max") end

-- wrong_option says what is wrong with one option of a field, or nil.
local function wrong_option(kind, name, value)
  local rule = rules[name]
  if not rule then
    return ("unknown option '%s'"):format(tostring(name))
  elseif rule[1] and type(value) ~= rule[1] then
    return ("%s must be a %s, got a %s"):format(name, rule[1], type(value))
  elseif value ~= false and not set_of(rule[2])[kind] then
    return ("%s is for %s, not for %s"):format(name, rule[2]:gsub(" ", ", "), kind)
  end
end

-- wrong_together says which options of a field exclude each other, or nil.
local function wrong_together(f)
  if f.min ~= nil and f.max ~= nil and f.min > f.max then
    return "min is above max"
  elseif f.computed and f.primary_key then
    return "computed is not for a primary key"
  elseif f.computed and (f.required or f.default ~= nil) then
    return ("computed and %s exclude each other"):format(f.required and "required" or "default")
  elseif f.primary_key and f.on_delete then
    return "on_delete is not for a primary key"
  elseif f.primary_key and f.unique then
    return "a primary key is unique by itself"
  elseif f.primary_key and (f.index or f.sort) then
    return "a primary key needs no index"
  elseif f.on_delete == "nullify" and (f.required or f.immutable) then
    return ('on_delete = "nullify" and %s exclude each other')
      :format(f.required and "required" or "immutable")
  end
end

-- fields --------------------------------------------------------------------

local Field = {} -- the metatable of every field
local constructors = {} -- constructor -> the type it makes

-- add_values takes an enum's values out of its options, whose list part they are.
local function add_values(f, options)
  local values, count = {}, 0
  for key, value in pairs(options) do
    if type(key) == "number" then
      count = count + 1
      if type(value) ~= "string" or value == "" or value:find("%z") then
        return "the values of an enum are strings, not empty and without NUL"
      end
    end
  end
  if count == 0 then return "an enum needs its values" end
  if count ~= #options then return "the values of an enum are a list without holes" end
  for i, value in ipairs(options) do values[i] = value end
  table.sort(values)
  for i = 2, count do
    if values[i] == values[i - 1] then
      return ("the enum has the value %s twice"):format(quoted(values[i]))
    end
  end
  f.values = values
end

-- new_field makes a field like base with other options. It notes what is wrong
-- for define, which knows the names. A flag that is false is not there.
local function new_field(base, options)
  local f = setmetatable({}, Field)
  for k, v in pairs(base) do f[k] = v end
  if options ~= nil and type(options) ~= "table" then
    f.wrong = f.wrong or ("a table of options is expected, got a %s"):format(type(options))
    return f
  end
  options = options or {}
  if f.kind == "enum" then f.wrong = add_values(f, options) end
  for name, value in pairs(options) do
    if f.kind ~= "enum" or type(name) ~= "number" then
      f.wrong = f.wrong or wrong_option(f.kind, name, value)
      if rules[name] then
        f[name] = value
        if rules[name][1] == "boolean" and value == false then f[name] = nil end
      end
    end
  end
  for name, check in pairs(checks) do
    if not f.wrong and f[name] ~= nil then f.wrong = check(f) end
  end
  f.wrong = f.wrong or wrong_together(f)
  if f.on_delete then f.index = true end
  return f
end

function Field:__call(options)
  if not callable[self.kind] then
    error(("a field is not called: its options stand in field.%s { ... }"):format(self.kind), 2)
  end
  return new_field(self, options)
end

-- element_of returns the field that the elements of a list or a set are, or nil
-- and what is wrong with it.
local function element_of(kind, element)
  local element_kind = constructors[element]
  if not element_kind and getmetatable(element) ~= Field then
    return nil, ("the type of its elements is expected first, as in field.%s(field.string), "
      .. "got a %s"):format(kind, type(element))
  end
  element_kind = element_kind or element.kind
  if not element_kinds[element_kind] then
    return nil, ("an element cannot be of type %s"):format(element_kind)
  end
  if constructors[element] then element = element() end
  if element.wrong then return nil, "element: " .. element.wrong end
  for name in pairs(rules) do
    if element[name] ~= nil and not element_options[name] then
      return nil, ("an element cannot have the option %s"):format(name)
    end
  end
  return element
end

--- field.string { ... }, field.text (long, not indexed), field.integer,
-- field.number, field.boolean, field.enum { "a", "b", ... }, field.time (seconds
-- since 1970), field.date ("2024-02-29"), field.uuid, field.bytes, field.json: a
-- field's type and options. All: required, default (a value, or a function
-- called at create), validate (fn(value, row) -> true, or false and a message),
-- immutable, computed (fn(row) -> value). Those whose type allows it: min and max
-- (of the value, or of its length), match (a Lua pattern for the whole string),
-- one_of (a list), index, sort, unique, primary_key, auto (an integer primary
-- key from a counter).
for _, kind in ipairs { "string", "text", "integer", "number", "boolean", "enum", "time", "date",
  "uuid", "bytes", "json" } do
  M.field[kind] = function(options) return new_field({ kind = kind, type = kind }, options) end
  constructors[M.field[kind]] = kind
end

--- field.list(field.string) { index = true }, field.set(field.string { max = 20 }):
-- many values of one type. The elements have min, max, match, one_of and
-- validate; min and max of the list are the number of them. A set keeps each
-- value once. Its options may also stand in a second argument.
for _, kind in ipairs { "list", "set" } do
  M.field[kind] = function(element, options)
    local f, wrong = element_of(kind, element)
    return new_field({ kind = kind, type = kind, element = f, wrong = wrong }, options)
  end
  constructors[M.field[kind]] = kind
end

--- field.ref(User) { on_delete = "cascade" }, field.ref "self": the primary key
-- of a row of another model, or of this one. on_delete tells what happens to
-- this row with that one: "restrict", "cascade" or "nullify"; it implies index.
function M.field.ref(target, options)
  local base = { kind = "ref", ref = target }
  if type(target) == "table" and type(target.fields) == "table" then
    local key = target.fields[target.primary]
    base.type = key and key.type or "bytes" -- of a composite key
    base.target_key = target.primary
  elseif target ~= "self" then
    base.wrong = ('a model or "self" is expected first, as in field.ref(User), got %s')
      :format(type(target) == "string" and quoted(target) or "a " .. type(target))
  end
  return new_field(base, options)
end
constructors[M.field.ref] = "ref"

--- is_computed(f): whether the field's value is worked out, and assigned by nobody.
function M.is_computed(f)
  return f.computed ~= nil
end

-- definitions ---------------------------------------------------------------

local function sorted_fields(name, fields, reserved)
  local list = {}
  for field_name, f in pairs(fields) do
    if type(field_name) ~= "string" or getmetatable(f) ~= Field then
      fail("model.definition", "model %s: field %s is not made by neap.field", name,
        tostring(field_name))
    end
    local copy = { name = field_name }
    for k, v in pairs(f) do copy[k] = v end
    list[#list + 1] = copy
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  for _, f in ipairs(list) do
    if not f.name:find("^[a-z][a-z0-9_]*$") then
      fail("model.definition", "model %s: field %s: a name is [a-z][a-z0-9_]*", name, f.name)
    elseif f.wrong then
      fail("model.definition", "model %s: field %s: %s", name, f.name, f.wrong)
    elseif reserved[f.name] then
      fail("model.definition", "model %s: field %s has the name of a method", name, f.name)
    end
  end
  return list
end

local primary_types = set_of "string bytes integer uuid"

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
  return primary
end

local function check_primary(name, primary)
  if not primary then
    fail("model.definition", "model %s: one field needs primary_key = true", name)
  elseif primary.ref == "self" then
    fail("model.definition", "model %s: field %s: a primary key cannot refer to its own model",
      name, primary.name)
  elseif not primary_types[primary.type] then
    fail("model.definition", "model %s: field %s: a primary key is a string, bytes, an integer or "
      .. "a uuid, not of type %s", name, primary.name, primary.type)
  end
end

-- named_fields returns the fields of a list of two names or more.
local function named_fields(name, what, names, by_name)
  if type(names) ~= "table" or #names < 2 or not is_list(names) then
    fail("model.definition", "model %s: %s must be a list of two names of fields or more", name,
      what)
  end
  local list, has = {}, {}
  for i, field_name in ipairs(names) do
    local f = by_name[field_name]
    if not f then
      fail("model.definition", "model %s: %s: there is no field '%s'", name, what,
        tostring(field_name))
    elseif has[f] then
      fail("model.definition", "model %s: %s: %s stands twice", name, what, field_name)
    end
    has[f], list[i] = true, f
  end
  return list
end

local part_kinds = set_of "string bytes integer uuid date enum ref"

-- check_composite checks the parts of a composite key and makes them required
-- and immutable. Returns their names.
local function check_composite(name, names, by_name)
  local composite = {}
  for i, f in ipairs(named_fields(name, "primary_key", names, by_name)) do
    local wrong
    if not part_kinds[f.kind] then
      wrong = "is a string, bytes, an integer, a uuid, a date, an enum or a ref; it is of type "
        .. f.kind
    elseif f.ref == "self" then
      wrong = "cannot refer to its own model"
    elseif f.computed then
      wrong = "cannot be computed"
    elseif f.on_delete == "nullify" then
      wrong = 'cannot have on_delete = "nullify"'
    end
    if wrong then
      fail("model.definition", "model %s: field %s: a part of the primary key %s", name, f.name,
        wrong)
    end
    f.required, f.immutable = true, true
    composite[i] = f.name
  end
  return composite
end

local first_kinds = set_of "string enum boolean integer uuid ref bytes date"
local last_kinds = set_of "integer number time date"

local function check_indexes(name, indexes, by_name)
  if type(indexes) ~= "table" or not is_list(indexes) then
    fail("model.definition", "model %s: indexes must be a list of lists of names", name)
  end
  local has = {}
  for place, names in ipairs(indexes) do
    local what = ("indexes[%d]"):format(place)
    local list = named_fields(name, what, names, by_name)
    for i, f in ipairs(list) do
      if i == #list and not last_kinds[f.kind] then
        fail("model.definition", "model %s: %s: the last field is an integer, a number, a time or "
          .. "a date; %s is of type %s", name, what, f.name, f.kind)
      elseif i < #list and not first_kinds[f.kind] then
        fail("model.definition", "model %s: %s: the fields before the last are strings, enums, "
          .. "booleans, integers, uuids, refs, bytes or dates; %s is of type %s", name, what,
          f.name, f.kind)
      end
    end
    local text = table.concat(names, ",")
    if has[text] then
      fail("model.definition", "model %s: indexes: { %s } stands twice", name, text)
    end
    has[text] = true
  end
end

--- check_definition(name, fields, options, reserved): the fields as a list of
-- copies sorted by name, each with its name, and the primary key's field. Of a
-- composite key that is nil, and list.composite has the names of its parts.
-- reserved has the names that no field can have. A ref "self" gets its type,
-- its ref stays "self". Raises model.definition.
function M.check_definition(name, fields, options, reserved)
  local list = sorted_fields(name, fields, reserved)
  local by_name = {}
  for _, f in ipairs(list) do by_name[f.name] = f end
  local primary = find_primary(name, list)
  if options.primary_key == nil then
    check_primary(name, primary)
  elseif primary then
    fail("model.definition", "model %s: both %s and options.primary_key are primary keys", name,
      primary.name)
  else
    list.composite = check_composite(name, options.primary_key, by_name)
  end
  for _, f in ipairs(list) do
    if f.ref == "self" then
      f.type = primary and primary.type or "bytes"
      f.target_key = primary and primary.name
    end
  end
  if options.indexes ~= nil then check_indexes(name, options.indexes, by_name) end
  return list, primary
end

--- defaults(list): what create fills in, values or functions by name.
function M.defaults(list)
  local defaults = {}
  for _, f in ipairs(list) do defaults[f.name] = f.default end
  return defaults
end

return M
