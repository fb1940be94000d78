local neap = require "neap"
local check = require "support.model_check"
local eventually = require "support.eventually"
local process = require "support.process"
local redis_server = require "support.redis"
local case = require "support.case" (it)
local error_of, code_of = require "support.failure" (assert)
local model, field, null = neap.model, neap.field, neap.null
local redis = neap.redis()

local function has(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q in %q"):format(part, tostring(text)))
end

local function fields()
  return { id = field.string { primary_key = true }, email = field.string { unique = true },
    kind = field.enum { "a", "b", index = true }, name = field.string { index = true },
    age = field.integer { min = 0, max = 99, index = true },
    score = field.number { index = true, sort = true }, tags = field.list(field.string) {
      index = true }, at = field.time { sort = true } }
end

local Session = model.define("session", fields(), { ttl = true })
local Token = model.define("token", fields(), { ttl = 1000 })

local full = { id = "x", email = "e", kind = "a", name = "n", age = 7, score = 0.5, tags = { "t" },
  at = 5 }

local function copy(attributes, changes)
  local t = {}
  for k, v in pairs(attributes) do t[k] = v end
  for k, v in pairs(changes or {}) do t[k] = v end
  return t
end

local function server_time()
  local t = redis:call "TIME"
  return t[1] + t[2] / 1e6
end

-- expired stores a row, lets its time pass, and calls fn while it still lies in
-- Redis: a sweeper that was faster means another try.
local function expired(m, attributes, fn)
  eventually(function()
    m:drop()
    local row = m:create(attributes, { ttl = 0.02 })
    eventually(function() return not m:load(row.id) end, "its time is over")
    if redis:exists(("{%s}:%s"):format(m.name, row.id)) == 0 then return false end
    fn(row)
    return true
  end, "the sweeper is slower")
end

teardown(function()
  Session:drop()
  Token:drop()
end)

describe("a life", function()
  before_each(function()
    Session:drop()
    Token:drop()
  end)

  case("is the model's, or the row's own, by the server's clock", function()
    local before = server_time()
    local rows = { Token:create { id = "a" }, Token:create({ id = "b" }, { ttl = 500 }),
      Token:create({ id = "c" }, { ttl = false }), Session:create { id = "d" },
      Session:create({ id = "e" }, { ttl = 0.5e9 }), Token:upsert { id = "f" } }
    local after = server_time()
    for i, life in ipairs { 1000, 500, false, false, 0.5e9, 1000 } do
      local at = rows[i]:expires_at()
      if life then
        assert.is_true(at >= before + life - 0.002 and at <= after + life + 0.002, i)
      else
        assert.is_nil(at)
      end
    end
    for _, row in ipairs(Token:create_many({ { id = "g" }, { id = "h" } }, { ttl = 300 })) do
      assert.is_true(row:expires_at() <= server_time() + 300.002)
    end
    assert.equal(6, Token:rows():count())
  end)

  case("is kept by saves and increments, and changed by expire and touch", function()
    local row = Token:create({ id = "a", age = 1 }, { ttl = 300 })
    local at = row:expires_at()
    row.name = "n"
    row:save()
    row:increment "age"
    Token:increment("a", { age = 1 })
    Token:save_many { row }
    assert.equal(at, row:expires_at())
    assert.equal(row, row:touch())
    assert.is_true(row:expires_at() > at + 600)
    assert.equal(row, row:expire(100))
    assert.is_true(row:expires_at() < at - 100)
    assert.equal(row, row:expire(false))
    assert.is_nil(row:expires_at())
    assert.equal(0, redis:zcard "{token}/@expires")
    row:expire(300)
    assert.is_true(row:expires_at() >= at)
    assert.same({ id = "a", name = "n", age = 3 }, Token:load("a"):to_table())
    assert.same({}, check(Token))
  end)

  case("is all that expire and touch store; they show what others changed", function()
    for _, is_optimistic in ipairs { false, true } do
      local Both = model.define("token", fields(), { ttl = 1000, optimistic = is_optimistic })
      local row = Both:create { id = "a", age = 1, name = "n" }
      local other = Both:load "a"
      other.age = 2
      other:save()
      row.name = "mine"
      row:touch()
      assert.same({ id = "a", age = 2, name = "mine" }, row:to_table())
      assert.equal("n", Both:load("a").name)
      other:expire(500)
      other.age = 3
      other:save()
      row:expire(false)
      assert.equal(3, row.age)
      row:save()
      assert.same({ id = "a", age = 3, name = "mine" }, Both:load("a"):to_table())
      Both:drop()
    end
  end)

  case("that makes no sense is refused", function()
    for _, life in ipairs { 0, -1, 0 / 0, math.huge, "5", {}, 1e11 } do
      local ok, err = pcall(Token.create, Token, { id = "a" }, { ttl = life })
      assert.is_false(ok)
      has(err, "ttl: seconds above 0 expected")
      assert.equal("model.definition", code_of(model.define, "token", fields(), { ttl = life }))
    end
    local row = Token:create { id = "a" }
    for _, life in ipairs { 0, -1, "5", {}, true } do
      local ok, err = pcall(function() row:expire(life) end)
      assert.is_false(ok)
      has(err, "model_ttl_spec.lua")
      has(err, "ttl: seconds above 0 expected")
    end
    has(error_of(function() Session:create({ id = "s" }):touch() end), "model session")
    local Plain = model.define("plain", { id = field.string { primary_key = true } })
    Plain:drop()
    has(error_of(Plain.create, Plain, { id = "a" }, { ttl = 5 }), "define it with ttl = true")
    local plain = Plain:create { id = "a" }
    assert.equal("model.definition", code_of(plain.expire, plain, 5))
    assert.equal("model.definition", code_of(plain.touch, plain))
    assert.is_nil(plain:expires_at())
  end)

  case("of a model may be short: rows come and go", function()
    local Brief = model.define("token", fields(), { ttl = 0.02 })
    for i = 1, 3 do
      local row = Brief:create { id = "a", email = "e", age = i }
      eventually(function() return not Brief:load "a" end, "it is over")
      assert.equal("model.gone", code_of(row.touch, row))
    end
    local kept = Brief:upsert({ id = "b", email = "e" }):expire(false)
    eventually(function()
      Brief:sweep()
      return redis:exists "{token}:a" == 0
    end, "it is swept")
    assert.same({ "b" }, Brief:rows():ids())
    assert.equal(kept.id, Brief:where({ email = "e" }):first().id)
    assert.same({}, check(Brief))
    kept:touch()
    eventually(function() return not Brief:load "b" end, "it is over")
  end)

  case("has an end, which expire(false) takes away", function()
    local brief = Session:create({ id = "a" }, { ttl = 0.02 })
    local long = Session:create({ id = "b" }, { ttl = 0.02 }):expire(false)
    eventually(function() return not Session:load "a" end, "it is over")
    assert.is_table(Session:load "b")
    assert.is_nil(brief:expires_at())
    assert.equal(long.id, Session:rows():first().id)
  end)
end)

describe("a row whose time is over", function()
  case("is not loaded", function()
    expired(Session, full, function()
      assert.is_nil(Session:load "x")
      assert.same({ false }, Session:load_many { "x" })
      assert.is_false(Session:exists "x")
    end)
  end)

  local queries = {
    ["its primary key"] = function(q) return q:where("id", "x") end,
    ["a list of primary keys"] = function(q) return q:where("id", { "x", "y" }) end,
    ["a unique value"] = function(q) return q:where("email", "e") end,
    ["a bitmap"] = function(q) return q:where("kind", "a") end,
    ["a set"] = function(q) return q:where("name", "n") end,
    ["an element"] = function(q) return q:where("tags", "t") end,
    ["a packed column"] = function(q) return q:where("age", model.between(5, 9)) end,
    ["a sorted set"] = function(q) return q:where("score", model.between(0, 1)) end,
    ["several conditions"] = function(q) return q:where("kind", "a"):where("name", "n") end,
    ["any of several values"] = function(q) return q:where("kind", { "a", "b" }) end,
    ["all rows"] = function(q) return q end,
    ["all rows in order"] = function(q) return q:order_by("at") end,
    ["the first in order"] = function(q) return q:order_by("score", "desc"):limit(1) end,
  }
  for name, narrow in pairs(queries) do
    case("is not found by " .. name, function()
      expired(Session, full, function()
        local y = Session:create(copy(full, { id = "y", email = "other" }))
        local q = narrow(Session:rows())
        local want = (name == "its primary key" or name == "a unique value") and {} or { "y" }
        assert.same(want, q:ids())
        assert.equal(#want, q:count())
        assert.equal(#want > 0, q:exists())
        assert.equal(#want, #q:all())
        assert.equal(want[1], q:first() and q:first().id)
        y:delete()
        assert.same({}, q:ids())
        assert.equal(0, q:count())
      end)
    end)
  end

  case("is not found as null either", function()
    expired(Session, { id = "x" }, function()
      for _, name in ipairs { "kind", "name", "age" } do
        assert.equal(0, Session:where({ [name] = null }):count(), name)
      end
    end)
  end)

  case("does not hold its primary key", function()
    local ways = { create = function() return Session:create { id = "x", age = 1 } end,
      upsert = function() return Session:upsert { id = "x", age = 1 } end,
      create_many = function()
        local rows = Session:create_many { { id = "v" }, { id = "x", age = 1 }, { id = "w" } }
        assert.equal(3, Session:rows():count())
        return rows[2]
      end }
    for _, way in pairs(ways) do
      expired(Session, full, function()
        local row = way()
        assert.same({ id = "x", age = 1 }, row:to_table())
        assert.same({ id = "x", age = 1 }, Session:load("x"):to_table())
        assert.is_nil(row:expires_at())
        assert.equal(0, Session:where({ email = "e" }):count())
        assert.same({}, check(Session))
      end)
    end
  end)

  case("does not hold a unique value", function()
    local ways = { create = function() Session:create { id = "y", email = "e" } end,
      upsert = function() Session:upsert { id = "y", email = "e" } end,
      save = function()
        local row = Session:create { id = "y" }
        row.email = "e"
        row:save()
      end,
      create_many = function() Session:create_many { { id = "z" }, { id = "y", email = "e" } } end,
      save_many = function()
        local rows = Session:create_many { { id = "z" }, { id = "y" } }
        rows[1].age, rows[2].email = 1, "e"
        Session:save_many(rows)
      end }
    for name, way in pairs(ways) do
      expired(Session, full, function()
        way()
        assert.same({ "y" }, Session:where({ email = "e" }):ids(), name)
        assert.equal("model.unique", code_of(Session.create, Session, { id = "q", email = "e" }))
        assert.same({}, check(Session))
      end)
    end
  end)

  case("is gone for who has it in hand", function()
    expired(Session, full, function(row)
      row.age = 9
      assert.equal("model.gone", code_of(row.save, row))
      assert.equal("model.gone", code_of(Session.save_many, Session, { row }))
      assert.equal("model.gone", code_of(row.reload, row))
      assert.equal("model.gone", code_of(row.increment, row, "score"))
      assert.equal("model.gone", code_of(row.expire, row, 5))
      assert.equal("model.gone", code_of(row.expire, row, false))
      assert.equal("model.gone", code_of(row.delete, row))
      assert.equal("model.gone", code_of(Session.increment, Session, "x", { score = 1 }))
      assert.is_nil(row:expires_at())
    end)
  end)

  case("is no reference's row, and its key may be another's", function()
    local Note = model.define("note", { id = field.string { primary_key = true },
      session = field.ref(Session) { on_delete = "cascade" } })
    Note:drop()
    expired(Session, full, function()
      local note = Note:upsert { id = "n", session = "x" }
      assert.is_nil(note:related "session")
      Session:create { id = "x" }
      assert.equal("x", note:related("session").id)
    end)
  end)
end)

describe("the sweeper", function()
  before_each(function()
    Session:drop()
    Token:drop()
  end)

  local function is_empty(m, client)
    for key in (client or redis):scan { match = "{" .. m.name .. "}*" } do
      if not key:find "/@" and not key:find "[.?]" then return false end
    end
    return true
  end

  case("removes all of a row by itself", function()
    local rows = {}
    for i = 1, 700 do
      rows[i] = copy(full, { id = "x" .. i, email = "e" .. i, age = i % 100, name = "n" .. i % 9 })
    end
    Session:create_many(rows, { ttl = 0.02 })
    Session:create(copy(full, { id = "y", email = "y" }))
    eventually(function() return redis:zcard "{session}/@expires" == 0 end, "all is swept")
    eventually(function() return #check(Session) == 0 end, "the indexes are true")
    assert.equal(1, redis:hlen "{session}/email!")
    assert.same({ "y" }, Session:rows():ids())
    Session:load("y"):delete()
    assert.is_true(is_empty(Session))
    assert.same({}, check(Session))
  end)

  case("tells how many there were, when it is called", function()
    assert.equal(0, Session:sweep())
    expired(Session, full, function()
      local n = Session:sweep()
      assert.is_true(n <= 1)
      assert.equal(0, redis:exists "{session}:x")
      assert.same({}, check(Session))
    end)
  end)

  case("leaves rows that live again, and gives their places to others", function()
    local row = Session:create({ id = "a" }, { ttl = 0.02 })
    row:expire(false)
    Session:create({ id = "b" }, { ttl = 0.02 })
    eventually(function() return not Session:load "b" end)
    Session:create { id = "c" }
    eventually(function()
      Session:sweep()
      return redis:exists "{session}:b" == 0
    end)
    Session:create { id = "d" }
    local ids = Session:rows():ids()
    table.sort(ids)
    assert.same({ "a", "c", "d" }, ids)
    assert.same({}, check(Session))
  end)

  case("of two hosts and tasks that create rows anew do no harm", function()
    local server = redis_server.start()
    local clients, models = { neap.redis(server.url), neap.redis(server.url) }, {}
    for i = 1, 2 do
      models[i] = model.define("session", fields(), { ttl = true, redis = clients[i] })
    end
    local one, other = unpack(models)
    local stop = false
    local function sweeps(m)
      return function()
        while not stop do
          m:sweep()
          neap.sleep(0)
        end
      end
    end
    local created = 0
    local function creates(m)
      return function()
        for i = 1, 150 do
          local attributes = copy(full, { id = "x" .. i % 7, email = "e" .. i % 5 })
          local ok, err = pcall(m.create, m, attributes, { ttl = 0.005 })
          if ok then
            created = created + 1
          else
            assert.is_true(neap.is_error(err, "model.exists") or neap.is_error(err, "model.unique"),
              tostring(err))
            neap.sleep(0.001)
          end
        end
      end
    end
    neap.all { sweeps(one), sweeps(other), function()
      neap.all { creates(one), creates(other), creates(one) }
      stop = true
    end }
    assert.is_true(created > 10)
    eventually(function()
      one:sweep()
      return clients[1]:zcard "{session}/@expires" == 0
    end, "all is swept")
    assert.same({}, check(one))
    assert.is_true(is_empty(one, clients[1]))
    for i = 1, 2 do clients[i]:close() end
    server:stop()
  end)

  case("that dies leaves nothing half", function()
    local server = redis_server.start()
    local client = neap.redis(server.url)
    local Mine = model.define("session", fields(), { ttl = true, redis = client })
    local source = [[
      local neap = require "neap"
      local model, field = neap.model, neap.field
      local Session = model.define("session", { id = field.string { primary_key = true },
        email = field.string { unique = true }, kind = field.enum { "a", "b", index = true },
        name = field.string { index = true },
        age = field.integer { min = 0, max = 99, index = true },
        score = field.number { index = true, sort = true }, tags = field.list(field.string) {
        index = true }, at = field.time { sort = true } }, { ttl = true })
      neap.spawn(function() while true do Session:sweep() neap.sleep(0) end end)
      print "ready"
      for i = 1, math.huge do
        local rows = {}
        for j = 1, 50 do
          rows[j] = { id = model.uuid(), email = model.uuid(), kind = "a", name = "n" .. j,
            age = j, score = i, tags = { "t", "u" .. j }, at = i }
        end
        Session:create_many(rows, { ttl = 0.005 })
      end]]
    for _ = 1, 4 do
      local child = process.start(require("luv").exepath(), { "-e", source },
        { env = { NEAP_REDIS_URL = server.url } })
      child:wait_for "ready"
      eventually(function()
        return tonumber(client:hget("{session}/@meta", "deletes") or 0) > 200
      end, "it sweeps")
      child:kill()
      child:wait()
      eventually(function()
        Mine:sweep()
        return client:zcard "{session}/@expires" == 0
      end, "all is swept")
      assert.same({}, check(Mine))
      assert.is_true(is_empty(Mine, client))
      client:hdel("{session}/@meta", "deletes")
    end
    client:close()
    server:stop()
  end)

  case("goes on after the server was away", function()
    local server = redis_server.start()
    local client = neap.redis(server.url)
    local Mine = model.define("session", fields(), { ttl = true, redis = client })
    Mine:create({ id = "a" }, { ttl = 0.02 })
    server:kill()
    server:restart()
    eventually(function() return pcall(Mine.create, Mine, { id = "b" }, { ttl = 0.02 }) end)
    eventually(function() return client:zcard "{session}/@expires" == 0 end, "all is swept")
    assert.is_true(is_empty(Mine, client))
    client:close()
    server:stop()
  end)
end)
