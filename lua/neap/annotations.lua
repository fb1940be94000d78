-- annotations: the public names as LuaLS reads them (---@meta): the doc comments, and the types of
-- neap.signatures. `make install` puts them into share/neap/types. Internal.
--
--   neap -e 'io.write(require("neap.annotations").text())' > neap.lua
local help = require "neap.help"
local signatures = require "neap.signatures"
local M = {}

-- the classes, by how the comments call their values; with the fields that have no comment
local classes = {
  { "neap", "neap" }, { "neap.json", "neap.Json" }, { "neap.log", "neap.Log" },
  { "model", "neap.ModelModule" }, { "field", "neap.FieldModule" }, { "http", "neap.Http" },
  { "Model", "neap.Model" }, { "query", "neap.Query" }, { "row", "neap.Row", "[string] any" },
  { "redis", "neap.Redis", "[string] fun(self: neap.Redis, ...: any): any" },
  { "p", "neap.Pipeline", "[string] fun(self: neap.Pipeline, ...: any)" },
  { "tx", "neap.Transaction", "[string] fun(self: neap.Transaction, ...: any): any" },
  { "sub", "neap.Subscription" }, { "app", "neap.App" },
  { "server", "neap.Server", "url string", "host string", "port integer?", "path string?" },
  { "req", "neap.Request", "method string", "path string" },
  { "response", "neap.Response", "status integer", "headers table<string, string>", "body string?",
    "json any", "url string?", "head string?" },
  { "task", "neap.Task" }, { "scope", "neap.Scope" }, { "pool", "neap.Pool" },
  { "ticker", "neap.Ticker" }, { "channel", "neap.Channel" },
  { "semaphore", "neap.Semaphore" }, { "event", "neap.Event" }, { "console", "neap.Console" },
}

-- the types of values that have no methods
local values = [[
---@class neap.Error
---@field code string
---@field message string
---@field [string] any

---@class neap.Field

---@class neap.Condition

---@class neap.Message
---@field channel? string
---@field payload? string
---@field pattern? string
---@field gap? "reconnect"|"overflow"
---@field lost? integer

---@class neap.TaskInfo
---@field id integer
---@field name? string
---@field state "ready"|"running"|"waiting"
---@field spawned_at string
---@field at? string
---@field calls? string
---@field waits_for? string
---@field waited? number
---@field is_cancelled boolean
---@field request? integer
---@field task neap.Task

---@class neap.DebugOptions
---@field slow? number
---@field max_slice? number
---@field max_memory? number
---@field unjoined? boolean
---@field repeats? boolean

---@class neap.FieldOptions
---@field required? boolean
---@field default? any
---@field validate? fun(value: any, row: neap.Row): boolean, string?
---@field immutable? boolean
---@field computed? fun(row: neap.Row): any
---@field min? number|string
---@field max? number|string
---@field match? string
---@field one_of? any[]
---@field index? boolean
---@field sort? boolean
---@field unique? boolean
---@field primary_key? boolean
---@field auto? boolean
---@field on_delete? "restrict"|"cascade"|"nullify"

---@class neap.ModelOptions
---@field primary_key? string[]
---@field indexes? string[][]
---@field ttl? number|true
---@field optimistic? boolean
---@field hooks? table<string, fun(row: neap.Row)>
---@field redis? neap.Redis

---@class neap.RedisOptions
---@field url? string
---@field host? string
---@field port? integer
---@field [string] any

---@class neap.ListenOptions
---@field host? string
---@field port? integer
---@field path? string
---@field max_body? integer
---@field max_head? integer
---@field max_headers? integer
---@field max_connections? integer
---@field backlog? integer
---@field header_timeout? number
---@field body_timeout? number
---@field idle_timeout? number
---@field write_timeout? number
---@field half_close? number|boolean

---@alias neap.Handler fun(req: neap.Request): any
---@alias neap.Progress fun(done: integer, total: integer, what: string?)
]]

local class_of = {}
for _, c in ipairs(classes) do class_of[c[1]] = c[2] end

-- split takes "a: fun(x: any, y: any), b?: string" apart at the commas outside of brackets.
local function split(text)
  local list, depth, from = {}, 0, 1
  for at, c in text:gmatch "()([%(%)<>{},])" do
    depth = depth + (c:find "[%(<{]" and 1 or c:find "[%)>}]" and -1 or 0)
    if c == "," and depth == 0 then
      list[#list + 1] = text:sub(from, at - 1)
      from = at + 2
    end
  end
  if from <= #text then list[#list + 1] = text:sub(from) end
  return list
end

-- read_signature takes a line apart: the owner, ":" or ".", the name; then the parameters and the
-- results of a function, or the type of a field.
local function read_signature(line)
  local full, rest = line:match "^([%w_.:]*[%w_])(.*)$"
  local owner, separator, name = full:match "^(.*)([.:])([%w_]+)$"
  local s = { full = full, owner = owner, separator = separator, name = name,
    type = rest:match "^: (.+)$" }
  if not s.type then
    local inside, results = rest:match "^(%b())(.*)$"
    s.parameters = split(inside:sub(2, -2))
    s.results = split(results:match "^: (.+)$" or "")
  end
  return s
end

local function add_comment(out, s)
  for line in (help.find(s.full) or ""):gmatch "[^\n]+" do
    out[#out + 1] = "---" .. line:gsub("^  ", "")
  end
end

local function add_function(out, s)
  local names = {}
  add_comment(out, s)
  for i, parameter in ipairs(s.parameters) do
    local name, kind = parameter:match "^([%w_.?]+): (.+)$"
    names[i] = name:gsub("%?", "")
    out[#out + 1] = ("---@param %s %s"):format(name, kind)
  end
  for _, kind in ipairs(s.results) do out[#out + 1] = "---@return " .. kind end
  out[#out + 1] = ("function %s%s%s(%s) end\n"):format((class_of[s.owner]:gsub("%.", "_")),
    s.separator, s.name, table.concat(names, ", "))
end

local function add_class(out, class, list)
  out[#out + 1] = "---@class " .. class[2]
  for i = 3, #class do out[#out + 1] = "---@field " .. class[i] end
  for _, s in ipairs(list) do
    if s.type and s.owner == class[1] then
      local comment = (help.find(s.full) or ""):match ": ([^\n]*)"
      out[#out + 1] = ("---@field %s %s%s"):format(s.name, s.type, comment and " " .. comment or "")
    end
  end
  out[#out + 1] = "local " .. class[2]:gsub("%.", "_") .. " = {}\n"
end

--- annotations.signatures(): what the types are of: a list of { full, owner, name, ... }.
function M.signatures()
  local list = {}
  for line in signatures:gmatch "[^\n]+" do list[#list + 1] = read_signature(line) end
  return list
end

--- annotations.is_public(name): whether it is of a class here: "neap.sleep", "query:all".
function M.is_public(name)
  return class_of[name:match "^(.*)[.:]"] ~= nil
end

--- annotations.text(): the whole file.
function M.text()
  local out = { "---@meta neap", "-- neap's public names, for editors.\n", values }
  local list = M.signatures()
  for _, class in ipairs(classes) do add_class(out, class, list) end
  for _, s in ipairs(list) do
    if not s.type then add_function(out, s) end
  end
  out[#out + 1] = "return neap\n"
  return table.concat(out, "\n")
end

return M
