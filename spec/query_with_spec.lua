local neap = require "neap"
local servers = require "support.redis"
local case = require "support.case" (it)
local error_of, code_of = require "support.failure" (assert)
local model, field = neap.model, neap.field

local server, redis, Author, Shelf, Book

setup(function()
  server = servers.start()
  redis = neap.redis(server.url)
  Author = model.define("with_author", { name = field.string { primary_key = true },
    friend = field.ref "self" }, { redis = redis })
  Shelf = model.define("with_shelf", { x = field.integer {}, y = field.integer {},
    label = field.string {} }, { primary_key = { "x", "y" }, redis = redis })
  Book = model.define("with_book", {
    id = field.integer { primary_key = true, auto = true },
    author = field.ref(Author) { index = true },
    shelf = field.ref(Shelf),
    sequel_of = field.ref "self" { index = true },
    pages = field.integer { sort = true },
  }, { redis = redis })
end)
before_each(function() redis:flushall() end)
teardown(function()
  redis:close()
  server:stop()
end)

-- fill stores n books by so many authors; each fifth has none.
local function fill(n, authors)
  local list = {}
  for i = 1, authors do list[i] = { name = "author " .. i } end
  Author:create_many(list)
  Shelf:create { x = 1, y = 2, label = "left" }
  list = {}
  for i = 1, n do
    list[i] = { author = i % 5 ~= 0 and "author " .. i % authors + 1 or nil, pages = i,
      shelf = i % 2 == 0 and Shelf:load { x = 1, y = 2 } or nil }
  end
  Book:create_many(list)
end

-- server_stat returns a number of the server's INFO.
local function server_stat(section, pattern)
  return tonumber(redis:info(section):match(pattern) or 0)
end

-- costs_of returns how many commands fn made the server carry out, and how many times it
-- read from a connection meanwhile; without those of the measurement itself.
local function costs_of(fn)
  local function measure()
    return server_stat("stats", "total_commands_processed:(%d+)"),
      server_stat("stats", "total_reads_processed:(%d+)")
  end
  local commands, reads = measure()
  fn()
  local commands_then, reads_then = measure()
  return commands_then - commands - 2, reads_then - reads - 2
end

