// lua_http: the binding of http/server. Each request is a task that calls
// the `serve` function which listen was given; lua/neap/http.lua is that.
#ifndef NEAP_LUA_HTTP_H
#define NEAP_LUA_HTTP_H

#include <lua.h>

// luaopen_neap_http pushes the table of primitives. // [-0, +1]
int luaopen_neap_http(lua_State *L);

#endif
