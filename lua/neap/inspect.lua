-- inspect: values as text for people: neap.inspect(value) and the console's results.
local layout = require "neap.layout"
local M = {}

local depth_max, entries_max, string_max, line_max = 6, 50, 500, 78
local rows_max, cell_max = 20, 32
local total_max = 100000 -- bytes, roughly; the rest is left out

local escapes = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"' }

-- escape leaves UTF-8 as it is and makes other bytes visible.
local function escape(s)
  s = s:gsub('[%c\\"\127]', function(c) return escapes[c] or ("\\%03d"):format(c:byte()) end)
  if not s:find("[\128-\255]") then return s end
  local out, at = {}, 1
  while at <= #s do
    local ascii = s:match("^[%z\1-\127]+", at)
    local letter = ascii or s:match("^[\194-\223][\128-\191]", at)
      or s:match("^[\224-\239][\128-\191][\128-\191]", at)
      or s:match("^[\240-\244][\128-\191][\128-\191][\128-\191]", at)
    out[#out + 1] = letter or ("\\%03d"):format(s:byte(at))
    at = at + #(letter or " ")
  end
  return table.concat(out)
end

local function string_text(s)
  if #s <= string_max then return '"' .. escape(s) .. '"' end
  return ('"%s"... (%s in all)'):format(escape(s:sub(1, string_max)), layout.bytes(#s))
end

-- described is what a value's own __tostring says, if that works.
local function described(value)
  local ok, text = pcall(tostring, value)
  if ok and type(text) ~= "string" then ok, text = false, "it returns a " .. type(text) end
  if not ok then
    local told, reason = pcall(tostring, text)
    return ("(%s whose __tostring fails: %s)"):format(type(value),
      told and type(reason) == "string" and reason or type(text))
  end
  return #text <= string_max and text or text:sub(1, string_max) .. "..."
end

local function number_text(n)
  if n == math.floor(n) and math.abs(n) < 1e15 then return ("%d"):format(n) end
  for digits = 14, 16 do
    local short = ("%." .. digits .. "g"):format(n)
    if tonumber(short) == n then return short end
  end
  return ("%.17g"):format(n)
end

local function function_text(fn)
  local info = debug.getinfo(fn, "S")
  if info.what == "C" then return "function (in C)" end
  return ("function (%s:%d)"):format(info.short_src, info.linedefined)
end

local ranks = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
  local x, y = ranks[type(a)] or 4, ranks[type(b)] or 4
  if x ~= y then return x < y end
  if x <= 2 then return a < b end
  return false
end

local reserved = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or
  repeat return then true until while]]):gmatch "%a+" do reserved[word] = true end

local function key_text(key, state)
  if type(key) == "string" and key:find("^[%a_][%w_]*$") and not reserved[key] then return key end
  return "[" .. state.show(key, state.depth_max) .. "]"
end

