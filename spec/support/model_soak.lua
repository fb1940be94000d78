-- model_soak: a host of spec/soak_model.lua. Its tasks write to models that others
-- write to as well, and it notes in a journal what it was told.
--
--   soak.define(redis)        -- the models, by name
--   soak.host(settings)       -- the tasks, until settings.stop_at
--
-- A journal is lines of JSON. A write is noted before it is sent, { n, t, op, model, id,
-- tag, set, by }, and when it has settled, { n, t, code, id, value }. The tag names one
-- creation of a row, so that rows with the same key are told apart; `set` holds values
-- that nobody else writes. Besides there are { wrong = text } and { reads = counts }.
local neap = require "neap"
local field, null = neap.field, neap.null
local now, sleep = neap.monotonic, neap.sleep
local M = { hosts = 8 }
local tasks, keys, raced, hot, shared, codes, entries = 40, 1000, 20, 3, 40, 300, 100
local words = { "", "a", "b:c", "d=e", "null", "\255\0", ("long"):rep(40) }
local ttl_fewest, ttl_most, clock_slack = 1, 4, 0.25 -- seconds

--- define(redis): the models, those with what exists.
function M.define(redis)
  local fields = {
    id = field.string { primary_key = true },
    tag = field.string { required = true },
    last = field.string(),
    word = field.string { index = true },
    color = field.enum { "red", "green", "blue", index = true },
    is_on = field.boolean { index = true },
    size = field.integer { min = -10, max = 70000, index = true, sort = true },
    score = field.number { sort = true },
    code = field.string { unique = true },
    total = field.integer { min = 0, max = 2 ^ 40, index = true, sort = true, default = 0 },
  }
  if field.list then fields.tags = field.list(field.string) { index = true } end
  for i = 1, M.hosts do fields["own_" .. i] = field.integer() end
  local models = {
    rows = neap.model.define("soak_row", fields, { redis = redis }),
    entries = neap.model.define("soak_entry", {
      id = field.integer { primary_key = true, auto = true },
      tag = field.string { required = true, unique = true },
      word = field.string { index = true },
    }, { redis = redis }),
  }
  local ok, passing = pcall(neap.model.define, "soak_passing", {
    id = field.string { primary_key = true },
    tag = field.string { required = true },
    code = field.string { unique = true },
    word = field.string { index = true },
  }, { redis = redis, ttl = true })
  if ok then models.passing = passing end
  return models
end

--- define_old(redis): the rows' model as it was, which may not write any more.
function M.define_old(redis)
  return neap.model.define("soak_row", {
    id = field.string { primary_key = true },
    tag = field.string { required = true },
    word = field.string(),
  }, { redis = redis })
end

local Host = {}
Host.__index = Host

function Host:note(line)
  self.journal:write(neap.json.encode(line), "\n")
  self.journal:flush()
end

function Host:wrong(fmt, ...) self:note { wrong = fmt:format(...) } end

-- random_from returns a generator of its own: random(n) is a number from 1 to n.
function M.random_from(start)
  local x = (start * 48271 + 11) % 2147483646 + 1
  return function(n)
    x = x * 16807 % 2147483647
    return x % n + 1
  end
end

-- allowed: how a call may fail. Where the value is true, nothing was written.
local allowed = { ["model.exists"] = true, ["model.unique"] = true, ["model.gone"] = true,
  ["redis.connect"] = false, ["redis.unknown_outcome"] = false, ["redis.timeout"] = false,
  ["redis.loading"] = false, ["redis.pool_timeout"] = false }

--- is_refused(code): such a write was not carried out, and never will be.
function M.is_refused(code) return allowed[code] == true end

function Host:code_of(what, err)
  local code = neap.is_error(err) and err.code or "no error object"
  if allowed[code] == nil then self:wrong("%s raised %s: %s", what, code, tostring(err)) end
  return code
end

-- write makes a call that writes, noted before and after. id_of and value_of take
-- what is worth noting from its result.
function Host:write(line, fn, ...)
  self.serial = self.serial + 1
  local n = self.serial
  line.n, line.t = n, now()
  self:note(line)
  local ok, v = pcall(fn, ...)
  local outcome = { n = n, t = now(), code = ok and "ok" or self:code_of(line.op, v) }
  if ok and line.op == "create" then outcome.id = v.id end
  if ok and line.op == "increment" and type(v) == "number" then outcome.value = v end
  self:note(outcome)
  return ok and v
end

