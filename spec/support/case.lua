-- case: `it` with an upper bound, so that a spec that hangs fails instead.
--
--   local case = require "support.case" (it)
--   case("does this", function() ... end)
local neap = require "neap"
local seconds = tonumber(os.getenv "NEAP_SPEC_SECONDS") or 60

return function(it)
  return function(name, fn)
    it(name, function() neap.timeout(seconds, fn) end)
  end
end
