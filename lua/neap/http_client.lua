-- http_client: requests to other servers.
--
--   local res = http.fetch("https://example.com/users/7", { timeout = 2 })
--   print(res.status, res.headers["content-type"], res.json.name)
local core = require "neap.core.fetch"
local core_http = require "neap.core.http"
local errors = require "neap.core.error"
local json = require "neap.core.json"
local response = require "neap.http_response"
local task = require "neap.task"
local monotonic = require("neap.core.util").monotonic
local FAIL = require("neap.core.task").FAIL
local M = {}

local DEFAULT_TIMEOUT, DEFAULT_CONNECT_TIMEOUT, DEFAULT_REDIRECTS = 30, 5, 10
local FIRST_DELAY, LONGEST_DELAY, LONGEST_ASKED = 0.05, 2, 60
local TOKEN = "^[%w!#$%%&'*+%-.^_`|~]+$"

-- what an option has to be
local kinds = { method = "string", headers = "table", query = "table", body = "body",
  json = "any", form = "table", timeout = "time", connect_timeout = "seconds",
  redirects = "count", retries = "count", idempotent = "boolean", stream = "boolean",
  max_body = "size", max_head = "size", decode = "boolean", verify = "boolean", ca = "string",
  cert = "string", key = "string", proxy = "string", socket = "string" }

-- RFC 9110 §9.2.2
local idempotent = { GET = true, HEAD = true, PUT = true, DELETE = true, OPTIONS = true,
  TRACE = true }

-- failures after which another attempt may go better, and such answers
local passing = { ["http.connect"] = true, ["http.closed"] = true, ["http.resolve"] = true }
local passing_status = { [502] = true, [503] = true, [504] = true }

-- headers that are not for another server (RFC 9110 §15.4)
local private = { authorization = true, cookie = true, ["proxy-authorization"] = true }

-- check_kind returns what the value is not, or nil.
local function check_kind(kind, v)
  local t = type(v)
  if kind == "any" then return nil end
  if kind == "body" then
    return t ~= "string" and t ~= "function" and "a string, or a function that returns pieces"
  elseif kind == "time" then
    return v ~= false and not (t == "number" and v > 0) and "a number of seconds, or false"
  elseif kind == "seconds" then
    return not (t == "number" and v > 0) and "a number of seconds"
  elseif kind == "count" then
    return not (t == "number" and v >= 0 and v == math.floor(v)) and "a whole number"
  elseif kind == "size" then
    return not (t == "number" and v >= 1 and v < 2 ^ 53) and "a number of bytes"
  end
  if t ~= kind then return "a " .. kind end
  return t == "string" and v:find("[%z\r\n]") and "without line breaks and zeros"
end

local function check_options(options)
  if type(options) ~= "table" then
    error("fetch: a table of options expected, got " .. type(options), 4)
  end
  for name, v in pairs(options) do
    local kind = kinds[name]
    if not kind then error("fetch: unknown option '" .. tostring(name) .. "'", 4) end
    local wrong = check_kind(kind, v)
    if wrong then error(("fetch: %s has to be %s"):format(name, wrong), 4) end
  end
  local bodies = (options.body ~= nil and 1 or 0) + (options.json ~= nil and 1 or 0)
    + (options.form and 1 or 0)
  if bodies > 1 then error("fetch: only one of body, json and form can be sent", 4) end
end

