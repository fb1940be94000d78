-- redis-servers and sentinels as they are; those of redis_sentinel_spec.lua say what they are told
local neap = require "neap"
local sentinel = require "support.sentinel"
local eventually = require "support.eventually"
local case = require "support.case" (it)
local error_of = require "support.failure" (assert)

describe("a real failover", function()
  -- load keeps 20 tasks at work on keys of their own; what comes of each call
  -- is counted, and a reply that belongs to another is noted.
  local function start_load(client)
    local load = { done = 0, failed = 0, codes = {}, strange = {}, tasks = {} }
    local function settle(ok, v)
      if ok then
        load.done = load.done + 1
      else
        load.failed = load.failed + 1
        local code = neap.is_error(v) and v.code or tostring(v)
        load.codes[code] = true
        if not (neap.is_error(v) and code:find "^redis%.") then table.insert(load.strange, code) end
      end
      return ok and v
    end
    for i = 1, 20 do
      load.tasks[i] = neap.spawn(function()
        local key = "own:" .. i
        local n = 0
        while not load.is_over do
          n = n + 1
          settle(pcall(client.set, client, key, key .. "=" .. n))
          local v = settle(pcall(client.get, client, key))
          if v and v:match "^(.*)=" ~= key then table.insert(load.strange, key .. " has " .. v) end
          neap.sleep(0.002)
        end
      end)
    end
    function load.succeeds()
      local before = load.done
      eventually(function() return load.done > before + 100 end, "the load goes on")
    end
    function load.stop()
      load.is_over = true
      for i = 1, 20 do load.tasks[i]:join() end
      assert.same({}, load.strange)
    end
    return load
  end

  local function under_load(happen)
    local set = sentinel.start()
    local client = neap.redis(set.url .. "?timeout=5")
    local load = start_load(client)
    local ok, err = pcall(function()
      load.succeeds()
      local sub = client:subscribe "news"
      local got = {}
      local pops = neap.spawn(function()
        while not got.last do
          local popped, v = pcall(client.brpop, client, "queue", 0)
          if popped and v[2] == "last" then
            got.last = true
          elseif not popped then
            got.strange = not (neap.is_error(v) and v.code:find "^redis%.") and tostring(v)
            if got.strange or v.code == "redis.closed" then return end
            neap.sleep(0.01)
          end
        end
      end)
      local listener = neap.spawn(function()
        for event in sub:events() do
          if event.gap then got.gap = true else got[event.payload] = true end
        end
      end)
      client:publish("news", "before")
      eventually(function() return got.before end)

      happen(set)

      eventually(function() return set:has_switched() end, "the sentinels switch")
      load.succeeds()
      load.stop()
      local address = client:role()
      assert.equal("master", address.role or address[1])
      assert.is_true(client:stats().reconnects > 0)
      eventually(function()
        client:publish("news", "after")
        return got.after
      end, "the subscription goes on")
      assert.is_true(got.gap)
      eventually(function()
        pcall(client.lpush, client, "queue", "last")
        return got.last
      end, "the queue is read again")
      pops:join()
      assert.is_falsy(got.strange)
      sub:close()
      listener:join()
    end)
    load.is_over = true
    client:close()
    set:stop()
    if not ok then error(err, 0) end
  end

  case("that was asked for settles every call, and all goes on", function()
    under_load(function(set) set:failover() end)
  end)

  case("after the primary died settles every call, and all goes on", function()
    under_load(function(set) set.primary:kill() end)
  end)

  case("of the sentinels themselves leaves the primary in use", function()
    local set = sentinel.start()
    local client = neap.redis(set.url .. "?timeout=0.3")
    local other
    local ok, err = pcall(function()
      client:set("k", "v")
      set:kill_sentinels()
      assert.equal("v", client:get "k")
      other = neap.redis(set.url .. "?timeout=0.2")
      assert.equal("redis.sentinel", error_of(other.get, other, "k").code)
      set:start_sentinel(3)
      eventually(function() return select(2, pcall(other.get, other, "k")) == "v" end)
      assert.equal("v", client:get "k")
      assert.equal(0, client:stats().reconnects)
    end)
    if other then other:close() end
    client:close()
    set:stop()
    if not ok then error(err, 0) end
  end)
end)
