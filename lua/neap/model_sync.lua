-- model_sync: from the stored definition to the one of the code. Internal; see
-- Model:sync and Model:drop.
--
-- The definition is changed first: from then on every writer keeps the new indexes
-- true, or is refused, as its definition is another one. Then the rows that were there
-- are entered, each in one step that checks its version. An index that is built anew has
-- keys of its own; those of the old one are removed in the end.
local core = require "neap.core.model"
local FAIL = require("neap.core.task").FAIL
local errors = require "neap.core.error"
local model_error = require "neap.model_error"
local fail = model_error.fail
local M = {}

local PORTION = 1024 -- ordinals
local PAGE = 1000    -- keys that one SCAN looks at
local DROPPING = "dropping" -- the generation of a model that is being dropped

-- replace changes the stored definition, unless somebody else did meanwhile.
local replace_text = [[
if redis.call("HGET", KEYS[1], "gen") ~= ARGV[1] then return 0 end
redis.call("SET", KEYS[2], ARGV[3])
redis.call("HSET", KEYS[1], "gen", ARGV[2])
redis.call("HDEL", KEYS[1], "built")
if ARGV[4] ~= "" then
  redis.call("HSET", KEYS[1], "dropped", (redis.call("HGET", KEYS[1], "dropped") or "") .. ARGV[4])
end
return 1
]]

-- note_text notes how far the build is, if the definition is still that one.
local note_text = [[
if redis.call("HGET", KEYS[1], "gen") ~= ARGV[1] then return 0 end
redis.call("HSET", KEYS[1], "built", ARGV[2])
return 1
]]

local forget_text = [[
if redis.call("HGET", KEYS[1], "dropped") == ARGV[1] then redis.call("HDEL", KEYS[1], "dropped") end
]]

local scripts = setmetatable({}, { __mode = "k" }) -- by client

local function script(model, name, text)
  local own = scripts[model.redis] or {}
  scripts[model.redis] = own
  own[name] = own[name] or model.redis:lua(text)
  return own[name]
end

--- adopt(model): takes over which builds of its indexes the stored definition has; false
-- if that is another one.
function M.adopt(model)
  local stored = model.redis:call("GET", core.keys(model.core).schema)
  return stored ~= nil and core.adopt(model.core, stored)
end

--- has_rows(model): whether any row is stored, under whatever definition.
function M.has_rows(model)
  return model.redis:scan({ match = core.keys(model.core).rows, count = PAGE })() ~= nil
end

-- unlink_text: KEYS: the meta hash, keys that go as long as its generation is ARGV[1].
local unlink_text = [[
if redis.call("HGET", KEYS[1], "gen") ~= ARGV[1] then return 0 end
for i = 2, #KEYS do redis.call("UNLINK", KEYS[i]) end
return 1
]]

