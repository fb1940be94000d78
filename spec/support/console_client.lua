-- console_client: speaks a console's protocol, frame by frame, also wrongly.
--
--   local c = console_client.connect(path)   c:send("L", "1 + 1")   c:receive() --> "R", "2"
local neap = require "neap"
local uv = require "luv"
local M = {}

local Client = {}
Client.__index = Client

--- frame(letter, text): the bytes of a frame.
function M.frame(letter, text)
  local n = #text
  return letter .. string.char(math.floor(n / 16777216), math.floor(n / 65536) % 256,
    math.floor(n / 256) % 256, n % 256) .. text
end

--- open(path): a connection on which nothing was said.
function M.open(path)
  local self = setmetatable({ pipe = uv.new_pipe(false), bytes = "", news = neap.event() }, Client)
  neap.await(function(done) return self.pipe:connect(path, done) end)
  return self
end

--- connect(path): a client that has been greeted.
function M.connect(path)
  local self = M.open(path)
  self:listen()
  self:send("N", "neap console 1")
  assert(self:receive() == "N")
  return self
end

--- client:listen(): begins to read.
function Client:listen()
  self.pipe:read_start(function(err, data)
    if err or not data then self.is_ended = true else self.bytes = self.bytes .. data end
    self.news:set()
  end)
end

function Client:write(bytes)
  pcall(neap.await, function(done) return self.pipe:write(bytes, done) end)
end

function Client:send(letter, text)
  self:write(M.frame(letter, text))
end

--- client:receive(): the next frame's letter and text; nil at the end.
function Client:receive()
  while true do
    if #self.bytes >= 5 then
      local a, b, c, d = self.bytes:byte(2, 5)
      local n = ((a * 256 + b) * 256 + c) * 256 + d
      if #self.bytes >= 5 + n then
        local letter, text = self.bytes:sub(1, 1), self.bytes:sub(6, 5 + n)
        self.bytes = self.bytes:sub(6 + n)
        return letter, text
      end
    end
    if self.is_ended then return nil end
    self.news:clear()
    self.news:wait()
  end
end

--- client:ask(line): the answer's letter and text; output before it is left out.
function Client:ask(line)
  self:send("L", line)
  local letter, text
  repeat letter, text = self:receive() until letter ~= "O"
  return letter, text
end

function Client:close()
  if not self.pipe:is_closing() then self.pipe:close() end
end

return M
