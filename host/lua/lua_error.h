// lua_error: error objects. A failure raises a table { code, message, ... }
// whose metatable prints it as "code: message"; misuse raises text.
#ifndef NEAP_LUA_ERROR_H
#define NEAP_LUA_ERROR_H

#include <lua.h>

// lua_push_error pushes an error object. // [-0, +1]
void lua_push_error(lua_State *L, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// lua_fail raises an error object. It never returns; the int is for
// `return lua_fail(...)`.
int lua_fail(lua_State *L, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// lua_describe_error pushes the text of any raised value: a string as it is,
// else what its __tostring gives, else the name of its type. It never raises.
// // [-0, +1]
void lua_describe_error(lua_State *L, int index);

// lua_misuse raises text, with the place in front where the user's code called:
// frames of the host's own Lua are passed over. It never returns.
int lua_misuse(lua_State *L, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

// luaopen_neap_error pushes { is_error, new }. // [-0, +1]
int luaopen_neap_error(lua_State *L);

#endif
