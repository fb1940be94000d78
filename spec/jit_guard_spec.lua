local guard = require "neap.jit_guard"

describe("machine code", function()
  it("with a call and then an XCHG of 32 bits is wrong", function()
    assert.is_true(guard.is_wrong "\1\2\232\0\255\146\10\146\3")
    assert.is_true(guard.is_wrong "\232\1\2\3\4\146")
  end)

  it("with one of 64 bits, or none, is right", function()
    assert.is_false(guard.is_wrong "\232\1\2\3\4\72\146")
    assert.is_false(guard.is_wrong "\232\1\2\3\146\4")
    assert.is_false(guard.is_wrong "\146\1\2\3\4\5")
    assert.is_false(guard.is_wrong "")
  end)

  it("that was dropped is made again, with the same result", function()
    local sum, list = 0, { a = 1, b = 2, c = 3 }
    for i = 1, 400 do
      if i % 100 == 0 then jit.flush() end
      for _, v in pairs(list) do sum = sum + v end
    end
    assert.equal(2400, sum)
  end)
end)
