-- http_server: what spec/bench/http.lua loads. /hello answers JSON; /get reads
-- 100 bytes from Redis; /fan joins 40 such reads, each a task of its own;
-- /pipeline has them in one pipeline.
--
--   build/neap spec/bench/support/http_server.lua [port]
local http = require "neap.http"
local neap = require "neap"
local redis = neap.redis()
local app = http.app()
for i = 1, 40 do redis:set("bench:http:" .. i, ("x"):rep(100)) end

app:get("/hello", function()
  return { json = { message = "hello" } }
end)

app:get("/get", function()
  return { text = redis:get("bench:http:1") }
end)

local reads = {}
for i = 1, 40 do
  reads[i] = function() return redis:get("bench:http:" .. i) end
end

app:get("/fan", function()
  return { text = table.concat(neap.all(reads)) }
end)

app:get("/pipeline", function()
  return { text = table.concat(redis:pipeline(function(p)
    for i = 1, 40 do p:get("bench:http:" .. i) end
  end)) }
end)

print(app:listen(tonumber(arg[1]) or 0).url)
io.stdout:flush()
