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

local rounds = 5

-- calls_of returns how often to call fn for a time that can be measured.
local function calls_of(fn)
  return math.max(3, math.min(200, math.floor(60 / measure.median(3, fn))))
end

-- times_of measures functions in turns, so that what else the machine does hits all alike. It
-- returns the least processor time of a call of each, in nanoseconds, the host's and the
-- server's together, and the median time, in milliseconds.
local function times_of(list)
  local calls, least, medians = {}, {}, {}
  for i, fn in ipairs(list) do calls[i], least[i] = calls_of(fn), math.huge end
  for _ = 1, rounds do
    for i, fn in ipairs(list) do
      local cost = measure.cost(redis, calls[i], fn)
      local ns = (cost.own + cost.server) * 1000
      if ns < least[i] then least[i], medians[i] = ns, cost.median end
    end
  end
  return least, medians
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

-- points_of measures a query's answer for each x of the list: measured_of(x) returns it. The
-- time of another one is taken off, if without_of(x) returns that. amount_of(x) says how much
-- of what is measured there is; x if it is left out.
local function points_of(list, measured_of, without_of, amount_of)
  local fns, points = {}, {}
  for i, x in ipairs(list) do
    fns[i] = measured_of(x)
    if without_of then fns[i + #list] = without_of(x) end
  end
  local ns = times_of(fns)
  for i, x in ipairs(list) do
    points[i] = { amount_of and amount_of(x) or x, ns[i] - (ns[i + #list] or 0) }
  end
  return points
end

-- all, counted: what points_of measures of a query.
local function all(q) return function() return q:all() end end
local function counted(q) return function() return q:count() end end

-- the constants -------------------------------------------------------------

-- Keys that are absent; what it takes to read the values of the condition is taken off, by a
-- query that asks for none.
local function report_command()
  local function q(n)
    local values = {}
    for i = 1, n do values[i] = "absent " .. i end
    return Item:where { tag = values }
  end
  local segments = math.ceil(rows_wanted / 65536)
  report("cost_command", points_of({ 10, 40, 100 }, function(n) return counted(q(n)) end,
    function(n) return all(q(n):limit(0)) end, function(n) return 2 * n * segments end),
    (plan_of_count(q(10))))
end

local function report_byte()
  local list = { { half = "one" }, { narrow = model.le(99) },
    { shuffled = matching(rows_wanted / 2) } }
  report("cost_byte", points_of(list, function(c) return counted(Item:where(c)) end, nil,
    function(c) return (select(2, plan_of_count(Item:where(c)))) end),
    (plan_of_count(Item:where(list[2]))))
end

local function report_entry()
  local function q(n) return Item:where { at = entries(n), half = "one" } end
  report("cost_entry", points_of({ rows_wanted / 250, rows_wanted / 50, rows_wanted / 10 },
    function(n) return counted(q(n)) end), (plan_of_count(q(rows_wanted / 50))))
end

local function report_walked()
  local function q(n) return Item:where { shuffled = matching(n) }:order_by("at"):limit(100) end
  report("cost_walked", points_of({ rows_wanted / 20, rows_wanted / 50, rows_wanted / 150 },
    function(n) return all(q(n)) end, nil,
    function(n) return tonumber(q(n):explain { analyze = true }:match "(%d+) entries walked") end),
    q(rows_wanted / 50):explain())
end

local function report_row()
  local function q(n) return Item:rows():limit(n) end
  report("cost_row", points_of({ 10, 200, 2000, 10000 }, function(n) return all(q(n)) end),
    q(2000):explain())
end

local function report_ranked()
  local function q(n) return Item:where { shuffled = matching(n) }:order_by("narrow"):limit(10) end
  report("cost_ranked", points_of({ rows_wanted / 20, rows_wanted / 4, rows_wanted * 0.9 },
    function(n) return all(q(n)) end), q(rows_wanted / 4):explain())
end

local function report_sorted()
  local function q(n) return Item:where { shuffled = matching(n) } end
  report("cost_sorted", points_of({ 200, 1000, 3000 },
    function(n) return all(q(n):order_by("at")) end, function(n) return all(q(n)) end),
    q(1000):order_by("at"):explain())
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

-- print_ways prints a line of a table: how queries are answered, and how long that takes.
local function print_ways(first, ...)
  local fns, line = {}, { ("%-10d"):format(first) }
  for i, q in ipairs { ... } do fns[i] = all(q) end
  local ns, ms = times_of(fns)
  for i, q in ipairs { ... } do
    line[i + 1] = ("%-16s %9.3f %9.3f"):format(way_of(q), ms[i], ns[i] / 1e6)
  end
  print(table.concat(line, "  "))
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
    print_ways(n, Item:where { at = range, shuffled = rest },
      Item:where({ at = range, plain = rest }, { scan = true }),
      Item:where { model.any { { at = range }, { tag = "absent" } }, shuffled = rest })
  end
end

-- Ordered by a field that is alike in all rows first, they are fetched and sorted.
local function report_walking(limit)
  print(("\na condition, ordered by an ordered index: the first %d rows"):format(limit))
  header("matching", "as planned", "fetched, sorted")
  for _, n in ipairs { 10, 100, 300, 1000, 3000, 10000, 30000 } do
    local q = Item:where { shuffled = matching(n) }
    print_ways(n, q:order_by("at"):limit(limit), q:order_by("kind"):order_by("at"):limit(limit))
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
