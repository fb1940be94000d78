-- main: what the command line's arguments mean.
local usage = [=[
usage: neap [options] [script.lua [args...]]
       neap model list|sync|verify|drop|stats FILE.lua [MODEL...]

  script.lua     runs it; "-" reads it from standard input
  -e CODE        runs CODE (may be repeated, and come before a script)
  -l NAME        requires the module NAME
  -v             prints the version
  -h, --help     prints this
  model ...      looks after the models that FILE.lua defines; as the first
                 argument only (neap model --help; ./model runs a file)

The script's arguments are in `arg` and `...`. NEAP_REDIS_URL says which Redis
neap.redis() uses; without it a private redis-server keeps its data in .neap/
beside the script (NEAP_DATA names another folder, NEAP_REDIS=memory a
throw-away server).]=]

local util = require "neap.core.util"

local function fail(text)
  io.stderr:write("neap: ", text, "\n")
  util.stop(2)
end

-- parse returns the steps to take: {kind, text}, and where the script stands.
local function parse(argv)
  local steps, i = {}, 1
  while argv[i] do
    local a = argv[i]
    local letter, rest = a:match("^%-([elvh])(.*)$")
    if a == "--help" or letter == "h" and rest == "" then
      steps[#steps + 1] = { "help" }
    elseif letter == "v" and rest == "" then
      steps[#steps + 1] = { "version" }
    elseif letter == "e" or letter == "l" then
      if rest == "" then
        i = i + 1
        rest = argv[i]
        if not rest then return nil, "-" .. letter .. " needs an argument" end
      end
      steps[#steps + 1] = { letter, rest }
    elseif a == "-" or a:sub(1, 1) ~= "-" then
      return steps, i
    else
      return nil, "unknown option " .. a .. " (neap --help lists them)"
    end
    i = i + 1
  end
  return steps
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
  chunk(unpack(args, 1, #args))
end

return function(argv)
  if argv[1] == "model" then return require "neap.model_cli"(argv, run_script) end
  local steps, place = parse(argv)
  if not steps then return fail(place) end
  if not place and #steps == 0 then
    place = #argv + 1
    argv[place] = "-"
  end
  set_arg(argv, place or #argv + 1)
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
  if place then run_script(argv, place) end
end
