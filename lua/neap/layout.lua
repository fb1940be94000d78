-- layout: numbers, sizes and columns as people read them. Internal.
local M = {}

--- layout.count(n): 1,234,567.
function M.count(n)
  local digits = ("%.0f"):format(n):reverse():gsub("(%d%d%d)(%d)", "%1,%2")
  while digits:find("%d%d%d%d") do digits = digits:gsub("(%d%d%d)(%d)", "%1,%2") end
  return digits:reverse()
end

--- layout.plural(n, noun): "1 row", "2 rows".
function M.plural(n, noun)
  return M.count(n) .. " " .. noun .. (n == 1 and "" or "s")
end

--- layout.duration(seconds): "150 us", "1.5 ms", "2.0 s", "3 min 10 s", "2 h 5 min".
function M.duration(seconds)
  if seconds < 0.001 and seconds > 0 then return ("%.0f us"):format(seconds * 1e6) end
  if seconds < 0.1 and seconds > 0 then return ("%.1f ms"):format(seconds * 1e3) end
  if seconds < 60 then return ("%.1f s"):format(seconds) end
  local minutes = math.floor(seconds / 60)
  if minutes < 60 then return ("%d min %d s"):format(minutes, seconds % 60) end
  return ("%d h %d min"):format(minutes / 60, minutes % 60)
end

--- layout.bytes(n): "12 B", "1.5 KiB", "3.0 GiB".
function M.bytes(n)
  for _, unit in ipairs { "B", "KiB", "MiB", "GiB" } do
    if n < 1024 then return (unit == "B" and "%d %s" or "%.1f %s"):format(n, unit) end
    n = n / 1024
  end
  return ("%.1f TiB"):format(n)
end

-- width counts the characters of UTF-8 text.
local function width(text)
  return select(2, text:gsub("[^\128-\191]", ""))
end

--- layout.columns(lines, is_right): lists of words below each other; is_right says by number
-- which columns are flush right.
function M.columns(lines, is_right)
  local widths, text = {}, {}
  for _, line in ipairs(lines) do
    for i, word in ipairs(line) do widths[i] = math.max(widths[i] or 0, width(word)) end
  end
  for n, line in ipairs(lines) do
    local words = {}
    for i, word in ipairs(line) do
      local fill = (" "):rep(widths[i] - width(word))
      words[i] = is_right and is_right[i] and fill .. word or word .. fill
    end
    text[n] = table.concat(words, "  "):gsub(" +$", "")
  end
  return table.concat(text, "\n")
end

return M
