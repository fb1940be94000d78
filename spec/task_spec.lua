local neap = require "neap"
describe("tasks", function()
  it("return results to whoever joins", function()
    local t = neap.spawn(function(a, b) neap.sleep(0.001) return a + b end, 1, 2)
    assert.equal(3, t:join())
  end)
end)
