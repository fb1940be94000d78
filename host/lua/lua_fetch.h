// lua_fetch: the binding of http/client.
#ifndef NEAP_LUA_FETCH_H
#define NEAP_LUA_FETCH_H

#include <lua.h>

// luaopen_neap_fetch pushes the primitives that lua/neap/http_client.lua builds
// on. // [-0, +1]
int luaopen_neap_fetch(lua_State *L);

#endif
