-- model_check: compares all that Redis holds of a model with its rows, key by
-- key, as redis-cli would see them. It shares no code with what wrote them.
--
--   local check = require "support.model_check"
--   assert.same({}, check(User))      -- what is wrong, at most 20 lines
local bit = require "bit"
local ffi = require "ffi"
local SEGMENT, SMALL_SET, VALUE_KEY = 65536, 512, 64
local IDS_STRING, IDS_HASH = 1023, 128 -- ordinals in a piece of @ids
local PIECES = SEGMENT / IDS_HASH

local numeric = { integer = true, number = true, time = true, date = true }
local FIRST_DAY = -719162 -- 0001-01-01, in days since 1970

-- width_of returns the bytes of a number in f's packed column, nil if it has none.
local function width_of(f)
  if f.kind == "date" then return 4 end
  if f.kind ~= "integer" or not (f.min and f.max) then return nil end
  local most = f.max - f.min + 1
  return most < 2 ^ 8 and 1 or most < 2 ^ 16 and 2 or most < 2 ^ 32 and 4 or 8
end

-- kind_of returns the structures that a field has.
local function kind_of(f)
  local kind = {}
  if f.index and (f.kind == "enum" or f.kind == "boolean") then
    kind.values = "bitmap"
  elseif f.index and not numeric[f.kind] then
    kind.values = "set"
  elseif f.index then
    kind.width = width_of(f)
  end
  kind.is_lex = f.sort and f.kind == "string"
  kind.is_zset = f.sort and f.kind ~= "string"
    or f.index and not kind.values and not kind.width
  return kind
end

-- days_of returns the days since 1970 of a date, by its Julian day number.
local function days_of(text)
  local year, month, day = text:match("^(%d+)%-(%d+)%-(%d+)$")
  local floor, a = math.floor, month + 0 < 3 and 1 or 0
  local y, m = year + 4800 - a, month + 12 * a - 3
  return day + floor((153 * m + 2) / 5) + 365 * y + floor(y / 4) - floor(y / 100)
    + floor(y / 400) - 32045 - 2440588
end

local function number_of(f, text)
  return f.kind == "date" and days_of(text) or tonumber(text)
end

