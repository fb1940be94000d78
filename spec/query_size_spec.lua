local neap = require "neap"
local case = require "support.case" (it)
local code_of = select(2, require "support.failure" (assert))
local model, field, null = neap.model, neap.field, neap.null
local any, all, none, ne = model.any, model.all, model.none, model.ne

-- NEAP_SPEC_SLICES=1 prints how long queries held up the loop.
local is_printing = os.getenv "NEAP_SPEC_SLICES" ~= nil

-- Two segments; row i has n = i, tens = i % 10 and so on. None has a note.
local total = 100000
local Big

setup(function()
  Big = model.define("size_big", {
    id = field.integer { primary_key = true, auto = true },
    n = field.integer { sort = true },
    packed = field.integer { min = 0, max = 200000, index = true },
    tens = field.integer { min = 0, max = 9, index = true },
    kind = field.enum { "a", "b", index = true },
    name = field.string { index = true },
    code = field.string { unique = true },
    note = field.string {},
  })
  Big:drop()
  for from = 1, total, 10000 do
    local list = {}
    for i = from, from + 9999 do
      list[#list + 1] = { n = i, packed = i, tens = i % 10, kind = i % 2 == 0 and "a" or "b",
        name = "n" .. i % 1000, code = i <= 1000 and "c" .. i or nil }
    end
    Big:create_many(list)
  end
end)
teardown(function() Big:drop() end)

-- measured prints, if that is wanted, the longest time for which fn kept others waiting.
local function measured(name, fn)
  if not is_printing then return fn() end
  local last, longest, is_over = neap.monotonic(), 0, false
  local ticker = neap.spawn(function()
    while not is_over do
      neap.sleep(0)
      local now = neap.monotonic()
      longest, last = math.max(longest, now - last), now
    end
  end)
  neap.sleep(0)
  local start = neap.monotonic()
  fn()
  local ms = (neap.monotonic() - start) * 1000
  neap.sleep(0)
  is_over = true
  ticker:join()
  io.stderr:write(("%-40s %8.2f ms, longest slice %7.2f ms\n"):format(name, ms, longest * 1000))
end

-- list_of returns fn(1) ... fn(n).
local function list_of(n, fn)
  local list = {}
  for i = 1, n do list[i] = fn(i) end
  return list
end

