// task: a coroutine that the host owns.
#include "core/task.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "core/failure.h"
#include "core/runtime.h"
#include "core/scope.h"
#include "core/sync.h"
#include "core/unjoined.h"
#include "lua/lua_error.h"

const char task_fail_key, task_suspend_key;

enum {
    pool_max = 4096,
    begun_most = 64, // tasks that arrivals make ready before these have a turn
    ignored_max = 1000, // waits of a cancelled task, which each raise; then it
                        // is not resumed any more
};

static const uint64_t begin_ns = 5000000; // for which arrivals begin

static struct task *task_of(struct timer *t) {
    return (struct task *)(void *)((char *)t - offsetof(struct task, timer));
}

static void push_fail(struct task *t) {
    lua_pushlightuserdata(t->L, (void *)&task_fail_key);
}

static void enqueue(struct runq *q, struct task *t) {
    t->state = TASK_READY;
    runq_add(q, t);
    if (!t->rt->is_turning) {
        runtime_wakeup(t->rt);
    }
}

static void unref(struct task *t, int *reference) {
    if (*reference) {
        luaL_unref(t->rt->L, LUA_REGISTRYINDEX, *reference);
        *reference = 0;
    }
}

// -- waiting

static struct scope *expired_scope(struct task *t) {
    for (struct scope *s = t->scopes; s; s = s->outer) {
        if (s->is_expired && s->shield >= t->shield) {
            return s;
        }
    }
    return NULL;
}

static bool is_interrupted_here(struct task *t) {
    return (t->is_cancelled && t->shield == 0) || expired_scope(t) != NULL;
}

// push_interruption pushes onto L the error that ends t's waits, if one does.
static bool push_interruption(struct task *t, lua_State *L) {
    if (t->is_cancelled && t->shield == 0) {
        lua_push_error(L, "cancelled", "the task was cancelled");
        return true;
    }
    struct scope *s = expired_scope(t);
    if (s) {
        s->is_raised = true;
        if (s->seconds < 0) {
            lua_push_error(L, "cancelled", "a task of the scope failed");
        } else {
            lua_push_error(L, "timeout", "not done within %g s", s->seconds);
        }
        return true;
    }
    return false;
}

void task_interrupt_check(lua_State *L, struct task *t) {
    if (t->is_interrupted && push_interruption(t, L)) {
        lua_error(L);
    }
}

struct task *task_current(lua_State *L, struct runtime *rt) {
    struct task *t = rt->current;
    if (!t) {
        lua_fail(L, "task.cannot_wait", "cannot wait outside a task");
    }
    if (!lua_isyieldable(L)) {
        lua_fail(L, "task.cannot_wait",
                 "cannot wait here: LuaJIT cannot suspend a call made by C "
                 "(table.sort, string.gsub, string.format with __tostring, "
                 "__gc, load with a function); wait before it and pass the "
                 "values in");
    }
    if (t->is_interrupted && is_interrupted_here(t)) {
        // the error comes by way of the run queue: a task that catches it and
        // waits again and again does not keep the loop from turning
        task_park(t, "cancellation", NULL, NULL);
        t->is_raising = true;
        t->value_count = 0;
        enqueue(&t->rt->ready, t);
        return NULL;
    }
    return t;
}

uint32_t task_park(struct task *t, const char *what, task_cancel_fn *cancel,
                   void *ctx) {
    t->state = TASK_WAITING;
    t->waits_for = what;
    t->since_ms = uv_now(t->rt->loop);
    t->cancel = cancel;
    t->cancel_ctx = ctx;
    return ++t->wait;
}

int task_yield(lua_State *L) {
    lua_pushlightuserdata(L, (void *)&task_suspend_key);
    return lua_yield(L, 1);
}

// keep_early keeps the answer of a wait that has not yielded yet: what lies on
// the stack then is gone. // [-count, +0]
static void keep_early(struct task *t, int count) {
    lua_createtable(t->L, count, 0);
    lua_insert(t->L, -count - 1);
    for (int i = count; i >= 1; i--) {
        lua_rawseti(t->L, -i - 1, i);
    }
    t->early = luaL_ref(t->L, LUA_REGISTRYINDEX);
}

// push_early puts it back. // [-0, +count]
static void push_early(struct task *t) {
    lua_rawgeti(t->L, LUA_REGISTRYINDEX, t->early);
    for (int i = 1; i <= t->value_count; i++) {
        lua_rawgeti(t->L, 1, i);
    }
    lua_remove(t->L, 1);
    luaL_unref(t->L, LUA_REGISTRYINDEX, t->early);
    t->early = 0;
}

