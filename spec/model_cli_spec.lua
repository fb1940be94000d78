local neap = require "neap"
local uv = require "luv"
local stats = require "neap.model_stats"
local process = require "support.process"
local redis_server = require "support.redis"
local case = require "support.case" (it)

describe("neap model", function()
  local server, redis, dir

  setup(function()
    server = redis_server.start()
    redis = neap.redis(server.url)
    dir = process.temp_dir()
    process.write(dir .. "/book.lua", [[
      local neap = require "neap"
      local field = neap.field
      return neap.model.define("book", {
        id    = field.integer { primary_key = true, auto = true },
        title = field.string  { index = true },
        isbn  = field.string  { unique = true },
        pages = field.integer { min = 0, max = 9000, index = true, sort = true },
      })]])
    process.write(dir .. "/shop.lua", [[
      local neap = require "neap"
      neap.model.define("shop", { id = neap.field.uuid { primary_key = true } })
    ]])
    process.write(dir .. "/all.lua", "require 'book'\nrequire 'shop'\n")
    process.write(dir .. "/slow.lua", [[
      local neap, Book = require "neap", require "book"
      function Book:sync(options)
        print("pid " .. require("luv").os_getpid())
        for i = 0, tonumber(os.getenv "STEPS") do
          options.progress(i * 1000, 2000, "title")
          neap.sleep(0.11)
        end
        return "updated"
      end]])
  end)
  teardown(function()
    redis:close()
    server:stop()
    process.remove(dir)
  end)
  before_each(function() redis:flushall() end)

  local function environment(extra)
    local env = { NEAP_REDIS_URL = server.url }
    for name, value in pairs(extra or {}) do env[name] = value end
    return env
  end

  local function run(command, file, ...)
    return process.neap({ "model", command, file and dir .. "/" .. file, ... },
      { env = environment() })
  end

  -- start_on_terminal starts the command on a terminal of its own, which `input` is typed at.
  local function start_on_terminal(words, input, env)
    local line = uv.exepath() .. " model " .. words:gsub("FILE", dir .. "/")
    return process.start("script", { "-qec", line, "/dev/null" },
      { env = environment(env), input = input })
  end

  local function fill(n)
    local code = [[
      local Book = dofile(arg[1])
      local list = {}
      for i = 1, tonumber(arg[2]) do
        list[i] = { title = "t" .. i % 3, isbn = "i" .. i, pages = i }
      end
      Book:create_many(list)]]
    process.write(dir .. "/fill.lua", code)
    local r = process.neap({ dir .. "/fill.lua", dir .. "/book.lua", tostring(n) },
      { env = environment() })
    assert.same({ 0, "" }, { r.status, r.err })
  end

  case("lists models with rows and indexes, defined by the file or by what it requires", function()
    fill(1200)
    local r = run("list", "all.lua")
    assert.same({ 0, "" }, { r.status, r.err })
    assert.matches("^model +rows +ttl +definition +indexes\n", r.out)
    assert.matches("\nbook +1,200 +none +in use +isbn: unique, pages: packed column and "
      .. "ordered, title: set\n", r.out)
    assert.matches("\nshop +0 +none +not stored +none\n$", r.out)
  end)

  case("lists what a definition still needs", function()
    fill(3)
    process.write(dir .. "/unindexed.lua", [[
      local field = require("neap").field
      return require("neap").model.define("book", {
        id = field.integer { primary_key = true, auto = true }, title = field.string {},
      })]])
    assert.matches("needs sync", run("list", "unindexed.lua").out)
    assert.matches("in use", run("list", "book.lua").out)
  end)

  case("takes a file that returns a model, and those models alone that are named", function()
    assert.matches("\nbook ", run("list", "book.lua").out)
    local r = run("list", "all.lua", "shop")
    assert.matches("\nshop ", r.out)
    assert.is_nil(r.out:find("book", 1, true))
  end)

  case("refuses a wrong command line with status 2 and names what is known", function()
    for _, t in ipairs {
      { {}, "model needs a command: list, sync, verify, drop, stats" },
      { { "lst" }, "unknown command 'model lst' (list, sync, verify, drop, stats are known)" },
      { { "list" }, "model list needs a FILE.lua" },
      { { "list", dir .. "/all.lua", "--what" }, "unknown option --what" },
      { { "sync", dir .. "/all.lua", "--repair" }, "--repair is for model verify" },
      { { "list", dir .. "/all.lua", "shop", "shp" },
        "defines no model 'shp' (book, shop are known)" },
      { { "list", dir .. "/none.lua" }, "none.lua defines no models" },
    } do
      process.write(dir .. "/none.lua", "")
      local r = process.neap({ "model", unpack(t[1]) }, { env = environment() })
      assert.same({ t[2], 2, "" }, { t[2], r.status, r.out })
      assert.matches(t[2], r.err, 1, true)
    end
  end)

  case("shows itself in the help, and its own", function()
    assert.matches("neap model list|sync|verify|drop|stats FILE.lua",
      process.neap({ "--help" }).out, 1, true)
    local r = process.neap { "model", "--help" }
    assert.equal(0, r.status)
    for _, name in ipairs { "list", "sync", "verify", "drop", "stats", "--repair", "--yes" } do
      assert.matches(name, r.out, 1, true)
    end
  end)

  case("ends with 1 when the file fails, and says where", function()
    process.write(dir .. "/broken.lua", "local x\nx.y = 1\n")
    local r = run("list", "broken.lua")
    assert.equal(1, r.status)
    assert.matches("broken%.lua:2: attempt to index", r.err)
    assert.is_nil(r.err:find("model_cli", 1, true))
  end)

  case("ends although the file started what goes on for ever", function()
    process.write(dir .. "/service.lua", [[
      require "book"
      require("neap").every(0.01, function() end)]])
    local r = run("list", "service.lua")
    assert.same({ 0, "" }, { r.status, r.err })
  end)

  case("stores definitions", function()
    assert.equal("book: created\nshop: created\n", run("sync", "all.lua").out)
    local r = run("sync", "all.lua")
    assert.same({ 0, "book: unchanged\nshop: unchanged\n", "" }, { r.status, r.out, r.err })
  end)

  case("reports the model that fails, goes on with the others, and ends with 1", function()
    redis:set("{book}/@meta", "of another type")
    local r = run("sync", "all.lua")
    assert.same({ 1, "shop: created\n" }, { r.status, r.out })
    assert.matches("^neap: book: redis", r.err)
    r = process.neap({ "model", "list", dir .. "/all.lua" },
      { env = { NEAP_REDIS_URL = "redis://127.0.0.1:" .. redis_server.free_port() } })
    assert.same({ 1, "" }, { r.status, r.out })
    assert.matches("neap: book: redis.connect.*neap: shop: redis.connect", r.err)
  end)

  case("drops with --yes, the named model alone", function()
    fill(3)
    run("sync", "all.lua")
    redis:set("{bookshelf}:1", "another's")
    local r = run("drop", "all.lua", "book", "--yes")
    assert.same({ 0, "book: dropped, 3 rows\n", "" }, { r.status, r.out, r.err })
    local left = {}
    for key in redis:scan() do left[#left + 1] = key:match("^{%l+}") end
    table.sort(left)
    assert.same({ "{bookshelf}", "{shop}", "{shop}" }, left)
  end)

  case("refuses to drop where nobody can be asked", function()
    fill(3)
    local r = process.neap({ "model", "drop", dir .. "/book.lua" },
      { env = environment(), input = "y\n" })
    assert.same({ 2, "" }, { r.status, r.out })
    assert.matches("there is no terminal to ask at; --yes drops without asking", r.err, 1, true)
    assert.equal(3, redis:bitcount "{book}/@rows.0")
  end)

  case("drops on a terminal after a yes only", function()
    for input, is_dropped in pairs { ["y\n"] = true, ["YES\n"] = true, ["n\n"] = false,
      ["\n"] = false, ["yellow\n"] = false, ["\4"] = false } do
      redis:flushall()
      fill(1)
      local r = start_on_terminal("drop FILEbook.lua", input):wait()
      assert.matches("drop book: 1 row? [y/N]", r.out, 1, true)
      assert.matches(is_dropped and "book: dropped, 1 row\r" or "book: kept\r", r.out, 1, true)
      assert.equal(is_dropped and 0 or 1, redis:exists "{book}:1")
    end
  end)

  case("asks for one model after the other", function()
    fill(1)
    run("sync", "all.lua")
    local r = start_on_terminal("drop FILEall.lua", "n\ny\n"):wait()
    assert.matches("book: kept.*shop: dropped, 0 rows", r.out)
    assert.equal(1, redis:exists "{book}:1")
  end)

  case("shows rows, segments and memory by kind of key", function()
    fill(30)
    local r = run("stats", "all.lua")
    assert.same({ 0, "" }, { r.status, r.err })
    assert.matches("^book: 30 rows, 1 segment, about [%d.]+ KiB\n", r.out)
    for key, count in pairs { ["{book}:ID"] = "30 keys", ["{book}/title.S"] = "3 keys",
      ["{book}/pages.S"] = "1 key", ["{book}/pages"] = "1 key", ["{book}/isbn!"] = "1 key",
      ["{book}/@rows.S"] = "1 key", ["{book}/@journal:HOST"] = "1 key" } do
      assert.matches("\n " .. key:gsub("%p", "%%%0") .. " +[%d.]+ K?i?B +" .. count .. "\n", r.out)
    end
    assert.matches("\nshop: 0 rows, 0 segments, about 0 B\n$", r.out)
  end)

  case("counts rows in all segments, and tells the progress", function()
    local Wide = neap.model.define("wide", { id = neap.field.uuid { primary_key = true } },
      { redis = redis })
    redis:hset("{wide}/@meta", "top", 600 * 65536 + 1)
    for _, s in ipairs { 0, 1, 511, 512, 600 } do redis:setbit("{wide}/@rows." .. s, s, 1) end
    local told = {}
    local rows, segments = stats.count(Wide, function(done, total)
      told[#told + 1] = done .. "/" .. total
    end)
    assert.same({ 5, 601, { "512/601", "601/601" } }, { rows, segments, told })
  end)

  case("estimates memory from samples", function()
    local Wide = neap.model.define("wide", { id = neap.field.uuid { primary_key = true } },
      { redis = redis })
    redis:pipeline(function(p)
      for i = 1, 5000 do p:set(("{wide}/x.%05d=v"):format(i), "value") end
    end)
    local one = redis:memory("usage", "{wide}/x.00001=v")
    local read = stats.read(Wide)
    assert.equal("{wide}/x.S", read.memory[1].name)
    -- a key may come twice while the keyspace is being resized
    assert.is_true(read.memory[1].keys >= 5000)
    assert.equal(one * read.memory[1].keys, read.memory[1].bytes)
  end)

  case("draws a bar on a terminal, and clears it", function()
    local r = start_on_terminal("sync FILEslow.lua", nil, { STEPS = "2" }):wait()
    assert.matches("\rbook title [" .. (" "):rep(24) .. "]   0%  0/2,000\27[K", r.out, 1, true)
    assert.matches("\rbook title %[" .. ("="):rep(12) .. " +%]  50%%  1,000/2,000  [%d,]+/s  ETA",
      r.out)
    assert.matches("\r\27%[Kbook: updated %(built title: 2,000 rows in %d", r.out)
  end)

  case("writes no bar where there is no terminal", function()
    local r = process.neap({ "model", "sync", dir .. "/slow.lua" },
      { env = environment { STEPS = "2" } })
    assert.same({ 0, "" }, { r.status, r.err })
    assert.matches("book: updated %(built title: 2,000 rows in %d", r.out)
  end)

  case("ends on Ctrl-C with the terminal's line ended", function()
    local child = start_on_terminal("sync FILEslow.lua", nil, { STEPS = "1000" })
    child:wait_for(" 50%")
    uv.kill(tonumber(child.out:match("pid (%d+)")), "sigint")
    child:wait()
    assert.equal(130, child.status)
    assert.matches("ETA[^\n]*\r\n$", child.out)
  end)

  case("verifies, and repairs if told to", function()
    fill(20)
    local r = run("verify", "book.lua")
    assert.same({ 0, "book: 20 rows; ghosts 0, missing 0, uniques 0, lost 0\n", "" },
      { r.status, r.out, r.err })
    redis:zrem("{book}/pages", "\0\0\0\3") -- ordinal 3
    r = run("verify", "book.lua")
    assert.same({ 1, "" }, { r.status, r.err })
    assert.matches("^book: 20 rows; ghosts 0, missing 1, uniques 0, lost 0\n  %S", r.out)
    r = run("verify", "book.lua", "--repair")
    assert.equal(0, r.status)
    assert.matches("missing 1, uniques 0, lost 0, repaired 1\n", r.out, 1, true)
    assert.equal(0, run("verify", "book.lua").status)
  end)
end)
