local neap = require "neap"
local check = require "support.model_check"
local random = require "support.model_random"
local eventually = require "support.eventually"
local case = require "support.case" (it)
local model, field, null = neap.model, neap.field, neap.null
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
local function define(name, fields, options)
  local m = model.define(name, fields, options)
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
          assert.same({}, random.compare(Thing, mirror))
        end
        for _, row in ipairs(mirror.objects) do row:delete() end
        assert.same({}, check(Thing))
        assert.equal(0, Thing:rows():count())
        Thing:drop()
        assert.equal(0, #redis:keys("{walk" .. shape .. "}*"))
      end)
  end

  -- broken makes a model of a shape for each of a list of functions, and expects that
  -- the check sees what the function broke.
  local function broken(shape, prepare, breaks)
    for i, break_it in ipairs(breaks) do
      local g = random.new(5)
      local Thing = g:define("checked", shape)
      g:write(Thing, {}, 50)
      local row = prepare(Thing)
      assert.same({}, check(Thing))
      break_it(row, tonumber(redis:hget("{checked}:" .. row:primary_key(), "_n")))
      assert.is_true(#check(Thing) > 0, "what was broken first: " .. i)
      Thing:drop()
    end
  end

  case("the check sees a ghost, a missing entry and a wrong value", function()
    broken(1, function(Thing)
      local row = Thing:rows():first()
      row.email = "me"
      return row:save()
    end, {
      function() redis:setbit("{checked}/@rows.0", 5000, 1) end,
      function(_, n) redis:setbit("{checked}/@rows.0", n, 0) end,
      function() redis:setbit("{checked}/color.0=red", 999, 1) end,
      function() redis:sadd("{checked}/name.0~ghost", 1) end,
      function(_, n) redis:setrange("{checked}/tiny.0", n, "\200\200") end,
      function() redis:zadd("{checked}/small", 1, "\0\0\255\255") end,
      function() redis:zrem("{checked}/huge", redis:zrange("{checked}/huge", 0, 0)) end,
      function() redis:set("{checked}/color.0=ghost", "\1") end,
      function(row, n) redis:hset("{checked}:" .. row.id, "_n", n + 1) end,
      function() redis:hdel("{checked}/email!", "me") end,
      function() redis:hset("{checked}/email!", "ghost", "x") end,
      function(_, n) redis:setrange("{checked}/@ids.0", n * 16, "x") end,
    })
  end)

  case("the check sees what is wrong with lists, dates, strings in order and expiries", function()
    local member = "ab\0\255\0\0\0\0\0" -- but for the last byte of the ordinal
    broken(4, function(Thing)
      return Thing:create { id = "new", due = "2024-02-29", tags = { "x", "y" }, name = "ab\0",
        born = "2000-01-01", parent = "p", raw = "r" }
    end, {
      function(_, n) redis:srem("{checked}/tags.0~x", n) end,
      function() redis:sadd("{checked}/tags.0~z", 3) end,
      function(_, n) redis:setbit("{checked}/tags.0?", n, 1) end,
      function(_, n) redis:setrange("{checked}/due.0", n * 4 + 3, "\1") end,
      function(row) redis:hset("{checked}:" .. row.id, "tags", "1:x9:y") end,
      function(row) redis:hset("{checked}:" .. row.id, "born", "2000-01-02") end,
      function() redis:zadd("{checked}/name<", 0, member .. "\255") end,
      function(_, n) redis:zrem("{checked}/name<", member .. string.char(n)) end,
      function() redis:del("{checked}/name,born=ab\0") end,
      function() redis:zadd("{checked}/parent,raw,due=1:p1:r", 5, "\0\0\1\1") end,
      function() redis:zadd("{checked}/parent,raw,due=1:p1:q", 5, "\0\0\0\1") end,
    })
    broken(5, function(Thing) return Thing:create { x = "new", day = "2024-02-29" } end, {
      function(_, n) redis:zrem("{checked}/@expires", "\0\0\0" .. string.char(n)) end,
      function(row) redis:hset("{checked}:" .. row:primary_key(), "_e", 99999999999999) end,
      function(row) redis:hset("{checked}:" .. row:primary_key(), "day", "2024-02-28") end,
    })
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

  case("eight tasks that increment, upsert and expire the same rows leave them true", function()
    local g = random.new(7)
    local Race = g:define("race", 5)
    local allowed = { ["model.unique"] = true, ["model.gone"] = true, ["model.invalid"] = true }
    local total, first = 0, Race:create { x = "k", day = "2000-01-01", count = 0, level = 0 }
    local function attempt(fn)
      local ok, err = pcall(fn)
      if not ok and not (neap.is_error(err) and allowed[err.code]) then error(err, 0) end
      return ok
    end
    neap.map(function()
      for _ = 1, 120 do
        local given = g:attributes(Race)
        given.x, given.day, given.level = "k", "2000-01-0" .. g:number(5) + 1, nil
        local dice = g:number(6)
        local row = Race:load { x = given.x, day = given.day }
        if dice == 1 then
          attempt(function() Race:increment(first:primary_key(), { count = 2, level = 0 }) end)
          total = total + 2
        elseif dice == 2 or not row then
          attempt(function() Race:upsert(given) end)
        elseif dice == 3 then
          attempt(function() row:increment("count", 1) end)
        elseif dice == 4 then
          attempt(function() row:expire(g:one_of { 0.001, 1000, false }) end)
        elseif dice == 5 then
          row.name, row.tags, row.count = given.name, given.tags, given.count
          attempt(function() row:save() end)
        else
          attempt(function() row:delete() end)
        end
      end
    end, { 1, 2, 3, 4, 5, 6, 7, 8 }, { concurrency = 8 })
    Race:sweep()
    assert.same({}, check(Race))
    assert.equal(total, Race:load(first:primary_key()).count)
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

  case("is that of an old writer too, if only plain fields are new", function()
    local old = define("thing", { id = id, s = field.string { index = true } })
    old:create { s = "x" }
    local Thing = model.define("thing", { id = id, s = field.string { index = true },
      more = field.string(), body = field.text(), words = field.list(field.string) })
    Thing:create { s = "x", more = "y", words = { "a" } }
    old:create { s = "x" }
    assert.equal("updated", Thing:sync())
    assert.equal("unchanged", Thing:sync())
    local row = old:load(2)
    row.s = "z"
    row:save()
    assert.equal("y", Thing:load(2).more)
    assert.same({ 1, 3 }, old:where { s = "x" }:ids())
    assert.same({ 2 }, Thing:where { s = "z" }:ids())
    assert.same({}, check(Thing))
  end)

  case("of another primary key is refused while there are rows", function()
    local old = define("thing", { id = id, n = field.integer { sort = true } })
    local row = old:create { n = 5 }
    local n = field.integer { sort = true }
    for name, Thing in pairs {
      ["another type"] = model.define("thing", { id = field.uuid { primary_key = true }, n = n }),
      ["another name"] = model.define("thing", { key = id, n = n }),
      ["a composite one"] = model.define("thing", { id = field.integer(), n = n },
        { primary_key = { "id", "n" } }),
    } do
      local err = error_of(Thing.sync, Thing)
      assert.equal("model.schema_changed", err.code, name)
      has(err, "model thing")
      assert.same({ 1 }, old:rows():ids())
    end
    row:delete()
    local Thing = model.define("thing", { n = n, id = field.integer() },
      { primary_key = { "id", "n" } })
    assert.equal("updated", Thing:sync())
    Thing:create { id = 3, n = 5 }
    assert.same({}, check(Thing))
  end)

  case("can get a ttl, and not lose it while there are rows", function()
    local fields = { id = id, n = field.integer { sort = true } }
    local old = define("thing", fields)
    old:create { n = 5 }
    local Thing = model.define("thing", fields, { ttl = true })
    assert.equal("updated", Thing:sync())
    assert.equal("model.schema_changed", code_of(old.create, old, { n = 5 }))
    Thing:create({ n = 6 }, { ttl = 1000 })
    assert.is_nil(Thing:load(1):expires_at())
    assert.same({ 1, 2 }, Thing:rows():order_by("n"):ids())
    assert.same({}, check(Thing))
    local err = error_of(old.sync, old)
    assert.equal("model.schema_changed", err.code)
    has(err, "ttl")
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

describe("sync", function()
  local id = field.integer { primary_key = true, auto = true }
  local words = { "a", "b", "a\0", "", ("long"):rep(20) }

  local plain_fields = { id = id, s = field.string(), n = field.integer(),
    tags = field.list(field.string), day = field.date(), u = field.string() }

  -- plain and indexed are one model before and after it got its indexes.
  local function plain() return define("evolving", plain_fields) end

  local function indexed()
    return model.define("evolving", { id = id, s = field.string { index = true, sort = true },
      n = field.integer { min = -10, max = 1000, index = true, sort = true },
      tags = field.list(field.string) { index = true },
      day = field.date { index = true }, u = field.string { unique = true } },
      { indexes = { { "s", "n" }, { "s", "day", "n" } } })
  end

  local function attributes(i)
    return { s = words[i % 6 + 1], n = i % 7 > 0 and i % 900 or nil, u = "u" .. i,
      tags = i % 3 > 0 and { words[i % 5 + 1], words[i % 4 + 1] } or nil,
      day = ("20%02d-01-%02d"):format(i % 90 + 10, i % 28 + 1) }
  end

  local function fill(Thing, n)
    local list = {}
    for i = 1, n do list[i] = attributes(i) end
    return Thing:create_many(list)
  end

  -- answers compares what queries find with a look at every row.
  local function answers(Thing)
    local by_s, by_tag, by_n, with_n = {}, {}, {}, 0
    for row in Thing:rows():each() do
      if row.s then by_s[row.s] = (by_s[row.s] or 0) + 1 end
      if row.n then
        by_n[row.n], with_n = (by_n[row.n] or 0) + 1, with_n + 1
      end
      local has_tag = {}
      for _, tag in ipairs(row.tags or {}) do
        if not has_tag[tag] then by_tag[tag] = (by_tag[tag] or 0) + 1 end
        has_tag[tag] = true
      end
      assert.equal(row.id, Thing:where({ u = row.u }):first().id)
    end
    for s, n in pairs(by_s) do assert.equal(n, Thing:where({ s = s }):count()) end
    for tag, n in pairs(by_tag) do assert.equal(n, Thing:where({ tags = tag }):count()) end
    for v, n in pairs(by_n) do assert.equal(n, Thing:where({ n = v }):count()) end
    assert.equal(with_n, Thing:where({ n = model.between(nil, 1000) }):count())
  end

  case("builds indexes while eight tasks write, and queries answer then", function()
    fill(plain(), 2500)
    local Thing = indexed()
    local is_over, refused, next_number, written = false, {}, 10000, 0
    local writers = neap.spawn(function()
      neap.map(function(task)
        local g, mine = random.new(task), {}
        for i = task, 2500, 8 do mine[#mine + 1] = i end
        while not is_over do
          next_number = next_number + 1
          local dice, new = g:number(3), attributes(next_number)
          local ok, err = pcall(function()
            if dice == 1 then
              mine[#mine + 1] = Thing:create(new).id
            elseif dice == 2 then
              local row = Thing:load(g:one_of(mine))
              for _, name in ipairs { "s", "n", "tags", "day", "u" } do row[name] = new[name] end
              row:save()
            else
              local at = g:number(#mine)
              Thing:load(mine[at]):delete()
              table.remove(mine, at)
            end
            written = written + 1
          end)
          if not ok then
            refused[tostring(neap.is_error(err) and err.code or err)] = true
            neap.sleep(0)
          end
        end
      end, { 1, 2, 3, 4, 5, 6, 7, 8 }, { concurrency = 8 })
    end)
    neap.sleep(0.01)
    local calls, last, of = 0, 0, 0
    local status, built = Thing:sync { progress = function(done, total, what)
      calls = calls + 1
      assert.is_true(done > last and done <= total)
      last, of = done, total
      has(what, "tags")
      assert.equal("model.building",
        code_of(function() return Thing:where({ s = "a" }):count() end))
    end }
    local during = written
    eventually(function() return written > during + 50 end, "the tasks write on")
    is_over = true
    writers:join()
    assert.equal("updated", status)
    table.sort(built)
    assert.same({ "day", "n", "s", "s,day,n", "s,n", "tags", "u" }, built)
    assert.is_true(calls >= 3 and last == of)
    refused["model.schema_changed"] = nil -- before the first step of sync
    assert.same({}, refused)
    assert.same({}, check(Thing))
    answers(Thing)
    assert.equal("unchanged", Thing:sync())
  end)

  -- interrupt begins a sync and cancels it after its first portion; returns its end.
  local function interrupt(Thing)
    local reached
    local task = neap.spawn(function()
      Thing:sync { progress = function(done)
        reached = done
        neap.sleep(60)
      end }
    end)
    eventually(function() return reached end, "the first portion is done")
    task:cancel()
    return reached
  end

  case("that is interrupted goes on from there", function()
    fill(plain(), 2500)
    local Thing = indexed()
    local reached = interrupt(Thing)
    assert.equal("model.building", code_of(function() return Thing:where({ s = "a" }):ids() end))
    assert.same({}, check(Thing))
    assert.equal("u1", Thing:load(1).u)
    Thing:create(attributes(3000))
    local row = Thing:load(2400)
    row.s, row.u = "changed", "changed"
    row:save()
    Thing:load(5):delete()
    assert.same({}, check(Thing))
    local first
    assert.equal("updated", Thing:sync { progress = function(done) first = first or done end })
    assert.is_true(first > reached)
    assert.same({}, check(Thing))
    assert.same({ 2400 }, Thing:where({ s = "changed" }):ids())
    answers(Thing)
  end)

  case("that is interrupted can be taken back, or followed by another", function()
    fill(plain(), 1100)
    interrupt(indexed())
    local Plain = model.define("evolving", plain_fields)
    assert.equal("updated", Plain:sync())
    assert.same({}, check(Plain))
    assert.same({}, redis:keys "{evolving}/[a-z]*")
    interrupt(indexed())
    local Other = model.define("evolving", { id = id, s = field.string { index = true },
      n = field.integer { min = 0, max = 100000, index = true },
      tags = plain_fields.tags, day = plain_fields.day, u = field.string { unique = true } })
    interrupt(Other)
    assert.same({}, check(Other))
    assert.equal("updated", Other:sync())
    assert.same({}, check(Other))
    assert.same({ 7 }, Other:where({ u = "u7" }):ids())
    assert.same({ 900 - 7, 900 - 1 }, Other:where({ n = { 900 - 7, 900 - 1 } }):ids())
  end)

  case("cancelled at any turn leaves what the next one completes", function()
    for turns = 0, 24, 2 do
      fill(plain(), 1100)
      local Thing = indexed()
      local task = neap.spawn(Thing.sync, Thing)
      for _ = 1, turns do neap.sleep(0) end
      task:cancel()
      if turns % 4 == 0 then Thing = indexed() end -- by another host
      local status = Thing:sync()
      assert.is_true(status == "updated" or status == "unchanged")
      assert.same({}, check(Thing))
      assert.equal(1, Thing:where({ u = "u7" }):count())
    end
  end)

  case("drops what is no index any more, and builds it anew when it is one again", function()
    local old = define("thing", { id = id, s = field.string { index = true, sort = true },
      n = field.integer { sort = true }, s2 = field.string { index = true } },
      { indexes = { { "s", "n" } } })
    old:create_many { { s = "x", n = 1, s2 = "y" }, { s = "x", n = 2 } }
    local fields = { id = id, s = field.string(), n = field.integer(),
      s2 = field.string { index = true } }
    local Thing = model.define("thing", fields)
    assert.equal("updated", Thing:sync())
    assert.same({}, redis:keys "{thing}/s[.<]*")
    assert.same({}, redis:keys "{thing}/s,n*")
    assert.same({}, redis:keys "{thing}/n*")
    assert.equal("model.unindexed", code_of(function() return Thing:where { s = "x" } end))
    assert.same({ 1 }, Thing:where({ s2 = "y" }):ids())
    assert.equal("model.schema_changed", code_of(old.create, old, { s = "x" }))
    Thing:create { s = "x", n = 3 }
    assert.same({}, check(Thing))
    fields.s = field.string { index = true }
    Thing = model.define("thing", fields, { indexes = { { "s", "n" } } })
    assert.equal("updated", Thing:sync())
    assert.same({ 1, 2, 3 }, Thing:where({ s = "x" }):ids())
    assert.is_true(#redis:keys "{thing}/s#*" > 0)
    assert.is_true(#redis:keys "{thing}/s,n#*" > 0)
    assert.same({}, check(Thing))
    assert.equal("unchanged", Thing:sync())
    Thing:drop()
    assert.same({}, redis:keys "{thing}*")
  end)

  case("of other limits stores the numbers in another width", function()
    local function with(min, max)
      return model.define("thing", { id = id,
        n = field.integer { min = min, max = max, index = true } })
    end
    define("thing", { id = id }):drop()
    with(0, 200):create_many { { n = 0 }, { n = 200 }, {} }
    for _, limits in ipairs { { 0, 70000 }, { -5, 200 }, { 0, 250 }, { -2 ^ 53, 2 ^ 53 } } do
      local Thing = with(limits[1], limits[2])
      assert.equal("updated", Thing:sync())
      assert.same({}, check(Thing))
      assert.same({ 2 }, Thing:where({ n = model.between(100, nil) }):ids())
      assert.same({ 1 }, Thing:where({ n = 0 }):ids())
      assert.same({ 3 }, Thing:where({ n = null }):ids())
    end
    local Thing = with(1, 300)
    local err = error_of(Thing.sync, Thing)
    assert.equal("model.schema_changed", err.code)
    has(err, "row 1: ")
    assert.equal("model.building", code_of(function() return Thing:where({ n = 200 }):ids() end))
    local row = Thing:load(1)
    row.n = 7
    row:save()
    assert.equal("updated", Thing:sync())
    assert.same({}, check(Thing))
    assert.same({ 1 }, Thing:where({ n = 7 }):ids())
  end)

  case("finds the rows that stand in the way of a unique index", function()
    local old = define("thing", { id = id, u = field.string(), n = field.integer() })
    old:create_many { { u = "a", n = 5 }, { u = "b", n = 5 }, { u = "a" }, {}, {} }
    local Thing = model.define("thing", { id = id, u = field.string { unique = true },
      n = field.integer() })
    for _ = 1, 2 do
      local err = error_of(Thing.sync, Thing)
      assert.equal("model.unique", err.code)
      has(err, "u")
      has(err, "a")
      assert.equal("model.building", code_of(function() return Thing:where({ u = "b" }):ids() end))
      assert.same({}, check(Thing))
    end
    -- writers keep to it from the beginning
    assert.equal("model.unique", code_of(Thing.create, Thing, { u = "a" }))
    Thing:load(3):delete()
    local c = Thing:create { u = "c" }
    assert.equal("updated", Thing:sync())
    assert.same({}, check(Thing))
    assert.same({ 1 }, Thing:where({ u = "a" }):ids())
    assert.same({ c.id }, Thing:where({ u = "c" }):ids())
    assert.equal("model.unique", code_of(Thing.create, Thing, { u = "b" }))
  end)

  case("finds the rows without a value that is required and ordered", function()
    local old = define("thing", { id = id, n = field.integer { sort = true } })
    old:create_many { { n = 5 }, {}, { n = 3 } }
    local Thing = model.define("thing", { id = id,
      n = field.integer { sort = true, required = true } })
    local err = error_of(Thing.sync, Thing)
    assert.equal("model.schema_changed", err.code)
    has(err, "row 2")
    local row = Thing:load(2)
    row.n = 4
    row:save()
    assert.equal("updated", Thing:sync())
    assert.same({ 3, 2, 1 }, Thing:rows():order_by("n"):ids())
    assert.same({}, check(Thing))
  end)

  case("leaves a host of the old definition refused, and one of the same goes on", function()
    local other, third = neap.redis { pool = 4 }, neap.redis { pool = 3 }
    local function fields(options)
      return { id = id, s = field.string(options), n = field.integer { index = true } }
    end
    local old = define("thing", fields())
    local Same = model.define("thing", fields { index = true }, { redis = third })
    local Thing = model.define("thing", fields { index = true }, { redis = other })
    local row = old:create { s = "x", n = 1 }
    assert.equal("model.schema_changed", code_of(Same.create, Same, { s = "x" }))
    assert.equal("model.schema_changed",
      code_of(function() return Same:where({ n = 1 }):count() end))
    assert.equal("updated", Thing:sync())
    row.s = "y"
    assert.equal("model.schema_changed", code_of(row.save, row))
    assert.equal("model.schema_changed", code_of(row.delete, row))
    assert.equal("model.schema_changed", code_of(row.increment, row, "n"))
    assert.equal("model.schema_changed", code_of(old.create, old, { s = "z" }))
    assert.equal("model.schema_changed",
      code_of(function() return old:where({ n = 1 }):ids() end))
    assert.equal("model.schema_changed", code_of(function() return old:rows():all() end))
    assert.same({ 1 }, Same:where({ s = "x" }):ids())
    Same:create { s = "x" }
    assert.same({ 1, 2 }, Thing:where({ s = "x" }):ids())
    assert.same({}, check(Same))
    other:close()
    third:close()
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