void task_wake(struct task *t, uint32_t wait, int count) {
    if (!task_waits(t, wait)) {
        lua_pop(t->L, count);
        return;
    }
    if (count && t->rt->current == t) {
        keep_early(t, count);
    }
    t->value_count = count;
    t->cancel = NULL;
    enqueue(&t->rt->ready, t);
}

void task_wake_error(struct task *t, uint32_t wait) {
    push_fail(t);
    lua_insert(t->L, -2);
    task_wake(t, wait, 2);
}

void task_wake_interrupted(struct task *t) {
    push_fail(t);
    if (!push_interruption(t, t->L)) {
        lua_push_error(t->L, "cancelled", "the wait was ended");
    }
    task_wake(t, t->wait, 2);
}

void task_interrupt(struct task *t) {
    t->is_interrupted = true;
    if (t->state != TASK_WAITING || !is_interrupted_here(t)) {
        return;
    }
    if (t->cancel && !t->cancel(t, t->cancel_ctx)) {
        return;
    }
    task_wake_interrupted(t);
}

void task_unpark(struct task *t) {
    if (t->state == TASK_WAITING && t->cancel) {
        t->cancel(t, t->cancel_ctx);
    } else if (t->state == TASK_READY) {
        runq_remove(&t->rt->ready, t); // woken before it yielded
    }
    t->cancel = NULL;
    t->is_raising = false;
    unref(t, &t->early);
    t->wait++;
    t->state = TASK_RUNNING;
}

void task_cancel(struct task *t) {
    if (!task_is_over(t) && !t->is_cancelled) {
        t->is_cancelled = true;
        task_interrupt(t);
    }
}

static void on_sleep_due(struct timer *timer) {
    struct task *t = task_of(timer);
    task_wake(t, t->wait, 0);
}

static bool cancel_sleep(struct task *t, void *ctx) {
    (void)ctx;
    timer_stop(&t->rt->timers, &t->timer);
    return true;
}

void task_sleep(struct task *t, double seconds, bool is_background) {
    task_park(t, "sleep", cancel_sleep, NULL);
    t->timer.is_background = is_background;
    if (seconds > 0) {
        timer_start(&t->rt->timers, &t->timer, timer_after(seconds));
    } else {
        task_wake(t, t->wait, 0);
    }
}

// -- life

static struct task *new_task(struct runtime *rt) {
    struct task *t = xcalloc(1, sizeof *t);
    t->rt = rt;
    if (rt->free_count) {
        struct coroutine c = rt->free_coroutines[--rt->free_count];
        t->L = c.L;
        t->anchor = c.anchor;
    } else {
        t->L = lua_newthread(rt->L);
        t->anchor = luaL_ref(rt->L, LUA_REGISTRYINDEX);
    }
    timer_init(&t->timer, on_sleep_due);
    list_init(&t->link);
    list_init(&t->all);
    list_init(&t->joiners);
    return t;
}

// give_coroutine keeps L for the next task if it returned, else drops it.
static void give_coroutine(struct task *t) {
    struct runtime *rt = t->rt;
    if (t->state != TASK_DONE || rt->free_count == pool_max) {
        unref(t, &t->anchor);
    } else {
        if (rt->free_count == rt->free_cap) {
            rt->free_cap = rt->free_cap ? rt->free_cap * 2 : 64;
            rt->free_coroutines =
                xrealloc(rt->free_coroutines,
                         rt->free_cap * sizeof rt->free_coroutines[0]);
        }
        lua_settop(t->L, 0);
        rt->free_coroutines[rt->free_count++] =
            (struct coroutine){t->L, t->anchor};
    }
    t->L = NULL;
}

static void free_task(struct task *t) {
    unref(t, &t->early);
    free(t->name);
    free(t->site);
    unref(t, &t->failure);
    if (t->L) {
        give_coroutine(t);
    }
    free(t);
}

// push_spawner pushes the function that spawns t, the innermost that is not the
// host's own if there is one, and keeps its line; nil if there is none.
// // [-0, +1]
static void push_spawner(lua_State *L, struct task *t) {
    lua_Debug ar;
    bool is_found = false;
    t->spawn_source = "=host";
    lua_pushnil(L);
    for (int level = 1; !is_found && lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Slf", &ar);
        is_found = *ar.what != 'C' && strncmp(ar.source, "=neap", 5) != 0;
        if (is_found || level == 1) {
            t->spawn_source = ar.source;
            t->spawn_line = ar.currentline;
            lua_replace(L, -2);
        } else {
            lua_pop(L, 1);
        }
    }
}

