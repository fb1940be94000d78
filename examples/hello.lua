-- hello: the smallest service. A table answers with JSON, a string with HTML.
--
--   build/neap examples/hello.lua [port]
local http = require "neap.http"
local app = http.app()

app:get("/", function(req)
  return "<h1>Hello " .. http.escape(req.query.name or "world") .. "</h1>"
end)

app:get("/hello/:name", function(req)
  return { json = { hello = req.params.name } }
end)

print(app:listen(tonumber(arg[1]) or 8080).url .. "/")
