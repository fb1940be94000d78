// lua_redis: the binding of redis/pool: clients, commands, pipelines.
#ifndef NEAP_LUA_REDIS_H
#define NEAP_LUA_REDIS_H

#include <lua.h>

#include "redis/pool.h"

// luaopen_neap_redis pushes the primitives that lua/neap/redis.lua builds
// on. // [-0, +1]
int luaopen_neap_redis(lua_State *L);

// lua_redis_check returns the open client at that argument, or raises.
struct pool *lua_redis_check(lua_State *L, int arg);

#endif
