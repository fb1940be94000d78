-- soak: the Redis client under load while servers, connections and sentinels fail at
-- random. Every call has to settle once, with its own reply or with a coded error.
--
--   build/neap spec/soak.lua [seconds] [seed]
package.path = "./spec/?.lua;" .. package.path
local neap = require "neap"
local uv = require "luv"
local proxies = require "support.proxy"
local sentinel = require "support.sentinel"
local servers = require "support.redis"
local now, sleep = neap.monotonic, neap.sleep

local seconds = tonumber(arg[1]) or 600
local seed = tonumber(arg[2]) or os.time() % 1000000
local workers, consumers, listeners = 85, 10, 5 -- for each of two clients
local options = "?timeout=1&connect_timeout=1&pool=60&pool_timeout=2&slow=0"
local margin = 16 * 1024 -- KiB that memory may grow by
local longest_allowed = 30 -- seconds; a call may try again, each try takes up to 1 s

local allowed = {}
for code in ([[timeout cancelled redis.connect redis.unknown_outcome redis.timeout redis.conflict
  redis.pool_timeout redis.maxclients redis.loading redis.readonly redis.sentinel
  redis.masterdown redis.unblocked redis.execabort]]):gmatch "%S+" do allowed[code] = true end

local count = { made = 0, settled = 0, codes = { returned = 0 }, events = {}, longest = 0 }
local failures, started, is_over = 0, now(), false

local function say(fmt, ...)
  io.write(fmt:format(...), "\n")
  io.flush()
end

local function fail(fmt, ...)
  failures = failures + 1
  if failures <= 30 then say("%6.1f  WRONG: " .. fmt, now() - started, ...) end
end

-- random_from returns a generator of its own: random(n) is a number from 1 to n.
local function random_from(start)
  local x = (start * 48271 + 11) % 2147483646 + 1
  return function(n)
    x = x * 16807 % 2147483647
    return x % n + 1
  end
end

local function add(t, name) t[name] = (t[name] or 0) + 1 end

-- losses --------------------------------------------------------------------

-- A target is a client and what stands behind it. `losses` counts how often its data
-- may have been lost, `lossy` is above 0 while that may go on.
local function epoch(t) return t.lossy == 0 and t.losses or -1 end

local function with_loss(t, fn, ...)
  t.losses, t.lossy = t.losses + 1, t.lossy + 1
  local ok, err = pcall(fn, ...)
  t.lossy = t.lossy - 1
  if not ok then error(err, 0) end
end

-- expect says that something is wrong, unless the sentinels have, on their own,
-- moved the primary, which takes them a moment to tell.
local function expect(t, is_right, fmt, ...)
  if is_right then return end
  local before = epoch(t)
  if t.set then sleep(3) end
  if epoch(t) == before then fail(fmt, ...) end
end

-- calls ---------------------------------------------------------------------

-- interrupted calls fn, now and then with a short deadline, or cancels it.
local function interrupted(w, fn, ...)
  local dice = w.random(100)
  if dice <= 6 then return neap.timeout(w.random(40) / 1000, fn, ...) end
  if dice > 10 then return fn(...) end
  local t = neap.spawn(fn, ...)
  sleep(w.random(20) / 1000)
  t:cancel()
  return t:join()
end

-- attempt makes a call and counts how it ends: true and its result, or false and its error.
local function attempt(w, name, fn, ...)
  count.made = count.made + 1
  w.doing, w.since = name, now()
  local ok, v = pcall(interrupted, w, fn, ...)
  count.settled = count.settled + 1
  local took = now() - w.since
  if took > count.longest then count.longest, count.longest_name = took, name end
  w.doing = nil
  if ok then
    count.codes.returned = count.codes.returned + 1
  elseif not neap.is_error(v) then
    fail("%s raised no error object: %s", name, tostring(v))
    v = {}
  else
    add(count.codes, v.code)
    if not allowed[v.code] then fail("%s raised %s: %s", name, v.code, tostring(v)) end
  end
  return ok, v
end

