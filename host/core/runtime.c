// runtime: one Lua state on one uv loop, with its tasks, timers and turns.
#include "core/runtime.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "core/profile.h"
#include "core/protect.h"
#include "core/unjoined.h"
#include "core/watchdog.h"

static const char runtime_key;
static const double grace_seconds = 5;

struct runtime *runtime_of(lua_State *L) {
    lua_pushlightuserdata(L, (void *)&runtime_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct runtime *rt = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return rt;
}

static void deferred_init(struct deferred *list) {
    *list = (struct deferred){NULL, &list->first};
}

static struct deferred *list_of(struct runtime *rt, const struct defer *d) {
    return d->is_late ? &rt->deferred_late : &rt->deferred;
}

// next_deferred returns what is to be done next, or NULL.
static struct defer *next_deferred(struct runtime *rt) {
    return rt->deferred.first ? rt->deferred.first : rt->deferred_late.first;
}

static void run_deferred(struct runtime *rt) {
    struct defer *d;
    while ((d = next_deferred(rt))) {
        runtime_undefer(rt, d);
        d->fn(d);
    }
}

static void set_idle(struct runtime *rt, bool on);

// turn runs what is ready, begins arrivals, and then does what was deferred.
// Chains of wake-ups are followed for a while before the loop polls again, so
// that tasks that hand values to each other don't pay a poll for each; not for
// long, as others wait for the poll.
static void turn(struct runtime *rt) {
    const int passes = 64;
    const uint64_t longest_ns = 2000000;
    if (rt->is_turning) {
        return;
    }
    rt->is_turning = true;
    bool is_more = true;
    uint64_t until = uv_hrtime() + longest_ns;
    for (int i = 0; is_more && i < passes && (i == 0 || uv_hrtime() < until);
         i++) {
        if (!rt->is_closing) {
            task_run_ready(rt);
            task_begin_arrivals(rt);
        }
        run_deferred(rt);
        is_more = (rt->ready.first && !rt->is_closing) || task_may_begin(rt);
    }
    bool is_waiting = rt->ready.first || rt->arrivals.first;
    set_idle(rt, (is_waiting && !rt->is_closing) || rt->timers.is_late);
    rt->is_turning = false;
}

static void on_prepare(uv_prepare_t *h) {
    struct runtime *rt = h->data;
    turn(rt);
    monitor_poll(&rt->monitor);
}

static void on_check(uv_check_t *h) {
    struct runtime *rt = h->data;
    rt->begin_until_ns = 0;
    timers_polled(&rt->timers);
    monitor_turn(&rt->monitor);
    turn(rt);
}

static void on_idle(uv_idle_t *h) {
    (void)h; // its being active is what counts
}

static void set_idle(struct runtime *rt, bool on) {
    if (on == rt->is_idle_active) {
        return;
    }
    rt->is_idle_active = on;
    if (on) {
        uv_idle_start(&rt->idle, on_idle);
    } else {
        uv_idle_stop(&rt->idle);
    }
}

void runtime_wakeup(struct runtime *rt) {
    set_idle(rt, true);
}

static void on_late(struct timers *ts) {
    runtime_wakeup(list_entry(ts, struct runtime, timers));
}

void runtime_defer(struct runtime *rt, struct defer *d) {
    if (d->is_queued) {
        return;
    }
    struct deferred *list = list_of(rt, d);
    d->is_queued = true;
    d->next = NULL;
    *list->last = d;
    list->last = &d->next;
    if (!rt->is_turning) {
        set_idle(rt, true);
    }
}

void runtime_undefer(struct runtime *rt, struct defer *d) {
    if (!d->is_queued) {
        return;
    }
    struct deferred *list = list_of(rt, d);
    struct defer **at = &list->first;
    while (*at != d) {
        at = &(*at)->next;
    }
    *at = d->next;
    if (!*at) {
        list->last = at;
    }
    d->is_queued = false;
}

void runtime_add(struct runtime *rt, struct resource *r) {
    list_append(&rt->resources, &r->link);
}

void runtime_remove(struct resource *r) {
    list_remove(&r->link);
}

static int on_panic(lua_State *L) {
    const char *text = lua_tostring(L, -1);
    struct runtime *rt = runtime_of(L);
    log_write(&rt->log, LOG_ERROR, "unprotected error: %s",
              text ? text : "(not a string)");
    abort();
}

static void on_report(struct defer *d) {
    struct runtime *rt =
        (struct runtime *)(void *)((char *)d -
                                   offsetof(struct runtime, report));
    task_report_failures(rt, false);
    unjoined_report(rt);
}

struct runtime *runtime_new(uv_loop_t *loop) {
    struct runtime *rt = xcalloc(1, sizeof *rt);
    rt->loop = loop;
    log_init(&rt->log);
    runq_init(&rt->ready);
    runq_init(&rt->arrivals);
    deferred_init(&rt->deferred);
    deferred_init(&rt->deferred_late);
    list_init(&rt->tasks);
    list_init(&rt->failures);
    rt->report.fn = on_report;
    list_init(&rt->resources);
    waitq_init(&rt->lingering, "uv.run");
    timers_init(&rt->timers, loop, on_late);
    monitor_init(&rt->monitor, loop);
    uv_prepare_init(loop, &rt->prepare);
    uv_check_init(loop, &rt->check);
    uv_idle_init(loop, &rt->idle);
    rt->prepare.data = rt->check.data = rt->idle.data = rt;
    uv_prepare_start(&rt->prepare, on_prepare);
    uv_check_start(&rt->check, on_check);
    uv_unref((uv_handle_t *)&rt->prepare);
    uv_unref((uv_handle_t *)&rt->check);

