local case = require "support.case" (it)
local client = require "support.client"
local process = require "support.process"
local uv = require "luv"

-- Everything here is built against an installed copy, as a program of somebody else's would be.
-- Such programs have no sanitizers: with them, spec/c/neap_test.c shows the same functions.
if uv.exepath():find "sanitized" then return end

describe("an installed libneap", function()
  local prefix

  local function run(command, options)
    options = options or {}
    local env = { NEAP_REDIS = "memory", NEAP_REDIS_URL = false, MAKEFLAGS = false,
      PKG_CONFIG_PATH = prefix .. "/lib/pkgconfig", LD_LIBRARY_PATH = prefix .. "/lib" }
    return process.start("/bin/sh", { "-c", command }, { env = env, cwd = options.cwd })
  end

  local function succeeds(command, options)
    local r = run(command, options):wait()
    assert.same({ 0, 0 }, { r.status, r.signal }, command .. ": " .. r.err .. r.out)
    return r.out
  end

  -- build compiles an example and returns the program's path
  local function build(name)
    succeeds(("${CC:-cc} -Wall -Wextra -Werror examples/embed/%s.c "
      .. "$(pkg-config --cflags --libs neap) -lpthread -o %s/%s"):format(name, prefix, name))
    return prefix .. "/" .. name
  end

  setup(function()
    prefix = process.temp_dir()
    -- what runs this is of a build folder's: its library is the one to be installed
    local folder = assert(uv.exepath():match "^.*/(build.*)/neap$", "not a build folder's neap")
    succeeds(("make install BUILD=%s PREFIX=%s >/dev/null"):format(folder, prefix))
  end)
  teardown(function() process.remove(prefix) end)

  case("exports the functions of neap.h, and no others", function()
    local declared, exported = {}, {}
    for line in io.lines "host/neap.h" do
      local name = line:match "^[%w_ ]+[ *](neap_[%w_]+)%("
      if name then declared[#declared + 1] = name end
    end
    for line in succeeds("nm -D --defined-only " .. prefix .. "/lib/libneap.so"):gmatch "[^\n]+" do
      exported[#exported + 1] = line:match "%S+$"
    end
    table.sort(declared)
    table.sort(exported)
    assert.same(declared, exported)
  end)

  case("has a header for C and C++ of less than 250 lines, that needs no other", function()
    local count = 0
    for _ in io.lines(prefix .. "/include/neap.h") do count = count + 1 end
    assert.is_true(count < 250)
    process.write(prefix .. "/header.c", "#include <neap.h>\nstatic neap_options o;\n"
      .. "neap *open_one(void);\n"
      .. "neap *open_one(void) { o.size = sizeof o; return neap_new(&o); }\n")
    for _, language in ipairs { "c -std=c99", "c -std=c11", "c++ -std=c++11", "c++ -std=c++20" } do
      succeeds(("clang -fsyntax-only -Wall -Wextra -Wpedantic -Werror -x %s -I%s/include "
        .. "%s/header.c"):format(language, prefix, prefix))
    end
  end)

  case("is found by pkg-config", function()
    assert.equal("0.1.0\n", succeeds "pkg-config --modversion neap")
    assert.matches("%-lneap", succeeds "pkg-config --libs neap")
  end)

  case("comes with man pages and annotations for editors", function()
    local text = succeeds(("man -l %s/share/man/man3/neap.3 2>/dev/null || cat "
      .. "%s/share/man/man3/neap.3"):format(prefix, prefix))
    for line in io.lines "host/neap.h" do
      local name = line:match "^[%w_ ]+[ *](neap_[%w_]+)%("
      if name then assert.is_truthy(text:find(name .. "(", 1, true), name) end
    end
    local options = io.open(prefix .. "/share/man/man1/neap.1"):read "*a"
    for option in process.neap({ "--help" }).out:gmatch "\n  (%-%-?[%a-]+)" do
      assert.is_truthy(options:find(option:gsub("%-", "\\-"), 1, true), option)
    end
    local types = io.open(prefix .. "/share/neap/types/neap.lua"):read "*a"
    assert(loadstring(types))
    local function has(class, t, skip)
      for name, value in pairs(t) do
        if type(value) == "function" and not name:find "^_" and name ~= skip then
          assert.is_truthy(types:find("function " .. class .. "[.:]" .. name .. "%("),
            class .. "." .. name)
        end
      end
    end
    local neap, http = require "neap", require "neap.http"
    for name in pairs(neap.lazy_names) do local _ = neap[name] end
    has("neap", neap, "uuid")
    has("neap_Json", neap.json)
    has("neap_Log", neap.log)
    has("neap_Http", http)
    has("neap_ModelModule", neap.model)
    has("neap_Model", neap.model.methods)
    has("neap_Query", require("neap.query").methods)
    has("neap_Row", require "neap.model_row")
    has("neap_App", getmetatable(http.app()).__index)
  end)

  case("knows the types of all that there is help for, and of no more", function()
    local annotations, help = require "neap.annotations", require "neap.help"
    local text, typed, classes = annotations.text(), {}, {}
    for _, s in ipairs(annotations.signatures()) do
      typed[s.full:lower()] = true
      local kin = { ["scope:spawn"] = true, ["neap.json"] = true, ["neap.log"] = true,
        ["neap.model"] = true, ["neap.field"] = true, ["neap.null"] = true,
        ["Model.methods"] = true }
      assert.is_truthy(kin[s.full] or help.find(s.full), s.full .. ": there is no help for it")
    end
    for _, name in ipairs(help.topics()) do
      assert.is_truthy(typed[name:lower()] or not annotations.is_public(name), name)
    end
    for name in text:gmatch "\n%-%-%-@class ([%w_.]+)" do classes[name] = true end
    for name in text:gmatch "\n%-%-%-@alias ([%w_.]+)" do classes[name] = true end
    for line in text:gmatch "\n(%-%-%-@[^\n]+)" do
      local kind = line:match "@param [^ ]+ (.+)" or line:match "@return (.+)"
      for name in (kind or ""):gmatch "neap%.[%w]+" do assert.is_true(classes[name], line) end
      assert.equal(0, #line:gsub("[^(]", "") - #line:gsub("[^)]", ""))
    end
    assert.is_truthy(text:find("---@param options? { concurrency?: integer }\n---@return any[]\n"
      .. "function neap.map(fn, list, options) end", 1, true))
    assert.is_nil(text:find("\n%-%-%-@param [^ ]+\n"))
  end)

  case("runs minimal.c, also linked statically to it", function()
    assert.equal("hello from a task\n", succeeds(build "minimal"))
    succeeds(("${CC:-cc} examples/embed/minimal.c -I%s/include $(pkg-config --cflags neap) "
      .. "-Wl,-Bstatic -L%s/lib -l:libneap.a -Wl,-Bdynamic "
      .. "$(pkg-config --libs luajit libuv hiredis openssl zlib) -llua5.1-luv -lm -lpthread -ldl "
      .. "-Wl,-E -o %s/static")
      :format(prefix, prefix, prefix))
    assert.equal("hello from a task\n", succeeds(prefix .. "/static"))
  end)

  case("runs rules.c: a server in C whose prices are Lua's", function()
    local child = run("exec " .. build "rules" .. " examples/embed/rules.lua 0")
    child:wait_for "127.0.0.1:"
    local c = client.connect(tonumber(child.out:match "127.0.0.1:(%d+)"))
    c:write "tea 3\nlua 20\nnone 1\n"
    local text, answers = "", {}
    while select(2, text:gsub("\n", "")) < 3 do text = text .. c:read(1) end
    for line in text:gmatch "[^\n]+" do answers[#answers + 1] = line end
    c:close()
    table.sort(answers)
    assert.same({ "68400", "900", "error: shop.unknown: no product none" }, answers)
    child:kill "sigterm"
    assert.equal(0, child:wait().status)
  end)

  case("runs borrowed_loop.c: beside a program's own timer", function()
    local out = succeeds(build "borrowed_loop")
    assert.matches("Lua\t2\n.*Lua is done: bye\n.*the instance is gone\n", out)
    assert.matches("tick 4 of the program\n$", out)
  end)

  case("runs threads.c: four instances on four threads", function()
    local out = succeeds(build "threads")
    for i = 0, 3 do assert.matches("member " .. i .. " received 2500 numbers\n", out) end
  end)

  case("runs async_function.c: a C function that waits", function()
    assert.equal("55 5050 500500\ttrue\nfalse\ttimeout: not done within 0.01 s\n",
      succeeds(build "async_function"))
  end)

  case("runs host.py, where C modules of Lua find LuaJIT's symbols", function()
    assert.equal("lpeg matches\t4\nthe task returned 42.0\n",
      succeeds("python3 examples/embed/host.py " .. prefix .. "/lib/libneap.so"))
  end)
end)
