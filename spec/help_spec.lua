local neap = require "neap"
local http = require "neap.http"
local help = require "neap.help"
local process = require "support.process"

-- documented tells of the functions in a table that there is no help for.
local function missing(prefix, t, skip)
  local list = {}
  for name, value in pairs(t) do
    if type(name) == "string" and type(value) == "function" and not name:find "^_"
      and not (skip and skip[name]) and not help.find(prefix .. name) then
      list[#list + 1] = prefix .. name
    end
  end
  table.sort(list)
  return list
end

describe("help", function()
  it("has a text for each public function", function()
    for name in pairs(neap.lazy_names) do local _ = neap[name] end -- loads them
    assert.same({}, missing("neap.", neap))
    assert.same({}, missing("neap.json.", neap.json))
    assert.same({}, missing("neap.log.", neap.log))
    assert.same({}, missing("http.", http))
    assert.same({}, missing("model.", neap.model))
    assert.same({}, missing("field.", neap.field))
    assert.same({}, missing("Model:", neap.model.methods))
    assert.same({}, missing("query:", require("neap.query").methods))
    assert.same({}, missing("row:", require "neap.model_row"))
    assert.same({}, missing("app:", getmetatable(http.app()).__index))
    assert.same({}, missing("channel:", getmetatable(neap.channel()).__index))
    assert.same({}, missing("task:", debug.getmetatable(neap.spawn(function() end)).__index))
  end)

  it("has one for each method of a client that is not a command's name", function()
    local r = process.lua [[
      local neap, help = require "neap", require "neap.help"
      for name in pairs(debug.getmetatable(neap.redis "memory:").__index) do
        if not help.find("redis:" .. name) then print(name) end
      end
    ]]
    assert.same({ 0, "", "" }, { r.status, r.out, r.err })
  end)

  it("is the comment that stands in the source", function()
    assert.matches("^neap%.sleep%(seconds%): lets others run", help.find "neap.sleep")
    assert.equal(help.find "neap.sleep", help.find "NEAP.Sleep")
  end)

  it("gives all functions of a name whose owner is left out", function()
    local text = help.find "where"
    assert.matches("Model:where", text, 1, true)
    assert.matches("query:where", text, 1, true)
  end)

  it("lists all of a kind", function()
    assert.matches("^neap.all { fn, ... }: runs them at once", help.list "neap")
    assert.is_nil(help.list "nothing")
  end)

  it("finds a function in the comment that tells of several", function()
    assert.matches("field.time", help.find "field.time", 1, true)
  end)

  it("has nothing for what is not there, nor for what is the host's own", function()
    assert.is_nil(help.find "neap.no_such_thing")
    for _, name in ipairs(help.topics()) do
      assert.is_nil(name:find "^query_" or name:find "^redis_call" or name:find "^router[.:]")
    end
  end)
end)
