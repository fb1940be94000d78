-- cancel: what specs of cancelled tasks share; it is given busted's assert.
local neap = require "neap"

return function(assert)
  -- code_of calls fn, which has to fail; the error's code, or the error itself.
  local function code_of(fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok, "a failure was expected")
    return neap.is_error(err) and err.code or err
  end

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
