// sync: a FIFO of waiting tasks, and groups.
#include "core/sync.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "base/mem.h"
#include "core/failure.h"
#include "core/runtime.h"

// -- waitq

void waitq_init(struct waitq *q, const char *what) {
    list_init(&q->tasks);
    q->what = what;
}

static bool leave_queue(struct task *t, void *ctx) {
    (void)ctx;
    list_remove(&t->link);
    return true;
}

void waitq_park(struct waitq *q, struct task *t) {
    task_park(t, q->what, leave_queue, NULL);
    list_append(&q->tasks, &t->link);
}

bool waitq_wake(struct waitq *q, lua_State *L, int count) {
    if (list_is_empty(&q->tasks)) {
        lua_pop(L, count);
        return false;
    }
    struct task *t = list_entry(q->tasks.next, struct task, link);
    list_remove(&t->link);
    lua_checkstack(t->L, count);
    lua_xmove(L, t->L, count);
    task_wake(t, t->wait, count);
    return true;
}

void waitq_clear(struct waitq *q) {
    while (!list_is_empty(&q->tasks)) {
        list_remove(q->tasks.next);
    }
}

// -- groups

// push_child_function pushes what the next child runs, with its arguments.
static int push_child_function(struct group *g, lua_State *L, uint32_t index) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, g->functions);
    if (g->items == LUA_NOREF) {
        lua_rawgeti(L, -1, (int)index);
        lua_remove(L, -2);
        return 0;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, g->items);
    lua_rawgeti(L, -1, (int)index);
    lua_remove(L, -2);
    lua_pushinteger(L, (lua_Integer)index);
    return 2;
}

static void start_child(struct group *g) {
    lua_State *L = g->parent->rt->L;
    uint32_t index = ++g->started;
    int nargs = push_child_function(g, L, index);
    struct task *t = task_spawn_from(g->parent->rt, L, nargs, g->parent->L);
    t->group = g;
    t->group_index = index;
    t->is_joined = true;
    t->request = g->parent->request;
    if (g->parent->context && !t->context) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, g->parent->context);
        t->context = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    g->pending++;
    task_release(t); // the run's own reference stays
}

// cancel_children looks through all tasks: it is rare, and so the children
// need no list of their own.
static void cancel_children(struct group *g) {
    struct runtime *rt = g->parent->rt;
    for (struct list *n = rt->tasks.next; n != &rt->tasks; n = n->next) {
        struct task *t = list_entry(n, struct task, all);
        if (t->group == g) {
            task_cancel(t);
        }
    }
}

static bool cancel_group(struct task *parent, void *ctx) {
    struct group *g = ctx;
    (void)parent;
    if (g->is_decided) {
        return false; // it is unwinding already
    }
    g->is_decided = true;
    g->value_count = -1; // interrupted
    cancel_children(g);
    return false;
}

void group_run(struct task *parent, enum group_mode mode, int functions,
               int items, uint32_t total, uint32_t limit) {
    struct group *g = xcalloc(1, sizeof *g);
    lua_State *L = parent->rt->L;
    g->parent = parent;
    g->mode = mode;
    g->functions = functions;
    g->items = items;
    g->total = total;
    lua_createtable(L, mode == GROUP_ALL ? (int)total : 1, 0);
    g->results = luaL_ref(L, LUA_REGISTRYINDEX);
    parent->references++;
    g->wait =
        task_park(parent, mode == GROUP_ALL ? "all" : "race", cancel_group, g);
    while (g->started < total && g->started < limit) {
        start_child(g);
    }
}

static void wake_parent(struct group *g) {
    struct task *parent = g->parent;
    lua_State *L = parent->L;
    if (!task_waits(parent, g->wait)) {
        return; // it could not be suspended
    }
    parent->cancel = NULL;
    if (g->value_count < 0) {
        task_wake_interrupted(parent);
    } else {
        lua_rawgeti(L, LUA_REGISTRYINDEX, g->results);
        if (g->is_failed) {
            lua_rawgeti(L, -1, 1);
            lua_remove(L, -2);
            task_wake_error(parent, parent->wait);
        } else if (g->mode == GROUP_RACE) {
            int list = lua_gettop(L);
            lua_checkstack(L, g->value_count + 1);
            for (int i = 1; i <= g->value_count; i++) {
                lua_rawgeti(L, list, i);
            }
            lua_remove(L, list);
            task_wake(parent, parent->wait, g->value_count);
        } else {
            task_wake(parent, parent->wait, 1);
        }
    }
}

static void end_group(struct group *g) {
    wake_parent(g);
    lua_State *L = g->parent->rt->L;
    luaL_unref(L, LUA_REGISTRYINDEX, g->results);
    luaL_unref(L, LUA_REGISTRYINDEX, g->functions);
    luaL_unref(L, LUA_REGISTRYINDEX, g->items);
    task_release(g->parent);
    free(g);
}

// keep_outcome stores what the child contributes.
static void keep_outcome(struct group *g, struct task *child) {
    lua_State *L = child->rt->L;
    bool is_failure = child->state == TASK_FAILED;
    lua_rawgeti(L, LUA_REGISTRYINDEX, g->results);
    int n = task_push_outcome(child, L);
    if (is_failure) {
        failure_note(g->parent, child);
        lua_rawseti(L, -3, 1);
        lua_pop(L, 2);
        g->is_failed = true;
    } else if (g->mode == GROUP_ALL) {
        if (n > 0) {
            lua_settop(L, lua_gettop(L) - n + 1); // the first result
            lua_rawseti(L, -2, (int)child->group_index);
        }
        lua_pop(L, 1);
        return;
    } else {
        for (int i = n; i >= 1; i--) {
            lua_rawseti(L, -i - 1, i);
        }
        lua_pop(L, 1);
        g->value_count = n;
    }
    g->is_decided = true;
    cancel_children(g);
}

void group_child_over(struct task *child) {
    struct group *g = child->group;
    child->group = NULL;
    g->pending--;
    if (!g->is_decided) {
        keep_outcome(g, child);
    }
    if (!g->is_decided && g->started < g->total) {
        start_child(g);
    }
    if (g->pending == 0) {
        end_group(g);
    }
}
