// lua_json: the neap.json module, and JSON for the rest of the host.
//
//   struct buf b = {0};
//   const char *err = json_encode(L, -1, &b);
//   if (err) { ... lua_pop(L, 1); } // the message is on the stack
//
// Strict RFC 8259 both ways. Positions in messages count bytes from 1.
#ifndef NEAP_LUA_JSON_H
#define NEAP_LUA_JSON_H

#include <lua.h>
#include <stddef.h>

// Tables and arrays may nest this deep, both ways.
#define JSON_DEPTH 128

struct buf;

// luaopen_neap_json pushes { encode, decode, array, null }. // [-0, +1]
int luaopen_neap_json(lua_State *L);

// json_encode appends the value at index to out and returns NULL, leaving the
// stack as it was. When it fails it returns a message that it also pushed, and
// out is as before. Raises nothing: out stays the caller's. // [-0, +(0|1)]
const char *json_encode(lua_State *L, int index, struct buf *out);

// json_decode pushes the value that s is the text of and returns 0, or pushes
// a message and returns -1. Holds no memory outside the Lua state. // [-0, +1]
int json_decode(lua_State *L, const char *s, size_t len);

// json_push_null pushes neap.null, which stands for JSON's null. // [-0, +1]
void json_push_null(lua_State *L);

// json_push_array pushes a new table marked as an array. // [-0, +1]
void json_push_array(lua_State *L, int size);

#endif
