-- at_exit: what the command line does when the loop has ended. Internal.
local M = {}
local list = {}

--- at_exit.add(fn): calls fn then; it cannot wait.
function M.add(fn)
  list[#list + 1] = fn
end

--- at_exit.run(): calls them, the last one first.
function M.run()
  for i = #list, 1, -1 do list[i]() end
end

return M
