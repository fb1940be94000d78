-- repeats: finds queries that a task makes again and again from one line (N+1): where a loop over
-- rows loads what belongs to each, one at a time. Internal; neap.debug { repeats = true }.
local core = require "neap.core.monitor"
local log = require "neap.log"
local M = {}

local limit = 20 -- calls from one line in one task
local originals -- what was wrapped: {class, name, function}
local counts = setmetatable({}, { __mode = "k" }) -- by coroutine: calls by line
local told = {}

-- caller returns the line of user code that called: the first frame that is not the host's.
local function caller()
  for level = 4, 20 do
    local info = debug.getinfo(level, "Sl")
    if not info then return nil end
    if info.currentline > 0 and not info.source:find "^=neap" then
      return info.short_src .. ":" .. info.currentline
    end
  end
end

local function note(model, method)
  local line = caller()
  if not line then return end
  local thread = coroutine.running()
  local lines = counts[thread]
  if not lines or lines.task ~= core.current_id() then -- coroutines are used again
    lines = { task = core.current_id() }
    counts[thread] = lines
  end
  lines[line] = (lines[line] or 0) + 1
  if lines[line] >= limit and not told[line] then
    told[line] = true
    log.warn("%s: a task has called %s of model %s %d times from this line, a round trip each; "
      .. "load_many, with(), or a condition with a list takes one", line, method, model.name, limit)
  end
end

local function wrap(class, name, model_of)
  local original = class[name]
  originals[#originals + 1] = { class, name, original }
  class[name] = function(self, ...)
    if type(self) == "table" then
      local model = model_of(self)
      if type(model) == "table" then note(model, name) end
    end
    return original(self, ...)
  end
end

--- repeats.watch(on): begins or ends to count.
function M.watch(on)
  if on and not originals then
    originals = {}
    local model, query = require "neap.model", require "neap.query"
    wrap(model.methods, "load", function(self) return self end) -- related() calls it
    for _, name in ipairs { "all", "count", "exists", "ids", "pluck", "page" } do
      wrap(query.methods, name, function(self) return rawget(self, "model") end)
    end
  elseif not on and originals then
    for _, o in ipairs(originals) do o[1][o[2]] = o[3] end
    originals = nil
  end
end

return M
