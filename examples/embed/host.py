#!/usr/bin/env python3
# host: a Python program that runs Lua tasks, by ctypes.
#
#   python3 host.py [path of libneap.so]
import ctypes
import sys

lib = ctypes.CDLL(sys.argv[1] if len(sys.argv) > 1 else "libneap.so.0")
lua = ctypes.CDLL("libluajit-5.1.so.2")
p, i, s = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
DONE = ctypes.CFUNCTYPE(None, p, i, s, s, p)
for name, result, *arguments in [
    ("neap_new", p, p), ("neap_lua", p, p), ("neap_run", i, p), ("neap_strerror", s),
    ("neap_spawn", p, p, i, DONE, p), ("neap_close", None, p, p, p)]:
    getattr(lib, name).restype, getattr(lib, name).argtypes = result, arguments
lua.luaL_loadstring.restype, lua.luaL_loadstring.argtypes = i, [p, s]
lua.lua_tonumber.restype, lua.lua_tonumber.argtypes = ctypes.c_double, [p, i]


@DONE
def on_done(n, count, error, trace, arg):
    if error:
        print("it failed:", error.decode())
    else:
        print("the task returned", lua.lua_tonumber(lib.neap_lua(n), -1))


n = lib.neap_new(None)
if not n:
    sys.exit(lib.neap_strerror().decode())
code = b"""
local neap = require "neap"
-- a C module finds LuaJIT's symbols, although ctypes keeps them to itself
local ok, lpeg = pcall(require, "lpeg")
if ok then print("lpeg matches", lpeg.match(lpeg.R "az"^1, "abc1")) end
neap.sleep(0.1)
return 42
"""
if lua.luaL_loadstring(lib.neap_lua(n), code) != 0:
    sys.exit("the code does not compile")
lib.neap_spawn(n, 0, on_done, None)
status = lib.neap_run(n)
lib.neap_close(n, None, None)
sys.exit(status)
