// lua_task: the binding of core/task and core/sync. What waits returns FAIL
// and an error object when it fails; the shims in lua/neap/task.lua raise it.
#include "lua/lua_task.h"

#include <lauxlib.h>
#include <stdio.h>

#include "core/failure.h"
#include "core/runtime.h"
#include "core/scope.h"
#include "core/sync.h"
#include "lua/lua_error.h"

// What LuaJIT lets a C function put on a stack is 8000 values.
enum { values_max = 7900 };

#define TASK  "neap.task"
#define WAITQ "neap.waitq"
#define SCOPE "neap.scope"

static struct runtime *rt_of(lua_State *L) {
    return lua_touserdata(L, lua_upvalueindex(1));
}

static struct task *check_task(lua_State *L, int arg) {
    return *(struct task **)luaL_checkudata(L, arg, TASK);
}

static double check_seconds(lua_State *L, int arg) {
    double seconds = luaL_checknumber(L, arg);
    luaL_argcheck(L, seconds >= 0, arg,
                  "a number of seconds expected, 0 or more");
    return seconds;
}

static struct task *check_running(lua_State *L) {
    struct task *t = rt_of(L)->current;
    if (!t) {
        lua_fail(L, "task.none", "no task is running");
    }
    return t;
}

// -- tasks

static void push_handle(lua_State *L, struct task *t) {
    struct task **box = lua_newuserdata(L, sizeof *box);
    *box = t;
    lua_pushvalue(L, lua_upvalueindex(2)); // the handles' metatable
    lua_setmetatable(L, -2);
}

// spawn(fn, ...) -> task
static int l_spawn(lua_State *L) {
    if (!lua_isfunction(L, 1)) {
        return lua_misuse(L,
                          "bad argument #1 to 'spawn' (function expected, "
                          "got %s)",
                          luaL_typename(L, 1));
    }
    struct runtime *rt = rt_of(L);
    push_handle(L, NULL);
    lua_insert(L, 1);
    luaL_argcheck(L, lua_gettop(L) < values_max, 2, "too many arguments");
    struct task *t = task_spawn(rt, L, lua_gettop(L) - 2);
    t->is_awaitable = true;
    *(struct task **)lua_touserdata(L, 1) = t;
    return 1;
}

// spawn_always(fn, ...) -> task; fn runs even if the task is cancelled before
// it starts, as it has something to give back
static int l_spawn_always(lua_State *L) {
    l_spawn(L);
    (*(struct task **)lua_touserdata(L, 1))->is_started = true;
    return 1;
}

// check(): raises if the task is cancelled or out of time
static int l_check(lua_State *L) {
    task_interrupt_check(L, check_running(L));
    return 0;
}

// checkpoint(): nothing; or, by way of the run queue, FAIL and what ends the
// waits of a task that is cancelled or out of time
static int l_checkpoint(lua_State *L) {
    return task_current(L, rt_of(L)) ? 0 : task_yield(L);
}

static bool leave_joiners(struct task *t, void *ctx) {
    (void)ctx;
    list_remove(&t->link);
    return true;
}

// task:join() -> results, or FAIL, error
static int l_join(lua_State *L) {
    struct task *other = check_task(L, 1);
    if (task_is_over(other)) {
        if (other->state == TASK_FAILED && rt_of(L)->current) {
            failure_note(rt_of(L)->current, other);
        }
        return task_push_outcome(other, L);
    }
    struct task *t = task_current(L, rt_of(L));
    if (!t) {
        return task_yield(L);
    }
    if (t == other) {
        return lua_fail(L, "task.deadlock", "a task cannot join itself");
    }
    task_park(t, "join", leave_joiners, NULL);
    list_append(&other->joiners, &t->link);
    return task_yield(L);
}

static int l_cancel(lua_State *L) {
    task_cancel(check_task(L, 1));
    return 0;
}

// task:status() -> "ready" | "running" | "waiting" | "done" | "failed" |
// "cancelled"
static int l_status(lua_State *L) {
    static const char *const names[] = {"ready", "running", "waiting", "done",
                                        "failed"};
    struct task *t = check_task(L, 1);
    bool is_cancelled = t->state == TASK_FAILED && t->is_cancelled;
    lua_pushstring(L, is_cancelled ? "cancelled" : names[t->state]);
    return 1;
}

static int l_task_tostring(lua_State *L) {
    static const char *const names[] = {"ready", "running", "waiting", "done",
                                        "failed"};
    struct task *t = check_task(L, 1);
    lua_pushfstring(L, "task %d (%s)", (int)t->id, names[t->state]);
    return 1;
}

static int l_task_gc(lua_State *L) {
    struct task **box = lua_touserdata(L, 1);
    if (*box) {
        task_release(*box);
        *box = NULL;
    }
    return 0;
}

