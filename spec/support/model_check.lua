-- model_check: compares all that Redis holds of a model with its rows, key by
-- key, as redis-cli would see them. It shares no code with what wrote them.
--
--   local check = require "support.model_check"
--   assert.same({}, check(User))      -- what is wrong, at most 20 lines
local bit = require "bit"
local ffi = require "ffi"
local SEGMENT, SMALL_SET, VALUE_KEY = 65536, 512, 64

local function kind_of(f)
  local packs = f.type == "integer" and f.min and f.max
  local kind = {}
  if f.index and (f.type == "enum" or f.type == "boolean") then
    kind.values = "bitmap"
  elseif f.index and (f.type == "string" or f.type == "uuid") then
    kind.values = "set"
  elseif f.index and packs then
    local most = f.max - f.min + 1
    kind.width = most < 2 ^ 8 and 1 or most < 2 ^ 16 and 2 or most < 2 ^ 32 and 4 or 8
  end
  kind.zset = f.sort or (f.index and not kind.values and not kind.width)
  return kind
end

-- bits_of returns the set of ordinals in a bitmap.
local function bits_of(text, segment)
  local set, base = {}, segment * SEGMENT
  for i in text:gmatch("()[^%z]") do
    local byte = text:byte(i)
    for b = 0, 7 do
      if bit.band(byte, bit.rshift(128, b)) ~= 0 then set[base + (i - 1) * 8 + b] = true end
    end
  end
  return set
end

local function big_endian(v, width)
  local list = {}
  for i = width, 1, -1 do
    list[i] = string.char(tonumber(v % 256))
    v = v / 256
  end
  return table.concat(list)
end

local function packed_number(text, min, width)
  local v = ffi.cast("int64_t", tonumber(text)) - ffi.cast("int64_t", min) + 1
  return big_endian(ffi.cast("uint64_t", v), width)
end

local function id_bytes(f, id)
  if f.type == "uuid" then
    return (id:gsub("-", ""):gsub("..", function(two) return string.char(tonumber(two, 16)) end))
  end
  return big_endian(ffi.cast("uint64_t", ffi.cast("int64_t", tonumber(id))), 8)
end

-- readers, by what TYPE says: one command each
local readers = { string = "GET", hash = "HGETALL", set = "SMEMBERS", zset = "ZRANGE" }