    rt->L = luaL_newstate();
    if (!rt->L) {
        abort();
    }
    lua_atpanic(rt->L, on_panic);
    lua_pushlightuserdata(rt->L, (void *)&runtime_key);
    lua_pushlightuserdata(rt->L, rt);
    lua_rawset(rt->L, LUA_REGISTRYINDEX);
    luaL_openlibs(rt->L);
    protect_open(rt);
    return rt;
}

// is_in_background: it sleeps, and nobody need wait for that.
static bool is_in_background(const struct task *t) {
    return timer_is_active(&t->timer) && t->timer.is_background;
}

static uint32_t count_stuck(struct runtime *rt) {
    uint32_t count = 0;
    for (struct list *n = rt->tasks.next; n != &rt->tasks; n = n->next) {
        count += !is_in_background(list_entry(n, struct task, all));
    }
    return count;
}

static void report_stuck(struct runtime *rt, uint32_t count) {
    log_write(&rt->log, LOG_ERROR,
              "%u task(s) wait for something that nobody will do:", count);
    for (struct list *n = rt->tasks.next; n != &rt->tasks; n = n->next) {
        struct task *t = list_entry(n, struct task, all);
        if (is_in_background(t)) {
            continue;
        }
        char site[128];
        task_spawn_site(t, site, sizeof site);
        luaL_traceback(rt->L, t->L, NULL, 0);
        log_write(&rt->log, LOG_ERROR, "spawned at %s\n%s", site,
                  lua_tostring(rt->L, -1));
        lua_pop(rt->L, 1);
    }
}

static bool end_lingering(struct runtime *rt) {
    bool is_any = false;
    while (waitq_wake(&rt->lingering, rt->L, 0)) {
        is_any = true;
    }
    return is_any;
}

static void cancel_tasks(struct runtime *rt) {
    for (struct list *n = rt->tasks.next; n != &rt->tasks; n = n->next) {
        task_cancel(list_entry(n, struct task, all));
    }
}

// The end comes in phases: 1, servers finish what they have (they remove
// themselves when they are done); 2, tasks are cancelled and unwind; 3, the
// loop is left. A phase that takes too long is cut short.
static void next_phase(struct runtime *rt) {
    rt->stop_phase++;
    timer_stop(&rt->timers, &rt->grace);
    if (rt->stop_phase == 2) {
        cancel_tasks(rt);
    }
    if (rt->stop_phase == 3) {
        uv_stop(rt->loop);
        return;
    }
    timer_start(&rt->timers, &rt->grace, timer_after(grace_seconds));
}

static void on_grace(struct timer *t) {
    next_phase((struct runtime *)((char *)t - offsetof(struct runtime, grace)));
}

void runtime_stop(struct runtime *rt, int exit_status) {
    if (rt->is_stopping) {
        return;
    }
    rt->is_stopping = true;
    rt->exit_status = exit_status;
    timer_init(&rt->grace, on_grace);
    struct list *next;
    for (struct list *n = rt->resources.next; n != &rt->resources; n = next) {
        next = n->next;
        struct resource *r = list_entry(n, struct resource, link);
        if (r->stop) {
            r->stop(r);
        }
    }
    next_phase(rt);
}

static bool has_server(struct runtime *rt) {
    for (struct list *n = rt->resources.next; n != &rt->resources;
         n = n->next) {
        if (list_entry(n, struct resource, link)->stop) {
            return true;
        }
    }
    return false;
}

bool runtime_step(struct runtime *rt) {
    turn(rt);
    if (rt->is_stopping) {
        if (rt->stop_phase == 1 && !has_server(rt)) {
            next_phase(rt);
        }
        if (rt->stop_phase == 2 && rt->live == 0) {
            next_phase(rt);
        }
    }
    return rt->stop_phase == 3;
}

int runtime_run(struct runtime *rt) {
    for (;;) {
        if (runtime_step(rt)) {
            return rt->exit_status;
        }
        if (!rt->is_stopping && !uv_loop_alive(rt->loop)) {
            if (rt->live == 0) {
                return rt->exit_status;
            }
            uint32_t stuck = count_stuck(rt);
            if (!end_lingering(rt) && stuck) {
                report_stuck(rt, stuck);
                runtime_stop(rt, 1);
            } else if (!stuck) {
                runtime_stop(rt, rt->exit_status);
            }
        }
        uv_run(rt->loop, UV_RUN_ONCE);
    }
}

static void on_walk(uv_handle_t *h, void *arg) {
    struct runtime *rt = arg;
    bool is_own =
        h == (uv_handle_t *)&rt->prepare || h == (uv_handle_t *)&rt->check ||
        h == (uv_handle_t *)&rt->idle || h == (uv_handle_t *)&rt->timers.uv;
    if (!is_own && !uv_is_closing(h)) {
        uv_close(h, NULL);
    }
}

static void stop_watching(struct runtime *rt) {
    if (rt->profile) {
        struct buf unread = {0};
        profile_stop(rt->profile, &unread);
        buf_clear(&unread);
    }
    watchdog_stop(rt);
}

void runtime_close_begin(struct runtime *rt) {
    rt->is_closing = true;
    stop_watching(rt);
    while (!list_is_empty(&rt->resources)) {
        struct resource *r =
            list_entry(rt->resources.next, struct resource, link);
        runtime_remove(r);
        r->close(r);
    }
    // luv's handles have to be closed while there is a Lua state
    uv_walk(rt->loop, on_walk, rt);
    // neither sleeping nor ready tasks hold this up; a pending uv_stop ends
    // the first run before anything is closed
    uv_unref((uv_handle_t *)&rt->timers.uv);
    uv_unref((uv_handle_t *)&rt->idle);
}

void runtime_close_wait(struct runtime *rt) {
    while (uv_run(rt->loop, UV_RUN_DEFAULT) != 0) {
    }
}

void runtime_close_end(struct runtime *rt) {
    lua_gc(rt->L, LUA_GCCOLLECT, 0);
    task_report_failures(rt, true);
    memory_lift(&rt->memory, rt->L);
    lua_close(rt->L);
    timers_close(&rt->timers);
    task_free_rest(rt);
    uv_close((uv_handle_t *)&rt->prepare, NULL);
    uv_close((uv_handle_t *)&rt->check, NULL);
    uv_close((uv_handle_t *)&rt->idle, NULL);
    uv_run(rt->loop, UV_RUN_DEFAULT);
    unjoined_report(rt);
    unjoined_set(rt, false);
    free(rt->free_coroutines);
    free(rt);
}
