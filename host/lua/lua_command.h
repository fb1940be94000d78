// lua_command: a command's arguments, from the Lua stack to the wire.
#ifndef NEAP_LUA_COMMAND_H
#define NEAP_LUA_COMMAND_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

// A command whose name is known beforehand.
struct lua_command {
    uint16_t shape; // of its reply, see lua_value
    bool is_read;   // it changes nothing
    size_t name_len, head_len;
    char head[]; // how it begins: "*0\r\n$3\r\nGET\r\n", without the count
};

// lua_command_push pushes one, as userdata. // [-0, +1]
struct lua_command *lua_command_push(lua_State *L, const char *name,
                                     size_t len);

// lua_command_add_known is lua_command_add for a command of that kind.
void lua_command_add_known(lua_State *L, struct buf *b,
                           const struct lua_command *c, int first, size_t max);

// lua_command_add appends a command, its arguments from stack index `first` to
// the top: strings, numbers, and tables of these, which are flattened. On an
// argument that can't be sent, and when more than `max` bytes would be added,
// it appends nothing and raises.
void lua_command_add(lua_State *L, struct buf *b, const char *name,
                     size_t name_len, int first, size_t max);

#endif
