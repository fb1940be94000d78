// lua_open: registers the host's modules in a Lua state, and luv on its loop.
#include <lauxlib.h>
#include <luv/luv.h>

#include "core/runtime.h"
#include "core/task.h"
#include "lua/lua_error.h"
#include "lua/lua_fetch.h"
#include "lua/lua_http.h"
#include "lua/lua_json.h"
#include "lua/lua_model.h"
#include "lua/lua_monitor.h"
#include "lua/lua_redis.h"
#include "lua/lua_task.h"
#include "lua/lua_util.h"

// on_luv_callback is how luv calls Lua: each callback runs as a task. It runs
// at once, in the callback, since luv may free what it passes afterwards.
static int on_luv_callback(lua_State *L, int nargs, int nresults, int flags) {
    (void)nresults;
    (void)flags;
    struct task *t = task_spawn(runtime_of(L), L, nargs);
    task_start(t);
    task_release(t);
    return 0;
}

int luaopen_neap_luv(lua_State *L) {
    struct runtime *rt = runtime_of(L);
    // the main state: luv calls back on the state that opened it
    luv_set_loop(rt->L, rt->loop);
    luv_set_callback(rt->L, on_luv_callback);
    lua_pushcfunction(rt->L, luaopen_luv);
    lua_call(rt->L, 0, 1);
    lua_xmove(rt->L, L, 1);
    return 1;
}

static const luaL_Reg modules_in_c[] = {
    {"neap.core.error", luaopen_neap_error},
    {"neap.core.fetch", luaopen_neap_fetch},
    {"neap.core.http", luaopen_neap_http},
    {"neap.core.json", luaopen_neap_json},
    {"neap.core.luv", luaopen_neap_luv},
    {"neap.core.model", luaopen_neap_model},
    {"neap.core.monitor", luaopen_neap_monitor},
    {"neap.core.redis", luaopen_neap_redis},
    {"neap.core.task", luaopen_neap_task},
    {"neap.core.util", luaopen_neap_util},
    {NULL, NULL}};

void lua_open_runtime(lua_State *L) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    for (const luaL_Reg *m = modules_in_c; m->name; m++) {
        lua_pushcfunction(L, m->func);
        lua_setfield(L, -2, m->name);
    }
    lua_pop(L, 2);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "neap.core.util");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "module");
    lua_pushliteral(L, "neap.boot");
    lua_call(L, 1, 1); // the loader of neap.boot
    lua_insert(L, -2);
    lua_call(L, 1, 0);
}
