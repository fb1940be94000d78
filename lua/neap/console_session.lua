-- console_session: what a console's lines mean: Lua, and commands that begin with a colon. One a
-- connection. Internal.
local inspect = require "neap.inspect"
local layout = require "neap.layout"
local complete = require "neap.complete"
local core = require "neap.core.monitor"
local task = require "neap.task"
local errors = require "neap.core.error"
local monotonic = require("neap.core.util").monotonic
local M = {}

local Session = {}
Session.__index = Session

local text_max = 16 * 1024 * 1024 -- of what is not yet complete
local eager_max = 64 * 1024 -- up to here each line is tried; then those that may be the last, and
-- when an eighth has been added

local function same(...)
  return ...
end

-- the environment -----------------------------------------------------------

-- new_env makes the globals of a session: the process's own, _ for the last value, and the names
-- that were declared `local` at the prompt, which live here from line to line.
local function new_env()
  local own, declared = {}, {}
  own.neap, own.__values = require "neap", same
  for _, name in ipairs { "neap", "_", "__values" } do declared[name] = true end
  local parts = { redis = function() return own.neap.redis() end,
    http = function() return require "neap.http" end, model = function() return own.neap.model end,
    field = function() return own.neap.field end }
  local env = setmetatable({}, {
    __index = function(_, name)
      if declared[name] then return own[name] end
      if name == "own_names" then return own end
      local value = _G[name]
      if value == nil and parts[name] then return parts[name]() end
      if value == nil and package.loaded["neap.model"] then
        for _, m in pairs(own.neap.model.defined) do
          if m.name == name:lower() then return m end
        end
      end
      return value
    end,
    __newindex = function(_, name, value)
      if declared[name] then own[name] = value else _G[name] = value end
    end,
  })
  return env, own, declared
end

