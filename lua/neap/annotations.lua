-- annotations: the public names as LuaLS reads them (---@meta), made of the doc comments. `make
-- install` puts them into share/neap/types. Internal.
--
--   neap -e 'io.write(require("neap.annotations").text())' > neap.lua
local help = require "neap.help"
local M = {}

-- the classes, by how the comments call their values
local classes = {
  { "neap", "neap" }, { "neap.json", "neap.Json" }, { "neap.log", "neap.Log" },
  { "model", "neap.ModelModule" }, { "field", "neap.FieldModule" }, { "http", "neap.Http" },
  { "Model", "neap.Model" }, { "query", "neap.Query" }, { "row", "neap.Row" },
  { "redis", "neap.Redis" }, { "p", "neap.Pipeline" }, { "tx", "neap.Transaction" },
  { "sub", "neap.Subscription" }, { "app", "neap.App" }, { "server", "neap.Server" },
  { "req", "neap.Request" }, { "response", "neap.Response" }, { "task", "neap.Task" },
  { "pool", "neap.Pool" }, { "ticker", "neap.Ticker" }, { "channel", "neap.Channel" },
  { "semaphore", "neap.Semaphore" }, { "event", "neap.Event" }, { "console", "neap.Console" },
}
local class_of = {}
for _, c in ipairs(classes) do class_of[c[1]] = c[2] end

-- what functions return, where it is one of these
local returns = {
  ["neap.spawn"] = "neap.Task", ["neap.task"] = "neap.Task", ["neap.redis"] = "neap.Redis",
  ["neap.every"] = "neap.Ticker", ["neap.pool"] = "neap.Pool", ["pool:spawn"] = "neap.Task",
  ["neap.channel"] = "neap.Channel", ["neap.semaphore"] = "neap.Semaphore",
  ["neap.event"] = "neap.Event", ["neap.console"] = "neap.Console", ["neap.now"] = "number",
  ["neap.monotonic"] = "number", ["neap.token"] = "string", ["neap.random_bytes"] = "string",
  ["neap.inspect"] = "string", ["neap.is_error"] = "boolean", ["neap.tasks"] = "table[]",
  ["neap.stats"] = "table", ["neap.json.encode"] = "string", ["model.define"] = "neap.Model",
  ["Model:create"] = "neap.Row", ["Model:load"] = "neap.Row?", ["Model:load_many"] = "table",
  ["Model:where"] = "neap.Query", ["Model:rows"] = "neap.Query", ["Model:exists"] = "boolean",
  ["query:where"] = "neap.Query", ["query:order_by"] = "neap.Query", ["query:limit"] = "neap.Query",
  ["query:offset"] = "neap.Query", ["query:with"] = "neap.Query", ["query:all"] = "neap.Row[]",
  ["query:first"] = "neap.Row?", ["query:one"] = "neap.Row?", ["query:count"] = "integer",
  ["query:exists"] = "boolean", ["query:ids"] = "any[]", ["query:explain"] = "string",
  ["http.app"] = "neap.App", ["http.fetch"] = "neap.Response", ["app:listen"] = "neap.Server",
  ["app:request"] = "neap.Response", ["task:status"] = "string", ["task:info"] = "table",
  ["redis:subscribe"] = "neap.Subscription", ["redis:psubscribe"] = "neap.Subscription",
  ["redis:stats"] = "table", ["server:connections"] = "integer", ["server:requests"] = "integer",
}

-- types of parameters, by the names that the comments give them
local types = {
  fn = "function", handler = "function", f = "function", seconds = "number", n = "integer",
  size = "integer", capacity = "integer", count = "integer", limit = "integer", id = "any",
  name = "string", text = "string", path = "string", url = "string", source = "string",
  code = "string", method = "string", pattern = "string", target = "string", format = "string",
  field = "string", direction = "string", list = "table", options = "table", rows = "table",
  keys = "table", channel = "string", stream = "string", status = "integer", message = "string",
}

