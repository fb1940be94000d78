// lua_monitor: the binding of core/monitor, watchdog and profile, and of what
// tasks are doing.
#include "lua/lua_monitor.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "core/failure.h"
#include "core/profile.h"
#include "core/runtime.h"
#include "core/unjoined.h"
#include "core/watchdog.h"
#include "lua/lua_error.h"

static void set_number(lua_State *L, const char *name, double value) {
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

static void set_string(lua_State *L, const char *name, const char *value) {
    if (value) {
        lua_pushstring(L, value);
        lua_setfield(L, -2, name);
    }
}

// -- the loop

// loop() -> { uptime, turns, busy, p50, p99, max, slices, slow, longest_slice }
static int l_loop(lua_State *L) {
    const struct monitor *m = &runtime_of(L)->monitor;
    double uptime = (double)(uv_hrtime() - m->start_ns) / 1e9;
    struct histogram h;
    monitor_latency(m, &h);
    lua_newtable(L);
    set_number(L, "uptime", uptime);
    set_number(L, "turns", (double)m->turns);
    set_number(L, "busy", (double)m->busy_ns / 1e9);
    set_number(L, "p50", (double)histogram_quantile(&h, 0.5) / 1e9);
    set_number(L, "p99", (double)histogram_quantile(&h, 0.99) / 1e9);
    set_number(L, "max", (double)h.max / 1e9);
    set_number(L, "slices", (double)m->slices);
    set_number(L, "slow", (double)m->slow);
    set_number(L, "longest_slice", (double)m->longest_ns / 1e9);
    return 1;
}

// -- tasks

static const char *const state_names[] = {"ready", "running", "waiting", "done",
                                          "failed"};

// count_waits adds up in the table on top what tasks wait for. // [-0, +0]
static void count_waits(lua_State *L, struct runtime *rt) {
    enum { kinds_max = 64 };
    struct {
        const char *what; // literals: told apart by their place
        int count;
    } kinds[kinds_max];
    int n = 0;
    for (struct list *i = rt->tasks.next; i != &rt->tasks; i = i->next) {
        struct task *t = list_entry(i, struct task, all);
        int k = 0;
        if (t->state != TASK_WAITING) {
            continue;
        }
        while (k < n && kinds[k].what != t->waits_for) {
            k++;
        }
        if (k == n && n < kinds_max) {
            kinds[n].what = t->waits_for;
            kinds[n++].count = 0;
        }
        if (k < n) {
            kinds[k].count++;
        }
    }
    for (int k = 0; k < n; k++) { // the same word may stand in several places
        lua_getfield(L, -1, kinds[k].what);
        lua_Integer sum = lua_tointeger(L, -1) + kinds[k].count;
        lua_pop(L, 1);
        lua_pushinteger(L, sum);
        lua_setfield(L, -2, kinds[k].what);
    }
}

// counts() -> { live, ready, waiting, spawned, finished, failed, waits }
static int l_counts(lua_State *L) {
    struct runtime *rt = runtime_of(L);
    int by_state[sizeof state_names / sizeof state_names[0]] = {0};
    for (struct list *i = rt->tasks.next; i != &rt->tasks; i = i->next) {
        by_state[list_entry(i, struct task, all)->state]++;
    }
    lua_newtable(L);
    set_number(L, "live", rt->live);
    set_number(L, "ready", by_state[TASK_READY]);
    set_number(L, "waiting", by_state[TASK_WAITING]);
    set_number(L, "spawned", (double)rt->spawned);
    set_number(L, "finished", (double)rt->finished);
    set_number(L, "failed", (double)rt->failed);
    lua_newtable(L);
    count_waits(L, rt);
    lua_setfield(L, -2, "waits");
    return 1;
}

// push_place pushes where a task is in the user's code, "file.lua:12", and the
// name by which it called what it waits in, or nils. // [-0, +2]
static void push_place(lua_State *L, lua_State *of) {
    lua_Debug ar;
    char name[64] = "";
    for (int i = 0; lua_getstack(of, i, &ar) && lua_getinfo(of, "Sln", &ar);
         i++) {
        bool is_ours = strncmp(ar.source, "=neap.", 6) == 0 ||
                       strcmp(ar.source, "=neap") == 0;
        if (ar.currentline >= 0 && !is_ours) {
            lua_pushfstring(L, "%s:%d", ar.short_src, ar.currentline);
            lua_pushstring(L, name[0] ? name : NULL);
            return;
        }
        if (ar.name) {
            snprintf(name, sizeof name, "%s", ar.name);
        }
    }
    lua_pushnil(L);
    lua_pushnil(L);
}

// push_task pushes what there is to say of a task. // [-0, +1]
static void push_task(lua_State *L, struct task *t) {
    char site[256] = "";
    if (!task_is_over(t) || t->site) { // else it may be gone with its spawner
        task_spawn_site(t, site, sizeof site);
    }
    lua_newtable(L);
    set_number(L, "id", (double)t->id);
    set_string(L, "name", t->name);
    set_string(L, "state", state_names[t->state]);
    set_string(L, "spawned_at", site[0] ? site : NULL);
    lua_pushboolean(L, t->is_cancelled);
    lua_setfield(L, -2, "is_cancelled");
    if (t->request) {
        set_number(L, "request", (double)t->request);
    }
    if (t->state == TASK_WAITING) {
        uint64_t now = uv_now(t->rt->loop);
        set_string(L, "waits_for", t->waits_for);
        set_number(L, "waited", (double)(now - t->since_ms) / 1e3);
    }
    if (t->L && t->is_started) {
        push_place(L, t->L);
        lua_setfield(L, -3, "calls");
        lua_setfield(L, -2, "at");
    }
    struct task **box = lua_newuserdata(L, sizeof *box);
    *box = t;
    t->references++;
    luaL_getmetatable(L, "neap.task");
    lua_setmetatable(L, -2);
    lua_setfield(L, -2, "task");
}

// tasks(limit) -> a list of { id, name, state, spawned_at, at, calls,
// waits_for, waited, is_cancelled, request, task }, the oldest first
static int l_tasks(lua_State *L) {
    struct runtime *rt = runtime_of(L);
    int limit = (int)luaL_checkinteger(L, 1), count = 0;
    lua_newtable(L);
    for (struct list *i = rt->tasks.next; i != &rt->tasks && count < limit;
         i = i->next) {
        push_task(L, list_entry(i, struct task, all));
        lua_rawseti(L, -2, ++count);
    }
    return 1;
}

static struct task *check_task(lua_State *L) {
    return *(struct task **)luaL_checkudata(L, 1, "neap.task");
}

// info(task) -> as an entry of tasks
static int l_info(lua_State *L) {
    push_task(L, check_task(L));
    return 1;
}

// traceback(task) -> where it stands, or "" once it has ended
static int l_traceback(lua_State *L) {
    struct task *t = check_task(L);
    if (t->L && !task_is_over(t) && t->is_started) {
        failure_push_trace(L, 1, NULL, t->L, 0);
    } else {
        lua_pushliteral(L, "");
    }
    return 1;
}

// name(task) -> its name or nil; name(task, text) names it
static int l_name(lua_State *L) {
    struct task *t = check_task(L);
    if (lua_gettop(L) == 1) {
        lua_pushstring(L, t->name);
        return 1;
    }
    const char *name = luaL_checkstring(L, 2);
    free(t->name);
    t->name = strdup(name);
    return 0;
}

// current() -> the handle of the running task
static int l_current(lua_State *L) {
    struct task *t = runtime_of(L)->current;
    if (!t) {
        return 0;
    }
    push_task(L, t);
    lua_getfield(L, -1, "task");
    return 1;
}

// current_id() -> the number of the running task, 0 for none
static int l_current_id(lua_State *L) {
    struct task *t = runtime_of(L)->current;
    lua_pushnumber(L, t ? (double)t->id : 0);
    return 1;
}

// -- the watchdog

// watch(slow_seconds, max_slice_seconds) -> whether it watches; 0: not for that
static int l_watch(lua_State *L) {
    struct runtime *rt = runtime_of(L);
    struct watchdog_options o = {.slow_ms = luaL_checknumber(L, 1) * 1e3,
                                 .max_slice_ms = luaL_checknumber(L, 2) * 1e3};
    luaL_argcheck(L, o.slow_ms >= 0, 1, "seconds expected, 0 or more");
    luaL_argcheck(L, o.max_slice_ms >= 0, 2, "seconds expected, 0 or more");
    lua_pushboolean(L, watchdog_start(rt, &o));
    return 1;
}

// unwatch()
static int l_unwatch(lua_State *L) {
    struct runtime *rt = runtime_of(L);
    if (!rt->profile) {
        watchdog_stop(rt);
    }
    return 0;
}

// set_jit(on): whether the program wants it
static int l_set_jit(lua_State *L) {
    runtime_of(L)->monitor.is_jit_off = !lua_toboolean(L, 1);
    return 0;
}

// limit_memory(bytes): what Lua may hold; 0: no limit
static int l_limit_memory(lua_State *L) {
    struct runtime *rt = runtime_of(L);
    double bytes = luaL_checknumber(L, 1);
    luaL_argcheck(L, bytes >= 0 && bytes < 1e15, 1,
                  "bytes expected, 0 or more");
    memory_limit(rt, (size_t)bytes);
    return 0;
}

// log_unjoined(on): whether tasks that nobody joined are logged
static int l_log_unjoined(lua_State *L) {
    unjoined_set(runtime_of(L), lua_toboolean(L, 1));
    return 0;
}

// -- consoles

// set_client(fd): the running task is a line of the console on that socket
static int l_set_client(lua_State *L) {
    struct runtime *rt = runtime_of(L);
    if (rt->current) {
        rt->current->client_fd = (int)luaL_checkinteger(L, 1) + 1;
        rt->monitor.client_fd = rt->current->client_fd;
    }
    return 0;
}

// forget_client(fd): it is closed; nothing belongs to it any more
static int l_forget_client(lua_State *L) {
    struct runtime *rt = runtime_of(L);
    int mark = (int)luaL_checkinteger(L, 1) + 1;
    for (struct list *i = rt->tasks.next; i != &rt->tasks; i = i->next) {
        struct task *t = list_entry(i, struct task, all);
        if (abs(t->client_fd) == mark) {
            t->client_fd = 0;
        }
    }
    return 0;
}

// peer(fd) -> uid, pid of the process at the other end of a unix socket
static int l_peer(lua_State *L) {
    struct ucred peer;
    socklen_t len = sizeof peer;
    int fd = (int)luaL_checkinteger(L, 1);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0) {
        return 0;
    }
    lua_pushnumber(L, peer.uid);
    lua_pushnumber(L, peer.pid);
    return 2;
}

