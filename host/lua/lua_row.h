// lua_row: rows as Lua tables: their fields encoded and decoded, and one error
// for all that is wrong with a row.
#ifndef NEAP_LUA_ROW_H
#define NEAP_LUA_ROW_H

#include <lua.h>

#include "lua/lua_model.h"

// The metatable of what an object was loaded as: a struct row in a userdata.
#define LUA_ROW_SHADOW "neap.shadow"

// lua_row_encode_value appends the encoded value at index to bytes. v->p
// becomes its offset + 1, or NULL for null. Returns what is wrong with it, or
// NULL.
const char *lua_row_encode_value(lua_State *L, int index, const struct field *f,
                                 struct buf *bytes, struct value *v);

// lua_row_encode makes a row of the table at index `row`; the caller frees it.
// Raises model.invalid with all that is wrong, by field; at index `wrong`,
// unless it is nil, lies a table of what was found already, to which it adds;
// or true if nothing was, and all names are those of fields.
struct row *lua_row_encode(lua_State *L, struct model *m, int row, int wrong);

// lua_row_push_value pushes a decoded value. // [-0, +1]
void lua_row_push_value(lua_State *L, const struct field *f, struct value v);

// lua_row_push pushes the row as an object of the model. // [-0, +1]
void lua_row_push(lua_State *L, struct model *m, const struct row *r);

// lua_row_fill sets the fields of the table at index from the row.
void lua_row_fill(lua_State *L, struct model *m, const struct row *r,
                  int index);

// lua_row_push_shadow pushes a copy of the row in a userdata. // [-0, +1]
void lua_row_push_shadow(lua_State *L, const struct row *r);

// lua_row_check_shadow returns the row in the userdata at that argument.
const struct row *lua_row_check_shadow(lua_State *L, int arg);

#endif
