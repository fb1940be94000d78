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

// The kinds of functions that a program gives.
enum call { CALL_DONE, CALL_POST, CALL_CANCEL, CALL_REPLY, call_kinds };

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
    bool is_closing;            // likewise
    uv_async_t async;           // wakes the loop for them
    struct list waits;          // open ones (wait.c), which hold the loop
    struct list ends;           // tasks whose end C wants to know
    int calls[call_kinds];   // registry references of instance_call's functions
    struct replies *replies; // of C's Redis commands; NULL: none was sent
    void (*on_closed)(void *arg);
    void *closed_arg;
};

// instance_of returns the instance of a Lua state.
neap *instance_of(lua_State *L);

// instance_fail sets neap_strerror's text. Returns -1.
int instance_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

// instance_enter is called by each function of the instance's thread, whose
// name is `what`: there is something to do for the loop. In builds with
// NEAP_CHECKS a call by another thread says so and aborts.
void instance_enter(neap *n, const char *what);

// instance_call runs fn, which calls a function of the program's of that kind,
// with a pointer as its first argument and `count` values from the top of the
// main state's stack behind it. A Lua error in there is logged. fn is the same
// in all calls of a kind. // [-count, +0]
void instance_call(neap *n, enum call kind, lua_CFunction fn, void *ud,
                   int count);

// post_open readies the queue of posts; post_close drops what is left in it.
void post_open(neap *n);
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

// nest_close ends that once the instance's loop is empty, then calls done.
void nest_close(neap *n, void (*done)(neap *n));

// nest_outer returns the borrowed loop.
uv_loop_t *nest_outer(const neap *n);

#endif
