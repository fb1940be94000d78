-- The models that ship, models/*.lua.
local case = require "support.case" (it)
local error_of, code_of = require "support.failure" (assert)
local neap = require "neap"
local process = require "support.process"
local servers = require "support.redis"
local Paste = require "models.paste"
local User = require "models.user"
local rate_limit = require "models.rate_limit"
local session = require "models.session"

local DAY = 24 * 3600

-- lasts returns the seconds that a row has left.
local function lasts(row)
  return row:expires_at() - neap.now()
end

local function is_about(expected, seconds)
  assert.is_true(seconds > expected - 60 and seconds < expected + 60, tostring(seconds))
end

local function drop_all()
  for _, model in ipairs { session, User, Paste, rate_limit } do model:drop() end
end

describe("models.user", function()
  setup(drop_all)

  case("is looked up by address, greets, and has one row per address", function()
    local ada = User:create { name = "Ada", email = "ada@example.org", age = 36,
      country_code = "GBR" }
    assert.equal(ada.id, User:where("email", "ada@example.org"):first().id)
    assert.equal("Hello Ada", ada:greet())
    assert.equal("model.unique",
      code_of(User.create, User, { name = "Eve", email = "ada@example.org" }))
  end)

  case("refuses what is no address, country or age", function()
    local fields = error_of(User.create, User, { name = "Ada", email = "ada", country_code = "GB",
      age = 151 }).fields
    assert.is_truthy(fields.email and fields.country_code and fields.age)
    assert.is_nil(fields.name)
  end)
end)

describe("models.session", function()
  local ada

  before_each(function()
    drop_all()
    ada = User:create { name = "Ada" }
  end)

  case("is found by its token, with its user and its data", function()
    local started = session.start(ada, { theme = "dark" })
    local found = session.find(started.token)
    assert.equal(ada.id, found.user)
    assert.equal("Ada", found:related("user").name)
    assert.equal("dark", found.data.theme)
    found.data.theme = "light"
    found:save()
    assert.equal("light", session.find(started.token).data.theme)
  end)

  case("is not found by what is no token", function()
    for _, token in ipairs { "", "x", ("x"):rep(100000), "\0", ada.id } do
      assert.is_nil(session.find(token))
    end
    assert.is_nil(session.find(nil))
  end)

  case("has a token of its own each time", function()
    assert.not_equal(session.start(ada).token, session.start(ada.id).token)
    assert.equal(2, ada:sessions():count())
  end)

  case("needs a user", function()
    assert.is_truthy(error_of(session.start, nil).fields.user)
  end)

  case("lasts 14 days from its last use", function()
    local started = session.start(ada)
    is_about(14 * DAY, lasts(started))
    started:expire(3600)
    is_about(3600, lasts(started))
    is_about(14 * DAY, lasts(session.find(started.token)))
  end)

  case("is not found once its time is over", function()
    local started = session.start(ada)
    started:expire(0.001)
    neap.sleep(0.05) -- looking for it would give it another 14 days
    assert.is_nil(session.find(started.token))
    assert.equal(0, ada:sessions():count())
  end)

  case("finishes, once or twice", function()
    local one, two = session.start(ada), session.start(ada)
    local again = session.find(one.token)
    one:finish()
    one:finish()
    again:finish()
    assert.is_nil(session.find(one.token))
    assert.equal(two.token, session.find(two.token).token)
  end)

  case("that finishes while it is looked for is nil", function()
    local started = session.start(ada)
    local load = session.load
    session.load = function(...)
      local row = load(...)
      started:delete()
      return row
    end
    local ok, found = pcall(session.find, started.token)
    session.load = nil
    assert.same({ true }, { ok, found })
  end)

  case("goes with its user", function()
    local bob = User:create { name = "Bob" }
    local his, hers = session.start(bob), session.start(ada)
    bob:delete()
    assert.is_nil(session.find(his.token))
    assert.equal(hers.token, session.find(hers.token).token)
  end)
end)

describe("models.paste", function()
  before_each(drop_all)

  case("has a short id, a token, and stays for ever unless told otherwise", function()
    local paste = Paste:create { body = "x" }
    assert.matches("^[%w_-]+$", paste.id)
    assert.equal(8, #paste.id)
    assert.equal(32, #paste.token)
    assert.equal("text", paste.language)
    assert.is_nil(paste:expires_at())
  end)

  case("lasts as long as each choice says", function()
    assert.same({ "never", "10 minutes", "1 hour", "1 day", "1 week" },
      { unpack(Paste.expiries) })
    local expected = { ["10 minutes"] = 600, ["1 hour"] = 3600, ["1 day"] = DAY,
      ["1 week"] = 7 * DAY }
    for _, name in ipairs(Paste.expiries) do
      local paste = Paste:create({ body = "x" }, { ttl = Paste.expiries[name] })
      if expected[name] then
        is_about(expected[name], lasts(paste))
      else
        assert.is_nil(paste:expires_at())
      end
    end
  end)
end)

describe("models.rate_limit", function()
  local now = neap.now

  before_each(drop_all)
  after_each(function() neap.now = now end)

  -- at sets the clock that windows are told by.
  local function at(seconds)
    neap.now = function() return seconds end
  end

  case("allows so many in a window, and says what is left until when", function()
    at(60 * 1000 + 15)
    local limit = { limit = 2, per = 60 }
    assert.same({ true, 1, 45 }, { rate_limit.allow("k", limit) })
    assert.same({ true, 0, 45 }, { rate_limit.allow("k", limit) })
    at(60 * 1000 + 59.5)
    assert.same({ false, 0, 0.5 }, { rate_limit.allow("k", limit) })
    at(60 * 1001)
    assert.same({ true, 1, 60 }, { rate_limit.allow("k", limit) })
  end)

  case("counts each key, and each length of window, apart", function()
    at(0)
    for _, key in ipairs { "a", "b", "a:b", "a\0b", "" } do
      for _, per in ipairs { 1, 60, 3600 } do
        assert.is_true((rate_limit.allow(key, { limit = 1, per = per })))
        assert.is_false((rate_limit.allow(key, { limit = 1, per = per })))
      end
    end
    assert.is_false((rate_limit.allow("none", { limit = 0, per = 1 })))
    local ids = rate_limit:rows():ids()
    assert.equal(16, #ids)
    for _, id in ipairs(ids) do assert.is_true(rate_limit:load(id).count > 0) end
  end)

  case("refuses what is no key or no limit", function()
    assert.equal("model.invalid", code_of(rate_limit.allow, nil, { limit = 1, per = 60 }))
    assert.equal("model.invalid", code_of(rate_limit.allow, "k", { limit = 1, per = 1.5 }))
    for _, options in ipairs { { limit = 1 }, { per = 60 }, { limit = 1, per = 0 } } do
      local _, text = pcall(rate_limit.allow, "k", options)
      assert.matches("{ limit = n, per = seconds } expected", text, 1, true)
    end
    assert.equal(0, rate_limit:rows():count())
  end)

  case("keeps a row for two windows", function()
    rate_limit.allow("k", { limit = 1, per = 1000 })
    is_about(2000, lasts(rate_limit:rows():first()))
  end)

  case("allows no more to many tasks at once", function()
    local allowed, tasks = 0, {}
    for i = 1, 100 do
      tasks[i] = neap.spawn(function()
        if rate_limit.allow("k", { limit = 30, per = 1e9 }) then allowed = allowed + 1 end
      end)
    end
    for _, t in ipairs(tasks) do t:join() end
    assert.equal(30, allowed)
  end)

  case("allows no more to several hosts at once", function()
    local server = servers.start()
    local program = [[
      local neap, rate_limit = require "neap", require "models.rate_limit"
      local allowed, tasks = 0, {}
      for i = 1, 60 do
        tasks[i] = neap.spawn(function()
          if rate_limit.allow("k", { limit = 100, per = 1e9 }) then allowed = allowed + 1 end
        end)
      end
      for _, t in ipairs(tasks) do t:join() end
      print(allowed)]]
    local total, hosts = 0, {}
    for i = 1, 3 do
      hosts[i] = neap.spawn(process.neap, { "-e", program },
        { env = { NEAP_REDIS_URL = server.url } })
    end
    for _, host in ipairs(hosts) do
      local r = host:join()
      assert.same({ 0, "" }, { r.status, r.err })
      total = total + tonumber(r.out)
    end
    server:stop()
    assert.equal(100, total)
  end)
end)
