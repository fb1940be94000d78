// spawn: tasks that C starts, and what becomes of them.
#include <lauxlib.h>
#include <stdlib.h>

#include "api/instance.h"
#include "base/mem.h"
#include "core/failure.h"

// A neap_task is a task with somebody in C who waits for its end.
struct neap_task {
    struct list link; // in the instance's ends
    neap *n;
    struct task *task;
    neap_done done;
    void *arg;
};

// What a done function is told.
struct end {
    neap_task *task;
    int count;
    const char *error, *trace;
};

static void tell_end(void *ud) {
    struct end *e = ud;
    e->task->done(e->task->n, e->count, e->error, e->trace, e->task->arg);
}

// tell calls done with the results or the error, which are on the stack of the
// main state. // [-count, +0]
static void tell(neap_task *t, int count, const char *error,
                 const char *trace) {
    struct end e = {t, count, error, trace};
    instance_call(t->n, "on_done", tell_end, &e, count);
}

static void on_end(struct task *t, void *arg) {
    neap_task *e = arg;
    lua_State *L = e->n->rt->L;
    int top = lua_gettop(L);
    list_remove(&e->link);
    if (t->state == TASK_FAILED) {
        failure_push(t, L);
        lua_rawgeti(L, LUA_REGISTRYINDEX, t->failure);
        lua_rawgeti(L, -1, 1);
        lua_remove(L, -2);
        t->is_joined = true;
        bool is_cancelled = task_was_cancelled(t);
        tell(e, 1, is_cancelled ? "cancelled" : lua_tostring(L, -3),
             is_cancelled ? NULL : lua_tostring(L, -2));
    } else {
        tell(e, task_push_outcome(t, L), NULL, NULL);
    }
    lua_settop(L, top);
    free(e);
}

neap_task *neap_spawn(neap *n, int nargs, neap_done on_done, void *arg) {
    instance_enter(n, "neap_spawn");
    lua_State *L = n->rt->L;
    instance_check(nargs >= 0 && nargs < lua_gettop(L), "neap_spawn",
                   "the stack lacks the function or an argument");
    if (n->is_closing) {
        lua_pop(L, nargs + 1);
        instance_fail("the instance is being closed");
        return NULL;
    }
    struct task *t = task_spawn(n->rt, L, nargs);
    neap_task *e = NULL;
    if (on_done) {
        e = xmalloc(sizeof *e);
        *e = (neap_task){.n = n, .task = t, .done = on_done, .arg = arg};
        list_append(&n->ends, &e->link);
        t->on_end = on_end;
        t->on_end_arg = e;
    }
    task_release(t);
    return e;
}

neap_task *neap_spawn_file(neap *n, const char *path, neap_done on_done,
                           void *arg) {
    instance_enter(n, "neap_spawn_file");
    lua_State *L = n->rt->L;
    if (luaL_loadfile(L, path) != 0) {
        instance_fail("%s", lua_tostring(L, -1));
        lua_pop(L, 1);
        return NULL;
    }
    return neap_spawn(n, 0, on_done, arg);
}

void neap_cancel(neap_task *t) {
    instance_enter(t->n, "neap_cancel");
    task_cancel(t->task);
}

void spawn_close(neap *n) {
    while (!list_is_empty(&n->ends)) {
        neap_task *e = list_entry(n->ends.next, neap_task, link);
        list_remove(&e->link);
        e->task->on_end = NULL;
        lua_pushliteral(n->rt->L, "the instance was closed");
        tell(e, 1, "cancelled", NULL);
        free(e);
    }
}
