-- http: applications that answer HTTP requests.
--
--   local http = require "neap.http"
--   local app = http.app()
--   app:get("/hello/:name", function(req)
--     return { json = { hello = req.params.name } }
--   end)
--   app:listen(8080)
--
-- A handler runs as a task and may wait. It returns
--   a string   the HTML of a 200
--   a number   that status, its reason as text
--   a table    { status, headers, and one of json, html, text, body, redirect }
local core = require "neap.core.http"
local errors = require "neap.core.error"
local json = require "neap.core.json"
local log = require "neap.log"
local router = require "neap.router"
local task = require "neap.task"
local core_task = require "neap.core.task"
local request_id = core_task.request_id
local Request = require "neap.http_request"
local http_client = require "neap.http_client"
local response = require "neap.http_response"
local respond, respond_json = core.respond, core.respond_json
local M = {}

local html_type = "text/html; charset=utf-8"
local text_type = "text/plain; charset=utf-8"
local kinds = { "json", "html", "text", "body", "redirect" }
local known = { status = true, headers = true, json = true, html = true, text = true,
  body = true, redirect = true }

--- http.escape(text): fit to stand in HTML, between quotes too.
M.escape = core.escape
--- http.url_encode(text): fit for a path segment or a query value.
M.url_encode = core.url_encode
--- http.url_decode(text, plus_is_space): nil for a bad escape.
M.url_decode = core.url_decode

--- http.fetch(url, options): asks another server: see http_client.fetch.
M.fetch = http_client.fetch

--- http.fail(status, message): raises what is answered with that status and
-- message, as text; 400 to 599.
function M.fail(status, message)
  if type(status) ~= "number" or status < 400 or status > 599 then
    error("bad argument #1 to 'fail' (a status from 400 to 599 expected)", 2)
  end
  error(errors.new { code = "http.fail", status = status,
    message = message or core.reason(status) }, 0)
end

-- answers -------------------------------------------------------------------

local function redirect(req, res)
  local status = res.status
  if not status then -- RFC 9110 §15.4.4: see the result with a GET
    status = (req.method == "GET" or req.method == "HEAD") and 302 or 303
  end
  if type(res.redirect) ~= "string" then return nil, "redirect is not a string" end
  local headers = {}
  for k, v in pairs(res.headers or {}) do headers[k] = v end
  headers.Location = res.redirect
  return respond(req[1], status, nil, nil, headers)
end

-- other_table answers with a table that has no json.
local function other_table(req, res)
  local count = 0
  for _, kind in ipairs(kinds) do
    if res[kind] ~= nil then count = count + 1 end
  end
  for key in pairs(res) do
    if not known[key] then
      return nil, "the table returned has an unknown field '" .. tostring(key) .. "'"
    end
  end
  if count > 1 then
    return nil, "the table returned has several of " .. table.concat(kinds, ", ")
  end
  if res.redirect ~= nil then return redirect(req, res) end
  local content, content_type = res.html, html_type
  if content == nil then content, content_type = res.text, text_type end
  if content == nil then content, content_type = res.body, "application/octet-stream" end
  if content ~= nil and type(content) ~= "string" and type(content) ~= "number" then
    return nil, "html, text or body is a " .. type(content) .. ", not a string"
  end
  if content == nil then content_type = nil end
  return respond(req[1], res.status or 200, content_type, content, res.headers)
end

-- answer sends what a handler returned; nil and why if it is not fit.
local function answer(req, result)
  local kind = type(result)
  if kind == "table" then
    local value = result.json
    if value ~= nil and result.html == nil and result.text == nil and result.body == nil
      and result.redirect == nil then
      return respond_json(req[1], result.status or 200, value, result.headers)
    end
    return other_table(req, result)
  elseif kind == "string" then
    return respond(req[1], 200, html_type, result)
  elseif kind == "number" then
    local reason = result >= 200 and result <= 599 and core.reason(result) or ""
    return respond(req[1], result, text_type, reason .. "\n")
  elseif kind == "nil" then
    return nil, "the handler returned nothing"
  end
  return nil, "the handler returned a " .. kind
end

local Crash = {} -- the metatable of an error that was not meant for the client

local function is_public(e)
  local status = type(e) == "table" and e.status
  return type(status) == "number" and status == math.floor(status)
    and (status >= 400 and status <= 499
      or status >= 500 and status <= 599 and errors.is_error(e, "http.fail"))
end

-- on_error is called where the error was raised, for the traceback's sake.
local function on_error(e)
  if getmetatable(e) == Crash or is_public(e) or errors.is_error(e, "cancelled") then return e end
  return setmetatable({ trace = tostring(e) .. "\n" .. core_task.trace(e, 2) }, Crash)
end

local function answer_crash(req, text)
  log.error("%s %s: %s", req.method, req.path, text)
  respond(req[1], 500, text_type,
    "internal error (request id " .. (request_id() or "none") .. ")\n")
end

