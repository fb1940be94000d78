-- embed: what neap.h costs a program in C: instances, tasks, posts, Redis commands beside a bare
-- loop of C and hiredis on the same server.
--
--   build/neap spec/bench/embed.lua
package.path = "spec/bench/support/?.lua;" .. package.path
local neap = require "neap"
local uv = require "luv"
local redis = neap.redis "memory:"
local build = uv.exepath():match "^(.*)/"
local program = os.tmpname()

local function run(path, args)
  local status = neap.event()
  local child = uv.spawn(path, { args = args, stdio = { nil, 1, 2 } }, function(code, signal)
    status.code = code + signal
    status:set()
  end)
  status:wait()
  child:close()
  assert(status.code == 0, path .. " failed")
end

run("/bin/sh", { "-c", ("cc -O2 -Wall -Ihost spec/bench/support/embed.c "
  .. "%s/libneap.a $(pkg-config --cflags --libs luajit libuv hiredis openssl zlib) "
  .. "-llua5.1-luv -lm -lpthread -ldl -Wl,-E -o %s"):format(build, program) })
local config = redis:config("get", "dir", "unixsocket")
run(program, { config.dir .. "/" .. config.unixsocket })
os.remove(program)
neap.stop(0)
