local neap = require "neap"
local check = require "support.model_check"
local case = require "support.case" (it)
local error_of, code_of = require "support.failure" (assert)
local model, field, null = neap.model, neap.field, neap.null
local redis = neap.redis()

local function has(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q in %q"):format(part, tostring(text)))
end

-- define makes a model anew.
local function define(name, fields, options)
  local m = model.define(name, fields, options)
  m:drop()
  return m
end

-- batches runs fn and returns how many batches of writes the model sent meanwhile:
-- its journal has the numbers of the last two.
local function batches(m, fn)
  local function last()
    local number = 0
    for _, key in ipairs(redis:keys("{" .. m.name .. "}/@journal:*")) do
      for _, text in ipairs(redis:hvals(key)) do
        number = math.max(number, tonumber(text:match("^%d+")))
      end
    end
    return number
  end
  local before = last()
  fn()
  return last() - before
end

describe("saves of one row by several tasks", function()
  local Doc
  before_each(function()
    local fields = { id = field.string { primary_key = true }, n = field.integer() }
    for i = 1, 50 do fields["f" .. i] = field.integer { index = i % 2 == 0 } end
    Doc = define("doc", fields)
  end)

  case("of different fields are all kept", function()
    Doc:create { id = "a" }
    local one, two = Doc:load "a", Doc:load "a"
    one.f1, two.f2 = 1, 2
    neap.all { function() one:save() end, function() two:save() end }
    assert.same({ id = "a", f1 = 1, f2 = 2 }, Doc:load("a"):to_table())
  end)

  case("of different fields are all kept by many, without conflicts", function()
    Doc:create { id = "a" }
    local rows, tasks = {}, {}
    for i = 1, 50 do
      rows[i] = Doc:load "a"
      rows[i]["f" .. i] = i
      tasks[i] = function() rows[i]:save() end
    end
    local want = { id = "a" }
    for i = 1, 50 do want["f" .. i] = i end
    -- one batch each, as one row's writes go one after the other: a conflict would take
    -- a second one
    assert.equal(50, batches(Doc, function() neap.all(tasks) end))
    assert.same(want, Doc:load("a"):to_table())
    assert.same({}, check(Doc))
  end)

  case("of one field: the last one's is kept, the index agrees", function()
    Doc:create { id = "a" }
    local tasks = {}
    for i = 1, 20 do
      tasks[i] = function()
        local row = Doc:load "a"
        row.f2 = i
        row:save()
      end
    end
    neap.all(tasks)
    assert.equal(1, Doc:where { f2 = Doc:load("a").f2 }:count())
    assert.same({}, check(Doc))
  end)

  case("of different rows go out together", function()
    local rows, tasks = {}, {}
    for i = 1, 100 do rows[i] = Doc:create { id = "r" .. i } end
    for i, row in ipairs(rows) do
      row.n = i
      tasks[i] = function() row:save() end
    end
    assert.is_true(batches(Doc, function() neap.all(tasks) end) <= 4)
    for i = 1, 100 do assert.equal(i, Doc:load("r" .. i).n) end
  end)
end)

describe("save_many", function()
  local User
  before_each(function()
    User = define("user", { id = field.string { primary_key = true },
      age = field.integer { min = 0, max = 99, index = true }, email = field.string {
      unique = true }, at = field.time() })
  end)

  case("saves each, and shows what others changed", function()
    local rows = User:create_many { { id = "a" }, { id = "b", age = 1 }, { id = "c", age = 3 } }
    local other = User:load "b"
    other.email = "x"
    other:save()
    rows[1].age, rows[2].age, rows[2].at = 1, 2, "1970-01-01T00:00:07Z"
    assert.equal(rows, User:save_many(rows))
    assert.same({ 1, 2, 3 }, User:rows():pluck "age")
    assert.same({ id = "b", age = 2, email = "x", at = 7 }, rows[2]:to_table())
    assert.same({}, User:save_many {})
    assert.same({}, check(User))
  end)

  case("tells which were refused, the others are saved", function()
    local rows = User:create_many { { id = "a", email = "x" }, { id = "b" }, { id = "c" },
      { id = "d" } }
    User:load("c"):delete()
    for i, row in ipairs(rows) do row.age, row.email = i, i == 2 and "x" or row.email end
    local err = error_of(User.save_many, User, rows)
    assert.same({ nil, "model.unique", "model.gone", nil }, { err.errors[1], err.errors[2].code,
      err.errors[3].code, err.errors[4] })
    assert.equal("model.unique", err.code)
    has(err, "2 of 4 rows were refused")
    assert.same({ 1, null, 4 }, User:rows():pluck "age")
    assert.is_nil(User:load("b").email)
    assert.same({}, check(User))
  end)

  case("sends nothing if one is invalid, or no stored row of the model", function()
    local rows = User:create_many { { id = "a" }, { id = "b" } }
    rows[1].age, rows[2].age = 1, 100
    local err = error_of(User.save_many, User, rows)
    assert.equal("model.invalid", err.code)
    assert.is_string(err.errors[2].fields.age)
    assert.is_nil(User:load("a").age)
    rows[2].age, rows[2].id = 2, "c"
    has(error_of(User.save_many, User, rows), "id")
    local Other = define("other", { id = field.string { primary_key = true } })
    local gone = User:create { id = "x" }
    gone:delete()
    for _, wrong in ipairs { { id = "a" }, Other:create { id = "a" }, gone, 5 } do
      err = error_of(User.save_many, User, { rows[1], wrong })
      assert.equal("model.gone", err.code)
      has(err, "element 2")
    end
    assert.is_nil(User:load("a").age)
  end)
end)

describe("upsert", function()
  local User
  before_each(function()
    User = define("user", { id = field.string { primary_key = true }, name = field.string(),
      age = field.integer { index = true, default = 18 }, email = field.string { unique = true } })
  end)

  case("creates a row, or sets the fields that are given", function()
    local row = User:upsert { id = "a", name = "Ada" }
    assert.same({ id = "a", name = "Ada", age = 18 }, row:to_table())
    row = User:upsert { id = "a", email = "x" }
    assert.same({ id = "a", name = "Ada", age = 18, email = "x" }, row:to_table())
    User:upsert { id = "a", age = 20 }
    row = User:upsert { id = "a", name = null }
    assert.same({ id = "a", age = 20, email = "x" }, row:to_table())
    assert.same(row:to_table(), User:load("a"):to_table())
    row.name = "Eve"
    row:save()
    assert.equal("Eve", User:load("a").name)
    assert.same({ "a" }, User:where { age = 20 }:ids())
    assert.same({}, check(User))
  end)

  case("raises what create and save raise", function()
    User:upsert { id = "a", email = "x" }
    assert.equal("model.unique", code_of(User.upsert, User, { id = "b", email = "x" }))
    User:upsert { id = "b" }
    assert.equal("model.unique", code_of(User.upsert, User, { id = "b", email = "x" }))
    assert.equal("model.invalid", code_of(User.upsert, User, { id = "b", age = "x" }))
    assert.equal("model.invalid", code_of(User.upsert, User, { name = "no id" }))
    assert.equal("model.invalid", code_of(User.upsert, User, { id = "b", nmae = "x" }))
    assert.same({ id = "b", age = 18 }, User:load("b"):to_table())
  end)

  case("by many tasks makes one row, with the fields of all", function()
    local fields = { id = field.string { primary_key = true } }
    for i = 1, 30 do fields["f" .. i] = field.integer { index = true } end
    for _, hooks in ipairs { {}, { before_create = function() neap.sleep(0) end } } do
      local Doc = define("doc", fields, { hooks = hooks })
      local tasks, want = {}, { id = "a" }
      for i = 1, 30 do
        want["f" .. i] = i
        tasks[i] = function() Doc:upsert { id = "a", ["f" .. i] = i } end
      end
      neap.all(tasks)
      assert.same(want, Doc:load("a"):to_table())
      assert.equal(1, Doc:rows():count())
      assert.same({}, check(Doc))
    end
  end)

  case("runs the hooks of what it does, and computes", function()
    local ran = {}
    local hooks = {}
    for _, name in ipairs { "before_create", "after_create", "before_save", "after_save" } do
      hooks[name] = function() ran[#ran + 1] = name end
    end
    local Doc = define("doc", { id = field.string { primary_key = true }, n = field.integer(),
      twice = field.integer { computed = function(row) return row.n and row.n * 2 end } },
      { hooks = hooks })
    assert.equal(2, Doc:upsert({ id = "a", n = 1 }).twice)
    assert.equal(4, Doc:upsert({ id = "a", n = 2 }).twice)
    assert.same({ "before_create", "after_create", "before_save", "after_save" }, ran)
    assert.equal(4, Doc:load("a").twice)
    assert.is_nil(Doc:upsert({ id = "a", n = null }).twice)
  end)
end)

describe("an increment", function()
  local Count
  before_each(function()
    Count = define("tally", { id = field.string { primary_key = true },
      plain = field.integer(), packed = field.integer { min = -10, max = 200, index = true },
      zset = field.integer { sort = true }, group = field.string { index = true },
      compound = field.integer(), unique = field.integer { unique = true },
      number = field.number { index = true }, name = field.string(),
      fixed = field.integer { immutable = true },
      checked = field.integer { validate = function() return true end } },
      { indexes = { { "group", "compound" } } })
  end)
  local kinds = { "plain", "packed", "zset", "compound", "unique", "number" }

  case("by 100 tasks on one row is exact, however the field is indexed", function()
    Count:create { id = "a", group = "g" }
    for _, name in ipairs(kinds) do
      local tasks, seen = {}, {}
      for i = 1, 100 do
        tasks[i] = function()
          if i % 2 == 0 then
            seen[Count:increment("a", { [name] = 1 })[name]] = true
          else
            seen[Count:load("a"):increment(name)] = true
          end
        end
      end
      neap.all(tasks)
      assert.equal(100, Count:load("a")[name], name)
      for i = 1, 100 do assert.is_true(seen[i], name .. " " .. i) end
    end
    for _, name in ipairs { "packed", "zset", "unique", "number" } do
      assert.same({ "a" }, Count:where { [name] = 100 }:ids(), name)
      assert.same({}, Count:where { [name] = 99 }:ids(), name)
    end
    local key = redis:keys("{tally}/group,compound*=g")[1]
    assert.equal(100, tonumber(redis:call("ZSCORE", key, "\0\0\0\0")))
    assert.equal("model.unique", code_of(Count.create, Count, { id = "b", unique = 100 }))
    assert.same({}, check(Count))
  end)

  case("beside saves of other fields loses neither", function()
    Count:create { id = "a" }
    local tasks = {}
    for i = 1, 60 do
      tasks[i] = function()
        if i % 3 == 0 then
          local row = Count:load "a"
          row.name = "n" .. i
          row:save()
        else
          Count:increment("a", { packed = 1, plain = 2 })
        end
      end
    end
    neap.all(tasks)
    local row = Count:load "a"
    assert.same({ 40, 80 }, { row.packed, row.plain })
    has(row.name, "n")
    assert.same({}, check(Count))
  end)

  case("past a limit, or what a number can hold, changes nothing", function()
    local row = Count:create { id = "a", packed = 199, plain = 2 ^ 53 - 1, number = 1e308,
      unique = 2 ^ 53 - 1 }
    assert.equal(200, row:increment "packed")
    for _, deltas in ipairs { { packed = 1 }, { packed = -211 }, { plain = 2 }, { unique = 2 },
      { number = 1e308 }, { zset = 2 ^ 53, plain = 2 ^ 53 }, { plain = 1, packed = 1 } } do
      local err = error_of(Count.increment, Count, "a", deltas)
      assert.equal("model.invalid", err.code)
      assert.is_string(err.fields[next(err.fields)])
    end
    has(error_of(row.increment, row, "packed"), "packed")
    local same = Count:load "a"
    assert.same({ 200, 2 ^ 53 - 1, 1e308 }, { same.packed, same.plain, same.number })
    assert.is_nil(same.zset)
    assert.equal(2 ^ 53, row:increment "plain")
    assert.equal(-10, row:increment("packed", -210))
    assert.same({}, check(Count))
  end)

  case("counts null as 0, and stores the shortest text", function()
    local row = Count:create { id = "a" }
    assert.equal(5, row:increment("plain", 5))
    assert.equal(-3, row:increment("zset", -3))
    assert.equal(0.1, row:increment("number", 0.1))
    assert.equal(0.1 + 0.2, row:increment("number", 0.2))
    assert.equal("0.30000000000000004", redis:hget("{tally}:a", "number"))
    assert.same({ "a" }, Count:where { number = 0.1 + 0.2 }:ids())
    row:increment("number", -(0.1 + 0.2))
    assert.equal("0", redis:hget("{tally}:a", "number"))
    for _, name in ipairs { "plain", "zset", "number", "packed", "compound", "unique" } do
      local one = Count:create { id = name }
      one:increment(name, -0)
      assert.equal("0", redis:hget("{tally}:" .. name, name), name)
    end
    assert.equal(1, Count:where { packed = 0 }:count())
    assert.same({}, check(Count))
  end)

  case("keeps what was changed in hand, and shows what others changed", function()
    local row = Count:create { id = "a", name = "old", plain = 1, group = "g" }
    local other = Count:load "a"
    other.group = "h"
    other:save()
    row.name, row.zset = "new", 7
    for _, name in ipairs(kinds) do
      if name ~= "zset" then row:increment(name) end
    end
    assert.same({ "new", 7, 2, "h" }, { row.name, row.zset, row.plain, row.group })
    local stored = Count:load "a"
    assert.same({ "old", 2, "h" }, { stored.name, stored.plain, stored.group })
    assert.is_nil(stored.zset)
    row:save()
    assert.same(row:to_table(), Count:load("a"):to_table())
    assert.same({}, check(Count))
  end)

  case("of a row that is gone, or another by now, is model.gone", function()
    local row = Count:create { id = "a" }
    for _, name in ipairs(kinds) do
      assert.equal("model.gone", code_of(Count.increment, Count, "x", { [name] = 1 }))
      Count:load("a"):delete()
      assert.equal("model.gone", code_of(row.increment, row, name))
      assert.equal("model.gone", code_of(Count.increment, Count, "a", { [name] = 1 }))
      Count:create { id = "a" }
      assert.equal("model.gone", code_of(row.increment, row, name))
      assert.is_nil(Count:load("a")[name])
    end
    assert.equal("model.gone", code_of(Count.increment, Count, "", { plain = 1 }))
    assert.equal(1, Count:rows():count())
    assert.same({}, check(Count))
  end)

  case("is by a number of what is one, and nobody else's to refuse", function()
    local row = Count:create { id = "a" }
    for _, deltas in ipairs { { plain = 0.5 }, { plain = "1" }, { plain = 0 / 0 },
      { number = math.huge }, { name = 1 }, { id = 1 }, { nope = 1 }, { fixed = 1 },
      { checked = 1 }, { plain = true }, { 1 } } do
      local err = error_of(Count.increment, Count, "a", deltas)
      assert.equal("model.invalid", err.code)
      has(err, "model tally")
    end
    assert.equal("model.invalid", code_of(row.increment, row, "name"))
    assert.same({ id = "a" }, Count:load("a"):to_table())
  end)

  case("of an unique field clashes, and changes nothing", function()
    Count:create { id = "a", unique = 5 }
    local row = Count:create { id = "b", unique = 4, plain = 1 }
    local err = error_of(row.increment, row, "unique")
    assert.same({ "model.unique", "unique" }, { err.code, err.field })
    assert.equal("model.unique", code_of(Count.increment, Count, "b", { unique = 1, plain = 1 }))
    assert.same({ 4, 1 }, { Count:load("b").unique, Count:load("b").plain })
    assert.equal(6, row:increment("unique", 2))
    Count:create { id = "c", unique = 4 }
    assert.same({}, check(Count))
  end)
end)

describe("hooks", function()
  local ran, fail_at, Doc
  before_each(function()
    ran, fail_at = {}, nil
    local hooks = {}
    for _, name in ipairs { "before_create", "after_create", "before_save", "after_save",
      "before_delete", "after_delete" } do
      hooks[name] = function(row)
        ran[#ran + 1] = name .. " " .. tostring(row.id)
        if fail_at == name then error("no " .. name, 0) end
        if name:find "^before_[cs]" then row.slug = row.name and row.name:lower() end
      end
    end
    Doc = define("doc", { id = field.string { primary_key = true }, name = field.string(),
      slug = field.string { index = true } }, { hooks = hooks })
  end)

  case("run around what they are for, in order", function()
    local row = Doc:create { id = "a", name = "Ada" }
    row.name = "Eve"
    row:save()
    row:save()
    row:delete()
    assert.same({ "before_create a", "after_create a", "before_save a", "after_save a",
      "before_save a", "after_save a", "before_delete a", "after_delete a" }, ran)
    ran = {}
    local rows = Doc:create_many { { id = "a" }, { id = "b" } }
    Doc:save_many(rows)
    assert.same({ "before_create a", "before_create b", "after_create a", "after_create b",
      "before_save a", "before_save b", "after_save a", "after_save b" }, ran)
  end)

  case("may change the row before it is stored", function()
    local row = Doc:create { id = "a", name = "Ada" }
    assert.equal("ada", row.slug)
    assert.same({ "a" }, Doc:where { slug = "ada" }:ids())
    row.name = "EVE"
    row:save()
    assert.equal("eve", Doc:load("a").slug)
    row.name = "X"
    Doc:save_many { row }
    assert.equal("x", Doc:load("a").slug)
    assert.same({}, check(Doc))
  end)

  case("run for long lists in slices, between which others have their turn", function()
    local turns, seen = 0, {}
    local ticker = neap.spawn(function()
      while true do
        turns = turns + 1
        neap.sleep(0)
      end
    end)
    local Long = model.define("long", { id = field.integer { primary_key = true, auto = true },
      n = field.integer { max = 999, sort = true } }, { redis = redis,
      hooks = { before_save = function() seen[#seen + 1] = turns end,
        before_create = function() seen[#seen + 1] = turns end } })
    local list = {}
    for i = 1, 1000 do list[i] = { n = i } end
    local ok, err = pcall(Long.create_many, Long, list) -- the last one is wrong
    assert.is_false(ok)
    assert.matches("1 of 1000 rows", err.message)
    assert.is_true(seen[1000] > seen[1])
    assert.equal(0, Long:rows():count())
    list[1000].n = 0
    local rows = Long:create_many(list)
    assert.equal(1000, Long:rows():count())
    seen = {}
    for _, row in ipairs(rows) do row.n = 999 - row.n end
    Long:save_many(rows)
    assert.is_true(seen[1000] > seen[1])
    assert.same({ rows[1000].id }, Long:where({ n = 999 }):ids())
    rows[1].n, rows[1000].n = 5, 1000
    assert.is_false(pcall(Long.save_many, Long, rows)) -- nothing is sent
    assert.equal(998, Long:load(rows[1].id).n)
    local task = neap.spawn(Long.create_many, Long, list)
    neap.sleep(0)
    task:cancel() -- between slices: nothing was sent
    assert.is_false(pcall(task.join, task))
    assert.equal(1000, Long:rows():count())
    ticker:cancel()
    assert.same({}, check(Long))
    Long:drop()
  end)

  case("that raise abort what is not done yet", function()
    fail_at = "before_create"
    assert.same({ false, "no before_create" }, { pcall(Doc.create, Doc, { id = "a" }) })
    assert.same({ false, "no before_create" }, { pcall(Doc.create_many, Doc, { { id = "a" } }) })
    assert.is_nil(Doc:load "a")
    fail_at = "after_create"
    assert.is_false(pcall(Doc.create, Doc, { id = "a", name = "Ada" }))
    local row = Doc:load "a"
    assert.equal("Ada", row.name)
    row.name, fail_at = "Eve", "before_save"
    assert.is_false(pcall(row.save, row))
    assert.is_false(pcall(Doc.save_many, Doc, { row }))
    assert.equal("Ada", Doc:load("a").name)
    fail_at = "before_delete"
    assert.is_false(pcall(row.delete, row))
    assert.is_true(Doc:exists "a")
    fail_at = nil
    row:save()
    assert.equal("Eve", Doc:load("a").name)
    row:delete()
  end)

  case("may read and write, and need not run when nothing is stored", function()
    local Log = define("log", { id = field.integer { primary_key = true, auto = true },
      text = field.string() })
    local Item = define("item", { id = field.string { primary_key = true } }, { hooks = {
      after_create = function(row) Log:create { text = row.id } end,
      before_delete = function(row) assert(Log:where { id = 1 }:count() == 1, row.id) end } })
    local item = Item:create { id = "a" }
    assert.equal("model.exists", code_of(Item.create, Item, { id = "a" }))
    item:delete()
    assert.same({ "a" }, Log:rows():pluck "text")
  end)
end)

describe("an optimistic model", function()
  local Doc
  before_each(function()
    Doc = define("doc", { id = field.string { primary_key = true }, a = field.integer(),
      b = field.integer { index = true } }, { optimistic = true })
  end)

  case("refuses to save what is stale, and shows what is stored", function()
    local mine = Doc:create { id = "x", a = 1 }
    local other = Doc:load "x"
    other.b = 2
    other:save()
    mine.a = 5
    local err = error_of(mine.save, mine)
    assert.equal("model.conflict", err.code)
    has(err, "model doc")
    assert.equal(mine, err.row)
    assert.same({ id = "x", a = 1, b = 2 }, err.stored:to_table())
    assert.same({ id = "x", a = 5 }, mine:to_table())
    err.stored.a = mine.a
    err.stored:save()
    assert.same({ id = "x", a = 5, b = 2 }, Doc:load("x"):to_table())
    err = error_of(Doc.save_many, Doc, { Doc:create { id = "y" }, mine })
    assert.equal("model.conflict", err.errors[2].code)
    assert.equal(mine, err.errors[2].row)
    assert.equal(2, err.errors[2].stored.b)
    mine:reload()
    mine.a = 6
    mine:save()
    assert.same({ id = "x", a = 6, b = 2 }, Doc:load("x"):to_table())
    assert.same({}, check(Doc))
  end)

  case("does not where nothing changed in hand, nor for one's own saves", function()
    local mine = Doc:create { id = "x", a = 1 }
    local other = Doc:load "x"
    other.b = 2
    other:save()
    mine:save()
    for i = 1, 5 do
      other.a = i
      other:save()
    end
    other:increment "a"
    other.b = 9
    other:save()
    assert.same({ id = "x", a = 6, b = 9 }, Doc:load("x"):to_table())
  end)

  case("lets one of many win, whose row is gone is gone", function()
    Doc:create { id = "x", a = 0 }
    local rows, won, lost, tasks = {}, 0, 0, {}
    for i = 1, 20 do
      rows[i] = Doc:load "x"
      rows[i].a = i
      tasks[i] = function()
        local ok, err = pcall(rows[i].save, rows[i])
        if ok then
          won = won + 1
        else
          assert.equal("model.conflict", err.code)
          lost = lost + 1
        end
      end
    end
    neap.all(tasks)
    assert.same({ 1, 19 }, { won, lost })
    local row = Doc:load "x"
    Doc:load("x"):delete()
    row.a = 99
    assert.equal("model.gone", code_of(row.save, row))
  end)
end)

describe("what Lua has a say in", function()
  case("an upsert of a row that exists needs only what it sets, and leaves its life", function()
    for _, hooks in ipairs { {}, { before_save = function() end } } do
      local Thing = define("partial", { id = field.string { primary_key = true },
        name = field.string { required = true }, n = field.integer { index = true } },
        { ttl = 1000, hooks = hooks })
      local row = Thing:create({ id = "x", name = "a" }, { ttl = 100 })
      local at = row:expires_at()
      assert.equal("a", Thing:upsert { id = "x", n = 2 }.name)
      assert.equal("b", Thing:upsert { id = "x", name = "b" }.name)
      assert.equal(at, Thing:load("x"):expires_at())
      assert.equal(1, Thing:where("n", 2):count())
      has(error_of(Thing.upsert, Thing, { id = "y", n = 2 }), "name: it is required")
      assert.same({}, check(Thing))
      Thing:drop()
    end
  end)

  case("a set of numbers comes back in their order, without doubles", function()
    local Thing = define("sorted", { id = field.string { primary_key = true },
      numbers = field.set(field.integer) { index = true }, times = field.set(field.time) })
    local row = Thing:create { id = "x", numbers = { 10, 9, 100, -1, 9 },
      times = { 3.5, 20, 3.5 } }
    for _, r in ipairs { row, Thing:load "x" } do
      assert.same({ -1, 9, 10, 100 }, { unpack(r.numbers) })
      assert.same({ 3.5, 20 }, { unpack(r.times) })
    end
    assert.equal(1, Thing:where("numbers", 100):count())
    assert.same({}, check(Thing))
    Thing:drop()
  end)

  case("an increment computes what depends on it", function()
    local function twice(row) return (row.n or 0) * 2 end
    local Thing = define("computing", { id = field.string { primary_key = true },
      n = field.integer {}, twice = field.integer { index = true, computed = twice } })
    local row = Thing:create { id = "x", n = 1 }
    neap.map(function() Thing:increment("x", { n = 1 }) end, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 })
    assert.equal(11, Thing:load("x").n)
    assert.equal(12, row:increment "n")
    assert.equal(24, row.twice)
    assert.equal(1, Thing:where("twice", 24):count())
    assert.equal("model.gone", code_of(Thing.increment, Thing, "y", { n = 1 }))
    assert.same({}, check(Thing))
    Thing:drop()
  end)

  case("what is changed in a row while it is saved stays", function()
    local Thing = define("meanwhile", { id = field.string { primary_key = true },
      m = field.integer {}, n = field.integer {}, o = field.integer {} })
    local row = Thing:create { id = "x", m = 1, n = 1, o = 1 }
    local other = Thing:load "x"
    other.o = 9
    other:save()
    row.m = 5
    local saving = neap.spawn(row.save, row)
    neap.sleep(0)
    row.n = 70
    saving:join()
    assert.same({ 5, 70, 9 }, { row.m, row.n, row.o })
    assert.same({ 5, 1, 9 }, { other:reload().m, other.n, other.o })
    Thing:drop()
  end)
end)