--- http_client.encode_form(fields): application/x-www-form-urlencoded, by name.
function M.encode_form(fields)
  local list = {}
  for k, v in pairs(fields) do
    local values = type(v) == "table" and v or { v }
    for _, one in ipairs(values) do
      list[#list + 1] = core_http.url_encode(tostring(k)) .. "="
        .. core_http.url_encode(tostring(one))
    end
  end
  table.sort(list)
  return table.concat(list, "&")
end

-- requests ------------------------------------------------------------------

-- place_of returns scheme, host and port of a URL, which make its origin, without what is
-- secret in it; nil if it is none.
local function place_of(url)
  local scheme, rest = url:match "^(%a+)://([^/?#]+)"
  if not scheme then return nil end
  scheme = scheme:lower()
  local host = rest:match "([^@]*)$":lower()
  if not host:find ":%d+$" then host = host .. (scheme == "https" and ":443" or ":80") end
  return scheme .. "://" .. host, host
end

local function check_url(url)
  if type(url) ~= "string" then
    error("bad argument #1 to 'fetch' (a URL expected, got " .. type(url) .. ")", 4)
  end
  local fault = core.url_fault(url)
  if fault == "character" then
    error("fetch: the URL has a space, a line break or a control character in it", 4)
  elseif fault then
    error(("fetch: '%s' is no URL of http or https"):format(url:sub(1, 60)), 4)
  end
end

local function add_query(url, query)
  local text = M.encode_form(query)
  if text == "" then return url end
  local before, fragment = url:match "^([^#]*)(.*)$"
  return before .. (before:find("?", 1, true) and "&" or "?") .. text .. fragment
end

local framing = { ["content-length"] = true, ["transfer-encoding"] = true, connection = true }

-- check_field refuses what could end a field, or the head, in somebody's eyes.
local function check_field(name, value)
  if type(name) ~= "string" or not name:find(TOKEN) then
    error(("fetch: the header '%s' is no token"):format(tostring(name):sub(1, 60)), 5)
  end
  if type(value) ~= "string" and type(value) ~= "number" then
    error(("fetch: the header %s is a %s, not a string"):format(name, type(value)), 5)
  end
  if tostring(value):find "[%z\1-\8\10-\31\127]" then
    error(("fetch: the header %s has a line break or a control character in it"):format(name), 5)
  end
  if framing[name:lower()] then
    error(("fetch: the header %s is the client's own"):format(name), 5)
  end
end

local function add_field(fields, name, value)
  check_field(name, value)
  fields[#fields + 1] = name .. ": " .. value .. "\r\n"
end

-- make_fields returns the lines of a request's fields, nil for none.
local function make_fields(request)
  local fields, has_type = {}, false
  for name, value in pairs(request.headers or {}) do
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      add_field(fields, name, one)
    end
    has_type = has_type or tostring(name):lower() == "content-type"
  end
  if request.content_type and not has_type then
    add_field(fields, "Content-Type", request.content_type)
  end
  return fields[1] and table.concat(fields) or nil
end

-- body_of returns the body that the options ask for, and its type.
local function body_of(options)
  if options.json ~= nil then return json.encode(options.json), "application/json" end
  if options.form then return M.encode_form(options.form), "application/x-www-form-urlencoded" end
  return options.body, nil
end

-- make_request returns what is to be sent.
local function make_request(url, options)
  local body, content_type = body_of(options)
  local method = options.method or (body ~= nil and "POST" or "GET")
  if not idempotent[method] and not method:find(TOKEN) then
    error(("fetch: the method '%s' is no token"):format(method:sub(1, 60)), 4)
  end
  if method == "HEAD" and body ~= nil then error("fetch: a HEAD has no body", 4) end
  if method == "CONNECT" then error("fetch: CONNECT is the proxy option's", 4) end
  local request = { url = options.query and add_query(url, options.query) or url,
    headers = options.headers, body = body, content_type = content_type, method = method,
    fields = nil }
  if options.headers or content_type then request.fields = make_fields(request) end
  return request
end

-- make_settings returns what few requests need, nil for none.
local function make_settings(options, is_upload)
  local o = options
  if not (is_upload or o.max_body or o.max_head or o.decode == false or o.verify == false
    or o.ca or o.cert or o.proxy or o.socket) then
    return nil
  end
  return { max_body = o.max_body, max_head = o.max_head, encoded = o.decode == false,
    unverified = o.verify == false, ca = o.ca, cert = o.cert, key = o.key, proxy = o.proxy,
    socket = o.socket, upload = is_upload, timed = is_upload and not o.stream }
end

-- one exchange --------------------------------------------------------------

-- explain adds to an error where and when it happened.
local function explain(e, request, began)
  if not errors.is_error(e) or not e.code:find "^http%." or e.host then return e end
  local origin, host = place_of(request.url)
  e.host, e.method, e.seconds = host, request.method, monotonic() - began
  e.message = ("%s %s: %s (%s, after %.3f s)"):format(request.method, origin or "?", e.message,
    e.phase or "start", e.seconds)
  return e
end

-- upload sends the pieces that the body returns, until the response is there.
local function upload(exchange, body)
  local is_wanted = true
  while is_wanted do
    local bytes = body()
    if bytes ~= nil and type(bytes) ~= "string" then
      error("fetch: the body's function returned a " .. type(bytes) .. ", not a string", 0)
    end
    if bytes ~= "" then
      local e
      is_wanted, e = core.send(exchange, bytes)
      if is_wanted == FAIL then error(e, 0) end
    end
    if not bytes then return end
  end
end

local function open_stream(request, options, left)
  local is_upload = type(request.body) == "function"
  local exchange = core.open(request.url, request.method, request.fields,
    not is_upload and request.body or nil, left or 0,
    options.connect_timeout or DEFAULT_CONNECT_TIMEOUT, make_settings(options, is_upload))
  local began = monotonic()
  local ok, status, head = pcall(function()
    if is_upload then upload(exchange, request.body) end
    local status, head = core.head(exchange)
    if status == FAIL then error(head, 0) end
    return status, head
  end)
  if not ok then
    core.close(exchange)
    error(status, 0)
  end
  return response.stream(status, head, exchange, function(e) return explain(e, request, began) end)
end

-- read_all makes a streamed response a whole one.
local function read_all(res, max)
  local list, size = {}, 0
  for bytes in res:chunks() do
    list[#list + 1], size = bytes, size + #bytes
    if size > max then
      res:close()
      error(errors.new { code = "http.too_large", phase = "receive",
        message = ("the body is larger than %d bytes"):format(max) }, 0)
    end
  end
  return response.new(res.status, res.head, table.concat(list))
end

local function exchange_once(request, options, left)
  if options.stream then return open_stream(request, options, left) end
  if type(request.body) == "function" then
    return read_all(open_stream(request, options, left), options.max_body or 64 * 2 ^ 20)
  end
  local status, head, body = core.fetch(request.url, request.method, request.fields, request.body,
    left or 0, options.connect_timeout or DEFAULT_CONNECT_TIMEOUT, make_settings(options))
  if status == FAIL then error(head, 0) end
  return response.new(status, head, body)
end

-- again and elsewhere -------------------------------------------------------

local function fail(code, phase, fmt, ...)
  error(errors.new { code = code, phase = phase, message = fmt:format(...) }, 0)
end

-- remaining returns the seconds that are left, nil where there is no limit.
local function remaining(deadline)
  if not deadline then return nil end
  local left = deadline - monotonic()
  if left <= 0 then fail("http.timeout", "wait", "the response took too long") end
  return left
end

-- delay_of returns how long to wait before the next attempt, as the server asks if it does;
-- nil if that is too long.
local function delay_of(res, attempt)
  local asked = res and tonumber(res.headers["retry-after"])
  if asked and asked >= 0 then return asked <= LONGEST_ASKED and asked or nil end
  local delay = math.min(FIRST_DELAY * 2 ^ (attempt - 1), LONGEST_DELAY)
  return delay * (0.5 + math.random() / 2)
end

-- attempt is exchange_once as often as that may help.
local function attempt(request, options, deadline)
  local tries = options.retries or 0
  for i = 1, tries do
    local ok, res = pcall(exchange_once, request, options, remaining(deadline))
    if not ok and not (errors.is_error(res) and passing[res.code]) then error(res, 0) end
    if ok and not passing_status[res.status] then return res end
    local delay = delay_of(ok and res, i)
    -- there is no time for another, or it is asked to come back some other day
    if not delay or deadline and delay > deadline - monotonic() then
      if ok then return res end
      error(res, 0)
    end
    if ok and options.stream then res:close() end
    task.sleep(delay)
  end
  return exchange_once(request, options, remaining(deadline))
end

-- redirected returns the request that a response asks for instead, nil if none.
local function redirected(request, res)
  local status = res.status
  if status < 301 or status > 308 or status == 304 or status == 305 or status == 306 then
    return nil
  end
  local location = res.headers.location
  if not location then return nil end
  local url, why = core.resolve(request.url, location)
  local fault = not url and "scheme" or core.url_fault(url)
  if fault == "scheme" then
    fail("http.redirect", "receive", "the redirect leads nowhere: %s", why or "not to http")
  elseif fault then
    fail("http.redirect", "receive", "the redirect has a control character in it")
  end
  local following = { url = url, method = request.method, headers = request.headers,
    body = request.body, content_type = request.content_type }
  -- RFC 9110 §15.4: as all do, a POST goes on as a GET
  if status == 303 and request.method ~= "HEAD"
    or (status == 301 or status == 302) and request.method == "POST" then
    following.method, following.body, following.content_type = "GET", nil, nil
  end
  if type(following.body) == "function" then
    fail("http.redirect", "receive", "a body that is streamed cannot be sent again to %s",
      (place_of(url)))
  end
  return following
end

-- strip takes out of a redirected request what is for the first server alone.
local function strip(request, is_elsewhere)
  local headers = {}
  for name, value in pairs(request.headers or {}) do
    local lower = name:lower()
    local is_dropped = is_elsewhere and (private[lower] or lower == "host")
      or request.body == nil and lower:find "^content%-"
    if not is_dropped then headers[name] = value end
  end
  request.headers = headers
  request.fields = make_fields(request)
end

-- ask is attempt without what most requests do not need: it returns nil and the error.
local function ask(request, options, deadline)
  if options.retries or options.stream or type(request.body) == "function" then
    local ok, res = pcall(attempt, request, options, deadline)
    if not ok then return nil, res end
    return res
  end
  local left = deadline and math.max(deadline - monotonic(), 0.001) or 0
  local status, head, body = core.fetch(request.url, request.method, request.fields, request.body,
    left, options.connect_timeout or DEFAULT_CONNECT_TIMEOUT, make_settings(options))
  if status == FAIL then return nil, head end
  return response.new(status, head, body)
end

local function follow(request, options, deadline, began)
  local most = options.redirects or DEFAULT_REDIRECTS
  local hops = 0
  while true do
    local res, err = ask(request, options, deadline)
    if not res then error(explain(err, request, began), 0) end
    local found, following = true, nil
    if res.status > 300 and res.status < 309 then
      found, following = pcall(redirected, request, res)
    end
    if most == 0 or found and not following then
      res.url = request.url
      return res
    end
    if options.stream then res:close() end
    hops = hops + 1
    if found and hops > most then
      found, following = pcall(fail, "http.redirects", "receive", "more than %d redirects", most)
    end
    if not found then error(explain(following, request, began), 0) end
    local is_elsewhere = place_of(following.url) ~= place_of(request.url)
    if is_elsewhere and (options.socket or options.cert) then
      local here = {} -- a socket or a certificate is for one server
      for k, v in pairs(options) do here[k] = v end
      here.socket, here.cert, here.key = nil, nil, nil
      options = here
    end
    strip(following, is_elsewhere)
    request = following
  end
end

local no_options = {}

--- http.fetch(url, options): { status, headers, body, json, url, head }; headers by lower-case
-- name, json is decoded when it is first read, url is the one that answered. Any status is an
-- answer; what prevents one raises: err.code "http.resolve", "http.connect", "http.tls",
-- "http.timeout", "http.closed", "http.protocol", "http.too_large", "http.redirects",
-- "http.redirect"; with err.host, err.phase ("resolve", "connect", "tls", "wait", "receive")
-- and err.seconds. Options: method (GET, or POST with a body), headers, query (a table), body
-- (a string, or a function that returns pieces and nil at the end), json or form (a value);
-- timeout (s, 30; false: none), connect_timeout (5), redirects (10; 0: they are answers),
-- retries (0; of what failed on the way, and of 502, 503, 504) for methods that are idempotent,
-- or with idempotent = true; stream (true: the head is returned, res:read(), res:chunks()
-- and res:close() deal with the body; timeout ends with the head), max_body (bytes, 64 MiB;
-- none when streamed), max_head (64 KiB), decode (false: a compressed body stays so); verify
-- (false: whoever answers is trusted), ca, cert, key (PEM files); proxy (a URL), socket (the
-- path of a unix socket).
function M.fetch(url, options)
  check_url(url)
  if options == nil then
    options = no_options
  else
    check_options(options)
  end
  local request = make_request(url, options)
  if (options.retries or 0) > 0 then
    if not (idempotent[request.method] or options.idempotent) then
      error(("fetch: a %s may do its work twice: retries want idempotent = true"):format(
        request.method), 2)
    end
    if type(request.body) == "function" then
      error("fetch: a body that is streamed cannot be sent again", 2)
    end
  end
  local began = monotonic()
  local timeout = options.timeout
  if timeout == nil then timeout = DEFAULT_TIMEOUT end
  return follow(request, options, timeout and began + timeout or nil, began)
end

return M
