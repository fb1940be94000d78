local neap = require "neap"
local process = require "support.process"
local case = require "support.case" (it)
local uv = require "luv"
local webdriver = require "browser.webdriver"

-- What must be shown as text: markup, and an attempt to leave the element.
local evil = "<script>alert(1)</script>\n</pre><img src=x onerror=alert(2)>\n\"quoted\" & 'more' é"

describe("the pastebin in a browser", function()
  local browser, server, url

  setup(function()
    server = process.start(uv.exepath(), { "examples/pastebin.lua", "0" },
      { env = { NEAP_REDIS = "memory", NEAP_REDIS_URL = false } })
    neap.timeout(20, server.wait_for, server, "/\n")
    url = server.out:match("(http://[^%s]+)/\n")
    browser = webdriver.open()
  end)
  teardown(function()
    if browser then browser:close() end
    server:kill("sigterm")
    server:wait()
  end)

  -- paste fills in the form and returns the address of the new paste.
  local function paste(title, language, text, expiry)
    browser:go(url .. "/")
    browser:find("textarea[name=body]"):type(text)
    browser:find("input[name=title]"):type(title)
    browser:find("select[name=language]"):type(language)
    if expiry then browser:find("select[name=expiry]"):type(expiry) end
    browser:find("main button"):follow()
    return browser:url()
  end

  case("creates a paste and shows it as text, whatever is in it", function()
    local address = paste("Evil & <b>bold</b>", "lua", evil)
    assert.matches("^" .. url:gsub("%p", "%%%0") .. "/p/[%w_-]+$", address)
    assert.is_nil(browser:alert())
    assert.equal(evil, browser:find("pre"):text())
    assert.equal("Evil & <b>bold</b>", browser:find("h1"):text())
    assert.matches("Evil & <b>bold</b>", browser:title(), 1, true)
    assert.same({}, browser:all("main script, main img, main b"))
  end)

  case("serves it raw, as plain text", function()
    paste("Raw", "text", evil)
    browser:link("Raw"):follow()
    assert.matches("/raw/", browser:url(), 1, true)
    assert.is_nil(browser:alert())
    assert.equal("text/plain", browser:run("return document.contentType"))
    assert.equal(evil, browser:run("return document.body.innerText"))
  end)

  case("lists the recent ones, newest first", function()
    paste("Older", "text", "one")
    paste("Newer", "text", "two")
    browser:link("Recent"):follow()
    assert.equal(url .. "/recent", browser:url())
    local titles = {}
    for i, link in ipairs(browser:all("li a[href^='/p/']")) do titles[i] = link:text() end
    assert.same({ "Newer", "Older" }, { titles[1], titles[2] })
    browser:link("Older"):follow()
    assert.equal("one", browser:find("pre"):text())
  end)

  case("lists those of a language", function()
    paste("A query", "sql", "select 1")
    paste("A page", "html", "<p>")
    browser:go(url .. "/language/sql")
    local links = browser:all("li a[href^='/p/']")
    assert.equal(1, #links)
    assert.equal("A query", links[1]:text())
  end)

  case("shows when a paste ends, if its author chose that", function()
    paste("For ever", "text", "stays")
    assert.is_nil(browser:find(".row.dim"):text():find("expires", 1, true))
    paste("For a day", "text", "goes", "1 day")
    assert.matches("expires %d+%-%d+%-%d+ %d+:%d+ UTC", browser:find(".row.dim"):text())
    browser:link("Recent"):follow()
    assert.equal("For a day", browser:find("li a"):text())
  end)

  case("refuses an empty paste and keeps what was typed", function()
    paste("A title", "lua", " ", "1 week")
    assert.equal("1 week", browser:run("return document.forms[0].expiry.value"))
    assert.equal("There is no text to paste.", browser:find("[role=alert]"):text())
    assert.equal("A title", browser:find("input[name=title]"):attribute("value"))
  end)

  case("deletes a paste with its token alone", function()
    local address = paste("Short-lived", "text", "gone soon")
    local token = browser:find("input[name=token]")
    local right = token:attribute("value")
    token:clear()
    token:type("wrong")
    browser:find("details button"):follow()
    assert.equal("That is not its token.", browser:find("[role=alert]"):text())
    token = browser:find("input[name=token]")
    token:clear()
    token:type(right)
    browser:find("details button"):follow()
    assert.equal(url .. "/recent", browser:url())
    browser:go(address)
    assert.equal("Not found", browser:find("h1"):text())
  end)
end)
