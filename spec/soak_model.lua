-- soak_model: eight hosts race for the rows of a few models while hosts, connections and
-- the server fail at random. In the end what Redis holds has to agree with what each host
-- was told (spec/support/model_soak.lua writes that down), and the indexes with the rows.
--
--   SECONDS=120 build/neap spec/soak_model.lua
--   SECONDS=120 SEED=5 build/neap spec/soak_model.lua
package.path = "./spec/?.lua;" .. package.path
local neap = require "neap"
local uv = require "luv"
local check = require "support.model_check"
local process = require "support.process"
local proxies = require "support.proxy"
local servers = require "support.redis"
local soak = require "support.model_soak"
local now, sleep = neap.monotonic, neap.sleep

if arg[1] == "host" then
  soak.host(neap.json.decode(arg[2]))
  neap.stop(0)
  return
end

local seconds = tonumber(os.getenv "SECONDS") or 120
local seed = tonumber(os.getenv "SEED") or os.time() % 1000000
local random = soak.random_from(seed)
local settle_seconds = 60 -- in which the hosts have to end; a write gives up after 15 s
local long_stop = 17      -- seconds of silence, after which writes give up

local count = { calls = {}, events = {}, happened = 0, writes = 0, settled = 0 }
local failures, started = 0, now()

local function say(fmt, ...)
  io.write(fmt:format(...), "\n")
  io.flush()
end

local function fail(fmt, ...)
  failures = failures + 1
  if failures <= 30 then say("%6.1f  WRONG: " .. fmt, now() - started, ...) end
end

local function add(t, name, n) t[name] = (t[name] or 0) + (n or 1) end

local function pause(least, most) sleep((least + random(most - least)) / 1000) end

-- hosts ---------------------------------------------------------------------

local function start_host(world, host)
  host.life = host.life + 1
  local journal = ("%s/%d.%d.json"):format(world.dir, host.number, host.life)
  table.insert(world.journals, journal)
  host.child = process.start(uv.exepath(), { "spec/soak_model.lua", "host", neap.json.encode {
    number = host.number, life = host.life, seed = seed * 100 + host.number * 10 + host.life,
    stop_at = world.stop_at, url = host.proxy.url, journal = journal } },
    { env = { NEAP_DATA = world.dir } })
end

-- check_output: a host writes nothing, and in particular no complaint.
local function check_output(host)
  local text = host.child.out .. host.child.err
  if text ~= "" then fail("host %d.%d wrote: %s", host.number, host.life, text:sub(1, 600)) end
end

local function end_host(host)
  local ok, err = pcall(host.child.wait, host.child, settle_seconds)
  if not ok then
    fail("host %d does not end: %s", host.number, tostring(err))
  elseif host.child.status ~= 0 then
    fail("host %d ended with %d, signal %d", host.number, host.child.status, host.child.signal)
  end
  check_output(host)
end

-- events --------------------------------------------------------------------

local events = {}

