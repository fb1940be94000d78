local neap = require "neap"
local check = require "support.model_check"
local case = require "support.case" (it)
local code_of = select(2, require "support.failure" (assert))
local model, field = neap.model, neap.field
local redis = neap.redis()

-- host defines the model as another host does.
local function host(fields, options)
  fields.id = field.integer { primary_key = true, auto = true }
  options = options or {}
  options.redis = options.redis or redis
  return model.define("synced", fields, options)
end

local function fill(Thing, n)
  local rows = {}
  for i = 1, n do rows[i] = { a = i % 7, s = "s" .. i % 5, t = i } end
  Thing:create_many(rows)
end

describe("a model whose definition changes", function()
  local Old
  before_each(function()
    Old = host { a = field.integer {}, s = field.string { index = true },
      t = field.integer { required = true, sort = true } }
    Old:drop()
    fill(Old, 300)
  end)
  after_each(function()
    Old:drop()
    assert.equal(0, #redis:keys "{synced}*")
  end)

  case("queries of a host that takes a new build over go on, none ends early", function()
    local function fields(is_ordered)
      return { a = field.integer {}, s = field.string { index = true },
        t = field.integer { required = true, sort = is_ordered, index = not is_ordered or nil } }
    end
    local Reader = host(fields(true))
    assert.equal(300, #Reader:rows():order_by("t"):all())
    local seen = 0
    local ok, e = pcall(function()
      for _ in Reader:rows():order_by("t"):each() do
        seen = seen + 1
        if seen == 10 then -- the index is dropped and built anew while it is walked
          local Without = host { a = field.integer {}, s = field.string { index = true },
            t = field.integer {} }
          Without:sync()
          host(fields(true)):sync()
        end
      end
    end)
    assert.is_true(ok and seen == 300 or neap.is_error(e, "model.schema_changed"), tostring(e))
    for _ = 1, 3 do
      local counts = neap.map(function(i)
        if i % 2 == 0 then return #Reader:rows():order_by("t"):all() end
        return Reader:where("s", "s1"):count()
      end, { 1, 2, 3, 4, 5, 6 })
      assert.same({ 60, 300, 60, 300, 60, 300 }, counts)
    end
  end)

  case("a drop that is interrupted is finished by sync, and nobody writes between", function()
    local task = neap.spawn(Old.drop, Old)
    while redis:hget("{synced}/@meta", "gen") ~= "dropping" do neap.sleep(0) end
    task:cancel()
    pcall(task.join, task)
    local ok, e = pcall(Old.create, Old, { t = 1 })
    assert.is_true(ok or neap.is_error(e, "model.schema_changed"), tostring(e))
    Old:sync()
    fill(Old, 20)
    assert.same({}, check(Old))
  end)

  case("a drop beside writers leaves no row without its entries", function()
    local writers = {}
    for i = 1, 8 do
      writers[i] = neap.spawn(function()
        for n = 1, 50 do pcall(Old.create, Old, { t = n, s = "x" }) end
      end)
    end
    Old:drop()
    for _, writer in ipairs(writers) do writer:join() end
    assert.same({}, check(Old))
  end)

  case("rows without the meta hash are not taken for none", function()
    redis:del "{synced}/@meta"
    assert.equal("model.damaged", code_of(Old.sync, Old))
    assert.equal("model.damaged", code_of(Old.create, Old, { t = 1 }))
    Old:verify { repair = true }
    assert.equal("unchanged", (Old:sync()))
    Old:create { t = 1 }
    assert.same({}, check(Old))
  end)

  case("two syncs at once, of two definitions, leave a whole index", function()
    local function with(name)
      local fields = { a = field.integer {}, s = field.string { index = true },
        t = field.integer { required = true, sort = true } }
      fields[name] = name == "a" and field.integer { index = true } or fields[name]
      return host(fields)
    end
    for _ = 1, 5 do
      local A, B = with "a", with "none"
      neap.map(function(m) pcall(m.sync, m) end, { A, B, A })
      A:sync()
      assert.equal(#A:where("a", 3):all(), A:where("a", 3):count())
      assert.same({}, check(A))
      B:sync()
    end
  end)

  case("a compound index under construction is said to be so", function()
    local function compound()
      return host({ a = field.integer { index = true }, s = field.string { index = true },
        t = field.integer { required = true, sort = true }, u = field.integer {} },
        { indexes = { { "s", "u" } } })
    end
    local New = compound()
    local ok = pcall(New.sync, New, { progress = function() error "stop" end })
    assert.is_false(ok)
    local Other = compound()
    local function ask() return Other:where("s", "s1"):order_by("u"):all() end
    pcall(ask) -- takes the stored builds over
    assert.equal("model.building", code_of(ask))
    New:sync()
    assert.equal(60, #New:where("s", "s1"):order_by("u"):all())
  end)
end)

describe("creates and upserts", function()
  case("with given and counted keys in one batch overwrite nothing", function()
    local Thing = model.define("mixed", { id = field.integer { primary_key = true, auto = true },
      s = field.string { index = true } })
    Thing:drop()
    Thing:create { id = 1, s = "precious" }
    local rows = Thing:create_many { { id = 5, s = "five" }, { s = "counted" } }
    assert.equal("precious", Thing:load(1).s)
    assert.equal("counted", Thing:load(rows[2].id).s)
    assert.equal(3, Thing:rows():count())
    local row = Thing:upsert { s = "another" }
    row.s = "changed"
    row:save()
    assert.equal("changed", Thing:load(row.id).s)
    assert.same({}, check(Thing))
    Thing:drop()
  end)

  case("of a row that comes and goes are never told that it is gone", function()
    local Thing = model.define("passing", { id = field.string { primary_key = true },
      n = field.integer { index = true } })
    Thing:drop()
    neap.map(function(i)
      if i % 2 == 0 then
        Thing:upsert { id = "x", n = i }
      else
        local row = Thing:load "x"
        if row then pcall(row.delete, row) end
      end
    end, (function()
      local list = {}
      for i = 1, 400 do list[i] = i end
      return list
    end)(), { concurrency = 20 })
    assert.same({}, check(Thing))
    Thing:drop()
  end)
end)
