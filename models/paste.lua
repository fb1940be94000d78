-- paste: a text that is shown under a short link, for ever or for a while.
--
--   local Paste = require "models.paste"
--   local paste = Paste:create { title = "Greeting", body = "print(1)", language = "lua" }
--   print("/p/" .. paste.id)
--   Paste:create({ body = "not for long" }, { ttl = Paste.expiries["1 hour"] })
--   Paste:where { language = "lua" }:order_by("created_at", "desc"):limit(50)
--
-- Whoever knows the token may delete the paste: show it to its author alone.
local neap = require "neap"
local model, field = neap.model, neap.field

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

-- new_id returns 8 characters that a URL takes as they are: 48 random bits.
local function new_id()
  return (neap.random_bytes(8):gsub(".", function(char)
    local i = char:byte() % 64 + 1
    return alphabet:sub(i, i)
  end))
end

local Paste = model.define("paste", {
  id         = field.string { primary_key = true, default = new_id },
  title      = field.string { max = 80 },
  body       = field.text   { required = true, max = 256 * 1024 },
  language   = field.enum   { "text", "c", "css", "go", "html", "java", "javascript", "json", "lua",
    "markdown", "python", "ruby", "rust", "shell", "sql", default = "text", index = true },
  token      = field.string { required = true, default = neap.token },
  created_at = field.time   { default = neap.now, sort = true },
}, { ttl = true })

--- Paste.expiries: the choices of how long a paste stays, in order, and the ttl of each by name.
Paste.expiries = { "never", "10 minutes", "1 hour", "1 day", "1 week", never = false,
  ["10 minutes"] = 600, ["1 hour"] = 3600, ["1 day"] = 86400, ["1 week"] = 7 * 86400 }

return Paste
