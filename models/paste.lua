-- paste: a text that is shown under a short link.
--
--   local Paste = require "models.paste"
--   local paste = Paste:create { title = "Greeting", body = "print(1)", language = "lua" }
--   print("/p/" .. paste.id)
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

return model.define("paste", {
  id         = field.string { primary_key = true, default = new_id },
  title      = field.string { max = 80 },
  body       = field.string { required = true, max = 256 * 1024 },
  language   = field.enum   { "text", "c", "css", "go", "html", "java", "javascript", "json", "lua",
    "markdown", "python", "ruby", "rust", "shell", "sql", default = "text", index = true },
  token      = field.string { required = true, default = neap.token },
  created_at = field.time   { default = neap.now, sort = true },
})