describe("with", function()
  case("brings the rows that are referred to: related does not wait any more", function()
    fill(40, 7)
    local rows = Book:rows():with("author"):all()
    local commands = costs_of(function()
      for _, row in ipairs(rows) do
        local author = row:related "author"
        assert.equal(row.author, author and author.name)
      end
    end)
    assert.equal(0, commands)
    assert.equal(40, #rows)
    assert.is_nil(rows[5]:related "author")
  end)

  case("takes as many round trips for many rows as for few", function()
    fill(240, 150)
    local query = Book:where("author", model.ne(neap.null)):with "author"
    query:limit(1):all()
    local _, few = costs_of(function() query:limit(10):all() end)
    local commands, many = costs_of(function() query:limit(150):all() end)
    assert.is_true(commands > 250, commands)
    -- a long pipeline comes to the server in a few parts
    assert.is_true(few < 10 and many < 25, ("%d, %d"):format(few, many))
  end)

  case("loads each row that is referred to once for a batch", function()
    fill(200, 3)
    local query = Book:rows()
    for _ = 1, 3 do query:all() end -- then its columns are in the cache
    local plain = costs_of(function() query:all() end)
    local with = costs_of(function() query:with("author"):all() end)
    assert.equal(plain + 3, with)
    local rows = query:with("author"):all()
    assert.equal(rows[3]:related "author", rows[6]:related "author")
  end)

  case("takes several references, in one call or more, and one twice", function()
    fill(20, 3)
    for _, query in ipairs { Book:rows():with("author", "shelf"),
      Book:rows():with("author"):with("shelf"), Book:rows():with("author", "author", "shelf"),
      Book:rows():with("shelf"):with():with("author") } do
      local rows = query:all()
      local commands = costs_of(function()
        for _, row in ipairs(rows) do
          assert.equal(row.author, (row:related "author" or {}).name)
          assert.equal(row.shelf and "left", (row:related "shelf" or {}).label)
        end
      end)
      assert.equal(0, commands)
    end
  end)

  case("comes with all, first, one, each, page and pages that follow", function()
    fill(30, 3)
    local query = Book:rows():order_by("pages", "desc"):with "author"
    local function related_costs(rows)
      return (costs_of(function()
        for _, row in ipairs(rows) do
          assert.equal(row.author, (row:related "author" or {}).name)
        end
      end))
    end
    local rows, cursor = query:page { size = 4 }
    assert.equal(0, related_costs(rows))
    assert.equal(0, related_costs(query:page { size = 4, after = cursor }))
    assert.equal(0, related_costs { query:offset(1):first() })
    assert.equal(0, related_costs { Book:where("id", 3):with("author"):one() })
    rows = {}
    for row in query:each() do rows[#rows + 1] = row end
    assert.equal(30, #rows)
    assert.equal(0, related_costs(rows))
    assert.equal(30, query:count())
    assert.equal(30, #query:ids())
    assert.is_true(query:exists())
  end)

  case("has nil where the reference dangles, without asking again", function()
    fill(10, 2)
    Author:load("author 1"):delete()
    local rows = Book:rows():with("author"):all()
    local commands = costs_of(function()
      for _, row in ipairs(rows) do
        local author = row:related "author"
        assert.equal(row.author == "author 2" and "author 2" or nil, author and author.name)
      end
    end)
    assert.equal(0, commands)
    Author:load("author 2"):delete()
    for row in Book:rows():with("author"):each() do assert.is_nil(row:related "author") end
  end)

  case("of rows that refer to none asks for nothing", function()
    Book:create_many { {}, {}, {} }
    for _ = 1, 3 do Book:rows():all() end -- then its columns are in the cache
    local plain = costs_of(function() Book:rows():all() end)
    local with = costs_of(function() Book:rows():with("author", "shelf", "sequel_of"):all() end)
    assert.equal(plain, with)
    assert.same({}, { unpack(Book:where("id", 77):with("author"):all()) })
  end)

  case("goes to rows of the same model", function()
    Book:create_many { {}, { sequel_of = 1 }, { sequel_of = 2 }, { sequel_of = 4 } }
    local rows = Book:rows():with("sequel_of"):all()
    assert.equal(1, rows[2]:related("sequel_of").id)
    assert.equal(1, rows[3]:related("sequel_of"):related("sequel_of").id)
    assert.equal(4, rows[4]:related("sequel_of").id)
    assert.is_nil(rows[1]:related "sequel_of")
  end)

  case("does not hold a row to what it referred to before", function()
    fill(4, 3)
    local row = Book:where("id", 1):with("author"):one()
    row.author = "author 3"
    assert.equal("author 3", row:related("author").name)
    row.author = Author:load "author 1"
    assert.equal("author 1", row:related("author").name)
    row.author = nil
    assert.is_nil(row:related "author")
    local other = Book:load(1)
    other.author = "author 1"
    other:save()
    row = Book:where("id", 1):with("author"):one()
    other.author = "author 3"
    other:save()
    assert.equal("author 3", row:reload():related("author").name)
  end)

  case("gives rows that can be saved", function()
    fill(4, 2)
    local author = Book:where("id", 1):with("author"):one():related "author"
    author.friend = "author 1"
    author:save()
    assert.equal("author 1", Author:load(author.name).friend)
  end)

  case("refuses what is no reference", function()
    for _, name in ipairs { "pages", "absent", "id", "", "author.friend", 5, true, {}, print } do
      local err = error_of(Book.rows(Book).with, Book:rows(), name)
      assert.equal("model.invalid", err.code)
      assert.is_truthy(err.message:find("model with_book: there is no reference '", 1, true))
    end
    assert.equal("model.invalid", code_of(Book.rows(Book).with, Book:rows(), "author", "pages"))
    assert.equal("model.invalid", code_of(Book.rows(Book).with, Book:rows(), "author", nil, "x"))
    assert.equal("model.invalid", code_of(Book.rows(Book).with, Book:rows(), nil))
  end)

  case("fails with the query when the other rows are damaged", function()
    fill(4, 2)
    redis:del "{with_author}:author 1"
    redis:lpush("{with_author}:author 1", "planted")
    local query = Book:rows():with "author"
    assert.equal("model.damaged", code_of(query.all, query))
    assert.equal(4, #Book:rows():all())
  end)
end)