local function command(w, name, ...)
  local client = w.target.client
  return attempt(w, name, client[name:lower()], client, ...)
end

-- was_undone: the error says that nothing was carried out.
local function was_undone(err) return err.phase == "queued" or err.phase == "reply" end

-- nonce_of returns a text that nobody else sends.
local function nonce_of(w)
  w.serial = w.serial + 1
  return w.name .. "#" .. w.serial
end

-- serial_in returns the number behind a name in a value; no other's value has one.
local function serial_in(value, name)
  local is_own = type(value) == "string" and value:sub(1, #name + 1) == name .. "#"
  return is_own and tonumber(value:sub(#name + 2)) or nil
end

-- own returns the worker's key of that kind. A call to it that may still be carried out
-- later blurs what is known of it: after a while it gets a new name.
local function own(w, kind)
  local k = w.keys[kind]
  if not k or k.is_blurred and w.random(4) == 1 then
    w.generation = w.generation + 1
    k = { name = ("%s:%s:%d"):format(kind, w.name, w.generation), sent = 0, acked = 0, epoch = -1 }
    w.keys[kind] = k
  end
  return k
end

-- change makes a call that writes to the worker's key k; before: the epoch it began in.
local function change(w, k, name, ...)
  local before = epoch(w.target)
  k.sent = k.sent + 1
  local ok, v = command(w, name, k.name, ...)
  local is_steady = before >= 0 and before == epoch(w.target)
  if not ok and was_undone(v) then
    if name == "INCR" then k.sent = k.sent - 1 end
  elseif not ok then
    k.is_blurred = true
  end
  return ok, v, is_steady and before or -1
end

local function is_known(w, k, before)
  return before >= 0 and k.epoch == before and before == epoch(w.target)
end

-- what the workers do -------------------------------------------------------

local actions = {}

function actions.set(w)
  local k = own(w, "k")
  local ok, _, at = change(w, k, "SET", ("%s#%d"):format(k.name, k.sent + 1))
  if ok then k.acked, k.epoch = k.sent, at end
end

-- check_own looks at what a GET of k gave, which began at the epoch `before`.
local function check_own(w, k, v, before)
  local n = v and serial_in(v, k.name)
  if v and not (n and n <= k.sent) then
    return fail("GET %s gave %s, of %d", k.name, tostring(v), k.sent)
  end
  expect(w.target, k.is_blurred or not is_known(w, k, before) or n == k.acked,
    "GET %s gave %s, SET was answered for %d", k.name, tostring(v), k.acked)
end

function actions.get(w)
  local k, before = own(w, "k"), epoch(w.target)
  local ok, v = command(w, "GET", k.name)
  if ok then check_own(w, k, v or nil, before) end
end

function actions.incr(w)
  local k = own(w, "c")
  local ok, v, at = change(w, k, "INCR")
  if not ok then return end
  if type(v) ~= "number" or v < 1 or v > k.sent then
    return fail("INCR %s gave %s after %d attempts", k.name, tostring(v), k.sent)
  end
  expect(w.target, not is_known(w, k, at) or v > k.acked,
    "INCR %s gave %d after %d", k.name, v, k.acked)
  k.acked, k.epoch = v, at
  -- what one failover lost, the next may bring back
  if at >= 0 and not k.is_blurred and not w.target.set then k.sent = v end
end

function actions.echo(w)
  local nonce = nonce_of(w)
  local ok, v = command(w, "ECHO", nonce)
  if ok and v ~= nonce then fail("ECHO %s gave %s", nonce, tostring(v)) end
end

local function is_script_reply(v, key, nonce)
  return type(v) == "table" and v[1] == key and v[2] == nonce and type(v[3]) == "number"
end

function actions.script(w)
  local nonce, key = nonce_of(w), "s:" .. w.name
  local ok, v = attempt(w, "script", w.target.script, { key }, nonce)
  if ok and not is_script_reply(v, key, nonce) then fail("%s: another's script reply", nonce) end
end

function actions.pipeline(w)
  local nonce, key, k = nonce_of(w), "s:" .. w.name, own(w, "k")
  local before = epoch(w.target)
  local ok, replies = command(w, "pipeline", function(p)
    p:echo(nonce)
    p:get(k.name)
    p:lua(w.target.script, { key }, nonce)
    p:echo(nonce .. "/2")
  end)
  if not ok then return end
  if #replies ~= 4 then return fail("a pipeline of 4 gave %d replies", #replies) end
  local is_right = { replies[1] == nonce, true, is_script_reply(replies[3], key, nonce),
    replies[4] == nonce .. "/2" }
  for i = 1, 4 do
    local r = replies[i]
    if neap.is_error(r) then
      add(count.codes, "slot: " .. r.code)
      if not allowed[r.code] then fail("pipeline %s, slot %d: %s", nonce, i, tostring(r)) end
    elseif i == 2 then
      check_own(w, k, r or nil, before)
    elseif not is_right[i] then
      fail("pipeline %s, slot %d: %s", nonce, i, tostring(r))
    end
  end
end

function actions.multi(w)
  local nonce = nonce_of(w)
  local ok, r = command(w, "multi", function(tx)
    tx:incr("ma:" .. w.name)
    tx:echo(nonce)
    tx:incr("mb:" .. w.name)
  end)
  if ok and not (r[2] == nonce and type(r[1]) == "number" and r[1] == r[3]) then
    fail("multi %s gave %s, %s, %s", nonce, tostring(r[1]), tostring(r[2]), tostring(r[3]))
  end
end

function actions.watch(w)
  local nonce, shared = nonce_of(w), w.target.shared[w.random(5)]
  shared.sent = shared.sent + 1
  local ok, result = attempt(w, "watch", function()
    return { w.target.client:watch(shared.name, function(tx)
      local left = tonumber(tx:get(shared.name) or 0) + 1
      return left, tx:multi(function(m)
        m:set(shared.name, left)
        m:echo(nonce)
      end)
    end) }
  end)
  if not ok then return end
  local n, r = unpack(result)
  if not (r[1] == "OK" and r[2] == nonce) then fail("watch %s: another's reply", nonce) end
  if n > shared.sent then fail("watch: %s is %d after %d", shared.name, n, shared.sent) end
end

function actions.hash(w)
  local key, value = "h:" .. w.name, nonce_of(w)
  command(w, "HSET", key, { a = value, b = value })
  local ok, h = command(w, "HGETALL", key)
  if ok and h.a ~= h.b or ok and h.a and not serial_in(h.a, w.name) then
    fail("HGETALL %s: %s, %s", key, tostring(h.a), tostring(h.b))
  end
end

local function send_to(list, name)
  return function(w)
    local q = w.target[list][w.random(#w.target[list])]
    q.sent = q.sent + 1
    command(w, name, q.name, q.name .. "#" .. q.sent)
  end
end
actions.push = send_to("queues", "RPUSH")
actions.publish = send_to("topics", "PUBLISH")

local action_names = {}
for name in pairs(actions) do table.insert(action_names, name) end
table.sort(action_names)

local function work(w)
  while not w.target.is_over do
    actions[action_names[w.random(#action_names)]](w)
    sleep(w.random(50) / 1000)
  end
end

-- check_once: a value that was sent to a queue or topic, which comes at most once; what
-- was taken off a queue may come back when a replica takes over.
local function check_once(w, q, value, seen)
  local n, at = serial_in(value, q.name), epoch(w.target)
  if not n or n > q.sent then return fail("%s got %s", q.name, tostring(value)) end
  local is_again = seen[n] and (seen[n] == at and at >= 0 or not w.target.set)
  expect(w.target, not is_again, "%s got %s twice", q.name, value)
  seen[n], seen[n - 500] = at, nil
end

local function consume(w)
  local q, seen = w.target.queues[w.number], {}
  while not w.target.is_over do
    local ok, v = command(w, "BLPOP", q.name, w.random(5) / 10)
    if not ok then sleep(0.01) end
    if ok and v and v[1] ~= q.name then fail("BLPOP %s gave of %s", q.name, tostring(v[1])) end
    if ok and v then check_once(w, q, v[2], seen) end
  end
end

local function listen(w)
  local q, client, seen = w.target.topics[w.number], w.target.client, {}
  local method = w.number % 2 == 0 and client.psubscribe or client.subscribe
  while not w.target.is_over do
    local ok, sub = attempt(w, "subscribe", method, client, q.name)
    if not ok then sleep(0.01) end
    for _ = 1, ok and w.random(300) or 0 do
      local is_event, event = attempt(w, "next", neap.timeout, 0.3, sub.next, sub)
      if is_event and not event.gap then
        if event.channel ~= q.name then fail("%s got of %s", q.name, tostring(event.channel)) end
        check_once(w, q, event.payload, seen)
      end
      if w.target.is_over then break end
    end
    if ok then sub:close() end
  end
end

-- start_load starts the tasks of a target.
local function start_load(t, offset)
  t.script = t.client:lua [[return {KEYS[1], ARGV[1], redis.call("INCR", KEYS[1])}]]
  t.queues, t.topics, t.shared, t.workers = {}, {}, {}, {}
  for i = 1, consumers do t.queues[i] = { name = "q:" .. t.name .. ":" .. i, sent = 0 } end
  for i = 1, listeners do t.topics[i] = { name = "t:" .. t.name .. ":" .. i, sent = 0 } end
  for i = 1, 5 do t.shared[i] = { name = "w:" .. t.name .. ":" .. i, sent = 0 } end
  local function start(kind, fn, n)
    for i = 1, n do
      local w = { target = t, number = i, name = t.name .. ":" .. kind .. i, serial = 0,
        generation = 0, keys = {}, random = random_from(seed * 1000 + offset + #t.workers) }
      table.insert(t.workers, w)
      w.task = neap.spawn(fn, w)
    end
  end
  start("worker", work, workers)
  start("consumer", consume, consumers)
  start("listener", listen, listeners)
end

-- what happens to them ------------------------------------------------------

-- admin carries out a command on a connection of its own.
local function admin(port, ...)
  local client = neap.redis { url = "redis://127.0.0.1:" .. port, timeout = 1 }
  local ok, v = pcall(client.call, client, ...)
  client:close()
  if not ok then error(v, 0) end
  return v
end

-- patiently calls fn until it returns something, and returns that.
local function patiently(what, fn)
  local start = now()
  while true do
    local ok, v = pcall(fn)
    if ok and v then return v end
    if now() - start > 60 then return fail("%s: not within 60 s: %s", what, tostring(v)) end
    sleep(0.1)
  end
end

-- roles returns the primary that the sentinels agree upon, and the other one, once
-- the one has the other as its replica.
local function roles(set)
  local found
  for _, s in ipairs(set.sentinels) do
    local reply, fields = admin(s.port, "SENTINEL", "MASTER", "mymaster"), {}
    for i = 1, #reply, 2 do fields[reply[i]] = reply[i + 1] end
    if fields.flags ~= "master" or found and fields.port ~= found then return nil end
    found = fields.port
  end
  local one, other = set.primary, set.replica
  if found ~= tostring(one.port) then one, other = other, one end
  local role = admin(one.port, "ROLE")
  if role[1] ~= "master" or #role[3] ~= 1 then return nil end
  role = admin(other.port, "ROLE")
  return role[1] == "slave" and role[4] == "connected" and { one, other } or nil
end

local function settle(t)
  if t.set then t.servers = patiently("the sentinels", function() return roles(t.set) end) or
    t.servers end
end

local function pause(random, least, most)
  sleep((least + random(most - least)) / 1000)
end

local events = {}

local function kill_clients(kind)
  return function(t) admin(t.servers[1].port, "CLIENT", "KILL", "TYPE", kind) end
end
events["kill normal"] = kill_clients "normal"
events["kill pubsub"] = kill_clients "pubsub"
events["script flush"] = function(t) admin(t.servers[1].port, "SCRIPT", "FLUSH") end

local function suspend(child, random)
  child:kill "sigstop"
  pause(random, 50, 2000)
  child:kill "sigcont"
end

events["stop server"] = function(t, random)
  local function stop()
    suspend(t.servers[random(#t.servers)].child, random)
    if t.set then sleep(1) end -- a failover may be under way
    settle(t)
  end
  if t.set then with_loss(t, stop) else stop() end
end

events["few clients"] = function(t, random)
  local client = neap.redis { url = "redis://127.0.0.1:" .. t.servers[1].port, timeout = 1 }
  local ok, err = pcall(function()
    client:config("SET", "maxclients", 4)
    client:client("KILL", "TYPE", "normal")
    pause(random, 50, 1500)
  end)
  patiently("maxclients", function() return client:config("SET", "maxclients", 10000) end)
  client:close()
  if not ok then error(err, 0) end
end

function events.cut(t) t.proxy:cut() end

function events.delay(t, random)
  t.proxy.delay = random(80) / 1000
  pause(random, 100, 1500)
  t.proxy.delay = nil
end

function events.hole(t, random)
  t.proxy.is_hole = true
  pause(random, 100, 2500)
  t.proxy:cut() -- bytes are missing in each
  t.proxy.is_hole = false
end

function events.refuse(t, random)
  t.proxy.is_refusing = true
  t.proxy:cut()
  pause(random, 50, 1500)
  t.proxy.is_refusing = false
end

events["kill server"] = function(t, random)
  with_loss(t, function()
    t.servers[1]:kill()
    pause(random, 50, 1500)
    t.servers[1]:restart()
  end)
end

function events.failover(t)
  with_loss(t, function()
    admin(t.set.sentinels[1].port, "SENTINEL", "FAILOVER", "mymaster")
    sleep(1)
    settle(t)
  end)
end

events["kill primary"] = function(t)
  with_loss(t, function()
    local old, new = t.servers[1], t.servers[2]
    old:kill()
    patiently("the replica becomes primary", function()
      return admin(new.port, "ROLE")[1] == "master"
    end)
    old.args = { "--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1",
      tostring(new.port) }
    old:restart()
    settle(t)
  end)
end

events["stop sentinel"] = function(t, random)
  suspend(t.set.sentinels[random(3)].child, random)
end

events["kill sentinel"] = function(t, random)
  local n = random(3)
  local child = t.set.sentinels[n].child
  child:kill "sigkill"
  child:wait()
  pause(random, 50, 1500)
  t.set:start_sentinel(n)
end

local to_single = { "kill normal", "kill pubsub", "script flush", "stop server", "few clients",
  "cut", "delay", "hole", "refuse", "kill server" }
local to_watched = { "kill normal", "kill pubsub", "script flush", "stop server", "few clients",
  "failover", "kill primary", "stop sentinel", "kill sentinel" }

-- harm makes one thing happen after the other, of those named.
local function harm(t, names, random)
  while not is_over do
    pause(random, 200, 2000)
    local name = names[random(#names)]
    add(count.events, t.name .. " " .. name)
    local ok, err = pcall(events[name], t, random)
    if not ok and neap.is_error(err) then
      add(count.events, t.name .. " " .. name .. " refused: " .. err.code)
    elseif not ok then
      fail("%s: %s", name, tostring(err))
    end
  end
end

-- watch_switches notes when the sentinels move the primary on their own.
local function watch_switches(t)
  for i, s in ipairs(t.set.sentinels) do
    local client = neap.redis { url = "redis://127.0.0.1:" .. s.port }
    t.watchers[i] = client
    neap.spawn(pcall, function()
      for _ in client:subscribe("+switch-master"):events() do
        neap.spawn(with_loss, t, settle, t)
      end
    end)
  end
end

-- the whole -----------------------------------------------------------------

local function memory()
  collectgarbage()
  collectgarbage()
  local file = assert(io.open "/proc/self/status")
  local rss = tonumber(file:read("*a"):match "VmRSS:%s*(%d+)")
  file:close()
  return { rss = rss, lua = collectgarbage "count" }
end

local function open_files()
  local n, request = 0, assert(uv.fs_scandir "/proc/self/fd")
  while uv.fs_scandir_next(request) do n = n + 1 end
  return n
end

local function listed(t)
  local names, out = {}, {}
  for name in pairs(t) do table.insert(names, name) end
  table.sort(names)
  for i, name in ipairs(names) do out[i] = ("  %8d  %s"):format(t[name], name) end
  return table.concat(out, "\n")
end

local function report(targets)
  local oldest, name = 0, "none"
  for _, t in ipairs(targets) do
    for _, w in ipairs(t.workers) do
      local age = w.doing and now() - w.since or 0
      if age > oldest then oldest, name = age, w.doing end
    end
  end
  say("%6.1f  %d calls made, %d settled, %d wrong; the oldest: %s, %.1f s", now() - started,
    count.made, count.settled, failures, name, oldest)
end

local function stop_load(t)
  t.is_over = true
  local ok, err = pcall(neap.timeout, 20, function()
    for _, w in ipairs(t.workers) do w.task:join() end
  end)
  if not ok then fail("the tasks of %s do not end: %s", t.name, tostring(err)) end
  ok, err = pcall(neap.timeout, 15, patiently, "PING", function()
    return t.client:ping() == "PONG"
  end)
  if not ok then fail("%s does not answer: %s", t.name, tostring(err)) end
end

local function run(targets)
  for i, t in ipairs(targets) do start_load(t, i * 200) end
  sleep(math.min(10, seconds / 4)) -- all is warm before it is measured
  local before, tasks = memory(), {}
  for i, t in ipairs(targets) do
    tasks[i] = neap.spawn(harm, t, t.set and to_watched or to_single, random_from(seed + i))
  end
  local reports = neap.every(10, function() report(targets) end)
  sleep(seconds - (now() - started))
  is_over = true
  for _, task in ipairs(tasks) do task:join() end
  for _, t in ipairs(targets) do settle(t) end
  for _, t in ipairs(targets) do stop_load(t) end
  reports:stop()
  return before
end

local function compare(before, after, files_before, files_after)
  say("longest call: %s, %.2f s", count.longest_name, count.longest)
  say("files open: %d, then %d; resident: %d KiB, then %d; Lua: %d KiB, then %d", files_before,
    files_after, before.rss, after.rss, before.lua, after.lua)
  if count.longest > longest_allowed then fail("a call took %.1f s", count.longest) end
  if files_after > files_before then fail("files were left open") end
  if after.rss > before.rss + margin then fail("resident memory grew") end
  if after.lua > before.lua + margin then fail("Lua's memory grew") end
end

local running = {} -- to be stopped at the end

local function keep(thing)
  table.insert(running, thing)
  return thing
end

local function main()
  neap.log.level "error"
  local server, set = keep(servers.start()), keep(sentinel.start())
  local proxy = keep(proxies.start(server.port))
  local files = open_files()
  started = now()
  local single = { name = "single", losses = 0, lossy = 0, servers = { server }, proxy = proxy,
    client = neap.redis(proxy.url .. options) }
  local watched = { name = "sentinel", losses = 0, lossy = 0, set = set, watchers = {},
    client = neap.redis(set.url .. options) }
  settle(watched)
  watch_switches(watched)
  local before = run { single, watched }
  for _, client in ipairs { single.client, watched.client, unpack(watched.watchers) } do
    client:close()
  end
  proxy:cut()
  single.workers, watched.workers = nil, nil -- what they remember is not the client's
  sleep(1)
  say("calls, by how they ended:\n%s\nevents:\n%s", listed(count.codes), listed(count.events))
  compare(before, memory(), files, open_files())
end

say("soak: %g s, seed %d", seconds, seed)
local ok, err = xpcall(main, debug.traceback)
if not ok then fail("%s", tostring(err)) end
for _, thing in ipairs(running) do thing:stop() end
local astray = count.made - count.settled + failures
say("soak: %d calls made, %d settled, %d astray", count.made, count.settled, astray)
neap.stop(astray == 0 and 0 or 1)
