// runtime: one Lua state on one uv loop, with its tasks, timers and turns.
//
// A turn: the loop's callbacks queue wake-ups; then (before it polls again)
// what is ready runs, requests that have arrived begin, and what the turn
// deferred is done: group commits are built, buffers are written.
#ifndef NEAP_CORE_RUNTIME_H
#define NEAP_CORE_RUNTIME_H

#include <lua.h>
#include <uv.h>

#include "base/list.h"
#include "base/log.h"
#include "core/memory.h"
#include "core/monitor.h"
#include "core/sync.h"
#include "core/task.h"
#include "core/timer.h"

// A deferred call: done once at the end of the turn. Embedded in its owner.
struct defer {
    struct defer *next;
    void (*fn)(struct defer *d);
    bool is_queued;
    bool is_late; // others go first: answers leave when what is asked has left
};

struct deferred {
    struct defer *first, **last;
};

// Something to be closed when the runtime is: listeners, clients, servers.
// stop asks it to take no new work; close frees it.
struct resource {
    struct list link;
    void (*stop)(struct resource *r);
    void (*close)(struct resource *r);
};

struct runtime {
    uv_loop_t *loop;
    lua_State *L;
    struct log log;
    struct timers timers;
    struct monitor monitor;
    struct memory memory;
    struct profile *profile;   // the one that runs, or NULL
    struct unjoined *unjoined; // NULL: such tasks are not logged
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle; // active while tasks are ready, so that polls don't block
    struct task *current;
    struct runq ready, arrivals;
    uint64_t begin_until_ns; // for arrivals; 0: none has begun since the poll
    struct coroutine *free_coroutines;
    uint32_t free_count, free_cap;
    struct deferred deferred, deferred_late;
    struct list tasks;
    struct list failures; // tasks that failed and that nobody has joined
    struct defer report;  // logs those whose handles are gone
    struct list resources;
    struct waitq lingering; // tasks that wait until nothing else is left
    uint32_t live;          // tasks that have not ended, background ones aside
    uint64_t spawned, finished, failed;
    bool is_idle_active;
    bool is_stopping;
    bool is_turning;
    bool is_closing;     // no task runs any more
    uint32_t decoding;   // callbacks that build Lua values: a finalizer may run
                         // in them, and has to leave what they use alone
    int protect;         // registry reference: protect_call's function
    const char *calling; // the program's function that is called, or NULL
    int exit_status;
    struct timer grace;
    int stop_phase;
    char read_buffer[262144]; // for sockets whose callback consumes all of it
};

// runtime_begin_work is told that a slice begins, or that replies are decoded:
// garbage is collected if memory is short.
static inline void runtime_begin_work(struct runtime *rt) {
    struct memory *m = &rt->memory;
    if (m->used > m->limit || m->is_short) {
        memory_collect(rt);
    }
    m->at_begin = m->used;
}

// runtime_new creates a runtime on a loop that it does not own.
struct runtime *runtime_new(uv_loop_t *loop);

// runtime_run runs the loop until no task, server or timer is left. Returns
// the exit status: 1 when tasks were left that nobody could wake.
int runtime_run(struct runtime *rt);

// runtime_stop begins an orderly end: servers stop accepting and finish
// their requests, then tasks are cancelled, then the loop ends.
void runtime_stop(struct runtime *rt, int exit_status);

// runtime_step does what stands between two runs of the loop, for who runs it
// himself. Returns whether an orderly end has come to its end.
bool runtime_step(struct runtime *rt);

// runtime_close_begin closes everything that is left. When the loop has run
// until nothing is alive (runtime_close_wait does that), runtime_close_end
// frees the runtime.
void runtime_close_begin(struct runtime *rt);
void runtime_close_wait(struct runtime *rt);
void runtime_close_end(struct runtime *rt);

// runtime_of returns the runtime of a Lua state.
struct runtime *runtime_of(lua_State *L);

// runtime_defer calls d->fn once at the end of this turn.
void runtime_defer(struct runtime *rt, struct defer *d);
void runtime_undefer(struct runtime *rt, struct defer *d);

// runtime_add and _remove keep the list of what must be closed.
void runtime_add(struct runtime *rt, struct resource *r);
void runtime_remove(struct resource *r);

// runtime_wakeup makes the loop take a turn soon: a task became ready.
void runtime_wakeup(struct runtime *rt);

#endif