-- snapshot reads every key: name -> { type, value }.
local function snapshot(redis, name)
  local keys, all = {}, {}
  for key in redis:scan { match = "{" .. name .. "}*", count = 5000 } do
    if not all[key] then
      all[key] = {}
      keys[#keys + 1] = key
    end
  end
  for from = 1, #keys, 5000 do
    local last = math.min(from + 4999, #keys)
    local types = redis:pipeline(function(p)
      for i = from, last do p:call("TYPE", keys[i]) end
    end)
    local values = redis:pipeline(function(p)
      for i = from, last do
        local kind = types[i - from + 1]
        if kind == "zset" then
          p:call("ZRANGE", keys[i], 0, -1, "WITHSCORES")
        else
          p:call(readers[kind] or "TYPE", keys[i])
        end
      end
    end)
    for i = from, last do
      all[keys[i]] = { type = types[i - from + 1], value = values[i - from + 1] }
    end
  end
  return all
end

local function to_map(list)
  local map = {}
  if #list == 0 then return list end
  for i = 1, #list, 2 do map[list[i]] = list[i + 1] end
  return map
end

local Check = {}
Check.__index = Check

function Check:wrong(fmt, ...)
  if #self.problems < 20 then
    self.problems[#self.problems + 1] = (fmt:format(...):gsub("[^\32-\126]", "."))
  end
end

-- take returns a key's value and notes that it was looked at.
function Check:take(key, kind)
  local have = self.keys["{" .. self.model.name .. "}/" .. key]
  if not have then return nil end
  have.seen = true
  if have.type ~= kind then
    self:wrong("%s is a %s, a %s is expected", key, have.type, kind)
    return nil
  end
  return have.value
end

function Check:same_set(key, have, want)
  for n in pairs(have) do
    if not want[n] then self:wrong("%s has %s, which is no row of it", key, tostring(n)) end
  end
  for n in pairs(want) do
    if not have[n] then self:wrong("%s lacks %s", key, tostring(n)) end
  end
end

function Check:read_rows()
  local prefix = "{" .. self.model.name .. "}:"
  self.rows, self.top = {}, 0
  for key, have in pairs(self.keys) do
    if key:sub(1, #prefix) == prefix then
      have.seen = true
      local id = key:sub(#prefix + 1)
      local row = have.type == "hash" and to_map(have.value) or {}
      local n = tonumber(row._n)
      if not n then
        self:wrong("row %s has no ordinal (%s)", id, have.type)
      elseif self.rows[n] then
        self:wrong("rows %s and %s share the ordinal %d", id, self.rows[n].id, n)
      else
        if #(row._v or "") ~= 10 then self:wrong("row %s has no version", id) end
        self.rows[n] = { id = id, values = row }
        self.top = math.max(self.top, n + 1)
      end
      for name in pairs(row) do
        local is_own = name == "_v" or name == "_n"
        if not is_own and (not self.model.fields[name] or name == self.model.primary) then
          self:wrong("row %s has a field %s", id, name)
        end
      end
    end
  end
  self.segments = math.max(1, math.ceil(self.top / SEGMENT))
end

function Check:check_rows_and_ids()
  local primary = self.model.fields[self.model.primary]
  local width = primary.type == "uuid" and 16 or primary.type == "integer" and 8
  for s = 0, self.segments - 1 do
    local want, hash = {}, {}
    local ids = self:take("@ids." .. s, width and "string" or "hash")
    for n, row in pairs(self.rows) do
      if math.floor(n / SEGMENT) == s then
        local offset = n - s * SEGMENT
        want[n] = true
        hash[tostring(offset)] = row.id
        if width then
          local bytes = ids and ids:sub(offset * width + 1, (offset + 1) * width)
          if bytes ~= id_bytes(primary, row.id) then
            self:wrong("@ids.%d has another id for %s (%d)", s, row.id, n)
          end
        end
      end
    end
    self:same_set("@rows." .. s, bits_of(self:take("@rows." .. s, "string") or "", s), want)
    if not width then
      local have = to_map(ids or {})
      for offset, id in pairs(hash) do
        if have[offset] ~= id then self:wrong("@ids.%d has no %s for %s", s, offset, id) end
      end
      self:same_set("@ids." .. s, have, hash)
    end
  end
  local meta = to_map(self:take("@meta", "hash") or {})
  if next(self.rows) and tonumber(meta.top or 0) < self.top then self:wrong("@meta: top is low") end
  for n = 0, (tonumber(meta.hint) or 0) - 1 do
    if not self.rows[n] then
      self:wrong("@meta: hint is %s, but %d is free", meta.hint, n)
      break
    end
  end
  if meta.broken then self:wrong("@meta: broken, %s", meta.broken) end
end

-- groups returns, for a segment, value -> set of ordinals; false for null.
function Check:groups(name, segment)
  local groups = { [false] = {} }
  for n, row in pairs(self.rows) do
    if math.floor(n / SEGMENT) == segment then
      local v = row.values[name] or false
      groups[v] = groups[v] or {}
      groups[v][n] = true
    end
  end
  return groups
end

local function count(set)
  local n = 0
  for _ in pairs(set) do n = n + 1 end
  return n
end

-- read_value returns the members that a value's bitmap or small set has.
function Check:read_value(column, s, text, kind)
  local bitmap = self:take(column .. "=" .. text, "string")
  local have = bits_of(bitmap or "", s)
  if kind == "set" then
    local members = self:take(column .. "~" .. text, "set")
    if members and bitmap then self:wrong("%s has both a set and a bitmap of %s", column, text) end
    if members and #members > SMALL_SET then self:wrong("%s~%s is too large", column, text) end
    for _, offset in ipairs(members or {}) do have[s * SEGMENT + tonumber(offset)] = true end
  end
  return have
end

function Check:check_values(name, kind)
  for s = 0, self.segments - 1 do
    local column, long = name .. "." .. s, {}
    local groups = self:groups(name, s)
    self:same_set(column .. "?", bits_of(self:take(column .. "?", "string") or "", s),
      groups[false])
    groups[false] = nil
    for v, want in pairs(groups) do
      if #v <= VALUE_KEY then
        self:same_set(column .. "=" .. v, self:read_value(column, s, v, kind), want)
      else
        long[v] = want
      end
    end
    self:check_long_values(column, s, kind, long)
  end
end

-- Long values stand under a hash, 65 bytes long: which one is found out by
-- its members.
function Check:check_long_values(column, s, kind, long)
  local start = "{" .. self.model.name .. "}/" .. column
  for key in pairs(self.keys) do
    local text = key:sub(#start + 2)
    if key:sub(1, #start) == start and #text == VALUE_KEY + 1
      and not self.keys[key].seen then
      local have = self:read_value(column, s, text, kind)
      local first = next(have)
      if first then
        local v = self.rows[first] and self.rows[first].values[column:match("^[^.]+")]
        self:same_set(column .. " (hashed)", have, v and long[v] or {})
        if v then long[v] = nil end
      end
    end
  end
  for v, want in pairs(long) do
    self:wrong("%s lacks a long value, %s... (%d rows)", column, v:sub(1, 20), count(want))
  end
end

function Check:check_packed(name, f, width)
  for s = 0, self.segments - 1 do
    local text = self:take(name .. "." .. s, "string") or ""
    local zero = ("\0"):rep(width)
    local last = -1
    for n, row in pairs(self.rows) do
      if math.floor(n / SEGMENT) == s then
        local at = (n - s * SEGMENT) * width
        local have = text:sub(at + 1, at + width)
        local v = row.values[name]
        local want = v and packed_number(v, f.min, width) or zero
        have = have == "" and zero or have
        if have ~= want then self:wrong("%s.%d: %d is not %s", name, s, n, v or "null") end
        last = math.max(last, n - s * SEGMENT)
      end
    end
    for o = 0, #text / width - 1 do
      if not self.rows[s * SEGMENT + o] and text:sub(o * width + 1, (o + 1) * width) ~= zero then
        self:wrong("%s.%d: %d is no row, but has a value", name, s, o)
      end
    end
  end
end

function Check:check_zset(name)
  local list = self:take(name, "zset") or {}
  local have = {}
  for i = 1, #list, 2 do
    local a, b, c, d = list[i]:byte(1, 4)
    have[((a * 256 + b) * 256 + c) * 256 + d] = tonumber(list[i + 1])
  end
  local want = {}
  for n, row in pairs(self.rows) do want[n] = tonumber(row.values[name]) end
  self:same_set(name, have, want)
  for n, v in pairs(want) do
    if have[n] and have[n] ~= v then
      self:wrong("%s: %d is at %.17g, not %.17g", name, n, have[n], v)
    end
  end
end

function Check:check_unique(name)
  local have = to_map(self:take(name .. "!", "hash") or {})
  local want = {}
  for _, row in pairs(self.rows) do
    local v = row.values[name]
    if v then
      if want[v] then self:wrong("%s: %s and %s have the same", name, want[v], row.id) end
      want[v] = row.id
    end
  end
  self:same_set(name .. "!", have, want)
  for v, id in pairs(want) do
    if have[v] and have[v] ~= id then self:wrong("%s!: %s is %s's", name, v, have[v]) end
  end
end

-- check_rest: what nobody looked at may only be empty columns.
function Check:check_rest()
  for key, have in pairs(self.keys) do
    local rest = key:sub(#self.model.name + 4)
    if not have.seen and rest ~= "@schema" and not rest:find("^@journal:") then
      local is_empty = have.type == "string" and not have.value:find("[^%z]")
      if not is_empty and not rest:find("^@ids") then self:wrong("%s is a ghost", key) end
    end
  end
end

return function(model)
  local self = setmetatable({ model = model, problems = {} }, Check)
  self.keys = snapshot(model.redis, model.name)
  self:read_rows()
  self:check_rows_and_ids()
  for name, f in pairs(model.fields) do
    local kind = kind_of(f)
    if kind.values then self:check_values(name, kind.values) end
    if kind.width then self:check_packed(name, f, kind.width) end
    if kind.zset then self:check_zset(name) end
    if f.unique then self:check_unique(name) end
  end
  self:check_rest()
  return self.problems
end
