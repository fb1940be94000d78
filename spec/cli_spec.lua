local process = require "support.process"
local case = require "support.case" (it)

describe("the command line", function()
  local dir
  setup(function() dir = process.temp_dir() end)
  teardown(function() process.remove(dir) end)

  local function script(name, text)
    process.write(dir .. "/" .. name, text)
    return dir .. "/" .. name
  end

  case("runs -e", function()
    local r = process.neap { "-e", "io.write('a', 1)" }
    assert.same({ 0, "a1", "" }, { r.status, r.out, r.err })
  end)

  case("runs several -e in order, joined or apart", function()
    local r = process.neap { "-ex = 1", "-e", "print(x)" }
    assert.same({ 0, "1\n" }, { r.status, r.out })
  end)

  case("requires with -l", function()
    script("some_module.lua", "return { value = 7 }")
    local r = process.neap({ "-l", "some_module", "-e", "print(some_module.value)" },
      { cwd = dir })
    assert.same({ 0, "7\n", "" }, { r.status, r.out, r.err })
  end)

  case("says where it sought what -l cannot find, and what is wrong with -e", function()
    local r = process.neap { "-l", "no.such.module" }
    assert.same({ 1, "" }, { r.status, r.out })
    assert.matches("module 'no.such.module' not found", r.err, 1, true)
    r = process.neap { "-e", "=" }
    assert.same({ 1, "" }, { r.status, r.out })
    assert.matches("(command line):1:", r.err, 1, true)
  end)

  case("prints its version", function()
    local r = process.neap { "-v" }
    assert.equal(0, r.status)
    assert.matches("^neap %d+%.%d+%.%d+ on LuaJIT", r.out)
  end)

  case("prints help", function()
    for _, option in ipairs { "--help", "-h" } do
      local r = process.neap { option }
      assert.equal(0, r.status)
      assert.matches("usage: neap", r.out)
    end
  end)

  case("refuses unknown options with status 2", function()
    for _, option in ipairs { "--what", "-z", "-vv" } do
      local r = process.neap { option }
      assert.equal(2, r.status)
      assert.matches("unknown option " .. option:gsub("%-", "%%-"), r.err)
      assert.equal("", r.out)
    end
  end)

  case("says when an option lacks its argument", function()
    for _, option in ipairs { "-e", "-l" } do
      local r = process.neap { option }
      assert.equal(2, r.status)
      assert.matches("needs an argument", r.err)
    end
  end)

  case("gives a script its arguments in arg and ...", function()
    local path = script("args.lua", [[
      print(arg[0], arg[1], arg[2], #arg, arg[-1] ~= nil)
      print(select("#", ...), ...)
    ]])
    local r = process.neap { path, "one", "", "-x" }
    assert.same({ path .. "\tone\t\t3\ttrue", "3\tone\t\t-x" }, {
      r.out:match("^(.-)\n(.-)\n$") })
  end)

  case("numbers the options below the script", function()
    local path = script("below.lua", "print(arg[-2], arg[-1], arg[0])")
    local r = process.neap { "-e", "x = 1", path }
    assert.equal("-e\tx = 1\t" .. path .. "\n", r.out)
  end)

  case("reads a script from standard input", function()
    for _, args in ipairs { {}, { "-" }, { "-", "a" } } do
      local r = process.neap(args, { input = "print('from stdin', ...)" })
      assert.same({ 0, "from stdin" .. (args[2] and "\ta" or "") .. "\n", "" },
        { r.status, r.out, r.err })
    end
  end)

  case("finds modules beside the script", function()
    script("beside.lua", "return 'beside'")
    local path = script("main.lua", "print(require 'beside')")
    local r = process.neap({ path }, { cwd = "/" })
    assert.same({ 0, "beside\n" }, { r.status, r.out })
  end)

  case("ends with 1 on a syntax error and says where", function()
    local path = script("syntax.lua", "local x =\n= 1")
    local r = process.neap { path }
    assert.equal(1, r.status)
    assert.matches("syntax%.lua:2:", r.err)
    assert.equal("", r.out)
  end)

  case("ends with 1 when the script is not there", function()
    local r = process.neap { dir .. "/absent.lua" }
    assert.equal(1, r.status)
    assert.matches("absent%.lua", r.err)
  end)

  case("ends with 1 on a runtime error, with a traceback", function()
    local path = script("fails.lua", "local function f() error('broken') end\nf()\n")
    local r = process.neap { path }
    assert.equal(1, r.status)
    assert.matches("fails%.lua:1: broken", r.err)
    assert.matches("stack traceback:", r.err)
    assert.matches("fails%.lua:2: in main chunk", r.err)
    assert.is_nil(r.err:find("neap.main", 1, true))
  end)

  case("gives the line of an error that the VM itself raises", function()
    local path = script("vm.lua", "local t\nlocal function f()\n  return t.x\nend\nlocal y = f()\n")
    local r = process.neap { path }
    assert.equal(1, r.status)
    assert.matches("vm%.lua:3: attempt to index", r.err)
    assert.matches("vm%.lua:3: in function.*vm%.lua:5: in", r.err)
  end)

  case("prints errors of any type", function()
    for code, expected in pairs {
      ["error { a = 1 }"] = "table",
      ["error()"] = "nil",
      ["error(setmetatable({}, { __tostring = function() return 'mine' end }))"] = "mine",
      ["require 'neap'; error(require 'neap'.error { code = 'a.b', message = 'c' })"] = "a.b: c",
      ["error(setmetatable({}, { __tostring = function() error 'again' end }))"] = "table",
      ["error(setmetatable({}, { __tostring = function() return {} end }))"] = "table",
      ["error(setmetatable({}, { __tostring = function() require 'neap'.sleep(1) end }))"] =
        "table",
    } do
      local r = process.lua(code)
      assert.same({ code, 1, "" }, { code, r.status, r.out })
      assert.is_truthy(r.err:find(expected, 1, true), code .. ": " .. r.err)
    end
  end)

  case("ends with 1 when the script fails while something is alive", function()
    local r = process.lua [[
      local neap, uv = require "neap", require "luv"
      local server = uv.new_tcp()
      server:bind("127.0.0.1", 0)
      server:listen(5, function() end)
      neap.every(0.01, function() end)
      neap.spawn(neap.sleep, 3600)
      neap.sleep(0.02)
      error "the main script"
    ]]
    assert.equal(1, r.status)
    assert.matches("the main script", r.err)
  end)

  case("ends with 1 when the script raises that very word", function()
    local r = process.neap { "-e", "error('cancelled', 0)" }
    assert.equal(1, r.status)
    assert.matches("neap: cancelled\n", r.err)
  end)

  case("ends with 1 when what the script joins was cancelled", function()
    local r = process.lua [[
      local neap = require "neap"
      local t = neap.spawn(neap.sleep, 3600)
      neap.sleep(0)
      t:cancel()
      t:join()
    ]]
    assert.equal(1, r.status)
    assert.matches("cancelled", r.err)
  end)

  case("goes on until the last task has ended", function()
    local r = process.lua [[
      local neap = require "neap"
      neap.spawn(function() neap.sleep(0.02) print "later" end)
      print "first"
    ]]
    assert.same({ 0, "first\nlater\n" }, { r.status, r.out })
  end)

  case("ends with the status given to neap.stop", function()
    local r = process.lua [[
      local neap = require "neap"
      neap.spawn(neap.sleep, 3600)
      neap.stop(7)
      neap.sleep(3600)
    ]]
    assert.same({ 7, "" }, { r.status, r.err })
  end)

  case("reports tasks that nobody can wake, and ends with 1", function()
    local r = process.lua [[
      local neap = require "neap"
      local c = neap.channel()
      neap.spawn(function() c:receive() end)
      c:receive()
    ]]
    assert.equal(1, r.status)
    assert.matches("2 task%(s%) wait for something that nobody will do", r.err)
    assert.matches("spawned at %(command line%):3", r.err)
  end)

  case("ends although a task swallows its cancellation", function()
    local r = process.neap { "-e", [[
      local neap = require "neap"
      neap.spawn(function() while true do pcall(neap.sleep, 0.01) end end)
      neap.sleep(0)
      neap.stop(3)]] }
    assert.equal(3, r.status)
  end)

  case("cancels tasks in order on SIGINT and SIGTERM", function()
    for signal, status in pairs { sigint = 130, sigterm = 143 } do
      local child = process.start(require("luv").exepath(), { "-e", [[
        local neap = require "neap"
        neap.spawn(function()
          local ok, err = pcall(neap.sleep, 3600)
          neap.shield(neap.sleep, 0.01)
          print("cleaned", ok, err.code)
        end)
        print "ready"
        io.stdout:flush()
        neap.sleep(3600)
      ]] })
      child:wait_for("ready")
      child:kill(signal)
      child:wait()
      assert.same({ status, 0 }, { child.status, child.signal })
      assert.matches("cleaned\tfalse\tcancelled", child.out)
      assert.equal("", child.err)
    end
  end)

  case("ends with 0 when a service is told to end", function()
    local child = process.start(require("luv").exepath(), { "-e", [[
      local neap = require "neap"
      neap.every(0.01, function() io.stdout:write "tick\n" io.stdout:flush() end)
    ]] })
    child:wait_for("tick")
    child:kill("sigterm")
    assert.equal(0, child:wait().status)
  end)
end)
