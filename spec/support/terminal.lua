-- terminal: a program at a real terminal, which tmux draws: keys go in, the screen is read.
--
--   local t = terminal.start(neap_path .. " -i app.lua", { env = { A = "1" }, width = 80 })
--   t:keys("1 + 1", "Enter")   t:wait_for "2"   t:screen()   t:close()
local neap = require "neap"
local process = require "support.process"
local M = {}

local Terminal = {}
Terminal.__index = Terminal

local count = 0

local function tmux(self, ...)
  return process.start("/usr/bin/env", { "tmux", "-L", self.name, "-f", "/dev/null", ... }):wait()
end

local function quoted(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- start(command, options): runs a shell command in a terminal; options: env, width, height.
-- When it has ended, "ENDED status" stands on the screen.
function M.start(command, options)
  options = options or {}
  count = count + 1
  local name = ("neap-spec-%d-%d"):format(require("luv").os_getpid(), count)
  local self = setmetatable({ name = name }, Terminal)
  local words = { "env" }
  for variable, value in pairs(options.env or {}) do
    words[#words + 1] = variable .. "=" .. quoted(value)
  end
  words[#words + 1] = command
  local r = tmux(self, "new-session", "-d", "-x", tostring(options.width or 80), "-y",
    tostring(options.height or 24), table.concat(words, " ") .. "; echo ENDED $?; sleep 100")
  assert(r.status == 0, r.err)
  return self
end

--- keys(...): text is typed as it is; names of keys are tmux's: Enter, Tab, Up, C-c, C-d.
function Terminal:keys(...)
  for i = 1, select("#", ...) do
    local key = (select(i, ...))
    local is_name = key:find "^C%-.$" or key == "Enter" or key == "Tab" or key == "Up"
      or key == "Left" or key == "Escape" or key == "BSpace"
    if is_name then tmux(self, "send-keys", key) else tmux(self, "send-keys", "-l", key) end
  end
  return self
end

--- screen(): what stands there, without empty lines at the end.
function Terminal:screen()
  return (tmux(self, "capture-pane", "-p").out:gsub("[ \n]+$", ""))
end

--- wait_for(text, pattern): until text (or a Lua pattern, with true) stands on the screen, which is
-- returned.
function Terminal:wait_for(text, is_pattern)
  local ok, screen = pcall(neap.timeout, 20, function()
    while true do
      local now = self:screen()
      if now:find(text, 1, not is_pattern) then return now end
      neap.sleep(0.03)
    end
  end)
  if not ok then error(("%q never came; the screen:\n%s"):format(text, self:screen()), 2) end
  return screen
end

--- resize(width, height)
function Terminal:resize(width, height)
  tmux(self, "resize-window", "-x", tostring(width), "-y", tostring(height))
end

--- close(): ends it.
function Terminal:close()
  tmux(self, "kill-server")
end

return M
