local neap = require "neap"
local process = require "support.process"
local case = require "support.case" (it)
local code_of, forever, idle, assert_cancelled = require "support.cancel" (assert)

describe("coroutines of one's own", function()
  case("may wait in generators, three deep", function()
    local function count(n)
      return coroutine.wrap(function()
        for i = 1, n do
          neap.sleep(0)
          coroutine.yield(i)
        end
      end)
    end
    local function twice(n)
      return coroutine.wrap(function()
        for v in count(n) do
          neap.sleep(0.0005)
          coroutine.yield(v)
          coroutine.yield(v)
        end
      end)
    end
    local function pairs_of(n)
      return coroutine.wrap(function()
        local even = false
        for v in twice(n) do
          neap.sleep(0)
          if even then coroutine.yield(v, -v) end
          even = not even
        end
      end)
    end
    local seen = {}
    for a, b in pairs_of(5) do
      seen[#seen + 1] = a + b * 10
      neap.sleep(0)
    end
    assert.same({ -9, -18, -27, -36, -45 }, seen)
  end)

  case("pass values both ways beside waits", function()
    local co = coroutine.create(function(a, ...)
      local sum = a
      while true do
        neap.sleep(0)
        local v = coroutine.yield(sum, nil)
        if not v then return "end", select("#", ...) end
        sum = sum + v
      end
    end)
    assert.same({ true, 1, nil }, { coroutine.resume(co, 1, nil, nil) })
    assert.same({ true, 6, nil }, { coroutine.resume(co, 5) })
    assert.equal("suspended", coroutine.status(co))
    assert.same({ true, "end", 2 }, { coroutine.resume(co) })
    assert.equal("dead", coroutine.status(co))
    assert.is_false(coroutine.resume(co))
  end)

  case("bring errors out, after waits too", function()
    local gen = coroutine.wrap(function()
      coroutine.wrap(function()
        neap.sleep(0)
        error(neap.error { code = "deep", message = "inside" })
      end)()
    end)
    assert.equal("deep", code_of(gen))
    local co = coroutine.create(function() neap.sleep(0) error("plain", 0) end)
    assert.same({ false, "plain" }, { coroutine.resume(co) })
  end)

  case("are ended by the cancellation of their task", function()
    local inner
    local t = neap.spawn(function()
      local gen = coroutine.wrap(function()
        inner = code_of(forever)
        error("cleaned up", 0)
      end)
      gen()
    end)
    idle()
    t:cancel()
    assert.equal("cleaned up", code_of(t.join, t))
    assert.equal("cancelled", inner)
  end)

  case("cannot be resumed by another while they wait", function()
    local co = coroutine.create(function() neap.sleep(0.003) return "mine" end)
    local t = neap.spawn(coroutine.resume, co)
    idle()
    local ok, err = coroutine.resume(co)
    assert.is_false(ok)
    assert.matches("cannot resume", err)
    assert.equal("normal", coroutine.status(co))
    assert.same({ true, "mine" }, { t:join() })
  end)

  case("may be continued by another task between waits", function()
    local gen = coroutine.wrap(function()
      for i = 1, 3 do neap.sleep(0) coroutine.yield(i) end
    end)
    assert.equal(1, neap.spawn(gen):join())
    assert.equal(2, neap.spawn(gen):join())
    assert.equal(3, gen())
  end)

  case("cannot be yielded from where there is none", function()
    local t = neap.spawn(coroutine.yield, 1)
    local _, err = pcall(t.join, t)
    assert.matches("outside a coroutine", err)
  end)

  case("may hold a whole group", function()
    local gen = coroutine.wrap(function()
      coroutine.yield(neap.all { function() neap.sleep(0) return 1 end })
      coroutine.yield(neap.timeout(5, function() neap.sleep(0) return "t" end))
    end)
    assert.same({ 1 }, gen())
    assert.equal("t", gen())
  end)

  case("abandoned while suspended do no harm", function()
    local t = neap.spawn(function()
      for _ = 1, 100 do
        coroutine.wrap(function()
          neap.timeout(0.002, function() coroutine.yield(1) end)
        end)()
      end
      coroutine.wrap(function() end)()
      collectgarbage()
      collectgarbage()
      neap.sleep(0.005) -- their deadlines went with them
      return "fine"
    end)
    assert.equal("fine", t:join())
  end)
end)

describe("waiting", function()
  case("works in metamethods", function()
    local function late(v) return function() neap.sleep(0) return v end end
    local t = setmetatable({}, {
      __index = late "index", __call = late "call", __add = late "add", __concat = late "concat",
      __eq = late(true), __lt = late(true), __le = late(false), __unm = late "unm",
      __newindex = function(self, k, v) neap.sleep(0) rawset(self, k, v) end,
      __tostring = late "text",
    })
    local u = setmetatable({}, getmetatable(t))
    assert.equal("index", t.x)
    assert.equal("call", t())
    assert.equal("add", t + 1)
    assert.equal("concat", t .. "x")
    assert.equal("unm", -t)
    assert.is_true(t == u)
    assert.is_true(t < u)
    assert.is_false(t <= u)
    assert.equal("text", tostring(t))
    t.y = 1
    assert.equal(1, rawget(t, "y"))
  end)

  case("works in iterators and in pcall and xpcall", function()
    local function iterate(_, i)
      neap.sleep(0)
      if i < 3 then return i + 1 end
    end
    local n = 0
    for i in iterate, nil, 0 do n = n + i end
    assert.equal(6, n)
    assert.same({ true, 1, 2 }, { pcall(function() neap.sleep(0) return 1, 2 end) })
    assert.same({ false, "handled x" }, { xpcall(function()
      neap.sleep(0)
      error("x", 0)
    end, function(e) return "handled " .. e end) })
    assert.is_true(pcall(pcall, pcall, neap.sleep, 0))
  end)

  local function refuses(name, fn)
    case("in " .. name .. " raises a clear error, and the task goes on", function()
      local t = neap.spawn(function()
        local ok, err = pcall(fn)
        assert(not ok, "it did not raise")
        neap.sleep(0.001)
        assert(neap.channel(1):send(1) == nil)
        neap.sleep(0)
        return tostring(err)
      end)
      assert.matches("cannot wait here", t:join())
    end)
  end

  local function in_sort(fn)
    table.sort({ 3, 1, 2 }, function(a, b) fn() return a < b end)
  end
  local later = { __tostring = function() neap.sleep(0.001) return "x" end }
  local redis = neap.redis()
  refuses("table.sort", function() in_sort(function() neap.sleep(0.001) end) end)
  refuses("table.sort, giving way", function() in_sort(function() neap.sleep(0) end) end)
  refuses("string.gsub", function()
    local _ = ("abc"):gsub(".", function() neap.sleep(0) end)
  end)
  refuses("string.format", function() return ("%s"):format(setmetatable({}, later)) end)
  refuses("load with a function", function()
    local _, err = load(function() neap.sleep(0) end)
    error(err, 0)
  end)
  local groups = { function() neap.sleep(0) end }
  local primitives = {
    ["a sleep"] = function() neap.sleep(0.001) end,
    ["giving way"] = function() neap.sleep(0) end,
    ["a group"] = function() neap.all(groups) end,
    ["a channel"] = function() neap.channel():receive() end,
    ["a sender"] = function() neap.channel():send(1) end,
    ["a redis call"] = function() redis:get "x" end,
    ["a blocking redis call"] = function() redis:blpop("spec:x", 1) end,
    ["a pipeline"] = function() redis:pipeline(function(p) p:ping() end) end,
    ["a join"] = function() neap.spawn(neap.sleep, 0):join() end,
  }
  for name, fn in pairs(primitives) do
    refuses("table.sort by " .. name, function() in_sort(fn) end)
    refuses("table.sort, in a coroutine, by " .. name, function()
      in_sort(function() coroutine.wrap(fn)() end)
    end)
  end

  case("again at once after a refused wait is not disturbed by it", function()
    for _, fn in pairs(primitives) do
      pcall(in_sort, function() coroutine.wrap(fn)() end)
      local c = neap.channel()
      neap.spawn(function() neap.sleep(0.002) c:send "the right one" end)
      assert.equal("the right one", c:receive())
    end
  end)

  case("a refused wait may be the last thing a task does", function()
    for _ = 1, 20 do
      for _, fn in pairs(primitives) do
        neap.spawn(function() pcall(in_sort, function() coroutine.wrap(fn)() end) end)
      end
      idle()
    end
    collectgarbage()
    neap.sleep(0.005)
  end)

  case("in an error handler does no harm", function()
    local t = neap.spawn(function()
      local ok = xpcall(error, function(e) neap.sleep(0) return e end, "x")
      neap.sleep(0)
      return ok
    end)
    assert.is_false(t:join())
  end)

  case("after a stack overflow works, and the overflow is an error like others", function()
    local function deeper(n) return 1 + deeper(n + 1) end
    local t = neap.spawn(function() neap.sleep(0) deeper(1) end)
    local ok, err = pcall(t.join, t)
    assert.is_false(ok)
    assert.matches("stack overflow", err)
    t = neap.spawn(function()
      local caught = not pcall(deeper, 1)
      neap.sleep(0.001)
      return caught
    end)
    assert.is_true(t:join())
    local r = process.lua [[
      local function deeper(n) return 1 + deeper(n + 1) end
      require("neap").spawn(deeper, 1)
      deeper(1)
    ]]
    assert.equal(1, r.status)
    assert.matches("stack overflow", r.err)
  end)

  case("in __gc does no harm", function()
    local tried, message = 0, nil
    for _ = 1, 10 do
      local p = newproxy(true)
      getmetatable(p).__gc = function()
        tried = tried + 1
        local _, err = pcall(neap.sleep, 0.001)
        message = tostring(err)
      end
    end
    collectgarbage()
    collectgarbage()
    assert.equal(10, tried)
    assert.matches("cannot wait", message)
    neap.sleep(0)
  end)

  case("works in print, through __tostring", function()
    local r = process.lua [[
      local neap = require "neap"
      print(1, nil, setmetatable({}, { __tostring = function() neap.sleep(0) return "x" end }))
      print()
    ]]
    assert.equal("1\tnil\tx\n\n", r.out)
  end)
end)

describe("require and dofile", function()
  local dir, path
  setup(function()
    dir, path = process.temp_dir(), package.path
    package.path = dir .. "/?.lua;" .. path
  end)
  teardown(function()
    package.path = path
    process.remove(dir)
  end)
  local function module(name, text)
    package.loaded[name] = nil
    process.write(dir .. "/" .. name .. ".lua", text)
  end

  case("a module's chunk may wait, and runs once for two tasks", function()
    module("m_wait", [[
      local neap = require "neap"
      LOADS = (LOADS or 0) + 1
      neap.sleep(0.003)
      return { name = ... }
    ]])
    local a = neap.spawn(require, "m_wait")
    local b = neap.spawn(require, "m_wait")
    local m = a:join()
    assert.equal("m_wait", m.name)
    assert.equal(m, b:join())
    assert.equal(m, require "m_wait")
    assert.equal(1, rawget(_G, "LOADS"))
  end)

  case("a module that returns nothing is true, false stays, loaded counts", function()
    module("m_none", "")
    module("m_self", "package.loaded[...] = 'own'")
    assert.is_true(require "m_none")
    assert.equal("own", require "m_self")
  end)

  case("a module that fails can be tried again", function()
    module("m_fail", "require 'neap'.sleep(0) error('no luck', 0)")
    assert.equal("no luck", code_of(require, "m_fail"))
    local a = neap.spawn(require, "m_fail")
    local b = neap.spawn(require, "m_fail")
    assert.equal("no luck", code_of(a.join, a))
    assert.equal("no luck", code_of(b.join, b))
    module("m_fail", "return 5")
    assert.equal(5, require "m_fail")
  end)

  case("a cancelled load leaves the way free for the next", function()
    module("m_slow", "require 'neap'.sleep(SLOW) return 'slow'")
    rawset(_G, "SLOW", 3600)
    local a = neap.spawn(require, "m_slow")
    idle()
    local b = neap.spawn(require, "m_slow")
    idle()
    rawset(_G, "SLOW", 0)
    a:cancel()
    assert_cancelled(a.join, a)
    assert.equal("slow", b:join())
  end)

  case("modules that need each other are refused, in one task or in two", function()
    module("m_a", "require 'neap'.sleep(0.001) return require 'm_b'")
    module("m_b", "require 'neap'.sleep(0.001) return require 'm_a'")
    assert.matches("loop or previous error loading module 'm_a'", code_of(require, "m_a"))
    local a = neap.spawn(require, "m_a")
    local b = neap.spawn(require, "m_b")
    assert.matches("loop", neap.timeout(5, code_of, a.join, a))
    assert.matches("loop", neap.timeout(5, code_of, b.join, b))
  end)

  case("an unknown module is named with where it was sought", function()
    local _, err = pcall(require, "no.such.module")
    assert.matches("module 'no.such.module' not found", err)
    assert.matches("no field package.preload", err)
    assert.has_error(function() require() end)
  end)

  case("dofile may wait and returns all values", function()
    module("m_do", "require 'neap'.sleep(0) return 1, nil, 3")
    assert.same({ 1, nil, 3 }, { dofile(dir .. "/m_do.lua") })
    assert.has_error(function() dofile(dir .. "/absent.lua") end)
  end)
end)