// sleep(seconds, is_background)
static int l_sleep(lua_State *L) {
    double seconds = check_seconds(L, 1);
    struct task *t = task_current(L, rt_of(L));
    if (t) {
        task_sleep(t, seconds, lua_toboolean(L, 2));
    }
    return task_yield(L);
}

// linger(): waits until nothing else keeps the loop alive
static int l_linger(lua_State *L) {
    struct runtime *rt = rt_of(L);
    struct task *t = task_current(L, rt);
    if (t) {
        waitq_park(&rt->lingering, t);
    }
    return task_yield(L);
}

// unpark(): takes back the wait of a coroutine that cannot be passed outward
static int l_unpark(lua_State *L) {
    task_unpark(check_running(L));
    lua_push_error(L, "task.cannot_wait",
                   "cannot wait here: a C function (table.sort, string.gsub, "
                   "string.format) stands between the coroutine and its task");
    return 1;
}

// yield(...): coroutine.yield that knows a task's own coroutine
static int l_yield(lua_State *L) {
    struct task *t = rt_of(L)->current;
    if (t && t->L == L) {
        return luaL_error(L, "attempt to yield from outside a coroutine (a "
                             "task gives way with neap.sleep(0))");
    }
    return lua_yield(L, lua_gettop(L));
}

// context() -> the task-local table, or nil
static int l_context(lua_State *L) {
    struct task *t = rt_of(L)->current;
    if (!t || !t->context) {
        return 0;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->context);
    return 1;
}

