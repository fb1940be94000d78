-- webdriver: a headless Chromium, driven through chromedriver (W3C WebDriver).
--
--   local browser = webdriver.open()
--   browser:go "http://127.0.0.1:8080/"
--   browser:find("textarea[name=body]"):type("hello")
--   browser:find("button"):follow()
--   assert.equal("hello", browser:find("pre"):text())
--   browser:close()
local neap = require "neap"
local client = require "support.client"
local process = require "support.process"
local free_port = require("support.redis").free_port
local M = {}

local Browser, Element = {}, {}
Browser.__index, Element.__index = Browser, Element

-- The key of an element's reference (WebDriver §11, web element identifier).
local element_key = "element-6066-11e4-a52e-4f735466cecf"

-- request sends one command and returns its value; what the driver refuses is
-- raised with its reason.
local function request(port, method, path, body)
  local text = body and neap.json.encode(body) or ""
  local c = client.connect(port)
  c:write(("%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" ..
    "Content-Length: %d\r\n\r\n%s"):format(method, path, #text, text))
  local res = c:head()
  if not res then error("chromedriver closed the connection on " .. path, 0) end
  local json = c:read(tonumber(res.head:lower():match("\ncontent%-length: *(%d+)")))
  c:close()
  local value = neap.json.decode(json).value
  if res.status ~= 200 then
    error(("%s %s: %s: %s"):format(method, path, value.error, value.message), 0)
  end
  return value
end

-- Nothing but the pages under test is fetched, and no sandbox is to be had as
-- root or in most containers.
local function options(profile)
  return { capabilities = { alwaysMatch = {
    browserName = "chrome",
    unhandledPromptBehavior = "ignore",
    ["goog:chromeOptions"] = { args = {
      "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
      "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--disable-extensions",
      "--disable-default-apps", "--window-size=1000,900", "--user-data-dir=" .. profile,
    } },
  } } }
end

--- webdriver.open(): a driver and a browser with a fresh profile.
function M.open()
  local profile, port = process.temp_dir(), free_port()
  local driver = process.start("chromedriver", { "--port=" .. port }, {
    env = { HOME = profile },
  })
  local self = setmetatable({ profile = profile, port = port, driver = driver }, Browser)
  local ok, err = pcall(function()
    driver:wait_for("started successfully")
    self.path = "/session/" .. request(port, "POST", "/session", options(profile)).sessionId
  end)
  if not ok then
    self:close()
    error(err, 0)
  end
  return self
end

--- browser:command(method, path, body): any command of the session.
function Browser:command(method, path, body)
  return request(self.port, method, self.path .. path, body)
end

--- browser:close(): ends browser and driver, removes the profile.
function Browser:close()
  if not pcall(request, self.port, "GET", "/shutdown") then self.driver:kill() end
  self.driver:wait()
  process.remove(self.profile)
end

--- browser:go(url): returns when the page is loaded.
function Browser:go(url) self:command("POST", "/url", { url = url }) end

--- browser:url(), browser:title(), browser:source(): of the page.
function Browser:url() return self:command("GET", "/url") end
function Browser:title() return self:command("GET", "/title") end
function Browser:source() return self:command("GET", "/source") end

--- browser:find(selector): the first element of that CSS selector; raises if
-- there is none. browser:all(selector): the list of them.
function Browser:find(selector)
  return self:all(selector)[1] or error("no " .. selector .. " on " .. self:url(), 2)
end

function Browser:all(selector)
  local list = self:command("POST", "/elements", { using = "css selector", value = selector })
  for i, reference in ipairs(list) do
    list[i] = setmetatable({ browser = self, path = "/element/" .. reference[element_key] },
      Element)
  end
  return list
end

--- browser:link(text): the first link of that text.
function Browser:link(text)
  for _, link in ipairs(self:all "a") do
    if link:text() == text then return link end
  end
  error("no link " .. text .. " on " .. self:url(), 2)
end

--- browser:run(script, ...): what JavaScript returns.
function Browser:run(script, ...)
  return self:command("POST", "/execute/sync", { script = script, args = neap.json.array { ... } })
end

--- browser:alert(): the text of the open dialog, nil if there is none.
function Browser:alert()
  local ok, text = pcall(self.command, self, "GET", "/alert/text")
  if ok then return text end
  if not text:find("no such alert", 1, true) then error(text, 2) end
end

--- browser:accept(): closes the open dialog with its OK.
function Browser:accept()
  self:command("POST", "/alert/accept", {})
end

--- browser:screenshot(path): writes the page as it looks, a PNG.
function Browser:screenshot(path)
  local png = io.popen("base64 -d > '" .. path .. "'", "w")
  png:write(self:command("GET", "/screenshot"))
  png:close()
end

--- element:type(text), element:clear(): into and out of a field.
function Element:type(text)
  self.browser:command("POST", self.path .. "/value", { text = text })
end

function Element:clear()
  self.browser:command("POST", self.path .. "/clear", {})
end

--- element:click(); element:follow(): clicks what leads to another address, and
-- waits until the browser is there (a form may be sent only after its click).
function Element:click()
  self.browser:command("POST", self.path .. "/click", {})
end

function Element:follow()
  local from = self.browser:url()
  self:click()
  neap.timeout(10, function()
    while self.browser:url() == from do neap.sleep(0.01) end
  end)
end

--- element:text(): as it is displayed; element:attribute(name): nil if absent.
function Element:text() return self.browser:command("GET", self.path .. "/text") end

function Element:attribute(name)
  local value = self.browser:command("GET", self.path .. "/attribute/" .. name)
  return value ~= neap.null and value or nil
end

return M
