// lua_error: error objects.
#include "lua/lua_error.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

static const char metatable_key;

static void push_metatable(lua_State *L) {
    lua_pushlightuserdata(L, (void *)&metatable_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
}

static void push_verror(lua_State *L, const char *code, const char *fmt,
                        va_list ap) {
    char text[1024];
    vsnprintf(text, sizeof text, fmt, ap);
    lua_createtable(L, 0, 2);
    lua_pushstring(L, code);
    lua_setfield(L, -2, "code");
    lua_pushstring(L, text);
    lua_setfield(L, -2, "message");
    push_metatable(L);
    lua_setmetatable(L, -2);
}

void lua_push_error(lua_State *L, const char *code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    push_verror(L, code, fmt, ap);
    va_end(ap);
}

int lua_fail(lua_State *L, const char *code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    push_verror(L, code, fmt, ap);
    va_end(ap);
    return lua_error(L);
}

static int call_tostring(lua_State *L) {
    return luaL_callmeta(L, 1, "__tostring");
}

void lua_describe_error(lua_State *L, int index) {
    lua_pushvalue(L, index);
    if (!lua_isstring(L, -1)) {
        lua_pushcfunction(L, call_tostring);
        lua_insert(L, -2);
        if (lua_pcall(L, 1, 1, 0) != 0 || !lua_isstring(L, -1)) {
            lua_pop(L, 1);
            lua_pushstring(L, luaL_typename(L, index));
        }
    }
}

int lua_misuse(lua_State *L, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    lua_Debug ar;
    int level = 1;
    while (lua_getstack(L, level, &ar) && lua_getinfo(L, "S", &ar) &&
           strncmp(ar.source, "=neap.", 6) == 0) {
        level++;
    }
    luaL_where(L, level);
    lua_pushstring(L, text);
    lua_concat(L, 2);
    return lua_error(L);
}

static int l_tostring(lua_State *L) {
    lua_getfield(L, 1, "code");
    lua_getfield(L, 1, "message");
    lua_pushfstring(L, "%s: %s", lua_tostring(L, -2), lua_tostring(L, -1));
    return 1;
}

static int l_is_error(lua_State *L) {
    int is = 0;
    if (lua_istable(L, 1) && lua_getmetatable(L, 1)) {
        push_metatable(L);
        is = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
    }
    if (is && !lua_isnoneornil(L, 2)) {
        lua_getfield(L, 1, "code");
        is = lua_rawequal(L, -1, 2);
    }
    lua_pushboolean(L, is);
    return 1;
}

static int l_new(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    push_metatable(L);
    lua_setmetatable(L, 1);
    lua_settop(L, 1);
    return 1;
}

int luaopen_neap_error(lua_State *L) {
    lua_pushlightuserdata(L, (void *)&metatable_key);
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, l_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "neap.error");
    lua_setfield(L, -2, "__name");
    lua_rawset(L, LUA_REGISTRYINDEX);
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, l_is_error);
    lua_setfield(L, -2, "is_error");
    lua_pushcfunction(L, l_new);
    lua_setfield(L, -2, "new");
    return 1;
}
