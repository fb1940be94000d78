-- fanout: a search service that asks forty backends for each request, waits for all of them
-- at once but not for ever, and puts together what came in time.
--
--   build/neap examples/fanout_backends.lua &
--   build/neap examples/fanout.lua [port] [first backend's port]      (8080, 9001)
local neap = require "neap"
local http = require "neap.http"
local port, first = tonumber(arg[1] or 8080), tonumber(arg[2] or 9001)
local limits = { timeout = 0.1 } -- seconds that a backend has

local backends = {}
for i = 1, 40 do backends[i] = ("http://127.0.0.1:%d/find"):format(first + i - 1) end

-- ask returns what a backend found, or nil and what went wrong.
local function ask(url)
  local ok, res = pcall(http.fetch, url, limits)
  if not ok then return nil, neap.is_error(res, "http.timeout") and "late" or tostring(res) end
  if res.status ~= 200 then return nil, "status " .. res.status end
  return res.json
end

local app = http.app()

app:get("/search", function(req)
  local q = req.query.q or http.fail(400, "what for? /search?q=...")
  local query = "?q=" .. http.url_encode(q)
  local answer = { hits = 0, sources = 0, late = neap.json.array {}, failed = {} }
  neap.map(function(url, i)
    local found, why = ask(url .. query)
    if found then
      answer.hits, answer.sources = answer.hits + found.hits, answer.sources + 1
    elseif why == "late" then
      table.insert(answer.late, i)
    else
      answer.failed[tostring(i)] = why
    end
  end, backends)
  return { json = answer }
end)

print(app:listen(port).url .. "/")