static struct task *spawn(struct runtime *rt, lua_State *L, int nargs,
                          lua_State *from, struct runq *queue) {
    struct task *t = new_task(rt);
    struct task *parent = rt->current;
    t->value_count = nargs;
    t->references = 2;
    // the spawner's function lies below: it says where the task comes from
    push_spawner(from, t);
    if (from != L) {
        lua_xmove(from, L, 1);
    }
    lua_insert(L, -nargs - 2);
    lua_checkstack(t->L, nargs + 2);
    lua_xmove(L, t->L, nargs + 2);
    t->request = parent ? parent->request : 0;
    t->client_fd = parent ? -abs(parent->client_fd) : 0;
    if (parent && parent->context) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, parent->context);
        t->context = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    list_append(&rt->tasks, &t->all);
    rt->live++;
    t->id = ++rt->spawned;
    enqueue(queue, t);
    return t;
}

struct task *task_spawn(struct runtime *rt, lua_State *L, int nargs) {
    return spawn(rt, L, nargs, L, &rt->ready);
}

struct task *task_spawn_from(struct runtime *rt, lua_State *L, int nargs,
                             lua_State *from) {
    return spawn(rt, L, nargs, from, &rt->ready);
}

struct task *task_spawn_arrival(struct runtime *rt, lua_State *L, int nargs) {
    return spawn(rt, L, nargs, L, &rt->arrivals);
}

void task_spawn_site(const struct task *t, char *out, size_t size) {
    const char *s = t->spawn_source;
    if (t->site) {
        snprintf(out, size, "%s", t->site);
        return;
    }
    if (strcmp(s, "=host") == 0) {
        snprintf(out, size, "the host");
        return;
    }
    bool is_name = s[0] == '@' || s[0] == '=';
    snprintf(out, size, "%s:%d", is_name ? s + 1 : "(string)", t->spawn_line);
}

int task_push_outcome(struct task *t, lua_State *L) {
    t->is_joined = true;
    if (t->state == TASK_FAILED) {
        list_remove(&t->all);
        lua_pushlightuserdata(L, (void *)&task_fail_key);
        lua_rawgeti(L, LUA_REGISTRYINDEX, t->failure);
        lua_rawgeti(L, -1, 1);
        lua_remove(L, -2);
        return 2;
    }
    if (!t->L) {
        return 0;
    }
    int n = lua_gettop(t->L) - 1; // above the spawner's function
    if (!lua_checkstack(L, n + 2)) {
        lua_pushlightuserdata(L, (void *)&task_fail_key);
        lua_push_error(L, "task.results", "too many results: %d", n);
        return 2;
    }
    for (int i = 0; i < n; i++) {
        lua_pushvalue(t->L, i + 2);
    }
    lua_xmove(t->L, L, n);
    return n;
}

static void wake_joiners(struct task *t) {
    while (!list_is_empty(&t->joiners)) {
        struct task *j = list_entry(t->joiners.next, struct task, link);
        list_remove(&j->link);
        if (t->state == TASK_FAILED) {
            failure_note(j, t);
        }
        int n = task_push_outcome(t, j->L);
        task_wake(j, j->wait, n);
    }
}

void task_report_failures(struct runtime *rt, bool all) {
    struct list *next;
    for (struct list *n = rt->failures.next; n != &rt->failures; n = next) {
        next = n->next;
        struct task *t = list_entry(n, struct task, all);
        if (!t->is_joined && (all || t->is_orphan)) {
            failure_log(t);
            t->is_joined = true;
        }
        if (t->is_orphan) {
            list_remove(&t->all);
            free_task(t);
        }
    }
}

void task_release(struct task *t) {
    if (--t->references > 0) {
        return;
    }
    if (list_is_empty(&t->all)) {
        unjoined_note(t);
        free_task(t);
    } else { // a collector may be running: the log waits for the turn's end
        t->is_orphan = true;
        runtime_defer(t->rt, &t->rt->report);
    }
}

void task_free_rest(struct runtime *rt) {
    struct list *lists[] = {&rt->tasks, &rt->failures};
    for (int i = 0; i < 2; i++) {
        while (!list_is_empty(lists[i])) {
            struct task *t = list_entry(lists[i]->next, struct task, all);
            list_remove(&t->all);
            if (t->group && --t->group->pending == 0) {
                free(t->group);
            }
            free(t->name);
            free(t->site);
            free(t);
        }
    }
}

