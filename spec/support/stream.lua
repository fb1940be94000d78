-- stream: the stream "s" and its group "g", as specs read them.
--
--   for entry in stream.consume(client, { count = 8 }) do ... end
--   stream.pending(client)   stream.wait_blocked(client)
local eventually = require "support.eventually"
local M = {}

--- options(more): options for group "g" and consumer "c", and more.
function M.options(more)
  local options = { group = "g", consumer = "c", block = 0.1 }
  for name, value in pairs(more or {}) do options[name] = value end
  return options
end

--- consume(client, more): an iterator over "s" with these options.
function M.consume(client, more) return client:consume("s", M.options(more)) end

--- pending(client): how many entries wait for an acknowledgement.
function M.pending(client) return client:call("XPENDING", "s", "g")[1] end

--- wait_blocked(client): returns when a reader waits for new entries.
function M.wait_blocked(client)
  eventually(function() return client:info("clients"):match "blocked_clients:[1-9]" end)
end

return M