// -- profile

// profile_start(interval_ms) -> whether it began
static int l_profile_start(lua_State *L) {
    int interval = (int)luaL_checkinteger(L, 1);
    luaL_argcheck(L, interval > 0, 1, "milliseconds expected, 1 or more");
    struct profile *p = profile_start(runtime_of(L), interval);
    lua_pushboolean(L, p != NULL);
    return 1;
}

// profile_stop() -> the stacks, the number of samples; nothing if none ran
static int l_profile_stop(lua_State *L) {
    struct runtime *rt = runtime_of(L);
    struct buf text = {0};
    if (!rt->profile) {
        return 0;
    }
    uint64_t samples = profile_stop(rt->profile, &text);
    lua_pushlstring(L, text.data ? text.data : "", text.len);
    lua_pushnumber(L, (double)samples);
    buf_clear(&text);
    return 2;
}

static const luaL_Reg functions[] = {{"loop", l_loop},
                                     {"counts", l_counts},
                                     {"tasks", l_tasks},
                                     {"info", l_info},
                                     {"traceback", l_traceback},
                                     {"name", l_name},
                                     {"current", l_current},
                                     {"current_id", l_current_id},
                                     {"watch", l_watch},
                                     {"unwatch", l_unwatch},
                                     {"limit_memory", l_limit_memory},
                                     {"set_jit", l_set_jit},
                                     {"log_unjoined", l_log_unjoined},
                                     {"set_client", l_set_client},
                                     {"forget_client", l_forget_client},
                                     {"peer", l_peer},
                                     {"profile_start", l_profile_start},
                                     {"profile_stop", l_profile_stop},
                                     {NULL, NULL}};

int luaopen_neap_monitor(lua_State *L) {
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
