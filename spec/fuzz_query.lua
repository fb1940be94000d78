-- fuzz_query: random models, rows and queries, each asked in every way there is, against a
-- look at every row. At the first difference it prints the smallest program that shows it.
--
--   QUERIES=100000 SEED=7 build/neap spec/fuzz_query.lua
--   SEED=7 WORLD=12 build/neap spec/fuzz_query.lua      -- one model of them
--   WRITERS=8 SECONDS=60 build/neap spec/fuzz_query.lua -- while tasks write
package.path = "./spec/?.lua;" .. package.path
local neap = require "neap"
local check = require "support.query_check"
local random = require "support.query_random"
local shrink = require "support.query_shrink"
local source = require "support.query_source"
local now = neap.monotonic

local most = tonumber(os.getenv "QUERIES") or 100000
local seed = tonumber(os.getenv "SEED") or os.time() % 1000000
local only = tonumber(os.getenv "WORLD")
local writers = tonumber(os.getenv "WRITERS")
local each_world, each_large = 300, 25 -- queries of a world; worlds from a large one to the next

local function say(fmt, ...)
  io.write(fmt:format(...), "\n")
  io.flush()
end

local function report(w, q, number)
  say("\n-- seed %d, world %d: %s", seed, number, source.query_text(q))
  say("%s", shrink.report(w, q))
end

-- fuzz returns the number of queries asked, and whether all were answered well.
local function fuzz()
  local started, asked, number = now(), 0, only and only - 1 or 0
  local told = started
  while asked < most and (not only or number < only) do
    number = number + 1
    local g = random.new(seed * 1009 + number)
    local w = g:world("fuzz" .. number, { writes = 400, is_large = number % each_large == 0 })
    for _ = 1, math.min(each_world, most - asked) do
      local q = g:query(w)
      asked = asked + 1
      if check.difference(w, q) then
        report(w, q, number)
        return asked, false
      end
    end
    w.model:drop()
    w.other.model:drop()
    if now() > told + 10 then
      told = now()
      say("%6.1f  %d queries, %d models, %d refused", told - started, asked, number, check.refused)
    end
  end
  return asked, true
end

neap.log.level "error"
local is_good, ok, asked, err
if writers then
  ok, err = xpcall(function()
    is_good = require("support.query_writers").run { seed = seed, writers = writers,
      seconds = tonumber(os.getenv "SECONDS") or 60, say = say }
  end, debug.traceback)
else
  say("fuzz: %d queries, seed %d", most, seed)
  ok, err = xpcall(function()
    asked, is_good = fuzz()
    say("fuzz: %d queries, %d refused, %d wrong", asked, check.refused, is_good and 0 or 1)
  end, debug.traceback)
end
if not ok then say("fuzz: seed %d: %s", seed, tostring(err)) end
neap.stop(ok and is_good and 0 or 1)
