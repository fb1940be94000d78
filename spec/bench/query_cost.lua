-- query_cost: what the constants stand for by which host/model/plan.c weighs plans, and where
-- one way of answering a query overtakes another.
--
--   build/neap spec/bench/query_cost.lua [rows]      (1000000, which is the most)
package.path = "spec/bench/support/?.lua;" .. package.path
local measure = require "measure"
local seed = require "seed"
local neap = require "neap"
local open = require("neap.query").open
local core = require "neap.core.model"
local model, field = neap.model, neap.field
local rows_wanted = math.min(tonumber(arg[1]) or 1000000, 1000000)
local writers, batch, begin = 4, 1000, 1700000000
local prime = 1000003 -- above the rows: n * factor % prime is another for each n
local factor = 611953
local redis = neap.redis "memory:"
measure.pin(redis)

local Item = model.define("item", {
  id = field.uuid { primary_key = true },
  kind = field.enum { "item", required = true, index = true },
  half = field.enum { "one", "other", required = true, index = true },
  tag = field.string { index = true }, -- no row has one
  at = field.time { required = true, sort = true },
  narrow = field.integer { required = true, min = 0, max = 200, index = true },
  shuffled = field.integer { required = true, min = 0, max = prime, index = true },
  plain = field.integer { required = true }, -- the same without an index
}, { redis = redis })

local function attributes(n)
  local shuffled = n * factor % prime
  return { id = seed.id(n), kind = "item", half = n % 2 == 0 and "one" or "other",
    at = begin + n, narrow = n % 200, shuffled = shuffled, plain = shuffled }
end

