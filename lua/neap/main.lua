-- main: what the command line's arguments mean.
local usage = [=[
usage: neap [options] [script.lua [args...]]
       neap attach PATH [-e CODE]
       neap check FILE.lua...
       neap model list|sync|verify|drop|stats FILE.lua [MODEL...]

  script.lua     runs it; "-" reads it from standard input. Without a script, or
                 -e or -l, neap is a prompt (from a pipe it runs line by line)
  -i             a prompt besides the script
  -e CODE        runs CODE (may be repeated, and come before a script)
  -l NAME        requires the module NAME
  --console PATH opens a console on that socket, for neap attach
  --slow MS      logs what holds the loop up for longer, while it does (100 by
                 default; 0: nothing)
  --max-slice MS ends what holds it up for longer with an error
  --max-memory MB fails a task for which Lua would hold more
  --debug        also tells of tasks that nobody joined, and of repeated queries
  --profile FILE samples where Lua code spends its time, as folded stacks
  -v             prints the version
  -h, --help     prints this
  attach ...     the prompt of a running process (neap attach --help)
  check ...      looks for errors without running (neap check --help)
  model ...      looks after the models that FILE.lua defines (neap model
                 --help); these three as the first argument only: ./model runs
                 a file

The script's arguments are in `arg` and `...`. NEAP_REDIS_URL says which Redis
neap.redis() uses; without it a private redis-server keeps its data in .neap/
beside the script (NEAP_DATA names another folder, NEAP_REDIS=memory a
throw-away server).]=]

local util = require "neap.core.util"

local function fail(text)
  io.stderr:write("neap: ", text, "\n")
  util.stop(2)
end

local valued = { ["--console"] = true, ["--slow"] = true, ["--max-slice"] = true,
  ["--max-memory"] = true,
  ["--profile"] = true }

-- parse returns the steps to take: {kind, text}; where the script stands; and the settings by
-- option.
local function parse(argv)
  local steps, set, i = {}, {}, 1
  while argv[i] do
    local a = argv[i]
    local letter, rest = a:match("^%-([elvhi])(.*)$")
    local long, value = a:match("^(%-%-[%a-]+)=?(.*)$")
    if a == "--help" or letter == "h" and rest == "" then
      steps[#steps + 1] = { "help" }
    elseif letter == "v" and rest == "" then
      steps[#steps + 1] = { "version" }
    elseif letter == "i" and rest == "" or a == "--debug" then
      set[a] = true
    elseif letter == "e" or letter == "l" then
      if rest == "" then
        i = i + 1
        rest = argv[i]
        if not rest then return nil, "-" .. letter .. " needs an argument" end
      end
      steps[#steps + 1] = { letter, rest }
    elseif long and valued[long] then
      if not a:find("=", 1, true) then
        i = i + 1
        value = argv[i]
      end
      if not value or value == "" then return nil, long .. " needs an argument" end
      set[long] = value
    elseif a == "-" or a:sub(1, 1) ~= "-" then
      return steps, i, set
    else
      return nil, "unknown option " .. a .. " (neap --help lists them)"
    end
    i = i + 1
  end
  return steps, nil, set
end

-- set_arg fills `arg` as luajit does: the script at 0, options below it.
local function set_arg(argv, place)
  local t = {}
  for i = 0, #argv do t[i - place] = argv[i] end
  _G.arg = t
  return t
end

local function run_script(argv, place)
  local path = argv[place]
  local args = set_arg(argv, place)
  local chunk, err
  if path == "-" then
    chunk, err = loadstring(io.read("*a"), "=stdin")
  else
    local dir = path:match("^(.*/)") or "./"
    package.path = dir .. "?.lua;" .. dir .. "?/init.lua;" .. package.path
    chunk, err = loadfile(path)
  end
  if not chunk then error(err, 0) end
  return chunk(unpack(args, 1, #args)) -- no frame of ours is left
end

-- milliseconds reads the value of an option, in seconds; nil if it is none.
local function milliseconds(text, default)
  local n = tonumber(text or default)
  return n and n >= 0 and n < 1e9 and n / 1000 or nil
end

-- start_watching does what the options about the running process say. Returns what is wrong.
local function start_watching(set)
  local live = require "neap.live"
  local slow_text = set["--slow"] or os.getenv "NEAP_SLOW"
  local slow = milliseconds(slow_text, set["--debug"] and 50 or 100)
  local max_slice = milliseconds(set["--max-slice"], 0)
  if not slow then
    local name = set["--slow"] and "--slow" or "NEAP_SLOW"
    return name .. ": milliseconds expected, got " .. slow_text
  end
  if not max_slice then
    return "--max-slice: milliseconds expected, got " .. set["--max-slice"]
  end
  local megabytes = tonumber(set["--max-memory"] or 0)
  if not megabytes or not (megabytes >= 0 and megabytes < 1e9) then
    return "--max-memory: megabytes expected, got " .. set["--max-memory"]
  end
  live.debug { slow = slow, max_slice = max_slice }
  if megabytes > 0 then live.debug { max_memory = megabytes * 1024 * 1024 } end
  if set["--debug"] then live.debug { unjoined = true, repeats = true } end
  if set["--console"] then require("neap.console").open(set["--console"]) end
  local path = set["--profile"]
  if path then
    local file, err = io.open(path, "w")
    if not file then return "--profile: " .. err end
    local core = require "neap.core.monitor"
    core.watch(slow, max_slice) -- which holds the profiler
    core.profile_start(1)
    local function finish()
      local stacks = core.profile_stop()
      if stacks then file:write(stacks) file:close() end
    end
    require("neap.at_exit").add(finish)
    local exit = os.exit
    rawset(os, "exit", function(...) -- which ends the process on the spot
      finish()
      return exit(...)
    end)
  end
end

-- start_repl opens the prompt; the process ends with it.
local function start_repl(open_socket)
  local fd = open_socket()
  if not fd then error("no socket for the prompt is to be had", 0) end
  require("neap.console").on_socket(fd, function() util.stop(0) end)
end

-- run_beside runs the script and opens the prompt: when the script has ended, or waits on and on.
local function run_beside(argv, place, open_socket)
  local task = require "neap.task"
  local is_terminal = require("luv").guess_handle(0) == "tty"
  local script = task.spawn(run_script, argv, place)
  local _, err = pcall(task.timeout, is_terminal and 0.2 or 1e9, script.join, script)
  if script:status() == "failed" then
    io.stderr:write("neap: ", tostring(err), "\n")
  end
  start_repl(open_socket)
end

return function(argv, open_socket)
  if argv[1] == "model" then return require "neap.model_cli"(argv, run_script) end
  if argv[1] == "check" then return require "neap.check"(argv) end
  local steps, place, set = parse(argv)
  if not steps then return fail(place) end
  set_arg(argv, place or #argv + 1)
  local wrong = start_watching(set)
  if wrong then return fail(wrong) end
  for _, step in ipairs(steps) do
    local kind, text = step[1], step[2]
    if kind == "help" then
      print(usage)
    elseif kind == "version" then
      print("neap " .. util.version .. " on " .. jit.version)
    elseif kind == "e" then
      local chunk, err = loadstring(text, "=(command line)")
      if not chunk then error(err, 0) end
      chunk()
    else
      _G[text] = require(text)
    end
  end
  if place and set["-i"] then return run_beside(argv, place, open_socket) end
  if place then return run_script(argv, place) end
  if set["-i"] or #steps == 0 then return start_repl(open_socket) end
end
