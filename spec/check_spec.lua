local case = require "support.case" (it)
local process = require "support.process"

describe("neap check", function()
  local dir
  setup(function() dir = process.temp_dir() end)
  teardown(function() process.remove(dir) end)

  local function check(text, name)
    name = name or "app.lua"
    process.write(dir .. "/" .. name, text)
    return process.neap { "check", dir .. "/" .. name }
  end

  local function finds(text, what)
    local r = check(text)
    assert.same({ 1, "" }, { r.status, r.out })
    assert.matches("app.lua:" .. what, r.err)
  end

  case("finds nothing wrong in what is right, and counts it", function()
    local r = check [[
      local neap, http = require "neap", require "neap.http"
      local model, field = neap.model, neap.field
      model.define("checked", { id = field.uuid { primary_key = true } })
      local app = http.app()
      app:get("/", function() return "x" end)
      app:post("/", function() return "x" end)
      local server = app:listen(8080)
      print(server.url .. "/", server.port + 1)
      neap.spawn(function() error "never run" end)
      neap.every(1, function() error "never run" end)
    ]]
    assert.same({ 0, "1 file: nothing wrong; 1 model, 2 routes\n", "" }, { r.status, r.out, r.err })
  end)

  case("finds what does not compile", function()
    finds("local x =\n\n= 3", "3: unexpected symbol near '='")
  end)

  case("finds globals that nothing sets, also in functions within functions", function()
    finds([[
      local function a() return function() return function() pritn(1) end end end
      return a
    ]], "1: global 'pritn' is read, but nothing sets it")
    assert.equal(0, check("function helper() end\nlocal function f() helper() later() end\n"
      .. "later = f\nprint(_VERSION, arg[0])").status)
  end)

  case("finds models and routes that are wrong", function()
    finds([[
      local neap = require "neap"
      neap.model.define("thing", { id = neap.field.uuid { primary_key = true },
        n = neap.field.integer { min = "x" } })
    ]], "2: model.definition: model thing: field n: min must be a number")
    finds([[
      local app = require("neap.http").app()
      app:get("/a/:id", function() end)
      app:get("/a/:name", function() end)
    ]], "3: the route GET /a/:name is there already")
    finds([[
      local app = require("neap.http").app()
      app:get("/", "no function")
    ]], "2: route GET /: a function expected")
  end)

  case("finds what is wrong in modules beside the file", function()
    process.write(dir .. "/beside.lua", "return {\n  1,,\n}")
    finds("\nrequire 'beside'", "2: .*beside.lua:2: unexpected symbol")
    finds("require 'not.there'", "1: .*module 'not.there' not found")
  end)

  case("ends where the file would wait, and touches nothing", function()
    for _, line in ipairs { "neap.redis():get 'k'", "neap.sleep(1)", "io.open('made', 'w')",
      "os.execute 'touch made'", "os.exit(7)", "neap.stop(7)",
      "require('neap.http').fetch 'http://127.0.0.1:1/'" } do
      local r = check("local neap = require 'neap'\n" .. line .. "\nerror 'not reached'")
      assert.same({ line, 0, "" }, { line, r.status, r.err })
    end
    assert.is_nil(io.open(dir .. "/made"))
  end)

  case("checks several files, and says what is wrong with its arguments", function()
    process.write(dir .. "/one.lua", "x()")
    process.write(dir .. "/two.lua", "y()")
    local r = process.neap { "check", dir .. "/one.lua", dir .. "/two.lua", dir .. "/none.lua" }
    assert.equal(1, r.status)
    assert.matches("one.lua:1: global 'x'.*two.lua:1: global 'y'.*none.lua", r.err)
    assert.equal(2, process.neap({ "check" }).status)
    assert.equal(2, process.neap({ "check", "-x" }).status)
    assert.matches("usage: neap check", process.neap({ "check", "--help" }).out)
  end)

  case("finds nothing wrong in the examples", function()
    local files = { "check" }
    for path in io.popen("ls examples/*.lua"):lines() do files[#files + 1] = path end
    local r = process.neap(files)
    assert.same({ 0, "" }, { r.status, r.err })
  end)
end)