-- table_entries lists what is in a table: {key, value}, the list's part without keys.
local function table_entries(t, state)
  local entries, keys, n = {}, {}, 0
  while n < entries_max and rawget(t, n + 1) ~= nil do
    n = n + 1
    entries[n] = { nil, rawget(t, n) }
  end
  local count, left = 0, 0
  for key in next, t do
    if type(key) ~= "number" or key < 1 or key > n or key ~= math.floor(key) then
      count = count + 1
      if count <= 10000 then keys[count] = key else left = left + 1 end
    end
  end
  table.sort(keys, before)
  for _, key in ipairs(keys) do
    if #entries < entries_max then
      entries[#entries + 1] = { key_text(key, state), rawget(t, key) }
    else
      left = left + 1
    end
  end
  return entries, left
end
jit.off(table_entries) -- LuaJIT 2.1.0-beta3 compiles next wrong now and then: neap.jit_guard

-- filled sets short parts side by side.
local function filled(parts, inner)
  local lines, line = {}, ""
  for i, part in ipairs(parts) do
    local word = part .. (i < #parts and "," or "")
    if line ~= "" and #inner + #line + #word > line_max then
      lines[#lines + 1], line = line, ""
    end
    line = line == "" and word or line .. " " .. word
  end
  lines[#lines + 1] = line
  return inner .. table.concat(lines, inner)
end

local function joined(parts, indent, name)
  local size = #indent + #name
  for _, part in ipairs(parts) do
    size = size + #part + 2
    if part:find("\n", 1, true) then size = line_max + 1 end
  end
  if size <= line_max then return name .. "{ " .. table.concat(parts, ", ") .. " }" end
  local inner = "\n" .. indent .. "  "
  local longest = 0
  for _, part in ipairs(parts) do
    longest = math.max(longest, part:find("\n", 1, true) and line_max or #part)
  end
  if longest <= 16 then return name .. "{" .. filled(parts, inner) .. "\n" .. indent .. "}" end
  return name .. "{" .. inner .. table.concat(parts, "," .. inner) .. "\n" .. indent .. "}"
end

local function show_table(t, depth, indent, name, state)
  if state.above[t] then return "(the table above: " .. state.above[t] .. ")" end
  if next(t) == nil then return name .. "{}" end
  if depth >= depth_max then return name .. "{ ... }" end
  if state.size > total_max then return name .. "{ ... }" end
  state.above[t] = depth == 0 and "the outermost" or "level " .. depth
  local entries, left = table_entries(t, state)
  local parts = {}
  for i, entry in ipairs(entries) do
    local value = state.show(entry[2], depth + 1, indent .. "  ")
    parts[i] = entry[1] and entry[1] .. " = " .. value or value
    state.size = state.size + #parts[i]
  end
  if left > 0 then parts[#parts + 1] = "... " .. layout.count(left) .. " more" end
  state.above[t] = nil
  return joined(parts, indent, name)
end

-- model_of returns the model that a value is a row of. Without models there are none.
local function model_of(value)
  local writing = package.loaded["neap.model_write"]
  local class = writing and type(value) == "table" and getmetatable(value)
  return class and type(class) == "table" and writing.model_of[class] or nil
end

local function new_state()
  local null = require("neap.core.json").null
  local state = { above = {}, size = 0, depth_max = depth_max }
  function state.show(value, depth, indent)
    local kind = type(value)
    if kind == "string" then return string_text(value) end
    if kind == "number" then return number_text(value) end
    if kind == "function" then return function_text(value) end
    if value == null then return "null" end
    if kind ~= "table" then return described(value) end
    local class = getmetatable(value)
    local model = model_of(value)
    if type(class) == "table" and rawget(class, "__tostring") and not model then
      return described(value)
    end
    return show_table(value, depth, indent or "", model and model.name .. " " or "", state)
  end
  return state
end

-- rows, queries, models as columns --------------------------------------------

local function cell_text(value)
  if value == nil then return "" end
  local text = type(value) == "string" and escape(value) or new_state().show(value, depth_max - 1)
  if #text <= cell_max then return text end
  local cut = text:sub(1, cell_max - 3):gsub("[\192-\255][\128-\191]*$", "")
  return cut .. "..."
end

-- rows_text sets the rows of one model out as lines under their fields' names.
local function rows_text(rows, model, is_cut)
  local names, lines, is_right = {}, {}, {}
  for _, f in ipairs(M.field_list(model)) do
    names[#names + 1] = f.name
    is_right[#names] = f.type == "integer" or f.type == "number"
  end
  lines[1] = names
  for i = 1, math.min(#rows, rows_max) do
    local line = {}
    for k, name in ipairs(names) do line[k] = cell_text(rawget(rows[i], name)) end
    lines[#lines + 1] = line
  end
  local count = (is_cut or #rows > rows_max) and "the first " .. rows_max
    .. (is_cut and "" or " of " .. layout.count(#rows)) .. " rows"
    or layout.plural(#rows, "row")
  return layout.columns(lines, is_right) .. "\n(" .. count .. " of " .. model.name .. ")"
end

--- inspect.field_list(model): its fields, the key's first, then by name.
function M.field_list(model)
  local list = {}
  for _, f in pairs(model.fields) do list[#list + 1] = f end
  local is_key = model.is_part or {}
  table.sort(list, function(a, b)
    local x = a.name == model.primary or is_key[a.name] or false
    local y = b.name == model.primary or is_key[b.name] or false
    if x ~= y then return x end
    return a.name < b.name
  end)
  return list
end
jit.off(M.field_list)

local shown_options = { "primary_key", "required", "unique", "index", "sort", "immutable", "min",
  "max", "ref" }

local function model_text(model)
  local lines = { { "field", "type", "options" } }
  for _, f in ipairs(M.field_list(model)) do
    local options = {}
    for _, name in ipairs(shown_options) do
      local value = f[name]
      if value == true then options[#options + 1] = name
      elseif type(value) == "number" or type(value) == "string" then
        options[#options + 1] = name .. " " .. tostring(value)
      end
    end
    lines[#lines + 1] = { f.name, f.type, table.concat(options, ", ") }
  end
  return "model " .. model.name .. "\n" .. layout.columns(lines)
end

local function is_query(value)
  local query = package.loaded["neap.query"]
  return query and getmetatable(value) == query.methods
end

local function is_model(value)
  local model = package.loaded["neap.model"]
  return model and type(rawget(value, "name")) == "string"
    and model.defined[rawget(value, "name")] == value
end

-- rows_of returns the model whose rows a list holds, if it holds nothing else.
local function rows_of(list)
  local model = model_of(rawget(list, 1))
  if not model then return nil end
  for i = 2, #list do
    if model_of(rawget(list, i)) ~= model then return nil end
  end
  return model
end

--- neap.inspect(value): the value as text for people: tables with their entries, cut where
-- they are deep, long or hold themselves; a model as the list of its fields; a list of a
-- model's rows, and a query (whose first rows are read), as a table with columns.
--
--   print(neap.inspect { 1, "two", list = { 3 } })  --> { 1, "two", list = { 3 } }
function M.inspect(value)
  if type(value) == "table" then
    if is_query(value) then
      local limit = value.most
      local rows = value:limit(math.min(limit or math.huge, rows_max + 1)):all()
      local is_cut = #rows > rows_max
      return rows_text(rows, value.model, is_cut)
    end
    if is_model(value) then return model_text(value) end
    local model = rows_of(value)
    if model then return rows_text(value, model) end
  end
  return new_state().show(value, 0)
end

return M
