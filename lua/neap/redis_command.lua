-- redis_command: what the client knows of single commands: those that it
-- refuses, those that block, those that only read. Internal.
local M = {}

--- redis_command.refused: commands that change the session of a connection which all
-- share, and what to use instead.
M.refused = {
  SELECT = "put the database into the URL (redis://host/2)",
  AUTH = "put user and password into the URL",
  HELLO = "the client speaks RESP2; put user and password into the URL",
  RESET = "open another client with neap.redis(url)",
  QUIT = "use redis:close()",
  MULTI = "use redis:multi(function(tx) ... end)",
  EXEC = "use redis:multi(function(tx) ... end)",
  DISCARD = "use redis:multi(function(tx) ... end)",
  WATCH = "use redis:watch(keys, function(tx) ... end)",
  UNWATCH = "use redis:watch(keys, function(tx) ... end)",
  SUBSCRIBE = "use redis:subscribe(channel, ...)",
  PSUBSCRIBE = "use redis:psubscribe(pattern, ...)",
  SSUBSCRIBE = "use redis:subscribe(channel, ...)",
  UNSUBSCRIBE = "use sub:unsubscribe(channel, ...)",
  PUNSUBSCRIBE = "use sub:punsubscribe(pattern, ...)",
  SUNSUBSCRIBE = "use sub:unsubscribe(channel, ...)",
  MONITOR = "use redis:trace(fn) for this client's commands",
  ["CLIENT REPLY"] = "the client relies on every reply",
  ["CLIENT TRACKING"] = "the client speaks RESP2 and keeps no cache",
  WAIT = "it would speak of this connection's writes and hold up everybody's; "
    .. "min-replicas-to-write in the server's configuration guards all writes",
  WAITAOF = "it would speak of this connection's writes and hold up everybody's; "
    .. "appendfsync in the server's configuration guards all writes",
  READONLY = "it is for replicas of a cluster",
  READWRITE = "it is for replicas of a cluster",
  ASKING = "it is for clusters",
  SYNC = "it is for replicas",
  PSYNC = "it is for replicas",
}

--- redis_command.maps: commands whose list of pairs C makes into a table.
M.maps = { HGETALL = true }

-- where a blocking command's timeout in seconds stands: last, or at a place
local function last(...) return (select(select("#", ...), ...)) end
local function first(...) return (...) end

-- find_block calls itself for what tables hold, in the order in which they are sent;
-- state.is_next: BLOCK was the word before.
local function find_block(state, value)
  if type(value) == "table" then
    if #value > 0 then
      for i = 1, #value do find_block(state, value[i]) end
    else
      for k, v in pairs(value) do
        find_block(state, k)
        find_block(state, v)
      end
    end
  elseif state.is_next then
    state.seconds, state.is_next = (tonumber(value) or 0) / 1000, false
  else
    state.is_next = not state.seconds and type(value) == "string" and value:upper() == "BLOCK"
  end
end

--- redis_command.block_option(...): the seconds behind BLOCK, within tables too, or nil.
function M.block_option(...)
  local state = {}
  for i = 1, select("#", ...) do find_block(state, (select(i, ...))) end
  return state.seconds
end

--- redis_command.blocking: by name, a function of the arguments that returns the
-- seconds for which the command may block.
M.blocking = {
  BLPOP = last, BRPOP = last, BRPOPLPUSH = last, BLMOVE = last, BZPOPMIN = last, BZPOPMAX = last,
  BLMPOP = first, BZMPOP = first, XREAD = M.block_option, XREADGROUP = M.block_option,
}

--- redis_command.reads: commands that change nothing, and so may be sent again
-- when the connection was lost before the reply came.
M.reads = {}
for name in ([[
  BITCOUNT BITFIELD_RO BITPOS COMMAND DBSIZE DUMP ECHO EVALSHA_RO EVAL_RO EXISTS EXPIRETIME
  FCALL_RO GEODIST GEOHASH GEOPOS GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GET GETBIT GETRANGE
  HEXISTS HGET HGETALL HKEYS HLEN HMGET HRANDFIELD HSCAN HSTRLEN HVALS INFO KEYS LASTSAVE LCS
  LINDEX LLEN LOLWUT LPOS LRANGE MGET OBJECT PEXPIRETIME PFCOUNT PING PTTL RANDOMKEY ROLE SCAN
  SCARD SDIFF SINTER SINTERCARD SISMEMBER SMEMBERS SMISMEMBER SORT_RO SRANDMEMBER SSCAN STRLEN
  SUBSTR SUNION TIME TTL TYPE XINFO XLEN XPENDING XRANGE XREAD XREVRANGE ZCARD ZCOUNT ZDIFF ZINTER
  ZINTERCARD ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREVRANGE
  ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION
]]):gmatch "%S+" do
  M.reads[name] = true
end

-- within redis:watch
local refused_in_watch = {
  MULTI = "use tx:multi(function(m) ... end)",
  EXEC = "use tx:multi(function(m) ... end)",
  DISCARD = "return without tx:multi",
  UNWATCH = "return without tx:multi",
  WATCH = "give redis:watch all keys at once",
  PIPELINE = "call one command after the other, or tx:multi(function(m) ... end)",
}

--- redis_command.refuse(name, level): raises that the command is not available.
function M.refuse(name, level)
  error(("%s is not available here: %s"):format(name, M.refused[name]), level + 1)
end

--- redis_command.refuse_in_watch(name, level): the same for a transaction's.
function M.refuse_in_watch(name, level)
  error(("%s is not available here: %s"):format(name, refused_in_watch[name] or M.refused[name]),
    level + 1)
end

--- redis_command.is_refused_in_watch(name): whether it is.
function M.is_refused_in_watch(name)
  return M.refused[name] or refused_in_watch[name]
end

--- redis_command.check(name, sub): refuses what is refused; returns the name in upper
-- case. The error's place is the caller's caller.
function M.check(name, sub)
  if type(name) ~= "string" then error("a command's name expected", 3) end
  local upper = name:upper()
  if upper == "CLIENT" then
    while type(sub) == "table" do sub = sub[1] end
    local both = type(sub) == "string" and "CLIENT " .. sub:upper()
    if M.refused[both] then M.refuse(both, 3) end
  end
  if M.refused[upper] then M.refuse(upper, 3) end
  return upper
end

--- redis_command.check_blocking(name, ...): refuses a command that would block a
-- connection that others share.
function M.check_blocking(name, ...)
  local block = M.blocking[name]
  if block and (block ~= M.block_option or block(...)) then
    error(name .. " would block the pipeline", 3)
  end
end

return M
