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

// raised is a value to be described: that takes memory, and may fail.
struct raised {
    lua_State *L;
    char *text;
    size_t size;
};

static void describe(void *arg) {
    struct raised *r = arg;
    lua_describe_error(r->L, lua_gettop(r->L));
    snprintf(r->text, r->size, "%s", lua_tostring(r->L, -1));
}

static int push_call(lua_State *L, int function, struct call *c, int count) {
    lua_checkstack(L, 8);
    lua_rawgeti(L, LUA_REGISTRYINDEX, function);
    lua_pushlightuserdata(L, c);
    if (count) { // both below the values, the function first
        lua_insert(L, -count - 2);
        lua_insert(L, -count - 2);
    }
    return lua_pcall(L, count + 1, 0, 0);
}

// The error may have been raised on another coroutine, as that on which replies
// are built: LuaJIT unwinds the C stack, up to the call made here. What lies on
// top of the main state is any value then.
enum protect_result protect_call(struct runtime *rt, void (*fn)(void *arg),
                                 void *arg, int count, char *text,
                                 size_t size) {
    lua_State *L = rt->L;
    int status = push_call(L, rt->protect, &(struct call){fn, arg}, count);
    if (status == 0) {
        return PROTECT_RETURNED;
    }
    if (status == LUA_ERRMEM || lua_type(L, -1) == LUA_TSTRING) {
        snprintf(text, size, "%s",
                 status == LUA_ERRMEM ? "not enough memory"
                                      : lua_tostring(L, -1));
        lua_pop(L, 1);
        return status == LUA_ERRMEM ? PROTECT_NO_MEMORY : PROTECT_RAISED;
    }
    struct raised r = {L, text, size};
    snprintf(text, size, "(%s)", luaL_typename(L, -1));
    if (push_call(L, rt->protect, &(struct call){describe, &r}, 1) != 0) {
        lua_pop(L, 1);
    }
    return PROTECT_RAISED;
}
