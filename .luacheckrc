std = "luajit"
max_line_length = 100
cache = false
-- the runtime replaces these with versions that can wait
globals = { "jit.on", "jit.off", "coroutine.resume", "coroutine.wrap", "coroutine.yield", "require", "dofile", "print",
  "coroutine.status", "table.sort", "string.gsub", "arg" }
files["spec/**/*_spec.lua"].std = "+busted"