local function fill()
  measure.concurrently(writers, math.ceil(rows_wanted / batch), function(i)
    local list = {}
    for n = (i - 1) * batch + 1, math.min(i * batch, rows_wanted) do
      list[#list + 1] = attributes(n)
    end
    Item:create_many(list)
  end)
end

-- matching is a range of the shuffled field, or of its copy, that n rows are in.
local function matching(n) return model.between(0, math.floor(n / rows_wanted * prime)) end

-- entries is a range of the ordered index, of n rows from the middle.
local function entries(n)
  local from = begin + math.floor((rows_wanted - n) / 2)
  return model.between(from + 1, from + n)
end

-- measuring -----------------------------------------------------------------

-- time_of returns the median time of a call, in milliseconds, and the least processor time
-- of several rounds, in nanoseconds, the host's and the server's together.
local function time_of(fn)
  local once = measure.median(3, fn)
  local calls = math.max(3, math.min(200, math.floor(150 / once)))
  local least, median = math.huge, nil
  for _ = 1, 3 do
    local cost = measure.cost(redis, calls, fn)
    local ns = (cost.own + cost.server) * 1000
    if ns < least then least, median = ns, cost.median end
  end
  return median, least
end

local function processor_of(fn)
  local _, ns = time_of(fn)
  return ns
end

-- slope of the line through the points, by least squares.
local function slope(points)
  local n, x, y, xx, xy = #points, 0, 0, 0, 0
  for _, p in ipairs(points) do
    x, y, xx, xy = x + p[1], y + p[2], xx + p[1] * p[1], xy + p[1] * p[2]
  end
  return (n * xy - x * y) / (n * xx - x * x)
end

local function on_one_line(plan) return (plan:gsub("\n%s*", "; "):gsub("; $", "")) end

-- plan_of_count returns the plan of a count and the bytes of columns that it reads.
local function plan_of_count(q)
  local run = open(q, { counted = true })
  return core.query_explain(run), core.query_costs(run).column_bytes
end

-- report prints a constant of plan.c beside the slope of the points.
local function report(name, points, plan)
  local assumed
  for line in io.lines "host/model/plan.c" do
    assumed = assumed or tonumber(line:match("const double " .. name .. " = ([%d.]+)"))
  end
  print(("%-14s %8.2f %10.2f   %s"):format(name, assumed, slope(points), on_one_line(plan)))
  local list = {}
  for _, p in ipairs(points) do list[#list + 1] = ("%d: %.0f"):format(p[1], p[2] / 1000) end
  print(("%-34s   us for %s"):format("", table.concat(list, ", ")))
end

-- points measures fn(x) for each x; x_of, if there is one, says what x amounts to.
local function points_of(list, fn, x_of)
  local points = {}
  for i, x in ipairs(list) do
    points[i] = { x_of and x_of(x) or x, processor_of(function() return fn(x) end) }
  end
  return points
end

-- the constants -------------------------------------------------------------

-- Keys that are absent; what it takes to read the values of the condition is left out, by a
-- query that asks for none.
local function report_command()
  local function q(n)
    local values = {}
    for i = 1, n do values[i] = "absent " .. i end
    return Item:where { tag = values }
  end
  local segments = math.ceil(rows_wanted / 65536)
  local points = {}
  for i, n in ipairs { 10, 40, 100 } do
    local asked = q(n)
    points[i] = { 2 * n * segments, processor_of(function() asked:count() end)
      - processor_of(function() asked:limit(0):all() end) }
  end
  report("cost_command", points, (plan_of_count(q(10))))
end

local function report_byte()
  local list = { { half = "one" }, { narrow = model.le(99) }, { shuffled = matching(5e5) } }
  report("cost_byte", points_of(list, function(c) return Item:where(c):count() end,
    function(c) return (select(2, plan_of_count(Item:where(c)))) end),
    (plan_of_count(Item:where(list[2]))))
end

local function report_entry()
  local function q(n) return Item:where { at = entries(n), half = "one" } end
  report("cost_entry", points_of({ 4000, 20000, 100000 }, function(n) return q(n):count() end),
    (plan_of_count(q(20000))))
end

local function report_walked()
  local function q(n) return Item:where { shuffled = matching(n) }:order_by("at"):limit(100) end
  report("cost_walked", points_of({ rows_wanted / 10, rows_wanted / 50, rows_wanted / 200 },
    function(n) return q(n):all() end,
    function(n) return tonumber(q(n):explain { analyze = true }:match "(%d+) entries walked") end),
    q(rows_wanted / 50):explain())
end

local function report_row()
  local function q(n) return Item:rows():limit(n) end
  report("cost_row", points_of({ 10, 200, 2000, 10000 }, function(n) return q(n):all() end),
    q(2000):explain())
end

local function report_ranked()
  local function q(n) return Item:where { shuffled = matching(n) }:order_by("narrow"):limit(10) end
  report("cost_ranked", points_of({ rows_wanted / 20, rows_wanted / 4, rows_wanted * 0.9 },
    function(n) return q(n):all() end), q(rows_wanted / 4):explain())
end

local function report_sorted()
  local function q(n) return Item:where { shuffled = matching(n) } end
  local points = {}
  for i, n in ipairs { 200, 1000, 3000 } do
    points[i] = { n, processor_of(function() q(n):order_by("at"):all() end)
      - processor_of(function() q(n):all() end) }
  end
  report("cost_sorted", points, q(1000):order_by("at"):explain())
end

-- where one way overtakes another -------------------------------------------

-- way_of names the way that a query takes.
local function way_of(q)
  local plan = q:explain()
  local way = plan:find "walk the" and plan:find "testing bits" and "walk, bits"
    or plan:find "walk the" and "walk, rows" or plan:find "tested on the rows" and "some columns"
    or "columns"
  return plan:find "sort the" and way .. ", sort" or way
end

local function cell(q)
  local ms, ns = time_of(function() return q:all() end)
  return ("%-16s %9.3f %9.3f"):format(way_of(q), ms, ns / 1e6)
end

local function header(first, ...)
  local line = { ("%-10s"):format(first) }
  for _, name in ipairs { ... } do
    line[#line + 1] = ("%-16s %9s %9s"):format(name, "ms", "processor")
  end
  print(table.concat(line, "  "))
end

-- The rest is tested on the rows if it has no index; an alternative cannot be walked along.
local function report_driving()
  print "\na range of an ordered index, and a condition that one row in 50 fulfils: all rows"
  header("entries", "as planned", "without index", "as alternative")
  for _, n in ipairs { 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000 } do
    local rest, range = matching(rows_wanted / 50), entries(n)
    print(("%-10d  %s  %s  %s"):format(n, cell(Item:where { at = range, shuffled = rest }),
      cell(Item:where({ at = range, plain = rest }, { scan = true })),
      cell(Item:where { model.any { { at = range }, { tag = "absent" } }, shuffled = rest })))
  end
end

-- Ordered by a field that is alike in all rows first, they are fetched and sorted.
local function report_walking(limit)
  print(("\na condition, ordered by an ordered index: the first %d rows"):format(limit))
  header("matching", "as planned", "fetched, sorted")
  for _, n in ipairs { 10, 100, 300, 1000, 3000, 10000, 30000 } do
    local q = Item:where { shuffled = matching(n) }
    print(("%-10d  %s  %s"):format(n, cell(q:order_by("at"):limit(limit)),
      cell(q:order_by("kind"):order_by("at"):limit(limit))))
  end
end

fill()
print(("%d rows; processor time of the host and the server together"):format(rows_wanted))
print(("%-14s %8s %10s   %s"):format("", "plan.c", "measured", "nanoseconds; as planned"))
report_command()
report_byte()
report_entry()
report_walked()
report_row()
report_ranked()
report_sorted()
report_driving()
report_walking(1)
report_walking(10)
report_walking(100)
