-- query_source: descriptions of schemas, rows and queries as Lua source. What is run is
-- what is printed: build() loads the same text.
--
--   local Thing = source.define(schema, { Other = Other })
--   local query = source.query(q, Thing)        -- by source.query_text(q)
--   print(source.program(schema, rows, q))      -- a whole program, to be pasted
--
-- A schema is { name = "thing", fields = { { name, kind, element, values, ref, options },
-- ... }, options = { primary_key, ttl, indexes } }; for queries see query_oracle.lua.
local neap = require "neap"
local M = {}

-- values --------------------------------------------------------------------

local function quoted(s)
  return '"' .. s:gsub('[%c"\\\127-\255]', function(c) return ("\\%03d"):format(c:byte()) end)
    .. '"'
end

local function number(v)
  if v == math.huge then return "math.huge" elseif v == -math.huge then return "-math.huge" end
  return ("%.17g"):format(v)
end

local literal

local function list_of(list, one, separator)
  local parts = {}
  for i, v in ipairs(list) do parts[i] = one(v) end
  return table.concat(parts, separator or ", ")
end

local function name_of(k)
  if type(k) == "string" and k:find "^[%a_][%w_]*$" then return k end
  return "[" .. literal(k) .. "]"
end

-- fields_of writes the names of a table, sorted.
local function fields_of(t)
  local names = {}
  for name in pairs(t) do names[#names + 1] = name end
  table.sort(names)
  return list_of(names, function(name) return name_of(name) .. " = " .. literal(t[name]) end)
end

--- literal(v): a value as Lua reads it: scalars, null, lists, tables with names.
function literal(v)
  if v == neap.null then return "null" end
  if type(v) == "string" then return quoted(v) end
  if type(v) == "number" then return number(v) end
  if type(v) ~= "table" then return tostring(v) end
  if next(v) == nil then return "{}" end
  return "{ " .. (v[1] ~= nil and list_of(v, literal) or fields_of(v)) .. " }"
end
M.literal = literal

-- schemas -------------------------------------------------------------------

local function field_text(f)
  local options = fields_of(f.options or {})
  if f.values then
    local values = list_of(f.values, quoted)
    return ("field.enum { %s%s }"):format(values, options ~= "" and ", " .. options or "")
  end
  local braces = options == "" and "{}" or "{ " .. options .. " }"
  if f.ref then return ("field.ref(%s, %s)"):format(f.ref, braces) end
  if not f.element then return ("field.%s %s"):format(f.kind, braces) end
  return ("field.%s(%s) %s"):format(f.kind, field_text(f.element), braces)
end

--- define_text(schema): the expression that defines the model.
function M.define_text(schema)
  local lines = {}
  for i, f in ipairs(schema.fields) do lines[i] = ("  %s = %s,"):format(f.name, field_text(f)) end
  return ("model.define(%s, {\n%s\n}, %s)"):format(quoted(schema.name),
    table.concat(lines, "\n"), literal(schema.options))
end

-- run evaluates an expression.
local function run(text, names)
  local env = setmetatable(names, { __index = { math = math, model = neap.model,
    field = neap.field, null = neap.null } })
  return setfenv(assert(loadstring("return " .. text, "=generated")), env)()
end

--- define(schema, names): the model. names has the models that it refers to, and redis.
function M.define(schema, names)
  local wrapped = {}
  function wrapped.define(name, fields, options)
    options.redis = names.redis
    return neap.model.define(name, fields, options)
  end
  return run(M.define_text(schema), { model = wrapped, Other = names.Other })
end

-- queries -------------------------------------------------------------------

local function test_text(t)
  if t.op == "eq" then return literal(t.value) end
  if t.op == "in" then return literal(t.values) end
  if t.op == "null" then return "null" end
  if t.op == "ne" then return ("model.ne(%s)"):format(test_text(t.test)) end
  if t.op == "between" then
    return ("model.between(%s, %s)"):format(literal(t.low), literal(t.high))
  end
  return ("model.%s(%s)"):format(t.op, literal(t.value))
end

local function leaf_text(e)
  local name = e.ref and ("[%s]"):format(quoted(e.ref .. "." .. e.name)) or e.name
  return name .. " = " .. test_text(e.test)
end

-- elements writes the elements of an expression. A name that was used already, or is to
-- stand alone, gets a table of its own; what has no name comes first.
local function elements(e)
  local named, others, used = {}, {}, {}
  for _, one in ipairs(e) do
    if one.op ~= "leaf" then
      others[#others + 1] = M.expression_text(one)
    elseif one.is_alone or used[(one.ref or "") .. "." .. one.name] then
      others[#others + 1] = "{ " .. leaf_text(one) .. " }"
    else
      used[(one.ref or "") .. "." .. one.name] = true
      named[#named + 1] = leaf_text(one)
    end
  end
  for _, text in ipairs(named) do others[#others + 1] = text end
  return #others == 0 and "{}" or "{ " .. table.concat(others, ", ") .. " }"
end

--- expression_text(e): what where takes.
function M.expression_text(e)
  if e.op == "leaf" then return "{ " .. leaf_text(e) .. " }" end
  if e.op == "table" then return elements(e) end
  return ("model.%s %s"):format(e.op, elements(e))
end

--- query_text(q): the query of a model called Thing.
function M.query_text(q)
  local parts = { "Thing" }
  if #q.wheres == 0 then parts[2] = ":rows()" end
  for _, where in ipairs(q.wheres) do
    local text, leaf = M.expression_text(where.expression), where.expression[1]
    if where.is_pair then
      text = ("%s, %s"):format(quoted(leaf.name), test_text(leaf.test))
    end
    parts[#parts + 1] = (":where(%s%s)"):format(text, q.is_scan and ", { scan = true }" or "")
  end
  for _, order in ipairs(q.orders) do
    parts[#parts + 1] = (":order_by(%s%s)"):format(quoted(order.name),
      order.is_descending and ', "desc"' or "")
  end
  if q.limit then parts[#parts + 1] = (":limit(%d)"):format(q.limit) end
  if q.offset then parts[#parts + 1] = (":offset(%d)"):format(q.offset) end
  return table.concat(parts)
end

--- query(q, model): the query itself.
function M.query(q, Thing) return run(M.query_text(q), { Thing = Thing }) end

-- programs ------------------------------------------------------------------

local function create_text(name, rows)
  local lines = {}
  for i, row in ipairs(rows) do lines[i] = "  " .. literal(row) .. "," end
  return ("%s:create_many {\n%s\n}"):format(name, table.concat(lines, "\n"))
end

--- program(case, last): a program with the model, its rows and the query, and then
-- the text `last`. A case is { schema, rows, q, other = { schema, rows } }; rows are
-- what create takes, in the order of their creation, or nil.
function M.program(case, last)
  local lines = { 'local neap = require "neap"',
    "local model, field, null = neap.model, neap.field, neap.null" }
  local function say(fmt, ...) lines[#lines + 1] = fmt:format(...) end
  local thing = M.define_text(case.schema)
  if thing:find "ref%(Other" then
    say("local Other = %s\nOther:drop()", M.define_text(case.other.schema))
    if #(case.other.rows or {}) > 0 then say("%s", create_text("Other", case.other.rows)) end
  end
  say("local Thing = %s\nThing:drop()", thing)
  if #(case.rows or {}) > 0 then say("%s", create_text("Thing", case.rows)) end
  say("local query = %s", M.query_text(case.q))
  say "print(query:explain())"
  say "print(unpack(query:ids()))"
  say("%s", last or "")
  return table.concat(lines, "\n")
end

return M
