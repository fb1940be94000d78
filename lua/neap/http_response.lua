-- http_response: a response as a client sees it, of a fetch or of app:request.
local core = require "neap.core.fetch"
local json = require "neap.core.json"
local FAIL = require("neap.core.task").FAIL
local M = {}

local Response, fields = {}, {}

function Response.__index(res, key)
  local make = fields[key]
  if not make then return Response[key] end
  local value = make(res)
  rawset(res, key, value)
  return value
end

-- response.headers: by lower-case name; several of one name are joined by commas.
function fields.headers(res)
  local headers = {}
  for key, value in res.head:gmatch("\r\n([^:\r]+):[ \t]*([^\r]*)") do
    key, value = key:lower(), value:gsub("[ \t]+$", "")
    headers[key] = headers[key] and headers[key] .. ", " .. value or value
  end
  return headers
end

-- response.json: the body as a value; raises json.invalid where it is none.
function fields.json(res)
  return json.decode(res.body)
end

--- response:all(name): the list of a header's values, "set-cookie" and such.
function Response:all(name)
  local list = {}
  for key, value in self.head:gmatch("\r\n([^:\r]+):[ \t]*([^\r]*)") do
    if key:lower() == name:lower() then list[#list + 1] = (value:gsub("[ \t]+$", "")) end
  end
  return list
end

local function check_streamed(res, name)
  if not res.exchange then
    error(("%s: the response was fetched whole: its body is a string; { stream = true } leaves it "
      .. "to be read"):format(name), 3)
  end
end

--- response:read(): the next piece of a body that is streamed, as it comes; nil at its end.
function Response:read()
  check_streamed(self, "read")
  local bytes, e = core.read(self.exchange)
  if bytes == FAIL then error(self.explain(e), 2) end
  if not bytes then self:close() end
  return bytes
end

--- response:chunks(): an iterator over the pieces of a body that is streamed.
function Response:chunks()
  check_streamed(self, "chunks")
  return function()
    if self.is_closed then return nil end
    return self:read()
  end
end

--- response:close(): gives the rest of a streamed body up. It may be called twice.
function Response:close()
  check_streamed(self, "close")
  self.is_closed = true
  core.close(self.exchange)
end

--- http_response.new(status, head, body): head is the status line and the fields, each line
-- with its CRLF.
function M.new(status, head, body)
  return setmetatable({ status = status, head = head, body = body, url = nil, json = nil },
    Response)
end

--- http_response.stream(status, head, exchange, explain): its body is still to come.
-- explain(err) adds to an error what it is about.
function M.stream(status, head, exchange, explain)
  return setmetatable({ status = status, head = head, exchange = exchange, explain = explain,
    is_closed = false }, Response)
end

return M
