-- neap.json: exact, strict, arrays told from objects.
local json = require("neap").json
local encode, decode, null = json.encode, json.decode, json.null

local function failure(code, f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  assert.equal("table", type(err))
  assert.equal(code, err.code)
  return err.message
end

local function encode_failure(...)
  return failure("json.encode", encode, ...)
end

local function decode_failure(text)
  return failure("json.decode", decode, text)
end

local function nest(depth)
  local t = {}
  for _ = 2, depth do
    t = { t }
  end
  return t
end

describe("json.encode", function()
  it("writes null, booleans and strings", function()
    assert.equal("null", encode(nil))
    assert.equal("null", encode())
    assert.equal("null", encode(null))
    assert.equal("true", encode(true))
    assert.equal("false", encode(false))
    assert.equal('"hello"', encode("hello"))
    assert.equal('""', encode(""))
  end)

  it("writes numbers exactly and shortly", function()
    local cases = {
      { 0, "0" }, { -0.0, "-0" }, { 1, "1" }, { -17, "-17" }, { 0.1, "0.1" },
      { 0.30000000000000004, "0.30000000000000004" }, { 1e15, "1000000000000000" },
      { 2 ^ 53, "9007199254740992" }, { -2 ^ 53, "-9007199254740992" },
      { 2 ^ 63, "9.223372036854776e18" }, { 1e21, "1e21" }, { 1e-7, "1e-7" },
      { 5e-324, "5e-324" }, { 1.7976931348623157e308, "1.7976931348623157e308" },
      { 2.2250738585072014e-308, "2.2250738585072014e-308" },
      { 123456789.123, "123456789.123" }, { 1 / 3, "0.3333333333333333" },
      { 19.99, "19.99" }, { -0.0001, "-0.0001" },
    }
    for _, case in ipairs(cases) do
      assert.equal(case[2], encode(case[1]))
    end
  end)

  it("refuses nan and the infinities and names the path", function()
    assert.equal("cannot encode nan", encode_failure(0 / 0))
    assert.equal("cannot encode nan at .items[2].price",
      encode_failure({ items = { { price = 1 }, { price = 0 / 0 } } }))
    assert.equal("cannot encode inf at [1]", encode_failure({ math.huge }))
    assert.equal("cannot encode -inf at .x", encode_failure({ x = -math.huge }))
  end)

  it("refuses what has no JSON", function()
    assert.equal("cannot encode function at .f", encode_failure({ f = print }))
    assert.equal("cannot encode thread",
      encode_failure(coroutine.create(function() end)))
    assert.equal("cannot encode cdata", encode_failure(1LL))
    assert.equal("cannot encode userdata at [1]", encode_failure({ io.stdout }))
  end)

  it("escapes quotes, backslashes and every control character", function()
    local short = { [8] = "\\b", [9] = "\\t", [10] = "\\n", [12] = "\\f", [13] = "\\r" }
    for byte = 0, 31 do
      local escaped = short[byte] or ("\\u%04x"):format(byte)
      assert.equal('"a' .. escaped .. 'b"', encode("a" .. string.char(byte) .. "b"))
      assert.equal("a" .. string.char(byte) .. "b", decode('"a' .. escaped .. 'b"'))
    end
    assert.equal([["\"\\\""]], encode('"\\"'))
    assert.equal('"\127"', encode("\127"))
  end)

  it("writes </ so that a script element can hold it", function()
    assert.equal([["<\/script>"]], encode("</script>"))
    assert.equal('"/a/<b/"', encode("/a/<b/"))
    assert.equal('"/"', encode("/"))
    assert.equal([[{"<\/":"<\/"}]], encode({ ["</"] = "</" }))
    assert.equal([["<<\//"]], encode("<<//"))
    assert.equal("</script>", decode(encode("</script>")))
  end)

  it("passes UTF-8 of every length", function()
    local text = "\194\128 \223\191 \224\160\128 \237\159\191 \238\128\128 \239\191\191 "
      .. "\240\144\128\128 \244\143\191\191 \226\128\168"
    assert.equal('"' .. text .. '"', encode(text))
    assert.equal(text, decode('"' .. text .. '"'))
  end)

  it("refuses bytes that are not UTF-8, with path and byte", function()
    assert.equal("invalid UTF-8 at byte 3 of the string", encode_failure("ab\255"))
    assert.equal("invalid UTF-8 at byte 1 of the string at .a[2]",
      encode_failure({ a = { "", "\128" } }))
    assert.equal('invalid UTF-8 at byte 2 of the key at ["x?"]',
      encode_failure({ ["x\200"] = 1 }))
  end)

  it("tells arrays from objects", function()
    assert.equal("[1,2,3]", encode({ 1, 2, 3 }))
    assert.equal("{}", encode({}))
    assert.equal("[]", encode(json.array()))
    assert.equal('{"a":[]}', encode({ a = json.array({}) }))
    assert.equal('[[1],{"a":[true,null]}]', encode({ { 1 }, { a = { true, null } } }))
    local grown = json.array()
    grown[1] = "x"
    assert.equal('["x"]', encode(grown))
  end)

  it("finds array elements wherever the table keeps them", function()
    local t = {}
    for i = 40, 1, -1 do
      t[i] = i
    end
    local expected = {}
    for i = 1, 40 do
      expected[i] = tostring(i)
    end
    assert.equal("[" .. table.concat(expected, ",") .. "]", encode(t))
  end)

  it("refuses sparse and mixed tables", function()
    assert.equal("cannot encode sparse array at .t", encode_failure({ t = { 1, nil, 3 } }))
    assert.equal("cannot encode sparse array", encode_failure({ 1, [3] = 3 }))
    assert.equal("cannot encode sparse array", encode_failure({ [0] = 0, 1 }))
    assert.equal("cannot encode sparse array", encode_failure({ 1, [1.5] = 3 }))
    assert.equal("cannot encode array with other keys at .t",
      encode_failure({ t = { 1, a = 2 } }))
    assert.equal("cannot encode array with other keys",
      encode_failure(json.array({ a = 2 })))
    assert.equal("cannot encode sparse array", encode_failure(json.array({ [2] = 2 })))
  end)

  it("refuses keys that are not strings", function()
    assert.equal("cannot encode number 5 as a key at .t", encode_failure({ t = { [5] = 1 } }))
    assert.equal("cannot encode number 0.5 as a key", encode_failure({ [0.5] = 1 }))
    assert.equal("cannot encode boolean as a key", encode_failure({ [true] = 1 }))
    assert.equal("cannot encode boolean as a key",
      encode_failure({ [true] = 1 }, { sort = true }))
    assert.equal('{"1":2}', encode({ ["1"] = 2 }))
  end)

  it("quotes odd keys in a path and cuts long ones", function()
    assert.equal('cannot encode nan at ["odd key"].ok',
      encode_failure({ ["odd key"] = { ok = 0 / 0 } }))
    assert.equal('cannot encode nan at ["1a?"]', encode_failure({ ["1a\n"] = 0 / 0 }))
    assert.equal('cannot encode nan at [""]', encode_failure({ [""] = 0 / 0 }))
    local message = encode_failure({ [("k"):rep(5000)] = 0 / 0 })
    assert.equal('cannot encode nan at ["' .. ("k"):rep(40) .. '..."]', message)
    local deep = 0 / 0
    for _ = 1, 100 do
      deep = { [("long"):rep(9)] = deep }
    end
    assert.is_true(#encode_failure(deep) < 400)
  end)

  it("nests 128 deep and no deeper, so cycles fail", function()
    local text = ("["):rep(127) .. "{}" .. ("]"):rep(127)
    assert.equal(text, encode(nest(128)))
    assert.matches("^nested too deeply at %[1%]", encode_failure(nest(129)))
    local t = {}
    t.t = t
    assert.matches("^nested too deeply at %.t%.t", encode_failure(t))
  end)

  it("sorts keys by bytes when asked", function()
    local t = { b = 1, a = { z = 1, y = 2 }, aa = 3, [""] = 4, ["a\0"] = 5, B = 6 }
    assert.equal('{"":4,"B":6,"a":{"y":2,"z":1},"a\\u0000":5,"aa":3,"b":1}',
      encode(t, { sort = true }))
    assert.equal("{}", encode({}, { sort = true }))
    assert.equal("cannot encode nan at .a.z",
      encode_failure({ a = { z = 0 / 0 } }, { sort = true }))
  end)

  it("indents when asked", function()
    local t = { a = { 1, { b = null } }, c = {}, d = json.array() }
    assert.equal([[
{
  "a": [
    1,
    {
      "b": null
    }
  ],
  "c": {},
  "d": []
}]], encode(t, { indent = 2, sort = true }))
    assert.equal('[1]', encode({ 1 }, { indent = 0 }))
  end)

  it("refuses bad options", function()
    assert.has_error(function() encode({}, 5) end)
    assert.has_error(function() encode({}, { indent = "2" }) end)
    assert.has_error(function() encode({}, { indent = -1 }) end)
    assert.has_error(function() encode({}, { indent = 17 }) end)
    assert.has_error(function() encode({}, { indent = 0 / 0 }) end)
  end)

  it("encodes tables with other metatables as plain data", function()
    local t = setmetatable({ a = 1 }, { __index = { b = 2 }, __pairs = error, __len = error })
    assert.equal('{"a":1}', encode(t))
  end)
end)

describe("__tojson", function()
  local function with(f, t)
    return setmetatable(t or {}, { __tojson = f })
  end

  it("gives what is encoded in place of the table", function()
    local point = with(function(p) return { p.x, p.y } end, { x = 1, y = 2 })
    assert.equal("[1,2]", encode(point))
    assert.equal('{"a":"text"}', encode({ a = with(function() return "text" end) }))
    assert.equal("null", encode(with(function() end)))
    assert.equal("[\n [\n  1\n ]\n]",
      encode({ with(function() return { 1 } end) }, { indent = 1 }))
  end)

  it("names the path when it fails", function()
    assert.matches("^__tojson failed %(.*no%) at %.a$",
      encode_failure({ a = with(function() error("no") end) }))
    assert.equal("__tojson failed (sorry) at [1]",
      encode_failure({ with(function() error({ message = "sorry" }) end) }))
    assert.equal("__tojson failed (boolean)", encode_failure(with(function() error(true) end)))
    assert.equal("__tojson failed (nil)", encode_failure(with(function() error({}) end)))
    assert.matches("^__tojson failed", encode_failure(with("not callable")))
    assert.equal("cannot encode nil at .a", encode_failure({ a = with(function() end) }))
  end)

  it("may encode by itself", function()
    local t = { 1, with(function() return encode({ 2, encode({ 3 }) }) end), 4 }
    assert.equal([=[[1,"[2,\"[3]\"]",4]]=], encode(t))
    assert.equal("[5]", encode({ 5 }))
  end)

  it("cannot go round for ever", function()
    local me
    me = with(function() return me end)
    assert.equal("nested too deeply", encode_failure(me))
    local again
    again = with(function() return encode(again) end)
    assert.matches("nested too deeply", encode_failure(again))
    assert.is_false(coroutine.wrap(function() return pcall(encode, again) end)())
    assert.equal("[1]", encode(with(function() return { 1 } end)))
  end)

  it("may change the table it came from, which at worst fails", function()
    for count = 1, 40 do
      local t = {}
      for i = 1, count do
        t["k" .. i] = with(function()
          for k in pairs(t) do
            t[k] = nil
          end
          for j = 1, 100 do
            t["n" .. j] = j
          end
          return i
        end)
      end
      pcall(encode, t)
      assert.equal("[1]", encode({ 1 }))
    end
  end)

  it("cannot wait", function()
    local t = with(function() coroutine.yield() end)
    local co = coroutine.create(function() return encode(t) end)
    local ok, err = coroutine.resume(co)
    assert.is_false(ok)
    assert.equal("json.encode", err.code)
  end)
end)

describe("json.array", function()
  it("marks a table and returns it", function()
    local t = {}
    assert.equal(t, json.array(t))
    assert.equal(t, json.array(t))
    assert.equal("[]", encode(t))
  end)

  it("refuses other values and tables with a metatable", function()
    assert.has_error(function() json.array("x") end)
    assert.has_error(function() json.array(setmetatable({}, {})) end)
  end)
end)

describe("json.decode", function()
  it("reads every kind of value", function()
    assert.equal(null, decode("null"))
    assert.equal(true, decode("true"))
    assert.equal(false, decode(" false "))
    assert.equal(-12.5, decode("-12.5"))
    assert.equal("x", decode('"x"'))
    assert.same({ 1, "two", { three = 3, four = { true, null } } },
      decode('\t[1, "two",\r\n{"three" : 3, "four":[true,null]}]\n'))
    assert.same({}, decode("{}"))
  end)

  it("keeps null in arrays and objects", function()
    local t = decode('[null,{"a":null}]')
    assert.equal(null, t[1])
    assert.equal(null, t[2].a)
    assert.equal('[null,{"a":null}]', encode(t))
  end)

  it("marks arrays, so empty ones stay arrays", function()
    local text = '{"a":[],"b":{},"c":[[],[{}]]}'
    assert.equal(text, encode(decode(text), { sort = true }))
  end)

  it("lets the last of equal keys win", function()
    assert.same({ a = 3 }, decode('{"a":1,"a":2,"a":3}'))
  end)

  it("reads escapes", function()
    assert.equal('"\\/\b\f\n\r\t', decode([["\"\\\/\b\f\n\r\t"]]))
    assert.equal("a\0b", decode([["a\u0000b"]]))
    assert.equal("\195\166\226\130\172\240\159\152\128", decode([["\u00E6\u20ac\ud83d\uDE00"]]))
    assert.equal("\244\143\191\191", decode([["\udbff\udfff"]]))
    assert.same({ ["a\nb"] = 1 }, decode([[{"a\nb":1}]]))
    local long = ("x\n"):rep(100000)
    assert.equal(long, decode(encode(long)))
  end)

  it("refuses lone surrogates", function()
    for _, text in ipairs({ [["\ud800"]], [["\udc00"]], [["\ud800x"]], [["\ud800\n"]],
      [["\ud800\u0041"]], [["\udc00\ud800"]], [["\ud800\ud800"]], [["\ud800\u]] }) do
      assert.equal("json: lone surrogate at byte 2", decode_failure(text))
    end
  end)

  it("refuses bytes that are not UTF-8", function()
    local bad = { "\128", "\191", "\192\128", "\193\191", "\194", "\194\65", "\224\159\191",
      "\224\160", "\237\160\128", "\237\191\191", "\240\143\191\191", "\240\144\128",
      "\244\144\128\128", "\245\128\128\128", "\255", "\226\130\40" }
    for _, bytes in ipairs(bad) do
      assert.equal("json: invalid UTF-8 at byte 3", decode_failure('"a' .. bytes .. '"'))
      assert.equal("invalid UTF-8 at byte 2 of the string", encode_failure("a" .. bytes))
    end
  end)

  it("refuses control characters in strings", function()
    for byte = 0, 31 do
      assert.equal("json: control character in a string at byte 3",
        decode_failure('"a' .. string.char(byte) .. '"'))
    end
  end)

  it("says what is wrong and where", function()
    local cases = {
      { "", "expected a value", 1 }, { "  ", "expected a value", 3 },
      { "[1,2 3]", "expected ',' or ']'", 6 }, { "[1,]", "expected a value", 4 },
      { "[,1]", "expected a value", 2 }, { "[1", "expected ',' or ']'", 3 },
      { "[1}", "expected ',' or ']'", 3 }, { '{"a":1,}', "expected a string as the key", 8 },
      { "{a:1}", "expected a string as the key", 2 }, { '{"a" 1}', "expected ':'", 6 },
      { '{"a":1 "b":2}', "expected ',' or '}'", 8 }, { '{"a":}', "expected a value", 6 },
      { "1 2", "expected the end", 3 }, { "[]]", "expected the end", 3 },
      { "nul", "expected a value", 1 }, { "nullx", "expected the end", 5 },
      { "True", "expected a value", 1 }, { "NaN", "expected a value", 1 },
      { "'a'", "expected a value", 1 }, { '"a', "unfinished string", 3 },
      { [["\x"]], "unknown escape", 2 }, { '"\\', "unknown escape", 2 },
      { [["\u12"]], "\\u without four hex digits", 2 },
      { [["\u12g4"]], "\\u without four hex digits", 2 },
      { "\239\187\1911", "expected a value", 1 }, { "// x\n1", "expected a value", 1 },
      { "1\0", "expected the end", 2 }, { "[1]\194\160", "expected the end", 4 },
      { "\f1", "expected a value", 1 },
    }
    for _, case in ipairs(cases) do
      assert.equal(("json: %s at byte %d"):format(case[2], case[3]), decode_failure(case[1]))
    end
  end)

  it("refuses numbers that are not JSON's", function()
    for _, text in ipairs({ "-", "01", "-01", "1.", "1.e5", "1e", "1e+", "1e+-2", "1.2.3",
      "0e", "1-2", "1e999", "-1e999", "00", "-e5" }) do
      assert.equal("json: bad number at byte 1", decode_failure(text))
    end
    for _, text in ipairs({ "+1", ".5", "0x10", "inf", "1_000", "1e5.0x" }) do
      decode_failure(text)
    end
  end)

  it("nests 128 deep and no deeper", function()
    decode(("["):rep(128) .. ("]"):rep(128))
    decode(('{"a":'):rep(128) .. "1" .. ("}"):rep(128))
    assert.equal("json: nested too deeply at byte 129",
      decode_failure(("["):rep(129) .. ("]"):rep(129)))
    decode_failure(("["):rep(1e6))
  end)

  it("takes nothing but a string", function()
    for _, value in ipairs({ 1, true, {} }) do
      assert.has_error(function() decode(value) end)
    end
    assert.has_error(function() decode() end)
  end)

  it("refuses a document cut short at any byte", function()
    local text = [[{"a":[1,-2.5e+10,true,false,null,"x\n\ud83d\ude00]] .. "\226\130\172"
      .. [[",[],{}],"b":{"c":{"d":["e"]}},"\u00e6":""}]]
    decode(text)
    for len = 0, #text - 1 do
      decode_failure(text:sub(1, len))
    end
  end)

  it("survives any byte put in any place", function()
    local text = [[{"a":[1.5e3,true,null,"x\n\ud83d\ude00"],"b":{}}]]
    for at = 1, #text do
      for byte = 0, 255 do
        local ok, err = pcall(decode, text:sub(1, at - 1) .. string.char(byte) .. text:sub(at + 1))
        assert(ok or err.code == "json.decode")
      end
    end
  end)
end)

describe("a round trip", function()
  -- The same values on every machine: a 32-bit linear congruential generator.
  local state = 20240229
  local function random(n)
    state = (state * 1664525 + 1013904223) % 2 ^ 32
    return math.floor(state / 2 ^ 32 * n) + 1
  end

  it("gives back the text of tricky numbers", function()
    for _, text in ipairs({
      "0.1", "1e21", "5e-324", "9007199254740992", "-0", "123456789.123", "0", "-1",
      "1e300", "2.2250738585072014e-308", "4.35", "0.0001", "1e-6", "1e-7", "1e22", "1e23",
      "8.41e21", "9.5e-310", "9007199254740993e3", "1.7976931348623157e308"
    }) do
      local value = decode(text)
      assert.equal(value, decode(encode(value)))
      if text ~= "9007199254740993e3" then
        assert.equal(text, encode(value))
      end
    end
  end)

  it("gives back random doubles", function()
    local ffi = require("ffi")
    local cell = ffi.new("union { double d; uint32_t u[2]; }")
    for _ = 1, 20000 do
      cell.u[0] = random(2 ^ 32) - 1
      -- an exponent that is not all ones: finite
      cell.u[1] = (random(2) - 1) * 2 ^ 31 + random(0x7ff00000) - 1
      local value = cell.d
      local text = encode(value)
      assert(decode(text) == value and tonumber(text) == value, text)
    end
    for _ = 1, 20000 do
      local value = random(2 ^ 32) / 10 ^ random(12)
      local text = encode(value)
      assert(decode(text) == value and tonumber(text) == value, text)
    end
  end)

  local function random_string()
    local pieces = {}
    local alphabet = { "a", "Z", " ", "/", "</", '"', "\\", "\0", "\n", "\31", "\127", "\195\166",
      "\226\130\172", "\240\159\152\128", "some longer run of text" }
    for i = 1, random(12) - 1 do
      pieces[i] = alphabet[random(#alphabet)]
    end
    return table.concat(pieces)
  end

  local function random_value(depth)
    local kind = random(depth > 0 and 7 or 5)
    if kind == 1 then
      return null
    elseif kind == 2 then
      return random(2) == 1
    elseif kind == 3 then
      return random(1000) - 500
    elseif kind == 4 then
      return random(2 ^ 32) / random(2 ^ 32)
    elseif kind == 5 then
      return random_string()
    end
    local t = kind == 6 and json.array() or {}
    for i = 1, random(6) - 1 do
      t[kind == 6 and i or random_string()] = random_value(depth - 1)
    end
    return t
  end

  it("gives back random documents", function()
    for i = 1, 500 do
      local value = random_value(5)
      local options = { sort = true, indent = i % 3 }
      local text = encode(value, options)
      local back = decode(text)
      assert.same(value, back)
      assert.equal(text, encode(back, options))
      assert.same(value, decode(encode(value)))
    end
  end)
end)
