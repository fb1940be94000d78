local neap = require "neap"
local check = require "support.model_check"
local case = require "support.case" (it)
local error_of, code_of, failure_of = require "support.failure" (assert)
local model, field, null = neap.model, neap.field, neap.null

local function has(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q in %q"):format(part, tostring(text)))
end

local Cell, Pin

setup(function()
  Cell = model.define("row_cell", { x = field.integer {}, y = field.string {},
    n = field.integer { sort = true }, kind = field.enum { "a", "b", index = true } },
    { primary_key = { "x", "y" } })
  Pin = model.define("row_pin", { id = field.string { primary_key = true },
    cell = field.ref(Cell) { index = true }, n = field.integer { min = 0, max = 9, index = true },
    at = field.time { sort = true }, note = field.string {} })
  Cell:has_many("pins", Pin, "cell")
end)
before_each(function()
  Cell:drop()
  Pin:drop()
  for i = 1, 6 do
    Cell:create { x = i, y = "y" .. i % 2, n = i < 6 and i or nil,
      kind = i % 2 == 0 and "a" or "b" }
  end
  for i = 1, 12 do
    local x = i % 6 + 1
    Pin:create { id = "p" .. i, n = i % 3, at = i, cell = i < 12 and Cell:load { x = x,
      y = "y" .. x % 2 } or nil }
  end
end)
teardown(function()
  Cell:drop()
  Pin:drop()
end)

describe("a query of a model with a composite key", function()
  case("gives ids that load takes", function()
    local ids = Cell:rows():order_by("n", "desc"):ids()
    assert.equal(6, #ids)
    for i, id in ipairs(ids) do assert.equal(i < 6 and 6 - i or nil, Cell:load(id).n) end
  end)

  case("has pages, updates and deletes as any other", function()
    local ns, cursor = {}, nil
    repeat
      local rows
      rows, cursor = Cell:rows():order_by("n", "desc"):page { size = 2, after = cursor }
      for _, row in ipairs(rows) do ns[#ns + 1] = row.n or null end
    until not cursor
    assert.same({ 5, 4, 3, 2, 1, null }, ns)
    assert.equal(3, Cell:where("kind", "a"):update { n = 100 })
    assert.same({ 100, 100, 100 }, { unpack(Cell:where("kind", "a"):pluck "n") })
    for _, name in ipairs { "x", "y" } do
      local err = error_of(function() Cell:where("kind", "a"):update { [name] = 7 } end)
      assert.equal("model.invalid", err.code)
      has(err, name)
    end
    assert.equal(3, Cell:where("kind", "a"):delete())
    assert.same({}, check(Cell))
  end)

  case("is reached through references, and asked for their rows", function()
    local want = {}
    for _, pin in ipairs(Pin:rows():all()) do
      local cell = pin:related "cell"
      if cell and cell.kind == "a" then want[#want + 1] = pin.id end
    end
    assert.same(want, { unpack(Pin:where({ ["cell.kind"] = "a" }):ids()) })
    assert.equal(11 - #want, Pin:where(model.none { ["cell.kind"] = "a" }):count())
    assert.same({ "p6" }, { unpack(Pin:where({ ["cell.n"] = 1 }):ids()) })
    local first = Cell:load { x = 1, y = "y1" }
    assert.same({ "p6" }, { unpack(Pin:where("cell", first):ids()) })
    assert.same({ "p6" }, { unpack(first:pins():ids()) })
    assert.equal(3, Pin:where("cell", { first, Cell:load { x = 2, y = "y0" } }):count())
    for row in Pin:rows():with("cell"):each() do
      assert.equal(row.id ~= "p12", row:related "cell" ~= nil)
    end
  end)
end)

describe("one()", function()
  case("is the row, nil if there is none, and an error if there are more", function()
    assert.equal("p3", Pin:where("id", "p3"):one().id)
    assert.is_nil(Pin:where("id", "absent"):one())
    local err = error_of(function() return Pin:where("n", 1):one() end)
    assert.equal("model.many", err.code)
    has(err, "model row_pin")
    assert.equal("model.many", code_of(function() return Pin:rows():order_by("at"):one() end))
    assert.equal("p1", Pin:rows():order_by("at"):limit(1):one().id)
    assert.equal("p12", Pin:rows():order_by("at"):offset(11):one().id)
    assert.is_nil(Pin:rows():limit(0):one())
  end)
end)

describe("first(), exists() and count()", function()
  case("keep within limit and offset", function()
    local query = Pin:rows():order_by("at", "desc")
    assert.equal("p12", query:first().id)
    assert.equal("p2", query:offset(10):first().id)
    assert.is_nil(query:offset(12):first())
    assert.is_nil(query:limit(0):first())
    assert.is_true(query:offset(11):exists())
    assert.is_false(query:offset(12):exists())
    assert.is_false(query:limit(0):exists())
    assert.equal(2, query:limit(3):offset(10):count())
    assert.equal(3, query:limit(3):count())
    assert.equal(0, query:limit(0):count())
    assert.equal(0, query:offset(12):count())
    assert.equal(1, Pin:where("id", { "p1", "p2", "absent" }):offset(1):count())
  end)
end)

describe("pluck()", function()
  case("gives the values in order, null where there is none", function()
    assert.same({ 1, 2, 3, 4, 5, null }, { unpack(Cell:rows():order_by("n"):pluck "n") })
    assert.same({ "p1", "p2" }, { unpack(Pin:rows():order_by("at"):limit(2):pluck "id") })
    assert.same({ null, null }, { unpack(Pin:rows():limit(2):pluck "note") })
    assert.equal(Pin:load("p1").cell, Pin:where("id", "p1"):pluck("cell")[1])
    for _, name in ipairs { "absent", "", 5, true, {}, print } do
      local err = error_of(Pin.rows(Pin).pluck, Pin:rows(), name)
      assert.equal("model.invalid", err.code)
      has(err, "model row_pin: there is no field '")
    end
    assert.equal("model.invalid", code_of(Pin.rows(Pin).pluck, Pin:rows()))
  end)
end)

describe("order_by()", function()
  case("may name a field twice: the second time says nothing new", function()
    assert.same({ unpack(Pin:rows():order_by("n"):ids()) },
      { unpack(Pin:rows():order_by("n"):order_by("n", "desc"):ids()) })
  end)

  case("puts equal rows in the order in which they were created, or the other way round", function()
    assert.same({ "p3", "p6", "p9", "p12", "p1", "p4" },
      { unpack(Pin:rows():order_by("n"):limit(6):ids()) })
    assert.same({ "p11", "p8", "p5", "p2", "p10", "p7" },
      { unpack(Pin:rows():order_by("n", "desc"):limit(6):ids()) })
    assert.same({ "p12", "p9", "p6", "p3", "p10", "p7" },
      { unpack(Pin:rows():order_by("n"):order_by("at", "desc"):limit(6):ids()) })
  end)

  case("says what it expects", function()
    local query = Pin:rows()
    for _, name in ipairs { 5, true, {}, print } do
      has(failure_of(query.order_by, query, name), "a field's name expected")
    end
    has(failure_of(query.order_by, query), "a field's name expected")
    for _, direction in ipairs { "DESC", "", "down", 1, true, {} } do
      has(failure_of(query.order_by, query, "at", direction), "'asc' or 'desc' expected")
    end
    for _, name in ipairs { "absent", "-at", "at desc", "" } do
      local err = error_of(query.order_by, query, name)
      assert.equal("model.invalid", err.code)
      has(err, "model row_pin: there is no field '")
    end
    local err = error_of(query.order_by, query, "note")
    assert.equal("model.unindexed", err.code)
    has(err, "field note cannot be ordered by; add sort = true")
    for _, name in ipairs { "id", "cell" } do
      assert.equal("model.unindexed", code_of(query.order_by, query, name))
    end
  end)
end)

describe("a query", function()
  case("of methods called with a dot, or of wrong numbers, says so", function()
    has(failure_of(Pin.where, { n = 1 }), "a colon calls its methods")
    has(failure_of(Pin.rows), "a colon calls its methods")
    local query = Pin:rows()
    for _, name in ipairs { "limit", "offset" } do
      for _, n in ipairs { -1, 0.5, 0 / 0, "5", true, {}, -math.huge } do
        has(failure_of(query[name], query, n), "a whole number from 0 expected")
      end
      has(failure_of(query[name], query), "a whole number from 0 expected")
    end
  end)

  case("goes on while its model is synced, and fails or ends when it is dropped", function()
    local list = {}
    for i = 1, 600 do list[i] = { id = "q" .. i, at = i, n = 1 } end
    Pin:create_many(list)
    local n = 0
    for _ in Pin:where("n", 1):order_by("at"):each() do
      n = n + 1
      if n % 100 == 0 then assert.equal("unchanged", (Pin:sync())) end
    end
    assert.equal(604, n)
    local seen = 0
    local ok, err = pcall(function()
      for _ in Pin:rows():order_by("at"):each() do
        seen = seen + 1
        if seen == 256 then Pin:drop() end
      end
    end)
    assert.is_true(ok and seen < 612 or not ok and err.code:find "^model%." ~= nil, tostring(err))
    assert.equal(0, Pin:rows():count())
  end)

  case("of rows that are dropped and created anew gives the new ones", function()
    local query = Pin:where("n", 1):order_by "at"
    assert.equal(4, #query:all())
    Pin:drop()
    assert.equal(0, #query:all())
    assert.equal(0, query:count())
    Pin:create { id = "new", n = 1, at = 5 }
    assert.same({ "new" }, { unpack(query:ids()) })
  end)
end)
