local case = require "support.case" (it)
local neap = require "neap"
local new_session = require("neap.console_session").new
local process = require "support.process"
local model, field = neap.model, neap.field

describe("the console's", function()
  local session, redis, Lamp

  setup(function()
    redis = neap.redis "memory:"
    Lamp = model.define("lamp", { id = field.integer { primary_key = true },
      watts = field.integer { min = 1, max = 99, index = true } }, { redis = redis })
    for i = 1, 5 do Lamp:create { id = i, watts = i } end
  end)
  teardown(function()
    Lamp:drop()
    redis:close()
  end)
  before_each(function() session = new_session() end)
  after_each(function() session:close() end)

  -- run gives the session a line, which has to succeed, and returns the answer
  local function run(line)
    local letter, text = session:line(line)
    assert.equal("R", letter, text)
    return text
  end

  local function fails(line)
    local letter, text = session:line(line)
    assert.equal("E", letter)
    return text
  end

  case(":help tells of itself, of functions, and of Redis commands", function()
    assert.matches(":explain QUERY", run ":help", 1, true)
    assert.matches("^neap.sleep%(seconds%)", run ":help neap.sleep")
    assert.matches("^redis:zadd%(%.%.%.%): Adds? ", run ":help redis:zadd")
    assert.matches("redis:pipeline%(function", run ":help redis:pipeline")
    assert.matches("no help for 'neap.nothing'", fails ":help neap.nothing", 1, true)
    assert.matches("no command ':what'", fails ":what", 1, true)
    assert.matches("no command", fails ":")
    assert.matches("\nneap.spawn%(fn, ...%): starts a task", run ":help neap")
    assert.matches("query:order_by", run ":help query")
  end)

  case(":tasks lists them, and :cancel ends one", function()
    local t = neap.spawn(neap.sleep, 1000):name "the long one"
    neap.sleep(0.01)
    assert.matches("the long one  waiting  sleep", run ":tasks")
    assert.equal("cancelled", run(":cancel " .. t:info().id))
    neap.sleep(0)
    assert.equal("cancelled", t:status())
    assert.matches("no task of that number: 0", fails ":cancel 0")
    assert.matches("a task's number is missing", fails ":cancel x")
  end)

  case(":stats and :time", function()
    assert.matches("longest =", run ":stats")
    assert.matches("^42\ntook %d", run ":time 40 + 2")
    assert.matches("^took %d", run ":time neap.sleep(0.001)")
    assert.matches("an expression is missing", fails ":time")
    assert.matches("broken", fails ":time error 'broken'")
  end)

  case(":explain shows the plan of a query", function()
    assert.equal(Lamp:where({ watts = 3 }):explain():gsub("%s+$", ""),
      run(":explain Lamp:where { watts = 3 }"):gsub("%s+$", ""), nil)
    assert.matches("a query is expected", fails ":explain 7")
    assert.matches("unexpected", fails ":explain )")
  end)

  case(":redis shows commands as they end, until it is said again", function()
    local seen = {}
    local task = require "neap.core.task"
    task.set_context { [task.OUTPUT] = function(text)
      seen[#seen + 1] = text
      return true
    end }
    assert.matches("^each Redis command", run ":redis")
    redis:set("k", ("v"):rep(100))
    pcall(redis.lpush, redis, "k", 1)
    run ":redis"
    redis:get "k"
    local text = table.concat(seen)
    assert.matches("SET \"k\" \"v+%.%.%.\n", text)
    assert.matches("LPUSH \"k\" 1  redis.wrongtype", text)
    assert.is_nil(text:find("GET", 1, true))
  end)

  case(":profile tells where the time went, and writes the stacks to a file", function()
    local dir = process.temp_dir()
    local r = process.neap { "-e", ([[
      local neap = require "neap"
      local session = require("neap.console_session").new()
      local function busy() local x = 0 for i = 1, 1e7 do x = x + i %% 3 end return x end
      neap.spawn(function() for _ = 1, 1000 do busy() neap.sleep(0) end end)
      print(session:line ":profile 0.5 %s/out")
      neap.stop(0)
    ]]):format(dir) }
    assert.matches("^R\t[%d,]+ samples to .*/out\n[%s%d.]+%%  [^\n]*busy", r.out)
    assert.matches("busy %d+\n", io.open(dir .. "/out"):read "*a")
    assert.matches("seconds are missing", fails ":profile")
    process.remove(dir)
  end)

  case("completion knows globals, fields, methods, commands, models and their fields", function()
    local function complete(text)
      local n, names = session:complete(text)
      return n .. " " .. table.concat(names, " ")
    end
    assert.equal("5 print", complete "print")
    assert.equal("3 while", complete "whi")
    assert.equal("5 semaphore", complete "x = neap.semap")
    assert.equal("5 upper", complete "('x'):upper")
    assert.equal("6 hgetall", complete "redis:hgetal")
    assert.equal("3 where", complete "Lamp:whe")
    assert.equal("2 watts", complete "Lamp:where { wa")
    assert.equal("2 watts", complete "Lamp:rows():all() Lamp:create { id = 6, wa")
    assert.equal("1 watts", complete "Lamp:where('w")
    assert.equal("5 order_by", complete "Lamp:where { watts = 3 }:order")
    assert.equal("3 count count_by", complete "x = Lamp:where('watts', 3):limit(2):cou")
    pcall(function() redis:no_such_command() end)
    assert.equal("4 ", complete "redis:no_s")
    assert.equal("2 explain", complete ":ex")
    assert.equal("8 neap.sleep", complete ":help neap.sle")
    run "local mine = { deep = { deeper = { value = 1 } } }"
    assert.equal("3 mine", complete "min")
    assert.equal("1 value", complete "mine.deep.deeper.v")
    assert.equal("0 ", complete "no.such.thing.")
    assert.equal("0 ", complete "")
    assert.equal("0 ", complete(("("):rep(10000)))
  end)

  case("completion calls nothing that belongs to the program", function()
    run "trap = setmetatable({ known = 1 }, { __index = function() error 'called' end })"
    local n, names = session:complete "trap.kn"
    assert.same({ 2, { "known" } }, { n, names })
    assert.same({}, select(2, session:complete "trap.other.x"))
    run "trap = nil"
  end)

  case("names of models need no require, unless the program has such a global", function()
    assert.equal("5", run "Lamp:rows():count()")
    run "Lamp = 7"
    assert.equal("7", run "Lamp")
    run "Lamp = nil"
    assert.equal("5", run "lamp:rows():count()")
  end)

  case("locals stay for the session, globals for the process", function()
    for line, name in pairs {
      ["local a1 = 1"] = "a1", ["local a2, a3 = 1, 1"] = "a3", ["local a4 a4 = 1"] = "a4",
      ["local a5; a5 = 1"] = "a5", ["local  function a6() end a6 = 1"] = "a6",
      ["local a7 , a8 , a9 = 1, 1, 1"] = "a8",
    } do
      run(line)
      assert.equal("1", run(name), line)
      assert.is_nil(rawget(_G, name))
    end
    assert.equal("nil", run "local b1" == "" and run "b1")
    run "local print = print"
    assert.matches("^function", run "print")
    fails "local type = 5 5"
    assert.matches("^function", run "type")
    run "global_of_spec = 3"
    assert.equal("3", select(2, new_session():line "global_of_spec"))
    assert.equal("nil", select(2, new_session():line "a1"))
    run "global_of_spec = nil"
  end)
end)
