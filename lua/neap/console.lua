-- console: a socket on which one talks to the running process: neap.console(path). The client is
-- `neap attach PATH`, or the REPL's own thread.
--
-- A frame is a letter, a length (4 bytes, big-endian) and so many bytes. From the client: N, its
-- first words; L, a line; X, the end of its input; C, cancel; T, a number and the text to complete.
-- To the client: N, a greeting; O, output at any time; then one answer to each L or X: R, the
-- result; E, an error; M, more is wanted; and T, the number, how many bytes to replace, and names
-- that fit; Q, the end.
local uv = require "neap.luv"
local core = require "neap.core.monitor"
local task = require "neap.task"
local task_core = require "neap.core.task"
local util = require "neap.core.util"
local errors = require "neap.core.error"
local log = require "neap.log"
local session = require "neap.console_session"
local M = {}

local frame_max = 16 * 1024 * 1024
local unread_max = 1024 * 1024 -- bytes that the client has not taken
local hello = "neap console 1" -- and " raw": strings are shown without quotes

-- connections ---------------------------------------------------------------

local Connection = {}
Connection.__index = Connection

local function frame(letter, text)
  local n = #text
  return letter .. string.char(math.floor(n / 16777216) % 256, math.floor(n / 65536) % 256,
    math.floor(n / 256) % 256, n % 256) .. text
end

--- connection:send(letter, text): queues a frame.
function Connection:send(letter, text)
  if self.is_closed then return end
  self.pipe:write(frame(letter, text), function(err)
    if err then self:close() end
    self.taken:set()
    self.taken:clear()
  end)
end

--- connection:output(text): sends what a line prints. The line waits for a slow client; what comes
-- from elsewhere is left out, and counted.
function Connection:output(text)
  if self.is_closed then return false end
  local is_line = self.line and core.current_id() == self.line_id
  while is_line and not self.is_closed and self.pipe:get_write_queue_size() > unread_max do
    self.taken:wait()
  end
  if self.is_closed then return false end
  if self.pipe:get_write_queue_size() > unread_max then
    self.dropped = self.dropped + 1
    return true
  end
  if self.dropped > 0 then
    text = ("[%d prints were left out]\n"):format(self.dropped) .. text
    self.dropped = 0
  end
  for at = 1, #text, frame_max do self:send("O", text:sub(at, at + frame_max - 1)) end
  return true
end

--- connection:close(): its line is cancelled.
function Connection:close()
  if self.is_closed then return end
  self.is_closed = true
  core.forget_client(self.fd)
  self.console.connections[self] = nil
  if self.line then self.line:cancel() end
  self.session:close()
  self.taken:set()
  if not self.pipe:is_closing() then self.pipe:close() end
  if self.console.on_close then self.console.on_close(self) end
end

--- connection:finish(): sends what is still to be sent, and then closes.
function Connection:finish()
  if self.is_closed then return end
  self.pipe:read_stop()
  self.pipe:write(frame("Q", ""), function() self:close() end)
end

-- set_output says where the task's prints go, and those of the tasks that it spawns.
local function set_output(fn)
  local context = {}
  for k, v in pairs(task_core.context() or {}) do context[k] = v end
  context[task_core.OUTPUT] = fn
  task_core.set_context(context)
end

-- run_line is the task of a line; it returns the letter and the text of the answer.
local function run_line(self, method, text)
  if self.is_closed then error("cancelled", 0) end -- its client left before it began
  core.set_client(self.fd)
  core.name(core.current(), "a line of a console")
  set_output(function(s) return self:output(s) end)
  self.line_id = core.current_id()
  return method(self.session, text)
end

local function after_line(self, letter, answer)
  self.line = nil
  if letter == task_core.FAIL then
    letter, answer = "E", errors.is_error(answer, "cancelled") and "cancelled" or tostring(answer)
  end
  if #answer > frame_max then answer = answer:sub(1, frame_max - 100) .. "..." end
  self:send(letter, answer)
  if self.session.is_over then self:finish() end
end

-- start_line runs a line in a task of its own, and answers for it whatever becomes of it.
local function start_line(self, method, text)
  if self.line then return self:close() end -- a client waits for the answer
  local line = task_core.spawn_always(run_line, self, method, text)
  self.line = line
  task.spawn(function() after_line(self, task_core.join(line)) end)
end

local on_frame = {}

