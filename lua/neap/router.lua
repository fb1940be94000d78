-- router: from method and path to a handler. Pure: it knows no server.
--
--   local r = router.new()
--   r:add("GET", "/users/:id", show)
--   local handler, params = r:find("GET", "/users/7")   -- show, { id = "7" }
--
-- Segments are compared after their %-escapes are resolved. A static segment
-- wins over a parameter, a parameter over the rest; where the winner leads
-- nowhere for the method, the others are tried.
local core = require "neap.core.http"
local M = {}
local Router = {}
Router.__index = Router

local function new_node()
  return { static = {}, param = nil, rest = nil, routes = nil }
end

--- router.new(): an empty router.
function M.new()
  return setmetatable({ root = new_node(), exact = {} }, Router)
end

local function check_name(name, pattern, names, level)
  if not name:match("^[%a_][%w_]*$") then
    error(("bad pattern '%s': '%s' is not a parameter's name"):format(pattern, name), level)
  end
  if names[name] then
    error(("bad pattern '%s': the parameter '%s' is there twice"):format(pattern, name), level)
  end
  names[name] = true
  names[#names + 1] = name
end

-- step returns the node that a segment of a pattern leads to.
local function step(node, segment, is_last, pattern, names, level)
  local kind, name = segment:match("^([:*])(.*)$")
  if kind == ":" then
    check_name(name, pattern, names, level)
    node.param = node.param or new_node()
    return node.param
  end
  if kind == "*" then
    if not is_last then
      error(("bad pattern '%s': nothing can follow '*'"):format(pattern), level)
    end
    if name == "" then names[#names + 1] = "*" else check_name(name, pattern, names, level) end
    node.rest = node.rest or new_node()
    return node.rest
  end
  if segment:find("[*%%?#%c ]") then
    error(("bad pattern '%s': '%s' cannot be in a path's segment"):format(pattern, segment), level)
  end
  node.static[segment] = node.static[segment] or new_node()
  return node.static[segment]
end

--- router:add(method, pattern, handler, level): "/a/:name/*rest". The method
-- "*" is any that has no handler of its own. Errors are raised at the level.
function Router:add(method, pattern, handler, level)
  level = (level or 1) + 1
  if type(pattern) ~= "string" or pattern:sub(1, 1) ~= "/" then
    error(("bad pattern '%s': it has to begin with '/'"):format(tostring(pattern)), level)
  end
  local node, names = self.root, {}
  for segment, stop in pattern:gmatch("/([^/]*)()") do
    node = step(node, segment, stop > #pattern, pattern, names, level + 1)
  end
  node.routes = node.routes or {}
  local other = node.routes[method]
  if other then
    error(("the route %s %s is there already, as %s"):format(method, pattern, other.pattern), level)
  end
  node.routes[method] = { handler = handler, names = names, pattern = pattern }
  if #names == 0 and method ~= "*" then
    self.exact[method] = self.exact[method] or {}
    self.exact[method][pattern] = handler
  end
end

local function pick(node, method)
  local routes = node.routes
  if not routes then return nil end
  return routes[method] or method == "HEAD" and routes.GET or routes["*"]
end

-- walk finds the route for the segments from i on; values collects what the
-- parameters stand for.
local function walk(node, segments, i, values, n, method)
  local segment = segments[i]
  if not segment then return pick(node, method) end
  local next_node = node.static[segment]
  if next_node then
    local route = walk(next_node, segments, i + 1, values, n, method)
    if route then return route end
  end
  if node.param and segment ~= "" then
    values[n] = segment
    local route = walk(node.param, segments, i + 1, values, n + 1, method)
    if route then return route end
  end
  if node.rest then
    values[n] = table.concat(segments, "/", i)
    return pick(node.rest, method)
  end
end

-- allow collects the methods of every route that the path leads to.
local function allow(node, segments, i, methods)
  local segment = segments[i]
  local function add(routes)
    for method in pairs(routes or {}) do methods[method] = true end
  end
  if not segment then return add(node.routes) end
  if node.static[segment] then allow(node.static[segment], segments, i + 1, methods) end
  if node.param and segment ~= "" then allow(node.param, segments, i + 1, methods) end
  if node.rest then add(node.rest.routes) end
end

-- split returns a path's segments decoded, or nil for one that is malformed
-- or would mean another path: "..", or a slash or NUL that was escaped.
local function split(path)
  local segments, n = {}, 0
  for segment in path:gmatch("/([^/]*)") do
    if segment:find("%", 1, true) then
      segment = core.url_decode(segment)
      if not segment or segment:find("[/%z]") then return nil end
    end
    if segment == "." or segment == ".." then return nil end
    n = n + 1
    segments[n] = segment
  end
  return segments
end

--- router:find(method, path): the handler and its params; or nil and "bad"
-- (the path is malformed), "none", or the sorted list of allowed methods.
function Router:find(method, path)
  local segments = split(path)
  if not segments then return nil, "bad" end
  local values = {}
  local route = walk(self.root, segments, 1, values, 1, method)
  if route then
    local params = {}
    for i, name in ipairs(route.names) do params[name] = values[i] end
    return route.handler, params
  end
  local methods, list = {}, {}
  allow(self.root, segments, 1, methods)
  if not next(methods) then return nil, "none" end
  if methods.GET then methods.HEAD = true end
  methods.OPTIONS = true
  for name in pairs(methods) do list[#list + 1] = name end
  table.sort(list)
  return nil, list
end

return M
