local neap = require "neap"
local check = require "support.model_check"
local case = require "support.case" (it)
local error_of, code_of = require "support.failure" (assert)
local model, field, null = neap.model, neap.field, neap.null

local function has(text, part)
  assert.is_truthy(tostring(text):find(part, 1, true), ("%q in %q"):format(part, tostring(text)))
end

-- define makes a model anew.
local function define(name, fields, options)
  local m = model.define(name, fields, options)
  m:drop()
  return m
end

local function key() return field.string { primary_key = true } end

-- ids returns a model's primary keys, sorted.
local function ids(m, ...)
  local list = {}
  for row in (... and m:where(...) or m:rows()):each() do list[#list + 1] = row:primary_key() end
  table.sort(list)
  return list
end

local function all_true(...)
  for _, m in ipairs { ... } do assert.same({}, check(m), m.name) end
end

describe("row:related", function()
  local User, Post
  before_each(function()
    User = define("user", { id = key(), name = field.string() })
    Post = define("post", { id = key(), author = field.ref(User), parent = field.ref "self",
      text = field.text() })
  end)

  case("is the row that a reference is to, as it is stored by now", function()
    local ada = User:create { id = "ada", name = "Ada" }
    local first = Post:create { id = "1", author = ada }
    local second = Post:create { id = "2", author = "ada", parent = first }
    assert.same(ada:to_table(), second:related("author"):to_table())
    assert.equal("1", second:related("parent").id)
    assert.equal("ada", second:related("parent"):related("author").id)
    ada.name = "Eve"
    ada:save()
    assert.equal("Eve", Post:load("2"):related("author").name)
    second.author = User:create { id = "bob" } -- not saved yet
    assert.equal("bob", second:related("author").id)
  end)

  case("is nil without one, or where that is gone", function()
    local post = Post:create { id = "1", author = "nobody" }
    assert.is_nil(post:related "parent")
    assert.is_nil(post:related "author")
    post.author = null
    assert.is_nil(post:related "author")
    for _, name in ipairs { "text", "nope", "" } do
      local err = error_of(post.related, post, name)
      assert.equal("model.invalid", err.code)
      has(err, "model post: there is no reference '" .. name .. "'")
    end
  end)

  case("finds rows by a composite key and by integers", function()
    local Seat = define("seat", { hall = field.string(), line = field.integer() },
      { primary_key = { "hall", "line" } })
    local Number = define("number", { id = field.integer { primary_key = true, auto = true } })
    local Ticket = define("ticket", { id = key(), seat = field.ref(Seat) { index = true },
      number = field.ref(Number) { index = true } })
    local seat, number = Seat:create { hall = "a:b", line = 7 }, Number:create {}
    Ticket:create { id = "t", seat = seat, number = number }
    local ticket = Ticket:load "t"
    assert.same(seat:to_table(), ticket:related("seat"):to_table())
    assert.equal(1, ticket:related("number").id)
    Seat:has_many("tickets", Ticket, "seat")
    Number:has_many("tickets", Ticket, "number")
    assert.same({ "t" }, seat:tickets():ids())
    assert.same({ "t" }, number:tickets():ids())
  end)
end)

describe("has_many", function()
  case("gives rows a query for what refers to them", function()
    local User = define("user", { id = key() })
    local Post = define("post", { id = key(), author = field.ref(User) { index = true },
      n = field.integer { sort = true }, parent = field.ref "self" { index = true } })
    User:has_many("posts", Post, "author")
    Post:has_many("replies", Post, "parent")
    local ada, bob = User:create { id = "ada" }, User:create { id = "bob" }
    for i = 1, 5 do Post:create { id = "p" .. i, author = i % 2 == 0 and bob or ada, n = -i } end
    assert.same({ "p1", "p3", "p5" }, ada:posts():ids())
    assert.same({ "p5", "p3" }, ada:posts():order_by("n"):limit(2):ids())
    assert.equal(2, bob:posts():count())
    assert.equal(0, User:create({ id = "eve" }):posts():count())
    local first = Post:load "p1"
    Post:create { id = "r", parent = first, author = bob }
    assert.same({ "r" }, first:replies():where("author", "bob"):ids())
    assert.same({ "r" }, Post:load("p1"):replies():ids())
  end)

  case("is refused where there is no indexed reference, naming it", function()
    local User = define("user", { id = key(), name = field.string() })
    local Other = define("other", { id = key() })
    local Post = define("post", { id = key(), author = field.ref(User), text = field.string(),
      other = field.ref(Other) { index = true } })
    for _, wrong in ipairs { { Post, "text" }, { Post, "nope" }, { Post }, { Post, "other" }, {},
      { {}, "author" }, { "post", "author" } } do
      local err = error_of(User.has_many, User, "posts", unpack(wrong))
      assert.equal("model.definition", err.code)
      has(err, "model user: has_many(posts)")
    end
    has(error_of(User.has_many, User, "posts", Post, "author"), "index = true")
    Post = define("post", { id = key(), author = field.ref(User) { index = true } })
    assert.is_false(pcall(User.has_many, User, "name", Post, "author"))
    for _, name in ipairs { "save", "delete", "related", 5, {} } do
      has(error_of(User.has_many, User, name, Post, "author"), "a name that no row's method has")
    end
    has(error_of(User.has_many, User, nil, Post, "author"), "has_many(nil)")
  end)
end)

describe("a delete", function()
  local User, Post, Like

  -- family defines users, their posts, and likes of posts.
  local function family(of_post, of_like, options)
    User = define("user", { id = key() })
    Post = define("post", { id = key(), author = field.ref(User) { on_delete = of_post },
      n = field.integer { index = true } }, options)
    Like = define("like", { id = key(), post = field.ref(Post) { on_delete = of_like } })
    for _, name in ipairs { "ada", "bob" } do
      User:create { id = name }
      for i = 1, 3 do
        Post:create { id = name .. i, author = name, n = i }
        Like:create { id = "like " .. name .. i, post = name .. i }
      end
    end
  end

  case("that is restricted changes nothing, and tells what refers to it", function()
    family("restrict", nil)
    local ada = User:load "ada"
    local err = error_of(ada.delete, ada)
    assert.equal("model.restricted", err.code)
    has(err, "model user: ada is referred to by 3 rows of post (author)")
    assert.is_true(User:exists "ada")
    for post in Post:where { author = "ada" }:each() do
      if post.n > 1 then post:delete() end
    end
    has(error_of(ada.delete, ada), "1 row of post")
    Post:load("ada1"):delete()
    ada:delete()
    assert.same({ "bob" }, ids(User))
    all_true(User, Post, Like)
  end)

  case("that cascades takes with it what refers to it, and what refers to that", function()
    family("cascade", "cascade")
    User:load("ada"):delete()
    assert.same({ "bob" }, ids(User))
    assert.same({ "bob1", "bob2", "bob3" }, ids(Post))
    assert.same({ "like bob1", "like bob2", "like bob3" }, ids(Like))
    all_true(User, Post, Like)
  end)

  case("that nullifies leaves rows without reference", function()
    family("nullify", "cascade")
    User:load("ada"):delete()
    assert.same({ "ada1", "ada2", "ada3" }, ids(Post, "author", null))
    assert.equal(6, Like:rows():count())
    assert.is_nil(Post:load("ada1").author)
    assert.equal("bob", Post:load("bob1").author)
    all_true(User, Post, Like)
  end)

  case("without on_delete leaves them as they are", function()
    family(nil, nil)
    User:load("ada"):delete()
    assert.equal("ada", Post:load("ada1").author)
    assert.is_nil(Post:load("ada1"):related "author")
  end)

  case("that is restricted further on changes nothing at all", function()
    family("cascade", "restrict")
    Like:load("like ada1"):delete()
    local ada = User:load "ada"
    local err = error_of(ada.delete, ada)
    assert.equal("model.restricted", err.code)
    has(err, "of like (post)")
    assert.same({ "ada1", "ada2", "ada3", "bob1", "bob2", "bob3" }, ids(Post))
    for like in Like:rows():each() do like:delete() end
    ada:delete()
    assert.same({ "bob1", "bob2", "bob3" }, ids(Post))
    all_true(User, Post, Like)
  end)

  case("looks at what is restricted before it nullifies or cascades", function()
    family("cascade", "cascade")
    local Note = define("note", { id = key(), user = field.ref(User) { on_delete = "nullify" },
      boss = field.ref(User) { on_delete = "restrict" } })
    Note:create { id = "n", user = "ada", boss = "ada" }
    local ada = User:load "ada"
    assert.equal("model.restricted", code_of(ada.delete, ada))
    assert.equal("ada", Note:load("n").user)
    assert.equal(6, Post:rows():count())
    local note = Note:load "n"
    note.boss = nil
    note:save()
    ada:delete()
    assert.same({ id = "n" }, Note:load("n"):to_table())
    assert.equal(3, Post:rows():count())
  end)

  case("of a row that is gone, or another by now, leaves its references alone", function()
    family("cascade", "cascade")
    local stale, gone = User:load "ada", User:load "bob"
    Post:create { id = "other" }
    gone:delete()
    stale:delete()
    assert.equal("model.gone", code_of(stale.delete, stale))
    stale = User:create { id = "ada" }
    User:load("ada"):delete()
    User:create { id = "ada" }
    Post:create { id = "new", author = "ada" }
    assert.equal("model.gone", code_of(stale.delete, stale))
    assert.same({ "new" }, ids(Post, "author", "ada"))
    all_true(User, Post, Like)
  end)

  case("is of the row that was loaded, whatever key its table has", function()
    family("cascade", "cascade")
    local ada = User:load "ada"
    ada.id = "bob"
    ada:delete()
    assert.same({ "bob" }, ids(User))
    assert.same({ "bob1", "bob2", "bob3" }, ids(Post))
  end)

  case("cascades over 1,000 rows, each once with its hooks", function()
    local before, after = 0, 0
    family("cascade", nil, { hooks = {
      before_delete = function() before = before + 1 end,
      after_delete = function() after = after + 1 end } })
    local rows = {}
    for i = 1, 1000 do rows[i] = { id = "x" .. i, author = "ada", n = i } end
    Post:create_many(rows)
    User:load("ada"):delete()
    assert.same({ "bob1", "bob2", "bob3" }, ids(Post))
    assert.same({ 1003, 1003 }, { before, after })
    all_true(User, Post)
  end)

  case("does not mind what is deleted, or refers to another, meanwhile", function()
    for _, on_delete in ipairs { "cascade", "nullify" } do
      local hooks = {}
      family(on_delete, nil, { hooks = hooks })
      local is_first = true
      hooks[on_delete == "cascade" and "before_delete" or "before_save"] = function()
        if not is_first then return end
        is_first = false
        for i = 1, 3 do
          if Post:exists("ada" .. i) then Post:load("ada" .. i):delete() end
        end
      end
      User:load("ada"):delete()
      assert.same({ "bob1", "bob2", "bob3" }, ids(Post))
      all_true(User, Post)
    end
  end)

  case("nullifies in an optimistic model what others change meanwhile", function()
    local hooks = {}
    family("nullify", nil, { optimistic = true, hooks = hooks })
    local is_first = true
    function hooks.before_save(post)
      if not is_first then return end
      is_first = false
      local other = Post:load(post.id)
      other.n = 77
      other:save()
    end
    User:load("ada"):delete()
    assert.same({ "ada1", "ada2", "ada3" }, ids(Post, "author", null))
    assert.equal(1, Post:where { n = 77 }:count())
    -- who refers to another by then, keeps that
    is_first = true
    function hooks.before_save(post)
      if not is_first or post.author then return end
      is_first = false
      local other = Post:load(post.id)
      other.author = "eve"
      other:save()
    end
    User:load("bob"):delete()
    assert.equal(1, #ids(Post, "author", "eve"))
    assert.equal(5, #ids(Post, "author", null))
    all_true(User, Post)
  end)

  case("that a hook or a failure stops part of the way can be repeated", function()
    local hooks = {}
    family("cascade", "cascade", { hooks = hooks })
    function hooks.before_delete(post) if post.id == "ada2" then error("not this", 0) end end
    local ada = User:load "ada"
    assert.same({ false, "not this" }, { pcall(ada.delete, ada) })
    assert.is_true(User:exists "ada")
    assert.is_true(Post:exists "ada2")
    hooks.before_delete = nil
    ada:delete()
    assert.same({ "bob1", "bob2", "bob3" }, ids(Post))
    all_true(User, Post, Like)
  end)

  case("by several tasks at once ends with one that did it", function()
    family("cascade", "cascade")
    local tasks, deleted = {}, 0
    for i = 1, 5 do
      local ada = User:load "ada"
      tasks[i] = function()
        local ok, err = pcall(ada.delete, ada)
        if not ok then assert.equal("model.gone", err.code) end
        deleted = deleted + (ok and 1 or 0)
      end
    end
    neap.all(tasks)
    assert.equal(1, deleted)
    assert.equal(3, Post:rows():count())
    all_true(User, Post, Like)
  end)
end)

describe("a reference to the model itself", function()
  local Node
  local function tree(on_delete)
    Node = define("node", { id = key(), parent = field.ref "self" { on_delete = on_delete } })
    for _, row in ipairs { { id = "a" }, { id = "b", parent = "a" }, { id = "c", parent = "a" },
      { id = "d", parent = "b" }, { id = "e", parent = "d" }, { id = "z" } } do
      Node:create(row)
    end
  end

  case("cascades down the tree", function()
    tree "cascade"
    Node:load("b"):delete()
    assert.same({ "a", "c", "z" }, ids(Node))
    Node:load("a"):delete()
    assert.same({ "z" }, ids(Node))
    all_true(Node)
  end)

  case("is restricted, or nullified, one level down", function()
    tree "restrict"
    local b = Node:load "b"
    assert.equal("model.restricted", code_of(b.delete, b))
    Node:load("e"):delete()
    Node:load("d"):delete()
    b:delete()
    tree "nullify"
    Node:load("a"):delete()
    assert.same({ "b", "c", "z" }, ids(Node, "parent", null))
    assert.equal("b", Node:load("d").parent)
    all_true(Node)
  end)

  case("may go round in a circle", function()
    for _, on_delete in ipairs { "cascade", "nullify", "restrict" } do
      tree(on_delete)
      local a, z = Node:load "a", Node:load "z"
      z.parent = z
      z:save()
      z:delete()
      assert.is_nil(Node:load "z")
      a.parent = "e"
      a:save()
      if on_delete == "restrict" then
        assert.equal("model.restricted", code_of(a.delete, a))
      else
        a:delete()
        assert.same(on_delete == "cascade" and {} or { "b", "c", "d", "e" }, ids(Node))
      end
      all_true(Node)
    end
  end)

  case("cascades down a chain of 500", function()
    Node = define("node", { id = key(), parent = field.ref "self" { on_delete = "cascade" } })
    local rows = {}
    for i = 1, 500 do rows[i] = { id = "n" .. i, parent = i > 1 and "n" .. i - 1 or nil } end
    Node:create_many(rows)
    Node:load("n1"):delete()
    assert.equal(0, Node:rows():count())
    all_true(Node)
  end)
end)

describe("a reference that is part of a key", function()
  case("takes the row along", function()
    local User = define("user", { id = field.uuid { primary_key = true } })
    local Group = define("crowd", { id = field.integer { primary_key = true, auto = true } })
    local Member = define("member", { user = field.ref(User) { on_delete = "cascade" },
      crowd = field.ref(Group) { on_delete = "restrict" }, since = field.date() },
      { primary_key = { "user", "crowd" } })
    local ada, bob, crowd = User:create {}, User:create {}, Group:create {}
    Member:create { user = ada, crowd = crowd }
    Member:create { user = bob, crowd = crowd }
    has(error_of(crowd.delete, crowd), "1 is referred to by 2 rows of member (crowd)")
    ada:delete()
    assert.is_nil(Member:load { user = ada.id, crowd = crowd.id })
    assert.is_table(Member:load { user = bob.id, crowd = crowd.id })
    bob:delete()
    crowd:delete()
    assert.equal(0, Member:rows():count())
  end)
end)
