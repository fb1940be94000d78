-- load: reads 10,000 pages of a running pastebin and says how long they took.
--
--   build/neap examples/pastebin.lua &
--   build/neap examples/load.lua [url] [pages] [connections]
--
-- The pastes are those of /recent; where there are none, it posts some first.
local neap = require "neap"
local uv = require "luv"
local host, port = (arg[1] or "http://127.0.0.1:8080/"):match("^http://([%d.]+):(%d+)/?$")
assert(host, "the URL is to be of the form http://127.0.0.1:8080/")
local pages, connections = tonumber(arg[2]) or 10000, tonumber(arg[3]) or 5

-- A connection that is kept open: bytes out, then responses in.
local Connection = {}
Connection.__index = Connection

local function connect()
  local c = setmetatable({ socket = uv.new_tcp(), input = "", news = neap.event() }, Connection)
  neap.await(uv.tcp_connect, c.socket, host, tonumber(port))
  c.socket:nodelay(true)
  c.socket:read_start(function(_, bytes)
    if bytes then c.input = c.input .. bytes else c.is_ended = true end
    c.news:set()
  end)
  return c
end

-- wait returns when more has come in.
function Connection:wait()
  assert(not self.is_ended, "the server has closed the connection")
  self.news:clear()
  self.news:wait()
end

-- request sends one and returns the status and the body of its response.
function Connection:request(method, path, form)
  form = form or ""
  self.socket:write(("%s %s HTTP/1.1\r\nHost: %s:%s\r\nContent-Length: %d\r\n"
    .. "Content-Type: application/x-www-form-urlencoded\r\n\r\n%s"):format(method, path, host, port,
    #form, form))
  while not self.input:find("\r\n\r\n", 1, true) do self:wait() end
  local head, body_start = self.input:match("^(.-\r\n)\r\n()")
  local body_end = body_start + head:match("\r\nContent%-Length: (%d+)\r\n") - 1
  while #self.input < body_end do self:wait() end
  local body = self.input:sub(body_start, body_end)
  self.input = self.input:sub(body_end + 1)
  return tonumber(head:match("^HTTP/1.1 (%d+)")), body
end

local function find_pastes(c)
  local paths = {}
  local _, page = c:request("GET", "/recent")
  for path in page:gmatch('href="(/p/[^"]+)"') do paths[#paths + 1] = path end
  return paths
end

local first = connect()
local paths = find_pastes(first)
if #paths == 0 then
  for i = 1, 20 do
    local status = first:request("POST", "/pastes", "title=Sample+" .. i .. "&language=lua&body="
      .. ("print('a+line+of+the+sample')%0A"):rep(i))
    assert(status == 303, "the pastebin did not take a paste")
  end
  paths = find_pastes(first)
end
first.socket:close()

local started, times = 0, {}
local function reader()
  local c = connect()
  while started < pages do
    started = started + 1
    local path, start = paths[started % #paths + 1], neap.monotonic()
    assert(c:request("GET", path) == 200, path)
    times[#times + 1] = (neap.monotonic() - start) * 1000
  end
  c.socket:close()
end

local start, readers = neap.monotonic(), {}
for i = 1, connections do readers[i] = reader end
neap.all(readers)
local total = neap.monotonic() - start

table.sort(times)
local function percentile(p) return times[math.ceil(#times * p / 100)] end
print(("%d pages over %d connections in %.2f s: p50 %.2f ms, p90 %.2f ms, p99 %.2f ms"):format(
  #times, connections, total, percentile(50), percentile(90), percentile(99)))
