// protect: the host's own work under protection.
#include "core/protect.h"

#include <lauxlib.h>
#include <stdio.h>

#include "core/runtime.h"
#include "lua/lua_error.h"

struct call {
    void (*fn)(void *arg);
    void *arg;
};

static int l_call(lua_State *L) {
    struct call *c = lua_touserdata(L, 1);
    luaL_checkstack(L, 2 * LUA_MINSTACK, "too many values");
    c->fn(c->arg);
    return 0;
}

// The function is made once: each one made is garbage to collect.
void protect_open(struct runtime *rt) {
    lua_pushcfunction(rt->L, l_call);
    rt->protect = luaL_ref(rt->L, LUA_REGISTRYINDEX);
}

// The error may have been raised on another coroutine, as that on which replies
// are built: LuaJIT unwinds the C stack, up to the call made here.
enum protect_result protect_call(struct runtime *rt, void (*fn)(void *arg),
                                 void *arg, int count, char *text,
                                 size_t size) {
    lua_State *L = rt->L;
    struct call c = {fn, arg};
    lua_checkstack(L, 8);
    lua_rawgeti(L, LUA_REGISTRYINDEX, rt->protect);
    lua_pushlightuserdata(L, &c);
    if (count) { // both below the values, the function first
        lua_insert(L, -count - 2);
        lua_insert(L, -count - 2);
    }
    int status = lua_pcall(L, count + 1, 0, 0);
    if (status == 0) {
        return PROTECT_RETURNED;
    }
    lua_describe_error(L, lua_gettop(L));
    snprintf(text, size, "%s", lua_tostring(L, -1));
    lua_pop(L, 2);
    return status == LUA_ERRMEM ? PROTECT_NO_MEMORY : PROTECT_RAISED;
}
