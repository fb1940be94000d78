// wait: C functions of the embedder's that wait.
#include <lauxlib.h>
#include <stdlib.h>

#include "api/instance.h"
#include "base/mem.h"
#include "lua/lua_error.h"

struct neap_wait {
    struct list link; // in the instance's waits
    neap *n;
    struct task *task;
    uint32_t generation;
    void (*on_cancel)(void *arg);
    void *arg;
};

// close_wait takes a wait out of the list, the last of which lets go of the
// loop, and frees it. Posts may come as long as there is one.
static void close_wait(neap_wait *w) {
    neap *n = w->n;
    list_remove(&w->link);
    if (list_is_empty(&n->waits)) {
        uv_unref((uv_handle_t *)&n->async);
    }
    free(w);
}

static void tell_cancel(void *ud) {
    neap_wait *w = ud;
    w->on_cancel(w->arg);
}

static void tell(neap_wait *w) {
    list_remove(&w->link); // on_cancel is called once, whatever it does
    if (w->on_cancel) {
        instance_call(w->n, "on_cancel", tell_cancel, w, 0);
    }
    close_wait(w);
}

static bool on_cancel_task(struct task *t, void *ctx) {
    (void)t;
    tell(ctx);
    return true;
}

neap_wait *neap_suspend(lua_State *L, void (*on_cancel)(void *arg), void *arg) {
    neap *n = instance_of(L);
    struct task *t = task_current(L, n->rt);
    if (!t) { // neap_register's wrapper has looked before
        lua_fail(L, "cancelled", "the task was cancelled");
    }
    neap_wait *w = xmalloc(sizeof *w);
    *w = (neap_wait){.n = n, .task = t, .on_cancel = on_cancel, .arg = arg};
    if (list_is_empty(&n->waits)) {
        uv_ref((uv_handle_t *)&n->async);
    }
    list_append(&n->waits, &w->link);
    w->generation = task_park(t, "the program", on_cancel_task, w);
    return w;
}

void wait_close(neap *n) {
    while (!list_is_empty(&n->waits)) {
        neap_wait *w = list_entry(n->waits.next, neap_wait, link);
        w->task->cancel = NULL;
        tell(w);
    }
}

int neap_yield(lua_State *L) {
    return task_yield(L);
}

lua_State *neap_wait_lua(neap_wait *w) {
    return w->task->L;
}

static struct task *finish(neap_wait *w, const char *what) {
    struct task *t = w->task;
    instance_enter(w->n, what);
    close_wait(w);
    return t;
}

void neap_resume(neap_wait *w, int count) {
    uint32_t generation = w->generation;
    instance_check(count >= 0 && count <= lua_gettop(w->task->L), "neap_resume",
                   "the wait's stack lacks a result");
    task_wake(finish(w, "neap_resume"), generation, count);
}

void neap_fail(neap_wait *w, const char *code, const char *message) {
    uint32_t generation = w->generation;
    struct task *t = finish(w, "neap_fail");
    lua_push_error(t->L, code, "%s", message);
    task_wake_error(t, generation);
}

void neap_register(neap *n, const char *name, const luaL_Reg *functions) {
    instance_enter(n, "neap_register");
    lua_State *L = n->rt->L;
    neap_require(n, "neap.embed");
    lua_getfield(L, -1, "register");
    lua_pushstring(L, name);
    lua_newtable(L);
    for (; functions->name; functions++) {
        lua_pushcfunction(L, functions->func);
        lua_setfield(L, -2, functions->name);
    }
    lua_call(L, 2, 0);
    lua_pop(L, 1);
}
