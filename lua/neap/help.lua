-- help: the doc comments of the public functions, read from the modules in the binary.
local util = require "neap.core.util"
local M = {}

local topics -- by name in lower case: { name, text, module }
local order

-- key_of finds the name that a comment speaks of: of "for x in redis:scan {...} do" redis:scan.
local function key_of(first)
  return first:match("^for .- in ([%a_][%w_.:]*)") or first:match("^([%a_][%w_.:]*[%w_])")
end

-- is_internal: what a module offers to other modules of the host, under its own name.
local function is_internal(key, module)
  local name = module:match "^neap%.(.*)"
  return name and key:sub(1, #name + 1) == name .. "." and name ~= "http" and name ~= "model"
    or key:find "^router[.:]" or key:find "^connection:" or key:find "^session:"
end

local function add(module, lines)
  local first = lines[1]
  for name in first:gmatch(first:find "^for " and ".+" or "[^,]+") do
    local key = key_of(name:match("^%s*(.*)"))
    if key and key:find("[.:]") and not topics[key:lower()] and not is_internal(key, module) then
      local topic = { name = key, text = table.concat(lines, "\n"), module = module }
      topics[key:lower()] = topic
      order[#order + 1] = topic
    end
    if first:find("[({:]") then break end -- a list of names has no arguments
  end
end

local function read_module(name, source)
  if (source:match("^[^\n]*\n[^\n]*") or ""):lower():find("internal") then return end
  local lines
  for line in source:gmatch("([^\n]*)\n") do
    local first = line:match("^%-%-%- (.*)")
    if first then
      if lines then add(name, lines) end
      lines = { first }
    elseif lines and line:find("^%-%-") then
      lines[#lines + 1] = (line:gsub("^%-%- ?", "  "))
    elseif lines then
      add(name, lines)
      lines = nil
    end
  end
end

local function load_topics()
  topics, order = {}, {}
  for _, name in ipairs(util.modules()) do read_module(name, util.source(name)) end
  table.sort(order, function(a, b) return a.name < b.name end)
end

--- help.topics(): the names that there is help for, in order.
function M.topics()
  if not topics then load_topics() end
  local names = {}
  for i, topic in ipairs(order) do names[i] = topic.name end
  return names
end

--- help.all(): all topics, in order: { name, text }.
function M.all()
  if not topics then load_topics() end
  return order
end

--- help.list(owner): a line for each function of "neap", "redis", "query"...; nil if there are
-- none.
function M.list(owner)
  if not topics then load_topics() end
  local lines, key = {}, owner:lower():gsub("[.:]$", "")
  for _, topic in ipairs(order) do
    if topic.name:lower():match "^(.-)[.:]" == key then
      lines[#lines + 1] = topic.text:match "^[^\n]*"
    end
  end
  return #lines > 0 and table.concat(lines, "\n") or nil
end

--- help.find(name): the comments of the function of that name; the one that speaks of it; else
-- those of all that end in it. nil if there are none.
function M.find(name)
  if not topics then load_topics() end
  local key = name:lower()
  if topics[key] then return topics[key].text end
  for _, topic in ipairs(order) do -- a comment may speak of several: field.string, field.text...
    if name:find "[.:]" and topic.text:find(name, 1, true) then return topic.text end
  end
  local found = {}
  local short = key:match("([%w_]+)$")
  for _, topic in ipairs(order) do
    local last = topic.name:lower():match("([%w_]+)$")
    if last == short then found[#found + 1] = topic.text end
  end
  return #found > 0 and table.concat(found, "\n\n") or nil
end

return M
