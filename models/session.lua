-- session: who is logged in, known by a token that only his browser has.
--
--   local session = require "models.session"
--   local s = session.start(user, { theme = "dark" })
--   return { redirect = "/", headers = { ["Set-Cookie"] = "session=" .. s.token
--     .. "; Path=/; Secure; HttpOnly; SameSite=Lax" } }
--
--   local s = session.find(req.cookies.session) -- nil if there is none, or its time is over
--   if not s then return 401 end
--   local user = s:related "user"
--   s:finish()                                  -- logs out
--
-- A session lasts 14 days from its last use, and no longer than its user: deleting one deletes
-- his sessions. user:sessions() is the query for them. data is the application's own; s:save()
-- stores it.
local neap = require "neap"
local User = require "models.user"
local model, field = neap.model, neap.field

local Session = model.define("session", {
  token      = field.string { primary_key = true, default = neap.token },
  user       = field.ref(User, { on_delete = "cascade", required = true }),
  data       = field.json   {},
  created_at = field.time   { default = neap.now, immutable = true },
}, { ttl = 14 * 24 * 3600 })

User:has_many("sessions", Session, "user")

--- session.start(user, data): a new session of a user (a row, or its primary key).
function Session.start(user, data)
  return Session:create { user = user, data = data }
end

--- session.find(token): the session, which lasts another 14 days from now; or nil.
function Session.find(token)
  local session = token and Session:load(token)
  if not session then return nil end
  local ok, e = pcall(session.touch, session)
  if ok then return session end
  if not neap.is_error(e, "model.gone") then error(e, 0) end -- it ended meanwhile
end

--- session:finish(): ends it; one that has ended already stays so.
function Session.methods:finish()
  local ok, e = pcall(self.delete, self)
  if not ok and not neap.is_error(e, "model.gone") then error(e, 0) end
end

return Session
