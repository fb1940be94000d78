local change = require "support.query_change"
local check = require "support.query_check"
local random = require "support.query_random"
local shrink = require "support.query_shrink"
local source = require "support.query_source"
local case = require "support.case" (it)

-- `make fuzz` runs more of them, and longer.
local worlds, queries = 10, 80

describe("a random query, asked in every way,", function()
  for number = 1, worlds do
    case(("of random model %d answers as a look at every row would"):format(number), function()
      local g = random.new(2000 + number)
      local w = g:world("fuzz" .. number, { writes = 200 })
      for i = 1, queries do
        if i % 30 == 0 then
          g:end_some(w.model)
          local wrong, text = change(g, w)
          assert.is_nil(wrong, text)
        end
        local q = g:query(w)
        local difference, how = check.difference(w, q)
        if difference then
          error(source.query_text(q) .. "\n" ..
            shrink.report(w, q, how .. ": " .. difference), 0)
        end
      end
      w.model:drop()
      w.other.model:drop()
    end)
  end

  case("is seldom refused", function()
    assert.is_true(check.refused * 4 < check.asked, ("%d refused, %d asked"):format(check.refused,
      check.asked))
  end)
end)

describe("the oracle of random queries", function()
  local oracle = require "support.query_oracle"
  local function leaf(name, test) return { op = "leaf", name = name, test = test } end
  local is_one, is_none = { op = "eq", value = 1 }, { op = "null" }

  it("knows three truth values", function()
    local function value(e, row) return oracle.evaluate(e, row, {}) end
    local not_one = { op = "ne", test = is_one }
    for _, one in ipairs {
      { true, leaf("a", is_one), { a = 1 } },
      { false, leaf("a", is_one), { a = 2 } },
      { nil, leaf("a", is_one), {} },
      { nil, leaf("a", not_one), {} },
      { true, leaf("a", not_one), { a = 2 } },
      { true, leaf("a", is_none), {} },
      { false, leaf("a", { op = "ne", test = is_none }), {} },
      { true, leaf("a", { op = "ne", test = { op = "in", values = {} } }), { a = 1 } },
      { nil, leaf("a", { op = "ne", test = { op = "in", values = {} } }), {} },
      { nil, { op = "none", leaf("a", is_one) }, {} },
      { true, { op = "none", leaf("a", is_one) }, { a = 2 } },
      { true, { op = "any", leaf("a", is_one), leaf("b", is_one) }, { b = 1 } },
      { nil, { op = "any", leaf("a", is_one), leaf("b", is_one) }, { b = 2 } },
      { false, { op = "all", leaf("a", is_one), leaf("b", is_one) }, { b = 2 } },
      { false, { op = "any" }, {} },
      { true, { op = "all" }, {} },
      { true, { op = "none" }, {} },
      { true, leaf("a", is_one), { a = { 2, 1 } } },
      { true, leaf("a", not_one), { a = {} } },
    } do
      assert.equal(one[1], value(one[2], one[3]), source.expression_text(one[2]))
    end
  end)

  it("puts rows without a value last, and ties in the direction of the first order", function()
    local places = { { id = 1, row = { a = 1 } }, { id = 2, row = {} },
      { id = 3, row = { a = 1 } }, { id = 4, row = { a = 2 } } }
    local function ids(...)
      local list = {}
      for i, place in ipairs(oracle.all({ wheres = {}, orders = { ... } }, places, {})) do
        list[i] = place.id
      end
      return list
    end
    local b = { name = "b" }
    assert.same({ 1, 2, 3, 4 }, ids())
    assert.same({ 1, 3, 4, 2 }, ids { name = "a" })
    assert.same({ 4, 3, 1, 2 }, ids { name = "a", is_descending = true })
    assert.same({ 4, 3, 1, 2 }, ids({ name = "a", is_descending = true }, b))
    assert.same({ 4, 1, 3, 2 }, ids(b, { name = "a", is_descending = true }))
  end)
end)
