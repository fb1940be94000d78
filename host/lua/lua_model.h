// lua_model: the binding of host/model: definitions and loads in lua_model.c,
// writes in lua_write.c, queries in lua_query.c, rows as tables in lua_row.c,
// what sync and verify need in lua_upkeep.c.
#ifndef NEAP_LUA_MODEL_H
#define NEAP_LUA_MODEL_H

#include <lua.h>

#include "model/commit.h"
#include "model/exec.h"
#include "model/row.h"
#include "model/schema.h"
#include "redis/pool.h"

struct model {
    struct schema schema;
    struct commit commit;
    struct runtime *rt;
    int client;  // registry reference of the Redis client
    int names;   // registry references: the list of field names,
    int class;   // the rows' metatable,
    int shadows; // and rows -> what they were loaded as (weak)
    struct exec_memory memory;
    bool has_commit;
    bool is_optimistic;
    uint32_t holds; // what is under way in Redis and refers to the model
    int self;       // registry reference, while there are holds
};

// luaopen_neap_model pushes the primitives that lua/neap/model.lua builds
// on. // [-0, +1]
int luaopen_neap_model(lua_State *L);

// lua_query_open, lua_write_open and lua_upkeep_open add their functions to the
// table on top. // [-0, +0]
void lua_query_open(lua_State *L);
void lua_upkeep_open(lua_State *L);
void lua_write_open(lua_State *L);

// lua_model_check returns the model at that argument.
struct model *lua_model_check(lua_State *L, int arg);

// lua_model_pool returns the model's client, or raises if it was closed.
struct pool *lua_model_pool(lua_State *L, struct model *m);

// lua_model_hold keeps the model at that index from being collected until
// lua_model_release was called as often.
void lua_model_hold(lua_State *L, struct model *m, int index);
void lua_model_release(struct model *m);

#endif