bool task_was_cancelled(struct task *t) {
    lua_State *L = t->rt->L;
    bool is = false;
    if (t->state != TASK_FAILED) {
        return false;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->failure);
    lua_rawgeti(L, -1, 1);
    if (t->is_cancelled && lua_istable(L, -1)) {
        lua_getfield(L, -1, "code");
        const char *code = lua_tostring(L, -1);
        is = code && strcmp(code, "cancelled") == 0;
        lua_pop(L, 1);
    }
    lua_pop(L, 2);
    return is;
}

static void finish(struct task *t, int status) {
    struct runtime *rt = t->rt;
    if (status == 0) {
        t->state = TASK_DONE;
        rt->finished++;
    } else {
        t->state = TASK_FAILED;
        rt->failed++;
        failure_keep(t);
    }
    rt->live--;
    list_remove(&t->all);
    while (t->scopes) {
        scope_close(t->scopes);
    }
    unref(t, &t->context);
    unref(t, &t->cause);
    unjoined_end(t);
    if (!list_is_empty(&t->joiners)) {
        wake_joiners(t);
    }
    if (t->group) {
        group_child_over(t);
    }
    if (status == 0 && lua_gettop(t->L) == 1) {
        give_coroutine(t);
    }
    if (t->on_end) {
        t->on_end(t, t->on_end_arg);
    }
    if (t->state == TASK_FAILED && !t->is_joined && !task_was_cancelled(t)) {
        list_append(&rt->failures, &t->all);
    }
    task_release(t);
}

// resume is the one place that resumes tasks.
static void resume(struct task *t) {
    struct runtime *rt = t->rt;
    struct task *outer = rt->current;
    if (!t->is_started && t->is_cancelled) {
        lua_settop(t->L, 1);
        lua_push_error(t->L, "cancelled", "the task was cancelled");
        finish(t, LUA_ERRRUN);
        return;
    }
    if (t->is_raising && t->is_cancelled && ++t->ignored == ignored_max) {
        lua_settop(t->L, 0);
        lua_push_error(t->L, "cancelled", "the task caught that and went on");
        finish(t, LUA_ERRRUN);
        return;
    }
    if (t->is_raising) {
        t->is_raising = false;
        push_fail(t);
        if (!push_interruption(t, t->L)) {
            lua_push_error(t->L, "cancelled", "the wait was ended");
        }
        t->value_count = 2;
    }
    t->is_started = true;
    t->state = TASK_RUNNING;
    rt->current = t;
    runtime_begin_work(rt);
    monitor_begin(&rt->monitor, t->client_fd);
    int status = lua_resume(t->L, t->value_count);
    monitor_end(&rt->monitor);
    rt->current = outer;
    if (status != LUA_YIELD) {
        finish(t, status);
        return;
    }
    lua_settop(t->L, 0);
    if (t->state == TASK_READY) { // it was answered before it yielded
        if (t->early) {
            push_early(t);
        }
        return;
    }
    if (t->state != TASK_WAITING) {
        lua_push_error(t->L, "task.cannot_wait",
                       "a C function yielded without waiting for anything");
        finish(t, LUA_ERRRUN);
    }
}

void task_start(struct task *t) {
    struct runtime *rt = t->rt;
    if (rt->current || rt->ready.first != t || t->next) {
        return; // it stands in the queue and will be run in its turn
    }
    resume(runq_take_all(&rt->ready));
}

void task_run_ready(struct runtime *rt) {
    struct task *t = runq_take_all(&rt->ready);
    while (t && !rt->is_closing) {
        struct task *next = t->next;
        resume(t);
        t = next;
    }
}

bool task_may_begin(struct runtime *rt) {
    if (!rt->arrivals.first || rt->is_closing) {
        return false;
    }
    uint64_t now = uv_hrtime();
    if (!rt->begin_until_ns) {
        rt->begin_until_ns = now + begin_ns;
    }
    return now < rt->begin_until_ns;
}

// begin_some begins arrivals until together they have made some tasks ready.
static void begin_some(struct runtime *rt) {
    uint32_t most = rt->ready.count + begun_most;
    do {
        resume(runq_take(&rt->arrivals));
    } while (rt->ready.count < most && task_may_begin(rt));
}

void task_begin_arrivals(struct runtime *rt) {
    while (task_may_begin(rt)) {
        begin_some(rt);
        task_run_ready(rt);
    }
}
