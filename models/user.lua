-- user: people, with what one usually looks them up by.
--
--   local User = require "models.user"
--   local ada = User:create { name = "Ada", email = "ada@example.org", age = 36 }
--   ada.age = 37
--   ada:save()
--   User:where("email", "ada@example.org"):first()
--   User:where { age = { 18, 19, 20, 21, 22 }, country_code = "USA", gender = "male" }
local neap = require "neap"
local model, field = neap.model, neap.field

local User = model.define("user", {
  id           = field.uuid    { primary_key = true },
  name         = field.string  { required = true, max = 80 },
  email        = field.string  { unique = true, max = 254, match = "[^%s@]+@[^%s@]+" },
  age          = field.integer { min = 0, max = 150, index = true, sort = true },
  gender       = field.enum    { "female", "male", index = true },
  country_code = field.string  { match = "%u%u%u", index = true }, -- ISO 3166-1 alpha-3
  created_at   = field.time    { default = neap.now, sort = true },
})

--- user:greet(): what to open a letter with.
function User.methods:greet()
  return "Hello " .. self.name
end

return User