// set_context(table)
static int l_set_context(lua_State *L) {
    struct task *t = check_running(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (!t->context) {
        t->context = luaL_ref(L, LUA_REGISTRYINDEX);
    } else {
        lua_rawseti(L, LUA_REGISTRYINDEX, t->context);
    }
    return 0;
}

// request_id() -> the id of the request that is being served, or nil: the
// context's own, else one made of the request's number
static int l_request_id(lua_State *L) {
    static uint32_t process; // tells the processes apart, roughly
    struct task *t = rt_of(L)->current;
    if (l_context(L)) {
        lua_getfield(L, -1, "request_id");
        if (!lua_isnil(L, -1)) {
            return 1;
        }
    }
    if (!t || !t->request) {
        return 0;
    }
    if (process == 0) {
        process = (uint32_t)(uv_hrtime() ^ (uint64_t)uv_os_getpid() << 16) | 1;
    }
    char text[32];
    snprintf(text, sizeof text, "%08x-%llu", process,
             (unsigned long long)t->request);
    lua_pushstring(L, text);
    return 1;
}

// shield(change): +1 holds cancellation back, -1 lets it through again
static int l_shield(lua_State *L) {
    check_running(L)->shield += (int)luaL_checkinteger(L, 1);
    return 0;
}

// -- deadlines

// scope([seconds]) -> scope; without seconds it only ends by expire
static int l_scope(lua_State *L) {
    double seconds = lua_isnoneornil(L, 1) ? -1 : check_seconds(L, 1);
    struct task *t = check_running(L);
    struct scope *s = lua_newuserdata(L, sizeof *s);
    scope_open(t, s, seconds);
    luaL_getmetatable(L, SCOPE);
    lua_setmetatable(L, -2);
    return 1;
}

// close_scope(scope) -> whether it ended a wait, its error object
static int l_close_scope(lua_State *L) {
    struct scope *s = luaL_checkudata(L, 1, SCOPE);
    bool is_raised = scope_close(s);
    lua_pushboolean(L, is_raised);
    if (!is_raised) {
        return 1;
    }
    lua_push_error(L, "timeout", "not done within %g s", s->seconds);
    return 2;
}

// expire(scope): as if its time were up
static int l_expire(lua_State *L) {
    scope_expire(luaL_checkudata(L, 1, SCOPE));
    return 0;
}

static int l_scope_gc(lua_State *L) {
    scope_close(lua_touserdata(L, 1));
    return 0;
}

// -- groups

// group(race, functions, items | nil, count, limit) -> results, or FAIL, error
static int l_group(lua_State *L) {
    enum group_mode mode = lua_toboolean(L, 1) ? GROUP_RACE : GROUP_ALL;
    uint32_t total = (uint32_t)luaL_checkinteger(L, 4);
    uint32_t limit = (uint32_t)luaL_checkinteger(L, 5);
    struct task *t = task_current(L, rt_of(L));
    if (!t) {
        return task_yield(L);
    }
    int items = LUA_NOREF;
    if (!lua_isnil(L, 3)) {
        lua_pushvalue(L, 3);
        items = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_pushvalue(L, 2);
    int functions = luaL_ref(L, LUA_REGISTRYINDEX);
    group_run(t, mode, functions, items, total, limit);
    return task_yield(L);
}

// -- wait queues

static struct waitq *check_waitq(lua_State *L) {
    return luaL_checkudata(L, 1, WAITQ);
}

// waitq(what) -> a queue of tasks that wait for that
static int l_waitq(lua_State *L) {
    static const char *const names[] = {"channel", "event",     "luv", "module",
                                        "pool",    "semaphore", NULL};
    const char *what = names[luaL_checkoption(L, 1, NULL, names)];
    waitq_init(lua_newuserdata(L, sizeof(struct waitq)), what);
    luaL_getmetatable(L, WAITQ);
    lua_setmetatable(L, -2);
    return 1;
}

// queue:wait() -> what wake was given, or FAIL, error
static int l_waitq_wait(lua_State *L) {
    struct waitq *q = check_waitq(L);
    struct task *t = task_current(L, rt_of(L));
    if (t) {
        waitq_park(q, t);
    }
    return task_yield(L);
}

// queue:wake(...) -> whether a task was there
static int l_waitq_wake(lua_State *L) {
    struct waitq *q = check_waitq(L);
    bool is_woken = waitq_wake(q, L, lua_gettop(L) - 1);
    lua_pushboolean(L, is_woken);
    return 1;
}

static int l_waitq_is_empty(lua_State *L) {
    lua_pushboolean(L, list_is_empty(&check_waitq(L)->tasks));
    return 1;
}

static int l_waitq_gc(lua_State *L) {
    waitq_clear(lua_touserdata(L, 1));
    return 0;
}

// trace(error, level) -> where the caller stands in the user's code; and where
// the error came from if a task that was joined failed with it
static int l_trace(lua_State *L) {
    lua_settop(L, 2);
    failure_push_trace(L, 1, rt_of(L)->current, L,
                       (int)luaL_checkinteger(L, 2));
    return 1;
}

// site() -> where the running task was spawned, "file.lua:12"
static int l_site(lua_State *L) {
    struct task *t = rt_of(L)->current;
    char site[256] = "";
    if (t) {
        task_spawn_site(t, site, sizeof site);
    }
    lua_pushstring(L, site);
    return 1;
}

static const luaL_Reg functions[] = {{"join", l_join},
                                     {"site", l_site},
                                     {"trace", l_trace},
                                     {"sleep", l_sleep},
                                     {"linger", l_linger},
                                     {"unpark", l_unpark},
                                     {"yield", l_yield},
                                     {"check", l_check},
                                     {"checkpoint", l_checkpoint},
                                     {"context", l_context},
                                     {"set_context", l_set_context},
                                     {"request_id", l_request_id},
                                     {"shield", l_shield},
                                     {"scope", l_scope},
                                     {"close_scope", l_close_scope},
                                     {"expire", l_expire},
                                     {"group", l_group},
                                     {"waitq", l_waitq},
                                     {NULL, NULL}};

static const luaL_Reg task_methods[] = {
    {"cancel", l_cancel}, {"status", l_status}, {NULL, NULL}};

static const luaL_Reg waitq_methods[] = {{"wait", l_waitq_wait},
                                         {"wake", l_waitq_wake},
                                         {"is_empty", l_waitq_is_empty},
                                         {NULL, NULL}};

// new_class makes a metatable whose methods have the runtime as upvalue.
// // [-0, +1]
static void new_class(lua_State *L, struct runtime *rt, const char *name,
                      const luaL_Reg *methods, lua_CFunction gc) {
    luaL_newmetatable(L, name);
    lua_newtable(L);
    for (; methods && methods->name; methods++) {
        lua_pushlightuserdata(L, rt);
        lua_pushcclosure(L, methods->func, 1);
        lua_setfield(L, -2, methods->name);
    }
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
}

int luaopen_neap_task(lua_State *L) {
    struct runtime *rt = runtime_of(L);
    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushlightuserdata(L, rt);
        lua_pushcclosure(L, f->func, 1);
        lua_setfield(L, -2, f->name);
    }
    lua_pushlightuserdata(L, (void *)&task_fail_key);
    lua_setfield(L, -2, "FAIL");
    lua_pushlightuserdata(L, (void *)&task_suspend_key);
    lua_setfield(L, -2, "SUSPEND");
    lua_pushliteral(L, "neap.output"); // in the context: where prints go
    lua_setfield(L, -2, "OUTPUT");
    new_class(L, rt, WAITQ, waitq_methods, l_waitq_gc);
    new_class(L, rt, SCOPE, NULL, l_scope_gc);
    lua_pop(L, 2);
    lua_pushlightuserdata(L, rt);
    new_class(L, rt, TASK, task_methods, l_task_gc);
    lua_pushcfunction(L, l_task_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_getfield(L, -1, "__index");
    lua_setfield(L, -4, "methods");
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -2);
    lua_pushcclosure(L, l_spawn_always, 2);
    lua_setfield(L, -4, "spawn_always");
    lua_pushcclosure(L, l_spawn, 2);
    lua_setfield(L, -2, "spawn");
    return 1;
}
