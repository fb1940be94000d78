local case = require "support.case" (it)
local neap = require "neap"
local process = require "support.process"
local terminal = require "support.terminal"
local uv = require "luv"

local path = uv.exepath()

describe("the prompt", function()
  local dir, t
  setup(function() dir = process.temp_dir() end)
  teardown(function() process.remove(dir) end)
  after_each(function()
    if t then t:close() end
    t = nil
  end)

  local function start(arguments, options)
    options = options or {}
    options.env = { NEAP_REDIS = "memory", NEAP_HISTORY = dir .. "/history", LC_ALL = "C.UTF-8" }
    t = terminal.start(path .. " " .. (arguments or ""), options)
    t:wait_for("neap 0.*\n>", true)
    return t
  end

  local function script(name, text)
    process.write(dir .. "/" .. name, text)
    return dir .. "/" .. name
  end

  -- ask types a line and returns what stands below it once `expected` does.
  local function ask(line, expected)
    t:keys(line, "Enter")
    return t:wait_for(expected)
  end

  case("prints the value of an expression, also behind =", function()
    start()
    ask("40 + 2", "\n42\n>")
    ask("= 'a' .. 'b'", "\n\"ab\"\n>")
    ask("nil, false", "\nnil  false\n>")
  end)

  case("runs statements; what is local stays, and _ is the last value", function()
    start()
    t:keys("local a, b = 20, 22", "Enter", "x = a + b", "Enter")
    ask("x", "\n42\n>")
    ask("_ + 1", "\n43\n>")
    t:keys("local function double(n) return n * 2 end", "Enter")
    ask("double(a)", "\n40\n>")
  end)

  case("waits for the rest of an expression", function()
    start()
    t:keys("{ a = 1,", "Enter")
    t:wait_for ">>"
    ask("b = 2 }", "{ a = 1, b = 2 }\n>")
    t:keys("1 +", "Enter")
    t:wait_for ">> "
    ask("41", "\n42\n>")
  end)

  case("leaves on exit as well", function()
    start()
    t:keys("exit", "Enter")
    t:wait_for "ENDED 0"
  end)

  case("waits for the rest of a statement", function()
    start()
    t:keys("for i = 1, 2 do", "Enter")
    t:wait_for ">>"
    t:keys("print('line ' .. i)", "Enter", "end", "Enter")
    t:wait_for "line 2\n>"
  end)

  case("asks Redis as if it answered at once", function()
    start()
    ask("redis:set('k', 'v')", '"OK"')
    ask("redis:get 'k'", '"v"')
  end)

  case("shows errors with their line, and goes on", function()
    start()
    ask("local t = nil; t.x = 1", "console:1: attempt to index")
    ask("foo.bar", "console:1: attempt to index global 'foo'")
    ask("error { code = 1 }", "error: { code = 1 }")
    ask("1 +* 2", "unexpected symbol")
    ask("error(setmetatable({}, { __tostring = function() error 'again' end }))",
      "__tostring fails")
    ask("6 * 7", "42")
  end)

  case("completes names, and lists what fits", function()
    start()
    t:keys("neap.sema", "Tab")
    t:wait_for "> neap.semaphore"
    t:keys("C-c", "redis:hgeta", "Tab")
    t:wait_for "> redis:hgetall"
    t:keys("C-c", "string.f", "Tab")
    t:wait_for "find    format\n> string.f"
  end)

  case("keeps a history from one start to the next", function()
    start()
    ask("'remember' .. ' me'", "remember me")
    t:keys "C-d"
    t:wait_for "ENDED 0"
    t:close()
    start()
    t:keys("Up")
    t:wait_for "> 'remember' .. ' me'"
    assert.equal("600", ("%o"):format(uv.fs_stat(dir .. "/history").mode % 512))
  end)

  case("edits UTF-8 by characters, and half a character holds nobody up", function()
    start()
    t:keys("'äöü'", "Left", "BSpace", "Enter")
    t:wait_for '"äö"'
    t:keys("Escape", "C-c")
    ask("1 + 1", "2")
  end)

  case("draws the line again below what comes from elsewhere", function()
    start()
    t:keys("neap.spawn(function() neap.sleep(0.5) print 'from the side' end) and 0", "Enter")
    t:wait_for "\n0\n>"
    t:keys "half a li"
    t:wait_for "from the side\n> half a li"
    t:keys("C-c")
    t:keys("neap.spawn(function() neap.sleep(0.5) io.stderr:write 'no line end' end) and 0")
    t:keys("Enter")
    t:wait_for "\n0\n>"
    t:keys "half a li"
    t:wait_for "no line end\n> half a li"
  end)

  case("redraws a line that is longer than the window, also a new one", function()
    start("", { width = 40 })
    local line = "'" .. ("0123456789"):rep(6) .. "'"
    t:keys("neap.spawn(function() neap.sleep(0.7) print 'aside' end) and 0", "Enter")
    t:wait_for "\n0\n>"
    t:keys(line)
    t:wait_for("aside\n> '0123456789012345678901234567890123456", true)
    t:resize(100, 24)
    t:keys("Enter")
    t:wait_for('"' .. ("0123456789"):rep(6) .. '"')
  end)

  for name, line in pairs {
    ["that sleeps"] = "neap.sleep(1000)",
    ["that waits for Redis"] = "redis:blpop('none', 0)",
    ["in a compiled loop"] = "while true do end",
    ["that catches errors in a loop"] =
      "local function spin() while true do end end "
        .. "while true do pcall(function() while true do pcall(spin) end end) end",
    ["whose children spin"] = "neap.all { function() while true do end end }",
    ["that prints without end"] = "while true do print 'flood' end",
  } do
    case("Ctrl-C cancels a line " .. name, function()
      start()
      t:keys(line, "Enter")
      neap.sleep(0.3)
      t:keys("C-c")
      t:wait_for "cancelled"
      ask("'still ' .. 'here'", "still here")
    end)
  end

  case("Ctrl-C drops what is typed, and what is not complete", function()
    start()
    t:keys("half a line", "C-c")
    ask("1 + 1", "\n2\n>")
    t:keys("function f(", "Enter")
    t:wait_for ">>"
    t:keys("C-c")
    ask("f", "\nnil\n>")
  end)

  case("Ctrl-C leaves a call into C alone, and the third one ends the prompt", function()
    start()
    t:keys("os.execute 'sleep 30'", "Enter")
    neap.sleep(0.2)
    t:keys("C-c", "C-c")
    t:wait_for "Ctrl-C once more leaves"
  end)

  case("takes what is typed ahead while a line runs", function()
    start()
    t:keys("neap.sleep(0.4)", "Enter", "'typed ' .. 'ahead'", "Enter")
    t:wait_for "typed ahead"
  end)

  case("is stopped by Ctrl-Z and goes on", function()
    t = terminal.start("sh -i", { env = { PS1 = "sh: ", NEAP_HISTORY = dir .. "/history" } })
    t:wait_for "sh:"
    t:keys(path, "Enter")
    t:wait_for "Ctrl-D leaves"
    t:keys("x = 5", "Enter", "C-z")
    t:wait_for "Stopped"
    t:keys("fg", "Enter")
    neap.sleep(0.2)
    ask("x + 1", "6")
    t:keys("neap.sleep(0.5)", "Enter", "C-z")
    neap.sleep(0.1)
    t:keys("stty -a | tr ' ' '\\n' | grep echo$", "Enter", "fg", "Enter")
    neap.sleep(0.6)
    ask("x + 2", "7")
  end)

  case("leaves the terminal as it was, also when the process is told to end", function()
    for _, how in ipairs { "os.exit(3)", "neap.stop(3)",
      "require('luv').kill(require('luv').os_getpid(), 'sigterm')" } do
      start()
      t:keys(how, "Enter")
      t:wait_for "ENDED"
      t:close()
    end
    start("; stty -a")
    t:keys("C-d")
    local screen = t:wait_for "icanon"
    assert.matches("isig icanon", screen, 1, true)
    assert.matches(" echo ", screen, 1, true)
  end)

  case("stands beside a script that goes on", function()
    local app = script("app.lua", [[
      local neap = require "neap"
      count = 0
      neap.every(0.01, function() count = count + 1 end)
      print "the script has run"
    ]])
    start("-i " .. app)
    t:wait_for "the script has run"
    ask("neap.sleep(0.1) or count > 3", "true")
    t:keys "C-d"
    t:wait_for "ENDED 0"
  end)

  case("comes although the script fails, or never ends", function()
    start("-i " .. script("fails.lua", "left = 7 error 'the script'"))
    t:wait_for "fails.lua:1: the script"
    ask("left", "7")
    t:close()
    start("-i " .. script("endless.lua", "require('neap').sleep(1e9)"))
    ask("40 + 2", "42")
  end)
end)

