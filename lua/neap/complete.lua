-- complete: how a line in the console may go on. No function of the program is called to find that
-- out: fields are read raw, and through metatables whose __index is a table. Internal.
local inspect = require "neap.inspect"
local M = {}

local most = 200
local keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or
  repeat return then true until while]]):gmatch "%a+" do keywords[#keywords + 1] = word end

-- holders calls fn with each table in which a value's fields are looked up.
local function holders(value, fn)
  if type(value) == "table" then fn(value) end
  local meta = type(value) == "string" and getmetatable("") or debug.getmetatable(value)
  for _ = 1, 10 do
    local index = type(meta) == "table" and rawget(meta, "__index")
    if type(index) ~= "table" then return end
    fn(index)
    meta = debug.getmetatable(index)
  end
end

local function is_redis(value)
  local core = package.loaded["neap.core.redis"]
  return type(value) == "userdata" and core and debug.getmetatable(value) == core.client_class
end

local function field_of(value, name)
  local found
  holders(value, function(t)
    if found == nil then found = rawget(t, name) end
  end)
  if found == nil and value == package.loaded.neap then found = value[name] end
  return found
end

local function resolve(env, chain)
  local value, is_first = nil, true
  for name in chain:gmatch "[%w_]+" do
    if is_first then value = env[name] else value = field_of(value, name) end
    is_first = false
    if value == nil then return nil end
  end
  return value
end

-- names_in adds to `names` those of a table's keys that begin so.
local function names_in(names, t, part, only_functions)
  local n = #part
  for key, value in next, t do
    if type(key) == "string" and key:sub(1, n) == part and key:find("^[%a_][%w_]*$")
      and (not only_functions or type(value) == "function") then
      names[key] = true
    end
  end
end
jit.off(names_in) -- LuaJIT 2.1.0-beta3 compiles next wrong now and then: neap.jit_guard

local function listed(names, part)
  local list = {}
  for name in next, names do
    -- names of internal things only when they are asked for
    if part:sub(1, 1) == "_" or name:sub(1, 1) ~= "_" then list[#list + 1] = name end
  end
  table.sort(list)
  for i = #list, most + 1, -1 do list[i] = nil end
  return list
end
jit.off(listed)

-- model_named returns a value if it is a model.
local function model_named(value)
  local model = package.loaded["neap.model"]
  local name = model and type(value) == "table" and rawget(value, "name")
  return type(name) == "string" and model.defined[name] == value and value or nil
end

-- model_in_braces returns the model whose method's table the text ends in: User:where { ag
local function model_in_braces(env, text)
  local chain = text:match "([%a_][%w_.]*):[%a_]+%s*%(?%s*{[^{}]*$"
    or text:match "([%a_][%w_.]*):[%a_]+%s*%(?%s*[\"'][%w_]*$"
  return chain and model_named(resolve(env, chain))
end

-- names_of_redis adds the server's commands and the client's own methods; others that stand in its
-- class were only ever asked for.
local function names_of_redis(names, client, part, redis_names)
  names_in(names, redis_names(client), part, false)
  for _, topic in ipairs(require("neap.help").topics()) do
    local name = topic:match "^redis:([%w_]+)$"
    if name and name:sub(1, #part) == part then names[name] = true end
  end
end

local function member_names(env, chain, separator, part, redis_names)
  local names, value = {}, resolve(env, chain)
  if value == nil then return names end
  if is_redis(value) then
    if separator == ":" then names_of_redis(names, value, part, redis_names) end
    return names
  end
  holders(value, function(t) names_in(names, t, part, separator == ":") end)
  if value == package.loaded.neap then
    names_in(names, require("neap").lazy_names, part, false)
  end
  return names
end

--- complete.complete(text, env, commands, redis_names): how many bytes at the end of text are
-- to be replaced, and by what: a list in order. commands are the console's own, by name;
-- redis_names(client) returns a table with the names of the server's commands.
function M.complete(text, env, commands, redis_names)
  local command = text:match "^:(%a*)$"
  if command then
    local names = {}
    names_in(names, commands, command, false)
    return #command, listed(names, command)
  end
  local topic = text:match "^:help%s+([%w_.:]*)$"
  if topic then
    local list = {}
    for _, name in ipairs(require("neap.help").topics()) do
      if name:sub(1, #topic) == topic and #list < most then list[#list + 1] = name end
    end
    return #topic, list
  end
  local chain, separator, part = text:match "([%a_][%w_.:]*)([.:])([%w_]*)$"
  if chain then
    return #part, listed(member_names(env, chain, separator, part, redis_names), part)
  end
  local root
  root, part = text:match "([%a_][%w_.]*):[%a_]+%s*[%({\"'][^;]*[%)}\"']%s*:([%w_]*)$"
  if root and model_named(resolve(env, root)) then -- a query's methods
    local methods = {}
    names_in(methods, require("neap.query").methods, part, true)
    return #part, listed(methods, part)
  end
  part = text:match "[\"']%s*%)?:([%w_]*)$"
  if part then -- a string's methods
    local methods = {}
    names_in(methods, string, part, true)
    return #part, listed(methods, part)
  end
  part = text:match "[%a_][%w_]*$" or ""
  local names = {}
  local model = model_in_braces(env, text)
  if model then
    for _, f in ipairs(inspect.field_list(model)) do names[f.name] = f.name end
    local fitting = {}
    names_in(fitting, names, part, false)
    return #part, listed(fitting, part)
  end
  if part == "" then return 0, {} end
  names_in(names, _G, part, false)
  names_in(names, env.own_names, part, false)
  for _, word in ipairs(keywords) do
    if word:sub(1, #part) == part then names[word] = true end
  end
  return #part, listed(names, part)
end

return M