describe("a query of a hundred thousand rows", function()
  case("takes lists of a thousand values, and of ten thousand", function()
    measured("1,000 values", function()
      assert.equal(1000, Big:where("packed", list_of(1000, function(i) return i * 7 end)):count())
      assert.equal(1000, Big:where("n", list_of(1000, function(i) return i * 7 end)):count())
      assert.equal(1000, #Big:where("id", list_of(1000, function(i) return i * 7 end)):ids())
      assert.equal(1000, #Big:where("code", list_of(1000, function(i) return "c" .. i end)):ids())
      assert.equal(total, Big:where("name", list_of(1000, function(i) return "n" .. i - 1 end))
        :count())
      assert.equal(total - 1000,
        Big:where("packed", ne(list_of(1000, function(i) return i * 7 end))):count())
    end)
    measured("10,000 values", function()
      assert.equal(10000, Big:where("packed", list_of(10000, function(i) return i * 3 end)):count())
      assert.equal(0, Big:where("name", list_of(10000, function(i) return "x" .. i end)):count())
    end)
  end)

  case("counts and reads ranges of all of them", function()
    measured("ranges, counted", function()
      assert.equal(total, Big:where("n", model.gt(0)):count())
      assert.equal(total, Big:where("packed", model.between(0, 200000)):count())
      assert.equal(50000, Big:where({ n = model.le(50000) }):count())
      assert.equal(25000, Big:where({ n = model.le(50000), kind = "a" }):count())
      assert.equal(0, Big:where("n", model.gt(total)):count())
      assert.equal(total, Big:where("n", ne(model.gt(total))):count())
    end)
    measured("ranges, a few rows of them", function()
      assert.same({ 50001, 50002 }, { unpack(Big:where("n", model.gt(50000)):limit(2):ids()) })
      assert.same({ 100000, 99998 }, { unpack(Big:where { n = model.gt(5), kind = "a" }
        :order_by("n", "desc"):limit(2):ids()) })
      assert.same({ 99991, 99981 }, { unpack(Big:where { n = model.gt(5), tens = 1 }
        :order_by("packed", "desc"):limit(2):ids()) })
    end)
    local n, last = 0, 0
    measured("a loop over 20,000 of them, in order", function()
      for row in Big:where("n", model.gt(80000)):order_by("n"):each() do
        n = n + 1
        assert(row.n > last)
        last = row.n
      end
    end)
    assert.equal(20000, n)
  end)

  case("goes to limits beyond the end, and skips to any place", function()
    for _, query in ipairs { Big:rows(), Big:rows():order_by "n", Big:rows():order_by "packed" } do
      measured("offset", function()
        assert.same({ 99999, 100000 }, { unpack(query:offset(total - 2):limit(1000000):ids()) })
        assert.same({ 65536, 65537 }, { unpack(query:offset(65535):limit(2):ids()) })
        assert.same({}, { unpack(query:offset(total):ids()) })
        assert.same({}, { unpack(query:offset(2 ^ 40):ids()) })
        assert.is_nil(query:offset(1e300):first())
        assert.equal(1, query:offset(total - 1):count())
        assert.equal(0, query:offset(total + 1):count())
      end)
    end
    assert.same({ 2, 1 }, { unpack(Big:rows():order_by("n", "desc"):offset(total - 2):ids()) })
    assert.equal(1, Big:rows():order_by("packed", "desc"):offset(total - 1):first().id)
    assert.equal(11, #Big:where("tens", 3):offset(9989):limit(50):all())
  end)

  -- fetched_by returns how many rows a query reads, and the whole text.
  local function fetched_by(query)
    local text = query:explain { analyze = true }
    return tonumber((text:match("([%d,]+) rows? fetched"):gsub(",", ""))), text
  end

  case("finds rows far behind the first ones without reading all before them", function()
    for name, query in pairs { walk = Big:where("n", model.gt(90000)),
      packed = Big:where("packed", model.gt(90000)),
      both = Big:where { n = model.gt(90000), kind = "a" },
      either = Big:where(any { { n = model.gt(95000) }, { packed = model.gt(90000) } }) } do
      local fetched, text = fetched_by(query:limit(2))
      assert.is_true(fetched < 5000, name .. ": " .. text)
    end
  end)

  case("skips rows by their bits or entries, without reading them", function()
    for name, query in pairs { rows = Big:rows(), walk = Big:rows():order_by "n",
      packed = Big:rows():order_by "packed", half = Big:where("kind", "a"),
      whole = Big:where("kind", { "a", "b" }), range = Big:where("n", model.gt(0)),
      ordered = Big:where("kind", "a"):order_by "packed" } do
      local fetched, text = fetched_by(query:offset(49990):limit(5))
      assert.is_true(fetched < 2000, name .. ": " .. text)
    end
  end)

  case("joins fifty alternatives", function()
    local alternatives = list_of(50, function(i) return { tens = i % 10, name = "n" .. i } end)
    measured("50 alternatives", function()
      assert.equal(5000, Big:where(any(alternatives)):count())
      assert.equal(total - 5000, Big:where(none(alternatives)):count())
      assert.equal(5, #Big:where(any(alternatives)):order_by("n", "desc"):limit(5):all())
      assert.equal(50, Big:where(any(list_of(50, function(i) return { n = i * 2000 } end))):count())
      assert.equal(25000 + 25, Big:where(any(list_of(50, function(i)
        return i <= 25 and { n = model.between(i * 2000, i * 2000 + 1000) } or { packed = 0 }
      end))):count())
      assert.equal(0, Big:where(all(list_of(50, function(i) return { name = "n" .. i } end)))
        :count())
    end)
  end)

  case("knows what nothing and everything is", function()
    assert.equal(0, Big:where(none { all {} }):count())
    assert.equal(total, Big:where(none { any {} }):count())
    assert.equal(0, Big:where(none { { n = ne(null) } }):count())
    assert.equal(0, Big:where(none { tens = list_of(10, function(i) return i - 1 end) }):count())
    for _, name in ipairs { "n", "packed", "tens", "kind", "name", "code", "id" } do
      assert.equal(0, Big:where(name, {}):count())
      assert.is_nil(Big:where(name, {}):first())
      assert.equal(0, Big:where { tens = 3, [name] = {} }:count())
      assert.equal(0, Big:where(all { { [name] = {} }, { tens = 3 } }):count())
      assert.equal(0, Big:where(any { [name] = {} }):count())
    end
    for _, name in ipairs { "n", "packed", "tens", "kind", "name" } do
      assert.equal(10000, Big:where(any { { [name] = {} }, { tens = 3 } }):count())
      assert.equal(10000, Big:where(none { { [name] = {} }, { tens = ne(3) } }):count())
      assert.equal(total, Big:where(name, ne {}):count())
    end
  end)

  case("adds up, counts by value and finds extremes", function()
    measured("aggregates", function()
      assert.equal(total * (total + 1) / 2, Big:rows():sum "packed")
      assert.equal((total + 1) / 2, Big:rows():avg "packed")
      assert.equal(total, Big:rows():max "n")
      assert.equal(1, Big:rows():min "n")
      assert.equal(99992, Big:where("tens", 2):max "packed")
      local counts = Big:rows():count_by "tens"
      for i = 0, 9 do assert.equal(10000, counts[i]) end
      assert.same({ a = total / 2, b = total / 2 }, Big:rows():count_by "kind")
    end)
  end)

  case("reads the rows where it has to, in constant memory", function()
    local before
    measured("a scan of 10,000 rows", function()
      collectgarbage()
      before = collectgarbage "count"
      local n = 0
      for _ in Big:where({ tens = 3, note = null }, { scan = true }):each() do n = n + 1 end
      assert.equal(10000, n)
      assert.is_nil(Big:where({ tens = 4, note = "x" }, { scan = true }):first())
    end)
    collectgarbage()
    collectgarbage()
    assert.is_true(collectgarbage "count" - before < 2000)
  end)

  case("has pages that begin anywhere", function()
    for _, query in ipairs { Big:rows(), Big:rows():order_by "n", Big:rows():order_by "packed" } do
      local rows, cursor
      measured("pages of 4,000", function()
        for page = 1, 3 do
          rows, cursor = query:page { size = 4000, after = cursor }
          assert.equal(page * 4000, rows[4000].id)
        end
      end)
    end
    local query = Big:rows():order_by("n", "desc"):order_by "packed"
    local _, cursor = query:page { size = 5 }
    assert.equal(99995, query:page({ size = 1, after = cursor })[1].id)
  end)

  case("lets others go on, many at once", function()
    measured("100 queries at once", function()
      local counts = neap.map(function(i)
        if i % 4 == 0 then return Big:where("tens", i % 10):count() end
        if i % 4 == 1 then return #Big:where("packed", model.gt(i * 10)):limit(100):all() end
        if i % 4 == 2 then return #Big:rows():order_by("n", "desc"):offset(i):limit(9):all() end
        return Big:where(any { kind = "a", tens = 3 }):count()
      end, list_of(100, function(i) return i end))
      for i, n in ipairs(counts) do
        assert.equal(({ [0] = 10000, 100, 9, 60000 })[i % 4], n)
      end
    end)
  end)

  case("refuses what is beyond its limits, at once", function()
    local conditions = list_of(5000, function(i) return { packed = i } end)
    for _, group in ipairs { any, all, none } do
      assert.equal("model.invalid", code_of(Big.where, Big, group(conditions)))
    end
    local query = Big:rows()
    for _ = 1, 8 do query = query:order_by "tens" end
    assert.equal("model.invalid", code_of(query.order_by, query, "n"))
  end)

  case("lets others have their turns while it passes over rows", function()
    local redis = neap.redis()
    local function pings() -- what a query waits for to let others go first
      return tonumber(redis:info("commandstats"):match "cmdstat_ping:calls=(%d+)" or 0)
    end
    local q = Big:rows():offset(total - 10):limit(5)
    q:ids()
    local before = pings()
    assert.equal(5, #q:ids())
    assert.is_true(pings() - before >= 5)
  end)
end)
