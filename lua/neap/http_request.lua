-- http_request: what a handler is given. The method and the path are there;
-- all else is made when it is first read, while the request is not answered.
local core = require "neap.core.http"
local errors = require "neap.core.error"
local json = require "neap.core.json"
local request_id = require("neap.core.task").request_id
local fields, methods = {}, {}

local function refuse(code, status, message)
  error(errors.new { code = code, status = status, message = message }, 0)
end

-- req.headers: by name in any case; several of one name are joined.
local Headers = {
  __index = function(headers, name) return core.header(headers[1], name) end,
}

--- req.headers["Content-Type"]: a header, or nil.
function fields.headers(req)
  return setmetatable({ req[1] }, Headers)
end

--- req:header_table(): all headers, by lower-case name.
function methods.header_table(req)
  return core.headers(req[1])
end

--- req.params: what the pattern's parameters stand for.
function fields.params()
  return {}
end

--- req.target: what the client asked for, as sent: path and query.
function fields.target(req)
  return core.target(req[1])
end

--- req.host: the host that was asked for, with its port if it was given.
function fields.host(req)
  return core.host(req[1])
end

--- req.query_string: what follows '?', as sent.
function fields.query_string(req)
  return core.query(req[1])
end

--- req.query: the query's fields; of several the last.
function fields.query(req)
  local query, why = core.params(req.query_string)
  if not query then refuse("http.bad_query", 400, "the query has " .. why) end
  return query
end

--- req:query_all(name): the list of all values of a query field.
function methods.query_all(req, name)
  return core.params_all(req.query_string, name)
end

--- req.body: a string, "" if there is none.
function fields.body(req)
  return core.body(req[1])
end

--- req.json: the body, decoded; if it is not JSON the answer is 400.
function fields.json(req)
  local ok, value = pcall(json.decode, req.body)
  if ok and value ~= nil then return value end
  refuse("http.bad_json", 400, "the body is not valid JSON")
end

local function form_body(req)
  local content_type = req.headers["content-type"] or ""
  if req.body ~= "" and not content_type:lower():match("^application/x%-www%-form%-urlencoded") then
    refuse("http.not_a_form", 415, "a form was expected, application/x-www-form-urlencoded")
  end
  return req.body
end

--- req.form: the fields of a posted form; of several the last.
function fields.form(req)
  local form, why = core.params(form_body(req))
  if not form then refuse("http.bad_form", 400, "the form has " .. why) end
  return form
end

--- req:form_all(name): the list of all values of a form field.
function methods.form_all(req, name)
  return core.params_all(form_body(req), name)
end

--- req.cookies: by name, as sent.
function fields.cookies(req)
  local cookies = {}
  for name, value in (req.headers.cookie or ""):gmatch("([^%s=;]+)=([^;]*)") do
    value = value:match("^(.-)%s*$")
    cookies[name] = value:match('^"(.*)"$') or value
  end
  return cookies
end

--- req.remote: the client's address; "" on a unix socket.
function fields.remote(req)
  return core.remote(req[1])
end

--- req.id: the request's id, which its log lines carry.
function fields.id()
  return request_id() or "none"
end

-- methods and fields; req[1] is the handle
return {
  __index = function(req, key)
    local make = fields[key]
    if make then
      local value = make(req)
      rawset(req, key, value)
      return value
    end
    return methods[key]
  end,
}
