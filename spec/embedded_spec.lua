local uv = require "luv"
local process = require "support.process"
local case = require "support.case" (it)

describe("the embedded redis-server", function()
  local dir
  before_each(function() dir = process.temp_dir() end)
  after_each(function() process.remove(dir) end)

  -- host runs code in its own process, on the data in dir
  local function options(extra)
    local env = { NEAP_DATA = dir .. "/data", NEAP_REDIS = false, NEAP_REDIS_URL = false }
    for k, v in pairs(extra or {}) do env[k] = v end
    return { env = env, cwd = dir }
  end
  local prelude = "local neap = require 'neap' local redis = neap.redis() "
  local function run(code, extra) return process.lua(prelude .. code, options(extra)) end
  local function start(code)
    return process.start(uv.exepath(), { "-e", prelude .. code }, options())
  end
  local ready = "print 'ready' io.stdout:flush() "

  local function is_alive(pid)
    local f = io.open("/proc/" .. pid .. "/stat")
    if not f then return false end
    local state = f:read("*a"):match("%) (%a)")
    f:close()
    return state ~= "Z" and state ~= "X"
  end

  case("keeps data over a restart of the host", function()
    local r = run "redis:set('k', 'kept') print(redis:incr 'n')"
    assert.same({ 0, "1\n", "" }, { r.status, r.out, r.err })
    r = run "print(redis:get 'k', redis:incr 'n')"
    assert.same({ 0, "kept\t2\n", "" }, { r.status, r.out, r.err })
  end)

  case("is stopped with its last user", function()
    local r = run "print(redis:info('server'):match('process_id:(%d+)'))"
    assert.is_false(is_alive(r.out:match "%d+"))
  end)

  case("is not started by a script that needs none", function()
    local r = run "print 'no command'"
    assert.equal("no command\n", r.out)
    assert.is_nil(uv.fs_stat(dir .. "/data"))
  end)

  case("is shared by two processes, and outlives the one that started it", function()
    local a = start(ready .. "redis:set('a', '1') print 'set' io.stdout:flush() neap.sleep(30)")
    a:wait_for "set"
    local b = start("print(redis:get 'a') redis:set('b', '2') " .. ready ..
      "redis:blpop('go', 20) print(redis:get 'a', redis:get 'b', redis:ping())")
    b:wait_for "ready"
    a:kill "sigterm"
    a:wait()
    local c = run "redis:rpush('go', 'x') print(redis:get 'b')"
    assert.equal("2\n", c.out)
    b:wait()
    assert.same({ 0, "1\nready\n1\t2\tPONG\n" }, { b.status, b.out })
  end)

  case("is started once by many at the same time", function()
    local children = {}
    for i = 1, 6 do
      children[i] = start "print(redis:info('server'):match('run_id:(%x+)'), redis:incr 'n') "
    end
    for i = 1, 6 do
      children[i]:wait()
      assert.same({ 0, "" }, { children[i].status, children[i].err })
    end
    assert.equal("7\n", run("print(redis:incr 'n')").out)
  end)

  case("after kill -9 of the host the next start finds the data", function()
    local a = start("redis:set('k', 'v') " .. ready .. "neap.sleep(30)")
    a:wait_for "ready"
    a:kill "sigkill"
    a:wait()
    for _ = 1, 2 do
      local r = run "print(redis:get 'k')"
      assert.same({ 0, "v\n", "" }, { r.status, r.out, r.err })
    end
  end)

  case("after kill -9 of host and server the data are there", function()
    local a = start("redis:set('k', 'v') " ..
      "print('pid', redis:info('server'):match('process_id:(%d+)')) " .. ready .. "neap.sleep(30)")
    a:wait_for "ready"
    uv.kill(tonumber(a.out:match "pid\t(%d+)"), "sigkill")
    a:kill "sigkill"
    a:wait()
    assert.equal("v\n", run("print(redis:get 'k')").out)
  end)

  case("that dies is started anew under the client", function()
    local r = run [[
      redis:set("k", "v")
      require "luv".kill(tonumber(redis:info("server"):match "process_id:(%d+)"), "sigkill")
      neap.sleep(0.02)
      local ok, v
      repeat ok, v = pcall(redis.get, redis, "k") until ok
      print(v)
    ]]
    assert.same({ 0, "v\n", "" }, { r.status, r.out, r.err })
  end)

  case("that is not installed is named at the first command", function()
    local r = run("print 'before' redis:get 'k'", { PATH = "/nonexistent" })
    assert.equal(1, r.status)
    assert.equal("before\n", r.out)
    assert.matches("redis%-server", r.err)
    assert.matches("redis.embedded", r.err)
  end)

  case("where the data folder cannot be made says so", function()
    process.write(dir .. "/file", "")
    local r = run("redis:get 'k'", { NEAP_DATA = dir .. "/file/data" })
    assert.equal(1, r.status)
    assert.matches("file/data", r.err)
    r = run("redis:blpop('k', 1)", { NEAP_DATA = dir .. "/file/data" })
    assert.equal(1, r.status)
    assert.matches("file/data", r.err)
  end)

  case("works in a folder deeper than a socket's path may be", function()
    local deep = dir
    for i = 1, 12 do
      deep = deep .. "/a-folder-with-a-long-name-" .. i
      assert(uv.fs_mkdir(deep, 448))
    end
    local r = run("redis:set('k', 'deep') print(redis:get 'k')", { NEAP_DATA = deep .. "/data" })
    assert.same({ 0, "deep\n", "" }, { r.status, r.out, r.err })
    assert.is_truthy(uv.fs_stat(deep .. "/data/redis.log"))
  end)

  case("keeps its data beside the script by default, in the folder for -e", function()
    uv.fs_mkdir(dir .. "/app", 448)
    process.write(dir .. "/app/x.lua", "require('neap').redis():set('k', 'v')")
    local r = process.neap({ "app/x.lua" }, options { NEAP_DATA = false })
    assert.same({ 0, "" }, { r.status, r.err })
    assert.is_truthy(uv.fs_stat(dir .. "/app/.neap"))
    assert.is_nil(uv.fs_stat(dir .. "/.neap"))
    r = run("redis:set('k', 'v')", { NEAP_DATA = false })
    assert.equal(0, r.status)
    assert.is_truthy(uv.fs_stat(dir .. "/.neap"))
  end)

  case("in memory leaves nothing behind", function()
    local tmp = dir .. "/tmp"
    uv.fs_mkdir(tmp, 448)
    local r = run("redis:set('k', 'v') print(redis:get 'k')",
      { NEAP_REDIS = "memory", TMPDIR = tmp })
    assert.same({ 0, "v\n", "" }, { r.status, r.out, r.err })
    assert.is_nil(uv.fs_scandir_next(assert(uv.fs_scandir(tmp))))
    assert.is_nil(uv.fs_stat(dir .. "/data"))
  end)

  case("with many calls and an end under way settles each of them", function()
    local r = run [[
      local codes = {}
      for i = 1, 100 do
        neap.spawn(function()
          local ok, err = pcall(redis.get, redis, "k")
          codes[#codes + 1] = ok and "ok" or err.code
        end)
      end
      neap.sleep(0)
      redis:close()
      neap.sleep(0.01)
      print(#codes, codes[1], codes[100])
    ]]
    assert.same({ 0, "100\tredis.closed\tredis.closed\n", "" }, { r.status, r.out, r.err })
  end)
end)