-- keep_locals makes what a line declares first (local x = 1) last: it becomes a name of the
-- session. Returns the text without `local`, and the names.
local function keep_locals(text)
  local before, name = text:match "^(%s*)local%s+function%s+([%a_][%w_]*)"
  if name then
    local kept = text:gsub("^%s*local%s+function%s+[%a_][%w_]*", before .. "function " .. name)
    return kept, { name }
  end
  local start = text:match "^%s*local%s+()[%a_]"
  if not start then return text, {} end
  local names, at = {}, start
  repeat
    local found, after = text:match("^([%a_][%w_]*)%s*()", at)
    if not found then return text, {} end
    names[#names + 1], at = found, after
    local comma = text:match("^,%s*()", at)
    at = comma or at
  until not comma
  local list = table.concat(names, ", ")
  local has_values = text:find("^=[^=]", at) or text:find("^=$", at)
  return list .. (has_values and " " or " = nil ") .. text:sub(at), names
end

-- declare makes names the session's own. Until they are given a value they are what they were, so
-- that `local print = print` does what it says.
local function declare(self, names)
  for _, name in ipairs(names) do
    if not self.declared[name] then
      self.own[name] = self.env[name]
      self.declared[name] = true
    end
  end
end

-- Lua -----------------------------------------------------------------------

-- short_traceback lists the frames of the user's own code.
local function short_traceback()
  local lines = {}
  for level = 3, 60 do
    local info = debug.getinfo(level, "Sln")
    if not info or #lines == 12 then break end
    if info.currentline > 0 and not info.source:find "^=neap" then
      local name = info.name and " in " .. info.name or ""
      lines[#lines + 1] = ("\n  %s:%d%s"):format(info.short_src, info.currentline, name)
    end
  end
  if #lines == 1 and lines[1]:find "console:" then return "" end
  return table.concat(lines)
end

local function described(e)
  if type(e) == "table" and not getmetatable(e) then return "error: " .. inspect.inspect(e) end
  local ok, text = pcall(tostring, e)
  if ok and type(text) == "string" then return text end
  local told, reason = pcall(tostring, text)
  return ("(an error, a %s, whose __tostring fails: %s)"):format(type(e),
    told and reason or type(text))
end

local function on_error(e)
  if errors.is_error(e, "cancelled") then return "cancelled" end
  return described(e) .. short_traceback()
end

local function pack(ok, ...)
  return ok, { n = select("#", ...), ... }
end

local function show(self, values)
  local parts = {}
  for i = 1, values.n do
    local ok, text = xpcall(inspect.inspect, on_error, values[i])
    if self.is_raw and type(values[i]) == "string" then text = values[i] end
    parts[i] = text
    if not ok then return "E", text end
  end
  if values.n > 0 then self.own._ = values[1] end
  return "R", table.concat(parts, values.n > 1 and #table.concat(parts) < 70 and "  " or "\n")
end

-- expression compiles what has values. It is no tail call, which would lose the line of an error;
-- the bracket stands on a line of its own only behind a comment, as its line counts.
local function expression(text)
  return loadstring("return __values(" .. text .. ")", "=console")
    or loadstring("return __values(" .. text .. "\n)", "=console")
end

-- is_unfinished: whether what is wrong with a text is that it ends.
local function is_unfinished(err)
  return err:find("near '<eof>'", 1, true) ~= nil
end

-- better returns which error to show: a statement that cannot even begin so was an expression.
local function better(text, of_statement, of_expression)
  local near = of_statement:match "unexpected symbol near '(.-)'"
  local is_first = near and text:match("^%s*(.*)"):sub(1, #near) == near
  return is_first and of_expression or of_statement
end

-- compile returns a function; or nil and what is wrong; or nil, nil where more is wanted.
local function compile(self, text)
  local source = text:match "^%s*=(.*)" or text
  local chunk = expression(source)
  local err
  local names = {}
  if not chunk then
    local kept
    kept, names = keep_locals(source)
    chunk, err = loadstring(kept, "=console")
  end
  if not chunk then
    local _, of_expression = loadstring("return " .. source, "=console")
    local is_open = is_unfinished(err) or of_expression and is_unfinished(of_expression)
    if is_open then return nil, nil end
    return nil, better(source, err, of_expression or err)
  end
  declare(self, names)
  return setfenv(chunk, self.env)
end

local function run(self, chunk)
  local ok, values = pack(xpcall(chunk, on_error))
  if not ok then return "E", values[1] end
  return show(self, values)
end

-- commands ------------------------------------------------------------------

local commands = {}
local command_help = [[
A line is Lua: an expression prints its value, a statement runs. What waits, waits here only.
_ is the last value; what is declared local at the prompt stays. redis, http and the models by
name (User) are there unless the program has names like these.

  :help NAME       the doc comment of a function: :help neap.spawn, :help redis:get; all of
                   a kind: :help neap, :help redis, :help http, :help query
  :tasks           the tasks: what they wait for, since when, and where
  :cancel ID       cancels a task
  :stats           the loop, memory, Redis, HTTP
  :time EXPR       how long it takes
  :explain QUERY   the plan of a query
  :redis           shows each command of a Redis client as it ends (what models send goes
                   in batches, and is not shown); again: no longer
  :profile SECONDS [FILE]   where Lua code spends its time; the stacks, folded, to a file
  :quit            leaves; the service goes on]]

-- evaluate runs an expression for a command, and returns its values.
local function evaluate(self, text, what)
  if text == "" then error("an expression is missing: " .. what, 0) end
  local chunk, err = expression(text), nil
  if not chunk then chunk, err = loadstring(text, "=console") end
  if not chunk then error(err, 0) end
  return setfenv(chunk, self.env)
end

-- redis_docs asks the server about one of its commands.
local function redis_docs(self, name)
  local ok, reply = pcall(function()
    return self.env.redis:call("COMMAND", "DOCS", name)
  end)
  if not ok or type(reply) ~= "table" or type(reply[2]) ~= "table" then return nil end
  local facts = {}
  for i = 1, #reply[2], 2 do facts[reply[2][i]] = reply[2][i + 1] end
  return ("redis:%s(...): %s (Redis %s; %s)"):format(name:lower(), facts.summary or "",
    facts.since or "?", facts.complexity or "")
end

function commands.help(self, name)
  if name == "" then return command_help end
  local help = require "neap.help"
  local text = not name:find "[.:]" and help.list(name) or help.find(name)
  local redis_name = name:match "^redis:([%w_]+)$"
  if redis_name and not (text and text:find(name, 1, true)) then
    text = redis_docs(self, redis_name) or text
  end
  if not text then error("no help for '" .. name .. "' (:help alone lists what there is)", 0) end
  return text
end

function commands.tasks()
  local shown_max = 100
  local lines = { { "id", "name", "state", "waits for", "since", "at", "spawned at" } }
  for _, t in ipairs(core.tasks(shown_max)) do
    lines[#lines + 1] = { ("%d"):format(t.id), t.name or "", t.state, t.waits_for or "",
      t.waited and layout.duration(t.waited) or "", t.at or "", t.spawned_at }
  end
  local live = core.counts().live
  return layout.columns(lines, { true, [5] = true })
    .. (live > shown_max and ("\n(the first %d of %s)"):format(shown_max, layout.count(live)) or "")
end

function commands.cancel(_, id)
  if not tonumber(id) then
    error("a task's number is missing: :cancel 14 (:tasks lists them)", 0)
  end
  local t = require("neap.live").task(tonumber(id))
  if not t then error("no task of that number: " .. id, 0) end
  t:cancel()
  return "cancelled"
end

function commands.stats()
  return inspect.inspect(require("neap.live").stats())
end

function commands.time(self, text)
  local chunk = evaluate(self, text, ":time redis:get 'k'")
  local start = monotonic()
  local ok, values = pack(xpcall(chunk, on_error))
  local took = monotonic() - start
  if not ok then error(values[1], 0) end
  local _, shown = show(self, values)
  return (shown ~= "" and shown .. "\n" or "") .. "took " .. layout.duration(took)
end

function commands.explain(self, text)
  local query = evaluate(self, text, ":explain User:where { age = 18 }")()
  local methods = package.loaded["neap.query"] and require("neap.query").methods
  if type(query) ~= "table" or getmetatable(query) ~= methods then
    error("a query is expected: :explain User:where { age = 18 }", 0)
  end
  return query:explain()
end

-- trace_text is a line on a Redis command that has ended.
local function trace_text(event)
  local words = { event.command }
  for i = 1, event.args and event.args.n or 0 do
    words[i + 1] = inspect.inspect(event.args[i]):gsub("%s*\n%s*", " ")
    if #words[i + 1] > 60 then words[i + 1] = words[i + 1]:sub(1, 57) .. "..." end
  end
  local text = table.concat(words, " ")
  if #text > 200 then text = text:sub(1, 197) .. "..." end
  return ("%s  %s%s\n"):format(event.duration and layout.duration(event.duration) or "-", text,
    event.error and "  " .. tostring(event.error) or "")
end

local function untrace(self)
  for client in pairs(self.traced) do pcall(client.trace, client, false) end
  self.traced = {}
end

function commands.redis(self)
  if next(self.traced) then
    untrace(self)
    return "the trace has ended"
  end
  local context = require("neap.core.task").context()
  local output = context and context[require("neap.core.task").OUTPUT]
  local redis = require "neap.redis"
  for _, client in pairs(redis.open_clients) do
    client:trace(function(event)
      if output then output(trace_text(event)) else io.write(trace_text(event)) end
    end, { values = true })
    self.traced[client] = true
  end
  if not next(self.traced) then error("no Redis client is open", 0) end
  return "each Redis command is shown as it ends; :redis ends that"
end

-- top lists the functions that most samples were taken in.
local function top(stacks, samples)
  local own, lines = {}, {}
  for stack, count in stacks:gmatch "([^\n]+) (%d+)\n" do
    local leaf = stack:match "([^;]+)$"
    own[leaf] = (own[leaf] or 0) + tonumber(count)
  end
  for leaf, count in pairs(own) do lines[#lines + 1] = { leaf, count } end
  table.sort(lines, function(a, b) return a[2] > b[2] end)
  for i = #lines, 16, -1 do lines[i] = nil end
  for i, line in ipairs(lines) do
    lines[i] = { ("%.1f %%"):format(100 * line[2] / samples), line[1] }
  end
  return layout.columns(lines, { true })
end
jit.off(top)

function commands.profile(_, text)
  local seconds, path = text:match "^([%d.]+)%s*(.-)%s*$"
  if not tonumber(seconds) then error("seconds are missing: :profile 5 out.folded", 0) end
  local stacks, samples = require("neap.live").profile(tonumber(seconds))
  if path ~= "" then
    local uv = require "luv"
    local file = uv.await(uv.fs_open, path, "w", tonumber("644", 8))
    uv.await(uv.fs_write, file, stacks, -1)
    uv.await(uv.fs_close, file)
  end
  if samples == 0 then return "no samples: nothing ran" end
  return layout.plural(samples, "sample") .. (path ~= "" and " to " .. path or "") .. "\n"
    .. top(stacks, samples)
end

function commands.quit(self)
  self.is_over = true
  return ""
end
commands.q = commands.quit

local function run_command(self, text)
  local name, rest = text:match "^:(%a*)%s*(.-)%s*$"
  local command = commands[name]
  if not command then
    return "E", ("no command ':%s' (:help lists them)"):format(name or "")
  end
  local ok, answer = xpcall(command, on_error, self, rest)
  return ok and "R" or "E", answer
end

-- the session ---------------------------------------------------------------

-- may_be_last: whether a statement of many lines may end in this one.
local function may_be_last(text)
  return text:find "%f[%w]end%f[%W]" or text:find "%f[%w]until%f[%W]"
    or text:find "[%]%)}\"']%s*;?%s*$"
end

-- is_farewell: what people type who want to leave, unless the program has such a name.
local function is_farewell(text)
  local word = text:match "^%s*(%a+)%s*%(?%)?%s*$"
  return (word == "exit" or word == "quit") and rawget(_G, word) == nil
end

--- session:line(text): runs a line, with those before it that were not complete. Returns the
-- letter and the text of the answer (console.lua).
function Session:line(text)
  if self.pending == "" and text:find "^:" then return run_command(self, text) end
  if self.pending == "" and is_farewell(text) then return run_command(self, ":quit") end
  if self.pending == "" and text:find "^%s*$" then return "R", "" end
  self.lines[#self.lines + 1] = text
  self.size = self.size + #text + 1
  if self.size > text_max then
    self:forget()
    return "E", ("more than %s that are not complete"):format(layout.bytes(text_max))
  end
  if self.size > eager_max and self.size < self.tried * 9 / 8 and not may_be_last(text) then
    return "M", ""
  end
  self.pending = table.concat(self.lines, "\n")
  self.lines, self.tried = { self.pending }, self.size
  local chunk, err = compile(self, self.pending)
  if not chunk and not err then return "M", "" end
  self:forget()
  if not chunk then return "E", err end
  return run(self, chunk)
end

--- session:finish(): the input has ended: what is not complete runs, or is an error.
function Session:finish()
  self.is_over = true
  if #self.lines == 0 then return "R", "" end
  local chunk, err = compile(self, table.concat(self.lines, "\n"))
  self:forget()
  if not chunk then return "E", err or "the input ended in the middle of a statement" end
  return run(self, chunk)
end

--- session:forget(): drops lines that were not complete.
function Session:forget()
  self.pending, self.lines, self.size, self.tried = "", {}, 0, 0
end

local redis_names = setmetatable({}, { __mode = "k" }) -- by client, what its server knows

local function names_of(client)
  if not redis_names[client] then
    local names = {}
    for name in pairs(require("neap.redis_command").reads) do names[name:lower()] = true end
    if client:stats().connected then
      local ok, list = pcall(task.timeout, 0.1, client.call, client, "COMMAND", "LIST")
      for _, name in ipairs(ok and list or {}) do
        if not name:find "|" then names[name:gsub("[^%w]", "_")] = true end
      end
      if ok then redis_names[client] = names end
    end
    return names
  end
  return redis_names[client]
end

--- session:complete(text): see complete.complete.
function Session:complete(text)
  return complete.complete(text, self.env, commands, names_of)
end

--- session:close(): its client is gone.
function Session:close()
  untrace(self)
end

--- console_session.new(): a session.
function M.new()
  local self = setmetatable({ traced = {} }, Session)
  self.env, self.own, self.declared = new_env()
  self:forget()
  return self
end

return M
