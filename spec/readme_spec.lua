-- What the guides print is what happens. Each ```lua block is a program of its
-- own, run on a throw-away Redis; what it writes are the lines marked `-->`,
-- in order, where it has any ("..." stands for any text). The ```c program of
-- host/README.md is built against the library. `<!-- not run -->` on the line
-- before a block leaves it out.
local neap = require "neap"
local uv = require "luv"
local process = require "support.process"
local case = require "support.case" (it)

local guides = { "README.md", "lua/README.md", "models/README.md", "host/README.md",
  "spec/README.md" }

-- blocks returns the { line, text } of a file's blocks of that language.
local function blocks(path, language)
  local list, number, before, block = {}, 0, "", nil
  local file = io.open(path)
  if not file then return list end
  for line in file:lines() do
    number = number + 1
    if block and line == "```" then
      if not block.is_left_out then list[#list + 1] = block end
      block.text = table.concat(block, "\n") .. "\n"
      block = nil
    elseif block then
      block[#block + 1] = line
    elseif line == "```" .. language then
      block = { line = number, is_left_out = before == "<!-- not run -->" }
    end
    before = line
  end
  file:close()
  return list
end

-- pattern returns what a marked line may be.
local function pattern(text)
  local quoted = text:gsub("%p", "%%%0")
  return "^" .. quoted:gsub("%%%.%%%.%%%.", ".*") .. "$"
end

local function lines_of(text)
  local list = {}
  for line in text:gmatch("([^\n]*)\n") do list[#list + 1] = line end
  return list
end

local function check_output(text, out)
  local expected = {}
  for mark in text:gmatch("%-%-> ?([^\n]*)") do expected[#expected + 1] = mark end
  if #expected == 0 then return end
  local got = lines_of(out)
  for i, line in ipairs(got) do
    if expected[i] and line:find(pattern(expected[i])) then got[i] = expected[i] end
  end
  assert.same(expected, got)
end

describe("the guides", function()
  local dir
  setup(function() dir = process.temp_dir() end)
  teardown(function() process.remove(dir) end)

  local environment = { NEAP_REDIS = "memory", NEAP_REDIS_URL = false, NEAP_DATA = false }

  for _, path in ipairs(guides) do
    for _, block in ipairs(blocks(path, "lua")) do
      case(("%s, line %d: the program runs as it says"):format(path, block.line), function()
        local r = process.neap({ "-e", block.text }, { env = environment, cwd = dir })
        assert.same({ 0 }, { r.status, r.status ~= 0 and r.err or nil })
        check_output(block.text, r.out)
      end)
    end
    for _, block in ipairs(blocks(path, "c")) do
      case(("%s, line %d: the program builds and runs"):format(path, block.line), function()
        local source, program = dir .. "/embed.c", dir .. "/embed"
        process.write(source, block.text)
        local build = uv.exepath():match("^(.*)/")
        local flags = build:match("sanitized$") and "-fsanitize=address,undefined" or ""
        local r = process.start("/bin/sh", { "-c", ("cc -Wall -Wextra -Werror %s -Ihost "
          .. "-I/usr/include/lua5.1 $(pkg-config --cflags luajit libuv) -o %s %s %s/libneap.a "
          .. "$(pkg-config --libs luajit libuv hiredis openssl zlib) "
          .. "-llua5.1-luv -lm -lpthread"):format(
          flags, program, source, build) }):wait()
        assert.same({ 0, "" }, { r.status, r.err })
        r = process.start(program, {}, { env = environment, cwd = dir }):wait()
        assert.same({ 0 }, { r.status, r.status ~= 0 and r.err or nil })
        check_output((block.text:gsub("// %-%->", "-->")), r.out)
      end)
    end
  end

  it("link to files that exist", function()
    for _, path in ipairs(guides) do
      local file = io.open(path)
      local text = file and file:read("*a") or ""
      if file then file:close() end
      for target in text:gmatch("%]%(([^)#]+)[^)]*%)") do
        if not target:match("^%a+:") then
          local folder = path:match("^(.*/)") or ""
          assert(pcall(neap.await, uv.fs_stat, folder .. target), path .. " links to " .. target)
        end
      end
    end
  end)
end)
