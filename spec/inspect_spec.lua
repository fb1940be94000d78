local case = require "support.case" (it)
local neap = require "neap"
local model, field = neap.model, neap.field
local inspect = neap.inspect

describe("neap.inspect", function()
  case("writes values as one would write them", function()
    for text, value in pairs {
      ["1"] = 1, ["-0.5"] = -0.5, ["0.1"] = 0.1, ["123456789012345"] = 123456789012345,
      ["1e+300"] = 1e300, ["inf"] = math.huge, ["true"] = true, ['"a"'] = "a", ["null"] = neap.null,
      ["{}"] = {}, ["{ 1, 2 }"] = { 1, 2 }, ['{ a = 1, ["b c"] = 2, ["end"] = 3 }'] =
        { a = 1, ["b c"] = 2, ["end"] = 3 },
      ["{ 1, x = { y = { 2 } } }"] = { 1, x = { y = { 2 } } },
      ["{ [3] = 1, [true] = 2 }"] = { [3] = 1, [true] = 2 },
    } do
      assert.equal(text, inspect(value))
    end
    assert.equal("nil", inspect(nil))
    assert.equal("nan", inspect(0 / 0):gsub("-", ""), nil)
    assert.equal("0.30000000000000004", inspect(0.1 + 0.2))
    assert.matches("^function %(spec/inspect_spec.lua:%d+%)$", inspect(function() end))
    assert.equal("function (in C)", inspect(math.floor))
  end)

  case("keeps UTF-8 and makes other bytes visible", function()
    assert.equal('"äöü €"', inspect "äöü €")
    assert.equal([["a\n\t\"\\\000\127\255b"]], inspect 'a\n\t"\\\0\127\255b')
    assert.equal([["\195(\226\130"]], inspect "\195(\226\130")
    for byte = 0, 255 do
      local text = inspect(string.char(byte))
      assert.equal(string.char(byte), loadstring("return " .. text)())
    end
  end)

  case("cuts what is long, deep, or holds itself", function()
    assert.matches('^"x+"%.%.%. %(1%.0 MiB in all%)$', inspect(("x"):rep(1024 * 1024)))
    local list = {}
    for i = 1, 1000 do list[i] = i end
    assert.matches("49,%s+50,%s+%.%.%. 950 more", inspect(list))
    local deep = {}
    local t = deep
    for _ = 1, 50 do
      t.t = {}
      t = t.t
    end
    assert.matches("{ %.%.%. }", inspect(deep))
    local self = { name = "me" }
    self.self, self.list = self, { self }
    assert.equal('{ list = { (the table above: the outermost) }, name = "me", '
      .. "self = (the table above: the outermost) }", inspect(self):gsub("%s+", " "), nil)
    local wide = {}
    for i = 1, 50 do
      wide[i] = {}
      for j = 1, 50 do
        wide[i][j] = {}
        for k = 1, 50 do wide[i][j][k] = ("x"):rep(400) end
      end
    end
    assert.is_true(#inspect(wide) < 1e6)
  end)

  case("shows a table twice where it stands twice without holding itself", function()
    local part = { 1 }
    assert.equal("{ { 1 }, { 1 } }", inspect { part, part })
  end)

  case("uses __tostring, and outlives one that fails", function()
    assert.equal("a.b: c", inspect(neap.error { code = "a.b", message = "c" }))
    local function with(fn) return setmetatable({}, { __tostring = fn }) end
    assert.equal("mine", inspect(with(function() return "mine" end)))
    assert.matches("whose __tostring fails: .*broken",
      inspect { with(function() error "broken" end) })
    assert.matches("whose __tostring fails", inspect(with(function() return {} end)))
    assert.matches("whose __tostring fails", inspect(with(function() error(with(error)) end)))
  end)

  case("does not call __index or __pairs of what it shows", function()
    local t = setmetatable({ 1 }, { __index = function() error "called" end })
    assert.equal("{ 1 }", inspect(t))
    t = setmetatable({ a = 1 }, { __index = function() error "called" end })
    assert.equal("{ a = 1 }", inspect(t))
  end)

  describe("of models", function()
    local redis, Book

    setup(function()
      redis = neap.redis "memory:"
      Book = model.define("inspected", {
        id = field.integer { primary_key = true },
        title = field.string { required = true, index = true },
        price = field.number { sort = true },
        tags = field.list(field.string),
      }, { redis = redis })
      for i = 1, 30 do
        Book:create { id = i, title = i == 2 and "Größe\n" or "title " .. i, price = i / 2,
          tags = { "a" } }
      end
    end)
    teardown(function()
      Book:drop()
      redis:close()
    end)

    case("lists a model's fields, the key's first", function()
      assert.equal([[
model inspected
field  type     options
id     integer  primary_key
price  number   sort
tags   list
title  string   required, index]], inspect(Book))
    end)

    case("sets rows out in columns", function()
      assert.equal([[
id  price  tags     title
 1    0.5  { "a" }  title 1
 2      1  { "a" }  Größe\n
(2 rows of inspected)]], inspect { Book:load(1), Book:load(2) })
      assert.equal('inspected { id = 1, price = 0.5, tags = { "a" }, title = "title 1" }',
        inspect(Book:load(1)))
    end)

    case("reads a query's first rows", function()
      local text = inspect(Book:rows():order_by "price")
      assert.matches("^id  price", text)
      assert.matches("\n20     10  [^\n]*\n%(the first 20 rows of inspected%)$", text)
      assert.matches("\n%(1 row of inspected%)$", inspect(Book:where { title = "title 7" }))
      assert.matches("%(3 rows of inspected%)$", inspect(Book:rows():limit(3)))
      assert.matches("%(the first 20 of 30 rows of inspected%)$", inspect(Book:rows():all()))
    end)
  end)
end)
