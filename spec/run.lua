-- run: busted inside the host, so that specs can wait.
--
--   build/neap spec/run.lua [busted's options] [files]
package.path = "./spec/?.lua;" .. package.path
local has_files = false
for _, a in ipairs(arg) do has_files = has_files or a:match("_spec%.lua$") end
if not has_files then
  local list = io.popen("ls spec/*_spec.lua")
  for path in list:lines() do arg[#arg + 1] = path end
  list:close()
end
-- busted ends the process itself; the host has to end in order
local exit
os.exit = function(status) -- luacheck: ignore
  exit = status == true and 0 or status == false and 1 or status or 0
  error("busted is done")
end
local ok, err = pcall(require "busted.runner", { standalone = false })
if not ok and not exit then error(err, 0) end
require("neap").stop(exit or 0)
