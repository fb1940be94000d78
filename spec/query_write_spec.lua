local neap = require "neap"
local check = require "support.model_check"
local case = require "support.case" (it)
local error_of, code_of, failure_of = require "support.failure" (assert)
local model, field, null = neap.model, neap.field, neap.null

local function has(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q in %q"):format(part, tostring(text)))
end

local hooks = {} -- what the running case wants to be called

local function hook(name)
  return function(row) if hooks[name] then hooks[name](row) end end
end

local function fields()
  return {
    id = field.integer { primary_key = true, auto = true },
    n = field.integer { sort = true },
    small = field.integer { min = 0, max = 10000, index = true },
    name = field.string { sort = true },
    kind = field.enum { "a", "b", "c", index = true },
    group = field.string { index = true },
    tags = field.list(field.string) { index = true },
    email = field.string { unique = true },
    born = field.string { immutable = true },
    state = field.string { required = true, default = "new" },
    note = field.string { max = 10 },
  }
end

local Item, Plain

setup(function()
  local all_hooks = {}
  for _, name in ipairs { "before_save", "after_save", "before_delete", "after_delete" } do
    all_hooks[name] = hook(name)
  end
  Item = model.define("write_item", fields(), { hooks = all_hooks })
  Plain = model.define("write_item", fields()) -- the same rows, without hooks
end)
before_each(function()
  hooks = {}
  Item:drop()
end)
after_each(function()
  hooks = {}
  assert.same({}, check(Item))
end)
teardown(function() Item:drop() end)

local function fill(count)
  local list = {}
  for i = 1, count do
    list[i] = { n = i, small = i, name = ("n%05d"):format(i), kind = i % 2 == 0 and "a" or "b",
      group = "g" .. i % 3, tags = { "t" .. i % 2 }, email = "e" .. i, born = "b" .. i }
  end
  return Item:create_many(list)
end

local function everything() return { all = true } end

describe("an update by query", function()
  case("sets fields of the rows that match, and of no other", function()
    fill(700)
    assert.equal(350, Item:where("kind", "a"):update { group = "moved", small = 9999 })
    assert.equal(350, Item:where("group", "moved"):count())
    assert.equal(350, Item:where({ kind = "a", small = 9999 }):count())
    assert.equal(0, Item:where({ kind = "b", small = 9999 }):count())
    assert.equal(2, Item:load(2).n)
    assert.equal(700, Item:rows():update({ note = "all" }, everything()))
    assert.equal(0, Item:where("kind", "c"):update { note = "none" })
    assert.equal(1, Item:where("id", 5):update { note = "five" })
    assert.equal(2, Item:where("email", { "e1", "e2", "absent" }):update { note = "mail" })
    assert.equal("five", Item:load(5).note)
    assert.equal("mail", Item:load(2).note)
  end)

  case("counts the rows that match, also those that have the value already", function()
    fill(10)
    assert.equal(5, Item:where("kind", "a"):update { kind = "a" })
    assert.equal(5, Item:where("kind", "a"):update { kind = "a", note = "x" })
  end)

  case("keeps to limit, offset and order", function()
    fill(20)
    assert.equal(3, Item:rows():order_by("n", "desc"):limit(3):update { note = "last" })
    assert.equal(2, Item:where("kind", "b"):order_by "name":offset(1):limit(2):update {
      note = "odd" })
    local noted = {}
    for _, row in ipairs(Item:rows():all()) do
      if row.note then noted[#noted + 1] = row.id .. row.note end
    end
    assert.same({ "3odd", "5odd", "18last", "19last", "20last" }, noted)
    assert.equal(0, Item:rows():limit(0):update { note = "none" })
    assert.equal(0, Item:where("kind", "b"):offset(50):update { note = "none" })
    Item:drop()
    fill(600)
    assert.equal(400, Item:where("kind", { "a", "b" }):limit(400):update { kind = "c" })
    assert.equal(400, Item:where("kind", "c"):count())
  end)

  case("of the very field that it asks for, or is ordered by, meets each row once", function()
    for _, one in ipairs { { "n", "asc", 100000 }, { "n", "desc", 0 }, { "name", "asc", "z" },
      { "name", "desc", "" }, { "small", "asc", 10000 }, { "small", "desc", 0 } } do
      local name, direction, value = one[1], one[2], one[3]
      Item:drop()
      fill(1500)
      local touched, n = {}, 0
      hooks.before_save = function(row)
        n = n + 1
        assert.is_nil(touched[row.id])
        touched[row.id] = true
      end
      local lowest = name == "name" and "n" or 1
      local query = Item:where(name, model.ge(lowest)):order_by(name, direction)
      assert.equal(600, query:limit(600):update { [name] = value })
      assert.equal(600, n)
      hooks = {}
      assert.equal(600, Item:where(name, model.between(value, value)):count())
      query = Item:where { group = { "g0", "g1" } }:order_by(name, direction)
      local all = query:count()
      assert.equal(all, query:update { [name] = value, group = "moved" })
      assert.equal(0, query:count())
      assert.equal(all, Item:where("group", "moved"):count())
    end
  end)

  case("takes values away with neap.null", function()
    fill(10)
    assert.equal(5, Item:where("kind", "a"):update { note = null, n = null, kind = null,
      tags = null, email = null, small = null, name = null })
    assert.equal(5, Item:where({ kind = null, tags = null, small = null }):count())
    assert.equal(0, Item:where("kind", "a"):count())
    assert.same({ 2, 4, 6, 8, 10 }, { unpack(Item:rows():order_by "n":offset(5):ids()) })
    assert.is_nil(Item:where("email", "e2"):first())
    assert.equal("model.invalid",
      code_of(function() Item:where("kind", "b"):update { state = null } end))
  end)

  case("goes through the hooks of each row", function()
    fill(300)
    local before, after = 0, 0
    hooks.before_save = function(row)
      before = before + 1
      row.note = "h" .. row.id
    end
    hooks.after_save = function() after = after + 1 end
    assert.equal(150, Item:where("kind", "a"):update { small = 5 })
    assert.equal(150, before)
    assert.equal(150, after)
    assert.equal("h300", Item:load(300).note)
  end)

  case("stops where a hook raises: the batches before stay", function()
    fill(600)
    hooks.before_save = function(row)
      if row.id == 500 then error "not this one" end
    end
    has(failure_of(function() Item:rows():update({ note = "x" }, everything()) end), "not this one")
    local n = 0
    for _, row in ipairs(Item:rows():all()) do
      if row.note then n = math.max(n, row.id) end
    end
    assert.is_true(n >= 256 and n < 500, n)
  end)

  case("reports the rows that are refused; the others of their batch are stored", function()
    fill(600)
    local err = error_of(function() Item:where("kind", "a"):update { email = "taken" } end)
    assert.equal("model.unique", err.code)
    assert.equal(1, Item:where("email", "taken"):count())
    local refused = 0
    for _, failure in pairs(err.errors) do
      refused = refused + 1
      assert.equal("model.unique", failure.code)
    end
    assert.equal(255, refused)
    has(err, "255 of 256 rows were refused")
    assert.equal("e4", Item:load(4).email)
    assert.equal("e600", Item:load(600).email)
    assert.equal("model.unique",
      code_of(function() Item:where("id", 3):update { email = "e5" } end))
  end)

  case("with values that cannot be stored is refused, whether rows match or not", function()
    fill(10)
    local saved = 0
    hooks.before_save = function() saved = saved + 1 end
    for name, value in pairs { n = "x", kind = "d", small = 10001, note = ("x"):rep(11),
      tags = { 5 }, born = "later", id = 77, state = null } do
      for _, query in ipairs { Item:where("kind", "a"), Item:where("kind", "c") } do
        local err = error_of(query.update, query, { [name] = value, email = null })
        assert.equal("model.invalid", err.code)
        has(err, "model write_item")
        assert.is_string(err.fields[name])
      end
    end
    assert.equal(0, saved)
    assert.equal("e2", Item:load(2).email)
  end)

  case("gives each row a table of its own", function()
    fill(10)
    hooks.before_save = function(row) row.tags[#row.tags + 1] = "h" .. row.id end
    for _, tags in ipairs { { "x" }, neap.json.array { "x" }, Item:load(1).tags } do
      local before = #tags
      assert.equal(5, Item:where("kind", "a"):update { tags = tags })
      assert.equal(before, #tags)
      assert.equal(before + 1, #Item:load(2).tags)
      assert.equal("h10", Item:load(10).tags[before + 1])
    end
  end)

  case("passes over rows that are gone meanwhile", function()
    fill(20)
    hooks.before_save = function(row)
      if row.id == 4 then
        Plain:load(6):delete()
        neap.redis():del "{write_item}:8"
      end
    end
    assert.equal(8, Item:where("kind", "a"):update { note = "x" })
    hooks = {}
    assert.is_nil(Item:load(6))
    assert.is_nil(Item:load(8))
    assert.equal("x", Item:load(4).note)
    Item:verify { repair = true }
  end)

  case("keeps what others changed in other fields", function()
    fill(20)
    hooks.before_save = function(row)
      if row.id == 2 then
        local other = Plain:load(4)
        other.small = 7777
        other:save()
      end
    end
    assert.equal(10, Item:where("kind", "a"):update { note = "x" })
    assert.equal(7777, Item:load(4).small)
    assert.equal("x", Item:load(4).note)
  end)

  case("of an optimistic model raises the conflict", function()
    local conflict
    local Careful = model.define("write_careful", fields(), { optimistic = true,
      hooks = { before_save = function(row) if conflict then conflict(row) end end } })
    local Other = model.define("write_careful", fields(), { optimistic = true })
    Careful:drop()
    Careful:create_many { { n = 1 }, { n = 2 }, { n = 3 } }
    conflict = function(row)
      if row.id == 1 then
        local other = Other:load(2)
        other.note = "first"
        other:save()
      end
    end
    local err = error_of(function() Careful:rows():update({ note = "mine" }, everything()) end)
    assert.equal("model.conflict", err.code)
    assert.equal("model.conflict", err.errors[2].code)
    assert.equal("first", err.errors[2].stored.note)
    assert.same({ "mine", "first", "mine" }, { unpack(Careful:rows():pluck "note") })
    conflict = nil
    assert.equal(3, Careful:rows():update({ note = "mine" }, everything()))
    assert.same({}, check(Careful))
    Careful:drop()
  end)

  case("takes a row for a reference's value", function()
    local Note = model.define("write_note", { id = field.integer { primary_key = true,
      auto = true }, item = field.ref(Item) { index = true } })
    Note:drop()
    fill(2)
    Note:create_many { { item = 1 }, { item = 1 }, {} }
    local two = Item:load(2)
    assert.equal(2, Note:where("item", Item:load(1)):update { item = two })
    assert.same({ 2, 2, null }, { unpack(Note:rows():pluck "item") })
    assert.equal(2, Note:where({ ["item.kind"] = "a" }):update { item = null })
    assert.equal(3, Note:where("item", null):count())
    Note:drop()
  end)

  case("by several tasks at once leaves each row as one of them says", function()
    fill(400)
    neap.map(function(i) return Item:where("group", { "g0", "g1", "g2" }):update { note = "n" .. i,
      kind = i % 2 == 0 and "a" or "c" } end, { 1, 2, 3, 4 })
    assert.equal(400, Item:where("kind", "a"):count() + Item:where("kind", "c"):count())
    for _, row in ipairs(Item:rows():all()) do assert.is_truthy(row.note:find "^n[1-4]$") end
  end)

  case("says what it expects", function()
    fill(3)
    local one = Item:where("id", 1)
    for _, values in ipairs { {}, "n", 5, true, print } do
      has(failure_of(one.update, one, values), "a table of fields expected")
    end
    has(failure_of(one.update, one), "a table of fields expected")
    for _, values in ipairs { { absent = 1 }, { "n" }, { [1] = "n" }, { save = 1 }, { N = 1 },
      { [true] = 1 }, { n = 1, absent = 1 } } do
      local err = error_of(one.update, one, values)
      assert.equal("model.invalid", err.code)
      has(err, "model write_item: there is no field '")
    end
    has(failure_of(one.update, one, { n = 1 }, { every = true }), "update has no option 'every'")
    has(failure_of(one.update, one, { n = 1 }, true), "options expected, got boolean")
    assert.equal(1, Item:load(1).n)
  end)
end)

describe("a delete by query", function()
  case("removes the rows that match, in batches", function()
    fill(700)
    assert.equal(350, Item:where("kind", "a"):delete())
    assert.equal(0, Item:where("kind", "a"):count())
    assert.equal(350, Item:rows():count())
    assert.equal(0, Item:where("kind", "a"):delete())
    assert.equal(1, Item:where("email", "e1"):delete())
    assert.equal(2, Item:where("id", { 3, 5, 6, 7000 }):delete())
    assert.equal(347, Item:rows():delete(everything()))
    assert.equal(0, Item:rows():count())
    assert.equal(0, Item:rows():delete(everything()))
  end)

  case("keeps to limit, offset and order", function()
    fill(20)
    assert.equal(3, Item:rows():order_by("n", "desc"):limit(3):delete())
    assert.equal(2, Item:where("kind", "b"):order_by "small":offset(1):limit(2):delete())
    assert.equal(0, Item:rows():limit(0):delete())
    assert.same({ 1, 2, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17 },
      { unpack(Item:rows():ids()) })
    Item:drop()
    fill(900)
    assert.equal(600, Item:rows():order_by("n"):limit(600):delete())
    assert.equal(601, Item:rows():order_by "n":first().n)
    assert.equal(290, Item:rows():order_by("n"):offset(10):delete(everything()))
    assert.equal(10, Item:rows():count())
  end)

  case("goes through the hooks; what one raises ends it", function()
    fill(300)
    local before, after = 0, 0
    hooks.before_delete = function() before = before + 1 end
    hooks.after_delete = function() after = after + 1 end
    assert.equal(150, Item:where("kind", "a"):delete())
    assert.equal(150, before)
    assert.equal(150, after)
    hooks = { before_delete = function(row) if row.id == 101 then error "not this one" end end }
    has(failure_of(function() Item:rows():delete(everything()) end), "not this one")
    hooks = {}
    assert.is_table(Item:load(101))
    assert.equal(Item:rows():count(), Item:rows():delete(everything()))
  end)

  case("passes over rows that are gone meanwhile, and two at once count each once", function()
    fill(600)
    local counts = neap.map(function() return Item:where("kind", "a"):delete() end, { 1, 2, 3 })
    assert.equal(300, counts[1] + counts[2] + counts[3])
    assert.equal(300, Item:rows():count())
    hooks.before_delete = function(row)
      local other = row.id == 1 and Plain:load(3)
      if other then pcall(other.delete, other) end
    end
    local n = Item:where("kind", "b"):limit(10):delete()
    assert.is_true(n == 9 or n == 10)
    assert.same({}, { unpack(Item:where("id", { 1, 3, 5, 7, 9, 11, 13, 15, 17, 19 }):ids()) })
  end)

  case("does to what refers to the rows as on_delete says", function()
    for _, on_delete in ipairs { "cascade", "nullify", "restrict" } do
      local Owner = model.define("write_item", fields())
      local Note = model.define("write_note", { id = field.integer { primary_key = true,
        auto = true }, item = field.ref(Owner) { on_delete = on_delete } })
      Note:drop()
      fill(300)
      local list = {}
      for i = 1, 300 do list[i] = { item = i } end
      Note:create_many(list)
      Note:create {}
      if on_delete == "restrict" then
        assert.equal("model.restricted", code_of(function() Owner:where("kind", "a"):delete() end))
        assert.equal(300, Owner:rows():count())
        assert.equal(150, Note:where({ ["item.kind"] = "a" }):delete())
      end
      assert.equal(150, Owner:where("kind", "a"):delete())
      assert.equal(on_delete == "cascade" and 151 or on_delete == "nullify" and 301 or 151,
        Note:rows():count())
      assert.equal(on_delete == "nullify" and 151 or 1, Note:where("item", null):count())
      assert.same({}, check(Note))
      Note:drop()
      Item:drop()
    end
  end)

  case("of a tree takes what hangs on its rows, even when it matches itself", function()
    local Node = model.define("write_node", { id = field.integer { primary_key = true,
      auto = true }, parent = field.ref "self" { on_delete = "cascade" },
      kind = field.enum { "a", "b", index = true } })
    Node:drop()
    for i = 1, 40 do
      Node:create { parent = i > 1 and math.floor(i / 2) or nil, kind = i <= 10 and "a" or "b" }
    end
    assert.is_true(Node:where("kind", "a"):delete() <= 10)
    assert.equal(0, Node:rows():count())
    assert.same({}, check(Node))
    Node:drop()
  end)

  case("says what it expects", function()
    fill(3)
    local one = Item:where("id", 1)
    has(failure_of(one.delete, one, { every = true }), "delete has no option 'every'")
    has(failure_of(one.delete, one, true), "options expected, got boolean")
    assert.equal(3, Item:rows():count())
  end)
end)

describe("a write by query that would be meant for every row", function()
  case("is refused unless { all = true } says so, or a limit bounds it", function()
    fill(5)
    local any, all, none = model.any, model.all, model.none
    for _, query in ipairs { Item:rows(), Item:rows():order_by "n", Item:rows():offset(2),
      Item:where(all {}), Item:where(none {}), Item:where(any { all {} }),
      Item:where(any { all { kind = "a" }, all {} }), Item:where(none { all {} }) } do
      for what, ask in pairs { update = function(...) return query:update({ n = 1 }, ...) end,
        delete = function(...) return query:delete(...) end } do
        for _, options in ipairs { {}, { all = false } } do
          local err = error_of(ask, options)
          assert.equal("model.invalid", err.code)
          has(err, ("model write_item: %s without a condition takes { all = true }"):format(what))
        end
        assert.equal("model.invalid", code_of(ask))
      end
    end
    assert.equal(5, Item:rows():count())
    assert.equal(2, Item:rows():limit(2):update { note = "x" })
    assert.equal(3, Item:rows():offset(2):delete(everything()))
    assert.equal(2, Item:rows():limit(5):delete())
  end)
end)

describe("a write by query that is cancelled", function()
  case("leaves whole rows, at whatever wait it was", function()
    for turns = 0, 24 do
      Item:drop()
      fill(300)
      local task = neap.spawn(turns % 2 == 0 and function()
        Item:where("kind", "a"):update { group = "moved", small = 9999, n = null }
      end or function() Item:where("kind", "a"):delete() end)
      for _ = 1, turns do neap.sleep(0) end
      task:cancel()
      pcall(task.join, task)
      assert.same({}, check(Item))
      assert.equal(150, Item:where("kind", "b"):count())
      assert.equal(Item:where("group", "moved"):count(), Item:where("small", 9999):count())
    end
  end)
end)