function on_frame.L(self, text)
  if self.console.audits then
    log.info("console: %s: %s", self.name, #text > 1000 and text:sub(1, 1000) .. "..." or text)
  end
  start_line(self, self.session.line, text)
end

function on_frame.X(self)
  start_line(self, self.session.finish, "")
end

function on_frame.C(self)
  if self.line then self.line:cancel() else self.session:forget() end
end

local function complete(self, text)
  local number, line = text:match "^(%d+)\n(.*)"
  local ok, count, names = pcall(self.session.complete, self.session, line or "")
  self:send("T", ("%s\n%s\n"):format(number, ok and count or 0)
    .. table.concat(ok and names or {}, "\n"))
end

function on_frame.T(self, text)
  task.spawn(complete, self, text) -- it may ask Redis
end

-- parse takes whole frames off what was read; it does not wait. Who does not begin as a client
-- does is cut off.
local function parse(self)
  while not self.is_closed and #self.bytes >= 5 do
    local letter, a, b, c, d = self.bytes:sub(1, 1), self.bytes:byte(2, 5)
    local size = ((a * 256 + b) * 256 + c) * 256 + d
    local handler = on_frame[letter]
    local is_first = letter == "N"
    if size > frame_max or not handler and not is_first or is_first == self.is_known then
      return self:close()
    end
    if #self.bytes < 5 + size then
      self.wanted = 5 + size
      return
    end
    local text = self.bytes:sub(6, 5 + size)
    self.bytes = self.bytes:sub(6 + size)
    if letter == "N" then
      if text:sub(1, #hello) ~= hello then return self:close() end
      self.session.is_raw = text == hello .. " raw"
      self.is_known = true
      self:send("N", ("neap %s, process %d"):format(util.version, uv.os_getpid()))
    else
      handler(self, text)
    end
  end
  self.wanted = 5
end

local function on_read(self, err, data)
  if err or not data then return self:close() end
  self.parts[#self.parts + 1] = data
  self.size = self.size + #data
  if self.size < self.wanted then return end
  self.bytes = table.concat(self.parts)
  parse(self)
  self.parts, self.size = { self.bytes }, #self.bytes
end

local function serve(console, pipe)
  local fd = pipe:fileno()
  local uid, pid = core.peer(fd)
  if uid ~= uv.getuid() and uid ~= 0 then
    log.warn("console: a connection by uid %s was refused", tostring(uid))
    return pipe:close()
  end
  local self = setmetatable({ console = console, pipe = pipe, fd = fd, parts = {}, size = 0,
    wanted = 5, bytes = "", is_known = false, taken = task.event(), dropped = 0,
    name = ("uid %d, process %d"):format(uid, pid), session = session.new() }, Connection)
  console.connections[self] = true
  pipe:unref() -- the service does not live for its console; its lines are tasks of their own
  pipe:read_start(function(err, data) on_read(self, err, data) end)
  return self
end

-- the console ---------------------------------------------------------------

local Console = {}
Console.__index = Console

--- console:close(): takes no more clients and cuts off those that are there.
function Console:close()
  if self.pipe and not self.pipe:is_closing() then
    self.pipe:close()
    os.remove(self.path)
  end
  for connection in pairs(self.connections) do connection:close() end
end

-- is_taken tells whether somebody listens on the socket already.
local function is_taken(path)
  local probe = uv.new_pipe(false)
  local ok = pcall(task.timeout, 1, uv.await, function(done) return probe:connect(path, done) end)
  probe:close()
  return ok
end

local function listen_error(path, reason)
  error(errors.new { code = "console.listen",
    message = ("no console on %s: %s"):format(path, tostring(reason)) }, 3)
end

--- neap.console(path, { audit = true }): opens a console on that unix socket, for `neap attach
-- PATH`; returns it, with console:close(). The socket is for this user alone (0600; the other
-- side's uid is checked, root may). Each line is logged unless audit is false. It does not keep
-- the process alive. Raises console.listen.
function M.open(path, options)
  if type(path) ~= "string" or path == "" then
    error("bad argument #1 to 'console' (a path expected)", 2)
  end
  for name in pairs(options or {}) do
    if name ~= "audit" then error("console: unknown option '" .. tostring(name) .. "'", 2) end
  end
  if #path > 107 then listen_error(path, "a socket's path has at most 107 bytes") end
  local folder = path:match "^(.*)/[^/]*$"
  if folder and folder ~= "" and not uv.fs_stat(folder) then
    listen_error(path, "there is no folder " .. folder)
  end
  local stat = uv.fs_lstat(path)
  if stat and stat.type ~= "socket" then listen_error(path, "there is a file, and no socket") end
  if stat and is_taken(path) then listen_error(path, "another process listens there") end
  if stat then os.remove(path) end
  local pipe = uv.new_pipe(false)
  local ok, err = pipe:bind(path)
  -- nobody can connect between bind and listen
  if ok then ok, err = uv.fs_chmod(path, tonumber("600", 8)) end
  local self = setmetatable({ path = path, pipe = pipe, connections = {},
    audits = not options or options.audit ~= false }, Console)
  if ok then
    ok, err = pipe:listen(16, function(failure)
      local client = uv.new_pipe(false)
      if not failure and pipe:accept(client) then serve(self, client) else client:close() end
    end)
  end
  if not ok then
    pipe:close()
    listen_error(path, err)
  end
  pipe:unref()
  require("neap.live").watch() -- Ctrl-C has to end a line that does not wait
  return self
end

--- console.on_socket(fd, on_close): serves one client on a connected socket; on_close is called
-- when it is gone.
function M.on_socket(fd, on_close)
  local pipe = uv.new_pipe(false)
  pipe:open(fd)
  local self = serve({ connections = {}, on_close = on_close }, pipe)
  pipe:ref() -- the process lives for this one
  return self
end

return M