local function answer_error(req, e)
  if is_public(e) then
    local ok, why = respond(req[1], e.status, text_type,
      tostring(e.message or core.reason(e.status)) .. "\n", e.headers)
    if not ok then answer_crash(req, why) end
  elseif errors.is_error(e, "cancelled") then
    -- the client has left, or the process ends
    respond(req[1], 503, text_type, core.reason(503) .. "\n", { Connection = "close" })
  else
    answer_crash(req, getmetatable(e) == Crash and e.trace or tostring(e))
  end
end

-- routing -------------------------------------------------------------------

local function not_found()
  return 404
end

local function bad_path()
  return 400
end

local function not_allowed(methods, method)
  local headers = { Allow = table.concat(methods, ", ") }
  local res = { status = 405, text = core.reason(405) .. "\n", headers = headers }
  if method == "OPTIONS" then res = { status = 204, headers = headers } end
  return function() return res end
end

-- resolve returns the handler of a request, or one that says why there is none.
local function resolve(app, req)
  if req.path == "*" then -- OPTIONS * asks about the server, RFC 9110 §9.3.7
    local methods = { OPTIONS = true }
    for method in pairs(app.methods) do methods[method] = true end
    local list = {}
    for method in pairs(methods) do list[#list + 1] = method end
    table.sort(list)
    return not_allowed(list, "OPTIONS")
  end
  local handler, params = app.router:find(req.method, req.path)
  if handler then
    req.params = params
    return handler
  end
  if params == "bad" then return bad_path end
  if params == "none" then return not_found end
  return not_allowed(params, req.method)
end

-- whole makes of a handler's result the table that describes it: a copy.
local function whole(result)
  local kind = type(result)
  local res = { headers = {} }
  if kind == "string" then
    res.html = result
  elseif kind == "number" then
    res.status, res.text = result, core.reason(result) .. "\n"
  elseif kind == "table" then
    for k, v in pairs(result) do res[k] = v end
    res.headers = {}
    for k, v in pairs(result.headers or {}) do res.headers[k] = v end
  else
    error("the handler returned " .. (kind == "nil" and "nothing" or "a " .. kind), 0)
  end
  if not res.redirect then res.status = res.status or 200 end
  return res
end

-- through calls the middleware from number i on, then the handler.
local function through(list, i, req, handler)
  local fn = list[i]
  if not fn then return handler(req) end
  return fn(req, function()
    return whole(through(list, i + 1, req, handler))
  end)
end

-- new_serve returns what each request's task calls.
local function new_serve(app)
  local exact, list = app.router.exact, app.middleware
  return function(handle, method, path)
    local req = setmetatable({ handle, method = method, path = path }, Request)
    local paths = exact[method]
    local handler = paths and paths[path] or resolve(app, req)
    local ok, result, why
    if list[1] then
      ok, result = xpcall(through, on_error, list, 1, req, handler)
    else
      ok, result = xpcall(handler, on_error, req)
    end
    if not ok then return answer_error(req, result) end
    ok, why = answer(req, result)
    if not ok then answer_crash(req, why) end
  end
end

-- applications --------------------------------------------------------------

local App = {}
App.__index = App

--- http.app(options): an application without routes. The options are
-- defaults for app:listen.
function M.app(options)
  local app = setmetatable({ router = router.new(), middleware = {}, methods = {},
    options = options or {} }, App)
  app.serve = new_serve(app)
  return app
end

local function add(app, method, pattern, handler)
  if getmetatable(app) ~= App then
    error("an app expected: a route is added with a colon, app:get(pattern, handler)", 3)
  end
  if type(handler) ~= "function" then
    error(("route %s %s: a function expected, got %s"):format(method, tostring(pattern),
      type(handler)), 3)
  end
  app.router:add(method, pattern, handler, 3)
  if method ~= "*" then app.methods[method] = true end
  return app
end

--- app:route(method, pattern, handler): for methods without one of their own.
function App:route(method, pattern, handler)
  if type(method) ~= "string" or not method:match("^[%w!#$%%&'*+.^_`|~-]+$") then
    error("bad argument #1 to 'route' (a method's name expected)", 2)
  end
  return add(self, method, pattern, handler)
end

--- app:get(pattern, handler): answers GET, and HEAD if nothing else does.
-- "/users/:id" gives req.params.id; "/files/*" gives what is left of the path
-- as req.params["*"], "/files/*path" as req.params.path.
function App:get(pattern, handler) return add(self, "GET", pattern, handler) end

--- app:post(pattern, handler)
function App:post(pattern, handler) return add(self, "POST", pattern, handler) end

--- app:put(pattern, handler)
function App:put(pattern, handler) return add(self, "PUT", pattern, handler) end

--- app:patch(pattern, handler)
function App:patch(pattern, handler) return add(self, "PATCH", pattern, handler) end

--- app:delete(pattern, handler)
function App:delete(pattern, handler) return add(self, "DELETE", pattern, handler) end

--- app:head(pattern, handler): instead of what GET would do.
function App:head(pattern, handler) return add(self, "HEAD", pattern, handler) end

--- app:options(pattern, handler): instead of the list of allowed methods.
function App:options(pattern, handler) return add(self, "OPTIONS", pattern, handler) end

--- app:any(pattern, handler): methods that have no handler of their own.
function App:any(pattern, handler) return add(self, "*", pattern, handler) end

--- app:use(fn): fn(req, next) runs around every handler, the first added
-- outermost. next() returns a table { status, headers, ... } to be returned,
-- changed or not.
function App:use(fn)
  if type(fn) ~= "function" then
    error("bad argument #1 to 'use' (function expected, got " .. type(fn) .. ")", 2)
  end
  self.middleware[#self.middleware + 1] = fn
  return self
end

-- servers -------------------------------------------------------------------

local open_servers = {}

local Server = {}
Server.__index = Server

--- server:stop(): no new connections; idle ones are closed, requests that
-- run are answered.
function Server:stop()
  open_servers[self] = nil
  self.core:stop()
end

--- server:close(): cuts everything off.
function Server:close()
  open_servers[self] = nil
  self.core:close()
end

--- server:connections(): how many are open.
function Server:connections() return self.core:connections() end

--- server:requests(): how many have come so far.
function Server:requests() return self.core:requests() end

--- http.open_servers: the servers that listen, as keys.
M.open_servers = open_servers

local listen_options = { host = true, port = true, path = true, backlog = true,
  max_connections = true, max_head = true, max_headers = true, max_body = true,
  header_timeout = true, body_timeout = true, idle_timeout = true, write_timeout = true,
  half_close = true }

--- app:listen(port) or app:listen { host, port, path, ... }: a server; it
-- listens when this returns, else "http.listen" is raised. host is 127.0.0.1
-- by default, port 0 is any free one, path is a unix socket's. Further options:
-- max_body (bytes, 1 MiB), max_head (16 KiB), max_headers (100), max_connections,
-- backlog, header_timeout (s, 10), body_timeout (30, for each 64 KiB),
-- idle_timeout (60), write_timeout (30), half_close: whether a client
-- that only ended its own side is still answered, before its handler is cancelled (for 1 s;
-- true: as long as it may be there; false: not at all).
function App:listen(options)
  if type(options) ~= "table" then options = { port = options } end
  local all = {}
  for k, v in pairs(self.options) do all[k] = v end
  for k, v in pairs(options) do all[k] = v end
  for k in pairs(all) do
    if not listen_options[k] then error("listen: unknown option '" .. tostring(k) .. "'", 2) end
  end
  local ok, server = pcall(core.listen, self.serve, all)
  if not ok then error(server, type(server) == "string" and 2 or 0) end
  local s = setmetatable({ core = server, port = server:port(), path = all.path,
    host = not all.path and (all.host or "127.0.0.1") or nil }, Server)
  if all.path then
    s.url = "unix:" .. all.path
  else
    s.url = ("http://%s:%d"):format(s.host:find(":", 1, true) and "[" .. s.host .. "]" or s.host,
      s.port)
  end
  open_servers[s] = true
  return s
end

-- in process ----------------------------------------------------------------

-- read_response makes a response of its bytes.
local function read_response(bytes)
  local stop = bytes:find("\r\n\r\n", 1, true)
  local head = bytes:sub(1, stop + 1)
  return response.new(tonumber(head:match("^HTTP/1%.1 (%d+)")), head, bytes:sub(stop + 4))
end

local function write_request(method, target, options)
  local body, content_type = options.body, nil
  if options.json ~= nil then
    body, content_type = json.encode(options.json), "application/json"
  elseif options.form then
    body, content_type = http_client.encode_form(options.form), "application/x-www-form-urlencoded"
  end
  local lines = { method .. " " .. target .. " HTTP/1.1" }
  local has_host = false
  for k, v in pairs(options.headers or {}) do
    if (k .. v):find("[\r\n]") then error("request: a header has a line break in it", 3) end
    lines[#lines + 1] = k .. ": " .. v
    has_host = has_host or k:lower() == "host"
    if k:lower() == "content-type" then content_type = nil end
  end
  if not has_host then lines[#lines + 1] = "Host: localhost" end
  if content_type then lines[#lines + 1] = "Content-Type: " .. content_type end
  if body then lines[#lines + 1] = "Content-Length: " .. #body end
  return table.concat(lines, "\r\n") .. "\r\n\r\n", body or ""
end

--- app:request(method, target, { headers, body, json, form }): the answer to
-- a request in this process, without a socket: { status, headers, body, json }.
-- Names of headers are in lower case.
function App:request(method, target, options)
  local head, body = write_request(method, target, options or {})
  local handle, m, path = core.open(head, body)
  if not handle then
    return response.new(m, "", core.reason(m) .. "\n")
  end
  -- a task of its own, as over a socket; cancelled with the caller
  local ok, err = pcall(task.all, { function()
    local id = core.header(handle, "x-request-id")
    if id then task.context.request_id = id end
    self.serve(handle, m, path)
  end })
  local bytes = core.close(handle)
  if not ok then error(err, 0) end
  return read_response(bytes)
end

return M
