// lua_condition: a query's conditions, from Lua tables to clauses.
#ifndef NEAP_LUA_CONDITION_H
#define NEAP_LUA_CONDITION_H

#include <lua.h>

#include "model/query.h"

// lua_condition_read reads the group at index into q: { group = "all", "any" or
// "none", ... } of such groups and of conditions { field, "in", list }, {
// field, "range", low, high, is_above, is_below, is_prefix } or { field, "null"
// }, which may have negated = true. If something is wrong with it, it clears
// the query and raises model.invalid.
void lua_condition_read(lua_State *L, struct query *q, int index);

#endif
