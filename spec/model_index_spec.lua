local neap = require "neap"
local check = require "support.model_check"
local random = require "support.model_random"
local case = require "support.case" (it)
local model, field = neap.model, neap.field
local redis = neap.redis()

local function error_of(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok, "a failure was expected")
  assert.is_true(neap.is_error(err), tostring(err))
  return err
end

local function code_of(fn, ...) return error_of(fn, ...).code end

local function has(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q in %q"):format(part, tostring(text)))
end

-- define makes a model anew.
local function define(name, fields)
  local m = model.define(name, fields)
  m:drop()
  return m
end

describe("the indexes", function()
  for shape = 1, random.shapes do
    case(("of shape %d are true after random writes, and empty when all is gone"):format(shape),
      function()
        local g = random.new(77 + shape)
        local Thing = g:define("walk" .. shape, shape)
        local mirror = {}
        for _ = 1, 6 do
          g:write(Thing, mirror, 150)
          assert.same({}, check(Thing))
        end
        for _, row in ipairs(mirror.objects) do row:delete() end
        assert.same({}, check(Thing))
        assert.equal(0, Thing:rows():count())
        Thing:drop()
        assert.equal(0, #redis:keys("{walk" .. shape .. "}*"))
      end)
  end

  case("the check sees a ghost, a missing entry and a wrong value", function()
    local g = random.new(5)
    local Thing = g:define("checked", 1)
    g:write(Thing, {}, 50)
    local row = Thing:rows():first()
    row.email = "me"
    row:save()
    assert.same({}, check(Thing))
    local n = redis:hget("{checked}:" .. row.id, "_n")
    local breaks = {
      function() redis:setbit("{checked}/@rows.0", 5000, 1) end,
      function() redis:setbit("{checked}/@rows.0", n, 0) end,
      function() redis:setbit("{checked}/color.0=red", 999, 1) end,
      function() redis:sadd("{checked}/name.0~ghost", 1) end,
      function() redis:setrange("{checked}/tiny.0", n, "\200\200") end,
      function() redis:zadd("{checked}/small", 1, "\0\0\255\255") end,
      function() redis:zrem("{checked}/huge", redis:zrange("{checked}/huge", 0, 0)) end,
      function() redis:set("{checked}/color.0=ghost", "\1") end,
      function() redis:hset("{checked}:" .. row.id, "_n", n + 1) end,
      function() redis:hdel("{checked}/email!", "me") end,
      function() redis:hset("{checked}/email!", "ghost", "x") end,
      function() redis:setrange("{checked}/@ids.0", n * 16, "x") end,
    }
    for _, f in ipairs(breaks) do
      f()
      local problems = check(Thing)
      assert.is_true(#problems > 0)
      redis:flushdb()
      Thing = g:define("checked", 1)
      g:write(Thing, {}, 50)
      row = Thing:rows():first()
      row.email = "me"
      row:save()
      n = redis:hget("{checked}:" .. row.id, "_n")
    end
    Thing:drop()
  end)

  case("a value of more than 512 rows goes from a set to a bitmap, and ordinals are reused",
    function()
      local Thing = define("many", { id = field.integer { primary_key = true, auto = true },
        s = field.string { index = true } })
      local rows = {}
      for i = 1, 512 do rows[i] = { s = "x" } end
      rows[513], rows[514] = { s = "y" }, {}
      rows = Thing:create_many(rows)
      assert.equal("set", redis:type "{many}/s.0~x")
      assert.same({}, check(Thing))
      rows[513].s = "x"
      rows[513]:save()
      assert.equal("string", redis:type "{many}/s.0=x")
      assert.equal("none", redis:type "{many}/s.0~x")
      assert.same({}, check(Thing))
      assert.equal(513, Thing:where { s = "x" }:count())
      for i = 100, 300 do rows[i]:delete() end
      assert.same({}, check(Thing))
      local more = {}
      for i = 1, 250 do more[i] = { s = i % 2 == 0 and "x" or "z" } end
      Thing:create_many(more)
      assert.equal("563", redis:hget("{many}/@meta", "top"))
      assert.same({}, check(Thing))
      assert.equal(312 + 125, Thing:where { s = "x" }:count())
      assert.equal(312 + 125, #Thing:where { s = "x" }:all())
    end)

  case("more than 65,536 rows take a second segment", function()
    local Big = define("big", { id = field.integer { primary_key = true, auto = true },
      kind = field.enum { "even", "odd", index = true }, tag = field.string { index = true },
      n = field.integer { min = 0, max = 100000, index = true },
      z = field.integer { sort = true } })
    for from = 0, 65999, 11000 do
      local list = {}
      for i = 1, 11000 do
        local n = from + i
        list[i] = { kind = n % 2 == 0 and "even" or "odd", n = n, z = n % 10 == 0 and n or nil,
          tag = n % 16384 == 0 and "rare" or "common" }
      end
      Big:create_many(list)
    end
    assert.equal(66000, Big:rows():count())
    assert.equal(33000, Big:where { kind = "even" }:count())
    assert.same({ 16384, 32768, 49152, 65536 }, Big:where { tag = "rare" }:ids())
    assert.same({ 65535, 65536, 65537, 65538 },
      Big:where { n = model.between(65535, 65538) }:ids())
    assert.same({ 66000, 65999 }, Big:rows():order_by("n", "desc"):limit(2):ids())
    assert.same({ 65540, 65530 },
      Big:where { n = model.between(65530, 65545) }:order_by("z", "desc"):limit(2):ids())
    assert.same({ 65990 }, Big:rows():order_by("z", "desc"):offset(1):limit(1):ids())
    assert.same({ 65999 }, Big:where { kind = "odd" }:offset(32999):ids())
    Big:load(7):delete()
    Big:load(65600):delete()
    -- the lowest ordinal that is free comes first
    assert.equal("6", redis:hget("{big}:" .. Big:create({ n = 1 }).id, "_n"))
    assert.equal("65599", redis:hget("{big}:" .. Big:create({ n = 1 }).id, "_n"))
    assert.equal("66000", redis:hget("{big}:" .. Big:create({ n = 1 }).id, "_n"))
    assert.same({}, check(Big))
    Big:drop()
    assert.equal(0, #redis:keys "{big}*")
  end)

  case("eight tasks that race for few rows leave them true", function()
    local g = random.new(99)
    local Race = g:define("race", 2)
    local allowed = { ["model.exists"] = true, ["model.unique"] = true, ["model.gone"] = true }
    local done = 0
    local function attempt(fn)
      local ok, err = pcall(fn)
      if ok then
        done = done + 1
      elseif not (neap.is_error(err) and allowed[err.code]) then
        error(err, 0)
      end
    end
    neap.map(function()
      for _ = 1, 150 do
        local id, dice = "k" .. g:number(6), g:number(4)
        if dice == 1 then
          attempt(function()
            local row = g:attributes(Race)
            row.key = id
            Race:create(row)
          end)
        else
          local row = Race:load(id)
          if row and dice == 4 and g:chance(50) then
            attempt(function() row:delete() end)
          elseif row then
            local new = g:attributes(Race)
            for _, name in ipairs { "tag", "other", "score", "rank", "kind" } do
              if g:chance(60) then row[name] = new[name] end
            end
            attempt(function() row:save() end)
          end
        end
      end
    end, { 1, 2, 3, 4, 5, 6, 7, 8 }, { concurrency = 8 })
    assert.is_true(done > 100)
    assert.same({}, check(Race))
    assert.equal(Race:rows():count(), #Race:rows():all())
    Race:drop()
  end)
end)

describe("a stored definition", function()
  local id = field.integer { primary_key = true, auto = true }

  case("is stored by sync or by the first write, and dropped with all else", function()
    local Thing = define("thing", { id = id, s = field.string { index = true } })
    assert.equal(0, Thing:rows():count())
    assert.same({}, Thing:where { s = "x" }:all())
    assert.equal("created", Thing:sync())
    assert.equal("unchanged", Thing:sync())
    Thing:create { s = "x" }
    Thing:drop()
    assert.equal(0, #redis:keys "{thing}*")
    Thing:create { s = "x" }
    assert.equal("unchanged", Thing:sync())
  end)

  case("is replaced when no index depends on the difference", function()
    define("thing", { id = id, s = field.string { index = true } }):create { s = "x" }
    local Thing = model.define("thing", { id = id, s = field.string { index = true },
      more = field.string() })
    assert.equal("model.schema_changed", code_of(Thing.create, Thing, { more = "x" }))
    assert.equal("model.schema_changed", code_of(function() return Thing:rows():count() end))
    assert.equal("updated", Thing:sync())
    Thing:create { more = "x" }
    assert.same({}, check(Thing))
  end)

  case("of another structure is refused while there are rows", function()
    local old = define("thing", { id = id, n = field.integer { sort = true } })
    local row = old:create { n = 5 }
    for name, fields in pairs {
      ["an index more"] = { n = field.integer { sort = true }, s = field.string { index = true } },
      ["an index less"] = { n = field.integer() },
      ["a field less"] = {},
      ["a unique"] = { n = field.integer { sort = true, unique = true } },
      ["required, and ordered"] = { n = field.integer { sort = true, required = true } },
    } do
      fields.id = id
      local Thing = model.define("thing", fields)
      local err = error_of(Thing.sync, Thing)
      assert.equal("model.schema_changed", err.code, name)
      has(err, "model thing")
    end
    assert.same({ 1 }, old:rows():ids())
    row:delete()
    local Thing = model.define("thing", { id = id,
      n = field.integer { sort = true, unique = true } })
    assert.equal("updated", Thing:sync())
    Thing:create { n = 5 }
    assert.same({}, check(Thing))
  end)

  case("of another primary key starts afresh when no row is left", function()
    local old = define("thing", { id = field.uuid { primary_key = true },
      n = field.integer { min = 0, max = 9, index = true } })
    old:create({ n = 5 }):delete()
    local Thing = model.define("thing", { id = field.string { primary_key = true },
      n = field.integer { min = 0, max = 70000, index = true } })
    assert.equal("updated", Thing:sync())
    Thing:create { id = "a", n = 7 }
    assert.same({}, check(Thing))
    assert.same({ "a" }, Thing:where { n = 7 }:ids())
  end)

  case("with a lower max still finds the rows above it", function()
    local old = define("thing", { id = id, n = field.integer { min = 0, max = 200, index = true } })
    old:create { n = 180 }
    local Thing = model.define("thing", { id = id,
      n = field.integer { min = 0, max = 100, index = true } })
    Thing:sync()
    assert.same({ 1 }, Thing:where { n = model.between(50, nil) }:ids())
    assert.same({ 1 }, Thing:where { n = 180 }:ids())
    Thing:drop()
  end)
end)

describe("a model that is defined anew", function()
  case("leaves what the old one has under way in peace", function()
    for _ = 1, 20 do
      local Thing = define("thing", { id = field.integer { primary_key = true, auto = true },
        s = field.string { index = true } })
      local task = neap.spawn(function() Thing:create { s = "x" } end)
      local list = neap.spawn(function() Thing:create_many { { s = "y" }, { s = "z" } } end)
      local load = neap.spawn(function() Thing:load_many { 1, 2, 3 } end)
      local query = neap.spawn(function() Thing:where({ s = "x" }):all() end)
      neap.sleep(0)
      for _, t in ipairs { task, list, load, query } do t:cancel() end
      Thing = nil -- luacheck: ignore
      model.define("thing", { id = field.string { primary_key = true } })
      collectgarbage()
      collectgarbage()
    end
    neap.sleep(0.02)
    redis:flushdb()
  end)
end)
