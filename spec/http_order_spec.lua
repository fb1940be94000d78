-- In what order a busy loop serves: what has begun before what has just come.
local neap = require "neap"
local http = require "neap.http"
local client = require "spec.support.client"
local uv = require "luv"

local request = "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"

describe("requests that come while the loop is busy", function()
  local app = http.app()
  local server, order, serve

  app:get("/:name", function(req)
    order[#order + 1] = req.params.name
    return { text = serve and serve(req) or "" }
  end)

  before_each(function()
    server, order, serve = app:listen(0), {}, nil
  end)

  after_each(function()
    server:close()
  end)

  -- connect returns n connections that the server has accepted.
  local function connect(n)
    local list = {}
    for i = 1, n do
      list[i] = client.connect(server.port)
      list[i]:write(request:format "first")
      assert.equal(200, list[i]:response().status)
    end
    order = {}
    return list
  end

  -- when_read calls fn in the loop's turn in which the server has read one more request:
  -- behind its reading, before any task goes on.
  local function when_read(fn)
    local before, check = server:requests(), uv.new_check()
    check:start(function()
      if server:requests() > before then
        check:stop()
        check:close()
        fn()
      end
    end)
  end

  it("wait for the tasks that are ready, though these became so later", function()
    local c, event = connect(1)[1], neap.event()
    when_read(function() event:set() end)
    c:write(request:format "new")
    event:wait()
    order[#order + 1] = "begun"
    c:response()
    assert.same({ "begun", "new" }, order)
  end)

  it("begin a few at a time, with the tasks that they start", function()
    serve = function()
      neap.map(function() order[#order + 1] = "part" end, { 1, 2, 3, 4 })
      return ""
    end
    local list, parts = connect(100), nil
    for _, c in ipairs(list) do c:write(request:format "whole") end
    for _, c in ipairs(list) do c:response() end
    for i, what in ipairs(order) do parts = parts or what == "part" and i end
    assert.equal(500, #order)
    assert.is_true(parts <= 20, parts - 1 .. " began before the first part")
  end)

  it("do not hold up a task whose time has come", function()
    local wanted, first = 100, neap.event()
    local list, served_then = connect(wanted), nil
    serve = function()
      first:set()
      local t0 = uv.hrtime()
      while uv.hrtime() - t0 < 1e6 do end -- a millisecond's work
      return ""
    end
    local sleeper = neap.spawn(function()
      first:wait()
      neap.sleep(0.001)
      served_then = #order
    end)
    for _, c in ipairs(list) do c:write(request:format "busy") end
    for _, c in ipairs(list) do assert.equal(200, c:response().status) end
    sleeper:join()
    assert.equal(wanted, #order)
    assert.is_true(served_then < wanted, "all of them went first")
  end)

  it("begin though nothing else happens", function()
    local list, all, gate = connect(30), neap.event(), neap.event()
    serve = function()
      local t0 = uv.hrtime()
      while uv.hrtime() - t0 < 1e6 do end
      if #order == #list then all:set() end
      gate:wait() -- until then no socket and no timer wakes the loop
      return ""
    end
    for _, c in ipairs(list) do c:write(request:format "new") end
    neap.timeout(10, function() all:wait() end)
    gate:set()
    for _, c in ipairs(list) do assert.equal(200, c:response().status) end
  end)

  it("begin though a task gives way again and again", function()
    local list, rounds, is_over = connect(50), 0, false
    local busy = neap.spawn(function()
      while not is_over do
        local t0 = uv.hrtime()
        while uv.hrtime() - t0 < 2e6 do end
        rounds = rounds + 1
        neap.sleep(0)
      end
    end)
    for _, c in ipairs(list) do c:write(request:format "new") end
    for _, c in ipairs(list) do c:response() end
    is_over = true
    busy:join()
    assert.is_true(rounds < 25, rounds .. " rounds for 50 requests")
  end)

  for _, count in ipairs { 63, 64, 200 } do
    it("begin though " .. count .. " tasks are ready at all times", function()
      local c, is_over, tasks, rounds = connect(1)[1], false, {}, 0
      for i = 1, count do
        tasks[i] = neap.spawn(function()
          while not is_over and rounds < 1e6 do
            rounds = rounds + 1
            neap.sleep(0)
          end
        end)
      end
      c:write(request:format "new")
      assert.equal(200, c:response().status)
      is_over = true
      for _, task in ipairs(tasks) do task:join() end
      assert.is_true(rounds < 1e6, "only once they had ended")
    end)
  end

  it("do not begin at all if their clients have left by then", function()
    local list = connect(20)
    serve = function()
      local t0 = uv.hrtime()
      while uv.hrtime() - t0 < 1e6 do end
      return "kept"
    end
    local before = server:requests()
    for i, c in ipairs(list) do c:write(request:format(i)) end
    while server:requests() < before + #list do neap.sleep(0) end
    for i = 16, 20 do list[i]:reset() end
    for i = 1, 15 do assert.equal("kept", list[i]:response().body) end
    assert.equal(15, #order)
  end)
end)