-- read makes a call that only reads: true and its result, or false.
function Host:read(name, fn, ...)
  local ok, v = pcall(fn, ...)
  local key = name .. " " .. (ok and "ok" or self:code_of(name, v))
  self.reads[key] = (self.reads[key] or 0) + 1
  return ok, v
end

-- next_value returns a number above all that this host, and the same one before
-- it was killed, has written.
function Host:next_value()
  self.values = self.values + 1
  return self.life * 10000000 + self.values
end

-- stamp sets the values that tell of this write, and returns them.
function Host:stamp(attributes)
  local v = self:next_value()
  local set = { last = self.number .. "." .. v, [self.own] = v }
  for name, value in pairs(set) do attributes[name] = value end
  return set
end

function Host:chance(percent) return self.random(100) <= percent end

-- change sets some of what all hosts write.
function Host:change(row)
  local random = self.random
  if self:chance(50) then row.word = words[random(#words)] end
  if self:chance(40) then row.color = ({ "red", "green", "blue" })[random(3)] end
  if self:chance(30) then row.is_on = random(2) == 1 end
  if self:chance(40) then row.size = random(70011) - 11 end
  if self:chance(40) then row.score = random(100000) / 7 end
  if self:chance(20) then row.code = "code " .. random(codes) end
  if field.list and self:chance(30) then
    row.tags = { words[random(#words)], words[random(#words)], "tag" .. random(5) }
  end
  for _, name in ipairs { "word", "color", "is_on", "size", "score", "code", "tags" } do
    if row[name] ~= nil and self:chance(6) then row[name] = nil end
  end
end

function Host:new_tag()
  self.values = self.values + 1
  return ("%d.%d.%d"):format(self.number, self.life, self.values)
end

-- alone runs fn unless another task of this host is at the row: own values are
-- written in order.
function Host:alone(id, fn)
  if self.busy[id] then return end
  self.busy[id] = true
  fn()
  self.busy[id] = nil
end

-- what the tasks do ---------------------------------------------------------

local actions = {}

local function create(host, id)
  local attributes = { id = id, tag = host:new_tag() }
  host:change(attributes)
  local set = host:stamp(attributes)
  host:write({ op = "create", model = "rows", id = id, tag = attributes.tag, set = set },
    host.rows.create, host.rows, attributes)
end

-- key returns a random one, often one of the few that many race for.
local function key(host) return "row " .. host.random(host:chance(50) and raced or keys) end

-- with_row calls fn with the row of a random key, or creates it. Others may write
-- to it between.
local function with_row(host, fn)
  local id = key(host)
  host:alone(id, function()
    local ok, row = host:read("load", host.rows.load, host.rows, id)
    if not ok then return end
    if not row then return create(host, id) end
    if row.id ~= id then host:wrong("load %s gave %s", id, tostring(row.id)) end
    if host:chance(30) then sleep(host.random(40) / 1000) end
    fn(row)
  end)
end

function actions.create(host) create(host, key(host)) end

function actions.save(host)
  with_row(host, function(row)
    local tag = row.tag
    host:change(row)
    local set = host:stamp(row)
    local saved = host:write({ op = "save", model = "rows", id = row.id, tag = tag, set = set },
      row.save, row)
    if not saved or not host:chance(30) then return end
    local ok, again = host:read("load", host.rows.load, host.rows, row.id)
    if ok and again and again.tag == tag and again[host.own] ~= set[host.own] then
      host:wrong("row %s: %s is %s, saved was %d", row.id, host.own, tostring(again[host.own]),
        set[host.own])
    end
  end)
end
actions.save_too = actions.save

function actions.delete(host)
  with_row(host, function(row)
    host:write({ op = "delete", model = "rows", id = row.id, tag = row.tag }, row.delete, row)
  end)
end

-- A hot row is incremented by all and never deleted.
function actions.increment(host)
  if not host.rows.increment then return end
  local id, by = "hot " .. host.random(hot), host.random(5)
  local line = { op = "increment", model = "rows", id = id, tag = id, by = by }
  local ok, row = host:read("load", host.rows.load, host.rows, id)
  if ok and row and host:chance(50) then
    host:write(line, row.increment, row, "total", by)
  elseif ok and row then
    host:write(line, host.rows.increment, host.rows, id, { total = by })
  elseif ok then
    host:write({ op = "create", model = "rows", id = id, tag = id }, host.rows.create, host.rows,
      { id = id, tag = id })
  end
end

function actions.increment_one(host)
  if not host.rows.increment then return end
  with_row(host, function(row)
    local by = host.random(5)
    host:write({ op = "increment", model = "rows", id = row.id, tag = row.tag, by = by },
      row.increment, row, "total", by)
  end)
end

-- What is upserted is never deleted: its key is its tag.
function actions.upsert(host)
  if not host.rows.upsert then return end
  local id = "shared " .. host.random(shared)
  host:alone(id, function()
    local attributes = { id = id, tag = id }
    host:change(attributes)
    local set = host:stamp(attributes)
    host:write({ op = "upsert", model = "rows", id = id, tag = id, set = set },
      host.rows.upsert, host.rows, attributes)
  end)
end

-- entry creates one with a key from the counter, or deletes one of those.
function actions.entry(host)
  local model, tag = host.models.entries, host:new_tag()
  if #host.entries < entries and host:chance(60) then
    local row = host:write({ op = "create", model = "entries", tag = tag }, model.create, model,
      { tag = tag, word = words[host.random(#words)] })
    if row then table.insert(host.entries, row) end
  elseif #host.entries > 0 then
    local row = table.remove(host.entries, host.random(#host.entries))
    host:write({ op = "delete", model = "entries", id = row.id, tag = row.tag }, row.delete, row)
  end
end

-- passing creates a row that ends by itself, and looks for it before and after.
function actions.passing(host)
  local model = host.models.passing
  if not model then return end
  local tag, ttl = host:new_tag(), ttl_fewest + host.random(ttl_most - ttl_fewest)
  local id = "row " .. host.random(200)
  local before = now()
  local row = host:write({ op = "create", model = "passing", id = id, tag = tag, ttl = ttl },
    model.create, model, { id = id, tag = tag, word = words[host.random(#words)],
      code = "code " .. host.random(100) }, { ttl = ttl })
  if not row then return end
  local after = now()
  sleep(host.random(ttl * 2000) / 1000)
  local asked = now()
  local ok, found = host:read("load passing", model.load, model, id)
  local is_found = found and found.tag == tag
  if ok and is_found and asked > after + ttl + clock_slack then
    host:wrong("passing %s: found %.2f s after its end", id, asked - after - ttl)
  elseif ok and not is_found and now() < before + ttl - clock_slack then
    host:note { missed = tag, t = asked }
  end
end

local asked = {
  word = function(host) return words[host.random(#words)] end,
  color = function() return "green" end,
  is_on = function() return true end,
  code = function(host) return "code " .. host.random(codes) end,
}

function actions.query(host)
  local name = ({ "word", "color", "is_on", "code" })[host.random(4)]
  local value = asked[name](host)
  local query = host.rows:where(name, value):limit(20)
  if host:chance(50) then query = query:order_by("size", host:chance(50) and "desc" or "asc") end
  local ok, list = host:read("query", query.all, query)
  for _, row in ipairs(ok and list or {}) do
    if row == null or row[name] ~= value then
      host:wrong("where %s = %s gave %s", name, tostring(value), tostring(row.id))
    end
  end
end

function actions.count(host)
  host:read("count", function() return host.rows:where { is_on = true }:count() end)
end

local names = {}
for name in pairs(actions) do table.insert(names, name) end
table.sort(names)

local function work(host)
  sleep(host.random(500) / 1000)
  while now() < host.stop_at do
    actions[names[host.random(#names)]](host)
    sleep(host.random(600) / 1000)
  end
end

--- host(settings): works until settings.stop_at; settings: number, life (counts how
-- often it was started), seed, stop_at (in neap.monotonic), url, journal (a path).
function M.host(settings)
  neap.log.level "error"
  local redis = neap.redis { url = settings.url, timeout = 1, connect_timeout = 1 }
  local models = M.define(redis)
  local host = setmetatable({ number = settings.number, life = settings.life,
    own = "own_" .. settings.number, stop_at = settings.stop_at, models = models,
    rows = models.rows, journal = assert(io.open(settings.journal, "w")), serial = 0, values = 0,
    busy = {}, entries = {}, reads = {}, random = M.random_from(settings.seed) }, Host)
  local function note_reads()
    host:note { reads = host.reads }
    host.reads = {}
  end
  local ticker = neap.every(1, note_reads)
  local list = {}
  for i = 1, tasks do list[i] = neap.spawn(work, host) end
  for _, task in ipairs(list) do task:join() end
  ticker:stop()
  note_reads()
  host.journal:close()
  redis:close()
end

return M
