// lua_util: clocks, random bytes, the log, and the modules in the binary.
#include "lua/lua_util.h"

#include <errno.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/buf.h"
#include "core/runtime.h"
#include "lua/lua_error.h"
#include "lua/modules.h"

// now() -> seconds since 1970, with fractions
static int l_now(lua_State *L) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    // whole microseconds: what a double holds exactly at this size
    lua_pushnumber(L, (double)now.tv_sec + (double)(now.tv_nsec / 1000) / 1e6);
    return 1;
}

// monotonic() -> seconds, for measuring
static int l_monotonic(lua_State *L) {
    lua_pushnumber(L, (double)uv_hrtime() / 1e9);
    return 1;
}

// random_bytes(n) -> a string of n bytes from the kernel
static int l_random_bytes(lua_State *L) {
    lua_Integer n = luaL_checkinteger(L, 1);
    luaL_argcheck(L, n >= 0 && n <= 65536, 1, "0 to 65536 bytes");
    char *bytes = lua_newuserdata(L, (size_t)n + 1);
    size_t have = 0;
    while (have < (size_t)n) {
        ssize_t got = getrandom(bytes + have, (size_t)n - have, 0);
        if (got < 0 && errno != EINTR) {
            return lua_fail(L, "os.random", "getrandom: %s", strerror(errno));
        }
        have += got > 0 ? (size_t)got : 0;
    }
    lua_pushlstring(L, bytes, (size_t)n);
    return 1;
}

// token(n) -> 2n hexadecimal digits from n random bytes (16 by default)
static int l_token(lua_State *L) {
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) {
        lua_pushinteger(L, 16);
        lua_replace(L, 1);
    }
    l_random_bytes(L);
    size_t n;
    const char *bytes = lua_tolstring(L, -1, &n);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (size_t i = 0; i < n; i++) {
        luaL_addchar(&b, "0123456789abcdef"[(unsigned char)bytes[i] >> 4]);
        luaL_addchar(&b, "0123456789abcdef"[(unsigned char)bytes[i] & 15]);
    }
    luaL_pushresult(&b);
    return 1;
}

// log(level, text)
static int l_log(lua_State *L) {
    struct runtime *rt = runtime_of(L);
    int level = log_level_parse(luaL_checkstring(L, 1));
    luaL_argcheck(L, level >= 0, 1, "debug, info, warn or error");
    log_write(&rt->log, (enum log_level)level, "%s", luaL_checkstring(L, 2));
    return 0;
}

// log_level(name): lines below it are dropped
static int l_log_level(lua_State *L) {
    int level = log_level_parse(luaL_checkstring(L, 1));
    luaL_argcheck(L, level >= 0, 1, "debug, info, warn or error");
    runtime_of(L)->log.level = (enum log_level)level;
    return 0;
}

// log_enabled(level) -> whether such lines are written
static int l_log_enabled(lua_State *L) {
    int level = log_level_parse(luaL_checkstring(L, 1));
    lua_pushboolean(L, level >= (int)runtime_of(L)->log.level);
    return 1;
}

// stop(status): begins an orderly end of the process
static int l_stop(lua_State *L) {
    runtime_stop(runtime_of(L), (int)luaL_optinteger(L, 1, 0));
    return 0;
}

// counters() -> spawned, finished, failed, live
static int l_counters(lua_State *L) {
    struct runtime *rt = runtime_of(L);
    lua_pushnumber(L, (double)rt->spawned);
    lua_pushnumber(L, (double)rt->finished);
    lua_pushnumber(L, (double)rt->failed);
    lua_pushinteger(L, rt->live);
    return 4;
}

// module(name) -> a loader for a Lua module in the binary, or nil
static int l_module(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    for (const struct module *m = modules; m->name; m++) {
        if (strcmp(m->name, name) == 0) {
            lua_pushfstring(L, "=%s", name);
            if (luaL_loadbuffer(L, m->start, (size_t)(m->end - m->start),
                                lua_tostring(L, -1)) != 0) {
                return lua_error(L);
            }
            return 1;
        }
    }
    return 0;
}

// source(name) -> the text of a module in the binary, or nil
static int l_source(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    for (const struct module *m = modules; m->name; m++) {
        if (strcmp(m->name, name) == 0) {
            lua_pushlstring(L, m->start, (size_t)(m->end - m->start));
            return 1;
        }
    }
    return 0;
}

// modules() -> the names of the modules in the binary
static int l_modules(lua_State *L) {
    lua_newtable(L);
    for (int i = 0; modules[i].name; i++) {
        lua_pushstring(L, modules[i].name);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static const luaL_Reg functions[] = {{"now", l_now},
                                     {"monotonic", l_monotonic},
                                     {"random_bytes", l_random_bytes},
                                     {"token", l_token},
                                     {"log", l_log},
                                     {"log_level", l_log_level},
                                     {"log_enabled", l_log_enabled},
                                     {"stop", l_stop},
                                     {"counters", l_counters},
                                     {"module", l_module},
                                     {"source", l_source},
                                     {"modules", l_modules},
                                     {NULL, NULL}};

int luaopen_neap_util(lua_State *L) {
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_pushliteral(L, NEAP_VERSION);
    lua_setfield(L, -2, "version");
    return 1;
}