-- unlink_matching deletes the keys that match and that fn agrees to; given a generation,
-- as long as the stored definition is of that one.
local function unlink_matching(model, pattern, generation, fn, done)
  local keys = core.keys(model.core)
  local batch = {}
  local function flush()
    if #batch > 0 and not generation then
      model.redis:call("UNLINK", batch)
    elseif #batch > 0 then
      script(model, "unlink", unlink_text)({ keys.meta, unpack(batch) }, generation)
    end
    if done then done(#batch) end
    batch = {}
  end
  for key in model.redis:scan { match = pattern, count = PAGE } do
    if not fn or fn(key) then batch[#batch + 1] = key end
    if #batch == 500 then flush() end
  end
  flush()
end

--- drop(model, options): Model:drop.
function M.drop(model, options)
  local progress = options and options.progress
  local keys, count, total = core.keys(model.core), 0, 0
  if progress then
    total = tonumber(model.redis:call("HGET", keys.meta, "top")) or 0
  end
  local function done(n)
    count = count + n
    if progress then progress(count, math.max(total, count), "keys") end
  end
  -- nobody has that definition, so nobody writes; the next sync goes on if this is interrupted
  model.redis:multi(function(tx)
    tx:call("DEL", keys.meta, keys.schema)
    tx:call("HSET", keys.meta, "gen", DROPPING)
  end)
  unlink_matching(model, keys.rows, DROPPING, nil, done)
  unlink_matching(model, keys.rest, DROPPING, function(key) return key ~= keys.meta end, done)
  script(model, "unlink", unlink_text)({ keys.meta, keys.meta }, DROPPING)
end

-- unlink_dropped removes what is left of indexes that are of no use any more.
local function unlink_dropped(model)
  local keys = core.keys(model.core)
  local dropped = model.redis:call("HGET", keys.meta, "dropped")
  if not dropped then return end
  for name, build in dropped:gmatch "(%S+) (%d+)\n" do
    unlink_matching(model, core.match_build(model.core, name), nil, function(key)
      return core.is_of_build(model.core, name, tonumber(build), key)
    end)
  end
  script(model, "forget", forget_text)({ keys.meta }, dropped)
end

local function known_id(model, shadow)
  return core.row(model.core, shadow):primary_key()
end

-- check_row raises what keeps a row from being entered into the new indexes.
local function check_row(model, shadow, building)
  for _, name in ipairs(building) do
    local f = model.fields[name]
    local value = f and core.stored(model.core, shadow, name)
    local wrong
    if f and not core.is_sound(model.core, shadow, name) then
      wrong = "what is stored is no " .. f.type
    elseif f and value == nil and f.required then
      wrong = "it is required, and has no value"
    elseif f and type(value) == "number" then
      if f.min and value < f.min then wrong = ("it is %.17g, below the minimum"):format(value) end
      if f.max and value > f.max then wrong = ("it is %.17g, above the maximum"):format(value) end
    end
    if wrong then
      fail("model.schema_changed", "model %s: its index of %s cannot be built: row %s: %s",
        model.name, name, known_id(model, shadow), wrong)
    end
  end
end

local function enter(model, ordinals, building)
  local ids, e = core.ids(model.core, ordinals)
  if ids == FAIL then error(e, 0) end
  local known = {}
  for i = 1, #ordinals do
    if ids[i] then known[#known + 1] = ids[i] end
  end
  if #known == 0 then return end
  local shadows, err = core.load_shadows(model.core, known)
  if shadows == FAIL then error(err, 0) end
  local list = {}
  for i = 1, #known do
    if shadows[i] then
      check_row(model, shadows[i], building)
      list[#list + 1] = shadows[i]
    end
  end
  if #list == 0 then return end
  local done, failures = core.mend(model.core, list, "build")
  if done == FAIL then error(failures, 0) end
  for i, refusal in pairs(failures or {}) do
    if not errors.is_error(refusal, "model.gone") then
      refusal.message = ("%s (row %s)"):format(refusal.message, known_id(model, list[i]))
      error(refusal, 0)
    end
  end
end

-- build enters the rows into the indexes under construction, from where it was
-- interrupted; false if the stored definition is of another generation by now.
local function build(model, building, generation, progress)
  local keys, names = core.keys(model.core), table.concat(building, ", ")
  local meta = model.redis:call("HMGET", keys.meta, "gen", "top", "built")
  if meta[1] ~= generation then return false end
  local top, at = tonumber(meta[2] or 0) or 0, tonumber(meta[3] or 0) or 0
  while at < top do
    local segment, offset = math.floor(at / 65536), at % 65536
    local bytes = model.redis:call("GETRANGE", keys.live .. segment, offset / 8,
      (offset + PORTION) / 8 - 1)
    local ordinals = core.bits(bytes, at)
    if #ordinals > 0 then enter(model, ordinals, building) end
    at = at + PORTION
    if script(model, "note", note_text)({ keys.meta }, generation, at) == 0 then return false end
    if progress then progress(math.min(at, top), top, names) end
  end
  return true
end

-- install stores the definition where there is none.
local function install(model)
  local keys = core.keys(model.core)
  local text, generation = core.schema(model.core)
  model.redis:multi(function(tx)
    tx:call("HSETNX", keys.meta, "gen", generation)
    tx:call("SETNX", keys.schema, text)
  end)
end

-- switch replaces the stored definition of that generation; false if it is another.
local function switch(model, generation, dropped)
  local keys = core.keys(model.core)
  local text, own = core.schema(model.core)
  return script(model, "replace", replace_text)({ keys.meta, keys.schema }, generation, own, text,
    dropped) == 1
end

-- finish builds what is under construction.
local function finish(model, generation, progress)
  local building = core.building(model.core)
  if not build(model, building, generation, progress) then return false end
  core.complete(model.core)
  return switch(model, generation, "") and building
end

-- step does one thing; returns what sync returns, or nil if there is more to do.
local function step(model, progress, is_changed)
  local keys = core.keys(model.core)
  local generation = model.redis:call("HGET", keys.meta, "gen")
  local stored = model.redis:call("GET", keys.schema)
  if generation == DROPPING then
    M.drop(model)
    return nil
  end
  if not generation and model.redis:call("EXISTS", keys.live .. "0") == 1 then
    fail("model.damaged", "model %s: its rows are there, but not the keys that say how they are "
      .. "stored; verify { repair = true } mends that", model.name)
  end
  if not generation or not stored then
    if is_changed then model.redis:call("DEL", keys.meta) end
    install(model)
    return is_changed and "updated" or "created", {}
  end
  if core.adopt(model.core, stored) then
    if #core.building(model.core) > 0 then
      local built = finish(model, generation, progress)
      if not built then return nil end
      unlink_dropped(model)
      return "updated", built
    end
    unlink_dropped(model)
    if stored == core.schema(model.core) then return is_changed and "updated" or "unchanged", {} end
    if switch(model, generation, "") then return "updated", {} end
    return nil
  end
  local count, dropped = core.follow(model.core, stored)
  if not count then
    if M.has_rows(model) then fail("model.schema_changed", "%s", dropped) end
    M.drop(model) -- what is left of the columns may be of another kind
    return nil
  end
  switch(model, generation, dropped)
  return nil
end

--- sync(model, options): Model:sync.
function M.sync(model, options)
  if options ~= nil and type(options) ~= "table" then
    error("sync: a table of options expected, got " .. type(options), 3)
  end
  local is_changed = false
  for _ = 1, 100 do
    local status, built = step(model, options and options.progress, is_changed)
    if status then return status, built end
    is_changed = true
  end
  fail("model.schema_changed", "model %s: others change its definition all the time", model.name)
end

return M
