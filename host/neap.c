// neap: the public C interface, over core/runtime and core/task.
#include "neap.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "base/mem.h"
#include "core/failure.h"
#include "core/runtime.h"
#include "lua/lua_util.h"

struct neap {
    uv_loop_t loop;
    struct runtime *rt;
};

struct end {
    neap *n;
    neap_end_fn fn;
    void *arg;
};

neap *neap_new(void) {
    neap *n = xcalloc(1, sizeof *n);
    if (uv_loop_init(&n->loop) != 0) {
        free(n);
        return NULL;
    }
    n->rt = runtime_new(&n->loop);
    lua_open_runtime(n->rt->L);
    return n;
}

lua_State *neap_lua(neap *n) {
    return n->rt->L;
}

void *neap_loop(neap *n) {
    return &n->loop;
}

static void on_end(struct task *t, void *arg) {
    struct end *e = arg;
    lua_State *L = t->rt->L;
    const char *error = NULL, *traceback = NULL;
    int top = lua_gettop(L);
    if (t->state == TASK_FAILED && !task_was_cancelled(t)) {
        failure_push(t, L);
        error = lua_tostring(L, -2);
        traceback = lua_tostring(L, -1);
        t->is_joined = true;
    }
    if (e->fn) {
        e->fn(e->n, error, traceback, e->arg);
    }
    lua_settop(L, top);
    free(e);
}

void neap_spawn(neap *n, int nargs, neap_end_fn fn, void *arg) {
    struct task *t = task_spawn(n->rt, n->rt->L, nargs);
    struct end *e = xmalloc(sizeof *e);
    *e = (struct end){n, fn, arg};
    t->on_end = on_end;
    t->on_end_arg = e;
    task_release(t);
}

int neap_require(neap *n, const char *name) {
    lua_State *L = n->rt->L;
    lua_getglobal(L, "require");
    lua_pushstring(L, name);
    return lua_pcall(L, 1, 1, 0) == 0 ? 0 : -1;
}

int neap_run(neap *n) {
    return runtime_run(n->rt);
}

void neap_stop(neap *n, int status) {
    runtime_stop(n->rt, status);
}

void neap_close(neap *n) {
    runtime_free(n->rt);
    uv_loop_close(&n->loop);
    free(n);
}

const char *neap_version(void) {
    return NEAP_VERSION;
}
