-- lint: finds what is public and has no documentation. `make lint` calls it.
--
--   build/neap spec/lint.lua
--
-- Every source file begins with a comment that says what it is (a spec says so
-- in its `describe`). A function in a header has a // comment directly above
-- it, or above the group of declarations it stands in. A public function in
-- lua/ (function M.x, function Class:x, M.x = ...) has a --- comment; a file
-- is spared whose first line says that it is internal, and so is a name that
-- begins with an underscore.
local faults, checked = 0, 0

local function report(path, line, text)
  faults = faults + 1
  print(("%s:%d: %s"):format(path, line, text))
end

local function files(folders, pattern)
  local list = {}
  local find = io.popen("find " .. folders .. " -type f -name '" .. pattern .. "' | sort")
  for path in find:lines() do list[#list + 1] = path end
  find:close()
  return list
end

local function lines_of(path)
  local list = {}
  for line in io.lines(path) do list[#list + 1] = line end
  return list
end

local function check_first_line(path, lines, mark)
  checked = checked + 1
  local first = lines[1] or ""
  if first:sub(1, #mark) ~= mark then
    report(path, 1, "does not begin with a comment that says what it is")
  end
end

-- is_documented looks upward from a line for a comment, as far as the blank line
-- that ends the group.
local function is_documented(lines, at, mark)
  for i = at - 1, 1, -1 do
    if lines[i]:match("^%s*$") then return false end
    if lines[i]:sub(1, #mark) == mark then return true end
  end
  return false
end

-- Declarations begin in the first column, what continues them does not.
local function check_header(path, lines)
  for i, line in ipairs(lines) do
    local name = line:match("^[%a_][%w_%s%*]-([%w_]+)%(")
    if name and not line:match("^typedef") and not line:match("^__attribute__") then
      checked = checked + 1
      if not is_documented(lines, i, "//") then
        report(path, i, name .. " has no comment")
      end
    end
  end
end

local function check_lua(path, lines)
  if lines[1]:match("internal") then return end
  for i, line in ipairs(lines) do
    local name = line:match("^function %u[%w_]*[.:]([%w_]+)%s*%(") or
      line:match("^M%.([%w_]+)%s*=")
    if name and name:sub(1, 1) ~= "_" then
      checked = checked + 1
      if not is_documented(lines, i, "---") then
        report(path, i, name .. " has no --- comment")
      end
    end
  end
end

for _, path in ipairs(files("host spec/c", "*.[ch]")) do
  local lines = lines_of(path)
  check_first_line(path, lines, "// ")
  if path:match("^host/.*%.h$") then check_header(path, lines) end
end
for _, path in ipairs(files("host lua models examples spec", "*.lua")) do
  local lines = lines_of(path)
  if not path:match("_spec%.lua$") then check_first_line(path, lines, "-- ") end
  if path:match("^lua/") then check_lua(path, lines) end
end

print(("documentation: %d checked, %d missing"):format(checked, faults))
os.exit(faults == 0 and 0 or 1)
