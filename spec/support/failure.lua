-- failure: what a call that has to fail failed with; it is given busted's assert.
--
--   local error_of, code_of, failure_of = require "support.failure" (assert)
--   error_of(client.get, client, "k").message
local neap = require "neap"

return function(assert)
  -- failure_of calls fn, which has to fail; what it raised, of any type.
  local function failure_of(fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok, "a failure was expected")
    return err
  end

  -- error_of does the same, and what was raised has to be an error object.
  local function error_of(fn, ...)
    local err = failure_of(fn, ...)
    assert.is_true(neap.is_error(err), tostring(err))
    return err
  end

  -- code_of returns an error object's code; anything else as it was raised.
  local function code_of(fn, ...)
    local err = failure_of(fn, ...)
    return neap.is_error(err) and err.code or err
  end

  return error_of, code_of, failure_of
end