describe("the prompt without a terminal", function()
  local function run(input, options)
    options = options or {}
    options.input = input
    options.env = { NEAP_REDIS = "memory" }
    return process.neap(options.args or {}, options)
  end

  case("runs line by line, without prompts", function()
    local r = run("local x = 20\nx * 2\nfor i = 1, 2 do\nprint(i)\nend\nx")
    assert.same({ 0, "40\n1\n2\n20\n", "" }, { r.status, r.out, r.err })
  end)

  case("ends with 1 at the first error, and runs nothing behind it", function()
    local r = run("print 'a'\nerror 'broken'\nprint 'b'\n")
    assert.same({ 1, "a\n", "console:1: broken\n" }, { r.status, r.out, r.err })
  end)

  case("says when the input ends in the middle", function()
    local r = run("print 'a'\nfor i = 1, 2 do\n")
    assert.same({ 1, "a\n", "the input ended in the middle of a statement\n" },
      { r.status, r.out, r.err })
  end)

  case("takes lines of 10 MB, and of more than it will", function()
    local r = run("#'" .. ("x"):rep(1e7) .. "'\n")
    assert.same({ 0, "10000000\n", "" }, { r.status, r.out, r.err })
    r = run("#'" .. ("x"):rep(1.7e7) .. "'\n")
    assert.same({ 1, "" }, { r.status, r.out })
    assert.matches("a line of more than 16777216 bytes", r.err)
  end)

  case("takes a statement of many lines, and bounds one that never ends", function()
    local lines = { "local t = {" }
    for i = 1, 50000 do lines[#lines + 1] = i .. "," end
    lines[#lines + 1] = "}\n#t\n"
    local r = run(table.concat(lines, "\n"))
    assert.same({ 0, "50000\n", "" }, { r.status, r.out, r.err })
    r = run("[[" .. (("x"):rep(9999) .. "\n"):rep(2e3))
    assert.same({ 1, "" }, { r.status, r.out })
    assert.matches("more than 16.0 MiB that are not complete", r.err, 1, true)
  end)

  case("takes any bytes", function()
    math.randomseed(7)
    for _ = 1, 30 do
      local bytes = {}
      for i = 1, 500 do bytes[i] = string.char(math.random(0, 255)) end
      local r = run(table.concat(bytes))
      assert.is_truthy(r.status == 0 or r.status == 1)
      assert.equal(0, r.signal)
    end
  end)

  case("ends when nobody reads any more", function()
    local r = process.start("/bin/sh", { "-c",
      "yes | NEAP_REDIS=memory " .. path .. " | head -n 3" }):wait()
    assert.same({ 0, "nil\nnil\nnil\n" }, { r.status, r.out })
  end)

  case("ends when it is told to, although its input is silent", function()
    local child = process.start(path, {}, { env = { NEAP_REDIS = "memory" }, is_open = true })
    child.stdin:write "1 + 1\n"
    child:wait_for "2\n"
    child:kill "sigterm"
    assert.equal(0, child:wait(5).status)
    child.stdin:close()
  end)

  case("hands the script its own input with -", function()
    local r = run("print(io.read and 'a script')\nlocal x = 1\nprint(x)", { args = { "-" } })
    assert.same({ 0, "a script\n1\n", "" }, { r.status, r.out, r.err })
  end)

  case("comes after the script with -i", function()
    local dir = process.temp_dir()
    process.write(dir .. "/a.lua", "require('neap').sleep(0.05) value = 7")
    local r = run("value\n", { args = { "-i", dir .. "/a.lua" } })
    assert.same({ 0, "7\n", "" }, { r.status, r.out, r.err })
    process.remove(dir)
  end)
end)
