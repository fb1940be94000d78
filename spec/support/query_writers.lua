-- query_writers: queries while tasks write, some of them through another client. No row that
-- nobody touches may be missed or stand out of order, none may come twice, or without
-- matching by its own values, as it was fetched.
--
--   writers.run { seed = 7, writers = 8, seconds = 60, say = say }    -- true if all was well
--
-- In the end, when nobody writes any more, queries are compared with the oracle again.
local neap = require "neap"
local check = require "support.query_check"
local oracle = require "support.query_oracle"
local random = require "support.query_random"
local servers = require "support.redis"
local source = require "support.query_source"
local features, now = random.features, neap.monotonic
local M = {}
local readers, world_seconds, most_rows, quiet_queries = 4, 6, 80, 60

-- wrong raises what was found.
local function wrong(fmt, ...) error({ difference = fmt:format(...) }, 0) end

-- writers -----------------------------------------------------------------------

-- share_values lets a writer's rows have the values that queries ask for.
local function share_values(g, m, from, of)
  for name, f in pairs(of.fields) do
    local mine = m.fields[name]
    g.pools[mine] = from.pools[f]
    if f.element then g.pools[mine.element] = from.pools[f.element] end
  end
end

-- write creates, saves, increments and deletes until the world stops. Each writer has rows
-- of its own.
local function write(state, m, seed)
  local g, mirror = random.new(seed), { rows = {}, objects = {} }
  g.others = state.g.others
  g:learn(m, state.world.schema.options.indexes)
  share_values(g, m, state.g, state.world.model)
  while now() < state.stop_at do
    g:write(m, mirror, 1)
    while #mirror.objects > most_rows do g:delete(m, mirror) end
    state.writes = state.writes + 1
  end
  return mirror
end

-- readers -----------------------------------------------------------------------

-- check_rows looks at rows as they came: they match, and none is there twice.
local function check_rows(a, how, list)
  local has, keys = {}, {}
  for i = 1, #list do
    local row = list[i]
    if type(row) ~= "table" then wrong("%s: row %d is %s", how, i, tostring(row)) end
    local key = row:primary_key()
    if has[key] then wrong("%s: row %s is there twice", how, source.literal(key)) end
    has[key], keys[i] = true, key
    if not oracle.matches(a.q, row, a.related) then
      wrong("%s: row %s does not match: %s", how, source.literal(key),
        source.literal(row:to_table()))
    end
  end
  return keys
end

-- check_kept compares, of the keys that came, those of rows that nobody touches.
local function check_kept(a, how, keys)
  local n = 0
  for _, key in ipairs(keys) do
    if a.is_kept[key] then
      n = n + 1
      if a.kept[n] ~= key then
        wrong("%s: untouched row %s is there, at its place %s is expected", how,
          source.literal(key), source.literal(a.kept[n]))
      end
    end
  end
  if n < #a.kept then
    wrong("%s: untouched row %s is missed", how, source.literal(a.kept[n + 1]))
  end
end

local ways = {}

function ways.all(a) check_kept(a, "all", check_rows(a, "all", a.query:all())) end

