// lua_task: the binding of core/task and core/sync.
#ifndef NEAP_LUA_TASK_H
#define NEAP_LUA_TASK_H

#include <lua.h>

// luaopen_neap_task pushes the table of task primitives that lua/neap.lua
// builds on. // [-0, +1]
int luaopen_neap_task(lua_State *L);

#endif
