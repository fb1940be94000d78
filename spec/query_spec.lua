local check = require "support.model_check"
local random = require "support.model_random"
local case = require "support.case" (it)

describe("a random query", function()
  for shape = 1, random.shapes do
    case(("of shape %d answers as a look at every row would"):format(shape), function()
      local g = random.new(1000 + shape)
      local Thing = g:define("fuzz" .. shape, shape)
      local mirror = {}
      for _ = 1, 3 do
        g:write(Thing, mirror, 300)
        assert.same({}, check(Thing))
        local places = random.places(Thing, mirror)
        for _ = 1, 400 do
          local q = g:query(Thing, mirror)
          local want = random.answer(q, places)
          local query = random.run(Thing, q)
          local text = random.describe(q)
          assert.same(want, query:ids(), text)
          assert.equal(#want, query:count(), text)
          local first = query:first()
          assert.equal(want[1], first and first[Thing.primary], text)
        end
      end
    end)
  end
end)
