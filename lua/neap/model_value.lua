-- model_value: the values of a definition's fields as they come back once stored,
-- and the checks of them that are made in Lua. Types, required, min and max are
-- checked in C.
--
--   local check = model_value.checker(list)  -- nil where there is nothing to check
--   local wrong = check and check(row)       -- nil, or what is wrong by name
local core = require "neap.core.model"
local null = require("neap.core.json").null
local M = {}

-- the stored form of a value -------------------------------------------------

local whole_max = 2 ^ 53
local hex = "[0-9a-f]"
local uuid_pattern = "^" .. table.concat({ hex:rep(8), hex:rep(4), hex:rep(4), hex:rep(4),
  hex:rep(12) }, "%-") .. "$"

--- model_value.forms: forms[kind](value, field) is the value as it comes back once
-- stored, nil if it is of another type.
local forms = {}
M.forms = forms

function forms.string(value)
  return type(value) == "string" and value or nil
end
forms.text, forms.bytes = forms.string, forms.string

function forms.number(value)
  return type(value) == "number" and math.abs(value) < math.huge and value or nil
end

function forms.integer(value)
  local is_whole = type(value) == "number" and math.abs(value) <= whole_max
    and value == math.floor(value)
  return is_whole and value or nil
end

function forms.time(value)
  if type(value) == "string" then return core.parse_time(value) end
  return forms.number(value)
end

function forms.date(value)
  local is_date = type(value) == "string" and #value == 10 and core.parse_time(value)
  return is_date and value or nil
end

function forms.uuid(value)
  return type(value) == "string" and value:find(uuid_pattern) and value or nil
end

function forms.boolean(value)
  if type(value) == "boolean" then return value end
end

function forms.enum(value, f)
  for _, v in ipairs(f.values) do
    if v == value then return value end
  end
end

function forms.json(value)
  return value
end

function forms.list(value, f)
  if type(value) ~= "table" then return nil end
  local list = {}
  for i = 1, #value do
    list[i] = forms[f.element.kind](value[i], f.element)
    if list[i] == nil then return nil end
  end
  return list
end

local function is_less(a, b)
  if type(a) == "boolean" then return b and not a end
  return a < b
end

function forms.set(value, f)
  local list, set, has = forms.list(value, f), {}, {}
  if not list then return nil end
  for _, v in ipairs(list) do
    if not has[v] then set[#set + 1] = v end
    has[v] = true
  end
  table.sort(set, is_less)
  return set
end

-- A row stands for its key. What else a table may be, C knows.
function forms.ref(value, f)
  if type(value) ~= "table" then return value end
  if f.target_key then return value[f.target_key] end
  return type(value.primary_key) == "function" and value:primary_key() or value
end

--- quoted(value): as it is shown in an error's text.
function M.quoted(value)
  if type(value) ~= "string" then return tostring(value) end
  return "'" .. value:sub(1, 40) .. "'"
end

-- checks --------------------------------------------------------------------

-- anchored makes a pattern one for the whole string, as it may be already.
local function anchored(pattern)
  if pattern:sub(1, 1) ~= "^" then pattern = "^" .. pattern end
  local escapes = pattern:match("(%%*)%$$")
  if not escapes or #escapes % 2 == 1 then pattern = pattern .. "$" end
  return pattern
end

-- choice_of returns the values of one_of as a set, and as text.
local function choice_of(f)
  local set, list = {}, {}
  for i, value in ipairs(f.one_of) do
    set[forms[f.kind](value, f)] = true
    list[i] = M.quoted(value)
  end
  return set, table.concat(list, ", ")
end

-- value_check returns fn(value, row) -> what is wrong or nil, or nil if the
-- field allows all values of its type.
local function value_check(f)
  local validate, pattern, choice, choice_text = f.validate, nil, nil, nil
  if f.match then pattern = anchored(f.match) end
  if f.one_of then choice, choice_text = choice_of(f) end
  if not (validate or pattern or choice) then return nil end
  return function(value, row)
    if pattern and not value:find(pattern) then
      return ("it does not match %s, got '%s'"):format(pattern, value:sub(1, 40))
    elseif choice and not choice[value] then
      return ("it must be one of %s, got %s"):format(choice_text, M.quoted(value))
    elseif validate then
      local is_valid, message = validate(value, row)
      if not is_valid then return message and tostring(message) or "it is not valid" end
    end
  end
end

-- element_check returns the same for a list or a set, as the user has it.
local function element_check(element)
  local check, form = value_check(element), forms[element.kind]
  if not check then return nil end
  return function(list, row)
    for i = 1, #list do
      local value = form(list[i], element)
      local wrong = value ~= nil and check(value, row)
      if wrong then return ("element %d: %s"):format(i, wrong) end
    end
  end
end

-- field_check returns fn(value, row) -> what is wrong or nil, or nil if there is
-- nothing to check. Values of another type pass: C reports them.
local function field_check(f)
  local check, form = value_check(f), forms[f.kind]
  local check_elements = f.element and element_check(f.element)
  if not (check or check_elements) then return nil end
  return function(given, row)
    local wrong
    if check_elements and type(given) == "table" then wrong = check_elements(given, row) end
    local value
    if check and not wrong then value = form(given, f) end
    if value ~= nil then wrong = check(value, row) end
    return wrong
  end
end

-- is_same compares by content; {} and [] are two things in JSON.
local function is_same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  if next(a) == nil and next(b) == nil then return getmetatable(a) == getmetatable(b) end
  for k, v in pairs(a) do
    if not is_same(v, b[k]) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

local function is_changed(f, value, stored)
  if value == null then value = nil end
  if stored == null then stored = nil end
  if value == nil or stored == nil or value == stored then return value ~= stored end
  local form = forms[f.kind]
  local new = form(value, f)
  return new == nil or not is_same(new, form(stored, f))
end

--- checker(list): fn(row, old, wrong) -> wrong or nil; or nil if no field needs
-- it. It adds what is wrong with match, one_of, validate, immutable and the
-- elements of lists and sets to the table wrong, by name, and makes that table
-- when it is first needed. old is nil for a new row, else old(name) is the
-- value that is stored.
function M.checker(list)
  local by_value, immutable = {}, {}
  for _, f in ipairs(list) do
    local check = field_check(f)
    if check then by_value[#by_value + 1] = { name = f.name, check = check } end
    if f.immutable then immutable[#immutable + 1] = f end
  end
  if #by_value == 0 and #immutable == 0 then return nil end
  return function(row, old, wrong)
    local function add(name, text)
      wrong = wrong or {}
      wrong[name] = wrong[name] or text
    end
    for _, f in ipairs(old and immutable or {}) do
      if is_changed(f, row[f.name], old(f.name)) then add(f.name, "it cannot change") end
    end
    for _, c in ipairs(by_value) do
      local value = row[c.name]
      local text = value ~= nil and value ~= null and c.check(value, row)
      if text then add(c.name, text) end
    end
    return wrong
  end
end

--- computer(list): fn(row), which sets the computed fields in the order of their
-- names; or nil if there are none.
function M.computer(list)
  local computed = {}
  for _, f in ipairs(list) do
    if f.computed then computed[#computed + 1] = f end
  end
  if #computed == 0 then return nil end
  return function(row)
    for _, f in ipairs(computed) do
      local value = f.computed(row)
      if value == null then value = nil end
      rawset(row, f.name, value)
    end
  end
end

return M