function ways.each(a)
  local list = {}
  for row in a.query:each() do list[#list + 1] = row end
  check_kept(a, "each", check_rows(a, "each", list))
end

function ways.window(a)
  local list = source.query(a.q, a.model):all()
  check_rows(a, "with limit and offset", list)
  if a.q.limit and #list > a.q.limit then wrong("%d rows, limit %d", #list, a.q.limit) end
end

function ways.first(a)
  local row = a.query:first()
  check_rows(a, "first", { row })
  if not row and #a.kept > 0 then wrong("first: nil, but there are rows") end
end

function ways.count(a)
  local n = a.query:count()
  if n < #a.kept then wrong("count: %d, but %d untouched rows match", n, #a.kept) end
  if #a.kept > 0 and not a.query:exists() then wrong("exists: false, but there are rows") end
end

function ways.ids(a)
  local ids, has = a.query:ids(), {}
  for i, id in ipairs(ids) do
    ids[i] = tostring(id)
    if has[ids[i]] then wrong("ids: %s is there twice", source.literal(ids[i])) end
    has[ids[i]] = true
  end
  check_kept(a, "ids", ids)
end

-- Rows that move may be on two pages.
function ways.page(a)
  if not features.page then return end
  local keys, cursor = {}, nil
  local size = math.max(a.q.page_size, 10)
  repeat
    local list
    list, cursor = a.query:page { size = size, after = cursor }
    for _, key in ipairs(check_rows(a, "page", list)) do keys[#keys + 1] = key end
  until not cursor
  check_kept(a, "page", keys)
end

local names = {}
for name in pairs(ways) do names[#names + 1] = name end
table.sort(names)

local function text_of(err)
  return type(err) == "table" and err.difference or "raised: " .. tostring(err)
end

-- ask checks one query in every way; it may be refused for want of an index.
local function ask(state, q)
  local w = state.world
  local whole = { wheres = q.wheres, orders = q.orders, is_scan = q.is_scan }
  local ok, query = pcall(source.query, whole, w.model)
  if not ok and not q.is_sure and neap.is_error(query, "model.unindexed") then return end
  local a = { q = q, model = w.model, query = query, related = w.related, kept = {},
    is_kept = state.is_kept }
  local how = "where"
  if ok then
    ok, query = pcall(function()
      for i, place in ipairs(oracle.all(q, w.places, w.related)) do a.kept[i] = place.id end
      for _, name in ipairs(names) do
        how = name
        ways[name](a)
      end
    end)
  end
  state.queries = state.queries + 1
  if not ok then
    state.failures = state.failures + 1
    state.say("%s\n-- %s: %s", source.query_text(q), how, text_of(query))
  end
end

local function read(state)
  while now() < state.stop_at and state.failures < 5 do
    ask(state, state.g:query(state.world))
  end
end

-- worlds ------------------------------------------------------------------------

-- check_quiet compares with the oracle when all writers have ended.
local function check_quiet(state, mirrors)
  local w = state.world
  for _, mirror in ipairs(mirrors) do
    for key, row in pairs(mirror.rows) do w.mirror.rows[key] = row end
  end
  random.note(w)
  for _ = 1, quiet_queries do
    local q = state.g:query(w)
    local text, how = check.difference(w, q)
    if text then
      state.failures = state.failures + 1
      state.say("%s\n-- when nobody writes: %s: %s", source.query_text(q), how, text)
    end
  end
end

-- run_world returns the state after some seconds of writing and reading.
local function run_world(options, clients, number)
  local seed = options.seed * 1009 + number
  local state = { g = random.new(seed), say = options.say, queries = 0, writes = 0,
    failures = 0, is_kept = {} }
  local world = state.g:world("busy" .. number, { writes = 300, is_made = true,
    redis = clients[1] })
  state.world, world.is_changing = world, true
  for _, place in ipairs(world.places) do state.is_kept[place.id] = true end
  state.stop_at = now() + world_seconds
  local second = source.define(world.schema, { Other = world.other.model, redis = clients[2] })
  local tasks = {}
  for i = 1, options.writers do
    local m = i % 2 == 0 and second or world.model
    tasks[i] = function() return write(state, m, seed * 100 + i) end
  end
  for i = 1, readers do
    tasks[options.writers + i] = function() return read(state) end
  end
  local ended = neap.all(tasks)
  local mirrors = {}
  for i = 1, options.writers do mirrors[i] = ended[i] end
  world.is_changing = false
  check_quiet(state, mirrors)
  world.model:drop()
  world.other.model:drop()
  return state
end

--- run(options): worlds one after the other, for options.seconds.
function M.run(options)
  local say, started, number, sum = options.say, now(), 0, { queries = 0, writes = 0, failures = 0 }
  say("fuzz: %d writers, %g s, seed %d", options.writers, options.seconds, options.seed)
  local server = servers.start()
  local clients = { neap.redis { url = server.url }, neap.redis { url = server.url } }
  while now() < started + options.seconds and sum.failures == 0 do
    number = number + 1
    local state = run_world(options, clients, number)
    for name in pairs(sum) do sum[name] = sum[name] + state[name] end
    if state.failures > 0 then
      say("-- of model %d:\nlocal Thing = %s", number, source.define_text(state.world.schema))
    end
    say("%6.1f  %d models, %d queries, %d writes, %d wrong", now() - started, number, sum.queries,
      sum.writes, sum.failures)
  end
  for _, client in ipairs(clients) do client:close() end
  server:stop()
  return sum.failures == 0
end

return M
