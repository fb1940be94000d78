local neap = require "neap"
local case = require "support.case" (it)
local code_of, failure_of = select(2, require "support.failure" (assert))
local model, field, null = neap.model, neap.field, neap.null
local ne, any, none = model.ne, model.any, model.none

local function has(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q in %q"):format(part, tostring(text)))
end

local function lacks(text, part)
  assert.is_nil(text:find(part, 1, true), ("%q in %q"):format(part, text))
end

local Author, Item

setup(function()
  Author = model.define("explain_author", { id = field.integer { primary_key = true, auto = true },
    name = field.string { index = true } })
  Item = model.define("explain_item", {
    id = field.integer { primary_key = true, auto = true },
    small = field.integer { min = 0, max = 10, index = true },
    number = field.number { sort = true },
    kind = field.enum { "a", "b", index = true },
    name = field.string { index = true },
    path = field.string { sort = true },
    code = field.string { unique = true },
    note = field.string {},
    group = field.string { index = true },
    rank = field.integer {},
    tags = field.list(field.string) { index = true },
    author = field.ref(Author) { index = true },
  }, { indexes = { { "group", "rank" } } })
  Author:drop()
  Item:drop()
  Author:create { name = "Ada" }
  local list = {}
  for i = 1, 500 do
    list[i] = { small = i % 10, number = i, kind = i % 2 == 0 and "a" or "b", name = "n" .. i % 50,
      path = "p" .. i, code = "c" .. i, note = "x" .. i % 2, group = "g" .. i % 3, rank = i,
      tags = { "t" .. i % 50 }, author = i % 100 == 0 and 1 or nil }
  end
  Item:create_many(list)
end)
teardown(function()
  Item:drop()
  Author:drop()
end)

local tested = "on the rows"

describe("explain", function()
  case("names the index that answers each condition", function()
    for _, one in ipairs {
      { Item:where { kind = "a" }, "bitmap: kind = a" },
      { Item:where { kind = ne "a" }, "without bitmap: kind = a" },
      { Item:where { kind = null }, "bitmap of rows without a value: kind has no value" },
      { Item:where { small = 1 }, "packed column: small = 1" },
      { Item:where { small = { 1, 3, 3 } }, "packed column: small one of 2 values" },
      { Item:where { small = model.between(1, 2) }, "packed column: small between 1 and 2" },
      { Item:where { name = "n1" }, "small set or bitmap: name = n1" },
      { Item:where { tags = "t1" }, "tags contains t1" },
      { Item:where { number = model.between(1, 2) }, "ordered index" },
      { Item:where { path = model.prefix "p10" }, "path begins with 'p10'" },
      { Item:where { code = "c1" }, "rows by unique index: code = c1" },
      { Item:where { id = { 1, 2 } }, "rows by primary key: id one of 2 values" },
      { Item:where { ["author.name"] = "Ada" }, "author = 1" },
    } do
      local text = one[1]:explain()
      has(text, one[2])
      lacks(text, tested)
      has(text, "fetch the rows")
      assert.equal("\n", text:sub(-1))
    end
    local text = Item:where { kind = "a", small = 1, name = "n1" }:explain()
    has(text, "name = n1")
  end)

  case("says which index is walked, in which direction, and from where", function()
    has(Item:rows():order_by("number"):limit(5):explain(),
      "walk the ordered index of number, upwards")
    has(Item:rows():order_by("path", "desc"):limit(5):explain(),
      "walk the ordered index of path, downwards")
    local text = Item:where { group = "g1" }:order_by("rank", "desc"):limit(3):explain()
    has(text, "walk the compound index group,rank, group = g1, downwards")
    has(text, "stop after 3")
    text = Item:where { path = model.prefix "p1" }:order_by("path"):limit(5):explain()
    has(text, "path begins with 'p1', upwards")
  end)

  case("says what the rows are sorted by, and what limit and offset do", function()
    local text = Item:rows():order_by("small", "desc"):order_by("number"):offset(1500):limit(2000)
      :explain()
    has(text, "sort them by small, descending")
    has(text, "sort those that are equal by number")
    has(text, "skip 1,500\n")
    has(text, "stop after 2,000\n")
    lacks(Item:rows():explain(), "stop after")
  end)

  case("says when conditions are tested on the rows", function()
    local scan = { scan = true }
    local text = Item:where({ note = "x1", kind = "a" }, scan):explain()
    has(text, "bitmap: kind = a")
    has(text, tested)
    has(Item:where({ note = "x1" }, scan):explain(), tested)
    has(Item:where({ small = 1, note = ne "x1" }, scan):explain(), tested)
    lacks(Item:where({ kind = "a" }, scan):explain(), tested)
  end)

  case("shows alternatives as they are nested", function()
    local text = Item:where { kind = "b", any { { small = 1, name = "n1" }, { tags = "t7" } } }
      :explain()
    has(text, "any of\n")
    has(text, "all of\n")
    has(text, "small = 1")
    has(text, "name = n1")
    has(text, "tags contains t7")
    has(Item:where(none { { kind = "a" } }):explain(), "without bitmap: kind = a")
  end)

  case("says that nothing can match, when nothing can", function()
    for _, query in ipairs { Item:where { kind = {} }, Item:where(any {}), Item:rows():limit(0),
      Item:where { small = model.between(2, 1) }, Item:where { name = "n1", any {} },
      Item:where { name = "n1", id = {} }, Item:where(none { none {} }),
      Item:where { ["author.name"] = "nobody" } } do
      assert.equal("nothing can match\n", query:explain())
      assert.same({}, { unpack(query:all()) })
      assert.equal(0, query:count())
    end
  end)

  case("prints values as text of one line, however long they are", function()
    local text = Item:where { name = "a\n\0b\r" .. ("x"):rep(1000) }:explain()
    has(text, "name = a\\x0a\\x00b\\x0d")
    has(text, "...")
    for line in text:gmatch "[^\n]+" do assert.is_true(#line < 200) end
    has(Item:where { path = model.gt "a\nb" }:order_by("path"):limit(1):explain(), "a\\x0ab")
  end)

  case("changes nothing, and can be asked for again", function()
    local query = Item:where { kind = "a" }:order_by "number":limit(3)
    assert.equal(query:explain(), query:explain())
    assert.same({ 2, 4, 6 }, { unpack(query:ids()) })
  end)

  case("takes analyze alone", function()
    local query = Item:rows()
    for _, options in ipairs { 5, "analyze", true, { analyse = true }, { "analyze" } } do
      has(failure_of(query.explain, query, options), "explain takes { analyze = true }")
    end
    assert.equal(query:explain(), query:explain {})
    assert.equal(query:explain(), query:explain { analyze = false })
  end)
end)

-- figures_of returns what explain { analyze = true } counts.
local function figures_of(query)
  local text = query:explain { analyze = true }
  local pattern = "took ([%d.]+) ms: (%d+) round trips?, (%d+) bytes? of columns "
    .. "and (%d+) from the cache, (%d+) entr%a+ walked, (%d+) rows? fetched, "
    .. "(%d+) of them matched, (%d+) handed out\n$"
  local ms, trips, bytes, cached, entries, fetched, matched, rows = text:match(pattern)
  assert.is_truthy(ms, text)
  return { ms = tonumber(ms), trips = tonumber(trips),
    bytes = tonumber(bytes) + tonumber(cached), entries = tonumber(entries),
    fetched = tonumber(fetched), matched = tonumber(matched),
    rows = tonumber(rows), text = text }
end

describe("explain { analyze = true }", function()
  case("runs the query, and says how many rows were looked at", function()
    local f = figures_of(Item:where { kind = "a" })
    has(f.text, "bitmap: kind = a")
    assert.equal(250, f.rows)
    assert.equal(250, f.matched)
    assert.equal(250, f.fetched)
    assert.is_true(f.bytes > 100 and f.bytes < 1000)
    assert.is_true(f.trips >= 3 and f.trips <= 8)
    assert.is_true(f.ms >= 0)
    assert.equal(0, f.entries)
  end)

  case("shows what a scan costs", function()
    local f = figures_of(Item:where({ note = "x1", kind = "b" }, { scan = true }))
    assert.equal(250, f.rows)
    f = figures_of(Item:where({ note = "x1", small = { 1, 2 } }, { scan = true }))
    assert.equal(50, f.rows)
    assert.equal(100, f.fetched)
  end)

  case("counts the entries of an index that is walked", function()
    local f = figures_of(Item:rows():order_by("number"):limit(5))
    assert.equal(5, f.rows)
    assert.is_true(f.entries >= 5 and f.entries <= 60, f.text)
    assert.is_true(f.fetched >= 5 and f.fetched <= 60)
    assert.is_true(f.trips >= 3)
  end)

  case("of rows that are named fetches these", function()
    local f = figures_of(Item:where { id = { 1, 2, 3, 9999 } })
    assert.equal(3, f.rows)
    assert.equal(4, f.fetched)
    assert.equal(1, f.trips)
    f = figures_of(Item:where { code = { "c1", "none" } })
    assert.equal(1, f.rows)
    assert.equal(2, f.trips)
  end)

  case("of a query that finds nothing says what that took", function()
    local f = figures_of(Item:where({ note = "absent", kind = "a" }, { scan = true }))
    assert.equal(0, f.rows)
    assert.equal(0, f.matched)
    assert.equal(250, f.fetched)
    f = figures_of(Item:where { kind = {} })
    assert.equal(0, f.trips + f.bytes + f.entries + f.fetched + f.matched + f.rows)
  end)

  case("is there for every query that can run", function()
    for _, query in ipairs { Item:rows(), Item:rows():order_by("small"):limit(3):offset(2),
      Item:where { ["author.name"] = "Ada" }, Item:rows():with "author" } do
      assert.is_true(figures_of(query).rows > 0)
    end
    assert.equal("model.unindexed", code_of(function()
      return Item:where { note = "x" }:explain { analyze = true }
    end))
  end)
end)
