// lua_write_error: what became of a write, as error objects.
#ifndef NEAP_LUA_WRITE_ERROR_H
#define NEAP_LUA_WRITE_ERROR_H

#include <lua.h>

#include "lua/lua_model.h"

// lua_write_error_push pushes the error of a write that ended with the code;
// field, error_code and error are as its done got them. // [-0, +1]
void lua_write_error_push(lua_State *L, struct model *m, struct write *w,
                          enum write_code code, int field,
                          const char *error_code, const char *error);

#endif
