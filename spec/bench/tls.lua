-- tls: pairs of SET and GET over TLS beside the same on a plain connection to the same
-- server, whose certificate is made by openssl for the occasion.
--
--   build/neap spec/bench/tls.lua
package.path = "spec/bench/support/?.lua;spec/?.lua;" .. package.path
local measure = require "measure"
local neap = require "neap"
local process = require "support.process"
local free_port = require("support.redis").free_port

local dir = process.temp_dir()
local made = process.start("openssl", { "req", "-x509", "-newkey", "ec", "-pkeyopt",
  "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", dir .. "/key.pem", "-out",
  dir .. "/cert.pem", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
  "subjectAltName=IP:127.0.0.1" }):wait()
if made.status ~= 0 then error("openssl: " .. made.err, 0) end
local port, tls_port = free_port(), free_port()
local server = process.start("redis-server", { "--port", tostring(port), "--tls-port",
  tostring(tls_port), "--tls-cert-file", dir .. "/cert.pem", "--tls-key-file", dir .. "/key.pem",
  "--tls-ca-cert-file", dir .. "/cert.pem", "--tls-auth-clients", "no", "--save", "",
  "--dir", dir })
server:wait_for "eady to accept connections"
local plain = neap.redis("redis://127.0.0.1:" .. port)
local tls = neap.redis("rediss://127.0.0.1:" .. tls_port, { ca = dir .. "/cert.pem" })
measure.pin(plain)

local function pairs_by(client, workers, n)
  return measure.rate(n, function()
    measure.concurrently(workers, n, function(_, w)
      local key = "bench:" .. w
      client:set(key, "value")
      if client:get(key) ~= "value" then error("the value of " .. key .. " is another") end
    end)
  end)
end

for round = 1, 3 do
  print("round " .. round)
  for _, workers in ipairs { 1, 100, 1000 } do
    local n = workers == 1 and 5000 or 200000
    local reference = pairs_by(plain, workers, n)
    local rate = pairs_by(tls, workers, n)
    print(("  %4d tasks %7.0f pairs/s, %.2f of plain"):format(workers, rate, rate / reference))
  end
end
server:kill()
server:wait()
process.remove(dir)
