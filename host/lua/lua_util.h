// lua_util: clocks, random bytes, the log, and the modules in the binary.
#ifndef NEAP_LUA_UTIL_H
#define NEAP_LUA_UTIL_H

#include <lua.h>

// luaopen_neap_util pushes the table of primitives. // [-0, +1]
int luaopen_neap_util(lua_State *L);

// luaopen_neap_luv opens luv on the runtime's loop, its callbacks as tasks.
// // [-0, +1]
int luaopen_neap_luv(lua_State *L);

// lua_open_runtime registers every module of the host and runs neap.boot,
// which readies require, print and coroutines for waiting. // [-0, +0]
void lua_open_runtime(lua_State *L);

#endif
