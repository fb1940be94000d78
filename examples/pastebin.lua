-- pastebin: paste a text, share its link. Needs no scripts in the browser.
--
--   build/neap examples/pastebin.lua [port]
local neap = require "neap"
local http = require "neap.http"
local pages = require "pastebin_pages"
local Paste = require "models.paste"
local app = http.app { max_body = 4 * 1024 * 1024 } -- the longest paste, each character escaped

app:use(function(_, next)
  local res = next()
  if res.status == 404 then res = pages.missing() end
  res.headers = res.headers or {}
  res.headers["X-Content-Type-Options"] = "nosniff"
  res.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; "
    .. "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
  return res
end)

app:get("/", function() return pages.form {} end)

app:post("/pastes", function(req)
  local typed = req.form
  local body = (typed.body or ""):gsub("\r\n", "\n") -- a browser sends CRLF
  if not body:find("%S") then return pages.form(typed, "There is no text to paste.") end
  local title = typed.title ~= "" and typed.title or nil
  local ttl = Paste.expiries[typed.expiry or "never"]
  if ttl == nil then return pages.form(typed, "The expiry was not accepted: it is not offered.") end
  local ok, paste = pcall(Paste.create, Paste, { title = title, body = body,
    language = typed.language }, { ttl = ttl })
  if not ok then
    if not neap.is_error(paste, "model.invalid") then error(paste, 0) end
    local field, wrong = next(paste.fields)
    return pages.form(typed, ("The %s was not accepted: %s"):format(field, wrong))
  end
  -- the author's browser keeps the token, for this paste's pages alone
  local path = "/p/" .. paste.id
  return { redirect = path, headers = { ["Set-Cookie"] = ("token=%s; Path=%s; Max-Age=31536000; "
    .. "HttpOnly; SameSite=Lax"):format(paste.token, path) } }
end)

app:get("/p/:id", function(req)
  local paste = Paste:load(req.params.id)
  return paste and pages.paste(paste, req.cookies.token) or 404
end)

app:get("/raw/:id", function(req)
  local paste = Paste:load(req.params.id)
  return paste and { text = paste.body } or 404
end)

app:post("/p/:id/delete", function(req)
  local paste, token = Paste:load(req.params.id), req.form.token or ""
  if not paste then return 404 end
  if token ~= paste.token then return pages.paste(paste, token, "That is not its token.") end
  paste:delete()
  return { redirect = "/recent" }
end)

-- list shows a page of the pastes that a query finds, newest first: behind a cursor, if the URL
-- has one, as its link to the older ones does.
local function list(req, title, query)
  local newest = query:order_by("created_at", "desc")
  local ok, pastes, cursor = pcall(newest.page, newest, { size = 50, after = req.query.after })
  if ok then return pages.list(title, pastes, cursor and req.path .. "?after=" .. cursor) end
  if not neap.is_error(pastes, "model.cursor") then error(pastes, 0) end
  return 404
end

app:get("/recent", function(req) return list(req, "Recent pastes", Paste:rows()) end)

app:get("/language/:name", function(req)
  local name = req.params.name
  for _, known in ipairs(Paste.fields.language.values) do
    if known == name then return list(req, "Pastes in " .. name, Paste:where("language", name)) end
  end
  return 404
end)

Paste:sync()
print(app:listen(tonumber(arg[1] or os.getenv "PORT") or 8080).url .. "/")
