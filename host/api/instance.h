// instance: what is behind a `neap`. For the files of host/api alone.
#ifndef NEAP_API_INSTANCE_H
#define NEAP_API_INSTANCE_H

#include <pthread.h>
#include <uv.h>

#include "base/list.h"
#include "core/runtime.h"
#include "neap.h"

struct post;
struct nest;
struct replies;

struct neap {
    uv_loop_t loop; // the runtime's; within a borrowed one it is nested
    struct runtime *rt;
    struct nest *nest; // NULL: the loop is run by neap_run
    pthread_t thread;
    void (*log)(void *arg, int level, const char *line, size_t len);
    void (*print)(void *arg, const char *text, size_t len);
    void *arg; // for both
    // posts
    pthread_mutex_t lock;
    struct post *first, **last; // guarded by lock
    bool is_closing;            // likewise, to be set
    uv_async_t async;           // wakes the loop for them
    struct list waits;          // open ones (wait.c), which hold the loop
    struct list ends;           // tasks whose end C wants to know
    struct replies *replies;    // of C's Redis commands; NULL: none was sent
    bool is_running;            // in neap_run
    void (*on_closed)(void *arg);
    void *closed_arg;
#ifdef NEAP_CHECKS
    bool is_closed;
    neap *next_closed;
#endif
};

// instance_of returns the instance of a Lua state.
neap *instance_of(lua_State *L);

// instance_fail sets neap_strerror's text. Returns -1.
int instance_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

// instance_check aborts, in builds with NEAP_CHECKS, with the name of the
// function that the program misuses and how, unless all is well.
#ifdef NEAP_CHECKS
void instance_check(bool is_well, const char *what, const char *text);
#else
#define instance_check(is_well, what, text) ((void)(what))
#endif

// instance_enter is called by each function of the instance's thread, whose
// name is `what`: there is something to do for the loop.
void instance_enter(neap *n, const char *what);

// instance_call runs fn(ud), which calls a function of the program's, under
// protection, with `count` values from the main state's stack on top of it. A
// Lua error in there is logged. // [-count, +0]
void instance_call(neap *n, const char *what, void (*fn)(void *ud), void *ud,
                   int count);

// instance_leave is told that a function of the program's has returned, and
// takes off what it left on the main state's stack above `top`.
void instance_leave(neap *n, const char *what, int top);

// post_open readies the queue of posts. post_refuse takes no more of them, and
// marks the instance as one that is being closed; post_close runs those that
// came before.
void post_open(neap *n);
void post_refuse(neap *n);
void post_close(neap *n);

// wait_close ends all waits of the program's functions.
void wait_close(neap *n);

// spawn_close tells those who wait for tasks that these will not end any more.
void spawn_close(neap *n);

// command_close frees what C's Redis commands used; none is pending any more.
void command_close(neap *n);

// nest_open makes a borrowed loop run the instance's own.
int nest_open(neap *n, uv_loop_t *outer);

// nest_wake makes the borrowed loop run the instance soon.
void nest_wake(neap *n);

// nest_close calls begin from the borrowed loop, outside of the instance's own,
// and done once that is empty.
void nest_close(neap *n, void (*begin)(neap *n), void (*done)(neap *n));

// nest_outer returns the borrowed loop.
uv_loop_t *nest_outer(const neap *n);

#endif
