-- model_cli: `neap model COMMAND FILE.lua [MODEL...]`, what is done to models from a
-- terminal. Internal.
local uv = require "luv"
local core = require "neap.core.model"
local errors = require "neap.core.error"
local util = require "neap.core.util"
local task = require "neap.task"
local layout = require "neap.layout"
local model_stats = require "neap.model_stats"
local model_sync = require "neap.model_sync"
local monotonic = util.monotonic
local count_text, bytes_text, duration_text = layout.count, layout.bytes, layout.duration
local plural, table_text = layout.plural, layout.columns

local usage = [=[
usage: neap model COMMAND FILE.lua [MODEL...] [options]

  list      the models: rows, time to live, whether the definition is the
            stored one, indexes
  sync      stores the definitions, builds indexes that are new
  verify    compares the indexes with the rows; --repair mends them
  drop      deletes all rows, indexes and the definition, if you agree;
            --yes does not ask
  stats     rows, segments, memory by kind of key (an estimate)

FILE.lua is run first: it should only define models, or require files that do.
A service that it starts ends with the command. Without a MODEL all that it
has defined are meant. Which Redis is used, and where a private one keeps its
data, is decided as for a script FILE.lua (neap --help).

The status is 0, 1 if something failed or verify found what was not repaired,
2 if the command line is wrong.]=]

local function report(text)
  io.stderr:write("neap: ", text, "\n")
end

-- progress ------------------------------------------------------------------

-- On a terminal progress is one line, rewritten at most 10 times a second;
-- elsewhere it is a line every 5 s.
local BAR = 24 -- columns
local Progress = {}
Progress.__index = Progress

local function terminal_width()
  local tty = uv.new_tty(2, false)
  if not tty then return 80 end
  local width = tty:get_winsize()
  tty:close()
  return width and width > 0 and width or 80
end

local function new_progress(name)
  local is_terminal = uv.guess_handle(2) == "tty"
  return setmetatable({ name = name, width = is_terminal and terminal_width(),
    next_at = is_terminal and 0 or monotonic() + 5 }, Progress)
end

--- draw rewrites the line: a bar between two texts, if there is room for one.
function Progress:draw(left, right, share)
  if share and #left + #right + BAR + 4 < self.width then
    local full = math.floor(BAR * share)
    left = ("%s [%s%s]"):format(left, ("="):rep(full), (" "):rep(BAR - full))
  end
  local line = (left .. " " .. right):sub(1, self.width - 1)
  io.stderr:write("\r", line, "\27[K")
  self.is_drawn = true
end