-- parameters reads "(fn, { retries = 10 }, ...)" of a comment's first line: names, each once.
local function parameters(first, name)
  local inside = first:match("^" .. name:gsub("%p", "%%%0") .. "%s*(%b())")
    or first:match("%s" .. name:gsub("%p", "%%%0") .. "%s*(%b())")
  local list, seen = {}, {}
  if not inside then
    if first:find("^" .. name:gsub("%p", "%%%0") .. "%s*[{\"]") then return { "value" } end
    return list
  end
  inside = inside:sub(2, -2):gsub("%b{}", "options"):gsub("%b()", ""):gsub("[%[%]]", "")
    :gsub('"[^"]*"', "text")
  for word in inside:gmatch "[^,]+" do
    local parameter = word:find("%.%.%.") and "..." or word:match "([%a_][%w_]*)%s*$"
    if parameter == "end" or parameter == "function" then parameter = "fn" end
    if parameter and not seen[parameter] then
      seen[parameter] = true
      list[#list + 1] = parameter
      if parameter == "..." then break end
    end
  end
  return list
end

local function owner_of(name)
  local owner = name:match "^(.*)[.:][%w_]+$"
  return class_of[owner] and owner
end

local function add_function(out, topic)
  local name, owner = topic.name, owner_of(topic.name)
  if not owner then return end
  local short, separator = name:match "([%w_]+)$", name:sub(#owner + 1, #owner + 1)
  for line in topic.text:gmatch "[^\n]+" do out[#out + 1] = "---" .. line:gsub("^  ", "") end
  local list = parameters(topic.text:match "^[^\n]*", name)
  for _, parameter in ipairs(list) do
    local kind = types[parameter] or "any"
    out[#out + 1] = ("---@param %s%s %s"):format(parameter, parameter == "..." and "" or "?", kind)
  end
  out[#out + 1] = "---@return " .. (returns[name] or "any")
  out[#out + 1] = ("function %s%s%s(%s) end\n"):format(
    (class_of[owner]:gsub("%.", "_")), separator, short, table.concat(list, ", "))
end

-- add_rest adds functions that share a comment with others: model.ge is told of with model.gt.
local function add_rest(out, owner, t)
  local text, names = table.concat(out, "\n"), {}
  for name, value in pairs(t) do
    local is_there = text:find("function " .. class_of[owner]:gsub("%.", "_") .. "." .. name .. "(",
      1, true)
    if type(value) == "function" and not is_there then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    for line in (help.find(owner .. "." .. name) or ""):gmatch "[^\n]+" do
      out[#out + 1] = "---" .. line:gsub("^  ", "")
    end
    out[#out + 1] = ("---@return any\nfunction %s.%s(...) end\n"):format(
      (class_of[owner]:gsub("%.", "_")), name)
  end
end

--- annotations.text(): the whole file.
function M.text()
  local out = { "---@meta neap", "-- neap's public names, for editors, of the doc comments.\n" }
  for _, c in ipairs(classes) do
    out[#out + 1] = "---@class " .. c[2]
    if c[1] == "neap" then
      for _, f in ipairs { "json neap.Json", "log neap.Log", "model neap.ModelModule",
        "field neap.FieldModule", "context table", "null userdata" } do
        out[#out + 1] = "---@field " .. f
      end
    elseif c[1] == "redis" or c[1] == "p" or c[1] == "tx" then
      out[#out + 1] = "---@field [string] fun(self, ...): any every Redis command, by name"
    elseif c[1] == "row" then
      out[#out + 1] = "---@field [string] any its fields"
    elseif c[1] == "req" then
      for _, f in ipairs { "method string", "path string", "target string", "params table",
        "query table", "form table", "body string", "json any", "headers table", "cookies table",
        "host string", "remote string", "id string" } do
        out[#out + 1] = "---@field " .. f
      end
    end
    out[#out + 1] = "local " .. c[2]:gsub("%.", "_") .. " = {}\n"
  end
  for _, topic in ipairs(help.all()) do add_function(out, topic) end
  local neap = require "neap"
  add_rest(out, "model", neap.model)
  add_rest(out, "field", neap.field)
  add_rest(out, "http", require "neap.http")
  out[#out + 1] = "return neap\n"
  return table.concat(out, "\n")
end

return M
