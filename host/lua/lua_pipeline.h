// lua_pipeline: commands recorded in Lua, to be sent together.
#ifndef NEAP_LUA_PIPELINE_H
#define NEAP_LUA_PIPELINE_H

#include <lua.h>

#include "core/task.h"
#include "redis/conn.h"

// lua_pipeline_open adds the functions pipeline, pipeline_command,
// pipeline_call and pipeline_count, and pipeline_class, to the table on top.
// // [-0, +0]
void lua_pipeline_open(lua_State *L);

// lua_pipeline_send sends what was recorded in the pipeline at that argument,
// within MULTI and EXEC if is_transaction, and parks the task until all
// replies are there. The pipeline stays as it is.
void lua_pipeline_send(lua_State *L, int arg, struct conn *c, struct task *t,
                       bool is_transaction);

#endif
