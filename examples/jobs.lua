-- jobs: a queue of jobs on a Redis stream, its workers, and an HTTP API, in one process.
--
--   build/neap examples/jobs.lua [port] [name]
--   curl -d '{"kind": "count", "args": {"to": 50}}' http://127.0.0.1:8080/jobs
--   curl http://127.0.0.1:8080/jobs/ID            # as it is now
--   curl http://127.0.0.1:8080/jobs/ID?wait=10    # at its end, or after 10 s
--   curl -d '{"kind": "fail"}' http://127.0.0.1:8080/jobs
--   curl http://127.0.0.1:8080/dead               # where it is after 3 attempts
--
-- A job is done at least once: kill -9 this program in the middle of one and start it
-- again, and the job is done. SIGTERM hands the jobs that run back. Several processes
-- may share the work, each with a name of its own.
local neap = require "neap"
local http = require "neap.http"
local json = neap.json
local redis = neap.redis()
local app = http.app()
local stream, group, name = "jobs", "workers", arg[2] or "main"
local workers, attempts, pause = 4, 3, 1 -- at once, for each job, seconds between two
local longest = 25 -- seconds for a job: less than half of consume's claim_after
local kept = 24 * 3600 -- seconds that a job may be asked for after its end

-- kinds of jobs: functions of their arguments. A job may be done twice; an error is a
-- failed attempt; progress(part) tells how far it is.
local kinds = {}

function kinds.count(args, progress)
  local to = tonumber(args.to) or 10
  for i = 1, to do
    neap.sleep(0.1)
    progress(i / to)
  end
  return { counted = to }
end

function kinds.fail() error("this one always fails", 0) end

-- change sets fields of a job and tells those who wait for it, all with what also(tx)
-- does, or nothing of it.
local function change(id, fields, also)
  redis:multi(function(tx)
    tx:hset("job:" .. id, fields)
    tx:publish("job:" .. id, json.encode(fields))
    if also then also(tx) end
  end)
end

-- finish takes a job off the stream too: if this process dies before consume has
-- acknowledged it, it is not done again.
local function finish(entry, fields)
  local id = entry.fields.id
  change(id, fields, function(tx)
    tx:xdel(stream, entry.id)
    tx:expire("job:" .. id, kept)
    if fields.status == "dead" then tx:rpush("jobs:dead", id) end
  end)
end

-- hand_back puts a job on the stream anew, so that this delivery does not count.
local function hand_back(entry)
  change(entry.fields.id, { status = "queued" }, function(tx)
    tx:xdel(stream, entry.id)
    tx:xadd(stream, "*", entry.fields)
  end)
end

local function run(entry)
  local id = entry.fields.id
  local job = redis:hgetall("job:" .. id)
  change(id, { status = "running", attempts = entry.deliveries })
  local ok, result = pcall(neap.timeout, longest, kinds[job.kind], json.decode(job.args),
    function(part) change(id, { progress = part }) end)
  if ok then return finish(entry, { status = "done", result = json.encode(result) }) end
  if neap.is_error(result, "cancelled") then -- the process was told to end
    neap.shield(hand_back, entry)
  else
    change(id, { status = "failed", error = tostring(result) })
  end
  error(result, 0)
end

-- worker does jobs one after the other. An error ends a loop, and leaves the entry that
-- it was at to the next one.
local function worker(consumer)
  local options = { group = group, consumer = consumer, count = 1, max_deliveries = attempts,
    dead = function(entry) finish(entry, { status = "dead" }) end }
  while true do
    local _, err = pcall(function()
      for entry in redis:consume(stream, options) do run(entry) end
    end)
    if neap.is_error(err, "cancelled") then return end
    neap.log.warn("%s: %s", consumer, tostring(err))
    neap.sleep(pause)
  end
end

-- read returns a job as the API shows it; nil if there is none.
local function read(id)
  local job = redis:hgetall("job:" .. id)
  if not job.kind then return nil end
  return { id = id, kind = job.kind, status = job.status, args = json.decode(job.args),
    attempts = tonumber(job.attempts), progress = tonumber(job.progress), error = job.error,
    result = job.result and json.decode(job.result) }
end

local function is_over(job) return job.status == "done" or job.status == "dead" end

app:post("/jobs", function(req)
  local job = type(req.json) == "table" and req.json or {}
  local id, args = neap.token(8), job.args or {}
  if not kinds[job.kind] then http.fail(422, "there is no such kind of job") end
  if type(args) ~= "table" then http.fail(422, "args has to be an object") end
  change(id, { kind = job.kind, args = json.encode(args), status = "queued" }, function(tx)
    tx:xadd(stream, "*", { id = id })
  end)
  return { status = 202, json = { id = id }, headers = { Location = "/jobs/" .. id } }
end)

app:get("/jobs/:id", function(req)
  local id, seconds = req.params.id, tonumber((req.query.wait or ""):match "^%d%d?$")
  local job = read(id)
  if not job then return 404 end
  if seconds and not is_over(job) then
    local sub = redis:subscribe("job:" .. id)
    pcall(neap.timeout, seconds, function()
      repeat job = read(id) until is_over(job) or not sub:next() -- subscribed before the look
    end)
    sub:close()
  end
  return { json = job }
end)

app:get("/dead", function() return { json = json.array(redis:lrange("jobs:dead", 0, -1)) } end)

for i = 1, workers do neap.spawn(worker, name .. "-" .. i) end
print(app:listen(tonumber(arg[1]) or 8080).url .. "/")
