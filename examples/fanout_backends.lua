-- fanout_backends: the forty backends that fanout.lua asks, each on a port of its own. They
-- answer after 5 to 50 ms; number 13 fails, number 27 hangs, number 33 is sometimes slow.
--
--   build/neap examples/fanout_backends.lua [first port]      (9001)
local neap = require "neap"
local http = require "neap.http"
local first = tonumber(arg[1] or 9001)

for i = 1, 40 do
  local app = http.app()
  local latency = 0.005 + 0.045 * (i - 1) / 39
  app:get("/find", function(req)
    if i == 27 then neap.sleep(3600) end
    neap.sleep(i == 33 and math.random() < 0.2 and 0.5 or latency)
    if i == 13 then return 500 end
    return { json = { source = "shard " .. i, hits = #req.query.q * i } }
  end)
  app:listen(first + i - 1)
end
print(("http://127.0.0.1:%d/ to :%d/"):format(first, first + 39))
