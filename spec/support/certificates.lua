-- certificates: an authority of a spec's own and what it signed, made by the
-- openssl command line, EC P-256.
--
--   local certs = certificates.make()   -- certs.dir, to be removed by the spec
--   certs:path "ca.pem"                 -- also stranger.pem: another authority
--   certs:path "server.pem", "server.key"   -- for 127.0.0.1 and localhost
--   certs:path "named.pem", "named.key"     -- for redis.example
--   certs:path "expired.pem", "expired.key" -- like server, but it was over in 2020
--   certs:path "client.pem", "client.key"   -- for a client; intruder.*: by stranger
local process = require "support.process"
local M = {}

local Certificates = {}
Certificates.__index = Certificates

local script = [[
set -e
printf '[req]\ndistinguished_name = dn\n[dn]\n' > cnf
new() { # new NAME EXTENSION [AUTHORITY]
    sign=; [ -z "$3" ] || sign="-CA $3.pem -CAkey $3.key"
    openssl req -x509 -config cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
        -nodes -days 2 -subj "/CN=$1" -keyout "$1.key" -out "$1.pem" -addext "$2" $sign
}
new ca basicConstraints=critical,CA:TRUE
new stranger basicConstraints=critical,CA:TRUE
new server subjectAltName=IP:127.0.0.1,DNS:localhost ca
new named subjectAltName=DNS:redis.example ca
new client extendedKeyUsage=clientAuth ca
new intruder extendedKeyUsage=clientAuth stranger
new expired subjectAltName=IP:127.0.0.1
printf '[ca]\ndefault_ca = c\n[c]\ndatabase = index\nserial = serial\nnew_certs_dir = .
policy = p\ndefault_md = sha256\ncopy_extensions = copy\n[p]\ncommonName = supplied\n' > ca.cnf
: > index; echo 77 > serial
openssl req -new -config cnf -key expired.key -subj /CN=expired \
    -addext subjectAltName=IP:127.0.0.1 -out expired.csr
openssl ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -in expired.csr \
    -out expired.pem -startdate 20200101000000Z -enddate 20200102000000Z
]]

--- make(): the files, in a folder of their own.
function M.make()
  local certs = setmetatable({ dir = process.temp_dir() }, Certificates)
  local child = process.start("/bin/sh", { "-c", script }, { cwd = certs.dir }):wait()
  assert(child.status == 0, child.err)
  return certs
end

--- certs:path(name): where a file is.
function Certificates:path(name)
  return self.dir .. "/" .. name
end

--- certs:args(port, name, clients): what makes a redis-server one that speaks TLS
-- alone; clients: whether they need a certificate (no, yes, optional).
function Certificates:args(port, name, clients)
  return { "--port", "0", "--tls-port", tostring(port), "--tls-ca-cert-file", self:path "ca.pem",
    "--tls-cert-file", self:path(name .. ".pem"), "--tls-key-file", self:path(name .. ".key"),
    "--tls-auth-clients", clients or "no" }
end

return M
