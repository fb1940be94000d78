// lua_command: a command's arguments, from the Lua stack to the wire.
#ifndef NEAP_LUA_COMMAND_H
#define NEAP_LUA_COMMAND_H

#include <lua.h>

#include "base/buf.h"

// lua_command_add appends a command, its arguments from stack index `first` to
// the top: strings, numbers, and tables of these, which are flattened. On an
// argument that can't be sent, and when more than `max` bytes would be added,
// it appends nothing and raises.
void lua_command_add(lua_State *L, struct buf *b, const char *name,
                     size_t name_len, int first, size_t max);

#endif
