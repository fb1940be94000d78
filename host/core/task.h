// task: a coroutine that the host owns. It is spawned, runs in slices, parks
// where it waits, and is woken through the run queue. This file's source has
// the only lua_resume of the house.
//
// A C function that waits:
//
//   static int l_wait(lua_State *L) {
//       struct task *t = task_current(L, rt);       // raises if it can't wait
//       if (!t) {
//           return task_yield(L);                   // cancelled, or out of
//           time
//       }
//       thing->wait = task_park(t, "thing", on_cancel, thing);
//       return task_yield(L);                       // the last statement
//   }
//   ...later: lua_pushstring(t->L, "value"); task_wake(t, thing->wait, 1);
//
// Its caller is a Lua shim: `local v, e = wait() if v == FAIL then error(e, 2)
// end return v`, since LuaJIT has no lua_yieldk.
#ifndef NEAP_CORE_TASK_H
#define NEAP_CORE_TASK_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "core/runq.h"
#include "core/timer.h"

struct runtime;
struct scope;
struct task;

// A coroutine that returned and can be used again.
struct coroutine {
    lua_State *L;
    int anchor; // registry reference
};

enum task_state {
    TASK_READY,   // in the run queue: new, or woken
    TASK_RUNNING, // the one that runs now
    TASK_WAITING, // parked, until its wait is answered
    TASK_DONE,    // returned; its results lie on L until it is freed
    TASK_FAILED,  // raised; the error and its traceback lie in the registry
};

// A task_cancel_fn takes a parked task off what it waits for. It returns
// false when the wait has to end by itself first (children that unwind): then
// it sees to it that task_wake_interrupted is called later.
typedef bool task_cancel_fn(struct task *t, void *ctx);

struct task {
    lua_State *L; // NULL once it returned nothing: L is in use again
    struct runtime *rt;
    struct task *next; // in the run queue
    struct list link;  // in the queue that it waits in
    struct list all;   // in the runtime's list of tasks, then of failures
    struct list joiners;
    task_cancel_fn *cancel;
    void *cancel_ctx;
    struct timer timer; // sleep
    struct scope *scopes;
    struct group *group; // all, map, race: who is told of the end
    uint32_t group_index;
    uint64_t id;         // 1 is the first that was spawned
    uint64_t request;    // number of the request that it serves, or 0
    uint32_t wait;       // generation of the current wait
    uint32_t wait_place; // for who waits in a queue by number
    int value_count;     // values on L to resume with
    int anchor;          // registry reference of L
    int context;         // registry reference of the task-local table, or 0
    int failure;         // registry reference of {error, trace, site}, or 0
    int early;           // registry reference of an answer that came before
                         // the task yielded, or 0
    int cause;           // the same of a task that it joined, or 0
    int shield;          // > 0: cancel and outer deadlines are held back
    int references;      // handle, run; freed at 0
    int spawn_line;
    const char *spawn_source; // lives as long as the function at L's bottom
    char *name;               // given by the user, or NULL
    char *site;               // where it was spawned, if that is wanted
    const char *waits_for;    // what task_park was told
    uint64_t since_ms;        // the loop's time when it was parked
    int client_fd;            // as struct monitor's
    uint16_t ignored;         // waits since it was cancelled
    uint8_t state;
    bool is_started;
    bool is_cancelled;   // sticky: each later wait raises
    bool is_raising;     // to be resumed with what interrupted it
    bool is_interrupted; // cancelled, or a scope of it has expired
    bool is_joined;      // somebody saw the outcome
    bool is_awaitable;   // spawned by a script, which could join it
    bool is_orphan;      // failed, and its handle is gone: to be logged
    void (*on_end)(struct task *t, void *arg); // C's own join
    void *on_end_arg;
};

// task_spawn takes a function and its arguments from the top of L and queues
// a task that calls it. The caller owns one reference (task_release).
// // [-(nargs + 1), +0]
struct task *task_spawn(struct runtime *rt, lua_State *L, int nargs);

// task_spawn_from is task_spawn for a coroutine `from` that does not run: it
// says where the task comes from.
struct task *task_spawn_from(struct runtime *rt, lua_State *L, int nargs,
                             lua_State *from);

// task_spawn_arrival is task_spawn for what comes from outside, a request: it
// begins behind what is ready then, so that under load what has begun is
// finished first, and not late because of what came after it.
struct task *task_spawn_arrival(struct runtime *rt, lua_State *L, int nargs);

// task_start runs a task just spawned at once, until its first wait. Only
// for loop callbacks: no other task may be running.
void task_start(struct task *t);

// task_release gives a reference back. A failure that nobody saw is logged.
void task_release(struct task *t);

// task_current returns the running task if it may wait here; else it raises.
// NULL if the task is cancelled or out of time: then it is parked already, to
// be woken with the error, and the caller returns task_yield.
struct task *task_current(lua_State *L, struct runtime *rt);

// task_park marks the task as waiting and returns the wait's generation. what
// it waits for is a literal, a word or two for those who look.
uint32_t task_park(struct task *t, const char *what, task_cancel_fn *cancel,
                   void *ctx);

// task_yield ends a C function that parked.
int task_yield(lua_State *L);

// task_waits says whether that wait is still open.
static inline bool task_waits(const struct task *t, uint32_t wait) {
    return t->state == TASK_WAITING && t->wait == wait;
}

// task_wake queues the task with the `count` values on top of its stack as
// the results of the wait. A stale generation is dropped, its values too.
void task_wake(struct task *t, uint32_t wait, int count);

// task_wake_error is task_wake with the error object on top of the stack.
void task_wake_error(struct task *t, uint32_t wait);

// task_wake_interrupted ends a wait with what interrupted the task.
void task_wake_interrupted(struct task *t);

// task_unpark takes back a park whose yield turned out to be impossible.
void task_unpark(struct task *t);

// task_cancel makes each wait of the task raise `cancelled` from now on.
void task_cancel(struct task *t);

// task_sleep parks the task for that long. In the background it does not keep
// the loop alive.
void task_sleep(struct task *t, double seconds, bool is_background);

// task_interrupt_check raises if the task is interrupted outside a shield.
void task_interrupt_check(lua_State *L, struct task *t);

// task_interrupt ends the current wait, if there is one that may be ended.
void task_interrupt(struct task *t);

// task_is_over says that the task has ended.
static inline bool task_is_over(const struct task *t) {
    return t->state >= TASK_DONE;
}

// task_was_cancelled says that a cancellation is what ended the task.
bool task_was_cancelled(struct task *t);

// task_push_outcome pushes a finished task's results, or FAIL and its error.
// Returns the number of values. // [-0, +n]
int task_push_outcome(struct task *t, lua_State *L);

// task_run_ready resumes each task that is ready once.
void task_run_ready(struct runtime *rt);

// task_begin_arrivals begins arrivals, a few at a time, each time with a turn
// for all that is ready by then.
void task_begin_arrivals(struct runtime *rt);

// task_may_begin says whether there are arrivals that may begin: they do for
// 5 ms, the first of them always, until the loop has polled again.
bool task_may_begin(struct runtime *rt);

// task_report_failures logs the failures that nobody can join any more; with
// `all`, also those whose handles are still about (the end of the process).
void task_report_failures(struct runtime *rt, bool all);

// task_spawn_site writes where the task was spawned, "file.lua:12".
void task_spawn_site(const struct task *t, char *out, size_t size);

// task_free_rest frees what is left of tasks after the Lua state was closed.
void task_free_rest(struct runtime *rt);

// FAIL and SUSPEND: the sentinels between C and the Lua shims.
extern const char task_fail_key, task_suspend_key;

#endif