--- show is told that `done` of `total` (nil if that is not known) are done of
-- what is worked at.
function Progress:show(done, total, what)
  local now = monotonic()
  if what ~= self.what or not self.since then
    self.what, self.since, self.first = what, now, done
  end
  if now < self.next_at then return end
  self.next_at = now + (self.width and 0.1 or 5)
  local words, share = {}, nil
  if total and total > 0 then
    share = math.min(done / total, 1)
    words[1] = ("%3d%%"):format(share * 100)
  end
  words[#words + 1] = count_text(done) .. (total and "/" .. count_text(total) or "")
  local rate = (done - self.first) / (now - self.since)
  if now > self.since and rate > 0 then
    words[#words + 1] = count_text(rate) .. "/s"
    if total then -- rows that came meanwhile may make it less than done
      words[#words + 1] = "ETA " .. duration_text(math.max(total - done, 0) / rate)
    end
  end
  local left = self.name .. (what and " " .. what or "")
  local right = table.concat(words, "  ")
  if self.width then
    self:draw(left, right, share)
  else
    io.stderr:write(left, ": ", right, "\n")
  end
end

--- finish clears the line, or ends it where the work was cut short.
function Progress:finish(is_cut)
  if self.is_drawn then io.stderr:write(is_cut and "\n" or "\r\27[K") end
  self.is_drawn = false
end

-- each calls work(model, progress) for one model after the other; it returns a text to
-- print, and true if that is bad news. A failure is reported, and the others go on.
-- Returns the status.
local function each(models, work)
  local status = 0
  for _, model in ipairs(models) do
    local line = new_progress(model.name)
    local ok, text, is_bad = pcall(work, model, function(...) line:show(...) end)
    local was_cancelled = not ok and errors.is_error(text, "cancelled")
    line:finish(was_cancelled)
    if was_cancelled then error(text, 0) end
    if not ok then
      report(model.name .. ": " .. tostring(text))
    elseif text then
      print(text)
    end
    if not ok or is_bad then status = 1 end
  end
  return status
end

-- commands ------------------------------------------------------------------

local commands = {}

local kind_names = { bitmap = "bitmap", set = "set", packed = "packed column",
  zset = "ordered", lex = "ordered text", unique = "unique", compound = "compound" }

-- kinds_in returns what a line of the definition says of indexes. Of the types "set of ..."
-- alone has a word in common with them; behind "primary" stand names of fields.
local function kinds_in(line)
  local kinds = {}
  for word in line:gsub("^set of", ""):gsub(" primary.*", ""):gmatch("%S+") do
    kinds[#kinds + 1] = kind_names[word]
  end
  return table.concat(kinds, " and ") .. (line:find(" building$") and " (building)" or "")
end

local function index_kinds(model)
  local indexes = {}
  for name, line in core.schema(model.core):gmatch("\n(%S+) ([^\n]*)") do
    local kinds = kinds_in(line)
    if kinds ~= "" then indexes[#indexes + 1] = name .. ": " .. kinds end
  end
  return #indexes > 0 and table.concat(indexes, ", ") or "none"
end

local function ttl_text(ttl)
  if not ttl then return "none" end
  return ttl == true and "by row" or duration_text(ttl)
end

-- state_of says whether what is stored is what the file defines.
local function state_of(model)
  if not model.redis:call("GET", core.keys(model.core).schema) then return "not stored" end
  if not model_sync.adopt(model) then return "needs sync" end
  return #core.building(model.core) > 0 and "under construction" or "in use"
end

function commands.list(models)
  local lines = { { "model", "rows", "ttl", "definition", "indexes" } }
  local status = each(models, function(model, progress)
    lines[#lines + 1] = { model.name, count_text(model_stats.count(model, progress)),
      ttl_text(model.ttl), state_of(model), index_kinds(model) }
  end)
  if #lines > 1 then print(table_text(lines, { false, true })) end
  return status
end

-- build_times returns a progress function that notes how long each index took, and the list
-- of notes.
local function build_times(progress)
  local notes, before, last = {}, monotonic(), nil
  return function(done, total, what)
    local now = monotonic()
    if not last or last.what ~= what then
      last = { what = what, since = before }
      notes[#notes + 1] = last
    end
    last.rows, last.seconds, before = done, now - last.since, now
    progress(done, total, what)
  end, notes
end

function commands.sync(models)
  return each(models, function(model, progress)
    local note, notes = build_times(progress)
    local text = model.name .. ": " .. model:sync { progress = note }
    local built = {}
    for i, n in ipairs(notes) do
      built[i] = ("%s: %s in %s"):format(n.what, plural(n.rows, "row"), duration_text(n.seconds))
    end
    if #built > 0 then text = ("%s (built %s)"):format(text, table.concat(built, "; ")) end
    return text
  end)
end

function commands.verify(models, options)
  return each(models, function(model, progress)
    local found = model:verify { repair = options.repair, progress = progress }
    local words, wrong = {}, 0
    for i, name in ipairs { "ghosts", "missing", "uniques", "lost" } do
      words[i] = name .. " " .. count_text(found[name])
      wrong = wrong + found[name]
    end
    if options.repair then words[#words + 1] = "repaired " .. count_text(found.repaired) end
    local summary = ("%s: %s; %s"):format(model.name, plural(found.rows, "row"),
      table.concat(words, ", "))
    local lines = { summary, unpack(found.problems) }
    return table.concat(lines, "\n  "), wrong > (options.repair and found.repaired or 0)
  end)
end

-- ask puts a question on the terminal and returns whether the answer is yes. io.read would
-- keep the loop waiting, and Ctrl-C with it.
local function ask(question)
  io.stderr:write(question, " [y/N] ")
  local tty, answered, answer = assert(uv.new_tty(0, true)), task.event(), ""
  tty:read_start(function(_, data)
    answer = data and answer .. data
    if not data or data:find("\n") then
      tty:read_stop()
      answered:set()
    end
  end)
  local ok, err = pcall(answered.wait, answered)
  tty:close()
  if not ok or not answer then io.stderr:write("\n") end
  if not ok then error(err, 0) end
  local word = (answer or ""):lower():match("^%s*(%a*)%s*$")
  return word == "y" or word == "yes"
end

function commands.drop(models, options)
  return each(models, function(model, progress)
    local rows = plural(model_stats.count(model), "row")
    if not options.yes and not ask(("drop %s: %s?"):format(model.name, rows)) then
      return model.name .. ": kept"
    end
    model:drop { progress = progress }
    return ("%s: dropped, %s"):format(model.name, rows)
  end)
end

function commands.stats(models)
  return each(models, function(model, progress)
    local stats = model_stats.read(model, { progress = progress })
    local total, lines = 0, {}
    for i, m in ipairs(stats.memory) do
      total = total + m.bytes
      lines[i] = { " " .. m.name, bytes_text(m.bytes), plural(m.keys, "key") }
    end
    local summary = ("%s: %s, %s, about %s"):format(model.name, plural(stats.rows, "row"),
      plural(stats.segments, "segment"), bytes_text(total))
    return #lines > 0 and summary .. "\n" .. table_text(lines, { false, true, true }) or summary
  end)
end

-- the command line ----------------------------------------------------------

local known = "list, sync, verify, drop, stats"
local command_of = { ["--repair"] = "verify", ["--yes"] = "drop" }

-- parse returns { command, file, names, yes, repair }, or nil and what is wrong.
local function parse(argv)
  local o = { command = argv[2], names = {} }
  if not o.command then return nil, "model needs a command: " .. known end
  if not commands[o.command] then
    return nil, ("unknown command 'model %s' (%s are known)"):format(o.command, known)
  end
  for i = 3, #argv do
    local a = argv[i]
    if command_of[a] == o.command then
      o[a:sub(3)] = true
    elseif command_of[a] then
      return nil, ("%s is for model %s"):format(a, command_of[a])
    elseif a:sub(1, 1) == "-" and a ~= "-" then
      return nil, ("unknown option %s (neap model --help lists them)"):format(a)
    elseif not o.file then
      o.file = a
    else
      o.names[#o.names + 1] = a
    end
  end
  if not o.file then
    return nil, ("model %s needs a FILE.lua that defines the models"):format(o.command)
  end
  if o.command == "drop" and not o.yes
    and not (uv.guess_handle(0) == "tty" and uv.guess_handle(2) == "tty") then
    return nil, "model drop: there is no terminal to ask at; --yes drops without asking"
  end
  return o
end

-- choose returns the models with these names, all without names; or nil and what is wrong.
local function choose(names, file)
  local defined, all, models = require("neap.model").defined, {}, {}
  for name in pairs(defined) do all[#all + 1] = name end
  table.sort(all)
  if #all == 0 then return nil, file .. " defines no models" end
  for i, name in ipairs(#names > 0 and names or all) do
    models[i] = defined[name]
    if not models[i] then
      return nil, ("%s defines no model '%s' (%s are known)"):format(file, name,
        table.concat(all, ", "))
    end
  end
  return models
end

local function refuse(text)
  report(text)
  util.stop(2)
end

--- model_cli(argv, run_script): does what `neap model` is told to, and ends the process.
-- run_script(argv, place) runs a script.
return function(argv, run_script)
  if argv[2] == "--help" or argv[2] == "-h" then return print(usage) end
  local options, wrong = parse(argv)
  if not options then return refuse(wrong) end
  run_script({ [0] = argv[0], options.file }, 1)
  local models
  models, wrong = choose(options.names, options.file)
  if not models then return refuse(wrong) end
  util.stop(commands[options.command](models, options))
end
