-- fuzz_query: random models, rows and queries, each asked in every way there is, against a
-- look at every row. At the first difference it prints the smallest program that shows it.
--
--   QUERIES=100000 SEED=7 build/neap spec/fuzz_query.lua
--   SEED=7 WORLD=12 build/neap spec/fuzz_query.lua      -- one model of them
--   WRITERS=8 SECONDS=60 build/neap spec/fuzz_query.lua -- while tasks write
package.path = "./spec/?.lua;" .. package.path
local neap = require "neap"
local change = require "support.query_change"
local check = require "support.query_check"
local random = require "support.query_random"
local shrink = require "support.query_shrink"
local source = require "support.query_source"
local now = neap.monotonic

local most = tonumber(os.getenv "QUERIES") or 100000
local seed = tonumber(os.getenv "SEED") or os.time() % 1000000
local only = tonumber(os.getenv "WORLD")
local writers = tonumber(os.getenv "WRITERS")
local each_world, each_change = 300, 30 -- queries of a model, and between two changes of its rows
local each_long, each_large = 8, 25 -- models from one with many rows, or two segments, to the next

local function say(fmt, ...)
  io.write(fmt:format(...), "\n")
  io.flush()
end

-- fuzz_world asks n queries of one model. Returns how many it asked, and whether all were
-- answered well.
local function fuzz_world(number, n)
  local g = random.new(seed * 1009 + number)
  local w = g:world("fuzz" .. number, { writes = number % each_long == 0 and 1200 or 400,
    is_large = number % each_large == 0 })
  for i = 1, n do
    if i % each_change == 0 then
      g:end_some(w.model)
      local wrong, text = change(g, w)
      if wrong then
        say("\n-- seed %d, world %d: %s\n-- %s", seed, number, text, wrong)
        return i, false
      end
    end
    local q = g:query(w)
    local wrong, how = check.difference(w, q)
    if wrong then
      say("\n-- seed %d, world %d: %s", seed, number, source.query_text(q))
      say("%s", shrink.report(w, q, how .. ": " .. wrong))
      return i, false
    end
  end
  w.model:drop()
  w.other.model:drop()
  return n, true
end

-- fuzz_all returns the number of queries asked, and whether all were answered well.
local function fuzz_all()
  local started, asked, number, is_good = now(), 0, only and only - 1 or 0, true
  local told = started
  while is_good and asked < most and (not only or number < only) do
    local n
    number = number + 1
    n, is_good = fuzz_world(number, math.min(each_world, most - asked))
    asked = asked + n
    if now() > told + 10 then
      told = now()
      say("%6.1f  %d queries, %d models, %d refused", told - started, asked, number, check.refused)
    end
  end
  say("fuzz: %d queries, %d refused, %d wrong", asked, check.refused, is_good and 0 or 1)
  return is_good
end

-- fuzz_writers asks while tasks write.
local function fuzz_writers()
  return require("support.query_writers").run { seed = seed, writers = writers,
    seconds = tonumber(os.getenv "SECONDS") or 60, say = say }
end

neap.log.level "error"
if not writers then say("fuzz: %d queries, seed %d", most, seed) end
local ok, is_good = xpcall(writers and fuzz_writers or fuzz_all, debug.traceback)
if not ok then say("fuzz: seed %d: %s", seed, tostring(is_good)) end
neap.stop(ok and is_good and 0 or 1)
