-- eventually: waits for what a spec cannot be told of.
--
--   local eventually = require "support.eventually"
--   eventually(function() return client:stats().in_use == 0 end, "all is given back")
local neap = require "neap"

-- eventually calls fn until what it returns is true, and returns that; it gives up
-- after 20 s.
return function(fn, what)
  local start = neap.monotonic()
  repeat
    local v = fn()
    if v then return v end
    neap.sleep(0.002)
  until neap.monotonic() - start > 20
  error("it did not happen: " .. (what or "?"), 2)
end