local function kill_host(world)
  local host = world.hosts[random(#world.hosts)]
  host.child:kill "sigkill"
  host.child:wait()
  if host.child.signal ~= 9 then fail("host %d ended by itself", host.number) end
  check_output(host)
  start_host(world, host)
end
events["kill host"] = kill_host

function events.cut(world) world.hosts[random(#world.hosts)].proxy:cut() end

-- Replies that are on their way when the connection is cut belong to writes that were
-- carried out.
events["drop replies"] = function(world)
  for _, host in ipairs(world.hosts) do host.proxy.delay = 0.03 end
  pause(60, 300)
  for _, host in ipairs(world.hosts) do
    if random(2) == 1 then host.proxy:cut() end
    host.proxy.delay = nil
  end
end

function events.delay(world)
  local proxy = world.hosts[random(#world.hosts)].proxy
  proxy.delay = random(100) / 1000
  pause(100, 1500)
  proxy.delay = nil
end

-- Hosts whose connection is cut meanwhile send their writes again on another: the
-- server finds both when it goes on, and what a host that is dead had sent.
local function stop_server(world, least, most)
  world.server:signal "sigstop"
  pause(least, most)
  for _, host in ipairs(world.hosts) do
    if random(2) == 1 then host.proxy:cut() end
  end
  if random(2) == 1 then kill_host(world) end
  pause(50, 700)
  world.server:signal "sigcont"
end

events["stop server"] = function(world) stop_server(world, 50, 2500) end

events["kill server"] = function(world)
  world.server:kill()
  pause(20, 1000)
  world.server:restart()
end

events["script flush"] = function(world) world.direct:script "FLUSH" end

-- refused_as calls fn, which has to be refused because of its definition.
local function refused_as_old(what, fn, ...)
  local ok, err = pcall(fn, ...)
  if ok then return fail("an old definition's %s was carried out", what) end
  if not neap.is_error(err, "model.schema_changed") then
    if not neap.is_error(err) then return fail("%s: %s", what, tostring(err)) end
    add(count.events, "old writer: " .. err.code)
  end
end

events["old writer"] = function(world)
  local old, id = world.old, "row " .. random(1000)
  refused_as_old("create", old.create, old, { id = "old", tag = "old" })
  local row = old:load(id)
  if not row then return end
  row.word = "old"
  refused_as_old("save", row.save, row)
  refused_as_old("delete", row.delete, row)
end

local drawn = { "kill host", "kill host", "cut", "cut", "drop replies", "drop replies", "delay",
  "stop server", "stop server", "kill server", "script flush", "old writer" }

-- happen makes the event so named happen.
local function happen(world, name)
  local ok, err = pcall(events[name], world)
  add(count.events, name)
  if not ok and neap.is_error(err) then
    add(count.events, ("%s: %s"):format(name, err.code))
  elseif not ok then
    fail("%s: %s", name, tostring(err))
  end
end

-- empty_database: all begins anew. world.emptied is when that was, from and to.
local function empty_database(world)
  local from = now()
  repeat until pcall(world.direct.flushall, world.direct)
  world.emptied = { from = from, to = now() }
  add(count.events, "flushall")
  -- the first writer stores its definition; the old one must not be the first
  repeat
    sleep(0.05)
    local ok, is_there = pcall(world.direct.exists, world.direct, "{soak_row}/@meta")
  until ok and is_there == 1 or now() > world.stop_at
end

local function harm(world)
  local half, third = started + seconds / 2, started + seconds / 3
  local is_stopped = seconds < 4 * long_stop
  while now() < world.stop_at - 4 do
    pause(50, 1000)
    count.happened = count.happened + 1
    if not world.emptied and now() > half then
      empty_database(world)
    elseif not is_stopped and now() > third then
      is_stopped = true
      add(count.events, "long stop")
      stop_server(world, long_stop * 1000, long_stop * 1000 + 1)
    else
      happen(world, drawn[random(#drawn)])
    end
  end
end

-- what the hosts were told ----------------------------------------------------

-- Of each tag, the creation of a row, a story holds: id; was_creatable: a create may have been
-- carried out, is_creatable: since the database was emptied; was_seen: somebody loaded the
-- row; is_certain: a write was acknowledged; is_deletable: a delete may have been
-- carried out; is_deleted; attempts: of each name, the values that may be stored; total,
-- total_maybe: increments acknowledged, and of unknown outcome; is_passing.
local function story_of(stories, line)
  local of_model = stories[line.model]
  local story = of_model[line.tag]
  if not story then
    story = { attempts = {}, results = {}, total = 0, total_maybe = 0 }
    of_model[line.tag] = story
  end
  return story
end

local function tell_increment(story, line, is_sure, value)
  if not is_sure then
    story.total_maybe = story.total_maybe + line.by
    return
  end
  story.total = story.total + line.by
  if value and story.results[value] then
    fail("%s: two increments gave %d", line.tag, value)
  end
  if value then story.results[value] = true end
end

-- tell adds a write to its row's story. What had settled before the database was
-- emptied is gone; what was under way then may be there or not.
local function tell(stories, emptied, line, outcome)
  local story = story_of(stories, line)
  local is_creation = line.op == "create" or line.op == "upsert"
  local is_known = outcome and outcome.code == "ok"
  story.was_seen = story.was_seen or not is_creation
  if outcome and soak.is_refused(outcome.code) then return end
  story.was_creatable = story.was_creatable or is_creation
  if line.op == "delete" then
    story.is_deletable = true
    story.is_deleted = story.is_deleted or is_known
    return
  end
  if is_known and outcome.t < emptied.from then return end
  local is_sure = is_known and line.t > emptied.to
  story.is_creatable = story.is_creatable or is_creation
  story.is_certain = story.is_certain or is_sure
  story.is_passing = story.is_passing or line.ttl ~= nil
  story.id = line.id or outcome and outcome.id or story.id
  if line.op == "increment" then tell_increment(story, line, is_sure, outcome and outcome.value) end
  for name, value in pairs(line.set or {}) do
    local list = story.attempts[name] or {}
    story.attempts[name] = list
    table.insert(list, { value = value, from = line.t, is_sure = is_sure,
      to = is_known and outcome.t or math.huge })
  end
end

-- read_journal tells what stands in one; a line that is cut short by the end of
-- its host was never sent.
local function read_journal(path, stories, emptied)
  local open, missed = {}, {}
  for text in io.lines(path) do
    local ok, line = pcall(neap.json.decode, text)
    if not ok then break end
    if line.wrong then
      fail("%s: %s", path:match "[^/]+$", line.wrong)
    elseif line.missed then
      missed[#missed + 1] = line
    elseif line.reads then
      for name, n in pairs(line.reads) do add(count.calls, name, n) end
    elseif line.op then
      open[line.n] = line
      count.writes = count.writes + 1
    else
      local write = open[line.n]
      open[line.n] = nil
      count.settled = count.settled + 1
      add(count.calls, ("%s %s %s"):format(write.op, write.model, line.code))
      if write.op == "create" and write.model == "entries" and soak.is_refused(line.code) then
        fail("entry %s, which is like no other, was refused: %s", write.tag, line.code)
      end
      tell(stories, emptied, write, line)
    end
  end
  for _, line in pairs(open) do
    add(count.calls, ("%s %s unsettled"):format(line.op, line.model))
    tell(stories, emptied, line)
  end
  for _, line in ipairs(missed) do
    local story = stories.passing[line.missed]
    if story and story.is_certain then fail("passing %s: not found in time", line.missed) end
  end
end

-- what Redis holds ----------------------------------------------------------

-- stored returns the rows, raw, by tag.
local function stored(redis, model)
  local prefix, rows, list = "{" .. model.name .. "}:", {}, {}
  for key in redis:scan { match = prefix .. "*", count = 5000 } do list[key] = true end
  for key in pairs(list) do
    local row = redis:hgetall(key)
    local id = key:sub(#prefix + 1)
    if not row.tag then
      fail("%s: no tag", key)
    elseif rows[row.tag] then
      fail("%s: %s was created twice, as %s too", model.name, row.tag, rows[row.tag].id)
    else
      rows[row.tag] = { id = id, values = row }
    end
  end
  return rows
end

-- check_value: the value is one that was written, and no later one was acknowledged.
-- Own values are written one after the other.
local function check_value(tag, name, value, attempts)
  local found
  local text = value and tostring(value)
  for _, a in ipairs(attempts) do
    if tostring(a.value) == text then found = a end
  end
  if value and not found then
    return fail("%s: %s is %s, which was not written", tag, name, value)
  end
  for _, a in ipairs(attempts) do
    local before = found and (name == "last" and found.to or found.from) or -1
    if a.is_sure and a ~= found and a.from > before then
      return fail("%s: %s is %s, but %s was acknowledged later", tag, name, tostring(value),
        tostring(a.value))
    end
  end
end

local function check_row(tag, row, story)
  if not story or not story.is_creatable then
    return fail("%s (%s) is there, but nobody was told to have created it", tag, row.id)
  end
  if story.is_deleted then fail("%s (%s) is there, though it was deleted", tag, row.id) end
  if story.id and tostring(story.id) ~= row.id then
    fail("%s is %s, not %s", tag, row.id, tostring(story.id))
  end
  for name, value in pairs(row.values) do
    if (name == "last" or name:find "^own_") and not story.attempts[name] then
      fail("%s: %s is %s, which nobody wrote", tag, name, value)
    end
  end
  for name, attempts in pairs(story.attempts) do
    check_value(tag, name, row.values[name], attempts)
  end
  local total = tonumber(row.values.total or 0)
  if total < story.total or total > story.total + story.total_maybe then
    fail("%s: total is %d; %d was acknowledged, and perhaps %d more", tag, total, story.total,
      story.total_maybe)
  end
end

local function check_stories(redis, model, stories)
  local rows = stored(redis, model)
  local n = 0
  for tag, row in pairs(rows) do
    check_row(tag, row, stories[tag])
    n = n + 1
  end
  for tag, story in pairs(stories) do
    if story.was_seen and not story.was_creatable then
      fail("%s %s was there, though its creation was refused", model.name, tag)
    end
    if story.is_certain and not story.is_deletable and not story.is_passing and not rows[tag] then
      fail("%s %s (%s) was acknowledged, but is not there", model.name, tag, tostring(story.id))
    end
  end
  return n
end

-- check_model: the model's own verdict, and that of a check which shares no code with it.
local function check_model(model)
  local name = model.name
  for _, problem in ipairs(check(model)) do fail("%s: %s", name, problem) end
  if model.verify then
    local found = model:verify()
    for _, kind in ipairs { "ghosts", "missing", "uniques", "lost" } do
      if found[kind] ~= 0 then
        fail("%s: verify found %d %s: %s", name, found[kind], kind,
          table.concat(found.problems or {}, "; "))
      end
    end
  end
  local n = model:rows():count()
  if n ~= #model:rows():ids() then fail("%s: count and ids differ", name) end
  return n
end

-- await_sweep waits until the rows that end by themselves have all been removed.
local function await_sweep(world, model)
  local since, pattern = now(), "{" .. model.name .. "}:*"
  while #world.direct:keys(pattern) > 0 do
    if now() > since + settle_seconds then return fail("%s is never swept", model.name) end
    sleep(0.5)
  end
end

local function judge(world)
  local models, stories = world.models, {}
  if models.passing then await_sweep(world, models.passing) end
  for name in pairs(models) do stories[name] = {} end
  for _, path in ipairs(world.journals) do
    read_journal(path, stories, world.emptied or { from = -1, to = -1 })
  end
  for name, model in pairs(models) do
    local n = check_stories(world.direct, model, stories[name])
    local counted = check_model(model)
    if n ~= counted then
      fail("%s: %d rows are counted, %d are there", model.name, counted, n)
    end
    say("%s: %d rows in the end", model.name, counted)
  end
end

-- the whole -----------------------------------------------------------------

local function listed(t)
  local names, out = {}, {}
  for name in pairs(t) do table.insert(names, name) end
  table.sort(names)
  for i, name in ipairs(names) do out[i] = ("  %8d  %s"):format(t[name], name) end
  return table.concat(out, "\n")
end

local function run(world)
  for i = 1, soak.hosts do
    world.hosts[i] = { number = i, life = 0, proxy = proxies.start(world.server.port) }
    start_host(world, world.hosts[i])
  end
  local reports = neap.every(10, function()
    say("%6.1f  %d events, %d wrong so far", now() - started, count.happened, failures)
  end)
  sleep(1)
  harm(world)
  for _, host in ipairs(world.hosts) do end_host(host) end
  reports:stop()
  for _, host in ipairs(world.hosts) do host.proxy:stop() end
  sleep(1) -- what lies unread in the server's sockets is carried out
end

local function main(world)
  neap.log.level "error"
  local args = { "--appendonly", "yes", "--appendfsync", "always" }
  world.server = servers.start { args = args }
  world.direct = neap.redis { url = world.server.url, timeout = 5 }
  world.old = soak.define_old(world.direct)
  world.models = soak.define(world.direct)
  for _, model in pairs(world.models) do model:sync() end
  run(world)
  judge(world)
  say("calls, by how they ended:\n%s\nevents:\n%s", listed(count.calls), listed(count.events))
end

local world = { dir = process.temp_dir(), hosts = {}, journals = {}, stop_at = now() + seconds }
say("soak: %g s, seed %d", seconds, seed)
local ok, err = xpcall(main, debug.traceback, world)
if not ok then fail("%s", tostring(err)) end
for _, host in ipairs(world.hosts) do host.child:kill() end
if world.server then world.server:stop() end
if failures == 0 then
  process.remove(world.dir)
else
  say("the journals are in %s", world.dir)
end
say("soak: %d writes, %d settled, %d wrong", count.writes, count.settled, failures)
neap.stop(failures == 0 and 0 or 1)
