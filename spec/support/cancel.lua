-- cancel: what specs of cancelled tasks share; it is given busted's assert.
local neap = require "neap"
local failure = require "support.failure"

return function(assert)
  local _, code_of = failure(assert)

  local function forever() neap.sleep(3600) end

  -- idle gives way often enough for everything that is ready to run
  local function idle()
    for _ = 1, 5 do neap.sleep(0) end
  end

  local function assert_cancelled(fn, ...)
    assert.equal("cancelled", code_of(fn, ...))
  end

  return code_of, forever, idle, assert_cancelled
end
