-- The server that HTTP benchmarks load:
--
--   build/neap spec/bench/http.lua [port]
--   wrk -t1 -c64 -d5s http://127.0.0.1:8080/hello
--
-- /hello answers JSON; /get reads 100 bytes from Redis; /fan joins 40 such
-- reads, each a task of its own; /pipeline has them in one pipeline.
local http = require "neap.http"
local neap = require "neap"
local app = http.app()

local redis
local function connect()
  if not redis then
    redis = neap.redis()
    for i = 1, 40 do redis:set("bench:http:" .. i, ("x"):rep(100)) end
  end
  return redis
end

app:get("/hello", function()
  return { json = { message = "hello" } }
end)

app:get("/users/:id", function(req)
  return { json = { id = req.params.id } }
end)

app:get("/get", function()
  return { text = connect():get("bench:http:1") }
end)

app:get("/fan", function()
  local r, reads = connect(), {}
  for i = 1, 40 do
    reads[i] = function() return r:get("bench:http:" .. i) end
  end
  return { text = table.concat(neap.all(reads)) }
end)

app:get("/pipeline", function()
  return { text = table.concat(connect():pipeline(function(p)
    for i = 1, 40 do p:get("bench:http:" .. i) end
  end)) }
end)

print(app:listen(tonumber(arg[1]) or 8080).url)