-- parts_of returns the elements of a list as it is stored; nil if it is malformed.
local function parts_of(text)
  local list, at = {}, 1
  while at <= #text do
    local len, from = text:match("^(%d+):()", at)
    if not len or from + len - 1 > #text then return nil end
    list[#list + 1] = text:sub(from, from + len - 1)
    at = from + len
  end
  return list
end

local function to_parts(list)
  local text = {}
  for i, part in ipairs(list) do text[i] = #part .. ":" .. part end
  return table.concat(text)
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

local function packed_number(number, min, width)
  local v = ffi.cast("int64_t", number) - ffi.cast("int64_t", min) + 1
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

-- read_all reads every key: name -> { type, value }.
local function read_all(redis, name)
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

-- snapshot is read_all, with no row swept meanwhile.
local function snapshot(redis, name)
  local meta = "{" .. name .. "}/@meta"
  for _ = 1, 20 do
    local deletes = redis:hget(meta, "deletes")
    local all = read_all(redis, name)
    if redis:hget(meta, "deletes") == deletes then return all end
  end
  error("rows are deleted all the time")
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
    if not have[n] and not self.is_partial then self:wrong("%s lacks %s", key, tostring(n)) end
  end
end

-- read_schema reads which build of its indexes is in use, by name, which of them are
-- under construction, and the compound ones; and what is left of dropped ones.
function Check:read_schema()
  self.builds, self.building, self.dropped, self.compounds = {}, {}, {}, {}
  local text = self:take("@schema", "string") or ""
  for line in text:gsub("^[^\n]*\n", ""):gmatch("[^\n]+") do
    local rest, building = line:gsub(" building$", "")
    local name, build = rest:match("^(%S+)"), rest:match(" #(%d+)$")
    self.builds[name] = build and name .. "#" .. build or name
    self.building[name] = building > 0
    if rest:find("^%S+ compound") then self.compounds[#self.compounds + 1] = name end
  end
  local meta = self.keys["{" .. self.model.name .. "}/@meta"]
  local dropped = meta and to_map(meta.value).dropped or ""
  for name, build in dropped:gmatch("(%S+) (%d+)\n") do
    self.dropped[build == "0" and name or name .. "#" .. build] = true
  end
end

-- stored_name returns how an index is called in the keys. One under construction may
-- lack rows.
function Check:stored_name(name)
  self.is_partial = self.building[name]
  if next(self.rows) and not self.builds[name] then
    self:wrong("@schema does not name %s", name)
  end
  return self.builds[name] or name
end

-- check_row looks at one row for itself.
function Check:check_row(id, row)
  local model = self.model
  if #(row._v or "") ~= 10 then self:wrong("row %s has no version", id) end
  if row._e and not model.ttl then self:wrong("row %s expires", id) end
  for name in pairs(row) do
    local is_own = name == "_v" or name == "_n" or name == "_e"
    if not is_own and (not model.fields[name] or name == model.primary) then
      self:wrong("row %s has a field %s", id, name)
    end
  end
  for name, f in pairs(model.fields) do
    if f.element and row[name] and not parts_of(row[name]) then
      self:wrong("row %s: %s is no list", id, name)
    end
  end
  if model.parts then
    local parts = {}
    for i, name in ipairs(model.parts) do parts[i] = row[name] or "" end
    if id ~= to_parts(parts) then self:wrong("row %s has the key of %s", id, to_parts(parts)) end
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
        self.rows[n] = { id = id, values = row }
        self.top = math.max(self.top, n + 1)
      end
      self:check_row(id, row)
    end
  end
  self.segments = math.max(1, math.ceil(self.top / SEGMENT))
end

function Check:check_rows_and_ids()
  local primary = self.model.fields[self.model.primary] or {}
  local width = primary.type == "uuid" and 16 or primary.type == "integer" and 8
  for s = 0, self.segments - 1 do
    local want, hash = {}, {}
    for n, row in pairs(self.rows) do
      if math.floor(n / SEGMENT) == s then
        local offset = n - s * SEGMENT
        want[n] = true
        hash[tostring(offset)] = row.id
        if width then
          local piece = math.floor(n / IDS_STRING)
          local ids, at = self:take("@ids." .. piece, "string"), n - piece * IDS_STRING
          local bytes = ids and ids:sub(at * width + 1, (at + 1) * width)
          if bytes ~= id_bytes(primary, row.id) then
            self:wrong("@ids.%d has another id for %s (%d)", piece, row.id, n)
          end
        end
      end
    end
    self:same_set("@rows." .. s, bits_of(self:take("@rows." .. s, "string") or "", s), want)
    for piece = s * PIECES, not width and (s + 1) * PIECES - 1 or -1 do
      local have = to_map(self:take("@ids." .. piece, "hash") or {})
      local wanted = {}
      for offset, id in pairs(hash) do
        if math.floor(offset / IDS_HASH) == piece % PIECES then
          local at = tostring(offset % IDS_HASH)
          wanted[at] = id
          if have[at] ~= id then self:wrong("@ids.%d has no %s for %s", piece, at, id) end
        end
      end
      self:same_set("@ids." .. piece, have, wanted)
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

-- groups returns, for a segment, value (or element) -> set of ordinals; false for null.
function Check:groups(name, segment)
  local groups = { [false] = {} }
  local is_list = self.model.fields[name].element
  for n, row in pairs(self.rows) do
    if math.floor(n / SEGMENT) == segment then
      local v = row.values[name] or false
      local list = { v }
      if v and is_list then list = parts_of(v) or {} end
      for _, one in ipairs(list) do
        groups[one] = groups[one] or {}
        groups[one][n] = true
      end
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
    local column, long = self:stored_name(name) .. "." .. s, {}
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

local function is_subset(a, b)
  for n in pairs(a) do
    if not b[n] then return false end
  end
  return true
end

-- Long values stand under a hash, 65 bytes long: which one is found out by
-- its members.
function Check:check_long_values(column, s, kind, long)
  local start = "{" .. self.model.name .. "}/" .. column
  for key, entry in pairs(self.keys) do
    local text = key:sub(#start + 2)
    if key:sub(1, #start) == start and #text == VALUE_KEY + 1 and not entry.seen then
      local have, found = self:read_value(column, s, text, kind), nil
      for v, want in pairs(long) do
        if is_subset(have, want) and (self.is_partial or count(have) == count(want)) then
          found = v
        end
      end
      if found and not self.is_partial then
        long[found] = nil
      elseif not found and next(have) then
        self:wrong("%s: a hashed value has rows that are no value's", column)
      end
    end
  end
  for v, want in pairs(long) do
    if not self.is_partial then
      self:wrong("%s lacks a long value, %s... (%d rows)", column, v:sub(1, 20), count(want))
    end
  end
end

function Check:check_packed(name, f, width)
  local stored, zero = self:stored_name(name), ("\0"):rep(width)
  local min = f.kind == "date" and FIRST_DAY or f.min
  for s = 0, self.segments - 1 do
    local text = self:take(stored .. "." .. s, "string") or ""
    for n, row in pairs(self.rows) do
      if math.floor(n / SEGMENT) == s then
        local at = (n - s * SEGMENT) * width
        local have = text:sub(at + 1, at + width)
        local v = row.values[name]
        local want = v and packed_number(number_of(f, v), min, width) or zero
        have = have == "" and zero or have
        if have ~= want and not (self.is_partial and have == zero) then
          self:wrong("%s.%d: %d is not %s", stored, s, n, v or "null")
        end
      end
    end
    for o = 0, #text / width - 1 do
      if not self.rows[s * SEGMENT + o] and text:sub(o * width + 1, (o + 1) * width) ~= zero then
        self:wrong("%s.%d: %d is no row, but has a value", stored, s, o)
      end
    end
  end
end

-- ordinal_of reads the 4 bytes at the end of a member.
local function ordinal_of(member)
  local a, b, c, d = member:byte(-4, -1)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

-- same_scores compares a zset of ordinals with what is wanted, ordinal -> score.
function Check:same_scores(key, list, want)
  local have = {}
  for i = 1, #list, 2 do
    if #list[i] ~= 4 then self:wrong("%s has a member of %d bytes", key, #list[i]) end
    have[ordinal_of(list[i])] = tonumber(list[i + 1])
  end
  self:same_set(key, have, want)
  for n, v in pairs(want) do
    if have[n] and have[n] ~= v then
      self:wrong("%s: %d is at %.17g, not %.17g", key, n, have[n], v)
    end
  end
end

function Check:check_zset(name, f)
  local want, stored = {}, self:stored_name(name)
  for n, row in pairs(self.rows) do
    local v = row.values[name]
    want[n] = v and number_of(f, v)
  end
  self:same_scores(stored, self:take(stored, "zset") or {}, want)
end

-- check_lex: members are the value, escaped, and the ordinal.
function Check:check_lex(name)
  local key, have, want = self:stored_name(name) .. "<", {}, {}
  local list = self:take(key, "zset") or {}
  for i = 1, #list, 2 do
    have[list[i]] = true
    if tonumber(list[i + 1]) ~= 0 then self:wrong("%s has a score", key) end
  end
  for n, row in pairs(self.rows) do
    local v = row.values[name]
    if v then want[v:gsub("%z", "\0\255") .. "\0\0" .. big_endian(n, 4)] = true end
  end
  self:same_set(key, have, want)
end

-- suffix_of returns what follows the "=" in the key of a row's entry in a compound
-- index, but for hashes of long values; how long it is, and whether there is a hash in
-- it. nil if one of the values is null.
local function suffix_of(row, names)
  local values, is_long, len = {}, false, 0
  for i = 1, #names - 1 do
    local v = row.values[names[i]]
    if not v then return nil end
    local size = math.min(#v, VALUE_KEY + 1)
    values[i], is_long = v, is_long or size > VALUE_KEY
    len = len + size + (#names > 2 and #tostring(size) + 1 or 0)
  end
  return #values == 1 and values[1] or to_parts(values), len, is_long
end

-- compound_groups returns a list of { suffix, len, is_long, rows: ordinal -> score }.
function Check:compound_groups(names)
  local groups, by_suffix = {}, {}
  local last = names[#names]
  for n, row in pairs(self.rows) do
    local suffix, len, is_long = suffix_of(row, names)
    local score = row.values[last]
    if suffix and score then
      if not by_suffix[suffix] then
        by_suffix[suffix] = { suffix = suffix, len = len, is_long = is_long, rows = {} }
        groups[#groups + 1] = by_suffix[suffix]
      end
      by_suffix[suffix].rows[n] = number_of(self.model.fields[last], score)
    end
  end
  return groups
end

-- find_hashed returns the key that has a group's members, and its length.
function Check:find_hashed(prefix, group)
  local start = "{" .. self.model.name .. "}/" .. prefix
  for key, entry in pairs(self.keys) do
    if not entry.seen and entry.type == "zset" and #key == #start + group.len
      and key:sub(1, #start) == start and group.rows[ordinal_of(entry.value[1])] then
      return key:sub(#start + 1)
    end
  end
end

function Check:check_compound(name)
  local prefix, names = self:stored_name(name) .. "=", {}
  for one in name:gmatch("[^,]+") do names[#names + 1] = one end
  for _, group in ipairs(self:compound_groups(names)) do
    local suffix = group.suffix
    if group.is_long then suffix = self:find_hashed(prefix, group) end
    if suffix then
      self:same_scores(prefix .. suffix, self:take(prefix .. suffix, "zset") or {}, group.rows)
    elseif not self.is_partial then
      self:wrong("%s lacks a long value (%d rows)", prefix, count(group.rows))
    end
  end
end

-- check_stamps: each segment that has rows was given a stamp.
function Check:check_stamps()
  local stamps = self:take("@stamps", "string") or ""
  for n in pairs(self.rows) do
    local at = math.floor(n / SEGMENT) * 8
    if not stamps:sub(at + 1, at + 8):find("[^%z]") then
      self:wrong("@stamps has none for the segment of %d", n)
      break
    end
  end
end

function Check:check_expiries()
  local want = {}
  for n, row in pairs(self.rows) do want[n] = tonumber(row.values._e) end
  self.is_partial = false
  self:same_scores("@expires", self:take("@expires", "zset") or {}, want)
end

function Check:check_unique(name)
  local key = self:stored_name(name) .. "!"
  local have = to_map(self:take(key, "hash") or {})
  local want = {}
  for _, row in pairs(self.rows) do
    local v = row.values[name]
    if v then
      if want[v] and not self.is_partial then
        self:wrong("%s: %s and %s have the same", name, want[v], row.id)
      end
      want[v] = row.id
    end
  end
  self:same_set(key, have, want)
  for v, id in pairs(want) do
    if have[v] and have[v] ~= id and not self.is_partial then
      self:wrong("%s: %s is %s's", key, v, have[v])
    end
  end
end

-- is_left: whether a key is of a dropped index that the next sync removes.
function Check:is_left(rest)
  for name in pairs(self.dropped) do
    local next_char = rest:sub(#name + 1, #name + 1)
    if rest:sub(1, #name) == name and (next_char == "" or next_char:find("[.!<=]")) then
      return true
    end
  end
  return false
end

-- check_rest: what nobody looked at may only be empty columns.
function Check:check_rest()
  for key, have in pairs(self.keys) do
    local rest = key:sub(#self.model.name + 4)
    if not have.seen and not rest:find("^@journal:") and not self:is_left(rest) then
      local is_empty = have.type == "string" and not have.value:find("[^%z]")
      if not is_empty and not rest:find("^@ids") then self:wrong("%s is a ghost", key) end
    end
  end
end

function Check:check_field(name, f)
  local kind = kind_of(f)
  if kind.values then self:check_values(name, kind.values) end
  if kind.width then self:check_packed(name, f, kind.width) end
  if kind.is_zset then self:check_zset(name, f) end
  if kind.is_lex then self:check_lex(name) end
  if f.unique then self:check_unique(name) end
end

--- check(model): what is wrong with what Redis holds of the model, a list of texts.
-- Nobody else may write meanwhile.
return function(model)
  local self = setmetatable({ model = model, problems = {} }, Check)
  self.keys = snapshot(model.redis, model.name)
  self:read_schema()
  self:read_rows()
  self:check_rows_and_ids()
  for name, f in pairs(model.fields) do self:check_field(name, f) end
  for _, name in ipairs(self.compounds) do self:check_compound(name) end
  if model.ttl then self:check_expiries() end
  self:check_stamps()
  self:check_rest()
  return self.problems
end
